/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A real guest's network through a port and an uplink: checksummed bytes both ways, over IPv4 and
 * IPv6, with each kind of card. A card with offloads must keep them (super-frames both ways); one
 * without must get nothing that it can't take.
 *
 * QEMU (environment variable, default qemu-system-x86_64) runs the guest in COLO_BUILD/guest, and
 * for cards that Debian's cloud kernel can't drive the one in COLO_BUILD/guest-full. The bridge is
 * in a network namespace of the test's own; its host is the client.
 */
#include <glib.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "netcompare/netcompare.h"
#include "tests/guest/pattern.h"
#include "tests/support/echo-client.h"
#include "tests/support/vm-wait.h"
#include "vm/vhost-card.h"

#define BULK_PORT  7002
#define BULK_BYTES (12u << 20)

static const char *build;

typedef struct {
    Vm *vm;
    Port *port;      /* one of the two */
    VhostCard *card; /* the VM's */
    Uplink *uplink;
    Addresses *addresses;
    gsize longest_output, longest_input; /* frames, without their headers */
    /* The client's thread. */
    const char *server;
    gboolean endless;
    gint64 transferred; /* atomic: bytes got by an endless client */
    gint socket;        /* atomic: what an endless client reads from */
    gint done;          /* atomic */
} Net;

static void on_output(const guint8 *data, gsize len, gpointer user_data)
{
    Net *net = user_data;
    net->longest_output = MAX(net->longest_output, len - NETCOMPARE_VNET_HDR_BYTES);
    addresses_learn(net->addresses, data, len);
    uplink_send(net->uplink, data, len);
}

static void on_input(const guint8 *data, gsize len, gpointer user_data)
{
    Net *net = user_data;
    net->longest_input = MAX(net->longest_input, len - NETCOMPARE_VNET_HDR_BYTES);
    if (net->card)
        vhost_card_give(net->card, data, len);
    else
        port_send(net->port, data, len);
}

static void on_failed(const GError *error, gpointer user_data)
{
    (void)user_data;
    g_error("%s", error->message);
}

static void on_room(gpointer user_data)
{
    (void)user_data;
}

static void sh(const char *command)
{
    g_autoptr(GError) error = NULL;
    int status = -1;
    g_spawn_command_line_sync(command, NULL, NULL, &status, &error);
    g_assert_no_error(error);
    if (status != 0)
        g_error("'%s' failed", command);
}

/* ---- The client ---- */

/* "get N", checked against the pattern. Returns when it has all of them. */
static void get(int fd, guint64 bytes, gint64 *progress)
{
    static char buffer[65536];
    g_autoptr(GError) error = NULL;
    g_autofree char *line = g_strdup_printf("get %" G_GUINT64_FORMAT "\n", bytes);

    colo_fd_write_all(fd, line, strlen(line), &error);
    g_assert_no_error(error);
    for (guint64 at = 0; at < bytes;) {
        ssize_t n = read(fd, buffer, MIN(sizeof(buffer), bytes - at));
        if (n <= 0) {
            g_assert_nonnull(progress); /* the endless one is cut off */
            return;
        }
        g_assert_cmpuint(pattern_first_difference(buffer, (size_t)n, at), ==, UINT64_MAX);
        at += (guint64)n;
        if (progress != NULL) {
            __atomic_store_n(progress, (gint64)at, __ATOMIC_RELAXED);
            g_main_context_wakeup(NULL);
        }
    }
}

/* "put N" of the pattern; the guest checks it. */
static void put(int fd, guint64 bytes)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *line = g_strdup_printf("put %" G_GUINT64_FORMAT "\n", bytes);
    g_autofree char *expected = g_strdup_printf("ok %" G_GUINT64_FORMAT "\n", bytes);
    char answer[64] = "";

    colo_fd_write_all(fd, line, strlen(line), &error);
    for (guint64 at = 0; at < bytes && error == NULL;) {
        size_t part;
        const char *data = pattern_at(at, &part);
        part = MIN(part, bytes - at);
        colo_fd_write_all(fd, data, part, &error);
        at += part;
    }
    g_assert_no_error(error);
    colo_fd_read_all(fd, answer, strlen(expected), &error);
    g_assert_no_error(error);
    g_assert_cmpstr(answer, ==, expected);
}

/* Until the guest is up. The runner's time limit ends a hopeless wait. */
static int connect_bulk(const char *server)
{
    for (;;) {
        int fd = echo_connect(server, BULK_PORT, NULL);
        if (fd >= 0) {
            g_autoptr(GError) error = NULL;
            colo_fd_set_nonblocking(fd, FALSE, &error);
            g_assert_no_error(error);
            return fd;
        }
    }
}

static gpointer client(gpointer data)
{
    Net *net = data;
    int fd = connect_bulk(net->server);

    if (net->endless) {
        g_atomic_int_set(&net->socket, fd);
        get(fd, G_GUINT64_CONSTANT(1) << 50, &net->transferred);
    } else {
        get(fd, BULK_BYTES, NULL);
        put(fd, BULK_BYTES);
    }
    close(fd);
    g_atomic_int_set(&net->done, TRUE);
    g_main_context_wakeup(NULL);
    return NULL;
}

static GThread *start_client(Net *net, const char *server, gboolean endless)
{
    net->server = server;
    net->endless = endless;
    net->transferred = 0;
    net->done = FALSE;
    return g_thread_new("client", client, net);
}

/* ---- The guest ---- */

static VmDescription *describe(const char *model, const char *guest, VmAttach attach)
{
    VmDescription *d = vm_description_new();
    d->name = g_strdup("test");
    d->uuid = g_strdup("6ba7b810-9dad-11d1-80b4-00c04fd430c8");
    d->machine = g_strdup("pc");
    d->memory_bytes = 256u << 20;
    d->qemu = g_strdup(g_getenv("QEMU"));
    d->kernel = g_build_filename(build, guest, "vmlinuz", NULL);
    d->initrd = g_build_filename(build, guest, "initrd.gz", NULL);
    d->append = g_strdup("console=ttyS0 quiet panic=-1 ip=10.9.0.2/24 ip6=fd00:9::2/64");
    vm_description_add_nic(d, model, "52:54:00:00:00:02")->attach = attach;
    return d;
}

static void net_start(Net *net, const char *model, const char *guest, VmAttach attach)
{
    static const guint8 mac[6] = {0x52, 0x54, 0, 0, 0, 2};
    g_autoptr(GError) error = NULL;
    g_autoptr(VmDescription) description = describe(model, guest, attach);
    g_autofree char *preload = g_build_filename(build, "colo-uffd.so", NULL);

    *net = (Net){.addresses = addresses_new(mac)};
    net->uplink = uplink_new("colo%d", "br0", on_input, on_failed, net, &error);
    g_assert_no_error(error);
    uplink_set_offloads(net->uplink, port_model_has_offloads(model), &error);
    g_assert_no_error(error);
    net->vm = vm_qemu_new(description, preload, NULL);
    vm_wait_start(net->vm, &error);
    g_assert_no_error(error);
    net->card = vm_nic_card(net->vm, 0);
    if (net->card) {
        static const VhostHandler handler = {
            .output = on_output, .room = on_room, .broken = on_failed, .failed = on_failed};
        vhost_card_set_handler(net->card, &handler, net);
    } else {
        net->port = port_new(vm_nic_fd(net->vm, 0), on_output, on_failed, net);
        port_set_model(net->port, model);
    }
    uplink_open(net->uplink);
    vm_wait_resume(net->vm, &error);
    g_assert_no_error(error);
}

static void net_stop(Net *net)
{
    port_free(net->port);
    vm_free(net->vm);
    uplink_free(net->uplink);
    addresses_free(net->addresses);
}

typedef struct {
    guint64 output_frames, output_dropped, input_frames, input_dropped;
} Counts;

static Counts counts(const Net *net)
{
    if (net->card) {
        const VhostStats *s = vhost_card_stats(net->card);
        return (Counts){s->output_frames, s->output_dropped, s->input_frames, s->input_dropped};
    }
    const PortStats *s = port_stats(net->port);
    return (Counts){s->output_frames, s->output_dropped, s->input_frames, s->input_dropped};
}

static void drain(Net *net)
{
    if (net->card)
        vhost_card_drain(net->card);
    else
        port_drain(net->port);
}

static void run_client(Net *net, const char *server)
{
    GThread *thread = start_client(net, server, FALSE);
    while (!g_atomic_int_get(&net->done))
        g_main_context_iteration(NULL, TRUE);
    g_thread_join(thread);
}

static void count(const guint8 *data, gsize len, gpointer user_data)
{
    (void)data;
    (void)len;
    (*(guint *)user_data)++;
}

static gboolean have_guest(const char *guest)
{
    g_autofree char *path = g_build_filename(build, guest, "vmlinuz", NULL);
    if (g_file_test(path, G_FILE_TEST_EXISTS))
        return TRUE;
    g_autofree char *why = g_strdup_printf("no %s: run make %s", path, guest);
    g_test_skip(why);
    return FALSE;
}

static void check_card(const char *model, const char *guest, VmAttach attach)
{
    Net net;
    if (!have_guest(guest))
        return;
    net_start(&net, model, guest, attach);
    run_client(&net, "10.9.0.2");
    run_client(&net, "fd00:9::2");
    Counts stats = counts(&net);
    g_test_message("%s: output %" G_GUINT64_FORMAT " frames, longest %" G_GSIZE_FORMAT
                   "; input %" G_GUINT64_FORMAT " frames, longest %" G_GSIZE_FORMAT,
                   model, stats.output_frames, net.longest_output, stats.input_frames,
                   net.longest_input);
    g_assert_cmpuint(stats.output_dropped, ==, 0);
    g_assert_cmpuint(stats.input_dropped, ==, 0);
    g_assert_cmpuint(uplink_stats(net.uplink)->output_dropped, ==, 0);
    if (port_model_has_offloads(model)) {
        g_assert_cmpuint(net.longest_output, >, 30000);
        g_assert_cmpuint(net.longest_input, >, 30000);
    } else {
        g_assert_cmpuint(net.longest_input, <=, 1518);
    }
    /* RARP, ARP, and for IPv6 the address given; perhaps the link-local one. */
    guint announced = 0;
    addresses_announce(net.addresses, count, &announced);
    g_assert_cmpuint(announced, >=, 3);
    net_stop(&net);
}

static void test_virtio(void)
{
    check_card("virtio-net-pci", "guest", VM_ATTACH_REDIRECTOR);
}

static void test_vhost_user(void)
{
    check_card("virtio-net-pci", "guest", VM_ATTACH_VHOST_USER);
}

static void test_e1000(void)
{
    check_card("e1000", "guest-full", VM_ATTACH_AUTO);
}

static void test_e1000e(void)
{
    check_card("e1000e", "guest-full", VM_ATTACH_AUTO);
}

/* After a pause and a drain nothing of what the guest has sent is still on its way. */
static void test_drain(gconstpointer data)
{
    Net net;
    g_autoptr(GError) error = NULL;
    if (!have_guest("guest"))
        return;
    net_start(&net, "virtio-net-pci", "guest", (VmAttach)GPOINTER_TO_INT(data));
    GThread *thread = start_client(&net, "10.9.0.2", TRUE);
    gint64 seen = 0;
    for (int i = 0; i < 20; i++) {
        while (__atomic_load_n(&net.transferred, __ATOMIC_RELAXED) < seen + (1 << 20))
            g_main_context_iteration(NULL, TRUE);
        seen = __atomic_load_n(&net.transferred, __ATOMIC_RELAXED);
        vm_wait_pause(net.vm, &error);
        g_assert_no_error(error);
        drain(&net);
        guint64 frames = counts(&net).output_frames;
        /* QEMU's main loop goes round several times for this. */
        g_autoptr(GBytes) state = vm_wait_save(net.vm, &error);
        g_assert_no_error(error);
        drain(&net);
        g_assert_cmpuint(counts(&net).output_frames, ==, frames);
        vm_wait_resume(net.vm, &error);
        g_assert_no_error(error);
    }
    shutdown(g_atomic_int_get(&net.socket), SHUT_RDWR);
    g_thread_join(thread);
    net_stop(&net);
}

static const char *missing(void)
{
    const char *qemu = g_getenv("QEMU") ? g_getenv("QEMU") : "qemu-system-x86_64";
    g_autofree char *found = g_find_program_in_path(qemu);
    if (found == NULL)
        return "there is no QEMU";
    if (geteuid() != 0)
        return "needs root";
    if (access("/dev/net/tun", R_OK | W_OK) != 0)
        return "needs /dev/net/tun";
    if (unshare(CLONE_NEWNET) != 0)
        return "needs the right to make a network namespace";
    return NULL;
}

int main(int argc, char **argv)
{
    const char *why = missing();
    if (why != NULL) {
        printf("1..0 # SKIP %s\n", why);
        return 0;
    }
    g_test_init(&argc, &argv, NULL);
    build = g_getenv("COLO_BUILD") ? g_getenv("COLO_BUILD") : "build";
    pattern_init();
    sh("ip link add br0 type bridge mcast_snooping 0");
    sh("ip addr add 10.9.0.1/24 dev br0");
    sh("ip addr add fd00:9::1/64 dev br0 nodad");
    sh("ip link set br0 up");
    g_test_add_func("/vm/net/virtio-net", test_virtio);
    g_test_add_func("/vm/net/e1000", test_e1000);
    g_test_add_func("/vm/net/e1000e", test_e1000e);
    g_test_add_func("/vm/net/vhost-user", test_vhost_user);
    g_test_add_data_func("/vm/net/drain", GINT_TO_POINTER(VM_ATTACH_REDIRECTOR), test_drain);
    g_test_add_data_func("/vm/net/drain/vhost-user", GINT_TO_POINTER(VM_ATTACH_VHOST_USER),
                         test_drain);
    return g_test_run();
}
