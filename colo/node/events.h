/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which event a lost link, a message or the end of a load is. These are the cases that the table of
 * fsm.h can't decide, because more than the state counts. Pure: facts in, an event out.
 */
#ifndef COLO_COLO_NODE_EVENTS_H
#define COLO_COLO_NODE_EVENTS_H

#include "colo/node/copy-next.h"
#include "colo/node/fsm.h"

/* What the node wants of its copy. `is_undecided`: nobody could say who continues. */
CopyDuty events_copy_duty(FsmState state, gboolean is_undecided);

/*
 * The link is lost. A secondary whose copy is invalid can't continue. It leaves the VM to the
 * primary, and doesn't take the arbiter's yes from it.
 */
FsmEvent events_link_lost(FsmState state, gboolean copy_is_valid);

/* The arbiter is to be asked. */
typedef enum {
    EVENTS_ASK_NOW,
    EVENTS_ASK_WAITS,  /* a load is under way: only its end shows whether to; ASK_AGAIN then */
    EVENTS_ASK_LEAVES, /* this side can't continue: its yes must not be the primary's no; INVALID */
} EventsAsk;

/* A side whose peer has yielded has no other side to leave the VM to. */
EventsAsk events_ask(FsmState state, CopyCondition condition, gboolean peer_has_yielded);

/* The primary continues without this side. */
FsmEvent events_unfit(gboolean copy_is_valid);
/* The peer fails, or ends on purpose. `doubted`: it may have the arbiter's yes for all that. */
FsmEvent events_peer_ends(FsmEvent event, gboolean doubted);
/* The secondary's administrator wants the VM there. That may cross with our own going. */
gboolean events_takes_yield(FsmState state, gboolean copy_is_fit);

/* LEAVE: of a secondary it is the question whether it may, of a primary that it may. */
typedef enum {
    EVENTS_LEAVE_NOTHING, /* it is busy with more, and is asked again */
    EVENTS_LEAVE_MAY,     /* the VM here is well: reports that */
    EVENTS_LEAVE_GOES,    /* RECYCLE */
} EventsLeave;

/* `leaving`: it has asked. `may_do_without`: a primary can do without its secondary. */
EventsLeave events_leave(FsmState state, gboolean leaving, gboolean may_do_without);

/* Of a VM that is being ended on purpose, on both sides (final.c): other ends count as that. */
FsmEvent events_final(FsmState state, gboolean final, FsmEvent event);

#endif
