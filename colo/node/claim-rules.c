/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/claim-rules.h"

/* ---- A lost link ---- */

gboolean claim_is_in_doubt(FsmState state)
{
    return state == FSM_P_PAUSED || state == FSM_P_RECOVER || state == FSM_P_FROZEN ||
           state == FSM_S_HANDED || state == FSM_S_PAUSED || state == FSM_S_RECOVER;
}

gboolean claim_doing_is_undecided(ClaimDoing doing)
{
    return doing == CLAIM_UNDECIDED || doing == CLAIM_MANUAL || doing == CLAIM_LEFT ||
           doing == CLAIM_DENIED;
}

gboolean claim_doing_asks_again(ClaimDoing doing)
{
    return doing == CLAIM_DEFERRED || doing == CLAIM_AGAIN || doing == CLAIM_UNDECIDED ||
           doing == CLAIM_LEFT || doing == CLAIM_FORCED_AGAIN;
}

gboolean claim_may_ask(guint owner_questions)
{
    return owner_questions == 0;
}

static gboolean is_forced(ClaimDoing doing)
{
    return doing == CLAIM_FORCED || doing == CLAIM_FORCED_AGAIN;
}

/*
 * Of a session in which this side was forced to continue, or has left the VM to the other: then no answer
 * makes it continue.
 */
static ClaimVerdict judge_after_all(const ClaimFacts *facts)
{
    ClaimVerdict verdict = {.next = facts->doing};
    if (!is_forced(facts->doing))
        return verdict;
    if (facts->answer != ARBITER_UNKNOWN) {
        verdict.report =
            facts->answer == ARBITER_DENIED ? CLAIM_REPORT_CONTRADICTED : CLAIM_REPORT_AGREED;
        verdict.next = CLAIM_IDLE;
    } else if (facts->time != CLAIM_LATE) {
        verdict.next = CLAIM_FORCED_AGAIN;
    }
    return verdict;
}

static ClaimVerdict verdict(ClaimReport report, ClaimDoing next)
{
    return (ClaimVerdict){.counts = TRUE, .report = report, .next = next};
}

/* There was no answer. */
static ClaimVerdict remain_undecided(const ClaimFacts *facts)
{
    ClaimVerdict remains = verdict(CLAIM_REPORT_NOTHING, facts->doing);
    if (facts->state == FSM_P_RECOVER && facts->answer == ARBITER_UNKNOWN) {
        remains.next = CLAIM_AGAIN;
    } else if (!claim_doing_is_undecided(facts->doing)) {
        remains.report = CLAIM_REPORT_UNDECIDED;
        remains.next = facts->answer == ARBITER_MANUAL ? CLAIM_MANUAL : CLAIM_UNDECIDED;
    } else if (facts->answer == ARBITER_UNKNOWN && facts->doing != CLAIM_LEFT) {
        /* After an answer, the question before that may still be reported as late. */
        remains.next = CLAIM_UNDECIDED;
    }
    return remains;
}

static ClaimVerdict continue_by_force(const ClaimFacts *facts)
{
    ClaimDoing next = facts->answer == ARBITER_MANUAL ? CLAIM_IDLE
                      : facts->time == CLAIM_LATE     ? CLAIM_FORCED
                                                      : CLAIM_FORCED_AGAIN;
    return verdict(CLAIM_REPORT_FORCED, next);
}

ClaimVerdict claim_judge(const ClaimFacts *facts)
{
    if (!claim_is_in_doubt(facts->state))
        return judge_after_all(facts);
    if (facts->answer == ARBITER_GRANTED)
        return verdict(CLAIM_REPORT_GRANTED, CLAIM_IDLE);
    if (facts->answer == ARBITER_DENIED)
        return verdict(CLAIM_REPORT_DENIED, CLAIM_DENIED);
    gboolean gone = facts->answer == ARBITER_UNKNOWN && facts->time == CLAIM_GONE;
    /* Nothing has come of one that was given up; a later one is to be answered; or one was. */
    if (gone || facts->others_open || facts->state == FSM_P_FROZEN)
        return (ClaimVerdict){.next = facts->doing};
    /*
     * Where nobody keeps decisions, these sides know by themselves that they may continue. One that
     * has handed its VM over does not: the peer may have run it, and have been started again since.
     */
    gboolean knows = facts->yielded || (facts->state == FSM_P_RECOVER && !facts->handed) ||
                     facts->state == FSM_S_HANDED;
    if (facts->answer == ARBITER_MANUAL && knows)
        return verdict(CLAIM_REPORT_GRANTED, CLAIM_IDLE);
    if (facts->state == FSM_S_HANDED)
        return verdict(CLAIM_REPORT_UNDECIDED, CLAIM_IDLE);
    return facts->forced ? continue_by_force(facts) : remain_undecided(facts);
}

ClaimDoing claim_doing_after(ClaimDoing doing, FsmEvent event, FsmState next)
{
    if (is_forced(doing))
        return doing;
    if (!claim_is_in_doubt(next))
        return CLAIM_IDLE;
    /* These two are what an answer means: what is done about it was chosen with it. */
    gboolean was_answered = event == FSM_UNDECIDED || event == FSM_DENIED;
    return was_answered || doing == CLAIM_ASKED ? doing : CLAIM_IDLE;
}

gboolean claim_yielded_after(gboolean yielded, FsmEvent event, FsmState next)
{
    return next == FSM_S_PAUSED && (yielded || event == FSM_YIELDED);
}

gboolean claim_gives_back(FsmState state)
{
    return state == FSM_S_NONE;
}

gboolean claim_may_have(FsmState state)
{
    /* One that gives back does so itself. */
    return !fsm_is_primary(state) && state != FSM_S_GIVING && state != FSM_S_LEAVING;
}

gboolean claim_looks_back(FsmState state)
{
    return state == FSM_P_FROZEN;
}

ClaimReturn claim_judge_return(FsmState state, ArbiterAnswer answer)
{
    if (state != FSM_S_GIVING && state != FSM_S_LEAVING)
        return CLAIM_RETURN_NOTHING;
    if (answer != ARBITER_UNKNOWN)
        return CLAIM_RETURN_DONE;
    return CLAIM_RETURN_AGAIN;
}

/* What may follow what; that nothing changes always may. */
#define TO(name) (1u << CLAIM_##name)

/* clang-format off */
static const guint doing_next[CLAIM_DOINGS] = {
    [CLAIM_IDLE]         = TO(DEFERRED) | TO(ASKED) | TO(UNDECIDED) | TO(LEFT) | TO(DENIED) | TO(FORCED) |
                           TO(FORCED_AGAIN),
    [CLAIM_DEFERRED]     = TO(IDLE) | TO(DENIED),
    [CLAIM_ASKED]        = TO(IDLE) | TO(AGAIN) | TO(UNDECIDED) | TO(MANUAL) | TO(DENIED) | TO(FORCED) |
                           TO(FORCED_AGAIN),
    [CLAIM_AGAIN]        = TO(IDLE) | TO(DENIED),
    [CLAIM_UNDECIDED]    = TO(IDLE) | TO(DENIED),
    [CLAIM_MANUAL]       = TO(IDLE),
    [CLAIM_LEFT]         = TO(IDLE) | TO(DENIED),
    [CLAIM_DENIED]       = TO(IDLE) | TO(UNDECIDED) | TO(FORCED) | TO(FORCED_AGAIN),
    [CLAIM_FORCED]       = TO(IDLE) | TO(FORCED_AGAIN),
    [CLAIM_FORCED_AGAIN] = TO(IDLE) | TO(FORCED),
};
/* clang-format on */

gboolean claim_doing_may(ClaimDoing from, ClaimDoing to)
{
    return from == to || (doing_next[from] >> to & 1);
}

const char *claim_doing_name(ClaimDoing doing)
{
    static const char *const names[CLAIM_DOINGS] = {
        [CLAIM_IDLE] = "idle",           [CLAIM_DEFERRED] = "deferred",
        [CLAIM_ASKED] = "asked",         [CLAIM_AGAIN] = "again",
        [CLAIM_UNDECIDED] = "undecided", [CLAIM_MANUAL] = "manual",
        [CLAIM_LEFT] = "left",           [CLAIM_DENIED] = "denied",
        [CLAIM_FORCED] = "forced",       [CLAIM_FORCED_AGAIN] = "forced-again",
    };
    return names[doing];
}

/* ---- The start ---- */

static ClaimStartVerdict deny_start(const ClaimStartFacts *facts)
{
    if (!facts->may_wait)
        return (ClaimStartVerdict){CLAIM_START_REPORT_LOST, CLAIM_START_IDLE};
    /* Without an arbiter there is nobody to ask again. */
    gboolean may_ask = facts->answer != ARBITER_MANUAL;
    return (ClaimStartVerdict){CLAIM_START_REPORT_WAIT,
                               may_ask ? CLAIM_START_WAITS : CLAIM_START_IDLE};
}

gboolean claim_may_ask_waiting(FsmState state, ArbiterClaim claim)
{
    return state == FSM_S_NONE || (state == FSM_S_STARTING && claim == ARBITER_RETURN);
}

static ClaimStartVerdict judge_waiting(const ClaimStartFacts *facts)
{
    /* Where a primary has come, it may be about to report that it runs the VM. */
    if (facts->answer == ARBITER_GRANTED && facts->state == FSM_S_NONE)
        return (ClaimStartVerdict){CLAIM_START_REPORT_INHERITED, CLAIM_START_IDLE};
    gboolean late = facts->answer == ARBITER_UNKNOWN && facts->time == CLAIM_LATE;
    return (ClaimStartVerdict){CLAIM_START_REPORT_NOTHING,
                               late ? CLAIM_START_WAITS_ASKED : CLAIM_START_WAITS};
}

ClaimStartVerdict claim_judge_start(const ClaimStartFacts *facts)
{
    if (facts->start == CLAIM_START_WAITS_ASKED)
        return judge_waiting(facts);
    if (facts->start != CLAIM_START_ASKED)
        return (ClaimStartVerdict){CLAIM_START_REPORT_NOTHING, facts->start};
    switch (facts->answer) {
    case ARBITER_GRANTED:
        break;
    case ARBITER_MANUAL:
        /* Nobody keeps a record: only what the disks hold counts. */
        if (!facts->overrules && !facts->disks_are_good)
            return deny_start(facts);
        break;
    case ARBITER_DENIED:
        return deny_start(facts);
    case ARBITER_OPEN:
        return (ClaimStartVerdict){CLAIM_START_REPORT_NOTHING, CLAIM_START_DEFERRED};
    case ARBITER_UNKNOWN:
        /* The administrator's word needs no storage; who starts after this must read it. */
        if (facts->overrules)
            return (ClaimStartVerdict){CLAIM_START_REPORT_OVERRULED, CLAIM_START_IDLE};
        /* One that is late is in turn before any other, and will be answered. */
        return (ClaimStartVerdict){CLAIM_START_REPORT_TROUBLE, facts->time == CLAIM_LATE
                                                                   ? CLAIM_START_ASKED
                                                                   : CLAIM_START_AGAIN};
    }
    return (ClaimStartVerdict){CLAIM_START_REPORT_GRANTED, CLAIM_START_IDLE};
}

ClaimStart claim_start_after(ClaimStart start, FsmState next)
{
    gboolean waits = start == CLAIM_START_WAITS || start == CLAIM_START_WAITS_ASKED;
    gboolean stays = waits ? next == FSM_S_STARTING || next == FSM_S_NONE || next == FSM_S_SETUP
                           : next == FSM_P_ASKING;
    return stays ? start : CLAIM_START_IDLE;
}

/* clang-format off */
static const guint start_next[CLAIM_STARTS] = {
    [CLAIM_START_IDLE]        = TO(START_ASKED) | TO(START_WAITS),
    [CLAIM_START_ASKED]       = TO(START_IDLE) | TO(START_AGAIN) | TO(START_DEFERRED) |
                                TO(START_WAITS),
    [CLAIM_START_AGAIN]       = TO(START_IDLE) | TO(START_ASKED),
    [CLAIM_START_DEFERRED]    = TO(START_IDLE) | TO(START_ASKED),
    [CLAIM_START_WAITS]       = TO(START_IDLE) | TO(START_WAITS_ASKED),
    [CLAIM_START_WAITS_ASKED] = TO(START_IDLE) | TO(START_WAITS),
};
/* clang-format on */

gboolean claim_start_may(ClaimStart from, ClaimStart to)
{
    return from == to || (start_next[from] >> to & 1);
}

const char *claim_start_name(ClaimStart start)
{
    static const char *const names[CLAIM_STARTS] = {
        [CLAIM_START_IDLE] = "idle",   [CLAIM_START_ASKED] = "asked",
        [CLAIM_START_AGAIN] = "again", [CLAIM_START_DEFERRED] = "deferred",
        [CLAIM_START_WAITS] = "waits", [CLAIM_START_WAITS_ASKED] = "waits-asked",
    };
    return names[start];
}

/* ---- On record ---- */

gboolean claim_may_write(FsmState state)
{
    return fsm_is_primary(state) && !fsm_is_contested(state);
}

ClaimWrites claim_writes(FsmState state, gboolean has_session, gboolean is_pinned)
{
    if (!claim_may_write(state))
        return CLAIM_WRITES_NOTHING;
    return has_session && !is_pinned ? CLAIM_WRITES_PIN : CLAIM_WRITES_RECORD;
}

ClaimRecordVerdict claim_judge_pin(FsmState state, ClaimRecord record, ArbiterAnswer answer,
                                   ClaimTime time)
{
    gboolean failed = answer == ARBITER_UNKNOWN;
    return (ClaimRecordVerdict){.tells = failed,
                                .again = failed && time != CLAIM_LATE && claim_may_write(state),
                                .next = record};
}

ClaimRecordVerdict claim_judge_record(FsmState state, ClaimRecord record, gboolean others_open,
                                      ArbiterAnswer answer, ClaimTime time)
{
    gboolean failed = answer == ARBITER_UNKNOWN;
    if (failed && time == CLAIM_LATE)
        return (ClaimRecordVerdict){.tells = TRUE, .next = record};
    /* They are answered in their order: only the last one counts, if it has what is wanted now. */
    if (others_open || !claim_may_write(state) || record == CLAIM_RECORD_WANTED)
        return (ClaimRecordVerdict){.next = record};
    if (!failed)
        return (ClaimRecordVerdict){.kept = TRUE, .next = CLAIM_RECORD_KEPT};
    return (ClaimRecordVerdict){.tells = TRUE,
                                .again = TRUE,
                                .next = record == CLAIM_RECORD_KEPT ? CLAIM_RECORD_KEPT
                                                                    : CLAIM_RECORD_WANTED};
}

/* clang-format off */
static const guint record_next[CLAIM_RECORDS] = {
    [CLAIM_RECORD_NONE]   = TO(RECORD_WANTED) | TO(RECORD_ASKED),
    [CLAIM_RECORD_WANTED] = TO(RECORD_ASKED),
    [CLAIM_RECORD_ASKED]  = TO(RECORD_WANTED) | TO(RECORD_KEPT),
    [CLAIM_RECORD_KEPT]   = TO(RECORD_WANTED),
};
/* clang-format on */

gboolean claim_record_may(ClaimRecord from, ClaimRecord to)
{
    return from == to || (record_next[from] >> to & 1);
}

const char *claim_record_name(ClaimRecord record)
{
    static const char *const names[CLAIM_RECORDS] = {
        [CLAIM_RECORD_NONE] = "none",
        [CLAIM_RECORD_WANTED] = "wanted",
        [CLAIM_RECORD_ASKED] = "asked",
        [CLAIM_RECORD_KEPT] = "kept",
    };
    return names[record];
}

/* ---- Is it there? ---- */

ClaimFirst claim_judge_first_look(FsmState state, ClaimWatch watch, gboolean is_pinned,
                                  gboolean overrules, ArbiterAnswer answer, ClaimTime time)
{
    gboolean has_begun = watch == CLAIM_WATCH_THERE || watch == CLAIM_WATCH_AWAY;
    if ((state != FSM_P_ASKING && state != FSM_S_STARTING) || has_begun)
        return CLAIM_FIRST_NOTHING;
    if (answer != ARBITER_UNKNOWN)
        return CLAIM_FIRST_BEGIN;
    /* One that was never half of a pair can't know which folder is right. */
    if (!is_pinned)
        return CLAIM_FIRST_LOST;
    if (overrules)
        return CLAIM_FIRST_BEGIN_WITHOUT;
    /* It waits since that one was late. */
    return time == CLAIM_GONE ? CLAIM_FIRST_NOTHING : CLAIM_FIRST_WAIT;
}

/* clang-format off */
static const guint watch_next[CLAIM_WATCHES] = {
    [CLAIM_WATCH_FIRST] = TO(WATCH_WAITS) | TO(WATCH_THERE),
    [CLAIM_WATCH_WAITS] = TO(WATCH_THERE),
    [CLAIM_WATCH_THERE] = TO(WATCH_AWAY),
    [CLAIM_WATCH_AWAY]  = TO(WATCH_THERE),
};
/* clang-format on */

gboolean claim_watch_may(ClaimWatch from, ClaimWatch to)
{
    return from == to || (watch_next[from] >> to & 1);
}

const char *claim_watch_name(ClaimWatch watch)
{
    static const char *const names[CLAIM_WATCHES] = {
        [CLAIM_WATCH_FIRST] = "first",
        [CLAIM_WATCH_WAITS] = "waits",
        [CLAIM_WATCH_THERE] = "there",
        [CLAIM_WATCH_AWAY] = "away",
    };
    return names[watch];
}

/* ---- What has not run here ---- */

ClaimNoteVerdict claim_judge_note(const ClaimNoteFacts *facts)
{
    gboolean failed = facts->answer == ARBITER_UNKNOWN, late = facts->time == CLAIM_LATE;
    ClaimNoteVerdict verdict = {.next = facts->note};
    if (facts->note == CLAIM_NOTE_WRITING) {
        verdict.tells = failed && facts->time != CLAIM_GONE && !facts->removes;
        if (!late && !facts->removes && facts->is_last)
            verdict.next = CLAIM_NOTE_THERE;
    } else if (facts->note == CLAIM_NOTE_REMOVING) {
        /* A takeover doesn't wait for the one before, either. */
        verdict.ends = late || facts->removes;
        if (!late && facts->removes)
            verdict.next = failed ? CLAIM_NOTE_THERE : CLAIM_NOTE_NONE;
    }
    return verdict;
}

gboolean claim_notes(FsmState state, gboolean has_disks, gboolean has_arbiter)
{
    return state == FSM_S_ACTIVE && !has_disks && has_arbiter;
}

gboolean claim_notes_again(FsmState before, FsmState next)
{
    return before == FSM_S_TAKING && (next == FSM_S_GIVING || next == FSM_S_LEAVING);
}

/* clang-format off */
static const guint note_next[CLAIM_NOTES] = {
    [CLAIM_NOTE_NONE]     = TO(NOTE_WRITING),
    [CLAIM_NOTE_WRITING]  = TO(NOTE_THERE) | TO(NOTE_REMOVING),
    [CLAIM_NOTE_THERE]    = TO(NOTE_WRITING) | TO(NOTE_REMOVING),
    [CLAIM_NOTE_REMOVING] = TO(NOTE_NONE) | TO(NOTE_THERE) | TO(NOTE_WRITING),
};
/* clang-format on */

gboolean claim_note_may(ClaimNote from, ClaimNote to)
{
    return from == to || (note_next[from] >> to & 1);
}

const char *claim_note_name(ClaimNote note)
{
    static const char *const names[CLAIM_NOTES] = {
        [CLAIM_NOTE_NONE] = "none",
        [CLAIM_NOTE_WRITING] = "writing",
        [CLAIM_NOTE_THERE] = "there",
        [CLAIM_NOTE_REMOVING] = "removing",
    };
    return names[note];
}
