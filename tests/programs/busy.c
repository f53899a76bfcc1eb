// Uses the files /many/0 ... /many/FILES-1 in ROUNDS rounds by PROCESSES processes at once, process P those whose number
// is P modulo PROCESSES: in one round it opens them all, in the next it only looks them up. Words: FILES ROUNDS PROCESSES
// END, which is how the first of the processes ends, all others being done or not:
//   exit_group, exit   by that system call, directly after its last use
//   kill               by SIGKILL, directly after its last use
//   wait               when the others have ended
//   stay               says so when the others have ended, and ends at SIGTERM
//   join               when the others have ended, and those of who stays
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void end(int signal) { _exit(0); }

int main(int count, char **words) {
    int files = atoi(words[1]), rounds = atoi(words[2]), processes = atoi(words[3]), number;
    const char *how = words[4];
    if (!strcmp(how, "stay")) signal(SIGTERM, end);
    for (number = processes - 1; number > 0; number--)
        if (fork() == 0) break;
    for (int round = 0; round < rounds; round++)
        for (int i = number; i < files; i += processes) {
            char name[64];
            struct stat s;
            snprintf(name, sizeof name, "/many/%d", i);
            // Both ways to say it: the call of each architecture, and the one that old programs use.
            if ((round + number) % 2 == 0) close(open(name, O_RDONLY));
            else syscall(SYS_stat, name, &s);
        }
    if (!strcmp(how, "exit")) syscall(SYS_exit, 0);
    if (number > 0 || !strcmp(how, "exit_group")) syscall(SYS_exit_group, 0);
    if (!strcmp(how, "kill")) kill(getpid(), SIGKILL);
    while (wait(NULL) > 0) continue;
    if (!strcmp(how, "join"))
        while (access("/tmp/done", F_OK) != 0) usleep(10000);
    if (!strcmp(how, "stay")) {
        close(open("/tmp/done", O_CREAT | O_WRONLY, 0600));
        printf("done\n");
        fflush(stdout);
        while (1) pause();
    }
    return 0;
}
