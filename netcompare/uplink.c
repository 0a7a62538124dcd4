/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The uplink: a tap on the host's bridge, of ours or given to us. Frames carry virtio-net headers both ways, so
 * that super-frames and unfinished checksums pass as they are.
 *
 * Our tap is not persistent: it is gone with its descriptor, however this process ends. It emits
 * nothing of its own (IPv6 is off on it). Its address starts with fe: a bridge takes the lowest
 * address of its ports, and so doesn't change its own to it.
 *
 * A closed uplink is attached and up all the same, so that its bridge port is forwarding when it
 * opens. What comes is left to the kernel, which drops it when its queue is full; the rest is
 * thrown away when the uplink opens. A closed uplink costs nothing.
 *
 * A tap that was given is used as it is: nothing but how its frames look is changed.
 */
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "common/fd.h"
#include "netcompare/netcompare.h"

#define TUN_DEVICE "/dev/net/tun"
/* Frames read in one turn of the main loop. */
#define READ_BATCH 64
/* Frames that the kernel keeps for us. */
#define TAP_QUEUE_FRAMES 2048
#define ETHERNET_BYTES   14u

struct Uplink {
    int fd;
    int references; /* one for the owner, one for each call into user code on the stack */
    gboolean freed, dead, open;
    char ifname[IFNAMSIZ];
    GSource *source; /* only while open */
    UplinkStats stats;
    FrameFunc input;
    NetErrorFunc failed;
    gpointer user_data;
    guint8 buffer[NETCOMPARE_FRAME_MAX_BYTES];
};

typedef struct nl_sock NetlinkSocket;
typedef struct rtnl_link RtnlLink;
G_DEFINE_AUTOPTR_CLEANUP_FUNC(RtnlLink, rtnl_link_put)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NetlinkSocket, nl_socket_free)

/* ---- Making the tap ---- */

static gboolean fail(GError **error, NetcompareError code, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

static gboolean fail(GError **error, NetcompareError code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error_literal(error, NETCOMPARE_ERROR, code, text);
    return FALSE;
}

static gboolean check_name(const char *ifname, GError **error)
{
    gsize len = strlen(ifname);

    if (len == 0 || len >= IFNAMSIZ || strpbrk(ifname, "/ \t\n:") != NULL ||
        strcmp(ifname, ".") == 0 || strcmp(ifname, "..") == 0)
        return fail(error, NETCOMPARE_ERROR_TAP,
                    "tap '%s': not a name for an interface (1 to %d characters, no '/', ':' or "
                    "space)",
                    ifname, IFNAMSIZ - 1);
    const char *percent = strchr(ifname, '%');
    if (percent != NULL && (percent[1] != 'd' || strchr(percent + 1, '%') != NULL))
        return fail(error, NETCOMPARE_ERROR_TAP,
                    "tap '%s': a pattern has one %%d for the number and no other %%", ifname);
    /* TUNSETIFF would join a persistent tap of somebody else's. */
    if (percent == NULL && if_nametoindex(ifname) != 0)
        return fail(error, NETCOMPARE_ERROR_TAP,
                    "tap '%s': the name is taken (does another colod run this VM? else remove it "
                    "with 'ip link del %s' or use another name)",
                    ifname, ifname);
    return TRUE;
}

static gboolean fail_tap(const char *ifname, int saved, GError **error)
{
    if (saved == EPERM || saved == EACCES)
        return fail(error, NETCOMPARE_ERROR_PERMISSION,
                    "tap '%s': not allowed to make it (%s): run as root or with the capability "
                    "CAP_NET_ADMIN",
                    ifname, g_strerror(saved));
    if (saved == EBUSY || saved == EEXIST)
        return fail(error, NETCOMPARE_ERROR_TAP, "tap '%s': the name is taken", ifname);
    return fail(error, NETCOMPARE_ERROR_TAP, "tap '%s': can't be made: %s", ifname,
                g_strerror(saved));
}

static gboolean open_tun(int *ret_fd, const char *ifname, GError **error)
{
    int fd = open(TUN_DEVICE, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd >= 0) {
        *ret_fd = fd;
        return TRUE;
    }
    int saved = errno;
    if (saved == ENOENT || saved == ENODEV || saved == ENXIO)
        return fail(error, NETCOMPARE_ERROR_TAP,
                    "tap '%s': " TUN_DEVICE ": %s (load the module with 'modprobe tun'; in a "
                    "container, pass the device in)",
                    ifname, g_strerror(saved));
    if (saved == EACCES || saved == EPERM)
        return fail(error, NETCOMPARE_ERROR_PERMISSION,
                    "tap '%s': " TUN_DEVICE ": %s (run as root, or give this user the right to "
                    "open it, and CAP_NET_ADMIN)",
                    ifname, g_strerror(saved));
    return fail(error, NETCOMPARE_ERROR_TAP, "tap '%s': " TUN_DEVICE ": %s", ifname,
                g_strerror(saved));
}

/* How its frames look. */
static gboolean set_headers(Uplink *uplink, GError **error)
{
    int header_bytes = NETCOMPARE_VNET_HDR_BYTES, little_endian = 1;
    if (ioctl(uplink->fd, TUNSETVNETHDRSZ, &header_bytes) < 0 ||
        ioctl(uplink->fd, TUNSETVNETLE, &little_endian) < 0)
        return fail(error, NETCOMPARE_ERROR_TAP, "tap '%s': no virtio-net headers: %s",
                    uplink->ifname, g_strerror(errno));
    return uplink_set_offloads(uplink, TRUE, error);
}

static gboolean make_tap(Uplink *uplink, const char *ifname, GError **error)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};

    if (!check_name(ifname, error) || !open_tun(&uplink->fd, ifname, error))
        return FALSE;
    g_strlcpy(request.ifr_name, ifname, sizeof(request.ifr_name));
    if (ioctl(uplink->fd, TUNSETIFF, &request) < 0)
        return fail_tap(ifname, errno, error);
    g_strlcpy(uplink->ifname, request.ifr_name, sizeof(uplink->ifname));
    return set_headers(uplink, error);
}

gboolean uplink_set_offloads(Uplink *uplink, gboolean offloads, GError **error)
{
    /* Not USO: a card only takes it since QEMU 8.2, and only if its driver has asked for it. */
    unsigned wanted = offloads ? TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN : 0;
    if (ioctl(uplink->fd, TUNSETOFFLOAD, wanted) < 0)
        return fail(error, NETCOMPARE_ERROR_TAP, "tap '%s': setting offloads: %s", uplink->ifname,
                    g_strerror(errno));
    return TRUE;
}

/* ---- A tap that was given ---- */

/* In this network namespace; another one may have an interface of the same name. */
static gboolean is_here(int fd, const char *ifname)
{
    struct ifreq its = {0}, ours = {0};
    COLO_AUTO_FD sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    g_strlcpy(ours.ifr_name, ifname, sizeof(ours.ifr_name));
    return sock >= 0 && ioctl(fd, SIOCGIFHWADDR, &its) == 0 &&
           ioctl(sock, SIOCGIFHWADDR, &ours) == 0 &&
           memcmp(its.ifr_hwaddr.sa_data, ours.ifr_hwaddr.sa_data, ETHER_ADDR_LEN) == 0;
}

/* TUNGETIFF doesn't tell: its IFF_NOFILTER is the same bit. Not known without this namespace's sysfs. */
static gboolean has_packet_information(const char *ifname)
{
    g_autofree char *path = g_strdup_printf("/sys/class/net/%s/tun_flags", ifname);
    g_autofree char *text = NULL;
    return g_file_get_contents(path, &text, NULL, NULL) &&
           !(g_ascii_strtoull(text, NULL, 16) & IFF_NO_PI);
}

/* NULL: it will do, and `ret_request` has its name and flags. */
static const char *what_is_wrong(int fd, struct ifreq *ret_request)
{
    if (ioctl(fd, TUNGETIFF, ret_request) < 0)
        return errno == EBADFD || errno == ENOLINK ? "has no interface: open it with TUNSETIFF"
                                                   : "is no tap";
    unsigned flags = (guint16)ret_request->ifr_flags;
    if (!(flags & IFF_TAP))
        return "is a tun, which has no Ethernet frames: open it with IFF_TAP";
    if (!(flags & IFF_VNET_HDR))
        return "has frames without virtio-net headers: open it with IFF_VNET_HDR";
    if (!is_here(fd, ret_request->ifr_name))
        return "has its interface in another network namespace: run colod in that one";
    if (has_packet_information(ret_request->ifr_name))
        return "has frames with packet information: open it with IFF_NO_PI";
    int mode = fcntl(fd, F_GETFL);
    if ((mode & O_ACCMODE) != O_RDWR)
        return "is not open for reading and writing";
    return fcntl(fd, F_SETFL, mode | O_NONBLOCK) < 0 ? g_strerror(errno) : NULL;
}

static gboolean take_tap(Uplink *uplink, int fd, const char *name, GError **error)
{
    struct ifreq request = {0};
    uplink->fd = fd;
    const char *wrong = what_is_wrong(fd, &request);
    if (wrong)
        return fail(error, NETCOMPARE_ERROR_TAP, "the descriptor '%s' %s", name, wrong);
    g_strlcpy(uplink->ifname, request.ifr_name, sizeof(uplink->ifname));
    return set_headers(uplink, error);
}

/* ---- Attaching it ---- */

static gboolean fail_netlink(const Uplink *uplink, const char *what, int code, GError **error)
{
    if (code == -NLE_PERM || code == -NLE_NOACCESS)
        return fail(error, NETCOMPARE_ERROR_PERMISSION,
                    "tap '%s': %s: not allowed: run as root or with the capability CAP_NET_ADMIN",
                    uplink->ifname, what);
    return fail(error, NETCOMPARE_ERROR_TAP, "tap '%s': %s: %s", uplink->ifname, what,
                nl_geterror(code));
}

/* `ret_index` gets the bridge's interface index, if it is one. */
static gboolean find_bridge(struct nl_sock *sock, const char *bridge, int *ret_index,
                            GError **error)
{
    g_autoptr(RtnlLink) link = NULL;
    int code = rtnl_link_get_kernel(sock, 0, bridge, &link);
    if (code < 0)
        return fail(error, NETCOMPARE_ERROR_BRIDGE,
                    "bridge '%s': %s (make it with 'ip link add %s type bridge', or name another)",
                    bridge,
                    code == -NLE_OBJ_NOTFOUND || code == -NLE_NODEV ? "there is no such interface"
                                                                    : nl_geterror(code),
                    bridge);
    const char *type = rtnl_link_get_type(link);
    if (g_strcmp0(type, "bridge") != 0)
        return fail(error, NETCOMPARE_ERROR_BRIDGE,
                    "bridge '%s': is no bridge but %s%s (name a bridge, with that interface as a "
                    "port of it)",
                    bridge, type != NULL ? "an interface of type " : "a plain network card",
                    type != NULL ? type : "");
    *ret_index = rtnl_link_get_ifindex(link);
    return TRUE;
}

gboolean uplink_check_bridge(const char *bridge, GError **error)
{
    g_autoptr(NetlinkSocket) sock = nl_socket_alloc();
    int code = sock ? nl_connect(sock, NETLINK_ROUTE) : -NLE_NOMEM;
    int index;
    if (code < 0)
        return fail(error, NETCOMPARE_ERROR_BRIDGE, "bridge '%s': netlink: %s", bridge,
                    nl_geterror(code));
    return find_bridge(sock, bridge, &index, error);
}

/* Keeps the kernel from sending neighbour discovery of its own through the tap. */
static gboolean switch_off_ipv6(const Uplink *uplink, GError **error)
{
    g_autofree char *path =
        g_strdup_printf("/proc/sys/net/ipv6/conf/%s/disable_ipv6", uplink->ifname);
    COLO_AUTO_FD fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) /* a kernel without IPv6 */
        return TRUE;
    if (fd < 0 || write(fd, "1", 1) != 1)
        return fail(error, NETCOMPARE_ERROR_TAP,
                    "tap '%s': switching off IPv6 through %s: %s (the tap must send nothing of its "
                    "own; is /proc/sys read-only here?)",
                    uplink->ifname, path, g_strerror(errno));
    return TRUE;
}

static gboolean attach(const Uplink *uplink, const char *bridge, GError **error)
{
    g_autoptr(NetlinkSocket) sock = nl_socket_alloc();
    g_autoptr(RtnlLink) tap = NULL;
    g_autoptr(RtnlLink) change = rtnl_link_alloc();
    int bridge_index = 0;

    int code = sock == NULL || change == NULL ? -NLE_NOMEM : nl_connect(sock, NETLINK_ROUTE);
    if (code == 0)
        code = rtnl_link_get_kernel(sock, 0, uplink->ifname, &tap);
    if (code < 0)
        return fail_netlink(uplink, "asking the kernel for it", code, error);
    if (bridge != NULL && !find_bridge(sock, bridge, &bridge_index, error))
        return FALSE;
    if (!switch_off_ipv6(uplink, error))
        return FALSE;

    guint32 random = g_random_int();
    guint8 mac[6] = {0xfe, 0xc0};
    memcpy(mac + 2, &random, sizeof(random));
    struct nl_addr *address = nl_addr_build(AF_LLC, mac, sizeof(mac));
    rtnl_link_set_addr(change, address);
    nl_addr_put(address);
    rtnl_link_set_txqlen(change, TAP_QUEUE_FRAMES);
    if (bridge != NULL)
        rtnl_link_set_master(change, bridge_index);
    code = rtnl_link_change(sock, tap, change, 0);
    if (code < 0)
        return fail_netlink(uplink, bridge != NULL ? "attaching it to the bridge" : "setting it up",
                            code, error);
    /* Up only when all else is done, so that nothing passes before. */
    g_autoptr(RtnlLink) up = rtnl_link_alloc();
    rtnl_link_set_flags(up, IFF_UP);
    code = rtnl_link_change(sock, tap, up, 0);
    return code == 0 || fail_netlink(uplink, "bringing it up", code, error);
}

/* ---- Frames ---- */

static void uplink_unref(Uplink *uplink)
{
    if (--uplink->references == 0)
        g_free(uplink);
}

static void die(Uplink *uplink, int saved)
{
    if (uplink->dead || uplink->freed)
        return;
    uplink->dead = TRUE;
    uplink_close(uplink);
    g_autoptr(GError) error = NULL;
    fail(&error, NETCOMPARE_ERROR_CLOSED, "tap '%s': %s", uplink->ifname,
         saved == EBADFD ? "somebody has deleted it" : g_strerror(saved));
    uplink->references++;
    uplink->failed(error, uplink->user_data);
    uplink_unref(uplink);
}

static void read_frames(Uplink *uplink, int most)
{
    uplink->references++;
    for (int i = 0; i < most && uplink->open; i++) {
        ssize_t n = read(uplink->fd, uplink->buffer, sizeof(uplink->buffer));
        if (n < 0) {
            if (errno != EAGAIN && errno != EINTR)
                die(uplink, errno);
            break;
        }
        if ((gsize)n < NETCOMPARE_VNET_HDR_BYTES + ETHERNET_BYTES)
            continue;
        uplink->stats.input_frames++;
        uplink->stats.input_bytes += (gsize)n - NETCOMPARE_VNET_HDR_BYTES;
        uplink->input(uplink->buffer, (gsize)n, uplink->user_data);
    }
    uplink_unref(uplink);
}

static gboolean readable(int fd, GIOCondition condition, gpointer data)
{
    Uplink *uplink = data;
    (void)fd;
    (void)condition;

    uplink->references++;
    read_frames(uplink, READ_BATCH);
    gboolean stays_open = uplink->open;
    uplink_unref(uplink);
    return stays_open ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

/* No more than the kernel keeps: more may be coming all the time. */
void uplink_read_now(Uplink *uplink)
{
    read_frames(uplink, TAP_QUEUE_FRAMES);
}

void uplink_send(Uplink *uplink, const guint8 *data, gsize len)
{
    ssize_t n;

    if (!uplink->open)
        return;
    do
        n = write(uplink->fd, data, len);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        uplink->stats.output_dropped++;
        if (errno == EBADFD)
            die(uplink, errno);
        return;
    }
    uplink->stats.output_frames++;
    uplink->stats.output_bytes += len - NETCOMPARE_VNET_HDR_BYTES;
}

void uplink_open(Uplink *uplink)
{
    if (uplink->open || uplink->dead)
        return;
    /* What came while it was closed; no more than the queue holds, though more may be coming. */
    for (int i = 0; i < TAP_QUEUE_FRAMES; i++) {
        if (read(uplink->fd, uplink->buffer, sizeof(uplink->buffer)) < 0 && errno != EINTR)
            break;
    }
    uplink->open = TRUE;
    uplink->source = colo_fd_watch_new(uplink->fd, G_IO_IN | G_IO_ERR);
    g_source_set_callback(uplink->source, G_SOURCE_FUNC(readable), uplink, NULL);
    g_source_attach(uplink->source, NULL);
}

void uplink_close(Uplink *uplink)
{
    uplink->open = FALSE;
    if (uplink->source == NULL)
        return;
    g_source_destroy(uplink->source);
    g_clear_pointer(&uplink->source, g_source_unref);
}

/* ---- */

static Uplink *uplink_alloc(FrameFunc input, NetErrorFunc failed, gpointer user_data)
{
    Uplink *uplink = g_new0(Uplink, 1);
    uplink->fd = -1;
    uplink->references = 1;
    uplink->input = input;
    uplink->failed = failed;
    uplink->user_data = user_data;
    return uplink;
}

Uplink *uplink_new(const char *ifname, const char *bridge, FrameFunc input, NetErrorFunc failed,
                   gpointer user_data, GError **error)
{
    g_autoptr(Uplink) uplink = uplink_alloc(input, failed, user_data);
    if (!make_tap(uplink, ifname, error) || !attach(uplink, bridge, error))
        return NULL;
    return g_steal_pointer(&uplink);
}

Uplink *uplink_new_given(int fd, const char *name, FrameFunc input, NetErrorFunc failed,
                         gpointer user_data, GError **error)
{
    g_autoptr(Uplink) uplink = uplink_alloc(input, failed, user_data);
    return take_tap(uplink, fd, name, error) ? g_steal_pointer(&uplink) : NULL;
}

void uplink_free(Uplink *uplink)
{
    if (uplink == NULL)
        return;
    uplink_close(uplink);
    uplink->freed = TRUE;
    colo_fd_close(&uplink->fd);
    uplink_unref(uplink);
}

const char *uplink_ifname(const Uplink *uplink)
{
    return uplink->ifname;
}

const UplinkStats *uplink_stats(const Uplink *uplink)
{
    return &uplink->stats;
}
