/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes to pages of an arena at a settable rate, and checks them. A page's whole content is a
 * function of its number and of how often it was written (its generation, kept outside the arena).
 * Each write changes one of its 64 cache lines in turn. So memory that is stale, torn or mixed up
 * with another page shows, whichever page is looked at and whenever.
 */
#ifndef COLO_TESTS_GUEST_DIRTIER_H
#define COLO_TESTS_GUEST_DIRTIER_H

#include <stdbool.h>
#include <stdint.h>

typedef struct {
    const void *arena; /* its address in this process */
    uint64_t arena_pages;
    uint64_t pages_per_second; /* as asked for */
    uint64_t dirtied;          /* writes so far */
    uint64_t corrupt;          /* lines found wrong so far */
} DirtierStatus;

/* Makes the arena (rounded down to a power of two of pages, at least one); false: no memory. */
bool dirtier_init(uint64_t pages);

/* The writing thread; never returns. Every line is checked before it is overwritten. */
void *dirtier_thread(void *unused);

/* From any thread. Consecutive writes go to different pages; 0 stops it. */
void dirtier_set_rate(uint64_t pages_per_second);
void dirtier_status(DirtierStatus *ret_status);

/*
 * Checks the whole arena, from any thread: the number of wrong lines. Each is told on the console,
 * the first few of a run in full.
 */
uint64_t dirtier_verify(void);

#endif
