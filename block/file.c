/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"

/* Zeroes are written from this when a file system can't make them. */
#define ZERO_BYTES 65536u

static void init(BlockFile *file, int fd, char *name, const DiskSetOptions *options)
{
    *file = (BlockFile){.fd = fd, .name = name};
    if (options) {
        file->fault = options->fault;
        file->fault_data = options->fault_data;
    }
}

gboolean block_file_open(BlockFile *file, const char *path, gboolean create, gboolean direct,
                         const DiskSetOptions *options, GError **error)
{
    int flags = O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0) | (direct ? O_DIRECT : 0);
    int fd = open(path, flags, 0600);
    if (fd < 0) {
        int saved = errno;
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IO, "can't open %s%s: %s", path,
                    direct ? " with O_DIRECT" : "", g_strerror(saved));
        return FALSE;
    }
    init(file, fd, g_path_get_basename(path), options);
    file->direct = direct;
    return TRUE;
}

gboolean block_file_open_unnamed(BlockFile *file, const char *dir, const char *name,
                                 const DiskSetOptions *options, GError **error)
{
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        int saved = errno;
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IO, "can't make a temporary file in %s: %s",
                    dir, g_strerror(saved));
        return FALSE;
    }
    init(file, fd, g_strdup(name), options);
    return TRUE;
}

void block_file_close(BlockFile *file)
{
    colo_fd_close(&file->fd);
    g_clear_pointer(&file->name, g_free);
}

int block_file_read(const BlockFile *file, void *buf, gsize len, guint64 offset)
{
    guint8 *at = buf;
    while (len > 0) {
        ssize_t got = pread(file->fd, at, len, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (got == 0) {
            memset(at, 0, len);
            return 0;
        }
        at += got;
        offset += (guint64)got;
        len -= (gsize)got;
    }
    return 0;
}

static int write_all(int fd, const guint8 *at, gsize len, guint64 offset)
{
    while (len > 0) {
        ssize_t put = pwrite(fd, at, len, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return -errno;
        at += put;
        offset += (guint64)put;
        len -= (gsize)put;
    }
    return 0;
}

static int ask_hook(const BlockFile *file, const char *what, guint64 offset, gsize *len)
{
    return file->fault ? file->fault(what, file->name, offset, len, file->fault_data) : 0;
}

int block_file_write(const BlockFile *file, const void *buf, gsize len, guint64 offset)
{
    gsize allowed = len;
    int refused = ask_hook(file, "write", offset, &allowed);
    if (!refused)
        return write_all(file->fd, buf, len, offset);
    write_all(file->fd, buf, MIN(allowed, len), offset);
    return refused;
}

static int punch(int fd, guint64 len, guint64 offset)
{
    int mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    while (fallocate(fd, mode, (off_t)offset, (off_t)len) < 0) {
        if (errno != EINTR)
            return errno == ENODEV || errno == ENOSYS || errno == EINVAL ? -EOPNOTSUPP : -errno;
    }
    return 0;
}

int block_file_punch(const BlockFile *file, guint64 len, guint64 offset)
{
    gsize allowed = 0;
    int refused = ask_hook(file, "punch", offset, &allowed);
    return refused ? refused : punch(file->fd, len, offset);
}

static int write_zeroes(const BlockFile *file, guint64 len, guint64 offset)
{
    /* Aligned for O_DIRECT; never written to. */
    static const guint8 zeroes[ZERO_BYTES] __attribute__((aligned(4096)));
    while (len > 0) {
        gsize piece = MIN(len, ZERO_BYTES);
        int r = write_all(file->fd, zeroes, piece, offset);
        if (r < 0)
            return r;
        offset += piece;
        len -= piece;
    }
    return 0;
}

int block_file_zero(const BlockFile *file, guint64 len, guint64 offset, gboolean may_punch)
{
    gsize allowed = 0;
    int refused = ask_hook(file, "zero", offset, &allowed);
    if (refused || len == 0)
        return refused;
    if (may_punch && punch(file->fd, len, offset) == 0)
        return 0;
    if (fallocate(file->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                  (off_t)len) == 0)
        return 0;
    return write_zeroes(file, len, offset);
}

int block_file_sync(const BlockFile *file)
{
    gsize allowed = 0;
    int refused = ask_hook(file, "sync", 0, &allowed);
    if (refused)
        return refused;
    return fdatasync(file->fd) < 0 ? -errno : 0;
}

int block_file_settle(const BlockFile *file, gsize len, guint64 offset)
{
    gsize allowed = len;
    int refused = ask_hook(file, "settle", offset, &allowed);
    if (refused)
        return refused;
    int flags = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    if (sync_file_range(file->fd, (off_t)offset, (off_t)len, (unsigned)flags) == 0)
        return 0;
    return errno == EIO || errno == ENOSPC || errno == EDQUOT ? -errno : -EOPNOTSUPP;
}

void block_file_forget_cache(const BlockFile *file)
{
    gsize allowed = 0;
    if (ask_hook(file, "forget", 0, &allowed) == 0)
        posix_fadvise(file->fd, 0, 0, POSIX_FADV_DONTNEED);
}

int block_file_truncate(const BlockFile *file, guint64 size)
{
    gsize allowed = 0;
    int refused = ask_hook(file, "truncate", size, &allowed);
    if (refused)
        return refused;
    return ftruncate(file->fd, (off_t)size) < 0 ? -errno : 0;
}

gboolean block_file_fail(const BlockFile *file, const char *what, int negative_errno,
                         GError **error)
{
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IO, "%s: can't %s: %s", file->name, what,
                g_strerror(-negative_errno));
    return FALSE;
}
