/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Looks at storage that may hang for ever (a file server that is gone). A child process looks; if
 * it takes too long, it is abandoned. A thread would not do: the process could not end before it.
 */
#ifndef COLO_COMMON_BOUNDED_H
#define COLO_COMMON_BOUNDED_H

#include <glib.h>

/* Runs in the child, where of all threads only this one is: appends its findings to `output`.
 * */
typedef void (*BoundedFunc)(GString *output, gconstpointer data);

typedef enum {
    BOUNDED_DONE,
    BOUNDED_HANGS,  /* no end of it in `limit_ms`; the child is killed, and dies when it can */
    BOUNDED_FAILED, /* no child could be made, or it died: error */
} BoundedEnd;

/*
 * Appends the output of `func` to `ret_output` if the result is BOUNDED_DONE. Blocks. Only for
 * processes with one thread. Error: G_FILE_ERROR.
 */
BoundedEnd bounded_run(BoundedFunc func, gconstpointer data, guint limit_ms, GString *ret_output,
                       GError **error);

#endif
