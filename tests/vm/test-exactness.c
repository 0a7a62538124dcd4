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
 * With vhost-user it is this process that writes the frames of a network card to RAM. Both guests are pinged
 * all the time then: what is written for them has to be in the checkpoints, too.
 *
 * Under KVM a harvest must not make KVM forget what it has mapped: that is counted too.
 *
 * EXACTNESS_CHECKPOINTS, from the environment, sets how many there are.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "checkpoint/checkpoint.h"
#include "tests/support/ping-peer.h"
#include "tests/support/vm-side.h"
#include "tests/support/wait.h"

#define CHECKPOINTS 200
#define LOAD_EVERY  10
#define RUN_US      (10 * COLO_US_PER_MS) /* at least, between checkpoints */
#define ARENA_MIB   16
#define PAUSE_PAGES 4096

typedef struct {
    const char *machine;
    unsigned cpus;
    VmAttach attach;
} Case;

typedef struct {
    VmSide primary, secondary;
    PingPeer peers[2]; /* of them; with vhost-user */
    guint pings;       /* timer */
    GBytes *state;     /* of the primary, at the last checkpoint */
    int sockets[2];
    Capture *capture;
    Apply *apply;
    LoadGuard *guard;
    PageSet *pages; /* that an order to the guard has told; NULL: not yet */
    gboolean synchronised, taken;
    guint64 applied;
    guint64 mapped_before, mapped_after; /* by KVM, at all harvests together; 0: no KVM */
} Pair;

/* ---- The sides ---- */

static void assert_no_corruption(const VmSide *side)
{
    g_autofree char *text = vm_side_console(side);
    if (strstr(text, "CORRUPT") || strstr(text, "corrupt") || strstr(text, "panic"))
        g_error("the guest has found its memory changed: %s", text);
}

/* How many pages of the VM's RAM KVM has mapped for the guest; 0 if it can't be told. */
static guint64 mapped_by_kvm(const VmSide *side)
{
    g_autofree char *prefix = g_strdup_printf("%d-", vm_ram(side->vm)->pid);
    g_autoptr(GDir) dir = g_dir_open("/sys/kernel/debug/kvm", 0, NULL);
    const char *name = NULL;
    while (dir && (name = g_dir_read_name(dir)) && !g_str_has_prefix(name, prefix))
        ;
    if (!name)
        return 0;
    guint64 pages = 0;
    static const struct {
        const char *name;
        guint64 pages;
    } sizes[] = {
        {"pages_4k", 1  },
        {"pages_2m", 512}
    };
    for (guint i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree char *path =
            g_build_filename("/sys/kernel/debug/kvm", name, sizes[i].name, NULL);
        g_autofree char *text = NULL;
        if (g_file_get_contents(path, &text, NULL, NULL))
            pages += g_ascii_strtoull(text, NULL, 10) * sizes[i].pages;
    }
    return pages;
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

/* ---- Pings ---- */

static gboolean on_ping_timer(gpointer user_data)
{
    Pair *pair = user_data;
    const VmSide *sides[] = {&pair->primary, &pair->secondary};
    for (guint i = 0; i < 2; i++)
        for (guint n = 0; n < 4 && vm_is_running(sides[i]->vm); n++)
            ping_peer_ping(&pair->peers[i], pair->peers[i].sent * 37 % 1400);
    return G_SOURCE_CONTINUE;
}

static void start_pings(Pair *pair)
{
    VmSide *sides[] = {&pair->primary, &pair->secondary};
    if (!vm_nic_card(sides[0]->vm, 0))
        return;
    for (guint i = 0; i < 2; i++)
        ping_peer_init(&pair->peers[i], vm_nic_card(sides[i]->vm, 0), "52:54:00:c0:10:01");
    pair->pings = g_timeout_add(1, on_ping_timer, pair);
}

static void end_pings(Pair *pair)
{
    if (!pair->pings)
        return;
    g_source_remove(pair->pings);
    for (guint i = 0; i < 2; i++) {
        const PingPeer *peer = &pair->peers[i];
        g_test_message("%s: %" G_GUINT64_FORMAT " pings, %" G_GUINT64_FORMAT " answers",
                       i ? "secondary" : "primary", peer->sent, peer->answers);
        g_assert_cmpuint(peer->bad, ==, 0);
        /* The copy is loaded anew again and again: what it has not answered by then is lost. */
        g_assert_cmpuint(peer->answers, >, i ? 0 : peer->sent / 2);
    }
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
    g_clear_pointer(&pair->state, g_bytes_unref);
    pair->taken = FALSE;
    vm_side_pause(&pair->primary);
    pair->state = vm_side_save(&pair->primary);
    pair->mapped_before += mapped_by_kvm(&pair->primary);
    /* One after another: differences are to pages that were sent some checkpoints ago. */
    capture_set_packing(pair->capture, (CapturePack)(epoch % 4));
    capture_take(pair->capture, epoch, pair->state, NULL, NULL);
    WAIT_FOR(pair->taken);
    pair->mapped_after += mapped_by_kvm(&pair->primary);
    memcpy(expected, ram->base, ram->size_bytes);
    vm_side_resume(&pair->primary);
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
    order(pair, load_guard_before);
    vm_side_load(&pair->secondary, pair->state);
    return order(pair, load_guard_after);
}

/* The secondary, if it runs, is paused for a checkpoint. Returns how many pages it has written.
 */
static guint64 pause_secondary(Pair *pair)
{
    if (vm_is_running(pair->secondary.vm))
        vm_side_pause(&pair->secondary);
    guint64 written = order(pair, load_guard_written);
    for (guint64 first = 0, count; page_set_next_run(pair->pages, first, &first, &count);
         first += count)
        capture_add_pages(pair->capture, first, count);
    return written;
}

/* The secondary's guest runs on, and finds all its memory as it left it. */
static void run_secondary(Pair *pair)
{
    VmSide *secondary = &pair->secondary;
    guint64 pages = vm_ram(secondary->vm)->size_bytes / VM_PAGE_SIZE;
    g_autoptr(PageSet) dirty = page_set_new(pages);
    vm_side_pause(&pair->primary);
    g_assert_cmpuint(load(pair), ==, 0);
    vm_side_resume(secondary);
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
    const char *count = g_getenv("EXACTNESS_CHECKPOINTS");
    guint64 checkpoints = count ? (guint64)atoi(count) : CHECKPOINTS;
    static const char append[] =
        "dirty_mb=" G_STRINGIFY(ARENA_MIB) " dirty_rate=20000 ip=10.9.0.2/24";
    pair.primary.attach = pair.secondary.attach = which->attach;
    vm_side_start(&pair.primary, "primary", which->machine, which->cpus, append);
    vm_side_start(&pair.secondary, "secondary", which->machine, which->cpus, append);
    g_test_message("dirty pages tracked by %s",
                   dirty_method_name(dirty_tracker_method(pair.primary.tracker)));
    vm_side_resume(&pair.primary);
    WAIT_FOR(vm_side_is_ready(&pair.primary));
    start_pings(&pair);
    start_engines(&pair);

    gsize size = vm_ram(pair.primary.vm)->size_bytes;
    guint8 *expected = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    g_assert_true(expected != MAP_FAILED);
    for (guint64 epoch = 1; epoch <= checkpoints; epoch++) {
        if (epoch % LOAD_EVERY == 1)
            written += pause_secondary(&pair);
        take_checkpoint(&pair, epoch, expected);
        guint64 wrong = epoch % LOAD_EVERY ? 0 : load(&pair);
        touched += wrong;
        if (epoch % LOAD_EVERY == 0 && wrong == 0) {
            assert_same_ram(expected, vm_ram(pair.secondary.vm), epoch);
            vm_side_resume(&pair.secondary);
            runs++;
        }
        run_for(RUN_US);
    }
    g_test_message("loads wrote to %" G_GUINT64_FORMAT
                   " pages; in %u runs the copy wrote %" G_GUINT64_FORMAT " times to a page",
                   touched, runs, written);
    g_assert_cmpuint(runs, >=, checkpoints / LOAD_EVERY / 2);
    g_test_message("KVM had mapped %" G_GUINT64_FORMAT
                   " pages before the harvests, %" G_GUINT64_FORMAT " after them",
                   pair.mapped_before, pair.mapped_after);
    /* The soft-dirty bits of a process are all cleared at once. */
    if (dirty_tracker_method(pair.primary.tracker) == DIRTY_METHOD_UFFD)
        g_assert_cmpuint(pair.mapped_after * 8, >=, pair.mapped_before);
    assert_no_corruption(&pair.primary);
    pause_secondary(&pair);
    take_checkpoint(&pair, checkpoints + 1, expected);
    run_secondary(&pair);

    end_pings(&pair);
    munmap(expected, size);
    capture_free(pair.capture);
    apply_free(pair.apply);
    load_guard_free(pair.guard);
    page_set_free(pair.pages);
    g_bytes_unref(pair.state);
    vm_side_stop(&pair.primary);
    vm_side_stop(&pair.secondary);
    close(pair.sockets[0]);
    close(pair.sockets[1]);
}

int main(int argc, char **argv)
{
    static const Case cases[] = {
        {"pc",  1, VM_ATTACH_AUTO      },
        {"pc",  2, VM_ATTACH_AUTO      },
        {"q35", 1, VM_ATTACH_AUTO      },
        {"q35", 2, VM_ATTACH_AUTO      },
        {"pc",  1, VM_ATTACH_VHOST_USER},
        {"q35", 2, VM_ATTACH_VHOST_USER},
    };

    g_test_init(&argc, &argv, NULL);
    const char *missing = vm_side_missing();
    if (missing) {
        g_print("1..0 # SKIP %s\n", missing);
        return 0;
    }
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *path =
            g_strdup_printf("/exactness/%s/%ucpu%s", cases[i].machine, cases[i].cpus,
                            cases[i].attach == VM_ATTACH_VHOST_USER ? "/vhost-user" : "");
        g_test_add_data_func(path, &cases[i], test_exactness);
    }
    return g_test_run();
}
