/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One client of the control socket. Invariants:
 * - At most one command runs per client in order. The next one is not looked at before it has been
 *   answered, so answers come in the order of the commands, as QMP's do.
 * - Whoever answers a command is not called back from within: the next command is run from the main
 *   loop.
 * - A client that has enabled exec-oob is read from while a command runs. What it sends in order
 *   waits, up to CONTROL_QUEUE_MAX messages. What overtakes is run as soon as it is read.
 * - Else nothing is read while a command runs. While much output waits, nothing is read or begun.
 *   So a client can make us hold one read, CONTROL_QUEUE_MAX messages and one, and
 *   CONTROL_OUTPUT_MAX_BYTES of output (and one answer beyond it).
 * - A descriptor belongs to the command with the first byte that it was sent with, or to the next
 *   one if that is a space. It is closed when that has been answered, unless the command has taken
 *   it. A read ends with it, and comes only when all complete messages of the one before have been
 *   taken. So at most one message has begun (`came`), and one descriptor is behind it.
 * - A client that has ended its sending (echo ... | nc -U) still gets its answers. No timers: an
 *   idle client may stay for ever; control.c limits the number of clients.
 */
#include <errno.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "colo/control/control_internal.h"
#include "colo/control/reader.h"
#include "common/log.h"

struct ControlClient {
    gatomicrefcount refs;
    Control *control; /* NULL: closed */
    int fd;
    guint source; /* 0: none */
    guint again;  /* process() is due; 0: it isn't */
    GIOCondition condition;
    ControlReader *reader;
    GString *output; /* from `sent` on it waits */
    gsize sent;
    ControlDescriptor came;   /* with the message that has begun */
    ControlDescriptor behind; /* with the byte `behind_at` of all that were read */
    guint64 behind_at;
    GQueue queue;        /* of Waiting*: read, and to be run in order */
    guint overtaking;    /* how many commands run that overtook others */
    gboolean busy;       /* a command runs in order */
    gboolean has_oob;    /* commands may overtake */
    gboolean processing; /* process() is on the stack */
    gboolean drained;    /* of what was read, nothing is left but a message that has begun */
    gboolean ended;      /* the client won't send any more */
    gboolean wants_events;
};

/* What was read: a message, or why there is none. */
typedef struct {
    json_object *message;
    char *error;
    ControlDescriptor came;
} Waiting;

static void waiting_free(gpointer data)
{
    Waiting *waits = data;
    json_object_put(waits->message);
    g_free(waits->error);
    control_descriptor_clear(&waits->came);
    g_free(waits);
}

static void update_source(ControlClient *client);

ControlClient *control_client_ref(ControlClient *client)
{
    g_atomic_ref_count_inc(&client->refs);
    return client;
}

void control_client_unref(ControlClient *client)
{
    if (!g_atomic_ref_count_dec(&client->refs))
        return;
    g_assert(!client->control);
    control_reader_free(client->reader);
    g_queue_clear_full(&client->queue, waiting_free);
    g_string_free(client->output, TRUE);
    g_free(client);
}

Control *control_client_control(const ControlClient *client)
{
    return client->control;
}

gboolean control_client_wants_events(const ControlClient *client)
{
    return client->wants_events;
}

void control_client_set_wants_events(ControlClient *client)
{
    client->wants_events = TRUE;
}

void control_client_set_oob(ControlClient *client)
{
    client->has_oob = TRUE;
}

void control_client_close(ControlClient *client)
{
    Control *control = g_steal_pointer(&client->control);
    if (!control)
        return;
    if (client->source)
        g_source_remove(client->source);
    if (client->again)
        g_source_remove(client->again);
    client->source = client->again = 0;
    close(client->fd);
    client->fd = -1;
    control_descriptor_clear(&client->came);
    control_descriptor_clear(&client->behind);
    control_forget(control, client); /* drops the server's reference */
}

static gsize waiting(const ControlClient *client)
{
    return client->output->len - client->sent;
}

/* FALSE if the connection is broken. */
static gboolean flush(ControlClient *client)
{
    while (waiting(client) > 0) {
        ssize_t put = send(client->fd, client->output->str + client->sent, waiting(client),
                           MSG_NOSIGNAL | MSG_DONTWAIT);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return errno == EAGAIN;
        client->sent += (gsize)put;
    }
    g_string_truncate(client->output, 0);
    client->sent = 0;
    return TRUE;
}

void control_client_send(ControlClient *client, const char *line)
{
    if (!client->control)
        return;
    if (waiting(client) > CONTROL_OUTPUT_MAX_BYTES) {
        log_warning("control socket: a client that doesn't read is disconnected");
        control_client_close(client);
        return;
    }
    g_string_erase(client->output, 0, (gssize)client->sent);
    client->sent = 0;
    g_string_append(client->output, line);
    g_string_append(client->output, "\r\n");
    if (flush(client))
        update_source(client);
    else
        control_client_close(client);
}

static gboolean takes_output(const ControlClient *client)
{
    return waiting(client) < CONTROL_OUTPUT_FULL_BYTES;
}

static gboolean may_read(const ControlClient *client)
{
    gboolean has_room = client->has_oob ? client->queue.length < CONTROL_QUEUE_MAX
                                        : !client->busy && client->queue.length == 0;
    return has_room && takes_output(client);
}

/* Reads one message; FALSE if there is none. What overtakes is run, the rest queued. */
static gboolean take_message(ControlClient *client)
{
    Waiting read = {0};
    if (control_reader_next(client->reader, &read.message, &read.error) ==
        CONTROL_READER_NEED_MORE) {
        client->drained = TRUE;
        return FALSE;
    }
    read.came = client->came;
    client->came = CONTROL_NO_DESCRIPTOR;
    if (client->behind_at < control_reader_taken(client->reader))
        control_descriptor_merge(&read.came, &client->behind);
    if (client->has_oob && read.message && control_is_oob(read.message)) {
        client->overtaking++;
        control_execute(client, read.message, &read.came, TRUE);
        json_object_put(read.message);
    } else {
        g_queue_push_tail(&client->queue, g_memdup2(&read, sizeof(read)));
    }
    return TRUE;
}

static void run_next(ControlClient *client)
{
    Waiting *next = g_queue_pop_head(&client->queue);
    if (next->message) {
        client->busy = TRUE;
        control_execute(client, next->message, &next->came, FALSE);
    } else {
        control_execute_failed(client, next->error);
    }
    waiting_free(next);
}

/* Takes messages until there are none, a command keeps running or the client is gone. */
static void process(ControlClient *client)
{
    if (client->processing)
        return;
    client->processing = TRUE;
    control_client_ref(client);
    for (gboolean more = TRUE; client->control && more;) {
        if (!client->busy && client->queue.length > 0 && takes_output(client))
            run_next(client);
        else
            more = may_read(client) && take_message(client);
    }
    client->processing = FALSE;
    gboolean is_idle = !client->busy && client->overtaking == 0 && client->queue.length == 0;
    if (client->control && client->ended && is_idle && waiting(client) == 0)
        control_client_close(client);
    else
        update_source(client);
    control_client_unref(client);
}

static gboolean on_again(gpointer user_data)
{
    ControlClient *client = user_data;
    client->again = 0;
    process(client);
    return G_SOURCE_REMOVE;
}

void control_client_answered(ControlClient *client, gboolean overtook)
{
    g_assert(overtook ? client->overtaking > 0 : client->busy);
    if (overtook)
        client->overtaking--;
    else
        client->busy = FALSE;
    if (client->control && !client->processing && !client->again)
        client->again = g_idle_add_full(G_PRIORITY_DEFAULT, on_again, client, NULL);
}

/* FALSE if the connection is broken. */
static gboolean receive(ControlClient *client)
{
    char buf[4096];
    control_descriptor_merge(&client->came, &client->behind);
    ssize_t got = control_receive(client->fd, buf, sizeof(buf), &client->behind);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    if (got == 0) {
        client->ended = TRUE;
        return TRUE;
    }
    gsize last = (gsize)got - 1;
    client->behind_at =
        control_reader_taken(client->reader) + control_reader_pending(client->reader) + last;
    /* With the rest of a line that was no JSON: it is no command's. */
    if (control_reader_is_skipping(client->reader) && !memchr(buf, '\n', last))
        control_descriptor_clear(&client->behind);
    control_reader_push(client->reader, buf, (gsize)got);
    client->drained = FALSE;
    return TRUE;
}

static gboolean on_ready(gint fd, GIOCondition condition, gpointer user_data)
{
    (void)fd;
    ControlClient *client = user_data;
    gboolean good = !(condition & (G_IO_ERR | G_IO_NVAL)) && flush(client);
    gboolean reads = condition & G_IO_IN && may_read(client);
    /* HUP: nobody is left to read answers, though there may be bytes to be read. */
    if (good && reads && client->drained)
        good = receive(client);
    else if (condition & G_IO_HUP && !reads)
        good = FALSE;
    /* Both may remove this source; then what is returned doesn't matter. */
    if (good)
        process(client);
    else
        control_client_close(client);
    return G_SOURCE_CONTINUE;
}

/* Waits for what can be used now, so that nothing that is ready stays so without effect. */
static void update_source(ControlClient *client)
{
    if (!client->control)
        return;
    GIOCondition wanted = G_IO_HUP | G_IO_ERR;
    if (!client->ended && may_read(client))
        wanted |= G_IO_IN;
    if (waiting(client) > 0)
        wanted |= G_IO_OUT;
    if (client->source && wanted == client->condition)
        return;
    if (client->source)
        g_source_remove(client->source);
    client->condition = wanted;
    client->source = g_unix_fd_add(client->fd, wanted, on_ready, client);
}

ControlClient *control_client_new(Control *control, int fd)
{
    ControlClient *client = g_new0(ControlClient, 1);
    g_atomic_ref_count_init(&client->refs);
    client->control = control;
    client->fd = fd;
    client->came = client->behind = CONTROL_NO_DESCRIPTOR;
    client->reader = control_reader_new();
    client->drained = TRUE;
    client->output = g_string_new(NULL);
    update_source(client);
    return client;
}
