/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of a secondary's disks. A model of the checkpoints that come, and of the server's answers,
 * does all that can happen, in every order. What the table allows is exactly what happens on the way.
 */
#include "colo/node/disks-rules.h"

/* Answers from any state to one in which nothing is to come. */
#define STEPS_MAX 5

/* Bytes, and nothing between them: compared as such. */
typedef struct {
    guint8 phase; /* DisksApply */
    guint8 due;   /* the last one that was received is to be applied */
    guint8 asked; /* the server has not answered */
} Model;

static gboolean reached[DISKS_APPLY_PHASES][DISKS_APPLY_EVENTS];

static gboolean can_happen(const Model *m, DisksApplyEvent event)
{
    switch (event) {
    case DISKS_APPLY_RECEIVED:
    case DISKS_APPLY_SESSION:
        return TRUE;
    case DISKS_APPLY_ASK:
        return m->due && !m->asked;
    case DISKS_APPLY_DONE:
    case DISKS_APPLY_REFUSED:
        return m->asked;
    case DISKS_APPLY_EVENTS:
        break;
    }
    g_assert_not_reached();
}

/* What is so when it has happened. */
static void happens(Model *m, DisksApplyEvent event)
{
    m->due = event == DISKS_APPLY_RECEIVED || event == DISKS_APPLY_REFUSED ||
             (event == DISKS_APPLY_DONE && m->due);
    m->asked = event == DISKS_APPLY_ASK || (event == DISKS_APPLY_RECEIVED && m->asked);
}

static void check(const Model *m)
{
    g_assert_cmpint(m->phase == DISKS_APPLY_DUE, ==, m->due && !m->asked);
    g_assert_cmpint(disks_apply_is_asked((DisksApply)m->phase), ==, m->asked);
    g_assert_cmpint(m->phase == DISKS_APPLY_NOTHING, ==, !m->due && !m->asked);
    g_assert_cmpint(m->phase == DISKS_APPLY_ASKED_DUE, ==, m->due && m->asked);
}

static Model step(const Model *from, DisksApplyEvent event)
{
    Model m = *from;
    DisksApply phase = (DisksApply)m.phase;
    DisksApplyStep step = disks_apply_step(phase, event);
    if (!step.legal)
        g_error("%s in %s", disks_apply_event_name(event), disks_apply_name(phase));
    reached[phase][event] = TRUE;
    m.phase = (guint8)step.next;
    happens(&m, event);
    check(&m);
    return m;
}

/* What was received is applied, if nothing is refused. */
static void check_ends(Model m)
{
    for (guint steps = 0; steps < STEPS_MAX && m.phase != DISKS_APPLY_NOTHING; steps++)
        m = step(&m, m.asked ? DISKS_APPLY_DONE : DISKS_APPLY_ASK);
    g_assert_cmpint(m.phase, ==, DISKS_APPLY_NOTHING);
}

static void test_apply(void)
{
    gboolean seen[DISKS_APPLY_PHASES] = {FALSE};
    Model found[DISKS_APPLY_PHASES] = {{.phase = DISKS_APPLY_NOTHING}};
    seen[DISKS_APPLY_NOTHING] = TRUE;
    /* A phase says all that the model knows: check(). */
    for (guint i = 0, n = 1; i < n; i++) {
        check_ends(found[i]);
        for (DisksApplyEvent event = 0; event < DISKS_APPLY_EVENTS; event++) {
            if (!can_happen(&found[i], event))
                continue;
            Model next = step(&found[i], event);
            if (!seen[next.phase])
                found[n++] = next;
            seen[next.phase] = TRUE;
        }
    }
    for (DisksApply phase = 0; phase < DISKS_APPLY_PHASES; phase++)
        for (DisksApplyEvent event = 0; event < DISKS_APPLY_EVENTS; event++)
            if (disks_apply_step(phase, event).legal != reached[phase][event])
                g_error("%s in %s: %s", disks_apply_event_name(event), disks_apply_name(phase),
                        reached[phase][event] ? "can be" : "is in the table, and can't be");
}

static void test_names(void)
{
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    for (DisksApply phase = 0; phase < DISKS_APPLY_PHASES; phase++)
        g_assert_true(g_hash_table_add(names, (gpointer)disks_apply_name(phase)));
    g_hash_table_remove_all(names);
    for (DisksApplyEvent event = 0; event < DISKS_APPLY_EVENTS; event++)
        g_assert_true(g_hash_table_add(names, (gpointer)disks_apply_event_name(event)));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/disks-rules/apply", test_apply);
    g_test_add_func("/disks-rules/names", test_names);
    return g_test_run();
}
