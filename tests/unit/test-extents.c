/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who looks at all of RAM asks for the end of each extent once. To answer, the kernel walks over all
 * of the extent: once for each part of it would be quadratic.
 */
#include <dlfcn.h>
#include <glib.h>
#include <string.h>
#include <unistd.h>

#include "checkpoint/base.h"
#include "tests/support/test-ram.h"

#define PAGES 100000u /* all used: one extent */

static guint seeks;

/* In front of libc's. */
off_t lseek(int fd, off_t offset, int whence)
{
    off_t (*real)(int, off_t, int) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "lseek");
    seeks += whence == SEEK_HOLE;
    return real(fd, offset, whence);
}

static TestRam *used_ram(void)
{
    TestRam *ram = test_ram_new(PAGES);
    memset(ram->guest, 1, (gsize)PAGES * VM_PAGE_SIZE);
    seeks = 0;
    return ram;
}

static gboolean count(gpointer opaque, const guint8 *bytes, gsize len, GError **error)
{
    gsize *total = opaque;
    (void)bytes;
    (void)error;
    *total += len;
    return TRUE;
}

static void test_base(void)
{
    g_autoptr(TestRam) ram = used_ram();
    gsize total = 0;
    g_assert_true(base_send(&ram->ram, 1, count, &total, NULL));
    g_assert_cmpuint(total, >, PAGES * 16);
    g_assert_cmpuint(total, <, PAGES * 16 + 1024);
    g_assert_cmpuint(seeks, ==, 1);
}

static void test_compare(void)
{
    g_autoptr(TestRam) ram = used_ram();
    g_autoptr(DirtyTracker) tracker = dirty_tracker_new(&ram->ram, DIRTY_METHOD_COMPARE, NULL);
    g_autoptr(PageSet) pages = page_set_new(PAGES);
    g_assert_true(dirty_tracker_harvest_still(tracker, pages, NULL));
    g_assert_cmpuint(page_set_count(pages), ==, PAGES);
    g_assert_cmpuint(seeks, ==, 1);
    page_set_clear(pages);
    ram->guest[5] = 2;
    ram->guest[(PAGES - 1) * (gsize)VM_PAGE_SIZE] = 2;
    g_assert_true(dirty_tracker_harvest_still(tracker, pages, NULL));
    g_assert_cmpuint(page_set_count(pages), ==, 2);
    g_assert_cmpuint(seeks, ==, 2);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/extents/base", test_base);
    g_test_add_func("/extents/compare", test_compare);
    return g_test_run();
}
