/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What comes before the pause of a planned switchover: pages that are sent ahead until little is
 * left, and whatever ends it, or makes it wait again, as long as the VM runs.
 */
#include "common/log.h"
#include "tests/support/bridge-pair.h"
#include "tests/support/hold.h"
#include "tests/support/proxy.h"
#include "tests/support/switchover-pair.h"
#include "tests/support/uplink-hosts.h"

#include <string.h>

static gboolean has_network; /* its own */

static gboolean has_stood(const Host *host)
{
    json_object *all = switchover_describe(host->node->switchover), *value = NULL;
    g_assert_true(json_object_object_get_ex(all, "downtime-ms", &value));
    gboolean stood = value != NULL;
    json_object_put(all);
    return stood;
}

/* No checkpoint comes by the schedule. */
static void wait_for_orders(const Host *host)
{
    host->config->checkpoint_period_ms = host->config->min_gap_ms = 3600 * 1000;
    WAIT_FOR(primary_phase(host->node->primary) == CYCLE_IDLE);
}

/* ---- Sent ahead ---- */

/* By what was measured, what is left takes long: a checkpoint is taken for it, and then no more. */
static void test_ahead(void)
{
    Fixture f;
    start_stepping(&f, "20s");
    Host *a = &f.host[0], *b = &f.host[1];
    wait_for_orders(a);
    a->config->downtime_limit_ms = 100;
    WAIT_FOR(primary_dirty_pages(a->node->primary) > 50);
    for (int i = 0; i < 20; i++)
        figures_add_received(a->node->figures, 4096, 4096, G_USEC_PER_SEC / 10);
    begin(a, FALSE);
    WAIT_FOR(!switchover_is_under_way(phase_of(a)));
    g_assert_cmpstr(switchover_error(a->node->switchover), ==, NULL);
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_COMPLETED);
    protect(&f, 1);
    g_assert_cmpuint(figures_takeovers(b->node->figures), ==, 1);
    tear_down(&f);
}

static Proxy *start_behind_proxy(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    set_up_stepping(f, "3s");
    Config *config = f->host[1].config;
    Proxy *proxy = proxy_new("127.0.0.1:0", config->peer, &error);
    g_assert_no_error(error);
    g_free(config->peer);
    config->peer = g_strdup_printf("127.0.0.1:%u", proxy_port(proxy));
    run_stepping(f);
    f->host[0].config->downtime_limit_ms = 100;
    return proxy;
}

/* In vain: the VM is never paused for it. And it is if it may. */
static void expect_too_slow(const Host *a)
{
    begin(a, FALSE);
    WAIT_FOR(!switchover_is_under_way(phase_of(a)));
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_FAILED);
    g_assert_nonnull(strstr(switchover_error(a->node->switchover), "not ready in 3000 ms"));
    g_assert_true(a->node->state == FSM_P_COLO && !has_stood(a));
    a->config->downtime_limit_ms = 0;
    a->config->switchover_timeout_ms = 60000;
    begin(a, FALSE);
    WAIT_FOR(phase_of(a) == SWITCHOVER_COMPLETED && has_stood(a));
}

/* Each checkpoint is longer on its way than the VM may stand, though little is left just after it. */
static void test_too_slow(void)
{
    Fixture f;
    g_autoptr(Proxy) proxy = start_behind_proxy(&f);
    Host *a = &f.host[0];
    proxy_do(proxy, "delay checkpoint 300");
    WAIT_FOR(primary_phase(a->node->primary) == CYCLE_SENT);
    expect_too_slow(a);
    tear_down(&f);
}

/* What the guest writes in an epoch. And what passes in a second is less, however well it is packed. */
#define EPOCH_PAGES 512
#define LINK_RATE   (256 * 1024)

typedef struct {
    GSource source;
    const Host *host;
    guint64 epoch;
} Writer;

static gboolean on_turn(GSource *source, gint *ret_timeout)
{
    Writer *writer = (Writer *)source;
    const Host *host = writer->host;
    *ret_timeout = -1;
    if (vm_is_running(host->vm) && host->node->epoch != writer->epoch) {
        writer->epoch = host->node->epoch;
        fake_vm_step(host->vm, EPOCH_PAGES);
    }
    return FALSE;
}

/* However fast the machine is: as soon as the VM runs in a new epoch, its guest has written so much. */
static GSource *write_in_each_epoch(const Host *host)
{
    static GSourceFuncs functions = {.prepare = on_turn};
    GSource *source = g_source_new(&functions, sizeof(Writer));
    ((Writer *)source)->host = host;
    g_source_set_priority(source, G_PRIORITY_HIGH);
    g_source_attach(source, NULL);
    return source;
}

/* The guest writes faster than the link takes it. */
static void test_too_fast(void)
{
    Fixture f;
    g_autoptr(Proxy) proxy = start_behind_proxy(&f);
    Host *a = &f.host[0];
    fake_vm_autorun(a->vm, 0, 0);
    g_autoptr(GSource) writer = write_in_each_epoch(a);
    proxy_do(proxy, "rate checkpoint %d", LINK_RATE);
    WAIT_FOR(switching_expected_us(a->node) > G_USEC_PER_SEC / 5 &&
             primary_phase(a->node->primary) == CYCLE_SENT);
    expect_too_slow(a);
    g_source_destroy(writer);
    tear_down(&f);
}

/* ---- The secondary approves in all its parts ---- */

static gboolean waits_for(const Host *host, const char *part)
{
    json_object *all = switchover_describe(host->node->switchover), *pending = NULL;
    g_assert_true(json_object_object_get_ex(all, "ack-pending", &pending));
    gboolean found = FALSE;
    for (gsize i = 0; i < json_object_array_length(pending); i++) {
        json_object *name = json_object_array_get_idx(pending, i);
        found |= !strcmp(json_object_get_string(name), part);
    }
    json_object_put(all);
    return found;
}

/* Both name it, and the guest runs on. */
static void expect_waiting(const Fixture *f, const char *part)
{
    const Host *a = &f->host[0], *b = &f->host[1];
    WAIT_FOR(phase_of(a) == SWITCHOVER_SETUP && waits_for(a, part) && waits_for(b, part));
    guint64 before = fake_vm_steps(a->vm);
    WAIT_FOR(fake_vm_steps(a->vm) > before + 20);
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_SETUP);
    g_assert_true(a->node->state == FSM_P_COLO && !has_stood(a));
}

static void expect_done(const Fixture *f)
{
    WAIT_FOR(phase_of(&f->host[0]) == SWITCHOVER_COMPLETED &&
             phase_of(&f->host[1]) == SWITCHOVER_COMPLETED);
}

/* Its VM is to be loaded, and QEMU takes its time. */
static void test_checkpoint(void)
{
    Fixture f;
    start_stepping(&f, "60s");
    Host *a = &f.host[0], *b = &f.host[1];
    fake_vm_inject(b->vm, FAKE_VM_LOAD, FAKE_VM_HOLD, 1);
    WAIT_FOR(fake_vm_is_held(b->vm));
    begin(a, FALSE);
    expect_waiting(&f, "checkpoint");
    fake_vm_proceed(b->vm);
    expect_done(&f);
    tear_down(&f);
}

/* Its storage hangs as the last checkpoint is applied. */
static void test_disks(void)
{
    Fixture f;
    set_up(&f, "file");
    set_up_disks(&f, 2, VM_DISK_QCOW2);
    for (int i = 0; i < 2; i++) {
        host_set(&f.host[i], "switchover", "downtime-limit", "10s");
        host_set(&f.host[i], "switchover", "switchover-timeout", "60s");
    }
    start(&f.host[0], "primary");
    start(&f.host[1], "secondary");
    protect(&f, 0);
    Host *a = &f.host[0], *b = &f.host[1];
    static const guint8 record[4096] = {7};
    fake_vm_autorun(a->vm, 1, 1);
    fake_disks_hang(b->disks, "vda.img", TRUE);
    g_assert_cmpint(disk_write(fake_disks_find(a->disks, "vda"), record, sizeof(record), 0, FALSE),
                    ==, 0);
    ask_for_checkpoint(&f);
    WAIT_FOR(disks_are_applying(b->node->disks) && fake_disks_is_hanging(b->disks));
    begin(a, FALSE);
    expect_waiting(&f, "disks");
    fake_disks_hang(b->disks, "", FALSE);
    expect_done(&f);
    tear_down(&f);
}

/* Its tap is in no bridge: clients would not reach the VM there. */
static void test_uplink(void)
{
    Fixture f;
    if (!has_network) {
        g_test_skip("needs a network namespace of its own");
        return;
    }
    bridge_add();
    set_up_stepping(&f, "60s");
    add_bridged_tap(&f, "52:54:00:00:00:01");
    run_stepping(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    command_run("ip link set tap1 nomaster");
    WAIT_FOR(!uplinks_is_in_place(b->node->uplinks, 0, "tap1"));
    begin(a, FALSE);
    expect_waiting(&f, "uplink");
    command_run("ip link set tap1 master br0");
    expect_done(&f);
    tear_down(&f);
    bridge_remove();
}

/* ---- The arbiter ---- */

static Hold storage; /* the secondary's */

/* They look once at the start, and no more by themselves. */
static void start_unwatched(Fixture *f)
{
    set_up_stepping(f, NULL);
    for (int i = 0; i < 2; i++)
        f->host[i].config->arbiter_check_ms = 3600 * 1000;
    run_stepping(f);
    wait_for_orders(&f->host[0]);
}

/* It could be read when it was looked at last: that is no approval. */
static void test_arbiter_hangs(void)
{
    Fixture f;
    start_unwatched(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    hold_attach(&storage, claim_arbiter(b->node->claim));
    hold(&storage, HOLD_BEFORE);
    begin(a, FALSE);
    expect_waiting(&f, "arbiter");
    g_assert_null(claim_trouble(b->node->claim));
    hold_end(&storage);
    expect_done(&f);
    hold_detach(&storage);
    tear_down(&f);
}

/* The same for one that is away; and it is looked at as long as the VM runs. */
static void test_arbiter_goes(void)
{
    Fixture f;
    start_unwatched(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    set_storage(b, FALSE);
    begin(a, FALSE);
    expect_waiting(&f, "arbiter");
    /* A pause is too long in any case. */
    a->config->downtime_limit_ms = 1;
    for (int i = 0; i < 50; i++)
        figures_add_applied(a->node->figures, 5000);
    set_storage(b, TRUE);
    WAIT_FOR(phase_of(a) == SWITCHOVER_ACTIVE);
    set_storage(b, FALSE);
    expect_waiting(&f, "arbiter");
    a->config->downtime_limit_ms = 10000;
    set_storage(b, TRUE);
    expect_done(&f);
    tear_down(&f);
}

/* ---- Until the VM stands ---- */

/* Its QEMU has been told to pause it for the last checkpoint, and has not answered yet. */
static void start_stopping(Fixture *f)
{
    start_stepping(f, "20s");
    Host *a = &f->host[0];
    wait_for_orders(a);
    fake_vm_inject(a->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    begin(a, FALSE);
    WAIT_FOR(fake_vm_is_held(a->vm));
    g_assert_cmpint(a->node->state, ==, FSM_P_COLO);
}

/* The secondary's approval: without a wish to hold the VM, too. */
static void test_withdrawn(void)
{
    Fixture f;
    start_stopping(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    set_storage(b, FALSE);
    WAIT_FOR(phase_of(a) == SWITCHOVER_SETUP && phase_of(b) == SWITCHOVER_SETUP);
    guint64 stood_at = fake_vm_steps(a->vm);
    fake_vm_proceed(a->vm);
    WAIT_FOR(vm_is_running(a->vm) && fake_vm_steps(a->vm) > stood_at);
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_SETUP);
    g_assert_false(has_stood(a));
    set_storage(b, TRUE);
    WAIT_FOR(phase_of(a) == SWITCHOVER_COMPLETED && phase_of(b) == SWITCHOVER_COMPLETED);
    tear_down(&f);
}

typedef enum { IN_SETUP, IN_ACTIVE, ABOUT_TO_STAND, MOMENTS } Moment;

static void start_until(Fixture *f, Moment at)
{
    start_stepping(f, "20s");
    Host *a = &f->host[0], *b = &f->host[1];
    wait_for_orders(a);
    if (at == IN_SETUP) {
        set_storage(b, FALSE);
        WAIT_FOR(claim_trouble(b->node->claim) != NULL);
    } else if (at == IN_ACTIVE) {
        /* A pause is too long in any case. */
        a->config->downtime_limit_ms = 1;
        for (int i = 0; i < 50; i++)
            figures_add_applied(a->node->figures, 5000);
    } else {
        fake_vm_inject(a->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    }
    begin(a, FALSE);
    if (at == ABOUT_TO_STAND)
        WAIT_FOR(fake_vm_is_held(a->vm));
    else
        WAIT_FOR(phase_of(a) == (at == IN_SETUP ? SWITCHOVER_SETUP : SWITCHOVER_ACTIVE));
}

static void test_guest(gconstpointer data)
{
    VmEvent event = GPOINTER_TO_INT(data);
    for (Moment at = 0; at < MOMENTS; at++) {
        Fixture f;
        start_until(&f, at);
        Host *a = &f.host[0], *b = &f.host[1];
        fake_vm_raise(a->vm, event, event == VM_EVENT_STOPPED ? "io-error" : NULL);
        WAIT_FOR(!switchover_is_under_way(phase_of(a)));
        g_assert_cmpint(phase_of(a), ==, SWITCHOVER_FAILED);
        g_assert_nonnull(strstr(switchover_error(a->node->switchover), "guest"));
        g_assert_false(has_stood(a));
        if (fake_vm_is_held(a->vm))
            fake_vm_proceed(a->vm);
        WAIT_FOR(a->node->state == FSM_P_COLO && phase_of(b) == SWITCHOVER_FAILED);
        g_assert_cmpuint(figures_takeovers(b->node->figures), ==, 0);
        tear_down(&f);
    }
}

/* It ends with its guest, and nobody takes it over. */
static void test_powers_off(void)
{
    for (Moment at = 0; at < MOMENTS; at++) {
        Fixture f;
        start_until(&f, at);
        Host *a = &f.host[0], *b = &f.host[1];
        fake_vm_raise(a->vm, VM_EVENT_SHUTDOWN, NULL);
        WAIT_FOR(!switchover_is_under_way(phase_of(a)));
        g_assert_cmpint(phase_of(a), ==, SWITCHOVER_FAILED);
        g_assert_nonnull(strstr(switchover_error(a->node->switchover), "powered off"));
        g_assert_false(has_stood(a));
        if (fake_vm_is_held(a->vm))
            fake_vm_proceed(a->vm);
        WAIT_FOR(a->ended && phase_of(b) == SWITCHOVER_FAILED);
        g_assert_no_error(a->error);
        g_assert_cmpuint(figures_takeovers(b->node->figures), ==, 0);
        tear_down(&f);
    }
}

/*
 * Without the option it goes on all the same. A guest that QEMU has stopped runs there: its last
 * checkpoint doesn't say that it was.
 */
static void test_goes_on(gconstpointer data)
{
    VmEvent event = GPOINTER_TO_INT(data);
    for (Moment at = 0; at < MOMENTS; at++) {
        Fixture f;
        start_until(&f, at);
        Host *a = &f.host[0], *b = &f.host[1];
        a->config->abort_on_error = FALSE;
        fake_vm_raise(a->vm, event, event == VM_EVENT_STOPPED ? "io-error" : NULL);
        g_assert_true(switchover_is_under_way(phase_of(a)));
        a->config->downtime_limit_ms = 10000;
        set_storage(b, TRUE);
        if (fake_vm_is_held(a->vm))
            fake_vm_proceed(a->vm);
        expect_done(&f);
        g_assert_null(switchover_error(a->node->switchover));
        WAIT_FOR(vm_is_running(b->vm));
        tear_down(&f);
    }
}

int main(int argc, char **argv)
{
    has_network = !uplink_hosts_missing(); /* before there are threads */
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    if (has_network)
        command_run("ip link set lo up");
    add_pair_test("/node-switchover-ready/ahead", test_ahead);
    add_pair_test_in("buffered", "/node-switchover-ready/too-slow", test_too_slow);
    add_pair_test("/node-switchover-ready/too-fast", test_too_fast);
    add_pair_test_in("colo", "/node-switchover-ready/checkpoint", test_checkpoint);
    add_pair_test("/node-switchover-ready/disks", test_disks);
    add_pair_test("/node-switchover-ready/uplink", test_uplink);
    add_pair_test("/node-switchover-ready/arbiter/hangs", test_arbiter_hangs);
    add_pair_test("/node-switchover-ready/arbiter/goes", test_arbiter_goes);
    add_pair_test("/node-switchover-ready/withdrawn", test_withdrawn);
    add_pair_data_test("/node-switchover-ready/guest/panicks", GINT_TO_POINTER(VM_EVENT_PANICKED),
                       test_guest);
    add_pair_data_test("/node-switchover-ready/guest/reboots", GINT_TO_POINTER(VM_EVENT_RESET),
                       test_guest);
    add_pair_data_test("/node-switchover-ready/guest/stops", GINT_TO_POINTER(VM_EVENT_STOPPED),
                       test_guest);
    add_pair_test("/node-switchover-ready/guest/powers-off", test_powers_off);
    add_pair_data_test("/node-switchover-ready/guest/panicks-and-goes-on",
                       GINT_TO_POINTER(VM_EVENT_PANICKED), test_goes_on);
    add_pair_data_test("/node-switchover-ready/guest/reboots-and-goes-on",
                       GINT_TO_POINTER(VM_EVENT_RESET), test_goes_on);
    add_pair_data_test("/node-switchover-ready/guest/stops-and-goes-on",
                       GINT_TO_POINTER(VM_EVENT_STOPPED), test_goes_on);
    return g_test_run();
}
