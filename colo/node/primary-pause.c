/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A primary's VM that is paused though no checkpoint is taken (fsm.h). The reason may be a
 * hand-over, or its end (final.c). Or the other side is to continue and has not been seen to
 * (frozen). The VM keeps all that it would need to continue itself.
 *
 * The VM is paused when no checkpoint is under way, or stays paused if QEMU refuses to run it:
 * cycle.h.
 *
 * An administrator's `stop` pauses it in the same way. But the cycle then goes on as if the VM ran:
 * checkpoints are taken, and the end of each pause leaves the guest as it is. So this pause ends at
 * once, and whatever finds a guest that runs and is to be stopped, pauses it again. The next checkpoint
 * tells the secondary, and is taken at once.
 *
 * A switchover hands the VM over by the checkpoint that it is paused in (Plan). That one is the last:
 * the secondary continues from it, so nothing of the guest is redone. It may be held in its pause.
 * Cancelled, it is an ordinary checkpoint, and the session goes on.
 *
 * Handing over without one: the cycle under way is completed. The node waits for a secondary's VM
 * that is being loaded, or was stalled. When ours is paused, none of its output leaves any more: the secondary
 * has what is held, or will send the same itself. What comes for the guest meanwhile is kept, and
 * mirrored, so that the side that continues has it.
 */
#include "colo/node/events.h"
#include "colo/node/node.h"
#include "colo/node/primary_internal.h"
#include "common/fault.h"
#include "common/log.h"
#include "common/patience.h"

/*
 * How long each step of a hand-over may take. What has a limit of its own is not limited here: the
 * disks' sync, and what is on its way to the secondary, which has to show progress (answer-watch.h).
 * But the guest stands while its last checkpoint is on its way. That counts, unless downtime-limit
 * says that nothing is to be waited for. A planned move gets disk-timeout until the disks are given up:
 * QEMU flushes them before it saves the device state, too. When the VM is
 * handed over, the secondary asks the arbiter for so long, tries to take over for disk-timeout, and
 * gives the VM back.
 */
#define HAND_OVER_MS 10000

void primary_set_plan(Primary *primary, Plan next)
{
    Plan before = primary->plan;
    if (next == before)
        return;
    if (!plan_may_become(before, next))
        g_error("the plan can't become %s from %s", plan_name(next), plan_name(before));
    log_debug("plan: %s -> %s", plan_name(before), plan_name(next));
    primary->plan = next;
}

/* ---- Paused ---- */

void primary_committed(Primary *primary)
{
    if (primary_look(primary).state != FSM_P_DEVICE || !cycle_is_committed(primary->cycle.phase))
        return;
    primary->handler->renounce_disks(primary->user_data);
    primary->handler->event(FSM_COMMITTED, primary->user_data);
}

/* Nothing is to be written here any more: the other side's disks are those that count. */
static void renounce_if_frozen(Primary *primary)
{
    if (primary->frozen)
        primary->handler->renounce_disks(primary->user_data);
}

gboolean primary_owes_stop(const Primary *primary)
{
    PrimaryWorld world = primary_look(primary);
    return fsm_is_protected(world.state) && primary->cycle.stopped != world.is_stopped;
}

void primary_paused(Primary *primary)
{
    PrimaryWorld world = primary_look(primary);
    renounce_if_frozen(primary);
    if (world.ends)
        primary->handler->ready_to_end(primary->user_data);
    else if (!primary->pause_wanted || (world.is_stopped && primary_owes_stop(primary)))
        primary_step(primary, CYCLE_EVENT_RESUME); /* the guest stays stopped */
    else
        primary_committed(primary);
}

void primary_held(Primary *primary)
{
    colo_fault_point("switchover-held");
    primary->handler->held(primary->user_data);
}

/*
 * A VM that was paused for a checkpoint, and waits to be resumed, is handed over by that: there can
 * be no later one.
 */
static gboolean is_to_stay_paused(const Primary *primary)
{
    return primary->pause_wanted ||
           (primary_is_handing_over(primary) && primary->cycle.phase != CYCLE_RESUMING);
}

void primary_stay_paused(Primary *primary)
{
    if (!is_to_stay_paused(primary) || !primary->handler->give_up(primary->user_data))
        return;
    primary_set_plan(primary, PLAN_NONE);
    primary->pause_wanted = TRUE;
    primary_step(primary, CYCLE_EVENT_REFUSED);
}

gboolean primary_is_to_pause(Primary *primary)
{
    PrimaryWorld world = primary_look(primary);
    if (!primary->pause_wanted) {
        gboolean is_to_stop = world.is_stopped && vm_is_running(primary->vm);
        if (is_to_stop)
            primary_step(primary, CYCLE_EVENT_STOP);
        return is_to_stop;
    }
    /* A hand-over needs a secondary that can continue: a stalled one takes a checkpoint first. So
     * does one that doesn't know whether the guest is to. */
    if ((!world.copy_is_fit || primary_owes_stop(primary)) && !world.ends)
        return FALSE;
    if (world.peer_vm != PEER_VM_LOADS || world.ends)
        primary_step(primary, CYCLE_EVENT_STOP);
    return TRUE;
}

static void unplan(Primary *primary)
{
    if (primary->plan != PLAN_NONE)
        /* The last checkpoint doesn't have the secondary's VM run, or didn't come. */
        primary_want(primary, REASON_ADMIN);
    primary_set_plan(primary, PLAN_NONE);
    primary->cycle.last = FALSE;
}

void primary_resume(Primary *primary)
{
    unplan(primary);
    primary->pause_wanted = FALSE;
    if (primary->frozen)
        primary->handler->fence(FALSE, primary->user_data);
    primary->frozen = FALSE;
    primary_step(primary, CYCLE_EVENT_RESUME);
    /* While it was to be paused, nothing was scheduled. */
    primary_reschedule(primary);
}

void primary_pause(Primary *primary)
{
    primary->pause_wanted = TRUE;
    primary_stay_paused(primary);
    primary_reschedule(primary);
}

void primary_freeze(Primary *primary)
{
    primary->handler->fence(TRUE, primary->user_data);
    primary->frozen = TRUE;
    primary_pause(primary);
    if (primary->cycle.phase == CYCLE_PAUSED)
        renounce_if_frozen(primary);
}

gboolean primary_is_to_be_paused(const Primary *primary)
{
    return primary->pause_wanted;
}

/* ---- Handing over ---- */

static gboolean on_hand_over_timer(gpointer user_data);

static void limit_hand_over(Primary *primary, guint64 limit_ms)
{
    primary_end_hand_over(primary);
    primary->hand_over_limit_ms = (guint)MIN(limit_ms, G_MAXINT32);
    primary->hand_over_timer =
        patience_add(primary->hand_over_limit_ms, on_hand_over_timer, primary);
}

/* QEMU flushes the disks in what it does for a planned move, before they are given up. */
static guint64 step_ms(const Primary *primary)
{
    gboolean flushes = primary->plan != PLAN_NONE && primary_look(primary).has_disks;
    return flushes ? primary->config->disk_timeout_ms : HAND_OVER_MS;
}

static gboolean has_own_limit(const Primary *primary)
{
    switch (primary->cycle.phase) {
    case CYCLE_SYNCING:
    case CYCLE_SENDING:
    case CYCLE_SENT:
    case CYCLE_RECEIVED:
        return TRUE;
    case CYCLE_PAUSED_SENDING:
    case CYCLE_PAUSED_SENT:
    case CYCLE_PAUSED_RECEIVED:
        return primary->plan == PLAN_LAST && primary->config->downtime_limit_ms == 0;
    default:
        return FALSE;
    }
}

gboolean primary_has_own_limit(const Primary *primary)
{
    return primary_is_handing_over(primary) && has_own_limit(primary);
}

void primary_end_own_limit(Primary *primary)
{
    /* A failover may take many checkpoints before it pauses the VM: they don't give it more time. */
    gboolean is_last = primary->plan != PLAN_NONE;
    if (is_last && primary_look(primary).state == FSM_P_DEVICE && !has_own_limit(primary))
        limit_hand_over(primary, step_ms(primary));
}

/* What QEMU does in some phases begins with a flush of the disks. */
static char *waits_for_qemu(const Primary *primary, const char *what)
{
    CyclePhase phase = primary->cycle.phase;
    gboolean flushes = phase == CYCLE_PAUSING || phase == CYCLE_STOPPING || phase == CYCLE_SAVING ||
                       phase == CYCLE_SAVING_MARKED || phase == CYCLE_SAVING_UNMARKED;
    if (!flushes || !primary_look(primary).has_disks)
        return g_strdup(what);
    g_autofree char *disks = primary->handler->disks_wait_for(primary->user_data);
    return g_strdup_printf("%s; %s", what, disks);
}

/* The caller's. */
static char *waits_for(const Primary *primary)
{
    FsmState state = primary_look(primary).state;
    if (state != FSM_P_DEVICE)
        return g_strdup("the secondary has not taken it");
    switch (primary->cycle.phase) {
    case CYCLE_IDLE:
        return g_strdup("the secondary's VM can't continue yet");
    case CYCLE_GIVING_UP:
        return primary->handler->disks_wait_for(primary->user_data);
    case CYCLE_PAUSED_SENDING:
    case CYCLE_PAUSED_SENT:
    case CYCLE_PAUSED_RECEIVED:
        return g_strdup(
            "the checkpoint that the VM stands in is still on its way (raise downtime-limit, or "
            "set it to 0ms)");
    default:
        break;
    }
    const char *what = cycle_waits_for(primary->cycle.phase);
    return waits_for_qemu(primary, what ? what : "a checkpoint is under way");
}

static gboolean on_hand_over_timer(gpointer user_data)
{
    Primary *primary = user_data;
    primary->hand_over_timer = 0;
    if (primary_look(primary).state == FSM_P_DEVICE && has_own_limit(primary)) {
        limit_hand_over(primary, HAND_OVER_MS);
        return G_SOURCE_REMOVE;
    }
    g_autofree char *what = waits_for(primary);
    g_autoptr(GError) error =
        g_error_new(NODE_ERROR, NODE_ERROR_REFUSED, "not done after %.1f s: %s",
                    primary->hand_over_limit_ms / 1000.0, what);
    primary->handler->late(error, primary->user_data);
    primary->handler->event(FSM_HAND_OVER_FAILED, primary->user_data);
    /* Not before: what was wrong is over when a pair is protected. */
    primary->handler->trouble("the VM can't be handed over", error, primary->user_data);
    return G_SOURCE_REMOVE;
}

void primary_gives_up_disks(Primary *primary)
{
    if (primary_is_handing_over(primary))
        limit_hand_over(primary, primary->config->disk_timeout_ms);
}

void primary_gave_up_disks(Primary *primary)
{
    if (primary_is_handing_over(primary))
        limit_hand_over(primary, HAND_OVER_MS);
}

void primary_hand_over(Primary *primary)
{
    limit_hand_over(primary, step_ms(primary));
    if (primary->plan == PLAN_NONE) {
        primary_pause(primary);
        return;
    }
    primary_set_plan(primary, PLAN_LAST);
    if (primary->cycle.phase == CYCLE_HELD)
        primary_step(primary, CYCLE_EVENT_GO);
    else
        primary_stay_paused(primary);
    primary_reschedule(primary);
}

/*
 * No checkpoint can be made here, and the guest's output waits for the next one. So a secondary that
 * can continue does so, from the one that it has: nobody has seen more, and its images are good. Our VM is kept until
 * it does. It can't be handed over by a last checkpoint, as a switchover would. Without such a secondary it goes on
 * here, alone.
 */
void primary_cannot_go_on(Primary *primary, CycleEvent event, const GError *error)
{
    static const char what[] = "no checkpoint can be made of the disks";
    gboolean planned = primary->plan != PLAN_NONE;
    if (planned)
        primary->handler->late(error, primary->user_data);
    if (planned && primary_look(primary).state == FSM_P_DEVICE)
        primary->handler->event(FSM_HAND_OVER_FAILED, primary->user_data);
    unplan(primary);
    PrimaryWorld world = primary_look(primary);
    /* One that is unfit, or doesn't know whether the guest is to run, would need a checkpoint first. */
    gboolean can_take = world.copy_is_fit && !primary_owes_stop(primary);
    if (can_take && events_takes_yield(world.state, TRUE))
        primary->handler->event(FSM_YIELD, primary->user_data);
    if (!can_take || primary_look(primary).state != FSM_P_DEVICE) {
        primary->handler->stream_lost(what, error, primary->user_data);
        return;
    }
    primary->handler->trouble(what, error, primary->user_data);
    primary_step(primary, event);
}

void primary_plan(Primary *primary)
{
    primary_set_plan(primary, PLAN_HELD);
    primary_reschedule(primary);
}

void primary_unplan(Primary *primary)
{
    unplan(primary);
    if (primary->cycle.phase == CYCLE_HELD)
        primary_step(primary, CYCLE_EVENT_RESUME);
}

void primary_end_hand_over(Primary *primary)
{
    g_clear_handle_id(&primary->hand_over_timer, g_source_remove);
}

gboolean primary_is_handing_over(const Primary *primary)
{
    return primary->hand_over_timer != 0;
}

void primary_send_handed(Primary *primary)
{
    colo_fault_point("handed-paused");
    /* One that is over before the secondary's limits are would leave both sides to the arbiter. The
     * disk-timeout is the pair's. */
    limit_hand_over(primary, 3 * HAND_OVER_MS + primary->config->disk_timeout_ms);
    gint64 paused_us = colo_time_diff_us(colo_time_now(), primary->cycle.pause_started);
    MessageMoved moved = {.epoch = primary_look(primary).epoch,
                          .us = primary->cycle.pause_started.us ? (guint64)paused_us : 0};
    primary->handler->send(&(Message){.type = LINK_MSG_HANDED, .moved = moved}, primary->user_data);
    primary->handler->mirror(primary->user_data);
    colo_fault_point("handed-sent");
}

gboolean primary_refused(Primary *primary, const MessageRefused *refused, GError **error)
{
    FsmState state = primary_look(primary).state;
    if (state != FSM_P_HANDED) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL, "message 'refused' in state %s",
                    fsm_state_name(state));
        return FALSE;
    }
    g_autoptr(GError) why = g_error_new_literal(NODE_ERROR, NODE_ERROR_REFUSED, refused->why);
    gboolean is_given_back = refused->kind == MESSAGE_REFUSED_GIVEN_BACK;
    primary->doubted |= refused->kind == MESSAGE_REFUSED_ASKED;
    /* Its VM is paused, and ours is no more. */
    primary_want(primary, REASON_ADMIN);
    primary->handler->event(is_given_back ? FSM_GIVEN_BACK : FSM_REFUSED, primary->user_data);
    /* Not before: what was wrong is over when a pair is protected. */
    primary->handler->trouble("the secondary does not take over", why, primary->user_data);
    return TRUE;
}

gboolean primary_is_doubted(const Primary *primary)
{
    return primary->doubted;
}
