/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/cycle.h"

/* Loads that the secondary shows before protection is claimed: some devices break on the second. */
#define LOADS_MIN 2

#define DO(action) (1u << CYCLE_DO_##action)
#define TO(next, actions)                                                                          \
    {                                                                                              \
        TRUE, CYCLE_##next, (actions)                                                              \
    }
/* Nothing is to be done. */
#define STAY(phase) TO(phase, 0)
/* Of a VM that runs, or is still being paused or resumed: it runs when that is done. */
#define RESUME_LATER(phase) [CYCLE_EVENT_RESUME] = STAY(phase)
#define GONE                [CYCLE_EVENT_VM_GONE] = TO(IDLE, 0)
#define CUT_OFF             [CYCLE_EVENT_SESSION_ENDED] = TO(IDLE, DO(GIVE_INPUT) | DO(LOOK))

/* clang-format off */
static const CycleStep table[CYCLE_PHASES][CYCLE_EVENTS] = {
    [CYCLE_IDLE] = {
        RESUME_LATER(IDLE), GONE,
        [CYCLE_EVENT_START]         = TO(RESUMING, DO(START)),
        [CYCLE_EVENT_CONTINUE]      = TO(RESUMING, DO(RESUME)),
        [CYCLE_EVENT_DUE]           = TO(SYNCING, DO(SYNC)),
        [CYCLE_EVENT_STOP]          = TO(STOP_SETTLING, DO(SETTLE)),
        [CYCLE_EVENT_SESSION_ENDED] = STAY(IDLE),
    },
    [CYCLE_SYNCING] = {
        RESUME_LATER(SYNCING), GONE, CUT_OFF,
        [CYCLE_EVENT_SYNCED]        = TO(PREPARING, DO(PREPARE)),
        [CYCLE_EVENT_NOT_SYNCED]    = TO(IDLE, DO(LOOK)),
    },
    [CYCLE_PREPARING] = {
        RESUME_LATER(PREPARING), GONE, CUT_OFF,
        [CYCLE_EVENT_PREPARED]      = TO(SETTLING, DO(SETTLE)),
    },
    [CYCLE_SETTLING] = {
        RESUME_LATER(SETTLING), GONE, CUT_OFF,
        [CYCLE_EVENT_SETTLED]       = TO(PAUSING, DO(PAUSE)),
    },
    [CYCLE_PAUSING] = {
        RESUME_LATER(PAUSING), GONE,
        [CYCLE_EVENT_PAUSED]        = TO(SAVING, DO(SAVE)),
        [CYCLE_EVENT_HELD]          = TO(HELD, DO(TELL_HELD)),
        [CYCLE_EVENT_SESSION_ENDED] = TO(PAUSING_CANCELLED, 0),
    },
    /* What the secondary has been told of comes, as an ordinary checkpoint: it has prepared itself. */
    [CYCLE_HELD] = {
        GONE,
        [CYCLE_EVENT_GO]            = TO(SAVING, DO(SAVE)),
        [CYCLE_EVENT_RESUME]        = TO(SAVING, DO(SAVE)),
        [CYCLE_EVENT_SESSION_ENDED] = TO(RESUMING, DO(RESUME)),
    },
    [CYCLE_PAUSING_CANCELLED] = {
        RESUME_LATER(PAUSING_CANCELLED), GONE,
        [CYCLE_EVENT_PAUSED]        = TO(RESUMING, DO(RESUME)),
        [CYCLE_EVENT_SESSION_ENDED] = STAY(PAUSING_CANCELLED),
    },
    [CYCLE_SAVING] = {
        RESUME_LATER(SAVING), GONE,
        [CYCLE_EVENT_SAVED]         = TO(MARKING, 0),
        [CYCLE_EVENT_SAVED_LAST]    = TO(GIVING_UP, DO(GIVE_UP)),
        [CYCLE_EVENT_MARKED]        = TO(SAVING_MARKED, 0),
        [CYCLE_EVENT_NOT_MARKED]    = TO(SAVING_UNMARKED, 0),
        [CYCLE_EVENT_SESSION_ENDED] = TO(SAVING_CANCELLED, 0),
    },
    [CYCLE_SAVING_MARKED] = {
        RESUME_LATER(SAVING_MARKED), GONE,
        [CYCLE_EVENT_SAVED]         = TO(COPYING, DO(COPY)),
        [CYCLE_EVENT_SESSION_ENDED] = TO(SAVING_CANCELLED, 0),
    },
    /* Who is to be paused no more is resumed when it tells that it is. */
    [CYCLE_SAVING_UNMARKED] = {
        RESUME_LATER(SAVING_UNMARKED), GONE,
        [CYCLE_EVENT_SAVED]         = TO(PAUSED, DO(TELL_PAUSED)),
        [CYCLE_EVENT_NOT_SAVED]     = TO(PAUSED, DO(TELL_PAUSED)),
        [CYCLE_EVENT_SESSION_ENDED] = TO(SAVING_CANCELLED, 0),
    },
    [CYCLE_SAVING_CANCELLED] = {
        RESUME_LATER(SAVING_CANCELLED), GONE,
        [CYCLE_EVENT_SAVED]         = TO(RESUMING, DO(RESUME)),
        [CYCLE_EVENT_NOT_SAVED]     = TO(RESUMING, DO(RESUME)),
        [CYCLE_EVENT_SESSION_ENDED] = STAY(SAVING_CANCELLED),
    },
    [CYCLE_GIVING_UP] = {
        RESUME_LATER(GIVING_UP), GONE,
        [CYCLE_EVENT_GIVEN_UP]      = TO(COPYING, DO(COPY)),
        [CYCLE_EVENT_NOT_GIVEN_UP]  = TO(MARKING, DO(MARK)),
        [CYCLE_EVENT_SESSION_ENDED] = TO(GIVING_UP_CANCELLED, 0),
    },
    [CYCLE_GIVING_UP_CANCELLED] = {
        RESUME_LATER(GIVING_UP_CANCELLED), GONE,
        [CYCLE_EVENT_GIVEN_UP]      = TO(RESUMING, DO(RESUME)),
        [CYCLE_EVENT_NOT_GIVEN_UP]  = TO(RESUMING, DO(RESUME)),
        [CYCLE_EVENT_SESSION_ENDED] = STAY(GIVING_UP_CANCELLED),
    },
    /* The side that would have continued from these two does not call any more. */
    [CYCLE_MARKING] = {
        RESUME_LATER(MARKING), GONE,
        [CYCLE_EVENT_MARKED]        = TO(COPYING, DO(COPY)),
        [CYCLE_EVENT_NOT_MARKED]    = TO(PAUSED, DO(TELL_PAUSED)),
        [CYCLE_EVENT_SESSION_ENDED] = TO(RESUMING, DO(RESUME)),
    },
    [CYCLE_COPYING] = {
        RESUME_LATER(COPYING), GONE,
        [CYCLE_EVENT_TAKEN]         = TO(RESUMING_SENDING, DO(RESUME)),
        [CYCLE_EVENT_KEPT]          = TO(PAUSED_SENDING, 0),
        /* The peer's message may come before our own thread's. */
        [CYCLE_EVENT_RECEIVED]      = TO(COPYING_RECEIVED, DO(RELEASE)),
        [CYCLE_EVENT_SESSION_ENDED] = TO(RESUMING, DO(RESUME)),
    },
    [CYCLE_COPYING_RECEIVED] = {
        RESUME_LATER(COPYING_RECEIVED), GONE,
        [CYCLE_EVENT_TAKEN]         = TO(RESUMING_RECEIVED, DO(RESUME)),
        [CYCLE_EVENT_KEPT]          = TO(PAUSED_RECEIVED, 0),
        [CYCLE_EVENT_SESSION_ENDED] = TO(RESUMING, DO(RESUME)),
    },
    [CYCLE_RESUMING] = {
        RESUME_LATER(RESUMING), GONE,
        [CYCLE_EVENT_RUNNING]       = TO(IDLE, DO(GIVE_INPUT) | DO(LOOK)),
        [CYCLE_EVENT_REFUSED]       = TO(PAUSED, DO(TELL_PAUSED)),
        [CYCLE_EVENT_SESSION_ENDED] = STAY(RESUMING),
    },
    [CYCLE_RESUMING_SENDING] = {
        RESUME_LATER(RESUMING_SENDING), GONE,
        [CYCLE_EVENT_RUNNING]       = TO(SENDING, DO(GIVE_INPUT)),
        [CYCLE_EVENT_REFUSED]       = TO(PAUSED_SENDING, DO(TELL_PAUSED)),
        [CYCLE_EVENT_SENT]          = TO(RESUMING_SENT, 0),
        [CYCLE_EVENT_RECEIVED]      = TO(RESUMING_RECEIVED, DO(RELEASE)),
        [CYCLE_EVENT_SESSION_ENDED] = TO(RESUMING, 0),
    },
    [CYCLE_RESUMING_SENT] = {
        RESUME_LATER(RESUMING_SENT), GONE,
        [CYCLE_EVENT_RUNNING]       = TO(SENT, DO(GIVE_INPUT)),
        [CYCLE_EVENT_REFUSED]       = TO(PAUSED_SENT, DO(TELL_PAUSED)),
        [CYCLE_EVENT_RECEIVED]      = TO(RESUMING_COMPLETE, DO(RELEASE)),
        [CYCLE_EVENT_SESSION_ENDED] = TO(RESUMING, 0),
    },
    [CYCLE_RESUMING_RECEIVED] = {
        RESUME_LATER(RESUMING_RECEIVED), GONE,
        [CYCLE_EVENT_RUNNING]       = TO(RECEIVED, DO(GIVE_INPUT)),
        [CYCLE_EVENT_REFUSED]       = TO(PAUSED_RECEIVED, DO(TELL_PAUSED)),
        [CYCLE_EVENT_SENT]          = TO(RESUMING_COMPLETE, 0),
        [CYCLE_EVENT_SESSION_ENDED] = TO(RESUMING, 0),
    },
    [CYCLE_RESUMING_COMPLETE] = {
        RESUME_LATER(RESUMING_COMPLETE), GONE,
        [CYCLE_EVENT_RUNNING]       = TO(IDLE, DO(GIVE_INPUT) | DO(COUNT) | DO(LOOK)),
        [CYCLE_EVENT_REFUSED]       = TO(PAUSED_COMPLETE, DO(TELL_PAUSED)),
        [CYCLE_EVENT_SESSION_ENDED] = TO(RESUMING, 0),
    },
    [CYCLE_SENDING] = {
        RESUME_LATER(SENDING), GONE, CUT_OFF,
        [CYCLE_EVENT_SENT]          = TO(SENT, 0),
        [CYCLE_EVENT_RECEIVED]      = TO(RECEIVED, DO(RELEASE)),
    },
    [CYCLE_SENT] = {
        RESUME_LATER(SENT), GONE, CUT_OFF,
        [CYCLE_EVENT_RECEIVED]      = TO(IDLE, DO(RELEASE) | DO(COUNT) | DO(LOOK)),
    },
    [CYCLE_RECEIVED] = {
        RESUME_LATER(RECEIVED), GONE, CUT_OFF,
        [CYCLE_EVENT_SENT]          = TO(IDLE, DO(COUNT) | DO(LOOK)),
    },
    [CYCLE_STOP_SETTLING] = {
        GONE,
        [CYCLE_EVENT_RESUME]        = TO(IDLE, DO(GIVE_INPUT) | DO(LOOK)),
        [CYCLE_EVENT_SETTLED]       = TO(STOPPING, DO(PAUSE)),
        [CYCLE_EVENT_SESSION_ENDED] = STAY(STOP_SETTLING),
    },
    [CYCLE_STOPPING] = {
        GONE,
        [CYCLE_EVENT_RESUME]        = TO(PAUSING_CANCELLED, 0),
        [CYCLE_EVENT_PAUSED]        = TO(PAUSED, DO(TELL_PAUSED)),
        [CYCLE_EVENT_SESSION_ENDED] = STAY(STOPPING),
    },
    [CYCLE_PAUSED] = {
        GONE,
        [CYCLE_EVENT_RESUME]        = TO(RESUMING, DO(RESUME)),
        [CYCLE_EVENT_SESSION_ENDED] = STAY(PAUSED),
    },
    [CYCLE_PAUSED_SENDING] = {
        GONE,
        [CYCLE_EVENT_RESUME]        = TO(RESUMING_SENDING, DO(RESUME)),
        [CYCLE_EVENT_SENT]          = TO(PAUSED_SENT, 0),
        [CYCLE_EVENT_RECEIVED]      = TO(PAUSED_RECEIVED, DO(RELEASE)),
        [CYCLE_EVENT_SESSION_ENDED] = TO(PAUSED, 0),
    },
    [CYCLE_PAUSED_SENT] = {
        GONE,
        [CYCLE_EVENT_RESUME]        = TO(RESUMING_SENT, DO(RESUME)),
        [CYCLE_EVENT_RECEIVED]      = TO(PAUSED_COMPLETE, DO(RELEASE) | DO(COMMIT)),
        [CYCLE_EVENT_SESSION_ENDED] = TO(PAUSED, 0),
    },
    [CYCLE_PAUSED_RECEIVED] = {
        GONE,
        [CYCLE_EVENT_RESUME]        = TO(RESUMING_RECEIVED, DO(RESUME)),
        [CYCLE_EVENT_SENT]          = TO(PAUSED_COMPLETE, DO(COMMIT)),
        [CYCLE_EVENT_SESSION_ENDED] = TO(PAUSED, 0),
    },
    [CYCLE_PAUSED_COMPLETE] = {
        GONE,
        [CYCLE_EVENT_RESUME]        = TO(RESUMING_COMPLETE, DO(RESUME)),
        [CYCLE_EVENT_SESSION_ENDED] = TO(PAUSED, 0),
    },
};
/* clang-format on */

CycleStep cycle_step(CyclePhase phase, CycleEvent event)
{
    g_assert((guint)phase < CYCLE_PHASES && (guint)event < CYCLE_EVENTS);
    return table[phase][event];
}

/* ---- Predicates ---- */

static gboolean is_running(CyclePhase phase)
{
    return phase == CYCLE_IDLE || phase == CYCLE_SYNCING || phase == CYCLE_PREPARING ||
           phase == CYCLE_SENDING || phase == CYCLE_SENT || phase == CYCLE_RECEIVED;
}

gboolean cycle_is_between_pauses(CyclePhase phase)
{
    return is_running(phase) && phase != CYCLE_SYNCING && phase != CYCLE_PREPARING;
}

gboolean cycle_defers_input(CyclePhase phase)
{
    return !is_running(phase);
}

gboolean cycle_has_peer_paused(CyclePhase phase)
{
    return phase == CYCLE_PREPARING || phase == CYCLE_SETTLING || phase == CYCLE_PAUSING ||
           phase == CYCLE_HELD || phase == CYCLE_SAVING || phase == CYCLE_SAVING_MARKED ||
           phase == CYCLE_MARKING || phase == CYCLE_GIVING_UP || phase == CYCLE_COPYING;
}

gboolean cycle_is_owed_received(CyclePhase phase)
{
    return phase == CYCLE_SENT || phase == CYCLE_RESUMING_SENT || phase == CYCLE_PAUSED_SENT;
}

gboolean cycle_is_committed(CyclePhase phase)
{
    return phase == CYCLE_PAUSED || phase == CYCLE_PAUSED_COMPLETE;
}

/* ---- Names ---- */

const char *cycle_phase_name(CyclePhase phase)
{
    static const char *const names[CYCLE_PHASES] = {
        [CYCLE_IDLE] = "idle",
        [CYCLE_SYNCING] = "syncing",
        [CYCLE_PREPARING] = "preparing",
        [CYCLE_SETTLING] = "settling",
        [CYCLE_PAUSING] = "pausing",
        [CYCLE_PAUSING_CANCELLED] = "pausing-cancelled",
        [CYCLE_HELD] = "held",
        [CYCLE_SAVING] = "saving",
        [CYCLE_SAVING_MARKED] = "saving-marked",
        [CYCLE_SAVING_UNMARKED] = "saving-unmarked",
        [CYCLE_SAVING_CANCELLED] = "saving-cancelled",
        [CYCLE_MARKING] = "marking",
        [CYCLE_GIVING_UP] = "giving-up",
        [CYCLE_GIVING_UP_CANCELLED] = "giving-up-cancelled",
        [CYCLE_COPYING] = "copying",
        [CYCLE_COPYING_RECEIVED] = "copying-received",
        [CYCLE_RESUMING] = "resuming",
        [CYCLE_RESUMING_SENDING] = "resuming-sending",
        [CYCLE_RESUMING_SENT] = "resuming-sent",
        [CYCLE_RESUMING_RECEIVED] = "resuming-received",
        [CYCLE_RESUMING_COMPLETE] = "resuming-complete",
        [CYCLE_SENDING] = "sending",
        [CYCLE_SENT] = "sent",
        [CYCLE_RECEIVED] = "received",
        [CYCLE_STOP_SETTLING] = "stop-settling",
        [CYCLE_STOPPING] = "stopping",
        [CYCLE_PAUSED] = "paused",
        [CYCLE_PAUSED_SENDING] = "paused-sending",
        [CYCLE_PAUSED_SENT] = "paused-sent",
        [CYCLE_PAUSED_RECEIVED] = "paused-received",
        [CYCLE_PAUSED_COMPLETE] = "paused-complete",
    };
    return names[phase];
}

const char *cycle_waits_for(CyclePhase phase)
{
    static const char *const texts[CYCLE_PHASES] = {
        [CYCLE_SYNCING] = "the disks have not been synced",
        [CYCLE_PREPARING] = "the secondary's VM has not been paused",
        [CYCLE_SETTLING] = "QEMU has not read the guest's input",
        [CYCLE_PAUSING] = "QEMU has not paused the VM",
        [CYCLE_PAUSING_CANCELLED] = "QEMU has not paused the VM",
        [CYCLE_HELD] = "the VM is held, until 'continue'",
        [CYCLE_SAVING] = "QEMU has not saved the device state, or the disks have not been marked",
        [CYCLE_SAVING_MARKED] = "QEMU has not saved the device state",
        [CYCLE_SAVING_UNMARKED] = "QEMU has not saved the device state",
        [CYCLE_SAVING_CANCELLED] = "QEMU has not saved the device state",
        [CYCLE_MARKING] = "the disks have not been marked",
        [CYCLE_GIVING_UP] = "the disks have not been given up",
        [CYCLE_GIVING_UP_CANCELLED] = "the disks have not been given up",
        [CYCLE_COPYING] = "the pages are being copied",
        [CYCLE_COPYING_RECEIVED] = "the pages are being copied",
        [CYCLE_RESUMING] = "the VM has not been resumed",
        [CYCLE_RESUMING_SENDING] = "the VM has not been resumed",
        [CYCLE_RESUMING_SENT] = "the VM has not been resumed",
        [CYCLE_RESUMING_RECEIVED] = "the VM has not been resumed",
        [CYCLE_RESUMING_COMPLETE] = "the VM has not been resumed",
        [CYCLE_SENDING] = "a checkpoint is on its way",
        [CYCLE_SENT] = "the secondary has not received all of a checkpoint",
        [CYCLE_RECEIVED] = "a checkpoint is on its way",
        [CYCLE_STOP_SETTLING] = "QEMU has not read the guest's input",
        [CYCLE_STOPPING] = "QEMU has not paused the VM",
        [CYCLE_PAUSED_SENDING] = "a checkpoint is on its way",
        [CYCLE_PAUSED_SENT] = "the secondary has not received all of a checkpoint",
        [CYCLE_PAUSED_RECEIVED] = "a checkpoint is on its way",
    };
    return texts[phase];
}

const char *cycle_event_name(CycleEvent event)
{
    static const char *const names[CYCLE_EVENTS] = {
        [CYCLE_EVENT_START] = "start",
        [CYCLE_EVENT_CONTINUE] = "continue",
        [CYCLE_EVENT_DUE] = "due",
        [CYCLE_EVENT_STOP] = "stop",
        [CYCLE_EVENT_RESUME] = "resume",
        [CYCLE_EVENT_SYNCED] = "synced",
        [CYCLE_EVENT_NOT_SYNCED] = "not-synced",
        [CYCLE_EVENT_PREPARED] = "prepared",
        [CYCLE_EVENT_SETTLED] = "settled",
        [CYCLE_EVENT_PAUSED] = "paused",
        [CYCLE_EVENT_HELD] = "held",
        [CYCLE_EVENT_GO] = "go",
        [CYCLE_EVENT_SAVED] = "saved",
        [CYCLE_EVENT_SAVED_LAST] = "saved-last",
        [CYCLE_EVENT_NOT_SAVED] = "not-saved",
        [CYCLE_EVENT_MARKED] = "marked",
        [CYCLE_EVENT_NOT_MARKED] = "not-marked",
        [CYCLE_EVENT_GIVEN_UP] = "given-up",
        [CYCLE_EVENT_NOT_GIVEN_UP] = "not-given-up",
        [CYCLE_EVENT_TAKEN] = "taken",
        [CYCLE_EVENT_KEPT] = "kept",
        [CYCLE_EVENT_RUNNING] = "running",
        [CYCLE_EVENT_REFUSED] = "refused",
        [CYCLE_EVENT_SENT] = "sent",
        [CYCLE_EVENT_RECEIVED] = "received",
        [CYCLE_EVENT_SESSION_ENDED] = "session-ended",
        [CYCLE_EVENT_VM_GONE] = "vm-gone",
    };
    return names[event];
}

/* ---- Before protection is claimed ---- */

gboolean proof_may_become(Proof from, Proof to)
{
    static const guint may_become[PROOFS] = {
        [PROOF_SYNCHRONISE] = 1u << PROOF_DUE,
        [PROOF_DUE] = 1u << PROOF_TAKE,
        [PROOF_TAKE] = 1u << PROOF_LOAD,
        [PROOF_LOAD] = 1u << PROOF_DUE | 1u << PROOF_DONE,
    };
    g_assert((guint)from < PROOFS && (guint)to < PROOFS);
    return to == PROOF_SYNCHRONISE || (may_become[from] & 1u << to) != 0;
}

Proof proof_after_load(unsigned loads, gsize pages)
{
    return loads >= LOADS_MIN && pages == 0 ? PROOF_DONE : PROOF_DUE;
}

const char *proof_name(Proof proof)
{
    static const char *const names[PROOFS] = {
        [PROOF_SYNCHRONISE] = "synchronise",
        [PROOF_DUE] = "due",
        [PROOF_TAKE] = "take",
        [PROOF_LOAD] = "load",
        [PROOF_DONE] = "done",
    };
    return names[proof];
}

/* ---- Before a switchover ---- */

gboolean plan_may_become(Plan from, Plan to)
{
    static const guint may_become[PLANS] = {
        [PLAN_NONE] = 1u << PLAN_HELD,
        [PLAN_HELD] = 1u << PLAN_LAST | 1u << PLAN_NONE,
        [PLAN_LAST] = 1u << PLAN_NONE,
    };
    g_assert((guint)from < PLANS && (guint)to < PLANS);
    return (may_become[from] & 1u << to) != 0;
}

const char *plan_name(Plan plan)
{
    static const char *const names[PLANS] = {
        [PLAN_NONE] = "none", [PLAN_HELD] = "held", [PLAN_LAST] = "last"};
    return names[plan];
}
