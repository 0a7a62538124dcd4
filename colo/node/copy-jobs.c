/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The jobs. Each ends in its callback, which changes facts and has the next one chosen. A handler
 * that is called may end the VM by that, so a callback continues only if the VM is the same.
 */
#include "colo/node/copy_internal.h"
#include "colo/node/node.h"
#include "colo/node/resume.h"
#include "common/log.h"

/*
 * QEMU has so long to read what the copy was given (settle.h). Else a frame that belongs to the epoch
 * before comes after the load, and the guest has it twice.
 */
#define SETTLE_US (100 * COLO_US_PER_MS)

/* Loads after which the pages they write to must be known. */
#define PROOFS_MAX 16

static void lost(Copy *copy, const char *what, const GError *error)
{
    copy->handler->lost(what, error, copy->user_data);
}

/* QEMU has refused something: the end of a copy, but not of what may be the only VM. */
static void refuse(Copy *copy, const char *what, const GError *error)
{
    if (resume_may_pass(error) && copy_is_to_keep(copy_look(copy).duty)) {
        copy->handler->refused(what, error, FALSE, copy->user_data);
        copy_step(copy);
    } else {
        lost(copy, what, error);
    }
}

/* ---- Check and pause ---- */

static void on_checked(Vm *vm, const GError *error, gpointer user_data)
{
    Copy *copy = user_data;
    (void)vm;
    copy_set_job(copy, COPY_NOTHING);
    if (error)
        refuse(copy, "the waiting VM does not answer", error);
    else
        copy_step(copy);
}

static void check(Copy *copy)
{
    if (copy->check_due)
        copy->check_due = FALSE;
    else
        copy_set_fit(copy, COPY_FIT_CHECKED);
    copy->handler->pausing(copy->user_data);
    vm_pause(copy->vm, on_checked, copy);
}

static void on_paused(Vm *vm, const GError *error, gpointer user_data)
{
    Copy *copy = user_data;
    (void)vm;
    copy_set_job(copy, COPY_NOTHING);
    if (error) {
        refuse(copy, "the secondary's VM does not answer", error);
        return;
    }
    copy->check_due = FALSE; /* it has answered */
    copy->handler->paused(copy->user_data);
    /* What it has sent until here belongs to the epoch that ends. */
    copy->handler->drain(copy->user_data);
    if (copy->condition == COPY_RUNNING)
        copy_set_condition(copy, COPY_PAUSED);
    copy_step(copy);
}

void copy_pause_settled(gpointer user_data)
{
    Copy *copy = user_data;
    copy->handler->pausing(copy->user_data);
    vm_pause(copy->vm, on_paused, copy);
}

/* ---- Disks ---- */

/* FALSE: it has not, and nothing is left to do. */
static gboolean has_given_up(Copy *copy, const GError *error)
{
    copy_set_job(copy, COPY_NOTHING);
    if (error)
        refuse(copy, "the VM can't give up its disks", error);
    return !error;
}

static void on_inactivated(Vm *vm, const GError *error, gpointer user_data)
{
    Copy *copy = user_data;
    (void)vm;
    if (!has_given_up(copy, error))
        return;
    copy->handler->inactivated(copy->user_data);
    copy_step(copy);
}

/* ---- PREPARE ---- */

static void on_written(const PageSet *pages, const GError *error, gpointer user_data)
{
    Copy *copy = user_data;
    copy_set_job(copy, COPY_NOTHING);
    if (error) {
        copy->handler->ending("dirty pages of the secondary can't be seen", error, copy->user_data);
        return;
    }
    if (copy->prepare == COPY_PREPARE_DUE && copy_look(copy).duty == COPY_PROTECT) {
        copy_set_prepare(copy, COPY_TELLING);
        told_begin(copy->told, copy->prepare_epoch, pages);
    } else {
        copy_set_prepare(copy, COPY_NOT_ASKED); /* the session is over */
    }
    copy_step(copy);
}

/* ---- Loading and running ---- */

static void on_resumed(Vm *vm, const GError *error, gpointer user_data)
{
    Copy *copy = user_data;
    (void)vm;
    copy_set_job(copy, COPY_NOTHING);
    if (!error) {
        /* It may have stopped by itself meanwhile. */
        gboolean counts = copy->session == COPY_SESSION && copy->condition == COPY_RUNNING;
        copy->handler->resumed(counts ? copy_epoch(copy) : EPOCH_NONE, copy->user_data);
        copy_step(copy);
        return;
    }
    copy->handler->not_resumed(copy->user_data);
    /* If it has stopped by itself meanwhile, the primary knows. */
    if (!resume_may_pass(error))
        lost(copy, "the VM can't be resumed from a checkpoint", error);
    else if (copy->condition == COPY_RUNNING && copy_look(copy).duty == COPY_PROTECT)
        copy_stall(copy, COPY_STANDBY, error->message);
    else if (copy->condition == COPY_RUNNING)
        copy_set_condition(copy, COPY_PAUSED);
    copy_step(copy);
}

static void run(Copy *copy)
{
    g_autoptr(GError) error = NULL;
    /* What QEMU has kept of the epoch before is not this one's. */
    copy->handler->drain(copy->user_data);
    if (!copy->handler->may_run(copy->user_data, &error)) {
        lost(copy, "the VM may not run", error);
        return;
    }
    copy_set_condition(copy, COPY_RUNNING);
    copy_set_job(copy, COPY_RESUME);
    vm_resume(copy->vm, on_resumed, copy);
}

/* The load has written to `pages`, which were not known before. */
static void prove(Copy *copy, const PageSet *pages)
{
    g_autoptr(GError) error = NULL;
    copy_set_condition(copy, COPY_STANDBY);
    if (++copy->proofs == PROOFS_MAX && page_set_count(pages) > 0)
        g_set_error(&error, NODE_ERROR, NODE_ERROR_LOAD,
                    "after %u loads the device state still writes to new pages of RAM", PROOFS_MAX);
    if (error || !copy->handler->proven(pages, copy->user_data, &error))
        lost(copy, "the VM can't be protected", error);
}

/* The device state is that of the checkpoint, and so is RAM but for `pages`. */
static void use_loaded(Copy *copy, const PageSet *pages)
{
    g_autoptr(GError) error = NULL;
    CopyDuty duty = copy_look(copy).duty;
    gboolean wrong = page_set_count(pages) > 0;
    CopyLoaded loaded = copy_loaded(duty, wrong);
    if (loaded == COPY_LOADED_PROVEN) {
        prove(copy, pages);
        return;
    }
    if (loaded == COPY_LOADED_INVALID) {
        if (duty == COPY_PROTECT)
            copy_stall(
                copy, COPY_INVALID,
                "loading its device state wrote to a page of RAM, which it had not done before");
        else
            copy_set_condition(copy, COPY_INVALID);
        return;
    }
    if (wrong)
        log_warning("loading the device state wrote to %" G_GUINT64_FORMAT
                    " pages of RAM, which it had not done before",
                    page_set_count(pages));
    if (!copy->handler->enter(copy->checkpoint, copy->user_data, &error)) {
        lost(copy, "the checkpoint's maps of connections can't be used", error);
        return;
    }
    copy_set_condition(copy, COPY_PAUSED);
    if (loaded == COPY_LOADED_RUN)
        run(copy);
}

/* What the load that is over has done to RAM is known. */
static void ask_if_due(Copy *copy)
{
    if (!copy->ask_when_loaded)
        return;
    copy->ask_when_loaded = FALSE;
    copy->handler->may_ask(copy->user_data);
}

static void on_repaired(const PageSet *pages, const GError *error, gpointer user_data)
{
    Copy *copy = user_data;
    g_autoptr(GError) failed = g_steal_pointer(&copy->load_error);
    gboolean in_session = copy->condition == COPY_LOADING;
    copy_set_job(copy, COPY_NOTHING);
    if (error) {
        if (in_session)
            copy_set_condition(copy, COPY_INVALID);
        copy->handler->ending("dirty pages of the secondary can't be seen", error, copy->user_data);
        return;
    }
    if (failed) {
        if (in_session)
            copy_set_condition(copy, COPY_STANDBY);
        copy->handler->refused("the device state of this VM can't be loaded on this host", failed,
                               TRUE, copy->user_data);
    } else if (in_session) {
        use_loaded(copy, pages);
    }
    ask_if_due(copy);
    copy_step(copy);
}

static void on_loaded(Vm *vm, const GError *error, gpointer user_data)
{
    Copy *copy = user_data;
    (void)vm;
    if (error && (!resume_may_pass(error) || !copy_is_to_keep(copy_look(copy).duty))) {
        copy_set_job(copy, COPY_NOTHING);
        lost(copy, "the device state of this VM can't be loaded on this host", error);
        return;
    }
    if (!error && copy->condition != COPY_LOADING) {
        copy_set_job(copy, COPY_NOTHING);
        copy_step(copy); /* the session is over: nobody waits for it */
        return;
    }
    /* Before one that has failed is tried again, too, RAM has to be right again. */
    copy->load_error = error ? g_error_copy(error) : NULL;
    copy_set_job(copy, COPY_REPAIR);
    load_guard_after(copy->guard, on_repaired, copy);
}

static void on_kept(const PageSet *pages, const GError *error, gpointer user_data)
{
    Copy *copy = user_data;
    (void)pages;
    if (error) {
        copy_set_job(copy, COPY_NOTHING);
        copy->handler->ending("dirty pages of the secondary can't be seen", error, copy->user_data);
        return;
    }
    /* The session, or the link, may have been lost meanwhile: also to load it for a takeover. */
    CopyDuty duty = copy_look(copy).duty;
    if (copy->condition != COPY_TO_LOAD || !copy_may_load(duty) ||
        copy->is_last_load != (duty == COPY_TAKE_OVER)) {
        copy_set_job(copy, COPY_NOTHING);
        copy_step(copy);
        return;
    }
    copy_set_condition(copy, COPY_LOADING);
    copy_set_job(copy, COPY_LOAD);
    vm_load_device_state(copy->vm, copy->checkpoint->device_state, on_loaded, copy);
}

static void load(Copy *copy)
{
    copy_set_condition(copy, COPY_TO_LOAD);
    copy->is_last_load = copy_look(copy).duty == COPY_TAKE_OVER;
    if (copy->is_last_load)
        load_guard_before_last(copy->guard, on_kept, copy);
    else
        load_guard_before(copy->guard, on_kept, copy);
}

/* ---- Takeover ---- */

static void give_up(Copy *copy)
{
    g_autoptr(GError) error =
        g_error_new(NODE_ERROR, NODE_ERROR_LOAD,
                    "the VM had stopped by itself, and no checkpoint has come since");
    lost(copy, "can't take over", error);
}

void copy_taken_over(Copy *copy, const GError *error)
{
    copy_set_job(copy, COPY_NOTHING);
    if (error)
        refuse(copy, "the VM can't be resumed in a takeover", error);
}

/* ---- All of them ---- */

static void on_may_begin(Vm *vm, const GError *error, gpointer user_data)
{
    Copy *copy = user_data;
    (void)vm;
    if (!has_given_up(copy, error))
        return;
    if (copy->session == COPY_SESSION_DUE) { /* else it is over before it began */
        copy_set_session(copy, COPY_SESSION);
        load_guard_reset(copy->guard);
        copy->handler->begin(copy->user_data);
    }
    copy_step(copy);
}

/*
 * The VM gives its disks up before the session changes them. QEMU has read where a qcow2 image has its
 * directory of bitmaps. It looks there again as it gives the image up, and refuses if another one is there
 * by then (qcow2_store_persistent_dirty_bitmaps, QEMU 7.2).
 */
static void begin(Copy *copy)
{
    if (vm_caches_disks(copy->vm))
        vm_inactivate_disks(copy->vm, TRUE, on_may_begin, copy);
    else
        on_may_begin(copy->vm, NULL, copy);
}

static void tell_fit(Copy *copy)
{
    copy_set_fit(copy, COPY_FIT_UNASKED);
    copy->handler->fit(copy_is_fit(copy->condition, copy->to_run), copy->user_data);
}

void copy_begin_job(Copy *copy, CopyJob job)
{
    copy_set_job(copy, job);
    copy->job_began = colo_time_now();
    switch (job) {
    case COPY_CHECK:
        check(copy);
        return;
    case COPY_PAUSE:
        settle_begin(copy->settle, SETTLE_US);
        return;
    case COPY_LOOK:
        load_guard_written(copy->guard, on_written, copy);
        return;
    case COPY_KEEP:
        load(copy);
        return;
    case COPY_INACTIVATE:
        vm_inactivate_disks(copy->vm, TRUE, on_inactivated, copy);
        return;
    case COPY_BEGIN:
        begin(copy);
        return;
    case COPY_RESUME:
        copy->handler->take_over(copy->user_data);
        return;
    default:
        break;
    }
    /* Done at once. */
    copy_set_job(copy, COPY_NOTHING);
    if (job == COPY_TELL_FIT)
        tell_fit(copy);
    else if (job == COPY_GIVE_UP)
        give_up(copy);
}
