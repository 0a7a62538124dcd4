/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Everybody who must not become the peer: strangers, broken hellos, the wrong node, the wrong time.
 * Each gets a reason, and so does this side; none disturbs the peer that is there or comes next.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "colo/link/link_internal.h"
#include "common/fd.h"
#include "tests/support/link-end.h"

/* A stranger who says this; what it is told, and what our side reports. */
static void expect_refused(LinkEnd *end, const void *data, gsize len, gboolean half_close,
                           LinkError code, const char *told, const char *reported)
{
    COLO_AUTO_FD fd = stranger_connect(link_end_port(end));
    stranger_send(fd, data, len);
    if (half_close)
        shutdown(fd, SHUT_WR);
    g_autofree char *answer = stranger_read_to_end(fd);
    if (told && (!g_str_has_prefix(answer, "COLOLINK") || !strstr(answer, told)))
        g_error("told '%s', not '%s'", answer, told);
    link_end_wait(link_end_has_reason(end, code, reported));
}

static void expect_hello_refused(LinkEnd *end, unsigned version, unsigned kind, const char *body,
                                 LinkError code, const char *told, const char *reported)
{
    gsize len;
    g_autoptr(GBytes) bytes = stranger_hello(version, kind, body);
    const void *data = g_bytes_get_data(bytes, &len);
    expect_refused(end, data, len, FALSE, code, told, reported);
}

/* A proper peer still finds its way. */
static void expect_usable(LinkEnd *primary)
{
    g_autoptr(LinkEnd) secondary = link_end_new(NULL, link_end_port(primary));
    link_end_dial(secondary, "beta");
    unsigned before = primary->ups;
    link_end_wait(primary->ups == before + 1 && secondary->ups == 1);
    link_close(secondary->link);
    before = primary->downs;
    link_end_wait(primary->downs == before + 1);
    g_assert_cmpuint(secondary->downs, ==, 0);
}

/* ---- Strangers ---- */

static void test_http(void)
{
    g_autoptr(LinkEnd) end = link_end_new_accepting(NULL);
    const char *request = "GET / HTTP/1.1\r\nHost: alpha\r\n\r\n";
    expect_refused(end, request, strlen(request), FALSE, LINK_ERROR_PROTOCOL,
                   "not the protocol of colo's link",
                   "connection from 127.0.0.1: this is not the protocol");
    expect_usable(end);
}

/* Somebody who sends for ever is read, not kept, and still told why. */
static void test_flood(void)
{
    g_autoptr(LinkEnd) end = link_end_new_accepting(NULL);
    gsize len = (gsize)8 * 1024 * 1024;
    g_autofree char *junk = g_strnfill(len, 'x');
    expect_refused(end, junk, len, TRUE, LINK_ERROR_PROTOCOL, "not the protocol", "xxxx");
    expect_usable(end);
}

static void test_no_hello(void)
{
    g_autoptr(LinkEnd) end = link_end_new_accepting(NULL);
    expect_refused(end, "", 0, TRUE, LINK_ERROR_CLOSED, NULL, "no hello");
    expect_refused(end, "COLOLINK", 8, TRUE, LINK_ERROR_CLOSED, NULL, "no hello");
    expect_usable(end);
}

static void test_reset(void)
{
    g_autoptr(LinkEnd) end = link_end_new_accepting(NULL);
    struct linger abort = {.l_onoff = 1};
    int fd = stranger_connect(link_end_port(end));
    stranger_send(fd, "COLO", 4);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
    close(fd);
    link_end_wait(end->failures == 1);
    expect_usable(end);
}

static void test_silent_stranger(void)
{
    g_autoptr(LinkEnd) end = link_end_new_accepting(&(LinkEndOptions){.handshake_ms = 50});
    COLO_AUTO_FD fd = stranger_connect(link_end_port(end));
    g_autofree char *answer = stranger_read_to_end(fd);
    g_assert_cmpstr(answer, ==, "");
    link_end_wait(link_end_has_reason(end, LINK_ERROR_TIMEOUT, "not finished within 50 ms"));
}

/* More than are allowed: the oldest goes, the newest is served. */
static void test_many_strangers(void)
{
    g_autoptr(LinkEnd) end = link_end_new_accepting(NULL);
    int fds[100];
    for (gsize i = 0; i < G_N_ELEMENTS(fds); i++)
        fds[i] = stranger_connect(link_end_port(end));
    expect_usable(end);
    for (gsize i = 0; i < G_N_ELEMENTS(fds); i++)
        close(fds[i]);
}

/* The same reason is reported once, however often it comes; another is told again. */
static void test_reported_once(void)
{
    g_autoptr(LinkEnd) end = link_end_new_accepting(NULL);
    for (int i = 0; i < 10; i++)
        expect_refused(end, "hello", 5, FALSE, LINK_ERROR_PROTOCOL, "not the protocol", "hello");
    g_assert_cmpuint(end->failures, ==, 1);
    expect_refused(end, "other", 5, FALSE, LINK_ERROR_PROTOCOL, "not the protocol", "other");
    g_assert_cmpuint(end->failures, ==, 2);
}

/* ---- Hellos ---- */

static void test_bad_hellos(void)
{
    g_autoptr(LinkEnd) end = link_end_new_accepting(NULL);
    expect_hello_refused(end, 99, 1, STRANGER_HELLO, LINK_ERROR_PROTOCOL,
                         "protocol versions 4 and 99", "protocol versions 4 and 99");
    expect_hello_refused(end, LINK_PROTOCOL, 9, STRANGER_HELLO, LINK_ERROR_PROTOCOL, "kind 9",
                         "kind 9");
    expect_hello_refused(end, LINK_PROTOCOL, 2, STRANGER_HELLO, LINK_ERROR_PROTOCOL,
                         "an answer where", "an answer where");
    expect_hello_refused(end, LINK_PROTOCOL, 3, "{\"reason\":\"no\"}", LINK_ERROR_PROTOCOL,
                         "an answer where", "an answer where");
    expect_hello_refused(end, LINK_PROTOCOL, 1, "{]", LINK_ERROR_PROTOCOL, "not a JSON object",
                         "not a JSON object");
    expect_hello_refused(end, LINK_PROTOCOL, 1, "{}", LINK_ERROR_PROTOCOL, "names no channel",
                         "names no channel");
    expect_hello_refused(end, LINK_PROTOCOL, 1, "{\"channel\":\"video\"}", LINK_ERROR_PROTOCOL,
                         "names no channel", "names no channel");
    /* This end's VM has no disks. */
    expect_hello_refused(end, LINK_PROTOCOL, 1, "{\"channel\":\"disks\"}", LINK_ERROR_PROTOCOL,
                         "names no channel", "names no channel");
    expect_hello_refused(end, LINK_PROTOCOL, 1, "{\"channel\":\"control\"}", LINK_ERROR_REFUSED,
                         "version, role and name", "refused a node (127.0.0.1)");
    guint8 huge[16] = "COLOLINK\0\4\0\1\xff\xff\xff\xff";
    expect_refused(end, huge, sizeof(huge), FALSE, LINK_ERROR_PROTOCOL, "4294967295 bytes",
                   "4294967295 bytes");
    expect_usable(end);
}

/* A hello that ends in the middle, at each byte. */
static void test_truncated_hello(void)
{
    g_autoptr(LinkEnd) end = link_end_new_accepting(NULL);
    gsize len;
    g_autoptr(GBytes) bytes = stranger_hello(LINK_PROTOCOL, 1, STRANGER_HELLO);
    const void *data = g_bytes_get_data(bytes, &len);
    for (gsize part = 0; part < len; part++) {
        COLO_AUTO_FD fd = stranger_connect(link_end_port(end));
        stranger_send(fd, data, part);
        shutdown(fd, SHUT_WR);
        g_autofree char *answer = stranger_read_to_end(fd);
        g_assert_cmpstr(answer, ==, "");
    }
    g_assert_cmpuint(end->ups, ==, 0);
    expect_usable(end);
}

static void test_unknown_session(void)
{
    g_autoptr(LinkEnd) end = link_end_new_accepting(NULL);
    const char *session = "0123456789abcdef0123456789abcdef";
    g_autofree char *body =
        g_strdup_printf("{\"channel\":\"packets\",\"session\":\"%s\"}", session);
    expect_hello_refused(end, LINK_PROTOCOL, 1, body, LINK_ERROR_REFUSED,
                         "no pairing with that session", "refused a packets connection");
    expect_hello_refused(end, LINK_PROTOCOL, 1, "{\"channel\":\"checkpoint\"}", LINK_ERROR_REFUSED,
                         "no pairing with that session", "refused a checkpoint connection");
    expect_usable(end);
}

/* ---- The wrong node ---- */

typedef struct {
    const char *name, *uuid, *told, *reported;
} WrongNode;

static void test_wrong_node(gconstpointer data)
{
    const WrongNode *wrong = data;
    g_autoptr(LinkEnd) primary = link_end_new_accepting(NULL);
    g_autoptr(LinkEnd) secondary = link_end_new(NULL, link_end_port(primary));
    json_object *hello = link_end_hello(wrong->name, wrong->uuid);
    link_dial(secondary->link, hello);
    json_object_put(hello);
    link_end_wait(primary->failures && secondary->failures);
    g_assert_true(link_end_has_reason(secondary, LINK_ERROR_REFUSED, wrong->told));
    g_assert_true(link_end_has_reason(primary, LINK_ERROR_REFUSED, wrong->reported));
    g_assert_cmpuint(primary->ups + secondary->ups, ==, 0);
    link_idle(secondary->link, "test");
    expect_usable(primary);
}

static void test_identity(void)
{
    g_autoptr(LinkEnd) primary = link_end_new_accepting(NULL);
    g_autoptr(LinkEnd) secondary = link_end_new(NULL, link_end_port(primary));
    json_object *hello = link_end_hello("beta", LINK_END_UUID);
    json_object_object_add(json_object_object_get(hello, "identity"), "machine",
                           json_object_new_string("pc-q35-7.2"));
    link_dial(secondary->link, hello);
    json_object_put(hello);
    link_end_wait(primary->failures && secondary->failures);
    /* Each reads it from its own place. */
    g_assert_true(link_end_has_reason(primary, LINK_ERROR_REFUSED,
                                      "refused beta (127.0.0.1): machine: pc-i440fx-7.2 here, "
                                      "pc-q35-7.2 there"));
    g_assert_true(link_end_has_reason(secondary, LINK_ERROR_REFUSED,
                                      "refused: machine: pc-q35-7.2 here, pc-i440fx-7.2 there"));
}

static void test_itself(void)
{
    g_autoptr(LinkEnd) probe = link_end_new(NULL, 0);
    g_autofree char *listen = g_strdup_printf("127.0.0.1:%u", link_end_port(probe));
    g_clear_pointer(&probe, link_end_free);
    g_autoptr(LinkEnd) end = link_end_new(&(LinkEndOptions){.listen = listen, .peer = listen}, 0);
    link_end_dial(end, "alpha");
    link_end_wait(end->failures >= 2);
    g_assert_true(link_end_has_reason(end, LINK_ERROR_REFUSED, "looking for a primary itself"));
}

/* ---- The wrong time ---- */

static void test_idle(void)
{
    g_autoptr(LinkEnd) idle = link_end_new(NULL, 0);
    g_autoptr(LinkEnd) secondary = link_end_new(NULL, link_end_port(idle));
    link_idle(idle->link, "completed: its disks are being merged");
    link_end_dial(secondary, "beta");
    link_end_wait(secondary->failures && idle->failures);
    g_assert_true(link_end_has_reason(secondary, LINK_ERROR_NOT_NOW,
                                      "completed: its disks are being merged"));
    g_assert_true(link_end_has_reason(idle, LINK_ERROR_NOT_NOW, "refused beta (127.0.0.1)"));
    /* It goes on trying by itself. */
    link_end_accept(idle, "alpha");
    link_end_wait(idle->ups && secondary->ups);
}

static void test_both_dial(void)
{
    g_autoptr(LinkEnd) one = link_end_new(NULL, 0);
    g_autoptr(LinkEnd) two = link_end_new(NULL, link_end_port(one));
    link_end_dial(one, "alpha");
    link_end_dial(two, "beta");
    link_end_wait(link_end_has_reason(two, LINK_ERROR_REFUSED, "looking for a primary itself"));
    link_end_wait(link_end_has_reason(one, LINK_ERROR_REFUSED, "refused beta"));
}

static void test_already_paired(void)
{
    g_autoptr(LinkEnd) primary = NULL;
    g_autoptr(LinkEnd) secondary = NULL;
    link_end_pair(NULL, &primary, &secondary);
    g_autoptr(LinkEnd) third = link_end_new(NULL, link_end_port(primary));
    link_end_dial(third, "gamma");
    link_end_wait(third->failures && primary->failures);
    g_assert_true(link_end_has_reason(third, LINK_ERROR_REFUSED, "already paired with beta"));
    g_assert_true(link_end_has_reason(primary, LINK_ERROR_REFUSED, "refused gamma"));
    link_send(primary->link, LINK_MSG_BLANK, NULL, 0);
    link_end_wait(secondary->messages->len == 1);
    g_assert_cmpuint(primary->downs + secondary->downs, ==, 0);
}

/* ---- Half a pairing ---- */

static void test_half_made_times_out(void)
{
    g_autoptr(LinkEnd) end = link_end_new_accepting(&(LinkEndOptions){.handshake_ms = 50});
    COLO_AUTO_FD fd = stranger_connect(link_end_port(end));
    g_autofree char *session = stranger_begin_pairing(fd);
    link_end_wait(link_end_has_reason(end, LINK_ERROR_TIMEOUT, "eve (127.0.0.1) has begun"));
    g_autofree char *rest = stranger_read_to_end(fd);
    g_assert_cmpstr(rest, ==, "");
    /* Its session is worth nothing any more. */
    g_autofree char *body =
        g_strdup_printf("{\"channel\":\"packets\",\"session\":\"%s\"}", session);
    expect_hello_refused(end, LINK_PROTOCOL, 1, body, LINK_ERROR_REFUSED,
                         "no pairing with that session", "refused a packets connection");
}

static void test_half_made_blocks_others(void)
{
    g_autoptr(LinkEnd) end = link_end_new_accepting(NULL);
    COLO_AUTO_FD fd = stranger_connect(link_end_port(end));
    g_autofree char *session = stranger_begin_pairing(fd);
    /* It is the same one: it may ask again. */
    expect_hello_refused(end, LINK_PROTOCOL, 1, STRANGER_HELLO, LINK_ERROR_NOT_NOW,
                         "already pairing with eve", "already pairing with eve");
    /* When it goes, the place is free at once. */
    colo_fd_close(&fd);
    link_end_wait(link_end_has_reason(end, LINK_ERROR_CLOSED, "eve (127.0.0.1) has begun to pair"));
    expect_usable(end);
}

static void test_channel_twice(void)
{
    g_autoptr(LinkEnd) end = link_end_new_accepting(NULL);
    COLO_AUTO_FD control = stranger_connect(link_end_port(end));
    COLO_AUTO_FD packets = stranger_connect(link_end_port(end));
    g_autofree char *session = stranger_begin_pairing(control);
    g_autofree char *body =
        g_strdup_printf("{\"channel\":\"packets\",\"session\":\"%s\"}", session);
    unsigned kind;
    stranger_send_bytes(packets, stranger_hello(LINK_PROTOCOL, 1, body));
    json_object_put(stranger_read_hello(packets, &kind));
    g_assert_cmpuint(kind, ==, 2);
    expect_hello_refused(end, LINK_PROTOCOL, 1, body, LINK_ERROR_REFUSED,
                         "no pairing with that session", "refused a packets connection");
    g_assert_cmpuint(end->ups, ==, 0);
}

/* ---- Too much ---- */

/* Out of descriptors: said once, not spun on, and over when they are back. */
static void test_no_descriptors(void)
{
    g_autoptr(LinkEnd) end = link_end_new_accepting(NULL);
    struct rlimit before, none;
    /* Made before, connected after. */
    COLO_AUTO_FD fd = stranger_connect(link_end_port(end));
    int next = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    close(next);
    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &before), ==, 0);
    none = before;
    none.rlim_cur = (rlim_t)next;
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &none), ==, 0);
    link_end_wait(end->failures == 1);
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &before), ==, 0);
    g_assert_true(link_end_has_reason(end, LINK_ERROR_ADDRESS, "can't accept connections for now"));
    expect_usable(end);
}

int main(int argc, char **argv)
{
    static const WrongNode other_vm = {"beta", "00000000-0000-4000-8000-000000000000",
                                       "refused: another VM, uuid: 00000000",
                                       "another VM, uuid: " LINK_END_UUID " here"};
    static const WrongNode same_name = {"alpha", LINK_END_UUID, "both nodes are named 'alpha'",
                                        "both nodes are named 'alpha'"};
    g_test_init(&argc, &argv, NULL);
    link_end_add_test("/link-refuse/http", test_http);
    link_end_add_test("/link-refuse/flood", test_flood);
    link_end_add_test("/link-refuse/no-hello", test_no_hello);
    link_end_add_test("/link-refuse/reset", test_reset);
    link_end_add_test("/link-refuse/silent-stranger", test_silent_stranger);
    link_end_add_test("/link-refuse/many-strangers", test_many_strangers);
    link_end_add_test("/link-refuse/reported-once", test_reported_once);
    link_end_add_test("/link-refuse/bad-hellos", test_bad_hellos);
    link_end_add_test("/link-refuse/truncated-hello", test_truncated_hello);
    link_end_add_test("/link-refuse/unknown-session", test_unknown_session);
    link_end_add_data_test("/link-refuse/other-vm", &other_vm, test_wrong_node);
    link_end_add_data_test("/link-refuse/same-name", &same_name, test_wrong_node);
    link_end_add_test("/link-refuse/identity", test_identity);
    g_test_add_func("/link-refuse/itself", test_itself);
    link_end_add_test("/link-refuse/idle", test_idle);
    link_end_add_test("/link-refuse/both-dial", test_both_dial);
    link_end_add_test("/link-refuse/already-paired", test_already_paired);
    link_end_add_test("/link-refuse/half-made-times-out", test_half_made_times_out);
    link_end_add_test("/link-refuse/half-made-blocks-others", test_half_made_blocks_others);
    link_end_add_test("/link-refuse/channel-twice", test_channel_twice);
    link_end_add_test("/link-refuse/no-descriptors", test_no_descriptors);
    return g_test_run();
}
