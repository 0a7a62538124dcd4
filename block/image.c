/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/image.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

/*
 * QEMU's image locking (block/file-posix.c of QEMU 2.10 and later): each permission is a byte. Who
 * uses one holds a shared OFD lock on 100 + its number, who doesn't let others use it one on 200 +
 * its number. Before, one tests that nobody holds the opposite byte.
 */
enum { LOCK_USED = 100, LOCK_NOT_SHARED = 200 };
enum { PERM_CONSISTENT_READ = 0, PERM_WRITE = 1, PERM_WRITE_UNCHANGED = 2, PERM_RESIZE = 3 };

static gboolean lock_byte(const Image *image, int byte, GError **error)
{
    struct flock lock = {.l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    if (fcntl(image->file.fd, F_OFD_SETLK, &lock) == 0)
        return TRUE;
    int saved = errno;
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_LOCKED, "image %s can't be locked: %s (%s)",
                image->path, g_strerror(saved), "is another process using it?");
    return FALSE;
}

static gboolean test_byte(const Image *image, int byte, const char *what, GError **error)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    if (fcntl(image->file.fd, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_UNLCK)
        return TRUE;
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_LOCKED,
                "image %s is locked by another process, which %s (is a VM or qemu-img still "
                "using it?)",
                image->path, what);
    return FALSE;
}

/* We read and write, and let nobody else write, resize or count on unchanging contents. */
static gboolean lock_image(const Image *image, GError **error)
{
    return lock_byte(image, LOCK_USED + PERM_CONSISTENT_READ, error) &&
           lock_byte(image, LOCK_USED + PERM_WRITE, error) &&
           lock_byte(image, LOCK_NOT_SHARED + PERM_WRITE, error) &&
           lock_byte(image, LOCK_NOT_SHARED + PERM_WRITE_UNCHANGED, error) &&
           lock_byte(image, LOCK_NOT_SHARED + PERM_RESIZE, error) &&
           test_byte(image, LOCK_NOT_SHARED + PERM_CONSISTENT_READ, "lets nobody read it", error) &&
           test_byte(image, LOCK_NOT_SHARED + PERM_WRITE, "lets nobody write to it", error) &&
           test_byte(image, LOCK_USED + PERM_WRITE, "writes to it", error) &&
           test_byte(image, LOCK_USED + PERM_WRITE_UNCHANGED, "rewrites it", error) &&
           test_byte(image, LOCK_USED + PERM_RESIZE, "resizes it", error);
}

static gboolean measure(Image *image, GError **error)
{
    struct stat st;
    off_t end = lseek(image->file.fd, 0, SEEK_END);
    if (end < 0 || fstat(image->file.fd, &st) < 0)
        return block_file_fail(&image->file, "find its size", -errno, error);
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_CONFIG,
                    "%s is neither a regular file nor a block device", image->path);
        return FALSE;
    }
    image->size = (guint64)end;
    if (image->file.direct && image->size % IMAGE_BLOCK) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_CONFIG,
                    "image %s has %" G_GUINT64_FORMAT " bytes: O_DIRECT needs a multiple of %u "
                    "(resize it or use the page cache)",
                    image->path, image->size, IMAGE_BLOCK);
        return FALSE;
    }
    return TRUE;
}

gboolean image_open(Image *image, const DiskConfig *config, const DiskSetOptions *options,
                    GError **error)
{
    *image = (Image){.file = BLOCK_FILE_NONE, .path = g_strdup(config->path)};
    if (block_file_open(&image->file, config->path, FALSE, config->direct, options, error) &&
        measure(image, error) && lock_image(image, error))
        return TRUE;
    image_close(image);
    return FALSE;
}

void image_close(Image *image)
{
    block_file_close(&image->file);
    g_clear_pointer(&image->path, g_free);
}

static guint64 align_down(guint64 at)
{
    return at / IMAGE_BLOCK * IMAGE_BLOCK;
}

static guint64 align_up(guint64 at)
{
    return align_down(at + IMAGE_BLOCK - 1);
}

static gboolean is_aligned(const void *buf, gsize len, guint64 offset)
{
    return ((guintptr)buf | len | offset) % IMAGE_BLOCK == 0;
}

static guint8 *bounce_new(gsize len)
{
    void *buf = NULL;
    return posix_memalign(&buf, IMAGE_BLOCK, len) == 0 ? buf : NULL;
}

int image_read(const Image *image, void *buf, gsize len, guint64 offset)
{
    if (!image->file.direct || is_aligned(buf, len, offset))
        return block_file_read(&image->file, buf, len, offset);
    guint64 start = align_down(offset);
    gsize whole = (gsize)(align_up(offset + len) - start);
    guint8 *bounce = bounce_new(whole);
    if (!bounce)
        return -ENOMEM;
    int r = block_file_read(&image->file, bounce, whole, start);
    if (r == 0)
        memcpy(buf, bounce + (offset - start), len);
    free(bounce);
    return r;
}

/* O_DIRECT: reads the blocks at both ends, merges `buf` in and writes whole blocks. */
static int write_bounced(const Image *image, const void *buf, gsize len, guint64 offset)
{
    guint64 start = align_down(offset), end = align_up(offset + len);
    guint8 *bounce = bounce_new((gsize)(end - start));
    if (!bounce)
        return -ENOMEM;
    int r = 0;
    if (start < offset)
        r = block_file_read(&image->file, bounce, IMAGE_BLOCK, start);
    if (r == 0 && offset + len < end && (end - start > IMAGE_BLOCK || start == offset))
        r = block_file_read(&image->file, bounce + (end - start) - IMAGE_BLOCK, IMAGE_BLOCK,
                            end - IMAGE_BLOCK);
    if (r == 0) {
        memcpy(bounce + (offset - start), buf, len);
        r = block_file_write(&image->file, bounce, (gsize)(end - start), start);
    }
    free(bounce);
    return r;
}

int image_write(const Image *image, const void *buf, gsize len, guint64 offset)
{
    if (image->file.direct && !is_aligned(buf, len, offset))
        return write_bounced(image, buf, len, offset);
    return block_file_write(&image->file, buf, len, offset);
}

/* The ends of a range that O_DIRECT can't reach are written, at most one block each. */
static int zero_edge(const Image *image, guint64 from, guint64 to)
{
    static const guint8 zeroes[IMAGE_BLOCK];
    return to > from ? image_write(image, zeroes, (gsize)(to - from), from) : 0;
}

int image_zero(const Image *image, guint64 len, guint64 offset, gboolean may_punch)
{
    if (!image->file.direct)
        return block_file_zero(&image->file, len, offset, may_punch);
    guint64 end = offset + len, start = MIN(align_up(offset), end);
    guint64 stop = MAX(align_down(end), start);
    int r = zero_edge(image, offset, start);
    if (r == 0 && stop > start)
        r = block_file_zero(&image->file, stop - start, start, may_punch);
    return r == 0 ? zero_edge(image, stop, end) : r;
}

int image_punch(const Image *image, guint64 len, guint64 offset)
{
    return block_file_punch(&image->file, len, offset);
}

static void note_sync_error(Image *image, int r)
{
    if (g_atomic_int_compare_and_exchange(&image->sync_error, 0, r) && image->sync_failed)
        image->sync_failed(image->sync_failed_data);
}

int image_sync(Image *image)
{
    int r = g_atomic_int_get(&image->sync_error);
    if (r == 0) {
        r = block_file_sync(&image->file);
        if (r < 0)
            note_sync_error(image, r);
    }
    return r;
}

void image_settle(Image *image, gsize len, guint64 offset)
{
    int r = block_file_settle(&image->file, len, offset);
    if (r == -EOPNOTSUPP)
        image_sync(image);
    else if (r < 0)
        note_sync_error(image, r);
}

void image_forget_cache(const Image *image)
{
    block_file_forget_cache(&image->file);
}

guint64 image_stamp(const Image *image)
{
    struct stat st;
    if (fstat(image->file.fd, &st) < 0 || !S_ISREG(st.st_mode))
        return 1;
    const guint64 what[] = {st.st_ino, (guint64)st.st_mtim.tv_sec, (guint64)st.st_mtim.tv_nsec,
                            (guint64)st.st_ctim.tv_sec, (guint64)st.st_ctim.tv_nsec};
    return XXH3_64bits(what, sizeof(what)) | 1;
}

int image_extent(const Image *image, guint64 offset, guint64 len, guint64 *ret_len,
                 gboolean *ret_hole)
{
    off_t data = lseek(image->file.fd, (off_t)offset, SEEK_DATA);
    if (data < 0 && errno == ENXIO)
        data = (off_t)(offset + len);
    if (data < 0) {
        /* No such knowledge here: all of it may be data. */
        *ret_len = len;
        *ret_hole = FALSE;
        return 0;
    }
    if ((guint64)data > offset) {
        *ret_len = MIN(len, (guint64)data - offset);
        *ret_hole = TRUE;
        return 0;
    }
    off_t hole = lseek(image->file.fd, (off_t)offset, SEEK_HOLE);
    *ret_len = hole > (off_t)offset ? MIN(len, (guint64)hole - offset) : len;
    *ret_hole = FALSE;
    return 0;
}
