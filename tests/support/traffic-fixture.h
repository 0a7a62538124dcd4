/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A node's traffic between a guest, a network, a peer and a comparator that only write down what
 * reaches them. Include it in the one source file of a test program.
 *
 * Each frame is a TCP segment of one connection, named by its one byte of data. A "+" behind the
 * name says that its numbers were mapped, "?" that they are neither the guest's nor the client's.
 */
#ifndef COLO_TESTS_SUPPORT_TRAFFIC_FIXTURE_H
#define COLO_TESTS_SUPPORT_TRAFFIC_FIXTURE_H

#include "colo/node/traffic.h"
#include "netcompare/packet.h"
#include "tests/support/netframe.h"

#define LIMIT_BYTES (64 * 1024)
#define EPOCH       7u
#define ISN_P       900000u /* the clients' */
#define ISN_S       1000u   /* the guest's */

typedef struct {
    Traffic *traffic;
    TrafficWorld world;
    guint stale; /* so many times yet the link is said not to be fresh; */
    guint fresh; /* then so many times that it is */
    guint asked; /* whether the link is fresh */
    gboolean mirror_has_room;
    gboolean forget_when_asked; /* for room: the VM is gone */
    guint room; /* for so many frames yet in the guest's first card; the others have room always */
    GQueue compared; /* what the comparator holds: GBytes*, all of EPOCH */
    GString *seen;
} Fixture;

/* ---- Frames ---- */

static inline GBytes *segment(gboolean from_guest, char name)
{
    FrameSpec spec = {.vnet = TRUE,
                      .src = from_guest ? 2 : 1,
                      .dst = from_guest ? 1 : 2,
                      .proto = PROTO_TCP,
                      .sport = from_guest ? 80 : 4711,
                      .dport = from_guest ? 4711 : 80,
                      .flags = TCP_ACK,
                      .seq = from_guest ? ISN_S + 1 : 0,
                      .ack = from_guest ? 0 : ISN_P + 1,
                      .data = &name,
                      .len = 1};
    return netframe_new(&spec);
}

/* The name of a frame as it is now, with what its numbers tell. */
static inline void describe(GString *to, const guint8 *data, gsize len)
{
    Packet p;
    packet_parse(data, len, TRUE, 0, &p);
    gboolean from_guest = p.seq != 0;
    guint32 number = from_guest ? p.seq : p.ack;
    guint32 as_sent = from_guest ? ISN_S + 1 : ISN_P + 1;
    guint32 mapped = from_guest ? ISN_P + 1 : ISN_S + 1;
    g_string_append_c(to, (char)p.body[0]);
    if (number != as_sent)
        g_string_append_c(to, number == mapped ? '+' : '?');
}

static inline void saw(Fixture *f, const char *what)
{
    g_string_append_printf(f->seen, "%s%s", f->seen->len ? " " : "", what);
}

static inline void saw_frame(Fixture *f, const char *what, const guint8 *data, gsize len)
{
    saw(f, what);
    describe(f->seen, data, len);
}

static inline void expect(Fixture *f, const char *seen)
{
    g_assert_cmpstr(f->seen->str, ==, seen);
    g_string_truncate(f->seen, 0);
}

/* ---- All around ---- */

static inline TrafficWorld on_look(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->world;
}

static inline gboolean on_is_fresh(gpointer user_data)
{
    Fixture *f = user_data;
    f->asked++;
    if (f->stale > 0) {
        f->stale--;
        return FALSE;
    }
    if (f->fresh == 0)
        return FALSE;
    f->fresh--;
    return TRUE;
}

static inline void on_send(unsigned nic, const guint8 *data, gsize len, gpointer user_data)
{
    (void)nic;
    saw_frame(user_data, "send:", data, len);
}

static inline void on_give(unsigned nic, const guint8 *data, gsize len, gpointer user_data)
{
    Fixture *f = user_data;
    if (nic == 0 && f->room != G_MAXUINT)
        f->room--;
    saw_frame(f, nic ? "other:" : "give:", data, len);
}

static inline gboolean on_has_room(unsigned nic, gsize len, gpointer user_data)
{
    const Fixture *f = user_data;
    g_assert_cmpuint(len, >, NETCOMPARE_VNET_HDR_BYTES);
    if (f->forget_when_asked)
        traffic_forget(f->traffic);
    return nic != 0 || f->room > 0;
}

static inline gboolean on_mirror(unsigned nic, guint64 epoch, const guint8 *data, gsize len,
                                 gpointer user_data)
{
    const Fixture *f = user_data;
    (void)nic;
    g_autofree char *what = g_strdup_printf("mirror@%" G_GUINT64_FORMAT ":", epoch);
    saw_frame(user_data, what, data, len);
    return f->mirror_has_room;
}

static inline void on_to_peer(unsigned nic, const guint8 *data, gsize len, gpointer user_data)
{
    (void)nic;
    saw_frame(user_data, "peer:", data, len);
}

static inline void on_queue(unsigned nic, const guint8 *data, gsize len, gpointer user_data)
{
    (void)nic;
    saw_frame(user_data, "queue:", data, len);
}

static inline void on_compare(unsigned nic, guint64 epoch, GBytes *frame, gpointer user_data)
{
    Fixture *f = user_data;
    gsize len;
    const guint8 *data = g_bytes_get_data(frame, &len);
    (void)nic;
    g_assert_cmpuint(epoch, ==, f->world.epoch);
    saw_frame(f, "compare:", data, len);
    g_queue_push_tail(&f->compared, g_bytes_ref(frame));
}

static inline void on_each_compared(guint64 until, TrafficFrameFunc func, gpointer data,
                                    gpointer user_data)
{
    const Fixture *f = user_data;
    for (const GList *link = until > EPOCH ? f->compared.head : NULL; link; link = link->next)
        func(0, link->data, data);
}

static inline void on_opening(gpointer user_data)
{
    Fixture *f = user_data;
    saw(f, "opening");
    while (!g_queue_is_empty(&f->compared)) {
        g_autoptr(GBytes) frame = g_queue_pop_head(&f->compared);
        traffic_release(f->traffic, 0, frame);
    }
}

static inline void on_wanted(CheckpointReason reason, gpointer user_data)
{
    Fixture *f = user_data;
    saw(f, schedule_reason_name(reason));
    f->world.limit_wanted |= reason == REASON_OUTPUT_LIMIT;
}

static inline void on_held(gpointer user_data)
{
    saw(user_data, "held");
}

static inline void on_takes_again(gpointer user_data)
{
    saw(user_data, "again");
}

static inline void set_up(Fixture *f, gconstpointer data)
{
    static const TrafficHandler handler = {.look = on_look,
                                           .is_fresh = on_is_fresh,
                                           .send = on_send,
                                           .give = on_give,
                                           .has_room = on_has_room,
                                           .mirror = on_mirror,
                                           .to_peer = on_to_peer,
                                           .queue = on_queue,
                                           .compare = on_compare,
                                           .each_compared = on_each_compared,
                                           .opening = on_opening,
                                           .wanted = on_wanted,
                                           .held = on_held,
                                           .takes_again = on_takes_again};
    f->world = (TrafficWorld){.state = FSM_P_COLO, .epoch = EPOCH, .has_session = TRUE};
    f->fresh = G_MAXUINT;
    f->mirror_has_room = TRUE;
    f->room = G_MAXUINT;
    f->seen = g_string_new(NULL);
    f->traffic = traffic_new(data ? GPOINTER_TO_SIZE(data) : LIMIT_BYTES, &handler, f);
}

static inline void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    traffic_free(f->traffic);
    g_queue_clear_full(&f->compared, (GDestroyNotify)g_bytes_unref);
    g_string_free(f->seen, TRUE);
}

/* ---- What a test does ---- */

static inline void guest_sends(Fixture *f, const char *names)
{
    for (; *names; names++) {
        gsize len;
        g_autoptr(GBytes) frame = segment(TRUE, *names);
        const guint8 *data = g_bytes_get_data(frame, &len);
        traffic_output(f->traffic, 0, data, len);
    }
}

static inline void client_sends_to(Fixture *f, unsigned nic, const char *names)
{
    for (; *names; names++) {
        gsize len;
        g_autoptr(GBytes) frame = segment(FALSE, *names);
        const guint8 *data = g_bytes_get_data(frame, &len);
        traffic_input(f->traffic, nic, data, len);
    }
}

static inline void client_sends(Fixture *f, const char *names)
{
    client_sends_to(f, 0, names);
}

/* A node's way to the route, on which nothing waits. */
static inline void go(Fixture *f, Route route)
{
    if (route == ROUTE_TO_PEER)
        traffic_begin_copy(f->traffic);
    if (route != ROUTE_DROP && route != ROUTE_TO_PEER)
        traffic_open(f->traffic);
    if (route == ROUTE_HOLD || route == ROUTE_COMPARE)
        traffic_pause(f->traffic);
    if (route == ROUTE_COMPARE)
        traffic_begin_epoch(f->traffic, TRUE);
    g_assert_cmpint(traffic_route(f->traffic), ==, route);
    g_string_truncate(f->seen, 0);
}

/* A copy whose guest has another number than the primary's, which is known. */
static inline void copy_with_map(Fixture *f)
{
    Packet p;
    gsize len;
    g_autoptr(GBytes) frame = segment(TRUE, '-');
    const guint8 *data = g_bytes_get_data(frame, &len);
    packet_parse(data, len, TRUE, 0, &p);
    const CompareNote note = {
        .key = p.key, .epoch = EPOCH, .has_isn = TRUE, .pvm_isn = ISN_P, .svm_isn = ISN_S};
    f->world.state = FSM_S_COLO;
    go(f, ROUTE_TO_PEER);
    g_assert_true(traffic_enter_epoch(f->traffic, EPOCH, NULL, NULL));
    FrameSpec spec = {.vnet = TRUE,
                      .src = 2,
                      .dst = 1,
                      .proto = PROTO_TCP,
                      .sport = 80,
                      .dport = 4711,
                      .flags = TCP_SYN | TCP_ACK,
                      .seq = ISN_S,
                      .ack = 1};
    g_autoptr(GBytes) answer = netframe_new(&spec);
    traffic_observe(f->traffic, 0, answer);
    traffic_note(f->traffic, &note);
}

/* `unconfirmed`: what the copy has sent, and may not have left. */
static inline void take_over(Fixture *f, const char *unconfirmed)
{
    f->world.state = FSM_S_DEVICE;
    traffic_begin_mapping(f->traffic);
    for (; *unconfirmed; unconfirmed++) {
        g_autoptr(GBytes) frame = segment(TRUE, *unconfirmed);
        traffic_release(f->traffic, 0, frame);
    }
    traffic_take_over(f->traffic);
}

/* Protected again after that: "a" waits for a fresh proof, and "b" for the next checkpoint. */
static inline void take_over_and_hold(Fixture *f)
{
    copy_with_map(f);
    take_over(f, "");
    f->world.state = FSM_P_COLO;
    traffic_pause(f->traffic);
    guest_sends(f, "a");
    f->fresh = 0;
    traffic_release_before(f->traffic, EPOCH + 1);
    guest_sends(f, "b");
}

static inline void expect_held(const Fixture *f, guint64 epoch, const char *names)
{
    g_autoptr(GString) found = g_string_new(NULL);
    g_autoptr(GPtrArray) frames = traffic_held_frames(f->traffic, epoch);
    for (guint i = 0; i < frames->len; i++) {
        const HeldFrame *frame = g_ptr_array_index(frames, i);
        gsize len;
        const guint8 *data = g_bytes_get_data(frame->data, &len);
        describe(found, data, len);
    }
    g_assert_cmpstr(found->str, ==, names);
}

#endif
