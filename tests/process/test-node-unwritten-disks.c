/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A primary's pause for a checkpoint, in which QEMU can't write what it keeps in memory of a qcow2 image. Its `stop`
 * succeeds all the same. What it writes itself is written by the test here.
 */
#include "common/log.h"
#include "tests/support/control-peer.h"
#include "tests/support/disk-pair.h"

#include <errno.h>
#include <string.h>

/* The primary's VM is being paused for a checkpoint, of which the secondary has been told. */
static void start_pausing(Fixture *f, VmDiskFormat format)
{
    start_disk_pair(f, format);
    if (in_colo_mode())
        quieten(f);
    fake_vm_inject(f->host[0].vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    ask_for_checkpoint(f);
    WAIT_FOR(fake_vm_is_held(f->host[0].vm));
}

static void fail_to_write(const Host *host)
{
    fake_disks_refuse(host->disks, "write", "vdb.img", -EIO);
    g_assert_cmpint(write_sevens(host, "vdb"), ==, -EIO);
    fake_disks_refuse(host->disks, NULL, "", 0);
}

/* There is no such checkpoint: the secondary goes on from the one before. */
static void is_handed_over(Fixture *f, guint64 epoch, const char *why)
{
    Host *a = &f->host[0], *b = &f->host[1];
    fake_vm_proceed(a->vm);
    WAIT_FOR(a->node->epoch > epoch || is_told(a, why));
    g_assert_cmpuint(a->node->epoch, ==, epoch);
    g_assert_nonnull(strstr(trouble_last(a->node->trouble)->message, "no checkpoint can be made"));
    WAIT_FOR(b->node->state == FSM_P_NONE && goes_on(b));
    g_assert_cmpuint(b->node->epoch, ==, epoch);
    protect(f, 1);
    g_assert_false(a->ended || b->ended);
    tear_down(f);
}

static void test_write_fails(void)
{
    Fixture f;
    start_pausing(&f, VM_DISK_QCOW2);
    guint64 epoch = f.host[0].node->epoch;
    fail_to_write(&f.host[0]);
    is_handed_over(&f, epoch, "QEMU could not write all that it had to (vdb: ");
}

/* Of an image that could be synced just before. */
static void test_flush_fails(void)
{
    Fixture f;
    start_pausing(&f, VM_DISK_QCOW2);
    const Host *a = &f.host[0];
    guint64 epoch = a->node->epoch;
    fake_disks_refuse(a->disks, "sync", "vdb.img", -EIO);
    g_assert_cmpint(disk_flush(fake_disks_find(a->disks, "vdb")), ==, -EIO);
    fake_disks_refuse(a->disks, NULL, "", 0);
    is_handed_over(&f, epoch, "disk vdb: vdb.img: can't sync it");
}

/* A raw image lacks nothing. */
static void test_raw(void)
{
    Fixture f;
    start_pausing(&f, VM_DISK_RAW);
    const Host *a = &f.host[0], *b = &f.host[1];
    guint64 epoch = a->node->epoch;
    fail_to_write(a);
    fake_vm_proceed(a->vm);
    WAIT_FOR(b->node->epoch > epoch && a->node->state == FSM_P_COLO && goes_on(a));
    tear_down(&f);
}

/* The secondary doesn't take it: the VM runs on, and the next checkpoint has all of it. */
static void test_not_taken(void)
{
    Fixture f;
    start_pausing(&f, VM_DISK_QCOW2);
    const Host *a = &f.host[0], *b = &f.host[1];
    const Vm *before = a->vm;
    guint64 epoch = a->node->epoch;
    g_autofree char *session = g_strdup(link_session(a->node->link));
    fake_vm_inject(b->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    fail_to_write(a);
    fake_vm_proceed(a->vm);
    WAIT_FOR(a->node->state == FSM_P_HANDED && fake_vm_is_held(b->vm));
    g_assert_cmpuint(a->node->epoch, ==, epoch);
    fake_vm_raise(b->vm, VM_EVENT_STOPPED, "internal-error");
    fake_vm_proceed(b->vm);
    WAIT_FOR(b->node->epoch > epoch && a->node->state == FSM_P_COLO && goes_on(a));
    g_assert_true(a->vm == before);
    g_assert_cmpstr(link_session(a->node->link), ==, session);
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-unwritten-disks/write-fails", test_write_fails);
    add_pair_test("/node-unwritten-disks/flush-fails", test_flush_fails);
    add_pair_test("/node-unwritten-disks/raw", test_raw);
    add_pair_test_in("colo", "/node-unwritten-disks/not-taken", test_not_taken);
    return g_test_run();
}
