// Ends every process but itself, one after the other, as killall5 does; then opens /late.
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void) {
    int ended = 0;
    for (int i = 0; i < 2; i++)
        if (fork() == 0) for (;;) pause();
    DIR *processes = opendir("/proc");
    for (struct dirent *entry; (entry = readdir(processes));) {
        int pid = atoi(entry->d_name);
        if (pid > 1 && kill(pid, SIGKILL) == 0) ended++;
    }
    while (wait(NULL) > 0) continue;
    printf("ended %d, then read /late: %d\n", ended, open("/late", O_RDONLY) < 0);
    return 0;
}
