/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A key file (GKeyFile's syntax) as a list of its sections and keys with their lines, which
 * GKeyFile does not tell. Knows no options. Stricter than GKeyFile: nothing may come twice.
 */
#ifndef COLO_COLO_CONFIG_FILE_H
#define COLO_COLO_CONFIG_FILE_H

#include <glib.h>

typedef struct {
    guint line;    /* from 1 */
    char *section; /* never NULL */
    char *key;     /* NULL: the section's own line */
} ConfigEntry;

typedef struct {
    char *path;
    GPtrArray *entries; /* of ConfigEntry*, in the file's order */
    char *data;         /* the whole text */
    gsize len;
    GKeyFile *keys; /* NULL until config_file_parse() */
} ConfigFile;

/* Reads `path` and lists it. Error: CONFIG_ERROR_FILE with FILE or FILE:LINE. */
ConfigFile *config_file_read(const char *path, GError **error);

/* The same for `len` bytes of text; `path` is for messages. */
ConfigFile *config_file_new(const char *path, const char *data, gsize len, GError **error);
void config_file_free(ConfigFile *file);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ConfigFile, config_file_free)

/* The value of an entry with a key, escapes undone, space around it removed. Error:
 * CONFIG_ERROR_VALUE with FILE:LINE. */
char *config_file_value(ConfigFile *file, const ConfigEntry *entry, GError **error);

/* The entry of a key (NULL: of the section's line); NULL if it isn't there. */
const ConfigEntry *config_file_find(const ConfigFile *file, const char *section, const char *key);

#endif
