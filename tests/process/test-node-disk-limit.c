/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pairs whose guest writes more than an epoch may have. Here a write that is held waits for the
 * next epoch without end, so that only the node can let it through. Whoever waits for QEMU to stop
 * waits for its writes.
 */
#include "common/log.h"
#include "tests/support/host-pair.h"

#include <string.h>

#define LIMIT ((guint32)DISK_BYTES)

typedef struct {
    Disk *disk;
    GThread *thread;
    gint done; /* atomic */
} Writer;

static void write_bytes(Disk *disk, guint32 bytes)
{
    g_autofree guint8 *data = g_malloc(bytes);
    memset(data, 0x77, bytes);
    g_assert_cmpint(disk_write(disk, data, bytes, 0, FALSE), ==, 0);
}

static gpointer write_on(gpointer data)
{
    Writer *writer = data;
    write_bytes(writer->disk, LIMIT);
    write_bytes(writer->disk, 4096);
    g_atomic_int_set(&writer->done, TRUE);
    return NULL;
}

/* As much as an epoch may have, and one more write. */
static void begin_writing(Writer *writer, const Host *host)
{
    *writer = (Writer){.disk = fake_disks_find(host->disks, "vda")};
    writer->thread = g_thread_new("writer", write_on, writer);
}

static void end_writing(Writer *writer)
{
    WAIT_FOR(g_atomic_int_get(&writer->done));
    g_thread_join(writer->thread);
}

static gboolean is_quiet(const Fixture *f)
{
    const Node *a = f->host[0].node, *b = f->host[1].node;
    return in_colo_mode() ? pair_is_settled(f)
                          : primary_phase(a->primary) == CYCLE_IDLE &&
                                disks_are_at(b->disks, epoch_some(a->epoch));
}

/* A protected pair. From now on no checkpoint is taken, not for its disks either, until ask(). */
static void start_limited_pair(Fixture *f)
{
    set_up(f, "file");
    set_up_disks(f, 1, VM_DISK_RAW);
    fake_disks_limit(f->host[0].disks, LIMIT);
    fake_disks_limit(f->host[1].disks, LIMIT);
    start(&f->host[0], "primary");
    start(&f->host[1], "secondary");
    protect(f, 0);
    WAIT_FOR(is_quiet(f));
    guint64 before = f->host[0].node->epoch;
    for (int side = 0; side < 2; side++)
        f->host[side].config->checkpoint_period_ms = 3600 * 1000;
    ask_for_checkpoint(f);
    WAIT_FOR(f->host[0].node->epoch > before && is_quiet(f));
    f->host[0].config->min_gap_ms = 3600 * 1000;
    g_assert_cmpuint(fake_disks_status(f->host[0].disks).epoch_limit, ==, LIMIT);
}

static void ask(Fixture *f)
{
    f->host[0].config->min_gap_ms = 1;
    ask_for_checkpoint(f);
}

/* The pair is not protected yet, and the secondary loads for long: the guest doesn't wait for it. */
static void test_unprotected(void)
{
    Fixture f;
    Writer writer;
    set_up(&f, "file");
    set_up_disks(&f, 1, VM_DISK_RAW);
    fake_disks_limit(f.host[0].disks, LIMIT);
    fake_disks_limit(f.host[1].disks, LIMIT);
    f.host[1].faulty_operation = FAKE_VM_LOAD;
    f.host[1].fault = FAKE_VM_HOLD;
    f.host[1].nth = 1;
    start(&f.host[0], "primary");
    start(&f.host[1], "secondary");
    WAIT_FOR(f.host[1].vm && fake_vm_is_held(f.host[1].vm));
    WAIT_FOR(fake_disks_status(f.host[0].disks).epoch_limit == LIMIT);
    g_assert_cmpint(f.host[0].node->state, ==, FSM_P_ACTIVE);
    begin_writing(&writer, &f.host[0]);
    end_writing(&writer);
    g_assert_true(fake_vm_is_held(f.host[1].vm));
    g_assert_cmpint(f.host[0].node->state, ==, FSM_P_ACTIVE);
    fake_vm_proceed(f.host[1].vm);
    protect(&f, 0);
    tear_down(&f);
}

/* A checkpoint is taken for it, and the write is of the next epoch. */
static void test_protected(void)
{
    Fixture f;
    Writer writer;
    start_limited_pair(&f);
    Node *a = f.host[0].node;
    guint64 before = a->epoch;
    begin_writing(&writer, &f.host[0]);
    WAIT_FOR(fake_disks_status(f.host[0].disks).waits);
    g_assert_cmpuint(a->epoch, ==, before);
    f.host[0].config->min_gap_ms = 1;
    primary_reschedule(a->primary);
    end_writing(&writer);
    WAIT_FOR(figures_checkpoints_by(a->figures, REASON_DISK_LIMIT) == 1);
    tear_down(&f);
}

/* The pause of a checkpoint. */
static void test_pause(void)
{
    Fixture f;
    Writer writer;
    start_limited_pair(&f);
    fake_vm_inject(f.host[0].vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    ask(&f);
    WAIT_FOR(fake_vm_is_held(f.host[0].vm));
    begin_writing(&writer, &f.host[0]);
    end_writing(&writer);
    g_assert_true(fake_vm_is_held(f.host[0].vm));
    fake_vm_proceed(f.host[0].vm);
    tear_down(&f);
}

/* The pause of the copy: in `buffered` mode it is paused, and is only asked whether it answers. */
static void test_copy_is_paused(void)
{
    Fixture f;
    Writer writer;
    start_limited_pair(&f);
    fake_vm_inject(f.host[1].vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    node_event(f.host[0].node, FSM_YIELD);
    WAIT_FOR(f.host[0].node->state == FSM_P_HANDED && fake_vm_is_held(f.host[1].vm));
    begin_writing(&writer, &f.host[1]);
    end_writing(&writer);
    g_assert_true(fake_vm_is_held(f.host[1].vm));
    fake_vm_proceed(f.host[1].vm);
    protect(&f, 1);
    tear_down(&f);
}

/* QEMU stops by itself, and waits for its writes: on either side. */
static void test_stops(gconstpointer data)
{
    Fixture f;
    Writer writer;
    VmEvent event = (VmEvent)GPOINTER_TO_INT(data);
    start_limited_pair(&f);
    for (int side = in_colo_mode() ? 1 : 0; side >= 0; side--) {
        begin_writing(&writer, &f.host[side]);
        WAIT_FOR(fake_disks_status(f.host[side].disks).waits);
        fake_vm_raise(f.host[side].vm, event, "io-error");
        end_writing(&writer);
    }
    tear_down(&f);
}

/* What was asked for while a checkpoint was on its way has been met by it. */
static void test_asked_for_once(void)
{
    Fixture f;
    start_limited_pair(&f);
    Node *a = f.host[0].node;
    guint64 before = figures_checkpoints(a->figures);
    guint64 by_order = figures_checkpoints_by(a->figures, REASON_ADMIN);
    fake_vm_inject(f.host[0].vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    ask(&f);
    WAIT_FOR(fake_vm_is_held(f.host[0].vm));
    write_bytes(fake_disks_find(f.host[0].disks, "vda"), LIMIT / 2);
    WAIT_FOR(primary_wants(a->primary, REASON_DISK_LIMIT));
    fake_vm_proceed(f.host[0].vm);
    WAIT_FOR(figures_checkpoints(a->figures) == before + 1);
    g_assert_cmpuint(figures_checkpoints_by(a->figures, REASON_ADMIN), ==, by_order + 1);
    g_assert_false(primary_wants(a->primary, REASON_DISK_LIMIT));
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-disk-limit/unprotected", test_unprotected);
    add_pair_test("/node-disk-limit/protected", test_protected);
    add_pair_test("/node-disk-limit/pause", test_pause);
    add_pair_test("/node-disk-limit/copy-is-paused", test_copy_is_paused);
    add_pair_data_test("/node-disk-limit/panics", GINT_TO_POINTER(VM_EVENT_PANICKED), test_stops);
    add_pair_data_test("/node-disk-limit/stops", GINT_TO_POINTER(VM_EVENT_STOPPED), test_stops);
    add_pair_test("/node-disk-limit/asked-for-once", test_asked_for_once);
    return g_test_run();
}
