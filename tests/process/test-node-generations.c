/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose data counts: pairs of real nodes with the real disk engine and the real arbiter. They end,
 * die and start again in an order that once lost acknowledged data, or nearly did.
 */
#include "common/log.h"
#include "tests/support/host-pair.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#define RECORD_BYTES 4096u

static void set_up_pair(Fixture *f)
{
    set_up(f, "file");
    set_up_disks(f, 1, VM_DISK_RAW);
}

static void start_disk_pair(Fixture *f)
{
    set_up_pair(f);
    start(&f->host[0], "primary");
    start(&f->host[1], "auto");
    protect(f, 0);
}

/* A client is told that this is on disk. */
static void write_record(Host *host, guint number)
{
    guint8 record[RECORD_BYTES];
    memset(record, (int)number + 1, sizeof(record));
    g_assert_cmpint(disk_write(fake_disks_find(host->disks, "vda"), record, sizeof(record),
                               (guint64)number * sizeof(record), TRUE),
                    ==, 0);
}

static void assert_records(Host *host, guint count)
{
    for (guint i = 0; i < count; i++) {
        guint8 record[RECORD_BYTES], expected[RECORD_BYTES];
        memset(expected, (int)i + 1, sizeof(expected));
        g_assert_cmpint(disk_read(fake_disks_find(host->disks, "vda"), record, sizeof(record),
                                  (guint64)i * sizeof(record)),
                        ==, 0);
        g_assert_cmpmem(record, sizeof(record), expected, sizeof(expected));
    }
}

static gboolean runs(const Host *host)
{
    return host->node && fsm_is_primary(host->node->state) && host->node->state != FSM_P_ASKING &&
           host->node->state != FSM_P_STARTING && host->vm && vm_is_running(host->vm);
}

static void quit(Host *host)
{
    node_shut_down(host->node);
    WAIT_FOR(host->ended);
    die(host);
}

static void assert_says(const Host *host, const char *text)
{
    const GError *error = host->error ? host->error : trouble_last(host->node->trouble);
    g_assert_nonnull(error);
    if (!strstr(error->message, text))
        g_error("%s: \"%s\" does not contain \"%s\"", host->name, error->message, text);
}

/* Starts it where it must not have the VM: it waits for whom it names. */
static void assert_waits(Host *host, const char *text)
{
    start(host, "auto");
    g_assert_cmpint(host->node->state, ==, FSM_S_STARTING);
    assert_says(host, text);
    g_assert_false(runs(host));
}

/* What the status says of the data here. */
static gboolean data_is(const Host *host, const char *data)
{
    json_object *status = json_object_new_object(), *disks;
    disks_add_status(host->node->disks, status);
    gboolean is = json_object_object_get_ex(status, "disks", &disks) && disks;
    json_object *generation = is ? json_object_object_get(disks, "generation") : NULL;
    is = generation &&
         !strcmp(json_object_get_string(json_object_object_get(generation, "data")), data);
    json_object_put(status);
    return is;
}

/* ---- The first start ---- */

static void test_blank(void)
{
    Fixture f;
    set_up_pair(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    assert_waits(b, "--role primary once");
    assert_waits(a, "--role primary once");
    die(b);
    start(b, "primary");
    WAIT_FOR(runs(b));
    write_record(b, 0);
    protect(&f, 1);
    assert_records(a, 1);
    tear_down(&f);
}

/* ---- A replica that its primary has left behind ---- */

static void test_stale_replica(void)
{
    Fixture f;
    start_disk_pair(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    write_record(a, 0);
    die(b);
    WAIT_FOR(a->node->state == FSM_P_NONE);
    write_record(a, 1);
    quit(a);
    assert_waits(b, "node alpha");
    start(a, "auto");
    protect(&f, 0);
    assert_records(a, 2);
    tear_down(&f);
}

static gboolean is_on_record(const Fixture *f, const char *line)
{
    g_autofree char *path = g_strdup_printf("%s/%s.owner", f->dir, f->host[0].config->vm->uuid);
    g_autofree char *text = NULL;
    return g_file_get_contents(path, &text, NULL, NULL) && strstr(text, line);
}

/* Who goes on without its replica writes a generation that only it has, and that is on record. */
static void test_alone_is_newer(void)
{
    Fixture f;
    start_disk_pair(&f);
    const Node *a = f.host[0].node;
    guint64 before = holdings_generation(a->holdings);
    die(&f.host[1]);
    WAIT_FOR(holdings_generation(a->holdings) != before);
    char id[GENERATION_TEXT_BYTES];
    generation_text(holdings_generation(a->holdings), id);
    g_autofree char *line = g_strdup_printf("\nwriter alpha\ngeneration %s\n", id);
    WAIT_FOR(is_on_record(&f, line));
    tear_down(&f);
}

/* Nor does saying that it is the primary make it one. */
static void test_stale_primary(void)
{
    Fixture f;
    start_disk_pair(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    die(b);
    WAIT_FOR(a->node->state == FSM_P_NONE);
    write_record(a, 0);
    quit(a);
    start(b, "primary");
    WAIT_FOR(b->ended);
    assert_says(b, "node alpha");
    assert_says(b, "--overrule-arbiter");
    die(b);
    start(a, "primary");
    WAIT_FOR(runs(a));
    assert_records(a, 1);
    tear_down(&f);
}

/* ---- The end of a protected pair ---- */

static void assert_in_step(Fixture *f, guint records)
{
    Host *a = &f->host[0], *b = &f->host[1];
    die(b);
    start(b, "auto");
    WAIT_FOR(runs(b));
    assert_records(b, records);
    write_record(b, records);
    /* What it has written is not alpha's: alpha joins it. */
    start(a, "auto");
    protect(f, 1);
    assert_records(b, records + 1);
    WAIT_FOR(data_is(a, "behind"));
}

/* The last mark has what was written a moment ago: either of them may go on. */
static void test_end_in_step(void)
{
    Fixture f;
    start_disk_pair(&f);
    for (guint i = 0; i < 10; i++)
        write_record(&f.host[0], i);
    quit(&f.host[0]);
    WAIT_FOR(f.host[1].node->state == FSM_S_NONE);
    assert_in_step(&f, 10);
    tear_down(&f);
}

static void test_power_off_in_step(void)
{
    Fixture f;
    start_disk_pair(&f);
    write_record(&f.host[0], 0);
    fake_vm_raise(f.host[0].vm, VM_EVENT_SHUTDOWN, NULL);
    WAIT_FOR(f.host[0].ended);
    g_assert_no_error(f.host[0].error);
    die(&f.host[0]);
    WAIT_FOR(f.host[1].node->state == FSM_S_NONE);
    assert_in_step(&f, 1);
    tear_down(&f);
}

/* Also by who wrote: the replica is none that has gone on. */
static void test_end_in_step_same_again(void)
{
    Fixture f;
    start_disk_pair(&f);
    write_record(&f.host[0], 0);
    quit(&f.host[0]);
    start(&f.host[0], "auto");
    protect(&f, 0);
    assert_records(&f.host[0], 1);
    tear_down(&f);
}

/* The end that was announced is of its session: in the next one the same secondary takes over. */
static void test_takes_over_after_an_end(void)
{
    Fixture f;
    start_disk_pair(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    const Vm *copy = b->vm;
    quit(a);
    start(a, "primary");
    protect(&f, 0);
    g_assert_true(b->vm == copy);
    write_record(a, 0);
    guint64 before = a->node->epoch;
    WAIT_FOR(judge_epoch(a->node->judge).number > before + 1);
    die(a);
    WAIT_FOR(b->node->state == FSM_P_NONE && runs(b));
    assert_records(b, 1);
    tear_down(&f);
}

/* The secondary can't make it durable: it isn't in step, and waits for who has everything. */
static void test_end_unsynced(void)
{
    Fixture f;
    start_disk_pair(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    write_record(a, 0);
    fake_disks_refuse(b->disks, "sync", "state", -EIO);
    quit(a);
    die(b);
    fake_disks_refuse(b->disks, NULL, "", 0);
    assert_waits(b, "node alpha");
    start(a, "auto");
    protect(&f, 0);
    assert_records(a, 1);
    tear_down(&f);
}

/* It dies before it has answered. */
static void test_end_unanswered(void)
{
    Fixture f;
    start_disk_pair(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    write_record(a, 0);
    node_shut_down(a->node);
    die(b);
    WAIT_FOR(a->ended);
    die(a);
    assert_waits(b, "node alpha");
    start(a, "auto");
    protect(&f, 0);
    assert_records(a, 1);
    tear_down(&f);
}

/* ---- Half a replica ---- */

/* Alpha dies and beta goes on; beta dies while alpha is synchronised. */
static void test_half_synchronised(void)
{
    Fixture f;
    start_disk_pair(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    die(a);
    WAIT_FOR(runs(b));
    write_record(b, 0);
    a->config->sync_rate_bytes = b->config->sync_rate_bytes = 1;
    disks_limit_sync_rate(b->node->disks);
    start(a, "auto");
    WAIT_FOR(data_is(a, "broken"));
    die(b);
    WAIT_FOR(a->node->state == FSM_S_NONE);
    die(a);
    a->config->overrule = TRUE;
    start(a, "primary");
    WAIT_FOR(a->ended);
    assert_says(a, "node beta");
    die(a);
    a->config->overrule = FALSE;
    /* The VM is still beta's, which goes on with all it had. */
    start(b, "auto");
    WAIT_FOR(runs(b));
    assert_records(b, 1);
    start(a, "auto");
    b->config->sync_rate_bytes = 0;
    disks_limit_sync_rate(b->node->disks);
    protect(&f, 1);
    tear_down(&f);
}

/* ---- Disks that can't be used ---- */

static void test_image_missing(void)
{
    Fixture f;
    start_disk_pair(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    die(b);
    WAIT_FOR(a->node->state == FSM_P_NONE);
    quit(a);
    g_autofree char *image = fake_disks_image(a->disks, "vda");
    g_autofree char *away = g_strconcat(image, ".away", NULL);
    g_assert_cmpint(g_rename(image, away), ==, 0);
    start(a, "auto");
    WAIT_FOR(a->ended);
    assert_says(a, "disk vda");
    die(a);
    /* Nobody has the VM: alpha's disks are still the newest, and beta knows whom it waits for. */
    assert_waits(b, "node alpha");
    g_assert_cmpint(g_rename(away, image), ==, 0);
    start(a, "auto");
    protect(&f, 0);
    tear_down(&f);
}

/* QEMU doesn't start: whoever has the same disks may. */
static void test_given_back(void)
{
    Fixture f;
    start_disk_pair(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    write_record(a, 0);
    die(b);
    WAIT_FOR(a->node->state == FSM_P_NONE);
    quit(a);
    a->faulty_operation = FAKE_VM_START;
    a->fault = FAKE_VM_FAIL;
    a->nth = 1;
    start(a, "auto");
    WAIT_FOR(a->ended);
    die(a);
    g_assert_true(is_on_record(&f, "\nowner -\n"));
    g_assert_true(is_on_record(&f, "\nwriter alpha\n"));
    start(a, "auto");
    WAIT_FOR(runs(a));
    assert_records(a, 1);
    tear_down(&f);
}

/* ---- Both wait ---- */

static void on_answer(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    g_assert_no_error(error);
    *(ArbiterAnswer *)user_data = answer;
}

/* Both hosts die, and beta had won the VM and not taken it over yet. */
static void win_and_die(Fixture *f)
{
    Host *a = &f->host[0], *b = &f->host[1];
    g_autofree char *session = g_strdup(claim_session(a->node->claim));
    die(a);
    die(b);
    g_autoptr(GError) error = NULL;
    g_autoptr(Arbiter) arbiter = arbiter_new(f->dir, NULL, &error);
    g_assert_no_error(error);
    ArbiterAnswer answer = ARBITER_UNKNOWN;
    arbiter_ask(arbiter, a->config->vm->uuid, session, "beta", 1, on_answer, &answer);
    WAIT_FOR(answer == ARBITER_GRANTED);
}

/* Alpha waits for beta, which gives the VM back: alpha's disks are the newest. */
static void test_given_back_to_waiting(void)
{
    Fixture f;
    start_disk_pair(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    write_record(a, 0);
    win_and_die(&f);
    start(a, "auto");
    WAIT_FOR(a->node->state == FSM_S_NONE);
    assert_waits(b, "node alpha");
    protect(&f, 0);
    assert_records(a, 1);
    tear_down(&f);
}

/* The other one is gone again: alpha needs it for nothing. */
static void test_given_back_and_gone(void)
{
    Fixture f;
    start_disk_pair(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    write_record(a, 0);
    win_and_die(&f);
    start(a, "auto");
    assert_waits(b, "node alpha");
    die(b);
    WAIT_FOR(runs(a));
    assert_records(a, 1);
    tear_down(&f);
}

/* What was ended on purpose stays ended, though both have all of it. */
static void test_ended_stays_ended(void)
{
    Fixture f;
    start_disk_pair(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    write_record(a, 0);
    quit(a);
    WAIT_FOR(b->node->state == FSM_S_NONE);
    g_assert_cmpint(claim_starting(b->node->claim), ==, CLAIM_START_IDLE);
    tear_down(&f);
}

/* ---- Both have written ---- */

static void test_split(void)
{
    Fixture f;
    start_disk_pair(&f);
    Host *a = &f.host[0], *b = &f.host[1];
    die(b);
    WAIT_FOR(a->node->state == FSM_P_NONE);
    write_record(a, 0);
    quit(a);
    b->config->overrule = TRUE;
    start(b, "primary");
    WAIT_FOR(runs(b));
    b->config->overrule = FALSE;
    /* Alpha has what beta lacks: it isn't overwritten until that is said there. */
    start(a, "auto");
    WAIT_FOR(a->ended);
    assert_says(a, "--discard-this-side");
    die(a);
    a->config->discard = TRUE;
    start(a, "auto");
    protect(&f, 1);
    g_assert_false(a->config->discard);
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", g_getenv("TEST_LOG") ? LOG_LEVEL_INFO : LOG_LEVEL_ERROR);
    add_pair_test("/node-generations/blank", test_blank);
    add_pair_test("/node-generations/stale-replica", test_stale_replica);
    add_pair_test("/node-generations/alone-is-newer", test_alone_is_newer);
    add_pair_test("/node-generations/stale-primary", test_stale_primary);
    add_pair_test("/node-generations/end-in-step", test_end_in_step);
    add_pair_test("/node-generations/power-off-in-step", test_power_off_in_step);
    add_pair_test("/node-generations/end-in-step-same-again", test_end_in_step_same_again);
    add_pair_test("/node-generations/takes-over-after-an-end", test_takes_over_after_an_end);
    add_pair_test("/node-generations/end-unsynced", test_end_unsynced);
    add_pair_test("/node-generations/end-unanswered", test_end_unanswered);
    add_pair_test("/node-generations/half-synchronised", test_half_synchronised);
    add_pair_test("/node-generations/image-missing", test_image_missing);
    add_pair_test("/node-generations/given-back", test_given_back);
    add_pair_test("/node-generations/given-back-to-waiting", test_given_back_to_waiting);
    add_pair_test("/node-generations/given-back-and-gone", test_given_back_and_gone);
    add_pair_test("/node-generations/ended-stays-ended", test_ended_stays_ended);
    add_pair_test("/node-generations/split", test_split);
    return g_test_run();
}
