// Opens /last, then ends in the way that its word names.
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void *last_thread(void *first) {
    pthread_join(*(pthread_t *)first, NULL);
    open("/last", O_RDONLY);
    syscall(SYS_exit, 5);
    return NULL;
}

int main(int count, char **words) {
    const char *how = words[1];
    if (!strcmp(how, "thread")) {
        pthread_t self = pthread_self(), thread;
        pthread_create(&thread, NULL, last_thread, &self);
        syscall(SYS_exit, 1);
    }
    if (!strcmp(how, "child")) {
        if (fork() == 0) {
            open("/last", O_RDONLY);
            abort();
        }
        wait(NULL);
        return 6;
    }
    open("/last", O_RDONLY);
    if (!strcmp(how, "exit")) syscall(SYS_exit, 3);
    if (!strcmp(how, "exit_group")) syscall(SYS_exit_group, 4);
    if (!strcmp(how, "abort")) {
        // A first process has no default action for SIGABRT; the C library then falls back to a forbidden instruction.
        abort();
    }
    if (!strcmp(how, "segv")) *(volatile int *)8 = 1;
    return 99;
}
