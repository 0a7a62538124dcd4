/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pages that colod has written: which, and with a reader at the same time. */
#include <glib.h>
#include <string.h>

#include "vm/ram-log.h"
#include "vm/vm.h"

#define PAGES 200u

static void collect(guint64 first, guint64 pages, gpointer user_data)
{
    gboolean *marked = user_data;
    g_assert_cmpuint(first % 64, ==, 0);
    for (guint bit = 0; bit < 64; bit++)
        if (pages >> bit & 1) {
            g_assert_cmpuint(first + bit, <, PAGES);
            marked[first + bit] = TRUE;
        }
}

static void assert_run(const gboolean *marked, guint64 first, guint64 count)
{
    for (guint64 page = 0; page < PAGES; page++)
        g_assert_cmpint(marked[page], ==, page >= first && page < first + count);
}

static void test_runs(void)
{
    g_autoptr(RamLog) log = ram_log_new(PAGES * VM_PAGE_SIZE);
    for (guint64 first = 0; first < PAGES; first++)
        for (guint64 count = 0; count <= PAGES - first; count += 1 + count / 3) {
            gboolean looked[PAGES] = {0}, taken[PAGES] = {0}, again[PAGES] = {0};
            guint64 offset = first * VM_PAGE_SIZE + first % 2 * 4095;
            guint64 end = (first + count) * VM_PAGE_SIZE - count % 3 * 2047;
            ram_log_mark(log, offset, count ? end - offset : 0);
            ram_log_look(log, 0, PAGES, collect, looked);
            assert_run(looked, first, count);
            ram_log_take(log, collect, taken);
            assert_run(taken, first, count);
            ram_log_take(log, collect, again);
            assert_run(again, 0, 0);
        }
}

static void test_look_at_part(void)
{
    g_autoptr(RamLog) log = ram_log_new(PAGES * VM_PAGE_SIZE);
    ram_log_mark(log, 0, PAGES * VM_PAGE_SIZE);
    for (guint64 first = 0; first < PAGES; first += 7)
        for (guint64 count = 0; count <= PAGES - first; count += 13) {
            gboolean looked[PAGES] = {0};
            ram_log_look(log, first, count, collect, looked);
            assert_run(looked, first, count);
        }
}

#define ROUNDS 300000u

typedef struct {
    RamLog *log;
    guint32 ram[PAGES], copy[PAGES]; /* one word stands for a page */
    gint over;
} Race;

static void copy_marked(guint64 first, guint64 pages, gpointer user_data)
{
    Race *race = user_data;
    for (guint bit = 0; bit < 64; bit++)
        if (pages >> bit & 1)
            race->copy[first + bit] = __atomic_load_n(&race->ram[first + bit], __ATOMIC_RELAXED);
}

static gpointer writer(gpointer data)
{
    Race *race = data;
    for (guint32 n = 1; n <= ROUNDS; n++) {
        guint page = n * 2654435761u >> 16;
        page %= PAGES;
        __atomic_store_n(&race->ram[page], n, __ATOMIC_RELAXED);
        ram_log_mark(race->log, (guint64)page * VM_PAGE_SIZE, 1);
    }
    g_atomic_int_set(&race->over, 1);
    return NULL;
}

/* Whatever the order, the last copy has the last write. */
static void test_race(void)
{
    Race race = {.log = ram_log_new(PAGES * VM_PAGE_SIZE)};
    GThread *thread = g_thread_new("writer", writer, &race);
    while (!g_atomic_int_get(&race.over))
        ram_log_take(race.log, copy_marked, &race);
    ram_log_take(race.log, copy_marked, &race);
    g_thread_join(thread);
    g_assert_cmpmem(race.copy, sizeof(race.copy), race.ram, sizeof(race.ram));
    ram_log_free(race.log);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ram-log/runs", test_runs);
    g_test_add_func("/ram-log/look-at-part", test_look_at_part);
    g_test_add_func("/ram-log/race", test_race);
    return g_test_run();
}
