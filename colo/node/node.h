/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The room of the node: one half of a protected VM. It puts the engines and the other rooms
 * together and carries out what fsm.h says.
 *
 * Owns: the VM, its disks' server, its cards, the link, the arbiter's questions and the control
 * commands of this host's half. Doesn't: read files of the configuration, print, or end the
 * process. Always holds: docs/ARCHITECTURE.md, "What must always hold"; all of it runs on one
 * thread.
 */
#ifndef COLO_COLO_NODE_NODE_H
#define COLO_COLO_NODE_NODE_H

#include "block/server.h"
#include "colo/config/config.h"

#define NODE_ERROR node_error_quark()
GQuark node_error_quark(void);

typedef enum {
    NODE_ERROR_PROTOCOL, /* the peer sent what it may not send now */
    NODE_ERROR_LOAD,     /* the checkpoint can't be taken over */
    NODE_ERROR_REFUSED,  /* the secondary doesn't take the VM that is handed over */
} NodeError;

typedef struct Node Node;

/* Makes the VM that the node is half of: vm_qemu_new() but for tests. */
typedef Vm *(*NodeMakeVm)(const VmDescription *description, const VmHandler *handler,
                          gpointer user_data);

/* Starts the server of its disks: disk_server_start() but for tests. */
typedef DiskServer *(*NodeMakeDisks)(const DiskServerOptions *options, const DiskConfig *disks,
                                     guint n_disks, const DiskServerCallbacks *callbacks,
                                     gpointer callback_data, GError **error, gpointer user_data);

typedef struct {
    NodeMakeVm make_vm;
    NodeMakeDisks make_disks; /* NULL: disk_server_start() */
    const char *disk_plugin;  /* path of colo-disk.so; borrowed; may be NULL without disks */
    /* Called once, from the main loop, when the node has completed (error is NULL) or failed. */
    void (*ended)(const GError *error, gpointer user_data);
    gpointer user_data;
} NodeHandler;

/*
 * Makes a node in the role that `config` (borrowed) names: binds its sockets, makes its taps and
 * starts its VM. Error: of whatever can't be made.
 */
Node *node_new(Config *config, const NodeHandler *handler, GError **error);

/* Ends the service on purpose: the peer is told not to take over. */
void node_shut_down(Node *node);
/*
 * The host is to end, not the VM. The primary of a protected VM hands it over first, for half a
 * minute at most, unless on-sigterm says otherwise. If it is called again, or in any other state,
 * it is the same as node_shut_down().
 */
void node_leave(Node *node);

void node_free(Node *node);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Node, node_free)

#endif
