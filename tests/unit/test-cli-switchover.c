/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What `colo switchover` makes of a status of it. */
#include "colo/cli/cli.h"

static const struct {
    const char *status;
    CliOutcome outcome;
    const char *text;
} cases[] = {
    {"{\"status\":\"setup\",\"ack-pending\":[]}",                      CLI_WAITS,   "the secondary to approve"                       },
    {"{\"status\":\"setup\",\"ack-pending\":[\"disks\",\"vm\"]}",      CLI_WAITS,
     "the secondary to approve of: disks, vm"                                                                                        },
    {"{\"status\":\"active\"}",                                        CLI_WAITS,   "less memory to be left to send (downtime-limit)"},
    {"{\"status\":\"pre-switchover\"}",                                CLI_WAITS,
     "an order, with the VM paused: colo continue, or colo cancel"                                                                   },
    {"{\"status\":\"device\"}",                                        CLI_WAITS,   "the end of status device"                       },
    {"{\"status\":\"handed\"}",                                        CLI_WAITS,   "the end of status handed"                       },
    {"{\"status\":\"cancelling\"}",                                    CLI_WAITS,   "the end of status cancelling"                   },
    {"{\"status\":\"completed\",\"downtime-ms\":8.25,\"error\":null}", CLI_DONE,
     "the other node has taken the VM, 8.2 ms after it was paused"                                                                   },
    {"{\"status\":\"completed\",\"downtime-ms\":null}",                CLI_DONE,    "the VM runs on this node"                       },
    {"{\"status\":\"cancelled\"}",                                     CLI_REFUSED, "cancelled: the VM runs where it ran"            },
    {"{\"status\":\"failed\",\"error\":\"the link was lost\"}",        CLI_REFUSED,
     "failed: the link was lost"                                                                                                     },
 /* colod was started again meanwhile. */
    {"{}",                                                             CLI_REFUSED, "failed: colod does not say why"                 },
};

static void test_outcomes(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = NULL;
        json_object *now = json_tokener_parse(cases[i].status);
        g_assert_cmpint(cli_switchover_outcome(now, &text), ==, cases[i].outcome);
        g_assert_cmpstr(text, ==, cases[i].text);
        json_object_put(now);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cli-switchover/outcomes", test_outcomes);
    return g_test_run();
}
