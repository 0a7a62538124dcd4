/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Hellos on a connection, alike for the side that accepts and the one that dials. */
#include "colo/link/link_internal.h"

void link_send_hello(Channel *channel, LinkHelloKind kind, json_object *body)
{
    g_autoptr(GBytes) bytes = link_build_hello(kind, body);
    gsize len;
    const void *data = g_bytes_get_data(bytes, &len);
    channel_write(channel, data, len, NULL, 0, TRUE);
    json_object_put(body);
}

gsize link_take_hello(Channel *channel, const guint8 *data, gsize len, LinkHelloKind *ret_kind,
                      json_object **ret_body, GError **error)
{
    gsize need = 0;
    if (link_parse_hello(data, len, ret_kind, ret_body, &need, error) != LINK_PARSE_SHORT)
        return len;
    channel_need(channel, need);
    return 0;
}
