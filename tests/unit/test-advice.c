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

/* A protected VM waits for nothing. */
static void test_protected(void)
{
    for (FsmState state = 0; state < FSM_STATES; state++)
        if (fsm_is_protected(state))
            g_assert_null(advice_in(state, FALSE, FALSE).waits);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/advice/all", test_all);
    g_test_add_func("/advice/way-out", test_way_out);
    g_test_add_func("/advice/protected", test_protected);
    return g_test_run();
}
