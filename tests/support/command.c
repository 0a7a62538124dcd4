/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/command.h"

#include <string.h>

char *command_output(const char *format, ...)
{
    g_autoptr(GError) error = NULL;
    va_list args;
    va_start(args, format);
    g_autofree char *command = g_strdup_vprintf(format, args);
    va_end(args);
    char *out = NULL;
    int status = -1;
    g_spawn_command_line_sync(command, &out, NULL, &status, &error);
    g_assert_no_error(error);
    if (status != 0)
        g_error("'%s' failed", command);
    return out;
}

void command_run(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *command = g_strdup_vprintf(format, args);
    va_end(args);
    g_free(command_output("%s", command));
}

void command_wait_for(const char *command, const char *text)
{
    for (;;) {
        g_autofree char *out = command_output("%s", command);
        if (strstr(out, text) != NULL)
            return;
    }
}
