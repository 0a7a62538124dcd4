/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/card-port.h"

struct CardPort {
    Port *port;      /* one of the two */
    VhostCard *card; /* the VM's */
};

G_STATIC_ASSERT(VRING_HEADER_BYTES == NETCOMPARE_VNET_HDR_BYTES);
G_STATIC_ASSERT(VRING_FRAME_MAX == NETCOMPARE_FRAME_MAX_BYTES);

CardPort *card_port_new(Vm *vm, unsigned index, const VhostHandler *handler, gpointer user_data)
{
    CardPort *port = g_new0(CardPort, 1);
    const VmNic *nic = g_ptr_array_index(vm_description(vm)->nics, index);
    port->card = vm_nic_card(vm, index);
    if (port->card) {
        vhost_card_set_handler(port->card, handler, user_data);
        return port;
    }
    port->port = port_new(vm_nic_fd(vm, index), handler->output, handler->failed, user_data);
    port_set_model(port->port, nic->model);
    return port;
}

void card_port_free(CardPort *port)
{
    if (!port)
        return;
    port_free(port->port);
    if (port->card)
        vhost_card_set_handler(port->card, NULL, NULL);
    g_free(port);
}

gboolean card_port_has_room(const CardPort *port, gsize len)
{
    return !port->card || vhost_card_has_room(port->card, len);
}

void card_port_give(const CardPort *port, const guint8 *data, gsize len)
{
    if (port->card)
        vhost_card_give(port->card, data, len);
    else
        port_send(port->port, data, len);
}

void card_port_drain(const CardPort *port)
{
    if (port->card)
        vhost_card_drain(port->card);
    else
        port_drain(port->port);
}

void card_port_take_output(const CardPort *port)
{
    if (port->card)
        vhost_card_take_output(port->card);
}

gboolean card_port_keeps(const CardPort *port)
{
    return !port->card;
}

gboolean card_port_is_read(const CardPort *port)
{
    return port->card || port_is_read(port->port);
}

guint64 card_port_dropped(const CardPort *port)
{
    return port->card ? vhost_card_stats(port->card)->input_dropped : 0;
}

void card_port_forget(const CardPort *port)
{
    if (port->card)
        vhost_card_forget(port->card);
}
