/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a file to a checked Config: first every name in the file is looked up, then every value is
 * parsed over the defaults, then what is required is missed, and last come the rules across
 * options. The first thing that is wrong is reported, with its line.
 */
#include "colo/config.h"

#include <string.h>

#include "colo/config-file.h"
#include "colo/options.h"

G_DEFINE_QUARK(config_error, config_error)

#define NIC_PREFIX "nic "

static void nic_free(gpointer data)
{
    ConfigNic *nic = data;
    g_free(nic->name);
    g_free(nic->ifname);
    g_free(nic->bridge);
    g_free(nic);
}

/* The struct that keeps an option's value; `nic` counts for options of NICs only. */
static void *owner_of(const Config *config, const Option *option, guint nic)
{
    switch (option->owner) {
    case OPTION_OF_CONFIG:
        return (void *)config;
    case OPTION_OF_VM:
        return config->vm;
    case OPTION_OF_VM_NIC:
        return g_ptr_array_index(config->vm->nics, nic);
    case OPTION_OF_CONFIG_NIC:
        return g_ptr_array_index(config->nics, nic);
    }
    g_assert_not_reached();
}

static gboolean is_of_nic(const Option *option)
{
    return option->owner == OPTION_OF_VM_NIC || option->owner == OPTION_OF_CONFIG_NIC;
}

static void set_defaults(Config *config, gboolean of_nic, guint nic)
{
    for (const Option *o = options_table(); o->section; o++)
        if (is_of_nic(o) == of_nic && o->fallback)
            g_assert(option_parse(o, o->fallback, owner_of(config, o, nic), NULL));
}

static Config *config_new(void)
{
    Config *config = g_new0(Config, 1);
    config->vm = vm_description_new();
    config->nics = g_ptr_array_new_with_free_func(nic_free);
    set_defaults(config, FALSE, 0);
    return config;
}

void config_free(Config *config)
{
    if (!config)
        return;
    for (const Option *o = options_table(); o->section; o++)
        if (o->owner == OPTION_OF_CONFIG)
            option_clear(o, config);
    vm_description_free(config->vm);
    g_ptr_array_unref(config->nics);
    g_free(config);
}

static void add_nic(Config *config, const char *name)
{
    ConfigNic *nic = g_new0(ConfigNic, 1);
    nic->name = g_strdup(name);
    g_ptr_array_add(config->nics, nic);
    vm_description_add_nic(config->vm, NULL, NULL);
    set_defaults(config, TRUE, config->nics->len - 1);
}

/* The index of [nic NAME]; FALSE if there is none. */
static gboolean find_nic(const Config *config, const char *name, guint *ret_index)
{
    for (guint i = 0; i < config->nics->len; i++) {
        const ConfigNic *nic = g_ptr_array_index(config->nics, i);
        if (!strcmp(nic->name, name)) {
            *ret_index = i;
            return TRUE;
        }
    }
    return FALSE;
}

/* The table's name of a section of the file: "nic" for "nic lan". */
static const char *table_section(const char *section)
{
    return g_str_has_prefix(section, NIC_PREFIX) ? "nic" : section;
}

/* ---- Names ---- */

static gboolean check_nic_name(const ConfigFile *file, const ConfigEntry *entry, GError **error)
{
    const char *name = entry->section + strlen(NIC_PREFIX);
    gboolean good = *name && strlen(name) <= 64;
    for (; *name; name++)
        good = good && (g_ascii_isalnum(*name) || strchr("-_.", *name));
    if (!good)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_UNKNOWN,
                    "%s:%u: [%s]: expected [nic NAME], NAME of up to 64 letters, digits and any of "
                    "-_.",
                    file->path, entry->line, entry->section);
    return good;
}

static gboolean check_section(const ConfigFile *file, const ConfigEntry *entry, GError **error)
{
    const char *section = entry->section;
    if (g_str_has_prefix(section, NIC_PREFIX))
        return check_nic_name(file, entry, error);
    g_autofree char *all = options_list_sections();
    const char *nearest = options_nearest_section(section);
    if (nearest && !strcmp(nearest, section) && strcmp(section, "nic"))
        return TRUE;
    if (nearest && !strcmp(nearest, "nic"))
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_UNKNOWN,
                    "%s:%u: section [%s]: a card needs a name, such as [nic lan]", file->path,
                    entry->line, section);
    else if (nearest)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_UNKNOWN,
                    "%s:%u: unknown section [%s]: did you mean [%s]?", file->path, entry->line,
                    section, nearest);
    else
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_UNKNOWN,
                    "%s:%u: unknown section [%s]: there are %s", file->path, entry->line, section,
                    all);
    return FALSE;
}

/* The first section that has the key, or NULL. */
static const char *section_with(const char *key)
{
    for (const Option *o = options_table(); o->section; o++)
        if (!strcmp(o->name, key))
            return o->section;
    return NULL;
}

static gboolean check_key(const ConfigFile *file, const ConfigEntry *entry, GError **error)
{
    const char *section = table_section(entry->section);
    if (options_find(section, entry->key))
        return TRUE;
    const char *nearest = options_nearest_key(section, entry->key);
    const char *elsewhere = section_with(entry->key);
    g_autofree char *hint = NULL;
    if (elsewhere) {
        hint = g_strdup_printf("it belongs in [%s]", elsewhere);
    } else if (nearest) {
        hint = g_strdup_printf("did you mean '%s'?", nearest);
    } else {
        g_autofree char *all = options_list_keys(section);
        hint = g_strdup_printf("there are %s", all);
    }
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_UNKNOWN, "%s:%u: unknown key '%s' in [%s]: %s",
                file->path, entry->line, entry->key, entry->section, hint);
    return FALSE;
}

static gboolean check_names(const ConfigFile *file, GError **error)
{
    for (guint i = 0; i < file->entries->len; i++) {
        const ConfigEntry *entry = g_ptr_array_index(file->entries, i);
        if (!(entry->key ? check_key : check_section)(file, entry, error))
            return FALSE;
    }
    return TRUE;
}

/* ---- Values ---- */

static gboolean read_value(Config *config, ConfigFile *file, const ConfigEntry *entry,
                           GError **error)
{
    g_autofree char *value = config_file_value(file, entry, error);
    if (!value)
        return FALSE;
    const Option *option = options_find(table_section(entry->section), entry->key);
    /* The entries come in order: a NIC's keys follow its section's line. */
    guint nic = config->nics->len - 1;
    if (option_parse(option, value, owner_of(config, option, nic), error))
        return TRUE;
    g_prefix_error(error, "%s:%u: ", file->path, entry->line);
    return FALSE;
}

static gboolean read_values(Config *config, ConfigFile *file, GError **error)
{
    for (guint i = 0; i < file->entries->len; i++) {
        const ConfigEntry *entry = g_ptr_array_index(file->entries, i);
        if (entry->key && !read_value(config, file, entry, error))
            return FALSE;
        if (!entry->key && g_str_has_prefix(entry->section, NIC_PREFIX))
            add_nic(config, entry->section + strlen(NIC_PREFIX));
    }
    return TRUE;
}

/* Are the required keys of the file's section `section` (the table's `name`) there? */
static gboolean check_required(const ConfigFile *file, const char *section, const char *name,
                               GError **error)
{
    for (const Option *o = options_table(); o->section; o++) {
        if (strcmp(o->section, name) || !o->required || config_file_find(file, section, o->name))
            continue;
        const ConfigEntry *header = config_file_find(file, section, NULL);
        if (header)
            g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_MISSING,
                        "%s:%u: [%s] needs the key '%s': %s", file->path, header->line, section,
                        o->name, o->help);
        else
            g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_MISSING,
                        "%s: there is no [%s], which needs at least '%s': %s", file->path, section,
                        o->name, o->help);
        return FALSE;
    }
    return TRUE;
}

static gboolean check_all_required(const Config *config, const ConfigFile *file, GError **error)
{
    const char *last = "nic";
    for (const Option *o = options_table(); o->section; o++) {
        if (strcmp(o->section, last) && !is_of_nic(o) &&
            !check_required(file, o->section, o->section, error))
            return FALSE;
        last = o->section;
    }
    for (guint i = 0; i < config->nics->len; i++) {
        const ConfigNic *nic = g_ptr_array_index(config->nics, i);
        g_autofree char *section = g_strconcat(NIC_PREFIX, nic->name, NULL);
        if (!check_required(file, section, "nic", error))
            return FALSE;
    }
    return TRUE;
}

/* ---- Rules across options ---- */

G_GNUC_PRINTF(5, 6)
static gboolean broken(const Option **ret_option, const char *section, const char *key,
                       GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    *ret_option = options_find(section, key);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_VALUE, "%s: %s", key, text);
    return FALSE;
}

/* Rules that also hold after a `set`. On failure *ret_option is whose line is to blame. */
static gboolean check_rules(const Config *c, const Option **ret_option, GError **error)
{
    if (c->heartbeat_timeout_ms < 2 * c->heartbeat_interval_ms)
        return broken(ret_option, "link", "heartbeat-timeout", error,
                      "%" G_GUINT64_FORMAT "ms is less than twice heartbeat-interval "
                      "(%" G_GUINT64_FORMAT "ms): one late heartbeat would lose the peer",
                      c->heartbeat_timeout_ms, c->heartbeat_interval_ms);
    if (c->min_gap_ms > c->checkpoint_period_ms)
        return broken(ret_option, "checkpoint", "min-gap", error,
                      "%" G_GUINT64_FORMAT "ms is longer than checkpoint-period (%" G_GUINT64_FORMAT
                      "ms)",
                      c->min_gap_ms, c->checkpoint_period_ms);
    if (!strcmp(c->arbiter, "file") && !c->arbiter_path)
        return broken(ret_option, "arbiter", "type", error,
                      "file needs the key 'path': a folder that both hosts see");
    if (!c->role)
        return broken(ret_option, "node", "role", error,
                      "neither given here nor with --role: primary or secondary");
    if (!strcmp(c->role, "secondary") && !c->peer)
        return broken(ret_option, "node", "peer", error,
                      "a secondary needs it: the address that the primary listens on");
    if (c->peer && !strcmp(c->peer, c->listen))
        return broken(ret_option, "node", "peer", error,
                      "%s is this node's own listen: it must be the other node's", c->peer);
    return TRUE;
}

static void prefix_line(const ConfigFile *file, const char *section, const char *key,
                        GError **error)
{
    const ConfigEntry *entry = config_file_find(file, section, key);
    if (!entry)
        entry = config_file_find(file, section, NULL);
    if (entry)
        g_prefix_error(error, "%s:%u: ", file->path, entry->line);
    else
        g_prefix_error(error, "%s: ", file->path);
}

/* vm_description_check() with the line of what it names: "KEY: ...", "nic N: ...", "extra ...". */
static gboolean check_vm(const Config *config, const ConfigFile *file, GError **error)
{
    g_autoptr(GError) why = NULL;
    if (vm_description_check(config->vm, &why))
        return TRUE;
    g_autofree char *section = g_strdup("vm");
    g_autofree char *key = g_strndup(why->message, strcspn(why->message, ": "));
    const char *text = why->message;
    if (g_str_has_prefix(text, "nic ") && g_ascii_isdigit(text[4])) {
        guint index = (guint)g_ascii_strtoull(text + 4, (char **)&text, 10);
        const ConfigNic *nic = g_ptr_array_index(config->nics, MIN(index, config->nics->len - 1));
        g_free(section);
        section = g_strconcat(NIC_PREFIX, nic->name, NULL);
        text += strspn(text, ": ");
        g_free(key);
        key = g_strndup(text, strcspn(text, ": "));
    }
    g_set_error_literal(error, CONFIG_ERROR, CONFIG_ERROR_VALUE, text);
    prefix_line(file, section, key, error);
    return FALSE;
}

static gboolean complete(Config *config, const ConfigFile *file, const char *role, GError **error)
{
    if (role && !option_parse(options_find("node", "role"), role, config, error)) {
        g_prefix_error(error, "--role: ");
        return FALSE;
    }
    if (!check_all_required(config, file, error))
        return FALSE;
    const Option *blamed = NULL;
    if (!check_rules(config, &blamed, error)) {
        prefix_line(file, blamed->section, blamed->name, error);
        return FALSE;
    }
    if (!check_vm(config, file, error))
        return FALSE;
    if (!config_file_find(file, "node", "control-socket")) {
        g_autofree char *path = g_strdup_printf("/run/colo/%s.sock", config->vm->name);
        return option_parse(options_find("node", "control-socket"), path, config, error);
    }
    return TRUE;
}

static Config *load(ConfigFile *file, const char *role, GError **error)
{
    g_autoptr(Config) config = config_new();
    if (!check_names(file, error) || !read_values(config, file, error) ||
        !complete(config, file, role, error))
        return NULL;
    return g_steal_pointer(&config);
}

Config *config_load(const char *path, const char *role, GError **error)
{
    g_autoptr(ConfigFile) file = config_file_read(path, error);
    return file ? load(file, role, error) : NULL;
}

Config *config_load_data(const char *path, const char *data, gsize len, const char *role,
                         GError **error)
{
    g_autoptr(ConfigFile) file = config_file_new(path, data, len, error);
    return file ? load(file, role, error) : NULL;
}

/* ---- get and set ---- */

static const Option *find_live(const char *name)
{
    for (const Option *o = options_table(); o->section; o++)
        if (o->live && !strcmp(o->name, name))
            return o;
    return NULL;
}

static const Option *unknown(const char *name, GError **error)
{
    const char *elsewhere = section_with(name);
    const char *nearest = options_nearest_live(name);
    g_autofree char *all = options_list_keys(NULL);
    g_autofree char *hint = elsewhere
                                ? g_strdup_printf("did you mean '%s%s.%s'?", elsewhere,
                                                  strcmp(elsewhere, "nic") ? "" : " NAME", name)
                            : nearest ? g_strdup_printf("did you mean '%s'?", nearest)
                                      : g_strdup_printf("live options are %s", all);
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_UNKNOWN, "unknown option '%s': %s", name, hint);
    return NULL;
}

/* An option by its live key or by SECTION.KEY; the NIC's index if it is one's. */
static const Option *resolve(const Config *config, const char *name, guint *ret_nic, GError **error)
{
    const char *dot = strrchr(name, '.');
    const Option *option = find_live(name);
    if (option || !dot)
        return option ? option : unknown(name, error);
    g_autofree char *section = g_strndup(name, (gsize)(dot - name));
    option = options_find(table_section(section), dot + 1);
    if (!option ||
        (is_of_nic(option) && (!g_str_has_prefix(section, NIC_PREFIX) ||
                               !find_nic(config, section + strlen(NIC_PREFIX), ret_nic))))
        return unknown(name, error);
    return option;
}

gboolean config_set(Config *config, const char *name, const char *value, GError **error)
{
    guint nic = 0;
    const char *fixed_section = find_live(name) ? NULL : section_with(name);
    const Option *option =
        fixed_section ? options_find(fixed_section, name) : resolve(config, name, &nic, error);
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
    if (check_rules(config, &blamed, error))
        return TRUE;
    g_assert(option_parse(option, before, config, NULL));
    return FALSE;
}

char *config_get(const Config *config, const char *name, GError **error)
{
    guint nic = 0;
    const Option *option = resolve(config, name, &nic, error);
    return option ? option_format(option, owner_of(config, option, nic)) : NULL;
}

static void list_option(const Config *config, const Option *option, guint nic, json_object *list)
{
    g_autofree char *value = option_format(option, owner_of(config, option, nic));
    g_autofree char *type = option_type_text(option);
    g_autofree char *name = NULL;
    if (is_of_nic(option)) {
        const ConfigNic *ours = g_ptr_array_index(config->nics, nic);
        name = g_strdup_printf(NIC_PREFIX "%s.%s", ours->name, option->name);
    } else {
        name = option->live ? g_strdup(option->name)
                            : g_strdup_printf("%s.%s", option->section, option->name);
    }
    json_object *entry = json_object_new_object();
    json_object_object_add(entry, "value", json_object_new_string(value));
    json_object_object_add(entry, "default",
                           option->fallback ? json_object_new_string(option->fallback) : NULL);
    json_object_object_add(entry, "type", json_object_new_string(type));
    json_object_object_add(entry, "live", json_object_new_boolean(option->live));
    json_object_object_add(entry, "help", json_object_new_string(option->help));
    json_object_object_add(list, name, entry);
}

json_object *config_list(const Config *config)
{
    json_object *list = json_object_new_object();
    for (const Option *o = options_table(); o->section; o++)
        for (guint i = 0; i < (is_of_nic(o) ? config->nics->len : 1); i++)
            list_option(config, o, i, list);
    return list;
}
