/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's cards that are attached by vhost-user, of a VM without QEMU, on uplinks without taps. */
#include "common/log.h"
#include "tests/support/fake-front.h"
#include "tests/support/two-cards.h"
#include "vm/vm_internal.h"

#include <sys/eventfd.h>

#define FRAME_BYTES (VRING_HEADER_BYTES + 60u)

typedef struct {
    TwoCards two;
    FakeFront fronts[CARDS];
    gboolean refuses; /* output of the second card */
} Fixture;

static void expect(Fixture *f, const char *seen)
{
    fake_front_settle();
    expect_seen(&f->two, seen);
}

static void on_output(unsigned nic, const guint8 *data, gsize len, gpointer user_data)
{
    (void)data;
    g_assert_cmpuint(len, ==, FRAME_BYTES);
    saw(user_data, "output:", nic);
}

static gboolean on_takes(unsigned nic, gsize len, gpointer user_data)
{
    const Fixture *f = user_data;
    g_assert_cmpuint(len, ==, FRAME_BYTES);
    return nic == 0 || !f->refuses;
}

static void on_room(unsigned nic, gpointer user_data)
{
    saw(user_data, "room:", nic);
}

static void on_broken(unsigned nic, const GError *error, gpointer user_data)
{
    g_assert_error(error, VHOST_ERROR, VHOST_ERROR_RING);
    saw(user_data, "broken:", nic);
}

static void on_failed(const GError *error, gpointer user_data)
{
    g_assert_error(error, VHOST_ERROR, VHOST_ERROR_CLOSED);
    saw(user_data, "failed", 0);
}

static void set_up(Fixture *f, gconstpointer data)
{
    static const CardsHandler handler = {.output = on_output,
                                         .takes = on_takes,
                                         .input = on_input,
                                         .elsewhere = on_elsewhere,
                                         .room = on_room,
                                         .broken = on_broken,
                                         .port_failed = on_failed,
                                         .uplink_failed = on_failed};
    (void)data;
    two_cards_init(&f->two);
    for (guint i = 0; i < CARDS; i++) {
        fake_front_init(&f->fronts[i]);
        g_ptr_array_add(f->two.vm->cards, g_steal_pointer(&f->fronts[i].card));
        fake_front_greet(&f->fronts[i]);
        fake_front_start(&f->fronts[i], 0, 0);
    }
    f->two.cards = cards_new(&f->two.config, &handler, f, NULL);
    cards_attach(f->two.cards, f->two.vm);
    fake_front_settle();
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    two_cards_clear(&f->two);
    for (guint i = 0; i < CARDS; i++)
        fake_front_clear(&f->fronts[i]);
}

static void test_ways(Fixture *f, gconstpointer data)
{
    const guint8 frame[FRAME_BYTES] = {0};
    (void)data;
    fake_front_guest_sends(&f->fronts[1], 0, FRAME_BYTES, 1);
    expect(f, "output:1");
    fake_front_guest_sends(&f->fronts[0], 0, FRAME_BYTES, 1);
    cards_drain(f->two.cards);
    expect(f, "output:0");
    fake_front_guest_offers(&f->fronts[1], 0);
    cards_give(f->two.cards, 1, frame, sizeof(frame));
    g_autoptr(GBytes) got = fake_front_guest_got(&f->fronts[1]);
    g_assert_nonnull(got);
    g_assert_null(fake_front_guest_got(&f->fronts[0]));
}

/* A card's output that isn't wanted stays in the guest, until it is. */
static void test_not_taken(Fixture *f, gconstpointer data)
{
    (void)data;
    f->refuses = TRUE;
    for (guint i = 0; i < CARDS; i++)
        fake_front_guest_sends(&f->fronts[i], 0, FRAME_BYTES, 1);
    expect(f, "output:0");
    cards_drain(f->two.cards);
    expect(f, "");
    f->refuses = FALSE;
    cards_take_output(f->two.cards);
    expect(f, "output:1");
    cards_detach(f->two.cards);
    cards_take_output(f->two.cards);
    expect(f, "");
}

static void test_room(Fixture *f, gconstpointer data)
{
    const guint8 frame[FRAME_BYTES] = {0};
    (void)data;
    fake_front_guest_offers(&f->fronts[1], 0);
    fake_front_settle();
    g_assert_true(cards_have_room(f->two.cards, 1, sizeof(frame)));
    g_assert_false(cards_have_room(f->two.cards, 0, sizeof(frame)));
    expect(f, "");
    fake_front_guest_offers(&f->fronts[0], 0);
    expect(f, "room:0");
    cards_give(f->two.cards, 0, frame, sizeof(frame));
    g_assert_true(cards_are_read(f->two.cards));
    /* What waits here is in no QEMU. */
    cards_give(f->two.cards, 0, frame, sizeof(frame));
    g_assert_true(cards_are_read(f->two.cards));
    g_assert_cmpuint(cards_dropped(f->two.cards), ==, 0);
    cards_forget_input(f->two.cards);
    cards_give(f->two.cards, 0, frame, 8); /* no frame */
    g_assert_cmpuint(cards_dropped(f->two.cards), ==, 1);
    /* Nobody is there: what is given is dropped, so nobody needs to wait. */
    cards_detach(f->two.cards);
    g_assert_true(cards_have_room(f->two.cards, 0, sizeof(frame)));
}

/* A guest can't fill the log with it. */
static void test_broken(Fixture *f, gconstpointer data)
{
    FakeFront *front = &f->fronts[1];
    (void)data;
    for (guint i = 0; i < 5; i++) {
        ring_driver_offer(&front->drivers[VHOST_FROM_GUEST], 900);
        g_assert_cmpint(eventfd_write(front->kicks[VHOST_FROM_GUEST], 1), ==, 0);
        expect(f, i ? "" : "broken:1");
        for (guint ring = 0; ring < VHOST_RINGS; ring++)
            fake_front_stop_ring(front, ring);
        fake_front_reset_driver(front);
        fake_front_start(front, 0, 0);
    }
    fake_front_guest_sends(front, 0, FRAME_BYTES, 1);
    expect(f, "output:1");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    g_test_add("/cards-vhost/ways", Fixture, NULL, set_up, test_ways, tear_down);
    g_test_add("/cards-vhost/not-taken", Fixture, NULL, set_up, test_not_taken, tear_down);
    g_test_add("/cards-vhost/room", Fixture, NULL, set_up, test_room, tear_down);
    g_test_add("/cards-vhost/broken", Fixture, NULL, set_up, test_broken, tear_down);
    return g_test_run();
}
