// Opens /before, waits until /tmp/go is there, then opens as many files of /many as its word says.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int count, char **words) {
    int opened = 0;
    close(open("/before", O_RDONLY));
    printf("ready\n");
    fflush(stdout);
    while (access("/tmp/go", F_OK) != 0) usleep(1000);
    for (int i = 0; i < atoi(words[1]); i++) {
        char name[64];
        snprintf(name, sizeof name, "/many/%d", i);
        int file = open(name, O_RDONLY);
        opened += file >= 0;
        close(file);
    }
    printf("opened %d\n", opened);
    return opened == atoi(words[1]) ? 0 : 1;
}
