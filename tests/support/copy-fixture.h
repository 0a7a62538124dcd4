/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A copy alone: a VM without QEMU, a guard of RAM without a thread, and a handler that writes down
 * what it is told, in its order. The orders to the VM ("vm-...") and to the guard are among that.
 * The fixture stands in for the guard and the checkpoints, and turns the clock: include it in the
 * one source file of a test program.
 */
#ifndef COLO_TESTS_SUPPORT_COPY_FIXTURE_H
#define COLO_TESTS_SUPPORT_COPY_FIXTURE_H

#include "colo/node/copy.h"
#include "colo/node/node.h"
#include "tests/support/fake-vm.h"
#include "tests/support/guard-by-hand.h"
#include "tests/support/turned-clock.h"

#include <string.h>

#define RAM_PAGES 256u

typedef struct {
    Copy *copy;
    VmDescription *description;
    Vm *vm;
    GBytes *state; /* of the VM, which never runs a step: it fits each checkpoint */
    CopyWorld world;
    OptionalEpoch session_epoch; /* of the checkpoint received last */

    gboolean cant_enter, cant_run, cant_prove;
    gboolean unread;         /* input, by QEMU */
    gboolean no_room, fills; /* the link; each part fills it */
    PageSet *dirty;          /* what the primary was told */
    gboolean ends_vm;        /* what is lost ends at once */
    guint rests;

    unsigned noted[FAKE_VM_OPERATIONS];
    GString *reported;
} Fixture;

/* ---- What is told ---- */

/* What the VM was ordered since the last time. */
static inline void note_orders(Fixture *f)
{
    static const char *const names[FAKE_VM_OPERATIONS] = {[FAKE_VM_PAUSE] = "vm-pause",
                                                          [FAKE_VM_RESUME] = "vm-resume",
                                                          [FAKE_VM_LOAD] = "vm-load",
                                                          [FAKE_VM_INACTIVATE] = "vm-inactivate"};
    guint orders = 0;
    for (guint i = 0; f->vm && i < FAKE_VM_OPERATIONS; i++)
        for (; f->noted[i] < fake_vm_count(f->vm, i); f->noted[i]++) {
            if (!names[i])
                continue;
            /* The order of others would not be known. It gives its disks up when it is paused. */
            g_assert_true(orders++ == 0 || i == FAKE_VM_INACTIVATE);
            g_string_append_printf(f->reported, "%s%s", f->reported->len > 0 ? " " : "", names[i]);
        }
}

G_GNUC_PRINTF(2, 3) static inline void report(Fixture *f, const char *format, ...)
{
    va_list arguments;
    note_orders(f);
    if (f->reported->len > 0)
        g_string_append_c(f->reported, ' ');
    va_start(arguments, format);
    g_string_append_vprintf(f->reported, format, arguments);
    va_end(arguments);
}

static inline void forget_reported(Fixture *f)
{
    turned_clock_settle();
    note_orders(f);
    g_string_truncate(f->reported, 0);
}

/* Until nothing is left to do. */
#define assert_reported(f, what)                                                                   \
    do {                                                                                           \
        turned_clock_settle();                                                                     \
        note_orders(f);                                                                            \
        g_assert_cmpstr((f)->reported->str, ==, what);                                             \
        g_string_truncate((f)->reported, 0);                                                       \
    } while (0)

/* RAM is looked at, and changed, only while nobody writes to it. */
static void on_guard_order(const char *order, gpointer user_data)
{
    const Fixture *f = user_data;
    g_assert_false(vm_is_running(f->vm));
    report(user_data, "%s", order);
}

/* ---- Checkpoints ---- */

/* The node would bring the engines along, and with them the real ones. */
G_DEFINE_QUARK(node_error, node_error)

typedef struct {
    Checkpoint checkpoint;
    guint references;
} CountedCheckpoint;

static guint checkpoints; /* that are left */

Checkpoint *checkpoint_ref(Checkpoint *checkpoint)
{
    ((CountedCheckpoint *)checkpoint)->references++;
    return checkpoint;
}

void checkpoint_unref(Checkpoint *checkpoint)
{
    if (!checkpoint || --((CountedCheckpoint *)checkpoint)->references > 0)
        return;
    g_bytes_unref(checkpoint->device_state);
    g_free(checkpoint);
    checkpoints--;
}

static inline Checkpoint *checkpoint_new(Fixture *f, guint64 epoch)
{
    CountedCheckpoint *counted = g_new0(CountedCheckpoint, 1);
    counted->checkpoint.epoch = epoch;
    counted->checkpoint.device_state = g_bytes_ref(f->state);
    counted->references = 1;
    checkpoints++;
    return &counted->checkpoint;
}

/* ---- The end of the VM ---- */

/* As node.c ends one: nothing that was under way is reported any more. */
static inline void end_vm(Fixture *f)
{
    f->world.duty = COPY_UNUSED;
    note_orders(f);
    f->session_epoch = EPOCH_NONE;
    copy_forget(f->copy);
    copy_killed(f->copy);
    vm_abandon(f->vm);
    copy_forget(f->copy);
    copy_step(f->copy);
    copy_detach(f->copy);
    g_clear_pointer(&f->vm, vm_free);
    memset(f->noted, 0, sizeof(f->noted));
}

/* ---- What is asked and reported ---- */

static CopyWorld on_look(OptionalEpoch epoch, gpointer user_data)
{
    const Fixture *f = user_data;
    g_assert_true(epoch_equal(epoch, f->session_epoch));
    return f->world;
}

static void on_begin(gpointer user_data)
{
    const Fixture *f = user_data;
    g_assert_false(vm_is_running(f->vm));
    report(user_data, "begin");
}

static void on_drain(gpointer user_data)
{
    report(user_data, "drain");
}

static gboolean on_is_delivered(gpointer user_data)
{
    const Fixture *f = user_data;
    return !f->unread;
}

static void on_pausing(gpointer user_data)
{
    report(user_data, "pausing");
}

static void on_paused(gpointer user_data)
{
    const Fixture *f = user_data;
    g_assert_false(vm_is_running(f->vm));
    report(user_data, "paused");
}

static void on_not_resumed(gpointer user_data)
{
    report(user_data, "not-resumed");
}

static void on_inactivated(gpointer user_data)
{
    Fixture *f = user_data;
    report(f, "inactivated");
    if (f->world.disks == COPY_DISKS_DUE)
        f->world.disks = COPY_DISKS_BUSY;
}

static inline gboolean is_fine(gboolean fails, GError **error)
{
    if (fails)
        g_set_error(error, NODE_ERROR, NODE_ERROR_LOAD, "not here");
    return !fails;
}

static gboolean on_enter(const Checkpoint *checkpoint, gpointer user_data, GError **error)
{
    const Fixture *f = user_data;
    g_assert_true(checkpoint == copy_checkpoint(f->copy));
    report(user_data, "enter:%" G_GUINT64_FORMAT, checkpoint->epoch);
    return is_fine(f->cant_enter, error);
}

static gboolean on_may_run(gpointer user_data, GError **error)
{
    const Fixture *f = user_data;
    report(user_data, "may-run");
    return is_fine(f->cant_run, error);
}

static void on_resumed(OptionalEpoch in, gpointer user_data)
{
    if (in.is_set)
        report(user_data, "resumed:%" G_GUINT64_FORMAT, in.number);
    else
        report(user_data, "resumed-for-nothing");
}

static gboolean on_proven(const PageSet *pages, gpointer user_data, GError **error)
{
    const Fixture *f = user_data;
    report(user_data, "proven:%" G_GUINT64_FORMAT, page_set_count(pages));
    return is_fine(f->cant_prove, error);
}

static void on_stalled(guint64 epoch, const char *why, gpointer user_data)
{
    g_assert_true(why && *why);
    report(user_data, "stalled:%" G_GUINT64_FORMAT, epoch);
}

/* Each page is told once. */
static void on_dirty(const MessageDirty *part, gpointer user_data)
{
    Fixture *f = user_data;
    guint64 pages = 0, before = page_set_count(f->dirty);
    g_assert_false(f->no_room);
    for (gsize i = 0; i < part->n_runs; i++) {
        page_set_add_run(f->dirty, part->runs[i].first, part->runs[i].count);
        pages += part->runs[i].count;
    }
    g_assert_cmpuint(page_set_count(f->dirty), ==, before + pages);
    f->no_room = f->fills;
    report(f, "dirty:%" G_GUINT64_FORMAT ":%" G_GUINT64_FORMAT "+%u", part->epoch, pages,
           part->follow);
}

static gboolean on_has_room(gpointer user_data)
{
    const Fixture *f = user_data;
    return !f->no_room;
}

static void on_told(gpointer user_data)
{
    report(user_data, "told");
}

static void on_fit(gboolean is_fit, gpointer user_data)
{
    report(user_data, is_fit ? "fit" : "unfit");
}

static void on_may_ask(gpointer user_data)
{
    const Fixture *f = user_data;
    report(user_data, copy_is_valid(f->copy) ? "may-ask" : "may-ask-invalid");
}

static void on_taken_over(Vm *vm, const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    (void)vm;
    report(f, error ? "not-taken-over" : "taken-over");
    if (!error)
        f->world.duty = COPY_UNUSED;
    copy_taken_over(f->copy, error);
}

static void on_take_over(gpointer user_data)
{
    Fixture *f = user_data;
    report(f, "take-over");
    vm_resume(f->vm, on_taken_over, f);
}

static void on_refused(const char *what, const GError *error, gboolean is_load, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_true(what && error);
    report(f, is_load ? "refused-load" : "refused");
    f->world.refused = TRUE;
}

static void on_rests(gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_cmpint(copy_job(f->copy), ==, COPY_NOTHING);
    g_assert_true(f->world.duty == COPY_UNUSED || !guard || !guard->done);
    f->rests++;
}

static void on_lost(const char *what, const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_true(what && error);
    report(f, "lost");
    if (f->ends_vm)
        end_vm(f);
}

static void on_ending(const char *what, const GError *error, gpointer user_data)
{
    g_assert_true(what && error);
    report(user_data, "ending");
}

static const CopyHandler handler = {.look = on_look,
                                    .begin = on_begin,
                                    .is_delivered = on_is_delivered,
                                    .drain = on_drain,
                                    .pausing = on_pausing,
                                    .paused = on_paused,
                                    .not_resumed = on_not_resumed,
                                    .inactivated = on_inactivated,
                                    .enter = on_enter,
                                    .may_run = on_may_run,
                                    .resumed = on_resumed,
                                    .proven = on_proven,
                                    .stalled = on_stalled,
                                    .dirty = on_dirty,
                                    .has_room = on_has_room,
                                    .told = on_told,
                                    .fit = on_fit,
                                    .may_ask = on_may_ask,
                                    .take_over = on_take_over,
                                    .refused = on_refused,
                                    .rests = on_rests,
                                    .lost = on_lost,
                                    .ending = on_ending};

/* ---- Set up ---- */

static void on_vm_event(Vm *vm, VmEvent event, const char *detail, gpointer user_data)
{
    const Fixture *f = user_data;
    (void)vm;
    if (event == VM_EVENT_STOPPED)
        copy_stopped_by_io_error(f->copy, detail);
    else
        copy_stopped(f->copy, detail);
}

static void on_started(Vm *vm, const GError *error, gpointer user_data)
{
    (void)vm;
    (void)user_data;
    g_assert_no_error(error);
}

static void on_saved(Vm *vm, GBytes *state, const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    (void)vm;
    g_assert_no_error(error);
    f->state = g_bytes_ref(state);
}

/* With a disk that QEMU has to give up. */
static inline void start_vm(Fixture *f)
{
    VmHandler vm_handler = {.event = on_vm_event, .user_data = f};
    f->vm = fake_vm_new(f->description, 1, &vm_handler);
    vm_start(f->vm, on_started, NULL);
    turned_clock_settle();
    copy_attach(f->copy, f->vm, (DirtyTracker *)(gpointer)f);
}

static void set_up(Fixture *f, gconstpointer data)
{
    (void)data;
    guard_script = (GuardScript){.ordered = on_guard_order, .user_data = f};
    f->reported = g_string_new(NULL);
    f->dirty = page_set_new(GUARD_PAGES);
    f->description = fake_vm_description(RAM_PAGES * VM_PAGE_SIZE, 0);
    VmDisk *disk = vm_description_add_disk(f->description, "vda");
    disk->path = g_strdup("/none");
    disk->format = VM_DISK_QCOW2;
    f->copy = copy_new(&handler, f);
    start_vm(f);
    vm_save_device_state(f->vm, on_saved, f);
    forget_reported(f);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    if (f->vm)
        end_vm(f);
    copy_free(f->copy);
    g_assert_null(guard);
    g_assert_cmpuint(checkpoints, ==, 0);
    g_bytes_unref(f->state);
    page_set_free(f->dirty);
    vm_description_free(f->description);
    g_string_free(f->reported, TRUE);
}

typedef struct {
    const char *path;
    gconstpointer data;
    void (*test)(Fixture *, gconstpointer);
} FixtureTest;

static inline void add_tests(const FixtureTest *tests, gsize n_tests)
{
    for (gsize i = 0; i < n_tests; i++)
        g_test_add(tests[i].path, Fixture, tests[i].data, set_up, tests[i].test, tear_down);
}

/* ---- Steps ---- */

/* The session begins: nobody has loaded this VM yet. */
static inline void join(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    f->world.duty = COPY_JOIN;
    f->world.disks = COPY_DISKS_THERE;
    g_assert_true(copy_start(f->copy, &error));
    g_assert_no_error(error);
    forget_reported(f);
}

static inline void receive_only(Fixture *f)
{
    g_autoptr(Checkpoint) checkpoint = checkpoint_new(f, f->session_epoch.number + 1);
    g_assert_true(copy_may_change_ram(f->copy));
    f->session_epoch = epoch_some(checkpoint->epoch);
    copy_received(f->copy, checkpoint);
    g_assert_cmpint(copy_condition(f->copy), ==, COPY_APPLYING);
    g_assert_false(copy_may_change_ram(f->copy));
}

/* The next checkpoint. */
static inline void receive(Fixture *f, gboolean to_run)
{
    receive_only(f);
    copy_applied(f->copy, to_run);
}

/* Checkpoint 1 was loaded, which has shown that it can be. */
static inline void protect(Fixture *f)
{
    join(f);
    receive(f, FALSE);
    assert_reported(f, "keep vm-load repair proven:0");
    f->world.duty = COPY_PROTECT;
}

/* The copy runs from checkpoint 2. */
static inline void run(Fixture *f)
{
    protect(f);
    receive(f, TRUE);
    forget_reported(f);
    g_assert_true(copy_runs(f->copy));
    g_assert_cmpint(copy_condition(f->copy), ==, COPY_RUNNING);
}

/* The same, paused for the next one: QEMU has its disks open. */
static inline void run_and_pause(Fixture *f)
{
    run(f);
    g_assert_true(copy_prepare(f->copy, 3));
    forget_reported(f);
}

static inline void hold_vm(Fixture *f, FakeVmOperation operation)
{
    fake_vm_inject(f->vm, operation, FAKE_VM_HOLD, 1);
}

/* As node.c ends a session. */
static inline void end_session(Fixture *f)
{
    f->world.duty = COPY_JOIN;
    f->world.disks = COPY_DISKS_THERE;
    f->session_epoch = EPOCH_NONE;
    copy_forget(f->copy);
    copy_step(f->copy);
}

/* `job` is under way, and doesn't end. */
static inline void reach(Fixture *f, CopyJob job)
{
    static const struct {
        const char *order;
        FakeVmOperation operation;
        gboolean from_run, to_run;
    } ways[COPY_JOBS] = {
        [COPY_CHECK] = {.operation = FAKE_VM_PAUSE},
        [COPY_PAUSE] = { .operation = FAKE_VM_PAUSE,          .from_run = TRUE},
        [COPY_LOOK] = { .order = "look",          .from_run = TRUE},
        [COPY_KEEP] = { .order = "keep",            .to_run = TRUE},
        [COPY_LOAD] = { .operation = FAKE_VM_LOAD,            .to_run = TRUE},
        [COPY_REPAIR] = { .order = "repair",            .to_run = TRUE},
        [COPY_RESUME] = { .operation = FAKE_VM_RESUME,            .to_run = TRUE},
        [COPY_INACTIVATE] = { .operation = FAKE_VM_INACTIVATE,            .to_run = TRUE},
    };
    (job == COPY_INACTIVATE ? run_and_pause : ways[job].from_run ? run : protect)(f);
    guard_script.held = ways[job].order;
    if (!guard_script.held)
        hold_vm(f, ways[job].operation);
    f->world.disks = job == COPY_INACTIVATE ? COPY_DISKS_DUE : COPY_DISKS_THERE;
    if (ways[job].from_run) {
        g_assert_true(copy_prepare(f->copy, 3));
    } else {
        receive(f, ways[job].to_run);
        turned_clock_pass_ms(job == COPY_CHECK ? 1000 : 0);
    }
    forget_reported(f);
    g_assert_cmpint(copy_job(f->copy), ==, job);
}

/* What is held goes on, to the end. */
static inline void proceed(Fixture *f)
{
    if (fake_vm_is_held(f->vm))
        fake_vm_proceed(f->vm);
    else
        guard_proceed();
    turned_clock_settle();
}

/* A step that was refused is tried again. */
static inline void again(Fixture *f)
{
    f->world.refused = FALSE;
    copy_step(f->copy);
}

#endif
