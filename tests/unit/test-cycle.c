/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of the checkpoint cycle. A model of all that the cycle asks for (the VM, the disks, the
 * capture, the secondary) answers in every order that can be. At every step the session may end, or
 * the VM may be abandoned or lost. All that can be reached so is looked at. What the table allows
 * is exactly what happens on the way.
 */
#include "colo/node/cycle.h"

#include <string.h>

/* Answers from any state to one in which nothing is to come. */
#define STEPS_MAX 16

typedef enum { VM_NEW, VM_RUNS, VM_IS_PAUSING, VM_PAUSED, VM_IS_RESUMING, VM_GONE } ModelVm;

typedef enum { CAPTURE_IDLE, CAPTURE_COPIES, CAPTURE_SENDS, CAPTURE_SENT } ModelCapture;

/* Bytes, and nothing between them: compared as such. */
typedef struct {
    guint8 phase; /* CyclePhase: all else is what was asked for, and what has come of it */
    guint8 vm;    /* ModelVm */
    guint8 session;
    guint8 under_way; /* a checkpoint, of this session */
    guint8 syncs, prepares, settles, saves, marks;
    guint8 saved, marked;
    guint8 capture; /* ModelCapture */
    guint8 received;
    guint8 gives; /* the disks up: until that is answered, also when the session has ended */
    guint8 held;  /* the checkpoint, by an administrator */
    guint8 settles_to_stop;
} Model;

static gboolean reached[CYCLE_PHASES][CYCLE_EVENTS];

/* ---- What can happen ---- */

static gboolean can_happen(const Model *m, CycleEvent event)
{
    gboolean idle = m->phase == CYCLE_IDLE && m->vm == VM_RUNS;
    switch (event) {
    case CYCLE_EVENT_START:
        return m->vm == VM_NEW;
    case CYCLE_EVENT_CONTINUE:
    case CYCLE_EVENT_STOP:
        return idle;
    case CYCLE_EVENT_DUE:
        return idle && m->session;
    case CYCLE_EVENT_RESUME:
    case CYCLE_EVENT_SESSION_ENDED:
    case CYCLE_EVENT_VM_GONE:
        return TRUE;
    case CYCLE_EVENT_SYNCED:
    case CYCLE_EVENT_NOT_SYNCED:
        return m->syncs;
    case CYCLE_EVENT_PREPARED:
        return m->prepares;
    case CYCLE_EVENT_SETTLED:
        return m->settles || m->settles_to_stop;
    case CYCLE_EVENT_PAUSED:
        return m->vm == VM_IS_PAUSING;
    case CYCLE_EVENT_HELD:
        return m->vm == VM_IS_PAUSING && m->under_way;
    case CYCLE_EVENT_GO:
        return m->held;
    case CYCLE_EVENT_SAVED:
        return m->saves;
    case CYCLE_EVENT_SAVED_LAST:
        return m->saves && m->marks; /* not marked yet: they are as they are given up */
    case CYCLE_EVENT_NOT_SAVED:
        return m->saves && !m->under_way;
    case CYCLE_EVENT_GIVEN_UP:
    case CYCLE_EVENT_NOT_GIVEN_UP:
        return m->gives;
    case CYCLE_EVENT_MARKED:
    case CYCLE_EVENT_NOT_MARKED:
        return m->marks;
    case CYCLE_EVENT_TAKEN:
    case CYCLE_EVENT_KEPT:
        return m->capture == CAPTURE_COPIES;
    case CYCLE_EVENT_RUNNING:
    case CYCLE_EVENT_REFUSED:
        return m->vm == VM_IS_RESUMING;
    case CYCLE_EVENT_SENT:
        return m->capture == CAPTURE_SENDS;
    case CYCLE_EVENT_RECEIVED:
        /* The capture's thread may be ahead of what it has told. */
        return m->capture != CAPTURE_IDLE && !m->received;
    case CYCLE_EVENTS:
        break;
    }
    g_assert_not_reached();
}

static void forget_checkpoint(Model *m)
{
    m->under_way = m->syncs = m->prepares = m->settles = m->marks = FALSE;
    m->saved = m->marked = m->received = m->held = FALSE;
    m->capture = CAPTURE_IDLE;
}

/* What is so when it has happened. */
static void happens(Model *m, CycleEvent event)
{
    switch (event) {
    case CYCLE_EVENT_DUE:
        m->under_way = TRUE;
        break;
    case CYCLE_EVENT_SYNCED:
        m->syncs = FALSE;
        break;
    case CYCLE_EVENT_NOT_SYNCED:
    case CYCLE_EVENT_NOT_MARKED:
        forget_checkpoint(m);
        break;
    case CYCLE_EVENT_PREPARED:
        m->prepares = FALSE;
        break;
    case CYCLE_EVENT_SETTLED:
        m->settles = m->settles_to_stop = FALSE;
        break;
    case CYCLE_EVENT_PAUSED:
        m->vm = VM_PAUSED;
        break;
    case CYCLE_EVENT_HELD:
        m->vm = VM_PAUSED;
        m->held = TRUE;
        break;
    case CYCLE_EVENT_GO:
    case CYCLE_EVENT_RESUME:
        m->held = m->settles_to_stop = FALSE;
        break;
    case CYCLE_EVENT_SAVED:
        m->saves = FALSE;
        m->saved = TRUE;
        break;
    case CYCLE_EVENT_SAVED_LAST:
        m->saves = m->marks = FALSE;
        m->saved = TRUE;
        break;
    case CYCLE_EVENT_NOT_SAVED:
        m->saves = FALSE;
        break;
    case CYCLE_EVENT_GIVEN_UP:
        m->marked = m->under_way;
        m->gives = FALSE;
        break;
    case CYCLE_EVENT_NOT_GIVEN_UP:
        m->gives = FALSE;
        break;
    case CYCLE_EVENT_MARKED:
        m->marks = FALSE;
        m->marked = TRUE;
        break;
    case CYCLE_EVENT_TAKEN:
    case CYCLE_EVENT_KEPT:
        m->capture = CAPTURE_SENDS;
        break;
    case CYCLE_EVENT_RUNNING:
        m->vm = VM_RUNS;
        break;
    case CYCLE_EVENT_REFUSED:
        m->vm = VM_PAUSED;
        break;
    case CYCLE_EVENT_SENT:
        m->capture = CAPTURE_SENT;
        break;
    case CYCLE_EVENT_RECEIVED:
        m->received = TRUE;
        break;
    case CYCLE_EVENT_SESSION_ENDED:
        forget_checkpoint(m);
        m->session = FALSE;
        break;
    case CYCLE_EVENT_VM_GONE:
        forget_checkpoint(m);
        m->saves = m->gives = m->settles_to_stop = FALSE;
        m->vm = VM_GONE;
        break;
    default:
        break;
    }
}

/* ---- What is done ---- */

static gboolean is_complete(const Model *m)
{
    return m->under_way && m->capture == CAPTURE_SENT && m->received;
}

static void ask_way_to_pause(Model *m, CycleAction action)
{
    if (action == CYCLE_DO_SYNC || action == CYCLE_DO_PREPARE)
        g_assert_true(m->under_way && m->vm == VM_RUNS);
    m->syncs |= action == CYCLE_DO_SYNC;
    m->prepares |= action == CYCLE_DO_PREPARE;
    if (action == CYCLE_DO_SETTLE) {
        g_assert_cmpint(m->vm, ==, VM_RUNS);
        m->settles = m->under_way;
        m->settles_to_stop = !m->under_way;
    }
    if (action == CYCLE_DO_PAUSE) {
        /* Never before QEMU has read what it was given. */
        g_assert_false(m->settles || m->settles_to_stop);
        g_assert_cmpint(m->vm, ==, VM_RUNS);
        m->vm = VM_IS_PAUSING;
    }
}

static void ask_in_pause(Model *m, CycleAction action, CycleEvent event)
{
    if (action == CYCLE_DO_START) {
        g_assert_cmpint(m->vm, ==, VM_NEW);
        m->vm = VM_IS_RESUMING;
    } else if (action == CYCLE_DO_SAVE) {
        g_assert_true(m->under_way && m->vm == VM_PAUSED);
        m->saves = m->marks = TRUE;
    } else if (action == CYCLE_DO_GIVE_UP) {
        g_assert_true(m->under_way && m->saved && !m->marked && m->vm == VM_PAUSED);
        m->gives = TRUE;
    } else if (action == CYCLE_DO_MARK) {
        g_assert_true(m->under_way && m->saved && m->vm == VM_PAUSED);
        m->marks = TRUE;
    } else if (action == CYCLE_DO_COPY) {
        g_assert_true(m->under_way && m->saved && m->marked && m->vm == VM_PAUSED);
        m->capture = CAPTURE_COPIES;
    } else if (action == CYCLE_DO_RESUME) {
        /* A guest that QEMU has stopped by itself counts as one that runs. */
        g_assert_cmpint(m->vm, ==, event == CYCLE_EVENT_CONTINUE ? VM_RUNS : VM_PAUSED);
        g_assert_false(m->saves || m->gives || m->capture == CAPTURE_COPIES);
        m->saved = m->marked = FALSE;
        m->vm = VM_IS_RESUMING;
    }
}

static void check_end(Model *m, CycleAction action)
{
    if (action == CYCLE_DO_GIVE_INPUT)
        g_assert_cmpint(m->vm, ==, VM_RUNS);
    if (action == CYCLE_DO_TELL_PAUSED)
        g_assert_cmpint(m->vm, ==, VM_PAUSED);
    if (action == CYCLE_DO_TELL_HELD)
        g_assert_true(m->vm == VM_PAUSED && m->under_way && !m->saved);
    if (action == CYCLE_DO_COMMIT)
        g_assert_true(is_complete(m) && m->vm == VM_PAUSED);
    if (action == CYCLE_DO_LOOK)
        g_assert_cmpint(m->phase, ==, CYCLE_IDLE);
    if (action == CYCLE_DO_COUNT) {
        g_assert_true(is_complete(m) && m->vm == VM_RUNS);
        forget_checkpoint(m);
    }
}

/* ---- What always holds ---- */

static gboolean is_to_be_resumed(const Model *m)
{
    return cycle_step(m->phase, CYCLE_EVENT_RESUME).actions == 1u << CYCLE_DO_RESUME;
}

static void check(const Model *m)
{
    gboolean waits = m->saves || m->marks || m->gives || m->capture == CAPTURE_COPIES || m->held;
    /* Paused for something that is to come, or until it is resumed: one of the two. */
    if (m->vm == VM_PAUSED)
        g_assert_true(waits != is_to_be_resumed(m));
    else
        g_assert_false(waits || is_to_be_resumed(m));
    /* Complete, it is over: unless the VM has to run first. */
    g_assert_false(is_complete(m) && m->vm == VM_RUNS);
    if (m->phase == CYCLE_IDLE)
        g_assert_true(!m->under_way && (m->vm == VM_RUNS || m->vm == VM_NEW || m->vm == VM_GONE));

    if (m->vm != VM_NEW && m->vm != VM_GONE) {
        gboolean settles = m->settles || m->settles_to_stop;
        g_assert_cmpint(cycle_defers_input(m->phase), ==, m->vm != VM_RUNS || settles);
        g_assert_cmpint(cycle_is_between_pauses(m->phase), ==,
                        m->vm == VM_RUNS && !m->syncs && !m->prepares && !settles);
    }
    g_assert_cmpint(cycle_has_peer_paused(m->phase), ==,
                    m->under_way && !m->syncs && !m->received &&
                        (m->capture == CAPTURE_IDLE || m->capture == CAPTURE_COPIES));
    g_assert_cmpint(cycle_is_owed_received(m->phase), ==,
                    m->capture == CAPTURE_SENT && !m->received);
    g_assert_cmpint(cycle_is_committed(m->phase), ==,
                    m->vm == VM_PAUSED && !waits && (!m->under_way || is_complete(m)));
    /* A peer may say it at any time. */
    g_assert_cmpint(cycle_step(m->phase, CYCLE_EVENT_RECEIVED).legal, ==,
                    can_happen(m, CYCLE_EVENT_RECEIVED));
}

static Model step(const Model *from, CycleEvent event)
{
    Model m = *from;
    CycleStep step = cycle_step(m.phase, event);
    if (!step.legal)
        g_error("%s in %s", cycle_event_name(event), cycle_phase_name(m.phase));
    reached[m.phase][event] = TRUE;
    m.phase = (guint8)step.next;
    happens(&m, event);
    g_assert_cmpint(step.actions >> CYCLE_DO_RELEASE & 1, ==, event == CYCLE_EVENT_RECEIVED);
    for (CycleAction action = 0; action < CYCLE_ACTIONS; action++)
        if (step.actions & 1u << action) {
            ask_way_to_pause(&m, action);
            ask_in_pause(&m, action, event);
            check_end(&m, action);
        }
    check(&m);
    return m;
}

/* ---- The walk ---- */

typedef void (*Visit)(const Model *m);

static void found(GHashTable *seen, GQueue *queue, const Model *m)
{
    g_autoptr(GBytes) key = g_bytes_new(m, sizeof(*m));
    if (!g_hash_table_contains(seen, key)) {
        g_queue_push_tail(queue, g_memdup2(m, sizeof(*m)));
        g_hash_table_add(seen, g_steal_pointer(&key));
    }
}

static void walk(Visit visit)
{
    g_autoptr(GHashTable) seen =
        g_hash_table_new_full(g_bytes_hash, g_bytes_equal, (GDestroyNotify)g_bytes_unref, NULL);
    g_autoptr(GQueue) queue = g_queue_new();
    found(seen, queue, &(Model){.vm = VM_NEW});
    found(seen, queue, &(Model){.vm = VM_RUNS}); /* it was taken over */
    while (!g_queue_is_empty(queue)) {
        g_autofree Model *m = g_queue_pop_head(queue);
        visit(m);
        for (CycleEvent event = 0; event < CYCLE_EVENTS; event++) {
            if (!can_happen(m, event))
                continue;
            Model next = step(m, event);
            found(seen, queue, &next);
        }
        if (m->vm != VM_GONE && !m->session) {
            Model linked = *m;
            linked.session = TRUE;
            found(seen, queue, &linked);
        }
    }
    g_test_message("%u states", g_hash_table_size(seen));
}

static void visit_nothing(const Model *m)
{
    (void)m;
}

static void test_all(void)
{
    walk(visit_nothing);
    for (CyclePhase phase = 0; phase < CYCLE_PHASES; phase++)
        for (CycleEvent event = 0; event < CYCLE_EVENTS; event++)
            if (cycle_step(phase, event).legal != reached[phase][event])
                g_error("%s in %s: %s", cycle_event_name(event), cycle_phase_name(phase),
                        reached[phase][event] ? "can be" : "is in the table, and can't be");
}

/* ---- The VM does not stay paused ---- */

/* All that is asked for is answered, well. */
static Model settle(Model m)
{
    static const CycleEvent answers[] = {
        CYCLE_EVENT_START,   CYCLE_EVENT_SYNCED,  CYCLE_EVENT_PREPARED, CYCLE_EVENT_SETTLED,
        CYCLE_EVENT_PAUSED,  CYCLE_EVENT_SAVED,   CYCLE_EVENT_MARKED,   CYCLE_EVENT_TAKEN,
        CYCLE_EVENT_SENT,    CYCLE_EVENT_RUNNING, CYCLE_EVENT_RECEIVED, CYCLE_EVENT_GO,
        CYCLE_EVENT_GIVEN_UP};
    for (guint steps = 0; steps < STEPS_MAX; steps++) {
        gsize i = 0;
        while (i < G_N_ELEMENTS(answers) && !can_happen(&m, answers[i]))
            i++;
        if (i == G_N_ELEMENTS(answers))
            return m;
        m = step(&m, answers[i]);
    }
    g_error("the cycle doesn't come to its end");
}

static void visit_settles(const Model *m)
{
    if (m->vm == VM_GONE)
        return;
    Model ends = settle(*m);
    g_assert_true(ends.phase == CYCLE_IDLE || cycle_is_committed(ends.phase));
    Model cut = step(m, CYCLE_EVENT_SESSION_ENDED);
    cut = settle(cut);
    g_assert_true(cut.phase == CYCLE_IDLE || cut.phase == CYCLE_PAUSED);
    cut = step(&cut, CYCLE_EVENT_RESUME);
    cut = settle(cut);
    g_assert_true(cut.phase == CYCLE_IDLE && cut.vm == VM_RUNS);
}

static void test_ends(void)
{
    walk(visit_settles);
}

static void test_names(void)
{
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    for (CyclePhase phase = 0; phase < CYCLE_PHASES; phase++)
        g_assert_true(g_hash_table_add(names, (gpointer)cycle_phase_name(phase)));
    g_hash_table_remove_all(names);
    for (CycleEvent event = 0; event < CYCLE_EVENTS; event++)
        g_assert_true(g_hash_table_add(names, (gpointer)cycle_event_name(event)));
}

/* ---- Before protection is claimed ---- */

static void test_proof(void)
{
    static const char *const allowed[] = {
        "synchronise due", "due take", "take load", "load due", "load done",
        /* a session begins */
        "synchronise synchronise", "due synchronise", "take synchronise", "load synchronise",
        "done synchronise", NULL};
    for (Proof from = 0; from < PROOFS; from++)
        for (Proof to = 0; to < PROOFS; to++) {
            g_autofree char *step = g_strdup_printf("%s %s", proof_name(from), proof_name(to));
            g_assert_cmpint(proof_may_become(from, to), ==, g_strv_contains(allowed, step));
        }
    for (unsigned loads = 1; loads < 4; loads++)
        for (gsize pages = 0; pages < 3; pages++)
            g_assert_cmpint(proof_after_load(loads, pages), ==,
                            loads >= 2 && pages == 0 ? PROOF_DONE : PROOF_DUE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cycle/all", test_all);
    g_test_add_func("/cycle/ends", test_ends);
    g_test_add_func("/cycle/names", test_names);
    g_test_add_func("/cycle/proof", test_proof);
    return g_test_run();
}
