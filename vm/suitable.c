/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/suitable.h"

#include <stdio.h>
#include <string.h>

static const char *member_string(json_object *object, const char *key)
{
    json_object *value;
    if (json_object_object_get_ex(object, key, &value) &&
        json_object_is_type(value, json_type_string))
        return json_object_get_string(value);
    return NULL;
}

static gboolean member_int(json_object *object, const char *key, int *ret)
{
    json_object *value;
    if (!json_object_object_get_ex(object, key, &value) ||
        !json_object_is_type(value, json_type_int))
        return FALSE;
    *ret = json_object_get_int(value);
    return TRUE;
}

static gboolean is_new_enough(int major, int minor, int micro, GError **error)
{
    int least_major, least_minor;

    sscanf(VM_QEMU_MINIMUM, "%d.%d", &least_major, &least_minor);
    if (major > least_major || (major == least_major && minor >= least_minor))
        return TRUE;
    g_set_error(error, VM_ERROR, VM_ERROR_TOO_OLD,
                "QEMU %d.%d.%d is too old: " VM_QEMU_MINIMUM " or newer is needed", major, minor,
                micro);
    return FALSE;
}

gboolean vm_check_version_text(const char *text, GError **error)
{
    int major, minor, micro;

    if (sscanf(text, "QEMU emulator version %d.%d.%d", &major, &minor, &micro) == 3)
        return is_new_enough(major, minor, micro, error);
    g_set_error(error, VM_ERROR, VM_ERROR_NO_QEMU, "is no QEMU: it does not report its version");
    return FALSE;
}

char *suitable_version(json_object *version, GError **error)
{
    json_object *qemu;
    int major, minor, micro;

    if (!json_object_object_get_ex(version, "qemu", &qemu) || !member_int(qemu, "major", &major) ||
        !member_int(qemu, "minor", &minor) || !member_int(qemu, "micro", &micro)) {
        g_set_error(error, VM_ERROR, VM_ERROR_QMP, "QEMU does not report its version");
        return NULL;
    }
    if (!is_new_enough(major, minor, micro, error))
        return NULL;
    return g_strdup_printf("%d.%d.%d", major, minor, micro);
}

static json_object *find_machine(json_object *machines, const char *machine)
{
    for (gsize i = 0; i < json_object_array_length(machines); i++) {
        json_object *entry = json_object_array_get_idx(machines, i);
        if (!g_strcmp0(member_string(entry, "name"), machine) ||
            !g_strcmp0(member_string(entry, "alias"), machine))
            return entry;
    }
    return NULL;
}

char *suitable_machine(json_object *machines, const char *machine, const char *ram_id,
                       GError **error)
{
    json_object *entry = NULL;

    if (json_object_is_type(machines, json_type_array))
        entry = find_machine(machines, machine);
    const char *name = entry ? member_string(entry, "name") : NULL;
    if (!name) {
        g_set_error(error, VM_ERROR, VM_ERROR_DESCRIPTION,
                    "machine: this QEMU has no '%s' (see its -machine help)", machine);
        return NULL;
    }
    const char *id = member_string(entry, "default-ram-id");
    if (g_strcmp0(id, ram_id)) {
        g_set_error(error, VM_ERROR, VM_ERROR_UNSUPPORTED,
                    "machine %s of this QEMU calls its RAM '%s', not '%s': this machine is not "
                    "supported",
                    name, id ? id : "?", ram_id);
        return NULL;
    }
    return g_strdup(name);
}

gboolean suitable_blockers(json_object *migrate, GError **error)
{
    json_object *reasons;
    g_autoptr(GString) all = g_string_new(NULL);

    if (!json_object_object_get_ex(migrate, "blocked-reasons", &reasons) ||
        !json_object_is_type(reasons, json_type_array) || json_object_array_length(reasons) == 0)
        return TRUE;
    for (gsize i = 0; i < json_object_array_length(reasons); i++) {
        json_object *reason = json_object_array_get_idx(reasons, i);
        const char *text =
            json_object_is_type(reason, json_type_string) ? json_object_get_string(reason) : "?";
        g_string_append_printf(all, "%s%s", i ? "; " : "", text);
    }
    g_set_error(
        error, VM_ERROR, VM_ERROR_UNSUPPORTED,
        "QEMU reports that this VM can't be migrated, so it can't be protected: %s (remove or "
        "replace that device)",
        all->str);
    return FALSE;
}

/* Types as QOM names them; a '*' at one end matches anything there. */
static const struct {
    const char *type, *why;
} denied[] = {
    {"nvme",         "its state can't be saved and loaded repeatedly; use virtio-blk-pci"     },
    {"nvme-*",       "its state can't be saved and loaded repeatedly; use virtio-blk-pci"     },
    {"vfio-*",       "a passed-through device writes to RAM unseen; use an emulated one"      },
    {"vhost-user-*", "another process writes to RAM unseen; use the device without vhost-user"},
    {"vhost-vsock*", "the host's kernel holds its state; use virtio-serial-pci"               },
    {"vhost-scsi*",  "the host's kernel holds its state; use virtio-scsi-pci"                 },
    {"vhost-vdpa*",  "a passed-through device writes to RAM unseen; use an emulated one"      },
    {"ivshmem-*",    "its memory is shared with others and is not replicated; remove it"      },
    {"nvdimm",       "its memory is not replicated; use a disk"                               },
    {"pc-dimm",      "memory added as a module is not replicated; use 'memory'"               },
    {"virtio-pmem*", "its memory is not replicated; use virtio-blk-pci"                       },
    {"virtio-mem*",  "its memory is not replicated; use 'memory'"                             },
    {"sgx-epc",      "its memory can't be read from outside; remove it"                       },
    {"tpm-*",        "its state is another process's or the host's; remove it"                },
    {"usb-host",     "a passed-through device's state is not replicated; remove it"           },
};

static gboolean type_matches(const char *pattern, const char *type)
{
    gsize len = strlen(pattern);
    if (*pattern == '*')
        return g_str_has_suffix(type, pattern + 1);
    return pattern[len - 1] == '*' ? !strncmp(pattern, type, len - 1) : !strcmp(pattern, type);
}

/* Memory of their own, which suitable_ram_blocks() finds. */
static const struct {
    const char *type, *why;
} with_memory[] = {
    {"VGA",           "remove the display adapter and use a serial console"},
    {"*-vga",         "remove the display adapter and use a serial console"},
    {"qxl*",          "remove the display adapter and use a serial console"},
    {"bochs-display", "remove the display adapter and use a serial console"},
    {"secondary-vga", "remove the display adapter and use a serial console"},
    {"ramfb",         "remove the display adapter and use a serial console"},
};

static const char *why_denied(const char *type)
{
    for (gsize i = 0; i < G_N_ELEMENTS(denied); i++)
        if (type_matches(denied[i].type, type))
            return denied[i].why;
    for (gsize i = 0; i < G_N_ELEMENTS(with_memory); i++)
        if (type_matches(with_memory[i].type, type))
            return with_memory[i].why;
    return NULL;
}

gboolean vm_description_check_devices(const VmDescription *d, GError **error)
{
    for (guint i = 0; i + 1 < d->extra->len; i++) {
        const char *option = g_ptr_array_index(d->extra, i);
        const char *value = g_ptr_array_index(d->extra, i + 1);
        option += strspn(option, "-");
        g_autofree char *type = g_strndup(value, strcspn(value, ","));
        const char *why = NULL;
        if (!strcmp(option, "device"))
            why = why_denied(g_str_has_prefix(type, "driver=") ? type + 7 : type);
        else if (!strcmp(option, "vga") && strcmp(type, "none") != 0)
            why = "leave it out and use a serial console";
        else if (!strcmp(option, "pflash") ||
                 (!strcmp(option, "drive") && strstr(value, "if=pflash")))
            why = "give the firmware with -bios instead of as flash memory";
        if (!why)
            continue;
        g_set_error(error, VM_ERROR, VM_ERROR_UNSUPPORTED, "extra: '-%s %s' can't be protected: %s",
                    option, value, why);
        return FALSE;
    }
    return TRUE;
}

gboolean suitable_devices(json_object *properties, GError **error)
{
    if (!json_object_is_type(properties, json_type_array))
        return TRUE;
    for (gsize i = 0; i < json_object_array_length(properties); i++) {
        json_object *property = json_object_array_get_idx(properties, i);
        const char *type = member_string(property, "type");
        if (!type || !g_str_has_prefix(type, "child<") || !g_str_has_suffix(type, ">"))
            continue;
        g_autofree char *name = g_strndup(type + 6, strlen(type) - 7);
        for (gsize j = 0; j < G_N_ELEMENTS(denied); j++) {
            if (!type_matches(denied[j].type, name))
                continue;
            g_set_error(error, VM_ERROR, VM_ERROR_UNSUPPORTED,
                        "the device %s can't be protected: %s", name, denied[j].why);
            return FALSE;
        }
    }
    return TRUE;
}

/* Memory that the guest reads only. */
static gboolean is_rom(const char *block)
{
    return g_str_has_prefix(block, "/rom@") || g_str_has_suffix(block, ".rom") ||
           g_str_has_suffix(block, ".bios") || !strcmp(block, "isa-bios");
}

static const char *advice(const char *block)
{
    if (strstr(block, "vram") || strstr(block, "vga") || strstr(block, "ramfb"))
        return "remove the display adapter and use a serial console";
    if (strstr(block, "flash"))
        return "give the firmware with -bios instead of as flash memory";
    return "remove the device that it belongs to";
}

gboolean suitable_ram_blocks(const char *info, const char *ram_id, GError **error)
{
    g_auto(GStrv) lines = g_strsplit(info, "\n", -1);
    gboolean found = FALSE;

    for (guint i = 1; lines[0] && lines[i]; i++) {
        g_autofree char *line = g_strstrip(g_strdelimit(g_strdup(lines[i]), "\r\t", ' '));
        gsize name_len = strcspn(line, " ");
        if (name_len == 0)
            continue;
        line[name_len] = '\0';
        if (!strcmp(line, ram_id)) {
            found = TRUE;
        } else if (!is_rom(line)) {
            g_set_error(error, VM_ERROR, VM_ERROR_UNSUPPORTED,
                        "the guest can write to memory '%s', which is not replicated: %s", line,
                        advice(line));
            return FALSE;
        }
    }
    if (!found) {
        g_set_error(error, VM_ERROR, VM_ERROR_UNSUPPORTED,
                    "QEMU lists no memory '%s': this machine is not supported", ram_id);
        return FALSE;
    }
    return TRUE;
}
