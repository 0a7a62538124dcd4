/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VM of a node: its start, what QEMU reports of it, and its end. A primary's events are the
 * node's. Those of a secondary's VM, which is a copy, mean that the copy has to be made again.
 */
#include "colo/node/node_internal.h"
#include "common/fd.h"
#include "common/log.h"
#include "common/patience.h"

#include <string.h>

/* How long QEMU's end may take to follow the first sign of it. */
#define VM_ENDING_MS 200

void node_vm_lost(Node *node, const char *what, const GError *error)
{
    if (node->state == FSM_FAILED || node->state == FSM_COMPLETED)
        return;
    node_report(node, what, error);
    node_event(node, FSM_VM_LOST);
}

static gboolean on_vm_ending(gpointer user_data)
{
    Node *node = user_data;
    g_autoptr(GError) sign = g_steal_pointer(&node->ending_sign);
    node->ending_timer = 0;
    node_vm_lost(node, "the VM is lost", sign);
    return G_SOURCE_REMOVE;
}

void node_vm_ending(Node *node, const char *what, const GError *sign)
{
    if (node->ending_timer || !node->vm)
        return;
    node->ending_sign = g_error_copy(sign);
    g_prefix_error(&node->ending_sign, "%s: ", what);
    node->ending_timer = patience_add(VM_ENDING_MS, on_vm_ending, node);
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
        node_emit(node, "GUEST_STOPPED", NULL);
        disks_vm_paused(node);
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

static void on_vm_event(Vm *vm, VmEvent event, const char *detail, gpointer user_data)
{
    Node *node = user_data;
    (void)vm;
    /* However the guest stops, QEMU then waits for its writes, and nothing else is answered. */
    if (event != VM_EVENT_DIED)
        disks_let_through(node);
    /* In a takeover it is a copy no more. */
    if (!fsm_is_primary(node->state) && node->state != FSM_S_DEVICE && event != VM_EVENT_DIED) {
        on_svm_event(node, event, detail);
        return;
    }
    g_autoptr(GError) error = NULL;
    switch (event) {
    case VM_EVENT_DIED:
        error = g_error_new(VM_ERROR, VM_ERROR_DIED, "%s", detail);
        node_vm_lost(node, "the VM's process has ended", error);
        break;
    case VM_EVENT_SHUTDOWN:
        log_info("the guest has powered off");
        final_begin(node->final);
        break;
    case VM_EVENT_RESET:
        log_info("the guest has rebooted");
        break;
    case VM_EVENT_PANICKED:
        log_warning("the guest has panicked%s%s", detail ? ": " : "", detail ? detail : "");
        node_emit(node, "GUEST_PANICKED", NULL);
        break;
    case VM_EVENT_STOPPED:
        disks_vm_paused(node);
        resume_guest_stopped(node->resume, detail);
        break;
    }
}

static void on_vm_started(Vm *vm, const GError *error, gpointer user_data)
{
    static const DirtyMethod methods[] = {[CONFIG_DIRTY_AUTO] = DIRTY_METHOD_AUTO,
                                          [CONFIG_DIRTY_UFFD] = DIRTY_METHOD_UFFD,
                                          [CONFIG_DIRTY_SOFT_DIRTY] = DIRTY_METHOD_SOFT_DIRTY,
                                          [CONFIG_DIRTY_COMPARE] = DIRTY_METHOD_COMPARE};
    Node *node = user_data;
    if (error) {
        node_vm_lost(node, "the VM can't be started", error);
        return;
    }
    DirtyMethod method = methods[node->config->dirty_method];
    g_autoptr(GError) tracking = NULL;
    node->tracker = dirty_tracker_new(vm_ram(vm), method, &tracking);
    if (!node->tracker) {
        node_vm_lost(
            node,
            method == DIRTY_METHOD_AUTO
                ? "the VM can't be protected"
                : "the VM can't be protected with this dirty-method (auto takes what works)",
            tracking);
        return;
    }
    json_object_put(node->identity);
    node->identity = vm_identity(vm);
    json_object_object_add(node->identity, "arbiter",
                           json_object_new_string(arbiter_identity(claim_arbiter(node->claim))));
    log_info("VM started, paused; dirty pages tracked by %s",
             dirty_method_name(dirty_tracker_method(node->tracker)));
    g_autoptr(GError) inexact = NULL;
    if (!load_guard_is_exact(vm_ram(vm), &inexact))
        log_warning("a takeover may leave wrong bytes in the guest's RAM on this host (colod(8), "
                    "WHAT IT NEEDS): %s",
                    inexact->message);
    copy_attach(node->copy, vm, node->tracker);
    cards_attach(node->cards, vm);
    clock_attach(node->clock, vm_agent_fd(vm));
    node_event(node, FSM_VM_STARTED);
}

void node_disks_ready(Node *node)
{
    VmHandler handler = {.event = on_vm_event, .user_data = node};
    node->vm = node->handler.make_vm(node->config->vm, &handler, node->handler.user_data);
    /*
     * A secondary's VM gets its RAM from the primary, which sends what differs. A VM that boots
     * finds its RAM empty.
     */
    if (!fsm_is_primary(node->state))
        vm_use_ram(node->vm, colo_fd_steal(&node->kept_ram));
    colo_fd_close(&node->kept_ram);
    vm_start(node->vm, on_vm_started, node);
}

void node_vm_start(Node *node)
{
    holdings_begin(node->holdings);
    if (node->config->vm->disks->len > 0)
        disks_start(node);
    else
        node_disks_ready(node);
}

void node_vm_kill(Node *node)
{
    if (node->ending_timer)
        g_source_remove(node->ending_timer);
    node->ending_timer = 0;
    g_clear_error(&node->ending_sign);
    net_set_open(node, FALSE);
    resume_forget(node->resume);
    primary_forget_vm(node);
    svm_forget(node);
    clock_forget(node->clock);
    copy_killed(node->copy);
    cards_detach(node->cards);
    if (node->vm)
        vm_abandon(node->vm);
}

void node_vm_free(Node *node, gboolean node_ends)
{
    copy_detach(node->copy);
    g_clear_pointer(&node->tracker, dirty_tracker_free);
    memory_forget(node->memory);
    figures_forget_vm(node->figures);
    colo_fd_close(&node->kept_ram);
    if (node->vm && !node_ends)
        node->kept_ram = vm_keep_ram(node->vm);
    g_clear_pointer(&node->vm, vm_free);
    disks_stop(node, node_ends);
}
