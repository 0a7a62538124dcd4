/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A driver that writes anything into its rings. The first four bytes say what ring it is, the others are
 * the first bytes of RAM, ring and tables and all. Whatever is there, a frame that comes out is one, and
 * each page that has changed is marked.
 */
#include <string.h>

#include "vm/vm.h"
#include "vm/vring.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

#define PAGES     32u
#define RAM_BYTES (PAGES * VM_PAGE_SIZE)

static guint8 ram[RAM_BYTES], before[RAM_BYTES];

static void collect(guint64 first, guint64 pages, gpointer user_data)
{
    guint64 *marked = user_data;
    g_assert(first == 0 && pages >> PAGES == 0);
    *marked |= pages;
}

/* What has changed since the last time is marked. */
static void check_marks(RamLog *log)
{
    guint64 marked = 0;
    ram_log_take(log, collect, &marked);
    for (guint page = 0; page < PAGES; page++)
        g_assert(marked >> page & 1 ||
                 !memcmp(ram + page * VM_PAGE_SIZE, before + page * VM_PAGE_SIZE, VM_PAGE_SIZE));
    memcpy(before, ram, sizeof(ram));
}

static void turn(Vring *ring, gboolean to_guest, guint round)
{
    static guint8 frame[VRING_FRAME_MAX];
    gsize len;
    if (to_guest) {
        vring_put(ring, frame, VRING_HEADER_BYTES + 14 + round * round * 97);
    } else if (vring_take(ring, frame, &len) == VRING_DONE) {
        g_assert(len >= VRING_HEADER_BYTES + 14 && len <= VRING_FRAME_MAX);
        g_assert(frame[10] == 0 && frame[11] == 0);
    }
    vring_publish(ring);
    vring_ask(ring, round % 3);
}

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    if (size < 4)
        return 0;
    guint n = 1u << (data[1] % 11);
    gboolean to_guest = data[0] & 1, event_index = !!(data[0] & 2);
    VringPlace place = {.size = n,
                        .next = (guint16)(data[2] | data[3] << 8),
                        .event_index = event_index,
                        .indirect = !(data[0] & 4),
                        .mergeable = !(data[0] & 8),
                        .header_bytes = data[0] & 16 ? 10 : 12};
    place.avail = vring_desc_bytes(n);
    place.used = (place.avail + vring_avail_bytes(n, event_index) + 3) & ~G_GUINT64_CONSTANT(3);
    memset(ram, 0, sizeof(ram));
    memcpy(ram, data + 4, MIN(size - 4, sizeof(ram)));
    memcpy(before, ram, sizeof(ram));
    RamLog *log = ram_log_new(RAM_BYTES);
    VringMemory memory = {.base = ram, .log = log, .count = 2};
    memory.regions[0] = (VringRegion){.size = RAM_BYTES / 2};
    memory.regions[1] = (VringRegion){
        .guest = RAM_BYTES / 2, .size = RAM_BYTES / 2 - 7, .offset = RAM_BYTES / 2 + 7};
    Vring *ring = vring_new(&memory, to_guest);
    g_assert(vring_start(ring, &place, NULL));
    for (guint round = 0; round < 24 && vring_runs(ring); round++) {
        turn(ring, to_guest, round);
        check_marks(log);
    }
    g_autoptr(GError) error = vring_steal_error(ring);
    g_assert(vring_runs(ring) == !error);
    vring_stop(ring);
    check_marks(log);
    vring_free(ring);
    ram_log_free(log);
    return 0;
}
