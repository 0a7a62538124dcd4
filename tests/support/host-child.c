/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Asked by SIGUSR1, the process answers with one line for each of its hosts, "NAME STATE EPOCH
 * FRAMES TAP", and a "." after them.
 */
#include "tests/support/host-child.h"

#include <glib-unix.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"

#define FLAG "--host-child"

/* ---- The process ---- */

static gboolean on_asked(gpointer user_data)
{
    Fixture *fixture = user_data;
    for (int i = 0; i < 2; i++) {
        const Host *host = &fixture->host[i];
        if (!host->node)
            continue;
        const Uplink *uplink =
            cards_count(host->node->cards) > 0 ? cards_uplink(host->node->cards, 0) : NULL;
        printf("%s %d %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %s\n", host->name,
               host->node->state, host->node->epoch,
               uplink ? uplink_stats(uplink)->output_frames : 0,
               uplink ? uplink_ifname(uplink) : "-");
    }
    printf(".\n");
    fflush(stdout);
    return G_SOURCE_CONTINUE;
}

/* A frame of the guest to nobody. */
static gboolean on_send(gpointer user_data)
{
    static const guint8 frame[60] = {0x52, 0x54, 0,    0x99, 0x99, 0x99, 0x52,
                                     0x54, 0,    0x12, 0x34, 0,    0x88, 0xb5};
    const Host *host = user_data;
    if (host->vm && fsm_is_primary(host->node->state) && vm_is_running(host->vm))
        fake_vm_send_frame(host->vm, 0, frame, sizeof(frame));
    return G_SOURCE_CONTINUE;
}

void host_child_main(int argc, char **argv)
{
    Fixture fixture;
    int no_arguments = 1;
    if (argc != 9 || strcmp(argv[1], FLAG) != 0)
        return;
    const guint16 ports[] = {(guint16)atoi(argv[4]), (guint16)atoi(argv[5])};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    g_test_init(&no_arguments, &argv, NULL);
    log_init("child", LOG_LEVEL_ERROR);
    set_up_in(&fixture, argv[3], ports, argv[6]);
    split_storage(&fixture);
    if (*argv[8] == '1') {
        add_tap(&fixture);
        g_timeout_add(1, on_send, &fixture.host[0]);
    }
    g_unix_signal_add(SIGUSR1, on_asked, &fixture);
    for (int i = 0; i < 2; i++) {
        Host *host = &fixture.host[i];
        if (!strchr(argv[2], host->name[0]))
            continue;
        host_set(host, "checkpoint", "mode", argv[7]);
        host->config->qemu_timeout_ms = HOST_CHILD_QEMU_TIMEOUT_MS;
        if (*argv[8] == '0')
            host->config->heartbeat_timeout_ms = HOST_CHILD_HEARTBEAT_TIMEOUT_MS;
        host->config->checkpoint_period_ms = 1;
        host->config->min_gap_ms = 0;
        start(host, i ? "secondary" : "primary");
    }
    on_asked(&fixture);
    for (;;)
        g_main_context_iteration(NULL, TRUE);
}

/* ---- The test's side ---- */

static gboolean on_output(gint fd, GIOCondition condition, gpointer user_data)
{
    HostChild *child = user_data;
    char buffer[1024];
    (void)condition;
    ssize_t got = read(fd, buffer, sizeof(buffer));
    if (got <= 0)
        return G_SOURCE_REMOVE;
    g_string_append_len(child->output, buffer, got);
    return G_SOURCE_CONTINUE;
}

static gboolean has_answered(const HostChild *child)
{
    /* GLib may have something to say in between. */
    return strstr(child->output->str, "\n.\n") != NULL;
}

static void start_child(HostChild *child, const Fixture *fixture, const char *which,
                        const char *cards)
{
    g_autoptr(GError) error = NULL;
    const Config *config = fixture->host[0].config;
    g_autofree char *arbiter = config_get(config, "arbiter.type", NULL);
    g_autofree char *first = g_strdup_printf("%u", fixture->ports[0]);
    g_autofree char *second = g_strdup_printf("%u", fixture->ports[1]);
    const char *argv[] = {
        "/proc/self/exe",        FLAG,  which, fixture->dir, first, second, arbiter,
        mode_name(config->mode), cards, NULL};
    g_spawn_async_with_pipes(NULL, (char **)argv, NULL, G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL,
                             &child->pid, NULL, &child->out, NULL, &error);
    g_assert_no_error(error);
    child->output = g_string_new(NULL);
    g_unix_fd_add(child->out, G_IO_IN | G_IO_HUP, on_output, child);
    WAIT_FOR(has_answered(child));
}

void host_child_start(HostChild *child, const Fixture *fixture, const char *which)
{
    start_child(child, fixture, which, "0");
}

void host_child_start_sending(HostChild *child, const Fixture *fixture, const char *which)
{
    start_child(child, fixture, which, "1");
}

void host_child_kill(HostChild *child)
{
    int status;
    kill(child->pid, SIGKILL);
    waitpid(child->pid, &status, 0);
    /* To its end, which removes the source. */
    while (g_main_context_iteration(NULL, FALSE))
        ;
    close(child->out);
    g_string_free(child->output, TRUE);
}

void host_child_stop(const HostChild *child)
{
    int status;
    kill(child->pid, SIGSTOP);
    g_assert_cmpint(waitpid(child->pid, &status, WUNTRACED), ==, child->pid);
    g_assert_true(WIFSTOPPED(status));
}

void host_child_continue(const HostChild *child)
{
    kill(child->pid, SIGCONT);
}

HostReport host_child_ask(HostChild *child, const char *name)
{
    int state = -1;
    guint64 epoch = 0, frames = 0;
    g_string_truncate(child->output, 0);
    kill(child->pid, SIGUSR1);
    WAIT_FOR(has_answered(child));
    g_auto(GStrv) lines = g_strsplit(child->output->str, "\n", -1);
    for (char **line = lines; *line; line++)
        if (g_str_has_prefix(*line, name))
            sscanf(*line + strlen(name), " %d %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT " %15s",
                   &state, &epoch, &frames, child->ifname);
    g_assert_cmpint(state, >=, 0);
    return (HostReport){.state = (FsmState)state, .epoch = epoch, .frames = frames};
}
