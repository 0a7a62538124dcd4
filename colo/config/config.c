/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From a file to a checked Config. First every name in the file is looked up, then every value is
 * parsed over the defaults. Then options that are required must be there, and last come the rules
 * across options. The first thing that is wrong is reported, with its line.
 */
#include "colo/config/config_internal.h"

#include <string.h>

#include "colo/config/file.h"
#include "common/address.h"

G_DEFINE_QUARK(config_error, config_error)

const ConfigNamedSection config_named[SECTION_KINDS] = {
    [SECTION_NIC] = {"nic",  "nic ",  "a card needs a name, such as [nic lan]"  },
    [SECTION_DISK] = {"disk", "disk ", "a disk needs a name, such as [disk root]"},
};

static void nic_free(gpointer data)
{
    ConfigNic *nic = data;
    g_free(nic->name);
    g_free(nic->ifname);
    g_free(nic->bridge);
    g_free(nic->uplink);
    g_free(nic->tap);
    g_free(nic);
}

void *config_owner_of(const Config *config, const Option *option, guint index)
{
    switch (option->owner) {
    case OPTION_OF_CONFIG:
        return (void *)config;
    case OPTION_OF_VM:
        return config->vm;
    case OPTION_OF_VM_NIC:
        return g_ptr_array_index(config->vm->nics, index);
    case OPTION_OF_CONFIG_NIC:
        return g_ptr_array_index(config->nics, index);
    case OPTION_OF_VM_DISK:
        return g_ptr_array_index(config->vm->disks, index);
    }
    g_assert_not_reached();
}

SectionKind config_kind_of(const Option *option)
{
    if (option->owner == OPTION_OF_VM_NIC || option->owner == OPTION_OF_CONFIG_NIC)
        return SECTION_NIC;
    return option->owner == OPTION_OF_VM_DISK ? SECTION_DISK : SECTION_ONCE;
}

static void set_defaults(Config *config, SectionKind kind, guint index)
{
    for (const Option *o = options_table(); o->section; o++)
        if (config_kind_of(o) == kind && o->fallback)
            g_assert(option_parse(o, o->fallback, config_owner_of(config, o, index), NULL));
}

static Config *config_new(void)
{
    Config *config = g_new0(Config, 1);
    config->vm = vm_description_new();
    config->nics = g_ptr_array_new_with_free_func(nic_free);
    set_defaults(config, SECTION_ONCE, 0);
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

static void add_named(Config *config, SectionKind kind, const char *name)
{
    if (kind == SECTION_DISK) {
        vm_description_add_disk(config->vm, name);
        set_defaults(config, kind, config->vm->disks->len - 1);
        return;
    }
    ConfigNic *nic = g_new0(ConfigNic, 1);
    nic->name = g_strdup(name);
    g_ptr_array_add(config->nics, nic);
    vm_description_add_nic(config->vm, NULL, NULL);
    set_defaults(config, kind, config->nics->len - 1);
}

guint config_count_of(const Config *config, SectionKind kind)
{
    return kind == SECTION_NIC    ? config->nics->len
           : kind == SECTION_DISK ? config->vm->disks->len
                                  : 1;
}

const char *config_name_of(const Config *config, SectionKind kind, guint index)
{
    if (kind == SECTION_DISK)
        return ((const VmDisk *)g_ptr_array_index(config->vm->disks, index))->name;
    return ((const ConfigNic *)g_ptr_array_index(config->nics, index))->name;
}

gboolean config_find_named(const Config *config, SectionKind kind, const char *name,
                           guint *ret_index)
{
    for (guint i = 0; i < config_count_of(config, kind); i++)
        if (!strcmp(config_name_of(config, kind, i), name)) {
            *ret_index = i;
            return TRUE;
        }
    return FALSE;
}

SectionKind config_kind_of_section(const char *section)
{
    for (SectionKind kind = SECTION_NIC; kind < SECTION_KINDS; kind++)
        if (g_str_has_prefix(section, config_named[kind].prefix))
            return kind;
    return SECTION_ONCE;
}

const char *config_table_section(const char *section)
{
    SectionKind kind = config_kind_of_section(section);
    return kind == SECTION_ONCE ? section : config_named[kind].section;
}

/* ---- Names ---- */

static gboolean check_section_name(const ConfigFile *file, const ConfigEntry *entry,
                                   SectionKind kind, GError **error)
{
    const char *name = entry->section + strlen(config_named[kind].prefix);
    gboolean good = *name && strlen(name) <= 64;
    for (; *name; name++)
        good = good && (g_ascii_isalnum(*name) || strchr("-_.", *name));
    if (!good)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_UNKNOWN,
                    "%s:%u: [%s]: expected [%s NAME], NAME of up to 64 letters, digits and any of "
                    "-_.",
                    file->path, entry->line, entry->section, config_named[kind].section);
    return good;
}

static gboolean check_section(const ConfigFile *file, const ConfigEntry *entry, GError **error)
{
    const char *section = entry->section;
    SectionKind kind = config_kind_of_section(section);
    if (kind != SECTION_ONCE)
        return check_section_name(file, entry, kind, error);
    g_autofree char *all = options_list_sections();
    const char *nearest = options_nearest_section(section);
    if (nearest && !strcmp(nearest, section) && !options_section_is_named(section))
        return TRUE;
    for (kind = SECTION_NIC; kind < SECTION_KINDS; kind++)
        if (!g_strcmp0(nearest, config_named[kind].section))
            break;
    if (kind < SECTION_KINDS)
        g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_UNKNOWN, "%s:%u: section [%s]: %s",
                    file->path, entry->line, section, config_named[kind].example);
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

const char *config_section_with(const char *key)
{
    for (const Option *o = options_table(); o->section; o++)
        if (!strcmp(o->name, key))
            return o->section;
    return NULL;
}

static gboolean check_key(const ConfigFile *file, const ConfigEntry *entry, GError **error)
{
    const char *section = config_table_section(entry->section);
    if (options_find(section, entry->key))
        return TRUE;
    const char *nearest = options_nearest_key(section, entry->key);
    const char *elsewhere = config_section_with(entry->key);
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
    const Option *option = options_find(config_table_section(entry->section), entry->key);
    /* The entries come in order: keys follow their section's line. */
    guint index = config_count_of(config, config_kind_of(option)) - 1;
    if (option_parse(option, value, config_owner_of(config, option, index), error))
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
        SectionKind kind = config_kind_of_section(entry->section);
        if (!entry->key && kind != SECTION_ONCE)
            add_named(config, kind, entry->section + strlen(config_named[kind].prefix));
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
    const char *last = "";
    for (const Option *o = options_table(); o->section; o++) {
        if (strcmp(o->section, last) && config_kind_of(o) == SECTION_ONCE &&
            !check_required(file, o->section, o->section, error))
            return FALSE;
        last = o->section;
    }
    for (SectionKind kind = SECTION_NIC; kind < SECTION_KINDS; kind++)
        for (guint i = 0; i < config_count_of(config, kind); i++) {
            g_autofree char *section =
                g_strconcat(config_named[kind].prefix, config_name_of(config, kind, i), NULL);
            if (!check_required(file, section, config_named[kind].section, error))
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

gboolean config_check_rules(const Config *c, const Option **ret_option, GError **error)
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
    if (c->arbiter == CONFIG_ARBITER_FILE && !c->arbiter_path)
        return broken(ret_option, "arbiter", "type", error,
                      "file needs the key 'path': a folder that both hosts see");
    if (c->role == CONFIG_ROLE_UNKNOWN)
        return broken(ret_option, "node", "role", error,
                      "neither given here nor with --role: primary, secondary or auto");
    if (c->role == CONFIG_ROLE_AUTO && c->arbiter == CONFIG_ARBITER_NONE)
        return broken(ret_option, "node", "role", error,
                      "auto needs an arbiter, which records who owns the VM: use primary or "
                      "secondary, or set type in [arbiter]");
    if (c->role != CONFIG_ROLE_PRIMARY && !c->peer)
        return broken(ret_option, "node", "peer", error,
                      "a secondary needs it: the address that the primary listens on");
    if (c->peer && colo_address_equal(c->peer, c->listen))
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

static gboolean check_vm(const Config *config, const ConfigFile *file, GError **error)
{
    static const SectionKind kinds[] = {[VM_PART_MACHINE] = SECTION_ONCE,
                                        [VM_PART_NIC] = SECTION_NIC,
                                        [VM_PART_DISK] = SECTION_DISK};
    g_autoptr(GError) why = NULL;
    VmFault fault;
    if (vm_description_find_fault(config->vm, &fault, &why))
        return TRUE;
    SectionKind kind = kinds[fault.part];
    g_autofree char *section = kind == SECTION_ONCE
                                   ? g_strdup("vm")
                                   : g_strconcat(config_named[kind].prefix,
                                                 config_name_of(config, kind, fault.index), NULL);
    g_set_error_literal(error, CONFIG_ERROR, CONFIG_ERROR_VALUE, why->message);
    prefix_line(file, section, fault.key, error);
    return FALSE;
}

/* A tap that was given is nobody else's, and its bridge and its name are not ours to choose. */
static gboolean check_tap(const Config *config, guint card, const ConfigFile *file, GError **error)
{
    static const char *const excluded[] = {"bridge", "ifname"};
    const ConfigNic *nic = g_ptr_array_index(config->nics, card);
    g_autofree char *section = g_strconcat(config_named[SECTION_NIC].prefix, nic->name, NULL);
    g_autofree char *why = NULL;
    for (gsize i = 0; nic->tap && !why && i < G_N_ELEMENTS(excluded); i++)
        if (config_file_find(file, section, excluded[i]))
            why = g_strdup_printf("%s is the work of whoever made it: leave out '%s', or 'tap'",
                                  excluded[i], excluded[i]);
    for (guint i = 0; nic->tap && !why && i < card; i++) {
        const ConfigNic *other = g_ptr_array_index(config->nics, i);
        if (!g_strcmp0(other->tap, nic->tap))
            why = g_strdup_printf("[nic %s] has it already", other->name);
    }
    if (!why)
        return TRUE;
    g_set_error(error, CONFIG_ERROR, CONFIG_ERROR_VALUE, "[%s] tap: '%s': %s", section, nic->tap,
                why);
    prefix_line(file, section, "tap", error);
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
    if (!config_check_rules(config, &blamed, error)) {
        prefix_line(file, blamed->section, blamed->name, error);
        return FALSE;
    }
    if (!check_vm(config, file, error))
        return FALSE;
    for (guint i = 0; i < config->nics->len; i++)
        if (!check_tap(config, i, file, error))
            return FALSE;
    /* Defaults with the VM's name in them. */
    if (!config_file_find(file, "disks", "state-dir")) {
        g_autofree char *dir = g_strdup_printf("/var/lib/colo/%s", config->vm->name);
        g_assert(option_parse(options_find("disks", "state-dir"), dir, config, NULL));
    }
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
