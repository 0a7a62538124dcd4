/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guard of RAM around a load. What was known is put back, what was not is named. The thread
 * that gives the orders doesn't wait for them.
 */
#include <fcntl.h>
#include <glib.h>
#include <linux/userfaultfd.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "checkpoint/checkpoint_internal.h"
#include "common/fd.h"
#include "tests/support/test-ram.h"
#include "tests/support/wait.h"

/* Some of the kernel's page tables, in whole: 512 pages each. */
#define PAGES 4096u

typedef struct {
    TestRam *test;
    DirtyTracker *tracker;
    LoadGuard *guard;
    guint8 salt;
    gboolean done;
    PageSet *pages; /* of the last answer */
} Fixture;

static void on_done(const PageSet *pages, const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_no_error(error);
    page_set_free(f->pages);
    f->pages = page_set_copy(pages);
    f->done = TRUE;
}

typedef void (*Order)(LoadGuard *guard, LoadGuardDone done, gpointer user_data);

static void carry_out(Fixture *f, Order order)
{
    f->done = FALSE;
    order(f->guard, on_done, f);
    g_assert_false(f->done);
    WAIT_FOR(f->done);
}

static void set_up(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    DirtyMethod method;
    g_assert_true(dirty_method_parse(data, &method));
    f->test = test_ram_new(PAGES);
    f->tracker = dirty_tracker_new(&f->test->ram, method, &error);
    if (!f->tracker) {
        g_test_skip(error->message);
        return;
    }
    f->guard = load_guard_new(&f->test->ram, f->tracker, &error);
    g_assert_no_error(error);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    load_guard_free(f->guard);
    dirty_tracker_free(f->tracker);
    page_set_free(f->pages);
    test_ram_free(f->test);
}

static void write_page(Fixture *f, guint page, guint8 byte)
{
    memset(f->test->guest + (gsize)page * VM_PAGE_SIZE, byte, VM_PAGE_SIZE);
}

static guint8 byte_of(const Fixture *f, guint page)
{
    return f->test->ram.base[(gsize)page * VM_PAGE_SIZE];
}

static void assert_pages(const Fixture *f, guint count, const guint *pages)
{
    g_assert_cmpuint(page_set_count(f->pages), ==, count);
    for (guint i = 0; i < count; i++)
        g_assert_true(page_set_contains(f->pages, pages[i]));
}

static void test_loads(Fixture *f, gconstpointer data)
{
    (void)data;
    if (!f->guard)
        return;
    write_page(f, 1, 0x11);
    write_page(f, 9, 0x99);
    carry_out(f, load_guard_before);
    assert_pages(f, 0, NULL);
    /* The first load: what it writes to is new, and stays as it is. */
    write_page(f, 9, 0xee);
    carry_out(f, load_guard_after);
    assert_pages(f, 1, (const guint[]){9});
    g_assert_cmpuint(byte_of(f, 9), ==, 0xee);
    /* The VM runs; the checkpoint carries what it has written, and the load. */
    write_page(f, 20, 0x20);
    carry_out(f, load_guard_written);
    assert_pages(f, 2, (const guint[]){9, 20});
    carry_out(f, load_guard_written);
    assert_pages(f, 0, NULL);
    /* The checkpoint, through colod's own mapping. */
    memset(f->test->ram.base + (gsize)9 * VM_PAGE_SIZE, 0x9a, VM_PAGE_SIZE);
    carry_out(f, load_guard_before);
    write_page(f, 9, 0xee);
    write_page(f, 30, 0xee);
    carry_out(f, load_guard_after);
    assert_pages(f, 1, (const guint[]){30});
    g_assert_cmpuint(byte_of(f, 9), ==, 0x9a);
    g_assert_cmpuint(byte_of(f, 1), ==, 0x11);
    /* What was put back is not what the VM has written. */
    carry_out(f, load_guard_written);
    assert_pages(f, 1, (const guint[]){30});
    load_guard_reset(f->guard);
    g_assert_cmpuint(page_set_count(load_guard_known(f->guard)), ==, 0);
}

/* A load that writes to a known page or to another one. Returns how many looks came before it. */
static guint64 load(Fixture *f, gboolean known, gboolean other)
{
    guint64 looks = load_guard_looks(f->guard);
    carry_out(f, load_guard_before);
    looks = load_guard_looks(f->guard) - looks;
    if (known)
        write_page(f, 9, 0xee);
    if (other)
        write_page(f, 30, ++f->salt);
    carry_out(f, load_guard_after);
    return looks;
}

/* A session in which page 9 is known: its VM has run, and is paused for a checkpoint. */
static void begin_session(Fixture *f)
{
    load_guard_reset(f->guard);
    write_page(f, 9, 0x99);
    write_page(f, 12, 0x12);
    load(f, TRUE, FALSE);
    assert_pages(f, 1, (const guint[]){9});
    carry_out(f, load_guard_written);
    write_page(f, 9, 0x98); /* the VM runs */
    write_page(f, 40, ++f->salt);
    carry_out(f, load_guard_written);
    assert_pages(f, 2, (const guint[]){9, 40});
}

/* All RAM is looked at once for a VM that has run and once for the load, and the first time. */
static void test_looks(Fixture *f, gconstpointer data)
{
    if (!f->guard)
        return;
    gboolean sees_ours = !strcmp(data, "compare");
    for (int session = 0; session < 2; session++) {
        load_guard_reset(f->guard);
        write_page(f, 9, 0x91);
        write_page(f, 13, 0x13);
        g_assert_cmpuint(load(f, TRUE, FALSE), ==, 1);
        assert_pages(f, 1, (const guint[]){9});
        for (int i = 0; i < 3; i++) {
            g_assert_cmpuint(load(f, TRUE, FALSE), ==, sees_ours ? 1 : 0);
            assert_pages(f, 0, NULL);
        }
        begin_session(f);
        /* The checkpoint, through colod's own mapping. */
        memset(f->test->ram.base + (gsize)9 * VM_PAGE_SIZE, 0x9a, VM_PAGE_SIZE);
        memset(f->test->ram.base + (gsize)50 * VM_PAGE_SIZE, 0x50, VM_PAGE_SIZE);
        g_assert_cmpuint(load(f, TRUE, FALSE), ==, sees_ours ? 1 : 0);
        assert_pages(f, 0, NULL);
        g_assert_cmpuint(byte_of(f, 9), ==, 0x9a);
    }
}

/* Somebody has the VM run between the looks, and stops it: no write is missed, and RAM that isn't
 * the checkpoint's is not called that. */
static void test_strays(Fixture *f, gconstpointer data)
{
    (void)data;
    if (!f->guard)
        return;
    for (guint which = 0; which < 8; which++) {
        gboolean known = which & 1, other = which & 2, loads = which & 4;
        begin_session(f);
        if (known)
            write_page(f, 9, 0x77);
        if (other)
            write_page(f, 12, 0x77);
        load(f, loads, loads);
        const guint all[] = {9, 12, 30};
        guint count = 0, pages[3];
        const gboolean wrong[] = {known, other, loads};
        for (guint i = 0; i < 3; i++)
            if (wrong[i])
                pages[count++] = all[i];
        assert_pages(f, count, pages);
        carry_out(f, load_guard_written);
        assert_pages(f, count, pages);
        /* The checkpoint has carried them: loads are exact again. */
        for (guint i = 0; i < 3; i++)
            memset(f->test->ram.base + (gsize)all[i] * VM_PAGE_SIZE, 0x55, VM_PAGE_SIZE);
        load(f, TRUE, loads);
        assert_pages(f, 0, NULL);
        g_assert_cmpuint(byte_of(f, 9), ==, 0x55);
        g_assert_cmpuint(byte_of(f, 12), ==, 0x55);
    }
}

/* A checkpoint gives memory back to the host: the VM has not written it. */
static void test_gave_back(Fixture *f, gconstpointer data)
{
    (void)data;
    if (!f->guard)
        return;
    for (guint round = 0; round < 2; round++) {
        begin_session(f);
        for (guint page = 100; page < PAGES; page++)
            write_page(f, page, 0x66);
        carry_out(f, load_guard_written);
        ram_zero(&f->test->ram, 100, round ? PAGES - 200 : 100);
        load(f, TRUE, TRUE);
        assert_pages(f, 1, (const guint[]){30});
        carry_out(f, load_guard_written);
        assert_pages(f, 1, (const guint[]){30});
    }
}

/* No load comes after it that a checkpoint could put right: all that it writes is put back. */
static void test_last(Fixture *f, gconstpointer data)
{
    (void)data;
    if (!f->guard)
        return;
    if (!load_guard_is_exact(&f->test->ram, NULL)) {
        g_test_skip("no userfaultfd");
        return;
    }
    for (int i = 0; i < 3; i++) {
        write_page(f, 1, 0x11);
        write_page(f, 9, 0x99);
        carry_out(f, load_guard_before_last);
        write_page(f, 1, 0xee);
        write_page(f, 9, 0xee);
        write_page(f, 9, 0xef);
        write_page(f, 200, 0xee); /* a hole */
        f->test->guest[(gsize)201 * VM_PAGE_SIZE + 4095] = 1;
        f->test->guest[(gsize)202 * VM_PAGE_SIZE] = 1;
        carry_out(f, load_guard_after);
        assert_pages(f, 0, NULL);
        g_assert_cmpuint(byte_of(f, 1), ==, 0x11);
        g_assert_cmpuint(byte_of(f, 9), ==, 0x99);
        g_assert_cmpuint(byte_of(f, 200), ==, 0);
        g_assert_cmpuint(f->test->ram.base[(gsize)201 * VM_PAGE_SIZE + 4095], ==, 0);
        g_assert_cmpuint(byte_of(f, 202), ==, 0);
        /* Writes are tracked after it as before it. */
        carry_out(f, load_guard_written);
        write_page(f, 77, (guint8)(0x77 + i));
        carry_out(f, load_guard_written);
        assert_pages(f, 1, (const guint[]){77});
    }
}

/* Without a userfaultfd for it, or with one that doesn't work: known pages are put back, and others
 * are told. */
static void test_last_inexact(Fixture *f, gconstpointer data)
{
    (void)data;
    if (!f->guard)
        return;
    int sync = f->test->ram.uffd_sync;
    COLO_AUTO_FD none = eventfd(0, EFD_CLOEXEC);
    const int fds[] = {-1, none};
    for (guint i = 0; i < G_N_ELEMENTS(fds); i++) {
        g_autoptr(GError) error = NULL;
        f->test->ram.uffd_sync = fds[i];
        g_assert_false(load_guard_is_exact(&f->test->ram, &error));
        g_assert_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_TRACKING);
        g_assert_nonnull(strstr(error->message, i ? "Linux 5.19" : "CAP_SYS_PTRACE"));
        begin_session(f);
        carry_out(f, load_guard_before_last);
        write_page(f, 9, 0xee);
        write_page(f, 30, ++f->salt);
        carry_out(f, load_guard_after);
        assert_pages(f, 1, (const guint[]){30});
        g_assert_cmpuint(byte_of(f, 9), ==, 0x98);
        carry_out(f, load_guard_written);
        assert_pages(f, 1, (const guint[]){30});
    }
    f->test->ram.uffd_sync = sync;
}

/* Which thread reads a page of RAM first; it gets zeroes. */
typedef struct {
    int uffd;
    gint tid; /* atomic */
} Watch;

static gpointer watch_thread(gpointer data)
{
    Watch *watch = data;
    struct uffd_msg fault;
    if (read(watch->uffd, &fault, sizeof(fault)) != (ssize_t)sizeof(fault))
        return NULL;
    g_atomic_int_set(&watch->tid, (gint)fault.arg.pagefault.feat.ptid);
    struct uffdio_zeropage zero = {
        .range = {.start = fault.arg.pagefault.address & ~(guint64)(VM_PAGE_SIZE - 1),
                  .len = VM_PAGE_SIZE}
    };
    g_assert_cmpint(ioctl(watch->uffd, UFFDIO_ZEROPAGE, &zero), ==, 0);
    return NULL;
}

static gboolean watch_page(Watch *watch, guint8 *page)
{
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_THREAD_ID};
    *watch = (Watch){.uffd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY)};
    if (watch->uffd < 0 || ioctl(watch->uffd, UFFDIO_API, &api) < 0)
        return FALSE;
    void *mapped = mmap(page, VM_PAGE_SIZE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    g_assert_true(mapped == page);
    struct uffdio_register range = {
        .range = {.start = (guint64)(guintptr)page, .len = VM_PAGE_SIZE},
        .mode = UFFDIO_REGISTER_MODE_MISSING
    };
    g_assert_cmpint(ioctl(watch->uffd, UFFDIO_REGISTER, &range), ==, 0);
    return TRUE;
}

/* All of RAM is read by a thread of the guard's own. */
static void test_off_the_main_loop(Fixture *f, gconstpointer data)
{
    Watch watch;
    (void)data;
    write_page(f, 100, 0x55); /* else it is a hole, which nobody reads */
    if (!watch_page(&watch, f->test->ram.base + (gsize)100 * VM_PAGE_SIZE)) {
        g_test_skip("no userfaultfd here");
        return;
    }
    GThread *thread = g_thread_new("watch", watch_thread, &watch);
    carry_out(f, load_guard_written);
    g_thread_join(thread);
    g_assert_cmpint(watch.tid, !=, 0);
    g_assert_cmpint(watch.tid, !=, (gint)gettid());
    close(watch.uffd);
}

/* The VM is killed while an order is under way: nobody is told, and nothing is used after. */
static void test_freed(Fixture *f, gconstpointer data)
{
    (void)data;
    if (!f->guard)
        return;
    for (int i = 0; i < 100; i++) {
        g_autoptr(GError) error = NULL;
        f->done = FALSE;
        (i % 2 ? load_guard_before : load_guard_before_last)(f->guard, on_done, f);
        for (int turns = g_test_rand_int_range(0, 3); turns > 0 && !f->done; turns--)
            g_main_context_iteration(NULL, FALSE);
        gboolean done = f->done;
        g_clear_pointer(&f->guard, load_guard_free);
        while (g_main_context_iteration(NULL, FALSE))
            ;
        g_assert_cmpint(f->done, ==, done);
        DirtyMethod method = dirty_tracker_method(f->tracker);
        dirty_tracker_free(f->tracker);
        f->tracker = dirty_tracker_new(&f->test->ram, method, &error);
        g_assert_no_error(error);
        f->guard = load_guard_new(&f->test->ram, f->tracker, &error);
        g_assert_no_error(error);
    }
}

int main(int argc, char **argv)
{
    static const char *const methods[] = {"uffd", "compare"};
    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(methods); i++) {
        g_autofree char *loads = g_strdup_printf("/load-guard/%s/loads", methods[i]);
        g_autofree char *freed = g_strdup_printf("/load-guard/%s/freed", methods[i]);
        g_test_add(loads, Fixture, methods[i], set_up, test_loads, tear_down);
        g_autofree char *looks = g_strdup_printf("/load-guard/%s/looks", methods[i]);
        g_test_add(looks, Fixture, methods[i], set_up, test_looks, tear_down);
        g_autofree char *gave_back = g_strdup_printf("/load-guard/%s/gave-back", methods[i]);
        g_test_add(gave_back, Fixture, methods[i], set_up, test_gave_back, tear_down);
        g_autofree char *last = g_strdup_printf("/load-guard/%s/last", methods[i]);
        g_test_add(last, Fixture, methods[i], set_up, test_last, tear_down);
        g_autofree char *inexact = g_strdup_printf("/load-guard/%s/last-inexact", methods[i]);
        g_test_add(inexact, Fixture, methods[i], set_up, test_last_inexact, tear_down);
        g_test_add(freed, Fixture, methods[i], set_up, test_freed, tear_down);
    }
    g_test_add("/load-guard/compare/off-the-main-loop", Fixture, "compare", set_up,
               test_off_the_main_loop, tear_down);
    g_test_add("/load-guard/uffd/strays", Fixture, "uffd", set_up, test_strays, tear_down);
    return g_test_run();
}
