/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VM that is handed over to a secondary which can't take it over, though the arbiter has granted
 * it: the secondary gives it back, and the primary continues where its VM stood. Nothing of the
 * secondary's VM was heard.
 */
#include "common/log.h"
#include "tests/support/control-peer.h"
#include "tests/support/hold.h"
#include "tests/support/switchover-pair.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

/* In which the VM was handed over. */
static char session[64];

static void start_disk_pair(Fixture *f, guint disks)
{
    set_up(f, "file");
    split_storage(f);
    if (disks > 0)
        set_up_disks(f, disks, VM_DISK_QCOW2);
    for (int i = 0; i < 2; i++) {
        host_set(&f->host[i], "switchover", "downtime-limit", "10s");
        host_set(&f->host[i], "disks", "disk-timeout", "300ms");
    }
    start(&f->host[0], "primary");
    start(&f->host[1], "secondary");
    protect(f, 0);
    fake_vm_autorun(f->host[0].vm, 1, 1);
}

/* Held before its last checkpoint. */
static guint64 start_held_pair(Fixture *f, guint disks)
{
    start_disk_pair(f, disks);
    Host *a = &f->host[0];
    begin(a, TRUE);
    WAIT_FOR(a->node->state == FSM_P_PRE_SWITCHOVER);
    g_strlcpy(session, claim_session(a->node->claim), sizeof(session));
    return fake_vm_steps(a->vm);
}

static gboolean is_silent(const Host *host)
{
    return !cards_are_open(host->node->cards) && !announce_is_planned(host->node->announce);
}

/* Whose the arbiter says that the VM was then. */
static void check_owner(Fixture *f, const char *name)
{
    g_autofree char *text = NULL, *path = NULL;
    path = g_strdup_printf("%s/%s.%s", f->dir, f->host[0].config->vm->uuid, session);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_autofree char *line = g_strdup_printf("\ngranted-to %s\n", name);
    g_assert_nonnull(strstr(text, line));
}

/* The same QEMU goes on from where it stood; both say why; and the pair is protected again. */
static void goes_on(Fixture *f, const Vm *before, guint64 stood_at, const char *why)
{
    Host *a = &f->host[0], *b = &f->host[1];
    WAIT_FOR(fake_vm_steps(a->vm) > stood_at);
    g_assert_true(a->vm == before && fsm_is_primary(a->node->state));
    g_assert_cmpuint(figures_takeovers(b->node->figures), ==, 0);
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_FAILED);
    g_assert_cmpint(phase_of(b), ==, SWITCHOVER_FAILED);
    g_assert_nonnull(strstr(switchover_error(a->node->switchover), why));
    g_assert_nonnull(strstr(switchover_error(b->node->switchover), why));
    g_assert_true(is_silent(b));
    check_owner(f, "alpha");
    protect(f, 0);
    g_assert_false(a->ended || b->ended);
}

/* The primary's VM, which stood at `stood_at`, goes on, and is protected again. */
static void runs_on(Fixture *f, const Vm *before, guint64 stood_at)
{
    Host *a = &f->host[0];
    WAIT_FOR(fake_vm_steps(a->vm) > stood_at);
    g_assert_true(a->vm == before);
    check_owner(f, "alpha");
    protect(f, 0);
}

/* The engines' connections may end by now: the link's own does. */
static void cut(Fixture *f)
{
    g_autoptr(GError) error = g_error_new_literal(LINK_ERROR, LINK_ERROR_CLOSED, "cut");
    link_break(f->host[0].node->link, error);
}

/* QEMU refuses the load (data: or dies in it). */
static void test_load(gconstpointer data)
{
    Fixture f;
    guint64 stop = start_held_pair(&f, 0);
    Host *a = &f.host[0], *b = &f.host[1];
    const Vm *before = a->vm;
    fake_vm_inject(b->vm, FAKE_VM_LOAD, data ? FAKE_VM_DIE : FAKE_VM_FAIL, 1);
    g_assert_true(go_on(a, NULL, NULL));
    goes_on(&f, before, stop, data ? "QEMU" : "can't be loaded");
    /* Another time it can. */
    begin(a, FALSE);
    WAIT_FOR(phase_of(a) == SWITCHOVER_COMPLETED);
    protect(&f, 1);
    tear_down(&f);
}

/* `cont` is refused for longer than disk-timeout: QEMU can't open its disks. */
static void test_cont(gconstpointer data)
{
    Fixture f;
    guint64 stop = start_held_pair(&f, data ? 2 : 0);
    Host *a = &f.host[0], *b = &f.host[1];
    const Vm *before = a->vm;
    fake_vm_refuse(b->vm, FAKE_VM_RESUME, TRUE);
    g_assert_true(go_on(a, NULL, NULL));
    WAIT_FOR(b->node->state == FSM_S_TAKING && resume_refusal(b->node->resume));
    g_assert_true(is_silent(b));
    g_assert_cmpint(a->node->state, ==, FSM_P_HANDED);
    goes_on(&f, before, stop, "not taken over in time");
    begin(a, FALSE);
    WAIT_FOR(phase_of(a) == SWITCHOVER_COMPLETED);
    protect(&f, 1);
    tear_down(&f);
}

/* One that passes in time is no reason. */
static void test_cont_in_time(void)
{
    Fixture f;
    start_held_pair(&f, 1);
    Host *a = &f.host[0], *b = &f.host[1];
    b->config->disk_timeout_ms = 20000;
    fake_vm_refuse(b->vm, FAKE_VM_RESUME, TRUE);
    g_assert_true(go_on(a, NULL, NULL));
    WAIT_FOR(b->node->state == FSM_S_TAKING && resume_refusal(b->node->resume));
    fake_vm_refuse(b->vm, FAKE_VM_RESUME, FALSE);
    WAIT_FOR(phase_of(b) == SWITCHOVER_COMPLETED && phase_of(a) == SWITCHOVER_COMPLETED);
    protect(&f, 1);
    tear_down(&f);
}

/* The secondary's storage refuses the takeover, or (data) hangs in it. */
static void test_disks(gconstpointer data)
{
    Fixture f;
    guint64 stop = start_held_pair(&f, 2);
    Host *a = &f.host[0], *b = &f.host[1];
    const Vm *before = a->vm;
    if (in_colo_mode())
        WAIT_FOR(disks_are_at(b->node->disks, epoch_some(b->node->epoch)));
    fake_vm_inject(b->vm, FAKE_VM_LOAD, FAKE_VM_HOLD, 1);
    g_assert_true(go_on(a, NULL, NULL));
    WAIT_FOR(b->node->state == FSM_S_TAKING && fake_vm_is_held(b->vm));
    if (data)
        fake_disks_hang(b->disks, "", TRUE);
    else
        fake_disks_refuse(b->disks, "write", "", -ENOSPC);
    fake_vm_proceed(b->vm);
    WAIT_FOR(phase_of(b) == SWITCHOVER_FAILED);
    g_assert_true(is_silent(b));
    fake_disks_refuse(b->disks, NULL, "", 0);
    fake_disks_hang(b->disks, "", FALSE);
    goes_on(&f, before, stop, "not taken over in");
    tear_down(&f);
}

/* SIGTERM at the secondary, which is about to run the VM. */
static void test_ends(void)
{
    Fixture f;
    guint64 stop = start_held_pair(&f, 0);
    Host *a = &f.host[0], *b = &f.host[1];
    const Vm *before = a->vm;
    fake_vm_inject(b->vm, FAKE_VM_RESUME, FAKE_VM_HOLD, 1);
    g_assert_true(go_on(a, NULL, NULL));
    WAIT_FOR(b->node->state == FSM_S_TAKING && fake_vm_is_held(b->vm));
    node_leave(b->node);
    WAIT_FOR(b->ended);
    g_assert_no_error(b->error);
    WAIT_FOR(fake_vm_steps(a->vm) > stop);
    g_assert_true(a->vm == before);
    g_assert_nonnull(strstr(switchover_error(a->node->switchover), "ends"));
    check_owner(&f, "alpha");
    die(b);
    start(b, "secondary");
    protect(&f, 0);
    tear_down(&f);
}

/*
 * SIGTERM at the primary, whose VM stands: the secondary may yet give it back, and nobody else has it.
 * (data: it does; else it takes over.)
 */
static void test_primary_ends(gconstpointer data)
{
    Fixture f;
    start_held_pair(&f, 0);
    Host *a = &f.host[0], *b = &f.host[1];
    fake_vm_inject(b->vm, FAKE_VM_LOAD, FAKE_VM_HOLD, 1);
    g_assert_true(go_on(a, NULL, NULL));
    WAIT_FOR(b->node->state == FSM_S_TAKING && fake_vm_is_held(b->vm));
    node_leave(a->node);
    for (guint turn = 0; turn < 1000; turn++)
        g_main_context_iteration(NULL, FALSE);
    g_assert_true(a->node->state == FSM_P_HANDED && !a->ended && a->vm);
    if (data)
        node_event(b->node, FSM_HAND_OVER_FAILED);
    else
        fake_vm_proceed(b->vm);
    WAIT_FOR(a->ended);
    g_assert_no_error(a->error);
    g_assert_cmpuint(figures_takeovers(b->node->figures), ==, !data);
    check_owner(&f, data ? "alpha" : "beta");
    if (!data)
        WAIT_FOR(b->node->state == FSM_P_NONE && vm_is_running(b->vm));
    tear_down(&f);
}

/* The arbiter's storage is away when the VM is to be given back; and comes back. */
static void test_arbiter_away(gconstpointer data)
{
    Fixture f;
    guint64 stop = start_held_pair(&f, 0);
    Host *a = &f.host[0], *b = &f.host[1];
    const Vm *before = a->vm;
    fake_vm_inject(b->vm, FAKE_VM_LOAD, FAKE_VM_HOLD, 1);
    g_assert_true(go_on(a, NULL, NULL));
    WAIT_FOR(b->node->state == FSM_S_TAKING && fake_vm_is_held(b->vm));
    set_storage(b, FALSE);
    node_event(b->node, FSM_HAND_OVER_FAILED);
    WAIT_FOR(trouble_last(b->node->trouble) &&
             strstr(trouble_last(b->node->trouble)->message, "can't be given back"));
    g_assert_cmpint(b->node->state, ==, FSM_S_GIVING);
    g_assert_false(vm_is_running(a->vm));
    if (data) {
        /* The primary asks too early, and is denied: it looks again. */
        cut(&f);
        WAIT_FOR(a->node->state == FSM_P_FROZEN);
    }
    set_storage(b, TRUE);
    runs_on(&f, before, stop);
    tear_down(&f);
}

/*
 * The storage hangs as the VM is given back, and so does what has been asked of it. Then it is there
 * again, under the same path, and that hangs still. (data: the primary looks, and that hangs, too.)
 */
static void test_arbiter_hangs(gconstpointer data)
{
    static Hold storage[2];
    Fixture f;
    guint64 stop = start_held_pair(&f, 0);
    Host *a = &f.host[0], *b = &f.host[1];
    const Vm *before = a->vm;
    for (int i = 0; i < 2; i++)
        hold_attach(&storage[i], claim_arbiter(f.host[i].node->claim));
    fake_vm_inject(b->vm, FAKE_VM_LOAD, FAKE_VM_HOLD, 1);
    g_assert_true(go_on(a, NULL, NULL));
    WAIT_FOR(b->node->state == FSM_S_TAKING && fake_vm_is_held(b->vm));
    /* Only of the questions to come: on a busy machine the takeover's own takes longer. */
    for (int i = 0; i < 2; i++)
        arbiter_set_limit_ms(claim_arbiter(f.host[i].node->claim), 100);
    hold(&storage[1], HOLD_BEFORE);
    node_event(b->node, FSM_HAND_OVER_FAILED);
    WAIT_FOR(b->node->state == FSM_S_GIVING && hold_waiting(&storage[1]) > 0);
    if (data) {
        cut(&f);
        WAIT_FOR(a->node->state == FSM_P_FROZEN);
        hold(&storage[0], HOLD_BEFORE);
        WAIT_FOR(hold_waiting(&storage[0]) > 0);
        hold(&storage[0], HOLD_NOT);
    }
    g_assert_false(vm_is_running(a->vm));
    hold(&storage[1], HOLD_NOT);
    WAIT_FOR(fake_vm_steps(a->vm) > stop);
    g_assert_true(a->vm == before);
    check_owner(&f, "alpha");
    g_assert_cmpuint(hold_waiting(&storage[1]), >, 0);
    g_assert_true(!data || hold_waiting(&storage[0]) > 0);
    protect(&f, 0);
    for (int i = 0; i < 2; i++)
        hold_end(&storage[i]);
    tear_down(&f);
}

/* The link is cut while the secondary takes over: there is no way back, and it goes on. */
static void test_cut(void)
{
    Fixture f;
    start_held_pair(&f, 1);
    Host *a = &f.host[0], *b = &f.host[1];
    fake_vm_inject(b->vm, FAKE_VM_LOAD, FAKE_VM_HOLD, 1);
    g_assert_true(go_on(a, NULL, NULL));
    WAIT_FOR(b->node->state == FSM_S_TAKING && fake_vm_is_held(b->vm));
    guint64 stop = fake_vm_steps(a->vm);
    g_assert_true(is_silent(b));
    cut(&f);
    WAIT_FOR(b->node->state == FSM_S_DEVICE && a->node->state == FSM_P_FROZEN);
    g_assert_false(is_silent(b));
    fake_vm_proceed(b->vm);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    g_assert_cmpuint(fake_vm_steps(b->vm), >=, stop);
    check_owner(&f, "beta");
    protect(&f, 1);
    tear_down(&f);
}

static void write_to(const Host *host, guint8 value)
{
    guint8 block[4096];
    memset(block, value, sizeof(block));
    Disk *disk = fake_disks_find(host->disks, "vda");
    g_assert_cmpint(disk_write(disk, block, sizeof(block), 65536, FALSE), ==, 0);
}

static void move(Fixture *f, int to)
{
    begin(&f->host[!to], FALSE);
    protect(f, to);
}

/*
 * The secondary has taken over, served clients, and died. An administrator has the old primary continue
 * all the same. What the other one's disks have is not dropped without his word.
 */
static void test_overruled(void)
{
    Fixture f;
    start_disk_pair(&f, 1);
    Host *a = &f.host[0], *b = &f.host[1];
    /* The arbiter has said yes to alpha, in an earlier session. */
    move(&f, 1);
    move(&f, 0);
    begin(a, FALSE);
    WAIT_FOR(a->node->state == FSM_P_FROZEN);
    g_assert_cmpint(b->node->state, ==, FSM_P_NONE);
    write_to(b, 7);
    die(b);
    g_assert_cmpint(a->node->state, ==, FSM_P_FROZEN);
    claim_overrule(a->node->claim);
    WAIT_FOR(a->node->state == FSM_P_NONE && vm_is_running(a->vm));
    write_to(a, 8);
    start(b, "secondary");
    WAIT_FOR(b->ended);
    g_assert_nonnull(strstr(b->error->message, "--discard-this-side"));
    g_assert_cmpint(a->node->state, ==, FSM_P_NONE);
    tear_down(&f);
}

/*
 * The secondary's colod dies as it takes over, and starts again: its disks are a replica that nobody
 * has run from. It gives up what the arbiter has granted to it, and the primary continues, also if it
 * has waited (data: the secondary's role is not its own choice) for long.
 */
static void die_in_takeover(const char *role, guint disks)
{
    Fixture f;
    guint64 stop = start_held_pair(&f, disks);
    Host *a = &f.host[0], *b = &f.host[1];
    const Vm *before = a->vm;
    fake_vm_inject(b->vm, FAKE_VM_LOAD, FAKE_VM_HOLD, 1);
    g_assert_true(go_on(a, NULL, NULL));
    WAIT_FOR(b->node->state == FSM_S_TAKING && fake_vm_is_held(b->vm));
    die(b);
    WAIT_FOR(a->node->state == FSM_P_FROZEN);
    check_owner(&f, "beta");
    g_assert_false(vm_is_running(a->vm));
    start(b, role);
    WAIT_FOR(fake_vm_steps(a->vm) > stop);
    g_assert_true(a->vm == before && fsm_is_primary(a->node->state));
    check_owner(&f, "alpha");
    if (!b->ended) {
        protect(&f, 0);
    } else {
        die(b);
        start(b, "auto");
        protect(&f, 0);
    }
    tear_down(&f);
}

static void test_dies(gconstpointer data)
{
    die_in_takeover(data, 1);
}

/* Without disks it has noted that. */
static void test_dies_diskless(gconstpointer data)
{
    die_in_takeover(data, 0);
}

static char *note_of(const Host *host)
{
    return g_build_filename(host->config->state_dir, "unrun", NULL);
}

/* The VM, which has no disks, is about to run on the secondary. */
static guint64 take_until_cont(Fixture *f)
{
    guint64 stop = start_held_pair(f, 0);
    Host *a = &f->host[0], *b = &f->host[1];
    g_autofree char *note = note_of(b);
    WAIT_FOR(g_file_test(note, G_FILE_TEST_EXISTS));
    fake_vm_inject(b->vm, FAKE_VM_RESUME, FAKE_VM_HOLD, 1);
    g_assert_true(go_on(a, NULL, NULL));
    WAIT_FOR(b->node->state == FSM_S_TAKING && fake_vm_is_held(b->vm));
    g_assert_true(g_file_test(note, G_FILE_TEST_EXISTS));
    return stop;
}

/*
 * It runs there, which the arbiter can't be told, and the secondary dies: clients may have heard it. So it is
 * the secondary's, which starts it anew; the primary's is older.
 */
static void test_dies_heard(void)
{
    Fixture f;
    take_until_cont(&f);
    Host *b = &f.host[1];
    g_autofree char *note = note_of(b);
    set_storage(b, FALSE);
    fake_vm_proceed(b->vm);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    g_assert_false(g_file_test(note, G_FILE_TEST_EXISTS));
    die(b);
    set_storage(b, TRUE);
    start(b, "auto");
    WAIT_FOR(fsm_is_primary(b->node->state) && b->node->state != FSM_P_ASKING);
    check_owner(&f, "beta");
    protect(&f, 1);
    tear_down(&f);
}

/* It dies as QEMU is told to run the VM (data: the link was lost): the primary still holds it. */
static void test_dies_in_cont(gconstpointer data)
{
    Fixture f;
    guint64 stop = take_until_cont(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    const Vm *before = a->vm;
    if (data) {
        cut(&f);
        WAIT_FOR(b->node->state == FSM_S_DEVICE);
    }
    die(b);
    WAIT_FOR(a->node->state == FSM_P_FROZEN);
    check_owner(&f, "beta");
    start(b, "auto");
    runs_on(&f, before, stop);
    tear_down(&f);
}

/* It is given back before anybody has heard it: started again, this node must know. */
static void test_dies_giving(void)
{
    Fixture f;
    guint64 stop = take_until_cont(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    const Vm *before = a->vm;
    set_storage(b, FALSE);
    node_event(b->node, FSM_HAND_OVER_FAILED);
    g_assert_cmpint(b->node->state, ==, FSM_S_GIVING);
    die(b);
    set_storage(b, TRUE);
    start(b, "auto");
    runs_on(&f, before, stop);
    tear_down(&f);
}

/*
 * The note can't be removed, while the primary waits or when it is lost: it is perhaps the only VM, or
 * is soon. It runs, and that is told.
 */
static void test_note_stays(gconstpointer data)
{
    Fixture f;
    gboolean alone = data != NULL;
    start_held_pair(&f, 0);
    Host *a = &f.host[0], *b = &f.host[1];
    g_autofree char *note = note_of(b);
    WAIT_FOR(claim_noting(b->node->claim) == CLAIM_NOTE_THERE);
    g_assert_cmpint(g_unlink(note), ==, 0);
    g_assert_cmpint(g_mkdir(note, 0700), ==, 0);
    if (alone)
        die(a);
    else
        g_assert_true(go_on(a, NULL, NULL));
    WAIT_FOR(b->node->state == FSM_P_NONE && vm_is_running(b->vm));
    g_assert_nonnull(strstr(trouble_last(b->node->trouble)->message, "can't be noted"));
    g_rmdir(note);
    tear_down(&f);
}

/*
 * The secondary ends before it has asked, or (data) its VM dies. It says so: nobody else could, for
 * without an arbiter the primary must not guess.
 */
static void test_ends_unasked(gconstpointer data)
{
    Fixture f;
    start_pair(&f, "none");
    Host *a = &f.host[0], *b = &f.host[1];
    a->config->downtime_limit_ms = 0;
    fake_vm_inject(b->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    begin(a, FALSE);
    WAIT_FOR(b->node->state == FSM_S_HANDED && fake_vm_is_held(b->vm));
    guint64 stop = fake_vm_steps(a->vm);
    if (data)
        fake_vm_die(b->vm);
    else
        node_leave(b->node);
    WAIT_FOR(a->node->state == FSM_P_NONE && fake_vm_steps(a->vm) > stop);
    WAIT_FOR(b->ended);
    g_assert_nonnull(strstr(switchover_error(a->node->switchover), "the secondary ends"));
    die(b);
    start(b, "secondary");
    protect(&f, 0);
    tear_down(&f);
}

/* Without an arbiter it goes on, too; and the primary waits for somebody who knows that it is dead. */
static void test_cut_without_arbiter(void)
{
    Fixture f;
    start_pair(&f, "none");
    Host *a = &f.host[0], *b = &f.host[1];
    fake_vm_inject(b->vm, FAKE_VM_LOAD, FAKE_VM_HOLD, 1);
    a->config->downtime_limit_ms = 0;
    begin(a, FALSE);
    WAIT_FOR(b->node->state == FSM_S_TAKING && fake_vm_is_held(b->vm));
    cut(&f);
    WAIT_FOR(b->node->state == FSM_S_DEVICE && a->node->state == FSM_P_PAUSED);
    g_assert_true(claim_was_handed(a->node->claim));
    g_assert_false(vm_is_running(a->vm));
    fake_vm_proceed(b->vm);
    WAIT_FOR(b->node->state == FSM_P_NONE && vm_is_running(b->vm));
    g_assert_cmpint(a->node->state, ==, FSM_P_PAUSED);
    /* It has served clients, dies, and is started again with nothing: that shows nothing. */
    guint64 stood_at = fake_vm_steps(a->vm);
    die(b);
    start(b, "secondary");
    WAIT_FOR(a->node->state == FSM_P_RECOVER && claim_doing(a->node->claim) == CLAIM_MANUAL);
    g_assert_false(vm_is_running(a->vm));
    g_autoptr(ControlPeer) peer = control_peer_greeted(a->config->control_socket);
    g_autofree char *refusal =
        control_peer_ask(a->config->control_socket, "{\"execute\":\"failover\",\"id\":1}");
    g_assert_nonnull(strstr(refusal, "may run there"));
    g_assert_cmpuint(fake_vm_steps(a->vm), ==, stood_at);
    control_peer_expect(peer,
                        "{\"execute\":\"failover\",\"arguments\":{\"force\":true},\"id\":2}\n",
                        "{\"return\":{},\"id\":2}");
    protect(&f, 0);
    g_assert_true(vm_is_running(a->vm));
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", g_getenv("LOUD") ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR);
    add_pair_data_test("/node-give-back/load-fails", NULL, test_load);
    add_pair_data_test("/node-give-back/load-dies", "dies", test_load);
    add_pair_data_test("/node-give-back/cont-refused", NULL, test_cont);
    add_pair_data_test("/node-give-back/cont-refused-disks", "disks", test_cont);
    add_pair_test("/node-give-back/cont-in-time", test_cont_in_time);
    add_pair_data_test("/node-give-back/disks-refuse", NULL, test_disks);
    add_pair_data_test("/node-give-back/disks-hang", "hang", test_disks);
    add_pair_test("/node-give-back/ends", test_ends);
    add_pair_data_test("/node-give-back/primary-ends", NULL, test_primary_ends);
    add_pair_data_test("/node-give-back/primary-ends-given-back", "back", test_primary_ends);
    add_pair_data_test("/node-give-back/arbiter-away", NULL, test_arbiter_away);
    add_pair_data_test("/node-give-back/arbiter-away-cut", "cut", test_arbiter_away);
    add_pair_data_test("/node-give-back/arbiter-hangs", NULL, test_arbiter_hangs);
    add_pair_data_test("/node-give-back/arbiter-hangs-cut", "cut", test_arbiter_hangs);
    add_pair_test("/node-give-back/cut", test_cut);
    add_pair_data_test("/node-give-back/dies", "auto", test_dies);
    add_pair_data_test("/node-give-back/dies-primary", "primary", test_dies);
    add_pair_data_test("/node-give-back/dies-secondary", "secondary", test_dies);
    add_pair_data_test("/node-give-back/dies-diskless", "auto", test_dies_diskless);
    add_pair_data_test("/node-give-back/dies-diskless-primary", "primary", test_dies_diskless);
    add_pair_data_test("/node-give-back/dies-diskless-secondary", "secondary", test_dies_diskless);
    add_pair_test("/node-give-back/dies-heard", test_dies_heard);
    add_pair_data_test("/node-give-back/dies-in-cont", NULL, test_dies_in_cont);
    add_pair_data_test("/node-give-back/dies-in-cont-cut", "cut", test_dies_in_cont);
    add_pair_test("/node-give-back/dies-giving", test_dies_giving);
    add_pair_data_test("/node-give-back/note-stays", NULL, test_note_stays);
    add_pair_data_test("/node-give-back/note-stays-alone", "alone", test_note_stays);
    add_pair_test("/node-give-back/overruled", test_overruled);
    add_pair_data_test("/node-give-back/ends-unasked", NULL, test_ends_unasked);
    add_pair_data_test("/node-give-back/vm-lost-unasked", "dies", test_ends_unasked);
    add_pair_test("/node-give-back/cut-without-arbiter", test_cut_without_arbiter);
    return g_test_run();
}
