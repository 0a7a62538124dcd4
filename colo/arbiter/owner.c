/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which node owns a VM. UUID.owner (record.h) has the node that runs it, and the session in which
 * somebody else may have taken it over since. Or the VM rests, and it names whose disks are the
 * newest. A node that starts as primary looks there first.
 *
 * The owner of a VM is the node that won the decision for the session on record. If there is no
 * decision, it is the node that is named as the owner. Invariants:
 * - Only its owner runs a VM. link(2), which one of many wins, makes the first one. The decision
 *   for the session of a VM that rests makes later ones.
 * - Only the owner writes here, and it names session s before it sends PROTECT in s. So a secondary
 *   that wins the decision for s is the owner by that alone. Nothing has to be written between a
 *   decision and acting on it, and nothing that is late can undo it.
 * - For the same reason every takeover has a decision, also that from a primary which has yielded.
 * - An owner that starts again while s is open decides it like anybody else: one of the two wins.
 * - Nobody becomes the owner whose disks lack what was acknowledged to a client. An owner whose
 *   disks turn out so gives the VM back, to rest as it did or with its last writer. If it has won the
 *   session on record, and its disks are a replica or (without disks) it has noted so, it makes the
 *   decision the writer's instead: no VM of its own has written anything, or was heard. Likewise if it ends
 *   before it has run what it has won. That writer may be a primary that still holds the VM.
 * - What is written is changed in one rename(2), in the order in which it was asked for. It is
 *   never removed.
 *
 * Names are compared, not times: clocks of two hosts aren't one clock. What is read means what
 * owner-rules.h says; here it is read and written.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "colo/arbiter/arbiter_internal.h"
#include "colo/arbiter/owner-rules.h"
#include "common/fd.h"

#define NO_SESSION "-"

static char *record_name(const Question *question)
{
    return g_strdup_printf("%s.owner", question->uuid);
}

/* FALSE with an error if it is unknown; FALSE without one if the VM has never been run. */
static gboolean read_record(const Question *question, ArbiterRecord *ret_record, GError **error)
{
    char text[ARBITER_TEXT_MAX_BYTES + 1];
    gsize len = 0;
    g_autofree char *name = record_name(question);
    COLO_AUTO_FD fd = openat(question->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? FALSE : arbiter_fail(question, "open", name, error);
    if (!arbiter_read_text(question, fd, name, text, &len, error))
        return FALSE;
    if (arbiter_record_parse(text, len, ret_record))
        return TRUE;
    g_set_error(
        error, ARBITER_ERROR, ARBITER_ERROR_ASK,
        "arbiter: %s/%s does not record who owns the VM (an administrator must see which side "
        "runs it; colod --overrule-arbiter there writes it again)",
        question->dir, name);
    return FALSE;
}

/* `replace`: whatever is there; else somebody's who was first stays, which is no error. */
static gboolean write_record(const Question *question, const ArbiterRecord *record,
                             gboolean replace, GError **error)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *when = g_date_time_format(now, "%Y-%m-%dT%H:%M:%SZ");
    g_autofree char *text = arbiter_record_text(record, when);
    g_autofree char *name = record_name(question);
    g_autofree char *draft = arbiter_draft_name(question);
    gboolean made = arbiter_write_new_file(question, draft, text, error);
    if (made && replace && renameat(question->fd, draft, question->fd, name) < 0)
        made = arbiter_fail(question, "make", name, error);
    if (made && !replace && linkat(question->fd, draft, question->fd, name, 0) < 0 &&
        errno != EEXIST)
        made = arbiter_fail(question, "make", name, error);
    (void)unlinkat(question->fd, draft, 0);
    return made && arbiter_sync_folder(question, error);
}

/* The asker runs the VM. */
static gboolean write_owner(const Question *question, gboolean replace, GError **error)
{
    ArbiterRecord record = {
        .writer = question->who,
        .session = strcmp(question->session, NO_SESSION) != 0 ? question->session : NULL,
        .generation = question->stake.generation.current};
    return write_record(question, &record, replace, error);
}

/* Nobody runs it: whoever has the right disks decides the new session, and with that has the VM. */
static gboolean write_rest(const Question *question, const ArbiterRecord *like, GError **error)
{
    char session[2 * 16 + 1];
    for (guint i = 0; i < 4; i++)
        g_snprintf(session + i * 8, 9, "%08x", g_random_int());
    ArbiterRecord record = *like;
    record.rests = TRUE;
    record.session = session;
    return write_record(question, &record, TRUE, error);
}

/* ---- Facts ---- */

static OwnerWho who(const Question *question, const char *name)
{
    return !name ? OWNER_NOBODY : !strcmp(name, question->who) ? OWNER_SELF : OWNER_OTHER;
}

/* `ret_owner`: whose the VM is. FALSE: that can't be told. */
static gboolean find_facts(const Question *question, const ArbiterRecord *record,
                           OwnerFacts *ret_facts, char **ret_owner, GError **error)
{
    g_autoptr(GError) reading = NULL;
    g_autofree char *winner = NULL;
    Question session = *question;
    session.session = record->session;
    if (record->session && !arbiter_read_winner(&session, &winner, &reading) && reading) {
        g_propagate_error(error, g_steal_pointer(&reading));
        return FALSE;
    }
    *ret_facts = (OwnerFacts){.rests = record->rests,
                              .has_session = record->session != NULL,
                              .writer = who(question, record->writer),
                              .winner = who(question, winner),
                              .in_step = who(question, record->in_step)};
    *ret_owner = winner ? g_steal_pointer(&winner) : g_strdup(record->writer);
    return TRUE;
}

/*
 * Of one that claims the VM: what it has run. Disks in the middle of a synchronisation or a takeover, or
 * a checkpoint of what the writer has, hold nothing that anybody was told and that isn't on the writer's.
 * Without disks only a note shows that it has run nothing. FALSE: that can't be told.
 */
static gboolean find_run(const Question *question, const ArbiterRecord *record,
                         OwnerFacts *ret_facts, GError **error)
{
    const Generation *ours = &question->stake.generation;
    g_autofree char *unrun = NULL;
    if (question->stake.has_disks) {
        ret_facts->is_newer = ours->current != record->generation;
        ret_facts->is_unrun =
            ours->data == GENERATION_BROKEN ||
            (ours->data == GENERATION_BEHIND && ours->current == record->generation);
        return TRUE;
    }
    /* The note tells of nothing else: that it can't be read must not keep an owner from its VM. */
    gboolean matters =
        !record->rests && ret_facts->writer == OWNER_OTHER && ret_facts->winner == OWNER_SELF;
    if (matters && !arbiter_read_unrun(question->state_dir, &unrun, error))
        return FALSE;
    ret_facts->is_unrun = unrun && !g_strcmp0(unrun, record->session);
    ret_facts->is_newer = !record->rests && !ret_facts->is_unrun;
    return TRUE;
}

/* ---- Answers ---- */

/* The asker owns the VM and can't run it: it rests as before, or with who wrote to it last. */
static gboolean give_back(const Question *question, const ArbiterRecord *record,
                          const OwnerFacts *facts, GError **error)
{
    ArbiterRecord rest = *record;
    if (!owner_keeps_in_step(facts))
        rest.in_step = NULL;
    return write_rest(question, &rest, error);
}

/*
 * The asker has won the session on record, and can't run the VM. All that was ever on its disks the
 * writer has, be it a primary that waits with the VM in memory. So the session is the writer's.
 */
static gboolean return_session(const Question *question, const ArbiterRecord *record,
                               GError **error)
{
    Question session = *question;
    session.session = record->session;
    session.to = record->writer;
    return arbiter_hand_back(&session, error) != ARBITER_UNKNOWN;
}

/* It has no disks that would be the reason. */
static ArbiterAnswer tell_returned(const Question *question, const ArbiterRecord *record,
                                   GError **error)
{
    g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_OWNER,
                "arbiter: this node was to take VM %s over, and died before it ran it: it is node "
                "%s's again, which may hold it. Start this node as its secondary (role secondary, "
                "or auto); only if %s and its VM are certainly lost: colod --overrule-arbiter",
                question->uuid, record->writer, record->writer);
    return ARBITER_DENIED;
}

static ArbiterAnswer deny(const Question *question, const ArbiterRecord *record, const char *owner,
                          GError **error)
{
    /* Nothing makes half a replica a whole one: only what is of use is advised. */
    if (question->stake.has_disks && question->stake.generation.data == GENERATION_BROKEN) {
        ArbiterRecord run = {.writer = (char *)owner, .generation = record->generation};
        arbiter_stake_is_good(&question->stake, &run, question->who, FALSE, error);
        return ARBITER_DENIED;
    }
    g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_OWNER,
                "arbiter: VM %s is run by node %s since it was last started or taken over: start "
                "this node as its secondary (role secondary, or auto); only if %s and its VM are "
                "certainly off, and must not continue: colod --overrule-arbiter",
                question->uuid, owner, owner);
    return ARBITER_DENIED;
}

/* Decides a session that is open. GRANTED, DENIED or UNKNOWN. */
static ArbiterAnswer decide(const Question *question, const ArbiterRecord *record, GError **error)
{
    g_autoptr(GError) reading = NULL;
    g_autofree char *owner = NULL;
    OwnerFacts facts;
    Question session = *question;
    session.session = record->session;
    if (arbiter_decide(&session, &reading) == ARBITER_UNKNOWN) {
        g_propagate_error(error, g_steal_pointer(&reading));
        return ARBITER_UNKNOWN;
    }
    /* Who else has won has to be named. */
    if (!find_facts(question, record, &facts, &owner, error))
        return ARBITER_UNKNOWN;
    ArbiterAnswer answer = owner_judge(&facts);
    if (answer == ARBITER_DENIED)
        return deny(question, record, owner, error);
    if (answer != ARBITER_OPEN)
        return answer;
    g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_ASK,
                "arbiter: the decision for session %s is gone again (who removes files there?)",
                record->session);
    return ARBITER_UNKNOWN;
}

/* The asker would own the VM, and shows its disks. */
static ArbiterAnswer claim(const Question *question, const ArbiterRecord *record, GError **error)
{
    g_autoptr(GError) disks = NULL;
    g_autofree char *owner = NULL;
    OwnerFacts facts;
    if (!find_facts(question, record, &facts, &owner, error) ||
        !find_run(question, record, &facts, error))
        return ARBITER_UNKNOWN;
    gboolean good = arbiter_stake_is_good(&question->stake, record, question->who,
                                          owner_is_asker(&facts), &disks);
    OwnerVerdict verdict = owner_judge_claim(&facts, question->claim, good);
    switch (verdict) {
    case OWNER_GRANTS:
        return ARBITER_GRANTED;
    case OWNER_RECORDS:
        return write_owner(question, TRUE, error) ? ARBITER_GRANTED : ARBITER_UNKNOWN;
    case OWNER_WAITS:
        return ARBITER_OPEN;
    case OWNER_DECIDES:
        return decide(question, record, error);
    case OWNER_DENIES_ENDED:
        g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_OWNER,
                    "arbiter: nobody runs VM %s, and node %s was the last to", question->uuid,
                    record->writer);
        return ARBITER_DENIED;
    case OWNER_GIVES_BACK:
        if (!give_back(question, record, &facts, error))
            return ARBITER_UNKNOWN;
        break;
    case OWNER_RETURNS:
        if (!g_atomic_int_get(&question->ended) && !return_session(question, record, error))
            return ARBITER_UNKNOWN;
        if (good)
            return tell_returned(question, record, error);
        break;
    case OWNER_DENIES_DISKS:
        break;
    default:
        return deny(question, record, owner, error);
    }
    g_propagate_error(error, g_steal_pointer(&disks));
    return ARBITER_DENIED;
}

/* The VM has no record. TRUE: by now it has one, be it the other's, who was first. */
static gboolean begin_record(const Question *question, ArbiterRecord *ret_record,
                             ArbiterAnswer *ret_answer, GError **error)
{
    g_autoptr(GError) disks = NULL, reading = NULL;
    gboolean good = arbiter_stake_is_good(&question->stake, NULL, question->who, FALSE, &disks);
    OwnerVerdict verdict = owner_judge_claim(NULL, question->claim, good);
    *ret_answer = verdict == OWNER_WRITES ? ARBITER_UNKNOWN : ARBITER_DENIED;
    if (verdict == OWNER_DENIES_UNRUN)
        g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_OWNER, "arbiter: nobody has run VM %s yet",
                    question->uuid);
    else if (verdict != OWNER_WRITES)
        g_propagate_error(error, g_steal_pointer(&disks));
    if (verdict != OWNER_WRITES || !write_owner(question, FALSE, error))
        return FALSE;
    if (read_record(question, ret_record, &reading))
        return TRUE;
    if (reading)
        g_propagate_error(error, g_steal_pointer(&reading));
    else
        g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_ASK,
                    "arbiter: the owner of VM %s was written and is gone again (who removes files "
                    "there?)",
                    question->uuid);
    return FALSE;
}

static ArbiterAnswer work_claim(const Question *question, GError **error)
{
    g_autoptr(GError) reading = NULL;
    g_auto(ArbiterRecord) record = {0};
    ArbiterAnswer answer;
    /* A predecessor may have given away what is read here as the asker's own. */
    if (!arbiter_remove_leftovers(question, error))
        return ARBITER_UNKNOWN;
    if (question->claim == ARBITER_OVERRULE)
        return write_owner(question, TRUE, error) ? ARBITER_GRANTED : ARBITER_UNKNOWN;
    if (read_record(question, &record, &reading))
        return claim(question, &record, error);
    if (reading) {
        g_propagate_error(error, g_steal_pointer(&reading));
        return ARBITER_UNKNOWN;
    }
    if (!begin_record(question, &record, &answer, error))
        return answer;
    /* Its disks were good when it was written. */
    if (!record.session && !strcmp(record.writer, question->who))
        return ARBITER_GRANTED;
    return claim(question, &record, error);
}

static ArbiterAnswer work_give_back(const Question *question, GError **error)
{
    g_autoptr(GError) reading = NULL;
    g_auto(ArbiterRecord) record = {0};
    g_autofree char *owner = NULL;
    OwnerFacts facts;
    if (!read_record(question, &record, &reading)) {
        if (!reading)
            return ARBITER_GRANTED;
        g_propagate_error(error, g_steal_pointer(&reading));
        return ARBITER_UNKNOWN;
    }
    if (!find_facts(question, &record, &facts, &owner, error))
        return ARBITER_UNKNOWN;
    OwnerVerdict verdict = owner_judge_end(&facts, question->has_run);
    if (verdict == OWNER_DECIDES) {
        ArbiterAnswer answer = decide(question, &record, error);
        if (answer != ARBITER_GRANTED)
            return answer;
        facts.winner = OWNER_SELF;
        verdict = owner_judge_end(&facts, question->has_run);
    }
    if (verdict == OWNER_GRANTS)
        return ARBITER_GRANTED;
    if (verdict == OWNER_DENIES)
        return deny(question, &record, owner, error);
    ArbiterRecord rest = {.writer = question->who,
                          .generation = question->stake.generation.current,
                          .epoch = question->epoch,
                          .in_step = question->in_step};
    gboolean written = verdict == OWNER_RESTS     ? write_rest(question, &rest, error)
                       : verdict == OWNER_RETURNS ? return_session(question, &record, error)
                                                  : give_back(question, &record, &facts, error);
    return written ? ARBITER_GRANTED : ARBITER_UNKNOWN;
}

static ArbiterAnswer work_record(const Question *question, GError **error)
{
    return write_owner(question, TRUE, error) ? ARBITER_GRANTED : ARBITER_UNKNOWN;
}

static Question question_of(const char *uuid, const char *who, ArbiterFunc answer,
                            gpointer user_data)
{
    return (Question){.uuid = (char *)uuid,
                      .session = (char *)NO_SESSION,
                      .who = (char *)who,
                      .in_turn = TRUE,
                      .answer = answer,
                      .user_data = user_data};
}

void arbiter_claim(Arbiter *arbiter, const char *uuid, const char *who, ArbiterClaim claim,
                   const ArbiterStake *stake, ArbiterFunc answer, gpointer user_data)
{
    Question like = question_of(uuid, who, answer, user_data);
    like.claim = claim;
    like.in_turn = claim != ARBITER_RETURN;
    like.stake = *stake;
    like.work = work_claim;
    arbiter_question(arbiter, &like);
}

void arbiter_record(Arbiter *arbiter, const char *uuid, const char *session, const char *who,
                    guint64 generation, ArbiterFunc answer, gpointer user_data)
{
    Question like = question_of(uuid, who, answer, user_data);
    if (session)
        like.session = (char *)session;
    like.stake.generation.current = generation;
    like.work = work_record;
    arbiter_question(arbiter, &like);
}

void arbiter_give_back(Arbiter *arbiter, const char *uuid, const char *who, const ArbiterRest *rest,
                       ArbiterFunc answer, gpointer user_data)
{
    Question like = question_of(uuid, who, answer, user_data);
    like.has_run = rest != NULL;
    if (rest) {
        like.stake.generation.current = rest->generation;
        like.epoch = rest->epoch;
        like.in_step = (char *)rest->in_step;
    }
    like.work = work_give_back;
    arbiter_question(arbiter, &like);
}
