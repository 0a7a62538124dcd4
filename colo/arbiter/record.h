/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is on record of a VM (pure: text and decisions): who runs it, or that nobody does and who
 * was the last to. From its first start on a VM has a record for ever.
 *
 *     colo owner 2
 *     owner alpha, or -            -: nobody runs it
 *     session 0011..., or -        where a decision may tell otherwise
 *     writer alpha                 who wrote to its disks last
 *     generation 0123456789abcdef, or -
 *     epoch 17                     of the last mark, when nobody runs it
 *     in-step beta, or -           whose disks are the same, when nobody runs it
 *     at 2026-01-01T00:00:00Z
 *
 * While nobody runs it the session is a random one, and who decides it has the VM. Version 1 had
 * only the lines owner, session and at.
 */
#ifndef COLO_COLO_ARBITER_RECORD_H
#define COLO_COLO_ARBITER_RECORD_H

#include "block/generation.h"

typedef struct {
    gboolean rests;     /* nobody runs the VM */
    char *writer;       /* who runs it, or was the last to */
    char *session;      /* NULL: none */
    guint64 generation; /* of the writer's disks, when this was written; 0: none */
    guint64 epoch;
    char *in_step; /* NULL: nobody */
} ArbiterRecord;

void arbiter_record_clear(ArbiterRecord *record);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(ArbiterRecord, arbiter_record_clear)

/* FALSE: that is no record. */
gboolean arbiter_record_parse(const char *text, gsize len, ArbiterRecord *ret_record);
/* `when` is for people. To be freed. */
char *arbiter_record_text(const ArbiterRecord *record, const char *when);

/* What a node that wants to start the VM has. */
typedef struct {
    gboolean has_disks; /* else there is nothing to be old */
    gboolean chosen;    /* an administrator has made this node the primary */
    Generation generation;
} ArbiterStake;

/*
 * May the VM run from these disks of node `who`? `record` NULL: nothing is on record. `owns`: the
 * VM is this node's by a decision or the record, so it may have written to them. FALSE with
 * ARBITER_ERROR_DISKS, which names whose disks count and what can be done.
 */
gboolean arbiter_stake_is_good(const ArbiterStake *stake, const ArbiterRecord *record,
                               const char *who, gboolean owns, GError **error);

#endif
