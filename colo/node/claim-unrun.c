/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VM without disks leaves nothing that would show what has run. So a secondary of such a VM notes in
 * its state folder that it has not run it in this session (colo/arbiter/unrun.c says what for). A
 * takeover removes the note when the VM runs, as its last step before the VM's output may leave.
 *
 * Nothing waits for the note to be written. That it can't be is told: then a takeover in which this
 * node dies costs more, as it did without a note.
 *
 * The takeover waits for the removal, but not for a disk that hangs. If it fails, the VM continues all the
 * same, for it may be the only one, and the other host may be about to end: that is told. The note
 * does harm only if this node dies as well before the arbiter has recorded it as the owner, which
 * is next.
 *
 * A VM that is given back after all, before anybody heard it, is noted again.
 *
 * One question at a time, so that they can't overtake each other.
 */
#include "colo/node/claim_internal.h"
#include "common/log.h"
#include "common/patience.h"

/* The guest's output waits no longer for the note's removal. */
#define TAKE_MS 1000

static void set_note(Claim *claim, ClaimNote next)
{
    ClaimNote before = claim->note.doing;
    if (next == before)
        return;
    if (!claim_note_may(before, next))
        g_error("claim, note: %s -> %s in state %s", claim_note_name(before), claim_note_name(next),
                fsm_state_name(claim->state));
    log_debug("claim, note: %s -> %s", claim_note_name(before), claim_note_name(next));
    claim->note.doing = next;
}

static void step(Claim *claim);

/* The takeover goes on, and the VM may be heard from now on. There is no way back. */
static void end_take(Claim *claim, const GError *error)
{
    claim->note.waits = claim->note.holds_output = claim->question.may_have = FALSE;
    g_clear_handle_id(&claim->note.timer, g_source_remove);
    if (error)
        claim_tell(claim,
                   "it can't be noted that the VM runs here now: if this host dies before the "
                   "arbiter has recorded that, end the VM on the other one",
                   error, TRUE);
}

static void on_noted(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Claim *claim = user_data;
    ClaimNoteFacts facts = {.note = claim->note.doing,
                            .removes = claim->note.removes,
                            .is_last = !g_strcmp0(claim->note.asked, claim->note.session),
                            .answer = answer,
                            .time = claim_time_of(error)};
    ClaimNoteVerdict verdict = claim_judge_note(&facts);
    claim->note.is_late = facts.time == CLAIM_LATE;
    claim->note.is_open = claim->note.is_late;
    set_note(claim, verdict.next);
    if (verdict.tells)
        claim_tell(claim, "it can't be noted that the VM has not run here", error, TRUE);
    if (verdict.ends && claim->note.waits) {
        end_take(claim, error);
        claim->callbacks.taken(claim->user_data);
    }
    step(claim);
}

/* Asks what is to be asked next. */
static void step(Claim *claim)
{
    gboolean removes = claim->note.doing == CLAIM_NOTE_REMOVING;
    if (claim->note.is_open || (!removes && claim->note.doing != CLAIM_NOTE_WRITING))
        return;
    claim->note.is_open = TRUE;
    claim->note.removes = removes;
    g_free(claim->note.asked);
    claim->note.asked = g_strdup(claim->note.session);
    arbiter_note_unrun(claim->arbiter, removes ? NULL : claim->note.session, on_noted, claim);
}

void claim_begin_take(Claim *claim)
{
    claim->note.holds_output = claim->note.doing != CLAIM_NOTE_NONE;
    claim->question.may_have &= claim->note.holds_output;
}

gboolean claim_holds_output(const Claim *claim)
{
    return claim->note.holds_output;
}

static void end_take_late(Claim *claim)
{
    g_autoptr(GError) why = g_error_new(ARBITER_ERROR, ARBITER_ERROR_STATE,
                                        "%s doesn't answer: is it well", claim->config->state_dir);
    end_take(claim, why);
}

static gboolean on_take_limit(gpointer user_data)
{
    Claim *claim = user_data;
    claim->note.timer = 0;
    end_take_late(claim);
    claim->callbacks.taken(claim->user_data);
    return G_SOURCE_REMOVE;
}

gboolean claim_take(Claim *claim)
{
    if (claim->note.doing == CLAIM_NOTE_NONE)
        return TRUE;
    set_note(claim, CLAIM_NOTE_REMOVING);
    if (claim->note.is_late) {
        end_take_late(claim);
        return TRUE;
    }
    claim->note.waits = TRUE;
    g_clear_handle_id(&claim->note.timer, g_source_remove);
    claim->note.timer = patience_add(TAKE_MS, on_take_limit, claim);
    step(claim);
    return FALSE;
}

static void write_note(Claim *claim)
{
    set_note(claim, CLAIM_NOTE_WRITING);
    step(claim);
}

void claim_note_moved(Claim *claim, FsmState before, FsmState next, const char *session)
{
    claim->note.waits &= fsm_is_taking_over(next);
    claim->note.holds_output &= fsm_is_taking_over(next);
    if (!claim->note.waits)
        g_clear_handle_id(&claim->note.timer, g_source_remove);
    if (claim_notes_again(before, next) && claim->note.session)
        write_note(claim);
    if (!claim_notes(next, claim->config->vm->disks->len > 0,
                     claim->config->arbiter != CONFIG_ARBITER_NONE && claim->config->state_dir) ||
        !g_strcmp0(session, claim->note.session))
        return;
    g_free(claim->note.session);
    claim->note.session = g_strdup(session);
    write_note(claim);
}

ClaimNote claim_noting(const Claim *claim)
{
    return claim->note.doing;
}

void claim_note_finalise(Claim *claim)
{
    g_clear_handle_id(&claim->note.timer, g_source_remove);
    g_free(claim->note.session);
    g_free(claim->note.asked);
}
