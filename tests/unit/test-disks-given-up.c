/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A node's disks are given up, and taken back: in which order, and what fails on the way. */
#include "colo/node/node.h"
#include "common/log.h"
#include "tests/support/disks-by-hand.h"
#include "tests/support/disks-text.h"

#define assert_described(f, what)                                                                  \
    do {                                                                                           \
        g_autofree char *text = disks_text((f)->disks);                                            \
        g_assert_cmpstr(text, ==, what);                                                           \
    } while (0)

/* QEMU is told when the server has an eye on it. */
static void watched(Fixture *f)
{
    guint before = f->inactivations;
    g_assert_cmpuint(find(f, "watch")->timeout_ms, ==, 7000);
    succeed(f, "watch", "{}");
    g_assert_cmpuint(f->inactivations, ==, before + 1);
}

static void inactivated(Fixture *f)
{
    watched(f);
    f->world.qemu = VM_DISKS_INACTIVE;
    disks_inactivated(f->disks, NULL);
}

static void inactivation_fails(Fixture *f)
{
    watched(f);
    g_autoptr(GError) error = g_error_new_literal(VM_ERROR, VM_ERROR_QMP, "I/O error");
    f->world.qemu = VM_DISKS_UNKNOWN;
    disks_inactivated(f->disks, error);
    /* The server knows more. */
    g_assert_cmpuint(f->given_up, ==, 0);
    succeed(f, "status", "{\"disks\": [{\"name\": \"vda\", \"write-error\": \"no room\"}]}");
}

/* `cont` of QEMU, which was asked for. */
static void ran(Fixture *f, guint runs)
{
    g_assert_cmpuint(f->runs, ==, runs);
    f->world.qemu = VM_DISKS_ACTIVE;
    disks_ran(f->disks, NULL);
    g_assert_null(f->activation_error);
    assert_described(f, "active: vda=active qemu=active");
}

/* QEMU first, which writes; then the mark, which has that; then the images. */
static void test_order(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    g_assert_true(disks_activate(f->disks, EPOCH_NONE)); /* the VM runs, */
    disks_vm_paused(f->disks);                           /* and is paused */
    disks_give_up(f->disks, 4, on_given_up);
    assert_described(f, "inactive: vda=active qemu=unknown");
    g_assert_null(find(f, "mark-written"));
    inactivated(f);
    g_assert_cmpuint(find(f, "mark-written")->epoch, ==, 4);
    g_assert_null(find(f, "inactivate"));
    succeed(f, "mark-written", "{}");
    assert_described(f, "inactive: vda=unknown qemu=inactive");
    g_assert_cmpuint(find(f, "inactivate")->timeout_ms, ==, 7000);
    g_assert_cmpuint(f->given_up, ==, 0);
    succeed(f, "inactivate", "{}");
    g_assert_cmpuint(f->given_up, ==, 1);
    g_assert_null(f->given_up_error);
    assert_described(f, "inactive: vda=inactive qemu=inactive");
    /* It was marked then. */
    disks_mark(f->disks, 4, on_done);
    g_assert_cmpuint(f->done, ==, 1);
    g_assert_null(find(f, "mark"));
    /* And back: the images are below. */
    g_assert_false(disks_activate(f->disks, EPOCH_NONE));
    g_assert_cmpuint(f->runs, ==, 0);
    succeed(f, "activate", "{}");
    ran(f, 1);
}

/* The disk is named, and QEMU is told nothing twice: the way back is `cont`. */
static void test_qemu_fails(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    disks_give_up(f->disks, 4, on_given_up);
    inactivation_fails(f);
    g_assert_cmpuint(f->given_up, ==, 1);
    g_assert_cmpstr(f->given_up_error, ==, "QEMU can't write to them (vda: no room): I/O error");
    assert_described(f, "inactive: vda=active qemu=unknown");
    g_assert_null(find(f, "mark-written"));
    g_assert_null(find(f, "inactivate"));
    g_assert_false(disks_activate(f->disks, EPOCH_NONE));
    g_assert_null(find(f, "activate"));
    ran(f, 1);
    /* It can be tried again. */
    disks_vm_paused(f->disks);
    disks_give_up(f->disks, 4, on_given_up);
    inactivated(f);
    g_assert_cmpuint(f->inactivations, ==, 2);
    succeed(f, "mark-written", "{}");
    succeed(f, "inactivate", "{}");
    g_assert_cmpuint(f->given_up, ==, 2);
    g_assert_null(f->given_up_error);
}

/* QEMU says that it has given them up, and the server knows better. The way back is the same. */
static void test_qemu_unheard(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    disks_give_up(f->disks, 4, on_given_up);
    inactivated(f);
    succeed(f, "mark-written", "{\"refused\": \"QEMU could not write (vda: no room)\"}");
    g_assert_cmpuint(f->given_up, ==, 1);
    g_assert_nonnull(strstr(f->given_up_error, "vda: no room"));
    assert_described(f, "inactive: vda=active qemu=unknown");
    g_assert_null(find(f, "inactivate"));
    disks_mark(f->disks, 4, on_done); /* it has not been marked */
    g_assert_nonnull(find(f, "mark"));
    succeed(f, "mark", "{}");
    g_assert_false(disks_activate(f->disks, EPOCH_NONE));
    ran(f, 1);
}

/* The server can't be asked: QEMU is not told anything, and keeps its disks. */
static void test_watch_fails(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    disks_give_up(f->disks, 4, on_given_up);
    refuse(f, "watch", "no answer in time");
    g_assert_cmpuint(f->inactivations, ==, 0);
    g_assert_cmpuint(f->given_up, ==, 1);
    g_assert_nonnull(strstr(f->given_up_error, "no answer in time"));
    g_assert_null(find(f, "mark-written"));
    g_assert_null(find(f, "inactivate"));
    g_assert_false(disks_activate(f->disks, EPOCH_NONE));
    ran(f, 1);
}

static void test_images_fail(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    disks_give_up(f->disks, 4, on_given_up);
    inactivated(f);
    succeed(f, "mark-written", "{}");
    refuse(f, "inactivate", "vda.img: no room");
    g_assert_nonnull(strstr(f->given_up_error, "vda.img: no room"));
    assert_described(f, "inactive: vda=unknown qemu=inactive");
    /* The way back fails too, and is tried again: the VM is not resumed before. */
    g_assert_false(disks_activate(f->disks, EPOCH_NONE));
    refuse(f, "activate", "the storage is gone");
    g_assert_cmpuint(f->activated, ==, 1);
    g_assert_nonnull(strstr(f->activation_error, "the storage is gone"));
    g_assert_cmpuint(f->runs, ==, 0);
    g_assert_false(disks_activate(f->disks, EPOCH_NONE));
    succeed(f, "activate", "{}");
    ran(f, 1);
}

/* The session is over: its end is waited for all the same, and nothing of it is taken as marked. */
static void test_session_over(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    disks_give_up(f->disks, 4, on_given_up);
    inactivated(f);
    disks_detach(f->disks);
    succeed(f, "detach", "{}");
    succeed(f, "mark-written", "{}");
    succeed(f, "inactivate", "{}");
    g_assert_cmpuint(f->given_up, ==, 1);
    attach(f);
    disks_mark(f->disks, 4, on_done);
    g_assert_nonnull(find(f, "mark"));
}

/*
 * Handed over at an earlier checkpoint: nothing that QEMU could write is of use, and nothing is
 * waited for. An inactivation that is still under way then doesn't keep it from the way back.
 */
static void test_renounced(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    disks_renounce(f->disks);
    disks_renounce(f->disks);
    assert_described(f, "inactive: vda=unknown qemu=active");
    g_assert_cmpuint(f->inactivations, ==, 0);
    g_assert_false(disks_activate(f->disks, EPOCH_NONE));
    g_assert_false(disks_activate(f->disks, EPOCH_NONE));
    g_assert_null(find(f, "activate"));
    refuse(f, "inactivate", "no room");
    g_assert_null(find(f, "inactivate"));
    g_assert_cmpuint(f->activated, ==, 0);
    succeed(f, "activate", "{}");
    ran(f, 1);
    g_assert_cmpuint(f->activated, ==, 1);
}

/* A VM whose `cont` was refused is handed over: it must not be told to run for that. */
static void test_renounced_after_refusal(Fixture *f, gconstpointer state)
{
    (void)state;
    g_autoptr(GError) error = g_error_new_literal(VM_ERROR, VM_ERROR_QMP, "cont: no room");
    begin(f);
    disks_give_up(f->disks, 4, on_given_up);
    inactivated(f);
    succeed(f, "mark-written", "{}");
    succeed(f, "inactivate", "{}");
    disks_activate(f->disks, EPOCH_NONE);
    succeed(f, "activate", "{}");
    f->world.qemu = VM_DISKS_UNKNOWN;
    disks_ran(f->disks, error);
    g_assert_cmpstr(f->activation_error, ==, "cont: no room");
    disks_vm_paused(f->disks);
    /* Nothing of it is active in the flag's sense; but the way back begins with the images. */
    disks_give_up(f->disks, 4, on_given_up);
    g_assert_cmpuint(f->runs, ==, 1);
    inactivated(f);
    g_assert_cmpuint(f->inactivations, ==, 2); /* the VM knows whether QEMU may be told again */
    succeed(f, "mark-written", "{}");
    succeed(f, "inactivate", "{}");
    disks_activate(f->disks, EPOCH_NONE);
    g_assert_cmpuint(f->runs, ==, 1);
    succeed(f, "activate", "{}");
    ran(f, 2);
}

/* QEMU has them given up already, for its guest is stopped: the mark comes before the images go. */
static void test_stopped(Fixture *f, gconstpointer state)
{
    (void)state;
    begin(f);
    disks_give_up(f->disks, 4, on_given_up);
    inactivated(f);
    succeed(f, "mark-written", "{}");
    succeed(f, "inactivate", "{}");
    g_assert_false(disks_activate(f->disks, EPOCH_NONE));
    succeed(f, "activate", "{}");
    disks_leave_stopped(f->disks);
    assert_described(f, "inactive: vda=active qemu=inactive");
    disks_vm_paused(f->disks);
    disks_give_up(f->disks, 4, on_given_up);
    g_assert_cmpuint(f->inactivations, ==, 1);
    g_assert_cmpuint(find(f, "mark")->epoch, ==, 4);
    g_assert_null(find(f, "inactivate"));
    succeed(f, "mark", "{}");
    succeed(f, "inactivate", "{}");
    g_assert_cmpuint(f->given_up, ==, 2);
    g_assert_null(f->given_up_error);
    /* And once more, before anything was taken back: that can't be a checkpoint. */
    disks_give_up(f->disks, 4, on_given_up);
    g_assert_cmpuint(f->given_up, ==, 3);
    g_assert_cmpstr(f->given_up_error, ==, "the disks have been given up before");
}

/* The VM is ended meanwhile: nobody is told anything. */
static void test_end(Fixture *f, gconstpointer state)
{
    begin(f);
    disks_give_up(f->disks, 4, on_given_up);
    if (state == GINT_TO_POINTER(FSM_P_HANDED))
        inactivated(f);
    disks_stop(f->disks, TRUE);
    turned_clock_pass_ms(2000);
    g_assert_cmpuint(f->given_up, ==, 0);
    disks_inactivated(f->disks, NULL);
    g_assert_cmpuint(f->given_up, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_set_level(LOG_LEVEL_ERROR);
#define ADD(path, state, function)                                                                 \
    g_test_add("/disks-given-up/" path, Fixture, GINT_TO_POINTER(state), set_up, function,         \
               tear_down)
    ADD("order", FSM_P_DEVICE, test_order);
    ADD("qemu-fails", FSM_P_DEVICE, test_qemu_fails);
    ADD("qemu-unheard", FSM_P_DEVICE, test_qemu_unheard);
    ADD("watch-fails", FSM_P_DEVICE, test_watch_fails);
    ADD("images-fail", FSM_P_DEVICE, test_images_fail);
    ADD("session-over", FSM_P_DEVICE, test_session_over);
    ADD("renounced", FSM_P_DEVICE, test_renounced);
    ADD("renounced-after-refusal", FSM_P_DEVICE, test_renounced_after_refusal);
    ADD("stopped", FSM_P_DEVICE, test_stopped);
    ADD("end", FSM_P_DEVICE, test_end);
    ADD("end-marking", FSM_P_HANDED, test_end);
    return g_test_run();
}
