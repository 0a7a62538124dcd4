/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is the arbiter there? A node that starts looks first, and starts nothing before it has seen the
 * folder that is the pair's. At boot its storage may come later than colod, and what is at its
 * place until then is another folder.
 *
 * A node that was never half of a pair can't know which folder is right: there it is an error that
 * ends it. A node that knows waits, for as long as it takes, and reports what for.
 *
 * Later it looks from time to time, for administrators only. A pair whose arbiter can't be asked
 * would have to wait for them if a host were lost now. So such a pair doesn't count as protected.
 * Nothing else follows: a healthy pair needs no arbiter.
 *
 * A switchover needs one. The secondary that is asked for its approval looks anew, and goes on looking,
 * until the VM stands. These looks are apart from the others, and have less time.
 */
#include "colo/node/claim_internal.h"
#include "common/log.h"

#include <string.h>

static void set_watch(Claim *claim, ClaimWatch next, const char *trouble)
{
    ClaimWatch before = claim->watch.doing;
    if (!claim_watch_may(before, next))
        g_error("claim, watch: %s -> %s", claim_watch_name(before), claim_watch_name(next));
    if (next != before)
        log_debug("claim, watch: %s -> %s", claim_watch_name(before), claim_watch_name(next));
    claim->watch.doing = next;
    g_free(claim->watch.trouble);
    claim->watch.trouble = g_strdup(trouble);
}

/* ---- From time to time ---- */

static gboolean on_look_due(gpointer user_data);

/* NULL: it is there. */
static void note(Claim *claim, const GError *why)
{
    gboolean was_there = !claim->watch.trouble;
    set_watch(claim, why ? CLAIM_WATCH_AWAY : CLAIM_WATCH_THERE, why ? why->message : NULL);
    if (was_there == !why)
        return;
    if (why)
        log_warning("the arbiter can't be asked: a lost host would need an administrator now: %s",
                    why->message);
    else
        log_info("the arbiter can be asked again");
    claim->callbacks.watched(why ? why->message : NULL, claim->user_data);
}

static void on_looked(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Claim *claim = user_data;
    /* One that was late has been reported, and others have been made. */
    if (claim_time_of(error) == CLAIM_GONE)
        return;
    note(claim, answer == ARBITER_UNKNOWN ? error : NULL);
    if (!claim->watch.timer)
        claim->watch.timer =
            g_timeout_add((guint)claim->config->arbiter_check_ms, on_look_due, claim);
}

static gboolean on_look_due(gpointer user_data)
{
    Claim *claim = user_data;
    claim->watch.timer = 0;
    arbiter_look(claim->arbiter, FALSE, on_looked, claim);
    return G_SOURCE_REMOVE;
}

/* ---- The start ---- */

static gboolean on_look_again(gpointer user_data);

/* Waits, and reports why; but once. */
static void wait_for_it(Claim *claim, const GError *why)
{
    if (g_strcmp0(claim->watch.trouble, why->message) != 0)
        claim_tell(claim, "waiting for the arbiter, nothing is started", why, FALSE);
    set_watch(claim, CLAIM_WATCH_WAITS, why->message);
    claim->watch.timer = g_timeout_add(CLAIM_AGAIN_MS, on_look_again, claim);
}

static void begin(Claim *claim)
{
    g_clear_handle_id(&claim->watch.timer, g_source_remove);
    if (claim->config->arbiter != CONFIG_ARBITER_NONE)
        arbiter_look(claim->arbiter, FALSE, on_looked, claim);
    claim->callbacks.seen(claim->user_data);
}

static void on_first_look(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Claim *claim = user_data;
    switch (claim_judge_first_look(claim->state, claim->watch.doing,
                                   arbiter_is_pinned(claim->arbiter), claim->config->overrule,
                                   answer, claim_time_of(error))) {
    case CLAIM_FIRST_NOTHING:
        return;
    case CLAIM_FIRST_BEGIN:
        note(claim, NULL);
        begin(claim);
        return;
    case CLAIM_FIRST_BEGIN_WITHOUT:
        claim_tell(claim, "the arbiter is not reachable", error, FALSE);
        set_watch(claim, CLAIM_WATCH_THERE, NULL);
        begin(claim);
        return;
    case CLAIM_FIRST_WAIT:
        wait_for_it(claim, error);
        return;
    case CLAIM_FIRST_LOST:
        claim->callbacks.lost("this node can't start", error, claim->user_data);
    }
}

static gboolean on_look_again(gpointer user_data)
{
    Claim *claim = user_data;
    gboolean may_begin = claim->state == FSM_P_ASKING || claim->state == FSM_S_STARTING;
    claim->watch.timer = 0;
    if (may_begin && claim->watch.doing == CLAIM_WATCH_WAITS)
        arbiter_look(claim->arbiter, TRUE, on_first_look, claim);
    return G_SOURCE_REMOVE;
}

void claim_begin(Claim *claim, FsmState state)
{
    claim->state = state;
    if (claim->config->arbiter == CONFIG_ARBITER_NONE) {
        set_watch(claim, CLAIM_WATCH_THERE, NULL);
        begin(claim);
    } else {
        arbiter_look(claim->arbiter, TRUE, on_first_look, claim);
    }
}

/* ---- A switchover ---- */

static void look_for_approval(Claim *claim);

static gboolean on_approval_due(gpointer user_data)
{
    Claim *claim = user_data;
    claim->approval.timer = 0;
    look_for_approval(claim);
    return G_SOURCE_REMOVE;
}

static void on_approval(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Claim *claim = user_data;
    (void)error;
    claim->approval.looks = FALSE;
    if (!claim->approval.wanted)
        return;
    if (claim->approval.is_stale) {
        look_for_approval(claim);
        return;
    }
    claim->approval.given = answer != ARBITER_UNKNOWN;
    claim->approval.timer = g_timeout_add(CLAIM_AGAIN_MS, on_approval_due, claim);
}

static void look_for_approval(Claim *claim)
{
    claim->approval.is_stale = FALSE;
    claim->approval.looks = TRUE;
    arbiter_look_within(claim->arbiter, (guint)claim->config->heartbeat_timeout_ms, on_approval,
                        claim);
}

void claim_want_approval(Claim *claim)
{
    g_clear_handle_id(&claim->approval.timer, g_source_remove);
    claim->approval.wanted = TRUE;
    claim->approval.given = FALSE;
    claim->approval.is_stale = claim->approval.looks;
    if (!claim->approval.looks && claim->config->arbiter != CONFIG_ARBITER_NONE)
        look_for_approval(claim);
}

void claim_end_approval(Claim *claim)
{
    g_clear_handle_id(&claim->approval.timer, g_source_remove);
    claim->approval.wanted = claim->approval.given = FALSE;
}

gboolean claim_approves(const Claim *claim)
{
    return claim->approval.given || claim->config->arbiter == CONFIG_ARBITER_NONE;
}

/* ---- The rest ---- */

const char *claim_trouble(const Claim *claim)
{
    return claim->watch.trouble;
}

gboolean claim_has_begun(const Claim *claim)
{
    return claim->watch.doing == CLAIM_WATCH_THERE || claim->watch.doing == CLAIM_WATCH_AWAY;
}

void claim_watch_finalise(Claim *claim)
{
    g_clear_handle_id(&claim->watch.timer, g_source_remove);
    g_clear_handle_id(&claim->approval.timer, g_source_remove);
    g_free(claim->watch.trouble);
}
