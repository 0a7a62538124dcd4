/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The link's bytes as docs/PROTOCOL.md has them, and who may pair with whom. Pure. */
#include <string.h>

#include "colo/link/link_internal.h"
#include "common/endian.h"
#include "tests/support/link-end.h"

static void put_hello(GByteArray *out, unsigned version, unsigned kind, const char *body)
{
    gsize len;
    g_autoptr(GBytes) bytes = stranger_hello(version, kind, body);
    const guint8 *data = g_bytes_get_data(bytes, &len);
    g_byte_array_append(out, data, (guint)len);
}

static LinkParse parse(const GByteArray *bytes, LinkHelloKind *ret_kind, json_object **ret_body,
                       gsize *ret_need, GError **error)
{
    /* A copy of exactly this size: the sanitizer sees a read past it. */
    g_autofree guint8 *copy = g_memdup2(bytes->data, bytes->len);
    return link_parse_hello(copy, bytes->len, ret_kind, ret_body, ret_need, error);
}

static void expect_bad_hello(const guint8 *data, gsize len, const char *text)
{
    g_autoptr(GError) error = NULL;
    g_autofree guint8 *copy = g_memdup2(data, len);
    json_object *body = NULL;
    LinkHelloKind kind;
    gsize need;
    g_assert_cmpint(link_parse_hello(copy, len, &kind, &body, &need, &error), ==, LINK_PARSE_BAD);
    g_assert_error(error, LINK_ERROR, LINK_ERROR_PROTOCOL);
    if (!strstr(error->message, text))
        g_error("'%s' doesn't say '%s'", error->message, text);
    g_assert_null(body);
}

static void expect_bad_body(unsigned version, unsigned kind, const char *body, const char *text)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    put_hello(bytes, version, kind, body);
    expect_bad_hello(bytes->data, bytes->len, text);
}

/* ---- Hellos ---- */

static void test_hello_layout(void)
{
    gsize len;
    json_object *body = json_tokener_parse("{\"a\":\"b\"}");
    g_autoptr(GBytes) bytes = link_build_hello(LINK_ANSWER, body);
    json_object_put(body);
    const guint8 *data = g_bytes_get_data(bytes, &len);
    static const guint8 head[16] = "COLOLINK\0\4\0\2\0\0\0\x09";
    g_assert_cmpmem(data, 16, head, 16);
    g_assert_cmpmem(data + 16, len - 16, "{\"a\":\"b\"}", 9);
}

/* A reader that asks for what it is told to never holds a byte too much. */
static void test_hello_byte_by_byte(void)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    put_hello(bytes, LINK_PROTOCOL, LINK_HELLO, "{\"channel\":\"control\"}");
    for (guint len = 1; len < bytes->len; len++) {
        g_autoptr(GByteArray) part = g_byte_array_new();
        g_autoptr(GError) error = NULL;
        json_object *body = NULL;
        LinkHelloKind kind;
        gsize need = 0;
        g_byte_array_append(part, bytes->data, len);
        g_assert_cmpint(parse(part, &kind, &body, &need, &error), ==, LINK_PARSE_SHORT);
        g_assert_no_error(error);
        g_assert_cmpuint(need, ==, len < 16 ? 16 : bytes->len);
    }
    g_autoptr(GError) error = NULL;
    json_object *body = NULL;
    LinkHelloKind kind = 0;
    gsize need = 0;
    g_assert_cmpint(parse(bytes, &kind, &body, &need, &error), ==, LINK_PARSE_WHOLE);
    g_assert_cmpint(kind, ==, LINK_HELLO);
    g_assert_cmpstr(link_hello_string(body, "channel", 32), ==, "control");
    json_object_put(body);
}

static void test_strangers(void)
{
    const char *http = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    expect_bad_hello((const guint8 *)http, 1, "begins with \"G\"");
    expect_bad_hello((const guint8 *)http, strlen(http), "begins with \"GET / HTTP/1.1\"");
    expect_bad_hello((const guint8 *)"SSH-2.0-OpenSSH", 15, "SSH-2.0");
    expect_bad_hello((const guint8 *)"\x16\x03\x01\xff\"\\\n", 7, "begins with \"....");
    expect_bad_hello((const guint8 *)"COLOLINX", 8, "not the protocol");
    expect_bad_hello((const guint8 *)"CB", 2, "not the protocol");
}

static void test_hello_limits(void)
{
    guint8 head[16] = "COLOLINK\0\4\0\1";
    g_autoptr(GError) error = NULL;
    json_object *body = NULL;
    LinkHelloKind kind;
    gsize need;
    colo_put_be32(head + 12, 65536);
    g_assert_cmpint(link_parse_hello(head, 16, &kind, &body, &need, &error), ==, LINK_PARSE_SHORT);
    g_assert_cmpuint(need, ==, 16 + 65536);
    colo_put_be32(head + 12, 65537);
    expect_bad_hello(head, 16, "65537 bytes");
    colo_put_be32(head + 12, G_MAXUINT32);
    expect_bad_hello(head, 16, "4294967295 bytes");
    expect_bad_body(LINK_PROTOCOL, 0, "{}", "unknown kind 0");
    expect_bad_body(LINK_PROTOCOL, 4, "{}", "unknown kind 4");
    expect_bad_body(99, LINK_HELLO, "{}", "protocol versions 4 and 99");
    expect_bad_body(0, LINK_ANSWER, "{}", "protocol versions 4 and 0");
}

static void test_hello_bodies(void)
{
    static const char *const bodies[] = {
        "",
        " ",
        "{",
        "[]",
        "null",
        "1",
        "\"text\"",
        "{}x",
        "{} {}",
        "{\"a\":}",
        "{\"a\":\"\xff\xfe\"}",
        "{\"a\":1,}",
    };
    for (gsize i = 0; i < G_N_ELEMENTS(bodies); i++)
        expect_bad_body(LINK_PROTOCOL, LINK_HELLO, bodies[i], "not a JSON object");
    g_autoptr(GString) deep = g_string_new(NULL);
    for (int i = 0; i < 5000; i++)
        g_string_append(deep, "{\"a\":");
    expect_bad_body(LINK_PROTOCOL, LINK_HELLO, deep->str, "not a JSON object");
}

/* The one thing that is read from every version. */
static void test_refusal_of_another_version(void)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    g_autoptr(GError) error = NULL;
    json_object *body = NULL;
    LinkHelloKind kind = 0;
    gsize need;
    put_hello(bytes, 77, LINK_REFUSAL, "{\"reason\":\"too old\"}");
    g_assert_cmpint(parse(bytes, &kind, &body, &need, &error), ==, LINK_PARSE_WHOLE);
    g_assert_cmpint(kind, ==, LINK_REFUSAL);
    g_assert_cmpstr(link_hello_string(body, "reason", 100), ==, "too old");
    json_object_put(body);
}

static void test_strings(void)
{
    json_object *body =
        json_tokener_parse("{\"nul\":\"a\\u0000b\",\"control\":\"a\\nb\",\"number\":1,"
                           "\"empty\":\"\",\"long\":\"12345678\",\"good\":\"\u00e4\"}");
    g_assert_null(link_hello_string(body, "nul", 100));
    g_assert_null(link_hello_string(body, "control", 100));
    g_assert_null(link_hello_string(body, "number", 100));
    g_assert_null(link_hello_string(body, "empty", 100));
    g_assert_null(link_hello_string(body, "long", 7));
    g_assert_null(link_hello_string(body, "missing", 100));
    g_assert_cmpstr(link_hello_string(body, "long", 8), ==, "12345678");
    g_assert_cmpstr(link_hello_string(body, "good", 8), ==, "\u00e4");
    json_object_put(body);
}

/* ---- Messages and packets ---- */

static LinkParse parse_message(guint32 len, guint16 type, guint16 zero, gsize have,
                               LinkParsedMessage *ret_message, GError **error)
{
    g_autofree guint8 *bytes = g_malloc0(MAX(have, 8));
    colo_put_be32(bytes, len);
    colo_put_be16(bytes + 4, type);
    colo_put_be16(bytes + 6, zero);
    g_autofree guint8 *copy = g_memdup2(bytes, have);
    return link_parse_message(copy, have, ret_message, error);
}

static void expect_bad_message(guint32 len, guint16 type, guint16 zero, const char *text)
{
    g_autoptr(GError) error = NULL;
    LinkParsedMessage message;
    g_assert_cmpint(parse_message(len, type, zero, 8, &message, &error), ==, LINK_PARSE_BAD);
    g_assert_error(error, LINK_ERROR, LINK_ERROR_PROTOCOL);
    g_assert_nonnull(strstr(error->message, text));
}

static void test_messages(void)
{
    LinkParsedMessage message = {0};
    for (gsize have = 0; have < 13; have++)
        g_assert_cmpint(parse_message(5, 17, 0, have, &message, NULL), ==, LINK_PARSE_SHORT);
    g_assert_cmpint(parse_message(5, 17, 0, 13, &message, NULL), ==, LINK_PARSE_WHOLE);
    g_assert_cmpuint(message.type, ==, 17);
    g_assert_cmpuint(message.len, ==, 5);
    g_assert_cmpuint(message.used, ==, 13);
    g_assert_cmpint(parse_message(5, 17, 0, 100, &message, NULL), ==, LINK_PARSE_WHOLE);
    g_assert_cmpuint(message.used, ==, 13);
    g_assert_cmpint(parse_message(0, 0xffff, 0, 8, &message, NULL), ==, LINK_PARSE_WHOLE);
    g_assert_cmpint(parse_message(LINK_MESSAGE_MAX, 17, 0, 8, &message, NULL), ==,
                    LINK_PARSE_SHORT);

    expect_bad_message(LINK_MESSAGE_MAX + 1, 17, 0, "1048577 bytes");
    expect_bad_message(G_MAXUINT32, 17, 0, "4294967295 bytes");
    expect_bad_message(5, 17, 1, "header");
    expect_bad_message(5, 0, 0, "unknown type 0");
    expect_bad_message(5, 15, 0, "unknown type 15");
    expect_bad_message(15, LINK_TYPE_HEARTBEAT, 0, "heartbeat of 15");
    expect_bad_message(16, LINK_TYPE_ECHO, 0, "echo of a heartbeat of 16");
}

static void test_packets(void)
{
    guint8 bytes[16 + 60] = {0};
    g_autoptr(GError) error = NULL;
    LinkParsedPacket packet = {0};
    link_build_packet_head(bytes, 3, G_GUINT64_CONSTANT(0x123456789abcdef0), 60);
    for (gsize have = 0; have < sizeof(bytes); have++)
        g_assert_cmpint(link_parse_packet(bytes, have, &packet, &error), ==, LINK_PARSE_SHORT);
    g_assert_cmpint(link_parse_packet(bytes, sizeof(bytes), &packet, &error), ==, LINK_PARSE_WHOLE);
    g_assert_cmpuint(packet.nic, ==, 3);
    g_assert_cmpuint(packet.epoch, ==, G_GUINT64_CONSTANT(0x123456789abcdef0));
    g_assert_true(packet.frame == bytes + 16);
    g_assert_cmpuint(packet.len, ==, 60);
    g_assert_cmpuint(packet.used, ==, 76);
    g_assert_no_error(error);

    static const guint32 wrong[] = {0, LINK_PACKET_MAX + 1, G_MAXUINT32};
    for (gsize i = 0; i < G_N_ELEMENTS(wrong); i++) {
        colo_put_be32(bytes, wrong[i]);
        g_assert_cmpint(link_parse_packet(bytes, sizeof(bytes), &packet, &error), ==,
                        LINK_PARSE_BAD);
        g_assert_error(error, LINK_ERROR, LINK_ERROR_PROTOCOL);
        g_clear_error(&error);
    }
}

/* ---- Judging ---- */

static json_object *hello(const char *role, const char *name, const char *colo, const char *uuid)
{
    json_object *out = link_end_hello(name, uuid);
    json_object_object_add(out, "role", json_object_new_string(role));
    json_object_object_add(out, "colo", json_object_new_string(colo));
    return out;
}

/* Takes `theirs`. Both texts contain their part, or there is none at all. */
static void judge(json_object *theirs, const char *for_us, const char *for_them)
{
    g_autofree char *us = NULL;
    g_autofree char *them = NULL;
    json_object *ours = hello("primary", "alpha", "1.0", LINK_END_UUID);
    gboolean may = link_judge(ours, theirs, &us, &them);
    g_assert_true(may == (for_us == NULL));
    if (!may) {
        if (!strstr(us, for_us))
            g_error("'%s' doesn't say '%s'", us, for_us);
        if (!strstr(them, for_them))
            g_error("'%s' doesn't say '%s'", them, for_them);
    }
    json_object_put(ours);
    json_object_put(theirs);
}

static json_object *without(const char *member)
{
    json_object *out = hello("secondary", "beta", "1.0", LINK_END_UUID);
    json_object_object_del(out, member);
    return out;
}

static json_object *with(const char *member, json_object *value)
{
    json_object *out = hello("secondary", "beta", "1.0", LINK_END_UUID);
    json_object_object_add(out, member, value);
    return out;
}

static void test_judge(void)
{
    judge(hello("secondary", "beta", "1.0", LINK_END_UUID), NULL, NULL);
    judge(with("unknown", json_object_new_int(1)), NULL, NULL);
    judge(hello("secondary", "beta", "2.0", LINK_END_UUID), NULL, NULL);
    judge(hello("primary", "beta", "1.0", LINK_END_UUID), "role: primary here, primary there",
          "role: primary here");
    judge(hello("secondary", "alpha", "1.0", LINK_END_UUID), "both nodes are named 'alpha'",
          "both nodes are named 'alpha'");
    judge(hello("secondary", "beta", "1.0", "00000000-0000-0000-0000-000000000000"),
          "another VM, uuid: " LINK_END_UUID " here, 00000000", "another VM, uuid: 00000000");
    const char *const members[] = {"role", "name", "colo"};
    for (gsize i = 0; i < G_N_ELEMENTS(members); i++) {
        judge(without(members[i]), "a hello without", "a hello without");
        judge(with(members[i], json_object_new_int(1)), "a hello without", "a hello without");
        judge(with(members[i], NULL), "a hello without", "a hello without");
    }
    judge(without("identity"), "identity", "identity");
    judge(with("identity", json_object_new_array()), "identity", "identity");
    judge(with("identity", json_object_new_object()), "uuid", "uuid");
}

static json_object *featured(const char *colo, const char *features)
{
    json_object *out = hello("secondary", "beta", colo, LINK_END_UUID);
    json_object_object_add(out, "features", json_tokener_parse(features));
    return out;
}

/* Another version is no reason: only what one side needs and the other lacks. */
static void test_judge_features(void)
{
    static const char *const odd[] = {"[]",
                                      "7",
                                      "{\"has\":{}}",
                                      "{\"needs\":\"x\"}",
                                      "{\"needs\":[7]}",
                                      "{\"needs\":[\"\"]}",
                                      "{\"has\":[\"A\\u0000b\"]}",
                                      "{\"needs\":[\"not a name\"]}"};
    judge(featured("2.0", "{\"has\":[\"new\"],\"needs\":[]}"), NULL, NULL);
    judge(featured("2.0", "{\"has\":[],\"later\":7}"), NULL, NULL);
    judge(featured("2.0", "{}"), NULL, NULL);
    judge(featured("2.0", "{\"has\":[\"new\"],\"needs\":[\"new\"]}"),
          "feature new: colo 1.0 here lacks it, and colo 2.0 there needs it (install that version",
          "feature new: colo 1.0 there lacks it, and colo 2.0 here needs it (install that version");
    for (gsize i = 0; i < G_N_ELEMENTS(odd); i++)
        judge(featured("2.0", odd[i]), "no lists of names", "no lists of names");
    /* The other way round, by the same rule. */
    g_autofree char *us = NULL, *them = NULL;
    json_object *ours = featured("2.0", "{\"has\":[\"new\"],\"needs\":[\"new\"]}");
    json_object *theirs = hello("primary", "alpha", "1.0", LINK_END_UUID);
    g_assert_false(link_judge(ours, theirs, &us, &them));
    g_assert_true(g_str_has_prefix(us, "feature new: colo 1.0 there lacks it, and colo 2.0 here"));
    g_assert_true(
        g_str_has_prefix(them, "feature new: colo 1.0 here lacks it, and colo 2.0 there"));
    json_object_put(ours);
    json_object_put(theirs);
    json_object *own = json_object_new_object();
    json_object_object_add(own, "features", link_features());
    g_assert_true(link_features_are_valid(own));
    g_assert_null(link_features_lacking(own, own));
    g_assert_true(link_features_has(own, LINK_FEATURE_PACKED));
    g_assert_false(link_features_has(own, "packed"));
    json_object_put(own);
    /* An older colo has no list. */
    json_object *older = hello("primary", "alpha", "1.0", LINK_END_UUID);
    g_assert_false(link_features_has(older, LINK_FEATURE_PACKED));
    json_object_put(older);
}

static void test_judge_identity(void)
{
    json_object *theirs = hello("secondary", "beta", "1.0", LINK_END_UUID);
    json_object *identity = json_object_object_get(theirs, "identity");
    json_object_object_add(identity, "machine", json_object_new_string("pc-q35-7.2"));
    judge(theirs, "machine: pc-i440fx-7.2 here, pc-q35-7.2 there",
          "machine: pc-q35-7.2 here, pc-i440fx-7.2 there");
    theirs = hello("secondary", "beta", "1.0", LINK_END_UUID);
    identity = json_object_object_get(theirs, "identity");
    json_object_object_add(identity, "disk", json_object_new_string("8G"));
    judge(theirs, "disk: none here, 8G there", "disk: 8G here, none there");
}

/* As docs/PROTOCOL.md has them, to the byte, and back. */
static void test_beats(void)
{
    static const guint8 bytes[LINK_ECHO_BYTES] = {0, 0, 0, 0, 0, 0, 0, 7, 0, 0,    0,    0,
                                                  0, 1, 2, 3, 0, 0, 0, 0, 0, 0x16, 0xe3, 0x60};
    const LinkBeat echo = {.number = 7, .sent = {.us = 0x10203}, .timeout_us = 1500000};
    guint8 beat[LINK_BEAT_BYTES], payload[LINK_ECHO_BYTES];
    link_build_beat(beat, &echo);
    g_assert_cmpmem(beat, sizeof(beat), bytes, LINK_BEAT_BYTES);
    link_build_echo(payload, &echo);
    g_assert_cmpmem(payload, sizeof(payload), bytes, sizeof(bytes));
    g_assert_cmpuint(link_parse_beat(beat).number, ==, 7);
    g_assert_cmpint(link_parse_beat(beat).sent.us, ==, 0x10203);
    g_assert_cmpuint(link_parse_beat(beat).timeout_us, ==, 0);
    g_assert_cmpuint(link_parse_echo(payload).number, ==, 7);
    g_assert_cmpuint(link_parse_echo(payload).timeout_us, ==, 1500000);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/link-wire/hello-layout", test_hello_layout);
    g_test_add_func("/link-wire/hello-byte-by-byte", test_hello_byte_by_byte);
    g_test_add_func("/link-wire/strangers", test_strangers);
    g_test_add_func("/link-wire/hello-limits", test_hello_limits);
    g_test_add_func("/link-wire/hello-bodies", test_hello_bodies);
    g_test_add_func("/link-wire/refusal-of-another-version", test_refusal_of_another_version);
    g_test_add_func("/link-wire/strings", test_strings);
    g_test_add_func("/link-wire/messages", test_messages);
    g_test_add_func("/link-wire/packets", test_packets);
    g_test_add_func("/link-wire/judge", test_judge);
    g_test_add_func("/link-wire/judge-features", test_judge_features);
    g_test_add_func("/link-wire/judge-identity", test_judge_identity);
    g_test_add_func("/link-wire/beats", test_beats);
    return g_test_run();
}
