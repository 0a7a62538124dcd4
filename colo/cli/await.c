/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The wait for the result of an order: colod answers the order at once. */
#include <stdio.h>

#include "colo/cli/cli.h"
#include "common/clock.h"

/* Events end the wait between two looks earlier. */
#define LOOK_MS 200

static gboolean give_up(const char *text, GError **error)
{
    g_set_error_literal(error, CLI_ERROR, CLI_ERROR_COMMAND, text);
    return FALSE;
}

gboolean cli_await(CliConnection *connection, const char *query, gint64 patience_s, CliLook look,
                   gpointer user_data, char **ret_text, gint64 *ret_ms, GError **error)
{
    ColoTime started = colo_time_now();
    g_autofree char *shown = NULL;
    for (;;) {
        gboolean ok = FALSE;
        g_autofree char *text = NULL;
        json_object *now = cli_execute(connection, query, NULL, &ok, error);
        if (!ok)
            return FALSE;
        CliOutcome outcome = look(now, user_data, &text);
        json_object_put(now);
        gint64 us = colo_time_diff_us(colo_time_now(), started);
        if (ret_ms)
            *ret_ms = us / COLO_US_PER_MS;
        if (outcome == CLI_DONE) {
            *ret_text = g_steal_pointer(&text);
            return TRUE;
        }
        if (outcome == CLI_REFUSED)
            return give_up(text, error);
        if (patience_s && us > patience_s * G_USEC_PER_SEC) {
            g_autofree char *late = g_strdup_printf("not decided within %" G_GINT64_FORMAT
                                                    " s; the order remains. It waits for: %s",
                                                    patience_s, text);
            return give_up(late, error);
        }
        if (us > G_USEC_PER_SEC && g_strcmp0(shown, text) != 0) {
            fprintf(stderr, "colo: waiting for: %s\n", text);
            g_free(shown);
            shown = g_steal_pointer(&text);
        }
        g_autoptr(GError) lost = NULL;
        json_object_put(cli_next_event(connection, LOOK_MS, &lost));
        if (lost) {
            g_propagate_error(error, g_steal_pointer(&lost));
            return FALSE;
        }
    }
}
