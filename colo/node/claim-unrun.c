/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VM without disks leaves nothing that would show what has run. So a secondary of such a VM notes in
 * its state folder that it has not run it in this session (colo/arbiter/unrun.c says what for). A
 * takeover removes the note as its last step before the VM's output may leave.
 *
 * Nothing waits for the note to be written. That it can't be is told: then a takeover in which this
 * node dies costs more, as it did without a note.
 *
 * The takeover waits for the removal, for as long as the arbiter gets for an answer. If it fails, and the
 * primary stands and waits, that is a reason to give the VM back to it. If the primary is lost, this is
 * perhaps the only VM, and it continues: that is told. The note does harm only if this node dies as well
 * before the arbiter has recorded it as the owner, which is next.
 *
 * One question at a time, so that they can't overtake each other.
 */
#include "colo/node/claim_internal.h"
#include "common/log.h"

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

/* Whether the takeover can go on; tells why not, or what is wrong. */
static gboolean end_take(Claim *claim, const GError *error)
{
    gboolean refuses = claim_note_refuses(claim->state);
    claim->note.waits = FALSE;
    if (!error)
        return TRUE;
    if (!refuses)
        claim_tell(claim,
                   "it can't be noted that the VM runs here now: if this host dies before the "
                   "arbiter has recorded that, end the VM on the other one",
                   error, TRUE);
    return !refuses;
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
        g_autoptr(GError) why = error ? g_error_copy(error) : NULL;
        gboolean goes_on = end_take(claim, why);
        claim->callbacks.taken(goes_on ? NULL : why, claim->user_data);
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

gboolean claim_take(Claim *claim, GError **error)
{
    if (claim->note.doing == CLAIM_NOTE_NONE)
        return TRUE;
    set_note(claim, CLAIM_NOTE_REMOVING);
    if (claim->note.is_late) {
        g_autoptr(GError) why =
            g_error_new(ARBITER_ERROR, ARBITER_ERROR_STATE, "%s doesn't answer: is it well",
                        claim->config->state_dir);
        if (end_take(claim, why))
            return TRUE;
        g_propagate_error(error, g_steal_pointer(&why));
        return FALSE;
    }
    claim->note.waits = TRUE;
    step(claim);
    return FALSE;
}

void claim_note_moved(Claim *claim, FsmState next, const char *session)
{
    claim->note.waits &= fsm_is_taking_over(next);
    if (!claim_notes(next, claim->config->vm->disks->len > 0,
                     claim->config->arbiter != CONFIG_ARBITER_NONE && claim->config->state_dir) ||
        !g_strcmp0(session, claim->note.session))
        return;
    g_free(claim->note.session);
    claim->note.session = g_strdup(session);
    set_note(claim, CLAIM_NOTE_WRITING);
    step(claim);
}

ClaimNote claim_noting(const Claim *claim)
{
    return claim->note.doing;
}

void claim_note_finalise(Claim *claim)
{
    g_free(claim->note.session);
    g_free(claim->note.asked);
}
