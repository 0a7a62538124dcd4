/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The numbers of connections, where the guest's are not the clients': what is mapped, and where. */
#include "common/log.h"
#include "tests/support/traffic-fixture.h"

static void test_take_over(Fixture *f, gconstpointer data)
{
    (void)data;
    copy_with_map(f);
    /* To be compared as it is. */
    guest_sends(f, "a");
    expect(f, "peer:a");
    take_over(f, "bc");
    expect(f, "send:b+ send:c+ opening");
    g_assert_cmpint(traffic_route(f->traffic), ==, ROUTE_OPEN);
    guest_sends(f, "d");
    expect(f, "send:d+");
    f->world.state = FSM_P_NONE;
    client_sends(f, "e");
    expect(f, "give:e+");
    /* The next secondary maps, too. */
    g_autoptr(GBytes) maps = traffic_export_maps(f->traffic);
    g_assert_nonnull(maps);
}

/* A checkpoint's output is as clients are to see it, wherever it waits. */
static void test_held_are_mapped(Fixture *f, gconstpointer data)
{
    (void)data;
    take_over_and_hold(f);
    traffic_begin_epoch(f->traffic, TRUE);
    guest_sends(f, "c");
    expect_held(f, EPOCH + 1, "a+b+c+");
    expect_held(f, EPOCH, "a+");
    /* The comparator gets it raw. */
    expect(f, "opening held held compare:c");
    client_sends(f, "d");
    expect(f, "give:d+ mirror@7:d");
}

/* A copy that has no connection to map. */
static void test_nothing_to_map(Fixture *f, gconstpointer data)
{
    (void)data;
    f->world.state = FSM_S_COLO;
    go(f, ROUTE_TO_PEER);
    g_assert_true(traffic_enter_epoch(f->traffic, EPOCH, NULL, NULL));
    take_over(f, "a");
    g_assert_null(traffic_export_maps(f->traffic));
    expect(f, "send:a opening");
    guest_sends(f, "b");
    expect(f, "send:b");
    /* It is a VM like any other, and may become a copy. */
    traffic_forget(f->traffic);
    copy_with_map(f);
    take_over(f, "c");
    expect(f, "send:c+ opening");
}

static void test_maps_are_refused(Fixture *f, gconstpointer data)
{
    g_autoptr(GBytes) maps = g_bytes_new_static("no maps", 7);
    g_autoptr(GError) error = NULL;
    (void)data;
    g_assert_false(traffic_enter_epoch(f->traffic, EPOCH, maps, &error));
    g_assert_nonnull(error);
}

/* Of a checkpoint that is taken over from: it is in the clients' numbers already. */
static void test_of_a_checkpoint(Fixture *f, gconstpointer data)
{
    (void)data;
    copy_with_map(f);
    f->world.state = FSM_S_DEVICE;
    g_autoptr(GBytes) frame = segment(TRUE, 'a');
    traffic_begin_mapping(f->traffic);
    traffic_release_mapped(f->traffic, 0, frame);
    expect(f, "send:a");
}

#define ADD(name, test) g_test_add("/traffic-maps/" name, Fixture, NULL, set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    ADD("of-a-checkpoint", test_of_a_checkpoint);
    ADD("take-over", test_take_over);
    ADD("held-are-mapped", test_held_are_mapped);
    ADD("nothing-to-map", test_nothing_to_map);
    ADD("maps-are-refused", test_maps_are_refused);
    return g_test_run();
}
