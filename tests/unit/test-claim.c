/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The part of a node that deals with the arbiter, on a real arbiter's folder. */
#include "common/log.h"
#include "tests/support/claim-host.h"
#include "tests/support/wait.h"

#include <glib/gstdio.h>
#include <string.h>

/* ---- A lost link ---- */

static void test_granted(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_run_alone(f);
    claim_host_protect(f, S1);
    g_assert_null(claim_last_answer(f->claim));
    claim_host_feed(f, FSM_LINK_DOWN);
    g_assert_cmpint(claim_doing(f->claim), ==, CLAIM_ASKED);
    WAIT_FOR(f->state == FSM_P_NONE);
    g_assert_cmpstr(f->reports->str, ==, "granted ");
    g_assert_cmpstr(claim_last_answer(f->claim), ==, "granted");
    g_assert_cmpint(claim_doing(f->claim), ==, CLAIM_IDLE);
    g_assert_cmpuint(claim_questions(f->claim), ==, 1);
}

static void test_denied(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_run_alone(f);
    claim_host_protect(f, S1);
    claim_host_decide_for_peer(f);
    claim_host_feed(f, FSM_LINK_DOWN);
    WAIT_FOR(f->state == FSM_P_FROZEN);
    g_assert_true(claim_is_undecided(f->claim));
    /* An administrator knows better. */
    claim_overrule(f->claim);
    WAIT_FOR(f->state == FSM_P_NONE);
    g_assert_false(claim_is_undecided(f->claim));
}

/* The other side first. */
static void test_deferred(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_become_secondary(f);
    claim_defer(f->claim, 1);
    claim_host_feed(f, FSM_LINK_DOWN);
    g_assert_cmpint(claim_doing(f->claim), ==, CLAIM_DEFERRED);
    g_assert_cmpuint(claim_questions(f->claim), ==, 0);
    WAIT_FOR(f->state == FSM_S_DEVICE);
    g_assert_cmpstr(f->reports->str, ==, "ask-again granted ");
}

/* Nobody says anything, but storage does, late. */
static void test_late_yes(ClaimHost *f, gconstpointer data)
{
    claim_host_become_secondary(f);
    claim_host_hold(f, GPOINTER_TO_INT(data));
    claim_host_feed(f, FSM_LINK_DOWN);
    WAIT_FOR(claim_doing(f->claim) == CLAIM_UNDECIDED);
    g_assert_nonnull(strstr(f->trouble, "doesn't answer"));
    claim_host_let_go(f);
    WAIT_FOR(f->state == FSM_S_DEVICE);
}

/* The limit is that of the configuration. */
static void test_limit(ClaimHost *f, gconstpointer data)
{
    (void)data;
    f->config->arbiter_timeout_ms = 2000; /* nothing else here is so late */
    claim_host_become_secondary(f);
    hold(&claim_storage, HOLD_BEFORE);
    claim_host_feed(f, FSM_LINK_DOWN);
    WAIT_FOR(claim_doing(f->claim) == CLAIM_UNDECIDED);
    claim_host_let_go(f);
    WAIT_FOR(f->state == FSM_S_DEVICE);
}

/* The primary goes on without this side, which asks only if that doesn't come back. */
static void test_left(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_become_secondary(f);
    claim_host_feed(f, FSM_UNFIT);
    claim_leave(f->claim);
    g_assert_true(claim_is_undecided(f->claim));
    claim_host_feed(f, FSM_LINK_UP);
    g_assert_false(claim_is_undecided(f->claim));
    g_assert_cmpuint(claim_questions(f->claim), ==, 0);
}

static void force(ClaimHost *f)
{
    claim_host_become_secondary(f);
    claim_host_hold(f, HOLD_BEFORE);
    claim_host_feed(f, FSM_LINK_DOWN);
    WAIT_FOR(claim_doing(f->claim) == CLAIM_UNDECIDED);
    claim_order(f->claim, TRUE);
    WAIT_FOR(f->state == FSM_S_DEVICE);
    g_assert_cmpint(claim_doing(f->claim), !=, CLAIM_IDLE);
    g_assert_false(claim_is_forced(f->claim));
}

static void test_forced(ClaimHost *f, gconstpointer data)
{
    (void)data;
    force(f);
    claim_host_let_go(f);
    WAIT_FOR(claim_doing(f->claim) == CLAIM_IDLE);
    g_assert_null(strstr(f->trouble, "contradicts"));
}

static void test_contradicted(ClaimHost *f, gconstpointer data)
{
    (void)data;
    force(f);
    claim_host_decide_for_peer(f);
    claim_host_let_go(f);
    WAIT_FOR(claim_doing(f->claim) == CLAIM_IDLE);
    g_assert_nonnull(strstr(f->trouble, "contradicts"));
}

/* Protected anew, nobody is interested in the session before. */
static void test_forgotten(ClaimHost *f, gconstpointer data)
{
    (void)data;
    force(f);
    claim_host_hold(f, HOLD_NOT);
    claim_host_feed(f, FSM_TAKEN_OVER);
    claim_host_protect(f, S2);
    g_assert_cmpint(claim_doing(f->claim), ==, CLAIM_IDLE);
    g_assert_cmpstr(claim_session(f->claim), ==, S2);
    claim_host_let_go(f);
    claim_host_feed(f, FSM_LINK_DOWN);
    WAIT_FOR(f->state == FSM_P_NONE);
}

/* The primary has to know whether its secondary may have got the yes: until the next session. */
static void test_asked_when_handed(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_become_secondary(f);
    claim_host_hold(f, HOLD_BEFORE);
    claim_host_feed(f, FSM_HANDED);
    g_assert_false(claim_has_asked_handed(f->claim));
    claim_host_feed(f, FSM_VM_FIT);
    WAIT_FOR(f->state == FSM_S_COLO);
    g_assert_true(claim_has_asked_handed(f->claim));
    /* Handed over again, it asks nothing. */
    claim_host_feed(f, FSM_HANDED);
    claim_host_feed(f, FSM_VM_UNFIT);
    g_assert_true(claim_has_asked_handed(f->claim));
    claim_host_let_go(f);
    claim_host_feed(f, FSM_LINK_DOWN);
    WAIT_FOR(f->state == FSM_S_DEVICE);
    claim_host_feed(f, FSM_TAKEN_OVER);
    claim_host_protect(f, S2);
    g_assert_false(claim_has_asked_handed(f->claim));
}

static void test_without_arbiter(ClaimHost *f, gconstpointer data)
{
    (void)data;
    f->config->arbiter = CONFIG_ARBITER_NONE;
    claim_host_become_secondary(f);
    claim_host_feed(f, FSM_LINK_DOWN);
    WAIT_FOR(claim_doing(f->claim) == CLAIM_MANUAL);
    claim_order(f->claim, FALSE);
    WAIT_FOR(f->state == FSM_S_DEVICE);
    g_assert_cmpint(claim_doing(f->claim), ==, CLAIM_IDLE);
}

/* ---- Whose the VM is ---- */

/* The VM is beta's, and alpha waits for it as its secondary. */
static void wait_for_beta(ClaimHost *f)
{
    claim_host_restart(f, "beta", FSM_P_ASKING);
    claim_host_run_alone(f);
    claim_host_restart(f, "alpha", FSM_P_ASKING);
    claim_host_start(f);
    WAIT_FOR(claim_host_reported(f, "denied"));
    g_assert_cmpint(claim_starting(f->claim), ==, CLAIM_START_WAITS);
    claim_host_feed(f, FSM_VM_STARTED);
    claim_host_forget(f);
}

/* A primary comes: no more is asked. */
static void test_waits(ClaimHost *f, gconstpointer data)
{
    (void)data;
    wait_for_beta(f);
    claim_host_feed(f, FSM_LINK_UP);
    g_assert_cmpint(claim_starting(f->claim), ==, CLAIM_START_WAITS);
    claim_host_feed(f, FSM_PEER_RUNS);
    g_assert_cmpint(claim_starting(f->claim), ==, CLAIM_START_IDLE);
}

/* None comes: it is asked until the VM was given back. */
static void test_inherits(ClaimHost *f, gconstpointer data)
{
    (void)data;
    wait_for_beta(f);
    claim_host_give_back_by_peer(f);
    WAIT_FOR(f->state == FSM_P_STARTING);
    g_assert_cmpstr(f->reports->str, ==, "granted ");
}

/*
 * A question of a node that waits hangs until that has become the secondary and lost its primary.
 * Its answer could give the VM back: nothing is asked before it has come.
 */
static void test_after_the_start(ClaimHost *f, gconstpointer data)
{
    (void)data;
    wait_for_beta(f);
    claim_host_hold(f, HOLD_BEFORE);
    WAIT_FOR(claim_starting(f->claim) == CLAIM_START_WAITS_ASKED);
    WAIT_FOR(hold_waiting(&claim_storage) > 0);
    claim_host_hold(f, HOLD_NOT);
    claim_host_feed(f, FSM_LINK_UP);
    claim_host_feed(f, FSM_PEER_RUNS);
    f->session = S1;
    claim_host_feed(f, FSM_PROTECT);
    claim_host_forget(f);
    claim_host_feed(f, FSM_LINK_DOWN);
    g_assert_cmpstr(f->reports->str, ==, "undecided ");
    g_assert_nonnull(strstr(f->trouble, "an earlier question"));
    claim_host_let_go(f);
    WAIT_FOR(f->state == FSM_S_DEVICE);
    g_assert_true(claim_host_reported(f, "ask-again"));
}

/* Alpha has won S1, which it had noted that it has not run. It is started again, as secondary. */
static void restart_unrun(ClaimHost *f)
{
    claim_host_refuse_on_record(f, HOLD_BEFORE);
    claim_host_let_go(f);
    WAIT_FOR(claim_host_is_decided(f, "alpha"));
    claim_host_restart(f, "alpha", FSM_S_STARTING);
    f->config->role = CONFIG_ROLE_SECONDARY;
    g_autofree char *note = g_build_filename(f->state_dir, "unrun", NULL);
    g_assert_true(g_file_set_contents(note, "colo unrun 1\nsession " S1 "\n", -1, NULL));
    claim_begin(f->claim, f->state);
    WAIT_FOR(claim_host_reported(f, "seen"));
}

/* What it gives back doesn't wait for a QEMU, which perhaps never starts. */
static void test_returns_at_once(ClaimHost *f, gconstpointer data)
{
    (void)data;
    restart_unrun(f);
    claim_start(f->claim, NULL);
    WAIT_FOR(claim_host_is_decided(f, "beta"));
    g_assert_cmpint(f->state, ==, FSM_S_STARTING);
}

/* That hangs, and storage is there again by another way. */
static void test_return_hangs(ClaimHost *f, gconstpointer data)
{
    (void)data;
    restart_unrun(f);
    claim_host_hold(f, HOLD_BEFORE);
    claim_start(f->claim, NULL);
    claim_host_feed(f, FSM_VM_STARTED);
    WAIT_FOR(claim_starting(f->claim) == CLAIM_START_WAITS_ASKED);
    WAIT_FOR(claim_starting(f->claim) == CLAIM_START_WAITS);
    hold(&claim_storage, HOLD_NOT);
    WAIT_FOR(claim_host_is_decided(f, "beta"));
    g_assert_cmpuint(hold_waiting(&claim_storage), >, 0);
    claim_host_let_go(f);
}

/* The end is told once, by storage or by patience. */
static void test_released(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_run_alone(f);
    claim_host_feed(f, FSM_SHUTDOWN);
    claim_disown(f->claim, NULL);
    WAIT_FOR(claim_host_reported(f, "released"));
    g_assert_cmpstr(f->reports->str, ==, "released ");
}

/* One that ran the VM, protected, lets its secondary take over first. */
static void test_start_deferred(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_run_alone(f);
    claim_host_protect(f, S1);
    claim_host_restart(f, "alpha", FSM_P_ASKING);
    claim_host_start(f);
    WAIT_FOR(claim_starting(f->claim) == CLAIM_START_DEFERRED);
    WAIT_FOR(claim_host_reported(f, "granted"));
    g_assert_cmpint(claim_starting(f->claim), ==, CLAIM_START_IDLE);
}

static void test_role_is_fixed(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_run_alone(f);
    f->config->role = CONFIG_ROLE_PRIMARY;
    claim_host_restart(f, "beta", FSM_P_ASKING);
    claim_host_start(f);
    WAIT_FOR(claim_host_reported(f, "lost"));
    g_assert_nonnull(strstr(f->trouble, "alpha"));
}

/* An administrator's word needs no storage; it is written when that is there. */
static void test_overrules(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_run_alone(f);
    claim_host_protect(f, S1);
    f->config->overrule = TRUE;
    claim_host_restart(f, "alpha", FSM_P_ASKING);
    claim_host_set_storage(f, FALSE);
    claim_host_start(f);
    WAIT_FOR(claim_host_reported(f, "granted"));
    g_assert_false(claim_is_recorded(f->claim));
    claim_host_set_storage(f, TRUE);
    WAIT_FOR(claim_host_reported(f, "recorded"));
}

/* The first session is on record after its arbiter is this node's, also after a reboot. */
static void test_pin_first(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_run_alone(f);
    g_assert_cmpint(g_rmdir(f->state_dir), ==, 0);
    claim_host_activate(f, S1);
    WAIT_FOR(f->trouble && strstr(f->trouble, "can't remember its arbiter"));
    g_assert_cmpint(claim_recording(f->claim), ==, CLAIM_RECORD_WANTED);
    g_assert_cmpint(g_mkdir(f->state_dir, 0700), ==, 0);
    WAIT_FOR(claim_is_recorded(f->claim));
    g_assert_true(arbiter_is_pinned(claim_arbiter(f->claim)));
}

/* What was written before the session came says nothing of that. */
static void test_written_before(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_run_alone(f);
    g_assert_cmpint(g_rmdir(f->state_dir), ==, 0);
    claim_host_hold(f, HOLD_BEFORE);
    claim_set_generation(f->claim, 5);
    WAIT_FOR(hold_waiting(&claim_storage) > 0);
    claim_host_activate(f, S1);
    claim_host_let_go(f);
    /* The arbiter can't be this node's: that is in turn after the write. */
    WAIT_FOR(f->trouble && strstr(f->trouble, "can't remember its arbiter"));
    g_assert_false(claim_is_recorded(f->claim));
    g_assert_false(claim_host_reported(f, "recorded"));
    g_assert_cmpint(g_mkdir(f->state_dir, 0700), ==, 0);
    WAIT_FOR(claim_is_recorded(f->claim));
}

/* It ends in the middle of everything. */
static void test_freed(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_run_alone(f);
    claim_host_protect(f, S1);
    claim_host_hold(f, HOLD_BEFORE);
    claim_host_feed(f, FSM_LINK_DOWN);
    WAIT_FOR(hold_waiting(&claim_storage) > 0);
}

/* ---- Is it there? ---- */

static void test_watched(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_run_alone(f);
    claim_host_set_storage(f, FALSE);
    WAIT_FOR(claim_host_reported(f, "away"));
    g_assert_nonnull(claim_trouble(f->claim));
    claim_host_set_storage(f, TRUE);
    WAIT_FOR(claim_host_reported(f, "there"));
    g_assert_null(claim_trouble(f->claim));
}

static void test_never_paired(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_set_storage(f, FALSE);
    claim_begin(f->claim, f->state);
    WAIT_FOR(claim_host_reported(f, "lost"));
    g_assert_false(claim_has_begun(f->claim));
}

static void test_waits_for_it(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_run_alone(f);
    claim_host_protect(f, S1);
    claim_host_restart(f, "alpha", FSM_P_ASKING);
    claim_host_set_storage(f, FALSE);
    claim_begin(f->claim, f->state);
    WAIT_FOR(f->trouble && strstr(f->trouble, "waiting for the arbiter"));
    claim_host_set_storage(f, TRUE);
    WAIT_FOR(claim_host_reported(f, "seen"));
}

/* It is there after all, while it is being waited for: it is looked for as ever after that. */
static void test_late_at_first(ClaimHost *f, gconstpointer data)
{
    (void)data;
    claim_host_run_alone(f);
    claim_host_protect(f, S1);
    claim_host_restart(f, "alpha", FSM_P_ASKING);
    claim_host_hold(f, HOLD_BEFORE);
    claim_begin(f->claim, f->state);
    WAIT_FOR(claim_trouble(f->claim));
    claim_host_let_go(f);
    WAIT_FOR(claim_host_reported(f, "seen"));
    claim_host_set_storage(f, FALSE);
    WAIT_FOR(claim_host_reported(f, "away"));
    claim_host_forget(f);
    claim_host_set_storage(f, TRUE);
    WAIT_FOR(claim_host_reported(f, "there"));
}

/* ---- May a VM be handed over to this node? ---- */

/* It has begun, and doesn't look by itself any more. */
static void run_unwatched(ClaimHost *f)
{
    f->config->arbiter_check_ms = 3600 * 1000;
    claim_host_run_alone(f);
}

static void test_approval(ClaimHost *f, gconstpointer data)
{
    (void)data;
    run_unwatched(f);
    f->config->heartbeat_timeout_ms = 300;
    g_assert_false(claim_approves(f->claim));
    claim_want_approval(f->claim);
    g_assert_false(claim_approves(f->claim));
    WAIT_FOR(claim_approves(f->claim));
    /* It is withdrawn when storage hangs, and given by another way to it, while the first still does. */
    hold(&claim_storage, HOLD_BEFORE);
    WAIT_FOR(!claim_approves(f->claim));
    hold(&claim_storage, HOLD_NOT);
    WAIT_FOR(claim_approves(f->claim));
    g_assert_cmpuint(hold_waiting(&claim_storage), >, 0);
    claim_host_set_storage(f, FALSE);
    WAIT_FOR(!claim_approves(f->claim));
    claim_host_set_storage(f, TRUE);
    WAIT_FOR(claim_approves(f->claim));
    claim_end_approval(f->claim);
    g_assert_false(claim_approves(f->claim));
    /* For status the arbiter has more time. */
    g_assert_null(claim_trouble(f->claim));
    claim_host_let_go(f);
}

/* What was asked of storage before is no approval, though it is answered after that. */
static void test_stale_approval(ClaimHost *f, gconstpointer data)
{
    (void)data;
    run_unwatched(f);
    f->config->heartbeat_timeout_ms = 3600 * 1000;
    hold(&claim_storage, HOLD_BEFORE);
    claim_want_approval(f->claim);
    WAIT_FOR(hold_waiting(&claim_storage) == 1);
    claim_end_approval(f->claim);
    claim_want_approval(f->claim);
    hold_end(&claim_storage);
    hold(&claim_storage, HOLD_BEFORE);
    WAIT_FOR(hold_waiting(&claim_storage) == 0);
    WAIT_FOR(hold_waiting(&claim_storage) == 1);
    g_assert_false(claim_approves(f->claim));
    claim_host_let_go(f);
    WAIT_FOR(claim_approves(f->claim));
}

#define ADD(name, data, func)                                                                      \
    g_test_add("/claim/" name, ClaimHost, data, claim_host_set_up, func, claim_host_tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    ADD("granted", NULL, test_granted);
    ADD("denied", NULL, test_denied);
    ADD("deferred", NULL, test_deferred);
    ADD("late-yes", GINT_TO_POINTER(HOLD_BEFORE), test_late_yes);
    ADD("late-yes-was-stored", GINT_TO_POINTER(HOLD_AFTER), test_late_yes);
    ADD("limit", NULL, test_limit);
    ADD("approval", NULL, test_approval);
    ADD("stale-approval", NULL, test_stale_approval);
    ADD("left", NULL, test_left);
    ADD("forced", NULL, test_forced);
    ADD("contradicted", NULL, test_contradicted);
    ADD("forgotten", NULL, test_forgotten);
    ADD("asked-when-handed", NULL, test_asked_when_handed);
    ADD("without-arbiter", NULL, test_without_arbiter);
    ADD("waits", NULL, test_waits);
    ADD("inherits", NULL, test_inherits);
    ADD("after-the-start", NULL, test_after_the_start);
    ADD("returns-at-once", NULL, test_returns_at_once);
    ADD("return-hangs", NULL, test_return_hangs);
    ADD("released", NULL, test_released);
    ADD("start-deferred", NULL, test_start_deferred);
    ADD("role-is-fixed", NULL, test_role_is_fixed);
    ADD("overrules", NULL, test_overrules);
    ADD("pin-first", NULL, test_pin_first);
    ADD("written-before", NULL, test_written_before);
    ADD("freed", NULL, test_freed);
    ADD("watched", NULL, test_watched);
    ADD("never-paired", NULL, test_never_paired);
    ADD("waits-for-it", NULL, test_waits_for_it);
    ADD("late-at-first", NULL, test_late_at_first);
    return g_test_run();
}
