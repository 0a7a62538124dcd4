/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `pause` and `recover`, typed on either node of a pair, over ways of which some are dead, stand
 * still or lead elsewhere. A chain of two proxies has unix sockets at its ends:
 *
 *     secondary -> unix:src -> (a) -> TCP -> (b) -> unix:dst -> primary
 */
#include <string.h>

#include "colo/link/link_internal.h"
#include "common/log.h"
#include "tests/support/control-peer.h"
#include "tests/support/host-child.h"
#include "tests/support/proxy.h"

typedef struct {
    Fixture pair;
    Proxy *a, *b;
    char *src, *dst, *tcp; /* addresses */
} Chain;

/* ---- Typing ---- */

static char *type(const Host *host, const char *command, const char *uri)
{
    g_autofree char *arguments =
        uri ? g_strdup_printf(",\"arguments\":{\"uri\":\"%s\"}", uri) : NULL;
    g_autofree char *text =
        g_strdup_printf("{\"execute\":\"%s\"%s}", command, arguments ? arguments : "");
    return control_peer_ask(host->config->control_socket, text);
}

static void expect_done(const Host *host, const char *command, const char *uri)
{
    g_autofree char *answer = type(host, command, uri);
    g_assert_cmpstr(answer, ==, "{\"return\":{}}");
}

static void expect_error(const Host *host, const char *command, const char *uri, const char *text)
{
    g_autofree char *answer = type(host, command, uri);
    if (!g_str_has_prefix(answer, "{\"error\"") || !strstr(answer, text))
        g_error("%s: '%s' doesn't say '%s'", command, answer, text);
}

/* How often RECOVER_FAILED has come, with this in it. */
static guint failures(const Host *host, const char *text)
{
    g_autofree char *answer = type(host, "query-events", NULL);
    json_object *object = json_tokener_parse(answer);
    json_object *events = json_object_object_get(object, "return");
    guint count = 0;
    for (gsize i = 0; i < json_object_array_length(events); i++) {
        const char *event = json_object_to_json_string_ext(json_object_array_get_idx(events, i),
                                                           JSON_C_TO_STRING_NOSLASHESCAPE);
        count += strstr(event, "RECOVER_FAILED") && strstr(event, text) ? 1 : 0;
    }
    json_object_put(object);
    return count;
}

/* There is no link, and none is looked for. */
static gboolean is_held(const Host *host)
{
    return seek_is_paused(host->node->seek) && !seek_recovering(host->node->seek) &&
           !link_is_up(host->node->link) && host->node->link->state == LINK_IDLE;
}

/* ---- The chain ---- */

static Proxy *make_proxy(const char *listen, const char *target)
{
    g_autoptr(GError) error = NULL;
    Proxy *proxy = proxy_new(listen, target, &error);
    g_assert_no_error(error);
    return proxy;
}

/* A protected pair over it; `arbiter` as in the configuration, and so many disks. */
static void chain_open_with(Chain *chain, const char *arbiter, guint disks)
{
    Fixture *pair = &chain->pair;
    Host *alpha = &pair->host[0], *beta = &pair->host[1];
    set_up(pair, arbiter);
    if (disks > 0)
        set_up_disks(pair, disks, VM_DISK_RAW);
    chain->src = g_strdup_printf("unix:%s/src", pair->dir);
    chain->dst = g_strdup_printf("unix:%s/dst", pair->dir);
    chain->tcp = g_strdup(beta->config->peer);
    chain->b = make_proxy("127.0.0.1:0", chain->dst);
    g_autofree char *middle = g_strdup_printf("127.0.0.1:%u", proxy_port(chain->b));
    chain->a = make_proxy(chain->src, middle);
    g_free(beta->config->peer);
    beta->config->peer = g_strdup(chain->src);
    start(alpha, "primary");
    WAIT_FOR(alpha->node->state == FSM_P_NONE);
    expect_done(alpha, "recover", chain->dst);
    start(beta, "secondary");
    protect(pair, 0);
}

static void chain_open(Chain *chain, const char *arbiter)
{
    chain_open_with(chain, arbiter, 0);
}

static void chain_close(Chain *chain)
{
    tear_down(&chain->pair);
    proxy_free(chain->a);
    proxy_free(chain->b);
    g_free(chain->src);
    g_free(chain->dst);
    g_free(chain->tcp);
}

static void expect_output_held(const Chain *chain)
{
    for (int i = 0; i < 2; i++)
        g_assert_cmpint(traffic_route(chain->pair.host[i].node->traffic), !=, ROUTE_OPEN);
}

/* The steps of a day on which the way breaks, on a pair that nobody decides for. */
static void test_chain(void)
{
    Chain chain;
    chain_open(&chain, "none");
    Host *alpha = &chain.pair.host[0], *beta = &chain.pair.host[1];
    const Vm *vm = alpha->vm;

    expect_done(beta, "pause", NULL);
    WAIT_FOR(alpha->node->state == FSM_P_PAUSED && beta->node->state == FSM_S_PAUSED);
    expect_output_held(&chain);
    g_assert_true(is_held(beta));
    expect_done(beta, "pause", NULL); /* typed twice */

    /* The second proxy is dead: each try ends by itself. */
    proxy_do(chain.b, "refuse");
    proxy_do(chain.b, "cut all");
    for (guint i = 1; i <= 3; i++) {
        expect_done(beta, "recover", chain.src);
        WAIT_FOR(is_held(beta));
        g_assert_cmpuint(failures(beta, chain.src), ==, i);
        g_assert_cmpint(beta->node->state, ==, FSM_S_PAUSED);
    }

    /* It is back, and stands still. */
    proxy_do(chain.b, "blackhole all");
    proxy_do(chain.b, "accept");
    expect_done(beta, "recover", chain.src);
    WAIT_FOR(proxy_open(chain.b, "all") > 0);
    g_assert_cmpstr(seek_recovering(beta->node->seek), ==, chain.src);
    expect_done(beta, "pause", NULL);
    g_assert_true(is_held(beta));
    g_assert_cmpuint(failures(beta, "an administrator has paused"), ==, 1);
    beta->config->recover_timeout_ms = 200;
    expect_done(beta, "recover", NULL);
    WAIT_FOR(is_held(beta));
    g_assert_cmpuint(failures(beta, "no link within 200 ms"), ==, 1);
    beta->config->recover_timeout_ms = 5000;
    expect_output_held(&chain);

    /* It goes on. */
    proxy_do(chain.b, "pass all");
    expect_done(beta, "recover", chain.src);
    protect(&chain.pair, 0);
    g_assert_false(seek_is_paused(beta->node->seek));

    /* The same from the primary's side. Without an address it listens at the configured one only. */
    expect_done(alpha, "pause", NULL);
    WAIT_FOR(is_held(alpha) && alpha->node->state == FSM_P_PAUSED);
    WAIT_FOR(beta->node->state == FSM_S_PAUSED);
    expect_output_held(&chain);
    expect_done(alpha, "recover", NULL);
    g_assert_null(seek_listens_also(alpha->node->seek));
    g_assert_false(seek_is_paused(alpha->node->seek));

    /* Another way, which counts from then on. */
    expect_done(beta, "recover", chain.tcp);
    protect(&chain.pair, 0);
    g_assert_cmpstr(seek_address(beta->node->seek), ==, chain.tcp);
    cut_link(&chain.pair);
    WAIT_FOR(alpha->node->state == FSM_P_PAUSED);
    protect(&chain.pair, 0);
    g_assert_cmpuint(proxy_open(chain.a, "all"), ==, 0);
    g_assert_true(alpha->vm == vm);
    g_assert_cmpuint(figures_takeovers(beta->node->figures), ==, 0);
    chain_close(&chain);
}

/* With an arbiter the primary goes on alone, whoever has paused the link, and wherever it is cut. */
static void test_primary_goes_on(gconstpointer data)
{
    int typist = GPOINTER_TO_INT(data);
    Chain chain;
    chain_open(&chain, "file");
    Host *alpha = &chain.pair.host[0], *beta = &chain.pair.host[1];
    const Vm *vm = alpha->vm;
    for (int i = 0; i < 5; i++) {
        expect_done(&chain.pair.host[typist], "pause", NULL);
        WAIT_FOR(alpha->node->state == FSM_P_NONE && beta->node->state == FSM_S_PAUSED);
        g_assert_cmpint(traffic_route(alpha->node->traffic), ==, ROUTE_OPEN);
        g_assert_true(is_held(&chain.pair.host[typist]));
        expect_done(&chain.pair.host[typist], "recover", typist ? NULL : chain.dst);
        protect(&chain.pair, 0);
    }
    g_assert_true(alpha->vm == vm);
    g_assert_cmpuint(figures_takeovers(beta->node->figures), ==, 0);
    chain_close(&chain);
}

/* A network that swallows everything keeps nobody from pausing. */
static void test_black_hole(gconstpointer data)
{
    int typist = GPOINTER_TO_INT(data);
    Chain chain;
    chain_open(&chain, "none");
    Host *host = &chain.pair.host[typist];
    proxy_do(chain.a, "blackhole all");
    expect_done(host, "pause", NULL);
    /* It was all done before the answer could be read. */
    g_assert_true(is_held(host));
    g_assert_cmpint(host->node->state, ==, typist ? FSM_S_PAUSED : FSM_P_PAUSED);
    expect_error(host, "recover", "nonsense", "uri: 'nonsense': expected ADDRESS:PORT");
    g_assert_true(is_held(host));
    chain_close(&chain);
}

/* One connection of the link is cut, in either half of the chain: `pause` and `recover` mend it. */
static void test_one_channel(gconstpointer data)
{
    Chain chain;
    chain_open_with(&chain, "none", !strcmp(data, "disks"));
    Host *alpha = &chain.pair.host[0], *beta = &chain.pair.host[1];
    for (int i = 0; i < 2; i++) {
        Proxy *half = i ? chain.b : chain.a;
        proxy_do(half, "blackhole %s", (const char *)data);
        g_assert_cmpuint(proxy_open(half, data), ==, 1);
        expect_done(beta, "pause", NULL);
        g_assert_cmpint(beta->node->state, ==, FSM_S_PAUSED);
        /* The primary's end of it is told by the others. */
        expect_done(alpha, "pause", NULL);
        g_assert_cmpint(alpha->node->state, ==, FSM_P_PAUSED);
        proxy_do(half, "pass all");
        expect_done(alpha, "recover", chain.dst);
        expect_done(beta, "recover", NULL);
        protect(&chain.pair, 0);
    }
    chain_close(&chain);
}

/* What nobody can do, and what is wrong with it. */
static void test_wrong(void)
{
    Chain chain;
    chain_open(&chain, "none");
    Host *alpha = &chain.pair.host[0], *beta = &chain.pair.host[1];
    expect_error(alpha, "recover", chain.dst, "the link is up: 'colo pause' ends it");
    expect_error(beta, "recover", NULL, "the link is up: 'colo pause' ends it");
    expect_done(beta, "pause", NULL);
    WAIT_FOR(alpha->node->state == FSM_P_PAUSED);
    g_autofree char *own = g_strdup_printf("tcp:%s", beta->config->listen);
    expect_error(beta, "recover", own, "this node listens there itself");
    expect_error(beta, "recover", "beta:9000", "expected ADDRESS:PORT");
    expect_error(beta, "recover", "10.0.0.1:0", "the port must be");
    expect_error(alpha, "recover", "unix:/proc/no", "can't listen on unix:/proc/no");
    expect_error(alpha, "recover", "192.0.2.1:9000", "must be an address of this host");
    g_assert_cmpstr(seek_listens_also(alpha->node->seek), ==, chain.dst);
    g_assert_true(is_held(beta));
    g_assert_cmpuint(failures(beta, ""), ==, 0);
    /* One order takes the place of another, which is told. */
    proxy_do(chain.a, "blackhole all");
    expect_done(beta, "recover", chain.src);
    expect_done(beta, "recover", chain.tcp);
    protect(&chain.pair, 0);
    g_assert_cmpuint(failures(beta, "there is another order now"), ==, 1);
    chain_close(&chain);
}

/* Before there is anything to protect: a pause keeps a secondary out, and tells it why. */
static void test_not_paired(void)
{
    Fixture pair;
    set_up(&pair, "file");
    Host *alpha = &pair.host[0], *beta = &pair.host[1];
    start(alpha, "primary");
    WAIT_FOR(alpha->node->state == FSM_P_NONE);
    expect_done(alpha, "pause", NULL);
    start(beta, "secondary");
    WAIT_FOR(beta->node->state == FSM_S_NONE);
    expect_done(beta, "recover", NULL);
    /* It is asked again as long as there is time. */
    g_assert_nonnull(seek_recovering(beta->node->seek));
    beta->config->recover_timeout_ms = 300;
    expect_done(beta, "recover", NULL);
    WAIT_FOR(failures(beta, "no link within 300 ms") == 1);
    g_assert_cmpint(beta->node->state, ==, FSM_S_NONE);
    expect_done(beta, "pause", NULL);
    expect_done(alpha, "recover", NULL);
    g_assert_true(is_held(beta));
    expect_done(beta, "recover", NULL);
    protect(&pair, 0);
    tear_down(&pair);
}

/* ---- Each wait has a limit, and a command that ends it ---- */

typedef struct {
    const char *name;
    void (*hang)(Chain *chain);
    int typist; /* who can end it */
    gboolean (*waits)(Chain *chain);
    gboolean (*is_over)(Chain *chain); /* without what hangs having gone on */
} Wait;

static Host *alpha_of(Chain *chain)
{
    return &chain->pair.host[0];
}

static Host *beta_of(Chain *chain)
{
    return &chain->pair.host[1];
}

static void swallow(Chain *chain)
{
    proxy_do(chain->a, "blackhole all");
}

static gboolean both_hope(Chain *chain)
{
    return alpha_of(chain)->node->state == FSM_P_COLO && beta_of(chain)->node->state == FSM_S_COLO;
}

static gboolean alpha_has_given_up(Chain *chain)
{
    return alpha_of(chain)->node->state == FSM_P_PAUSED;
}

static gboolean beta_has_given_up(Chain *chain)
{
    return beta_of(chain)->node->state == FSM_S_PAUSED;
}

static gboolean beta_recovers(Chain *chain)
{
    return seek_recovering(beta_of(chain)->node->seek) != NULL;
}

static gboolean beta_is_held(Chain *chain)
{
    return is_held(beta_of(chain));
}

/* Nothing comes back from the one who takes the connection. */
static void recover_into_silence(Chain *chain)
{
    expect_done(beta_of(chain), "pause", NULL);
    swallow(chain);
    expect_done(beta_of(chain), "recover", chain->src);
}

/* It takes nobody just now, and says so each time. */
static void recover_from_a_paused_one(Chain *chain)
{
    expect_done(beta_of(chain), "pause", NULL);
    expect_done(alpha_of(chain), "pause", NULL);
    expect_done(beta_of(chain), "recover", NULL);
}

/* The chain is whole, but the last part of a link's handshake doesn't come. */
static void recover_by_halves(Chain *chain)
{
    expect_done(beta_of(chain), "pause", NULL);
    proxy_do(chain->a, "blackhole packets");
    expect_done(beta_of(chain), "recover", NULL);
}

static const Wait waits[] = {
    {"silent-link/primary",   swallow,                   0, both_hope,     alpha_has_given_up},
    {"silent-link/secondary", swallow,                   1, both_hope,     beta_has_given_up },
    {"dial/silence",          recover_into_silence,      1, beta_recovers, beta_is_held      },
    {"dial/paused",           recover_from_a_paused_one, 1, beta_recovers, beta_is_held      },
    {"dial/half",             recover_by_halves,         1, beta_recovers, beta_is_held      },
};

static void set_limits(Chain *chain, const char *limit)
{
    for (int i = 0; i < 2; i++) {
        g_autofree char *beat = g_strdup_printf(
            "{\"execute\":\"set\",\"arguments\":{\"name\":\"heartbeat-timeout\",\"value\":\"%s\"}}",
            limit);
        g_free(control_peer_ask(chain->pair.host[i].config->control_socket, beat));
        g_autofree char *recover = g_strdup_printf(
            "{\"execute\":\"set\",\"arguments\":{\"name\":\"recover-timeout\",\"value\":\"%s\"}}",
            limit);
        g_free(control_peer_ask(chain->pair.host[i].config->control_socket, recover));
    }
}

static void test_wait_has_a_limit(gconstpointer data)
{
    const Wait *wait = data;
    Chain chain;
    chain_open(&chain, "none");
    set_limits(&chain, "1s");
    wait->hang(&chain);
    g_assert_true(wait->waits(&chain));
    WAIT_FOR(wait->is_over(&chain));
    chain_close(&chain);
}

static void test_wait_has_a_command(gconstpointer data)
{
    const Wait *wait = data;
    Chain chain;
    chain_open(&chain, "none");
    set_limits(&chain, "10min");
    wait->hang(&chain);
    g_assert_true(wait->waits(&chain));
    expect_done(&chain.pair.host[wait->typist], "pause", NULL);
    g_assert_true(wait->is_over(&chain));
    chain_close(&chain);
}

/* ---- A primary that is linked again and can't ask, and its secondary stands still ---- */

typedef struct {
    Fixture pair;
    HostChild beta;
    Proxy *a, *b;
} Stopped;

static void move_storage(Stopped *f, gboolean there)
{
    for (int i = 0; i < 2; i++)
        set_storage(&f->pair.host[i], there);
}

/* Over a chain. The primary gives its peer up after `patience_ms` of silence. */
static void recover_and_stop(Stopped *f, guint64 patience_ms)
{
    Host *alpha = &f->pair.host[0];
    set_up(&f->pair, "file");
    split_storage(&f->pair);
    g_free(alpha->config->listen);
    alpha->config->listen = g_strdup_printf("unix:%s/dst", f->pair.dir);
    alpha->config->heartbeat_timeout_ms = patience_ms;
    f->b = make_proxy("127.0.0.1:0", alpha->config->listen);
    g_autofree char *middle = g_strdup_printf("127.0.0.1:%u", proxy_port(f->b));
    g_autofree char *first = g_strdup_printf("127.0.0.1:%u", f->pair.ports[0]);
    f->a = make_proxy(first, middle);
    start(alpha, "primary");
    host_child_start(&f->beta, &f->pair, "b");
    WAIT_FOR(alpha->node->state == FSM_P_COLO);
    move_storage(f, FALSE);
    expect_done(alpha, "pause", NULL);
    g_assert_cmpint(alpha->node->state, ==, FSM_P_PAUSED);
    WAIT_FOR(claim_is_undecided(alpha->node->claim));
    expect_done(alpha, "recover", NULL);
    WAIT_FOR(alpha->node->state == FSM_P_RECOVER);
    host_child_stop(&f->beta);
}

/* All is well again: whichever of them the arbiter has chosen. */
static void go_on_and_close(Stopped *f)
{
    const Host *alpha = &f->pair.host[0];
    proxy_do(f->a, "pass all");
    proxy_do(f->b, "pass all");
    host_child_continue(&f->beta);
    move_storage(f, TRUE);
    expect_done(alpha, "recover", NULL);
    WAIT_FOR(alpha->node->state == FSM_P_COLO || alpha->node->state == FSM_S_COLO);
    host_child_kill(&f->beta);
    tear_down(&f->pair);
    proxy_free(f->a);
    proxy_free(f->b);
}

/* It ends the wait, also where nothing passes on one of the connections any more. */
static void test_stopped_secondary(gconstpointer data)
{
    const char *channel = data;
    Stopped f = {0};
    recover_and_stop(&f, 10 * 60 * 1000);
    const Host *alpha = &f.pair.host[0];
    if (channel) {
        proxy_do(f.a, "blackhole %s", channel);
        proxy_do(f.b, "cut %s", channel);
    }
    g_assert_cmpint(alpha->node->state, ==, FSM_P_RECOVER);
    expect_done(alpha, "pause", NULL);
    g_assert_cmpint(alpha->node->state, ==, FSM_P_PAUSED);
    g_assert_true(is_held(alpha));
    go_on_and_close(&f);
}

/* Without it the wait has a limit. */
static void test_stopped_for_long(void)
{
    Stopped f = {0};
    recover_and_stop(&f, 1000);
    const Host *alpha = &f.pair.host[0];
    WAIT_FOR(alpha->node->state == FSM_P_PAUSED);
    g_assert_false(seek_is_paused(alpha->node->seek));
    expect_done(alpha, "pause", NULL);
    go_on_and_close(&f);
}

int main(int argc, char **argv)
{
    static const char *const channels[] = {"control", "checkpoint", "packets", "disks"};
    static const char *const typists[] = {"primary", "secondary"};
    host_child_main(argc, argv);
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-pause/chain", test_chain);
    add_pair_test_in("colo", "/node-pause/wrong", test_wrong);
    add_pair_test_in("colo", "/node-pause/not-paired", test_not_paired);
    for (int i = 0; i < 2; i++) {
        g_autofree char *goes_on = g_strdup_printf("/node-pause/primary-goes-on/%s", typists[i]);
        g_autofree char *hole = g_strdup_printf("/node-pause/black-hole/%s", typists[i]);
        add_pair_data_test(goes_on, GINT_TO_POINTER(i), test_primary_goes_on);
        add_pair_data_test(hole, GINT_TO_POINTER(i), test_black_hole);
    }
    for (gsize i = 0; i < G_N_ELEMENTS(channels); i++) {
        g_autofree char *path = g_strdup_printf("/node-pause/one-channel/%s", channels[i]);
        add_pair_data_test(path, channels[i], test_one_channel);
        if (!strcmp(channels[i], "disks"))
            continue;
        g_autofree char *stopped = g_strdup_printf("/node-pause/stopped/%s", channels[i]);
        add_pair_data_test(stopped, channels[i], test_stopped_secondary);
    }
    add_pair_data_test("/node-pause/stopped/whole", NULL, test_stopped_secondary);
    add_pair_test("/node-pause/stopped/for-long", test_stopped_for_long);
    for (gsize i = 0; i < G_N_ELEMENTS(waits); i++) {
        g_autofree char *limit = g_strdup_printf("/node-pause/limit/%s", waits[i].name);
        g_autofree char *command = g_strdup_printf("/node-pause/command/%s", waits[i].name);
        add_pair_data_test(limit, &waits[i], test_wait_has_a_limit);
        add_pair_data_test(command, &waits[i], test_wait_has_a_command);
    }
    return g_test_run();
}
