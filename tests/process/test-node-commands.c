/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Each command in each state that a node of a pair can be held in: it has an answer, or an error that
 * names the state, or says what to do instead. A set of descriptors is removed in each of them at once.
 */
#include "common/fd.h"
#include "common/log.h"
#include "tests/support/control-peer.h"
#include "tests/support/switchover-pair.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>

/* ---- States ---- */

static void be_alone(Fixture *f)
{
    set_up(f, "file");
    start(&f->host[0], "primary");
    WAIT_FOR(f->host[0].node->state == FSM_P_NONE);
}

static void be_alone_as_secondary(Fixture *f)
{
    set_up(f, "file");
    host_set(&f->host[1], "node", "role", "secondary");
    start(&f->host[1], "secondary");
    WAIT_FOR(f->host[1].node->state == FSM_S_NONE);
}

/* QEMU does not answer, from the start on. */
static void be_starting(Fixture *f)
{
    set_up(f, "file");
    host_set(&f->host[1], "node", "role", "secondary");
    for (int i = 0; i < 2; i++) {
        f->host[i].faulty_operation = FAKE_VM_START;
        f->host[i].fault = FAKE_VM_HOLD;
        f->host[i].nth = 1;
        start(&f->host[i], i ? "secondary" : "primary");
    }
    WAIT_FOR(f->host[0].vm && fake_vm_is_held(f->host[0].vm) && f->host[1].vm &&
             fake_vm_is_held(f->host[1].vm));
}

/* The arbiter can't say whether it may start the VM. */
static void be_asking(Fixture *f)
{
    set_up(f, "file");
    Host *a = &f->host[0];
    g_autofree char *path = g_strdup_printf("%s/%s.owner", f->dir, a->config->vm->uuid);
    g_assert_cmpint(g_mkdir(path, 0700), ==, 0);
    a->is_to_ask = TRUE;
    start(a, "primary");
    WAIT_FOR(claim_starting(a->node->claim) == CLAIM_START_AGAIN);
    g_assert_cmpint(g_rmdir(path), ==, 0);
}

/* The secondary's QEMU has to show that it answers, before a session begins. */
static void be_in_setup(Fixture *f)
{
    set_up(f, "file");
    start(&f->host[0], "primary");
    f->host[1].faulty_operation = FAKE_VM_PAUSE;
    f->host[1].fault = FAKE_VM_HOLD;
    f->host[1].nth = 1;
    start(&f->host[1], "secondary");
    WAIT_FOR(f->host[0].node->state == FSM_P_SETUP && f->host[1].node->state == FSM_S_ACTIVE &&
             fake_vm_is_held(f->host[1].vm));
}

/* The secondary's VM can't be loaded: it isn't protected yet. */
static void be_active(Fixture *f)
{
    set_up(f, "file");
    start(&f->host[0], "primary");
    f->host[1].faulty_operation = FAKE_VM_LOAD;
    f->host[1].fault = FAKE_VM_HOLD;
    f->host[1].nth = 1;
    start(&f->host[1], "secondary");
    WAIT_FOR(f->host[0].node->state == FSM_P_ACTIVE && f->host[1].node->state == FSM_S_ACTIVE &&
             f->host[1].vm && fake_vm_is_held(f->host[1].vm));
}

static void be_protected(Fixture *f)
{
    start_stepping(f, NULL);
}

static void be_handed(Fixture *f)
{
    start_held(f);
    fake_vm_inject(f->host[1].vm, FAKE_VM_RESUME, FAKE_VM_HOLD, 1);
    g_assert_true(go_on(&f->host[0], NULL, NULL));
    WAIT_FOR(f->host[0].node->state == FSM_P_HANDED && fake_vm_is_held(f->host[1].vm) &&
             f->host[1].node->state == FSM_S_TAKING);
}

/* Can it continue? Its QEMU doesn't say. */
static void be_checking(Fixture *f)
{
    start_held(f);
    fake_vm_inject(f->host[1].vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    g_assert_true(go_on(&f->host[0], NULL, NULL));
    WAIT_FOR(f->host[1].node->state == FSM_S_HANDED && fake_vm_is_held(f->host[1].vm));
}

/* It can't, and the arbiter's storage is away. */
static void be_giving(Fixture *f)
{
    Host *b = &f->host[1];
    start_held(f);
    fake_vm_inject(b->vm, FAKE_VM_LOAD, FAKE_VM_HOLD, 1);
    g_assert_true(go_on(&f->host[0], NULL, NULL));
    WAIT_FOR(b->node->state == FSM_S_TAKING && fake_vm_is_held(b->vm));
    set_storage(b, FALSE);
    node_event(b->node, FSM_HAND_OVER_FAILED);
    WAIT_FOR(b->node->state == FSM_S_GIVING && trouble_last(b->node->trouble));
}

static void be_leaving(Fixture *f)
{
    be_giving(f);
    node_event(f->host[1].node, FSM_SHUTDOWN);
    WAIT_FOR(f->host[1].node->state == FSM_S_LEAVING);
}

static void be_in_device(Fixture *f)
{
    start_held(f);
    fake_vm_inject(f->host[0].vm, FAKE_VM_SAVE, FAKE_VM_HOLD, 1);
    g_assert_true(go_on(&f->host[0], NULL, NULL));
    WAIT_FOR(f->host[0].node->state == FSM_P_DEVICE && fake_vm_is_held(f->host[0].vm));
}

/* Nobody can be asked who continues. */
static void be_paused(Fixture *f)
{
    start_split_pair(f);
    set_storage(&f->host[0], FALSE);
    set_storage(&f->host[1], FALSE);
    control_peer_ask(f->host[1].config->control_socket, "{\"execute\":\"pause\"}");
    WAIT_FOR(f->host[0].node->state == FSM_P_PAUSED && f->host[1].node->state == FSM_S_PAUSED);
}

static void be_recovering(Fixture *f)
{
    be_paused(f);
    control_peer_ask(f->host[1].config->control_socket, "{\"execute\":\"recover\"}");
    WAIT_FOR(f->host[0].node->state == FSM_P_RECOVER && f->host[1].node->state == FSM_S_RECOVER);
}

/* Likewise; and the secondary has started again, and waits to hear that the primary runs the VM. */
static void be_met_anew(Fixture *f)
{
    be_paused(f);
    die(&f->host[1]);
    set_storage(&f->host[1], TRUE);
    host_set(&f->host[1], "node", "role", "secondary");
    start(&f->host[1], "secondary");
    WAIT_FOR(f->host[0].node->state == FSM_P_RECOVER && f->host[1].node->state == FSM_S_SETUP);
}

/* The secondary continues, takes nobody, and the primary learns that. */
static void be_frozen(Fixture *f)
{
    start_split_pair(f);
    set_storage(&f->host[0], FALSE);
    control_peer_ask(f->host[1].config->control_socket, "{\"execute\":\"pause\"}");
    WAIT_FOR(f->host[0].node->state == FSM_P_PAUSED && f->host[1].node->state == FSM_P_NONE);
    set_storage(&f->host[0], TRUE);
    WAIT_FOR(f->host[0].node->state == FSM_P_FROZEN);
}

/* The secondary is to continue, and QEMU refuses to run its VM. */
static void be_taking_over(Fixture *f)
{
    start_split_pair(f);
    fake_vm_refuse(f->host[1].vm, FAKE_VM_RESUME, TRUE);
    die(&f->host[0]);
    WAIT_FOR(f->host[1].node->state == FSM_S_DEVICE && resume_refusal(f->host[1].node->resume));
}

static void be_stopped(Fixture *f)
{
    start_stepping(f, NULL);
    g_autofree char *done =
        control_peer_ask(f->host[0].config->control_socket, "{\"execute\":\"stop\"}");
    g_assert_cmpstr(done, ==, "{\"return\":{}}");
    WAIT_FOR(!vm_is_running(f->host[0].vm) && svm_is_stopped(f->host[1].node));
}

static const struct {
    const char *name;
    void (*be)(Fixture *f);
    FsmState states[2]; /* FSM_STATES: that host isn't there */
} scenes[] = {
    {"alone",     be_alone,              {FSM_P_NONE, FSM_STATES}          },
    {"waits",     be_alone_as_secondary, {FSM_STATES, FSM_S_NONE}          },
    {"asking",    be_asking,             {FSM_P_ASKING, FSM_STATES}        },
    {"starting",  be_starting,           {FSM_P_STARTING, FSM_S_STARTING}  },
    {"setup",     be_in_setup,           {FSM_P_SETUP, FSM_S_ACTIVE}       },
    {"active",    be_active,             {FSM_P_ACTIVE, FSM_S_ACTIVE}      },
    {"protected", be_protected,          {FSM_P_COLO, FSM_S_COLO}          },
    {"held",      start_held,            {FSM_P_PRE_SWITCHOVER, FSM_S_COLO}},
    {"device",    be_in_device,          {FSM_P_DEVICE, FSM_S_COLO}        },
    {"handed",    be_handed,             {FSM_P_HANDED, FSM_S_TAKING}      },
    {"checks",    be_checking,           {FSM_P_HANDED, FSM_S_HANDED}      },
    {"gives",     be_giving,             {FSM_P_HANDED, FSM_S_GIVING}      },
    {"leaves",    be_leaving,            {FSM_P_HANDED, FSM_S_LEAVING}     },
    {"meets",     be_met_anew,           {FSM_P_RECOVER, FSM_S_SETUP}      },
    {"paused",    be_paused,             {FSM_P_PAUSED, FSM_S_PAUSED}      },
    {"recovers",  be_recovering,         {FSM_P_RECOVER, FSM_S_RECOVER}    },
    {"frozen",    be_frozen,             {FSM_P_FROZEN, FSM_P_NONE}        },
    {"takes",     be_taking_over,        {FSM_STATES, FSM_S_DEVICE}        },
    {"stopped",   be_stopped,            {FSM_P_COLO, FSM_S_COLO}          },
};

/* ---- Commands ---- */

static const char *const mild[] = {
    "{\"execute\":\"status\"}",
    "{\"execute\":\"get\"}",
    "{\"execute\":\"set\",\"arguments\":{\"name\":\"checkpoint-period\",\"value\":\"1s\"}}",
    "{\"execute\":\"query-switchover\"}",
    "{\"execute\":\"query-fdsets\"}",
    "{\"execute\":\"add-fd\"}",
    "{\"execute\":\"remove-fd\",\"arguments\":{\"fdset-id\":7}}",
    "{\"execute\":\"announce\"}",
    "{\"execute\":\"checkpoint\"}",
    "{\"execute\":\"capture-off\"}",
};

/* Each on a pair of its own. */
static const char *const others[] = {
    "{\"execute\":\"failover\"}",
    "{\"execute\":\"switchover\"}",
    "{\"execute\":\"continue\"}",
    "{\"execute\":\"cancel\"}",
    "{\"execute\":\"pause\"}",
    "{\"execute\":\"recover\"}",
    "{\"execute\":\"recover\",\"arguments\":{\"uri\":\"nowhere\"}}",
    "{\"execute\":\"stop\"}",
    "{\"execute\":\"cont\"}",
    "{\"execute\":\"quit\"}",
};

static gboolean names(const char *desc, const char *what, const char *name)
{
    g_autofree char *words = g_strdup_printf("in %s %s", what, name);
    const char *found = name ? strstr(desc, words) : NULL;
    return found && !g_ascii_isalnum(found[strlen(words)]) && found[strlen(words)] != '-';
}

/*
 * The state is named, or the switchover's status. Or the error is about the command, whatever the
 * state; or about what it has tried: QEMU refused, or hasn't answered yet.
 */
static gboolean is_told(FsmState state, const char *status, const char *desc)
{
    static const char *const openings[] = {
        "uri: ", "add-fd: no descriptor", "remove-fd: there is no set 7",
        "not done after 5 s (resume): ", "GenericError: injected failure"};
    for (gsize i = 0; i < G_N_ELEMENTS(openings); i++)
        if (g_str_has_prefix(desc, openings[i]))
            return TRUE;
    if (!status && g_str_has_prefix(desc, "there was no switchover: begin one with pause"))
        return TRUE;
    return names(desc, "state", fsm_state_name(state)) || names(desc, "status", status);
}

static void ask(const Host *host, const char *command)
{
    FsmState state = host->node->state;
    const char *before = switchover_phase_name(phase_of(host));
    g_autofree char *answer = control_peer_ask(host->config->control_socket, command);
    json_object *all = answer ? json_tokener_parse(answer) : NULL, *error = NULL, *part = NULL;
    if (!all)
        g_error("%s in state %s: no answer", command, fsm_state_name(state));
    if (json_object_object_get_ex(all, "error", &error)) {
        g_assert_true(json_object_object_get_ex(error, "desc", &part));
        const char *desc = json_object_get_string(part);
        g_test_message("%s %s: %s -> %s", host->name, fsm_state_name(state), command, desc);
        g_assert_true(json_object_object_get_ex(error, "class", &part));
        /* The peer may have told its own meanwhile. */
        const char *after = switchover_phase_name(phase_of(host));
        if (!strcmp(json_object_get_string(part), "GenericError") &&
            !is_told(state, before, desc) && !is_told(state, after, desc))
            g_error("%s in state %s: %s", command, fsm_state_name(state), desc);
    } else {
        g_assert_true(json_object_object_get_ex(all, "return", &part));
    }
    json_object_put(all);
}

/* ---- Sets of descriptors ---- */

static void expect_sets(const Host *host, const char *sets)
{
    g_autofree char *answer =
        control_peer_ask(host->config->control_socket, "{\"execute\":\"query-fdsets\"}");
    if (!strstr(answer, sets))
        g_error("%s in state %s: the sets are %s, not %s", host->name,
                fsm_state_name(host->node->state), answer, sets);
}

/* Whoever has given it has gone. It is there in this state, and is removed in it. */
static void give_and_remove(const Host *host)
{
    FsmState state = host->node->state;
    const char *path = host->config->control_socket;
    COLO_AUTO_FD fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    ControlPeer *peer = control_peer_greeted(path);
    control_peer_send_fds(peer, "{\"execute\":\"add-fd\",\"arguments\":{\"fdset-id\":9}}\n", &fd,
                          1);
    g_autofree char *added = NULL;
    do {
        g_free(added);
        added = control_peer_line(peer);
    } while (g_str_has_prefix(added, "{\"event\""));
    g_assert_true(g_str_has_prefix(added, "{\"return\":{\"fdset-id\":9"));
    control_peer_free(peer);
    expect_sets(host, "\"fdset-id\":9");
    g_autofree char *removed =
        control_peer_ask(path, "{\"execute\":\"remove-fd\",\"arguments\":{\"fdset-id\":9}}");
    g_assert_cmpstr(removed, ==, "{\"return\":{}}");
    expect_sets(host, "{\"return\":[]}");
    g_assert_cmpint(host->node->state, ==, state);
}

static void walk_sets(gconstpointer data)
{
    gsize scene = GPOINTER_TO_SIZE(data);
    Fixture f;
    scenes[scene].be(&f);
    for (int side = 0; side < 2; side++)
        if (scenes[scene].states[side] != FSM_STATES)
            give_and_remove(&f.host[side]);
    tear_down(&f);
}

static void walk(gconstpointer data)
{
    gsize scene = GPOINTER_TO_SIZE(data);
    /* Hardly an answer depends on the mode: in one of them each command, in the other the mild ones. */
    for (gsize i = in_colo_mode() ? 0 : G_N_ELEMENTS(others); i <= G_N_ELEMENTS(others); i++)
        for (int side = 0; side < 2; side++) {
            Fixture f;
            if (scenes[scene].states[side] == FSM_STATES)
                continue;
            scenes[scene].be(&f);
            const Host *host = &f.host[side];
            g_assert_cmpint(host->node->state, ==, scenes[scene].states[side]);
            if (i < G_N_ELEMENTS(others))
                ask(host, others[i]);
            else
                for (gsize k = 0; k < G_N_ELEMENTS(mild); k++)
                    ask(host, mild[k]);
            tear_down(&f);
        }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    for (gsize i = 0; i < G_N_ELEMENTS(scenes); i++) {
        g_autofree char *path = g_strdup_printf("/node-commands/%s", scenes[i].name);
        g_autofree char *sets = g_strconcat(path, "-sets", NULL);
        add_pair_data_test(path, GSIZE_TO_POINTER(i), walk);
        add_pair_data_test(sets, GSIZE_TO_POINTER(i), walk_sets);
    }
    return g_test_run();
}
