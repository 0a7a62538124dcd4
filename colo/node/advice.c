/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/advice.h"

#include <string.h>

/* %s in a text is the peer. */
typedef struct {
    const char *waits, *runs, *can;
} Row;

#define OVERRULE                                                                                   \
    "if %s and its VM are off for certain, and it can't come back: end this colod and start it "   \
    "with --role primary --overrule-arbiter (two that run would both be the VM)"

#define NOBODY_SAYS                                                                                \
    "if %s or its VM is off for certain: 'colo failover --force' here (two that go on would both " \
    "be the VM); else mend the link, and what happened is found out"

#define FROZEN                                                                                     \
    "start %s or mend the link: this node then becomes its secondary; if %s and its VM are off "   \
    "for certain, and nobody has heard that VM since: 'colo failover --force' here (two that go "  \
    "on would both be the VM)"

static const Row rows[FSM_STATES] = {
    [FSM_P_ASKING] = {"the arbiter to say whose the VM is",
                      "nothing runs here; the VM may run on %s",                                                            OVERRULE                                      },
    [FSM_P_NONE] = {"a secondary",                                                       "the VM runs here, unprotected",
                      "start colod on %s with role secondary or auto"                                                                                                     },
    [FSM_P_PAUSED] = {"a word who goes on: the link to %s is lost",
                      "the VM is here and unheard; %s may have taken it over",                                              NOBODY_SAYS                                   },
    [FSM_P_RECOVER] = {"a word who goes on: %s is back, and may have run the VM meanwhile",
                      "the VM is here and unheard",                                                                         NOBODY_SAYS                                   },
    [FSM_P_FROZEN] = {"%s to be seen running the VM, which the arbiter has let go on",
                      "the VM is here and stands still; it runs on %s if anywhere",                                         FROZEN                                        },
    [FSM_S_SETUP] = {"%s to say that it runs the VM",
                      "the VM is on %s; there is no copy of it here",                                                       "'colo status' on %s says what that waits for"},
    [FSM_S_RECOVER] =
        {"the word of %s, which is back, on who goes on",
                      "a copy of the VM is here and unheard; on %s the VM may run, or wait likewise",
                      NOBODY_SAYS                                                                                                                                         },
    [FSM_S_NONE] = {"a primary: looks for %s",
                      "the VM runs on %s if anywhere; there is no copy of it "
                    "here",                                                                                                 OVERRULE                                      },
    [FSM_S_PAUSED] =
        {"a word who goes on: the link to %s is lost",
                      "a copy of the VM is here and unheard; on %s the VM may run, or wait likewise",
                      NOBODY_SAYS                                                                                                                                         },
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
    g_autofree char *can = fill(row->can, facts->peer);
    const char *why = !decides            ? ""
                      : facts->no_arbiter ? " (there is no arbiter: you say)"
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
