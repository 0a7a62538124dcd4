/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Carries a switchover out: what follows from the tables, on either side. Only set_phase() changes
 * the phase; it reports each change of the status. switchover-secondary.c finds out what happens to
 * a secondary's, and switchover-figures.c describes it.
 *
 * Timers: `look` sets a pace (what is left, which parts approve); `limit` is a wait that ends it.
 */
#include "colo/node/switchover_internal.h"

#include "colo/control/control.h"
#include "common/log.h"
#include "common/patience.h"
#include "common/timer.h"

#include <string.h>

#define LOOK_MS 20

static SwitchoverWorld look(const Switchover *switchover)
{
    return switchover->handler.look(switchover->user_data);
}

/* ---- Messages ---- */

static void say(const Switchover *switchover, LinkMessage type, guint32 flags, const char *text)
{
    MessageSwitchover content = {.id = switchover->id, .flags = flags, .text = text};
    switchover->handler.send(&(Message){.type = type, .switchover = content},
                             switchover->user_data);
}

/* ---- The phase ---- */

static void end_limit(Switchover *switchover)
{
    if (switchover->limit_timer)
        g_source_remove(switchover->limit_timer);
    switchover->limit_timer = 0;
}

static void note_times(Switchover *switchover, SwitchoverPhase before)
{
    ColoTime now = colo_time_now();
    if (before == SWITCHOVER_SETUP && switchover->phase == SWITCHOVER_ACTIVE)
        switchover->ready = now;
    if (!switchover_is_handed(before) && switchover->phase == SWITCHOVER_HANDED)
        switchover->handed = now;
    if (switchover_is_under_way(before) && !switchover_is_under_way(switchover->phase))
        switchover->ended = now;
}

static void set_phase(Switchover *switchover, SwitchoverPhase next)
{
    SwitchoverPhase before = switchover->phase;
    const char *was = switchover_phase_name(before), *is = switchover_phase_name(next);
    if (next == before)
        return;
    if (!switchover_may_become(switchover->is_primary, before, next))
        g_error("a %s's switchover can't become %s from %s",
                switchover->is_primary ? "primary" : "secondary", is ? is : "none",
                was ? was : "none");
    switchover->phase = next;
    note_times(switchover, before);
    if (!switchover_is_limited(next))
        end_limit(switchover);
    gboolean looks = next == SWITCHOVER_ACTIVE || next == SWITCHOVER_SETUP;
    colo_timer_set_us(switchover->look_timer, looks ? 0 : -1);
    if (!looks && !switchover->is_primary)
        switchover->handler.watch(FALSE, switchover->user_data);
    if (!g_strcmp0(was, is))
        return;
    if (switchover->error && next == SWITCHOVER_FAILED)
        log_warning("switchover %u: %s: %s", switchover->id, is, switchover->error);
    else
        log_info("switchover %u: %s", switchover->id, is);
    switchover->handler.changed(switchover->user_data);
}

static void feed(Switchover *switchover, SwitchoverEvent event);

static void set_error(Switchover *switchover, const char *why)
{
    if (!switchover->error)
        switchover->error = g_strdup(why);
}

static void carry_out(Switchover *switchover, guint actions)
{
    const SwitchoverHandler *handler = &switchover->handler;
    gpointer user_data = switchover->user_data;
    if (actions & SWITCHOVER_DO_ASK)
        say(switchover, LINK_MSG_SWITCHOVER_ASK, 0, "");
    if (actions & SWITCHOVER_DO_HOLD) {
        handler->plan(user_data);
        /* It stands already, in a checkpoint that is to be its last one. */
        if (look(switchover).is_refused && !switchover->pause)
            feed(switchover, SWITCHOVER_HELD);
    }
    if (actions & SWITCHOVER_DO_PRE)
        handler->event(FSM_HOLD, user_data);
    if (actions & SWITCHOVER_DO_SAY_PHASE)
        say(switchover, LINK_MSG_SWITCHOVER_PHASE,
            switchover->phase == SWITCHOVER_PRE ? SWITCHOVER_TOLD_HELD : SWITCHOVER_TOLD_GOES, "");
    if (actions & SWITCHOVER_DO_SAY_WANT)
        say(switchover, LINK_MSG_SWITCHOVER_WANT, switchover->wants_pause ? 1 : 0, "");
    if (actions & SWITCHOVER_DO_SAY_ACK)
        say(switchover, LINK_MSG_SWITCHOVER_ACK, 0, switchover->pending);
    if (actions & SWITCHOVER_DO_SAY_CANCEL)
        say(switchover, LINK_MSG_SWITCHOVER_CANCEL, 0, switchover->error ? switchover->error : "");
    if (actions & SWITCHOVER_DO_LET_GO)
        handler->unplan(user_data);
    if (actions & SWITCHOVER_DO_GO)
        handler->event(FSM_CONTINUE, user_data);
    if (actions & SWITCHOVER_DO_WAY_BACK) {
        handler->event(FSM_CANCEL, user_data);
        /* It had not been paused yet. */
        if (look(switchover).vm_runs)
            feed(switchover, SWITCHOVER_RUNS);
    }
}

/* What follows may come back here from within: it is done last. */
void switchover_feed(Switchover *switchover, SwitchoverEvent event, const char *why)
{
    SwitchoverStep step = switchover->is_primary
                              ? switchover_step(switchover->phase, event, switchover->pause)
                              : switchover_secondary_step(switchover->phase, event);
    if (step.verdict != SWITCHOVER_MOVE)
        return;
    if (why && step.next == SWITCHOVER_FAILED)
        set_error(switchover, why);
    set_phase(switchover, step.next);
    carry_out(switchover, step.actions);
}

/* Of what only a primary can see. */
static void feed(Switchover *switchover, SwitchoverEvent event)
{
    if (switchover->is_primary)
        switchover_feed(switchover, event, NULL);
}

static void end(Switchover *switchover, const char *why)
{
    if (switchover->is_primary)
        switchover_feed(switchover, SWITCHOVER_OVER, why);
}

/* ---- The primary waits ---- */

static gboolean on_too_late(gpointer user_data)
{
    Switchover *switchover = user_data;
    SwitchoverWorld world = look(switchover);
    g_autofree char *why = switchover_why_late(switchover, &world);
    switchover->limit_timer = 0;
    end(switchover, why);
    return G_SOURCE_REMOVE;
}

/* TRUE: the VM is to be paused for its last checkpoint. */
static gboolean look_at_load(Switchover *switchover, const SwitchoverWorld *world)
{
    switchover->load = world->load;
    switchover->load.last_us = switchover->last_us;
    switchover->expected_us = switchover_expected_us(&switchover->load);
    guint64 limit_ms = switchover->config->downtime_limit_ms;
    /* What a checkpoint has yet to send is not in what is left. */
    gboolean counts = !world->is_busy || world->is_refused || limit_ms == 0;
    if (!world->copy_is_fit || !counts)
        return FALSE;
    gboolean small = switchover_is_small(&switchover->load, limit_ms);
    if (small)
        feed(switchover, SWITCHOVER_SMALL);
    return small;
}

static void look_ahead(Switchover *switchover, const SwitchoverWorld *world)
{
    if (!look_at_load(switchover, world) && world->copy_is_fit && !world->is_busy &&
        !world->is_loading &&
        switchover_may_shrink(&switchover->load, switchover->config->downtime_limit_ms))
        switchover->handler.ahead(switchover->user_data);
}

static gboolean on_look(gpointer user_data)
{
    Switchover *switchover = user_data;
    SwitchoverWorld world = look(switchover);
    ColoTime again = colo_time_add_us(colo_time_now(), LOOK_MS * COLO_US_PER_MS);
    colo_timer_set_us(switchover->look_timer, again.us);
    if (switchover->is_primary) {
        if (switchover->phase == SWITCHOVER_ACTIVE)
            look_ahead(switchover, &world);
    } else {
        switchover_look_at_parts(switchover, &world);
    }
    return G_SOURCE_CONTINUE;
}

/* ---- Commands ---- */

/* Forgets the one before. */
void switchover_reset(Switchover *switchover, gboolean is_primary, guint32 id, gboolean pause)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    end_limit(switchover);
    g_clear_pointer(&switchover->pending, g_free);
    g_clear_pointer(&switchover->reason, g_free);
    g_clear_pointer(&switchover->error, g_free);
    g_free(switchover->started);
    switchover->started = now ? g_date_time_format(now, "%Y-%m-%dT%H:%M:%SZ") : NULL;
    switchover->is_primary = is_primary;
    switchover->id = id;
    switchover->pause = pause;
    switchover->parts = switchover->looks = switchover->ahead = 0;
    switchover->began = colo_time_now();
    switchover->ready = switchover->ended = (ColoTime){0};
    switchover->stopped = switchover->handed = switchover->resumed = (ColoTime){0};
    switchover->load = (SwitchoverLoad){0};
    switchover->expected_us = switchover->peer_took_us = -1;
}

static gboolean refuse(GError **error, const char *why)
{
    g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_STATE, "a switchover is not possible now: %s",
                why);
    return FALSE;
}

static gboolean may_begin(const Switchover *switchover, const SwitchoverWorld *world,
                          GError **error)
{
    if (switchover_is_under_way(switchover->phase)) {
        g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_STATE,
                    "switchover %u is under way, in status %s (wait for its end, or cancel it)",
                    switchover->id, switchover_phase_name(switchover->phase));
        return FALSE;
    }
    if (world->ends)
        return refuse(error, "this node ends");
    if (world->state != FSM_P_COLO && world->state != FSM_S_COLO) {
        g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_STATE,
                    "a switchover is not possible in state %s: it needs a protected pair (wait "
                    "until status shows PROTECTED)",
                    fsm_state_name(world->state));
        return FALSE;
    }
    if (world->state == FSM_P_COLO && !world->copy_is_fit)
        return refuse(error, "the secondary's VM has stopped by itself, and a checkpoint is under "
                             "way (try again)");
    return TRUE;
}

static gboolean begin(Switchover *switchover, guint32 id, gboolean pause, GError **error)
{
    SwitchoverWorld world = look(switchover);
    if (!may_begin(switchover, &world, error))
        return FALSE;
    gboolean is_primary = world.state == FSM_P_COLO;
    switchover_reset(switchover, is_primary, id,
                     pause || switchover->config->pause_before_switchover);
    switchover->wants_pause = pause;
    guint64 limit_ms = switchover->config->switchover_timeout_ms;
    if (is_primary && limit_ms)
        switchover->limit_timer = patience_add((guint)limit_ms, on_too_late, switchover);
    switchover_feed(switchover, SWITCHOVER_BEGIN, NULL);
    return TRUE;
}

gboolean switchover_begin(Switchover *switchover, gboolean pause, guint32 *ret_id, GError **error)
{
    if (!begin(switchover, switchover->id + 1, pause, error))
        return FALSE;
    *ret_id = switchover->id;
    return TRUE;
}

gboolean switchover_continue(Switchover *switchover, const char *status, GError **error)
{
    static const char held[] = "pre-switchover";
    const char *is = switchover_phase_name(switchover->phase);
    gboolean holds = switchover->phase == SWITCHOVER_PRE;
    if (status && strcmp(status, held)) {
        g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_ARGUMENT,
                    "no switchover waits in '%s': one waits for continue in '%s' only", status,
                    held);
        return FALSE;
    }
    if (switchover->is_primary && holds) {
        feed(switchover, SWITCHOVER_GO_ON);
        return TRUE;
    }
    if (!is)
        g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_STATE,
                    "there was no switchover: begin one with pause, on either node");
    else
        g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_STATE,
                    "switchover %u is in status %s%s%s%s", switchover->id, is,
                    holds ? "" : ", not in ", holds ? "" : held,
                    switchover->is_primary ? "" : ": continue it on its primary");
    return FALSE;
}

void switchover_cancel(Switchover *switchover)
{
    switchover_feed(switchover, SWITCHOVER_CANCEL, NULL);
}

/* ---- What happens ---- */

const char *switchover_why_over(FsmState next, FsmEvent event)
{
    switch (event) {
    case FSM_LINK_DOWN:
        return next == FSM_P_PAUSED ? "the link was lost: it is being found out which node "
                                      "continues"
                                    : "the link was lost";
    case FSM_VM_LOST:
        return "the VM is lost on this node";
    case FSM_PEER_FAILED:
    case FSM_PEER_GOODBYE:
        return "the peer has ended";
    case FSM_SHUTDOWN:
        return "this node ends";
    case FSM_YIELD:
    case FSM_HANDED:
        return "a failover was ordered, or this host has no carrier, and that came first";
    case FSM_HAND_OVER_FAILED:
        return "the VM could not be handed over in time";
    case FSM_VM_UNFIT:
    case FSM_UNDECIDED:
        return switchover_refusal(event);
    default:
        return "the nodes parted";
    }
}

static void moved_primary(Switchover *switchover, FsmState next, FsmEvent event)
{
    SwitchoverEvent follows = switchover_of_state(switchover->phase, next, event);
    if (follows == SWITCHOVER_EVENTS)
        return;
    if (follows == SWITCHOVER_OVER)
        set_error(switchover, event == FSM_HAND_OVER_FAILED && switchover->reason
                                  ? switchover->reason
                                  : switchover_why_over(next, event));
    if (follows == SWITCHOVER_LEFT && switchover->phase == SWITCHOVER_HANDED)
        set_error(switchover, switchover->reason ? switchover->reason : "the secondary refuses");
    feed(switchover, follows);
}

void switchover_moved(Switchover *switchover, FsmState next, FsmEvent event)
{
    if (!switchover_is_under_way(switchover->phase))
        return;
    if (switchover->is_primary)
        moved_primary(switchover, next, event);
    else
        switchover_moved_secondary(switchover, next, event);
}

void switchover_paused(Switchover *switchover, ColoTime since)
{
    if (switchover->is_primary &&
        (switchover->phase == SWITCHOVER_STOPPING || switchover->phase == SWITCHOVER_DEVICE))
        switchover->stopped = since;
}

void switchover_held(Switchover *switchover)
{
    feed(switchover, SWITCHOVER_HELD);
}

void switchover_runs(Switchover *switchover)
{
    /* Before its last checkpoint there may be another one, whose pause is none of ours. */
    if (switchover_is_limited(switchover->phase) || switchover->phase == SWITCHOVER_DEVICE)
        switchover->stopped = (ColoTime){0};
    if (switchover->is_primary && switchover->stopped.us && !switchover->resumed.us)
        switchover->resumed = colo_time_now();
    switchover->ran = colo_time_now();
    feed(switchover, SWITCHOVER_RUNS);
}

void switchover_checkpoint(Switchover *switchover)
{
    switchover->last_us =
        switchover->ran.us ? colo_time_diff_us(colo_time_now(), switchover->ran) : 0;
    if (!switchover->is_primary || switchover->phase != SWITCHOVER_ACTIVE)
        return;
    SwitchoverWorld world = look(switchover);
    switchover->ahead++;
    look_at_load(switchover, &world);
}

void switchover_guest(Switchover *switchover, const char *what)
{
    if (switchover_is_limited(switchover->phase) && switchover->config->abort_on_error)
        end(switchover, what);
}

void switchover_vm_ends(Switchover *switchover, const char *why)
{
    if (switchover_is_before_device(switchover->phase))
        end(switchover, why);
}

void switchover_node_ends(Switchover *switchover)
{
    if (switchover_is_limited(switchover->phase))
        end(switchover, "this node ends");
}

void switchover_cannot(Switchover *switchover, const char *why)
{
    if (switchover_is_limited(switchover->phase))
        end(switchover, why);
    else
        switchover_refused(switchover, why);
}

void switchover_refused(Switchover *switchover, const char *why)
{
    g_free(switchover->reason);
    switchover->reason = g_strdup(why);
}

void switchover_taken(Switchover *switchover, guint64 took_us)
{
    if (switchover->is_primary && switchover_is_under_way(switchover->phase))
        switchover->peer_took_us = (gint64)MIN(took_us, (guint64)G_MAXINT64);
}

gboolean switchover_is_cancelled(const Switchover *switchover)
{
    return !switchover->is_primary && switchover->phase == SWITCHOVER_HANDED_CANCELLING;
}

/* ---- Messages ---- */

static void acked(Switchover *switchover, const char *pending)
{
    gboolean under_way = switchover->is_primary && switchover_is_under_way(switchover->phase);
    if (!under_way)
        return;
    g_free(switchover->pending);
    switchover->pending = g_strdup(pending);
    feed(switchover, *pending ? SWITCHOVER_WITHDRAWN : SWITCHOVER_ACKED);
}

static void wanted(Switchover *switchover, guint32 id, gboolean pause)
{
    g_autoptr(GError) error = NULL;
    /* Ordered on both nodes at once: that is one. */
    if (switchover->is_primary && switchover->id == id &&
        switchover_is_under_way(switchover->phase)) {
        switchover->pause |= pause && switchover_is_limited(switchover->phase);
        return;
    }
    /* With its number: an administrator there has been told it. */
    if (begin(switchover, id, pause, &error))
        return;
    /* It is told of the one that it has asked for. */
    MessageSwitchover content = {.id = id, .text = error->message};
    switchover->handler.send(&(Message){.type = LINK_MSG_SWITCHOVER_CANCEL, .switchover = content},
                             switchover->user_data);
}

void switchover_received(Switchover *switchover, const Message *message)
{
    const MessageSwitchover *content = &message->switchover;
    if (message->type == LINK_MSG_SWITCHOVER_ASK) {
        switchover_asked(switchover, content->id);
        return;
    }
    if (message->type == LINK_MSG_SWITCHOVER_WANT) {
        wanted(switchover, content->id, content->flags & 1);
        return;
    }
    /* Of one that is over here: it has crossed its end. */
    if (content->id != switchover->id)
        return;
    if (message->type == LINK_MSG_SWITCHOVER_PHASE)
        switchover_told(switchover, content->flags);
    else if (message->type == LINK_MSG_SWITCHOVER_ACK)
        acked(switchover, content->text);
    else if (switchover->is_primary)
        feed(switchover, SWITCHOVER_CANCEL);
    else
        switchover_cancelled_there(switchover, content->text);
}

/* ---- Life ---- */

Switchover *switchover_new(const Config *config, const SwitchoverHandler *handler,
                           gpointer user_data)
{
    Switchover *switchover = g_new0(Switchover, 1);
    switchover->config = config;
    switchover->handler = *handler;
    switchover->user_data = user_data;
    switchover->expected_us = switchover->peer_took_us = -1;
    switchover->look_timer = colo_timer_new(on_look, switchover);
    return switchover;
}

void switchover_free(Switchover *switchover)
{
    if (!switchover)
        return;
    end_limit(switchover);
    g_source_destroy(switchover->look_timer);
    g_source_unref(switchover->look_timer);
    g_free(switchover->pending);
    g_free(switchover->reason);
    g_free(switchover->error);
    g_free(switchover->started);
    g_free(switchover);
}
