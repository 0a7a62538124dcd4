/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of the way back to a running VM. A model of who asks, answers and waits does all that can
 * happen, in every order. All that can be reached so is looked at. What the table allows is exactly
 * what happens on the way.
 */
#include "colo/node/resume-rules.h"

/* Answers from any state to one in which nothing is to come. */
#define STEPS_MAX 6

typedef enum { NOT_ASKED, ASKED, DECIDED } ModelAnswer;

/* Bytes, and nothing between them: compared as such. */
typedef struct {
    guint8 phase;  /* ResumePhase: all else is what was asked for, and what has come of it */
    guint8 begun;  /* somebody is to be told how the try ends */
    guint8 answer; /* ModelAnswer: the disks' or QEMU's; of a try that was forgotten, too */
    guint8 runs;   /* the try has told the VM to run */
    guint8 unheard;
    guint8 timer;
} Model;

static gboolean reached[RESUME_PHASES][RESUME_EVENTS];

/* ---- What can happen ---- */

static gboolean can_happen(const Model *m, ResumeEvent event)
{
    switch (event) {
    case RESUME_EVENT_BEGIN:
        return !m->begun;
    case RESUME_EVENT_RUN:
    case RESUME_EVENT_KEEP:
        return m->answer == ASKED;
    case RESUME_EVENT_DONE:
    case RESUME_EVENT_REFUSED:
    case RESUME_EVENT_FAILED:
        return m->begun && m->answer != NOT_ASKED;
    case RESUME_EVENT_HEARD:
        return m->unheard;
    case RESUME_EVENT_AGAIN:
        return m->timer;
    case RESUME_EVENT_NEED_NOT:
    case RESUME_EVENT_GIVE_UP:
        return m->begun && m->timer;
    case RESUME_EVENT_COPY_REFUSED:
    case RESUME_EVENT_SESSION_OVER:
    case RESUME_EVENT_FORGET:
        return TRUE;
    case RESUME_EVENTS:
        break;
    }
    g_assert_not_reached();
}

static void ask(Model *m)
{
    m->answer = ASKED;
    m->timer = m->runs = FALSE;
}

static void end_try(Model *m)
{
    m->begun = m->runs = m->unheard = m->timer = FALSE;
}

/* What is so when it has happened. */
static void happens(Model *m, ResumeEvent event)
{
    switch (event) {
    case RESUME_EVENT_BEGIN:
        m->begun = TRUE;
        ask(m);
        break;
    case RESUME_EVENT_RUN:
    case RESUME_EVENT_KEEP:
        m->answer = DECIDED;
        m->runs = m->begun && event == RESUME_EVENT_RUN;
        break;
    case RESUME_EVENT_DONE:
        m->answer = NOT_ASKED;
        m->unheard = TRUE;
        break;
    case RESUME_EVENT_REFUSED:
        m->answer = NOT_ASKED;
        m->runs = FALSE;
        m->timer = TRUE;
        break;
    case RESUME_EVENT_FAILED:
        m->answer = NOT_ASKED;
        end_try(m);
        break;
    case RESUME_EVENT_COPY_REFUSED:
        m->timer |= !m->begun;
        break;
    case RESUME_EVENT_AGAIN:
        m->timer = FALSE;
        if (m->begun)
            ask(m);
        break;
    case RESUME_EVENT_SESSION_OVER:
        m->timer &= m->begun;
        break;
    default:
        end_try(m);
        break;
    }
}

/* ---- What always holds ---- */

static void check(const Model *m)
{
    gboolean is_answered = m->begun && m->answer != NOT_ASKED;
    g_assert_cmpint(resume_has_try((ResumePhase)m->phase), ==, m->begun);
    g_assert_cmpint(resume_is_trying((ResumePhase)m->phase), ==, is_answered);
    g_assert_cmpint(resume_is_unheard((ResumePhase)m->phase), ==, m->unheard);
    g_assert_cmpint(resume_waits((ResumePhase)m->phase), ==, m->timer);
    g_assert_cmpint(resume_runs((ResumePhase)m->phase), ==, m->runs);
    g_assert_cmpint(is_answered + m->unheard + m->timer, ==, m->begun || m->timer);
}

static Model step(const Model *from, ResumeEvent event)
{
    Model m = *from;
    ResumePhase phase = (ResumePhase)m.phase;
    ResumeStep step = resume_step(phase, event);
    if (!step.legal)
        g_error("%s in %s", resume_event_name(event), resume_phase_name(phase));
    reached[phase][event] = TRUE;
    m.phase = (guint8)step.next;
    happens(&m, event);
    check(&m);
    return m;
}

/* All that is asked for is answered, well. */
static void check_ends(Model m)
{
    static const ResumeEvent answers[] = {RESUME_EVENT_AGAIN, RESUME_EVENT_RUN, RESUME_EVENT_DONE,
                                          RESUME_EVENT_HEARD};
    for (guint steps = 0; steps < STEPS_MAX; steps++) {
        gsize i = 0;
        while (i < G_N_ELEMENTS(answers) && !can_happen(&m, answers[i]))
            i++;
        if (i == G_N_ELEMENTS(answers)) {
            g_assert_cmpint(m.phase, ==, RESUME_NOTHING);
            return;
        }
        m = step(&m, answers[i]);
    }
    g_error("the try doesn't come to its end");
}

/* ---- The walk ---- */

static void found(GHashTable *seen, GQueue *queue, const Model *m)
{
    g_autoptr(GBytes) key = g_bytes_new(m, sizeof(*m));
    if (!g_hash_table_contains(seen, key)) {
        g_queue_push_tail(queue, g_memdup2(m, sizeof(*m)));
        g_hash_table_add(seen, g_steal_pointer(&key));
    }
}

static void test_all(void)
{
    g_autoptr(GHashTable) seen =
        g_hash_table_new_full(g_bytes_hash, g_bytes_equal, (GDestroyNotify)g_bytes_unref, NULL);
    g_autoptr(GQueue) queue = g_queue_new();
    found(seen, queue, &(Model){.phase = RESUME_NOTHING});
    while (!g_queue_is_empty(queue)) {
        g_autofree Model *m = g_queue_pop_head(queue);
        check_ends(*m);
        for (ResumeEvent event = 0; event < RESUME_EVENTS; event++) {
            if (!can_happen(m, event))
                continue;
            Model next = step(m, event);
            found(seen, queue, &next);
        }
    }
    g_test_message("%u states", g_hash_table_size(seen));
    for (ResumePhase phase = 0; phase < RESUME_PHASES; phase++)
        for (ResumeEvent event = 0; event < RESUME_EVENTS; event++)
            if (resume_step(phase, event).legal != reached[phase][event])
                g_error("%s in %s: %s", resume_event_name(event), resume_phase_name(phase),
                        reached[phase][event] ? "can be" : "is in the table, and can't be");
}

static void test_names(void)
{
    g_autoptr(GHashTable) names = g_hash_table_new(g_str_hash, g_str_equal);
    for (ResumePhase phase = 0; phase < RESUME_PHASES; phase++)
        g_assert_true(g_hash_table_add(names, (gpointer)resume_phase_name(phase)));
    g_hash_table_remove_all(names);
    for (ResumeEvent event = 0; event < RESUME_EVENTS; event++)
        g_assert_true(g_hash_table_add(names, (gpointer)resume_event_name(event)));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/resume-rules/all", test_all);
    g_test_add_func("/resume-rules/names", test_names);
    return g_test_run();
}
