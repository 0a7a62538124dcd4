/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeps both VMs' last output, and writes to a file what a divergence was about: for `colo
 * capture`. One file for each of the last divergences, with an interface for each VM and card, and
 * comments that tell what was found and where. Without recording there is no Recorder: NULL.
 *
 * FILE is /folder/name.pcapng; the files are /folder/name-000001.pcapng and on, continuing after
 * the highest number there is. Those older than the last `last` ones are removed.
 *
 * Bounds: the newest RECORDER_KEPT_BYTES and _FRAMES of output are kept (references to frames). A
 * file has at most RECORDER_FILE_BYTES of frames, the newest of those. Of divergences that come
 * faster than files can be written some are left out.
 *
 * Threads: all calls, and the callback, on one thread and its default GMainContext. Files are
 * written by a thread of their own: nothing blocks but recorder_new(), which looks at the folder.
 */
#ifndef COLO_NETCOMPARE_RECORDER_H
#define COLO_NETCOMPARE_RECORDER_H

#include "netcompare/compare.h"

#define RECORDER_ERROR recorder_error_quark()
GQuark recorder_error_quark(void);

typedef enum {
    RECORDER_ERROR_PATH,  /* no place for files */
    RECORDER_ERROR_WRITE, /* a file can't be written */
} RecorderError;

#define RECORDER_KEPT_BYTES   ((gsize)16 << 20)
#define RECORDER_KEPT_FRAMES  16384u
#define RECORDER_FILE_BYTES   ((gsize)4 << 20)
#define RECORDER_LAST_DEFAULT 10u
#define RECORDER_LAST_MAX     10000u

typedef struct Recorder Recorder;

/*
 * A file was written (`path`, borrowed), or (`error`, and `path` NULL) can't be: nothing more will
 * be. It may free the recorder.
 */
typedef void (*RecorderFunc)(const char *path, const GError *error, gpointer user_data);

/* `file` is an absolute path, to which ".pcapng" is added if it is missing; `last` at least 1. */
Recorder *recorder_new(const char *file, guint last, RecorderFunc written, gpointer user_data,
                       GError **error);
/* A file that is being written is finished; `written` is not called any more. */
void recorder_free(Recorder *recorder);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Recorder, recorder_free)

const char *recorder_file(const Recorder *recorder);
guint recorder_last(const Recorder *recorder);

/* The PVM, the SVM has sent `frame` (with its virtio-net header; a reference is taken). */
void recorder_primary(Recorder *recorder, unsigned nic, guint64 epoch, GBytes *frame, ColoTime now);
void recorder_secondary(Recorder *recorder, unsigned nic, guint64 epoch, GBytes *frame,
                        ColoTime now);

/* The file is written at the next recorder_flush(), with what follows until then. */
void recorder_diverged(Recorder *recorder, const CompareDivergence *divergence);
/* A checkpoint has made the VMs equal again, or comparing has ended. */
void recorder_flush(Recorder *recorder);

typedef struct {
    guint64 written, left_out; /* files; divergences without one */
} RecorderStats;
const RecorderStats *recorder_stats(const Recorder *recorder);

#endif
