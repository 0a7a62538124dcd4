/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loads that write to pages of RAM which no load has written to before: RAM is no checkpoint's
 * then, and nobody goes on from it. (A fake VM doesn't run from RAM that is not that of its state.)
 */
#include "common/log.h"
#include "tests/support/host-pair.h"

#include <string.h>

#define MORE_WRITES (LOAD_WRITES + 2)

static gboolean is_stalled(const Fixture *f)
{
    const Node *b = f->host[1].node;
    return copy_job(b->copy) == COPY_NOTHING && !copy_is_valid(b->copy) &&
           copy_checkpoint(b->copy)->epoch == f->host[0].node->epoch;
}

/* The next load writes to new pages, and no checkpoint follows it by itself. */
static void invalidate(Fixture *f)
{
    start_quiet_pair(f);
    f->host[0].config->min_gap_ms = 3600 * 1000;
    fake_vm_set_load_writes(f->host[1].vm, MORE_WRITES);
    ask_for_checkpoint(f);
    WAIT_FOR(is_stalled(f));
}

/* The checkpoint after it puts the pages right, and later loads leave them so. */
static void test_put_right(void)
{
    Fixture f;
    invalidate(&f);
    Node *a = f.host[0].node, *b = f.host[1].node;
    guint64 before = a->epoch;
    for (guint64 i = 1; i < 4; i++) {
        ask_for_checkpoint(&f);
        WAIT_FOR(a->epoch == before + i && pair_is_settled(&f));
        g_assert_true(copy_is_valid(b->copy));
    }
    die(&f.host[0]);
    WAIT_FOR(b->state == FSM_P_NONE || f.host[1].ended);
    g_assert_false(f.host[1].ended);
    tear_down(&f);
}

/* Before that, the secondary leaves the arbiter to the primary: dead, or alive behind a cut. */
static void test_never_asks(void)
{
    for (int alive = 0; alive < 2; alive++) {
        Fixture f;
        invalidate(&f);
        Node *b = f.host[1].node;
        guint question = claim_questions(b->claim);
        if (alive)
            cut_link(&f);
        else
            die(&f.host[0]);
        WAIT_FOR(f.host[1].ended || !fsm_is_protected(b->state));
        WAIT_FOR(f.host[1].ended || b->state == FSM_S_NONE || b->state == FSM_S_ACTIVE);
        g_assert_false(f.host[1].ended);
        g_assert_cmpuint(claim_questions(b->claim), ==, question);
        if (alive)
            protect(&f, 0);
        tear_down(&f);
    }
}

/* The link is lost while the load is under way. */
static void test_lost_in_the_load(void)
{
    for (int invalidates = 0; invalidates < 2; invalidates++) {
        Fixture f;
        start_quiet_pair(&f);
        Host *a = &f.host[0], *b = &f.host[1];
        fake_vm_inject(b->vm, FAKE_VM_LOAD, FAKE_VM_HOLD, 1);
        fake_vm_set_load_writes(b->vm, invalidates ? MORE_WRITES : LOAD_WRITES);
        ask_for_checkpoint(&f);
        WAIT_FOR(fake_vm_is_held(b->vm) && primary_phase(a->node->primary) == CYCLE_IDLE);
        die(a);
        WAIT_FOR(b->node->state != FSM_S_COLO);
        guint question = claim_questions(b->node->claim);
        fake_vm_proceed(b->vm);
        WAIT_FOR(b->ended || b->node->state == (invalidates ? FSM_S_NONE : FSM_P_NONE));
        g_assert_false(b->ended);
        g_assert_cmpuint(claim_questions(b->node->claim), ==,
                         invalidates ? question : question + 1);
        tear_down(&f);
    }
}

/* The link is lost and comes back before the load has begun: it begins when somebody has decided. */
static void test_not_in_doubt(void)
{
    Fixture f;
    start_split_pair(&f);
    quieten(&f);
    Host *b = &f.host[1];
    set_storage(b, FALSE);
    ask_for_checkpoint(&f);
    WAIT_FOR(copy_job(b->node->copy) == COPY_KEEP);
    unsigned loads = fake_vm_count(b->vm, FAKE_VM_LOAD);
    node_event(b->node, FSM_LINK_DOWN);
    node_event(b->node, FSM_LINK_UP);
    g_assert_cmpint(b->node->state, ==, FSM_S_RECOVER);
    WAIT_FOR(copy_job(b->node->copy) == COPY_NOTHING);
    g_assert_cmpint(copy_condition(b->node->copy), ==, COPY_TO_LOAD);
    g_assert_cmpuint(fake_vm_count(b->vm, FAKE_VM_LOAD), ==, loads);
    tear_down(&f);
}

/* The load of a takeover is the last one: no checkpoint can put right what it writes to. */
static void test_takeover(void)
{
    /* In colo mode all loads but that of a takeover in the middle of one come before it. */
    Fixture f;
    start_pair(&f, "file");
    Host *a = &f.host[0], *b = &f.host[1];
    if (vm_ram(b->vm)->uffd_sync < 0) {
        g_test_skip("no userfaultfd here");
        tear_down(&f);
        return;
    }
    fake_vm_set_load_writes(b->vm, MORE_WRITES);
    die(a);
    WAIT_FOR(b->ended || b->node->state == FSM_P_NONE);
    g_assert_false(b->ended);
    /* And it can be protected again. */
    start(a, "secondary");
    protect(&f, 1);
    tear_down(&f);
}

/* A checkpoint that gives memory back to the host is one like any other. */
static void test_gives_back(void)
{
    Fixture f;
    start_quiet_pair(&f);
    const VmRam *ram = vm_ram(f.host[0].vm);
    const guint8 bytes[] = {0x55, 0, 0x66, 0};
    for (guint i = 0; i < G_N_ELEMENTS(bytes); i++) {
        guint64 before = f.host[0].node->epoch;
        /* As the primary's guest does it. */
        memset((guint8 *)(guintptr)ram->remote_base + GUEST_BYTES / 2, bytes[i], GUEST_BYTES / 4);
        ask_for_checkpoint(&f);
        WAIT_FOR(f.host[0].node->epoch == before + 1 && pair_is_settled(&f));
        g_assert_true(copy_is_valid(f.host[1].node->copy));
    }
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test_in("colo", "/node-loads/put-right", test_put_right);
    add_pair_test_in("colo", "/node-loads/never-asks", test_never_asks);
    add_pair_test_in("colo", "/node-loads/lost-in-the-load", test_lost_in_the_load);
    add_pair_test_in("colo", "/node-loads/gives-back", test_gives_back);
    add_pair_test_in("colo", "/node-loads/not-in-doubt", test_not_in_doubt);
    add_pair_test_in("buffered", "/node-loads/takeover", test_takeover);
    return g_test_run();
}
