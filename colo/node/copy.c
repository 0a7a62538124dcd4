/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/copy_internal.h"
#include "common/log.h"

/* Nothing else is asked of a waiting QEMU for days. One that hangs would be found out too late. */
#define CHECK_MS 1000

OptionalEpoch copy_epoch(const Copy *copy)
{
    return copy->checkpoint ? epoch_some(copy->checkpoint->epoch) : EPOCH_NONE;
}

CopyWorld copy_look(const Copy *copy)
{
    return copy->handler->look(copy_epoch(copy), copy->user_data);
}

static void step_to(const char *what, gboolean may, const char *from, const char *to)
{
    if (!may)
        g_error("the copy's %s can't become %s from %s", what, to, from);
    if (from != to)
        log_debug("copy: %s %s -> %s", what, from, to);
}

void copy_set_condition(Copy *copy, CopyCondition next)
{
    step_to("condition", copy_may_become(copy->condition, next),
            copy_condition_name(copy->condition), copy_condition_name(next));
    copy->condition = next;
}

void copy_set_job(Copy *copy, CopyJob next)
{
    gboolean may = copy_job_may(copy->job, next);
    /* A copy that waits is checked every second, which is no news. */
    if (!may || (copy->job != COPY_CHECK && next != COPY_CHECK))
        step_to("job", may, copy_job_name(copy->job), copy_job_name(next));
    copy->job = next;
}

void copy_set_session(Copy *copy, CopySession next)
{
    step_to("session", copy_session_may(copy->session, next), copy_session_name(copy->session),
            copy_session_name(next));
    copy->session = next;
}

void copy_set_prepare(Copy *copy, CopyPrepare next)
{
    step_to("answer to PREPARE", copy_prepare_may(copy->prepare, next),
            copy_prepare_name(copy->prepare), copy_prepare_name(next));
    copy->prepare = next;
}

void copy_set_fit(Copy *copy, CopyFit next)
{
    step_to("fitness", copy_fit_may(copy->fit, next), copy_fit_name(copy->fit),
            copy_fit_name(next));
    copy->fit = next;
}

void copy_stall(Copy *copy, CopyCondition next, const char *why)
{
    copy_set_condition(copy, next);
    copy->handler->stalled(copy->checkpoint->epoch, why, copy->user_data);
}

void copy_step(Copy *copy)
{
    if (!copy->vm || copy->job != COPY_NOTHING)
        return;
    CopyWorld world = copy_look(copy);
    CopyFacts facts = {.job = copy->job,
                       .duty = world.duty,
                       .condition = copy->condition,
                       .session = copy->session,
                       .disks = world.disks,
                       .prepare = copy->prepare,
                       .fit = copy->fit,
                       .running = vm_is_running(copy->vm),
                       .refused = world.refused,
                       .check_due = copy->check_due,
                       .settled = copy->settled};
    CopyJob next = copy_next(&facts);
    if (next == COPY_NOTHING)
        copy->handler->rests(copy->user_data);
    else
        copy_begin_job(copy, next);
}

/* ---- The session ---- */

gboolean copy_start(Copy *copy, GError **error)
{
    if (!copy->guard)
        copy->guard = load_guard_new(vm_ram(copy->vm), copy->tracker, error);
    if (!copy->guard)
        return FALSE;
    copy_set_session(copy, COPY_SESSION_DUE);
    /* A VM that stops by itself counts as paused before QEMU has ended all that writes to RAM. */
    copy->check_due = TRUE;
    copy_step(copy);
    return TRUE;
}

void copy_forget(Copy *copy)
{
    copy_set_condition(copy, COPY_EMPTY);
    copy_set_session(copy, COPY_NO_SESSION);
    copy_set_prepare(copy, COPY_NOT_ASKED);
    told_forget(copy->told);
    copy_set_fit(copy, COPY_FIT_UNASKED);
    copy->check_due = copy->settled = copy->ask_when_loaded = copy->to_run = FALSE;
    copy->proofs = 0;
    g_clear_pointer(&copy->checkpoint, checkpoint_unref);
    g_clear_error(&copy->load_error);
}

gboolean copy_may_change_ram(const Copy *copy)
{
    return (copy->job == COPY_NOTHING || copy->job == COPY_CHECK) && !vm_is_running(copy->vm) &&
           copy_may_become(copy->condition, COPY_APPLYING) && copy->condition != COPY_APPLYING;
}

void copy_received(Copy *copy, Checkpoint *checkpoint)
{
    g_clear_pointer(&copy->checkpoint, checkpoint_unref);
    copy->checkpoint = checkpoint_ref(checkpoint);
    copy_set_condition(copy, COPY_APPLYING);
}

void copy_applied(Copy *copy, gboolean to_run)
{
    copy->to_run = to_run;
    copy_set_condition(copy,
                       copy_is_to_load(copy_look(copy).duty, to_run) ? COPY_TO_LOAD : COPY_STANDBY);
    copy_step(copy);
}

const Checkpoint *copy_checkpoint(const Copy *copy)
{
    return copy->checkpoint;
}

gboolean copy_is_proven(const Copy *copy)
{
    return copy->proofs > 0 && copy->condition != COPY_TO_LOAD && copy->condition != COPY_LOADING;
}

/* ---- Questions of the primary, and the arbiter's ---- */

gboolean copy_prepare(Copy *copy, guint64 epoch)
{
    if (copy->prepare != COPY_NOT_ASKED || !copy->checkpoint ||
        epoch != copy->checkpoint->epoch + 1)
        return FALSE;
    copy_set_prepare(copy, COPY_PREPARE_DUE);
    copy->prepare_epoch = epoch;
    copy_step(copy);
    return TRUE;
}

void copy_tell_on(Copy *copy)
{
    told_send_more(copy->told);
}

static gboolean on_has_room(gpointer user_data)
{
    const Copy *copy = user_data;
    return copy->handler->has_room(copy->user_data);
}

static void on_part(const MessageDirty *part, gpointer user_data)
{
    const Copy *copy = user_data;
    copy->handler->dirty(part, copy->user_data);
}

static void on_told(gpointer user_data)
{
    Copy *copy = user_data;
    copy_set_prepare(copy, COPY_NOT_ASKED);
    copy->handler->told(copy->user_data);
}

void copy_check_fit(Copy *copy)
{
    copy_set_fit(copy, COPY_FIT_DUE);
    copy_step(copy);
}

void copy_ask_when_loaded(Copy *copy)
{
    copy->ask_when_loaded = TRUE;
}

/* ---- It stops by itself ---- */

void copy_stopped(Copy *copy, const char *why)
{
    /* It reports so before it has ended all that writes to RAM. */
    copy->check_due |= copy_look(copy).duty == COPY_PROTECT;
    /*
     * A copy that waits isn't to run: the next load mends it. QEMU may report one stop twice. The
     * primary must not be told twice: it takes one checkpoint for it.
     */
    if (copy->condition == COPY_STALLED)
        copy_set_condition(copy, COPY_INVALID);
    else if (copy_is_loaded(copy->condition))
        copy_stall(copy, COPY_INVALID, why);
}

void copy_stopped_by_io_error(Copy *copy, const char *why)
{
    if (copy->condition == COPY_RUNNING)
        copy_stall(copy, COPY_STALLED, why);
}

void copy_settled(Copy *copy)
{
    copy->settled = TRUE;
    if (copy->condition == COPY_APPLYING)
        copy_set_condition(copy, COPY_STANDBY);
    copy_step(copy);
}

/* ---- What it is ---- */

CopyCondition copy_condition(const Copy *copy)
{
    return copy->condition;
}

CopyJob copy_job(const Copy *copy)
{
    return copy->job;
}

gboolean copy_is_late(const Copy *copy)
{
    return copy->job != COPY_NOTHING &&
           colo_time_diff_us(colo_time_now(), copy->job_began) >= CHECK_MS * COLO_US_PER_MS;
}

gboolean copy_is_valid(const Copy *copy)
{
    return copy->condition != COPY_INVALID;
}

gboolean copy_is_in(const Copy *copy, guint64 epoch)
{
    return copy_is_loaded(copy->condition) && copy->checkpoint->epoch == epoch;
}

gboolean copy_output_counts(const Copy *copy)
{
    return copy->condition == COPY_RUNNING;
}

gboolean copy_runs(const Copy *copy)
{
    return copy->job == COPY_NOTHING && copy->vm && vm_is_running(copy->vm);
}

gboolean copy_is_settled(const Copy *copy)
{
    return copy->settled;
}

LoadGuard *copy_guard(const Copy *copy)
{
    return copy->guard;
}

/* ---- Life ---- */

static gboolean on_check_timer(gpointer user_data)
{
    Copy *copy = user_data;
    if (copy->session != COPY_SESSION_DUE)
        copy->check_due = copy_look(copy).duty == COPY_PROTECT;
    copy_step(copy);
    return G_SOURCE_CONTINUE;
}

static gboolean is_delivered(gpointer user_data)
{
    const Copy *copy = user_data;
    return copy->handler->is_delivered(copy->user_data);
}

Copy *copy_new(const CopyHandler *handler, gpointer user_data)
{
    static const ToldHandler telling = {.has_room = on_has_room, .send = on_part, .done = on_told};
    Copy *copy = g_new0(Copy, 1);
    copy->handler = handler;
    copy->user_data = user_data;
    copy->told = told_new(&telling, copy);
    copy->settle = settle_new(is_delivered, copy_pause_settled, copy);
    copy->check_timer = g_timeout_add(CHECK_MS, on_check_timer, copy);
    return copy;
}

void copy_attach(Copy *copy, Vm *vm, DirtyTracker *tracker)
{
    copy->vm = vm;
    copy->tracker = tracker;
}

void copy_killed(Copy *copy)
{
    settle_end(copy->settle);
    copy_set_job(copy, COPY_NOTHING);
}

void copy_detach(Copy *copy)
{
    g_clear_pointer(&copy->guard, load_guard_free);
    copy->tracker = NULL;
    copy->vm = NULL;
}

void copy_free(Copy *copy)
{
    if (!copy)
        return;
    g_source_remove(copy->check_timer);
    copy_forget(copy);
    copy_detach(copy);
    told_free(copy->told);
    settle_free(copy->settle);
    g_free(copy);
}
