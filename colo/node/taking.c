/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/taking.h"

#include "common/patience.h"
#include "vm/vm.h"

/* How long until it is looked again for a sign of the primary. */
#define AGAIN_MS 20

struct Taking {
    const Config *config; /* borrowed */
    TakingHandler handler;
    gpointer user_data;
    FsmState state; /* the node's */
    guint timer;
    gboolean cancelled; /* before the arbiter's yes */
    char *refused;      /* the last reason in this takeover; NULL: none */
    gboolean is_final;  /* another try doesn't mend that: the time doesn't matter */
    char *why;          /* of the last one that failed */
};

static gboolean on_limit(gpointer user_data);

static void begin_limit(Taking *taking, guint64 limit_ms)
{
    g_clear_handle_id(&taking->timer, g_source_remove);
    taking->timer = patience_add((guint)MIN(limit_ms, G_MAXINT32), on_limit, taking);
}

/* Its VM is not given up for a primary that has perhaps died: that will be known soon. */
static void fail(Taking *taking)
{
    if (taking->state == FSM_S_TAKING && !taking->handler.is_there(taking->user_data))
        begin_limit(taking, AGAIN_MS);
    else
        taking->handler.event(FSM_HAND_OVER_FAILED, taking->user_data);
}

static gboolean on_limit(gpointer user_data)
{
    Taking *taking = user_data;
    taking->timer = 0;
    fail(taking);
    return G_SOURCE_REMOVE;
}

static guint64 limit_ms(const Taking *taking)
{
    return taking->state == FSM_S_TAKING    ? taking->config->disk_timeout_ms
           : taking->state == FSM_S_LEAVING ? TAKING_LEAVE_MS
                                            : 0;
}

static char *reason(const Taking *taking, FsmEvent event)
{
    if (event == FSM_SHUTDOWN)
        return g_strdup("the secondary ends");
    if (taking->cancelled && event == FSM_HAND_OVER_FAILED)
        return g_strdup("the switchover was cancelled");
    if (event == FSM_VM_LOST)
        return g_strdup(taking->refused ? taking->refused : "the secondary's VM is lost");
    if (taking->is_final)
        return g_strdup(taking->refused);
    if (taking->refused)
        return g_strdup_printf("not taken over in time: %s", taking->refused);
    return g_strdup_printf("not taken over in %" G_GUINT64_FORMAT " ms",
                           taking->config->disk_timeout_ms);
}

void taking_moved(Taking *taking, FsmState state, FsmEvent event)
{
    FsmState before = taking->state;
    if (state == before)
        return;
    taking->state = state;
    g_clear_handle_id(&taking->timer, g_source_remove);
    if (before == FSM_S_TAKING && (state == FSM_S_GIVING || state == FSM_S_LEAVING)) {
        g_free(taking->why);
        taking->why = reason(taking, event);
    }
    if (state == FSM_S_TAKING) {
        g_clear_pointer(&taking->refused, g_free);
        taking->is_final = FALSE;
    }
    taking->cancelled = state == FSM_S_TAKING && taking->handler.is_cancelled(taking->user_data);
    /* Not within the step that has just begun the takeover. */
    if (taking->cancelled)
        begin_limit(taking, 0);
    else if (limit_ms(taking) > 0)
        begin_limit(taking, limit_ms(taking));
}

void taking_refused(Taking *taking, const char *what, const GError *error, gboolean is_load)
{
    if (taking->state != FSM_S_TAKING)
        return;
    g_free(taking->refused);
    taking->refused = g_strdup_printf("%s: %s", what, error->message);
    taking->is_final = is_load || g_error_matches(error, VM_ERROR, VM_ERROR_SPENT);
    if (taking->is_final)
        fail(taking);
}

const char *taking_why(const Taking *taking)
{
    return taking->why ? taking->why : "it can't take over";
}

Taking *taking_new(const Config *config, const TakingHandler *handler, gpointer user_data)
{
    Taking *taking = g_new0(Taking, 1);
    taking->config = config;
    taking->handler = *handler;
    taking->user_data = user_data;
    taking->state = FSM_STATES;
    return taking;
}

void taking_free(Taking *taking)
{
    if (!taking)
        return;
    g_clear_handle_id(&taking->timer, g_source_remove);
    g_free(taking->refused);
    g_free(taking->why);
    g_free(taking);
}
