/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Walks the table of waits (waits.h), and prints it. */
#include "tests/world/waits.h"

#include <stdio.h>
#include <string.h>

#include "vm/vm_internal.h"

#define MS     COLO_US_PER_MS
#define SECOND G_USEC_PER_SEC

/* What is asked for ends the wait within this, and all that follows is over within the other. Storage
 * that hangs looks once a second whether it still does (world-loop.c). */
#define ENDS_US  (1100 * MS)
#define COMES_US (90 * SECOND)

/* A limit is as long as it is said to be, but for the steps in which it is counted. */
#define SLACK_US (700 * MS)

static const WaitTable *const tables[] = {&waits_starting, &waits_checkpoints, &waits_moves,
                                          &waits_lost};

/* ---- For rows ---- */

void waits_pair(void)
{
    world_start_pair();
    waits_pass_ms(500);
}

static void order_one(WorldHost *host, const char *command)
{
    g_auto(GStrv) words = g_strsplit(command, " ", -1);
    json_object *arguments = json_object_new_object();
    for (guint i = 1; words[i]; i++) {
        char *value = strchr(words[i], '=');
        if (value)
            *value++ = '\0';
        json_object_object_add(arguments, words[i],
                               value ? json_object_new_string(value)
                                     : json_object_new_boolean(TRUE));
    }
    if (!world_command(host, words[0], arguments) && host->refusal)
        world_fail("%s: %s: %s", host->name, command, host->refusal);
}

void waits_order(WorldHost *host, const char *commands)
{
    g_auto(GStrv) all = g_strsplit(commands, ";", -1);
    for (guint i = 0; all[i]; i++)
        order_one(host, all[i]);
}

void waits_pass_ms(gint64 ms)
{
    world_run_until(world.now_us + ms * MS);
}

void waits_await(gboolean (*holds)(void), const char *what)
{
    world_await(holds, what, COMES_US);
}

void waits_hold_qemu(WorldHost *host, VmOp op)
{
    host->takes_us[op] = WORLD_FOREVER;
}

static gboolean on_signal(gpointer data)
{
    world_handed_terminate(data);
    return G_SOURCE_REMOVE;
}

static gboolean on_killed(gpointer data)
{
    const WorldHost *host = data;
    if (host->vm) {
        memset(host->vm->host->takes_us, 0, sizeof(host->takes_us)); /* the next one is well */
        sim_vm_die(host->vm);
    }
    return G_SOURCE_REMOVE;
}

void waits_kill_qemu(WorldHost *host)
{
    world_later(host, 0, on_killed, host);
}

void waits_alpha_answers(void)
{
    sim_vm_answer(ALPHA->vm);
}

void waits_beta_answers(void)
{
    sim_vm_answer(BETA->vm);
}

void waits_alpha_dies(void)
{
    waits_kill_qemu(ALPHA);
}

void waits_beta_dies(void)
{
    waits_kill_qemu(BETA);
}

void waits_hang_arbiter(WorldHost *host)
{
    host->storage_hangs_until_us = G_MAXINT64;
}

void waits_mend_arbiter(WorldHost *host)
{
    host->storage_hangs_until_us = 0;
}

gint64 waits_qemu_ms(const Config *config)
{
    return (gint64)config->qemu_timeout_ms;
}

gint64 waits_qemu_disks_ms(const Config *config)
{
    return (gint64)(config->qemu_timeout_ms + config->disk_timeout_ms);
}

gint64 waits_disk_ms(const Config *config)
{
    return (gint64)config->disk_timeout_ms;
}

gint64 waits_arbiter_ms(const Config *config)
{
    return (gint64)config->arbiter_timeout_ms;
}

gint64 waits_answer_ms(const Config *config)
{
    return (gint64)config->answer_timeout_ms;
}

/* ---- One row, and one of its ends ---- */

typedef struct {
    const Wait *row;
    const WaitEnd *end; /* NULL: the limit */
} Walk;

static const Wait *walked;

static gboolean is_there(void)
{
    const Wait *row = walked;
    const WorldHost *host = &world.host[row->who];
    if (!host->lives || !host->node || host->node->state != row->state)
        return FALSE;
    const Node *node = host->node;
    return (!row->order || (host->vm && vm_operation(&host->vm->vm) == row->order)) &&
           (!row->cycle || primary_phase(node->primary) == row->cycle) &&
           (!row->claim || claim_doing(node->claim) == row->claim) &&
           (!row->start || claim_starting(node->claim) == row->start) &&
           (!row->move || switchover_phase(node->switchover) == row->move) &&
           (!row->also || row->also());
}

/* The node may be back where it was at once. */
static gboolean is_over(void)
{
    const Wait *row = walked;
    gboolean is_state = !row->order && !row->cycle && !row->claim && !row->start && !row->move;
    return !is_there() || (is_state && world.host[row->who].states != 0);
}

/* "waiting.for=text" */
static void check_told(WorldHost *host, const char *told)
{
    g_auto(GStrv) parts = g_strsplit(told, "=", 2);
    g_auto(GStrv) names = g_strsplit(parts[0], ".", -1);
    json_object *at = world_status(host);
    for (guint i = 0; names[i] && at; i++)
        at = json_object_object_get(at, names[i]);
    const char *text = at ? json_object_get_string(at) : "null";
    if (!strstr(text, parts[1]))
        world_fail("%s: status has %s: %s, and it waits for '%s'", host->name, parts[0], text,
                   parts[1]);
}

static FsmState wanted;

static gboolean has_come(void)
{
    const WorldHost *host = &world.host[walked->who];
    return host->state == wanted || (host->states >> wanted & 1);
}

static void come_to(FsmState then)
{
    const WorldHost *host = &world.host[walked->who];
    wanted = then;
    for (gint64 end_us = world.now_us + COMES_US; !has_come();) {
        if (world.now_us >= end_us)
            world_fail("%s comes to state %s, not to %s: %s", host->name,
                       fsm_state_name((FsmState)host->state), fsm_state_name(then),
                       host->trouble ? host->trouble : "");
        waits_pass_ms(1);
    }
}

static void wait_for_limit(const Wait *row)
{
    gint64 began_us = world.now_us;
    gint64 limit_us = row->limit_ms(world.host[row->who].config) * MS;
    world_await(is_over, "the limit", limit_us + SLACK_US);
    if (world.now_us - began_us < limit_us - SLACK_US)
        world_fail("its limit is %.1f s, and it was over after %.3f s", (double)limit_us / SECOND,
                   (double)(world.now_us - began_us) / SECOND);
    come_to(row->then);
    if (row->after)
        check_told(&world.host[row->who], row->after);
}

static void go(const Wait *row, const WaitEnd *end)
{
    WorldHost *host = &world.host[row->who], *peer = &world.host[!row->who];
    switch (end->way) {
    case WAIT_NO_WAY:
        g_assert_not_reached();
    case WAIT_ANSWER:
        /* However long that takes, who asks for a try is answered: world_check_answers(). */
        if (!row->limit && fsm_is_taking_over(row->state)) {
            waits_order(host, "cont");
            waits_pass_ms(7000);
        }
        row->let();
        break;
    case WAIT_FAILURE:
        row->fail();
        break;
    case WAIT_COMMAND:
        waits_order(host, end->command);
        break;
    case WAIT_PEER_TOLD:
        waits_order(peer, end->command);
        break;
    case WAIT_SIGTERM:
        world_later(host, 0, on_signal, host);
        break;
    case WAIT_PEER_DIES:
    case WAIT_PEER_VANISHES:
        world_die(peer, end->way == WAIT_PEER_VANISHES);
        break;
    }
    /* A peer that is dead answers nothing any more, and QEMU here hangs all the same. */
    gboolean is_peers =
        end->way == WAIT_PEER_DIES || end->way == WAIT_PEER_VANISHES || end->way == WAIT_SIGTERM;
    if (!is_peers)
        world_await(is_over, "it ends the wait", ENDS_US);
    come_to(end->then);
}

static void tell(gconstpointer data)
{
    const Walk *walk = data;
    const Wait *row = walk->row;
    WorldHost *host = &world.host[row->who];
    walked = row;
    if (row->arbiter)
        world.arbiter = row->arbiter;
    world.disks = row->disks;
    row->bring();
    if (!is_there())
        world_await(is_there, row->name, COMES_US);
    for (guint i = 0; i < G_N_ELEMENTS(row->told) && row->told[i]; i++)
        check_told(host, row->told[i]);
    host->states = 0;
    if (walk->end)
        go(row, walk->end);
    else
        wait_for_limit(row);
}

static void run(gconstpointer data)
{
    const Walk *walk = data;
    world_case(1, walk->row->mode ? walk->row->mode : "buffered", tell, walk);
}

/* ---- The table is whole ---- */

/* What has no row, and why. */
typedef struct {
    guint value;
    const char *why;
} Exempt;

static const Exempt states[] = {
    {FSM_FAILED, "it has ended"},
};

static const Exempt phases[] = {
    {CYCLE_SETTLING,            "5 ms (primary.c)"                           },
    {CYCLE_STOP_SETTLING,       "100 ms (primary.c)"                         },
    {CYCLE_PAUSING_CANCELLED,   "QEMU, as in PAUSING"                        },
    {CYCLE_SAVING,              "SAVING_MARKED and MARKING together"         },
    {CYCLE_SAVING_UNMARKED,     "QEMU, as in SAVING_MARKED"                  },
    {CYCLE_SAVING_CANCELLED,    "likewise"                                   },
    {CYCLE_GIVING_UP_CANCELLED, "the disks, as in GIVING_UP"                 },
    {CYCLE_COPYING,             "a thread of this process copies memory"     },
    {CYCLE_COPYING_RECEIVED,    "likewise"                                   },
    {CYCLE_RESUMING_SENDING,    "QEMU, as in RESUMING"                       },
    {CYCLE_RESUMING_SENT,       "likewise"                                   },
    {CYCLE_RESUMING_RECEIVED,   "likewise"                                   },
    {CYCLE_RESUMING_COMPLETE,   "likewise"                                   },
    {CYCLE_SENDING,             "the peer's socket: process/test-node-answer"},
    {CYCLE_RECEIVED,            "likewise"                                   },
    {CYCLE_PAUSED_SENDING,      "likewise"                                   },
    {CYCLE_PAUSED_RECEIVED,     "likewise"                                   },
    {CYCLE_PAUSED,              "for what the state waits for"               },
    {CYCLE_PAUSED_COMPLETE,     "left in the step that it is reached by"     },
};

static const Exempt doings[] = {
    {CLAIM_DENIED,       "for what the state waits for (FROZEN, S_PAUSED)"},
    {CLAIM_FORCED,       "the VM runs; the answer is reported"            },
    {CLAIM_FORCED_AGAIN, "likewise"                                       },
};

static const Exempt starts[] = {
    {CLAIM_START_WAITS_ASKED, "the arbiter, as in WAITS: it waits for a primary all the same"},
};

static const Exempt moves[] = {
    {SWITCHOVER_COMPLETED, "it is over"},
    {SWITCHOVER_CANCELLED, "it is over"},
    {SWITCHOVER_FAILED,    "it is over"},
};

#define LIST(list) list, G_N_ELEMENTS(list)

static gboolean has_row(gsize offset, guint value)
{
    for (gsize t = 0; t < G_N_ELEMENTS(tables); t++)
        for (gsize i = 0; i < tables[t]->n; i++)
            if (G_STRUCT_MEMBER(guint, &tables[t]->rows[i], offset) == value)
                return TRUE;
    return FALSE;
}

/* Each value of an enum, of which `first` is the first that counts, is a row's or exempt. */
static void check_all(const char *what, gsize offset, guint first, guint n, const Exempt *exempt,
                      gsize n_exempt)
{
    for (guint value = first; value < n; value++) {
        const Exempt *found = NULL;
        for (gsize i = 0; i < n_exempt; i++)
            if (exempt[i].value == value)
                found = &exempt[i];
        gboolean is_row = has_row(offset, value);
        if (!is_row && !found)
            g_error("%s %u has no row in the table of waits", what, value);
        if (is_row && found)
            g_error("%s %u has a row, and is said to need none: %s", what, value, found->why);
    }
}

static void test_whole(void)
{
    G_STATIC_ASSERT(sizeof(FsmState) == sizeof(guint));
    check_all("state", G_STRUCT_OFFSET(Wait, state), 0, FSM_STATES, LIST(states));
    check_all("order to QEMU", G_STRUCT_OFFSET(Wait, order), VM_OP_START, VM_OP_INACTIVATE + 1,
              NULL, 0);
    check_all("phase of the cycle", G_STRUCT_OFFSET(Wait, cycle), CYCLE_SYNCING, CYCLE_PHASES,
              LIST(phases));
    check_all("claim", G_STRUCT_OFFSET(Wait, claim), CLAIM_DEFERRED, CLAIM_DOINGS, LIST(doings));
    check_all("start", G_STRUCT_OFFSET(Wait, start), CLAIM_START_ASKED, CLAIM_STARTS, LIST(starts));
    check_all("switchover", G_STRUCT_OFFSET(Wait, move), SWITCHOVER_SETUP, SWITCHOVER_PHASES,
              LIST(moves));
}

/* Each wait has a limit, or a reason why it needs none; is told; and a command ends it. */
static void check_row(const Wait *row)
{
    gboolean command = FALSE, death = FALSE;
    for (guint i = 0; i < WAIT_ENDS; i++) {
        WaitWay way = row->ends[i].way;
        command |= way == WAIT_COMMAND || way == WAIT_PEER_TOLD || way == WAIT_SIGTERM;
        death |= way == WAIT_PEER_DIES || way == WAIT_PEER_VANISHES;
        if ((way == WAIT_ANSWER && !row->let) || (way == WAIT_FAILURE && !row->fail))
            g_error("wait %s: nothing is let go", row->name);
    }
    if (!row->limit == !row->why)
        g_error("wait %s: it has a limit, or a reason for none", row->name);
    if (!row->told[0])
        g_error("wait %s: nobody is told", row->name);
    if (!command && row->state != FSM_COMPLETED)
        g_error("wait %s: no command ends it", row->name);
    gboolean alone = row->state <= FSM_P_NONE || row->state == FSM_S_STARTING ||
                     row->state == FSM_S_NONE || row->state == FSM_COMPLETED;
    if (!death && !alone)
        g_error("wait %s: what if the peer dies?", row->name);
}

/* ---- docs/WAITS.md ---- */

static void print_end(GString *page, const WaitEnd *end)
{
    g_auto(GStrv) words = g_strsplit(end->command ? end->command : "", " ", -1);
    g_autofree char *command = g_strjoinv(" --", words);
    g_auto(GStrv) orders = g_strsplit(command, ";", -1);
    if (end->way == WAIT_SIGTERM)
        g_string_append(page, "SIGTERM");
    else
        g_string_append_printf(page, "`%s`%s%s", orders[0], orders[1] ? " twice" : "",
                               end->way == WAIT_PEER_TOLD ? " there" : "");
}

static gboolean is_order(const WaitEnd *end)
{
    return end->way == WAIT_COMMAND || end->way == WAIT_PEER_TOLD || end->way == WAIT_SIGTERM;
}

static void print_row(GString *page, const Wait *row)
{
    gboolean is_first = TRUE;
    g_auto(GStrv) told = g_strsplit(row->told[0], "=", 2);
    g_string_append_printf(page, "| %s | `%s` | %s | `%s` | ",
                           fsm_is_primary(row->state) || row->state == FSM_COMPLETED ? "primary"
                                                                                     : "secondary",
                           fsm_state_name(row->state), row->what, told[0]);
    g_string_append_printf(page, row->limit ? "%s | " : "none: %s | ",
                           row->limit ? row->limit : row->why);
    for (guint i = 0; i < WAIT_ENDS; i++) {
        if (!is_order(&row->ends[i]))
            continue;
        g_string_append(page, is_first ? "" : ", ");
        print_end(page, &row->ends[i]);
        is_first = FALSE;
    }
    g_string_append(page, " |\n");
}

static char *print_table(void)
{
    GString *page =
        g_string_new("| node | state | it waits for | shown in `status` as | limit | ended by |\n"
                     "| --- | --- | --- | --- | --- | --- |\n");
    for (gsize t = 0; t < G_N_ELEMENTS(tables); t++)
        for (gsize i = 0; i < tables[t]->n; i++)
            if (tables[t]->rows[i].what)
                print_row(page, &tables[t]->rows[i]);
    return g_string_free(page, FALSE);
}

static void test_documented(void)
{
    const char *tests = g_getenv("COLO_TESTS");
    g_autofree char *path =
        g_build_filename(tests ? tests : "tests", "..", "docs", "WAITS.md", NULL);
    g_autofree char *table = print_table(), *page = NULL;
    if (!g_file_get_contents(path, &page, NULL, NULL)) {
        g_test_skip("no docs/WAITS.md here: set COLO_TESTS");
        return;
    }
    /* If it isn't: test-world-waits --table */
    g_assert_nonnull(strstr(page, table));
}

/* ---- ---- */

static void add(const Wait *row, const WaitEnd *end)
{
    static const char *const ways[] = {[WAIT_ANSWER] = "answer",
                                       [WAIT_FAILURE] = "failure",
                                       [WAIT_COMMAND] = "command",
                                       [WAIT_PEER_TOLD] = "peer-told",
                                       [WAIT_SIGTERM] = "sigterm",
                                       [WAIT_PEER_DIES] = "peer-dies",
                                       [WAIT_PEER_VANISHES] = "peer-vanishes"};
    Walk *walk = g_new(Walk, 1);
    *walk = (Walk){row, end};
    g_autofree char *command =
        g_strdelimit(g_strdup(end && end->command ? end->command : ""), " ", '-');
    g_autofree char *path =
        g_strdup_printf("/waits/%s/%s%s%s", row->name, end ? ways[end->way] : "limit",
                        *command ? "-" : "", command);
    g_test_add_data_func_full(path, walk, run, g_free);
}

int waits_walk(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "--table")) {
        g_autofree char *table = print_table();
        printf("%s", table);
        return 0;
    }
    g_test_init(&argc, &argv, NULL);
    g_test_set_nonfatal_assertions(); /* each case is on its own */
    for (gsize t = 0; t < G_N_ELEMENTS(tables); t++)
        for (gsize i = 0; i < tables[t]->n; i++) {
            const Wait *row = &tables[t]->rows[i];
            check_row(row);
            if (row->limit)
                add(row, NULL);
            for (guint k = 0; k < WAIT_ENDS; k++)
                if (row->ends[k].way != WAIT_NO_WAY)
                    add(row, &row->ends[k]);
        }
    g_test_add_func("/table-of-waits/whole", test_whole);
    g_test_add_func("/table-of-waits/documented", test_documented);
    return g_test_run();
}
