/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/cards.h"

#include <netinet/ether.h>
#include <string.h>

#include "colo/node/card-port.h"
#include "common/address.h"
#include "common/inherited.h"

/* A driver may break a rule as often as it likes: it is told so often at most. */
#define BROKEN_US (60 * G_USEC_PER_SEC)

/* A network card of the guest and its way out. */
typedef struct {
    Cards *cards;
    unsigned index;
    Uplink *uplink;
    CardPort *port; /* NULL: there is no VM */
    Addresses *addresses;
    ColoTime broken; /* when that was told last; 0: never */
} Card;

struct Cards {
    const Config *config; /* borrowed */
    CardsHandler handler;
    gpointer user_data;
    GPtrArray *all; /* of Card* */
    gboolean are_open;
    const Vm *vm; /* borrowed; NULL: none */
};

static Card *card_at(const Cards *cards, unsigned nic)
{
    return nic < cards->all->len ? g_ptr_array_index(cards->all, nic) : NULL;
}

/* ---- What ports and uplinks report ---- */

static void on_output(const guint8 *data, gsize len, gpointer user_data)
{
    const Card *card = user_data;
    const Cards *cards = card->cards;
    cards->handler.output(card->index, data, len, cards->user_data);
}

static gboolean on_takes(gsize len, gpointer user_data)
{
    const Card *card = user_data;
    const Cards *cards = card->cards;
    return cards->handler.takes(card->index, len, cards->user_data);
}

static void on_input(const guint8 *data, gsize len, gpointer user_data)
{
    const Card *card = user_data;
    const Cards *cards = card->cards;
    addresses_received(card->addresses, data, len);
    if (addresses_is_own(card->addresses, data, len))
        cards->handler.elsewhere(card->index, cards->user_data);
    cards->handler.input(card->index, data, len, cards->user_data);
}

static void on_room(gpointer user_data)
{
    const Card *card = user_data;
    card->cards->handler.room(card->index, card->cards->user_data);
}

static void on_broken(const GError *error, gpointer user_data)
{
    Card *card = user_data;
    ColoTime now = colo_time_now();
    if (card->broken.us && colo_time_diff_us(now, card->broken) < BROKEN_US)
        return;
    card->broken = now;
    card->cards->handler.broken(card->index, error, card->cards->user_data);
}

static void on_port_failed(const GError *error, gpointer user_data)
{
    const Card *card = user_data;
    card->cards->handler.port_failed(error, card->cards->user_data);
}

static void on_uplink_failed(const GError *error, gpointer user_data)
{
    const Card *card = user_data;
    card->cards->handler.uplink_failed(error, card->cards->user_data);
}

/* ---- Life ---- */

static void card_free(gpointer data)
{
    Card *card = data;
    card_port_free(card->port);
    uplink_free(card->uplink);
    addresses_free(card->addresses);
    g_free(card);
}

static Uplink *make_uplink(Card *card, const ConfigNic *nic, GError **error)
{
    if (!nic->tap)
        return uplink_new(nic->ifname, nic->bridge, on_input, on_uplink_failed, card, error);
    const char *name = nic->tap + strlen(COLO_ADDRESS_FD_PREFIX);
    int fd = inherited_fd(name, error);
    Uplink *uplink =
        fd < 0 ? NULL : uplink_new_given(fd, name, on_input, on_uplink_failed, card, error);
    if (!uplink)
        g_prefix_error(error, "tap: ");
    return uplink;
}

static gboolean make_card(Cards *cards, unsigned nic, GError **error)
{
    const ConfigNic *ours = g_ptr_array_index(cards->config->nics, nic);
    const VmNic *guest = g_ptr_array_index(cards->config->vm->nics, nic);
    struct ether_addr mac = {0};
    ether_aton_r(guest->mac, &mac);
    Card *card = g_new0(Card, 1);
    g_ptr_array_add(cards->all, card);
    card->cards = cards;
    card->index = nic;
    card->addresses = addresses_new(mac.ether_addr_octet);
    card->uplink = make_uplink(card, ours, error);
    if (card->uplink &&
        uplink_set_offloads(card->uplink, port_model_has_offloads(guest->model), error))
        return TRUE;
    g_prefix_error(error, "nic %s: ", ours->name);
    return FALSE;
}

Cards *cards_new(const Config *config, const CardsHandler *handler, gpointer user_data,
                 GError **error)
{
    g_autoptr(Cards) cards = g_new0(Cards, 1);
    cards->config = config;
    cards->handler = *handler;
    cards->user_data = user_data;
    cards->all = g_ptr_array_new_with_free_func(card_free);
    for (guint i = 0; i < config->nics->len; i++)
        if (!make_card(cards, i, error))
            return NULL;
    return g_steal_pointer(&cards);
}

void cards_free(Cards *cards)
{
    if (!cards)
        return;
    g_ptr_array_unref(cards->all);
    g_free(cards);
}

guint cards_count(const Cards *cards)
{
    return cards->all->len;
}

const Uplink *cards_uplink(const Cards *cards, unsigned nic)
{
    return card_at(cards, nic)->uplink;
}

void cards_attach(Cards *cards, Vm *vm)
{
    static const VhostHandler handler = {.output = on_output,
                                         .takes = on_takes,
                                         .room = on_room,
                                         .broken = on_broken,
                                         .failed = on_port_failed};
    cards->vm = vm;
    for (guint i = 0; i < cards->all->len; i++)
        card_at(cards, i)->port = card_port_new(vm, i, &handler, card_at(cards, i));
}

void cards_detach(Cards *cards)
{
    for (guint i = 0; i < cards->all->len; i++)
        g_clear_pointer(&card_at(cards, i)->port, card_port_free);
    cards->vm = NULL;
}

void cards_set_open(Cards *cards, gboolean open)
{
    cards->are_open = open;
    for (guint i = 0; i < cards->all->len; i++) {
        Uplink *uplink = card_at(cards, i)->uplink;
        if (open)
            uplink_open(uplink);
        else
            uplink_close(uplink);
    }
}

void cards_read_now(Cards *cards)
{
    for (guint i = 0; i < cards->all->len; i++)
        uplink_read_now(card_at(cards, i)->uplink);
}

gboolean cards_are_open(const Cards *cards)
{
    return cards->are_open;
}

/* ---- Frames ---- */

void cards_send(Cards *cards, unsigned nic, const guint8 *data, gsize len)
{
    const Card *card = card_at(cards, nic);
    if (card)
        uplink_send(card->uplink, data, len);
}

/* What QEMU is given for a VM that stands it keeps, for whatever guest it runs next. */
static gboolean takes(const Card *card)
{
    return !card_port_keeps(card->port) || vm_is_running(card->cards->vm);
}

void cards_give(Cards *cards, unsigned nic, const guint8 *data, gsize len)
{
    const Card *card = card_at(cards, nic);
    if (card && card->port && takes(card))
        card_port_give(card->port, data, len);
}

gboolean cards_have_room(const Cards *cards, unsigned nic, gsize len)
{
    const Card *card = card_at(cards, nic);
    return !card || !card->port || (takes(card) && card_port_has_room(card->port, len));
}

void cards_forget_input(Cards *cards)
{
    for (guint i = 0; i < cards->all->len && card_at(cards, i)->port; i++)
        card_port_forget(card_at(cards, i)->port);
}

void cards_drain(Cards *cards)
{
    for (guint i = 0; i < cards->all->len && card_at(cards, i)->port; i++)
        card_port_drain(card_at(cards, i)->port);
}

void cards_take_output(Cards *cards)
{
    for (guint i = 0; i < cards->all->len && card_at(cards, i)->port; i++)
        card_port_take_output(card_at(cards, i)->port);
}

guint64 cards_dropped(const Cards *cards)
{
    guint64 dropped = 0;
    for (guint i = 0; i < cards->all->len && card_at(cards, i)->port; i++)
        dropped += card_port_dropped(card_at(cards, i)->port);
    return dropped;
}

gboolean cards_are_read(const Cards *cards)
{
    for (guint i = 0; i < cards->all->len; i++) {
        const CardPort *port = card_at(cards, i)->port;
        if (port && !card_port_is_read(port))
            return FALSE;
    }
    return TRUE;
}

/* ---- Addresses ---- */

void cards_learn(Cards *cards, unsigned nic, const guint8 *data, gsize len)
{
    addresses_learn(card_at(cards, nic)->addresses, data, len);
}

static void send_on_card(const guint8 *data, gsize len, gpointer user_data)
{
    const Card *card = user_data;
    uplink_send(card->uplink, data, len);
}

void cards_announce(Cards *cards)
{
    for (guint i = 0; i < cards->all->len; i++) {
        Card *card = card_at(cards, i);
        addresses_announce(card->addresses, send_on_card, card);
    }
}

GBytes *cards_addresses(const Cards *cards, unsigned nic)
{
    return addresses_serialise(card_at(cards, nic)->addresses);
}

gboolean cards_merge_addresses(Cards *cards, unsigned nic, GBytes *bytes, GError **error)
{
    return addresses_merge(card_at(cards, nic)->addresses, bytes, error);
}
