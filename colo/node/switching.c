/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The node's side of its switchover (switchover.h): what that knows of the other parts, what it has
 * them do, and the commands for it.
 */
#include "colo/node/node_internal.h"

/* ---- What it asks for ---- */

/* Of the secondary; what each of them means is in switchover-rules.h. */
static guint parts_pending(const Node *node)
{
    CopyCondition condition = copy_condition(node->copy);
    /* It is paused while it prepares itself for a checkpoint, and could continue then, too. */
    gboolean ready =
        condition == COPY_STANDBY || condition == COPY_PAUSED || condition == COPY_RUNNING;
    gboolean in_step = disks_are_at(node->disks, epoch_some(node->epoch)) &&
                       !disks_are_applying(node->disks) && !disks_are_unsynced(node->disks);
    guint pending = 0;
    if (!ready)
        pending |= SWITCHOVER_PART_CHECKPOINT;
    if (!in_step)
        pending |= SWITCHOVER_PART_DISKS;
    if (copy_is_late(node->copy))
        pending |= SWITCHOVER_PART_VM;
    for (guint i = 0; i < cards_count(node->cards); i++)
        if (!uplinks_is_in_place(node->uplinks, i, uplink_ifname(cards_uplink(node->cards, i))))
            pending |= SWITCHOVER_PART_UPLINK;
    if (!claim_approves(node->claim))
        pending |= SWITCHOVER_PART_ARBITER;
    return pending;
}

static SwitchoverLoad load(const Node *node)
{
    return (SwitchoverLoad){.left_bytes = primary_dirty_pages(node->primary) * VM_PAGE_SIZE,
                            .bytes_per_s = figures_bytes_per_s(node->figures),
                            .pause_us = figures_stood_us(node->figures),
                            .apply_us = figures_land_us(node->figures)};
}

gint64 switching_expected_us(const Node *node)
{
    SwitchoverLoad now = load(node);
    return node->state == FSM_P_COLO ? switchover_expected_us(&now) : -1;
}

static SwitchoverWorld on_look(gpointer user_data)
{
    const Node *node = user_data;
    const Vm *vm = machine_vm(node->machine);
    SwitchoverWorld world = {.state = node->state,
                             .epoch = node->epoch,
                             .vm_runs = vm && vm_is_running(vm),
                             .ends =
                                 final_has_begun(node->final) || leave_is_under_way(node->leave),
                             .copy_is_fit = judge_copy_is_fit(node->judge)};
    if (node->state == FSM_S_COLO)
        world.pending = parts_pending(node);
    if (!fsm_is_primary(node->state))
        return world;
    world.load = load(node);
    world.is_busy =
        primary_phase(node->primary) != CYCLE_IDLE || primary_wants(node->primary, REASON_ADMIN);
    world.is_loading = judge_peer_vm(node->judge) == PEER_VM_LOADS;
    world.is_refused = !world.vm_runs && resume_refusal(node->resume) != NULL;
    return world;
}

/* ---- What it has done ---- */

static void on_send(const Message *message, gpointer user_data)
{
    const Node *node = user_data;
    message_send(node->link, message);
}

static void on_watch(gboolean begins, gpointer user_data)
{
    const Node *node = user_data;
    if (begins)
        claim_want_approval(node->claim);
    else
        claim_end_approval(node->claim);
}

static void on_ahead(gpointer user_data)
{
    const Node *node = user_data;
    primary_want(node->primary, REASON_ADMIN);
}

static void on_plan(gpointer user_data)
{
    const Node *node = user_data;
    primary_plan(node->primary);
}

static void on_unplan(gpointer user_data)
{
    const Node *node = user_data;
    primary_unplan(node->primary);
}

static void on_event(FsmEvent event, gpointer user_data)
{
    node_event(user_data, event);
}

static void on_changed(gpointer user_data)
{
    Node *node = user_data;
    node_emit(node, "SWITCHOVER", switchover_describe_change(node->switchover));
}

/* ---- Commands ---- */

static void fail(ControlRequest *request, GError *error)
{
    control_fail(request, error);
    g_error_free(error);
}

void do_switchover(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    const Node *node = user_data;
    GError *error = NULL;
    guint32 id;
    gboolean pause = json_object_get_boolean(json_object_object_get(arguments, "pause"));
    if (!switchover_begin(node->switchover, pause, &id, &error)) {
        fail(request, error);
        return;
    }
    json_object *result = json_object_new_object();
    json_object_object_add(result, "id", json_object_new_int64(id));
    control_reply(request, result);
}

void do_continue(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    const Node *node = user_data;
    GError *error = NULL;
    json_object *state = json_object_object_get(arguments, "state");
    if (switchover_continue(node->switchover, state ? json_object_get_string(state) : NULL, &error))
        control_reply(request, NULL);
    else
        fail(request, error);
}

void do_cancel(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    const Node *node = user_data;
    (void)arguments;
    switchover_cancel(node->switchover);
    control_reply(request, NULL);
}

void do_query_switchover(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    const Node *node = user_data;
    (void)arguments;
    control_reply(request, switchover_describe(node->switchover));
}

/* ---- Life ---- */

void switching_init(Node *node)
{
    static const SwitchoverHandler handler = {.look = on_look,
                                              .send = on_send,
                                              .watch = on_watch,
                                              .ahead = on_ahead,
                                              .plan = on_plan,
                                              .unplan = on_unplan,
                                              .event = on_event,
                                              .changed = on_changed};
    node->switchover = switchover_new(node->config, &handler, node);
}
