/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Options of a running colod: shown, and changed if they are live. Those of the pair also as a
 * text, in which one node tells the other. What breaks a rule changes nothing.
 */
#include <string.h>

#include "colo/config/config_internal.h"
#include "common/json.h"

static const Option *find_live(const char *name)
{
    for (const Option *o = options_table(); o->section; o++)
        if (o->live && !strcmp(o->name, name))
            return o;
    return NULL;
}

static const Option *unknown(const char *name, GError **error)
{
    const char *elsewhere = config_section_with(name);
    const char *nearest = options_nearest_live(name);
    g_autofree char *all = options_list_keys(NULL);
    g_autofree char *hint =
        elsewhere ? g_strdup_printf("did you mean '%s%s.%s'?", elsewhere,
                                    options_section_is_named(elsewhere) ? " NAME" : "", name)
        : nearest ? g_strdup_printf("did you mean '%s'?", nearest)
                  : g_strdup_printf("live options are %s", all);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_UNKNOWN, "unknown option '%s': %s", name, hint);
    return NULL;
}

/* An option by its live key or by SECTION.KEY; the index of a named section. */
static const Option *resolve(const Config *config, const char *name, guint *ret_index,
                             GError **error)
{
    const char *dot = strrchr(name, '.');
    const Option *option = find_live(name);
    if (option || !dot)
        return option ? option : unknown(name, error);
    g_autofree char *section = g_strndup(name, (gsize)(dot - name));
    option = options_find(config_table_section(section), dot + 1);
    SectionKind kind = option ? config_kind_of(option) : SECTION_ONCE;
    if (!option || kind != config_kind_of_section(section) ||
        (kind != SECTION_ONCE &&
         !config_find_named(config, kind, section + strlen(config_named[kind].prefix), ret_index)))
        return unknown(name, error);
    return option;
}

gboolean config_set(Config *config, const char *name, const char *value, GError **error)
{
    guint index = 0;
    const char *fixed_section = find_live(name) ? NULL : config_section_with(name);
    const Option *option =
        fixed_section ? options_find(fixed_section, name) : resolve(config, name, &index, error);
    if (!option)
        return FALSE;
    if (!option->live) {
        g_autofree char *all = options_list_keys(NULL);
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_FIXED,
                    "'%s' can't change while colod runs: change the file and start colod again "
                    "(%s can)",
                    name, all);
        return FALSE;
    }
    g_autofree char *before = option_format(option, config);
    if (!option_parse(option, value, config, error))
        return FALSE;
    const Option *blamed;
    if (config_check_rules(config, &blamed, error))
        return TRUE;
    g_assert(option_parse(option, before, config, NULL));
    return FALSE;
}

const char *config_live_key(const Config *config, const char *name)
{
    guint index;
    const Option *option = resolve(config, name, &index, NULL);
    return option && option->live ? option->name : NULL;
}

gboolean config_is_of_pair(const char *key)
{
    const Option *option = find_live(key);
    return option && option->of_pair;
}

char *config_pair_text(const Config *config)
{
    GString *text = g_string_new(NULL);
    for (const Option *o = options_table(); o->section; o++) {
        g_autofree char *value = o->of_pair ? option_format(o, config) : NULL;
        if (value)
            g_string_append_printf(text, "%s=%s\n", o->name, value);
    }
    return g_string_free(text, FALSE);
}

/* One line of config_set_pair(), without its end. */
static gboolean set_pair_line(Config *config, char *line, json_object *changed, GError **error)
{
    char *equals = strchr(line, '=');
    const Option *option = NULL;
    if (equals) {
        *equals = '\0';
        option = find_live(line);
    }
    if (!option || !option->of_pair) {
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_UNKNOWN, "'%s' is no option of the pair",
                    line);
        return FALSE;
    }
    g_autofree char *before = option_format(option, config);
    if (!option_parse(option, equals + 1, config, error))
        return FALSE;
    g_autofree char *value = option_format(option, config);
    if (!strcmp(value, before))
        return TRUE;
    json_object *change = json_object_new_object();
    colo_json_add_string(change, "value", value);
    colo_json_add_string(change, "before", before);
    json_object_object_add(changed, option->name, change);
    return TRUE;
}

static gboolean set_pair_lines(Config *config, const char *text, json_object *changed,
                               GError **error)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++)
        if (**line && !set_pair_line(config, *line, changed, error))
            return FALSE;
    return TRUE;
}

gboolean config_set_pair(Config *config, const char *text, json_object **ret_changed,
                         GError **error)
{
    g_autofree char *before = config_pair_text(config);
    json_object *changed = json_object_new_object();
    const Option *blamed;
    /* The rules come last: a line may be right together with a later one only. */
    if (set_pair_lines(config, text, changed, error) &&
        config_check_rules(config, &blamed, error)) {
        *ret_changed = changed;
        return TRUE;
    }
    g_assert(set_pair_lines(config, before, changed, NULL));
    json_object_put(changed);
    return FALSE;
}

char *config_get(const Config *config, const char *name, GError **error)
{
    guint index = 0;
    const Option *option = resolve(config, name, &index, error);
    return option ? option_format(option, config_owner_of(config, option, index)) : NULL;
}

static void list_option(const Config *config, const Option *option, guint index, json_object *list)
{
    g_autofree char *value = option_format(option, config_owner_of(config, option, index));
    g_autofree char *type = option_type_text(option);
    g_autofree char *name = NULL;
    SectionKind kind = config_kind_of(option);
    if (kind != SECTION_ONCE) {
        name = g_strdup_printf("%s%s.%s", config_named[kind].prefix,
                               config_name_of(config, kind, index), option->name);
    } else {
        name = option->live ? g_strdup(option->name)
                            : g_strdup_printf("%s.%s", option->section, option->name);
    }
    json_object *entry = json_object_new_object();
    colo_json_add_string(entry, "value", value);
    json_object_object_add(entry, "default",
                           option->fallback ? json_object_new_string(option->fallback) : NULL);
    colo_json_add_string(entry, "type", type);
    colo_json_add_bool(entry, "live", option->live);
    if (option->live)
        colo_json_add_string(entry, "scope", option->of_pair ? "pair" : "node");
    colo_json_add_string(entry, "help", option->help);
    json_object_object_add(list, name, entry);
}

json_object *config_list(const Config *config)
{
    json_object *list = json_object_new_object();
    for (const Option *o = options_table(); o->section; o++)
        for (guint i = 0; i < config_count_of(config, config_kind_of(o)); i++)
            list_option(config, o, i, list);
    return list;
}
