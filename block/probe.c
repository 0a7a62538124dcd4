/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What an image looks like from outside, before anybody uses it. Opens it for reading only. */
#include "block/block.h"
#include "block/server.h"
#include "common/endian.h"
#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* QEMU's docs/interop/qcow2.txt: "QFI\xfb", then the version. */
#define QCOW2_HEADER_BYTES 8

G_GNUC_PRINTF(4, 5)
static gboolean wrong(const char *name, const char *path, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IO, "disk %s: image %s: %s", name, path, text);
    return FALSE;
}

static gboolean begins_as_qcow2(const guint8 *header, ssize_t len)
{
    guint32 version = len == QCOW2_HEADER_BYTES ? colo_get_be32(header + 4) : 0;
    return len == QCOW2_HEADER_BYTES && !memcmp(header, "QFI\xfb", 4) && version >= 2 &&
           version <= 3;
}

gboolean disk_image_check(const char *name, const char *path, const char *format, GError **error)
{
    /* Not to hang on a pipe. */
    COLO_AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) < 0)
        return wrong(name, path, error, "%s", g_strerror(errno));
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
        return wrong(name, path, error, "is neither a file nor a block device");
    guint8 header[QCOW2_HEADER_BYTES];
    ssize_t got = pread(fd, header, sizeof(header), 0);
    if (got < 0)
        return wrong(name, path, error, "%s", g_strerror(errno));
    gboolean qcow2 = begins_as_qcow2(header, got);
    gboolean raw = g_strcmp0(format, "qcow2") != 0;
    if (raw && qcow2)
        return wrong(name, path, error,
                     "is a qcow2 image, and used as a raw one it would be destroyed: write "
                     "format = qcow2 (if its guest has written what looks so itself: 'qemu-img "
                     "convert -f raw -O qcow2' it to another file, and use that)");
    if (!raw && !qcow2)
        return wrong(name, path, error,
                     "is no qcow2 image: write format = raw if it is a raw one ('qemu-img info' "
                     "tells)");
    return TRUE;
}
