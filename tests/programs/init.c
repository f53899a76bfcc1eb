// An init as s6 and others are: it is process 1 or nothing, waits for its signals, reaps whoever ends, and at its stop signal
// ends everybody and reaps the rest. It says what became of all.
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void slow_end(int signal_number) {
    // Longer than a sensor would notice by chance.
    usleep(1500000);
    _exit(3);
}

int main(void) {
    setvbuf(stdout, NULL, _IONBF, 0);
    if (getpid() != 1) {
        printf("can only run as process 1\n");
        return 100;
    }
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGCHLD);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGUSR2);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    for (int service = 0; service < 2; service++)
        if (fork() == 0) {
            signal(SIGTERM, service ? SIG_DFL : slow_end);
            sigprocmask(SIG_UNBLOCK, &signals, NULL);
            for (;;) pause();
        }
    // An orphan: its parent ends first.
    if (fork() == 0) {
        pid_t parent = getpid();
        if (fork() == 0) {
            while (getppid() == parent) usleep(1000);
            _exit(getppid() == 1 ? 5 : 6);
        }
        _exit(4);
    }
    int reaped[256] = {0}, status, stopping = 0, ready = 0;
    for (;;) {
        int got = sigwaitinfo(&signals, NULL);
        if (got != SIGCHLD && !stopping) {
            printf("told to stop by signal %d\n", got);
            stopping = 1;
            kill(-1, SIGTERM);
        }
        while (waitpid(-1, &status, WNOHANG) > 0) reaped[WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status)]++;
        if (reaped[4] && reaped[5] && !ready++) printf("ready\n");
        // Only a look: who ends right now is counted in the next turn.
        siginfo_t info;
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD) break;
    }
    for (int code = 0; code < 256; code++)
        if (reaped[code]) printf("reaped with %d: %d\n", code, reaped[code]);
    return 8;
}
