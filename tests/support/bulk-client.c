/* SPDX-License-Identifier: GPL-2.0-or-later */
/* See bulk-client.h. */
#include "tests/support/bulk-client.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "common/fd.h"
#include "tests/guest/pattern.h"
#include "tests/support/traffic-error.h"

#define PART_BYTES (256 * 1024)

static void init_pattern_once(void)
{
    static gsize done;

    if (g_once_init_enter(&done)) {
        pattern_init();
        g_once_init_leave(&done, 1);
    }
}

guint64 bulk_first_difference(const char *data, gsize length, guint64 offset)
{
    init_pattern_once();
    return pattern_first_difference(data, length, offset);
}

/* What recv() returned instead of bytes. */
static void set_read_error(GError **error, gssize result, const char *where, guint64 offset)
{
    if (result == 0)
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_PIPE, "%s: ended after %" G_GUINT64_FORMAT,
                    where, offset);
    else
        g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                    "%s: after %" G_GUINT64_FORMAT " bytes: %s", where, offset,
                    errno == EAGAIN ? "nothing comes any more" : g_strerror(errno));
}

static gboolean get_pattern(int fd, guint64 bytes, BulkProgress *progress, gpointer user_data,
                            GError **error)
{
    g_autofree char *buffer = g_malloc(PART_BYTES);

    for (guint64 offset = 0; offset < bytes;) {
        gssize n = recv(fd, buffer, MIN(PART_BYTES, bytes - offset), 0);
        guint64 bad;

        if (n <= 0) {
            set_read_error(error, n, "download", offset);
            return FALSE;
        }
        bad = pattern_first_difference(buffer, (gsize)n, offset);
        if (bad != UINT64_MAX) {
            g_set_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_WRONG,
                        "download: wrong byte at %" G_GUINT64_FORMAT, bad);
            return FALSE;
        }
        offset += (guint64)n;
        if (progress != NULL)
            progress((gsize)n, user_data);
    }
    return TRUE;
}

/* "ok BYTES\n", and nothing else. */
static gboolean read_receipt(int fd, guint64 bytes, GError **error)
{
    g_autofree char *expected = g_strdup_printf("ok %" G_GUINT64_FORMAT "\n", bytes);
    char answer[64] = "";
    gsize length = 0;

    while (length < sizeof(answer) - 1 && strchr(answer, '\n') == NULL) {
        gssize n = recv(fd, answer + length, sizeof(answer) - 1 - length, 0);
        if (n <= 0) {
            set_read_error(error, n, "upload: the guest's receipt", length);
            return FALSE;
        }
        length += (gsize)n;
    }
    if (strcmp(answer, expected) == 0)
        return TRUE;
    g_set_error(error, TRAFFIC_ERROR, TRAFFIC_ERROR_WRONG, "upload: the guest answered: %s",
                g_strchomp(answer));
    return FALSE;
}

static gboolean put_pattern(int fd, guint64 bytes, BulkProgress *progress, gpointer user_data,
                            GError **error)
{
    for (guint64 offset = 0; offset < bytes;) {
        gsize part;
        const char *data = pattern_at(offset, &part);
        gssize n = send(fd, data, MIN(MIN(part, PART_BYTES), bytes - offset), MSG_NOSIGNAL);

        if (n < 0) {
            g_set_error(error, G_FILE_ERROR, g_file_error_from_errno(errno),
                        "upload: after %" G_GUINT64_FORMAT " bytes: %s", offset,
                        errno == EAGAIN ? "nothing is taken any more" : g_strerror(errno));
            return FALSE;
        }
        offset += (guint64)n;
        if (progress != NULL)
            progress((gsize)n, user_data);
    }
    return read_receipt(fd, bytes, error);
}

gboolean bulk_transfer(int fd, gboolean get, guint64 bytes, BulkProgress *progress,
                       gpointer user_data, GError **error)
{
    g_autofree char *request =
        g_strdup_printf("%s %" G_GUINT64_FORMAT "\n", get ? "get" : "put", bytes);

    init_pattern_once();
    if (!colo_fd_write_all(fd, request, strlen(request), error))
        return FALSE;
    return get ? get_pattern(fd, bytes, progress, user_data, error)
               : put_pattern(fd, bytes, progress, user_data, error);
}
