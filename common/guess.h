/* SPDX-License-Identifier: GPL-2.0-or-later */
/* "Did you mean ...?": which of some known names is nearest to what somebody wrote. */
#ifndef COLO_COMMON_GUESS_H
#define COLO_COMMON_GUESS_H

#include <glib.h>

typedef struct {
    const char *wanted;
    const char *best; /* of those considered; NULL: none is near */
    gsize best_distance;
} Guess;

/* The strings are borrowed. */
Guess guess_new(const char *wanted);
void guess_consider(Guess *guess, const char *candidate);

#endif
