/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What `colo switchover` makes of a status of it. */
#include "colo/cli/cli.h"

static const struct {
    const char *status;
    SwitchoverOutcome outcome;
    const char *text;
} cases[] = {
    {"{\"status\":\"setup\",\"ack-pending\":[]}",                      SWITCHOVER_IS_UNDER_WAY,
     "the secondary to approve"                                                                                                      },
    {"{\"status\":\"setup\",\"ack-pending\":[\"disks\",\"vm\"]}",      SWITCHOVER_IS_UNDER_WAY,
     "the secondary to approve of: disks, vm"                                                                                        },
    {"{\"status\":\"active\"}",                                        SWITCHOVER_IS_UNDER_WAY,
     "less memory to be left to send (downtime-limit)"                                                                               },
    {"{\"status\":\"pre-switchover\"}",                                SWITCHOVER_IS_UNDER_WAY,
     "an order, with the VM paused: colo continue, or colo cancel"                                                                   },
    {"{\"status\":\"device\"}",                                        SWITCHOVER_IS_UNDER_WAY, "the end of status device"           },
    {"{\"status\":\"handed\"}",                                        SWITCHOVER_IS_UNDER_WAY, "the end of status handed"           },
    {"{\"status\":\"cancelling\"}",                                    SWITCHOVER_IS_UNDER_WAY, "the end of status cancelling"       },
    {"{\"status\":\"completed\",\"downtime-ms\":8.25,\"error\":null}", SWITCHOVER_IS_DONE,
     "the other node has taken the VM, 8.2 ms after it was paused"                                                                   },
    {"{\"status\":\"completed\",\"downtime-ms\":null}",                SWITCHOVER_IS_DONE,
     "the VM runs on this node"                                                                                                      },
    {"{\"status\":\"cancelled\"}",                                     SWITCHOVER_IS_NOT_DONE,  "cancelled: the VM runs where it ran"},
    {"{\"status\":\"failed\",\"error\":\"the link was lost\"}",        SWITCHOVER_IS_NOT_DONE,
     "failed: the link was lost"                                                                                                     },
 /* colod was started again meanwhile. */
    {"{}",                                                             SWITCHOVER_IS_NOT_DONE,  "failed: colod does not say why"     },
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
