// A 32-bit program without a library: touches files of /w by 32-bit calls, whose numbers and some of whose names are others.
static int call(int number, const void *a, const void *b, const void *c, const void *d) {
    int result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c), "S"(d) : "memory");
    return result;
}

#define AT_FDCWD ((void *)-100)
#define READ ((void *)0)

struct address {
    unsigned short family;
    char path[108];
};

void _start(void) {
    static char buffer[256];
    static const struct address address = {1, "/w/sockets/by-32"};
    call(5, "/w/opened-by-32", READ, 0, 0);
    call(295, AT_FDCWD, "/w/openat-by-32", READ, 0);
    call(195, "/w/stat64-by-32", buffer, 0, 0);
    call(196, "/w/lstat64-by-32", buffer, 0, 0);
    call(300, AT_FDCWD, "/w/fstatat64-by-32", buffer, 0);
    call(33, "/w/access-by-32", (void *)4, 0, 0);
    call(85, "/w/readlink-by-32", buffer, (void *)sizeof buffer, 0);
    call(268, "/w/statfs64-by-32", (void *)84, buffer, 0);
    call(193, "/w/truncate64-by-32", 0, 0, 0);
    call(212, "/w/chown32-by-32", 0, 0, 0);
    call(412, AT_FDCWD, "/w/utimensat-time64-by-32", 0, 0);
    // A bad pointer.
    call(195, (void *)16, buffer, 0, 0);
    call(12, "/w/directory", 0, 0, 0);
    call(5, "relative-by-32", READ, 0, 0);
    // socketcall(2): socket, then bind, each with its arguments in memory.
    unsigned long socket_arguments[] = {1, 1, 0};
    unsigned long bind_arguments[] = {call(102, (void *)1, socket_arguments, 0, 0), (unsigned long)&address, sizeof address};
    call(102, (void *)2, bind_arguments, 0, 0);
    // sysinfo(2), which takes no path.
    call(116, buffer, 0, 0, 0);
    call(1, 0, 0, 0, 0);
}
