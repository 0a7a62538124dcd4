/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two hosts with a comparator and rewriters between two model guests and a client, under a fake
 * clock. The network loses, repeats and reorders, and the link between the hosts stalls. There are
 * checkpoints, divergences, takeovers and new secondaries. The primary dies at any millisecond,
 * with any part of what was on its way. The guests echo. The client has connections that it opens,
 * ports that it uses again, and one that the guest opens.
 *
 * Invariants, checked at every takeover and at every millisecond:
 *   - the survivor has every byte that the client was told is safe;
 *   - the survivor has sent, or will send, every byte that the client has received, and no other;
 *   - no connection is reset, no guest gets an ACK of what it has not sent;
 *   - the survivor's timestamps don't go back behind those that have left;
 *   - in the end every connection has delivered all its bytes and closed.
 *
 * The seed is printed; test-compare-sim SEED [COUNT] runs it again.
 */
#include <stdlib.h>
#include <string.h>

#include "netcompare/compare.h"
#include "netcompare/rewrite.h"
#include "tests/support/echo-model.h"

#define KEPT_FRAMES 300u
#define END_MS      30000

typedef enum { MSG_FRAME, MSG_NOTE, MSG_RECEIVED, MSG_LOADED } MsgType;

typedef struct {
    MsgType type;
    gint64 due;
    guint64 epoch;
    GBytes *frame;
    CompareNote note;
} Msg;

typedef struct Sim Sim;

typedef struct {
    Sim *sim;
    EchoGuest guest;
    Rewrite *rewrite; /* NULL: a primary that has never taken over */
    guint64 epoch;
    GQueue kept;  /* of GBytes: the SVM's output, raw */
    GQueue early; /* of Msg: mirrored frames of an epoch that is not loaded yet */
} Node;

struct Sim {
    EchoRun run;
    Node *nodes[2]; /* primary, secondary */
    Compare *compare;
    gboolean protected, dead, asked;
    guint64 epoch;
    GQueue to_secondary, to_primary;   /* of Msg */
    gint64 link_free, net_free;        /* when the stall is over; when the network works again */
    GQueue net_to_client, net_to_host; /* of Msg, in no order */
    /* the checkpoint on its way */
    gboolean checkpoint, complete, loaded;
    EchoGuest snapshot;
    GBytes *exported;
    gint64 paused_at, complete_at, apply_at;
    gint64 takeover_at, pair_at;
    gboolean lost_notes;
    EchoClient client;
    guint32 released_ts[ECHO_CONNS];
    gboolean has_released_ts[ECHO_CONNS];
    guint takeovers, divergences, checkpoints;
};

static gint32 rnd(Sim *sim, gint32 n)
{
    return echo_rnd(&sim->run, n);
}

static gboolean chance(Sim *sim, gint32 per_mille)
{
    return echo_chance(&sim->run, per_mille);
}

static void msg_free(gpointer data)
{
    Msg *msg = data;
    if (msg->frame != NULL)
        g_bytes_unref(msg->frame);
    g_free(msg);
}

static ColoTime time_of(const Sim *sim)
{
    return (ColoTime){.us = sim->run.now * 1000};
}

/* ---- The network between the client and whoever is primary ---- */

static void net_send(Sim *sim, GQueue *queue, GBytes *frame)
{
    guint copies = chance(sim, 20) ? 2 : 1;

    if (sim->run.now < sim->net_free || chance(sim, 20))
        return;
    while (copies-- > 0) {
        Msg *msg = g_new0(Msg, 1);
        msg->due = sim->run.now + 1 + rnd(sim, 3) + (chance(sim, 50) ? rnd(sim, 20) : 0);
        msg->frame = g_bytes_ref(frame);
        g_queue_push_tail(queue, msg);
    }
}

static void client_emit(GBytes *frame, gpointer user_data)
{
    Sim *sim = user_data;
    net_send(sim, &sim->net_to_host, frame);
}

static void parse(GBytes *frame, Packet *packet)
{
    gsize len;
    const guint8 *data = g_bytes_get_data(frame, &len);
    packet_parse(data, len, FALSE, 0, packet);
    g_assert(packet->has_tcp);
}

static void guest_input(Node *node, GBytes *frame)
{
    Packet packet;
    Sim *sim = node->sim;

    parse(frame, &packet);
    ModelTcp *tcp = &node->guest.tcp[echo_conn_of(&packet, FALSE)];
    model_tcp_input(tcp, &packet, sim->run.now, (guint32)sim->run.now + node->guest.ts_offset);
}

static void on_deliver(unsigned nic, GBytes *frame, gpointer user_data)
{
    (void)nic;
    guest_input(user_data, frame);
}

/* ---- What leaves ---- */

static void note_released(Sim *sim, const Packet *p)
{
    guint i = echo_conn_of(p, TRUE);

    if ((p->flags & TCP_SYN) || !sim->has_released_ts[i] ||
        seq_diff(p->tsval, sim->released_ts[i]) > 0)
        sim->released_ts[i] = p->tsval;
    sim->has_released_ts[i] = TRUE;
}

static void egress(Sim *sim, GBytes *frame)
{
    Rewrite *rewrite = sim->nodes[0]->rewrite;
    g_autoptr(GBytes) out =
        rewrite != NULL ? rewrite_map_output(rewrite, 0, frame) : g_bytes_ref(frame);
    Packet p;

    parse(out, &p);
    /* The primary may have died with a note, or it was not sent: what left before is unknown. */
    gboolean known = !sim->lost_notes && (rewrite == NULL || rewrite_stats(rewrite)->guessed == 0);
    guint i = echo_conn_of(&p, TRUE);
    if (!sim->protected && known && sim->has_released_ts[i] && !(p.flags & TCP_SYN))
        ECHO_CHECK(&sim->run, seq_diff(p.tsval, sim->released_ts[i]) >= 0);
    note_released(sim, &p);
    net_send(sim, &sim->net_to_client, out);
}

static void link_send(Sim *sim, GQueue *queue, MsgType type, guint64 epoch, GBytes *frame,
                      const CompareNote *note)
{
    Msg *msg = g_new0(Msg, 1);
    const Msg *last = g_queue_peek_tail(queue);

    msg->type = type;
    msg->epoch = epoch;
    msg->frame = frame != NULL ? g_bytes_ref(frame) : NULL;
    if (note != NULL)
        msg->note = *note;
    msg->due = MAX(sim->run.now, sim->link_free) + rnd(sim, 3);
    if (last != NULL)
        msg->due = MAX(msg->due, last->due);
    g_queue_push_tail(queue, msg);
}

static void on_release(unsigned nic, guint64 epoch, GBytes *frame, gpointer user_data)
{
    (void)nic;
    (void)epoch;
    egress(user_data, frame);
}

static void on_note(const CompareNote *note, gpointer user_data)
{
    Sim *sim = user_data;
    guint8 bytes[COMPARE_NOTE_BYTES];
    CompareNote copy;

    compare_note_pack(note, bytes);
    g_assert_true(compare_note_unpack(bytes, sizeof(bytes), &copy));
    link_send(sim, &sim->to_secondary, MSG_NOTE, note->epoch, NULL, &copy);
}

static void on_diverged(const CompareDivergence *divergence, gpointer user_data)
{
    Sim *sim = user_data;
    if (sim->run.equal_guests && divergence->reason != COMPARE_MISSING_OUTPUT &&
        divergence->reason != COMPARE_EXTRA_OUTPUT &&
        divergence->reason != COMPARE_SECONDARY_SILENT)
        g_error("seed %u at %d ms: equal guests diverge: %s, %s", sim->run.seed, (int)sim->run.now,
                compare_reason_name(divergence->reason), divergence->detail);
    sim->divergences++;
    sim->asked = TRUE;
}

static void primary_emit(GBytes *frame, gpointer user_data)
{
    Sim *sim = user_data;
    if (sim->nodes[0]->rewrite != NULL)
        rewrite_observe(sim->nodes[0]->rewrite, 0, frame);
    if (sim->protected)
        compare_primary(sim->compare, 0, sim->epoch, frame, time_of(sim));
    else
        egress(sim, frame);
}

static void secondary_emit(GBytes *frame, gpointer user_data)
{
    Sim *sim = user_data;
    Node *node = sim->nodes[1];

    rewrite_observe(node->rewrite, 0, frame);
    g_queue_push_tail(&node->kept, g_bytes_ref(frame));
    if (node->kept.length > KEPT_FRAMES)
        g_bytes_unref(g_queue_pop_head(&node->kept));
    link_send(sim, &sim->to_primary, MSG_FRAME, node->epoch, frame, NULL);
}

/* ---- Checkpoints ---- */

static void checkpoint_start(Sim *sim)
{
    Node *primary = sim->nodes[0];

    sim->checkpoints++;
    sim->checkpoint = TRUE;
    sim->complete = sim->loaded = sim->asked = FALSE;
    sim->epoch++;
    sim->snapshot = primary->guest;
    sim->exported = primary->rewrite != NULL ? rewrite_export(primary->rewrite) : NULL;
    sim->paused_at = sim->run.now;
    sim->complete_at = MAX(sim->run.now, sim->link_free) + 1 + rnd(sim, 30);
    sim->apply_at = sim->complete_at + rnd(sim, 20);
    compare_checkpoint(sim->compare, sim->epoch);
}

static void mirrored(Sim *sim, Msg *msg);

static void secondary_apply(Sim *sim)
{
    Node *node = sim->nodes[1];
    g_autoptr(GError) error = NULL;
    GQueue early = node->early;

    echo_guest_clone(&sim->run, &node->guest, &sim->snapshot, sim->run.now - sim->paused_at);
    node->epoch = sim->epoch;
    g_queue_clear_full(&node->kept, (GDestroyNotify)g_bytes_unref);
    g_assert_true(rewrite_checkpoint(node->rewrite, node->epoch, sim->exported, &error));
    g_clear_pointer(&sim->exported, g_bytes_unref);
    g_queue_init(&node->early);
    for (Msg *msg; (msg = g_queue_pop_head(&early)) != NULL;)
        mirrored(sim, msg);
    sim->checkpoint = FALSE;
}

static void checkpoint_run(Sim *sim)
{
    if (!sim->checkpoint) {
        if (!sim->dead && sim->loaded && (sim->asked || chance(sim, 5)))
            checkpoint_start(sim);
        return;
    }
    if (!sim->dead && !sim->complete && sim->run.now >= sim->complete_at) {
        sim->complete = TRUE;
        link_send(sim, &sim->to_primary, MSG_RECEIVED, sim->epoch, NULL, NULL);
    }
    if (sim->complete && sim->run.now >= sim->apply_at) {
        secondary_apply(sim);
        if (!sim->dead)
            link_send(sim, &sim->to_primary, MSG_LOADED, sim->epoch, NULL, NULL);
    }
}

/* ---- The link ---- */

/* At the secondary. Takes `msg`. */
static void mirrored(Sim *sim, Msg *msg)
{
    Node *node = sim->nodes[1];

    if (msg->epoch > node->epoch) {
        g_queue_push_tail(&node->early, msg);
        return;
    }
    if (msg->type == MSG_NOTE)
        rewrite_note(node->rewrite, &msg->note);
    else if (msg->epoch == node->epoch)
        rewrite_input(node->rewrite, 0, msg->frame);
    msg_free(msg);
}

static void at_primary(Sim *sim, Msg *msg)
{
    switch (msg->type) {
    case MSG_FRAME:
        compare_secondary(sim->compare, 0, msg->epoch, msg->frame, time_of(sim));
        break;
    case MSG_RECEIVED:
        compare_committed(sim->compare, msg->epoch, time_of(sim));
        break;
    case MSG_LOADED:
        compare_loaded(sim->compare, msg->epoch, time_of(sim));
        sim->loaded = TRUE;
        break;
    case MSG_NOTE:
        g_assert_not_reached();
    }
    msg_free(msg);
}

static void link_run(Sim *sim)
{
    const Msg *head;

    if (chance(sim, 1))
        sim->link_free = sim->run.now + rnd(sim, 150);
    while ((head = g_queue_peek_head(&sim->to_secondary)) != NULL && head->due <= sim->run.now)
        mirrored(sim, g_queue_pop_head(&sim->to_secondary));
    if (sim->dead) /* nobody is there */
        g_queue_clear_full(&sim->to_primary, msg_free);
    while ((head = g_queue_peek_head(&sim->to_primary)) != NULL && head->due <= sim->run.now)
        at_primary(sim, g_queue_pop_head(&sim->to_primary));
}

static void host_input(Sim *sim, GBytes *frame)
{
    Node *primary = sim->nodes[0];

    if (sim->dead)
        return;
    if (primary->rewrite != NULL)
        rewrite_input(primary->rewrite, 0, frame);
    else
        guest_input(primary, frame);
    if (sim->protected)
        link_send(sim, &sim->to_secondary, MSG_FRAME, sim->epoch, frame, NULL);
}

static void net_deliver(Sim *sim, GQueue *queue, gboolean to_client)
{
    GList *next;

    for (GList *l = queue->head; l != NULL; l = next) {
        Msg *msg = l->data;
        next = l->next;
        if (msg->due > sim->run.now)
            continue;
        g_queue_delete_link(queue, l);
        if (to_client) {
            Packet p;
            parse(msg->frame, &p);
            model_tcp_input(&sim->client.tcp[echo_conn_of(&p, TRUE)], &p, sim->run.now,
                            (guint32)sim->run.now);
        } else {
            host_input(sim, msg->frame);
        }
        msg_free(msg);
    }
}

/* ---- Death, takeover, a new secondary ---- */

static Node *node_new(Sim *sim)
{
    Node *node = g_new0(Node, 1);
    node->sim = sim;
    return node;
}

static void node_free(Node *node)
{
    if (node == NULL)
        return;
    rewrite_free(node->rewrite);
    g_queue_clear_full(&node->kept, (GDestroyNotify)g_bytes_unref);
    g_queue_clear_full(&node->early, msg_free);
    g_free(node);
}

/* The primary is gone; of what was under way to the secondary, the first part arrives. */
static void primary_dies(Sim *sim)
{
    gint32 arrive = rnd(sim, (gint32)sim->to_secondary.length + 1);
    Msg *msg;

    sim->dead = TRUE;
    sim->takeover_at = sim->run.now + rnd(sim, 60);
    while ((msg = g_queue_pop_head(&sim->to_secondary)) != NULL) {
        if (arrive-- > 0) {
            mirrored(sim, msg);
            continue;
        }
        sim->lost_notes = sim->lost_notes || msg->type == MSG_NOTE;
        msg_free(msg);
    }
    g_queue_clear_full(&sim->to_primary, msg_free);
    g_clear_pointer(&sim->compare, compare_free); /* its frames are lost */
    if (sim->checkpoint && !sim->complete) {
        sim->checkpoint = FALSE;
        g_clear_pointer(&sim->exported, g_bytes_unref);
    }
}

static void takeover(Sim *sim)
{
    Node *node = sim->nodes[1];
    GBytes *frame;

    if (sim->checkpoint)
        secondary_apply(sim);
    echo_check_survivor(&sim->run, &sim->client, &node->guest);
    rewrite_takeover(node->rewrite);
    node_free(sim->nodes[0]);
    sim->nodes[0] = node;
    sim->nodes[1] = NULL;
    sim->dead = sim->protected = FALSE;
    while ((frame = g_queue_pop_head(&node->kept)) != NULL) {
        g_autoptr(GBytes) mapped = rewrite_map_output(node->rewrite, 0, frame);
        net_send(sim, &sim->net_to_client, mapped);
        g_bytes_unref(frame);
    }
    g_queue_clear_full(&node->early, msg_free);
    sim->takeovers++;
    sim->pair_at = sim->run.now + rnd(sim, 1500);
}

static void pair(Sim *sim)
{
    static const CompareActions actions = {
        .release = on_release, .diverged = on_diverged, .note = on_note};
    CompareOptions options;
    RewriteOptions rewrite_options;
    Node *primary = sim->nodes[0], *node = node_new(sim);
    g_autoptr(GError) error = NULL;

    compare_options_init(&options);
    options.vnet_hdr = FALSE;
    if (!sim->run.equal_guests && chance(sim, 300)) /* a table that is full at once */
        options.max_flows = 1 + (guint)rnd(sim, ECHO_CONNS);
    rewrite_options_init(&rewrite_options);
    rewrite_options.vnet_hdr = FALSE;
    sim->epoch++;
    sim->compare = compare_new(&options, &actions, sim->epoch, time_of(sim), sim);
    node->rewrite = rewrite_new(&rewrite_options, sim->epoch, on_deliver, node);
    g_autoptr(GBytes) exported = primary->rewrite != NULL ? rewrite_export(primary->rewrite) : NULL;
    g_assert_true(rewrite_checkpoint(node->rewrite, sim->epoch, exported, &error));
    node->epoch = sim->epoch;
    echo_guest_clone(&sim->run, &node->guest, &primary->guest, 0);
    sim->nodes[1] = node;
    sim->protected = sim->loaded = TRUE;
    sim->checkpoint = sim->asked = FALSE;
}

static void hosts_run(Sim *sim)
{
    if (sim->protected) {
        link_run(sim);
        checkpoint_run(sim);
        echo_guest_run(&sim->run, &sim->nodes[1]->guest, secondary_emit, sim);
        if (!sim->dead && compare_next_deadline(sim->compare).us <= time_of(sim).us)
            compare_tick(sim->compare, time_of(sim));
        if (sim->dead && sim->run.now >= sim->takeover_at)
            takeover(sim);
        else if (!sim->dead && sim->takeovers < 4 && chance(sim, 2))
            primary_dies(sim);
    } else if (sim->run.now >= sim->pair_at) {
        pair(sim);
    }
    if (!sim->dead)
        echo_guest_run(&sim->run, &sim->nodes[0]->guest, primary_emit, sim);
}

static void run_seed(guint32 seed, gboolean no_divergence, guint *ret_takeovers)
{
    g_autofree Sim *sim = g_new0(Sim, 1);

    sim->run.seed = seed;
    sim->run.equal_guests = no_divergence;
    sim->run.rand = g_rand_new_with_seed(seed);
    sim->nodes[0] = node_new(sim);
    echo_guest_init(&sim->run, &sim->nodes[0]->guest);
    echo_client_init(&sim->run, &sim->client);
    for (; sim->run.now < END_MS && !echo_client_done(&sim->client); sim->run.now++) {
        if (chance(sim, 1))
            sim->net_free = sim->run.now + rnd(sim, 300);
        net_deliver(sim, &sim->net_to_client, TRUE);
        net_deliver(sim, &sim->net_to_host, FALSE);
        hosts_run(sim);
        echo_client_run(&sim->run, &sim->client, client_emit, sim);
    }
    if (!echo_client_done(&sim->client))
        echo_describe(&sim->client, &sim->nodes[0]->guest);
    ECHO_CHECK(&sim->run, echo_client_done(&sim->client));
    *ret_takeovers += sim->takeovers;
    g_test_message("seed %u: %d ms, %u takeovers, %u checkpoints, %u divergences", seed,
                   (int)sim->run.now, sim->takeovers, sim->checkpoints, sim->divergences);
    compare_free(sim->compare);
    node_free(sim->nodes[0]);
    node_free(sim->nodes[1]);
    g_clear_pointer(&sim->exported, g_bytes_unref);
    GQueue *queues[] = {&sim->to_secondary, &sim->to_primary, &sim->net_to_client,
                        &sim->net_to_host};
    for (guint i = 0; i < G_N_ELEMENTS(queues); i++)
        g_queue_clear_full(queues[i], msg_free);
    g_rand_free(sim->run.rand);
}

static guint32 first_seed;
static guint n_seeds = 40;

static void run_seeds(gboolean no_divergence)
{
    guint takeovers = 0;

    for (guint i = 0; i < n_seeds; i++)
        run_seed(first_seed + i, no_divergence, &takeovers);
    g_assert_cmpuint(n_seeds < 10 || takeovers > n_seeds, ==, TRUE);
}

static void test_equal_guests(void)
{
    run_seeds(TRUE);
}

static void test_diverging_guests(void)
{
    run_seeds(FALSE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    first_seed = g_test_rand_int();
    if (argc > 1) {
        first_seed = (guint32)strtoul(argv[1], NULL, 10);
        n_seeds = argc > 2 ? (guint)atoi(argv[2]) : 1;
    }
    g_test_message("seeds from %u", first_seed);
    g_test_add_func("/compare-sim/equal-guests", test_equal_guests);
    g_test_add_func("/compare-sim/diverging-guests", test_diverging_guests);
    return g_test_run();
}
