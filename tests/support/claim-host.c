/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/claim-host.h"

#include "tests/support/folder.h"
#include "tests/support/wait.h"

#include <glib/gstdio.h>
#include <string.h>

/* When a question is late that hangs for certain. */
#define LATE_MS 300

Hold claim_storage;

/* ---- The mediator ---- */

void claim_host_feed(ClaimHost *host, FsmEvent event)
{
    FsmStep step = fsm_step(host->state, event);
    g_assert_cmpint(step.verdict, ==, FSM_MOVE);
    host->state = step.next;
    claim_moved(host->claim, event, step.next, host->session, "beta");
    if (step.actions & FSM_DO_RECORD)
        claim_record(host->claim, host->state == FSM_P_ACTIVE ? host->session : NULL);
    if ((step.actions & FSM_DO_ASK_ARBITER) && !claim_begin_wait(host->claim))
        claim_ask(host->claim, 7);
}

static void note(ClaimHost *host, const char *what)
{
    g_string_append_printf(host->reports, "%s ", what);
}

static void on_event(FsmEvent event, gpointer user_data)
{
    note(user_data, fsm_event_name(event));
    claim_host_feed(user_data, event);
}

static void on_due(gpointer user_data)
{
    ClaimHost *host = user_data;
    claim_ask(host->claim, 7);
}

static void on_seen(gpointer user_data)
{
    note(user_data, "seen");
}

static void set_trouble(ClaimHost *host, const char *what, const GError *error)
{
    g_free(host->trouble);
    host->trouble = g_strdup_printf("%s: %s", what, error->message);
}

static void on_lost(const char *what, const GError *error, gpointer user_data)
{
    note(user_data, "lost");
    set_trouble(user_data, what, error);
}

static void on_trouble(const char *what, const GError *error, gboolean again, gpointer user_data)
{
    (void)again;
    set_trouble(user_data, what, error);
}

static void on_recorded(gpointer user_data)
{
    note(user_data, "recorded");
}

static void on_watched(const char *why, gpointer user_data)
{
    note(user_data, why ? "away" : "there");
}

static void on_taken(gpointer user_data)
{
    note(user_data, "taken");
}

static void on_disowned(gpointer user_data)
{
    note(user_data, "released");
}

gboolean claim_host_reported(const ClaimHost *host, const char *what)
{
    g_autofree char *word = g_strconcat(what, " ", NULL);
    return strstr(host->reports->str, word) != NULL;
}

void claim_host_forget(ClaimHost *host)
{
    g_string_truncate(host->reports, 0);
}

/* ---- Life ---- */

static Config *make_config(const ClaimHost *host)
{
    Config *config = g_new0(Config, 1);
    config->name = g_strdup("alpha");
    config->role = CONFIG_ROLE_AUTO;
    config->vm = fake_vm_description(4096, 0);
    config->nics = g_ptr_array_new();
    config->arbiter = CONFIG_ARBITER_FILE;
    config->arbiter_path = g_strdup(host->dir);
    config->arbiter_timeout_ms = 0; /* no limit: claim_host_hold() */
    config->arbiter_check_ms = 20;
    config->heartbeat_timeout_ms = 10;
    config->state_dir = g_strdup(host->state_dir);
    return config;
}

static void make_claim(ClaimHost *host, FsmState state)
{
    static const ClaimCallbacks callbacks = {.event = on_event,
                                             .due = on_due,
                                             .seen = on_seen,
                                             .lost = on_lost,
                                             .trouble = on_trouble,
                                             .recorded = on_recorded,
                                             .watched = on_watched,
                                             .taken = on_taken,
                                             .disowned = on_disowned};
    g_autoptr(GError) error = NULL;
    host->claim = claim_new(host->config, &callbacks, host, &error);
    g_assert_no_error(error);
    host->state = state;
    hold_attach(&claim_storage, claim_arbiter(host->claim));
}

void claim_host_set_up(ClaimHost *host, gconstpointer data)
{
    g_autofree char *id = NULL, *mount = NULL;
    (void)data;
    host->dir = g_dir_make_tmp("test-claim-XXXXXX", NULL);
    host->state_dir = g_build_filename(host->dir, "state", NULL);
    host->reports = g_string_new(NULL);
    host->config = make_config(host);
    g_assert_true(arbiter_init_folder(host->dir, &id, &mount, NULL));
    make_claim(host, FSM_P_ASKING);
}

void claim_host_tear_down(ClaimHost *host, gconstpointer data)
{
    (void)data;
    claim_free(host->claim);
    hold_end(&claim_storage);
    g_autofree char *pin = g_build_filename(host->state_dir, "arbiter", NULL);
    g_unlink(pin);
    folder_remove(host->dir);
    config_free(host->config);
    g_string_free(host->reports, TRUE);
    g_free(host->trouble);
    g_free(host->dir);
    g_free(host->state_dir);
}

void claim_host_hold(const ClaimHost *host, HoldWhere where)
{
    arbiter_set_limit_ms(claim_arbiter(host->claim), where == HOLD_NOT ? 0 : LATE_MS);
    hold(&claim_storage, where);
}

void claim_host_let_go(const ClaimHost *host)
{
    arbiter_set_limit_ms(claim_arbiter(host->claim), 0);
    hold_end(&claim_storage);
}

/* Away: as a mount that went, with the folder's name. */
void claim_host_set_storage(const ClaimHost *host, gboolean there)
{
    g_autofree char *name = g_build_filename(host->dir, "colo-arbiter-id", NULL);
    g_autofree char *away = g_build_filename(host->dir, "away", NULL);
    g_assert_cmpint(g_rename(there ? away : name, there ? name : away), ==, 0);
}

/* As the host's next process. */
void claim_host_restart(ClaimHost *host, const char *name, FsmState state)
{
    claim_free(host->claim);
    g_free(host->config->name);
    host->config->name = g_strdup(name);
    claim_host_forget(host);
    make_claim(host, state);
}

void claim_host_start(ClaimHost *host)
{
    claim_begin(host->claim, host->state);
    WAIT_FOR(claim_host_reported(host, "seen"));
    claim_start(host->claim, NULL);
}

/* It runs the VM alone, and that is on record. */
void claim_host_run_alone(ClaimHost *host)
{
    claim_host_start(host);
    WAIT_FOR(claim_host_reported(host, "granted"));
    claim_host_feed(host, FSM_VM_STARTED);
    claim_record(host->claim, NULL);
    WAIT_FOR(claim_is_recorded(host->claim));
    claim_host_forget(host);
}

void claim_host_activate(ClaimHost *host, const char *session)
{
    host->session = session;
    claim_host_feed(host, FSM_LINK_UP);
    claim_host_feed(host, FSM_BLANK);
}

void claim_host_protect(ClaimHost *host, const char *session)
{
    claim_host_activate(host, session);
    WAIT_FOR(claim_is_recorded(host->claim));
    claim_host_feed(host, FSM_PROVEN);
    claim_tidy(host->claim);
    claim_host_forget(host);
}

void claim_host_become_secondary(ClaimHost *host)
{
    claim_host_restart(host, "alpha", FSM_S_STARTING);
    claim_begin(host->claim, host->state);
    WAIT_FOR(claim_host_reported(host, "seen"));
    claim_host_feed(host, FSM_VM_STARTED);
    host->session = S1;
    claim_host_feed(host, FSM_LINK_UP);
    claim_host_feed(host, FSM_PEER_RUNS);
    claim_host_feed(host, FSM_PROTECT);
    claim_host_forget(host);
}

void claim_host_refuse_unanswered(ClaimHost *host, HoldWhere where)
{
    claim_host_become_secondary(host);
    claim_host_hold(host, where);
    claim_host_feed(host, FSM_HANDED);
    claim_host_feed(host, FSM_VM_FIT);
    WAIT_FOR(host->state == FSM_S_COLO && hold_waiting(&claim_storage) > 0);
}

void claim_host_refuse_on_record(ClaimHost *host, HoldWhere where)
{
    claim_host_restart(host, "beta", FSM_P_ASKING);
    claim_host_run_alone(host);
    claim_host_protect(host, S1);
    claim_host_refuse_unanswered(host, where);
}

static void count(ArbiterAnswer answer, const GError *error, gpointer user_data)
{
    g_assert_no_error(error);
    g_assert_cmpint(answer, ==, ARBITER_GRANTED);
    ++*(guint *)user_data;
}

/* The peer has asked, by another way to storage. */
void claim_host_decide_for_peer(const ClaimHost *host)
{
    guint answers = 0;
    g_autoptr(Arbiter) arbiter = arbiter_new(host->dir, NULL, NULL);
    arbiter_ask(arbiter, host->config->vm->uuid, S1, "beta", 1, count, &answers);
    WAIT_FOR(answers == 1);
}

gboolean claim_host_is_decided(const ClaimHost *host, const char *who)
{
    g_autofree char *text = NULL;
    g_autofree char *path = g_strdup_printf("%s/%s." S1, host->dir, host->config->vm->uuid);
    g_autofree char *line = g_strdup_printf("\ngranted-to %s\n", who);
    return g_file_get_contents(path, &text, NULL, NULL) && strstr(text, line);
}

void claim_host_give_back_by_peer(const ClaimHost *host)
{
    guint answers = 0;
    ArbiterRest rest = {.in_step = host->config->name};
    g_autoptr(Arbiter) arbiter = arbiter_new(host->dir, NULL, NULL);
    arbiter_give_back(arbiter, host->config->vm->uuid, "beta", &rest, count, &answers);
    WAIT_FOR(answers == 1);
}
