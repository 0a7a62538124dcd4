/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lines are listed here, the values come from GKeyFile. Both must see the same entries: the
 * listing refuses whatever GKeyFile would read in another way, and the names are checked against
 * the known ones before GKeyFile sees them.
 */
#include "colo/config-file.h"

#include <string.h>

#include "colo/config.h"

#define FILE_MAX_BYTES (64u << 10)

static void entry_free(gpointer data)
{
    ConfigEntry *entry = data;
    g_free(entry->section);
    g_free(entry->key);
    g_free(entry);
}

void config_file_free(ConfigFile *file)
{
    if (!file)
        return;
    g_free(file->path);
    g_free(file->data);
    g_ptr_array_unref(file->entries);
    g_clear_pointer(&file->keys, g_key_file_free);
    g_free(file);
}

const ConfigEntry *config_file_find(const ConfigFile *file, const char *section, const char *key)
{
    for (guint i = 0; i < file->entries->len; i++) {
        const ConfigEntry *entry = g_ptr_array_index(file->entries, i);
        if (!strcmp(entry->section, section) && !g_strcmp0(entry->key, key))
            return entry;
    }
    return NULL;
}

static gboolean add_entry(ConfigFile *file, guint line, const char *section, const char *key,
                          GError **error)
{
    const ConfigEntry *before = config_file_find(file, section, key);
    if (before) {
        g_autofree char *what =
            key ? g_strdup_printf("'%s'", key) : g_strdup_printf("section [%s]", section);
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FILE,
                    "%s:%u: %s is there already, on line %u", file->path, line, what, before->line);
        return FALSE;
    }
    ConfigEntry *entry = g_new(ConfigEntry, 1);
    *entry = (ConfigEntry){.line = line, .section = g_strdup(section), .key = g_strdup(key)};
    g_ptr_array_add(file->entries, entry);
    return TRUE;
}

/* One line without its end; `section` is that of the line before and is changed by a header. */
static gboolean list_line(ConfigFile *file, guint line, char *text, char **section, GError **error)
{
    g_strstrip(text);
    if (!*text || *text == '#')
        return TRUE;
    if (*text == '[') {
        char *end = text + strlen(text) - 1;
        if (*end != ']' || end == text + 1 || strcspn(text + 1, "[]") != (gsize)(end - text - 1)) {
            g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FILE, "%s:%u: '%s': expected [SECTION]",
                        file->path, line, text);
            return FALSE;
        }
        *end = '\0';
        g_free(*section);
        *section = g_strdup(text + 1);
        return add_entry(file, line, *section, NULL, error);
    }
    char *equals = strchr(text, '=');
    if (!equals || equals == text) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FILE,
                    "%s:%u: '%s': expected KEY=VALUE, [SECTION] or a comment with # in front",
                    file->path, line, text);
        return FALSE;
    }
    *equals = '\0';
    g_strchomp(text);
    if (!*section) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FILE,
                    "%s:%u: '%s' stands before the first [SECTION]", file->path, line, text);
        return FALSE;
    }
    return add_entry(file, line, *section, text, error);
}

static gboolean list_lines(ConfigFile *file, GError **error)
{
    g_autofree char *section = NULL;
    const char *at = file->data, *end = file->data + file->len;
    for (guint line = 1; at < end; line++) {
        const char *newline = memchr(at, '\n', (gsize)(end - at));
        gsize len = newline ? (gsize)(newline - at) : (gsize)(end - at);
        if (!g_utf8_validate_len(at, len, NULL)) {
            g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FILE, "%s:%u: not UTF-8 text", file->path,
                        line);
            return FALSE;
        }
        g_autofree char *text = g_strndup(at, len);
        if (!list_line(file, line, text, &section, error))
            return FALSE;
        at += len + 1;
    }
    return TRUE;
}

ConfigFile *config_file_new(const char *path, const char *data, gsize len, GError **error)
{
    g_autoptr(ConfigFile) file = g_new0(ConfigFile, 1);
    file->path = g_strdup(path);
    file->entries = g_ptr_array_new_with_free_func(entry_free);
    if (len > FILE_MAX_BYTES) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FILE,
                    "%s: %zu bytes are too many for a configuration", path, len);
        return NULL;
    }
    file->data = g_strndup(data, len);
    file->len = len;
    return list_lines(file, error) ? g_steal_pointer(&file) : NULL;
}

ConfigFile *config_file_read(const char *path, GError **error)
{
    g_autofree char *data = NULL;
    gsize len;
    g_autoptr(GError) why = NULL;
    if (!g_file_get_contents(path, &data, &len, &why)) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FILE, "configuration: %s", why->message);
        return NULL;
    }
    return config_file_new(path, data, len, error);
}

char *config_file_value(ConfigFile *file, const ConfigEntry *entry, GError **error)
{
    g_autoptr(GError) why = NULL;
    if (!file->keys) {
        file->keys = g_key_file_new();
        if (!g_key_file_load_from_data(file->keys, file->data, file->len, G_KEY_FILE_NONE, &why)) {
            g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FILE, "%s: %s", file->path, why->message);
            return NULL;
        }
    }
    g_autofree char *value = g_key_file_get_string(file->keys, entry->section, entry->key, &why);
    if (why) { /* a value may come nevertheless */
        /* The text is UTF-8 and the key is there: what is left is an escape like \q. */
        g_autofree char *raw = g_key_file_get_value(file->keys, entry->section, entry->key, NULL);
        g_set_error(
            error, CONFIG_ERROR, CONFIG_ERROR_VALUE,
            "%s:%u: %s: '%s': expected \\s, \\t, \\n, \\r or \\\\ (a backslash is written as "
            "two)",
            file->path, entry->line, entry->key, raw);
        return NULL;
    }
    g_strchomp(value);
    return g_steal_pointer(&value);
}
