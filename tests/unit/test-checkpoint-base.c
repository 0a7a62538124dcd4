/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the secondary has already: it tells so first, and only what differs is sent. A page that
 * was named is sent all the same if it changes back.
 */
#include <glib.h>
#include <string.h>
#include <sys/socket.h>

#include "checkpoint/stream_internal.h"
#include "common/fd.h"
#include "tests/support/checkpoint-pair.h"

#define PAGES CHECKPOINT_PAIR_PAGES

/* Only what differs is sent: other pages, pages that one side lacks, on either side. */
static void test_base(gconstpointer data)
{
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(checkpoint_pair_method(data));
    if (!pair)
        return;
    checkpoint_pair_fill(pair->primary);
    capture_synchronise(pair->capture, PAGES);
    checkpoint_pair_wait(&pair->synchronised);
    checkpoint_pair_take(pair);
    g_assert_cmpuint(pair->stats.same_pages, ==, 0);
    memset(pair->secondary->guest + 3 * VM_PAGE_SIZE, 99, 2 * VM_PAGE_SIZE); /* a copy that ran */
    memset(pair->secondary->guest + (PAGES - 2) * VM_PAGE_SIZE, 99, VM_PAGE_SIZE);
    memset(pair->primary->guest + 9 * VM_PAGE_SIZE, 77, VM_PAGE_SIZE);
    memset(pair->primary->guest + (PAGES - 1) * VM_PAGE_SIZE, 77, VM_PAGE_SIZE);
    memset(pair->primary->guest + 12 * VM_PAGE_SIZE, 0, VM_PAGE_SIZE);
    checkpoint_pair_again(pair);
    capture_synchronise(pair->capture, PAGES);
    checkpoint_pair_wait(&pair->synchronised);
    checkpoint_pair_take(pair);
    /* The check has read all pages of both, so none is a hole. */
    g_assert_cmpuint(pair->stats.same_pages, ==, PAGES - 6);
    g_assert_cmpuint(pair->stats.bytes, <, 8 * VM_PAGE_SIZE);
}

static gssize read_some(gpointer opaque, guint8 *buf, gsize len, GError **error)
{
    (void)error;
    return recv(GPOINTER_TO_INT(opaque), buf, len, 0);
}

/* How the stream names `page` next. */
static guint next_of_page(StreamReader *reader, guint64 page)
{
    g_autoptr(GError) error = NULL;
    StreamRecord record;
    do {
        gboolean ok = stream_reader_next(reader, &record, &error);
        g_assert_no_error(error);
        g_assert_true(ok);
    } while (page < record.first || page - record.first >= record.count);
    return record.type;
}

/* A page that was named, and is then again what the secondary had before, is sent. */
static void test_base_is_old(void)
{
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(DIRTY_METHOD_AUTO);
    checkpoint_pair_cut(pair);
    checkpoint_pair_fill(pair->primary);
    checkpoint_pair_fill(pair->secondary);
    checkpoint_pair_tell_base(pair);
    guint8 *pages = pair->primary->guest + 5 * VM_PAGE_SIZE;
    guint8 fifth = pages[0], sixth = pages[VM_PAGE_SIZE];
    memset(pages, 200, VM_PAGE_SIZE);
    pair->capture = checkpoint_pair_capture_new(pair, pair->fds[0]);
    CaptureTuning tuning = CAPTURE_TUNING_DEFAULT;
    tuning.ahead_pages = 0;
    capture_set_tuning(pair->capture, &tuning);
    g_autoptr(StreamReader) reader =
        stream_reader_new("pc.ram", PAGES * VM_PAGE_SIZE, read_some, GINT_TO_POINTER(pair->fds[1]));
    capture_synchronise(pair->capture, 0);
    g_assert_cmpuint(next_of_page(reader, 4), ==, STREAM_SAME);
    g_assert_cmpuint(next_of_page(reader, 5), ==, STREAM_PAGES);
    g_assert_cmpuint(next_of_page(reader, 6), ==, STREAM_SAME);
    memset(pages, fifth, VM_PAGE_SIZE);
    g_assert_cmpuint(next_of_page(reader, 5), ==, STREAM_PAGES);
    pages[VM_PAGE_SIZE] = (guint8)(sixth + 1);
    g_assert_cmpuint(next_of_page(reader, 6), ==, STREAM_PAGES);
    pages[VM_PAGE_SIZE] = sixth;
    g_assert_cmpuint(next_of_page(reader, 6), ==, STREAM_PAGES);
}

/* A secondary that has told nothing is waited for, until the capture ends. */
static void test_base_never_comes(void)
{
    g_autoptr(CheckpointPair) pair = checkpoint_pair_new(DIRTY_METHOD_AUTO);
    g_autoptr(GError) error = NULL;
    checkpoint_pair_cut(pair);
    pair->capture = checkpoint_pair_capture_new(pair, pair->fds[0]);
    capture_synchronise(pair->capture, PAGES);
    guint8 nonsense[64] = "not a base";
    g_assert_true(colo_fd_write_all(pair->fds[1], nonsense, 8, &error));
    g_main_context_iteration(NULL, FALSE);
    g_assert_false(pair->synchronised);
    g_assert_true(colo_fd_write_all(pair->fds[1], nonsense + 8, sizeof(nonsense) - 8, &error));
    while (!pair->capture_error)
        g_main_context_iteration(NULL, TRUE);
    g_assert_error(pair->capture_error, CHECKPOINT_ERROR, CHECKPOINT_ERROR_STREAM);
    g_assert_nonnull(strstr(pair->capture_error->message, "the secondary's base"));
    g_clear_error(&pair->capture_error);

    checkpoint_pair_cut(pair);
    pair->capture = checkpoint_pair_capture_new(pair, pair->fds[0]);
    capture_synchronise(pair->capture, PAGES);
    g_clear_pointer(&pair->capture, capture_free);
    g_assert_false(pair->synchronised);
    g_assert_no_error(pair->capture_error);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    static const char *const methods[] = {"uffd", "compare"};
    for (gsize i = 0; i < G_N_ELEMENTS(methods); i++) {
        g_autofree char *base = g_strdup_printf("/checkpoint/base/%s", methods[i]);
        g_test_add_data_func(base, methods[i], test_base);
    }
    g_test_add_func("/checkpoint/base-is-old", test_base_is_old);
    g_test_add_func("/checkpoint/base-never-comes", test_base_never_comes);
    return g_test_run();
}
