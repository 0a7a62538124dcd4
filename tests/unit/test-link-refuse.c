/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Everybody who must not become the peer: strangers, broken hellos, the wrong node, the wrong time.
 * Each gets a reason, and so does this side; none disturbs the peer that is there or comes next.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "colo/link/link_internal.h"
#include "common/endian.h"
#include "common/fd.h"
#include "tests/support/link-end.h"

#define CONTROL_HELLO                                                                              \
    "{\"channel\":\"control\",\"role\":\"secondary\",\"colo\":\"" COLO_VERSION                     \
    "\",\"name\":\"eve\",\"identity\":{\"uuid\":\"" LINK_END_UUID                                  \
    "\",\"machine\":\"pc-i440fx-7.2\"}}"

/* A stranger who says this; what it is told, and what our side reports. */
static void expect_refused(LinkEnd *end, const void *data, gsize len, gboolean half_close,
                           LinkError code, const char *told, const char *reported)
{
    COLO_AUTO_FD fd = stranger_connect(link_port(end->link));
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
    g_autoptr(LinkEnd) secondary = link_end_new(NULL, link_port(primary->link));
    link_end_dial(secondary, "beta");
    unsigned before = primary->ups;
    link_end_wait(primary->ups == before + 1 && secondary->ups == 1);
    link_close(secondary->link);
    before = primary->downs;
    link_end_wait(primary->downs == before + 1);
    g_assert_cmpuint(secondary->downs, ==, 0);
}

static LinkEnd *accepting_with(const LinkEndOptions *options)
{
    LinkEnd *end = link_end_new(options, 0);
    link_end_accept(end, "alpha");
    return end;
}

static LinkEnd *accepting(void)
{
    return accepting_with(NULL);
}

/* ---- Strangers ---- */

static void test_http(void)
{
    g_autoptr(LinkEnd) end = accepting();
    const char *request = "GET / HTTP/1.1\r\nHost: alpha\r\n\r\n";
    expect_refused(end, request, strlen(request), FALSE, LINK_ERROR_PROTOCOL,
                   "not the protocol of colo's link",
                   "connection from 127.0.0.1: this is not the protocol");
    expect_usable(end);
}

/* Somebody who sends for ever is read, not kept, and still told why. */
static void test_flood(void)
{
    g_autoptr(LinkEnd) end = accepting();
    gsize len = (gsize)8 * 1024 * 1024;
    g_autofree char *junk = g_strnfill(len, 'x');
    expect_refused(end, junk, len, TRUE, LINK_ERROR_PROTOCOL, "not the protocol", "xxxx");
    expect_usable(end);
}

static void test_no_hello(void)
{
    g_autoptr(LinkEnd) end = accepting();
    expect_refused(end, "", 0, TRUE, LINK_ERROR_CLOSED, NULL, "no hello");
    expect_refused(end, "COLOLINK", 8, TRUE, LINK_ERROR_CLOSED, NULL, "no hello");
    expect_usable(end);
}

static void test_reset(void)
{
    g_autoptr(LinkEnd) end = accepting();
    struct linger abort = {.l_onoff = 1};
    int fd = stranger_connect(link_port(end->link));
    stranger_send(fd, "COLO", 4);
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
    close(fd);
    link_end_wait(end->failures == 1);
    expect_usable(end);
}

static void test_silent_stranger(void)
{
    g_autoptr(LinkEnd) end = accepting_with(&(LinkEndOptions){.handshake_ms = 50});
    COLO_AUTO_FD fd = stranger_connect(link_port(end->link));
    g_autofree char *answer = stranger_read_to_end(fd);
    g_assert_cmpstr(answer, ==, "");
    link_end_wait(link_end_has_reason(end, LINK_ERROR_TIMEOUT, "not finished within 50 ms"));
}

/* More than are allowed: the oldest goes, the newest is served. */
static void test_many_strangers(void)
{
    g_autoptr(LinkEnd) end = accepting();
    int fds[100];
    for (gsize i = 0; i < G_N_ELEMENTS(fds); i++)
        fds[i] = stranger_connect(link_port(end->link));
    expect_usable(end);
    for (gsize i = 0; i < G_N_ELEMENTS(fds); i++)
        close(fds[i]);
}

/* The same reason is reported once, however often it comes; another is told again. */
static void test_reported_once(void)
{
    g_autoptr(LinkEnd) end = accepting();
    for (int i = 0; i < 10; i++)
        expect_refused(end, "hello", 5, FALSE, LINK_ERROR_PROTOCOL, "not the protocol", "hello");
    g_assert_cmpuint(end->failures, ==, 1);
    expect_refused(end, "other", 5, FALSE, LINK_ERROR_PROTOCOL, "not the protocol", "other");
    g_assert_cmpuint(end->failures, ==, 2);
}

/* ---- Hellos ---- */

static void test_bad_hellos(void)
{
    g_autoptr(LinkEnd) end = accepting();
    expect_hello_refused(end, 99, 1, CONTROL_HELLO, LINK_ERROR_PROTOCOL,
                         "protocol versions 2 and 99", "protocol versions 2 and 99");
    expect_hello_refused(end, LINK_PROTOCOL, 9, CONTROL_HELLO, LINK_ERROR_PROTOCOL, "kind 9",
                         "kind 9");
    expect_hello_refused(end, LINK_PROTOCOL, 2, CONTROL_HELLO, LINK_ERROR_PROTOCOL,
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
    guint8 huge[16] = "COLOLINK\0\2\0\1\xff\xff\xff\xff";
    expect_refused(end, huge, sizeof(huge), FALSE, LINK_ERROR_PROTOCOL, "4294967295 bytes",
                   "4294967295 bytes");
    expect_usable(end);
}

/* A hello that ends in the middle, at each byte. */
static void test_truncated_hello(void)
{
    g_autoptr(LinkEnd) end = accepting();
    gsize len;
    g_autoptr(GBytes) bytes = stranger_hello(LINK_PROTOCOL, 1, CONTROL_HELLO);
    const void *data = g_bytes_get_data(bytes, &len);
    for (gsize part = 0; part < len; part++) {
        COLO_AUTO_FD fd = stranger_connect(link_port(end->link));
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
    g_autoptr(LinkEnd) end = accepting();
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
    g_autoptr(LinkEnd) primary = accepting();
    g_autoptr(LinkEnd) secondary = link_end_new(NULL, link_port(primary->link));
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
    g_autoptr(LinkEnd) primary = accepting();
    g_autoptr(LinkEnd) secondary = link_end_new(NULL, link_port(primary->link));
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
    g_autofree char *listen = g_strdup_printf("127.0.0.1:%u", link_port(probe->link));
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
    g_autoptr(LinkEnd) secondary = link_end_new(NULL, link_port(idle->link));
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
    g_autoptr(LinkEnd) two = link_end_new(NULL, link_port(one->link));
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
    g_autoptr(LinkEnd) third = link_end_new(NULL, link_port(primary->link));
    link_end_dial(third, "gamma");
    link_end_wait(third->failures && primary->failures);
    g_assert_true(link_end_has_reason(third, LINK_ERROR_REFUSED, "already paired with beta"));
    g_assert_true(link_end_has_reason(primary, LINK_ERROR_REFUSED, "refused gamma"));
    link_send(primary->link, LINK_MSG_BLANK, NULL, 0);
    link_end_wait(secondary->messages->len == 1);
    g_assert_cmpuint(primary->downs + secondary->downs, ==, 0);
}

/* ---- Half a pairing ---- */

/* A stranger that gets as far as an answer on control; its session. Free with g_free(). */
static char *begin_pairing(LinkEnd *end, int fd)
{
    unsigned kind;
    (void)end;
    stranger_send_bytes(fd, stranger_hello(LINK_PROTOCOL, 1, CONTROL_HELLO));
    json_object *answer = stranger_read_hello(fd, &kind);
    g_assert_cmpuint(kind, ==, 2);
    g_assert_cmpstr(json_object_get_string(json_object_object_get(answer, "name")), ==, "alpha");
    g_assert_cmpstr(json_object_get_string(json_object_object_get(answer, "role")), ==, "primary");
    char *session = g_strdup(json_object_get_string(json_object_object_get(answer, "session")));
    json_object_put(answer);
    return session;
}

static void test_half_made_times_out(void)
{
    g_autoptr(LinkEnd) end = accepting_with(&(LinkEndOptions){.handshake_ms = 50});
    COLO_AUTO_FD fd = stranger_connect(link_port(end->link));
    g_autofree char *session = begin_pairing(end, fd);
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
    g_autoptr(LinkEnd) end = accepting();
    COLO_AUTO_FD fd = stranger_connect(link_port(end->link));
    g_autofree char *session = begin_pairing(end, fd);
    expect_hello_refused(end, LINK_PROTOCOL, 1, CONTROL_HELLO, LINK_ERROR_REFUSED,
                         "already pairing with eve", "already pairing with eve");
    /* When it goes, the place is free at once. */
    colo_fd_close(&fd);
    link_end_wait(link_end_has_reason(end, LINK_ERROR_CLOSED, "eve (127.0.0.1) has begun to pair"));
    expect_usable(end);
}

static void test_channel_twice(void)
{
    g_autoptr(LinkEnd) end = accepting();
    COLO_AUTO_FD control = stranger_connect(link_port(end->link));
    COLO_AUTO_FD packets = stranger_connect(link_port(end->link));
    g_autofree char *session = begin_pairing(end, control);
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

/* ---- A peer that breaks the protocol once it is up ---- */

typedef struct {
    int control, checkpoint, packets;
} FakePeer;

static void open_other(LinkEnd *end, int *ret_fd, const char *channel, const char *session)
{
    unsigned kind;
    g_autofree char *body =
        g_strdup_printf("{\"channel\":\"%s\",\"session\":\"%s\"}", channel, session);
    *ret_fd = stranger_connect(link_port(end->link));
    stranger_send_bytes(*ret_fd, stranger_hello(LINK_PROTOCOL, 1, body));
    json_object_put(stranger_read_hello(*ret_fd, &kind));
    g_assert_cmpuint(kind, ==, 2);
}

static void fake_peer_open(LinkEnd *end, FakePeer *ret_peer)
{
    ret_peer->control = stranger_connect(link_port(end->link));
    g_autofree char *session = begin_pairing(end, ret_peer->control);
    open_other(end, &ret_peer->packets, "packets", session);
    open_other(end, &ret_peer->checkpoint, "checkpoint", session);
    link_end_wait(end->ups == 1);
}

static void fake_peer_close(FakePeer *peer)
{
    close(peer->control);
    close(peer->checkpoint);
    close(peer->packets);
}

static void expect_down(gboolean on_control, const void *bytes, gsize len, const char *why)
{
    g_autoptr(LinkEnd) end = accepting();
    FakePeer peer;
    fake_peer_open(end, &peer);
    stranger_send(on_control ? peer.control : peer.packets, bytes, len);
    link_end_wait(end->downs == 1);
    g_assert_error(end->down, LINK_ERROR, LINK_ERROR_PROTOCOL);
    if (!strstr(end->down->message, why) ||
        !g_str_has_prefix(end->down->message, "eve (127.0.0.1): "))
        g_error("'%s' doesn't say '%s'", end->down->message, why);
    g_assert_cmpuint(end->messages->len, ==, 0);
    fake_peer_close(&peer);
}

#define NOTHING "\0\0\0\0\0\0\0\0"

static void test_broken_protocol(void)
{
    expect_down(TRUE, "\xff\xff\xff\xff\0\x11\0\0", 8, "4294967295 bytes");
    expect_down(TRUE, "\0\0\0\0\0\x03\0\0", 8, "unknown type 3");
    expect_down(TRUE, "GET / HTTP/1.1\r\n", 16, "control: ");
    expect_down(TRUE, "\0\0\0\x10\0\x01\0\0\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0", 24,
                "heartbeat 5 where 0 belongs");
    /* Of what was sent or not: with another number, and from the future. */
    expect_down(TRUE, "\0\0\0\x18\0\x02\0\0\0\0\0\0\0\0\x27\0" NOTHING NOTHING, 32,
                "the echo of a heartbeat that wasn't sent");
    expect_down(TRUE, "\0\0\0\x18\0\x02\0\0\0\0\0\0\0\0\0\0\x7f\0\0\0\0\0\0\0" NOTHING, 32,
                "the echo of a heartbeat that wasn't sent");
    expect_down(FALSE, "\xff\xff\xff\xff\0\0\0\0\0\0\0\0\0\0\0\0", 16, "packets: a frame");
    expect_down(FALSE, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16, "packets: a frame of 0");
}

/* What came in order before the broken bytes counts. */
static void test_broken_after_good(void)
{
    g_autoptr(LinkEnd) end = accepting();
    FakePeer peer;
    fake_peer_open(end, &peer);
    stranger_send(peer.control, "\0\0\0\x02\0\x20\0\0hi\0\0\0\0\0\x02\0\0", 18);
    link_end_wait(end->downs == 1);
    g_assert_cmpuint(end->messages->len, ==, 1);
    g_assert_cmpstr(g_ptr_array_index(end->messages, 0), ==, "32:hi");
    fake_peer_close(&peer);
}

/* The end of one connection doesn't overtake what was said on control before. */
static void test_control_first(void)
{
    for (int i = 0; i < 50; i++) {
        g_autoptr(LinkEnd) end = accepting();
        FakePeer peer;
        fake_peer_open(end, &peer);
        stranger_send(peer.control, "\0\0\0\x03\0\x18\0\0bye", 11);
        colo_fd_close(i % 2 ? &peer.packets : &peer.checkpoint);
        link_end_wait(end->downs == 1);
        g_assert_cmpuint(end->messages->len, ==, 1);
        fake_peer_close(&peer);
    }
}

/* Silence on control, though everything else is well and packets flow. */
static void test_silence(void)
{
    g_autoptr(LinkEnd) end = accepting_with(&(LinkEndOptions){.interval_ms = 10, .timeout_ms = 60});
    FakePeer peer;
    fake_peer_open(end, &peer);
    while (!end->downs)
        stranger_send(peer.packets, "\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0x", 17);
    g_assert_error(end->down, LINK_ERROR, LINK_ERROR_TIMEOUT);
    g_assert_nonnull(strstr(end->down->message, "no sign of life for"));
    fake_peer_close(&peer);
}

/* Any byte on control is a sign of life, also those of a message that isn't whole. */
static void test_slow_message_is_life(void)
{
    g_autoptr(LinkEnd) end =
        accepting_with(&(LinkEndOptions){.interval_ms = 10, .timeout_ms = 1000});
    FakePeer peer;
    fake_peer_open(end, &peer);
    static const char message[] = "\0\0\0\x28\0\x18\0\0and here forty bytes come one at a time.";
    gint64 begin = g_get_monotonic_time();
    for (gsize i = 0; i < 48; i++) {
        stranger_send(peer.control, message + i, 1);
        while (g_get_monotonic_time() < begin + (gint64)(i + 1) * 50000 && !end->downs)
            g_main_context_iteration(NULL, TRUE);
    }
    link_end_wait(end->messages->len == 1);
    g_assert_cmpuint(end->downs, ==, 0);
    fake_peer_close(&peer);
}

/* ---- Answers that aren't ---- */

/* A listening socket that says this to whoever comes. */
static void expect_dial_fails(const void *bytes, gsize len, LinkError code, const char *reported)
{
    struct sockaddr_storage address;
    socklen_t address_len = sizeof(address);
    g_autoptr(LinkEnd) any = link_end_new(NULL, 0);
    COLO_AUTO_FD probe = stranger_connect(link_port(any->link));
    g_assert_cmpint(getsockname(probe, (struct sockaddr *)&address, &address_len), ==, 0);
    COLO_AUTO_FD server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    memset((char *)&address + 2, 0, 2); /* any port */
    g_assert_cmpint(bind(server, (struct sockaddr *)&address, address_len), ==, 0);
    g_assert_cmpint(listen(server, 8), ==, 0);
    g_assert_cmpint(getsockname(server, (struct sockaddr *)&address, &address_len), ==, 0);
    guint16 port = colo_get_be16((char *)&address + 2);

    g_autoptr(LinkEnd) end = link_end_new(NULL, port);
    link_end_dial(end, "beta");
    while (!end->failures) {
        COLO_AUTO_FD client = accept4(server, NULL, NULL, SOCK_CLOEXEC);
        if (client >= 0) {
            stranger_send(client, bytes, len);
            shutdown(client, SHUT_WR);
            g_autofree char *hello = stranger_read_to_end(client);
        }
        g_main_context_iteration(NULL, FALSE);
    }
    g_autofree char *prefix = g_strdup_printf("127.0.0.1:%u: ", port);
    const GError *reason = g_ptr_array_index(end->reasons, 0);
    g_assert_error(reason, LINK_ERROR, (gint)code);
    if (!strstr(reason->message, reported) || !g_str_has_prefix(reason->message, prefix))
        g_error("'%s' doesn't say '%s'", reason->message, reported);
}

static void expect_answer_fails(unsigned version, unsigned kind, const char *body, LinkError code,
                                const char *reported)
{
    gsize len;
    g_autoptr(GBytes) bytes = stranger_hello(version, kind, body);
    const void *data = g_bytes_get_data(bytes, &len);
    expect_dial_fails(data, len, code, reported);
}

static void test_bad_answers(void)
{
    expect_dial_fails("SSH-2.0-OpenSSH_9.2\r\n", 21, LINK_ERROR_PROTOCOL, "begins with \"SSH-2.0");
    expect_dial_fails("", 0, LINK_ERROR_CLOSED, "no answer");
    expect_dial_fails("COLOLINK", 8, LINK_ERROR_CLOSED, "no answer");
    expect_answer_fails(99, 2, "{}", LINK_ERROR_PROTOCOL, "protocol versions 2 and 99");
    expect_answer_fails(2, 3, "{\"reason\":\"we are newer\"}", LINK_ERROR_REFUSED, "we are newer");
    expect_answer_fails(LINK_PROTOCOL, 3, "{}", LINK_ERROR_REFUSED, "no reason was given");
    expect_answer_fails(LINK_PROTOCOL, 1, CONTROL_HELLO, LINK_ERROR_PROTOCOL, "a hello where");
    expect_answer_fails(LINK_PROTOCOL, 2, CONTROL_HELLO, LINK_ERROR_PROTOCOL, "without a session");
    expect_answer_fails(LINK_PROTOCOL, 2, "{\"session\":\"../../../../etc/passwd0123456789\"}",
                        LINK_ERROR_PROTOCOL, "without a session");
    expect_answer_fails(LINK_PROTOCOL, 2, "{\"session\":\"0123456789abcdef0123456789abcdef\"}",
                        LINK_ERROR_REFUSED, "version, role and name");
    expect_answer_fails(LINK_PROTOCOL, 2,
                        "{\"session\":\"0123456789abcdef0123456789abcdef\",\"role\":\"secondary\","
                        "\"colo\":\"" COLO_VERSION "\",\"name\":\"eve\"}",
                        LINK_ERROR_REFUSED, "role: secondary here, secondary there");
}

/* Somebody who takes the connection and says nothing. */
static void test_silent_answer(void)
{
    g_autoptr(LinkEnd) any = link_end_new(NULL, 0);
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    COLO_AUTO_FD probe = stranger_connect(link_port(any->link));
    g_assert_cmpint(getsockname(probe, (struct sockaddr *)&address, &len), ==, 0);
    COLO_AUTO_FD server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    memset((char *)&address + 2, 0, 2);
    g_assert_cmpint(bind(server, (struct sockaddr *)&address, len), ==, 0);
    g_assert_cmpint(listen(server, 8), ==, 0);
    g_assert_cmpint(getsockname(server, (struct sockaddr *)&address, &len), ==, 0);
    g_autoptr(LinkEnd) end =
        link_end_new(&(LinkEndOptions){.handshake_ms = 50}, colo_get_be16((char *)&address + 2));
    link_end_dial(end, "beta");
    link_end_wait(link_end_has_reason(end, LINK_ERROR_TIMEOUT, "no link within 50 ms"));
}

/* ---- Addresses ---- */

static void expect_no_link(const char *listen, const char *peer, const char *text)
{
    g_autoptr(GError) error = NULL;
    LinkOptions options = {.listen = listen, .peer = peer};
    LinkCallbacks callbacks = {0};
    g_assert_null(link_new(&options, &callbacks, NULL, &error));
    g_assert_error(error, LINK_ERROR, LINK_ERROR_ADDRESS);
    if (!strstr(error->message, text))
        g_error("'%s' doesn't say '%s'", error->message, text);
}

static void test_addresses(void)
{
    g_autoptr(LinkEnd) end = link_end_new(NULL, 0);
    g_autofree char *taken = g_strdup_printf("127.0.0.1:%u", link_port(end->link));
    g_autofree char *taken_text =
        g_strdup_printf("can't listen on %s: Address already in use (another", taken);
    expect_no_link(taken, NULL, taken_text);
    expect_no_link("127.0.0.1", NULL, "listen: '127.0.0.1' is not an address");
    expect_no_link("127.0.0.1:0", "nonsense", "peer: 'nonsense' is not an address");
    expect_no_link("192.0.2.1:9000", NULL, "must be an address of this host");
    expect_no_link("no.such.host.invalid:9000", NULL, "no.such.host.invalid");
}

static void test_unknown_peer(void)
{
    g_autoptr(LinkEnd) end =
        link_end_new(&(LinkEndOptions){.peer = "no.such.host.invalid:9000"}, 0);
    link_end_dial(end, "beta");
    link_end_wait(end->failures);
    g_assert_true(link_end_has_reason(end, LINK_ERROR_ADDRESS, "no.such.host.invalid:9000: can't"));
}

static void test_no_peer(void)
{
    g_autoptr(LinkEnd) end = link_end_new(NULL, 0);
    link_end_dial(end, "beta");
    link_end_wait(end->failures);
    g_assert_true(link_end_has_reason(end, LINK_ERROR_ADDRESS, "no address of a peer"));
}

/* A colod that was killed and comes again finds its port free, though connections linger. */
static void test_listen_again(void)
{
    g_autoptr(LinkEnd) primary = NULL;
    g_autoptr(LinkEnd) secondary = NULL;
    link_end_pair(NULL, &primary, &secondary);
    g_autofree char *listen = g_strdup_printf("127.0.0.1:%u", link_port(primary->link));
    for (int i = 0; i < 3; i++) {
        g_clear_pointer(&primary, link_end_free);
        primary = link_end_new(&(LinkEndOptions){.listen = listen}, 0);
        link_end_wait(secondary->downs == (unsigned)i + 1);
        link_end_accept(primary, "alpha");
        link_end_dial(secondary, "beta");
        link_end_wait(primary->ups == 1);
        link_end_wait(link_is_up(secondary->link));
    }
}

/* Out of descriptors: said once, not spun on, and over when they are back. */
static void test_no_descriptors(void)
{
    g_autoptr(LinkEnd) end = accepting();
    struct rlimit before, none;
    /* Made before, connected after. */
    COLO_AUTO_FD fd = stranger_connect(link_port(end->link));
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
    g_test_add_func("/link-refuse/http", test_http);
    g_test_add_func("/link-refuse/flood", test_flood);
    g_test_add_func("/link-refuse/no-hello", test_no_hello);
    g_test_add_func("/link-refuse/reset", test_reset);
    g_test_add_func("/link-refuse/silent-stranger", test_silent_stranger);
    g_test_add_func("/link-refuse/many-strangers", test_many_strangers);
    g_test_add_func("/link-refuse/reported-once", test_reported_once);
    g_test_add_func("/link-refuse/bad-hellos", test_bad_hellos);
    g_test_add_func("/link-refuse/truncated-hello", test_truncated_hello);
    g_test_add_func("/link-refuse/unknown-session", test_unknown_session);
    g_test_add_data_func("/link-refuse/other-vm", &other_vm, test_wrong_node);
    g_test_add_data_func("/link-refuse/same-name", &same_name, test_wrong_node);
    g_test_add_func("/link-refuse/identity", test_identity);
    g_test_add_func("/link-refuse/itself", test_itself);
    g_test_add_func("/link-refuse/idle", test_idle);
    g_test_add_func("/link-refuse/both-dial", test_both_dial);
    g_test_add_func("/link-refuse/already-paired", test_already_paired);
    g_test_add_func("/link-refuse/half-made-times-out", test_half_made_times_out);
    g_test_add_func("/link-refuse/half-made-blocks-others", test_half_made_blocks_others);
    g_test_add_func("/link-refuse/channel-twice", test_channel_twice);
    g_test_add_func("/link-refuse/broken-protocol", test_broken_protocol);
    g_test_add_func("/link-refuse/broken-after-good", test_broken_after_good);
    g_test_add_func("/link-refuse/control-first", test_control_first);
    g_test_add_func("/link-refuse/silence", test_silence);
    g_test_add_func("/link-refuse/slow-message-is-life", test_slow_message_is_life);
    g_test_add_func("/link-refuse/bad-answers", test_bad_answers);
    g_test_add_func("/link-refuse/silent-answer", test_silent_answer);
    g_test_add_func("/link-refuse/addresses", test_addresses);
    g_test_add_func("/link-refuse/unknown-peer", test_unknown_peer);
    g_test_add_func("/link-refuse/no-peer", test_no_peer);
    g_test_add_func("/link-refuse/listen-again", test_listen_again);
    g_test_add_func("/link-refuse/no-descriptors", test_no_descriptors);
    return g_test_run();
}
