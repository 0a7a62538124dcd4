/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef COLO_COLO_NODE_RESUME_H
#define COLO_COLO_NODE_RESUME_H

#include "vm/vm.h"

/* Whether an error of the VM or its disks may pass: QEMU is neither dead nor hanging. */
static inline gboolean resume_may_pass(const GError *error)
{
    return !g_error_matches(error, VM_ERROR, VM_ERROR_DIED) &&
           !g_error_matches(error, VM_ERROR, VM_ERROR_TIMEOUT);
}

#endif
