/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reader of what a secondary tells of its RAM, of 64 pages. Input: one byte of mode, then the
 * base. With bit 0 of the mode set, its last 8 bytes are made the hash of those before, so that
 * mutations get past it.
 *
 * Besides not crashing, a base that is accepted is read to its end and not further, and holds no
 * more pages than RAM has.
 */
#include <stdint.h>
#include <string.h>
#include <xxhash.h>

#include "checkpoint/base.h"
#include "common/endian.h"
#include "tests/support/bytes-reader.h"

#define PAGES 64u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const guint8 page[VM_PAGE_SIZE];
    if (size < 10 || size > 65536)
        return 0;
    gsize len = size - 1;
    g_autofree guint8 *bytes = g_memdup2(data + 1, len);
    if (data[0] & 1)
        colo_put_be64(bytes + len - 8, XXH3_64bits(bytes, len - 8));
    BytesReader from = {.bytes = bytes, .len = len};
    g_autoptr(GError) error = NULL;
    g_autoptr(Base) base = base_receive(PAGES, bytes_reader_read, &from, &error);
    g_assert(!base == (error != NULL));
    if (!base)
        return 0;
    g_assert(base_count(base) <= PAGES);
    /* The hash is behind the empty run. */
    g_assert(from.at >= 24 && colo_get_be32(bytes + from.at - 16) == 0);
    for (guint64 i = 0; i < PAGES; i++)
        base_holds(base, i, page);
    return 0;
}
