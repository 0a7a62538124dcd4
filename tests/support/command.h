/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands that a test runs, all of which must succeed. */
#ifndef COLO_TESTS_COMMAND_H
#define COLO_TESTS_COMMAND_H

#include <glib.h>

/* Runs a command line; what it prints, to be freed. */
char *command_output(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* Runs a command line. */
void command_run(const char *format, ...) G_GNUC_PRINTF(1, 2);

/* Runs it until its output has `text` in it; the runner's time limit ends a hopeless wait. */
void command_wait_for(const char *command, const char *text);

#endif
