/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A host with nothing but the part of a node that deals with the arbiter, on a real arbiter's
 * folder: a mediator of few lines moves through the node's table of states as the part reports.
 */
#ifndef COLO_TESTS_CLAIM_HOST_H
#define COLO_TESTS_CLAIM_HOST_H

#include "colo/node/claim.h"
#include "tests/support/fake-vm.h"
#include "tests/support/hold.h"

#define S1 "00112233445566778899aabbccddee01"
#define S2 "00112233445566778899aabbccddee02"

/* Its threads outlive a host. */
extern Hold claim_storage;

typedef struct {
    char *dir, *state_dir;
    Config *config;
    Claim *claim;
    FsmState state;
    const char *session; /* of the link; borrowed */
    GString *reports;    /* what was reported, each with a blank */
    char *trouble;       /* the last one */
} ClaimHost;

/* For g_test_add(): alpha, with role auto, which has not begun yet. */
void claim_host_set_up(ClaimHost *host, gconstpointer data);
void claim_host_tear_down(ClaimHost *host, gconstpointer data);
/* Its next process, in this state. */
void claim_host_restart(ClaimHost *host, const char *name, FsmState state);
/* Sees the arbiter, and claims the VM. */
void claim_host_start(ClaimHost *host);

/* An event of the node: it moves, and does what concerns the arbiter. */
void claim_host_feed(ClaimHost *host, FsmEvent event);
/* Whether this was reported: the name of an event or callback. */
gboolean claim_host_reported(const ClaimHost *host, const char *what);
void claim_host_forget(ClaimHost *host);

/* It starts, and runs the VM alone; that is on record. */
void claim_host_run_alone(ClaimHost *host);
/* From there: a secondary comes; and the VM is protected. */
void claim_host_activate(ClaimHost *host, const char *session);
void claim_host_protect(ClaimHost *host, const char *session);
/* The next process is the secondary of a VM that is protected in S1. */
void claim_host_become_secondary(ClaimHost *host);
/*
 * Likewise: the VM was handed over to it, and storage hangs. It has asked, and refuses the VM without an
 * answer. `where` in the question. Also: beta, the primary, is on record with S1.
 */
void claim_host_refuse_unanswered(ClaimHost *host, HoldWhere where);
void claim_host_refuse_on_record(ClaimHost *host, HoldWhere where);
/* The peer, beta, has asked about S1, by another way to storage. */
void claim_host_decide_for_peer(const ClaimHost *host);
/* S1 is decided for this one. */
gboolean claim_host_is_decided(const ClaimHost *host, const char *who);
/* Beta has ended the VM, in step with this host. */
void claim_host_give_back_by_peer(const ClaimHost *host);
/*
 * Storage hangs, and questions to it are late after a moment; and it doesn't any more. Otherwise
 * none is ever late, however loaded the machine is.
 */
void claim_host_hold(const ClaimHost *host, HoldWhere where);
void claim_host_let_go(const ClaimHost *host);
/* Away: as a mount that went, with the folder's name. */
void claim_host_set_storage(const ClaimHost *host, gboolean there);

#endif
