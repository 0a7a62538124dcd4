/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The part of a Vm that no implementation has to repeat. It checks who may call what when, and that
 * each operation is answered exactly once, from the main loop.
 *
 * Invariants:
 * - vm->op is not VM_OP_NONE exactly while a callback is due; none is due once the Vm is abandoned;
 * - the callback is the last thing vm_finish() does, so it may start the next operation or free the
 *   Vm;
 * - a dead Vm (killed, or its process ended) stays dead: each operation then ends in VM_ERROR_DIED.
 */
#include "vm/vm_internal.h"

#include "common/fd.h"
#include "vm/vhost-card.h"

#include <fcntl.h>
#include <string.h>

G_DEFINE_QUARK(vm_error, vm_error)

void vm_init(Vm *vm, const VmOps *ops, const VmDescription *description, const VmHandler *handler)
{
    vm->ops = ops;
    vm->description = vm_description_copy(description);
    if (handler)
        vm->handler = *handler;
    vm->ram.memfd = vm->ram.uffd = vm->ram.uffd_sync = vm->kept_ram = -1;
    vm->nic_fds = g_array_new(FALSE, FALSE, sizeof(int));
    vm->cards = g_ptr_array_new_with_free_func((GDestroyNotify)vhost_card_free);
    vm->agent_fd = -1;
}

const char *vm_op_name(VmOp op)
{
    static const char *const names[] = {
        "nothing",           "start",           "pause", "resume", "save device state",
        "load device state", "inactivate disks"};
    return names[op];
}

VmOp vm_operation(const Vm *vm)
{
    return vm->op;
}

const char *vm_busy_with(const Vm *vm)
{
    return vm->op == VM_OP_NONE ? NULL : vm_op_name(vm->op);
}

gboolean vm_caches_disks(const Vm *vm)
{
    for (guint i = 0; i < vm->description->disks->len; i++) {
        const VmDisk *disk = g_ptr_array_index(vm->description->disks, i);
        if (disk->format != VM_DISK_RAW)
            return TRUE;
    }
    return FALSE;
}

static void call_back(Vm *vm, GBytes *state, const GError *error)
{
    VmOp op = vm->op;
    gpointer user_data = vm->user_data;
    VmDone done = vm->done;
    VmStateDone state_done = vm->state_done;

    vm->op = VM_OP_NONE;
    vm->user_data = NULL;
    vm->done = NULL;
    if (!error) {
        if (op == VM_OP_START)
            vm->started = TRUE;
        else if (op == VM_OP_RESUME)
            vm->running = !vm->stopped;
        else if (op == VM_OP_PAUSE)
            vm->running = FALSE;
        if (op == VM_OP_RESUME)
            vm->inactivated = vm->inactivate_failed = FALSE;
    } else if (op == VM_OP_INACTIVATE || op == VM_OP_RESUME) {
        vm->inactivate_failed = vm->inactivated && vm_caches_disks(vm);
    }
    if (op == VM_OP_RESUME && !vm->disk_lost && g_error_matches(error, VM_ERROR, VM_ERROR_SPENT))
        vm->disk_lost = g_error_copy(error);
    if (op == VM_OP_SAVE)
        state_done(vm, error ? NULL : state, error, user_data);
    else
        done(vm, error, user_data);
}

static gboolean call_back_later(gpointer user_data)
{
    Vm *vm = user_data;
    g_autoptr(GBytes) state = g_steal_pointer(&vm->later_state);
    g_autoptr(GError) error = g_steal_pointer(&vm->later_error);

    vm->later_source = 0;
    call_back(vm, state, error);
    return G_SOURCE_REMOVE;
}

void vm_finish(Vm *vm, GBytes *state, const GError *error)
{
    g_assert(vm->op != VM_OP_NONE && !vm->later_source);
    if (!vm->in_call) {
        call_back(vm, state, error);
        return;
    }
    vm->later_state = state ? g_bytes_ref(state) : NULL;
    vm->later_error = error ? g_error_copy(error) : NULL;
    vm->later_source = g_idle_add_full(G_PRIORITY_DEFAULT, call_back_later, vm, NULL);
}

void vm_emit(Vm *vm, VmEvent event, const char *detail)
{
    if (event == VM_EVENT_DIED || event == VM_EVENT_SHUTDOWN || event == VM_EVENT_STOPPED) {
        vm->running = FALSE;
        vm->stopped = TRUE;
    }
    if (vm->handler.event)
        vm->handler.event(vm, event, detail, vm->handler.user_data);
}

void vm_died(Vm *vm, const char *detail)
{
    vm->dead = TRUE;
    vm->running = FALSE;
    if (vm->op == VM_OP_NONE) {
        vm_emit(vm, VM_EVENT_DIED, detail);
        return;
    }
    if (vm->later_source)
        return; /* its answer is on the way; the next operation will meet a dead Vm */
    g_autoptr(GError) error =
        g_error_new(VM_ERROR, VM_ERROR_DIED, "%s: QEMU %s", vm_op_name(vm->op), detail);
    vm_finish(vm, NULL, error);
}

/* Begins `op`: TRUE if the implementation is to be asked, within in_call. */
static gboolean begin(Vm *vm, VmOp op, gpointer user_data)
{
    g_assert(vm->op == VM_OP_NONE);
    g_assert(vm->started == (op != VM_OP_START) || vm->dead);
    vm->op = op;
    vm->user_data = user_data;
    vm->in_call = TRUE;
    if (!vm->dead)
        return TRUE;
    g_autoptr(GError) error =
        g_error_new(VM_ERROR, VM_ERROR_DIED, "%s: the QEMU process is gone", vm_op_name(op));
    vm_finish(vm, NULL, error);
    vm->in_call = FALSE;
    return FALSE;
}

void vm_start(Vm *vm, VmDone done, gpointer user_data)
{
    vm->done = done;
    if (!begin(vm, VM_OP_START, user_data))
        return;
    vm->ops->start(vm);
    vm->in_call = FALSE;
}

void vm_pause(Vm *vm, VmDone done, gpointer user_data)
{
    vm->done = done;
    if (!begin(vm, VM_OP_PAUSE, user_data))
        return;
    vm->ops->pause(vm);
    vm->in_call = FALSE;
}

void vm_resume(Vm *vm, VmDone done, gpointer user_data)
{
    vm->done = done;
    if (!begin(vm, VM_OP_RESUME, user_data))
        return;
    vm->stopped = FALSE;
    if (vm->disk_lost)
        vm_finish(vm, NULL, vm->disk_lost);
    else
        vm->ops->resume(vm);
    vm->in_call = FALSE;
}

void vm_save_device_state(Vm *vm, VmStateDone done, gpointer user_data)
{
    g_assert(!vm->running);
    vm->state_done = done;
    if (!begin(vm, VM_OP_SAVE, user_data))
        return;
    vm->ops->save(vm);
    vm->in_call = FALSE;
}

void vm_load_device_state(Vm *vm, GBytes *state, VmDone done, gpointer user_data)
{
    g_assert(!vm->running);
    vm->done = done;
    if (!begin(vm, VM_OP_LOAD, user_data))
        return;
    vm->ops->load(vm, state);
    vm->in_call = FALSE;
}

void vm_inactivate_disks(Vm *vm, gboolean of_copy, VmDone done, gpointer user_data)
{
    vm->done = done;
    if (!begin(vm, VM_OP_INACTIVATE, user_data))
        return;
    g_assert(!vm->running);
    g_autoptr(GError) failed = NULL;
    if (vm->inactivated) {
        if (vm->inactivate_failed)
            failed =
                g_error_new(VM_ERROR, VM_ERROR_SPENT,
                            "%s: it is not known which of them QEMU has, until it has run the VM",
                            vm_op_name(VM_OP_INACTIVATE));
        vm_finish(vm, NULL, failed);
    } else if (!vm->ops->inactivate || !vm_caches_disks(vm)) {
        vm->inactivated = TRUE;
        vm_finish(vm, NULL, NULL);
    } else {
        vm->inactivated = TRUE;
        vm->ops->inactivate(vm, of_copy);
    }
    vm->in_call = FALSE;
}

gboolean vm_keeps_bitmaps(const Vm *vm)
{
    return vm->keeps_bitmaps;
}

VmDisks vm_disks(const Vm *vm)
{
    if (!vm->inactivated)
        return VM_DISKS_ACTIVE;
    gboolean changes = vm->op == VM_OP_INACTIVATE || vm->op == VM_OP_RESUME;
    return changes || vm->inactivate_failed ? VM_DISKS_UNKNOWN : VM_DISKS_INACTIVE;
}

static void end_process(Vm *vm)
{
    if (vm->dead)
        return;
    vm->dead = TRUE;
    vm->running = FALSE;
    vm->ops->kill(vm);
}

void vm_kill(Vm *vm)
{
    gboolean was_dead = vm->dead;

    end_process(vm);
    if (was_dead || vm->op == VM_OP_NONE || vm->later_source)
        return;
    g_autoptr(GError) error =
        g_error_new(VM_ERROR, VM_ERROR_DIED, "%s: QEMU was killed", vm_op_name(vm->op));
    gboolean in_call = vm->in_call;
    vm->in_call = TRUE;
    vm_finish(vm, NULL, error);
    vm->in_call = in_call;
}

static void forget_answer(Vm *vm)
{
    if (vm->later_source)
        g_source_remove(vm->later_source);
    vm->later_source = 0;
    g_clear_pointer(&vm->later_state, g_bytes_unref);
    g_clear_error(&vm->later_error);
}

void vm_abandon(Vm *vm)
{
    end_process(vm);
    forget_answer(vm);
    vm->op = VM_OP_NONE;
    vm->handler = (VmHandler){0};
}

int vm_keep_ram(const Vm *vm)
{
    return vm->ram.memfd >= 0 ? fcntl(vm->ram.memfd, F_DUPFD_CLOEXEC, 0) : -1;
}

void vm_use_ram(Vm *vm, int kept_ram)
{
    g_assert(!vm->started);
    colo_fd_close(&vm->kept_ram);
    vm->kept_ram = kept_ram;
}

void vm_free(Vm *vm)
{
    if (!vm)
        return;
    end_process(vm);
    forget_answer(vm);
    if (vm->op != VM_OP_NONE) {
        g_autoptr(GError) error =
            g_error_new(VM_ERROR, VM_ERROR_DIED, "%s: the VM was freed", vm_op_name(vm->op));
        call_back(vm, NULL, error);
    }
    for (guint i = 0; i < vm->nic_fds->len; i++)
        colo_fd_close(&g_array_index(vm->nic_fds, int, i));
    g_array_unref(vm->nic_fds);
    g_clear_pointer(&vm->cards, g_ptr_array_unref); /* they use RAM */
    colo_fd_close(&vm->agent_fd);
    colo_fd_close(&vm->kept_ram);
    vm_description_free(vm->description);
    g_clear_error(&vm->disk_lost);
    g_free(vm->qemu_version);
    g_free(vm->machine_name);
    g_free(vm->accel);
    g_free(vm->host_cpu);
    vm->ops->free(vm);
}

const VmRam *vm_ram(const Vm *vm)
{
    return &vm->ram;
}

guint64 vm_private_bytes(const Vm *vm)
{
    if (vm->dead || vm->ram.pid <= 0)
        return 0;
    return vm->ops->private_bytes ? vm->ops->private_bytes(vm)
                                  : vm_process_private_bytes(vm->ram.pid);
}

gboolean vm_is_running(const Vm *vm)
{
    return vm->running;
}

gboolean vm_stays_running(const Vm *vm)
{
    return vm->running && vm->op == VM_OP_NONE;
}

gboolean vm_stays_paused(const Vm *vm)
{
    return vm->started && !vm->dead && !vm->running && vm->op == VM_OP_NONE;
}

int vm_nic_fd(const Vm *vm, unsigned index)
{
    g_assert(index < vm->nic_fds->len);
    return g_array_index(vm->nic_fds, int, index);
}

struct VhostCard *vm_nic_card(const Vm *vm, unsigned index)
{
    return index < vm->cards->len ? g_ptr_array_index(vm->cards, index) : NULL;
}

int vm_agent_fd(const Vm *vm)
{
    return vm->agent_fd;
}

const VmDescription *vm_description(const Vm *vm)
{
    return vm->description;
}
