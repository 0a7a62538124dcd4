/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a node counts, and tells of it, on a clock of our own. */
#include "colo/node/figures.h"

#include "tests/support/turned-clock.h"

typedef struct {
    Figures *figures;
    json_object *status;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
    (void)data;
    f->figures = figures_new();
    f->status = json_object_new_object();
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    figures_free(f->figures);
    json_object_put(f->status);
}

static json_object *member(json_object *object, const char *name)
{
    json_object *value;
    g_assert_true(json_object_object_get_ex(object, name, &value));
    return value;
}

static gint64 number(json_object *object, const char *name)
{
    return json_object_get_int64(member(object, name));
}

static double ms(const Fixture *f, const char *what, const char *which)
{
    return json_object_get_double(member(member(f->status, what), which));
}

static void add_checkpoint(Fixture *f, CheckpointReason reason, guint64 bytes, gint64 pause_us,
                           gint64 transfer_us)
{
    figures_add_checkpoint(f->figures, &(FiguresCheckpoint){.reason = reason,
                                                            .bytes = bytes,
                                                            .plain_bytes = 2 * bytes,
                                                            .codec = PACK_LZ4,
                                                            .pause_us = pause_us,
                                                            .transfer_us = transfer_us});
}

/* What was sent ahead, and how fast the socket took it, doesn't count. */
static void test_rate(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(figures_bytes_per_s(f->figures), ==, 0);
    figures_add_checkpoint(f->figures, &(FiguresCheckpoint){.reason = REASON_PERIOD,
                                                            .bytes = 500000,
                                                            .plain_bytes = 2000000,
                                                            .rest_bytes = 400000,
                                                            .transfer_us = 100,
                                                            .rest_us = 200000});
    g_assert_cmpint(figures_bytes_per_s(f->figures), ==, 2000000);
}

static void test_checkpoints(Fixture *f, gconstpointer data)
{
    (void)data;
    add_checkpoint(f, REASON_PERIOD, 100, 2000, 10000);
    add_checkpoint(f, REASON_ADMIN, 300, 4000, 30000);
    add_checkpoint(f, REASON_ADMIN, 200, 6000, 20000);
    figures_add_applied(f->figures, 7000);
    g_assert_cmpuint(figures_checkpoints(f->figures), ==, 3);
    g_assert_cmpuint(figures_checkpoints_by(f->figures, REASON_ADMIN), ==, 2);
    g_assert_cmpuint(figures_checkpoints_by(f->figures, REASON_PERIOD), ==, 1);
    /* Half of the pauses, and half of the transfers, are no longer. */
    g_assert_cmpint(figures_checkpoint_us(f->figures), ==, 4000 + 20000);

    figures_describe_checkpoints(f->figures, f->status);
    figures_describe_bytes(f->figures, f->status);
    json_object *reasons = member(member(f->status, "checkpoints"), "by-reason");
    g_assert_cmpint(number(member(f->status, "checkpoints"), "total"), ==, 3);
    g_assert_cmpint(json_object_object_length(reasons), ==, REASONS);
    g_assert_cmpint(number(reasons, schedule_reason_name(REASON_ADMIN)), ==, 2);
    g_assert_cmpint(number(reasons, schedule_reason_name(REASON_PERIOD)), ==, 1);
    g_assert_cmpfloat(ms(f, "pause-ms", "p50"), ==, 4);
    g_assert_cmpfloat(ms(f, "pause-ms", "max"), ==, 6);
    g_assert_cmpfloat(ms(f, "transfer-ms", "p50"), ==, 20);
    g_assert_cmpfloat(ms(f, "transfer-ms", "p99"), ==, 30);
    g_assert_cmpfloat(ms(f, "apply-ms", "max"), ==, 7);
    g_assert_cmpint(number(member(f->status, "bytes"), "last"), ==, 200);
    g_assert_cmpint(number(member(f->status, "bytes"), "total"), ==, 600);
    g_assert_cmpint(number(member(f->status, "bytes"), "plain-last"), ==, 400);
    g_assert_cmpint(number(member(f->status, "bytes"), "plain-total"), ==, 1200);
    g_assert_cmpstr(json_object_get_string(member(member(f->status, "bytes"), "compress")), ==,
                    "lz4");
}

/* A secondary knows neither why a checkpoint was taken nor how long the VM was paused for it. */
static void test_received(Fixture *f, gconstpointer data)
{
    (void)data;
    figures_add_received(f->figures, 500, 700, 8000);
    g_assert_cmpuint(figures_checkpoints(f->figures), ==, 1);
    for (CheckpointReason reason = 0; reason < REASONS; reason++)
        g_assert_cmpuint(figures_checkpoints_by(f->figures, reason), ==, 0);
    g_assert_cmpint(figures_checkpoint_us(f->figures), ==, 8000);
    figures_describe_bytes(f->figures, f->status);
    g_assert_cmpint(number(member(f->status, "bytes"), "last"), ==, 500);
    g_assert_cmpint(number(member(f->status, "bytes"), "plain-last"), ==, 700);
    g_assert_null(member(member(f->status, "bytes"), "compress"));
}

/* ---- Pauses ---- */

static void pause_ms(Fixture *f, gint64 long_ms)
{
    ColoTime from = colo_time_now();
    turned_clock_pass_ms(long_ms);
    figures_add_pause(f->figures, from, colo_time_now());
}

static void test_blocktime(Fixture *f, gconstpointer data)
{
    (void)data;
    pause_ms(f, 30);
    turned_clock_pass_ms(50);
    pause_ms(f, 20);
    g_assert_cmpint(figures_blocktime(f->figures)->total_us, ==, 50000);
    g_assert_cmpint(figures_blocktime(f->figures)->longest_us, ==, 30000);
    figures_describe_blocktime(f->figures, f->status);
    g_assert_cmpint(number(f->status, "total-ms"), ==, 50);
    g_assert_cmpint(number(f->status, "longest-ms"), ==, 30);
    g_assert_cmpfloat_with_epsilon(json_object_get_double(member(f->status, "share")), 0.005,
                                   0.000001);
}

/* The guest's clock was paused from when its copy was paused last, not from when that began to be one. */
static void test_copy(Fixture *f, gconstpointer data)
{
    (void)data;
    figures_copy_paused(f->figures, colo_time_now());
    turned_clock_pass_ms(70);
    figures_copy_paused(f->figures, colo_time_add_us(colo_time_now(), -5000));
    turned_clock_pass_ms(10);
    g_assert_cmpint(figures_blocktime(f->figures)->total_us, ==, 0);
    figures_copy_resumed(f->figures);
    g_assert_cmpint(figures_blocktime(f->figures)->total_us, ==, 15000);
}

/* The next VM's clock isn't behind by what the last one's was. What the node has done stays. */
static void test_forget_vm(Fixture *f, gconstpointer data)
{
    (void)data;
    add_checkpoint(f, REASON_PERIOD, 100, 2000, 10000);
    figures_add_takeover(f->figures, 1);
    pause_ms(f, 30);
    figures_forget_vm(f->figures);
    g_assert_cmpint(figures_blocktime(f->figures)->total_us, ==, 0);
    g_assert_cmpint(figures_blocktime(f->figures)->longest_us, ==, 0);
    figures_describe_blocktime(f->figures, f->status);
    g_assert_cmpfloat(json_object_get_double(member(f->status, "share")), ==, 0);
    pause_ms(f, 10);
    g_assert_cmpint(figures_blocktime(f->figures)->total_us, ==, 10000);
    g_assert_cmpuint(figures_checkpoints(f->figures), ==, 1);
    g_assert_cmpuint(figures_takeovers(f->figures), ==, 1);
}

/* What a move takes here is a pause without its end; there, that end counts, by what is known of it. */
static void test_landing(Fixture *f, gconstpointer data)
{
    (void)data;
    FiguresCheckpoint checkpoint = {.reason = REASON_ADMIN, .pause_us = 9000, .stood_us = 6000};
    g_assert_cmpint(figures_land_us(f->figures), ==, 0);
    figures_add_checkpoint(f->figures, &checkpoint);
    figures_add_applied(f->figures, 2000);
    turned_clock_pass_ms(40);
    figures_add_loaded(f->figures, FALSE);
    g_assert_cmpint(figures_stood_us(f->figures), ==, 6000);
    g_assert_cmpint(figures_land_us(f->figures), ==, 2000 + 40000 + 3000);
    /* One that nothing is known of. */
    figures_add_loaded(f->figures, TRUE);
    g_assert_cmpint(figures_land_us(f->figures), ==, 2000 + 40000 + 3000);
    for (guint i = 0; i < 2; i++) {
        figures_add_applied(f->figures, 2000);
        turned_clock_pass_ms(30);
        figures_add_loaded(f->figures, TRUE);
    }
    g_assert_cmpint(figures_land_us(f->figures), ==, 2000 + 30000);
}

/* ---- Takeovers ---- */

/* It is measured from the last sign that the primary is lost: it may have come back before. */
static void test_takeover(Fixture *f, gconstpointer data)
{
    (void)data;
    figures_describe_life(f->figures, f->status);
    g_assert_null(member(f->status, "last-takeover"));
    figures_primary_lost(f->figures, FIGURES_FAILOVER);
    turned_clock_pass_ms(400);
    figures_primary_lost(f->figures, FIGURES_LOST);
    turned_clock_pass_ms(120);
    g_assert_cmpint(figures_add_takeover(f->figures, 7), ==, 120000);
    figures_primary_lost(f->figures, FIGURES_FAILOVER);
    figures_describe_life(f->figures, f->status);
    json_object *last = member(f->status, "last-takeover");
    g_assert_cmpint(number(last, "epoch"), ==, 7);
    g_assert_cmpfloat(json_object_get_double(member(last, "duration-ms")), ==, 120);
    g_assert_cmpstr(json_object_get_string(member(last, "cause")), ==, "lost");
    turned_clock_pass_ms(1480);
    figures_primary_lost(f->figures, FIGURES_FAILOVER);
    turned_clock_pass_ms(1);
    g_assert_cmpint(figures_add_takeover(f->figures, 9), ==, 1000);
    /* The VM may end: what was is kept. */
    figures_forget_vm(f->figures);
    figures_describe_life(f->figures, f->status);
    last = member(f->status, "last-takeover");
    g_assert_cmpint(number(last, "epoch"), ==, 9);
    g_assert_cmpfloat(json_object_get_double(member(last, "duration-ms")), ==, 1);
    g_assert_cmpstr(json_object_get_string(member(last, "cause")), ==, "failover");
    g_assert_cmpint(number(f->status, "takeovers"), ==, 2);
    g_assert_cmpint(number(f->status, "uptime-s"), ==, 2);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*test)(Fixture *, gconstpointer);
    } tests[] = {
        {"/figures/checkpoints", test_checkpoints},
        {"/figures/rate",        test_rate       },
        {"/figures/received",    test_received   },
        {"/figures/blocktime",   test_blocktime  },
        {"/figures/copy",        test_copy       },
        {"/figures/forget-vm",   test_forget_vm  },
        {"/figures/landing",     test_landing    },
        {"/figures/takeover",    test_takeover   },
    };
    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, Fixture, NULL, set_up, tests[i].test, tear_down);
    return g_test_run();
}
