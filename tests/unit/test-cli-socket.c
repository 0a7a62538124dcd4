/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <glib/gstdio.h>

#include "colo/cli/cli.h"

static void add_file(const char *folder, const char *name)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    g_assert_true(g_file_set_contents(path, "", 0, NULL));
}

static void remove_file(const char *folder, const char *name)
{
    g_autofree char *path = g_build_filename(folder, name, NULL);
    g_assert_cmpint(g_unlink(path), ==, 0);
}

static void test_find(void)
{
    g_autofree char *folder = g_dir_make_tmp("colo-cli-XXXXXX", NULL);
    g_autoptr(GError) none = NULL, many = NULL, error = NULL;
    add_file(folder, "web.sock.lock");
    g_assert_null(cli_find_socket(folder, &none));
    g_assert_error(none, CLI_ERROR, CLI_ERROR_NO_COLOD);
    add_file(folder, "web.sock");
    g_autofree char *found = cli_find_socket(folder, &error), *web = NULL;
    g_assert_no_error(error);
    web = g_build_filename(folder, "web.sock", NULL);
    g_assert_cmpstr(found, ==, web);
    add_file(folder, "db.sock");
    g_assert_null(cli_find_socket(folder, &many));
    g_assert_error(many, CLI_ERROR, CLI_ERROR_AMBIGUOUS);
    g_assert_nonnull(g_strrstr(many->message, web));
    remove_file(folder, "web.sock.lock");
    remove_file(folder, "web.sock");
    remove_file(folder, "db.sock");
    g_assert_cmpint(g_rmdir(folder), ==, 0);
}

static void test_no_folder(void)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(cli_find_socket("/nonexistent", &error));
    g_assert_error(error, CLI_ERROR, CLI_ERROR_NO_COLOD);
    g_assert_cmpstr(error->message, ==,
                    "no colod runs here: there is no socket in /nonexistent (--socket names one "
                    "elsewhere)");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cli/find-socket", test_find);
    g_test_add_func("/cli/no-folder", test_no_folder);
    return g_test_run();
}
