/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * On json-c's incremental tokener, with three things done for it. It checks UTF-8 per call only: a
 * character cut in two by the network has to be held back until it is whole. It has no limit of
 * size. And it stays broken after an error.
 */
#include "colo/control/reader.h"

#include <string.h>

struct ControlReader {
    json_tokener *tokener;
    GByteArray *input; /* not looked at yet */
    guint64 taken;
    gsize message_bytes; /* of the message that has begun; 0: between messages */
    gboolean skipping;   /* to the next newline */
};

ControlReader *control_reader_new(void)
{
    ControlReader *reader = g_new0(ControlReader, 1);
    reader->input = g_byte_array_new();
    reader->tokener = json_tokener_new_ex(CONTROL_MESSAGE_MAX_DEPTH);
    g_assert(reader->tokener);
    json_tokener_set_flags(reader->tokener, JSON_TOKENER_STRICT |
                                                JSON_TOKENER_ALLOW_TRAILING_CHARS |
                                                JSON_TOKENER_VALIDATE_UTF8);
    return reader;
}

void control_reader_free(ControlReader *reader)
{
    if (!reader)
        return;
    json_tokener_free(reader->tokener);
    g_byte_array_unref(reader->input);
    g_free(reader);
}

void control_reader_push(ControlReader *reader, const char *data, gsize len)
{
    g_byte_array_append(reader->input, (const guint8 *)data, (guint)len);
}

gsize control_reader_pending(const ControlReader *reader)
{
    return reader->input->len;
}

guint64 control_reader_taken(const ControlReader *reader)
{
    return reader->taken;
}

gboolean control_reader_is_skipping(const ControlReader *reader)
{
    return reader->skipping;
}

static void drop(ControlReader *reader, gsize len)
{
    g_byte_array_remove_range(reader->input, 0, (guint)len);
    reader->taken += len;
}

/* FALSE while the newline isn't there. */
static gboolean skip_line(ControlReader *reader)
{
    const guint8 *newline = memchr(reader->input->data, '\n', reader->input->len);
    if (!newline) {
        drop(reader, reader->input->len);
        return FALSE;
    }
    drop(reader, (gsize)(newline - reader->input->data) + 1);
    reader->skipping = FALSE;
    return TRUE;
}

static void skip_space(ControlReader *reader)
{
    gsize len = 0;
    while (len < reader->input->len && memchr(" \t\r\n", reader->input->data[len], 4))
        len++;
    drop(reader, len);
}

/* How many bytes of the input may be looked at: all, or without a last, incomplete character. */
static gsize whole_characters(const ControlReader *reader)
{
    const char *text = (const char *)reader->input->data;
    gsize len = reader->input->len;
    for (gsize tail = 1; tail <= MIN(len, 3); tail++) {
        guchar c = (guchar)text[len - tail];
        if ((c & 0xc0) == 0x80)
            continue;
        if (c >= 0xc0 && g_utf8_get_char_validated(text + len - tail, (gssize)tail) == (gunichar)-2)
            return len - tail;
        break;
    }
    return len;
}

static ControlReaderResult fail(ControlReader *reader, char **ret_error, char *text)
{
    json_tokener_reset(reader->tokener);
    reader->message_bytes = 0;
    reader->skipping = TRUE;
    skip_line(reader);
    *ret_error = text;
    return CONTROL_READER_ERROR;
}

ControlReaderResult control_reader_next(ControlReader *reader, json_object **ret_message,
                                        char **ret_error)
{
    if (reader->input->len == 0 || (reader->skipping && !skip_line(reader)))
        return CONTROL_READER_NEED_MORE;
    if (reader->message_bytes == 0)
        skip_space(reader);
    gsize len = whole_characters(reader);
    if (len == 0)
        return CONTROL_READER_NEED_MORE;
    /* Text that is no object isn't worth a message; this also keeps NUL and the like out. */
    if (reader->message_bytes == 0 && reader->input->data[0] != '{')
        return fail(reader, ret_error, g_strdup("expected a JSON object, {...}"));
    len = MIN(len, CONTROL_MESSAGE_MAX_BYTES + 1 - reader->message_bytes);
    json_object *message =
        json_tokener_parse_ex(reader->tokener, (const char *)reader->input->data, (int)len);
    enum json_tokener_error result = json_tokener_get_error(reader->tokener);
    gsize taken = message ? json_tokener_get_parse_end(reader->tokener) : len;
    reader->message_bytes += taken;
    if (!message && result != json_tokener_continue)
        return fail(reader, ret_error,
                    g_strdup_printf("no JSON: %s", json_tokener_error_desc(result)));
    drop(reader, taken);
    if (reader->message_bytes > CONTROL_MESSAGE_MAX_BYTES) {
        json_object_put(message);
        return fail(reader, ret_error,
                    g_strdup_printf("longer than the %u bytes that a message may have",
                                    CONTROL_MESSAGE_MAX_BYTES));
    }
    if (!message)
        return CONTROL_READER_NEED_MORE;
    reader->message_bytes = 0;
    *ret_message = message;
    return CONTROL_READER_MESSAGE;
}
