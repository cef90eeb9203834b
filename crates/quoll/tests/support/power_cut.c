/* Preloaded by a test: before the n-th act of the program that changes a file or a folder, the program is killed as by a
   power cut (POWER_CUT_AT), or that act and all that follow find the disk full (DISK_FULL_AT). Counted from 0. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static long done;

static long limit(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : -1;
}

/* 1 where the disk is full. `grows` is for acts that need room. */
static int change(int grows) {
    long now = __sync_fetch_and_add(&done, 1);
    long cut = limit("POWER_CUT_AT"), full = limit("DISK_FULL_AT");
    if (cut >= 0 && now >= cut) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    if (full >= 0 && now >= full && grows) {
        errno = ENOSPC;
        return 1;
    }
    return 0;
}

/* What is written to a pipe, a socket or a terminal changes no disk. */
static int on_disk(int fd) {
    struct stat about;
    return fstat(fd, &about) == 0 && S_ISREG(about.st_mode);
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name)

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        REAL(int, name, const char *, int, ...); \
        mode_t mode = 0; \
        if (flags & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); } \
        if (((flags & O_CREAT) && access(path, F_OK) != 0) || (flags & O_TRUNC)) { if (change(flags & O_CREAT)) return -1; } \
        return real(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

#define WRITE(type, name, call, ...) \
    type name(int fd, __VA_ARGS__) { \
        REAL(type, name, int, __VA_ARGS__); \
        if (on_disk(fd) && change(1)) return -1; \
        return real call; \
    }
WRITE(ssize_t, write, (fd, from, count), const void *from, size_t count)
WRITE(ssize_t, writev, (fd, from, count), const struct iovec *from, int count)
WRITE(ssize_t, pwrite, (fd, from, count, at), const void *from, size_t count, off_t at)
WRITE(ssize_t, pwrite64, (fd, from, count, at), const void *from, size_t count, off64_t at)

ssize_t copy_file_range(int in, off64_t *in_at, int out, off64_t *out_at, size_t count, unsigned flags) {
    REAL(ssize_t, copy_file_range, int, off64_t *, int, off64_t *, size_t, unsigned);
    if (change(1)) return -1;
    return real(in, in_at, out, out_at, count, flags);
}

#define ACT(name, grows, call, ...) \
    int name(__VA_ARGS__) { \
        REAL(int, name, __VA_ARGS__); \
        if (change(grows)) return -1; \
        return real call; \
    }
ACT(rename, 0, (from, to), const char *from, const char *to)
ACT(renameat2, 0, (from_dir, from, to_dir, to, flags), int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
ACT(link, 1, (from, to), const char *from, const char *to)
ACT(mkdir, 1, (path, mode), const char *path, mode_t mode)
ACT(unlink, 0, (path), const char *path)
ACT(unlinkat, 0, (dir, path, flags), int dir, const char *path, int flags)
ACT(rmdir, 0, (path), const char *path)
ACT(chmod, 0, (path, mode), const char *path, mode_t mode)
ACT(fchmod, 0, (fd, mode), int fd, mode_t mode)
ACT(ftruncate64, 0, (fd, length), int fd, off64_t length)
ACT(fsync, 1, (fd), int fd)
ACT(fdatasync, 1, (fd), int fd)
