/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Uplinks without taps: frames come from the network when the test sends them, and what is sent to
 * the network is kept. Include it in the one source file of a test program.
 */
#ifndef COLO_TESTS_SUPPORT_FAKE_UPLINK_H
#define COLO_TESTS_SUPPORT_FAKE_UPLINK_H

#include <unistd.h>

#include "netcompare/netcompare.h"

struct Uplink {
    FrameFunc input;
    NetErrorFunc failed;
    gpointer user_data;
    gboolean open, offloads;
    GPtrArray *sent; /* of GBytes, while it was open */
};

/* How many there are; and the one whose making fails, counted from 1. 0: none. */
static guint fake_uplinks, fake_uplink_fails;

Uplink *uplink_new(const char *ifname, const char *bridge, FrameFunc input, NetErrorFunc failed,
                   gpointer user_data, GError **error)
{
    (void)bridge;
    if (fake_uplinks + 1 == fake_uplink_fails) {
        g_set_error(error, NETCOMPARE_ERROR, NETCOMPARE_ERROR_TAP, "no tap %s", ifname);
        return NULL;
    }
    Uplink *uplink = g_new0(Uplink, 1);
    *uplink = (Uplink){.input = input,
                       .failed = failed,
                       .user_data = user_data,
                       .offloads = TRUE,
                       .sent = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref)};
    fake_uplinks++;
    return uplink;
}

Uplink *uplink_new_given(int fd, const char *name, FrameFunc input, NetErrorFunc failed,
                         gpointer user_data, GError **error)
{
    close(fd);
    return uplink_new(name, NULL, input, failed, user_data, error);
}

void uplink_free(Uplink *uplink)
{
    if (!uplink)
        return;
    fake_uplinks--;
    g_ptr_array_unref(uplink->sent);
    g_free(uplink);
}

gboolean uplink_check_bridge(const char *bridge, GError **error)
{
    (void)bridge;
    (void)error;
    return TRUE;
}

const char *uplink_ifname(const Uplink *uplink)
{
    (void)uplink;
    return "none";
}

gboolean uplink_set_offloads(Uplink *uplink, gboolean offloads, GError **error)
{
    (void)error;
    uplink->offloads = offloads;
    return TRUE;
}

void uplink_open(Uplink *uplink)
{
    uplink->open = TRUE;
}

void uplink_close(Uplink *uplink)
{
    uplink->open = FALSE;
}

void uplink_read_now(Uplink *uplink)
{
    (void)uplink;
}

void uplink_send(Uplink *uplink, const guint8 *data, gsize len)
{
    if (uplink->open)
        g_ptr_array_add(uplink->sent, g_bytes_new(data, len));
}

const UplinkStats *uplink_stats(const Uplink *uplink)
{
    static const UplinkStats none;
    (void)uplink;
    return &none;
}

/* From the network. */
static inline void fake_uplink_receive(const Uplink *uplink, const guint8 *data, gsize len)
{
    if (uplink->open)
        uplink->input(data, len, uplink->user_data);
}

#endif
