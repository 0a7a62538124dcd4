/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `file`: a directory that both hosts see (folder.c checks that). A decision is the file
 * UUID.SESSION in it, and names who may continue; who makes it first has won. It is written whole
 * under a name of its own (a draft), and synced. Then link(2) gives it its place, and fails if the
 * place is taken. So there never is half a decision, whatever dies when. It is also right on NFS,
 * where O_EXCL was not always.
 *
 * Invariants:
 * - The contents of the decision file count, read after the attempt to make it. The result of
 *   link(2) doesn't (an NFS client may repeat a request whose answer was lost).
 * - The answer is yes only after the file and its folder are synced: a crash of the storage can't
 *   take back what somebody already acts on. No needs no such care: who gets it stops.
 * - All that is not clearly yes or no is ARBITER_UNKNOWN: nobody continues because of it.
 * - Only its winner changes a decision, and only to the other side's, by rename(2): a secondary that
 *   was handed the VM and can't take over, or that ends. It has ended what it could have continued with.
 *   One that ends may make the decision for the other side, too.
 * - None is removed that somebody may ask for: the loser may come back late (tidy.c).
 *
 * A draft left by a crash decides nothing. It is removed when its maker asks again for the same VM. A
 * rename may outlive its process, on NFS: what this side has won may be made the other's at any moment.
 * So a node that starts removes all drafts before it reads that it is the owner (owner.c).
 * If its maker is still at work, link(2) fails there and the answer is unknown.
 *
 * UUID.owner records which node owns the VM: owner.c.
 */
#include "colo/arbiter/arbiter_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"

#define FIRST_LINE "colo decision 1"

static char *write_text(const char *who, guint64 epoch)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *when = g_date_time_format(now, "%Y-%m-%dT%H:%M:%SZ");
    return g_strdup_printf("%s\ngranted-to %s\nepoch %" G_GUINT64_FORMAT "\nat %s\n", FIRST_LINE,
                           who, epoch, when);
}

/* Only digits. (GLib's own parser may fail when two threads use it first at the same moment.) */
static gboolean is_number(const char *text)
{
    return *text && text[strspn(text, "0123456789")] == '\0';
}

/* The winner's escaped name, or NULL if this is not a whole decision. */
static char *parse_text(const char *text, gsize len)
{
    if (memchr(text, '\0', len) || len == 0 || text[len - 1] != '\n')
        return NULL;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    /* Four lines and what is after the last newline. */
    if (g_strv_length(lines) != 5 || strcmp(lines[0], FIRST_LINE) != 0 ||
        !g_str_has_prefix(lines[1], "granted-to ") || !g_str_has_prefix(lines[2], "epoch ") ||
        !g_str_has_prefix(lines[3], "at ") || *lines[4] || !is_number(lines[2] + strlen("epoch ")))
        return NULL;
    const char *who = lines[1] + strlen("granted-to ");
    return *who ? g_strdup(who) : NULL;
}

static char *decision_name(const Question *question)
{
    return g_strdup_printf("%s.%s", question->uuid, question->session);
}

gboolean arbiter_read_winner(const Question *question, char **ret_winner, GError **error)
{
    char text[ARBITER_TEXT_MAX_BYTES + 1];
    gsize len = 0;
    g_autofree char *name = decision_name(question);
    COLO_AUTO_FD fd = openat(question->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? FALSE : arbiter_fail(question, "open", name, error);
    if (!arbiter_read_text(question, fd, name, text, &len, error))
        return FALSE;
    g_autofree char *winner = parse_text(text, len);
    if (!winner) {
        g_set_error(
            error, ARBITER_ERROR, ARBITER_ERROR_ASK,
            "arbiter: %s/%s is not a decision (an administrator must see which side runs, and "
            "may then remove it)",
            question->dir, name);
        return FALSE;
    }
    if (!strcmp(winner, question->who)) {
        if (fsync(fd) < 0)
            return arbiter_fail(question, "sync", name, error);
        if (!arbiter_sync_folder(question, error))
            return FALSE;
    }
    *ret_winner = g_steal_pointer(&winner);
    return TRUE;
}

/* The answer of a decision that has been made; FALSE as arbiter_read_winner(). */
static gboolean read_decision(const Question *question, ArbiterAnswer *ret_answer, GError **error)
{
    g_autofree char *winner = NULL;
    if (!arbiter_read_winner(question, &winner, error))
        return FALSE;
    *ret_answer = strcmp(winner, question->who) != 0 ? ARBITER_DENIED : ARBITER_GRANTED;
    return TRUE;
}

/* `winner` is to be the first. TRUE: somebody was, and the decision can be read. */
static gboolean make_decision(const Question *question, const char *winner, const char *name,
                              GError **error)
{
    g_autofree char *text = write_text(winner, question->epoch);
    g_autofree char *draft = arbiter_draft_name(question);
    gboolean made = arbiter_write_new_file(question, draft, text, error);
    if (made && linkat(question->fd, draft, question->fd, name, 0) < 0 && errno != EEXIST)
        made = arbiter_fail(question, "make", name, error);
    (void)unlinkat(question->fd, draft, 0);
    return made;
}

ArbiterAnswer arbiter_decide(const Question *question, GError **error)
{
    g_autoptr(GError) reading = NULL;
    g_autofree char *name = decision_name(question);
    ArbiterAnswer answer = ARBITER_UNKNOWN;
    /* That it fails changes no answer: what this process is told yes for, none before it has asked. */
    (void)arbiter_remove_leftovers(question, NULL);
    if (read_decision(question, &answer, &reading))
        return answer;
    if (reading) {
        g_propagate_error(error, g_steal_pointer(&reading));
        return ARBITER_UNKNOWN;
    }
    if (!make_decision(question, question->who, name, error))
        return ARBITER_UNKNOWN;
    if (read_decision(question, &answer, &reading))
        return answer;
    if (reading)
        g_propagate_error(error, g_steal_pointer(&reading));
    else
        g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_ASK,
                    "arbiter: %s/%s was made and is gone again (who removes files there?)",
                    question->dir, name);
    return ARBITER_UNKNOWN;
}

/* ---- A decision that is given back ---- */

static ArbiterAnswer fail_gone(const Question *question, GError **error)
{
    g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_ASK,
                "arbiter: the decision for session %s is gone (who removes files there?)",
                question->session);
    return ARBITER_UNKNOWN;
}

ArbiterAnswer arbiter_hand_back(const Question *question, GError **error)
{
    g_autoptr(GError) reading = NULL;
    g_autofree char *winner = NULL;
    if (!arbiter_read_winner(question, &winner, &reading)) {
        if (!reading)
            return fail_gone(question, error);
        g_propagate_error(error, g_steal_pointer(&reading));
        return ARBITER_UNKNOWN;
    }
    if (strcmp(winner, question->who) && strcmp(winner, question->to))
        return ARBITER_DENIED;
    /* What is there already may not be durable yet. */
    g_autofree char *name = decision_name(question);
    g_autofree char *text = write_text(question->to, question->epoch);
    g_autofree char *draft = arbiter_draft_name(question);
    gboolean made = arbiter_write_new_file(question, draft, text, error);
    if (made && renameat(question->fd, draft, question->fd, name) < 0)
        made = arbiter_fail(question, "make", name, error);
    (void)unlinkat(question->fd, draft, 0);
    return made && arbiter_sync_folder(question, error) ? ARBITER_GRANTED : ARBITER_UNKNOWN;
}

/*
 * A question of the asker may still hang, and be carried out at any moment. Whatever the order, the session is
 * the other side's in the end, and the asker acts on no yes of it any more. A question that makes its decision
 * before that of this function, finds its yes renamed below. One that comes later finds the place taken. If
 * both find none, link(2) lets one of the two be first. So it needn't be known here what has become of it.
 */
ArbiterAnswer arbiter_hand_on(const Question *question, GError **error)
{
    g_autoptr(GError) reading = NULL;
    g_autofree char *winner = NULL, *name = decision_name(question);
    if (!arbiter_read_winner(question, &winner, &reading) && !reading &&
        !make_decision(question, question->to, name, error))
        return ARBITER_UNKNOWN;
    return arbiter_hand_back(question, error);
}

ArbiterAnswer arbiter_read_again(const Question *question, GError **error)
{
    g_autoptr(GError) reading = NULL;
    ArbiterAnswer answer = ARBITER_UNKNOWN;
    if (read_decision(question, &answer, &reading))
        return answer;
    if (!reading)
        return fail_gone(question, error);
    g_propagate_error(error, g_steal_pointer(&reading));
    return ARBITER_UNKNOWN;
}
