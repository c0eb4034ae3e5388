/* Counts what the main thread does to files below a folder, and lets the n-th operation fail, be cut off or be the last.
 *
 * Loaded with LD_PRELOAD, so that native writers (Rust, C++) are counted like Python. Other threads (the heartbeat) are not
 * counted: what they do depends on the clock.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, KILL_BEFORE, KILL_INSIDE, FAIL_ONCE, FAIL_FROM_NOW_ON };

static char root[PATH_MAX];
static size_t root_length;
static long due_at, counted;
static int mode, error_number, log_file = -1;

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

void faults_arm(const char *folder, long at, int what, int error, int log) {
    counted = 0, due_at = at, mode = what, error_number = error, log_file = log;
    root_length = strlen(folder);
    memcpy(root, folder, root_length + 1);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static int below(int folder, const char *path) {
    char whole[2 * PATH_MAX], name[64];
    if (!root_length || syscall(SYS_gettid) != getpid()) return 0;
    if (path && path[0] == '/') return strncmp(path, root, root_length) == 0;
    if (folder < 0) return 0;
    snprintf(name, sizeof name, "/proc/self/fd/%d", folder);
    ssize_t length = readlink(name, whole, sizeof whole - 1);
    return length >= (ssize_t)root_length && strncmp(whole, root, root_length) == 0;
}

/* A line for each operation: its name and the path, relative where rmtree removes what is in an open folder. */
static void note(const char *operation, int folder, const char *path) {
    char link[64], name[PATH_MAX] = "";
    if (log_file < 0) return;
    if (!path) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t length = readlink(link, name, sizeof name - 1);
        name[length > 0 ? length : 0] = 0;
    }
    dprintf(log_file, "%s %s\n", operation, path ? path : name);
}

/* Whether this operation has to fail with errno set. Does not return where it is the last one. `room`: it needs space. */
static int fails(const char *operation, int folder, const char *path, int room) {
    if (!below(folder, path)) return 0;
    counted++;
    note(operation, folder, path);
    if (mode == KILL_BEFORE && counted == due_at) die();
    int now = (mode == FAIL_ONCE && counted == due_at) || (mode == FAIL_FROM_NOW_ON && counted >= due_at);
    if (!now || (error_number == ENOSPC && !room)) return 0;
    errno = error_number;
    return 1;
}

static void done(int folder, const char *path) {
    if (mode == KILL_INSIDE && counted == due_at && below(folder, path)) die();
}

#define OPERATION(name, folder, path, room, call) \
    if (fails(name, folder, path, room)) return -1; \
    int result = call; \
    int kept = errno; \
    done(folder, path); \
    errno = kept; \
    return result

/* Half of the bytes: before a kill, and where the disk becomes full. */
static ssize_t some(const char *operation, int file, size_t count, size_t *allowed) {
    *allowed = count;
    if (!below(file, NULL)) return 0;
    int cut = counted + 1 == due_at && (mode == KILL_INSIDE || (mode == FAIL_FROM_NOW_ON && error_number == ENOSPC));
    if (cut && count > 1) {
        counted++;
        note(operation, file, NULL);
        *allowed = count / 2;
        return 1;
    }
    return fails(operation, file, NULL, 1) ? -1 : 0;
}

#define WRITE(name, call) \
    size_t allowed; \
    if (some(name, file, count, &allowed) < 0) return -1; \
    ssize_t result = call; \
    int kept = errno; \
    done(file, NULL); \
    errno = kept; \
    return result

ssize_t write(int file, const void *data, size_t count) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (file == log_file) return real(file, data, count);
    WRITE("write", real(file, data, allowed));
}

ssize_t pwrite(int file, const void *data, size_t count, off_t at) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    WRITE("pwrite", real(file, data, allowed, at));
}

ssize_t pwrite64(int file, const void *data, size_t count, off_t at) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off_t);
    WRITE("pwrite", real(file, data, allowed, at));
}

ssize_t writev(int file, const struct iovec *parts, int number) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    size_t count = (size_t)number, allowed;
    if (some("writev", file, count, &allowed) < 0) return -1;
    ssize_t result = real(file, parts, (int)allowed);
    int kept = errno;
    done(file, NULL);
    errno = kept;
    return result;
}

int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    OPERATION("rename", -1, to, 0, real(from, to));
}

int renameat(int a, const char *from, int b, const char *to) {
    REAL(int, "renameat", int, const char *, int, const char *);
    OPERATION("rename", b, to, 0, real(a, from, b, to));
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    OPERATION("remove", -1, path, 0, real(path));
}

int unlinkat(int folder, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    OPERATION("remove", folder, path, 0, real(folder, path, flags));
}

int rmdir(const char *path) {
    REAL(int, "rmdir", const char *);
    OPERATION("remove", -1, path, 0, real(path));
}

int mkdir(const char *path, mode_t mode_bits) {
    REAL(int, "mkdir", const char *, mode_t);
    OPERATION("mkdir", -1, path, 1, real(path, mode_bits));
}

int mkdirat(int folder, const char *path, mode_t mode_bits) {
    REAL(int, "mkdirat", int, const char *, mode_t);
    OPERATION("mkdir", folder, path, 1, real(folder, path, mode_bits));
}

int ftruncate(int file, off_t length) {
    REAL(int, "ftruncate", int, off_t);
    OPERATION("truncate", file, NULL, 0, real(file, length));
}

int ftruncate64(int file, off_t length) {
    REAL(int, "ftruncate64", int, off_t);
    OPERATION("truncate", file, NULL, 0, real(file, length));
}

int fsync(int file) {
    REAL(int, "fsync", int);
    OPERATION("fsync", file, NULL, 0, real(file));
}

#define OPEN(name, real_call) \
    mode_t bits = 0; \
    if (flags & O_CREAT) { \
        va_list rest; \
        va_start(rest, flags); \
        bits = va_arg(rest, mode_t); \
        va_end(rest); \
        OPERATION("create", folder, path, 1, real_call); \
    } \
    return real_call

int open(const char *path, int flags, ...) {
    REAL(int, "open", const char *, int, ...);
    int folder = -1;
    OPEN("open", real(path, flags, bits));
}

int open64(const char *path, int flags, ...) {
    REAL(int, "open64", const char *, int, ...);
    int folder = -1;
    OPEN("open64", real(path, flags, bits));
}

int openat(int folder, const char *path, int flags, ...) {
    REAL(int, "openat", int, const char *, int, ...);
    OPEN("openat", real(folder, path, flags, bits));
}

int openat64(int folder, const char *path, int flags, ...) {
    REAL(int, "openat64", int, const char *, int, ...);
    OPEN("openat64", real(folder, path, flags, bits));
}
