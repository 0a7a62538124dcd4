/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the copy has written, on its way to the primary: in parts, and only as the link takes them. */
#include "colo/node/told.h"

#define MANY_RUNS (2 * TOLD_RUNS_MAX + 1)
#define EPOCH     7u

typedef struct {
    Told *told;
    gboolean has_room, keeps_room; /* else each part fills the link */
    guint parts, done;
    guint32 follow; /* of the last part */
    guint64 epoch;
    PageSet *pages, *got;
    gboolean forgets; /* the session ends as a part is sent */
} Fixture;

static gboolean on_has_room(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->has_room;
}

static void on_send(const MessageDirty *part, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_true(f->has_room);
    g_assert_cmpuint(f->done, ==, 0);
    if (f->parts++)
        g_assert_cmpuint(part->follow, ==, f->follow - 1);
    f->follow = part->follow;
    f->epoch = part->epoch;
    for (gsize i = 0; i < part->n_runs; i++)
        page_set_add_run(f->got, part->runs[i].first, part->runs[i].count);
    f->has_room = f->keeps_room;
    if (f->forgets)
        told_forget(f->told);
}

static void on_done(gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_cmpuint(f->follow, ==, 0);
    f->done++;
}

static void set_up(Fixture *f, gconstpointer data)
{
    static const ToldHandler handler = {.has_room = on_has_room, .send = on_send, .done = on_done};
    (void)data;
    f->told = told_new(&handler, f);
    f->has_room = TRUE;
    f->pages = page_set_new(3 * MANY_RUNS);
    f->got = page_set_new(3 * MANY_RUNS);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    told_free(f->told);
    page_set_free(f->pages);
    page_set_free(f->got);
}

/* Two of three pages, so that a run is not a page. */
static void add_many(Fixture *f)
{
    for (guint64 i = 0; i < MANY_RUNS; i++)
        page_set_add_run(f->pages, 3 * i, 2);
}

static void check_all_came(const Fixture *f)
{
    guint64 at = 0, first, count, got_first, got_count;
    g_assert_cmpuint(f->epoch, ==, EPOCH);
    g_assert_cmpuint(page_set_count(f->got), ==, page_set_count(f->pages));
    for (; page_set_next_run(f->pages, at, &first, &count); at = first + count) {
        g_assert_true(page_set_next_run(f->got, at, &got_first, &got_count));
        g_assert_cmpuint(got_first, ==, first);
        g_assert_cmpuint(got_count, ==, count);
    }
}

/* The primary waits for an answer, also from a copy that has written nothing. */
static void test_nothing(Fixture *f, gconstpointer data)
{
    (void)data;
    told_begin(f->told, EPOCH, f->pages);
    g_assert_cmpuint(f->parts, ==, 1);
    g_assert_cmpuint(f->done, ==, 1);
    check_all_came(f);
}

static void test_few(Fixture *f, gconstpointer data)
{
    (void)data;
    page_set_add_run(f->pages, 0, 5);
    page_set_add_run(f->pages, 9, 1);
    told_begin(f->told, EPOCH, f->pages);
    page_set_clear(f->pages); /* it is only for the call */
    page_set_add_run(f->pages, 0, 5);
    page_set_add_run(f->pages, 9, 1);
    g_assert_cmpuint(f->parts, ==, 1);
    g_assert_cmpuint(f->done, ==, 1);
    check_all_came(f);
}

/* What fills its parts to the last run needs no more of them. */
static void test_full_parts(Fixture *f, gconstpointer data)
{
    (void)data;
    f->keeps_room = TRUE;
    for (guint64 i = 0; i < 2 * TOLD_RUNS_MAX; i++)
        page_set_add_run(f->pages, 2 * i, 1);
    told_begin(f->told, EPOCH, f->pages);
    g_assert_cmpuint(f->parts, ==, 2);
    g_assert_cmpuint(f->done, ==, 1);
    check_all_came(f);
}

static void test_full_link(Fixture *f, gconstpointer data)
{
    (void)data;
    add_many(f);
    f->has_room = FALSE;
    told_begin(f->told, EPOCH, f->pages);
    g_assert_cmpuint(f->parts, ==, 0);
    for (guint i = 1; i <= 3; i++) {
        told_send_more(f->told);
        g_assert_cmpuint(f->parts, ==, i - 1);
        f->has_room = TRUE;
        told_send_more(f->told);
        g_assert_cmpuint(f->parts, ==, i);
        g_assert_cmpuint(f->follow, ==, 3 - i);
        g_assert_cmpuint(f->done, ==, i == 3);
    }
    f->has_room = TRUE;
    told_send_more(f->told);
    g_assert_cmpuint(f->parts, ==, 3);
    g_assert_cmpuint(f->done, ==, 1);
    check_all_came(f);
}

/* The session is over: the rest is not sent to the next one. */
static void test_forget(Fixture *f, gconstpointer data)
{
    (void)data;
    add_many(f);
    told_begin(f->told, EPOCH, f->pages);
    g_assert_cmpuint(f->parts, ==, 1);
    told_forget(f->told);
    f->has_room = TRUE;
    told_send_more(f->told);
    g_assert_cmpuint(f->parts, ==, 1);
    g_assert_cmpuint(f->done, ==, 0);
    /* The next one's answer is whole. */
    f->parts = 0;
    f->keeps_room = TRUE;
    page_set_clear(f->got);
    told_begin(f->told, EPOCH, f->pages);
    g_assert_cmpuint(f->parts, ==, 3);
    check_all_came(f);
}

/* The same as a part breaks the link. */
static void test_forget_within(Fixture *f, gconstpointer data)
{
    (void)data;
    add_many(f);
    f->keeps_room = f->forgets = TRUE;
    told_begin(f->told, EPOCH, f->pages);
    g_assert_cmpuint(f->parts, ==, 1);
    g_assert_cmpuint(f->done, ==, 0);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*test)(Fixture *, gconstpointer);
    } tests[] = {
        {"/told/nothing",       test_nothing      },
        {"/told/few",           test_few          },
        {"/told/full-parts",    test_full_parts   },
        {"/told/full-link",     test_full_link    },
        {"/told/forget",        test_forget       },
        {"/told/forget-within", test_forget_within},
    };
    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, Fixture, NULL, set_up, tests[i].test, tear_down);
    return g_test_run();
}
