/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Cases of a test, each in a world and a process of its own: nothing fails there by chance. */
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "colo/node/node_internal.h"
#include "tests/world/world.h"

#define STEP_US 1000

void world_case(guint64 seed, const char *mode, void (*body)(gconstpointer data),
                gconstpointer data)
{
    int status;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        world_clock_init();
        world_init(seed);
        world.mode = mode;
        world.is_case = TRUE;
        world.arbiter = "file";
        world.period_ms = 30 * 1000;
        world.on_error = "report";
        world.calm_us = G_GINT64_CONSTANT(3600) * G_USEC_PER_SEC;
        world.ended_on_purpose = TRUE;
        body(data);
        world_end();
        fflush(stdout);
        _exit(0);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_cmpint(status, ==, 0);
}

void world_await(gboolean (*holds)(void), const char *what, gint64 most_us)
{
    gint64 end_us = world.now_us + most_us;
    while (!holds()) {
        if (world.now_us >= end_us)
            world_fail("%s: not in %.1f s", what, (double)most_us / G_USEC_PER_SEC);
        world_run_until(world.now_us + STEP_US);
    }
}

gboolean world_is_protected(void)
{
    const WorldHost *a = &world.host[0], *b = &world.host[1];
    return a->lives && b->lives &&
           ((a->node->state == FSM_P_COLO && b->node->state == FSM_S_COLO) ||
            (b->node->state == FSM_P_COLO && a->node->state == FSM_S_COLO));
}

void world_start_pair(void)
{
    world_start(&world.host[0], "primary");
    world_start(&world.host[1], "secondary");
    world_await(world_is_protected, "the pair is protected", 60 * G_USEC_PER_SEC);
}

void world_mount(const WorldHost *host, gboolean there)
{
    g_autofree char *away = g_strconcat(host->arbiter_path, ".away", NULL);
    g_assert_cmpint(there ? rename(away, host->arbiter_path) : rename(host->arbiter_path, away), ==,
                    0);
}
