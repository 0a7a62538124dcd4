/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For shell scripts: json-get PATH < JSON prints the value at PATH ("vm.name", "nics.0.mac"): a
 * string as it is, anything else as JSON. Ends with 1 if there is nothing there, 2 if the input is
 * no JSON. Without PATH it prints the whole value on several lines.
 */
#include <glib.h>
#include <json-c/json.h>
#include <stdio.h>
#include <unistd.h>

/* The value at one step, borrowed; NULL if there is none. */
static json_object *step(json_object *from, const char *name)
{
    guint64 index;

    if (json_object_is_type(from, json_type_object))
        return json_object_object_get(from, name);
    if (json_object_is_type(from, json_type_array) &&
        g_ascii_string_to_unsigned(name, 10, 0, G_MAXUINT, &index, NULL))
        return json_object_array_get_idx(from, (size_t)index);
    return NULL;
}

int main(int argc, char **argv)
{
    g_auto(GStrv) names = g_strsplit(argc > 1 ? argv[1] : "", ".", -1);
    json_object *root = json_object_from_fd(STDIN_FILENO), *value = root;

    if (root == NULL) {
        fprintf(stderr, "json-get: %s", json_util_get_last_err());
        return 2;
    }
    for (char **name = names; *name != NULL && value != NULL; name++)
        value = step(value, *name);
    if (value != NULL && json_object_is_type(value, json_type_string))
        puts(json_object_get_string(value));
    else if (value != NULL)
        puts(json_object_to_json_string_ext(value, argc > 1 ? JSON_C_TO_STRING_PLAIN
                                                            : JSON_C_TO_STRING_PRETTY |
                                                                  JSON_C_TO_STRING_SPACED));
    json_object_put(root);
    return value != NULL ? 0 : 1;
}
