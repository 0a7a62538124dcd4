/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the VM layer's operations cost, and which RAM a load of device state writes to:
 *
 *     bench-vm MACHINE GUEST-DIR COUNT [NIC-MODEL | -OPTION VALUE]...
 *
 * Boots the guest of GUEST-DIR (vmlinuz, initrd.gz) in a primary, then COUNT times pauses and saves
 * it, copies RAM and loads the state into a secondary. Prints microseconds as p50/p99/max.
 */
#include "tests/support/vm-wait.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY_BYTES (256u << 20)
#define BOOT_MS      12000u
#define GAP_MS       100u

enum { STOP, SAVE, CONT, LOAD, SECONDARY_CONT, SECONDARY_STOP, FIGURES };
static const char *const figure_names[FIGURES] = {"stop", "save",          "cont",
                                                  "load", "cont (loaded)", "stop (loaded)"};

static gboolean on_elapsed(gpointer user_data)
{
    *(gboolean *)user_data = TRUE;
    return G_SOURCE_REMOVE;
}

static void run_for(guint ms)
{
    gboolean elapsed = FALSE;
    g_timeout_add(ms, on_elapsed, &elapsed);
    while (!elapsed)
        g_main_context_iteration(NULL, TRUE);
}

static void must(gboolean ok, const GError *error)
{
    if (ok)
        return;
    fprintf(stderr, "bench-vm: %s\n", error->message);
    exit(1);
}

static int compare(gconstpointer a, gconstpointer b)
{
    gint64 x = *(const gint64 *)a, y = *(const gint64 *)b;
    return (x > y) - (x < y);
}

static void print_figure(const char *name, GArray *values)
{
    g_array_sort(values, compare);
    gint64 *v = (gint64 *)values->data;
    printf("%-16s %6" G_GINT64_FORMAT " %6" G_GINT64_FORMAT " %6" G_GINT64_FORMAT "\n", name,
           v[values->len / 2], v[values->len * 99 / 100], v[values->len - 1]);
}

/* Pages that differ from the copy: counted, and counted per page in `touched`. */
static guint64 compare_ram(const VmRam *ram, const guint8 *copy, GHashTable *touched)
{
    guint64 count = 0;
    for (guint64 page = 0; page < ram->size_bytes / VM_PAGE_SIZE; page++) {
        if (!memcmp(ram->base + page * VM_PAGE_SIZE, copy + page * VM_PAGE_SIZE, VM_PAGE_SIZE))
            continue;
        gpointer key = GSIZE_TO_POINTER(page + 1);
        guint times = GPOINTER_TO_UINT(g_hash_table_lookup(touched, key));
        g_hash_table_insert(touched, key, GUINT_TO_POINTER(times + 1));
        count++;
    }
    return count;
}

static Vm *start(const VmDescription *d)
{
    g_autoptr(GError) error = NULL;
    const char *build = g_getenv("COLO_BUILD");
    g_autofree char *preload = g_build_filename(build ? build : "build", "colo-uffd.so", NULL);
    gint64 begin = g_get_monotonic_time();
    Vm *vm = vm_qemu_new(d, preload, NULL);
    must(vm_wait_start(vm, &error), error);
    printf("start: %" G_GINT64_FORMAT " ms, uffd: %s\n", (g_get_monotonic_time() - begin) / 1000,
           vm_ram(vm)->uffd >= 0 ? "yes" : vm_ram(vm)->no_uffd);
    return vm;
}

static gsize one_checkpoint(Vm *primary, Vm *secondary, GArray **figures, GHashTable *touched)
{
    g_autoptr(GError) error = NULL;
    gint64 at[FIGURES + 1];

    at[STOP] = g_get_monotonic_time();
    must(vm_wait_pause(primary, &error), error);
    at[SAVE] = g_get_monotonic_time();
    g_autoptr(GBytes) state = vm_wait_save(primary, &error);
    must(state != NULL, error);
    gint64 save_end = g_get_monotonic_time();
    memcpy(vm_ram(secondary)->base, vm_ram(primary)->base, MEMORY_BYTES);
    g_autofree guint8 *copy = g_memdup2(vm_ram(primary)->base, MEMORY_BYTES);
    at[CONT] = g_get_monotonic_time();
    must(vm_wait_resume(primary, &error), error);
    at[LOAD] = g_get_monotonic_time();
    must(vm_wait_load(secondary, state, &error), error);
    gint64 load_end = g_get_monotonic_time();
    compare_ram(vm_ram(secondary), copy, touched);
    at[SECONDARY_CONT] = g_get_monotonic_time();
    must(vm_wait_resume(secondary, &error), error);
    at[SECONDARY_STOP] = g_get_monotonic_time();
    must(vm_wait_pause(secondary, &error), error);
    gint64 took[FIGURES] = {at[SAVE] - at[STOP],
                            save_end - at[SAVE],
                            at[LOAD] - at[CONT],
                            load_end - at[LOAD],
                            at[SECONDARY_STOP] - at[SECONDARY_CONT],
                            g_get_monotonic_time() - at[SECONDARY_STOP]};
    for (int i = 0; i < FIGURES; i++)
        g_array_append_val(figures[i], took[i]);
    return g_bytes_get_size(state);
}

static VmDescription *describe(int argc, char **argv)
{
    VmDescription *d = vm_description_new();
    d->name = g_strdup("bench");
    d->uuid = g_strdup("6ba7b810-9dad-11d1-80b4-00c04fd430c8");
    d->machine = g_strdup(argv[1]);
    d->memory_bytes = MEMORY_BYTES;
    d->qemu = g_strdup(g_getenv("QEMU"));
    const char *accel = g_getenv("ACCEL");
    d->accel = !accel ? VM_ACCEL_AUTO : !strcmp(accel, "kvm") ? VM_ACCEL_KVM : VM_ACCEL_TCG;
    if (strcmp(argv[2], "none")) {
        d->kernel = g_build_filename(argv[2], "vmlinuz", NULL);
        d->initrd = g_build_filename(argv[2], "initrd.gz", NULL);
        d->append = g_strdup("console=ttyS0 quiet panic=1 ip=10.77.0.10/24");
    }
    for (int i = 4; i < argc; i++) {
        if (argv[i][0] == '-') {
            g_ptr_array_add(d->extra, g_strdup(argv[i]));
            if (argv[i + 1])
                g_ptr_array_add(d->extra, g_strdup(argv[++i]));
        } else {
            g_autofree char *mac = g_strdup_printf("52:54:00:00:00:%02x", i);
            vm_description_add_nic(d, argv[i], mac);
        }
    }
    return d;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "Usage: %s MACHINE GUEST-DIR COUNT [NIC-MODEL | -OPTION VALUE]...\n",
                argv[0]);
        return 1;
    }
    g_autoptr(VmDescription) d = describe(argc, argv);
    g_autoptr(Vm) primary = start(d);
    g_autoptr(Vm) secondary = start(d);
    g_autoptr(GError) error = NULL;
    GArray *figures[FIGURES];
    g_autoptr(GHashTable) touched = g_hash_table_new(NULL, NULL);
    gsize size = 0;

    for (int i = 0; i < FIGURES; i++)
        figures[i] = g_array_new(FALSE, FALSE, sizeof(gint64));
    must(vm_wait_resume(primary, &error), error);
    run_for(strcmp(argv[2], "none") ? BOOT_MS : GAP_MS);
    for (int i = atoi(argv[3]); i > 0; i--) {
        size = one_checkpoint(primary, secondary, figures, touched);
        run_for(GAP_MS);
    }
    printf("device state: %zu bytes\n", size);
    for (int i = 0; i < FIGURES; i++) {
        print_figure(figure_names[i], figures[i]);
        g_array_unref(figures[i]);
    }
    printf("pages of RAM that differ after a load (page number: times):");
    GHashTableIter iter;
    gpointer page, times;
    g_hash_table_iter_init(&iter, touched);
    while (g_hash_table_iter_next(&iter, &page, &times))
        printf(" %#zx:%u", GPOINTER_TO_SIZE(page) - 1, GPOINTER_TO_UINT(times));
    printf("\n");
    return 0;
}
