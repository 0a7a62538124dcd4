/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The link is lost while a secondary takes over a VM that was handed over to it, and then it ends, or its
 * QEMU dies, before anybody could hear the VM. The primary, which was denied, waits with it, and has
 * it again.
 */
#include "common/log.h"
#include "tests/support/switchover-pair.h"

#include <string.h>

typedef struct {
    Fixture pair;
    const Vm *before;
    guint64 stop;
    char session[64];
} Handed;

/* The secondary is about to load the VM, and knows of no primary; that is frozen. */
static void take_and_cut(Handed *f, guint disks)
{
    g_autoptr(GError) error = g_error_new_literal(LINK_ERROR, LINK_ERROR_CLOSED, "cut");
    Host *a = &f->pair.host[0], *b = &f->pair.host[1];
    set_up(&f->pair, "file");
    split_storage(&f->pair);
    if (disks > 0)
        set_up_disks(&f->pair, disks, VM_DISK_QCOW2);
    host_set(a, "switchover", "downtime-limit", "10s");
    run_stepping(&f->pair);
    g_strlcpy(f->session, claim_session(a->node->claim), sizeof(f->session));
    f->before = a->vm;
    begin(a, TRUE);
    WAIT_FOR(a->node->state == FSM_P_PRE_SWITCHOVER);
    fake_vm_inject(b->vm, FAKE_VM_LOAD, FAKE_VM_HOLD, 1);
    g_assert_true(go_on(a, NULL, NULL));
    WAIT_FOR(b->node->state == FSM_S_TAKING && fake_vm_is_held(b->vm));
    link_break(a->node->link, error);
    WAIT_FOR(b->node->state == FSM_S_DEVICE && a->node->state == FSM_P_FROZEN);
    f->stop = fake_vm_steps(a->vm);
}

/* Whose the arbiter says that the VM was in that session. */
static void check_owner(const Handed *f, const char *name)
{
    g_autofree char *text = NULL, *path = NULL, *line = NULL;
    path = g_strdup_printf("%s/%s.%s", f->pair.dir, f->pair.host[0].config->vm->uuid, f->session);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    line = g_strdup_printf("\ngranted-to %s\n", name);
    g_assert_nonnull(strstr(text, line));
}

/* The primary goes on from where its VM stood, and is protected again. */
static void goes_on(Handed *f)
{
    Host *a = &f->pair.host[0], *b = &f->pair.host[1];
    WAIT_FOR(b->ended && fake_vm_steps(a->vm) > f->stop);
    g_assert_true(a->vm == f->before);
    check_owner(f, "alpha");
    die(b);
    start(b, "secondary");
    protect(&f->pair, 0);
    tear_down(&f->pair);
}

/* QEMU refuses to run the VM, which has no disks. The node is ended, or (data) its QEMU dies. */
static void test_refused(gconstpointer data)
{
    Handed f = {0};
    take_and_cut(&f, 0);
    Host *b = &f.pair.host[1];
    fake_vm_refuse(b->vm, FAKE_VM_RESUME, TRUE);
    fake_vm_proceed(b->vm);
    WAIT_FOR(resume_refusal(b->node->resume));
    check_owner(&f, "beta");
    if (data)
        fake_vm_die(b->vm);
    else
        node_shut_down(b->node);
    goes_on(&f);
}

/* QEMU dies as it loads the VM, (data) which has disks. */
static void test_dies_loading(gconstpointer data)
{
    Handed f = {0};
    take_and_cut(&f, data ? 1 : 0);
    fake_vm_die(f.pair.host[1].vm);
    goes_on(&f);
}

/* It runs, and QEMU dies then: clients may have heard it. */
static void test_dies_heard(void)
{
    Handed f = {0};
    take_and_cut(&f, 0);
    Host *a = &f.pair.host[0], *b = &f.pair.host[1];
    fake_vm_proceed(b->vm);
    WAIT_FOR(b->node->state == FSM_P_NONE && vm_is_running(b->vm));
    fake_vm_die(b->vm);
    WAIT_FOR(b->ended);
    check_owner(&f, "beta");
    g_assert_true(a->node->state != FSM_P_NONE && !vm_is_running(a->vm));
    tear_down(&f.pair);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", g_getenv("LOUD") ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR);
    add_pair_data_test("/node-unheard/ends", NULL, test_refused);
    add_pair_data_test("/node-unheard/vm-lost", "dies", test_refused);
    add_pair_data_test("/node-unheard/loading", NULL, test_dies_loading);
    add_pair_data_test("/node-unheard/loading-disks", "disks", test_dies_loading);
    add_pair_test("/node-unheard/heard", test_dies_heard);
    return g_test_run();
}
