/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptors over the control socket: to which command one belongs, and what removes it. */
#include "colo/control/control.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/control-peer.h"

#define ADD       "{\"execute\":\"add-fd\"}\n"
#define PING      "{\"execute\":\"ping\"}\n"
#define BIG       "{\"execute\":\"big\"}\n"
#define OK        "{\"return\":{}}"
#define LIST      "{\"execute\":\"query-fdsets\"}\n"
#define EMPTY     "{\"return\":[]}"
#define NONE_CAME "no descriptor came with the command: send one with its bytes (SCM_RIGHTS)"
#define TWO_CAME  "the descriptor can't be used: more than one came with it"

typedef struct {
    Control *control;
    ControlRequest *held;
    char *folder, *path;
    guint open; /* descriptors of this process before the test */
} Fixture;

static void do_ping(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments, (void)user_data;
    control_reply(request, NULL);
}

static void do_big(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments, (void)user_data;
    g_autofree char *text = g_strnfill(400 << 10, 'x');
    control_reply(request, json_object_new_string(text));
}

static void do_hold(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments;
    Fixture *f = user_data;
    f->held = request;
}

static const ControlCommand commands[] = {
    {"ping", do_ping, "",   "Answers.",       FALSE},
    {"big",  do_big,  "",   "Answers much.",  FALSE},
    {"hold", do_hold, "",   "Answers later.", FALSE},
    {NULL,   NULL,    NULL, NULL,             FALSE},
};

static guint count_open(void)
{
    g_autoptr(GDir) dir = g_dir_open("/proc/self/fd", 0, NULL);
    g_assert_nonnull(dir);
    guint count = 0;
    while (g_dir_read_name(dir))
        count++;
    return count;
}

static void set_up(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(GError) error = NULL;
    f->folder = g_dir_make_tmp("colo-control-XXXXXX", &error);
    g_assert_no_error(error);
    f->path = g_build_filename(f->folder, "control", NULL);
    g_main_context_iteration(NULL, FALSE);
    f->open = count_open();
    f->control = control_new(f->path, commands, f, &error);
    g_assert_no_error(error);
}

static void settle(void)
{
    while (g_main_context_iteration(NULL, FALSE))
        ;
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    control_free(f->control);
    g_assert_cmpuint(count_open(), ==, f->open); /* none is left open */
    g_assert_cmpint(g_rmdir(f->folder), ==, 0);
    g_free(f->folder);
    g_free(f->path);
}

/* ---- Sending ---- */

/* A file of its own; the inode tells it from others. */
static int make_file(ino_t *ret_inode)
{
    struct stat st;
    int fd = memfd_create("test", MFD_CLOEXEC);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(fstat(fd, &st), ==, 0);
    *ret_inode = st.st_ino;
    return fd;
}

/* Sends `text` with a new file, whose only descriptor is the server's then. Returns its inode. */
static ino_t send_file(ControlPeer *peer, const char *text)
{
    ino_t inode;
    int fd = make_file(&inode);
    control_peer_send_fds(peer, text, &fd, 1);
    close(fd);
    return inode;
}

static ino_t inode_of(int fd)
{
    struct stat st;
    g_assert_cmpint(fstat(fd, &st), ==, 0);
    return st.st_ino;
}

static void expect_error(ControlPeer *peer, const char *text)
{
    g_autofree char *line = control_peer_line(peer);
    g_assert_nonnull(line);
    g_assert_true(g_str_has_prefix(line, "{\"error\":"));
    g_assert_nonnull(strstr(line, text));
}

static void expect_line(ControlPeer *peer, const char *expected)
{
    g_autofree char *line = control_peer_line(peer);
    g_assert_cmpstr(line, ==, expected);
}

/* `line` is the answer to add-fd: checks the file, and returns its number in the server. */
static int check_added(const char *line, gint64 set, ino_t inode)
{
    json_object *answer = json_tokener_parse(line), *result = NULL;
    if (!json_object_object_get_ex(answer, "return", &result))
        g_error("no descriptor was added: %s", line);
    g_assert_cmpint(json_object_get_int64(json_object_object_get(result, "fdset-id")), ==, set);
    int fd = json_object_get_int(json_object_object_get(result, "fd"));
    g_assert_cmpuint(inode_of(fd), ==, inode);
    g_assert_cmpint(fcntl(fd, F_GETFD) & FD_CLOEXEC, ==, FD_CLOEXEC);
    json_object_put(answer);
    return fd;
}

static int expect_added(ControlPeer *peer, gint64 set, ino_t inode)
{
    g_autofree char *line = control_peer_line(peer);
    return check_added(line, set, inode);
}

/* ---- Using one ---- */

static void expect_none(const Fixture *f, gint64 set, const char *opaque, const char *why)
{
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(control_descriptor(f->control, set, opaque, &error), ==, -1);
    g_assert_error(error, CONTROL_ERROR, CONTROL_ERROR_ARGUMENT);
    g_assert_cmpstr(error->message, ==, why);
}

/* The latest of that word, as a duplicate that a removal takes nothing from. */
static void test_use(Fixture *f, gconstpointer data)
{
    static const char add[] =
        "{\"execute\":\"add-fd\",\"arguments\":{\"fdset-id\":3,\"opaque\":\"control\"}}\n";
    (void)data;
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    expect_none(f, 3, "control", "there is no set 3 (query-fdsets lists them)");
    for (int i = 0; i < 2; i++) {
        ino_t inode = send_file(peer, add);
        int number = expect_added(peer, 3, inode);
        int fd = control_descriptor(f->control, 3, "control", NULL);
        g_assert_cmpint(fd, !=, number);
        g_assert_cmpuint(inode_of(fd), ==, inode);
        g_assert_cmpint(fcntl(fd, F_GETFD) & FD_CLOEXEC, ==, FD_CLOEXEC);
        close(fd);
    }
    expect_none(f, 3, "disks", "set 3 has no descriptor 'disks' (the opaque of its add-fd)");
    expect_none(f, 0, "control", "there is no set 0 (query-fdsets lists them)");
    int fd = control_descriptor(f->control, 3, "control", NULL);
    ino_t inode = inode_of(fd);
    control_peer_expect(peer, "{\"execute\":\"remove-fd\",\"arguments\":{\"fdset-id\":3}}\n", OK);
    g_assert_cmpuint(inode_of(fd), ==, inode);
    close(fd);
    expect_none(f, 3, "control", "there is no set 3 (query-fdsets lists them)");
}

/* ---- To which command one belongs ---- */

static void test_none_and_many(Fixture *f, gconstpointer data)
{
    (void)data;
    ino_t inode;
    int file = make_file(&inode), fds[65];
    for (gsize i = 0; i < G_N_ELEMENTS(fds); i++)
        fds[i] = file;
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    guint before = count_open();
    control_peer_send_text(peer, ADD);
    expect_error(peer, NONE_CAME);
    static const gsize counts[] = {2, 3, 65};
    for (gsize i = 0; i < G_N_ELEMENTS(counts); i++) {
        control_peer_send_fds(peer, ADD, fds, counts[i]);
        expect_error(peer, TWO_CAME);
        g_assert_cmpuint(count_open(), ==, before);
    }
    control_peer_expect(peer, LIST, EMPTY);
    control_peer_send_fds(peer, ADD, fds, 1);
    expect_added(peer, 0, inode);
    close(file);
}

static void test_other_command(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    guint before = count_open();
    send_file(peer, PING);
    expect_line(peer, OK);
    send_file(peer, "{\"execute\":\"fly\"}");
    expect_error(peer, "fly");
    settle();
    g_assert_cmpuint(count_open(), ==, before);
    /* It is not the next command's. */
    control_peer_send_text(peer, ADD);
    expect_error(peer, NONE_CAME);
}

/* What waits in the socket is read at once: each command gets its own all the same. */
static void test_many_commands_at_once(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    g_autofree char *space = g_strnfill(3000, ' ');
    ino_t inodes[4];
    inodes[0] = send_file(peer, ADD);
    g_assert_cmpint(send(peer->fd, PING ADD PING, strlen(PING ADD PING), 0), >, 0);
    inodes[1] = send_file(peer, ADD);
    inodes[2] = send_file(peer, ADD PING ADD);
    g_assert_cmpint(send(peer->fd, space, strlen(space), 0), ==, 3000);
    g_assert_cmpint(send(peer->fd, space, strlen(space), 0), ==, 3000);
    inodes[3] = send_file(peer, " \r\n" ADD);
    expect_added(peer, 0, inodes[0]);
    expect_line(peer, OK);
    expect_error(peer, NONE_CAME);
    expect_line(peer, OK);
    expect_added(peer, 1, inodes[1]);
    expect_added(peer, 2, inodes[2]);
    expect_line(peer, OK);
    expect_error(peer, NONE_CAME);
    expect_added(peer, 3, inodes[3]);
}

/* With any part of the command, whenever it is read. */
static void test_cut(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    gint64 set = 0;
    for (gsize cut = 1; cut + 2 < strlen(ADD); cut++)
        for (guint reads = 0; reads < 2; reads++) {
            g_autofree char *first = g_strndup(ADD, cut);
            ino_t inode = send_file(peer, first);
            if (reads)
                settle();
            control_peer_send_text(peer, ADD + cut);
            int fd = expect_added(peer, set, inode);
            control_peer_send_text(peer, first);
            if (reads)
                settle();
            inode = send_file(peer, ADD + cut);
            expect_added(peer, set + 1, inode);
            g_autofree char *removal = g_strdup_printf(
                "{\"execute\":\"remove-fd\",\"arguments\":{\"fdset-id\":0,\"fd\":%d}}"
                "{\"execute\":\"remove-fd\",\"arguments\":{\"fdset-id\":1}}",
                fd);
            control_peer_expect(peer, removal, OK);
            expect_line(peer, OK);
            send_file(peer, first);
            if (reads)
                settle();
            send_file(peer, ADD + cut);
            expect_error(peer, TWO_CAME);
        }
    control_peer_expect(peer, LIST, EMPTY);
}

/* What comes with bytes that are no command is closed with them. */
static void test_no_command(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    guint before = count_open();
    send_file(peer, "nonsense");
    expect_error(peer, "expected a JSON object");
    send_file(peer, " and more");
    settle();
    g_assert_cmpuint(count_open(), ==, before);
    send_file(peer, "of it\n" ADD);
    expect_error(peer, NONE_CAME);
    control_peer_send_text(peer, "{]");
    expect_error(peer, "no JSON");
    send_file(peer, " \n");
    ino_t inode = send_file(peer, ADD);
    expect_added(peer, 0, inode);
    g_assert_cmpuint(count_open(), ==, before + 1);
}

/* Takes what the server sends, and has it send more by events: its main loop doesn't run. */
static void take_output(Fixture *f, ControlPeer *peer)
{
    for (guint i = 0; i < 50; i++) {
        char buf[16384];
        ssize_t got;
        while ((got = recv(peer->fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0)
            g_string_append_len(peer->input, buf, got);
        control_event(f->control, "MORE", NULL);
    }
}

/* Commands wait because their client doesn't read; what comes behind them is read all the same. */
static void test_behind_output(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    g_assert_cmpint(send(peer->fd, BIG BIG ADD, strlen(BIG BIG ADD), 0), >, 0);
    settle();
    take_output(f, peer);
    ino_t inode = send_file(peer, ADD);
    g_main_context_iteration(NULL, FALSE);
    take_output(f, peer);
    guint big = 0, refused = 0;
    while (big < 2 || refused < 1) {
        g_autofree char *line = control_peer_line(peer);
        g_assert_nonnull(line);
        big += g_str_has_prefix(line, "{\"return\":\"xxx");
        refused += big == 2 && strstr(line, NONE_CAME);
    }
    for (;;) {
        g_autofree char *line = control_peer_line(peer);
        if (g_str_has_prefix(line, "{\"event\""))
            continue;
        check_added(line, 0, inode);
        break;
    }
}

static void test_no_room_for_it(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    struct rlimit limit, low;
    ino_t inode;
    int fd = make_file(&inode);
    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    low = limit;
    low.rlim_cur = (rlim_t)fd + 1;
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &low), ==, 0);
    int filling[256];
    gsize n = 0;
    while ((filling[n] = dup(fd)) >= 0)
        n++;
    control_peer_send_fds(peer, ADD, &fd, 1);
    expect_error(peer, "colod has too many files open");
    while (n > 0)
        close(filling[--n]);
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &limit), ==, 0);
    control_peer_send_fds(peer, ADD, &fd, 1);
    expect_added(peer, 0, inode);
    close(fd);
}

/* ---- What removes one ---- */

static void test_stays(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autofree char *list = NULL;
    ino_t inode;
    int fd;
    {
        g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
        inode = send_file(peer, "{\"execute\":\"add-fd\",\"arguments\":{\"fdset-id\":7,"
                                "\"opaque\":\"disks\"}}");
        fd = expect_added(peer, 7, inode);
    }
    settle();
    list = g_strdup_printf(
        "{\"return\":[{\"fdset-id\":7,\"fds\":[{\"fd\":%d,\"opaque\":\"disks\"}]}]}", fd);
    for (guint i = 0; i < 100; i++) {
        g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
        control_peer_expect(peer, LIST, list);
        g_assert_cmpuint(inode_of(fd), ==, inode);
    }
}

static void test_gone_before_the_answer(Fixture *f, gconstpointer data)
{
    (void)data;
    guint before = count_open();
    ControlPeer *peer = control_peer_greeted(f->path);
    send_file(peer, "{\"execute\":");
    settle();
    control_peer_free(peer);
    settle();
    peer = control_peer_greeted(f->path);
    send_file(peer, "{\"execute\":\"hold\"}");
    send_file(peer, ADD); /* which is not read */
    settle();
    control_peer_free(peer);
    settle();
    control_reply(f->held, NULL);
    settle();
    g_assert_cmpuint(count_open(), ==, before);
}

/* Commands that wait in order are closed with their client. */
static void test_waiting_in_order(Fixture *f, gconstpointer data)
{
    (void)data;
    static const char enable[] =
        "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}\n";
    guint before = count_open();
    ControlPeer *peer = control_peer_greeted(f->path);
    control_peer_expect(peer, enable, OK);
    send_file(peer, "{\"execute\":\"hold\"}");
    send_file(peer, ADD);
    settle();
    g_assert_cmpuint(count_open(), ==, before + 4); /* the connection's ends, and both files */
    control_peer_free(peer);
    settle();
    control_reply(f->held, NULL);
    settle();
    g_assert_cmpuint(count_open(), ==, before);
}

static void test_remove(Fixture *f, gconstpointer data)
{
    (void)data;
    static const struct {
        const char *arguments, *error;
    } wrong[] = {
        {"\"fdset-id\":1",           "there is no set 1 (query-fdsets lists them)"},
        {"\"fdset-id\":-1",          "there is no set -1"                         },
        {"\"fdset-id\":0,\"fd\":1",  "there is no descriptor 1 in a set 0"        },
        {"\"fdset-id\":0,\"fd\":-1", "there is no descriptor -1 in a set 0"       },
        {"\"fdset-id\":\"0\"",       "'fdset-id' must be a whole number"          },
        {"\"fd\":0",                 "'fdset-id' (a whole number) is missing"     },
    };
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    ino_t inode = send_file(peer, ADD);
    expect_added(peer, 0, inode);
    guint before = count_open();
    for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
        g_autofree char *text =
            g_strdup_printf("{\"execute\":\"remove-fd\",\"arguments\":{%s}}", wrong[i].arguments);
        control_peer_send_text(peer, text);
        expect_error(peer, wrong[i].error);
    }
    g_assert_cmpuint(count_open(), ==, before);
    inode = send_file(peer, "{\"execute\":\"add-fd\",\"arguments\":{\"fdset-id\":0}}");
    int second = expect_added(peer, 0, inode);
    inode = send_file(peer, ADD);
    expect_added(peer, 1, inode);
    control_peer_expect(peer, "{\"execute\":\"remove-fd\",\"arguments\":{\"fdset-id\":0}}", OK);
    g_assert_cmpuint(count_open(), ==, before);
    g_assert_cmpint(fcntl(second, F_GETFD), ==, -1);
    /* The lowest free number is used again. */
    inode = send_file(peer, ADD);
    expect_added(peer, 0, inode);
}

static void test_overtakes(Fixture *f, gconstpointer data)
{
    (void)data;
    static const char enable[] =
        "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}\n";
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    g_autoptr(ControlPeer) other = control_peer_greeted(f->path);
    control_peer_expect(peer, enable, OK);
    ino_t inode = send_file(peer, ADD);
    int fd = expect_added(peer, 0, inode);
    control_peer_send_text(peer, "{\"execute\":\"hold\"}");
    control_peer_expect(peer,
                        "{\"exec-oob\":\"remove-fd\",\"arguments\":{\"fdset-id\":0},\"id\":1}",
                        "{\"return\":{},\"id\":1}");
    g_assert_cmpint(fcntl(fd, F_GETFD), ==, -1);
    control_peer_expect(other, LIST, EMPTY);
    control_reply(f->held, NULL);
    expect_line(peer, OK);
}

static void test_limits(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    guint before = count_open();
    send_file(peer, "{\"execute\":\"add-fd\",\"arguments\":{\"fdset-id\":-1}}");
    expect_error(peer, "argument 'fdset-id' must be 0 to 2147483647");
    g_autofree char *word = g_strnfill(256, 'x');
    g_autofree char *text =
        g_strdup_printf("{\"execute\":\"add-fd\",\"arguments\":{\"opaque\":\"%s\"}}", word);
    send_file(peer, text);
    expect_error(peer, "argument 'opaque' must have at most 255 bytes");
    for (gint64 i = 0; i < 64; i++) {
        ino_t inode = send_file(peer, ADD);
        expect_added(peer, i, inode);
    }
    send_file(peer, ADD);
    expect_error(peer, "there are 64 descriptors already: remove-fd");
    g_assert_cmpuint(count_open(), ==, before + 64);
}

static void add(const char *name, void (*test)(Fixture *f, gconstpointer data))
{
    g_test_add(name, Fixture, NULL, set_up, test, tear_down);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add("/control-fds/none-and-many", test_none_and_many);
    add("/control-fds/other-command", test_other_command);
    add("/control-fds/many-commands-at-once", test_many_commands_at_once);
    add("/control-fds/cut", test_cut);
    add("/control-fds/no-command", test_no_command);
    add("/control-fds/behind-output", test_behind_output);
    add("/control-fds/no-room-for-it", test_no_room_for_it);
    add("/control-fds/stays", test_stays);
    add("/control-fds/gone-before-the-answer", test_gone_before_the_answer);
    add("/control-fds/waiting-in-order", test_waiting_in_order);
    add("/control-fds/remove", test_remove);
    add("/control-fds/overtakes", test_overtakes);
    add("/control-fds/limits", test_limits);
    add("/control-fds/use", test_use);
    return g_test_run();
}
