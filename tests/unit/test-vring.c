/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The device's side of a virtqueue, against a driver that the test plays. */
#include <glib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/fd.h"
#include "tests/support/ring-driver.h"
#include "vm/vm.h"
#include "vm/vring.h"

#define RAM_BYTES   (4u << 20)
#define GUEST       0x100000u /* address of the first byte of RAM */
#define FRAME_BYTES (12u + 60u)

typedef struct {
    guint8 *ram;
    RamLog *log;
    VringMemory memory;
    RingDriver driver;
    Vring *ring;
    VringPlace place;
    guint64 free; /* from here on RAM has no ring */
} Fixture;

/* ---- Fixture ---- */

static void begin(Fixture *f, gboolean to_guest, guint size, gboolean event_index)
{
    memset(f, 0, sizeof(*f));
    f->ram = g_malloc0(RAM_BYTES);
    f->log = ram_log_new(RAM_BYTES);
    f->memory = (VringMemory){.base = f->ram, .log = f->log, .count = 1};
    f->memory.regions[0] = (VringRegion){.guest = GUEST, .size = RAM_BYTES};
    f->free = ring_driver_init(&f->driver, f->ram, GUEST, 4096, size, event_index);
    f->ring = vring_new(&f->memory, to_guest);
    f->place = (VringPlace){.size = size,
                            .desc = f->driver.desc,
                            .avail = f->driver.avail,
                            .used = f->driver.used,
                            .event_index = event_index,
                            .indirect = TRUE,
                            .mergeable = TRUE,
                            .header_bytes = 12};
}

static void start(Fixture *f)
{
    g_autoptr(GError) error = NULL;
    g_assert_true(vring_start(f->ring, &f->place, &error));
    g_assert_no_error(error);
    g_assert_true(vring_runs(f->ring));
}

static void end(Fixture *f)
{
    vring_free(f->ring);
    ram_log_free(f->log);
    g_free(f->ram);
}

static void collect(guint64 first, guint64 pages, gpointer user_data)
{
    GArray *all = user_data;
    for (guint64 bit = 0; bit < 64; bit++) {
        guint64 page = first + bit;
        if (pages >> bit & 1)
            g_array_append_val(all, page);
    }
}

/* The marks since the last time are the pages of these offsets, in order; ends with 0. */
static void assert_marked(Fixture *f, const guint64 *offsets)
{
    g_autoptr(GArray) all = g_array_new(FALSE, FALSE, sizeof(guint64));
    ram_log_take(f->log, collect, all);
    guint count = 0;
    for (; offsets[count]; count++) {
        g_assert_cmpuint(count, <, all->len);
        g_assert_cmpuint(g_array_index(all, guint64, count), ==, offsets[count] / VM_PAGE_SIZE);
    }
    g_assert_cmpuint(all->len, ==, count);
}

static void fill(guint8 *frame, gsize len, guint seed)
{
    for (gsize i = 0; i < len; i++)
        frame[i] = (guint8)(i * 7 + seed + (i >> 8));
}

static void assert_broken(Fixture *f, const char *what)
{
    g_autoptr(GError) error = vring_steal_error(f->ring);
    g_assert_error(error, VRING_ERROR, VRING_ERROR_BROKEN);
    g_assert_nonnull(strstr(error->message, what));
    g_assert_null(vring_steal_error(f->ring));
    g_assert_false(vring_runs(f->ring));
    g_assert_cmpuint(vring_waiting(f->ring), ==, 0);
    g_assert_false(vring_ask(f->ring, 0));
}

/* ---- To the guest ---- */

static void test_put(void)
{
    Fixture f;
    guint8 frame[FRAME_BYTES];
    guint32 head, len;
    begin(&f, TRUE, 8, FALSE);
    g_assert_cmpint(vring_put(f.ring, frame, sizeof(frame)), ==, VRING_EMPTY); /* not started */
    start(&f);
    assert_marked(&f, (guint64[]){f.driver.used, 0});
    fill(frame, sizeof(frame), 1);
    g_assert_cmpint(vring_put(f.ring, frame, sizeof(frame)), ==, VRING_EMPTY);
    assert_marked(&f, (guint64[]){0});
    guint64 buffer = f.free + 2 * VM_PAGE_SIZE - 10; /* over a page's end */
    ring_driver_offer_buffer(&f.driver, 5, buffer, 1600, TRUE);
    g_assert_cmpint(vring_put(f.ring, frame, sizeof(frame)), ==, VRING_DONE);
    assert_marked(&f, (guint64[]){f.driver.used, buffer, buffer + VM_PAGE_SIZE, 0});
    g_assert_false(ring_driver_used(&f.driver, &head, &len));
    g_assert_true(vring_publish(f.ring));
    g_assert_false(vring_publish(f.ring));
    assert_marked(&f, (guint64[]){f.driver.used, 0});
    g_assert_true(ring_driver_used(&f.driver, &head, &len));
    g_assert_cmpuint(head, ==, 5);
    g_assert_cmpuint(len, ==, FRAME_BYTES);
    frame[10] = 1; /* num_buffers */
    frame[11] = 0;
    g_assert_cmpmem(f.ram + buffer, len, frame, FRAME_BYTES);
    g_assert_cmpuint(f.ram[buffer + len], ==, 0);
    end(&f);
}

/* A super-frame over buffers of odd sizes, in chains of one and of two. */
static void test_put_merged(void)
{
    Fixture f;
    g_autofree guint8 *frame = g_malloc(VRING_FRAME_MAX), *got = g_malloc0(VRING_FRAME_MAX);
    gsize at = 0;
    guint32 head, len;
    guint64 offset[128] = {0};
    begin(&f, TRUE, 128, TRUE);
    start(&f);
    fill(frame, VRING_FRAME_MAX, 2);
    for (guint i = 0; i < 128; i += 2) {
        guint32 bytes = 1001 + i;
        offset[i] = f.free + (guint64)i * 1500;
        ring_driver_describe(&f.driver, f.driver.desc, i, offset[i], 13,
                             i % 4 ? RING_WRITE : RING_WRITE | RING_NEXT, (guint16)(i + 1));
        ring_driver_describe(&f.driver, f.driver.desc, i + 1, offset[i] + 13, bytes, RING_WRITE, 0);
    }
    for (guint16 i = 0; i < 128; i += 2)
        ring_driver_offer(&f.driver, i);
    g_assert_cmpint(vring_put(f.ring, frame, VRING_FRAME_MAX), ==, VRING_EMPTY);
    g_assert_cmpuint(vring_waiting(f.ring), ==, 64);
    gsize size = 30000;
    g_assert_cmpint(vring_put(f.ring, frame, size), ==, VRING_DONE);
    vring_publish(f.ring);
    guint chains = 0;
    while (ring_driver_used(&f.driver, &head, &len)) {
        memcpy(got + at, f.ram + offset[head], len);
        at += len;
        chains++;
    }
    g_assert_cmpuint(at, ==, size);
    g_assert_cmpuint(got[10] | got[11] << 8, ==, chains);
    g_assert_cmpuint(chains, >, 30);
    memcpy(frame + 10, got + 10, 2);
    g_assert_cmpmem(got, size, frame, size);
    end(&f);
}

/* Without mergeable buffers one chain holds a frame or nothing does; an old driver's header is shorter. */
static void test_put_plain(void)
{
    Fixture f;
    guint8 frame[200];
    guint32 head, len;
    begin(&f, TRUE, 4, FALSE);
    f.place.mergeable = FALSE;
    f.place.header_bytes = 10;
    start(&f);
    fill(frame, sizeof(frame), 3);
    ring_driver_offer_buffer(&f.driver, 0, f.free, 100, TRUE);
    ring_driver_offer_buffer(&f.driver, 1, f.free + 512, 100, TRUE);
    g_assert_cmpint(vring_put(f.ring, frame, 103), ==, VRING_UNFIT);
    g_assert_cmpint(vring_put(f.ring, frame, 102), ==, VRING_DONE);
    vring_publish(f.ring);
    g_assert_true(ring_driver_used(&f.driver, &head, &len));
    g_assert_cmpuint(len, ==, 100);
    g_assert_cmpmem(f.ram + f.free, 10, frame, 10);
    g_assert_cmpmem(f.ram + f.free + 10, 90, frame + 12, 90);
    g_assert_cmpuint(vring_waiting(f.ring), ==, 1);
    end(&f);
}

static void test_put_unfit(void)
{
    Fixture f;
    g_autofree guint8 *frame = g_malloc0(VRING_FRAME_MAX + 1);
    begin(&f, TRUE, 4, FALSE);
    start(&f);
    for (guint16 i = 0; i < 4; i++)
        ring_driver_offer_buffer(&f.driver, i, f.free + i * 64ull, 20, TRUE);
    g_assert_cmpint(vring_put(f.ring, frame, 81), ==, VRING_UNFIT);
    g_assert_cmpint(vring_put(f.ring, frame, 25), ==, VRING_UNFIT); /* shorter than Ethernet is */
    g_assert_cmpint(vring_put(f.ring, frame, VRING_FRAME_MAX + 1), ==, VRING_UNFIT);
    g_assert_true(vring_runs(f.ring));
    g_assert_cmpint(vring_put(f.ring, frame, 80), ==, VRING_DONE);
    g_assert_cmpint(vring_put(f.ring, frame, 80), ==, VRING_EMPTY);
    end(&f);
}

/* ---- From the guest ---- */

static void test_take(void)
{
    Fixture f;
    g_autofree guint8 *frame = g_malloc0(VRING_FRAME_MAX);
    guint8 sent[500];
    gsize got;
    guint32 head, len;
    begin(&f, FALSE, 8, FALSE);
    start(&f);
    fill(sent, sizeof(sent), 4);
    memcpy(f.ram + f.free, sent, sizeof(sent));
    /* Two descriptors, then a table of three, the last of which is none of the chain's. */
    guint64 table = f.free + 8192;
    ring_driver_describe(&f.driver, f.driver.desc, 3, f.free, 12, RING_NEXT, 1);
    ring_driver_describe(&f.driver, f.driver.desc, 1, f.free + 12, 100, RING_NEXT, 6);
    ring_driver_describe(&f.driver, f.driver.desc, 6, table, 48, RING_INDIRECT, 0);
    ring_driver_describe(&f.driver, table, 0, f.free + 112, 200, RING_NEXT, 2);
    ring_driver_describe(&f.driver, table, 2, f.free + 312, 188, 0, 0);
    ring_driver_offer(&f.driver, 3);
    for (guint looks = 0; looks < 2; looks++) {
        g_assert_cmpint(vring_look(f.ring, &got), ==, VRING_DONE);
        g_assert_cmpuint(got, ==, sizeof(sent));
        g_assert_cmpuint(vring_waiting(f.ring), ==, 1);
    }
    g_assert_cmpint(vring_take(f.ring, frame, &got), ==, VRING_DONE);
    sent[10] = sent[11] = 0; /* num_buffers is for the other direction */
    g_assert_cmpmem(frame, got, sent, sizeof(sent));
    g_assert_cmpint(vring_take(f.ring, frame, &got), ==, VRING_EMPTY);
    vring_publish(f.ring);
    g_assert_true(ring_driver_used(&f.driver, &head, &len));
    g_assert_cmpuint(head, ==, 3);
    g_assert_cmpuint(len, ==, 0);
    assert_marked(&f, (guint64[]){f.driver.used, 0});
    end(&f);
}

static void test_take_short_header(void)
{
    Fixture f;
    g_autofree guint8 *frame = g_malloc0(VRING_FRAME_MAX);
    guint8 sent[70];
    gsize got;
    begin(&f, FALSE, 2, FALSE);
    f.place.header_bytes = 10;
    start(&f);
    fill(sent, sizeof(sent), 5);
    memcpy(f.ram + f.free, sent, sizeof(sent));
    memset(frame, 0xff, 100);
    ring_driver_offer_buffer(&f.driver, 0, f.free, sizeof(sent), FALSE);
    g_assert_cmpint(vring_take(f.ring, frame, &got), ==, VRING_DONE);
    g_assert_cmpuint(got, ==, 72);
    g_assert_cmpmem(frame, 10, sent, 10);
    g_assert_cmpuint(frame[10] | frame[11], ==, 0);
    g_assert_cmpmem(frame + 12, 60, sent + 10, 60);
    end(&f);
}

/* What is no frame is used up, and does no harm. */
static void test_take_unfit(void)
{
    Fixture f;
    g_autofree guint8 *frame = g_malloc0(VRING_FRAME_MAX);
    static const guint32 lengths[] = {1, 11, 25, VRING_FRAME_MAX + 1, 26, VRING_FRAME_MAX};
    gsize got;
    begin(&f, FALSE, 8, FALSE);
    start(&f);
    for (guint16 i = 0; i < G_N_ELEMENTS(lengths); i++)
        ring_driver_offer_buffer(&f.driver, i, f.free, lengths[i], FALSE);
    for (guint i = 0; i < 4; i++)
        g_assert_cmpint(vring_take(f.ring, frame, &got), ==, VRING_UNFIT);
    g_assert_cmpint(vring_take(f.ring, frame, &got), ==, VRING_DONE);
    g_assert_cmpuint(got, ==, 26);
    g_assert_cmpint(vring_take(f.ring, frame, &got), ==, VRING_DONE);
    g_assert_cmpuint(got, ==, VRING_FRAME_MAX);
    g_assert_true(vring_runs(f.ring));
    end(&f);
}

/* A buffer may lie over two regions that follow each other in the guest, and not in RAM. */
static void test_regions(void)
{
    Fixture f;
    g_autofree guint8 *frame = g_malloc0(VRING_FRAME_MAX);
    gsize got;
    begin(&f, FALSE, 2, FALSE);
    guint64 cut = f.free + 100;
    f.memory.count = 2;
    f.memory.regions[0] = (VringRegion){.guest = GUEST, .size = cut};
    f.memory.regions[1] =
        (VringRegion){.guest = GUEST + cut, .size = 4096, .offset = RAM_BYTES - 4096};
    start(&f);
    memset(f.ram + f.free, 'a', 4096);
    memset(f.ram + RAM_BYTES - 4096, 'b', 4096);
    ring_driver_offer_buffer(&f.driver, 0, f.free, 200, FALSE);
    g_assert_cmpint(vring_take(f.ring, frame, &got), ==, VRING_DONE);
    g_assert_cmpuint(got, ==, 200);
    g_assert_cmpuint(frame[99], ==, 'a');
    g_assert_cmpuint(frame[100], ==, 'b');
    g_assert_cmpuint(frame[199], ==, 'b');
    ring_driver_offer_buffer(&f.driver, 0, f.free, 100 + 4097, FALSE);
    g_assert_cmpint(vring_take(f.ring, frame, &got), ==, VRING_EMPTY);
    assert_broken(&f, "not in RAM");
    end(&f);
}

/* ---- Rules ---- */

typedef struct {
    const char *name;
    void (*make)(Fixture *f);
    const char *rule;
} Rule;

static void make_index(Fixture *f)
{
    f->driver.available = 8;
    ring_driver_offer(&f->driver, 0); /* nine of eight */
}

static void make_head(Fixture *f)
{
    ring_driver_offer(&f->driver, 8);
}

static void make_next(Fixture *f)
{
    ring_driver_describe(&f->driver, f->driver.desc, 0, f->free, 20, RING_NEXT, 0xffff);
    ring_driver_offer(&f->driver, 0);
}

static void make_loop(Fixture *f)
{
    ring_driver_describe(&f->driver, f->driver.desc, 0, f->free, 1, RING_NEXT, 1);
    ring_driver_describe(&f->driver, f->driver.desc, 1, f->free, 1, RING_NEXT, 0);
    ring_driver_offer(&f->driver, 0);
}

static void make_direction(Fixture *f)
{
    ring_driver_offer_buffer(&f->driver, 0, f->free, 100, TRUE);
}

static void make_address(Fixture *f)
{
    ring_driver_offer_buffer(&f->driver, 0, RAM_BYTES - 99, 100, FALSE);
}

static void make_low_address(Fixture *f)
{
    ring_driver_offer_buffer(&f->driver, 0, (guint64)-GUEST, 100, FALSE);
}

static void make_last_address(Fixture *f)
{
    ring_driver_offer_buffer(&f->driver, 0, (guint64)-GUEST - 1, 100, FALSE);
}

static void make_table(Fixture *f, guint64 offset, guint32 len, guint16 flags)
{
    ring_driver_describe(&f->driver, f->driver.desc, 0, offset, len, RING_INDIRECT | flags, 1);
    ring_driver_offer(&f->driver, 0);
}

static void make_table_in_table(Fixture *f)
{
    ring_driver_describe(&f->driver, f->free, 0, f->free, 16, RING_INDIRECT, 0);
    make_table(f, f->free, 16, 0);
}

static void make_table_next(Fixture *f)
{
    make_table(f, f->free, 16, RING_NEXT);
}

static void make_table_empty(Fixture *f)
{
    make_table(f, f->free, 0, 0);
}

static void make_table_odd(Fixture *f)
{
    make_table(f, f->free, 17, 0);
}

static void make_table_long(Fixture *f)
{
    make_table(f, f->free, 16 * 1025, 0);
}

static void make_table_outside(Fixture *f)
{
    make_table(f, RAM_BYTES - 16, 32, 0);
}

static void make_table_loop(Fixture *f)
{
    ring_driver_describe(&f->driver, f->free, 0, f->free, 1, RING_NEXT, 0);
    make_table(f, f->free, 16, 0);
}

static void make_table_unasked(Fixture *f)
{
    f->place.indirect = FALSE;
    start(f);
    make_table(f, f->free, 16, 0);
}

/* A table of 1,023 after one, each of two pieces. */
static void make_pieces(Fixture *f)
{
    guint64 cut = f->free + 65536;
    f->memory.count = 2;
    f->memory.regions[0] = (VringRegion){.guest = GUEST, .size = cut};
    f->memory.regions[1] = (VringRegion){.guest = GUEST + cut, .size = 4096};
    for (guint i = 0; i < 1023; i++)
        ring_driver_describe(&f->driver, f->free, i, cut - 1, 2, RING_NEXT, (guint16)(i + 1));
    make_table(f, f->free, 16 * 1023, 0);
}

/* It would add steps and no piece, which bound them. */
static void make_empty(Fixture *f)
{
    ring_driver_offer_buffer(&f->driver, 0, f->free, 0, FALSE);
}

static const Rule rules[] = {
    {"index",          make_index,          "more buffers"            },
    {"head",           make_head,           "out of range"            },
    {"next",           make_next,           "out of range"            },
    {"loop",           make_loop,           "no end"                  },
    {"direction",      make_direction,      "direction"               },
    {"address",        make_address,        "not in RAM"              },
    {"low-address",    make_low_address,    "not in RAM"              },
    {"last-address",   make_last_address,   "not in RAM"              },
    {"table-in-table", make_table_in_table, "where none may be"       },
    {"table-unasked",  make_table_unasked,  "where none may be"       },
    {"table-next",     make_table_next,     "not the last"            },
    {"table-empty",    make_table_empty,    "impossible length"       },
    {"table-odd",      make_table_odd,      "impossible length"       },
    {"table-long",     make_table_long,     "impossible length"       },
    {"table-outside",  make_table_outside,  "table that is not in RAM"},
    {"table-loop",     make_table_loop,     "no end"                  },
    {"pieces",         make_pieces,         "too many buffers"        },
    {"empty",          make_empty,          "no bytes"                },
};

/* The ring rests, tells why once, and works again when it is started again. */
static void test_rule(gconstpointer data)
{
    const Rule *rule = data;
    Fixture f;
    g_autofree guint8 *frame = g_malloc0(VRING_FRAME_MAX);
    gsize got;
    begin(&f, FALSE, 8, FALSE);
    start(&f);
    rule->make(&f);
    g_assert_null(vring_steal_error(f.ring));
    g_assert_cmpint(vring_take(f.ring, frame, &got), ==, VRING_EMPTY);
    assert_broken(&f, rule->rule);
    ring_driver_init(&f.driver, f.ram, GUEST, 4096, 8, FALSE);
    ring_driver_offer_buffer(&f.driver, 0, f.free, 100, FALSE);
    g_assert_cmpint(vring_take(f.ring, frame, &got), ==, VRING_EMPTY);
    g_assert_cmpuint(vring_stop(f.ring), ==, 0);
    start(&f);
    g_assert_cmpint(vring_take(f.ring, frame, &got), ==, VRING_DONE);
    g_assert_null(vring_steal_error(f.ring));
    end(&f);
}

static void test_direction_to_guest(void)
{
    Fixture f;
    guint8 frame[FRAME_BYTES] = {0};
    begin(&f, TRUE, 8, FALSE);
    start(&f);
    ring_driver_offer_buffer(&f.driver, 0, f.free, 100, FALSE);
    g_assert_cmpint(vring_put(f.ring, frame, sizeof(frame)), ==, VRING_EMPTY);
    assert_broken(&f, "direction");
    end(&f);
}

static void test_place(void)
{
    static const struct {
        guint size;
        guint desc, avail, used; /* added */
    } bad[] = {
        {0,    0, 0, 0},
        {3,    0, 0, 0},
        {2048, 0, 0, 0},
        {8,    8, 0, 0},
        {8,    0, 1, 0},
        {8,    0, 0, 2},
    };
    Fixture f;
    begin(&f, FALSE, 8, FALSE);
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        VringPlace place = f.place;
        start(&f);
        place.size = bad[i].size;
        place.desc += bad[i].desc;
        place.avail += bad[i].avail;
        place.used += bad[i].used;
        g_assert_false(vring_start(f.ring, &place, &error));
        g_assert_error(error, VRING_ERROR, VRING_ERROR_PLACE);
        g_assert_false(vring_runs(f.ring));
    }
    g_assert_cmpuint(vring_desc_bytes(8), ==, 128);
    g_assert_cmpuint(vring_avail_bytes(8, FALSE), ==, 20);
    g_assert_cmpuint(vring_avail_bytes(8, TRUE), ==, 22);
    g_assert_cmpuint(vring_used_bytes(8, FALSE), ==, 68);
    g_assert_cmpuint(vring_used_bytes(8, TRUE), ==, 70);
    end(&f);
}

/* ---- Stop and start ---- */

/* Indexes wrap, and a ring that was stopped goes on where it was: in another process, too. */
static void test_wrap(void)
{
    Fixture f;
    g_autofree guint8 *frame = g_malloc0(VRING_FRAME_MAX);
    guint8 sent[64];
    gsize got;
    guint32 head, len;
    begin(&f, FALSE, 4, TRUE);
    start(&f);
    for (guint n = 0; n < 70000; n++) {
        fill(sent, sizeof(sent), n);
        sent[10] = sent[11] = 0;
        guint64 at = f.free + (n % 4) * 64ull;
        memcpy(f.ram + at, sent, sizeof(sent));
        ring_driver_offer_buffer(&f.driver, (guint16)(n % 4), at, sizeof(sent), FALSE);
        if (n % 1000 == 7) {
            f.place.next = vring_stop(f.ring);
            g_assert_cmpint(vring_take(f.ring, frame, &got), ==, VRING_EMPTY);
            g_assert_cmpuint(f.place.next, ==, n & 0xffff);
            vring_free(f.ring);
            f.ring = vring_new(&f.memory, FALSE);
            start(&f);
        }
        g_assert_cmpint(vring_take(f.ring, frame, &got), ==, VRING_DONE);
        g_assert_cmpmem(frame, got, sent, sizeof(sent));
        vring_publish(f.ring);
        g_assert_true(ring_driver_used(&f.driver, &head, &len));
        g_assert_cmpuint(head, ==, n % 4);
    }
    end(&f);
}

/* A stop lets the guest see what was used, but doesn't wait for anybody to ask. */
static void test_stop_publishes(void)
{
    Fixture f;
    g_autofree guint8 *frame = g_malloc0(VRING_FRAME_MAX);
    gsize got;
    guint32 head, len;
    begin(&f, FALSE, 4, TRUE);
    start(&f);
    ring_driver_offer_buffer(&f.driver, 0, f.free, 100, FALSE);
    g_assert_cmpint(vring_take(f.ring, frame, &got), ==, VRING_DONE);
    g_assert_cmpuint(vring_stop(f.ring), ==, 1);
    g_assert_true(ring_driver_used(&f.driver, &head, &len));
    g_assert_cmpuint(vring_stop(f.ring), ==, 1);
    end(&f);
}

/* ---- Notifications ---- */

static void test_event_index(void)
{
    Fixture f;
    g_autofree guint8 *frame = g_malloc0(VRING_FRAME_MAX);
    gsize got;
    guint32 head, len;
    begin(&f, FALSE, 8, TRUE);
    start(&f);
    for (guint16 n = 0; n < 3; n++)
        ring_driver_offer_buffer(&f.driver, n, f.free, 100, FALSE);
    /* The first after a start is always told: what was wished before is not known. */
    vring_take(f.ring, frame, &got);
    g_assert_true(vring_publish(f.ring));
    vring_take(f.ring, frame, &got);
    g_assert_false(vring_publish(f.ring)); /* the wish is for the first, which has been */
    g_assert_true(ring_driver_used(&f.driver, &head, &len));
    g_assert_true(ring_driver_ask(&f.driver));
    g_assert_true(ring_driver_used(&f.driver, &head, &len));
    g_assert_false(ring_driver_ask(&f.driver));
    vring_take(f.ring, frame, &got);
    g_assert_true(vring_publish(f.ring));
    /* Kicks: wanted once the device has asked, for the next buffer only. */
    g_assert_false(vring_ask(f.ring, 0));
    guint16 old = f.driver.available;
    ring_driver_offer_buffer(&f.driver, 3, f.free, 100, FALSE);
    g_assert_true(ring_driver_must_kick(&f.driver, old));
    /* One that has come since the last look is told, for no kick may come. */
    g_assert_true(vring_ask(f.ring, 0));
    g_assert_false(vring_ask(f.ring, 1));
    g_assert_false(ring_driver_must_kick(&f.driver, old));
    vring_take(f.ring, frame, &got);
    g_assert_false(vring_ask(f.ring, 0));
    ring_driver_offer_buffer(&f.driver, 3, f.free, 100, FALSE);
    old = f.driver.available;
    ring_driver_offer_buffer(&f.driver, 4, f.free, 100, FALSE);
    g_assert_false(ring_driver_must_kick(&f.driver, old));
    end(&f);
}

static void test_flags(void)
{
    Fixture f;
    g_autofree guint8 *frame = g_malloc0(VRING_FRAME_MAX);
    gsize got;
    begin(&f, FALSE, 8, FALSE);
    f.ram[f.driver.used] = 1; /* a device before it wanted no kicks */
    start(&f);
    g_assert_true(ring_driver_must_kick(&f.driver, 0));
    for (guint16 n = 0; n < 2; n++)
        ring_driver_offer_buffer(&f.driver, n, f.free, 100, FALSE);
    vring_take(f.ring, frame, &got);
    g_assert_true(vring_publish(f.ring));
    f.ram[f.driver.avail] = 1; /* no interrupts */
    vring_take(f.ring, frame, &got);
    g_assert_false(vring_publish(f.ring));
    end(&f);
}

#define RACE_FRAMES 200000u

typedef struct {
    Fixture f;
    int kick, call;
} Race;

static void wait_for(int fd)
{
    eventfd_t value;
    g_assert_cmpint(eventfd_read(fd, &value), ==, 0);
}

/* The device sleeps whenever it may. */
static gpointer device_thread(gpointer data)
{
    Race *race = data;
    g_autofree guint8 *frame = g_malloc0(VRING_FRAME_MAX);
    gsize got;
    for (guint32 n = 0; n < RACE_FRAMES;) {
        while (vring_take(race->f.ring, frame, &got) == VRING_DONE) {
            guint32 number;
            memcpy(&number, frame + 12, sizeof(number));
            g_assert_cmpuint(number, ==, n);
            n++;
            if (vring_publish(race->f.ring))
                eventfd_write(race->call, 1);
        }
        g_assert_true(vring_runs(race->f.ring));
        if (n < RACE_FRAMES && !vring_ask(race->f.ring, 0))
            wait_for(race->kick);
    }
    return NULL;
}

/* Two threads that each sleep until the other notifies them: a notification left out stops both. */
static void test_race(void)
{
    Race race;
    guint32 head, len;
    begin(&race.f, FALSE, 8, TRUE);
    start(&race.f);
    race.kick = eventfd(0, EFD_CLOEXEC);
    race.call = eventfd(0, EFD_CLOEXEC);
    RingDriver *driver = &race.f.driver;
    g_assert_false(vring_ask(race.f.ring, 0));
    GThread *thread = g_thread_new("device", device_thread, &race);
    guint32 sent = 0, done = 0;
    while (done < RACE_FRAMES) {
        while (sent < RACE_FRAMES && sent - done < 8) {
            guint64 at = race.f.free + (sent % 8) * 64ull;
            memcpy(race.f.ram + at + 12, &sent, sizeof(sent));
            guint16 old = driver->available;
            ring_driver_offer_buffer(driver, (guint16)(sent % 8), at, 64, FALSE);
            if (ring_driver_must_kick(driver, old))
                eventfd_write(race.kick, 1);
            sent++;
        }
        while (ring_driver_used(driver, &head, &len))
            done++;
        if (done < RACE_FRAMES && sent - done == 8 && !ring_driver_ask(driver))
            wait_for(race.call);
        if (sent == RACE_FRAMES && done < RACE_FRAMES && !ring_driver_ask(driver))
            wait_for(race.call);
    }
    g_thread_join(thread);
    colo_fd_close(&race.kick);
    colo_fd_close(&race.call);
    end(&race.f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vring/put", test_put);
    g_test_add_func("/vring/put/merged", test_put_merged);
    g_test_add_func("/vring/put/plain", test_put_plain);
    g_test_add_func("/vring/put/unfit", test_put_unfit);
    g_test_add_func("/vring/take", test_take);
    g_test_add_func("/vring/take/short-header", test_take_short_header);
    g_test_add_func("/vring/take/unfit", test_take_unfit);
    g_test_add_func("/vring/regions", test_regions);
    for (gsize i = 0; i < G_N_ELEMENTS(rules); i++) {
        g_autofree char *name = g_strdup_printf("/vring/rules/%s", rules[i].name);
        g_test_add_data_func(name, &rules[i], test_rule);
    }
    g_test_add_func("/vring/rules/direction-to-guest", test_direction_to_guest);
    g_test_add_func("/vring/place", test_place);
    g_test_add_func("/vring/wrap", test_wrap);
    g_test_add_func("/vring/stop-publishes", test_stop_publishes);
    g_test_add_func("/vring/event-index", test_event_index);
    g_test_add_func("/vring/flags", test_flags);
    g_test_add_func("/vring/race", test_race);
    return g_test_run();
}
