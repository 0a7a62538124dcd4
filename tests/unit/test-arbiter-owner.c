/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whose a VM is. What two nodes make of it together: tests/sim/test-failover-model.c. */
#include "colo/arbiter/arbiter.h"

#include <glib/gstdio.h>
#include <string.h>

#define UUID "7c2bd5a4-9a2b-4b62-a1ef-5c0a4d3c7a11"
#define S1   "00112233445566778899aabbccddeeff"
#define S2   "ffeeddccbbaa99887766554433221100"

typedef struct {
    char *dir, *record;
    Arbiter *arbiter;
} Fixture;

typedef struct {
    gboolean answered;
    ArbiterAnswer answer;
    char *text;
} Answered;

static void set_up(Fixture *fixture, gconstpointer data)
{
    (void)data;
    g_autoptr(GError) error = NULL;
    fixture->dir = g_dir_make_tmp("test-arbiter-XXXXXX", NULL);
    fixture->record = g_build_filename(fixture->dir, UUID ".owner", NULL);
    g_autofree char *id = NULL, *mount = NULL;
    g_assert_true(arbiter_init_folder(fixture->dir, &id, &mount, &error));
    fixture->arbiter = arbiter_new(fixture->dir, NULL, &error);
    g_assert_no_error(error);
}

static void tear_down(Fixture *fixture, gconstpointer data)
{
    const char *name;
    (void)data;
    arbiter_free(fixture->arbiter);
    g_autoptr(GDir) dir = g_dir_open(fixture->dir, 0, NULL);
    while (dir && (name = g_dir_read_name(dir))) {
        /* Whatever was done, no draft is left. */
        g_assert_false(g_str_has_prefix(name, "."));
        g_autofree char *path = g_build_filename(fixture->dir, name, NULL);
        g_remove(path);
    }
    g_rmdir(fixture->dir);
    g_free(fixture->dir);
    g_free(fixture->record);
}

static void on_answer(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Answered *answered = user_data;
    g_assert_false(answered->answered);
    *answered = (Answered){TRUE, answer, error ? g_strdup(error->message) : NULL};
}

static ArbiterAnswer wait_for(Answered *answered)
{
    while (!answered->answered)
        g_main_context_iteration(NULL, TRUE);
    /* Each but the plain answers says why. */
    g_assert_true((answered->text != NULL) ==
                  (answered->answer == ARBITER_DENIED || answered->answer == ARBITER_UNKNOWN));
    g_free(answered->text);
    return answered->answer;
}

/* A node whose VM has no disks. */
static const ArbiterStake none;

static ArbiterAnswer claim_with(const Fixture *fixture, const char *who, ArbiterClaim how,
                                const ArbiterStake *stake)
{
    Answered answered = {0};
    arbiter_claim(fixture->arbiter, UUID, who, how, stake, on_answer, &answered);
    return wait_for(&answered);
}

static ArbiterAnswer claim(const Fixture *fixture, const char *who, ArbiterClaim how)
{
    return claim_with(fixture, who, how, &none);
}

static void record(const Fixture *fixture, const char *who, const char *session)
{
    Answered answered = {0};
    arbiter_record(fixture->arbiter, UUID, session, who, 0, on_answer, &answered);
    g_assert_cmpint(wait_for(&answered), ==, ARBITER_GRANTED);
}

static ArbiterAnswer give_back_with(const Fixture *fixture, const char *who,
                                    const ArbiterRest *rest)
{
    Answered answered = {0};
    arbiter_give_back(fixture->arbiter, UUID, who, rest, on_answer, &answered);
    return wait_for(&answered);
}

static ArbiterAnswer give_back(const Fixture *fixture, const char *who)
{
    return give_back_with(fixture, who, &(ArbiterRest){0});
}

static ArbiterAnswer ask(const Fixture *fixture, const char *who, const char *session)
{
    Answered answered = {0};
    arbiter_ask(fixture->arbiter, UUID, session, who, 7, on_answer, &answered);
    while (!answered.answered)
        g_main_context_iteration(NULL, TRUE);
    return answered.answer;
}

static void test_first_has_it(Fixture *fixture, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(claim(fixture, "alpha", ARBITER_LOOK), ==, ARBITER_GRANTED);
    g_assert_cmpint(claim(fixture, "beta", ARBITER_LOOK), ==, ARBITER_DENIED);
    g_assert_cmpint(claim(fixture, "beta", ARBITER_CLAIM), ==, ARBITER_DENIED);
    g_assert_cmpint(claim(fixture, "alpha", ARBITER_LOOK), ==, ARBITER_GRANTED);
    g_autofree char *text = NULL;
    g_assert_true(g_file_get_contents(fixture->record, &text, NULL, NULL));
    g_assert_true(g_str_has_prefix(text, "colo owner 2\nowner alpha\nsession -\nwriter alpha\n"));
}

/* The secondary has won: the primary is told so when it comes back, and who it was. */
static void test_overtaken(Fixture *fixture, gconstpointer data)
{
    Answered answered = {0};
    (void)data;
    record(fixture, "alpha", S1);
    g_assert_cmpint(ask(fixture, "beta", S1), ==, ARBITER_GRANTED);
    arbiter_claim(fixture->arbiter, UUID, "alpha", ARBITER_CLAIM, &none, on_answer, &answered);
    while (!answered.answered)
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpint(answered.answer, ==, ARBITER_DENIED);
    g_assert_nonnull(strstr(answered.text, "is run by node beta"));
    g_assert_nonnull(strstr(answered.text, "--overrule-arbiter"));
    g_free(answered.text);
    g_assert_cmpint(claim(fixture, "beta", ARBITER_LOOK), ==, ARBITER_GRANTED);
    /* And back: alpha was its secondary, and wins the next one. */
    record(fixture, "beta", S2);
    g_assert_cmpint(ask(fixture, "alpha", S2), ==, ARBITER_GRANTED);
    g_assert_cmpint(claim(fixture, "beta", ARBITER_CLAIM), ==, ARBITER_DENIED);
    g_assert_cmpint(claim(fixture, "alpha", ARBITER_CLAIM), ==, ARBITER_GRANTED);
}

/* It is not decided: who looks is told, who claims it decides it, and the other one is too late. */
static void test_open(Fixture *fixture, gconstpointer data)
{
    (void)data;
    record(fixture, "alpha", S1);
    g_assert_cmpint(claim(fixture, "beta", ARBITER_CLAIM), ==, ARBITER_DENIED);
    g_assert_cmpint(claim(fixture, "alpha", ARBITER_LOOK), ==, ARBITER_OPEN);
    g_assert_cmpint(claim(fixture, "alpha", ARBITER_CLAIM), ==, ARBITER_GRANTED);
    g_assert_cmpint(ask(fixture, "beta", S1), ==, ARBITER_DENIED);
    g_assert_cmpint(claim(fixture, "alpha", ARBITER_LOOK), ==, ARBITER_GRANTED);
}

static void test_ended(Fixture *fixture, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(give_back(fixture, "alpha"), ==, ARBITER_GRANTED);
    record(fixture, "alpha", S1);
    g_assert_cmpint(give_back(fixture, "beta"), ==, ARBITER_DENIED);
    g_assert_cmpint(give_back(fixture, "alpha"), ==, ARBITER_GRANTED);
    g_autofree char *text = NULL;
    g_assert_true(g_file_get_contents(fixture->record, &text, NULL, NULL));
    g_assert_true(g_str_has_prefix(text, "colo owner 2\nowner -\n"));
    /* Nobody can take over any more what has ended. */
    g_assert_cmpint(ask(fixture, "beta", S1), ==, ARBITER_DENIED);
    g_assert_cmpint(claim(fixture, "beta", ARBITER_LOOK), ==, ARBITER_GRANTED);
    /* Who was overtaken has nothing to give back. */
    record(fixture, "beta", S2);
    g_assert_cmpint(ask(fixture, "alpha", S2), ==, ARBITER_GRANTED);
    g_assert_cmpint(give_back(fixture, "beta"), ==, ARBITER_DENIED);
    g_assert_cmpint(claim(fixture, "beta", ARBITER_LOOK), ==, ARBITER_DENIED);
}

/* ---- Whose disks: the table is in test-arbiter-record.c ---- */

static ArbiterStake stake_of(guint64 current, guint64 before, GenerationData data)
{
    ArbiterStake stake = {.has_disks = TRUE};
    stake.generation = (Generation){.current = current, .bitmap = before, .data = data};
    return stake;
}

/* Nobody starts it by chance: one image has to be chosen. */
static void test_blank_disks(Fixture *fixture, gconstpointer data)
{
    ArbiterStake stake = stake_of(0, 0, GENERATION_WRITER);
    (void)data;
    g_assert_cmpint(claim_with(fixture, "alpha", ARBITER_CLAIM, &stake), ==, ARBITER_DENIED);
    g_assert_cmpint(claim_with(fixture, "beta", ARBITER_CLAIM, &stake), ==, ARBITER_DENIED);
    g_assert_false(g_file_test(fixture->record, G_FILE_TEST_EXISTS));
    stake.chosen = TRUE;
    g_assert_cmpint(claim_with(fixture, "beta", ARBITER_CLAIM, &stake), ==, ARBITER_GRANTED);
    g_assert_cmpint(claim_with(fixture, "alpha", ARBITER_CLAIM, &stake), ==, ARBITER_DENIED);
}

/* Of a VM that rests only those have it whose disks are the last; one of them at a time. */
static void test_rest(Fixture *fixture, gconstpointer data)
{
    ArbiterStake writer = stake_of(7, 6, GENERATION_WRITER);
    ArbiterStake in_step = stake_of(7, 0, GENERATION_IN_STEP);
    ArbiterStake old = stake_of(6, 0, GENERATION_WRITER);
    ArbiterStake went_on = stake_of(8, 7, GENERATION_WRITER);
    (void)data;
    record(fixture, "alpha", S1);
    give_back_with(fixture, "alpha", &(ArbiterRest){7, 99, "beta"});
    g_autofree char *text = NULL;
    g_assert_true(g_file_get_contents(fixture->record, &text, NULL, NULL));
    g_assert_nonnull(
        strstr(text, "\nwriter alpha\ngeneration 0000000000000007\nepoch 99\nin-step beta\n"));
    g_assert_cmpint(claim_with(fixture, "beta", ARBITER_CLAIM, &old), ==, ARBITER_DENIED);
    g_assert_cmpint(claim_with(fixture, "alpha", ARBITER_CLAIM, &old), ==, ARBITER_DENIED);
    g_assert_cmpint(claim_with(fixture, "beta", ARBITER_LOOK, &in_step), ==, ARBITER_GRANTED);
    g_assert_cmpint(claim_with(fixture, "alpha", ARBITER_CLAIM, &writer), ==, ARBITER_DENIED);
    /* It has written, and died before that was on record. */
    g_assert_cmpint(claim_with(fixture, "beta", ARBITER_LOOK, &went_on), ==, ARBITER_GRANTED);
    /* It ends alone: nobody else has that. */
    give_back_with(fixture, "beta", &(ArbiterRest){8, 0, NULL});
    g_assert_cmpint(claim_with(fixture, "alpha", ARBITER_CLAIM, &writer), ==, ARBITER_DENIED);
    g_assert_cmpint(claim_with(fixture, "beta", ARBITER_LOOK, &went_on), ==, ARBITER_GRANTED);
}

/* Who was granted the VM and could not start it leaves it as it was. */
static void test_give_back(Fixture *fixture, gconstpointer data)
{
    ArbiterStake writer = stake_of(7, 6, GENERATION_WRITER);
    ArbiterStake in_step = stake_of(7, 0, GENERATION_IN_STEP);
    (void)data;
    record(fixture, "alpha", S1);
    give_back_with(fixture, "alpha", &(ArbiterRest){7, 99, "beta"});
    for (int i = 0; i < 2; i++) {
        g_assert_cmpint(claim_with(fixture, "beta", ARBITER_LOOK, &in_step), ==, ARBITER_GRANTED);
        g_assert_cmpint(give_back_with(fixture, "beta", NULL), ==, ARBITER_GRANTED);
        g_assert_cmpint(claim_with(fixture, "alpha", ARBITER_LOOK, &writer), ==, ARBITER_GRANTED);
        g_assert_cmpint(give_back_with(fixture, "beta", NULL), ==, ARBITER_DENIED);
        g_assert_cmpint(give_back_with(fixture, "alpha", NULL), ==, ARBITER_GRANTED);
    }
}

/*
 * Beta won, ran the VM, and storage was away when that was to be recorded. It starts again, and can't
 * run the VM: that rests with its disks, which are newer than those of alpha, who is on record.
 */
static void test_unrecorded(Fixture *fixture, gconstpointer data)
{
    ArbiterStake older = stake_of(7, 6, GENERATION_WRITER),
                 newer = stake_of(8, 7, GENERATION_WRITER);
    Answered answered = {0};
    (void)data;
    arbiter_record(fixture->arbiter, UUID, S1, "alpha", 7, on_answer, &answered);
    wait_for(&answered);
    g_assert_cmpint(ask(fixture, "beta", S1), ==, ARBITER_GRANTED);
    for (int i = 0; i < 2; i++) {
        g_assert_cmpint(claim_with(fixture, "beta", ARBITER_CLAIM, &newer), ==, ARBITER_GRANTED);
        g_assert_cmpint(give_back_with(fixture, "beta", NULL), ==, ARBITER_GRANTED);
        g_assert_cmpint(claim_with(fixture, "alpha", ARBITER_CLAIM, &older), ==, ARBITER_DENIED);
    }
}

/*
 * Beta won, and never wrote as the owner: its disks are a replica. What it won is alpha's again, which
 * may still be there and look at the decision.
 */
static void test_returned(Fixture *fixture, gconstpointer data)
{
    static const struct {
        guint64 current;
        GenerationData data;
        ArbiterAnswer alpha;
    } cases[] = {
        {7, GENERATION_BEHIND, ARBITER_GRANTED},
        {9, GENERATION_BROKEN, ARBITER_GRANTED},
 /* These may have been anything: they show not what beta's VM has done. */
        {0, GENERATION_WRITER, ARBITER_DENIED },
        {6, GENERATION_BEHIND, ARBITER_DENIED },
    };
    static const char *const sessions[] = {S1, S2, S1 "x", S2 "x"};
    (void)data;
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        Answered answered = {0};
        ArbiterStake stake = stake_of(cases[i].current, 0, cases[i].data);
        arbiter_record(fixture->arbiter, UUID, sessions[i], "alpha", 7, on_answer, &answered);
        wait_for(&answered);
        g_assert_cmpint(ask(fixture, "beta", sessions[i]), ==, ARBITER_GRANTED);
        g_assert_cmpint(claim_with(fixture, "beta", ARBITER_LOOK, &stake), ==, ARBITER_DENIED);
        g_assert_cmpint(ask(fixture, "alpha", sessions[i]), ==, cases[i].alpha);
        g_assert_cmpint(claim_with(fixture, "beta", ARBITER_LOOK, &stake), ==, ARBITER_DENIED);
    }
}

/* What beta has won and not run is alpha's again: it may hold the VM, and look whether it is. */
static void test_unrun(Fixture *fixture, gconstpointer data)
{
    ArbiterStake behind = stake_of(7, 0, GENERATION_BEHIND);
    (void)data;
    record(fixture, "alpha", S1);
    g_assert_cmpint(ask(fixture, "beta", S1), ==, ARBITER_GRANTED);
    g_assert_cmpint(give_back_with(fixture, "beta", NULL), ==, ARBITER_GRANTED);
    g_assert_cmpint(ask(fixture, "alpha", S1), ==, ARBITER_GRANTED);
    g_assert_cmpint(ask(fixture, "beta", S1), ==, ARBITER_DENIED);
    g_assert_cmpint(claim_with(fixture, "beta", ARBITER_LOOK, &behind), ==, ARBITER_DENIED);
}

/* An owner whose disks are not those that it wrote to: they, and not its name, are what counts. */
static void test_owner_of_other_disks(Fixture *fixture, gconstpointer data)
{
    ArbiterStake blank = stake_of(0, 0, GENERATION_WRITER);
    ArbiterStake behind = stake_of(7, 0, GENERATION_BEHIND);
    ArbiterStake writer = stake_of(7, 6, GENERATION_WRITER);
    Answered answered = {0};
    (void)data;
    arbiter_record(fixture->arbiter, UUID, S1, "alpha", 7, on_answer, &answered);
    wait_for(&answered);
    /* Beta wins, and dies before it has taken over: what alpha has is the newest still. */
    g_assert_cmpint(ask(fixture, "beta", S1), ==, ARBITER_GRANTED);
    g_assert_cmpint(claim_with(fixture, "beta", ARBITER_LOOK, &behind), ==, ARBITER_DENIED);
    g_assert_cmpint(claim_with(fixture, "alpha", ARBITER_LOOK, &writer), ==, ARBITER_GRANTED);
    g_assert_cmpint(claim_with(fixture, "alpha", ARBITER_LOOK, &blank), ==, ARBITER_DENIED);
    g_assert_cmpint(claim_with(fixture, "beta", ARBITER_LOOK, &behind), ==, ARBITER_DENIED);
    g_assert_cmpint(claim_with(fixture, "alpha", ARBITER_LOOK, &writer), ==, ARBITER_GRANTED);
}

/* One that waits gets what was given back, and nothing else; never for want of a record. */
static void test_inherit(Fixture *fixture, gconstpointer data)
{
    ArbiterStake behind = stake_of(7, 0, GENERATION_BEHIND);
    ArbiterStake writer = stake_of(7, 6, GENERATION_WRITER);
    ArbiterStake in_step = stake_of(7, 0, GENERATION_IN_STEP), no_disks = {0};
    Answered answered = {0};
    (void)data;
    g_assert_cmpint(claim_with(fixture, "alpha", ARBITER_INHERIT, &no_disks), ==, ARBITER_DENIED);
    g_assert_false(g_file_test(fixture->record, G_FILE_TEST_EXISTS));
    arbiter_record(fixture->arbiter, UUID, S1, "alpha", 7, on_answer, &answered);
    wait_for(&answered);
    /* Beta may be about to take over. */
    g_assert_cmpint(claim_with(fixture, "alpha", ARBITER_INHERIT, &writer), ==, ARBITER_OPEN);
    g_assert_cmpint(ask(fixture, "beta", S1), ==, ARBITER_GRANTED);
    g_assert_cmpint(claim_with(fixture, "alpha", ARBITER_INHERIT, &writer), ==, ARBITER_DENIED);
    /* It may have given up before it knew. */
    g_assert_cmpint(claim_with(fixture, "beta", ARBITER_INHERIT, &behind), ==, ARBITER_DENIED);
    g_assert_cmpint(claim_with(fixture, "beta", ARBITER_INHERIT, &no_disks), ==, ARBITER_DENIED);
    g_assert_cmpint(claim_with(fixture, "alpha", ARBITER_INHERIT, &behind), ==, ARBITER_DENIED);
    g_assert_cmpint(claim_with(fixture, "alpha", ARBITER_INHERIT, &writer), ==, ARBITER_GRANTED);
    give_back_with(fixture, "alpha", &(ArbiterRest){7, 99, "beta"});
    g_assert_cmpint(claim_with(fixture, "beta", ARBITER_INHERIT, &behind), ==, ARBITER_DENIED);
    g_assert_cmpint(claim_with(fixture, "beta", ARBITER_INHERIT, &in_step), ==, ARBITER_GRANTED);
    g_assert_cmpint(claim_with(fixture, "alpha", ARBITER_INHERIT, &writer), ==, ARBITER_DENIED);
}

/* Half a replica: the good disks are named, and nothing is advised that would do harm. */
static void test_broken_disks(Fixture *fixture, gconstpointer data)
{
    ArbiterStake broken = stake_of(7, 0, GENERATION_BROKEN);
    Answered answered = {0};
    (void)data;
    record(fixture, "alpha", S1);
    g_assert_cmpint(ask(fixture, "beta", S1), ==, ARBITER_GRANTED);
    arbiter_claim(fixture->arbiter, UUID, "alpha", ARBITER_LOOK, &broken, on_answer, &answered);
    while (!answered.answered)
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpint(answered.answer, ==, ARBITER_DENIED);
    g_assert_nonnull(strstr(answered.text, "incomplete replica"));
    g_assert_nonnull(strstr(answered.text, "node beta"));
    g_assert_null(strstr(answered.text, "overrule"));
    g_free(answered.text);
    ArbiterStake good = stake_of(8, 7, GENERATION_WRITER);
    g_assert_cmpint(claim_with(fixture, "beta", ARBITER_LOOK, &good), ==, ARBITER_GRANTED);
}

/*
 * Beta has won, and has died as it gave that to alpha: the rename is still on its way, as it can be on
 * NFS. Nothing comes of it once beta has been told that the VM is its own.
 */
static void test_rename_under_way(Fixture *fixture, gconstpointer data)
{
    static const char name[] = "." UUID "." S1 ".beta.0123456789abcdef.0.draft";
    g_autofree char *draft = g_build_filename(fixture->dir, name, NULL);
    g_autofree char *decision = g_build_filename(fixture->dir, UUID "." S1, NULL);
    (void)data;
    record(fixture, "alpha", S1);
    g_assert_cmpint(ask(fixture, "beta", S1), ==, ARBITER_GRANTED);
    /* Something that can't be removed may be what is under way. */
    g_assert_cmpint(g_mkdir(draft, 0700), ==, 0);
    g_assert_cmpint(claim(fixture, "beta", ARBITER_LOOK), ==, ARBITER_UNKNOWN);
    g_assert_cmpint(g_rmdir(draft), ==, 0);
    g_assert_true(g_file_set_contents(
        draft, "colo decision 1\ngranted-to alpha\nepoch 7\nat 2026\n", -1, NULL));
    g_assert_cmpint(claim(fixture, "beta", ARBITER_LOOK), ==, ARBITER_GRANTED);
    g_assert_cmpint(g_rename(draft, decision), <, 0);
    g_assert_cmpint(claim(fixture, "beta", ARBITER_LOOK), ==, ARBITER_GRANTED);
}

static void test_overrule(Fixture *fixture, gconstpointer data)
{
    (void)data;
    record(fixture, "beta", NULL);
    g_assert_cmpint(claim(fixture, "alpha", ARBITER_LOOK), ==, ARBITER_DENIED);
    g_assert_cmpint(claim(fixture, "alpha", ARBITER_OVERRULE), ==, ARBITER_GRANTED);
    g_assert_cmpint(claim(fixture, "beta", ARBITER_LOOK), ==, ARBITER_DENIED);
    g_assert_cmpint(claim(fixture, "alpha", ARBITER_LOOK), ==, ARBITER_GRANTED);
    g_assert_true(g_file_set_contents(fixture->record, "rubbish\n", -1, NULL));
    g_assert_cmpint(claim(fixture, "alpha", ARBITER_OVERRULE), ==, ARBITER_GRANTED);
}

/* What is asked for is done in that order, and all of it. */
static void test_in_turn(Fixture *fixture, gconstpointer data)
{
    Answered answered[20] = {0};
    (void)data;
    for (gsize i = 0; i < G_N_ELEMENTS(answered); i++) {
        g_autofree char *session = g_strdup_printf("%032zu", i);
        arbiter_record(fixture->arbiter, UUID, session, "alpha", 0, on_answer, &answered[i]);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(answered); i++) {
        g_assert_cmpint(wait_for(&answered[i]), ==, ARBITER_GRANTED);
        for (gsize later = i + 2; later < G_N_ELEMENTS(answered); later++)
            g_assert_false(answered[later].answered);
    }
    g_autofree char *text = NULL;
    g_assert_true(g_file_get_contents(fixture->record, &text, NULL, NULL));
    g_assert_nonnull(strstr(text, "\nsession 00000000000000000000000000000019\n"));
}

static guint threads(void)
{
    guint count = 0;
    g_autoptr(GDir) dir = g_dir_open("/proc/self/task", 0, NULL);
    while (g_dir_read_name(dir))
        count++;
    return count;
}

static void test_freed(Fixture *fixture, gconstpointer data)
{
    Answered answered = {0};
    guint before = threads();
    (void)data;
    for (int i = 0; i < 20; i++) {
        g_autoptr(Arbiter) arbiter = arbiter_new(fixture->dir, NULL, NULL);
        for (int n = 0; n < 3; n++)
            arbiter_record(arbiter, UUID, S1, "alpha", 0, on_answer, &answered);
    }
    while (threads() > before)
        g_thread_yield();
    g_assert_false(answered.answered);
}

static void test_none(void)
{
    g_autoptr(Arbiter) arbiter = arbiter_new(NULL, NULL, NULL);
    Answered answered[3] = {0};
    arbiter_claim(arbiter, UUID, "alpha", ARBITER_LOOK, &none, on_answer, &answered[0]);
    arbiter_record(arbiter, UUID, S1, "alpha", 0, on_answer, &answered[1]);
    arbiter_give_back(arbiter, UUID, "alpha", &(ArbiterRest){0}, on_answer, &answered[2]);
    g_assert_false(answered[0].answered);
    for (int i = 0; i < 3; i++)
        g_assert_cmpint(wait_for(&answered[i]), ==, ARBITER_MANUAL);
}

/* ---- Storage that isn't as it should be: nobody starts a VM because of it ---- */

static void test_not_a_record(Fixture *fixture, gconstpointer data)
{
    static const char *const texts[] = {
        "",
        "\n",
        "colo owner 1\n",
        "colo owner 1\nowner alpha\nsession -\nat 2026",
        "colo owner 1\nowner \nsession -\nat 2026\n",
        "colo owner 1\nowner alpha\nsession \nat 2026\n",
        "colo owner 1\nowner alpha\nsession ../x\nat 2026\n",
        "colo owner 2\nowner alpha\nsession -\nat 2026\n",
        "colo owner 2\nowner -\nsession -\nwriter a\ngeneration -\nepoch 0\nin-step -\nat 2\n",
        "colo owner 1\nowner alpha\nsession -\nat 2026\nmore\n",
    };
    (void)data;
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_assert_true(g_file_set_contents(fixture->record, texts[i], -1, NULL));
        g_assert_cmpint(claim(fixture, "alpha", ARBITER_CLAIM), ==, ARBITER_UNKNOWN);
        g_assert_cmpint(give_back(fixture, "alpha"), ==, ARBITER_UNKNOWN);
        g_autofree char *after = NULL;
        g_assert_true(g_file_get_contents(fixture->record, &after, NULL, NULL));
        g_assert_cmpstr(after, ==, texts[i]);
    }
}

static void test_not_a_decision(Fixture *fixture, gconstpointer data)
{
    g_autofree char *decision = g_build_filename(fixture->dir, UUID "." S1, NULL);
    (void)data;
    record(fixture, "alpha", S1);
    g_assert_true(g_file_set_contents(decision, "half a deci", -1, NULL));
    g_assert_cmpint(claim(fixture, "alpha", ARBITER_LOOK), ==, ARBITER_UNKNOWN);
    g_assert_cmpint(claim(fixture, "alpha", ARBITER_CLAIM), ==, ARBITER_UNKNOWN);
    g_assert_cmpint(give_back(fixture, "alpha"), ==, ARBITER_UNKNOWN);
}

static void test_folder_gone(Fixture *fixture, gconstpointer data)
{
    g_autofree char *away = g_strconcat(fixture->dir, ".away", NULL);
    Answered answered = {0};
    (void)data;
    g_assert_cmpint(g_rename(fixture->dir, away), ==, 0);
    g_assert_cmpint(claim(fixture, "alpha", ARBITER_LOOK), ==, ARBITER_UNKNOWN);
    arbiter_record(fixture->arbiter, UUID, S1, "alpha", 0, on_answer, &answered);
    g_assert_cmpint(wait_for(&answered), ==, ARBITER_UNKNOWN);
    g_assert_cmpint(g_rename(away, fixture->dir), ==, 0);
    g_assert_cmpint(claim(fixture, "alpha", ARBITER_LOOK), ==, ARBITER_GRANTED);
}

#define ADD(name, func) g_test_add("/arbiter-owner/" name, Fixture, NULL, set_up, func, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("first-has-it", test_first_has_it);
    ADD("overtaken", test_overtaken);
    ADD("open", test_open);
    ADD("ended", test_ended);
    ADD("blank-disks", test_blank_disks);
    ADD("rest", test_rest);
    ADD("give-back", test_give_back);
    ADD("unrecorded", test_unrecorded);
    ADD("returned", test_returned);
    ADD("unrun", test_unrun);
    ADD("rename-under-way", test_rename_under_way);
    ADD("owner-of-other-disks", test_owner_of_other_disks);
    ADD("inherit", test_inherit);
    ADD("broken-disks", test_broken_disks);
    ADD("overrule", test_overrule);
    ADD("in-turn", test_in_turn);
    ADD("freed", test_freed);
    ADD("not-a-record", test_not_a_record);
    ADD("not-a-decision", test_not_a_decision);
    ADD("folder-gone", test_folder_gone);
    g_test_add_func("/arbiter-owner/none", test_none);
    return g_test_run();
}
