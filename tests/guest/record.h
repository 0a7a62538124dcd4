/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the guest writes to its disk, as a function of a number, so that the guest's program and
 * whoever looks at the disk afterwards agree. Record N is a line of the log and the contents of the
 * file "file-K", K = N modulo RECORD_FILES, which it replaces.
 */
#ifndef COLO_TESTS_GUEST_RECORD_H
#define COLO_TESTS_GUEST_RECORD_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#define RECORD_LINE_BYTES 128u
#define RECORD_FILES      16u
#define RECORD_FILE_MAX   (32u * 1024)

/* splitmix64: different bytes everywhere for every number. */
static inline uint64_t record_mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static inline void record_line(uint64_t number, char line[RECORD_LINE_BYTES])
{
    memset(line, '.', RECORD_LINE_BYTES);
    int len = snprintf(line, RECORD_LINE_BYTES, "%020llu %016llx", (unsigned long long)number,
                       (unsigned long long)record_mix(number));
    line[len] = ' ';
    line[RECORD_LINE_BYTES - 1] = '\n';
}

/* Fills the file of record `number`; returns its length, 1 KiB to RECORD_FILE_MAX. */
static inline size_t record_file(uint64_t number, uint64_t contents[RECORD_FILE_MAX / 8])
{
    size_t words = (size_t)(1 + record_mix(number) % 32) * 128;

    for (size_t i = 0; i < words; i++)
        contents[i] = record_mix(number ^ record_mix(i));
    return words * 8;
}

#endif
