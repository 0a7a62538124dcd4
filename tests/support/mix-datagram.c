/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Datagrams that the guest sends back: UDP echo and ICMP echo requests (which need root). Numbered
 * from 1, of sizes that follow from the number, filled with it and checksummed: be64 number, be64
 * words of it, be64 xxh3 of all before. One in 16 is longer than a frame. See mix.h.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <xxhash.h>

#include "common/endian.h"
#include "common/fd.h"
#include "tests/support/mix_internal.h"

#define UDP_PORT     7
#define BUFFER_BYTES 65536
#define ICMP_BYTES   8u
/* Nothing that has not come back for so long does. */
#define LOST_AFTER_US (10 * G_USEC_PER_SEC)

typedef struct {
    ColoTime sent, answered; /* answered: .us is 0 until the first answer has come */
} Datagram;

typedef struct {
    MixLane *lane;
    int fd;
    gboolean icmp, ip6;
    guint16 id;       /* ICMP */
    GArray *sent;     /* of Datagram; number n is at n - 1 */
    guint decided;    /* those before this are answered or lost */
    guint unanswered; /* of those from there on */
    guint8 buffer[BUFFER_BYTES];
} Pinger;

static gsize size_of(guint64 number)
{
    return number % 16 == 0 ? 4000 : 24 + number * 61 % 1200 / 8 * 8;
}

static int open_socket(const MixLane *lane, GError **error)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(UDP_PORT)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(UDP_PORT)};
    gboolean ip6 = lane->kind->ip6;
    struct icmp6_filter filter;
    COLO_AUTO_FD fd = -1;

    if (!lane->kind->variant) {
        fd = socket(ip6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    } else {
        fd = socket(ip6 ? AF_INET6 : AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC,
                    ip6 ? (int)IPPROTO_ICMPV6 : (int)IPPROTO_ICMP);
        v6.sin6_port = 0;
        ICMP6_FILTER_SETBLOCKALL(&filter);
        ICMP6_FILTER_SETPASS(ICMP6_ECHO_REPLY, &filter);
        if (ip6)
            setsockopt(fd, IPPROTO_ICMPV6, ICMP6_FILTER, &filter, sizeof(filter));
    }
    if (inet_pton(ip6 ? AF_INET6 : AF_INET, lane->guest,
                  ip6 ? (void *)&v6.sin6_addr : &v4.sin_addr) != 1 ||
        fd < 0 || connect(fd, ip6 ? (void *)&v6 : &v4, ip6 ? sizeof(v6) : sizeof(v4)) < 0) {
        g_set_error(error, G_FILE_ERROR, G_FILE_ERROR_IO, "%s: no socket: %s", lane->kind->name,
                    g_strerror(errno));
        return -1;
    }
    return colo_fd_steal(&fd);
}

/* RFC 1071. */
static guint16 internet_checksum(const guint8 *data, gsize length)
{
    guint32 sum = 0;

    for (gsize i = 0; i < length; i += 2)
        sum += (guint32)(data[i] << 8 | data[i + 1]);
    while (sum > 0xffff)
        sum = (sum & 0xffff) + (sum >> 16);
    return (guint16)~sum;
}

static void send_next(Pinger *pinger, ColoTime now)
{
    Datagram datagram = {.sent = now};
    guint8 *record = pinger->buffer + ICMP_BYTES;
    guint64 number = pinger->sent->len + 1;
    gsize size = size_of(number), header = pinger->icmp ? ICMP_BYTES : 0;

    for (gsize at = 0; at < size - 8; at += 8)
        colo_put_be64(record + at, number);
    colo_put_be64(record + size - 8, XXH3_64bits(record, size - 8));
    if (pinger->icmp) {
        memset(pinger->buffer, 0, ICMP_BYTES);
        pinger->buffer[0] = pinger->ip6 ? ICMP6_ECHO_REQUEST : ICMP_ECHO;
        colo_put_be16(pinger->buffer + 4, pinger->id);
        colo_put_be16(pinger->buffer + 6, (guint16)number);
        if (!pinger->ip6)
            colo_put_be16(pinger->buffer + 2, internet_checksum(pinger->buffer, size + ICMP_BYTES));
    }
    /* One that can't be sent is lost as well as any. */
    (void)!send(pinger->fd, record - header, size + header, 0);
    g_array_append_val(pinger->sent, datagram);
    pinger->unanswered++;
    mix_begin(pinger->lane);
}

/* The record in what has been received; NULL: it is nobody's answer. */
static const guint8 *find_record(const Pinger *pinger, gsize length, gsize *ret_length)
{
    const guint8 *at = pinger->buffer;
    gsize header = pinger->icmp && !pinger->ip6 && length > 0 ? (at[0] & 15u) * 4u : 0;

    if (pinger->icmp) {
        if (length < header + ICMP_BYTES)
            return NULL;
        at += header;
        if (at[0] != (pinger->ip6 ? ICMP6_ECHO_REPLY : ICMP_ECHOREPLY) ||
            colo_get_be16(at + 4) != pinger->id)
            return NULL;
        header += ICMP_BYTES;
        at += ICMP_BYTES;
    }
    *ret_length = length - header;
    return at;
}

static gboolean is_whole(const Pinger *pinger, const guint8 *record, gsize length)
{
    guint64 number = length >= 24 ? colo_get_be64(record) : 0;

    return number > 0 && number <= pinger->sent->len && length == size_of(number) &&
           colo_get_be64(record + length - 8) == XXH3_64bits(record, length - 8);
}

static void count(Pinger *pinger, guint64 *counter)
{
    g_mutex_lock(&pinger->lane->lock);
    (*counter)++;
    g_mutex_unlock(&pinger->lane->lock);
}

/* Says of the first that counts when it came first, and when it was sent. */
static void count_duplicated(Pinger *pinger, guint number, const Datagram *datagram)
{
    MixFigures *figures = &pinger->lane->figures;

    if (mix_is_excused(pinger->lane, datagram->sent)) {
        count(pinger, &figures->excused_duplicated);
        return;
    }
    if (figures->duplicated == 0)
        g_snprintf(figures->error, sizeof(figures->error),
                   "the first was number %u, sent %" G_GINT64_FORMAT " ms before its first answer, "
                   "which came %" G_GINT64_FORMAT " ms before the second one, "
                   "%" G_GINT64_FORMAT " ms after an event",
                   number, colo_time_diff_us(datagram->answered, datagram->sent) / 1000,
                   colo_time_diff_us(colo_time_now(), datagram->answered) / 1000,
                   mix_since_event_us(pinger->lane, colo_time_now()) / 1000);
    count(pinger, &figures->duplicated);
}

static void take_answer(Pinger *pinger, const guint8 *record, gsize length)
{
    MixFigures *figures = &pinger->lane->figures;
    guint number;
    Datagram *datagram;

    if (!is_whole(pinger, record, length)) {
        count(pinger, &figures->corrupted);
        return;
    }
    number = (guint)colo_get_be64(record);
    datagram = &g_array_index(pinger->sent, Datagram, number - 1);
    if (datagram->answered.us != 0) {
        count_duplicated(pinger, number, datagram);
        return;
    }
    if (number <= pinger->decided)
        return;
    datagram->answered = colo_time_now();
    pinger->unanswered--;
    mix_done(pinger->lane, length);
    if (pinger->unanswered > 0)
        mix_begin(pinger->lane);
}

static void receive(Pinger *pinger)
{
    gssize n;

    while ((n = recv(pinger->fd, pinger->buffer, BUFFER_BYTES, 0)) >= 0) {
        gsize length = 0;
        const guint8 *record = find_record(pinger, (gsize)n, &length);

        if (record != NULL)
            take_answer(pinger, record, length);
    }
}

static void count_lost(Pinger *pinger, guint number, ColoTime sent)
{
    MixFigures *figures = &pinger->lane->figures;

    if (mix_is_excused(pinger->lane, sent)) {
        count(pinger, &figures->excused_lost);
        return;
    }
    if (figures->lost == 0)
        g_snprintf(figures->error, sizeof(figures->error),
                   "the first was number %u, %" G_GINT64_FORMAT " ms after an event", number,
                   mix_since_event_us(pinger->lane, sent) / 1000);
    count(pinger, &figures->lost);
}

/* Those that were sent before `then` and have not come back never will. */
static void give_up(Pinger *pinger, ColoTime then)
{
    while (pinger->decided < pinger->sent->len) {
        const Datagram *datagram = &g_array_index(pinger->sent, Datagram, pinger->decided);

        if (colo_time_diff_us(then, datagram->sent) <= 0)
            return;
        pinger->decided++;
        if (datagram->answered.us != 0)
            continue;
        pinger->unanswered--;
        count_lost(pinger, pinger->decided, datagram->sent);
    }
}

static void wait_and_receive(Pinger *pinger, gint64 us)
{
    struct pollfd readable = {.fd = pinger->fd, .events = POLLIN};
    struct timespec wait = {.tv_sec = us / G_USEC_PER_SEC, .tv_nsec = us % G_USEC_PER_SEC * 1000};

    ppoll(&readable, 1, &wait, NULL);
    receive(pinger);
}

void mix_run_datagrams(MixLane *lane)
{
    g_autofree Pinger *pinger = g_new0(Pinger, 1);
    const gint64 interval_us = MAX(lane->options->interval_us, COLO_US_PER_MS);
    g_autoptr(GArray) sent = g_array_new(FALSE, FALSE, sizeof(Datagram));
    g_autoptr(GError) error = NULL;
    COLO_AUTO_FD fd = open_socket(lane, &error);
    ColoTime due = colo_time_now(), end;

    if (fd < 0) {
        mix_fail(lane, error);
        return;
    }
    *pinger = (Pinger){.lane = lane,
                       .fd = fd,
                       .icmp = lane->kind->variant,
                       .ip6 = lane->kind->ip6,
                       .id = (guint16)g_random_int(),
                       .sent = sent};
    while (!mix_is_stopping(lane)) {
        ColoTime now = colo_time_now();

        if (colo_time_diff_us(now, due) >= 0) {
            send_next(pinger, now);
            due = colo_time_add_us(now, interval_us);
        }
        wait_and_receive(pinger, MAX(0, colo_time_diff_us(due, colo_time_now())));
        give_up(pinger, colo_time_add_us(now, -LOST_AFTER_US));
        if (pinger->unanswered == 0)
            mix_idle(lane);
    }
    end = colo_time_add_us(colo_time_now(), LOST_AFTER_US);
    while (pinger->unanswered > 0 && colo_time_diff_us(end, colo_time_now()) > 0)
        wait_and_receive(pinger, 50 * COLO_US_PER_MS);
    give_up(pinger, colo_time_add_us(colo_time_now(), 1));
}
