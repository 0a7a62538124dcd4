/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A primary alone: a VM without QEMU, a capture without a thread, and a handler that writes down
 * what it is asked for, in its order. What others would answer is answered by the tests. It stands
 * in for the capture, and turns the clock: include it in the one source file of a test program.
 */
#ifndef COLO_TESTS_SUPPORT_PRIMARY_FIXTURE_H
#define COLO_TESTS_SUPPORT_PRIMARY_FIXTURE_H

#include "colo/node/node.h"
#include "colo/node/primary.h"
#include "common/timer.h"
#include "tests/support/fake-vm.h"
#include "tests/support/turned-clock.h"

#include <string.h>

#define RAM_PAGES 256u

struct Capture {
    CaptureCallbacks callbacks;
    gpointer user_data;
    guint64 taking, added; /* the epoch; pages */
    guint64 dirty, dirty_limit, sync_rate;
    CapturePack packing;
    ColoTime start;
    guint64 ahead_bytes; /* of a checkpoint, sent before the VM is paused for it */
};

typedef struct {
    Primary *primary;
    Config config;
    VmDescription *description;
    Vm *vm;
    gboolean follows; /* what it reports of a hand-over changes the state, as fsm.c has it */
    PrimaryWorld world;
    gboolean delivered;
    gboolean waits;        /* each try to resume, until give_up() */
    gboolean stopped;      /* the guest, for continues() */
    gboolean kept_stopped; /* likewise, whoever resumes it */
    gboolean compares;     /* for decide() */
    GSource *interrupt;    /* dispatched before the primary's own timers: ends the session */
    GString *reported;
    char *late;                  /* why it can't be handed over in time; NULL: it was not */
    FiguresCheckpoint completed; /* the last one */
} Fixture;

/* ---- The capture ---- */

static Capture *capture;

Capture *capture_new(const VmRam *ram, DirtyTracker *tracker, int fd,
                     const CaptureCallbacks *callbacks, gpointer user_data, GError **error)
{
    (void)ram;
    (void)tracker;
    (void)fd;
    (void)error;
    g_assert_null(capture);
    capture = g_new0(Capture, 1);
    capture->callbacks = *callbacks;
    capture->user_data = user_data;
    return capture;
}

void capture_free(Capture *freed)
{
    g_assert_true(freed == capture);
    g_clear_pointer(&capture, g_free);
}

void capture_synchronise(Capture *of, guint64 pause_pages)
{
    g_assert_true(of == capture && pause_pages > 0);
}

void capture_set_start(Capture *of, ColoTime start)
{
    g_assert_true(of == capture);
    of->start = start;
}

void capture_take(Capture *of, guint64 epoch, GBytes *device_state, GPtrArray *frames,
                  GBytes *attachment)
{
    g_assert_true(of == capture && device_state && frames && attachment);
    g_assert_cmpuint(of->taking, ==, 0);
    of->taking = epoch;
}

void capture_add_pages(Capture *of, guint64 first, guint64 count)
{
    g_assert_cmpuint(first + count, <=, RAM_PAGES);
    of->added += count;
}

gboolean capture_awaits_base(const Capture *of)
{
    return of == NULL;
}

guint64 capture_dirty_pages(const Capture *of)
{
    g_assert_true(of == capture);
    return of->dirty;
}

void capture_set_sync_rate(Capture *of, guint64 bytes_per_s)
{
    g_assert_true(of == capture);
    of->sync_rate = bytes_per_s;
}

void capture_set_packing(Capture *of, CapturePack packing)
{
    g_assert_true(of == capture);
    of->packing = packing;
}

void capture_set_dirty_limit(Capture *of, guint64 pages)
{
    g_assert_true(of == capture);
    of->dirty_limit = pages;
}

static void taken(void)
{
    g_assert_cmpuint(capture->taking, !=, 0);
    CaptureStats stats = {.epoch = capture->taking, .bytes = capture->ahead_bytes};
    capture->callbacks.taken(&stats, capture->user_data);
}

static void sent(void)
{
    CaptureStats stats = {.epoch = capture->taking, .bytes = 4096, .plain_bytes = 8192};
    capture->taking = 0;
    capture->callbacks.sent(&stats, capture->user_data);
}

/* ---- What is asked for and reported ---- */

G_GNUC_PRINTF(2, 3) static void report(Fixture *f, const char *format, ...)
{
    va_list arguments;
    if (f->reported->len > 0)
        g_string_append_c(f->reported, ' ');
    va_start(arguments, format);
    g_string_append_vprintf(f->reported, format, arguments);
    va_end(arguments);
}

#define assert_reported(f, what)                                                                   \
    do {                                                                                           \
        g_assert_cmpstr((f)->reported->str, ==, what);                                             \
        g_string_truncate((f)->reported, 0);                                                       \
    } while (0)

static PrimaryWorld on_look(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->world;
}

static gboolean on_is_delivered(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->delivered;
}

static void on_event(FsmEvent event, gpointer user_data)
{
    Fixture *f = user_data;
    report(f, "event:%s", fsm_event_name(event));
    if (f->follows && event == FSM_YIELD) {
        primary_moved(f->primary, f->world.state = FSM_P_DEVICE);
        primary_hand_over(f->primary);
    } else if (f->follows && event == FSM_HAND_OVER_FAILED)
        f->world.state = FSM_P_COLO;
}

static void on_trouble(const char *what, const GError *error, gpointer user_data)
{
    g_assert_true(what && error);
    report(user_data, "trouble");
}

static void on_lost(const char *what, const GError *error, gpointer user_data)
{
    g_assert_true(what && error);
    report(user_data, "lost");
}

static void on_ending(const char *what, const GError *error, gpointer user_data)
{
    g_assert_true(what && error);
    report(user_data, "ending");
}

static void on_link_lost(const char *what, const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_true(what && error);
    report(f, "link-lost");
    primary_end_session(f->primary);
}

static void on_stream_lost(const char *what, const GError *error, gpointer user_data)
{
    g_assert_true(what && error);
    report(user_data, "stream-lost");
}

static void on_send(const Message *message, gpointer user_data)
{
    report(user_data, "%s:%" G_GUINT64_FORMAT, message_info(message->type)->name, message->epoch);
}

static void on_session_began(gpointer user_data)
{
    report(user_data, "began");
}

static void on_session_ended(gpointer user_data)
{
    g_assert_null(capture);
    report(user_data, "ended");
}

static void on_proven(gpointer user_data)
{
    report(user_data, "proven");
}

static void on_begin_run(gpointer user_data)
{
    report(user_data, "begin-run");
}

static void on_resumed(Vm *vm, const GError *error, gpointer user_data)
{
    const Fixture *f = user_data;
    (void)vm;
    primary_ran(f->primary, error);
}

static void on_resume(gpointer user_data)
{
    Fixture *f = user_data;
    if (f->kept_stopped) {
        report(f, "left-stopped");
        primary_ran(f->primary, NULL);
        return;
    }
    report(f, "resume");
    if (!f->waits)
        vm_resume(f->vm, on_resumed, f);
}

static void on_running(ColoTime paused, ColoTime now, gpointer user_data)
{
    g_assert_cmpint(paused.us, <=, now.us);
    report(user_data, paused.us ? "running-again" : "running");
}

static gboolean on_continues(gpointer user_data)
{
    Fixture *f = user_data;
    gboolean stopped = f->stopped;
    f->stopped = FALSE;
    if (stopped)
        f->kept_stopped = f->world.is_stopped = FALSE;
    return stopped;
}

static gboolean on_give_up(gpointer user_data)
{
    Fixture *f = user_data;
    gboolean waits = f->waits;
    f->waits = FALSE;
    return waits;
}

static void on_ready_to_end(gpointer user_data)
{
    report(user_data, "ready-to-end");
}

static void on_fence(gboolean closed, gpointer user_data)
{
    report(user_data, closed ? "closed" : "open");
}

static void on_sync(guint64 epoch, gpointer user_data)
{
    report(user_data, "sync:%" G_GUINT64_FORMAT, epoch);
}

static void on_pausing(gpointer user_data)
{
    report(user_data, "pausing");
}

static void on_paused(ColoTime since, gpointer user_data)
{
    (void)since;
    report(user_data, "paused");
}

static void on_held(gpointer user_data)
{
    report(user_data, "held");
}

static gboolean on_decide(guint64 epoch, gboolean last, gpointer user_data)
{
    Fixture *f = user_data;
    report(f, "decide:%" G_GUINT64_FORMAT "%s", epoch, last ? ":last" : "");
    return f->compares;
}

static void on_mark(guint64 epoch, gpointer user_data)
{
    report(user_data, "mark:%" G_GUINT64_FORMAT, epoch);
}

static void on_give_up_disks(guint64 epoch, gpointer user_data)
{
    report(user_data, "give-up:%" G_GUINT64_FORMAT, epoch);
}

static char *on_disks_wait_for(gpointer user_data)
{
    (void)user_data;
    return g_strdup("the images hang: vda");
}

static void on_late(const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    g_free(f->late);
    f->late = g_strdup(error->message);
}

static void on_renounce_disks(gpointer user_data)
{
    report(user_data, "renounce");
}

static void on_content(guint64 epoch, gboolean compares, gboolean stopped, GPtrArray **ret_frames,
                       GBytes **ret_attachment, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_cmpint(compares, ==, f->compares);
    report(f, stopped ? "content-stopped:%" G_GUINT64_FORMAT : "content:%" G_GUINT64_FORMAT, epoch);
    *ret_frames = g_ptr_array_new();
    *ret_attachment = g_bytes_new_static("", 0);
}

static void on_taken(guint64 epoch, gboolean compares, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_cmpint(compares, ==, f->compares);
    f->world.epoch = epoch;
    report(f, "taken:%" G_GUINT64_FORMAT, epoch);
}

static void on_sent(gpointer user_data)
{
    report(user_data, "sent");
}

static void on_release(guint64 epoch, gboolean compares, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_cmpint(compares, ==, f->compares);
    report(f, "release:%" G_GUINT64_FORMAT, epoch);
}

static void on_complete(const FiguresCheckpoint *checkpoint, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_cmpuint(checkpoint->bytes, ==, 4096);
    f->completed = *checkpoint;
    report(user_data, "complete:%s", schedule_reason_name(checkpoint->reason));
}

static void on_mirror(gpointer user_data)
{
    report(user_data, "mirror");
}

static const PrimaryHandler handler = {.look = on_look,
                                       .is_delivered = on_is_delivered,
                                       .event = on_event,
                                       .trouble = on_trouble,
                                       .lost = on_lost,
                                       .ending = on_ending,
                                       .link_lost = on_link_lost,
                                       .stream_lost = on_stream_lost,
                                       .send = on_send,
                                       .session_began = on_session_began,
                                       .session_ended = on_session_ended,
                                       .proven = on_proven,
                                       .begin_run = on_begin_run,
                                       .resume = on_resume,
                                       .running = on_running,
                                       .continues = on_continues,
                                       .give_up = on_give_up,
                                       .ready_to_end = on_ready_to_end,
                                       .fence = on_fence,
                                       .sync = on_sync,
                                       .pausing = on_pausing,
                                       .paused = on_paused,
                                       .decide = on_decide,
                                       .held = on_held,
                                       .mark = on_mark,
                                       .give_up_disks = on_give_up_disks,
                                       .renounce_disks = on_renounce_disks,
                                       .disks_wait_for = on_disks_wait_for,
                                       .late = on_late,
                                       .content = on_content,
                                       .taken = on_taken,
                                       .sent = on_sent,
                                       .release = on_release,
                                       .complete = on_complete,
                                       .mirror = on_mirror};

/* ---- Set up ---- */

static void on_vm_event(Vm *vm, VmEvent event, const char *detail, gpointer user_data)
{
    (void)vm;
    (void)detail;
    (void)user_data;
    g_assert_cmpint(event, ==, VM_EVENT_DIED);
}

static void on_started(Vm *vm, const GError *error, gpointer user_data)
{
    (void)vm;
    (void)user_data;
    g_assert_no_error(error);
}

static gboolean on_interrupt(gpointer user_data)
{
    Fixture *f = user_data;
    g_source_set_ready_time(f->interrupt, -1);
    primary_end_session(f->primary);
    return G_SOURCE_CONTINUE;
}

/* The VM runs, alone. */
static void set_up(Fixture *f, gconstpointer data)
{
    VmHandler vm_handler = {.event = on_vm_event, .user_data = f};
    (void)data;
    f->config.checkpoint_period_ms = 3600 * 1000;
    f->config.min_gap_ms = 3600 * 1000;
    f->config.disk_timeout_ms = 30000;
    f->config.downtime_limit_ms = 100;
    f->world = (PrimaryWorld){.state = FSM_P_NONE, .peer_vm = PEER_VM_PAUSED, .copy_is_fit = TRUE};
    f->delivered = TRUE;
    f->reported = g_string_new(NULL);
    f->interrupt = colo_timer_new(on_interrupt, f);
    f->primary = primary_new(&f->config, &handler, f);
    f->description = fake_vm_description(RAM_PAGES * VM_PAGE_SIZE, 0);
    f->vm = fake_vm_new(f->description, 1, &vm_handler);
    vm_start(f->vm, on_started, NULL);
    turned_clock_settle();
    primary_attach(f->primary, f->vm, NULL);
    primary_run(f->primary);
    assert_reported(f, "begin-run");
    primary_may_run(f->primary);
    turned_clock_settle();
    assert_reported(f, "resume running");
}

/* As node.c ends a VM. */
static void end_vm(Fixture *f)
{
    primary_forget(f->primary);
    vm_abandon(f->vm);
    primary_end_session(f->primary);
    primary_detach(f->primary);
    g_clear_pointer(&f->vm, vm_free);
    g_string_truncate(f->reported, 0);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    if (f->vm)
        end_vm(f);
    primary_free(f->primary);
    g_source_destroy(f->interrupt);
    g_source_unref(f->interrupt);
    vm_description_free(f->description);
    g_string_free(f->reported, TRUE);
    g_free(f->late);
}

/* A secondary is there, and has all RAM. */
static void join(Fixture *f)
{
    SyncProgress progress = {.round = 1, .percent = 100};
    f->world.state = FSM_P_ACTIVE;
    f->world.is_recorded = f->world.disks_in_step = TRUE;
    primary_synchronise(f->primary, -1, TRUE);
    assert_reported(f, "began");
    capture->callbacks.synchronised(&progress, capture->user_data);
}

/* A checkpoint of a pair whose copy is paused, without disks. */
static void complete(Fixture *f)
{
    turned_clock_settle();
    taken();
    turned_clock_settle();
    sent();
    g_assert_true(primary_received(f->primary, f->world.epoch, NULL));
}

static void protect(Fixture *f)
{
    join(f);
    for (int i = 0; i < 2; i++) {
        complete(f);
        g_assert_true(primary_ready(f->primary, &(MessageReady){.n_runs = 0}, NULL));
    }
    f->world.state = FSM_P_COLO;
    turned_clock_settle();
    g_assert_true(g_str_has_suffix(f->reported->str, "complete:initial event:proven proven"));
    g_string_truncate(f->reported, 0);
}

G_GNUC_UNUSED static void assert_refused(gboolean taken_as_right, GError **error)
{
    g_assert_false(taken_as_right);
    g_assert_error(*error, NODE_ERROR, NODE_ERROR_PROTOCOL);
    g_clear_error(error);
}

/* ---- Step by step ---- */

/* Each operation of QEMU waits, as disks and the capture do. */
G_GNUC_UNUSED static void begin_slowly(Fixture *f)
{
    protect(f);
    f->world.has_disks = TRUE;
    f->world.peer_vm = PEER_VM_RUNS;
    f->delivered = FALSE;
    fake_vm_inject(f->vm, FAKE_VM_PAUSE, FAKE_VM_HOLD, 1);
    fake_vm_inject(f->vm, FAKE_VM_SAVE, FAKE_VM_HOLD, 1);
    fake_vm_inject(f->vm, FAKE_VM_RESUME, FAKE_VM_HOLD, 1);
    primary_want(f->primary, REASON_ADMIN);
    turned_clock_settle();
    g_assert_cmpint(primary_phase(f->primary), ==, CYCLE_SYNCING);
}

G_GNUC_UNUSED static void proceed(Fixture *f)
{
    fake_vm_proceed(f->vm);
    turned_clock_settle();
}

/* Takes one step towards `phase`. */
G_GNUC_UNUSED static void go_on(Fixture *f, CyclePhase phase)
{
    MessageDirty dirty = {.epoch = 3};
    switch (primary_phase(f->primary)) {
    case CYCLE_SYNCING:
        primary_synced(f->primary, NULL);
        break;
    case CYCLE_PREPARING:
        g_assert_true(primary_dirty(f->primary, &dirty, NULL));
        break;
    case CYCLE_SETTLING:
        f->delivered = TRUE;
        turned_clock_pass_ms(1);
        break;
    case CYCLE_SAVING:
        if (phase != CYCLE_MARKING)
            primary_marked(f->primary, NULL);
        else
            proceed(f);
        break;
    case CYCLE_MARKING:
        primary_marked(f->primary, NULL);
        break;
    case CYCLE_PAUSING:
    case CYCLE_SAVING_MARKED:
    case CYCLE_RESUMING_SENDING:
        proceed(f);
        break;
    case CYCLE_COPYING:
        taken();
        break;
    case CYCLE_SENDING:
        if (phase == CYCLE_SENT)
            sent();
        else
            g_assert_true(primary_received(f->primary, 3, NULL));
        break;
    default:
        g_assert_not_reached();
    }
    turned_clock_settle();
}

G_GNUC_UNUSED static void advance(Fixture *f, CyclePhase phase)
{
    begin_slowly(f);
    while (primary_phase(f->primary) != phase)
        go_on(f, phase);
    g_string_truncate(f->reported, 0);
}

/* The test, at `path`/PHASE, once for each phase of a checkpoint, which is its data. */
G_GNUC_UNUSED static void add_for_each_phase(const char *path,
                                             void (*test)(Fixture *f, gconstpointer phase))
{
    static const CyclePhase phases[] = {CYCLE_SYNCING, CYCLE_PREPARING, CYCLE_SETTLING,
                                        CYCLE_PAUSING, CYCLE_SAVING,    CYCLE_SAVING_MARKED,
                                        CYCLE_MARKING, CYCLE_COPYING,   CYCLE_RESUMING_SENDING,
                                        CYCLE_SENDING, CYCLE_SENT,      CYCLE_RECEIVED};
    for (guint i = 0; i < G_N_ELEMENTS(phases); i++) {
        g_autofree char *name = g_strdup_printf("%s/%s", path, cycle_phase_name(phases[i]));
        g_test_add(name, Fixture, GINT_TO_POINTER(phases[i]), set_up, test, tear_down);
    }
}

#endif
