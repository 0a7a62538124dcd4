/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two connections on the same ports: nothing that only the secondary has sent on the earlier one is
 * forgotten when the primary goes on to the next.
 */
#include <string.h>

#include "tests/support/compare_rig.h"

#define ISN_P 1000u
#define ISN_S 0x80000000u
#define ISN_C 5000u

enum { P, S };

static void send_to(Rig *rig, int side, const FrameSpec *spec)
{
    if (side == P)
        g_assert_true(rig_primary(rig, spec));
    else
        rig_secondary(rig, spec);
}

/* On connection `number`, from 0; `at` in its stream. */
static void say(Rig *rig, int side, guint number, guint8 flags, guint32 at, const char *text)
{
    FrameSpec spec = rig_tcp(flags, (side == P ? ISN_P : ISN_S) + 100000 * number + 1 + at,
                             ISN_C + number + 1, text);
    send_to(rig, side, &spec);
}

static void open_it(Rig *rig, int side, guint number)
{
    say(rig, side, number, TCP_SYN | TCP_ACK, (guint32)-1, NULL);
}

static void expect(Rig *rig, guint released)
{
    rig_agrees(rig);
    g_assert_cmpuint(rig_released(rig), ==, released);
}

/* The first connection, with "same" said by both. */
static Rig *opened(void)
{
    Rig *rig = rig_new(NULL);
    open_it(rig, P, 0);
    open_it(rig, S, 0);
    say(rig, P, 0, TCP_ACK, 0, "same");
    say(rig, S, 0, TCP_ACK, 0, "same");
    expect(rig, 2);
    return rig;
}

/* What only the secondary says on the first connection. */
typedef struct {
    guint8 flags;
    guint32 at;
    const char *text;
} Only;

static const Only only[] = {
    {TCP_ACK,           4, "more"},
    {TCP_ACK | TCP_FIN, 4, NULL  },
    {TCP_RST | TCP_ACK, 4, NULL  },
    {TCP_RST,           4, "why" },
};

/* Before the primary goes on: it is told then, for nothing can come of waiting. */
static void test_before(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(only); i++) {
        g_autoptr(Rig) rig = opened();
        say(rig, S, 0, only[i].flags, only[i].at, only[i].text);
        rig_agrees(rig);
        open_it(rig, P, 1);
        const CompareDivergence *d = rig_diverged(rig, COMPARE_EXTRA_OUTPUT);
        g_assert_nonnull(strstr(d->detail, "connection before"));
        if (only[i].text != NULL)
            g_assert_cmpmem(d->secondary, d->secondary_len, only[i].text, strlen(only[i].text));
        g_assert_cmpuint(rig_released(rig), ==, 0);
        rig_checkpoint(rig);
        expect(rig, 1);
    }
}

/* After that, up to its own new SYN: these are words of the earlier connection still. */
static void test_after(void)
{
    for (guint i = 0; i < G_N_ELEMENTS(only); i++) {
        g_autoptr(Rig) rig = opened();
        open_it(rig, P, 1);
        rig_agrees(rig);
        say(rig, S, 0, TCP_ACK, 0, "same"); /* said before */
        rig_agrees(rig);
        say(rig, S, 0, only[i].flags, only[i].at, only[i].text);
        rig_diverged(rig, COMPARE_EXTRA_OUTPUT);
        open_it(rig, S, 1);
        g_assert_cmpuint(rig_released(rig), ==, 0);
    }
}

/* The last words that both have said are no more than that. */
static void test_sent_by_both(void)
{
    g_autoptr(Rig) rig = opened();

    say(rig, P, 0, TCP_ACK | TCP_FIN, 4, "bye");
    say(rig, S, 0, TCP_ACK | TCP_FIN, 4, "bye");
    say(rig, P, 0, TCP_RST, 8, "why");
    say(rig, S, 0, TCP_RST, 8, "why");
    open_it(rig, P, 1);
    expect(rig, 2);
    say(rig, S, 0, TCP_ACK | TCP_FIN, 4, "bye");
    say(rig, S, 0, TCP_RST, 8, NULL);
    say(rig, S, 0, TCP_RST, 8, "why");
    open_it(rig, S, 1);
    expect(rig, 1);
    rig_wait_ms(rig, 1000);
    expect(rig, 0);
}

/* Another text than both have said is not. */
static void test_reset_text_after(void)
{
    g_autoptr(Rig) rig = opened();

    say(rig, P, 0, TCP_RST, 4, "why");
    say(rig, S, 0, TCP_RST, 4, "why");
    open_it(rig, P, 1);
    expect(rig, 1);
    say(rig, S, 0, TCP_RST, 4, "not");
    rig_diverged(rig, COMPARE_EXTRA_OUTPUT);
}

/* One side is many connections ahead: they are compared one by one, however many wait. */
static void many(int ahead)
{
    const guint n = 3000;
    g_autoptr(Rig) rig = rig_new(NULL);

    for (guint pass = 0; pass < 2; pass++) {
        for (guint i = 0; i < n; i++) {
            int side = pass == 0 ? ahead : !ahead;
            open_it(rig, side, i);
            say(rig, side, i, TCP_ACK | TCP_FIN, 0, "text");
        }
        if (pass == 0)
            expect(rig, 0);
    }
    expect(rig, 2 * n);
    g_assert_cmpuint(compare_stats(rig->compare)->held_frames, ==, 0);
    g_assert_cmpuint(compare_stats(rig->compare)->verified_bytes, ==, 4 * n);
}

static void test_many(void)
{
    many(P);
    many(S);
}

/* Of two pages that are turned at once, the first one's extra words count as well. */
static void test_two_pages(void)
{
    g_autoptr(Rig) rig = opened();

    for (guint i = 1; i < 3; i++) {
        open_it(rig, S, i);
        say(rig, S, i, TCP_ACK, 0, i == 1 ? "same, and more" : "same");
    }
    for (guint i = 1; i < 3; i++) {
        open_it(rig, P, i);
        say(rig, P, i, TCP_ACK, 0, "same");
    }
    rig_diverged(rig, COMPARE_EXTRA_OUTPUT);
}

/* The offset is one in the connection, not in all that were on these ports. */
static void test_offset(void)
{
    g_autoptr(Rig) rig = opened();

    open_it(rig, P, 1);
    open_it(rig, S, 1);
    say(rig, P, 1, TCP_ACK, 0, "ab1");
    say(rig, S, 1, TCP_ACK, 0, "ab2");
    const CompareDivergence *d = rig_diverged(rig, COMPARE_PAYLOAD);
    g_assert_cmpuint(d->offset, ==, 2);
    g_assert_cmpuint(d->connection, ==, 2);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add_func("/compare-reuse/" name, func)
    ADD("before", test_before);
    ADD("after", test_after);
    ADD("sent-by-both", test_sent_by_both);
    ADD("reset-text-after", test_reset_text_after);
    ADD("many", test_many);
    ADD("two-pages", test_two_pages);
    ADD("offset", test_offset);
    return g_test_run();
}
