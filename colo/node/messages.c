/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/messages.h"

#include "colo/node/node.h"
#include "common/endian.h"

#include <string.h>

#define PRIMARY   MESSAGE_FROM_PRIMARY
#define SECONDARY MESSAGE_FROM_SECONDARY
#define BOTH      MESSAGE_FROM_BOTH

/* clang-format off */
static const MessageInfo table[] = {
    [LINK_MSG_BLANK]     = {"blank",     SECONDARY, MESSAGE_FORM_EMPTY},
    [LINK_MSG_RECEIVED]  = {"received",  SECONDARY, MESSAGE_FORM_EPOCH},
    [LINK_MSG_APPLIED]   = {"applied",   SECONDARY, MESSAGE_FORM_APPLIED},
    [LINK_MSG_READY]     = {"ready",     SECONDARY, MESSAGE_FORM_READY},
    [LINK_MSG_PROTECT]   = {"protect",   PRIMARY,   MESSAGE_FORM_EMPTY},
    [LINK_MSG_ADDRESSES] = {"addresses", PRIMARY,   MESSAGE_FORM_ADDRESSES},
    [LINK_MSG_YIELD]     = {"yield",     SECONDARY, MESSAGE_FORM_EMPTY},
    [LINK_MSG_YIELDED]   = {"yielded",   PRIMARY,   MESSAGE_FORM_TEXT},
    [LINK_MSG_GOODBYE]   = {"goodbye",   BOTH,      MESSAGE_FORM_TEXT},
    [LINK_MSG_FAILED]    = {"failed",    BOTH,      MESSAGE_FORM_TEXT},
    [LINK_MSG_PREPARE]   = {"prepare",   PRIMARY,   MESSAGE_FORM_EPOCH},
    [LINK_MSG_DIRTY]     = {"dirty",     SECONDARY, MESSAGE_FORM_DIRTY},
    [LINK_MSG_LOADED]    = {"loaded",    SECONDARY, MESSAGE_FORM_EPOCH},
    [LINK_MSG_STALLED]   = {"stalled",   SECONDARY, MESSAGE_FORM_STALLED},
    [LINK_MSG_SETTLED]   = {"settled",   PRIMARY,   MESSAGE_FORM_SETTLED},
    [LINK_MSG_REBOOTED]  = {"rebooted",  SECONDARY, MESSAGE_FORM_EPOCH},
    [LINK_MSG_RUNS]      = {"runs",      PRIMARY,   MESSAGE_FORM_EMPTY},
    [LINK_MSG_PAUSED]    = {"paused",    PRIMARY,   MESSAGE_FORM_EMPTY},
    [LINK_MSG_HANDED]    = {"handed",    PRIMARY,   MESSAGE_FORM_MOVED},
    [LINK_MSG_TAKEN]     = {"taken",     SECONDARY, MESSAGE_FORM_MOVED},
    [LINK_MSG_REFUSED]   = {"refused",   SECONDARY, MESSAGE_FORM_REFUSED},
    [LINK_MSG_OPTIONS]   = {"options",   BOTH,      MESSAGE_FORM_OPTIONS},
    [LINK_MSG_TROUBLE]   = {"trouble",   BOTH,      MESSAGE_FORM_TEXT},
    [LINK_MSG_UNFIT]     = {"unfit",     PRIMARY,   MESSAGE_FORM_TEXT},
    [LINK_MSG_BUSY]      = {"busy",      SECONDARY, MESSAGE_FORM_EPOCH},
    [LINK_MSG_LEAVE]     = {"leave",     BOTH,      MESSAGE_FORM_EMPTY},
    [LINK_MSG_FINAL]     = {"final",     PRIMARY,   MESSAGE_FORM_EPOCH},
    [LINK_MSG_FINISHED]  = {"finished",  SECONDARY, MESSAGE_FORM_EPOCH},
    [LINK_MSG_CARRIER]   = {"carrier",   BOTH,      MESSAGE_FORM_CARRIER},
    [LINK_MSG_SWITCHOVER_ASK]    = {"switchover_ask",    PRIMARY,   MESSAGE_FORM_SWITCHOVER},
    [LINK_MSG_SWITCHOVER_ACK]    = {"switchover_ack",    SECONDARY, MESSAGE_FORM_SWITCHOVER},
    [LINK_MSG_SWITCHOVER_WANT]   = {"switchover_want",   SECONDARY, MESSAGE_FORM_SWITCHOVER},
    [LINK_MSG_SWITCHOVER_CANCEL] = {"switchover_cancel", BOTH,      MESSAGE_FORM_SWITCHOVER},
    [LINK_MSG_SWITCHOVER_PHASE]  = {"switchover_phase",  PRIMARY,   MESSAGE_FORM_SWITCHOVER},
};
/* clang-format on */

const MessageInfo *message_info(guint type)
{
    return type < G_N_ELEMENTS(table) && table[type].name ? &table[type] : NULL;
}

/* Room for `len` bytes behind what is there, valid until the next call; NULL if there are none. */
static guint8 *room_for(GByteArray *to, gsize len)
{
    guint at = to->len;
    g_byte_array_set_size(to, at + (guint)len);
    return to->data ? to->data + at : NULL;
}

static void put_text(GByteArray *to, const char *text)
{
    g_byte_array_append(to, (const guint8 *)text, (guint)MIN(strlen(text), MESSAGE_TEXT_MAX));
}

static char *get_text(const guint8 *at, gsize len)
{
    return len ? g_utf8_make_valid((const char *)at, (gssize)MIN(len, MESSAGE_TEXT_MAX))
               : g_strdup("");
}

/* ---- The forms: each length has been checked before something is unpacked ---- */

static void pack_empty(const Message *message, GByteArray *to)
{
    (void)message;
    (void)to;
}

static gboolean unpack_empty(const guint8 *payload, gsize len, Message *message)
{
    (void)payload;
    (void)len;
    (void)message;
    return TRUE;
}

static void pack_epoch(const Message *message, GByteArray *to)
{
    colo_put_be64(room_for(to, 8), message->epoch);
}

static gboolean unpack_epoch(const guint8 *payload, gsize len, Message *message)
{
    (void)len;
    message->epoch = colo_get_be64(payload);
    return TRUE;
}

static void pack_applied(const Message *message, GByteArray *to)
{
    guint8 *at = room_for(to, 16);
    colo_put_be64(at, message->applied.epoch);
    colo_put_be64(at + 8, message->applied.apply_us);
}

static gboolean unpack_applied(const guint8 *payload, gsize len, Message *message)
{
    (void)len;
    message->applied =
        (MessageApplied){.epoch = colo_get_be64(payload), .apply_us = colo_get_be64(payload + 8)};
    return TRUE;
}

static void pack_ready(const Message *message, GByteArray *to)
{
    const MessageReady *ready = &message->ready;
    guint8 *at = room_for(to, 16 * ready->n_runs);
    for (gsize i = 0; i < ready->n_runs; i++, at += 16) {
        colo_put_be64(at, ready->runs[i].first);
        colo_put_be64(at + 8, ready->runs[i].count);
    }
}

static gboolean unpack_ready(const guint8 *payload, gsize len, Message *message)
{
    gsize n = len / 16;
    MessageRun *runs = message->owned = g_new(MessageRun, n);
    for (gsize i = 0; i < n; i++, payload += 16)
        runs[i] =
            (MessageRun){.first = colo_get_be64(payload), .count = colo_get_be64(payload + 8)};
    message->ready = (MessageReady){.runs = runs, .n_runs = n};
    return TRUE;
}

static void pack_dirty(const Message *message, GByteArray *to)
{
    const MessageDirty *dirty = &message->dirty;
    guint8 *at = room_for(to, 16 + 8 * dirty->n_runs);
    colo_put_be64(at, dirty->epoch);
    colo_put_be32(at + 8, dirty->follow);
    colo_put_be32(at + 12, 0);
    at += 16;
    for (gsize i = 0; i < dirty->n_runs; i++, at += 8) {
        const MessageRun *run = &dirty->runs[i];
        g_assert(run->first <= G_MAXUINT32 && run->count <= G_MAXUINT32);
        colo_put_be32(at, (guint32)run->first);
        colo_put_be32(at + 4, (guint32)run->count);
    }
}

static gboolean unpack_dirty(const guint8 *payload, gsize len, Message *message)
{
    gsize n = (len - 16) / 8;
    MessageRun *runs = message->owned = g_new(MessageRun, n);
    message->dirty = (MessageDirty){.epoch = colo_get_be64(payload),
                                    .follow = colo_get_be32(payload + 8),
                                    .runs = runs,
                                    .n_runs = n};
    payload += 16;
    for (gsize i = 0; i < n; i++, payload += 8)
        runs[i] =
            (MessageRun){.first = colo_get_be32(payload), .count = colo_get_be32(payload + 4)};
    return TRUE;
}

static void pack_addresses(const Message *message, GByteArray *to)
{
    const MessageAddresses *addresses = &message->addresses;
    colo_put_be32(room_for(to, 4), addresses->card);
    g_byte_array_append(to, addresses->data, (guint)addresses->len);
}

static gboolean unpack_addresses(const guint8 *payload, gsize len, Message *message)
{
    message->addresses =
        (MessageAddresses){.card = colo_get_be32(payload), .data = payload + 4, .len = len - 4};
    return TRUE;
}

static void pack_stalled(const Message *message, GByteArray *to)
{
    colo_put_be64(room_for(to, 8), message->stalled.epoch);
    put_text(to, message->stalled.why);
}

static gboolean unpack_stalled(const guint8 *payload, gsize len, Message *message)
{
    message->owned = get_text(payload + 8, len - 8);
    message->stalled = (MessageStalled){.epoch = colo_get_be64(payload), .why = message->owned};
    return TRUE;
}

static void pack_settled(const Message *message, GByteArray *to)
{
    const MessageSettled *settled = &message->settled;
    guint8 *at = room_for(to, 16 + 8 * settled->n_numbers);
    colo_put_be64(at, settled->epoch);
    colo_put_be64(at + 8, settled->count);
    for (gsize i = 0; i < settled->n_numbers; i++)
        colo_put_be64(at + 16 + 8 * i, settled->numbers[i]);
}

static gboolean unpack_settled(const guint8 *payload, gsize len, Message *message)
{
    gsize n = (len - 16) / 8;
    guint64 *numbers = message->owned = g_new(guint64, n);
    for (gsize i = 0; i < n; i++)
        numbers[i] = colo_get_be64(payload + 16 + 8 * i);
    message->settled = (MessageSettled){.epoch = colo_get_be64(payload),
                                        .count = colo_get_be64(payload + 8),
                                        .numbers = numbers,
                                        .n_numbers = n};
    return TRUE;
}

static void pack_refused(const Message *message, GByteArray *to)
{
    colo_put_be32(room_for(to, 4), (guint32)message->refused.kind);
    put_text(to, message->refused.why);
}

static gboolean unpack_refused(const guint8 *payload, gsize len, Message *message)
{
    guint32 kind = colo_get_be32(payload);
    message->owned = get_text(payload + 4, len - 4);
    /* One that isn't known is taken for the one that is believed the least. */
    if (kind >= MESSAGE_REFUSED_KINDS)
        kind = MESSAGE_REFUSED_ASKED;
    message->refused = (MessageRefused){.kind = (MessageRefusedKind)kind, .why = message->owned};
    return TRUE;
}

static void pack_moved(const Message *message, GByteArray *to)
{
    guint8 *at = room_for(to, 16);
    colo_put_be64(at, message->moved.epoch);
    colo_put_be64(at + 8, message->moved.us);
}

static gboolean unpack_moved(const guint8 *payload, gsize len, Message *message)
{
    (void)len;
    message->moved =
        (MessageMoved){.epoch = colo_get_be64(payload), .us = colo_get_be64(payload + 8)};
    return TRUE;
}

static void pack_switchover(const Message *message, GByteArray *to)
{
    guint8 *at = room_for(to, 8);
    colo_put_be32(at, message->switchover.id);
    colo_put_be32(at + 4, message->switchover.flags);
    put_text(to, message->switchover.text);
}

static gboolean unpack_switchover(const guint8 *payload, gsize len, Message *message)
{
    message->owned = get_text(payload + 8, len - 8);
    message->switchover = (MessageSwitchover){
        .id = colo_get_be32(payload), .flags = colo_get_be32(payload + 4), .text = message->owned};
    return TRUE;
}

static void pack_carrier(const Message *message, GByteArray *to)
{
    colo_put_be64(room_for(to, 8), message->cut);
}

static gboolean unpack_carrier(const guint8 *payload, gsize len, Message *message)
{
    (void)len;
    message->cut = colo_get_be64(payload);
    return TRUE;
}

static void pack_text(const Message *message, GByteArray *to)
{
    put_text(to, message->text);
}

static gboolean unpack_text(const guint8 *payload, gsize len, Message *message)
{
    message->text = message->owned = get_text(payload, len);
    return TRUE;
}

static void pack_options(const Message *message, GByteArray *to)
{
    g_byte_array_append(to, (const guint8 *)message->text, (guint)strlen(message->text));
}

/* It is to be believed, not shown: nothing of it is made valid. */
static gboolean unpack_options(const guint8 *payload, gsize len, Message *message)
{
    message->text = message->owned = len ? g_strndup((const char *)payload, len) : g_strdup("");
    return strlen(message->text) == len && g_utf8_validate(message->text, (gssize)len, NULL);
}

/* ---- All forms ---- */

static const struct {
    gsize head; /* bytes at least */
    gsize unit; /* what follows is a multiple of this; 0: nothing follows */
    void (*pack)(const Message *message, GByteArray *to);
    gboolean (*unpack)(const guint8 *payload, gsize len, Message *message);
} forms[MESSAGE_FORMS] = {
    [MESSAGE_FORM_EMPTY] = {0,  1,  pack_empty,      unpack_empty     },
    [MESSAGE_FORM_EPOCH] = {8,  0,  pack_epoch,      unpack_epoch     },
    [MESSAGE_FORM_APPLIED] = {16, 0,  pack_applied,    unpack_applied   },
    [MESSAGE_FORM_READY] = {0,  16, pack_ready,      unpack_ready     },
    [MESSAGE_FORM_DIRTY] = {16, 8,  pack_dirty,      unpack_dirty     },
    [MESSAGE_FORM_ADDRESSES] = {4,  1,  pack_addresses,  unpack_addresses },
    [MESSAGE_FORM_STALLED] = {8,  1,  pack_stalled,    unpack_stalled   },
    [MESSAGE_FORM_SETTLED] = {16, 8,  pack_settled,    unpack_settled   },
    [MESSAGE_FORM_REFUSED] = {4,  1,  pack_refused,    unpack_refused   },
    [MESSAGE_FORM_MOVED] = {16, 0,  pack_moved,      unpack_moved     },
    [MESSAGE_FORM_CARRIER] = {8,  0,  pack_carrier,    unpack_carrier   },
    [MESSAGE_FORM_SWITCHOVER] = {8,  1,  pack_switchover, unpack_switchover},
    [MESSAGE_FORM_TEXT] = {0,  1,  pack_text,       unpack_text      },
    [MESSAGE_FORM_OPTIONS] = {0,  1,  pack_options,    unpack_options   },
};

static gboolean is_length_of(MessageForm form, gsize len)
{
    gsize head = forms[form].head, unit = forms[form].unit;
    return unit == 0 ? len == head : len >= head && (len - head) % unit == 0;
}

GBytes *message_pack(const Message *message)
{
    GByteArray *to = g_byte_array_new();
    forms[message_info(message->type)->form].pack(message, to);
    return g_byte_array_free_to_bytes(to);
}

gboolean message_unpack(guint type, const guint8 *payload, gsize len, Message *ret_message,
                        GError **error)
{
    const MessageInfo *info = message_info(type);
    g_auto(Message) message = {.type = type};
    if (!is_length_of(info->form, len)) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL, "message '%s' of %zu bytes", info->name,
                    len);
        return FALSE;
    }
    if (!forms[info->form].unpack(payload, len, &message)) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL, "message '%s' that is no text",
                    info->name);
        return FALSE;
    }
    *ret_message = message;
    message.owned = NULL;
    return TRUE;
}

void message_clear(Message *message)
{
    g_clear_pointer(&message->owned, g_free);
}

void message_send(Link *link, const Message *message)
{
    gsize len;
    g_autoptr(GBytes) bytes = message_pack(message);
    const void *payload = g_bytes_get_data(bytes, &len);
    link_send(link, message->type, payload, len);
}

/* ---- The attachment of a checkpoint ---- */

#define ATTACHMENT_VERSION 1
#define ATTACHMENT_RUN     1u
#define ATTACHMENT_STOPPED 2u
#define ATTACHMENT_HEAD    2u

GBytes *attachment_pack(const Attachment *attachment)
{
    g_assert(!attachment->runs || !attachment->stopped);
    const guint8 head[ATTACHMENT_HEAD] = {ATTACHMENT_VERSION, attachment->runs ? ATTACHMENT_RUN
                                                              : attachment->stopped
                                                                  ? ATTACHMENT_STOPPED
                                                                  : 0};
    GByteArray *bytes = g_byte_array_new();
    g_byte_array_append(bytes, head, sizeof(head));
    if (attachment->maps) {
        gsize len;
        const guint8 *maps = g_bytes_get_data(attachment->maps, &len);
        g_byte_array_append(bytes, maps, (guint)len);
    }
    return g_byte_array_free_to_bytes(bytes);
}

gboolean attachment_unpack(guint64 epoch, GBytes *bytes, Attachment *ret_attachment, GError **error)
{
    gsize len = 0;
    const guint8 *head = bytes ? g_bytes_get_data(bytes, &len) : NULL;
    if (len < ATTACHMENT_HEAD || head[0] != ATTACHMENT_VERSION || head[1] > ATTACHMENT_STOPPED) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                    "the attachment of checkpoint %" G_GUINT64_FORMAT
                    " (%zu bytes) is not from a colod",
                    epoch, len);
        return FALSE;
    }
    *ret_attachment =
        (Attachment){.runs = head[1] == ATTACHMENT_RUN,
                     .stopped = head[1] == ATTACHMENT_STOPPED,
                     .maps = len > ATTACHMENT_HEAD ? g_bytes_new_from_bytes(bytes, ATTACHMENT_HEAD,
                                                                            len - ATTACHMENT_HEAD)
                                                   : NULL};
    return TRUE;
}

void attachment_clear(Attachment *attachment)
{
    g_clear_pointer(&attachment->maps, g_bytes_unref);
}
