/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A vhost-user card's frames.
 *
 * From the guest: at each kick frames are taken from the ring, FRAMES_PER_TURN at most for a turn of the
 * main loop, so that others get theirs. When the ring is empty a kick is asked for.
 *
 * To the guest: a frame is written to the guest's buffers at once. If there are not enough, it waits
 * here, a kick is asked for, and the frames after it wait too. An owner that asks vhost_card_has_room()
 * before keeps them itself.
 */
#include "common/timer.h"
#include "vm/vhost_internal.h"

#include <sys/eventfd.h>

/* Frames that are taken in one turn, and bytes: after the frame with which there are so many. */
#define FRAMES_PER_TURN 256u
#define BYTES_PER_TURN  (512u * 1024u)
/* Used buffers are given back after so many frames at the latest. */
#define FRAMES_PER_PUBLISH 16u
#define QUEUE_BYTES        (4u * 1024u * 1024u)
/* How often the guest's buffers are looked at for one frame, while the driver adds some. */
#define LOOKS 2u

gboolean vhost_ring_runs(const VhostRing *ring)
{
    return ring->enabled && ring->card->phase == VHOST_CONNECTED && vring_runs(ring->vring);
}

void vhost_publish(VhostRing *ring)
{
    if (vring_publish(ring->vring) && ring->call >= 0)
        eventfd_write(ring->call, 1); /* non-blocking: if it is full, the guest knows */
}

void vhost_tell_broken(VhostRing *ring)
{
    VhostCard *card = ring->card;
    g_autoptr(GError) rule = vring_steal_error(ring->vring);
    if (!rule || !card->has_handler)
        return;
    g_autoptr(GError) error =
        g_error_new(VHOST_ERROR, VHOST_ERROR_RING,
                    "the guest's driver has broken a rule of virtio in the ring by which it %s: %s "
                    "(the ring rests until QEMU starts it again: as the driver does, or after a "
                    "pause)",
                    ring == &card->rings[VHOST_TO_GUEST] ? "receives" : "sends", rule->message);
    vhost_ref(card);
    card->handler.broken(error, card->user_data);
    vhost_unref(card);
}

void vhost_take_turn(VhostCard *card)
{
    if (card->turn)
        colo_timer_set_us(card->turn, 0);
}

/* ---- From the guest ---- */

typedef enum { TURN_EMPTY, TURN_MORE, TURN_ENDED } Turn;

/* Whether its owner wants what the guest has sent next. TRUE if that is no frame. */
static gboolean is_wanted(VhostRing *ring)
{
    const VhostCard *card = ring->card;
    gsize len;
    return !card->handler.takes || vring_look(ring->vring, &len) != VRING_DONE ||
           card->handler.takes(len, card->user_data);
}

/* Hands out one frame. TURN_MORE: there may be another. `bytes`: its length is added. */
static Turn take_one(VhostRing *ring, gsize *bytes)
{
    VhostCard *card = ring->card;
    guint8 *frame = card->frame;
    gsize len;

    if (!vhost_ring_runs(ring) || !card->has_handler || !is_wanted(ring))
        return TURN_ENDED;
    /* To be asked may be its end. */
    if (!vhost_ring_runs(ring))
        return TURN_ENDED;
    VringResult result = vring_take(ring->vring, frame, &len);
    if (result == VRING_EMPTY)
        return vring_runs(ring->vring) ? TURN_EMPTY : TURN_ENDED;
    if (result == VRING_UNFIT) {
        card->stats.output_dropped++;
        return TURN_MORE;
    }
    *bytes += len;
    card->stats.output_frames++;
    card->stats.output_bytes += len - VRING_HEADER_BYTES;
    card->handler.output(frame, len, card->user_data);
    return TURN_MORE;
}

/* Takes up to `budget` frames, or until BYTES_PER_TURN if these are not the `last`. The card is referenced. */
static void take_frames(VhostRing *ring, guint budget, gboolean last)
{
    VhostCard *card = ring->card;
    gsize bytes = 0;
    if (card->busy || card->freed)
        return;
    card->busy = TRUE;
    for (guint n = 0;; n++) {
        if (n == budget || (bytes >= BYTES_PER_TURN && !last)) {
            if (!last)
                vhost_take_turn(card);
            break;
        }
        if (n % FRAMES_PER_PUBLISH == FRAMES_PER_PUBLISH - 1)
            vhost_publish(ring);
        Turn turn = take_one(ring, &bytes);
        if (!vhost_lives(card) || turn == TURN_ENDED)
            break;
        if (turn == TURN_EMPTY && (last || !vring_ask(ring->vring, 0)))
            break;
    }
    card->busy = FALSE;
    if (vhost_lives(card))
        vhost_publish(ring);
    if (!card->freed)
        vhost_tell_broken(ring);
}

void vhost_run_last(VhostRing *ring)
{
    if (ring == &ring->card->rings[VHOST_FROM_GUEST])
        take_frames(ring, ring->place.size, TRUE);
}

void vhost_card_drain(VhostCard *card)
{
    if (card->busy)
        return;
    vhost_ref(card);
    vhost_read_messages(card);
    if (!card->freed)
        take_frames(&card->rings[VHOST_FROM_GUEST], 2 * VRING_SIZE_MAX, TRUE);
    if (!card->freed)
        vhost_take_turn(card); /* asks for a kick again */
    vhost_unref(card);
}

void vhost_card_take_output(VhostCard *card)
{
    vhost_take_turn(card);
}

/* ---- To the guest ---- */

static void count_dropped(VhostCard *card)
{
    card->stats.input_dropped++;
}

/* Writes one frame. FALSE: there is no room now. */
static gboolean put(VhostCard *card, const guint8 *data, gsize len)
{
    VhostRing *ring = &card->rings[VHOST_TO_GUEST];
    if (!vhost_ring_runs(ring))
        return FALSE;
    VringResult result = VRING_EMPTY;
    for (guint look = 0; look < LOOKS && result == VRING_EMPTY; look++) {
        guint waiting = vring_waiting(ring->vring);
        result = vring_put(ring->vring, data, len);
        if (result == VRING_EMPTY && !vring_ask(ring->vring, waiting))
            return FALSE;
    }
    if (result == VRING_EMPTY) {
        vhost_take_turn(card); /* there are more: no kick may come for them */
        return FALSE;
    }
    if (result == VRING_DONE) {
        card->stats.input_frames++;
        card->stats.input_bytes += len - VRING_HEADER_BYTES;
    } else {
        count_dropped(card);
    }
    return TRUE;
}

/* Nothing that is given to it will ever arrive: its driver has broken it, or QEMU is gone. */
static gboolean is_dead(const VhostCard *card)
{
    const VhostRing *ring = &card->rings[VHOST_TO_GUEST];
    return card->phase == VHOST_DEAD || (ring->kick >= 0 && !vring_runs(ring->vring));
}

/* Messages that QEMU sent before it told by another way that the VM runs may not be read yet. */
static void look_for_start(VhostCard *card)
{
    if (!card->busy && !vhost_ring_runs(&card->rings[VHOST_TO_GUEST]))
        vhost_read_messages(card);
}

static gboolean has_buffers(VhostCard *card, gsize len)
{
    VhostRing *ring = &card->rings[VHOST_TO_GUEST];
    if (!g_queue_is_empty(&card->waiting) || !vhost_ring_runs(ring))
        return FALSE;
    for (guint look = 0; look < LOOKS; look++) {
        guint waiting = vring_waiting(ring->vring);
        if (vring_has_room(ring->vring, len))
            return TRUE;
        if (!vring_ask(ring->vring, waiting))
            return FALSE;
    }
    vhost_take_turn(card);
    return FALSE;
}

gboolean vhost_card_has_room(VhostCard *card, gsize len)
{
    vhost_ref(card);
    look_for_start(card);
    gboolean room = is_dead(card) || has_buffers(card, len);
    card->wants_room |= !room;
    vhost_unref(card);
    return room;
}

static gboolean wait_for_room(VhostCard *card, const guint8 *data, gsize len)
{
    if (card->stats.queued_bytes + len > QUEUE_BYTES)
        return FALSE;
    g_queue_push_tail(&card->waiting, g_bytes_new(data, len));
    card->stats.queued_bytes += len;
    return TRUE;
}

/* Buffers were added, or the ring has been started. */
static void put_waiting(VhostCard *card)
{
    while (!g_queue_is_empty(&card->waiting)) {
        gsize len;
        GBytes *frame = g_queue_peek_head(&card->waiting);
        const guint8 *data = g_bytes_get_data(frame, &len);
        if (!put(card, data, len))
            break;
        card->stats.queued_bytes -= len;
        g_bytes_unref(g_queue_pop_head(&card->waiting));
    }
    vhost_publish(&card->rings[VHOST_TO_GUEST]);
}

gboolean vhost_card_give(VhostCard *card, const guint8 *data, gsize len)
{
    gboolean taken = FALSE;
    vhost_ref(card);
    look_for_start(card);
    if (!is_dead(card) && len >= VRING_HEADER_BYTES + 14 && len <= VRING_FRAME_MAX) {
        taken = g_queue_is_empty(&card->waiting) && put(card, data, len);
        if (taken)
            vhost_publish(&card->rings[VHOST_TO_GUEST]);
        else
            taken = wait_for_room(card, data, len);
    }
    if (!taken)
        count_dropped(card);
    if (!card->freed)
        vhost_tell_broken(&card->rings[VHOST_TO_GUEST]);
    vhost_unref(card);
    return taken;
}

void vhost_card_forget(VhostCard *card)
{
    g_queue_clear_full(&card->waiting, (GDestroyNotify)g_bytes_unref);
    card->stats.queued_bytes = 0;
}

static void refill(VhostCard *card)
{
    put_waiting(card);
    vhost_tell_broken(&card->rings[VHOST_TO_GUEST]);
    if (card->freed || !card->wants_room || !g_queue_is_empty(&card->waiting) || !card->has_handler)
        return;
    card->wants_room = FALSE;
    card->handler.room(card->user_data);
}

void vhost_run_ring(VhostRing *ring)
{
    VhostCard *card = ring->card;
    vhost_ref(card);
    if (ring == &card->rings[VHOST_FROM_GUEST])
        take_frames(ring, FRAMES_PER_TURN, FALSE);
    else if (!card->busy)
        refill(card);
    else
        vhost_take_turn(card);
    vhost_unref(card);
}

const VhostStats *vhost_card_stats(const VhostCard *card)
{
    return &card->stats;
}
