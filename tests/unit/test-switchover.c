/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A switchover alone, on either side: a handler that writes down what it is asked for, a node that
 * moves as fsm.h has it, and a clock that the tests turn.
 */
#include "colo/node/switchover.h"

#include "colo/control/control.h"
#include "common/log.h"
#include "tests/support/turned-clock.h"

#include <string.h>

typedef struct {
    Switchover *switchover;
    Config config;
    SwitchoverWorld world;
    GString *reported;
    guint watches; /* so often it was told to */
    gboolean is_watched;
} Fixture;

G_GNUC_PRINTF(2, 3) static void report(Fixture *f, const char *format, ...)
{
    va_list arguments;
    if (f->reported->len > 0)
        g_string_append_c(f->reported, ' ');
    va_start(arguments, format);
    g_string_append_vprintf(f->reported, format, arguments);
    va_end(arguments);
}

#define assert_reported(f, what)                                                                   \
    do {                                                                                           \
        g_assert_cmpstr((f)->reported->str, ==, what);                                             \
        g_string_truncate((f)->reported, 0);                                                       \
    } while (0)

static SwitchoverWorld on_look(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->world;
}

static void on_send(const Message *message, gpointer user_data)
{
    const char *name = message_info(message->type)->name + strlen("switchover_");
    const MessageSwitchover *content = &message->switchover;
    report(user_data, "%s:%u", name, content->id);
    if (message->type == LINK_MSG_SWITCHOVER_PHASE)
        g_string_append_printf(((Fixture *)user_data)->reported, ":%u", content->flags);
    else if (*content->text)
        g_string_append_printf(((Fixture *)user_data)->reported, ":%s", content->text);
}

static void on_watch(gboolean begins, gpointer user_data)
{
    Fixture *f = user_data;
    f->watches += begins;
    f->is_watched = begins;
}

static void on_ahead(gpointer user_data)
{
    report(user_data, "ahead");
}

static void on_plan(gpointer user_data)
{
    report(user_data, "plan");
}

static void on_unplan(gpointer user_data)
{
    report(user_data, "unplan");
}

static void on_event(FsmEvent event, gpointer user_data)
{
    Fixture *f = user_data;
    FsmStep step = fsm_step(f->world.state, event);
    g_assert_cmpint(step.verdict, !=, FSM_BUG);
    report(f, "event:%s", fsm_event_name(event));
    if (step.verdict == FSM_IGNORE)
        return;
    f->world.state = step.next;
    switchover_moved(f->switchover, step.next, event);
}

static void on_changed(gpointer user_data)
{
    const Fixture *f = user_data;
    report(user_data, "[%s]", switchover_phase_name(switchover_phase(f->switchover)));
}

/* By something else: the link, the secondary, an administrator's other command. */
static void move(Fixture *f, FsmEvent event)
{
    on_event(event, f);
    g_string_truncate(f->reported, 0);
}

static void receive(const Fixture *f, LinkMessage type, guint32 id, guint32 flags, const char *text)
{
    MessageSwitchover content = {.id = id, .flags = flags, .text = text};
    switchover_received(f->switchover, &(Message){.type = type, .switchover = content});
}

static void set_up(Fixture *f, gconstpointer data)
{
    static const SwitchoverHandler handler = {.look = on_look,
                                              .send = on_send,
                                              .watch = on_watch,
                                              .ahead = on_ahead,
                                              .plan = on_plan,
                                              .unplan = on_unplan,
                                              .event = on_event,
                                              .changed = on_changed};
    FsmState state = GPOINTER_TO_INT(data);
    f->config.switchover_timeout_ms = 30000;
    f->config.downtime_limit_ms = 100;
    f->config.abort_on_error = TRUE;
    f->world = (SwitchoverWorld){.state = state, .vm_runs = TRUE, .copy_is_fit = TRUE};
    f->world.load = (SwitchoverLoad){
        .left_bytes = 1000000, .bytes_per_s = 100000000, .pause_us = 3000, .apply_us = 2000};
    f->reported = g_string_new(NULL);
    f->switchover = switchover_new(&f->config, &handler, f);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    switchover_free(f->switchover);
    g_string_free(f->reported, TRUE);
}

static guint32 begin(const Fixture *f, gboolean pause)
{
    guint32 id = 0;
    g_assert_true(switchover_begin(f->switchover, pause, &id, NULL));
    return id;
}

static json_object *figure(const Fixture *f, const char *name, json_object **ret_all)
{
    json_object *value = NULL;
    *ret_all = switchover_describe(f->switchover);
    g_assert_true(json_object_object_get_ex(*ret_all, name, &value));
    return value;
}

static void assert_figure(const Fixture *f, const char *name, double expected)
{
    json_object *all, *value = figure(f, name, &all);
    if (expected < 0)
        g_assert_null(value);
    else
        g_assert_cmpfloat(json_object_get_double(value), ==, expected);
    json_object_put(all);
}

/* ---- The primary ---- */

static void test_goes(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_null(switchover_describe(f->switchover));
    g_assert_cmpuint(begin(f, FALSE), ==, 1);
    assert_reported(f, "[setup] ask:1");
    assert_figure(f, "downtime-ms", -1);
    turned_clock_pass_ms(40);
    receive(f, LINK_MSG_SWITCHOVER_ACK, 1, 0, "disks");
    assert_reported(f, "");
    turned_clock_pass_ms(40);
    receive(f, LINK_MSG_SWITCHOVER_ACK, 1, 0, "");
    assert_reported(f, "[active]");
    assert_figure(f, "setup-ms", 80);
    turned_clock_pass_ms(0);
    assert_reported(f, "plan");
    assert_figure(f, "expected-downtime-ms", 15);
    assert_figure(f, "remaining-bytes", 1000000);
    assert_figure(f, "mbps", 800);
    assert_figure(f, "pages-per-second", 100000000 / 4096.0);
    /* A checkpoint that was under way ends first: its pause is no part of the downtime. */
    switchover_paused(f->switchover, colo_time_now());
    turned_clock_pass_ms(5);
    switchover_runs(f->switchover);
    assert_figure(f, "downtime-ms", -1);
    switchover_paused(f->switchover, colo_time_now());
    switchover_held(f->switchover);
    assert_reported(f, "event:continue [device] phase:1:2");
    turned_clock_pass_ms(7);
    on_event(FSM_COMMITTED, f);
    assert_reported(f, "event:committed [handed]");
    turned_clock_pass_ms(4);
    assert_figure(f, "downtime-ms", 11);
    on_event(FSM_TAKEN, f);
    assert_reported(f, "event:taken [completed]");
    turned_clock_pass_ms(1000);
    assert_figure(f, "downtime-ms", 11);
    assert_figure(f, "total-ms", 96);
    g_assert_null(switchover_error(f->switchover));
}

static void test_waits_until_it_is_small(Fixture *f, gconstpointer data)
{
    (void)data;
    f->world.load.left_bytes = 20000000;
    f->world.is_busy = TRUE;
    begin(f, FALSE);
    receive(f, LINK_MSG_SWITCHOVER_ACK, 1, 0, "");
    turned_clock_pass_ms(500);
    assert_reported(f, "[setup] ask:1 [active]");
    f->world.is_busy = FALSE;
    /* Withdrawn: not even if it is small. */
    receive(f, LINK_MSG_SWITCHOVER_ACK, 1, 0, "vm");
    f->world.load.left_bytes = 0;
    turned_clock_pass_ms(500);
    assert_reported(f, "[setup]");
    receive(f, LINK_MSG_SWITCHOVER_ACK, 1, 0, "");
    f->world.copy_is_fit = FALSE;
    turned_clock_pass_ms(500);
    assert_reported(f, "[active]");
    f->world.copy_is_fit = TRUE;
    turned_clock_pass_ms(20);
    assert_reported(f, "plan");
    switchover_held(f->switchover);
    assert_reported(f, "event:continue [device] phase:1:2");
}

/* Less is left after each checkpoint: they are ordered one by one. */
static void test_goes_ahead(Fixture *f, gconstpointer data)
{
    (void)data;
    f->world.load.left_bytes = 100000000;
    begin(f, FALSE);
    receive(f, LINK_MSG_SWITCHOVER_ACK, 1, 0, "");
    turned_clock_pass_ms(0);
    assert_reported(f, "[setup] ask:1 [active] ahead");
    /* It is under way, and so are its pages: that nothing is left counts after it. */
    f->world.is_busy = TRUE;
    f->world.load.left_bytes = 0;
    switchover_paused(f->switchover, colo_time_now());
    switchover_runs(f->switchover);
    turned_clock_pass_ms(1000);
    assert_reported(f, "");
    /* Nobody has counted what was written meanwhile. */
    f->world.is_busy = FALSE;
    switchover_checkpoint(f->switchover);
    assert_reported(f, "");
    turned_clock_pass_ms(20);
    assert_reported(f, "ahead");
    switchover_paused(f->switchover, colo_time_now());
    switchover_runs(f->switchover);
    turned_clock_pass_ms(1);
    f->world.load.left_bytes = 1000000;
    switchover_checkpoint(f->switchover);
    assert_reported(f, "plan");
    assert_figure(f, "downtime-ms", -1);
}

/*
 * The secondary's VM loads what has just been sent, and the next checkpoint comes at once: nothing is left
 * to be sent all the same. But none is ordered meanwhile.
 */
static void test_goes_under_load(Fixture *f, gconstpointer data)
{
    (void)data;
    f->world.load.left_bytes = 100000000;
    f->world.is_loading = TRUE;
    begin(f, FALSE);
    receive(f, LINK_MSG_SWITCHOVER_ACK, 1, 0, "");
    turned_clock_pass_ms(100);
    assert_reported(f, "[setup] ask:1 [active]");
    f->world.load.left_bytes = 1000000;
    switchover_checkpoint(f->switchover);
    assert_reported(f, "plan");
}

/* However long it takes: nothing is waited for. The last checkpoint is the one after what is under way. */
static void test_goes_without_limit(Fixture *f, gconstpointer data)
{
    (void)data;
    f->config.downtime_limit_ms = 0;
    f->world.load.left_bytes = 100000000;
    f->world.is_busy = f->world.is_loading = TRUE;
    begin(f, FALSE);
    receive(f, LINK_MSG_SWITCHOVER_ACK, 1, 0, "");
    turned_clock_pass_ms(0);
    assert_reported(f, "[setup] ask:1 [active] plan");
}

/* Why the limit has come: it isn't always the guest. */
static void test_why_late(Fixture *f, gconstpointer data)
{
    (void)data;
    static const struct {
        gboolean unfit, busy;
        gint64 pause_us;
        guint64 left;
        const char *why;
    } cases[] = {
        {TRUE,  FALSE, 0,      0,         "has stopped by itself"                     },
        {FALSE, TRUE,  0,      0,         "a checkpoint is under way"                 },
        {FALSE, FALSE, 200000, 0,         "a checkpoint alone takes 202 ms"           },
        {FALSE, FALSE, 0,      100000000, "faster than it is sent: 97656 KiB are left"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        guint32 id = begin(f, FALSE);
        f->world.copy_is_fit = !cases[i].unfit;
        f->world.is_busy = cases[i].busy;
        f->world.load.pause_us = cases[i].pause_us;
        f->world.load.left_bytes = cases[i].left;
        receive(f, LINK_MSG_SWITCHOVER_ACK, id, 0, "");
        turned_clock_pass_ms(31000);
        g_assert_cmpint(switchover_phase(f->switchover), ==, SWITCHOVER_FAILED);
        g_assert_nonnull(strstr(switchover_error(f->switchover), cases[i].why));
        f->world.copy_is_fit = TRUE;
    }
}

/* Its VM stands in a checkpoint that it can't be resumed from: that is the last one. */
static void test_not_resumed(Fixture *f, gconstpointer data)
{
    (void)data;
    f->world.is_busy = f->world.is_refused = TRUE;
    f->world.vm_runs = FALSE;
    begin(f, FALSE);
    receive(f, LINK_MSG_SWITCHOVER_ACK, 1, 0, "");
    turned_clock_pass_ms(0);
    assert_reported(f, "[setup] ask:1 [active] plan event:continue [device] phase:1:2");
}

static void test_too_late(Fixture *f, gconstpointer data)
{
    (void)data;
    f->config.switchover_timeout_ms = 1000;
    begin(f, FALSE);
    turned_clock_pass_ms(900);
    assert_reported(f, "[setup] ask:1");
    turned_clock_pass_ms(300);
    assert_reported(f, "[failed] "
                       "cancel:1:not ready in 1000 ms: the secondary has not answered unplan");
    /* An answer that comes late is to none. */
    receive(f, LINK_MSG_SWITCHOVER_ACK, 1, 0, "");
    turned_clock_pass_ms(5000);
    assert_reported(f, "");
    g_assert_cmpuint(begin(f, FALSE), ==, 2);
    g_assert_null(switchover_error(f->switchover));
    receive(f, LINK_MSG_SWITCHOVER_ACK, 2, 0, "arbiter");
    g_string_truncate(f->reported, 0);
    turned_clock_pass_ms(1200);
    g_assert_nonnull(strstr(switchover_error(f->switchover), "does not approve of: arbiter"));
}

static void hold(Fixture *f)
{
    begin(f, TRUE);
    receive(f, LINK_MSG_SWITCHOVER_ACK, 1, 0, "");
    turned_clock_pass_ms(0);
    assert_reported(f, "[setup] ask:1 [active] plan");
    switchover_paused(f->switchover, colo_time_now());
    switchover_held(f->switchover);
    assert_reported(f, "[pre-switchover] event:hold phase:1:1");
    f->world.vm_runs = FALSE;
}

static void test_held(Fixture *f, gconstpointer data)
{
    (void)data;
    hold(f);
    turned_clock_pass_ms(3600 * 1000);
    assert_reported(f, "");
    g_assert_true(switchover_continue(f->switchover, NULL, NULL));
    assert_reported(f, "event:continue [device] phase:1:2");
    g_assert_false(switchover_continue(f->switchover, NULL, NULL));
}

static void test_held_and_cancelled(Fixture *f, gconstpointer data)
{
    (void)data;
    hold(f);
    switchover_cancel(f->switchover);
    assert_reported(f, "[cancelling] cancel:1 event:cancel");
    switchover_cancel(f->switchover);
    turned_clock_pass_ms(10000);
    assert_reported(f, "");
    switchover_runs(f->switchover);
    assert_reported(f, "[cancelled]");
    switchover_cancel(f->switchover);
    assert_reported(f, "");
}

static void test_stopping_cancelled(Fixture *f, gconstpointer data)
{
    (void)data;
    begin(f, FALSE);
    receive(f, LINK_MSG_SWITCHOVER_ACK, 1, 0, "");
    turned_clock_pass_ms(0);
    g_string_truncate(f->reported, 0);
    switchover_cancel(f->switchover);
    assert_reported(f, "[cancelled] cancel:1 unplan");
}

static void test_device_cancelled(Fixture *f, gconstpointer data)
{
    (void)data;
    begin(f, FALSE);
    receive(f, LINK_MSG_SWITCHOVER_ACK, 1, 0, "");
    turned_clock_pass_ms(0);
    switchover_paused(f->switchover, colo_time_now());
    switchover_held(f->switchover);
    g_string_truncate(f->reported, 0);
    f->world.vm_runs = FALSE;
    switchover_cancel(f->switchover);
    assert_reported(f, "[cancelling] cancel:1 event:cancel");
    switchover_runs(f->switchover);
    assert_reported(f, "[cancelled]");
}

/* The first error stays. */
static void test_refused(Fixture *f, gconstpointer data)
{
    (void)data;
    hold(f);
    g_assert_true(switchover_continue(f->switchover, "pre-switchover", NULL));
    move(f, FSM_COMMITTED);
    switchover_refused(f->switchover, "its copy has stopped");
    on_event(FSM_REFUSED, f);
    assert_reported(f, "event:refused [failed]");
    move(f, FSM_LINK_DOWN);
    g_assert_cmpstr(switchover_error(f->switchover), ==, "its copy has stopped");
}

static void test_parted(Fixture *f, gconstpointer data)
{
    (void)data;
    hold(f);
    on_event(FSM_LINK_DOWN, f);
    g_assert_cmpint(switchover_phase(f->switchover), ==, SWITCHOVER_FAILED);
    g_assert_cmpint(f->world.state, ==, FSM_P_PAUSED);
    g_assert_nonnull(strstr(switchover_error(f->switchover), "link"));
}

static void test_overtaken(Fixture *f, gconstpointer data)
{
    (void)data;
    begin(f, FALSE);
    move(f, FSM_YIELD);
    g_assert_cmpint(switchover_phase(f->switchover), ==, SWITCHOVER_FAILED);
    g_assert_nonnull(strstr(switchover_error(f->switchover), "failover"));
}

/* What it was to be moved by can't be made. What comes next is a failover, and not its end. */
static void test_no_last_checkpoint(Fixture *f, gconstpointer data)
{
    (void)data;
    begin(f, FALSE);
    receive(f, LINK_MSG_SWITCHOVER_ACK, 1, 0, "");
    turned_clock_pass_ms(0);
    g_assert_cmpint(switchover_phase(f->switchover), ==, SWITCHOVER_STOPPING);
    switchover_cannot(f->switchover, "a disk can't be synced");
    g_assert_cmpint(switchover_phase(f->switchover), ==, SWITCHOVER_FAILED);
    move(f, FSM_YIELD);
    g_assert_cmpint(switchover_phase(f->switchover), ==, SWITCHOVER_FAILED);
    g_assert_cmpstr(switchover_error(f->switchover), ==, "a disk can't be synced");
}

static void test_refuses(Fixture *f, gconstpointer data)
{
    (void)data;
    guint32 id;
    for (FsmState state = 0; state < FSM_STATES; state++) {
        g_autoptr(GError) error = NULL;
        f->world.state = state;
        if (state == FSM_P_COLO || state == FSM_S_COLO)
            continue;
        g_assert_false(switchover_begin(f->switchover, FALSE, &id, &error));
        g_assert_error(error, CONTROL_ERROR, CONTROL_ERROR_STATE);
    }
    f->world.state = FSM_P_COLO;
    f->world.ends = TRUE;
    g_assert_false(switchover_begin(f->switchover, FALSE, &id, NULL));
    f->world.ends = FALSE;
    f->world.copy_is_fit = FALSE;
    g_assert_false(switchover_begin(f->switchover, FALSE, &id, NULL));
    g_assert_cmpint(switchover_phase(f->switchover), ==, SWITCHOVER_NONE);
    assert_reported(f, "");
}

/* An approval that is withdrawn before the VM stands counts: it is asked for again. */
static void test_withdrawn(Fixture *f, gconstpointer data)
{
    (void)data;
    f->config.switchover_timeout_ms = 1000;
    begin(f, TRUE);
    receive(f, LINK_MSG_SWITCHOVER_ACK, 1, 0, "");
    turned_clock_pass_ms(0);
    assert_reported(f, "[setup] ask:1 [active] plan");
    switchover_paused(f->switchover, colo_time_now());
    receive(f, LINK_MSG_SWITCHOVER_ACK, 1, 0, "arbiter");
    assert_reported(f, "[setup] unplan");
    switchover_runs(f->switchover);
    assert_figure(f, "downtime-ms", -1);
    receive(f, LINK_MSG_SWITCHOVER_ACK, 1, 0, "");
    turned_clock_pass_ms(0);
    assert_reported(f, "[active] plan");
    /* Too late: its VM can't be paused. */
    turned_clock_pass_ms(1200);
    g_assert_cmpint(switchover_phase(f->switchover), ==, SWITCHOVER_FAILED);
    g_assert_nonnull(strstr(switchover_error(f->switchover), "has not been paused"));
}

/* The disks, say: the first error is the one. */
static void test_given_up(Fixture *f, gconstpointer data)
{
    (void)data;
    hold(f);
    g_assert_true(switchover_continue(f->switchover, NULL, NULL));
    switchover_refused(f->switchover, "a disk can't be given up");
    move(f, FSM_HAND_OVER_FAILED);
    g_assert_cmpint(switchover_phase(f->switchover), ==, SWITCHOVER_FAILED);
    switchover_refused(f->switchover, "it can't be activated either");
    move(f, FSM_LINK_DOWN);
    g_assert_cmpstr(switchover_error(f->switchover), ==, "a disk can't be given up");
}

/* Of a secondary that has started again since: its number is the number. */
static void test_wanted_anew(Fixture *f, gconstpointer data)
{
    (void)data;
    for (guint id = 1; id <= 3; id++) {
        begin(f, FALSE);
        switchover_cancel(f->switchover);
    }
    g_string_truncate(f->reported, 0);
    receive(f, LINK_MSG_SWITCHOVER_WANT, 1, 0, "");
    assert_reported(f, "[setup] ask:1");
    receive(f, LINK_MSG_SWITCHOVER_CANCEL, 1, 0, "");
    assert_reported(f, "[cancelled] cancel:1 unplan");
}

/* Ordered on both nodes at once: it is one, and is held if either wants that. */
static void test_wanted_twice(Fixture *f, gconstpointer data)
{
    (void)data;
    begin(f, FALSE);
    receive(f, LINK_MSG_SWITCHOVER_WANT, 1, 1, "");
    receive(f, LINK_MSG_SWITCHOVER_ACK, 1, 0, "");
    turned_clock_pass_ms(0);
    assert_reported(f, "[setup] ask:1 [active] plan");
    /* Too late for another wish. */
    receive(f, LINK_MSG_SWITCHOVER_WANT, 1, 0, "");
    switchover_held(f->switchover);
    assert_reported(f, "[pre-switchover] event:hold phase:1:1");
}

/* The secondary's order, and one that isn't possible. */
static void test_wanted(Fixture *f, gconstpointer data)
{
    (void)data;
    receive(f, LINK_MSG_SWITCHOVER_WANT, 5, 1, "");
    assert_reported(f, "[setup] ask:5");
    receive(f, LINK_MSG_SWITCHOVER_WANT, 6, 0, "");
    g_assert_true(g_str_has_prefix(f->reported->str, "cancel:6:switchover 5 is under way"));
    g_string_truncate(f->reported, 0);
    /* Of another one: it has crossed. */
    receive(f, LINK_MSG_SWITCHOVER_CANCEL, 4, 0, "");
    assert_reported(f, "");
    receive(f, LINK_MSG_SWITCHOVER_CANCEL, 5, 0, "");
    assert_reported(f, "[cancelled] cancel:5 unplan");
}

/* ---- The secondary ---- */

static void test_approves(Fixture *f, gconstpointer data)
{
    (void)data;
    f->world.pending = SWITCHOVER_PART_UPLINK;
    receive(f, LINK_MSG_SWITCHOVER_ASK, 7, 0, "");
    assert_reported(f, "[setup] ack:7:uplink");
    turned_clock_pass_ms(200);
    assert_reported(f, "");
    f->world.pending = 0;
    turned_clock_pass_ms(20);
    assert_reported(f, "[active] ack:7");
    f->world.pending = SWITCHOVER_PART_ARBITER;
    turned_clock_pass_ms(20);
    assert_reported(f, "[setup] ack:7:arbiter");
    f->world.pending = 0;
    turned_clock_pass_ms(20);
    assert_reported(f, "[active] ack:7");
}

/* With each question the arbiter is looked at anew, until the VM stands or there is an end. */
static void test_watches(Fixture *f, gconstpointer data)
{
    (void)data;
    receive(f, LINK_MSG_SWITCHOVER_ASK, 1, 0, "");
    g_assert_true(f->is_watched);
    receive(f, LINK_MSG_SWITCHOVER_CANCEL, 1, 0, "");
    g_assert_false(f->is_watched);
    receive(f, LINK_MSG_SWITCHOVER_ASK, 2, 0, "");
    g_assert_true(f->is_watched && f->watches == 2);
    receive(f, LINK_MSG_SWITCHOVER_PHASE, 2, 1, "");
    g_assert_false(f->is_watched);
}

/* What each checkpoint takes a moment for counts when it lasts. */
static void test_passing_parts(Fixture *f, gconstpointer data)
{
    (void)data;
    receive(f, LINK_MSG_SWITCHOVER_ASK, 1, 0, "");
    assert_reported(f, "[active] ack:1");
    f->world.pending = SWITCHOVER_PART_CHECKPOINT;
    for (int i = 0; i < 20; i++) {
        f->world.epoch++;
        turned_clock_pass_ms(20);
    }
    assert_reported(f, "");
    turned_clock_pass_ms(200);
    assert_reported(f, "[setup] ack:1:checkpoint");
    /* It is told as it is when the primary asks. */
    f->world.pending = SWITCHOVER_PART_DISKS;
    receive(f, LINK_MSG_SWITCHOVER_ASK, 2, 0, "");
    g_assert_true(g_str_has_suffix(f->reported->str, "ack:2:disks"));
}

static void be_handed(Fixture *f)
{
    receive(f, LINK_MSG_SWITCHOVER_ASK, 1, 0, "");
    receive(f, LINK_MSG_SWITCHOVER_PHASE, 1, 2, "");
    on_event(FSM_HANDED, f);
}

/* Ordered here, and a failover there, which comes first. */
static void test_overtaken_there(Fixture *f, gconstpointer data)
{
    (void)data;
    begin(f, FALSE);
    on_event(FSM_HANDED, f);
    assert_reported(f, "[setup] want:1 event:handed [failed]");
    g_assert_nonnull(strstr(switchover_error(f->switchover), "failover"));
}

static void test_takes(Fixture *f, gconstpointer data)
{
    (void)data;
    be_handed(f);
    turned_clock_pass_ms(6);
    on_event(FSM_VM_FIT, f);
    on_event(FSM_GRANTED, f);
    turned_clock_pass_ms(6);
    on_event(FSM_TAKEN_OVER, f);
    assert_reported(f, "[active] ack:1 [device] event:handed [handed] event:vm-fit event:granted "
                       "event:taken-over [completed]");
    turned_clock_pass_ms(100);
    assert_figure(f, "peer-downtime-ms", 12);
}

static void test_leaves_it(Fixture *f, gconstpointer data)
{
    (void)data;
    be_handed(f);
    g_string_truncate(f->reported, 0);
    receive(f, LINK_MSG_SWITCHOVER_CANCEL, 1, 0, "");
    assert_reported(f, "[cancelling]");
    g_assert_true(switchover_is_cancelled(f->switchover));
    on_event(switchover_fit(TRUE, TRUE), f);
    assert_reported(f, "event:vm-unfit [cancelled]");
    g_assert_false(switchover_is_cancelled(f->switchover));
}

/* It shows what the primary does. */
static void test_is_told(Fixture *f, gconstpointer data)
{
    (void)data;
    receive(f, LINK_MSG_SWITCHOVER_ASK, 1, 0, "");
    assert_reported(f, "[active] ack:1");
    receive(f, LINK_MSG_SWITCHOVER_PHASE, 1, 1, "");
    assert_reported(f, "[pre-switchover]");
    /* The VM stands: nothing is asked for any more. */
    f->world.pending = SWITCHOVER_PART_ARBITER;
    turned_clock_pass_ms(1000);
    assert_reported(f, "");
    g_autoptr(GError) error = NULL;
    g_assert_false(switchover_continue(f->switchover, NULL, &error));
    g_assert_nonnull(strstr(error->message, "on its primary"));
    receive(f, LINK_MSG_SWITCHOVER_PHASE, 2, 2, "");
    receive(f, LINK_MSG_SWITCHOVER_PHASE, 1, 77, "");
    assert_reported(f, "");
    receive(f, LINK_MSG_SWITCHOVER_PHASE, 1, 2, "");
    assert_reported(f, "[device]");
    receive(f, LINK_MSG_SWITCHOVER_PHASE, 1, 1, "");
    assert_reported(f, "");
    receive(f, LINK_MSG_SWITCHOVER_CANCEL, 1, 0, "");
    assert_reported(f, "[cancelled]");
    receive(f, LINK_MSG_SWITCHOVER_PHASE, 1, 2, "");
    assert_reported(f, "");
}

/* The primary has begun one by itself at the same time. */
static void test_orders_crossed(Fixture *f, gconstpointer data)
{
    (void)data;
    begin(f, FALSE);
    assert_reported(f, "[setup] want:1");
    receive(f, LINK_MSG_SWITCHOVER_ASK, 6, 0, "");
    assert_reported(f, "[failed] [active] ack:6");
    g_assert_null(switchover_error(f->switchover));
    receive(f, LINK_MSG_SWITCHOVER_CANCEL, 1, 0, "switchover 6 is under way");
    assert_reported(f, "");
}

static void test_says_why(Fixture *f, gconstpointer event)
{
    be_handed(f);
    g_string_truncate(f->reported, 0);
    if (GPOINTER_TO_INT(event) == FSM_UNDECIDED)
        move(f, FSM_VM_FIT);
    move(f, GPOINTER_TO_INT(event));
    g_assert_cmpint(switchover_phase(f->switchover), ==, SWITCHOVER_FAILED);
    g_assert_cmpstr(switchover_error(f->switchover), ==,
                    switchover_refusal(GPOINTER_TO_INT(event)));
}

static void test_unfit(Fixture *f, gconstpointer data)
{
    (void)data;
    test_says_why(f, GINT_TO_POINTER(FSM_VM_UNFIT));
}

static void test_undecided(Fixture *f, gconstpointer data)
{
    (void)data;
    test_says_why(f, GINT_TO_POINTER(FSM_UNDECIDED));
}

static void test_orders(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpuint(begin(f, TRUE), ==, 1);
    assert_reported(f, "[setup] want:1");
    switchover_cancel(f->switchover);
    assert_reported(f, "cancel:1");
    receive(f, LINK_MSG_SWITCHOVER_CANCEL, 1, 0, "it is not possible");
    assert_reported(f, "[failed]");
    g_assert_cmpstr(switchover_error(f->switchover), ==, "it is not possible");
    g_assert_cmpuint(begin(f, FALSE), ==, 2);
    assert_reported(f, "[setup] want:2");
    receive(f, LINK_MSG_SWITCHOVER_ASK, 2, 0, "");
    assert_reported(f, "[active] ack:2");
    move(f, FSM_LINK_DOWN);
    g_assert_cmpint(switchover_phase(f->switchover), ==, SWITCHOVER_FAILED);
}

#define ADD(name, state, test)                                                                     \
    g_test_add("/switchover/" name, Fixture, GINT_TO_POINTER(state), set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    turned_clock_us = 1000 * (gint64)G_USEC_PER_SEC;
    ADD("goes", FSM_P_COLO, test_goes);
    ADD("waits-until-it-is-small", FSM_P_COLO, test_waits_until_it_is_small);
    ADD("goes-ahead", FSM_P_COLO, test_goes_ahead);
    ADD("goes-under-load", FSM_P_COLO, test_goes_under_load);
    ADD("goes-without-limit", FSM_P_COLO, test_goes_without_limit);
    ADD("why-late", FSM_P_COLO, test_why_late);
    ADD("not-resumed", FSM_P_COLO, test_not_resumed);
    ADD("too-late", FSM_P_COLO, test_too_late);
    ADD("held", FSM_P_COLO, test_held);
    ADD("held-and-cancelled", FSM_P_COLO, test_held_and_cancelled);
    ADD("stopping-cancelled", FSM_P_COLO, test_stopping_cancelled);
    ADD("device-cancelled", FSM_P_COLO, test_device_cancelled);
    ADD("refused", FSM_P_COLO, test_refused);
    ADD("parted", FSM_P_COLO, test_parted);
    ADD("overtaken", FSM_P_COLO, test_overtaken);
    ADD("no-last-checkpoint", FSM_P_COLO, test_no_last_checkpoint);
    ADD("refuses", FSM_P_COLO, test_refuses);
    ADD("wanted", FSM_P_COLO, test_wanted);
    ADD("approves", FSM_S_COLO, test_approves);
    ADD("watches", FSM_S_COLO, test_watches);
    ADD("passing-parts", FSM_S_COLO, test_passing_parts);
    ADD("takes", FSM_S_COLO, test_takes);
    ADD("leaves-it", FSM_S_COLO, test_leaves_it);
    ADD("orders", FSM_S_COLO, test_orders);
    ADD("orders-crossed", FSM_S_COLO, test_orders_crossed);
    ADD("is-told", FSM_S_COLO, test_is_told);
    ADD("overtaken-there", FSM_S_COLO, test_overtaken_there);
    ADD("unfit", FSM_S_COLO, test_unfit);
    ADD("undecided", FSM_S_COLO, test_undecided);
    ADD("withdrawn", FSM_P_COLO, test_withdrawn);
    ADD("given-up", FSM_P_COLO, test_given_up);
    ADD("wanted-anew", FSM_P_COLO, test_wanted_anew);
    ADD("wanted-twice", FSM_P_COLO, test_wanted_twice);
    return g_test_run();
}
