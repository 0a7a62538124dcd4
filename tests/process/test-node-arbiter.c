/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Pairs of nodes whose arbiter's storage is late, gone or another one: with real mounts, in a mount
 * namespace of this process.
 */
#include "common/log.h"
#include "tests/support/control-peer.h"
#include "tests/support/host-pair.h"

#include <glib/gstdio.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>

/* A file system for the arbiter's folder, which can be taken away and put back. */
typedef struct {
    Fixture pair;
    char *store, *shared; /* `store` is mounted at `shared` */
} Storage;

static void put(const Storage *storage)
{
    g_assert_cmpint(mount(storage->store, storage->shared, NULL, MS_BIND, NULL), ==, 0);
}

/* As after `umount -l`, or before the mount at boot. */
static void take_away(const Storage *storage)
{
    g_assert_cmpint(umount2(storage->shared, MNT_DETACH), ==, 0);
}

static void set_up_storage(Storage *storage)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *id = NULL, *mount_text = NULL;
    set_up(&storage->pair, "file");
    storage->store = g_build_filename(storage->pair.dir, "store", NULL);
    storage->shared = g_build_filename(storage->pair.dir, "shared", NULL);
    g_assert_cmpint(g_mkdir(storage->store, 0700), ==, 0);
    g_assert_cmpint(g_mkdir(storage->shared, 0700), ==, 0);
    g_assert_cmpint(mount("colo-test", storage->store, "tmpfs", 0, "size=1m"), ==, 0);
    put(storage);
    arbiter_init_folder(storage->shared, &id, &mount_text, &error);
    g_assert_no_error(error);
    g_assert_nonnull(strstr(mount_text, "tmpfs of colo-test, mounted on "));
    g_assert_nonnull(strstr(mount_text, storage->shared));
    for (int i = 0; i < 2; i++) {
        g_free(storage->pair.host[i].config->arbiter_path);
        storage->pair.host[i].config->arbiter_path = g_strdup(storage->shared);
    }
}

static void tear_down_storage(Storage *storage)
{
    for (int i = 0; i < 2; i++)
        die(&storage->pair.host[i]);
    umount2(storage->shared, MNT_DETACH);
    umount2(storage->store, MNT_DETACH);
    g_autofree char *own = g_build_filename(storage->shared, "colo-arbiter-id", NULL);
    g_unlink(own);
    /* Nothing was written below the mount, but what a test has put there. */
    g_assert_cmpint(g_rmdir(storage->shared), ==, 0);
    g_assert_cmpint(g_rmdir(storage->store), ==, 0);
    tear_down(&storage->pair);
    g_free(storage->store);
    g_free(storage->shared);
}

static void protect_with(Storage *storage)
{
    start(&storage->pair.host[0], "auto");
    start(&storage->pair.host[1], "auto");
    protect(&storage->pair, 0);
}

static void skip(void)
{
    g_test_skip("no right to mount");
}

static void start_waiting(Host *host, const char *role)
{
    host->is_to_ask = TRUE;
    start(host, role);
    host->is_to_ask = FALSE;
}

static gboolean is_told(const Node *node, const char *word)
{
    return trouble_last(node->trouble) && strstr(trouble_last(node->trouble)->message, word);
}

/* A mount goes away under a protected pair, and the link breaks: there is nobody to ask. */
static void test_mount_goes(void)
{
    Storage storage;
    set_up_storage(&storage);
    protect_with(&storage);
    Node *a = storage.pair.host[0].node, *b = storage.pair.host[1].node;
    take_away(&storage);
    cut_link(&storage.pair);
    WAIT_FOR(!g_strcmp0(claim_last_answer(a->claim), "unknown") &&
             !g_strcmp0(claim_last_answer(b->claim), "unknown"));
    WAIT_FOR(is_told(a, "has no name"));
    g_assert_true(is_told(a, storage.shared) && is_told(a, ", mounted on /"));
    g_assert_false(is_told(a, "tmpfs of colo-test"));
    g_assert_cmpint(traffic_route(a->traffic), !=, ROUTE_OPEN);
    g_assert_cmpuint(figures_takeovers(a->figures) + figures_takeovers(b->figures), ==, 0);
    put(&storage);
    WAIT_FOR(fsm_is_protected(a->state) && fsm_is_protected(b->state));
    tear_down_storage(&storage);
}

/* What is there instead is an arbiter's folder too, but not the pair's. */
static void test_other_comes(void)
{
    Storage storage;
    set_up_storage(&storage);
    protect_with(&storage);
    Host *a = &storage.pair.host[0], *b = &storage.pair.host[1];
    g_autofree char *id = NULL, *mount_text = NULL;
    take_away(&storage);
    g_assert_true(arbiter_init_folder(storage.shared, &id, &mount_text, NULL));
    die(a);
    WAIT_FOR(is_told(b->node, id));
    g_assert_cmpint(b->node->state, ==, FSM_S_PAUSED);
    /* The one that died is back, and is not let in there either: it would be the first. */
    start_waiting(a, "auto");
    WAIT_FOR(is_told(a->node, id));
    g_assert_cmpint(a->node->state, ==, FSM_P_ASKING);
    g_assert_null(a->vm);
    put(&storage);
    protect(&storage.pair, 1);
    g_assert_cmpuint(figures_takeovers(b->node->figures), ==, 1);
    tear_down_storage(&storage);
}

/* Both hosts boot before their storage is mounted. */
static void test_mount_is_late(void)
{
    Storage storage;
    set_up_storage(&storage);
    protect_with(&storage);
    Host *a = &storage.pair.host[0], *b = &storage.pair.host[1];
    die(b);
    die(a);
    take_away(&storage);
    start_waiting(a, "auto");
    start_waiting(b, "auto");
    WAIT_FOR(is_told(a->node, "waiting for the arbiter") &&
             is_told(b->node, "waiting for the arbiter"));
    g_assert_true(is_told(a->node, "is the shared storage mounted?"));
    g_assert_cmpint(a->node->state, ==, FSM_P_ASKING);
    g_assert_cmpint(b->node->state, ==, FSM_P_ASKING);
    /* One is told to end while it waits. */
    node_shut_down(b->node);
    WAIT_FOR(b->ended);
    g_assert_no_error(b->error);
    die(b);
    start_waiting(b, "secondary");
    WAIT_FOR(is_told(b->node, "waiting for the arbiter"));
    g_assert_null(a->vm);
    g_assert_null(b->vm);
    put(&storage);
    WAIT_FOR(fsm_is_protected(a->node->state) && fsm_is_protected(b->node->state));
    tear_down_storage(&storage);
}

/* A node that was never in a pair can't know that something is to come: it says how to begin. */
static void test_never_paired(void)
{
    Storage storage;
    static const char *const roles[] = {"auto", "primary", "secondary"};
    set_up_storage(&storage);
    Host *a = &storage.pair.host[0];
    take_away(&storage);
    for (gsize i = 0; i < G_N_ELEMENTS(roles); i++) {
        start(a, roles[i]);
        WAIT_FOR(a->ended);
        g_assert_error(a->error, ARBITER_ERROR, ARBITER_ERROR_FOLDER);
        g_assert_nonnull(strstr(a->error->message, "colo arbiter init"));
        g_assert_null(a->vm);
        die(a);
    }
    tear_down_storage(&storage);
}

/* Each host has a folder of its own: they don't pair, and neither keeps its folder for good. */
static void test_two_folders(void)
{
    Fixture pair;
    g_autofree char *id = NULL, *mount_text = NULL;
    set_up(&pair, "file");
    Host *a = &pair.host[0], *b = &pair.host[1];
    g_autofree char *own = g_build_filename(pair.dir, "own", NULL);
    g_assert_cmpint(g_mkdir(own, 0700), ==, 0);
    g_assert_true(arbiter_init_folder(own, &id, &mount_text, NULL));
    g_free(b->config->arbiter_path);
    b->config->arbiter_path = g_strdup(own);
    start(a, "primary");
    start(b, "secondary");
    WAIT_FOR(is_told(a->node, "arbiter") && is_told(b->node, "arbiter"));
    g_assert_false(arbiter_is_pinned(claim_arbiter(a->node->claim)));
    g_assert_false(arbiter_is_pinned(claim_arbiter(b->node->claim)));
    die(b);
    /* So it can be put right. */
    g_free(b->config->arbiter_path);
    b->config->arbiter_path = g_strdup(pair.dir);
    start(b, "secondary");
    protect(&pair, 0);
    g_assert_true(arbiter_is_pinned(claim_arbiter(a->node->claim)));
    WAIT_FOR(arbiter_is_pinned(claim_arbiter(b->node->claim)));
    g_autofree char *name = g_build_filename(own, "colo-arbiter-id", NULL);
    g_unlink(name);
    g_rmdir(own);
    tear_down(&pair);
}

/* No protection by an arbiter that this host would not know again after a reboot. */
static void test_pin_first(void)
{
    Fixture pair;
    set_up(&pair, "file");
    Host *a = &pair.host[0];
    start(a, "primary");
    g_assert_cmpint(g_rmdir(a->config->state_dir), ==, 0);
    start(&pair.host[1], "secondary");
    WAIT_FOR(is_told(a->node, "can't remember its arbiter"));
    g_assert_cmpint(a->node->state, ==, FSM_P_ACTIVE);
    g_assert_cmpint(g_mkdir(a->config->state_dir, 0700), ==, 0);
    protect(&pair, 0);
    g_assert_true(arbiter_is_pinned(claim_arbiter(a->node->claim)));
    tear_down(&pair);
}

static void move_name(const Fixture *pair, gboolean back)
{
    g_autofree char *there = g_build_filename(pair->dir, "colo-arbiter-id", NULL);
    g_autofree char *away = g_build_filename(pair->dir, "away", NULL);
    g_assert_cmpint(g_rename(back ? away : there, back ? there : away), ==, 0);
}

/* A secondary joins while the arbiter is away: there is no protection, but its output is released. */
static void test_joins_without(void)
{
    Fixture pair;
    set_up(&pair, "file");
    Host *a = &pair.host[0];
    start(a, "primary");
    start(&pair.host[1], "secondary");
    move_name(&pair, FALSE);
    WAIT_FOR(a->node->state == FSM_P_ACTIVE && primary_proof(a->node->primary) == PROOF_DUE);
    WAIT_FOR(is_told(a->node, "can't record"));
    /* It is tried again. */
    WAIT_FOR(claim_recording(a->node->claim) == CLAIM_RECORD_WANTED);
    WAIT_FOR(claim_recording(a->node->claim) == CLAIM_RECORD_ASKED);
    WAIT_FOR(claim_recording(a->node->claim) == CLAIM_RECORD_WANTED);
    g_assert_cmpint(primary_proof(a->node->primary), ==, PROOF_DUE);
    g_assert_cmpint(traffic_route(a->node->traffic), ==, ROUTE_OPEN);
    move_name(&pair, TRUE);
    protect(&pair, 0);
    tear_down(&pair);
}

/* Nobody could say who goes on now. That is told, and nothing else is done about it. */
static void test_watched(void)
{
    Fixture pair;
    start_pair(&pair, "file");
    Node *a = pair.host[0].node, *b = pair.host[1].node;
    WAIT_FOR(node_is_protected(a) && node_is_protected(b));
    move_name(&pair, FALSE);
    WAIT_FOR(!node_is_protected(a) && !node_is_protected(b));
    guint64 checkpoints = figures_checkpoints(a->figures);
    WAIT_FOR(figures_checkpoints(a->figures) > checkpoints + 3);
    g_assert_true(fsm_is_protected(a->state) && fsm_is_protected(b->state));
    g_assert_nonnull(strstr(claim_trouble(a->claim), "has no name"));
    g_autoptr(ControlPeer) peer = control_peer_greeted(pair.host[0].config->control_socket);
    control_peer_send_text(peer, "{\"execute\":\"status\",\"id\":1}\n");
    g_autofree char *status = control_peer_line(peer);
    g_assert_nonnull(strstr(status, "\"protected\":false"));
    g_assert_nonnull(strstr(status, "\"state\":\"colo\""));
    move_name(&pair, TRUE);
    WAIT_FOR(node_is_protected(a) && node_is_protected(b));
    for (int i = 0; i < 2; i++) {
        g_autofree char *events = control_peer_ask(pair.host[i].config->control_socket,
                                                   "{\"execute\":\"query-events\"}\n");
        const char *gone =
            strstr(events, "\"event\":\"ARBITER_CHANGED\",\"data\":{\"there\":false,\"why\":\"");
        g_assert_nonnull(gone);
        g_assert_nonnull(strstr(gone, "\"event\":\"ARBITER_CHANGED\",\"data\":{\"there\":true}"));
    }
    /* Looking has left nothing there. */
    g_autofree char *probes = g_strdup_printf("/bin/sh -c 'ls -A %s | grep -c probe'", pair.dir);
    g_autofree char *count = NULL;
    g_assert_true(g_spawn_command_line_sync(probes, &count, NULL, NULL, NULL));
    g_assert_cmpstr(count, ==, "0\n");
    tear_down(&pair);
}

static guint decisions(const Fixture *pair)
{
    g_autofree char *begin = g_strconcat(pair->host[0].config->vm->uuid, ".", NULL);
    g_autofree char *record = g_strconcat(begin, "owner", NULL);
    g_autoptr(GDir) dir = g_dir_open(pair->dir, 0, NULL);
    guint n = 0;
    for (const char *name; (name = g_dir_read_name(dir));)
        n += g_str_has_prefix(name, begin) && strcmp(name, record) != 0;
    return n;
}

/* The decisions of years are removed by whoever is protected next. */
static void test_tidied(void)
{
    Fixture pair;
    set_up(&pair, "file");
    for (guint i = 0; i < ARBITER_DECISIONS_KEPT + 10; i++) {
        g_autofree char *path =
            g_strdup_printf("%s/%s.%032x", pair.dir, pair.host[0].config->vm->uuid, i);
        g_assert_true(g_file_set_contents(path, "alpha", -1, NULL));
    }
    start(&pair.host[0], "primary");
    start(&pair.host[1], "secondary");
    protect(&pair, 0);
    WAIT_FOR(decisions(&pair) == ARBITER_DECISIONS_KEPT);
    tear_down(&pair);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*test)(void);
    } with_mounts[] = {
        {"/node-arbiter/mount-goes",    test_mount_goes   },
        {"/node-arbiter/other-comes",   test_other_comes  },
        {"/node-arbiter/mount-is-late", test_mount_is_late},
        {"/node-arbiter/never-paired",  test_never_paired },
    };
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    gboolean may_mount =
        unshare(CLONE_NEWNS) == 0 && mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
    for (gsize i = 0; i < G_N_ELEMENTS(with_mounts); i++)
        add_pair_test(with_mounts[i].path, may_mount ? with_mounts[i].test : skip);
    add_pair_test("/node-arbiter/two-folders", test_two_folders);
    add_pair_test("/node-arbiter/pin-first", test_pin_first);
    add_pair_test("/node-arbiter/joins-without", test_joins_without);
    add_pair_test("/node-arbiter/watched", test_watched);
    add_pair_test("/node-arbiter/tidied", test_tidied);
    return g_test_run();
}
