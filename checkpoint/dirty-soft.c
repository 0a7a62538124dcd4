/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dirty tracking by the kernel's soft-dirty bits (CONFIG_MEM_SOFT_DIRTY; kernel
 * Documentation/admin-guide/mm/soft-dirty.rst), for kernels before 6.7. Bit 55 of a page's entry in
 * /proc/PID/pagemap is set if the page was written since "4" was last written to
 * /proc/PID/clear_refs.
 *
 * Reading and clearing are two steps, and a write between them would be lost. So the process is
 * stopped (SIGSTOP) while both are done, unless somebody else has stopped it already. It costs the
 * VM a fraction of a millisecond more than the pause itself. One's own process can't be tracked so.
 *
 * The bit lives in the page table entry, and an entry of shared memory that the kernel unmaps
 * (reclaim, swap) takes the bit with it. So a page without an entry is dirty too if the memfd has
 * data for it; without data it is a hole, which reads as zeros whatever happened.
 *
 * The bit is claimed by every kernel's pagemap but only set where the option is compiled in: a
 * fresh page of our own tells which.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "checkpoint/dirty_internal.h"
#include "common/clock.h"
#include "common/fd.h"

#define PM_SOFT_DIRTY (G_GUINT64_CONSTANT(1) << 55)
#define PM_SWAPPED    (G_GUINT64_CONSTANT(1) << 62)
#define PM_PRESENT    (G_GUINT64_CONSTANT(1) << 63)

/* Entries per read. */
#define ENTRIES 8192

/* A thread that does not stop in this time is stuck in the kernel (a disk that does not answer). */
#define STOP_TIMEOUT_US (5000 * COLO_US_PER_MS)

typedef struct {
    const VmRam *ram;
    int pagemap;
    int clear_refs;
    guint64 *entries;
} Soft;

static gboolean fail(GError **error, const char *what)
{
    g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_TRACKING, "%s: %s", what,
                g_strerror(errno));
    return FALSE;
}

/* A page that was just written is soft-dirty wherever soft-dirty exists. */
static gboolean kernel_has_it(GError **error)
{
    COLO_AUTO_FD pagemap = dirty_open_proc(getpid(), "pagemap", O_RDONLY, error);
    if (pagemap < 0)
        return FALSE;
    guint8 *page =
        mmap(NULL, VM_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return fail(error, "mmap");
    *(volatile guint8 *)page = 1;
    guint64 entry = 0;
    ssize_t got = pread(pagemap, &entry, sizeof(entry),
                        (off_t)((guintptr)page / VM_PAGE_SIZE * sizeof(entry)));
    munmap(page, VM_PAGE_SIZE);
    if (got == (ssize_t)sizeof(entry) && (entry & PM_SOFT_DIRTY))
        return TRUE;
    g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_TRACKING,
                "this kernel is built without CONFIG_MEM_SOFT_DIRTY");
    return FALSE;
}

/* The state letter of a thread (proc(5), field 3 of stat), or 'X' if it is gone. */
static char thread_state(const char *path)
{
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return 'X';
    const char *paren = strrchr(text, ')');
    return paren && paren[1] == ' ' ? paren[2] : 'X';
}

static gboolean is_stopped(pid_t pid)
{
    g_autofree char *tasks = g_strdup_printf("/proc/%d/task", (int)pid);
    g_autoptr(GDir) dir = g_dir_open(tasks, 0, NULL);
    const char *name;
    while (dir && (name = g_dir_read_name(dir))) {
        g_autofree char *path = g_strdup_printf("%s/%s/stat", tasks, name);
        if (!strchr("TtZX", thread_state(path)))
            return FALSE;
    }
    return TRUE;
}

/* Stops all threads of the process; sets *ret_ours if it was this that stopped them. */
static gboolean stop_process(pid_t pid, gboolean *ret_ours, GError **error)
{
    *ret_ours = FALSE;
    if (is_stopped(pid))
        return TRUE;
    if (kill(pid, SIGSTOP) < 0)
        return fail(error, "stop the VM's process (SIGSTOP)");
    *ret_ours = TRUE;
    ColoTime start = colo_time_now();
    /* Twice: a thread may have made another one behind the first look, but not behind the second.
     */
    while (!is_stopped(pid) || !is_stopped(pid)) {
        if (colo_time_diff_us(colo_time_now(), start) > STOP_TIMEOUT_US) {
            errno = ETIMEDOUT;
            return fail(error, "a thread of the VM's process does not stop");
        }
        g_usleep(50); /* a poll: the kernel tells only a parent when a stop is complete */
    }
    return TRUE;
}

static void add_absent(const Soft *s, guint64 first, guint64 count, PageSet *pages)
{
    while (count > 0) {
        guint64 n;
        if (!ram_next_extent(s->ram, first, count, &n))
            page_set_add_run(pages, first, n);
        first += n;
        count -= n;
    }
}

static void add_entries(const Soft *s, guint64 first, guint64 count, PageSet *pages)
{
    guint64 absent = 0; /* pages without an entry right before i */
    for (guint64 i = 0; i < count; i++) {
        guint64 entry = s->entries[i];
        if (!(entry & (PM_PRESENT | PM_SWAPPED | PM_SOFT_DIRTY))) {
            absent++;
            continue;
        }
        if (absent > 0)
            add_absent(s, first + i - absent, absent, pages);
        absent = 0;
        if (entry & PM_SOFT_DIRTY)
            page_set_add_run(pages, first + i, 1);
    }
    if (absent > 0)
        add_absent(s, first + count - absent, absent, pages);
}

static gboolean soft_peek(gpointer state, guint64 first, guint64 count, PageSet *pages,
                          GError **error)
{
    Soft *s = state;
    for (guint64 end = first + count; first < end;) {
        size_t want = MIN(end - first, ENTRIES) * sizeof(guint64);
        off_t at = (off_t)((s->ram->remote_base / VM_PAGE_SIZE + first) * sizeof(guint64));
        ssize_t got = pread(s->pagemap, s->entries, want, at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < (ssize_t)sizeof(guint64)) {
            errno = got < 0 ? errno : ESRCH;
            return fail(error, "read the VM's pagemap");
        }
        guint64 entries = (guint64)got / sizeof(guint64);
        add_entries(s, first, entries, pages);
        first += entries;
    }
    return TRUE;
}

static gboolean clear_bits(Soft *s, GError **error)
{
    if (pwrite(s->clear_refs, "4", 1, 0) != 1)
        return fail(error, "write 4 to the VM's clear_refs");
    return TRUE;
}

static gboolean soft_harvest(gpointer state, PageSet *pages, GError **error)
{
    Soft *s = state;
    gboolean ours;
    gboolean ok = stop_process(s->ram->pid, &ours, error) &&
                  soft_peek(s, 0, page_set_limit(pages), pages, error) && clear_bits(s, error);
    if (ours)
        kill(s->ram->pid, SIGCONT);
    return ok;
}

static void soft_stop(gpointer state)
{
    Soft *s = state;
    colo_fd_close(&s->pagemap);
    colo_fd_close(&s->clear_refs);
    g_free(s->entries);
    g_free(s);
}

static gpointer soft_start(const VmRam *ram, GError **error)
{
    if (!kernel_has_it(error))
        return NULL;
    if (ram->pid == getpid()) {
        g_set_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_TRACKING,
                    "a process can't stop itself to be tracked");
        return NULL;
    }
    COLO_AUTO_FD pagemap = dirty_open_proc(ram->pid, "pagemap", O_RDONLY, error);
    if (pagemap < 0)
        return NULL;
    COLO_AUTO_FD clear_refs = dirty_open_proc(ram->pid, "clear_refs", O_WRONLY, error);
    if (clear_refs < 0)
        return NULL;
    Soft *s = g_new0(Soft, 1);
    s->ram = ram;
    s->pagemap = colo_fd_steal(&pagemap);
    s->clear_refs = colo_fd_steal(&clear_refs);
    s->entries = g_new(guint64, ENTRIES);
    return s;
}

const DirtyOps dirty_soft_ops = {
    .name = "soft-dirty",
    .start = soft_start,
    .stop = soft_stop,
    .harvest = soft_harvest,
    .peek = soft_peek,
    .sees_ours = TRUE, /* of pages that the VM has no entry for */
};
