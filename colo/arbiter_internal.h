/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inside the arbiter: arbiter.c has questions and decisions, arbiter-owner.c whose a VM is. */
#ifndef COLO_COLO_ARBITER_INTERNAL_H
#define COLO_COLO_ARBITER_INTERNAL_H

#include "colo/arbiter.h"

#define ARBITER_TEXT_MAX_BYTES 4096u

typedef struct Question Question;

/* One question on its way through a thread. The thread has a reference, so has the arbiter. */
struct Question {
    gint refs;
    GMainContext *context;
    Arbiter *arbiter; /* NULL: freed meanwhile. Only touched by the asker's thread */
    char *dir, *uuid, *session, *who; /* all but dir escaped; session may be "-": none */
    guint64 epoch;
    ArbiterClaim claim;
    ArbiterAnswer (*work)(const Question *question, GError **error);
    gboolean in_turn; /* after those before it that are in turn, too */
    ArbiterAnswer result;
    GError *error;
    ArbiterFunc answer;
    gpointer user_data;
};

/* ---- arbiter.c ---- */

/* Starts a question; `like` says what is asked (its strings are copied, uuid and so on escaped). */
void arbiter_question(Arbiter *arbiter, const Question *like);

/* Always FALSE, with ARBITER_ERROR_ASK from errno. */
gboolean arbiter_fail(const char *what, const char *path, GError **error);
/* A new file's name for this question, to be given its place by link(2) or rename(2). */
char *arbiter_draft_path(const Question *question);
gboolean arbiter_write_new_file(const char *path, const char *text, GError **error);
gboolean arbiter_sync_folder(const char *dir, GError **error);
/* The text of an open file, terminated. */
gboolean arbiter_read_text(int fd, const char *path, char text[ARBITER_TEXT_MAX_BYTES + 1],
                           gsize *ret_len, GError **error);
/*
 * Who may go on in question->session (escaped). FALSE with an error if it can't be told; FALSE
 * without one if nothing was decided yet.
 */
gboolean arbiter_read_winner(const Question *question, char **ret_winner, GError **error);
/* Answers for question->session, deciding it if nobody has. */
ArbiterAnswer arbiter_decide(const Question *question, GError **error);

#endif
