/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Does I/O on a whole disk, past the guest's cache, and tells how quick it was. */
#ifndef COLO_TESTS_GUEST_DISKIO_H
#define COLO_TESTS_GUEST_DISKIO_H

#include <stddef.h>

/*
 * Carries out "DEVICE KIND BYTES THREADS SYNC MILLISECONDS OPERATIONS":
 *
 * - DEVICE in /dev; it must not be mounted, and what is on it is overwritten.
 * - KIND: read or write (one block after another, from the disk's beginning), randread, randwrite,
 *   sync (each request is an fsync).
 * - BYTES of one request, a multiple of 512.
 * - THREADS that each have one request on its way; at most 16.
 * - SYNC: each thread's fsync after so many of its writes; 0: never.
 * - It ends after so many MILLISECONDS or OPERATIONS; 0: no such limit.
 *
 * Each write differs from all before. The answer is "ok ops=N bytes=N us=N", or "failed WHAT: WHY".
 * One at a time; takes as long as it was told.
 */
void diskio_run(const char *order, char *answer, size_t answer_bytes);

#endif
