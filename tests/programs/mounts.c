// Reaches files in ways for which a program needs rights: by mounts of its own, by handles. Each way has a file that bears
// its name, in the directory where the file really is. Says what came of each.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *what, long result) {
    printf("%s: %d\n", what, result < 0 ? errno : 0);
    fflush(stdout);
}

static void as_child(void (*way)(void)) {
    if (fork() == 0) {
        way();
        _exit(0);
    }
    wait(NULL);
}

// In the mount namespace of all.
static void bind_way(void) {
    struct stat s;
    say("bind", mount("/w/source", "/w/bound", NULL, MS_BIND, NULL));
    say("open", open("/w/bound/by-bind", O_RDONLY));
    say("stat", stat("/w/bound/stat-by-bind", &s));
    chdir("/w/bound");
    say("relative", open("relative-by-bind", O_RDONLY));
    chdir("/");
    say("volume", mount("/data/directory", "/w/of-volume", NULL, MS_BIND, NULL));
    say("open", open("/w/of-volume/by-volume", O_RDONLY));
    say("unmount", umount2("/w/of-volume", MNT_DETACH) | umount2("/w/bound", MNT_DETACH));
}

static void unshare_way(void) {
    say("unshare", unshare(CLONE_NEWNS));
    say("open", open("/w/by-unshare", O_RDONLY));
    say("bind", mount("/w/source", "/w/bound", NULL, MS_BIND, NULL));
    say("open", open("/w/bound/by-unshared-bind", O_RDONLY));
    chroot("/w");
    say("open", open("/bound/by-chroot-and-bind", O_RDONLY));
}

static void pivot_way(void) {
    say("unshare", unshare(CLONE_NEWNS));
    say("bind", mount("/w/new-root", "/w/new-root", NULL, MS_BIND, NULL));
    long result = syscall(SYS_pivot_root, "/w/new-root", "/w/new-root/old");
    say("pivot", result);
    if (result < 0) return;
    chdir("/");
    say("open", open("/by-pivot", O_RDONLY));
    say("old", open("/old/w/by-the-old-root", O_RDONLY));
    say("unmount", umount2("/old", MNT_DETACH));
    say("open", open("/later-by-pivot", O_RDONLY));
}

static void handle_way(const char *path, const char *on) {
    struct file_handle *handle = malloc(sizeof *handle + MAX_HANDLE_SZ);
    int mount;
    handle->handle_bytes = MAX_HANDLE_SZ;
    long result = name_to_handle_at(AT_FDCWD, path, handle, &mount, 0);
    say("handle", result);
    if (result == 0) say("open by handle", open_by_handle_at(open(on, O_RDONLY | O_DIRECTORY), handle, O_RDONLY));
}

int main(void) {
    as_child(bind_way);
    as_child(unshare_way);
    as_child(pivot_way);
    handle_way("/data/by-handle", "/data");
    handle_way("/w/by-handle", "/w");
    char parameters[120] = {0};
    say("ring", syscall(425, 4, parameters));
}
