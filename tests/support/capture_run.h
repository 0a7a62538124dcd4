/* SPDX-License-Identifier: GPL-2.0-or-later */
/* colo-compare on two captures made of frame specs. */
#ifndef COLO_TESTS_CAPTURE_RUN_H
#define COLO_TESTS_CAPTURE_RUN_H

#include <glib.h>
#include <json-c/json.h>

#include "tests/support/netframe.h"

#define CAPTURE_SECOND G_GINT64_CONSTANT(1700000000) /* of the first frame */

typedef struct {
    char *dir, *primary, *secondary;
    char *out, *err;
    int status;
} Run;

Run *run_new(void);
void run_free(Run *run);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Run, run_free)

/* Writes a capture of Ethernet frames, a millisecond apart. */
void capture(const char *path, const FrameSpec *specs, guint n);
/* Likewise from `start_us` on, `gap_us` apart, each cut at `snaplen` bytes; 0: none. */
typedef struct {
    gint64 start_us, gap_us;
    guint snaplen;
    int link; /* 0: Ethernet */
} CaptureStyle;
void capture_styled(const char *path, const CaptureStyle *style, const FrameSpec *specs, guint n);
void capture_raw(const char *path, const CaptureStyle *style, GBytes *const *frames, guint n);

/* The guest's segment, 10.0.0.2:80 -> 10.0.0.1:4711, that acknowledges 9. */
FrameSpec capture_tcp(guint8 flags, guint32 seq, const char *text);
/* Its datagram, from and to other ports. */
FrameSpec capture_udp(const void *data, gsize len);

/* One VM's connection each: with its own initial sequence number and its own cuts. */
void capture_two(Run *run, const char *second_answer);
/* What `colo capture` writes: both VMs in one file, of two cards with the same flow. */
void capture_both(const Run *run, const char *second_answer);

/* `option` and `value`, if not NULL, come first. `secondary` NULL: one capture of both. */
void run_it(Run *run, const char *option, const char *value);
/* A shell's command line: $TOOL, $P and $S are the program and the captures. */
void run_shell(Run *run, const char *command);

void assert_out(const Run *run, const char *part);
void assert_err(const Run *run, const char *part);
void assert_status(const Run *run, int status);
/* Exit status 2, and this is said. */
void assert_bad(Run *run, const char *option, const char *value, const char *message);

json_object *json_member(json_object *object, const char *name);
/* The last line that was printed; the caller puts it. */
json_object *json_summary(Run *run);
void assert_json_pair(json_object *summary, const char *name, int primary, int secondary);

#endif
