/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which pages of the guest's RAM colod itself has written, while the guest ran: the buffers and rings
 * of its cards. What sees the writes of QEMU doesn't see these.
 *
 * A page that is written is marked after the write, and a mark is taken away before the page is copied:
 *
 *     writer: write, mark                    reader: take the mark, copy
 *
 * Both are atomic operations on one word that order all before them and after them. If the reader finds
 * the mark, the copy has what was written before it. If it comes too early, the mark stays for the next
 * reader, who copies the page again. So a write that ends before a reader begins is in that reader's
 * pages or was in another's before, and the last one has its bytes.
 *
 * Any number of threads may mark; one at a time may take.
 */
#ifndef COLO_VM_RAM_LOG_H
#define COLO_VM_RAM_LOG_H

#include <glib.h>

typedef struct RamLog RamLog;

/* None is marked of `size_bytes`, whole pages. */
RamLog *ram_log_new(guint64 size_bytes);
void ram_log_free(RamLog *log);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RamLog, ram_log_free)

/* After a write: marks the pages of `len` bytes at `offset`, which are RAM. */
void ram_log_mark(RamLog *log, guint64 offset, guint64 len);

/* `first` is a multiple of 64; bit i of `pages`: page first + i. */
typedef void (*RamLogFunc)(guint64 first, guint64 pages, gpointer user_data);

/* Takes all marks, and tells which they were. */
void ram_log_take(RamLog *log, RamLogFunc func, gpointer user_data);
/* Tells the marks among `count` pages from `first` on, and leaves them. */
void ram_log_look(const RamLog *log, guint64 first, guint64 count, RamLogFunc func,
                  gpointer user_data);

#endif
