/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * JSON objects out of a stream of untrusted bytes: incremental, bounded in size and depth. After
 * bytes that are no JSON everything up to the next newline is skipped. So one bad line costs one
 * error and not the connection.
 */
#ifndef COLO_COLO_CONTROL_READER_H
#define COLO_COLO_CONTROL_READER_H

#include <glib.h>
#include <json-c/json.h>

/* The longest message, and the deepest. */
#define CONTROL_MESSAGE_MAX_BYTES (64u << 10)
#define CONTROL_MESSAGE_MAX_DEPTH 16

typedef struct ControlReader ControlReader;

ControlReader *control_reader_new(void);
void control_reader_free(ControlReader *reader);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ControlReader, control_reader_free)

/* Appends bytes. They are kept until control_reader_next() has taken them. */
void control_reader_push(ControlReader *reader, const char *data, gsize len);

/* Bytes pushed and not looked at yet: the caller bounds them by pushing no more. */
gsize control_reader_pending(const ControlReader *reader);

/* Bytes that control_reader_next() has taken of all that were pushed. */
guint64 control_reader_taken(const ControlReader *reader);
/* What comes next belongs to a line that was no JSON. */
gboolean control_reader_is_skipping(const ControlReader *reader);

typedef enum {
    CONTROL_READER_NEED_MORE, /* nothing complete is there */
    CONTROL_READER_MESSAGE,   /* *ret_message is a JSON object; the caller's reference */
    CONTROL_READER_ERROR,     /* *ret_error is the message; free with g_free() */
} ControlReaderResult;

/* Takes the next message. Call until it needs more. */
ControlReaderResult control_reader_next(ControlReader *reader, json_object **ret_message,
                                        char **ret_error);

#endif
