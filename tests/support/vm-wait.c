/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/vm-wait.h"

typedef struct {
    gboolean answered;
    GBytes *state;
    GError *error;
} Wait;

static void done(Vm *vm, const GError *error, gpointer user_data)
{
    Wait *wait = user_data;
    (void)vm;
    g_assert_false(wait->answered);
    wait->answered = TRUE;
    wait->error = error ? g_error_copy(error) : NULL;
}

static void saved(Vm *vm, GBytes *state, const GError *error, gpointer user_data)
{
    Wait *wait = user_data;
    done(vm, error, user_data);
    wait->state = state ? g_bytes_ref(state) : NULL;
}

static gboolean wait_for(Wait *wait, GError **error)
{
    while (!wait->answered)
        g_main_context_iteration(NULL, TRUE);
    if (!wait->error)
        return TRUE;
    g_propagate_error(error, wait->error);
    return FALSE;
}

gboolean vm_wait_start(Vm *vm, GError **error)
{
    Wait wait = {0};
    vm_start(vm, done, &wait);
    return wait_for(&wait, error);
}

gboolean vm_wait_pause(Vm *vm, GError **error)
{
    Wait wait = {0};
    vm_pause(vm, done, &wait);
    return wait_for(&wait, error);
}

gboolean vm_wait_resume(Vm *vm, GError **error)
{
    Wait wait = {0};
    vm_resume(vm, done, &wait);
    return wait_for(&wait, error);
}

GBytes *vm_wait_save(Vm *vm, GError **error)
{
    Wait wait = {0};
    vm_save_device_state(vm, saved, &wait);
    return wait_for(&wait, error) ? wait.state : NULL;
}

gboolean vm_wait_load(Vm *vm, GBytes *state, GError **error)
{
    Wait wait = {0};
    vm_load_device_state(vm, state, done, &wait);
    return wait_for(&wait, error);
}

gboolean vm_wait_inactivate(Vm *vm, gboolean of_copy, GError **error)
{
    Wait wait = {0};
    vm_inactivate_disks(vm, of_copy, done, &wait);
    return wait_for(&wait, error);
}
