/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VM's process as a node's part: its start, the signs of its end, RAM that outlives it. */
#include "colo/node/machine.h"

#include "colo/node/node.h"
#include "common/log.h"
#include "tests/support/fake-vm.h"
#include "tests/support/turned-clock.h"

#include <string.h>

/* How long QEMU's end may take to follow the first sign of it. */
#define ENDING_MS 200

#define RAM_BYTES (1024 * 1024)

typedef struct {
    VmDescription *description;
    Config config;
    Machine *machine;
    gboolean cannot_start;
    guint made, started, events;
    VmEvent event; /* the last one */
    guint n_lost;
    char *lost;
} Fixture;

static Vm *on_make(const VmHandler *handler, gpointer user_data)
{
    Fixture *f = user_data;
    Vm *vm = fake_vm_new(f->description, 1, handler);
    f->made++;
    if (f->cannot_start)
        fake_vm_inject(vm, FAKE_VM_START, FAKE_VM_FAIL, 1);
    return vm;
}

static void on_started(gpointer user_data)
{
    Fixture *f = user_data;
    f->started++;
}

static void on_event(VmEvent event, const char *detail, gpointer user_data)
{
    Fixture *f = user_data;
    (void)detail;
    f->event = event;
    f->events++;
}

/* Like a node: the VM that is lost is ended at once. */
static void on_lost(const char *what, const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    g_free(f->lost);
    f->lost = g_strdup_printf("%s: %s", what, error->message);
    f->n_lost++;
    machine_kill(f->machine);
    machine_drop(f->machine, TRUE);
}

static void set_up(Fixture *f, gconstpointer data)
{
    static const MachineHandler handler = {
        .make = on_make, .started = on_started, .event = on_event, .lost = on_lost};
    (void)data;
    f->description = fake_vm_description(RAM_BYTES, 1);
    f->config.dirty_method = CONFIG_DIRTY_COMPARE; /* which each kernel has */
    f->machine = machine_new(&f->config, &handler, f);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    machine_free(f->machine);
    vm_description_free(f->description);
    g_free(f->lost);
}

static void start(Fixture *f, gboolean is_copy)
{
    guint before = f->started;
    machine_start(f->machine, is_copy);
    turned_clock_pass_ms(0);
    g_assert_cmpuint(f->started, ==, before + 1);
}

static void end(Fixture *f, gboolean keep_ram)
{
    machine_kill(f->machine);
    machine_drop(f->machine, keep_ram);
}

static void sign(Fixture *f, const char *what)
{
    g_autoptr(GError) error = g_error_new_literal(VM_ERROR, VM_ERROR_DIED, "closed");
    machine_expect_end(f->machine, what, error);
}

/* ---- The start ---- */

static void test_start(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_null(machine_vm(f->machine));
    g_assert_null(machine_identity(f->machine));
    machine_start(f->machine, FALSE);
    g_assert_nonnull(machine_vm(f->machine));
    g_assert_null(machine_tracker(f->machine));
    g_assert_cmpuint(f->started, ==, 0);
    turned_clock_pass_ms(0);
    g_assert_cmpuint(f->started, ==, 1);
    g_assert_nonnull(machine_tracker(f->machine));
    g_assert_false(vm_is_running(machine_vm(f->machine)));
    end(f, FALSE);
    g_assert_null(machine_vm(f->machine));
    g_assert_null(machine_tracker(f->machine));
    /* Hellos need it also while no VM is there. */
    g_assert_nonnull(machine_identity(f->machine));
    g_assert_cmpuint(f->n_lost, ==, 0);
}

static void test_not_started(Fixture *f, gconstpointer data)
{
    (void)data;
    f->cannot_start = TRUE;
    machine_start(f->machine, FALSE);
    turned_clock_pass_ms(1000);
    g_assert_cmpuint(f->started, ==, 0);
    g_assert_cmpuint(f->n_lost, ==, 1);
    g_assert_true(g_str_has_prefix(f->lost, "the VM can't be started: "));
}

/* ---- What QEMU reports ---- */

static void test_events(Fixture *f, gconstpointer data)
{
    (void)data;
    start(f, FALSE);
    fake_vm_raise(machine_vm(f->machine), VM_EVENT_STOPPED, "io-error");
    turned_clock_pass_ms(0);
    g_assert_cmpuint(f->events, ==, 1);
    g_assert_cmpint(f->event, ==, VM_EVENT_STOPPED);
    fake_vm_die(machine_vm(f->machine));
    turned_clock_pass_ms(0);
    g_assert_cmpuint(f->events, ==, 1);
    g_assert_cmpuint(f->n_lost, ==, 1);
    g_assert_true(g_str_has_prefix(f->lost, "the VM's process has ended: "));
}

/* Also an order that was under way ends without a word. */
static void on_paused(Vm *vm, const GError *error, gpointer user_data)
{
    (void)vm;
    (void)error;
    (void)user_data;
    g_assert_not_reached();
}

static void test_killed(Fixture *f, gconstpointer data)
{
    (void)data;
    start(f, FALSE);
    sign(f, "a card");
    vm_pause(machine_vm(f->machine), on_paused, f);
    fake_vm_raise(machine_vm(f->machine), VM_EVENT_RESET, NULL);
    machine_kill(f->machine);
    g_assert_null(machine_ending_sign(f->machine));
    turned_clock_pass_ms(2 * ENDING_MS);
    g_assert_cmpuint(f->n_lost, ==, 0);
    /* The engines still use its RAM. */
    g_assert_nonnull(vm_ram(machine_vm(f->machine)));
    g_assert_nonnull(machine_tracker(f->machine));
}

/* ---- The end that is expected ---- */

/* The process says better than the sign how it has ended. */
static void test_sign_then_death(Fixture *f, gconstpointer data)
{
    (void)data;
    start(f, FALSE);
    sign(f, "a card");
    sign(f, "its memory");
    g_assert_nonnull(machine_ending_sign(f->machine));
    turned_clock_pass_ms(ENDING_MS - 1);
    g_assert_cmpuint(f->n_lost, ==, 0);
    fake_vm_die(machine_vm(f->machine));
    turned_clock_pass_ms(2 * ENDING_MS);
    g_assert_cmpuint(f->n_lost, ==, 1);
    g_assert_true(g_str_has_prefix(f->lost, "the VM's process has ended: "));
}

static void test_sign_alone(Fixture *f, gconstpointer data)
{
    (void)data;
    start(f, FALSE);
    sign(f, "a card");
    turned_clock_pass_ms(ENDING_MS / 2);
    sign(f, "its memory");
    turned_clock_pass_ms(ENDING_MS / 2 - 1);
    g_assert_cmpuint(f->n_lost, ==, 0);
    turned_clock_pass_ms(1);
    g_assert_cmpuint(f->n_lost, ==, 1);
    g_assert_cmpstr(f->lost, ==, "the VM is lost: a card: closed");
    g_assert_null(machine_ending_sign(f->machine));
    /* It is none of the next VM, nor of no VM. */
    sign(f, "a card");
    g_assert_null(machine_ending_sign(f->machine));
    start(f, FALSE);
    turned_clock_pass_ms(2 * ENDING_MS);
    g_assert_cmpuint(f->n_lost, ==, 1);
}

/* ---- RAM that outlives its VM ---- */

static guint8 *ram(const Fixture *f)
{
    return vm_ram(machine_vm(f->machine))->base;
}

static void test_kept_for_a_copy(Fixture *f, gconstpointer data)
{
    (void)data;
    start(f, TRUE);
    memset(ram(f), 0xC0, RAM_BYTES);
    end(f, TRUE);
    start(f, TRUE);
    g_assert_cmphex(ram(f)[RAM_BYTES - 1], ==, 0xC0);
    /* Its own takes the place of it. */
    memset(ram(f), 0xC1, RAM_BYTES);
    end(f, TRUE);
    start(f, TRUE);
    g_assert_cmphex(ram(f)[0], ==, 0xC1);
}

/* A VM that boots finds its RAM empty, and what was kept is gone then. */
static void test_not_kept_for_a_boot(Fixture *f, gconstpointer data)
{
    (void)data;
    start(f, TRUE);
    memset(ram(f), 0xC0, RAM_BYTES);
    end(f, TRUE);
    start(f, FALSE);
    g_assert_cmphex(ram(f)[0], ==, 0);
    end(f, FALSE);
    start(f, TRUE);
    g_assert_cmphex(ram(f)[0], ==, 0);
}

static void test_not_kept_at_the_end(Fixture *f, gconstpointer data)
{
    (void)data;
    start(f, TRUE);
    memset(ram(f), 0xC0, RAM_BYTES);
    end(f, FALSE);
    start(f, TRUE);
    g_assert_cmphex(ram(f)[0], ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_set_level(LOG_LEVEL_ERROR);
#define ADD(path, function) g_test_add("/machine/" path, Fixture, NULL, set_up, function, tear_down)
    ADD("start", test_start);
    ADD("not-started", test_not_started);
    ADD("events", test_events);
    ADD("killed", test_killed);
    ADD("sign-then-death", test_sign_then_death);
    ADD("sign-alone", test_sign_alone);
    ADD("kept-for-a-copy", test_kept_for_a_copy);
    ADD("not-kept-for-a-boot", test_not_kept_for_a_boot);
    ADD("not-kept-at-the-end", test_not_kept_at_the_end);
    return g_test_run();
}
