/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pair whose VM has a card on a real bridge, in a network namespace of the test's own
 * (uplink_hosts_missing() makes it).
 */
#ifndef COLO_TESTS_BRIDGE_PAIR_H
#define COLO_TESTS_BRIDGE_PAIR_H

#include "tests/support/command.h"
#include "tests/support/host-pair.h"

/* The bridge br0. */
static inline void bridge_add(void)
{
    command_run("ip link add br0 type bridge mcast_snooping 0");
    command_run("ip link set br0 up");
}

static inline void bridge_remove(void)
{
    command_run("ip link del br0");
}

/* Before they start: alpha's tap is tap0, beta's tap1, both in br0; the guest's address is `mac`. */
static inline void add_bridged_tap(Fixture *f, const char *mac)
{
    add_tap(f);
    for (int i = 0; i < 2; i++) {
        ConfigNic *nic = g_ptr_array_index(f->host[i].config->nics, 0);
        VmNic *card = g_ptr_array_index(f->host[i].config->vm->nics, 0);
        nic->bridge = g_strdup("br0");
        g_free(nic->ifname);
        nic->ifname = g_strdup_printf("tap%d", i);
        g_free(card->mac);
        card->mac = g_strdup(mac);
    }
}

#endif
