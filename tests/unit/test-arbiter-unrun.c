/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a node of a VM without disks notes of what it has not run, and what is made of it. */
#include "colo/arbiter/arbiter.h"
#include "tests/support/folder.h"

#include <glib/gstdio.h>
#include <string.h>

#define UUID "7c2bd5a4-9a2b-4b62-a1ef-5c0a4d3c7a11"
#define S1   "00112233445566778899aabbccddeeff"
#define S2   "ffeeddccbbaa99887766554433221100"

typedef struct {
    char *dir, *state_dir, *note;
    Arbiter *arbiter;
} Fixture;

typedef struct {
    gboolean answered;
    ArbiterAnswer answer;
} Answered;

static void set_up(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *id = NULL, *mount = NULL;
    (void)data;
    fixture->dir = g_dir_make_tmp("test-arbiter-XXXXXX", NULL);
    fixture->state_dir = g_dir_make_tmp("test-state-XXXXXX", NULL);
    fixture->note = g_build_filename(fixture->state_dir, "unrun", NULL);
    g_assert_true(arbiter_init_folder(fixture->dir, &id, &mount, &error));
    fixture->arbiter = arbiter_new(fixture->dir, fixture->state_dir, &error);
    g_assert_no_error(error);
}

static void tear_down(Fixture *fixture, gconstpointer data)
{
    (void)data;
    arbiter_free(fixture->arbiter);
    folder_remove(fixture->dir);
    g_remove(fixture->note);
    /* Nothing else was left there. */
    g_assert_cmpint(g_rmdir(fixture->state_dir), ==, 0);
    g_free(fixture->dir);
    g_free(fixture->state_dir);
    g_free(fixture->note);
}

static void on_answer(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    (void)error;
    *(Answered *)user_data = (Answered){TRUE, answer};
}

static ArbiterAnswer wait_for(const Answered *answered)
{
    while (!answered->answered)
        g_main_context_iteration(NULL, TRUE);
    return answered->answer;
}

static ArbiterAnswer claim(const Fixture *fixture, const char *who, ArbiterClaim how)
{
    static const ArbiterStake none;
    Answered answered = {0};
    arbiter_claim(fixture->arbiter, UUID, who, how, &none, on_answer, &answered);
    return wait_for(&answered);
}

static void record(const Fixture *fixture, const char *who, const char *session)
{
    Answered answered = {0};
    arbiter_record(fixture->arbiter, UUID, session, who, 0, on_answer, &answered);
    g_assert_cmpint(wait_for(&answered), ==, ARBITER_GRANTED);
}

static ArbiterAnswer give_back(const Fixture *fixture, const char *who)
{
    Answered answered = {0};
    arbiter_give_back(fixture->arbiter, UUID, who, NULL, on_answer, &answered);
    return wait_for(&answered);
}

static ArbiterAnswer ask(const Fixture *fixture, const char *who, const char *session)
{
    Answered answered = {0};
    arbiter_ask(fixture->arbiter, UUID, session, who, 7, on_answer, &answered);
    return wait_for(&answered);
}

static void note(const Fixture *fixture, const char *session)
{
    Answered answered = {0};
    arbiter_note_unrun(fixture->arbiter, session, on_answer, &answered);
    g_assert_cmpint(wait_for(&answered), ==, ARBITER_GRANTED);
}

/*
 * Without disks: beta won S1. It has noted that it has not run that, or nothing, or has removed it, or
 * it is of another session (its state folder is an old one). Only the first shows anything.
 */
static void test_noted(Fixture *fixture, gconstpointer data)
{
    static const struct {
        const char *noted;
        gboolean removed, returned;
    } cases[] = {
        {"won",   FALSE, TRUE },
        {NULL,    FALSE, FALSE},
        {"won",   TRUE,  FALSE},
        {"other", FALSE, FALSE},
    };
    static const ArbiterClaim claims[] = {ARBITER_LOOK, ARBITER_CLAIM, ARBITER_INHERIT};
    (void)data;
    for (guint i = 0; i < G_N_ELEMENTS(cases) * G_N_ELEMENTS(claims); i++) {
        gboolean returned = cases[i / G_N_ELEMENTS(claims)].returned;
        const char *noted = cases[i / G_N_ELEMENTS(claims)].noted;
        ArbiterClaim how = claims[i % G_N_ELEMENTS(claims)];
        g_autofree char *session = g_strdup_printf("%031u%x", 0, i);
        record(fixture, "alpha", session);
        g_remove(fixture->note);
        if (noted)
            note(fixture, !strcmp(noted, "won") ? session : S2);
        if (cases[i / G_N_ELEMENTS(claims)].removed)
            note(fixture, NULL);
        g_assert_cmpint(ask(fixture, "beta", session), ==, ARBITER_GRANTED);
        if (returned && how == ARBITER_LOOK)
            g_assert_cmpint(claim(fixture, "beta", ARBITER_RETURN), ==, ARBITER_DENIED);
        g_assert_cmpint(claim(fixture, "beta", how), ==,
                        returned ? ARBITER_DENIED : ARBITER_GRANTED);
        g_assert_cmpint(claim(fixture, "alpha", ARBITER_LOOK), ==,
                        returned ? ARBITER_GRANTED : ARBITER_DENIED);
        /* One that has run, and can't be started again, is not alpha's, whose VM is older. */
        g_assert_cmpint(give_back(fixture, "beta"), ==,
                        returned ? ARBITER_DENIED : ARBITER_GRANTED);
        g_assert_cmpint(ask(fixture, "alpha", session), ==,
                        returned ? ARBITER_GRANTED : ARBITER_DENIED);
    }
}

/* A note that can't be read tells nothing either way; nor is one made that can't be. */
static void test_note_fails(Fixture *fixture, gconstpointer data)
{
    Answered answered[2] = {0};
    (void)data;
    record(fixture, "alpha", S1);
    g_assert_cmpint(ask(fixture, "beta", S1), ==, ARBITER_GRANTED);
    g_assert_cmpint(g_mkdir(fixture->note, 0700), ==, 0);
    g_assert_cmpint(claim(fixture, "beta", ARBITER_LOOK), ==, ARBITER_UNKNOWN);
    arbiter_note_unrun(fixture->arbiter, S1, on_answer, &answered[0]);
    g_assert_cmpint(wait_for(&answered[0]), ==, ARBITER_UNKNOWN);
    arbiter_note_unrun(fixture->arbiter, NULL, on_answer, &answered[1]);
    g_assert_cmpint(wait_for(&answered[1]), ==, ARBITER_UNKNOWN);
    g_rmdir(fixture->note);
    g_assert_cmpint(claim(fixture, "beta", ARBITER_LOOK), ==, ARBITER_GRANTED);
}

/* But whoever owns the VM in any case needs no note: its own session, no session, one at rest. */
static void test_note_is_not_needed(Fixture *fixture, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(g_mkdir(fixture->note, 0700), ==, 0);
    record(fixture, "beta", NULL);
    g_assert_cmpint(claim(fixture, "beta", ARBITER_LOOK), ==, ARBITER_GRANTED);
    g_assert_cmpint(claim(fixture, "alpha", ARBITER_LOOK), ==, ARBITER_DENIED);
    record(fixture, "beta", S1);
    g_assert_cmpint(claim(fixture, "beta", ARBITER_LOOK), ==, ARBITER_OPEN);
    g_assert_cmpint(claim(fixture, "beta", ARBITER_CLAIM), ==, ARBITER_GRANTED);
    g_assert_cmpint(give_back(fixture, "beta"), ==, ARBITER_GRANTED);
    g_assert_cmpint(claim(fixture, "beta", ARBITER_CLAIM), ==, ARBITER_GRANTED);
    g_rmdir(fixture->note);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/arbiter-unrun/noted", Fixture, NULL, set_up, test_noted, tear_down);
    g_test_add("/arbiter-unrun/note-fails", Fixture, NULL, set_up, test_note_fails, tear_down);
    g_test_add("/arbiter-unrun/note-is-not-needed", Fixture, NULL, set_up, test_note_is_not_needed,
               tear_down);
    return g_test_run();
}
