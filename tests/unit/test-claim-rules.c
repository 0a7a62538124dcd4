/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What each answer of the arbiter means to a node; test-claim-walk puts them together. */
#include "colo/node/claim-rules.h"

/* ---- A lost link ---- */

static ClaimVerdict judge(ClaimFacts facts)
{
    return claim_judge(&facts);
}

/* One that is given up leaves the word to one that was asked later; its yes or no still counts. */
static void test_late(void)
{
    ClaimFacts facts = {.state = FSM_S_PAUSED,
                        .doing = CLAIM_ASKED,
                        .others_open = TRUE,
                        .answer = ARBITER_UNKNOWN,
                        .time = CLAIM_LATE};
    g_assert_false(judge(facts).counts);
    facts.others_open = FALSE;
    g_assert_cmpint(judge(facts).report, ==, CLAIM_REPORT_UNDECIDED);
    facts.doing = CLAIM_UNDECIDED;
    facts.time = CLAIM_GONE;
    g_assert_false(judge(facts).counts);
    facts.answer = ARBITER_GRANTED;
    g_assert_cmpint(judge(facts).report, ==, CLAIM_REPORT_GRANTED);
}

/* A clear no is not overruled. */
static void test_force(void)
{
    ClaimFacts facts = {
        .state = FSM_P_PAUSED, .doing = CLAIM_ASKED, .forced = TRUE, .answer = ARBITER_DENIED};
    g_assert_cmpint(judge(facts).report, ==, CLAIM_REPORT_DENIED);
    facts.answer = ARBITER_UNKNOWN;
    g_assert_cmpint(judge(facts).report, ==, CLAIM_REPORT_FORCED);
    g_assert_cmpint(judge(facts).next, ==, CLAIM_FORCED_AGAIN);
    facts.time = CLAIM_LATE;
    g_assert_cmpint(judge(facts).next, ==, CLAIM_FORCED);
    /* The primary, which is there, can do without a hand-over. */
    facts.state = FSM_S_HANDED;
    g_assert_cmpint(judge(facts).report, ==, CLAIM_REPORT_UNDECIDED);
}

/* Without an arbiter: whoever has handed its VM over learns nothing from a peer that comes back. */
static void test_handed(void)
{
    ClaimFacts facts = {.state = FSM_P_RECOVER, .doing = CLAIM_ASKED, .answer = ARBITER_MANUAL};
    g_assert_cmpint(judge(facts).report, ==, CLAIM_REPORT_GRANTED);
    facts.handed = TRUE;
    g_assert_cmpint(judge(facts).report, ==, CLAIM_REPORT_UNDECIDED);
    g_assert_cmpint(judge(facts).next, ==, CLAIM_MANUAL);
    facts.forced = TRUE;
    g_assert_cmpint(judge(facts).report, ==, CLAIM_REPORT_FORCED);
    /* An arbiter's answer is to come. */
    facts.forced = FALSE;
    facts.answer = ARBITER_UNKNOWN;
    g_assert_cmpint(judge(facts).next, ==, CLAIM_AGAIN);
}

/* The peer's VM is dead if the peer said so where it can be; that lasts until the link is back. */
static void test_yielded(void)
{
    for (FsmState next = 0; next < FSM_STATES; next++)
        for (FsmEvent event = 0; event < FSM_EVENTS; event++)
            for (int before = 0; before < 2; before++)
                g_assert_true(claim_yielded_after(before, event, next) ==
                              (next == FSM_S_PAUSED && (before || event == FSM_YIELDED)));
    for (FsmState state = 0; state < FSM_STATES; state++)
        if (fsm_step(state, FSM_YIELDED).verdict == FSM_MOVE)
            g_assert_true(state == FSM_S_COLO || state == FSM_S_HANDED || state == FSM_S_TAKING);
}

/* What is given back is tried again until there is an answer, also if one is late. */
static void test_returned(void)
{
    for (FsmState state = 0; state < FSM_STATES; state++) {
        gboolean gives = state == FSM_S_GIVING || state == FSM_S_LEAVING;
        ClaimReturn done = claim_judge_return(state, ARBITER_GRANTED);
        ClaimReturn none = claim_judge_return(state, ARBITER_MANUAL);
        ClaimReturn failed = claim_judge_return(state, ARBITER_UNKNOWN);
        g_assert_cmpint(done, ==, gives ? CLAIM_RETURN_DONE : CLAIM_RETURN_NOTHING);
        g_assert_cmpint(none, ==, done);
        g_assert_cmpint(failed, ==, gives ? CLAIM_RETURN_AGAIN : CLAIM_RETURN_NOTHING);
        g_assert_true(claim_looks_back(state) == (state == FSM_P_FROZEN));
    }
}

/* Out of doubt an answer changes nothing, and a later session is not asked about. */
static void test_out_of_doubt(void)
{
    for (FsmState state = 0; state < FSM_STATES; state++)
        for (ClaimDoing doing = 0; doing < CLAIM_DOINGS; doing++) {
            ClaimDoing after = claim_doing_after(doing, FSM_GRANTED, state);
            gboolean forced = doing == CLAIM_FORCED || doing == CLAIM_FORCED_AGAIN;
            gboolean stays = forced || (claim_is_in_doubt(state) && doing == CLAIM_ASKED);
            g_assert_cmpint(after, ==, stays ? doing : CLAIM_IDLE);
            if (claim_is_in_doubt(state) || forced)
                continue;
            ClaimFacts facts = {.state = state, .doing = doing, .forced = TRUE};
            for (facts.answer = 0; facts.answer <= ARBITER_UNKNOWN; facts.answer++) {
                ClaimVerdict verdict = judge(facts);
                g_assert_cmpint(verdict.report, ==, CLAIM_REPORT_NOTHING);
                g_assert_cmpint(verdict.next, ==, doing);
            }
        }
}

/* ---- The start ---- */

#define SAYS(says_, next_)                                                                         \
    {                                                                                              \
        CLAIM_START_REPORT_##says_, CLAIM_START_##next_                                            \
    }

static ClaimStartVerdict expected_start(const ClaimStartFacts *facts)
{
    static const ClaimStartVerdict granted = SAYS(GRANTED, IDLE), lost = SAYS(LOST, IDLE),
                                   wait = SAYS(WAIT, WAITS), wait_alone = SAYS(WAIT, IDLE),
                                   defers = SAYS(NOTHING, DEFERRED), late = SAYS(TROUBLE, ASKED),
                                   again = SAYS(TROUBLE, AGAIN), overruled = SAYS(OVERRULED, IDLE);
    switch (facts->answer) {
    case ARBITER_GRANTED:
        return granted;
    case ARBITER_DENIED:
        return facts->may_wait ? wait : lost;
    case ARBITER_OPEN:
        return defers;
    case ARBITER_MANUAL:
        return facts->overrules || facts->disks_are_good ? granted
               : facts->may_wait                         ? wait_alone
                                                         : lost;
    case ARBITER_UNKNOWN:
        return facts->overrules ? overruled : facts->time == CLAIM_LATE ? late : again;
    }
    g_assert_not_reached();
}

static void check_start(const ClaimStartFacts *facts)
{
    ClaimStartVerdict verdict = claim_judge_start(facts);
    g_assert_true(claim_start_may(facts->start, verdict.next));
    if (facts->start == CLAIM_START_ASKED) {
        ClaimStartVerdict expected = expected_start(facts);
        g_assert_cmpint(verdict.report, ==, expected.report);
        g_assert_cmpint(verdict.next, ==, expected.next);
    } else if (facts->start == CLAIM_START_WAITS_ASKED) {
        /* It starts the VM only as long as no primary has come. */
        gboolean inherits = facts->answer == ARBITER_GRANTED && facts->state == FSM_S_NONE;
        gboolean is_late = facts->answer == ARBITER_UNKNOWN && facts->time == CLAIM_LATE;
        g_assert_cmpint(verdict.report, ==,
                        inherits ? CLAIM_START_REPORT_INHERITED : CLAIM_START_REPORT_NOTHING);
        g_assert_cmpint(verdict.next, ==,
                        inherits  ? CLAIM_START_IDLE
                        : is_late ? CLAIM_START_WAITS_ASKED
                                  : CLAIM_START_WAITS);
    } else {
        /* What isn't asked any more has no answer. */
        g_assert_cmpint(verdict.report, ==, CLAIM_START_REPORT_NOTHING);
        g_assert_cmpint(verdict.next, ==, facts->start);
    }
}

static void test_start(void)
{
    ClaimStartFacts f = {0};
    for (f.state = 0; f.state < FSM_STATES; f.state++)
        for (f.start = 0; f.start < CLAIM_STARTS; f.start++)
            for (guint bits = 0; bits < 8; bits++)
                for (f.answer = 0; f.answer <= ARBITER_OPEN; f.answer++)
                    for (f.time = 0; f.time < CLAIM_TIMES; f.time++) {
                        f.overrules = bits & 1;
                        f.may_wait = (bits & 2) != 0;
                        f.disks_are_good = (bits & 4) != 0;
                        check_start(&f);
                    }
}

/* The question ends with the state that it was asked in. */
static void test_start_moves(void)
{
    for (FsmState next = 0; next < FSM_STATES; next++)
        for (ClaimStart start = 0; start < CLAIM_STARTS; start++) {
            ClaimStart after = claim_start_after(start, next);
            gboolean waits = start == CLAIM_START_WAITS || start == CLAIM_START_WAITS_ASKED;
            gboolean asks = start != CLAIM_START_IDLE && !waits;
            g_assert_true(claim_start_may(start, after));
            g_assert_true(after == start || after == CLAIM_START_IDLE);
            if (asks)
                g_assert_true((after == start) == (next == FSM_P_ASKING));
            if (waits && (next == FSM_S_ACTIVE || fsm_is_primary(next)))
                g_assert_cmpint(after, ==, CLAIM_START_IDLE);
        }
}

/* ---- On record ---- */

static void check_record(FsmState state, ClaimRecord record, gboolean others, ArbiterAnswer answer,
                         ClaimTime time)
{
    ClaimRecordVerdict v = claim_judge_record(state, record, others, answer, time);
    gboolean failed = answer == ARBITER_UNKNOWN;
    gboolean may = fsm_is_primary(state) && !fsm_is_contested(state);
    /* It is of something that was written before, if what is wanted isn't yet. */
    gboolean counts = !others && may && record != CLAIM_RECORD_WANTED;
    if (record != CLAIM_RECORD_NONE)
        g_assert_true(claim_record_may(record, v.next));
    g_assert_true(v.kept == (!failed && counts));
    g_assert_true(!v.kept || v.next == CLAIM_RECORD_KEPT);
    /* What has failed is tried again; that which is late is still to come. */
    g_assert_true(v.again == (failed && time != CLAIM_LATE && counts));
    g_assert_true(v.tells == (v.again || (failed && time == CLAIM_LATE)));
    if (!v.kept && record != CLAIM_RECORD_KEPT)
        g_assert_cmpint(v.next, !=, CLAIM_RECORD_KEPT);
    /* What is on record stays there, also if it can't be written anew. */
    if (record == CLAIM_RECORD_KEPT)
        g_assert_cmpint(v.next, ==, CLAIM_RECORD_KEPT);
}

static void test_record(void)
{
    for (FsmState state = 0; state < FSM_STATES; state++)
        for (ClaimRecord record = 0; record < CLAIM_RECORDS; record++)
            for (ArbiterAnswer answer = 0; answer <= ARBITER_UNKNOWN; answer++)
                for (ClaimTime time = 0; time < CLAIM_TIMES; time++)
                    for (int others = 0; others < 2; others++)
                        check_record(state, record, others, answer, time);
}

/* ---- What has not run here ---- */

static void check_note(const ClaimNoteFacts *facts)
{
    ClaimNoteVerdict v = claim_judge_note(facts);
    gboolean failed = facts->answer == ARBITER_UNKNOWN, late = facts->time == CLAIM_LATE;
    gboolean is_open = facts->note == CLAIM_NOTE_WRITING || facts->note == CLAIM_NOTE_REMOVING;
    g_assert_true(claim_note_may(facts->note, v.next));
    /* It is gone only when that is known. */
    if (facts->note != CLAIM_NOTE_NONE && v.next == CLAIM_NOTE_NONE)
        g_assert_true(facts->removes && !failed && facts->note == CLAIM_NOTE_REMOVING);
    /* What is late is still to come; and what is of a session before says nothing of this one. */
    if (late || !is_open || (facts->note == CLAIM_NOTE_WRITING && !facts->is_last))
        g_assert_cmpint(v.next, ==, facts->note);
    /* A takeover waits for no more than one that is late. */
    g_assert_true(v.ends == (facts->note == CLAIM_NOTE_REMOVING && (late || facts->removes)));
    g_assert_true(!v.tells || (failed && facts->note == CLAIM_NOTE_WRITING));
}

static void test_note(void)
{
    for (ClaimNote note = 0; note < CLAIM_NOTES; note++)
        for (ArbiterAnswer answer = 0; answer <= ARBITER_UNKNOWN; answer++)
            for (ClaimTime time = 0; time < CLAIM_TIMES; time++)
                for (int removes = 0; removes < 2; removes++)
                    for (int is_last = 0; is_last < 2; is_last++)
                        check_note(&(ClaimNoteFacts){.note = note,
                                                     .removes = removes,
                                                     .is_last = is_last,
                                                     .answer = answer,
                                                     .time = time});
    for (FsmState state = 0; state < FSM_STATES; state++) {
        g_assert_true(claim_notes(state, FALSE, TRUE) == (state == FSM_S_ACTIVE));
        g_assert_false(claim_notes(state, TRUE, TRUE) || claim_notes(state, FALSE, FALSE));
        /* In other states output may have left. */
        for (FsmState next = 0; next < FSM_STATES; next++)
            g_assert_true(
                claim_notes_again(state, next) ==
                (state == FSM_S_TAKING && (next == FSM_S_GIVING || next == FSM_S_LEAVING)));
    }
    for (ClaimNote note = 0; note < CLAIM_NOTES; note++)
        g_assert_nonnull(claim_note_name(note));
}

static void check_pin(FsmState state, ClaimRecord record, ArbiterAnswer answer, ClaimTime time)
{
    ClaimRecordVerdict v = claim_judge_pin(state, record, answer, time);
    gboolean failed = answer == ARBITER_UNKNOWN;
    g_assert_cmpint(v.next, ==, record);
    g_assert_false(v.kept);
    g_assert_true(v.tells == failed);
    g_assert_true(v.again == (failed && time != CLAIM_LATE && claim_may_write(state)));
}

/* Only who runs the VM alone writes; and nothing of a session before the arbiter is pinned. */
static void test_writes(void)
{
    for (FsmState state = 0; state < FSM_STATES; state++) {
        gboolean may = fsm_is_primary(state) && !fsm_is_contested(state);
        for (int session = 0; session < 2; session++)
            for (int pinned = 0; pinned < 2; pinned++)
                g_assert_cmpint(claim_writes(state, session, pinned), ==,
                                !may                 ? CLAIM_WRITES_NOTHING
                                : session && !pinned ? CLAIM_WRITES_PIN
                                                     : CLAIM_WRITES_RECORD);
        for (ClaimRecord record = 0; record < CLAIM_RECORDS; record++)
            for (ArbiterAnswer answer = 0; answer <= ARBITER_UNKNOWN; answer++)
                for (ClaimTime time = 0; time < CLAIM_TIMES; time++)
                    check_pin(state, record, answer, time);
    }
    /* Nobody writes who may have lost the VM. */
    g_assert_false(claim_may_write(FSM_P_COLO) || claim_may_write(FSM_P_PAUSED) ||
                   claim_may_write(FSM_P_FROZEN) || claim_may_write(FSM_S_COLO));
}

/* ---- Is it there? ---- */

static ClaimFirst expected_first(gboolean pinned, gboolean overrules, ArbiterAnswer answer,
                                 ClaimTime time)
{
    if (answer != ARBITER_UNKNOWN)
        return CLAIM_FIRST_BEGIN;
    if (!pinned)
        return CLAIM_FIRST_LOST;
    if (overrules)
        return CLAIM_FIRST_BEGIN_WITHOUT;
    return time == CLAIM_GONE ? CLAIM_FIRST_NOTHING : CLAIM_FIRST_WAIT;
}

static void check_first(FsmState state, ClaimWatch watch, guint bits, ArbiterAnswer answer,
                        ClaimTime time)
{
    gboolean pinned = bits & 1, overrules = (bits & 2) != 0;
    gboolean waits = (state == FSM_P_ASKING || state == FSM_S_STARTING) &&
                     (watch == CLAIM_WATCH_FIRST || watch == CLAIM_WATCH_WAITS);
    g_assert_cmpint(claim_judge_first_look(state, watch, pinned, overrules, answer, time), ==,
                    waits ? expected_first(pinned, overrules, answer, time) : CLAIM_FIRST_NOTHING);
}

static void test_first_look(void)
{
    for (FsmState state = 0; state < FSM_STATES; state++)
        for (ClaimWatch watch = 0; watch < CLAIM_WATCHES; watch++)
            for (guint bits = 0; bits < 4; bits++)
                for (ArbiterAnswer answer = 0; answer <= ARBITER_UNKNOWN; answer++)
                    for (ClaimTime time = 0; time < CLAIM_TIMES; time++)
                        check_first(state, watch, bits, answer, time);
    /* It has begun to work once. */
    g_assert_false(claim_watch_may(CLAIM_WATCH_THERE, CLAIM_WATCH_WAITS) ||
                   claim_watch_may(CLAIM_WATCH_AWAY, CLAIM_WATCH_WAITS));
}

static void test_names(void)
{
    for (guint i = 0; i < CLAIM_DOINGS; i++)
        g_assert_nonnull(claim_doing_name(i));
    for (guint i = 0; i < CLAIM_STARTS; i++)
        g_assert_nonnull(claim_start_name(i));
    for (guint i = 0; i < CLAIM_RECORDS; i++)
        g_assert_nonnull(claim_record_name(i));
    for (guint i = 0; i < CLAIM_WATCHES; i++)
        g_assert_nonnull(claim_watch_name(i));
}

/* What has been granted to a primary is not given away as it ends. One that takes over is none yet. */
static void test_may_have(void)
{
    for (FsmState state = 0; state < FSM_STATES; state++) {
        gboolean holds = state == FSM_S_COLO || state == FSM_S_HANDED || state == FSM_S_PAUSED ||
                         state == FSM_S_RECOVER;
        gboolean has_lost = state == FSM_S_STARTING || state == FSM_S_NONE ||
                            state == FSM_S_SETUP || state == FSM_S_ACTIVE;
        gboolean has_ended = state == FSM_COMPLETED || state == FSM_FAILED;
        gboolean takes = state == FSM_S_TAKING || state == FSM_S_DEVICE;
        g_assert_true(claim_may_have(state) == (holds || takes || has_lost || has_ended));
        /* It has nothing that it could continue with. */
        g_assert_true(!claim_gives_back(state) || (has_lost && claim_may_have(state)));
        g_assert_true(claim_gives_back(state) == (state == FSM_S_NONE));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/claim-rules/late", test_late);
    g_test_add_func("/claim-rules/force", test_force);
    g_test_add_func("/claim-rules/yielded", test_yielded);
    g_test_add_func("/claim-rules/handed", test_handed);
    g_test_add_func("/claim-rules/returned", test_returned);
    g_test_add_func("/claim-rules/out-of-doubt", test_out_of_doubt);
    g_test_add_func("/claim-rules/start", test_start);
    g_test_add_func("/claim-rules/start-moves", test_start_moves);
    g_test_add_func("/claim-rules/record", test_record);
    g_test_add_func("/claim-rules/writes", test_writes);
    g_test_add_func("/claim-rules/first-look", test_first_look);
    g_test_add_func("/claim-rules/names", test_names);
    g_test_add_func("/claim-rules/note", test_note);
    g_test_add_func("/claim-rules/may-have", test_may_have);
    return g_test_run();
}
