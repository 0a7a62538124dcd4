/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A connection is two pipes. A pipe reads into a queue of chunks, each with the moment from which
 * it may pass, and writes from it. pipe_update() looks at a pipe's state and arms what it waits
 * for; everything that changes the state calls it.
 */
#include "tests/support/proxy.h"

#include <errno.h>
#include <glib-unix.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "colo/link/link_internal.h"
#include "common/fd.h"

#define CHUNK_BYTES ((gsize)64 * 1024)
#define QUEUE_BYTES ((gsize)1024 * 1024)
#define SNIFF_BYTES 256
#define ANY         LINK_CHANNELS /* a connection whose hello hasn't come yet */
#define NEVER       G_MAXUINT64

typedef enum { UP, DOWN, DIRECTIONS } Direction;

/* What lasts, and what is to happen once, per channel. */
typedef struct {
    gboolean blackhole[DIRECTIONS];
    guint64 flip[DIRECTIONS], cut[DIRECTIONS]; /* offset or NEVER */
    gint64 delay_us;
    guint64 bytes_per_s; /* 0: no limit */
} Weather;

typedef struct {
    GBytes *bytes;
    gsize sent;
    gint64 due_us;
} Chunk;

typedef struct Connection Connection;

typedef struct {
    Connection *connection;
    Direction direction;
    int from, to;
    GQueue chunks;
    gsize queued;
    guint64 received, passed;
    gboolean end_came, end_passed;
    gint64 next_us; /* by the rate */
    GSource *readable, *writable, *timer;
} Pipe;

struct Connection {
    Proxy *proxy;
    int fds[DIRECTIONS]; /* UP: the dialler's, DOWN: the target's */
    Pipe pipes[DIRECTIONS];
    LinkChannel channel;
    GString *sniffed;
};

struct Proxy {
    UnixListen listening;
    char *listen, *target;
    guint16 port;
    GSource *incoming;
    GPtrArray *connections;
    Weather weather[LINK_CHANNELS + 1];
};

static void pipe_update(Pipe *pipe);

static Weather *weather_of(const Pipe *pipe)
{
    return &pipe->connection->proxy->weather[pipe->connection->channel];
}

/* ---- Ends ---- */

static void chunk_free(gpointer data)
{
    Chunk *chunk = data;
    g_bytes_unref(chunk->bytes);
    g_free(chunk);
}

static void connection_free(gpointer data)
{
    Connection *connection = data;
    for (Direction d = 0; d < DIRECTIONS; d++) {
        Pipe *pipe = &connection->pipes[d];
        link_source_clear(&pipe->readable);
        link_source_clear(&pipe->writable);
        link_source_clear(&pipe->timer);
        g_queue_clear_full(&pipe->chunks, chunk_free);
        colo_fd_close(&connection->fds[d]);
    }
    g_string_free(connection->sniffed, TRUE);
    g_free(connection);
}

static void cut(Connection *connection)
{
    struct linger reset = {.l_onoff = 1};
    for (Direction d = 0; d < DIRECTIONS; d++)
        setsockopt(connection->fds[d], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    g_ptr_array_remove(connection->proxy->connections, connection);
}

/* ---- A pipe ---- */

/* The connection's channel, once its hello's beginning has passed. */
static void sniff(Connection *connection, const guint8 *data, gsize len)
{
    if (connection->channel != ANY || connection->sniffed->len >= SNIFF_BYTES)
        return;
    for (gsize i = 0; i < MIN(len, SNIFF_BYTES); i++)
        g_string_append_c(connection->sniffed, data[i] ? (char)data[i] : ' ');
    for (LinkChannel which = 0; which < LINK_CHANNELS; which++) {
        g_autofree char *member = g_strdup_printf("\"channel\":\"%s\"", link_channel_names[which]);
        if (strstr(connection->sniffed->str, member))
            connection->channel = which;
    }
}

static void take_in(Pipe *pipe, guint8 *data, gsize len)
{
    Weather *weather;
    if (pipe->direction == UP)
        sniff(pipe->connection, data, len);
    weather = weather_of(pipe);
    guint64 offset = weather->flip[pipe->direction] - pipe->received;
    if (weather->flip[pipe->direction] >= pipe->received && offset < len) {
        data[offset] ^= 0x10;
        weather->flip[pipe->direction] = NEVER;
    }
    Chunk *chunk = g_new(Chunk, 1);
    *chunk = (Chunk){.bytes = g_bytes_new(data, len),
                     .due_us = g_get_monotonic_time() + weather->delay_us};
    g_queue_push_tail(&pipe->chunks, chunk);
    pipe->queued += len;
    pipe->received += len;
}

static gboolean on_readable(gint fd, GIOCondition condition, gpointer user_data)
{
    Pipe *pipe = user_data;
    static guint8 buffer[CHUNK_BYTES];
    (void)condition;
    ssize_t got = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return G_SOURCE_CONTINUE;
    if (got < 0) {
        cut(pipe->connection);
        return G_SOURCE_CONTINUE;
    }
    if (got == 0)
        pipe->end_came = TRUE;
    else
        take_in(pipe, buffer, (gsize)got);
    pipe_update(pipe);
    return G_SOURCE_CONTINUE;
}

/* How much of the chunk may pass now; the weather's rate and its cut limit it. */
static gsize allowance(const Pipe *pipe, gsize len)
{
    const Weather *weather = weather_of(pipe);
    guint64 left = weather->cut[pipe->direction] - pipe->passed;
    if (weather->bytes_per_s)
        len = MIN(len, MAX(1, weather->bytes_per_s / 100));
    if (weather->cut[pipe->direction] >= pipe->passed)
        len = MIN(len, left);
    return len;
}

/* Passes one piece on. FALSE: not now, or with `ret_cut` never, the connection being gone. */
static gboolean pass_piece(Pipe *pipe, gboolean *ret_cut)
{
    Weather *weather = weather_of(pipe);
    Chunk *chunk = g_queue_peek_head(&pipe->chunks);
    gsize len;
    const guint8 *data = g_bytes_get_data(chunk->bytes, &len);
    gsize may = allowance(pipe, len - chunk->sent);
    if (may == 0) {
        weather->cut[pipe->direction] = NEVER;
        *ret_cut = TRUE;
        cut(pipe->connection);
        return FALSE;
    }
    ssize_t put = send(pipe->to, data + chunk->sent, may, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put < 0) {
        *ret_cut = errno != EAGAIN && errno != EINTR;
        if (*ret_cut)
            cut(pipe->connection);
        return FALSE;
    }
    chunk->sent += (gsize)put;
    pipe->passed += (guint64)put;
    pipe->queued -= (gsize)put;
    if (weather->bytes_per_s)
        pipe->next_us =
            g_get_monotonic_time() + put * (gint64)G_USEC_PER_SEC / (gint64)weather->bytes_per_s;
    if (chunk->sent == len)
        chunk_free(g_queue_pop_head(&pipe->chunks));
    return TRUE;
}

static gboolean on_writable(gint fd, GIOCondition condition, gpointer user_data)
{
    (void)fd;
    (void)condition;
    pipe_update(user_data);
    return G_SOURCE_CONTINUE;
}

static gboolean on_timer(gpointer user_data)
{
    pipe_update(user_data);
    return G_SOURCE_CONTINUE;
}

static void watch(GSource **source, int fd, GIOCondition condition, GUnixFDSourceFunc func,
                  Pipe *pipe)
{
    if (*source)
        return;
    *source = g_unix_fd_source_new(fd, condition);
    g_source_set_callback(*source, G_SOURCE_FUNC(func), pipe, NULL);
    g_source_attach(*source, NULL);
}

/* When the head of the queue may pass: now or later; G_MAXINT64 if there is none. */
static gint64 head_due_us(const Pipe *pipe)
{
    const Chunk *chunk = g_queue_peek_head((GQueue *)&pipe->chunks);
    return chunk ? MAX(chunk->due_us, pipe->next_us) : G_MAXINT64;
}

static void end_pipe(Pipe *pipe)
{
    Connection *connection = pipe->connection;
    shutdown(pipe->to, SHUT_WR);
    pipe->end_passed = TRUE;
    if (connection->pipes[UP].end_passed && connection->pipes[DOWN].end_passed)
        g_ptr_array_remove(connection->proxy->connections, connection);
}

static void pipe_update(Pipe *pipe)
{
    gboolean held = weather_of(pipe)->blackhole[pipe->direction], gone = FALSE;
    link_source_clear(&pipe->timer);
    link_source_clear(&pipe->writable);
    while (!held && head_due_us(pipe) <= g_get_monotonic_time())
        if (!pass_piece(pipe, &gone))
            break;
    if (gone)
        return;
    if (held || pipe->end_came || pipe->queued >= QUEUE_BYTES)
        link_source_clear(&pipe->readable);
    else
        watch(&pipe->readable, pipe->from, G_IO_IN, on_readable, pipe);
    if (held || pipe->end_passed)
        return;
    gint64 due_us = head_due_us(pipe), now_us = g_get_monotonic_time();
    if (due_us == G_MAXINT64) {
        if (pipe->end_came)
            end_pipe(pipe);
    } else if (due_us > now_us) {
        pipe->timer = link_timer((guint)((due_us - now_us) / 1000 + 1), on_timer, pipe);
    } else {
        watch(&pipe->writable, pipe->to, G_IO_OUT, on_writable, pipe);
    }
}

/* ---- Connections ---- */

static int begin_connect(const struct sockaddr *address, socklen_t len)
{
    COLO_AUTO_FD fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    gboolean begun = fd >= 0 && (connect(fd, address, len) == 0 || errno == EINPROGRESS);
    return begun ? colo_fd_steal(&fd) : -1;
}

static int connect_to(const char *target)
{
    g_auto(ColoAddress) address = COLO_ADDRESS_INIT;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    g_assert(link_address_parse("target", target, &address, NULL));
    if (address.path) {
        struct sockaddr_un name = {.sun_family = AF_UNIX};
        g_strlcpy(name.sun_path, address.path, sizeof(name.sun_path));
        return begin_connect((const struct sockaddr *)&name, sizeof(name));
    }
    g_autofree char *service = g_strdup_printf("%u", address.port);
    if (getaddrinfo(address.host, service, &hints, &found) != 0)
        return -1;
    int fd = begin_connect(found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return fd;
}

static gboolean on_incoming(gint fd, GIOCondition condition, gpointer user_data)
{
    Proxy *proxy = user_data;
    int one = 1;
    (void)condition;
    COLO_AUTO_FD client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    COLO_AUTO_FD target = connect_to(proxy->target);
    if (client < 0 || target < 0)
        return G_SOURCE_CONTINUE;
    Connection *connection = g_new0(Connection, 1);
    connection->proxy = proxy;
    connection->channel = ANY;
    connection->sniffed = g_string_new(NULL);
    connection->fds[UP] = colo_fd_steal(&client);
    connection->fds[DOWN] = colo_fd_steal(&target);
    g_ptr_array_add(proxy->connections, connection);
    for (Direction d = 0; d < DIRECTIONS; d++) {
        setsockopt(connection->fds[d], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        connection->pipes[d] = (Pipe){.connection = connection,
                                      .direction = d,
                                      .from = connection->fds[d],
                                      .to = connection->fds[!d]};
        g_queue_init(&connection->pipes[d].chunks);
    }
    pipe_update(&connection->pipes[UP]);
    pipe_update(&connection->pipes[DOWN]);
    return G_SOURCE_CONTINUE;
}

/* ---- Commands ---- */

static gboolean serve(Proxy *proxy, GError **error)
{
    if (proxy->listening.fd >= 0)
        return TRUE;
    if (!link_address_listen(NULL, proxy->listen, &proxy->listening, error))
        return FALSE;
    proxy->incoming = g_unix_fd_source_new(proxy->listening.fd, G_IO_IN);
    g_source_set_callback(proxy->incoming, G_SOURCE_FUNC(on_incoming), proxy, NULL);
    g_source_attach(proxy->incoming, NULL);
    return TRUE;
}

static void stop_serving(Proxy *proxy)
{
    link_source_clear(&proxy->incoming);
    unix_listen_end(&proxy->listening);
}

static gboolean is_meant(const char *channel, LinkChannel which)
{
    return !strcmp(channel, "all") || (which < ANY && !strcmp(channel, link_channel_names[which]));
}

/* Looks at every pipe again; connections may end meanwhile. */
static void update_all(Proxy *proxy)
{
    for (guint i = proxy->connections->len; i > 0; i--)
        for (Direction d = 0; d < DIRECTIONS && i <= proxy->connections->len; d++)
            pipe_update(&((Connection *)g_ptr_array_index(proxy->connections, i - 1))->pipes[d]);
}

static void end_meant(Proxy *proxy, const char *channel, gboolean reset, gboolean up, gboolean down)
{
    for (guint i = proxy->connections->len; i > 0; i--) {
        Connection *connection = g_ptr_array_index(proxy->connections, i - 1);
        if (!is_meant(channel, connection->channel))
            continue;
        connection->pipes[UP].end_came |= up;
        connection->pipes[DOWN].end_came |= down;
        if (reset)
            cut(connection);
    }
    update_all(proxy);
}

static void weather_clear(Weather *weather)
{
    *weather = (Weather){
        .flip = {NEVER, NEVER},
          .cut = {NEVER, NEVER}
    };
}

static void set_weather(Proxy *proxy, const char *verb, const char *channel, gboolean up,
                        gboolean down, guint64 number)
{
    for (LinkChannel which = 0; which <= ANY; which++) {
        Weather *weather = &proxy->weather[which];
        if (!is_meant(channel, which))
            continue;
        if (!strcmp(verb, "pass"))
            weather_clear(weather);
        else if (!strcmp(verb, "delay"))
            weather->delay_us = (gint64)number * 1000;
        else if (!strcmp(verb, "rate"))
            weather->bytes_per_s = number;
        for (Direction d = 0; d < DIRECTIONS; d++) {
            if (!(d == UP ? up : down))
                continue;
            if (!strcmp(verb, "blackhole"))
                weather->blackhole[d] = TRUE;
            else if (!strcmp(verb, "flip"))
                weather->flip[d] = number;
            else if (!strcmp(verb, "cut-at"))
                weather->cut[d] = number;
        }
    }
    update_all(proxy);
}

/*
 * What each verb takes after the channel (d: a direction, D: one that may be left out, n: a
 * number), and whether it ends connections that are there rather than changing the weather.
 */
static const struct {
    const char *verb, *arguments;
    gboolean ends;
} verbs[] = {
    {"cut",        "",   TRUE },
    {"close",      "",   TRUE },
    {"half-close", "d",  TRUE },
    {"pass",       "",   FALSE},
    {"delay",      "n",  FALSE},
    {"blackhole",  "D",  FALSE},
    {"rate",       "n",  FALSE},
    {"flip",       "dn", FALSE},
    {"cut-at",     "dn", FALSE},
};

static gboolean parse_direction(const char *word, gboolean *ret_up, gboolean *ret_down)
{
    *ret_up = !strcmp(word, "up") || !strcmp(word, "both");
    *ret_down = !strcmp(word, "down") || !strcmp(word, "both");
    return *ret_up || *ret_down;
}

static gboolean parse_arguments(const char *pattern, char **words, gboolean *ret_up,
                                gboolean *ret_down, guint64 *ret_number)
{
    *ret_up = *ret_down = TRUE;
    for (; *pattern; pattern++) {
        if (*pattern == 'D' && !*words)
            continue;
        if (!*words || (*pattern == 'n' ? !g_ascii_string_to_unsigned(*words, 10, 0, G_MAXINT64,
                                                                      ret_number, NULL)
                                        : !parse_direction(*words, ret_up, ret_down)))
            return FALSE;
        words++;
    }
    return !*words;
}

static gboolean run_command(Proxy *proxy, char **words, GError **error)
{
    gboolean up, down, known = FALSE;
    guint64 number = 0;
    guint count = g_strv_length(words);
    if (count == 1 && !strcmp(words[0], "refuse")) {
        stop_serving(proxy);
        return TRUE;
    }
    if (count == 1 && !strcmp(words[0], "accept"))
        return serve(proxy, error);
    if (count >= 2)
        for (LinkChannel which = 0; which <= ANY; which++)
            known |= is_meant(words[1], which);
    for (gsize i = 0; known && i < G_N_ELEMENTS(verbs); i++) {
        if (strcmp(words[0], verbs[i].verb) != 0 ||
            !parse_arguments(verbs[i].arguments, words + 2, &up, &down, &number))
            continue;
        if (verbs[i].ends)
            end_meant(proxy, words[1], !strcmp(words[0], "cut"), up, down);
        else
            set_weather(proxy, words[0], words[1], up, down, number);
        return TRUE;
    }
    g_autofree char *line = g_strjoinv(" ", words);
    g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                "'%s' is no command: tests/support/proxy.h lists them", line);
    return FALSE;
}

gboolean proxy_command(Proxy *proxy, const char *line, GError **error)
{
    int count;
    g_auto(GStrv) words = NULL;
    return g_shell_parse_argv(line, &count, &words, error) && run_command(proxy, words, error);
}

void proxy_do(Proxy *proxy, const char *format, ...)
{
    g_autoptr(GError) error = NULL;
    va_list args;
    va_start(args, format);
    g_autofree char *line = g_strdup_vprintf(format, args);
    va_end(args);
    if (!proxy_command(proxy, line, &error))
        g_error("%s", error->message);
}

/* ---- Life ---- */

char *proxy_status(const Proxy *proxy)
{
    GString *text = g_string_new(NULL);
    for (guint i = 0; i < proxy->connections->len; i++) {
        const Connection *connection = g_ptr_array_index(proxy->connections, i);
        g_string_append_printf(text, "%s up %" G_GUINT64_FORMAT " down %" G_GUINT64_FORMAT "\n",
                               connection->channel == ANY ? "unknown"
                                                          : link_channel_names[connection->channel],
                               connection->pipes[UP].passed, connection->pipes[DOWN].passed);
    }
    return g_string_free(text, FALSE);
}

unsigned proxy_open(const Proxy *proxy, const char *channel)
{
    unsigned count = 0;
    for (guint i = 0; i < proxy->connections->len; i++)
        count += is_meant(channel,
                          ((const Connection *)g_ptr_array_index(proxy->connections, i))->channel);
    return count;
}

guint16 proxy_port(const Proxy *proxy)
{
    return proxy->port;
}

Proxy *proxy_new(const char *listen, const char *target, GError **error)
{
    g_auto(ColoAddress) from = COLO_ADDRESS_INIT;
    g_auto(ColoAddress) to = COLO_ADDRESS_INIT;
    g_autoptr(Proxy) proxy = g_new0(Proxy, 1);
    proxy->listening = UNIX_LISTEN_NONE;
    proxy->listen = g_strdup(listen);
    proxy->target = g_strdup(target);
    proxy->connections = g_ptr_array_new_with_free_func(connection_free);
    for (LinkChannel which = 0; which <= ANY; which++)
        weather_clear(&proxy->weather[which]);
    if (!link_address_parse("target", target, &to, error) ||
        !link_address_parse("listen", listen, &from, error) || !serve(proxy, error))
        return NULL;
    proxy->port = link_address_port(proxy->listening.fd);
    if (!from.path) {
        /* "accept" listens where "refuse" has stopped. */
        g_free(proxy->listen);
        proxy->listen = g_strdup_printf(from.is_v6 ? "[%s]:%u" : "%s:%u", from.host, proxy->port);
    }
    return g_steal_pointer(&proxy);
}

void proxy_free(Proxy *proxy)
{
    if (!proxy)
        return;
    stop_serving(proxy);
    g_ptr_array_unref(proxy->connections);
    g_free(proxy->listen);
    g_free(proxy->target);
    g_free(proxy);
}
