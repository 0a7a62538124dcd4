/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every order and every report, in each state of what looks for the peer. The link is a fake that
 * notes what it is told; the clock is the test's.
 */
#include "colo/node/seek.h"

#include "common/log.h"
#include "tests/support/turned-clock.h"

#include <string.h>

#define LISTEN   "192.0.2.1:9000"
#define PEER     "192.0.2.2:9000"
#define TRIED    "192.0.2.3:9000"
#define OTHER    "192.0.2.4:9000"
#define LIMIT_MS 5000
/* A limit's last step may be counted twice (common/patience.h). */
#define LATEST_MS (LIMIT_MS + 200)

/* ---- The link: notes what it is told, in order ---- */

struct Link {
    GString *told;
    json_object *hello;
    gboolean refuses;
};

G_DEFINE_QUARK(link_error, link_error)

static void note(Link *link, const char *what, const char *where)
{
    g_string_append_printf(link->told, "%s%s%s%s", link->told->len ? ", " : "", what,
                           where ? " " : "", where ? where : "");
}

void link_accept(Link *link, json_object *hello)
{
    g_assert_true(hello == link->hello);
    note(link, "accept", NULL);
}

void link_dial(Link *link, json_object *hello)
{
    g_assert_true(hello == link->hello);
    note(link, "dial", NULL);
}

void link_idle(Link *link, const char *reason)
{
    g_assert_nonnull(strstr(reason, "paused"));
    note(link, "idle", NULL);
}

void link_set_peer(Link *link, const char *peer)
{
    note(link, "peer", peer ? peer : "nowhere");
}

void link_forget_given(Link *link)
{
    note(link, "forget", NULL);
}

static gboolean answer(const Link *link, GError **error)
{
    if (link->refuses)
        g_set_error_literal(error, LINK_ERROR, LINK_ERROR_ADDRESS, "refused");
    return !link->refuses;
}

gboolean link_take_given(Link *link, const char *peer, GError **error)
{
    note(link, "take", peer);
    return answer(link, error);
}

gboolean link_listen_also(Link *link, const char *address, GError **error)
{
    note(link, "also", address ? address : "nowhere");
    return answer(link, error);
}

/* ---- The fixture ---- */

typedef struct {
    Config config;
    Link link;
    Seek *seek;
    char *why; /* of the last failure */
} Fixture;

static json_object *on_hello(gpointer user_data)
{
    const Fixture *f = user_data;
    return json_object_get(f->link.hello);
}

static void on_recover_failed(const char *uri, const char *why, gpointer user_data)
{
    Fixture *f = user_data;
    note(&f->link, "failed", uri);
    g_free(f->why);
    f->why = g_strdup(why);
}

static void set_up(Fixture *f, gconstpointer data)
{
    static const SeekHandler handler = {.hello = on_hello, .recover_failed = on_recover_failed};
    (void)data;
    f->config = (Config){.listen = LISTEN, .peer = PEER, .recover_timeout_ms = LIMIT_MS};
    f->link = (Link){.told = g_string_new(NULL), .hello = json_object_new_object()};
    f->seek = seek_new(&f->config, &handler, f);
    seek_attach(f->seek, &f->link);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    seek_free(f->seek);
    turned_clock_pass_ms(LATEST_MS); /* no timer is left */
    json_object_put(f->link.hello);
    g_string_free(f->link.told, TRUE);
    g_free(f->why);
}

static void expect(Fixture *f, const char *told)
{
    g_assert_cmpstr(f->link.told->str, ==, told);
    g_string_truncate(f->link.told, 0);
}

static void recover(Fixture *f, gboolean dials, const char *uri)
{
    g_autoptr(GError) error = NULL;
    g_assert_true(seek_recover(f->seek, dials, uri, &error));
    g_assert_no_error(error);
}

static void expect_refused(Fixture *f, gboolean dials, const char *uri, const char *why)
{
    g_autoptr(GError) error = NULL;
    g_assert_false(seek_recover(f->seek, dials, uri, &error));
    g_assert_nonnull(strstr(error->message, why));
}

static void fail_to_dial(const Fixture *f, int code)
{
    g_autoptr(GError) why = g_error_new_literal(LINK_ERROR, code, "nobody is there");
    seek_dial_failed(f->seek, why);
}

/* ---- All of it: what is wanted, the state, what happens ---- */

typedef enum { FREE, PAUSED, TRYING, PAUSED_TRYING, STATES } State;

typedef enum {
    ORDER_PAUSE,
    ORDER_DIAL,
    ORDER_LISTEN,
    WISH_NOBODY,
    WISH_SECONDARY,
    WISH_PRIMARY,
    LINKED,
    REFUSED,
    NOT_NOW,
    LIMIT,
} Step;

#define DIAL(where) "peer " where ", dial"
#define FAILED      "failed " TRIED ", "

/* What the link is told if nobody, a secondary or the primary is looked for; the state after it. */
static const struct {
    Step step;
    State state;
    const char *told[3];
    State after;
} rows[] = {
    {ORDER_PAUSE,    FREE,          {"forget", "forget, idle", "forget, idle"},                                  PAUSED       },
    {ORDER_PAUSE,    PAUSED,        {"forget", "forget, idle", "forget, idle"},                                  PAUSED       },
    {ORDER_PAUSE,    TRYING,        {FAILED "forget", FAILED "forget, idle", FAILED "forget, idle"},             PAUSED       },
    {ORDER_PAUSE,
     PAUSED_TRYING,                 {FAILED "forget", FAILED "forget, idle", FAILED "forget, idle"},
     PAUSED                                                                                                                   },
 /* Sockets of an attempt before it are not used any more. */
    {ORDER_DIAL,     FREE,          {"forget", "forget, accept", "forget, " DIAL(OTHER)},                        TRYING       },
    {ORDER_DIAL,     PAUSED,        {"forget", "forget, accept", "forget, " DIAL(OTHER)},                        PAUSED_TRYING},
    {ORDER_DIAL,
     TRYING,                        {FAILED "forget", FAILED "forget, accept", FAILED "forget, " DIAL(OTHER)},
     TRYING                                                                                                                   },
    {ORDER_DIAL,
     PAUSED_TRYING,                 {FAILED "forget", FAILED "forget, accept", FAILED "forget, " DIAL(OTHER)},
     PAUSED_TRYING                                                                                                            },
    {ORDER_LISTEN,
     FREE,                          {"also " OTHER, "also " OTHER ", accept", "also " OTHER ", " DIAL(PEER)},
     FREE                                                                                                                     },
    {ORDER_LISTEN,
     PAUSED,                        {"also " OTHER, "also " OTHER ", accept", "also " OTHER ", " DIAL(PEER)},
     FREE                                                                                                                     },
    {ORDER_LISTEN,
     TRYING,                        {"also " OTHER, "also " OTHER ", accept", "also " OTHER ", " DIAL(TRIED)},
     TRYING                                                                                                                   },
    {ORDER_LISTEN,
     PAUSED_TRYING,                 {"also " OTHER, "also " OTHER ", accept", "also " OTHER ", " DIAL(TRIED)},
     TRYING                                                                                                                   },
    {WISH_NOBODY,    FREE,          {"", "", ""},                                                                FREE         },
    {WISH_NOBODY,    PAUSED,        {"", "", ""},                                                                PAUSED       },
    {WISH_NOBODY,    TRYING,        {"", "", ""},                                                                TRYING       },
    {WISH_NOBODY,    PAUSED_TRYING, {"", "", ""},                                                                PAUSED_TRYING},
    {WISH_SECONDARY, FREE,          {"forget, accept", "forget, accept", "forget, accept"},                      FREE         },
    {WISH_SECONDARY, PAUSED,        {"forget, idle", "forget, idle", "forget, idle"},                            PAUSED       },
    {WISH_SECONDARY,
     TRYING,                        {FAILED "forget, accept", FAILED "forget, accept", FAILED "forget, accept"},
     FREE                                                                                                                     },
    {WISH_SECONDARY,
     PAUSED_TRYING,                 {FAILED "forget, idle", FAILED "forget, idle", FAILED "forget, idle"},
     PAUSED                                                                                                                   },
    {WISH_PRIMARY,   FREE,          {DIAL(PEER), DIAL(PEER), DIAL(PEER)},                                        FREE         },
    {WISH_PRIMARY,   PAUSED,        {"idle", "idle", "idle"},                                                    PAUSED       },
    {WISH_PRIMARY,   TRYING,        {DIAL(TRIED), DIAL(TRIED), DIAL(TRIED)},                                     TRYING       },
    {WISH_PRIMARY,   PAUSED_TRYING, {DIAL(TRIED), DIAL(TRIED), DIAL(TRIED)},                                     PAUSED_TRYING},
    {LINKED,         FREE,          {"", "", ""},                                                                FREE         },
    {LINKED,         PAUSED,        {"", "", ""},                                                                PAUSED       },
    {LINKED,         TRYING,        {"", "", ""},                                                                FREE         },
    {LINKED,         PAUSED_TRYING, {"", "", ""},                                                                FREE         },
    {REFUSED,        FREE,          {"", "", ""},                                                                FREE         },
    {REFUSED,        PAUSED,        {"", "", ""},                                                                PAUSED       },
    {REFUSED,
     TRYING,                        {FAILED "forget", FAILED "forget, accept", FAILED "forget, " DIAL(PEER)},
     FREE                                                                                                                     },
    {REFUSED,
     PAUSED_TRYING,                 {FAILED "forget", FAILED "forget, idle", FAILED "forget, idle"},
     PAUSED                                                                                                                   },
    {NOT_NOW,        FREE,          {"", "", ""},                                                                FREE         },
    {NOT_NOW,        PAUSED,        {"", "", ""},                                                                PAUSED       },
    {NOT_NOW,        TRYING,        {"", "", ""},                                                                TRYING       },
    {NOT_NOW,        PAUSED_TRYING, {"", "", ""},                                                                PAUSED_TRYING},
    {LIMIT,          FREE,          {"", "", ""},                                                                FREE         },
    {LIMIT,          PAUSED,        {"", "", ""},                                                                PAUSED       },
    {LIMIT,          TRYING,        {FAILED "forget", FAILED "forget, accept", FAILED "forget, " DIAL(PEER)},    FREE         },
    {LIMIT,          PAUSED_TRYING, {FAILED "forget", FAILED "forget, idle", FAILED "forget, idle"},             PAUSED       },
};

static void bring_to(Fixture *f, SeekWish wish, State state)
{
    seek_wish(f->seek, wish);
    if (state == PAUSED || state == PAUSED_TRYING)
        seek_pause(f->seek);
    if (state == TRYING || state == PAUSED_TRYING)
        recover(f, TRUE, TRIED);
    g_string_truncate(f->link.told, 0);
}

static void take_step(Fixture *f, Step step)
{
    switch (step) {
    case ORDER_PAUSE:
        seek_pause(f->seek);
        break;
    case ORDER_DIAL:
    case ORDER_LISTEN:
        recover(f, step == ORDER_DIAL, OTHER);
        break;
    case WISH_NOBODY:
    case WISH_SECONDARY:
    case WISH_PRIMARY:
        seek_wish(f->seek, (SeekWish)(SEEK_NOBODY + (step - WISH_NOBODY)));
        break;
    case LINKED:
        seek_linked(f->seek);
        break;
    case REFUSED:
    case NOT_NOW:
        fail_to_dial(f, step == REFUSED ? LINK_ERROR_REFUSED : LINK_ERROR_NOT_NOW);
        break;
    case LIMIT:
        turned_clock_pass_ms(LATEST_MS);
        break;
    }
}

static void expect_state(const Fixture *f, Step step, State state)
{
    gboolean tries = state == TRYING || state == PAUSED_TRYING;
    g_assert_cmpint(seek_is_paused(f->seek), ==, state == PAUSED || state == PAUSED_TRYING);
    g_assert_cmpstr(seek_recovering(f->seek), ==,
                    !tries               ? NULL
                    : step == ORDER_DIAL ? OTHER
                                         : TRIED);
    g_assert_cmpstr(seek_listens_also(f->seek), ==, step == ORDER_LISTEN ? OTHER : NULL);
}

static void test_all(Fixture *f, gconstpointer data)
{
    for (guint i = 0; i < G_N_ELEMENTS(rows); i++)
        for (SeekWish wish = SEEK_NOBODY; wish <= SEEK_PRIMARY; wish++) {
            g_test_message("step %d, state %d, wish %d", rows[i].step, rows[i].state, wish);
            bring_to(f, wish, rows[i].state);
            take_step(f, rows[i].step);
            expect(f, rows[i].told[wish]);
            expect_state(f, rows[i].step, rows[i].after);
            gboolean counts = rows[i].step == LINKED && rows[i].state >= TRYING;
            g_assert_cmpstr(seek_address(f->seek), ==, counts ? TRIED : PEER);
            tear_down(f, data);
            *f = (Fixture){0};
            set_up(f, data);
        }
}

/* ---- One by one ---- */

/* Its limit ends with it: neither the next attempt nor what is looked for later is disturbed. */
static void test_limit_ends(Fixture *f, gconstpointer data)
{
    (void)data;
    bring_to(f, SEEK_PRIMARY, TRYING);
    seek_linked(f->seek);
    seek_wish(f->seek, SEEK_PRIMARY);
    expect(f, DIAL(TRIED));
    turned_clock_pass_ms(LATEST_MS);
    expect(f, "");
    for (guint i = 0; i < 3; i++) {
        recover(f, TRUE, OTHER);
        turned_clock_pass_ms(LIMIT_MS - 1000);
        g_assert_cmpstr(seek_recovering(f->seek), ==, OTHER);
    }
    turned_clock_pass_ms(1200);
    g_assert_null(seek_recovering(f->seek));
    g_assert_nonnull(strstr(f->why, "no link within 5000 ms"));
    g_assert_null(strstr(f->why, "arbiter"));
}

/* It waits for the arbiter's answer as well: so it is told if that was all it did. */
static void test_limit_says_why(Fixture *f, gconstpointer data)
{
    (void)data;
    bring_to(f, SEEK_NOBODY, TRYING);
    turned_clock_pass_ms(LATEST_MS);
    g_assert_nonnull(strstr(f->why, "the arbiter is being asked"));
}

/* A link that is up isn't looked for: a pause or an order then changes only what comes after it. */
static void test_pause_while_linked(Fixture *f, gconstpointer data)
{
    (void)data;
    bring_to(f, SEEK_PRIMARY, FREE);
    seek_linked(f->seek);
    seek_pause(f->seek);
    expect(f, "forget");
    seek_wish(f->seek, SEEK_PRIMARY);
    expect(f, "idle");
}

/* Where it was linked by order counts, until `recover` names the configured address. */
static void test_configured(Fixture *f, gconstpointer data)
{
    (void)data;
    bring_to(f, SEEK_PRIMARY, TRYING);
    seek_linked(f->seek);
    seek_wish(f->seek, SEEK_PRIMARY);
    expect(f, DIAL(TRIED));
    recover(f, TRUE, NULL);
    expect(f, "forget, " DIAL(PEER));
    seek_linked(f->seek);
    g_assert_cmpstr(seek_address(f->seek), ==, PEER);
    f->config.peer = NULL;
    expect_refused(f, TRUE, NULL, "none is configured");
}

/* Sockets that somebody has opened can be used once: they end with the attempt. */
static void test_given(Fixture *f, gconstpointer data)
{
    (void)data;
    bring_to(f, SEEK_PRIMARY, PAUSED);
    recover(f, TRUE, "fdset:1");
    expect(f, "take fdset:1, " DIAL("fdset:1"));
    seek_linked(f->seek);
    g_assert_cmpstr(seek_address(f->seek), ==, PEER);
    g_assert_false(seek_is_paused(f->seek));

    seek_wish(f->seek, SEEK_PRIMARY);
    recover(f, TRUE, "fdset:2");
    g_string_truncate(f->link.told, 0);
    fail_to_dial(f, LINK_ERROR_NOT_NOW);
    expect(f, "failed fdset:2, forget, " DIAL(PEER));

    recover(f, TRUE, "fdset:3");
    g_string_truncate(f->link.told, 0);
    recover(f, TRUE, "fdset:4");
    expect(f, "take fdset:4, failed fdset:3, " DIAL("fdset:4"));
}

/* An order that can't be carried out changes nothing, also of an attempt that is under way. */
static void test_refused(Fixture *f, gconstpointer data)
{
    (void)data;
    bring_to(f, SEEK_PRIMARY, PAUSED_TRYING);
    expect_refused(f, TRUE, "nonsense", "nonsense");
    expect_refused(f, TRUE, "host:9000", "host:9000");
    expect_refused(f, TRUE, "fd:3", "fdset:N");
    expect_refused(f, FALSE, "fd:3", "fdset:N");
    expect_refused(f, TRUE, LISTEN, "listens there itself");
    expect(f, "");
    f->link.refuses = TRUE;
    expect_refused(f, TRUE, "fdset:1", "uri: 'fdset:1': refused");
    expect(f, "take fdset:1");
    expect_refused(f, FALSE, OTHER, "refused");
    expect(f, "also " OTHER);
    expect_state(f, REFUSED, PAUSED_TRYING);
}

/* It listens at one address besides the configured one, and where it listens it doesn't dial. */
static void test_listens_also(Fixture *f, gconstpointer data)
{
    (void)data;
    bring_to(f, SEEK_SECONDARY, FREE);
    recover(f, FALSE, OTHER);
    expect(f, "also " OTHER ", accept");
    recover(f, FALSE, OTHER);
    expect(f, "accept");
    expect_refused(f, TRUE, OTHER, "listens there itself");
    recover(f, FALSE, "fdset:1");
    recover(f, FALSE, "fdset:1"); /* other sockets, maybe */
    expect(f, "also fdset:1, accept, also fdset:1, accept");
    recover(f, FALSE, LISTEN);
    expect(f, "also nowhere, accept");
    g_assert_null(seek_listens_also(f->seek));
}

#define ADD(name, test) g_test_add("/seek/" name, Fixture, NULL, set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    ADD("all", test_all);
    ADD("limit-ends", test_limit_ends);
    ADD("limit-says-why", test_limit_says_why);
    ADD("pause-while-linked", test_pause_while_linked);
    ADD("configured", test_configured);
    ADD("given", test_given);
    ADD("refused", test_refused);
    ADD("listens-also", test_listens_also);
    return g_test_run();
}
