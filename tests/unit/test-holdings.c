/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a node knows of its disks, and when its VM may run, on a clock of our own. The look is at
 * real images, in its own thread.
 */
#include "colo/node/holdings.h"

#include "common/log.h"
#include "tests/support/folder.h"
#include "tests/support/turned-clock.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#define IMAGE_BYTES (1 << 20)
#define GENERATION  "00000000000000a1"

typedef struct {
    Config config;
    char *dir, *image;
    Holdings *holdings;
    FsmState state;
    gboolean has_disks;
    GString *events; /* since expect(), each with a blank */
    char *lost;      /* why */
} Fixture;

static FsmState on_state(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->state;
}

static gboolean on_has_disks(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->has_disks;
}

static void on_claim(const Generation *generation, gpointer user_data)
{
    const Fixture *f = user_data;
    g_string_append(f->events, generation ? "claim " : "claim-without ");
}

static void on_lost(const char *what, const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    g_free(f->lost);
    f->lost = g_strdup_printf("%s: %s", what, error->message);
    g_string_append(f->events, "lost ");
}

static void on_trouble(const char *what, const GError *error, gpointer user_data)
{
    const Fixture *f = user_data;
    g_assert_true(what && error);
    g_string_append(f->events, "trouble ");
}

static void on_write_alone(gboolean starts, gpointer user_data)
{
    const Fixture *f = user_data;
    g_string_append(f->events, starts ? "start-alone " : "alone ");
}

static void on_runs(gpointer user_data)
{
    const Fixture *f = user_data;
    g_string_append(f->events, "runs ");
}

static void on_changed(guint64 generation, gpointer user_data)
{
    const Fixture *f = user_data;
    g_string_append_printf(f->events, "changed-%" G_GINT64_MODIFIER "x ", generation);
}

static void set_up(Fixture *f, gconstpointer with_disk)
{
    static const HoldingsHandler handler = {.state = on_state,
                                            .has_disks = on_has_disks,
                                            .claim = on_claim,
                                            .lost = on_lost,
                                            .trouble = on_trouble,
                                            .write_alone = on_write_alone,
                                            .runs = on_runs,
                                            .changed = on_changed};
    f->dir = g_dir_make_tmp("colo-holdings-XXXXXX", NULL);
    f->image = g_build_filename(f->dir, "vda.img", NULL);
    f->config.vm = vm_description_new();
    f->config.state_dir = f->dir;
    if (with_disk) {
        VmDisk *disk = vm_description_add_disk(f->config.vm, "vda");
        disk->path = g_strdup(f->image);
        int fd = open(f->image, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
        g_assert_cmpint(ftruncate(fd, IMAGE_BYTES), ==, 0);
        close(fd);
    }
    f->has_disks = with_disk != NULL;
    f->state = FSM_P_ASKING;
    f->events = g_string_new(NULL);
    f->holdings = holdings_new(&f->config, &handler, f);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    holdings_free(f->holdings);
    vm_description_free(f->config.vm);
    folder_remove(f->dir);
    g_string_free(f->events, TRUE);
    g_free(f->dir);
    g_free(f->image);
    g_free(f->lost);
}

static void expect(Fixture *f, const char *events)
{
    g_assert_cmpstr(f->events->str, ==, events);
    g_string_truncate(f->events, 0);
}

/* A result of the disk server, which says nothing of generations if `generation` is NULL. */
static json_object *result_of(const char *generation)
{
    json_object *result = json_object_new_object();
    if (!generation)
        return result;
    json_object *object = json_object_new_object();
    json_object_object_add(object, "current", json_object_new_string(generation));
    json_object_object_add(object, "data",
                           json_object_new_string(generation_data_name(GENERATION_WRITER)));
    json_object_object_add(result, "generation", object);
    return result;
}

static void started(Fixture *f, const char *generation)
{
    json_object *result = result_of(generation);
    holdings_started(f->holdings, result, NULL);
    json_object_put(result);
}

static void written(Fixture *f, const char *generation)
{
    json_object *result = result_of(generation);
    holdings_written(f->holdings, result, NULL);
    json_object_put(result);
}

static void fails(Fixture *f, void (*ended)(Holdings *, json_object *, const GError *))
{
    g_autoptr(GError) error = g_error_new_literal(G_FILE_ERROR, G_FILE_ERROR_IO, "I/O error");
    ended(f->holdings, NULL, error);
}

/* ---- The look ---- */

/* The thread's answer is the only thing that comes: no time passes. */
static void wait_for_event(const Fixture *f)
{
    while (f->events->len == 0)
        g_main_context_iteration(NULL, TRUE);
}

static void test_look(Fixture *f, gconstpointer data)
{
    (void)data;
    holdings_look(f->holdings);
    expect(f, "");
    wait_for_event(f);
    expect(f, "claim ");
}

static void test_look_fails(Fixture *f, gconstpointer data)
{
    (void)data;
    g_unlink(f->image);
    holdings_look(f->holdings);
    wait_for_event(f);
    expect(f, "lost ");
    g_assert_nonnull(strstr(f->lost, "disk vda"));
}

/* Nobody waits for its answer any more, which comes all the same. */
static void test_look_is_late(Fixture *f, gconstpointer data)
{
    (void)data;
    holdings_look(f->holdings);
    f->state = FSM_FAILED;
    g_main_context_iteration(NULL, TRUE);
    expect(f, "");
}

static void test_freed(Fixture *f, gconstpointer data)
{
    (void)data;
    holdings_look(f->holdings);
    g_clear_pointer(&f->holdings, holdings_free);
    g_main_context_iteration(NULL, TRUE);
    expect(f, "");
}

/* ---- Writing alone ---- */

static void test_without_disks(Fixture *f, gconstpointer data)
{
    (void)data;
    holdings_look(f->holdings);
    expect(f, "claim-without ");
    holdings_begin(f->holdings);
    g_assert_false(holdings_have_run(f->holdings));
    holdings_begin_run(f->holdings);
    expect(f, "runs ");
    g_assert_true(holdings_have_run(f->holdings));
    holdings_continue_alone(f->holdings);
    expect(f, "");
    g_assert_cmpuint(holdings_generation(f->holdings), ==, 0);
}

/* The disks are this side's before the VM writes to them; and that is on record before, too. */
static void test_start(Fixture *f, gconstpointer data)
{
    (void)data;
    holdings_begin(f->holdings);
    holdings_begin_run(f->holdings);
    expect(f, "start-alone ");
    g_assert_false(holdings_have_run(f->holdings));
    started(f, GENERATION);
    expect(f, "changed-a1 runs ");
    g_assert_true(holdings_have_run(f->holdings));
    g_assert_cmphex(holdings_generation(f->holdings), ==, 0xa1);
    /* Another VM has not run, but the disks are what they are. */
    holdings_begin(f->holdings);
    g_assert_false(holdings_have_run(f->holdings));
    g_assert_cmphex(holdings_generation(f->holdings), ==, 0xa1);
}

static void test_start_fails(Fixture *f, gconstpointer data)
{
    (void)data;
    holdings_begin_run(f->holdings);
    fails(f, holdings_started);
    expect(f, "start-alone lost ");
    g_assert_false(holdings_have_run(f->holdings));
}

static void test_note(Fixture *f, gconstpointer data)
{
    (void)data;
    written(f, NULL);
    expect(f, "");
    g_assert_false(holdings_have_run(f->holdings));
    written(f, GENERATION);
    written(f, GENERATION);
    expect(f, "changed-a1 ");
    written(f, "00000000000000b2");
    expect(f, "changed-b2 ");
    g_assert_cmphex(holdings_generation(f->holdings), ==, 0xb2);
}

/* It runs on, and what could not be noted is tried again until it is. */
static void test_again(Fixture *f, gconstpointer data)
{
    (void)data;
    f->state = FSM_P_NONE;
    holdings_continue_alone(f->holdings);
    expect(f, "alone ");
    fails(f, holdings_written);
    fails(f, holdings_written);
    expect(f, "trouble trouble ");
    turned_clock_pass_ms(999);
    expect(f, "");
    turned_clock_pass_ms(1);
    expect(f, "alone ");
    turned_clock_pass_ms(5000);
    expect(f, "");
    written(f, GENERATION);
    expect(f, "changed-a1 ");
    turned_clock_pass_ms(5000);
    expect(f, "");
}

static void take_over_in_vain(Fixture *f)
{
    f->state = FSM_P_NONE;
    holdings_continue_alone(f->holdings);
    fails(f, holdings_written);
    expect(f, "alone trouble ");
}

/* A secondary has come meanwhile: this side doesn't write alone any more. */
static void test_session(Fixture *f, gconstpointer data)
{
    (void)data;
    take_over_in_vain(f);
    f->state = FSM_P_ACTIVE;
    turned_clock_pass_ms(5000);
    expect(f, "");
}

/* The disks are about to go. */
static void test_forget(Fixture *f, gconstpointer data)
{
    (void)data;
    take_over_in_vain(f);
    holdings_forget(f->holdings);
    turned_clock_pass_ms(5000);
    expect(f, "");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        gpointer data;
        void (*test)(Fixture *, gconstpointer);
    } tests[] = {
        {"/holdings/look",          "disk", test_look         },
        {"/holdings/look-fails",    "disk", test_look_fails   },
        {"/holdings/look-is-late",  "disk", test_look_is_late },
        {"/holdings/freed",         "disk", test_freed        },
        {"/holdings/without-disks", NULL,   test_without_disks},
        {"/holdings/start",         "disk", test_start        },
        {"/holdings/start-fails",   "disk", test_start_fails  },
        {"/holdings/note",          "disk", test_note         },
        {"/holdings/again",         "disk", test_again        },
        {"/holdings/session",       "disk", test_session      },
        {"/holdings/forget",        "disk", test_forget       },
    };
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    for (guint i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, Fixture, tests[i].data, set_up, tests[i].test, tear_down);
    return g_test_run();
}
