/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/generation.h"

#include <string.h>

/* The generation is among those that came before `generation`'s current. */
static gboolean descends_from(const Generation *generation, guint64 id)
{
    if (id == 0)
        return FALSE;
    for (guint i = 0; i < GENERATION_HISTORY; i++)
        if (generation->history[i] == id)
            return TRUE;
    return generation->bitmap == id;
}

static gboolean have_ancestor(const Generation *a, const Generation *b)
{
    for (guint i = 0; i < GENERATION_HISTORY; i++)
        if (descends_from(b, a->history[i]))
            return TRUE;
    return descends_from(b, a->bitmap);
}

/* Two sets of one generation. */
static GenerationVerdict compare_data(GenerationData here, GenerationData there)
{
    gboolean all_here = here != GENERATION_BEHIND, all_there = there != GENERATION_BEHIND;
    /* There is one writer: somebody has copied files. */
    if (here == GENERATION_WRITER && there == GENERATION_WRITER)
        return GENERATION_SPLIT;
    if (all_here == all_there)
        return GENERATION_EQUAL;
    return all_here ? GENERATION_NEWER : GENERATION_OLDER;
}

GenerationVerdict generation_compare(const Generation *here, const Generation *there)
{
    gboolean broken_here = here->data == GENERATION_BROKEN;
    gboolean broken_there = there->data == GENERATION_BROKEN;
    if (broken_here || broken_there)
        return !broken_there  ? GENERATION_BROKEN_HERE
               : !broken_here ? GENERATION_BROKEN_THERE
                              : GENERATION_BROKEN_AT_ALL;
    if (here->current == 0 || there->current == 0)
        return there->current != 0  ? GENERATION_NONE_HERE
               : here->current != 0 ? GENERATION_NONE_THERE
                                    : GENERATION_NONE_AT_ALL;
    if (here->current == there->current)
        return compare_data(here->data, there->data);
    gboolean newer = descends_from(here, there->current);
    gboolean older = descends_from(there, here->current);
    if (newer != older)
        return newer ? GENERATION_NEWER : GENERATION_OLDER;
    return newer || have_ancestor(here, there) ? GENERATION_SPLIT : GENERATION_UNRELATED;
}

const char *generation_verdict_name(GenerationVerdict verdict)
{
    static const char *const names[GENERATION_VERDICTS] = {
        [GENERATION_EQUAL] = "equal",
        [GENERATION_NEWER] = "newer",
        [GENERATION_OLDER] = "older",
        [GENERATION_SPLIT] = "split",
        [GENERATION_UNRELATED] = "unrelated",
        [GENERATION_NONE_HERE] = "none-here",
        [GENERATION_NONE_THERE] = "none-there",
        [GENERATION_NONE_AT_ALL] = "none-at-all",
        [GENERATION_BROKEN_HERE] = "broken-here",
        [GENERATION_BROKEN_THERE] = "broken-there",
        [GENERATION_BROKEN_AT_ALL] = "broken-at-all",
    };
    return names[verdict];
}

GenerationPermission generation_may_overwrite(const Generation *source, const Generation *target)
{
    if (source->current == 0)
        return GENERATION_FORBIDDEN;
    switch (generation_compare(source, target)) {
    case GENERATION_EQUAL:
    case GENERATION_NEWER:
    case GENERATION_NONE_THERE:
    case GENERATION_BROKEN_THERE:
        return GENERATION_ALLOWED;
    case GENERATION_OLDER:
    case GENERATION_SPLIT:
    case GENERATION_UNRELATED:
        return GENERATION_NEEDS_DISCARD;
    case GENERATION_NONE_HERE:
    case GENERATION_NONE_AT_ALL:
    case GENERATION_BROKEN_HERE:
    case GENERATION_BROKEN_AT_ALL:
        return GENERATION_FORBIDDEN;
    case GENERATION_VERDICTS:
        break;
    }
    g_assert_not_reached();
}

gboolean generation_holds(const Generation *generation, guint64 id)
{
    if (id == 0 || generation->data == GENERATION_BROKEN)
        return FALSE;
    return generation->current == id ? generation->data != GENERATION_BEHIND
                                     : descends_from(generation, id);
}

static void remember(Generation *generation, guint64 id)
{
    if (id == 0)
        return;
    memmove(generation->history + 1, generation->history,
            (GENERATION_HISTORY - 1) * sizeof(generation->history[0]));
    generation->history[0] = id;
}

static guint64 draw(void)
{
    guint64 id;
    do {
        id = (guint64)g_random_int() << 32 | g_random_int();
    } while (id == 0);
    return id;
}

void generation_begin(Generation *generation)
{
    g_assert(generation->data != GENERATION_BROKEN);
    if (generation->current == 0 || generation->data == GENERATION_BEHIND) {
        generation->current = draw();
    } else if (generation->exposed || generation->data == GENERATION_IN_STEP) {
        remember(generation, generation->bitmap);
        generation->bitmap = generation->current;
        generation->current = draw();
    }
    generation->data = GENERATION_WRITER;
    generation->exposed = FALSE;
}

void generation_take_over(Generation *generation)
{
    g_assert(generation->data == GENERATION_BEHIND);
    generation->data = GENERATION_IN_STEP;
    generation_begin(generation);
}

void generation_adopt(Generation *generation, const Generation *source)
{
    *generation = *source;
    generation_adopted(generation);
    generation->data = GENERATION_BEHIND;
    generation->exposed = TRUE;
}

void generation_reach(Generation *generation)
{
    g_assert(generation->data == GENERATION_BEHIND || generation->data == GENERATION_IN_STEP);
    generation->data = GENERATION_IN_STEP;
}

void generation_adopted(Generation *generation)
{
    remember(generation, generation->bitmap);
    generation->bitmap = 0;
}

/* ---- Text ---- */

static const char *const data_names[] = {[GENERATION_WRITER] = "writer",
                                         [GENERATION_IN_STEP] = "in-step",
                                         [GENERATION_BEHIND] = "behind",
                                         [GENERATION_BROKEN] = "broken"};

const char *generation_data_name(GenerationData data)
{
    return data_names[data];
}

gboolean generation_data_parse(const char *text, GenerationData *ret_data)
{
    for (guint i = 0; i < G_N_ELEMENTS(data_names); i++)
        if (!strcmp(text, data_names[i])) {
            *ret_data = (GenerationData)i;
            return TRUE;
        }
    return FALSE;
}

void generation_text(guint64 id, char text[GENERATION_TEXT_BYTES])
{
    g_snprintf(text, GENERATION_TEXT_BYTES, "%016" G_GINT64_MODIFIER "x", id);
}

gboolean generation_parse(const char *text, guint64 *ret_id)
{
    guint64 id = 0;
    guint digits = 0;
    for (; text[digits]; digits++) {
        int value = g_ascii_xdigit_value(text[digits]);
        if (value < 0 || digits + 1 == GENERATION_TEXT_BYTES)
            return FALSE;
        id = id << 4 | (guint64)value;
    }
    if (digits + 1 != GENERATION_TEXT_BYTES || id == 0)
        return FALSE;
    *ret_id = id;
    return TRUE;
}

char *generation_describe(const Generation *generation)
{
    if (generation->data == GENERATION_BROKEN)
        return g_strdup("broken");
    if (generation->current == 0)
        return g_strdup("none");
    return g_strdup_printf("%08x (%s)", (guint)(generation->current >> 32),
                           generation_data_name(generation->data));
}
