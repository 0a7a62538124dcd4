/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Processes: a node with its configuration, control socket and log, started, ended and killed. */
#include <errno.h>
#include <glib/gstdio.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "colo/config/config.h"
#include "colo/node/node_internal.h"
#include "common/fault.h"
#include "common/log.h"
#include "tests/world/world.h"

#define UUID "6ba7b810-9dad-11d1-80b4-00c04fd430c8"

/* ---- The story, printed ---- */

static void print(const char *format, va_list args)
{
    g_autofree char *text = g_strdup_vprintf(format, args);
    /* The folder's name is by chance, and no story is told twice with the same one. */
    g_autofree char *folder = g_path_get_basename(world.dir);
    g_auto(GStrv) parts = g_strsplit(text, folder, -1);
    g_free(text);
    text = g_strjoinv("colo-world", parts);
    printf("# %12.6f %-7s %s\n", (double)world.now_us / G_USEC_PER_SEC - 1000,
           world.current ? world.current->name : "-", text);
}

void world_tell(const char *format, ...)
{
    va_list args;
    if (!world.traces)
        return;
    va_start(args, format);
    print(format, args);
    va_end(args);
}

void world_fail(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    print(format, args);
    va_end(args);
    printf("# WORLD_SEED=%" G_GUINT64_FORMAT " fails at %.3f s\n", world.seed,
           (double)world.now_us / G_USEC_PER_SEC - 1000);
    world_end();
    fflush(stdout);
    _exit(1);
}

#define LOG(level)                                                                                 \
    void log_##level(const char *format, ...)                                                      \
    {                                                                                              \
        va_list args;                                                                              \
        if (!world.traces)                                                                         \
            return;                                                                                \
        va_start(args, format);                                                                    \
        print(format, args);                                                                       \
        va_end(args);                                                                              \
    }

LOG(error)
LOG(warning)
LOG(info)
LOG(debug)

void log_set_epoch(guint64 epoch)
{
    (void)epoch;
}

void log_set_level(LogLevel level)
{
    (void)level;
}

void log_init(const char *vm, LogLevel level)
{
    (void)vm;
    (void)level;
}

/* ---- Rare states ---- */

void world_sometimes(const char *what)
{
    guint *count = g_hash_table_lookup(world.sometimes, what);
    if (!count) {
        count = g_new0(guint, 1);
        g_hash_table_insert(world.sometimes, g_strdup(what), count);
    }
    (*count)++;
}

/* ---- Control sockets ---- */

struct Control {
    WorldHost *host;
};

struct ControlRequest {
    WorldHost *host;
};

/* What a command may wait for: five seconds, of a host that runs. */
#define ANSWERED_US (6 * G_USEC_PER_SEC)

static void answered(ControlRequest *request)
{
    request->host->unanswered--;
    g_free(request);
}

void world_check_answers(const WorldHost *host)
{
    if (host->unanswered > 0 &&
        world.now_us > MAX(host->asked_us, host->frozen_until_us) + ANSWERED_US)
        world_fail("%s: a command is not answered in state %s", host->name,
                   fsm_state_name(host->state));
}

G_DEFINE_QUARK(control_error, control_error)

Control *control_new(const char *path, const ControlCommand *commands, gpointer user_data,
                     GError **error)
{
    (void)path;
    (void)error;
    Control *control = g_new0(Control, 1);
    control->host = world.current;
    control->host->commands = commands;
    control->host->command_data = user_data;
    return control;
}

int control_descriptor(const Control *control, gint64 set, const char *opaque, GError **error)
{
    (void)control;
    g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_ARGUMENT, "no '%s' in set %d", opaque,
                (int)set);
    return -1;
}

void control_free(Control *control)
{
    if (control)
        control->host->commands = NULL;
    g_free(control);
}

void control_reply(ControlRequest *request, json_object *result)
{
    json_object_put(request->host->status);
    request->host->status = result;
    g_clear_pointer(&request->host->refusal, g_free);
    answered(request);
}

void control_fail(ControlRequest *request, const GError *error)
{
    g_free(request->host->refusal);
    request->host->refusal = g_strdup(error->message);
    answered(request);
}

void world_begin_reign(WorldHost *host)
{
    host->reign = ++world.reigns;
    world_tell("%s: reign %u begins", host->name, host->reign);
}

static gboolean is_in_doubt(FsmState state)
{
    return fsm_is_contested(state) || state == FSM_S_PAUSED || state == FSM_S_RECOVER ||
           state == FSM_S_HANDED || fsm_is_taking_over(state) || state == FSM_S_GIVING ||
           state == FSM_S_LEAVING;
}

/*
 * It dies in that state. What a takeover lets out leaves in its last step, when its note is gone. Without a
 * note, which its storage has not taken, it can't know (docs/ARCHITECTURE.md).
 */
static void note_death(WorldHost *host, FsmState state)
{
    host->died_in_doubt = is_in_doubt(state);
    const Claim *claim = host->node->claim;
    gboolean unheard = copy_job(host->node->copy) != COPY_RESUME &&
                       traffic_route(host->node->traffic) != ROUTE_OPEN;
    gboolean held = claim_holds_output(claim) && claim_noting(claim) != CLAIM_NOTE_REMOVING;
    gboolean noted = claim_noting(claim) != CLAIM_NOTE_WRITING;
    host->died_unrun = host->died_in_doubt && !fsm_is_contested(state) && !world.disks && noted &&
                       (unheard || held);
}

/* How a node that had a secondary, or was one, has come to its state. */
static void look_at_rare(const WorldHost *host, FsmState before, const char *event)
{
    FsmState state = host->node->state;
    if (host->cut_short && fsm_is_taking_over(state) && !fsm_is_taking_over(before))
        world_sometimes("a takeover while a checkpoint is half received");
    if (before == FSM_P_PAUSED && state == FSM_P_RECOVER)
        world_sometimes("a primary whose question is open is linked again");
    if (before == FSM_S_PAUSED && state == FSM_S_RECOVER && !host->denied)
        world_sometimes("a secondary whose question is open is linked again");
    if (before == FSM_S_COLO && !strcmp(event, "link-down") &&
        copy_condition(host->node->copy) == COPY_STALLED)
        world_sometimes("a link is lost while the copy is stalled");
    if (before == FSM_S_COLO && !strcmp(event, "recycle"))
        world_sometimes("a secondary's QEMU has grown, and is replaced");
}

/* Of the state that a node has just entered. */
static void look_at_state(WorldHost *host, const char *event)
{
    FsmState before = (FsmState)host->state, state = host->node->state;
    host->state = (guint)state;
    host->states |= G_GUINT64_CONSTANT(1) << state;
    world_check_state(host, before, event);
    look_at_rare(host, before, event);
    if (state == FSM_FAILED || state == FSM_COMPLETED)
        host->gone_us = world.now_us;
    if (state == FSM_FAILED) {
        note_death(host, before);
        world_storage_check_given_up(host, before);
    }
    if (state == FSM_S_STARTING && before == FSM_P_FROZEN && host->vm)
        sim_vm_is_left(host->vm);
    host->was_left |= state == FSM_S_STARTING && before == FSM_P_FROZEN;
    if (state == FSM_S_NONE && before == FSM_S_STARTING && host->was_left)
        world_sometimes(host->vm && host->vm->left ? "a VM that has moved is kept as the copy"
                                                   : "a VM that has moved is replaced");
    host->was_left &= state == FSM_S_STARTING;
    world_handed_moved(host, before, event);
    if (fsm_is_contested(before) && (state == FSM_P_NONE || state == FSM_P_SETUP) &&
        world.host[!host->index].ended_unheard) {
        world.host[!host->index].ended_unheard = FALSE;
        world_begin_reign(host);
    }
    switch (state) {
    case FSM_S_TAKING:
        world_stop_check_takeover(host, before);
        break;
    case FSM_S_DEVICE:
        if (before != FSM_S_TAKING)
            world_stop_check_takeover(host, before);
        world.takeovers++;
        world_begin_reign(host);
        break;
    case FSM_P_NONE:
        if (before == FSM_S_TAKING) {
            world.takeovers++;
            world_begin_reign(host);
        }
        /* The other one has perhaps sent what its checkpoint had; clients' history is checked. */
        if (before == FSM_P_FROZEN ||
            (fsm_is_contested(before) && world.host[!host->index].died_unrun))
            world_begin_reign(host);
        world.sole = host;
        break;
    case FSM_P_COLO:
        world.sole = NULL;
        break;
    default:
        break;
    }
}

static void look_at_end(const WorldHost *host)
{
    world.lost |= world.sole == host;
}

/* The VM has moved as planned: the guest is where it was paused, or further. */
static void look_at_moved(const WorldHost *host)
{
    const WorldHost *from = &world.host[!host->index];
    world_sometimes("a switchover is completed");
    if (!from->lives || !from->vm || from->vm->vm.dead || from->node->state != FSM_P_HANDED)
        return;
    world_sometimes("a switchover is completed, and where the VM stood can be seen");
    if (!history_is_within(from->vm->history, host->vm->history))
        world_fail("%s has the VM by a switchover, but not all that its guest did on %s",
                   host->name, from->name);
}

/* What is handed over as planned is in its last checkpoint before, on both nodes. */
static void look_at_switchover(WorldHost *host, json_object *data)
{
    const char *status = json_object_get_string(json_object_object_get(data, "status"));
    gboolean may = !g_strcmp0(host->switchover, "device") ||
                   !g_strcmp0(host->switchover, "cancelling"); /* the arbiter was asked before */
    if (!strcmp(status, "handed") && !may && !world.lied)
        world_fail("%s: its switchover was in status %s, and is in %s", host->name,
                   host->switchover ? host->switchover : "none", status);
    g_free(host->switchover);
    host->switchover = g_strdup(status);
    g_autofree char *text = g_strdup_printf("a switchover: %s", status);
    world_sometimes(text);
    if (!strcmp(status, "completed") && !fsm_is_contested(host->node->state))
        look_at_moved(host);
}

static void look_at_mode(json_object *data)
{
    const char *mode = json_object_get_string(json_object_object_get(data, "mode"));
    world_sometimes(!strcmp(mode, "buffered")
                        ? "the VMs differ too often: buffered mode for a while"
                        : "the VMs are compared again");
}

void control_event(Control *control, const char *name, json_object *data)
{
    world_tell("%s: event %s %s", control->host->name, name,
               world.traces && data ? json_object_to_json_string(data) : "");
    if (!strcmp(name, "ERROR")) {
        g_free(control->host->trouble);
        control->host->trouble = g_strdup(json_object_to_json_string(data));
    }
    if (!strcmp(name, "ERROR") &&
        strstr(control->host->trouble, "what the guest has written may be lost"))
        control->host->unsynced_told = TRUE;
    if (!strcmp(name, "RECOVER_FAILED"))
        world_sometimes("an administrator's recover fails");
    if (!strcmp(name, "MODE_CHANGED"))
        look_at_mode(data);
    if (!strcmp(name, "SWITCHOVER"))
        look_at_switchover(control->host, data);
    if (!strcmp(name, "STATE_CHANGED"))
        look_at_state(control->host, json_object_get_string(json_object_object_get(data, "event")));
    json_object_put(data);
}

typedef struct {
    const ControlCommand *command;
    ControlRequest *request;
    json_object *arguments;
} Call;

static void run_command(gpointer data)
{
    const Call *call = data;
    call->command->handler(call->request, call->arguments, call->request->host->command_data);
}

gboolean world_command(WorldHost *host, const char *name, json_object *arguments)
{
    const ControlCommand *command = host->commands;
    while (command && command->name && strcmp(command->name, name) != 0)
        command++;
    gboolean known = command && command->name;
    host->told_to_end |= !strcmp(name, "quit");
    host->insistence += !strcmp(name, "quit") ? 2 : 0;
    if (known) {
        Call call = {command, g_new0(ControlRequest, 1), arguments};
        call.request->host = host;
        if (host->unanswered++ == 0)
            host->asked_us = world.now_us;
        g_clear_pointer(&host->refusal, g_free);
        world_call(host, run_command, &call);
    }
    json_object_put(arguments);
    return known && !host->refusal;
}

json_object *world_status(WorldHost *host)
{
    world_command(host, "status", json_object_new_object());
    return host->status;
}

/* ---- Fault points ---- */

void colo_fault_point(const char *name)
{
    WorldHost *host = world.current;
    if (!host || host->fault_in == 0 || --host->fault_in > 0)
        return;
    world_tell("fault point %s", name);
    world_sometimes(name);
    world_die(host, world_chance(500));
}

/* ---- Life ---- */

static Config *configure(const WorldHost *host, const char *role)
{
    g_autoptr(GError) error = NULL;
    gboolean arbiter = !strcmp(world.arbiter, "file");
    g_autofree char *text = g_strdup_printf(
        "[node]\nname = %s\nrole = %s\nlisten = 10.0.0.%u:9000\npeer = 10.0.0.%u:9000\n"
        "control-socket = %s/socket\nannounce-initial = 50ms\n"
        "[vm]\nname = web\nuuid = " UUID "\nmemory = 1MiB\nresume-patience = 3s\n"
        "[nic lan]\nmac = 52:54:00:12:34:00\n"
        "%s%s%s%s\n[disks]\nstate-dir = %s\ndisk-timeout = 5s\n"
        "[checkpoint]\nmode = %s\ncheckpoint-period = %" G_GUINT64_FORMAT "ms\n"
        "dirty-limit = %u\n"
        "[arbiter]\ntype = %s\n%s%s\ncheck-period = 60s\n"
        "[log]\nlog-level = info\n",
        host->name, role, host->index + 1, 2 - host->index, host->dir,
        world.disks ? "[disk root]\npath = /image\nformat = " : "", world.disks ? world.disks : "",
        world.disks ? "\non-error = " : "", world.disks ? world.on_error : "", host->dir,
        world.mode, world.period_ms, world.dirty_limit, world.arbiter, arbiter ? "path = " : "",
        arbiter ? host->arbiter_path : "");
    Config *config = config_load_data("world", text, strlen(text), NULL, &error);
    if (!config)
        g_error("%s", error->message);
    if (world.output_limit)
        config->output_limit_bytes = world.output_limit;
    return config;
}

static Vm *make_vm(const VmDescription *description, const VmHandler *handler, gpointer user_data)
{
    return sim_vm_new(description, handler, user_data);
}

static gboolean on_over(gpointer data)
{
    WorldHost *host = data;
    WorldHost *before = world_enter(host);
    Node *node = host->node;
    world_tell("%s: colod ends", host->name);
    node_free(node);
    world_enter(before);
    host->lives = FALSE;
    host->node = NULL;
    host->vm = NULL;
    world_link_look();
    return G_SOURCE_REMOVE;
}

static void on_ended(const GError *error, gpointer user_data)
{
    WorldHost *host = user_data;
    host->failed = error != NULL;
    look_at_end(host);
    if (!error && host->node->is_primary)
        world.ended_on_purpose = TRUE;
    world_tell("%s: the node has ended: %s", host->name, error ? error->message : "as asked to");
    host->ended = TRUE;
    world_later(host, 1000, on_over, host);
}

static void make_node(gpointer data)
{
    WorldHost *host = data;
    NodeHandler handler = {.make_vm = make_vm, .ended = on_ended, .user_data = host};
    g_autoptr(GError) error = NULL;
    host->node = node_new(host->config, &handler, &error);
    if (!host->node)
        g_error("%s: %s", host->name, error->message);
    world_handed_begins(host);
}

void world_start(WorldHost *host, const char *role)
{
    g_assert_false(host->lives);
    world_loop_init(host);
    host->lives = TRUE;
    host->ended = host->failed = host->told_to_end = FALSE;
    host->starts++;
    host->fault_in = 0;
    host->insistence = 0;
    host->restart_us = 0;
    g_clear_pointer(&host->trouble, g_free);
    host->vm = NULL;
    host->uplink = NULL;
    host->carriers = NULL;
    host->link = NULL;
    host->commands = NULL;
    host->config = configure(host, role);
    host->config->discard = host->discards;
    host->discards = FALSE;
    world_tell("%s starts as %s%s", host->name, role,
               host->config->discard ? ", its disks may be overwritten" : "");
    world_call(host, make_node, host);
}

void world_die(WorldHost *host, gboolean power)
{
    if (!host->lives)
        return;
    world_tell("%s dies (%s)", host->name, power ? "its power" : "the process");
    look_at_end(host);
    host->gone_us = world.now_us;
    note_death(host, host->node->state);
    host->lives = FALSE;
    host->node = NULL; /* what it had is nobody's: nothing is freed, nothing runs */
    host->vm = NULL;
    host->uplink = NULL;
    host->carriers = NULL;
    host->commands = NULL;
    host->unanswered = 0;
    world_disk_death(host, power);
    world_link_death(host, power);
    world_link_look();
    if (world.current == host)
        siglongjmp(host->death, 1);
}

static gboolean on_thawed(gpointer data)
{
    (void)data;
    world_link_look();
    return G_SOURCE_REMOVE;
}

void world_freeze(WorldHost *host, gint64 us)
{
    world_tell("%s stands still for %.3f s", host->name, (double)us / G_USEC_PER_SEC);
    host->frozen_until_us = world.now_us + us;
    world_link_look();
    world_later(NULL, us, on_thawed, NULL);
}

/* ---- The world ---- */

static char *folder(const char *name)
{
    char *path = g_build_filename(world.dir, name, NULL);
    g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
    return path;
}

void world_init(guint64 seed)
{
    static const char *const names[WORLD_HOSTS] = {"alpha", "beta"};
    g_autoptr(GError) error = NULL;
    world.seed = seed;
    world.random = seed * 0x2545f4914f6cdd1du + 1;
    world.traces = g_getenv("WORLD_TRACE") != NULL;
    world.sometimes = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    /* GLib's would take its names from the world's clock: all seeds had the same ones. */
    world.dir = g_strdup("/dev/shm/colo-world-XXXXXX");
    if (!mkdtemp(world.dir))
        g_error("%s: %s", world.dir, g_strerror(errno));
    world.outside = (WorldHost){.name = "outside", .lives = TRUE};
    world_loop_init(&world.outside);
    world.current = &world.outside;
    world.port_of_guest = -1;
    world.delay_us = 100;
    g_autofree char *arbiter = folder("arbiter"), *id = NULL, *mount = NULL;
    if (!arbiter_init_folder(arbiter, &id, &mount, &error))
        g_error("%s", error->message);
    for (guint i = 0; i < WORLD_HOSTS; i++) {
        WorldHost *host = &world.host[i];
        host->index = i;
        host->name = names[i];
        host->dir = folder(names[i]);
        host->arbiter_path = g_build_filename(host->dir, "storage", NULL);
        g_assert_cmpint(symlink(arbiter, host->arbiter_path), ==, 0);
        host->carrier = TRUE;
        world_disk_init(host);
    }
}

void world_end(void)
{
    g_autofree char *command = g_strdup_printf("rm -rf '%s'", world.dir);
    if (system(command) != 0)
        printf("# %s is left\n", world.dir);
}
