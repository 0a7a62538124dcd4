/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The node's state and its actions. Every change of state goes through set_state(), called by
 * node_event() only; what follows from it is carried out in the order of FsmAction. Events come
 * from the main loop; the two actions that may feed one from within, where the link breaks at once,
 * are the last of their steps (the table's test checks that), so nothing is carried out in a state
 * that has gone.
 */
#include "colo/node.h"

#include "colo/log.h"
#include "colo/node_internal.h"
#include "common/endian.h"
#include "common/fault.h"

#include <string.h>
#include <sys/socket.h>

/* How long QEMU's end may take to follow the first sign of it. */
#define VM_ENDING_MS 200

/* How long to wait before an arbiter that couldn't be asked is asked again. */
#define ASK_AGAIN_MS 1000

/* QEMU's own words may be long. */
#define REASON_MAX_BYTES 512

G_DEFINE_QUARK(node_error, node_error)

Input *input_new(unsigned nic, guint64 epoch, const guint8 *data, gsize len)
{
    Input *input = g_new(Input, 1);
    *input = (Input){.nic = nic, .epoch = epoch, .data = g_bytes_new(data, len)};
    return input;
}

void input_free(Input *input)
{
    g_bytes_unref(input->data);
    g_free(input);
}

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

void node_report(Node *node, const char *what, const GError *error)
{
    log_error("%s: %s", what, error->message);
    g_clear_error(&node->last_error);
    node->last_error = g_error_copy(error);
    g_prefix_error(&node->last_error, "%s: ", what);
    node->last_error_at = g_get_real_time();
    json_object *data = json_object_new_object();
    json_object_object_add(data, "text", json_object_new_string(node->last_error->message));
    node_emit(node, "ERROR", data);
}

void node_vm_lost(Node *node, const char *what, const GError *error)
{
    if (node->state == FSM_FAILED || node->state == FSM_COMPLETED)
        return;
    node_report(node, what, error);
    node_event(node, FSM_VM_LOST);
}

static gboolean on_vm_ending(gpointer user_data)
{
    Node *node = user_data;
    g_autoptr(GError) sign = g_steal_pointer(&node->ending_sign);
    node->ending_timer = 0;
    node_vm_lost(node, "the VM is lost", sign);
    return G_SOURCE_REMOVE;
}

void node_vm_ending(Node *node, const char *what, const GError *sign)
{
    if (node->ending_timer || !node->vm)
        return;
    node->ending_sign = g_error_copy(sign);
    g_prefix_error(&node->ending_sign, "%s: ", what);
    node->ending_timer = g_timeout_add(VM_ENDING_MS, on_vm_ending, node);
}

void node_link_lost(Node *node, const char *what, const GError *error)
{
    node->link_lost = colo_time_now();
    node_report(node, what, error);
    if (node->ending_timer)
        /* Whoever the arbiter would let go on, it can't be this VM. */
        node_vm_lost(node, "the VM is lost", node->ending_sign);
    else
        node_event(node, FSM_LINK_DOWN);
}

void node_stream_lost(Node *node, const char *what, const GError *error)
{
    g_autoptr(GError) why = g_error_copy(error);
    g_prefix_error(&why, "%s: ", what);
    link_break(node->link, why);
}

/* ---- The VM ---- */

/* What happens to a copy is news about the copy. */
static void on_svm_event(Node *node, VmEvent event, const char *detail)
{
    switch (event) {
    case VM_EVENT_SHUTDOWN:
        svm_stalled(node, "its guest has powered off");
        break;
    case VM_EVENT_PANICKED:
        node_emit(node, "GUEST_PANICKED", NULL);
        svm_stalled(node, "its guest has panicked");
        break;
    case VM_EVENT_STOPPED: {
        g_autofree char *why = g_strdup_printf("QEMU has stopped it: %s", detail);
        node_emit(node, "GUEST_STOPPED", NULL);
        svm_stalled(node, why);
        break;
    }
    case VM_EVENT_RESET:
    case VM_EVENT_DIED:
        break;
    }
}

static void on_vm_event(Vm *vm, VmEvent event, const char *detail, gpointer user_data)
{
    Node *node = user_data;
    if (vm != node->vm)
        return;
    if (!fsm_is_primary(node->state) && event != VM_EVENT_DIED) {
        on_svm_event(node, event, detail);
        return;
    }
    g_autoptr(GError) error = NULL;
    switch (event) {
    case VM_EVENT_DIED:
        error = g_error_new(VM_ERROR, VM_ERROR_DIED, "%s", detail);
        node_vm_lost(node, "the VM's process has ended", error);
        break;
    case VM_EVENT_SHUTDOWN:
        log_info("the guest has powered off");
        node_event(node, FSM_SHUTDOWN);
        break;
    case VM_EVENT_RESET:
        log_info("the guest has rebooted");
        break;
    case VM_EVENT_PANICKED:
        log_warning("the guest has panicked%s%s", detail ? ": " : "", detail ? detail : "");
        node_emit(node, "GUEST_PANICKED", NULL);
        break;
    case VM_EVENT_STOPPED:
        log_warning("QEMU has stopped the guest: %s", detail);
        disks_vm_paused(node);
        node_emit(node, "GUEST_STOPPED", NULL);
        break;
    }
}

static void on_vm_started(Vm *vm, const GError *error, gpointer user_data)
{
    Node *node = user_data;
    if (vm != node->vm)
        return;
    if (error) {
        node_vm_lost(node, "the VM can't be started", error);
        return;
    }
    DirtyMethod method = DIRTY_METHOD_AUTO;
    dirty_method_parse(node->config->dirty_method, &method);
    g_autoptr(GError) tracking = NULL;
    node->tracker = dirty_tracker_new(vm_ram(vm), method, &tracking);
    if (!node->tracker) {
        node_vm_lost(
            node,
            method == DIRTY_METHOD_AUTO
                ? "the VM can't be protected"
                : "the VM can't be protected with this dirty-method (auto takes what works)",
            tracking);
        return;
    }
    json_object_put(node->identity);
    node->identity = vm_identity(vm);
    json_object_object_add(node->identity, "arbiter",
                           json_object_new_string(arbiter_identity(node->arbiter)));
    log_info("VM started, paused; dirty pages tracked by %s",
             dirty_method_name(dirty_tracker_method(node->tracker)));
    net_attach(node);
    node_event(node, FSM_VM_STARTED);
}

void node_disks_ready(Node *node)
{
    VmHandler handler = {.event = on_vm_event, .user_data = node};
    node->vm = node->handler.make_vm(node->config->vm, &handler, node->handler.user_data);
    vm_start(node->vm, on_vm_started, node);
}

static void start_vm(Node *node)
{
    if (node->config->vm->disks->len > 0)
        disks_start(node);
    else
        node_disks_ready(node);
}

/* Ends the VM's process and its output; its RAM stays, for the engines use it. */
static void kill_vm(Node *node)
{
    if (node->ending_timer)
        g_source_remove(node->ending_timer);
    node->ending_timer = 0;
    g_clear_error(&node->ending_sign);
    net_set_open(node, FALSE);
    primary_forget_vm(node);
    svm_forget(node);
    node->svm_job = SVM_IDLE;
    net_detach(node);
    if (node->vm)
        vm_kill(node->vm);
}

/* After kill_vm() and the engines' end. */
static void free_vm(Node *node)
{
    g_clear_pointer(&node->tracker, dirty_tracker_free);
    /* First out of sight: what it calls back while it goes is nobody's business. */
    Vm *vm = g_steal_pointer(&node->vm);
    vm_free(vm);
    disks_stop(node);
}

/* ---- The link ---- */

static void on_link_up(json_object *peer_hello, gpointer user_data)
{
    Node *node = user_data;
    json_object *name;
    g_free(node->peer_name);
    node->peer_name = json_object_object_get_ex(peer_hello, "name", &name)
                          ? g_strdup(json_object_get_string(name))
                          : NULL;
    log_info("linked with %s, session %s", node->peer_name ? node->peer_name : "the peer",
             link_session(node->link));
    node_event(node, FSM_LINK_UP);
}

static void on_link_down(const GError *why, gpointer user_data)
{
    node_link_lost(user_data, "the link to the peer is lost", why);
}

static void on_attempt_failed(const GError *why, gpointer user_data)
{
    Node *node = user_data;
    if (g_error_matches(why, LINK_ERROR, LINK_ERROR_REFUSED))
        node_report(node, "no pair", why);
    else
        log_info("no link yet: %s", why->message);
}

/* An event that a message stands for: what doesn't fit the state breaks the protocol. */
static gboolean peer_event(Node *node, FsmEvent event, GError **error)
{
    if (fsm_step(node->state, event).verdict == FSM_BUG) {
        g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL, "message '%s' in state %s",
                    fsm_event_name(event), fsm_state_name(node->state));
        return FALSE;
    }
    node_event(node, event);
    return TRUE;
}

static gboolean only_bytes(gsize len, gsize expected, GError **error)
{
    if (len == expected)
        return TRUE;
    g_set_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL, "%zu bytes where %zu belong", len,
                expected);
    return FALSE;
}

static void log_peer_text(const char *what, const guint8 *payload, gsize len)
{
    g_autofree char *text = g_utf8_make_valid((const char *)payload, (gssize)MIN(len, 512));
    log_warning("the peer %s: %s", what, text);
}

static gboolean handle_message(Node *node, guint type, const guint8 *payload, gsize len,
                               GError **error)
{
    switch (type) {
    case LINK_MSG_BLANK:
        return peer_event(node, FSM_BLANK, error);
    case LINK_MSG_RECEIVED:
        return only_bytes(len, 8, error) && primary_received(node, colo_get_be64(payload), error);
    case LINK_MSG_APPLIED:
        if (!only_bytes(len, 16, error))
            return FALSE;
        stats_add(node->apply_stats, (gint64)MIN(colo_get_be64(payload + 8), G_MAXINT32));
        return TRUE;
    case LINK_MSG_READY:
        return primary_ready(node, payload, len, error);
    case LINK_MSG_PROTECT:
        return secondary_may_protect(node, error) && peer_event(node, FSM_PROTECT, error);
    case LINK_MSG_PREPARE:
        return only_bytes(len, 8, error) && svm_prepare(node, colo_get_be64(payload), error);
    case LINK_MSG_DIRTY:
        return primary_dirty(node, payload, len, error);
    case LINK_MSG_LOADED:
        return only_bytes(len, 8, error) && comparing_loaded(node, colo_get_be64(payload), error);
    case LINK_MSG_STALLED:
        return comparing_stalled(node, payload, len, error);
    case LINK_MSG_SETTLED:
        return secondary_settled(node, payload, len, error);
    case LINK_MSG_ADDRESSES:
        return net_receive_addresses(node, payload, len, error);
    case LINK_MSG_YIELD:
        /* It may cross with our own going: not an error. */
        if (node->state == FSM_P_COLO)
            node_event(node, FSM_YIELD);
        return TRUE;
    case LINK_MSG_YIELDED:
        node->link_lost = colo_time_now();
        node->yielded = TRUE;
        return peer_event(node, FSM_YIELDED, error);
    case LINK_MSG_GOODBYE:
        log_peer_text("ends", payload, len);
        return peer_event(node, FSM_PEER_GOODBYE, error);
    case LINK_MSG_FAILED:
        log_peer_text("can't be half of a pair", payload, len);
        return peer_event(node, FSM_PEER_FAILED, error);
    default:
        log_debug("message of unknown type %u from the peer, %zu bytes: ignored", type, len);
        return TRUE;
    }
}

static void on_message(guint type, const guint8 *payload, gsize len, gpointer user_data)
{
    Node *node = user_data;
    g_autoptr(GError) error = NULL;
    if (!handle_message(node, type, payload, len, &error))
        node_link_lost(node, "the peer broke the protocol", error);
}

static void on_packet(unsigned nic, guint64 epoch, const guint8 *data, gsize len,
                      gpointer user_data)
{
    Node *node = user_data;
    if (fsm_is_primary(node->state))
        comparing_secondary_output(node, nic, epoch, data, len);
    else
        secondary_mirrored(node, nic, epoch, data, len);
}

static void seek_peer(Node *node, void (*seek)(Link *, json_object *))
{
    json_object *hello = json_object_new_object();
    json_object_object_add(hello, "name", json_object_new_string(node->config->name));
    json_object_object_add(hello, "identity", json_object_get(node->identity));
    seek(node->link, hello);
    json_object_put(hello);
}

static void close_link(Node *node)
{
    if (node->apply_fd >= 0)
        shutdown(node->apply_fd, SHUT_RDWR);
    link_close(node->link);
    link_idle(node->link, fsm_state_name(node->state));
}

/* ---- The arbiter ---- */

typedef struct {
    Node *node;
    guint question;
} Question;

static gboolean on_ask_again(gpointer user_data)
{
    Node *node = user_data;
    node->ask_again_timer = 0;
    node_event(node, FSM_ASK_AGAIN);
    return G_SOURCE_REMOVE;
}

static void on_answer(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    g_autofree Question *asked = user_data;
    Node *node = asked->node;
    if (asked->question != node->question ||
        (node->state != FSM_P_PAUSED && node->state != FSM_P_RECOVER &&
         node->state != FSM_S_PAUSED))
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
        log_warning("the arbiter has let the other side go on");
        node_event(node, FSM_DENIED);
        return;
    case ARBITER_UNKNOWN:
        node_report(node, "the arbiter can't be asked, output stays held", error);
        break;
    case ARBITER_OPEN:
        g_assert_not_reached();
    case ARBITER_MANUAL:
        if (node->yielded || node->state == FSM_P_RECOVER) {
            node_event(node, FSM_GRANTED);
            return;
        }
        log_warning("no arbiter: output stays held until an administrator decides "
                    "('colo failover' on the side that is to go on, after making sure that the "
                    "other is dead)");
        break;
    }
    if (forced) {
        log_warning("going on by an administrator's decision");
        node_event(node, FSM_GRANTED);
        return;
    }
    if (node->state != FSM_P_RECOVER) {
        node->undecided = TRUE;
        node_event(node, FSM_UNDECIDED);
        svm_step(node);
    }
    if (answer == ARBITER_UNKNOWN)
        node->ask_again_timer = g_timeout_add(ASK_AGAIN_MS, on_ask_again, node);
}

static void ask_arbiter(Node *node)
{
    Question *question = g_new(Question, 1);
    *question = (Question){.node = node, .question = ++node->question};
    arbiter_ask(node->arbiter, node->config->vm->uuid, node->claim, node->config->name, node->epoch,
                on_answer, question);
}

/* ---- Transitions ---- */

static void say(Node *node, guint type)
{
    /* The last error may be an old one: only of a failure it is the reason. */
    gboolean failed = node->state == FSM_FAILED && node->last_error;
    const char *why = failed ? node->last_error->message : "as it was asked to";
    link_send(node->link, type, why, MIN(strlen(why), REASON_MAX_BYTES));
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
        link_send(node->link, LINK_MSG_PROTECT, NULL, 0);
    if (actions & FSM_DO_SAY_FAILED)
        say(node, LINK_MSG_FAILED);
    if (actions & FSM_DO_SAY_GOODBYE)
        say(node, LINK_MSG_GOODBYE);
    if (actions & FSM_DO_KILL_VM)
        kill_vm(node);
    if (actions & FSM_DO_SAY_YIELDED)
        say(node, LINK_MSG_YIELDED);
    /* The engines use the VM's RAM and the link's sockets: they go first. */
    if (actions & FSM_DO_END_CAPTURE)
        primary_end_capture(node);
    if (actions & FSM_DO_DROP_APPLY)
        secondary_drop_apply(node);
    if (actions & FSM_DO_KILL_VM)
        free_vm(node);
    if (actions & FSM_DO_CLOSE_LINK)
        close_link(node);
    if (actions & FSM_DO_START_VM)
        start_vm(node);
    if (actions & FSM_DO_RUN_VM) {
        net_set_open(node, TRUE);
        primary_run(node);
    }
    if (actions & FSM_DO_OPEN_GATE)
        primary_open_gate(node);
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
        seek_peer(node, link_accept);
    if (actions & FSM_DO_DIAL)
        seek_peer(node, link_dial);
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
        g_free(node->claim);
        node->claim = g_strdup(link_session(node->link));
    }
    node->state = next;
    node->undecided &= event == FSM_UNDECIDED;
    node->yielded &= next == FSM_S_PAUSED;
    forget_asking_again(node);
    node_emit(node, "STATE_CHANGED", data);
}

void node_event(Node *node, FsmEvent event)
{
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
    node->is_primary = strcmp(config->role, "secondary") != 0;
    node->state = !node->is_primary                  ? FSM_S_STARTING
                  : !strcmp(config->arbiter, "none") ? FSM_P_STARTING
                                                     : FSM_P_ASKING;
    primary_init(node);
    comparing_init(node);
    node->mirrored = g_queue_new();
    node->said = g_queue_new();
    node->apply_fd = -1;
    svm_init(node);

    node->arbiter = arbiter_new(config->arbiter, config->arbiter_path, error);
    if (!node->arbiter || !net_init(node, error))
        return NULL;
    LinkOptions options = {.listen = config->listen,
                           .peer = config->peer,
                           .heartbeat_interval_ms = (guint)config->heartbeat_interval_ms,
                           .heartbeat_timeout_ms = (guint)config->heartbeat_timeout_ms,
                           .disks = config->vm->disks->len > 0};
    LinkCallbacks callbacks = {.up = on_link_up,
                               .message = on_message,
                               .packet = on_packet,
                               .down = on_link_down,
                               .attempt_failed = on_attempt_failed};
    node->link = link_new(&options, &callbacks, node, error);
    if (!node->link || !control_init(node, error))
        return NULL;
    link_idle(node->link, "starting");
    if (node->state == FSM_P_ASKING)
        owner_claim(node);
    else
        start_vm(node);
    return g_steal_pointer(&node);
}

void node_shut_down(Node *node)
{
    node_event(node, FSM_SHUTDOWN);
}

void node_free(Node *node)
{
    if (!node)
        return;
    if (node->vm || node->disks) {
        kill_vm(node);
        primary_end_capture(node);
        secondary_drop_apply(node);
        free_vm(node);
    }
    forget_asking_again(node);
    owner_finalise(node);
    if (node->end_source)
        g_source_remove(node->end_source);
    comparing_finalise(node);
    recording_finalise(node);
    primary_finalise(node);
    secondary_drop_apply(node);
    svm_finalise(node);
    g_queue_free(node->mirrored);
    g_queue_free(node->said);
    link_free(node->link);
    arbiter_free(node->arbiter);
    control_free(node->control);
    net_finalise(node);
    stats_free(node->pause_stats);
    stats_free(node->transfer_stats);
    stats_free(node->apply_stats);
    g_clear_error(&node->last_error);
    json_object_put(node->identity);
    g_free(node->peer_name);
    g_free(node->claim);
    g_free(node);
}
