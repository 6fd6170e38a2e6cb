/* Passes every write on with less than it was given, as a real one may that a signal interrupts. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/types.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static size_t less(int file, size_t count) {
    /* Only positions and lengths of whole sectors can go past the cache. */
    size_t most = strtoul(getenv("SHORT_WRITES_AT_MOST"), NULL, 10);
    (void)file;
    return count > most ? most : count;
}

ssize_t pwrite64(int file, const void *data, size_t count, off64_t at) {
    return syscall(SYS_pwrite64, file, data, less(file, count), at);
}

ssize_t pwrite(int file, const void *data, size_t count, off_t at) {
    return pwrite64(file, data, count, at);
}

ssize_t pwritev64v2(int file, const struct iovec *parts, int count, off64_t at, int flags) {
    (void)flags;
    return count ? pwrite64(file, parts[0].iov_base, parts[0].iov_len, at) : 0;
}

ssize_t pwritev2(int file, const struct iovec *parts, int count, off_t at, int flags) {
    return pwritev64v2(file, parts, count, at, flags);
}

ssize_t pwritev64(int file, const struct iovec *parts, int count, off64_t at) {
    return pwritev64v2(file, parts, count, at, 0);
}

ssize_t pwritev(int file, const struct iovec *parts, int count, off_t at) {
    return pwritev64v2(file, parts, count, at, 0);
}
