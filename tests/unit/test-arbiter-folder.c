/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Is it the folder that both hosts see? With real mounts: tests/process/test-node-arbiter.c. */
#include "colo/arbiter/arbiter_internal.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UUID    "7c2bd5a4-9a2b-4b62-a1ef-5c0a4d3c7a11"
#define SESSION "00112233445566778899aabbccddeeff"
#define ID      "colo-arbiter-id"

typedef struct {
    char *dir, *other, *state, *id; /* of `dir` */
} Fixture;

static char *make_dir(const char *in, const char *name)
{
    char *dir = g_build_filename(in, name, NULL);
    g_assert_cmpint(g_mkdir(dir, 0700), ==, 0);
    return dir;
}

static char *init(const char *dir)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *mount = NULL;
    char *id = NULL;
    arbiter_init_folder(dir, &id, &mount, &error);
    g_assert_no_error(error);
    g_assert_nonnull(strstr(mount, ", mounted on /"));
    return id;
}

static void set_up(Fixture *fixture, gconstpointer data)
{
    (void)data;
    g_autofree char *top = g_dir_make_tmp("test-arbiter-XXXXXX", NULL);
    fixture->dir = make_dir(top, "shared");
    fixture->other = make_dir(top, "other");
    fixture->state = g_build_filename(top, "state", "web", NULL);
    fixture->id = init(fixture->dir);
}

static void remove_tree(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *name; dir && (name = g_dir_read_name(dir));) {
        g_autofree char *inner = g_build_filename(path, name, NULL);
        remove_tree(inner);
    }
    g_remove(path);
}

static void tear_down(Fixture *fixture, gconstpointer data)
{
    (void)data;
    g_autofree char *top = g_path_get_dirname(fixture->dir);
    remove_tree(top);
    g_free(fixture->dir);
    g_free(fixture->other);
    g_free(fixture->state);
    g_free(fixture->id);
}

static guint entries(const char *path)
{
    guint count = 0;
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    while (g_dir_read_name(dir))
        count++;
    return count;
}

static Arbiter *arbiter_of(const char *dir, const char *state)
{
    g_autoptr(GError) error = NULL;
    Arbiter *arbiter = arbiter_new(dir, state, &error);
    g_assert_no_error(error);
    return arbiter;
}

/* ---- Answers ---- */

typedef struct {
    unsigned answers;
    ArbiterAnswer answer;
    GError *error;
} Answered;

static void on_answer(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Answered *answered = user_data;
    answered->answers++;
    answered->answer = answer;
    g_clear_error(&answered->error);
    answered->error = error ? g_error_copy(error) : NULL;
}

static void wait_for(const Answered *answered)
{
    while (!answered->answers)
        g_main_context_iteration(NULL, TRUE);
}

static void expect_granted(Answered *answered)
{
    wait_for(answered);
    g_assert_no_error(answered->error);
    g_assert_cmpint(answered->answer, ==, ARBITER_GRANTED);
}

/* UNKNOWN, with each of these words, up to NULL. */
static void expect_unknown_with(Answered *answered, const char *const *words)
{
    wait_for(answered);
    g_assert_cmpint(answered->answer, ==, ARBITER_UNKNOWN);
    for (; *words; words++)
        if (!strstr(answered->error->message, *words))
            g_error("'%s' doesn't say '%s'", answered->error->message, *words);
    g_clear_error(&answered->error);
}

#define expect_unknown(answered, ...)                                                              \
    expect_unknown_with((answered), (const char *const[]){__VA_ARGS__, NULL})

static void look(Arbiter *arbiter, Answered *answered)
{
    *answered = (Answered){0};
    arbiter_look(arbiter, FALSE, on_answer, answered);
}

static void ask(Arbiter *arbiter, Answered *answered)
{
    *answered = (Answered){0};
    arbiter_ask(arbiter, UUID, SESSION, "alpha", 1, on_answer, answered);
}

static void pin(Arbiter *arbiter)
{
    Answered answered;
    look(arbiter, &answered);
    expect_granted(&answered);
    answered = (Answered){0};
    g_assert_false(arbiter_is_pinned(arbiter));
    arbiter_pin(arbiter, on_answer, &answered);
    expect_granted(&answered);
    g_assert_true(arbiter_is_pinned(arbiter));
}

/* ---- The name ---- */

static void test_init(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *id = NULL, *mount = NULL, *path = NULL;
    (void)data;
    g_assert_cmpuint(entries(fixture->dir), ==, 1);
    /* Again: nothing changes, whoever says it. */
    g_assert_false(arbiter_init_folder(fixture->dir, &id, &mount, &error));
    g_assert_error(error, ARBITER_ERROR, ARBITER_ERROR_EXISTS);
    g_assert_nonnull(strstr(error->message, fixture->id));
    g_assert_cmpuint(entries(fixture->dir), ==, 1);
    g_clear_error(&error);
    /* No folder is made: what is meant may not be mounted. */
    path = g_build_filename(fixture->dir, "missing", NULL);
    g_assert_false(arbiter_init_folder(path, &id, &mount, &error));
    g_assert_nonnull(strstr(error->message, "mounted on"));
    g_assert_false(g_file_test(path, G_FILE_TEST_EXISTS));
    g_clear_error(&error);
    g_assert_false(arbiter_init_folder("/proc/self", &id, &mount, &error));
    g_assert_nonnull(strstr(error->message, "/proc/self can't be written to"));
    g_assert_null(id);
}

static char *identity_of(const char *dir)
{
    Answered answered;
    g_autoptr(Arbiter) arbiter = arbiter_of(dir, NULL);
    g_assert_null(arbiter_identity(arbiter));
    look(arbiter, &answered);
    expect_granted(&answered);
    return g_strdup(arbiter_identity(arbiter));
}

/* Two nodes find out that they would ask different folders, or not ask at all. */
static void test_identity(Fixture *fixture, gconstpointer data)
{
    (void)data;
    g_autofree char *id = init(fixture->other);
    g_autofree char *ours = identity_of(fixture->dir), *again = identity_of(fixture->dir);
    g_autofree char *other = identity_of(fixture->other);
    g_autofree char *expected = g_strconcat("file ", fixture->id, NULL);
    g_autoptr(Arbiter) none = arbiter_new(NULL, NULL, NULL);
    g_assert_cmpstr(ours, ==, expected);
    g_assert_cmpstr(ours, ==, again);
    g_assert_cmpstr(ours, !=, other);
    g_assert_cmpstr(arbiter_identity(none), ==, "none");
    g_assert_true(arbiter_is_pinned(none));
}

/* The mount point of storage that isn't mounted, say. Nothing is made there. */
static void test_no_name(Fixture *fixture, gconstpointer data)
{
    Answered answered;
    (void)data;
    g_autoptr(Arbiter) arbiter = arbiter_of(fixture->other, fixture->state);
    for (int i = 0; i < 2; i++) {
        ask(arbiter, &answered);
        expect_unknown(&answered, fixture->other, "has no name", ", mounted on /",
                       "colo arbiter init");
        look(arbiter, &answered);
        expect_unknown(&answered, "has no name");
    }
    answered = (Answered){0};
    arbiter_claim(arbiter, UUID, "alpha", ARBITER_OVERRULE, &(ArbiterStake){0}, on_answer,
                  &answered);
    expect_unknown(&answered, "has no name");
    g_assert_cmpuint(entries(fixture->other), ==, 0);
    g_assert_null(arbiter_identity(arbiter));
    /* Now it is one. */
    g_autofree char *id = init(fixture->other);
    ask(arbiter, &answered);
    expect_granted(&answered);
}

static void test_not_a_name(Fixture *fixture, gconstpointer data)
{
    static const char *const names[] = {"", "\n", "0123456789abcde", "0123456789abcdeg", "a\nb"};
    Answered answered;
    (void)data;
    g_autofree char *path = g_build_filename(fixture->dir, ID, NULL);
    g_autoptr(Arbiter) arbiter = arbiter_of(fixture->dir, NULL);
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        g_assert_true(g_file_set_contents(path, names[i], -1, NULL));
        ask(arbiter, &answered);
        expect_unknown(&answered, path, "is not the name of a folder");
    }
    g_unlink(path);
    g_assert_cmpint(mkfifo(path, 0600), ==, 0);
    ask(arbiter, &answered);
    expect_unknown(&answered, path);
}

/* ---- Another folder is there ---- */

static void swap(const Fixture *fixture)
{
    g_autofree char *away = g_strconcat(fixture->dir, ".away", NULL);
    g_assert_cmpint(g_rename(fixture->dir, away), ==, 0);
    g_assert_cmpint(g_rename(fixture->other, fixture->dir), ==, 0);
    g_assert_cmpint(g_rename(away, fixture->other), ==, 0);
}

/* A mount goes, or another comes, while colod runs: what is known counts, pinned or not. */
static void test_swapped(Fixture *fixture, gconstpointer data)
{
    Answered answered;
    (void)data;
    g_autoptr(Arbiter) arbiter = arbiter_of(fixture->dir, NULL);
    look(arbiter, &answered);
    expect_granted(&answered);
    swap(fixture);
    ask(arbiter, &answered);
    expect_unknown(&answered, "has no name", fixture->id, "mounted on");
    g_assert_cmpuint(entries(fixture->dir), ==, 0);
    g_autofree char *id = init(fixture->dir);
    ask(arbiter, &answered);
    expect_unknown(&answered, fixture->id, id, "mounted on");
    g_assert_cmpuint(entries(fixture->dir), ==, 1);
    swap(fixture);
    ask(arbiter, &answered);
    expect_granted(&answered);
}

/* It stays so when colod is started again. */
static void test_pinned(Fixture *fixture, gconstpointer data)
{
    Answered answered;
    (void)data;
    {
        g_autoptr(Arbiter) arbiter = arbiter_of(fixture->dir, fixture->state);
        pin(arbiter);
    }
    g_autoptr(Arbiter) arbiter = arbiter_of(fixture->other, fixture->state);
    g_assert_true(arbiter_is_pinned(arbiter));
    g_assert_nonnull(strstr(arbiter_identity(arbiter), fixture->id));
    ask(arbiter, &answered);
    expect_unknown(&answered, "has no name", fixture->id);
    g_autofree char *id = init(fixture->other);
    ask(arbiter, &answered);
    expect_unknown(&answered, fixture->id, id);
    g_assert_cmpuint(entries(fixture->other), ==, 1);
    /* The storage was moved as a whole: it is the same folder, wherever. */
    swap(fixture);
    ask(arbiter, &answered);
    expect_granted(&answered);
    /* An administrator's way to another one. */
    g_autofree char *path = g_build_filename(fixture->state, "arbiter", NULL);
    g_assert_cmpint(g_unlink(path), ==, 0);
    g_autoptr(Arbiter) moved = arbiter_of(fixture->dir, fixture->state);
    g_assert_false(arbiter_is_pinned(moved));
    ask(moved, &answered);
    expect_granted(&answered);
}

static void test_bad_pin(Fixture *fixture, gconstpointer data)
{
    static const char *const texts[] = {"", "0123456789abcdef\n", "colo arbiter 1\nid 0123\n",
                                        "colo arbiter 2\nid 0123456789abcdef\n"};
    (void)data;
    g_autofree char *path = g_build_filename(fixture->state, "arbiter", NULL);
    g_assert_cmpint(g_mkdir_with_parents(fixture->state, 0700), ==, 0);
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_true(g_file_set_contents(path, texts[i], -1, NULL));
        g_assert_null(arbiter_new(fixture->dir, fixture->state, &error));
        g_assert_error(error, ARBITER_ERROR, ARBITER_ERROR_FOLDER);
        g_assert_nonnull(strstr(error->message, path));
    }
    g_autoptr(GError) error = NULL;
    g_assert_null(arbiter_new(fixture->dir, "/proc/self/state", &error));
    g_assert_nonnull(strstr(error->message, "/proc/self/state"));
    /* Nothing is remembered without an arbiter. */
    g_autoptr(Arbiter) none = arbiter_new(NULL, "/proc/self/state", NULL);
    g_assert_nonnull(none);
}

/* The disk of the state folder is full, say. */
static void test_pin_fails(Fixture *fixture, gconstpointer data)
{
    Answered answered;
    (void)data;
    g_autoptr(Arbiter) arbiter = arbiter_of(fixture->dir, fixture->state);
    look(arbiter, &answered);
    expect_granted(&answered);
    g_assert_cmpint(g_rmdir(fixture->state), ==, 0);
    answered = (Answered){0};
    arbiter_pin(arbiter, on_answer, &answered);
    expect_unknown(&answered, fixture->state);
    g_assert_false(arbiter_is_pinned(arbiter));
}

/* ---- In the middle of a question ---- */

static const Fixture *hooked;

static void take_name_away(gboolean done, gpointer hook_data)
{
    g_autofree char *path = g_build_filename(hooked->dir, ID, NULL);
    if (done == GPOINTER_TO_INT(hook_data))
        g_unlink(path);
}

static void swap_then(gboolean done, gpointer hook_data)
{
    if (done == GPOINTER_TO_INT(hook_data))
        swap(hooked);
}

static void test_name_goes(Fixture *fixture, gconstpointer data)
{
    Answered answered;
    (void)data;
    hooked = fixture;
    g_autoptr(Arbiter) arbiter = arbiter_of(fixture->dir, NULL);
    arbiter_set_hook(arbiter, take_name_away, GINT_TO_POINTER(TRUE));
    ask(arbiter, &answered);
    expect_unknown(&answered, "has no name");
}

/* All of an answer comes from the folder that was opened, whatever has its path by then. */
static void test_swapped_while_asking(Fixture *fixture, gconstpointer data)
{
    Answered answered;
    (void)data;
    hooked = fixture;
    for (int after = FALSE; after <= TRUE; after++) {
        g_autofree char *decision = g_strdup_printf("%s/%s.%s", fixture->other, UUID, SESSION);
        g_autoptr(Arbiter) arbiter = arbiter_of(fixture->dir, NULL);
        arbiter_set_hook(arbiter, swap_then, GINT_TO_POINTER(after));
        ask(arbiter, &answered);
        expect_granted(&answered);
        g_assert_true(g_file_test(decision, G_FILE_TEST_EXISTS));
        g_assert_cmpuint(entries(fixture->dir), ==, 0);
        swap(fixture);
    }
}

/* Looking leaves nothing, also where it tries to write. */
static void test_look(Fixture *fixture, gconstpointer data)
{
    Answered answered = {0};
    (void)data;
    g_autoptr(Arbiter) arbiter = arbiter_of(fixture->dir, NULL);
    arbiter_look(arbiter, TRUE, on_answer, &answered);
    expect_granted(&answered);
    g_assert_cmpuint(entries(fixture->dir), ==, 1);
    g_autoptr(Arbiter) file = arbiter_of("/proc/self/cmdline", NULL);
    look(file, &answered);
    expect_unknown(&answered, "/proc/self/cmdline", "Not a directory", "mounted on");
}

#define ADD(name, func) g_test_add("/arbiter-folder/" name, Fixture, NULL, set_up, func, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("init", test_init);
    ADD("identity", test_identity);
    ADD("no-name", test_no_name);
    ADD("not-a-name", test_not_a_name);
    ADD("swapped", test_swapped);
    ADD("pinned", test_pinned);
    ADD("bad-pin", test_bad_pin);
    ADD("pin-fails", test_pin_fails);
    ADD("name-goes", test_name_goes);
    ADD("swapped-while-asking", test_swapped_while_asking);
    ADD("look", test_look);
    return g_test_run();
}
