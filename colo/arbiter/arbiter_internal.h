/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inside the arbiter: arbiter.c has the questions, folder.c the folder and its name, file.c the
 * decisions in it. tidy.c removes old ones, and owner.c has the owner of a VM, by the rules of
 * owner-rules.h. unrun.c is what a node notes for itself.
 */
#ifndef COLO_COLO_ARBITER_ARBITER_INTERNAL_H
#define COLO_COLO_ARBITER_ARBITER_INTERNAL_H

#include "colo/arbiter/arbiter.h"

#define ARBITER_TEXT_MAX_BYTES 4096u
#define ARBITER_ID_CHARS       16u
#define ARBITER_LATE_MANY                                                                          \
    16u /* questions of a kind that hang: from then on the next one waits longer */
#define ARBITER_WAY_OUT "is the storage there, on both hosts?"

typedef struct Question Question;

/* For tests: called by the question's thread, in the folder, before and (`done`) after its work. */
typedef void (*ArbiterHook)(gboolean done, gpointer hook_data);

/* One question on its way through a thread. The thread has a reference, so has the arbiter. */
struct Question {
    gint refs;
    GMainContext *context;
    Arbiter *arbiter; /* NULL: freed meanwhile. Only touched by the asker's thread */
    char *dir, *uuid, *session, *who; /* all but dir escaped; session may be "-": none */
    char *state_dir;                  /* where the folder's name is pinned; NULL: nowhere */
    guint64 epoch;
    ArbiterClaim claim;
    gboolean writes;    /* of arbiter_look(): try that, too */
    ArbiterStake stake; /* the asker's disks */
    char *in_step;      /* escaped, may be NULL */
    char *to;           /* likewise: of arbiter_return() and arbiter_concede(); of
                         arbiter_note_unrun(), the session */
    gboolean has_run;   /* the VM was run by the asker */
    ArbiterAnswer (*work)(const Question *question, GError **error);
    gboolean in_turn; /* after those before it that are in turn, too */
    guint limit_ms;   /* 0: the arbiter's */
    GSource *limit;   /* runs until it is late; NULL: no more, or never */
    gboolean once;    /* what is late is not answered again */
    gboolean late;    /* has been told so */
    gboolean tried;   /* it has a thread, and doesn't wait for its turn */
    gboolean counts;  /* it is late, and delays others of its kind */
    gint ended;       /* atomic: of ARBITER_RETURN, it changes nothing any more */
    gboolean forgotten;
    int fd;         /* the folder, while `work` is at it: all of one answer comes from there */
    char *expected; /* the name that the folder must have; NULL: none is known yet */
    char *found;    /* the name that it has; NULL: none */
    ArbiterAnswer result;
    GError *error;
    ArbiterFunc answer;
    gpointer user_data;
    ArbiterHook hook;
    gpointer hook_data;
};

/* ---- arbiter.c ---- */

/* Starts a question; `like` has what is asked (its strings are copied, uuid and so on escaped). */
void arbiter_question(Arbiter *arbiter, const Question *like);
/* Of the questions from now on; NULL: none. */
void arbiter_set_hook(Arbiter *arbiter, ArbiterHook hook, gpointer hook_data);

/* ---- folder.c ---- */

/*
 * Has question->work done in the folder, by its descriptor; what was answered is UNKNOWN unless the
 * folder had its name before and after.
 */
ArbiterAnswer arbiter_answer_in_folder(Question *question, GError **error);
/* The work of arbiter_look(). */
ArbiterAnswer arbiter_look_around(const Question *question, GError **error);

/*
 * The number of the mount that a path is on, by its text: storage isn't touched, and links aren't followed.
 * -1: unknown.
 */
gint64 arbiter_mount_at(const char *dir);

/* In the folder of the question; names are of files there. */

/* Always FALSE, with ARBITER_ERROR_ASK from errno. */
gboolean arbiter_fail(const Question *question, const char *what, const char *name, GError **error);
/* A new file's name for this question, to be given its place by link(2) or rename(2). */
char *arbiter_draft_name(const Question *question);
/* A new, empty or not, whole and durable file. */
gboolean arbiter_write_new_file(const Question *question, const char *name, const char *text,
                                GError **error);
gboolean arbiter_sync_folder(const Question *question, GError **error);
/* The text of an open file, terminated. */
gboolean arbiter_read_text(const Question *question, int fd, const char *name,
                           char text[ARBITER_TEXT_MAX_BYTES + 1], gsize *ret_len, GError **error);
/*
 * Removes drafts of predecessors of this process, for the asker and its VM. What one of them had under
 * way when it died comes to nothing from then on, on NFS too: a file that is gone can't be given a
 * place by link(2) or rename(2).
 */
gboolean arbiter_remove_leftovers(const Question *question, GError **error);

/* The name that is pinned in a node's state folder; NULL without an error: none. */
char *arbiter_read_pin(const char *state_dir, GError **error);
/* The work of arbiter_pin(). */
ArbiterAnswer arbiter_write_pin(const Question *question, GError **error);

/* ---- file.c ---- */

/*
 * Who may continue in question->session (escaped). FALSE with an error if that is unknown; FALSE
 * without one if nothing was decided yet.
 */
gboolean arbiter_read_winner(const Question *question, char **ret_winner, GError **error);
/* Answers for question->session, deciding it if nobody has. */
ArbiterAnswer arbiter_decide(const Question *question, GError **error);
/* The work of arbiter_return(), arbiter_concede() and arbiter_look_back(). */
ArbiterAnswer arbiter_hand_back(const Question *question, GError **error);
ArbiterAnswer arbiter_hand_on(const Question *question, GError **error);
ArbiterAnswer arbiter_read_again(const Question *question, GError **error);

/* ---- unrun.c ---- */

/*
 * The session that this node was a secondary in, and has not run the VM of; NULL: none is noted. FALSE
 * with ARBITER_ERROR_STATE: that can't be told.
 */
gboolean arbiter_read_unrun(const char *state_dir, char **ret_session, GError **error);
/* The work of arbiter_note_unrun(). */
ArbiterAnswer arbiter_write_unrun(const Question *question, GError **error);

#endif
