/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The commands of colo: one table of them (commands.c), for its command line (colo.c). */
#ifndef COLO_COLO_COMMANDS_H
#define COLO_COLO_COMMANDS_H

#include <glib.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_NO_COLOD = 3 };

typedef struct Command Command;

typedef struct {
    const char *path; /* of the socket */
    const Command *command;
    gboolean json, follow, force, help, wait, no_wait, pause;
    const char *last, *set, *opaque; /* as written; NULL: not given */
    const char *arguments[3];
    guint n_arguments;
} Invocation;

/* Option bits of a command; ALONE: it needs no colod. */
enum {
    JSON = 1,
    FOLLOW = 2,
    FORCE = 4,
    LAST = 8,
    WAIT = 16,
    ALONE = 32,
    SET = 64,
    OPAQUE = 128,
    PAUSE = 256
};

struct Command {
    const char *name;
    const char *arguments; /* as shown */
    guint min, max;        /* how many */
    guint options;
    int (*run)(const Invocation *invocation);
    const char *help;
};

/* Ends with an entry without a name. */
extern const Command commands_table[];

/* Say what is wrong, on stderr; the exit status. */
G_GNUC_PRINTF(1, 2) int commands_wrong_usage(const char *format, ...);
int commands_fail(const GError *error);

#endif
