/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a VM is made of, and whether two hosts describe the same one. Deliberately no knowledge of
 * what a QEMU can do: that is asked of the QEMU itself at start.
 */
#include "vm/vm_internal.h"

#include <stdarg.h>
#include <string.h>

/* 1 TiB: PAGEMAP_SCAN and the page bitmaps have been thought through up to here. */
#define MEMORY_MAX_BYTES (G_GUINT64_CONSTANT(1) << 40)
#define MEMORY_MIN_BYTES (G_GUINT64_CONSTANT(1) << 20)
#define CPUS_MAX         255
#define NICS_MAX         32
#define DISKS_MAX        32

static void nic_free(gpointer data)
{
    VmNic *nic = data;
    g_free(nic->model);
    g_free(nic->mac);
    g_free(nic);
}

static void disk_free(gpointer data)
{
    VmDisk *disk = data;
    g_free(disk->name);
    g_free(disk->model);
    g_free(disk->path);
    g_free(disk);
}

const char *vm_disk_format_name(VmDiskFormat format)
{
    return format == VM_DISK_RAW ? "raw" : "qcow2";
}

VmDescription *vm_description_new(void)
{
    VmDescription *d = g_new0(VmDescription, 1);
    d->nics = g_ptr_array_new_with_free_func(nic_free);
    d->disks = g_ptr_array_new_with_free_func(disk_free);
    d->extra = g_ptr_array_new_with_free_func(g_free);
    d->cpus = 1;
    d->serial = g_strdup("none");
    return d;
}

VmDescription *vm_description_copy(const VmDescription *from)
{
    VmDescription *d = vm_description_new();
    g_free(d->serial);
    d->name = g_strdup(from->name);
    d->uuid = g_strdup(from->uuid);
    d->machine = g_strdup(from->machine);
    d->cpu = g_strdup(from->cpu);
    d->cpus = from->cpus;
    d->memory_bytes = from->memory_bytes;
    d->kernel = g_strdup(from->kernel);
    d->initrd = g_strdup(from->initrd);
    d->append = g_strdup(from->append);
    d->qemu = g_strdup(from->qemu);
    d->accel = from->accel;
    d->serial = g_strdup(from->serial);
    d->guest_agent = from->guest_agent;
    d->other_qemu = from->other_qemu;
    for (guint i = 0; i < from->nics->len; i++) {
        const VmNic *nic = g_ptr_array_index(from->nics, i);
        vm_description_add_nic(d, nic->model, nic->mac)->attach = nic->attach;
    }
    for (guint i = 0; i < from->disks->len; i++) {
        const VmDisk *disk = g_ptr_array_index(from->disks, i);
        VmDisk *copy = g_new0(VmDisk, 1);
        *copy = (VmDisk){.name = g_strdup(disk->name),
                         .format = disk->format,
                         .model = g_strdup(disk->model),
                         .path = g_strdup(disk->path),
                         .on_error = disk->on_error};
        g_ptr_array_add(d->disks, copy);
    }
    d->disk_socket = g_strdup(from->disk_socket);
    for (guint i = 0; i < from->extra->len; i++)
        g_ptr_array_add(d->extra, g_strdup(g_ptr_array_index(from->extra, i)));
    return d;
}

void vm_description_free(VmDescription *d)
{
    if (!d)
        return;
    g_free(d->name);
    g_free(d->uuid);
    g_free(d->machine);
    g_free(d->cpu);
    g_free(d->kernel);
    g_free(d->initrd);
    g_free(d->append);
    g_ptr_array_unref(d->nics);
    g_ptr_array_unref(d->disks);
    g_ptr_array_unref(d->extra);
    g_free(d->qemu);
    g_free(d->serial);
    g_free(d->disk_socket);
    g_free(d);
}

VmAttach vm_nic_attach(const VmNic *nic)
{
    return nic->attach == VM_ATTACH_VHOST_USER ? VM_ATTACH_VHOST_USER : VM_ATTACH_REDIRECTOR;
}

const char *vm_attach_name(VmAttach attach)
{
    static const char *const names[] = {"auto", "vhost-user", "redirector"};
    return names[attach];
}

VmNic *vm_description_add_nic(VmDescription *description, const char *model, const char *mac)
{
    VmNic *nic = g_new0(VmNic, 1);
    nic->model = g_strdup(model);
    nic->mac = g_strdup(mac);
    g_ptr_array_add(description->nics, nic);
    return nic;
}

VmDisk *vm_description_add_disk(VmDescription *description, const char *name)
{
    VmDisk *disk = g_new0(VmDisk, 1);
    *disk = (VmDisk){.name = g_strdup(name), .model = g_strdup("virtio-blk-pci")};
    g_ptr_array_add(description->disks, disk);
    return disk;
}

G_GNUC_PRINTF(4, 5)
static gboolean wrong(VmFault *fault, const char *key, GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    fault->key = key;
    g_set_error_literal(error, VM_ERROR, VM_ERROR_DESCRIPTION, text);
    return FALSE;
}

/* Non-empty, of letters, digits and `more` only. */
static gboolean is_word(const char *text, const char *more)
{
    if (!text || !*text)
        return FALSE;
    for (; *text; text++)
        if (!g_ascii_isalnum(*text) && !strchr(more, *text))
            return FALSE;
    return TRUE;
}

static gboolean check_machine(const char *machine, VmFault *fault, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(machine ? machine : "", ",", -1);
    const char *name = parts[0] ? parts[0] : "";

    if (strcmp(name, "pc") && strcmp(name, "q35") && strcmp(name, "microvm") &&
        !g_str_has_prefix(name, "pc-i440fx-") && !g_str_has_prefix(name, "pc-q35-"))
        return wrong(fault, "machine", error,
                     "machine: '%s' is not supported: use pc, q35, microvm or a versioned name "
                     "such as pc-q35-7.2",
                     name);
    for (char **option = parts + 1; *option; option++)
        if (g_str_has_prefix(*option, "memory-backend=") || g_str_has_prefix(*option, "accel="))
            return wrong(fault, "machine", error,
                         "machine: the option '%s' is set by us: leave it out", *option);
    return TRUE;
}

/* "52:54:00:12:34:56": FALSE if it isn't one. */
static gboolean parse_mac(const char *text, guint8 ret_mac[6])
{
    if (!text || strlen(text) != 17)
        return FALSE;
    for (guint i = 0; i < 6; i++, text += 3) {
        if (!g_ascii_isxdigit(text[0]) || !g_ascii_isxdigit(text[1]) || (i < 5 && text[2] != ':'))
            return FALSE;
        ret_mac[i] = (guint8)(g_ascii_xdigit_value(text[0]) << 4 | g_ascii_xdigit_value(text[1]));
    }
    return TRUE;
}

static gboolean check_nic(const VmNic *nic, VmFault *fault, GError **error)
{
    static const guint8 zeroes[6];
    guint8 mac[6];

    if (!is_word(nic->model, "-_."))
        return wrong(fault, "model", error,
                     "model '%s': expected a QEMU device such as virtio-net-pci",
                     nic->model ? nic->model : "");
    if (!parse_mac(nic->mac, mac))
        return wrong(fault, "mac", error, "mac '%s': expected six bytes such as 52:54:00:12:34:56",
                     nic->mac ? nic->mac : "");
    if (nic->attach == VM_ATTACH_VHOST_USER && !g_str_has_prefix(nic->model, "virtio-net-pci"))
        return wrong(fault, "attach", error,
                     "attach: vhost-user is for virtio-net-pci only, not for '%s': use auto",
                     nic->model);
    if (mac[0] & 1)
        return wrong(fault, "mac", error,
                     "mac '%s' is a multicast address: its first byte must be even", nic->mac);
    if (!memcmp(mac, zeroes, 6))
        return wrong(fault, "mac", error, "mac '%s' is no address", nic->mac);
    return TRUE;
}

static gboolean check_nics(const GPtrArray *nics, VmFault *fault, GError **error)
{
    if (nics->len > NICS_MAX)
        return wrong(fault, "nics", error, "nics: %u are too many: %u at most", nics->len,
                     NICS_MAX);
    for (guint i = 0; i < nics->len; i++) {
        const VmNic *nic = g_ptr_array_index(nics, i);
        *fault = (VmFault){.part = VM_PART_NIC, .index = i};
        if (!check_nic(nic, fault, error))
            return FALSE;
        for (guint j = 0; j < i; j++) {
            const VmNic *other = g_ptr_array_index(nics, j);
            if (!g_ascii_strcasecmp(nic->mac, other->mac))
                return wrong(fault, "mac", error, "mac '%s' is that of nic %u too", nic->mac, j);
        }
    }
    return TRUE;
}

static gboolean check_disk(const VmDisk *disk, VmFault *fault, GError **error)
{
    if (!is_word(disk->name, "-_.") || strlen(disk->name) > 64)
        return wrong(fault, "name", error,
                     "name '%s': expected 1 to 64 letters, digits and any of -_.",
                     disk->name ? disk->name : "");
    if (!is_word(disk->model, "-_."))
        return wrong(fault, "model", error,
                     "model '%s': expected a QEMU device such as virtio-blk-pci",
                     disk->model ? disk->model : "");
    if (!disk->path || disk->path[0] != '/')
        return wrong(fault, "path", error, "path '%s': expected an absolute path",
                     disk->path ? disk->path : "");
    return TRUE;
}

static gboolean check_disks(const GPtrArray *disks, VmFault *fault, GError **error)
{
    *fault = (VmFault){.part = VM_PART_MACHINE};
    if (disks->len > DISKS_MAX)
        return wrong(fault, "disks", error, "disks: %u are too many: %u at most", disks->len,
                     DISKS_MAX);
    for (guint i = 0; i < disks->len; i++) {
        const VmDisk *disk = g_ptr_array_index(disks, i);
        *fault = (VmFault){.part = VM_PART_DISK, .index = i};
        if (!check_disk(disk, fault, error))
            return FALSE;
        for (guint j = 0; j < i; j++) {
            const VmDisk *other = g_ptr_array_index(disks, j);
            if (!strcmp(disk->name, other->name))
                return wrong(fault, "name", error, "name '%s' is that of disk %u too", disk->name,
                             j);
            if (!strcmp(disk->path, other->path))
                return wrong(fault, "path", error, "path '%s' is that of disk %u too", disk->path,
                             j);
        }
    }
    return TRUE;
}

/* Arguments that would fight with ours; what to use instead. */
static const struct {
    const char *option, *instead;
} reserved[] = {
    {"S",               "a VM always starts stopped"                        },
    {"M",               "use 'machine'"                                     },
    {"machine",         "use 'machine'"                                     },
    {"m",               "use 'memory'"                                      },
    {"smp",             "use 'cpus'"                                        },
    {"cpu",             "use 'cpu'"                                         },
    {"accel",           "use 'accel'"                                       },
    {"enable-kvm",      "use 'accel'"                                       },
    {"kernel",          "use 'kernel'"                                      },
    {"initrd",          "use 'initrd'"                                      },
    {"append",          "use 'append'"                                      },
    {"uuid",            "use 'uuid'"                                        },
    {"name",            "use 'name'"                                        },
    {"nic",             "use a NIC section"                                 },
    {"net",             "use a NIC section"                                 },
    {"serial",          "use 'serial'"                                      },
    {"numa",            "RAM has to be one block"                           },
    {"mem-path",        "RAM is shared memory made by us"                   },
    {"mem-prealloc",    "RAM is shared memory made by us"                   },
    {"incoming",        "device state is loaded by us"                      },
    {"loadvm",          "device state is loaded by us"                      },
    {"daemonize",       "QEMU is our child process"                         },
    {"preconfig",       "QEMU is started by us"                             },
    {"only-migratable", "what can't be migrated is found and named at start"},
    {"no-shutdown",     "it is always given"                                },
    {"version",         "it would not start a VM"                           },
    {"help",            "it would not start a VM"                           },
    {"h",               "it would not start a VM"                           },
};

static gboolean check_extra(const GPtrArray *extra, VmFault *fault, GError **error)
{
    for (guint i = 0; i < extra->len; i++) {
        const char *arg = g_ptr_array_index(extra, i);
        if (!arg || !*arg)
            return wrong(fault, "extra", error, "extra argument %u is empty", i + 1);
        if (arg[0] != '-')
            continue;
        const char *option = arg + (arg[1] == '-' ? 2 : 1);
        for (gsize j = 0; j < G_N_ELEMENTS(reserved); j++)
            if (!strcmp(option, reserved[j].option))
                return wrong(fault, "extra", error, "extra argument '%s' can't be used here: %s",
                             arg, reserved[j].instead);
    }
    return TRUE;
}

static gboolean check_host_part(const VmDescription *d, VmFault *fault, GError **error)
{
    if (d->qemu && !*d->qemu)
        return wrong(fault, "qemu", error, "qemu: the name of the binary is empty");
    const char *serial = d->serial ? d->serial : "";
    if (strcmp(serial, "none") && !(g_str_has_prefix(serial, "file:") && serial[5]) &&
        !(g_str_has_prefix(serial, "unix:") && serial[5]))
        return wrong(fault, "serial", error, "serial: '%s': expected none, file:PATH or unix:PATH",
                     serial);
    return TRUE;
}

static gboolean check_vm(const VmDescription *d, VmFault *fault, GError **error)
{
    if (!d->name || !*d->name || strlen(d->name) > 64 || !is_word(d->name, "-_.+@"))
        return wrong(fault, "name", error,
                     "name: '%s': expected 1 to 64 letters, digits and any of -_.+@",
                     d->name ? d->name : "");
    if (!d->uuid || !g_uuid_string_is_valid(d->uuid))
        return wrong(fault, "uuid", error, "uuid: '%s' is none: uuidgen prints a new one",
                     d->uuid ? d->uuid : "");
    if (!check_machine(d->machine, fault, error))
        return FALSE;
    if (d->cpu && !is_word(d->cpu, "-_.,=+:"))
        return wrong(fault, "cpu", error,
                     "cpu: '%s': expected a QEMU CPU model such as host or qemu64", d->cpu);
    if (d->cpus < 1 || d->cpus > CPUS_MAX)
        return wrong(fault, "cpus", error, "cpus: %u: expected 1 to %d", d->cpus, CPUS_MAX);
    if (d->memory_bytes < MEMORY_MIN_BYTES || d->memory_bytes > MEMORY_MAX_BYTES ||
        d->memory_bytes % MEMORY_MIN_BYTES)
        return wrong(fault, "memory", error,
                     "memory: %" G_GUINT64_FORMAT " bytes: expected whole MiB, 1 MiB to 1 TiB",
                     d->memory_bytes);
    const char *key = d->initrd ? "initrd" : "append";
    if (!d->kernel && (d->initrd || d->append))
        return wrong(fault, key, error, "%s: it needs a kernel", key);
    key = d->kernel && !*d->kernel ? "kernel" : "initrd";
    if ((d->kernel && !*d->kernel) || (d->initrd && !*d->initrd))
        return wrong(fault, key, error, "%s: the path is empty", key);
    return check_extra(d->extra, fault, error) && check_host_part(d, fault, error);
}

gboolean vm_description_find_fault(const VmDescription *d, VmFault *ret_fault, GError **error)
{
    *ret_fault = (VmFault){.part = VM_PART_MACHINE};
    return check_vm(d, ret_fault, error) && check_nics(d->nics, ret_fault, error) &&
           check_disks(d->disks, ret_fault, error);
}

gboolean vm_description_check(const VmDescription *d, GError **error)
{
    VmFault fault;
    if (vm_description_find_fault(d, &fault, error))
        return TRUE;
    if (fault.part == VM_PART_NIC)
        g_prefix_error(error, "nic %u: ", fault.index);
    else if (fault.part == VM_PART_DISK)
        g_prefix_error(error, "disk %u: ", fault.index);
    return FALSE;
}
