/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A node's disks: the orders to their server, what its answers and events come to, the end. */
#include "colo/node/node.h"
#include "common/log.h"
#include "tests/support/disks-by-hand.h"

/* How long the peer may take to report why its disks have gone. */
#define LOST_MS 500

/* ---- A VM without disks ---- */

static void test_none(Fixture *f, gconstpointer state)
{
    (void)state;
    g_ptr_array_set_size(f->config.vm->disks, 0);
    disks_start(f->disks, FALSE);
    g_assert_cmpuint(f->ready, ==, 1);
    g_assert_false(disks_are_there(f->disks));
    attach(f);
    g_assert_cmpuint(f->held_back, ==, 0); /* RAM's checkpoints wait for no disk */
    disks_received(f->disks, 3);
    g_assert_false(disks_apply_is_due(f->disks));
    g_assert_true(disks_are_at(f->disks, epoch_some(3)));
    g_assert_true(disks_may_checkpoint(f->disks));
    g_assert_true(disks_may_run_copy(f->disks, NULL));
    g_assert_true(disks_activate(f->disks, epoch_some(3)));
    g_assert_false(disks_writes_wait(f->disks));
    disks_let_through(f->disks);
    disks_limit_sync_rate(f->disks);
    disks_vm_paused(f->disks);
    disks_detach(f->disks);
    disks_stop(f->disks, TRUE);
    g_assert_null(f->server);
}

/* ---- Sessions ---- */

/* The answer to what an earlier session ordered is nobody's. */
static void test_late_answer(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    disks_sync(f->disks, 4, on_done);
    disks_mark(f->disks, 4, on_done);
    disks_detach(f->disks);
    attach(f);
    succeed(f, "sync", "{}");
    refuse(f, "mark", "no session");
    g_assert_cmpuint(f->done, ==, 0);
    succeed(f, "detach", "{}");
    succeed(f, "attach", "{}");
    disks_sync(f->disks, 4, on_done);
    disks_mark(f->disks, 4, on_done);
    succeed(f, "sync", "{}");
    g_assert_cmpuint(f->done, ==, 1);
    refuse(f, "mark", "no room");
    g_assert_cmpuint(f->done, ==, 2);
    g_assert_cmpuint(f->done_failed, ==, 1);
    /* Of storage it is told in another way. */
    disks_mark(f->disks, 4, on_done);
    succeed(f, "mark", "{\"refused\": \"the image lacks it\"}");
    g_assert_cmpuint(f->done, ==, 3);
    g_assert_cmpuint(f->done_failed, ==, 2);
}

/* An attach that fails ends its own session only. */
static void test_late_attach(Fixture *f, gconstpointer state)
{
    (void)state;
    disks_start(f->disks, f->world.is_primary);
    attach(f);
    disks_detach(f->disks);
    attach(f);
    refuse(f, "attach", "detached");
    turned_clock_pass_ms(2 * LOST_MS);
    g_assert_null(f->stream_lost);
    refuse(f, "attach", "no connection");
    turned_clock_pass_ms(2 * LOST_MS);
    g_assert_nonnull(f->stream_lost);
    g_assert_cmpuint(f->n_lost, ==, 0);
}

/* What comes before the answer to the detach is of the session before it. */
static void test_late_events(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    disks_detach(f->disks);
    attach(f);
    raise_event(f, "SYNCHRONISED", "{}");
    raise_event(f, "MARKED", "{\"epoch\": 9}");
    raise_event(f, "APPLYING", "{\"epoch\": 9}");
    raise_event(f, "LOST", "{\"reason\": \"detached\"}");
    turned_clock_pass_ms(2 * LOST_MS);
    g_assert_cmpuint(f->synchronised + f->marked + f->applying, ==, 0);
    g_assert_null(f->stream_lost);
    g_assert_false(disks_may_checkpoint(f->disks));
    succeed(f, "detach", "{}");
    raise_event(f, "SYNCHRONISED", "{}");
    raise_event(f, "MARKED", "{\"epoch\": 9}");
    raise_event(f, "APPLYING", "{\"epoch\": 10}");
    g_assert_cmpuint(f->synchronised, ==, 1);
    g_assert_true(disks_may_checkpoint(f->disks));
    g_assert_cmpuint(f->marked, ==, 9);
    g_assert_cmpuint(f->applying, ==, 10);
    disks_detach(f->disks);
    g_assert_false(disks_may_checkpoint(f->disks));
}

/* The peer, if it lives, reports on the link why its disks have gone: it has a moment for it. */
static void test_connection_lost(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    raise_event(f, "LOST", "{\"reason\": \"the connection is closed\"}");
    raise_event(f, "LOST", "{\"reason\": \"again\"}");
    turned_clock_pass_ms(LOST_MS - 1);
    g_assert_null(f->stream_lost);
    turned_clock_pass_ms(1);
    g_assert_cmpstr(f->stream_lost, ==,
                    "the connection between the disks is lost: the connection is closed");
    g_assert_cmpuint(f->n_lost, ==, 0);
}

static void test_peer_reports(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    raise_event(f, "LOST", "{\"reason\": \"the connection is closed\"}");
    turned_clock_pass_ms(LOST_MS - 1);
    disks_detach(f->disks);
    turned_clock_pass_ms(2 * LOST_MS);
    g_assert_null(f->stream_lost);
}

/* ---- Failures ---- */

/* The caller is the server's own code: whoever is told may end the server. */
static void test_died(Fixture *f, gconstpointer state)
{
    (void)state;
    g_autoptr(GError) error = g_error_new_literal(BLOCK_ERROR, BLOCK_ERROR_IO, "killed");
    g_autoptr(GError) later = g_error_new_literal(BLOCK_ERROR, BLOCK_ERROR_IO, "later");
    begin(f);
    f->server->callbacks.died(error, f->server->user_data);
    f->server->callbacks.died(later, f->server->user_data);
    g_assert_cmpuint(f->n_lost, ==, 0);
    turned_clock_pass_ms(0);
    g_assert_cmpuint(f->n_lost, ==, 1);
    g_assert_cmpstr(f->lost, ==, "the disks are lost: killed");
    /* It has no files to write any more. */
    disks_stop(f->disks, TRUE);
    g_assert_cmpuint(killed, ==, 1);
}

/* A VM that is ended meanwhile is not lost again. */
static void test_died_and_stopped(Fixture *f, gconstpointer state)
{
    (void)state;
    g_autoptr(GError) error = g_error_new_literal(BLOCK_ERROR, BLOCK_ERROR_IO, "killed");
    begin(f);
    f->server->callbacks.died(error, f->server->user_data);
    disks_stop(f->disks, FALSE);
    turned_clock_pass_ms(1000);
    g_assert_cmpuint(f->n_lost, ==, 0);
}

static void test_not_served(Fixture *f, gconstpointer state)
{
    (void)state;
    f->cannot_serve = TRUE;
    disks_start(f->disks, TRUE);
    g_assert_cmpuint(f->n_lost, ==, 0);
    turned_clock_pass_ms(1000);
    g_assert_cmpuint(f->n_lost, ==, 1);
    g_assert_cmpuint(f->ready, ==, 0);
    disks_detach(f->disks);
    disks_stop(f->disks, TRUE);
}

/* A secondary whose own disks have failed, or whose data must not be overwritten. */
static void test_secondary_fails(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    raise_event(f, "LOST", "{\"reason\": \"no room\", \"failed\": true}");
    turned_clock_pass_ms(0);
    g_assert_cmpstr(f->lost, ==, "the disks are lost: no room");
    raise_event(f, "LOST", "{\"reason\": \"newer\", \"refused\": true}");
    turned_clock_pass_ms(2 * LOST_MS);
    g_assert_cmpstr(f->lost, ==, "no synchronisation: newer");
    g_assert_null(f->stream_lost);
}

/* In a takeover nobody else may have the VM. */
static void test_kept(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    f->world.keeps = TRUE;
    raise_event(f, "LOST", "{\"reason\": \"no room\", \"failed\": true}");
    raise_event(f, "LOST", "{\"reason\": \"the connection is closed\"}");
    turned_clock_pass_ms(2 * LOST_MS);
    g_assert_cmpuint(f->n_lost, ==, 0);
    g_assert_null(f->stream_lost);
}

/* ---- The primary's epochs ---- */

static void test_filling(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    raise_event(f, "FILLING", "{}");
    g_assert_cmpuint(f->filling, ==, 1);
    g_assert_null(find(f, "let-through"));
    f->world.state = FSM_P_ACTIVE; /* its secondary is not ready yet */
    raise_event(f, "FILLING", "{}");
    g_assert_cmpuint(f->filling, ==, 1);
    succeed(f, "let-through", "{}");
    f->world = (DisksWorld){.state = FSM_S_COLO};
    raise_event(f, "FILLING", "{}");
    g_assert_cmpuint(f->filling, ==, 1);
    g_assert_null(find(f, "let-through"));
}

/* ---- The secondary's checkpoints ---- */

static void test_apply(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    g_assert_cmpuint(f->held_back, ==, 1);
    disks_received(f->disks, 7);
    g_assert_cmpuint(f->steps, ==, 1);
    g_assert_true(disks_apply_is_due(f->disks));
    g_assert_false(disks_are_applying(f->disks));
    disks_apply(f->disks);
    g_assert_false(disks_apply_is_due(f->disks));
    g_assert_true(disks_are_applying(f->disks));
    g_assert_false(disks_are_at(f->disks, epoch_some(7)));
    g_assert_cmpuint(find(f, "apply")->epoch, ==, 7);
    /* The next one waits for it. */
    disks_received(f->disks, 8);
    g_assert_false(disks_apply_is_due(f->disks));
    disks_apply(f->disks);
    succeed(f, "apply", "{}");
    g_assert_cmpuint(f->steps, ==, 3);
    g_assert_true(disks_are_at(f->disks, epoch_some(7)));
    g_assert_false(disks_are_at(f->disks, epoch_some(8)));
    g_assert_true(disks_apply_is_due(f->disks));
    g_assert_null(find(f, "apply"));
}

/* An apply of an earlier session says nothing of this one's epochs. */
static void test_late_apply(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    disks_received(f->disks, 7);
    disks_apply(f->disks);
    disks_detach(f->disks);
    attach(f);
    succeed(f, "apply", "{}");
    g_assert_false(disks_are_at(f->disks, epoch_some(7)));
    g_assert_cmpuint(f->steps, ==, 1);
}

/* A number is never taken for none. */
static void test_epoch_zero(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    g_assert_true(disks_are_at(f->disks, EPOCH_NONE));
    g_assert_false(disks_are_at(f->disks, epoch_some(0)));
    disks_received(f->disks, 0);
    g_assert_true(disks_apply_is_due(f->disks));
    disks_apply(f->disks);
    g_assert_true(disks_are_applying(f->disks));
    succeed(f, "apply", "{}");
    g_assert_true(disks_are_at(f->disks, epoch_some(0)));
    g_assert_false(disks_are_at(f->disks, EPOCH_NONE));
    g_assert_false(disks_activate(f->disks, epoch_some(0)));
    g_assert_nonnull(find(f, "takeover"));
    g_assert_null(find(f, "activate"));
}

static void test_apply_refused(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    f->world.keeps = TRUE;
    disks_received(f->disks, 7);
    disks_apply(f->disks);
    refuse(f, "apply", "no room");
    g_assert_cmpuint(f->refused, ==, 1);
    g_assert_true(disks_apply_is_due(f->disks));
    disks_apply(f->disks);
    g_assert_cmpuint(find(f, "apply")->epoch, ==, 7);
    f->world.keeps = FALSE;
    refuse(f, "apply", "no room");
    turned_clock_pass_ms(0);
    g_assert_cmpstr(f->lost, ==, "the disks are lost: no room");
    g_assert_cmpuint(f->refused, ==, 1);
}

/* The server has marked the next one, and so has applied this one, whatever its answer is. */
static void test_apply_refused_late(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    f->world.keeps = TRUE;
    disks_received(f->disks, 7);
    disks_apply(f->disks);
    disks_received(f->disks, 8);
    refuse(f, "apply", "no answer in time");
    g_assert_true(disks_apply_is_due(f->disks));
    disks_apply(f->disks);
    g_assert_cmpuint(find(f, "apply")->epoch, ==, 8);
    succeed(f, "apply", "{}");
    g_assert_true(disks_are_at(f->disks, epoch_some(8)));
}

/* ---- The activation flag ---- */

static void test_takeover(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    g_assert_true(disks_may_run_copy(f->disks, NULL));
    disks_vm_paused(f->disks);
    g_assert_false(disks_activate(f->disks, epoch_some(7)));
    g_assert_cmpuint(find(f, "takeover")->epoch, ==, 7);
    g_assert_cmpuint(find(f, "takeover")->timeout_ms, ==, 0); /* nobody else has the VM */
    g_assert_false(disks_activate(f->disks, epoch_some(7)));
    g_assert_false(disks_may_run_copy(f->disks, NULL));
    g_assert_cmpuint(f->runs, ==, 0);
    succeed(f, "takeover", "{}");
    g_assert_cmpuint(f->noted, ==, 1);
    g_assert_cmpuint(f->runs, ==, 1);
    g_assert_cmpuint(f->activated, ==, 0);
    disks_ran(f->disks, NULL);
    g_assert_cmpuint(f->activated, ==, 1);
    g_assert_null(f->activation_error);
    g_assert_true(disks_activate(f->disks, EPOCH_NONE));
    g_assert_null(find(f, "takeover"));
}

/* "flag why: member=state ...", as administrators were told last. */
static char *told(const Fixture *f)
{
    GString *text = g_string_new(NULL);
    json_object *members = json_object_object_get(f->changed, "members");
    g_string_append_printf(
        text, "%s %s:", json_object_get_string(json_object_object_get(f->changed, "flag")),
        json_object_get_string(json_object_object_get(f->changed, "why")));
    for (gsize i = 0; i < json_object_array_length(members); i++) {
        json_object *member = json_object_array_get_idx(members, i);
        g_string_append_printf(text, " %s=%s",
                               json_object_get_string(json_object_object_get(member, "name")),
                               json_object_get_string(json_object_object_get(member, "state")));
    }
    return g_string_free(text, FALSE);
}

#define assert_told(f, what)                                                                       \
    do {                                                                                           \
        g_autofree char *text = told(f);                                                           \
        g_assert_cmpstr(text, ==, what);                                                           \
    } while (0)

/* Each image, and what QEMU has of them, at each step. */
static void test_members(Fixture *f, gconstpointer state)
{
    (void)state;
    vm_description_add_disk(f->config.vm, "vdb");
    f->world.qemu = VM_DISKS_INACTIVE;
    begin(f);
    g_assert_cmpuint(f->changes, ==, 0);
    disks_activate(f->disks, epoch_some(7));
    assert_told(f, "inactive takeover: vda=unknown vdb=unknown qemu=inactive");
    succeed(f, "takeover", "{}");
    assert_told(f, "inactive takeover: vda=active vdb=active qemu=unknown");
    f->world.qemu = VM_DISKS_ACTIVE;
    disks_ran(f->disks, NULL);
    assert_told(f, "active takeover: vda=active vdb=active qemu=active");
    /* The images' end is known, QEMU's begins; then its end, and the flag. */
    g_assert_cmpuint(f->changes, ==, 5);
}

/* QEMU's own words, and the images are not taken over a second time. */
static void test_cont_refused(Fixture *f, gconstpointer state)
{
    (void)state;
    g_autoptr(GError) error = g_error_new_literal(VM_ERROR, VM_ERROR_QMP, "cont: no room");
    begin(f);
    disks_activate(f->disks, epoch_some(7));
    succeed(f, "takeover", "{}");
    disks_ran(f->disks, error);
    g_assert_cmpuint(f->activated, ==, 1);
    g_assert_cmpstr(f->activation_error, ==, "cont: no room");
    disks_vm_paused(f->disks);
    g_assert_false(disks_activate(f->disks, epoch_some(7)));
    g_assert_null(find(f, "takeover"));
    g_assert_cmpuint(f->runs, ==, 2);
    disks_ran(f->disks, NULL);
    g_assert_cmpuint(f->activated, ==, 2);
    g_assert_null(f->activation_error);
    disks_ran(f->disks, NULL); /* of no activation */
    g_assert_cmpuint(f->activated, ==, 2);
}

/* The server's end is reported, and not each order that fails with it. */
static void test_takeover_dies(Fixture *f, gconstpointer state)
{
    (void)state;
    g_autoptr(GError) gone = g_error_new_literal(VM_ERROR, VM_ERROR_DIED, "closed");
    g_autoptr(GError) died = g_error_new_literal(BLOCK_ERROR, BLOCK_ERROR_IO, "killed");
    begin(f);
    disks_activate(f->disks, epoch_some(7));
    answer_with(f, "takeover", NULL, gone);
    turned_clock_pass_ms(0);
    g_assert_cmpuint(f->n_lost + f->activated, ==, 0);
    f->server->callbacks.died(died, f->server->user_data);
    turned_clock_pass_ms(0);
    g_assert_cmpstr(f->lost, ==, "the disks are lost: killed");
}

/* ---- Status ---- */

static void test_unsynced(Fixture *f, gconstpointer state)
{
    static const char *const answered =
        "{\"queue-bytes\": 16000000, \"disks\": [{\"name\": \"vda\"}, {\"name\": \"vdb\", "
        "\"sync-error\": \"I/O error\"}]}";
    (void)state;
    begin(f);
    g_assert_false(disks_writes_wait(f->disks));
    turned_clock_pass_ms(2000);
    succeed(f, "status", answered);
    g_assert_null(find(f, "status")); /* one question at a time */
    g_assert_true(disks_are_unsynced(f->disks));
    g_assert_true(disks_writes_wait(f->disks));
    g_assert_true(
        g_str_has_prefix(f->trouble, "a disk can't be made durable any more: disk vdb: "));
    turned_clock_pass_ms(1000);
    succeed(f, "status", answered);
    g_assert_cmpuint(f->n_troubles, ==, 1);
}

/* ---- The end ---- */

static void test_end(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    disks_activate(f->disks, epoch_some(7));
    disks_stop(f->disks, TRUE);
    g_assert_true(f->server->ended);
    g_assert_cmpuint(killed + waited, ==, 0);
    g_assert_false(disks_are_there(f->disks));
    turned_clock_pass_ms(2000);
    g_assert_cmpuint(f->activated + f->n_lost, ==, 0); /* it was the node's wish */
    disks_free(g_steal_pointer(&f->disks));
    g_assert_cmpuint(waited, ==, 1);
    g_assert_cmpuint(killed, ==, 1);
}

/* Another VM is to be started: nothing of the one before counts for it. */
static void test_again(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    disks_detach(f->disks); /* and no answer */
    disks_stop(f->disks, FALSE);
    g_assert_cmpuint(killed, ==, 1);
    begin(f);
    g_assert_cmpuint(f->ready, ==, 2);
    raise_event(f, "MARKED", "{\"epoch\": 3}");
    g_assert_cmpuint(f->marked, ==, 3);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_set_level(LOG_LEVEL_ERROR);
#define ADD(path, state, function)                                                                 \
    g_test_add("/disks/" path, Fixture, GINT_TO_POINTER(state), set_up, function, tear_down)
    ADD("none", FSM_S_STARTING, test_none);
    ADD("late-answer", FSM_P_COLO, test_late_answer);
    ADD("late-attach", FSM_P_ACTIVE, test_late_attach);
    ADD("late-events", FSM_P_ACTIVE, test_late_events);
    ADD("connection-lost", FSM_P_COLO, test_connection_lost);
    ADD("peer-reports", FSM_P_COLO, test_peer_reports);
    ADD("died", FSM_P_COLO, test_died);
    ADD("died-and-stopped", FSM_P_COLO, test_died_and_stopped);
    ADD("not-served", FSM_P_STARTING, test_not_served);
    ADD("secondary-fails", FSM_S_ACTIVE, test_secondary_fails);
    ADD("kept", FSM_S_DEVICE, test_kept);
    ADD("filling", FSM_P_COLO, test_filling);
    ADD("apply", FSM_S_COLO, test_apply);
    ADD("late-apply", FSM_S_COLO, test_late_apply);
    ADD("epoch-zero", FSM_S_DEVICE, test_epoch_zero);
    ADD("apply-refused", FSM_S_DEVICE, test_apply_refused);
    ADD("apply-refused-late", FSM_S_DEVICE, test_apply_refused_late);
    ADD("takeover", FSM_S_DEVICE, test_takeover);
    ADD("members", FSM_S_DEVICE, test_members);
    ADD("cont-refused", FSM_S_DEVICE, test_cont_refused);
    ADD("takeover-dies", FSM_S_DEVICE, test_takeover_dies);
    ADD("unsynced", FSM_P_COLO, test_unsynced);
    ADD("end", FSM_S_DEVICE, test_end);
    ADD("again", FSM_S_STARTING, test_again);
    return g_test_run();
}
