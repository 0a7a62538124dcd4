/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ordered end of a protected VM with disks: by an administrator's order, or by the guest's own
 * power-off. Before it, a last mark makes both hosts' disks the same, and the record says so. So
 * either host may start the VM next.
 *
 *   primary    the cycle ends, the VM is paused --mark(e), FINAL(e)--> waits --FINISHED(e)--> ends
 *   secondary  FINAL(e), marked(e) --finish(e): all of it is durable--> FINISHED(e)
 *
 * Whatever else happens meanwhile, the primary ends: after FINAL_MS at the latest, and at once if
 * it is told to once more. Without FINISHED only its own disks count, and the record says that. A
 * secondary that has received FINAL doesn't take over: its disks may be ahead of its RAM.
 *
 * A VM that is being handed over (P_DEVICE) ends without that mark, for its last checkpoint has one that
 * is under way. Nothing is lost by that: its own images have all of it, and on record it is the last
 * writer. Nor do two continue: HANDED was not sent. A secondary that misses the GOODBYE and asks for the
 * session finds it decided, for the record of the end decides it first; or it has won, and then the end
 * writes nothing (owner.c). Only this node can start the VM next, unless the secondary has won.
 */
#include "colo/node/final.h"

#include "colo/node/epoch.h"
#include "colo/node/node.h"
#include "common/log.h"
#include "common/patience.h"

/* A service manager waits longer, and a disk that is well needs less. */
#define FINAL_MS 10000

struct Final {
    FinalHandler handler;
    gpointer user_data;
    gboolean begun;          /* or, by the peer, announced */
    gboolean in_step;        /* primary: the secondary's disks have everything */
    guint64 announced_mark;  /* secondary, if begun: epoch of the last mark */
    OptionalEpoch last_mark; /* secondary: of the last mark that has come */
    guint timer;
};

static FinalWorld look(const Final *final)
{
    return final->handler.look(final->user_data);
}

static void shut_down(const Final *final)
{
    final->handler.event(FSM_SHUTDOWN, final->user_data);
}

gboolean final_has_begun(const Final *final)
{
    return final->begun;
}

gboolean final_is_in_step(const Final *final)
{
    return final->in_step;
}

static gboolean refuse(const char *message, guint64 epoch, FsmState state, GError **error)
{
    g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                "message '%s' for checkpoint %" G_GUINT64_FORMAT " in state %s", message, epoch,
                fsm_state_name(state));
    return FALSE;
}

/* ---- Primary ---- */

static gboolean on_patience_over(gpointer user_data)
{
    Final *final = user_data;
    final->timer = 0;
    log_warning("the secondary's disks are not known to have everything: only this node can start "
                "the VM next");
    shut_down(final);
    return G_SOURCE_REMOVE;
}

void final_begin(Final *final)
{
    FinalWorld world = look(final);
    if (world.state != FSM_P_COLO || !world.has_disks || final->begun) {
        shut_down(final);
        return;
    }
    log_info("the VM ends: its last writes go to the secondary");
    final->begun = TRUE;
    final->timer = patience_add(FINAL_MS, on_patience_over, final);
    final->handler.pause(final->user_data);
}

void final_paused(Final *final)
{
    FinalWorld world = look(final);
    if (world.state == FSM_P_COLO)
        final->handler.mark(world.epoch + 1, final->user_data);
}

void final_mark_made(Final *final, guint64 epoch, const GError *error)
{
    if (!error) {
        final->handler.announce(epoch, final->user_data);
        return;
    }
    final->handler.trouble("the disks' last mark can't be made", error, final->user_data);
    shut_down(final);
}

gboolean final_finished(Final *final, guint64 epoch, GError **error)
{
    FinalWorld world = look(final);
    if (!final->begun || world.state != FSM_P_COLO || epoch != world.epoch)
        return refuse("finished", epoch, world.state, error);
    log_info("the secondary's disks have everything");
    final->in_step = TRUE;
    shut_down(final);
    return TRUE;
}

/* ---- Secondary ---- */

void final_durable(Final *final, const GError *error)
{
    if (error)
        final->handler.trouble("these disks don't have everything", error, final->user_data);
    /* An error is reported in any case: the primary need not wait. */
    if (error || (final->begun && look(final).state == FSM_S_COLO))
        final->handler.finished(final->announced_mark, error, final->user_data);
}

void final_marked(Final *final, guint64 epoch)
{
    final->last_mark = epoch_some(epoch);
    if (final->begun && final->announced_mark == epoch && look(final).state == FSM_S_COLO)
        final->handler.finish(epoch, final->user_data);
}

gboolean final_received(Final *final, guint64 epoch, GError **error)
{
    FinalWorld world = look(final);
    if (world.state != FSM_S_COLO || !world.has_disks || final->begun)
        return refuse("final", epoch, world.state, error);
    final->begun = TRUE;
    final->announced_mark = epoch;
    if (epoch_is(final->last_mark, epoch))
        final_marked(final, epoch);
    return TRUE;
}

void final_session_over(Final *final)
{
    if (fsm_is_primary(look(final).state))
        return;
    final->begun = FALSE;
    final->last_mark = EPOCH_NONE;
}

/* ---- Life ---- */

Final *final_new(const FinalHandler *handler, gpointer user_data)
{
    Final *final = g_new0(Final, 1);
    final->handler = *handler;
    final->user_data = user_data;
    return final;
}

void final_free(Final *final)
{
    if (!final)
        return;
    g_clear_handle_id(&final->timer, g_source_remove);
    g_free(final);
}
