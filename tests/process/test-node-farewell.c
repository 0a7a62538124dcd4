/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a node sends last is received before its end is noticed: its QEMU takes time to die, and its
 * connections end one by one. The other node is a process of its own, as it has to be awake
 * meanwhile.
 */
#include "common/log.h"
#include "tests/support/host-pair.h"
#include "vm/vm_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Far longer than the other side needs to notice that a connection has ended. */
#define DEATH_MS 300

static VmOps slow_ops;
static void (*quick_kill)(Vm *vm);

static void slow_kill(Vm *vm)
{
    g_usleep(DEATH_MS * G_TIME_SPAN_MILLISECOND);
    quick_kill(vm);
}

static void make_slow(Vm *vm)
{
    slow_ops = *vm->ops;
    quick_kill = slow_ops.kill;
    slow_ops.kill = slow_kill;
    vm->ops = &slow_ops;
}

/* ---- The other process: ends with the state that it was in after colo ---- */

G_NORETURN static void run_other(char **argv)
{
    Fixture fixture;
    const guint16 ports[] = {(guint16)atoi(argv[4]), (guint16)atoi(argv[5])};
    int argc = 1;
    char **unused = argv;
    g_test_init(&argc, &unused, NULL);
    set_up_in(&fixture, argv[2], ports, argv[6]);
    Host *host = &fixture.host[1];
    start(host, argv[3]);
    /* Between two turns of the main loop it may have been protected and no longer. What yields to
     * it lets it ask first. */
    WAIT_FOR(claim_session(host->node->claim) && !fsm_is_protected(host->node->state) &&
             !claim_is_yielded(host->node->claim));
    FsmState state = host->node->state;
    die(host);
    /* The status is the answer: no leak checker may change it for what the fixture still holds. */
    _exit((int)state);
}

static GPid spawn_other(const Fixture *fixture, const char *role)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *arbiter = config_get(fixture->host[0].config, "arbiter.type", NULL);
    g_autofree char *own = g_strdup_printf("%u", fixture->ports[0]);
    g_autofree char *other = g_strdup_printf("%u", fixture->ports[1]);
    const char *argv[] = {"/proc/self/exe", "--other", fixture->dir, role, own, other,
                          arbiter,          NULL};
    GPid pid = 0;
    g_spawn_async(NULL, (char **)argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD | G_SPAWN_STDOUT_TO_DEV_NULL,
                  NULL, NULL, &pid, &error);
    g_assert_no_error(error);
    return pid;
}

typedef struct {
    const char *arbiter, *role; /* of the one that goes */
    FsmEvent event;
    FsmState other_state;
} Farewell;

static void test_farewell(gconstpointer data)
{
    const Farewell *farewell = data;
    Fixture fixture;
    gboolean is_primary = !strcmp(farewell->role, "primary");
    set_up(&fixture, farewell->arbiter);
    Host *host = &fixture.host[0];
    GPid other = spawn_other(&fixture, is_primary ? "secondary" : "primary");
    start(host, farewell->role);
    WAIT_FOR(fsm_is_protected(host->node->state));
    make_slow(host->vm);
    if (farewell->event == FSM_VM_LOST) {
        g_autoptr(GError) error = g_error_new(VM_ERROR, VM_ERROR_TIMEOUT, "it hangs");
        node_vm_lost(host->node, "the VM is lost", error);
    } else {
        node_event(host->node, farewell->event);
    }
    int status;
    g_assert_cmpint(waitpid(other, &status, 0), ==, other);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpstr(fsm_state_name(WEXITSTATUS(status)), ==, fsm_state_name(farewell->other_state));
    tear_down(&fixture);
}

int main(int argc, char **argv)
{
    static const Farewell farewells[] = {
        {"file", "primary",   FSM_SHUTDOWN, FSM_S_NONE  },
        {"none", "primary",   FSM_VM_LOST,  FSM_S_DEVICE},
        {"none", "secondary", FSM_SHUTDOWN, FSM_P_NONE  },
        {"none", "secondary", FSM_VM_LOST,  FSM_P_NONE  },
    };

    log_init("test", LOG_LEVEL_ERROR);
    if (argc == 7 && !strcmp(argv[1], "--other"))
        run_other(argv);
    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(farewells); i++) {
        const Farewell *farewell = &farewells[i];
        g_autofree char *path = g_strdup_printf("/node-farewell/%s/%s/%s", farewell->role,
                                                fsm_event_name(farewell->event), farewell->arbiter);
        g_test_add_data_func(path, farewell, test_farewell);
    }
    return g_test_run();
}
