/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What went wrong last, here and at the peer: what is remembered, and who is told how often. */
#include "colo/node/trouble.h"

#include "colo/node/node.h"
#include "common/log.h"

#include <string.h>

typedef struct {
    Trouble *trouble;
    GString *told; /* since expect(): each text with a line's end, "PEER: " before a peer's */
} Fixture;

static void on_happened(const char *text, gpointer user_data)
{
    const Fixture *f = user_data;
    g_string_append_printf(f->told, "%s\n", text);
}

static void on_peer_trouble(const char *peer, const char *text, gpointer user_data)
{
    const Fixture *f = user_data;
    g_string_append_printf(f->told, "%s: %s\n", peer, text);
}

static void set_up(Fixture *f, gconstpointer data)
{
    static const TroubleHandler handler = {.happened = on_happened, .reported = on_peer_trouble};
    (void)data;
    f->trouble = trouble_new(&handler, f);
    f->told = g_string_new(NULL);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    trouble_free(f->trouble);
    g_string_free(f->told, TRUE);
}

static void expect(Fixture *f, const char *told)
{
    g_assert_cmpstr(f->told->str, ==, told);
    g_string_truncate(f->told, 0);
}

static void report(Fixture *f, const char *what, const char *why)
{
    g_autoptr(GError) error = g_error_new_literal(NODE_ERROR, NODE_ERROR_LOAD, why);
    trouble_report(f->trouble, what, error);
}

static void report_once(Fixture *f, const char *what, const char *why)
{
    g_autoptr(GError) error = g_error_new_literal(NODE_ERROR, NODE_ERROR_LOAD, why);
    trouble_report_once(f->trouble, what, error);
}

static void test_report(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_null(trouble_last(f->trouble));
    report(f, "no VM", "no file");
    expect(f, "no VM: no file\n");
    g_assert_error(trouble_last(f->trouble), NODE_ERROR, NODE_ERROR_LOAD);
    g_assert_cmpstr(trouble_last(f->trouble)->message, ==, "no VM: no file");
    report(f, "no VM", "no file");
    expect(f, "no VM: no file\n");
    /* A part may report what it was told was the last. */
    trouble_report(f->trouble, "the end", trouble_last(f->trouble));
    g_assert_cmpstr(trouble_last(f->trouble)->message, ==, "the end: no VM: no file");
}

static void test_once(Fixture *f, gconstpointer data)
{
    (void)data;
    report_once(f, "no VM", "no file");
    report_once(f, "no VM", "no file");
    expect(f, "no VM: no file\n");
    report_once(f, "no VM", "no rights");
    report_once(f, "no disk", "no rights");
    report_once(f, "no VM", "no file");
    expect(f, "no VM: no rights\nno disk: no rights\nno VM: no file\n");
    /* After it was over it is news. */
    trouble_is_over(f->trouble);
    report_once(f, "no VM", "no file");
    expect(f, "no VM: no file\n");
}

static void test_peer(Fixture *f, gconstpointer data)
{
    (void)data;
    trouble_received(f->trouble, "beta", "no file");
    trouble_received(f->trouble, "beta", "no file");
    expect(f, "beta: no file\n");
    g_assert_cmpstr(trouble_of_peer(f->trouble), ==, "no file");
    g_assert_null(trouble_last(f->trouble));
    trouble_received(f->trouble, "beta", "no rights");
    expect(f, "beta: no rights\n");
    g_assert_cmpstr(trouble_of_peer(f->trouble), ==, "no rights");
    trouble_is_over(f->trouble);
    g_assert_null(trouble_of_peer(f->trouble));
    trouble_received(f->trouble, "beta", "no rights");
    expect(f, "beta: no rights\n");
}

static json_object *last_error(json_object *object)
{
    json_object *value;
    g_assert_true(json_object_object_get_ex(object, "last-error", &value));
    return value;
}

static const char *text(json_object *error, const char *name)
{
    json_object *value;
    g_assert_true(json_object_object_get_ex(error, name, &value));
    return json_object_get_string(value);
}

static void check_error(json_object *object, const char *what, gint64 since)
{
    json_object *error = last_error(object);
    g_autoptr(GDateTime) when = g_date_time_new_from_iso8601(text(error, "when"), NULL);
    g_assert_cmpstr(text(error, "text"), ==, what);
    g_assert_nonnull(when);
    g_assert_cmpint(g_date_time_to_unix(when), >=, since / G_USEC_PER_SEC);
    g_assert_cmpint(g_date_time_to_unix(when), <=, g_get_real_time() / G_USEC_PER_SEC);
}

static void test_status(Fixture *f, gconstpointer data)
{
    (void)data;
    json_object *status = json_object_new_object(), *peer = json_object_new_object();
    gint64 since = g_get_real_time();
    trouble_add_status(f->trouble, status, peer);
    g_assert_null(last_error(status));
    g_assert_null(last_error(peer));
    report(f, "no VM", "no file");
    trouble_add_status(f->trouble, status, peer);
    check_error(status, "no VM: no file", since);
    g_assert_null(last_error(peer));
    trouble_received(f->trouble, "beta", "no rights");
    trouble_add_status(f->trouble, status, peer);
    check_error(status, "no VM: no file", since);
    check_error(peer, "no rights", since);
    trouble_is_over(f->trouble);
    trouble_add_status(f->trouble, status, peer);
    g_assert_null(last_error(status));
    g_assert_null(last_error(peer));
    json_object_put(status);
    json_object_put(peer);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*test)(Fixture *, gconstpointer);
    } tests[] = {
        {"/trouble/report", test_report},
        {"/trouble/once",   test_once  },
        {"/trouble/peer",   test_peer  },
        {"/trouble/status", test_status},
    };
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    for (guint i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, Fixture, NULL, set_up, tests[i].test, tear_down);
    return g_test_run();
}
