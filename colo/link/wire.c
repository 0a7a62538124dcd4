/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Bytes of the link: docs/PROTOCOL.md. Pure; trusts nothing that it reads. */
#include <string.h>

#include "colo/link/link_internal.h"
#include "common/endian.h"

#define MAGIC       "COLOLINK"
#define MAGIC_BYTES 8u
#define JSON_DEPTH  16
/* Of what a stranger sent, shown to people. */
#define PRINTABLE_MAX 48u

static LinkParse bad(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

static LinkParse bad(GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, LINK_ERROR, LINK_ERROR_PROTOCOL, text);
    return LINK_PARSE_BAD;
}

/* ---- Hellos ---- */

GBytes *link_build_hello(LinkHelloKind kind, json_object *body)
{
    const char *text = json_object_to_json_string_ext(body, JSON_C_TO_STRING_PLAIN);
    gsize len = strlen(text);
    guint8 *bytes = g_malloc(LINK_HELLO_HEAD + len);
    memcpy(bytes, MAGIC, MAGIC_BYTES);
    colo_put_be16(bytes + 8, LINK_PROTOCOL);
    colo_put_be16(bytes + 10, (guint16)kind);
    colo_put_be32(bytes + 12, (guint32)len);
    memcpy(bytes + LINK_HELLO_HEAD, text, len);
    return g_bytes_new_take(bytes, LINK_HELLO_HEAD + len);
}

static json_object *parse_object(const guint8 *text, gsize len)
{
    struct json_tokener *tokener = json_tokener_new_ex(JSON_DEPTH);
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
    json_object *object = json_tokener_parse_ex(tokener, (const char *)text, (int)len);
    gboolean whole = json_tokener_get_error(tokener) == json_tokener_success &&
                     json_tokener_get_parse_end(tokener) == len &&
                     json_object_is_type(object, json_type_object);
    json_tokener_free(tokener);
    if (whole)
        return object;
    json_object_put(object);
    return NULL;
}

LinkParse link_parse_hello(const guint8 *data, gsize len, LinkHelloKind *ret_kind,
                           json_object **ret_body, gsize *ret_need, GError **error)
{
    if (memcmp(data, MAGIC, MIN(len, MAGIC_BYTES))) {
        g_autofree char *text = link_printable(data, len);
        return bad(error, "this is not the protocol of colo's link: it begins with \"%s\"", text);
    }
    if (len < LINK_HELLO_HEAD) {
        *ret_need = LINK_HELLO_HEAD;
        return LINK_PARSE_SHORT;
    }
    guint16 version = colo_get_be16(data + 8);
    guint16 kind = colo_get_be16(data + 10);
    guint32 body_len = colo_get_be32(data + 12);
    if (version != LINK_PROTOCOL && kind != LINK_REFUSAL)
        return bad(error, "protocol versions %u and %u: run the same version of colo on both hosts",
                   LINK_PROTOCOL, version);
    if (kind < LINK_HELLO || kind > LINK_REFUSAL)
        return bad(error, "a hello of unknown kind %u", kind);
    if (body_len > LINK_HELLO_MAX)
        return bad(error, "a hello of %u bytes, where %u are allowed", body_len, LINK_HELLO_MAX);
    *ret_need = LINK_HELLO_HEAD + (gsize)body_len;
    if (len < *ret_need)
        return LINK_PARSE_SHORT;
    json_object *body = parse_object(data + LINK_HELLO_HEAD, body_len);
    if (!body)
        return bad(error, "a hello whose body is not a JSON object");
    *ret_kind = kind;
    *ret_body = body;
    return LINK_PARSE_WHOLE;
}

const char *link_hello_string(json_object *object, const char *member, gsize max)
{
    json_object *value;
    if (!json_object_object_get_ex(object, member, &value) ||
        !json_object_is_type(value, json_type_string))
        return NULL;
    const char *text = json_object_get_string(value);
    gsize len = (gsize)json_object_get_string_len(value);
    /* A length that differs from strlen() means a NUL within. */
    if (len == 0 || len > max || strlen(text) != len || !g_utf8_validate(text, -1, NULL))
        return NULL;
    for (const char *c = text; *c; c = g_utf8_next_char(c))
        if (g_unichar_iscntrl(g_utf8_get_char(c)))
            return NULL;
    return text;
}

char *link_printable(const guint8 *data, gsize len)
{
    GString *text = g_string_new(NULL);
    for (gsize i = 0; i < MIN(len, PRINTABLE_MAX) && data[i] != '\r' && data[i] != '\n'; i++)
        g_string_append_c(text, g_ascii_isprint((char)data[i]) ? (char)data[i] : '.');
    return g_string_free(text, FALSE);
}

/* ---- Control messages ---- */

void link_build_message_head(guint8 head[LINK_MESSAGE_HEAD], guint16 type, gsize len)
{
    colo_put_be32(head, (guint32)len);
    colo_put_be16(head + 4, type);
    colo_put_be16(head + 6, 0);
}

LinkParse link_parse_message(const guint8 *data, gsize len, LinkParsedMessage *ret_message,
                             GError **error)
{
    if (len < LINK_MESSAGE_HEAD)
        return LINK_PARSE_SHORT;
    guint32 payload_len = colo_get_be32(data);
    guint16 type = colo_get_be16(data + 4);
    if (colo_get_be16(data + 6) != 0)
        return bad(error, "control: a message of type %u whose header isn't one", type);
    if (payload_len > LINK_MESSAGE_MAX)
        return bad(error, "control: a message of type %u with %u bytes, where %u are allowed", type,
                   payload_len, LINK_MESSAGE_MAX);
    if (type < LINK_TYPE_SERVICE && type != LINK_TYPE_HEARTBEAT && type != LINK_TYPE_ECHO)
        return bad(error, "control: a message of unknown type %u", type);
    if (type == LINK_TYPE_HEARTBEAT && payload_len != LINK_BEAT_BYTES)
        return bad(error, "control: a heartbeat of %u bytes, where %u belong", payload_len,
                   LINK_BEAT_BYTES);
    if (type == LINK_TYPE_ECHO && payload_len != LINK_ECHO_BYTES)
        return bad(error, "control: the echo of a heartbeat of %u bytes, where %u belong",
                   payload_len, LINK_ECHO_BYTES);
    if (len - LINK_MESSAGE_HEAD < payload_len)
        return LINK_PARSE_SHORT;
    *ret_message = (LinkParsedMessage){.type = type,
                                       .payload = data + LINK_MESSAGE_HEAD,
                                       .len = payload_len,
                                       .used = LINK_MESSAGE_HEAD + (gsize)payload_len};
    return LINK_PARSE_WHOLE;
}

/* ---- Heartbeats ---- */

void link_build_beat(guint8 payload[LINK_BEAT_BYTES], const LinkBeat *beat)
{
    colo_put_be64(payload, beat->number);
    colo_put_be64(payload + 8, (guint64)beat->sent.us);
}

void link_build_echo(guint8 payload[LINK_ECHO_BYTES], const LinkBeat *echo)
{
    link_build_beat(payload, echo);
    colo_put_be64(payload + LINK_BEAT_BYTES, echo->timeout_us);
}

LinkBeat link_parse_beat(const guint8 payload[LINK_BEAT_BYTES])
{
    return (LinkBeat){.number = colo_get_be64(payload),
                      .sent = {.us = (gint64)colo_get_be64(payload + 8)}};
}

LinkBeat link_parse_echo(const guint8 payload[LINK_ECHO_BYTES])
{
    LinkBeat echo = link_parse_beat(payload);
    echo.timeout_us = colo_get_be64(payload + LINK_BEAT_BYTES);
    return echo;
}

/* ---- Packets ---- */

void link_build_packet_head(guint8 head[LINK_PACKET_HEAD], guint32 nic, guint64 epoch, gsize len)
{
    colo_put_be32(head, (guint32)len);
    colo_put_be32(head + 4, nic);
    colo_put_be64(head + 8, epoch);
}

LinkParse link_parse_packet(const guint8 *data, gsize len, LinkParsedPacket *ret_packet,
                            GError **error)
{
    if (len < LINK_PACKET_HEAD)
        return LINK_PARSE_SHORT;
    guint32 frame_len = colo_get_be32(data);
    if (frame_len == 0 || frame_len > LINK_PACKET_MAX)
        return bad(error, "packets: a frame of %u bytes, where 1 to %u are allowed", frame_len,
                   LINK_PACKET_MAX);
    if (len - LINK_PACKET_HEAD < frame_len)
        return LINK_PARSE_SHORT;
    *ret_packet = (LinkParsedPacket){.nic = colo_get_be32(data + 4),
                                     .epoch = colo_get_be64(data + 8),
                                     .frame = data + LINK_PACKET_HEAD,
                                     .len = frame_len,
                                     .used = LINK_PACKET_HEAD + (gsize)frame_len};
    return LINK_PARSE_WHOLE;
}
