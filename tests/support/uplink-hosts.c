/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/uplink-hosts.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common/endian.h"
#include "tests/support/command.h"

#define TEST_ETHERTYPE 0x88b5 /* for experiments: whatever else is on the bridge is not ours */

const guint8 uplink_hosts_mac_a[6] = {0x52, 0x54, 0, 0, 0, 0xa};
const guint8 uplink_hosts_mac_b[6] = {0x52, 0x54, 0, 0, 0, 0xb};
const guint8 uplink_hosts_mac_all[6] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};

static gboolean is_ours(const guint8 *data)
{
    const guint8 *frame = data + UPLINK_HOSTS_HEADER;
    return colo_get_be16(frame + 12) == TEST_ETHERTYPE ||
           memcmp(frame, uplink_hosts_mac_a, 6) == 0 || memcmp(frame, uplink_hosts_mac_b, 6) == 0;
}

static void on_input(const guint8 *data, gsize len, gpointer user_data)
{
    UplinkHost *host = user_data;
    g_assert_cmpuint(len, >=, UPLINK_HOSTS_HEADER + 14);
    if (!is_ours(data))
        return;
    g_ptr_array_add(host->got, g_bytes_new(data, len));
    if (host->free_in_input)
        g_clear_pointer(&host->uplink, uplink_free);
}

static void on_failed(const GError *error, gpointer user_data)
{
    UplinkHost *host = user_data;
    host->failures++;
    g_clear_error(&host->error);
    host->error = g_error_copy(error);
}

static void host_init(UplinkHost *host, const char *ifname)
{
    g_autoptr(GError) error = NULL;
    *host = (UplinkHost){.got = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref)};
    host->uplink = uplink_new(ifname, "br0", on_input, on_failed, host, &error);
    g_assert_no_error(error);
}

static void host_clear(UplinkHost *host)
{
    uplink_free(host->uplink);
    g_ptr_array_unref(host->got);
    g_clear_error(&host->error);
}

Uplink *uplink_hosts_new_other(const char *ifname, const char *bridge, GError **error)
{
    return uplink_new(ifname, bridge, on_input, on_failed, NULL, error);
}

int uplink_hosts_open_tap(const char *ifname, int flags)
{
    struct ifreq request = {.ifr_flags = (short)flags};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    g_strlcpy(request.ifr_name, ifname, sizeof(request.ifr_name));
    g_assert_cmpint(ioctl(fd, TUNSETIFF, &request), ==, 0);
    return fd;
}

Uplink *uplink_host_take(UplinkHost *host, int fd, GError **error)
{
    return uplink_new_given(fd, "lan", on_input, on_failed, host, error);
}

void uplink_hosts_setup(UplinkHosts *f, gconstpointer data)
{
    (void)data;
    command_run("ip link add br0 type bridge mcast_snooping 0");
    command_run("ip link set br0 up");
    host_init(&f->a, "upa");
    host_init(&f->b, "upb%d");
}

void uplink_hosts_teardown(UplinkHosts *f, gconstpointer data)
{
    (void)data;
    host_clear(&f->a);
    host_clear(&f->b);
    command_run("ip link del br0");
}

gsize uplink_hosts_make_frame(guint8 *out, const guint8 to[6], const guint8 from[6], guint32 number)
{
    memset(out, 0, UPLINK_HOSTS_HEADER + 60);
    memcpy(out + UPLINK_HOSTS_HEADER, to, 6);
    memcpy(out + UPLINK_HOSTS_HEADER + 6, from, 6);
    colo_put_be16(out + UPLINK_HOSTS_HEADER + 12, TEST_ETHERTYPE);
    colo_put_be32(out + UPLINK_HOSTS_HEADER + 14, number);
    return UPLINK_HOSTS_HEADER + 60;
}

void uplink_host_send(UplinkHost *host, const guint8 to[6], const guint8 from[6], guint32 number)
{
    guint8 frame[UPLINK_HOSTS_HEADER + 60];
    gsize len = uplink_hosts_make_frame(frame, to, from, number);
    uplink_send(host->uplink, frame, len);
}

void uplink_host_wait(UplinkHost *host, guint count)
{
    while (host->got->len < count)
        g_main_context_iteration(NULL, TRUE);
}

guint32 uplink_host_number(UplinkHost *host, guint index)
{
    gsize len;
    const guint8 *data = g_bytes_get_data(g_ptr_array_index(host->got, index), &len);
    g_assert_cmpuint(len, >=, UPLINK_HOSTS_HEADER + 18);
    return colo_get_be32(data + UPLINK_HOSTS_HEADER + 14);
}

const char *uplink_hosts_missing(void)
{
    if (geteuid() != 0)
        return "needs root";
    if (access("/dev/net/tun", R_OK | W_OK) != 0)
        return "needs /dev/net/tun";
    g_autofree char *ip = g_find_program_in_path("ip"), *bridge = g_find_program_in_path("bridge");
    if (ip == NULL || bridge == NULL)
        return "needs ip and bridge (iproute2)";
    if (unshare(CLONE_NEWNET) != 0)
        return "needs the right to make a network namespace";
    return NULL;
}
