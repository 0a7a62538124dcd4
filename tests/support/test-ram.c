/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/test-ram.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

int test_userfaultfd(void)
{
    return (int)syscall(SYS_userfaultfd, O_CLOEXEC);
}

static guint8 *map(int memfd, guint64 size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    g_assert(at != MAP_FAILED);
    return at;
}

TestRam *test_ram_new(guint64 pages)
{
    TestRam *test = g_new0(TestRam, 1);
    guint64 size = pages * VM_PAGE_SIZE;
    int memfd = memfd_create("test-ram", MFD_CLOEXEC);
    g_assert_cmpint(memfd, >=, 0);
    g_assert_cmpint(ftruncate(memfd, (off_t)size), ==, 0);
    test->guest = map(memfd, size);
    test->ram = (VmRam){.id = "pc.ram",
                        .base = map(memfd, size),
                        .size_bytes = size,
                        .memfd = memfd,
                        .pid = getpid(),
                        .remote_base = (guintptr)test->guest,
                        .uffd = test_userfaultfd(),
                        .uffd_sync = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK)};
    if (test->ram.uffd < 0)
        test->no_uffd = g_strdup_printf("userfaultfd: %s", g_strerror(errno));
    test->ram.no_uffd = test->no_uffd;
    return test;
}

void test_ram_free(TestRam *test)
{
    if (!test)
        return;
    munmap(test->guest, test->ram.size_bytes);
    munmap(test->ram.base, test->ram.size_bytes);
    close(test->ram.memfd);
    if (test->ram.uffd >= 0)
        close(test->ram.uffd);
    if (test->ram.uffd_sync >= 0)
        close(test->ram.uffd_sync);
    g_free(test->no_uffd);
    g_free(test);
}
