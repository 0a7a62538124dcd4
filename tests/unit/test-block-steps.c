/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What may follow what in a set of disks, and which record may come when: all pairs. */
#include "block/steps.h"
#include "block/wire.h"

/* In the order of DiskMode; '.': must not be. What is the same already is no step. */
static void test_modes(void)
{
    static const char *const steps[DISK_MODES] = {
        [DISK_MODE_OPENING] = "oa.r",
        [DISK_MODE_ACTIVE] = ".ai.",
        [DISK_MODE_INACTIVE] = ".air",
        [DISK_MODE_REPLICA] = ".a.r",
    };
    for (guint from = 0; from < DISK_MODES; from++)
        for (guint to = 0; to < DISK_MODES; to++) {
            g_assert_true(disk_mode_may(from, to) == (steps[from][to] != '.'));
            if (steps[from][to] != '.')
                g_assert_cmpint(disk_mode_name(to)[0], ==, steps[from][to]);
        }
}

static void test_states(void)
{
    static const BlockState all[] = {BLOCK_STATE_OWNED, BLOCK_STATE_INCOMPLETE,
                                     BLOCK_STATE_REPLICA};
    for (gsize i = 0; i < G_N_ELEMENTS(all); i++)
        for (gsize k = 0; k < G_N_ELEMENTS(all); k++) {
            /* Only a synchronisation makes a replica. */
            gboolean may = all[k] != BLOCK_STATE_REPLICA || all[i] != BLOCK_STATE_OWNED;
            g_assert_true(block_state_may(all[i], all[k]) == may);
            g_assert_true(g_str_equal(block_state_name(all[i]), block_state_name(all[k])) ==
                          (i == k));
        }
}

/* A checkpoint that may lack something is no checkpoint. */
static void test_found(void)
{
    for (BlockState state = BLOCK_STATE_OWNED; state <= BLOCK_STATE_REPLICA; state++) {
        g_assert_cmpint(block_state_found(state, TRUE), ==, state);
        g_assert_cmpint(block_state_found(state, FALSE), ==,
                        state == BLOCK_STATE_REPLICA ? BLOCK_STATE_INCOMPLETE : state);
        g_assert_true(block_state_may(state, block_state_found(state, FALSE)));
    }
}

static void test_phases(void)
{
    for (guint from = 0; from < PRIMARY_PHASES; from++)
        for (guint to = 0; to <= PRIMARY_PHASES; to++)
            g_assert_true(disk_primary_may(from, to) == (to == from + 1 && to != PRIMARY_PHASES));
    for (guint from = 0; from < REPLICA_PHASES; from++)
        for (guint to = 0; to <= REPLICA_PHASES; to++)
            g_assert_true(disk_replica_may(from, to) == (to == from + 1 && to != REPLICA_PHASES));
    for (guint phase = 0; phase < PRIMARY_PHASES; phase++)
        g_assert_nonnull(disk_primary_phase_name(phase));
    for (guint phase = 0; phase < REPLICA_PHASES; phase++)
        g_assert_nonnull(disk_replica_phase_name(phase));
}

typedef struct {
    guint16 type;
    const char *at_primary; /* a digit for each phase in which it may come */
    const char *at_replica;
} Expected;

static gboolean has(const char *digits, guint phase)
{
    for (; *digits; digits++)
        if (g_ascii_digit_value(*digits) == (gint)phase)
            return TRUE;
    return FALSE;
}

/* docs/DISKS.md: nothing else may come, of any type that there can be. */
static void test_records(void)
{
    static const Expected expected[] = {
        {WIRE_HELLO,    "0", "0" },
        {WIRE_BITMAP,   "1", ""  },
        {WIRE_READY,    "1", ""  },
        {WIRE_START,    "",  "1" },
        {WIRE_HASH,     "",  "2" },
        {WIRE_SYNC_END, "",  "2" },
        {WIRE_WRITE,    "",  "23"},
        {WIRE_ZERO,     "",  "23"},
        {WIRE_MARK,     "",  "23"},
        {WIRE_NEED,     "2", ""  },
        {WIRE_SYNCED,   "2", ""  },
        {WIRE_APPLIED,  "2", ""  },
    };
    for (guint type = 0; type <= G_MAXUINT16; type++) {
        Expected none = {(guint16)type, "", ""};
        const Expected *row = &none;
        for (gsize i = 0; i < G_N_ELEMENTS(expected); i++)
            if (expected[i].type == type)
                row = &expected[i];
        for (guint phase = 0; phase < PRIMARY_PHASES; phase++)
            g_assert_true(disk_primary_expects(phase, row->type) == has(row->at_primary, phase));
        for (guint phase = 0; phase < REPLICA_PHASES; phase++)
            g_assert_true(disk_replica_expects(phase, row->type) == has(row->at_replica, phase));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/block-steps/modes", test_modes);
    g_test_add_func("/block-steps/states", test_states);
    g_test_add_func("/block-steps/found", test_found);
    g_test_add_func("/block-steps/phases", test_phases);
    g_test_add_func("/block-steps/records", test_records);
    return g_test_run();
}
