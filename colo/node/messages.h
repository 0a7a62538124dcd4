/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The node's messages on the control connection, and its part of a checkpoint, as structs.
 * docs/PROTOCOL.md specifies the messages, docs/STREAM.md ("The attachment") the other.
 *
 * Owns: the table of messages, their formats and limits. No other file of this room reads or writes
 * integers in byte order. Doesn't: know what a message leads to, or whether it fits the state.
 * Always holds: unpacking reads within the payload only. It accepts only lengths that the form of
 * the message has, and allocates a small multiple of the payload. Unpacking what was packed gives
 * the same struct.
 *
 * Pure, but for message_send().
 */
#ifndef COLO_COLO_NODE_MESSAGES_H
#define COLO_COLO_NODE_MESSAGES_H

#include "colo/link/link.h"

/* Of a text, but for OPTIONS: bytes that are sent, and that are looked at. */
#define MESSAGE_TEXT_MAX 512u
/* Runs of pages that one message has room for. */
#define MESSAGE_READY_RUNS_MAX (LINK_MESSAGE_MAX / 16)
#define MESSAGE_DIRTY_RUNS_MAX ((LINK_MESSAGE_MAX - 16) / 8)

typedef enum {
    MESSAGE_FROM_PRIMARY = 1,
    MESSAGE_FROM_SECONDARY = 2,
    MESSAGE_FROM_BOTH = 3,
} MessageFrom;

/* What a payload looks like. */
typedef enum {
    MESSAGE_FORM_EMPTY, /* bytes that come all the same are ignored */
    MESSAGE_FORM_EPOCH,
    MESSAGE_FORM_APPLIED,
    MESSAGE_FORM_READY,
    MESSAGE_FORM_DIRTY,
    MESSAGE_FORM_ADDRESSES,
    MESSAGE_FORM_STALLED,
    MESSAGE_FORM_SETTLED,
    MESSAGE_FORM_REFUSED,
    MESSAGE_FORM_MOVED,
    MESSAGE_FORM_CARRIER,
    MESSAGE_FORM_SWITCHOVER,
    MESSAGE_FORM_TEXT,
    MESSAGE_FORM_OPTIONS,
    MESSAGE_FORMS,
} MessageForm;

typedef struct {
    const char *name; /* as in docs/PROTOCOL.md, in lower case */
    MessageFrom from;
    MessageForm form;
} MessageInfo;

/* Pages `first` to `first + count - 1`. */
typedef struct {
    guint64 first, count;
} MessageRun;

typedef struct {
    guint64 epoch, apply_us;
} MessageApplied;

typedef struct {
    const MessageRun *runs;
    gsize n_runs;
} MessageReady;

typedef struct {
    guint64 epoch;
    guint32 follow;         /* DIRTY messages after this one */
    const MessageRun *runs; /* of pages below 2^32 */
    gsize n_runs;
} MessageDirty;

typedef struct {
    guint32 card;
    const guint8 *data; /* addresses_serialise() */
    gsize len;
} MessageAddresses;

typedef struct {
    guint64 epoch;
    const char *why;
} MessageStalled;

typedef struct {
    guint64 epoch;
    guint64 count;
    const guint64 *numbers; /* ascending, which is not checked */
    gsize n_numbers;
} MessageSettled;

typedef enum {
    MESSAGE_REFUSED_UNASKED,    /* the arbiter was not asked */
    MESSAGE_REFUSED_ASKED,      /* it was, and may have granted it */
    MESSAGE_REFUSED_GIVEN_BACK, /* it had granted it, and has the primary as the owner again */
    MESSAGE_REFUSED_KINDS
} MessageRefusedKind;

typedef struct {
    MessageRefusedKind kind;
    const char *why;
} MessageRefused;

typedef struct {
    guint64 epoch; /* that the VM continues from */
    guint64 us;    /* HANDED: since the VM's pause began; TAKEN: from HANDED until it ran */
} MessageMoved;

typedef struct {
    guint32 id, flags;
    const char *text;
} MessageSwitchover;

/*
 * What the pointers in it point to. For a message to be packed it is borrowed. For an unpacked one
 * it is the message's own, or the payload.
 */
typedef struct {
    LinkMessage type;
    union { /* by the form of the type */
        guint64 epoch;
        MessageApplied applied;
        MessageReady ready;
        MessageDirty dirty;
        MessageAddresses addresses;
        MessageStalled stalled;
        MessageSettled settled;
        MessageRefused refused;
        MessageMoved moved;
        MessageSwitchover switchover;
        guint64 cut; /* CARRIER: a set of cards, bit 0 the first */
        const char *text;
    };
    gpointer owned; /* by an unpacked one */
} Message;

/* NULL if there is no such message. */
const MessageInfo *message_info(guint type);

/*
 * The payload. Texts longer than MESSAGE_TEXT_MAX are cut; the caller keeps to the limits of
 * everything else.
 */
GBytes *message_pack(const Message *message);

/*
 * `type`: one that there is. Texts become valid UTF-8. `payload` has to stay until message_clear().
 * Error: NODE_ERROR_PROTOCOL, which names the message.
 */
gboolean message_unpack(guint type, const guint8 *payload, gsize len, Message *ret_message,
                        GError **error);
void message_clear(Message *message);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Message, message_clear)

/* Packs it and gives it to link_send(). */
void message_send(Link *link, const Message *message);

/* ---- The attachment of a checkpoint ---- */

typedef struct {
    gboolean runs;    /* the secondary's VM is to run from this checkpoint on */
    gboolean stopped; /* an administrator has stopped the guest: never with `runs` */
    GBytes *maps;     /* rewrite_export(); NULL: none */
} Attachment;

GBytes *attachment_pack(const Attachment *attachment);
/* `bytes` may be NULL, which is an error. The error is NODE_ERROR_PROTOCOL and names `epoch`. */
gboolean attachment_unpack(guint64 epoch, GBytes *bytes, Attachment *ret_attachment,
                           GError **error);
void attachment_clear(Attachment *attachment);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Attachment, attachment_clear)

#endif
