/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the secondary does to its VM. A Vm takes one order at a time, and orders come from all
 * sides: so what is due is noted, and svm_step() does the next thing whenever nothing is under way.
 *
 *     stands, waits --PREPARE: DIRTY--> checkpoint --load--> stands (READY, or: STALLED)
 *          ^                                          `--> resumed: LOADED, runs in its epoch
 *          `-------------------- PREPARE, or the session is over ----------------'
 *
 * RAM is changed by checkpoints only while the VM stands still: one that it is to run from is
 * announced (PREPARE), and DIRTY names the pages that it has written since the last one, which the
 * checkpoint then carries. So RAM is that of the checkpoint to the byte.
 *
 * A load of device state may write to RAM, for QEMU resets the machine first. The pages that loads
 * are known to write to are kept aside before each, and put back after it. They are learnt before
 * protection is claimed: each checkpoint of that time is loaded, to know that it can be, and READY
 * names the pages that were written and not known before, which the primary then sends again. If a
 * later load writes to yet another page, RAM is no checkpoint's any more (svm_spoilt): the VM
 * neither runs nor can be taken over from before the next checkpoint, which carries that page.
 *
 * Who can't go on doesn't ask the arbiter, or the primary, which can, would be told no. So no load
 * begins while it is asked, and a question waits for the load under way.
 *
 * A VM whose primary is lost goes on running while the arbiter is asked; when nobody can decide, it
 * stands still: its clients can't hear it, and it shouldn't give them up.
 *
 * Takeover: a VM that runs, or stands still in the epoch of the last complete checkpoint, goes on
 * where it is; it said all that clients have heard. Otherwise the checkpoint is loaded. A VM that
 * has run and then stopped by itself (its guest has powered off or panicked, QEMU has stopped it)
 * can do neither until the next checkpoint, which the primary takes at once: if the link is lost
 * before, the primary goes on alone.
 */
#include "colo/log.h"
#include "colo/node_internal.h"
#include "common/endian.h"
#include "common/fault.h"

#include <string.h>

#define CHECK_MS 1000

/* Loads after which the pages they write to must be known. */
#define PROOFS_MAX 16

/* Runs in one DIRTY message. */
#define DIRTY_RUNS_MAX 65536u

static gboolean is_current(Vm *vm, const Node *node)
{
    return vm == node->vm;
}

/* ---- RAM around a load ---- */

/* Copies the pages that loads are known to write to, in order, or puts the copy back. */
static void copy_touched(Node *node, gboolean put_back)
{
    guint8 *kept = node->kept;
    guint64 count;
    for (guint64 first = 0; page_set_next_run(node->touched, first, &first, &count);
         first += count) {
        guint8 *ram = vm_ram(node->vm)->base + first * VM_PAGE_SIZE;
        gsize len = count * VM_PAGE_SIZE;
        if (put_back)
            memcpy(ram, kept, len);
        else
            memcpy(kept, ram, len);
        kept += len;
    }
}

/* The pages written since the last call; the caller frees the set. */
static PageSet *harvest(Node *node, GError **error)
{
    const VmRam *ram = vm_ram(node->vm);
    g_autoptr(PageSet) written = page_set_new(ram->size_bytes / VM_PAGE_SIZE);
    if (!dirty_tracker_harvest(node->tracker, written, error))
        return NULL;
    if (dirty_tracker_method(node->tracker) == DIRTY_METHOD_COMPARE) {
        /* It compares with what it was told last. */
        guint64 count;
        for (guint64 first = 0; page_set_next_run(written, first, &first, &count); first += count)
            for (guint64 page = first; page < first + count; page++)
                dirty_tracker_copied(node->tracker, page, ram->base + page * VM_PAGE_SIZE);
    }
    return g_steal_pointer(&written);
}

/* Before a load: pages written until now don't count, and the known ones are kept aside. */
static gboolean prepare_load(Node *node, GError **error)
{
    g_autoptr(PageSet) before = harvest(node, error);
    if (!before)
        return FALSE;
    node->kept = g_realloc(node->kept, page_set_count(node->touched) * VM_PAGE_SIZE);
    copy_touched(node, FALSE);
    return TRUE;
}

/*
 * After a load: puts back what was kept, and tells which other pages the load wrote to as runs of
 * be64 first, be64 count. They are known from now on, and wrong until the next checkpoint.
 */
static GByteArray *repair_load(Node *node, GError **error)
{
    g_autoptr(PageSet) written = harvest(node, error);
    if (!written)
        return NULL;
    copy_touched(node, TRUE);
    GByteArray *runs = g_byte_array_new();
    guint64 count;
    for (guint64 first = 0; page_set_next_run(written, first, &first, &count); first += count)
        for (guint64 page = first; page < first + count; page++) {
            if (page_set_contains(node->touched, page))
                continue;
            guint8 run[16];
            colo_put_be64(run, page);
            colo_put_be64(run + 8, 1);
            g_byte_array_append(runs, run, sizeof(run));
            page_set_add_run(node->touched, page, 1);
            page_set_add_run(node->svm_dirty, page, 1);
        }
    return runs;
}

/* ---- A check, for a VM that waits ---- */

/*
 * Nothing else is asked of a waiting QEMU for days, and one that hangs is found out too late: so it
 * is told to stop, which it has done long since, every CHECK_MS.
 */
static void on_checked(Vm *vm, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (!is_current(vm, node))
        return;
    node->svm_job = SVM_IDLE;
    if (error)
        node_vm_lost(node, "the waiting VM does not answer", error);
    else
        svm_step(node);
}

static void check(Node *node)
{
    node->check_due = FALSE;
    node->svm_job = SVM_CHECKING;
    vm_pause(node->vm, on_checked, node);
}

static gboolean on_check_timer(gpointer user_data)
{
    Node *node = user_data;
    node->check_due = node->state == FSM_S_COLO;
    svm_step(node);
    return G_SOURCE_CONTINUE;
}

/* ---- Stopping ---- */

static void on_stopped(Vm *vm, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (!is_current(vm, node))
        return;
    node->svm_job = SVM_IDLE;
    if (error) {
        node_vm_lost(node, "the secondary's VM does not answer", error);
        return;
    }
    disks_vm_paused(node);
    /* What it has said until here belongs to the epoch that ends. */
    net_drain(node);
    if (!is_current(vm, node))
        return; /* a card of it has failed */
    node->svm_speaks = FALSE;
    svm_step(node);
}

static void stop(Node *node)
{
    node->svm_job = SVM_STOPPING;
    vm_pause(node->vm, on_stopped, node);
}

/* It should run and doesn't: the primary takes a checkpoint. Nobody may hear what it says until
 * then. */
static void stall(Node *node, const char *why)
{
    log_warning("the VM doesn't run until the next checkpoint: %s", why);
    node_emit_stalled(node, why);
    gsize len = MIN(strlen(why), 512);
    g_autofree guint8 *payload = g_malloc(8 + len);
    colo_put_be64(payload, node->epoch);
    memcpy(payload + 8, why, len);
    link_send(node->link, LINK_MSG_STALLED, payload, 8 + len);
    node->svm_speaks = FALSE;
    node->svm_epoch = 0;
}

void svm_rebooted(Node *node)
{
    /* What it says still counts: the primary's guest may be about to reboot, too. */
    if (node->state != FSM_S_COLO || node->svm_epoch == 0)
        return;
    log_warning("the guest of this copy of the VM has rebooted");
    node_emit(node, "SECONDARY_REBOOTED", NULL);
    guint8 payload[8];
    colo_put_be64(payload, node->svm_epoch);
    link_send(node->link, LINK_MSG_REBOOTED, payload, sizeof(payload));
}

void svm_stopped_by_itself(Node *node, const char *why)
{
    /* QEMU may tell of one stop twice. */
    if (node->svm_epoch == 0)
        return;
    node->svm_spoilt = TRUE;
    stall(node, why);
}

/* ---- PREPARE and DIRTY ---- */

gboolean svm_prepare(Node *node, guint64 epoch, GError **error)
{
    if (node->state != FSM_S_COLO || node->prepare_epoch || !node->last ||
        epoch != node->last->epoch + 1) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                    "message 'prepare' for checkpoint %" G_GUINT64_FORMAT " in state %s", epoch,
                    fsm_state_name(node->state));
        return FALSE;
    }
    node->prepare_epoch = epoch;
    svm_step(node);
    return TRUE;
}

static GArray *runs_of(const PageSet *set)
{
    GArray *runs = g_array_new(FALSE, FALSE, 8);
    guint64 count;
    for (guint64 first = 0; page_set_next_run(set, first, &first, &count); first += count) {
        guint8 run[8];
        colo_put_be32(run, (guint32)first);
        colo_put_be32(run + 4, (guint32)count);
        g_array_append_vals(runs, run, 1);
    }
    return runs;
}

static void send_dirty(Node *node, guint64 epoch)
{
    g_autoptr(GArray) runs = runs_of(node->svm_dirty);
    guint parts = MAX((runs->len + DIRTY_RUNS_MAX - 1) / DIRTY_RUNS_MAX, 1);
    for (guint part = 0; part < parts; part++) {
        guint first = part * DIRTY_RUNS_MAX;
        guint count = MIN(runs->len - first, DIRTY_RUNS_MAX);
        g_autofree guint8 *payload = g_malloc(16 + count * 8);
        colo_put_be64(payload, epoch);
        colo_put_be32(payload + 8, parts - part - 1);
        colo_put_be32(payload + 12, 0);
        if (count)
            memcpy(payload + 16, runs->data + (gsize)first * 8, count * 8);
        link_send(node->link, LINK_MSG_DIRTY, payload, 16 + count * 8);
    }
}

static void answer_prepare(Node *node)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(PageSet) written = harvest(node, &error);
    if (!written) {
        node_vm_lost(node, "dirty pages of the secondary can't be seen", error);
        return;
    }
    guint64 count;
    for (guint64 first = 0; page_set_next_run(written, first, &first, &count); first += count)
        page_set_add_run(node->svm_dirty, first, count);
    send_dirty(node, node->prepare_epoch);
    page_set_clear(node->svm_dirty);
    node->prepare_epoch = 0;
    colo_fault_point("secondary-prepared");
}

gboolean svm_stands_still(const Node *node, GError **error)
{
    if ((node->svm_job == SVM_IDLE || node->svm_job == SVM_CHECKING) && !node->load_due &&
        !node->applying && !vm_is_running(node->vm))
        return TRUE;
    g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                "a checkpoint came while the VM was running or being loaded");
    return FALSE;
}

/* ---- Disks ---- */

static void on_released(Vm *vm, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (!is_current(vm, node))
        return;
    node->svm_job = SVM_IDLE;
    if (error) {
        node_vm_lost(node, "the VM can't give up its disks", error);
        return;
    }
    disks_apply(node);
    svm_step(node);
}

/* Their bytes are about to change under the VM, which stands still. */
static void release(Node *node)
{
    node->svm_job = SVM_RELEASING;
    vm_release_disks(node->vm, on_released, node);
}

/* ---- Loading and running ---- */

static void on_resumed(Vm *vm, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    guint8 payload[8];
    if (!is_current(vm, node))
        return;
    node->svm_job = SVM_IDLE;
    if (error) {
        node_vm_lost(node, "the VM can't be resumed from a checkpoint", error);
        return;
    }
    /* It may have stopped by itself meanwhile. */
    if (node->apply && node->svm_speaks) {
        colo_put_be64(payload, node->svm_epoch);
        link_send(node->link, LINK_MSG_LOADED, payload, sizeof(payload));
        colo_fault_point("secondary-loaded");
        secondary_give_mirrored(node);
    }
    svm_step(node);
}

static void resume(Node *node)
{
    /* What QEMU has kept of the epoch before is not this one's. */
    node->svm_speaks = FALSE;
    net_drain(node);
    node->svm_speaks = TRUE;
    node->svm_job = SVM_RESUMING;
    disks_resume(node, on_resumed);
}

static gboolean prove(Node *node, const GByteArray *runs, GError **error)
{
    if (++node->proofs_tried == PROOFS_MAX && runs->len > 0) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_LOAD,
                    "after %u loads the device state still writes to new pages of RAM", PROOFS_MAX);
        return FALSE;
    }
    if (runs->len > LINK_MESSAGE_MAX) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_LOAD,
                    "loading the device state wrote to %u pages of RAM: too many", runs->len / 16);
        return FALSE;
    }
    log_info("the device state can be loaded; that wrote to %u new pages of RAM", runs->len / 16);
    link_send(node->link, LINK_MSG_READY, runs->data, runs->len);
    return TRUE;
}

/* The device state is that of `checkpoint`, and so is RAM but for the pages of `runs`. */
static void use_loaded(Node *node, const Checkpoint *checkpoint, const GByteArray *runs)
{
    g_autoptr(GError) error = NULL;
    if (node->state == FSM_S_ACTIVE) {
        if (!prove(node, runs, &error))
            node_vm_lost(node, "the VM can't be protected", error);
        return;
    }
    if (runs->len > 0 && node->state != FSM_S_DEVICE) {
        node->svm_spoilt = TRUE;
        if (node->state == FSM_S_COLO)
            stall(node, "loading its device state wrote to a page of RAM, which it had not done "
                        "before");
        return;
    }
    if (runs->len > 0)
        log_warning("loading the device state wrote to %u pages of RAM, which it had not done "
                    "before",
                    runs->len / 16);
    if (!secondary_enter_epoch(node, checkpoint, &error))
        node_vm_lost(node, "the checkpoint's maps of connections can't be used", error);
    else if (node->state == FSM_S_COLO)
        resume(node);
}

static void on_loaded(Vm *vm, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (!is_current(vm, node))
        return;
    node->svm_job = SVM_IDLE;
    g_autoptr(Checkpoint) loaded = g_steal_pointer(&node->load_due);
    if (error) {
        node_vm_lost(node, "the device state of this VM can't be loaded on this host", error);
        return;
    }
    /* The session may be over: then nobody waits for it. */
    if (loaded) {
        g_autoptr(GError) failed = NULL;
        g_autoptr(GByteArray) runs = repair_load(node, &failed);
        if (!runs) {
            node_vm_lost(node, "dirty pages of the secondary can't be seen", failed);
            return;
        }
        use_loaded(node, loaded, runs);
        if (!is_current(vm, node))
            return;
    }
    if (node->ask_when_loaded) {
        node->ask_when_loaded = FALSE;
        /* One whose peer has yielded has nobody to leave the VM to. */
        node_event(node, node->svm_spoilt && !node->yielded ? FSM_SPOILT : FSM_ASK_AGAIN);
    }
    svm_step(node);
}

gboolean svm_ask_when_loaded(Node *node)
{
    node->ask_when_loaded = node->svm_job == SVM_LOADING;
    return node->ask_when_loaded;
}

static void load(Node *node)
{
    g_autoptr(GError) error = NULL;
    if (!prepare_load(node, &error)) {
        node_vm_lost(node, "dirty pages of the secondary can't be seen", error);
        return;
    }
    node->svm_epoch = 0;
    node->svm_job = SVM_LOADING;
    vm_load_device_state(node->vm, node->load_due->device_state, on_loaded, node);
}

/* ---- Takeover ---- */

static void finish_takeover(Node *node)
{
    /* What the primary's guest was given and ours was not, and what has come here since. */
    secondary_give_mirrored(node);
    node->takeovers++;
    log_warning("taken over from epoch %" G_GUINT64_FORMAT " in %.1f ms; the VM runs unprotected",
                node->epoch,
                (double)colo_time_diff_us(colo_time_now(), node->link_lost) / COLO_US_PER_MS);
    json_object *data = json_object_new_object();
    json_object_object_add(data, "epoch", json_object_new_int64((gint64)node->epoch));
    node_emit(node, "TAKEN_OVER", data);
    node_event(node, FSM_TAKEN_OVER);
}

/* One step of it; each is called again when what it has begun is done. */
static void take_over(Node *node)
{
    const Checkpoint *checkpoint = node->finished;
    if (!checkpoint)
        return; /* RAM is not known to be whole yet */
    if (node->svm_spoilt) {
        g_autoptr(GError) error =
            g_error_new(NODE_ERROR, NODE_ERROR_LOAD,
                        "the VM had stopped by itself, and no checkpoint has come since");
        node_vm_lost(node, "can't take over", error);
        return;
    }
    gboolean here = node->svm_epoch == checkpoint->epoch;
    if (!here && vm_is_running(node->vm)) {
        stop(node);
    } else if (disks_apply_is_due(node)) {
        release(node);
    } else if (!disks_are_at(node, checkpoint->epoch)) {
        return; /* about to be */
    } else if (!here) {
        if (!node->load_due)
            node->load_due = checkpoint_ref(node->finished);
        load(node);
    } else if (!disks_take_over(node, checkpoint->epoch)) {
        return; /* under way */
    } else if (!node->gate_open) {
        secondary_speak(node);
        take_over(node);
    } else if (!vm_is_running(node->vm)) {
        node->svm_job = SVM_RESUMING;
        disks_resume(node, on_resumed);
    } else {
        finish_takeover(node);
    }
}

/* The old primary may or may not have let these go: a client knows them by their numbers. They were
 * said before anything that our VM has said since. */
static void send_held_frames(Node *node, const Checkpoint *checkpoint)
{
    for (guint i = 0; i < checkpoint->frames->len; i++) {
        const HeldFrame *held = g_ptr_array_index(checkpoint->frames, i);
        gsize len;
        const guint8 *data = g_bytes_get_data(held->data, &len);
        net_send(node, held->nic, data, len);
    }
}

static void on_finished(Checkpoint *checkpoint, gpointer user_data)
{
    Node *node = user_data;
    if (!checkpoint) {
        g_autoptr(GError) error =
            g_error_new(NODE_ERROR, NODE_ERROR_LOAD, "no complete checkpoint is here");
        node_vm_lost(node, "can't take over", error);
        return;
    }
    /* It may be a later one than was last said to be RECEIVED: as good, and nothing of it is lost.
     */
    node->finished = checkpoint_ref(checkpoint);
    node->epoch = checkpoint->epoch;
    log_set_epoch(node->epoch);
    if (node->released_epoch != checkpoint->epoch)
        send_held_frames(node, checkpoint);
    svm_step(node);
}

/*
 * The network is told at once where the guest is now, before the VM can run: what clients send
 * until then would go to the dead host, and be missed for as long as TCP waits before it sends it
 * again.
 */
void secondary_take_over(Node *node)
{
    colo_fault_point("takeover-granted");
    net_set_open(node, TRUE);
    net_announce(node);
    apply_finish(node->apply, on_finished, node);
}

/* ---- The next thing ---- */

void svm_step(Node *node)
{
    if (!node->vm || node->svm_job != SVM_IDLE || node->state < FSM_S_NONE ||
        node->state > FSM_S_DEVICE)
        return;
    gboolean running = vm_is_running(node->vm);
    if (node->state == FSM_S_DEVICE) {
        take_over(node);
    } else if (running && (!node->apply || node->prepare_epoch || !node->svm_speaks ||
                           node->undecided || node->state == FSM_S_RECOVER)) {
        stop(node);
    } else if (node->start_due) {
        node->start_due = FALSE;
        secondary_begin(node);
    } else if (!running && disks_apply_is_due(node)) {
        release(node);
    } else if (node->load_due && node->state != FSM_S_PAUSED && node->state != FSM_S_RECOVER) {
        /* Else it is called again when the disks are there. */
        if (disks_are_at(node, node->load_due->epoch))
            load(node);
    } else if (node->prepare_epoch && !node->applying) {
        answer_prepare(node);
    } else if (node->check_due && !running) {
        check(node);
    }
}

void secondary_start_apply(Node *node)
{
    guint64 pages = vm_ram(node->vm)->size_bytes / VM_PAGE_SIZE;
    node->touched = page_set_new(pages);
    node->svm_dirty = page_set_new(pages);
    node->start_due = TRUE;
    svm_step(node);
}

gboolean secondary_may_protect(const Node *node, GError **error)
{
    if (node->proofs_tried > 0 && !node->load_due)
        return TRUE;
    g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL,
                "message 'protect' before a checkpoint was READY");
    return FALSE;
}

void svm_forget(Node *node)
{
    node->start_due = node->check_due = node->applying = FALSE;
    node->svm_speaks = node->svm_spoilt = node->ask_when_loaded = FALSE;
    node->prepare_epoch = node->svm_epoch = node->released_epoch = 0;
    node->proofs_tried = 0;
    g_clear_pointer(&node->load_due, checkpoint_unref);
    g_clear_pointer(&node->finished, checkpoint_unref);
    g_clear_pointer(&node->touched, page_set_free);
    g_clear_pointer(&node->svm_dirty, page_set_free);
    g_clear_pointer(&node->kept, g_free);
    if (!fsm_is_primary(node->state))
        g_clear_pointer(&node->rewrite, rewrite_free);
}

void svm_init(Node *node)
{
    node->check_timer = g_timeout_add(CHECK_MS, on_check_timer, node);
}

void svm_finalise(Node *node)
{
    g_source_remove(node->check_timer);
    svm_forget(node);
}
