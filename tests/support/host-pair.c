/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/host-pair.h"
#include "tests/support/folder.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- Modes ---- */

typedef struct {
    const char *mode;
    gboolean over_unix;
    void (*test)(void);
    void (*data_test)(gconstpointer data);
    gconstpointer data;
} PairTest;

static const char *mode = "buffered";
static gboolean over_unix;

static void run_pair_test(gconstpointer data)
{
    const PairTest *pair_test = data;
    mode = pair_test->mode;
    over_unix = pair_test->over_unix;
    if (pair_test->test)
        pair_test->test();
    else
        pair_test->data_test(pair_test->data);
}

static void add_in_mode(const char *in, const char *path, const PairTest *pair_test)
{
    g_autofree char *whole =
        g_strdup_printf("/%s%s%s", in, pair_test->over_unix ? "/unix" : "", path);
    PairTest *copy = g_new(PairTest, 1);
    *copy = *pair_test;
    copy->mode = in;
    g_test_add_data_func_full(whole, copy, run_pair_test, g_free);
}

static void add_in_modes(const char *path, const PairTest *pair_test)
{
    add_in_mode("buffered", path, pair_test);
    add_in_mode("colo", path, pair_test);
}

void add_pair_test_in(const char *in, const char *path, void (*test)(void))
{
    add_in_mode(in, path, &(PairTest){.test = test});
}

void add_pair_test(const char *path, void (*test)(void))
{
    add_in_modes(path, &(PairTest){.test = test});
}

void add_pair_test_with_unix(const char *path, void (*test)(void))
{
    add_pair_test(path, test);
    add_in_mode("colo", path, &(PairTest){.test = test, .over_unix = TRUE});
}

void add_pair_data_test(const char *path, gconstpointer data, void (*test)(gconstpointer data))
{
    add_in_modes(path, &(PairTest){.data_test = test, .data = data});
}

gboolean in_colo_mode(void)
{
    return !strcmp(mode, "colo");
}

/* ---- Hosts ---- */

static Vm *make_vm(const VmDescription *description, const VmHandler *handler, gpointer user_data)
{
    Host *host = user_data;
    host->vms++;
    host->vm = fake_vm_new(description, (guint64)g_test_rand_int(), handler);
    fake_vm_set_load_writes(host->vm, LOAD_WRITES);
    fake_vm_autorun(host->vm, 1, 50);
    if (host->fault != FAKE_VM_OK)
        fake_vm_inject(host->vm, host->faulty_operation, host->fault, host->nth);
    host->fault = FAKE_VM_OK;
    return host->vm;
}

static DiskServer *make_disks(const DiskServerOptions *options, const DiskConfig *configs,
                              guint n_disks, const DiskServerCallbacks *callbacks,
                              gpointer callback_data, GError **error, gpointer user_data)
{
    Host *host = user_data;
    return fake_disks_serve(host->disks, options, configs, n_disks, callbacks, callback_data,
                            error);
}

static void on_ended(const GError *error, gpointer user_data)
{
    Host *host = user_data;
    host->ended = TRUE;
    if (error)
        host->error = g_error_copy(error);
}

/* By a name in the abstract namespace of this network, until the process ends. FALSE: another has it. */
static gboolean reserve_port(guint16 port)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    int len = g_snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "colo-test-port-%u", port);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(fd, >=, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)len);
    if (bind(fd, (struct sockaddr *)&name, size) == 0)
        return TRUE;
    close(fd);
    return FALSE;
}

/*
 * A port nobody listens on at the moment, and that the kernel gives to no outgoing connection. No other
 * test gets it while this process lives: a node that is started again listens there again.
 */
static guint16 free_port(void)
{
    g_autoptr(GSocketListener) listener = g_socket_listener_new();
    guint16 port;
    do {
        port = (guint16)g_test_rand_int_range(10000, 30000);
    } while (!reserve_port(port) || !g_socket_listener_add_inet_port(listener, port, NULL, NULL));
    g_socket_listener_close(listener);
    return port;
}

static void set_option(Config *config, const char *section, const char *key, const char *value)
{
    g_assert(option_parse(options_find(section, key), value, config, NULL));
}

void host_set(Host *host, const char *section, const char *key, const char *value)
{
    set_option(host->config, section, key, value);
}

static char *make_address(const char *dir, guint16 port)
{
    return over_unix ? g_strdup_printf("unix:%s/%u.link", dir, port)
                     : g_strdup_printf("127.0.0.1:%u", port);
}

static Config *make_config(const char *dir, const char *name, guint16 own, guint16 other,
                           const char *arbiter)
{
    Config *config = g_new0(Config, 1);
    config->name = g_strdup(name);
    config->listen = make_address(dir, own);
    config->peer = make_address(dir, other);
    config->control_socket = g_strdup_printf("%s/%s.sock", dir, name);
    config->vm = fake_vm_description(GUEST_BYTES, 0);
    config->nics = g_ptr_array_new();
    config->announce_rounds = 5;
    config->announce_initial_ms = config->announce_step_ms = config->announce_max_ms = 5;
    config->checkpoint_period_ms = 20;
    config->min_gap_ms = 1;
    config->output_limit_bytes = 1024 * 1024;
    config->heartbeat_interval_ms = 100;
    config->heartbeat_timeout_ms = 10000;
    config->recover_timeout_ms = 5000;
    set_option(config, "arbiter", "type", arbiter);
    config->arbiter_path = g_strdup(dir);
    config->arbiter_timeout_ms = 5000;
    config->arbiter_check_ms = 100;
    config->state_dir = g_strdup_printf("%s/%s.state", dir, name);
    set_option(config, "checkpoint", "mode", mode);
    config->compare_timeout_ms = 60;
    config->qemu_timeout_ms = 3000;
    config->disk_timeout_ms = 30000;
    config->resume_patience_ms = 3000;
    config->disk_timeout_ms = 30000;
    config->io_retry_ms = 20;
    config->answer_timeout_ms = 20000;
    config->log_level = LOG_LEVEL_WARNING;
    return config;
}

static void free_nic(gpointer data)
{
    ConfigNic *nic = data;
    g_free(nic->name);
    g_free(nic->ifname);
    g_free(nic->bridge);
    g_free(nic->uplink);
    g_free(nic);
}

void add_tap(Fixture *fixture)
{
    for (int i = 0; i < 2; i++) {
        Config *config = fixture->host[i].config;
        ConfigNic *nic = g_new0(ConfigNic, 1);
        nic->name = g_strdup("lan");
        nic->ifname = g_strdup("colotest%d");
        g_ptr_array_set_free_func(config->nics, free_nic);
        g_ptr_array_add(config->nics, nic);
        vm_description_free(config->vm);
        config->vm = fake_vm_description(GUEST_BYTES, config->nics->len);
    }
}

void start(Host *host, const char *role)
{
    g_autoptr(GError) error = NULL;
    NodeHandler handler = {
        .make_vm = make_vm, .make_disks = make_disks, .ended = on_ended, .user_data = host};
    host_set(host, "node", "role", role);
    host->ended = FALSE;
    g_clear_error(&host->error);
    host->node = node_new(host->config, &handler, &error);
    g_assert_no_error(error);
    WAIT_FOR(host->is_to_ask || host->ended ||
             (claim_has_begun(host->node->claim) && host->node->state != FSM_P_ASKING));
}

void die(Host *host)
{
    if (host->disks && host->ended)
        fake_disks_await_end(host->disks);
    else if (host->disks)
        fake_disks_crash(host->disks);
    g_clear_pointer(&host->node, node_free);
    host->vm = NULL;
}

void set_up_in(Fixture *fixture, const char *dir, const guint16 ports[2], const char *arbiter)
{
    fixture->dir = g_strdup(dir);
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "beta" : "alpha";
        fixture->ports[i] = ports[i];
        fixture->host[i] = (Host){
            .name = name, .config = make_config(fixture->dir, name, ports[i], ports[!i], arbiter)};
    }
}

void set_up(Fixture *fixture, const char *arbiter)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *dir = g_dir_make_tmp("colo-node-XXXXXX", &error);
    g_assert_no_error(error);
    g_autofree char *id = NULL, *mount = NULL;
    arbiter_init_folder(dir, &id, &mount, &error);
    g_assert_no_error(error);
    guint16 ports[2] = {free_port(), free_port()};
    set_up_in(fixture, dir, ports, arbiter);
}

void set_up_disks(Fixture *fixture, guint n, VmDiskFormat format)
{
    for (int i = 0; i < 2; i++) {
        Host *host = &fixture->host[i];
        g_autofree char *dir =
            g_build_filename(fixture->dir, i ? "beta-disks" : "alpha-disks", NULL);
        host->disks = fake_disks_new(dir, n, DISK_BYTES);
        fake_disks_configure(host->disks, host->config, format);
    }
}

void set_storage(Host *host, gboolean there)
{
    (void)g_unlink(host->config->arbiter_path);
    g_assert_cmpint(symlink(there ? "." : "away", host->config->arbiter_path), ==, 0);
}

void split_storage(Fixture *fixture)
{
    for (int i = 0; i < 2; i++) {
        Host *host = &fixture->host[i];
        g_free(host->config->arbiter_path);
        host->config->arbiter_path = g_build_filename(fixture->dir, host->name, NULL);
        set_storage(host, TRUE);
    }
}

void tear_down(Fixture *fixture)
{
    for (int i = 0; i < 2; i++) {
        die(&fixture->host[i]);
        fake_disks_free(fixture->host[i].disks);
        g_autofree char *pin =
            g_build_filename(fixture->host[i].config->state_dir, "arbiter", NULL);
        g_unlink(pin);
        g_rmdir(fixture->host[i].config->state_dir);
        config_free(fixture->host[i].config);
        g_clear_error(&fixture->host[i].error);
    }
    folder_remove(fixture->dir);
    g_free(fixture->dir);
}

void protect(Fixture *fixture, int primary)
{
    Host *a = &fixture->host[primary], *b = &fixture->host[!primary];
    WAIT_FOR(a->node->state == FSM_P_COLO && b->node->state == FSM_S_COLO);
}

void start_pair(Fixture *fixture, const char *arbiter)
{
    set_up(fixture, arbiter);
    start(&fixture->host[0], "primary");
    start(&fixture->host[1], "secondary");
    protect(fixture, 0);
}

void start_split_pair(Fixture *fixture)
{
    set_up(fixture, "file");
    split_storage(fixture);
    start(&fixture->host[0], "primary");
    start(&fixture->host[1], "secondary");
    protect(fixture, 0);
}

gboolean pair_is_settled(const Fixture *f)
{
    const Node *a = f->host[0].node, *b = f->host[1].node;
    return judge_peer_vm(a->judge) == PEER_VM_RUNS && primary_phase(a->primary) == CYCLE_IDLE &&
           copy_is_in(b->copy, a->epoch) && copy_runs(b->copy);
}

void start_quiet_pair(Fixture *f)
{
    start_pair(f, "file");
    quieten(f);
}

void quieten(Fixture *f)
{
    WAIT_FOR(pair_is_settled(f));
    Node *primary = f->host[0].node;
    guint64 before = primary->epoch;
    f->host[0].config->checkpoint_period_ms = f->host[1].config->checkpoint_period_ms = 3600 * 1000;
    ask_for_checkpoint(f);
    WAIT_FOR(primary->epoch > before && pair_is_settled(f));
}

void ask_for_checkpoint(Fixture *f)
{
    primary_want(f->host[0].node->primary, REASON_ADMIN);
}

void cut_link(Fixture *f)
{
    shutdown(link_checkpoint_fd(f->host[0].node->link), SHUT_RDWR);
}
