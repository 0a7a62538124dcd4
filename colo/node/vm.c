/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VM of a node: its start, what QEMU and its disks report, and its end. A primary's events are
 * the node's. Those of a secondary's VM, which is a copy, mean that the copy has to be made again.
 */
#include "colo/node/node_internal.h"
#include "common/log.h"

#include <string.h>

void node_vm_lost(Node *node, const char *what, const GError *error)
{
    if (node->state == FSM_FAILED || node->state == FSM_COMPLETED ||
        replica_lost(node->becoming, what, error))
        return;
    node_report(node, what, error);
    taking_refused(node->taking, what, error, FALSE);
    node_event(node, FSM_VM_LOST);
}

const char *node_vm_waits_for(const Node *node)
{
    const Vm *vm = machine_vm(node->machine);
    if (vm && vm_busy_with(vm))
        return vm_busy_with(vm);
    if (fsm_is_taking_over(node->state) && claim_noting(node->claim) == CLAIM_NOTE_REMOVING)
        return "'unrun' in state-dir to be removed";
    return disks_order_name(node->disks) ? disks_order_name(node->disks)
                                         : cycle_waits_for(primary_phase(node->primary));
}

/*
 * What happens to a copy is news about the copy. While the arbiter is asked it can't be made again.
 * A copy that has stopped then continues where it is if this node is to continue.
 */
static void on_svm_event(Node *node, VmEvent event, const char *detail)
{
    switch (event) {
    case VM_EVENT_SHUTDOWN:
        copy_stopped(node->copy, "its guest has powered off");
        break;
    case VM_EVENT_PANICKED:
        node_emit(node, "GUEST_PANICKED", NULL);
        if (node->state == FSM_S_COLO || node->state == FSM_S_HANDED)
            copy_stopped(node->copy, "its guest has panicked");
        break;
    case VM_EVENT_STOPPED: {
        g_autofree char *why = g_strdup_printf("QEMU has stopped it: %s", detail);
        json_object *data = json_object_new_object();
        const char *by = stops_name(1u << stops_of_qemu(detail));
        json_object_object_add(data, "by", json_object_new_string(by));
        node_emit(node, "GUEST_STOPPED", data);
        disks_vm_paused(node->disks);
        if (node->state != FSM_S_COLO && node->state != FSM_S_HANDED)
            break;
        if (!strcmp(detail, "io-error"))
            copy_stopped_by_io_error(node->copy, why);
        else
            copy_stopped(node->copy, why);
        break;
    }
    case VM_EVENT_RESET:
        svm_rebooted(node);
        break;
    case VM_EVENT_DIED:
        break;
    }
}

static void on_vm_event(VmEvent event, const char *detail, gpointer user_data)
{
    Node *node = user_data;
    /* However the guest stops, QEMU then waits for its writes, and nothing else is answered. */
    disks_let_through(node->disks);
    /* In a takeover it is a copy no more. */
    if (!fsm_is_primary(node->state) && !fsm_is_taking_over(node->state)) {
        on_svm_event(node, event, detail);
        return;
    }
    switch (event) {
    case VM_EVENT_SHUTDOWN:
        log_info("the guest has powered off");
        switchover_vm_ends(node->switchover, "the guest has powered off");
        final_begin(node->final);
        break;
    case VM_EVENT_RESET:
        log_info("the guest has rebooted");
        switchover_guest(node->switchover, "the guest has rebooted");
        break;
    case VM_EVENT_PANICKED:
        log_warning("the guest has panicked%s%s", detail ? ": " : "", detail ? detail : "");
        switchover_guest(node->switchover, "the guest has panicked");
        node_emit(node, "GUEST_PANICKED", NULL);
        break;
    case VM_EVENT_STOPPED:
        disks_vm_paused(node->disks);
        resume_guest_stopped(node->resume, detail);
        switchover_guest(node->switchover, "QEMU has stopped the guest");
        break;
    case VM_EVENT_DIED:
        break;
    }
}

static void on_vm_started(gpointer user_data)
{
    Node *node = user_data;
    Vm *vm = machine_vm(node->machine);
    json_object_object_add(machine_identity(node->machine), "arbiter",
                           json_object_new_string(arbiter_identity(claim_arbiter(node->claim))));
    primary_attach(node->primary, vm, machine_tracker(node->machine));
    copy_attach(node->copy, vm, machine_tracker(node->machine));
    cards_attach(node->cards, vm);
    clock_attach(node->clock, vm_agent_fd(vm));
    node_event(node, FSM_VM_STARTED);
}

static Vm *on_make(const VmHandler *handler, gpointer user_data)
{
    const Node *node = user_data;
    return node->handler.make_vm(node->config->vm, handler, node->handler.user_data);
}

static void on_lost(const char *what, const GError *error, gpointer user_data)
{
    node_vm_lost(user_data, what, error);
}

static void make_machine(Node *node)
{
    static const MachineHandler handler = {
        .make = on_make, .started = on_vm_started, .event = on_vm_event, .lost = on_lost};
    node->machine = machine_new(node->config, &handler, node);
}

static void on_disks_ready(const char *socket, gpointer user_data)
{
    const Node *node = user_data;
    g_free(node->config->vm->disk_socket);
    node->config->vm->disk_socket = g_strdup(socket);
    machine_start(node->machine, !fsm_is_primary(node->state));
}

void node_vm_start(Node *node)
{
    holdings_begin(node->holdings);
    disks_start(node->disks, fsm_is_primary(node->state));
}

/* Its output, and what was to be done to it and with it. */
static void forget_vm(Node *node)
{
    net_set_open(node, FALSE);
    resume_forget(node->resume);
    checkpoints_forget_vm(node);
    svm_forget(node);
    clock_forget(node->clock);
    copy_killed(node->copy);
}

void node_vm_kill(Node *node)
{
    replica_forget(node->becoming);
    forget_vm(node);
    cards_detach(node->cards);
    machine_kill(node->machine);
}

void node_vm_free(Node *node, gboolean node_ends)
{
    primary_detach(node->primary);
    copy_detach(node->copy);
    memory_forget(node->memory);
    figures_forget_vm(node->figures);
    machine_drop(node->machine, !node_ends);
    holdings_forget(node->holdings);
    disks_stop(node->disks, node_ends);
}

/* ---- It becomes a copy ---- */

static ReplicaFacts on_replica_look(gpointer user_data)
{
    const Node *node = user_data;
    const Memory *memory = node->memory;
    return (ReplicaFacts){.is_paused = vm_stays_paused(machine_vm(node->machine)) &&
                                       primary_phase(node->primary) == CYCLE_PAUSED &&
                                       copy_job(node->copy) == COPY_NOTHING,
                          .is_ending = machine_ending_sign(node->machine) != NULL,
                          .is_grown = memory_is_grown(memory_base(memory), memory_bytes(memory),
                                                      node->config->qemu_growth_limit_bytes),
                          .has_disks = disks_may_become_replica(node->disks),
                          .is_unsynced = disks_are_unsynced(node->disks),
                          .is_cached = vm_caches_disks(machine_vm(node->machine)) &&
                                       vm_disks(machine_vm(node->machine)) != VM_DISKS_INACTIVE,
                          .has_input = !cards_are_read(node->cards),
                          .is_unread = clock_is_unread(node->clock)};
}

static void on_replica_forget(gpointer user_data)
{
    Node *node = user_data;
    forget_vm(node);
    figures_forget_vm(node->figures);
    holdings_forget(node->holdings);
    holdings_begin(node->holdings);
    /* Its guard is of the loads that made it a primary's. */
    copy_detach(node->copy);
    copy_attach(node->copy, machine_vm(node->machine), machine_tracker(node->machine));
}

static void on_replica_checked(Vm *vm, const GError *error, gpointer user_data)
{
    const Node *node = user_data;
    g_autoptr(GError) failed = error ? g_error_copy(error) : NULL;
    if (!error && vm_keeps_bitmaps(vm))
        failed =
            g_error_new_literal(VM_ERROR, VM_ERROR_QMP, "QEMU keeps a bitmap that it can't forget");
    replica_checked(node->becoming, failed);
}

/* It is paused: that it answers shows that it lives, and that all it had to write has been written. */
static void on_replica_check(gpointer user_data)
{
    Node *node = user_data;
    vm_pause(machine_vm(node->machine), on_replica_checked, node);
}

static void on_replica_switched(json_object *result, const GError *error, gpointer user_data)
{
    const Node *node = user_data;
    (void)result;
    replica_switched(node->becoming, error);
}

static void on_replica_switch(gpointer user_data)
{
    const Node *node = user_data;
    disks_become_replica(node->disks, on_replica_switched);
}

static void on_replica_kept(gpointer user_data)
{
    Node *node = user_data;
    clock_attach(node->clock, vm_agent_fd(machine_vm(node->machine)));
    node_event(node, FSM_VM_STARTED);
}

static void on_replica_start_over(gpointer user_data)
{
    Node *node = user_data;
    if (node->state != FSM_S_STARTING) {
        node_event(node, FSM_RECYCLE); /* it was kept, and has joined a session perhaps */
        return;
    }
    gboolean leaves = leave_is_under_way(node->leave);
    node_vm_kill(node);
    node_vm_free(node, leaves);
    if (!leaves)
        node_vm_start(node);
}

void node_vm_become_replica(Node *node)
{
    if (leave_is_under_way(node->leave))
        on_replica_start_over(node);
    else
        replica_begin(node->becoming);
}

static void make_replica(Node *node)
{
    static const ReplicaHandler handler = {.look = on_replica_look,
                                           .forget = on_replica_forget,
                                           .check = on_replica_check,
                                           .switch_disks = on_replica_switch,
                                           .kept = on_replica_kept,
                                           .start_over = on_replica_start_over};
    node->becoming = replica_new(&handler, node);
}

/* ---- Its disks ---- */

static DisksWorld on_disks_look(gpointer user_data)
{
    const Node *node = user_data;
    return (DisksWorld){.state = node->state,
                        .is_primary = node->is_primary,
                        /* A secondary that takes the disks over ends their session. */
                        .keeps = resume_is_to_keep(node->state) || node->state == FSM_P_HANDED,
                        .qemu = machine_vm(node->machine) ? vm_disks(machine_vm(node->machine))
                                                          : VM_DISKS_UNKNOWN};
}

static DiskServer *on_serve(const DiskServerOptions *options, const DiskServerCallbacks *callbacks,
                            gpointer callback_data, GError **error, gpointer user_data)
{
    const Node *node = user_data;
    const NodeHandler *handler = &node->handler;
    guint n = node->config->vm->disks->len;
    DiskServerOptions all = *options;
    g_autofree DiskConfig *disks = g_new0(DiskConfig, n);
    all.plugin = handler->disk_plugin;
    for (guint i = 0; i < n; i++)
        disks[i] = holdings_disk(node->config, i);
    return handler->make_disks ? handler->make_disks(&all, disks, n, callbacks, callback_data,
                                                     error, handler->user_data)
                               : disk_server_start(&all, disks, n, callbacks, callback_data, error);
}

static void on_disks_stream_lost(const char *what, const GError *error, gpointer user_data)
{
    node_stream_lost(user_data, what, error);
}

static void on_disks_trouble(const char *what, const GError *error, gpointer user_data)
{
    node_report(user_data, what, error);
}

static void on_synchronised(gpointer user_data)
{
    const Node *node = user_data;
    primary_reschedule(node->primary);
}

static void on_filling(gpointer user_data)
{
    const Node *node = user_data;
    primary_want(node->primary, REASON_DISK_LIMIT);
}

static void on_hold_back(gpointer user_data)
{
    const Node *node = user_data;
    receiver_allow(node->receiver, 0);
}

static void on_disks_marked(guint64 epoch, gpointer user_data)
{
    Node *node = user_data;
    /* The administrator's word was for what has been overwritten by now. */
    node->config->discard = FALSE;
    receiver_allow(node->receiver, epoch);
    final_marked(node->final, epoch);
}

static void on_disks_applying(guint64 epoch, gpointer user_data)
{
    const Node *node = user_data;
    message_send(node->link, &(Message){.type = LINK_MSG_BUSY, .epoch = epoch});
}

static void on_step_copy(gpointer user_data)
{
    const Node *node = user_data;
    copy_step(node->copy);
}

static void on_apply_refused(const char *what, const GError *error, gpointer user_data)
{
    const Node *node = user_data;
    resume_wait(node->resume, what, error);
    taking_refused(node->taking, what, error, FALSE);
}

static void on_ran(Vm *vm, const GError *error, gpointer user_data)
{
    const Node *node = user_data;
    (void)vm;
    disks_ran(node->disks, error);
}

static void on_run(gpointer user_data)
{
    Node *node = user_data;
    if (resume_begin_run(node->resume)) {
        parts_run_vm(node, on_ran, node);
    } else {
        parts_leave_stopped(node);
        disks_leave_stopped(node->disks);
    }
}

static void on_inactivated(Vm *vm, const GError *error, gpointer user_data)
{
    const Node *node = user_data;
    (void)vm;
    disks_inactivated(node->disks, error);
}

static void on_inactivate(gpointer user_data)
{
    Node *node = user_data;
    vm_inactivate_disks(machine_vm(node->machine), FALSE, on_inactivated, node);
}

static void on_generation_noted(json_object *result, gpointer user_data)
{
    const Node *node = user_data;
    holdings_note(node->holdings, result);
}

static void on_disks_changed(json_object *data, gpointer user_data)
{
    node_emit(user_data, "DISKS", data);
}

static void on_activated(const GError *error, gpointer user_data)
{
    const Node *node = user_data;
    resume_activated(node->resume, error);
    /* Of disks that were given up, and are its own again: it could not be noted before. */
    if (!error && (node->state == FSM_P_NONE || node->state == FSM_P_SETUP))
        holdings_continue_alone(node->holdings);
}

void node_attach_disks(Node *node)
{
    DisksSession session = {.primary = node->is_primary,
                            .id = link_session(node->link),
                            .fd = link_disks_fd(node->link),
                            .discard = node->config->discard};
    disks_attach(node->disks, &session);
}

static void make_disks(Node *node)
{
    static const DisksHandler handler = {.look = on_disks_look,
                                         .serve = on_serve,
                                         .ready = on_disks_ready,
                                         .lost = on_lost,
                                         .stream_lost = on_disks_stream_lost,
                                         .trouble = on_disks_trouble,
                                         .synchronised = on_synchronised,
                                         .filling = on_filling,
                                         .hold_back = on_hold_back,
                                         .marked = on_disks_marked,
                                         .applying = on_disks_applying,
                                         .step_copy = on_step_copy,
                                         .refused = on_apply_refused,
                                         .run = on_run,
                                         .inactivate = on_inactivate,
                                         .noted = on_generation_noted,
                                         .changed = on_disks_changed,
                                         .activated = on_activated};
    node->disks = disks_new(node->config, &handler, node);
}

void node_vm_init(Node *node)
{
    make_machine(node);
    make_disks(node);
    make_replica(node);
}
