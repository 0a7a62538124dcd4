/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/link-end.h"

#include <arpa/inet.h>
#include <errno.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "colo/link/link_internal.h"
#include "common/endian.h"
#include "common/json.h"

/* ---- TCP or unix sockets ---- */

static char *sockets; /* their folder; NULL: TCP */
static guint16 last_socket;

typedef struct {
    void (*test)(void);
    void (*data_test)(gconstpointer data);
    gconstpointer data;
} EndTest;

static void run_tcp(gconstpointer data)
{
    const EndTest *test = data;
    if (test->test)
        test->test();
    else
        test->data_test(test->data);
}

static void run_unix(gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    sockets = g_dir_make_tmp("colo-link-XXXXXX", &error);
    g_assert_no_error(error);
    run_tcp(data);
    /* Each has removed its own. */
    g_assert_cmpint(g_rmdir(sockets), ==, 0);
    g_clear_pointer(&sockets, g_free);
}

static void add_test(const char *path, const EndTest *test)
{
    g_autofree char *tcp = g_strdup_printf("/tcp%s", path);
    g_autofree char *over_unix = g_strdup_printf("/unix%s", path);
    g_test_add_data_func_full(tcp, g_memdup2(test, sizeof(*test)), run_tcp, g_free);
    g_test_add_data_func_full(over_unix, g_memdup2(test, sizeof(*test)), run_unix, g_free);
}

void link_end_add_test(const char *path, void (*test)(void))
{
    add_test(path, &(EndTest){.test = test});
}

void link_end_add_data_test(const char *path, gconstpointer data, void (*test)(gconstpointer data))
{
    add_test(path, &(EndTest){.data_test = test, .data = data});
}

const char *link_end_stranger(void)
{
    static char text[64];
    g_snprintf(text, sizeof(text), sockets ? "a unix socket of process %d" : "127.0.0.1",
               (int)getpid());
    return text;
}

const char *link_end_absence(void)
{
    return sockets ? "there is no such socket" : "nobody listens there";
}

guint16 link_end_number(void)
{
    return sockets ? ++last_socket : 0;
}

char *link_end_address(guint16 port)
{
    return sockets ? g_strdup_printf("unix:%s/%u", sockets, port)
                   : g_strdup_printf("127.0.0.1:%u", port);
}

guint16 link_end_port(const LinkEnd *side)
{
    return side->number ? side->number : link_port(side->link);
}

static void on_up(json_object *peer_hello, gpointer user_data)
{
    LinkEnd *side = user_data;
    json_object *name;
    g_assert_true(json_object_object_get_ex(peer_hello, "name", &name));
    g_free(side->peer_name);
    side->peer_name = g_strdup(json_object_get_string(name));
    side->ups++;
    if (side->on_up)
        side->on_up(side);
}

static void on_message(guint type, const guint8 *payload, gsize len, gpointer user_data)
{
    LinkEnd *side = user_data;
    g_ptr_array_add(side->messages,
                    g_strdup_printf("%u:%.*s", type, (int)MIN(len, 64), (const char *)payload));
    if (side->on_message)
        side->on_message(side);
}

static void on_late_packet(unsigned nic, const guint8 *data, gsize len, gpointer user_data)
{
    LinkEnd *side = user_data;
    (void)nic;
    (void)data;
    (void)len;
    side->late_frames++;
}

static void on_packet(unsigned nic, guint64 epoch, const guint8 *data, gsize len,
                      gpointer user_data)
{
    LinkEnd *side = user_data;
    side->packet_frames++;
    if (side->keep_packets) {
        g_autofree char *sum = g_compute_checksum_for_data(G_CHECKSUM_MD5, data, len);
        g_ptr_array_add(side->packets,
                        g_strdup_printf("%u:%" G_GUINT64_FORMAT ":%zu:%s", nic, epoch, len, sum));
    }
    if (side->on_packet)
        side->on_packet(side);
}

static void on_down(const GError *why, gpointer user_data)
{
    LinkEnd *side = user_data;
    g_clear_error(&side->down);
    side->down = g_error_copy(why);
    side->downs++;
    if (side->on_down)
        side->on_down(side);
}

static void on_attempt_failed(const GError *why, gpointer user_data)
{
    LinkEnd *side = user_data;
    side->failures++;
    g_ptr_array_add(side->reasons, g_error_copy(why));
    if (side->on_failure)
        side->on_failure(side);
}

static void on_sent(gpointer user_data)
{
    LinkEnd *side = user_data;
    if (side->on_sent)
        side->on_sent(side);
}

static void on_fresh(gpointer user_data)
{
    LinkEnd *side = user_data;
    side->freshes++;
    if (side->on_fresh)
        side->on_fresh(side);
}

static LinkEnd *make(const LinkEndOptions *options, guint16 port, guint16 peer_port)
{
    static const LinkEndOptions none;
    const LinkEndOptions *o = options ? options : &none;
    g_autofree char *peer = peer_port ? link_end_address(peer_port) : NULL;
    g_autoptr(GError) error = NULL;
    LinkEnd *side = g_new0(LinkEnd, 1);
    g_autofree char *listen = link_end_address(port);
    side->number = sockets && !o->listen ? port : 0;
    side->reasons = g_ptr_array_new_with_free_func((GDestroyNotify)g_error_free);
    side->messages = g_ptr_array_new_with_free_func(g_free);
    side->packets = g_ptr_array_new_with_free_func(g_free);
    LinkOptions link_options = {
        .listen = o->listen ? o->listen : listen,
        .peer = o->peer ? o->peer : peer,
        .heartbeat_interval_ms = o->interval_ms ? o->interval_ms : 20,
        .heartbeat_timeout_ms = o->timeout_ms ? o->timeout_ms : 10000,
        .handshake_timeout_ms = o->handshake_ms ? o->handshake_ms : 10000,
        .disks = o->disks,
    };
    LinkCallbacks callbacks = {.up = on_up,
                               .sent = on_sent,
                               .message = on_message,
                               .packet = on_packet,
                               .late_packet = on_late_packet,
                               .down = on_down,
                               .attempt_failed = on_attempt_failed,
                               .descriptor = o->descriptor,
                               .fresh = on_fresh};
    side->link = link_new(&link_options, &callbacks, side, &error);
    g_assert_no_error(error);
    return side;
}

LinkEnd *link_end_new(const LinkEndOptions *options, guint16 peer_port)
{
    return make(options, link_end_number(), peer_port);
}

LinkEnd *link_end_new_at(guint16 port)
{
    return make(NULL, port, 0);
}

void link_end_free(LinkEnd *side)
{
    if (!side)
        return;
    link_free(side->link);
    g_ptr_array_unref(side->reasons);
    g_ptr_array_unref(side->messages);
    g_ptr_array_unref(side->packets);
    g_clear_error(&side->down);
    g_free(side->peer_name);
    g_free(side);
}

LinkEnd *link_end_new_accepting(const LinkEndOptions *options)
{
    LinkEnd *end = link_end_new(options, 0);
    link_end_accept(end, "alpha");
    return end;
}

json_object *link_end_hello(const char *name, const char *uuid)
{
    json_object *hello = json_object_new_object();
    json_object *identity = json_object_new_object();
    colo_json_add_string(identity, "uuid", uuid);
    colo_json_add_string(identity, "machine", "pc-i440fx-7.2");
    colo_json_add_string(hello, "name", name);
    json_object_object_add(hello, "identity", identity);
    return hello;
}

void link_end_accept(LinkEnd *side, const char *name)
{
    json_object *hello = link_end_hello(name, LINK_END_UUID);
    link_accept(side->link, hello);
    json_object_put(hello);
}

void link_end_dial(LinkEnd *side, const char *name)
{
    json_object *hello = link_end_hello(name, LINK_END_UUID);
    link_dial(side->link, hello);
    json_object_put(hello);
}

void link_end_pair(const LinkEndOptions *options, LinkEnd **ret_primary, LinkEnd **ret_secondary)
{
    LinkEnd *primary = link_end_new(options, 0);
    LinkEnd *secondary = link_end_new(options, link_end_port(primary));
    link_end_accept(primary, "alpha");
    link_end_dial(secondary, "beta");
    link_end_wait(primary->ups == 1 && secondary->ups == 1);
    *ret_primary = primary;
    *ret_secondary = secondary;
}

gboolean link_end_has_reason(const LinkEnd *side, LinkError code, const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, "127.0.0.1", -1);
    g_autofree char *said = g_strjoinv(link_end_stranger(), parts);
    for (guint i = 0; i < side->reasons->len; i++) {
        const GError *reason = g_ptr_array_index(side->reasons, i);
        if (g_error_matches(reason, LINK_ERROR, (gint)code) && strstr(reason->message, said))
            return TRUE;
    }
    return FALSE;
}

/* ---- Strangers ---- */

static void begin_tcp(int fd, guint16 port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        g_assert_cmpint(errno, ==, EINPROGRESS);
}

/* EAGAIN: the backlog is full, and it is this main loop that has to empty it. */
static void begin_unix(int fd, guint16 number)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_snprintf(address.sun_path, sizeof(address.sun_path), "%s/%u", sockets, number);
    while (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        g_assert_cmpint(errno, ==, EAGAIN);
        g_main_context_iteration(NULL, FALSE);
    }
}

int stranger_connect(guint16 port)
{
    int fd = socket(sockets ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    g_assert_cmpint(fd, >=, 0);
    if (sockets)
        begin_unix(fd, port);
    else
        begin_tcp(fd, port);
    /* The backlog is full: it is this main loop that has to empty it. */
    struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};
    while (poll(&poll_fd, 1, 1) == 0)
        g_main_context_iteration(NULL, FALSE);
    return fd;
}

GBytes *stranger_hello(unsigned version, unsigned kind, const char *body)
{
    gsize len = strlen(body);
    guint8 *bytes = g_malloc(16 + len);
    memcpy(bytes, "COLOLINK", 8);
    colo_put_be16(bytes + 8, (guint16)version);
    colo_put_be16(bytes + 10, (guint16)kind);
    colo_put_be32(bytes + 12, (guint32)len);
    memcpy(bytes + 16, body, len);
    return g_bytes_new_take(bytes, 16 + len);
}

void stranger_send(int fd, const void *data, gsize len)
{
    const guint8 *at = data;
    while (len > 0) {
        ssize_t put = send(fd, at, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (put < 0 && errno != EAGAIN)
            return; /* refused in the middle: what it has to say is read next */
        if (put > 0) {
            at += put;
            len -= (gsize)put;
        }
        g_main_context_iteration(NULL, FALSE);
    }
}

void stranger_send_bytes(int fd, GBytes *bytes)
{
    gsize len;
    const void *data = g_bytes_get_data(bytes, &len);
    stranger_send(fd, data, len);
    g_bytes_unref(bytes);
}

/* Bytes read; 0 at the end. */
static gsize read_some(int fd, void *buffer, gsize len)
{
    for (;;) {
        ssize_t got = recv(fd, buffer, len, MSG_DONTWAIT);
        if (got >= 0)
            return (gsize)got;
        if (errno != EAGAIN)
            return 0;
        g_main_context_iteration(NULL, FALSE);
    }
}

char *stranger_read_to_end(int fd)
{
    GString *text = g_string_new(NULL);
    char buffer[4096];
    for (gsize got; (got = read_some(fd, buffer, sizeof(buffer))) > 0;)
        for (gsize i = 0; i < got; i++)
            g_string_append_c(text, buffer[i] ? buffer[i] : '.');
    return g_string_free(text, FALSE);
}

static void read_exactly(int fd, guint8 *buffer, gsize len)
{
    for (gsize done = 0; done < len;) {
        gsize got = read_some(fd, buffer + done, len - done);
        g_assert_cmpuint(got, >, 0);
        done += got;
    }
}

json_object *stranger_read_hello(int fd, unsigned *ret_kind)
{
    guint8 head[16];
    read_exactly(fd, head, sizeof(head));
    g_assert_cmpmem(head, 8, "COLOLINK", 8);
    g_assert_cmpuint(colo_get_be16(head + 8), ==, LINK_PROTOCOL);
    *ret_kind = colo_get_be16(head + 10);
    gsize len = colo_get_be32(head + 12);
    g_autofree char *body = g_malloc0(len + 1);
    read_exactly(fd, (guint8 *)body, len);
    json_object *object = json_tokener_parse(body);
    g_assert_nonnull(object);
    return object;
}

char *stranger_begin_pairing(int fd)
{
    unsigned kind;
    stranger_send_bytes(fd, stranger_hello(LINK_PROTOCOL, 1, STRANGER_HELLO));
    json_object *answer = stranger_read_hello(fd, &kind);
    g_assert_cmpuint(kind, ==, 2);
    g_assert_cmpstr(json_object_get_string(json_object_object_get(answer, "name")), ==, "alpha");
    g_assert_cmpstr(json_object_get_string(json_object_object_get(answer, "role")), ==, "primary");
    char *session = g_strdup(json_object_get_string(json_object_object_get(answer, "session")));
    json_object_put(answer);
    return session;
}
