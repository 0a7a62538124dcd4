/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A journal that some process left, any bytes: it is refused, or it can be applied without leaving
 * the disk. The checksums are made right for most inputs, to get behind them.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "block/stage.h"
#include "common/endian.h"

#define DISK_BYTES 300000u
#define HEADER     4096u

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

/* Writes the input as header fields and log; a first byte below 200 asks for right checksums. */
static void write_journal(int fd, const guint8 *data, gsize size)
{
    guint8 header[HEADER] = "COLOJRNL";
    gboolean resign = size > 0 && data[0] < 200;
    gsize in_header = MIN(size, 64), log_len = size - in_header;
    const guint8 *log = data + in_header;
    memcpy(header + 8, data, in_header);
    if (resign) {
        colo_put_be32(header + 8, 1);
        colo_put_be64(header + 40, DISK_BYTES);
        colo_put_be64(header + 48, log_len);
        colo_put_be64(header + 56, XXH3_64bits(log, log_len));
        colo_put_be64(header + 64, XXH3_64bits(header, 64));
    }
    g_assert(ftruncate(fd, 0) == 0);
    g_assert(pwrite(fd, header, HEADER, 0) == HEADER);
    g_assert(pwrite(fd, log, log_len, HEADER) == (gssize)log_len);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    static int journal_fd = -1, image_fd = -1;
    if (journal_fd < 0) {
        journal_fd = memfd_create("journal", 0);
        image_fd = memfd_create("image", 0);
    }
    write_journal(journal_fd, data, size);
    g_assert(ftruncate(image_fd, 0) == 0 && ftruncate(image_fd, DISK_BYTES) == 0);
    DiskSetOptions options = {0};
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", journal_fd);
    Stage stage;
    g_assert(stage_open(&stage, path, DISK_BYTES, &options, NULL));
    Image image = {
        .file = {.fd = image_fd, .name = g_strdup("image")},
          .size = DISK_BYTES
    };
    g_assert(stage_load(&stage, NULL));
    if (stage.sealed)
        g_assert(stage_apply(&stage, &image, NULL, NULL, NULL));
    g_assert(lseek(image_fd, 0, SEEK_END) == DISK_BYTES);
    g_free(image.file.name);
    stage_close(&stage);
    return 0;
}
