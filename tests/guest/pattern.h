/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes that bulk transfers carry: a fixed pseudo-random sequence that repeats after a prime
 * number of bytes. So a byte that is lost, doubled or moved shows. To make and check it costs no
 * more than a copy. Shared by the guest and the clients; header only because the guest's program is
 * built on its own.
 */
#ifndef COLO_TESTS_GUEST_PATTERN_H
#define COLO_TESTS_GUEST_PATTERN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define PATTERN_PERIOD_BYTES 1048573u

static char pattern_bytes[PATTERN_PERIOD_BYTES];

/* Call once, before anything else here. */
static inline void pattern_init(void)
{
    uint64_t state = 0x9e3779b97f4a7c15u;

    for (size_t i = 0; i < PATTERN_PERIOD_BYTES; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        pattern_bytes[i] = (char)(state >> 32);
    }
}

/* The pattern from stream offset `offset` on; `ret_length`: bytes there before it wraps. */
static inline const char *pattern_at(uint64_t offset, size_t *ret_length)
{
    size_t start = (size_t)(offset % PATTERN_PERIOD_BYTES);

    *ret_length = PATTERN_PERIOD_BYTES - start;
    return pattern_bytes + start;
}

/* Stream offset of the first byte that is not the pattern's, UINT64_MAX if there is none. */
static inline uint64_t pattern_first_difference(const char *data, size_t length, uint64_t offset)
{
    while (length > 0) {
        size_t part;
        const char *expected = pattern_at(offset, &part);

        if (part > length)
            part = length;
        if (memcmp(data, expected, part) != 0) {
            size_t i = 0;
            while (data[i] == expected[i])
                i++;
            return offset + i;
        }
        data += part;
        length -= part;
        offset += part;
    }
    return UINT64_MAX;
}

#endif
