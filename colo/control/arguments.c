/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Arguments of commands: "name:string value:string force:bool?", "?" for those that may be left
 * out. */
#include <string.h>

#include "colo/control/control_internal.h"

static const struct {
    const char *name;
    json_type type;
    const char *text;
} types[] = {
    {"string", json_type_string,  "a string"      },
    {"int",    json_type_int,     "a whole number"},
    {"number", json_type_double,  "a number"      },
    {"bool",   json_type_boolean, "true or false" },
    {"array",  json_type_array,   "an array"      },
    {"object", json_type_object,  "an object"     },
};

typedef struct {
    char *name;
    gsize type; /* index in `types` */
    gboolean optional;
} Argument;

static void argument_clear(gpointer data)
{
    g_free(((Argument *)data)->name);
}

/* NULL if the spec is malformed. */
static GArray *parse_spec(const char *spec)
{
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(Argument));
    g_array_set_clear_func(list, argument_clear);
    g_auto(GStrv) words = g_strsplit(spec ? spec : "", " ", -1);
    for (char **word = words; *word && **word; word++) {
        Argument argument = {.type = G_N_ELEMENTS(types)};
        char *colon = strchr(*word, ':');
        if (!colon || colon == *word)
            return NULL;
        argument.optional = g_str_has_suffix(colon, "?");
        if (argument.optional)
            colon[strlen(colon) - 1] = '\0';
        for (gsize i = 0; i < G_N_ELEMENTS(types); i++)
            if (!strcmp(types[i].name, colon + 1))
                argument.type = i;
        if (argument.type == G_N_ELEMENTS(types))
            return NULL;
        argument.name = g_strndup(*word, (gsize)(colon - *word));
        g_array_append_val(list, argument);
    }
    return g_steal_pointer(&list);
}

gboolean control_arguments_spec_is_valid(const char *spec)
{
    g_autoptr(GArray) list = parse_spec(spec);
    return list != NULL;
}

static const Argument *find(const GArray *list, const char *name)
{
    for (guint i = 0; i < list->len; i++) {
        const Argument *argument = &g_array_index(list, Argument, i);
        if (!strcmp(argument->name, name))
            return argument;
    }
    return NULL;
}

static gboolean has_type(json_object *value, json_type type)
{
    return json_object_is_type(value, type) ||
           (type == json_type_double && json_object_is_type(value, json_type_int));
}

static gboolean check_given(const char *command, const GArray *list, const char *name,
                            json_object *value, GError **error)
{
    const Argument *argument = find(list, name);
    if (!argument) {
        g_autoptr(GString) known = g_string_new(NULL);
        for (guint i = 0; i < list->len; i++)
            g_string_append_printf(known, "%s'%s'", i > 0 ? ", " : "",
                                   g_array_index(list, Argument, i).name);
        g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_ARGUMENT, "%s: unknown argument '%s': %s%s",
                    command, name, list->len > 0 ? "it takes " : "it takes none", known->str);
        return FALSE;
    }
    if (has_type(value, types[argument->type].type))
        return TRUE;
    g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_ARGUMENT, "%s: argument '%s' must be %s",
                command, name, types[argument->type].text);
    return FALSE;
}

gboolean control_arguments_check(const char *command, const char *spec, json_object *arguments,
                                 GError **error)
{
    g_autoptr(GArray) list = parse_spec(spec);
    g_assert(list);
    if (arguments) {
        json_object_object_foreach(arguments, name, value)
        {
            if (!check_given(command, list, name, value, error))
                return FALSE;
        }
    }
    for (guint i = 0; i < list->len; i++) {
        const Argument *argument = &g_array_index(list, Argument, i);
        if (argument->optional || json_object_object_get_ex(arguments, argument->name, NULL))
            continue;
        g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_ARGUMENT,
                    "%s: argument '%s' (%s) is missing", command, argument->name,
                    types[argument->type].text);
        return FALSE;
    }
    return TRUE;
}
