/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/vm-side.h"

#include <string.h>
#include <unistd.h>

#include "tests/support/vm-wait.h"

#define MEMORY_BYTES (128u << 20)

static void on_event(Vm *vm, VmEvent event, const char *detail, gpointer user_data)
{
    (void)vm;
    (void)user_data;
    g_error("VM event %d: %s", event, detail ? detail : "");
}

static char *guest_file(const char *name)
{
    const char *guest = g_getenv("COLO_GUEST");
    g_autofree char *in_build = g_build_filename(g_getenv("COLO_BUILD"), "guest", NULL);
    return g_build_filename(guest ? guest : in_build, name, NULL);
}

const char *vm_side_missing(void)
{
    const char *qemu = g_getenv("QEMU");
    g_autofree char *kernel = guest_file("vmlinuz");
    g_autofree char *found = g_find_program_in_path(qemu ? qemu : "qemu-system-x86_64");
    return geteuid() != 0                             ? "needs root"
           : !found                                   ? "no QEMU"
           : !g_file_test(kernel, G_FILE_TEST_EXISTS) ? "no guest (make guest)"
                                                      : NULL;
}

static void add_extra(VmDescription *d, const char *option, char *value)
{
    g_ptr_array_add(d->extra, g_strdup(option));
    g_ptr_array_add(d->extra, value);
}

void vm_side_start(VmSide *side, const char *name, const char *machine, unsigned cpus,
                   const char *append)
{
    g_autoptr(VmDescription) d = vm_description_new();
    side->serial = g_strdup_printf("%s/colo-side-%d-%s", g_get_tmp_dir(), getpid(), name);
    g_autofree char *preload = g_build_filename(g_getenv("COLO_BUILD"), "colo-uffd.so", NULL);
    d->name = g_strdup(name);
    d->uuid = g_strdup("c010c010-0000-4000-8000-000000000002");
    d->machine = g_strdup(machine);
    d->cpus = cpus;
    d->memory_bytes = MEMORY_BYTES;
    d->kernel = guest_file("vmlinuz");
    d->initrd = guest_file("initrd.gz");
    d->append = g_strdup_printf("console=ttyS0 quiet panic=1 %s", append);
    d->qemu = g_strdup(g_getenv("QEMU"));
    d->accel = g_strcmp0(g_getenv("COLO_ACCEL"), "kvm") ? VM_ACCEL_TCG : VM_ACCEL_KVM;
    d->serial = g_strdup_printf("file:%s", side->serial);
    vm_description_add_nic(d, "virtio-net-pci", "52:54:00:c0:10:01")->attach = side->attach;
    vm_description_add_nic(d, "e1000", "52:54:00:c0:10:02");
    side->monitor = g_strdup_printf("%s.monitor", side->serial);
    add_extra(d, "-device", g_strdup("virtio-rng-pci"));
    add_extra(d, "-chardev",
              g_strdup_printf("socket,id=monitor,server=on,wait=off,path=%s", side->monitor));
    add_extra(d, "-mon", g_strdup("chardev=monitor"));

    g_autoptr(GError) error = NULL;
    side->vm = vm_qemu_new(d, preload, &(VmHandler){.event = on_event});
    vm_wait_start(side->vm, &error);
    g_assert_no_error(error);
    side->tracker = dirty_tracker_new(vm_ram(side->vm), DIRTY_METHOD_AUTO, &error);
    g_assert_no_error(error);
}

void vm_side_stop(VmSide *side)
{
    dirty_tracker_free(side->tracker);
    vm_free(side->vm);
    unlink(side->serial);
    unlink(side->monitor);
    g_free(side->serial);
    g_free(side->monitor);
}

void vm_side_pause(VmSide *side)
{
    g_autoptr(GError) error = NULL;
    vm_wait_pause(side->vm, &error);
    g_assert_no_error(error);
}

void vm_side_resume(VmSide *side)
{
    g_autoptr(GError) error = NULL;
    vm_wait_resume(side->vm, &error);
    g_assert_no_error(error);
}

GBytes *vm_side_save(VmSide *side)
{
    g_autoptr(GError) error = NULL;
    GBytes *state = vm_wait_save(side->vm, &error);
    g_assert_no_error(error);
    return state;
}

void vm_side_load(VmSide *side, GBytes *state)
{
    g_autoptr(GError) error = NULL;
    vm_wait_load(side->vm, state, &error);
    g_assert_no_error(error);
}

char *vm_side_console(const VmSide *side)
{
    char *text = NULL;
    return g_file_get_contents(side->serial, &text, NULL, NULL) ? text : g_strdup("");
}

gboolean vm_side_is_ready(const VmSide *side)
{
    g_autofree char *text = vm_side_console(side);
    return strstr(text, "colo-guest: ready") != NULL;
}

void vm_side_diagnose(const VmSide *side)
{
    static const char questions[] =
        "for what in status cpus registers lapic pic irq; do echo info $what; sleep 1; done;"
        /* The serial port: what it may interrupt for, what it can take, and (read last: it
         * acknowledges) what it interrupts for. */
        "for port in 3f9 3fd 3fa; do echo i /bx 0x$port; sleep 1; done";
    g_autofree char *command =
        g_strdup_printf("(%s) | timeout 60 socat -t 5 - UNIX:%s", questions, side->monitor);
    const char *argv[] = {"sh", "-c", command, NULL};
    g_autofree char *answers = NULL, *console = vm_side_console(side);
    g_autoptr(GError) error = NULL;
    if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &answers, NULL,
                      NULL, &error))
        g_print("# %s\n", error->message);
    gsize len = strlen(console);
    g_print("%s\nconsole: %s\n", answers ? answers : "", console + (len > 600 ? len - 600 : 0));
}
