/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two hosts that start, end and die, on the real disk engine and the real arbiter. What else a node
 * does is done here as owner.c, generation.c and final.c of colo/node/ do it. Whenever the VM begins
 * to run somewhere, what a client was told to be on disk has to be there.
 */
#ifndef COLO_TESTS_ORDER_HOSTS_H
#define COLO_TESTS_ORDER_HOSTS_H

#include "colo/arbiter/arbiter.h"
#include "tests/support/block-pair.h"

#define ORDER_RECORDS_MAX 250u

typedef enum {
    ORDER_OFF,
    ORDER_RUNS,  /* as primary, alone or with the other as its replica */
    ORDER_WAITS, /* as secondary, for a primary */
    ORDER_HOLDS, /* a replica that could take over */
} OrderState;

typedef struct {
    const char *name;
    Side *side;
    OrderState state;
    gboolean asks; /* whose the VM is, while it waits: no primary has come since it was started */
    ArbiterStake stake;
} OrderHost;

typedef struct {
    char *dir; /* the arbiter's */
    Arbiter *arbiter;
    OrderHost host[2];
    char session[2 * BLOCK_SESSION_BYTES + 1];
    guint64 epoch;
    guint told;       /* records 0 to told - 1 are on disk, a client was told */
    gboolean in_step; /* nobody runs the VM, and either host's disks have all of them */
} OrderWorld;

/* Both hosts are off and their disks are blank. */
void order_world_init(OrderWorld *w);
void order_world_clear(OrderWorld *w);

/* The host that runs the VM; NULL: none. The other one. */
OrderHost *order_running(OrderWorld *w);
OrderHost *order_other(OrderWorld *w, const OrderHost *host);

/* Starts one that is off; `chosen`: by an administrator, as the primary. FALSE if it isn't off. */
gboolean order_start(OrderWorld *w, OrderHost *host, gboolean chosen);
/* Those that wait ask again whose the VM is; one may be told that it is its own, and runs it. */
void order_ask_whose(OrderWorld *w);

/* Opens the disks of a host, as those of the VM's owner or of a replica. */
void order_open(OrderHost *host, gboolean owner);
/* The VM runs on it, without a replica; the arbiter has that on record with `session`. */
void order_write_alone(OrderWorld *w, OrderHost *host, const char *session);

/* Writes a record, with the contents that record `pattern` has. */
void order_put(const OrderHost *host, guint number, guint pattern);
/* Every record that a client was told of is on this host, which has just begun to run the VM. */
void order_assert_all_there(const OrderWorld *w, const OrderHost *host);

/* Synchronises `b` in a new session; takes a checkpoint, to its end on both. */
void order_synchronise(OrderWorld *w, OrderHost *a, OrderHost *b);
void order_checkpoint(OrderWorld *w, OrderHost *a, OrderHost *b);

/* The link is lost, and the arbiter grants the VM: the primary goes on, or the replica takes over. */
void order_continue_alone(OrderWorld *w, OrderHost *host);
void order_take_over(OrderWorld *w, OrderHost *host);
ArbiterAnswer order_ask(OrderWorld *w, const OrderHost *host);

/* A secondary loses its primary and waits. */
void order_leave(OrderHost *host);
/* Ends the VM's host on purpose; `in_step`: the other one that has all of it, NULL: none has. */
void order_end(OrderWorld *w, OrderHost *host, const char *in_step);
/* The process dies; the machine had died too; its disk is another one. */
void order_die(OrderHost *host);
void order_reboot(const OrderHost *host);
void order_replace_disk(OrderHost *host);

#endif
