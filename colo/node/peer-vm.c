/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/peer-vm.h"

/* 0: it makes no sense. */
#define TO(name) (PEER_VM_##name + 1)
#define CHECKPOINTS                                                                                \
    [PEER_VM_TO_WAIT] = TO(PAUSED), [PEER_VM_TO_RUN] = TO(LOADS), [PEER_VM_LEAVES] = TO(PAUSED)

/* clang-format off */
static const guint8 table[PEER_VMS][PEER_VM_EVENTS] = {
    [PEER_VM_PAUSED] = {
        CHECKPOINTS,
    },
    [PEER_VM_LOADS] = {
        CHECKPOINTS,
        [PEER_VM_LOADED]      = TO(RUNS),
        [PEER_VM_HAS_STALLED] = TO(STALLED),
        [PEER_VM_REBOOTED]    = TO(LOADS),
    },
    [PEER_VM_RUNS] = {
        CHECKPOINTS,
        [PEER_VM_HAS_STALLED] = TO(STALLED),
        [PEER_VM_REBOOTED]    = TO(RUNS),
    },
    [PEER_VM_STALLED] = {
        CHECKPOINTS,
    },
};
/* clang-format on */

gboolean peer_vm_step(PeerVm vm, PeerVmEvent event, PeerVm *ret_next)
{
    g_assert((guint)vm < PEER_VMS && (guint)event < PEER_VM_EVENTS);
    if (!table[vm][event])
        return FALSE;
    *ret_next = (PeerVm)(table[vm][event] - 1);
    return TRUE;
}

gboolean peer_vm_is_to_run(PeerVm vm)
{
    return vm == PEER_VM_LOADS || vm == PEER_VM_RUNS;
}

gboolean peer_vm_is_fit(PeerVm vm)
{
    return vm != PEER_VM_STALLED;
}

const char *peer_vm_name(PeerVm vm)
{
    static const char *const names[PEER_VMS] = {
        [PEER_VM_PAUSED] = "stands",
        [PEER_VM_LOADS] = "loads",
        [PEER_VM_RUNS] = "runs",
        [PEER_VM_STALLED] = "stalled",
    };
    return names[vm];
}
