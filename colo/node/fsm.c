/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/fsm.h"

/* A primary that has lost its secondary and may continue without it. */
#define CONTINUE_ALONE                                                                             \
    {                                                                                              \
        FSM_MOVE, FSM_P_NONE,                                                                      \
            FSM_DO_CLOSE_LINK | FSM_DO_END_CAPTURE | FSM_DO_RESUME_VM | FSM_DO_OPEN_GATE |         \
                FSM_DO_ACCEPT                                                                      \
    }
/* A primary whose link is lost while the secondary may take over. */
#define PAUSE                                                                                      \
    {                                                                                              \
        FSM_MOVE, FSM_P_PAUSED, FSM_DO_CLOSE_LINK | FSM_DO_END_CAPTURE | FSM_DO_ASK_ARBITER        \
    }
/* With an empty VM: of one that was here nothing may reach anybody any more. */
#define START_OVER (FSM_DO_KILL_VM | FSM_DO_CLOSE_LINK | FSM_DO_END_CAPTURE | FSM_DO_START_VM)
/* A primary that must not continue, and whose VM is not seen to run elsewhere yet. */
#define FREEZE(message)                                                                            \
    {                                                                                              \
        FSM_MOVE, FSM_P_FROZEN,                                                                    \
            (message) | FSM_DO_FREEZE_VM | FSM_DO_CLOSE_LINK | FSM_DO_END_CAPTURE | FSM_DO_DIAL    \
    }
/* A primary, or a secondary that holds a checkpoint: the link is lost, the arbiter must decide. */
#define ASK(to) MOVE(to, FSM_DO_CLOSE_LINK | FSM_DO_ASK_ARBITER)
/* A secondary that gives up what it holds and looks for the primary. */
#define LOOK_AGAIN                                                                                 \
    {                                                                                              \
        FSM_MOVE, FSM_S_NONE, FSM_DO_CLOSE_LINK | FSM_DO_DROP_APPLY | FSM_DO_DIAL                  \
    }
/* A secondary that is to continue. */
#define TAKE_OVER MOVE(S_DEVICE, FSM_DO_OPEN_UPLINKS | FSM_DO_CLOSE_LINK | FSM_DO_TAKE_OVER)
/* There is no way back any more. */
#define GO_ON MOVE(S_DEVICE, FSM_DO_OPEN_UPLINKS | FSM_DO_CLOSE_LINK)
/* The primary's VM is as it was handed over. Of this one nothing was heard, and nothing will be. */
#define GIVE_BACK(to) MOVE(to, FSM_DO_KILL_VM | FSM_DO_DROP_APPLY | FSM_DO_GIVE_BACK)
#define FAIL(message)                                                                              \
    {                                                                                              \
        FSM_MOVE, FSM_FAILED,                                                                      \
            (message) | FSM_DO_KILL_VM | FSM_DO_CLOSE_LINK | FSM_DO_END_CAPTURE |                  \
                FSM_DO_DROP_APPLY | FSM_DO_EXIT                                                    \
    }
#define END_ACTIONS                                                                                \
    (FSM_DO_KILL_VM | FSM_DO_SEND_GOODBYE | FSM_DO_CLOSE_LINK | FSM_DO_END_CAPTURE |               \
     FSM_DO_DROP_APPLY | FSM_DO_EXIT)
#define END MOVE(COMPLETED, END_ACTIONS)
/* Likewise, by a side that has handed its VM over: the other is to continue. */
#define LEAVE                                                                                      \
    {                                                                                              \
        FSM_MOVE, FSM_COMPLETED,                                                                   \
            FSM_DO_KILL_VM | FSM_DO_SEND_YIELDED | FSM_DO_CLOSE_LINK | FSM_DO_END_CAPTURE |        \
                FSM_DO_EXIT                                                                        \
    }
/* Likewise, by a side that certainly runs the VM: any node may start it then. */
#define END_OWNER MOVE(COMPLETED, END_ACTIONS | FSM_DO_DISOWN)
#define MOVE(to, actions)                                                                          \
    {                                                                                              \
        FSM_MOVE, FSM_##to, (actions)                                                              \
    }
#define IGNORE                                                                                     \
    {                                                                                              \
        FSM_IGNORE, 0, 0                                                                           \
    }
/* Typed in a state that they mean nothing in; of the secondary, they may have crossed an answer. */
#define NO_SWITCHOVER [FSM_CONTINUE] = IGNORE, [FSM_CANCEL] = IGNORE

/* clang-format off */
/* A pair that isn't listed is FSM_BUG. */
static const FsmStep table[FSM_STATES][FSM_EVENTS] = {
    [FSM_P_ASKING] = {
        NO_SWITCHOVER,
        [FSM_VM_LOST]      = FAIL(0),
        [FSM_GRANTED]      = MOVE(P_STARTING, FSM_DO_START_VM),
        [FSM_DENIED]       = MOVE(S_STARTING, FSM_DO_START_VM),
        [FSM_SHUTDOWN]     = END,
    },
    [FSM_P_STARTING] = {
        NO_SWITCHOVER,
        [FSM_VM_STARTED]   = MOVE(P_NONE, FSM_DO_RUN_VM | FSM_DO_OPEN_GATE | FSM_DO_ACCEPT),
        /* A side that can't start it must not keep it from one that can. */
        [FSM_VM_LOST]      = FAIL(FSM_DO_DISOWN),
        [FSM_SHUTDOWN]     = END_OWNER,
    },
    [FSM_P_NONE] = {
        NO_SWITCHOVER,
        [FSM_VM_LOST]      = FAIL(0),
        [FSM_LINK_UP]      = MOVE(P_SETUP, FSM_DO_SEND_RUNS),
        [FSM_SHUTDOWN]     = END_OWNER,
    },
    [FSM_P_SETUP] = {
        NO_SWITCHOVER,
        [FSM_VM_LOST]      = FAIL(FSM_DO_SEND_FAILED),
        [FSM_LINK_DOWN]    = CONTINUE_ALONE,
        [FSM_BLANK]        = MOVE(P_ACTIVE, FSM_DO_RECORD | FSM_DO_SYNCHRONISE),
        [FSM_PEER_FAILED]  = CONTINUE_ALONE,
        [FSM_PEER_GOODBYE] = CONTINUE_ALONE,
        [FSM_SHUTDOWN]     = END_OWNER,
    },
    [FSM_P_ACTIVE] = {
        NO_SWITCHOVER,
        [FSM_VM_LOST]      = FAIL(FSM_DO_SEND_FAILED),
        [FSM_LINK_DOWN]    = CONTINUE_ALONE,
        [FSM_PROVEN]       = MOVE(P_COLO, FSM_DO_SEND_PROTECT),
        [FSM_PEER_FAILED]  = CONTINUE_ALONE,
        [FSM_PEER_GOODBYE] = CONTINUE_ALONE,
        [FSM_SHUTDOWN]     = END_OWNER,
    },
    [FSM_P_COLO] = {
        /* The VM is gone here and nothing held will ever leave: the secondary is to continue. */
        [FSM_VM_LOST]      = FAIL(FSM_DO_SEND_YIELDED),
        [FSM_LINK_DOWN]    = PAUSE,
        /* It has reported that it won't take over. */
        [FSM_PEER_FAILED]  = CONTINUE_ALONE,
        [FSM_PEER_GOODBYE] = CONTINUE_ALONE,
        [FSM_YIELD]        = MOVE(P_DEVICE, FSM_DO_HAND_OVER),
        [FSM_HOLD]         = MOVE(P_PRE_SWITCHOVER, 0),
        [FSM_CONTINUE]     = MOVE(P_DEVICE, FSM_DO_HAND_OVER),
        /* Its VM has not been paused yet, or is resumed already. */
        [FSM_CANCEL]       = IGNORE,
        [FSM_SHUTDOWN]     = END_OWNER,
    },
    [FSM_P_PRE_SWITCHOVER] = {
        [FSM_VM_LOST]      = FAIL(FSM_DO_SEND_YIELDED),
        [FSM_LINK_DOWN]    = PAUSE,
        [FSM_PEER_FAILED]  = CONTINUE_ALONE,
        [FSM_PEER_GOODBYE] = CONTINUE_ALONE,
        /* This host shuts down, say: nobody is waited for any more. */
        [FSM_YIELD]        = MOVE(P_DEVICE, FSM_DO_HAND_OVER),
        [FSM_CONTINUE]     = MOVE(P_DEVICE, FSM_DO_HAND_OVER),
        [FSM_CANCEL]       = MOVE(P_COLO, FSM_DO_RESUME_VM),
        [FSM_SHUTDOWN]     = END_OWNER,
    },
    [FSM_P_DEVICE] = {
        [FSM_VM_LOST]      = FAIL(FSM_DO_SEND_YIELDED),
        [FSM_LINK_DOWN]    = PAUSE,
        [FSM_PEER_FAILED]  = CONTINUE_ALONE,
        [FSM_PEER_GOODBYE] = CONTINUE_ALONE,
        [FSM_YIELD]        = IGNORE,
        [FSM_COMMITTED]    = MOVE(P_HANDED, FSM_DO_SEND_HANDED),
        [FSM_CONTINUE]     = IGNORE,
        [FSM_CANCEL]       = MOVE(P_COLO, FSM_DO_RESUME_VM),
        [FSM_HAND_OVER_FAILED] = MOVE(P_COLO, FSM_DO_RESUME_VM),
        [FSM_SHUTDOWN]     = END_OWNER,
    },
    [FSM_P_HANDED] = {
        /* It can be cancelled by the secondary only: it is asked to, and answers or takes over. */
        NO_SWITCHOVER,
        [FSM_VM_LOST]      = FAIL(FSM_DO_SEND_YIELDED),
        /* It may have asked, and won: only the arbiter knows. */
        [FSM_LINK_DOWN]    = PAUSE,
        [FSM_PEER_FAILED]  = PAUSE,
        [FSM_PEER_GOODBYE] = PAUSE,
        [FSM_HAND_OVER_FAILED] = PAUSE,
        [FSM_YIELD]        = IGNORE,
        [FSM_TAKEN]        = FREEZE(0),
        [FSM_REFUSED]      = MOVE(P_COLO, FSM_DO_RESUME_VM),
        [FSM_GIVEN_BACK]   = CONTINUE_ALONE,
        /* It is the secondary's already. */
        [FSM_SHUTDOWN]     = LEAVE,
    },
    [FSM_P_PAUSED] = {
        NO_SWITCHOVER,
        [FSM_VM_LOST]      = FAIL(0),
        [FSM_LINK_UP]      = MOVE(P_RECOVER, FSM_DO_ASK_ARBITER),
        [FSM_GRANTED]      = CONTINUE_ALONE,
        [FSM_DENIED]       = FREEZE(0),
        [FSM_UNDECIDED]    = MOVE(P_PAUSED, FSM_DO_ACCEPT),
        [FSM_ASK_AGAIN]    = ASK(P_PAUSED),
        [FSM_SHUTDOWN]     = END,
    },
    [FSM_P_RECOVER] = {
        NO_SWITCHOVER,
        [FSM_VM_LOST]      = FAIL(0),
        [FSM_LINK_DOWN]    = ASK(P_PAUSED),
        [FSM_ASK_AGAIN]    = MOVE(P_RECOVER, FSM_DO_ASK_ARBITER),
        [FSM_GRANTED]      = MOVE(P_SETUP, FSM_DO_SEND_RUNS | FSM_DO_RESUME_VM |
                                  FSM_DO_OPEN_GATE),
        /* The peer may not know that it has won, if it is the one that has. */
        [FSM_DENIED]       = FREEZE(FSM_DO_SEND_PAUSED),
        [FSM_UNDECIDED]    = MOVE(P_RECOVER, 0),
        [FSM_PEER_FAILED]  = ASK(P_PAUSED),
        [FSM_PEER_GOODBYE] = ASK(P_PAUSED),
        [FSM_SHUTDOWN]     = END,
    },
    [FSM_P_FROZEN] = {
        NO_SWITCHOVER,
        [FSM_VM_LOST]      = FAIL(0),
        /* Only a side that runs the VM accepts a secondary where this one has been denied. */
        [FSM_LINK_UP]      = MOVE(S_STARTING, FSM_DO_CLOSE_LINK | FSM_DO_END_CAPTURE |
                                  FSM_DO_BECOME_REPLICA),
        [FSM_GRANTED]      = MOVE(P_NONE, FSM_DO_CLOSE_LINK | FSM_DO_RESUME_VM | FSM_DO_OPEN_GATE |
                                  FSM_DO_ACCEPT),
        [FSM_DENIED]       = MOVE(P_FROZEN, 0),
        [FSM_UNDECIDED]    = MOVE(P_FROZEN, 0),
        [FSM_SHUTDOWN]     = END,
    },
    [FSM_S_STARTING] = {
        NO_SWITCHOVER,
        [FSM_VM_STARTED]   = MOVE(S_NONE, FSM_DO_DIAL),
        [FSM_VM_LOST]      = FAIL(0),
        [FSM_SHUTDOWN]     = END,
    },
    [FSM_S_NONE] = {
        NO_SWITCHOVER,
        [FSM_VM_LOST]      = FAIL(0),
        /* A VM that was kept isn't fit for a copy: here and in the two below. */
        [FSM_RECYCLE]      = MOVE(S_STARTING, START_OVER),
        [FSM_LINK_UP]      = MOVE(S_SETUP, 0),
        [FSM_GRANTED]      = MOVE(P_STARTING, START_OVER),
        [FSM_SHUTDOWN]     = END,
    },
    [FSM_S_SETUP] = {
        NO_SWITCHOVER,
        [FSM_VM_LOST]      = FAIL(FSM_DO_SEND_FAILED),
        [FSM_RECYCLE]      = MOVE(S_STARTING, FSM_DO_SEND_GOODBYE | START_OVER),
        [FSM_LINK_DOWN]    = LOOK_AGAIN,
        [FSM_PEER_RUNS]    = MOVE(S_ACTIVE, FSM_DO_START_APPLY),
        /* To a predecessor of this node, which is gone. */
        [FSM_PEER_PAUSED]  = IGNORE,
        [FSM_PEER_FAILED]  = LOOK_AGAIN,
        [FSM_PEER_GOODBYE] = LOOK_AGAIN,
        [FSM_SHUTDOWN]     = END,
    },
    [FSM_S_ACTIVE] = {
        NO_SWITCHOVER,
        [FSM_VM_LOST]      = FAIL(FSM_DO_SEND_FAILED),
        [FSM_RECYCLE]      = MOVE(S_STARTING, FSM_DO_SEND_GOODBYE | START_OVER | FSM_DO_DROP_APPLY),
        [FSM_LINK_DOWN]    = LOOK_AGAIN,
        [FSM_PROTECT]      = MOVE(S_COLO, 0),
        [FSM_PEER_FAILED]  = LOOK_AGAIN,
        [FSM_PEER_GOODBYE] = LOOK_AGAIN,
        [FSM_SHUTDOWN]     = END,
    },
    [FSM_S_COLO] = {
        NO_SWITCHOVER,
        [FSM_VM_LOST]      = FAIL(FSM_DO_SEND_FAILED),
        [FSM_LINK_DOWN]    = ASK(S_PAUSED),
        /* It leaves the arbiter's yes to the primary, but that may be dead by now: see RUNS. */
        [FSM_UNFIT]        = MOVE(S_PAUSED, FSM_DO_CLOSE_LINK | FSM_DO_DIAL),
        /* The primary must not lose the arbiter's yes to a side that can't continue. */
        [FSM_INVALID]       = LOOK_AGAIN,
        [FSM_PEER_GOODBYE] = LOOK_AGAIN,
        /* As if it ended on purpose, and came back. */
        [FSM_RECYCLE]      = MOVE(S_STARTING, FSM_DO_SEND_GOODBYE | START_OVER | FSM_DO_DROP_APPLY),
        /* No other side can continue, but a side that starts again must know that this one did. */
        [FSM_YIELDED]      = ASK(S_PAUSED),
        [FSM_HANDED]       = MOVE(S_HANDED, FSM_DO_CHECK_VM),
        [FSM_SHUTDOWN]     = END,
    },
    [FSM_S_HANDED] = {
        NO_SWITCHOVER,
        /* Before it has asked, the primary may go on without a question; else it asks. */
        [FSM_VM_LOST]      = FAIL(FSM_DO_SEND_REFUSED | FSM_DO_SEND_FAILED),
        [FSM_LINK_DOWN]    = ASK(S_PAUSED),
        [FSM_INVALID]       = LOOK_AGAIN,
        [FSM_YIELDED]      = ASK(S_PAUSED),
        [FSM_VM_FIT]          = MOVE(S_HANDED, FSM_DO_ASK_ARBITER),
        [FSM_VM_UNFIT]     = MOVE(S_COLO, FSM_DO_SEND_REFUSED),
        [FSM_UNFIT]        = MOVE(S_PAUSED, FSM_DO_CLOSE_LINK | FSM_DO_DIAL),
        [FSM_GRANTED]      = MOVE(S_TAKING, FSM_DO_TAKE_OVER),
        [FSM_DENIED]       = MOVE(S_PAUSED, FSM_DO_CLOSE_LINK | FSM_DO_DIAL),
        /* Storage may say yes for this session from now on: but the primary asks it, too. */
        [FSM_UNDECIDED]    = MOVE(S_COLO, FSM_DO_SEND_REFUSED),
        [FSM_SHUTDOWN]     = MOVE(COMPLETED, FSM_DO_SEND_REFUSED | END_ACTIONS),
    },
    [FSM_S_PAUSED] = {
        NO_SWITCHOVER,
        [FSM_VM_LOST]      = FAIL(0),
        [FSM_LINK_UP]      = MOVE(S_RECOVER, 0),
        [FSM_GRANTED]      = TAKE_OVER,
        [FSM_DENIED]       = MOVE(S_PAUSED, FSM_DO_CLOSE_LINK | FSM_DO_DIAL),
        /* A load that was under way when the link was lost: it has not asked yet. */
        [FSM_INVALID]       = LOOK_AGAIN,
        [FSM_UNDECIDED]    = MOVE(S_PAUSED, FSM_DO_DIAL),
        [FSM_ASK_AGAIN]    = ASK(S_PAUSED),
        [FSM_SHUTDOWN]     = END,
    },
    [FSM_S_RECOVER] = {
        NO_SWITCHOVER,
        [FSM_VM_LOST]      = FAIL(FSM_DO_SEND_FAILED),
        [FSM_LINK_DOWN]    = ASK(S_PAUSED),
        [FSM_PEER_RUNS]    = MOVE(S_ACTIVE, FSM_DO_DROP_APPLY | FSM_DO_START_APPLY),
        [FSM_PEER_PAUSED]  = TAKE_OVER,
        /* The answers to a question of before the link was up. */
        [FSM_GRANTED]      = TAKE_OVER,
        [FSM_DENIED]       = MOVE(S_RECOVER, 0),
        [FSM_UNDECIDED]    = MOVE(S_RECOVER, 0),
        [FSM_ASK_AGAIN]    = ASK(S_PAUSED),
        /* It did not know itself who continues. */
        [FSM_PEER_FAILED]  = ASK(S_PAUSED),
        [FSM_PEER_GOODBYE] = ASK(S_PAUSED),
        [FSM_SHUTDOWN]     = END,
    },
    [FSM_S_DEVICE] = {
        NO_SWITCHOVER,
        /* If nobody can have heard it, it is the primary's again: the claim concedes it. */
        [FSM_VM_LOST]      = FAIL(0),
        [FSM_TAKEN_OVER]   = MOVE(P_NONE, FSM_DO_DROP_APPLY | FSM_DO_RECORD |
                                  FSM_DO_ACCEPT),
        [FSM_SHUTDOWN]     = END_OWNER,
    },
    [FSM_S_TAKING] = {
        NO_SWITCHOVER,
        [FSM_VM_LOST]      = GIVE_BACK(S_GIVING),
        [FSM_HAND_OVER_FAILED] = GIVE_BACK(S_GIVING),
        [FSM_SHUTDOWN]     = GIVE_BACK(S_LEAVING),
        [FSM_TAKEN_OVER]   = MOVE(P_NONE, FSM_DO_OPEN_UPLINKS | FSM_DO_SEND_TAKEN | FSM_DO_DROP_APPLY |
                                  FSM_DO_CLOSE_LINK | FSM_DO_RECORD | FSM_DO_ACCEPT),
        [FSM_LINK_DOWN]    = GO_ON,
        [FSM_UNFIT]        = GO_ON,
        [FSM_YIELDED]      = GO_ON,
    },
    /* Without a VM. It is tried until it is done: the primary may have no other way to learn it. */
    [FSM_S_GIVING] = {
        NO_SWITCHOVER,
        [FSM_VM_LOST]      = IGNORE,
        [FSM_LINK_DOWN]    = MOVE(S_GIVING, FSM_DO_CLOSE_LINK),
        [FSM_UNFIT]        = IGNORE,
        [FSM_YIELDED]      = IGNORE,
        [FSM_GIVEN_BACK]   = MOVE(S_STARTING, FSM_DO_SEND_REFUSED | FSM_DO_CLOSE_LINK |
                                  FSM_DO_START_VM),
        [FSM_SHUTDOWN]     = MOVE(S_LEAVING, 0),
    },
    [FSM_S_LEAVING] = {
        NO_SWITCHOVER,
        [FSM_VM_LOST]      = IGNORE,
        [FSM_LINK_DOWN]    = MOVE(S_LEAVING, FSM_DO_CLOSE_LINK),
        [FSM_UNFIT]        = IGNORE,
        [FSM_YIELDED]      = IGNORE,
        [FSM_GIVEN_BACK]   = MOVE(COMPLETED, FSM_DO_SEND_REFUSED | FSM_DO_KILL_VM | FSM_DO_CLOSE_LINK |
                                  FSM_DO_EXIT),
        /* That can't be told, or somebody is in a hurry: the arbiter knows, or will not. */
        [FSM_HAND_OVER_FAILED] = END,
        [FSM_SHUTDOWN]     = END,
    },
    [FSM_FAILED] = {
        NO_SWITCHOVER,
        [FSM_VM_LOST]      = IGNORE,
        [FSM_SHUTDOWN]     = IGNORE,
    },
    [FSM_COMPLETED] = {
        NO_SWITCHOVER,
        [FSM_VM_LOST]      = IGNORE,
        [FSM_SHUTDOWN]     = IGNORE,
    },
};
/* clang-format on */

FsmStep fsm_step(FsmState state, FsmEvent event)
{
    g_assert((guint)state < FSM_STATES && (guint)event < FSM_EVENTS);
    return table[state][event];
}

const char *fsm_state_name(FsmState state)
{
    static const char *const names[FSM_STATES] = {
        [FSM_P_ASKING] = "starting",
        [FSM_P_STARTING] = "starting",
        [FSM_P_NONE] = "none",
        [FSM_P_SETUP] = "setup",
        [FSM_P_ACTIVE] = "active",
        [FSM_P_COLO] = "colo",
        [FSM_P_PRE_SWITCHOVER] = "pre-switchover",
        [FSM_P_DEVICE] = "device",
        [FSM_P_HANDED] = "device",
        [FSM_S_HANDED] = "device",
        [FSM_P_PAUSED] = "paused",
        [FSM_P_RECOVER] = "recover",
        [FSM_P_FROZEN] = "frozen",
        [FSM_S_STARTING] = "starting",
        [FSM_S_NONE] = "none",
        [FSM_S_SETUP] = "setup",
        [FSM_S_ACTIVE] = "active",
        [FSM_S_COLO] = "colo",
        [FSM_S_PAUSED] = "paused",
        [FSM_S_RECOVER] = "recover",
        [FSM_S_DEVICE] = "device",
        [FSM_S_TAKING] = "device",
        [FSM_S_GIVING] = "device",
        [FSM_S_LEAVING] = "device",
        [FSM_FAILED] = "failed",
        [FSM_COMPLETED] = "completed",
    };
    return names[state];
}

const char *fsm_event_name(FsmEvent event)
{
    static const char *const names[FSM_EVENTS] = {
        [FSM_VM_STARTED] = "vm-started",
        [FSM_VM_LOST] = "vm-lost",
        [FSM_LINK_UP] = "link-up",
        [FSM_LINK_DOWN] = "link-down",
        [FSM_BLANK] = "blank",
        [FSM_PROVEN] = "proven",
        [FSM_PROTECT] = "protect",
        [FSM_PEER_RUNS] = "peer-runs",
        [FSM_PEER_PAUSED] = "peer-paused",
        [FSM_PEER_FAILED] = "peer-failed",
        [FSM_PEER_GOODBYE] = "peer-goodbye",
        [FSM_YIELD] = "yield",
        [FSM_YIELDED] = "yielded",
        [FSM_HOLD] = "hold",
        [FSM_CONTINUE] = "continue",
        [FSM_CANCEL] = "cancel",
        [FSM_COMMITTED] = "committed",
        [FSM_HANDED] = "handed",
        [FSM_VM_FIT] = "vm-fit",
        [FSM_VM_UNFIT] = "vm-unfit",
        [FSM_TAKEN] = "taken",
        [FSM_REFUSED] = "refused",
        [FSM_GIVEN_BACK] = "given-back",
        [FSM_HAND_OVER_FAILED] = "hand-over-failed",
        [FSM_GRANTED] = "granted",
        [FSM_UNFIT] = "unfit",
        [FSM_INVALID] = "invalid",
        [FSM_RECYCLE] = "recycle",
        [FSM_DENIED] = "denied",
        [FSM_UNDECIDED] = "undecided",
        [FSM_ASK_AGAIN] = "ask-again",
        [FSM_TAKEN_OVER] = "taken-over",
        [FSM_SHUTDOWN] = "shutdown",
    };
    return names[event];
}

gboolean fsm_is_primary(FsmState state)
{
    switch (state) {
    case FSM_P_ASKING:
    case FSM_P_STARTING:
    case FSM_P_NONE:
    case FSM_P_SETUP:
    case FSM_P_ACTIVE:
        return TRUE;
    default:
        return fsm_is_contested(state);
    }
}

gboolean fsm_is_taking_over(FsmState state)
{
    return state == FSM_S_DEVICE || state == FSM_S_TAKING;
}

gboolean fsm_is_contested(FsmState state)
{
    switch (state) {
    case FSM_P_COLO:
    case FSM_P_PRE_SWITCHOVER:
    case FSM_P_DEVICE:
    case FSM_P_HANDED:
    case FSM_P_PAUSED:
    case FSM_P_RECOVER:
    case FSM_P_FROZEN:
        return TRUE;
    default:
        return FALSE;
    }
}

gboolean fsm_is_protected(FsmState state)
{
    return state == FSM_P_COLO || state == FSM_P_PRE_SWITCHOVER || state == FSM_P_DEVICE ||
           state == FSM_S_COLO;
}
