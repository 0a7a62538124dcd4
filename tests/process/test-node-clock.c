/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's clock is set by the side that runs the VM, when it is due, and not in a pause. */
#include "common/log.h"
#include "tests/support/fake-agent.h"
#include "tests/support/host-pair.h"

typedef struct {
    Fixture f;
    FakeAgent *guest[2];
} Pair;

static void start_with_agents(Pair *p, guint64 step_ms)
{
    set_up(&p->f, "file");
    for (int i = 0; i < 2; i++) {
        Config *config = p->f.host[i].config;
        config->vm->guest_agent = TRUE;
        config->time_step_ms = step_ms;
        start(&p->f.host[i], i ? "secondary" : "primary");
        WAIT_FOR(p->f.host[i].node->state == (i ? FSM_S_NONE : FSM_P_NONE) ||
                 clock_has_agent(p->f.host[i].node->clock));
        p->guest[i] = fake_agent_new(fake_vm_agent_fd(p->f.host[i].vm));
    }
    protect(&p->f, 0);
}

static void end(Pair *p)
{
    for (int i = 0; i < 2; i++)
        fake_agent_free(p->guest[i]);
    tear_down(&p->f);
}

/* The guest's CPUs stand for more than `ms`, as far as anybody counts. */
static void pause_for(Node *node, gint64 ms)
{
    ColoTime now = colo_time_now();
    figures_add_pause(node->figures, colo_time_add_us(now, -ms * COLO_US_PER_MS), now);
}

static void test_sum(void)
{
    Pair p;
    start_with_agents(&p, 60000);
    Node *a = p.f.host[0].node;
    guint64 before = figures_checkpoints(a->figures);
    WAIT_FOR(figures_checkpoints(a->figures) >= before + 3);
    g_assert_cmpuint(p.guest[0]->syncs, ==, 0); /* it is not due */
    for (guint i = 1; i <= 2; i++) {
        gint64 from_ns = g_get_real_time() * 1000;
        pause_for(a, 60000);
        WAIT_FOR(clock_corrections(a->clock) == i);
        g_assert_cmpuint(p.guest[0]->set_times, ==, i);
        g_assert_cmpint(p.guest[0]->time_ns, >=, from_ns);
        g_assert_cmpint(p.guest[0]->time_ns, <=, g_get_real_time() * 1000);
    }
    /* The copy is told nothing, and what it says is dropped. */
    g_assert_cmpuint(p.guest[1]->syncs + p.guest[1]->set_times, ==, 0);
    g_assert_cmpuint(p.guest[0]->others, ==, 0);
    end(&p);
}

static void test_never(void)
{
    Pair p;
    start_with_agents(&p, 0);
    Node *a = p.f.host[0].node;
    guint64 before = figures_checkpoints(a->figures);
    pause_for(a, 60000);
    WAIT_FOR(figures_checkpoints(a->figures) >= before + 3);
    g_assert_cmpuint(p.guest[0]->syncs, ==, 0);
    end(&p);
}

static void test_takeover(void)
{
    Pair p;
    start_with_agents(&p, 60000);
    Host *a = &p.f.host[0], *b = &p.f.host[1];
    fake_agent_free(g_steal_pointer(&p.guest[0]));
    die(a);
    WAIT_FOR(clock_corrections(b->node->clock) == 1);
    g_assert_cmpint(b->node->state, ==, FSM_P_NONE);
    g_assert_cmpuint(p.guest[1]->set_times, ==, 1);
    end(&p);
}

/* The copy has another clock until the next checkpoint. */
static void test_checkpoint(void)
{
    Pair p;
    start_with_agents(&p, 60000);
    quieten(&p.f);
    Node *a = p.f.host[0].node;
    guint64 before = a->epoch;
    pause_for(a, 60000);
    clock_look(a->clock);
    WAIT_FOR(clock_corrections(a->clock) == 1);
    WAIT_FOR(a->epoch == before + 1);
    end(&p);
}

static gboolean on_idle(gpointer user_data)
{
    gboolean *idle = user_data;
    *idle = TRUE;
    return G_SOURCE_REMOVE;
}

/* Until all has been read that would be. */
static void wait_idle(void)
{
    gboolean idle = FALSE;
    g_idle_add_full(G_PRIORITY_LOW, on_idle, &idle, NULL);
    WAIT_FOR(idle);
}

/* Only the sync is under way when the VM is paused: the time is told when it runs. */
static void test_pause(void)
{
    Pair p;
    start_with_agents(&p, 60000);
    quieten(&p.f);
    Host *a = &p.f.host[0];
    p.guest[0]->mood = FAKE_AGENT_NO_ANSWER;
    pause_for(a->node, 60000);
    clock_look(a->node->clock);
    WAIT_FOR(p.guest[0]->syncs == 1);
    fake_vm_inject(a->vm, FAKE_VM_SAVE, FAKE_VM_HOLD, 1);
    ask_for_checkpoint(&p.f);
    WAIT_FOR(fake_vm_is_held(a->vm));
    /* Late, but in time for it; not read while the VM is paused. */
    g_autofree char *text =
        g_strdup_printf("\xff{\"return\": %" G_GINT64_FORMAT "}\n", p.guest[0]->sync_id);
    p.guest[0]->mood = FAKE_AGENT_WELL;
    fake_agent_send(p.guest[0], text, strlen(text));
    wait_idle();
    g_assert_false(clock_is_synced(a->node->clock));
    g_assert_cmpuint(p.guest[0]->set_times, ==, 0);
    fake_vm_proceed(a->vm);
    WAIT_FOR(clock_corrections(a->node->clock) == 1);
    end(&p);
}

/* Nobody is there; then somebody is. */
static void test_late_agent(void)
{
    Pair p;
    start_with_agents(&p, 60000);
    Node *a = p.f.host[0].node;
    p.guest[0]->mood = FAKE_AGENT_NO_ANSWER;
    pause_for(a, 60000);
    WAIT_FOR(clock_has_failed(a->clock));
    p.guest[0]->mood = FAKE_AGENT_WELL;
    fake_agent_send(p.guest[0], "\xff{}\n", 4);
    WAIT_FOR(clock_corrections(a->clock) == 1);
    g_assert_false(clock_has_failed(a->clock));
    end(&p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-clock/sum", test_sum);
    add_pair_test("/node-clock/never", test_never);
    add_pair_test("/node-clock/takeover", test_takeover);
    add_pair_test("/node-clock/late-agent", test_late_agent);

    add_pair_test_in("colo", "/node-clock/checkpoint", test_checkpoint);
    add_pair_test_in("colo", "/node-clock/pause", test_pause);
    return g_test_run();
}
