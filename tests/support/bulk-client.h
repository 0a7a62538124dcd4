/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One bulk transfer from or to the test guest, of the pattern (tests/guest/pattern.h), checked. */
#ifndef COLO_TESTS_SUPPORT_BULK_CLIENT_H
#define COLO_TESTS_SUPPORT_BULK_CLIENT_H

#include <glib.h>

#define BULK_PORT 7002

/* Told of each part that has come, or that the kernel has taken; may wait, to slow the transfer. */
typedef void BulkProgress(gsize bytes, gpointer user_data);

/*
 * Gets `bytes` from the guest or puts them there, over a blocking connection to BULK_PORT, which
 * may have timeouts (SO_RCVTIMEO, SO_SNDTIMEO). FALSE with TRAFFIC_ERROR_WRONG if a byte is wrong,
 * with G_FILE_ERROR if the connection broke. Blocks.
 */
gboolean bulk_transfer(int fd, gboolean get, guint64 bytes, BulkProgress *progress,
                       gpointer user_data, GError **error);

/* Stream offset of the first byte that is not the pattern's, UINT64_MAX if there is none, in a part
 * that begins at `offset`. */
guint64 bulk_first_difference(const char *data, gsize length, guint64 offset);

#endif
