/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the answers of the arbiter mean to a node. Pure: facts in, decisions out; claim.h has the
 * part that asks, waits and reports. Four things are asked, and each has an enum of what is being
 * done about it:
 *
 *   ClaimDoing   the link is lost: may this side continue alone?
 *   ClaimStart   this node starts: may it start the VM?
 *   ClaimRecord  this node runs the VM: is that on record?
 *   ClaimWatch   is the arbiter there at all?
 *
 * An answer about a lost link counts as long as this side is in doubt about the session of the
 * question. That includes a late answer to a question that was given up.
 *
 * An administrator who forces this side to continue vouches that the other is dead. Nothing else
 * ensures that no two sides run, because a question of either side may still be on its way to
 * storage. So the question stays open, or is asked again, until it has an answer. With a yes,
 * storage is as it should have been from the start, and a side that starts again is denied. A no is
 * reported to the administrator.
 */
#ifndef COLO_COLO_NODE_CLAIM_RULES_H
#define COLO_COLO_NODE_CLAIM_RULES_H

#include "colo/arbiter/arbiter.h"
#include "colo/node/fsm.h"

/* Which of the answers to one question this is, if it is UNKNOWN. */
typedef enum {
    CLAIM_IN_TIME,
    CLAIM_LATE, /* the question stays open, and is answered once more */
    CLAIM_GONE, /* that second answer */
    CLAIM_TIMES
} ClaimTime;

/* ---- A lost link ---- */

typedef enum {
    CLAIM_IDLE,
    CLAIM_DEFERRED,     /* asks later: the other side first */
    CLAIM_ASKED,        /* an answer is to come, in time */
    CLAIM_AGAIN,        /* linked again, and there was no answer: asks again */
    CLAIM_UNDECIDED,    /* there was no answer: asks again */
    CLAIM_MANUAL,       /* there is no arbiter: an administrator decides */
    CLAIM_LEFT,         /* the arbiter's yes is the primary's; asks if that doesn't continue */
    CLAIM_DENIED,       /* the other side was permitted to continue */
    CLAIM_FORCED,       /* continues by an administrator's decision; the question is open */
    CLAIM_FORCED_AGAIN, /* likewise; asks again */
    CLAIM_DOINGS
} ClaimDoing;

typedef struct {
    FsmState state;
    ClaimDoing doing;
    gboolean forced;      /* an administrator decides if nobody else can */
    gboolean yielded;     /* the peer's VM is dead for certain */
    gboolean handed;      /* primary: it was handed the VM, and it isn't known what became of it */
    gboolean others_open; /* another question about this session has an answer to come, in time */
    ArbiterAnswer answer; /* not OPEN */
    ClaimTime time;       /* of an UNKNOWN */
} ClaimFacts;

typedef enum {
    CLAIM_REPORT_NOTHING,
    CLAIM_REPORT_GRANTED,
    CLAIM_REPORT_FORCED, /* granted by an administrator's decision */
    CLAIM_REPORT_DENIED,
    CLAIM_REPORT_UNDECIDED,
    CLAIM_REPORT_AGREED,       /* with the administrator, after all */
    CLAIM_REPORT_CONTRADICTED, /* the administrator */
} ClaimReport;

typedef struct {
    gboolean counts; /* it is an answer to what is in doubt: for status, and no force is left */
    ClaimReport report;
    ClaimDoing next;
} ClaimVerdict;

/* A side that keeps what it has until it is known who continues. */
gboolean claim_is_in_doubt(FsmState state);
/* The answer was no, or there was none: this side's VM is to be paused. */
gboolean claim_doing_is_undecided(ClaimDoing doing);
/* It asks again by itself, after a while. */
gboolean claim_doing_asks_again(ClaimDoing doing);
/*
 * Whether it may be asked who continues. `owner_questions`: how many questions about whose the VM
 * is are still under way. One of these may give the VM back as late as after a yes, and any node
 * could start it. (What is given back of one session does nothing to another.)
 */
gboolean claim_may_ask(guint owner_questions);
ClaimVerdict claim_judge(const ClaimFacts *facts);
/* What is left of it when the node has moved to `next` by `event`. */
ClaimDoing claim_doing_after(ClaimDoing doing, FsmEvent event, FsmState next);
/* Whether the peer has yielded, likewise. */
gboolean claim_yielded_after(gboolean yielded, FsmEvent event, FsmState next);
/*
 * Whether a side gives back what it may have been granted: it has asked, and was not told no. A yes in time
 * would have made it continue. Which of the others is on storage nobody needs to know, for it has nothing to
 * continue with. As long as the primary runs the VM, protected, a decision remains and decides the next lost
 * link. But if the primary has ended the VM, nobody could start it: for the primary it belongs to this side,
 * which doesn't know.
 */
gboolean claim_gives_back(FsmState state);
/*
 * Whether what it has asked about a lost link, or a VM that was handed over, may have been granted to a
 * secondary that nobody can have heard by it. When it ends, that is the primary's. One that takes over is
 * such a side until its VM may be heard (claim-unrun.c).
 */
gboolean claim_may_have(FsmState state);
/*
 * Whether a side that was denied looks from time to time whether the other has given the VM back. It
 * reads the decision and makes none, for there is one.
 */
gboolean claim_looks_back(FsmState state);
/* What follows from the answer when the VM is being given back to the primary that handed it over. */
typedef enum {
    CLAIM_RETURN_NOTHING, /* it was done before */
    CLAIM_RETURN_AGAIN,   /* also if that is late: storage may be there again by another way */
    CLAIM_RETURN_DONE,
} ClaimReturn;
ClaimReturn claim_judge_return(FsmState state, ArbiterAnswer answer);
/* Whether one may follow the other. */
gboolean claim_doing_may(ClaimDoing from, ClaimDoing to);
const char *claim_doing_name(ClaimDoing doing);

/* ---- The start ---- */

typedef enum {
    CLAIM_START_IDLE,
    CLAIM_START_ASKED,
    CLAIM_START_AGAIN,    /* could not be asked, nothing is started: asks again */
    CLAIM_START_DEFERRED, /* asks later: its secondary has time to take over first */
    CLAIM_START_WAITS, /* the VM is another's: asks from time to time whether it was given back */
    CLAIM_START_WAITS_ASKED, /* does so now */
    CLAIM_STARTS
} ClaimStart;

typedef struct {
    FsmState state;
    ClaimStart start;
    gboolean overrules;      /* an administrator knows that nobody else runs the VM: asked so */
    gboolean may_wait;       /* as secondary: its role allows it, and nobody overrules */
    gboolean disks_are_good; /* as far as they know themselves */
    ArbiterAnswer answer;
    ClaimTime time; /* of an UNKNOWN */
} ClaimStartFacts;

typedef enum {
    CLAIM_START_REPORT_NOTHING,
    CLAIM_START_REPORT_GRANTED,
    CLAIM_START_REPORT_OVERRULED, /* granted, though not written: it is to be recorded */
    CLAIM_START_REPORT_INHERITED, /* granted to one that waits */
    CLAIM_START_REPORT_WAIT,      /* denied: starts as secondary */
    CLAIM_START_REPORT_LOST,      /* denied, and it has no other role */
    CLAIM_START_REPORT_TROUBLE,   /* could not be asked */
} ClaimStartReport;

typedef struct {
    ClaimStartReport report;
    ClaimStart next;
} ClaimStartVerdict;

/*
 * Whether one that waits may ask now. A primary that is there may be about to report that it runs the VM. One
 * that only gives back needs no QEMU for it, which perhaps never starts.
 */
gboolean claim_may_ask_waiting(FsmState state, ArbiterClaim claim);
ClaimStartVerdict claim_judge_start(const ClaimStartFacts *facts);
ClaimStart claim_start_after(ClaimStart start, FsmState next);
gboolean claim_start_may(ClaimStart from, ClaimStart to);
const char *claim_start_name(ClaimStart start);

/* ---- On record ---- */

typedef enum {
    CLAIM_RECORD_NONE,
    CLAIM_RECORD_WANTED, /* can't be written yet: the arbiter is to be this node's first, or tried
                            again */
    CLAIM_RECORD_ASKED,
    CLAIM_RECORD_KEPT, /* on storage; then PROTECT may be sent */
    CLAIM_RECORDS
} ClaimRecord;

typedef enum {
    CLAIM_WRITES_NOTHING,
    CLAIM_WRITES_PIN, /* that this arbiter is the node's from now on */
    CLAIM_WRITES_RECORD,
} ClaimWrites;

typedef struct {
    gboolean tells; /* reports that it can't be written */
    gboolean again; /* tries again */
    gboolean kept;  /* it is written */
    ClaimRecord next;
} ClaimRecordVerdict;

/* Only a node that runs the VM alone writes: no other can have won anything meanwhile. */
gboolean claim_may_write(FsmState state);
/*
 * What to write first. The arbiter of the first session is this node's from then on, also after a
 * reboot. No session is on record before that is on disk.
 */
ClaimWrites claim_writes(FsmState state, gboolean has_session, gboolean is_pinned);
/* The arbiter is this node's, or not: then by claim_writes(). */
ClaimRecordVerdict claim_judge_pin(FsmState state, ClaimRecord record, ArbiterAnswer answer,
                                   ClaimTime time);
/* `others_open`: something was written after this, and has no answer yet. */
ClaimRecordVerdict claim_judge_record(FsmState state, ClaimRecord record, gboolean others_open,
                                      ArbiterAnswer answer, ClaimTime time);
gboolean claim_record_may(ClaimRecord from, ClaimRecord to);
const char *claim_record_name(ClaimRecord record);

/* ---- Is it there? ---- */

typedef enum {
    CLAIM_WATCH_FIRST, /* looks for the first time: nothing is started before */
    CLAIM_WATCH_WAITS, /* it wasn't there: likewise, looks again */
    CLAIM_WATCH_THERE, /* this node has begun to work; looks from time to time */
    CLAIM_WATCH_AWAY,  /* likewise, and it isn't there now */
    CLAIM_WATCHES
} ClaimWatch;

typedef enum {
    CLAIM_FIRST_NOTHING,
    CLAIM_FIRST_BEGIN,
    CLAIM_FIRST_BEGIN_WITHOUT, /* an administrator vouches that whoever it would name is off */
    CLAIM_FIRST_WAIT,
    CLAIM_FIRST_LOST, /* nobody knows that the right folder is to come */
} ClaimFirst;

/* `is_pinned`: it is known which arbiter it has to be. */
ClaimFirst claim_judge_first_look(FsmState state, ClaimWatch watch, gboolean is_pinned,
                                  gboolean overrules, ArbiterAnswer answer, ClaimTime time);
gboolean claim_watch_may(ClaimWatch from, ClaimWatch to);
const char *claim_watch_name(ClaimWatch watch);

/* ---- What has not run here ---- */

/* The note of a secondary of a VM without disks (claim-unrun.c). */
typedef enum {
    CLAIM_NOTE_NONE,     /* there is none of a session of this process */
    CLAIM_NOTE_WRITING,  /* may be there, or one of an earlier session */
    CLAIM_NOTE_THERE,    /* perhaps: it was written, or could not be removed */
    CLAIM_NOTE_REMOVING, /* likewise; this node takes over */
    CLAIM_NOTES
} ClaimNote;

typedef struct {
    ClaimNote note;
    gboolean removes; /* what was answered was to remove it */
    gboolean is_last; /* else another session has begun since */
    ArbiterAnswer answer;
    ClaimTime time;
} ClaimNoteFacts;

typedef struct {
    ClaimNote next;
    gboolean tells; /* that it could not be written */
    gboolean ends;  /* the takeover, if one waits, has its answer */
} ClaimNoteVerdict;

ClaimNoteVerdict claim_judge_note(const ClaimNoteFacts *facts);
/* A session begins that needs a note. */
gboolean claim_notes(FsmState state, gboolean has_disks, gboolean has_arbiter);
/* A VM that nobody has heard is given back, and the note of its session is true again. */
gboolean claim_notes_again(FsmState before, FsmState next);
gboolean claim_note_may(ClaimNote from, ClaimNote to);
const char *claim_note_name(ClaimNote note);

#endif
