/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/vring.h"

#include <string.h>

enum { DESC_NEXT = 1, DESC_WRITE = 2, DESC_INDIRECT = 4 };
enum { AVAIL_NO_INTERRUPT = 1 };

/* struct virtq_desc, little-endian as the hosts that QEMU and colod run on. */
typedef struct {
    guint64 addr;
    guint32 len;
    guint16 flags, next;
} Desc;

typedef struct {
    guint32 id, len;
} UsedElement;

/* The available ring: flags, index, ring[size], used_event. */
enum { AVAIL_INDEX = 2, AVAIL_RING = 4 };
/* The used ring: flags, index, ring[size], avail_event. */
enum { USED_INDEX = 2, USED_RING = 4 };

#define ETHERNET_BYTES    14u
#define NUM_BUFFERS_AT    10u /* in the header, le16 */
#define NUM_BUFFERS_BYTES 2u

typedef struct {
    guint64 offset; /* in RAM */
    guint32 len;
} Piece;

/* Where a chain goes on: which table, how long it is, and how many more steps it may have. */
typedef struct {
    guint64 table;
    guint32 size, steps;
    gboolean indirect;
} Walk;

struct Vring {
    const VringMemory *memory;
    gboolean to_guest;
    gboolean started;
    gboolean signalled; /* an interrupt was sent since its start, or was not wanted */
    VringPlace place;
    guint16 next; /* of the available ring */
    guint16 used, published;
    const char *broken; /* the rule; NULL: none */
    gboolean told;

    Piece pieces[VRING_PIECES_MAX];
    guint count;
    struct {
        guint32 head, len;
    } chains[VRING_SIZE_MAX]; /* of the frame at hand */
};

G_DEFINE_QUARK(vring_error, vring_error)

/* ---- The guest's memory ---- */

static guint16 load16(const Vring *ring, guint64 offset)
{
    return __atomic_load_n((const guint16 *)(gconstpointer)(ring->memory->base + offset),
                           __ATOMIC_ACQUIRE);
}

static void store16(const Vring *ring, guint64 offset, guint16 value)
{
    __atomic_store_n((guint16 *)(gpointer)(ring->memory->base + offset), value, __ATOMIC_RELEASE);
    ram_log_mark(ring->memory->log, offset, sizeof(value));
}

static void write_bytes(const Vring *ring, guint64 offset, gconstpointer data, gsize len)
{
    memcpy(ring->memory->base + offset, data, len);
    ram_log_mark(ring->memory->log, offset, len);
}

/* Our copy: it is in memory, and the compiler may not look at the guest's once more. */
static Desc load_desc(const Vring *ring, guint64 offset)
{
    Desc desc;
    memcpy(&desc, ring->memory->base + offset, sizeof(desc));
    __asm__ volatile("" : "+m"(desc));
    return desc;
}

/*
 * Where `address` of the guest is in RAM, and how many of `len` bytes follow it there without a gap
 * (`ret_len`, at least 1). FALSE if it is no RAM.
 */
static gboolean find(const VringMemory *memory, guint64 address, guint32 len, guint64 *ret_offset,
                     guint32 *ret_len)
{
    for (guint i = 0; i < memory->count; i++) {
        const VringRegion *region = &memory->regions[i];
        guint64 in = address - region->guest;
        if (address < region->guest || in >= region->size)
            continue;
        *ret_offset = region->offset + in;
        *ret_len = (guint32)MIN((guint64)len, region->size - in);
        return TRUE;
    }
    return FALSE;
}

/* ---- Rules ---- */

static gboolean break_off(Vring *ring, const char *rule)
{
    ring->broken = rule;
    return FALSE;
}

gboolean vring_runs(const Vring *ring)
{
    return ring->started && !ring->broken;
}

GError *vring_steal_error(Vring *ring)
{
    if (!ring->broken || ring->told)
        return NULL;
    ring->told = TRUE;
    return g_error_new_literal(VRING_ERROR, VRING_ERROR_BROKEN, ring->broken);
}

guint vring_waiting(Vring *ring)
{
    if (!vring_runs(ring))
        return 0;
    guint16 count = (guint16)(load16(ring, ring->place.avail + AVAIL_INDEX) - ring->next);
    if (count <= ring->place.size)
        return count;
    break_off(ring, "more buffers are available than the ring has room for");
    return 0;
}

/* ---- Chains ---- */

/* A descriptor that points to a table: the chain goes on there, and ends there. */
static gboolean enter_table(Vring *ring, const Desc *desc, Walk *walk)
{
    guint32 len;
    if (!ring->place.indirect || walk->indirect)
        return break_off(ring, "an indirect descriptor where none may be");
    if (desc->flags & DESC_NEXT)
        return break_off(ring, "an indirect descriptor that is not the last of its chain");
    if (desc->len == 0 || desc->len % sizeof(Desc) || desc->len / sizeof(Desc) > VRING_PIECES_MAX)
        return break_off(ring, "an indirect table of an impossible length");
    if (!find(ring->memory, desc->addr, desc->len, &walk->table, &len) || len != desc->len)
        return break_off(ring, "an indirect table that is not in RAM");
    walk->size = walk->steps = (guint32)(desc->len / sizeof(Desc));
    walk->indirect = TRUE;
    return TRUE;
}

/* Adds the memory of one descriptor to the pieces. */
static gboolean add_pieces(Vring *ring, const Desc *desc, guint64 *bytes)
{
    guint64 address = desc->addr;
    guint32 left = desc->len;
    if (!!(desc->flags & DESC_WRITE) != ring->to_guest)
        return break_off(ring, "a buffer of the wrong direction");
    /* Each descriptor adds a piece, so the bound on pieces is one on steps. */
    if (left == 0)
        return break_off(ring, "a buffer of no bytes");
    while (left > 0) {
        Piece piece;
        if (!find(ring->memory, address, left, &piece.offset, &piece.len))
            return break_off(ring, "a buffer that is not in RAM");
        if (ring->count == VRING_PIECES_MAX)
            return break_off(ring, "too many buffers for one frame");
        ring->pieces[ring->count++] = piece;
        address += piece.len;
        left -= piece.len;
        *bytes += piece.len;
    }
    return TRUE;
}

/*
 * Adds the pieces of the chain at place `at` of the available ring. `ret_bytes`: how many bytes it has.
 * FALSE if a rule is broken.
 */
static gboolean add_chain(Vring *ring, guint16 at, guint32 *ret_head, guint64 *ret_bytes)
{
    const VringPlace *place = &ring->place;
    Walk walk = {.table = place->desc, .size = place->size, .steps = place->size};
    guint16 i = load16(ring, place->avail + AVAIL_RING + 2 * (at & (place->size - 1)));

    *ret_head = i;
    *ret_bytes = 0;
    for (;;) {
        if (i >= walk.size)
            return break_off(ring, "a descriptor with an index out of range");
        if (walk.steps-- == 0)
            return break_off(ring, "a chain of descriptors that has no end");
        Desc desc = load_desc(ring, walk.table + sizeof(Desc) * (guint64)i);
        if (desc.flags & DESC_INDIRECT) {
            if (!enter_table(ring, &desc, &walk))
                return FALSE;
            i = 0;
            continue;
        }
        if (!add_pieces(ring, &desc, ret_bytes))
            return FALSE;
        if (!(desc.flags & DESC_NEXT))
            return TRUE;
        i = desc.next;
    }
}

static void use(Vring *ring, guint32 head, guint32 len)
{
    const VringPlace *place = &ring->place;
    UsedElement element = {.id = head, .len = len};
    write_bytes(ring, place->used + USED_RING + sizeof(element) * (ring->used & (place->size - 1)),
                &element, sizeof(element));
    ring->used++;
}

/* ---- To the guest ---- */

/* Finds buffers for `len` bytes. `ret_chains`: how many chains they are. */
static VringResult find_room(Vring *ring, gsize len, guint *ret_chains)
{
    guint waiting = vring_waiting(ring), taken = 0;
    gsize room = 0;

    ring->count = 0;
    while (room < len) {
        guint64 bytes;
        if (taken == waiting)
            return waiting == ring->place.size ? VRING_UNFIT : VRING_EMPTY;
        if (!add_chain(ring, (guint16)(ring->next + taken), &ring->chains[taken].head, &bytes))
            return VRING_EMPTY;
        if (!ring->place.mergeable && bytes < len)
            return VRING_UNFIT;
        bytes = MIN(bytes, len - room);
        ring->chains[taken++].len = (guint32)bytes;
        room += bytes;
    }
    *ret_chains = taken;
    return VRING_DONE;
}

gboolean vring_has_room(Vring *ring, gsize len)
{
    guint chains;
    if (!vring_runs(ring) || len < VRING_HEADER_BYTES)
        return FALSE;
    return find_room(ring, len - VRING_HEADER_BYTES + ring->place.header_bytes, &chains) !=
               VRING_EMPTY &&
           vring_runs(ring);
}

/* Goes through the pieces, from *piece and *used bytes of it on. */
static void scatter(const Vring *ring, guint *piece, guint32 *used, const guint8 *data, gsize len)
{
    while (len > 0) {
        const Piece *to = &ring->pieces[*piece];
        guint32 part = (guint32)MIN((gsize)(to->len - *used), len);
        write_bytes(ring, to->offset + *used, data, part);
        data += part;
        len -= part;
        *used += part;
        if (*used == to->len) {
            ++*piece;
            *used = 0;
        }
    }
}

VringResult vring_put(Vring *ring, const guint8 *frame, gsize len)
{
    guint8 header[VRING_HEADER_BYTES];
    guint header_bytes = ring->place.header_bytes, chains = 0, piece = 0;
    guint32 used = 0;

    g_assert(ring->to_guest);
    if (!vring_runs(ring))
        return VRING_EMPTY;
    if (len < VRING_HEADER_BYTES + ETHERNET_BYTES || len > VRING_FRAME_MAX)
        return VRING_UNFIT;
    VringResult result = find_room(ring, len - VRING_HEADER_BYTES + header_bytes, &chains);
    if (result != VRING_DONE)
        return result;
    memcpy(header, frame, VRING_HEADER_BYTES);
    guint16 num_buffers = GUINT16_TO_LE((guint16)chains);
    memcpy(header + NUM_BUFFERS_AT, &num_buffers, NUM_BUFFERS_BYTES);
    scatter(ring, &piece, &used, header, header_bytes);
    scatter(ring, &piece, &used, frame + VRING_HEADER_BYTES, len - VRING_HEADER_BYTES);
    for (guint i = 0; i < chains; i++)
        use(ring, ring->chains[i].head, ring->chains[i].len);
    ring->next = (guint16)(ring->next + chains);
    return VRING_DONE;
}

/* ---- From the guest ---- */

static void gather(const Vring *ring, guint8 *to)
{
    for (guint i = 0; i < ring->count; i++) {
        memcpy(to, ring->memory->base + ring->pieces[i].offset, ring->pieces[i].len);
        to += ring->pieces[i].len;
    }
}

/* Finds the pieces of what the guest has sent next. `ret_len`: as the frame is here. */
static VringResult find_sent(Vring *ring, guint32 *ret_head, gsize *ret_len)
{
    guint header_bytes = ring->place.header_bytes;
    guint64 bytes;

    g_assert(!ring->to_guest);
    ring->count = 0;
    if (vring_waiting(ring) == 0 || !add_chain(ring, ring->next, ret_head, &bytes))
        return VRING_EMPTY;
    if (bytes < header_bytes + ETHERNET_BYTES ||
        bytes - header_bytes > VRING_FRAME_MAX - VRING_HEADER_BYTES)
        return VRING_UNFIT;
    *ret_len = bytes - header_bytes + VRING_HEADER_BYTES;
    return VRING_DONE;
}

VringResult vring_look(Vring *ring, gsize *ret_len)
{
    guint32 head;
    return find_sent(ring, &head, ret_len);
}

VringResult vring_take(Vring *ring, guint8 *frame, gsize *ret_len)
{
    guint header_bytes = ring->place.header_bytes;
    guint32 head;

    VringResult result = find_sent(ring, &head, ret_len);
    if (result == VRING_EMPTY)
        return VRING_EMPTY;
    if (result == VRING_DONE) {
        guint missing = VRING_HEADER_BYTES - header_bytes;
        gather(ring, frame + missing);
        memmove(frame, frame + missing, header_bytes);
        memset(frame + NUM_BUFFERS_AT, 0, NUM_BUFFERS_BYTES);
    }
    ring->next++;
    use(ring, head, 0);
    return result;
}

/* ---- Notifications ---- */

/* VIRTIO_RING_F_EVENT_IDX: one of the indexes from `old` up to `new` is that after `event`. */
static gboolean passes(guint16 event, guint16 new, guint16 old)
{
    return (guint16)(new - event - 1) < (guint16)(new - old);
}

gboolean vring_publish(Vring *ring)
{
    const VringPlace *place = &ring->place;
    guint16 old = ring->published;
    gboolean wanted;

    if (!ring->started || ring->used == old)
        return FALSE;
    store16(ring, place->used + USED_INDEX, ring->used);
    ring->published = ring->used;
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (place->event_index)
        wanted = !ring->signalled ||
                 passes(load16(ring, place->avail + AVAIL_RING + 2 * (guint64)place->size),
                        ring->used, old);
    else
        wanted = !(load16(ring, place->avail) & AVAIL_NO_INTERRUPT);
    ring->signalled = TRUE;
    return wanted;
}

gboolean vring_ask(Vring *ring, guint known)
{
    const VringPlace *place = &ring->place;
    if (!vring_runs(ring))
        return FALSE;
    if (place->event_index)
        store16(ring, place->used + USED_RING + sizeof(UsedElement) * (guint64)place->size,
                (guint16)(ring->next + known));
    /* Without it a kick comes for each buffer: the used ring's flags say so from its start on. */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return vring_waiting(ring) > known;
}

/* ---- Life ---- */

guint64 vring_desc_bytes(guint size)
{
    return sizeof(Desc) * (guint64)size;
}

guint64 vring_avail_bytes(guint size, gboolean event_index)
{
    return AVAIL_RING + 2 * (guint64)size + (event_index ? 2 : 0);
}

guint64 vring_used_bytes(guint size, gboolean event_index)
{
    return USED_RING + sizeof(UsedElement) * (guint64)size + (event_index ? 2 : 0);
}

gboolean vring_start(Vring *ring, const VringPlace *place, GError **error)
{
    guint size = place->size;
    vring_stop(ring);
    if (size == 0 || size > VRING_SIZE_MAX || (size & (size - 1))) {
        g_set_error(error, VRING_ERROR, VRING_ERROR_PLACE,
                    "a ring of %u descriptors (it must be a power of two, %u at most)", size,
                    VRING_SIZE_MAX);
        return FALSE;
    }
    if (place->desc % 16 || place->avail % 2 || place->used % 4) {
        g_set_error_literal(error, VRING_ERROR, VRING_ERROR_PLACE,
                            "a ring whose parts are not aligned");
        return FALSE;
    }
    g_assert(place->header_bytes == VRING_HEADER_BYTES ||
             place->header_bytes == VRING_HEADER_BYTES - NUM_BUFFERS_BYTES);
    ring->place = *place;
    ring->next = place->next;
    ring->used = ring->published = load16(ring, place->used + USED_INDEX);
    ring->broken = NULL;
    ring->told = ring->signalled = FALSE;
    ring->started = TRUE;
    /* Each buffer's kick is wanted; the driver looks at it if the event index is not negotiated. */
    store16(ring, place->used, 0);
    return TRUE;
}

gboolean vring_is_started(const Vring *ring)
{
    return ring->started;
}

guint16 vring_stop(Vring *ring)
{
    vring_publish(ring);
    ring->started = FALSE;
    return ring->next;
}

Vring *vring_new(const VringMemory *memory, gboolean to_guest)
{
    Vring *ring = g_new0(Vring, 1);
    ring->memory = memory;
    ring->to_guest = to_guest;
    return ring;
}

void vring_free(Vring *ring)
{
    g_free(ring);
}
