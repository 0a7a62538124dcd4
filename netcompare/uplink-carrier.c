/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether the network behind an uplink is connected, as the kernel reports of each interface
 * (RTM_NEWLINK): up, with a carrier.
 *
 * A bridge always has a carrier itself as long as one of its ports has, and our own tap has one. So
 * its ports to the outside count. Those are not taps, which lead to guests, and not veths and the
 * like, which lead to containers, unless there is nothing else. One port with a carrier is enough.
 * A bridge without such a port is a network of this host's own: nothing is known of it.
 */
#include <errno.h>
#include <glib-unix.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/cache.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <sys/socket.h>

#include "netcompare/netcompare.h"

#ifndef IFF_LOWER_UP
#define IFF_LOWER_UP 0x10000 /* linux/if.h, which net/if.h can't be together with */
#endif

/* News comes in bursts: how long it is gathered before all is asked for. */
#define GATHER_MS  20
#define READS_MAX  256
#define FILL_TRIES 5

struct CarrierWatch {
    struct nl_sock *news, *asking;
    struct nl_cache *links;
    guint source, timer;
    void (*changed)(gpointer user_data);
    gpointer user_data;
};

static struct rtnl_link *find(const CarrierWatch *watch, const char *ifname)
{
    for (struct nl_object *at = nl_cache_get_first(watch->links); at; at = nl_cache_get_next(at)) {
        struct rtnl_link *link = (struct rtnl_link *)at;
        if (!g_strcmp0(rtnl_link_get_name(link), ifname))
            return link;
    }
    return NULL;
}

static gboolean has_carrier(struct rtnl_link *link)
{
    const unsigned needed = IFF_UP | IFF_LOWER_UP;
    return (rtnl_link_get_flags(link) & needed) == needed;
}

typedef enum { TO_GUESTS, TO_CONTAINERS, TO_OUTSIDE, LEADS } Leads;

static Leads where_to(struct rtnl_link *link)
{
    const char *type = rtnl_link_get_type(link);
    if (!g_strcmp0(type, "tun") || !g_strcmp0(type, "macvtap"))
        return TO_GUESTS;
    return !g_strcmp0(type, "veth") || !g_strcmp0(type, "dummy") ? TO_CONTAINERS : TO_OUTSIDE;
}

static UplinkCarrier carrier_of_ports(const CarrierWatch *watch, int bridge)
{
    unsigned ports[LEADS] = {0}, plugged[LEADS] = {0};
    for (struct nl_object *at = nl_cache_get_first(watch->links); at; at = nl_cache_get_next(at)) {
        struct rtnl_link *link = (struct rtnl_link *)at;
        if (rtnl_link_get_master(link) != bridge)
            continue;
        ports[where_to(link)]++;
        plugged[where_to(link)] += has_carrier(link);
    }
    Leads counts = ports[TO_OUTSIDE] > 0 ? TO_OUTSIDE : TO_CONTAINERS;
    return ports[counts] == 0     ? UPLINK_CARRIER_UNKNOWN
           : plugged[counts] == 0 ? UPLINK_CARRIER_NO
                                  : UPLINK_CARRIER_YES;
}

UplinkCarrier carrier_watch_look(const CarrierWatch *watch, const char *bridge, const char *ifname)
{
    struct rtnl_link *link = find(watch, ifname ? ifname : bridge);
    if (ifname)
        return link && has_carrier(link) ? UPLINK_CARRIER_YES : UPLINK_CARRIER_NO;
    return bridge && link ? carrier_of_ports(watch, rtnl_link_get_ifindex(link))
                          : UPLINK_CARRIER_UNKNOWN;
}

UplinkCarrier carrier_watch_look_tap(const CarrierWatch *watch, const char *ifname)
{
    struct rtnl_link *tap = find(watch, ifname);
    if (!tap || !(rtnl_link_get_flags(tap) & IFF_UP))
        return UPLINK_CARRIER_NO;
    if (!g_strcmp0(rtnl_link_get_type(tap), "macvtap"))
        return has_carrier(tap) ? UPLINK_CARRIER_YES : UPLINK_CARRIER_NO;
    struct rtnl_link *master = rtnl_link_get(watch->links, rtnl_link_get_master(tap));
    UplinkCarrier carrier = master && !g_strcmp0(rtnl_link_get_type(master), "bridge")
                                ? carrier_of_ports(watch, rtnl_link_get_ifindex(master))
                                : UPLINK_CARRIER_UNKNOWN;
    rtnl_link_put(master);
    return carrier;
}

gboolean carrier_watch_is_port(const CarrierWatch *watch, const char *ifname, const char *bridge)
{
    struct rtnl_link *link = find(watch, ifname), *master = bridge ? find(watch, bridge) : NULL;
    if (!link || !bridge)
        return link != NULL;
    return master && rtnl_link_get_master(link) == rtnl_link_get_ifindex(master);
}

/* ---- News ---- */

/* Reads all of it again: changes come in parts, and some of them may be missed. */
static int fill(CarrierWatch *watch)
{
    int code = -NLE_DUMP_INTR;
    for (int i = 0; i < FILL_TRIES && code == -NLE_DUMP_INTR; i++)
        code = nl_cache_refill(watch->asking, watch->links);
    return code;
}

static gboolean on_time(gpointer user_data)
{
    CarrierWatch *watch = user_data;
    /* If it fails, what was known stays known until the next news. */
    fill(watch);
    watch->timer = 0;
    watch->changed(watch->user_data);
    return G_SOURCE_REMOVE;
}

static gboolean on_news(gint fd, GIOCondition condition, gpointer user_data)
{
    CarrierWatch *watch = user_data;
    guint8 buffer[8192];
    (void)condition;
    /* That there is news is enough. One error is that some was lost: there is more to read. */
    for (int i = 0; i < READS_MAX && (recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT) > 0 ||
                                      (errno != EAGAIN && errno != EWOULDBLOCK));
         i++)
        ;
    if (!watch->timer)
        watch->timer = g_timeout_add(GATHER_MS, on_time, watch);
    return G_SOURCE_CONTINUE;
}

static int watch_open(CarrierWatch *watch)
{
    watch->news = nl_socket_alloc();
    watch->asking = nl_socket_alloc();
    if (!watch->news || !watch->asking)
        return -NLE_NOMEM;
    int code = nl_connect(watch->news, NETLINK_ROUTE);
    if (code == 0)
        code = nl_socket_add_membership(watch->news, RTNLGRP_LINK);
    if (code == 0)
        code = nl_connect(watch->asking, NETLINK_ROUTE);
    /* After the membership: nothing falls between. */
    if (code == 0)
        code = rtnl_link_alloc_cache(watch->asking, AF_UNSPEC, &watch->links);
    return code;
}

CarrierWatch *carrier_watch_new(void (*changed)(gpointer user_data), gpointer user_data,
                                GError **error)
{
    CarrierWatch *watch = g_new0(CarrierWatch, 1);
    watch->changed = changed;
    watch->user_data = user_data;
    int code = watch_open(watch);
    if (code < 0) {
        g_set_error(error, NETCOMPARE_ERROR, NETCOMPARE_ERROR_WATCH,
                    "network interfaces can't be watched: %s", nl_geterror(code));
        carrier_watch_free(watch);
        return NULL;
    }
    watch->source =
        g_unix_fd_add(nl_socket_get_fd(watch->news), G_IO_IN | G_IO_ERR, on_news, watch);
    return watch;
}

void carrier_watch_free(CarrierWatch *watch)
{
    if (!watch)
        return;
    if (watch->source)
        g_source_remove(watch->source);
    if (watch->timer)
        g_source_remove(watch->timer);
    if (watch->links)
        nl_cache_free(watch->links);
    nl_socket_free(watch->asking);
    nl_socket_free(watch->news);
    g_free(watch);
}
