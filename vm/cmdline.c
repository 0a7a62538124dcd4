/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/cmdline.h"

#include <string.h>

const char *cmdline_ram_id(const char *machine)
{
    return g_str_has_prefix(machine, "microvm") ? "microvm.ram" : "pc.ram";
}

char *cmdline_machine_name(const char *machine)
{
    return g_strndup(machine, strcspn(machine, ","));
}

/* In QEMU's option lists a comma within a value is written twice. */
static char *escape_commas(const char *value)
{
    g_auto(GStrv) parts = g_strsplit(value, ",", -1);
    return g_strjoinv(",,", parts);
}

static void add(GPtrArray *argv, const char *option, char *value)
{
    g_ptr_array_add(argv, g_strdup(option));
    g_ptr_array_add(argv, value);
}

static void add_serial(GPtrArray *argv, const char *serial)
{
    if (!strcmp(serial, "none")) {
        add(argv, "-serial", g_strdup("none"));
        return;
    }
    g_autofree char *path = escape_commas(strchr(serial, ':') + 1);
    add(argv, "-chardev",
        g_str_has_prefix(serial, "file:")
            ? g_strdup_printf("file,id=colo-serial,path=%s", path)
            : g_strdup_printf("socket,id=colo-serial,path=%s,server=on,wait=off", path));
    add(argv, "-serial", g_strdup("chardev:colo-serial"));
}

/*
 * ",bus=ide.N" for an IDE disk of a q35: QEMU would put two on a port of its AHCI, which takes one.
 * Other disks go where QEMU puts them.
 */
static char *disk_bus(const VmDescription *d, guint index, const VmDisk *disk)
{
    guint port = 0;
    if (!strstr(d->machine, "q35") || !g_str_has_prefix(disk->model, "ide-"))
        return g_strdup("");
    for (guint i = 0; i < index; i++) {
        const VmDisk *before = g_ptr_array_index(d->disks, i);
        port += g_str_has_prefix(before->model, "ide-");
    }
    return g_strdup_printf(",bus=ide.%u", port);
}

static gboolean takes_iothread(const VmDisk *disk)
{
    return g_str_has_prefix(disk->model, "virtio-blk-");
}

/*
 * QEMU's main thread may have real-time priority (vm/process.h), for the guest's frames. On a busy
 * core it would preempt the disk server after each single answer. So the disks have a thread of
 * normal priority, which does not poll for answers either.
 */
static void add_iothread(GPtrArray *argv, const VmDescription *d)
{
    for (guint i = 0; i < d->disks->len; i++)
        if (takes_iothread(g_ptr_array_index(d->disks, i))) {
            add(argv, "-object", g_strdup("iothread,id=colo-disks,poll-max-ns=0"));
            return;
        }
}

/*
 * A guest that writes zeroes or trims frees space in the image. The serial number is what a guest
 * finds its disks by (/dev/disk/by-id), 20 bytes at most.
 */
static void add_disk(GPtrArray *argv, const VmDescription *d, guint index, const VmDisk *disk)
{
    /* A read never fails for want of room. */
    static const char *const on_write[] = {
        [VM_DISK_REPORT] = "report", [VM_DISK_STOP] = "stop", [VM_DISK_ENOSPC] = "enospc"};
    static const char *const on_read[] = {
        [VM_DISK_REPORT] = "report", [VM_DISK_STOP] = "stop", [VM_DISK_ENOSPC] = "report"};
    g_autofree char *socket = escape_commas(d->disk_socket);
    g_autofree char *serial = g_strndup(disk->name, 20);
    g_autofree char *bus = disk_bus(d, index, disk);
    add(argv, "-blockdev",
        g_strdup_printf("driver=%s,node-name=colo-disk%u,discard=unmap,file.driver=nbd,"
                        "file.node-name=colo-disk%u-export,file.discard=unmap,"
                        "file.server.type=unix,file.server.path=%s,file.export=%s",
                        vm_disk_format_name(disk->format), index, index, socket, disk->name));
    add(argv, "-device",
        g_strdup_printf("%s%s,id=disk%u,drive=colo-disk%u,serial=%s,werror=%s,rerror=%s%s",
                        disk->model, takes_iothread(disk) ? ",iothread=colo-disks" : "", index,
                        index, serial, on_write[disk->on_error], on_read[disk->on_error], bus));
}

static void add_boot(GPtrArray *argv, const VmDescription *d)
{
    if (d->kernel)
        add(argv, "-kernel", g_strdup(d->kernel));
    if (d->initrd)
        add(argv, "-initrd", g_strdup(d->initrd));
    if (d->append)
        add(argv, "-append", g_strdup(d->append));
}

/*
 * A guest that sleeps (ACPI S3) is none that can be protected: QEMU 7.2 doesn't pause it (on_paused() in
 * qemu.c). So its firmware offers no S3. Whoever wants it nevertheless says so in `extra`, which comes
 * after this.
 */
static void forbid_sleep(GPtrArray *argv, const char *machine)
{
    g_autofree char *name = cmdline_machine_name(machine);
    if (strstr(name, "q35"))
        add(argv, "-global", g_strdup("ICH9-LPC.disable_s3=1"));
    else if (!strcmp(name, "pc") || g_str_has_prefix(name, "pc-i440fx"))
        add(argv, "-global", g_strdup("PIIX4_PM.disable_s3=1"));
}

GPtrArray *cmdline_build(const VmDescription *d, const char *accel, int ram_fd, int qmp_fd)
{
    GPtrArray *argv = g_ptr_array_new_with_free_func(g_free);
    const char *ram_id = cmdline_ram_id(d->machine);

    g_ptr_array_add(argv, g_strdup(d->qemu ? d->qemu : "qemu-system-x86_64"));
    for (const char *const *flag =
             (const char *const[]){"-nodefaults", "-no-user-config", "-no-shutdown", "-S", NULL};
         *flag; flag++)
        g_ptr_array_add(argv, g_strdup(*flag));
    add(argv, "-display", g_strdup("none"));
    add(argv, "-name", g_strdup(d->name));
    add(argv, "-uuid", g_strdup(d->uuid));
    add(argv, "-object",
        g_strdup_printf("memory-backend-file,id=%s,size=%" G_GUINT64_FORMAT
                        ",mem-path=/proc/self/fd/%d,share=on",
                        ram_id, d->memory_bytes, ram_fd));
    add(argv, "-machine", g_strdup_printf("%s,memory-backend=%s", d->machine, ram_id));
    forbid_sleep(argv, d->machine);
    add(argv, "-accel", g_strdup(accel));
    add(argv, "-m", g_strdup_printf("%" G_GUINT64_FORMAT "M", d->memory_bytes >> 20));
    add(argv, "-smp", g_strdup_printf("%u", d->cpus));
    if (d->cpu)
        add(argv, "-cpu", g_strdup(d->cpu));
    add(argv, "-chardev", g_strdup_printf("socket,id=colo-qmp,fd=%d", qmp_fd));
    add(argv, "-mon", g_strdup("chardev=colo-qmp,mode=control"));
    add_serial(argv, d->serial);
    add_boot(argv, d);
    /* QEMU makes devices in this order, and a disk's controller may be among extra. */
    for (guint i = 0; i < d->extra->len; i++)
        g_ptr_array_add(argv, g_strdup(g_ptr_array_index(d->extra, i)));
    add_iothread(argv, d);
    for (guint i = 0; i < d->disks->len; i++)
        add_disk(argv, d, i, g_ptr_array_index(d->disks, i));
    return argv;
}

void cmdline_add_agent(GPtrArray *argv, const VmDescription *d, int fd)
{
    add(argv, "-device",
        g_strdup_printf("virtio-serial-%s,id=colo-agent-bus,max_ports=2",
                        g_str_has_prefix(d->machine, "microvm") ? "device" : "pci"));
    add(argv, "-chardev", g_strdup_printf("socket,id=colo-agent,fd=%d", fd));
    add(argv, "-device",
        g_strdup("virtserialport,id=colo-agent-port,bus=colo-agent-bus.0,chardev=colo-agent,"
                 "name=org.qemu.guest_agent.0"));
}
