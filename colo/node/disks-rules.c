/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/disks-rules.h"

#define TO(phase)                                                                                  \
    {                                                                                              \
        TRUE, DISKS_APPLY_##phase                                                                  \
    }
#define SESSION [DISKS_APPLY_SESSION] = TO(NOTHING)

/* clang-format off */
static const DisksApplyStep table[DISKS_APPLY_PHASES][DISKS_APPLY_EVENTS] = {
    [DISKS_APPLY_NOTHING] = {
        SESSION,
        [DISKS_APPLY_RECEIVED] = TO(DUE),
    },
    [DISKS_APPLY_DUE] = {
        SESSION,
        [DISKS_APPLY_RECEIVED] = TO(DUE),
        [DISKS_APPLY_ASK]      = TO(ASKED),
    },
    [DISKS_APPLY_ASKED] = {
        SESSION,
        [DISKS_APPLY_RECEIVED] = TO(ASKED_DUE),
        [DISKS_APPLY_DONE]     = TO(NOTHING),
        [DISKS_APPLY_REFUSED]  = TO(DUE),
    },
    [DISKS_APPLY_ASKED_DUE] = {
        SESSION,
        [DISKS_APPLY_RECEIVED] = TO(ASKED_DUE),
        [DISKS_APPLY_DONE]     = TO(DUE),
        [DISKS_APPLY_REFUSED]  = TO(DUE),
    },
};
/* clang-format on */

DisksApplyStep disks_apply_step(DisksApply phase, DisksApplyEvent event)
{
    g_assert((guint)phase < DISKS_APPLY_PHASES && (guint)event < DISKS_APPLY_EVENTS);
    return table[phase][event];
}

gboolean disks_apply_is_asked(DisksApply phase)
{
    return phase == DISKS_APPLY_ASKED || phase == DISKS_APPLY_ASKED_DUE;
}

const char *disks_apply_name(DisksApply phase)
{
    static const char *const names[DISKS_APPLY_PHASES] = {
        [DISKS_APPLY_NOTHING] = "nothing",
        [DISKS_APPLY_DUE] = "due",
        [DISKS_APPLY_ASKED] = "asked",
        [DISKS_APPLY_ASKED_DUE] = "asked-due",
    };
    return names[phase];
}

const char *disks_apply_event_name(DisksApplyEvent event)
{
    static const char *const names[DISKS_APPLY_EVENTS] = {
        [DISKS_APPLY_RECEIVED] = "received", [DISKS_APPLY_ASK] = "ask",
        [DISKS_APPLY_DONE] = "done",         [DISKS_APPLY_REFUSED] = "refused",
        [DISKS_APPLY_SESSION] = "session",
    };
    return names[event];
}
