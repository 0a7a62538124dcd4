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
 * are known to write to are kept aside before each, and put back after it (LoadGuard). They are
 * learnt before protection is claimed: each checkpoint of that time is loaded, to know that it can
 * be, and READY names the pages that were written and not known before, which the primary then
 * sends again. If a later load writes to yet another page, RAM is no checkpoint's any more
 * (svm_spoilt): the VM neither runs nor can be taken over from before the next checkpoint, which
 * carries that page.
 *
 * Who can't go on doesn't ask the arbiter, or the primary, which can, would be told no. So no load
 * begins while it is asked, and a question waits for the load under way.
 *
 * The load of a takeover is the last one: there every page that it writes to is put back.
 *
 * A VM whose primary is lost goes on running while the arbiter is asked; when nobody can decide, it
 * stands still: its clients can't hear it, and it shouldn't give them up.
 *
 * Takeover: a VM that runs, or stands still in the epoch of the last complete checkpoint, goes on
 * where it is; it said all that clients have heard. Otherwise the checkpoint is loaded. A VM that
 * has run and then stopped by itself (its guest has powered off or panicked, QEMU has stopped it)
 * can do neither until the next checkpoint, which the primary takes at once: if the link is lost
 * before, the primary goes on alone. One that QEMU has stopped for an I/O error of its overlay goes
 * on where it is: what failed is tried again.
 */
#include "colo/node/node_internal.h"
#include "common/fault.h"
#include "common/log.h"

#define CHECK_MS 1000

/* Loads after which the pages they write to must be known. */
#define PROOFS_MAX 16

static gboolean is_current(Vm *vm, const Node *node)
{
    return vm == node->vm;
}

/* QEMU has refused something: the end of a copy, but not of what may be the only VM. */
static void refused(Node *node, const char *what, const GError *error)
{
    if (resume_may_pass(error) && resume_is_to_keep(node)) {
        resume_wait(node, what, error);
        svm_step(node);
    } else {
        node_vm_lost(node, what, error);
    }
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
    node->svm_stood = colo_time_now();
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
static void tell_stall(Node *node, const char *why)
{
    log_warning("the VM doesn't run until the next checkpoint: %s", why);
    node_emit_stalled(node, why);
    MessageStalled stalled = {.epoch = node->epoch, .why = why};
    message_send(node->link, &(Message){.type = LINK_MSG_STALLED, .stalled = stalled});
    node->svm_speaks = FALSE;
}

/* Likewise, and it can't go on from where it is. */
static void stall(Node *node, const char *why)
{
    tell_stall(node, why);
    node->svm_epoch = 0;
}

void svm_rebooted(Node *node)
{
    /* What it says still counts: the primary's guest may be about to reboot, too. */
    if (node->state != FSM_S_COLO || node->svm_epoch == 0 || node->svm_epoch != node->epoch)
        return;
    log_warning("the guest of this copy of the VM has rebooted");
    node_emit(node, "SECONDARY_REBOOTED", NULL);
    message_send(node->link, &(Message){.type = LINK_MSG_REBOOTED, .epoch = node->svm_epoch});
}

void svm_stopped_by_itself(Node *node, const char *why)
{
    /* QEMU may tell of one stop twice, and one that stands isn't to run: the next load mends it. */
    if (node->svm_epoch == 0 || node->svm_epoch != node->epoch)
        return;
    node->svm_spoilt = TRUE;
    stall(node, why);
}

void svm_stopped_by_io_error(Node *node, const char *why)
{
    if (node->svm_speaks)
        tell_stall(node, why);
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
        refused(node, "the VM can't give up its disks", error);
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
    if (!is_current(vm, node))
        return;
    node->svm_job = SVM_IDLE;
    if (error) {
        disks_vm_paused(node);
        if (!resume_may_pass(error))
            node_vm_lost(node, "the VM can't be resumed from a checkpoint", error);
        else if (node->state == FSM_S_COLO)
            stall(node, error->message);
        if (is_current(vm, node))
            svm_step(node);
        return;
    }
    if (node->state == FSM_S_DEVICE)
        blocktime_add(&node->blocktime, node->svm_stood, colo_time_now());
    /* It may have stopped by itself meanwhile. */
    if (node->apply && node->svm_speaks) {
        message_send(node->link, &(Message){.type = LINK_MSG_LOADED, .epoch = node->svm_epoch});
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
    g_autoptr(GError) error = NULL;
    if (!disks_may_run_copy(node, &error)) {
        node_vm_lost(node, "the VM may not run", error);
        return;
    }
    node->svm_job = SVM_RESUMING;
    vm_resume(node->vm, on_resumed, node);
}

/* READY: the load has written to `pages`, which were not known before. */
static gboolean prove(Node *node, const PageSet *pages, GError **error)
{
    if (++node->proofs_tried == PROOFS_MAX && page_set_count(pages) > 0) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_LOAD,
                    "after %u loads the device state still writes to new pages of RAM", PROOFS_MAX);
        return FALSE;
    }
    g_autoptr(GArray) runs = g_array_new(FALSE, FALSE, sizeof(MessageRun));
    MessageRun run;
    for (guint64 at = 0; page_set_next_run(pages, at, &run.first, &run.count);
         at = run.first + run.count)
        g_array_append_val(runs, run);
    if (runs->len > MESSAGE_READY_RUNS_MAX) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_LOAD,
                    "loading the device state wrote to %" G_GUINT64_FORMAT
                    " pages of RAM: too many",
                    page_set_count(pages));
        return FALSE;
    }
    log_info("the device state can be loaded; that wrote to %" G_GUINT64_FORMAT " new pages of RAM",
             page_set_count(pages));
    MessageReady ready = {.runs = (const MessageRun *)(gpointer)runs->data, .n_runs = runs->len};
    message_send(node->link, &(Message){.type = LINK_MSG_READY, .ready = ready});
    return TRUE;
}

/* The device state is that of `checkpoint`, and so is RAM but for `pages`. */
static void use_loaded(Node *node, const Checkpoint *checkpoint, const PageSet *pages)
{
    g_autoptr(GError) error = NULL;
    gboolean wrong = page_set_count(pages) > 0;
    if (node->state == FSM_S_ACTIVE) {
        if (!prove(node, pages, &error))
            node_vm_lost(node, "the VM can't be protected", error);
        return;
    }
    if (wrong && node->state != FSM_S_DEVICE) {
        node->svm_spoilt = TRUE;
        if (node->state == FSM_S_COLO)
            stall(node, "loading its device state wrote to a page of RAM, which it had not done "
                        "before");
        return;
    }
    if (wrong)
        log_warning("loading the device state wrote to %" G_GUINT64_FORMAT
                    " pages of RAM, which it had not done before",
                    page_set_count(pages));
    if (!secondary_enter_epoch(node, checkpoint, &error))
        node_vm_lost(node, "the checkpoint's maps of connections can't be used", error);
    else if (node->state == FSM_S_COLO)
        resume(node);
}

/* What the load that is over has done to RAM is known. */
static void ask_if_due(Node *node)
{
    if (!node->ask_when_loaded)
        return;
    node->ask_when_loaded = FALSE;
    /* One whose peer has yielded has nobody to leave the VM to. */
    node_event(node,
               node->svm_spoilt && !claim_is_yielded(node->claim) ? FSM_SPOILT : FSM_ASK_AGAIN);
}

gboolean svm_ask_when_loaded(Node *node)
{
    node->ask_when_loaded = node->svm_job == SVM_LOADING || node->svm_job == SVM_REPAIRING;
    return node->ask_when_loaded;
}

static void on_repaired(const PageSet *pages, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    const Vm *vm = node->vm;
    node->svm_job = SVM_IDLE;
    g_autoptr(Checkpoint) loaded = g_steal_pointer(&node->load_due);
    if (error) {
        node_vm_ending(node, "dirty pages of the secondary can't be seen", error);
        return;
    }
    g_autoptr(GError) failed = g_steal_pointer(&node->load_error);
    if (failed)
        resume_wait(node, "the device state of this VM can't be loaded on this host", failed);
    else if (loaded)
        use_loaded(node, loaded, pages);
    if (vm != node->vm)
        return;
    ask_if_due(node);
    svm_step(node);
}

static void on_loaded(Vm *vm, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (!is_current(vm, node))
        return;
    node->svm_job = SVM_IDLE;
    if (error) {
        if (!resume_may_pass(error) || !resume_is_to_keep(node)) {
            node_vm_lost(node, "the device state of this VM can't be loaded on this host", error);
            return;
        }
        /* Before it is tried again RAM has to be right again. */
        node->svm_job = SVM_REPAIRING;
        node->load_error = g_error_copy(error);
        load_guard_after(node->guard, on_repaired, node);
    } else if (node->load_due) {
        node->svm_job = SVM_REPAIRING;
        load_guard_after(node->guard, on_repaired, node);
    } else {
        svm_step(node); /* the session is over: nobody waits for it */
    }
}

static void on_kept(const PageSet *pages, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    (void)pages;
    node->svm_job = SVM_IDLE;
    if (error) {
        node_vm_ending(node, "dirty pages of the secondary can't be seen", error);
        return;
    }
    if (!node->load_due || node->state == FSM_S_PAUSED) {
        svm_step(node);
        return;
    }
    node->svm_epoch = 0;
    node->svm_job = SVM_LOADING;
    vm_load_device_state(node->vm, node->load_due->device_state, on_loaded, node);
}

static void load(Node *node)
{
    node->svm_job = SVM_KEEPING;
    if (node->state == FSM_S_DEVICE)
        load_guard_before_last(node->guard, on_kept, node);
    else
        load_guard_before(node->guard, on_kept, node);
}

/* ---- Takeover ---- */

static void finish_takeover(Node *node)
{
    /* What the primary's guest was given and ours was not, and what has come here since. */
    secondary_give_mirrored(node);
    node->takeovers++;
    node->moved = colo_time_now();
    clock_taken_over(node);
    log_warning("taken over from epoch %" G_GUINT64_FORMAT " in %.1f ms; the VM runs unprotected",
                node->epoch,
                (double)colo_time_diff_us(colo_time_now(), node->link_lost) / COLO_US_PER_MS);
    json_object *data = json_object_new_object();
    json_object_object_add(data, "epoch", json_object_new_int64((gint64)node->epoch));
    node_emit(node, "TAKEN_OVER", data);
    node_event(node, FSM_TAKEN_OVER);
    primary_continue(node);
}

static void on_taken_over(Vm *vm, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (!is_current(vm, node))
        return;
    node->svm_job = SVM_IDLE;
    if (error) {
        refused(node, "the VM can't be resumed in a takeover", error);
        return;
    }
    blocktime_add(&node->blocktime, node->svm_stood, colo_time_now());
    finish_takeover(node);
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
    } else {
        /* Also of one that runs: it has been on an overlay until now, and unheard. */
        if (vm_is_running(node->vm))
            node->svm_stood = colo_time_now();
        node->svm_job = SVM_RESUMING;
        resume_vm(node, on_taken_over);
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
    announce_start(node);
    apply_finish(node->apply, on_finished, node);
}

/* ---- The next thing ---- */

/* Nothing is under way, and the VM stands still. */
static void look_if_fit(Node *node)
{
    if (!node->fit_checked) {
        node->fit_checked = TRUE;
        check(node);
        return;
    }
    gboolean loaded = !secondary_is_to_run(node->last) || node->svm_epoch == node->last->epoch;
    node->fit_due = FALSE;
    node_event(node, loaded && !node->svm_spoilt ? FSM_VM_FIT : FSM_VM_UNFIT);
}

void svm_check_fit(Node *node)
{
    node->fit_due = TRUE;
    node->fit_checked = FALSE;
    svm_step(node);
}

void svm_step(Node *node)
{
    if (!node->vm || node->svm_job != SVM_IDLE || node->state < FSM_S_NONE ||
        node->state > FSM_S_DEVICE)
        return;
    gboolean running = vm_is_running(node->vm);
    if (resume_is_waiting(node)) {
        /* Nobody hears it: it shall not give its clients up meanwhile. */
        if (running)
            stop(node);
    } else if (node->state == FSM_S_DEVICE) {
        take_over(node);
    } else if (running &&
               (!node->apply || node->prepare_epoch || !node->svm_speaks ||
                claim_is_undecided(node->claim) || node->fit_due || node->state == FSM_S_RECOVER)) {
        stop(node);
    } else if (node->start_due) {
        node->start_due = FALSE;
        load_guard_reset(node->guard);
        secondary_begin(node);
    } else if (!running && disks_apply_is_due(node)) {
        release(node);
    } else if (node->load_due && node->state != FSM_S_PAUSED && node->state != FSM_S_RECOVER) {
        /* Else it is called again when the disks are there. */
        if (disks_are_at(node, node->load_due->epoch))
            load(node);
    } else if (node->prepare_epoch && !node->applying && !node->dirty) {
        svm_answer_prepare(node);
    } else if (node->check_due && !running) {
        check(node);
    } else if (node->fit_due && !node->applying && disks_are_at(node, node->last->epoch)) {
        look_if_fit(node);
    }
}

void secondary_start_apply(Node *node)
{
    g_autoptr(GError) error = NULL;
    if (!node->guard)
        node->guard = load_guard_new(vm_ram(node->vm), node->tracker, &error);
    if (!node->guard) {
        node_vm_lost(node, "the VM can't be protected", error);
        return;
    }
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
    node->leaving = FALSE;
    node->fit_due = node->has_asked = FALSE;
    node->svm_speaks = node->svm_spoilt = node->ask_when_loaded = FALSE;
    node->prepare_epoch = node->svm_epoch = node->released_epoch = 0;
    node->proofs_tried = 0;
    g_clear_pointer(&node->load_due, checkpoint_unref);
    g_clear_error(&node->load_error);
    g_clear_pointer(&node->finished, checkpoint_unref);
    g_clear_pointer(&node->dirty, page_set_free);
    resume_forget_waiting(node);
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
