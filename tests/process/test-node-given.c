/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `recover fdset:N`: a pair over sockets that a client of the control sockets has opened. */
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common/fd.h"
#include "common/log.h"
#include "tests/support/control-peer.h"
#include "tests/support/host-pair.h"

/* ---- The client ---- */

static void expect_done(const Host *host, const char *command)
{
    g_autofree char *answer = control_peer_ask(host->config->control_socket, command);
    g_assert_cmpstr(answer, ==, "{\"return\":{}}");
}

static void expect_error(const Host *host, const char *command, const char *text)
{
    g_autofree char *answer = control_peer_ask(host->config->control_socket, command);
    if (!g_str_has_prefix(answer, "{\"error\"") || !strstr(answer, text))
        g_error("%s: '%s' doesn't say '%s'", command, answer, text);
}

static void add_fd(const Host *host, gint64 set, const char *opaque, int fd)
{
    g_autoptr(ControlPeer) peer = control_peer_greeted(host->config->control_socket);
    g_autofree char *command =
        g_strdup_printf("{\"execute\":\"add-fd\",\"arguments\":{\"fdset-id\":%" G_GINT64_FORMAT
                        ",\"opaque\":\"%s\"}}\n",
                        set, opaque);
    control_peer_send_fds(peer, command, &fd, 1);
    g_autofree char *answer = NULL;
    do {
        g_free(answer);
        answer = control_peer_line(peer);
    } while (g_str_has_prefix(answer, "{\"event\""));
    g_assert_true(g_str_has_prefix(answer, "{\"return\":{\"fdset-id\""));
}

static int make_socket(const char *path, gboolean listening)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int result = (listening ? bind : connect)(fd, (struct sockaddr *)&address, sizeof(address));
    g_assert_cmpint(result, ==, 0);
    if (listening)
        g_assert_cmpint(listen(fd, 8), ==, 0);
    return fd;
}

/* Beta gets a connection to `path` for each channel. */
static void add_connections(const Host *beta, gint64 set, const char *path)
{
    static const char *const names[] = {"control", "checkpoint", "packets"};
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++) {
        COLO_AUTO_FD fd = make_socket(path, FALSE);
        add_fd(beta, set, names[i], fd);
    }
}

static guint recover_failures(const Host *host)
{
    g_autofree char *answer =
        control_peer_ask(host->config->control_socket, "{\"execute\":\"query-events\"}");
    g_auto(GStrv) parts = g_strsplit(answer, "RECOVER_FAILED", -1);
    return g_strv_length(parts) - 1;
}

#define RECOVER(uri) "{\"execute\":\"recover\",\"arguments\":{\"uri\":\"" uri "\"}}"
#define PAUSE        "{\"execute\":\"pause\"}"

/* ---- Tests ---- */

static void test_recover(void)
{
    Fixture f;
    start_pair(&f, "none");
    Host *alpha = &f.host[0], *beta = &f.host[1];
    g_autofree char *path = g_build_filename(f.dir, "given", NULL);
    g_autofree char *configured = g_strdup(seek_address(beta->node->seek));
    expect_done(beta, PAUSE);
    WAIT_FOR(alpha->node->state == FSM_P_PAUSED);

    /* Nothing is there yet, and then one is missing: nothing changes. */
    expect_error(beta, RECOVER("fdset:4"), "uri: 'fdset:4': there is no set 4");
    expect_error(alpha, RECOVER("fdset:4"), "can't listen on fdset:4: there is no set 4");
    expect_error(beta, RECOVER("fd:link"), "is for option listen");
    COLO_AUTO_FD listening = make_socket(path, TRUE);
    add_fd(alpha, 4, "listen", listening);
    expect_done(alpha, RECOVER("fdset:4"));
    g_assert_cmpstr(seek_listens_also(alpha->node->seek), ==, "fdset:4");
    COLO_AUTO_FD control = make_socket(path, FALSE);
    add_fd(beta, 4, "control", control);
    expect_error(beta, RECOVER("fdset:4"), "set 4 has no descriptor 'checkpoint'");
    g_assert_true(seek_is_paused(beta->node->seek));
    g_assert_cmpuint(recover_failures(beta), ==, 0);

    add_connections(beta, 5, path);
    expect_done(beta, RECOVER("fdset:5"));
    protect(&f, 0);
    g_assert_false(seek_is_paused(beta->node->seek));
    g_assert_cmpstr(seek_address(beta->node->seek), ==, configured);

    /* Removed in use: the link stays. */
    guint64 epoch = alpha->node->epoch;
    expect_done(beta, "{\"execute\":\"remove-fd\",\"arguments\":{\"fdset-id\":5}}");
    expect_done(alpha, "{\"execute\":\"remove-fd\",\"arguments\":{\"fdset-id\":4}}");
    WAIT_FOR(alpha->node->epoch > epoch + 2);
    g_assert_true(link_is_up(beta->node->link));

    /* Lost: back by itself, over the configured address. */
    cut_link(&f);
    WAIT_FOR(alpha->node->state == FSM_P_PAUSED);
    protect(&f, 0);
    g_assert_cmpuint(figures_takeovers(beta->node->figures), ==, 0);
    tear_down(&f);
}

/* A primary that takes nobody just now has ended them: that is told, in its words. */
static void test_not_now(void)
{
    Fixture f;
    start_pair(&f, "none");
    Host *alpha = &f.host[0], *beta = &f.host[1];
    g_autofree char *path = g_build_filename(f.dir, "given", NULL);
    COLO_AUTO_FD listening = make_socket(path, TRUE);
    expect_done(beta, PAUSE);
    WAIT_FOR(alpha->node->state == FSM_P_PAUSED);
    add_fd(alpha, 4, "listen", listening);
    expect_done(alpha, RECOVER("fdset:4"));
    expect_done(alpha, PAUSE);
    add_connections(beta, 5, path);
    expect_done(beta, RECOVER("fdset:5"));
    WAIT_FOR(recover_failures(beta) == 1);
    g_autofree char *events =
        control_peer_ask(beta->config->control_socket, "{\"execute\":\"query-events\"}");
    g_assert_nonnull(strstr(events, "an administrator has paused its link"));
    g_assert_true(seek_is_paused(beta->node->seek));
    tear_down(&f);
}

/* Sockets that have been used can't be used again: that is told, and all is as before. */
static void test_used_up(void)
{
    Fixture f;
    start_pair(&f, "none");
    Host *alpha = &f.host[0], *beta = &f.host[1];
    g_autofree char *path = g_build_filename(f.dir, "given", NULL);
    COLO_AUTO_FD listening = make_socket(path, TRUE);
    expect_done(beta, PAUSE);
    WAIT_FOR(alpha->node->state == FSM_P_PAUSED);
    add_fd(alpha, 0, "listen", listening);
    expect_done(alpha, RECOVER("fdset:0"));
    add_connections(beta, 0, path);
    expect_done(beta, RECOVER("fdset:0"));
    protect(&f, 0);
    expect_done(beta, PAUSE);
    WAIT_FOR(alpha->node->state == FSM_P_PAUSED);
    expect_done(beta, RECOVER("fdset:0"));
    WAIT_FOR(recover_failures(beta) == 1);
    g_assert_true(seek_is_paused(beta->node->seek));
    expect_done(beta, "{\"execute\":\"recover\"}");
    protect(&f, 0);
    tear_down(&f);
}

static gboolean has_ended(int fd)
{
    char bytes[4096];
    ssize_t n;
    while ((n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0)
        ;
    return n == 0;
}

/* An attempt that fails ends all connections of the set: whoever is at their other end sees it. */
static void test_failed(void)
{
    Fixture f;
    start_pair(&f, "none");
    Host *beta = &f.host[1];
    g_autofree char *path = g_build_filename(f.dir, "given", NULL);
    COLO_AUTO_FD listening = make_socket(path, TRUE);
    int there[3];
    expect_done(beta, PAUSE);
    WAIT_FOR(f.host[0].node->state == FSM_P_PAUSED);
    add_connections(beta, 5, path);
    for (gsize i = 0; i < G_N_ELEMENTS(there); i++) {
        there[i] = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
        g_assert_cmpint(there[i], >=, 0);
        g_assert_false(has_ended(there[i]));
    }
    expect_done(beta, RECOVER("fdset:5"));
    static const char no_colod[] = "220 this is something else, and not what was asked for\r\n";
    g_assert_cmpint(send(there[0], no_colod, sizeof(no_colod), 0), ==, (ssize_t)sizeof(no_colod));
    WAIT_FOR(recover_failures(beta) == 1);
    for (gsize i = 0; i < G_N_ELEMENTS(there); i++) {
        WAIT_FOR(has_ended(there[i]));
        close(there[i]);
    }
    tear_down(&f);
}

/* A set that an attempt uses, and one that is listened on: removed, both go on. */
static void test_removed_in_use(void)
{
    Fixture f;
    start_pair(&f, "none");
    Host *alpha = &f.host[0], *beta = &f.host[1];
    g_autofree char *path = g_build_filename(f.dir, "given", NULL);
    COLO_AUTO_FD listening = make_socket(path, TRUE);
    alpha->config->recover_timeout_ms = beta->config->recover_timeout_ms = 60000;
    expect_done(beta, PAUSE);
    WAIT_FOR(alpha->node->state == FSM_P_PAUSED);
    add_connections(beta, 5, path);
    expect_done(beta, RECOVER("fdset:5"));
    g_assert_nonnull(seek_recovering(beta->node->seek));
    expect_done(beta, "{\"execute\":\"remove-fd\",\"arguments\":{\"fdset-id\":5}}");
    expect_error(beta, "{\"execute\":\"remove-fd\",\"arguments\":{\"fdset-id\":5}}", "5");
    g_assert_nonnull(seek_recovering(beta->node->seek));
    /* Nobody has accepted it until now. */
    add_fd(alpha, 4, "listen", listening);
    expect_done(alpha, RECOVER("fdset:4"));
    expect_done(alpha, "{\"execute\":\"remove-fd\",\"arguments\":{\"fdset-id\":4}}");
    protect(&f, 0);
    g_assert_cmpuint(recover_failures(beta), ==, 0);
    g_assert_cmpuint(figures_takeovers(beta->node->figures), ==, 0);
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-given/recover", test_recover);
    add_pair_test("/node-given/used-up", test_used_up);
    add_pair_test("/node-given/not-now", test_not_now);
    add_pair_test("/node-given/failed", test_failed);
    add_pair_test("/node-given/removed-in-use", test_removed_in_use);
    return g_test_run();
}
