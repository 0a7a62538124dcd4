/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A bad network between two links, on command: a proxy (TCP or unix sockets) that knows which of a link's connections
 * it carries (it reads the hello). Runs on the default main loop; tests/tools/chaos-proxy is the
 * same as a program.
 *
 * Commands, one per line. CHANNEL is control, checkpoint, packets or all; DIRECTION is up (from the
 * one who dialled), down or both. What lasts holds for connections that are open and those to come.
 *
 *   cut CHANNEL                      resets both ends, dropping what is on its way
 *   close CHANNEL                    ends both directions, in order
 *   half-close CHANNEL DIRECTION     ends that direction, in order; the other goes on
 *   blackhole CHANNEL [DIRECTION]    lasts: nothing passes, not even an end; it waits, as in TCP
 *   delay CHANNEL MS                 lasts: everything comes so much later, both ways
 *   rate CHANNEL BYTES               lasts: at most so much per second, each way
 *   flip CHANNEL DIRECTION OFFSET    once: a bit of that byte (from 0) of the connection is flipped
 *   cut-at CHANNEL DIRECTION OFFSET  once: cut when that byte would pass
 *   pass CHANNEL                     ends all that lasts; what waited goes on its way
 *   refuse | accept                  stops listening; listens again
 */
#ifndef COLO_TESTS_SUPPORT_PROXY_H
#define COLO_TESTS_SUPPORT_PROXY_H

#include <glib.h>

typedef struct Proxy Proxy;

/* Addresses as in colo/link/link.h; port 0 to listen on any. Error: LINK_ERROR_ADDRESS. */
Proxy *proxy_new(const char *listen, const char *target, GError **error);
void proxy_free(Proxy *proxy);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Proxy, proxy_free)

guint16 proxy_port(const Proxy *proxy);

/* FALSE with G_OPTION_ERROR for a command that isn't one. */
gboolean proxy_command(Proxy *proxy, const char *line, GError **error);

/* The same for tests: the command must be right. */
void proxy_do(Proxy *proxy, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* One line per open connection: "CHANNEL up BYTES down BYTES". Free with g_free(). */
char *proxy_status(const Proxy *proxy);

/* Connections of this channel ("all" for any) that are open. */
unsigned proxy_open(const Proxy *proxy, const char *channel);

#endif
