/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The questions to the arbiter, and the claim's side of them. owner-rules.h has what the answer is;
 * claim-rules.h has what it means. model-storage.c has what is stored.
 */
#include "tests/model/model.h"

#include <string.h>

/* ---- A lost link ---- */

static void set_doing(Pair *pair, Side *side, ClaimDoing next)
{
    EXPECT(pair, claim_doing_may(side->doing, next));
    side->doing = (guint8)next;
}

static void give_back(Side *side)
{
    if (!side->may_have || !claim_gives_back(side->state))
        return;
    side->may_have = FALSE;
    side->giving_back = side->claim;
}

static void answered(Pair *pair, int me, ArbiterAnswer answer, ClaimTime time)
{
    Side *side = &pair->side[me];
    ClaimFacts facts = {.state = side->state,
                        .doing = side->doing,
                        .forced = side->forced,
                        .yielded = side->yielded,
                        .others_open = side->is_asked,
                        .answer = answer,
                        .time = time};
    ClaimVerdict verdict = claim_judge(&facts);
    if (verdict.counts)
        side->forced = FALSE;
    side->may_have &= answer != ARBITER_DENIED;
    set_doing(pair, side, verdict.next);
    switch (verdict.report) {
    case CLAIM_REPORT_GRANTED:
    case CLAIM_REPORT_FORCED:
        /* Only sides that know the VM keep a record. */
        if (answer == ARBITER_MANUAL)
            model_decide(pair, me, side->claim);
        model_event(pair, me, FSM_GRANTED);
        break;
    case CLAIM_REPORT_DENIED:
        model_event(pair, me, FSM_DENIED);
        break;
    case CLAIM_REPORT_UNDECIDED:
        model_event(pair, me, FSM_UNDECIDED);
        break;
    default:
        break;
    }
}

/* The storage's answer, now or late. */
static void answered_by_storage(Pair *pair, int i, guint8 session)
{
    answered(pair, i, model_decide(pair, i, session) ? ARBITER_GRANTED : ARBITER_DENIED,
             CLAIM_IN_TIME);
}

void model_claim_ask(Pair *pair, int me)
{
    Side *side = &pair->side[me];
    switch (events_ask(side->state, side->copy, side->yielded)) {
    case EVENTS_ASK_WAITS:
        return;
    case EVENTS_ASK_LEAVES:
        model_event(pair, me, FSM_INVALID);
        return;
    case EVENTS_ASK_NOW:
        side->has_asked |= side->state == FSM_S_HANDED;
        set_doing(pair, side, CLAIM_ASKED);
        side->is_asked = claim_may_ask(side->inquiry);
        side->may_have |= side->is_asked && pair->has_arbiter && claim_may_have(side->state);
        if (!side->is_asked)
            answered(pair, me, ARBITER_UNKNOWN, CLAIM_IN_TIME);
    }
}

void model_claim_leave(Pair *pair, int me)
{
    set_doing(pair, &pair->side[me], CLAIM_LEFT);
}

static void set_start(Pair *pair, Side *side, ClaimStart next)
{
    EXPECT(pair, claim_start_may(side->start, next));
    side->start = (guint8)next;
}

void model_claim_moved(Pair *pair, int me, FsmEvent event, FsmState next)
{
    Side *side = &pair->side[me];
    /* The VM is protected anew: the session before is of no interest any more. */
    if (fsm_is_protected(next) && side->claim != pair->session) {
        if (side->is_asked && !side->flying && pair->has_arbiter)
            side->flying = side->claim;
        if (side->giving_back && !side->landing)
            side->landing = side->giving_back;
        side->is_asked = side->may_have = FALSE;
        side->giving_back = 0;
        set_doing(pair, side, CLAIM_IDLE);
        side->claim = pair->session;
    }
    side->forced &= claim_is_in_doubt(next);
    side->may_have &= claim_may_have(next);
    side->yielded = claim_yielded_after(side->yielded, event, next);
    set_doing(pair, side, claim_doing_after(side->doing, event, next));
    set_start(pair, side, claim_start_after(side->start, next));
    give_back(side);
}

/* One question: storage answers or doesn't; what it doesn't answer it may have stored. */
static void question_steps(Search *search, int i)
{
    const Side *side = &search->from->side[i];
    if (!search->from->has_arbiter) {
        STEP(pair, search)
        {
            pair->side[i].is_asked = FALSE;
            answered(pair, i, ARBITER_MANUAL, CLAIM_IN_TIME);
        }
        return;
    }
    STEP(pair, search)
    {
        pair->side[i].is_asked = FALSE;
        answered_by_storage(pair, i, side->claim);
    }
    for (int stored = 0; stored < 2; stored++)
        FAULT(pair, search)
        {
            pair->side[i].is_asked = FALSE;
            if (stored)
                model_decide(pair, i, side->claim);
            answered(pair, i, ARBITER_UNKNOWN, CLAIM_IN_TIME);
        }
    if (!side->flying)
        FAULT(pair, search)
        {
            pair->side[i].is_asked = FALSE;
            pair->side[i].flying = side->claim;
            answered(pair, i, ARBITER_UNKNOWN, CLAIM_LATE);
        }
}

/* A late question may reach storage all the same. Its answer may come, or be lost. */
static void late_steps(Search *search, int i)
{
    const Side *side = &search->from->side[i];
    gboolean counts = side->flying == side->claim && !model_is_dead(side);
    STEP(pair, search)
    {
        model_decide(pair, i, side->flying);
        pair->side[i].flying = 0;
    }
    if (counts)
        STEP(pair, search)
        {
            pair->side[i].flying = 0;
            answered_by_storage(pair, i, side->flying);
        }
    FAULT(pair, search)
    {
        pair->side[i].flying = 0;
        if (counts)
            answered(pair, i, ARBITER_UNKNOWN, CLAIM_GONE);
    }
}

/* The order `failover`, where the VM is in doubt. */
static void order_step(Search *search, int i)
{
    const Pair *now = search->from;
    const Side *side = &now->side[i], *other = &now->side[!i];
    gboolean takes_orders = side->state == FSM_P_PAUSED || side->state == FSM_P_RECOVER ||
                            side->state == FSM_S_PAUSED || side->state == FSM_S_RECOVER;
    if (!takes_orders || side->is_asked || side->copy == COPY_INVALID)
        return;
    if (now->has_arbiter) {
        FAULT(pair, search)
        {
            model_event(pair, i, FSM_ASK_AGAIN);
        }
        return;
    }
    if (now->granted[side->claim] == 2 - i || other->sees_link)
        return;
    STEP(pair, search)
    {
        model_decide(pair, i, side->claim);
        pair->side[i].forced = TRUE;
        model_event(pair, i, FSM_ASK_AGAIN);
    }
}

/* ---- The start ---- */

void model_claim_start(Side *side)
{
    if (side->state != FSM_P_ASKING)
        return;
    side->start = CLAIM_START_ASKED;
    side->how = ARBITER_LOOK;
    side->inquiry = INQUIRY_ASKED;
}

static void start_answered(Pair *pair, int me, ArbiterAnswer answer)
{
    Side *side = &pair->side[me];
    ClaimStartFacts facts = {.state = side->state,
                             .start = side->start,
                             .may_wait = side->is_auto,
                             .disks_are_good = TRUE,
                             .answer = answer,
                             .time = CLAIM_IN_TIME};
    ClaimStartVerdict verdict = claim_judge_start(&facts);
    side->inquiry = INQUIRY_NONE;
    side->read = (OnRecord){0};
    if (answer == ARBITER_OPEN && verdict.next == CLAIM_START_DEFERRED)
        side->how = ARBITER_CLAIM;
    set_start(pair, side, verdict.next);
    switch (verdict.report) {
    case CLAIM_START_REPORT_GRANTED:
    case CLAIM_START_REPORT_INHERITED:
        model_event(pair, me, FSM_GRANTED);
        return;
    case CLAIM_START_REPORT_WAIT:
        model_event(pair, me, FSM_DENIED);
        return;
    case CLAIM_START_REPORT_LOST:
        model_event(pair, me, FSM_VM_LOST);
        return;
    default:
        return;
    }
}

/* The asker's disks: what its own VM has written last, a checkpoint of the other's, or others. */
typedef enum { DISKS_GOOD, DISKS_REPLICA, DISKS_LOST } Disks;

/*
 * The side that wrote to its disks last has what it wrote. Where the other one still holds the VM, the
 * asker's are a replica unless it has continued since; there that they are lost is a person's case.
 */
static gboolean may_have(const Pair *pair, int i, Disks disks)
{
    const Side *side = &pair->side[i], *other = &pair->side[!i];
    gboolean is_held = model_has_copy(other) || other->stale;
    if (disks == DISKS_GOOD)
        return TRUE;
    if (side->read.writer == 1 + i)
        return FALSE;
    return !is_held || (disks == DISKS_REPLICA && !other->stale && !side->read.rests);
}

/* What storage makes of it, by what was read of it. */
static ArbiterAnswer judge_inquiry(Pair *pair, int i, Disks disks)
{
    const Side *side = &pair->side[i];
    OwnerFacts facts = model_owner_facts(pair, i, &side->read);
    facts.is_unrun = disks == DISKS_REPLICA;
    facts.is_newer = disks == DISKS_GOOD && !side->read.rests;
    switch (owner_judge_claim(&facts, side->how, disks == DISKS_GOOD)) {
    case OWNER_GRANTS:
        return ARBITER_GRANTED;
    case OWNER_RECORDS:
        pair->record = (OnRecord){.writer = (guint8)(1 + i)};
        return ARBITER_GRANTED;
    case OWNER_WAITS:
        return ARBITER_OPEN;
    case OWNER_DECIDES:
        model_decide(pair, i, side->read.session);
        facts = model_owner_facts(pair, i, &side->read);
        return owner_judge(&facts);
    case OWNER_GIVES_BACK:
        model_give_back(pair, &side->read, &facts);
        return ARBITER_DENIED;
    case OWNER_RETURNS:
        pair->granted[side->read.session] = (guint8)(2 - i);
        return ARBITER_DENIED;
    default:
        return ARBITER_DENIED;
    }
}

/* The side that is first has the record that it writes. */
static void read_inquiry(Pair *pair, int i)
{
    Side *side = &pair->side[i];
    /* What a predecessor has left comes to nothing from now on. */
    side->landing = 0;
    if (pair->record.writer) {
        side->inquiry = INQUIRY_HAS_READ;
        side->read = pair->record;
    } else if (owner_judge_claim(NULL, side->how, TRUE) == OWNER_WRITES) {
        pair->record = (OnRecord){.writer = (guint8)(1 + i)};
        start_answered(pair, i, ARBITER_GRANTED);
    } else {
        start_answered(pair, i, ARBITER_DENIED);
    }
}

static void inquiry_steps(Search *search, int i)
{
    if (search->from->side[i].inquiry == INQUIRY_ASKED) {
        STEP(pair, search)
        {
            read_inquiry(pair, i);
        }
        return;
    }
    STEP(pair, search)
    {
        start_answered(pair, i, judge_inquiry(pair, i, DISKS_GOOD));
    }
    for (Disks disks = DISKS_REPLICA; disks <= DISKS_LOST; disks++)
        if (may_have(search->from, i, disks))
            FAULT(pair, search)
            {
                start_answered(pair, i, judge_inquiry(pair, i, disks));
            }
    /* What was made of it may be there all the same. */
    FAULT(pair, search)
    {
        judge_inquiry(pair, i, DISKS_GOOD);
        start_answered(pair, i, ARBITER_UNKNOWN);
    }
}

/* Asks, or asks again. */
static void start_steps(Search *search, int i)
{
    const Side *side = &search->from->side[i];
    gboolean again = side->start == CLAIM_START_AGAIN || side->start == CLAIM_START_DEFERRED;
    gboolean waits = side->start == CLAIM_START_WAITS && side->state == FSM_S_NONE;
    if (!again && !waits)
        return;
    STEP(pair, search)
    {
        Side *own = &pair->side[i];
        set_start(pair, own, waits ? CLAIM_START_WAITS_ASKED : CLAIM_START_ASKED);
        if (waits)
            own->how = ARBITER_INHERIT;
        own->inquiry = INQUIRY_ASKED;
    }
}

/* ---- On record ---- */

static void write_record(Pair *pair, int me)
{
    Side *side = &pair->side[me];
    side->record_again = FALSE;
    if (claim_writes(side->state, side->record_session != 0, TRUE) != CLAIM_WRITES_RECORD)
        return;
    if (side->record != CLAIM_RECORD_KEPT) {
        EXPECT(pair, claim_record_may(side->record, CLAIM_RECORD_ASKED));
        side->record = CLAIM_RECORD_ASKED;
    }
    for (int i = 0; i < WRITES; i++)
        if (!side->writes[i]) {
            side->writes[i] = 1 + side->record_session;
            return;
        }
    /* This exceeds the model's bounds: as if the process had died here. */
    side->crashed = TRUE;
}

void model_claim_record(Pair *pair, int me, guint8 session)
{
    Side *side = &pair->side[me];
    EXPECT(pair, claim_record_may(side->record, CLAIM_RECORD_WANTED));
    side->record_session = session;
    side->record = CLAIM_RECORD_WANTED;
    write_record(pair, me);
}

/* The first of its writes has an answer. */
static void recorded(Pair *pair, int me, ArbiterAnswer answer)
{
    Side *side = &pair->side[me];
    memmove(side->writes, side->writes + 1, WRITES - 1);
    side->writes[WRITES - 1] = 0;
    if (model_is_dead(side))
        return;
    ClaimRecordVerdict verdict =
        claim_judge_record(side->state, side->record, side->writes[0] != 0, answer, CLAIM_IN_TIME);
    EXPECT(pair, claim_record_may(side->record, verdict.next));
    side->record = (guint8)verdict.next;
    side->record_again = verdict.again != 0;
}

static void write_steps(Search *search, int i)
{
    gboolean has_arbiter = search->from->has_arbiter;
    STEP(pair, search)
    {
        if (has_arbiter)
            pair->record =
                (OnRecord){.writer = (guint8)(1 + i), .session = pair->side[i].writes[0] - 1};
        recorded(pair, i, has_arbiter ? ARBITER_GRANTED : ARBITER_MANUAL);
    }
    if (has_arbiter)
        FAULT(pair, search)
        {
            recorded(pair, i, ARBITER_UNKNOWN);
        }
}

/* ---- The end ---- */

static void release(Pair *pair, int i, gboolean has_run)
{
    OnRecord record = pair->record;
    if (!record.writer)
        return;
    OwnerFacts facts = model_owner_facts(pair, i, &record);
    OwnerVerdict verdict = owner_judge_end(&facts, has_run);
    if (verdict == OWNER_DECIDES) {
        model_decide(pair, i, record.session);
        facts = model_owner_facts(pair, i, &record);
        verdict = owner_judge_end(&facts, has_run);
    }
    if (verdict == OWNER_RESTS)
        model_write_rest(pair, (guint8)(1 + i), 0);
    else if (verdict == OWNER_RETURNS)
        pair->granted[record.session] = (guint8)(2 - i);
    else if (verdict == OWNER_GIVES_BACK)
        model_give_back(pair, &record, &facts);
}

/* The winner of a session makes it the other side's. */
static void return_session(Pair *pair, int i)
{
    const Side *side = &pair->side[i];
    EXPECT(pair, !model_is_active(side) && side->route == ROUTE_DROP);
    EXPECT(pair, pair->granted[side->claim]);
    pair->granted[side->claim] = (guint8)(2 - i);
}

static void return_steps(Search *search, int i)
{
    STEP(pair, search)
    {
        return_session(pair, i);
        pair->side[i].returning = FALSE;
        model_event(pair, i, FSM_GIVEN_BACK);
    }
    /* Unanswered, it is tried again; and it may have been done. */
    if (search->from->has_arbiter)
        FAULT(pair, search)
        {
            return_session(pair, i);
        }
}

/* ---- Steps ---- */

void model_claim_steps(Search *search, int i)
{
    const Side *side = &search->from->side[i];
    if (side->is_asked)
        question_steps(search, i);
    if (claim_doing_asks_again(side->doing))
        STEP(pair, search)
        {
            model_event(pair, i, FSM_ASK_AGAIN);
        }
    else
        order_step(search, i);
    /* It looks from time to time. */
    if (search->from->has_arbiter && claim_looks_back(side->state) &&
        search->from->granted[side->claim] == 1 + i)
        STEP(pair, search)
        {
            model_event(pair, i, FSM_GRANTED);
        }
    if (side->inquiry)
        inquiry_steps(search, i);
    start_steps(search, i);
    if (side->record_again)
        STEP(pair, search)
        {
            write_record(pair, i);
        }
}

void model_storage_steps(Search *search, int i)
{
    const Side *side = &search->from->side[i];
    if (side->flying)
        late_steps(search, i);
    if (side->landing)
        FAULT(pair, search)
        {
            pair->granted[side->landing] = (guint8)(2 - i);
            pair->side[i].landing = 0;
        }
    if (side->giving_back)
        STEP(pair, search)
        {
            pair->granted[side->giving_back] = (guint8)(2 - i);
            pair->side[i].giving_back = 0;
        }
    /* The rest is done in turn. */
    if (side->crashed || side->inquiry)
        return;
    if (side->writes[0]) {
        write_steps(search, i);
        return;
    }
    if (side->returning)
        return_steps(search, i);
    else if (side->releasing)
        STEP(pair, search)
        {
            pair->side[i].releasing = FALSE;
            if (pair->has_arbiter)
                release(pair, i, side->has_run);
        }
}
