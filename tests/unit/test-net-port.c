/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The port over a socketpair: the test plays QEMU's filter-redirector at the other end. */
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/endian.h"
#include "common/fd.h"
#include "netcompare/netcompare.h"

typedef struct {
    Port *port;
    int qemu;       /* the other end */
    int fd;         /* the port's end */
    GPtrArray *got; /* of GBytes* */
    GError *error;
    unsigned failures;
    gboolean free_in_output, free_in_failed, drain_in_output;
} Fixture;

static void on_output(const guint8 *data, gsize len, gpointer user_data)
{
    Fixture *f = user_data;
    g_ptr_array_add(f->got, g_bytes_new(data, len));
    if (f->drain_in_output)
        port_drain(f->port);
    if (f->free_in_output)
        g_clear_pointer(&f->port, port_free);
}

static void on_failed(const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    f->failures++;
    g_clear_error(&f->error);
    f->error = g_error_copy(error);
    if (f->free_in_failed)
        g_clear_pointer(&f->port, port_free);
}

static void setup(Fixture *f, gconstpointer data)
{
    int pair[2];
    (void)data;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), ==, 0);
    *f = (Fixture){.fd = pair[0], .qemu = pair[1]};
    f->got = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    f->port = port_new(f->fd, on_output, on_failed, f);
}

static void teardown(Fixture *f, gconstpointer data)
{
    (void)data;
    port_free(f->port);
    colo_fd_close(&f->fd);
    colo_fd_close(&f->qemu);
    g_ptr_array_unref(f->got);
    g_clear_error(&f->error);
}

/* What QEMU writes: both lengths, a header whose byte i is i + 1, a frame of `fill`. */
static GByteArray *framed(guint32 header_bytes, gsize frame_bytes, guint8 fill)
{
    GByteArray *out = g_byte_array_new();
    g_byte_array_set_size(out, (guint)(8 + header_bytes + frame_bytes));
    colo_put_be32(out->data, (guint32)(header_bytes + frame_bytes));
    colo_put_be32(out->data + 4, header_bytes);
    for (guint32 i = 0; i < header_bytes; i++)
        out->data[8 + i] = (guint8)(i + 1);
    memset(out->data + 8 + header_bytes, fill, frame_bytes);
    return out;
}

static void qemu_writes(Fixture *f, const void *data, gsize len)
{
    g_autoptr(GError) error = NULL;
    colo_fd_write_all(f->qemu, data, len, &error);
    g_assert_no_error(error);
}

static void qemu_sends(Fixture *f, guint32 header_bytes, gsize frame_bytes, guint8 fill)
{
    g_autoptr(GByteArray) bytes = framed(header_bytes, frame_bytes, fill);
    qemu_writes(f, bytes->data, bytes->len);
}

static void assert_frame(Fixture *f, guint index, const guint8 header[12], gsize frame_bytes,
                         guint8 fill)
{
    gsize len;
    g_assert_cmpuint(index, <, f->got->len);
    const guint8 *data = g_bytes_get_data(g_ptr_array_index(f->got, index), &len);
    g_assert_cmpuint(len, ==, 12 + frame_bytes);
    g_assert_cmpmem(data, 12, header, 12);
    for (gsize i = 12; i < len; i++)
        g_assert_cmpuint(data[i], ==, fill);
}

static const guint8 header_12[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
static const guint8 header_10[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
static const guint8 header_0[12] = {0};

static void test_header_lengths(Fixture *f, gconstpointer data)
{
    (void)data;
    for (int round = 0; round < 2; round++) {
        qemu_sends(f, 0, 60, 'a');
        qemu_sends(f, 10, 14, 'b');
        qemu_sends(f, 12, 1514, 'c');
        qemu_sends(f, 20, 60, 'd');
    }
    port_drain(f->port);
    g_assert_cmpuint(f->got->len, ==, 8);
    for (guint i = 0; i < 8; i += 4) {
        assert_frame(f, i, header_0, 60, 'a');
        assert_frame(f, i + 1, header_10, 14, 'b');
        assert_frame(f, i + 2, header_12, 1514, 'c');
        assert_frame(f, i + 3, header_12, 60, 'd');
    }
    g_assert_cmpuint(port_stats(f->port)->output_frames, ==, 8);
    g_assert_cmpuint(port_stats(f->port)->output_bytes, ==, 2 * (60 + 14 + 1514 + 60));
}

/* Any split of the byte stream gives the same frames, by main loop and by drain. */
static void test_split_anywhere(Fixture *f, gconstpointer data)
{
    (void)data;
    g_autoptr(GByteArray) all = g_byte_array_new();
    for (guint32 i = 0; i < 40; i++) {
        static const guint32 headers[] = {0, 10, 12, 20};
        g_autoptr(GByteArray) one = framed(headers[i % 4], 14 + i, (guint8)i);
        g_byte_array_append(all, one->data, one->len);
    }
    for (int round = 0; round < 20; round++) {
        g_ptr_array_set_size(f->got, 0);
        for (gsize at = 0; at < all->len;) {
            gsize n = (gsize)g_test_rand_int_range(1, 60);
            n = MIN(n, all->len - at);
            qemu_writes(f, all->data + at, n);
            at += n;
            if (round % 2 == 0)
                port_drain(f->port);
            else
                while (g_main_context_iteration(NULL, FALSE)) {
                }
        }
        g_assert_cmpuint(f->got->len, ==, 40);
        for (guint i = 0; i < 40; i++)
            assert_frame(f, i,
                         i % 4 == 0   ? header_0
                         : i % 4 == 1 ? header_10
                                      : header_12,
                         14 + i, (guint8)i);
    }
}

static gpointer write_many(gpointer user_data)
{
    Fixture *f = user_data;
    for (guint i = 0; i < 200; i++)
        qemu_sends(f, 12, i % 2 ? 65549 : 60, (guint8)i);
    return NULL;
}

/* Super-frames, more of them than any buffer holds. */
static void test_super_frames(Fixture *f, gconstpointer data)
{
    (void)data;
    GThread *thread = g_thread_new("qemu", write_many, f);
    while (f->got->len < 200)
        g_main_context_iteration(NULL, TRUE);
    g_thread_join(thread);
    for (guint i = 0; i < 200; i++)
        assert_frame(f, i, header_12, i % 2 ? 65549 : 60, (guint8)i);
}

/* What a guest may do with its card ends neither the port nor the frames around it. */
static void test_bad_guest_frames_are_dropped(Fixture *f, gconstpointer data)
{
    (void)data;
    qemu_sends(f, 12, 60, 'a');
    qemu_sends(f, 12, 13, 'x');
    qemu_sends(f, 12, 0, 'x');
    qemu_sends(f, 0, 0, 'x');
    port_drain(f->port);
    qemu_sends(f, 12, 65536 + 23, 'x');
    qemu_sends(f, 12, 60, 'b');
    port_drain(f->port);
    qemu_sends(f, 12, 65536 + 22, 'c');
    port_drain(f->port);
    g_assert_no_error(f->error);
    g_assert_cmpuint(f->got->len, ==, 3);
    assert_frame(f, 1, header_12, 60, 'b');
    assert_frame(f, 2, header_12, 65536 + 22, 'c');
    g_assert_cmpuint(port_stats(f->port)->output_dropped, ==, 4);
}

static void assert_bad_framing(Fixture *f, guint32 len, guint32 header_bytes, const char *what)
{
    guint8 lengths[8];
    qemu_sends(f, 12, 60, 'a');
    colo_put_be32(lengths, len);
    colo_put_be32(lengths + 4, header_bytes);
    qemu_writes(f, lengths, sizeof(lengths));
    qemu_sends(f, 12, 60, 'b');
    while (f->failures == 0)
        g_main_context_iteration(NULL, TRUE);
    g_assert_error(f->error, NETCOMPARE_ERROR, NETCOMPARE_ERROR_FRAME);
    g_assert_nonnull(strstr(f->error->message, what));
    g_assert_cmpuint(f->got->len, ==, 1);
    /* Dead: no second failure, nothing sent, draining does nothing. */
    guint8 frame[72] = {0};
    g_assert_false(port_send(f->port, frame, sizeof(frame)));
    port_drain(f->port);
    g_assert_false(g_main_context_iteration(NULL, FALSE));
    g_assert_cmpuint(f->failures, ==, 1);
}

static void test_frame_too_long(Fixture *f, gconstpointer data)
{
    (void)data;
    assert_bad_framing(f, 80000, 12, "80000 bytes");
}

static void test_header_unknown(Fixture *f, gconstpointer data)
{
    (void)data;
    assert_bad_framing(f, 60, 11, "header of 11 bytes");
}

static void test_header_beyond_frame(Fixture *f, gconstpointer data)
{
    (void)data;
    assert_bad_framing(f, 11, 12, "header of 12 bytes in a frame of 11");
}

static void test_closed(Fixture *f, gconstpointer data)
{
    (void)data;
    qemu_sends(f, 12, 60, 'a');
    colo_fd_close(&f->qemu);
    while (f->failures == 0)
        g_main_context_iteration(NULL, TRUE);
    g_assert_error(f->error, NETCOMPARE_ERROR, NETCOMPARE_ERROR_CLOSED);
    g_assert_cmpuint(f->got->len, ==, 1); /* its last words count */
    g_assert_false(g_main_context_iteration(NULL, FALSE));
    g_assert_cmpuint(f->failures, ==, 1);
}

static void test_closed_while_sending(Fixture *f, gconstpointer data)
{
    (void)data;
    guint8 frame[72] = {0};
    colo_fd_close(&f->qemu);
    port_send(f->port, frame, sizeof(frame));
    while (f->failures == 0)
        g_main_context_iteration(NULL, TRUE);
    g_assert_error(f->error, NETCOMPARE_ERROR, NETCOMPARE_ERROR_CLOSED);
    g_assert_false(g_main_context_iteration(NULL, FALSE));
    g_assert_cmpuint(f->failures, ==, 1);
}

static void test_free_in_output(Fixture *f, gconstpointer data)
{
    (void)data;
    f->free_in_output = TRUE;
    qemu_sends(f, 12, 60, 'a');
    qemu_sends(f, 12, 60, 'b');
    port_drain(f->port);
    g_assert_cmpuint(f->got->len, ==, 1);
    f->port = port_new(f->fd, on_output, on_failed, f);
    qemu_sends(f, 12, 60, 'c');
    while (f->got->len < 2)
        g_main_context_iteration(NULL, TRUE);
    g_assert_null(f->port);
}

static void test_free_in_failed(Fixture *f, gconstpointer data)
{
    (void)data;
    f->free_in_failed = TRUE;
    colo_fd_close(&f->qemu);
    while (f->failures == 0)
        g_main_context_iteration(NULL, TRUE);
    g_assert_null(f->port);
}

static void test_drain_in_output(Fixture *f, gconstpointer data)
{
    (void)data;
    f->drain_in_output = TRUE;
    qemu_sends(f, 12, 60, 'a');
    qemu_sends(f, 12, 60, 'b');
    port_drain(f->port);
    g_assert_cmpuint(f->got->len, ==, 2);
    assert_frame(f, 1, header_12, 60, 'b');
}

/* ---- To the guest ---- */

/* Reads one frame as QEMU would; checks the framing and returns header and frame. */
static GByteArray *qemu_reads(Fixture *f, guint32 header_bytes)
{
    guint8 lengths[8];
    g_autoptr(GError) error = NULL;
    colo_fd_read_all(f->qemu, lengths, sizeof(lengths), &error);
    g_assert_no_error(error);
    g_assert_cmpuint(colo_get_be32(lengths + 4), ==, header_bytes);
    GByteArray *frame = g_byte_array_new();
    g_byte_array_set_size(frame, colo_get_be32(lengths));
    colo_fd_read_all(f->qemu, frame->data, frame->len, &error);
    g_assert_no_error(error);
    return frame;
}

static void fill_frame(guint8 *frame, gsize len)
{
    memset(frame, 0, len);
    for (gsize i = 0; i < 12; i++)
        frame[i] = (guint8)(i > 1 ? 100 + i : 0);
    memset(frame + 12, 'f', len - 12);
}

static void test_send_takes_the_cards_header(Fixture *f, gconstpointer data)
{
    static const struct {
        const char *model;
        guint32 header_bytes;
    } models[] = {
        {"virtio-net-pci",    12},
        {"virtio-net-device", 12},
        {"e1000",             0 },
        {"rtl8139",           0 },
        {"e1000e",            10},
        {"vmxnet3",           10},
    };
    guint8 frame[12 + 60];
    (void)data;
    fill_frame(frame, sizeof(frame));
    for (gsize i = 0; i < G_N_ELEMENTS(models); i++) {
        guint32 n = models[i].header_bytes;
        port_set_model(f->port, models[i].model);
        g_assert_true(port_send(f->port, frame, sizeof(frame)));
        g_autoptr(GByteArray) got = qemu_reads(f, n);
        g_assert_cmpmem(got->data, n, frame, n);
        g_assert_cmpmem(got->data + n, got->len - n, frame + 12, 60);
    }
    /* What the card itself uses counts more than its model. */
    static const guint32 learned[] = {20, 10, 0, 12};
    for (gsize i = 0; i < G_N_ELEMENTS(learned); i++) {
        guint32 n = learned[i], common = MIN(n, 12u);
        qemu_sends(f, n, 60, 'x');
        port_drain(f->port);
        g_assert_true(port_send(f->port, frame, sizeof(frame)));
        g_autoptr(GByteArray) got = qemu_reads(f, n);
        g_assert_cmpmem(got->data, common, frame, common);
        g_assert_cmpmem(got->data + n, got->len - n, frame + 12, 60);
    }
}

/* A guest that doesn't read: bounded, dropped with an answer, and whole frames in order after it.
 */
static void test_send_is_bounded(Fixture *f, gconstpointer data)
{
    g_autofree guint8 *frame = g_malloc(12 + 9000);
    guint32 sent = 0, dropped = 0;
    (void)data;
    fill_frame(frame, 12 + 9000);
    while (dropped < 10) {
        colo_put_be32(frame + 12, sent);
        if (port_send(f->port, frame, 12 + 9000))
            sent++;
        else
            dropped++;
        g_assert_cmpuint(sent, <, 100000);
    }
    g_assert_cmpuint(port_stats(f->port)->input_dropped, ==, dropped);
    g_assert_cmpuint(port_stats(f->port)->queued_bytes, <=, 4u << 20);

    GByteArray *all = g_byte_array_new();
    guint8 buffer[65536];
    gsize expected = (gsize)sent * (8 + 12 + 9000);
    colo_fd_set_nonblocking(f->qemu, TRUE, NULL);
    while (all->len < expected) {
        ssize_t n = read(f->qemu, buffer, sizeof(buffer));
        if (n > 0)
            g_byte_array_append(all, buffer, (guint)n);
        else
            g_main_context_iteration(NULL, TRUE);
    }
    for (guint32 i = 0; i < sent; i++) {
        const guint8 *at = all->data + (gsize)i * (8 + 12 + 9000);
        g_assert_cmpuint(colo_get_be32(at), ==, 12 + 9000);
        g_assert_cmpuint(colo_get_be32(at + 20), ==, i);
    }
    g_byte_array_unref(all);
    g_assert_cmpuint(port_stats(f->port)->queued_bytes, ==, 0);
    colo_put_be32(frame + 12, 7);
    g_assert_true(port_send(f->port, frame, 12 + 9000));
}

static void test_is_read(Fixture *f, gconstpointer data)
{
    guint8 frame[12 + 60] = {0}, byte;
    guint8 bytes[2 * (8 + 12 + 60)];
    (void)data;
    g_assert_true(port_is_read(f->port));
    g_assert_true(port_send(f->port, frame, sizeof(frame)));
    g_assert_false(port_is_read(f->port));
    g_assert_true(port_send(f->port, frame, sizeof(frame)));
    g_assert_cmpint(recv(f->qemu, &byte, 1, 0), ==, 1);
    g_assert_false(port_is_read(f->port));
    g_assert_cmpint(recv(f->qemu, bytes, sizeof(bytes), 0), ==, sizeof(bytes) - 1);
    g_assert_true(port_is_read(f->port));
}

static void test_send_refuses_bad_lengths(Fixture *f, gconstpointer data)
{
    g_autofree guint8 *frame = g_malloc0(NETCOMPARE_FRAME_MAX_BYTES + 1);
    (void)data;
    g_assert_false(port_send(f->port, frame, 0));
    g_assert_false(port_send(f->port, frame, 12 + 13));
    g_assert_false(port_send(f->port, frame, NETCOMPARE_FRAME_MAX_BYTES + 1));
    g_assert_true(port_send(f->port, frame, 12 + 14));
    g_assert_cmpuint(port_stats(f->port)->input_dropped, ==, 3);
}

/* UDP over IPv4 with only the pseudo-header summed up, as the kernel gives it. */
static gsize make_partial_udp(guint8 *frame)
{
    static const guint8 packet[] = {
        0,    0, 0, 0,  0, 0,  0, 0, 0,   0,   0,   0, 8,  0,                    /* Ethernet */
        0x45, 0, 0, 31, 0, 0,  0, 0, 64,  17,  0,   0, 10, 0, 0, 1, 10, 0, 0, 2, /* IPv4 */
        0,    1, 0, 2,  0, 11, 0, 0, 'a', 'b', 'c',                              /* UDP */
    };
    memset(frame, 0, 12);
    memcpy(frame + 12, packet, sizeof(packet));
    frame[0] = 1;  /* VIRTIO_NET_HDR_F_NEEDS_CSUM */
    frame[6] = 34; /* csum_start */
    frame[8] = 6;  /* csum_offset */
    colo_put_be16(frame + 12 + 34 + 6, 0x0a00 + 1 + 0x0a00 + 2 + 17 + 11);
    return 12 + sizeof(packet);
}

/* A card without offloads gets finished checksums, and no super-frame. */
static void test_plain_card(Fixture *f, gconstpointer data)
{
    guint8 frame[128];
    gsize len = make_partial_udp(frame);
    (void)data;
    port_set_model(f->port, "e1000");
    g_assert_true(port_send(f->port, frame, len));
    g_autoptr(GByteArray) got = qemu_reads(f, 0);
    /* Over the pseudo-header and the datagram, a right checksum sums to ffff. */
    guint32 sum = 0x0a00 + 1 + 0x0a00 + 2 + 17 + 11 + ('c' << 8);
    for (gsize i = 34; i < 44; i += 2)
        sum += colo_get_be16(got->data + i);
    g_assert_cmphex((sum & 0xffff) + (sum >> 16), ==, 0xffff);
    g_assert_cmphex(colo_get_be16(got->data + 40), !=, colo_get_be16(frame + 12 + 40));

    frame[6] = 200; /* points outside */
    g_assert_false(port_send(f->port, frame, len));
    frame[6] = 34;
    frame[7] = 0xff;
    g_assert_false(port_send(f->port, frame, len));
    make_partial_udp(frame);
    frame[1] = 1; /* VIRTIO_NET_HDR_GSO_TCPV4 */
    g_assert_false(port_send(f->port, frame, len));
    g_assert_cmpuint(port_stats(f->port)->input_dropped, ==, 3);

    /* A card with offloads gets all as it is. */
    port_set_model(f->port, "virtio-net-pci");
    g_assert_true(port_send(f->port, frame, len));
    g_autoptr(GByteArray) same = qemu_reads(f, 12);
    g_assert_cmpmem(same->data, same->len, frame, len);
}

static void test_free_null(void)
{
    port_free(NULL);
}

#define ADD(name, func) g_test_add("/port/" name, Fixture, NULL, setup, func, teardown)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    ADD("header-lengths", test_header_lengths);
    ADD("split-anywhere", test_split_anywhere);
    ADD("super-frames", test_super_frames);
    ADD("bad-guest-frames-are-dropped", test_bad_guest_frames_are_dropped);
    ADD("frame-too-long", test_frame_too_long);
    ADD("header-unknown", test_header_unknown);
    ADD("header-beyond-frame", test_header_beyond_frame);
    ADD("closed", test_closed);
    ADD("closed-while-sending", test_closed_while_sending);
    ADD("free-in-output", test_free_in_output);
    ADD("free-in-failed", test_free_in_failed);
    ADD("drain-in-output", test_drain_in_output);
    ADD("send-takes-the-cards-header", test_send_takes_the_cards_header);
    ADD("send-is-bounded", test_send_is_bounded);
    ADD("is-read", test_is_read);
    ADD("send-refuses-bad-lengths", test_send_refuses_bad_lengths);
    ADD("plain-card", test_plain_card);
    g_test_add_func("/port/free-null", test_free_null);
    return g_test_run();
}
