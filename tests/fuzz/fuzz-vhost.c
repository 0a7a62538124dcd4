/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A front end and a driver that say and write anything. An input is steps: a byte that says which, the
 * length of what follows, and that. Whatever comes, each page that we change is marked, and a card that
 * has not failed goes on.
 */
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/support/fake-front.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

#define SEEN_BYTES (64 * VM_PAGE_SIZE) /* of RAM: what steps write to, rings and buffers */

static guint8 before[SEEN_BYTES];

static void collect(guint64 first, guint64 pages, gpointer user_data)
{
    guint64 *marked = user_data;
    if (first == 0)
        *marked |= pages;
}

static void check_marks(FakeFront *front)
{
    guint64 marked = 0;
    ram_log_take(front->ram.log, collect, &marked);
    for (guint page = 0; page < 64; page++)
        g_assert(marked >> page & 1 || !memcmp(front->ram.base + page * VM_PAGE_SIZE,
                                               before + page * VM_PAGE_SIZE, VM_PAGE_SIZE));
}

/* A message: request, flags, then the payload. `count` descriptors, of which the first may be RAM. */
static void send_message(FakeFront *front, const guint8 *data, gsize len, guint count)
{
    int fds[8];
    guint32 request = len > 0 ? data[0] : 0, flags = len > 1 ? data[1] & ~1u : 0;
    gboolean memory = request == VHOST_SET_MEM_TABLE;
    for (guint i = 0; i < count; i++)
        fds[i] = memory ? dup(front->ram.memfd) : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    fake_front_send(front, request, flags, data + 2, len > 2 ? len - 2 : 0, fds, count);
    for (guint i = 0; i < count; i++)
        colo_fd_close(&fds[i]);
}

static void step(FakeFront *front, guint8 op, const guint8 *data, gsize len)
{
    static guint8 frame[VRING_FRAME_MAX];
    guint8 answers[1024];
    switch (op & 7) {
    case 0:
        send_message(front, data, len, op >> 5);
        break;
    case 1: /* into RAM */
        if (len > 2)
            memcpy(front->ram.base + ((data[0] | data[1] << 8) * 4 % (SEEN_BYTES - 256)), data + 2,
                   len - 2);
        memcpy(before, front->ram.base, SEEN_BYTES);
        break;
    case 2:
        vhost_card_give(front->card, frame, VRING_HEADER_BYTES + 14 + (gsize)op * len);
        break;
    case 3:
        vhost_card_drain(front->card);
        break;
    case 4: /* no whole message */
        (void)!write(front->fd, data, len);
        break;
    case 5:
        vhost_card_has_room(front->card, (gsize)len * op);
        break;
    default:
        for (guint i = 0; i < VHOST_RINGS; i++)
            if (front->kicks[i] >= 0)
                eventfd_write(front->kicks[i], 1);
        break;
    }
    fake_front_settle();
    while (recv(front->fd, answers, sizeof(answers), MSG_DONTWAIT) > 0) {
    }
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    FakeFront front;
    if (size < 1)
        return 0;
    fake_front_init(&front);
    fake_front_attach(&front);
    if (data[0] & 1) {
        fake_front_greet(&front);
        fake_front_start(&front, 0, 0);
    }
    ram_log_take(front.ram.log, collect, &(guint64){0});
    memcpy(before, front.ram.base, SEEN_BYTES);
    data++;
    size--;
    while (size >= 2 && !front.failure) {
        gsize len = MIN((gsize)data[1], size - 2);
        step(&front, data[0], data + 2, len);
        check_marks(&front);
        memcpy(before, front.ram.base, SEEN_BYTES);
        data += 2 + len;
        size -= 2 + len;
    }
    fake_front_clear(&front);
    return 0;
}
