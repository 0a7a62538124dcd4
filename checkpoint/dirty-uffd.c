/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty tracking by asynchronous write-protection (Linux 6.7 and later; kernel
 * Documentation/admin-guide/mm/userfaultfd.rst and pagemap.rst). The VM's mapping is registered
 * with the userfaultfd that was made inside its process. The kernel drops a page's protection at
 * its first write without notifying anybody. PAGEMAP_SCAN reports unprotected pages and protects
 * them again in one step, so no write falls in between.
 *
 * A scan that protects tells the MMU notifiers of all that it is asked to scan, whatever it finds. KVM
 * then forgets what it has mapped there, and the guest faults on each page that it touches next, even
 * to read it. So with KVM a harvest looks first, which tells nobody, and protects only where it has
 * found something. What is protected is reported by the same step. So a page that is written between the
 * two is found by the second, or by the next harvest. The calls to protect are limited: they leave out
 * the largest of the gaps between the written pages.
 *
 * The category mask and the return mask are both exactly PAGE_IS_WRITTEN and nothing is inverted:
 * only then does the kernel report a page that was written and then unmapped.
 *
 * A userfaultfd's features can be set once in its life. A later tracker of the same process finds
 * them set, and reads in /proc/self/fdinfo whether they are the ones needed.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "checkpoint/dirty_internal.h"
#include "common/fd.h"

/* Newer than the headers of Debian 12 (include/uapi/linux/userfaultfd.h, fs.h of Linux 6.7). */
#define WP_HUGETLBFS_SHMEM (1u << 12)
#define WP_UNPOPULATED     (1u << 13)
#define WP_ASYNC           (1u << 15)
#define WANTED_FEATURES    (WP_HUGETLBFS_SHMEM | WP_UNPOPULATED | WP_ASYNC)

typedef struct {
    guint64 size, flags, start, end, walk_end, vec, vec_len, max_pages;
    guint64 category_inverted, category_mask, category_anyof_mask, return_mask;
} PmScanArg;

typedef struct {
    guint64 start, end, categories;
} PmRegion;

#define PM_SCAN_IOCTL       _IOWR('f', 16, PmScanArg)
#define PM_SCAN_WP_MATCHING (1u << 0)
#define PM_SCAN_CHECK_ASYNC (1u << 1)
#define PM_PAGE_IS_WRITTEN  (1u << 1)

/* Regions per call; the loop continues where a call with a full vector stopped. */
#define REGIONS 16384
/* Calls to protect what one look has found: 1.5 us each, in the pause. */
#define PROTECT_CALLS 1024

typedef struct {
    int uffd; /* borrowed */
    int pagemap;
    guint64 base, size;
    gboolean by_kvm;
    PmRegion *found; /* REGIONS: by a look */
    PmRegion *taken; /* REGIONS: found and protected in one step */
} Uffd;

static gboolean fail(GError **error, const char *what, const char *hint)
{
    g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_TRACKING, "%s: %s%s", what,
                g_strerror(errno), hint);
    return FALSE;
}

/* Whether the wanted features were set on `fd` before, by the line "API: aa:FEATURES:..." */
static gboolean has_features(int fd)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fdinfo/%d", fd);
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return FALSE;
    const char *api = strstr(text, "\nAPI:");
    unsigned version, features;
    return api && sscanf(api, "\nAPI: %x:%x:", &version, &features) == 2 && version == UFFD_API &&
           (features & WANTED_FEATURES) == WANTED_FEATURES;
}

static gboolean enable(int fd, GError **error)
{
    struct uffdio_api api = {.api = UFFD_API, .features = WANTED_FEATURES};
    if (ioctl(fd, UFFDIO_API, &api) == 0)
        return TRUE;
    int saved = errno;
    if (saved == EINVAL && has_features(fd))
        return TRUE;
    errno = saved;
    return fail(error, "userfaultfd: asynchronous write-protection",
                " (it needs Linux 6.7 or later with CONFIG_PTE_MARKER_UFFD_WP)");
}

static gboolean protect(Uffd *u, GError **error)
{
    struct uffdio_register reg = {
        .range = {.start = u->base, .len = u->size},
          .mode = UFFDIO_REGISTER_MODE_WP
    };
    if (ioctl(u->uffd, UFFDIO_REGISTER, &reg) < 0)
        return fail(error, "userfaultfd: register the VM's RAM", "");
    struct uffdio_writeprotect wp = {
        .range = {.start = u->base, .len = u->size},
          .mode = UFFDIO_WRITEPROTECT_MODE_WP
    };
    if (ioctl(u->uffd, UFFDIO_WRITEPROTECT, &wp) < 0)
        return fail(error, "userfaultfd: write-protect the VM's RAM", "");
    return TRUE;
}

/*
 * Scans from `*start` on, up to `end` or until `regions` is full, and moves `*start` to where it stopped.
 * Returns how many of the REGIONS regions it has filled, -1 with `error` set.
 */
static int scan(Uffd *u, guint64 flags, guint64 *start, guint64 end, PmRegion *regions,
                GError **error)
{
    PmScanArg arg = {
        .size = sizeof(arg),
        .flags = flags | PM_SCAN_CHECK_ASYNC,
        .start = *start,
        .end = end,
        .vec = (guintptr)regions,
        .vec_len = REGIONS,
        .category_mask = PM_PAGE_IS_WRITTEN,
        .return_mask = PM_PAGE_IS_WRITTEN,
    };
    int n;
    do
        n = ioctl(u->pagemap, PM_SCAN_IOCTL, &arg);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        fail(error, "PAGEMAP_SCAN of the VM's RAM",
             errno == ESRCH    ? " (the VM's process has ended)"
             : errno == EPERM  ? " (the VM's mapping of its RAM was replaced)"
             : errno == ENOTTY ? " (it needs Linux 6.7 or later)"
                               : "");
        return -1;
    }
    if (arg.walk_end <= *start) {
        errno = EFAULT;
        fail(error, "PAGEMAP_SCAN stopped before the end of the VM's RAM", "");
        return -1;
    }
    *start = arg.walk_end;
    return n;
}

/* Adds the written pages of `start` to `end` (addresses) to `pages`. */
static gboolean scan_all(Uffd *u, guint64 flags, guint64 start, guint64 end, PageSet *pages,
                         GError **error)
{
    while (start < end) {
        int n = scan(u, flags, &start, end, u->taken, error);
        if (n < 0)
            return FALSE;
        for (const PmRegion *r = u->taken; r < u->taken + n; r++)
            page_set_add_run(pages, (r->start - u->base) / VM_PAGE_SIZE,
                             (r->end - r->start) / VM_PAGE_SIZE);
    }
    return TRUE;
}

guint64 dirty_join_below(const guint32 gaps[DIRTY_GAP_CLASSES], guint calls)
{
    guint used = 1, largest = DIRTY_GAP_CLASSES - 1;
    while (largest > DIRTY_GAP_ALWAYS_JOINED && used + gaps[largest] <= calls)
        used += gaps[largest--];
    return G_GUINT64_CONSTANT(1) << largest;
}

static guint64 pages_between(const PmRegion *a, const PmRegion *b)
{
    return (b->start - a->end) / VM_PAGE_SIZE;
}

/* Protects the `n` regions that a look has found; neighbours with a small gap as one. */
static gboolean protect_regions(Uffd *u, int n, PageSet *pages, GError **error)
{
    const PmRegion *r = u->found;
    guint32 gaps[DIRTY_GAP_CLASSES] = {0};
    for (int i = 0; i + 1 < n; i++)
        gaps[MIN(g_bit_storage(pages_between(&r[i], &r[i + 1])), DIRTY_GAP_CLASSES - 1)]++;
    guint64 join_below = dirty_join_below(gaps, PROTECT_CALLS);
    for (int first = 0, last = 0; last < n; last++) {
        if (last + 1 < n && pages_between(&r[last], &r[last + 1]) < join_below)
            continue;
        if (!scan_all(u, PM_SCAN_WP_MATCHING, r[first].start, r[last].end, pages, error))
            return FALSE;
        first = last + 1;
    }
    return TRUE;
}

static gboolean uffd_harvest(gpointer state, PageSet *pages, GError **error)
{
    Uffd *u = state;
    guint64 start = u->base, end = u->base + u->size;
    if (!u->by_kvm)
        return scan_all(u, PM_SCAN_WP_MATCHING, start, end, pages, error);
    while (start < end) {
        int n = scan(u, 0, &start, end, u->found, error);
        if (n < 0 || !protect_regions(u, n, pages, error))
            return FALSE;
    }
    return TRUE;
}

static gboolean uffd_peek(gpointer state, guint64 first, guint64 count, PageSet *pages,
                          GError **error)
{
    Uffd *u = state;
    guint64 start = u->base + first * VM_PAGE_SIZE;
    return scan_all(u, 0, start, start + count * VM_PAGE_SIZE, pages, error);
}

/* Unregistering lifts the protection; it fails only if the process is gone. */
static void uffd_suspend(gpointer state)
{
    Uffd *u = state;
    struct uffdio_range range = {.start = u->base, .len = u->size};
    ioctl(u->uffd, UFFDIO_UNREGISTER, &range);
}

static gboolean uffd_resume(gpointer state, GError **error)
{
    return protect(state, error);
}

static void uffd_stop(gpointer state)
{
    Uffd *u = state;
    uffd_suspend(u);
    colo_fd_close(&u->pagemap);
    g_free(u->found);
    g_free(u->taken);
    g_free(u);
}

static gpointer uffd_start(const VmRam *ram, GError **error)
{
    if (ram->uffd < 0) {
        g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_TRACKING, "%s",
                    ram->no_uffd ? ram->no_uffd : "the VM has no userfaultfd");
        return NULL;
    }
    COLO_AUTO_FD pagemap = dirty_open_proc(ram->pid, "pagemap", O_RDONLY, error);
    if (pagemap < 0 || !enable(ram->uffd, error))
        return NULL;
    Uffd *u = g_new0(Uffd, 1);
    u->uffd = ram->uffd;
    u->pagemap = colo_fd_steal(&pagemap);
    u->base = ram->remote_base;
    u->size = ram->size_bytes;
    u->by_kvm = ram->by_kvm;
    u->found = g_new(PmRegion, REGIONS);
    u->taken = g_new(PmRegion, REGIONS);
    g_autoptr(PageSet) first = page_set_new(u->size / VM_PAGE_SIZE);
    /* One scan here, so that a kernel without it is found now and not at the first checkpoint. */
    if (protect(u, error) && uffd_peek(u, 0, page_set_limit(first), first, error))
        return u;
    uffd_stop(u);
    return NULL;
}

const DirtyOps dirty_uffd_ops = {
    .name = "uffd",
    .start = uffd_start,
    .stop = uffd_stop,
    .harvest = uffd_harvest,
    .peek = uffd_peek,
    .suspend = uffd_suspend,
    .resume = uffd_resume,
};
