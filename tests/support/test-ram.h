/* SPDX-License-Identifier: GPL-2.0-or-later */
/* RAM for tests of checkpoints: a memfd that is mapped twice in this process, once as colod's view
 * (ram.base) and once as the guest's (guest, ram.remote_base), which is what a tracker watches. */
#ifndef COLO_TESTS_SUPPORT_TEST_RAM_H
#define COLO_TESTS_SUPPORT_TEST_RAM_H

#include "vm/vm.h"

typedef struct {
    VmRam ram;
    guint8 *guest;
    char *no_uffd;
} TestRam;

/* Never NULL. A kernel without userfaultfd, or no right to it, is in ram.no_uffd. */
TestRam *test_ram_new(guint64 pages);
void test_ram_free(TestRam *test);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(TestRam, test_ram_free)

/* Makes a userfaultfd in the calling process; -1 with errno. */
int test_userfaultfd(void);

#endif
