/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/traffic.h"

#include "common/log.h"

/* Input that waits for the end of a pause, at most. */
#define DEFERRED_LIMIT_BYTES (16 * 1024 * 1024)
/* Input that waits for room in a card, at most, for each card. */
#define ROOM_LIMIT_BYTES (4 * 1024 * 1024)

struct Traffic {
    TrafficHandler handler;
    gpointer user_data;
    Route route; /* step() sets it, and nobody else */
    Gate *gate;
    Backlog *leaving;    /* released and mapped; waits for the last look */
    Backlog *deferred;   /* tag: the epoch in which it was mirrored; 0: not yet */
    GPtrArray *roomless; /* of Backlog*, by card: waits for room; tags as in `deferred` */
    Rewrite *rewrite;    /* NULL: nothing is mapped */
    gboolean drops;      /* of what waits for the last look, since that was empty */
    gboolean refused;    /* output that was to stay in the guest, and wasn't wanted since */
    guint64 mirrored, mirror_congested;
};

static TrafficWorld look(const Traffic *traffic)
{
    return traffic->handler.look(traffic->user_data);
}

/* ---- On the way out ---- */

/* The last look. */
static gboolean may_leave(const Traffic *traffic)
{
    TrafficWorld world = look(traffic);
    switch (route_exit(world.state, world.is_held)) {
    case ROUTE_EXIT_CLOSED:
        return FALSE;
    case ROUTE_EXIT_FRESH:
        return traffic->handler.is_fresh(traffic->user_data);
    case ROUTE_EXIT_OPEN:
        break;
    }
    return TRUE;
}

void traffic_let_leave(Traffic *traffic)
{
    while (backlog_first(traffic->leaving) && may_leave(traffic)) {
        gsize len;
        g_autoptr(BacklogFrame) frame =
            backlog_take(traffic->leaving, backlog_first(traffic->leaving));
        const guint8 *data = g_bytes_get_data(frame->data, &len);
        traffic->handler.send(frame->nic, data, len, traffic->user_data);
    }
    traffic->drops &= traffic_awaits_link(traffic);
}

static void wait_for_link(Traffic *traffic, unsigned nic, GBytes *frame)
{
    guint64 before = backlog_stats(traffic->leaving)->dropped;
    backlog_add(traffic->leaving, nic, 0, frame);
    if (traffic->drops || backlog_stats(traffic->leaving)->dropped == before)
        return;
    log_warning("output that was released waits for proof that the secondary is there, and has "
                "reached twice output-limit: the oldest frames are dropped");
    traffic->drops = TRUE;
}

/* As clients are to see it. `data` is of `frame`, or that is NULL. */
static void leave(Traffic *traffic, unsigned nic, const guint8 *data, gsize len, GBytes *frame)
{
    traffic_let_leave(traffic);
    if (!traffic_awaits_link(traffic) && may_leave(traffic)) {
        traffic->handler.send(nic, data, len, traffic->user_data);
        return;
    }
    g_autoptr(GBytes) kept = frame ? g_bytes_ref(frame) : g_bytes_new(data, len);
    wait_for_link(traffic, nic, kept);
}

static GBytes *map(const Traffic *traffic, unsigned nic, GBytes *frame)
{
    return traffic->rewrite ? rewrite_map_output(traffic->rewrite, nic, frame) : g_bytes_ref(frame);
}

static void leave_frame(Traffic *traffic, unsigned nic, GBytes *frame)
{
    gsize len;
    const guint8 *data = g_bytes_get_data(frame, &len);
    leave(traffic, nic, data, len, frame);
}

void traffic_release(Traffic *traffic, unsigned nic, GBytes *frame)
{
    g_autoptr(GBytes) mapped = map(traffic, nic, frame);
    leave_frame(traffic, nic, mapped);
}

void traffic_release_mapped(Traffic *traffic, unsigned nic, GBytes *frame)
{
    leave_frame(traffic, nic, frame);
}

static void on_released(unsigned nic, GBytes *frame, gpointer user_data)
{
    traffic_release(user_data, nic, frame);
}

/* The gate has room again, or isn't in the way any more. */
static void take_again(Traffic *traffic)
{
    if (!traffic->refused)
        return;
    traffic->refused = FALSE;
    traffic->handler.takes_again(traffic->user_data);
}

void traffic_release_before(Traffic *traffic, guint64 epoch)
{
    gate_release(traffic->gate, epoch);
    take_again(traffic);
}

/* ---- The route ---- */

Route traffic_route(const Traffic *traffic)
{
    return traffic->route;
}

/* The only one who sets it. */
static void step(Traffic *traffic, RouteEvent event)
{
    Route before = traffic->route, next;
    if (!route_step(before, event, &next))
        g_error("output: %s on route %s in state %s of a %s", route_event_name(event),
                route_name(before), fsm_state_name(look(traffic).state),
                fsm_is_primary(look(traffic).state) ? "primary" : "secondary");
    if (next == before)
        return;
    log_debug("output: %s -> %s (%s)", route_name(before), route_name(next),
              route_event_name(event));
    traffic->route = next;
    gate_set_open(traffic->gate, next == ROUTE_OPEN);
    take_again(traffic);
}

/*
 * In the order in which the guest has sent it: what waits for the link, in the gate since before
 * this epoch, for the comparator, in the gate. The gate has older frames than the comparator if the
 * secondary doesn't have the checkpoint yet that begins to compare.
 */
static void open_by(Traffic *traffic, RouteEvent event)
{
    traffic_let_leave(traffic);
    gate_release(traffic->gate, look(traffic).epoch);
    traffic->handler.opening(traffic->user_data);
    step(traffic, event);
}

void traffic_open(Traffic *traffic)
{
    open_by(traffic, ROUTE_ALONE);
}

void traffic_take_over(Traffic *traffic)
{
    open_by(traffic, ROUTE_TAKES_OVER);
}

void traffic_pause(Traffic *traffic)
{
    step(traffic, ROUTE_PAUSED);
}

void traffic_begin_epoch(Traffic *traffic, gboolean compares)
{
    step(traffic, compares ? ROUTE_EPOCH_COMPARES : ROUTE_EPOCH_HOLDS);
}

void traffic_end_session(Traffic *traffic)
{
    step(traffic, ROUTE_SESSION_ENDS);
}

void traffic_begin_copy(Traffic *traffic)
{
    step(traffic, ROUTE_COPY_BEGINS);
}

void traffic_end_copy(Traffic *traffic)
{
    step(traffic, ROUTE_COPY_ENDS);
}

void traffic_forget(Traffic *traffic)
{
    step(traffic, ROUTE_VM_GONE);
    gate_discard(traffic->gate);
    backlog_clear(traffic->leaving);
    backlog_clear(traffic->deferred);
    for (guint i = 0; i < traffic->roomless->len; i++)
        backlog_clear(g_ptr_array_index(traffic->roomless, i));
    traffic_forget_maps(traffic);
}

/* ---- Output ---- */

static void want_room(const Traffic *traffic, gboolean full, const char *fate)
{
    if (look(traffic).limit_wanted)
        return;
    if (full)
        log_warning(
            "held output has reached output-limit: %s until the next checkpoint is complete", fate);
    traffic->handler.wanted(REASON_OUTPUT_LIMIT, traffic->user_data);
}

gboolean traffic_takes_output(Traffic *traffic, gsize len)
{
    if (traffic->route != ROUTE_HOLD || gate_fits(traffic->gate, len))
        return TRUE;
    gboolean is_first = !traffic->refused;
    traffic->refused = TRUE;
    want_room(traffic, is_first, "the guest's cards send nothing");
    return FALSE;
}

static void hold(Traffic *traffic, unsigned nic, const guint8 *data, gsize len)
{
    gboolean was_waiting = traffic_awaits_checkpoint(traffic);
    GateResult result = gate_add(traffic->gate, nic, look(traffic).epoch, data, len);
    if (result == GATE_HELD) {
        if (!was_waiting)
            traffic->handler.held(traffic->user_data);
        return;
    }
    want_room(traffic, result == GATE_FULL, "frames are dropped");
}

/* Of a guest whose TCP numbers may be mapped. */
static GBytes *observed(Traffic *traffic, unsigned nic, const guint8 *data, gsize len)
{
    GBytes *frame = g_bytes_new(data, len);
    if (traffic->rewrite)
        rewrite_observe(traffic->rewrite, nic, frame);
    return frame;
}

static void send_out(Traffic *traffic, unsigned nic, const guint8 *data, gsize len)
{
    if (!traffic->rewrite) {
        leave(traffic, nic, data, len, NULL);
        return;
    }
    g_autoptr(GBytes) frame = observed(traffic, nic, data, len);
    traffic_release(traffic, nic, frame);
}

void traffic_output(Traffic *traffic, unsigned nic, const guint8 *data, gsize len)
{
    switch (traffic->route) {
    case ROUTE_DROP:
    case ROUTES:
        return;
    case ROUTE_TO_PEER:
        traffic->handler.to_peer(nic, data, len, traffic->user_data);
        return;
    case ROUTE_HOLD:
        if (traffic->rewrite)
            g_bytes_unref(observed(traffic, nic, data, len));
        hold(traffic, nic, data, len);
        return;
    case ROUTE_COMPARE: {
        g_autoptr(GBytes) frame = observed(traffic, nic, data, len);
        traffic->handler.compare(nic, look(traffic).epoch, frame, traffic->user_data);
        return;
    }
    case ROUTE_OPEN:
        send_out(traffic, nic, data, len);
        return;
    }
}

gboolean traffic_awaits_checkpoint(const Traffic *traffic)
{
    return gate_stats(traffic->gate)->frames > 0;
}

gboolean traffic_awaits_link(const Traffic *traffic)
{
    return backlog_first(traffic->leaving) != NULL;
}

typedef struct {
    const Traffic *traffic;
    GPtrArray *frames; /* of HeldFrame* */
    gsize bytes;
} HeldFrames;

/*
 * Takes `data`, as clients are to see it. More than a checkpoint can carry may wait in three places:
 * the newest stay behind. After a takeover they are missed like frames that a network has lost.
 */
static void add_held(HeldFrames *to, unsigned nic, GBytes *data)
{
    gsize bytes = to->bytes + g_bytes_get_size(data);
    if (to->frames->len == CHECKPOINT_FRAMES_MAX || bytes > CHECKPOINT_FRAMES_BYTES_MAX) {
        g_bytes_unref(data);
        return;
    }
    checkpoint_frames_add(to->frames, nic, data);
    to->bytes = bytes;
}

/* The secondary, which will send it, need not know how it is mapped. */
static void add_unmapped(unsigned nic, GBytes *frame, gpointer user_data)
{
    HeldFrames *to = user_data;
    add_held(to, nic, map(to->traffic, nic, frame));
}

static void add_of_gate(unsigned nic, guint64 epoch, GBytes *frame, gpointer user_data)
{
    (void)epoch;
    add_unmapped(nic, frame, user_data);
}

GPtrArray *traffic_held_frames(const Traffic *traffic, guint64 epoch)
{
    GPtrArray *frames = checkpoint_frames_new();
    HeldFrames to = {.traffic = traffic, .frames = frames};
    for (const BacklogFrame *frame = backlog_first(traffic->leaving); frame;
         frame = backlog_next(frame))
        add_held(&to, frame->nic, g_bytes_ref(frame->data));
    gate_foreach(traffic->gate, epoch, add_of_gate, &to);
    traffic->handler.each_compared(epoch, add_unmapped, &to, traffic->user_data);
    return frames;
}

/* ---- Input ---- */

void traffic_give(Traffic *traffic, unsigned nic, const guint8 *data, gsize len)
{
    if (!traffic->rewrite) {
        traffic->handler.give(nic, data, len, traffic->user_data);
        return;
    }
    g_autoptr(GBytes) frame = g_bytes_new(data, len);
    rewrite_input(traffic->rewrite, nic, frame);
}

static void mirror(Traffic *traffic, unsigned nic, const guint8 *data, gsize len)
{
    TrafficWorld world = look(traffic);
    if (!route_mirrors(traffic->route, world.has_session))
        return;
    if (traffic->handler.mirror(nic, world.epoch, data, len, traffic->user_data))
        traffic->mirrored++;
    else
        traffic->mirror_congested++;
}

/*
 * The copy has the frame as input of this epoch. Of one that has ended that is nothing: the copy has
 * dropped what it had of that, and the checkpoint has it neither, for the guest hasn't been given it.
 */
static gboolean is_mirrored(const Traffic *traffic, guint64 mirrored_in)
{
    return mirrored_in && mirrored_in == look(traffic).epoch;
}

static void mirror_backlog(Traffic *traffic, const Backlog *backlog)
{
    for (BacklogFrame *frame = backlog_first(backlog); frame; frame = backlog_next(frame)) {
        gsize len;
        const guint8 *data = g_bytes_get_data(frame->data, &len);
        if (!is_mirrored(traffic, frame->tag))
            mirror(traffic, frame->nic, data, len);
        frame->tag = look(traffic).epoch;
    }
}

void traffic_mirror_deferred(Traffic *traffic)
{
    for (guint i = 0; i < traffic->roomless->len; i++)
        mirror_backlog(traffic, g_ptr_array_index(traffic->roomless, i));
    mirror_backlog(traffic, traffic->deferred);
}

/* ---- Room in the guest's cards ---- */

/* Never NULL. */
static Backlog *roomless(const Traffic *traffic, unsigned nic)
{
    while (traffic->roomless->len <= nic)
        g_ptr_array_add(traffic->roomless, backlog_new(ROOM_LIMIT_BYTES));
    return g_ptr_array_index(traffic->roomless, nic);
}

static gboolean has_room(const Traffic *traffic, unsigned nic, gsize len)
{
    return traffic->handler.has_room(nic, len, traffic->user_data);
}

/* There is room. */
static void give_now(Traffic *traffic, unsigned nic, guint64 mirrored_in, const guint8 *data,
                     gsize len)
{
    traffic_give(traffic, nic, data, len);
    if (!is_mirrored(traffic, mirrored_in))
        mirror(traffic, nic, data, len);
}

/* After what waits. */
static void give_in_turn(Traffic *traffic, unsigned nic, guint64 mirrored_in, const guint8 *data,
                         gsize len)
{
    Backlog *waiting = roomless(traffic, nic);
    if (!backlog_first(waiting) && has_room(traffic, nic, len)) {
        give_now(traffic, nic, mirrored_in, data, len);
        return;
    }
    g_autoptr(GBytes) frame = g_bytes_new(data, len);
    backlog_add(waiting, nic, mirrored_in, frame);
}

/* To ask for room is to read what QEMU says. That may end the VM, and then nothing waits any more. */
static void give_roomless(Traffic *traffic, unsigned nic)
{
    Backlog *waiting = roomless(traffic, nic);
    const BacklogFrame *first;
    while ((first = backlog_first(waiting)) &&
           has_room(traffic, nic, g_bytes_get_size(first->data)) && backlog_first(waiting)) {
        gsize len;
        g_autoptr(BacklogFrame) frame = backlog_take(waiting, backlog_first(waiting));
        const guint8 *data = g_bytes_get_data(frame->data, &len);
        give_now(traffic, nic, frame->tag, data, len);
    }
}

static InputRoute input_route(const Traffic *traffic)
{
    TrafficWorld world = look(traffic);
    return route_input(world.state, traffic->route, world.defers_input, world.has_session);
}

void traffic_room(Traffic *traffic, unsigned nic)
{
    InputRoute route = input_route(traffic);
    if (route == INPUT_GIVE || route == INPUT_MIRROR)
        give_roomless(traffic, nic);
}

/* `mirrored_in`: the epoch; 0: it wasn't yet. */
static void defer(Traffic *traffic, unsigned nic, guint64 mirrored_in, const guint8 *data,
                  gsize len)
{
    g_autoptr(GBytes) frame = g_bytes_new(data, len);
    backlog_add(traffic->deferred, nic, mirrored_in, frame);
}

void traffic_input(Traffic *traffic, unsigned nic, const guint8 *data, gsize len)
{
    switch (input_route(traffic)) {
    case INPUT_DROP:
    case INPUT_ROUTES:
        return;
    case INPUT_GIVE:
    case INPUT_MIRROR:
        give_in_turn(traffic, nic, 0, data, len);
        return;
    case INPUT_DEFER:
        defer(traffic, nic, 0, data, len);
        return;
    case INPUT_DEFER_MIRRORED:
        mirror(traffic, nic, data, len);
        defer(traffic, nic, look(traffic).epoch, data, len);
        return;
    case INPUT_QUEUE:
        traffic->handler.queue(nic, data, len, traffic->user_data);
        return;
    }
}

void traffic_give_deferred(Traffic *traffic)
{
    for (guint i = 0; i < traffic->roomless->len; i++)
        give_roomless(traffic, i);
    while (backlog_first(traffic->deferred)) {
        gsize len;
        g_autoptr(BacklogFrame) frame =
            backlog_take(traffic->deferred, backlog_first(traffic->deferred));
        const guint8 *data = g_bytes_get_data(frame->data, &len);
        give_in_turn(traffic, frame->nic, frame->tag, data, len);
    }
}

/* ---- The rewriter ---- */

static void on_deliver(unsigned nic, GBytes *frame, gpointer user_data)
{
    const Traffic *traffic = user_data;
    gsize len;
    const guint8 *data = g_bytes_get_data(frame, &len);
    traffic->handler.give(nic, data, len, traffic->user_data);
}

gboolean traffic_enter_epoch(Traffic *traffic, guint64 epoch, GBytes *maps, GError **error)
{
    if (!traffic->rewrite) {
        RewriteOptions options;
        rewrite_options_init(&options);
        options.hash_seed = (guint64)g_random_int() << 32 | g_random_int();
        traffic->rewrite = rewrite_new(&options, epoch, on_deliver, traffic);
    }
    return rewrite_checkpoint(traffic->rewrite, epoch, maps, error);
}

void traffic_observe(Traffic *traffic, unsigned nic, GBytes *frame)
{
    rewrite_observe(traffic->rewrite, nic, frame);
}

void traffic_note(Traffic *traffic, const CompareNote *note)
{
    rewrite_note(traffic->rewrite, note);
}

void traffic_begin_mapping(Traffic *traffic)
{
    rewrite_takeover(traffic->rewrite);
}

GBytes *traffic_export_maps(Traffic *traffic)
{
    GBytes *maps = traffic->rewrite ? rewrite_export(traffic->rewrite) : NULL;
    if (!maps) /* every connection that needed it has ended */
        traffic_forget_maps(traffic);
    return maps;
}

void traffic_forget_maps(Traffic *traffic)
{
    g_clear_pointer(&traffic->rewrite, rewrite_free);
}

/* ---- Life ---- */

/* Of all input that waits, for whatever. */
static BacklogStats input_stats(const Traffic *traffic)
{
    BacklogStats sum = *backlog_stats(traffic->deferred);
    for (guint i = 0; i < traffic->roomless->len; i++) {
        const BacklogStats *one = backlog_stats(g_ptr_array_index(traffic->roomless, i));
        sum.frames += one->frames;
        sum.bytes += one->bytes;
        sum.dropped += one->dropped;
    }
    return sum;
}

TrafficStats traffic_stats(const Traffic *traffic)
{
    return (TrafficStats){.held = *gate_stats(traffic->gate),
                          .leaving = *backlog_stats(traffic->leaving),
                          .deferred = input_stats(traffic),
                          .mirrored = traffic->mirrored,
                          .mirror_congested = traffic->mirror_congested};
}

Traffic *traffic_new(gsize output_limit_bytes, const TrafficHandler *handler, gpointer user_data)
{
    Traffic *traffic = g_new0(Traffic, 1);
    traffic->handler = *handler;
    traffic->user_data = user_data;
    traffic->gate = gate_new(output_limit_bytes, on_released, traffic);
    traffic->leaving = backlog_new(2 * output_limit_bytes);
    traffic->deferred = backlog_new(DEFERRED_LIMIT_BYTES);
    traffic->roomless = g_ptr_array_new_with_free_func((GDestroyNotify)backlog_free);
    return traffic;
}

void traffic_free(Traffic *traffic)
{
    if (!traffic)
        return;
    gate_free(traffic->gate);
    backlog_free(traffic->leaving);
    backlog_free(traffic->deferred);
    g_ptr_array_unref(traffic->roomless);
    rewrite_free(traffic->rewrite);
    g_free(traffic);
}
