/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control socket against clients that are broken, greedy or many, and paths that are taken. */
#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "colo/control/control_internal.h"
#include "colo/control/reader.h"
#include "tests/support/control-peer.h"

#define PING "{\"execute\":\"ping\"}\n"
#define PONG "{\"return\":{}}"

typedef struct {
    Control *control;
    guint pings;
    char *folder, *path;
} Fixture;

static void do_ping(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments;
    Fixture *f = user_data;
    f->pings++;
    control_reply(request, NULL);
}

static void do_echo(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)user_data;
    control_reply(request, json_object_get(arguments));
}

static const ControlCommand commands[] = {
    {"ping", do_ping, "",            "Answers.",               FALSE},
    {"echo", do_echo, "text:string", "Answers its arguments.", FALSE},
    {NULL,   NULL,    NULL,          NULL,                     FALSE},
};

static void set_up(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(GError) error = NULL;
    f->folder = g_dir_make_tmp("colo-control-XXXXXX", &error);
    g_assert_no_error(error);
    f->path = g_build_filename(f->folder, "control", NULL);
    f->control = control_new(f->path, commands, f, &error);
    g_assert_no_error(error);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    control_free(f->control);
    g_unlink(f->path);
    g_assert_cmpint(g_rmdir(f->folder), ==, 0);
    g_free(f->folder);
    g_free(f->path);
}

/* ---- Bytes ---- */

/* One error per bad line, and the next line is fine. */
static void test_garbage(Fixture *f, gconstpointer data)
{
    (void)data;
    static const struct {
        const char *text;
        gsize len;
        const char *error;
    } cases[] = {
#define CASE(text, error) {text, sizeof(text) - 1, error}
        CASE("hello\n", "expected a JSON object, {...}"),
        CASE("[1]\n", "expected a JSON object, {...}"),
        CASE("12\n", "expected a JSON object, {...}"),
        CASE("\"x\"\n", "expected a JSON object, {...}"),
        CASE("\0\n", "expected a JSON object, {...}"),
        CASE("\xff\xfe\n", "expected a JSON object, {...}"),
        CASE("{execute}\n", "no JSON: quoted object property name expected"),
        CASE("{\"execute\" \"ping\"}\n", "no JSON: object property name separator ':' expected"),
        CASE("{\"execute\":ping}\n", "no JSON: unexpected character"),
        CASE("{\"execute\":\"ping\"]\n", "no JSON: object value separator ',' expected"),
        CASE("{\"execute\":\"p\xc3(ng\"}\n", "no JSON: invalid utf-8 string"),
        CASE("{\"exec\0ute\":\"ping\"}\n", "no JSON: unexpected end of data"),
        CASE("{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{"
             "\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\n",
             "no JSON: nesting too deep"),
    };
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        control_peer_send(peer, cases[i].text, cases[i].len);
        g_autofree char *line = control_peer_line(peer);
        g_autofree char *expected = g_strdup_printf(
            "{\"error\":{\"class\":\"GenericError\",\"desc\":\"%s\"}}", cases[i].error);
        g_assert_cmpstr(line, ==, expected);
        control_peer_expect(peer, PING, PONG);
    }
}

static void test_byte_by_byte(Fixture *f, gconstpointer data)
{
    (void)data;
    static const char text[] =
        " \r\n{\"execute\" : \"echo\",\n\"arguments\":{\"text\":\"é€😀\\ud83d\\ude00\"} }";
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    for (const char *at = text; *at; at++) {
        control_peer_send(peer, at, 1);
        while (g_main_context_iteration(NULL, FALSE))
            ;
    }
    g_autofree char *line = control_peer_line(peer);
    g_assert_cmpstr(line, ==, "{\"return\":{\"text\":\"é€😀😀\"}}");
}

/* Every way of cutting a message with characters of several bytes in two. */
static void test_split_anywhere(Fixture *f, gconstpointer data)
{
    (void)data;
    static const char text[] =
        "{\"execute\":\"echo\",\"arguments\":{\"text\":\"é€😀\"}}{\"execute\":\"ping\"}";
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    for (gsize cut = 1; cut < sizeof(text) - 1; cut++) {
        control_peer_send(peer, text, cut);
        while (g_main_context_iteration(NULL, FALSE))
            ;
        control_peer_send(peer, text + cut, sizeof(text) - 1 - cut);
        g_autofree char *first = control_peer_line(peer);
        g_autofree char *second = control_peer_line(peer);
        g_assert_cmpstr(first, ==, "{\"return\":{\"text\":\"é€😀\"}}");
        g_assert_cmpstr(second, ==, PONG);
    }
}

/* A character that never becomes whole is an error and not a wait. */
static void test_broken_character(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    control_peer_send_text(peer, "{\"execute\":\"\xe2\x82");
    control_peer_expect(peer, "\"}\n",
                        "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no JSON: invalid utf-8 "
                        "string\"}}");
    control_peer_expect(peer, PING, PONG);
}

/* A message of exactly the limit passes; one byte more, or a megabyte, is one error. */
static void test_huge_lines(Fixture *f, gconstpointer data)
{
    (void)data;
    static const char start[] = "{\"execute\":\"echo\",\"arguments\":{\"text\":\"", end[] = "\"}}";
    static const char error[] = "{\"error\":{\"class\":\"GenericError\",\"desc\":\"longer than the "
                                "65536 bytes that a message may have\"}}";
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    gsize fill = CONTROL_MESSAGE_MAX_BYTES - strlen(start) - strlen(end);
    g_autofree char *filling = g_strnfill(fill, 'x');
    g_autofree char *good = g_strconcat(start, filling, end, "\n", NULL);
    g_autofree char *answer = g_strconcat("{\"return\":{\"text\":\"", filling, "\"}}", NULL);
    control_peer_expect(peer, good, answer);
    g_autofree char *bad = g_strconcat(start, filling, "x", end, "\n", NULL);
    control_peer_expect(peer, bad, error);
    g_autofree char *megabyte = g_strnfill(1 << 20, 'y');
    control_peer_send_text(peer, start);
    control_peer_send_text(peer, megabyte);
    control_peer_expect(peer, "\n", error);
    g_autofree char *space = g_strnfill(1 << 20, ' ');
    control_peer_send_text(peer, space);
    control_peer_expect(peer, PING, PONG);
}

/* Random bytes, with braces and quotes more often than chance: the server lives on. */
static void test_noise(Fixture *f, gconstpointer data)
{
    (void)data;
    static const char likely[] = "{{{}}\":,[]\n\n\\u\xc3\xe2";
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    for (guint i = 0; i < 2000; i++) {
        char noise[64];
        for (gsize j = 0; j < sizeof(noise); j++)
            noise[j] = g_test_rand_bit() ? likely[g_test_rand_int_range(0, sizeof(likely) - 1)]
                                         : (char)g_test_rand_int_range(0, 256);
        control_peer_send(peer, noise, sizeof(noise));
        char buf[4096];
        while (recv(peer->fd, buf, sizeof(buf), 0) > 0)
            ;
    }
    /* The end of whatever has begun, and then the answer to a ping among what comes. */
    control_peer_send_text(peer, "\n\n" PING);
    for (g_autofree char *line = NULL; g_strcmp0(line, PONG);) {
        g_free(line);
        line = control_peer_line(peer);
        g_assert_nonnull(line);
    }
}

/* ---- Many, slow and greedy clients ---- */

static void test_hundred_clients(Fixture *f, gconstpointer data)
{
    (void)data;
    ControlPeer *peers[100];
    for (guint i = 0; i < 100; i++)
        peers[i] = control_peer_greeted(f->path);
    for (guint i = 0; i < 100; i++)
        control_peer_send_text(peers[i], PING "nonsense\n" PING);
    control_event(f->control, "TO_ALL", NULL);
    for (guint i = 0; i < 100; i++) {
        guint pongs = 0, errors = 0, events = 0;
        while (pongs < 2 || errors < 1) {
            g_autofree char *line = control_peer_line(peers[i]);
            pongs += !strcmp(line, PONG);
            errors += g_str_has_prefix(line, "{\"error\"");
            events += g_str_has_prefix(line, "{\"event\"");
        }
        g_assert_cmpuint(pongs, ==, 2);
        g_assert_cmpuint(events, <=, 1);
        control_peer_free(peers[i]);
    }
    g_assert_cmpuint(f->pings, ==, 200);
}

static void test_too_many_clients(Fixture *f, gconstpointer data)
{
    (void)data;
    ControlPeer *peers[CONTROL_CLIENTS_MAX];
    for (guint i = 0; i < CONTROL_CLIENTS_MAX; i++)
        peers[i] = control_peer_greeted(f->path);
    g_autoptr(ControlPeer) late = control_peer_new(f->path);
    g_autofree char *line = control_peer_line(late);
    g_assert_cmpstr(line, ==,
                    "{\"error\":{\"class\":\"GenericError\",\"desc\":\"there are too many clients: "
                    "close one and try again\"}}");
    g_assert_null(control_peer_line(late));
    control_peer_free(peers[0]);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    peers[0] = control_peer_greeted(f->path);
    for (guint i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        control_peer_expect(peers[i], PING, PONG);
        control_peer_free(peers[i]);
    }
}

/* Who never reads is disconnected once much has piled up; others get every event. */
static void test_never_reads(Fixture *f, gconstpointer data)
{
    (void)data;
    g_log_set_always_fatal(G_LOG_FATAL_MASK); /* the disconnection is logged as a warning */
    g_autoptr(ControlPeer) slow = control_peer_greeted(f->path);
    g_autoptr(ControlPeer) other = control_peer_greeted(f->path);
    control_peer_expect(slow, PING, PONG);
    control_peer_expect(other, PING, PONG);
    g_autofree char *text = g_strnfill(4096, 'x');
    for (guint i = 0; i < 1000; i++) {
        control_event(f->control, "BIG", json_object_new_string(text));
        g_autofree char *line = control_peer_line(other);
        g_assert_true(g_str_has_prefix(line, "{\"event\":\"BIG\""));
    }
    guint received = 0;
    for (;; received++) {
        g_autofree char *line = control_peer_line(slow);
        if (!line)
            break;
    }
    g_assert_cmpuint(received, >, 0);
    g_assert_cmpuint(received, <, 1000);
    control_peer_expect(other, PING, PONG);
}

/* Who sends commands and reads no answers isn't read from; once it reads, it gets them all. */
static void test_sends_without_reading(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    guint sent = 0;
    gboolean full = FALSE;
    while (!full) {
        ssize_t put = send(peer->fd, PING, strlen(PING), MSG_NOSIGNAL);
        if (put == (ssize_t)strlen(PING)) {
            sent++;
            continue;
        }
        g_assert_cmpint(put, ==, -1); /* so short a message goes whole or not at all */
        g_assert_cmpint(errno, ==, EAGAIN);
        /* Full for good when the server has nothing to do any more. */
        full = !g_main_context_iteration(NULL, FALSE);
    }
    g_assert_cmpuint(f->pings, <, sent);
    for (guint i = 0; i < sent; i++) {
        g_autofree char *line = control_peer_line(peer);
        g_assert_cmpstr(line, ==, PONG);
    }
    g_assert_cmpuint(f->pings, ==, sent);
}

/* Out of descriptors, a client waits, and comes in when there are some again. */
static void test_no_descriptors(Fixture *f, gconstpointer data)
{
    (void)data;
    g_log_set_always_fatal(G_LOG_FATAL_MASK);
    g_autoptr(ControlPeer) inside = control_peer_greeted(f->path);
    g_autoptr(ControlPeer) waiting = control_peer_new(f->path);
    struct rlimit before, none;
    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &before), ==, 0);
    none = before;
    none.rlim_cur = 3;
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &none), ==, 0);
    for (guint i = 0; i < 10; i++)
        control_peer_expect(inside, PING, PONG);
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &before), ==, 0);
    g_autofree char *line = control_peer_line(waiting);
    g_assert_true(g_str_has_prefix(line, "{\"QMP\":"));
    control_peer_expect(waiting, PING, PONG);
}

/* ---- The path ---- */

static void expect_refused(const char *path, const char *why)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(control_new(path, commands, NULL, &error));
    g_assert_error(error, CONTROL_ERROR, CONTROL_ERROR_SOCKET);
    g_autofree char *message = g_strdup_printf("control socket %s: %s", path, why);
    g_assert_cmpstr(error->message, ==, message);
}

static void test_mode(Fixture *f, gconstpointer data)
{
    (void)data;
    struct stat st;
    g_assert_cmpint(stat(f->path, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 0777, ==, 0600);
}

static void test_live_socket_is_respected(Fixture *f, gconstpointer data)
{
    (void)data;
    expect_refused(f->path, "another colod serves it: end that, or choose another path "
                            "(control-socket)");
    g_autoptr(ControlPeer) peer = control_peer_greeted(f->path);
    control_peer_expect(peer, PING, PONG);
}

static void test_stale_socket_is_replaced(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autofree char *path = g_build_filename(f->folder, "stale", NULL);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    close(fd); /* as a killed colod leaves it */
    g_autoptr(GError) error = NULL;
    g_autoptr(Control) control = control_new(path, commands, f, &error);
    g_assert_no_error(error);
    g_autoptr(ControlPeer) peer = control_peer_greeted(path);
    control_peer_expect(peer, PING, PONG);
}

static void test_other_file_is_respected(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autofree char *path = g_build_filename(f->folder, "file", NULL);
    g_assert_true(g_file_set_contents(path, "precious", -1, NULL));
    expect_refused(path, "there is something that is no socket");
    g_assert_cmpint(g_unlink(path), ==, 0);
}

static void test_bad_paths(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autofree char *long_path = g_strnfill(200, 'x');
    long_path[0] = '/';
    expect_refused(long_path, "the path is too long for a socket (at most 107 bytes)");
    g_autofree char *nowhere = g_build_filename(f->folder, "a", "b", "control", NULL);
    g_autofree char *folder = g_path_get_dirname(nowhere);
    g_autofree char *why =
        g_strdup_printf("can't make the folder %s: No such file or directory", folder);
    expect_refused(nowhere, why);
}

static void test_folder_is_made(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autofree char *folder = g_build_filename(f->folder, "run", NULL);
    g_autofree char *path = g_build_filename(folder, "control", NULL);
    g_autoptr(GError) error = NULL;
    Control *control = control_new(path, commands, f, &error);
    g_assert_no_error(error);
    control_free(control);
    g_assert_cmpint(g_rmdir(folder), ==, 0);
}

/* What somebody has put in our place isn't removed at the end. */
static void test_only_its_own_is_removed(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(g_unlink(f->path), ==, 0);
    g_assert_true(g_file_set_contents(f->path, "another's", -1, NULL));
    g_clear_pointer(&f->control, control_free);
    g_assert_cmpint(g_access(f->path, F_OK), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add(name, Fixture, NULL, set_up, function, tear_down)
    ADD("/control/bytes/garbage", test_garbage);
    ADD("/control/bytes/byte-by-byte", test_byte_by_byte);
    ADD("/control/bytes/split-anywhere", test_split_anywhere);
    ADD("/control/bytes/broken-character", test_broken_character);
    ADD("/control/bytes/huge-lines", test_huge_lines);
    ADD("/control/bytes/noise", test_noise);
    ADD("/control/clients/hundred", test_hundred_clients);
    ADD("/control/clients/too-many", test_too_many_clients);
    ADD("/control/clients/never-reads", test_never_reads);
    ADD("/control/clients/sends-without-reading", test_sends_without_reading);
    ADD("/control/clients/no-descriptors", test_no_descriptors);
    ADD("/control/path/mode", test_mode);
    ADD("/control/path/live", test_live_socket_is_respected);
    ADD("/control/path/stale", test_stale_socket_is_replaced);
    ADD("/control/path/other-file", test_other_file_is_respected);
    ADD("/control/path/bad", test_bad_paths);
    ADD("/control/path/folder-is-made", test_folder_is_made);
    ADD("/control/path/own-only", test_only_its_own_is_removed);
    return g_test_run();
}
