/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/stops.h"

#include <string.h>

gboolean stops_may_run(Stops stops, StopEnder ender)
{
    static const Stops ended[STOP_ENDERS] = {
        [STOP_END_OF_PAUSE] = ~(STOPS(ADMIN) | STOPS(IO_ERROR)),
        [STOP_IO_RETRY] = ~STOPS(ADMIN),
        [STOP_CONT] = ~0u,
    };
    g_assert((guint)ender < STOP_ENDERS);
    return (stops & ~ended[ender]) == 0;
}

gboolean stops_are_carried(Stops stops)
{
    return (stops & STOPS(ADMIN)) != 0;
}

/* In the order in which stops_name() looks for them. */
static const struct {
    const char *name, *run_state; /* NULL: QEMU has none */
} words[STOP_REASONS] = {
    [STOP_ADMIN] = {"admin",          NULL            },
    [STOP_IO_ERROR] = {"io-error",       "io-error"      },
    [STOP_PANIC] = {"panic",          "guest-panicked"},
    [STOP_WATCHDOG] = {"watchdog",       "watchdog"      },
    [STOP_INTERNAL_ERROR] = {"internal-error", "internal-error"},
    [STOP_OTHER] = {"qemu",           NULL            },
};

StopReason stops_of_qemu(const char *run_state)
{
    for (StopReason reason = 0; reason < STOP_REASONS; reason++)
        if (words[reason].run_state && !strcmp(words[reason].run_state, run_state))
            return reason;
    return STOP_OTHER;
}

const char *stops_name(Stops stops)
{
    for (StopReason reason = 0; reason < STOP_REASONS; reason++)
        if (stops & 1u << reason)
            return words[reason].name;
    return NULL;
}

char *stops_way_out(FsmState state, gboolean ends, const char *peer)
{
    if (ends)
        return g_strdup("the VM is about to end");
    switch (state) {
    case FSM_P_NONE:
    case FSM_P_SETUP:
    case FSM_P_ACTIVE:
    case FSM_P_COLO:
    case FSM_P_PAUSED:
    case FSM_P_RECOVER:
        return NULL;
    case FSM_P_ASKING:
    case FSM_P_STARTING:
        return g_strdup("the VM doesn't run yet: wait for state none");
    case FSM_P_PRE_SWITCHOVER:
        return g_strdup_printf("the VM is held for a switchover: 'colo cancel' has it run here, "
                               "and 'colo continue' on %s",
                               peer);
    case FSM_P_DEVICE:
    case FSM_P_HANDED:
        return g_strdup_printf("the VM is being handed over: ask %s when it has it, or this node "
                               "again when the hand-over has failed ('colo cancel' ends a "
                               "switchover)",
                               peer);
    case FSM_P_FROZEN:
        return g_strdup_printf("%s is to continue with the VM: ask it; or, if it has died before "
                               "it could, 'colo failover --force' here first",
                               peer);
    case FSM_S_DEVICE:
    case FSM_S_TAKING:
        return g_strdup("this node is about to continue with the VM: wait for state none");
    case FSM_S_PAUSED:
    case FSM_S_RECOVER:
        return g_strdup_printf("it isn't known which node continues with the VM: ask %s, or this "
                               "node when it has taken over",
                               peer);
    case FSM_S_GIVING:
    case FSM_S_LEAVING:
        return g_strdup_printf("the VM is given back to %s: ask it", peer);
    case FSM_FAILED:
    case FSM_COMPLETED:
        return g_strdup("no VM is here any more");
    default:
        return g_strdup_printf("the VM is the primary's: ask %s", peer);
    }
}
