/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/wire.h"

#include <string.h>
#include <xxhash.h>

#include "block/chunk-map.h"
#include "common/endian.h"
#include "common/json.h"

#define HELLO_MAX 65536u
#define ERROR_MAX 4096u

/* What the fields of a type may be. */
typedef struct {
    const char *name;
    guint32 min_length, max_length;
    gboolean on_disk; /* `disk` names one; offset (and count) lie within it */
} TypeRule;

static const TypeRule rules[] = {
    [WIRE_HELLO] = {"HELLO",    2,               HELLO_MAX,                         FALSE},
    [WIRE_BITMAP] = {"BITMAP",   1,               WIRE_BITMAP_CHUNKS / 8,            TRUE },
    [WIRE_READY] = {"READY",    0,               0,                                 FALSE},
    [WIRE_START] = {"START",    0,               0,                                 FALSE},
    [WIRE_WRITE] = {"WRITE",    1,               WIRE_DATA_MAX,                     TRUE },
    [WIRE_ZERO] = {"ZERO",     12,              12,                                TRUE },
    [WIRE_HASH] = {"HASH",     WIRE_HASH_BYTES, WIRE_HASH_CHUNKS *WIRE_HASH_BYTES, TRUE },
    [WIRE_NEED] = {"NEED",     1,               (WIRE_HASH_CHUNKS + 7) / 8,        TRUE },
    [WIRE_SYNC_END] = {"SYNC_END", 0,               0,                                 FALSE},
    [WIRE_SYNCED] = {"SYNCED",   0,               0,                                 FALSE},
    [WIRE_MARK] = {"MARK",     8,               8,                                 FALSE},
    [WIRE_APPLIED] = {"APPLIED",  0,               0,                                 FALSE},
    [WIRE_ERROR] = {"ERROR",    0,               ERROR_MAX,                         FALSE},
};

const char *wire_type_name(guint16 type)
{
    return type < G_N_ELEMENTS(rules) && rules[type].name ? rules[type].name : "unknown";
}

static void encode(const WireHeader *header, guint8 *bytes)
{
    colo_put_be16(bytes, header->type);
    colo_put_be16(bytes + 2, header->disk);
    colo_put_be32(bytes + 4, header->length);
    colo_put_be64(bytes + 8, header->epoch);
    colo_put_be64(bytes + 16, header->offset);
    colo_put_be32(bytes + 24, header->count);
    colo_put_be32(bytes + 28, (guint32)XXH3_64bits(bytes, 28));
}

WireRecord *wire_record_new(const WireHeader *header)
{
    gsize len = WIRE_HEADER + header->length;
    WireRecord *record = g_malloc(sizeof(*record) + len);
    record->next = NULL;
    record->len = len;
    encode(header, record->bytes);
    return record;
}

static gboolean bad(const WireHeader *header, guint64 at, const char *why, GError **error)
{
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_STREAM,
                "record %s at %" G_GUINT64_FORMAT ": %s (type %u, disk %u, length %u, offset "
                "%" G_GUINT64_FORMAT ", count %u)",
                wire_type_name(header->type), at, why, header->type, header->disk, header->length,
                header->offset, header->count);
    return FALSE;
}

/* The length that `count` asks of the payload. */
static gboolean count_fits(const WireHeader *h)
{
    switch (h->type) {
    case WIRE_HASH:
        return h->count <= WIRE_HASH_CHUNKS && h->length == h->count * WIRE_HASH_BYTES;
    case WIRE_NEED:
        return h->count <= WIRE_HASH_CHUNKS && h->length == chunk_bytes(h->count);
    case WIRE_BITMAP:
        return h->count <= WIRE_BITMAP_CHUNKS && h->length == chunk_bytes(h->count);
    default:
        return h->count == 0;
    }
}

static gboolean range_fits(const WireHeader *h, guint64 size)
{
    guint64 len;
    switch (h->type) {
    case WIRE_WRITE:
        len = h->length;
        break;
    case WIRE_ZERO: /* its length is in the payload */
        return h->offset <= size;
    default:
        return h->offset % BLOCK_CHUNK_BYTES == 0 && h->count > 0 && h->offset < size &&
               h->count <= chunk_count(size - h->offset);
    }
    return len <= size && h->offset <= size - len;
}

gboolean wire_decode(const guint8 *bytes, const guint64 *sizes, guint n_disks, guint64 at,
                     WireHeader *ret_header, GError **error)
{
    WireHeader h = {.type = colo_get_be16(bytes),
                    .disk = colo_get_be16(bytes + 2),
                    .length = colo_get_be32(bytes + 4),
                    .epoch = colo_get_be64(bytes + 8),
                    .offset = colo_get_be64(bytes + 16),
                    .count = colo_get_be32(bytes + 24)};
    if (colo_get_be32(bytes + 28) != (guint32)XXH3_64bits(bytes, 28))
        return bad(&h, at, "the header's checksum is wrong", error);
    if (h.type & WIRE_OPTIONAL) {
        if (h.length > WIRE_DATA_MAX)
            return bad(&h, at, "too long", error);
        *ret_header = h;
        return TRUE;
    }
    if (h.type >= G_N_ELEMENTS(rules) || !rules[h.type].name)
        return bad(&h, at, "not known here (is the peer newer?)", error);
    const TypeRule *rule = &rules[h.type];
    if (h.length < rule->min_length || h.length > rule->max_length)
        return bad(&h, at, "wrong length", error);
    if (!count_fits(&h))
        return bad(&h, at, "wrong count", error);
    if (rule->on_disk && h.disk >= n_disks)
        return bad(&h, at, "no such disk", error);
    if (rule->on_disk && !range_fits(&h, sizes[h.disk]))
        return bad(&h, at, "outside the disk", error);
    *ret_header = h;
    return TRUE;
}

/* ---- Hello ---- */

static char *session_text(const guint8 *session)
{
    GString *text = g_string_new(NULL);
    for (guint i = 0; i < BLOCK_SESSION_BYTES; i++)
        g_string_append_printf(text, "%02x", session[i]);
    return g_string_free(text, FALSE);
}

gboolean wire_session_parse(json_object *text, guint8 *ret_session)
{
    guint8 session[BLOCK_SESSION_BYTES];
    if (!json_object_is_type(text, json_type_string) ||
        json_object_get_string_len(text) != 2 * BLOCK_SESSION_BYTES)
        return FALSE;
    const char *at = json_object_get_string(text);
    for (guint i = 0; i < BLOCK_SESSION_BYTES; i++) {
        int high = g_ascii_xdigit_value(at[2 * i]), low = g_ascii_xdigit_value(at[2 * i + 1]);
        if (high < 0 || low < 0)
            return FALSE;
        session[i] = (guint8)(high << 4 | low);
    }
    memcpy(ret_session, session, sizeof(session));
    return TRUE;
}

static void add_id(json_object *object, const char *key, guint64 id)
{
    char text[GENERATION_TEXT_BYTES];
    generation_text(id, text);
    if (id != 0)
        colo_json_add_string(object, key, text);
}

json_object *wire_generation_object(const Generation *generation)
{
    json_object *object = json_object_new_object(), *history = json_object_new_array();
    add_id(object, "current", generation->current);
    add_id(object, "bitmap", generation->bitmap);
    for (guint i = 0; i < GENERATION_HISTORY && generation->history[i] != 0; i++) {
        char text[GENERATION_TEXT_BYTES];
        generation_text(generation->history[i], text);
        json_object_array_add(history, json_object_new_string(text));
    }
    json_object_object_add(object, "history", history);
    colo_json_add_string(object, "data", generation_data_name(generation->data));
    return object;
}

WireRecord *wire_hello_new(const WireHello *hello, const DiskConfig *disks, const guint64 *sizes,
                           guint n_disks)
{
    json_object *object = json_object_new_object();
    g_autofree char *session = session_text(hello->session);
    colo_json_add_int(object, "version", WIRE_VERSION);
    colo_json_add_string(object, "role", hello->primary ? "primary" : "replica");
    colo_json_add_string(object, "session", session);
    json_object *list = json_object_new_array();
    for (guint i = 0; i < n_disks; i++) {
        json_object *disk = json_object_new_object();
        colo_json_add_string(disk, "name", disks[i].name);
        colo_json_add_string(disk, "format", disks[i].format);
        colo_json_add_int(disk, "size", (gint64)sizes[i]);
        json_object_array_add(list, disk);
    }
    json_object_object_add(object, "disks", list);
    if (hello->has_lineage) {
        g_autofree char *lineage = session_text(hello->lineage);
        json_object *from = json_object_new_object();
        colo_json_add_string(from, "session", lineage);
        colo_json_add_uint(from, "epoch", hello->lineage_epoch);
        colo_json_add_bool(from, "writer", hello->writer);
        json_object_object_add(object, "lineage", from);
    }
    json_object_object_add(object, "generation", wire_generation_object(&hello->generation));
    if (hello->discard)
        colo_json_add_bool(object, "discard", TRUE);
    const char *text = json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN);
    WireHeader header = {.type = WIRE_HELLO, .length = (guint32)strlen(text)};
    WireRecord *record = wire_record_new(&header);
    memcpy(wire_payload(record), text, header.length);
    json_object_put(object);
    return record;
}

static gboolean mismatch(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);
static gboolean mismatch(GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, BLOCK_ERROR, BLOCK_ERROR_MISMATCH, text);
    return FALSE;
}

static const char *string_of(json_object *object, const char *key)
{
    json_object *value;
    if (!json_object_object_get_ex(object, key, &value) ||
        !json_object_is_type(value, json_type_string))
        return "";
    return json_object_get_string(value);
}

static gboolean check_disk(json_object *theirs, const DiskConfig *ours, guint64 size,
                           GError **error)
{
    const char *name = string_of(theirs, "name"), *format = string_of(theirs, "format");
    json_object *their_size = NULL;
    if (strcmp(name, ours->name))
        return mismatch(error, "the peer's disk is named \"%.64s\" where ours is \"%s\"", name,
                        ours->name);
    if (strcmp(format, ours->format))
        return mismatch(error, "disk %s: format %s here, %.64s there", name, ours->format, format);
    if (!json_object_object_get_ex(theirs, "size", &their_size) ||
        (guint64)json_object_get_int64(their_size) != size)
        return mismatch(error, "disk %s: %" G_GUINT64_FORMAT " bytes here, %s there", name, size,
                        their_size ? json_object_to_json_string(their_size) : "unknown");
    return TRUE;
}

static gboolean check_disks(json_object *hello, const DiskConfig *disks, const guint64 *sizes,
                            guint n_disks, GError **error)
{
    json_object *list;
    if (!json_object_object_get_ex(hello, "disks", &list) ||
        !json_object_is_type(list, json_type_array) || json_object_array_length(list) != n_disks)
        return mismatch(error, "the peer does not have %u disk(s) as we do", n_disks);
    for (guint i = 0; i < n_disks; i++)
        if (!check_disk(json_object_array_get_idx(list, i), &disks[i], sizes[i], error))
            return FALSE;
    return TRUE;
}

static void read_lineage(json_object *hello, WireHello *theirs)
{
    json_object *from, *session, *epoch, *writer;
    theirs->has_lineage = json_object_object_get_ex(hello, "lineage", &from) &&
                          json_object_object_get_ex(from, "session", &session) &&
                          json_object_object_get_ex(from, "epoch", &epoch) &&
                          json_object_object_get_ex(from, "writer", &writer) &&
                          wire_session_parse(session, theirs->lineage) &&
                          json_object_is_type(epoch, json_type_int) &&
                          json_object_is_type(writer, json_type_boolean);
    if (theirs->has_lineage) {
        theirs->lineage_epoch = json_object_get_uint64(epoch);
        theirs->writer = json_object_get_boolean(writer);
    }
}

static guint64 id_of(json_object *object, const char *key)
{
    guint64 id = 0;
    generation_parse(string_of(object, key), &id);
    return id;
}

gboolean wire_generation_parse(json_object *object, Generation *ret_generation)
{
    Generation generation = {0};
    json_object *history = NULL;
    if (!json_object_is_type(object, json_type_object) ||
        !generation_data_parse(string_of(object, "data"), &generation.data))
        return FALSE;
    generation.current = id_of(object, "current");
    generation.bitmap = id_of(object, "bitmap");
    json_object_object_get_ex(object, "history", &history);
    if (history && !json_object_is_type(history, json_type_array))
        return FALSE;
    gsize count = history ? json_object_array_length(history) : 0;
    for (gsize i = 0; i < MIN(count, GENERATION_HISTORY); i++) {
        json_object *text = json_object_array_get_idx(history, i);
        if (!json_object_is_type(text, json_type_string) ||
            !generation_parse(json_object_get_string(text), &generation.history[i]))
            return FALSE;
    }
    *ret_generation = generation;
    return TRUE;
}

static gboolean read_generation(json_object *hello, WireHello *theirs, GError **error)
{
    json_object *discard;
    theirs->discard = json_object_object_get_ex(hello, "discard", &discard) &&
                      json_object_is_type(discard, json_type_boolean) &&
                      json_object_get_boolean(discard);
    if (wire_generation_parse(json_object_object_get(hello, "generation"), &theirs->generation))
        return TRUE;
    return mismatch(error, "the peer does not tell the generation of its disks");
}

static gboolean check_object(json_object *hello, const WireHello *ours, const DiskConfig *disks,
                             const guint64 *sizes, guint n_disks, WireHello *theirs, GError **error)
{
    json_object *version, *session;
    if (!json_object_object_get_ex(hello, "version", &version) ||
        json_object_get_int(version) != (int)WIRE_VERSION)
        return mismatch(error, "the peer's disks use another version of the stream than %u",
                        WIRE_VERSION);
    if (!json_object_object_get_ex(hello, "session", &session) ||
        !wire_session_parse(session, theirs->session) ||
        memcmp(theirs->session, ours->session, BLOCK_SESSION_BYTES))
        return mismatch(error, "the peer's disks belong to another session");
    theirs->primary = !strcmp(string_of(hello, "role"), "primary");
    if (theirs->primary == ours->primary)
        return mismatch(error, "both sides' disks are attached as %s",
                        ours->primary ? "primary" : "replica");
    if (!check_disks(hello, disks, sizes, n_disks, error))
        return FALSE;
    read_lineage(hello, theirs);
    return read_generation(hello, theirs, error);
}

gboolean wire_hello_check(const guint8 *payload, gsize len, const WireHello *ours,
                          const DiskConfig *disks, const guint64 *sizes, guint n_disks,
                          WireHello *ret_theirs, GError **error)
{
    json_tokener *tokener = json_tokener_new_ex(8);
    json_object *hello = json_tokener_parse_ex(tokener, (const char *)payload, (int)len);
    gboolean ok = FALSE;
    if (!hello || !json_object_is_type(hello, json_type_object)) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_STREAM, "record HELLO: not a JSON object");
    } else {
        WireHello theirs = {0};
        ok = check_object(hello, ours, disks, sizes, n_disks, &theirs, error);
        if (ok)
            *ret_theirs = theirs;
    }
    json_object_put(hello);
    json_tokener_free(tokener);
    return ok;
}
