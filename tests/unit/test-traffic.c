/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the guest's frames go, and in which order; and its clients'. */
#include "common/log.h"
#include "tests/support/traffic-fixture.h"

/* ---- Output ---- */

static void test_output(Fixture *f, gconstpointer data)
{
    static const char *const expected[ROUTES] = {
        [ROUTE_DROP] = "",
        [ROUTE_TO_PEER] = "peer:a peer:b",
        [ROUTE_HOLD] = "held",
        [ROUTE_COMPARE] = "compare:a compare:b",
        [ROUTE_OPEN] = "send:a send:b",
    };
    (void)data;
    for (Route route = 0; route < ROUTES; route++) {
        set_up(f, NULL);
        go(f, route);
        guest_sends(f, "ab");
        expect(f, expected[route]);
        g_assert_cmpuint(traffic_stats(f->traffic).held.frames, ==, route == ROUTE_HOLD ? 2 : 0);
        g_assert_cmpint(traffic_awaits_checkpoint(f->traffic), ==, route == ROUTE_HOLD);
        tear_down(f, NULL);
    }
}

/* RECEIVED of a checkpoint releases what came before its pause, and no more. */
static void test_epochs(Fixture *f, gconstpointer data)
{
    (void)data;
    go(f, ROUTE_HOLD);
    guest_sends(f, "ab");
    f->world.epoch = EPOCH + 1;
    guest_sends(f, "c");
    expect(f, "held");
    expect_held(f, EPOCH + 1, "ab");
    traffic_release_before(f->traffic, EPOCH);
    expect(f, "");
    traffic_release_before(f->traffic, EPOCH + 1);
    expect(f, "send:a send:b");
    traffic_release_before(f->traffic, EPOCH + 2);
    expect(f, "send:c");
    /* The next one waits alone. */
    guest_sends(f, "d");
    expect(f, "held");
}

/* The link, the comparator, the gate: as the guest has sent it. */
static void test_order_at_open(Fixture *f, gconstpointer data)
{
    (void)data;
    go(f, ROUTE_HOLD);
    f->fresh = 0;
    guest_sends(f, "a");
    traffic_release_before(f->traffic, EPOCH + 1);
    traffic_begin_epoch(f->traffic, TRUE);
    guest_sends(f, "b");
    traffic_end_session(f->traffic);
    g_assert_cmpint(traffic_route(f->traffic), ==, ROUTE_HOLD);
    guest_sends(f, "c");
    expect(f, "held compare:b held");
    expect_held(f, EPOCH + 1, "acb");
    f->world.state = FSM_P_NONE;
    traffic_open(f->traffic);
    expect(f, "send:a opening send:b send:c");
    guest_sends(f, "d");
    expect(f, "send:d");
}

/* The secondary is lost before it has the checkpoint that begins to compare: the gate has the older. */
static void test_order_as_comparing_begins(Fixture *f, gconstpointer data)
{
    (void)data;
    go(f, ROUTE_HOLD);
    f->world.epoch = EPOCH - 1;
    guest_sends(f, "a");
    f->world.epoch = EPOCH;
    traffic_begin_epoch(f->traffic, TRUE);
    guest_sends(f, "b");
    traffic_end_session(f->traffic);
    guest_sends(f, "c");
    expect(f, "held compare:b");
    f->world.state = FSM_P_NONE;
    traffic_open(f->traffic);
    expect(f, "send:a opening send:b send:c");
}

static void test_waits_for_the_link(Fixture *f, gconstpointer data)
{
    (void)data;
    go(f, ROUTE_HOLD);
    guest_sends(f, "abc");
    expect(f, "held");
    /* It gets stale after the first. */
    f->fresh = 1;
    traffic_release_before(f->traffic, EPOCH + 1);
    expect(f, "send:a");
    g_assert_true(traffic_awaits_link(f->traffic));
    g_assert_false(traffic_awaits_checkpoint(f->traffic));
    /* What waits is no less held than what is in the gate: the checkpoint has both. */
    guest_sends(f, "d");
    expect_held(f, EPOCH + 1, "bcd");
    traffic_let_leave(f->traffic);
    expect(f, "held");
    /* And nothing overtakes it: also if the proof comes while the next one is about to leave. */
    f->fresh = G_MAXUINT;
    f->stale = 1;
    traffic_release_before(f->traffic, EPOCH + 1);
    expect(f, "");
    traffic_let_leave(f->traffic);
    expect(f, "send:b send:c send:d");
    g_assert_false(traffic_awaits_link(f->traffic));
}

/* Nobody knows who continues: also a link that is fresh lets nothing leave. */
static void test_closed(Fixture *f, gconstpointer data)
{
    (void)data;
    go(f, ROUTE_HOLD);
    f->world.state = FSM_P_PAUSED;
    f->asked = 0;
    guest_sends(f, "a");
    traffic_release_before(f->traffic, EPOCH + 1);
    traffic_let_leave(f->traffic);
    expect(f, "held");
    g_assert_cmpuint(f->asked, ==, 0);
    f->world.state = FSM_P_COLO;
    traffic_let_leave(f->traffic);
    expect(f, "send:a");
}

/* ---- Limits ---- */

/* A checkpoint answers the wish; what still fills the gate wishes again. */
static void test_output_limit(Fixture *f, gconstpointer data)
{
    (void)data;
    go(f, ROUTE_HOLD);
    while (traffic_stats(f->traffic).held.dropped_frames < 10)
        guest_sends(f, "a");
    expect(f, "held output-limit");
    f->world.limit_wanted = FALSE;
    guest_sends(f, "ab");
    expect(f, "output-limit");
    traffic_release_before(f->traffic, EPOCH + 1);
    g_string_truncate(f->seen, 0);
    f->world.limit_wanted = FALSE;
    guest_sends(f, "ab");
    expect(f, "held");
}

/* A card that can leave output in the guest does so: nothing is dropped, and it is told when to go on. */
static void test_pushes_back(Fixture *f, gconstpointer data)
{
    g_autoptr(GBytes) frame = segment(TRUE, 'a');
    const gsize len = g_bytes_get_size(frame);
    (void)data;
    go(f, ROUTE_HOLD);
    while (traffic_takes_output(f->traffic, len))
        guest_sends(f, "a");
    expect(f, "held output-limit");
    g_assert_false(traffic_takes_output(f->traffic, len));
    g_assert_cmpuint(traffic_stats(f->traffic).held.dropped_frames, ==, 0);
    traffic_release_before(f->traffic, EPOCH);
    expect(f, "again");
    g_assert_false(traffic_takes_output(f->traffic, len));
    f->world.limit_wanted = FALSE; /* the checkpoint is taken */
    f->world.epoch++;
    traffic_release_before(f->traffic, f->world.epoch);
    g_assert_true(g_str_has_suffix(f->seen->str, " send:a again"));
    g_string_truncate(f->seen, 0);
    g_assert_true(traffic_takes_output(f->traffic, len));
    /* Nobody waits for it: it isn't told. */
    traffic_release_before(f->traffic, f->world.epoch);
    expect(f, "");
    /* Too large for ever: it is dropped, else all would wait behind it. */
    g_assert_true(traffic_takes_output(f->traffic, LIMIT_BYTES));
}

/* What ends the gate tells it, too; where there is no gate all is taken. */
static void test_pushes_back_until_open(Fixture *f, gconstpointer data)
{
    const gsize len = LIMIT_BYTES / 2;
    (void)data;
    go(f, ROUTE_HOLD);
    while (traffic_takes_output(f->traffic, len))
        guest_sends(f, "a");
    g_string_truncate(f->seen, 0);
    traffic_begin_epoch(f->traffic, TRUE);
    expect(f, "again");
    g_assert_true(traffic_takes_output(f->traffic, len));
    traffic_end_session(f->traffic);
    g_assert_false(traffic_takes_output(f->traffic, len));
    traffic_open(f->traffic);
    g_assert_true(g_str_has_suffix(f->seen->str, " again"));
    g_assert_true(traffic_takes_output(f->traffic, len));
}

/* All that a full gate releases waits for the link, and is bounded if it goes on like that. */
static void test_stale_for_long(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(GBytes) frame = segment(TRUE, 'a');
    const guint64 room = 2 * LIMIT_BYTES / (g_bytes_get_size(frame) + BACKLOG_FRAME_BYTES);
    go(f, ROUTE_HOLD);
    f->fresh = 0;
    while (traffic_stats(f->traffic).held.dropped_frames == 0)
        guest_sends(f, "a");
    guint64 released = traffic_stats(f->traffic).held.frames;
    traffic_release_before(f->traffic, EPOCH + 1);
    g_assert_cmpuint(traffic_stats(f->traffic).leaving.frames, ==, released);
    g_assert_cmpuint(traffic_stats(f->traffic).leaving.dropped, ==, 0);
    for (; released < 2 * room; released++) {
        guest_sends(f, released < 2 * room - 2 ? "b" : "c");
        traffic_release_before(f->traffic, EPOCH + 1);
    }
    g_assert_cmpuint(traffic_stats(f->traffic).leaving.frames, ==, room);
    g_assert_cmpuint(traffic_stats(f->traffic).leaving.dropped, ==, released - room);
    /* The newest are there. */
    g_string_truncate(f->seen, 0);
    f->fresh = G_MAXUINT;
    traffic_let_leave(f->traffic);
    g_assert_true(g_str_has_prefix(f->seen->str, "send:b send:b "));
    g_assert_true(g_str_has_suffix(f->seen->str, " send:b send:c send:c"));
}

/* More is held than a checkpoint can carry: it carries the oldest. */
static void test_held_are_many(Fixture *f, gconstpointer data)
{
    (void)data;
    go(f, ROUTE_HOLD);
    guest_sends(f, "a");
    for (guint i = 1; i < CHECKPOINT_FRAMES_MAX + 3; i++)
        traffic_output(f->traffic, 0, (const guint8 *)"b", 1);
    g_autoptr(GPtrArray) frames = traffic_held_frames(f->traffic, EPOCH + 1);
    g_assert_cmpuint(frames->len, ==, CHECKPOINT_FRAMES_MAX);
    const HeldFrame *first = g_ptr_array_index(frames, 0);
    g_assert_cmpuint(g_bytes_get_size(first->data), >, 1);
    traffic_forget(f->traffic);
}

/* Likewise, of fewer and large ones. */
static void test_held_are_large(Fixture *f, gconstpointer data)
{
    static const guint8 frame[64 * 1024];
    (void)data;
    go(f, ROUTE_HOLD);
    for (guint i = 0; i < CHECKPOINT_FRAMES_BYTES_MAX / sizeof(frame) + 3; i++)
        traffic_output(f->traffic, 0, frame, sizeof(frame));
    g_autoptr(GPtrArray) frames = traffic_held_frames(f->traffic, EPOCH + 1);
    g_assert_cmpuint(frames->len, ==, CHECKPOINT_FRAMES_BYTES_MAX / sizeof(frame));
}

/* ---- Input ---- */

/* On any route; those that are guarded by the secondary may have a copy to mirror to. */
static const struct {
    FsmState state;
    gboolean defers, session;
    const char *elsewhere, *guarded; /* what is seen at once */
    guint deferred;
    const char *later_elsewhere, *later_guarded; /* and when the VM runs again */
} inputs[] = {
    {FSM_P_NONE,   FALSE, FALSE, "give:a",  "give:a",            0, "",       ""                 },
    {FSM_P_ACTIVE, FALSE, TRUE,  "give:a",  "give:a mirror@7:a", 0, "",       ""                 },
    {FSM_P_COLO,   FALSE, TRUE,  "give:a",  "give:a mirror@7:a", 0, "",       ""                 },
    {FSM_P_PAUSED, FALSE, FALSE, "give:a",  "give:a",            0, "",       ""                 },
    {FSM_P_NONE,   TRUE,  FALSE, "",        "",                  1, "give:a", "give:a"           },
    {FSM_P_COLO,   TRUE,  TRUE,  "",        "",                  1, "give:a", "give:a mirror@8:a"},
    {FSM_P_DEVICE, TRUE,  TRUE,  "",        "",                  1, "give:a", "give:a mirror@8:a"},
    {FSM_P_HANDED, TRUE,  TRUE,  "",        "mirror@7:a",        1, "give:a", "give:a mirror@8:a"},
    {FSM_P_HANDED, TRUE,  FALSE, "",        "",                  1, "give:a", "give:a"           },
    {FSM_S_ACTIVE, FALSE, FALSE, "",        "",                  0, "",       ""                 },
    {FSM_S_COLO,   FALSE, FALSE, "",        "",                  0, "",       ""                 },
    {FSM_S_COLO,   TRUE,  TRUE,  "",        "",                  0, "",       ""                 },
    {FSM_S_DEVICE, FALSE, FALSE, "queue:a", "queue:a",           0, "",       ""                 },
    {FSM_S_DEVICE, TRUE,  TRUE,  "queue:a", "queue:a",           0, "",       ""                 },
};

static void test_input(Fixture *f, gconstpointer data)
{
    (void)data;
    for (guint i = 0; i < G_N_ELEMENTS(inputs); i++)
        for (Route route = 0; route < ROUTES; route++) {
            gboolean guarded = route_is_guarded(route);
            set_up(f, NULL);
            go(f, route);
            f->asked = 0;
            f->world = (TrafficWorld){.state = inputs[i].state,
                                      .epoch = EPOCH,
                                      .defers_input = inputs[i].defers,
                                      .has_session = inputs[i].session};
            client_sends(f, "a");
            expect(f, guarded ? inputs[i].guarded : inputs[i].elsewhere);
            g_assert_cmpuint(traffic_stats(f->traffic).deferred.frames, ==, inputs[i].deferred);
            f->world.epoch = EPOCH + 1;
            traffic_give_deferred(f->traffic);
            expect(f, guarded ? inputs[i].later_guarded : inputs[i].later_elsewhere);
            /* A peer is asked for a sign of life for output only. */
            g_assert_cmpuint(f->asked, ==, 0);
            tear_down(f, NULL);
        }
}

/* In a pause: given in order, once, and mirrored in the epoch in which it is given. */
static void test_deferred(Fixture *f, gconstpointer data)
{
    (void)data;
    go(f, ROUTE_HOLD);
    f->world.defers_input = TRUE;
    client_sends(f, "ab");
    expect(f, "");
    f->world.defers_input = FALSE;
    f->world.epoch = EPOCH + 1;
    traffic_give_deferred(f->traffic);
    expect(f, "give:a mirror@8:a give:b mirror@8:b");
    traffic_give_deferred(f->traffic);
    expect(f, "");
    g_assert_cmpuint(traffic_stats(f->traffic).mirrored, ==, 2);
}

/* A VM that is handed over, and comes back. */
static void test_handed(Fixture *f, gconstpointer data)
{
    (void)data;
    go(f, ROUTE_HOLD);
    f->world.defers_input = TRUE;
    f->world.state = FSM_P_DEVICE;
    client_sends(f, "ab");
    expect(f, "");
    f->world.state = FSM_P_HANDED;
    traffic_mirror_deferred(f->traffic);
    expect(f, "mirror@7:a mirror@7:b");
    client_sends(f, "c");
    expect(f, "mirror@7:c");
    traffic_mirror_deferred(f->traffic);
    expect(f, "");
    f->world.state = FSM_P_COLO;
    f->world.defers_input = FALSE;
    traffic_give_deferred(f->traffic);
    expect(f, "give:a give:b give:c");
}

/* What doesn't fit is counted, and not sent later, behind others. */
static void test_mirror_is_full(Fixture *f, gconstpointer data)
{
    (void)data;
    go(f, ROUTE_COMPARE);
    f->mirror_has_room = FALSE;
    client_sends(f, "ab");
    expect(f, "give:a mirror@7:a give:b mirror@7:b");
    f->mirror_has_room = TRUE;
    client_sends(f, "c");
    expect(f, "give:c mirror@7:c");
    g_assert_cmpuint(traffic_stats(f->traffic).mirror_congested, ==, 2);
    g_assert_cmpuint(traffic_stats(f->traffic).mirrored, ==, 1);
}

/* ---- The end ---- */

static void test_forget(Fixture *f, gconstpointer data)
{
    (void)data;
    take_over_and_hold(f);
    f->world.defers_input = TRUE;
    client_sends(f, "c");
    TrafficStats stats = traffic_stats(f->traffic);
    g_assert_cmpuint(stats.leaving.frames, ==, 1);
    g_assert_cmpuint(stats.held.frames, ==, 1);
    g_assert_cmpuint(stats.deferred.frames, ==, 1);
    g_string_truncate(f->seen, 0);

    traffic_forget(f->traffic);
    g_assert_cmpint(traffic_route(f->traffic), ==, ROUTE_DROP);
    f->fresh = G_MAXUINT;
    f->world.defers_input = FALSE;
    f->world.state = FSM_P_NONE;
    expect_held(f, EPOCH + 1, "");
    guest_sends(f, "d");
    traffic_let_leave(f->traffic);
    traffic_release_before(f->traffic, EPOCH + 1);
    traffic_give_deferred(f->traffic);
    expect(f, "");
    /* Another VM, of which nothing is mapped. */
    traffic_open(f->traffic);
    guest_sends(f, "e");
    client_sends(f, "f");
    expect(f, "opening send:e give:f");
}

/* A bug of ours: it must not go on. */
static void test_impossible(void)
{
    if (g_test_subprocess()) {
        Fixture f = {0};
        set_up(&f, NULL);
        go(&f, ROUTE_HOLD);
        traffic_begin_copy(f.traffic);
        return;
    }
    g_test_trap_subprocess(NULL, 0, G_TEST_SUBPROCESS_DEFAULT);
    g_test_trap_assert_failed();
    g_test_trap_assert_stderr("*copy-begins on route hold in state*");
}

#define ADD(name, test) g_test_add("/traffic/" name, Fixture, NULL, set_up, test, tear_down)
/* `output-limit` is so large that it doesn't count. */
#define ADD_LARGE(name, test)                                                                      \
    g_test_add("/traffic/" name, Fixture, GSIZE_TO_POINTER((gsize)1 << 30), set_up, test, tear_down)
/* For each of many, the test sets itself up. */
#define ADD_BARE(name, test) g_test_add("/traffic/" name, Fixture, NULL, NULL, test, NULL)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    ADD_BARE("output", test_output);
    ADD("epochs", test_epochs);
    ADD("order-at-open", test_order_at_open);
    ADD("order-as-comparing-begins", test_order_as_comparing_begins);
    ADD("waits-for-the-link", test_waits_for_the_link);
    ADD("closed", test_closed);
    ADD_LARGE("held-are-many", test_held_are_many);
    ADD_LARGE("held-are-large", test_held_are_large);
    ADD("output-limit", test_output_limit);
    ADD("pushes-back", test_pushes_back);
    ADD("pushes-back-until-open", test_pushes_back_until_open);
    ADD("stale-for-long", test_stale_for_long);
    ADD_BARE("input", test_input);
    ADD("deferred", test_deferred);
    ADD("handed", test_handed);
    ADD("mirror-is-full", test_mirror_is_full);
    ADD("forget", test_forget);
    g_test_add_func("/traffic/impossible", test_impossible);
    return g_test_run();
}
