/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control socket's protocol: greeting, commands, arguments, answers, events. */
#include "colo/control/control.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/support/control-peer.h"

#define ERROR(text)   "{\"error\":{\"class\":\"GenericError\",\"desc\":\"" text "\"}}"
#define NO_ARGS(name) "{\"execute\":\"" name "\"}\n"
#define ENABLE(list)  "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[" list "]}}"

typedef struct {
    Control *control;
    ControlRequest *held; /* of the command `hold` */
    char *folder, *path;
} Fixture;

static void do_echo(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)user_data;
    control_reply(request, json_object_get(arguments));
}

static void do_nothing(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments, (void)user_data;
    control_reply(request, NULL);
}

static void do_hold(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments;
    Fixture *f = user_data;
    g_assert_null(f->held);
    f->held = request;
}

static void do_refuse(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments, (void)user_data;
    g_autoptr(GError) error =
        g_error_new(CONTROL_ERROR, CONTROL_ERROR_STATE, "not in state none: wait for a peer");
    control_fail(request, error);
}

static void do_end(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments;
    Fixture *f = user_data;
    control_reply(request, NULL);
    g_clear_pointer(&f->control, control_free);
}

static const ControlCommand commands[] = {
    {"echo",    do_echo,    "text:string count:int? ratio:number? yes:bool? list:array? map:object?",
     "Answers its arguments.",                                                                                            TRUE },
    {"nothing", do_nothing, "",                                                                       "Does nothing.",    FALSE},
    {"urgent",  do_hold,    "",                                                                       "Likewise.",        TRUE },
    {"hold",    do_hold,    "",                                                                       "Answers later.",   FALSE},
    {"refuse",  do_refuse,  NULL,                                                                     "Fails.",           FALSE},
    {"end",     do_end,     "",                                                                       "Ends the server.", FALSE},
    {NULL,      NULL,       NULL,                                                                     NULL,               FALSE},
};

static void set_up(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(GError) error = NULL;
    f->folder = g_dir_make_tmp("colo-control-XXXXXX", &error);
    g_assert_no_error(error);
    f->path = g_build_filename(f->folder, "control", NULL);
    f->control = control_new(f->path, commands, f, &error);
    g_assert_no_error(error);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    control_free(f->control);
    g_assert_cmpint(g_access(f->path, F_OK), ==, -1); /* the socket is gone */
    g_assert_cmpint(g_rmdir(f->folder), ==, 0);
    g_free(f->folder);
    g_free(f->path);
}

static void test_greeting(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) peer = control_peer_new(f->path);
    g_autofree char *line = control_peer_line(peer);
    g_assert_true(g_regex_match_simple(
        "^{\"QMP\":{\"version\":{\"qemu\":{\"major\":\\d+,\"minor\":\\d+,\"micro\":\\d+},"
        "\"package\":\"colo [^\"]+\"},\"capabilities\":\\[\"oob\"\\]}}$",
        line, 0, 0));
    control_peer_expect(peer, NO_ARGS("qmp_capabilities"), "{\"return\":{}}");
    control_peer_expect(peer, "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[]}}",
                        "{\"return\":{}}");
    control_peer_expect(peer, ENABLE("\"oob\",\"fly\""),
                        ERROR("qmp_capabilities: there is no capability \\\"fly\\\" to be enabled, "
                              "only \\\"oob\\\""));
    control_peer_expect(peer, ENABLE("1"),
                        ERROR("qmp_capabilities: there is no capability 1 to be enabled, "
                              "only \\\"oob\\\""));
    control_peer_expect(peer, ENABLE("\"oob\""), "{\"return\":{}}");
}

static void test_id(Fixture *f, gconstpointer data)
{
    (void)data;
    static const char *const ids[] = {
        "1", "\"a\\nb\"", "null", "true", "[1,{\"x\":[]}]", "{\"a\":{\"b\":null}}", "1.5", "-9"};
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    for (gsize i = 0; i < G_N_ELEMENTS(ids); i++) {
        g_autofree char *good = g_strdup_printf("{\"execute\":\"nothing\",\"id\":%s}\n", ids[i]);
        g_autofree char *good_answer = g_strdup_printf("{\"return\":{},\"id\":%s}", ids[i]);
        control_peer_expect(peer, good, good_answer);
        g_autofree char *bad = g_strdup_printf("{\"id\":%s,\"execute\":\"refuse\"}\n", ids[i]);
        g_autofree char *bad_answer =
            g_strdup_printf("{\"error\":{\"class\":\"GenericError\",\"desc\":\"not in state none: "
                            "wait for a peer\"},\"id\":%s}",
                            ids[i]);
        control_peer_expect(peer, bad, bad_answer);
    }
}

static void test_wrong_messages(Fixture *f, gconstpointer data)
{
    (void)data;
    static const struct {
        const char *text, *answer;
    } cases[] = {
        {NO_ARGS("fly"),                                                         "{\"error\":{\"class\":\"CommandNotFound\",\"desc\":\"The command fly has "
                         "not been found (query-commands lists what there is)\"}}"                               },
        {"{}",                                                                   ERROR("member 'execute' is missing: the command's name")},
        {"{\"execute\":1}",                                                      ERROR("member 'execute' must be a string")              },
        {"{\"execute\":null}",                                                   ERROR("member 'execute' must be a string")              },
        {"{\"execute\":\"nothing\",\"arguments\":[]}",
         ERROR("member 'arguments' must be an object")                                                                                   },
        {"{\"exec-oob\":1}",                                                     ERROR("member 'exec-oob' must be a string")             },
        {"{\"exec_oob\":\"nothing\"}",                                           ERROR("member 'exec_oob' is unknown: expected 'execute' or "
                                             "'exec-oob', 'arguments' and 'id'")                   },
        {"{\"exec-oob\":\"echo\",\"execute\":\"echo\"}",
         ERROR("there is both 'execute' and 'exec-oob': choose one")                                                                     },
        {"{\"exec-oob\":\"echo\",\"arguments\":{\"text\":\"\"}}",
         ERROR("'exec-oob' is not enabled: qmp_capabilities with \\\"enable\\\":[\\\"oob\\\"]")                                          },
        {"{\"execute\":\"nothing\",\"arguments\":{\"x\":1}}",
         ERROR("nothing: unknown argument 'x': it takes none")                                                                           },
        {NO_ARGS("echo"),                                                        ERROR("echo: argument 'text' (a string) is missing")    },
        {"{\"execute\":\"echo\",\"arguments\":{\"text\":1}}",
         ERROR("echo: argument 'text' must be a string")                                                                                 },
        {"{\"execute\":\"echo\",\"arguments\":{\"text\":null}}",
         ERROR("echo: argument 'text' must be a string")                                                                                 },
        {"{\"execute\":\"echo\",\"arguments\":{\"text\":\"\",\"count\":1.5}}",
         ERROR("echo: argument 'count' must be a whole number")                                                                          },
        {"{\"execute\":\"echo\",\"arguments\":{\"text\":\"\",\"ratio\":\"1\"}}",
         ERROR("echo: argument 'ratio' must be a number")                                                                                },
        {"{\"execute\":\"echo\",\"arguments\":{\"text\":\"\",\"yes\":1}}",
         ERROR("echo: argument 'yes' must be true or false")                                                                             },
        {"{\"execute\":\"echo\",\"arguments\":{\"text\":\"\",\"list\":{}}}",
         ERROR("echo: argument 'list' must be an array")                                                                                 },
        {"{\"execute\":\"echo\",\"arguments\":{\"text\":\"\",\"map\":[]}}",
         ERROR("echo: argument 'map' must be an object")                                                                                 },
        {"{\"execute\":\"echo\",\"arguments\":{\"text\":\"\",\"texts\":1}}",
         ERROR("echo: unknown argument 'texts': it takes 'text', 'count', 'ratio', 'yes', 'list', "
               "'map'")                                                                                                                  },
    };
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++)
        control_peer_expect(peer, cases[i].text, cases[i].answer);
    control_peer_expect(peer, "{\"execute\":\"echo\",\"arguments\":{\"text\":\"\",\"ratio\":1}}",
                        "{\"return\":{\"text\":\"\",\"ratio\":1}}");
}

static void test_queries(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    control_peer_send_text(peer, NO_ARGS("query-version"));
    g_autofree char *version = control_peer_line(peer);
    g_assert_true(g_str_has_prefix(version, "{\"return\":{\"qemu\":{\"major\":"));
    control_peer_send_text(peer, NO_ARGS("query-commands"));
    g_autofree char *list = control_peer_line(peer);
    g_assert_nonnull(strstr(list,
                            "{\"name\":\"nothing\",\"arguments\":\"\",\"help\":\"Does nothing.\","
                            "\"oob\":false}"));
    g_assert_nonnull(strstr(list, "{\"name\":\"query-events\",\"arguments\":\"since:int?\""));
}

/* The next command of a client waits for the answer to the one before; other clients don't. */
static void test_answer_later(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    g_autoptr(ControlPeer) other = control_peer_greeted(f->path);
    control_peer_send_text(peer,
                           "{\"execute\":\"hold\",\"id\":1}{\"execute\":\"nothing\",\"id\":2}");
    control_peer_expect(other, NO_ARGS("nothing"), "{\"return\":{}}");
    g_assert_nonnull(f->held);
    control_reply(g_steal_pointer(&f->held), json_object_new_string("done"));
    g_autofree char *first = control_peer_line(peer);
    g_autofree char *second = control_peer_line(peer);
    g_assert_cmpstr(first, ==, "{\"return\":\"done\",\"id\":1}");
    g_assert_cmpstr(second, ==, "{\"return\":{},\"id\":2}");
}

/* Whoever answers is in the middle of something: nothing is run from within. */
static void test_answer_is_no_call(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    control_peer_send_text(peer, NO_ARGS("hold") NO_ARGS("hold"));
    while (!f->held)
        g_main_context_iteration(NULL, FALSE);
    control_reply(g_steal_pointer(&f->held), NULL);
    g_assert_null(f->held);
    g_free(control_peer_line(peer));
    while (!f->held)
        g_main_context_iteration(NULL, FALSE);
    control_reply(g_steal_pointer(&f->held), NULL);
    g_free(control_peer_line(peer));
}

/* The client goes, or all of the socket, before the next one is run. */
static void test_gone_before_next(Fixture *f, gconstpointer data)
{
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    control_peer_send_text(peer, NO_ARGS("hold") NO_ARGS("hold"));
    while (!f->held)
        g_main_context_iteration(NULL, FALSE);
    control_reply(g_steal_pointer(&f->held), NULL);
    if (data)
        g_clear_pointer(&f->control, control_free);
    else
        g_clear_pointer(&peer, control_peer_free);
    for (guint i = 0; i < 10; i++)
        g_main_context_iteration(NULL, FALSE);
    if (f->held) /* it was read before its end was */
        control_reply(g_steal_pointer(&f->held), NULL);
}

#define OOB(text, id) "{\"exec-oob\":\"echo\",\"arguments\":{\"text\":\"" text "\"},\"id\":" id "}"

static ControlPeer *with_oob(Fixture *f)
{
    ControlPeer *peer = control_peer_greeted(f->path);
    control_peer_expect(peer, ENABLE("\"oob\""), "{\"return\":{}}");
    return peer;
}

/* What may overtake does so; what is sent in order keeps its order, errors included. */
static void test_oob(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) peer = with_oob(f);
    control_peer_send_text(
        peer, "{\"execute\":\"hold\",\"id\":1}{\"execute\":\"nothing\",\"id\":2}nonsense\n");
    control_peer_expect(peer, OOB("a", "3"), "{\"return\":{\"text\":\"a\"},\"id\":3}");
    g_assert_nonnull(f->held);
    control_peer_expect(peer, "{\"exec-oob\":\"nothing\",\"id\":4}",
                        "{\"error\":{\"class\":\"GenericError\",\"desc\":\"nothing can't be run by "
                        "'exec-oob': use 'execute'\"},\"id\":4}");
    control_peer_expect(peer, OOB("b", "5"), "{\"return\":{\"text\":\"b\"},\"id\":5}");
    control_reply(g_steal_pointer(&f->held), NULL);
    static const char *const answers[] = {"{\"return\":{},\"id\":1}", "{\"return\":{},\"id\":2}",
                                          ERROR("expected a JSON object, {...}")};
    for (gsize i = 0; i < G_N_ELEMENTS(answers); i++) {
        g_autofree char *line = control_peer_line(peer);
        g_assert_cmpstr(line, ==, answers[i]);
    }
}

/* So many may wait; then nothing is read, so that a client can't make colod grow. */
static void test_oob_queue(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) peer = with_oob(f);
    control_peer_send_text(peer, NO_ARGS("hold"));
    for (guint i = 0; i < 8; i++)
        control_peer_send_text(peer, NO_ARGS("nothing"));
    control_peer_send_text(peer, OOB("late", "1"));
    while (!f->held)
        g_main_context_iteration(NULL, FALSE);
    /* Another client's answer comes after all that could be read. */
    g_autoptr(ControlPeer) other = control_peer_greeted(f->path);
    control_peer_expect(other, NO_ARGS("nothing"), "{\"return\":{}}");
    guint8 byte;
    g_assert_cmpint(recv(peer->fd, &byte, 1, MSG_DONTWAIT), ==, -1);
    control_reply(g_steal_pointer(&f->held), NULL);
    guint lines = 0;
    gboolean seen = FALSE;
    for (; lines < 10; lines++) {
        g_autofree char *line = control_peer_line(peer);
        seen |= strstr(line, "late") != NULL;
    }
    g_assert_true(seen);
}

/* Long answers to what has waited are no reason to take a client for one that doesn't read. */
static void test_oob_long_answers(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autofree char *text = g_strnfill(4000, 'x');
    g_autoptr(ControlPeer) peer = with_oob(f);
    for (guint i = 0; i < 100; i++) {
        control_event(f->control, "LONG", json_object_new_string(text));
        g_free(control_peer_line(peer));
    }
    control_peer_send_text(peer, NO_ARGS("hold"));
    for (guint i = 0; i < 7; i++)
        control_peer_send_text(peer, NO_ARGS("query-events"));
    control_peer_expect(peer, OOB("a", "1"), "{\"return\":{\"text\":\"a\"},\"id\":1}");
    control_reply(g_steal_pointer(&f->held), NULL);
    for (guint i = 0; i < 8; i++) {
        g_autofree char *line = control_peer_line(peer);
        g_assert_nonnull(line);
    }
}

/* What still runs is answered to a client that sends no more, whichever it is. */
static void test_oob_half_close(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) peer = with_oob(f);
    control_peer_send_text(peer, "{\"exec-oob\":\"urgent\",\"id\":1}" NO_ARGS("nothing"));
    g_assert_cmpint(shutdown(peer->fd, SHUT_WR), ==, 0);
    g_autofree char *first = control_peer_line(peer);
    g_assert_cmpstr(first, ==, "{\"return\":{}}");
    g_assert_nonnull(f->held);
    control_reply(g_steal_pointer(&f->held), NULL);
    g_autofree char *second = control_peer_line(peer);
    g_assert_cmpstr(second, ==, "{\"return\":{},\"id\":1}");
    g_assert_null(control_peer_line(peer));
}

/* It goes while commands wait, and while one that overtook runs. */
static void test_oob_gone(Fixture *f, gconstpointer data)
{
    (void)data;
    ControlPeer *peer = with_oob(f);
    control_peer_send_text(peer, "{\"exec-oob\":\"urgent\"}" NO_ARGS("nothing"));
    while (!f->held)
        g_main_context_iteration(NULL, FALSE);
    control_peer_free(peer);
    g_autoptr(ControlPeer) other = control_peer_greeted(f->path);
    control_peer_expect(other, NO_ARGS("nothing"), "{\"return\":{}}");
    control_reply(g_steal_pointer(&f->held), NULL);
    control_peer_expect(other, NO_ARGS("nothing"), "{\"return\":{}}");
}

static void test_client_gone_before_answer(Fixture *f, gconstpointer data)
{
    (void)data;
    ControlPeer *peer = control_peer_greeted(f->path);
    control_peer_send_text(peer, NO_ARGS("hold"));
    while (!f->held)
        g_main_context_iteration(NULL, FALSE);
    control_peer_free(peer);
    g_autoptr(ControlPeer) other = control_peer_greeted(f->path);
    control_peer_expect(other, NO_ARGS("nothing"), "{\"return\":{}}");
    control_reply(g_steal_pointer(&f->held), NULL);
    control_peer_expect(other, NO_ARGS("nothing"), "{\"return\":{}}");
}

static void test_server_gone_before_answer(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    control_peer_send_text(peer, NO_ARGS("hold"));
    while (!f->held)
        g_main_context_iteration(NULL, FALSE);
    g_clear_pointer(&f->control, control_free);
    control_reply(g_steal_pointer(&f->held), NULL);
    g_assert_null(control_peer_line(peer));
}

/* A handler may end the server, and its answer still arrives. */
static void test_server_ended_by_handler(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    control_peer_expect(peer, NO_ARGS("end") NO_ARGS("nothing"), "{\"return\":{}}");
    g_assert_null(control_peer_line(peer));
    g_assert_null(f->control);
}

/* echo ... | nc -U: the client ends its sending, and gets its answers before the end. */
static void test_half_close(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    control_peer_send_text(peer, NO_ARGS("hold") NO_ARGS("nothing") "{\"exec");
    g_assert_cmpint(shutdown(peer->fd, SHUT_WR), ==, 0);
    while (!f->held)
        g_main_context_iteration(NULL, FALSE);
    control_reply(g_steal_pointer(&f->held), json_object_new_int(1));
    g_autofree char *first = control_peer_line(peer);
    g_autofree char *second = control_peer_line(peer);
    g_assert_cmpstr(first, ==, "{\"return\":1}");
    g_assert_cmpstr(second, ==, "{\"return\":{}}");
    g_assert_null(control_peer_line(peer));
}

/* ---- Events ---- */

static json_object *state_data(const char *state)
{
    json_object *object = json_object_new_object();
    json_object_object_add(object, "state", json_object_new_string(state));
    return object;
}

static void test_event(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) silent = control_peer_greeted(f->path);
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    control_peer_expect(peer, NO_ARGS("qmp_capabilities"), "{\"return\":{}}");
    control_event(f->control, "STATE_CHANGED", state_data("colo"));
    control_event(f->control, "BARE", NULL);
    g_autofree char *first = control_peer_line(peer);
    g_assert_true(
        g_regex_match_simple("^{\"event\":\"STATE_CHANGED\",\"data\":{\"state\":\"colo\"},"
                             "\"timestamp\":{\"seconds\":\\d+,\"microseconds\":\\d+},"
                             "\"sequence\":1}$",
                             first, 0, 0));
    g_autofree char *second = control_peer_line(peer);
    g_assert_true(g_str_has_prefix(second, "{\"event\":\"BARE\",\"timestamp\":{"));
    /* Who has said nothing yet is in negotiation and gets none. */
    control_peer_expect(silent, NO_ARGS("nothing"), "{\"return\":{}}");
    control_event(f->control, "THIRD", NULL);
    g_autofree char *third = control_peer_line(silent);
    g_assert_true(g_str_has_prefix(third, "{\"event\":\"THIRD\""));
}

/* Text of strangers that is no UTF-8 leaves as UTF-8. */
static void test_event_with_bad_text(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    control_peer_expect(peer, NO_ARGS("nothing"), "{\"return\":{}}");
    control_event(f->control, "ERROR", state_data("\xff\n\x01é"));
    g_autofree char *line = control_peer_line(peer);
    g_assert_true(g_utf8_validate(line, -1, NULL));
    g_assert_nonnull(strstr(line, "{\"state\":\"\xef\xbf\xbd\\n\\u0001é\"}"));
}

static json_object *query_events(ControlPeer *peer, const char *command)
{
    control_peer_send_text(peer, command);
    g_autofree char *line = control_peer_line(peer);
    json_object *answer = json_tokener_parse(line);
    json_object *list = json_object_get(json_object_object_get(answer, "return"));
    g_assert_nonnull(list);
    json_object_put(answer);
    return list;
}

static gint64 sequence_at(json_object *list, gsize index)
{
    json_object *event = json_object_array_get_idx(list, index);
    return json_object_get_int64(json_object_object_get(event, "sequence"));
}

static void expect_events(ControlPeer *peer, const char *command, gsize count, gint64 first)
{
    json_object *list = query_events(peer, command);
    g_assert_cmpuint(json_object_array_length(list), ==, count);
    for (gsize i = 0; i < count; i++)
        g_assert_cmpint(sequence_at(list, i), ==, first + (gint64)i);
    json_object_put(list);
}

static void test_query_events(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    expect_events(peer, NO_ARGS("query-events"), 0, 0);
    g_autoptr(ControlPeer) late = control_peer_greeted(f->path);
    for (guint i = 0; i < 300; i++)
        control_event(f->control, "TICK", NULL);
    expect_events(late, NO_ARGS("query-events"), 256, 45);
    expect_events(late, "{\"execute\":\"query-events\",\"arguments\":{\"since\":298}}", 2, 299);
    expect_events(late, "{\"execute\":\"query-events\",\"arguments\":{\"since\":300}}", 0, 0);
    expect_events(late, "{\"execute\":\"query-events\",\"arguments\":{\"since\":-5}}", 256, 45);
    expect_events(late, "{\"execute\":\"query-events\",\"arguments\":{\"since\":1000}}", 0, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add(name, Fixture, NULL, set_up, function, tear_down)
    ADD("/control/greeting", test_greeting);
    ADD("/control/id", test_id);
    ADD("/control/wrong-messages", test_wrong_messages);
    ADD("/control/queries", test_queries);
    ADD("/control/answer-later", test_answer_later);
    ADD("/control/answer-is-no-call", test_answer_is_no_call);
    ADD("/control/client-gone-before-next", test_gone_before_next);
    g_test_add("/control/socket-gone-before-next", Fixture, "socket", set_up, test_gone_before_next,
               tear_down);
    ADD("/control/oob", test_oob);
    ADD("/control/oob-queue", test_oob_queue);
    ADD("/control/oob-long-answers", test_oob_long_answers);
    ADD("/control/oob-half-close", test_oob_half_close);
    ADD("/control/oob-gone", test_oob_gone);
    ADD("/control/client-gone", test_client_gone_before_answer);
    ADD("/control/server-gone", test_server_gone_before_answer);
    ADD("/control/ended-by-handler", test_server_ended_by_handler);
    ADD("/control/half-close", test_half_close);
    ADD("/control/event", test_event);
    ADD("/control/event-with-bad-text", test_event_with_bad_text);
    ADD("/control/query-events", test_query_events);
    return g_test_run();
}
