/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What `colo failover` makes of two statuses: the one it was ordered in, and the one now. */
#include "colo/cli/cli.h"

#include <string.h>

static json_object *status(const char *role, const char *state, const char *session,
                           gboolean connected)
{
    g_autofree char *text = g_strdup_printf(
        "{\"node\":\"alpha\",\"role\":\"%s\",\"state\":\"%s\",\"session\":\"%s\","
        "\"peer\":{\"name\":\"beta\",\"connected\":%s},"
        "\"waiting\":{\"for\":\"a decision\"},\"last-error\":{\"text\":\"it broke\"}}",
        role, state, session, connected ? "true" : "false");
    return json_tokener_parse(text);
}

static const struct {
    const char *role_before, *state_before, *role, *state, *session;
    gboolean connected;
    CliOutcome outcome;
    const char *text;
} cases[] = {
  /* on the primary of a protected VM */
    {"primary",   "colo",   "primary",   "colo",     "1", TRUE,  CLI_REFUSED,
     "refused, the VM stays on this node: it broke"                                                       },
    {"primary",   "colo",   "primary",   "device",   "1", TRUE,  CLI_WAITS,   "beta is asked to take over"},
    {"primary",   "colo",   "primary",   "paused",   "",  FALSE, CLI_WAITS,   "beta is asked to take over"},
    {"primary",   "colo",   "secondary", "starting", "",  FALSE, CLI_WAITS,
     "beta takes over; waiting for its confirmation"                                                      },
    {"primary",   "colo",   "secondary", "none",     "",  FALSE, CLI_WAITS,
     "beta takes over; waiting for its confirmation"                                                      },
    {"primary",   "colo",   "secondary", "active",   "2", TRUE,  CLI_DONE,    "taken over by beta"        },
    {"primary",   "colo",   "secondary", "colo",     "2", TRUE,  CLI_DONE,    "taken over by beta"        },
    {"primary",   "colo",   "primary",   "none",     "",  FALSE, CLI_REFUSED,
     "refused, the VM stays on this node: it broke"                                                       },
    {"primary",   "colo",   "primary",   "colo",     "2", TRUE,  CLI_REFUSED,
     "refused, the VM stays on this node: it broke"                                                       },
 /* on the secondary */
    {"secondary", "colo",   "secondary", "colo",     "1", TRUE,  CLI_WAITS,   "a decision"                },
    {"secondary", "colo",   "secondary", "device",   "",  FALSE, CLI_WAITS,   "a decision"                },
    {"secondary", "colo",   "primary",   "none",     "",  FALSE, CLI_DONE,    "taken over by alpha"       },
    {"secondary", "colo",   "secondary", "none",     "",  FALSE, CLI_REFUSED, "refused: the VM is beta's" },
 /* after a lost link */
    {"secondary", "paused", "secondary", "paused",   "",  FALSE, CLI_WAITS,   "a decision"                },
    {"secondary", "paused", "primary",   "none",     "",  FALSE, CLI_DONE,    "taken over by alpha"       },
    {"secondary", "paused", "secondary", "active",   "2", TRUE,  CLI_REFUSED,
     "refused: the VM is beta's"                                                                          },
    {"primary",   "paused", "primary",   "paused",   "",  FALSE, CLI_WAITS,   "a decision"                },
    {"primary",   "paused", "primary",   "none",     "",  FALSE, CLI_DONE,    "alpha continues alone"     },
    {"primary",   "paused", "secondary", "starting", "",  FALSE, CLI_REFUSED,
     "refused: the VM is beta's"                                                                          },
    {"primary",   "paused", "primary",   "frozen",   "",  FALSE, CLI_REFUSED, "refused: the VM is beta's" },
};

static void test_outcomes(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_test_message("case %zu", i);
        json_object *before = status(cases[i].role_before, cases[i].state_before, "1", TRUE);
        json_object *now =
            status(cases[i].role, cases[i].state, cases[i].session, cases[i].connected);
        g_autofree char *text = NULL;
        g_assert_cmpint(cli_failover_outcome(before, now, &text), ==, cases[i].outcome);
        g_assert_cmpstr(text, ==, cases[i].text);
        json_object_put(before);
        json_object_put(now);
    }
}

/* Another colod may say less, or other things. */
static void test_anything(void)
{
    static const char *const texts[] = {"null", "[]", "{}", "{\"role\":7,\"peer\":[]}"};
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++)
        for (gsize j = 0; j < G_N_ELEMENTS(texts); j++) {
            json_object *before = json_tokener_parse(texts[i]), *now = json_tokener_parse(texts[j]);
            g_autofree char *text = NULL;
            g_assert_cmpint(cli_failover_outcome(before, now, &text), ==, CLI_WAITS);
            g_assert_nonnull(text);
            json_object_put(before);
            json_object_put(now);
        }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cli-failover/outcomes", test_outcomes);
    g_test_add_func("/cli-failover/anything", test_anything);
    return g_test_run();
}
