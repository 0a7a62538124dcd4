/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The node's smaller parts, made and connected. What each of them asks for is looked up here, and
 * what it reports goes to the others from here. So none of them knows another one, nor the node.
 */
#include "colo/node/events.h"
#include "colo/node/node_internal.h"
#include "common/log.h"

/* ---- What several of them ask for and report ---- */

static FsmState on_state(gpointer user_data)
{
    const Node *node = user_data;
    return node->state;
}

static void on_hand_over(gpointer user_data)
{
    node_event(user_data, FSM_YIELD);
}

static void on_event(FsmEvent event, gpointer user_data)
{
    node_event(user_data, event);
}

static void on_trouble(const char *what, const GError *error, gpointer user_data)
{
    node_report(user_data, what, error);
}

static void on_lost(const char *what, const GError *error, gpointer user_data)
{
    node_vm_lost(user_data, what, error);
}

/* ---- Announcements ---- */

AnnounceRight parts_announce_right(const Node *node)
{
    return announce_right(node->state, node->state == FSM_P_COLO && link_is_fresh(node->link));
}

static AnnounceRight on_announce_look(gpointer user_data)
{
    return parts_announce_right(user_data);
}

static void on_volley(gpointer user_data)
{
    const Node *node = user_data;
    cards_announce(node->cards);
}

static void on_elsewhere(unsigned nic, gpointer user_data)
{
    Node *node = user_data;
    const ConfigNic *card = g_ptr_array_index(node->config->nics, nic);
    log_warning("nic %s: a frame with the guest's address came from the network: another host has "
                "sent as the guest, or uses its address; announcing the guest again",
                card->name);
    json_object *data = json_object_new_object();
    json_object_object_add(data, "nic", json_object_new_string(card->name));
    node_emit(node, "ADDRESS_ELSEWHERE", data);
}

static void make_announce(Node *node)
{
    static const AnnounceHandler handler = {
        .look = on_announce_look, .volley = on_volley, .elsewhere = on_elsewhere};
    node->announce = announce_new(node->config, &handler, node);
}

/* ---- Uplinks ---- */

static UplinksWorld on_uplinks_look(gpointer user_data)
{
    const Node *node = user_data;
    return (UplinksWorld){.state = node->state, .copy_is_fit = judge_copy_is_fit(node->judge)};
}

static void on_send_cut(guint64 cut, gpointer user_data)
{
    const Node *node = user_data;
    message_send(node->link, &(Message){.type = LINK_MSG_CARRIER, .cut = cut});
}

static void on_carrier_changed(guint nic, gboolean has_carrier, gpointer user_data)
{
    Node *node = user_data;
    const ConfigNic *card = g_ptr_array_index(node->config->nics, nic);
    json_object *data = json_object_new_object();
    json_object_object_add(data, "nic", json_object_new_string(card->name));
    json_object_object_add(data, "carrier", json_object_new_boolean(has_carrier));
    node_emit(node, "CARRIER_CHANGED", data);
}

static void on_plugged_in(gpointer user_data)
{
    Node *node = user_data;
    announce_when_possible(node->announce);
}

static const char *on_tap(guint card, gpointer user_data)
{
    const Node *node = user_data;
    return uplink_ifname(cards_uplink(node->cards, card));
}

static gboolean make_uplinks(Node *node, GError **error)
{
    static const UplinksHandler handler = {.look = on_uplinks_look,
                                           .tap = on_tap,
                                           .send = on_send_cut,
                                           .changed = on_carrier_changed,
                                           .plugged_in = on_plugged_in,
                                           .hand_over = on_hand_over};
    node->uplinks = uplinks_new(node->config, &handler, node, error);
    return node->uplinks != NULL;
}

/* ---- QEMU's own memory ---- */

static guint64 on_measure(gpointer user_data)
{
    const Node *node = user_data;
    return machine_vm(node->machine) ? vm_private_bytes(machine_vm(node->machine)) : 0;
}

/*
 * A side whose end is expected has only the secondary to run the VM. A side that may have lost the
 * arbiter's yes to the secondary may not continue without it.
 */
static gboolean on_may_do_without(gpointer user_data)
{
    const Node *node = user_data;
    return !machine_ending_sign(node->machine) && !primary_is_doubted(node->primary);
}

static void on_send_leave(gpointer user_data)
{
    const Node *node = user_data;
    message_send(node->link, &(Message){.type = LINK_MSG_LEAVE});
}

static void on_recycle(gpointer user_data)
{
    node_event(user_data, FSM_RECYCLE);
}

static void make_memory(Node *node)
{
    static const MemoryHandler handler = {.state = on_state,
                                          .measure = on_measure,
                                          .may_do_without = on_may_do_without,
                                          .leave = on_send_leave,
                                          .recycle = on_recycle};
    node->memory = memory_new(node->config, &handler, node);
}

/* ---- The guest's clock ---- */

static GuestClockWorld on_clock_look(gpointer user_data)
{
    const Node *node = user_data;
    return (GuestClockWorld){.state = node->state,
                             .phase = primary_phase(node->primary),
                             .runs = machine_vm(node->machine) &&
                                     vm_is_running(machine_vm(node->machine)),
                             .behind_us = figures_blocktime(node->figures)->total_us};
}

static gboolean on_stays_running(gpointer user_data)
{
    const Node *node = user_data;
    return vm_stays_running(machine_vm(node->machine));
}

/* Only the primary's VM was. */
static void on_clock_told(gpointer user_data)
{
    Node *node = user_data;
    if (node->state == FSM_P_COLO && traffic_route(node->traffic) == ROUTE_COMPARE)
        primary_want(node->primary, REASON_ADMIN);
}

static void make_clock(Node *node)
{
    static const GuestClockHandler handler = {
        .look = on_clock_look, .stays_running = on_stays_running, .told = on_clock_told};
    node->clock = clock_new(node->config, &handler, node);
}

/* ---- SIGTERM ---- */

static gboolean on_is_handed(gpointer user_data)
{
    const Node *node = user_data;
    return node->state == FSM_P_HANDED || claim_was_handed(node->claim);
}

static void on_end(gpointer user_data)
{
    node_shut_down(user_data);
}

static void make_leave(Node *node)
{
    static const LeaveHandler handler = {
        .state = on_state, .is_handed = on_is_handed, .hand_over = on_hand_over, .end = on_end};
    node->leave = leave_new(&handler, node);
}

/* ---- A hand-over that doesn't come to its end here ---- */

static gboolean on_is_there(gpointer user_data)
{
    const Node *node = user_data;
    return link_is_up(node->link) && link_is_fresh(node->link);
}

static gboolean on_is_cancelled(gpointer user_data)
{
    const Node *node = user_data;
    return switchover_is_cancelled(node->switchover);
}

static void make_taking(Node *node)
{
    static const TakingHandler handler = {
        .event = on_event, .is_there = on_is_there, .is_cancelled = on_is_cancelled};
    node->taking = taking_new(node->config, &handler, node);
}

/* ---- Trouble ---- */

void parts_peer_reports(Node *node, const char *text)
{
    trouble_received(node->trouble, node->peer_name ? node->peer_name : "the peer", text);
}

static void on_happened(const char *text, gpointer user_data)
{
    Node *node = user_data;
    if (node->link)
        message_send(node->link, &(Message){.type = LINK_MSG_TROUBLE, .text = text});
    json_object *data = json_object_new_object();
    json_object_object_add(data, "text", json_object_new_string(text));
    node_emit(node, "ERROR", data);
}

static void on_peer_trouble(const char *peer, const char *text, gpointer user_data)
{
    json_object *data = json_object_new_object();
    json_object_object_add(data, "peer", json_object_new_string(peer));
    json_object_object_add(data, "text", json_object_new_string(text));
    node_emit(user_data, "PEER_ERROR", data);
}

static void make_trouble(Node *node)
{
    static const TroubleHandler handler = {.happened = on_happened, .reported = on_peer_trouble};
    node->trouble = trouble_new(&handler, node);
}

/* ---- The ordered end ---- */

static FinalWorld on_final_look(gpointer user_data)
{
    const Node *node = user_data;
    return (FinalWorld){
        .state = node->state, .has_disks = disks_are_there(node->disks), .epoch = node->epoch};
}

static void on_final_pause(gpointer user_data)
{
    const Node *node = user_data;
    primary_pause(node->primary);
}

static void on_mark_made(guint64 epoch, const GError *error, gpointer user_data)
{
    const Node *node = user_data;
    final_mark_made(node->final, epoch, error);
}

static void on_final_mark(guint64 epoch, gpointer user_data)
{
    const Node *node = user_data;
    disks_mark(node->disks, epoch, on_mark_made);
}

static void on_final_announce(guint64 epoch, gpointer user_data)
{
    Node *node = user_data;
    node_set_epoch(node, epoch, FALSE);
    message_send(node->link, &(Message){.type = LINK_MSG_FINAL, .epoch = epoch});
}

static void on_durable(json_object *result, const GError *error, gpointer user_data)
{
    const Node *node = user_data;
    (void)result;
    final_durable(node->final, error);
}

static void on_final_finish(guint64 epoch, gpointer user_data)
{
    const Node *node = user_data;
    json_object *arguments = json_object_new_object();
    json_object_object_add(arguments, "epoch", json_object_new_uint64(epoch));
    disks_order(node->disks, "finish", arguments, on_durable);
}

static void on_final_finished(guint64 epoch, const GError *error, gpointer user_data)
{
    const Node *node = user_data;
    if (error)
        message_send(node->link, &(Message){.type = LINK_MSG_FAILED, .text = error->message});
    else
        message_send(node->link, &(Message){.type = LINK_MSG_FINISHED, .epoch = epoch});
}

static void make_final(Node *node)
{
    static const FinalHandler handler = {.look = on_final_look,
                                         .event = on_event,
                                         .trouble = on_trouble,
                                         .pause = on_final_pause,
                                         .mark = on_final_mark,
                                         .announce = on_final_announce,
                                         .finish = on_final_finish,
                                         .finished = on_final_finished};
    node->final = final_new(&handler, node);
}

/* ---- What the disks hold ---- */

static gboolean on_has_disks(gpointer user_data)
{
    const Node *node = user_data;
    return disks_are_there(node->disks);
}

static void on_held(const Generation *generation, gpointer user_data)
{
    Node *node = user_data;
    gboolean is_secondary = node->state == FSM_S_STARTING;
    claim_start(node->claim, generation);
    if (is_secondary)
        node_vm_start(node);
}

static void on_started_writing(json_object *result, const GError *error, gpointer user_data)
{
    const Node *node = user_data;
    holdings_started(node->holdings, result, error);
}

static void on_writing_alone(json_object *result, const GError *error, gpointer user_data)
{
    const Node *node = user_data;
    holdings_written(node->holdings, result, error);
}

static void on_write_alone(gboolean starts, gpointer user_data)
{
    const Node *node = user_data;
    /* Else when they are (vm.c). */
    if (starts || disks_images_are_active(node->disks))
        disks_order(node->disks, "write-alone", NULL,
                    starts ? on_started_writing : on_writing_alone);
}

static void on_may_run(gpointer user_data)
{
    const Node *node = user_data;
    primary_may_run(node->primary);
}

static void on_generation_changed(guint64 generation, gpointer user_data)
{
    const Node *node = user_data;
    claim_set_generation(node->claim, generation);
}

static void make_holdings(Node *node)
{
    static const HoldingsHandler handler = {.state = on_state,
                                            .has_disks = on_has_disks,
                                            .claim = on_held,
                                            .lost = on_lost,
                                            .trouble = on_trouble,
                                            .write_alone = on_write_alone,
                                            .runs = on_may_run,
                                            .changed = on_generation_changed};
    node->holdings = holdings_new(node->config, &handler, node);
}

/* ---- The way back to a running VM ---- */

static ResumeWorld on_resume_look(gpointer user_data)
{
    const Node *node = user_data;
    return (ResumeWorld){.state = node->state,
                         .copy_is_fit = judge_copy_is_fit(node->judge),
                         .is_unsynced = disks_are_unsynced(node->disks),
                         .still_runs =
                             machine_vm(node->machine) && vm_is_running(machine_vm(node->machine)),
                         .images_given_up = !disks_images_are_active(node->disks),
                         .peer_name = node->peer_name,
                         .step = node_vm_waits_for(node)};
}

static gboolean on_activate(gpointer user_data)
{
    const Node *node = user_data;
    gboolean takes_over = fsm_is_taking_over(node->state);
    return disks_activate(node->disks, takes_over ? copy_epoch(node->copy) : EPOCH_NONE);
}

/* In a takeover, this node's next process has to know of it first. */
static gboolean on_may_be_heard(gpointer user_data)
{
    const Node *node = user_data;
    return !fsm_is_taking_over(node->state) || claim_take(node->claim);
}

/* Its output may leave now, or when it runs: from its own disks; or, without, as svm.c finishes. */
void parts_leave_stopped(Node *node)
{
    if (!fsm_is_taking_over(node->state) || traffic_route(node->traffic) == ROUTE_OPEN)
        return;
    claim_begin_take(node->claim);
    if (!claim_holds_output(node->claim))
        holdings_taken_over(node->holdings);
    secondary_release_output(node);
}

void parts_run_vm(Node *node, VmDone done, gpointer user_data)
{
    parts_leave_stopped(node);
    vm_resume(machine_vm(node->machine), done, user_data);
}

static void on_ran(Vm *vm, const GError *error, gpointer user_data)
{
    const Node *node = user_data;
    (void)vm;
    resume_ran(node->resume, error);
}

static void on_run(gpointer user_data)
{
    parts_run_vm(user_data, on_ran, user_data);
}

static void on_leave_stopped(gpointer user_data)
{
    parts_leave_stopped(user_data);
}

static void on_not_resumed(gpointer user_data)
{
    const Node *node = user_data;
    disks_vm_paused(node->disks);
}

static void on_refused(gpointer user_data)
{
    const Node *node = user_data;
    primary_stay_paused(node->primary);
}

static void on_step_copy(gpointer user_data)
{
    Node *node = user_data;
    copy_step(node->copy);
}

static void on_continue_guest(gpointer user_data)
{
    const Node *node = user_data;
    primary_continue(node->primary);
}

static void on_guest_stopped(const char *by, gpointer user_data)
{
    json_object *data = json_object_new_object();
    json_object_object_add(data, "by", json_object_new_string(by));
    node_emit(user_data, "GUEST_STOPPED", data);
}

static void on_guest_resumed(gpointer user_data)
{
    node_emit(user_data, "GUEST_RESUMED", NULL);
}

static void make_resume(Node *node)
{
    static const ResumeHandler handler = {.look = on_resume_look,
                                          .activate = on_activate,
                                          .run = on_run,
                                          .leave_stopped = on_leave_stopped,
                                          .may_be_heard = on_may_be_heard,
                                          .not_resumed = on_not_resumed,
                                          .refused = on_refused,
                                          .step_copy = on_step_copy,
                                          .continue_guest = on_continue_guest,
                                          .hand_over = on_hand_over,
                                          .trouble = on_trouble,
                                          .guest_stopped = on_guest_stopped,
                                          .guest_resumed = on_guest_resumed};
    node->resume = resume_new(node->config, &handler, node);
}

/* ---- A secondary without progress ---- */

static AnsweringWorld on_answering_look(gpointer user_data)
{
    const Node *node = user_data;
    return (AnsweringWorld){.state = node->state,
                            .phase = primary_phase(node->primary),
                            .tells = primary_awaits_base(node->primary),
                            .loads = primary_proof(node->primary) == PROOF_LOAD,
                            .has_disks = disks_are_there(node->disks),
                            .writes_wait = disks_writes_wait(node->disks),
                            .stream = link_checkpoint_fd(node->link),
                            .disks = link_disks_fd(node->link),
                            .epoch = node->epoch};
}

static void on_unfit(const GError *error, gboolean was_protected, gpointer user_data)
{
    Node *node = user_data;
    if (was_protected)
        message_send(node->link, &(Message){.type = LINK_MSG_UNFIT, .text = error->message});
    node_link_lost(node,
                   was_protected ? "the secondary is connected but unfit; it has been notified"
                                 : "the secondary is connected but doesn't answer",
                   error);
}

static void make_answering(Node *node)
{
    static const AnsweringHandler handler = {.look = on_answering_look, .unfit = on_unfit};
    node->answering = answering_new(node->config, &handler, node);
}

void parts_unfit(Node *node, const char *why)
{
    g_autoptr(GError) error = g_error_new_literal(NODE_ERROR, NODE_ERROR_LOAD, why);
    figures_primary_lost(node->figures, FIGURES_LOST);
    node_report(node, "the primary continues without this side, which is unfit", error);
    if (events_unfit(copy_is_valid(node->copy)) == FSM_INVALID) {
        node_event(node, FSM_INVALID);
        return;
    }
    node_event(node, FSM_UNFIT);
    claim_leave(node->claim);
    copy_step(node->copy);
}

/* ---- Life ---- */

void parts_init(Node *node)
{
    node->figures = figures_new();
    make_trouble(node);
    make_announce(node);
    make_memory(node);
    make_clock(node);
    make_leave(node);
    make_taking(node);
    make_final(node);
    make_holdings(node);
    make_resume(node);
    make_answering(node);
}

gboolean parts_begin(Node *node, GError **error)
{
    return make_uplinks(node, error);
}

void parts_finalise(Node *node)
{
    uplinks_free(node->uplinks);
    answering_free(node->answering);
    resume_free(node->resume);
    holdings_free(node->holdings);
    final_free(node->final);
    taking_free(node->taking);
    leave_free(node->leave);
    clock_free(node->clock);
    memory_free(node->memory);
    announce_free(node->announce);
    trouble_free(node->trouble);
    figures_free(node->figures);
}
