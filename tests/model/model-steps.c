/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What may happen next to the link, to messages and to a node by itself. */
#include "tests/model/model.h"

#include <string.h>

/*
 * A protected copy may be under a load, or a load may have made it invalid until the next
 * checkpoint. This matters when something happens to the secondary. So such steps are tried with
 * each of these.
 */
static const CopyCondition loads[] = {COPY_LOADING, COPY_INVALID};

/* ---- The link ---- */

static void lose_link(Pair *pair, int me)
{
    Side *side = &pair->side[me];
    side->sees_link = FALSE;
    memset(pair->queue[me], 0, QUEUE);
    model_event(pair, me, events_link_lost(side->state, side->copy != COPY_INVALID));
}

/* Nothing but this: in the end; or if something fails, or an administrator orders it. */
static void event_step(Search *search, int i, FsmEvent event)
{
    STEP(pair, search)
    {
        model_event(pair, i, event);
    }
}

static void event_fault(Search *search, int i, FsmEvent event)
{
    FAULT(pair, search)
    {
        model_event(pair, i, event);
    }
}

static void connect_step(Search *search, int dials)
{
    const Pair *now = search->from;
    const Side *a = &now->side[dials], *b = &now->side[!dials];
    if (now->connected || model_is_dead(a) || model_is_dead(b) || a->seek != SEEK_DIAL ||
        b->seek != SEEK_ACCEPT || a->sees_link || b->sees_link || now->session == SESSIONS)
        return;
    STEP(pair, search)
    {
        pair->connected = TRUE;
        pair->session++;
        memset(pair->queue, 0, sizeof(pair->queue));
    }
}

void model_link_steps(Search *search)
{
    const Pair *now = search->from;
    connect_step(search, 0);
    connect_step(search, 1);
    if (now->connected)
        FAULT(pair, search)
        {
            pair->connected = FALSE;
        }
    for (int i = 0; i < 2; i++) {
        const Side *side = &now->side[i];
        if (model_is_dead(side))
            continue;
        if (now->connected && !side->sees_link && side->seek != SEEK_NONE)
            STEP(pair, search)
            {
                pair->side[i].seek = SEEK_NONE;
                pair->side[i].sees_link = TRUE;
                model_event(pair, i, FSM_LINK_UP);
            }
        if (now->connected || !side->sees_link)
            continue;
        STEP(pair, search)
        {
            lose_link(pair, i);
        }
        for (gsize load = 0; side->state == FSM_S_COLO && load < G_N_ELEMENTS(loads); load++)
            FAULT(pair, search)
            {
                pair->side[i].copy = (guint8)loads[load];
                lose_link(pair, i);
            }
    }
}

/* ---- Messages ---- */

static void receive_unfit(Pair *pair, int me)
{
    FsmEvent event = events_unfit(pair->side[me].copy != COPY_INVALID);
    model_event(pair, me, event);
    if (event == FSM_UNFIT)
        model_claim_leave(pair, me);
}

static void receive_leave(Pair *pair, int me)
{
    const Side *side = &pair->side[me];
    switch (events_leave(side->state, side->leaving, !side->doubted)) {
    case EVENTS_LEAVE_NOTHING:
        return;
    case EVENTS_LEAVE_MAY:
        model_send(pair, !me, MSG_LEAVE);
        return;
    case EVENTS_LEAVE_GOES:
        model_event(pair, me, FSM_RECYCLE);
    }
}

/* The event of a message that is the same event in every state. */
static FsmEvent event_of(const Side *side, ModelMessage message)
{
    switch (message) {
    case MSG_BLANK:
        return FSM_BLANK;
    case MSG_PROTECT:
        return FSM_PROTECT;
    case MSG_RUNS:
        return FSM_PEER_RUNS;
    case MSG_PAUSED:
        return FSM_PEER_PAUSED;
    case MSG_YIELDED:
        return FSM_YIELDED;
    case MSG_HANDED:
        return FSM_HANDED;
    case MSG_TAKEN:
        return FSM_TAKEN;
    case MSG_REFUSED:
    case MSG_REFUSED_ASKED:
        return FSM_REFUSED;
    case MSG_GIVEN_BACK:
        return FSM_GIVEN_BACK;
    case MSG_GOODBYE:
        return events_peer_ends(FSM_PEER_GOODBYE, side->doubted);
    case MSG_FAILED:
        return events_peer_ends(FSM_PEER_FAILED, side->doubted);
    default:
        g_assert_not_reached();
    }
}

static void receive(Pair *pair, int me)
{
    Side *side = &pair->side[me];
    ModelMessage message = pair->queue[me][0];
    memmove(pair->queue[me], pair->queue[me] + 1, QUEUE - 1);
    pair->queue[me][QUEUE - 1] = MSG_NONE;
    switch (message) {
    case MSG_CHECKPOINT:
        model_send(pair, !me, MSG_PROOF);
        return;
    case MSG_PROOF:
        if (side->state == FSM_P_ACTIVE)
            model_event(pair, me, FSM_PROVEN);
        return;
    case MSG_YIELD:
        if (events_takes_yield(side->state, TRUE))
            model_event(pair, me, FSM_YIELD);
        return;
    case MSG_UNFIT:
        receive_unfit(pair, me);
        return;
    case MSG_LEAVE:
        receive_leave(pair, me);
        return;
    case MSG_CANCEL:
        /* What it has asked already is answered first. */
        side->cancelled = side->state == FSM_S_HANDED && !side->is_asked;
        return;
    default:
        side->doubted |= message == MSG_REFUSED_ASKED;
        model_event(pair, me, event_of(side, message));
    }
}

void model_message_steps(Search *search)
{
    for (int i = 0; i < 2; i++) {
        const Side *side = &search->from->side[i];
        ModelMessage first = search->from->queue[i][0];
        /* Bytes that arrived before the end of the connection may be read before it is noticed. */
        if (!first || !side->sees_link || model_is_dead(side))
            continue;
        STEP(pair, search)
        {
            receive(pair, i);
        }
        gboolean matters = first == MSG_UNFIT || first == MSG_YIELDED || first == MSG_HANDED;
        for (gsize load = 0; matters && side->state == FSM_S_COLO && load < G_N_ELEMENTS(loads);
             load++)
            FAULT(pair, search)
            {
                pair->side[i].copy = (guint8)loads[load];
                receive(pair, i);
            }
    }
}

/* ---- A primary ---- */

static void unfit_step(Search *search, int i)
{
    /* The secondary shows no progress. */
    FAULT(pair, search)
    {
        model_send(pair, !i, MSG_UNFIT);
        model_event(pair, i, FSM_LINK_DOWN);
    }
}

static void primary_steps(Search *search, int i)
{
    const Side *side = &search->from->side[i];
    switch ((FsmState)side->state) {
    case FSM_P_ACTIVE:
        if (!side->captured && side->record == CLAIM_RECORD_KEPT)
            STEP(pair, search)
            {
                pair->side[i].captured = TRUE;
                model_route(pair, i, ROUTE_PAUSED);
                model_route(pair, i, ROUTE_EPOCH_HOLDS);
                model_send(pair, !i, MSG_CHECKPOINT);
            }
        break;
    case FSM_P_COLO:
        event_fault(search, i, FSM_YIELD);
        event_fault(search, i, FSM_HOLD);
        unfit_step(search, i);
        break;
    case FSM_P_PRE_SWITCHOVER:
        event_fault(search, i, FSM_YIELD);
        /* Whoever holds the VM so lets it go, in the end. */
        event_step(search, i, FSM_CANCEL);
        unfit_step(search, i);
        break;
    case FSM_P_DEVICE:
        event_step(search, i, FSM_COMMITTED);
        event_fault(search, i, FSM_HAND_OVER_FAILED);
        unfit_step(search, i);
        break;
    case FSM_P_HANDED:
        event_fault(search, i, FSM_HAND_OVER_FAILED);
        if (!memchr(search->from->queue[!i], MSG_CANCEL, QUEUE))
            FAULT(pair, search)
            {
                model_send(pair, !i, MSG_CANCEL);
            }
        break;
    default:
        break;
    }
}

/* ---- A secondary ---- */

static void end_load(Pair *pair, int i, CopyCondition condition)
{
    Side *side = &pair->side[i];
    /* The arbiter was to be asked, and wasn't. */
    gboolean waits = side->state == FSM_S_PAUSED && side->doing == CLAIM_IDLE;
    side->copy = (guint8)condition;
    if (waits)
        model_event(pair, i, FSM_ASK_AGAIN);
}

/* Loads begin where they may, and succeed or fail. */
static void copy_steps(Search *search, int i)
{
    const Side *side = &search->from->side[i];
    CopyDuty duty = events_copy_duty(side->state, claim_doing_is_undecided(side->doing));
    gboolean is_in_doubt = duty == COPY_HOLD || duty == COPY_FREEZE;
    if (side->copy == COPY_STANDBY && is_in_doubt && copy_may_load(duty))
        FAULT(pair, search)
        {
            pair->side[i].copy = COPY_LOADING;
        }
    if (side->copy != COPY_LOADING)
        return;
    STEP(pair, search)
    {
        end_load(pair, i, COPY_STANDBY);
    }
    /* What the load of a takeover has written to is restored. */
    if (copy_loaded(duty, TRUE) == COPY_LOADED_INVALID)
        FAULT(pair, search)
        {
            end_load(pair, i, COPY_INVALID);
        }
}

static void handed_steps(Search *search, int i)
{
    const Side *side = &search->from->side[i];
    if (side->is_asked || side->copy == COPY_LOADING)
        return;
    gboolean is_fit = copy_is_fit(side->copy, FALSE);
    search->left_as_cancelled |= is_fit && side->cancelled;
    event_step(search, i, switchover_fit(is_fit, side->cancelled));
    if (is_fit)
        event_fault(search, i, FSM_VM_UNFIT);
}

static void take_over_step(Search *search, int i)
{
    CopyFacts facts = {
        .duty = COPY_TAKE_OVER, .condition = search->from->side[i].copy, .settled = TRUE};
    switch (copy_next(&facts)) {
    case COPY_NOTHING:
        return; /* the load that is under way ends first */
    case COPY_GIVE_UP:
        event_step(search, i, FSM_VM_LOST);
        return;
    default:
        STEP(pair, search)
        {
            pair->side[i].has_run = pair->side[i].vm_runs = TRUE;
            if (pair->side[i].route == ROUTE_TO_PEER)
                model_route(pair, i, ROUTE_TAKES_OVER);
            model_event(pair, i, FSM_TAKEN_OVER);
        }
    }
}

/* The VM is run, and its output waits; or it can't be. */
static void taking_steps(Search *search, int i)
{
    event_fault(search, i, FSM_HAND_OVER_FAILED);
    if (search->from->side[i].route == ROUTE_TO_PEER)
        STEP(pair, search)
        {
            pair->side[i].has_run = pair->side[i].vm_runs = TRUE;
            model_route(pair, i, ROUTE_TAKES_OVER);
        }
    else
        STEP(pair, search)
        {
            model_event(pair, i, FSM_TAKEN_OVER);
        }
}

static void secondary_steps(Search *search, int i)
{
    const Side *side = &search->from->side[i];
    if (side->copy != COPY_EMPTY)
        copy_steps(search, i);
    if (side->state == FSM_S_HANDED)
        handed_steps(search, i);
    if (side->state == FSM_S_TAKING)
        taking_steps(search, i);
    if (side->state == FSM_S_LEAVING)
        event_fault(search, i, FSM_HAND_OVER_FAILED);
    if (side->state == FSM_S_DEVICE)
        take_over_step(search, i);
    if (side->state != FSM_S_COLO)
        return;
    FAULT(pair, search)
    {
        model_send(pair, !i, MSG_YIELD);
    }
    if (!side->leaving)
        FAULT(pair, search)
        {
            pair->side[i].leaving = TRUE;
            model_send(pair, !i, MSG_LEAVE);
        }
}

/* ---- Both ---- */

/* Typed at any moment: they have an answer in each state. */
static const FsmEvent commands[] = {FSM_CONTINUE, FSM_CANCEL};

void model_own_steps(Search *search, int i)
{
    const Side *side = &search->from->side[i];
    if (side->state == FSM_P_STARTING || side->state == FSM_S_STARTING)
        event_step(search, i, FSM_VM_STARTED);
    if (fsm_is_primary(side->state))
        primary_steps(search, i);
    else
        secondary_steps(search, i);
    if (side->state != FSM_P_ASKING)
        event_fault(search, i, FSM_VM_LOST);
    for (gsize c = 0; c < G_N_ELEMENTS(commands); c++)
        event_fault(search, i, commands[c]);
    event_fault(search, i, FSM_SHUTDOWN);
    FAULT(pair, search)
    {
        pair->side[i].crashed = TRUE;
        pair->connected = FALSE;
    }
}

/* A session that a process before this one was about to return: that may land until drafts are removed. */
static guint8 landing_of(const Pair *pair, int i)
{
    const Side *before = &pair->side[i];
    const OnRecord *record = &pair->record;
    gboolean returns = before->releasing && !before->has_run;
    if (before->giving_back)
        return before->giving_back;
    if (before->landing || !returns || record->rests || record->writer != 2 - i ||
        !record->session || pair->granted[record->session] != 1 + i)
        return before->landing;
    return record->session;
}

/* A service manager, or an administrator, starts a node again. */
void model_restart_steps(Search *search, int i)
{
    static const Side fresh[] = {
        {.state = FSM_P_ASKING},
        {.state = FSM_P_ASKING, .is_auto = TRUE},
        {.state = FSM_S_STARTING                    },
    };
    const Pair *now = search->from;
    if (!model_is_dead(&now->side[i]) || !now->has_arbiter || now->restarts == search->restarts)
        return;
    for (gsize role = 0; role < G_N_ELEMENTS(fresh); role++)
        STEP(pair, search)
        {
            Side before = pair->side[i];
            before.landing = landing_of(pair, i);
            pair->side[i] = fresh[role];
            pair->side[i].flying = before.flying;
            pair->side[i].landing = before.landing;
            model_claim_start(&pair->side[i]);
            pair->restarts++;
            pair->connected = FALSE;
            memset(pair->queue[i], 0, QUEUE);
        }
}
