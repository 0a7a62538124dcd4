/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * colod with a guest at native speed: native-host CONFIG ROLE NETNS TAP
 * or without colod:                   native-host --relay HOST-TAP NETNS TAP
 *
 * A node with all of colod's packet path, whose VM is a fake one (tests/support/fake-vm.h). The guest's end
 * of its card is the tap TAP in the network namespace NETNS, so the guest's TCP is this kernel's own. For
 * `make bench`: an emulated guest hides what colod costs. The tap has to exist, made with virtio-net headers.
 *
 * Each direction has a thread, as QEMU has its own. The namespace can't be stopped: while the VM is paused
 * the threads are. It can't be loaded either. After a checkpoint in `colo` mode, which the pair begins with,
 * connections differ that were open before it; those that are opened later are compared.
 *
 * With --relay the guest's frames go to HOST-TAP and back, and nothing else is done: as in QEMU.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "colo/config/config.h"
#include "colo/node/node.h"
#include "common/endian.h"
#include "common/fd.h"
#include "common/log.h"
#include "tests/support/fake-vm.h"

#define VNET_HDR_BYTES 12
#define FRAME_MAX      (VNET_HDR_BYTES + 14 + 4 + 65536)
#define FRAMING_BYTES  8
#define BUFFER_BYTES   (256 * 1024)

typedef struct {
    GMainLoop *loop;
    int tap;
    Vm *vm;
    int card; /* the guest's end, from its start on */
    gboolean failed;
    GMutex lock;
    GCond changed;
    FakeVmGuest guest; /* under the lock, for its threads outlive the VM */
} NativeHost;

/* ---- The guest's card ---- */

/* FALSE: it does so no more. That it is paused a moment later does no harm. */
static gboolean wait_until_it_runs(NativeHost *host)
{
    g_mutex_lock(&host->lock);
    while (host->guest == FAKE_VM_STANDS)
        g_cond_wait(&host->changed, &host->lock);
    gboolean runs = host->guest == FAKE_VM_RUNS;
    g_mutex_unlock(&host->lock);
    return runs;
}

/* What the guest sends. */
static gpointer run_output(gpointer user_data)
{
    NativeHost *host = user_data;
    g_autofree guint8 *buffer = g_malloc(FRAMING_BYTES + FRAME_MAX);
    for (;;) {
        ssize_t bytes = read(host->tap, buffer + FRAMING_BYTES, FRAME_MAX);
        if (bytes < VNET_HDR_BYTES)
            g_error("tap: %s", g_strerror(errno));
        if (!wait_until_it_runs(host))
            return NULL;
        colo_put_be32(buffer, (guint32)bytes);
        colo_put_be32(buffer + 4, VNET_HDR_BYTES);
        g_autoptr(GError) error = NULL;
        if (!colo_fd_write_all(host->card, buffer, FRAMING_BYTES + (gsize)bytes, &error) &&
            wait_until_it_runs(host))
            g_error("card: %s", error->message);
    }
    return NULL;
}

/* Gives the guest the whole frames in `data`; the bytes that they took. */
static gsize give(const NativeHost *host, const guint8 *data, gsize len)
{
    gsize taken = 0;
    while (len - taken >= FRAMING_BYTES) {
        gsize bytes = colo_get_be32(data + taken);
        g_assert_cmpuint(bytes, <=, FRAME_MAX);
        if (len - taken < FRAMING_BYTES + bytes)
            break;
        /* Of a tap that is full, or not up yet, the frame is lost, as it is at any card. */
        (void)!write(host->tap, data + taken + FRAMING_BYTES, bytes);
        taken += FRAMING_BYTES + bytes;
    }
    return taken;
}

/* What the guest receives. */
static gpointer run_input(gpointer user_data)
{
    NativeHost *host = user_data;
    g_autofree guint8 *buffer = g_malloc(BUFFER_BYTES);
    gsize have = 0;
    for (;;) {
        ssize_t bytes = read(host->card, buffer + have, BUFFER_BYTES - have);
        int failed = errno;
        if (!wait_until_it_runs(host))
            return NULL;
        if (bytes <= 0)
            g_error("card: %s", bytes < 0 ? g_strerror(failed) : "closed");
        have += (gsize)bytes;
        gsize taken = give(host, buffer, have);
        have -= taken;
        memmove(buffer, buffer + taken, have);
    }
    return NULL;
}

static int open_tap(const char *ifname)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int header_bytes = VNET_HDR_BYTES, little_endian = 1;
    g_strlcpy(request.ifr_name, ifname, sizeof(request.ifr_name));
    int tap = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    if (tap < 0 || ioctl(tap, TUNSETIFF, &request) < 0 ||
        ioctl(tap, TUNSETVNETHDRSZ, &header_bytes) < 0 ||
        ioctl(tap, TUNSETVNETLE, &little_endian) < 0 ||
        ioctl(tap, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN) < 0)
        g_error("%s: %s", ifname, g_strerror(errno));
    return tap;
}

/* In namespace `netns`, and back in this one. */
static int open_guest_tap(const char *netns, const char *ifname)
{
    g_autofree char *path = g_build_filename("/run/netns", netns, NULL);
    COLO_AUTO_FD here = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    COLO_AUTO_FD there = open(path, O_RDONLY | O_CLOEXEC);
    if (here < 0 || there < 0 || setns(there, CLONE_NEWNET) < 0)
        g_error("%s: %s", path, g_strerror(errno));
    int tap = open_tap(ifname);
    if (setns(here, CLONE_NEWNET) < 0)
        g_error("%s", g_strerror(errno));
    return tap;
}

/* ---- Without colod ---- */

/* From taps[0] to taps[1]. */
static gpointer run_relay(gpointer user_data)
{
    const int *taps = user_data;
    g_autofree guint8 *frame = g_malloc(FRAME_MAX);
    for (;;) {
        ssize_t bytes = read(taps[0], frame, FRAME_MAX);
        if (bytes < 0)
            g_error("tap: %s", g_strerror(errno));
        (void)!write(taps[1], frame, (gsize)bytes);
    }
    return NULL;
}

static void relay(int guest, int outside)
{
    int output[] = {guest, outside}, input[] = {outside, guest};
    g_thread_unref(g_thread_new("guest-output", run_relay, output));
    run_relay(input);
}

/* ---- The node ---- */

static void start_guest(NativeHost *host)
{
    host->card = dup(fake_vm_card_fd(host->vm, 0));
    if (host->card < 0)
        g_error("card: %s", g_strerror(errno));
    g_thread_unref(g_thread_new("guest-output", run_output, host));
    g_thread_unref(g_thread_new("guest-input", run_input, host));
}

static void on_guest(FakeVmGuest guest, gpointer user_data)
{
    NativeHost *host = user_data;
    g_mutex_lock(&host->lock);
    host->guest = guest;
    g_cond_broadcast(&host->changed);
    g_mutex_unlock(&host->lock);
    if (guest != FAKE_VM_GONE && host->card < 0)
        start_guest(host);
}

static Vm *make_vm(const VmDescription *description, const VmHandler *handler, gpointer user_data)
{
    NativeHost *host = user_data;
    if (host->vm)
        g_error("a host of this kind has one VM");
    host->vm = fake_vm_new(description, 1, handler);
    fake_vm_on_guest(host->vm, on_guest, host);
    return host->vm;
}

static void on_ended(const GError *error, gpointer user_data)
{
    NativeHost *host = user_data;
    host->failed = error != NULL;
    g_main_loop_quit(host->loop);
}

int main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    if (argc != 5) {
        fputs("usage: native-host CONFIG ROLE NETNS TAP\n"
              "       native-host --relay HOST-TAP NETNS TAP\n",
              stderr);
        return 2;
    }
    int guest = open_guest_tap(argv[3], argv[4]);
    if (!strcmp(argv[1], "--relay"))
        relay(guest, open_tap(argv[2]));
    g_autoptr(Config) config = config_load(argv[1], argv[2], &error);
    if (!config) {
        fprintf(stderr, "native-host: %s\n", error->message);
        return 2;
    }
    log_init(config->vm->name, config->log_level);
    NativeHost host = {.loop = g_main_loop_new(NULL, FALSE), .tap = guest, .card = -1};
    NodeHandler handler = {.make_vm = make_vm, .ended = on_ended, .user_data = &host};
    Node *node = node_new(config, &handler, &error);
    if (!node) {
        fprintf(stderr, "native-host: %s\n", error->message);
        return 1;
    }
    g_main_loop_run(host.loop);
    /* Its threads have no end of their own. */
    _exit(host.failed);
}
