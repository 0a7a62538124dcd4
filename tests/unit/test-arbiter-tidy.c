/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Old decisions go; the last ones, the present session's and everything else stay. */
#include "colo/arbiter/arbiter.h"
#include "tests/support/folder.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define UUID "7c2bd5a4-9a2b-4b62-a1ef-5c0a4d3c7a11"

static char *dir;

static char *path_of(const char *name)
{
    return g_build_filename(dir, name, NULL);
}

static gboolean is_there(const char *name)
{
    g_autofree char *path = path_of(name);
    return g_file_test(path, G_FILE_TEST_EXISTS);
}

/* A file that was made so many seconds ago. */
static void make(const char *name, gint64 seconds)
{
    g_autofree char *path = path_of(name);
    g_assert_true(g_file_set_contents(path, "x\n", -1, NULL));
    const struct timespec made = {.tv_sec = g_get_real_time() / G_USEC_PER_SEC - seconds};
    const struct timespec times[] = {made, made};
    g_assert_cmpint(utimensat(AT_FDCWD, path, times, 0), ==, 0);
}

static void on_answer(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    g_assert_no_error(error);
    g_assert_cmpint(answer, ==, ARBITER_GRANTED);
    *(gboolean *)user_data = TRUE;
}

static void tidy(const char *session)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Arbiter) arbiter = arbiter_new(dir, NULL, &error);
    g_assert_no_error(error);
    gboolean answered = FALSE;
    arbiter_tidy(arbiter, UUID, session, on_answer, &answered);
    while (!answered)
        g_main_context_iteration(NULL, TRUE);
}

static char *decision(guint i)
{
    return g_strdup_printf(UUID ".%032x", i);
}

static void test_tidy(void)
{
    static const char *const others[] = {
        UUID ".owner",
        "7c2bd5a4-9a2b-4b62-a1ef-5c0a4d3c7a12.00000000000000000000000000000001",
        UUID ".0000000000000000000000000000001",
        UUID ".000000000000000000000000000000zz",
        "." UUID ".00000000000000000000000000000001",
        "colo-arbiter-id"};
    const guint n = ARBITER_DECISIONS_KEPT + 10;
    g_autofree char *id = NULL, *mount = NULL;
    dir = g_dir_make_tmp("test-arbiter-XXXXXX", NULL);
    g_assert_true(arbiter_init_folder(dir, &id, &mount, NULL));
    for (guint i = 0; i + 1 < G_N_ELEMENTS(others); i++)
        make(others[i], 1000000);
    /* The session at hand has the oldest; of the others, the higher the number the older. */
    for (guint i = 0; i < n; i++) {
        g_autofree char *name = decision(i);
        make(name, i == 5 ? 1000000 : 10 * i);
    }
    g_autofree char *present = g_strdup_printf("%032x", 5u);
    for (guint again = 0; again < 2; again++) {
        tidy(present);
        for (guint i = 0; i < n; i++) {
            g_autofree char *name = decision(i);
            g_test_message("%s", name);
            g_assert_true(is_there(name) == (i <= ARBITER_DECISIONS_KEPT));
        }
        for (guint i = 0; i < G_N_ELEMENTS(others); i++)
            g_assert_true(is_there(others[i]));
    }
    folder_remove(dir);
    g_free(dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/arbiter-tidy/tidy", test_tidy);
    return g_test_run();
}
