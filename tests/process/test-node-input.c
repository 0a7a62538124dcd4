/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Input for the guest while a checkpoint is on its way. The primary's guest gets it, whatever the
 * secondary waits for. Its copy gets it in the epoch that it belongs to or not at all.
 */
#include "common/log.h"
#include "tests/support/fake-uplink.h"
#include "tests/support/host-pair.h"

#define FRAME_BYTES 60

/* 16 MiB of frames without bytes, at what a frame costs besides. */
#define KEPT_FRAMES_MAX (16u * 1024 * 1024 / BACKLOG_FRAME_BYTES)

static void send_from_network(const Host *host, const guint8 *data, gsize len)
{
    fake_uplink_receive(cards_uplink(host->node->cards, 0), data, len);
}

static void start_pair_with_cards(Fixture *f)
{
    set_up(f, "file");
    add_tap(f);
    start(&f->host[0], "primary");
    start(&f->host[1], "secondary");
    protect(f, 0);
    quieten(f);
}

static void give_input(Fixture *f, guint8 number)
{
    guint8 frame[12 + FRAME_BYTES] = {[12] = number};
    send_from_network(&f->host[0], frame, sizeof(frame));
}

static guint8 number_of(GBytes *frame)
{
    guint8 number = ((const guint8 *)g_bytes_get_data(frame, NULL))[0];
    g_bytes_unref(frame);
    return number;
}

/* The secondary needs long until it has answered PREPARE. */
static void test_while_preparing(void)
{
    Fixture f;
    start_pair_with_cards(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    GBytes *got = NULL;
    guint64 before = a->node->epoch;
    fake_vm_inject(b->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    ask_for_checkpoint(&f);
    WAIT_FOR(fake_vm_is_held(b->vm));
    g_assert_cmpint(primary_phase(a->node->primary), ==, CYCLE_PREPARING);
    give_input(&f, 1);
    WAIT_FOR((got = fake_vm_receive_frame(a->vm, 0)));
    g_assert_cmpuint(number_of(got), ==, 1);
    /* It is kept for the copy, which may have to go on from the epoch that it came in. */
    WAIT_FOR(backlog_stats(replay_input_backlog(b->node->replay))->frames == 1);
    g_assert_cmpuint(backlog_first(replay_input_backlog(b->node->replay))->tag, ==, before);
    fake_vm_proceed(b->vm);
    WAIT_FOR(a->node->epoch > before && pair_is_settled(&f));
    /* The checkpoint has it: the next that the copy gets is of the new epoch. */
    give_input(&f, 2);
    WAIT_FOR((got = fake_vm_receive_frame(b->vm, 0)));
    g_assert_cmpuint(number_of(got), ==, 2);
    tear_down(&f);
}

/* What is kept for the copy has a bound, also of frames that are nearly nothing. */
static void test_one_byte_frames(void)
{
    Fixture f;
    start_pair_with_cards(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    fake_vm_inject(b->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    ask_for_checkpoint(&f);
    WAIT_FOR(fake_vm_is_held(b->vm));
    for (guint sent = 0; sent < 2 * KEPT_FRAMES_MAX;) {
        if (link_send_packet(a->node->link, 0, a->node->epoch, (const guint8 *)"", 1))
            sent++;
        else
            g_main_context_iteration(NULL, FALSE);
    }
    WAIT_FOR(backlog_stats(replay_input_backlog(b->node->replay))->dropped > 0);
    g_assert_cmpuint(backlog_stats(replay_input_backlog(b->node->replay))->frames, <=,
                     KEPT_FRAMES_MAX);
    fake_vm_proceed(b->vm);
    WAIT_FOR(pair_is_settled(&f));
    tear_down(&f);
}

/* In the pause it waits for the new epoch. */
static void test_while_paused(void)
{
    Fixture f;
    start_pair_with_cards(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    GBytes *got = NULL;
    guint64 before = a->node->epoch;
    fake_vm_inject(a->vm, FAKE_VM_SAVE, FAKE_VM_HOLD, 1);
    ask_for_checkpoint(&f);
    WAIT_FOR(fake_vm_is_held(a->vm));
    give_input(&f, 1);
    g_assert_cmpuint(traffic_stats(a->node->traffic).deferred.frames, ==, 1);
    fake_vm_proceed(a->vm);
    WAIT_FOR((got = fake_vm_receive_frame(a->vm, 0)));
    g_assert_cmpuint(number_of(got), ==, 1);
    WAIT_FOR((got = fake_vm_receive_frame(b->vm, 0)));
    g_assert_cmpuint(number_of(got), ==, 1);
    g_assert_true(copy_is_in(b->node->copy, before + 1));
    tear_down(&f);
}

/* What waits for the end of a pause has a bound, too, of such frames. */
static void test_one_byte_frames_while_paused(void)
{
    Fixture f;
    start_pair_with_cards(&f);
    Host *a = &f.host[0];
    fake_vm_inject(a->vm, FAKE_VM_SAVE, FAKE_VM_HOLD, 1);
    ask_for_checkpoint(&f);
    WAIT_FOR(fake_vm_is_held(a->vm));
    for (guint i = 0; i < 2 * KEPT_FRAMES_MAX; i++)
        send_from_network(a, (const guint8 *)"", 1);
    g_assert_cmpuint(traffic_stats(a->node->traffic).deferred.dropped, >, 0);
    g_assert_cmpuint(traffic_stats(a->node->traffic).deferred.frames, <=, KEPT_FRAMES_MAX);
    fake_vm_proceed(a->vm);
    WAIT_FOR(pair_is_settled(&f));
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test_in("colo", "/node-input/while-preparing", test_while_preparing);
    add_pair_test_in("colo", "/node-input/while-paused", test_while_paused);
    add_pair_test_in("colo", "/node-input/one-byte-frames-while-paused",
                     test_one_byte_frames_while_paused);
    add_pair_test_in("colo", "/node-input/one-byte-frames", test_one_byte_frames);
    return g_test_run();
}
