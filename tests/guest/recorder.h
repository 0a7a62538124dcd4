/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Writes records (record.h) to the folder /data, each durable before it is acknowledged. */
#ifndef COLO_TESTS_GUEST_RECORDER_H
#define COLO_TESTS_GUEST_RECORDER_H

/*
 * Serves a connection: "commit NUMBER\n" writes that record and is answered "ok NUMBER\n" once it
 * is on the disk, or "failed WHAT: WHY\n". One connection at a time.
 */
void recorder_serve(int fd);

/*
 * Unmounts /data; if nothing is mounted there (any more), the root file system becomes read-only.
 * NULL or why not.
 */
const char *recorder_unmount(void);

#endif
