/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The gate, by example and against a model under random operations. */
#include <string.h>

#include "common/endian.h"
#include "netcompare/netcompare.h"

/* A frame of the test is its number (be32), then padding. */
typedef struct {
    Gate *gate;
    GArray *released; /* of guint32 */
    unsigned last_nic;
    void (*inside)(Gate *gate); /* called in the first release */
} Sink;

static void take(unsigned nic, GBytes *frame, gpointer user_data)
{
    Sink *sink = user_data;
    guint32 number = colo_get_be32(g_bytes_get_data(frame, NULL));
    g_array_append_val(sink->released, number);
    sink->last_nic = nic;
    void (*inside)(Gate *) = sink->inside;
    sink->inside = NULL;
    if (inside != NULL)
        inside(sink->gate);
}

static void sink_init(Sink *sink, gsize limit_bytes)
{
    *sink = (Sink){.released = g_array_new(FALSE, FALSE, sizeof(guint32))};
    sink->gate = gate_new(limit_bytes, take, sink);
}

static void sink_clear(Sink *sink)
{
    gate_free(sink->gate);
    g_array_unref(sink->released);
}

static GateResult add_sized(Gate *gate, guint64 epoch, guint32 number, gsize len)
{
    g_autofree guint8 *data = g_malloc0(len);
    colo_put_be32(data, number);
    return gate_add(gate, 3, epoch, data, len);
}

static GateResult add(Gate *gate, guint64 epoch, guint32 number)
{
    return add_sized(gate, epoch, number, 60);
}

static void assert_released(Sink *sink, const char *expected)
{
    g_autoptr(GString) got = g_string_new(NULL);
    for (guint i = 0; i < sink->released->len; i++)
        g_string_append_printf(got, "%s%u", i > 0 ? " " : "",
                               g_array_index(sink->released, guint32, i));
    g_assert_cmpstr(got->str, ==, expected);
}

/* Asked before, it says what adding would; but what is larger than all of it never is worth a wait. */
static void test_fits(void)
{
    Sink sink;
    sink_init(&sink, 1000);
    while (gate_fits(sink.gate, 60))
        g_assert_cmpint(add(sink.gate, 1, 10), !=, GATE_FULL);
    g_assert_cmpuint(gate_stats(sink.gate)->frames, ==, 1000 / (60 + 128));
    g_assert_cmpint(add(sink.gate, 1, 11), ==, GATE_FULL);
    g_assert_false(gate_fits(sink.gate, 1000 - 128));
    g_assert_true(gate_fits(sink.gate, 1000 - 127));
    gate_release(sink.gate, 2);
    g_assert_true(gate_fits(sink.gate, 1000 - 128));
    g_assert_cmpint(add_sized(sink.gate, 2, 12, 1000 - 128), !=, GATE_FULL);
    g_assert_false(gate_fits(sink.gate, 60));
    gate_set_open(sink.gate, TRUE);
    g_assert_true(gate_fits(sink.gate, 60));
    sink_clear(&sink);
}

static void test_holds_until_committed(void)
{
    Sink sink;
    sink_init(&sink, 1 << 20);
    add(sink.gate, 1, 10);
    add(sink.gate, 1, 11);
    add(sink.gate, 2, 20);
    gate_release(sink.gate, 1);
    assert_released(&sink, "");
    gate_release(sink.gate, 2);
    assert_released(&sink, "10 11");
    g_assert_cmpuint(sink.last_nic, ==, 3);
    /* The permit was for what was held then. */
    g_assert_cmpint(add(sink.gate, 1, 12), ==, GATE_HELD);
    assert_released(&sink, "10 11");
    gate_release(sink.gate, 3);
    assert_released(&sink, "10 11 20 12");
    g_assert_cmpuint(gate_stats(sink.gate)->frames, ==, 0);
    g_assert_cmpuint(gate_stats(sink.gate)->bytes, ==, 0);
    g_assert_cmpuint(gate_stats(sink.gate)->max_frames, ==, 3);
    g_assert_cmpuint(gate_stats(sink.gate)->max_bytes, ==, 180);
    g_assert_cmpuint(gate_stats(sink.gate)->released_frames, ==, 4);
    sink_clear(&sink);
}

static void test_open(void)
{
    Sink sink;
    sink_init(&sink, 1 << 20);
    add(sink.gate, 7, 1);
    gate_set_open(sink.gate, TRUE);
    assert_released(&sink, "1");
    g_assert_cmpint(add(sink.gate, 8, 2), ==, GATE_HELD);
    assert_released(&sink, "1 2");
    gate_set_open(sink.gate, FALSE);
    add(sink.gate, 8, 3);
    assert_released(&sink, "1 2");
    sink_clear(&sink);
}

static void test_discard(void)
{
    Sink sink;
    sink_init(&sink, 1 << 20);
    add(sink.gate, 1, 1);
    add(sink.gate, 2, 2);
    gate_discard(sink.gate);
    gate_release(sink.gate, 100);
    assert_released(&sink, "");
    g_assert_cmpuint(gate_stats(sink.gate)->discarded_frames, ==, 2);
    g_assert_cmpuint(gate_stats(sink.gate)->frames, ==, 0);
    sink_clear(&sink);
}

static void test_full(void)
{
    Sink sink;
    sink_init(&sink, 10000);
    /* 872 bytes and 128 for the entry: ten fit exactly. */
    for (guint32 i = 0; i < 10; i++)
        g_assert_cmpint(add_sized(sink.gate, 1, i, 872), ==, i < 7 ? GATE_HELD : GATE_FILLING);
    g_assert_cmpint(add(sink.gate, 1, 99), ==, GATE_FULL);
    g_assert_cmpuint(gate_stats(sink.gate)->dropped_frames, ==, 1);
    gate_release(sink.gate, 2);
    assert_released(&sink, "0 1 2 3 4 5 6 7 8 9");
    g_assert_cmpint(add_sized(sink.gate, 2, 1, 9873), ==, GATE_FULL);
    g_assert_cmpint(add_sized(sink.gate, 2, 1, 9872), ==, GATE_FILLING);
    gate_set_open(sink.gate, TRUE); /* open, the limit doesn't matter */
    g_assert_cmpint(add_sized(sink.gate, 2, 2, 20000), ==, GATE_HELD);
    sink_clear(&sink);
}

static void count(unsigned nic, guint64 epoch, GBytes *frame, gpointer user_data)
{
    g_assert_cmpuint(nic, ==, 3);
    g_string_append_printf(user_data, "%u@%" G_GUINT64_FORMAT " ",
                           colo_get_be32(g_bytes_get_data(frame, NULL)), epoch);
}

static void test_foreach(void)
{
    Sink sink;
    sink_init(&sink, 1 << 20);
    g_autoptr(GString) seen = g_string_new(NULL);
    add(sink.gate, 1, 1);
    add(sink.gate, 2, 2);
    add(sink.gate, 3, 3);
    gate_foreach(sink.gate, 3, count, seen);
    g_assert_cmpstr(seen->str, ==, "1@1 2@2 ");
    g_assert_cmpuint(gate_stats(sink.gate)->frames, ==, 3);
    sink_clear(&sink);
}

static void add_two(Gate *gate)
{
    add(gate, 1, 100);
    gate_release(gate, 3);
    add(gate, 3, 101);
}

static void close_and_add(Gate *gate)
{
    gate_set_open(gate, FALSE);
    add(gate, 1, 100);
}

static void discard(Gate *gate)
{
    gate_discard(gate);
}

static void test_calls_inside_release(void)
{
    Sink sink;
    sink_init(&sink, 1 << 20);
    add(sink.gate, 1, 1);
    add(sink.gate, 2, 2);
    sink.inside = add_two;
    gate_release(sink.gate, 2);
    assert_released(&sink, "1 2 100");
    sink.inside = close_and_add;
    gate_set_open(sink.gate, TRUE);
    assert_released(&sink, "1 2 100 101");
    g_assert_cmpuint(gate_stats(sink.gate)->frames, ==, 1);
    add(sink.gate, 1, 5);
    sink.inside = discard;
    gate_release(sink.gate, 2);
    assert_released(&sink, "1 2 100 101 100");
    sink_clear(&sink);
}

/* ---- Against a model ---- */

enum { MODEL_LIMIT = 40000 };

typedef struct {
    guint64 epoch;
    guint32 number;
    gsize len;
} ModelFrame;

typedef struct {
    GArray *held;     /* of ModelFrame */
    GArray *released; /* of guint32 */
    gboolean open;
} Model;

static void model_release(Model *model, guint64 until)
{
    while (model->held->len > 0) {
        ModelFrame *first = &g_array_index(model->held, ModelFrame, 0);
        if (!model->open && first->epoch >= until)
            return;
        g_array_append_val(model->released, first->number);
        g_array_remove_index(model->held, 0);
    }
}

static GateResult model_add(Model *model, ModelFrame frame)
{
    gsize charged = 0;
    for (guint i = 0; i < model->held->len; i++)
        charged += g_array_index(model->held, ModelFrame, i).len + 128;
    if (!model->open && charged + frame.len + 128 > MODEL_LIMIT)
        return GATE_FULL;
    g_array_append_val(model->held, frame);
    model_release(model, 0);
    return !model->open && charged + frame.len + 128 > MODEL_LIMIT / 4 * 3 ? GATE_FILLING
                                                                           : GATE_HELD;
}

static void random_step(Gate *gate, Model *model, guint64 *epoch, guint32 *number)
{
    switch (g_test_rand_int_range(0, 20)) {
    case 0:
        gate_discard(gate);
        g_array_set_size(model->held, 0);
        break;
    case 1:
        model->open = !model->open;
        gate_set_open(gate, model->open);
        model_release(model, 0);
        break;
    case 2:
    case 3: {
        guint64 back = (guint64)g_test_rand_int_range(0, 3);
        guint64 until = *epoch - MIN(*epoch, back);
        gate_release(gate, until);
        model_release(model, until);
        break;
    }
    case 4:
        (*epoch)++;
        break;
    default: {
        /* Now and then one of an epoch already left: it must wait all the same. */
        ModelFrame frame = {.epoch = *epoch - (g_test_rand_int_range(0, 10) == 0),
                            .number = (*number)++,
                            .len = (gsize)g_test_rand_int_range(4, 3000)};
        g_assert_cmpint(add_sized(gate, frame.epoch, frame.number, frame.len), ==,
                        model_add(model, frame));
        break;
    }
    }
}

static void test_model(void)
{
    for (int round = 0; round < 50; round++) {
        Sink sink;
        sink_init(&sink, MODEL_LIMIT);
        Model model = {.held = g_array_new(FALSE, FALSE, sizeof(ModelFrame)),
                       .released = g_array_new(FALSE, FALSE, sizeof(guint32))};
        guint64 epoch = 1;
        guint32 number = 0;
        for (int step = 0; step < 1000; step++) {
            random_step(sink.gate, &model, &epoch, &number);
            g_assert_cmpmem(sink.released->data, sink.released->len * 4, model.released->data,
                            model.released->len * 4);
            g_assert_cmpuint(gate_stats(sink.gate)->frames, ==, model.held->len);
        }
        g_array_unref(model.held);
        g_array_unref(model.released);
        sink_clear(&sink);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/gate/holds-until-committed", test_holds_until_committed);
    g_test_add_func("/gate/fits", test_fits);
    g_test_add_func("/gate/open", test_open);
    g_test_add_func("/gate/discard", test_discard);
    g_test_add_func("/gate/full", test_full);
    g_test_add_func("/gate/foreach", test_foreach);
    g_test_add_func("/gate/calls-inside-release", test_calls_inside_release);
    g_test_add_func("/gate/model", test_model);
    return g_test_run();
}
