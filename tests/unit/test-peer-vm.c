/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The copy as the primary knows it: every event in every state. */
#include "colo/node/peer-vm.h"

/* In the order of PeerVmEvent: wait, run, loaded, stalled, rebooted, leaves; '.': no sense. */
static const char *const steps[PEER_VMS] = {
    [PEER_VM_PAUSED] = "PL...P",
    [PEER_VM_LOADS] = "PLRSLP",
    [PEER_VM_RUNS] = "PL.SRP",
    [PEER_VM_STALLED] = "PL...P",
};

static void test_steps(void)
{
    for (guint vm = 0; vm < PEER_VMS; vm++)
        for (guint event = 0; event < PEER_VM_EVENTS; event++) {
            PeerVm next = PEER_VMS;
            gboolean can = peer_vm_step(vm, event, &next);
            g_assert_cmpint(can ? "PLRS"[next] : '.', ==, steps[vm][event]);
            g_assert_true(can || next == PEER_VMS);
        }
}

/* A checkpoint, and the end of the session, say all that there is to know: whatever was before. */
static void test_checkpoints(void)
{
    for (guint vm = 0; vm < PEER_VMS; vm++) {
        PeerVm next = PEER_VMS;
        g_assert_true(peer_vm_step(vm, PEER_VM_TO_RUN, &next) && next == PEER_VM_LOADS);
        g_assert_true(peer_vm_step(vm, PEER_VM_TO_WAIT, &next) && next == PEER_VM_PAUSED);
        g_assert_true(peer_vm_step(vm, PEER_VM_LEAVES, &next) && next == PEER_VM_PAUSED);
    }
}

/* Its output is never believed of one that was not told to run; nor of one that doesn't. */
static void test_predicates(void)
{
    for (guint vm = 0; vm < PEER_VMS; vm++) {
        PeerVm next;
        g_assert_true(peer_vm_is_to_run(vm) == peer_vm_step(vm, PEER_VM_HAS_STALLED, &next));
        g_assert_true(peer_vm_is_to_run(vm) == peer_vm_step(vm, PEER_VM_REBOOTED, &next));
        g_assert_true(peer_vm_is_fit(vm) == (vm != PEER_VM_STALLED));
    }
    g_assert_cmpstr(peer_vm_name(PEER_VM_PAUSED), ==, "stands");
    g_assert_cmpstr(peer_vm_name(PEER_VM_LOADS), ==, "loads");
    g_assert_cmpstr(peer_vm_name(PEER_VM_RUNS), ==, "runs");
    g_assert_cmpstr(peer_vm_name(PEER_VM_STALLED), ==, "stalled");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/peer-vm/steps", test_steps);
    g_test_add_func("/peer-vm/checkpoints", test_checkpoints);
    g_test_add_func("/peer-vm/predicates", test_predicates);
    return g_test_run();
}
