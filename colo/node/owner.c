/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose the VM is: a node that starts as primary, or as either, asks the arbiter first; who runs
 * the VM keeps it on record there (colo/arbiter/owner.c says why that is enough). What can't be asked or
 * written is tried again until it can: meanwhile no VM is started, and no protection is claimed.
 *
 * A node that is told no, as one of either role, waits for the other as its secondary. But the
 * other may have been chosen and not have all of the VM's data: then it gives the VM back when it
 * starts, and waits likewise. So who waits, and has not had a primary yet, asks again from time to
 * time, and starts the VM if that is on record as its own by now, and its disks are good. One whose
 * primary has ended the VM on purpose doesn't ask.
 */
#include "colo/node/node_internal.h"
#include "common/log.h"
#include "common/patience.h"

#include <string.h>

/* How long to wait before an arbiter that couldn't be asked is asked again. */
#define AGAIN_MS 1000

/* How often a node that waits asks whether the VM is its own by now. */
#define WAITS_MS 2000

/*
 * A primary that is back at once gives its secondary this many heartbeat timeouts to find out and
 * to take over: it has the VM's state, this node no more.
 */
#define PATIENCE 2

/* A record that can't be removed must not keep a node from ending. */
#define RELEASE_MS 2000

static void arm(Node *node, guint ms, GSourceFunc func)
{
    if (node->owner_timer)
        g_source_remove(node->owner_timer);
    node->owner_timer = patience_add(ms, func, node);
}

/* ---- Waiting ---- */

static gboolean on_waits(gpointer user_data);

static void on_inherited(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (answer == ARBITER_GRANTED && node->asks_whose && node->state == FSM_S_NONE) {
        log_info("the VM was given back, and is this node's: starting as primary");
        node->asks_whose = FALSE;
        node_event(node, FSM_GRANTED);
        return;
    }
    /* In turn with the one that is late, which will be answered. */
    if (node->asks_whose && !g_error_matches(error, ARBITER_ERROR, ARBITER_ERROR_LATE))
        arm(node, WAITS_MS, on_waits);
}

static gboolean on_waits(gpointer user_data)
{
    Node *node = user_data;
    node->owner_timer = 0;
    if (!node->asks_whose)
        return G_SOURCE_REMOVE;
    /* A primary that is there may be about to say that it runs the VM. */
    if (node->state == FSM_S_NONE)
        arbiter_claim(node->arbiter, node->config->vm->uuid, node->config->name, ARBITER_INHERIT,
                      &node->stake, on_inherited, node);
    else
        arm(node, WAITS_MS, on_waits);
    return G_SOURCE_REMOVE;
}

/* ---- Starting ---- */

static gboolean on_claim_again(gpointer user_data)
{
    Node *node = user_data;
    node->owner_timer = 0;
    if (node->state == FSM_P_ASKING)
        owner_claim(node);
    return G_SOURCE_REMOVE;
}

/* The VM is not this node's, or must not run from its disks. */
static void denied(Node *node, const GError *error)
{
    if (strcmp(node->config->role, "auto") != 0 || node->config->overrule) {
        node_vm_lost(node, "this node can't start as primary", error);
        return;
    }
    if (g_error_matches(error, ARBITER_ERROR, ARBITER_ERROR_DISKS))
        node_report(node, "this node starts as secondary, and waits", error);
    else
        log_warning("the VM is the other node's: starting as its secondary");
    /* Without an arbiter there is nobody to ask. */
    node->asks_whose = strcmp(node->config->arbiter, "none") != 0;
    if (node->asks_whose)
        arm(node, WAITS_MS, on_waits);
    node_event(node, FSM_DENIED);
}

static void on_claimed(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (node->state != FSM_P_ASKING)
        return;
    g_autoptr(GError) disks = NULL;
    switch (answer) {
    case ARBITER_MANUAL:
        /* Nobody keeps a record: only what the disks say themselves. */
        if (node->claiming != ARBITER_OVERRULE &&
            !arbiter_stake_is_good(&node->stake, NULL, node->config->name, FALSE, &disks)) {
            denied(node, disks);
            return;
        }
        node_event(node, FSM_GRANTED);
        return;
    case ARBITER_GRANTED:
        node_event(node, FSM_GRANTED);
        return;
    case ARBITER_DENIED:
        denied(node, error);
        return;
    case ARBITER_OPEN:
        log_info("this node ran the VM, protected: its secondary may be taking over, let it");
        node->claiming = ARBITER_CLAIM;
        arm(node, (guint)(PATIENCE * node->config->heartbeat_timeout_ms), on_claim_again);
        return;
    case ARBITER_UNKNOWN:
        if (node->claiming == ARBITER_OVERRULE) {
            /* The administrator's word needs no storage; who starts after this must read it. */
            log_warning("the arbiter can't be told that: %s", error->message);
            node_event(node, FSM_GRANTED);
            owner_record(node);
            return;
        }
        node_report_once(node, "the arbiter can't be asked, the VM isn't started", error);
        /* One that is late is in turn before any other, and will be answered. */
        if (!g_error_matches(error, ARBITER_ERROR, ARBITER_ERROR_LATE))
            arm(node, AGAIN_MS, on_claim_again);
        return;
    }
}

void owner_claim(Node *node)
{
    if (!generation_is_known(node))
        return;
    node->stake.chosen = !strcmp(node->config->role, "primary");
    /* Half a replica is no VM's disk, whoever says so: the arbiter tells whose are good. */
    if (node->config->overrule && node->stake.generation.data != GENERATION_BROKEN) {
        log_warning("the VM is started here by an administrator's decision, whoever had it");
        node->claiming = ARBITER_OVERRULE;
    }
    arbiter_claim(node->arbiter, node->config->vm->uuid, node->config->name, node->claiming,
                  &node->stake, on_claimed, node);
}

/* ---- Running ---- */

static void ask_record(Node *node);

static gboolean on_record_again(gpointer user_data)
{
    Node *node = user_data;
    node->owner_timer = 0;
    ask_record(node);
    return G_SOURCE_REMOVE;
}

static gboolean may_write(const Node *node)
{
    return fsm_is_primary(node->state) && !fsm_is_contested(node->state);
}

static void on_recorded(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (g_error_matches(error, ARBITER_ERROR, ARBITER_ERROR_LATE)) {
        node_report_once(node, "the arbiter can't be told whose the VM is", error);
        return;
    }
    /* They are answered in their order: only the last one counts. */
    if (--node->records_asked > 0 || !may_write(node))
        return;
    if (answer == ARBITER_UNKNOWN) {
        node_report_once(node, "the arbiter can't be told whose the VM is", error);
        arm(node, AGAIN_MS, on_record_again);
        return;
    }
    node->recorded = TRUE;
    primary_reschedule(node);
}

/*
 * The arbiter of the first session is this node's from then on, also after a reboot: no protection
 * before that is on disk.
 */
static void on_pinned(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (answer == ARBITER_UNKNOWN) {
        node_report_once(node, "this node can't remember its arbiter", error);
        if (may_write(node) && !g_error_matches(error, ARBITER_ERROR, ARBITER_ERROR_LATE))
            arm(node, AGAIN_MS, on_record_again);
    } else {
        ask_record(node);
    }
}

void owner_pin(Node *node)
{
    if (!arbiter_is_pinned(node->arbiter))
        arbiter_pin(node->arbiter, on_pinned, node);
}

/* Only who runs the VM alone writes: nobody can have won anything meanwhile. */
static void ask_record(Node *node)
{
    if (!may_write(node))
        return;
    if (node->record_session && !arbiter_is_pinned(node->arbiter)) {
        owner_pin(node);
        return;
    }
    node->records_asked++;
    arbiter_record(node->arbiter, node->config->vm->uuid, node->record_session, node->config->name,
                   node->generation, on_recorded, node);
}

void owner_generation_changed(Node *node)
{
    ask_record(node);
}

void owner_record(Node *node)
{
    g_free(node->record_session);
    node->record_session = node->state == FSM_P_ACTIVE ? g_strdup(link_session(node->link)) : NULL;
    node->recorded = FALSE;
    ask_record(node);
}

/* It is done or not: nothing depends on it. */
static void on_tidied(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    (void)user_data;
    if (answer == ARBITER_UNKNOWN)
        log_debug("old decisions stay: %s", error->message);
}

void owner_proven(Node *node)
{
    node_event(node, FSM_PROVEN);
    arbiter_tidy(node->arbiter, node->config->vm->uuid, node->record_session, on_tidied, node);
}

/* ---- Overruling the arbiter ---- */

static void on_overruled(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (node->state != FSM_P_FROZEN)
        return;
    if (answer == ARBITER_UNKNOWN)
        log_warning("the arbiter can't be told that (keep the other node off until it has been): "
                    "%s",
                    error->message);
    node_event(node, FSM_GRANTED);
    if (answer == ARBITER_UNKNOWN)
        owner_record(node); /* is tried until it is there */
}

/*
 * The decision that chose the other side stays, but the record names its session no more: whoever
 * starts there is told that the VM is this node's.
 */
void owner_overrule(Node *node)
{
    log_warning("the VM goes on here by an administrator's decision, though the other side was "
                "let go on");
    g_clear_pointer(&node->record_session, g_free);
    arbiter_claim(node->arbiter, node->config->vm->uuid, node->config->name, ARBITER_OVERRULE,
                  &node->stake, on_overruled, node);
}

/* ---- A yes that came too late ---- */

static void on_given_back(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    (void)user_data;
    if (answer == ARBITER_UNKNOWN)
        log_warning("it stays on record that the VM is this node's: %s", error->message);
}

/*
 * The arbiter has let this secondary go on after it had left the VM to the primary. As long as that
 * runs it, protected, the decision stands and decides the next lost link. But if the primary has
 * ended the VM, nobody could start it: to the primary it is this node's, and this node doesn't know.
 */
void owner_give_back(Node *node)
{
    if (!node->granted_late || node->state != FSM_S_NONE)
        return;
    log_info("the VM, which the arbiter gave to this node too late, is given back");
    node->granted_late = FALSE;
    arbiter_release(node->arbiter, node->config->vm->uuid, node->config->name, NULL, on_given_back,
                    node);
}

/* ---- The end ---- */

static void on_released(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (answer == ARBITER_UNKNOWN)
        log_warning("it stays on record that this node runs the VM: %s", error->message);
    if (node->end_source) /* else patience has ended, and the end was told */
        node_end(node);
}

void owner_release(Node *node)
{
    node->end_source = patience_add(RELEASE_MS, node_end_now, node);
    ArbiterRest rest = {.generation = node->generation,
                        .epoch = node->epoch,
                        .in_step = node->in_step ? node->peer_name : NULL};
    arbiter_release(node->arbiter, node->config->vm->uuid, node->config->name,
                    node->has_run ? &rest : NULL, on_released, node);
}

void owner_finalise(Node *node)
{
    if (node->owner_timer)
        g_source_remove(node->owner_timer);
    node->owner_timer = 0;
    g_clear_pointer(&node->record_session, g_free);
}
