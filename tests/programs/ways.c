// Touches files in every way that there is: each way a file of its own in /w, which bears the way's name.
// (What a way needs beside it lies elsewhere.) Without a word; with one it is its own child and just ends.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

extern char **environ;
static char *const child_words[] = {"ways", "child", NULL};

static void as_child(void (*way)(void)) {
    fflush(stdout);
    if (fork() == 0) {
        way();
        _exit(1);
    }
    wait(NULL);
}

static void execve_way(void) { execve("/w/execve", child_words, environ); }
static void execveat_way(void) { syscall(SYS_execveat, open("/w", O_PATH), "execveat", child_words, environ, 0); }
static void fexecve_way(void) { fexecve(open("/w/fexecve", O_PATH), child_words, environ); }
static void script_way(void) { execve("/w/script", child_words, environ); }
static void nested_way(void) { execve("/w/nested", child_words, environ); }
static void memfd_way(void) {
    int program = open("/w/in-memory", O_RDONLY), memory = syscall(SYS_memfd_create, "memory", 0);
    while (sendfile(memory, program, NULL, 1 << 20) > 0) continue;
    syscall(SYS_execveat, memory, "", child_words, environ, AT_EMPTY_PATH);
}
static void deleted_directory_way(void) {
    mkdir("/w/short-lived", 0700);
    chdir("/w/short-lived");
    rmdir("/w/short-lived");
    open("relative", O_RDONLY);
    open("/w/from-nowhere", O_RDONLY);
    _exit(0);
}
static void program_32_way(void) { execve("/w/program-32", child_words, environ); }
static void chroot_way(void) {
    chroot("/w/chroot");
    chdir("/");
    open("/in-chroot", O_RDONLY);
    open("../../relative-in-chroot", O_RDONLY);
}

// What a call answers to pointers that lead nowhere, or to a text without an end.
static void bad_pointers(void) {
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *last = pages + 4096 - 7;
    munmap(pages + 4096, 4096);
    memcpy(last, "/w/open", 7);
    char *hidden = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *bad[] = {NULL, (char *)1, (char *)-1, (char *)(1L << 62), hidden, last};
    struct open_how how = {.flags = O_RDONLY};
    struct stat s;
    for (int i = 0; i < sizeof bad / sizeof *bad; i++) {
        char *path = bad[i], *words[] = {"ways", "child", NULL};
        long results[] = {
            syscall(SYS_open, path, O_RDONLY) < 0 ? errno : 0, syscall(SYS_openat, AT_FDCWD, path, O_RDONLY) < 0 ? errno : 0,
            syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how) < 0 ? errno : 0,
            syscall(SYS_stat, path, &s) < 0 ? errno : 0, syscall(SYS_access, path, R_OK) < 0 ? errno : 0,
            syscall(SYS_statx, AT_FDCWD, path, 0, STATX_ALL, NULL) < 0 ? errno : 0,
            syscall(SYS_readlink, path, hidden, 1) < 0 ? errno : 0, chdir(path) < 0 ? errno : 0,
            rename("/w/rename-nowhere", path) < 0 ? errno : 0, rename(path, "/w/rename-from-nowhere") < 0 ? errno : 0,
            syscall(SYS_execve, path, words, environ) < 0 ? errno : 0,
            bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)path, 110) < 0 ? errno : 0,
        };
        printf("bad pointer %d:", i);
        for (int j = 0; j < sizeof results / sizeof *results; j++) printf(" %ld", results[j]);
        printf("\n");
    }
    // Only what comes beside the path leads nowhere.
    long how_result = syscall(SYS_openat2, AT_FDCWD, "/w/open", hidden, sizeof how) < 0 ? errno : 0;
    long stat_result = syscall(SYS_stat, "/ways", hidden) < 0 ? errno : 0;
    long exec_result = syscall(SYS_execve, "/w/execve", hidden, hidden) < 0 ? errno : 0;
    printf("bad beside: %ld %ld %ld\n", how_result, stat_result, exec_result);
}

static void *thread_way(void *number) {
    char name[64];
    snprintf(name, sizeof name, "/w/thread-%d", (int)(intptr_t)number);
    close(open(name, O_RDONLY));
    return NULL;
}

int main(int count, char **words) {
    if (count > 1) return 0;
    struct stat s;
    struct statx extended;
    struct statfs file_system;
    char buffer[8192];

    syscall(SYS_open, "/w/open", O_RDONLY);
    syscall(SYS_openat, AT_FDCWD, "/w/openat", O_RDONLY);
    struct open_how how = {.flags = O_RDONLY};
    syscall(SYS_openat2, AT_FDCWD, "/w/openat2", &how, sizeof how);
    int directory = open("/w/directory", O_RDONLY | O_DIRECTORY);
    how.resolve = RESOLVE_IN_ROOT;
    syscall(SYS_openat2, directory, "/../openat2-in-root", &how, sizeof how);
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS;
    syscall(SYS_openat2, directory, "openat2-beneath", &how, sizeof how);
    printf("beneath: %d\n", syscall(SYS_openat2, directory, "../open", &how, sizeof how) >= 0);
    how.resolve = RESOLVE_NO_SYMLINKS;
    syscall(SYS_openat2, AT_FDCWD, "/w/openat2-no-links", &how, sizeof how);
    open("/w/o-path", O_PATH);
    syscall(SYS_creat, "/w/creat", 0600);
    open("/w/write", O_WRONLY);
    syscall(SYS_stat, "/w/stat", &s);
    syscall(SYS_lstat, "/w/lstat", &s);
    syscall(SYS_newfstatat, AT_FDCWD, "/w/newfstatat", &s, 0);
    syscall(SYS_newfstatat, AT_FDCWD, "/w/newfstatat-empty", &s, AT_EMPTY_PATH);
    syscall(SYS_statx, AT_FDCWD, "/w/statx", 0, STATX_ALL, &extended);
    syscall(SYS_access, "/w/access", R_OK);
    syscall(SYS_faccessat, AT_FDCWD, "/w/faccessat", R_OK);
    syscall(SYS_faccessat2, AT_FDCWD, "/w/faccessat2", R_OK, 0);
    syscall(SYS_readlink, "/w/readlink", buffer, sizeof buffer);
    syscall(SYS_readlinkat, AT_FDCWD, "/w/readlinkat", buffer, sizeof buffer);
    getxattr("/w/getxattr", "user.x", buffer, sizeof buffer);
    lgetxattr("/w/lgetxattr", "user.x", buffer, sizeof buffer);
    listxattr("/w/listxattr", buffer, sizeof buffer);
    llistxattr("/w/llistxattr", buffer, sizeof buffer);
    setxattr("/w/setxattr", "user.x", "x", 1, 0);
    removexattr("/w/removexattr", "user.x");
    statfs("/w/statfs", &file_system);
    inotify_add_watch(inotify_init1(0), "/w/inotify", IN_ACCESS);
    truncate("/w/truncate", 0);
    chmod("/w/chmod", 0600);
    chown("/w/chown", 0, 0);
    utimensat(AT_FDCWD, "/w/utimensat", NULL, 0);
    link("/w/link", "/w/link-made");
    symlink("nowhere", "/w/symlink-made");
    rename("/w/rename", "/w/rename-made");
    mkdir("/w/mkdir-made", 0700);
    unlink("/w/unlink");

    openat(directory, "by-descriptor", O_RDONLY);
    chdir("/w/directory");
    open("by-directory", O_RDONLY);
    open("./nested/../by-dots", O_RDONLY);
    open("../upwards", O_RDONLY);
    // Up from where the link leads.
    open("/w/linked/../by-link", O_RDONLY);
    fchdir(open("/w/other", O_RDONLY | O_DIRECTORY));
    open("by-fchdir", O_RDONLY);
    chdir("/");
    getdents64(open("/w/listed", O_RDONLY | O_DIRECTORY), buffer, sizeof buffer);

    mmap(NULL, 1, PROT_READ, MAP_PRIVATE, open("/w/mmap", O_RDONLY), 0);
    // What is done with an open file needs no name any more.
    int sink = syscall(SYS_memfd_create, "sink", 0), pipes[2];
    pipe(pipes);
    sendfile(sink, open("/w/sendfile", O_RDONLY), NULL, 1);
    copy_file_range(open("/w/copy-file-range", O_RDONLY), NULL, open("/w/write", O_WRONLY), NULL, 1, 0);
    splice(open("/w/splice", O_RDONLY), NULL, pipes[1], NULL, 1, 0);
    struct sockaddr_un address = {AF_UNIX, "/w/sockets/made"};
    int server = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    bind(server, (struct sockaddr *)&address, sizeof address);
    listen(server, 1);
    printf("connected: %d\n", connect(client, (struct sockaddr *)&address, sizeof address) == 0);
    struct sockaddr_un abstract = {AF_UNIX, "\0abstract"};
    bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&abstract, sizeof abstract);
    // Through a name that another call gave: as relative as that.
    chdir("/w/sockets");
    struct sockaddr_un relative = {AF_UNIX, "relative"};
    bind(socket(AF_UNIX, SOCK_DGRAM, 0), (struct sockaddr *)&relative, sizeof(sa_family_t) + strlen("relative"));
    chdir("/");

    as_child(execve_way);
    as_child(execveat_way);
    as_child(fexecve_way);
    as_child(script_way);
    as_child(nested_way);
    as_child(memfd_way);
    as_child(deleted_directory_way);
    as_child(program_32_way);
    as_child(chroot_way);
    pid_t child;
    if (posix_spawn(&child, "/w/posix-spawn", NULL, NULL, child_words, environ) == 0) waitpid(child, NULL, 0);
    for (int i = 0; i < 500; i++) {
        if ((child = vfork()) == 0) {
            execve("/w/vfork", child_words, environ);
            _exit(1);
        }
        waitpid(child, NULL, 0);
    }
    pthread_t threads[64];
    for (int i = 0; i < 64; i++) pthread_create(&threads[i], NULL, thread_way, (void *)(intptr_t)i);
    for (int i = 0; i < 64; i++) pthread_join(threads[i], NULL);

#ifdef __x86_64__
    // The 32-bit call of a 64-bit program: its pointer has to be short.
    char *name = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    strcpy(name, "/w/int-80");
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(5), "b"(name), "c"(O_RDONLY), "d"(0) : "memory", "r8", "r9", "r10", "r11");
#endif

    bad_pointers();
    // The longest path: 4,095 bytes.
    memset(buffer, 0, sizeof buffer);
    memset(buffer, '/', 4095);
    memcpy(buffer, "/w", 2);
    memcpy(buffer + 4095 - strlen("longest"), "longest", strlen("longest"));
    printf("longest %zu: %d\n", strlen(buffer), open(buffer, O_RDONLY) >= 0);
    // And one byte more.
    memmove(buffer + 1, buffer, 4096);
    buffer[0] = '/';
    errno = 0;
    open(buffer, O_RDONLY);
    printf("too long %zu: error %d\n", strlen(buffer), errno);
    open("/w/not-utf-8-\xff\xfe", O_RDONLY);
    open("/w/new\nline \\ \"quoted\"", O_RDONLY);
    memset(buffer, 0, sizeof buffer);
    strcpy(buffer, "/w/");
    memset(buffer + 3, 'n', 255);
    open(buffer, O_RDONLY);

    // Calls without a path, for the list of those that were used.
    struct sysinfo information;
    sysinfo(&information);
    mlock(buffer, 1);
    int pair[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    syscall(SYS_memfd_create, "x", 0);
    syscall(SYS_getpriority, 0, 0);
    syscall(SYS_membarrier, 0, 0, 0);
    return 0;
}
