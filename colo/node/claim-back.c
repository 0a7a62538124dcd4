/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the arbiter has granted to one side, and is the other's again. A secondary that can't take
 * over a VM that was handed over to it makes the decision the primary's, when its own VM has ended.
 * It tells the primary. If the link is lost meanwhile, the primary asks. If it asks too early, it is
 * denied. So a primary that was denied looks from time to time.
 *
 * Neither waits for its turn, or for one that hangs: what is written is the same each time, and what
 * is read changes nothing. When another session counts, none of them is answered any more.
 */
#include "colo/node/claim_internal.h"
#include "common/log.h"

#include <string.h>

/* How often a primary that was denied looks. */
#define LOOK_MS 1000

/* ---- The secondary ---- */

static void give_back(Claim *claim);

static gboolean on_again(gpointer user_data)
{
    Claim *claim = user_data;
    claim->back.timer = 0;
    give_back(claim);
    return G_SOURCE_REMOVE;
}

static void on_returned(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Claim *claim = user_data;
    if (answer == ARBITER_UNKNOWN)
        claim_tell(claim, "the VM can't be given back to the primary", error, TRUE);
    switch (claim_judge_return(claim->state, answer)) {
    case CLAIM_RETURN_NOTHING:
        return;
    case CLAIM_RETURN_AGAIN:
        if (!claim->back.timer)
            claim->back.timer = g_timeout_add(CLAIM_AGAIN_MS, on_again, claim);
        return;
    case CLAIM_RETURN_DONE:
        claim_report(claim, FSM_GIVEN_BACK);
    }
}

static void give_back(Claim *claim)
{
    arbiter_return(claim->arbiter, claim->config->vm->uuid, claim->question.session,
                   claim->config->name, claim->question.peer, on_returned, claim);
}

void claim_return(Claim *claim)
{
    const char *to = claim->question.peer;
    if (!to) {
        log_warning("the primary has not told its name: the VM can't be given back to it");
        return;
    }
    log_info("the VM is %s's again: the arbiter is told", to);
    give_back(claim);
}

/* ---- The primary ---- */

static void on_looked(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Claim *claim = user_data;
    /* One that is late is still to come, and counts; but storage may be there again by another way. */
    claim->back.looks &= claim_time_of(error) == CLAIM_GONE;
    if (answer != ARBITER_GRANTED || !claim_looks_back(claim->state))
        return;
    log_warning("the other node has given the VM back");
    claim->question.last = ARBITER_GRANTED;
    claim->question.has_last = TRUE;
    claim_report(claim, FSM_GRANTED);
}

static gboolean on_look(gpointer user_data)
{
    Claim *claim = user_data;
    if (claim->back.looks)
        return G_SOURCE_CONTINUE;
    claim->back.looks = TRUE;
    arbiter_look_back(claim->arbiter, claim->config->vm->uuid, claim->question.session,
                      claim->config->name, on_looked, claim);
    return G_SOURCE_CONTINUE;
}

gboolean claim_was_handed(const Claim *claim)
{
    return claim->back.handed;
}

/* ---- Both ---- */

void claim_back_moved(Claim *claim, FsmState before, FsmState next)
{
    claim->back.handed = (claim->back.handed || before == FSM_P_HANDED) && claim_is_in_doubt(next);
    if (next == before)
        return;
    gboolean looks = claim_looks_back(next) && claim->config->arbiter != CONFIG_ARBITER_NONE;
    gboolean gives = next == FSM_S_GIVING || next == FSM_S_LEAVING;
    if (!gives)
        g_clear_handle_id(&claim->back.timer, g_source_remove);
    if (looks)
        claim->back.timer = g_timeout_add(LOOK_MS, on_look, claim);
}

void claim_back_finalise(Claim *claim)
{
    g_clear_handle_id(&claim->back.timer, g_source_remove);
}
