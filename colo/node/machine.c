/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VM's process. A failure of one of its sockets is often the first sign that it ends. The
 * process's own end follows in a moment, and tells why: a sign is reported only if it doesn't.
 */
#include "colo/node/machine.h"

#include "common/fd.h"
#include "common/log.h"
#include "common/patience.h"

/* How long QEMU's end may take to follow the first sign of it. */
#define ENDING_MS 200

struct Machine {
    const Config *config; /* borrowed */
    MachineHandler handler;
    gpointer user_data;
    Vm *vm;
    DirtyTracker *tracker;
    json_object *identity;
    int kept_ram; /* of the VM before; -1: none */
    guint ending_timer;
    GError *ending_sign; /* as long as the timer */
};

/* ---- The end that is expected ---- */

static gboolean on_ending(gpointer user_data)
{
    Machine *machine = user_data;
    g_autoptr(GError) sign = g_steal_pointer(&machine->ending_sign);
    machine->ending_timer = 0;
    machine->handler.lost("the VM is lost", sign, machine->user_data);
    return G_SOURCE_REMOVE;
}

void machine_expect_end(Machine *machine, const char *what, const GError *sign)
{
    if (machine->ending_timer || !machine->vm)
        return;
    machine->ending_sign = g_error_copy(sign);
    g_prefix_error(&machine->ending_sign, "%s: ", what);
    machine->ending_timer = patience_add(ENDING_MS, on_ending, machine);
}

const GError *machine_ending_sign(const Machine *machine)
{
    return machine->ending_sign;
}

static void forget_sign(Machine *machine)
{
    g_clear_handle_id(&machine->ending_timer, g_source_remove);
    g_clear_error(&machine->ending_sign);
}

/* ---- What QEMU reports ---- */

static void on_event(Vm *vm, VmEvent event, const char *detail, gpointer user_data)
{
    Machine *machine = user_data;
    (void)vm;
    if (event != VM_EVENT_DIED) {
        machine->handler.event(event, detail, machine->user_data);
        return;
    }
    g_autoptr(GError) error = g_error_new(VM_ERROR, VM_ERROR_DIED, "%s", detail);
    machine->handler.lost("the VM's process has ended", error, machine->user_data);
}

/* ---- The start ---- */

static void on_started(Vm *vm, const GError *error, gpointer user_data)
{
    static const DirtyMethod methods[] = {[CONFIG_DIRTY_AUTO] = DIRTY_METHOD_AUTO,
                                          [CONFIG_DIRTY_UFFD] = DIRTY_METHOD_UFFD,
                                          [CONFIG_DIRTY_SOFT_DIRTY] = DIRTY_METHOD_SOFT_DIRTY,
                                          [CONFIG_DIRTY_COMPARE] = DIRTY_METHOD_COMPARE};
    Machine *machine = user_data;
    if (error) {
        machine->handler.lost("the VM can't be started", error, machine->user_data);
        return;
    }
    DirtyMethod method = methods[machine->config->dirty_method];
    g_autoptr(GError) tracking = NULL;
    machine->tracker = dirty_tracker_new(vm_ram(vm), method, &tracking);
    if (!machine->tracker) {
        machine->handler.lost(
            method == DIRTY_METHOD_AUTO
                ? "the VM can't be protected"
                : "the VM can't be protected with this dirty-method (auto takes what works)",
            tracking, machine->user_data);
        return;
    }
    json_object_put(machine->identity);
    machine->identity = vm_identity(vm);
    log_info("VM started, paused; dirty pages tracked by %s",
             dirty_method_name(dirty_tracker_method(machine->tracker)));
    g_autoptr(GError) inexact = NULL;
    if (!load_guard_is_exact(vm_ram(vm), &inexact))
        log_warning("a takeover may leave wrong bytes in the guest's RAM on this host (colod(8), "
                    "WHAT IT NEEDS): %s",
                    inexact->message);
    machine->handler.started(machine->user_data);
}

void machine_start(Machine *machine, gboolean is_copy)
{
    VmHandler handler = {.event = on_event, .user_data = machine};
    g_assert(!machine->vm);
    machine->vm = machine->handler.make(&handler, machine->user_data);
    if (is_copy)
        vm_use_ram(machine->vm, colo_fd_steal(&machine->kept_ram));
    colo_fd_close(&machine->kept_ram);
    vm_start(machine->vm, on_started, machine);
}

/* ---- The end ---- */

void machine_kill(Machine *machine)
{
    forget_sign(machine);
    if (machine->vm)
        vm_abandon(machine->vm);
}

void machine_drop(Machine *machine, gboolean keep_ram)
{
    g_clear_pointer(&machine->tracker, dirty_tracker_free);
    colo_fd_close(&machine->kept_ram);
    if (machine->vm && keep_ram)
        machine->kept_ram = vm_keep_ram(machine->vm);
    g_clear_pointer(&machine->vm, vm_free);
}

/* ---- Life ---- */

Vm *machine_vm(const Machine *machine)
{
    return machine->vm;
}

DirtyTracker *machine_tracker(const Machine *machine)
{
    return machine->tracker;
}

json_object *machine_identity(const Machine *machine)
{
    return machine->identity;
}

Machine *machine_new(const Config *config, const MachineHandler *handler, gpointer user_data)
{
    Machine *machine = g_new0(Machine, 1);
    machine->config = config;
    machine->handler = *handler;
    machine->user_data = user_data;
    machine->kept_ram = -1;
    return machine;
}

void machine_free(Machine *machine)
{
    if (!machine)
        return;
    machine_kill(machine);
    machine_drop(machine, FALSE);
    json_object_put(machine->identity);
    g_free(machine);
}
