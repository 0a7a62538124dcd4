/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vhost-user messages: which are well formed, and what is in them. */
#include <glib.h>
#include <string.h>

#include "vm/vhost-message.h"

typedef struct {
    guint32 request, flags, size;
    guint64 payload[34];
} Wire;

static gboolean parse(const Wire *wire, guint fds, VhostMessage *ret, GError **error)
{
    guint8 bytes[VHOST_HEADER_BYTES + sizeof(wire->payload)];
    memcpy(bytes, wire, VHOST_HEADER_BYTES);
    memcpy(bytes + VHOST_HEADER_BYTES, wire->payload, sizeof(wire->payload));
    return vhost_message_parse(bytes, VHOST_HEADER_BYTES + MIN(wire->size, sizeof(wire->payload)),
                               fds, ret, error);
}

static VhostMessage parsed(const Wire *wire, guint fds)
{
    g_autoptr(GError) error = NULL;
    VhostMessage message = {0};
    g_assert_true(parse(wire, fds, &message, &error));
    g_assert_no_error(error);
    g_assert_cmpuint(message.request, ==, wire->request);
    return message;
}

static void test_contents(void)
{
    VhostMessage m = parsed(&(Wire){VHOST_SET_FEATURES, 1, 8, {0x123456789abcdef0}}, 0);
    g_assert_cmpuint(m.value, ==, 0x123456789abcdef0);
    g_assert_false(m.wants_reply);
    m = parsed(&(Wire){VHOST_SET_FEATURES, 9, 8, {1}}, 0);
    g_assert_true(m.wants_reply);
    m = parsed(&(Wire){VHOST_GET_FEATURES, 1, 0, {0}}, 0);
    g_assert_true(m.wants_reply);
    m = parsed(&(Wire){VHOST_SET_VRING_NUM, 1, 8, {256ull << 32 | 1}}, 0);
    g_assert_cmpuint(m.ring, ==, 1);
    g_assert_cmpuint(m.value, ==, 256);
    m = parsed(&(Wire){VHOST_SET_VRING_KICK, 1, 8, {1}}, 1);
    g_assert_cmpuint(m.ring, ==, 1);
    g_assert_cmpuint(m.value, ==, 1);
    m = parsed(&(Wire){VHOST_SET_VRING_CALL, 1, 8, {0x100}}, 0);
    g_assert_cmpuint(m.ring, ==, 0);
    g_assert_cmpuint(m.value, ==, 0);
    m = parsed(
        &(Wire){
            VHOST_SET_VRING_ADDR, 1, 40, {1, 10, 20, 30, 40}
    },
        0);
    g_assert_cmpuint(m.ring, ==, 1);
    g_assert_cmpuint(m.desc, ==, 10);
    g_assert_cmpuint(m.used, ==, 20);
    g_assert_cmpuint(m.avail, ==, 30);
    m = parsed(
        &(Wire){
            VHOST_SET_MEM_TABLE, 9, 72, {2, 1, 2, 3, 4, 5, 6, 7, 8}
    },
        2);
    g_assert_cmpuint(m.count, ==, 2);
    g_assert_cmpuint(m.regions[0].guest, ==, 1);
    g_assert_cmpuint(m.regions[0].size, ==, 2);
    g_assert_cmpuint(m.regions[1].user, ==, 7);
    g_assert_cmpuint(m.regions[1].offset, ==, 8);
    m = parsed(
        &(Wire){
            VHOST_SET_LOG_BASE, 1, 16, {1, 2}
    },
        1);
    g_assert_true(m.wants_reply);
}

static void test_refused(void)
{
    static const struct {
        Wire wire;
        guint fds;
        const char *why;
    } bad[] = {
        {{0, 1, 0, {0}},                              0, "agreed"          },
        {{17, 1, 0, {0}},                             0, "agreed"          },
        {{0xffffffff, 1, 0, {0}},                     0, "agreed"          },
        {{VHOST_GET_FEATURES, 2, 0, {0}},             0, "version"         },
        {{VHOST_GET_FEATURES, 5, 0, {0}},             0, "a reply"         },
        {{VHOST_GET_FEATURES, 1, 265, {0}},           0, "too long"        },
        {{VHOST_GET_FEATURES, 1, 8, {0}},             0, "wrong length"    },
        {{VHOST_SET_FEATURES, 1, 4, {0}},             0, "wrong length"    },
        {{VHOST_SET_FEATURES, 1, 8, {0}},             1, "too many desc"   },
        {{VHOST_SET_VRING_NUM, 1, 8, {2}},            0, "names a ring"    },
        {{VHOST_SET_VRING_KICK, 1, 8, {2}},           1, "names a ring"    },
        {{VHOST_SET_VRING_KICK, 1, 8, {1}},           0, "against its word"},
        {{VHOST_SET_VRING_CALL, 1, 8, {0x100}},       1, "against its word"},
        {{VHOST_SET_VRING_ADDR, 1, 40, {0xffffffff}}, 0, "names a ring"    },
        {{VHOST_SET_MEM_TABLE, 1, 0, {0}},            0, "wrong length"    },
        {{VHOST_SET_MEM_TABLE, 1, 8, {9}},            0, "its regions"     },
        {{VHOST_SET_MEM_TABLE, 1, 8, {0x100000000}},  1, "one descriptor"  },
        {{VHOST_SET_MEM_TABLE, 1, 40, {2}},           2, "its regions"     },
        {{VHOST_SET_MEM_TABLE, 1, 40, {0x08000001}},  1, "its regions"     },
        {{VHOST_SET_MEM_TABLE, 1, 40, {1}},           2, "one descriptor"  },
        {{VHOST_SET_LOG_BASE, 1, 16, {0}},            2, "too many desc"   },
    };
    for (gsize i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        VhostMessage message = {0};
        g_assert_false(parse(&bad[i].wire, bad[i].fds, &message, &error));
        g_assert_error(error, VHOST_ERROR, VHOST_ERROR_MESSAGE);
        if (!strstr(error->message, bad[i].why))
            g_error("message %zu: %s", i, error->message);
        g_assert_cmpuint(message.request, ==, 0);
    }
}

static void test_reply(void)
{
    guint8 reply[VHOST_REPLY_BYTES];
    VhostMessage message = {.request = VHOST_GET_VRING_BASE, .ring = 1};
    g_assert_cmpuint(vhost_message_reply(&message, 0x1234, reply), ==, 20);
    static const guint8 state[] = {11, 0, 0, 0, 5, 0, 0,    0,    8, 0,
                                   0,  0, 1, 0, 0, 0, 0x34, 0x12, 0, 0};
    g_assert_cmpmem(reply, 20, state, 20);
    message = (VhostMessage){.request = VHOST_GET_FEATURES};
    vhost_message_reply(&message, 0x0102030405060708, reply);
    static const guint8 value[] = {1, 0, 0, 0, 5, 0, 0, 0, 8, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1};
    g_assert_cmpmem(reply, 20, value, 20);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vhost-message/contents", test_contents);
    g_test_add_func("/vhost-message/refused", test_refused);
    g_test_add_func("/vhost-message/reply", test_reply);
    return g_test_run();
}
