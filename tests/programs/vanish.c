// Reads files that are gone a moment later, and gives the kernel pointers to nothing.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(void) {
    char byte, *end;
    int file = open("/data/deleted", O_RDONLY);
    unlink("/data/deleted");
    read(file, &byte, 1);
    file = open("/data/renamed", O_RDONLY);
    rename("/data/renamed", "/data/new-name");
    read(file, &byte, 1);
    // Another file under the name of one that was read, made in place and moved there.
    file = open("/data/replaced", O_RDONLY);
    unlink("/data/replaced");
    write(open("/data/replaced", O_CREAT | O_WRONLY, 0644), "other", 5);
    read(file, &byte, 1);
    file = open("/data/replaced-by-renaming", O_RDONLY);
    write(open("/data/new", O_CREAT | O_WRONLY, 0644), "other", 5);
    rename("/data/new", "/data/replaced-by-renaming");
    read(file, &byte, 1);
    printf("missing %d", open("/data/missing", O_RDONLY));
    printf(" error %d\n", errno);

    printf("null %ld", syscall(SYS_openat, AT_FDCWD, NULL, O_RDONLY));
    printf(" error %d\n", errno);
    printf("kernel %ld", syscall(SYS_stat, (void *)0xffffffff80000000, NULL));
    printf(" error %d\n", errno);
    printf("openat2 %ld", syscall(SYS_openat2, AT_FDCWD, "/data/how", NULL, 24));
    printf(" error %d\n", errno);
    printf("descriptor %ld", syscall(SYS_openat, 77, "relative", O_RDONLY));
    printf(" error %d\n", errno);
    // A path that runs into the end of its memory.
    end = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(end + 4096, 4096);
    end[4094] = end[4095] = '/';
    printf("cut %d", open(end + 4094, O_RDONLY));
    printf(" error %d\n", errno);
    // And one that ends right there.
    end[4095] = 0;
    printf("last byte %d\n", open(end + 4094, O_RDONLY) >= 0);
    return 0;
}
