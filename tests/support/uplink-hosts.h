/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two uplinks on a real bridge, which are each other's network; the bridge's own IP stack is a third
 * host. All is in a network namespace of the test's own that has no name and ends with it.
 */
#ifndef COLO_TESTS_UPLINK_HOSTS_H
#define COLO_TESTS_UPLINK_HOSTS_H

#include "netcompare/netcompare.h"

#define UPLINK_HOSTS_HEADER NETCOMPARE_VNET_HDR_BYTES

extern const guint8 uplink_hosts_mac_a[6], uplink_hosts_mac_b[6], uplink_hosts_mac_all[6];

/* An uplink and what came through it. */
typedef struct {
    Uplink *uplink;
    GPtrArray *got; /* of GBytes*: frames that tests made, and those to mac_a or mac_b */
    GError *error;
    unsigned failures;
    gboolean free_in_input;
} UplinkHost;

typedef struct {
    UplinkHost a, b;
} UplinkHosts;

/* NULL if this machine has all that is needed, and the namespace is made; else what is missing. */
const char *uplink_hosts_missing(void);

/* Fixture functions: br0, with upa and upb0, both silent. */
void uplink_hosts_setup(UplinkHosts *f, gconstpointer data);
void uplink_hosts_teardown(UplinkHosts *f, gconstpointer data);

/* One more uplink, which stays silent. */
Uplink *uplink_hosts_new_other(const char *ifname, const char *bridge, GError **error);

/* A tap or tun of the test's own, which goes with the descriptor. `flags`: IFF_TAP, ... */
int uplink_hosts_open_tap(const char *ifname, int flags);
/* An uplink of the host's on `fd`, which is the uplink's then and called "lan". */
Uplink *uplink_host_take(UplinkHost *host, int fd, GError **error);

/* Writes a frame with a number in it. Length with the header. */
gsize uplink_hosts_make_frame(guint8 *out, const guint8 to[6], const guint8 from[6],
                              guint32 number);
void uplink_host_send(UplinkHost *host, const guint8 to[6], const guint8 from[6], guint32 number);

/* Waits until so many frames have come; the number in one of them. */
void uplink_host_wait(UplinkHost *host, guint count);
guint32 uplink_host_number(UplinkHost *host, guint index);

#endif
