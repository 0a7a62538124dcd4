/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A QEMU that has grown is replaced on a secondary, and left alone on a primary. */
#include <sys/stat.h>

#include "common/log.h"
#include "tests/support/control-peer.h"
#include "tests/support/host-pair.h"

#define LIMIT (G_GUINT64_CONSTANT(64) << 20)
#define BASE  (G_GUINT64_CONSTANT(100) << 20)

static void grow(Host *host)
{
    fake_vm_set_private_bytes(host->vm, BASE);
    memory_look(host->node->memory);
    g_assert_cmpuint(memory_base(host->node->memory), ==, BASE);
    fake_vm_set_private_bytes(host->vm, BASE + LIMIT + 1);
    memory_look(host->node->memory);
}

/* Of its VM's RAM. */
static guint64 used_bytes(const Host *host)
{
    struct stat st;
    g_assert_cmpint(fstat(vm_ram(host->vm)->memfd, &st), ==, 0);
    return (guint64)st.st_blocks * 512;
}

static gint64 status_of(const Host *host, const char *member)
{
    g_autofree char *line =
        control_peer_ask(host->config->control_socket, "{\"execute\":\"status\"}\n");
    json_object *answer = json_tokener_parse(line), *vm = NULL, *value = NULL;
    g_assert_true(json_object_object_get_ex(json_object_object_get(answer, "return"), "vm", &vm) &&
                  json_object_object_get_ex(vm, member, &value));
    gint64 number = value ? json_object_get_int64(value) : -1;
    json_object_put(answer);
    return number;
}

/* Whoever looks sees it, on both sides. */
static void test_shown(void)
{
    Fixture f;
    start_pair(&f, "file");
    for (int side = 0; side < 2; side++) {
        Host *host = &f.host[side];
        host->config->qemu_growth_limit_bytes = 0;
        g_assert_cmpint(status_of(host, "private-bytes"), ==, 0);
        g_assert_cmpint(status_of(host, "grown-bytes"), ==, -1);
        grow(host);
        g_assert_cmpint(status_of(host, "private-bytes"), ==, (gint64)(BASE + LIMIT + 1));
        g_assert_cmpint(status_of(host, "grown-bytes"), ==, (gint64)(LIMIT + 1));
    }
    tear_down(&f);
}

static void test_secondary(void)
{
    Fixture f;
    start_pair(&f, "file");
    Host *a = &f.host[0], *b = &f.host[1];
    const Vm *primary = a->vm;
    guint questions = claim_questions(a->node->claim) + claim_questions(b->node->claim);
    b->config->qemu_growth_limit_bytes = LIMIT;
    g_autofree char *session = g_strdup(link_session(b->node->link));
    guint64 kept = used_bytes(b);
    g_assert_cmpuint(kept, >=, 64 * VM_PAGE_SIZE);
    grow(b);
    WAIT_FOR(b->node->state == FSM_S_STARTING);
    g_assert_cmpuint(memory_base(b->node->memory), ==, 0);
    /* The primary's goes on, is told, and takes it back: nobody asked the arbiter who goes on. */
    WAIT_FOR(a->node->state != FSM_P_COLO);
    g_assert_cmpint(traffic_route(a->node->traffic), ==, ROUTE_OPEN);
    protect(&f, 0);
    g_assert_cmpstr(link_session(b->node->link), !=, session);
    /* Its RAM was kept: what the guest has not written meanwhile need not be sent again. */
    g_assert_cmpuint(primary_progress(a->node->primary)->same_bytes, >=, kept / 2);
    g_assert_true(a->vm == primary && vm_is_running(a->vm));
    g_assert_cmpuint(claim_questions(a->node->claim) + claim_questions(b->node->claim), ==,
                     questions);
    g_assert_null(trouble_last(a->node->trouble));
    /* And it can take over. */
    die(a);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    tear_down(&f);
}

/* A primary that is dead, which the secondary doesn't know yet, doesn't let it go. */
static void test_nobody_answers(void)
{
    Fixture f;
    start_pair(&f, "file");
    Host *a = &f.host[0], *b = &f.host[1];
    b->config->qemu_growth_limit_bytes = LIMIT;
    grow(b);
    g_assert_true(memory_is_leaving(b->node->memory));
    g_assert_cmpint(b->node->state, ==, FSM_S_COLO);
    die(a);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    g_assert_false(b->ended || memory_is_leaving(b->node->memory));
    tear_down(&f);
}

static void test_left_alone(void)
{
    Fixture f;
    start_pair(&f, "file");
    Host *a = &f.host[0], *b = &f.host[1];
    a->config->qemu_growth_limit_bytes = LIMIT;
    grow(a);
    g_assert_true(memory_is_told(a->node->memory));
    grow(b); /* its limit is 0 */
    g_assert_cmpint(a->node->state, ==, FSM_P_COLO);
    g_assert_cmpint(b->node->state, ==, FSM_S_COLO);
    /* One that has taken over has grown, and goes on. */
    b->config->qemu_growth_limit_bytes = LIMIT;
    die(a);
    WAIT_FOR(b->node->state == FSM_P_NONE);
    memory_look(b->node->memory);
    g_assert_true(memory_is_told(b->node->memory));
    g_assert_cmpint(b->node->state, ==, FSM_P_NONE);
    /* The secondary's is a new one, when it is one again. */
    start(a, "secondary");
    protect(&f, 1);
    g_assert_cmpuint(memory_base(b->node->memory), ==, BASE);
    node_event(b->node, FSM_YIELD);
    protect(&f, 0);
    g_assert_cmpuint(memory_base(b->node->memory), !=, BASE);
    g_assert_false(memory_is_told(b->node->memory));
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test_in("buffered", "/node-recycle/shown", test_shown);
    add_pair_test("/node-recycle/secondary", test_secondary);
    add_pair_test("/node-recycle/nobody-answers", test_nobody_answers);
    add_pair_test("/node-recycle/left-alone", test_left_alone);
    return g_test_run();
}
