/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sets of pages against a simple model, and dirty tracking: no write is ever lost, whichever
 * method, with several threads of another process writing all the time, and one of our own.
 */
#include <glib.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkpoint/checkpoint_internal.h"
#include "checkpoint/dirty_internal.h"
#include "common/fd.h"
#include "tests/support/test-ram.h"

#define PAGES   2048u
#define WRITERS 3u /* of the guest; there is one more, ours */
#define ROUNDS  200u

/* ---- Sets of pages ---- */

static void check_set(const PageSet *set, const gboolean *model, guint64 pages)
{
    guint64 count = 0, at = 0, first, n;
    for (guint64 i = 0; i < pages; i++) {
        g_assert_cmpint(page_set_contains(set, i), ==, model[i]);
        count += model[i] ? 1 : 0;
    }
    g_assert_cmpuint(page_set_count(set), ==, count);
    for (guint64 from = 0; page_set_next_run(set, from, &first, &n); from = first + n) {
        g_assert_cmpuint(n, >, 0);
        for (; at < first; at++)
            g_assert_false(model[at]);
        for (; at < first + n; at++)
            g_assert_true(model[at]);
        g_assert_true(at == pages || !model[at]);
    }
    for (; at < pages; at++)
        g_assert_false(model[at]);
}

static void test_set(gconstpointer data)
{
    guint64 pages = GPOINTER_TO_UINT(data);
    g_autoptr(PageSet) set = page_set_new(pages);
    g_autoptr(PageSet) other = page_set_new(pages);
    g_autofree gboolean *model = g_new0(gboolean, pages);
    g_autofree gboolean *other_model = g_new0(gboolean, pages);
    for (int i = 0; i < 300; i++) {
        guint64 first = (guint64)g_test_rand_int_range(0, (gint32)pages);
        guint64 count = (guint64)g_test_rand_int_range(0, (gint32)(pages - first) + 1);
        gboolean add = g_test_rand_bit();
        gboolean *which = i % 3 ? model : other_model;
        if (add)
            page_set_add_run(i % 3 ? set : other, first, count);
        else
            page_set_remove_run(i % 3 ? set : other, first, count);
        for (guint64 p = first; p < first + count; p++)
            which[p] = add;
        guint64 both = 0;
        for (guint64 p = 0; p < pages; p++)
            both += model[p] || other_model[p] ? 1 : 0;
        g_assert_cmpuint(page_set_count_union(set, other), ==, both);
        if (i % 50 == 20) {
            page_set_add_set(set, other);
            for (guint64 p = 0; p < pages; p++)
                model[p] |= other_model[p];
        } else if (i % 50 == 40) {
            page_set_remove_set(set, other);
            for (guint64 p = 0; p < pages; p++)
                model[p] &= !other_model[p];
        }
        check_set(set, model, pages);
    }
    page_set_clear(set);
    guint64 first, count;
    g_assert_false(page_set_next_run(set, 0, &first, &count));
    g_assert_false(page_set_contains(set, pages));
    g_assert_false(page_set_contains(set, G_MAXUINT64));
}

/* ---- A guest in another process ---- */

typedef struct {
    int pause, quit, paused; /* atomics, shared with the child */
} Control;

typedef struct {
    Control *control;
    guint8 *guest;
    RamLog *log; /* NULL: the guest's */
    unsigned seed;
} Writer;

static void *writer_run(void *data)
{
    Writer *w = data;
    Control *control = w->control;
    while (!__atomic_load_n(&control->quit, __ATOMIC_SEQ_CST)) {
        if (__atomic_load_n(&control->pause, __ATOMIC_SEQ_CST)) {
            __atomic_add_fetch(&control->paused, 1, __ATOMIC_SEQ_CST);
            while (__atomic_load_n(&control->pause, __ATOMIC_SEQ_CST))
                sched_yield();
            __atomic_sub_fetch(&control->paused, 1, __ATOMIC_SEQ_CST);
        }
        for (int i = 0; i < 50; i++) {
            /* Each writer has its own counter in every page; few pages are written often. */
            unsigned page = (unsigned)rand_r(&w->seed) % (i % 2 ? PAGES : 16);
            volatile guint64 *counter =
                (volatile guint64 *)(w->guest + page * VM_PAGE_SIZE) + w->seed % 3 * 100;
            /* Half of them go forth and back, to be caught by a method that compares. */
            *counter = i % 4 ? *counter + 1 : *counter ^ 1;
            if (w->log)
                ram_log_mark(w->log, (guint64)((const guint8 *)counter - w->guest), 8);
        }
    }
    return NULL;
}

G_NORETURN static void child_main(Control *control, guint8 *guest, int sock)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int uffd = test_userfaultfd();
    char has = uffd >= 0;
    if (write(sock, &has, 1) != 1 || (has && !colo_fd_send(sock, uffd, NULL)))
        _exit(1);
    Writer writers[WRITERS];
    pthread_t threads[WRITERS];
    for (unsigned i = 0; i < WRITERS; i++) {
        writers[i] = (Writer){.control = control, .guest = guest, .seed = i + 1};
        pthread_create(&threads[i], NULL, writer_run, &writers[i]);
    }
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(threads[i], NULL);
    _exit(0);
}

typedef struct {
    TestRam *test;
    VmRam ram; /* as the child has it */
    Control *control;
    pid_t pid;
    Writer ours; /* writes through our own mapping */
    pthread_t thread;
} Child;

static Child *child_new(void)
{
    Child *child = g_new0(Child, 1);
    child->test = test_ram_new(PAGES);
    child->control =
        mmap(NULL, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    g_assert_true(child->control != MAP_FAILED);
    child->control->pause = 1;
    int socks[2];
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks), ==, 0);
    child->pid = fork();
    g_assert_cmpint(child->pid, >=, 0);
    if (child->pid == 0)
        child_main(child->control, child->test->guest, socks[1]);
    close(socks[1]);
    child->ram = child->test->ram;
    child->ram.pid = child->pid;
    char has;
    g_assert_true(colo_fd_read_all(socks[0], &has, 1, NULL));
    child->ram.uffd = has ? colo_fd_receive(socks[0], NULL) : -1;
    child->ram.no_uffd = has ? NULL : "the child has no userfaultfd";
    close(socks[0]);
    child->ram.log = ram_log_new(PAGES * VM_PAGE_SIZE);
    child->ours = (Writer){
        .control = child->control, .guest = child->ram.base, .log = child->ram.log, .seed = 9};
    pthread_create(&child->thread, NULL, writer_run, &child->ours);
    return child;
}

static void child_free(Child *child)
{
    __atomic_store_n(&child->control->quit, 1, __ATOMIC_SEQ_CST);
    __atomic_store_n(&child->control->pause, 0, __ATOMIC_SEQ_CST);
    int status;
    g_assert_cmpint(waitpid(child->pid, &status, 0), ==, child->pid);
    g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    pthread_join(child->thread, NULL);
    ram_log_free(child->ram.log);
    munmap(child->control, sizeof(Control));
    if (child->ram.uffd >= 0)
        close(child->ram.uffd);
    test_ram_free(child->test);
    g_free(child);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Child, child_free)

static void child_pause(Child *child)
{
    __atomic_store_n(&child->control->pause, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&child->control->paused, __ATOMIC_SEQ_CST) != (int)WRITERS + 1)
        sched_yield();
}

/* Returns when all writers are on their way, so that each writes something before the next pause.
 */
static void child_resume(Child *child)
{
    __atomic_store_n(&child->control->pause, 0, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&child->control->paused, __ATOMIC_SEQ_CST) != 0)
        sched_yield();
}

/* ---- Tracking ---- */

static DirtyTracker *tracker_or_skip(const VmRam *ram, DirtyMethod method)
{
    g_autoptr(GError) error = NULL;
    DirtyTracker *tracker = dirty_tracker_new(ram, method, &error);
    if (!tracker)
        g_test_skip(error->message);
    else
        g_assert_cmpint(dirty_tracker_method(tracker), ==, method);
    return tracker;
}

static void harvest(DirtyTracker *tracker, PageSet *pages)
{
    g_autoptr(GError) error = NULL;
    gboolean ok = dirty_tracker_harvest(tracker, pages, &error);
    g_assert_no_error(error);
    g_assert_true(ok);
}

/* Copies what is in `pages` and empties it. */
static void copy_dirty(const Child *child, DirtyTracker *tracker, PageSet *pages, guint8 *copy)
{
    guint64 first, count;
    for (guint64 at = 0; page_set_next_run(pages, at, &first, &count); at = first + count)
        for (guint64 page = first; page < first + count; page++) {
            guint8 *to = copy + page * VM_PAGE_SIZE;
            memcpy(to, child->ram.base + page * VM_PAGE_SIZE, VM_PAGE_SIZE);
            dirty_tracker_copied(tracker, page, to);
        }
    page_set_clear(pages);
}

/*
 * Harvests and copies while three threads write, and now and then with them paused: then, what was
 * copied is what is there, in every byte.
 */
static void test_no_write_lost(gconstpointer data)
{
    g_auto(GStrv) words = g_strsplit(data, "/", -1);
    DirtyMethod method;
    g_assert_true(dirty_method_parse(words[0], &method));
    g_autoptr(Child) child = child_new();
    child->ram.by_kvm = words[1] != NULL;
    g_autoptr(DirtyTracker) tracker = tracker_or_skip(&child->ram, method);
    if (!tracker)
        return;
    g_autoptr(PageSet) pages = page_set_new(PAGES);
    g_autofree guint8 *copy = g_malloc0(PAGES * VM_PAGE_SIZE);
    guint64 reported = 0;
    child_pause(child);
    child_resume(child);
    for (guint i = 0; i < ROUNDS; i++) {
        harvest(tracker, pages);
        reported += page_set_count(pages);
        copy_dirty(child, tracker, pages, copy);
        if (i % 10 != 9)
            continue;
        child_pause(child);
        g_autoptr(PageSet) peeked = page_set_new(PAGES);
        g_assert_true(dirty_tracker_peek(tracker, peeked, NULL));
        harvest(tracker, pages);
        reported += page_set_count(pages);
        page_set_remove_set(peeked, pages);
        g_assert_cmpuint(page_set_count(peeked), ==, 0);
        copy_dirty(child, tracker, pages, copy);
        g_assert_cmpmem(copy, PAGES * VM_PAGE_SIZE, child->ram.base, PAGES * VM_PAGE_SIZE);
        /* A paused guest dirties nothing. (Soft-dirty can't tell that of pages it can't see.) */
        harvest(tracker, pages);
        if (method != DIRTY_METHOD_SOFT_DIRTY)
            g_assert_cmpuint(page_set_count(pages), ==, 0);
        page_set_clear(pages);
        child_resume(child);
    }
    g_assert_cmpuint(reported, >=, ROUNDS / 10);
}

/* What exactly is reported, with a guest in this process. */
static void test_uffd_exact(gconstpointer by_kvm)
{
    g_autoptr(TestRam) test = test_ram_new(PAGES);
    test->ram.by_kvm = GPOINTER_TO_INT(by_kvm);
    g_autoptr(PageSet) pages = page_set_new(PAGES);
    /* A userfaultfd's features can be set only once: the second tracker has to cope. */
    for (int life = 0; life < 3; life++) {
        g_autoptr(DirtyTracker) tracker = tracker_or_skip(&test->ram, DIRTY_METHOD_UFFD);
        if (!tracker)
            return;
        harvest(tracker, pages);
        page_set_clear(pages);
        test->guest[100 * VM_PAGE_SIZE] = 1;
        memset(test->guest + 200 * VM_PAGE_SIZE, 2, 3 * VM_PAGE_SIZE);
        test->guest[(PAGES - 1) * VM_PAGE_SIZE] = 3;
        (void)*(volatile guint8 *)(test->guest + 300 * VM_PAGE_SIZE); /* reading is not writing */
        /* Written, then given back to the host. */
        test->guest[400 * VM_PAGE_SIZE] = 4;
        g_assert_cmpint(madvise(test->guest + 400 * VM_PAGE_SIZE, VM_PAGE_SIZE, MADV_REMOVE), ==,
                        0);
        harvest(tracker, pages);
        g_assert_cmpuint(page_set_count(pages), ==, 6);
        g_assert_true(page_set_contains(pages, 100));
        g_assert_true(page_set_contains(pages, 202));
        g_assert_true(page_set_contains(pages, 400));
        g_assert_true(page_set_contains(pages, PAGES - 1));
        page_set_clear(pages);
        harvest(tracker, pages);
        g_assert_cmpuint(page_set_count(pages), ==, 0);
    }
}

/* More runs than one call of the kernel reports. */
static void test_uffd_many_runs(void)
{
    guint64 many = 40000;
    g_autoptr(TestRam) test = test_ram_new(many);
    g_autoptr(DirtyTracker) tracker = tracker_or_skip(&test->ram, DIRTY_METHOD_UFFD);
    if (!tracker)
        return;
    g_autoptr(PageSet) pages = page_set_new(many);
    for (guint64 page = 0; page < many; page += 2)
        test->guest[page * VM_PAGE_SIZE] = 1;
    harvest(tracker, pages);
    g_assert_cmpuint(page_set_count(pages), ==, many / 2);
    page_set_clear(pages);
    harvest(tracker, pages);
    g_assert_cmpuint(page_set_count(pages), ==, 0);
}

/* Runs with gaps of every size: those that are joined and those that are not are reported alike. */
static void test_uffd_gaps(void)
{
    guint64 many = 100000;
    g_autoptr(TestRam) test = test_ram_new(many);
    test->ram.by_kvm = TRUE;
    g_autoptr(DirtyTracker) tracker = tracker_or_skip(&test->ram, DIRTY_METHOD_UFFD);
    if (!tracker)
        return;
    g_autoptr(PageSet) pages = page_set_new(many);
    for (int round = 0; round < 20; round++) {
        g_autoptr(PageSet) written = page_set_new(many);
        harvest(tracker, pages);
        page_set_clear(pages);
        int most = 1 << g_random_int_range(1, 12);
        for (guint64 page = 0; page < many; page += (guint64)g_random_int_range(1, most + 1)) {
            test->guest[page * VM_PAGE_SIZE] ^= 1;
            page_set_add_run(written, page, 1);
        }
        harvest(tracker, pages);
        g_assert_cmpuint(page_set_count(pages), ==, page_set_count(written));
        page_set_remove_set(written, pages);
        g_assert_cmpuint(page_set_count(written), ==, 0);
    }
}

/* As many gaps as the calls allow are left out, the largest first. */
static void test_join_below(void)
{
    guint32 gaps[DIRTY_GAP_CLASSES] = {0};
    g_assert_cmpuint(dirty_join_below(gaps, 1), ==, 1 << DIRTY_GAP_ALWAYS_JOINED);
    gaps[2] = 5; /* of 2 or 3 pages */
    gaps[4] = 3; /* of 8 to 15 */
    gaps[9] = 2; /* of 256 to 511 */
    g_assert_cmpuint(dirty_join_below(gaps, 100), ==, 8);
    g_assert_cmpuint(dirty_join_below(gaps, 6), ==, 8);
    g_assert_cmpuint(dirty_join_below(gaps, 5), ==, 16);
    g_assert_cmpuint(dirty_join_below(gaps, 3), ==, 16);
    g_assert_cmpuint(dirty_join_below(gaps, 2), ==, 512);
    gaps[DIRTY_GAP_CLASSES - 1] = 1;
    g_assert_cmpuint(dirty_join_below(gaps, 1), ==, G_GUINT64_CONSTANT(1) << 31);
}

/* The process is gone, or its mapping: an error, not silence. */
static void test_uffd_mapping_lost(void)
{
    g_autoptr(TestRam) test = test_ram_new(PAGES);
    g_autoptr(DirtyTracker) tracker = tracker_or_skip(&test->ram, DIRTY_METHOD_UFFD);
    if (!tracker)
        return;
    void *again = mmap(test->guest, 16 * VM_PAGE_SIZE, PROT_READ | PROT_WRITE,
                       MAP_SHARED | MAP_FIXED, test->ram.memfd, 0);
    g_assert_true(again == test->guest);
    g_autoptr(PageSet) pages = page_set_new(PAGES);
    g_autoptr(GError) error = NULL;
    g_assert_false(dirty_tracker_harvest(tracker, pages, &error));
    g_assert_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_TRACKING);
    g_assert_nonnull(strstr(error->message, "mapping of its RAM was replaced"));
}

/* A page that is changed after the harvest, copied so, and changed back. */
static void test_compare_forth_and_back(void)
{
    g_autoptr(TestRam) test = test_ram_new(PAGES);
    g_autoptr(DirtyTracker) tracker = tracker_or_skip(&test->ram, DIRTY_METHOD_COMPARE);
    g_autoptr(PageSet) pages = page_set_new(PAGES);
    for (guint64 page = 0; page < PAGES; page++)
        dirty_tracker_copied(tracker, page, NULL);
    test->guest[0] = 1;
    harvest(tracker, pages);
    g_assert_cmpuint(page_set_count(pages), ==, 1);
    page_set_clear(pages);
    test->guest[0] = 2;
    dirty_tracker_copied(tracker, 0, test->ram.base);
    test->guest[0] = 1;
    harvest(tracker, pages);
    g_assert_true(page_set_contains(pages, 0));
    g_assert_cmpuint(page_set_count(pages), ==, 1);
}

static void test_choice(void)
{
    g_autoptr(TestRam) test = test_ram_new(PAGES);
    VmRam ram = test->ram;
    ram.uffd = -1;
    ram.no_uffd = "nobody made one";
    g_autoptr(GError) error = NULL;
    g_assert_null(dirty_tracker_new(&ram, DIRTY_METHOD_UFFD, &error));
    g_assert_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_TRACKING);
    g_assert_cmpstr(error->message, ==, "dirty pages can't be tracked: uffd: nobody made one");
    g_clear_error(&error);
    /* In one's own process there is no soft-dirty: AUTO takes the last, and tells why. */
    g_autoptr(DirtyTracker) tracker = dirty_tracker_new(&ram, DIRTY_METHOD_AUTO, &error);
    g_assert_no_error(error);
    g_assert_cmpint(dirty_tracker_method(tracker), ==, DIRTY_METHOD_COMPARE);
    const char *why = dirty_tracker_passed_over(tracker);
    g_assert_nonnull(strstr(why, "uffd: nobody made one; soft-dirty: "));
    static const DirtyMethod all[] = {DIRTY_METHOD_AUTO, DIRTY_METHOD_UFFD, DIRTY_METHOD_SOFT_DIRTY,
                                      DIRTY_METHOD_COMPARE};
    static const char *const names[] = {"auto", "uffd", "soft-dirty", "compare"};
    for (gsize i = 0; i < G_N_ELEMENTS(all); i++) {
        DirtyMethod parsed;
        g_assert_cmpstr(dirty_method_name(all[i]), ==, names[i]);
        g_assert_true(dirty_method_parse(names[i], &parsed));
        g_assert_cmpint(parsed, ==, all[i]);
    }
    DirtyMethod untouched = DIRTY_METHOD_COMPARE;
    g_assert_false(dirty_method_parse("softdirty", &untouched));
    g_assert_cmpint(untouched, ==, DIRTY_METHOD_COMPARE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    static const guint sizes[] = {1, 63, 64, 65, 1000};
    for (gsize i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree char *name = g_strdup_printf("/dirty/set/%u", sizes[i]);
        g_test_add_data_func(name, GUINT_TO_POINTER(sizes[i]), test_set);
    }
    static const char *const methods[] = {"uffd", "uffd/kvm", "soft-dirty", "compare"};
    for (gsize i = 0; i < G_N_ELEMENTS(methods); i++) {
        g_autofree char *name = g_strdup_printf("/dirty/no-write-lost/%s", methods[i]);
        g_test_add_data_func(name, methods[i], test_no_write_lost);
    }
    g_test_add_data_func("/dirty/uffd/exact", GINT_TO_POINTER(FALSE), test_uffd_exact);
    g_test_add_data_func("/dirty/uffd/exact-kvm", GINT_TO_POINTER(TRUE), test_uffd_exact);
    g_test_add_func("/dirty/uffd/many-runs", test_uffd_many_runs);
    g_test_add_func("/dirty/uffd/gaps", test_uffd_gaps);
    g_test_add_func("/dirty/uffd/join-below", test_join_below);
    g_test_add_func("/dirty/uffd/mapping-lost", test_uffd_mapping_lost);
    g_test_add_func("/dirty/compare/forth-and-back", test_compare_forth_and_back);
    g_test_add_func("/dirty/choice", test_choice);
    return g_test_run();
}
