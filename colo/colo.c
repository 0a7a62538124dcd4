/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * colo: an administrator's commands to a colod. This is its command line; commands.c has what each
 * command does. Exit status: 0 done, 1 the command failed, 2 wrong usage, 3 no colod is there.
 */
#include <stdio.h>
#include <string.h>

#include "colo/cli/cli.h"
#include "colo/commands.h"
#include "colo/config/config.h"
#include "common/guess.h"

/* ---- Usage ---- */

static void print_usage(FILE *file)
{
    fputs("Usage: colo [--socket PATH] COMMAND [ARGUMENT]... [OPTION]...\n\n"
          "Controls a running colod.\n\nCommands:\n",
          file);
    for (const Command *c = commands_table; c->name; c++) {
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
    for (const Command *c = commands_table; c->name; c++)
        if (!strcmp(c->name, name))
            return c;
    return NULL;
}

static const char *nearest_command(const char *name)
{
    Guess guess = guess_new(name);
    for (const Command *c = commands_table; c->name; c++)
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
    return nearest
               ? commands_wrong_usage("unknown %s '%s': did you mean '%s'?", what, name, nearest)
               : commands_wrong_usage("unknown %s '%s': colo --help lists them", what, name);
}

static int take_word(Invocation *invocation, const char *word)
{
    if (!invocation->command) {
        invocation->command = find_command(word);
        return invocation->command ? EXIT_DONE : unknown("command", word, nearest_command(word));
    }
    if (invocation->n_arguments == invocation->command->max)
        return commands_wrong_usage("%s: '%s' is too much: colo %s --help",
                                    invocation->command->name, word, invocation->command->name);
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
            status = commands_wrong_usage("%s needs the path of a control socket", arg);
        else if (takes_value(invocation, arg, &seen, &value) && i + 1 == argc)
            status = commands_wrong_usage("%s needs a value", arg);
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
        return commands_wrong_usage("%s does not take that option: colo %s --help", c->name,
                                    c->name);
    if (invocation->n_arguments < c->min)
        return commands_wrong_usage("usage: colo %s %s", c->name, c->arguments);
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
        return commands_fail(error);
    if (found)
        invocation.path = found;
    return invocation.command->run(&invocation);
}
