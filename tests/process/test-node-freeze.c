/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Both hosts are stopped for longer than every timeout, as under a paused hypervisor, and continue.
 * Nobody may take that for the other's death, nor for that of the VM. Real processes that are
 * stopped at random moments of their checkpoints, both in one process and each in its own.
 */
#include "tests/support/host-child.h"

#define ROUNDS     3
#define STOPPED_MS (HOST_CHILD_ANSWER_MS + 300)

static const char *which_of[] = {"ab", "a", "b"};

static HostReport ask(HostChild *children, const char *name)
{
    gboolean together = children[1].pid == 0;
    return host_child_ask(&children[together || name[0] == 'a' ? 0 : 1], name);
}

/* Fails if one of them has lost the other: then it would not come back to what it was. */
static gboolean both_continue(HostChild *children, guint64 epoch)
{
    HostReport alpha = ask(children, "alpha"), beta = ask(children, "beta");
    g_assert_cmpint(alpha.state, ==, FSM_P_COLO);
    g_assert_cmpint(beta.state, ==, FSM_S_COLO);
    return alpha.epoch > epoch && beta.epoch > epoch;
}

static void freeze(HostChild *children)
{
    for (int round = 0; round < ROUNDS; round++) {
        guint64 epoch = ask(children, "alpha").epoch;
        g_usleep((gulong)g_test_rand_int_range(0, 30000));
        for (int i = 0; i < 2 && children[i].pid; i++)
            host_child_stop(&children[i]);
        /* What is tested is what time does: it can't be waited for otherwise. */
        g_usleep(STOPPED_MS * 1000);
        for (int i = 0; i < 2 && children[i].pid; i++)
            host_child_continue(&children[i]);
        /* An answer that was owed, and then some checkpoints. */
        WAIT_FOR(both_continue(children, epoch + 5));
    }
}

static gboolean is_protected(HostChild *children)
{
    return ask(children, "alpha").state == FSM_P_COLO && ask(children, "beta").state == FSM_S_COLO;
}

static void test_freeze(gconstpointer data)
{
    gboolean together = *(const gboolean *)data;
    HostChild children[2] = {0};
    Fixture f;
    set_up(&f, "file");
    for (int i = 0; i < (together ? 1 : 2); i++)
        host_child_start(&children[i], &f, which_of[together ? 0 : i + 1]);
    WAIT_FOR(is_protected(children));
    freeze(children);
    for (int i = 0; i < 2 && children[i].pid; i++)
        host_child_kill(&children[i]);
    tear_down(&f);
}

int main(int argc, char **argv)
{
    static const gboolean together = TRUE, apart = FALSE;
    host_child_main(argc, argv);
    g_test_init(&argc, &argv, NULL);
    add_pair_data_test("/node-freeze/together", &together, test_freeze);
    add_pair_data_test("/node-freeze/apart", &apart, test_freeze);
    return g_test_run();
}
