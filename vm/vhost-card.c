/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A vhost-user card's connection to QEMU (docs/interop/vhost-user.rst there; tried with 7.2 and 10.0).
 *
 * What is easy to miss:
 * - A socket chardev of QEMU takes no descriptor for this. So the socket is bound in a folder of its own,
 *   is opened with O_PATH and unlinked. QEMU inherits that descriptor, and connects to its name in /proc.
 * - A ring starts with SET_VRING_KICK and ends with GET_VRING_BASE. It may be enabled long before it
 *   starts. A pause, a reset of the guest and a driver that goes away all arrive as GET_VRING_BASE.
 * - A kick from before the start may be lost: the ring is looked at once without one.
 * - SET_VRING_CALL comes after SET_VRING_KICK, and nobody reads the descriptor that was there before. So
 *   each new one is written to once.
 * - The log features have to be there, else QEMU says that the VM can't be migrated. Its own log is not
 *   kept: QEMU never sends this VM's RAM anywhere. Our log is the RamLog.
 */
#include "common/fd.h"
#include "common/timer.h"
#include "vm/vhost_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Messages that are read in one turn of the main loop. */
#define MESSAGES_PER_TURN 64

#define OFFERED                                                                                    \
    (VHOST_FEATURE(VIRTIO_NET_CSUM) | VHOST_FEATURE(VIRTIO_NET_GUEST_CSUM) |                       \
     VHOST_FEATURE(VIRTIO_NET_GUEST_TSO4) | VHOST_FEATURE(VIRTIO_NET_GUEST_TSO6) |                 \
     VHOST_FEATURE(VIRTIO_NET_GUEST_ECN) | VHOST_FEATURE(VIRTIO_NET_HOST_TSO4) |                   \
     VHOST_FEATURE(VIRTIO_NET_HOST_TSO6) | VHOST_FEATURE(VIRTIO_NET_HOST_ECN) |                    \
     VHOST_FEATURE(VIRTIO_NET_MRG_RXBUF) | VHOST_FEATURE(VHOST_LOG_ALL) |                          \
     VHOST_FEATURE(VIRTIO_ANY_LAYOUT) | VHOST_FEATURE(VIRTIO_RING_INDIRECT_DESC) |                 \
     VHOST_FEATURE(VIRTIO_RING_EVENT_IDX) | VHOST_FEATURE(VHOST_PROTOCOL_FEATURES) |               \
     VHOST_FEATURE(VIRTIO_VERSION_1))
#define OFFERED_PROTOCOL                                                                           \
    (VHOST_FEATURE(VHOST_PROTOCOL_LOG_SHMFD) | VHOST_FEATURE(VHOST_PROTOCOL_REPLY_ACK))

/* ---- Life and death ---- */

void vhost_ref(VhostCard *card)
{
    card->references++;
}

void vhost_unref(VhostCard *card)
{
    if (--card->references > 0)
        return;
    for (guint i = 0; i < VHOST_RINGS; i++)
        vring_free(card->rings[i].vring);
    vhost_card_forget(card);
    g_clear_error(&card->failure);
    g_free(card);
}

gboolean vhost_lives(const VhostCard *card)
{
    return !card->freed && card->phase != VHOST_DEAD;
}

static void drop_source(GSource **source)
{
    if (*source == NULL)
        return;
    g_source_destroy(*source);
    g_clear_pointer(source, g_source_unref);
}

static void drop_fds(VhostCard *card)
{
    while (card->fd_count > 0)
        colo_fd_close(&card->fds[--card->fd_count]);
}

static void drop_connection(VhostCard *card)
{
    drop_source(&card->source);
    drop_source(&card->turn);
    for (guint i = 0; i < VHOST_RINGS; i++)
        vhost_drop_ring(&card->rings[i]);
    drop_fds(card);
    colo_fd_close(&card->listener);
    colo_fd_close(&card->fd);
}

/* The only one who sets it. */
static void set_phase(VhostCard *card, VhostPhase next)
{
    g_assert(next == card->phase + 1 || next == VHOST_DEAD);
    card->phase = next;
    if (next == VHOST_DEAD)
        drop_connection(card);
}

static void tell_failure(VhostCard *card)
{
    if (!card->failure || !card->has_handler || card->freed)
        return;
    g_autoptr(GError) failure = g_steal_pointer(&card->failure);
    vhost_ref(card);
    card->handler.failed(failure, card->user_data);
    vhost_unref(card);
}

/* The card is dead; it is told, now or to the handler that comes. Takes `error`. */
static gboolean die(VhostCard *card, GError *error)
{
    if (vhost_lives(card)) {
        set_phase(card, VHOST_DEAD);
        g_prefix_error(&error, "network card: ");
        card->failure = g_steal_pointer(&error);
        tell_failure(card);
    }
    g_clear_error(&error);
    return FALSE;
}

void vhost_card_stop(VhostCard *card)
{
    if (card->phase != VHOST_DEAD)
        set_phase(card, VHOST_DEAD);
}

/* ---- Messages ---- */

/* Of a ring. */
static gboolean obey_ring(VhostCard *card, const VhostMessage *message, guint64 *ret_value,
                          GError **error)
{
    VhostRing *ring = &card->rings[message->ring];
    switch (message->request) {
    case VHOST_SET_VRING_NUM:
        ring->size = message->value;
        return TRUE;
    case VHOST_SET_VRING_ADDR:
        ring->desc = message->desc;
        ring->avail = message->avail;
        ring->used = message->used;
        return TRUE;
    case VHOST_SET_VRING_BASE:
        ring->next = message->value;
        return TRUE;
    case VHOST_GET_VRING_BASE:
        *ret_value = vhost_stop_ring(ring);
        return TRUE;
    case VHOST_SET_VRING_KICK:
        return vhost_set_kick(ring, message, error);
    case VHOST_SET_VRING_CALL:
        return vhost_set_call(ring, message, error);
    case VHOST_SET_VRING_ENABLE:
        ring->enabled = message->value != 0;
        vhost_take_turn(card);
        return TRUE;
    default: /* VHOST_SET_VRING_ERR: nothing is reported there */
        return TRUE;
    }
}

/* Does what the message says. FALSE: it can't be. */
static gboolean obey(VhostCard *card, const VhostMessage *message, guint64 *ret_value,
                     GError **error)
{
    switch (message->request) {
    case VHOST_GET_FEATURES:
        *ret_value = OFFERED;
        return TRUE;
    case VHOST_SET_FEATURES:
        card->features = message->value & OFFERED;
        return TRUE;
    case VHOST_GET_PROTOCOL_FEATURES:
        *ret_value = OFFERED_PROTOCOL;
        return TRUE;
    case VHOST_SET_MEM_TABLE:
        vhost_set_memory(card, message);
        return TRUE;
    case VHOST_RESET_OWNER:
        for (guint i = 0; i < VHOST_RINGS; i++)
            vhost_stop_ring(&card->rings[i]);
        return TRUE;
    case VHOST_SET_OWNER:
    case VHOST_SET_LOG_BASE:
    case VHOST_SET_LOG_FD:
    case VHOST_SET_PROTOCOL_FEATURES:
        return TRUE;
    default:
        return obey_ring(card, message, ret_value, error);
    }
}

static gboolean reply(VhostCard *card, const VhostMessage *message, guint64 value, GError **error)
{
    guint8 bytes[VHOST_REPLY_BYTES];
    gsize len = vhost_message_reply(message, value, bytes);
    /* QEMU waits for it, so there is room. */
    if (send(card->fd, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)len)
        return TRUE;
    g_set_error(error, VHOST_ERROR, VHOST_ERROR_CLOSED, "vhost-user: can't answer QEMU: %s",
                g_strerror(errno));
    return FALSE;
}

/* The message is whole. FALSE if the card is dead or freed now. */
static gboolean take_message(VhostCard *card)
{
    GError *error = NULL;
    VhostMessage message;
    guint64 value = 0;
    gboolean good =
        vhost_message_parse(card->bytes, card->have, card->fd_count, &message, &error) &&
        obey(card, &message, &value, &error);
    /* What is done may have ended the card. */
    good = good &&
           (!vhost_lives(card) || !message.wants_reply || reply(card, &message, value, &error));
    card->have = 0;
    drop_fds(card);
    return good ? vhost_lives(card) : die(card, error);
}

static void keep_fds(VhostCard *card, struct msghdr *header)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        gsize count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (gsize i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (card->fd_count < VHOST_FDS_MAX)
                card->fds[card->fd_count++] = fd;
            else
                close(fd);
        }
    }
}

/* Reads up to `wanted` bytes of the message. As recvmsg(); descriptors are kept. */
static ssize_t receive(VhostCard *card, gsize wanted, gboolean *ret_cut)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(VHOST_FDS_MAX * sizeof(int))];
    } control = {0};
    struct iovec iov = {card->bytes + card->have, wanted - card->have};
    struct msghdr header = {.msg_iov = &iov,
                            .msg_iovlen = 1,
                            .msg_control = control.space,
                            .msg_controllen = sizeof(control.space)};
    ssize_t got;
    do
        got = recvmsg(card->fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got >= 0)
        keep_fds(card, &header);
    *ret_cut = got >= 0 && header.msg_flags & MSG_CTRUNC;
    return got;
}

static gboolean die_of(VhostCard *card, int code, const char *what)
{
    return die(card, g_error_new_literal(VHOST_ERROR, code, what));
}

/* Reads the header, or the rest of a message, as far as it is there. FALSE: not (more) now. */
static gboolean read_some(VhostCard *card)
{
    GError *error = NULL;
    gsize size = 0;
    gboolean cut;
    if (card->have >= VHOST_HEADER_BYTES && !vhost_message_size(card->bytes, &size, &error))
        return die(card, error);
    gsize wanted = VHOST_HEADER_BYTES + size;
    if (card->have < wanted) {
        ssize_t got = receive(card, wanted, &cut);
        if (got < 0 && errno == EAGAIN)
            return FALSE;
        if (got <= 0)
            return die_of(card, VHOST_ERROR_CLOSED, "QEMU has closed its end");
        if (cut)
            return die_of(card, VHOST_ERROR_MESSAGE, "vhost-user: QEMU sends too many descriptors");
        card->have += (gsize)got;
    }
    if (card->have < VHOST_HEADER_BYTES)
        return TRUE;
    if (!vhost_message_size(card->bytes, &size, &error))
        return die(card, error);
    return card->have < VHOST_HEADER_BYTES + size || take_message(card);
}

void vhost_read_messages(VhostCard *card)
{
    if (card->busy || card->reading || card->phase != VHOST_CONNECTED || card->freed)
        return;
    card->reading = TRUE;
    /* A header and its payload are two reads. */
    for (guint i = 0; i < 2 * MESSAGES_PER_TURN && read_some(card); i++) {
    }
    card->reading = FALSE;
}

/* ---- Sources ---- */

static gboolean on_readable(int fd, GIOCondition condition, gpointer user_data)
{
    VhostCard *card = user_data;
    (void)fd;
    (void)condition;
    vhost_ref(card);
    vhost_read_messages(card);
    vhost_unref(card);
    return G_SOURCE_CONTINUE;
}

static void connect_to(VhostCard *card, int fd)
{
    card->fd = fd;
    set_phase(card, VHOST_CONNECTED);
    card->source = g_unix_fd_source_new(fd, G_IO_IN | G_IO_HUP | G_IO_ERR);
    g_source_set_callback(card->source, G_SOURCE_FUNC(on_readable), card, NULL);
    g_source_attach(card->source, NULL);
}

static gboolean on_connection(int fd, GIOCondition condition, gpointer user_data)
{
    VhostCard *card = user_data;
    (void)condition;
    int connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (connection < 0)
        return G_SOURCE_CONTINUE;
    drop_source(&card->source);
    colo_fd_close(&card->listener);
    connect_to(card, connection);
    return G_SOURCE_REMOVE;
}

static gboolean on_turn(gpointer user_data)
{
    VhostCard *card = user_data;
    colo_timer_set_us(card->turn, -1);
    vhost_ref(card);
    for (guint i = 0; i < VHOST_RINGS && vhost_lives(card); i++)
        vhost_run_ring(&card->rings[i]);
    vhost_unref(card);
    return G_SOURCE_CONTINUE;
}

/* Others have their turns, too, however much is on its way. */
static void add_turn_source(VhostCard *card)
{
    card->turn = colo_timer_new(on_turn, card);
    g_source_set_priority(card->turn, G_PRIORITY_DEFAULT);
}

/* ---- The socket ---- */

static gboolean fail(GError **error, const char *what)
{
    g_set_error(error, VHOST_ERROR, VHOST_ERROR_SOCKET, "network card: can't %s: %s", what,
                g_strerror(errno));
    return FALSE;
}

/* Listens in `folder`, which is this process's alone; nothing is left there. */
static gboolean listen_in(VhostCard *card, const char *folder, int *ret_address, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    COLO_AUTO_FD dir = open(folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
    COLO_AUTO_FD fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* However long the folder's name is, this fits. */
    g_snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/card", dir);
    if (dir < 0 || fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
        return fail(error, "make a socket");
    COLO_AUTO_FD path = openat(dir, "card", O_PATH | O_CLOEXEC | O_NOFOLLOW);
    unlinkat(dir, "card", 0);
    if (path < 0 || listen(fd, 1) < 0)
        return fail(error, "listen at a socket");
    card->listener = colo_fd_steal(&fd);
    *ret_address = colo_fd_steal(&path);
    return TRUE;
}

static gboolean listen_for_qemu(VhostCard *card, int *ret_address, GError **error)
{
    g_autofree char *folder = g_build_filename(g_get_tmp_dir(), "colo-card-XXXXXX", NULL);
    if (!g_mkdtemp(folder))
        return fail(error, "make a folder for a socket");
    gboolean listens = listen_in(card, folder, ret_address, error);
    rmdir(folder);
    if (!listens)
        return FALSE;
    card->source = g_unix_fd_source_new(card->listener, G_IO_IN);
    g_source_set_callback(card->source, G_SOURCE_FUNC(on_connection), card, NULL);
    g_source_attach(card->source, NULL);
    return TRUE;
}

/* ---- */

static VhostCard *make_card(const VmRam *ram)
{
    VhostCard *card = g_new0(VhostCard, 1);
    g_assert(ram->log);
    card->references = 1;
    card->ram = ram;
    card->listener = card->fd = -1;
    g_queue_init(&card->waiting);
    card->memory = (VringMemory){.base = ram->base, .log = ram->log};
    for (guint i = 0; i < VHOST_RINGS; i++)
        card->rings[i] = (VhostRing){.card = card,
                                     .vring = vring_new(&card->memory, i == VHOST_TO_GUEST),
                                     .kick = -1,
                                     .call = -1};
    add_turn_source(card);
    return card;
}

VhostCard *vhost_card_new(const VmRam *ram, int *ret_address, GError **error)
{
    g_autoptr(VhostCard) card = make_card(ram);
    return listen_for_qemu(card, ret_address, error) ? g_steal_pointer(&card) : NULL;
}

VhostCard *vhost_card_new_connected(const VmRam *ram, int fd)
{
    VhostCard *card = make_card(ram);
    connect_to(card, fd);
    return card;
}

void vhost_card_free(VhostCard *card)
{
    if (!card)
        return;
    vhost_card_stop(card);
    card->freed = TRUE;
    vhost_unref(card);
}

void vhost_card_set_handler(VhostCard *card, const VhostHandler *handler, gpointer user_data)
{
    card->has_handler = handler != NULL;
    card->user_data = user_data;
    if (!handler)
        return;
    card->handler = *handler;
    tell_failure(card);
    if (vhost_lives(card))
        vhost_take_turn(card);
}
