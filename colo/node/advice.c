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

#define ENDS "'colo quit' here ends this node"

#define GIVES                                                                                      \
    "mend the way to the arbiter's storage; or end colod here for certain, and 'colo failover "    \
    "--force' on %s continues the VM there"

/* clang-format off */
static const Row rows[FSM_STATES] = {
    [FSM_P_ASKING] = {
        "the arbiter: which node owns the VM",
        "nothing runs here; the VM may run on %s", OVERRULE},
    [FSM_P_STARTING] = {
        "QEMU and the disks to start",
        "nothing runs here yet", ENDS},
    [FSM_P_NONE] = {
        "a secondary",
        "the VM is here, unprotected",
        "start colod on %s with role secondary or auto"},
    [FSM_P_SETUP] = {
        "%s, which is linked, to make itself ready",
        "the VM is here, unprotected",
        "'colo status' on %s shows what it waits for; 'colo pause' here ends the link"},
    [FSM_P_ACTIVE] = {
        "the first synchronisation, and the proof that %s can load the VM",
        "the VM is here, unprotected",
        "'colo status' on %s shows what it waits for; 'colo pause' here ends the link"},
    [FSM_P_PRE_SWITCHOVER] = {
        "an administrator: the switchover is held",
        "the VM is paused here; %s has a copy of it",
        "'colo continue' here hands the VM over, 'colo cancel' on either node has it run here"},
    [FSM_P_DEVICE] = {
        "the VM to be paused here, and its last checkpoint to be on %s",
        "the VM is here, paused or about to be",
        "'colo cancel' has it run here, unless it is a failover"},
    [FSM_P_HANDED] = {
        "%s to take the VM, or to leave it here",
        "the VM is paused here; it may be about to run on %s",
        "'colo cancel' asks %s to leave it here; 'colo status' on %s shows what it waits for"},
    [FSM_P_PAUSED] = {
        "a decision which node continues: the link to %s is lost",
        "the VM is here, its output held; %s may have taken it over", NOBODY_DECIDES},
    [FSM_P_RECOVER] = {
        "a decision which node continues: %s is back, and may have run the VM meanwhile",
        "the VM is here, its output held", NOBODY_DECIDES},
    [FSM_P_FROZEN] = {
        "%s to run the VM: the arbiter has let it continue",
        "the VM is paused here; it runs on %s if anywhere", FROZEN},
    [FSM_S_STARTING] = {
        "QEMU and the disks to start",
        "the VM runs on %s if anywhere; there is no copy of it here", ENDS},
    [FSM_S_NONE] = {
        "a primary: looks for %s",
        "the VM runs on %s if anywhere; there is no copy of it here", OVERRULE},
    [FSM_S_SETUP] = {
        "%s to run the VM",
        "the VM is on %s; there is no copy of it here",
        "'colo status' on %s shows what it waits for"},
    [FSM_S_ACTIVE] = {
        "the first synchronisation, and the proof that this node can load the VM",
        "the VM runs on %s, unprotected",
        "'colo status' on %s shows what it waits for; 'colo pause' here ends the link"},
    [FSM_S_HANDED] = {
        "QEMU here, or the arbiter: may this node take the VM that %s hands over",
        "the VM is paused on %s; a copy of it is here",
        "'colo cancel' on either node leaves it on %s"},
    [FSM_S_PAUSED] = {
        "a decision which node continues: the link to %s is lost",
        "a copy of the VM is here, its output not released; on %s the VM may run, or wait too",
        NOBODY_DECIDES},
    [FSM_S_RECOVER] = {
        "a decision which node continues: %s is back",
        "a copy of the VM is here, its output not released; on %s the VM may run, or wait too",
        NOBODY_DECIDES},
    [FSM_S_DEVICE] = {
        "QEMU and the disks here, to continue the VM",
        "the VM is to run here; it doesn't run on %s any more",
        "it is tried until it is done; " ENDS},
    [FSM_S_TAKING] = {
        "QEMU and the disks here, to take the VM that %s has handed over",
        "the VM is paused on %s, which can have it back",
        "it is tried for disk-timeout; 'colo quit' here gives the VM back to %s"},
    [FSM_S_GIVING] = {
        "the arbiter, to have the VM given back to %s",
        "the VM is paused on %s; there is no copy of it here", GIVES},
    [FSM_S_LEAVING] = {
        "the arbiter, to have the VM given back to %s before this node ends",
        "the VM is paused on %s; there is no copy of it here", GIVES},
    [FSM_COMPLETED] = {
        "the arbiter, to have it on record that this node has ended",
        "nothing runs here any more", "it ends in a moment, whatever the arbiter does"},
};
static const Row ends_row = {
    "%s to have the last writes to the disks, before this node ends",
    "the VM is paused here, about to end", "'colo quit' here ends this node at once"};
static const Row refused_row = {
    "the VM to be resumed", "the VM is here, and does not run",
    "mend what refuses; 'colo cont' tries it at once"};
/* clang-format on */

static const Row *row_of(const AdviceFacts *facts)
{
    gboolean is_here = facts->state == FSM_P_NONE || facts->state == FSM_P_SETUP ||
                       facts->state == FSM_P_ACTIVE || facts->state == FSM_P_COLO;
    return facts->state == FSM_P_COLO && facts->ends ? &ends_row
           : is_here && facts->refusal               ? &refused_row
                                                     : &rows[facts->state];
}

/* The text with the peer for each %s. */
static char *fill(const char *text, const char *peer)
{
    g_auto(GStrv) parts = g_strsplit(text, "%s", -1);
    return g_strjoinv(peer, parts);
}

gboolean advice_of(const AdviceFacts *facts, Advice *ret_advice)
{
    const Row *row = row_of(facts);
    if (!row->waits)
        return FALSE;
    gboolean decides = facts->state == FSM_P_PAUSED || facts->state == FSM_P_RECOVER ||
                       facts->state == FSM_S_PAUSED || facts->state == FSM_S_RECOVER;
    g_autofree char *waits = fill(row->waits, facts->peer);
    gboolean may_run_there = decides && facts->handed && facts->no_arbiter;
    g_autofree char *can = fill(may_run_there ? HANDED : row->can, facts->peer);
    const char *arbiter = !decides            ? ""
                          : facts->no_arbiter ? " (there is no arbiter: you decide)"
                          : facts->undecided  ? " (the arbiter can't be asked now)"
                                              : " (the arbiter is being asked)";
    const char *step_text = row == &refused_row ? facts->refusal : facts->step;
    g_autofree char *step = step_text ? g_strdup_printf(" (%s)", step_text) : NULL;
    gboolean starts = facts->state == FSM_S_STARTING || facts->state == FSM_P_ACTIVE;
    if (starts && facts->arbiter) {
        g_free(waits);
        waits = g_strdup_printf("the arbiter: %s", facts->arbiter);
    }
    *ret_advice = (Advice){.waits = g_strconcat(waits, arbiter, step, NULL),
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
