/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The disks of a VM that is handed over. From HANDED on they are not the primary's any more, whatever
 * its storage does. When the secondary doesn't take the VM, they are taken back before it runs.
 */
#include "common/log.h"
#include "tests/support/control-peer.h"
#include "tests/support/disk-pair.h"
#include "tests/support/disks-text.h"

#include <errno.h>
#include <string.h>

static gboolean is(const Host *host, const char *what)
{
    g_autofree char *text = disks_text(host->node->disks);
    return !strcmp(text, what);
}

/* Handed over, and the secondary's VM doesn't answer yet. */
static void hand_over(Fixture *f)
{
    Host *a = &f->host[0], *b = &f->host[1];
    if (in_colo_mode())
        quieten(f);
    fake_vm_inject(b->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    node_event(a->node, FSM_YIELD);
    WAIT_FOR(a->node->state == FSM_P_HANDED && fake_vm_is_held(b->vm));
    g_assert_false(vm_is_running(a->vm));
    g_assert_false(disks_are_active(a->node->disks));
}

static void start_handed(Fixture *f, VmDiskFormat format)
{
    start_disk_pair(f, format);
    g_assert_true(is(&f->host[0], "active: vda=active vdb=active qemu=active"));
    hand_over(f);
}

static void handed(VmDiskFormat format)
{
    Fixture f;
    start_handed(&f, format);
    Host *a = &f.host[0], *b = &f.host[1];
    WAIT_FOR(is(a, "inactive: vda=inactive vdb=inactive qemu=active"));
    g_assert_cmpint(write_sevens(a, "vda"), ==, -EPERM);
    fake_vm_proceed(b->vm);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    g_assert_true(is(b, "active: vda=active vdb=active qemu=active"));
    protect(&f, 1);
    g_assert_cmpint(write_sevens(b, "vda"), ==, 0);
    g_assert_false(a->ended || b->ended);
    tear_down(&f);
}

static void test_handed(void)
{
    handed(VM_DISK_RAW);
}

static void test_handed_cached(void)
{
    handed(VM_DISK_QCOW2);
}

/* In the same QEMU, and the pair is protected again. */
static void test_refused(void)
{
    Fixture f;
    start_handed(&f, VM_DISK_QCOW2);
    Host *a = &f.host[0], *b = &f.host[1];
    const Vm *before = a->vm;
    fake_vm_raise(b->vm, VM_EVENT_STOPPED, "internal-error");
    fake_vm_proceed(b->vm);
    WAIT_FOR(a->node->state == FSM_P_COLO && goes_on(a));
    g_assert_true(a->vm == before);
    g_assert_true(is(a, "active: vda=active vdb=active qemu=active"));
    g_assert_cmpint(write_sevens(a, "vdb"), ==, 0);
    g_assert_cmpint(b->node->state, ==, FSM_S_COLO);
    tear_down(&f);
}

/* QEMU refuses it on the way back: the VM is kept, and goes on by itself when it can. */
static void test_way_back_refused(void)
{
    Fixture f;
    start_handed(&f, VM_DISK_QCOW2);
    Host *a = &f.host[0], *b = &f.host[1];
    a->config->resume_patience_ms = 0;
    fake_vm_refuse(a->vm, FAKE_VM_RESUME, TRUE);
    fake_vm_raise(b->vm, VM_EVENT_STOPPED, "internal-error");
    fake_vm_proceed(b->vm);
    WAIT_FOR(a->node->state == FSM_P_COLO && resume_refusal(a->node->resume));
    g_assert_false(vm_is_running(a->vm) || disks_are_active(a->node->disks));
    g_assert_false(a->ended);
    fake_vm_refuse(a->vm, FAKE_VM_RESUME, FALSE);
    WAIT_FOR(goes_on(a));
    tear_down(&f);
}

/* The link is lost, and the arbiter says yes to this side: what it writes alone goes on record. */
static void test_secondary_dies(void)
{
    Fixture f;
    start_handed(&f, VM_DISK_RAW);
    Host *a = &f.host[0];
    guint64 generation = holdings_generation(a->node->holdings);
    die(&f.host[1]);
    WAIT_FOR(a->node->state == FSM_P_NONE && goes_on(a));
    WAIT_FOR(holdings_generation(a->node->holdings) != generation);
    g_assert_cmpint(write_sevens(a, "vda"), ==, 0);
    tear_down(&f);
}

/* The primary's storage hangs as it gives the disks up: nobody waits for it, on either side. */
static void test_storage_hangs(void)
{
    Fixture f;
    start_disk_pair(&f, VM_DISK_RAW);
    Host *a = &f.host[0], *b = &f.host[1];
    if (in_colo_mode())
        quieten(&f);
    WAIT_FOR(cycle_is_between_pauses(primary_phase(a->node->primary)));
    fake_vm_inject(a->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    fake_vm_inject(b->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    node_event(a->node, FSM_YIELD);
    WAIT_FOR(fake_vm_is_held(a->vm));
    g_assert_cmpint(write_sevens(a, "vda"), ==, 0);
    fake_disks_hang(a->disks, "vda.img", TRUE);
    fake_vm_proceed(a->vm);
    WAIT_FOR(a->node->state == FSM_P_HANDED && fake_vm_is_held(b->vm));
    WAIT_FOR(fake_disks_is_hanging(a->disks));
    g_assert_true(is(a, "inactive: vda=unknown vdb=unknown qemu=active"));
    /* And it comes back: not before the storage answers. */
    fake_vm_raise(b->vm, VM_EVENT_STOPPED, "internal-error");
    fake_vm_proceed(b->vm);
    WAIT_FOR(a->node->state == FSM_P_COLO);
    g_assert_false(vm_is_running(a->vm) || disks_are_active(a->node->disks));
    fake_disks_hang(a->disks, "", FALSE);
    WAIT_FOR(goes_on(a));
    tear_down(&f);
}

/* A host whose storage fails is what a hand-over is ordered for. */
static void test_storage_fails(void)
{
    Fixture f;
    start_disk_pair(&f, VM_DISK_RAW);
    Host *a = &f.host[0], *b = &f.host[1];
    fake_disks_refuse(a->disks, "sync", "vda.img", -EIO);
    hand_over(&f);
    fake_vm_proceed(b->vm);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    g_assert_true(goes_on(b));
    fake_disks_refuse(a->disks, NULL, "", 0);
    tear_down(&f);
}

/* A primary that is denied gives them up, too; and takes them back when it is told to go on. */
static void test_frozen(void)
{
    Fixture f;
    start_disk_pair(&f, VM_DISK_RAW);
    Host *a = &f.host[0], *b = &f.host[1];
    fake_vm_inject(b->vm, FAKE_VM_RESUME, FAKE_VM_HOLD, 1);
    set_storage(a, FALSE);
    cut_link(&f);
    WAIT_FOR(b->node->state == FSM_S_DEVICE);
    set_storage(a, TRUE);
    WAIT_FOR(a->node->state == FSM_P_FROZEN && !vm_is_running(a->vm));
    WAIT_FOR(is(a, "inactive: vda=inactive vdb=inactive qemu=active"));
    die(b);
    node_event(a->node, FSM_GRANTED);
    WAIT_FOR(a->node->state == FSM_P_NONE && goes_on(a));
    g_assert_cmpint(write_sevens(a, "vda"), ==, 0);
    tear_down(&f);
}

/* ---- A switchover: the disks are given up in the VM's last checkpoint ---- */

static void switch_over(const Host *host)
{
    WAIT_FOR(host->node->state == FSM_P_COLO && judge_copy_is_fit(host->node->judge));
    primary_plan(host->node->primary);
    node_event(host->node, FSM_CONTINUE);
}

/* The primary's QEMU is told to give its disks up, and doesn't answer yet. */
static void start_giving_up(Fixture *f)
{
    start_disk_pair(f, VM_DISK_QCOW2);
    Host *a = &f->host[0];
    if (in_colo_mode())
        quieten(f);
    fake_vm_inject(a->vm, FAKE_VM_INACTIVATE, FAKE_VM_HOLD, 1);
    switch_over(a);
    WAIT_FOR(fake_vm_is_held(a->vm));
    g_assert_true(is(a, "inactive: vda=active vdb=active qemu=unknown"));
    g_assert_false(vm_is_running(a->vm));
}

/* What QEMU writes as it gives them up, the bitmaps of qcow2 say, is on the other side. */
static void test_last_writes(void)
{
    Fixture f;
    start_giving_up(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    g_assert_cmpint(write_sevens(a, "vdb"), ==, 0);
    fake_vm_inject(b->vm, FAKE_VM_LOAD, FAKE_VM_HOLD, 1);
    fake_vm_proceed(a->vm);
    WAIT_FOR(a->node->state == FSM_P_HANDED && fake_vm_is_held(b->vm));
    g_assert_true(is(a, "inactive: vda=inactive vdb=inactive qemu=inactive"));
    g_assert_cmpint(write_sevens(a, "vdb"), ==, -EPERM);
    g_assert_cmpuint(fake_vm_count(a->vm, FAKE_VM_INACTIVATE), ==, 1);
    fake_vm_proceed(b->vm);
    WAIT_FOR(b->node->state == FSM_P_NONE && goes_on(b));
    g_assert_true(has_sevens(b, "vdb"));
    protect(&f, 1);
    g_assert_false(a->ended || b->ended);
    tear_down(&f);
}

/* It goes on here, in the same QEMU and the same session; and the next try is done. */
static void goes_on_and_tries_again(Fixture *f, const Vm *before, const char *session)
{
    Host *a = &f->host[0], *b = &f->host[1];
    WAIT_FOR(a->node->state == FSM_P_COLO && goes_on(a));
    g_assert_true(a->vm == before);
    g_assert_cmpstr(link_session(a->node->link), ==, session);
    g_assert_cmpint(b->node->state, ==, FSM_S_COLO);
    g_assert_true(is(a, "active: vda=active vdb=active qemu=active"));
    g_assert_cmpint(write_sevens(a, "vda"), ==, 0);
    ask_for_checkpoint(f);
    WAIT_FOR(primary_phase(a->node->primary) == CYCLE_IDLE);
    switch_over(a);
    WAIT_FOR(b->node->state == FSM_P_NONE && goes_on(b));
    g_assert_true(has_sevens(b, "vda"));
    g_assert_cmpuint(figures_takeovers(b->node->figures), ==, 1);
}

/*
 * QEMU can't write what it has to, which the disk server has seen. It is told once for each try, and
 * `cont` comes between.
 */
static void test_release_refused(void)
{
    Fixture f;
    start_giving_up(&f);
    Host *a = &f.host[0];
    const Vm *before = a->vm;
    g_autofree char *session = g_strdup(link_session(a->node->link));
    fake_vm_refuse(a->vm, FAKE_VM_INACTIVATE, TRUE);
    fake_disks_refuse(a->disks, "write", "vdb.img", -ENOSPC);
    g_assert_cmpint(write_sevens(a, "vdb"), ==, -ENOSPC);
    fake_vm_proceed(a->vm);
    WAIT_FOR(is_told(a, "the disks can't be given up"));
    g_assert_true(is_told(a, "injected failure"));
    /* QEMU doesn't say which, and why. */
    g_assert_true(is_told(a, "vdb: No space left on device"));
    g_assert_false(is_told(a, "vda"));
    fake_disks_refuse(a->disks, NULL, "", 0);
    WAIT_FOR(goes_on(a));
    g_assert_cmpuint(fake_vm_count(a->vm, FAKE_VM_INACTIVATE), ==, 1);
    fake_vm_refuse(a->vm, FAKE_VM_INACTIVATE, FALSE);
    goes_on_and_tries_again(&f, before, session);
    tear_down(&f);
}

/*
 * QEMU 10 says that it has given them up, though it could not write all that it had to. The disk server
 * has refused it: the other host is not handed what lacks it.
 */
static void test_release_unheard(void)
{
    Fixture f;
    start_giving_up(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    const Vm *before = a->vm;
    g_autofree char *session = g_strdup(link_session(a->node->link));
    fake_disks_refuse(a->disks, "write", "vdb.img", -ENOSPC);
    g_assert_cmpint(write_sevens(a, "vda"), ==, 0);
    g_assert_cmpint(write_sevens(a, "vdb"), ==, -ENOSPC);
    fake_disks_refuse(a->disks, NULL, "", 0);
    fake_vm_proceed(a->vm);
    WAIT_FOR(is_told(a, "the disks can't be given up") || b->node->state == FSM_P_NONE);
    g_assert_true(is_told(a, "QEMU could not write all that it had to (vdb: "));
    g_assert_true(is_told(a, g_strerror(ENOSPC)));
    g_assert_cmpuint(fake_vm_count(a->vm, FAKE_VM_INACTIVATE), ==, 1);
    goes_on_and_tries_again(&f, before, session);
    tear_down(&f);
}

/* What the guest was told of before is not QEMU's any more. */
static void test_release_after_errors(void)
{
    Fixture f;
    start_disk_pair(&f, VM_DISK_QCOW2);
    Host *a = &f.host[0], *b = &f.host[1];
    fake_disks_refuse(a->disks, "write", "vdb.img", -EIO);
    g_assert_cmpint(write_sevens(a, "vdb"), ==, -EIO);
    fake_disks_refuse(a->disks, NULL, "", 0);
    switch_over(a);
    WAIT_FOR(b->node->state == FSM_P_NONE && goes_on(b));
    tear_down(&f);
}

/* No write has failed: then it is any of those that QEMU has something of. */
static void test_release_refused_for_itself(void)
{
    Fixture f;
    start_giving_up(&f);
    Host *a = &f.host[0];
    fake_vm_refuse(a->vm, FAKE_VM_INACTIVATE, TRUE);
    fake_vm_proceed(a->vm);
    WAIT_FOR(is_told(a, "the disks can't be given up"));
    g_assert_true(is_told(a, "(vda, vdb): "));
    g_assert_true(is_told(a, "injected failure"));
    fake_vm_refuse(a->vm, FAKE_VM_INACTIVATE, FALSE);
    WAIT_FOR(a->node->state == FSM_P_COLO && goes_on(a));
    tear_down(&f);
}

/* An image can't be synced: it is named. It is raw: the other host's has all that is in it. */
static void test_sync_refused(void)
{
    Fixture f;
    start_disk_pair(&f, VM_DISK_RAW);
    Host *a = &f.host[0];
    const Vm *before = a->vm;
    g_autofree char *session = g_strdup(link_session(a->node->link));
    quieten(&f);
    fake_vm_inject(a->vm, FAKE_VM_SAVE, FAKE_VM_HOLD, 1);
    switch_over(a);
    WAIT_FOR(fake_vm_is_held(a->vm));
    fake_disks_refuse(a->disks, "sync", "vdb.img", -EIO);
    fake_vm_proceed(a->vm);
    WAIT_FOR(is_told(a, "vdb.img"));
    g_assert_true(is_told(a, g_strerror(EIO)));
    goes_on_and_tries_again(&f, before, session);
    tear_down(&f);
}

/*
 * Of a qcow2 image QEMU can't write all any more. No checkpoint is made of it: the secondary goes on from the one
 * before, which has what was written until then, and nothing of what came later.
 */
static void hand_over_unsynced(Fixture *f)
{
    Host *a = &f->host[0], *b = &f->host[1];
    guint64 epoch = a->node->epoch;
    WAIT_FOR(is_told(a, "disk vdb: vdb.img: can't sync it"));
    WAIT_FOR(b->node->state == FSM_P_NONE && goes_on(b));
    g_assert_cmpuint(b->node->epoch, ==, epoch);
    g_assert_cmpint(write_sevens(b, "vdb"), ==, 0);
    protect(f, 1);
    g_assert_false(a->ended || b->ended);
    g_assert_cmpuint(a->vms, ==, 2);
    tear_down(f);
}

static void test_unsynced(void)
{
    Fixture f;
    start_disk_pair(&f, VM_DISK_QCOW2);
    Host *a = &f.host[0];
    if (in_colo_mode())
        quieten(&f);
    g_assert_cmpint(write_sevens(a, "vda"), ==, 0);
    ask_for_checkpoint(&f);
    WAIT_FOR(primary_phase(a->node->primary) == CYCLE_IDLE);
    fake_disks_refuse(a->disks, "sync", "vdb.img", -EIO);
    g_assert_cmpint(disk_flush(fake_disks_find(a->disks, "vdb")), ==, -EIO);
    fake_disks_refuse(a->disks, NULL, "", 0);
    g_assert_cmpint(write_sevens(a, "vdb"), ==, 0);
    ask_for_checkpoint(&f);
    hand_over_unsynced(&f);
}

/* The same as they are given up. What the last mark has is whole: that checkpoint is the one to go on from. */
static void test_unsynced_at_last(void)
{
    Fixture f;
    start_giving_up(&f);
    Host *a = &f.host[0];
    fake_disks_refuse(a->disks, "sync", "vdb.img", -EIO);
    fake_vm_proceed(a->vm);
    WAIT_FOR(a->node->state == FSM_P_COLO && goes_on(a));
    fake_disks_refuse(a->disks, NULL, "", 0);
    ask_for_checkpoint(&f);
    hand_over_unsynced(&f);
}

/* Nobody else has the VM: it goes on alone, and that is told. */
static void test_unsynced_alone(void)
{
    Fixture f;
    set_up(&f, "file");
    split_storage(&f);
    set_up_disks(&f, 2, VM_DISK_QCOW2);
    Host *a = &f.host[0];
    start(a, "primary");
    WAIT_FOR(a->node->state == FSM_P_NONE && vm_is_running(a->vm));
    fake_disks_refuse(a->disks, "sync", "vdb.img", -EIO);
    g_assert_cmpint(disk_flush(fake_disks_find(a->disks, "vdb")), ==, -EIO);
    start(&f.host[1], "secondary");
    WAIT_FOR(is_told(a, "can't sync it"));
    WAIT_FOR(a->node->state == FSM_P_NONE && goes_on(a));
    g_assert_false(a->ended);
    tear_down(&f);
}

/*
 * An image hangs: that is told after disk-timeout. It can't be taken back before it answers, so the
 * VM stands until then, and goes on by itself.
 */
static void test_sync_hangs(void)
{
    Fixture f;
    start_giving_up(&f);
    Host *a = &f.host[0];
    const Vm *before = a->vm;
    a->config->resume_patience_ms = 0;
    a->config->disk_timeout_ms = 200;
    g_autofree char *session = g_strdup(link_session(a->node->link));
    fake_disks_hang(a->disks, "vda.img", TRUE);
    fake_vm_proceed(a->vm);
    WAIT_FOR(fake_disks_is_hanging(a->disks));
    g_assert_true(is(a, "inactive: vda=unknown vdb=unknown qemu=inactive"));
    WAIT_FOR(a->node->state == FSM_P_COLO && is_told(a, "vda, vdb"));
    g_assert_true(is_told(a, "the disk server did not answer within 0.2 s"));
    WAIT_FOR(resume_refusal(a->node->resume));
    g_assert_false(vm_is_running(a->vm) || disks_are_active(a->node->disks));
    a->config->disk_timeout_ms = 30000;
    fake_disks_hang(a->disks, "", FALSE);
    goes_on_and_tries_again(&f, before, session);
    tear_down(&f);
}

/* The way back is refused too, for long: then the secondary goes on, which has it all. */
static void test_way_back_for_long(void)
{
    Fixture f;
    start_giving_up(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    a->config->resume_patience_ms = 1;
    fake_vm_refuse(a->vm, FAKE_VM_RESUME, TRUE);
    fake_vm_refuse(a->vm, FAKE_VM_INACTIVATE, TRUE);
    fake_vm_proceed(a->vm);
    WAIT_FOR(b->node->state == FSM_P_NONE && goes_on(b));
    g_assert_cmpuint(fake_vm_count(a->vm, FAKE_VM_INACTIVATE), <=, 1);
    g_assert_false(a->ended || b->ended);
    tear_down(&f);
}

/* Never, and nobody is to go on by itself: an administrator has the secondary continue. */
static void test_way_back_ordered(void)
{
    Fixture f;
    start_giving_up(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    a->config->resume_patience_ms = 0;
    fake_vm_refuse(a->vm, FAKE_VM_RESUME, TRUE);
    fake_vm_refuse(a->vm, FAKE_VM_INACTIVATE, TRUE);
    fake_vm_proceed(a->vm);
    WAIT_FOR(a->node->state == FSM_P_COLO && resume_refusal(a->node->resume));
    g_assert_cmpint(b->node->state, ==, FSM_S_COLO);
    g_autofree char *answer =
        control_peer_ask(a->config->control_socket, "{\"execute\":\"failover\"}");
    g_assert_cmpstr(answer, ==, "{\"return\":{}}");
    WAIT_FOR(b->node->state == FSM_P_NONE && goes_on(b));
    g_assert_false(a->ended || b->ended);
    tear_down(&f);
}

/* It is not wanted any more before QEMU has answered. */
static void test_cancelled(void)
{
    Fixture f;
    start_giving_up(&f);
    Host *a = &f.host[0];
    const Vm *before = a->vm;
    g_autofree char *session = g_strdup(link_session(a->node->link));
    node_event(a->node, FSM_CANCEL);
    g_assert_cmpint(a->node->state, ==, FSM_P_COLO);
    g_assert_false(vm_is_running(a->vm) || disks_are_active(a->node->disks));
    fake_vm_proceed(a->vm);
    goes_on_and_tries_again(&f, before, session);
    tear_down(&f);
}

/* Nobody is there any more to take it. */
static void test_cut(void)
{
    Fixture f;
    start_giving_up(&f);
    Host *a = &f.host[0];
    die(&f.host[1]);
    WAIT_FOR(a->node->state == FSM_P_NONE);
    g_assert_false(vm_is_running(a->vm) || disks_are_active(a->node->disks));
    guint64 generation = holdings_generation(a->node->holdings);
    fake_vm_proceed(a->vm);
    WAIT_FOR(goes_on(a));
    WAIT_FOR(holdings_generation(a->node->holdings) != generation);
    tear_down(&f);
}

/* And back, and again: nothing is told twice, and no QEMU dies. */
static void test_to_and_fro(void)
{
    Fixture f;
    start_disk_pair(&f, VM_DISK_QCOW2);
    for (int round = 0; round < 4; round++) {
        Host *from = &f.host[round % 2], *to = &f.host[(round + 1) % 2];
        switch_over(from);
        WAIT_FOR(to->node->state == FSM_P_NONE || to->node->state == FSM_P_SETUP ||
                 to->node->state == FSM_P_ACTIVE || to->node->state == FSM_P_COLO);
        protect(&f, (round + 1) % 2);
        g_assert_cmpint(write_sevens(to, "vda"), ==, 0);
    }
    g_assert_false(f.host[0].ended || f.host[1].ended);
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-hand-over-disks/handed", test_handed);
    add_pair_test("/node-hand-over-disks/handed-cached", test_handed_cached);
    add_pair_test_in("colo", "/node-hand-over-disks/refused", test_refused);
    add_pair_test_in("colo", "/node-hand-over-disks/way-back-refused", test_way_back_refused);
    add_pair_test_in("colo", "/node-hand-over-disks/way-back-ordered", test_way_back_ordered);
    add_pair_test("/node-hand-over-disks/secondary-dies", test_secondary_dies);
    add_pair_test_in("colo", "/node-hand-over-disks/storage-hangs", test_storage_hangs);
    add_pair_test("/node-hand-over-disks/storage-fails", test_storage_fails);
    add_pair_test_in("buffered", "/node-hand-over-disks/frozen", test_frozen);
    add_pair_test_in("colo", "/node-hand-over-disks/last-writes", test_last_writes);
    add_pair_test_in("colo", "/node-hand-over-disks/release-refused", test_release_refused);
    add_pair_test_in("colo", "/node-hand-over-disks/release-unheard", test_release_unheard);
    add_pair_test_in("colo", "/node-hand-over-disks/release-after-errors",
                     test_release_after_errors);
    add_pair_test_in("colo", "/node-hand-over-disks/release-refused-for-itself",
                     test_release_refused_for_itself);
    add_pair_test_in("colo", "/node-hand-over-disks/sync-refused", test_sync_refused);
    add_pair_test("/node-hand-over-disks/unsynced", test_unsynced);
    add_pair_test_in("colo", "/node-hand-over-disks/unsynced-at-last", test_unsynced_at_last);
    add_pair_test("/node-hand-over-disks/unsynced-alone", test_unsynced_alone);
    add_pair_test_in("colo", "/node-hand-over-disks/sync-hangs", test_sync_hangs);
    add_pair_test("/node-hand-over-disks/way-back-for-long", test_way_back_for_long);
    add_pair_test_in("colo", "/node-hand-over-disks/cancelled", test_cancelled);
    add_pair_test("/node-hand-over-disks/cut", test_cut);
    add_pair_test("/node-hand-over-disks/to-and-fro", test_to_and_fro);
    return g_test_run();
}
