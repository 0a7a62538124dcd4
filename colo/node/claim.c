/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The claim's life, and its questions about a lost link: when they are asked, and what is reported
 * of their answers. What an answer means is claim_judge().
 */
#include "colo/node/claim_internal.h"
#include "common/log.h"
#include "common/patience.h"

#include <string.h>

/* The time that the primary gets to continue without a secondary that is unfit. */
#define LEFT_MS 10000

ClaimTime claim_time_of(const GError *error)
{
    return g_error_matches(error, ARBITER_ERROR, ARBITER_ERROR_LATE)   ? CLAIM_LATE
           : g_error_matches(error, ARBITER_ERROR, ARBITER_ERROR_GONE) ? CLAIM_GONE
                                                                       : CLAIM_IN_TIME;
}

void claim_report(const Claim *claim, FsmEvent event)
{
    claim->callbacks.event(event, claim->user_data);
}

void claim_tell(const Claim *claim, const char *what, const GError *error, gboolean again)
{
    claim->callbacks.trouble(what, error, again, claim->user_data);
}

/* ---- A lost link ---- */

static void set_doing(Claim *claim, ClaimDoing next);

static gboolean on_timer(gpointer user_data)
{
    Claim *claim = user_data;
    claim->question.timer = 0;
    if (claim->question.doing != CLAIM_FORCED_AGAIN)
        claim_report(claim, FSM_ASK_AGAIN);
    else if (claim->state == FSM_FAILED || claim->state == FSM_COMPLETED)
        /* What has failed here must not be denied to the other, should that live. */
        set_doing(claim, CLAIM_IDLE);
    else
        claim->callbacks.due(claim->user_data);
    return G_SOURCE_REMOVE;
}

/* Of the states that end by themselves; 0: of the others. */
static guint begin_timer(Claim *claim, ClaimDoing doing, guint wait_ms)
{
    switch (doing) {
    case CLAIM_DEFERRED:
        return patience_add(wait_ms, on_timer, claim);
    case CLAIM_AGAIN:
    case CLAIM_UNDECIDED:
    case CLAIM_FORCED_AGAIN:
        return g_timeout_add(CLAIM_AGAIN_MS, on_timer, claim);
    case CLAIM_LEFT:
        return patience_add(LEFT_MS, on_timer, claim);
    default:
        return 0;
    }
}

/* A state that has been reached again continues as it was. */
static void set_doing(Claim *claim, ClaimDoing next)
{
    ClaimDoing before = claim->question.doing;
    if (next == before)
        return;
    if (!claim_doing_may(before, next))
        g_error("claim: %s -> %s in state %s", claim_doing_name(before), claim_doing_name(next),
                fsm_state_name(claim->state));
    log_debug("claim: %s -> %s", claim_doing_name(before), claim_doing_name(next));
    g_clear_handle_id(&claim->question.timer, g_source_remove);
    claim->question.doing = next;
    claim->question.timer = begin_timer(claim, next, claim->question.wait_ms);
    g_assert((claim->question.timer != 0) == claim_doing_asks_again(next));
}

static void contradicted(const Claim *claim)
{
    g_autoptr(GError) why =
        g_error_new(ARBITER_ERROR, ARBITER_ERROR_OWNER,
                    "it has let the other node continue: if that runs the VM too, end one of them "
                    "now");
    claim_tell(claim, "the arbiter contradicts the administrator who forced this node", why, FALSE);
}

static void follow(const Claim *claim, ClaimReport report)
{
    switch (report) {
    case CLAIM_REPORT_NOTHING:
        return;
    case CLAIM_REPORT_FORCED:
        log_warning("continuing by an administrator's decision");
        claim_report(claim, FSM_GRANTED);
        return;
    case CLAIM_REPORT_GRANTED:
        claim_report(claim, FSM_GRANTED);
        return;
    case CLAIM_REPORT_DENIED:
        log_warning("the arbiter has let the other side continue: the VM is paused here until it "
                    "runs there");
        claim_report(claim, FSM_DENIED);
        return;
    case CLAIM_REPORT_UNDECIDED:
        claim_report(claim, FSM_UNDECIDED);
        return;
    case CLAIM_REPORT_AGREED:
        log_info("the arbiter agrees, after all, that this node continues");
        return;
    case CLAIM_REPORT_CONTRADICTED:
        contradicted(claim);
    }
}

const char *claim_concedes_to(const Claim *claim)
{
    gboolean may = claim->question.may_have && claim->config->arbiter != CONFIG_ARBITER_NONE;
    return may ? claim->question.peer : NULL;
}

/* One at a time, but for those that hang. */
static void give_back(Claim *claim)
{
    if (claim->question.gives_back || !claim_gives_back(claim->state) || !claim_concedes_to(claim))
        return;
    g_clear_handle_id(&claim->question.back_timer, g_source_remove);
    claim->question.gives_back = TRUE;
    claim_give_back(claim);
}

static gboolean on_give_back_again(gpointer user_data)
{
    Claim *claim = user_data;
    claim->question.back_timer = 0;
    give_back(claim);
    return G_SOURCE_REMOVE;
}

/* Nobody else could do it, and the primary may be frozen for it: so it is tried until it is done. */
void claim_given_back(Claim *claim, gboolean is_done)
{
    claim->question.gives_back = FALSE;
    if (is_done)
        claim->question.may_have = FALSE;
    else if (claim->question.may_have && !claim->question.back_timer)
        claim->question.back_timer = g_timeout_add(CLAIM_AGAIN_MS, on_give_back_again, claim);
}

static void on_answer(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Claim *claim = user_data;
    ClaimFacts facts = {.state = claim->state,
                        .doing = claim->question.doing,
                        .forced = claim->question.forced,
                        .yielded = claim->question.yielded,
                        .handed = claim->back.handed,
                        .others_open = arbiter_is_asked(claim->arbiter),
                        .answer = answer,
                        .time = claim_time_of(error)};
    ClaimVerdict verdict = claim_judge(&facts);
    if (verdict.counts) {
        claim->question.last = answer;
        claim->question.has_last = TRUE;
        /* An administrator's decision is for this one question. */
        claim->question.forced = FALSE;
    }
    claim->question.may_have &= answer != ARBITER_DENIED;
    if (verdict.counts && answer == ARBITER_UNKNOWN)
        claim_tell(claim, "the arbiter can't be asked, output stays held", error, TRUE);
    if (verdict.counts && answer == ARBITER_MANUAL && verdict.report != CLAIM_REPORT_GRANTED)
        log_warning("no arbiter: output stays held until an administrator decides "
                    "('colo failover' on the side that is to continue, after making sure that the "
                    "other is dead)");
    set_doing(claim, verdict.next);
    follow(claim, verdict.report);
}

void claim_defer(Claim *claim, guint wait_ms)
{
    claim->question.wait_ms = wait_ms;
}

gboolean claim_begin_wait(Claim *claim)
{
    if (claim->question.wait_ms == 0)
        return FALSE;
    set_doing(claim, CLAIM_DEFERRED);
    /* An administrator can say that it is time. */
    claim->question.wait_ms = 0;
    return TRUE;
}

void claim_ask(Claim *claim, guint64 epoch)
{
    gboolean forced = claim->question.doing == CLAIM_FORCED_AGAIN;
    claim->question.asked++;
    claim->question.asked_handed |= claim->state == FSM_S_HANDED;
    set_doing(claim, forced ? CLAIM_FORCED : CLAIM_ASKED);
    if (!claim_may_ask(claim->owner_questions)) {
        g_autoptr(GError) error =
            g_error_new(ARBITER_ERROR, ARBITER_ERROR_ASK,
                        "arbiter: an earlier question, about whose the VM is, has no answer yet");
        on_answer(ARBITER_UNKNOWN, error, claim);
        return;
    }
    claim->question.may_have |= claim_may_have(claim->state);
    arbiter_ask(claim->arbiter, claim->config->vm->uuid, claim->question.session,
                claim->config->name, epoch, on_answer, claim);
}

gboolean claim_has_asked_handed(const Claim *claim)
{
    return claim->question.asked_handed;
}

void claim_leave(Claim *claim)
{
    set_doing(claim, CLAIM_LEFT);
}

void claim_order(Claim *claim, gboolean force)
{
    claim->question.forced = force || claim->config->arbiter == CONFIG_ARBITER_NONE;
    /* Else the answer to the question that is open counts, or that there is none in time. */
    if (!arbiter_is_asked(claim->arbiter))
        claim_report(claim, FSM_ASK_AGAIN);
}

gboolean claim_is_undecided(const Claim *claim)
{
    return claim_doing_is_undecided(claim->question.doing);
}

gboolean claim_is_yielded(const Claim *claim)
{
    return claim->question.yielded;
}

/* ---- The node moves ---- */

/* The VM is protected anew: the session before is of no interest any more. */
static void set_session(Claim *claim, const char *session, const char *peer)
{
    if (g_strcmp0(claim->question.session, session) == 0)
        return;
    arbiter_forget(claim->arbiter);
    set_doing(claim, CLAIM_IDLE);
    claim->question.asked_handed = claim->back.looks = FALSE;
    claim->question.may_have = claim->question.gives_back = FALSE;
    g_clear_handle_id(&claim->question.back_timer, g_source_remove);
    g_free(claim->question.session);
    g_free(claim->question.peer);
    claim->question.session = g_strdup(session);
    claim->question.peer = g_strdup(peer);
}

void claim_moved(Claim *claim, FsmEvent event, FsmState next, const char *session, const char *peer)
{
    FsmState before = claim->state;
    if (fsm_is_protected(next))
        set_session(claim, session, peer);
    claim->state = next;
    claim_back_moved(claim, before, next);
    claim->question.forced &= claim_is_in_doubt(next);
    claim->question.may_have &= claim_may_have(next);
    claim->question.yielded = claim_yielded_after(claim->question.yielded, event, next);
    set_doing(claim, claim_doing_after(claim->question.doing, event, next));
    claim_owner_moved(claim, next);
    claim_note_moved(claim, before, next, session);
    give_back(claim);
}

/* ---- Status ---- */

Arbiter *claim_arbiter(const Claim *claim)
{
    return claim->arbiter;
}

const char *claim_session(const Claim *claim)
{
    return claim->question.session;
}

const char *claim_last_answer(const Claim *claim)
{
    static const char *const answers[] = {[ARBITER_GRANTED] = "granted",
                                          [ARBITER_DENIED] = "denied",
                                          [ARBITER_MANUAL] = "manual",
                                          [ARBITER_UNKNOWN] = "unknown"};
    return claim->question.has_last ? answers[claim->question.last] : NULL;
}

ClaimDoing claim_doing(const Claim *claim)
{
    return claim->question.doing;
}

gboolean claim_is_forced(const Claim *claim)
{
    return claim->question.forced;
}

guint claim_questions(const Claim *claim)
{
    return claim->question.asked;
}

/* ---- Life ---- */

Claim *claim_new(const Config *config, const ClaimCallbacks *callbacks, gpointer user_data,
                 GError **error)
{
    Arbiter *arbiter =
        arbiter_new(config->arbiter == CONFIG_ARBITER_FILE ? config->arbiter_path : NULL,
                    config->state_dir, error);
    if (!arbiter)
        return NULL;
    arbiter_set_limit_ms(arbiter, (guint)config->arbiter_timeout_ms);
    Claim *claim = g_new0(Claim, 1);
    claim->config = config;
    claim->callbacks = *callbacks;
    claim->user_data = user_data;
    claim->arbiter = arbiter;
    return claim;
}

void claim_free(Claim *claim)
{
    if (!claim)
        return;
    arbiter_free(claim->arbiter);
    g_clear_handle_id(&claim->question.timer, g_source_remove);
    g_clear_handle_id(&claim->question.back_timer, g_source_remove);
    claim_back_finalise(claim);
    claim_owner_finalise(claim);
    claim_watch_finalise(claim);
    claim_note_finalise(claim);
    g_free(claim->question.session);
    g_free(claim->question.peer);
    g_free(claim);
}
