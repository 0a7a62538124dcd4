/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/order-hosts.h"

#include <glib/gstdio.h>
#include <string.h>
#include <xxhash.h>

#include "common/endian.h"
#include "tests/support/folder.h"

#define UUID         "7c2bd5a4-9a2b-4b62-a1ef-5c0a4d3c7a11"
#define RECORD_BYTES 512u

static const guint64 sizes[SIDE_DISKS] = {ORDER_RECORDS_MAX * RECORD_BYTES, 70000};

/* ---- The arbiter ---- */

typedef struct {
    gboolean answered;
    ArbiterAnswer answer;
} Answered;

static void on_answer(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    if (answer == ARBITER_UNKNOWN)
        g_error("the arbiter: %s", error->message);
    *(Answered *)user_data = (Answered){TRUE, answer};
}

static ArbiterAnswer wait_for(Answered *answered)
{
    while (!answered->answered)
        g_main_context_iteration(NULL, TRUE);
    return answered->answer;
}

static ArbiterAnswer claim(OrderWorld *w, const OrderHost *host, ArbiterClaim how,
                           const ArbiterStake *stake)
{
    Answered answered = {0};
    arbiter_claim(w->arbiter, UUID, host->name, how, stake, on_answer, &answered);
    return wait_for(&answered);
}

ArbiterAnswer order_ask(OrderWorld *w, const OrderHost *host)
{
    Answered answered = {0};
    arbiter_ask(w->arbiter, UUID, w->session, host->name, w->epoch, on_answer, &answered);
    return wait_for(&answered);
}

static guint64 generation_of(const OrderHost *host)
{
    DiskSetStatus status;
    disk_set_status(host->side->set, &status);
    return status.generation.current;
}

static void record(OrderWorld *w, const OrderHost *host, const char *session)
{
    Answered answered = {0};
    arbiter_record(w->arbiter, UUID, session, host->name, generation_of(host), on_answer,
                   &answered);
    wait_for(&answered);
}

static void release(OrderWorld *w, const OrderHost *host, guint64 generation, const char *in_step)
{
    Answered answered = {0};
    ArbiterRest rest = {generation, w->epoch, in_step};
    arbiter_give_back(w->arbiter, UUID, host->name, &rest, on_answer, &answered);
    wait_for(&answered);
}

/* ---- Records ---- */

static void fill(guint8 *bytes, guint number)
{
    memset(bytes, (int)(number % 250) + 1, RECORD_BYTES);
}

void order_put(const OrderHost *host, guint number, guint pattern)
{
    guint8 bytes[RECORD_BYTES];
    fill(bytes, pattern);
    g_assert_cmpint(
        disk_write(host->side->disks[0], bytes, RECORD_BYTES, (guint64)number * RECORD_BYTES, TRUE),
        ==, 0);
}

/* The VM has just begun to run here. */
void order_assert_all_there(const OrderWorld *w, const OrderHost *host)
{
    g_assert_cmpint(w->host[0].state == ORDER_RUNS && w->host[1].state == ORDER_RUNS, ==, FALSE);
    for (guint i = 0; i < w->told; i++) {
        guint8 bytes[RECORD_BYTES], expected[RECORD_BYTES];
        fill(expected, i);
        g_assert_cmpint(
            disk_read(host->side->disks[0], bytes, RECORD_BYTES, (guint64)i * RECORD_BYTES), ==, 0);
        if (memcmp(bytes, expected, RECORD_BYTES))
            g_error("%s: record %u of %u is not what the client was told", host->name, i, w->told);
    }
}

/* ---- What hosts do ---- */

void order_open(OrderHost *host, gboolean owner)
{
    g_autoptr(GError) error = NULL;
    side_open(host->side, owner, &error);
    g_assert_no_error(error);
}

void order_write_alone(OrderWorld *w, OrderHost *host, const char *session)
{
    g_autoptr(GError) error = NULL;
    disk_set_write_alone(host->side->set, &error);
    g_assert_no_error(error);
    record(w, host, session);
    host->state = ORDER_RUNS;
    w->in_step = FALSE;
    order_assert_all_there(w, host);
}

OrderHost *order_running(OrderWorld *w)
{
    return w->host[0].state == ORDER_RUNS   ? &w->host[0]
           : w->host[1].state == ORDER_RUNS ? &w->host[1]
                                            : NULL;
}

gboolean order_start(OrderWorld *w, OrderHost *host, gboolean chosen)
{
    g_autoptr(GError) error = NULL;
    if (host->state != ORDER_OFF)
        return FALSE;
    host->stake = (ArbiterStake){.has_disks = TRUE, .chosen = chosen};
    disk_set_examine(host->side->configs, SIDE_DISKS, host->side->dir, &host->stake.generation,
                     &error);
    g_assert_no_error(error);
    ArbiterAnswer answer = claim(w, host, ARBITER_LOOK, &host->stake);
    if (answer == ARBITER_OPEN)
        answer = claim(w, host, ARBITER_CLAIM, &host->stake);
    if (w->in_step)
        g_assert_cmpint(answer, ==, ARBITER_GRANTED);
    order_open(host, answer == ARBITER_GRANTED);
    host->state = ORDER_WAITS;
    host->asks = answer != ARBITER_GRANTED && !chosen;
    if (answer == ARBITER_GRANTED)
        order_write_alone(w, host, NULL);
    return TRUE;
}

void order_ask_whose(OrderWorld *w)
{
    for (int i = 0; i < 2; i++) {
        OrderHost *host = &w->host[i];
        if (host->state != ORDER_WAITS || !host->asks ||
            claim(w, host, ARBITER_INHERIT, &host->stake) != ARBITER_GRANTED)
            continue;
        g_assert_null(order_running(w));
        g_assert_false(w->in_step); /* ended on purpose */
        side_close(host->side);
        order_open(host, TRUE);
        order_write_alone(w, host, NULL);
    }
}

OrderHost *order_other(OrderWorld *w, const OrderHost *host)
{
    return host == &w->host[0] ? &w->host[1] : &w->host[0];
}

void order_checkpoint(OrderWorld *w, OrderHost *a, OrderHost *b)
{
    g_autoptr(GError) error = NULL;
    w->epoch++;
    disk_set_mark(a->side->set, w->epoch, &error);
    g_assert_no_error(error);
    g_assert_true(side_wait_marked(b->side, w->epoch));
    disk_set_apply(b->side->set, w->epoch, &error);
    g_assert_no_error(error);
    g_assert_true(side_wait_applied(a->side, w->epoch));
}

/* Nothing that is not the newest may ask to be overwritten in vain: it always is older. */
void order_synchronise(OrderWorld *w, OrderHost *a, OrderHost *b)
{
    for (guint i = 0; i < 4; i++)
        g_snprintf(w->session + i * 8, 9, "%08x", g_random_int());
    record(w, a, w->session);
    if (!side_synchronise(a->side, b->side))
        g_error("%s may not synchronise %s: %s", a->name, b->name,
                a->side->lost_message ? a->side->lost_message : b->side->lost_message);
    w->epoch = 0;
}

void order_continue_alone(OrderWorld *w, OrderHost *host)
{
    disk_set_detach(host->side->set);
    g_assert_cmpint(order_ask(w, host), ==, ARBITER_GRANTED);
    order_write_alone(w, host, w->session);
}

void order_take_over(OrderWorld *w, OrderHost *host)
{
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(order_ask(w, host), ==, ARBITER_GRANTED);
    disk_set_takeover(host->side->set, w->epoch, &error);
    g_assert_no_error(error);
    host->state = ORDER_RUNS;
    order_assert_all_there(w, host);
    record(w, host, NULL);
}

void order_leave(OrderHost *host)
{
    disk_set_detach(host->side->set);
    host->state = ORDER_WAITS;
}

void order_die(OrderHost *host)
{
    side_crash(host->side);
    host->state = ORDER_OFF;
}

void order_replace_disk(OrderHost *host)
{
    side_free(host->side);
    host->side = side_new(sizes);
}

/* Another boot: the kernel's name for it in the state file is another one. */
void order_reboot(const OrderHost *host)
{
    g_autofree char *path = g_build_filename(host->side->dir, "state", NULL);
    g_autofree char *bytes = NULL;
    gsize len;
    if (!g_file_get_contents(path, &bytes, &len, NULL) || len != 256)
        return;
    bytes[72] = (char)(bytes[72] ^ 0xff);
    colo_put_be64(bytes + 248, XXH3_64bits(bytes, 248));
    g_assert_true(g_file_set_contents(path, bytes, (gssize)len, NULL));
}

void order_end(OrderWorld *w, OrderHost *host, const char *in_step)
{
    guint64 generation = generation_of(host);
    side_close(host->side);
    host->state = ORDER_OFF;
    release(w, host, generation, in_step);
}

/* ---- The world ---- */

void order_world_init(OrderWorld *w)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *id = NULL, *mount = NULL;
    *w = (OrderWorld){
        .host = {{.name = "alpha"}, {.name = "beta"}}
    };
    w->dir = g_file_test("/dev/shm", G_FILE_TEST_IS_DIR)
                 ? g_mkdtemp(g_strdup("/dev/shm/colo-orders-XXXXXX"))
                 : g_dir_make_tmp("colo-orders-XXXXXX", NULL);
    arbiter_init_folder(w->dir, &id, &mount, &error);
    g_assert_no_error(error);
    w->arbiter = arbiter_new(w->dir, NULL, &error);
    g_assert_no_error(error);
    for (int i = 0; i < 2; i++)
        w->host[i].side = side_new(sizes);
}

void order_world_clear(OrderWorld *w)
{
    for (int i = 0; i < 2; i++)
        side_free(w->host[i].side);
    arbiter_free(w->arbiter);
    folder_remove(w->dir);
    g_free(w->dir);
}
