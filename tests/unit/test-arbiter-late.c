/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Storage that hangs, before it has done what it was asked to or after. */
#include "tests/support/folder.h"
#include "tests/support/hold.h"
#include "tests/support/wait.h"

#include <glib/gstdio.h>
#include <string.h>

#define UUID     "7c2bd5a4-9a2b-4b62-a1ef-5c0a4d3c7a11"
#define SESSION  "00112233445566778899aabbccddeeff"
#define LIMIT_MS 50
#define TRIES    20 /* more than any number at which they could end */

typedef struct {
    char *dir, *decision;
    Arbiter *arbiter;
} Fixture;

static Hold storage;

typedef struct {
    guint answers, late, gone;
    ArbiterAnswer answer; /* the last one */
} Answered;

static void set_up(Fixture *fixture, gconstpointer data)
{
    g_autofree char *id = NULL, *mount = NULL;
    (void)data;
    fixture->dir = g_dir_make_tmp("test-arbiter-XXXXXX", NULL);
    fixture->decision = g_strdup_printf("%s/%s.%s", fixture->dir, UUID, SESSION);
    g_assert_true(arbiter_init_folder(fixture->dir, &id, &mount, NULL));
    fixture->arbiter = arbiter_new(fixture->dir, NULL, NULL);
    arbiter_set_limit_ms(fixture->arbiter, LIMIT_MS);
    hold_attach(&storage, fixture->arbiter);
}

static void tear_down(Fixture *fixture, gconstpointer data)
{
    (void)data;
    arbiter_free(fixture->arbiter);
    hold_detach(&storage);
    hold_end(&storage);
    folder_remove(fixture->dir);
    g_free(fixture->dir);
    g_free(fixture->decision);
}

/* Of a claim: one that is denied has a reason. */
static void on_claim_answer(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Answered *answered = user_data;
    answered->answers++;
    answered->late += g_error_matches(error, ARBITER_ERROR, ARBITER_ERROR_LATE);
    answered->gone += g_error_matches(error, ARBITER_ERROR, ARBITER_ERROR_GONE);
    answered->answer = answer;
}

static void on_answer(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    g_assert_true((error != NULL) == (answer == ARBITER_UNKNOWN));
    on_claim_answer(answer, error, user_data);
}

static void ask(Fixture *fixture, const char *session, Answered *answered)
{
    *answered = (Answered){0};
    arbiter_ask(fixture->arbiter, UUID, session, "alpha", 1, on_answer, answered);
}

static gboolean is_decided(const Fixture *fixture)
{
    return g_file_test(fixture->decision, G_FILE_TEST_EXISTS);
}

static void test_late(Fixture *fixture, gconstpointer data)
{
    HoldWhere where = GPOINTER_TO_INT(data);
    Answered answered;
    hold(&storage, where);
    ask(fixture, SESSION, &answered);
    g_assert_true(arbiter_is_asked(fixture->arbiter));
    WAIT_FOR(answered.answers == 1);
    g_assert_cmpuint(answered.late, ==, 1);
    g_assert_false(arbiter_is_asked(fixture->arbiter));
    WAIT_FOR(hold_waiting(&storage) == 1);
    g_assert_true(is_decided(fixture) == (where == HOLD_AFTER));
    hold_end(&storage);
    WAIT_FOR(answered.answers == 2);
    g_assert_cmpint(answered.answer, ==, ARBITER_GRANTED);
    g_assert_true(is_decided(fixture));
}

/* Storage may be back by another way, while what was asked by the old one still hangs. */
static void test_others_continue(Fixture *fixture, gconstpointer data)
{
    Answered first, second;
    (void)data;
    hold(&storage, HOLD_BEFORE);
    ask(fixture, SESSION, &first);
    WAIT_FOR(first.late == 1);
    hold(&storage, HOLD_NOT);
    ask(fixture, "another", &second);
    /* On a busy machine it may be late, too. */
    WAIT_FOR(second.answers > second.late);
    g_assert_cmpint(second.answer, ==, ARBITER_GRANTED);
    g_assert_cmpuint(first.answers, ==, 1);
    hold_end(&storage);
    WAIT_FOR(first.answers == 2);
}

/* The same of what is given back, and of a look whether it was: none waits for one before it. */
static void test_given_back(Fixture *fixture, gconstpointer data)
{
    Answered answered, returns[2] = {0}, looks[2] = {0};
    (void)data;
    ask(fixture, SESSION, &answered);
    WAIT_FOR(answered.answer == ARBITER_GRANTED && answered.answers > answered.late);
    for (guint i = 0; i < 2; i++) {
        hold(&storage, i == 0 ? HOLD_BEFORE : HOLD_NOT);
        arbiter_look_back(fixture->arbiter, UUID, SESSION, "beta", on_answer, &looks[i]);
        WAIT_FOR(i == 0 ? looks[i].late == 1 : looks[i].answers > looks[i].late);
        hold(&storage, i == 0 ? HOLD_BEFORE : HOLD_NOT);
        arbiter_return(fixture->arbiter, UUID, SESSION, "alpha", "beta", on_answer, &returns[i]);
        WAIT_FOR(i == 0 ? returns[i].late == 1 : returns[i].answers > returns[i].late);
    }
    g_assert_cmpuint(hold_waiting(&storage), ==, 2);
    g_assert_cmpint(looks[1].answer, ==, ARBITER_DENIED);
    g_assert_cmpint(returns[1].answer, ==, ARBITER_GRANTED);
    /* Of another session, from now on, they are not told. */
    arbiter_forget(fixture->arbiter);
    hold_end(&storage);
    WAIT_FOR(hold_waiting(&storage) == 0);
    ask(fixture, "another", &answered);
    WAIT_FOR(answered.answers > answered.late);
    g_assert_true(looks[0].answers == 1 && returns[0].answers == 1);
}

/*
 * Whoever asks again and again gets an answer each time, but a thread only after as many limits as
 * others hang. There is always a next one: the storage may be back by another way.
 */
static void test_bounded(Fixture *fixture, gconstpointer data)
{
    static Answered answered[400000];
    guint asked = 0, answers = 0, late = 0;
    gint64 started_us = g_get_monotonic_time();
    (void)data;
    arbiter_set_limit_ms(fixture->arbiter, 1);
    hold(&storage, HOLD_BEFORE);
    while (hold_waiting(&storage) < TRIES) {
        g_assert_cmpuint(asked, <, G_N_ELEMENTS(answered));
        ask(fixture, SESSION, &answered[asked]);
        WAIT_FOR(answered[asked].answers == 1);
        g_assert_cmpint(answered[asked++].answer, ==, ARBITER_UNKNOWN);
    }
    /* One limit more each time, and at last twice as long. */
    gint64 least_ms = 0;
    for (guint n = 1; n < TRIES; n++)
        least_ms += n < ARBITER_LATE_MANY ? n : ARBITER_LATE_MANY << (n - ARBITER_LATE_MANY);
    g_assert_cmpint(g_get_monotonic_time() - started_us, >=, least_ms * 1000);
    hold_end(&storage);
    WAIT_FOR(hold_waiting(&storage) == 0);
    for (guint i = 0; i < asked; i++) {
        if (answered[i].late)
            WAIT_FOR(answered[i].answers == 2 && answered[i].answer == ARBITER_GRANTED);
        late += answered[i].late;
        answers += answered[i].answers;
    }
    g_assert_cmpuint(late, ==, TRIES);
    g_assert_cmpuint(answers, ==, asked + TRIES);
    /* And it is as if nothing had been. */
    ask(fixture, SESSION, &answered[0]);
    WAIT_FOR(answered[0].answer == ARBITER_GRANTED && answered[0].answers > 0);
}

/* Asks again as long as it is refused at once. */
static void ask_until_tried(Fixture *fixture, const char *which, Answered *answered)
{
    do {
        ask(fixture, which, answered);
        WAIT_FOR(answered->answers == 1);
    } while (answered->answer == ARBITER_UNKNOWN && answered->late == 0);
}

/* By the text of a path: what is mounted there, and not at what its name begins with. */
static void test_mount_at(Fixture *fixture, gconstpointer data)
{
    gint64 root = arbiter_mount_at("/"), proc = arbiter_mount_at("/proc");
    (void)fixture;
    (void)data;
    g_assert_cmpint(root, >=, 0);
    g_assert_cmpint(proc, >=, 0);
    g_assert_cmpint(proc, !=, root);
    g_assert_cmpint(arbiter_mount_at("/proc/self/../not-there"), ==, proc);
    g_assert_cmpint(arbiter_mount_at("/processes"), ==, root);
}

/* Storage that answers is there: what hangs on what was there before delays nobody. */
static void test_back(Fixture *fixture, gconstpointer data)
{
    Answered hangs[3], answered[2];
    (void)data;
    hold(&storage, HOLD_BEFORE);
    for (guint i = 0; i < G_N_ELEMENTS(hangs); i++)
        ask_until_tried(fixture, SESSION, &hangs[i]);
    hold(&storage, HOLD_NOT);
    ask_until_tried(fixture, "another", &answered[0]);
    WAIT_FOR(answered[0].answers > answered[0].late);
    ask(fixture, "a third", &answered[1]);
    WAIT_FOR(answered[1].answers > answered[1].late);
    g_assert_cmpint(answered[1].answer, ==, ARBITER_GRANTED);
    g_assert_cmpuint(hold_waiting(&storage), ==, G_N_ELEMENTS(hangs));
    hold_end(&storage);
    for (guint i = 0; i < G_N_ELEMENTS(hangs); i++)
        WAIT_FOR(hangs[i].answers == 2);
}

/* A secondary's, which hangs: it keeps nobody from writing, and changes nothing once the node joins. */
static void test_return(Fixture *fixture, gconstpointer data)
{
    ArbiterStake stake = {.has_disks = TRUE, .generation = {.data = GENERATION_BROKEN}};
    Answered recorded = {0}, asked = {0}, returned = {0};
    arbiter_record(fixture->arbiter, UUID, SESSION, "alpha", 7, on_answer, &recorded);
    WAIT_FOR(recorded.answers > recorded.late);
    arbiter_ask(fixture->arbiter, UUID, SESSION, "beta", 1, on_answer, &asked);
    WAIT_FOR(asked.answers > asked.late);
    hold(&storage, HOLD_BEFORE);
    arbiter_claim(fixture->arbiter, UUID, "beta", ARBITER_RETURN, &stake, on_claim_answer,
                  &returned);
    WAIT_FOR(returned.late == 1 && hold_waiting(&storage) == 1);
    hold(&storage, HOLD_NOT);
    arbiter_record(fixture->arbiter, UUID, SESSION, "alpha", 7, on_answer, &recorded);
    WAIT_FOR(recorded.answers > recorded.late + 1);
    if (data)
        arbiter_end_returns(fixture->arbiter);
    hold_end(&storage);
    WAIT_FOR(returned.answers == 2);
    g_assert_cmpint(returned.answer, ==, ARBITER_DENIED);
    Answered back = {0};
    arbiter_look_back(fixture->arbiter, UUID, SESSION, "alpha", on_answer, &back);
    WAIT_FOR(back.answers > back.late);
    g_assert_cmpint(back.answer, ==, data ? ARBITER_DENIED : ARBITER_GRANTED);
}

/* Of two records the older one can't land last. */
static void test_in_turn(Fixture *fixture, gconstpointer data)
{
    Answered first = {0}, second = {0};
    (void)data;
    hold(&storage, HOLD_BEFORE);
    arbiter_record(fixture->arbiter, UUID, "first", "alpha", 0, on_answer, &first);
    arbiter_record(fixture->arbiter, UUID, "second", "alpha", 0, on_answer, &second);
    /* Late is who has not been answered: the thread that asks has perhaps not run yet. */
    WAIT_FOR(first.late == 1 && second.late == 1 && hold_waiting(&storage) > 0);
    g_assert_cmpuint(hold_waiting(&storage), ==, 1);
    hold_end(&storage);
    WAIT_FOR(first.answers == 2 && second.answers == 2);
    g_assert_cmpint(second.answer, ==, ARBITER_GRANTED);
    g_autofree char *path = g_build_filename(fixture->dir, UUID ".owner", NULL);
    g_autofree char *text = NULL;
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_nonnull(strstr(text, "session second\n"));
}

static void test_forgotten(Fixture *fixture, gconstpointer data)
{
    Answered before, after;
    (void)data;
    hold(&storage, HOLD_BEFORE);
    ask(fixture, SESSION, &before);
    WAIT_FOR(before.late == 1);
    arbiter_forget(fixture->arbiter);
    ask(fixture, SESSION, &after);
    hold_end(&storage);
    WAIT_FOR(after.answers > after.late);
    WAIT_FOR(hold_waiting(&storage) == 0);
    g_assert_cmpuint(before.answers, ==, 1);
}

static void test_gone(Fixture *fixture, gconstpointer data)
{
    Answered answered;
    (void)data;
    hold(&storage, HOLD_AFTER);
    ask(fixture, SESSION, &answered);
    WAIT_FOR(answered.late == 1);
    g_autofree char *path = g_build_filename(fixture->dir, "colo-arbiter-id", NULL);
    WAIT_FOR(hold_waiting(&storage) == 1);
    g_unlink(path);
    hold_end(&storage);
    WAIT_FOR(answered.gone == 1);
    g_assert_cmpuint(answered.answers, ==, 2);
}

/* A look of which only an answer in time is of use: it has a limit of its own, and one answer. */
static void test_once(Fixture *fixture, gconstpointer data)
{
    Answered hangs = {0}, after = {0}, other = {0};
    (void)data;
    arbiter_set_limit_ms(fixture->arbiter, 0);
    hold(&storage, HOLD_BEFORE);
    arbiter_look_within(fixture->arbiter, LIMIT_MS, on_answer, &hangs);
    WAIT_FOR(hangs.late == 1 && hold_waiting(&storage) == 1);
    /* It delays its own kind only. */
    hold(&storage, HOLD_NOT);
    arbiter_look(fixture->arbiter, FALSE, on_answer, &other);
    WAIT_FOR(other.answers == 1);
    g_assert_cmpint(other.answer, ==, ARBITER_GRANTED);
    hold_end(&storage);
    WAIT_FOR(hold_waiting(&storage) == 0);
    do {
        after = (Answered){0};
        arbiter_look_within(fixture->arbiter, LIMIT_MS, on_answer, &after);
        WAIT_FOR(after.answers == 1);
    } while (after.answer == ARBITER_UNKNOWN);
    g_assert_cmpuint(hangs.answers, ==, 1);
}

static void test_freed(Fixture *fixture, gconstpointer data)
{
    Answered early, late;
    (void)data;
    hold(&storage, HOLD_BEFORE);
    ask(fixture, SESSION, &late);
    WAIT_FOR(late.late == 1);
    ask(fixture, "another", &early);
    g_clear_pointer(&fixture->arbiter, arbiter_free);
    hold_end(&storage);
    WAIT_FOR(is_decided(fixture) && hold_waiting(&storage) == 0);
    g_assert_cmpuint(late.answers, ==, 1);
    g_assert_cmpuint(early.answers, ==, 0);
}

#define ADD(name, func, data)                                                                      \
    g_test_add("/arbiter-late/" name, Fixture, data, set_up, func, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("not-stored", test_late, GINT_TO_POINTER(HOLD_BEFORE));
    ADD("stored", test_late, GINT_TO_POINTER(HOLD_AFTER));
    ADD("others-continue", test_others_continue, NULL);
    ADD("given-back", test_given_back, NULL);
    ADD("bounded", test_bounded, NULL);
    ADD("mount-at", test_mount_at, NULL);
    ADD("back", test_back, NULL);
    ADD("returned", test_return, NULL);
    ADD("return-ended", test_return, "ended");
    ADD("in-turn", test_in_turn, NULL);
    ADD("forgotten", test_forgotten, NULL);
    ADD("gone", test_gone, NULL);
    ADD("once", test_once, NULL);
    ADD("freed", test_freed, NULL);
    return g_test_run();
}
