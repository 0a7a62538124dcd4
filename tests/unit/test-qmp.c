/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The QMP client against a server that this test plays by hand, one byte string at a time. */
#include "common/fd.h"
#include "vm/qmp.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GREETING                                                                                   \
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 1, \"minor\": 2, \"major\": 7}}, "             \
    "\"capabilities\": []}}\r\n"
#define LONG_MS 600000u

typedef struct {
    Qmp *qmp;
    int server;
    GString *sent; /* what the client has written */
    GString *log;  /* what it has called back: "ready event:NAME reply:... closed:CODE" */
    gboolean free_on_event;
} Fixture;

static void on_ready(json_object *version, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_true(json_object_is_type(version, json_type_object));
    g_string_append(f->log, "ready ");
}

static void on_event(const char *name, json_object *data, gpointer user_data)
{
    Fixture *f = user_data;
    (void)data;
    g_string_append_printf(f->log, "event:%s ", name);
    if (f->free_on_event)
        g_clear_pointer(&f->qmp, qmp_free);
}

static void on_closed(const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_true(error->domain == VM_ERROR);
    g_string_append_printf(f->log, "closed:%s ", error->code == VM_ERROR_DIED ? "died" : "broken");
}

static const char *code_name(const GError *error)
{
    return error->code == VM_ERROR_DIED      ? "died"
           : error->code == VM_ERROR_TIMEOUT ? "timeout"
                                             : error->message;
}

static void on_reply(json_object *result, const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_true(!result == !!error);
    g_string_append_printf(f->log, "reply:%s ",
                           result ? json_object_to_json_string_ext(result, JSON_C_TO_STRING_PLAIN)
                                  : code_name(error));
}

static void on_second_reply(json_object *result, const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    g_string_append(f->log, "second-");
    on_reply(result, error, f);
}

static void set_up(Fixture *f, gconstpointer data)
{
    static const QmpHandler handler = {on_ready, on_event, on_closed};
    int pair[2];
    int failed = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair);
    (void)data;

    g_assert_false(failed);
    f->server = pair[1];
    f->sent = g_string_new(NULL);
    f->log = g_string_new(NULL);
    f->qmp = qmp_new(pair[0], "QEMU", &handler, f);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    qmp_free(f->qmp);
    colo_fd_close(&f->server);
    g_string_free(f->sent, TRUE);
    g_string_free(f->log, TRUE);
}

/* Runs the loop until it has nothing to do, and collects what the client sends. */
static void settle(Fixture *f)
{
    char buf[65536];
    ssize_t got;

    while (g_main_context_iteration(NULL, FALSE))
        if (f->server >= 0 && (got = read(f->server, buf, sizeof(buf))) > 0)
            g_string_append_len(f->sent, buf, got);
    if (f->server >= 0)
        while ((got = read(f->server, buf, sizeof(buf))) > 0)
            g_string_append_len(f->sent, buf, got);
}

static void serve(Fixture *f, const char *text)
{
    g_assert_cmpint(write(f->server, text, strlen(text)), ==, (ssize_t)strlen(text));
    settle(f);
}

static void negotiate(Fixture *f)
{
    serve(f, GREETING);
    serve(f, "{\"return\": {}, \"id\": 1}\r\n");
    g_assert_cmpstr(f->log->str, ==, "ready ");
    g_string_truncate(f->log, 0);
    g_string_truncate(f->sent, 0);
}

static void test_negotiation(Fixture *f, gconstpointer data)
{
    (void)data;
    qmp_execute(f->qmp, "early", NULL, LONG_MS, on_reply, f);
    settle(f);
    g_assert_cmpstr(f->sent->str, ==, "");
    serve(f, GREETING);
    g_assert_cmpstr(f->sent->str, ==, "{\"execute\":\"qmp_capabilities\",\"id\":2}\n");
    g_string_truncate(f->sent, 0);
    serve(f, "{\"return\": {}, \"id\": 2}\r\n");
    g_assert_cmpstr(f->log->str, ==, "ready ");
    g_assert_cmpstr(f->sent->str, ==, "{\"execute\":\"early\",\"id\":1}\n");
}

static void test_arguments(Fixture *f, gconstpointer data)
{
    json_object *arguments = json_object_new_object();
    (void)data;
    negotiate(f);
    json_object_object_add(arguments, "a", json_object_new_string("x\"\n"));
    qmp_execute(f->qmp, "go", arguments, LONG_MS, on_reply, f);
    settle(f);
    g_assert_cmpstr(f->sent->str, ==,
                    "{\"execute\":\"go\",\"arguments\":{\"a\":\"x\\\"\\n\"},\"id\":2}\n");
}

static void test_byte_by_byte(Fixture *f, gconstpointer data)
{
    static const char text[] = "{\"return\": [1],\r\n \"id\": 2}\r\n{\"event\": \"STOP\"}\r\n";
    (void)data;
    negotiate(f);
    qmp_execute(f->qmp, "go", NULL, LONG_MS, on_reply, f);
    /* a newline within an object is not QMP: replies are lines */
    for (const char *at = "{\"return\": [1], \"id\": 2}\r\n{\"event\": \"STOP\"}\r\n"; *at; at++) {
        char one[2] = {*at, '\0'};
        serve(f, one);
    }
    g_assert_cmpstr(f->log->str, ==, "reply:[1] event:STOP ");
    serve(f, text);
    g_assert_true(g_str_has_suffix(f->log->str, "closed:broken "));
}

static void test_out_of_order(Fixture *f, gconstpointer data)
{
    (void)data;
    negotiate(f);
    qmp_execute(f->qmp, "a", NULL, LONG_MS, on_reply, f);
    qmp_execute(f->qmp, "b", NULL, LONG_MS, on_second_reply, f);
    serve(f, "{\"return\": \"b\", \"id\": 3}\n{\"return\": \"a\", \"id\": 2}\n");
    g_assert_cmpstr(f->log->str, ==, "second-reply:\"b\" reply:\"a\" ");
}

static void test_unknown_id(Fixture *f, gconstpointer data)
{
    (void)data;
    negotiate(f);
    qmp_execute(f->qmp, "a", NULL, LONG_MS, on_reply, f);
    serve(f, "{\"return\": 1, \"id\": 77}\n{\"return\": 1}\n{\"return\": 1, \"id\": \"x\"}\n");
    g_assert_cmpstr(f->log->str, ==, "");
    serve(f, "{\"return\": 2, \"id\": 2}\n{\"return\": 3, \"id\": 2}\n");
    g_assert_cmpstr(f->log->str, ==, "reply:2 ");
}

static void test_error_reply(Fixture *f, gconstpointer data)
{
    (void)data;
    negotiate(f);
    qmp_execute(f->qmp, "a", NULL, LONG_MS, on_reply, f);
    serve(f, "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"no a\"}, \"id\": 2}\n");
    g_assert_cmpstr(f->log->str, ==, "reply:a: CommandNotFound: no a ");
}

static void test_broken_error_reply(Fixture *f, gconstpointer data)
{
    (void)data;
    negotiate(f);
    qmp_execute(f->qmp, "a", NULL, LONG_MS, on_reply, f);
    serve(f, "{\"error\": 5, \"id\": 2}\n");
    g_assert_cmpstr(f->log->str, ==, "reply:a: GenericError: ? ");
}

static void test_end_in_mid_command(Fixture *f, gconstpointer data)
{
    (void)data;
    negotiate(f);
    qmp_execute(f->qmp, "a", NULL, LONG_MS, on_reply, f);
    qmp_execute(f->qmp, "b", NULL, LONG_MS, on_reply, f);
    serve(f, "{\"return\": 1, \"id\": 2}\n{\"retu");
    colo_fd_close(&f->server);
    settle(f);
    g_assert_cmpstr(f->log->str, ==, "reply:1 reply:died closed:died ");
    qmp_execute(f->qmp, "c", NULL, LONG_MS, on_reply, f);
    g_assert_cmpstr(f->log->str, ==, "reply:1 reply:died closed:died ");
    settle(f);
    g_assert_cmpstr(f->log->str, ==, "reply:1 reply:died closed:died reply:died ");
}

static void test_end_before_greeting(Fixture *f, gconstpointer data)
{
    (void)data;
    qmp_execute(f->qmp, "a", NULL, LONG_MS, on_reply, f);
    colo_fd_close(&f->server);
    settle(f);
    g_assert_cmpstr(f->log->str, ==, "reply:died closed:died ");
}

static void test_garbage(Fixture *f, gconstpointer data)
{
    static const char *const lines[] = {"hello\n",    "[1]\n",        "{\"a\":1} x\n", "{}\n",
                                        "\x01\xff\n", "{\"error\"\n", "null\n"};
    for (gsize i = 0; i < G_N_ELEMENTS(lines); i++) {
        negotiate(f);
        qmp_execute(f->qmp, "a", NULL, LONG_MS, on_reply, f);
        serve(f, lines[i]);
        g_assert_true(g_str_has_prefix(f->log->str, "reply:QEMU sent "));
        g_assert_true(g_str_has_suffix(f->log->str, "closed:broken "));
        tear_down(f, data);
        set_up(f, data);
    }
}

static void test_wrong_greeting(Fixture *f, gconstpointer data)
{
    (void)data;
    serve(f, "{\"event\": \"STOP\"}\n");
    g_assert_cmpstr(f->log->str, ==, "closed:broken ");
}

static void test_refused_negotiation(Fixture *f, gconstpointer data)
{
    (void)data;
    qmp_execute(f->qmp, "a", NULL, LONG_MS, on_reply, f);
    serve(f, GREETING);
    serve(f, "{\"error\": {\"class\": \"X\", \"desc\": \"no\"}, \"id\": 2}\n");
    g_assert_cmpstr(f->log->str, ==, "reply:qmp_capabilities: X: no closed:broken ");
}

static void test_huge_line(Fixture *f, gconstpointer data)
{
    g_autofree char *chunk = g_strnfill(65536, 'x');
    (void)data;
    negotiate(f);
    for (gsize sent = 0; sent <= QMP_LINE_MAX + 65536 && !*f->log->str;) {
        ssize_t put = write(f->server, chunk, 65536);
        sent += put > 0 ? (gsize)put : 0;
        settle(f);
    }
    g_assert_cmpstr(f->log->str, ==, "closed:broken ");
}

static void test_empty_lines(Fixture *f, gconstpointer data)
{
    (void)data;
    negotiate(f);
    serve(f, "\r\n\n  \n{\"event\": \"A\"}\n");
    g_assert_cmpstr(f->log->str, ==, "event:A ");
}

static void test_timeout(Fixture *f, gconstpointer data)
{
    (void)data;
    negotiate(f);
    qmp_execute(f->qmp, "a", NULL, 1, on_reply, f);
    while (!*f->log->str)
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpstr(f->log->str, ==, "reply:timeout ");
    serve(f, "{\"return\": 1, \"id\": 2}\n{\"event\": \"A\"}\n"); /* late: ignored */
    g_assert_cmpstr(f->log->str, ==, "reply:timeout event:A ");
}

/* QEMU may have been stopped as long as we were: it is given the time that was left. */
static void test_timeout_while_stopped(Fixture *f, gconstpointer data)
{
    (void)data;
    negotiate(f);
    qmp_execute(f->qmp, "a", NULL, 300, on_reply, f);
    g_usleep(600 * 1000);
    settle(f);
    g_assert_cmpstr(f->log->str, ==, "");
    serve(f, "{\"return\": 1, \"id\": 2}\n");
    g_assert_cmpstr(f->log->str, ==, "reply:1 ");
}

static void test_timeout_before_greeting(Fixture *f, gconstpointer data)
{
    (void)data;
    qmp_execute(f->qmp, "a", NULL, 1, on_reply, f);
    while (!*f->log->str)
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpstr(f->log->str, ==, "reply:timeout ");
}

static void test_free_within_event(Fixture *f, gconstpointer data)
{
    (void)data;
    negotiate(f);
    f->free_on_event = TRUE;
    qmp_execute(f->qmp, "a", NULL, LONG_MS, on_reply, f);
    serve(f, "{\"event\": \"A\"}\n{\"event\": \"B\"}\n{\"return\": 1, \"id\": 2}\n");
    g_assert_cmpstr(f->log->str, ==, "event:A ");
}

static void test_slow_reader(Fixture *f, gconstpointer data)
{
    g_autofree char *large = g_strnfill(1 << 20, 'y');
    json_object *arguments = json_object_new_object();
    (void)data;
    negotiate(f);
    json_object_object_add(arguments, "a", json_object_new_string(large));
    qmp_execute(f->qmp, "big", arguments, LONG_MS, on_reply, f); /* must not block */
    qmp_execute(f->qmp, "small", NULL, LONG_MS, on_reply, f);
    while (f->sent->len < (1u << 20) || !g_str_has_suffix(f->sent->str, "\"id\":3}\n"))
        settle(f);
    g_assert_true(g_str_has_suffix(f->sent->str, "\"id\":2}\n{\"execute\":\"small\",\"id\":3}\n"));
}

#define ADD(path, function) g_test_add(path, Fixture, NULL, set_up, function, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("/vm/qmp/negotiation", test_negotiation);
    ADD("/vm/qmp/arguments", test_arguments);
    ADD("/vm/qmp/byte-by-byte", test_byte_by_byte);
    ADD("/vm/qmp/out-of-order", test_out_of_order);
    ADD("/vm/qmp/unknown-id", test_unknown_id);
    ADD("/vm/qmp/error-reply", test_error_reply);
    ADD("/vm/qmp/broken-error-reply", test_broken_error_reply);
    ADD("/vm/qmp/end-in-mid-command", test_end_in_mid_command);
    ADD("/vm/qmp/end-before-greeting", test_end_before_greeting);
    ADD("/vm/qmp/garbage", test_garbage);
    ADD("/vm/qmp/wrong-greeting", test_wrong_greeting);
    ADD("/vm/qmp/refused-negotiation", test_refused_negotiation);
    ADD("/vm/qmp/huge-line", test_huge_line);
    ADD("/vm/qmp/empty-lines", test_empty_lines);
    ADD("/vm/qmp/timeout", test_timeout);
    ADD("/vm/qmp/timeout-while-stopped", test_timeout_while_stopped);
    ADD("/vm/qmp/timeout-before-greeting", test_timeout_before_greeting);
    ADD("/vm/qmp/free-within-event", test_free_within_event);
    ADD("/vm/qmp/slow-reader", test_slow_reader);
    return g_test_run();
}
