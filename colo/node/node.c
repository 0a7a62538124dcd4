/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The node's state, and the mediation between its parts.
 *
 * Theory of operation. A node is a state (fsm.h), a role and an epoch, and parts that do the work.
 * A part is opaque. It asks for facts and reports by a handler, and knows neither the node nor
 * another part. Only the files that include node_internal.h know all of them. Each answers and
 * connects some parts (the list is there), and has no state, timer or queue of its own.
 *
 * How an event travels. The connection of a protected pair breaks:
 *
 *   link.c      the link reports it: node_link_lost() remembers why, and feeds FSM_LINK_DOWN
 *   node.c      node_event() asks fsm_step(colo, link-down): next state `paused`, and three actions
 *               set_state() changes the state, logs it, and tells the parts that follow it
 *               carry_out() calls what the actions name, in the order of FsmAction: the capture
 *               ends, the link is closed, and the claim asks the arbiter
 *   claim.c     asks in a thread; when the answer is there, its handler reports FSM_GRANTED
 *   node.c      node_event() again: next state `none`; traffic releases what it has held, and the
 *               link looks for a secondary
 *
 * So whatever a node does begins in the main loop, in a part that has noticed something. It reports
 * a fact to a connecting file. Either that tells other parts, or it changes the state, and then the
 * table says what follows. A part's functions may report from within: its header says so.
 *
 * Always holds. Every change of state goes through set_state(), called by node_event() only. What
 * follows from it is carried out in the order of FsmAction. Some actions may feed an event from
 * within: the link breaks at once, or a secondary has nothing to ask for. Those are the last of
 * their steps (the table's test checks that), so nothing is carried out in a state that has gone.
 * The guest's output goes a way that fits the state (route_fits()), after each event.
 */
#include "colo/node/node.h"

#include "colo/node/events.h"
#include "colo/node/node_internal.h"
#include "common/fd.h"
#include "common/log.h"

#include <string.h>

G_DEFINE_QUARK(node_error, node_error)

const char *node_role(const Node *node)
{
    return node->is_primary ? "primary" : "secondary";
}

void node_set_epoch(Node *node, guint64 epoch, gboolean is_first)
{
    g_assert(is_first || epoch >= node->epoch);
    node->epoch = epoch;
    log_set_epoch(epoch);
}

void node_emit(Node *node, const char *name, json_object *data)
{
    if (node->control)
        control_event(node->control, name, data);
    else if (data)
        json_object_put(data);
}

void node_emit_stalled(Node *node, const char *why)
{
    json_object *data = json_object_new_object();
    json_object_object_add(data, "why", json_object_new_string(why));
    node_emit(node, "STALLED", data);
}

void node_report(Node *node, const char *what, const GError *error)
{
    trouble_report(node->trouble, what, error);
}

void node_report_once(Node *node, const char *what, const GError *error)
{
    trouble_report_once(node->trouble, what, error);
}

/* ---- The claim ---- */

static void ask_arbiter(Node *node)
{
    /* The secondary may have taken over, and have told the network, before it died. */
    if (fsm_is_contested(node->state))
        announce_when_possible(node->announce);
    if (claim_begin_wait(node->claim))
        return;
    switch (events_ask(node->state, copy_condition(node->copy), claim_is_yielded(node->claim))) {
    case EVENTS_ASK_WAITS:
        copy_ask_when_loaded(node->copy);
        return;
    case EVENTS_ASK_LEAVES:
        node_event(node, FSM_INVALID);
        return;
    case EVENTS_ASK_NOW:
        claim_ask(node->claim, node->epoch);
    }
}

static void on_claim_event(FsmEvent event, gpointer user_data)
{
    Node *node = user_data;
    node_event(node, event);
    /* It stops a copy that runs. */
    if (claim_is_undecided(node->claim))
        copy_step(node->copy);
}

static void on_claim_due(gpointer user_data)
{
    ask_arbiter(user_data);
}

static void on_claim_seen(gpointer user_data)
{
    Node *node = user_data;
    if (node->state == FSM_P_ASKING || node->config->arbiter != CONFIG_ARBITER_NONE)
        holdings_look(node->holdings);
    else
        node_vm_start(node);
}

static void on_claim_lost(const char *what, const GError *error, gpointer user_data)
{
    node_vm_lost(user_data, what, error);
}

static void on_claim_trouble(const char *what, const GError *error, gboolean again,
                             gpointer user_data)
{
    if (again)
        node_report_once(user_data, what, error);
    else
        node_report(user_data, what, error);
}

static void on_claim_recorded(gpointer user_data)
{
    const Node *node = user_data;
    primary_reschedule(node->primary);
}

static void on_claim_watched(const char *why, gpointer user_data)
{
    json_object *data = json_object_new_object();
    json_object_object_add(data, "there", json_object_new_boolean(!why));
    if (why)
        json_object_object_add(data, "why", json_object_new_string(why));
    node_emit(user_data, "ARBITER_CHANGED", data);
}

static void on_claim_taken(gpointer user_data)
{
    const Node *node = user_data;
    resume_heard(node->resume);
}

static void on_claim_disowned(gpointer user_data)
{
    node_end(user_data);
}

static gboolean claim_init(Node *node, GError **error)
{
    static const ClaimCallbacks callbacks = {.event = on_claim_event,
                                             .due = on_claim_due,
                                             .seen = on_claim_seen,
                                             .lost = on_claim_lost,
                                             .trouble = on_claim_trouble,
                                             .recorded = on_claim_recorded,
                                             .watched = on_claim_watched,
                                             .taken = on_claim_taken,
                                             .disowned = on_claim_disowned};
    node->claim = claim_new(node->config, &callbacks, node, error);
    return node->claim != NULL;
}

/* Of the VM, before the node ends. */
static void disown_vm(Node *node)
{
    ArbiterRest rest = {.generation = holdings_generation(node->holdings),
                        .epoch = node->epoch,
                        .in_step = final_is_in_step(node->final) ? node->peer_name : NULL};
    claim_disown(node->claim, holdings_have_run(node->holdings) ? &rest : NULL);
}

gboolean node_is_protected(const Node *node)
{
    return fsm_is_protected(node->state) && !claim_trouble(node->claim);
}

/* ---- Transitions ---- */

static void send_with_reason(Node *node, LinkMessage type)
{
    /* The last error may be an old one: only of a failure it is the reason. */
    gboolean failed = node->state == FSM_FAILED && trouble_last(node->trouble);
    const char *why = failed                          ? trouble_last(node->trouble)->message
                      : node->state == FSM_S_STARTING ? "to restart its QEMU, which has grown"
                                                      : "as it was asked to";
    message_send(node->link, &(Message){.type = type, .text = why});
}

/*
 * Tells the primary whether the arbiter may have granted it all the same. A node that ends after it has
 * asked leaves that out: the primary asks when it learns of the end.
 */
static void send_refused(Node *node)
{
    gboolean asked = claim_has_asked_handed(node->claim);
    gboolean ends = node->state == FSM_FAILED || node->state == FSM_COMPLETED;
    if (asked && ends && !node->gave_back)
        return;
    const char *why = node->gave_back ? taking_why(node->taking)
                      : ends          ? "the secondary ends"
                      : !asked && switchover_phase(node->switchover) == SWITCHOVER_CANCELLED
                          ? "the switchover was cancelled"
                          : switchover_refusal(asked ? FSM_UNDECIDED : FSM_VM_UNFIT);
    MessageRefused refused = {.kind = node->gave_back ? MESSAGE_REFUSED_GIVEN_BACK
                                      : asked         ? MESSAGE_REFUSED_ASKED
                                                      : MESSAGE_REFUSED_UNASKED,
                              .why = why};
    message_send(node->link, &(Message){.type = LINK_MSG_REFUSED, .refused = refused});
    log_warning("the VM is %s to the primary: %s", node->gave_back ? "given back" : "left", why);
}

gboolean node_end_now(gpointer user_data)
{
    Node *node = user_data;
    node->end_source = 0;
    node->handler.ended(node->state == FSM_FAILED ? trouble_last(node->trouble) : NULL,
                        node->handler.user_data);
    return G_SOURCE_REMOVE;
}

void node_end(Node *node)
{
    g_clear_handle_id(&node->end_source, g_source_remove);
    node->end_source = g_idle_add(node_end_now, node);
}

/* The messages that come before all else: the peer needs them at once. */
static void send_first(Node *node, guint actions)
{
    if (actions & FSM_DO_SEND_PROTECT)
        message_send(node->link, &(Message){.type = LINK_MSG_PROTECT});
    if (actions & FSM_DO_SEND_RUNS)
        message_send(node->link, &(Message){.type = LINK_MSG_RUNS});
    if (actions & FSM_DO_SEND_PAUSED)
        message_send(node->link, &(Message){.type = LINK_MSG_PAUSED});
    if (actions & FSM_DO_SEND_HANDED)
        primary_send_handed(node->primary);
    if (actions & FSM_DO_OPEN_UPLINKS)
        net_open_and_announce(node);
    if (actions & FSM_DO_SEND_REFUSED)
        send_refused(node);
    if (actions & FSM_DO_SEND_FAILED)
        send_with_reason(node, LINK_MSG_FAILED);
    if (actions & FSM_DO_SEND_GOODBYE)
        send_with_reason(node, LINK_MSG_GOODBYE);
    if (actions & FSM_DO_SEND_TAKEN)
        secondary_send_taken(node);
}

static void carry_out(Node *node, guint actions)
{
    send_first(node, actions);
    if (actions & FSM_DO_FREEZE_VM)
        primary_freeze(node->primary);
    if (actions & FSM_DO_KILL_VM)
        node_vm_kill(node);
    if (actions & FSM_DO_SEND_YIELDED)
        send_with_reason(node, LINK_MSG_YIELDED);
    /* The engines use the VM's RAM and the link's sockets: they go first. */
    if (actions & FSM_DO_END_CAPTURE)
        primary_end_session(node->primary);
    if (actions & FSM_DO_DROP_APPLY)
        secondary_drop_apply(node);
    if (actions & FSM_DO_KILL_VM)
        node_vm_free(node, (actions & FSM_DO_EXIT) || leave_is_under_way(node->leave));
    if (actions & FSM_DO_CLOSE_LINK)
        node_link_close(node);
    if (actions & FSM_DO_BECOME_REPLICA)
        node_vm_become_replica(node);
    if ((actions & FSM_DO_START_VM) && !leave_is_under_way(node->leave))
        node_vm_start(node);
    if (actions & FSM_DO_RUN_VM) {
        net_set_open(node, TRUE);
        primary_run(node->primary);
    }
    if (actions & FSM_DO_HAND_OVER)
        primary_hand_over(node->primary);
    if (actions & FSM_DO_CHECK_VM)
        copy_check_fit(node->copy);
    if (actions & FSM_DO_RESUME_VM) {
        primary_resume(node->primary);
        announce_if_owed(node->announce);
    }
    if (actions & FSM_DO_OPEN_GATE) {
        traffic_open(node->traffic);
        announce_if_owed(node->announce);
    }
    if ((actions & (FSM_DO_OPEN_GATE | FSM_DO_RUN_VM)) == FSM_DO_OPEN_GATE)
        holdings_continue_alone(node->holdings);
    if (actions & FSM_DO_RECORD)
        claim_record(node->claim, node->state == FSM_P_ACTIVE ? link_session(node->link) : NULL);
    if (actions & FSM_DO_GIVE_BACK)
        secondary_give_back(node);
    if (actions & FSM_DO_START_APPLY)
        secondary_start_apply(node);
    if (actions & FSM_DO_SYNCHRONISE)
        primary_synchronise(node->primary, link_checkpoint_fd(node->link), node->peer_unpacks);
    if (actions & FSM_DO_TAKE_OVER)
        secondary_take_over(node);
    if (actions & FSM_DO_ASK_ARBITER)
        ask_arbiter(node);
    if (actions & FSM_DO_ACCEPT)
        seek_wish(node->seek, SEEK_SECONDARY);
    if (actions & FSM_DO_DIAL)
        seek_wish(node->seek, SEEK_PRIMARY);
    if (actions & FSM_DO_DISOWN)
        disown_vm(node);
    else if ((actions & FSM_DO_EXIT) && !claim_concede(node->claim))
        node_end(node);
}

/* A takeover ends the secondary's engines, and their connections: that is no lost link. */
static gboolean may_engines_end(FsmState state)
{
    return state == FSM_P_HANDED || state == FSM_S_TAKING || state == FSM_S_GIVING ||
           state == FSM_S_LEAVING;
}

static void let_engines_end(Node *node, FsmState next)
{
    if (may_engines_end(next) != may_engines_end(node->state))
        link_let_engines_end(node->link, may_engines_end(next));
}

static void set_state(Node *node, FsmState next, FsmEvent event)
{
    const char *before = node_role(node);
    if (next != FSM_FAILED && next != FSM_COMPLETED)
        node->is_primary = fsm_is_primary(next);
    const char *role = node_role(node);
    if (next != node->state)
        log_info("state %s %s -> %s %s (%s)", before, fsm_state_name(node->state), role,
                 fsm_state_name(next), fsm_event_name(event));
    json_object *data = json_object_new_object();
    json_object_object_add(data, "from", json_object_new_string(fsm_state_name(node->state)));
    json_object_object_add(data, "to", json_object_new_string(fsm_state_name(next)));
    json_object_object_add(data, "role", json_object_new_string(role));
    json_object_object_add(data, "event", json_object_new_string(fsm_event_name(event)));
    if (fsm_is_protected(next) && next != node->state)
        trouble_is_over(node->trouble);
    node->gave_back =
        !fsm_is_primary(next) && next != FSM_S_COLO && (node->gave_back || event == FSM_GIVEN_BACK);
    let_engines_end(node, next);
    node->state = next;
    claim_moved(node->claim, event, next, link_session(node->link), node->peer_name);
    primary_moved(node->primary, next);
    uplinks_reconsider(node->uplinks);
    if (next == FSM_P_SETUP)
        answering_watch(node->answering);
    leave_look(node->leave);
    taking_moved(node->taking, next, event);
    if (next == FSM_S_GIVING || next == FSM_S_LEAVING)
        switchover_refused(node->switchover, taking_why(node->taking));
    node_emit(node, "STATE_CHANGED", data);
    switchover_moved(node->switchover, next, event);
}

void node_event(Node *node, FsmEvent event)
{
    event = events_final(node->state, final_has_begun(node->final), event);
    FsmStep step = fsm_step(node->state, event);
    if (step.verdict == FSM_IGNORE)
        return;
    if (step.verdict == FSM_BUG)
        g_error("event %s in state %s (%s)", fsm_event_name(event), fsm_state_name(node->state),
                node_role(node));
    set_state(node, step.next, event);
    carry_out(node, step.actions);
    Route route = traffic_route(node->traffic);
    if (!route_fits(route, node->state))
        g_error("output goes the way '%s' in state %s (%s)", route_name(route),
                fsm_state_name(node->state), node_role(node));
}

/* ---- Life ---- */

Node *node_new(Config *config, const NodeHandler *handler, GError **error)
{
    g_autoptr(Node) node = g_new0(Node, 1);
    node->config = config;
    node->handler = *handler;
    node->is_primary = config->role != CONFIG_ROLE_SECONDARY && !config->discard;
    node->state = !node->is_primary ? FSM_S_STARTING
                  : config->arbiter == CONFIG_ARBITER_NONE && config->vm->disks->len == 0
                      ? FSM_P_STARTING
                      : FSM_P_ASKING;
    parts_init(node);
    node_link_make_seek(node);
    net_init(node);
    node_vm_init(node);
    checkpoints_init(node);
    comparing_init(node);
    secondary_init(node);
    svm_init(node);
    switching_init(node);

    if (!claim_init(node, error) || !net_make_cards(node, error))
        return NULL;
    if (!node_link_init(node, error) || !node_control_init(node, error) ||
        !parts_begin(node, error))
        return NULL;
    link_idle(node->link, "starting");
    claim_begin(node->claim, node->state);
    return g_steal_pointer(&node);
}

void node_leave(Node *node)
{
    switchover_node_ends(node->switchover);
    leave_begin(node->leave, node->config->on_sigterm == CONFIG_SIGTERM_HAND_OVER);
}

void node_shut_down(Node *node)
{
    switchover_vm_ends(node->switchover, "this node ends");
    final_begin(node->final);
}

void node_free(Node *node)
{
    if (!node)
        return;
    if (machine_vm(node->machine) || disks_are_there(node->disks)) {
        node_vm_kill(node);
        primary_end_session(node->primary);
        secondary_drop_apply(node);
        node_vm_free(node, TRUE);
    }
    g_clear_handle_id(&node->end_source, g_source_remove);
    switchover_free(node->switchover);
    primary_free(node->primary);
    secondary_drop_apply(node);
    svm_finalise(node);
    secondary_finalise(node);
    link_free(node->link);
    seek_free(node->seek);
    judge_free(node->judge);
    claim_free(node->claim);
    control_free(node->control);
    parts_finalise(node);
    net_finalise(node);
    replica_free(node->becoming);
    machine_free(node->machine);
    disks_free(node->disks); /* last: all has been reported to whoever watches this node */
    g_free(node->peer_name);
    g_free(node);
}
