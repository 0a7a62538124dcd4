/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The room of the arbiter. It answers one question, asked once per lost peer: "may I continue
 * alone?" For one session (a pairing of two hosts) at most one side ever gets a yes, however often
 * and in whatever order both ask. A side that has got a yes gets it again. It also records which
 * node owns a VM. So a node that was overtaken and is started again doesn't start the VM a second
 * time.
 *
 * Owns: the decisions and records of a VM on the storage that both hosts see, the name of that
 * storage, and the questions that are open. Doesn't: decide when to ask, or what follows. Always
 * holds: per session one side at most has a yes; what isn't clearly yes or no is "unknown"; no
 * question blocks its asker.
 */
#ifndef COLO_COLO_ARBITER_ARBITER_H
#define COLO_COLO_ARBITER_ARBITER_H

#include <glib.h>

#include "colo/arbiter/record.h"

#define ARBITER_ERROR arbiter_error_quark()
GQuark arbiter_error_quark(void);

typedef enum {
    ARBITER_ERROR_CONFIG, /* unusable as configured: path missing, not writable, ... */
    ARBITER_ERROR_ASK,   /* the question could not be answered: nobody may continue because of it */
    ARBITER_ERROR_OWNER, /* the VM is somebody else's */
    ARBITER_ERROR_FOLDER, /* what is there is not the arbiter's folder, or no use as one */
    ARBITER_ERROR_EXISTS, /* of arbiter_init_folder(): it is one already */
    ARBITER_ERROR_LATE,   /* no answer yet: the question is open, and will be answered once more */
    ARBITER_ERROR_GONE,   /* that second answer is UNKNOWN too */
    ARBITER_ERROR_DISKS,  /* the VM must not run from this node's disks */
    ARBITER_ERROR_STATE,  /* this node's own state folder could not be read or written */
} ArbiterError;

typedef enum {
    ARBITER_GRANTED, /* continue alone */
    ARBITER_DENIED,  /* the other side continues: stop */
    ARBITER_MANUAL,  /* there is no arbiter: an administrator must decide */
    ARBITER_UNKNOWN, /* could not be asked (error is set): hold everything, may be asked again */
    ARBITER_OPEN,    /* of arbiter_claim() only */
} ArbiterAnswer;

typedef struct Arbiter Arbiter;

/*
 * `path` is a directory that both hosts see, not looked at before the first question; NULL: there is
 * no arbiter. `state_dir` is where this node remembers which one it is; NULL: it doesn't.
 */
Arbiter *arbiter_new(const char *path, const char *state_dir, GError **error);
/*
 * What both nodes must have in common: "none", or "file" and a name that the folder itself holds.
 * NULL: not known before a question was answered.
 */
const char *arbiter_identity(const Arbiter *arbiter);
/* It is known which folder it has to be: if it is another one now, the right one may come back. */
gboolean arbiter_is_pinned(const Arbiter *arbiter);

/*
 * A question that has no answer for so long is answered with UNKNOWN (ARBITER_ERROR_LATE). It is
 * answered once more when there is an answer, for a yes may be on storage by then. 0, the default:
 * no limit.
 */
void arbiter_set_limit_ms(Arbiter *arbiter, guint limit_ms);

void arbiter_free(Arbiter *arbiter);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Arbiter, arbiter_free)

/* The answer comes from the main loop: storage may hang, so it is asked in a thread. */
typedef void (*ArbiterFunc)(ArbiterAnswer answer, const GError *error, gpointer user_data);

/*
 * Asks for session `session` of VM `uuid` on behalf of `who` (a node's name, unique in the pair),
 * which continues from `epoch`. `error` is set for UNKNOWN only.
 */
void arbiter_ask(Arbiter *arbiter, const char *uuid, const char *session, const char *who,
                 guint64 epoch, ArbiterFunc answer, gpointer user_data);
/*
 * `who`, which has won that session and does not continue, gives it to `to`, whose yes it is from now
 * on. It must have ended what it could have continued with, and may not begin anew by that yes. GRANTED:
 * that is on storage. UNKNOWN: it may be or not. It may be asked again while others are open, for all
 * of them write the same.
 */
void arbiter_return(Arbiter *arbiter, const char *uuid, const char *session, const char *who,
                    const char *to, ArbiterFunc answer, gpointer user_data);
/*
 * Likewise for one that has perhaps won: it has asked, and was not told no. It ends, or has nothing any more
 * that it could continue with. If nobody has won yet, the session is `to`'s as well: so a question of `who`
 * that is late comes to nothing.
 */
void arbiter_concede(Arbiter *arbiter, const char *uuid, const char *session, const char *who,
                     const char *to, ArbiterFunc answer, gpointer user_data);
/* `who` was denied: is the session given back to it? GRANTED: it is. Nothing is decided by that. */
void arbiter_look_back(Arbiter *arbiter, const char *uuid, const char *session, const char *who,
                       ArbiterFunc answer, gpointer user_data);
/* An answer to that is to come, in time. */
gboolean arbiter_is_asked(const Arbiter *arbiter);
/* Another session counts from now on: what was asked about those before isn't answered any more. */
void arbiter_forget(Arbiter *arbiter);

/*
 * Is the arbiter there, and the right one? GRANTED or, with `error`, UNKNOWN. `writes`: it is also
 * tried whether a decision could be made; else nothing is written.
 */
void arbiter_look(Arbiter *arbiter, gboolean writes, ArbiterFunc answer, gpointer user_data);
/* Likewise, without writing. What has no answer for `limit_ms` is UNKNOWN, and isn't answered again. */
void arbiter_look_within(Arbiter *arbiter, guint limit_ms, ArbiterFunc answer, gpointer user_data);

/*
 * A peer has the same arbiter: from now on no other is this node's. GRANTED: that is on this host's
 * disk. In turn with the three functions below.
 */
void arbiter_pin(Arbiter *arbiter, ArbiterFunc answer, gpointer user_data);

/*
 * Makes a directory that both hosts see an arbiter's folder, by giving it a name (id). `ret_mount`
 * gets the mount that it is on. May block.
 */
gboolean arbiter_init_folder(const char *dir, char **ret_id, char **ret_mount, GError **error);

/*
 * A pair is protected in `session`, which is on record: nobody asks for decisions of this VM's
 * earlier sessions any more. All but the last ARBITER_DECISIONS_KEPT of them are removed. GRANTED
 * or UNKNOWN: nothing depends on it. In turn with the functions below.
 */
#define ARBITER_DECISIONS_KEPT 64u
void arbiter_tidy(Arbiter *arbiter, const char *uuid, const char *session, ArbiterFunc answer,
                  gpointer user_data);

/* ---- Whose the VM is, for a node that starts ---- */

/*
 * The arbiter records for each VM which node runs it (its owner). From before protection is claimed
 * on, it records the session too: if a decision was made for that, its winner counts. The three
 * functions below are carried out in the order of the calls. Without an arbiter the answer is
 * MANUAL.
 */

typedef enum {
    ARBITER_LOOK,     /* don't decide a session that isn't decided yet: OPEN */
    ARBITER_CLAIM,    /* decide it in favour of `who` */
    ARBITER_INHERIT,  /* for one that waits: likewise, but only where `who` was the last to run the
                         VM or is in step with that */
    ARBITER_RETURN,   /* for a secondary: never granted; but what `who` has won and can't have run
                         is the last owner's again, who may hold the VM */
    ARBITER_OVERRULE, /* an administrator knows that nobody else runs the VM */
} ArbiterClaim;

/*
 * May `who` start the VM, from the disks of `stake`? GRANTED: it is the owner, or nobody was and
 * now it is. DENIED: somebody else is, and `error` (ARBITER_ERROR_OWNER) names it; or others' disks
 * are newer (ARBITER_ERROR_DISKS names them too), and if it was the owner it is so no more. OPEN:
 * `who` ran it, protected, and the other side may be about to continue it. UNKNOWN: `error` has the
 * reason.
 */
void arbiter_claim(Arbiter *arbiter, const char *uuid, const char *who, ArbiterClaim claim,
                   const ArbiterStake *stake, ArbiterFunc answer, gpointer user_data);

/*
 * The node that has asked ARBITER_RETURN joins a primary. What is on record when this is called is of an
 * earlier session: so one that has read it may finish, and one that has not changes nothing. ARBITER_RETURN
 * doesn't wait for its turn, nor keep others from theirs: it may hang for ever.
 */
void arbiter_end_returns(Arbiter *arbiter);

/*
 * For a VM without disks: this node is the secondary in `session`, and has not run the VM so that anybody
 * heard it; or (NULL) it is about to, in a takeover. GRANTED: that is on this host's disk. UNKNOWN: it
 * may be or not. One at a time: it waits for nothing, and hangs if that disk does. What is noted is
 * part of what arbiter_claim() asks.
 */
void arbiter_note_unrun(Arbiter *arbiter, const char *session, ArbiterFunc answer,
                        gpointer user_data);

/*
 * `who`, which alone may run the VM, is about to claim protection in `session`, or (NULL) runs it
 * alone, on disks of `generation` (0: none). GRANTED: that is on storage. UNKNOWN: it may be or
 * not.
 */
void arbiter_record(Arbiter *arbiter, const char *uuid, const char *session, const char *who,
                    guint64 generation, ArbiterFunc answer, gpointer user_data);

/* How a VM rests. */
typedef struct {
    guint64 generation;  /* of the disks that it ran on; 0: none */
    guint64 epoch;       /* of the last mark */
    const char *in_step; /* the node whose disks are the same; NULL: none */
} ArbiterRest;

/*
 * `who` ran the VM and has ended it on purpose: whoever has its disks may start it now (GRANTED).
 * DENIED: somebody has taken it over. From now on nobody can. `rest` NULL: it was granted the VM
 * and has not run it; all is as before.
 */
void arbiter_give_back(Arbiter *arbiter, const char *uuid, const char *who, const ArbiterRest *rest,
                       ArbiterFunc answer, gpointer user_data);

#endif
