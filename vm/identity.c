/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The identity of a VM: a flat JSON object whose members must be equal on both hosts. Kernel and
 * initrd are compared by content, not by path. What comes from the peer is only ever compared and
 * printed, escaped and shortened.
 */
#include "vm/vm_internal.h"

#include "common/fd.h"
#include "common/json.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

/* Longest value that a difference quotes, in bytes. */
#define OTHER_QEMU "accept-other-qemu"
#define QUOTE_MAX  120

/* XXH3 of a file, "missing" if it can't be read (a start fails before that matters). */
static void add_file(json_object *object, const char *key, const char *path)
{
    g_autoptr(GMappedFile) file = path ? g_mapped_file_new(path, FALSE, NULL) : NULL;
    g_autofree char *digest = NULL;

    if (file) {
        XXH128_hash_t hash =
            XXH3_128bits(g_mapped_file_get_contents(file), g_mapped_file_get_length(file));
        digest = g_strdup_printf("%016" G_GINT64_MODIFIER "x%016" G_GINT64_MODIFIER "x",
                                 (guint64)hash.high64, (guint64)hash.low64);
    }
    colo_json_add_string(object, key, digest ? digest : path ? "missing" : NULL);
}

/* What an image holds in bytes; -1 if it can't be opened (serving it fails before that matters). */
static gint64 image_bytes(const char *path)
{
    COLO_AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    return fd < 0 ? -1 : (gint64)lseek(fd, 0, SEEK_END);
}

static json_object *disks_of(const VmDescription *d)
{
    json_object *disks = json_object_new_array();
    for (guint i = 0; i < d->disks->len; i++) {
        const VmDisk *disk = g_ptr_array_index(d->disks, i);
        json_object *one = json_object_new_object();
        colo_json_add_string(one, "name", disk->name);
        colo_json_add_string(one, "format", vm_disk_format_name(disk->format));
        colo_json_add_string(one, "model", disk->model);
        colo_json_add_int(one, "bytes", image_bytes(disk->path));
        json_object_array_add(disks, one);
    }
    return disks;
}

json_object *vm_identity(const Vm *vm)
{
    const VmDescription *d = vm->description;
    json_object *out = json_object_new_object();
    json_object *nics = json_object_new_array();
    json_object *extra = json_object_new_array();
    const char *comma = strchr(d->machine, ',');

    colo_json_add_string(out, "name", d->name);
    colo_json_add_string(out, "uuid", d->uuid);
    colo_json_add_string(out, "qemu", vm->qemu_version);
    colo_json_add_string(out, "machine", vm->machine_name);
    colo_json_add_string(out, "machine-options", comma ? comma + 1 : NULL);
    colo_json_add_string(out, "accel", vm->accel);
    colo_json_add_string(out, "cpu", d->cpu);
    colo_json_add_string(out, "host-cpu", vm->host_cpu);
    colo_json_add_int(out, "cpus", d->cpus);
    colo_json_add_int(out, "memory", (gint64)d->memory_bytes);
    add_file(out, "kernel", d->kernel);
    add_file(out, "initrd", d->initrd);
    colo_json_add_string(out, "append", d->append);
    for (guint i = 0; i < d->nics->len; i++) {
        const VmNic *nic = g_ptr_array_index(d->nics, i);
        g_autofree char *mac = g_ascii_strdown(nic->mac, -1);
        json_object *one = json_object_new_object();
        colo_json_add_string(one, "model", nic->model);
        colo_json_add_string(one, "mac", mac);
        /* The guest's card is another one then. Left out else: an earlier colod knows nothing of it. */
        if (vm_nic_attach(nic) == VM_ATTACH_VHOST_USER)
            colo_json_add_string(one, "attach", vm_attach_name(VM_ATTACH_VHOST_USER));
        json_object_array_add(nics, one);
    }
    json_object_object_add(out, "nics", nics);
    json_object_object_add(out, "disks", disks_of(d));
    for (guint i = 0; i < d->extra->len; i++)
        json_object_array_add(extra, json_object_new_string(g_ptr_array_index(d->extra, i)));
    json_object_object_add(out, "extra", extra);
    colo_json_add_string(out, "guest-agent", d->guest_agent ? "yes" : "no");
    if (d->other_qemu)
        colo_json_add_string(out, OTHER_QEMU, "yes");
    return out;
}

/* How a value is shown to people: plain text for words, JSON for the rest, shortened. */
static char *quote(json_object *value)
{
    if (!value)
        return g_strdup("none");
    const char *text = json_object_to_json_string_ext(value, JSON_C_TO_STRING_PLAIN |
                                                                 JSON_C_TO_STRING_NOSLASHESCAPE);
    gsize len = strlen(text);
    if (json_object_is_type(value, json_type_string) && len >= 2) {
        text++;
        len -= 2;
    }
    g_autofree char *cut = g_strndup(text, MIN(len, QUOTE_MAX));
    g_autofree char *valid = g_utf8_make_valid(cut, -1);
    return g_strconcat(valid, len > QUOTE_MAX ? "..." : "", NULL);
}

static char *difference(const char *key, json_object *ours, json_object *theirs)
{
    g_autofree char *here = quote(ours);
    g_autofree char *there = quote(theirs);
    g_autofree char *cut = g_strndup(key, QUOTE_MAX);
    g_autofree char *printable = g_strescape(cut, NULL);
    return g_strdup_printf("%s: %s here, %s there", printable, here, there);
}

/* Lists of devices, and what one of them and its members are for people. */
static const struct {
    const char *key, *one, *many;
} lists[] = {
    {"nics",  "network card", "network cards"},
    {"disks", "disk",         "disks"        },
};

/* The first member in which two devices differ; NULL if none of ours does. */
static char *device_difference(const char *what, json_object *ours, json_object *theirs)
{
    if (!json_object_is_type(ours, json_type_object) ||
        !json_object_is_type(theirs, json_type_object))
        return NULL;
    json_object_object_foreach(ours, key, our_value)
    {
        json_object *their_value = NULL;
        json_object_object_get_ex(theirs, key, &their_value);
        if (json_object_equal(our_value, their_value))
            continue;
        g_autofree char *one = difference(key, our_value, their_value);
        return g_strdup_printf("%s: %s", what, one);
    }
    return NULL;
}

/* What differs in a list of devices, in words; NULL if `key` is none, or the peer's is odd. */
static char *list_difference(const char *key, json_object *ours, json_object *theirs)
{
    gsize list = 0;
    while (list < G_N_ELEMENTS(lists) && strcmp(lists[list].key, key) != 0)
        list++;
    if (list == G_N_ELEMENTS(lists) || !json_object_is_type(ours, json_type_array) ||
        !json_object_is_type(theirs, json_type_array))
        return NULL;
    gsize n = json_object_array_length(ours);
    if (n != json_object_array_length(theirs))
        return g_strdup_printf("%s: %zu here, %zu there", lists[list].many, n,
                               json_object_array_length(theirs));
    for (gsize i = 0; i < n; i++) {
        json_object *our_one = json_object_array_get_idx(ours, i), *name = NULL;
        json_object_object_get_ex(our_one, "name", &name);
        g_autofree char *called = quote(name);
        g_autofree char *what = name ? g_strdup_printf("%s %s", lists[list].one, called)
                                     : g_strdup_printf("%s %zu", lists[list].one, i + 1);
        char *text = device_difference(what, our_one, json_object_array_get_idx(theirs, i));
        if (text)
            return text;
    }
    return NULL;
}

/* "pc-q35-7.2": what the guest sees is the same on each QEMU that has it. */
static gboolean is_versioned(json_object *machine)
{
    if (!json_object_is_type(machine, json_type_string))
        return FALSE;
    const char *text = json_object_get_string(machine), *version = strrchr(text, '-');
    gsize major = version ? strspn(++version, "0123456789") : 0;
    if (major == 0 || version[major] != '.')
        return FALSE;
    const char *minor = version + major + 1;
    return *minor && strspn(minor, "0123456789") == strlen(minor);
}

/* Both sides say so, and the machine is one that both versions know. That it is the same one is
 * looked at as any other member is. */
static gboolean may_be_other_qemu(json_object *ours, json_object *theirs)
{
    json_object *our_word = NULL, *their_word = NULL, *machine = NULL;
    return json_object_object_get_ex(ours, OTHER_QEMU, &our_word) &&
           json_object_object_get_ex(theirs, OTHER_QEMU, &their_word) &&
           json_object_equal(our_word, their_word) &&
           json_object_object_get_ex(ours, "machine", &machine) && is_versioned(machine);
}

static char *member_difference(const char *key, json_object *ours, json_object *theirs)
{
    char *text = list_difference(key, ours, theirs);
    if (!text)
        text = difference(key, ours, theirs);
    if (strcmp(key, "qemu") != 0)
        return text;
    g_autofree char *bare = text;
    return g_strconcat(bare,
                       " (install the same QEMU on both hosts; or, with a versioned machine as "
                       "pc-q35-7.2, set accept-other-qemu = yes on both)",
                       NULL);
}

char *vm_identity_difference(json_object *ours, json_object *theirs)
{
    g_assert(json_object_is_type(ours, json_type_object));
    if (!json_object_is_type(theirs, json_type_object))
        return g_strdup("the peer sent no identity of its VM");
    json_object_object_foreach(ours, our_key, our_value)
    {
        json_object *their_value = NULL;
        json_object_object_get_ex(theirs, our_key, &their_value);
        if (!strcmp(our_key, "qemu") && their_value && may_be_other_qemu(ours, theirs))
            continue;
        if (!json_object_equal(our_value, their_value))
            return member_difference(our_key, our_value, their_value);
    }
    json_object_object_foreach(theirs, key, value)
    {
        if (!json_object_object_get_ex(ours, key, NULL) && value)
            return difference(key, NULL, value);
    }
    return NULL;
}
