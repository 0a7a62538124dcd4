/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/advice.h"

#include <string.h>

/* %s in a text is the peer. */
typedef struct {
    const char *waits, *runs, *can;
} Row;

#define OVERRULE                                                                                   \
    "if %s and its VM are off for certain, and it can't come back: end this colod and start it "   \
    "with --role primary --overrule-arbiter (if both run, clients see two VMs)"

#define NOBODY_DECIDES                                                                             \
    "if %s or its VM is off for certain: 'colo failover --force' here (if both continue, clients " \
    "see two VMs); else mend the link, and the nodes decide"

/* Linked again, the peer may know as little: its VM may have run, and ended, since. */
#define HANDED                                                                                     \
    "look on %s whether the VM has run there: if it has, start it there, and this colod as its "   \
    "secondary; if it has not, and won't: 'colo failover --force' here (if both continue, "        \
    "clients see two VMs)"

#define FROZEN                                                                                     \
    "start %s or mend the link: this node then becomes its secondary; if %s and its VM are off "   \
    "for certain, and no client received its output: 'colo failover --force' here (if both "       \
    "continue, clients see two VMs)"

static const Row rows[FSM_STATES] = {
    [FSM_P_ASKING] = {"the arbiter: which node owns the VM",
                      "nothing runs here; the VM may run on %s",                                                                                        OVERRULE      },
    [FSM_P_NONE] = {"a secondary",                                                                    "the VM runs here, unprotected",
                      "start colod on %s with role secondary or auto"                                                                                                 },
    [FSM_P_PAUSED] = {"a decision which node continues: the link to %s is lost",
                      "the VM is here, its output held; %s may have taken it over",                                                                     NOBODY_DECIDES},
    [FSM_P_RECOVER] =
        {"a decision which node continues: %s is back, and may have run the VM meanwhile",
                      "the VM is here, its output held",                                                                                                NOBODY_DECIDES},
    [FSM_P_FROZEN] = {"%s to run the VM: the arbiter has let it continue",
                      "the VM is paused here; it runs on %s if anywhere",                                                                               FROZEN        },
    [FSM_S_SETUP] = {"%s to run the VM",                                                               "the VM is on %s; there is no copy of it here",
                      "'colo status' on %s shows what it waits for"                                                                                                   },
    [FSM_S_RECOVER] =
        {"a decision which node continues: %s is back",
                      "a copy of the VM is here, its output not released; on %s the VM may run, or wait too",
                      NOBODY_DECIDES                                                                                                                                  },
    [FSM_S_NONE] = {"a primary: looks for %s",
                      "the VM runs on %s if anywhere; there is no copy of it "
                    "here",                                                                                                                             OVERRULE      },
    [FSM_S_PAUSED] =
        {"a decision which node continues: the link to %s is lost",
                      "a copy of the VM is here, its output not released; on %s the VM may run, or wait too",
                      NOBODY_DECIDES                                                                                                                                  },
};

/* The text with the peer for each %s. */
static char *fill(const char *text, const char *peer)
{
    g_auto(GStrv) parts = g_strsplit(text, "%s", -1);
    return g_strjoinv(peer, parts);
}

gboolean advice_of(const AdviceFacts *facts, Advice *ret_advice)
{
    const Row *row = &rows[facts->state];
    if (!row->waits)
        return FALSE;
    gboolean decides = facts->state == FSM_P_PAUSED || facts->state == FSM_P_RECOVER ||
                       facts->state == FSM_S_PAUSED || facts->state == FSM_S_RECOVER;
    g_autofree char *waits = fill(row->waits, facts->peer);
    gboolean may_run_there = decides && facts->handed && facts->no_arbiter;
    g_autofree char *can = fill(may_run_there ? HANDED : row->can, facts->peer);
    const char *why = !decides            ? ""
                      : facts->no_arbiter ? " (there is no arbiter: you decide)"
                      : facts->undecided  ? " (the arbiter can't be asked now)"
                                          : " (the arbiter is being asked)";
    *ret_advice = (Advice){.waits = g_strconcat(waits, why, NULL),
                           .runs = fill(row->runs, facts->peer),
                           .can = g_steal_pointer(&can)};
    return TRUE;
}

void advice_clear(Advice *advice)
{
    g_clear_pointer(&advice->waits, g_free);
    g_clear_pointer(&advice->runs, g_free);
    g_clear_pointer(&advice->can, g_free);
}
