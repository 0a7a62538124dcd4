/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Members of JSON objects, one call each. */
#ifndef COLO_COMMON_JSON_H
#define COLO_COMMON_JSON_H

#include <glib.h>
#include <json-c/json.h>

/* A copy of the text; null if it is NULL. */
static inline void colo_json_add_string(json_object *object, const char *name, const char *value)
{
    json_object_object_add(object, name, value ? json_object_new_string(value) : NULL);
}

static inline void colo_json_add_uint(json_object *object, const char *name, guint64 value)
{
    json_object_object_add(object, name, json_object_new_uint64(value));
}

static inline void colo_json_add_int(json_object *object, const char *name, gint64 value)
{
    json_object_object_add(object, name, json_object_new_int64(value));
}

static inline void colo_json_add_bool(json_object *object, const char *name, gboolean value)
{
    json_object_object_add(object, name, json_object_new_boolean(value));
}

/* Adds an empty object; borrowed. */
static inline json_object *colo_json_add_object(json_object *parent, const char *name)
{
    json_object *object = json_object_new_object();
    json_object_object_add(parent, name, object);
    return object;
}

/* A member, borrowed; NULL if there is none, or `object` is NULL or no object. */
static inline json_object *colo_json_at(json_object *object, const char *name)
{
    json_object *value = NULL;
    return json_object_object_get_ex(object, name, &value) ? value : NULL;
}

/* A member's text, borrowed; `otherwise` if it is not a text. */
static inline const char *colo_json_text(json_object *object, const char *name,
                                         const char *otherwise)
{
    json_object *value = colo_json_at(object, name);
    return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : otherwise;
}

#endif
