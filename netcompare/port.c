/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A port: the guest's card, as QEMU's filter-redirector with vnet_hdr_support sends and receives on
 * a stream socket. Both ways: be32 length of header and frame, be32 length of the virtio-net
 * header, header, frame (QEMU 7.2, net/filter-mirror.c and net/net.c, net_fill_rstate).
 *
 * The header's length is the card's business: virtio-net uses 12 bytes, or 10 with an old driver,
 * or 20 with hash reports; e1000e, igb and vmxnet3 use 10; e1000 and rtl8139 have none. On our side
 * a frame always has NETCOMPARE_VNET_HDR_BYTES. The three layouts begin alike, so a header is made
 * longer by zeroes and shorter by cutting. QEMU doesn't look at the length we send but takes what
 * the card uses. That is learned from the card's output, and assumed from its model before.
 *
 * Trust: lengths come from QEMU and a wrong one ends the port (there is no way to find the next
 * frame). The guest chooses the contents, and the length between 0 and QEMU's own limit: they never
 * end the port.
 *
 * QEMU's writes to this socket stall its main loop when the socket is full, so a port always reads.
 * Our writes never wait: what QEMU doesn't take is queued up to SEND_QUEUE_BYTES, then dropped.
 */
#include <errno.h>
#include <glib-unix.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "common/endian.h"
#include "common/fd.h"
#include "netcompare/netcompare.h"

#define FRAMING_BYTES  8u
#define ETHERNET_BYTES 14u
/* QEMU's NET_BUFSIZE: it neither sends nor takes more than this (the 20: our own slack). */
#define QEMU_FRAME_MAX_BYTES (4096u + 65536u + 20u)
/* Before the first byte read, so that a header can be made longer in place. */
#define SLACK_BYTES       NETCOMPARE_VNET_HDR_BYTES
#define READ_BUFFER_BYTES (SLACK_BYTES + 256u * 1024u)
#define SEND_QUEUE_BYTES  (4u * 1024u * 1024u)
#define SEND_BATCH        64

/* virtio-net header fields (virtio 1.2, 5.1.6) */
#define VNET_FLAG_NEEDS_CSUM 1u
enum { VNET_FLAGS = 0, VNET_GSO_TYPE = 1, VNET_CSUM_START = 6, VNET_CSUM_OFFSET = 8 };

typedef struct {
    gsize len, sent;
    guint8 data[];
} Chunk;

struct Port {
    int fd;
    int references; /* one for the owner, one for each call into user code on the stack */
    gboolean freed, dead;
    gboolean parsing;
    gboolean takes_offloads;
    unsigned card_header_bytes;
    GSource *in_source, *out_source;
    gsize have; /* bytes of buffer in use, from SLACK_BYTES on */
    guint8 *buffer;
    GQueue queue; /* of Chunk* */
    PortStats stats;
    FrameFunc output;
    NetErrorFunc failed;
    gpointer user_data;
};

G_DEFINE_QUARK(netcompare_error, netcompare_error)

gboolean port_model_has_offloads(const char *model)
{
    return g_str_has_prefix(model, "virtio-net");
}

void port_set_model(Port *port, const char *model)
{
    static const char *const with_short_header[] = {"e1000e", "igb", "vmxnet3", NULL};

    port->takes_offloads = port_model_has_offloads(model);
    port->card_header_bytes = port->takes_offloads ? NETCOMPARE_VNET_HDR_BYTES
                              : g_strv_contains(with_short_header, model) ? 10u
                                                                          : 0u;
}

static void port_unref(Port *port)
{
    if (--port->references > 0)
        return;
    g_queue_clear_full(&port->queue, g_free);
    g_free(port->buffer);
    g_free(port);
}

static void drop_source(GSource **source)
{
    if (*source == NULL)
        return;
    g_source_destroy(*source);
    g_clear_pointer(source, g_source_unref);
}

/* Ends the port and reports it, once. */
static void die(Port *port, int code, const char *what)
{
    if (port->dead || port->freed)
        return;
    port->dead = TRUE;
    drop_source(&port->in_source);
    drop_source(&port->out_source);
    g_autoptr(GError) error = g_error_new_literal(NETCOMPARE_ERROR, code, what);
    port->references++;
    port->failed(error, port->user_data);
    port_unref(port);
}

static void die_errno(Port *port, const char *what)
{
    g_autofree char *text = g_strdup_printf("network card: %s QEMU: %s", what, g_strerror(errno));
    die(port, NETCOMPARE_ERROR_CLOSED, text);
}

/* ---- From the guest ---- */

/*
 * Hands on one frame at `at`: a header of `header_bytes` and an Ethernet frame, `len` bytes in all.
 * The header is rewritten in place to our length: there are always FRAMING_BYTES and more bytes
 * before it that nobody needs any more.
 */
static void take_frame(Port *port, guint8 *at, gsize len, unsigned header_bytes)
{
    gsize frame_bytes = len - header_bytes;
    if (frame_bytes < ETHERNET_BYTES ||
        frame_bytes > NETCOMPARE_FRAME_MAX_BYTES - NETCOMPARE_VNET_HDR_BYTES) {
        port->stats.output_dropped++;
        return;
    }
    guint8 *header = at + header_bytes - NETCOMPARE_VNET_HDR_BYTES;
    unsigned common = MIN(header_bytes, NETCOMPARE_VNET_HDR_BYTES);
    memmove(header, at, common);
    memset(header + common, 0, NETCOMPARE_VNET_HDR_BYTES - common);
    port->stats.output_frames++;
    port->stats.output_bytes += frame_bytes;
    port->output(header, NETCOMPARE_VNET_HDR_BYTES + frame_bytes, port->user_data);
}

static gboolean check_framing(Port *port, guint32 len, guint32 header_bytes)
{
    g_autofree char *what = NULL;

    if (len > QEMU_FRAME_MAX_BYTES)
        what = g_strdup_printf("network card: QEMU announces a frame of %u bytes, more than the %u "
                               "that it can have (is vnet_hdr_support on?)",
                               len, QEMU_FRAME_MAX_BYTES);
    else if (header_bytes != 0 && header_bytes != 10 && header_bytes != 12 && header_bytes != 20)
        what = g_strdup_printf("network card: QEMU announces a virtio-net header of %u bytes, not "
                               "0, 10, 12 or 20",
                               header_bytes);
    else if (header_bytes > len)
        what = g_strdup_printf("network card: QEMU announces a virtio-net header of %u bytes in a "
                               "frame of %u",
                               header_bytes, len);
    if (what != NULL)
        die(port, NETCOMPARE_ERROR_FRAME, what);
    return what == NULL;
}

/* Hands on every whole frame in the buffer. Stops when the port is freed or dies. */
static void parse(Port *port)
{
    guint8 *start = port->buffer + SLACK_BYTES;
    gsize used = 0;

    while (!port->freed && !port->dead && port->have - used >= FRAMING_BYTES) {
        guint8 *at = start + used;
        guint32 len = colo_get_be32(at);
        guint32 header_bytes = colo_get_be32(at + 4);
        if (!check_framing(port, len, header_bytes))
            return;
        if (port->have - used - FRAMING_BYTES < len)
            break;
        port->card_header_bytes = header_bytes;
        used += FRAMING_BYTES + len;
        take_frame(port, at + FRAMING_BYTES, len, header_bytes);
    }
    memmove(start, start + used, port->have - used);
    port->have -= used;
}

/* Reads once and hands on. FALSE if nothing (more) is there now, or the port ended. */
static gboolean read_some(Port *port)
{
    gsize room = READ_BUFFER_BYTES - SLACK_BYTES - port->have;
    ssize_t n = recv(port->fd, port->buffer + SLACK_BYTES + port->have, room, MSG_DONTWAIT);
    if (n < 0) {
        if (errno == EINTR)
            return TRUE;
        if (errno != EAGAIN)
            die_errno(port, "reading from");
        return FALSE;
    }
    if (n == 0) {
        die(port, NETCOMPARE_ERROR_CLOSED, "network card: QEMU has closed its end");
        return FALSE;
    }
    port->have += (gsize)n;
    parse(port);
    return !port->freed && !port->dead;
}

/* One batch per turn of the main loop: READ_BUFFER_BYTES at most, so that others get their turn. */
static gboolean readable(int fd, GIOCondition condition, gpointer data)
{
    Port *port = data;
    (void)fd;
    (void)condition;
    if (port->parsing) /* a main loop run inside `output` */
        return G_SOURCE_CONTINUE;
    port->references++;
    port->parsing = TRUE;
    read_some(port);
    port->parsing = FALSE;
    gboolean gone = port->freed || port->dead;
    port_unref(port);
    return gone ? G_SOURCE_REMOVE : G_SOURCE_CONTINUE;
}

void port_drain(Port *port)
{
    if (port->parsing || port->dead)
        return;
    port->references++;
    port->parsing = TRUE;
    while (read_some(port)) {
    }
    port->parsing = FALSE;
    port_unref(port);
}

/* ---- To the guest ---- */

static gboolean writable(int fd, GIOCondition condition, gpointer data);

/* Sends what is queued, as far as QEMU takes it. */
static void flush(Port *port)
{
    while (!g_queue_is_empty(&port->queue)) {
        struct iovec iov[SEND_BATCH];
        size_t count = 0;
        for (GList *link = port->queue.head; link != NULL && count < SEND_BATCH;
             link = link->next) {
            Chunk *chunk = link->data;
            iov[count++] = (struct iovec){chunk->data + chunk->sent, chunk->len - chunk->sent};
        }
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = count};
        ssize_t n = sendmsg(port->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            if (errno != EAGAIN)
                die_errno(port, "writing to");
            return;
        }
        port->stats.queued_bytes -= (gsize)n;
        while (n > 0) {
            Chunk *chunk = g_queue_peek_head(&port->queue);
            gsize sent = MIN((gsize)n, chunk->len - chunk->sent);
            chunk->sent += sent;
            n -= (ssize_t)sent;
            if (chunk->sent == chunk->len)
                g_free(g_queue_pop_head(&port->queue));
        }
    }
    drop_source(&port->out_source);
}

static gboolean writable(int fd, GIOCondition condition, gpointer data)
{
    Port *port = data;
    (void)fd;
    (void)condition;
    port->references++;
    flush(port);
    gboolean more = !port->freed && !port->dead && port->out_source != NULL;
    port_unref(port);
    return more ? G_SOURCE_CONTINUE : G_SOURCE_REMOVE;
}

/* Queues the bytes of `iov` from byte `skip` on. */
static void enqueue(Port *port, const struct iovec *iov, size_t count, gsize skip)
{
    gsize len = 0;
    for (size_t i = 0; i < count; i++)
        len += iov[i].iov_len;
    Chunk *chunk = g_malloc(sizeof(Chunk) + len);
    chunk->len = len;
    chunk->sent = skip;
    gsize at = 0;
    for (size_t i = 0; i < count; i++) {
        memcpy(chunk->data + at, iov[i].iov_base, iov[i].iov_len);
        at += iov[i].iov_len;
    }
    g_queue_push_tail(&port->queue, chunk);
    port->stats.queued_bytes += len - skip;
    if (port->out_source == NULL) {
        port->out_source = g_unix_fd_source_new(port->fd, G_IO_OUT);
        g_source_set_callback(port->out_source, G_SOURCE_FUNC(writable), port, NULL);
        g_source_attach(port->out_source, NULL);
    }
}

/* The Internet checksum's sum over `len` bytes, folded, not inverted. */
static guint16 internet_sum(const guint8 *data, gsize len)
{
    guint64 sum = 0;
    for (; len >= 2; data += 2, len -= 2)
        sum += colo_get_be16(data);
    if (len > 0)
        sum += (guint16)(*data << 8);
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    return (guint16)sum;
}

/*
 * Makes a frame fit for a card without offloads. NULL if it is: `data` can be sent as it is. Else a
 * copy whose checksum is finished, or FALSE through `ret_fits` for what can't be made to fit (a
 * super-frame, a header that points outside). Free with g_free().
 */
static guint8 *fit_plain_card(const guint8 *data, gsize len, gboolean *ret_fits)
{
    *ret_fits = data[VNET_GSO_TYPE] == 0;
    if (!*ret_fits || !(data[VNET_FLAGS] & VNET_FLAG_NEEDS_CSUM))
        return NULL;
    gsize start =
        NETCOMPARE_VNET_HDR_BYTES + (data[VNET_CSUM_START] | data[VNET_CSUM_START + 1] << 8);
    gsize at = start + (data[VNET_CSUM_OFFSET] | data[VNET_CSUM_OFFSET + 1] << 8);
    if (at + 2 > len) {
        *ret_fits = FALSE;
        return NULL;
    }
    guint8 *copy = g_memdup2(data, len);
    guint16 checksum = (guint16)~internet_sum(copy + start, len - start);
    colo_put_be16(copy + at, checksum == 0 ? 0xffff : checksum);
    memset(copy, 0, NETCOMPARE_VNET_HDR_BYTES);
    return copy;
}

/* Frames and sends, or queues what QEMU doesn't take now. FALSE: no room. */
static gboolean send_frame(Port *port, const guint8 *data, gsize len)
{
    static const guint8 zeroes[20];
    unsigned header_bytes = port->card_header_bytes;
    unsigned common = MIN(header_bytes, NETCOMPARE_VNET_HDR_BYTES);
    gsize frame_bytes = len - NETCOMPARE_VNET_HDR_BYTES;
    guint8 framing[FRAMING_BYTES];
    colo_put_be32(framing, (guint32)(header_bytes + frame_bytes));
    colo_put_be32(framing + 4, header_bytes);
    struct iovec iov[] = {
        {framing,                                    FRAMING_BYTES        },
        {(guint8 *)data,                             common               },
        {(guint8 *)zeroes,                           header_bytes - common},
        {(guint8 *)data + NETCOMPARE_VNET_HDR_BYTES, frame_bytes          },
    };
    gsize total = FRAMING_BYTES + header_bytes + frame_bytes;
    ssize_t n = 0;

    if (port->stats.queued_bytes + total > SEND_QUEUE_BYTES)
        return FALSE;
    if (g_queue_is_empty(&port->queue)) {
        struct msghdr message = {.msg_iov = iov, .msg_iovlen = G_N_ELEMENTS(iov)};
        n = sendmsg(port->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        /* A broken socket is noticed by the reading side, which tells the owner. */
        n = MAX(n, 0);
    }
    if ((gsize)n < total)
        enqueue(port, iov, G_N_ELEMENTS(iov), (gsize)n);
    port->stats.input_frames++;
    port->stats.input_bytes += frame_bytes;
    return TRUE;
}

gboolean port_send(Port *port, const guint8 *data, gsize len)
{
    gboolean fits = !port->dead && len >= NETCOMPARE_VNET_HDR_BYTES + ETHERNET_BYTES &&
                    len <= NETCOMPARE_FRAME_MAX_BYTES;
    g_autofree guint8 *copy = NULL;

    if (fits && !port->takes_offloads)
        copy = fit_plain_card(data, len, &fits);
    fits = fits && send_frame(port, copy != NULL ? copy : data, len);
    if (!fits)
        port->stats.input_dropped++;
    return fits;
}

gboolean port_is_read(const Port *port)
{
    int unread = 0;
    return port->stats.queued_bytes == 0 && (ioctl(port->fd, SIOCOUTQ, &unread) < 0 || unread == 0);
}

/* ---- */

Port *port_new(int fd, FrameFunc output, NetErrorFunc failed, gpointer user_data)
{
    Port *port = g_new0(Port, 1);
    port->fd = fd;
    port->references = 1;
    port->output = output;
    port->failed = failed;
    port->user_data = user_data;
    port->buffer = g_malloc(READ_BUFFER_BYTES);
    g_queue_init(&port->queue);
    port_set_model(port, "virtio-net-pci");
    port->in_source = colo_fd_watch_new(fd, G_IO_IN | G_IO_HUP | G_IO_ERR);
    g_source_set_callback(port->in_source, G_SOURCE_FUNC(readable), port, NULL);
    g_source_attach(port->in_source, NULL);
    return port;
}

void port_free(Port *port)
{
    if (port == NULL)
        return;
    port->freed = TRUE;
    drop_source(&port->in_source);
    drop_source(&port->out_source);
    port_unref(port);
}

const PortStats *port_stats(const Port *port)
{
    return &port->stats;
}
