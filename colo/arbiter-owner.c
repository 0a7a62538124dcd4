/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose a VM is: UUID.owner says who runs it, and the session in which somebody else may have taken
 * it over since. A node that starts as primary looks there first.
 *
 *     colo owner 1
 *     owner alpha
 *     session 0011..., or -
 *     at 2026-01-01T00:00:00Z
 *
 * The owner of a VM is who won the decision for that session, or if there is none who is named
 * here. Invariants:
 * - A VM is only run by its owner. A first one comes to be by link(2), which one of many wins.
 * - Only the owner writes here, and it names session s before it says PROTECT in s. So whenever a
 *   secondary may win the decision for s, it is the owner by that alone: nothing has to be written
 *   between a decision and acting on it, and nothing that is late can undo it.
 * - For the same reason every takeover has a decision, also that from a primary which has yielded.
 * - An owner that starts again while s is open decides it like anybody else: one of the two wins.
 * - What is written is changed in one rename(2), in the order in which it was asked for.
 *
 * Names are compared, not times: clocks of two hosts aren't one clock.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "colo/arbiter_internal.h"
#include "common/fd.h"

#define FIRST_LINE "colo owner 1"
#define NO_SESSION "-"

typedef struct {
    char *owner, *session; /* session NULL: none */
} Record;

static void record_clear(Record *record)
{
    g_clear_pointer(&record->owner, g_free);
    g_clear_pointer(&record->session, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Record, record_clear)

static char *record_name(const Question *question)
{
    return g_strdup_printf("%s.owner", question->uuid);
}

static gboolean parse(const char *text, gsize len, Record *ret_record)
{
    if (memchr(text, '\0', len) || len == 0 || text[len - 1] != '\n')
        return FALSE;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    if (g_strv_length(lines) != 5 || strcmp(lines[0], FIRST_LINE) != 0 ||
        !g_str_has_prefix(lines[1], "owner ") || !g_str_has_prefix(lines[2], "session ") ||
        !g_str_has_prefix(lines[3], "at ") || *lines[4])
        return FALSE;
    const char *owner = lines[1] + strlen("owner "), *session = lines[2] + strlen("session ");
    /* It becomes part of a file's name. */
    if (!*owner || !*session || strpbrk(session, "./"))
        return FALSE;
    ret_record->owner = g_strdup(owner);
    ret_record->session = strcmp(session, NO_SESSION) != 0 ? g_strdup(session) : NULL;
    return TRUE;
}

/* FALSE with an error if it can't be told; FALSE without one if the VM is nobody's. */
static gboolean read_record(const Question *question, Record *ret_record, GError **error)
{
    char text[ARBITER_TEXT_MAX_BYTES + 1];
    gsize len = 0;
    g_autofree char *name = record_name(question);
    COLO_AUTO_FD fd = openat(question->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? FALSE : arbiter_fail(question, "open", name, error);
    if (!arbiter_read_text(question, fd, name, text, &len, error))
        return FALSE;
    if (parse(text, len, ret_record))
        return TRUE;
    g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_ASK,
                "arbiter: %s/%s does not say whose the VM is (an administrator must see which side "
                "runs it, and may then remove it)",
                question->dir, name);
    return FALSE;
}

/* `replace`: whatever is there; else somebody's who was first stays, which is no error. */
static gboolean write_record(const Question *question, gboolean replace, GError **error)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *when = g_date_time_format(now, "%Y-%m-%dT%H:%M:%SZ");
    g_autofree char *text = g_strdup_printf("%s\nowner %s\nsession %s\nat %s\n", FIRST_LINE,
                                            question->who, question->session, when);
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

static ArbiterAnswer deny(const Question *question, const char *owner, GError **error)
{
    g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_OWNER,
                "arbiter: VM %s is run by node %s since it was last started or taken over: start "
                "this node as its secondary (role secondary, or auto); only if %s and its VM are "
                "off for certain, and shall not go on: colod --overrule-arbiter",
                question->uuid, owner, owner);
    return ARBITER_DENIED;
}

/* Who owns a VM that has a record; decides an open session of question->who if `may_decide`. */
static ArbiterAnswer judge(const Question *question, const Record *record, gboolean may_decide,
                           GError **error)
{
    g_autoptr(GError) reading = NULL;
    g_autofree char *winner = NULL;
    gboolean ours = !strcmp(record->owner, question->who);
    Question session = *question;
    session.session = record->session;
    if (!record->session)
        return ours ? ARBITER_GRANTED : deny(question, record->owner, error);
    if (!arbiter_read_winner(&session, &winner, &reading) && !reading) {
        if (!ours)
            return deny(question, record->owner, error);
        if (!may_decide)
            return ARBITER_OPEN;
        /* The answer is asked for again below: who else has won has to be named. */
        if (arbiter_decide(&session, &reading) != ARBITER_UNKNOWN)
            arbiter_read_winner(&session, &winner, &reading);
    }
    if (!winner) {
        if (reading)
            g_propagate_error(error, g_steal_pointer(&reading));
        else
            g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_ASK,
                        "arbiter: the decision for session %s is gone again (who removes files "
                        "there?)",
                        record->session);
        return ARBITER_UNKNOWN;
    }
    return !strcmp(winner, question->who) ? ARBITER_GRANTED : deny(question, winner, error);
}

static ArbiterAnswer work_claim(const Question *question, GError **error)
{
    g_autoptr(GError) reading = NULL;
    g_auto(Record) record = {0};
    if (question->claim == ARBITER_OVERRULE)
        return write_record(question, TRUE, error) ? ARBITER_GRANTED : ARBITER_UNKNOWN;
    gboolean found = read_record(question, &record, &reading);
    if (!found && !reading) {
        if (!write_record(question, FALSE, error))
            return ARBITER_UNKNOWN;
        found = read_record(question, &record, &reading);
        if (!found && !reading) {
            g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_ASK,
                        "arbiter: whose VM %s is was written and is gone again (who removes files "
                        "there?)",
                        question->uuid);
            return ARBITER_UNKNOWN;
        }
    }
    if (!found) {
        g_propagate_error(error, g_steal_pointer(&reading));
        return ARBITER_UNKNOWN;
    }
    return judge(question, &record, question->claim == ARBITER_CLAIM, error);
}

static ArbiterAnswer work_record(const Question *question, GError **error)
{
    return write_record(question, TRUE, error) ? ARBITER_GRANTED : ARBITER_UNKNOWN;
}

static ArbiterAnswer work_release(const Question *question, GError **error)
{
    g_autoptr(GError) reading = NULL;
    g_auto(Record) record = {0};
    if (!read_record(question, &record, &reading)) {
        if (!reading)
            return ARBITER_GRANTED;
        g_propagate_error(error, g_steal_pointer(&reading));
        return ARBITER_UNKNOWN;
    }
    ArbiterAnswer answer = judge(question, &record, TRUE, error);
    if (answer != ARBITER_GRANTED)
        return answer;
    g_autofree char *name = record_name(question);
    if (unlinkat(question->fd, name, 0) < 0 && errno != ENOENT) {
        arbiter_fail(question, "remove", name, error);
        return ARBITER_UNKNOWN;
    }
    return arbiter_sync_folder(question, error) ? ARBITER_GRANTED : ARBITER_UNKNOWN;
}

void arbiter_claim(Arbiter *arbiter, const char *uuid, const char *who, ArbiterClaim claim,
                   ArbiterFunc answer, gpointer user_data)
{
    Question like = {.uuid = (char *)uuid,
                     .session = (char *)NO_SESSION,
                     .who = (char *)who,
                     .claim = claim,
                     .work = work_claim,
                     .in_turn = TRUE,
                     .answer = answer,
                     .user_data = user_data};
    arbiter_question(arbiter, &like);
}

void arbiter_record(Arbiter *arbiter, const char *uuid, const char *session, const char *who,
                    ArbiterFunc answer, gpointer user_data)
{
    Question like = {.uuid = (char *)uuid,
                     .session = (char *)(session ? session : NO_SESSION),
                     .who = (char *)who,
                     .work = work_record,
                     .in_turn = TRUE,
                     .answer = answer,
                     .user_data = user_data};
    arbiter_question(arbiter, &like);
}

void arbiter_release(Arbiter *arbiter, const char *uuid, const char *who, ArbiterFunc answer,
                     gpointer user_data)
{
    Question like = {.uuid = (char *)uuid,
                     .session = (char *)NO_SESSION,
                     .who = (char *)who,
                     .work = work_release,
                     .in_turn = TRUE,
                     .answer = answer,
                     .user_data = user_data};
    arbiter_question(arbiter, &like);
}
