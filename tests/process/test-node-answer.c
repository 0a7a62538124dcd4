/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A secondary that is there but shows no progress: the primary soon continues without it, and the
 * sick side does not compete with it. A slow one is waited for.
 */
#include "common/log.h"
#include "tests/support/host-pair.h"

#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

#define WRITES 150u

/* Whoever looks for data in this file waits; -1: nobody does. */
static gint hung_fd = -1;

/* In front of libc's. */
off_t lseek(int fd, off_t offset, int whence)
{
    off_t (*real)(int, off_t, int) = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "lseek");
    while (whence == SEEK_DATA && fd == g_atomic_int_get(&hung_fd))
        g_usleep(1000);
    return real(fd, offset, whence);
}

static void start_disk_pair(Fixture *f)
{
    set_up(f, "file");
    set_up_disks(f, 1, VM_DISK_RAW);
    for (int i = 0; i < 2; i++)
        f->host[i].config->answer_timeout_ms = 1000;
    start(&f->host[0], "primary");
    start(&f->host[1], "secondary");
    protect(f, 0);
}

static void write_blocks(Host *host, guint n)
{
    guint8 block[4096];
    memset(block, 7, sizeof(block));
    for (guint i = 0; i < n; i++)
        g_assert_cmpint(disk_write(fake_disks_find(host->disks, "vda"), block, sizeof(block),
                                   (guint64)i * sizeof(block), FALSE),
                        ==, 0);
}

static gboolean has_error(const Host *host, const char *text)
{
    const GError *error = trouble_last(host->node->trouble);
    return error && strstr(error->message, text);
}

/* Its storage hangs: the primary goes on unprotected, and says why; both say why. */
static void test_hung_storage(void)
{
    Fixture f;
    start_disk_pair(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    fake_disks_hang(b->disks, "vda.img", TRUE);
    write_blocks(a, 1);
    WAIT_FOR(a->node->state == FSM_P_PAUSED || a->node->state == FSM_P_NONE);
    g_assert_true(has_error(a, "unfit"));
    WAIT_FOR(a->node->state == FSM_P_NONE || a->node->state == FSM_P_SETUP);
    g_assert_cmpint(traffic_route(a->node->traffic), ==, ROUTE_OPEN);
    WAIT_FOR(b->node->state == FSM_S_ACTIVE);
    g_assert_true(has_error(b, "unfit"));
    g_assert_null(claim_last_answer(b->node->claim)); /* it hasn't asked */
    g_assert_cmpstr(claim_last_answer(a->node->claim), ==, "granted");
    fake_disks_hang(b->disks, "", FALSE);
    protect(&f, 0);
    tear_down(&f);
}

/* The same without an arbiter: nobody has to decide, for the sick side is there to leave it. */
static void test_hung_storage_no_arbiter(void)
{
    Fixture f;
    set_up(&f, "none");
    set_up_disks(&f, 1, VM_DISK_RAW);
    f.host[0].config->answer_timeout_ms = 500;
    start(&f.host[0], "primary");
    start(&f.host[1], "secondary");
    protect(&f, 0);
    Host *a = &f.host[0], *b = &f.host[1];
    fake_disks_hang(b->disks, "vda.img", TRUE);
    write_blocks(a, 1);
    WAIT_FOR(has_error(b, "unfit"));
    WAIT_FOR(a->node->state == FSM_P_SETUP || a->node->state == FSM_P_ACTIVE);
    WAIT_FOR(vm_is_running(a->vm));
    fake_disks_hang(b->disks, "", FALSE);
    protect(&f, 0);
    tear_down(&f);
}

/* Slow storage makes progress: it is waited for, however long it takes. */
static void test_slow_storage(void)
{
    Fixture f;
    start_disk_pair(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    const char *session = g_strdup(link_session(a->node->link));
    fake_disks_delay(b->disks, "vda.img", 20000);
    write_blocks(a, WRITES); /* three seconds of work in one checkpoint, or a few */
    guint64 last = a->node->epoch + 2;
    WAIT_FOR(judge_epoch(a->node->judge).number >= last &&
             disks_are_at(b->node->disks, epoch_some(b->node->epoch)));
    g_assert_cmpstr(link_session(a->node->link), ==, session);
    g_assert_null(trouble_last(a->node->trouble));
    g_free((char *)session);
    tear_down(&f);
}

/* The primary says so and dies: what the sick side has kept is the only copy, and it goes on. */
static void test_unfit_and_death(void)
{
    Fixture f;
    start_disk_pair(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    fake_disks_hang(b->disks, "vda.img", TRUE);
    write_blocks(a, 1);
    WAIT_FOR(a->node->state == FSM_P_PAUSED);
    die(a);
    WAIT_FOR(b->node->state == FSM_S_PAUSED);
    fake_disks_hang(b->disks, "", FALSE);
    /* Unless the primary's question got there first: then the VM is its own. */
    WAIT_FOR(b->node->state == FSM_P_NONE || claim_last_answer(b->node->claim));
    if (!g_strcmp0(claim_last_answer(b->node->claim), "granted"))
        WAIT_FOR(b->node->state == FSM_P_NONE && vm_is_running(b->vm));
    g_assert_false(b->ended);
    tear_down(&f);
}

typedef struct {
    Host *host;
    gint done;
} Writer;

/* More than may wait for the peer. */
static gpointer write_much(gpointer data)
{
    Writer *writer = data;
    g_autofree guint8 *buf = g_malloc0(DISK_BYTES);
    for (guint i = 0; i < 32; i++)
        g_assert_cmpint(
            disk_write(fake_disks_find(writer->host->disks, "vda"), buf, DISK_BYTES, 0, FALSE), ==,
            0);
    g_atomic_int_set(&writer->done, TRUE);
    return NULL;
}

/* A secondary that joins and hangs doesn't stop the guest's writes for long either. */
static void test_hung_before_protection(void)
{
    Fixture f;
    set_up(&f, "file");
    set_up_disks(&f, 1, VM_DISK_RAW);
    Host *a = &f.host[0], *b = &f.host[1];
    a->config->answer_timeout_ms = 500;
    start(a, "primary");
    WAIT_FOR(a->node->state == FSM_P_NONE);
    start(b, "secondary");
    WAIT_FOR(b->node->state == FSM_S_NONE || b->node->state == FSM_S_ACTIVE);
    fake_disks_hang(b->disks, "vda.img", TRUE);
    while (!fake_disks_is_hanging(b->disks)) { /* until the peer is sent what is written */
        write_blocks(a, 1);
        g_main_context_iteration(NULL, FALSE);
    }
    g_assert_false(fsm_is_protected(a->node->state));
    Writer writer = {.host = a};
    GThread *thread = g_thread_new("writer", write_much, &writer);
    WAIT_FOR(g_atomic_int_get(&writer.done));
    g_thread_join(thread);
    g_assert_true(has_error(a, "what the guest writes"));
    fake_disks_hang(b->disks, "", FALSE);
    protect(&f, 0);
    tear_down(&f);
}

/* A secondary that joins doesn't come to the end of telling what is in its RAM. */
static void test_hung_base(void)
{
    Fixture f;
    set_up(&f, "file");
    Host *a = &f.host[0], *b = &f.host[1];
    a->config->qemu_timeout_ms = 200;
    start(a, "primary");
    WAIT_FOR(a->node->state == FSM_P_NONE);
    start(b, "secondary");
    WAIT_FOR(b->vm && vm_ram(b->vm)->memfd >= 0);
    g_atomic_int_set(&hung_fd, vm_ram(b->vm)->memfd);
    WAIT_FOR(a->node->state == FSM_P_ACTIVE);
    WAIT_FOR(has_error(a, "what is in its memory"));
    g_atomic_int_set(&hung_fd, -1);
    protect(&f, 0);
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-answer/hung-storage", test_hung_storage);
    add_pair_test("/node-answer/hung-storage-no-arbiter", test_hung_storage_no_arbiter);
    add_pair_test("/node-answer/hung-before-protection", test_hung_before_protection);
    add_pair_test("/node-answer/hung-base", test_hung_base);
    add_pair_test("/node-answer/slow-storage", test_slow_storage);
    add_pair_test("/node-answer/unfit-and-death", test_unfit_and_death);
    return g_test_run();
}
