// Four processes use the files /many/0 ... /many/N-1, N being the first word: process P those whose number is P modulo 4.
// Even ones are opened, odd ones only looked up. The last process then ends the way that the second word says.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int count, char **words) {
    int files = atoi(words[1]), number;
    for (number = 0; number < 3; number++)
        if (fork() == 0) break;
    for (int i = number; i < files; i += 4) {
        char name[64];
        struct stat s;
        snprintf(name, sizeof name, "/many/%d", i);
        // Both ways to say it: the call of each architecture, and the one that old programs use.
        if (i / 4 % 2 == 0) close(open(name, O_RDONLY));
        else syscall(SYS_stat, name, &s);
    }
    if (number == 3 && !strcmp(words[2], "wait")) while (wait(NULL) > 0) continue;
    syscall(strcmp(words[2], "exit") ? SYS_exit_group : SYS_exit, 0);
}
