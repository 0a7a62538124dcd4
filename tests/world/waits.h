/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of all waits of a node. A row says how a node is brought to a wait that nothing ends,
 * what administrators are told meanwhile, after how long it ends by itself, and what else ends it.
 * tests/sim/test-world-waits.c walks it, each row and way in a world of its own.
 *
 * The rows are in waits-*.c. A state, an order to QEMU, a step of the checkpoint cycle, of the claim or
 * of a switchover that has no row fails the test, unless it is named with the reason why it has none. So
 * does a limit in the code (patience_add()) that no row is of.
 */
#ifndef COLO_TESTS_WORLD_WAITS_H
#define COLO_TESTS_WORLD_WAITS_H

#include "colo/node/node_internal.h"
#include "tests/world/world.h"

/* Who waits: in most rows the primary is alpha, and beta its secondary. */
#define ALPHA (&world.host[0])
#define BETA  (&world.host[1])

/* How it can end. Whoever waits is `who`; the other one is its peer. */
typedef enum {
    WAIT_NO_WAY,
    WAIT_ANSWER,    /* what it waits for comes: row->let */
    WAIT_FAILURE,   /* it is refused, or dies: row->fail */
    WAIT_COMMAND,   /* an administrator's, on the node that waits */
    WAIT_PEER_TOLD, /* the same, on its peer */
    WAIT_SIGTERM,
    WAIT_PEER_DIES,     /* its process: the connections end */
    WAIT_PEER_VANISHES, /* its host: nothing comes any more */
} WaitWay;

typedef struct {
    WaitWay way;
    FsmState then;       /* the state that it comes to in the end */
    const char *command; /* "failover force": with that argument */
} WaitEnd;

#define WAIT_ENDS 8

typedef struct {
    const char *name;
    const char *what; /* it waits for, for docs/WAITS.md; NULL: another row is there */

    /* The pair: "raw" and so on; NULL: buffered mode, no disks, an arbiter. */
    const char *mode, *disks, *arbiter;
    guint who; /* waits */
    void (*bring)(void);
    void (*let)(void), (*fail)(void);

    /* The wait is there: all that is given must hold. A row counts for each of them. */
    FsmState state;
    VmOp order;             /* of its QEMU */
    CyclePhase cycle;       /* else CYCLE_IDLE */
    ClaimDoing claim;       /* else CLAIM_IDLE */
    ClaimStart start;       /* else CLAIM_START_IDLE */
    SwitchoverPhase move;   /* else SWITCHOVER_NONE */
    gboolean (*also)(void); /* or NULL */

    const char *told[2]; /* "member.member=text": status has that text there */

    /* The limit: an option, or what the code has; NULL: none, and `why` says why that is right. */
    const char *limit;
    gint64 (*limit_ms)(const Config *config);
    FsmState then;
    const char *after; /* as `told`, when the limit is over; or NULL */
    const char *why;

    WaitEnd ends[WAIT_ENDS];
} Wait;

typedef struct {
    const Wait *rows;
    gsize n;
} WaitTable;

extern const WaitTable waits_starting, waits_checkpoints, waits_moves, waits_lost;

/* ---- waits.c ---- */

/* Runs all of it: main() of a test. */
int waits_walk(int argc, char **argv);

/* For rows. */
void waits_pair(void);
/* Commands of the control socket that are not refused: "failover force", "quit;quit". */
void waits_order(WorldHost *host, const char *command);
void waits_pass_ms(gint64 ms);
void waits_await(gboolean (*holds)(void), const char *what);
/* Ways to hold what a node waits for, and to let it go. */
void waits_hold_qemu(WorldHost *host, VmOp op);
/* It dies. */
void waits_kill_qemu(WorldHost *host);
/* An order that was held is answered; the QEMU dies. */
void waits_alpha_answers(void);
void waits_beta_answers(void);
void waits_alpha_dies(void);
void waits_beta_dies(void);
void waits_hang_arbiter(WorldHost *host);
void waits_mend_arbiter(WorldHost *host);

gint64 waits_qemu_ms(const Config *config);
/* Of a VM that has disks. */
gint64 waits_qemu_disks_ms(const Config *config);
gint64 waits_disk_ms(const Config *config);
gint64 waits_arbiter_ms(const Config *config);
gint64 waits_answer_ms(const Config *config);

#endif
