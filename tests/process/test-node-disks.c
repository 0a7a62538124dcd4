/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pairs of nodes whose VMs have disks: the real engine under both, and storage that fails. */
#include "common/log.h"
#include "tests/support/control-peer.h"
#include "tests/support/disk-pair.h"

#include <errno.h>
#include <string.h>

#define RECORD_BYTES 4096u

static void write_record(Host *host, const char *disk, guint number)
{
    guint8 record[RECORD_BYTES];
    memset(record, (int)number + 1, sizeof(record));
    g_assert_cmpint(disk_write(fake_disks_find(host->disks, disk), record, sizeof(record),
                               (guint64)number * sizeof(record), TRUE),
                    ==, 0);
}

static gboolean has_record(Host *host, const char *disk, guint number)
{
    guint8 record[RECORD_BYTES], expected[RECORD_BYTES];
    memset(expected, (int)number + 1, sizeof(expected));
    g_assert_cmpint(disk_read(fake_disks_find(host->disks, disk), record, sizeof(record),
                              (guint64)number * sizeof(record)),
                    ==, 0);
    return !memcmp(record, expected, sizeof(record));
}

/* Waits for a checkpoint that has all that was written until now: what a client may be told of. */
static void commit(const Fixture *f)
{
    Node *a = f->host[0].node;
    WAIT_FOR(cycle_is_between_pauses(primary_phase(a->primary)));
    guint64 after = a->epoch;
    WAIT_FOR(judge_epoch(a->judge).number > after);
}

/* ---- What a takeover has ---- */

static void takeover(VmDiskFormat format)
{
    Fixture f;
    start_disk_pair(&f, format);
    Host *a = &f.host[0], *b = &f.host[1];
    for (guint i = 0; i < 20; i++) {
        write_record(a, i % 2 ? "vda" : "vdb", i);
        commit(&f);
    }
    die(a);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    for (guint i = 0; i < 20; i++)
        g_assert_true(has_record(b, i % 2 ? "vda" : "vdb", i));
    start(a, "secondary");
    protect(&f, 1);
    write_record(b, "vda", 100);
    tear_down(&f);
}

static void test_takeover(void)
{
    takeover(VM_DISK_RAW);
}

static void test_takeover_cached(void)
{
    takeover(VM_DISK_QCOW2);
}

/* ---- Storage and QEMU that refuse: told, kept, tried again ---- */

static gboolean is_refused(const Host *host, const char *text)
{
    return resume_refusal(host->node->resume) && is_told(host, text);
}

/* It has the VM, told why it doesn't run, and goes on with all records as soon as it can. */
static void heals(Host *b, const char *text, guint records)
{
    WAIT_FOR(b->node->state == FSM_S_DEVICE && is_refused(b, text));
    g_assert_false(b->ended);
    g_assert_false(vm_is_running(b->vm));
    fake_disks_refuse(b->disks, NULL, "", 0);
    fake_vm_refuse(b->vm, FAKE_VM_RESUME, FALSE);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    g_assert_true(vm_is_running(b->vm));
    g_assert_null(resume_refusal(b->node->resume));
    for (guint i = 0; i < records; i++)
        g_assert_true(has_record(b, "vda", i));
}

static void write_records(Fixture *f, guint n)
{
    for (guint i = 0; i < n; i++)
        write_record(&f->host[0], "vda", i);
    commit(f);
}

/* The images can't be taken over: no room for their state. */
static void test_takeover_refused(void)
{
    Fixture f;
    start_disk_pair(&f, VM_DISK_QCOW2);
    write_records(&f, 5);
    Host *b = &f.host[1];
    die(&f.host[0]);
    fake_disks_refuse(b->disks, "write", "", -ENOSPC);
    heals(b, g_strerror(ENOSPC), 5);
    tear_down(&f);
}

static gboolean on_time_out(gpointer user_data)
{
    *(gboolean *)user_data = TRUE;
    return G_SOURCE_REMOVE;
}

/* They take longer to sync than any other order may: nobody else has the VM. */
static void test_takeover_syncs_long(void)
{
    Fixture f;
    gboolean timed_out = FALSE;
    start_disk_pair(&f, VM_DISK_RAW);
    write_records(&f, 5);
    Host *b = &f.host[1];
    WAIT_FOR(disks_are_at(b->node->disks, epoch_some(b->node->epoch)));
    die(&f.host[0]);
    fake_disks_hang(b->disks, "state", TRUE);
    b->config->disk_timeout_ms = 100;
    WAIT_FOR(b->node->state == FSM_S_DEVICE && fake_disks_is_hanging(b->disks));
    g_timeout_add(5 * (guint)b->config->disk_timeout_ms, on_time_out, &timed_out);
    WAIT_FOR(timed_out);
    g_assert_false(b->ended);
    g_assert_cmpint(b->node->state, ==, FSM_S_DEVICE);
    fake_disks_hang(b->disks, "", FALSE);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    for (guint i = 0; i < 5; i++)
        g_assert_true(has_record(b, "vda", i));
    tear_down(&f);
}

/* What the last checkpoint brought can't be applied. */
static void test_apply_refused(void)
{
    /* In buffered mode its VM never runs, and gives its disks up once. */
    Fixture f;
    start_disk_pair(&f, VM_DISK_QCOW2);
    Host *b = &f.host[1];
    write_records(&f, 4);
    /* Between RECEIVED and the apply. */
    write_record(&f.host[0], "vda", 4);
    guint64 before = judge_epoch(f.host[0].node->judge).number;
    WAIT_FOR(judge_epoch(f.host[0].node->judge).number > before);
    fake_vm_inject(b->vm, FAKE_VM_INACTIVATE, FAKE_VM_HOLD, 1);
    WAIT_FOR(fake_vm_is_held(b->vm));
    die(&f.host[0]);
    WAIT_FOR(b->node->state == FSM_S_DEVICE);
    fake_disks_refuse(b->disks, "write", "", -EIO);
    fake_vm_proceed(b->vm);
    heals(b, g_strerror(EIO), 5);
    tear_down(&f);
}

/* QEMU refuses to run the VM, which in `colo` mode has run until now. */
static void test_cont_refused(void)
{
    Fixture f;
    start_disk_pair(&f, VM_DISK_QCOW2);
    write_records(&f, 5);
    Host *b = &f.host[1];
    die(&f.host[0]);
    WAIT_FOR(b->node->state == FSM_S_PAUSED || b->node->state == FSM_S_DEVICE);
    fake_vm_refuse(b->vm, FAKE_VM_RESUME, TRUE);
    heals(b, "injected failure", 5);
    tear_down(&f);
}

/* A device state that can't be loaded now is loaded later. */
static void test_load_refused(void)
{
    Fixture f;
    start_disk_pair(&f, VM_DISK_RAW);
    write_records(&f, 5);
    Host *b = &f.host[1];
    die(&f.host[0]);
    fake_vm_inject(b->vm, FAKE_VM_LOAD, FAKE_VM_FAIL, 1);
    heals(b, "injected failure", 5);
    tear_down(&f);
}

/* ---- What can't be mended here: what can be done instead is told ---- */

static void assert_says_way_out(const Host *b)
{
    WAIT_FOR(b->node->state == FSM_S_DEVICE && is_refused(b, "'colo quit' here"));
    g_assert_true(is_refused(b, "alpha"));
    g_assert_true(is_refused(b, "failover --force"));
    g_assert_false(is_refused(b, "tried again"));
    g_assert_false(b->ended);
}

/* The way out: this side gives the VM back, and alpha's disks have all. */
static void take_the_way_out(Fixture *f)
{
    Host *a = &f->host[0], *b = &f->host[1];
    node_shut_down(b->node);
    WAIT_FOR(b->ended);
    die(b);
    start(a, "auto");
    WAIT_FOR(a->node->state == FSM_P_NONE);
    for (guint i = 0; i < 5; i++)
        g_assert_true(has_record(a, "vda", i));
    tear_down(f);
}

/* QEMU has given up nobody knows which of its disks. */
static void test_inactivate_refused(void)
{
    Fixture f;
    start_disk_pair(&f, VM_DISK_QCOW2);
    Host *a = &f.host[0], *b = &f.host[1];
    write_records(&f, 4);
    fake_vm_inject(b->vm, FAKE_VM_INACTIVATE, FAKE_VM_HOLD, 1);
    write_record(a, "vda", 4);
    WAIT_FOR(fake_vm_is_held(b->vm));
    die(a);
    WAIT_FOR(b->node->state == FSM_S_DEVICE);
    fake_vm_refuse(b->vm, FAKE_VM_INACTIVATE, TRUE);
    fake_vm_proceed(b->vm);
    assert_says_way_out(b);
    take_the_way_out(&f);
}

/* After a failed fdatasync nobody knows what the page cache has lost. */
static void test_sync_fails(void)
{
    Fixture f;
    start_disk_pair(&f, VM_DISK_RAW);
    write_records(&f, 5);
    Host *a = &f.host[0], *b = &f.host[1];
    fake_disks_refuse(b->disks, "sync", "vda", -EIO);
    die(a);
    assert_says_way_out(b);
    fake_disks_refuse(b->disks, NULL, "", 0);
    take_the_way_out(&f);
}

/* Of a VM that runs: whoever looks is told, and where its data is well. */
static void test_sync_fails_running(void)
{
    Fixture f;
    start_disk_pair(&f, VM_DISK_RAW);
    Host *a = &f.host[0];
    fake_disks_refuse(a->disks, "sync", "vda", -EIO);
    g_assert_cmpint(disk_flush(fake_disks_find(a->disks, "vda")), ==, -EIO);
    WAIT_FOR(trouble_last(a->node->trouble) &&
             strstr(trouble_last(a->node->trouble)->message, "durable"));
    g_assert_nonnull(strstr(trouble_last(a->node->trouble)->message, "'colo failover'"));
    json_object *status = json_object_new_object();
    disks_add_status(a->node->disks, status);
    json_object *images = json_object_object_get(json_object_object_get(status, "disks"), "images");
    json_object *image = json_object_array_get_idx(images, 0);
    g_assert_cmpstr(json_object_get_string(json_object_object_get(image, "sync-error")), ==,
                    g_strerror(EIO));
    json_object_put(status);
    fake_disks_refuse(a->disks, NULL, "", 0);
    tear_down(&f);
}

/* Once, wherever a VM is resumed: nobody ends, and the pair is protected in the end. */
static void test_resume_fails_once(void)
{
    Fixture f;
    set_up(&f, "file");
    set_up_disks(&f, 1, VM_DISK_RAW);
    Host *a = &f.host[0], *b = &f.host[1];
    a->faulty_operation = FAKE_VM_RESUME;
    a->fault = FAKE_VM_FAIL;
    a->nth = 1;
    start(a, "primary");
    WAIT_FOR(is_refused(a, "injected failure"));
    g_assert_cmpint(a->node->state, ==, FSM_P_NONE);
    WAIT_FOR(vm_is_running(a->vm));
    start(b, "secondary");
    protect(&f, 0);
    Vm *before = a->vm;
    for (int side = 0; side < 2; side++) {
        fake_vm_inject(f.host[side].vm, FAKE_VM_RESUME, FAKE_VM_FAIL, 1);
        unsigned count = fake_vm_count(f.host[side].vm, FAKE_VM_RESUME);
        if (side == 0 || in_colo_mode())
            WAIT_FOR(fake_vm_count(f.host[side].vm, FAKE_VM_RESUME) > count + 1);
        commit(&f);
    }
    g_assert_true(a->vm == before && a->node->state == FSM_P_COLO && b->node->state == FSM_S_COLO);
    tear_down(&f);
}

/* A primary that can't go on gives the VM to the secondary, which can. */
static void test_resume_fails_for_long(void)
{
    Fixture f;
    start_disk_pair(&f, VM_DISK_RAW);
    write_records(&f, 5);
    Host *a = &f.host[0], *b = &f.host[1];
    a->config->resume_patience_ms = 1;
    fake_vm_refuse(a->vm, FAKE_VM_RESUME, TRUE);
    WAIT_FOR(is_refused(a, "injected failure"));
    WAIT_FOR(b->node->state == FSM_P_NONE);
    WAIT_FOR(vm_is_running(b->vm));
    for (guint i = 0; i < 5; i++)
        g_assert_true(has_record(b, "vda", i));
    g_assert_false(a->ended || b->ended);
    protect(&f, 1);
    tear_down(&f);
}

/* Nobody else could go on: it waits, for days if it must. */
static void test_alone_fails_for_long(void)
{
    Fixture f;
    set_up(&f, "file");
    set_up_disks(&f, 1, VM_DISK_RAW);
    Host *a = &f.host[0];
    a->config->resume_patience_ms = 1;
    start(a, "primary");
    WAIT_FOR(a->node->state == FSM_P_NONE && vm_is_running(a->vm));
    fake_vm_refuse(a->vm, FAKE_VM_RESUME, TRUE);
    fake_vm_raise(a->vm, VM_EVENT_STOPPED, "io-error");
    unsigned count = fake_vm_count(a->vm, FAKE_VM_RESUME);
    WAIT_FOR(fake_vm_count(a->vm, FAKE_VM_RESUME) > count + 3);
    g_assert_cmpint(a->node->state, ==, FSM_P_NONE);
    g_assert_nonnull(resume_refusal(a->node->resume));
    fake_vm_refuse(a->vm, FAKE_VM_RESUME, FALSE);
    WAIT_FOR(vm_is_running(a->vm));
    tear_down(&f);
}

/* ---- A guest that an I/O error has stopped ---- */

static void test_io_error(void)
{
    Fixture f;
    start_disk_pair(&f, VM_DISK_RAW);
    Host *a = &f.host[0];
    a->config->io_retry_ms = 0;
    WAIT_FOR(cycle_is_between_pauses(primary_phase(a->node->primary)));
    fake_vm_raise(a->vm, VM_EVENT_STOPPED, "io-error");
    g_assert_nonnull(trouble_last(a->node->trouble));
    for (int i = 0; i < 3; i++) {
        commit(&f);
        g_assert_false(vm_is_running(a->vm)); /* not by a checkpoint */
    }
    g_autoptr(ControlPeer) peer = control_peer_greeted(a->config->control_socket);
    control_peer_send_text(peer, "{\"execute\":\"qmp_capabilities\"}\n");
    g_free(control_peer_line(peer));
    control_peer_send_text(peer, "{\"execute\":\"cont\"}\n");
    WAIT_FOR(vm_is_running(a->vm));
    /* Alone, and by itself. */
    die(&f.host[1]);
    WAIT_FOR(a->node->state == FSM_P_NONE);
    a->config->io_retry_ms = 20;
    for (int i = 0; i < 3; i++) {
        WAIT_FOR(vm_is_running(a->vm));
        fake_vm_raise(a->vm, VM_EVENT_STOPPED, "io-error");
    }
    WAIT_FOR(vm_is_running(a->vm));
    tear_down(&f);
}

/* ---- The command ---- */

/* Whatever events come before it. */
static json_object *next_answer(ControlPeer *peer)
{
    for (;;) {
        g_autofree char *line = control_peer_line(peer);
        g_assert_nonnull(line);
        json_object *object = json_tokener_parse(line);
        if (!json_object_object_get_ex(object, "event", NULL))
            return object;
        json_object_put(object);
    }
}

static json_object *answer_to(ControlPeer *peer, const char *command)
{
    g_autofree char *text = g_strdup_printf("{\"execute\":\"%s\"}\n", command);
    control_peer_send_text(peer, text);
    return next_answer(peer);
}

/* `cont` tells how its own try ends; in a takeover too. */
static void test_cont_command(void)
{
    Fixture f;
    start_disk_pair(&f, VM_DISK_RAW);
    write_records(&f, 3);
    Host *b = &f.host[1];
    die(&f.host[0]);
    fake_disks_refuse(b->disks, "write", "", -ENOSPC);
    WAIT_FOR(b->node->state == FSM_S_DEVICE && is_refused(b, g_strerror(ENOSPC)));
    g_autoptr(ControlPeer) peer = control_peer_greeted(b->config->control_socket);
    json_object_put(answer_to(peer, "qmp_capabilities"));
    json_object *answer = answer_to(peer, "cont");
    json_object *error = json_object_object_get(answer, "error");
    g_assert_nonnull(strstr(json_object_get_string(error), g_strerror(ENOSPC)));
    json_object_put(answer);
    fake_disks_refuse(b->disks, NULL, "", 0);
    /* It would be tried again by itself, too. */
    GSource *again = g_main_context_find_source_by_id(NULL, resume_next_try(b->node->resume));
    g_source_set_ready_time(again, -1);
    for (int i = 0; i < 2; i++) { /* the second time there is nothing to do */
        answer = answer_to(peer, "cont");
        g_assert_true(json_object_object_get_ex(answer, "return", NULL));
        json_object_put(answer);
        g_assert_cmpint(b->node->state, ==, FSM_P_NONE);
        g_assert_true(vm_is_running(b->vm));
    }
    tear_down(&f);
}

/* A secondary that doesn't know whether it goes on, and whose last checkpoint can't be applied. */
static ControlPeer *start_refused_copy(Fixture *f)
{
    set_up(f, "none");
    set_up_disks(f, 2, VM_DISK_QCOW2);
    Host *b = &f->host[1];
    start(&f->host[0], "primary");
    start(b, "secondary");
    protect(f, 0);
    write_records(f, 3);
    fake_vm_inject(b->vm, FAKE_VM_INACTIVATE, FAKE_VM_HOLD, 1);
    WAIT_FOR(fake_vm_is_held(b->vm));
    die(&f->host[0]);
    WAIT_FOR(b->node->state == FSM_S_PAUSED && claim_is_undecided(b->node->claim));
    fake_disks_refuse(b->disks, "write", "", -EIO);
    fake_vm_proceed(b->vm);
    WAIT_FOR(is_refused(b, g_strerror(EIO)) && resume_is_waiting(b->node->resume));
    /* Only `cont` tries it again. */
    g_source_set_ready_time(
        g_main_context_find_source_by_id(NULL, resume_next_try(b->node->resume)), -1);
    ControlPeer *peer = control_peer_greeted(b->config->control_socket);
    json_object_put(answer_to(peer, "qmp_capabilities"));
    return peer;
}

/* Then the try ends when that is applied: the VM is not to run. */
static void test_cont_command_undecided(void)
{
    Fixture f;
    g_autoptr(ControlPeer) peer = start_refused_copy(&f);
    Host *b = &f.host[1];
    fake_disks_refuse(b->disks, NULL, "", 0);
    json_object *answer = answer_to(peer, "cont");
    g_assert_true(json_object_object_get_ex(answer, "return", NULL));
    json_object_put(answer);
    g_assert_cmpint(b->node->state, ==, FSM_S_PAUSED);
    g_assert_true(disks_are_at(b->node->disks, epoch_some(b->node->epoch)));
    g_assert_null(resume_refusal(b->node->resume));
    claim_order(b->node->claim, TRUE);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    for (guint i = 0; i < 3; i++)
        g_assert_true(has_record(b, "vda", i));
    tear_down(&f);
}

/* Or when the primary's VM runs again, which makes the copy needless. */
static void test_cont_command_session_over(void)
{
    Fixture f;
    g_autoptr(ControlPeer) peer = start_refused_copy(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    fake_disks_refuse(b->disks, NULL, "", 0);
    fake_disks_hang(b->disks, "", TRUE);
    control_peer_send_text(peer, "{\"execute\":\"cont\"}\n");
    WAIT_FOR(disks_are_applying(b->node->disks) && fake_disks_is_hanging(b->disks));
    start(a, "primary");
    WAIT_FOR(b->node->state == FSM_S_ACTIVE);
    json_object *answer = next_answer(peer);
    g_assert_true(json_object_object_get_ex(answer, "error", NULL));
    json_object_put(answer);
    fake_disks_hang(b->disks, "", FALSE);
    protect(&f, 0);
    tear_down(&f);
}

/* What a client sends before it has its answer waits until what was to be done is done. */
static void test_cont_and_quit(void)
{
    Fixture f;
    set_up(&f, "file");
    set_up_disks(&f, 1, VM_DISK_RAW);
    Host *a = &f.host[0];
    a->config->io_retry_ms = 0;
    start(a, "primary");
    WAIT_FOR(a->node->state == FSM_P_NONE && vm_is_running(a->vm));
    fake_vm_raise(a->vm, VM_EVENT_STOPPED, "io-error");
    g_autoptr(ControlPeer) peer = control_peer_greeted(a->config->control_socket);
    control_peer_send_text(peer, "{\"execute\":\"cont\"}{\"execute\":\"quit\"}\n");
    WAIT_FOR(a->ended);
    tear_down(&f);
}

static void test_cont_and_quit_session_over(void)
{
    Fixture f;
    g_autoptr(ControlPeer) peer = start_refused_copy(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    fake_disks_refuse(b->disks, NULL, "", 0);
    fake_disks_hang(b->disks, "", TRUE);
    control_peer_send_text(peer, "{\"execute\":\"cont\"}{\"execute\":\"quit\"}\n");
    WAIT_FOR(disks_are_applying(b->node->disks) && fake_disks_is_hanging(b->disks));
    start(a, "primary");
    WAIT_FOR(b->ended);
    fake_disks_hang(b->disks, "", FALSE);
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-disks/takeover", test_takeover);
    add_pair_test("/node-disks/takeover-cached", test_takeover_cached);
    add_pair_test("/node-disks/takeover-refused", test_takeover_refused);
    add_pair_test("/node-disks/takeover-syncs-long", test_takeover_syncs_long);
    add_pair_test_in("colo", "/node-disks/apply-refused", test_apply_refused);
    add_pair_test("/node-disks/cont-refused", test_cont_refused);
    add_pair_test_in("buffered", "/node-disks/load-refused", test_load_refused);
    add_pair_test_in("colo", "/node-disks/inactivate-refused", test_inactivate_refused);
    add_pair_test_in("colo", "/node-disks/sync-fails", test_sync_fails);
    add_pair_test_in("buffered", "/node-disks/sync-fails-running", test_sync_fails_running);
    add_pair_test("/node-disks/resume-fails-once", test_resume_fails_once);
    add_pair_test("/node-disks/resume-fails-for-long", test_resume_fails_for_long);
    add_pair_test("/node-disks/alone-fails-for-long", test_alone_fails_for_long);
    add_pair_test("/node-disks/io-error", test_io_error);
    add_pair_test("/node-disks/cont-command", test_cont_command);
    add_pair_test_in("colo", "/node-disks/cont-command-undecided", test_cont_command_undecided);
    add_pair_test_in("colo", "/node-disks/cont-command-session-over",
                     test_cont_command_session_over);
    add_pair_test("/node-disks/cont-and-quit", test_cont_and_quit);
    add_pair_test_in("colo", "/node-disks/cont-and-quit-session-over",
                     test_cont_and_quit_session_over);
    return g_test_run();
}
