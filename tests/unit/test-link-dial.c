/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A link that finds no peer: answers that aren't, and addresses that nobody can use. This side gets
 * a reason.
 */
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "colo/link/link_internal.h"
#include "common/endian.h"
#include "common/fd.h"
#include "tests/support/link-end.h"

/* ---- Answers that aren't ---- */

/* A listening socket that says this to whoever comes. */
static void expect_dial_fails(const void *bytes, gsize len, LinkError code, const char *reported)
{
    struct sockaddr_storage address;
    socklen_t address_len = sizeof(address);
    g_autoptr(LinkEnd) any = link_end_new(NULL, 0);
    COLO_AUTO_FD probe = stranger_connect(link_end_port(any));
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
    expect_answer_fails(99, 2, "{}", LINK_ERROR_PROTOCOL, "protocol versions 4 and 99");
    expect_answer_fails(2, 3, "{\"reason\":\"we are newer\"}", LINK_ERROR_REFUSED, "we are newer");
    expect_answer_fails(LINK_PROTOCOL, 3, "{}", LINK_ERROR_REFUSED, "no reason was given");
    expect_answer_fails(LINK_PROTOCOL, 1, STRANGER_HELLO, LINK_ERROR_PROTOCOL, "a hello where");
    expect_answer_fails(LINK_PROTOCOL, 2, STRANGER_HELLO, LINK_ERROR_PROTOCOL, "without a session");
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
    COLO_AUTO_FD probe = stranger_connect(link_end_port(any));
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
    g_autofree char *taken = g_strdup_printf("127.0.0.1:%u", link_end_port(end));
    g_autofree char *taken_text =
        g_strdup_printf("can't listen on %s: Address already in use (another", taken);
    expect_no_link(taken, NULL, taken_text);
    expect_no_link("127.0.0.1", NULL, "listen: '127.0.0.1' is not an address");
    expect_no_link("127.0.0.1:0", "nonsense", "peer: 'nonsense' is not an address");
    expect_no_link("127.0.0.1:0", "unix:beta", "peer: 'unix:beta' is not an address: unix: needs");
    expect_no_link("unix:/proc/link", NULL, "can't listen on unix:/proc/link: ");
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

/* The socket's own name for itself means nothing elsewhere: a program has bound it by a short one. */
static void test_relative_socket(void)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *folder = g_dir_make_tmp("colo-link-XXXXXX", &error);
    g_autofree char *before = g_get_current_dir();
    g_autofree char *own_address = g_strdup_printf("unix:%s/link", folder);
    g_autofree char *peer = g_strdup_printf("unix:%s/short", folder);
    g_autofree char *path = g_build_filename(folder, "short", NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "short"};
    g_assert_no_error(error);
    g_autoptr(LinkEnd) primary = link_end_new(&(LinkEndOptions){.listen = own_address}, 0);
    /* Of the primary: its own socket is bound again, as "short". */
    Link *link = primary->link;
    UnixListen *own = &link->listener.socket;
    COLO_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    g_assert_cmpint(g_chdir(folder), ==, 0);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    g_assert_cmpint(g_chdir(before), ==, 0);
    g_assert_cmpint(listen(fd, 8), ==, 0);
    g_assert_cmpint(dup2(fd, own->fd), ==, own->fd);
    g_autoptr(LinkEnd) secondary = link_end_new(&(LinkEndOptions){.peer = peer}, 0);
    link_end_accept(primary, "alpha");
    link_end_dial(secondary, "beta");
    link_end_wait(primary->ups && secondary->ups);
    g_clear_pointer(&secondary, link_end_free);
    g_clear_pointer(&primary, link_end_free);
    g_assert_cmpint(g_unlink(path), ==, 0);
    g_assert_cmpint(g_rmdir(folder), ==, 0);
}

/* A colod that was killed and comes again finds its port free, though connections linger. */
static void test_listen_again(void)
{
    g_autoptr(LinkEnd) primary = NULL;
    g_autoptr(LinkEnd) secondary = NULL;
    link_end_pair(NULL, &primary, &secondary);
    g_autofree char *listen = g_strdup_printf("127.0.0.1:%u", link_end_port(primary));
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

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/link-refuse/bad-answers", test_bad_answers);
    g_test_add_func("/link-refuse/silent-answer", test_silent_answer);
    g_test_add_func("/link-refuse/addresses", test_addresses);
    g_test_add_func("/link-refuse/unknown-peer", test_unknown_peer);
    g_test_add_func("/link-refuse/no-peer", test_no_peer);
    g_test_add_func("/link-refuse/listen-again", test_listen_again);
    g_test_add_func("/link-refuse/relative-socket", test_relative_socket);
    return g_test_run();
}
