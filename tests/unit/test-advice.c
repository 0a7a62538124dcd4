/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a node that waits says: in every state that can last without an administrator's doing. */
#include "colo/node/advice.h"

#include <string.h>

static Advice advice_in(FsmState state, gboolean no_arbiter, gboolean undecided)
{
    AdviceFacts facts = {
        .state = state, .peer = "beta", .no_arbiter = no_arbiter, .undecided = undecided};
    Advice advice = {NULL, NULL, NULL};
    g_assert_true(advice_of(&facts, &advice) == (advice.waits != NULL));
    return advice;
}

/* In all states and circumstances: whole sentences or nothing. */
static void test_all(void)
{
    for (FsmState state = 0; state < FSM_STATES; state++)
        for (guint i = 0; i < 4; i++) {
            Advice advice = advice_in(state, i & 1, i & 2);
            if (!advice.waits)
                continue;
            const char *texts[] = {advice.waits, advice.runs, advice.can};
            for (gsize j = 0; j < G_N_ELEMENTS(texts); j++) {
                g_assert_cmpuint(strlen(texts[j]), >, 10);
                g_assert_null(strchr(texts[j], '%'));
            }
            advice_clear(&advice);
        }
}

/* Where nothing goes on by itself, the command that does is named, and when it is right. */
static void test_way_out(void)
{
    static const struct {
        FsmState state;
        const char *command;
    } cases[] = {
        {FSM_P_ASKING,  "--overrule-arbiter"   },
        {FSM_P_PAUSED,  "failover --force"     },
        {FSM_P_RECOVER, "failover --force"     },
        {FSM_P_FROZEN,  "colo failover --force"},
        {FSM_S_RECOVER, "failover --force"     },
        {FSM_S_NONE,    "--overrule-arbiter"   },
        {FSM_S_PAUSED,  "failover --force"     },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        Advice advice = advice_in(cases[i].state, FALSE, TRUE);
        g_assert_nonnull(strstr(advice.can, cases[i].command));
        g_assert_nonnull(strstr(advice.can, "if beta"));
        g_assert_nonnull(strstr(advice.can, "off for certain"));
        advice_clear(&advice);
    }
    Advice asked = advice_in(FSM_S_PAUSED, FALSE, FALSE);
    g_assert_nonnull(strstr(asked.waits, "is being asked"));
    advice_clear(&asked);
    /* The nodes can't find that out by themselves. */
    AdviceFacts facts = {
        .state = FSM_P_RECOVER, .peer = "beta", .no_arbiter = TRUE, .handed = TRUE};
    Advice handed;
    g_assert_true(advice_of(&facts, &handed));
    g_assert_nonnull(strstr(handed.can, "look on beta"));
    g_assert_null(strstr(handed.can, "the nodes decide"));
    advice_clear(&handed);
    Advice nobody = advice_in(FSM_S_PAUSED, TRUE, TRUE);
    g_assert_nonnull(strstr(nobody.waits, "there is no arbiter"));
    advice_clear(&nobody);
}

/* A protected VM waits for nothing, and a node that has failed for nobody; all others say what for. */
static void test_protected(void)
{
    for (FsmState state = 0; state < FSM_STATES; state++) {
        Advice advice = advice_in(state, FALSE, FALSE);
        gboolean rests = state == FSM_P_COLO || state == FSM_S_COLO || state == FSM_FAILED;
        g_assert_true(rests == !advice.waits);
        advice_clear(&advice);
    }
}

static Advice advice_with(AdviceFacts facts)
{
    Advice advice = {NULL, NULL, NULL};
    facts.peer = "beta";
    g_assert_true(advice_of(&facts, &advice));
    return advice;
}

/* What is known of it is said. */
static void test_details(void)
{
    static const struct {
        AdviceFacts facts;
        const char *waits, *runs;
    } cases[] = {
        {{.state = FSM_P_NONE, .refusal = "disk full"},  "resumed (disk full)",       "does not run"},
        {{.state = FSM_P_COLO, .refusal = "disk full"},  "resumed (disk full)",       "does not run"},
        {{.state = FSM_P_COLO, .ends = TRUE},            "beta to have the last",     "about to end"},
        {{.state = FSM_P_DEVICE, .step = "QEMU hangs"},  "(QEMU hangs)",              "paused"      },
        {{.state = FSM_S_DEVICE, .step = "takeover"},    "(takeover)",                "beta"        },
        {{.state = FSM_S_STARTING, .arbiter = "is off"}, "the arbiter: is off",       "beta"        },
        {{.state = FSM_P_ACTIVE, .arbiter = "is off"},   "the arbiter: is off",       "unprotected" },
        {{.state = FSM_P_ACTIVE},                        "the first synchronisation", "unprotected" },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        Advice advice = advice_with(cases[i].facts);
        g_assert_nonnull(strstr(advice.waits, cases[i].waits));
        g_assert_nonnull(strstr(advice.runs, cases[i].runs));
        advice_clear(&advice);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/advice/all", test_all);
    g_test_add_func("/advice/way-out", test_way_out);
    g_test_add_func("/advice/protected", test_protected);
    g_test_add_func("/advice/details", test_details);
    return g_test_run();
}
