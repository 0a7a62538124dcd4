/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Every message of the node, to the byte: docs/PROTOCOL.md. And a checkpoint's attachment. */
#include "colo/node/messages.h"
#include "colo/node/node.h"

#include <string.h>

#define TYPES 128u

static const MessageRun runs[] = {
    {1,     2         },
    {0x100, 0x01020304}
};
static const guint64 numbers[] = {9, G_MAXUINT64};

/* clang-format off */
/* One of each, and its payload. */
static const struct {
    Message message;
    const char *hex;
} samples[] = {
    {{.type = LINK_MSG_BLANK}, ""},
    {{.type = LINK_MSG_RECEIVED, .epoch = 0x0102030405060708}, "0102030405060708"},
    {{.type = LINK_MSG_APPLIED, .applied = {7, 0x100}}, "00000000000000070000000000000100"},
    {{.type = LINK_MSG_READY, .ready = {runs, 2}},
     "0000000000000001000000000000000200000000000001000000000001020304"},
    {{.type = LINK_MSG_READY}, ""},
    {{.type = LINK_MSG_PROTECT}, ""},
    {{.type = LINK_MSG_ADDRESSES, .addresses = {3, (const guint8 *)"ab", 2}}, "000000036162"},
    {{.type = LINK_MSG_YIELD}, ""},
    {{.type = LINK_MSG_YIELDED, .text = "dead"}, "64656164"},
    {{.type = LINK_MSG_GOODBYE, .text = "bye"}, "627965"},
    {{.type = LINK_MSG_FAILED, .text = ""}, ""},
    {{.type = LINK_MSG_PREPARE, .epoch = 8}, "0000000000000008"},
    {{.type = LINK_MSG_DIRTY, .dirty = {5, 6, runs, 2}},
     "000000000000000500000006000000000000000100000002"
     "0000010001020304"},
    {{.type = LINK_MSG_DIRTY, .dirty = {5, 0, NULL, 0}}, "00000000000000050000000000000000"},
    {{.type = LINK_MSG_LOADED, .epoch = G_MAXUINT64}, "ffffffffffffffff"},
    {{.type = LINK_MSG_STALLED, .stalled = {4, "why"}}, "0000000000000004776879"},
    {{.type = LINK_MSG_SETTLED, .settled = {2, 3, numbers, 2}},
     "000000000000000200000000000000030000000000000009ffffffffffffffff"},
    {{.type = LINK_MSG_SETTLED, .settled = {2, 3, NULL, 0}}, "00000000000000020000000000000003"},
    {{.type = LINK_MSG_REBOOTED, .epoch = 9}, "0000000000000009"},
    {{.type = LINK_MSG_RUNS}, ""},
    {{.type = LINK_MSG_PAUSED}, ""},
    {{.type = LINK_MSG_HANDED, .moved = {10, 5}}, "000000000000000a0000000000000005"},
    {{.type = LINK_MSG_TAKEN, .moved = {10, 17}}, "000000000000000a0000000000000011"},
    {{.type = LINK_MSG_REFUSED, .refused = {MESSAGE_REFUSED_ASKED, "no"}}, "000000016e6f"},
    {{.type = LINK_MSG_REFUSED, .refused = {MESSAGE_REFUSED_UNASKED, ""}}, "00000000"},
    {{.type = LINK_MSG_REFUSED, .refused = {MESSAGE_REFUSED_GIVEN_BACK, "disks"}},
     "000000026469736b73"},
    {{.type = LINK_MSG_OPTIONS, .text = "mode=colo\n"}, "6d6f64653d636f6c6f0a"},
    {{.type = LINK_MSG_TROUBLE, .text = "\xc3\xa4"}, "c3a4"},
    {{.type = LINK_MSG_UNFIT, .text = "slow"}, "736c6f77"},
    {{.type = LINK_MSG_BUSY, .epoch = 11}, "000000000000000b"},
    {{.type = LINK_MSG_LEAVE}, ""},
    {{.type = LINK_MSG_FINAL, .epoch = 12}, "000000000000000c"},
    {{.type = LINK_MSG_FINISHED, .epoch = 13}, "000000000000000d"},
    {{.type = LINK_MSG_CARRIER, .cut = 5}, "0000000000000005"},
    {{.type = LINK_MSG_SWITCHOVER_ASK, .switchover = {3, 0, ""}}, "0000000300000000"},
    {{.type = LINK_MSG_SWITCHOVER_ACK, .switchover = {3, 0, "vm"}}, "0000000300000000766d"},
    {{.type = LINK_MSG_SWITCHOVER_WANT, .switchover = {4, 1, ""}}, "0000000400000001"},
    {{.type = LINK_MSG_SWITCHOVER_PHASE, .switchover = {4, 2, ""}}, "0000000400000002"},
    {{.type = LINK_MSG_SWITCHOVER_CANCEL, .switchover = {0x01020304, 0, "no"}},
     "01020304000000006e6f"},
};
/* clang-format on */

static void add_runs(GString *text, const MessageRun *at, gsize n)
{
    for (gsize i = 0; i < n; i++)
        g_string_append_printf(text, " %" G_GUINT64_FORMAT "+%" G_GUINT64_FORMAT, at[i].first,
                               at[i].count);
}

/* Everything that it says. */
static char *describe(const Message *m)
{
    GString *text = g_string_new(NULL);
    const MessageInfo *info = message_info(m->type);
    g_string_append_printf(text, "%s:", info->name);
    switch (info->form) {
    case MESSAGE_FORM_EMPTY:
    case MESSAGE_FORMS:
        break;
    case MESSAGE_FORM_EPOCH:
        g_string_append_printf(text, " %" G_GUINT64_FORMAT, m->epoch);
        break;
    case MESSAGE_FORM_APPLIED:
        g_string_append_printf(text, " %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT, m->applied.epoch,
                               m->applied.apply_us);
        break;
    case MESSAGE_FORM_READY:
        add_runs(text, m->ready.runs, m->ready.n_runs);
        break;
    case MESSAGE_FORM_DIRTY:
        g_string_append_printf(text, " %" G_GUINT64_FORMAT " %u:", m->dirty.epoch, m->dirty.follow);
        add_runs(text, m->dirty.runs, m->dirty.n_runs);
        break;
    case MESSAGE_FORM_ADDRESSES:
        g_string_append_printf(text, " %u ", m->addresses.card);
        g_string_append_len(text, (const char *)m->addresses.data, (gssize)m->addresses.len);
        break;
    case MESSAGE_FORM_STALLED:
        g_string_append_printf(text, " %" G_GUINT64_FORMAT " %s", m->stalled.epoch, m->stalled.why);
        break;
    case MESSAGE_FORM_SETTLED:
        g_string_append_printf(text, " %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT ":",
                               m->settled.epoch, m->settled.count);
        for (gsize i = 0; i < m->settled.n_numbers; i++)
            g_string_append_printf(text, " %" G_GUINT64_FORMAT, m->settled.numbers[i]);
        break;
    case MESSAGE_FORM_REFUSED:
        g_string_append_printf(text, " %d %s", m->refused.kind, m->refused.why);
        break;
    case MESSAGE_FORM_MOVED:
        g_string_append_printf(text, " %" G_GUINT64_FORMAT " %" G_GUINT64_FORMAT, m->moved.epoch,
                               m->moved.us);
        break;
    case MESSAGE_FORM_SWITCHOVER:
        g_string_append_printf(text, " %u %u %s", m->switchover.id, m->switchover.flags,
                               m->switchover.text);
        break;
    case MESSAGE_FORM_CARRIER:
        g_string_append_printf(text, " %" G_GUINT64_FORMAT, m->cut);
        break;
    case MESSAGE_FORM_TEXT:
    case MESSAGE_FORM_OPTIONS:
        g_string_append_printf(text, " %s", m->text);
        break;
    }
    return g_string_free(text, FALSE);
}

static char *hex_of(GBytes *bytes)
{
    gsize len;
    const guint8 *data = g_bytes_get_data(bytes, &len);
    GString *hex = g_string_new(NULL);
    for (gsize i = 0; i < len; i++)
        g_string_append_printf(hex, "%02x", data[i]);
    return g_string_free(hex, FALSE);
}

/* From an allocation of that size, so that what reads beyond it is seen. */
static gboolean unpack(guint type, const void *payload, gsize len, Message *ret_message,
                       guint8 **ret_payload, GError **error)
{
    *ret_payload = g_memdup2(payload, len);
    return message_unpack(type, *ret_payload, len, ret_message, error);
}

static void test_each(void)
{
    gboolean seen[TYPES] = {FALSE};
    for (gsize i = 0; i < G_N_ELEMENTS(samples); i++) {
        const Message *message = &samples[i].message;
        seen[message->type] = TRUE;
        g_autoptr(GBytes) bytes = message_pack(message);
        g_autofree char *hex = hex_of(bytes);
        g_assert_cmpstr(hex, ==, samples[i].hex);

        g_autoptr(GError) error = NULL;
        g_auto(Message) back = {0};
        g_autofree guint8 *payload = NULL;
        gsize len;
        const void *data = g_bytes_get_data(bytes, &len);
        unpack(message->type, data, len, &back, &payload, &error);
        g_assert_no_error(error);
        g_autofree char *was = describe(message);
        g_autofree char *is = describe(&back);
        g_assert_cmpstr(is, ==, was);
    }
    for (guint type = 0; type < TYPES; type++)
        g_assert_cmpint(seen[type], ==, message_info(type) != NULL);
    g_assert_null(message_info(G_MAXUINT16));
    g_assert_null(message_info(G_MAXUINT));
}

/* docs/PROTOCOL.md has the same messages, each from the same side. */
static void test_documented(void)
{
    static const char *const sides[] = {[MESSAGE_FROM_PRIMARY] = "primary",
                                        [MESSAGE_FROM_SECONDARY] = "secondary",
                                        [MESSAGE_FROM_BOTH] = "both"};
    const char *tests = g_getenv("COLO_TESTS");
    g_autofree char *path =
        g_build_filename(tests ? tests : "tests", "..", "docs", "PROTOCOL.md", NULL);
    g_autofree char *page = NULL;
    g_autoptr(GError) error = NULL;
    g_file_get_contents(path, &page, NULL, &error);
    g_assert_no_error(error);
    g_auto(GStrv) lines = g_strsplit(page, "\n", -1);
    for (guint type = LINK_MSG_BLANK; type < TYPES; type++) {
        const MessageInfo *info = message_info(type);
        g_autofree char *row = g_strdup_printf("| %u | ", type);
        g_autofree char *name = info ? g_ascii_strup(info->name, -1) : NULL;
        g_autofree char *begin =
            info ? g_strdup_printf("| %u | %s | %s |", type, name, sides[info->from]) : NULL;
        guint rows = 0;
        for (char **line = lines; *line; line++)
            if (g_str_has_prefix(*line, row)) {
                rows++;
                g_assert_true(begin && g_str_has_prefix(*line, begin));
            }
        g_assert_cmpuint(rows, ==, info ? 1 : 0);
    }
}

static gboolean is_length(guint type, gsize len)
{
    switch (type) {
    case LINK_MSG_RECEIVED:
    case LINK_MSG_PREPARE:
    case LINK_MSG_LOADED:
    case LINK_MSG_REBOOTED:
    case LINK_MSG_BUSY:
    case LINK_MSG_FINAL:
    case LINK_MSG_FINISHED:
    case LINK_MSG_CARRIER:
        return len == 8;
    case LINK_MSG_APPLIED:
    case LINK_MSG_HANDED:
    case LINK_MSG_TAKEN:
        return len == 16;
    case LINK_MSG_READY:
        return len % 16 == 0;
    case LINK_MSG_DIRTY:
    case LINK_MSG_SETTLED:
        return len >= 16 && len % 8 == 0;
    case LINK_MSG_ADDRESSES:
    case LINK_MSG_REFUSED:
        return len >= 4;
    case LINK_MSG_STALLED:
    case LINK_MSG_SWITCHOVER_ASK:
    case LINK_MSG_SWITCHOVER_ACK:
    case LINK_MSG_SWITCHOVER_WANT:
    case LINK_MSG_SWITCHOVER_CANCEL:
    case LINK_MSG_SWITCHOVER_PHASE:
        return len >= 8;
    default:
        return TRUE; /* text, or nothing is looked at */
    }
}

static void test_lengths(void)
{
    static const guint8 zeros[72];
    guint8 letters[sizeof(zeros)];
    memset(letters, 'x', sizeof(letters));
    for (guint type = 0; type < TYPES; type++)
        for (gsize len = 0; message_info(type) && len <= sizeof(zeros); len++) {
            g_autoptr(GError) error = NULL;
            g_auto(Message) message = {.type = 12345};
            g_autofree guint8 *payload = NULL;
            gboolean good = unpack(type, type == LINK_MSG_OPTIONS ? letters : zeros, len, &message,
                                   &payload, &error);
            g_assert_cmpint(good, ==, is_length(type, len));
            if (good) {
                g_assert_cmpuint(message.type, ==, type);
                continue;
            }
            g_autofree char *text =
                g_strdup_printf("message '%s' of %zu bytes", message_info(type)->name, len);
            g_assert_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL);
            g_assert_cmpstr(error->message, ==, text);
            g_assert_cmpuint(message.type, ==, 12345);
        }
}

/* The longest payload that the link lets through. */
static void test_longest(void)
{
    g_autofree guint8 *most = g_malloc(LINK_MESSAGE_MAX);
    memset(most, 0xfe, LINK_MESSAGE_MAX);
    for (guint type = 0; type < TYPES; type++) {
        g_autoptr(GError) error = NULL;
        g_auto(Message) message = {0};
        if (!message_info(type))
            continue;
        /* 0xfe is in no UTF-8. */
        gboolean good = message_unpack(type, most, LINK_MESSAGE_MAX, &message, &error);
        g_assert_cmpint(good, ==, is_length(type, LINK_MESSAGE_MAX) && type != LINK_MSG_OPTIONS);
        if (!good)
            g_assert_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL);
        else if (type == LINK_MSG_READY)
            g_assert_cmpuint(message.ready.n_runs, ==, MESSAGE_READY_RUNS_MAX);
        else if (type == LINK_MSG_DIRTY)
            g_assert_cmpuint(message.dirty.n_runs, ==, MESSAGE_DIRTY_RUNS_MAX);
    }
    g_autofree MessageRun *many = g_new0(MessageRun, MESSAGE_DIRTY_RUNS_MAX);
    g_autoptr(GBytes) ready = message_pack(&(Message){
        LINK_MSG_READY, .ready = {.runs = many, .n_runs = MESSAGE_READY_RUNS_MAX}
    });
    g_assert_cmpuint(g_bytes_get_size(ready), ==, LINK_MESSAGE_MAX);
    g_autoptr(GBytes) dirty = message_pack(&(Message){
        LINK_MSG_DIRTY, .dirty = {.runs = many, .n_runs = MESSAGE_DIRTY_RUNS_MAX}
    });
    g_assert_cmpuint(g_bytes_get_size(dirty), ==, LINK_MESSAGE_MAX);
}

static const char *text_of(const Message *message)
{
    switch (message_info(message->type)->form) {
    case MESSAGE_FORM_STALLED:
        return message->stalled.why;
    case MESSAGE_FORM_REFUSED:
        return message->refused.why;
    case MESSAGE_FORM_SWITCHOVER:
        return message->switchover.text;
    default:
        return message->text;
    }
}

/* Texts for people are cut, at either end, and what comes is made valid. */
static void test_texts(void)
{
    static const struct {
        guint type;
        gsize head;
    } texts[] = {
        {LINK_MSG_YIELDED,           0},
        {LINK_MSG_GOODBYE,           0},
        {LINK_MSG_FAILED,            0},
        {LINK_MSG_TROUBLE,           0},
        {LINK_MSG_UNFIT,             0},
        {LINK_MSG_STALLED,           8},
        {LINK_MSG_REFUSED,           4},
        {LINK_MSG_SWITCHOVER_ACK,    8},
        {LINK_MSG_SWITCHOVER_CANCEL, 8},
    };
    g_autofree char *longest = g_strnfill(MESSAGE_TEXT_MAX + 1, 'x');
    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_auto(Message) message = {.type = texts[i].type};
        if (texts[i].type == LINK_MSG_STALLED)
            message.stalled.why = longest;
        else if (texts[i].type == LINK_MSG_REFUSED)
            message.refused.why = longest;
        else if (message_info(texts[i].type)->form == MESSAGE_FORM_SWITCHOVER)
            message.switchover.text = longest;
        else
            message.text = longest;
        g_autoptr(GBytes) bytes = message_pack(&message);
        g_assert_cmpuint(g_bytes_get_size(bytes), ==, texts[i].head + MESSAGE_TEXT_MAX);

        gsize len = texts[i].head + MESSAGE_TEXT_MAX + 1;
        g_autofree guint8 *payload = g_malloc(len);
        memset(payload, 'y', len);
        memcpy(payload + texts[i].head, "a\xff\0b", 4);
        g_assert_true(message_unpack(texts[i].type, payload, len, &message, NULL));
        g_assert_true(g_str_has_prefix(text_of(&message), "a\xef\xbf\xbd\xef\xbf\xbd"
                                                          "by"));
        g_assert_cmpint(g_utf8_strlen(text_of(&message), -1), ==, MESSAGE_TEXT_MAX);
    }
}

/* Values of options are text or nothing at all. */
static void test_options(void)
{
    static const struct {
        const char *text;
        gsize len;
    } bad[] = {
        {"a\0b",    3},
        {"a\0",     2},
        {"a\xff=b", 4},
        {"\xc3",    1}
    };
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_auto(Message) message = {0};
        g_autofree guint8 *payload = NULL;
        g_assert_false(
            unpack(LINK_MSG_OPTIONS, bad[i].text, bad[i].len, &message, &payload, &error));
        g_assert_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL);
        g_assert_cmpstr(error->message, ==, "message 'options' that is no text");
    }
    g_autofree char *longest = g_strnfill(LINK_MESSAGE_MAX, 'x');
    g_autoptr(GBytes) bytes = message_pack(&(Message){.type = LINK_MSG_OPTIONS, .text = longest});
    g_assert_cmpuint(g_bytes_get_size(bytes), ==, LINK_MESSAGE_MAX);
}

static void test_refused(void)
{
    static const guint8 odd[4] = {0, 1, 0, 0};
    g_auto(Message) message = {0};
    g_assert_true(message_unpack(LINK_MSG_REFUSED, odd, sizeof(odd), &message, NULL));
    g_assert_cmpint(message.refused.kind, ==, MESSAGE_REFUSED_ASKED);
}

/* ---- The attachment ---- */

static void test_attachment(void)
{
    for (guint i = 0; i < 6; i++) {
        guint flags = i / 2; /* none, RUN, STOPPED */
        g_autoptr(GBytes) maps = i % 2 ? g_bytes_new_static("maps", 4) : NULL;
        Attachment attachment = {.runs = flags == 1, .stopped = flags == 2, .maps = maps};
        g_autoptr(GBytes) bytes = attachment_pack(&attachment);
        g_autofree char *hex = hex_of(bytes);
        g_autofree char *expected = g_strdup_printf("01%02x%s", flags, maps ? "6d617073" : "");
        g_assert_cmpstr(hex, ==, expected);
        g_auto(Attachment) back = {0};
        g_autoptr(GError) error = NULL;
        attachment_unpack(1, bytes, &back, &error);
        g_assert_no_error(error);
        g_assert_cmpint(back.runs, ==, flags == 1);
        g_assert_cmpint(back.stopped, ==, flags == 2);
        g_assert_true(maps ? g_bytes_equal(maps, back.maps) : !back.maps);
    }
}

static void expect_no_attachment(GBytes *bytes, gsize len)
{
    g_auto(Attachment) attachment = {0};
    g_autoptr(GError) error = NULL;
    g_autofree char *text = g_strdup_printf("checkpoint 77 (%zu bytes)", len);
    g_assert_false(attachment_unpack(77, bytes, &attachment, &error));
    g_assert_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL);
    g_assert_nonnull(strstr(error->message, text));
    g_assert_null(attachment.maps);
}

static void test_no_attachment(void)
{
    expect_no_attachment(NULL, 0);
    for (guint version = 0; version < 256; version++)
        for (guint flags = 0; flags < 256; flags++)
            for (gsize len = 0; len <= 3; len++) {
                guint8 bytes[3] = {(guint8)version, (guint8)flags, 'x'};
                g_autoptr(GBytes) given = g_bytes_new(bytes, len);
                if (len < 2 || version != 1 || flags > 2)
                    expect_no_attachment(given, len);
            }
}

/* The fuzzer begins with one of each: tests/fuzz/corpus/messages/NAME, its type and its payload. */
static void test_seeds(void)
{
    const char *tests = g_getenv("COLO_TESTS") ? g_getenv("COLO_TESTS") : "tests";
    for (guint type = 0; type < TYPES; type++) {
        if (!message_info(type))
            continue;
        g_autofree char *name = g_strdelimit(g_strdup(message_info(type)->name), "_", '-');
        g_autofree char *path = g_build_filename(tests, "fuzz", "corpus", "messages", name, NULL);
        g_autofree char *bytes = NULL;
        g_autoptr(GError) error = NULL;
        g_auto(Message) message = {0};
        gsize len;
        g_file_get_contents(path, &bytes, &len, &error);
        g_assert_no_error(error);
        g_assert_cmpuint((guint8)bytes[0], ==, type);
        message_unpack(type, (const guint8 *)bytes + 1, len - 1, &message, &error);
        g_assert_no_error(error);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/messages/each", test_each);
    g_test_add_func("/messages/documented", test_documented);
    g_test_add_func("/messages/lengths", test_lengths);
    g_test_add_func("/messages/longest", test_longest);
    g_test_add_func("/messages/texts", test_texts);
    g_test_add_func("/messages/options", test_options);
    g_test_add_func("/messages/refused", test_refused);
    g_test_add_func("/messages/attachment", test_attachment);
    g_test_add_func("/messages/no-attachment", test_no_attachment);
    g_test_add_func("/messages/seeds", test_seeds);
    return g_test_run();
}
