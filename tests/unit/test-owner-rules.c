/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whose a VM is, for everything that can be on record; what is written: test-arbiter-owner. */
#include "colo/arbiter/owner-rules.h"

static OwnerWho other_of(OwnerWho who)
{
    return who == OWNER_NOBODY ? OWNER_NOBODY : who == OWNER_SELF ? OWNER_OTHER : OWNER_SELF;
}

/* The same record, as the other node sees it. */
static OwnerFacts mirror(const OwnerFacts *facts)
{
    OwnerFacts seen = *facts;
    seen.writer = other_of(facts->writer);
    seen.winner = other_of(facts->winner);
    seen.in_step = other_of(facts->in_step);
    return seen;
}

/* Calls `check` with each record that there can be. */
static void walk(void (*check)(const OwnerFacts *facts))
{
    for (int rests = 0; rests < 2; rests++)
        for (int has_session = rests; has_session < 2; has_session++)
            for (OwnerWho writer = OWNER_SELF; writer <= OWNER_OTHER; writer++)
                for (OwnerWho winner = OWNER_NOBODY; winner <= OWNER_OTHER; winner++)
                    for (OwnerWho in_step = OWNER_NOBODY; in_step <= OWNER_OTHER; in_step++)
                        for (int is_newer = 0; is_newer < 2; is_newer++)
                            for (int is_unrun = 0; is_unrun < 2; is_unrun++)
                                if (has_session || winner == OWNER_NOBODY)
                                    check(&(OwnerFacts){.rests = rests,
                                                        .has_session = has_session,
                                                        .writer = writer,
                                                        .winner = winner,
                                                        .in_step = in_step,
                                                        .is_newer = is_newer,
                                                        .is_unrun = is_unrun});
}

/* Of two one is the owner at most; and if nobody is, one of them may become it. */
static void check_judge(const OwnerFacts *facts)
{
    OwnerFacts seen = mirror(facts);
    ArbiterAnswer ours = owner_judge(facts), theirs = owner_judge(&seen);
    g_assert_false(ours == ARBITER_GRANTED && theirs != ARBITER_DENIED);
    g_assert_false(ours == ARBITER_DENIED && theirs == ARBITER_DENIED);
    g_assert_true(ours == ARBITER_GRANTED || ours == ARBITER_DENIED || ours == ARBITER_OPEN);
    /* What a decision says counts for more than who was written down. */
    if (facts->winner != OWNER_NOBODY)
        g_assert_true((ours == ARBITER_GRANTED) == (facts->winner == OWNER_SELF));
    if (!facts->has_session)
        g_assert_true((ours == ARBITER_GRANTED) == (facts->writer == OWNER_SELF));
    /* The secondary decides by asking for the session, and not here. */
    if (!facts->rests && facts->winner == OWNER_NOBODY && facts->writer == OWNER_OTHER)
        g_assert_cmpint(ours, ==, ARBITER_DENIED);
}

static void test_judge(void)
{
    walk(check_judge);
}

static void check_claim(const OwnerFacts *facts)
{
    ArbiterAnswer judged = owner_judge(facts);
    gboolean returned = judged == ARBITER_GRANTED && facts->is_unrun && !facts->rests &&
                        facts->winner == OWNER_SELF && facts->writer == OWNER_OTHER;
    for (int good = 0; good < 2; good++)
        g_assert_cmpint(owner_judge_claim(facts, ARBITER_RETURN, good), ==,
                        returned ? OWNER_RETURNS : OWNER_DENIES);
    for (ArbiterClaim claim = ARBITER_LOOK; claim <= ARBITER_INHERIT; claim++) {
        OwnerVerdict good = owner_judge_claim(facts, claim, TRUE);
        OwnerVerdict bad = owner_judge_claim(facts, claim, FALSE);
        g_assert_cmpint(good, !=, OWNER_WRITES);
        /* The owner has it, and only the owner gives it back. */
        gboolean records = judged == ARBITER_GRANTED && !returned && facts->writer == OWNER_OTHER &&
                           facts->is_newer;
        g_assert_true((good == OWNER_RECORDS) == records);
        g_assert_true((good == OWNER_GRANTS) ==
                      (judged == ARBITER_GRANTED && !records && !returned));
        /* Only a session that it has won, of a VM that runs, and that it has not run itself. */
        g_assert_true((bad == OWNER_RETURNS) == returned);
        g_assert_true((bad == OWNER_GIVES_BACK) == (judged == ARBITER_GRANTED && !returned));
        g_assert_true((good == OWNER_RETURNS) == returned);
        g_assert_true((good == OWNER_DENIES) == (judged == ARBITER_DENIED));
        /* Nobody comes to run it from disks that lack something. */
        g_assert_true(bad != OWNER_GRANTS && bad != OWNER_DECIDES && bad != OWNER_WAITS);
        if (judged != ARBITER_OPEN)
            continue;
        /* Who waits is in the place of who ran it last only if that is itself, or the same. */
        gboolean heir = facts->writer == OWNER_SELF || facts->in_step == OWNER_SELF;
        if (claim == ARBITER_INHERIT && !heir)
            g_assert_cmpint(good, ==, OWNER_DENIES_ENDED);
        else
            g_assert_cmpint(good, ==,
                            facts->rests || claim == ARBITER_CLAIM ? OWNER_DECIDES : OWNER_WAITS);
    }
}

static void test_claim(void)
{
    walk(check_claim);
}

static void test_no_record(void)
{
    g_assert_cmpint(owner_judge_claim(NULL, ARBITER_LOOK, TRUE), ==, OWNER_WRITES);
    g_assert_cmpint(owner_judge_claim(NULL, ARBITER_CLAIM, TRUE), ==, OWNER_WRITES);
    g_assert_cmpint(owner_judge_claim(NULL, ARBITER_LOOK, FALSE), ==, OWNER_DENIES_DISKS);
    g_assert_cmpint(owner_judge_claim(NULL, ARBITER_INHERIT, TRUE), ==, OWNER_DENIES_UNRUN);
    g_assert_cmpint(owner_judge_claim(NULL, ARBITER_RETURN, TRUE), ==, OWNER_DENIES_UNRUN);
}

static void check_release(const OwnerFacts *facts)
{
    ArbiterAnswer judged = owner_judge(facts);
    OwnerVerdict run = owner_judge_end(facts, TRUE), unrun = owner_judge_end(facts, FALSE);
    g_assert_true((run == OWNER_RESTS) == (judged == ARBITER_GRANTED));
    /* The writer may hold what it has won, and look whether it is its own again. */
    gboolean returns = judged == ARBITER_GRANTED && !facts->rests && facts->writer == OWNER_OTHER;
    g_assert_true((unrun == OWNER_RETURNS) == returns);
    g_assert_true((unrun == OWNER_GIVES_BACK) == (judged == ARBITER_GRANTED && !returns));
    g_assert_true((run == OWNER_DENIES) == (judged == ARBITER_DENIED));
    /* An open session is decided first, or the secondary may have it. */
    if (judged == ARBITER_OPEN)
        g_assert_cmpint(run, ==, facts->rests ? OWNER_GRANTS : OWNER_DECIDES);
    g_assert_true(owner_keeps_in_step(facts) == facts->rests);
}

static void test_release(void)
{
    walk(check_release);
}

/* The disks are looked at as the writer's own, unless the VM rests and is nobody's. */
static void check_asker(const OwnerFacts *facts)
{
    gboolean nobodys = facts->rests && owner_judge(facts) != ARBITER_GRANTED;
    g_assert_true(owner_is_asker(facts) == !nobodys);
}

static void test_asker(void)
{
    walk(check_asker);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/owner-rules/judge", test_judge);
    g_test_add_func("/owner-rules/claim", test_claim);
    g_test_add_func("/owner-rules/no-record", test_no_record);
    g_test_add_func("/owner-rules/release", test_release);
    g_test_add_func("/owner-rules/asker", test_asker);
    return g_test_run();
}
