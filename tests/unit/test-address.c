/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Texts of addresses, and sockets at a path. */
#include "common/address.h"
#include "common/fd.h"
#include "common/unix-listen.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FORMS    "expected ADDRESS:PORT such as 192.0.2.1:9000 or [2001:db8::1]:9000, or unix:/PATH"
#define PORT     "the port must be a number from 1 to 65535"
#define SET      "fdset: needs the number of a set, such as fdset:3 (query-fdsets lists them)"
#define NAME     "fd: needs the name of a descriptor, 1 to 255 bytes, such as fd:link"
#define NO_COLON "fd: the name of a descriptor has printable characters, and no colon"
#define ABSOLUTE "unix: needs an absolute path, such as unix:/run/colo/web.link"

/* ---- Texts ---- */

static void test_tcp(void)
{
    static const struct {
        const char *text, *host;
        unsigned port;
        gboolean is_v6, is_number;
    } good[] = {
        {"10.0.0.1:9000",          "10.0.0.1",     9000,  FALSE, TRUE },
        {"tcp:10.0.0.1:9000",      "10.0.0.1",     9000,  FALSE, TRUE },
        {"[::]:1",                 "::",           1,     TRUE,  TRUE },
        {"tcp:[::1]:1",            "::1",          1,     TRUE,  TRUE },
        {"host.example:65535",     "host.example", 65535, FALSE, FALSE},
        {"tcp:host.example:65535", "host.example", 65535, FALSE, FALSE},
        {"[fe80::1%eth0]:0",       "fe80::1%eth0", 0,     TRUE,  TRUE },
        {"[10.0.0.1]:80",          "10.0.0.1",     80,    TRUE,  FALSE},
        {"unixes:80",              "unixes",       80,    FALSE, FALSE},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(good); i++) {
        g_auto(ColoAddress) address = COLO_ADDRESS_INIT;
        const char *wrong = NULL;
        g_assert_true(colo_address_parse(good[i].text, &address, &wrong));
        g_assert_null(wrong);
        g_assert_null(address.path);
        g_assert_cmpstr(address.host, ==, good[i].host);
        g_assert_cmpuint(address.port, ==, good[i].port);
        g_assert_cmpint(address.is_v6, ==, good[i].is_v6);
        g_assert_cmpint(address.is_number, ==, good[i].is_number);
    }
}

static void test_wrong(void)
{
    static const struct {
        const char *text, *wrong;
    } bad[] = {
        {"",                 FORMS   },
        {":",                FORMS   },
        {"host",             FORMS   },
        {"host:",            PORT    },
        {":9000",            FORMS   },
        {"host:x",           PORT    },
        {"host:65536",       PORT    },
        {"host:-1",          PORT    },
        {"::1:9000",         FORMS   },
        {"[::1]",            FORMS   },
        {"[::1]9000",        FORMS   },
        {"[]:9000",          FORMS   },
        {"host: 1",          PORT    },
        {"[:9000",           FORMS   },
        {"1:2:3",            FORMS   },
        {"host:9000 ",       PORT    },
        {"tcp:",             FORMS   },
        {"tcp:9000",         FORMS   },
        {"tcp:tcp:9000:1",   FORMS   },
        {"udp:host:9000",    FORMS   },
        {"unix:",            ABSOLUTE},
        {"unix:9000",        ABSOLUTE},
        {"unix:run/link",    ABSOLUTE},
        {"unix://x",         NULL    },
        {"fdset:",           SET     },
        {"fdset:x",          SET     },
        {"fdset:-1",         SET     },
        {"fdset: 1",         SET     },
        {"fdset:2147483648", SET     },
        {"fd:",              NAME    },
        {"fd:a:b",           NO_COLON},
        {"fd:a\n",           NO_COLON},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_auto(ColoAddress) address = {.port = 7};
        const char *wrong = NULL;
        g_assert_cmpint(colo_address_parse(bad[i].text, &address, &wrong), ==, !bad[i].wrong);
        g_assert_cmpstr(wrong, ==, bad[i].wrong);
        if (wrong)
            g_assert_cmpuint(address.port, ==, 7); /* untouched */
    }
}

static void test_unix(void)
{
    g_auto(ColoAddress) address = COLO_ADDRESS_INIT;
    g_autofree char *tail = g_strnfill(106, 'x');
    g_autofree char *longest = g_strdup_printf("unix:/%s", tail);
    g_autofree char *too_long = g_strdup_printf("unix:/%sy", tail);
    const char *wrong = NULL;
    g_assert_true(colo_address_parse(longest, &address, &wrong));
    g_assert_cmpstr(address.path, ==, longest + strlen("unix:"));
    g_assert_null(address.host);
    g_assert_false(colo_address_parse(too_long, &address, &wrong));
    g_assert_cmpstr(wrong, ==, "the path is too long for a unix socket: at most 107 bytes");
}

static void test_equal(void)
{
    g_assert_true(colo_address_equal("10.0.0.1:1", "tcp:10.0.0.1:1"));
    g_assert_true(colo_address_equal("unix:/a", "unix:/a"));
    g_assert_false(colo_address_equal("unix:/a", "unix:/b"));
    g_assert_false(colo_address_equal("10.0.0.1:1", "10.0.0.1:2"));
    g_assert_false(colo_address_equal("10.0.0.1:1", "10.0.0.2:1"));
    g_assert_false(colo_address_equal("unix:/a", "10.0.0.1:1"));
    g_assert_false(colo_address_equal("nonsense", "nonsense"));
    g_assert_true(colo_address_equal("fdset:1", "fdset:01"));
    g_assert_false(colo_address_equal("fdset:1", "fdset:2"));
    g_assert_false(colo_address_equal("fdset:0", "fd:0"));
    g_assert_true(colo_address_equal("fd:a", "fd:a"));
    g_assert_false(colo_address_equal("fd:a", "fd:b"));
}

static void test_given(void)
{
    static const struct {
        const char *text;
        ColoAddressKind kind;
        int fdset;
        const char *name;
    } good[] = {
        {"fdset:0",          COLO_ADDRESS_FDSET, 0,          NULL     },
        {"fdset:2147483647", COLO_ADDRESS_FDSET, 2147483647, NULL     },
        {"fd:link",          COLO_ADDRESS_FD,    0,          "link"   },
        {"fd:a b/c=1",       COLO_ADDRESS_FD,    0,          "a b/c=1"},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(good); i++) {
        g_auto(ColoAddress) address = COLO_ADDRESS_INIT;
        const char *wrong = NULL;
        g_assert_true(colo_address_parse(good[i].text, &address, &wrong));
        g_assert_cmpint(address.kind, ==, good[i].kind);
        g_assert_cmpint(address.fdset, ==, good[i].fdset);
        g_assert_cmpstr(address.name, ==, good[i].name);
        g_assert_null(address.host);
        g_assert_null(address.path);
        g_assert_null(colo_address_wrong_numbers(&address));
    }
}

/* ---- Sockets ---- */

typedef struct {
    char *folder, *path;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    (void)data;
    f->folder = g_dir_make_tmp("colo-address-XXXXXX", &error);
    g_assert_no_error(error);
    f->path = g_build_filename(f->folder, "link", NULL);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_cmpint(g_rmdir(f->folder), ==, 0);
    g_free(f->folder);
    g_free(f->path);
}

/* Bound; with `listening` it serves. */
static int make_socket(const char *path, gboolean listening)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
    if (listening)
        g_assert_cmpint(listen(fd, 0), ==, 0);
    return fd;
}

static void expect_refused(const char *path, const char *why)
{
    g_autoptr(GError) error = NULL;
    UnixListen socket = UNIX_LISTEN_NONE;
    g_assert_false(unix_listen_begin(&socket, path, "listen", &error));
    g_assert_cmpint(socket.fd, ==, -1);
    g_assert_cmpstr(error->message, ==, why);
}

static void test_stale(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    UnixListen socket = UNIX_LISTEN_NONE;
    (void)data;
    close(make_socket(f->path, TRUE)); /* as a killed process leaves it */
    g_assert_true(unix_listen_begin(&socket, f->path, "listen", &error));
    g_assert_no_error(error);
    unix_listen_end(&socket);
    g_assert_cmpint(socket.fd, ==, -1);
    unix_listen_end(&socket);
    g_assert_false(g_file_test(f->path, G_FILE_TEST_EXISTS));
}

/* Also by a program that accepts nothing any more. */
static void test_served(Fixture *f, gconstpointer data)
{
    static const char why[] = "another colod serves it: end that, or choose another path (listen)";
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)data;
    COLO_AUTO_FD fd = make_socket(f->path, TRUE);
    expect_refused(f->path, why);
    g_strlcpy(address.sun_path, f->path, sizeof(address.sun_path));
    GArray *fds = g_array_new(FALSE, FALSE, sizeof(int));
    int client;
    do {
        client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        g_array_append_val(fds, client);
    } while (connect(client, (struct sockaddr *)&address, sizeof(address)) == 0);
    g_assert_cmpint(errno, ==, EAGAIN);
    expect_refused(f->path, why);
    for (guint i = 0; i < fds->len; i++)
        close(g_array_index(fds, int, i));
    g_array_unref(fds);
    g_assert_cmpint(g_unlink(f->path), ==, 0);
}

static void test_no_socket(Fixture *f, gconstpointer data)
{
    (void)data;
    g_assert_true(g_file_set_contents(f->path, "precious", -1, NULL));
    expect_refused(f->path, "there is something that is no socket");
    g_assert_cmpint(g_unlink(f->path), ==, 0);
}

static void test_only_its_own(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    UnixListen socket = UNIX_LISTEN_NONE;
    (void)data;
    g_assert_true(unix_listen_begin(&socket, f->path, "listen", &error));
    /* The file is kept by another name, so that the next one is certainly another. */
    g_autofree char *kept = g_build_filename(f->folder, "kept", NULL);
    g_assert_cmpint(g_rename(f->path, kept), ==, 0);
    COLO_AUTO_FD other = make_socket(f->path, TRUE);
    unix_listen_end(&socket);
    g_assert_true(g_file_test(f->path, G_FILE_TEST_EXISTS));
    g_assert_cmpint(g_unlink(f->path), ==, 0);
    g_assert_cmpint(g_unlink(kept), ==, 0);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        void (*test)(Fixture *, gconstpointer);
    } sockets[] = {
        {"/unix-listen/stale",        test_stale       },
        {"/unix-listen/served",       test_served      },
        {"/unix-listen/no-socket",    test_no_socket   },
        {"/unix-listen/only-its-own", test_only_its_own},
    };
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/address/tcp", test_tcp);
    g_test_add_func("/address/wrong", test_wrong);
    g_test_add_func("/address/unix", test_unix);
    g_test_add_func("/address/given", test_given);
    g_test_add_func("/address/equal", test_equal);
    for (gsize i = 0; i < G_N_ELEMENTS(sockets); i++)
        g_test_add(sockets[i].path, Fixture, NULL, set_up, sockets[i].test, tear_down);
    return g_test_run();
}
