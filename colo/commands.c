/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What each command of colo does, and the table with their arguments, options and help. */
#include "colo/commands.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "colo/arbiter/arbiter.h"
#include "colo/cli/cli.h"
#include "common/fd.h"
#include "common/json.h"

/* ---- Running ---- */

int commands_wrong_usage(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    fprintf(stderr, "colo: %s\n", text);
    return EXIT_USAGE;
}

int commands_fail(const GError *error)
{
    fprintf(stderr, "colo: %s\n", error->message);
    if (g_error_matches(error, CLI_ERROR, CLI_ERROR_NO_COLOD))
        return EXIT_NO_COLOD;
    return g_error_matches(error, CLI_ERROR, CLI_ERROR_AMBIGUOUS) ? EXIT_USAGE : EXIT_FAILED;
}

static void print_json(json_object *object, int flags)
{
    puts(json_object_to_json_string_ext(object, flags | JSON_C_TO_STRING_NOSLASHESCAPE));
}

/*
 * Runs one command and hands its result to `show` (NULL: show nothing). Owns `arguments`. `fd` goes
 * with it; -1: none does.
 */
static int execute_fd(const Invocation *invocation, const char *command, json_object *arguments,
                      int fd, void (*show)(json_object *result))
{
    g_autoptr(GError) error = NULL;
    g_autoptr(CliConnection) connection = cli_connect(invocation->path, &error);
    if (!connection) {
        json_object_put(arguments);
        return commands_fail(error);
    }
    gboolean ok;
    json_object *result = cli_execute_fd(connection, command, arguments, fd, &ok, &error);
    if (!ok)
        return commands_fail(error);
    if (invocation->json)
        print_json(result, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED);
    else if (show)
        show(result);
    json_object_put(result);
    return EXIT_DONE;
}

static int execute(const Invocation *invocation, const char *command, json_object *arguments,
                   void (*show)(json_object *result))
{
    return execute_fd(invocation, command, arguments, -1, show);
}

static json_object *string_argument(json_object *arguments, const char *name, const char *value)
{
    if (!arguments)
        arguments = json_object_new_object();
    colo_json_add_string(arguments, name, value);
    return arguments;
}

static void show_status(json_object *result)
{
    g_autofree char *page = cli_status_page(result, isatty(STDOUT_FILENO) && !g_getenv("NO_COLOR"));
    fputs(page, stdout);
}

static int run_status(const Invocation *invocation)
{
    return execute(invocation, "status", NULL, show_status);
}

static int run_watch(const Invocation *invocation)
{
    g_autoptr(GError) error = NULL;
    return cli_watch(invocation->path, &error) ? EXIT_DONE : commands_fail(error);
}

static void show_option(json_object *result)
{
    json_object *value = NULL;
    json_object_object_get_ex(result, "value", &value);
    puts(value ? json_object_get_string(value) : "-");
}

static void show_options(json_object *result)
{
    g_autofree char *list = cli_option_list(result);
    fputs(list, stdout);
}

static int run_get(const Invocation *invocation)
{
    if (invocation->n_arguments == 0)
        return execute(invocation, "get", NULL, show_options);
    return execute(invocation, "get", string_argument(NULL, "name", invocation->arguments[0]),
                   show_option);
}

static void show_set(json_object *result)
{
    g_autofree char *line = cli_set_line(result);
    puts(line);
}

/* NAME VALUE or NAME=VALUE. */
static int run_set(const Invocation *invocation)
{
    const char *first = invocation->arguments[0], *equals = strchr(first, '=');
    if (!equals == (invocation->n_arguments == 1))
        return commands_wrong_usage("usage: colo set NAME VALUE, or NAME=VALUE");
    g_autofree char *name = equals ? g_strndup(first, (gsize)(equals - first)) : g_strdup(first);
    json_object *arguments = string_argument(NULL, "name", name);
    string_argument(arguments, "value", equals ? equals + 1 : invocation->arguments[1]);
    return execute(invocation, "set", arguments, show_set);
}

static int run_plain(const Invocation *invocation)
{
    return execute(invocation, invocation->command->name, NULL, NULL);
}

static int run_capture(const Invocation *invocation)
{
    const char *what = invocation->arguments[0];
    gboolean on = !strcmp(what, "on");
    if (!on && strcmp(what, "off") != 0)
        return commands_wrong_usage("capture: '%s' is neither on nor off", what);
    if (on != (invocation->n_arguments == 2))
        return commands_wrong_usage(on ? "capture on: needs a FILE" : "capture off: takes no FILE");
    if (!on && invocation->last)
        return commands_wrong_usage("capture off: takes no --last");
    if (!on)
        return execute(invocation, "capture-off", NULL, NULL);
    /* colod is somewhere else: what is relative is so to this program. */
    g_autofree char *file = g_canonicalize_filename(invocation->arguments[1], NULL);
    json_object *arguments = string_argument(NULL, "file", file);
    guint64 last;
    if (invocation->last) {
        if (!g_ascii_string_to_unsigned(invocation->last, 10, 1, 10000, &last, NULL)) {
            json_object_put(arguments);
            return commands_wrong_usage("--last %s: not a number from 1 to 10000",
                                        invocation->last);
        }
        colo_json_add_int(arguments, "last", (gint64)last);
    }
    return execute(invocation, "capture-on", arguments, NULL);
}

/* ---- Descriptors ---- */

static void show_fd(json_object *result)
{
    json_object *set = NULL, *fd = NULL;
    json_object_object_get_ex(result, "fdset-id", &set);
    json_object_object_get_ex(result, "fd", &fd);
    printf("fdset:%d has it as %d\n", json_object_get_int(set), json_object_get_int(fd));
}

static void show_fds(json_object *result)
{
    g_autofree char *list = cli_fd_list(result);
    fputs(list, stdout);
}

/* FALSE: `text` is no number, which was said. */
static gboolean add_number(json_object *arguments, const char *name, const char *text)
{
    guint64 number;
    if (text && !g_ascii_string_to_unsigned(text, 10, 0, G_MAXINT32, &number, NULL)) {
        commands_wrong_usage("fd: '%s' is not a number from 0 to %d", text, G_MAXINT32);
        return FALSE;
    }
    if (text)
        colo_json_add_int(arguments, name, (gint64)number);
    return TRUE;
}

static int fd_add(const Invocation *invocation)
{
    g_autoptr(GError) error = NULL;
    json_object *arguments = json_object_new_object();
    if (!add_number(arguments, "fdset-id", invocation->set)) {
        json_object_put(arguments);
        return EXIT_USAGE;
    }
    if (invocation->opaque)
        colo_json_add_string(arguments, "opaque", invocation->opaque);
    COLO_AUTO_FD fd = cli_fd_open(invocation->arguments[1], &error);
    if (fd < 0) {
        json_object_put(arguments);
        return commands_fail(error);
    }
    return execute_fd(invocation, "add-fd", arguments, fd, show_fd);
}

static int fd_remove(const Invocation *invocation)
{
    json_object *arguments = json_object_new_object();
    const char *const *words = invocation->arguments;
    if (add_number(arguments, "fdset-id", words[1]) && add_number(arguments, "fd", words[2]))
        return execute(invocation, "remove-fd", arguments, NULL);
    json_object_put(arguments);
    return EXIT_USAGE;
}

static int run_fd(const Invocation *invocation)
{
    const char *what = invocation->arguments[0];
    guint n = invocation->n_arguments;
    gboolean adds = !strcmp(what, "add");
    if (!adds && (invocation->set || invocation->opaque))
        return commands_wrong_usage("fd %s: takes neither --set nor --opaque", what);
    if (adds)
        return n == 2 ? fd_add(invocation) : commands_wrong_usage("fd add: needs a PATH, or -");
    if (!strcmp(what, "list"))
        return n == 1 ? execute(invocation, "query-fdsets", NULL, show_fds)
                      : commands_wrong_usage("fd list: takes nothing more");
    if (!strcmp(what, "remove"))
        return n > 1 ? fd_remove(invocation)
                     : commands_wrong_usage("fd remove: needs the number of a SET");
    return commands_wrong_usage("fd: '%s' is neither add, list nor remove", what);
}

static int run_recover(const Invocation *invocation)
{
    json_object *arguments =
        invocation->n_arguments ? string_argument(NULL, "uri", invocation->arguments[0]) : NULL;
    return execute(invocation, "recover", arguments, NULL);
}

static gboolean waits(const Invocation *invocation)
{
    return invocation->wait || (isatty(STDOUT_FILENO) && !invocation->no_wait);
}

/* `text`: what has come of it; NULL: it was not waited for. */
static int print_outcome(const Invocation *invocation, const char *text)
{
    if (invocation->json) {
        json_object *result = string_argument(NULL, "result", text ? text : "asked for");
        print_json(result, JSON_C_TO_STRING_PLAIN);
        json_object_put(result);
    } else if (text) {
        puts(text);
    }
    return EXIT_DONE;
}

static int run_failover(const Invocation *invocation)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    return cli_failover(invocation->path, invocation->force, waits(invocation), &text, &error)
               ? print_outcome(invocation, text)
               : commands_fail(error);
}

static int run_switchover(const Invocation *invocation)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    return cli_switchover(invocation->path, invocation->pause, waits(invocation), &text, &error)
               ? print_outcome(invocation, text)
               : commands_fail(error);
}

static int run_continue(const Invocation *invocation)
{
    const char *state = invocation->n_arguments ? invocation->arguments[0] : NULL;
    return execute(invocation, "continue", state ? string_argument(NULL, "state", state) : NULL,
                   NULL);
}

/* Before there is a colod: it is this program that makes the folder's name. */
static int run_arbiter(const Invocation *invocation)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *id = NULL, *mount = NULL;
    if (strcmp(invocation->arguments[0], "init") != 0)
        return commands_wrong_usage("arbiter: '%s' is not init", invocation->arguments[0]);
    /* As the configuration will have it. */
    g_autofree char *path = g_canonicalize_filename(invocation->arguments[1], NULL);
    if (!arbiter_init_folder(path, &id, &mount, &error))
        return commands_fail(error);
    printf("%s is an arbiter's folder now, named %s (on %s).\n"
           "Both hosts must see it; don't do this again on the other one.\n",
           path, id, mount);
    return EXIT_DONE;
}

static void print_event(const Invocation *invocation, json_object *event)
{
    if (invocation->json) {
        print_json(event, JSON_C_TO_STRING_PLAIN);
    } else {
        g_autofree char *line = cli_event_line(event);
        puts(line);
    }
    fflush(stdout);
}

static int run_events(const Invocation *invocation)
{
    g_autoptr(GError) error = NULL;
    gboolean ok = FALSE;
    g_autoptr(CliConnection) connection = cli_connect(invocation->path, &error);
    json_object *kept =
        connection ? cli_execute(connection, "query-events", NULL, &ok, &error) : NULL;
    if (!ok)
        return commands_fail(error);
    /* Live events come after the first command, which this was: there is no gap and no repetition.
     */
    gboolean is_list = json_object_is_type(kept, json_type_array);
    for (gsize i = 0; is_list && i < json_object_array_length(kept); i++)
        print_event(invocation, json_object_array_get_idx(kept, i));
    json_object_put(kept);
    while (invocation->follow && !ferror(stdout)) {
        json_object *event = cli_next_event(connection, -1, &error);
        if (error)
            return commands_fail(error);
        if (event)
            print_event(invocation, event);
        json_object_put(event);
    }
    return EXIT_DONE;
}

/* ---- The table ---- */

const Command commands_table[] = {
    {"status",     "",                              0, 0, JSON,                run_status,
     "Shows the state of the VM, of this node and of the peer."                                                                          },
    {"watch",      "",                              0, 0, 0,                   run_watch,
     "Shows the status on one screen, kept up to date; q ends it."                                                                       },
    {"get",        "[NAME]",                        0, 1, JSON,                run_get,
     "Shows the value of an option, or of all: a live one by its key (min-gap), others by section "
     "and key (vm.memory)."                                                                                                              },
    {"set",        "NAME VALUE",                    1, 2, JSON,                run_set,
     "Changes a live option until colod ends, an option of the pair on both nodes. Values are "
     "written as in the configuration; NAME=VALUE works too."                                                                            },
    {"checkpoint", "",                              0, 0, JSON,                run_plain,      "Makes the primary take a checkpoint now."},
    {"failover",   "",                              0, 0, JSON | FORCE | WAIT, run_failover,
     "Hands a protected VM over, or makes this node continue alone after the link was lost, if the "
     "arbiter agrees. With --force also if the arbiter can't be asked: first make sure that the "
     "other node is off. With --wait, the default on a terminal, it prints the outcome; --no-wait "
     "only gives the order."                                                                                                             },
    {"switchover", "",                              0, 0, JSON | PAUSE | WAIT, run_switchover,
     "Moves a protected VM to the other host, as planned: nothing is lost and nothing redone. With "
     "--pause the VM is paused first, and waits for colo continue. With --wait, the default on a "
     "terminal, it prints the outcome; --no-wait only gives the order."                                                                  },
    {"continue",   "[STATE]",                       0, 1, JSON,                run_continue,
     "Goes on with a switchover that waits in pre-switchover."                                                                           },
    {"cancel",     "",                              0, 0, JSON,                run_plain,
     "Cancels a switchover; the VM runs on where it was. If there is none, does nothing."                                                },
    {"stop",       "",                              0, 0, JSON,                run_plain,
     "Stops the guest until cont. A protected VM stays protected: checkpoints, a takeover and a "
     "failover leave the guest stopped."                                                                                                 },
    {"cont",       "",                              0, 0, JSON,                run_plain,
     "Continues a guest that was stopped: by stop, or by an I/O error. Also tries again to resume "
     "a VM whose disks or QEMU refuse, which colod does every second anyway."                                                            },
    {"pause",      "",                              0, 0, JSON,                run_plain,
     "Ends the link to the peer, and keeps it down until 'recover' is typed on this node."                                               },
    {"recover",    "[URI]",                         0, 1, JSON,                run_recover,
     "Ends 'pause'. A secondary dials its primary at URI (ADDRESS:PORT or unix:/PATH) now and "
     "once; "
     "a primary listens there, too. Without URI: as configured."                                                                         },
    {"announce",   "",                              0, 0, JSON,                run_plain,
     "Announces the guest to the network again, as after a takeover, in case a switch missed it."                                        },
    {"events",     "",                              0, 0, JSON | FOLLOW,       run_events,
     "Shows the last events, one a line; with --follow also those to come."                                                              },
    {"capture",    "on FILE|off",                   1, 2, JSON | LAST,         run_capture,
     "Makes colod write what the VMs sent where they differ to pcapng files: /tmp/web.pcapng means "
     "/tmp/web-000001.pcapng and so on. The last 10 are kept, or with --last N the last N."                                              },
    {"fd",         "add PATH|list|remove SET [FD]", 1, 3, JSON | SET | OPAQUE, run_fd,
     "Gives colod a file descriptor, which it keeps until it is removed: of a file, of a "
     "connection to a "
     "unix socket, or - for standard input. --set N chooses its set, --opaque WORD describes it."                                        },
    {"arbiter",    "init PATH",                     2, 2, ALONE,               run_arbiter,
     "Makes a directory that both hosts see an arbiter's folder, by giving it a name. Once, on one "
     "host, while the shared storage is mounted there: a folder of its own on each host is no "
     "arbiter."                                                                                                                          },
    {"quit",       "",                              0, 0, JSON,                run_plain,
     "Ends colod and its VM; the peer is told, and does not take over."                                                                  },
    {NULL,         NULL,                            0, 0, 0,                   NULL,           NULL                                      },
};
