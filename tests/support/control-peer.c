/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/control-peer.h"

#include "tests/support/wait.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

ControlPeer *control_peer_new(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_assert_cmpuint(g_strlcpy(address.sun_path, path, sizeof(address.sun_path)), <,
                     sizeof(address.sun_path));
    ControlPeer *peer = g_new0(ControlPeer, 1);
    peer->input = g_string_new(NULL);
    peer->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    g_assert_cmpint(peer->fd, >=, 0);
    g_assert_cmpint(connect(peer->fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    return peer;
}

void control_peer_free(ControlPeer *peer)
{
    if (!peer)
        return;
    close(peer->fd);
    g_string_free(peer->input, TRUE);
    g_free(peer);
}

void control_peer_send(ControlPeer *peer, const char *data, gsize len)
{
    while (len > 0) {
        ssize_t put = send(peer->fd, data, len, MSG_NOSIGNAL);
        g_assert_true(put >= 0 || errno == EAGAIN);
        if (put > 0) {
            data += put;
            len -= (gsize)put;
        }
        g_main_context_iteration(NULL, FALSE);
    }
}

void control_peer_send_text(ControlPeer *peer, const char *text)
{
    control_peer_send(peer, text, strlen(text));
}

void control_peer_send_fds(ControlPeer *peer, const char *text, const int *fds, gsize n)
{
    struct iovec iov = {.iov_base = (char *)text, .iov_len = strlen(text)};
    g_autofree struct cmsghdr *control = g_malloc0(CMSG_SPACE(n * sizeof(int)));
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control,
                         .msg_controllen = CMSG_SPACE(n * sizeof(int))};
    control->cmsg_level = SOL_SOCKET;
    control->cmsg_type = SCM_RIGHTS;
    control->cmsg_len = CMSG_LEN(n * sizeof(int));
    memcpy(CMSG_DATA(control), fds, n * sizeof(int));
    g_assert_cmpint(sendmsg(peer->fd, &msg, MSG_NOSIGNAL), ==, (gssize)strlen(text));
}

char *control_peer_line(ControlPeer *peer)
{
    ColoTime late = colo_time_add_us(colo_time_now(), WAIT_SECONDS * G_USEC_PER_SEC);
    for (;;) {
        if (colo_time_diff_us(colo_time_now(), late) > 0)
            g_error("waited too long for a line of the control socket");
        char *end = strstr(peer->input->str, "\r\n");
        if (end) {
            char *line = g_strndup(peer->input->str, (gsize)(end - peer->input->str));
            g_string_erase(peer->input, 0, end + 2 - peer->input->str);
            return line;
        }
        g_main_context_iteration(NULL, FALSE);
        char buf[4096];
        ssize_t got = recv(peer->fd, buf, sizeof(buf), 0);
        g_assert_true(got >= 0 || errno == EAGAIN || errno == ECONNRESET);
        if (got == 0 || (got < 0 && errno == ECONNRESET))
            return NULL;
        if (got > 0)
            g_string_append_len(peer->input, buf, got);
    }
}

void control_peer_expect(ControlPeer *peer, const char *text, const char *answer)
{
    control_peer_send_text(peer, text);
    g_autofree char *line = control_peer_line(peer);
    g_assert_cmpstr(line, ==, answer);
}

ControlPeer *control_peer_greeted(const char *path)
{
    ControlPeer *peer = control_peer_new(path);
    g_autofree char *line = control_peer_line(peer);
    g_assert_nonnull(line);
    g_assert_true(g_str_has_prefix(line, "{\"QMP\":"));
    return peer;
}

char *control_peer_ask(const char *path, const char *command)
{
    g_autoptr(ControlPeer) peer = control_peer_greeted(path);
    g_autofree char *line = NULL;
    control_peer_send_text(peer, command);
    do {
        g_free(line);
        line = control_peer_line(peer);
        g_assert_nonnull(line);
    } while (!g_str_has_prefix(line, "{\"return\"") && !g_str_has_prefix(line, "{\"error\""));
    return g_steal_pointer(&line);
}
