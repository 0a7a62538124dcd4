/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One process asks a folder that is as it should be (else: test-arbiter-folder.c). Many, and dying
 * ones, ask in tests/process/test-arbiter-race.c. */
#include "colo/arbiter/arbiter.h"
#include "tests/support/folder.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UUID    "7c2bd5a4-9a2b-4b62-a1ef-5c0a4d3c7a11"
#define SESSION "00112233445566778899aabbccddeeff"

typedef struct {
    char *dir, *decision;
} Fixture;

typedef struct {
    unsigned answers;
    ArbiterAnswer answer;
    GError *error;
} Answered;

static void set_up(Fixture *fixture, gconstpointer data)
{
    (void)data;
    fixture->dir = g_dir_make_tmp("test-arbiter-XXXXXX", NULL);
    g_assert_nonnull(fixture->dir);
    fixture->decision = g_strdup_printf("%s/%s.%s", fixture->dir, UUID, SESSION);
    g_autofree char *id = NULL, *mount = NULL;
    g_assert_true(arbiter_init_folder(fixture->dir, &id, &mount, NULL));
}

/* How many entries the folder has, besides its own name. */
static guint entries(const Fixture *fixture)
{
    guint count = 0;
    g_autoptr(GDir) dir = g_dir_open(fixture->dir, 0, NULL);
    for (const char *name; (name = g_dir_read_name(dir));)
        if (strcmp(name, "colo-arbiter-id") != 0)
            count++;
    return count;
}

static void tear_down(Fixture *fixture, gconstpointer data)
{
    (void)data;
    folder_remove(fixture->dir);
    g_free(fixture->dir);
    g_free(fixture->decision);
}

static void on_answer(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Answered *answered = user_data;
    g_assert_true((error != NULL) == (answer == ARBITER_UNKNOWN));
    answered->answers++;
    answered->answer = answer;
    answered->error = error ? g_error_copy(error) : NULL;
}

static void ask_session(const char *dir, const char *session, const char *who, Answered *answered)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Arbiter) arbiter = arbiter_new(dir, NULL, &error);
    g_assert_no_error(error);
    *answered = (Answered){0};
    arbiter_ask(arbiter, UUID, session, who, 7, on_answer, answered);
    /* Never from within the call. */
    g_assert_cmpuint(answered->answers, ==, 0);
    while (!answered->answers)
        g_main_context_iteration(NULL, TRUE);
}

static ArbiterAnswer ask(const Fixture *fixture, const char *who)
{
    Answered answered;
    ask_session(fixture->dir, SESSION, who, &answered);
    g_assert_no_error(answered.error);
    return answered.answer;
}

static void expect_unknown(const Fixture *fixture, const char *text)
{
    Answered answered;
    ask_session(fixture->dir, SESSION, "alpha", &answered);
    g_assert_cmpint(answered.answer, ==, ARBITER_UNKNOWN);
    g_assert_error(answered.error, ARBITER_ERROR, ARBITER_ERROR_ASK);
    if (!strstr(answered.error->message, text))
        g_error("'%s' doesn't say '%s'", answered.error->message, text);
    g_error_free(answered.error);
}

/* ---- Questions ---- */

static void test_none(void)
{
    g_autoptr(Arbiter) arbiter = arbiter_new(NULL, NULL, NULL);
    Answered answered = {0};
    arbiter_ask(arbiter, UUID, SESSION, "alpha", 1, on_answer, &answered);
    g_assert_cmpuint(answered.answers, ==, 0);
    while (!answered.answers)
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpint(answered.answer, ==, ARBITER_MANUAL);
}

static void test_first_wins(Fixture *fixture, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(ask(fixture, "alpha"), ==, ARBITER_GRANTED);
    for (int i = 0; i < 3; i++) {
        g_assert_cmpint(ask(fixture, "beta"), ==, ARBITER_DENIED);
        g_assert_cmpint(ask(fixture, "alpha"), ==, ARBITER_GRANTED);
    }
    g_assert_cmpint(ask(fixture, "alph"), ==, ARBITER_DENIED);
    g_assert_cmpint(ask(fixture, "alphaa"), ==, ARBITER_DENIED);
    /* The decision, and nothing else. */
    g_assert_cmpuint(entries(fixture), ==, 1);
}

static void test_sessions_are_apart(Fixture *fixture, gconstpointer data)
{
    Answered answered;
    (void)data;
    g_assert_cmpint(ask(fixture, "alpha"), ==, ARBITER_GRANTED);
    ask_session(fixture->dir, "ffffffffffffffffffffffffffffffff", "beta", &answered);
    g_assert_cmpint(answered.answer, ==, ARBITER_GRANTED);
    g_assert_cmpuint(entries(fixture), ==, 2);
}

static void test_readable(Fixture *fixture, gconstpointer data)
{
    g_autofree char *text = NULL;
    (void)data;
    g_assert_cmpint(ask(fixture, "alpha"), ==, ARBITER_GRANTED);
    g_assert_true(g_file_get_contents(fixture->decision, &text, NULL, NULL));
    g_assert_true(g_str_has_prefix(text, "colo decision 1\ngranted-to alpha\nepoch 7\nat 2"));
}

/* Names and sessions can't lead out of the folder or forge a decision. */
static void test_odd_names(Fixture *fixture, gconstpointer data)
{
    static const char *const names[] = {"../../x", "a.b", "a\nepoch 1", "a b", "a%2fb", "\u00e4"};
    Answered answered;
    (void)data;
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *session = g_strdup_printf("%zu", i);
        ask_session(fixture->dir, session, names[i], &answered);
        g_assert_cmpint(answered.answer, ==, ARBITER_GRANTED);
        ask_session(fixture->dir, session, names[i], &answered);
        g_assert_cmpint(answered.answer, ==, ARBITER_GRANTED);
        ask_session(fixture->dir, session, "a", &answered);
        g_assert_cmpint(answered.answer, ==, ARBITER_DENIED);
        ask_session(fixture->dir, names[i], "alpha", &answered);
        g_assert_cmpint(answered.answer, ==, ARBITER_GRANTED);
    }
    g_assert_cmpuint(entries(fixture), ==, 2 * G_N_ELEMENTS(names));
}

/* Freed with a question in flight: no answer comes, and nothing is touched. */
static void test_freed(Fixture *fixture, gconstpointer data)
{
    Answered answered = {0};
    (void)data;
    for (int i = 0; i < 20; i++) {
        g_autofree char *session = g_strdup_printf("session%d", i);
        g_autofree char *path = g_strdup_printf("%s/%s.%s", fixture->dir, UUID, session);
        g_autoptr(Arbiter) arbiter = arbiter_new(fixture->dir, NULL, NULL);
        arbiter_ask(arbiter, UUID, session, "alpha", 1, on_answer, &answered);
        g_clear_pointer(&arbiter, arbiter_free);
        /* The thread goes on: its decision stands, and the next asker gets it. */
        while (!g_file_test(path, G_FILE_TEST_EXISTS))
            g_main_context_iteration(NULL, FALSE);
    }
    g_assert_cmpint(ask(fixture, "alpha"), ==, ARBITER_GRANTED);
    g_assert_cmpuint(answered.answers, ==, 0);
}

static Arbiter *freed_in_answer;

static void free_it(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    on_answer(answer, error, user_data);
    g_clear_pointer(&freed_in_answer, arbiter_free);
}

static void test_freed_in_answer(Fixture *fixture, gconstpointer data)
{
    Answered answered = {0};
    (void)data;
    freed_in_answer = arbiter_new(fixture->dir, NULL, NULL);
    for (int i = 0; i < 5; i++)
        arbiter_ask(freed_in_answer, UUID, SESSION, "alpha", 1, free_it, &answered);
    while (!answered.answers)
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpint(ask(fixture, "alpha"), ==, ARBITER_GRANTED);
    g_assert_cmpuint(answered.answers, ==, 1);
}

/* ---- Storage that isn't as it should be ---- */

static void put(const Fixture *fixture, const char *text)
{
    g_assert_true(g_file_set_contents(fixture->decision, text, -1, NULL));
}

static void test_not_a_decision(Fixture *fixture, gconstpointer data)
{
    static const char *const texts[] = {
        "",
        "\n",
        "alpha\n",
        "colo decision 1\n",
        "colo decision 1\ngranted-to alpha\n",
        "colo decision 1\ngranted-to alpha\nepoch 7\nat 2026",
        "colo decision 1\ngranted-to \nepoch 7\nat 2026\n",
        "colo decision 1\ngranted-to alpha\nepoch x\nat 2026\n",
        "colo decision 2\ngranted-to alpha\nepoch 7\nat 2026\n",
        "colo decision 1\ngranted-to alpha\nepoch 7\nat 2026\nmore\n",
    };
    (void)data;
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        put(fixture, texts[i]);
        g_autofree char *text = g_strdup_printf("%s is not a decision", fixture->decision);
        expect_unknown(fixture, text);
        /* Left for an administrator to look at. */
        g_autofree char *after = NULL;
        g_assert_true(g_file_get_contents(fixture->decision, &after, NULL, NULL));
        g_assert_cmpstr(after, ==, texts[i]);
    }
    g_autofree char *big = g_strnfill(1 << 20, 'x');
    put(fixture, big);
    expect_unknown(fixture, "is not a decision");
}

static void test_odd_files(Fixture *fixture, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(mkdir(fixture->decision, 0700), ==, 0);
    expect_unknown(fixture, fixture->decision);
    g_assert_cmpint(rmdir(fixture->decision), ==, 0);
    /* A pipe without a writer: opening it to read would hang. */
    g_assert_cmpint(mkfifo(fixture->decision, 0600), ==, 0);
    expect_unknown(fixture, fixture->decision);
    g_assert_cmpint(unlink(fixture->decision), ==, 0);
    g_assert_cmpint(symlink("/nowhere", fixture->decision), ==, 0);
    expect_unknown(fixture, fixture->decision);
}

static void test_folder_gone(Fixture *fixture, gconstpointer data)
{
    g_autoptr(Arbiter) arbiter = arbiter_new(fixture->dir, NULL, NULL);
    Answered answered = {0};
    (void)data;
    g_autofree char *away = g_strconcat(fixture->dir, ".away", NULL);
    g_assert_cmpint(g_rename(fixture->dir, away), ==, 0);
    arbiter_ask(arbiter, UUID, SESSION, "alpha", 7, on_answer, &answered);
    while (!answered.answers)
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpint(answered.answer, ==, ARBITER_UNKNOWN);
    g_assert_nonnull(strstr(answered.error->message, fixture->dir));
    g_clear_error(&answered.error);
    /* It may be asked again, and the storage may be back by then. */
    g_assert_cmpint(g_rename(away, fixture->dir), ==, 0);
    arbiter_ask(arbiter, UUID, SESSION, "alpha", 7, on_answer, &answered);
    while (answered.answers < 2)
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpint(answered.answer, ==, ARBITER_GRANTED);
}

/* What a predecessor left when it was killed decides nothing, and goes. Others' is left alone. */
static void test_leftovers(Fixture *fixture, gconstpointer data)
{
    static const struct {
        const char *name;
        gboolean goes;
    } files[] = {
        {"." UUID "." SESSION ".alpha.0123456789abcdef.0.draft",   TRUE },
        {"." UUID ".another.alpha.0123456789abcdef.7.draft",       TRUE },
        {"." UUID "." SESSION ".beta.0123456789abcdef.0.draft",    FALSE},
        {".other." SESSION ".alpha.0123456789abcdef.0.draft",      FALSE},
        {"." UUID "." SESSION ".alpha.0123456789abcdef.0.draft.x", FALSE},
        {"README",                                                 FALSE},
    };
    (void)data;
    for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(fixture->dir, files[i].name, NULL);
        g_assert_true(g_file_set_contents(
            path, "colo decision 1\ngranted-to beta\nepoch 7\nat 2026\n", -1, NULL));
    }
    g_assert_cmpint(ask(fixture, "alpha"), ==, ARBITER_GRANTED);
    for (gsize i = 0; i < G_N_ELEMENTS(files); i++) {
        g_autofree char *path = g_build_filename(fixture->dir, files[i].name, NULL);
        g_assert_true(g_file_test(path, G_FILE_TEST_EXISTS) == !files[i].goes);
    }
}

/* ---- A decision that is given back ---- */

static ArbiterAnswer await(Answered *answered)
{
    while (!answered->answers)
        g_main_context_iteration(NULL, TRUE);
    g_clear_error(&answered->error);
    return answered->answer;
}

static ArbiterAnswer give_back(const Fixture *fixture, const char *who, const char *to)
{
    g_autoptr(Arbiter) arbiter = arbiter_new(fixture->dir, NULL, NULL);
    Answered answered = {0};
    arbiter_return(arbiter, UUID, SESSION, who, to, on_answer, &answered);
    return await(&answered);
}

static ArbiterAnswer look_back(const Fixture *fixture, const char *who)
{
    g_autoptr(Arbiter) arbiter = arbiter_new(fixture->dir, NULL, NULL);
    Answered answered = {0};
    arbiter_look_back(arbiter, UUID, SESSION, who, on_answer, &answered);
    return await(&answered);
}

/* Whoever looks decides nothing; only the winner gives it away; and it may do so twice. */
static void test_given_back(Fixture *fixture, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(look_back(fixture, "alpha"), ==, ARBITER_UNKNOWN);
    g_assert_cmpint(give_back(fixture, "beta", "alpha"), ==, ARBITER_UNKNOWN);
    g_assert_cmpuint(entries(fixture), ==, 0);
    g_assert_cmpint(ask(fixture, "beta"), ==, ARBITER_GRANTED);
    g_assert_cmpint(look_back(fixture, "alpha"), ==, ARBITER_DENIED);
    g_assert_cmpint(give_back(fixture, "gamma", "alpha"), ==, ARBITER_DENIED);
    g_assert_cmpint(ask(fixture, "beta"), ==, ARBITER_GRANTED);
    for (int i = 0; i < 2; i++) {
        g_assert_cmpint(give_back(fixture, "beta", "alpha"), ==, ARBITER_GRANTED);
        g_assert_cmpint(ask(fixture, "alpha"), ==, ARBITER_GRANTED);
        g_assert_cmpint(ask(fixture, "beta"), ==, ARBITER_DENIED);
        g_assert_cmpint(look_back(fixture, "alpha"), ==, ARBITER_GRANTED);
        g_assert_cmpuint(entries(fixture), ==, 1);
    }
}

static ArbiterAnswer concede(const Fixture *fixture, const char *who, const char *to)
{
    g_autoptr(Arbiter) arbiter = arbiter_new(fixture->dir, NULL, NULL);
    Answered answered = {0};
    arbiter_concede(arbiter, UUID, SESSION, who, to, on_answer, &answered);
    return await(&answered);
}

/* Who ends leaves it to the other side: what it has won, and what nobody has. */
static void test_conceded(Fixture *fixture, gconstpointer data)
{
    gboolean won = data != NULL;
    if (won)
        g_assert_cmpint(ask(fixture, "beta"), ==, ARBITER_GRANTED);
    for (int i = 0; i < 2; i++) {
        g_assert_cmpint(concede(fixture, "beta", "alpha"), ==, ARBITER_GRANTED);
        g_assert_cmpint(look_back(fixture, "alpha"), ==, ARBITER_GRANTED);
        g_assert_cmpint(ask(fixture, "beta"), ==, ARBITER_DENIED);
        g_assert_cmpint(ask(fixture, "alpha"), ==, ARBITER_GRANTED);
        g_assert_cmpuint(entries(fixture), ==, 1);
    }
    /* It is nobody else's to give away. */
    g_assert_cmpint(concede(fixture, "gamma", "beta"), ==, ARBITER_DENIED);
    g_assert_cmpint(ask(fixture, "alpha"), ==, ARBITER_GRANTED);
}

static void test_none_given_back(void)
{
    g_autoptr(Arbiter) arbiter = arbiter_new(NULL, NULL, NULL);
    Answered answered = {0};
    arbiter_return(arbiter, UUID, SESSION, "beta", "alpha", on_answer, &answered);
    g_assert_cmpint(await(&answered), ==, ARBITER_MANUAL);
}

#define ADD(name, func) g_test_add("/arbiter/" name, Fixture, NULL, set_up, func, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/arbiter/none", test_none);
    ADD("first-wins", test_first_wins);
    ADD("sessions-are-apart", test_sessions_are_apart);
    ADD("readable", test_readable);
    ADD("odd-names", test_odd_names);
    ADD("freed", test_freed);
    ADD("freed-in-answer", test_freed_in_answer);
    ADD("not-a-decision", test_not_a_decision);
    ADD("odd-files", test_odd_files);
    ADD("folder-gone", test_folder_gone);
    ADD("leftovers", test_leftovers);
    ADD("given-back", test_given_back);
    ADD("conceded", test_conceded);
    g_test_add("/arbiter/conceded-won", Fixture, "won", set_up, test_conceded, tear_down);
    g_test_add_func("/arbiter/none-given-back", test_none_given_back);
    return g_test_run();
}
