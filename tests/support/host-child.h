/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hosts of host-pair.h in a process of their own, which can be stopped and continued as a
 * hypervisor does it to a whole machine. The process is the test's own program, started again.
 */
#ifndef COLO_TESTS_HOST_CHILD_H
#define COLO_TESTS_HOST_CHILD_H

#include "tests/support/host-pair.h"

typedef struct {
    GPid pid;
    int out;
    GString *output;
    char ifname[16]; /* the tap of its last report; "-": none */
} HostChild;

/* To be called first in main(): does not return in such a process. */
void host_child_main(int argc, char **argv);

/* What such a host waits for another process, at most. */
#define HOST_CHILD_QEMU_TIMEOUT_MS      100
#define HOST_CHILD_HEARTBEAT_TIMEOUT_MS 1000
#define HOST_CHILD_ANSWER_MS            (3 * HOST_CHILD_QEMU_TIMEOUT_MS + HOST_CHILD_HEARTBEAT_TIMEOUT_MS)

/*
 * Starts a process that runs the hosts of `fixture` whose names begin with a letter of `which`
 * ("ab": both), with the timeouts above and one checkpoint after the other: alpha as primary, beta
 * as secondary. The fixture has to be set up; the caller doesn't start those hosts itself. The arbiter's
 * storage is split there: of a fixture with split_storage(), set_storage() is for both processes.
 */
void host_child_start(HostChild *child, const Fixture *fixture, const char *which);
/* The same, but without giving up the peer soon; the fixture's VM has a card (add_tap()), and
 * alpha's guest sends every millisecond.
 */
void host_child_start_sending(HostChild *child, const Fixture *fixture, const char *which);
void host_child_kill(HostChild *child);

/* Stops it; returns once it is stopped. */
void host_child_stop(const HostChild *child);
void host_child_continue(const HostChild *child);

/* What its host says of itself now. Waits for the answer. */
typedef struct {
    FsmState state;
    guint64 epoch;  /* the last one */
    guint64 frames; /* of its guest that have left */
} HostReport;
HostReport host_child_ask(HostChild *child, const char *name);

#endif
