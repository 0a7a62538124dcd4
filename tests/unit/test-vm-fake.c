/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The fake VM, and with it the promises of vm/vm.c that every implementation leans on. */
#include "tests/support/fake-vm.h"

#include <string.h>
#include <unistd.h>

#define MIB (1024u * 1024u)

typedef struct {
    unsigned calls, events;
    VmEvent event;
    GError *error;
    GBytes *state;
} Answer;

static void answer_clear(Answer *answer)
{
    g_clear_error(&answer->error);
    g_clear_pointer(&answer->state, g_bytes_unref);
    answer->calls = 0;
}

static void done(Vm *vm, const GError *error, gpointer user_data)
{
    Answer *answer = user_data;
    (void)vm;
    answer->calls++;
    answer->error = error ? g_error_copy(error) : NULL;
}

static void saved(Vm *vm, GBytes *state, const GError *error, gpointer user_data)
{
    Answer *answer = user_data;
    done(vm, error, user_data);
    answer->state = state ? g_bytes_ref(state) : NULL;
}

static void on_event(Vm *vm, VmEvent event, const char *detail, gpointer user_data)
{
    Answer *answer = user_data;
    (void)vm;
    g_assert_nonnull(detail);
    answer->events++;
    answer->event = event;
}

static void wait_for(Answer *answer)
{
    g_assert_cmpuint(answer->calls, ==, 0); /* never from within the call */
    while (!answer->calls)
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpuint(answer->calls, ==, 1);
}

static void expect_ok(Answer *answer)
{
    wait_for(answer);
    g_assert_no_error(answer->error);
    answer->calls = 0;
}

static Vm *new_started(guint64 seed, Answer *answer)
{
    g_autoptr(VmDescription) d = fake_vm_description(2 * MIB, 1);
    VmHandler handler = {on_event, answer};
    Vm *vm = fake_vm_new(d, seed, &handler);
    vm_start(vm, done, answer);
    expect_ok(answer);
    return vm;
}

static void save(Vm *vm, Answer *answer)
{
    answer_clear(answer);
    vm_pause(vm, done, answer);
    expect_ok(answer);
    vm_save_device_state(vm, saved, answer);
    expect_ok(answer);
    g_assert_nonnull(answer->state);
}

static void test_same_seed_same_ram(void)
{
    Answer answer = {0};
    g_autoptr(Vm) a = new_started(7, &answer);
    g_autoptr(Vm) b = new_started(7, &answer);
    g_autoptr(Vm) c = new_started(8, &answer);
    Vm *all[] = {a, b, c};

    for (gsize i = 0; i < G_N_ELEMENTS(all); i++) {
        vm_resume(all[i], done, &answer);
        expect_ok(&answer);
        g_assert_true(vm_is_running(all[i]));
        fake_vm_step(all[i], 100);
    }
    g_assert_cmpuint(fake_vm_ram_digest(a), ==, fake_vm_ram_digest(b));
    g_assert_cmpuint(fake_vm_ram_digest(a), !=, fake_vm_ram_digest(c));
}

static void test_load_checks_ram(void)
{
    Answer pa = {0}, sa = {0};
    g_autoptr(Vm) primary = new_started(1, &pa);
    g_autoptr(Vm) secondary = new_started(2, &sa);

    vm_resume(primary, done, &pa);
    expect_ok(&pa);
    fake_vm_step(primary, 500);
    save(primary, &pa);

    vm_load_device_state(secondary, pa.state, done, &sa);
    wait_for(&sa);
    g_assert_error(sa.error, VM_ERROR, VM_ERROR_DEVICE_STATE);
    answer_clear(&sa);
    vm_resume(secondary, done, &sa);
    wait_for(&sa);
    g_assert_error(sa.error, VM_ERROR, VM_ERROR_QMP); /* a failed load destroys */
    answer_clear(&sa);

    memcpy(vm_ram(secondary)->base, vm_ram(primary)->base, 2 * MIB);
    fake_vm_set_load_writes(secondary, 3);
    vm_load_device_state(secondary, pa.state, done, &sa);
    expect_ok(&sa);
    g_assert_cmpuint(fake_vm_steps(secondary), ==, 500);
    g_assert_cmpuint(fake_vm_ram_digest(secondary), !=, fake_vm_ram_digest(primary));
    memcpy(vm_ram(secondary)->base, vm_ram(primary)->base, 2 * MIB);

    vm_resume(primary, done, &pa);
    expect_ok(&pa);
    vm_resume(secondary, done, &sa);
    expect_ok(&sa);
    fake_vm_step(primary, 200);
    fake_vm_step(secondary, 200);
    g_assert_cmpuint(fake_vm_ram_digest(secondary), ==, fake_vm_ram_digest(primary));
    answer_clear(&pa);
    answer_clear(&sa);
}

static void test_damaged_state(void)
{
    Answer answer = {0};
    g_autoptr(Vm) vm = new_started(1, &answer);
    save(vm, &answer);
    gsize len;
    const guint8 *bytes = g_bytes_get_data(answer.state, &len);
    g_autofree guint8 *copy = g_memdup2(bytes, len);
    copy[len / 2] ^= 1;
    g_autoptr(GBytes) damaged = g_bytes_new(copy, len);
    vm_load_device_state(vm, damaged, done, &answer);
    wait_for(&answer);
    g_assert_error(answer.error, VM_ERROR, VM_ERROR_DEVICE_STATE);
    answer_clear(&answer);
}

static void test_faults(void)
{
    static const struct {
        FakeVmFault fault;
        int code;
    } table[] = {
        {FAKE_VM_DIE,     VM_ERROR_DIED   },
        {FAKE_VM_FAIL,    VM_ERROR_QMP    },
        {FAKE_VM_TIMEOUT, VM_ERROR_TIMEOUT}
    };

    for (gsize i = 0; i < G_N_ELEMENTS(table); i++) {
        Answer answer = {0};
        g_autoptr(Vm) vm = new_started(1, &answer);
        fake_vm_inject(vm, FAKE_VM_SAVE, table[i].fault, 2);
        save(vm, &answer);
        answer_clear(&answer);
        vm_save_device_state(vm, saved, &answer);
        wait_for(&answer);
        g_assert_error(answer.error, VM_ERROR, table[i].code);
        g_assert_null(answer.state);
        answer_clear(&answer);
        vm_pause(vm, done, &answer);
        wait_for(&answer);
        g_assert_cmpint(answer.error ? answer.error->code : -1, ==,
                        table[i].fault == FAKE_VM_DIE ? VM_ERROR_DIED : -1);
        g_assert_cmpuint(answer.events, ==, 0);
        answer_clear(&answer);
    }
}

static void test_held_and_killed(void)
{
    Answer answer = {0};
    g_autoptr(Vm) vm = new_started(1, &answer);

    fake_vm_inject(vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    vm_pause(vm, done, &answer);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    g_assert_cmpuint(answer.calls, ==, 0);
    g_assert_true(fake_vm_is_held(vm));
    fake_vm_proceed(vm);
    g_assert_cmpuint(answer.calls, ==, 1);
    g_assert_no_error(answer.error);
    answer_clear(&answer);

    fake_vm_inject(vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    vm_pause(vm, done, &answer);
    vm_kill(vm);
    wait_for(&answer);
    g_assert_error(answer.error, VM_ERROR, VM_ERROR_DIED);
    g_assert_nonnull(vm_ram(vm)->base);
    answer_clear(&answer);
}

/* Whatever is under way, or already on its way: nothing comes. */
static void test_abandoned(void)
{
    static const FakeVmFault faults[] = {FAKE_VM_OK, FAKE_VM_FAIL, FAKE_VM_HOLD};
    for (gsize i = 0; i < G_N_ELEMENTS(faults); i++) {
        Answer answer = {0};
        g_autoptr(Vm) vm = new_started(1, &answer);
        answer_clear(&answer);
        fake_vm_inject(vm, FAKE_VM_PAUSE, faults[i], 1);
        vm_pause(vm, done, &answer);
        vm_abandon(vm);
        while (g_main_context_iteration(NULL, FALSE))
            ;
        fake_vm_raise(vm, VM_EVENT_SHUTDOWN, "late");
        g_assert_false(vm_is_running(vm));
        g_assert_nonnull(vm_ram(vm)->base);
        vm_free(g_steal_pointer(&vm));
        g_assert_cmpuint(answer.calls + answer.events, ==, 0);
    }
}

static void test_free_answers(void)
{
    Answer answer = {0};
    Vm *vm = new_started(1, &answer);

    vm_pause(vm, done, &answer); /* would succeed */
    vm_free(vm);
    g_assert_cmpuint(answer.calls, ==, 1);
    g_assert_error(answer.error, VM_ERROR, VM_ERROR_DIED);
    answer_clear(&answer);
    vm_free(NULL);
}

static void test_death_is_an_event(void)
{
    Answer answer = {0};
    g_autoptr(Vm) vm = new_started(1, &answer);

    vm_resume(vm, done, &answer);
    expect_ok(&answer);
    fake_vm_die(vm);
    g_assert_cmpuint(answer.events, ==, 1);
    g_assert_cmpint(answer.event, ==, VM_EVENT_DIED);
    g_assert_false(vm_is_running(vm));
    vm_resume(vm, done, &answer);
    wait_for(&answer);
    g_assert_error(answer.error, VM_ERROR, VM_ERROR_DIED);
    answer_clear(&answer);
}

static void test_frames(void)
{
    Answer answer = {0};
    g_autoptr(Vm) vm = new_started(1, &answer);
    static const guint8 wire[] = {0, 0, 0, 13, 0, 0, 0, 12, 0, 0,  0,
                                  0, 0, 0, 0,  0, 0, 0, 0,  0, 'x'};
    guint8 got[64];

    fake_vm_send_frame(vm, 0, "x", 1);
    g_assert_cmpint(read(vm_nic_fd(vm, 0), got, sizeof(got)), ==, sizeof(wire));
    g_assert_cmpmem(got, sizeof(wire), wire, sizeof(wire));
    g_assert_cmpint(write(vm_nic_fd(vm, 0), wire, 20), ==, 20);
    g_assert_null(fake_vm_receive_frame(vm, 0));
    g_assert_cmpint(write(vm_nic_fd(vm, 0), wire + 20, 1), ==, 1);
    g_autoptr(GBytes) frame = fake_vm_receive_frame(vm, 0);
    g_assert_cmpmem(g_bytes_get_data(frame, NULL), g_bytes_get_size(frame), "x", 1);
}

static Vm *start_with_cached_disk(Answer *answer)
{
    g_autoptr(VmDescription) d = fake_vm_description(MIB, 0);
    VmDisk *disk = vm_description_add_disk(d, "vda");
    disk->path = g_strdup("/none");
    disk->format = VM_DISK_QCOW2;
    Vm *vm = fake_vm_new(d, 1, NULL);
    vm_start(vm, done, answer);
    expect_ok(answer);
    return vm;
}

/* QEMU aborts when it is told twice to inactivate its disks, also after a try that has failed. */
static void test_inactivate_once(void)
{
    Answer answer = {0};
    g_autoptr(Vm) vm = start_with_cached_disk(&answer);
    g_assert_cmpint(vm_disks(vm), ==, VM_DISKS_ACTIVE);
    vm_inactivate_disks(vm, FALSE, done, &answer);
    g_assert_cmpint(vm_disks(vm), ==, VM_DISKS_UNKNOWN);
    expect_ok(&answer);
    g_assert_cmpint(vm_disks(vm), ==, VM_DISKS_INACTIVE);
    vm_inactivate_disks(vm, FALSE, done, &answer);
    expect_ok(&answer);
    g_assert_cmpuint(fake_vm_count(vm, FAKE_VM_INACTIVATE), ==, 1);
    fake_vm_refuse(vm, FAKE_VM_RESUME, TRUE);
    vm_resume(vm, done, &answer);
    wait_for(&answer);
    g_assert_error(answer.error, VM_ERROR, VM_ERROR_QMP);
    answer_clear(&answer);
    g_assert_cmpint(vm_disks(vm), ==, VM_DISKS_UNKNOWN);
    /* It may have activated some: neither inactive, nor to be told so. */
    vm_inactivate_disks(vm, FALSE, done, &answer);
    wait_for(&answer);
    g_assert_error(answer.error, VM_ERROR, VM_ERROR_SPENT);
    answer_clear(&answer);
    g_assert_cmpuint(fake_vm_count(vm, FAKE_VM_INACTIVATE), ==, 1);
}

static void test_inactivate_fails(void)
{
    Answer answer = {0};
    g_autoptr(Vm) vm = start_with_cached_disk(&answer);
    static const VmError codes[] = {VM_ERROR_QMP, VM_ERROR_SPENT};
    fake_vm_inject(vm, FAKE_VM_INACTIVATE, FAKE_VM_FAIL, 1);
    for (int i = 0; i < 2; i++) {
        vm_inactivate_disks(vm, FALSE, done, &answer);
        wait_for(&answer);
        g_assert_true(g_error_matches(answer.error, VM_ERROR, codes[i]));
        answer_clear(&answer);
    }
    g_assert_cmpuint(fake_vm_count(vm, FAKE_VM_INACTIVATE), ==, 1);
    vm_resume(vm, done, &answer);
    expect_ok(&answer);
    g_assert_cmpint(vm_disks(vm), ==, VM_DISKS_ACTIVE);
    vm_pause(vm, done, &answer);
    expect_ok(&answer);
    vm_inactivate_disks(vm, FALSE, done, &answer);
    expect_ok(&answer);
    g_assert_cmpuint(fake_vm_count(vm, FAKE_VM_INACTIVATE), ==, 2);
}

/* A disk that QEMU could not open again is gone, though it would run the VM when it is told to next. */
static void test_disk_is_lost(void)
{
    Answer answer = {0};
    g_autoptr(Vm) vm = start_with_cached_disk(&answer);
    vm_inactivate_disks(vm, FALSE, done, &answer);
    expect_ok(&answer);
    fake_vm_inject(vm, FAKE_VM_RESUME, FAKE_VM_SPEND, 1);
    for (int i = 0; i < 3; i++) {
        vm_resume(vm, done, &answer);
        wait_for(&answer);
        g_assert_error(answer.error, VM_ERROR, VM_ERROR_SPENT);
        answer_clear(&answer);
        g_assert_false(vm_is_running(vm));
        g_assert_cmpint(vm_disks(vm), ==, VM_DISKS_UNKNOWN);
    }
    g_assert_cmpuint(fake_vm_count(vm, FAKE_VM_RESUME), ==, 1);
}

/* QEMU caches nothing of raw disks: it gives them up without an order. */
static void test_inactivate_raw(void)
{
    Answer answer = {0};
    g_autoptr(VmDescription) d = fake_vm_description(1 << 20, 0);
    VmDisk *disk = vm_description_add_disk(d, "vda");
    disk->path = g_strdup("/none");
    g_autoptr(Vm) vm = fake_vm_new(d, 1, NULL);
    vm_start(vm, done, &answer);
    expect_ok(&answer);
    vm_inactivate_disks(vm, FALSE, done, &answer);
    expect_ok(&answer);
    g_assert_cmpint(vm_disks(vm), ==, VM_DISKS_INACTIVE);
    g_assert_cmpuint(fake_vm_count(vm, FAKE_VM_INACTIVATE), ==, 0);
    /* So it has not opened them anew, either, when it refuses to run the VM. */
    fake_vm_inject(vm, FAKE_VM_RESUME, FAKE_VM_FAIL, 1);
    vm_resume(vm, done, &answer);
    wait_for(&answer);
    g_assert_error(answer.error, VM_ERROR, VM_ERROR_QMP);
    answer_clear(&answer);
    vm_inactivate_disks(vm, FALSE, done, &answer);
    expect_ok(&answer);
    vm_resume(vm, done, &answer);
    expect_ok(&answer);
    g_assert_cmpint(vm_disks(vm), ==, VM_DISKS_ACTIVE);
}

static void test_autorun(void)
{
    Answer answer = {0};
    g_autoptr(Vm) vm = new_started(1, &answer);

    fake_vm_autorun(vm, 1, 5);
    vm_resume(vm, done, &answer);
    expect_ok(&answer);
    while (fake_vm_steps(vm) < 20)
        g_main_context_iteration(NULL, TRUE);
}

static void note_guest(FakeVmGuest guest, gpointer user_data)
{
    g_string_append_c(user_data, "gsr"[guest]);
}

/* What the guest does is told as it changes, and not what was to change and has not. */
static void test_guest(void)
{
    Answer answer = {0};
    g_autoptr(GString) told = g_string_new(NULL);
    g_autoptr(VmDescription) d = fake_vm_description(2 * MIB, 1);
    Vm *vm = fake_vm_new(d, 1, NULL);
    fake_vm_on_guest(vm, note_guest, told);
    vm_start(vm, done, &answer);
    expect_ok(&answer);
    vm_resume(vm, done, &answer);
    expect_ok(&answer);
    fake_vm_inject(vm, FAKE_VM_PAUSE, FAKE_VM_FAIL, 1);
    vm_pause(vm, done, &answer);
    wait_for(&answer);
    answer_clear(&answer);
    g_assert_cmpstr(told->str, ==, "sr");
    vm_pause(vm, done, &answer);
    expect_ok(&answer);
    vm_resume(vm, done, &answer);
    expect_ok(&answer);
    fake_vm_die(vm);
    vm_free(vm);
    g_assert_cmpstr(told->str, ==, "srsrg");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vm/fake/same-seed-same-ram", test_same_seed_same_ram);
    g_test_add_func("/vm/fake/load-checks-ram", test_load_checks_ram);
    g_test_add_func("/vm/fake/damaged-state", test_damaged_state);
    g_test_add_func("/vm/fake/faults", test_faults);
    g_test_add_func("/vm/fake/held-and-killed", test_held_and_killed);
    g_test_add_func("/vm/fake/abandoned", test_abandoned);
    g_test_add_func("/vm/fake/free-answers", test_free_answers);
    g_test_add_func("/vm/fake/death-is-an-event", test_death_is_an_event);
    g_test_add_func("/vm/fake/frames", test_frames);
    g_test_add_func("/vm/fake/inactivate-once", test_inactivate_once);
    g_test_add_func("/vm/fake/inactivate-fails", test_inactivate_fails);
    g_test_add_func("/vm/fake/disk-is-lost", test_disk_is_lost);
    g_test_add_func("/vm/fake/inactivate-raw", test_inactivate_raw);
    g_test_add_func("/vm/fake/autorun", test_autorun);
    g_test_add_func("/vm/fake/guest", test_guest);
    return g_test_run();
}
