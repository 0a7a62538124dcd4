/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's clock, which falls behind by what blocktime.h counts. The guest agent ([vm]
 * guest-agent) sets it to this host's clock. It does so after a takeover, and when that sum has
 * passed time-step since the last time.
 *
 *     due --> sync --answered--> set-time --answered--> set: in colo mode a checkpoint is asked for
 *      ^       |                    |
 *      '-- again in RETRY_MS -------'   or as soon as the guest's agent sends something
 *
 * Invariants: only a primary's VM is told the time, and only while it runs, its output may leave
 * and it is not about to be paused. The time is one of that moment. An agent that took long has
 * perhaps set an old time, and is told again. So is one that a dead host had told, after the
 * takeover. A secondary's agent is never asked; what it sends is dropped. A set-time is input that
 * only the primary's VM gets: until the next checkpoint the two VMs differ by it. So a checkpoint
 * is asked for at once, also when no answer has come. Nothing waits for any of it. A guest without
 * an agent costs one unread line and one in the log.
 */
#include "colo/node/clock.h"

#include "common/clock.h"
#include "common/log.h"
#include "common/timer.h"
#include "vm/agent.h"

#include <string.h>

/* It may set the hardware's clock too before it answers. */
#define ANSWER_MS 5000
/* If the answer came later, the clock may have been set as late, to a time that was over. */
#define LATE_MS 2000
/* After a failure; and a late answer doesn't shorten it to less than the second. */
#define RETRY_MS      10000
#define RETRY_LATE_MS 1000
/* Between two corrections: each may cost a checkpoint, whose pause is to be made up for again. */
#define GAP_MS 1000
/* How long the answer to a sync shows that the agent is there. */
#define SYNC_MS 1000

struct GuestClock {
    const Config *config; /* borrowed */
    GuestClockHandler handler;
    gpointer user_data;
    GSource *timer;
    Agent *agent; /* as long as the VM; NULL: it has no port for one */

    /* Of this VM. */
    struct {
        gboolean taken_over; /* it has not been set since */
        gint64 made_up_us;   /* of what it was behind: the sum when it was set last */
        gint64 told_us;      /* the same for the set-time under way */
        gboolean setting;    /* a set-time is under way */
        gboolean synced;     /* the agent has answered, at synced_at */
        gboolean failed;     /* the last try, at failed_at */
        gboolean told;       /* and that was logged */
        ColoTime synced_at, told_at, failed_at, not_before;
        guint64 corrections;
    } set;
};

gboolean clock_is_due(gboolean taken_over, gint64 not_made_up_us, guint64 step_ms)
{
    return step_ms > 0 && (taken_over || not_made_up_us >= (gint64)step_ms * COLO_US_PER_MS);
}

gboolean clock_may_be_set(FsmState state, CyclePhase phase, gboolean runs)
{
    gboolean is_released =
        state == FSM_P_NONE || state == FSM_P_SETUP || state == FSM_P_ACTIVE || state == FSM_P_COLO;
    return runs && is_released && cycle_is_between_pauses(phase);
}

static void wait_until(GuestClock *clock, ColoTime from, gint64 ms)
{
    clock->set.not_before = colo_time_add_us(from, ms * COLO_US_PER_MS);
    colo_timer_set_us(clock->timer, clock->set.not_before.us);
}

static void failed(GuestClock *clock, const GError *error)
{
    clock->set.synced = FALSE;
    clock->set.failed = TRUE;
    clock->set.failed_at = colo_time_now();
    if (!clock->set.told)
        log_warning("the guest's clock can't be set: %s", error->message);
    clock->set.told = TRUE;
    wait_until(clock, clock->set.failed_at, RETRY_MS);
}

static GuestClockWorld look(const GuestClock *clock)
{
    return clock->handler.look(clock->user_data);
}

static void set_time(GuestClock *clock)
{
    g_autoptr(GError) error = NULL;
    clock->set.synced = FALSE;
    clock->set.told_us = look(clock).behind_us;
    clock->set.told_at = colo_time_now();
    clock->set.setting = agent_set_time(clock->agent, g_get_real_time() * 1000, ANSWER_MS, &error);
    if (!clock->set.setting)
        failed(clock, error);
}

static void step(GuestClock *clock)
{
    g_autoptr(GError) error = NULL;
    ColoTime now = colo_time_now();
    GuestClockWorld world = look(clock);
    gint64 not_made_up_us = world.behind_us - clock->set.made_up_us;
    if (!clock->agent || agent_is_busy(clock->agent) ||
        !clock_is_due(clock->set.taken_over, not_made_up_us, clock->config->time_step_ms) ||
        !clock_may_be_set(world.state, world.phase, world.runs))
        return;
    if (colo_time_diff_us(clock->set.not_before, now) > 0)
        colo_timer_set_us(clock->timer, clock->set.not_before.us);
    else if (clock->set.synced &&
             colo_time_diff_us(now, clock->set.synced_at) < SYNC_MS * COLO_US_PER_MS)
        set_time(clock);
    else if (!agent_sync(clock->agent, ANSWER_MS, &error))
        failed(clock, error);
}

static void on_synced(GuestClock *clock)
{
    clock->set.synced = TRUE;
    clock->set.synced_at = colo_time_now();
    step(clock);
}

static void on_set(GuestClock *clock)
{
    gint64 took_us = colo_time_diff_us(colo_time_now(), clock->set.told_at);
    if (took_us >= LATE_MS * COLO_US_PER_MS) {
        g_autoptr(GError) late = g_error_new(
            AGENT_ERROR, AGENT_ERROR_NO_ANSWER,
            "the guest agent took %.1f s, so the time that it was given may be out of date",
            (double)took_us / G_USEC_PER_SEC);
        failed(clock, late);
        return;
    }
    log_debug("the guest's clock has been set, after a pause of %" G_GINT64_FORMAT " ms%s",
              (clock->set.told_us - clock->set.made_up_us) / COLO_US_PER_MS,
              clock->set.taken_over ? " here, and a takeover" : "");
    clock->set.corrections++;
    clock->set.made_up_us = clock->set.told_us;
    clock->set.taken_over = clock->set.failed = clock->set.told = FALSE;
    wait_until(clock, colo_time_now(), GAP_MS);
}

static void on_done(const GError *error, gpointer user_data)
{
    GuestClock *clock = user_data;
    gboolean was_set = clock->set.setting;
    clock->set.setting = FALSE;
    if (was_set)
        clock->handler.told(clock->user_data);
    if (error)
        failed(clock, error);
    else if (was_set)
        on_set(clock);
    else
        on_synced(clock);
}

static void on_late(gpointer user_data)
{
    GuestClock *clock = user_data;
    if (clock->set.failed)
        wait_until(clock, clock->set.failed_at, RETRY_LATE_MS);
}

static gboolean runs(gpointer user_data)
{
    const GuestClock *clock = user_data;
    return clock->handler.stays_running(clock->user_data);
}

static gboolean on_timer(gpointer user_data)
{
    GuestClock *clock = user_data;
    colo_timer_set_us(clock->timer, -1);
    step(clock);
    return G_SOURCE_CONTINUE;
}

void clock_look(GuestClock *clock)
{
    /* From the main loop, not from within whatever has changed a fact. */
    if (clock->agent)
        colo_timer_set_us(clock->timer, 0);
}

void clock_taken_over(GuestClock *clock)
{
    clock->set.taken_over = TRUE;
    clock_look(clock);
}

void clock_attach(GuestClock *clock, int fd)
{
    static const AgentHandler handler = {.done = on_done, .late = on_late, .runs = runs};
    if (fd >= 0)
        clock->agent = agent_new(fd, &handler, clock);
}

void clock_forget(GuestClock *clock)
{
    g_clear_pointer(&clock->agent, agent_free);
    memset(&clock->set, 0, sizeof(clock->set));
    colo_timer_set_us(clock->timer, -1);
}

gboolean clock_is_unread(const GuestClock *clock)
{
    return clock->agent && agent_is_unread(clock->agent);
}

gboolean clock_has_agent(const GuestClock *clock)
{
    return clock->agent != NULL;
}

gboolean clock_has_failed(const GuestClock *clock)
{
    return clock->set.failed;
}

gboolean clock_is_synced(const GuestClock *clock)
{
    return clock->set.synced;
}

guint64 clock_corrections(const GuestClock *clock)
{
    return clock->set.corrections;
}

GuestClock *clock_new(const Config *config, const GuestClockHandler *handler, gpointer user_data)
{
    GuestClock *clock = g_new0(GuestClock, 1);
    clock->config = config;
    clock->handler = *handler;
    clock->user_data = user_data;
    clock->timer = colo_timer_new(on_timer, clock);
    return clock;
}

void clock_free(GuestClock *clock)
{
    if (!clock)
        return;
    clock_forget(clock);
    g_source_destroy(clock->timer);
    g_source_unref(clock->timer);
    g_free(clock);
}
