// Prints whatever a process can learn about itself, one fact a line. Two runs that print the same can't be told apart.
// It makes every system call that there is: only for containers. Words that begin with a slash are directories to list.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static int starts(const char *line, const char *prefix) {
    return strncmp(line, prefix, strlen(prefix)) == 0;
}

// A file of /proc, but for the lines that begin with a word of `volatile_lines`.
static void file(const char *path, const char *const *volatile_lines) {
    char line[65536];
    FILE *stream = fopen(path, "r");
    if (!stream) {
        printf("%s: error %d\n", path, errno);
        return;
    }
    while (fgets(line, sizeof line, stream)) {
        int skip = 0;
        for (const char *const *word = volatile_lines; *word; word++) skip |= starts(line, *word);
        line[strcspn(line, "\n")] = 0;
        if (!skip) printf("%s: %s\n", path, line);
    }
    fclose(stream);
}

static void list(const char *path) {
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        char name[PATH_MAX];
        struct stat s;
        snprintf(name, sizeof name, "%s/%s", path, entries[i]->d_name);
        if (lstat(name, &s) == 0) printf("%s: %o %d:%d\n", name, s.st_mode, s.st_uid, s.st_gid);
    }
}

static void descriptors(void) {
    for (int fd = 0; fd < 256; fd++) {
        char name[64], target[PATH_MAX];
        struct stat s;
        snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(name, target, sizeof target - 1);
        if (length < 0) continue;
        target[length] = 0;
        if (starts(target, "pipe:") || starts(target, "socket:")) target[strcspn(target, ":")] = 0;
        fstat(fd, &s);
        printf("descriptor %d: %s %o %d:%d flags %x tty %d\n", fd, target, s.st_mode, s.st_uid, s.st_gid, fcntl(fd, F_GETFL),
               isatty(fd));
    }
}

// Fields of mountinfo that do not differ by chance: where, options, type.
static void mounts(void) {
    char line[65536];
    FILE *stream = fopen("/proc/self/mountinfo", "r");
    while (stream && fgets(line, sizeof line, stream)) {
        char where[4096], options[4096], type[256], source[4096], limits[4096];
        char *rest = strstr(line, " - ");
        if (!rest || sscanf(line, "%*s %*s %*s %*s %4095s %4095s", where, options) != 2 ||
            sscanf(rest, " - %255s %4095s %4095s", type, source, limits) != 3)
            continue;
        printf("mount %s %s %s", where, options, type);
        printf(strcmp(type, "tmpfs") ? "\n" : " %s\n", limits);
    }
    if (stream) fclose(stream);
}

// The error of a call, made by a child that does nothing else.
static void call(const char *name, long number, long a, long b, long c, long d, long e, long f) {
    fflush(stdout);
    int pipes[2], status = 0;
    pipe(pipes);
    pid_t child = fork();
    if (child == 0) {
        pid_t own = getpid();
        alarm(5);
        errno = 0;
        long result = syscall(number, a, b, c, d, e, f);
        int error = result < 0 ? errno : 0;
        // A call that makes a process: the new one must not answer.
        if (getpid() == own) write(pipes[1], &error, sizeof error);
        _exit(0);
    }
    int error = -1;
    close(pipes[1]);
    read(pipes[0], &error, sizeof error);
    close(pipes[0]);
    waitpid(child, &status, 0);
    printf("call %s: error %d signal %d\n", name, error, WTERMSIG(status));
}

// Every system call with arguments that no call accepts: what a seccomp filter denies answers otherwise than what the
// kernel refuses.
static void all_calls(void) {
    for (long number = 0; number < 470; number++) {
        switch (number) {
        case SYS_fork: case SYS_vfork: case SYS_exit: case SYS_exit_group: case SYS_rt_sigreturn: case SYS_pause:
            continue;
        }
        char name[32];
        snprintf(name, sizeof name, "%ld", number);
        call(name, number, -1, -1, -1, -1, -1, -1);
    }
}

#ifdef __x86_64__
static long call_32(long number, long argument) {
    long result;
    __asm__ volatile(
        "sub $128, %%rsp\n push %%rbp\n mov %%ecx, %%ebp\n int $0x80\n pop %%rbp\n add $128, %%rsp"
        : "=a"(result)
        : "a"(number), "b"(argument), "c"(argument), "d"(argument), "S"(argument), "D"(argument)
        : "memory", "r8", "r9", "r10", "r11");
    return result;
}

// The same for 32-bit calls, which have other numbers.
static void all_calls_32(void) {
    for (long number = 0; number < 470; number++) {
        switch (number) {
        // exit, fork, pause, sigsuspend, sigreturn, rt_sigreturn, vfork, exit_group
        case 1: case 2: case 29: case 72: case 119: case 173: case 190: case 252:
            continue;
        }
        fflush(stdout);
        int status = 0, pipes[2];
        pipe(pipes);
        pid_t child = fork();
        if (child == 0) {
            pid_t own = getpid();
            alarm(5);
            long result = (int)call_32(number, -1);
            int error = result < 0 ? -result : 0;
            if (getpid() == own) write(pipes[1], &error, sizeof error);
            _exit(0);
        }
        int error = -1;
        close(pipes[1]);
        read(pipes[0], &error, sizeof error);
        close(pipes[0]);
        waitpid(child, &status, 0);
        // Times and numbers of processes: that they were answered is what counts.
        printf("call 32-bit %ld: error %d signal %d\n", number, error > 4095 ? 0 : error, WTERMSIG(status));
    }
}
#endif

static void some_calls(void) {
    char host[256] = "";
    gethostname(host, sizeof host);
    struct { char *base; size_t length; } own = {host, 1};
    struct { unsigned bytes; int type; char handle[128]; } handle = {128};
    int mount_id;
    call("unshare user", SYS_unshare, CLONE_NEWUSER, 0, 0, 0, 0, 0);
    call("unshare mount", SYS_unshare, CLONE_NEWNS, 0, 0, 0, 0, 0);
    call("unshare files", SYS_unshare, CLONE_FILES, 0, 0, 0, 0, 0);
    call("clone user", SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0, 0);
    call("clone network", SYS_clone, CLONE_NEWNET | SIGCHLD, 0, 0, 0, 0, 0);
    call("clone3", SYS_clone3, 0, 0, 0, 0, 0, 0);
    call("setns", SYS_setns, 0, 0, 0, 0, 0, 0);
    // Not /proc: run on a host by mistake, as root, this took its /proc away (it happened). A denied call is EPERM either way.
    call("mount", SYS_mount, (long)"none", (long)"/nowhere", (long)"tmpfs", 0, 0, 0);
    call("umount2", SYS_umount2, (long)"/nowhere", 0, 0, 0, 0, 0);
    call("bpf", SYS_bpf, 0, 0, 0, 0, 0, 0);
    call("perf_event_open", SYS_perf_event_open, 0, 0, 0, 0, 0, 0);
    call("syslog", SYS_syslog, 10, 0, 0, 0, 0, 0);
    call("kcmp", SYS_kcmp, getpid(), getpid(), 0, 1, 1, 0);
    call("process_vm_readv", SYS_process_vm_readv, getpid(), (long)&own, 1, (long)&own, 1, 0);
    call("name_to_handle_at", SYS_name_to_handle_at, AT_FDCWD, (long)"/", (long)&handle, (long)&mount_id, 0, 0);
    call("open_by_handle_at", SYS_open_by_handle_at, AT_FDCWD, (long)&handle, 0, 0, 0, 0);
    call("keyctl", SYS_keyctl, 0, -3, 0, 0, 0, 0);
    call("ptrace traceme", SYS_ptrace, 0, 0, 0, 0, 0, 0);
    call("pidfd_getfd", SYS_pidfd_getfd, 0, 0, 0, 0, 0, 0);
    call("process_madvise", SYS_process_madvise, 0, 0, 0, 0, 0, 0);
    call("sethostname", SYS_sethostname, (long)host, strlen(host), 0, 0, 0, 0);
    call("setdomainname", SYS_setdomainname, (long)"x", 1, 0, 0, 0, 0);
    call("chroot", SYS_chroot, (long)"/", 0, 0, 0, 0, 0);
    call("setuid", SYS_setuid, 7, 0, 0, 0, 0, 0);
    call("setgid", SYS_setgid, 7, 0, 0, 0, 0, 0);
    call("mknod", SYS_mknod, (long)"/tmp/device", S_IFCHR | 0600, 0x103, 0, 0, 0);
    call("userfaultfd", SYS_userfaultfd, 0, 0, 0, 0, 0, 0);
    call("personality", SYS_personality, 0x20000, 0, 0, 0, 0, 0);
    call("personality odd", SYS_personality, 0x40000, 0, 0, 0, 0, 0);
    call("socket vsock", SYS_socket, 40, 1, 0, 0, 0, 0);
    call("socket raw", SYS_socket, 2, 3, 1, 0, 0, 0);
    call("io_uring_setup", SYS_io_uring_setup, 1, 0, 0, 0, 0, 0);
}

int main(int count, char **words) {
    setvbuf(stdout, NULL, _IOFBF, 1 << 20);
    uid_t users[3];
    gid_t groups[NGROUPS_MAX];
    getresuid(&users[0], &users[1], &users[2]);
    printf("users %d %d %d\n", users[0], users[1], users[2]);
    getresgid(&users[0], &users[1], &users[2]);
    printf("groups %d %d %d:", users[0], users[1], users[2]);
    int supplementary = getgroups(NGROUPS_MAX, groups);
    for (int i = 0; i < supplementary; i++) printf(" %d", groups[i]);
    printf("\n");
    // But for the first process a pid is another one each time, as the engine's threads take numbers too.
    if (getpid() == 1) printf("pid 1 parent %d session %d group %d\n", getppid(), getsid(0), getpgrp());
    else printf("pid other parent %d session %d leader %d\n", getppid(), getsid(0), getpgrp() == getpid());
    for (int i = 0; i < count; i++) printf("word %d: %s\n", i, words[i]);
    for (char **variable = environ; *variable; variable++) printf("variable %s\n", *variable);
    char path[PATH_MAX];
    printf("directory %s\n", getcwd(path, sizeof path) ? path : "?");
    printf("execfn %s\n", (char *)getauxval(AT_EXECFN));
    printf("secure %lu\n", getauxval(AT_SECURE));
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    printf("exe %.*s\n", (int)length, path);
    for (int limit = 0; limit < RLIM_NLIMITS; limit++) {
        struct rlimit values;
        getrlimit(limit, &values);
        printf("limit %d: %lu %lu\n", limit, values.rlim_cur, values.rlim_max);
    }
    struct utsname names;
    uname(&names);
    printf("host %s %s\n", names.nodename, names.domainname);
    printf("dumpable %d securebits %d keepcaps %d subreaper %d deathsig %d nice %d policy %d\n", prctl(PR_GET_DUMPABLE),
           prctl(PR_GET_SECUREBITS), prctl(PR_GET_KEEPCAPS), (prctl(PR_GET_CHILD_SUBREAPER, &length), (int)length),
           (prctl(PR_GET_PDEATHSIG, &length), (int)length), getpriority(PRIO_PROCESS, 0), sched_getscheduler(0));
    printf("slack %d thp %d\n", prctl(PR_GET_TIMERSLACK), prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    const char *const volatile_status[] = {"Vm",  "Rss", "Hugetlb", "SigQ", "voluntary", "nonvoluntary", "Seccomp_filters",
                                           "Pid", "NS",  "Tgid",    NULL};
    const char *const nothing[] = {NULL};
    file("/proc/self/status", volatile_status);
    const char *const files[] = {"oom_score_adj", "coredump_filter", "loginuid", "sessionid", "uid_map", "gid_map", "setgroups",
                                 "attr/current", "timerslack_ns", NULL};
    for (const char *const *name = files; *name; name++) {
        snprintf(path, sizeof path, "/proc/self/%s", *name);
        file(path, nothing);
    }
    file("/etc/hosts", nothing);
    file("/etc/resolv.conf", nothing);
    descriptors();
    mounts();
    list("/");
    list("/dev");
    list("/tmp");
    for (int i = 1; i < count; i++)
        if (words[i][0] == '/') list(words[i]);
    some_calls();
    all_calls();
#ifdef __x86_64__
    all_calls_32();
#endif
    fflush(stdout);
    return 0;
}
