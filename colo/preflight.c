/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One table of checks. A file may be on storage that hangs. So each is looked at by a process of
 * its own, which is given up after a few seconds.
 */
#include "colo/preflight.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "block/server.h"
#include "checkpoint/checkpoint.h"
#include "colo/arbiter/arbiter.h"
#include "common/address.h"
#include "common/bounded.h"
#include "common/fd.h"
#include "netcompare/netcompare.h"

/* linux/magic.h */
#define TMPFS 0x01021994

#define PROGRAM_SECONDS 5
/* More, to tell a program that hangs from storage that does. */
#define LOOK_SECONDS 8

typedef struct {
    const char *what; /* is being checked */
    guint problems;
    GString *found; /* in a look: what was found, each with its end (NUL); else NULL */
} Finds;

#define FOUND_PROBLEM '!'
#define FOUND_NOTE    '.'

static void tell(Finds *finds, char kind, const char *text)
{
    if (finds->found) {
        g_string_append_c(finds->found, kind);
        g_string_append_len(finds->found, text, (gssize)strlen(text) + 1);
    } else if (kind == FOUND_PROBLEM) {
        fprintf(stderr, "colod: %s: %s\n", finds->what, text);
        finds->problems++;
    } else {
        printf("note: %s: %s\n", finds->what, text);
    }
}

G_GNUC_PRINTF(2, 3)
static void problem(Finds *finds, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    tell(finds, FOUND_PROBLEM, text);
}

G_GNUC_PRINTF(2, 3)
static void note(Finds *finds, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    tell(finds, FOUND_NOTE, text);
}

/* Looks at one thing, which may be on storage that hangs. */
typedef void (*LookFunc)(const Config *config, gconstpointer at, Finds *finds);

typedef struct {
    LookFunc func;
    const Config *config;
    gconstpointer at;
} Look;

static void run_look(GString *found, gconstpointer data)
{
    const Look *look = data;
    Finds finds = {.found = found};
    look->func(look->config, look->at, &finds);
}

/* `name` is what it looks at, for people. */
static void look_at(const Config *config, const char *name, LookFunc func, gconstpointer at,
                    Finds *finds)
{
    Look look = {func, config, at};
    g_autoptr(GString) found = g_string_new(NULL);
    g_autoptr(GError) error = NULL;
    switch (bounded_run(run_look, &look, LOOK_SECONDS * 1000, found, &error)) {
    case BOUNDED_HANGS:
        problem(finds,
                "%s: no answer within %d s: does its storage hang (a file server that is gone)?",
                name, LOOK_SECONDS);
        return;
    case BOUNDED_FAILED:
        problem(finds, "%s: %s", name, error->message);
        return;
    case BOUNDED_DONE:
        break;
    }
    for (const char *text = found->str; text < found->str + found->len; text += strlen(text) + 1)
        tell(finds, *text, text + 1);
}

/* ---- Without a look at this host ---- */

/* Both over IP: one of them may be a unix socket, of a program that leads to the other host. */
static void check_families(const Config *config, Finds *finds)
{
    g_auto(ColoAddress) listen = COLO_ADDRESS_INIT;
    g_auto(ColoAddress) peer = COLO_ADDRESS_INIT;
    const char *wrong;
    if (!config->peer || !colo_address_parse(config->listen, &listen, &wrong) ||
        !colo_address_parse(config->peer, &peer, &wrong) || listen.kind != COLO_ADDRESS_TCP ||
        peer.kind != COLO_ADDRESS_TCP)
        return;
    if (listen.is_v6 != peer.is_v6)
        problem(finds,
                "listen is an %s address (%s) and peer an %s one (%s): the peer can't reach "
                "this node where it listens",
                listen.is_v6 ? "IPv6" : "IPv4", config->listen, peer.is_v6 ? "IPv6" : "IPv4",
                config->peer);
}

static void check_devices(const Config *config, Finds *finds)
{
    g_autoptr(GError) error = NULL;
    if (!vm_description_check_devices(config->vm, &error))
        problem(finds, "%s", error->message);
}

static void check_arbiter_type(const Config *config, Finds *finds)
{
    if (config->arbiter == CONFIG_ARBITER_NONE)
        note(finds, "there is none: after the link is lost, both nodes wait for an administrator's "
                    "'colo failover'");
}

/* ---- This host ---- */

/* The last folder of it is made when it is missing. */
static void look_at_socket(const Config *config, gconstpointer at, Finds *finds)
{
    const char *path = at;
    g_autofree char *folder = g_path_get_dirname(path);
    g_autofree char *parent = g_path_get_dirname(folder);
    struct stat st;
    (void)config;
    if (lstat(path, &st) == 0 && !S_ISSOCK(st.st_mode))
        problem(finds, "unix:%s: there is something that is no socket", path);
    else if (access(access(folder, F_OK) == 0 ? folder : parent, W_OK | X_OK) < 0)
        problem(finds, "unix:%s: no socket can be made there: %s", path, g_strerror(errno));
}

/* The address can be bound; the port, or the socket, may be that of a colod that runs. */
static void check_listen(const Config *config, Finds *finds)
{
    g_auto(ColoAddress) address = COLO_ADDRESS_INIT;
    const char *wrong;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST}, *info = NULL;
    g_assert(colo_address_parse(config->listen, &address, &wrong));
    if (address.kind == COLO_ADDRESS_UNIX)
        look_at(config, address.path, look_at_socket, address.path, finds);
    if (address.kind != COLO_ADDRESS_TCP)
        return;
    if (getaddrinfo(address.host, "0", &hints, &info) != 0) {
        problem(finds, "%s: there is no such address or interface", config->listen);
        return;
    }
    COLO_AUTO_FD fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, info->ai_addr, info->ai_addrlen) < 0)
        problem(finds, "%s: %s", config->listen,
                errno == EADDRNOTAVAIL ? "is no address of this host" : g_strerror(errno));
    freeaddrinfo(info);
}

static void look_at_file(const Config *config, gconstpointer at, Finds *finds)
{
    (void)config;
    const char *file = at;
    if (access(file, R_OK) < 0)
        problem(finds, "%s: %s", file, g_strerror(errno));
}

static void check_files(const Config *config, Finds *finds)
{
    const char *files[] = {config->vm->kernel, config->vm->initrd};
    for (gsize i = 0; i < G_N_ELEMENTS(files); i++)
        if (files[i])
            look_at(config, files[i], look_at_file, files[i], finds);
}

static void end_in_time(gpointer user_data)
{
    (void)user_data;
    alarm(PROGRAM_SECONDS);
}

/* The output of `program --version`, or NULL after a finding why there is none. */
static char *version_of(const char *program, const char *way_out, Finds *finds)
{
    const char *argv[] = {program, "--version", NULL};
    g_autoptr(GError) error = NULL;
    g_autofree char *path = g_find_program_in_path(program);
    g_autofree char *output = NULL;
    int status = 0;
    if (!path) {
        problem(finds, "can't run '%s': %s (%s)", program,
                g_file_test(program, G_FILE_TEST_EXISTS) ? "it is not executable"
                                                         : "there is no such program",
                way_out);
        return NULL;
    }
    if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_STDERR_TO_DEV_NULL,
                      end_in_time, NULL, &output, NULL, &status, &error) ||
        !g_spawn_check_wait_status(status, &error)) {
        problem(finds, "'%s --version': %s", path, error->message);
        return NULL;
    }
    return g_steal_pointer(&output);
}

static void look_at_qemu(const Config *config, gconstpointer at, Finds *finds)
{
    (void)config;
    const char *program = at;
    g_autoptr(GError) error = NULL;
    g_autofree char *output = version_of(program, VM_QEMU_WAY_OUT, finds);
    if (output && !vm_check_version_text(output, &error))
        problem(finds, "'%s': %s", program, error->message);
}

static void check_qemu(const Config *config, Finds *finds)
{
    look_at(config, config->vm->qemu, look_at_qemu, config->vm->qemu, finds);
    if (config->vm->accel != VM_ACCEL_TCG && access("/dev/kvm", R_OK | W_OK) < 0) {
        if (config->vm->accel == VM_ACCEL_KVM)
            problem(finds, "accel = kvm: /dev/kvm: %s", g_strerror(errno));
        else
            note(finds, "no KVM here (/dev/kvm: %s): the guest is emulated, and slow",
                 g_strerror(errno));
    }
}

static void look_at_nbdkit(const Config *config, gconstpointer at, Finds *finds)
{
    (void)config;
    g_free(version_of(at, DISK_SERVER_WAY_OUT, finds));
}

static void check_nbdkit(const Config *config, Finds *finds)
{
    if (config->vm->disks->len > 0)
        look_at(config, config->nbdkit, look_at_nbdkit, config->nbdkit, finds);
}

static void look_at_image(const Config *config, gconstpointer at, Finds *finds)
{
    (void)config;
    const VmDisk *disk = at;
    g_autoptr(GError) error = NULL;
    if (!disk_image_check(disk->name, disk->path, vm_disk_format_name(disk->format), &error))
        problem(finds, "%s", error->message);
    else if (access(disk->path, W_OK) < 0)
        problem(finds, "disk %s: image %s: %s", disk->name, disk->path, g_strerror(errno));
}

static void check_disks(const Config *config, Finds *finds)
{
    for (guint i = 0; i < config->vm->disks->len; i++) {
        const VmDisk *disk = g_ptr_array_index(config->vm->disks, i);
        g_autofree char *name = g_strdup_printf("disk %s: image %s", disk->name, disk->path);
        look_at(config, name, look_at_image, disk, finds);
    }
}

/* The folder, or what there is of the path to it. */
static void look_at_state_dir(const Config *config, gconstpointer at, Finds *finds)
{
    (void)at;
    g_autofree char *dir = g_strdup(config->state_dir);
    while (access(dir, F_OK) < 0 && errno == ENOENT && dir[1]) {
        char *above = g_path_get_dirname(dir);
        g_free(dir);
        dir = above;
    }
    struct statfs status;
    if (!g_file_test(dir, G_FILE_TEST_IS_DIR))
        problem(finds, "%s is no folder", dir);
    else if (access(dir, W_OK) < 0 || statfs(dir, &status) < 0)
        problem(finds, "%s: %s", dir, g_strerror(errno));
    else if (status.f_type == TMPFS)
        note(finds, "%s is on tmpfs: it must outlive a reboot", dir);
}

static void check_state_dir(const Config *config, Finds *finds)
{
    look_at(config, config->state_dir, look_at_state_dir, NULL, finds);
}

static void check_bridges(const Config *config, Finds *finds)
{
    for (guint i = 0; i < config->nics->len; i++) {
        const ConfigNic *nic = g_ptr_array_index(config->nics, i);
        g_autoptr(GError) error = NULL;
        if (nic->bridge && !uplink_check_bridge(nic->bridge, &error))
            problem(finds, "[nic %s]: %s", nic->name, error->message);
    }
}

typedef struct {
    GMainLoop *loop;
    Finds *finds;
} ArbiterLook;

static void on_look(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    ArbiterLook *look = user_data;
    if (answer == ARBITER_UNKNOWN)
        problem(look->finds, "%s", error->message);
    g_main_loop_quit(look->loop);
}

static void look_at_arbiter(const Config *config, gconstpointer at, Finds *finds)
{
    (void)at;
    g_autoptr(GError) error = NULL;
    /* Which one it was, if there ever was one; a bad folder has been told. */
    const char *known = access(config->state_dir, R_OK) == 0 ? config->state_dir : NULL;
    g_autoptr(Arbiter) arbiter = arbiter_new(config->arbiter_path, known, &error);
    if (!arbiter) {
        problem(finds, "%s", error->message);
        return;
    }
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    ArbiterLook look = {loop, finds};
    arbiter_look(arbiter, FALSE, on_look, &look);
    g_main_loop_run(loop);
}

static void check_arbiter(const Config *config, Finds *finds)
{
    if (config->arbiter != CONFIG_ARBITER_NONE)
        look_at(config, config->arbiter_path, look_at_arbiter, NULL, finds);
}

static void check_linux(const Config *config, Finds *finds)
{
    (void)config;
    struct utsname name;
    int major = 0, minor = 0;
    uname(&name);
    if (sscanf(name.release, "%d.%d", &major, &minor) == 2 &&
        (major < 6 || (major == 6 && minor < 7)))
        note(finds, "%s: dirty pages are found faster from 6.7 on", name.release);
    g_autoptr(GError) inexact = NULL;
    if (!load_guard_is_exact(NULL, &inexact))
        note(finds,
             "a takeover may leave wrong bytes in the guest's RAM (colod(8), WHAT IT NEEDS): %s",
             inexact->message);
    if (geteuid() != 0)
        note(finds, "not root: what root may do here was not looked at");
}

static const struct {
    const char *what;
    gboolean offline;
    void (*check)(const Config *config, Finds *finds);
} checks[] = {
    {"addresses",  TRUE,  check_families    },
    {"devices",    TRUE,  check_devices     },
    {"arbiter",    TRUE,  check_arbiter_type},
    {"Linux",      FALSE, check_linux       },
    {"listen",     FALSE, check_listen      },
    {"boot files", FALSE, check_files       },
    {"QEMU",       FALSE, check_qemu        },
    {"nbdkit",     FALSE, check_nbdkit      },
    {"disks",      FALSE, check_disks       },
    {"state-dir",  FALSE, check_state_dir   },
    {"bridges",    FALSE, check_bridges     },
    {"arbiter",    FALSE, check_arbiter     },
};

gboolean preflight(const Config *config, gboolean offline)
{
    Finds finds = {.problems = 0};
    for (gsize i = 0; i < G_N_ELEMENTS(checks); i++) {
        finds.what = checks[i].what;
        if (checks[i].offline || !offline)
            checks[i].check(config, &finds);
    }
    return finds.problems == 0;
}
