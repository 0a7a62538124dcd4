/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's part that knows what its disks hold (block/generation.h), and sees to it that this is
 * true before the VM writes to them.
 *
 * It owns the look at the disks, which a thread takes, and the generation that the VM runs on. It
 * has no disk server and no arbiter: it orders and reports by its handler.
 *
 * Always holds: a VM with disks that is started runs only after a write-alone was answered
 * (HoldingsHandler.runs). For one that is taken over, the takeover of its disks is that.
 *
 * All of it but the look runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_HOLDINGS_H
#define COLO_COLO_NODE_HOLDINGS_H

#include "block/block.h"
#include "colo/config/config.h"
#include "colo/node/fsm.h"

#include <json-c/json.h>

typedef struct Holdings Holdings;

/* Called on the main loop, also from within the functions below. */
typedef struct {
    FsmState (*state)(gpointer user_data);
    /* There is a disk server: of a VM with disks, as long as the VM. */
    gboolean (*has_disks)(gpointer user_data);
    /* What the disks hold: the VM can be claimed. NULL: there are none. */
    void (*claim)(const Generation *generation, gpointer user_data);
    /* The VM can't be started here. */
    void (*lost)(const char *what, const GError *error, gpointer user_data);
    void (*trouble)(const char *what, const GError *error, gpointer user_data);
    /*
     * The disks are to draw a new generation if others may have theirs. Then holdings_started() or
     * holdings_written(), in the same way.
     */
    void (*write_alone)(gboolean starts, gpointer user_data);
    /* The VM can run. */
    void (*runs)(gpointer user_data);
    /* The disks that the VM runs on have this generation from now on. */
    void (*changed)(guint64 generation, gpointer user_data);
} HoldingsHandler;

/* A disk as it is configured; its strings are borrowed. */
DiskConfig holdings_disk(const Config *config, guint index);

/* `config` is borrowed. */
Holdings *holdings_new(const Config *config, const HoldingsHandler *handler, gpointer user_data);
/* A look that is under way reports nothing any more. */
void holdings_free(Holdings *holdings);

/* Looks at the disks: then `claim`, or the VM is lost. */
void holdings_look(Holdings *holdings);
/* A VM is about to be started, which has not run yet. */
void holdings_begin(Holdings *holdings);
/* The VM is about to run here: then `runs`, or the VM is lost. */
void holdings_begin_run(Holdings *holdings);
/* Its output leaves from here from now on: it was taken over. */
void holdings_taken_over(Holdings *holdings);
/* It continues without a peer. */
void holdings_continue_alone(Holdings *holdings);
/* How a write-alone has ended: of holdings_begin_run(), of holdings_continue_alone(). */
void holdings_started(Holdings *holdings, json_object *result, const GError *error);
void holdings_written(Holdings *holdings, json_object *result, const GError *error);
/* A result of the disk server names the generation. */
void holdings_note(Holdings *holdings, json_object *result);
/* Before the disks are freed. */
void holdings_forget(Holdings *holdings);

/* Of the disks that the VM runs on; 0: none. */
guint64 holdings_generation(const Holdings *holdings);
/* This node has run the VM, since that was started. */
gboolean holdings_have_run(const Holdings *holdings);

#endif
