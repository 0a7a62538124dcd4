/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VM layer on a real QEMU (environment variable QEMU, default qemu-system-x86_64). No guest
 * system is needed: the firmware runs, which is enough to have state to save and load.
 */
#include "tests/support/vm-wait.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MIB (1024u * 1024u)

static const char *qemu;
static char *preload;

typedef struct {
    unsigned events;
    VmEvent last;
    char *detail;
} Seen;

static void on_event(Vm *vm, VmEvent event, const char *detail, gpointer user_data)
{
    Seen *seen = user_data;
    (void)vm;
    seen->events++;
    seen->last = event;
    g_free(seen->detail);
    seen->detail = g_strdup(detail);
}

static VmDescription *describe(const char *machine)
{
    VmDescription *d = vm_description_new();
    d->name = g_strdup("test");
    d->uuid = g_strdup("6ba7b810-9dad-11d1-80b4-00c04fd430c8");
    d->machine = g_strdup(machine);
    d->memory_bytes = 64 * MIB;
    d->qemu = g_strdup(qemu);
    return d;
}

static void add_extra(VmDescription *d, const char *option, const char *value)
{
    g_ptr_array_add(d->extra, g_strdup(option));
    g_ptr_array_add(d->extra, g_strdup(value));
}

static Vm *started(const VmDescription *d, Seen *seen)
{
    VmHandler handler = {on_event, seen};
    g_autoptr(GError) error = NULL;
    Vm *vm = vm_qemu_new(d, preload, seen ? &handler : NULL);
    vm_wait_start(vm, &error);
    g_assert_no_error(error);
    return vm;
}

static void round_trip(Vm *primary, Vm *secondary)
{
    g_autoptr(GError) error = NULL;
    gsize size = vm_ram(primary)->size_bytes;

    vm_wait_pause(primary, &error);
    g_assert_no_error(error);
    g_autoptr(GBytes) state = vm_wait_save(primary, &error);
    g_assert_no_error(error);
    memcpy(vm_ram(secondary)->base, vm_ram(primary)->base, size);
    vm_wait_load(secondary, state, &error);
    g_assert_no_error(error);
    vm_wait_resume(primary, &error);
    g_assert_no_error(error);
}

static void loads(const char *machine, unsigned times, const char *const *nics,
                  const char *const *extra)
{
    g_autoptr(VmDescription) d = describe(machine);
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; nics[i]; i++) {
        g_autofree char *mac = g_strdup_printf("52:54:00:00:00:%02x", i);
        vm_description_add_nic(d, nics[i], mac);
    }
    for (unsigned i = 0; extra[i]; i += 2)
        add_extra(d, extra[i], extra[i + 1]);
    Seen seen = {0};
    g_autoptr(Vm) primary = started(d, &seen);
    g_autoptr(Vm) secondary = started(d, &seen);

    for (unsigned i = 0; i < times; i++) {
        round_trip(primary, secondary);
        if (i % 10 == 9) { /* the state must be one that can run */
            vm_wait_resume(secondary, &error);
            g_assert_no_error(error);
            vm_wait_pause(secondary, &error);
            g_assert_no_error(error);
        }
    }
    g_assert_cmpuint(seen.events, ==, 0);
    json_object *ours = vm_identity(primary), *theirs = vm_identity(secondary);
    g_autofree char *difference = vm_identity_difference(ours, theirs);
    g_assert_null(difference);
    json_object_put(ours);
    json_object_put(theirs);
}

static void test_pc(void)
{
    loads("pc", 200, (const char *const[]){"virtio-net-pci", "e1000", NULL},
          (const char *const[]){"-device", "virtio-rng-pci", NULL});
}

static void test_q35(void)
{
    loads("q35", 50, (const char *const[]){"virtio-net-pci", "e1000e", NULL},
          (const char *const[]){"-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
                                "-drive", "if=none,id=d,driver=null-co,size=1M", "-device",
                                "virtio-blk-pci,drive=d", NULL});
}

static void test_microvm(void)
{
    loads("microvm", 50, (const char *const[]){"virtio-net-device", NULL},
          (const char *const[]){"-device", "virtio-rng-device", NULL});
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    qemu = g_getenv("QEMU") ? g_getenv("QEMU") : "qemu-system-x86_64";
    g_autofree char *found = g_find_program_in_path(qemu);
    if (!found) {
        printf("1..0 # SKIP there is no %s\n", qemu);
        return 0;
    }
    const char *build = g_getenv("COLO_BUILD");
    preload = g_build_filename(build ? build : "build", "colo-uffd.so", NULL);
    g_test_add_func("/vm/qemu/loads/pc", test_pc);
    g_test_add_func("/vm/qemu/loads/q35", test_q35);
    g_test_add_func("/vm/qemu/loads/microvm", test_microvm);
    int status = g_test_run();
    g_free(preload);
    return status;
}
