/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options of the pair: one value on both nodes, whoever set it, whoever is the primary. */
#include "common/log.h"
#include "tests/support/control-peer.h"
#include "tests/support/host-pair.h"

#include <string.h>

static char *set(const Host *host, const char *name, const char *value)
{
    g_autofree char *command = g_strdup_printf(
        "{\"execute\":\"set\",\"arguments\":{\"name\":\"%s\",\"value\":\"%s\"}}\n", name, value);
    return control_peer_ask(host->config->control_socket, command);
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        g_error("'%s' is not in: %s", part, text);
}

static void assert_event(const Host *host, const char *data)
{
    g_autofree char *events =
        control_peer_ask(host->config->control_socket, "{\"execute\":\"query-events\"}\n");
    assert_has(events, data);
}

/* Set on either, it counts on both; what is a node's stays there. */
static void test_set_on_either(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    g_autofree char *there = set(a, "min-gap", "7ms");
    assert_has(there, "\"value\":\"7ms\",\"scope\":\"pair\",\"node\":\"alpha\",\"peer-told\":true");
    WAIT_FOR(b->config->min_gap_ms == 7);
    assert_event(b, "\"name\":\"min-gap\",\"value\":\"7ms\",\"before\":\"1ms\",\"by\":\"peer\"");
    /* By the long name, too. */
    g_autofree char *back = set(b, "checkpoint.compare-timeout", "80ms");
    assert_has(back, "\"name\":\"compare-timeout\"");
    WAIT_FOR(a->config->compare_timeout_ms == 80);
    g_autofree char *own = set(b, "heartbeat-timeout", "9000ms");
    assert_has(own, "\"scope\":\"node\",\"node\":\"beta\",\"peer-told\":false");
    /* What is said after it has come: so would that. */
    g_autofree char *last = set(b, "dirty-limit", "5 pages");
    WAIT_FOR(a->config->dirty_limit_pages == 5);
    g_assert_cmpuint(a->config->heartbeat_timeout_ms, ==, 10000);
    tear_down(&fixture);
}

/* A primary that has handed its VM over waits for the secondary's limit: both have the same one. */
static void test_disk_timeout(void)
{
    Fixture fixture;
    set_up(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    host_set(a, "disks", "disk-timeout", "9s");
    host_set(b, "disks", "disk-timeout", "70s");
    start(a, "primary");
    start(b, "secondary");
    protect(&fixture, 0);
    g_assert_cmpuint(b->config->disk_timeout_ms, ==, 9000);
    g_autofree char *answer = set(b, "disk-timeout", "11s");
    assert_has(answer, "\"scope\":\"pair\"");
    WAIT_FOR(a->config->disk_timeout_ms == 11000);
    tear_down(&fixture);
}

/* A mode that is set on the secondary is the primary's from the next checkpoint on. */
static void test_mode(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    a->config->checkpoint_period_ms = b->config->checkpoint_period_ms = 600000;
    gboolean colo = in_colo_mode();
    g_autofree char *answer = set(b, "mode", colo ? "buffered" : "colo");
    assert_has(answer, "\"peer-told\":true");
    WAIT_FOR((traffic_route(a->node->traffic) == ROUTE_COMPARE) == !colo);
    tear_down(&fixture);
}

static json_object *sync_of(const Host *host, json_object **ret_all)
{
    json_object *status = NULL, *sync = NULL;
    g_autofree char *answer =
        control_peer_ask(host->config->control_socket, "{\"execute\":\"status\"}");
    *ret_all = json_tokener_parse(answer);
    g_assert_true(json_object_object_get_ex(*ret_all, "return", &status));
    g_assert_true(json_object_object_get_ex(status, "sync", &sync));
    return sync;
}

static double sync_figure(const Host *host, const char *name)
{
    json_object *all, *value = NULL, *sync = sync_of(host, &all);
    double number =
        sync && json_object_object_get_ex(sync, name, &value) ? json_object_get_double(value) : -1;
    json_object_put(all);
    return number;
}

/* A synchronisation that would take for ever goes on as soon as it is not bounded any more. */
static void test_sync_rate(void)
{
    Fixture fixture;
    set_up(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    host_set(a, "checkpoint", "ram-sync-rate", "1B");
    start(a, "primary");
    WAIT_FOR(a->node->state == FSM_P_NONE && vm_is_running(a->vm));
    /* Not all of it is the same on both: that would not have to be sent. */
    fake_vm_step(a->vm, 20000);
    start(b, "secondary");
    WAIT_FOR(sync_figure(a, "percent") > 0);
    g_assert_cmpfloat(sync_figure(a, "percent"), <, 100);
    g_assert_cmpfloat(sync_figure(a, "mbps"), >, 0);
    g_assert_cmpfloat(sync_figure(a, "pages-per-second"), >, 0);
    g_assert_cmpfloat(sync_figure(a, "dirty-pages-per-second"), >=, 0);
    WAIT_FOR(b->config->ram_sync_bytes_per_s == 1);
    g_assert_cmpint(a->node->state, ==, FSM_P_ACTIVE);
    g_autofree char *answer = set(a, "ram-sync-rate", "0B");
    assert_has(answer, "\"scope\":\"pair\"");
    protect(&fixture, 0);
    /* A protected pair's checkpoints are not bounded. */
    g_autofree char *again = set(b, "ram-sync-rate", "1B");
    WAIT_FOR(a->config->ram_sync_bytes_per_s == 1);
    guint64 epoch = b->node->epoch;
    WAIT_FOR(b->node->epoch > epoch + 2);
    json_object *all;
    g_assert_null(sync_of(a, &all));
    json_object_put(all);
    tear_down(&fixture);
}

/* The next primary has what was set, and its next secondary too: whatever its file says. */
static void test_survives_takeover(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    g_autofree char *answer = set(a, "checkpoint-period", "44ms");
    WAIT_FOR(b->config->checkpoint_period_ms == 44);
    die(a);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    g_assert_cmpuint(b->config->checkpoint_period_ms, ==, 44);
    a->config->checkpoint_period_ms = 20;
    start(a, "auto");
    protect(&fixture, 1);
    WAIT_FOR(a->config->checkpoint_period_ms == 44);
    assert_event(a, "\"name\":\"checkpoint-period\",\"value\":\"44ms\",\"before\":\"20ms\"");
    tear_down(&fixture);
}

/* Both set the same at once: the messages cross, and both end with one value. */
static void test_crossing(void)
{
    Fixture fixture;
    start_pair(&fixture, "file");
    Host *a = &fixture.host[0], *b = &fixture.host[1];
    for (guint64 i = 2; i < 20; i += 2) {
        json_object *changed = NULL;
        g_autofree char *mine = g_strdup_printf("min-gap=%" G_GUINT64_FORMAT "ms\n", i);
        g_autofree char *theirs = g_strdup_printf("min-gap=%" G_GUINT64_FORMAT "ms\n", i + 1);
        g_assert_true(config_set_pair(a->config, mine, &changed, NULL));
        json_object_put(changed);
        g_assert_true(config_set_pair(b->config, theirs, &changed, NULL));
        json_object_put(changed);
        link_send(a->node->link, LINK_MSG_OPTIONS, mine, strlen(mine));
        link_send(b->node->link, LINK_MSG_OPTIONS, theirs, strlen(theirs));
        WAIT_FOR(a->config->min_gap_ms == i + 1 && b->config->min_gap_ms == i + 1);
    }
    /* Right where it was set, and not together with what the primary has: the primary's counts. */
    a->config->checkpoint_period_ms = 10;
    a->config->min_gap_ms = 5;
    link_send(b->node->link, LINK_MSG_OPTIONS, "min-gap=15ms\n", 13);
    WAIT_FOR(b->config->checkpoint_period_ms == 10);
    g_assert_cmpuint(a->config->min_gap_ms, ==, 5);
    g_assert_cmpuint(b->config->min_gap_ms, ==, 5);
    tear_down(&fixture);
}

/* What is no option of the pair breaks the protocol, and changes nothing. */
static void test_broken(gconstpointer data)
{
    const char *text = data;
    for (int from = 0; from < 2; from++) {
        Fixture fixture;
        start_pair(&fixture, "file");
        Host *liar = &fixture.host[from], *other = &fixture.host[!from];
        link_send(liar->node->link, LINK_MSG_OPTIONS, text, strlen(text) + (*text == 'N'));
        WAIT_FOR(trouble_last(other->node->trouble) &&
                 strstr(trouble_last(other->node->trouble)->message, "broke the protocol"));
        g_assert_cmpuint(other->config->heartbeat_timeout_ms, ==, 10000);
        g_assert_cmpuint(other->config->min_gap_ms, ==, 1);
        tear_down(&fixture);
    }
}

/* Alone: it is changed here, and said that nobody else knows. */
static void test_alone(void)
{
    Fixture fixture;
    set_up(&fixture, "file");
    Host *a = &fixture.host[0];
    start(a, "primary");
    WAIT_FOR(a->node->state == FSM_P_NONE);
    g_autofree char *answer = set(a, "min-gap", "8ms");
    assert_has(answer, "\"scope\":\"pair\",\"node\":\"alpha\",\"peer-told\":false");
    start(&fixture.host[1], "secondary");
    protect(&fixture, 0);
    WAIT_FOR(fixture.host[1].config->min_gap_ms == 8);
    tear_down(&fixture);
}

int main(int argc, char **argv)
{
    static const char *const broken[] = {"min-gap=2ms\nheartbeat-timeout=20ms\n", "min-gap\n",
                                         "min-gap=2ms\nvm.memory=1MiB\n", "\xff=1\n", "NUL=1\n"};
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test("/node-options/set-on-either", test_set_on_either);
    add_pair_test("/node-options/disk-timeout", test_disk_timeout);
    add_pair_test("/node-options/mode", test_mode);
    add_pair_test("/node-options/sync-rate", test_sync_rate);
    add_pair_test("/node-options/survives-takeover", test_survives_takeover);
    add_pair_test("/node-options/crossing", test_crossing);
    add_pair_test("/node-options/alone", test_alone);
    for (guint i = 0; i < G_N_ELEMENTS(broken); i++) {
        g_autofree char *path = g_strdup_printf("/node-options/broken/%u", i);
        add_pair_data_test(path, broken[i], test_broken);
    }
    return g_test_run();
}
