/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/ram.h"

#include "common/fd.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* -1 with errno. */
static int make_memfd(guint64 size_bytes)
{
    COLO_AUTO_FD memfd = memfd_create("colo-ram", MFD_CLOEXEC);
    return memfd >= 0 && ftruncate(memfd, (off_t)size_bytes) == 0 ? colo_fd_steal(&memfd) : -1;
}

gboolean vm_ram_make(VmRam *ret_ram, const char *id, guint64 size_bytes, int *kept, GError **error)
{
    struct stat st;
    gboolean fits = *kept >= 0 && fstat(*kept, &st) == 0 && (guint64)st.st_size == size_bytes;
    COLO_AUTO_FD memfd = fits ? colo_fd_steal(kept) : make_memfd(size_bytes);

    if (memfd < 0) {
        g_set_error(error, VM_ERROR, VM_ERROR_START,
                    "can't make %" G_GUINT64_FORMAT " MiB of shared memory: %s", size_bytes >> 20,
                    g_strerror(errno));
        return FALSE;
    }
    void *base =
        mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, memfd, 0);
    if (base == MAP_FAILED) {
        g_set_error(error, VM_ERROR, VM_ERROR_START,
                    "can't map %" G_GUINT64_FORMAT " MiB of shared memory: %s", size_bytes >> 20,
                    g_strerror(errno));
        return FALSE;
    }
    *ret_ram = (VmRam){.id = id,
                       .base = base,
                       .size_bytes = size_bytes,
                       .memfd = colo_fd_steal(&memfd),
                       .uffd = -1,
                       .uffd_sync = -1,
                       .no_uffd = "no userfaultfd: colo-uffd.so was not preloaded "
                                  "(is COLO_UFFD_LIBRARY set and empty?)"};
    return TRUE;
}

/*
 * Returns the address of the first mapping of the file (dev, inode) in /proc/PID/maps. The mappings
 * must follow each other without a gap from offset 0 to `size`; if not, returns 0.
 */
static guint64 find_in_maps(const char *maps, dev_t dev, ino_t inode, guint64 size)
{
    guint64 base = 0, covered = 0;
    g_auto(GStrv) lines = g_strsplit(maps, "\n", -1);

    for (char **line = lines; *line && covered < size; line++) {
        unsigned long long from, to, offset, file;
        unsigned int major_number, minor_number;

        if (sscanf(*line, "%llx-%llx %*4s %llx %x:%x %llu", &from, &to, &offset, &major_number,
                   &minor_number, &file) != 6 ||
            file != inode || makedev(major_number, minor_number) != dev)
            continue;
        if (offset == 0) {
            base = from;
            covered = to - from;
        } else if (base && offset == covered && from == base + covered) {
            covered += to - from;
        }
    }
    return covered >= size ? base : 0;
}

gboolean vm_ram_find_remote(VmRam *ram, pid_t pid, GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/maps", (int)pid);
    g_autofree char *maps = NULL;
    g_autoptr(GError) cause = NULL;
    struct stat st;

    if (!g_file_get_contents(path, &maps, NULL, &cause)) {
        g_set_error(error, VM_ERROR, VM_ERROR_PERMISSION, "can't see QEMU's memory map: %s",
                    cause->message);
        return FALSE;
    }
    guint64 base = 0;
    if (fstat(ram->memfd, &st) == 0)
        base = find_in_maps(maps, st.st_dev, st.st_ino, ram->size_bytes);
    if (!base) {
        g_set_error(error, VM_ERROR, VM_ERROR_START,
                    "QEMU has not mapped the guest's RAM as it was told to");
        return FALSE;
    }
    ram->pid = pid;
    ram->remote_base = base;
    return TRUE;
}

void vm_ram_receive_uffd(VmRam *ram, int sock)
{
    char text[257] = "";
    struct iovec iov = {.iov_base = text, .iov_len = sizeof(text) - 1};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(2 * sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.space,
                         .msg_controllen = sizeof(control.space)};
    ssize_t got = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    struct cmsghdr *cmsg = got > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

    if (cmsg && cmsg->cmsg_level == SOL_SOCKET && cmsg->cmsg_type == SCM_RIGHTS &&
        (cmsg->cmsg_len == CMSG_LEN(sizeof(int)) || cmsg->cmsg_len == CMSG_LEN(2 * sizeof(int)))) {
        int fds[2] = {-1, -1};
        memcpy(fds, CMSG_DATA(cmsg), cmsg->cmsg_len - CMSG_LEN(0));
        ram->uffd = fds[0];
        ram->uffd_sync = fds[1];
        ram->no_uffd = NULL;
    } else if (got > 1) {
        ram->no_uffd = g_intern_string(text);
    } else {
        ram->no_uffd = "colo-uffd.so was not loaded into QEMU (is it installed, and QEMU neither "
                       "static nor with capabilities of its own?)";
    }
}

void vm_ram_clear(VmRam *ram)
{
    if (ram->base)
        munmap(ram->base, ram->size_bytes);
    ram->base = NULL;
    colo_fd_close(&ram->uffd);
    colo_fd_close(&ram->uffd_sync);
    colo_fd_close(&ram->memfd);
    g_clear_pointer(&ram->log, ram_log_free);
}
