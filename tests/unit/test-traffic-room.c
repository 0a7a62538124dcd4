/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Input for a card that has no room: it waits, and is mirrored with the epoch in which it is given. */
#include "tests/support/traffic-fixture.h"

static void assert_waiting(Fixture *f, guint frames)
{
    g_assert_cmpuint(traffic_stats(f->traffic).deferred.frames, ==, frames);
}

/* In order, and no other card waits for it. */
static void test_order(Fixture *f, gconstpointer data)
{
    (void)data;
    go(f, ROUTE_COMPARE);
    f->room = 1;
    client_sends(f, "abcd");
    expect(f, "give:a mirror@7:a");
    client_sends_to(f, 1, "e");
    expect(f, "other:e mirror@7:e");
    traffic_room(f->traffic, 0); /* there is none after all */
    traffic_room(f->traffic, 1);
    expect(f, "");
    assert_waiting(f, 3);
    f->room = 2;
    client_sends(f, "f"); /* not before those that wait */
    expect(f, "");
    traffic_room(f->traffic, 0);
    expect(f, "give:b mirror@7:b give:c mirror@7:c");
    f->room = G_MAXUINT;
    traffic_room(f->traffic, 0);
    client_sends(f, "g");
    expect(f, "give:d mirror@7:d give:f mirror@7:f give:g mirror@7:g");
    assert_waiting(f, 0);
}

/* An unprotected guest's is mirrored nowhere. */
static void test_alone(Fixture *f, gconstpointer data)
{
    (void)data;
    f->world = (TrafficWorld){.state = FSM_P_NONE, .epoch = EPOCH};
    go(f, ROUTE_OPEN);
    f->room = 0;
    client_sends(f, "ab");
    f->room = G_MAXUINT;
    traffic_room(f->traffic, 0);
    expect(f, "give:a give:b");
}

/* What waits over a pause belongs to the epoch in which the guest gets it. */
static void test_pause(Fixture *f, gconstpointer data)
{
    (void)data;
    go(f, ROUTE_COMPARE);
    f->room = 1;
    client_sends(f, "abc");
    expect(f, "give:a mirror@7:a");
    f->world.defers_input = TRUE;
    client_sends(f, "d");
    client_sends_to(f, 1, "e");
    f->room = 2;
    traffic_room(f->traffic, 0); /* the VM is about to be paused: not now */
    expect(f, "");
    traffic_pause(f->traffic);
    f->world.epoch++;
    traffic_begin_epoch(f->traffic, TRUE);
    f->world.defers_input = FALSE;
    traffic_give_deferred(f->traffic);
    expect(f, "give:b mirror@8:b give:c mirror@8:c other:e mirror@8:e");
    assert_waiting(f, 1);
    f->room = 1;
    traffic_room(f->traffic, 0);
    expect(f, "give:d mirror@8:d");
}

/* The secondary that is to run the VM gets all of it, once; and if the VM is given back, the guest does. */
static void test_handed(Fixture *f, gconstpointer data)
{
    (void)data;
    go(f, ROUTE_COMPARE);
    f->room = 0;
    client_sends(f, "ab");
    f->world.defers_input = TRUE;
    client_sends(f, "c");
    f->world.state = FSM_P_HANDED;
    traffic_mirror_deferred(f->traffic);
    expect(f, "mirror@7:a mirror@7:b mirror@7:c");
    client_sends(f, "d");
    expect(f, "mirror@7:d");
    f->world.state = FSM_P_COLO;
    f->world.defers_input = FALSE;
    f->room = 3;
    traffic_give_deferred(f->traffic);
    expect(f, "give:a give:b give:c");
    f->room = 1;
    traffic_room(f->traffic, 0);
    expect(f, "give:d");
}

/*
 * The secondary refuses, and there is no room until the next checkpoint. The copy forgets the input of the
 * epoch that has ended, so it gets the frame again with the one in which the guest gets it.
 */
static void test_handed_and_a_checkpoint(Fixture *f, gconstpointer data)
{
    (void)data;
    go(f, ROUTE_COMPARE);
    f->room = 0;
    client_sends(f, "ab");
    f->world.defers_input = TRUE;
    f->world.state = FSM_P_HANDED;
    traffic_mirror_deferred(f->traffic);
    client_sends(f, "c");
    expect(f, "mirror@7:a mirror@7:b mirror@7:c");
    f->world.state = FSM_P_COLO;
    f->world.defers_input = FALSE;
    f->room = 1;
    traffic_give_deferred(f->traffic);
    expect(f, "give:a");
    traffic_pause(f->traffic);
    f->world.epoch++;
    traffic_begin_epoch(f->traffic, TRUE);
    f->room = 1;
    traffic_give_deferred(f->traffic);
    expect(f, "give:b mirror@8:b");
    /* It is handed over again, in another epoch. */
    f->world.defers_input = TRUE;
    f->world.state = FSM_P_HANDED;
    traffic_mirror_deferred(f->traffic);
    expect(f, "mirror@8:c");
    f->world.state = FSM_P_COLO;
    f->world.defers_input = FALSE;
    f->room = 1;
    traffic_give_deferred(f->traffic);
    expect(f, "give:c");
}

/* To look for room is to read what QEMU says, and that may be the VM's end. */
static void test_gone_as_asked(Fixture *f, gconstpointer data)
{
    (void)data;
    go(f, ROUTE_COMPARE);
    f->room = 0;
    client_sends(f, "ab");
    f->room = G_MAXUINT;
    f->forget_when_asked = TRUE;
    traffic_room(f->traffic, 0);
    expect(f, "");
    assert_waiting(f, 0);
}

static void test_limit(Fixture *f, gconstpointer data)
{
    static guint8 frame[NETCOMPARE_VNET_HDR_BYTES + 60000];
    (void)data;
    go(f, ROUTE_COMPARE);
    f->room = 0;
    for (guint i = 0; i < 100; i++)
        traffic_input(f->traffic, 0, frame, sizeof(frame));
    TrafficStats stats = traffic_stats(f->traffic);
    g_assert_cmpuint(stats.deferred.bytes, <=, 4u << 20);
    g_assert_cmpuint(stats.deferred.frames, ==, 69);
    g_assert_cmpuint(stats.deferred.dropped, ==, 31);
}

static void test_forget(Fixture *f, gconstpointer data)
{
    (void)data;
    go(f, ROUTE_COMPARE);
    f->room = 0;
    client_sends(f, "ab");
    traffic_forget(f->traffic);
    assert_waiting(f, 0);
    f->room = G_MAXUINT;
    traffic_open(f->traffic);
    traffic_room(f->traffic, 0);
    g_assert_null(strstr(f->seen->str, "give"));
}

#define ADD(name, test) g_test_add("/traffic/room/" name, Fixture, NULL, set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("order", test_order);
    ADD("alone", test_alone);
    ADD("pause", test_pause);
    ADD("handed", test_handed);
    ADD("handed-and-a-checkpoint", test_handed_and_a_checkpoint);
    ADD("gone-as-asked", test_gone_as_asked);
    ADD("limit", test_limit);
    ADD("forget", test_forget);
    return g_test_run();
}
