/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The lines are listed here, the values come from GKeyFile. Both must see the same entries. So the
 * listing refuses whatever GKeyFile would read in another way. The names are checked against the
 * known ones before GKeyFile sees them.
 */
#include "colo/config/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "colo/config/config.h"
#include "common/fd.h"

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
                    "%s:%u: '%s' is before the first [SECTION]", file->path, line, text);
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

/* A byte order mark would be a part of the first line, and UTF-16 no text at all. */
static gboolean check_mark(const char *path, const char *data, gsize len, GError **error)
{
    gboolean utf8 = len >= 3 && !memcmp(data, "\xef\xbb\xbf", 3);
    gboolean utf16 = len >= 2 && (!memcmp(data, "\xff\xfe", 2) || !memcmp(data, "\xfe\xff", 2));
    if (!utf8 && !utf16)
        return TRUE;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FILE,
                "%s:1: begins with a byte order mark%s: save it as UTF-8 without one", path,
                utf16 ? " (of UTF-16)" : "");
    return FALSE;
}

ConfigFile *config_file_new(const char *path, const char *data, gsize len, GError **error)
{
    g_autoptr(ConfigFile) file = g_new0(ConfigFile, 1);
    file->path = g_strdup(path);
    file->entries = g_ptr_array_new_with_free_func(entry_free);
    if (len > FILE_MAX_BYTES) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FILE,
                    "%s: more than %u bytes are too many for a configuration", path,
                    FILE_MAX_BYTES);
        return NULL;
    }
    if (!check_mark(path, data, len, error))
        return NULL;
    file->data = g_strndup(data, len);
    file->len = len;
    return list_lines(file, error) ? g_steal_pointer(&file) : NULL;
}

/* At most one byte more than a configuration may have: a device may have no end. */
ConfigFile *config_file_read(const char *path, GError **error)
{
    g_autofree char *data = g_malloc(FILE_MAX_BYTES + 1);
    gsize len = 0;
    ssize_t got = 0;
    COLO_AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && len <= FILE_MAX_BYTES) {
        got = read(fd, data + len, FILE_MAX_BYTES + 1 - len);
        if (got == 0 || (got < 0 && errno != EINTR))
            break;
        len += got > 0 ? (gsize)got : 0;
    }
    if (fd < 0 || got < 0) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FILE, "configuration: %s: %s", path,
                    g_strerror(errno));
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
