/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/guess.h"

#include <string.h>

/* Names longer than this are not worth a guess (and `row` below is bounded by it). */
#define GUESS_MAX 40

/* Levenshtein's distance, letters of either case being equal. Both at most GUESS_MAX long. */
static gsize distance(const char *a, const char *b)
{
    gsize row[GUESS_MAX + 1];
    gsize len = strlen(b);
    for (gsize j = 0; j <= len; j++)
        row[j] = j;
    for (gsize i = 1; a[i - 1]; i++) {
        gsize diagonal = row[0];
        row[0] = i;
        for (gsize j = 1; j <= len; j++) {
            gsize replaced = diagonal + (g_ascii_tolower(a[i - 1]) != g_ascii_tolower(b[j - 1]));
            diagonal = row[j];
            row[j] = MIN(replaced, MIN(row[j], row[j - 1]) + 1);
        }
    }
    return row[len];
}

Guess guess_new(const char *wanted)
{
    /* Up to a third of the letters may be wrong, and always two. */
    return (Guess){.wanted = wanted, .best_distance = MAX(strlen(wanted) / 3, 2) + 1};
}

void guess_consider(Guess *guess, const char *candidate)
{
    if (strlen(guess->wanted) > GUESS_MAX)
        return;
    gsize d = distance(guess->wanted, candidate);
    /* "period" for "checkpoint-period" is far by letters and near for people. */
    if (strlen(guess->wanted) >= 4 &&
        (g_str_has_suffix(candidate, guess->wanted) || g_str_has_prefix(candidate, guess->wanted)))
        d = MIN(d, 2);
    if (d < guess->best_distance) {
        guess->best = candidate;
        guess->best_distance = d;
    }
}
