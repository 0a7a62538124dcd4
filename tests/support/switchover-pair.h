/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A pair whose VM moves by a planned switchover, step by step: for the tests of that. */
#ifndef COLO_TESTS_SWITCHOVER_PAIR_H
#define COLO_TESTS_SWITCHOVER_PAIR_H

#include "tests/support/host-pair.h"

/* `timeout`: switchover-timeout, or NULL. Nothing runs yet. */
static inline void set_up_stepping(Fixture *f, const char *timeout)
{
    set_up(f, "file");
    split_storage(f);
    for (int i = 0; i < 2; i++) {
        host_set(&f->host[i], "arbiter", "check-period", "50ms");
        host_set(&f->host[i], "switchover", "switchover-timeout", timeout ? timeout : "30s");
        host_set(&f->host[i], "switchover", "downtime-limit", "10s");
        host_set(&f->host[i], "switchover", "abort-on-error", "yes");
    }
}

/* Protected. The guest takes steps all the time. */
static inline void run_stepping(Fixture *f)
{
    start(&f->host[0], "primary");
    start(&f->host[1], "secondary");
    protect(f, 0);
    fake_vm_autorun(f->host[0].vm, 1, 1);
}

static inline void start_stepping(Fixture *f, const char *timeout)
{
    set_up_stepping(f, timeout);
    run_stepping(f);
}

static inline SwitchoverPhase phase_of(const Host *host)
{
    return switchover_phase(host->node->switchover);
}

static inline guint32 begin(const Host *host, gboolean pause)
{
    g_autoptr(GError) error = NULL;
    guint32 id = 0;
    gboolean ok = switchover_begin(host->node->switchover, pause, &id, &error);
    g_assert_no_error(error);
    g_assert_true(ok && id > 0);
    return id;
}

/* It goes on where it stood, protected, in the same session. */
static inline void await_way_back(Fixture *f, guint64 stood_at)
{
    Host *a = &f->host[0], *b = &f->host[1];
    guint64 epoch = b->node->epoch;
    WAIT_FOR(a->node->state == FSM_P_COLO && vm_is_running(a->vm) &&
             fake_vm_steps(a->vm) > stood_at);
    ask_for_checkpoint(f);
    WAIT_FOR(b->node->epoch > epoch && b->node->state == FSM_S_COLO);
    g_assert_false(a->ended || b->ended);
    g_assert_cmpuint(figures_takeovers(b->node->figures), ==, 0);
}

/* Once it is held the limit of time, which is short here, does not count. Until then it does: on a machine
 * that is busy, it is begun again. */
static inline void start_held(Fixture *f)
{
    start_stepping(f, "500ms");
    Host *a = &f->host[0];
    do {
        begin(a, TRUE);
        WAIT_FOR(a->node->state == FSM_P_PRE_SWITCHOVER || !switchover_is_under_way(phase_of(a)));
    } while (phase_of(a) == SWITCHOVER_FAILED);
    g_assert_cmpint(phase_of(a), ==, SWITCHOVER_PRE);
    g_assert_cmpint(primary_phase(a->node->primary), ==, CYCLE_HELD);
    g_assert_false(vm_is_running(a->vm));
    g_assert_true(node_is_protected(a->node));
}

static inline gboolean go_on(const Host *host, const char *state, GError **error)
{
    return switchover_continue(host->node->switchover, state, error);
}

#endif
