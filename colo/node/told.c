/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Cuts a set of pages into messages, and sends them as the link takes them. */
#include "colo/node/told.h"

struct Told {
    const ToldHandler *handler;
    gpointer user_data;
    PageSet *pages; /* NULL: nothing is left to send */
    guint64 epoch;  /* of the checkpoint that has to carry them */
    guint64 at;     /* the first page that was not sent */
    guint64 runs;   /* from there on */
};

static guint64 count_runs(const PageSet *pages)
{
    guint64 runs = 0, first, count;
    for (guint64 at = 0; page_set_next_run(pages, at, &first, &count); at = first + count)
        runs++;
    return runs;
}

static void send_part(Told *told)
{
    guint runs = (guint)MIN(told->runs, TOLD_RUNS_MAX);
    g_autofree MessageRun *part = g_new0(MessageRun, runs);
    told->runs -= runs;
    for (guint i = 0; i < runs; i++) {
        page_set_next_run(told->pages, told->at, &part[i].first, &part[i].count);
        told->at = part[i].first + part[i].count;
    }
    MessageDirty dirty = {.epoch = told->epoch,
                          .follow = (guint32)((told->runs + TOLD_RUNS_MAX - 1) / TOLD_RUNS_MAX),
                          .runs = part,
                          .n_runs = runs};
    told->handler->send(&dirty, told->user_data);
}

void told_send_more(Told *told)
{
    while (told->pages) {
        if (!told->handler->has_room(told->user_data))
            return; /* called again when the kernel has taken it */
        gboolean is_last = told->runs <= TOLD_RUNS_MAX;
        send_part(told);
        if (!is_last || !told->pages)
            continue;
        told_forget(told);
        told->handler->done(told->user_data);
    }
}

void told_begin(Told *told, guint64 epoch, const PageSet *pages)
{
    told_forget(told);
    told->pages = page_set_copy(pages);
    told->epoch = epoch;
    told->at = 0;
    told->runs = count_runs(pages);
    told_send_more(told);
}

void told_forget(Told *told)
{
    g_clear_pointer(&told->pages, page_set_free);
}

/* ---- Life ---- */

Told *told_new(const ToldHandler *handler, gpointer user_data)
{
    Told *told = g_new0(Told, 1);
    told->handler = handler;
    told->user_data = user_data;
    return told;
}

void told_free(Told *told)
{
    if (!told)
        return;
    told_forget(told);
    g_free(told);
}
