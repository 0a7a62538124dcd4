/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pairs of nodes whose VMs have disks: the real engine under both, and storage that fails. */
#include "colo/log.h"
#include "tests/support/host-pair.h"

#include <errno.h>
#include <string.h>

#define RECORD_BYTES 4096u

static void start_disk_pair(Fixture *f, const char *format)
{
    set_up(f, "file");
    set_up_disks(f, 2, format);
    start(&f->host[0], "primary");
    start(&f->host[1], "secondary");
    protect(f, 0);
}

static void write_record(Host *host, const char *disk, guint number)
{
    guint8 record[RECORD_BYTES];
    memset(record, (int)number + 1, sizeof(record));
    g_assert_cmpint(disk_write(fake_disks_find(host->disks, disk), record, sizeof(record),
                               (guint64)number * sizeof(record), TRUE),
                    ==, 0);
}

static gboolean has_record(Host *host, const char *disk, guint number)
{
    guint8 record[RECORD_BYTES], expected[RECORD_BYTES];
    memset(expected, (int)number + 1, sizeof(expected));
    g_assert_cmpint(disk_read(fake_disks_find(host->disks, disk), record, sizeof(record),
                              (guint64)number * sizeof(record)),
                    ==, 0);
    return !memcmp(record, expected, sizeof(record));
}

/* Waits for a checkpoint that has all that was written until now: what a client may be told of. */
static void commit(const Fixture *f)
{
    Node *a = f->host[0].node;
    WAIT_FOR(a->cycle.phase == CYCLE_IDLE || a->cycle.phase == CYCLE_SENDING);
    guint64 after = a->epoch;
    WAIT_FOR(a->committed > after);
}

/* ---- What a takeover has ---- */

static void takeover(const char *format)
{
    Fixture f;
    start_disk_pair(&f, format);
    Host *a = &f.host[0], *b = &f.host[1];
    for (guint i = 0; i < 20; i++) {
        write_record(a, i % 2 ? "vda" : "vdb", i);
        commit(&f);
    }
    die(a);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    for (guint i = 0; i < 20; i++)
        g_assert_true(has_record(b, i % 2 ? "vda" : "vdb", i));
    start(a, "secondary");
    protect(&f, 1);
    write_record(b, "vda", 100);
    tear_down(&f);
}

static void test_takeover(void)
{
    takeover("raw");
}

static void test_takeover_cached(void)
{
    takeover("qcow2");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", "error");
    add_pair_test("/node-disks/takeover", test_takeover);
    add_pair_test("/node-disks/takeover-cached", test_takeover_cached);
    return g_test_run();
}
