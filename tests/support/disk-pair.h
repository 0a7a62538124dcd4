/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A pair whose VMs have the disks vda and vdb, and each host its own way to the arbiter's storage. */
#ifndef COLO_TESTS_DISK_PAIR_H
#define COLO_TESTS_DISK_PAIR_H

#include "tests/support/host-pair.h"

#include <string.h>

#define DISK_RECORD_BYTES 4096u

/* Protected; alpha is the primary. */
static inline void start_disk_pair(Fixture *f, VmDiskFormat format)
{
    set_up(f, "file");
    split_storage(f);
    set_up_disks(f, 2, format);
    start(&f->host[0], "primary");
    start(&f->host[1], "secondary");
    protect(f, 0);
}

/* A record of sevens, at the disk's beginning: 0 or -errno. */
static inline int write_sevens(const Host *host, const char *disk)
{
    guint8 record[DISK_RECORD_BYTES];
    memset(record, 7, sizeof(record));
    return disk_write(fake_disks_find(host->disks, disk), record, sizeof(record), 0, FALSE);
}

static inline gboolean has_sevens(const Host *host, const char *disk)
{
    guint8 record[DISK_RECORD_BYTES];
    g_assert_cmpint(disk_read(fake_disks_find(host->disks, disk), record, sizeof(record), 0), ==,
                    0);
    return record[0] == 7 && !memcmp(record, record + 1, sizeof(record) - 1);
}

/* It runs the VM, on disks that are its own. */
static inline gboolean goes_on(const Host *host)
{
    return fsm_is_primary(host->node->state) && vm_is_running(host->vm) &&
           disks_are_active(host->node->disks);
}

/* Its last error has this. */
static inline gboolean is_told(const Host *host, const char *text)
{
    const GError *last = trouble_last(host->node->trouble);
    return last && strstr(last->message, text);
}

#endif
