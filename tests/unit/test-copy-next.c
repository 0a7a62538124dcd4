/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The choice of what is done to the copy next: all facts, and all ways on from each.
 */
#include "colo/node/copy-next.h"

/* Jobs, and changes of the disks and of RAM, from any facts to the end that is due. */
#define STEPS_MAX 16

typedef void (*Visit)(const CopyFacts *facts);

static void visit_flags(CopyFacts facts, Visit visit)
{
    for (guint flags = 0; flags < 16; flags++) {
        facts.running = flags & 1;
        facts.refused = flags >> 1 & 1;
        facts.check_due = flags >> 2 & 1;
        facts.settled = flags >> 3 & 1;
        visit(&facts);
    }
}

static void visit_asked(CopyFacts facts, Visit visit)
{
    for (guint i = 0; i < COPY_DISKS * COPY_PREPARES * COPY_FITS; i++) {
        facts.disks = i % COPY_DISKS;
        facts.prepare = i / COPY_DISKS % COPY_PREPARES;
        facts.fit = i / COPY_DISKS / COPY_PREPARES;
        visit_flags(facts, visit);
    }
}

/* All facts, whether they can be or not. */
static void visit_all(Visit visit)
{
    for (guint i = 0; i < COPY_JOBS * COPY_DUTIES * COPY_CONDITIONS * COPY_SESSIONS; i++)
        visit_asked((CopyFacts){.job = i % COPY_JOBS,
                                .duty = i / COPY_JOBS % COPY_DUTIES,
                                .condition = i / COPY_JOBS / COPY_DUTIES % COPY_CONDITIONS,
                                .session = i / COPY_JOBS / COPY_DUTIES / COPY_CONDITIONS},
                    visit);
}

/* ---- What a job may be chosen for ---- */

static gboolean is_still(const CopyFacts *facts)
{
    return !facts->running;
}

static gboolean is_answering(const CopyFacts *facts)
{
    return !facts->running && facts->condition != COPY_APPLYING;
}

static gboolean is_loadable(const CopyFacts *facts)
{
    gboolean ram_is_right = facts->condition == COPY_TO_LOAD ||
                            (facts->condition == COPY_STANDBY && facts->duty == COPY_TAKE_OVER);
    return ram_is_right && !facts->running && facts->disks == COPY_DISKS_THERE &&
           facts->duty != COPY_HOLD && facts->duty != COPY_FREEZE;
}

static gboolean is_to_continue(const CopyFacts *facts)
{
    return facts->duty == COPY_TAKE_OVER && facts->settled && !facts->refused &&
           facts->disks == COPY_DISKS_THERE &&
           (facts->condition == COPY_PAUSED || facts->condition == COPY_RUNNING ||
            facts->condition == COPY_STALLED);
}

static gboolean is_lost(const CopyFacts *facts)
{
    return facts->duty == COPY_TAKE_OVER && facts->settled &&
           (facts->condition == COPY_INVALID || facts->condition == COPY_EMPTY);
}

static gboolean is_to_inactivate(const CopyFacts *facts)
{
    return facts->disks == COPY_DISKS_DUE && !facts->running;
}

static gboolean is_to_tell_fit(const CopyFacts *facts)
{
    return facts->fit == COPY_FIT_CHECKED && facts->duty == COPY_HAND_OVER && is_answering(facts) &&
           facts->disks == COPY_DISKS_THERE;
}

static gboolean is_to_begin(const CopyFacts *facts)
{
    return facts->session == COPY_SESSION_DUE && !facts->running && !facts->check_due;
}

static gboolean is_to_look(const CopyFacts *facts)
{
    return facts->prepare == COPY_PREPARE_DUE && is_answering(facts);
}

/* Somebody wants it paused: a running copy is never paused for nothing. */
static gboolean is_to_pause(const CopyFacts *facts)
{
    if (!facts->running)
        return FALSE;
    if (facts->duty == COPY_TAKE_OVER && !facts->refused)
        return !copy_is_loaded(facts->condition) || facts->disks != COPY_DISKS_THERE;
    return facts->refused || facts->duty == COPY_FREEZE || facts->session != COPY_SESSION ||
           facts->condition != COPY_RUNNING || facts->prepare != COPY_NOT_ASKED ||
           (facts->fit != COPY_FIT_UNASKED && facts->duty == COPY_HAND_OVER);
}

static void check_job(const CopyFacts *facts)
{
    static gboolean (*const may[COPY_JOBS])(const CopyFacts *) = {
        [COPY_CHECK] = is_still,
        [COPY_PAUSE] = is_to_pause,
        [COPY_BEGIN] = is_to_begin,
        [COPY_LOOK] = is_to_look,
        [COPY_KEEP] = is_loadable,
        [COPY_RESUME] = is_to_continue,
        [COPY_INACTIVATE] = is_to_inactivate,
        [COPY_TELL_FIT] = is_to_tell_fit,
        [COPY_GIVE_UP] = is_lost,
    };
    CopyJob job = copy_next(facts);
    if (job == COPY_NOTHING)
        return;
    g_assert_cmpint(facts->job, ==, COPY_NOTHING);
    g_assert_cmpint(facts->duty, !=, COPY_UNUSED);
    g_assert_true(may[job] && may[job](facts));
    /* While something waits to be tried again nothing else is begun. */
    g_assert_true(job == COPY_PAUSE || !facts->refused);
}

static void test_only_what_may_be(void)
{
    visit_all(check_job);
}

/* A VM that runs and must not is paused before anything else. */
static void check_pause(const CopyFacts *facts)
{
    if (facts->job == COPY_NOTHING && facts->duty != COPY_UNUSED && facts->duty != COPY_TAKE_OVER &&
        is_to_pause(facts))
        g_assert_cmpint(copy_next(facts), ==, COPY_PAUSE);
}

static void test_pauses_first(void)
{
    visit_all(check_pause);
}

/* One that is protected runs on while nobody asks for it, also while the arbiter is asked. */
static void check_runs_on(const CopyFacts *facts)
{
    if (facts->job == COPY_NOTHING && facts->running && !facts->refused &&
        facts->condition == COPY_RUNNING && facts->session == COPY_SESSION &&
        facts->prepare == COPY_NOT_ASKED &&
        (facts->duty == COPY_PROTECT || facts->duty == COPY_HOLD))
        g_assert_cmpint(copy_next(facts), ==, COPY_NOTHING);
}

static void test_runs_on(void)
{
    visit_all(check_runs_on);
}

/* ---- What must come ---- */

static gboolean can_be(const CopyFacts *facts)
{
    gboolean loads = facts->job == COPY_LOAD || facts->job == COPY_REPAIR;
    return (facts->condition == COPY_LOADING) == loads &&
           (facts->condition == COPY_EMPTY || facts->session == COPY_SESSION) &&
           /* Nothing is applied any more; and no takeover without a checkpoint. */
           !(facts->settled && facts->condition == COPY_APPLYING);
}

static void become(CopyFacts *facts, CopyCondition next)
{
    g_assert_true(copy_may_become(facts->condition, next));
    facts->condition = next;
}

/* `chance`: what can come in more than one way comes in this one. */
static void do_job(CopyFacts *facts, CopyJob job, gboolean chance)
{
    switch (job) {
    case COPY_PAUSE:
        facts->running = FALSE;
        if (facts->condition == COPY_RUNNING)
            become(facts, COPY_PAUSED);
        break;
    case COPY_CHECK:
        if (!facts->check_due)
            facts->fit = COPY_FIT_CHECKED;
        facts->check_due = FALSE;
        break;
    case COPY_INACTIVATE:
        facts->disks = COPY_DISKS_BUSY;
        break;
    case COPY_BEGIN:
        facts->session = COPY_SESSION;
        break;
    case COPY_KEEP: {
        if (facts->condition == COPY_STANDBY)
            become(facts, COPY_TO_LOAD);
        become(facts, COPY_LOADING);
        CopyLoaded loaded = copy_loaded(facts->duty, chance);
        become(facts, loaded == COPY_LOADED_PROVEN    ? COPY_STANDBY
                      : loaded == COPY_LOADED_INVALID ? COPY_INVALID
                                                      : COPY_PAUSED);
        if (loaded == COPY_LOADED_RUN)
            become(facts, COPY_RUNNING);
        facts->running = loaded == COPY_LOADED_RUN;
        break;
    }
    default:
        g_assert_not_reached();
    }
}

/* What comes by itself; FALSE: nothing will. */
static gboolean let_come(CopyFacts *facts, gboolean chance)
{
    if (facts->disks == COPY_DISKS_BUSY)
        facts->disks = COPY_DISKS_THERE;
    else if (facts->condition == COPY_APPLYING)
        become(facts, copy_is_to_load(facts->duty, chance) ? COPY_TO_LOAD : COPY_STANDBY);
    else
        return FALSE;
    return TRUE;
}

/* From `facts` on, one of `ends` comes, whatever the chances are. */
static void assert_comes(const CopyFacts *from, CopyJob end, CopyJob other_end)
{
    for (int chance = 0; chance < 2; chance++) {
        CopyFacts facts = *from;
        CopyJob job;
        for (int i = 0; (job = copy_next(&facts)) != end && job != other_end; i++) {
            g_assert_cmpint(i, <, STEPS_MAX);
            if (job != COPY_NOTHING)
                do_job(&facts, job, chance);
            else
                g_assert_true(let_come(&facts, chance));
        }
    }
}

static void check_takeover(const CopyFacts *facts)
{
    if (can_be(facts) && facts->job == COPY_NOTHING && facts->duty == COPY_TAKE_OVER &&
        facts->settled && !facts->refused)
        assert_comes(facts, COPY_RESUME, COPY_GIVE_UP);
}

/* A takeover waits for the disks that are being written, and for nothing else. */
static void test_takeover_comes(void)
{
    visit_all(check_takeover);
}

static void check_invalid(const CopyFacts *facts)
{
    if (facts->job == COPY_NOTHING && facts->duty == COPY_TAKE_OVER && facts->settled &&
        !facts->refused && facts->condition == COPY_INVALID)
        g_assert_cmpint(copy_next(facts), ==, COPY_GIVE_UP);
}

static void test_invalid_is_given_up(void)
{
    visit_all(check_invalid);
}

/* The primary's questions are answered, whatever the copy is at. */
static void check_answers(const CopyFacts *facts)
{
    if (!can_be(facts) || facts->job != COPY_NOTHING || facts->refused ||
        facts->session != COPY_SESSION)
        return;
    if (facts->duty == COPY_PROTECT && facts->prepare == COPY_PREPARE_DUE)
        assert_comes(facts, COPY_LOOK, COPY_LOOK);
    if (facts->duty == COPY_HAND_OVER && facts->fit != COPY_FIT_UNASKED &&
        facts->prepare == COPY_NOT_ASKED)
        assert_comes(facts, COPY_TELL_FIT, COPY_TELL_FIT);
}

static void test_answers_come(void)
{
    visit_all(check_answers);
}

/* A new session is waited for by the primary: it begins whatever is left of the one before. */
static void check_session(const CopyFacts *facts)
{
    if (facts->job == COPY_NOTHING && !facts->refused && facts->duty == COPY_JOIN &&
        facts->session == COPY_SESSION_DUE)
        assert_comes(facts, COPY_BEGIN, COPY_BEGIN);
}

static void test_session_begins(void)
{
    visit_all(check_session);
}

/* ---- Conditions ---- */

static void test_steps(void)
{
    /* Row: from, column: to, in the order of CopyCondition. */
    static const char *const may[COPY_CONDITIONS] = {
        [COPY_EMPTY] = "xx.......",   [COPY_APPLYING] = "xxxx.....", [COPY_STANDBY] = "xxxx.....",
        [COPY_TO_LOAD] = "x..xx....", [COPY_LOADING] = "x.x.xx..x",  [COPY_PAUSED] = "xx...xx.x",
        [COPY_RUNNING] = "x.x..xxxx", [COPY_STALLED] = "xx.....xx",  [COPY_INVALID] = "xx......x",
    };
    for (CopyCondition from = 0; from < COPY_CONDITIONS; from++)
        for (CopyCondition to = 0; to < COPY_CONDITIONS; to++)
            g_assert_cmpint(copy_may_become(from, to), ==, may[from][to] == 'x');
}

/* A job that isn't under way isn't followed by another: what begins it is copy_next(), again. */
static void test_job_steps(void)
{
    static const char *const may[COPY_JOBS] = {
        [COPY_NOTHING] = "xxxxxx..xxxx",  [COPY_CHECK] = "x...........",
        [COPY_PAUSE] = "x...........",    [COPY_BEGIN] = "x...........",
        [COPY_LOOK] = "x...........",     [COPY_KEEP] = "x.....x.....",
        [COPY_LOAD] = "x......x....",     [COPY_REPAIR] = "x...........",
        [COPY_RESUME] = "x...........",   [COPY_INACTIVATE] = "x...........",
        [COPY_TELL_FIT] = "x...........", [COPY_GIVE_UP] = "x...........",
    };
    for (CopyJob from = 0; from < COPY_JOBS; from++)
        for (CopyJob to = 0; to < COPY_JOBS; to++)
            g_assert_cmpint(copy_job_may(from, to), ==, may[from][to] == 'x');
}

static void check_chosen(const CopyFacts *facts)
{
    CopyJob job = copy_next(facts);
    g_assert_true(facts->job != COPY_NOTHING ? job == COPY_NOTHING
                                             : copy_job_may(COPY_NOTHING, job));
}

static void test_chosen_may_begin(void)
{
    visit_all(check_chosen);
}

static void test_small_steps(void)
{
    static const char *const session[COPY_SESSIONS] = {"xx.", "x.x", "x.."};
    static const char *const prepare[COPY_PREPARES] = {"xx.", "x.x", "x.."};
    static const char *const fit[COPY_FITS] = {"xx.", "xxx", "xx."};
    for (guint from = 0; from < 3; from++)
        for (guint to = 0; to < 3; to++) {
            g_assert_cmpint(copy_session_may(from, to), ==, session[from][to] == 'x');
            g_assert_cmpint(copy_prepare_may(from, to), ==, prepare[from][to] == 'x');
            g_assert_cmpint(copy_fit_may(from, to), ==, fit[from][to] == 'x');
        }
}

/* What is invalid becomes right by a checkpoint only. */
static void test_way_from_invalid(void)
{
    for (CopyCondition to = 0; to < COPY_CONDITIONS; to++)
        g_assert_true(to == COPY_EMPTY || to == COPY_APPLYING || to == COPY_INVALID ||
                      !copy_may_become(COPY_INVALID, to));
    for (int to_run = 0; to_run < 2; to_run++) {
        g_assert_false(copy_is_fit(COPY_INVALID, to_run));
        g_assert_false(copy_is_fit(COPY_EMPTY, to_run));
        g_assert_false(copy_is_fit(COPY_LOADING, to_run));
        g_assert_true(copy_is_fit(COPY_PAUSED, to_run));
        g_assert_cmpint(copy_is_fit(COPY_STANDBY, to_run), ==, !to_run);
    }
}

/* RAM that a load has made wrong is run from by nobody who could do otherwise. */
static void test_loaded(void)
{
    for (CopyDuty duty = COPY_JOIN; duty < COPY_DUTIES; duty++) {
        CopyLoaded right = copy_loaded(duty, FALSE), wrong = copy_loaded(duty, TRUE);
        g_assert_cmpint(right, !=, COPY_LOADED_INVALID);
        g_assert_cmpint(right == COPY_LOADED_RUN, ==, duty == COPY_PROTECT);
        g_assert_cmpint(right == COPY_LOADED_PROVEN, ==, duty == COPY_JOIN);
        if (duty == COPY_JOIN || duty == COPY_TAKE_OVER)
            g_assert_cmpint(wrong, ==, right);
        else
            g_assert_cmpint(wrong, ==, COPY_LOADED_INVALID);
    }
}

/* Loads that only a session could use are not begun outside of one. */
static void test_to_load(void)
{
    for (CopyDuty duty = COPY_JOIN; duty < COPY_DUTIES; duty++) {
        g_assert_cmpint(copy_is_to_load(duty, FALSE), ==, duty == COPY_JOIN);
        g_assert_cmpint(copy_is_to_load(duty, TRUE), ==, !copy_is_to_keep(duty));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/copy-next/only-what-may-be", test_only_what_may_be);
    g_test_add_func("/copy-next/pauses-first", test_pauses_first);
    g_test_add_func("/copy-next/runs-on", test_runs_on);
    g_test_add_func("/copy-next/takeover-comes", test_takeover_comes);
    g_test_add_func("/copy-next/invalid-is-given-up", test_invalid_is_given_up);
    g_test_add_func("/copy-next/answers-come", test_answers_come);
    g_test_add_func("/copy-next/session-begins", test_session_begins);
    g_test_add_func("/copy-next/steps", test_steps);
    g_test_add_func("/copy-next/job-steps", test_job_steps);
    g_test_add_func("/copy-next/chosen-may-begin", test_chosen_may_begin);
    g_test_add_func("/copy-next/small-steps", test_small_steps);
    g_test_add_func("/copy-next/way-from-invalid", test_way_from_invalid);
    g_test_add_func("/copy-next/loaded", test_loaded);
    g_test_add_func("/copy-next/to-load", test_to_load);
    return g_test_run();
}
