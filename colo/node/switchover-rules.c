/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/switchover-rules.h"

#include "common/clock.h"

#define DO(action) SWITCHOVER_DO_##action
#define TO(phase, actions)                                                                         \
    {                                                                                              \
        SWITCHOVER_MOVE, SWITCHOVER_##phase, (actions)                                             \
    }
#define REFUSED                                                                                    \
    {                                                                                              \
        SWITCHOVER_REFUSE, 0, 0                                                                    \
    }
/* Commands where none is under way; `cancel` means nothing there. */
#define AT_REST [SWITCHOVER_BEGIN] = TO(SETUP, DO(ASK)), [SWITCHOVER_GO_ON] = REFUSED
/* Where one is. */
#define UNDER_WAY [SWITCHOVER_BEGIN] = REFUSED, [SWITCHOVER_GO_ON] = REFUSED
/* The VM has not been handed over: what stops it is told to the secondary. */
#define ENDS [SWITCHOVER_OVER] = TO(FAILED, DO(LET_GO) | DO(SAY_CANCEL))

/* clang-format off */
/* What isn't listed is ignored. */
static const SwitchoverStep primary_table[SWITCHOVER_PHASES][SWITCHOVER_EVENTS] = {
    [SWITCHOVER_NONE] = {AT_REST},
    [SWITCHOVER_SETUP] = {
        UNDER_WAY, ENDS,
        [SWITCHOVER_ACKED]     = TO(ACTIVE, 0),
        [SWITCHOVER_CANCEL]    = TO(CANCELLED, DO(LET_GO) | DO(SAY_CANCEL)),
    },
    [SWITCHOVER_ACTIVE] = {
        UNDER_WAY, ENDS,
        [SWITCHOVER_WITHDRAWN] = TO(SETUP, 0),
        [SWITCHOVER_SMALL]     = TO(STOPPING, DO(HOLD)),
        [SWITCHOVER_CANCEL]    = TO(CANCELLED, DO(LET_GO) | DO(SAY_CANCEL)),
    },
    [SWITCHOVER_STOPPING] = {
        UNDER_WAY, ENDS,
        [SWITCHOVER_WITHDRAWN] = TO(SETUP, DO(LET_GO)),
        /* Without a wish to hold it: `device` follows from within. */
        [SWITCHOVER_HELD]      = TO(STOPPING, DO(GO)),
        /* Or somebody else has ordered it: the host shuts down, say. */
        [SWITCHOVER_GOES]      = TO(DEVICE, DO(SAY_PHASE)),
        [SWITCHOVER_CANCEL]    = TO(CANCELLED, DO(LET_GO) | DO(SAY_CANCEL)),
    },
    [SWITCHOVER_PRE] = {
        [SWITCHOVER_BEGIN]     = REFUSED,
        [SWITCHOVER_GO_ON]     = TO(PRE, DO(GO)),
        [SWITCHOVER_GOES]      = TO(DEVICE, DO(SAY_PHASE)),
        [SWITCHOVER_CANCEL]    = TO(CANCELLING, DO(WAY_BACK) | DO(SAY_CANCEL)),
        [SWITCHOVER_OVER]      = TO(FAILED, DO(WAY_BACK) | DO(SAY_CANCEL)),
    },
    [SWITCHOVER_DEVICE] = {
        UNDER_WAY,
        [SWITCHOVER_COMMITTED] = TO(HANDED, 0),
        [SWITCHOVER_CANCEL]    = TO(CANCELLING, DO(WAY_BACK) | DO(SAY_CANCEL)),
        [SWITCHOVER_OVER]      = TO(FAILED, DO(SAY_CANCEL)),
    },
    [SWITCHOVER_HANDED] = {
        UNDER_WAY,
        [SWITCHOVER_TAKEN]     = TO(COMPLETED, 0),
        [SWITCHOVER_LEFT]      = TO(FAILED, 0),
        [SWITCHOVER_CANCEL]    = TO(HANDED_CANCELLING, DO(SAY_CANCEL)),
        [SWITCHOVER_OVER]      = TO(FAILED, 0),
    },
    [SWITCHOVER_HANDED_CANCELLING] = {
        UNDER_WAY,
        [SWITCHOVER_TAKEN]     = TO(COMPLETED, 0),
        [SWITCHOVER_LEFT]      = TO(CANCELLING, 0),
        [SWITCHOVER_OVER]      = TO(FAILED, 0),
    },
    [SWITCHOVER_CANCELLING] = {
        UNDER_WAY,
        [SWITCHOVER_RUNS]      = TO(CANCELLED, 0),
        [SWITCHOVER_OVER]      = TO(FAILED, 0),
    },
    [SWITCHOVER_COMPLETED] = {AT_REST},
    [SWITCHOVER_CANCELLED] = {AT_REST},
    [SWITCHOVER_FAILED] = {AT_REST},
};

/* The primary's ASK, and each change of the parts while the VM runs there. */
#define ASKED                                                                                      \
    [SWITCHOVER_ACKED]     = TO(ACTIVE, DO(SAY_ACK)),                                              \
    [SWITCHOVER_WITHDRAWN] = TO(SETUP, DO(SAY_ACK))
#define SECONDARY_AT_REST                                                                          \
    ASKED, [SWITCHOVER_BEGIN] = TO(SETUP, DO(SAY_WANT)), [SWITCHOVER_GO_ON] = REFUSED
/* The VM is the primary's, which decides. */
#define BEFORE_HANDED(phase)                                                                       \
    UNDER_WAY, ASKED,                                                                              \
    [SWITCHOVER_CANCEL]          = TO(phase, DO(SAY_CANCEL)),                                      \
    [SWITCHOVER_CANCELLED_THERE] = TO(CANCELLED, 0),                                               \
    [SWITCHOVER_FAILED_THERE]    = TO(FAILED, 0),                                                  \
    [SWITCHOVER_CUT]             = TO(FAILED, 0),                                                  \
    [SWITCHOVER_OVER]            = TO(FAILED, 0)
/* Handed over without the primary's word that its last checkpoint comes: by a failover. */
#define OVERTAKEN [SWITCHOVER_COMMITTED] = TO(FAILED, 0)

static const SwitchoverStep secondary_table[SWITCHOVER_PHASES][SWITCHOVER_EVENTS] = {
    [SWITCHOVER_NONE] = {SECONDARY_AT_REST},
    [SWITCHOVER_SETUP] = {
        BEFORE_HANDED(SETUP), OVERTAKEN,
        [SWITCHOVER_HELD]      = TO(PRE, 0),
        [SWITCHOVER_GOES]      = TO(DEVICE, 0),
    },
    [SWITCHOVER_ACTIVE] = {
        BEFORE_HANDED(ACTIVE), OVERTAKEN,
        [SWITCHOVER_HELD]      = TO(PRE, 0),
        [SWITCHOVER_GOES]      = TO(DEVICE, 0),
    },
    [SWITCHOVER_PRE] = {
        BEFORE_HANDED(PRE), OVERTAKEN,
        [SWITCHOVER_GOES]      = TO(DEVICE, 0),
    },
    [SWITCHOVER_DEVICE] = {
        BEFORE_HANDED(DEVICE),
        [SWITCHOVER_COMMITTED] = TO(HANDED, 0),
    },
    /* Cut off from the primary, it may still be this side that continues. */
    [SWITCHOVER_HANDED] = {
        UNDER_WAY,
        [SWITCHOVER_CANCEL]          = TO(HANDED_CANCELLING, DO(SAY_CANCEL)),
        [SWITCHOVER_CANCELLED_THERE] = TO(HANDED_CANCELLING, 0),
        [SWITCHOVER_FAILED_THERE]    = TO(HANDED_CANCELLING, 0),
        [SWITCHOVER_TAKEN]           = TO(COMPLETED, 0),
        [SWITCHOVER_LEFT]            = TO(FAILED, 0),
        [SWITCHOVER_OVER]            = TO(FAILED, 0),
    },
    [SWITCHOVER_HANDED_CANCELLING] = {
        UNDER_WAY,
        /* Nobody else can. */
        [SWITCHOVER_GRANTED]         = TO(HANDED, 0),
        [SWITCHOVER_TAKEN]           = TO(COMPLETED, 0),
        [SWITCHOVER_LEFT]            = TO(CANCELLED, 0),
        [SWITCHOVER_OVER]            = TO(FAILED, 0),
    },
    [SWITCHOVER_COMPLETED] = {SECONDARY_AT_REST},
    [SWITCHOVER_CANCELLED] = {SECONDARY_AT_REST},
    [SWITCHOVER_FAILED] = {SECONDARY_AT_REST},
};
/* clang-format on */

SwitchoverStep switchover_step(SwitchoverPhase phase, SwitchoverEvent event, gboolean pause)
{
    g_assert((guint)phase < SWITCHOVER_PHASES && (guint)event < SWITCHOVER_EVENTS);
    if (phase == SWITCHOVER_STOPPING && event == SWITCHOVER_HELD && pause)
        return (SwitchoverStep)TO(PRE, DO(PRE) | DO(SAY_PHASE));
    return primary_table[phase][event];
}

SwitchoverStep switchover_secondary_step(SwitchoverPhase phase, SwitchoverEvent event)
{
    g_assert((guint)phase < SWITCHOVER_PHASES && (guint)event < SWITCHOVER_EVENTS);
    return secondary_table[phase][event];
}

static gboolean leads_to(SwitchoverStep step, SwitchoverPhase to)
{
    return step.verdict == SWITCHOVER_MOVE && step.next == to;
}

gboolean switchover_may_become(gboolean is_primary, SwitchoverPhase from, SwitchoverPhase to)
{
    for (SwitchoverEvent event = 0; event < SWITCHOVER_EVENTS; event++)
        if (is_primary ? leads_to(switchover_step(from, event, FALSE), to) ||
                             leads_to(switchover_step(from, event, TRUE), to)
                       : leads_to(switchover_secondary_step(from, event), to))
            return TRUE;
    return FALSE;
}

gboolean switchover_is_under_way(SwitchoverPhase phase)
{
    return switchover_is_before_device(phase) || phase == SWITCHOVER_DEVICE ||
           switchover_is_handed(phase) || phase == SWITCHOVER_CANCELLING;
}

gboolean switchover_is_limited(SwitchoverPhase phase)
{
    return phase == SWITCHOVER_SETUP || phase == SWITCHOVER_ACTIVE || phase == SWITCHOVER_STOPPING;
}

gboolean switchover_is_before_device(SwitchoverPhase phase)
{
    return switchover_is_limited(phase) || phase == SWITCHOVER_PRE;
}

gboolean switchover_is_handed(SwitchoverPhase phase)
{
    return phase == SWITCHOVER_HANDED || phase == SWITCHOVER_HANDED_CANCELLING;
}

SwitchoverEvent switchover_of_state(SwitchoverPhase phase, FsmState next, FsmEvent event)
{
    if (event == FSM_REFUSED || event == FSM_GIVEN_BACK)
        return SWITCHOVER_LEFT;
    switch (next) {
    case FSM_P_COLO:
        /* It waits for its VM, or that was too slow, or it never left. */
        return event == FSM_HAND_OVER_FAILED ? SWITCHOVER_OVER : SWITCHOVER_EVENTS;
    case FSM_P_PRE_SWITCHOVER:
        return SWITCHOVER_EVENTS;
    case FSM_P_DEVICE:
        /* A failover was ordered: without a last checkpoint, unless that was ordered already. */
        return event == FSM_CONTINUE || phase == SWITCHOVER_STOPPING || phase == SWITCHOVER_PRE
                   ? SWITCHOVER_GOES
                   : SWITCHOVER_OVER;
    case FSM_P_HANDED:
        return SWITCHOVER_COMMITTED;
    case FSM_P_SETUP:
    case FSM_P_ACTIVE:
        /* The VM that was given back doesn't run yet, and the secondary is there again. */
        return SWITCHOVER_EVENTS;
    default:
        return event == FSM_TAKEN ? SWITCHOVER_TAKEN : SWITCHOVER_OVER;
    }
}

/* ---- The secondary ---- */

SwitchoverEvent switchover_of_secondary(FsmState next, FsmEvent event)
{
    switch (next) {
    case FSM_S_COLO:
        return event == FSM_VM_UNFIT || event == FSM_UNDECIDED ? SWITCHOVER_LEFT
                                                               : SWITCHOVER_EVENTS;
    case FSM_S_HANDED:
        return event == FSM_HANDED ? SWITCHOVER_COMMITTED : SWITCHOVER_EVENTS;
    case FSM_S_TAKING:
        /* It is given back if it was cancelled before. */
        return SWITCHOVER_EVENTS;
    case FSM_S_DEVICE:
        return SWITCHOVER_GRANTED;
    case FSM_P_NONE:
        return SWITCHOVER_TAKEN;
    case FSM_S_GIVING:
        return SWITCHOVER_LEFT;
    case FSM_S_PAUSED:
    case FSM_S_RECOVER:
        return SWITCHOVER_CUT;
    default:
        return SWITCHOVER_OVER;
    }
}

const char *switchover_refusal(FsmEvent event)
{
    return event == FSM_UNDECIDED ? "it could not ask the arbiter"
                                  : "its copy of the VM can't continue before the next checkpoint";
}

FsmEvent switchover_fit(gboolean is_fit, gboolean is_cancelled)
{
    return is_fit && !is_cancelled ? FSM_VM_FIT : FSM_VM_UNFIT;
}

/* ---- The parts of an approval ---- */

char *switchover_parts_text(guint parts)
{
    static const char *const names[] = {"checkpoint", "disks", "vm", "uplink", "arbiter"};
    GString *text = g_string_new(NULL);
    for (guint i = 0; i < G_N_ELEMENTS(names); i++)
        if (parts & 1u << i)
            g_string_append_printf(text, "%s%s", text->len ? " " : "", names[i]);
    return g_string_free(text, FALSE);
}

/* ---- Figures ---- */

gint64 switchover_expected_us(const SwitchoverLoad *load)
{
    if (load->bytes_per_s <= 0)
        return -1;
    double send_us = (double)load->left_bytes * G_USEC_PER_SEC / (double)load->bytes_per_s;
    return (gint64)send_us + load->pause_us + load->apply_us;
}

gboolean switchover_is_small(const SwitchoverLoad *load, guint64 limit_ms)
{
    gint64 expected_us = switchover_expected_us(load);
    gint64 limit_us = (gint64)MIN(limit_ms, G_MAXINT32) * COLO_US_PER_MS;
    return limit_ms == 0 ||
           (expected_us >= 0 && expected_us <= limit_us && load->last_us <= limit_us);
}

gboolean switchover_may_shrink(const SwitchoverLoad *load, guint64 limit_ms)
{
    return !switchover_is_small(load, limit_ms) &&
           load->pause_us + load->apply_us <= (gint64)MIN(limit_ms, G_MAXINT32) * COLO_US_PER_MS;
}

/* ---- Names ---- */

const char *switchover_phase_name(SwitchoverPhase phase)
{
    static const char *const names[SWITCHOVER_PHASES] = {
        [SWITCHOVER_SETUP] = "setup",
        [SWITCHOVER_ACTIVE] = "active",
        [SWITCHOVER_STOPPING] = "active",
        [SWITCHOVER_PRE] = "pre-switchover",
        [SWITCHOVER_DEVICE] = "device",
        [SWITCHOVER_HANDED] = "handed",
        [SWITCHOVER_HANDED_CANCELLING] = "cancelling",
        [SWITCHOVER_CANCELLING] = "cancelling",
        [SWITCHOVER_COMPLETED] = "completed",
        [SWITCHOVER_CANCELLED] = "cancelled",
        [SWITCHOVER_FAILED] = "failed",
    };
    return names[phase];
}

const char *switchover_event_name(SwitchoverEvent event)
{
    static const char *const names[SWITCHOVER_EVENTS] = {
        [SWITCHOVER_BEGIN] = "begin",
        [SWITCHOVER_ACKED] = "acked",
        [SWITCHOVER_WITHDRAWN] = "withdrawn",
        [SWITCHOVER_SMALL] = "small",
        [SWITCHOVER_HELD] = "held",
        [SWITCHOVER_GO_ON] = "continue",
        [SWITCHOVER_CANCEL] = "cancel",
        [SWITCHOVER_CANCELLED_THERE] = "cancelled-there",
        [SWITCHOVER_FAILED_THERE] = "failed-there",
        [SWITCHOVER_GOES] = "goes",
        [SWITCHOVER_COMMITTED] = "committed",
        [SWITCHOVER_CUT] = "cut",
        [SWITCHOVER_GRANTED] = "granted",
        [SWITCHOVER_TAKEN] = "taken",
        [SWITCHOVER_LEFT] = "left",
        [SWITCHOVER_RUNS] = "runs",
        [SWITCHOVER_OVER] = "over",
    };
    return names[event];
}
