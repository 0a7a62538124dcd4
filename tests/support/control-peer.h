/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A client of a control socket that is served by the same thread: it runs the main loop as it
 * waits. */
#ifndef COLO_TESTS_CONTROL_PEER_H
#define COLO_TESTS_CONTROL_PEER_H

#include <glib.h>
#include <json-c/json.h>

typedef struct {
    int fd;
    GString *input;
} ControlPeer;

ControlPeer *control_peer_new(const char *path);
void control_peer_free(ControlPeer *peer);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ControlPeer, control_peer_free)

/* Sends all bytes, running the main loop while the server doesn't take them. */
void control_peer_send(ControlPeer *peer, const char *data, gsize len);
void control_peer_send_text(ControlPeer *peer, const char *text);

/* Sends all of `text` at once, and `n` descriptors with it, which stay the caller's. */
void control_peer_send_fds(ControlPeer *peer, const char *text, const int *fds, gsize n);

/* The next line, without its end; NULL at the end of the connection. Free with g_free(). */
char *control_peer_line(ControlPeer *peer);

/* Says `text` and expects the next line to be `answer`. */
void control_peer_expect(ControlPeer *peer, const char *text, const char *answer);

/* What is answered to one command, on a connection of its own; events are skipped. Free with
 * g_free(). */
char *control_peer_ask(const char *path, const char *command);

/* Connects and takes the greeting. */
ControlPeer *control_peer_greeted(const char *path);

#endif
