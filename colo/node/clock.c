/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's clock, which falls behind by what blocktime.h counts: it is set to this host's, by
 * the guest agent ([vm] guest-agent), when that sum has passed time-step since the last time, and
 * after a takeover.
 *
 *     due --> sync --answered--> set-time --answered--> set: in colo mode a checkpoint is asked for
 *      ^       |                    |
 *      '-- again in RETRY_MS -------'   or as soon as the guest's agent sends something
 *
 * Invariants: only a primary whose VM runs, whose output may leave and that is not about to be
 * paused is told the time, for the time is one of that moment. An agent that took long has perhaps
 * set an old one, and is told again; so is one that a dead host had told, after the takeover. A
 * secondary's agent is never asked; what it sends is dropped. A set-time is input that only the
 * primary's VM gets: until the next checkpoint the two differ by it, so that is asked for at once,
 * also when no answer has come. Nothing waits for any of it, and a guest without an agent costs
 * one unread line and one in the log.
 */
#include "colo/node/node_internal.h"
#include "common/log.h"

/* It may set the hardware's clock too before it answers. */
#define ANSWER_MS 5000
/* What was answered later may have been done as late, with a time that was over. */
#define LATE_MS 2000
/* After a failure; and a late answer doesn't shorten it to less than the second. */
#define RETRY_MS      10000
#define RETRY_LATE_MS 1000
/* Between two corrections: each may cost a checkpoint, whose pause is to be made up for again. */
#define GAP_MS 1000
/* How long the answer to a sync shows that the agent is there. */
#define SYNC_MS 1000

gboolean clock_is_due(const GuestClock *clock, gint64 total_us, guint64 step_ms)
{
    return step_ms > 0 &&
           (clock->taken_over || total_us - clock->made_up_us >= (gint64)step_ms * COLO_US_PER_MS);
}

gboolean clock_may_be_set(FsmState state, CyclePhase phase, gboolean runs)
{
    gboolean heard =
        state == FSM_P_NONE || state == FSM_P_SETUP || state == FSM_P_ACTIVE || state == FSM_P_COLO;
    return runs && heard && cycle_is_between_pauses(phase);
}

static void wait_until(Node *node, ColoTime from, gint64 ms)
{
    node->clock.not_before = colo_time_add_us(from, ms * COLO_US_PER_MS);
    g_source_set_ready_time(node->clock_timer, node->clock.not_before.us);
}

static void failed(Node *node, const GError *error)
{
    GuestClock *clock = &node->clock;
    clock->synced = FALSE;
    clock->failed = TRUE;
    clock->failed_at = colo_time_now();
    if (!clock->told)
        log_warning("the guest's clock can't be set: %s", error->message);
    clock->told = TRUE;
    wait_until(node, clock->failed_at, RETRY_MS);
}

/* Only the primary's VM was told the time. */
static void ask_for_checkpoint(Node *node)
{
    if (node->state != FSM_P_COLO || node->route != ROUTE_COMPARE)
        return;
    primary_want(node, REASON_ADMIN);
}

static void set_time(Node *node)
{
    GuestClock *clock = &node->clock;
    g_autoptr(GError) error = NULL;
    clock->synced = FALSE;
    clock->told_us = figures_blocktime(node->figures)->total_us;
    clock->told_at = colo_time_now();
    clock->setting = agent_set_time(clock->agent, g_get_real_time() * 1000, ANSWER_MS, &error);
    if (!clock->setting)
        failed(node, error);
}

static void step(Node *node)
{
    GuestClock *clock = &node->clock;
    g_autoptr(GError) error = NULL;
    ColoTime now = colo_time_now();
    if (!clock->agent || agent_is_busy(clock->agent) ||
        !clock_is_due(clock, figures_blocktime(node->figures)->total_us,
                      node->config->time_step_ms) ||
        !clock_may_be_set(node->state, node->cycle.phase, vm_is_running(node->vm)))
        return;
    if (colo_time_diff_us(clock->not_before, now) > 0)
        g_source_set_ready_time(node->clock_timer, clock->not_before.us);
    else if (clock->synced && colo_time_diff_us(now, clock->synced_at) < SYNC_MS * COLO_US_PER_MS)
        set_time(node);
    else if (!agent_sync(clock->agent, ANSWER_MS, &error))
        failed(node, error);
}

static void on_synced(Node *node)
{
    node->clock.synced = TRUE;
    node->clock.synced_at = colo_time_now();
    step(node);
}

static void on_set(Node *node)
{
    GuestClock *clock = &node->clock;
    gint64 took_us = colo_time_diff_us(colo_time_now(), clock->told_at);
    if (took_us >= LATE_MS * COLO_US_PER_MS) {
        g_autoptr(GError) late = g_error_new(
            AGENT_ERROR, AGENT_ERROR_NO_ANSWER,
            "the guest agent took %.1f s, so the time that it was given may be out of date",
            (double)took_us / G_USEC_PER_SEC);
        failed(node, late);
        return;
    }
    log_debug("the guest's clock has been set, after a pause of %" G_GINT64_FORMAT " ms%s",
              (clock->told_us - clock->made_up_us) / COLO_US_PER_MS,
              clock->taken_over ? " here, and a takeover" : "");
    clock->corrections++;
    clock->made_up_us = clock->told_us;
    clock->taken_over = clock->failed = clock->told = FALSE;
    wait_until(node, colo_time_now(), GAP_MS);
}

static void on_done(const GError *error, gpointer user_data)
{
    Node *node = user_data;
    gboolean was_set = node->clock.setting;
    node->clock.setting = FALSE;
    if (was_set)
        ask_for_checkpoint(node);
    if (error)
        failed(node, error);
    else if (was_set)
        on_set(node);
    else
        on_synced(node);
}

static void on_late(gpointer user_data)
{
    Node *node = user_data;
    if (node->clock.failed)
        wait_until(node, node->clock.failed_at, RETRY_LATE_MS);
}

static gboolean runs(gpointer user_data)
{
    const Node *node = user_data;
    return vm_stays_running(node->vm);
}

static gboolean on_timer(gpointer user_data)
{
    Node *node = user_data;
    g_source_set_ready_time(node->clock_timer, -1);
    step(node);
    return G_SOURCE_CONTINUE;
}

void clock_look(Node *node)
{
    /* From the main loop, not from within whatever has changed a fact. */
    if (node->clock.agent)
        g_source_set_ready_time(node->clock_timer, 0);
}

void clock_taken_over(Node *node)
{
    node->clock.taken_over = TRUE;
    clock_look(node);
}

void clock_attach(Node *node)
{
    static const AgentHandler handler = {.done = on_done, .late = on_late, .runs = runs};
    int fd = vm_agent_fd(node->vm);
    if (fd >= 0)
        node->clock.agent = agent_new(fd, &handler, node);
}

void clock_forget(Node *node)
{
    agent_free(node->clock.agent);
    node->clock = (GuestClock){0};
    g_source_set_ready_time(node->clock_timer, -1);
}

void clock_init(Node *node)
{
    node->clock_timer = node_timer_new(on_timer, node);
}

void clock_finalise(Node *node)
{
    g_source_destroy(node->clock_timer);
    g_source_unref(node->clock_timer);
}
