/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/nic.h"

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/*
 * QEMU's main loop waits when this is full, so it should hold what a guest sends while we are busy
 * for a moment. The kernel lowers it to net.core.wmem_max without CAP_NET_ADMIN.
 */
#define SOCKET_BUFFER_BYTES (4 * 1024 * 1024)

static int open_tap(GError **error)
{
    struct ifreq request = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    COLO_AUTO_FD fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

    if (fd < 0) {
        g_set_error(error, VM_ERROR, VM_ERROR_PERMISSION, "can't open /dev/net/tun: %s%s",
                    g_strerror(errno), errno == ENOENT || errno == ENODEV ? " (modprobe tun)" : "");
        return -1;
    }
    strcpy(request.ifr_name, "covm%d");
    if (ioctl(fd, TUNSETIFF, &request) < 0) {
        g_set_error(error, VM_ERROR, VM_ERROR_PERMISSION, "can't make a tap device: %s%s",
                    g_strerror(errno), errno == EPERM ? " (it needs CAP_NET_ADMIN)" : "");
        return -1;
    }
    return colo_fd_steal(&fd);
}

static void enlarge(int fd)
{
    int bytes = SOCKET_BUFFER_BYTES;
    if (setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &bytes, sizeof(bytes)) < 0)
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
}

gboolean nic_open(NicFds *ret_fds, GError **error)
{
    int pair[2];
    COLO_AUTO_FD tap = open_tap(error);

    if (tap < 0)
        return FALSE;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        g_set_error(error, VM_ERROR, VM_ERROR_START, "can't make a socket: %s", g_strerror(errno));
        return FALSE;
    }
    COLO_AUTO_FD ours = pair[0];
    COLO_AUTO_FD theirs = pair[1];
    COLO_AUTO_FD theirs_in = fcntl(theirs, F_DUPFD_CLOEXEC, 3);
    if (theirs_in < 0) {
        g_set_error(error, VM_ERROR, VM_ERROR_START, "can't make a socket: %s", g_strerror(errno));
        return FALSE;
    }
    enlarge(ours);
    enlarge(theirs);
    *ret_fds = (NicFds){.tap = colo_fd_steal(&tap),
                        .theirs = colo_fd_steal(&theirs),
                        .theirs_in = colo_fd_steal(&theirs_in),
                        .ours = colo_fd_steal(&ours),
                        .address = -1};
    return TRUE;
}

void nic_close(NicFds *fds)
{
    colo_fd_close(&fds->tap);
    colo_fd_close(&fds->theirs);
    colo_fd_close(&fds->theirs_in);
    colo_fd_close(&fds->ours);
    colo_fd_close(&fds->address);
}

static void add(GPtrArray *argv, const char *option, char *value)
{
    g_ptr_array_add(argv, g_strdup(option));
    g_ptr_array_add(argv, value);
}

/*
 * A guest that has been loaded would announce its address itself, five times over. It would do so after
 * each checkpoint, unlike the VM that it is a copy of. (Telling QEMU "announce-rounds" 0 makes 7.2 crash
 * at the second load.) We announce it, when it has moved.
 */
static const char no_announcement[] = ",guest_announce=off";

static void add_device(GPtrArray *argv, guint index, const VmNic *nic, const char *options)
{
    add(argv, "-device",
        g_strdup_printf("%s,id=nic%u,netdev=colo-net%u,mac=%s%s", nic->model, index, index,
                        nic->mac, options));
}

static void add_redirectors(GPtrArray *argv, GArray *inherited, guint index, const NicFds *fds)
{
    add(argv, "-netdev", g_strdup_printf("tap,id=colo-net%u,fd=%d,vhost=off", index, fds->tap));
    add(argv, "-chardev", g_strdup_printf("socket,id=colo-net%u-out,fd=%d", index, fds->theirs));
    add(argv, "-chardev", g_strdup_printf("socket,id=colo-net%u-in,fd=%d", index, fds->theirs_in));
    add(argv, "-object",
        g_strdup_printf("filter-redirector,id=colo-net%u-from,netdev=colo-net%u,queue=rx,"
                        "outdev=colo-net%u-out,vnet_hdr_support=on",
                        index, index, index));
    add(argv, "-object",
        g_strdup_printf("filter-redirector,id=colo-net%u-to,netdev=colo-net%u,queue=tx,"
                        "indev=colo-net%u-in,vnet_hdr_support=on",
                        index, index, index));
    g_array_append_val(inherited, fds->tap);
    g_array_append_val(inherited, fds->theirs);
    g_array_append_val(inherited, fds->theirs_in);
}

/*
 * A change of the offloads at run time is not told to the backend, so the guest isn't offered it. With
 * MSI-X and without KVM, QEMU before 8.0 crashes when the driver starts: there are no irqfds, and it uses
 * them (7.2, hw/virtio/virtio-pci.c, kvm_virtio_pci_irqfd_use()). So there is no MSI-X with TCG, in any
 * version: the card is the same for all.
 */
static void add_vhost_user(GPtrArray *argv, GArray *inherited, guint index, const VmNic *nic,
                           const NicFds *fds, const char *accel)
{
    g_autofree char *options = g_strconcat(no_announcement, ",ctrl_guest_offloads=off",
                                           strcmp(accel, "kvm") ? ",vectors=0" : "", NULL);
    add(argv, "-chardev",
        g_strdup_printf("socket,id=colo-net%u-user,path=/proc/self/fd/%d", index, fds->address));
    add(argv, "-netdev",
        g_strdup_printf("vhost-user,id=colo-net%u,chardev=colo-net%u-user", index, index));
    add_device(argv, index, nic, options);
    g_array_append_val(inherited, fds->address);
}

void nic_add_arguments(GPtrArray *argv, GArray *inherited, guint index, const VmNic *nic,
                       const NicFds *fds, const char *accel)
{
    if (vm_nic_attach(nic) == VM_ATTACH_VHOST_USER) {
        add_vhost_user(argv, inherited, index, nic, fds, accel);
        return;
    }
    add_redirectors(argv, inherited, index, fds);
    add_device(argv, index, nic, g_str_has_prefix(nic->model, "virtio-net") ? no_announcement : "");
}
