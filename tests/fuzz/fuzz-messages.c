/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The payload of a message, whose type is the first byte, or (255) a checkpoint's attachment. What
 * is taken keeps its limits, and is the same when it is packed and unpacked once more.
 */
#include <string.h>

#include "colo/node/messages.h"
#include "colo/node/node.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

static GBytes *repack(guint type, GBytes *payload)
{
    g_autoptr(GError) error = NULL;
    g_auto(Message) message = {0};
    gsize len;
    const guint8 *bytes = g_bytes_get_data(payload, &len);
    if (!message_unpack(type, bytes, len, &message, &error)) {
        g_assert(g_error_matches(error, NODE_ERROR, NODE_ERROR_PROTOCOL));
        g_assert(strstr(error->message, message_info(type)->name));
        return NULL;
    }
    g_assert(!error && message.type == type);
    return message_pack(&message);
}

/* Not for a text that is made valid: that makes it longer, and it may be cut anew. */
static gboolean has_text_for_people(guint type)
{
    MessageForm form = message_info(type)->form;
    return form == MESSAGE_FORM_TEXT || form == MESSAGE_FORM_STALLED ||
           form == MESSAGE_FORM_REFUSED || form == MESSAGE_FORM_SWITCHOVER;
}

static void try_message(guint type, GBytes *payload)
{
    if (!message_info(type))
        return;
    g_autoptr(GBytes) once = repack(type, payload);
    if (!once)
        return;
    g_assert(g_bytes_get_size(once) <= MAX(g_bytes_get_size(payload), 8 + MESSAGE_TEXT_MAX));
    g_autoptr(GBytes) twice = repack(type, once);
    g_assert(twice && (has_text_for_people(type) || g_bytes_equal(once, twice)));
}

static void try_attachment(GBytes *bytes)
{
    g_autoptr(GError) error = NULL;
    g_auto(Attachment) attachment = {0};
    if (!attachment_unpack(1, bytes, &attachment, &error)) {
        g_assert(g_error_matches(error, NODE_ERROR, NODE_ERROR_PROTOCOL));
        return;
    }
    g_autoptr(GBytes) again = attachment_pack(&attachment);
    g_assert(g_bytes_equal(again, bytes));
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    if (size == 0)
        return 0;
    /* In an allocation of that size. */
    g_autoptr(GBytes) payload = g_bytes_new(data + 1, size - 1);
    if (data[0] == 255)
        try_attachment(payload);
    else
        try_message(data[0], payload);
    return 0;
}
