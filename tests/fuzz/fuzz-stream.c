/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The checkpoint stream's reader and the apply behind it. Input: one byte of mode, then a stream
 * for RAM "pc.ram" of 64 pages. With bit 0 of the mode set, the records' numbers, checks, page
 * counts and hashes are made right first, so that mutations get past them.
 *
 * Besides not crashing, RAM after the stream has ended must be that of its last complete
 * checkpoint, as a second reader in this file understands it.
 */
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <xxhash.h>

#include "checkpoint/stream_internal.h"
#include "common/endian.h"
#include "tests/support/bytes-reader.h"
#include "tests/support/test-ram.h"

#define PAGES            64u
#define STREAM_INPUT_MAX (128u << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- Making a stream's redundancy right ---- */

static void mend_end(guint8 *bytes, gsize start, gsize at, guint64 pages)
{
    colo_put_be64(bytes + at + STREAM_RECORD_BYTES + 8, pages);
    gsize stop = at + STREAM_RECORD_BYTES + 16;
    colo_put_be64(bytes + stop, XXH3_64bits(bytes + start, stop - start));
}

static void mend(guint8 *bytes, gsize len)
{
    gsize at = STREAM_HEADER_BYTES + strlen("pc.ram"), start = 0;
    guint32 number = 0;
    guint64 pages = 0;
    while (at + STREAM_RECORD_BYTES <= len) {
        guint8 *head = bytes + at;
        guint type = colo_get_be16(head);
        gsize next = at + STREAM_RECORD_BYTES + colo_get_be32(head + 4);
        colo_put_be32(head + 8, number++);
        colo_put_be32(head + 12, (guint32)XXH3_64bits(head, 12));
        if (next > len)
            return;
        if ((type == STREAM_PAGES || type == STREAM_PACKED) &&
            next >= at + STREAM_RECORD_BYTES + 16)
            pages += colo_get_be32(head + STREAM_RECORD_BYTES + 8);
        if ((type == STREAM_ZERO || type == STREAM_SAME) && next >= at + STREAM_RECORD_BYTES + 16)
            pages += colo_get_be64(head + STREAM_RECORD_BYTES + 8);
        if (type == STREAM_END && next == at + STREAM_RECORD_BYTES + 24) {
            mend_end(bytes, start, at, pages);
            start = next;
            pages = 0;
        }
        at = next;
    }
}

/* ---- What it should come to ---- */

/* How many checkpoints are complete, and RAM after the last of them. What RAM was before counts: a
 * page may stay as it is. */
static guint64 model(const guint8 *ram_before, const guint8 *bytes, gsize len, guint8 *ram_at_end)
{
    static guint8 ram[PAGES * VM_PAGE_SIZE];
    memcpy(ram, ram_before, sizeof(ram));
    BytesReader from = {.bytes = bytes, .len = len};
    g_autoptr(StreamReader) reader =
        stream_reader_new("pc.ram", PAGES * VM_PAGE_SIZE, bytes_reader_read, &from);
    StreamRecord record;
    guint64 complete = 0;
    while (stream_reader_next(reader, &record, NULL)) {
        guint8 *at = ram + record.first * VM_PAGE_SIZE;
        if (record.type == STREAM_PAGES)
            memcpy(at, record.data, record.count * VM_PAGE_SIZE);
        else if (record.type == STREAM_ZERO)
            memset(at, 0, record.count * VM_PAGE_SIZE);
        g_clear_pointer(&record.bytes, g_bytes_unref);
        if (record.type == STREAM_END) {
            memcpy(ram_at_end, ram, sizeof(ram));
            complete++;
        }
    }
    return complete;
}

/* ---- What it comes to ---- */

typedef struct {
    guint64 received, applied;
    gboolean failed;
} Outcome;

static void on_received(Checkpoint *checkpoint, gpointer data)
{
    g_assert(checkpoint->device_state && checkpoint->frames);
    ((Outcome *)data)->received++;
}

static void on_applied(Checkpoint *checkpoint, gpointer data)
{
    (void)checkpoint;
    ((Outcome *)data)->applied++;
}

static void on_failed(const GError *error, gpointer data)
{
    g_assert(error && error->domain == CHECKPOINT_ERROR);
    ((Outcome *)data)->failed = TRUE;
}

static Outcome run(const VmRam *ram, const guint8 *bytes, gsize len)
{
    static const ApplyCallbacks callbacks = {
        .received = on_received, .applied = on_applied, .failed = on_failed};
    Outcome outcome = {0};
    int fds[2], room = 4 << 20;
    g_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
    Apply *apply = apply_new(ram, fds[1], &callbacks, &outcome, NULL);
    g_assert(apply);
    for (gsize at = 0; at < len;) {
        ssize_t put = send(fds[0], bytes + at, len - at, MSG_NOSIGNAL);
        if (put < 0)
            break;
        at += (gsize)put;
    }
    shutdown(fds[0], SHUT_WR);
    while (!outcome.failed)
        g_main_context_iteration(NULL, TRUE);
    apply_free(apply);
    close(fds[0]);
    close(fds[1]);
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static TestRam *test;
    static guint8 expected[PAGES * VM_PAGE_SIZE];
    if (!test)
        test = test_ram_new(PAGES);
    if (size < 2 || size > STREAM_INPUT_MAX)
        return 0;
    gsize len = size - 1;
    g_autofree guint8 *bytes = g_memdup2(data + 1, len);
    if (data[0] & 1)
        mend(bytes, len);
    guint64 complete = model(test->ram.base, bytes, len, expected);
    Outcome outcome = run(&test->ram, bytes, len);
    g_assert(outcome.received == complete && outcome.applied == complete);
    if (complete > 0)
        g_assert(memcmp(test->ram.base, expected, sizeof(expected)) == 0);
    return 0;
}
