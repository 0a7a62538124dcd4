/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a node of a VM without disks notes of what it has not run, as it takes that over. */
#include "common/log.h"
#include "tests/support/claim-host.h"
#include "tests/support/wait.h"

/* A secondary of a VM without disks takes it over, and has noted that it has not run it. */
static char *take_noted(ClaimHost *f)
{
    char *note = g_build_filename(f->state_dir, "unrun", NULL);
    claim_host_become_secondary(f);
    WAIT_FOR(g_file_test(note, G_FILE_TEST_EXISTS) && claim_noting(f->claim) == CLAIM_NOTE_THERE);
    claim_host_feed(f, FSM_HANDED);
    claim_host_feed(f, FSM_VM_FIT);
    WAIT_FOR(f->state == FSM_S_TAKING);
    claim_host_forget(f);
    claim_begin_take(f->claim);
    g_assert_true(claim_holds_output(f->claim));
    g_assert_false(claim_take(f->claim));
    g_assert_true(claim_holds_output(f->claim));
    return note;
}

/* The VM runs, and is given back before anybody has heard it: started again, this node must know. */
static void test_noted_again(ClaimHost *f, gconstpointer data)
{
    g_autofree char *note = take_noted(f);
    (void)data;
    WAIT_FOR(claim_host_reported(f, "taken"));
    g_assert_false(claim_holds_output(f->claim) || g_file_test(note, G_FILE_TEST_EXISTS));
    claim_host_feed(f, FSM_HAND_OVER_FAILED);
    WAIT_FOR(g_file_test(note, G_FILE_TEST_EXISTS));
    WAIT_FOR(claim_noting(f->claim) == CLAIM_NOTE_THERE);
}

/* Before the note was removed: nobody waits for that any more. */
static void test_noted_still(ClaimHost *f, gconstpointer data)
{
    g_autofree char *note = take_noted(f);
    (void)data;
    claim_host_feed(f, FSM_HAND_OVER_FAILED);
    g_assert_false(claim_holds_output(f->claim));
    WAIT_FOR(claim_noting(f->claim) == CLAIM_NOTE_THERE && g_file_test(note, G_FILE_TEST_EXISTS));
    g_assert_false(claim_host_reported(f, "taken"));
}

/* What was granted is the primary's if this node ends before the VM may be heard, and not after that. */
static void test_conceded_unheard(ClaimHost *f, gconstpointer data)
{
    g_autofree char *note = take_noted(f);
    (void)data;
    g_assert_true(claim_concede(f->claim));
    WAIT_FOR(claim_host_reported(f, "taken"));
    g_assert_false(claim_concede(f->claim));
}

#define ADD(name, func)                                                                            \
    g_test_add("/claim-unrun/" name, ClaimHost, NULL, claim_host_set_up, func, claim_host_tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    ADD("noted-again", test_noted_again);
    ADD("noted-still", test_noted_still);
    ADD("conceded-unheard", test_conceded_unheard);
    return g_test_run();
}
