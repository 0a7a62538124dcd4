/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The capture's own state, shared by capture.c (thread, checkpoints), capture-ahead.c (what is sent
 * while the VM runs), capture-output.c (from the writer to the socket) and capture-pack.c (how pages are
 * packed). */
#ifndef COLO_CHECKPOINT_CAPTURE_INTERNAL_H
#define COLO_CHECKPOINT_CAPTURE_INTERNAL_H

#include "checkpoint/base.h"
#include "checkpoint/pack-rule.h"
#include "checkpoint/stream_internal.h"

/* Bytes are given to the socket when about so many have come together. */
#define CAPTURE_CHUNK_BYTES (256u << 10)

/* A checkpoint that the owner wants taken. */
typedef struct {
    guint64 epoch;
    GBytes *device_state;
    GPtrArray *frames;  /* or NULL */
    GBytes *attachment; /* or NULL */
} TakeCommand;

/* What was seen of the link since a transfer began. */
typedef struct {
    ColoTime began; /* 0: none has */
    guint64 acked_before;
    double best; /* bytes per second */
} LinkLook;

struct Capture {
    const VmRam *ram;      /* borrowed */
    DirtyTracker *tracker; /* borrowed; the thread's alone */
    int fd;                /* borrowed */
    CaptureCallbacks callbacks;
    gpointer user_data;
    Mailbox *mailbox;
    GThread *thread;
    int wake; /* eventfd: a command is waiting */

    /* Commands, under lock. */
    GMutex lock;
    gboolean quit;
    gboolean want_sync;
    guint64 pause_pages;
    ColoTime start; /* of the synchronisation, at the earliest */
    TakeCommand *take;
    PageSet *added; /* by capture_add_pages(), for the next checkpoint */
    CaptureTuning tuning;

    guint64 dirty_now;    /* atomic */
    guint64 dirty_limit;  /* atomic; 0: none */
    guint64 sync_rate;    /* atomic; bytes per second of a synchronisation; 0: any */
    gboolean awaits_base; /* atomic */
    CapturePack packing;  /* atomic */

    /* The thread's own. Each page is in `pending` or `fresh`, or is unchanged since it was last
     * written to the stream, or was written after the last harvest (the tracker knows). */
    StreamWriter *writer;
    Base *base;       /* until the first checkpoint: what needs not be sent */
    gsize out_sent;   /* bytes of the writer's that the socket has taken */
    PageSet *pending; /* to be sent */
    PageSet *fresh;   /* harvested by the last round, to be sent by the next or the pause */
    PageSet *copied;  /* by the checkpoint at hand; the n-th page is in staging slot n */
    PageSet *look;    /* scratch */
    PageSet *touched; /* pages that colod's own mapping has mapped: data, no fault */
    Arena staging;
    guint64 staging_peak; /* slots; falls slowly */
    gboolean synchronised;
    gboolean is_over_limit; /* dirty_now, as of the last look */
    ColoTime next_look, next_round;
    gint64 round_gap_us;
    CaptureStats stats; /* of the checkpoint to come */
    PackRule pack_rule;
    LinkLook link_look;
    gboolean no_tcp; /* the socket's kernel doesn't tell the link's rate */

    /* The owner's. */
    gboolean busy; /* from capture_take() until sent() */
    guint64 last_epoch;
};

/* What a step of the thread came to. */
typedef enum {
    FLOW_OK,
    FLOW_COMMAND, /* broken off: a command is waiting; can be taken up again */
    FLOW_FAILED,  /* the error is set, or not if it is because of quit */
} Flow;

/* capture.c */
gboolean capture_command_waiting(Capture *capture);
CaptureTuning capture_tuning(Capture *capture);
void capture_post_progress(Capture *capture, const SyncProgress *progress, gboolean done);
void capture_post_dirty_limit(Capture *capture);

/*
 * Whether `page` can be read through colod's mapping without filling a hole; if so, reading it does
 * not fault a second time.
 */
gboolean capture_touch(Capture *capture, guint64 page);

/* capture-output.c: gives what the writer holds to the socket. */
Flow capture_flush(Capture *capture, gboolean interruptible, GError **error);
/* Waits for a command, at most `timeout_us` (-1: for ever), and forgets that it was told. */
void capture_wait(Capture *capture, gint64 timeout_us);

/*
 * capture-pack.c: how the next pages are packed. `begins`: they are the first after a break. `may_probe`: no
 * pause can meet what packing them takes.
 */
void capture_choose_packing(Capture *capture, gboolean begins, gboolean may_probe);
/* The socket has taken bytes as fast as it can. */
void capture_note_drain(Capture *capture, guint64 bytes, gint64 us);

/* capture-output.c: a StreamSource of what the other side sends; `opaque` is the capture. */
gssize capture_receive(gpointer opaque, guint8 *buf, gsize len, GError **error);

/* capture-ahead.c */
/* Reads the other side's base, then rounds over all RAM until what is left fits the pause. */
Flow capture_synchronise_run(Capture *capture, guint64 pause_pages, GError **error);
/* Looks and sends ahead if it is time. */
Flow capture_idle_step(Capture *capture, GError **error);
/* Has capture_dirty_pages() answer `pages`, and tells the owner if that reaches the limit. */
void capture_note_dirty(Capture *c, guint64 pages);

/* Brings capture_dirty_pages() up to date if it is time. */
gboolean capture_look(Capture *capture, GError **error);
/* How long there is nothing to do, in microseconds. */
gint64 capture_idle_us(const Capture *capture);
/* A checkpoint has been copied: starts over. */
void capture_ahead_reset(Capture *capture);

#endif
