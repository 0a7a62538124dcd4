/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two whole nodes on loopback, with fake VMs: real links, arbiter, captures and applies. A fake
 * VM's device state holds a digest of all its RAM, so each load that succeeds shows that the
 * secondary's RAM was the primary's at its pause, to the byte. Freeing a node is how a host dies
 * here: its sockets close and nothing is said.
 *
 * With set_up_disks() the VMs have disks: the real engine, in this process (fake-disks.h). The fake
 * guest writes to none: the test does, to whichever side's it means.
 */
#ifndef COLO_TESTS_HOST_PAIR_H
#define COLO_TESTS_HOST_PAIR_H

#include "colo/node/node_internal.h"
#include "tests/support/fake-disks.h"
#include "tests/support/fake-vm.h"
#include "tests/support/wait.h"

#define GUEST_BYTES (8 * 1024 * 1024)
#define LOAD_WRITES 3
#define DISK_BYTES  (1024 * 1024)

typedef struct {
    const char *name;
    Config *config;
    Node *node;
    Vm *vm;    /* the node's latest */
    guint vms; /* that were made */
    gboolean ended;
    GError *error;
    /* Injected into the next VM made. */
    FakeVmOperation faulty_operation;
    FakeVmFault fault;
    unsigned nth;
    gboolean is_to_ask; /* start() doesn't wait for the arbiter */
    FakeDisks *disks;   /* or NULL */
} Host;

typedef struct {
    char *dir;
    guint16 ports[2];
    Host host[2];
} Fixture;

/* Adds a test of pairs twice: in `buffered` and in `colo` mode. */
void add_pair_test(const char *path, void (*test)(void));
/* In one of them only: "buffered" or "colo". */
void add_pair_test_in(const char *in, const char *path, void (*test)(void));
void add_pair_data_test(const char *path, gconstpointer data, void (*test)(gconstpointer data));
/* In both modes, and in `colo` mode over unix sockets instead of TCP. */
void add_pair_test_with_unix(const char *path, void (*test)(void));
/* Whether the test at hand is in `colo` mode. */
gboolean in_colo_mode(void);

/* Makes both hosts; nothing runs yet. Host 0 is "alpha", host 1 "beta". */
void set_up(Fixture *fixture, const char *arbiter);
/* The same in a folder and on ports that another process has chosen. */
void set_up_in(Fixture *fixture, const char *dir, const guint16 ports[2], const char *arbiter);
/* After either: both VMs get `n` disks of DISK_BYTES, of `format` as far as the VM knows. */
void set_up_disks(Fixture *fixture, guint n, VmDiskFormat format);
/* Before they start: gives the VM of both hosts a network card, whose tap is on no bridge. */
void add_tap(Fixture *fixture);
/* After either: each host has a way of its own to the arbiter's storage, which can be away. */
void split_storage(Fixture *fixture);
void set_storage(Host *host, gboolean there);
void tear_down(Fixture *fixture);
/* Sets an option of a host that isn't started yet, as text. */
void host_set(Host *host, const char *section, const char *key, const char *value);
void start(Host *host, const char *role);
/* Its storage gets no more writes, either; but for a node that has ended in order. */
void die(Host *host);
/* Waits until the pair is protected. */
void protect(Fixture *fixture, int primary);
/* Sets up, starts alpha as primary and beta as secondary, and waits until they are protected. */
void start_pair(Fixture *fixture, const char *arbiter);
/* The same, with the arbiter's storage split: split_storage(). */
void start_split_pair(Fixture *fixture);
/* `colo` mode: the secondary's VM runs in the primary's epoch, and nothing is under way. */
gboolean pair_is_settled(const Fixture *fixture);
/* A protected pair (`colo` mode) whose next checkpoint comes when it is asked for. */
void start_quiet_pair(Fixture *fixture);
/* Makes it that: from now on alpha takes a checkpoint when ask_for_checkpoint() says so. */
void quieten(Fixture *fixture);
void ask_for_checkpoint(Fixture *fixture);
/* As a network does it: neither side has said anything. */
void cut_link(Fixture *fixture);

#endif
