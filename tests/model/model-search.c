/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The search through all states of a pair, and what each of them leads to. */
#include "tests/model/model.h"

#include <string.h>

/* A step that needs nobody's failure: what storage, the link and the nodes do by themselves. */
typedef struct {
    guint from, to;
} Edge;

static Search *current;

/* ---- Telling ---- */

static void tell_side(const Side *side)
{
    g_printerr("%s%s %s %s claim %u %s%s flying %u%s%s start %s copy %s | ",
               side->crashed ? "dead " : "", fsm_is_primary(side->state) ? "P" : "S",
               fsm_state_name(side->state), route_name(side->route), side->claim,
               claim_doing_name(side->doing), side->is_asked ? " asked" : "", side->flying,
               side->sees_link ? " linked" : "", side->stale ? " stale" : "",
               claim_start_name(side->start), copy_condition_name(side->copy));
}

static void tell(const Pair *pair)
{
    tell_side(&pair->side[0]);
    tell_side(&pair->side[1]);
    g_printerr("session %u granted", pair->session);
    for (int i = 1; i <= SESSIONS + RESTS; i++)
        g_printerr(" %u", pair->granted[i]);
    g_printerr(" record %u/%u%s\n", pair->record.writer, pair->record.session,
               pair->record.rests ? " rests" : "");
}

/* How the pair came to where it is looked at. */
static void tell_way(guint number)
{
    const Known *known = g_ptr_array_index(current->known, number);
    if (number > 0)
        tell_way(known->from);
    tell(&known->pair);
}

void model_fail(const Pair *pair, const char *what)
{
    tell_way(current->number);
    tell(pair);
    g_error("%s", what);
}

void model_note(int me, FsmState state, FsmEvent event)
{
    current->moved[state][event] = TRUE;
    current->switched[me] |= state == FSM_P_HANDED && event == FSM_TAKEN;
}

/* ---- What every state leads to ---- */

/*
 * Waits for the other as its secondary: it was told to, or has not noticed that it has won. Or it
 * still holds the VM, for a side that has been chosen.
 */
static gboolean waits(const Side *side)
{
    return !model_is_dead(side) &&
           (side->state == FSM_P_FROZEN || side->start == CLAIM_START_WAITS ||
            side->start == CLAIM_START_WAITS_ASKED ||
            (side->state == FSM_S_NONE && (side->may_have || side->giving_back)));
}

static gboolean both_wait(const Pair *pair)
{
    return pair->record.writer && waits(&pair->side[0]) && waits(&pair->side[1]);
}

/* Only an administrator can help: the side that the arbiter has chosen has lost the VM. */
static gboolean is_lost(const Pair *pair)
{
    for (int i = 0; i < 2; i++) {
        const Side *side = &pair->side[i];
        if (model_continues(side))
            return FALSE;
        if (model_has_copy(side) && pair->granted[side->claim] != 2 - i)
            return FALSE;
    }
    return TRUE;
}

/* From which states each is reached: `into` from first[to] to first[to + 1]. */
static void turn_round(const Search *search, guint *first, guint *into)
{
    guint count = search->known->len;
    const Edge *edges = (const Edge *)(gpointer)search->edges->data;
    for (guint i = 0; i < search->edges->len; i++)
        first[edges[i].to + 1]++;
    for (guint i = 0; i < count; i++)
        first[i + 1] += first[i];
    g_autofree guint *at = g_memdup2(first, count * sizeof(guint));
    for (guint i = 0; i < search->edges->len; i++)
        into[at[edges[i].to]++] = edges[i].from;
}

/* Marks all states from which one is reached that runs the VM. */
static void mark_good(const Search *search, gboolean *good)
{
    guint count = search->known->len;
    g_autofree guint *first = g_new0(guint, count + 1);
    g_autofree guint *into = g_new(guint, search->edges->len);
    GQueue todo = G_QUEUE_INIT;
    turn_round(search, first, into);
    for (guint i = 0; i < count; i++) {
        const Known *known = g_ptr_array_index(search->known, i);
        good[i] = model_continues(&known->pair.side[0]) || model_continues(&known->pair.side[1]);
        if (good[i])
            g_queue_push_tail(&todo, GUINT_TO_POINTER(i));
    }
    while (!g_queue_is_empty(&todo)) {
        guint to = GPOINTER_TO_UINT(g_queue_pop_head(&todo));
        for (guint e = first[to]; e < first[to + 1]; e++)
            if (!good[into[e]]) {
                good[into[e]] = TRUE;
                g_queue_push_tail(&todo, GUINT_TO_POINTER(into[e]));
            }
    }
}

/* Nothing fails from here on: then exactly one side will run the VM. */
static void check_recovery(const Search *search)
{
    guint count = search->known->len;
    g_autofree gboolean *good = g_new0(gboolean, count);
    mark_good(search, good);
    for (guint i = 0; i < count; i++) {
        const Known *known = g_ptr_array_index(search->known, i);
        const Pair *pair = &known->pair;
        if (!good[i] && (!is_lost(pair) || both_wait(pair))) {
            tell_way(i);
            g_error("from here nobody comes to run the VM");
        }
    }
}

/* ---- The search ---- */

static guint pair_hash(gconstpointer data)
{
    const guint8 *bytes = data;
    guint hash = 2166136261u;
    for (size_t i = 0; i < sizeof(Pair); i++)
        hash = (hash ^ bytes[i]) * 16777619u;
    return hash;
}

static gboolean pair_equal(gconstpointer a, gconstpointer b)
{
    return !memcmp(a, b, sizeof(Pair));
}

void model_visit(Search *search, Pair *next, gboolean by_itself)
{
    model_check(next);
    model_tidy(next);
    Known *known = g_hash_table_lookup(search->seen, next);
    if (!known) {
        known = g_new(Known, 1);
        *known = (Known){.pair = *next, .number = search->known->len, .from = search->number};
        g_hash_table_add(search->seen, known);
        g_ptr_array_add(search->known, known);
    }
    if (by_itself && search->from) {
        Edge edge = {search->number, known->number};
        g_array_append_val(search->edges, edge);
    }
}

static void visit_all_from(Search *search)
{
    model_link_steps(search);
    model_message_steps(search);
    for (int i = 0; i < 2; i++) {
        model_storage_steps(search, i);
        model_restart_steps(search, i);
        if (model_is_dead(&search->from->side[i]))
            continue;
        model_own_steps(search, i);
        model_claim_steps(search, i);
    }
}

void model_explore(Search *search, gboolean has_arbiter, const Side *first, const Side *second)
{
    Pair begin = {
        .side = {*first, *second},
          .has_arbiter = (guint8)has_arbiter
    };
    current = search;
    search->seen = g_hash_table_new(pair_hash, pair_equal);
    search->known = g_ptr_array_new_with_free_func(g_free);
    search->edges = g_array_new(FALSE, FALSE, sizeof(Edge));
    for (int i = 0; i < 2; i++)
        model_claim_start(&begin.side[i]);
    model_visit(search, &begin, TRUE);
    while (search->number < search->known->len) {
        search->from = &((Known *)g_ptr_array_index(search->known, search->number))->pair;
        visit_all_from(search);
        search->number++;
    }
    g_test_message("%u states of the pair", search->known->len);
    check_recovery(search);
}

void model_finish(Search *search)
{
    g_hash_table_destroy(search->seen);
    g_ptr_array_unref(search->known);
    g_array_unref(search->edges);
}
