/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A link over sockets that somebody else has opened: of a set, or inherited by name. */
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "colo/link/link_internal.h"
#include "common/fd.h"
#include "common/inherited.h"
#include "tests/support/link-end.h"

#define INHERITED 3 /* the first, by the protocol */

/* The only set, 7: a socket for each name; -1: there is none. */
static struct {
    int listening, channels[LINK_CHANNELS];
} set;

static int on_descriptor(int fdset, const char *what, gpointer end, GError **error)
{
    int found = -1;
    (void)end;
    g_assert_cmpint(fdset, ==, 7);
    if (!strcmp(what, "listen"))
        found = set.listening;
    for (LinkChannel which = 0; which < LINK_CHANNELS; which++)
        if (!strcmp(what, link_channel_names[which]))
            found = set.channels[which];
    if (found < 0)
        g_set_error(error, LINK_ERROR, LINK_ERROR_ADDRESS, "there is no '%s'", what);
    return found < 0 ? -1 : fcntl(found, F_DUPFD_CLOEXEC, 0);
}

static void empty_set(void)
{
    colo_fd_close(&set.listening);
    for (LinkChannel which = 0; which < LINK_CHANNELS; which++)
        colo_fd_close(&set.channels[which]);
}

static void fill_set(guint16 port, LinkChannel n)
{
    for (LinkChannel which = 0; which < n; which++)
        set.channels[which] = stranger_connect(port);
}

static int make_listening(struct sockaddr_in *ret_address)
{
    socklen_t len = sizeof(*ret_address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    *ret_address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    g_assert_cmpint(bind(fd, (struct sockaddr *)ret_address, len), ==, 0);
    g_assert_cmpint(listen(fd, 8), ==, 0);
    g_assert_cmpint(getsockname(fd, (struct sockaddr *)ret_address, &len), ==, 0);
    return fd;
}

static LinkEnd *end_of_set(gboolean disks)
{
    return link_end_new(&(LinkEndOptions){.descriptor = on_descriptor, .disks = disks}, 0);
}

static void dial_with_set(LinkEnd *end)
{
    link_set_peer(end->link, "fdset:7");
    link_end_dial(end, "beta");
}

/* All connections of it, whatever became of the set; and none can be used twice. */
static void test_dial(gconstpointer data)
{
    gboolean disks = data != NULL;
    g_autoptr(LinkEnd) alpha = link_end_new_accepting(&(LinkEndOptions){.disks = disks});
    g_autoptr(LinkEnd) beta = end_of_set(disks);
    fill_set(link_end_port(alpha), disks ? LINK_CHANNELS : LINK_DISKS);
    g_assert_true(link_take_given(beta->link, "fdset:7", NULL));
    dial_with_set(beta);
    link_end_wait(alpha->ups == 1 && beta->ups == 1);
    link_send(beta->link, LINK_MSG_GOODBYE, "bye", 3);
    link_end_wait(alpha->messages->len == 1);
    link_close(beta->link);
    link_end_wait(alpha->downs == 1);
    link_end_accept(alpha, "alpha");
    dial_with_set(beta);
    link_end_wait(beta->failures > 0);
    g_assert_cmpuint(beta->ups, ==, 1);
    empty_set();
}

/* The set loses what it has as the link comes up: that goes on, for it has duplicates. */
static void test_removed(void)
{
    g_autoptr(LinkEnd) alpha = link_end_new_accepting(NULL);
    g_autoptr(LinkEnd) beta = end_of_set(FALSE);
    fill_set(link_end_port(alpha), LINK_DISKS);
    dial_with_set(beta);
    link_end_wait(alpha->ups == 1 && beta->ups == 1);
    empty_set();
    link_send(beta->link, LINK_MSG_GOODBYE, "bye", 3);
    link_end_wait(alpha->messages->len == 1);
    g_assert_cmpuint(beta->downs, ==, 0);
}

/* It loses them as soon as the attempt is ordered. What is taken and not used is closed. */
static void test_removed_before(void)
{
    g_autoptr(LinkEnd) alpha = link_end_new_accepting(NULL);
    g_autoptr(LinkEnd) beta = end_of_set(FALSE);
    fill_set(link_end_port(alpha), LINK_DISKS);
    g_assert_true(link_take_given(beta->link, "fdset:7", NULL));
    empty_set();
    dial_with_set(beta);
    link_end_wait(alpha->ups == 1 && beta->ups == 1);
    g_assert_cmpuint(beta->failures, ==, 0);
}

static void test_forgotten(void)
{
    g_autoptr(LinkEnd) alpha = link_end_new_accepting(NULL);
    g_autoptr(LinkEnd) beta = end_of_set(FALSE);
    fill_set(link_end_port(alpha), LINK_DISKS);
    g_assert_true(link_take_given(beta->link, "fdset:7", NULL));
    empty_set();
    link_forget_given(beta->link);
    dial_with_set(beta);
    link_end_wait(beta->failures > 0);
    g_assert_cmpuint(beta->ups, ==, 0);
}

/*
 * The set is removed, and given anew under its number with other sockets: before the attempt has begun, or
 * (data) while it goes on over the first ones, which lead to nobody. It is the last ones that count.
 */
static void test_given_anew(gconstpointer data)
{
    struct sockaddr_in nobody;
    COLO_AUTO_FD listening = make_listening(&nobody);
    g_autoptr(LinkEnd) alpha = link_end_new_accepting(NULL);
    g_autoptr(LinkEnd) beta = end_of_set(FALSE);
    fill_set(ntohs(nobody.sin_port), LINK_DISKS);
    g_assert_true(link_take_given(beta->link, "fdset:7", NULL));
    if (data)
        dial_with_set(beta);
    empty_set();
    g_assert_false(link_take_given(beta->link, "fdset:7", NULL));
    fill_set(link_end_port(alpha), LINK_DISKS);
    g_assert_true(link_take_given(beta->link, "fdset:7", NULL));
    empty_set();
    dial_with_set(beta);
    link_end_wait(alpha->ups == 1 && beta->ups == 1);
}

/* Each channel in turn has none when its time comes: the attempt fails, whatever it had. */
static void test_one_missing(gconstpointer data)
{
    LinkChannel missing = GPOINTER_TO_UINT(data);
    g_autoptr(GError) error = NULL;
    g_autoptr(LinkEnd) alpha = link_end_new_accepting(NULL);
    g_autoptr(LinkEnd) beta = end_of_set(FALSE);
    fill_set(link_end_port(alpha), LINK_DISKS);
    colo_fd_close(&set.channels[missing]);
    g_autofree char *why = g_strdup_printf("there is no '%s'", link_channel_names[missing]);
    g_assert_false(link_take_given(beta->link, "fdset:7", &error));
    g_assert_error(error, LINK_ERROR, LINK_ERROR_ADDRESS);
    g_assert_cmpstr(error->message, ==, why);
    dial_with_set(beta);
    link_end_wait(link_end_has_reason(beta, LINK_ERROR_ADDRESS, why));
    g_assert_cmpuint(beta->ups, ==, 0);
    empty_set();
}

/* `fd` is the set's then. */
static void expect_no_use(int fd, gboolean to_listen, const char *why)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(LinkEnd) end = end_of_set(FALSE);
    g_assert_cmpint(fd, >=, 0);
    *(to_listen ? &set.listening : &set.channels[LINK_CONTROL]) = fd;
    g_assert_false(to_listen ? link_listen_also(end->link, "fdset:7", &error)
                             : link_take_given(end->link, "fdset:7", &error));
    g_assert_error(error, LINK_ERROR, LINK_ERROR_ADDRESS);
    if (!strstr(error->message, why))
        g_error("'%s' doesn't say '%s'", error->message, why);
    empty_set();
}

static void test_wrong_kind(void)
{
    int ends[2];
    g_assert_cmpint(pipe2(ends, O_CLOEXEC), ==, 0);
    expect_no_use(ends[0], FALSE, "the descriptor 'control' is no stream socket");
    expect_no_use(ends[1], TRUE, "can't listen on fdset:7: the descriptor 'listen' is no stream");
    expect_no_use(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), FALSE, "is no stream socket");
    expect_no_use(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), FALSE, "is no connected socket");
    expect_no_use(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), TRUE, "is no listening socket");
}

static void expect_pair_at(const struct sockaddr_in *address, LinkEnd *alpha)
{
    g_autofree char *peer = g_strdup_printf("127.0.0.1:%u", ntohs(address->sin_port));
    g_autoptr(LinkEnd) beta = link_end_new(&(LinkEndOptions){.peer = peer}, 0);
    link_end_accept(alpha, "alpha");
    link_end_dial(beta, "beta");
    link_end_wait(alpha->ups == 1 && beta->ups == 1);
}

static void test_listen(void)
{
    struct sockaddr_in address;
    g_autoptr(LinkEnd) alpha = end_of_set(FALSE);
    set.listening = make_listening(&address);
    g_assert_true(link_listen_also(alpha->link, "fdset:7", NULL));
    empty_set();
    expect_pair_at(&address, alpha);
}

/* ---- Inherited ---- */

static void test_inherited(void)
{
    g_autoptr(LinkEnd) alpha = link_end_new(&(LinkEndOptions){.listen = "fd:link"}, 0);
    struct sockaddr_in address;
    socklen_t len = sizeof(address);
    g_assert_cmpint(getsockname(INHERITED, (struct sockaddr *)&address, &len), ==, 0);
    g_assert_cmpuint(link_end_port(alpha), ==, ntohs(address.sin_port));
    expect_pair_at(&address, alpha);
    g_assert_cmpint(fcntl(INHERITED, F_GETFD) & FD_CLOEXEC, ==, FD_CLOEXEC);
    g_assert_null(g_getenv("LISTEN_PID"));
    g_assert_null(g_getenv("LISTEN_FDS"));
    g_assert_null(g_getenv("LISTEN_FDNAMES"));
}

static void test_not_inherited(void)
{
    g_autoptr(GError) error = NULL;
    LinkOptions options = {.listen = "fd:other"};
    LinkCallbacks callbacks = {0};
    g_assert_null(link_new(&options, &callbacks, NULL, &error));
    g_assert_error(error, LINK_ERROR, LINK_ERROR_ADDRESS);
    g_assert_cmpstr(error->message, ==,
                    "can't listen on fd:other: this process was started with no descriptor 'other' "
                    "(LISTEN_FDNAMES: link)");
}

static void set_variable(const char *name, const char *value)
{
    if (value)
        g_setenv(name, value, TRUE);
    else
        g_unsetenv(name);
}

/* What an environment says that is not this process's, or nonsense, is no descriptor. */
static void test_environment(void)
{
    static const struct {
        const char *pid, *fds, *names;
    } wrong[] = {
        {"1",    "1",    "link"},
        {"self", "",     "link"},
        {"self", "-1",   "link"},
        {"self", "9999", "link"},
        {"self", "1",    NULL  },
        {"self", "0",    "link"},
        {NULL,   "1",    "link"},
    };
    g_autofree char *self = g_strdup_printf("%d", (int)getpid());
    for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
        set_variable("LISTEN_PID", g_strcmp0(wrong[i].pid, "self") ? wrong[i].pid : self);
        set_variable("LISTEN_FDS", wrong[i].fds);
        set_variable("LISTEN_FDNAMES", wrong[i].names);
        inherited_init();
        g_assert_cmpint(inherited_fd("link", NULL), ==, -1);
    }
}

int main(int argc, char **argv)
{
    /* As systemd does it, before anything else is open. */
    struct sockaddr_in address;
    int fd = make_listening(&address);
    g_autofree char *self = g_strdup_printf("%d", (int)getpid());
    set.listening = -1;
    for (LinkChannel which = 0; which < LINK_CHANNELS; which++)
        set.channels[which] = -1;
    g_assert_cmpint(fd == INHERITED ? fd : dup2(fd, INHERITED), ==, INHERITED);
    g_setenv("LISTEN_PID", self, TRUE);
    g_setenv("LISTEN_FDS", "1", TRUE);
    g_setenv("LISTEN_FDNAMES", "link", TRUE);
    inherited_init();
    g_test_init(&argc, &argv, NULL);
    link_end_add_data_test("/link-given/dial", NULL, test_dial);
    link_end_add_data_test("/link-given/dial-with-disks", GUINT_TO_POINTER(1), test_dial);
    link_end_add_test("/link-given/removed", test_removed);
    link_end_add_test("/link-given/removed-before", test_removed_before);
    link_end_add_test("/link-given/forgotten", test_forgotten);
    g_test_add_data_func("/link-given/given-anew", NULL, test_given_anew);
    g_test_add_data_func("/link-given/given-anew-under-way", "dials", test_given_anew);
    for (LinkChannel which = 0; which < LINK_DISKS; which++) {
        g_autofree char *path =
            g_strdup_printf("/link-given/missing/%s", link_channel_names[which]);
        g_test_add_data_func(path, GUINT_TO_POINTER(which), test_one_missing);
    }
    g_test_add_func("/link-given/wrong-kind", test_wrong_kind);
    g_test_add_func("/link-given/listen", test_listen);
    g_test_add_func("/link-given/inherited", test_inherited);
    g_test_add_func("/link-given/not-inherited", test_not_inherited);
    g_test_add_func("/link-given/environment", test_environment);
    return g_test_run();
}
