/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose the VM is. A node that starts as primary, or as either, asks the arbiter first. The node
 * that runs the VM keeps it on record there (colo/arbiter/owner.c says why that is enough). What
 * can't be asked or written is tried again until it can. Meanwhile no VM is started, and no
 * protection is claimed.
 *
 * A secondary whose colod died while it took the VM over may hold the arbiter's yes, which keeps the
 * primary from going on. If its disks show that it has run nothing, it gives that back.
 *
 * A node of either role that is denied waits for the other as its secondary. But the other may have
 * been chosen without having all of the VM's data. Then it gives the VM back when it starts, and
 * waits likewise. So a node that waits, and has had no primary yet, asks again from time to time.
 * It starts the VM if that is on record as its own by now, and its disks are good. A node whose
 * primary has ended the VM on purpose doesn't ask.
 */
#include "colo/node/claim_internal.h"
#include "colo/node/uplinks-watch.h"
#include "common/log.h"
#include "common/patience.h"

#include <string.h>

/* How often a node that waits asks whether the VM is its own by now. */
#define WAITS_MS 2000

/*
 * A primary that is back at once gives its secondary this many heartbeat timeouts to notice and to
 * take over. The secondary has the VM's state; this node has it no more. To that it adds the time
 * that a secondary without a carrier waits before it asks.
 */
#define PATIENCE 2

/* A record that can't be removed must not keep a node from ending. */
#define DISOWN_MS 2000

/* ---- Starting ---- */

static void ask_start(Claim *claim);

static gboolean on_start_timer(gpointer user_data)
{
    Claim *claim = user_data;
    claim->start.timer = 0;
    ask_start(claim);
    return G_SOURCE_REMOVE;
}

static guint begin_start_timer(Claim *claim, ClaimStart doing)
{
    switch (doing) {
    case CLAIM_START_AGAIN:
        return patience_add(CLAIM_AGAIN_MS, on_start_timer, claim);
    case CLAIM_START_DEFERRED:
        return patience_add((guint)(PATIENCE * claim->config->heartbeat_timeout_ms) +
                                UPLINKS_ASK_WAIT_MS,
                            on_start_timer, claim);
    case CLAIM_START_WAITS:
        return patience_add(WAITS_MS, on_start_timer, claim);
    default:
        return 0;
    }
}

static void set_start(Claim *claim, ClaimStart next)
{
    ClaimStart before = claim->start.doing;
    if (next == before)
        return;
    if (!claim_start_may(before, next))
        g_error("claim, start: %s -> %s in state %s", claim_start_name(before),
                claim_start_name(next), fsm_state_name(claim->state));
    log_debug("claim, start: %s -> %s", claim_start_name(before), claim_start_name(next));
    g_clear_handle_id(&claim->start.timer, g_source_remove);
    claim->start.doing = next;
    claim->start.timer = begin_start_timer(claim, next);
}

/* The VM is not this node's, or it must not run from its disks. */
static void deny_start(const Claim *claim, const GError *error)
{
    if (g_error_matches(error, ARBITER_ERROR, ARBITER_ERROR_DISKS))
        claim_tell(claim, "this node starts as secondary, and waits", error, FALSE);
    else
        log_warning("the other node owns the VM: starting as its secondary");
    claim_report(claim, FSM_DENIED);
}

static void follow_start(Claim *claim, ClaimStartReport report, const GError *error)
{
    switch (report) {
    case CLAIM_START_REPORT_NOTHING:
        return;
    case CLAIM_START_REPORT_GRANTED:
        claim_report(claim, FSM_GRANTED);
        return;
    case CLAIM_START_REPORT_OVERRULED:
        log_warning("the arbiter did not record that: %s", error->message);
        claim_report(claim, FSM_GRANTED);
        claim_record(claim, NULL);
        return;
    case CLAIM_START_REPORT_INHERITED:
        log_info("the VM was given back, and this node owns it: starting as primary");
        claim_report(claim, FSM_GRANTED);
        return;
    case CLAIM_START_REPORT_WAIT:
        deny_start(claim, error);
        return;
    case CLAIM_START_REPORT_LOST:
        claim->callbacks.lost("this node can't start as primary", error, claim->user_data);
        return;
    case CLAIM_START_REPORT_TROUBLE:
        claim_tell(claim, "the arbiter can't be asked, the VM isn't started", error, TRUE);
    }
}

static void on_start_answer(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Claim *claim = user_data;
    g_autoptr(GError) disks = NULL;
    claim->owner_questions -= claim_time_of(error) != CLAIM_LATE;
    const Config *config = claim->config;
    ClaimStartFacts facts = {.state = claim->state,
                             .start = claim->start.doing,
                             .overrules = claim->start.how == ARBITER_OVERRULE,
                             .may_wait = config->role == CONFIG_ROLE_AUTO && !config->overrule,
                             .disks_are_good = arbiter_stake_is_good(&claim->start.stake, NULL,
                                                                     config->name, FALSE, &disks),
                             .answer = answer,
                             .time = claim_time_of(error)};
    ClaimStartVerdict verdict = claim_judge_start(&facts);
    if (answer == ARBITER_OPEN && verdict.next == CLAIM_START_DEFERRED) {
        log_info("this node ran the VM, protected: its secondary may be taking over, let it");
        claim->start.how = ARBITER_CLAIM;
    }
    set_start(claim, verdict.next);
    follow_start(claim, verdict.report, error ? error : disks);
}

/*
 * Nothing depends on it. If it hangs, this node may be the only one that can continue by then, and
 * storage may be there again by another way: so it is asked again.
 */
static void on_start_returned(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Claim *claim = user_data;
    (void)answer;
    /* Another one has been made since that was late. */
    if (claim->start.doing == CLAIM_START_WAITS_ASKED && claim_time_of(error) != CLAIM_GONE)
        set_start(claim, CLAIM_START_WAITS);
}

static void ask_arbiter(Claim *claim, ArbiterClaim how)
{
    if (how == ARBITER_RETURN) {
        arbiter_claim(claim->arbiter, claim->config->vm->uuid, claim->config->name, how,
                      &claim->start.stake, on_start_returned, claim);
        return;
    }
    claim->owner_questions++;
    arbiter_claim(claim->arbiter, claim->config->vm->uuid, claim->config->name, how,
                  &claim->start.stake, on_start_answer, claim);
}

static void ask_start(Claim *claim)
{
    gboolean waits = claim->start.doing == CLAIM_START_WAITS;
    if (waits && !claim_may_ask_waiting(claim->state, claim->start.waiting)) {
        claim->start.timer = begin_start_timer(claim, CLAIM_START_WAITS);
        return;
    }
    set_start(claim, waits ? CLAIM_START_WAITS_ASKED : CLAIM_START_ASKED);
    ask_arbiter(claim, waits ? claim->start.waiting : claim->start.how);
}

void claim_start(Claim *claim, const Generation *generation)
{
    ArbiterStake *stake = &claim->start.stake;
    stake->has_disks = generation != NULL;
    if (generation)
        stake->generation = *generation;
    stake->chosen = claim->config->role == CONFIG_ROLE_PRIMARY;
    /* Half a replica is no VM's disk, whatever the arbiter answers: it knows whose are good. */
    if (claim->config->overrule && stake->generation.data != GENERATION_BROKEN) {
        log_warning(
            "the VM is started here by an administrator's decision, whichever node owned it");
        claim->start.how = ARBITER_OVERRULE;
    }
    /* A secondary doesn't ask for itself. */
    gboolean is_secondary = claim->state == FSM_S_STARTING;
    claim->start.waiting = is_secondary ? ARBITER_RETURN : ARBITER_INHERIT;
    if (is_secondary)
        set_start(claim, CLAIM_START_WAITS);
    ask_start(claim);
}

/* ---- Running ---- */

static void set_record(Claim *claim, ClaimRecord next)
{
    ClaimRecord before = claim->record.doing;
    if (next == before)
        return;
    if (!claim_record_may(before, next))
        g_error("claim, record: %s -> %s in state %s", claim_record_name(before),
                claim_record_name(next), fsm_state_name(claim->state));
    log_debug("claim, record: %s -> %s", claim_record_name(before), claim_record_name(next));
    claim->record.doing = next;
}

static void write_record(Claim *claim);

static gboolean on_record_timer(gpointer user_data)
{
    Claim *claim = user_data;
    claim->record.timer = 0;
    write_record(claim);
    return G_SOURCE_REMOVE;
}

static void follow_record(Claim *claim, const ClaimRecordVerdict *verdict, const char *what,
                          const GError *error)
{
    set_record(claim, verdict->next);
    if (verdict->tells)
        claim_tell(claim, what, error, TRUE);
    if (verdict->again) {
        g_clear_handle_id(&claim->record.timer, g_source_remove);
        claim->record.timer = patience_add(CLAIM_AGAIN_MS, on_record_timer, claim);
    }
    if (verdict->kept)
        claim->callbacks.recorded(claim->user_data);
}

static void on_recorded(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Claim *claim = user_data;
    ClaimTime time = claim_time_of(error);
    claim->record.open -= time != CLAIM_LATE;
    ClaimRecordVerdict verdict =
        claim_judge_record(claim->state, claim->record.doing, claim->record.open > 0, answer, time);
    follow_record(claim, &verdict, "the arbiter can't record which node owns the VM", error);
}

static void on_pinned(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Claim *claim = user_data;
    ClaimRecordVerdict verdict =
        claim_judge_pin(claim->state, claim->record.doing, answer, claim_time_of(error));
    follow_record(claim, &verdict, "this node can't remember its arbiter", error);
    if (answer != ARBITER_UNKNOWN)
        write_record(claim);
}

void claim_pin(Claim *claim)
{
    if (!arbiter_is_pinned(claim->arbiter))
        arbiter_pin(claim->arbiter, on_pinned, claim);
}

static void write_record(Claim *claim)
{
    switch (claim_writes(claim->state, claim->record.session != NULL,
                         arbiter_is_pinned(claim->arbiter))) {
    case CLAIM_WRITES_NOTHING:
        return;
    case CLAIM_WRITES_PIN:
        claim_pin(claim);
        return;
    case CLAIM_WRITES_RECORD:
        g_clear_handle_id(&claim->record.timer, g_source_remove);
        claim->record.open++;
        if (claim->record.doing != CLAIM_RECORD_KEPT)
            set_record(claim, CLAIM_RECORD_ASKED);
        arbiter_record(claim->arbiter, claim->config->vm->uuid, claim->record.session,
                       claim->config->name, claim->record.generation, on_recorded, claim);
    }
}

void claim_set_generation(Claim *claim, guint64 generation)
{
    claim->record.generation = generation;
    write_record(claim);
}

void claim_record(Claim *claim, const char *session)
{
    g_free(claim->record.session);
    claim->record.session = g_strdup(session);
    set_record(claim, CLAIM_RECORD_WANTED);
    write_record(claim);
}

gboolean claim_is_recorded(const Claim *claim)
{
    return claim->record.doing == CLAIM_RECORD_KEPT;
}

/* It is done or not: nothing depends on it. */
static void on_tidied(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    (void)user_data;
    if (answer == ARBITER_UNKNOWN)
        log_debug("old decisions stay: %s", error->message);
}

void claim_tidy(Claim *claim)
{
    arbiter_tidy(claim->arbiter, claim->config->vm->uuid, claim->record.session, on_tidied, claim);
}

/* ---- Overruling the arbiter ---- */

static void on_overruled(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Claim *claim = user_data;
    if (claim->state != FSM_P_FROZEN)
        return;
    if (answer == ARBITER_UNKNOWN)
        log_warning("the arbiter has not recorded that (keep the other node off until it has): "
                    "%s",
                    error->message);
    claim_report(claim, FSM_GRANTED);
    if (answer == ARBITER_UNKNOWN)
        claim_record(claim, NULL); /* is tried until it is there */
}

/*
 * The decision that chose the other side stays, but the record names its session no more. A node
 * that starts there is told that the VM is this node's.
 */
void claim_overrule(Claim *claim)
{
    log_warning("the VM continues here by an administrator's decision, though the arbiter "
                "let the other side continue");
    g_clear_pointer(&claim->record.session, g_free);
    arbiter_claim(claim->arbiter, claim->config->vm->uuid, claim->config->name, ARBITER_OVERRULE,
                  &claim->start.stake, on_overruled, claim);
}

/* ---- What may have been granted, for nothing ---- */

static void on_given_back(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Claim *claim = user_data;
    /* Another one has been made since that was late. */
    if (claim_time_of(error) == CLAIM_GONE)
        return;
    if (answer == ARBITER_UNKNOWN)
        claim_tell(claim, "the VM can't be left to the primary", error, TRUE);
    claim_given_back(claim, answer != ARBITER_UNKNOWN);
}

static void concede(Claim *claim, ArbiterFunc answer)
{
    arbiter_concede(claim->arbiter, claim->config->vm->uuid, claim->question.session,
                    claim->config->name, claim->question.peer, answer, claim);
}

/*
 * Of that session, so that it does no harm when it is done as late as in the next one. It waits for nothing that
 * hangs, and nothing waits for it. In whatever order it and the question are carried out, the session is the
 * primary's in the end: see arbiter_hand_on().
 */
void claim_give_back(Claim *claim)
{
    log_info("the arbiter may have granted the VM to this node, which has lost it: it is %s's",
             claim->question.peer);
    concede(claim, on_given_back);
}

/* ---- The end ---- */

static gboolean on_disown_timer(gpointer user_data)
{
    Claim *claim = user_data;
    claim->disown_timer = 0;
    claim->callbacks.disowned(claim->user_data);
    return G_SOURCE_REMOVE;
}

static void end_disowning(Claim *claim)
{
    if (!claim->disown_timer)
        return; /* patience has ended, and that was reported */
    g_clear_handle_id(&claim->disown_timer, g_source_remove);
    claim->callbacks.disowned(claim->user_data);
}

static void on_disowned(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    if (answer == ARBITER_UNKNOWN)
        log_warning("the record still says that this node runs the VM: %s", error->message);
    end_disowning(user_data);
}

void claim_disown(Claim *claim, const ArbiterRest *rest)
{
    claim->disown_timer = patience_add(DISOWN_MS, on_disown_timer, claim);
    arbiter_give_back(claim->arbiter, claim->config->vm->uuid, claim->config->name, rest,
                      on_disowned, claim);
}

static void on_conceded(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Claim *claim = user_data;
    if (answer == ARBITER_UNKNOWN)
        log_warning("the arbiter may go on denying the VM to the primary, until this node is "
                    "started again: %s",
                    error->message);
    end_disowning(claim);
}

gboolean claim_concede(Claim *claim)
{
    const char *to = claim_concedes_to(claim);
    if (!to)
        return FALSE;
    log_info("the arbiter may have granted the VM to this node, which ends: it is %s's", to);
    claim->disown_timer = patience_add(DISOWN_MS, on_disown_timer, claim);
    concede(claim, on_conceded);
    return TRUE;
}

/* ---- The rest ---- */

void claim_owner_moved(Claim *claim, FsmState next)
{
    set_start(claim, claim_start_after(claim->start.doing, next));
    if (next != FSM_S_STARTING && next != FSM_S_NONE)
        arbiter_end_returns(claim->arbiter);
}

ClaimStart claim_starting(const Claim *claim)
{
    return claim->start.doing;
}

ClaimRecord claim_recording(const Claim *claim)
{
    return claim->record.doing;
}

void claim_owner_finalise(Claim *claim)
{
    g_clear_handle_id(&claim->start.timer, g_source_remove);
    g_clear_handle_id(&claim->record.timer, g_source_remove);
    g_clear_handle_id(&claim->disown_timer, g_source_remove);
    g_free(claim->record.session);
}
