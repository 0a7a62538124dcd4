/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A vhost-user card's memory and rings, as QEMU says they are: where they lie, start and stop. */
#include "common/fd.h"
#include "vm/vhost_internal.h"

#include <glib-unix.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

static void drop_kick(VhostRing *ring)
{
    if (ring->kicked)
        g_source_destroy(ring->kicked);
    g_clear_pointer(&ring->kicked, g_source_unref);
    colo_fd_close(&ring->kick);
}

void vhost_drop_ring(VhostRing *ring)
{
    drop_kick(ring);
    colo_fd_close(&ring->call);
}

/* Offset in RAM of `len` bytes at `user` of QEMU. */
static gboolean find_user(const VhostCard *card, guint64 user, guint64 len, guint64 *ret_offset)
{
    for (guint i = 0; i < card->memory.count; i++) {
        const VringRegion *region = &card->memory.regions[i];
        guint64 in = user - card->users[i];
        if (user < card->users[i] || in >= region->size || len > region->size - in)
            continue;
        *ret_offset = region->offset + in;
        return TRUE;
    }
    return FALSE;
}

static gboolean find_place(const VhostRing *ring, VringPlace *ret_place)
{
    const VhostCard *card = ring->card;
    guint size = (guint)ring->size;
    gboolean events = vhost_has(card, VIRTIO_RING_EVENT_IDX);
    gboolean modern = vhost_has(card, VIRTIO_VERSION_1) || vhost_has(card, VIRTIO_NET_MRG_RXBUF);
    *ret_place = (VringPlace){.size = size,
                              .next = (guint16)ring->next,
                              .event_index = events,
                              .indirect = vhost_has(card, VIRTIO_RING_INDIRECT_DESC),
                              .mergeable = vhost_has(card, VIRTIO_NET_MRG_RXBUF),
                              .header_bytes = modern ? 12 : 10};
    return find_user(card, ring->desc, vring_desc_bytes(size), &ret_place->desc) &&
           find_user(card, ring->avail, vring_avail_bytes(size, events), &ret_place->avail) &&
           find_user(card, ring->used, vring_used_bytes(size, events), &ret_place->used);
}

static void tell_not_started(VhostRing *ring, const char *why)
{
    VhostCard *card = ring->card;
    if (!card->has_handler || card->freed)
        return;
    g_autoptr(GError) error =
        g_error_new(VHOST_ERROR, VHOST_ERROR_RING, "the guest's driver can't be served: %s", why);
    card->handler.broken(error, card->user_data);
}

static void start_ring(VhostRing *ring)
{
    g_autoptr(GError) error = NULL;
    if (!find_place(ring, &ring->place))
        tell_not_started(ring, "the rings are not in RAM");
    else if (!vring_start(ring->vring, &ring->place, &error))
        tell_not_started(ring, error->message);
    else
        ring->card->stats.starts++;
}

/* What the guest has sent until here is handed out before QEMU is answered. */
guint64 vhost_stop_ring(VhostRing *ring)
{
    vhost_run_last(ring);
    /* Its owner has ended the card: RAM isn't ours any more. */
    if (!vhost_lives(ring->card))
        return ring->next;
    vhost_publish(ring);
    /* Else QEMU gets the index back that it has given. */
    if (vring_is_started(ring->vring))
        ring->next = vring_stop(ring->vring);
    vhost_drop_ring(ring);
    return ring->next;
}

/* Memory has changed under a ring that runs: it must be where it was. */
static void check_place(VhostRing *ring)
{
    VringPlace place;
    if (!vring_runs(ring->vring) ||
        (find_place(ring, &place) && place.desc == ring->place.desc &&
         place.avail == ring->place.avail && place.used == ring->place.used))
        return;
    vring_stop(ring->vring);
    tell_not_started(ring, "QEMU has moved the rings in RAM");
}

/* Only RAM is known here: other memory is left out, and a buffer that is there breaks the ring. */
static gboolean is_ram(const VhostCard *card, const VhostRegion *region, int fd)
{
    struct stat ours, theirs;
    guint64 size = card->ram->size_bytes;
    return fstat(card->ram->memfd, &ours) == 0 && fstat(fd, &theirs) == 0 &&
           ours.st_dev == theirs.st_dev && ours.st_ino == theirs.st_ino && region->offset <= size &&
           region->size <= size - region->offset;
}

void vhost_set_memory(VhostCard *card, const VhostMessage *message)
{
    card->memory.count = 0;
    for (guint i = 0; i < message->count; i++) {
        const VhostRegion *region = &message->regions[i];
        if (!is_ram(card, region, card->fds[i]))
            continue;
        guint at = card->memory.count++;
        card->memory.regions[at] =
            (VringRegion){.guest = region->guest, .size = region->size, .offset = region->offset};
        card->users[at] = region->user;
    }
    for (guint i = 0; i < VHOST_RINGS; i++)
        check_place(&card->rings[i]);
}

static gboolean on_kick(int fd, GIOCondition condition, gpointer user_data)
{
    eventfd_t value;
    (void)condition;
    if (eventfd_read(fd, &value) == 0)
        vhost_run_ring(user_data);
    return G_SOURCE_CONTINUE;
}

/* A pipe, say, could end this process by a signal. */
static gboolean is_eventfd(int fd)
{
    char name[64], target[64];
    g_snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
    ssize_t len = readlink(name, target, sizeof(target) - 1);
    return len > 0 && !strncmp(target, "anon_inode:[eventfd]", (gsize)len);
}

/* -1: it is no eventfd. */
static int take_fd(VhostCard *card, GError **error)
{
    COLO_AUTO_FD fd = colo_fd_steal(&card->fds[--card->fd_count]);
    if (is_eventfd(fd)) {
        colo_fd_set_nonblocking(fd, TRUE, NULL);
        return colo_fd_steal(&fd);
    }
    g_set_error_literal(error, VHOST_ERROR, VHOST_ERROR_MESSAGE,
                        "vhost-user: QEMU notifies by a descriptor that is no eventfd");
    return -1;
}

gboolean vhost_set_kick(VhostRing *ring, const VhostMessage *message, GError **error)
{
    if (!message->value) {
        g_set_error_literal(error, VHOST_ERROR, VHOST_ERROR_MESSAGE,
                            "vhost-user: QEMU gives no descriptor for kicks");
        return FALSE;
    }
    gboolean starts = ring->kick < 0;
    drop_kick(ring);
    ring->kick = take_fd(ring->card, error);
    if (ring->kick < 0)
        return FALSE;
    ring->kicked = colo_fd_watch_new(ring->kick, G_IO_IN);
    g_source_set_callback(ring->kicked, G_SOURCE_FUNC(on_kick), ring, NULL);
    g_source_attach(ring->kicked, NULL);
    if (starts)
        start_ring(ring);
    vhost_take_turn(ring->card);
    return TRUE;
}

gboolean vhost_set_call(VhostRing *ring, const VhostMessage *message, GError **error)
{
    colo_fd_close(&ring->call);
    if (!message->value)
        return TRUE;
    ring->call = take_fd(ring->card, error);
    if (ring->call >= 0)
        eventfd_write(ring->call, 1);
    return ring->call >= 0;
}
