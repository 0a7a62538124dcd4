/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Keeps the contents of whatever pages the VM's process writes to, from the moment just before the
 * first write (kernel Documentation/admin-guide/mm/userfaultfd.rst, "Write Protect Notifications").
 * All RAM is write-protected; a writer waits until the thread here has copied the page.
 *
 * It is for a load after which no checkpoint comes that could correct what it has written. A write
 * costs some ten microseconds. To protect all RAM, and to end that, costs about 60 ms for each GiB
 * in use, for each entry of the page tables is changed three times. That is too much for each load,
 * but exact. The asynchronous kind can't be exact: it reports a write when the old contents are
 * gone.
 *
 * A mapping is registered with one userfaultfd only: the tracker's is unregistered meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checkpoint/checkpoint_internal.h"
#include "common/fd.h"

/* Linux 5.19; not in all headers. */
#define WP_HUGETLBFS_SHMEM (1u << 12)

struct PageKeeper {
    const VmRam *ram;
    int wake; /* eventfd: the end */
    GThread *thread;
    PageSet *pages;
    GArray *numbers;      /* of guint64: in order of their first write */
    GByteArray *contents; /* in the same order */
};

static gboolean fail(GError **error, const char *what)
{
    g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_TRACKING, "%s: %s", what,
                g_strerror(errno));
    return FALSE;
}

static int protect(const PageKeeper *keeper, guint64 first, guint64 count, gboolean on)
{
    struct uffdio_writeprotect wp = {
        .range = {.start = keeper->ram->remote_base + first * VM_PAGE_SIZE,
                  .len = count * VM_PAGE_SIZE},
        .mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
    };
    int result;
    do
        result = ioctl(keeper->ram->uffd_sync, UFFDIO_WRITEPROTECT, &wp);
    while (result < 0 && (errno == EAGAIN || errno == EINTR));
    return result;
}

/* ---- The thread ---- */

static void keep(PageKeeper *keeper, guint64 address)
{
    guint64 page = (address - keeper->ram->remote_base) / VM_PAGE_SIZE;
    if (!page_set_contains(keeper->pages, page)) {
        page_set_add_run(keeper->pages, page, 1);
        g_array_append_val(keeper->numbers, page);
        g_byte_array_append(keeper->contents, keeper->ram->base + page * VM_PAGE_SIZE,
                            VM_PAGE_SIZE);
    }
    protect(keeper, page, 1, FALSE); /* a waiting writer continues */
}

static void read_faults(PageKeeper *keeper)
{
    struct uffd_msg message;
    while (read(keeper->ram->uffd_sync, &message, sizeof(message)) == (ssize_t)sizeof(message))
        if (message.event == UFFD_EVENT_PAGEFAULT)
            keep(keeper, message.arg.pagefault.address);
}

static gpointer keeper_thread(gpointer data)
{
    PageKeeper *keeper = data;
    struct pollfd fds[] = {
        {.fd = keeper->ram->uffd_sync, .events = POLLIN},
        {.fd = keeper->wake,           .events = POLLIN},
    };
    while (!(fds[1].revents & POLLIN)) {
        if (poll(fds, G_N_ELEMENTS(fds), -1) < 0)
            continue;
        if (fds[0].revents & (POLLHUP | POLLERR))
            fds[0].fd = -1; /* the process has ended */
        else if (fds[0].revents & POLLIN)
            read_faults(keeper);
    }
    return NULL;
}

/* ---- The owner's side ---- */

/* Once in a userfaultfd's life; EINVAL: the kernel can't, or it has been told before. */
static gboolean enable(int uffd)
{
    struct uffdio_api api = {.api = UFFD_API, .features = WP_HUGETLBFS_SHMEM};
    return ioctl(uffd, UFFDIO_API, &api) == 0;
}

gboolean load_guard_is_exact(const VmRam *ram, GError **error)
{
    COLO_AUTO_FD ours = ram ? -1 : (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    int uffd = ram ? ram->uffd_sync : ours;
    if (uffd >= 0 && enable(uffd))
        return TRUE;
    const char *why =
        "no userfaultfd that reports the kernel's writes: it needs CAP_SYS_PTRACE (of "
        "the host, not of a user namespace), or sysctl "
        "vm.unprivileged_userfaultfd=1, and no seccomp policy against it";
    if (uffd >= 0)
        why = "the kernel can't protect shared memory against writes: it needs Linux 5.19 or later "
              "with CONFIG_PTE_MARKER_UFFD_WP";
    else if (ram && ram->no_uffd)
        why = ram->no_uffd;
    g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_TRACKING, "%s", why);
    return FALSE;
}

static gboolean begin(PageKeeper *keeper, GError **error)
{
    const VmRam *ram = keeper->ram;
    struct uffdio_register reg = {
        .range = {.start = ram->remote_base, .len = ram->size_bytes},
        .mode = UFFDIO_REGISTER_MODE_WP
    };
    if (!enable(ram->uffd_sync) && errno != EINVAL)
        return fail(error, "userfaultfd: write-protection of shared memory");
    if (ioctl(ram->uffd_sync, UFFDIO_REGISTER, &reg) < 0)
        return fail(error, "userfaultfd: register the VM's RAM");
    keeper->wake = eventfd(0, EFD_CLOEXEC);
    if (keeper->wake < 0)
        return fail(error, "eventfd");
    keeper->thread = g_thread_try_new("colo-keeper", keeper_thread, keeper, error);
    if (!keeper->thread)
        return FALSE;
    if (protect(keeper, 0, ram->size_bytes / VM_PAGE_SIZE, TRUE) < 0)
        return fail(error, "userfaultfd: write-protect the VM's RAM");
    return TRUE;
}

PageKeeper *page_keeper_new(const VmRam *ram, GError **error)
{
    if (ram->uffd_sync < 0) {
        g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_TRACKING,
                    "the VM has no userfaultfd for it");
        return NULL;
    }
    PageKeeper *keeper = g_new0(PageKeeper, 1);
    keeper->ram = ram;
    keeper->wake = -1;
    keeper->pages = page_set_new(ram->size_bytes / VM_PAGE_SIZE);
    keeper->numbers = g_array_new(FALSE, FALSE, sizeof(guint64));
    keeper->contents = g_byte_array_new();
    if (begin(keeper, error))
        return keeper;
    page_keeper_free(keeper);
    return NULL;
}

/* Nobody waits after it, and nothing is kept any more. */
static void end(PageKeeper *keeper)
{
    const VmRam *ram = keeper->ram;
    struct uffdio_range range = {.start = ram->remote_base, .len = ram->size_bytes};
    guint64 one = 1;
    if (keeper->thread) {
        (void)!write(keeper->wake, &one, sizeof(one));
        g_thread_join(g_steal_pointer(&keeper->thread));
    }
    /* It wakes who waits; it fails only if the process is gone. */
    ioctl(ram->uffd_sync, UFFDIO_UNREGISTER, &range);
}

guint64 page_keeper_put_back(PageKeeper *keeper)
{
    end(keeper);
    for (guint i = 0; i < keeper->numbers->len; i++) {
        guint64 page = g_array_index(keeper->numbers, guint64, i);
        memcpy(keeper->ram->base + page * VM_PAGE_SIZE,
               keeper->contents->data + (gsize)i * VM_PAGE_SIZE, VM_PAGE_SIZE);
    }
    return keeper->numbers->len;
}

void page_keeper_free(PageKeeper *keeper)
{
    if (!keeper)
        return;
    end(keeper);
    colo_fd_close(&keeper->wake);
    page_set_free(keeper->pages);
    g_array_unref(keeper->numbers);
    g_byte_array_unref(keeper->contents);
    g_free(keeper);
}
