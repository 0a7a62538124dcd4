/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The first bytes of every connection, in both directions: "COLOLINK", be16 protocol version, be16
 * zero, be32 length, and a JSON object of that length. The magic and the version come first and
 * will never move, so that a stranger or another version is told apart before anything else is
 * read.
 */
#include "colo/link_internal.h"
#include "common/endian.h"

#include <string.h>

#define MAGIC            "COLOLINK"
#define PROTOCOL_VERSION 1

GByteArray *hello_build(json_object *object)
{
    const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN);
    guint8 prefix[HELLO_PREFIX_BYTES];
    memcpy(prefix, MAGIC, 8);
    colo_put_be16(prefix + 8, PROTOCOL_VERSION);
    colo_put_be16(prefix + 10, 0);
    colo_put_be32(prefix + 12, (guint32)strlen(text));
    GByteArray *bytes = g_byte_array_new();
    g_byte_array_append(bytes, prefix, sizeof(prefix));
    g_byte_array_append(bytes, (const guint8 *)text, (guint)strlen(text));
    return bytes;
}

HelloResult hello_parse(const guint8 *data, gsize len, json_object **ret_object, gsize *ret_used,
                        GError **error)
{
    if (memcmp(data, MAGIC, MIN(len, 8))) {
        g_set_error(error, LINK_ERROR, LINK_ERROR_PROTOCOL,
                    "the other end doesn't speak colo's protocol");
        return HELLO_BAD;
    }
    if (len < HELLO_PREFIX_BYTES)
        return HELLO_SHORT;
    guint16 version = colo_get_be16(data + 8);
    guint32 body = colo_get_be32(data + 12);
    if (version != PROTOCOL_VERSION) {
        g_set_error(error, LINK_ERROR, LINK_ERROR_PROTOCOL,
                    "protocol version %u there, %u here: both hosts need the same colo", version,
                    PROTOCOL_VERSION);
        return HELLO_BAD;
    }
    if (body > HELLO_MAX_BYTES) {
        g_set_error(error, LINK_ERROR, LINK_ERROR_PROTOCOL, "a hello of %u bytes, at most %u", body,
                    HELLO_MAX_BYTES);
        return HELLO_BAD;
    }
    if (len < HELLO_PREFIX_BYTES + body)
        return HELLO_SHORT;
    struct json_tokener *tokener = json_tokener_new_ex(16);
    json_object *object =
        json_tokener_parse_ex(tokener, (const char *)data + HELLO_PREFIX_BYTES, (int)body);
    gboolean whole = json_tokener_get_error(tokener) == json_tokener_success &&
                     json_tokener_get_parse_end(tokener) == body;
    json_tokener_free(tokener);
    if (!whole || !json_object_is_type(object, json_type_object)) {
        json_object_put(object);
        g_set_error(error, LINK_ERROR, LINK_ERROR_PROTOCOL, "a hello that is no JSON object");
        return HELLO_BAD;
    }
    *ret_object = object;
    *ret_used = HELLO_PREFIX_BYTES + body;
    return HELLO_WHOLE;
}

const char *hello_string(json_object *object, const char *member)
{
    json_object *value;
    if (!json_object_object_get_ex(object, member, &value) ||
        !json_object_is_type(value, json_type_string))
        return NULL;
    return json_object_get_string(value);
}
