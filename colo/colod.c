/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * colod: one half of a protected VM. Reads the configuration, makes a node and runs it until it
 * ends. Exit status: 0 ended on purpose, 1 the VM or the service failed, 2 wrong usage or
 * configuration.
 */
#include "colo/config/config.h"
#include "colo/node/node.h"
#include "colo/preflight.h"
#include "common/fault.h"
#include "common/inherited.h"
#include "common/log.h"

#include <errno.h>
#include <glib-unix.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { EXIT_ENDED = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

typedef struct {
    Node *node;
    GMainLoop *loop;
    const Config *config;
    char *preload; /* path of colo-uffd.so; NULL: do without */
    char *plugin;  /* path of colo-disk.so */
    int status;
} Daemon;

static Vm *make_vm(const VmDescription *description, const VmHandler *handler, gpointer user_data)
{
    const Daemon *service = user_data;
    Vm *vm = vm_qemu_new(description, service->preload, handler);
    /* With disks some of its answers wait for them. */
    guint64 timeout_ms = service->config->qemu_timeout_ms;
    if (description->disks->len > 0)
        timeout_ms += service->config->disk_timeout_ms;
    vm_qemu_set_timeout_ms(vm, (unsigned)timeout_ms);
    return vm;
}

static void on_ended(const GError *error, gpointer user_data)
{
    Daemon *service = user_data;
    service->status = error ? EXIT_FAILED : EXIT_ENDED;
    g_main_loop_quit(service->loop);
}

static gboolean on_signal(gpointer user_data)
{
    Daemon *service = user_data;
    log_info("asked to end by a signal");
    node_leave(service->node);
    return G_SOURCE_CONTINUE;
}

/* A library of ours: beside this program (a build), or where it was installed. */
static char *find_library(const char *name)
{
    char exe[4096];
    ssize_t len = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    if (len > 0) {
        exe[len] = '\0';
        g_autofree char *dir = g_path_get_dirname(exe);
        g_autofree char *beside = g_build_filename(dir, name, NULL);
        if (g_file_test(beside, G_FILE_TEST_EXISTS))
            return g_steal_pointer(&beside);
    }
    return g_build_filename(COLO_PKGLIBDIR, name, NULL);
}

/* COLO_UFFD_LIBRARY counts instead; empty: do without. */
static char *find_preload(void)
{
    const char *given = g_getenv("COLO_UFFD_LIBRARY");
    if (given)
        return *given ? g_strdup(given) : NULL;
    return find_library("colo-uffd.so");
}

/* Threads and processes that we start have normal priority, unless they ask (vm/process.h). */
static void be_realtime(void)
{
    const struct sched_param lowest = {.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &lowest) < 0)
        log_info("no real-time priority: %s", g_strerror(errno));
}

static int run(Config *config)
{
    Daemon service = {.loop = g_main_loop_new(NULL, FALSE),
                      .config = config,
                      .preload = find_preload(),
                      .plugin = find_library("colo-disk.so"),
                      .status = EXIT_FAILED};
    NodeHandler handler = {.make_vm = make_vm,
                           .disk_plugin = service.plugin,
                           .ended = on_ended,
                           .user_data = &service};
    g_autoptr(GError) error = NULL;
    service.node = node_new(config, &handler, &error);
    if (service.node) {
        g_unix_signal_add(SIGTERM, on_signal, &service);
        g_unix_signal_add(SIGINT, on_signal, &service);
        g_main_loop_run(service.loop);
    } else {
        log_error("%s", error->message);
    }
    node_free(service.node);
    g_main_loop_unref(service.loop);
    g_free(service.preload);
    g_free(service.plugin);
    return service.status;
}

static int fail_usage(const GError *error)
{
    fprintf(stderr, "colod: %s\n", error->message);
    return EXIT_USAGE;
}

/* Which of the options contradicts the role; NULL: none. */
static const char *conflict_of(const Config *config)
{
    if (config->overrule && config->role == CONFIG_ROLE_SECONDARY)
        return "--overrule-arbiter makes a node the primary: this one has role secondary";
    if (config->discard && (config->overrule || config->role == CONFIG_ROLE_PRIMARY))
        return "--discard-this-side gives up this node's data: it can't be the primary";
    return NULL;
}

static int check_config(Config *config, const char *file, gboolean offline)
{
    if (!preflight(config, offline))
        return EXIT_USAGE;
    printf("%s: the configuration is right%s\n", file,
           offline ? "" : ", and this host has what it needs");
    return EXIT_ENDED;
}

static GOptionContext *context_new(const GOptionEntry *entries)
{
    GOptionContext *context = g_option_context_new(NULL);
    g_option_context_set_summary(context, "Runs one half of a fault-tolerant virtual machine.");
    g_autofree char *options = options_help(FALSE);
    g_autofree char *description =
        g_strdup_printf("The options in FILE:\n\n%s\nSee colod(8) and colod.conf(5).", options);
    g_option_context_set_description(context, description);
    g_option_context_add_main_entries(context, entries, NULL);
    return context;
}

int main(int argc, char **argv)
{
    inherited_init();
    g_autofree char *file = NULL;
    g_autofree char *role = NULL;
    gboolean check = FALSE, offline = FALSE, version = FALSE, overrule = FALSE, discard = FALSE;
    const GOptionEntry entries[] = {
        {"config",            'c', 0, G_OPTION_ARG_FILENAME, &file,     "Read the configuration from FILE",
         "FILE"                                                                                                            },
        {"role",              'r', 0, G_OPTION_ARG_STRING,   &role,
         "primary, secondary or auto: overrides the file",                                                           "ROLE"},
        {"overrule-arbiter",  0,   0, G_OPTION_ARG_NONE,     &overrule,
         "Start the VM here although the arbiter has it on record as the other node's, which is "
         "certainly off",                                                                                            NULL  },
        {"discard-this-side", 0,   0, G_OPTION_ARG_NONE,     &discard,
         "Be the secondary, and let the primary overwrite the disks here although they hold data "
         "that its disks don't",                                                                                     NULL  },
        {"check-config",      0,   0, G_OPTION_ARG_NONE,     &check,
         "Check the configuration and what this host needs, and end",                                                NULL  },
        {"offline",           0,   0, G_OPTION_ARG_NONE,     &offline,  "With --check-config: don't check the host",
         NULL                                                                                                              },
        {"version",           'V', 0, G_OPTION_ARG_NONE,     &version,  "Print the version and end",                 NULL  },
        G_OPTION_ENTRY_NULL
    };
    g_autoptr(GOptionContext) context = context_new(entries);
    g_autoptr(GError) error = NULL;
    if (!g_option_context_parse(context, &argc, &argv, &error))
        return fail_usage(error);
    if (version) {
        puts("colod " COLO_VERSION);
        return EXIT_ENDED;
    }
    if (offline && !check) {
        fputs("colod: --offline belongs to --check-config\n", stderr);
        return EXIT_USAGE;
    }
    if (!file || argc > 1) {
        g_autofree char *help = g_option_context_get_help(context, TRUE, NULL);
        fputs(help, stderr);
        return EXIT_USAGE;
    }
    g_autoptr(Config) config = config_load(file, role, &error);
    if (!config || !colo_fault_init(&error))
        return fail_usage(error);
    config->overrule = overrule;
    config->discard = discard;
    const char *conflict = conflict_of(config);
    if (conflict) {
        fprintf(stderr, "colod: %s\n", conflict);
        return EXIT_USAGE;
    }
    if (check)
        return check_config(config, file, offline);
    log_init(config->vm->name, config->log_level);
    if (config->realtime)
        be_realtime();
    return run(config);
}
