/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's part that has the guest's network cards: for each a port to the guest, an uplink to the
 * network, and the addresses that the guest uses there.
 *
 * It owns ports, uplinks and addresses. It doesn't decide which way a frame goes (traffic.h), nor
 * when the guest is announced (announce.h). The uplinks exist for the part's whole life, the ports
 * for the life of a VM's process.
 *
 * Always holds: nothing leaves through an uplink, nor comes in, unless cards_set_open() has opened
 * them. At first they are closed.
 *
 * All of it runs on the main thread; nothing blocks.
 */
#ifndef COLO_COLO_NODE_CARDS_H
#define COLO_COLO_NODE_CARDS_H

#include "colo/config/config.h"
#include "netcompare/netcompare.h"
#include "vm/vm.h"

typedef struct Cards Cards;

/* Called on the main loop, and by cards_drain(). Frames are borrowed. */
typedef struct {
    /* The guest has sent this, on card `nic`. */
    void (*output)(unsigned nic, const guint8 *data, gsize len, gpointer user_data);
    /* Whether output() of a frame of `len` bytes is wanted now. If not, the guest keeps it until
     * cards_take_output(), if its card can. */
    gboolean (*takes)(unsigned nic, gsize len, gpointer user_data);
    /* This has come from the network. */
    void (*input)(unsigned nic, const guint8 *data, gsize len, gpointer user_data);
    /* Likewise, before it: and its sender has the guest's address. */
    void (*elsewhere)(unsigned nic, gpointer user_data);
    /* cards_have_room() was FALSE for this card, and may be TRUE now. */
    void (*room)(unsigned nic, gpointer user_data);
    /* The guest's driver has broken a rule of virtio: it rests until QEMU starts it again.
     * Once a minute for a card, at most. */
    void (*broken)(unsigned nic, const GError *error, gpointer user_data);
    /* The guest's side is dead; the network's is. */
    void (*port_failed)(const GError *error, gpointer user_data);
    void (*uplink_failed)(const GError *error, gpointer user_data);
} CardsHandler;

/* Makes the taps, or takes those that the process was started with. `config` is borrowed. */
Cards *cards_new(const Config *config, const CardsHandler *handler, gpointer user_data,
                 GError **error);
void cards_free(Cards *cards);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Cards, cards_free)

guint cards_count(const Cards *cards);
/* For its name and figures; borrowed. `nic` is below cards_count(), here and in what follows. */
const Uplink *cards_uplink(const Cards *cards, unsigned nic);

/* Ports come with a VM's process, which has started, and go before it is freed. */
void cards_attach(Cards *cards, Vm *vm);
void cards_detach(Cards *cards);
/* Opens or closes the uplinks. */
void cards_set_open(Cards *cards, gboolean open);
/* What has come from the network until now is reported, from within. */
void cards_read_now(Cards *cards);
/* For tests. */
gboolean cards_are_open(const Cards *cards);

/* ---- Frames ---- */

/* To the network. A frame of a card that there isn't is dropped, here and by cards_give(). */
void cards_send(Cards *cards, unsigned nic, const guint8 *data, gsize len);
/* To the guest. Without a port it is dropped, and where QEMU would keep it for a VM that stands. */
void cards_give(Cards *cards, unsigned nic, const guint8 *data, gsize len);
/*
 * Whether a frame of `len` bytes that is given now is the guest's at once. A VM that stands has no room. When it runs
 * again that isn't reported: whoever resumes it gives what waits.
 */
gboolean cards_have_room(const Cards *cards, unsigned nic, gsize len);
/* What was given and waits for room was for a guest that there is no more. */
void cards_forget_input(Cards *cards);
/* Reads everything that the guest has sent until now. A port that fails does so later. */
void cards_drain(Cards *cards);
/* takes() may be TRUE again. */
void cards_take_output(Cards *cards);
/* Whether QEMU has read all that was given to the guest. */
gboolean cards_are_read(const Cards *cards);
/* Frames for the guest that a card has dropped since there is a VM, as far as it is known. */
guint64 cards_dropped(const Cards *cards);

/* ---- Addresses ---- */

/* The guest has sent this to clients. */
void cards_learn(Cards *cards, unsigned nic, const guint8 *data, gsize len);
/* Tells the network that the guest's addresses are here. */
void cards_announce(Cards *cards);
/* For the peer, and of the peer: FALSE if the bytes are malformed. */
GBytes *cards_addresses(const Cards *cards, unsigned nic);
gboolean cards_merge_addresses(Cards *cards, unsigned nic, GBytes *bytes, GError **error);

#endif
