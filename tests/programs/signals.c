// PID 1 with children, of which it says what becomes of them: how kill(-1) and waitpid(-1) go.
// Words: pairs of the caller's user id and the signal, one after the other.
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int ready[2], end[2];

// A child that waits for its end; a user of its own, and with `away` a session of its own.
static pid_t victim(uid_t user, int away) {
    pid_t child = fork();
    if (child == 0) {
        if (away) setsid();
        setresgid(user, user, user);
        setresuid(user, user, user);
        close(end[1]);
        write(ready[1], "x", 1);
        char byte;
        while (read(end[0], &byte, 1) != 0) continue;
        _exit(0);
    }
    char byte;
    read(ready[0], &byte, 1);
    return child;
}

static void try(int user, int signal_number) {
    pipe(ready);
    pipe(end);
    printf("user %d, signal %d\n", user, signal_number);
    errno = 0;
    printf("alone: %d", kill(-1, signal_number));
    printf(" error %d\n", errno);
    errno = 0;
    printf("nobody to reap: %d", waitpid(-1, NULL, WNOHANG));
    printf(" error %d\n", errno);
    pid_t children[] = {victim(0, 0), victim(0, 1), victim(1000, 0), victim(1000, 1), victim(2000, 0)};
    // A signal that is ignored shows that the call hits everybody but who makes it.
    pid_t caller = fork();
    if (caller == 0) {
        setresgid(user, user, user);
        setresuid(user, user, user);
        errno = 0;
        int result = kill(-1, signal_number);
        printf("caller: %d error %d\n", result, errno);
        _exit(9);
    }
    int status, reaped = 0;
    waitpid(caller, &status, 0);
    printf("caller's end: %x\n", status);
    // Who was hit is dead soon; the others end when their pipe does.
    usleep(500000);
    for (int i = 0; i < 5; i++) {
        siginfo_t info = {0};
        waitid(P_PID, children[i], &info, WEXITED | WNOHANG | WNOWAIT);
        printf("child %d: %s\n", i, info.si_pid ? "hit" : "spared");
    }
    close(end[1]);
    while (waitpid(-1, &status, 0) > 0) reaped++;
    printf("reaped %d, then error %d\n", reaped, errno);
}

int main(int count, char **words) {
    setvbuf(stdout, NULL, _IONBF, 0);
    for (int i = 1; i + 1 < count; i += 2) try(atoi(words[i]), atoi(words[i + 1]));
    return 0;
}
