/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is on record of a VM, and from whose disks it may run. */
#include "colo/arbiter/record.h"

#include "colo/arbiter/arbiter.h"

#include <string.h>

/* ---- Text ---- */

static void assert_same(const ArbiterRecord *a, const ArbiterRecord *b)
{
    g_assert_cmpint(a->rests, ==, b->rests);
    g_assert_cmpstr(a->writer, ==, b->writer);
    g_assert_cmpstr(a->session, ==, b->session);
    g_assert_cmpuint(a->generation, ==, b->generation);
    g_assert_cmpuint(a->epoch, ==, b->epoch);
    g_assert_cmpstr(a->in_step, ==, b->in_step);
}

static void round_trip(ArbiterRecord record)
{
    g_auto(ArbiterRecord) back = {0};
    g_autofree char *text = arbiter_record_text(&record, "2026-01-01T00:00:00Z");
    g_assert_true(arbiter_record_parse(text, strlen(text), &back));
    assert_same(&record, &back);
    /* Cut off anywhere, it is none. */
    for (gsize len = 0; len < strlen(text); len++) {
        ArbiterRecord none;
        g_assert_false(arbiter_record_parse(text, len, &none));
    }
}

static void test_round_trip(void)
{
    ArbiterRecord record = {.writer = (char *)"alpha"};
    round_trip(record);
    record.generation = 0x1a2b;
    record.session = (char *)"0011";
    round_trip(record);
    record.rests = TRUE;
    round_trip(record);
    record.generation = G_MAXUINT64;
    record.epoch = 123456789;
    record.in_step = (char *)"beta";
    round_trip(record);
}

static void test_old(void)
{
    static const char text[] = "colo owner 1\nowner alpha\nsession 0011\nat 2026\n";
    g_auto(ArbiterRecord) record = {0};
    g_assert_true(arbiter_record_parse(text, strlen(text), &record));
    assert_same(&record, &(ArbiterRecord){.writer = (char *)"alpha", .session = (char *)"0011"});
}

static void test_no_record(void)
{
    static const char *const texts[] = {
        "",
        "\n",
        "colo owner 3\nowner alpha\nsession -\nat 2026\n",
        "colo owner 1\nowner alpha\nsession ../x\nat 2026\n",
        "colo owner 1\nowner \nsession -\nat 2026\n",
        "colo owner 1\nowner alpha\nsession -\nat 2026\nmore\n",
        "colo owner 2\nowner alpha\nsession -\nat 2026\n",
        "colo owner 2\nowner a\nsession -\nwriter b\ngeneration -\nepoch 0\nin-step -\nat 2\n",
        "colo owner 2\nowner -\nsession -\nwriter b\ngeneration -\nepoch 0\nin-step -\nat 2\n",
        "colo owner 2\nowner b\nsession -\nwriter b\ngeneration 12\nepoch 0\nin-step -\nat 2\n",
        "colo owner 2\nowner b\nsession -\nwriter b\ngeneration -\nepoch -1\nin-step -\nat 2\n",
    };
    for (guint i = 0; i < G_N_ELEMENTS(texts); i++) {
        ArbiterRecord record;
        g_assert_false(arbiter_record_parse(texts[i], strlen(texts[i]), &record));
    }
}

/* ---- Whose disks ---- */

/* Generation 2, which came from 1. */
#define DISKS(kind)                                                                                \
    {                                                                                              \
        .current = 2, .bitmap = 1, .data = GENERATION_##kind                                       \
    }
#define BLANK                                                                                      \
    {                                                                                              \
        .current = 0                                                                               \
    }

typedef enum { NOTHING, RUNS, RESTS, RESTS_IN_STEP } OnRecord;

typedef struct {
    const char *name;
    OnRecord on_record; /* of alpha; beta in step */
    guint64 generation;
    const char *who;
    gboolean owns, chosen;
    Generation disks;
    const char *refused; /* a part of the message; NULL: good */
} Row;

/* clang-format off */
static const Row rows[] = {
    /* Nothing on record: an administrator says whose image counts. */
    {"first-auto",          NOTHING,       0, "alpha", FALSE, FALSE, BLANK,          "--role primary once"},
    {"first-chosen",        NOTHING,       0, "alpha", FALSE, TRUE,  BLANK,          NULL},
    {"record-lost",         NOTHING,       0, "alpha", FALSE, FALSE, DISKS(WRITER),  "--role primary once"},
    {"record-lost-chosen",  NOTHING,       0, "alpha", FALSE, TRUE,  DISKS(WRITER),  NULL},
    {"record-lost-behind",  NOTHING,       0, "alpha", FALSE, TRUE,  DISKS(BEHIND),  "the other node"},
    {"record-lost-broken",  NOTHING,       0, "alpha", FALSE, TRUE,  DISKS(BROKEN),  "incomplete replica"},
    /* It runs the VM, and starts again. */
    {"again",               RUNS,          2, "alpha", TRUE,  FALSE, DISKS(WRITER),  NULL},
    {"again-before-record", RUNS,          1, "alpha", TRUE,  FALSE, DISKS(WRITER),  NULL},
    {"again-first",         RUNS,          0, "alpha", TRUE,  FALSE, DISKS(WRITER),  NULL},
    {"again-new-disk",      RUNS,          2, "alpha", TRUE,  TRUE,  BLANK,          "are not the newest"},
    {"again-other-disk",    RUNS,          3, "alpha", TRUE,  TRUE,  DISKS(WRITER),  "are not the newest"},
    {"again-new-disk-old",  RUNS,          0, "alpha", TRUE,  FALSE, BLANK,          "--role primary once"},
    {"won-and-died",        RUNS,          2, "beta",  TRUE,  FALSE, DISKS(BEHIND),  "node alpha"},
    {"won-and-broke",       RUNS,          2, "beta",  TRUE,  TRUE,  DISKS(BROKEN),  "node alpha"},
    {"won-and-took-over",   RUNS,          1, "beta",  TRUE,  FALSE, DISKS(WRITER),  NULL},
    /* Nobody runs it. */
    {"writer",              RESTS,         2, "alpha", FALSE, FALSE, DISKS(WRITER),  NULL},
    {"in-step",             RESTS_IN_STEP, 2, "beta",  FALSE, FALSE, DISKS(IN_STEP), NULL},
    {"not-told-in-step",    RESTS,         2, "beta",  FALSE, TRUE,  DISKS(IN_STEP), "node alpha (generation 00000000)"},
    {"in-step-is-behind",   RESTS_IN_STEP, 2, "beta",  FALSE, TRUE,  DISKS(BEHIND),  "node alpha and node beta"},
    {"in-step-is-older",    RESTS_IN_STEP, 3, "beta",  FALSE, TRUE,  DISKS(IN_STEP), "are not the newest"},
    {"in-step-is-other",    RESTS_IN_STEP, 1, "beta",  FALSE, TRUE,  DISKS(IN_STEP), "are not the newest"},
    {"in-step-has-written", RESTS_IN_STEP, 2, "beta",  FALSE, TRUE,  DISKS(WRITER),  "are not the newest"},
    {"blank",               RESTS,         2, "beta",  FALSE, TRUE,  BLANK,          "--overrule-arbiter"},
    {"writer-is-blank",     RESTS_IN_STEP, 2, "alpha", FALSE, TRUE,  BLANK,          "node alpha and node beta"},
    {"writer-is-broken",    RESTS,         2, "alpha", FALSE, TRUE,  DISKS(BROKEN),  "incomplete replica"},
    {"in-step-was-started", RESTS_IN_STEP, 1, "beta",  TRUE,  FALSE, DISKS(WRITER),  NULL},
    /* Disks that a VM without any was given. */
    {"new-disks-auto",      RESTS,         0, "beta",  FALSE, FALSE, BLANK,          "--role primary once"},
    {"new-disks-chosen",    RESTS,         0, "beta",  FALSE, TRUE,  BLANK,          NULL},
};
/* clang-format on */

static void test_stakes(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        const Row *row = &rows[i];
        ArbiterRecord record = {.rests = row->on_record >= RESTS, .generation = row->generation};
        record.writer = (char *)"alpha";
        record.session = (char *)"77";
        record.in_step = row->on_record == RESTS_IN_STEP ? (char *)"beta" : NULL;
        ArbiterStake stake = {.has_disks = TRUE, .chosen = row->chosen, .generation = row->disks};
        g_autoptr(GError) error = NULL;
        g_test_message("%s", row->name);
        gboolean good = arbiter_stake_is_good(&stake, row->on_record == NOTHING ? NULL : &record,
                                              row->who, row->owns, &error);
        g_assert_cmpint(good, ==, !row->refused);
        if (!good) {
            g_assert_error(error, ARBITER_ERROR, ARBITER_ERROR_DISKS);
            g_assert_nonnull(strstr(error->message, row->refused));
            /* What would have to be undone by hand is never advised for half a replica. */
            if (row->disks.data == GENERATION_BROKEN)
                g_assert_null(strstr(error->message, "--overrule-arbiter"));
            g_assert_null(strstr(error->message, "remove"));
        }
        /* Without disks there is nothing to be old. */
        stake.has_disks = FALSE;
        g_assert_true(arbiter_stake_is_good(&stake, &record, row->who, row->owns, NULL));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/arbiter-record/round-trip", test_round_trip);
    g_test_add_func("/arbiter-record/old", test_old);
    g_test_add_func("/arbiter-record/no-record", test_no_record);
    g_test_add_func("/arbiter-record/stakes", test_stakes);
    return g_test_run();
}
