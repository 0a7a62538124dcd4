/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a secondary tells of its RAM (docs/STREAM.md): what is sent is received; of whatever else
 * comes nothing is believed.
 */
#include <glib.h>
#include <string.h>

#include "checkpoint/base.h"
#include "common/endian.h"
#include "tests/support/bytes-reader.h"
#include "tests/support/test-ram.h"

#define PAGES  10000u
#define HEADER 32u

static gboolean append(gpointer opaque, const guint8 *bytes, gsize len, GError **error)
{
    (void)error;
    g_byte_array_append(opaque, bytes, (guint)len);
    return TRUE;
}

/* Of a RAM of which pages 3, 4, and 5000 to 9999 have memory. */
static GByteArray *sample(TestRam *ram, guint64 seed)
{
    GByteArray *bytes = g_byte_array_new();
    memset(ram->guest + 3 * VM_PAGE_SIZE, 1, VM_PAGE_SIZE);
    memset(ram->guest + 4 * VM_PAGE_SIZE, 2, VM_PAGE_SIZE);
    memset(ram->guest + 5000 * VM_PAGE_SIZE, 3, 5000 * VM_PAGE_SIZE);
    g_assert_true(base_send(&ram->ram, seed, append, bytes, NULL));
    return bytes;
}

static Base *receive(const GByteArray *bytes, gsize len, gsize *ret_read, GError **error)
{
    BytesReader from = {.bytes = bytes->data, .len = len};
    Base *base = base_receive(PAGES, bytes_reader_read, &from, error);
    if (ret_read)
        *ret_read = from.at;
    return base;
}

static void test_round_trip(void)
{
    g_autoptr(TestRam) ram = test_ram_new(PAGES);
    g_autoptr(GByteArray) bytes = sample(ram, 7);
    g_autoptr(GError) error = NULL;
    gsize len = bytes->len, read;
    g_byte_array_append(bytes, (const guint8 *)"what follows", 12);
    g_autoptr(Base) base = receive(bytes, bytes->len, &read, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(read, ==, len);
    g_assert_cmpuint(base_count(base), ==, 5002);
    for (guint64 page = 0; page < PAGES; page++) {
        const guint8 *data = ram->guest + page * VM_PAGE_SIZE;
        gboolean told = page == 3 || page == 4 || page >= 5000;
        g_assert_true(base_holds(base, page, data) == told);
    }
    g_assert_false(base_holds(base, 3, ram->guest + 4 * VM_PAGE_SIZE));
    g_assert_true(base_holds(base, 5000, ram->guest + 6000 * VM_PAGE_SIZE));
    ram->guest[5001 * VM_PAGE_SIZE + 4095] ^= 1;
    g_assert_false(base_holds(base, 5001, ram->guest + 5001 * VM_PAGE_SIZE));
    base_forget(base, 4, 5000);
    g_assert_true(base_holds(base, 3, ram->guest + 3 * VM_PAGE_SIZE));
    g_assert_false(base_holds(base, 4, ram->guest + 4 * VM_PAGE_SIZE));
    g_assert_false(base_holds(base, 5003, ram->guest + 5003 * VM_PAGE_SIZE));
    g_assert_true(base_holds(base, 5004, ram->guest + 5004 * VM_PAGE_SIZE));
}

/* A guest that knows how pages are hashed doesn't know the seed. */
static void test_seed(void)
{
    g_autoptr(TestRam) ram = test_ram_new(PAGES);
    g_autoptr(GByteArray) one = sample(ram, 1), two = sample(ram, 2);
    gsize at = HEADER + 16;
    g_assert_cmpuint(one->len, ==, two->len);
    g_assert_cmpint(memcmp(one->data + at, two->data + at, 16), !=, 0);
}

static void test_short(void)
{
    g_autoptr(TestRam) ram = test_ram_new(PAGES);
    g_autoptr(GByteArray) bytes = sample(ram, 7);
    for (gsize len = 0; len < bytes->len; len += len < 200 ? 1 : 997) {
        g_autoptr(GError) error = NULL;
        g_assert_null(receive(bytes, len, NULL, &error));
        g_assert_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_IO);
    }
}

static void test_damaged(void)
{
    g_autoptr(TestRam) ram = test_ram_new(PAGES);
    g_autoptr(GByteArray) bytes = sample(ram, 7);
    for (gsize at = 0; at < bytes->len; at += at < 200 ? 1 : 997) {
        g_autoptr(GError) error = NULL;
        bytes->data[at] ^= 0x10;
        g_assert_null(receive(bytes, bytes->len, NULL, &error));
        g_assert_nonnull(error);
        bytes->data[at] ^= 0x10;
    }
}

/* The heads of runs; a run's hashes follow if there is room for them. */
static void test_runs(void)
{
    static const struct {
        guint64 first[2], count[2];
    } cases[] = {
        {{0, PAGES + 1},       {1, 0}   }, /* ends behind RAM */
        {{0, PAGES - 1},       {1, 0}   }, /* ends within */
        {{PAGES, PAGES},       {1, 0}   },
        {{PAGES - 1, PAGES},   {2, 0}   },
        {{0, 0},               {2, 1}   }, /* twice */
        {{5, 4},               {1, 1}   }, /* falls */
        {{0, 1},               {4097, 0}}, /* longer than a run is */
        {{G_MAXUINT64, PAGES}, {1, 0}   },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GByteArray) bytes = g_byte_array_new();
        g_autoptr(GError) error = NULL;
        guint8 header[HEADER] = "COLOBASE";
        colo_put_be32(header + 8, STREAM_VERSION);
        colo_put_be32(header + 12, VM_PAGE_SIZE);
        colo_put_be64(header + 16, (guint64)PAGES * VM_PAGE_SIZE);
        g_byte_array_append(bytes, header, HEADER);
        for (gsize run = 0; run < 2; run++) {
            guint8 head[16] = {0};
            g_autofree guint8 *hashes = g_malloc0(4097 * 16);
            colo_put_be64(head, cases[i].first[run]);
            colo_put_be32(head + 8, (guint32)cases[i].count[run]);
            g_byte_array_append(bytes, head, 16);
            g_byte_array_append(bytes, hashes, (guint)cases[i].count[run] * 16);
        }
        g_assert_null(receive(bytes, bytes->len, NULL, &error));
        g_assert_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_STREAM);
        g_assert_nonnull(strstr(error->message, "of a RAM of 10000"));
    }
}

static void test_other_ram(void)
{
    g_autoptr(TestRam) ram = test_ram_new(PAGES / 2);
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    g_assert_true(base_send(&ram->ram, 1, append, bytes, NULL));
    g_assert_null(receive(bytes, bytes->len, NULL, &error));
    g_assert_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_MISMATCH);
    g_clear_error(&error);
    colo_put_be32(bytes->data + 8, 1);
    g_assert_null(receive(bytes, bytes->len, NULL, &error));
    g_assert_error(error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_VERSION);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/base/round-trip", test_round_trip);
    g_test_add_func("/base/seed", test_seed);
    g_test_add_func("/base/short", test_short);
    g_test_add_func("/base/damaged", test_damaged);
    g_test_add_func("/base/runs", test_runs);
    g_test_add_func("/base/other-ram", test_other_ram);
    return g_test_run();
}
