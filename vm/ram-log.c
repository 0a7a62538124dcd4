/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/ram-log.h"

#include "vm/vm.h"

#define PAGES_PER_WORD 64u

struct RamLog {
    guint64 words;
    guint64 *marks;
};

RamLog *ram_log_new(guint64 size_bytes)
{
    RamLog *log = g_new0(RamLog, 1);
    guint64 pages = size_bytes / VM_PAGE_SIZE;
    log->words = (pages + PAGES_PER_WORD - 1) / PAGES_PER_WORD;
    log->marks = g_new0(guint64, MAX(log->words, 1));
    return log;
}

void ram_log_free(RamLog *log)
{
    if (!log)
        return;
    g_free(log->marks);
    g_free(log);
}

/* The bits of pages `from` up to `to`, both of one word: 0 <= from < to <= 64. */
static guint64 bits(guint64 from, guint64 to)
{
    guint64 up = ~G_GUINT64_CONSTANT(0) << from;
    return to < PAGES_PER_WORD ? up & ~(~G_GUINT64_CONSTANT(0) << to) : up;
}

void ram_log_mark(RamLog *log, guint64 offset, guint64 len)
{
    guint64 page = offset / VM_PAGE_SIZE;
    guint64 end = len > 0 ? (offset + len - 1) / VM_PAGE_SIZE + 1 : page;
    g_assert(end <= log->words * PAGES_PER_WORD);
    while (page < end) {
        guint64 word = page / PAGES_PER_WORD, base = word * PAGES_PER_WORD;
        guint64 stop = MIN(base + PAGES_PER_WORD, end);
        /* Not left out for a bit that is set: that could be seen before the write is. */
        __atomic_fetch_or(&log->marks[word], bits(page - base, stop - base), __ATOMIC_SEQ_CST);
        page = stop;
    }
}

void ram_log_take(RamLog *log, RamLogFunc func, gpointer user_data)
{
    for (guint64 word = 0; word < log->words; word++) {
        if (__atomic_load_n(&log->marks[word], __ATOMIC_RELAXED) == 0)
            continue;
        guint64 pages = __atomic_exchange_n(&log->marks[word], 0, __ATOMIC_SEQ_CST);
        func(word * PAGES_PER_WORD, pages, user_data);
    }
}

void ram_log_look(const RamLog *log, guint64 first, guint64 count, RamLogFunc func,
                  gpointer user_data)
{
    guint64 end = first + count;
    g_assert(end <= log->words * PAGES_PER_WORD);
    while (first < end) {
        guint64 word = first / PAGES_PER_WORD, base = word * PAGES_PER_WORD;
        guint64 stop = MIN(base + PAGES_PER_WORD, end);
        guint64 pages = __atomic_load_n(&log->marks[word], __ATOMIC_ACQUIRE);
        pages &= bits(first - base, stop - base);
        if (pages)
            func(base, pages, user_data);
        first = stop;
    }
}
