/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A node of the model: what it is, and what it does for the actions of fsm.h, as node.c does. */
#include "tests/model/model.h"

#include <string.h>

gboolean model_is_dead(const Side *side)
{
    return side->crashed || side->state == FSM_FAILED || side->state == FSM_COMPLETED;
}

gboolean model_is_active(const Side *side)
{
    /* What is sent in `taking` waits until the primary can't have the VM back any more. */
    return !model_is_dead(side) && side->state != FSM_S_TAKING &&
           (side->route == ROUTE_OPEN || side->state == FSM_S_DEVICE);
}

/* Could continue with the VM, but holds its output: perhaps the other side is to continue. */
static gboolean is_holding(const Side *side)
{
    static const gboolean holding[FSM_STATES] = {
        [FSM_P_COLO] = TRUE,           [FSM_P_DEVICE] = TRUE,  [FSM_P_HANDED] = TRUE,
        [FSM_P_PRE_SWITCHOVER] = TRUE, [FSM_P_PAUSED] = TRUE,  [FSM_P_RECOVER] = TRUE,
        [FSM_P_FROZEN] = TRUE,         [FSM_S_COLO] = TRUE,    [FSM_S_HANDED] = TRUE,
        [FSM_S_PAUSED] = TRUE,         [FSM_S_RECOVER] = TRUE, [FSM_S_TAKING] = TRUE,
    };
    return !model_is_dead(side) && holding[side->state] && side->copy != COPY_INVALID;
}

gboolean model_continues(const Side *side)
{
    static const gboolean on[FSM_STATES] = {
        [FSM_P_NONE] = TRUE, [FSM_P_SETUP] = TRUE,  [FSM_P_ACTIVE] = TRUE,
        [FSM_P_COLO] = TRUE, [FSM_P_DEVICE] = TRUE, [FSM_S_DEVICE] = TRUE,
    };
    return !model_is_dead(side) && on[side->state] && !side->stale && side->copy != COPY_INVALID;
}

gboolean model_has_copy(const Side *side)
{
    return model_continues(side) || (is_holding(side) && !side->stale);
}

void model_send(Pair *pair, int to, ModelMessage message)
{
    if (!pair->connected || !pair->side[!to].sees_link)
        return;
    for (int i = 0; i < QUEUE; i++)
        if (!pair->queue[to][i]) {
            pair->queue[to][i] = (guint8)message;
            return;
        }
    /* This exceeds the model's bounds: as if the link had broken here. */
    pair->connected = FALSE;
}

void model_route(Pair *pair, int me, RouteEvent event)
{
    Side *side = &pair->side[me];
    Route next = ROUTES;
    EXPECT(pair, route_step(side->route, event, &next));
    side->route = (guint8)next;
}

/* ---- Actions ---- */

static void close_link(Pair *pair, int me)
{
    Side *side = &pair->side[me];
    /* What was sent before may still arrive: the peer drains its queue or loses it. */
    if (side->sees_link || side->seek != SEEK_NONE)
        pair->connected = FALSE;
    if (side->sees_link)
        memset(pair->queue[me], 0, QUEUE);
    side->seek = SEEK_NONE;
    side->sees_link = FALSE;
}

static void drop_copy(Side *side)
{
    side->copy = COPY_EMPTY;
    side->leaving = side->has_asked = FALSE;
}

/* Actions that send nothing. */
static void act(Pair *pair, int me, FsmAction action)
{
    Side *side = &pair->side[me];
    switch (action) {
    case FSM_DO_KILL_VM:
        side->captured = FALSE;
        drop_copy(side);
        model_route(pair, me, ROUTE_VM_GONE);
        return;
    case FSM_DO_END_CAPTURE:
        side->captured = FALSE;
        model_route(pair, me, ROUTE_SESSION_ENDS);
        return;
    case FSM_DO_DROP_APPLY:
        drop_copy(side);
        model_route(pair, me, ROUTE_COPY_ENDS);
        return;
    case FSM_DO_CLOSE_LINK:
        close_link(pair, me);
        return;
    case FSM_DO_BECOME_REPLICA: /* whether the process is kept or not */
        drop_copy(side);
        model_route(pair, me, ROUTE_VM_GONE);
        side->has_run = FALSE;
        return;
    case FSM_DO_START_VM:
        side->has_run = FALSE;
        return;
    case FSM_DO_RUN_VM:
        side->has_run = TRUE;
        return;
    case FSM_DO_OPEN_GATE:
        model_route(pair, me, ROUTE_ALONE);
        return;
    case FSM_DO_RECORD:
        model_claim_record(pair, me, side->state == FSM_P_ACTIVE ? pair->session : 0);
        return;
    case FSM_DO_GIVE_BACK:
        EXPECT(pair, side->copy == COPY_EMPTY && side->route == ROUTE_DROP);
        side->returning = TRUE;
        return;
    case FSM_DO_START_APPLY:
        model_route(pair, me, ROUTE_COPY_BEGINS);
        model_send(pair, !me, MSG_BLANK);
        return;
    case FSM_DO_TAKE_OVER:
        EXPECT(pair, pair->granted[side->claim] == 1 + me);
        return;
    case FSM_DO_ASK_ARBITER:
        model_claim_ask(pair, me);
        return;
    case FSM_DO_ACCEPT:
        side->seek = SEEK_ACCEPT;
        return;
    case FSM_DO_DIAL:
        side->seek = SEEK_DIAL;
        return;
    case FSM_DO_DISOWN:
        side->releasing = TRUE;
        return;
    default:
        return; /* the VM's and the engines' */
    }
}

/* As node.c has it. */
static ModelMessage refusal_of(const Side *side, FsmEvent what)
{
    gboolean ends = side->state == FSM_FAILED || side->state == FSM_COMPLETED;
    if (what == FSM_GIVEN_BACK)
        return MSG_GIVEN_BACK;
    if (!side->has_asked)
        return MSG_REFUSED;
    return ends ? MSG_NONE : MSG_REFUSED_ASKED;
}

static ModelMessage message_of(const Side *side, FsmEvent what, FsmAction action)
{
    switch (action) {
    case FSM_DO_SEND_PROTECT:
        return MSG_PROTECT;
    case FSM_DO_SEND_RUNS:
        return MSG_RUNS;
    case FSM_DO_SEND_HANDED:
        return MSG_HANDED;
    case FSM_DO_SEND_TAKEN:
        return MSG_TAKEN;
    case FSM_DO_SEND_REFUSED:
        return refusal_of(side, what);
    case FSM_DO_SEND_PAUSED:
        return MSG_PAUSED;
    case FSM_DO_SEND_FAILED:
        return MSG_FAILED;
    case FSM_DO_SEND_GOODBYE:
        return MSG_GOODBYE;
    case FSM_DO_SEND_YIELDED:
        return MSG_YIELDED;
    default:
        return MSG_NONE;
    }
}

/* In the order of FsmAction. */
static void carry_out(Pair *pair, int me, FsmEvent what, guint actions)
{
    for (guint action = 1; action && action <= FSM_DO_EXIT; action <<= 1) {
        if (!(actions & action))
            continue;
        ModelMessage message = message_of(&pair->side[me], what, action);
        if (message)
            model_send(pair, !me, message);
        else
            act(pair, me, action);
    }
}

/* ---- Whose the disks are ---- */

#define OWNS   (FSM_DO_RUN_VM | FSM_DO_RESUME_VM | FSM_DO_TAKE_OVER)
#define STANDS (FSM_DO_SEND_HANDED | FSM_DO_FREEZE_VM | FSM_DO_KILL_VM | FSM_DO_BECOME_REPLICA)

/* A VM that is taken over runs later: model-steps.c. */
static void note_disks(Side *side, FsmEvent what, guint actions)
{
    if (actions & OWNS)
        side->flag = TRUE;
    if (actions & (FSM_DO_RUN_VM | FSM_DO_RESUME_VM))
        side->vm_runs = TRUE;
    if (actions & (STANDS | FSM_DO_GIVE_BACK))
        side->flag = FALSE;
    if ((actions & STANDS) || what == FSM_HOLD)
        side->vm_runs = FALSE;
}

/*
 * A primary that has lost its link, whether it has noticed or not, without having handed its VM over. It
 * keeps the disks that it writes to, and nothing that it does is heard, while the other takes over its own.
 */
static gboolean keeps_its_disks(const Pair *pair, const Side *side)
{
    static const gboolean held[FSM_STATES] = {
        [FSM_P_COLO] = TRUE, [FSM_P_PRE_SWITCHOVER] = TRUE, [FSM_P_DEVICE] = TRUE};
    return side->state == FSM_P_PAUSED || side->state == FSM_P_RECOVER ||
           (held[side->state] && !pair->connected);
}

static void check_disks(const Pair *pair)
{
    const Side *a = &pair->side[0], *b = &pair->side[1];
    EXPECT(pair, !(a->flag && b->flag) || keeps_its_disks(pair, a) || keeps_its_disks(pair, b));
    for (int i = 0; i < 2; i++) {
        const Side *side = &pair->side[i];
        EXPECT(pair, side->state != FSM_P_HANDED || !(side->vm_runs || side->flag));
        EXPECT(pair, !(side->vm_runs && side->route == ROUTE_OPEN) || side->flag);
    }
}

/* ---- Events ---- */

/* Ends a copy of the VM: a failure, or the order of somebody who may have it ended. */
static gboolean is_loss(FsmEvent what)
{
    return what == FSM_VM_LOST || what == FSM_SHUTDOWN ||
           what == FSM_PEER_GOODBYE || /* whose VM ran when it permitted this one to leave: */
           what == FSM_RECYCLE;
}

/* The primary has the VM, as it was handed over; or the link is lost, which isn't noticed yet. */
static gboolean is_given_back(const Pair *pair, int me, const Side *before, FsmEvent what)
{
    const Side *other = &pair->side[!me];
    return before->state == FSM_S_TAKING && what == FSM_HAND_OVER_FAILED &&
           (model_has_copy(other) || !pair->connected);
}

static void check_step(const Pair *pair, int me, const Side *before, FsmEvent what)
{
    const Side *side = &pair->side[me];
    g_autofree char *where =
        g_strdup_printf("event %s in state %s of side %d: ", fsm_event_name(what),
                        fsm_state_name(before->state), me);
    const char *wrong = NULL;
    if (!side->crashed && !route_fits(side->route, side->state))
        wrong = "output goes a way that the state doesn't allow";
    else if (before->stale && model_is_active(side))
        wrong = "it goes on from where the other has gone on before";
    else if (model_has_copy(before) && !model_has_copy(side) && !side->crashed && !is_loss(what) &&
             !is_given_back(pair, me, before, what) && !model_continues(&pair->side[!me]))
        wrong = "it drops the VM, and the other doesn't run it";
    if (!wrong)
        return;
    g_autofree char *text = g_strconcat(where, wrong, NULL);
    model_fail(pair, text);
}

/*
 * It ends, and is no primary: what it may have won, the other side's is. That may land from now on, as what
 * a predecessor was about to give back.
 */
static void concede(const Side *before, Side *side)
{
    /* Silence isn't told apart here: a VM that runs in a takeover may be heard. */
    gboolean heard = fsm_is_taking_over(before->state) && before->route == ROUTE_OPEN;
    side->returning |= model_is_dead(side) && !side->crashed && !side->releasing &&
                       before->may_have && !heard && claim_may_have(before->state);
}

void model_event(Pair *pair, int me, FsmEvent what)
{
    Side *side = &pair->side[me];
    FsmStep step = fsm_step(side->state, what);
    if (step.verdict == FSM_IGNORE)
        return;
    if (step.verdict == FSM_BUG) {
        g_autofree char *text =
            g_strdup_printf("event %s in state %s of side %d", fsm_event_name(what),
                            fsm_state_name(side->state), me);
        model_fail(pair, text);
    }
    Side before = *side;
    model_note(me, side->state, what);
    side->state = (guint8)step.next;
    side->cancelled &= step.next == FSM_S_HANDED;
    side->doubted &= fsm_is_contested(step.next);
    /* What a load makes of it is looked at when it matters: model-steps.c. */
    if (step.next == FSM_S_COLO)
        side->copy = COPY_STANDBY;
    model_claim_moved(pair, me, what, step.next);
    note_disks(side, what, step.actions);
    carry_out(pair, me, what, step.actions);
    concede(&before, side);
    check_step(pair, me, &before, what);
}

/* ---- States ---- */

/* It takes over, and nothing has left but what the other side has sent itself. */
static gboolean is_unheard(const Side *side)
{
    return side->state == FSM_S_DEVICE && side->route != ROUTE_OPEN;
}

void model_check(Pair *pair)
{
    EXPECT(pair, !(model_is_active(&pair->side[0]) && model_is_active(&pair->side[1])));
    check_disks(pair);
    for (int i = 0; i < 2; i++) {
        Side *side = &pair->side[i];
        if (!is_holding(side))
            side->stale = FALSE;
        else if (model_is_active(&pair->side[!i]) && !is_unheard(&pair->side[!i]))
            side->stale = TRUE;
        if (model_is_dead(side))
            continue;
        /* Its yes would be the other's no. */
        gboolean may_win = side->is_asked && claim_is_in_doubt(side->state) && !side->yielded &&
                           !pair->granted[side->claim];
        EXPECT(pair, !may_win || side->copy != COPY_INVALID || model_is_dead(&pair->side[!i]));
        /* Output is held until a checkpoint is complete: that must not wait for storage. */
        if (side->state == FSM_P_ACTIVE && side->record != CLAIM_RECORD_KEPT)
            EXPECT(pair, side->route == ROUTE_OPEN);
    }
}

static void tidy_dead(Side *side, gboolean has_arbiter)
{
    if (side->is_asked && !side->flying && has_arbiter)
        side->flying = side->claim;
    Side left = {.state = side->state,
                 .crashed = side->crashed,
                 .flying = side->flying,
                 .landing = side->returning && has_arbiter ? side->claim : side->landing,
                 .is_auto = side->is_auto};
    if (side->crashed) {
        left.state = FSM_FAILED;
        left.is_auto = FALSE;
    } else {
        /* It may yet write. */
        left.claim = side->claim;
        left.has_run = side->releasing && side->has_run;
        left.releasing = side->releasing;
        left.giving_back = side->giving_back;
        memcpy(left.writes, side->writes, WRITES);
    }
    *side = left;
}

void model_tidy(Pair *pair)
{
    for (int i = 0; i < 2; i++) {
        Side *side = &pair->side[i];
        if (!pair->connected && !side->sees_link)
            memset(pair->queue[i], 0, QUEUE);
        if (model_is_dead(side)) {
            tidy_dead(side, pair->has_arbiter);
            continue;
        }
        if (side->state != FSM_P_ACTIVE) {
            side->captured = FALSE;
            if (side->record == CLAIM_RECORD_KEPT && !side->writes[0])
                side->record = side->record_session = 0;
        }
        gboolean holds_nothing = side->state == FSM_S_STARTING || side->state == FSM_S_NONE ||
                                 side->state == FSM_S_SETUP || side->state == FSM_S_ACTIVE;
        if (holds_nothing && !side->is_asked && side->flying != side->claim && !side->may_have &&
            !side->giving_back)
            side->claim = 0;
        if (side->start == CLAIM_START_IDLE && !side->inquiry)
            side->how = ARBITER_LOOK;
    }
    model_claim_tidy(pair);
}
