/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See dirtier.h. Invariant, while the lock is free: line l of page p holds what the last write to
 * it left. That is content(p, g) for the greatest generation g <= generations[p] with g % 64 == l,
 * and zeros if there is none.
 */
#include "tests/guest/dirtier.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE_WORDS   512u
#define LINE_WORDS   8u
#define PAGE_LINES   (PAGE_WORDS / LINE_WORDS)
#define TICK_NS      2000000
#define TOLD_IN_FULL 16
/* What a pause may pile up: more is forgotten, so that a stopped guest does not go wild after. */
#define BACKLOG_PAGES 4096u
#define PAGE_BYTES    4096u

static uint64_t *arena;
static uint64_t *generations;
static uint64_t arena_pages;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static atomic_uint_fast64_t rate, dirtied, corrupt;

/* Word `i` of what generation `generation` writes to page `page` (splitmix64's finisher). */
static uint64_t content(uint64_t page, uint64_t generation, unsigned i)
{
    uint64_t x = page * 0x9e3779b97f4a7c15u + generation * 0xd1b54a32d192ed03u + i;

    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void tell_corruption(uint64_t page, unsigned line, uint64_t generation, unsigned word,
                            uint64_t found)
{
    if (atomic_fetch_add(&corrupt, 1) < TOLD_IN_FULL)
        printf("colo-guest: CORRUPT page %llu (at %p) line %u word %u generation %llu: %016llx\n",
               (unsigned long long)page, (void *)(arena + page * PAGE_WORDS), line, word,
               (unsigned long long)generation, (unsigned long long)found);
    fflush(stdout);
}

/* Checks one line of a page of generation `current`. The lock is held. */
static bool check_line(uint64_t page, unsigned line, uint64_t current)
{
    const uint64_t *words = arena + page * PAGE_WORDS + line * LINE_WORDS;
    uint64_t back = (current - line) % PAGE_LINES;
    uint64_t generation = current >= back ? current - back : 0;

    for (unsigned i = 0; i < LINE_WORDS; i++) {
        uint64_t expected = generation == 0 ? 0 : content(page, generation, i);

        if (words[i] != expected) {
            tell_corruption(page, line, current, i, words[i]);
            return false;
        }
    }
    return true;
}

/* Writes the next line of a page, after a look at what it held. The lock is held. */
static void touch_page(uint64_t page)
{
    uint64_t generation = generations[page] + 1;
    unsigned line = generation % PAGE_LINES;
    uint64_t *words = arena + page * PAGE_WORDS + line * LINE_WORDS;

    check_line(page, line, generations[page]);
    for (unsigned i = 0; i < LINE_WORDS; i++)
        words[i] = content(page, generation, i);
    generations[page] = generation;
}

static uint64_t monotonic_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

bool dirtier_init(uint64_t pages)
{
    for (arena_pages = 1; arena_pages * 2 <= pages; arena_pages *= 2)
        ;
    arena = mmap(NULL, arena_pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    generations = calloc(arena_pages, sizeof(*generations));
    return arena != MAP_FAILED && generations != NULL;
}

void dirtier_set_rate(uint64_t pages_per_second)
{
    atomic_store(&rate, pages_per_second);
}

void dirtier_status(DirtierStatus *ret_status)
{
    *ret_status = (DirtierStatus){
        .arena = arena,
        .arena_pages = arena_pages,
        .pages_per_second = atomic_load(&rate),
        .dirtied = atomic_load(&dirtied),
        .corrupt = atomic_load(&corrupt),
    };
}

void *dirtier_thread(void *unused)
{
    const struct timespec tick = {.tv_nsec = TICK_NS};
    uint64_t last_ns = monotonic_ns(), position = 0;
    double due = 0;

    (void)unused;
    for (;;) {
        uint64_t pages_per_second = atomic_load(&rate), now_ns;

        /* Idle means idle: without a rate it only looks for one, a few times in a second. */
        nanosleep(pages_per_second > 0 ? &tick : &(struct timespec){.tv_nsec = 100 * 1000000},
                  NULL);
        now_ns = monotonic_ns();
        due += (double)(now_ns - last_ns) * (double)pages_per_second / 1e9;
        last_ns = now_ns;
        if (pages_per_second == 0 || due > (double)(pages_per_second / 10 + BACKLOG_PAGES))
            due = pages_per_second == 0 ? 0 : (double)(pages_per_second / 10 + BACKLOG_PAGES);
        pthread_mutex_lock(&lock);
        for (; due >= 1; due -= 1) {
            /* An odd factor walks through all pages of a power of two before one comes again. */
            touch_page(position++ * 2654435761u % arena_pages);
            atomic_fetch_add(&dirtied, 1);
        }
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

uint64_t dirtier_verify(void)
{
    uint64_t wrong = 0;

    for (uint64_t page = 0; page < arena_pages; page++) {
        pthread_mutex_lock(&lock);
        for (unsigned line = 0; line < PAGE_LINES; line++)
            wrong += !check_line(page, line, generations[page]);
        pthread_mutex_unlock(&lock);
    }
    return wrong;
}
