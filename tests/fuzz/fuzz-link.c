/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes that a peer or a stranger sends: the first byte says on which connection. What is read
 * must not depend on how the bytes are cut into pieces; a hello is also judged.
 */
#include <string.h>

#include "colo/link/link_internal.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

static json_object *our_hello(void)
{
    static json_object *hello;
    if (!hello)
        hello = json_tokener_parse("{\"role\":\"primary\",\"colo\":\"1.0\",\"name\":\"alpha\","
                                   "\"identity\":{\"uuid\":\"u\",\"machine\":\"pc\"}}");
    return hello;
}

static void judge(json_object *theirs)
{
    g_autofree char *for_us = NULL;
    g_autofree char *for_them = NULL;
    if (!link_judge(our_hello(), theirs, &for_us, &for_them))
        g_assert(g_utf8_validate(for_us, -1, NULL) && g_utf8_validate(for_them, -1, NULL));
    link_hello_string(theirs, "channel", 32);
    link_hello_string(theirs, "session", 64);
    link_hello_string(theirs, "reason", 1024);
}

static void read_hello(const guint8 *data, gsize size)
{
    gsize need = LINK_HELLO_HEAD, have = 0;
    /* As a connection does: never more than what is needed, in an allocation of that size. */
    while (have < MIN(need, size)) {
        g_autoptr(GError) error = NULL;
        json_object *body = NULL;
        LinkHelloKind kind;
        have = MIN(need, size);
        g_autofree guint8 *exact = g_memdup2(data, have);
        switch (link_parse_hello(exact, have, &kind, &body, &need, &error)) {
        case LINK_PARSE_SHORT:
            g_assert(need > have || have == size);
            g_assert(need <= LINK_HELLO_HEAD + LINK_HELLO_MAX);
            break;
        case LINK_PARSE_BAD:
            g_assert(error && g_utf8_validate(error->message, -1, NULL));
            return;
        case LINK_PARSE_WHOLE:
            g_assert(have == need);
            judge(body);
            json_object_put(body);
            return;
        }
    }
}

/* Reads frames from the start as far as they go: how far, and whether they were good. */
static gsize read_frames(gboolean control, const guint8 *data, gsize size, LinkParse *ret_result)
{
    gsize used = 0;
    for (;;) {
        g_autoptr(GError) error = NULL;
        g_autofree guint8 *rest = g_memdup2(data + used, size - used);
        LinkParsedMessage message;
        LinkParsedPacket packet;
        *ret_result = control ? link_parse_message(rest, size - used, &message, &error)
                              : link_parse_packet(rest, size - used, &packet, &error);
        g_assert((*ret_result == LINK_PARSE_BAD) == (error != NULL));
        if (*ret_result != LINK_PARSE_WHOLE)
            return used;
        gsize one = control ? message.used : packet.used;
        g_assert(one <= size - used && one > 0);
        used += one;
    }
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    if (size < 2)
        return 0;
    guint8 which = data[0] % 3;
    gsize cut = data[1];
    data += 2;
    size -= 2;
    if (which == 2) {
        read_hello(data, size);
        return 0;
    }
    LinkParse whole, first, second;
    gsize used = read_frames(which == 0, data, size, &whole);
    gsize part = read_frames(which == 0, data, MIN(cut, size), &first);
    if (first == LINK_PARSE_BAD) {
        g_assert(whole == LINK_PARSE_BAD && part == used);
        return 0;
    }
    part += read_frames(which == 0, data + part, size - part, &second);
    g_assert(part == used && second == whole);
    return 0;
}
