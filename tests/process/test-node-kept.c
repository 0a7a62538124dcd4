/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node whose VM has moved becomes the other's secondary with the same VM process and the same disk
 * server, and the next session sends what differs. Where that can't be, it starts over with new ones.
 */
#include "common/log.h"
#include "tests/support/switchover-pair.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

static guint8 record[4096];

static void write_to(const Host *host, guint8 value)
{
    memset(record, value, sizeof(record));
    Disk *disk = fake_disks_find(host->disks, "vda");
    g_assert_cmpint(disk_write(disk, record, sizeof(record), 65536, FALSE), ==, 0);
}

static void start_with_disks(Fixture *f, VmDiskFormat format)
{
    set_up(f, "file");
    split_storage(f);
    set_up_disks(f, 1, format);
    for (int i = 0; i < 2; i++)
        host_set(&f->host[i], "switchover", "downtime-limit", "10s");
    start(&f->host[0], "primary");
    start(&f->host[1], "secondary");
    protect(f, 0);
    fake_vm_autorun(f->host[0].vm, 1, 1);
}

/* The VM is host `to`'s; the other one is about to become its secondary. */
static void move(Fixture *f, int to)
{
    Host *from = &f->host[!to];
    begin(from, FALSE);
    WAIT_FOR(phase_of(from) == SWITCHOVER_COMPLETED &&
             phase_of(&f->host[to]) == SWITCHOVER_COMPLETED);
}

/* Of its VM's RAM. */
static guint64 used_bytes(const Host *host)
{
    struct stat st;
    g_assert_cmpint(fstat(vm_ram(host->vm)->memfd, &st), ==, 0);
    return (guint64)st.st_blocks * 512;
}

/* Of the RAM that is in use, most was there already. */
static void assert_little_was_sent(const Host *primary)
{
    const SyncProgress *progress = primary_progress(primary->node->primary);
    g_assert_nonnull(progress);
    g_assert_cmpuint(progress->same_bytes, >=, used_bytes(primary) / 2);
}

/* To and fro; then the primary dies. */
static void rounds(Fixture *f, gboolean disks)
{
    const Vm *vms[] = {f->host[0].vm, f->host[1].vm};
    fake_vm_autorun(f->host[1].vm, 1, 1);
    for (int round = 0; round < 6; round++) {
        int to = !(round % 2);
        if (disks)
            write_to(&f->host[!to], (guint8)(round + 1));
        move(f, to);
        if (disks)
            write_to(&f->host[to], (guint8)(round + 101));
        protect(f, to);
        g_assert_true(f->host[0].vm == vms[0] && f->host[1].vm == vms[1]);
        assert_little_was_sent(&f->host[to]);
        if (disks)
            g_assert_false(fake_disks_status(f->host[to].disks).sync.full);
    }
    guint64 steps = fake_vm_steps(f->host[0].vm);
    WAIT_FOR(fake_vm_steps(f->host[0].vm) > steps);
    die(&f->host[0]);
    Host *b = &f->host[1];
    WAIT_FOR(b->node->state == FSM_P_NONE && vm_is_running(b->vm));
    g_assert_true(b->vm == vms[1]);
    WAIT_FOR(fake_vm_steps(b->vm) > steps);
    g_assert_false(b->ended);
    tear_down(f);
}

static void test_to_and_fro(void)
{
    Fixture f;
    start_stepping(&f, NULL);
    rounds(&f, FALSE);
}

/* Its tracker goes on when the guard of its loads is made anew. */
static void test_compare(void)
{
    Fixture f;
    set_up(&f, "file");
    for (int i = 0; i < 2; i++) {
        host_set(&f.host[i], "switchover", "downtime-limit", "10s");
        f.host[i].config->dirty_method = CONFIG_DIRTY_COMPARE;
    }
    start(&f.host[0], "primary");
    start(&f.host[1], "secondary");
    protect(&f, 0);
    fake_vm_autorun(f.host[0].vm, 1, 1);
    rounds(&f, FALSE);
}

static void test_raw(void)
{
    Fixture f;
    start_with_disks(&f, VM_DISK_RAW);
    rounds(&f, TRUE);
}

static void test_qcow2(void)
{
    Fixture f;
    start_with_disks(&f, VM_DISK_QCOW2);
    rounds(&f, TRUE);
}

/* ---- It can't be kept ---- */

/* The pair is protected again, from host 1, by another VM of host 0. */
static void assert_replaced(Fixture *f, guint vms)
{
    Host *a = &f->host[0], *b = &f->host[1];
    protect(f, 1);
    g_assert_false(a->ended || b->ended);
    g_assert_cmpuint(a->vms, ==, vms + 1);
    g_assert_cmpuint(b->vms, ==, 1);
    g_assert_true(vm_is_running(b->vm));
    die(b);
    WAIT_FOR(a->node->state == FSM_P_NONE && vm_is_running(a->vm));
    tear_down(f);
}

/* QEMU doesn't answer as it should when it is to be kept. */
static void replaced_after(FakeVmFault fault)
{
    Fixture f;
    start_stepping(&f, NULL);
    Host *a = &f.host[0];
    begin(a, FALSE);
    WAIT_FOR(a->node->state == FSM_P_HANDED);
    fake_vm_inject(a->vm, FAKE_VM_PAUSE, fault, 1);
    assert_replaced(&f, 1);
}

static void test_refuses(void)
{
    replaced_after(FAKE_VM_FAIL);
}

static void test_hangs(void)
{
    replaced_after(FAKE_VM_TIMEOUT);
}

static void test_dies(void)
{
    replaced_after(FAKE_VM_DIE);
}

/* It was kept, and then can't be loaded in the next session, or dies: only a new one is known to do. */
static void replaced_later(FakeVmOperation op, FakeVmFault fault)
{
    Fixture f;
    start_stepping(&f, NULL);
    Host *a = &f.host[0];
    begin(a, FALSE);
    WAIT_FOR(a->node->state == FSM_P_HANDED);
    fake_vm_inject(a->vm, op, fault, 1);
    WAIT_FOR(replica_phase(a->node->becoming) == REPLICA_KEPT || a->vms == 2);
    assert_replaced(&f, 1);
}

static void test_load_fails(void)
{
    replaced_later(FAKE_VM_LOAD, FAKE_VM_FAIL);
}

static void test_dies_in_its_load(void)
{
    replaced_later(FAKE_VM_LOAD, FAKE_VM_DIE);
}

/* It dies while nothing is asked of it. */
static void test_dies_by_itself(void)
{
    Fixture f;
    start_stepping(&f, NULL);
    Host *a = &f.host[0];
    begin(a, FALSE);
    WAIT_FOR(a->node->state == FSM_P_HANDED);
    fake_vm_inject(a->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    WAIT_FOR(fake_vm_is_held(a->vm));
    g_assert_cmpint(a->node->state, ==, FSM_S_STARTING);
    fake_vm_die(a->vm);
    assert_replaced(&f, 1);
}

/* The disk server dies before it has answered; then the VM's process is of no use either. */
static void test_disks_die(void)
{
    Fixture f;
    start_with_disks(&f, VM_DISK_RAW);
    Host *a = &f.host[0];
    begin(a, FALSE);
    WAIT_FOR(a->node->state == FSM_P_HANDED);
    fake_vm_inject(a->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    WAIT_FOR(fake_vm_is_held(a->vm));
    fake_disks_crash(a->disks);
    WAIT_FOR(a->vms == 2);
    assert_replaced(&f, 1);
}

/* An image has lost what was written to it: only another process may trust what is there. */
static void test_unsynced(void)
{
    Fixture f;
    start_with_disks(&f, VM_DISK_RAW);
    Host *a = &f.host[0];
    write_to(a, 7);
    fake_disks_refuse(a->disks, "sync", "vda.img", -EIO);
    g_assert_cmpint(disk_flush(fake_disks_find(a->disks, "vda")), ==, -EIO);
    fake_disks_refuse(a->disks, NULL, "", 0);
    node_event(a->node, FSM_YIELD);
    WAIT_FOR(a->vms == 2);
    assert_replaced(&f, 1);
}

/* ---- Other ways to it ---- */

/*
 * Without a last checkpoint: RAM and disks are not those of any, and what differs is found. A QEMU that
 * has not given its disks up, and caches of them what is about to change, is replaced.
 */
static void handed_over(VmDiskFormat format, guint vms)
{
    Fixture f;
    start_with_disks(&f, format);
    Host *a = &f.host[0], *b = &f.host[1];
    write_to(a, 3);
    node_event(a->node, FSM_YIELD);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    write_to(b, 4);
    protect(&f, 1);
    g_assert_cmpuint(a->vms, ==, vms);
    g_assert_false(fake_disks_status(b->disks).sync.full);
    write_to(b, 5);
    guint64 epoch = a->node->epoch;
    WAIT_FOR(a->node->epoch > epoch + 2);
    die(b);
    WAIT_FOR(a->node->state == FSM_P_NONE && vm_is_running(a->vm));
    guint8 found[sizeof(record)];
    g_assert_cmpint(disk_read(fake_disks_find(a->disks, "vda"), found, sizeof(found), 65536), ==,
                    0);
    g_assert_cmpmem(found, sizeof(found), record, sizeof(record));
    g_assert_cmpuint(a->vms, ==, vms);
    tear_down(&f);
}

static void test_handed_over(void)
{
    handed_over(VM_DISK_RAW, 1);
}

static void test_handed_over_cached(void)
{
    handed_over(VM_DISK_QCOW2, 2);
}

/* The node ends while its VM is about to be kept. */
static void test_ends(void)
{
    Fixture f;
    start_with_disks(&f, VM_DISK_RAW);
    Host *a = &f.host[0], *b = &f.host[1];
    begin(a, FALSE);
    WAIT_FOR(a->node->state == FSM_P_HANDED);
    fake_vm_inject(a->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    WAIT_FOR(fake_vm_is_held(a->vm));
    node_event(a->node, FSM_SHUTDOWN);
    WAIT_FOR(a->ended);
    g_assert_no_error(a->error);
    g_assert_true(b->node->state == FSM_P_NONE && vm_is_running(b->vm));
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-kept/to-and-fro", test_to_and_fro);
    add_pair_test("/node-kept/compare", test_compare);
    add_pair_test("/node-kept/raw", test_raw);
    add_pair_test("/node-kept/qcow2", test_qcow2);
    add_pair_test_in("buffered", "/node-kept/refuses", test_refuses);
    add_pair_test_in("buffered", "/node-kept/hangs", test_hangs);
    add_pair_test_in("buffered", "/node-kept/dies", test_dies);
    add_pair_test_in("buffered", "/node-kept/load-fails", test_load_fails);
    add_pair_test_in("buffered", "/node-kept/dies-in-its-load", test_dies_in_its_load);
    add_pair_test_in("buffered", "/node-kept/dies-by-itself", test_dies_by_itself);
    add_pair_test_in("buffered", "/node-kept/disks-die", test_disks_die);
    add_pair_test_in("buffered", "/node-kept/unsynced", test_unsynced);
    add_pair_test("/node-kept/handed-over", test_handed_over);
    add_pair_test("/node-kept/handed-over-cached", test_handed_over_cached);
    add_pair_test_in("buffered", "/node-kept/ends", test_ends);
    return g_test_run();
}
