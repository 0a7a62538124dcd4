/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Operations on a Vm as a test likes them: each runs the main loop until it has been answered. */
#ifndef COLO_TESTS_VM_WAIT_H
#define COLO_TESTS_VM_WAIT_H

#include "vm/vm.h"

/* FALSE with the operation's error. */
gboolean vm_wait_start(Vm *vm, GError **error);
gboolean vm_wait_pause(Vm *vm, GError **error);
gboolean vm_wait_resume(Vm *vm, GError **error);
GBytes *vm_wait_save(Vm *vm, GError **error);
gboolean vm_wait_load(Vm *vm, GBytes *state, GError **error);
gboolean vm_wait_inactivate(Vm *vm, gboolean of_copy, GError **error);

#endif
