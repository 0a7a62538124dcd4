/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * colo: an administrator's commands to a colod. One table has the commands, their arguments,
 * options and help. Exit status: 0 done, 1 the command failed, 2 wrong usage, 3 no colod is there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "colo/arbiter/arbiter.h"
#include "colo/cli/cli.h"
#include "colo/config/config.h"
#include "common/fd.h"
#include "common/guess.h"
#include "common/json.h"

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

/* ---- Running ---- */

G_GNUC_PRINTF(1, 2)
static int wrong_usage(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    fprintf(stderr, "colo: %s\n", text);
    return EXIT_USAGE;
}

static int fail(const GError *error)
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
        return fail(error);
    }
    gboolean ok;
    json_object *result = cli_execute_fd(connection, command, arguments, fd, &ok, &error);
    if (!ok)
        return fail(error);
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
    return cli_watch(invocation->path, &error) ? EXIT_DONE : fail(error);
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
        return wrong_usage("usage: colo set NAME VALUE, or NAME=VALUE");
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
        return wrong_usage("capture: '%s' is neither on nor off", what);
    if (on != (invocation->n_arguments == 2))
        return wrong_usage(on ? "capture on: needs a FILE" : "capture off: takes no FILE");
    if (!on && invocation->last)
        return wrong_usage("capture off: takes no --last");
    if (!on)
        return execute(invocation, "capture-off", NULL, NULL);
    /* colod is somewhere else: what is relative is so to this program. */
    g_autofree char *file = g_canonicalize_filename(invocation->arguments[1], NULL);
    json_object *arguments = string_argument(NULL, "file", file);
    guint64 last;
    if (invocation->last) {
        if (!g_ascii_string_to_unsigned(invocation->last, 10, 1, 10000, &last, NULL)) {
            json_object_put(arguments);
            return wrong_usage("--last %s: not a number from 1 to 10000", invocation->last);
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
        wrong_usage("fd: '%s' is not a number from 0 to %d", text, G_MAXINT32);
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
        return fail(error);
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
        return wrong_usage("fd %s: takes neither --set nor --opaque", what);
    if (adds)
        return n == 2 ? fd_add(invocation) : wrong_usage("fd add: needs a PATH, or -");
    if (!strcmp(what, "list"))
        return n == 1 ? execute(invocation, "query-fdsets", NULL, show_fds)
                      : wrong_usage("fd list: takes nothing more");
    if (!strcmp(what, "remove"))
        return n > 1 ? fd_remove(invocation) : wrong_usage("fd remove: needs the number of a SET");
    return wrong_usage("fd: '%s' is neither add, list nor remove", what);
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
               : fail(error);
}

static int run_switchover(const Invocation *invocation)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *text = NULL;
    return cli_switchover(invocation->path, invocation->pause, waits(invocation), &text, &error)
               ? print_outcome(invocation, text)
               : fail(error);
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
        return wrong_usage("arbiter: '%s' is not init", invocation->arguments[0]);
    /* As the configuration will have it. */
    g_autofree char *path = g_canonicalize_filename(invocation->arguments[1], NULL);
    if (!arbiter_init_folder(path, &id, &mount, &error))
        return fail(error);
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
        return fail(error);
    /* Live events come after the first command, which this was: there is no gap and no repetition.
     */
    gboolean is_list = json_object_is_type(kept, json_type_array);
    for (gsize i = 0; is_list && i < json_object_array_length(kept); i++)
        print_event(invocation, json_object_array_get_idx(kept, i));
    json_object_put(kept);
    while (invocation->follow && !ferror(stdout)) {
        json_object *event = cli_next_event(connection, -1, &error);
        if (error)
            return fail(error);
        if (event)
            print_event(invocation, event);
        json_object_put(event);
    }
    return EXIT_DONE;
}

/* ---- The table ---- */

static const Command commands[] = {
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

/* ---- Usage ---- */

static void print_usage(FILE *file)
{
    fputs("Usage: colo [--socket PATH] COMMAND [ARGUMENT]... [OPTION]...\n\n"
          "Controls a running colod.\n\nCommands:\n",
          file);
    for (const Command *c = commands; c->name; c++) {
        g_autofree char *synopsis = g_strdup_printf("%s %s", c->name, c->arguments);
        fprintf(file, "  %-16s %.*s\n", synopsis, (int)strcspn(c->help, ".:"), c->help);
    }
    fputs("\nOptions:\n"
          "  --socket PATH    The control socket; else COLO_SOCKET from the environment, else the\n"
          "                   only one in " CLI_RUN_FOLDER "\n"
          "  --json           Prints JSON\n"
          "  --help           Prints this, or after a command its help\n"
          "  --version        Prints the version\n\n"
          "Exit status: 0 done, 1 the command failed, 2 wrong usage, 3 no colod is there.\n",
          file);
}

static void print_help(const Command *c)
{
    printf("Usage: colo %s%s%s%s%s%s%s%s%s%s\n\n%s\n", c->name, *c->arguments ? " " : "",
           c->arguments, c->options & JSON ? " [--json]" : "",
           c->options & FOLLOW ? " [--follow]" : "", c->options & FORCE ? " [--force]" : "",
           c->options & PAUSE ? " [--pause]" : "", c->options & WAIT ? " [--wait|--no-wait]" : "",
           c->options & LAST ? " [--last N]" : "",
           c->options & SET ? " [--set N] [--opaque WORD]" : "", c->help);
    if (!strcmp(c->name, "set") || !strcmp(c->name, "get")) {
        g_autofree char *live = options_help(TRUE);
        printf("\nLive options:\n%s", live);
    }
}

/* ---- The command line ---- */

static const Command *find_command(const char *name)
{
    for (const Command *c = commands; c->name; c++)
        if (!strcmp(c->name, name))
            return c;
    return NULL;
}

static const char *nearest_command(const char *name)
{
    Guess guess = guess_new(name);
    for (const Command *c = commands; c->name; c++)
        guess_consider(&guess, c->name);
    return guess.best;
}

/* A flag that some commands have; else FALSE, and *ret_nearest what may have been meant, or NULL.
 */
static gboolean take_flag(Invocation *invocation, const char *text, guint *seen,
                          const char **ret_nearest)
{
    const struct {
        const char *text;
        guint bit;
        gboolean *flag;
    } flags[] = {
        {"--json",    JSON,   &invocation->json   },
        {"--follow",  FOLLOW, &invocation->follow },
        {"-f",        FOLLOW, &invocation->follow },
        {"--force",   FORCE,  &invocation->force  },
        {"--pause",   PAUSE,  &invocation->pause  },
        {"--wait",    WAIT,   &invocation->wait   },
        {"--no-wait", WAIT,   &invocation->no_wait},
        {"--help",    0,      &invocation->help   },
        {"-h",        0,      &invocation->help   },
    };
    guint taken = invocation->command ? invocation->command->options : ~0u;
    Guess guess = guess_new(text);
    guess_consider(&guess, "--socket");
    if (taken & LAST)
        guess_consider(&guess, "--last");
    for (gsize i = 0; i < G_N_ELEMENTS(flags); i++) {
        if (!(flags[i].bit & ~taken))
            guess_consider(&guess, flags[i].text);
        if (strcmp(flags[i].text, text))
            continue;
        *flags[i].flag = TRUE;
        *seen |= flags[i].bit;
        return TRUE;
    }
    *ret_nearest = guess.best;
    return FALSE;
}

/* An option that some commands have, with a value behind it. */
static gboolean takes_value(Invocation *invocation, const char *text, guint *seen,
                            const char ***ret_value)
{
    const struct {
        const char *text;
        guint bit;
        const char **value;
    } options[] = {
        {"--last",   LAST,   &invocation->last  },
        {"--set",    SET,    &invocation->set   },
        {"--opaque", OPAQUE, &invocation->opaque},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(options); i++) {
        if (strcmp(options[i].text, text))
            continue;
        *ret_value = options[i].value;
        *seen |= options[i].bit;
        return TRUE;
    }
    return FALSE;
}

static int unknown(const char *what, const char *name, const char *nearest)
{
    return nearest ? wrong_usage("unknown %s '%s': did you mean '%s'?", what, name, nearest)
                   : wrong_usage("unknown %s '%s': colo --help lists them", what, name);
}

static int take_word(Invocation *invocation, const char *word)
{
    if (!invocation->command) {
        invocation->command = find_command(word);
        return invocation->command ? EXIT_DONE : unknown("command", word, nearest_command(word));
    }
    if (invocation->n_arguments == invocation->command->max)
        return wrong_usage("%s: '%s' is too much: colo %s --help", invocation->command->name, word,
                           invocation->command->name);
    invocation->arguments[invocation->n_arguments++] = word;
    return EXIT_DONE;
}

static int parse(Invocation *invocation, int argc, char **argv)
{
    gboolean words_only = FALSE;
    guint seen = 0;
    for (int i = 1; i < argc; i++) {
        const char *arg = argv[i];
        const char *nearest = NULL, **value = NULL;
        int status = EXIT_DONE;
        /* No option begins with a digit: -5ms is a value, though never a good one. */
        if (words_only || arg[0] != '-' || !arg[1] || g_ascii_isdigit(arg[1]))
            status = take_word(invocation, arg);
        else if (!strcmp(arg, "--"))
            words_only = TRUE;
        else if (g_str_has_prefix(arg, "--socket="))
            invocation->path = arg + strlen("--socket=");
        else if ((!strcmp(arg, "--socket") || !strcmp(arg, "-s")) && i + 1 < argc)
            invocation->path = argv[++i];
        else if (!strcmp(arg, "--socket") || !strcmp(arg, "-s"))
            status = wrong_usage("%s needs the path of a control socket", arg);
        else if (takes_value(invocation, arg, &seen, &value) && i + 1 == argc)
            status = wrong_usage("%s needs a value", arg);
        else if (value)
            *value = argv[++i];
        else if (!take_flag(invocation, arg, &seen, &nearest))
            status = unknown("option", arg, nearest);
        if (status != EXIT_DONE)
            return status;
    }
    const Command *c = invocation->command;
    if (!c || invocation->help)
        return EXIT_DONE;
    if (seen & ~c->options)
        return wrong_usage("%s does not take that option: colo %s --help", c->name, c->name);
    if (invocation->n_arguments < c->min)
        return wrong_usage("usage: colo %s %s", c->name, c->arguments);
    return EXIT_DONE;
}

int main(int argc, char **argv)
{
    Invocation invocation = {.path = g_getenv("COLO_SOCKET")};
    if (argc == 2 && !strcmp(argv[1], "--version")) {
        puts("colo " COLO_VERSION);
        return EXIT_DONE;
    }
    int status = parse(&invocation, argc, argv);
    if (status != EXIT_DONE)
        return status;
    if (invocation.help && invocation.command) {
        print_help(invocation.command);
        return EXIT_DONE;
    }
    if (!invocation.command) {
        print_usage(invocation.help ? stdout : stderr);
        return invocation.help ? EXIT_DONE : EXIT_USAGE;
    }
    g_autoptr(GError) error = NULL;
    g_autofree char *found = NULL;
    gboolean needs_colod = !(invocation.command->options & ALONE);
    if (needs_colod && (!invocation.path || !*invocation.path))
        found = cli_find_socket(CLI_RUN_FOLDER, &error);
    if (error)
        return fail(error);
    if (found)
        invocation.path = found;
    return invocation.command->run(&invocation);
}
