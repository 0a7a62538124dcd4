/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The identifiers of disk sets: the table of what two of them are to each other, and their life. */
#include "block/generation.h"

#include <string.h>

/* ---- The table ---- */

/* `here` and `there` as current, bitmap, history. */
typedef struct {
    const char *name;
    Generation here, there;
    GenerationVerdict verdict;
    GenerationPermission there_is_target, here_is_target;
} Row;

#define GEN(c, b, h, d)                                                                            \
    {                                                                                              \
        .current = (c), .bitmap = (b), .history = {h}, .data = GENERATION_##d                      \
    }
#define YES     GENERATION_ALLOWED
#define DISCARD GENERATION_NEEDS_DISCARD
#define NEVER   GENERATION_FORBIDDEN

/* clang-format off */
static const Row rows[] = {
    {"two-blank",          GEN(0, 0, 0, WRITER),  GEN(0, 0, 0, WRITER),  GENERATION_NONE_AT_ALL,   NEVER, NEVER},
    {"blank-here",         GEN(0, 0, 0, WRITER),  GEN(1, 0, 0, WRITER),  GENERATION_NONE_HERE,     NEVER, YES},
    {"blank-there",        GEN(1, 0, 0, WRITER),  GEN(0, 0, 0, WRITER),  GENERATION_NONE_THERE,    YES, NEVER},
    {"broken-here",        GEN(1, 0, 0, BROKEN),  GEN(1, 0, 0, WRITER),  GENERATION_BROKEN_HERE,   NEVER, YES},
    {"broken-there",       GEN(1, 0, 0, WRITER),  GEN(0, 0, 0, BROKEN),  GENERATION_BROKEN_THERE,  YES, NEVER},
    {"broken-and-blank",   GEN(0, 0, 0, WRITER),  GEN(0, 0, 0, BROKEN),  GENERATION_BROKEN_THERE,  NEVER, NEVER},
    {"both-broken",        GEN(1, 0, 0, BROKEN),  GEN(2, 0, 0, BROKEN),  GENERATION_BROKEN_AT_ALL, NEVER, NEVER},
    {"replica-behind",     GEN(1, 0, 0, WRITER),  GEN(1, 0, 0, BEHIND),  GENERATION_NEWER,         YES, DISCARD},
    {"writer-there",       GEN(1, 0, 0, BEHIND),  GEN(1, 0, 0, WRITER),  GENERATION_OLDER,         DISCARD, YES},
    {"in-step",            GEN(1, 0, 0, WRITER),  GEN(1, 0, 0, IN_STEP), GENERATION_EQUAL,         YES, YES},
    {"copied-files",       GEN(1, 0, 0, WRITER),  GEN(1, 0, 0, WRITER),  GENERATION_SPLIT,         DISCARD, DISCARD},
    {"went-on",            GEN(2, 1, 0, WRITER),  GEN(1, 0, 0, BEHIND),  GENERATION_NEWER,         YES, DISCARD},
    {"overtaken",          GEN(1, 0, 0, WRITER),  GEN(2, 1, 0, WRITER),  GENERATION_OLDER,         DISCARD, YES},
    {"started-in-step",    GEN(2, 1, 0, WRITER),  GEN(1, 0, 0, IN_STEP), GENERATION_NEWER,         YES, DISCARD},
    {"long-ago",           GEN(3, 2, 1, WRITER),  GEN(1, 0, 0, WRITER),  GENERATION_NEWER,         YES, DISCARD},
    {"both-went-on",       GEN(2, 1, 0, WRITER),  GEN(3, 1, 0, WRITER),  GENERATION_SPLIT,         DISCARD, DISCARD},
    {"both-long-ago",      GEN(4, 2, 1, WRITER),  GEN(5, 3, 1, WRITER),  GENERATION_SPLIT,         DISCARD, DISCARD},
    {"each-the-other's",   GEN(2, 1, 0, WRITER),  GEN(1, 2, 0, WRITER),  GENERATION_SPLIT,         DISCARD, DISCARD},
    {"strangers",          GEN(2, 1, 0, WRITER),  GEN(4, 3, 0, WRITER),  GENERATION_UNRELATED,     DISCARD, DISCARD},
    {"nothing-in-common",  GEN(2, 0, 0, WRITER),  GEN(3, 0, 0, BEHIND),  GENERATION_UNRELATED,     DISCARD, DISCARD},
};
/* clang-format on */

static void test_table(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++) {
        const Row *row = &rows[i];
        g_test_message("%s", row->name);
        GenerationVerdict verdict = generation_compare(&row->here, &row->there);
        g_assert_cmpstr(generation_verdict_name(verdict), ==,
                        generation_verdict_name(row->verdict));
        g_assert_cmpint(generation_may_overwrite(&row->here, &row->there), ==,
                        row->there_is_target);
        g_assert_cmpint(generation_may_overwrite(&row->there, &row->here), ==, row->here_is_target);
    }
}

/* ---- All combinations of few identifiers ---- */

static gboolean next(Generation *g)
{
    enum { IDS = 4 };
    guint64 *fields[] = {&g->current, &g->bitmap, &g->history[0]};
    for (guint i = 0; i < G_N_ELEMENTS(fields); i++) {
        if (++*fields[i] < IDS)
            return TRUE;
        *fields[i] = 0;
    }
    return ++g->data <= GENERATION_BROKEN;
}

static const GenerationVerdict mirrored[GENERATION_VERDICTS] = {
    [GENERATION_EQUAL] = GENERATION_EQUAL,
    [GENERATION_NEWER] = GENERATION_OLDER,
    [GENERATION_OLDER] = GENERATION_NEWER,
    [GENERATION_SPLIT] = GENERATION_SPLIT,
    [GENERATION_UNRELATED] = GENERATION_UNRELATED,
    [GENERATION_NONE_HERE] = GENERATION_NONE_THERE,
    [GENERATION_NONE_THERE] = GENERATION_NONE_HERE,
    [GENERATION_NONE_AT_ALL] = GENERATION_NONE_AT_ALL,
    [GENERATION_BROKEN_HERE] = GENERATION_BROKEN_THERE,
    [GENERATION_BROKEN_THERE] = GENERATION_BROKEN_HERE,
    [GENERATION_BROKEN_AT_ALL] = GENERATION_BROKEN_AT_ALL,
};

static gboolean is_of_use(const Generation *g)
{
    return g->current != 0 && g->data != GENERATION_BROKEN;
}

static void test_all(void)
{
    guint seen[GENERATION_VERDICTS] = {0};
    Generation a = {0};
    do {
        Generation b = {0};
        do {
            GenerationVerdict verdict = generation_compare(&a, &b);
            seen[verdict]++;
            g_assert_cmpint(generation_compare(&b, &a), ==, mirrored[verdict]);
            GenerationPermission permission = generation_may_overwrite(&a, &b);
            /* Nobody gets what is of no use; what is of no use is anybody's to overwrite. */
            g_assert_true((permission == GENERATION_FORBIDDEN) == !is_of_use(&a));
            if (is_of_use(&a) && !is_of_use(&b))
                g_assert_cmpint(permission, ==, GENERATION_ALLOWED);
            /* What is overwritten without a word is in the source. */
            if (permission == GENERATION_ALLOWED && is_of_use(&b))
                g_assert_true(a.current == b.current || generation_holds(&a, b.current));
        } while (next(&b));
    } while (next(&a));
    for (guint i = 0; i < GENERATION_VERDICTS; i++)
        g_assert_cmpuint(seen[i], >, 0);
}

/* ---- Life: two sets, and the writes that are in them, as bits ---- */

typedef struct {
    Generation id;
    guint32 writes;
} Set;

typedef struct {
    Set set[2];
    guint writes;
} World;

enum { WRITES_MAX = 31 };

static void write_to(World *w, int i)
{
    if (w->writes < WRITES_MAX)
        w->set[i].writes |= 1u << w->writes++;
}

/* Starts to write alone, by whatever right. */
static void op_begin(World *w, int i)
{
    if (w->set[i].id.data == GENERATION_BROKEN)
        return;
    generation_begin(&w->set[i].id);
    write_to(w, i);
}

/* The other becomes its replica if that is allowed without a word: and then nothing is lost. */
static gboolean copy(World *w, int i)
{
    Set *source = &w->set[i], *target = &w->set[!i];
    if (source->id.data != GENERATION_WRITER ||
        generation_may_overwrite(&source->id, &target->id) != GENERATION_ALLOWED)
        return FALSE;
    if (is_of_use(&target->id))
        g_assert_cmpuint(target->writes & ~source->writes, ==, 0);
    source->id.exposed = TRUE;
    target->writes = source->writes;
    return TRUE;
}

static void op_replicate(World *w, int i)
{
    if (!copy(w, i))
        return;
    generation_adopt(&w->set[!i].id, &w->set[i].id);
    generation_adopted(&w->set[i].id);
    write_to(w, i);
}

/* Its source doesn't learn that it is complete. */
static void op_replicate_and_die(World *w, int i)
{
    if (!copy(w, i))
        return;
    generation_adopt(&w->set[!i].id, &w->set[i].id);
    write_to(w, i);
}

static void op_half(World *w, int i)
{
    if (copy(w, i))
        w->set[!i].id.data = GENERATION_BROKEN;
}

static void op_end(World *w, int i)
{
    Set *source = &w->set[i], *target = &w->set[!i];
    if (source->id.data != GENERATION_WRITER || target->id.data != GENERATION_BEHIND ||
        source->id.current != target->id.current)
        return;
    target->writes = source->writes;
    generation_reach(&target->id);
}

/* The replica goes on with all that it was told counts: what its source has written since, nobody
 * has heard of. */
static void op_take_over(World *w, int i)
{
    Set *dead = &w->set[i], *next_one = &w->set[!i];
    if (dead->id.data != GENERATION_WRITER || next_one->id.data != GENERATION_BEHIND ||
        dead->id.current != next_one->id.current)
        return;
    dead->writes = next_one->writes;
    generation_take_over(&next_one->id);
    write_to(w, !i);
}

static void op_blank(World *w, int i)
{
    w->set[i] = (Set){0};
}

static void (*const ops[])(World *w, int i) = {
    op_begin, op_replicate, op_replicate_and_die, op_half, op_end, op_take_over, op_blank};

static guint worlds;

static void live(const World *from, guint depth)
{
    worlds++;
    if (depth == 0)
        return;
    for (guint op = 0; op < G_N_ELEMENTS(ops); op++)
        for (int i = 0; i < 2; i++) {
            World w = *from;
            ops[op](&w, i);
            if (memcmp(&w, from, sizeof(w)))
                live(&w, depth - 1);
        }
}

static void test_life(void)
{
    World w;
    memset(&w, 0, sizeof(w));
    live(&w, 6);
    g_test_message("%u worlds", worlds);
    g_assert_cmpuint(worlds, >, 10000);
}

static void test_begin(void)
{
    Generation g = {0};
    generation_begin(&g);
    guint64 first = g.current;
    g_assert_cmpuint(first, !=, 0);
    g_assert_cmpuint(g.bitmap, ==, 0);
    /* Started again, and nobody has seen it. */
    generation_begin(&g);
    g_assert_cmpuint(g.current, ==, first);
    g.exposed = TRUE;
    generation_begin(&g);
    g_assert_cmpuint(g.current, !=, first);
    g_assert_cmpuint(g.bitmap, ==, first);
    g_assert_true(generation_holds(&g, first));
    g_assert_true(generation_holds(&g, g.current));
    g_assert_false(generation_holds(&g, 0));
    Generation replica = {0};
    generation_adopt(&replica, &g);
    g_assert_false(generation_holds(&replica, g.current));
    g_assert_true(generation_holds(&replica, first));
    Generation behind = replica;
    generation_reach(&replica);
    g_assert_true(generation_holds(&replica, g.current));
    /* By an administrator's word, and not as the one that the writer left everything to. */
    Generation taken_over = behind;
    generation_begin(&behind);
    g_assert_false(generation_holds(&behind, g.current));
    generation_take_over(&taken_over);
    g_assert_true(generation_holds(&taken_over, g.current));
}

/* However often a peer is lost, the generation that it had is known while the history lasts. */
static void test_history(void)
{
    Generation g = {0};
    generation_begin(&g);
    guint64 first = g.current;
    for (guint i = 0; i < GENERATION_HISTORY + 1; i++) {
        g.exposed = TRUE;
        generation_begin(&g);
        g_assert_true(generation_holds(&g, first));
    }
    g.exposed = TRUE;
    generation_begin(&g);
    g_assert_false(generation_holds(&g, first));
}

static void test_text(void)
{
    static const char *const wrong[] = {
        "", "0000000000000000", "123", "00000000000000001", "000000000000000g", "-000000000000001"};
    char text[GENERATION_TEXT_BYTES];
    guint64 id = 0;
    generation_text(0x1a2b3c4d00000001u, text);
    g_assert_cmpstr(text, ==, "1a2b3c4d00000001");
    g_assert_true(generation_parse(text, &id));
    g_assert_cmpuint(id, ==, 0x1a2b3c4d00000001u);
    for (guint i = 0; i < G_N_ELEMENTS(wrong); i++)
        g_assert_false(generation_parse(wrong[i], &id));
    for (GenerationData data = 0; data <= GENERATION_BROKEN; data++) {
        GenerationData back;
        g_assert_true(generation_data_parse(generation_data_name(data), &back));
        g_assert_cmpint(back, ==, data);
    }
    GenerationData none;
    g_assert_false(generation_data_parse("", &none));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/block/generation/table", test_table);
    g_test_add_func("/block/generation/all", test_all);
    g_test_add_func("/block/generation/life", test_life);
    g_test_add_func("/block/generation/begin", test_begin);
    g_test_add_func("/block/generation/history", test_history);
    g_test_add_func("/block/generation/text", test_text);
    return g_test_run();
}
