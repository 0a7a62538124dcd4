/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Packed pages (checkpoint/pack.h): what is packed comes out again, alone and in a stream, and nothing
 * that is wrong with them is believed.
 */
#include <glib.h>
#include <string.h>

#include "checkpoint/pack.h"
#include "common/endian.h"
#include "tests/support/stream-sample.h"

#define PAGES STREAM_SAMPLE_PAGES
#define ID    STREAM_SAMPLE_ID

typedef struct {
    Packer *packer;
    Unpacker *unpacker;
    guint8 payload[PACK_PAYLOAD_MAX];
    gsize len, plain;
    guint8 page[VM_PAGE_SIZE];
} Fixture;

static void setup(Fixture *f, gconstpointer data)
{
    (void)data;
    f->packer = packer_new(PAGES);
    f->unpacker = unpacker_new(PAGES);
    for (gsize i = 0; i < sizeof(f->page); i++)
        f->page[i] = (guint8)(i * 7 + i / 256);
}

static void teardown(Fixture *f, gconstpointer data)
{
    (void)data;
    packer_free(f->packer);
    unpacker_free(f->unpacker);
}

static void close_as(Fixture *f, PackCodec codec, gboolean keep)
{
    f->len = packer_close(f->packer, codec, keep, f->payload, &f->plain);
    g_assert_cmpuint(f->len, <=, sizeof(f->payload));
    g_assert_cmpuint(packer_count(f->packer), ==, 0);
}

static gboolean is_difference(const Fixture *f, guint i)
{
    return (f->payload[PACK_HEAD + 4 * i] & 0x80) != 0;
}

/* What has come out is page `page`, alone. */
static void check_page(Fixture *f, guint64 page)
{
    guint64 first, count;
    const guint8 *data;
    g_assert_cmpstr(unpacker_open(f->unpacker, f->payload, f->len), ==, NULL);
    g_assert_true(unpacker_next(f->unpacker, &first, &count, &data));
    g_assert_cmpuint(first, ==, page);
    g_assert_cmpuint(count, ==, 1);
    g_assert_cmpmem(data, VM_PAGE_SIZE, f->page, VM_PAGE_SIZE);
    g_assert_false(unpacker_next(f->unpacker, &first, &count, &data));
}

/* How many versions there is room for. */
static void test_slots(void)
{
    static const guint64 cases[][2] = {
        {1,                           1             },
        {15,                          1             },
        {16,                          2             },
        {64,                          8             },
        {65536,                       8192          },
        {100000,                      8192          },
        {PACK_SLOTS_MAX * 8ull,       PACK_SLOTS_MAX},
        {G_GUINT64_CONSTANT(1) << 40, PACK_SLOTS_MAX},
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++)
        g_assert_cmpuint(pack_slots(cases[i][0]), ==, cases[i][1]);
}

/* Pages in runs, by each codec. */
static void test_runs(Fixture *f, gconstpointer data)
{
    (void)data;
    static const guint64 pages[] = {0, 1, 2, 9, 30, 31, 63};
    for (PackCodec codec = PACK_PLAIN; codec < PACK_CODECS; codec++) {
        for (gsize i = 0; i < G_N_ELEMENTS(pages); i++)
            packer_add(f->packer, pages[i], f->page);
        g_assert_false(packer_takes(f->packer, 63));
        close_as(f, codec, FALSE);
        g_assert_cmpuint(f->plain, ==, 7 * VM_PAGE_SIZE + 4 * 32);
        g_assert_cmpstr(unpacker_open(f->unpacker, f->payload, f->len), ==, NULL);
        guint64 first, count, sum = 0, runs = 0;
        const guint8 *at;
        while (unpacker_next(f->unpacker, &first, &count, &at)) {
            for (guint64 i = 0; i < count; i++)
                g_assert_cmpmem(at + i * VM_PAGE_SIZE, VM_PAGE_SIZE, f->page, VM_PAGE_SIZE);
            sum += first * count;
            runs++;
        }
        g_assert_cmpuint(runs, ==, 4);
        g_assert_cmpuint(sum, ==, 0 * 3 + 9 + 30 * 2 + 63);
    }
}

/* A page that has changed little goes as what has changed; one of another page's slot doesn't. */
static void test_difference(Fixture *f, gconstpointer data)
{
    (void)data;
    packer_add(f->packer, 3, f->page);
    close_as(f, PACK_LZ4, TRUE);
    g_assert_false(is_difference(f, 0));
    check_page(f, 3);
    f->page[17] ^= 1;
    packer_add(f->packer, 3, f->page);
    close_as(f, PACK_LZ4, TRUE);
    g_assert_true(is_difference(f, 0));
    g_assert_cmpuint(f->len, <, 80);
    check_page(f, 3);
    /* 11 has the slot of 3; and after it 3 is no longer there. */
    packer_add(f->packer, 11, f->page);
    close_as(f, PACK_ZSTD, TRUE);
    g_assert_false(is_difference(f, 0));
    check_page(f, 11);
    packer_add(f->packer, 3, f->page);
    close_as(f, PACK_ZSTD, TRUE);
    g_assert_false(is_difference(f, 0));
    check_page(f, 3);
    /* What is not kept leaves the slots alone: the next difference is to the version before. */
    guint8 before = f->page[99];
    f->page[99] = (guint8)~before;
    packer_add(f->packer, 3, f->page);
    close_as(f, PACK_LZ4, FALSE);
    g_assert_false(is_difference(f, 0));
    check_page(f, 3);
    f->page[100]++;
    packer_add(f->packer, 3, f->page);
    close_as(f, PACK_LZ4, TRUE);
    g_assert_true(is_difference(f, 0));
    check_page(f, 3);
}

/* A page whose words have nearly all changed goes as it is; and what can't be compressed, too. */
static void test_incompressible(Fixture *f, gconstpointer data)
{
    (void)data;
    for (int round = 0; round < 2; round++) {
        for (gsize i = 0; i < sizeof(f->page); i++)
            f->page[i] = (guint8)g_test_rand_int();
        packer_add(f->packer, 5, f->page);
        close_as(f, PACK_ZSTD, TRUE);
        g_assert_false(is_difference(f, 0));
        g_assert_cmpuint(f->len, ==, PACK_HEAD + 4 + VM_PAGE_SIZE);
        g_assert_cmpuint(f->payload[12], ==, PACK_PLAIN);
        check_page(f, 5);
    }
}

static void expect_wrong(Fixture *f, const char *about)
{
    const char *wrong = unpacker_open(f->unpacker, f->payload, f->len);
    g_assert_nonnull(wrong);
    if (!strstr(wrong, about))
        g_error("'%s' for: %s", wrong, about);
    guint64 first, count;
    const guint8 *at;
    g_assert_false(unpacker_next(f->unpacker, &first, &count, &at));
}

static void pack_two(Fixture *f, PackCodec codec)
{
    packer_add(f->packer, 3, f->page);
    packer_add(f->packer, 4, f->page);
    close_as(f, codec, FALSE);
}

/* Each field, out of its range. */
static void test_wrong(Fixture *f, gconstpointer data)
{
    (void)data;
    static const struct {
        gsize at;
        guint32 value;
        const char *about;
    } cases[] = {
        {8,             0,                        "number of pages"},
        {8,             65,                       "number of pages"},
        {8,             G_MAXUINT32,              "number of pages"},
        {8,             60,                       ""               },
        {8,             1,                        "unpack"         },
        {12,            3u << 24,                 "codec"          },
        {12,            PACK_LZ4 << 24 | 2 << 16, "codec"          },
        {12,            PACK_LZ4 << 24 | 1,       "codec"          },
        {12,            PACK_ZSTD << 24,          "unpack"         },
        {12,            PACK_PLAIN << 24,         "unpack"         },
        {0,             1,                        "rise"           },
        {0,             G_MAXUINT32,              "rise"           },
        {4,             63,                       "rise"           },
        {PACK_HEAD,     1,                        "rise"           },
        {PACK_HEAD + 4, 0,                        "rise"           },
        {PACK_HEAD + 4, 61,                       "rise"           },
        {PACK_HEAD + 4, 0x7fffffff,               "rise"           },
        {PACK_HEAD + 4, 0x80000001,               "not kept"       },
        {16,            0,                        "not those"      },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        pack_two(f, PACK_LZ4);
        colo_put_be32(f->payload + cases[i].at, cases[i].value);
        expect_wrong(f, cases[i].about);
    }
    /* A difference to what was never kept, and to what another page has taken the slot of. */
    pack_two(f, PACK_LZ4);
    colo_put_be32(f->payload + 12, PACK_LZ4 << 24 | 1 << 16);
    colo_put_be32(f->payload + PACK_HEAD, 0x80000000);
    expect_wrong(f, "was not kept");
}

/* A body that is cut, or longer, or of fewer pages. */
static void test_wrong_body(Fixture *f, gconstpointer data)
{
    (void)data;
    for (PackCodec codec = PACK_PLAIN; codec < PACK_CODECS; codec++) {
        pack_two(f, codec);
        gsize whole = f->len;
        for (f->len = PACK_PAYLOAD_MIN; f->len < whole; f->len += codec == PACK_PLAIN ? 97 : 1)
            g_assert_nonnull(unpacker_open(f->unpacker, f->payload, f->len));
        f->len = whole + 1;
        f->payload[whole] = 0;
        g_assert_nonnull(unpacker_open(f->unpacker, f->payload, f->len));
        f->len = whole;
        g_assert_null(unpacker_open(f->unpacker, f->payload, f->len));
    }
}

/* Several frames, though they unpack to the pages; and a format of long ago. */
static void test_frames(Fixture *f, gconstpointer data)
{
    (void)data;
    static const guint8 skippable[] = {0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0};
    pack_two(f, PACK_ZSTD);
    memcpy(f->payload + f->len, skippable, sizeof(skippable));
    f->len += sizeof(skippable);
    expect_wrong(f, "unpack");
    pack_two(f, PACK_ZSTD);
    f->payload[PACK_HEAD + 8]--;
    expect_wrong(f, "unpack");
}

/* ---- In a stream ---- */

static void test_sample(void)
{
    g_autoptr(StreamSample) sample = stream_sample_packed();
    static const gsize steps[] = {1, 4096, G_MAXSIZE};
    for (gsize i = 0; i < G_N_ELEMENTS(steps); i++) {
        g_autofree StreamSink *sink = g_new0(StreamSink, 1);
        g_autoptr(GError) error =
            stream_sample_read(sample->bytes->data, sample->bytes->len, steps[i], sink);
        g_assert_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_IO);
        g_assert_cmpuint(sink->checkpoints, ==, 4);
        g_assert_cmpmem(sink->complete, sizeof(sink->complete), sample->ram, sizeof(sample->ram));
    }
}

/* No bit of it can change without an error. */
static void test_flipped_bits(void)
{
    g_autoptr(StreamSample) sample = stream_sample_packed();
    guint8 *bytes = sample->bytes->data;
    for (gsize at = 0; at < sample->bytes->len; at++) {
        g_autofree StreamSink *sink = g_new0(StreamSink, 1);
        guint8 bit = (guint8)(1 << (at % 8));
        if (at > 3000 && at % 16)
            continue;
        bytes[at] ^= bit;
        g_autoptr(GError) error = stream_sample_read(bytes, sample->bytes->len, G_MAXSIZE, sink);
        bytes[at] ^= bit;
        g_assert_cmpuint(sink->checkpoints, <, 4);
    }
}

static void change_at_random(guint8 *ram)
{
    guint8 *page = ram + (gsize)g_test_rand_int_range(0, PAGES) * VM_PAGE_SIZE;
    int what = g_test_rand_int_range(0, 8);
    if (what == 0)
        memset(page, 0, VM_PAGE_SIZE);
    else if (what == 1)
        for (gsize i = 0; i < VM_PAGE_SIZE; i++)
            page[i] = (guint8)g_test_rand_int();
    else
        page[g_test_rand_int_range(0, VM_PAGE_SIZE)] = (guint8)g_test_rand_int();
}

/* Any way of packing after any other, pages in any order and many times. */
static void test_random(void)
{
    g_autoptr(StreamWriter) writer = stream_writer_new(ID, PAGES * VM_PAGE_SIZE);
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autofree guint8 *ram = g_malloc0(PAGES * VM_PAGE_SIZE);
    for (guint64 epoch = 1; epoch <= 200; epoch++) {
        for (int i = 0; i < 30; i++) {
            change_at_random(ram);
            guint64 page = (guint64)g_test_rand_int_range(0, PAGES);
            stream_writer_page(writer, page, ram + page * VM_PAGE_SIZE);
            if (g_test_rand_int_range(0, 8) == 0)
                stream_writer_set_packing(writer, (PackCodec)g_test_rand_int_range(0, PACK_CODECS),
                                          g_test_rand_bit());
        }
        stream_sample_checkpoint(writer, epoch, ram, 0, PAGES);
        stream_sample_take(writer, bytes);
    }
    g_autofree StreamSink *sink = g_new0(StreamSink, 1);
    g_autoptr(GError) error = stream_sample_read(bytes->data, bytes->len, 10000, sink);
    g_assert_cmpuint(sink->checkpoints, ==, 200);
    g_assert_cmpmem(sink->complete, sizeof(sink->complete), ram, PAGES * VM_PAGE_SIZE);
}

/* The last of what is sent of a page counts, though zero pages and packed ones wait beside each other. */
static void test_order(void)
{
    g_autofree guint8 *ram = g_malloc0(PAGES * VM_PAGE_SIZE);
    guint8 data[VM_PAGE_SIZE];
    memset(data, 1, sizeof(data));
    g_autoptr(StreamWriter) writer = stream_writer_new(ID, PAGES * VM_PAGE_SIZE);
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    stream_writer_set_packing(writer, PACK_LZ4, TRUE);
    stream_writer_zero_run(writer, 0, PAGES);
    stream_writer_page(writer, 7, data);
    stream_writer_zero_run(writer, 7, 2);
    stream_writer_page(writer, 8, data);
    g_assert_cmpmem(stream_writer_last_page(writer), VM_PAGE_SIZE, data, sizeof(data));
    stream_writer_page(writer, 9, data);
    stream_writer_zero_run(writer, 9, 1);
    g_assert_null(stream_writer_last_page(writer));
    stream_sample_take(writer, bytes);
    memcpy(ram + 8 * VM_PAGE_SIZE, data, sizeof(data));
    stream_sample_checkpoint(writer, 1, ram, 0, 2);
    stream_sample_take(writer, bytes);
    g_autofree StreamSink *sink = g_new0(StreamSink, 1);
    g_autoptr(GError) error = stream_sample_read(bytes->data, bytes->len, G_MAXSIZE, sink);
    g_assert_cmpuint(sink->checkpoints, ==, 1);
    g_assert_cmpmem(sink->complete, sizeof(sink->complete), ram, PAGES * VM_PAGE_SIZE);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/pack/slots", test_slots);
    g_test_add("/pack/runs", Fixture, NULL, setup, test_runs, teardown);
    g_test_add("/pack/difference", Fixture, NULL, setup, test_difference, teardown);
    g_test_add("/pack/incompressible", Fixture, NULL, setup, test_incompressible, teardown);
    g_test_add("/pack/wrong", Fixture, NULL, setup, test_wrong, teardown);
    g_test_add("/pack/wrong-body", Fixture, NULL, setup, test_wrong_body, teardown);
    g_test_add("/pack/frames", Fixture, NULL, setup, test_frames, teardown);
    g_test_add_func("/pack/stream/sample", test_sample);
    g_test_add_func("/pack/stream/flipped-bits", test_flipped_bits);
    g_test_add_func("/pack/stream/random", test_random);
    g_test_add_func("/pack/stream/order", test_order);
    return g_test_run();
}
