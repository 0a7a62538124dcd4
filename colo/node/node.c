/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The node's state and its actions. Every change of state goes through set_state(), called by
 * node_event() only; what follows from it is carried out in the order of FsmAction. Events come
 * from the main loop; the two actions that may feed one from within, where the link breaks at once,
 * are the last of their steps (the table's test checks that), so nothing is carried out in a state
 * that has gone.
 */
#include "colo/node/node.h"

#include "colo/node/node_internal.h"
#include "common/log.h"

#include <string.h>

/* How long to wait before an arbiter that couldn't be asked is asked again. */
#define ASK_AGAIN_MS 1000

G_DEFINE_QUARK(node_error, node_error)

const char *node_role(const Node *node)
{
    return node->is_primary ? "primary" : "secondary";
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

static gboolean timer_dispatch(GSource *source, GSourceFunc callback, gpointer user_data)
{
    (void)source;
    return callback(user_data);
}

GSource *node_timer_new(GSourceFunc callback, Node *node)
{
    static GSourceFuncs functions = {.dispatch = timer_dispatch};
    GSource *timer = g_source_new(&functions, sizeof(GSource));
    g_source_set_callback(timer, callback, node, NULL);
    g_source_set_priority(timer, G_PRIORITY_HIGH);
    g_source_attach(timer, NULL);
    return timer;
}

void node_mode_changed(Node *node, Mode mode)
{
    json_object *data = json_object_new_object();
    json_object_object_add(data, "mode", json_object_new_string(mode_name(mode)));
    node_emit(node, "MODE_CHANGED", data);
}

/* ---- The arbiter ---- */

/*
 * An answer counts as long as this side is in doubt about the session that was asked about
 * (arbiter_forget() sees to that), also one that comes late, to a question that was given up.
 *
 * An administrator who forces this side to go on has said that the other is dead: by that alone no
 * two sides run, for the other's question, or ours, may still be on its way to storage. So the
 * question stays open, or is asked again, until it has an answer: with a yes it is as it should
 * have been from the start, and who starts again is told no; a no is told to the administrator.
 */

static gboolean is_in_doubt(const Node *node)
{
    return node->state == FSM_P_PAUSED || node->state == FSM_P_RECOVER ||
           node->state == FSM_P_FROZEN || node->state == FSM_S_HANDED ||
           node->state == FSM_S_PAUSED || node->state == FSM_S_RECOVER;
}

static void ask_arbiter(Node *node);

static gboolean on_ask_again(gpointer user_data)
{
    Node *node = user_data;
    node->ask_again_timer = 0;
    node_event(node, FSM_ASK_AGAIN);
    return G_SOURCE_REMOVE;
}

static gboolean on_ask_after_force(gpointer user_data)
{
    Node *node = user_data;
    node->forced_timer = 0;
    /* What has failed here must not be denied to the other, should that live. */
    if (node->state != FSM_FAILED && node->state != FSM_COMPLETED)
        ask_arbiter(node);
    return G_SOURCE_REMOVE;
}

/* What the arbiter says of a session in which this side has been forced to go on, or of an old one.
 */
static void answered_after_all(Node *node, ArbiterAnswer answer, const GError *error)
{
    if (!node->has_forced) {
        /* This side had refused a hand-over meanwhile. */
        node->granted_late |= answer == ARBITER_GRANTED && !fsm_is_primary(node->state);
        owner_give_back(node);
        return;
    }
    if (answer == ARBITER_UNKNOWN && !g_error_matches(error, ARBITER_ERROR, ARBITER_ERROR_LATE) &&
        !node->forced_timer)
        node->forced_timer = g_timeout_add(ASK_AGAIN_MS, on_ask_after_force, node);
    if (answer == ARBITER_UNKNOWN)
        return;
    node->has_forced = FALSE;
    if (answer == ARBITER_DENIED) {
        g_autoptr(GError) why = g_error_new(
            NODE_ERROR, NODE_ERROR_OVERRULED,
            "it has let the other node go on: if that runs the VM too, end one of them now");
        node_report(node, "the arbiter contradicts the administrator who forced this node", why);
    } else {
        log_info("the arbiter agrees, after all, that this node goes on");
    }
}

static void go_on_by_force(Node *node, ArbiterAnswer answer, const GError *error)
{
    log_warning("going on by an administrator's decision");
    node->has_forced = answer == ARBITER_UNKNOWN;
    node_event(node, FSM_GRANTED);
    answered_after_all(node, answer, error);
}

static void remain_undecided(Node *node, ArbiterAnswer answer)
{
    /* After an answer, the question before that may still be told to be late. */
    if (node->state != FSM_P_RECOVER && !node->undecided) {
        node->undecided = TRUE;
        node_event(node, FSM_UNDECIDED);
        copy_step(node->copy);
    }
    if (answer == ARBITER_UNKNOWN && !node->ask_again_timer)
        node->ask_again_timer = g_timeout_add(ASK_AGAIN_MS, on_ask_again, node);
}

static void on_answer(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (!is_in_doubt(node)) {
        answered_after_all(node, answer, error);
        return;
    }
    gboolean decides = answer == ARBITER_GRANTED || answer == ARBITER_DENIED;
    /* Nothing has come of one that was given up; a later one is to be answered; or one was. */
    if (!decides && (g_error_matches(error, ARBITER_ERROR, ARBITER_ERROR_GONE) ||
                     arbiter_is_asked(node->arbiter) || node->state == FSM_P_FROZEN))
        return;
    static const char *const answers[] = {[ARBITER_GRANTED] = "granted",
                                          [ARBITER_DENIED] = "denied",
                                          [ARBITER_MANUAL] = "manual",
                                          [ARBITER_UNKNOWN] = "unknown"};
    node->arbiter_answer = answers[answer];
    /* An administrator's decision is for this one question. */
    gboolean forced = node->forced;
    node->forced = FALSE;
    switch (answer) {
    case ARBITER_GRANTED:
        node_event(node, FSM_GRANTED);
        return;
    case ARBITER_DENIED:
        log_warning(
            "the arbiter has let the other side go on: the VM stands still here until it is "
            "seen to run there");
        node->undecided = TRUE;
        node_event(node, FSM_DENIED);
        copy_step(node->copy);
        return;
    case ARBITER_UNKNOWN:
        node_report_once(node, "the arbiter can't be asked, output stays held", error);
        break;
    case ARBITER_OPEN:
        g_assert_not_reached();
    case ARBITER_MANUAL:
        if (node->yielded || node->state == FSM_P_RECOVER || node->state == FSM_S_HANDED) {
            node_event(node, FSM_GRANTED);
            return;
        }
        log_warning("no arbiter: output stays held until an administrator decides "
                    "('colo failover' on the side that is to go on, after making sure that the "
                    "other is dead)");
        break;
    }
    if (node->state == FSM_S_HANDED)
        node_event(node, FSM_UNDECIDED);
    else if (forced)
        go_on_by_force(node, answer, error);
    else
        remain_undecided(node, answer);
}

static void ask_arbiter(Node *node)
{
    if (node->ask_wait_ms) {
        /* The other side first; an administrator can say that it is time. */
        node->ask_again_timer = g_timeout_add(node->ask_wait_ms, on_ask_again, node);
        node->ask_wait_ms = 0;
        return;
    }
    if (node->state == FSM_S_PAUSED && copy_ask_when_loaded(node->copy))
        return;
    node->has_asked |= node->state == FSM_S_HANDED;
    node->question++;
    arbiter_ask(node->arbiter, node->config->vm->uuid, node->claim, node->config->name, node->epoch,
                on_answer, node);
}

/* ---- Transitions ---- */

static void say(Node *node, LinkMessage type)
{
    /* The last error may be an old one: only of a failure it is the reason. */
    gboolean failed = node->state == FSM_FAILED && node->last_error;
    const char *why = failed                          ? node->last_error->message
                      : node->state == FSM_S_STARTING ? "to start its QEMU anew, which has grown"
                                                      : "as it was asked to";
    message_send(node->link, &(Message){.type = type, .text = why});
}

/* Tells the primary whether the arbiter may have said yes all the same. */
static void say_refused(Node *node)
{
    const char *why = node->has_asked ? "it could not ask the arbiter"
                                      : "its copy of the VM can't go on before the next checkpoint";
    MessageRefused refused = {.asked = node->has_asked, .why = why};
    message_send(node->link, &(Message){.type = LINK_MSG_REFUSED, .refused = refused});
    log_warning("the VM is left to the primary: %s", why);
}

gboolean node_end_now(gpointer user_data)
{
    Node *node = user_data;
    node->end_source = 0;
    node->handler.ended(node->state == FSM_FAILED ? node->last_error : NULL,
                        node->handler.user_data);
    return G_SOURCE_REMOVE;
}

void node_end(Node *node)
{
    if (node->end_source)
        g_source_remove(node->end_source);
    node->end_source = g_idle_add(node_end_now, node);
}

static void carry_out(Node *node, guint actions)
{
    if (actions & FSM_DO_SAY_PROTECT)
        message_send(node->link, &(Message){.type = LINK_MSG_PROTECT});
    if (actions & FSM_DO_SAY_RUNS)
        message_send(node->link, &(Message){.type = LINK_MSG_RUNS});
    if (actions & FSM_DO_SAY_STANDS)
        message_send(node->link, &(Message){.type = LINK_MSG_STANDS});
    if (actions & FSM_DO_SAY_HANDED)
        primary_say_handed(node);
    if (actions & FSM_DO_SAY_TAKEN)
        message_send(node->link, &(Message){.type = LINK_MSG_TAKEN});
    if (actions & FSM_DO_SAY_REFUSED)
        say_refused(node);
    if (actions & FSM_DO_SAY_FAILED)
        say(node, LINK_MSG_FAILED);
    if (actions & FSM_DO_SAY_GOODBYE)
        say(node, LINK_MSG_GOODBYE);
    if (actions & FSM_DO_FREEZE_VM)
        primary_freeze(node);
    if (actions & FSM_DO_KILL_VM)
        node_vm_kill(node);
    if (actions & FSM_DO_SAY_YIELDED)
        say(node, LINK_MSG_YIELDED);
    /* The engines use the VM's RAM and the link's sockets: they go first. */
    if (actions & FSM_DO_END_CAPTURE)
        primary_end_capture(node);
    if (actions & FSM_DO_DROP_APPLY)
        secondary_drop_apply(node);
    if (actions & FSM_DO_KILL_VM)
        node_vm_free(node, (actions & FSM_DO_EXIT) || node->leave_timer);
    if (actions & FSM_DO_CLOSE_LINK)
        node_link_close(node);
    if ((actions & FSM_DO_START_VM) && !node->leave_timer)
        node_vm_start(node);
    if (actions & FSM_DO_RUN_VM) {
        net_set_open(node, TRUE);
        primary_run(node);
    }
    if (actions & FSM_DO_HAND_OVER)
        primary_hand_over(node);
    if (actions & FSM_DO_CHECK_VM)
        copy_check_fit(node->copy);
    if (actions & FSM_DO_RESUME_VM)
        primary_resume(node);
    if (actions & FSM_DO_OPEN_GATE)
        primary_open_gate(node);
    if ((actions & (FSM_DO_OPEN_GATE | FSM_DO_RUN_VM)) == FSM_DO_OPEN_GATE)
        generation_go_on(node);
    if (actions & FSM_DO_RECORD)
        owner_record(node);
    if (actions & FSM_DO_START_APPLY)
        secondary_start_apply(node);
    if (actions & FSM_DO_SYNCHRONISE)
        primary_synchronise(node);
    if (actions & FSM_DO_TAKE_OVER)
        secondary_take_over(node);
    if (actions & FSM_DO_ASK_ARBITER)
        ask_arbiter(node);
    if (actions & FSM_DO_ACCEPT)
        node_link_seek(node, link_accept);
    if (actions & FSM_DO_DIAL)
        node_link_seek(node, link_dial);
    if (actions & FSM_DO_RELEASE)
        owner_release(node);
    else if (actions & FSM_DO_EXIT)
        node_end(node);
}

/* The arbiter is asked again in the state that wanted it only. */
static void forget_asking_again(Node *node)
{
    if (node->ask_again_timer)
        g_source_remove(node->ask_again_timer);
    node->ask_again_timer = 0;
}

/* There is another session: nobody is interested in the one before any more. */
static void forget_claim(Node *node)
{
    arbiter_forget(node->arbiter);
    node->has_forced = node->granted_late = FALSE;
    if (node->forced_timer)
        g_source_remove(node->forced_timer);
    node->forced_timer = 0;
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
    if (fsm_is_protected(next)) {
        if (next != node->state)
            trouble_is_over(node);
        if (g_strcmp0(node->claim, link_session(node->link)) != 0)
            forget_claim(node);
        g_free(node->claim);
        node->claim = g_strdup(link_session(node->link));
    }
    node->state = next;
    node->forced &= is_in_doubt(node);
    node->undecided &= event == FSM_UNDECIDED || event == FSM_DENIED;
    node->yielded &= next == FSM_S_PAUSED;
    node->asks_whose &= next == FSM_S_STARTING || next == FSM_S_NONE || next == FSM_S_SETUP;
    node->doubted &= fsm_is_contested(next);
    if (next != FSM_P_DEVICE && next != FSM_P_HANDED)
        primary_end_hand_over(node);
    forget_asking_again(node);
    uplinks_reconsider(node);
    leave_look(node);
    owner_give_back(node);
    node_emit(node, "STATE_CHANGED", data);
}

void node_event(Node *node, FsmEvent event)
{
    event = final_event(node, event);
    FsmStep step = fsm_step(node->state, event);
    if (step.verdict == FSM_IGNORE)
        return;
    if (step.verdict == FSM_BUG)
        g_error("event %s in state %s (%s)", fsm_event_name(event), fsm_state_name(node->state),
                node_role(node));
    set_state(node, step.next, event);
    carry_out(node, step.actions);
}

/* ---- Life ---- */

Node *node_new(Config *config, const NodeHandler *handler, GError **error)
{
    g_autoptr(Node) node = g_new0(Node, 1);
    node->config = config;
    node->handler = *handler;
    node->started = colo_time_now();
    node->pause_stats = stats_new();
    node->transfer_stats = stats_new();
    node->apply_stats = stats_new();
    node->is_primary = strcmp(config->role, "secondary") != 0 && !config->discard;
    node->state = !node->is_primary                                                 ? FSM_S_STARTING
                  : !strcmp(config->arbiter, "none") && config->vm->disks->len == 0 ? FSM_P_STARTING
                                                                                    : FSM_P_ASKING;
    primary_init(node);
    clock_init(node);
    comparing_init(node);
    secondary_init(node);
    node->cont_requests = g_ptr_array_new();
    node->apply_fd = -1;
    svm_init(node);
    memory_init(node);

    node->arbiter = arbiter_new(config->arbiter, config->arbiter_path, config->state_dir, error);
    if (!node->arbiter || !net_init(node, error))
        return NULL;
    arbiter_set_limit_ms(node->arbiter, (guint)config->arbiter_timeout_ms);
    if (!node_link_init(node, error) || !control_init(node, error) || !uplinks_init(node, error))
        return NULL;
    link_idle(node->link, "starting");
    watch_begin(node);
    return g_steal_pointer(&node);
}

void node_shut_down(Node *node)
{
    final_begin(node);
}

void node_free(Node *node)
{
    if (!node)
        return;
    if (node->vm || node->disks) {
        node_vm_kill(node);
        primary_end_capture(node);
        secondary_drop_apply(node);
        node_vm_free(node, TRUE);
    }
    forget_asking_again(node);
    if (node->arbiter)
        forget_claim(node);
    primary_end_hand_over(node);
    leave_forget(node);
    owner_finalise(node);
    watch_finalise(node);
    generation_finalise(node);
    final_forget(node);
    if (node->end_source)
        g_source_remove(node->end_source);
    comparing_finalise(node);
    recording_finalise(node);
    primary_finalise(node);
    clock_finalise(node);
    secondary_drop_apply(node);
    svm_finalise(node);
    memory_finalise(node);
    secondary_finalise(node);
    g_ptr_array_unref(node->cont_requests);
    link_free(node->link);
    arbiter_free(node->arbiter);
    control_free(node->control);
    uplinks_finalise(node);
    net_finalise(node);
    stats_free(node->pause_stats);
    stats_free(node->transfer_stats);
    stats_free(node->apply_stats);
    trouble_is_over(node);
    json_object_put(node->identity);
    disks_await_end(node); /* last: whoever watches this node has been told all by now */
    g_free(node->peer_name);
    g_free(node->claim);
    g_free(node);
}
