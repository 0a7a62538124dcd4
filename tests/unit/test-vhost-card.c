/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A vhost-user card, with QEMU's end and the guest's driver played by the test. */
#include <errno.h>
#include <glib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/support/fake-front.h"

#define FRAME_BYTES (VRING_HEADER_BYTES + 60u)

static void setup(FakeFront *f, gconstpointer data)
{
    (void)data;
    fake_front_init(f);
    fake_front_attach(f);
    fake_front_greet(f);
}

static void setup_started(FakeFront *f, gconstpointer data)
{
    setup(f, data);
    fake_front_start(f, 0, 0);
    fake_front_settle();
}

static void teardown(FakeFront *f, gconstpointer data)
{
    (void)data;
    fake_front_clear(f);
}

static void assert_frame(GBytes *frame, gsize len, guint8 fill)
{
    gsize got;
    const guint8 *data = g_bytes_get_data(frame, &got);
    g_assert_cmpuint(got, ==, len);
    for (gsize i = VRING_HEADER_BYTES; i < len; i++)
        g_assert_cmpuint(data[i], ==, fill);
}

static void assert_sent(FakeFront *f, guint index, gsize len, guint8 fill)
{
    g_assert_cmpuint(index, <, f->got->len);
    assert_frame(g_ptr_array_index(f->got, index), len, fill);
}

static void give(FakeFront *f, guint8 fill, gboolean taken)
{
    guint8 frame[FRAME_BYTES] = {0};
    memset(frame + VRING_HEADER_BYTES, fill, 60);
    g_assert_cmpint(vhost_card_give(f->card, frame, sizeof(frame)), ==, taken);
}

static void assert_received(FakeFront *f, guint8 fill)
{
    g_autoptr(GBytes) frame = fake_front_guest_got(f);
    g_assert_nonnull(frame);
    assert_frame(frame, FRAME_BYTES, fill);
}

static void assert_nothing_received(FakeFront *f)
{
    g_assert_null(fake_front_guest_got(f));
}

static gboolean nothing_waits(FakeFront *f)
{
    return vhost_card_stats(f->card)->queued_bytes == 0;
}

static void or_pages(guint64 first, guint64 pages, gpointer user_data)
{
    guint64 *all = user_data;
    (void)first;
    *all |= pages;
}

static guint64 take_marks(FakeFront *f)
{
    guint64 pages = 0;
    ram_log_take(f->ram.log, or_pages, &pages);
    return pages;
}

/* ---- Frames ---- */

static void test_output(FakeFront *f, gconstpointer data)
{
    (void)data;
    g_assert_true(fake_front_interrupted(f, VHOST_FROM_GUEST)); /* each new call is tried once */
    for (guint16 n = 0; n < 40; n++) {
        fake_front_guest_sends(f, n, FRAME_BYTES + n, (guint8)n);
        fake_front_settle();
        assert_sent(f, n, FRAME_BYTES + n, (guint8)n);
        guint32 head, len;
        g_assert_true(ring_driver_used(&f->drivers[VHOST_FROM_GUEST], &head, &len));
        g_assert_cmpuint(head, ==, n % FRONT_RING);
    }
    g_assert_cmpuint(vhost_card_stats(f->card)->output_frames, ==, 40);
    g_assert_cmpuint(vhost_card_stats(f->card)->output_bytes, ==, 40 * 60 + 39 * 40 / 2);
    g_assert_no_error(f->failure);
}

static void test_input(FakeFront *f, gconstpointer data)
{
    (void)data;
    fake_front_interrupted(f, VHOST_TO_GUEST);
    for (guint16 n = 0; n < 40; n++) {
        fake_front_guest_offers(f, n);
        g_assert_true(vhost_card_has_room(f->card, FRAME_BYTES));
        give(f, (guint8)n, TRUE);
        assert_received(f, (guint8)n);
        g_assert_true(nothing_waits(f));
    }
    g_assert_true(fake_front_interrupted(f, VHOST_TO_GUEST));
    g_assert_cmpuint(vhost_card_stats(f->card)->input_frames, ==, 40);
}

/* One turn ends after so many bytes, too: others of the main loop have theirs. */
static void test_turn(FakeFront *f, gconstpointer data)
{
    const gsize len = VRING_HEADER_BYTES + 60000;
    (void)data;
    for (guint16 n = 0; n < FRONT_RING; n++)
        fake_front_guest_sends(f, n, len, (guint8)n);
    while (f->got->len == 0)
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpuint(f->got->len, ==, 9); /* of 16: the first that reach 512 KiB */
    fake_front_settle();
    g_assert_cmpuint(f->got->len, ==, FRONT_RING);
}

static guint count_used(FakeFront *f)
{
    guint32 head, len;
    guint count = 0;
    while (ring_driver_used(&f->drivers[VHOST_FROM_GUEST], &head, &len))
        count++;
    return count;
}

/* What its owner doesn't take stays in the ring, also over a pause, and comes later and once. */
static void test_not_taken(FakeFront *f, gconstpointer data)
{
    (void)data;
    f->takes = 1;
    for (guint16 n = 0; n < 4; n++)
        fake_front_guest_sends(f, n, FRAME_BYTES + n, (guint8)n);
    fake_front_settle();
    g_assert_cmpuint(f->got->len, ==, 1);
    g_assert_cmpuint(f->asked_for, ==, FRAME_BYTES + 1);
    g_assert_cmpuint(count_used(f), ==, 1);
    vhost_card_drain(f->card);
    g_assert_cmpuint(f->got->len, ==, 1);

    guint16 next = fake_front_stop_ring(f, VHOST_FROM_GUEST);
    g_assert_cmpuint(next, ==, 1);
    g_assert_cmpuint(f->got->len, ==, 1);
    fake_front_start_ring(f, VHOST_FROM_GUEST, next);
    fake_front_ask(f, VHOST_GET_FEATURES);
    fake_front_settle();
    g_assert_cmpuint(f->got->len, ==, 1);

    f->takes = 2;
    vhost_card_take_output(f->card);
    g_assert_cmpuint(f->got->len, ==, 1); /* not from within */
    fake_front_settle();
    g_assert_cmpuint(f->got->len, ==, 3);
    f->takes = G_MAXUINT;
    vhost_card_take_output(f->card);
    fake_front_settle();
    for (guint n = 0; n < 4; n++)
        assert_sent(f, n, FRAME_BYTES + n, (guint8)n);
    g_assert_cmpuint(f->got->len, ==, 4);
    g_assert_cmpuint(count_used(f), ==, 3);
    g_assert_cmpuint(vhost_card_stats(f->card)->output_dropped, ==, 0);
    /* A kick is asked for again. */
    fake_front_guest_sends(f, 4, FRAME_BYTES, 9);
    fake_front_settle();
    assert_sent(f, 4, FRAME_BYTES, 9);
}

/* Its owner may end it as it is asked; what is no frame is not asked for. */
static void test_freed_as_asked(FakeFront *f, gconstpointer data)
{
    (void)data;
    f->takes = 0;
    fake_front_guest_sends(f, 0, 8, 1);
    fake_front_settle();
    g_assert_cmpuint(f->asked_for, ==, 0);
    g_assert_cmpuint(count_used(f), ==, 1);
    f->free_in_takes = TRUE;
    f->takes = 1;
    fake_front_guest_sends(f, 1, FRAME_BYTES, 1);
    fake_front_settle();
    g_assert_null(f->card);
    g_assert_cmpuint(f->got->len, ==, 0);
}

/* Frames without room wait, in order; whoever asked before is told when there is some. */
static void test_no_room(FakeFront *f, gconstpointer data)
{
    (void)data;
    g_assert_false(vhost_card_has_room(f->card, FRAME_BYTES));
    fake_front_settle();
    g_assert_cmpuint(f->rooms, ==, 0);
    fake_front_guest_offers(f, 0);
    fake_front_settle();
    g_assert_cmpuint(f->rooms, ==, 1);
    g_assert_true(vhost_card_has_room(f->card, FRAME_BYTES));
    g_assert_false(vhost_card_has_room(f->card, 3000)); /* of two buffers */
    give(f, 1, TRUE);
    give(f, 2, TRUE);
    give(f, 3, TRUE);
    g_assert_false(nothing_waits(f));
    assert_received(f, 1);
    fake_front_guest_offers(f, 1);
    fake_front_settle();
    assert_received(f, 2);
    assert_nothing_received(f);
    g_assert_cmpuint(f->rooms, ==, 1); /* one waits before whatever would come now */
    fake_front_guest_offers(f, 2);
    fake_front_guest_offers(f, 3);
    fake_front_settle();
    assert_received(f, 3);
    g_assert_cmpuint(f->rooms, ==, 2);
    g_assert_true(nothing_waits(f));
}

static void test_queue_is_bounded(FakeFront *f, gconstpointer data)
{
    g_autofree guint8 *frame = g_malloc0(VRING_FRAME_MAX);
    guint taken = 0;
    (void)data;
    for (guint n = 0; n < 200; n++)
        taken += (guint)vhost_card_give(f->card, frame, VRING_FRAME_MAX);
    g_assert_cmpuint(taken, ==, (4u << 20) / VRING_FRAME_MAX);
    g_assert_cmpuint(vhost_card_stats(f->card)->input_dropped, ==, 200 - taken);
    g_assert_cmpuint(vhost_card_stats(f->card)->queued_bytes, ==, taken * VRING_FRAME_MAX);
    vhost_card_forget(f->card);
    g_assert_true(nothing_waits(f));
    g_assert_cmpuint(vhost_card_stats(f->card)->queued_bytes, ==, 0);
    g_assert_false(vhost_card_give(f->card, frame, 25));
    g_assert_false(vhost_card_give(f->card, frame, VRING_FRAME_MAX + 1));
}

/* A guest that sends without end doesn't keep the main loop to itself; none of it is lost. */
static void test_budget(FakeFront *f, gconstpointer data)
{
    RingDriver *driver = &f->drivers[VHOST_FROM_GUEST];
    guint n = 0, turns = 0;
    (void)data;
    while (n < 2000) {
        guint32 head, len;
        while (n < 2000 && (guint16)(driver->available - driver->seen) < FRONT_RING) {
            fake_front_guest_sends(f, (guint16)n, FRAME_BYTES, (guint8)n);
            n++;
        }
        g_main_context_iteration(NULL, TRUE);
        turns++;
        while (ring_driver_used(driver, &head, &len)) {
        }
    }
    fake_front_settle();
    g_assert_cmpuint(f->got->len, ==, 2000);
    g_assert_cmpuint(turns, >=, 2000 / FRONT_RING);
}

/* ---- Pauses ---- */

/* What was sent before is handed out before QEMU is answered; nothing is written after. */
static void test_pause(FakeFront *f, gconstpointer data)
{
    (void)data;
    for (guint16 n = 0; n < 5; n++)
        fake_front_guest_sends(f, n, FRAME_BYTES, (guint8)n);
    g_assert_cmpuint(f->got->len, ==, 0);
    g_assert_cmpuint(fake_front_stop_ring(f, VHOST_FROM_GUEST), ==, 5);
    g_assert_cmpuint(f->got->len, ==, 5);
    fake_front_guest_offers(f, 0);
    g_assert_cmpuint(fake_front_stop_ring(f, VHOST_TO_GUEST), ==, 0);
    fake_front_settle();
    take_marks(f);
    g_assert_false(vhost_card_has_room(f->card, FRAME_BYTES));
    give(f, 7, TRUE);
    fake_front_guest_sends(f, 5, FRAME_BYTES, 5);
    vhost_card_drain(f->card);
    fake_front_settle();
    g_assert_cmpuint(take_marks(f), ==, 0);
    g_assert_cmpuint(f->got->len, ==, 5);
    /* It goes on where it was, without a kick; what waited comes first. */
    fake_front_start(f, 0, 5);
    fake_front_settle();
    g_assert_cmpuint(f->got->len, ==, 6);
    assert_sent(f, 5, FRAME_BYTES, 5);
    assert_received(f, 7);
    g_assert_cmpuint(f->rooms, ==, 1);
    g_assert_false(vhost_card_has_room(f->card, FRAME_BYTES));
    fake_front_guest_offers(f, 1);
    fake_front_settle();
    g_assert_cmpuint(f->rooms, ==, 2);
    g_assert_cmpuint(vhost_card_stats(f->card)->starts, ==, 4);
}

/* QEMU has said by another way that the VM runs: its messages are there, though not read. */
static void test_start_is_seen(FakeFront *f, gconstpointer data)
{
    (void)data;
    fake_front_guest_offers(f, 0);
    fake_front_set(f, VHOST_SET_FEATURES, f->features);
    guint64 table[] = {1, FRONT_GUEST, FRONT_RAM_BYTES, FRONT_USER, 0};
    fake_front_send(f, VHOST_SET_MEM_TABLE, 0, table, sizeof(table), &f->ram.memfd, 1);
    fake_front_set_ring(f, VHOST_SET_VRING_ENABLE, VHOST_TO_GUEST, 1);
    fake_front_start_ring(f, VHOST_TO_GUEST, 0);
    give(f, 9, TRUE);
    assert_received(f, 9);
}

static void test_disabled(FakeFront *f, gconstpointer data)
{
    (void)data;
    fake_front_set_ring(f, VHOST_SET_VRING_ENABLE, VHOST_FROM_GUEST, 0);
    fake_front_ask(f, VHOST_GET_FEATURES);
    fake_front_guest_sends(f, 0, FRAME_BYTES, 1);
    fake_front_settle();
    g_assert_cmpuint(f->got->len, ==, 0);
    fake_front_set_ring(f, VHOST_SET_VRING_ENABLE, VHOST_FROM_GUEST, 1);
    fake_front_ask(f, VHOST_GET_FEATURES);
    fake_front_settle();
    g_assert_cmpuint(f->got->len, ==, 1);
}

/* Until somebody wants them, frames stay in the ring. */
static void test_no_owner(FakeFront *f, gconstpointer data)
{
    (void)data;
    vhost_card_set_handler(f->card, NULL, NULL);
    for (guint16 n = 0; n < 5; n++)
        fake_front_guest_sends(f, n, FRAME_BYTES, (guint8)n);
    fake_front_settle();
    g_assert_cmpuint(f->got->len, ==, 0);
    fake_front_attach(f);
    fake_front_settle();
    g_assert_cmpuint(f->got->len, ==, 5);
}

/* Each page that changes is marked: what the guest has sent, and been given, all along. */
static void test_marks(FakeFront *f, gconstpointer data)
{
    g_autofree guint8 *before = g_malloc(FRONT_RAM_BYTES);
    (void)data;
    take_marks(f);
    for (guint16 n = 0; n < 200; n++) {
        memcpy(before, f->ram.base, FRONT_RAM_BYTES);
        guint64 ours = 0;
        if (n % 2)
            give(f, (guint8)n, TRUE);
        fake_front_settle();
        for (guint page = 0; page < 64; page++)
            if (memcmp(before + page * VM_PAGE_SIZE, f->ram.base + page * VM_PAGE_SIZE,
                       VM_PAGE_SIZE))
                ours |= 1ull << page;
        g_assert_cmpuint(ours & ~take_marks(f), ==, 0);
        if (n % 2 == 0)
            fake_front_guest_offers(f, n);
        fake_front_guest_sends(f, n, FRAME_BYTES, (guint8)n);
        guint32 head, len;
        while (ring_driver_used(&f->drivers[VHOST_FROM_GUEST], &head, &len)) {
        }
        g_bytes_unref(fake_front_guest_got(f));
    }
}

/* ---- The guest breaks rules ---- */

static void test_broken(FakeFront *f, gconstpointer data)
{
    (void)data;
    for (guint round = 0; round < 3; round++) {
        guint16 before = f->drivers[VHOST_FROM_GUEST].available;
        ring_driver_offer(&f->drivers[VHOST_FROM_GUEST], 900);
        g_assert_true(ring_driver_must_kick(&f->drivers[VHOST_FROM_GUEST], before));
        g_assert_cmpint(eventfd_write(f->kicks[VHOST_FROM_GUEST], 1), ==, 0);
        fake_front_settle();
        g_assert_cmpuint(f->broken->len, ==, round + 1);
        g_assert_nonnull(strstr(g_ptr_array_index(f->broken, round), "by which it sends"));
        /* The other ring works on. */
        fake_front_guest_offers(f, 0);
        give(f, 1, TRUE);
        assert_received(f, 1);
        /* Told once; the driver starts it again, which resets it. */
        eventfd_write(f->kicks[VHOST_FROM_GUEST], 1);
        vhost_card_drain(f->card);
        fake_front_settle();
        g_assert_cmpuint(f->broken->len, ==, round + 1);
        fake_front_stop_ring(f, VHOST_FROM_GUEST);
        fake_front_stop_ring(f, VHOST_TO_GUEST);
        fake_front_reset_driver(f);
        fake_front_start(f, 0, 0);
        fake_front_settle();
        fake_front_guest_sends(f, 0, FRAME_BYTES, 3);
        fake_front_settle();
        assert_sent(f, round, FRAME_BYTES, 3);
    }
}

/* What is given to a card whose driver has broken it is dropped, and its owner keeps nothing for it. */
static void test_broken_input(FakeFront *f, gconstpointer data)
{
    (void)data;
    ring_driver_offer(&f->drivers[VHOST_TO_GUEST], 900);
    give(f, 1, TRUE);
    g_assert_cmpuint(f->broken->len, ==, 1);
    g_assert_nonnull(strstr(g_ptr_array_index(f->broken, 0), "by which it receives"));
    g_assert_true(vhost_card_has_room(f->card, FRAME_BYTES));
    give(f, 1, FALSE);
    g_assert_cmpuint(vhost_card_stats(f->card)->input_dropped, ==, 1);
}

/* Rings that are not in RAM, or are none, are told of. */
static void test_bad_places(FakeFront *f, gconstpointer data)
{
    (void)data;
    RingDriver *driver = &f->drivers[VHOST_FROM_GUEST];
    fake_front_stop_ring(f, VHOST_FROM_GUEST);
    guint64 used = driver->used;
    driver->used = FRONT_RAM_BYTES - 8;
    fake_front_start_ring(f, VHOST_FROM_GUEST, 0);
    fake_front_ask(f, VHOST_GET_FEATURES);
    g_assert_cmpuint(f->broken->len, ==, 1);
    g_assert_nonnull(strstr(g_ptr_array_index(f->broken, 0), "not in RAM"));
    fake_front_stop_ring(f, VHOST_FROM_GUEST);
    driver->used = used;
    driver->size = 2048;
    fake_front_start_ring(f, VHOST_FROM_GUEST, 0);
    fake_front_ask(f, VHOST_GET_FEATURES);
    g_assert_cmpuint(f->broken->len, ==, 2);
    g_assert_nonnull(strstr(g_ptr_array_index(f->broken, 1), "2048"));
    fake_front_settle();
    g_assert_no_error(f->failure);
}

/* A table of memory that no longer has the rings: QEMU's mistake, and nothing is read there. */
static void test_memory_goes(FakeFront *f, gconstpointer data)
{
    (void)data;
    fake_front_set_memory(f); /* the same again: nothing happens */
    g_assert_cmpuint(f->broken->len, ==, 0);
    guint64 table[] = {1, FRONT_GUEST, VM_PAGE_SIZE, FRONT_USER, 0};
    fake_front_send(f, VHOST_SET_MEM_TABLE, 0, table, sizeof(table), &f->ram.memfd, 1);
    fake_front_ask(f, VHOST_GET_FEATURES);
    g_assert_cmpuint(f->broken->len, ==, 2);
    fake_front_guest_sends(f, 0, FRAME_BYTES, 1);
    fake_front_settle();
    g_assert_cmpuint(f->got->len, ==, 0);
}

/* Memory that is no RAM, or lies outside of it, is left out. */
static void test_other_memory(FakeFront *f, gconstpointer data)
{
    int other = memfd_create("other", MFD_CLOEXEC);
    (void)data;
    g_assert_cmpint(ftruncate(other, FRONT_RAM_BYTES), ==, 0);
    fake_front_set(f, VHOST_SET_FEATURES, f->features);
    for (guint i = 0; i < 3; i++) {
        guint64 table[] = {1, FRONT_GUEST, i == 1 ? FRONT_RAM_BYTES + 1 : FRONT_RAM_BYTES,
                           FRONT_USER, i == 2 ? 4096 : 0};
        fake_front_send(f, VHOST_SET_MEM_TABLE, 0, table, sizeof(table), i ? &f->ram.memfd : &other,
                        1);
        fake_front_set_ring(f, VHOST_SET_VRING_ENABLE, VHOST_FROM_GUEST, 1);
        fake_front_start_ring(f, VHOST_FROM_GUEST, 0);
        fake_front_ask(f, VHOST_GET_FEATURES);
        g_assert_cmpuint(f->broken->len, ==, i + 1);
        fake_front_stop_ring(f, VHOST_FROM_GUEST);
    }
    colo_fd_close(&other);
}

/* ---- QEMU ---- */

static void test_closed(FakeFront *f, gconstpointer data)
{
    (void)data;
    take_marks(f);
    fake_front_guest_offers(f, 0);
    colo_fd_close(&f->fd);
    fake_front_settle();
    g_assert_error(f->failure, VHOST_ERROR, VHOST_ERROR_CLOSED);
    g_assert_true(vhost_card_has_room(f->card, FRAME_BYTES));
    give(f, 1, FALSE);
    vhost_card_drain(f->card);
    g_assert_cmpuint(take_marks(f), ==, 0);
}

static void test_closed_unseen(FakeFront *f, gconstpointer data)
{
    (void)data;
    vhost_card_set_handler(f->card, NULL, NULL);
    colo_fd_close(&f->fd);
    fake_front_settle();
    fake_front_attach(f);
    g_assert_error(f->failure, VHOST_ERROR, VHOST_ERROR_CLOSED);
}

static void test_stopped(FakeFront *f, gconstpointer data)
{
    (void)data;
    take_marks(f);
    vhost_card_stop(f->card);
    fake_front_guest_offers(f, 0);
    fake_front_guest_sends(f, 0, FRAME_BYTES, 1);
    give(f, 1, FALSE);
    vhost_card_drain(f->card);
    colo_fd_close(&f->fd);
    fake_front_settle();
    g_assert_cmpuint(take_marks(f), ==, 0);
    g_assert_cmpuint(f->got->len, ==, 0);
    g_assert_no_error(f->failure);
}

static void test_garbage(FakeFront *f, gconstpointer data)
{
    static const guint32 garbage[] = {99, 1, 0};
    (void)data;
    f->free_in_failed = TRUE;
    g_assert_cmpint(write(f->fd, garbage, sizeof(garbage)), ==, sizeof(garbage));
    fake_front_settle();
    g_assert_error(f->failure, VHOST_ERROR, VHOST_ERROR_MESSAGE);
    g_assert_null(f->card);
}

static void test_too_many_fds(FakeFront *f, gconstpointer data)
{
    int fds[9];
    guint64 table[1 + 8 * 4] = {8};
    (void)data;
    for (guint i = 0; i < 9; i++)
        fds[i] = f->ram.memfd;
    fake_front_send(f, VHOST_SET_MEM_TABLE, 0, table, sizeof(table), fds, 9);
    fake_front_settle();
    g_assert_error(f->failure, VHOST_ERROR, VHOST_ERROR_MESSAGE);
}

/* A message in pieces, and several at once. */
static void test_pieces(FakeFront *f, gconstpointer data)
{
    guint32 two[] = {VHOST_SET_FEATURES, 9, 8, 0, 0, VHOST_GET_FEATURES, 1, 0};
    const guint8 *bytes = (const guint8 *)two;
    (void)data;
    for (gsize i = 0; i < sizeof(two); i++) {
        g_assert_cmpint(write(f->fd, bytes + i, 1), ==, 1);
        fake_front_settle();
    }
    g_assert_cmpuint(fake_front_answer(f, VHOST_SET_FEATURES), ==, 0);
    g_assert_cmpuint(fake_front_answer(f, VHOST_GET_FEATURES), !=, 0);
    g_assert_cmpint(write(f->fd, two, sizeof(two)), ==, sizeof(two));
    g_assert_cmpuint(fake_front_answer(f, VHOST_SET_FEATURES), ==, 0);
    g_assert_cmpuint(fake_front_answer(f, VHOST_GET_FEATURES), !=, 0);
    g_assert_no_error(f->failure);
}

static void test_free_in_output(FakeFront *f, gconstpointer data)
{
    (void)data;
    f->free_in_output = TRUE;
    fake_front_guest_sends(f, 0, FRAME_BYTES, 1);
    fake_front_guest_sends(f, 1, FRAME_BYTES, 1);
    fake_front_settle();
    g_assert_cmpuint(f->got->len, ==, 1);
    g_assert_null(f->card);
}

static void test_free_at_stop(FakeFront *f, gconstpointer data)
{
    (void)data;
    f->free_in_output = TRUE;
    fake_front_guest_sends(f, 0, FRAME_BYTES, 1);
    fake_front_set_ring(f, VHOST_GET_VRING_BASE, VHOST_FROM_GUEST, 0);
    fake_front_settle();
    g_assert_null(f->card);
}

static void test_drain_in_output(FakeFront *f, gconstpointer data)
{
    (void)data;
    f->drain_in_output = TRUE;
    for (guint16 n = 0; n < 5; n++)
        fake_front_guest_sends(f, n, FRAME_BYTES, (guint8)n);
    vhost_card_drain(f->card);
    g_assert_cmpuint(f->got->len, ==, 5);
    for (guint16 n = 0; n < 5; n++)
        assert_sent(f, n, FRAME_BYTES, (guint8)n);
    /* It is still asked for kicks. */
    fake_front_settle();
    fake_front_guest_sends(f, 5, FRAME_BYTES, 5);
    fake_front_settle();
    g_assert_cmpuint(f->got->len, ==, 6);
}

/* ---- The socket ---- */

static void test_listens(FakeFront *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int path = -1;
    (void)data;
    g_autoptr(VhostCard) card = vhost_card_new(&f->ram, &path, &error);
    g_assert_no_error(error);
    g_snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d", path);
    COLO_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    static const guint32 ask[] = {VHOST_GET_FEATURES, 1, 0};
    g_assert_cmpint(write(fd, ask, sizeof(ask)), ==, sizeof(ask));
    guint8 answer[20];
    while (recv(fd, answer, sizeof(answer), MSG_DONTWAIT) < 0)
        g_main_context_iteration(NULL, TRUE);
    /* Nobody else can connect. */
    COLO_AUTO_FD second = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(connect(second, (struct sockaddr *)&address, sizeof(address)), <, 0);
    colo_fd_close(&path);
}

#define ADD(name, begin, func)                                                                     \
    g_test_add("/vhost-card/" name, FakeFront, NULL, begin, func, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("output", setup_started, test_output);
    ADD("input", setup_started, test_input);
    ADD("turn", setup_started, test_turn);
    ADD("not-taken", setup_started, test_not_taken);
    ADD("freed-as-asked", setup_started, test_freed_as_asked);
    ADD("no-room", setup_started, test_no_room);
    ADD("queue-is-bounded", setup_started, test_queue_is_bounded);
    ADD("budget", setup_started, test_budget);
    ADD("pause", setup_started, test_pause);
    ADD("start-is-seen", setup, test_start_is_seen);
    ADD("disabled", setup_started, test_disabled);
    ADD("no-owner", setup_started, test_no_owner);
    ADD("marks", setup_started, test_marks);
    ADD("broken", setup_started, test_broken);
    ADD("broken-input", setup_started, test_broken_input);
    ADD("bad-places", setup_started, test_bad_places);
    ADD("memory-goes", setup_started, test_memory_goes);
    ADD("other-memory", setup, test_other_memory);
    ADD("closed", setup_started, test_closed);
    ADD("closed-unseen", setup_started, test_closed_unseen);
    ADD("stopped", setup_started, test_stopped);
    ADD("garbage", setup, test_garbage);
    ADD("too-many-fds", setup, test_too_many_fds);
    ADD("pieces", setup, test_pieces);
    ADD("free-in-output", setup_started, test_free_in_output);
    ADD("free-at-stop", setup_started, test_free_at_stop);
    ADD("drain-in-output", setup_started, test_drain_in_output);
    ADD("listens", setup, test_listens);
    return g_test_run();
}
