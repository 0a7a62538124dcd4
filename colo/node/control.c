/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What administrators see of a node and ask of it: the commands of the control socket. */
#include "colo/node/advice.h"
#include "colo/node/node_internal.h"
#include "common/json.h"
#include "common/log.h"

#include <string.h>

/* ---- status ---- */

static const char *vm_state(const Node *node)
{
    return !machine_vm(node->machine)                 ? "dead"
           : resume_refusal(node->resume)             ? "inactive"
           : vm_is_running(machine_vm(node->machine)) ? "running"
           : resume_is_stopped(node->resume)          ? "stopped"
           : resume_may_not_run(node->resume)         ? "io-error"
                                                      : "paused";
}

/* On a secondary: as its last checkpoint has it. */
static const char *stopped_by(const Node *node)
{
    const Vm *vm = machine_vm(node->machine);
    if (!vm || vm_is_running(vm))
        return NULL;
    if (!fsm_is_primary(node->state) && svm_is_stopped(node))
        return stops_name(STOPS(ADMIN));
    return stops_name(resume_stops(node->resume));
}

static void add_vm(const Node *node, json_object *status)
{
    const Vm *process = machine_vm(node->machine);
    json_object *vm = colo_json_add_object(status, "vm");
    colo_json_add_string(vm, "name", node->config->vm->name);
    colo_json_add_string(vm, "uuid", node->config->vm->uuid);
    colo_json_add_string(vm, "state", vm_state(node));
    colo_json_add_string(vm, "stopped-by", stopped_by(node));
    colo_json_add_string(vm, "order", process ? vm_busy_with(process) : NULL);
    if (process && vm_ram(process))
        colo_json_add_int(vm, "pid", vm_ram(process)->pid);
    colo_json_add_int(vm, "private-bytes", (gint64)memory_bytes(node->memory));
    if (memory_base(node->memory))
        colo_json_add_int(vm, "grown-bytes",
                          (gint64)(memory_bytes(node->memory) - memory_base(node->memory)));
    else
        json_object_object_add(vm, "grown-bytes", NULL);
}

static void add_peer(const Node *node, json_object *status)
{
    json_object *peer = colo_json_add_object(status, "peer");
    colo_json_add_string(peer, "name", node->peer_name);
    colo_json_add_string(peer, "address", seek_address(node->seek));
    colo_json_add_bool(peer, "paused", seek_is_paused(node->seek));
    colo_json_add_string(peer, "recovering", seek_recovering(node->seek));
    colo_json_add_bool(peer, "connected", link_is_up(node->link));
    trouble_add_status(node->trouble, status, peer);
    colo_json_add_string(status, "session", link_session(node->link));
    json_object *listen = json_object_new_array();
    json_object_object_add(status, "listen", listen);
    json_object_array_add(listen, json_object_new_string(node->config->listen));
    if (seek_listens_also(node->seek))
        json_object_array_add(listen, json_object_new_string(seek_listens_also(node->seek)));
}

static void add_checkpoints(const Node *node, json_object *status)
{
    figures_describe_checkpoints(node->figures, status);
    colo_json_add_string(json_object_object_get(status, "checkpoints"), "waits-for",
                         cycle_waits_for(primary_phase(node->primary)));
    json_object *dirty = colo_json_add_object(status, "dirty");
    colo_json_add_string(dirty, "method",
                         machine_tracker(node->machine) ? dirty_method_name(dirty_tracker_method(
                                                              machine_tracker(node->machine)))
                                                        : NULL);
    colo_json_add_int(dirty, "pages", (gint64)primary_dirty_pages(node->primary));
    figures_describe_bytes(node->figures, status);
}

static void add_blocktime(const Node *node, json_object *status)
{
    json_object *object = colo_json_add_object(status, "blocktime");
    figures_describe_blocktime(node->figures, object);
    json_object_object_add(object, "corrections",
                           clock_has_agent(node->clock)
                               ? json_object_new_int64((gint64)clock_corrections(node->clock))
                               : NULL);
}

static void add_sync(const Node *node, json_object *status)
{
    const SyncProgress *progress =
        node->is_primary ? primary_progress(node->primary) : receiver_progress(node->receiver);
    if (!progress || fsm_is_protected(node->state)) {
        json_object_object_add(status, "sync", NULL);
        return;
    }
    json_object *sync = colo_json_add_object(status, "sync");
    json_object_object_add(sync, "percent", json_object_new_double(progress->percent));
    colo_json_add_int(sync, "round", progress->round);
    colo_json_add_int(sync, "sent-bytes", (gint64)progress->sent_bytes);
    colo_json_add_int(sync, "same-bytes", (gint64)progress->same_bytes);
    colo_json_add_int(sync, "total-bytes", (gint64)progress->total_bytes);
    if (progress->left_us >= 0)
        colo_json_add_int(sync, "left-ms", progress->left_us / COLO_US_PER_MS);
    if (!node->is_primary)
        return; /* the others are the sender's */
    json_object_object_add(sync, "mbps",
                           json_object_new_double(progress->link_bytes_per_s * 8 / 1e6));
    json_object_object_add(sync, "pages-per-second",
                           json_object_new_double(progress->send_bytes_per_s / VM_PAGE_SIZE));
    json_object_object_add(sync, "dirty-pages-per-second",
                           json_object_new_double(progress->dirty_bytes_per_s / VM_PAGE_SIZE));
}

static void add_frames(const Node *node, json_object *status)
{
    const TrafficStats stats = traffic_stats(node->traffic);
    json_object *held = colo_json_add_object(status, "held");
    colo_json_add_int(held, "frames", (gint64)stats.held.frames);
    colo_json_add_int(held, "bytes", (gint64)stats.held.bytes);
    colo_json_add_int(held, "max-frames", (gint64)stats.held.max_frames);
    colo_json_add_int(held, "max-bytes", (gint64)stats.held.max_bytes);
    colo_json_add_int(held, "released", (gint64)stats.held.released_frames);
    colo_json_add_int(held, "dropped", (gint64)(stats.held.dropped_frames + stats.leaving.dropped));
    json_object *packets = colo_json_add_object(status, "packets");
    colo_json_add_int(packets, "mirrored", (gint64)stats.mirrored);
    colo_json_add_int(packets, "dropped",
                      (gint64)(stats.mirror_congested +
                               backlog_stats(replay_input_backlog(node->replay))->dropped));
    colo_json_add_int(packets, "input-dropped",
                      (gint64)(stats.deferred.dropped + cards_dropped(node->cards)));
}

static void add_compare(const Node *node, json_object *status)
{
    colo_json_add_bool(status, "comparing", traffic_route(node->traffic) == ROUTE_COMPARE);
    json_object *compare = colo_json_add_object(status, "compare");
    divergence_log_describe(judge_divergences(node->judge), compare);
    const CompareStats *stats = judge_stats(node->judge);
    if (!stats)
        return;
    colo_json_add_string(compare, "vm", peer_vm_name(judge_peer_vm(node->judge)));
    colo_json_add_int(compare, "held", (gint64)stats->held_frames);
    colo_json_add_int(compare, "flows", (gint64)stats->flows);
    colo_json_add_int(compare, "max-flows", COMPARE_MAX_FLOWS_DEFAULT);
    colo_json_add_int(compare, "evicted-flows", (gint64)stats->evicted_flows);
    colo_json_add_int(compare, "uncompared", (gint64)stats->uncompared_frames);
    colo_json_add_int(compare, "released", (gint64)stats->released_by_compare);
    colo_json_add_int(compare, "committed", (gint64)stats->released_by_checkpoint);
    colo_json_add_int(compare, "verified-bytes", (gint64)stats->verified_bytes);
    colo_json_add_int(compare, "secondary-frames", (gint64)stats->secondary_frames);
}

static json_object *carrier_value(UplinkCarrier carrier)
{
    return carrier == UPLINK_CARRIER_UNKNOWN
               ? NULL
               : json_object_new_boolean(carrier == UPLINK_CARRIER_YES);
}

static void add_nics(const Node *node, json_object *status)
{
    json_object *nics = json_object_new_array();
    json_object_object_add(status, "nics", nics);
    for (guint i = 0; i < node->config->nics->len; i++) {
        const ConfigNic *config = g_ptr_array_index(node->config->nics, i);
        const VmNic *guest = g_ptr_array_index(node->config->vm->nics, i);
        gboolean peer_has = uplinks_peer_has_carrier(node->uplinks, i);
        json_object *nic = json_object_new_object();
        colo_json_add_string(nic, "name", config->name);
        colo_json_add_string(nic, "attach", vm_attach_name(vm_nic_attach(guest)));
        colo_json_add_string(nic, "tap", uplink_ifname(cards_uplink(node->cards, i)));
        json_object_object_add(nic, "carrier", carrier_value(uplinks_carrier(node->uplinks, i)));
        json_object_object_add(nic, "peer-carrier",
                               link_is_up(node->link) ? json_object_new_boolean(peer_has) : NULL);
        json_object_array_add(nics, nic);
    }
}

static const char *peer_called(const Node *node)
{
    return node->peer_name ? node->peer_name : node->config->peer ? node->config->peer : "the peer";
}

/* What a hand-over or a takeover waits for now. */
static const char *waits_for_step(const Node *node)
{
    if (node->state == FSM_P_DEVICE)
        return cycle_waits_for(primary_phase(node->primary));
    if (!fsm_is_taking_over(node->state))
        return NULL;
    return resume_refusal(node->resume) ? resume_refusal(node->resume) : node_vm_waits_for(node);
}

static AdviceFacts advice_facts(const Node *node)
{
    const char *arbiter = claim_trouble(node->claim);
    if (node->state == FSM_P_ACTIVE)
        arbiter = claim_recording(node->claim) != CLAIM_RECORD_WANTED ? NULL
                  : arbiter                                           ? arbiter
                            : "the session can't be put on record";
    return (AdviceFacts){.state = node->state,
                         .peer = peer_called(node),
                         .no_arbiter = node->config->arbiter == CONFIG_ARBITER_NONE,
                         .handed = claim_was_handed(node->claim),
                         .undecided = claim_is_undecided(node->claim),
                         .arbiter = arbiter,
                         .step = waits_for_step(node),
                         .refusal = resume_refusal(node->resume),
                         .ends = final_has_begun(node->final)};
}

static void add_waiting(const Node *node, json_object *status)
{
    AdviceFacts facts = advice_facts(node);
    Advice advice;
    if (!advice_of(&facts, &advice)) {
        json_object_object_add(status, "waiting", NULL);
        return;
    }
    json_object *waiting = colo_json_add_object(status, "waiting");
    colo_json_add_string(waiting, "for", advice.waits);
    colo_json_add_string(waiting, "runs", advice.runs);
    g_autofree char *can =
        g_strconcat(seek_is_paused(node->seek) ? "the link is paused: 'colo recover' here; " : "",
                    advice.can, NULL);
    colo_json_add_string(waiting, "can", can);
    advice_clear(&advice);
}

static void do_status(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments;
    const Node *node = user_data;
    json_object *status = json_object_new_object();
    colo_json_add_string(status, "node", node->config->name);
    add_vm(node, status);
    colo_json_add_string(status, "role", node_role(node));
    colo_json_add_string(status, "state", fsm_state_name(node->state));
    colo_json_add_bool(status, "protected", node_is_protected(node));
    add_waiting(node, status);
    colo_json_add_string(status, "mode", mode_name(node->config->mode));
    add_peer(node, status);
    colo_json_add_int(status, "epoch", (gint64)node->epoch);
    add_checkpoints(node, status);
    add_blocktime(node, status);
    add_sync(node, status);
    disks_add_status(node->disks, status);
    add_frames(node, status);
    add_compare(node, status);
    add_nics(node, status);
    recording_add_status(node, status);
    gint64 expected_us = switching_expected_us(node);
    json_object_object_add(
        status, "expected-downtime-ms",
        expected_us < 0 ? NULL : json_object_new_double((double)expected_us / COLO_US_PER_MS));
    json_object_object_add(status, "switchover", switchover_describe(node->switchover));
    json_object *arbiter = colo_json_add_object(status, "arbiter");
    g_autofree char *type = config_get(node->config, "arbiter.type", NULL);
    colo_json_add_string(arbiter, "type", type);
    colo_json_add_string(arbiter, "answer", claim_last_answer(node->claim));
    colo_json_add_string(arbiter, "trouble", claim_trouble(node->claim));
    figures_describe_life(node->figures, status);
    control_reply(request, status);
}

/* ---- orders ---- */

static void fail(ControlRequest *request, GError *error)
{
    control_fail(request, error);
    g_error_free(error);
}

static GError *state_error(const Node *node, const char *wanted, const char *way_out)
{
    return g_error_new(CONTROL_ERROR, CONTROL_ERROR_STATE,
                       "%s is not possible on this node, which is %s in state %s: %s", wanted,
                       node_role(node), fsm_state_name(node->state), way_out);
}

static void do_checkpoint(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments;
    Node *node = user_data;
    if (node->state != FSM_P_COLO) {
        fail(request, state_error(node, "a checkpoint", "ask the primary of a protected VM"));
        return;
    }
    primary_want(node->primary, REASON_ADMIN);
    control_reply(request, NULL);
}

/* There is no copy of the VM here that could continue, or not by this command. */
static void fail_failover(ControlRequest *request, const Node *node)
{
    AdviceFacts facts = advice_facts(node);
    Advice advice = {NULL, NULL, NULL};
    gboolean here =
        fsm_is_primary(node->state) && node->state != FSM_P_ASKING && node->state != FSM_P_FROZEN;
    if (node->state == FSM_P_DEVICE || node->state == FSM_P_HANDED)
        advice.can = g_strdup("the VM is being handed over already");
    else if (here)
        advice.can = g_strdup("the VM is here, and unprotected: a secondary must have joined, and "
                              "status show PROTECTED");
    else if (!advice_of(&facts, &advice))
        advice.can = g_strdup("no complete copy of the VM is here: wait until status shows "
                              "PROTECTED");
    fail(request, state_error(node, "a failover", advice.can));
    advice_clear(&advice);
}

/* Nobody but an administrator can know. */
static gboolean may_run_there(const Node *node)
{
    return (node->state == FSM_P_PAUSED || node->state == FSM_P_RECOVER) &&
           node->config->arbiter == CONFIG_ARBITER_NONE && claim_was_handed(node->claim);
}

static void fail_handed(ControlRequest *request, const Node *node)
{
    g_autofree char *why =
        g_strdup_printf("the VM was handed over to %s when the link was lost, and may run there: "
                        "make sure that it doesn't, then 'colo failover --force'",
                        peer_called(node));
    fail(request, state_error(node, "a failover", why));
}

static void do_failover(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    Node *node = user_data;
    json_object *force = json_object_object_get(arguments, "force");
    if (!judge_copy_is_fit(node->judge) || !copy_is_valid(node->copy)) {
        fail(request, g_error_new(CONTROL_ERROR, CONTROL_ERROR_STATE,
                                  "a failover is not possible now: the secondary's VM has stopped "
                                  "by itself, and a checkpoint is under way (try again)"));
        return;
    }
    switch (node->state) {
    case FSM_P_COLO:
    case FSM_P_PRE_SWITCHOVER:
        control_reply(request, NULL);
        node_event(node, FSM_YIELD);
        return;
    case FSM_S_COLO:
        message_send(node->link, &(Message){.type = LINK_MSG_YIELD});
        control_reply(request, NULL);
        return;
    case FSM_P_PAUSED:
    case FSM_P_RECOVER:
    case FSM_S_PAUSED:
    case FSM_S_RECOVER:
        if (may_run_there(node) && !json_object_get_boolean(force)) {
            fail_handed(request, node);
            return;
        }
        control_reply(request, NULL);
        claim_order(node->claim, json_object_get_boolean(force));
        return;
    case FSM_P_FROZEN:
        if (!json_object_get_boolean(force)) {
            fail_failover(request, node);
            return;
        }
        control_reply(request, NULL);
        claim_overrule(node->claim);
        return;
    default:
        fail_failover(request, node);
    }
}

/* The guest is not this node's to stop, or to continue if it is stopped. */
static gboolean fail_elsewhere(ControlRequest *request, const Node *node, const char *wanted)
{
    g_autofree char *way_out =
        stops_way_out(node->state, final_has_begun(node->final), peer_called(node));
    if (way_out)
        fail(request, state_error(node, wanted, way_out));
    return way_out != NULL;
}

static void do_stop(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments;
    Node *node = user_data;
    if (fail_elsewhere(request, node, "to stop the guest"))
        return;
    control_reply(request, NULL);
    resume_stop(node->resume);
    if (!vm_is_running(machine_vm(node->machine)))
        resume_report_stop(node->resume);
    /* It pauses the guest, and tells the secondary by a checkpoint. */
    primary_reschedule(node->primary);
}

static void do_cont(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments;
    Node *node = user_data;
    if (fsm_is_primary(node->state) && resume_stops(node->resume) &&
        fail_elsewhere(request, node, "to continue the guest"))
        return;
    if (resume_now(node->resume, request))
        return;
    gboolean runs = machine_vm(node->machine) && vm_is_running(machine_vm(node->machine));
    if (!runs && fail_elsewhere(request, node, "to continue the guest"))
        return;
    if (!runs && (node->state == FSM_P_PAUSED || node->state == FSM_P_RECOVER))
        fail(request, state_error(node, "to continue the guest",
                                  "it isn't known which node continues with the VM ('colo status' "
                                  "shows what that waits for)"));
    else
        control_reply(request, NULL); /* a pause of colod's own ends by itself */
}

/* It has neither a link nor an attempt at one, and won't have one before it is in another state. */
static gboolean is_without_link(FsmState state)
{
    switch (state) {
    case FSM_P_ASKING:
    case FSM_P_STARTING:
    case FSM_S_STARTING:
    case FSM_S_DEVICE:
    case FSM_S_GIVING:
    case FSM_S_LEAVING:
    case FSM_FAILED:
    case FSM_COMPLETED:
        return TRUE;
    default:
        return FALSE;
    }
}

static void do_pause(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments;
    Node *node = user_data;
    if (is_without_link(node->state)) {
        fail(request, state_error(node, "to pause the link",
                                  "there is none, and none is looked for: wait for another state"));
        return;
    }
    control_reply(request, NULL);
    node_link_pause(node);
}

static void do_recover(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    Node *node = user_data;
    const char *uri = json_object_get_string(json_object_object_get(arguments, "uri"));
    GError *error = NULL;
    gboolean dials = !fsm_is_primary(node->state) || node->state == FSM_P_FROZEN;
    if (link_is_up(node->link))
        error = state_error(node, "to look for the peer", "the link is up: 'colo pause' ends it");
    else if (is_without_link(node->state))
        error = state_error(node, "to look for the peer", "wait for another state");
    if (error || !seek_recover(node->seek, dials, uri, &error))
        fail(request, error);
    else
        control_reply(request, NULL);
}

static void do_announce(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments;
    Node *node = user_data;
    if (parts_announce_right(node) != ANNOUNCE_ALLOWED) {
        fail(request, state_error(node, "an announcement", "ask the node that the guest runs on"));
        return;
    }
    announce_start(node->announce);
    control_reply(request, NULL);
}

static void do_quit(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments;
    control_reply(request, NULL);
    node_shut_down(user_data);
}

static const ControlCommand commands[] = {
    {"status",           do_status,           "",                         "Shows the state of this node and its VM.",                               TRUE },
    {"get",              do_get,              "name:string?",             "Shows the value of one option, or of all.",                              FALSE},
    {"set",              do_set,              "name:string value:string",
     "Changes a live option; of the pair: on both nodes.",                                                                                          FALSE},
    {"checkpoint",       do_checkpoint,       "",                         "Takes a checkpoint now.",                                                FALSE},
    {"failover",         do_failover,         "force:bool?",
     "Protected: the secondary takes over now. After a lost link: this node continues alone, if "
     "the "
     "arbiter agrees, or with force if it can't be asked, or if the other side was to go on and is "
     "dead.",                                                                                                                                       FALSE},
    {"switchover",       do_switchover,       "pause:bool?",
     "Moves a protected VM to the other host, as planned: nothing is lost or redone. With pause "
     "the "
     "VM is paused first, and waits for continue.",                                                                                                 FALSE},
    {"continue",         do_continue,         "state:string?",
     "Goes on with a switchover that waits in pre-switchover.",                                                                                     TRUE },
    {"cancel",           do_cancel,           "",                         "Cancels a switchover; if there is none, does nothing.",                  TRUE },
    {"query-switchover", do_query_switchover, "",                         "Shows the last switchover.",                                             TRUE },
    {"stop",             do_stop,             "",                         "Stops the guest until `cont`, also through checkpoints and a takeover.",
     FALSE                                                                                                                                               },
    {"cont",             do_cont,             "",
     "Continues a guest that has stopped, or tries at once what is tried again every second: to "
     "resume a VM whose disks refused. Tells how that try has ended.",                                                                              FALSE},
    {"pause",            do_pause,            "",                         "Ends the link to the peer, and looks for none, until 'recover'.",
     TRUE                                                                                                                                                },
    {"recover",          do_recover,          "uri:string?",
     "Ends 'pause'. A secondary dials its primary there, now and once; a primary listens there, "
     "too.",                                                                                                                                        TRUE },
    {"announce",         do_announce,         "",                         "Tells the network again where the guest is.",                            FALSE},
    {"capture-on",       do_capture_on,       "file:string last:int?",
     "Writes what the VMs sent where they differ to files.",                                                                                        FALSE},
    {"capture-off",      do_capture_off,      "",                         "Ends that; the files stay.",                                             FALSE},
    {"quit",             do_quit,             "",                         "Ends this node and its VM; the peer of a primary does not take over.",
     FALSE                                                                                                                                               },
    {NULL,               NULL,                NULL,                       NULL,                                                                     FALSE},
};

gboolean node_control_init(Node *node, GError **error)
{
    node->control = control_new(node->config->control_socket, commands, node, error);
    return node->control != NULL;
}
