/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is the secondary's RAM the primary's, to the byte? Two real QEMUs, a Linux guest that dirties
 * memory and checks what it finds there, a capture and an apply joined by a socket pair. After each
 * of CHECKPOINTS checkpoints the secondary's RAM is compared with a copy of the primary's that was
 * made in its pause. Every so often the device state is loaded into the secondary, as often as a
 * service would ever do it, and its RAM compared once more; then it runs until the next checkpoint,
 * which carries what it has written. In the end it runs on from the last checkpoint while its guest
 * checks its memory.
 *
 * Needs QEMU (QEMU selects the binary) and the guest (COLO_GUEST, default: the build folder's).
 */
#include "checkpoint/checkpoint.h"
#include "tests/support/vm-wait.h"
#include "tests/support/wait.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define CHECKPOINTS 200
#define LOAD_EVERY  10
#define RUN_US      (10 * COLO_US_PER_MS) /* at least, between checkpoints */
#define ARENA_MIB   16
#define PAUSE_PAGES 4096

typedef struct {
    const char *machine;
    unsigned cpus;
} Case;

typedef struct {
    Vm *vm;
    DirtyTracker *tracker;
    char *serial;
    GBytes *state;
} Side;

typedef struct {
    Side primary, secondary;
    int sockets[2];
    Capture *capture;
    Apply *apply;
    LoadGuard *guard;
    PageSet *pages; /* that an order to the guard has told; NULL: not yet */
    gboolean synchronised, taken;
    guint64 applied;
} Pair;

/* ---- The sides ---- */

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

static void start_side(Side *side, const Case *which, const char *name)
{
    g_autoptr(VmDescription) d = vm_description_new();
    side->serial = g_strdup_printf("%s/colo-exactness-%d-%s", g_get_tmp_dir(), getpid(), name);
    g_autofree char *preload = g_build_filename(g_getenv("COLO_BUILD"), "colo-uffd.so", NULL);
    d->name = g_strdup("exactness");
    d->uuid = g_strdup("c010c010-0000-4000-8000-000000000002");
    d->machine = g_strdup(which->machine);
    d->cpus = which->cpus;
    d->memory_bytes = 128 * 1024 * 1024;
    d->kernel = guest_file("vmlinuz");
    d->initrd = guest_file("initrd.gz");
    d->append = g_strdup(
        "console=ttyS0 quiet panic=1 dirty_mb=" G_STRINGIFY(ARENA_MIB) " dirty_rate=20000");
    d->qemu = g_strdup(g_getenv("QEMU"));
    d->accel = VM_ACCEL_TCG;
    d->serial = g_strdup_printf("file:%s", side->serial);
    vm_description_add_nic(d, "virtio-net-pci", "52:54:00:c0:10:01");
    vm_description_add_nic(d, "e1000", "52:54:00:c0:10:02");
    g_ptr_array_add(d->extra, g_strdup("-device"));
    g_ptr_array_add(d->extra, g_strdup("virtio-rng-pci"));

    g_autoptr(GError) error = NULL;
    side->vm = vm_qemu_new(d, preload, &(VmHandler){.event = on_event});
    vm_wait_start(side->vm, &error);
    g_assert_no_error(error);
    side->tracker = dirty_tracker_new(vm_ram(side->vm), DIRTY_METHOD_AUTO, &error);
    g_assert_no_error(error);
}

static void stop_side(Side *side)
{
    dirty_tracker_free(side->tracker);
    vm_free(side->vm);
    unlink(side->serial);
    g_free(side->serial);
    g_clear_pointer(&side->state, g_bytes_unref);
}

static char *read_serial(const Side *side)
{
    char *text = NULL;
    return g_file_get_contents(side->serial, &text, NULL, NULL) ? text : g_strdup("");
}

static gboolean is_ready(const Side *side)
{
    g_autofree char *text = read_serial(side);
    return strstr(text, "colo-guest: ready") != NULL;
}

static void assert_no_corruption(const Side *side)
{
    g_autofree char *text = read_serial(side);
    if (strstr(text, "CORRUPT") || strstr(text, "corrupt") || strstr(text, "panic"))
        g_error("the guest has found its memory changed: %s", text);
}

static void pause_side(Side *side)
{
    g_autoptr(GError) error = NULL;
    vm_wait_pause(side->vm, &error);
    g_assert_no_error(error);
}

static void resume_side(Side *side)
{
    g_autoptr(GError) error = NULL;
    vm_wait_resume(side->vm, &error);
    g_assert_no_error(error);
}

static void run_for(gint64 us)
{
    ColoTime until = colo_time_add_us(colo_time_now(), us);
    WAIT_FOR(colo_time_diff_us(colo_time_now(), until) >= 0);
}

/* ---- The engines' callbacks ---- */

static void on_synchronised(const SyncProgress *progress, gpointer user_data)
{
    (void)progress;
    ((Pair *)user_data)->synchronised = TRUE;
}

static void on_taken(const CaptureStats *stats, gpointer user_data)
{
    (void)stats;
    ((Pair *)user_data)->taken = TRUE;
}

static void on_applied(Checkpoint *checkpoint, gpointer user_data)
{
    ((Pair *)user_data)->applied = checkpoint->epoch;
}

static void on_failed(const GError *error, gpointer user_data)
{
    (void)user_data;
    g_error("an engine has failed: %s", error->message);
}

static void ignore_progress(const SyncProgress *progress, gpointer user_data)
{
    (void)progress;
    (void)user_data;
}

static void ignore_sent(const CaptureStats *stats, gpointer user_data)
{
    (void)stats;
    (void)user_data;
}

static void ignore_bytes(guint64 received, guint64 total, gpointer user_data)
{
    (void)received;
    (void)total;
    (void)user_data;
}

static void ignore_received(Checkpoint *checkpoint, gpointer user_data)
{
    (void)checkpoint;
    (void)user_data;
}

static void start_engines(Pair *pair)
{
    static const CaptureCallbacks capture = {.progress = ignore_progress,
                                             .synchronised = on_synchronised,
                                             .taken = on_taken,
                                             .sent = ignore_sent,
                                             .failed = on_failed};
    static const ApplyCallbacks apply = {.progress = ignore_bytes,
                                         .received = ignore_received,
                                         .applied = on_applied,
                                         .failed = on_failed};
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair->sockets), ==, 0);
    pair->apply = apply_new(vm_ram(pair->secondary.vm), pair->sockets[1], &apply, pair, &error);
    g_assert_no_error(error);
    pair->guard = load_guard_new(vm_ram(pair->secondary.vm), pair->secondary.tracker, &error);
    g_assert_no_error(error);
    pair->capture = capture_new(vm_ram(pair->primary.vm), pair->primary.tracker, pair->sockets[0],
                                &capture, pair, &error);
    g_assert_no_error(error);
    capture_synchronise(pair->capture, PAUSE_PAGES);
    WAIT_FOR(pair->synchronised);
}

/* ---- The test ---- */

static void assert_same_ram(const guint8 *expected, const VmRam *ram, guint64 epoch)
{
    if (!memcmp(expected, ram->base, ram->size_bytes))
        return;
    for (guint64 at = 0; at < ram->size_bytes; at += VM_PAGE_SIZE)
        if (memcmp(expected + at, ram->base + at, VM_PAGE_SIZE))
            g_error("checkpoint %" G_GUINT64_FORMAT ": page %" G_GUINT64_FORMAT " differs", epoch,
                    at / VM_PAGE_SIZE);
}

/* One checkpoint; `expected` becomes the primary's RAM in its pause. */
static void take_checkpoint(Pair *pair, guint64 epoch, guint8 *expected)
{
    const VmRam *ram = vm_ram(pair->primary.vm);
    g_autoptr(GError) error = NULL;
    g_clear_pointer(&pair->primary.state, g_bytes_unref);
    pair->taken = FALSE;
    pause_side(&pair->primary);
    pair->primary.state = vm_wait_save(pair->primary.vm, &error);
    g_assert_no_error(error);
    capture_take(pair->capture, epoch, pair->primary.state, NULL, NULL);
    WAIT_FOR(pair->taken);
    memcpy(expected, ram->base, ram->size_bytes);
    resume_side(&pair->primary);
    WAIT_FOR(pair->applied == epoch);
    assert_same_ram(expected, vm_ram(pair->secondary.vm), epoch);
}

static void on_guard_done(const PageSet *pages, const GError *error, gpointer user_data)
{
    g_assert_no_error(error);
    ((Pair *)user_data)->pages = page_set_copy(pages);
}

/* How many pages it has told. */
static guint64 order(Pair *pair, void (*give)(LoadGuard *, LoadGuardDone, gpointer))
{
    g_clear_pointer(&pair->pages, page_set_free);
    give(pair->guard, on_guard_done, pair);
    WAIT_FOR(pair->pages);
    return page_set_count(pair->pages);
}

/* Loads into the secondary; returns how many pages that has made wrong. */
static guint64 load(Pair *pair)
{
    g_autoptr(GError) error = NULL;
    order(pair, load_guard_before);
    vm_wait_load(pair->secondary.vm, pair->primary.state, &error);
    g_assert_no_error(error);
    return order(pair, load_guard_after);
}

/* The secondary, if it runs, is paused for a checkpoint. Returns how many pages it has written.
 */
static guint64 pause_secondary(Pair *pair)
{
    if (vm_is_running(pair->secondary.vm))
        pause_side(&pair->secondary);
    guint64 written = order(pair, load_guard_written);
    for (guint64 first = 0, count; page_set_next_run(pair->pages, first, &first, &count);
         first += count)
        capture_add_pages(pair->capture, first, count);
    return written;
}

/* The secondary's guest runs on, and finds all its memory as it left it. */
static void run_secondary(Pair *pair)
{
    Side *secondary = &pair->secondary;
    guint64 pages = vm_ram(secondary->vm)->size_bytes / VM_PAGE_SIZE;
    g_autoptr(PageSet) dirty = page_set_new(pages);
    pause_side(&pair->primary);
    g_assert_cmpuint(load(pair), ==, 0);
    resume_side(secondary);
    /* As much as the dirtier's whole arena: each line it writes to it checks first. */
    WAIT_FOR(dirty_tracker_harvest(secondary->tracker, dirty, NULL) &&
             page_set_count(dirty) >= ARENA_MIB * 256);
    assert_no_corruption(secondary);
}

static void test_exactness(gconstpointer data)
{
    const Case *which = data;
    Pair pair = {0};
    guint64 touched = 0, written = 0;
    guint runs = 0;
    start_side(&pair.primary, which, "primary");
    start_side(&pair.secondary, which, "secondary");
    g_test_message("dirty pages tracked by %s",
                   dirty_method_name(dirty_tracker_method(pair.primary.tracker)));
    resume_side(&pair.primary);
    WAIT_FOR(is_ready(&pair.primary));
    start_engines(&pair);

    gsize size = vm_ram(pair.primary.vm)->size_bytes;
    guint8 *expected = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(expected != MAP_FAILED);
    for (guint64 epoch = 1; epoch <= CHECKPOINTS; epoch++) {
        if (epoch % LOAD_EVERY == 1)
            written += pause_secondary(&pair);
        take_checkpoint(&pair, epoch, expected);
        guint64 wrong = epoch % LOAD_EVERY ? 0 : load(&pair);
        touched += wrong;
        if (epoch % LOAD_EVERY == 0 && wrong == 0) {
            assert_same_ram(expected, vm_ram(pair.secondary.vm), epoch);
            resume_side(&pair.secondary);
            runs++;
        }
        run_for(RUN_US);
    }
    g_test_message("loads wrote to %" G_GUINT64_FORMAT
                   " pages; in %u runs the copy wrote %" G_GUINT64_FORMAT " times to a page",
                   touched, runs, written);
    g_assert_cmpuint(runs, >=, CHECKPOINTS / LOAD_EVERY / 2);
    assert_no_corruption(&pair.primary);
    pause_secondary(&pair);
    take_checkpoint(&pair, CHECKPOINTS + 1, expected);
    run_secondary(&pair);

    munmap(expected, size);
    capture_free(pair.capture);
    apply_free(pair.apply);
    load_guard_free(pair.guard);
    page_set_free(pair.pages);
    stop_side(&pair.primary);
    stop_side(&pair.secondary);
    close(pair.sockets[0]);
    close(pair.sockets[1]);
}

int main(int argc, char **argv)
{
    static const Case cases[] = {
        {"pc",  1},
        {"pc",  2},
        {"q35", 1},
        {"q35", 2}
    };

    g_test_init(&argc, &argv, NULL);
    g_autofree char *kernel = guest_file("vmlinuz");
    const char *qemu = g_getenv("QEMU") ? g_getenv("QEMU") : "qemu-system-x86_64";
    g_autofree char *found = g_find_program_in_path(qemu);
    if (!found || !g_file_test(kernel, G_FILE_TEST_EXISTS) || geteuid() != 0) {
        g_print("1..0 # SKIP needs root, %s and the guest (make guest)\n", qemu);
        return 0;
    }
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path =
            g_strdup_printf("/exactness/%s/%ucpu", cases[i].machine, cases[i].cpus);
        g_test_add_data_func(path, &cases[i], test_exactness);
    }
    return g_test_run();
}
