/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/fake-front.h"

#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"

#define BUFFER_BYTES 2048u

/* ---- The card's owner ---- */

static void on_output(const guint8 *data, gsize len, gpointer user_data)
{
    FakeFront *front = user_data;
    g_ptr_array_add(front->got, g_bytes_new(data, len));
    front->takes--;
    if (front->drain_in_output)
        vhost_card_drain(front->card);
    if (front->free_in_output)
        g_clear_pointer(&front->card, vhost_card_free);
}

static gboolean on_takes(gsize len, gpointer user_data)
{
    FakeFront *front = user_data;
    if (front->free_in_takes)
        g_clear_pointer(&front->card, vhost_card_free);
    front->asked_for = len;
    return front->takes > 0;
}

static void on_room(gpointer user_data)
{
    FakeFront *front = user_data;
    front->rooms++;
}

static void on_broken(const GError *error, gpointer user_data)
{
    FakeFront *front = user_data;
    g_assert_error(error, VHOST_ERROR, VHOST_ERROR_RING);
    g_ptr_array_add(front->broken, g_strdup(error->message));
}

static void on_failed(const GError *error, gpointer user_data)
{
    FakeFront *front = user_data;
    g_assert_no_error(front->failure);
    front->failure = g_error_copy(error);
    if (front->free_in_failed)
        g_clear_pointer(&front->card, vhost_card_free);
}

void fake_front_attach(FakeFront *front)
{
    static const VhostHandler handler = {.output = on_output,
                                         .takes = on_takes,
                                         .room = on_room,
                                         .broken = on_broken,
                                         .failed = on_failed};
    vhost_card_set_handler(front->card, &handler, front);
}

/* ---- Life ---- */

static void init_drivers(FakeFront *front)
{
    guint64 at = 0;
    for (guint i = 0; i < VHOST_RINGS; i++)
        at = ring_driver_init(&front->drivers[i], front->ram.base, FRONT_GUEST, at, FRONT_RING,
                              TRUE);
    front->free = at;
}

void fake_front_init(FakeFront *front)
{
    int pair[2];
    memset(front, 0, sizeof(*front));
    front->takes = G_MAXUINT;
    front->ram.memfd = memfd_create("fake-ram", MFD_CLOEXEC);
    front->ram.size_bytes = FRONT_RAM_BYTES;
    g_assert_cmpint(ftruncate(front->ram.memfd, FRONT_RAM_BYTES), ==, 0);
    front->ram.base =
        mmap(NULL, FRONT_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, front->ram.memfd, 0);
    front->ram.log = ram_log_new(FRONT_RAM_BYTES);
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), ==,
                    0);
    front->fd = pair[1];
    front->card = vhost_card_new_connected(&front->ram, pair[0]);
    front->got = g_ptr_array_new_with_free_func((GDestroyNotify)g_bytes_unref);
    front->broken = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < VHOST_RINGS; i++)
        front->kicks[i] = front->calls[i] = -1;
    /* What a Linux guest takes of it. */
    front->features = 1ull << 32 | 1ull << 30 | 1ull << 29 | 1ull << 28 | 1ull << 15;
    init_drivers(front);
}

void fake_front_clear(FakeFront *front)
{
    vhost_card_free(front->card);
    for (guint i = 0; i < VHOST_RINGS; i++) {
        colo_fd_close(&front->kicks[i]);
        colo_fd_close(&front->calls[i]);
    }
    colo_fd_close(&front->fd);
    munmap(front->ram.base, FRONT_RAM_BYTES);
    colo_fd_close(&front->ram.memfd);
    ram_log_free(front->ram.log);
    g_ptr_array_unref(front->got);
    g_ptr_array_unref(front->broken);
    g_clear_error(&front->failure);
}

void fake_front_settle(void)
{
    while (g_main_context_iteration(NULL, FALSE)) {
    }
}

/* ---- Messages ---- */

void fake_front_send(FakeFront *front, guint32 request, guint32 flags, gconstpointer payload,
                     gsize len, const int *fds, guint count)
{
    guint32 header[3] = {request, 1 | flags, (guint32)len};
    struct iovec iov[] = {
        {header,          sizeof(header)},
        {(void *)payload, len           },
    };
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(16 * sizeof(int))];
    } control = {0};
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = len ? 2 : 1};
    if (count > 0) {
        message.msg_control = control.space;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&message);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(c), fds, count * sizeof(int));
    }
    g_assert_cmpint(sendmsg(front->fd, &message, MSG_NOSIGNAL), ==, (gssize)(12 + len));
}

guint64 fake_front_answer(FakeFront *front, guint32 request)
{
    struct {
        guint32 request, flags, size, low, high;
    } answer;
    ssize_t got;
    while ((got = recv(front->fd, &answer, sizeof(answer), MSG_DONTWAIT)) < 0)
        g_main_context_iteration(NULL, TRUE);
    g_assert_cmpint(got, ==, sizeof(answer));
    g_assert_cmpuint(answer.request, ==, request);
    g_assert_cmpuint(answer.flags, ==, 1 | 4);
    g_assert_cmpuint(answer.size, ==, 8);
    return (guint64)answer.high << 32 | answer.low;
}

void fake_front_set(FakeFront *front, guint32 request, guint64 value)
{
    fake_front_send(front, request, 0, &value, sizeof(value), NULL, 0);
}

guint64 fake_front_ask(FakeFront *front, guint32 request)
{
    fake_front_send(front, request, 0, NULL, 0, NULL, 0);
    return fake_front_answer(front, request);
}

void fake_front_set_ring(FakeFront *front, guint32 request, guint ring, guint32 value)
{
    guint32 state[] = {ring, value};
    fake_front_send(front, request, 0, state, sizeof(state), NULL, 0);
}

void fake_front_set_ring_fd(FakeFront *front, guint32 request, guint ring, int fd)
{
    guint64 value = fd >= 0 ? ring : ring | 0x100;
    fake_front_send(front, request, 0, &value, sizeof(value), &fd, fd >= 0 ? 1 : 0);
}

void fake_front_set_memory(FakeFront *front)
{
    guint64 table[] = {1, FRONT_GUEST, FRONT_RAM_BYTES, FRONT_USER, 0};
    fake_front_send(front, VHOST_SET_MEM_TABLE, 8, table, sizeof(table), &front->ram.memfd, 1);
    g_assert_cmpuint(fake_front_answer(front, VHOST_SET_MEM_TABLE), ==, 0);
}

void fake_front_greet(FakeFront *front)
{
    guint64 offered = fake_front_ask(front, VHOST_GET_FEATURES);
    g_assert_cmpuint(offered & front->features, ==, front->features);
    fake_front_set(front, VHOST_SET_PROTOCOL_FEATURES,
                   fake_front_ask(front, VHOST_GET_PROTOCOL_FEATURES));
    fake_front_send(front, VHOST_SET_OWNER, 0, NULL, 0, NULL, 0);
}

static void renew(int *fd)
{
    colo_fd_close(fd);
    *fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

void fake_front_start_ring(FakeFront *front, guint ring, guint16 next)
{
    const RingDriver *driver = &front->drivers[ring];
    struct {
        guint32 ring, flags;
        guint64 desc, used, avail, log;
    } place = {
        ring, 0, FRONT_USER + driver->desc, FRONT_USER + driver->used, FRONT_USER + driver->avail,
        0};
    fake_front_set_ring(front, VHOST_SET_VRING_NUM, ring, driver->size);
    fake_front_set_ring(front, VHOST_SET_VRING_BASE, ring, next);
    fake_front_send(front, VHOST_SET_VRING_ADDR, 0, &place, sizeof(place), NULL, 0);
    renew(&front->kicks[ring]);
    renew(&front->calls[ring]);
    fake_front_set_ring_fd(front, VHOST_SET_VRING_KICK, ring, front->kicks[ring]);
    fake_front_set_ring_fd(front, VHOST_SET_VRING_CALL, ring, front->calls[ring]);
}

void fake_front_start(FakeFront *front, guint16 to_guest, guint16 from_guest)
{
    fake_front_set(front, VHOST_SET_FEATURES, front->features);
    fake_front_set_memory(front);
    for (guint ring = 0; ring < VHOST_RINGS; ring++)
        fake_front_set_ring(front, VHOST_SET_VRING_ENABLE, ring, 1);
    fake_front_start_ring(front, VHOST_TO_GUEST, to_guest);
    fake_front_start_ring(front, VHOST_FROM_GUEST, from_guest);
    fake_front_ask(front, VHOST_GET_FEATURES); /* so all before has been read */
}

guint16 fake_front_stop_ring(FakeFront *front, guint ring)
{
    fake_front_set_ring(front, VHOST_GET_VRING_BASE, ring, 0);
    guint64 answer = fake_front_answer(front, VHOST_GET_VRING_BASE);
    g_assert_cmpuint(answer & 0xffffffff, ==, ring);
    return (guint16)(answer >> 32);
}

void fake_front_reset_driver(FakeFront *front)
{
    init_drivers(front);
}

/* ---- The driver ---- */

static guint64 buffer(const FakeFront *front, guint ring, guint n)
{
    return front->free + (ring * FRONT_RING + n % FRONT_RING) * (guint64)BUFFER_BYTES;
}

static void kick(FakeFront *front, guint ring, guint16 before)
{
    if (ring_driver_must_kick(&front->drivers[ring], before))
        eventfd_write(front->kicks[ring], 1);
}

void fake_front_guest_sends(FakeFront *front, guint16 n, gsize len, guint8 fill)
{
    RingDriver *driver = &front->drivers[VHOST_FROM_GUEST];
    guint64 at = buffer(front, VHOST_FROM_GUEST, n);
    guint16 before = driver->available;
    memset(front->ram.base + at, fill, MIN(len, (gsize)BUFFER_BYTES));
    ring_driver_offer_buffer(driver, n % FRONT_RING, at, (guint32)len, FALSE);
    kick(front, VHOST_FROM_GUEST, before);
}

void fake_front_guest_offers(FakeFront *front, guint16 n)
{
    RingDriver *driver = &front->drivers[VHOST_TO_GUEST];
    guint16 before = driver->available;
    ring_driver_offer_buffer(driver, n % FRONT_RING, buffer(front, VHOST_TO_GUEST, n), BUFFER_BYTES,
                             TRUE);
    kick(front, VHOST_TO_GUEST, before);
}

GBytes *fake_front_guest_got(FakeFront *front)
{
    guint32 head, len;
    if (!ring_driver_used(&front->drivers[VHOST_TO_GUEST], &head, &len))
        return NULL;
    return g_bytes_new(front->ram.base + buffer(front, VHOST_TO_GUEST, head), len);
}

gboolean fake_front_interrupted(FakeFront *front, guint ring)
{
    eventfd_t value;
    return eventfd_read(front->calls[ring], &value) == 0;
}
