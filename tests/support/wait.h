/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Running the main loop until something holds. */
#ifndef COLO_TESTS_WAIT_H
#define COLO_TESTS_WAIT_H

#include <stdlib.h>

#include "common/clock.h"

/* Long enough for a loaded machine: only a test that fails waits so long. */
#define WAIT_SECONDS 120

/* The same in microseconds. COLO_PATIENCE=N, from the environment: on a machine that is N times slower. */
static inline gint64 wait_us(void)
{
    const char *patience = g_getenv("COLO_PATIENCE");
    return (patience ? MAX(atoi(patience), 1) : 1) * (gint64)WAIT_SECONDS * G_USEC_PER_SEC;
}

/* Keeps a main loop turning, so that the condition is looked at. */
static inline gboolean wait_turn(gpointer user_data)
{
    (void)user_data;
    return G_SOURCE_CONTINUE;
}

/* Runs the default main loop until `condition` holds; aborts the test if that takes too long. */
#define WAIT_FOR(condition)                                                                        \
    do {                                                                                           \
        ColoTime wait_end = colo_time_add_us(colo_time_now(), wait_us());                          \
        guint wait_source = g_timeout_add(5, wait_turn, NULL);                                     \
        while (!(condition)) {                                                                     \
            if (colo_time_diff_us(colo_time_now(), wait_end) > 0)                                  \
                g_error("waited too long for %s", #condition);                                     \
            g_main_context_iteration(NULL, TRUE);                                                  \
        }                                                                                          \
        g_source_remove(wait_source);                                                              \
    } while (0)

#endif
