/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The disks of a guest that an administrator has stopped, as its VM is moved as planned: there, back
 * and there, though QEMU opens its disks on neither host meanwhile; and cancelled.
 */
#include "common/log.h"
#include "tests/support/control-peer.h"
#include "tests/support/switchover-pair.h"

#include <string.h>

static void type(const Host *host, const char *command)
{
    g_autofree char *text = g_strdup_printf("{\"execute\":\"%s\"}", command);
    g_autofree char *answer = control_peer_ask(host->config->control_socket, text);
    g_assert_cmpstr(answer, ==, "{\"return\":{}}");
}

static void start_stopped(Fixture *f, VmDiskFormat format)
{
    set_up(f, "file");
    set_up_disks(f, 2, format);
    for (int i = 0; i < 2; i++)
        host_set(&f->host[i], "switchover", "downtime-limit", "0ms");
    start(&f->host[0], "primary");
    start(&f->host[1], "secondary");
    protect(f, 0);
    type(&f->host[0], "stop");
    WAIT_FOR(!vm_is_running(f->host[0].vm));
}

/* QEMU is told to give up only what it has opened, by running. */
static void assert_given_up_once(const Vm *vm)
{
    g_assert_cmpuint(fake_vm_count(vm, FAKE_VM_INACTIVATE), <=,
                     1 + fake_vm_count(vm, FAKE_VM_RESUME));
}

static void move(Fixture *f, int from)
{
    Host *a = &f->host[from], *b = &f->host[!from];
    begin(a, FALSE);
    WAIT_FOR(!switchover_is_under_way(phase_of(a)) && !switchover_is_under_way(phase_of(b)));
    g_assert_cmpstr(switchover_error(a->node->switchover), ==, NULL);
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_COMPLETED);
    protect(f, !from);
    g_assert_false(vm_is_running(b->vm));
    assert_given_up_once(b->vm);
}

static void assert_runs(const Host *host)
{
    type(host, "cont");
    WAIT_FOR(vm_is_running(host->vm) && disks_are_active(host->node->disks));
}

static void test_there_and_back(gconstpointer data)
{
    VmDiskFormat format = (VmDiskFormat)GPOINTER_TO_INT(data);
    Fixture f;
    start_stopped(&f, format);
    for (int round = 0; round < 4; round++)
        move(&f, round % 2);
    guint64 epoch = f.host[0].node->epoch;
    ask_for_checkpoint(&f);
    WAIT_FOR(f.host[0].node->epoch > epoch);
    assert_runs(&f.host[0]);
    g_assert_false(f.host[0].ended || f.host[1].ended);
    g_assert_cmpint(fsm_is_protected(f.host[0].node->state), ==, TRUE);
    tear_down(&f);
}

/* The images are taken back, so that the pair stays protected, and another session can begin. */
static void test_cancelled(gconstpointer data)
{
    VmDiskFormat format = (VmDiskFormat)GPOINTER_TO_INT(data);
    Fixture f;
    start_stopped(&f, format);
    Host *a = &f.host[0], *b = &f.host[1];
    fake_vm_inject(b->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    begin(a, FALSE);
    WAIT_FOR(a->node->state == FSM_P_HANDED && fake_vm_is_held(b->vm));
    g_assert_false(disks_images_are_active(a->node->disks));
    type(a, "cancel");
    WAIT_FOR(switchover_is_cancelled(b->node->switchover));
    fake_vm_proceed(b->vm);
    WAIT_FOR(a->node->state == FSM_P_COLO && disks_images_are_active(a->node->disks));
    g_assert_false(vm_is_running(a->vm));
    cut_link(&f);
    WAIT_FOR(a->node->state == FSM_P_NONE || b->node->state == FSM_P_NONE);
    int winner = b->node->state == FSM_P_NONE;
    protect(&f, winner);
    move(&f, winner);
    assert_runs(&f.host[!winner]);
    tear_down(&f);
}

/* A guest that ends while it is held: the secondary's disks have everything, as after any end. */
static void test_held_and_powered_off(void)
{
    Fixture f;
    start_stopped(&f, VM_DISK_RAW);
    Host *a = &f.host[0];
    begin(a, TRUE);
    WAIT_FOR(a->node->state == FSM_P_PRE_SWITCHOVER);
    fake_vm_raise(a->vm, VM_EVENT_SHUTDOWN, NULL);
    WAIT_FOR(a->ended);
    g_assert_no_error(a->error);
    g_assert_true(final_is_in_step(a->node->final));
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_FAILED);
    tear_down(&f);
}

/* There is nothing to be moved any more, whatever abort-on-error says. */
static void test_powered_off(void)
{
    Fixture f;
    start_stopped(&f, VM_DISK_RAW);
    Host *a = &f.host[0];
    a->config->abort_on_error = FALSE;
    fake_vm_inject(f.host[1].vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    begin(a, FALSE);
    fake_vm_raise(a->vm, VM_EVENT_SHUTDOWN, NULL);
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_FAILED);
    g_assert_nonnull(strstr(switchover_error(a->node->switchover), "powered off"));
    WAIT_FOR(a->ended);
    g_assert_true(final_is_in_step(a->node->final));
    tear_down(&f);
}

/* What prevented it is told, and not what followed from that. */
static void test_not_given_up(void)
{
    Fixture f;
    start_stopped(&f, VM_DISK_QCOW2);
    Host *a = &f.host[0];
    fake_vm_inject(a->vm, FAKE_VM_INACTIVATE, FAKE_VM_FAIL, 1);
    begin(a, FALSE);
    WAIT_FOR(phase_of(a) == SWITCHOVER_FAILED && phase_of(&f.host[1]) == SWITCHOVER_FAILED);
    const char *why = switchover_error(a->node->switchover);
    g_assert_true(g_str_has_prefix(why, "the disks can't be given up: "));
    g_assert_cmpstr(switchover_error(f.host[1].node->switchover), ==, why);
    WAIT_FOR(a->node->state == FSM_P_COLO);
    tear_down(&f);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        VmDiskFormat format;
    } formats[] = {
        {"raw",   VM_DISK_RAW  },
        {"qcow2", VM_DISK_QCOW2}
    };
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    for (gsize i = 0; i < G_N_ELEMENTS(formats); i++) {
        g_autofree char *back =
            g_strdup_printf("/node-stopped-disks/there-and-back/%s", formats[i].name);
        g_autofree char *cancelled =
            g_strdup_printf("/node-stopped-disks/cancelled/%s", formats[i].name);
        add_pair_data_test(back, GINT_TO_POINTER(formats[i].format), test_there_and_back);
        add_pair_data_test(cancelled, GINT_TO_POINTER(formats[i].format), test_cancelled);
    }
    add_pair_test("/node-stopped-disks/not-given-up", test_not_given_up);
    add_pair_test("/node-stopped-disks/held-and-powered-off", test_held_and_powered_off);
    add_pair_test("/node-stopped-disks/powered-off", test_powered_off);
    return g_test_run();
}
