/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Ports without sockets, and uplinks without taps. A switch learns where the guest is from the
 * frames that it receives. A host's carrier can be gone.
 */
#include <string.h>

#include "netcompare/netcompare.h"
#include "tests/world/world.h"

#define ETHERNET NETCOMPARE_VNET_HDR_BYTES /* where the Ethernet frame begins */

G_DEFINE_QUARK(netcompare_error, netcompare_error)

/* ---- Ports ---- */

struct Port {
    SimVm *vm;
    FrameFunc output;
    gboolean (*takes)(gsize len, gpointer user_data); /* NULL: all */
    gpointer user_data;
    gboolean draining;
    PortStats stats;
};

Port *port_new(int fd, FrameFunc output, NetErrorFunc failed, gpointer user_data)
{
    (void)failed;
    Port *port = g_new0(Port, 1);
    port->vm = world.current->vm;
    g_assert_cmpint(port->vm->fd, ==, fd);
    port->vm->port = port;
    port->output = output;
    port->user_data = user_data;
    return port;
}

void port_free(Port *port)
{
    if (!port)
        return;
    if (port->vm->port == port)
        port->vm->port = NULL;
    g_free(port);
}

void world_port_set_takes(Port *port, gboolean (*takes)(gsize len, gpointer user_data))
{
    port->takes = takes;
}

void port_set_model(Port *port, const char *model)
{
    (void)port;
    (void)model;
}

gboolean port_model_has_offloads(const char *model)
{
    (void)model;
    return TRUE;
}

gboolean port_send(Port *port, const guint8 *data, gsize len)
{
    if (g_queue_get_length(port->vm->input) > 1000)
        return FALSE;
    sim_vm_input(port->vm, data, len);
    return TRUE;
}

void world_port_read(SimVm *vm)
{
    for (;;) {
        Port *port = vm->port;
        GBytes *first = g_queue_peek_head(vm->output);
        if (!port || !first)
            return;
        if (port->takes && !port->takes(g_bytes_get_size(first), port->user_data)) {
            world_sometimes("output stays in the guest");
            return;
        }
        g_autoptr(GBytes) frame = g_queue_pop_head(vm->output);
        gsize len;
        const guint8 *data = g_bytes_get_data(frame, &len);
        port->output(data, len, port->user_data);
    }
}

void port_drain(Port *port)
{
    if (port->draining)
        return;
    port->draining = TRUE;
    SimVm *vm = port->vm;
    world_port_read(vm);
    if (vm->port == port)
        port->draining = FALSE;
}

const PortStats *port_stats(const Port *port)
{
    return &port->stats;
}

gboolean port_is_read(const Port *port)
{
    return sim_vm_is_read(port->vm);
}

/* ---- Uplinks ---- */

struct Uplink {
    WorldHost *host;
    FrameFunc input;
    gpointer user_data;
    gboolean open;
    UplinkStats stats;
    GQueue *tap; /* of GBytes*: what has come to it, and has not been read */
    GSource *reader;
};

gboolean uplink_check_bridge(const char *bridge, GError **error)
{
    (void)bridge;
    (void)error;
    return TRUE;
}

Uplink *uplink_new(const char *ifname, const char *bridge, FrameFunc input, NetErrorFunc failed,
                   gpointer user_data, GError **error)
{
    (void)ifname;
    (void)bridge;
    (void)failed;
    (void)error;
    Uplink *uplink = g_new0(Uplink, 1);
    uplink->host = world.current;
    uplink->input = input;
    uplink->user_data = user_data;
    uplink->tap = g_queue_new();
    uplink->host->uplink = uplink;
    return uplink;
}

Uplink *uplink_new_given(int fd, const char *name, FrameFunc input, NetErrorFunc failed,
                         gpointer user_data, GError **error)
{
    (void)fd;
    (void)name;
    (void)input;
    (void)failed;
    (void)user_data;
    (void)error;
    g_assert_not_reached();
}

void uplink_free(Uplink *uplink)
{
    if (!uplink)
        return;
    if (uplink->host->uplink == uplink)
        uplink->host->uplink = NULL;
    world_source_clear(&uplink->reader);
    g_queue_free_full(uplink->tap, (GDestroyNotify)g_bytes_unref);
    g_free(uplink);
}

const char *uplink_ifname(const Uplink *uplink)
{
    return uplink->host->name;
}

gboolean uplink_set_offloads(Uplink *uplink, gboolean offloads, GError **error)
{
    (void)uplink;
    (void)offloads;
    (void)error;
    return TRUE;
}

void uplink_open(Uplink *uplink)
{
    uplink->open = TRUE;
}

void uplink_close(Uplink *uplink)
{
    world_handed_closes(uplink->host, g_queue_get_length(uplink->tap));
    uplink->open = FALSE;
    g_queue_clear_full(uplink->tap, (GDestroyNotify)g_bytes_unref);
}

static gboolean on_readable(gpointer data)
{
    Uplink *uplink = data;
    world_source_clear(&uplink->reader);
    for (GBytes *frame; (frame = g_queue_pop_head(uplink->tap)); g_bytes_unref(frame)) {
        gsize len;
        const guint8 *bytes = g_bytes_get_data(frame, &len);
        uplink->input(bytes, len, uplink->user_data);
    }
    return G_SOURCE_REMOVE;
}

void uplink_read_now(Uplink *uplink)
{
    if (!g_queue_is_empty(uplink->tap))
        world_sometimes("frames are in the tap of a host whose VM has been taken");
    on_readable(uplink);
}

typedef struct {
    WorldHost *host;
    guint starts;
    GBytes *frame;
    gint64 reads_us; /* after it has come */
} Arrival;

/* At its tap. The host may stand still. */
static gboolean arrive(gpointer data)
{
    Arrival *arrival = data;
    WorldHost *host = arrival->host;
    Uplink *uplink = host->uplink;
    if (host->starts == arrival->starts && uplink && uplink->open && host->carrier) {
        g_queue_push_tail(uplink->tap, g_bytes_ref(arrival->frame));
        if (!uplink->reader)
            uplink->reader = world_after(host, arrival->reads_us, on_readable, uplink);
    }
    g_bytes_unref(arrival->frame);
    g_free(arrival);
    return G_SOURCE_REMOVE;
}

static void send_to(WorldHost *host, const guint8 *data, gsize len)
{
    gint64 us = world_between(50, 300);
    Arrival *arrival = g_new(Arrival, 1);
    *arrival = (Arrival){host, host->starts, g_bytes_new(data, len), us / 2};
    world_later(NULL, us - us / 2, arrive, arrival);
}

void uplink_send(Uplink *uplink, const guint8 *data, gsize len)
{
    static const guint8 guest[6] = {0x52, 0x54, 0, 0x12, 0x34, 0};
    if (!uplink->open || !uplink->host->carrier)
        return;
    uplink->stats.output_frames++;
    if (len >= ETHERNET + 14 && memcmp(data + ETHERNET + 6, guest, sizeof(guest)) == 0)
        world.port_of_guest = (int)uplink->host->index;
    /* An announcement, say, reaches every port. */
    WorldHost *other = &world.host[!uplink->host->index];
    if (len >= ETHERNET + 14 && data[ETHERNET] & 1 && other->lives)
        send_to(other, data, len);
    world_client_frame(uplink->host, data, len);
}

const UplinkStats *uplink_stats(const Uplink *uplink)
{
    return &uplink->stats;
}

void world_net_to_guest(const guint8 *data, gsize len)
{
    for (guint i = 0; i < WORLD_HOSTS; i++) {
        WorldHost *host = &world.host[i];
        if (host->lives && (world.port_of_guest < 0 || world.port_of_guest == (int)i))
            send_to(host, data, len);
    }
}

/* ---- Carrier ---- */

struct CarrierWatch {
    WorldHost *host;
    void (*changed)(gpointer user_data);
    gpointer user_data;
};

CarrierWatch *carrier_watch_new(void (*changed)(gpointer user_data), gpointer user_data,
                                GError **error)
{
    (void)error;
    CarrierWatch *watch = g_new0(CarrierWatch, 1);
    *watch = (CarrierWatch){world.current, changed, user_data};
    watch->host->carriers = watch;
    return watch;
}

void carrier_watch_free(CarrierWatch *watch)
{
    if (watch)
        watch->host->carriers = NULL;
    g_free(watch);
}

UplinkCarrier carrier_watch_look(const CarrierWatch *watch, const char *bridge, const char *ifname)
{
    (void)bridge;
    (void)ifname;
    return watch->host->carrier ? UPLINK_CARRIER_YES : UPLINK_CARRIER_NO;
}

UplinkCarrier carrier_watch_look_tap(const CarrierWatch *watch, const char *ifname)
{
    return carrier_watch_look(watch, NULL, ifname);
}

gboolean carrier_watch_is_port(const CarrierWatch *watch, const char *ifname, const char *bridge)
{
    (void)ifname;
    (void)bridge;
    return !watch->host->out_of_bridge;
}

static gboolean on_changed(gpointer data)
{
    WorldHost *host = data;
    if (host->carriers)
        host->carriers->changed(host->carriers->user_data);
    return G_SOURCE_REMOVE;
}

void world_net_look(void)
{
    for (guint i = 0; i < WORLD_HOSTS; i++)
        if (world.host[i].lives)
            world_later(&world.host[i], world_between(100, 5000), on_changed, &world.host[i]);
}
