/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two links over loopback, in one main loop: pairing, messages, packets, ends. */
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/endian.h"
#include "common/fd.h"
#include "tests/support/link-end.h"

static const char *last(const GPtrArray *texts)
{
    return texts->len ? g_ptr_array_index(texts, texts->len - 1) : NULL;
}

/* ---- Pairing ---- */

static void test_pair(void)
{
    g_autoptr(LinkEnd) primary = NULL;
    g_autoptr(LinkEnd) secondary = NULL;
    link_end_pair(NULL, &primary, &secondary);
    g_assert_true(link_is_up(primary->link));
    g_assert_true(link_is_up(secondary->link));
    g_assert_cmpstr(primary->peer_name, ==, "beta");
    g_assert_cmpstr(secondary->peer_name, ==, "alpha");
    const char *session = link_session(primary->link);
    g_assert_cmpstr(session, ==, link_session(secondary->link));
    g_assert_cmpuint(strlen(session), ==, 32);
    g_assert_cmpuint(strspn(session, "0123456789abcdef"), ==, 32);
    g_assert_cmpuint(primary->failures + secondary->failures, ==, 0);
}

static void test_not_up(void)
{
    g_autoptr(LinkEnd) side = link_end_new(NULL, 0);
    g_assert_false(link_is_up(side->link));
    g_assert_null(link_session(side->link));
    g_assert_cmpint(link_checkpoint_fd(side->link), ==, -1);
    link_send(side->link, LINK_MSG_BLANK, NULL, 0);
    g_assert_false(link_send_packet(side->link, 0, 0, (const guint8 *)"x", 1));
    link_close(side->link);
    g_assert_cmpuint(side->downs, ==, 0);
}

static void test_sessions_differ(void)
{
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (int i = 0; i < 20; i++) {
        g_autoptr(LinkEnd) primary = NULL;
        g_autoptr(LinkEnd) secondary = NULL;
        link_end_pair(NULL, &primary, &secondary);
        g_assert_true(g_hash_table_add(seen, g_strdup(link_session(primary->link))));
    }
}

static void test_again_after_down(void)
{
    g_autoptr(LinkEnd) primary = NULL;
    g_autoptr(LinkEnd) secondary = NULL;
    link_end_pair(NULL, &primary, &secondary);
    for (unsigned round = 1; round <= 5; round++) {
        g_autofree char *before = g_strdup(link_session(primary->link));
        link_close(secondary->link);
        link_end_wait(primary->downs == round);
        link_end_accept(primary, "alpha");
        link_end_dial(secondary, "beta");
        link_end_wait(primary->ups == round + 1 && secondary->ups == round + 1);
        g_assert_cmpstr(before, !=, link_session(primary->link));
    }
    g_assert_cmpuint(secondary->downs, ==, 0);
}

static void test_absent_at_start(void)
{
    /* A port that nobody listens on: one that was just given back. */
    g_autoptr(LinkEnd) primary = link_end_new(NULL, 0);
    guint16 port = link_end_port(primary);
    g_clear_pointer(&primary, link_end_free);

    g_autoptr(LinkEnd) secondary = link_end_new(NULL, port);
    link_end_dial(secondary, "beta");
    link_end_wait(secondary->failures > 0);
    g_assert_true(link_end_has_reason(secondary, LINK_ERROR_ADDRESS, link_end_absence()));
    primary = link_end_new_at(port);
    link_end_accept(primary, "alpha");
    link_end_wait(primary->ups && secondary->ups);
    /* However often it was tried. */
    g_assert_cmpuint(secondary->failures, ==, 1);
}

static void test_ipv6(void)
{
    if (access("/proc/net/if_inet6", R_OK) < 0) {
        g_test_skip("no IPv6 in this kernel");
        return;
    }
    g_autoptr(LinkEnd) primary = link_end_new(&(LinkEndOptions){.listen = "[::1]:0"}, 0);
    g_autofree char *peer = g_strdup_printf("[::1]:%u", link_end_port(primary));
    g_autoptr(LinkEnd) secondary = link_end_new(&(LinkEndOptions){.peer = peer}, 0);
    link_end_accept(primary, "alpha");
    link_end_dial(secondary, "beta");
    link_end_wait(primary->ups && secondary->ups);
}

static void test_by_name(void)
{
    g_autoptr(LinkEnd) primary = link_end_new(NULL, 0);
    g_autofree char *peer = g_strdup_printf("localhost:%u", link_end_port(primary));
    g_autoptr(LinkEnd) secondary = link_end_new(&(LinkEndOptions){.peer = peer}, 0);
    link_end_accept(primary, "alpha");
    link_end_dial(secondary, "beta");
    link_end_wait(primary->ups && secondary->ups);
}

/* ---- Messages ---- */

static void test_messages(void)
{
    g_autoptr(LinkEnd) primary = NULL;
    g_autoptr(LinkEnd) secondary = NULL;
    link_end_pair(NULL, &primary, &secondary);
    link_send(primary->link, LINK_MSG_PROTECT, NULL, 0);
    link_send(primary->link, LINK_MSG_ADDRESSES, "abc", 3);
    link_send(secondary->link, LINK_MSG_GOODBYE, "def", 3);
    link_send(secondary->link, 0xffff, "unknown to all", 14);
    link_end_wait(primary->messages->len == 2 && secondary->messages->len == 2);
    g_autofree char *protect = g_strdup_printf("%u:", LINK_MSG_PROTECT);
    g_autofree char *addresses = g_strdup_printf("%u:abc", LINK_MSG_ADDRESSES);
    g_autofree char *goodbye = g_strdup_printf("%u:def", LINK_MSG_GOODBYE);
    g_assert_cmpstr(g_ptr_array_index(secondary->messages, 0), ==, protect);
    g_assert_cmpstr(g_ptr_array_index(secondary->messages, 1), ==, addresses);
    g_assert_cmpstr(g_ptr_array_index(primary->messages, 0), ==, goodbye);
    g_assert_cmpstr(g_ptr_array_index(primary->messages, 1), ==, "65535:unknown to all");
}

static void test_longest_message(void)
{
    g_autoptr(LinkEnd) primary = NULL;
    g_autoptr(LinkEnd) secondary = NULL;
    g_autofree char *payload = g_strnfill(LINK_MESSAGE_MAX, 'z');
    link_end_pair(NULL, &primary, &secondary);
    for (int i = 0; i < 3; i++)
        link_send(primary->link, LINK_MSG_READY, payload, LINK_MESSAGE_MAX);
    link_end_wait(secondary->messages->len == 3);
    g_assert_true(g_str_has_suffix(last(secondary->messages), "zzzz"));
}

static void send_from_up(LinkEnd *side)
{
    link_send(side->link, LINK_MSG_BLANK, "at once", 7);
}

/* The accepting side is up first: what it says then must not be lost or taken for a hello. */
static void test_message_from_up(void)
{
    g_autoptr(LinkEnd) primary = link_end_new(NULL, 0);
    g_autoptr(LinkEnd) secondary = link_end_new(NULL, link_end_port(primary));
    primary->on_up = secondary->on_up = send_from_up;
    link_end_accept(primary, "alpha");
    link_end_dial(secondary, "beta");
    link_end_wait(primary->messages->len == 1 && secondary->messages->len == 1);
}

/* ---- The checkpoint connection ---- */

static void write_stream(LinkEnd *side)
{
    g_autoptr(GError) error = NULL;
    g_assert_true(
        colo_fd_write_all(link_checkpoint_fd(side->link), "COLOLINK raw stream", 19, &error));
    g_assert_no_error(error);
}

static void write_disks(LinkEnd *side)
{
    g_autoptr(GError) error = NULL;
    write_stream(side);
    g_assert_true(colo_fd_write_all(link_disks_fd(side->link), "disks", 6, &error));
    g_assert_no_error(error);
}

/* A VM with disks has a fourth connection, as raw as the checkpoint's and apart from it. */
static void test_disks(void)
{
    static const LinkEndOptions options = {.disks = TRUE};
    char text[20] = "";
    g_autoptr(GError) error = NULL;
    g_autoptr(LinkEnd) primary = link_end_new(&options, 0);
    g_autoptr(LinkEnd) secondary = link_end_new(&options, link_end_port(primary));
    g_assert_cmpint(link_disks_fd(primary->link), ==, -1);
    primary->on_up = secondary->on_up = write_disks;
    link_end_accept(primary, "alpha");
    link_end_dial(secondary, "beta");
    link_end_wait(primary->ups && secondary->ups);
    LinkEnd *sides[] = {primary, secondary};
    for (int i = 0; i < 2; i++) {
        g_assert_true(colo_fd_read_all(link_disks_fd(sides[i]->link), text, 6, &error));
        g_assert_no_error(error);
        g_assert_cmpstr(text, ==, "disks");
        g_assert_true(colo_fd_read_all(link_checkpoint_fd(sides[i]->link), text, 19, &error));
        g_assert_cmpstr(text, ==, "COLOLINK raw stream");
    }
    shutdown(link_disks_fd(secondary->link), SHUT_RDWR);
    link_end_wait(primary->downs == 1 && secondary->downs == 1);
    g_assert_nonnull(strstr(primary->down->message, "disks connection"));
    g_assert_cmpint(link_disks_fd(primary->link), ==, -1);
}

/* Without disks there is none. */
static void test_no_disks(void)
{
    g_autoptr(LinkEnd) primary = NULL;
    g_autoptr(LinkEnd) secondary = NULL;
    link_end_pair(NULL, &primary, &secondary);
    g_assert_cmpint(link_disks_fd(primary->link), ==, -1);
    g_assert_cmpint(link_disks_fd(secondary->link), ==, -1);
}

/* Bytes that come right behind the hello, or before it is read, belong to the engine. */
static void test_checkpoint_is_raw(void)
{
    char text[20] = "";
    g_autoptr(GError) error = NULL;
    g_autoptr(LinkEnd) primary = link_end_new(NULL, 0);
    g_autoptr(LinkEnd) secondary = link_end_new(NULL, link_end_port(primary));
    primary->on_up = secondary->on_up = write_stream;
    link_end_accept(primary, "alpha");
    link_end_dial(secondary, "beta");
    link_end_wait(primary->ups && secondary->ups);
    LinkEnd *sides[] = {primary, secondary};
    for (int i = 0; i < 2; i++) {
        g_assert_true(colo_fd_read_all(link_checkpoint_fd(sides[i]->link), text, 19, &error));
        g_assert_no_error(error);
        g_assert_cmpstr(text, ==, "COLOLINK raw stream");
    }
    g_assert_cmpuint(primary->downs + secondary->downs, ==, 0);
}

static void test_checkpoint_end(gconstpointer data)
{
    gboolean primary_ends = GPOINTER_TO_INT(data);
    g_autoptr(LinkEnd) primary = NULL;
    g_autoptr(LinkEnd) secondary = NULL;
    link_end_pair(NULL, &primary, &secondary);
    LinkEnd *ends = primary_ends ? primary : secondary, *other = primary_ends ? secondary : primary;
    /* Both notice: the one at whose end an engine did it, too. */
    shutdown(link_checkpoint_fd(ends->link), SHUT_RDWR);
    link_end_wait(ends->downs == 1 && other->downs == 1);
    g_assert_error(other->down, LINK_ERROR, LINK_ERROR_CLOSED);
    g_assert_nonnull(strstr(other->down->message, "connection"));
}

/* ---- Ends ---- */

static void check_descriptor(LinkEnd *side)
{
    /* Still there: an engine may be using it until down() returns. */
    g_assert_cmpint(send(GPOINTER_TO_INT(side->user_data), "x", 1, MSG_NOSIGNAL), !=, -2);
    g_assert_cmpint(fcntl(GPOINTER_TO_INT(side->user_data), F_GETFD), !=, -1);
    g_assert_false(link_is_up(side->link));
    g_assert_null(link_session(side->link));
}

static void test_close(void)
{
    g_autoptr(LinkEnd) primary = NULL;
    g_autoptr(LinkEnd) secondary = NULL;
    link_end_pair(NULL, &primary, &secondary);
    secondary->user_data = GINT_TO_POINTER(link_checkpoint_fd(secondary->link));
    secondary->on_down = check_descriptor;
    link_close(primary->link);
    g_assert_false(link_is_up(primary->link));
    g_assert_cmpint(link_checkpoint_fd(primary->link), ==, -1);
    link_end_wait(secondary->downs == 1);
    g_assert_error(secondary->down, LINK_ERROR, LINK_ERROR_CLOSED);
    g_autofree char *who = g_strdup_printf("alpha (%s): ", link_end_stranger());
    g_assert_true(g_str_has_prefix(secondary->down->message, who));
    g_assert_cmpuint(primary->downs, ==, 0);
}

/* What was sent before the end is received before the end: the difference between a peer that left and
 * one that died. Also when much is on its way, and the peer is talking all the time. */
static void test_last_words(void)
{
    /* The kernel takes all of it at once, and of a unix socket's less. */
    gsize len = link_end_number() ? 32 * 1024 : LINK_MESSAGE_MAX;
    g_autofree char *payload = g_strnfill(len, 'x');
    for (int i = 0; i < 20; i++) {
        g_autoptr(LinkEnd) primary = NULL;
        g_autoptr(LinkEnd) secondary = NULL;
        link_end_pair(NULL, &primary, &secondary);
        for (int j = 0; j < 50; j++)
            link_send(secondary->link, LINK_MSG_APPLIED, "unread", 6);
        for (int j = 0; j < 3; j++)
            link_send(primary->link, LINK_MSG_ADDRESSES, payload, len);
        link_send(primary->link, LINK_MSG_GOODBYE, "bye", 3);
        shutdown(link_checkpoint_fd(primary->link), SHUT_RDWR);
        link_close(primary->link);
        link_end_wait(secondary->downs == 1);
        g_assert_cmpuint(secondary->messages->len, ==, 4);
        g_autofree char *goodbye = g_strdup_printf("%u:bye", LINK_MSG_GOODBYE);
        g_assert_cmpstr(last(secondary->messages), ==, goodbye);
    }
}

/* The same when the process ends right after it, without a main loop. */
static void send_packets(const LinkEnd *side, int count)
{
    for (int i = 0; i < count; i++)
        g_assert_true(link_send_packet(side->link, 0, 1, (const guint8 *)"frame", 5));
}

/* One side ends the link. The other sends on until it knows, and then ends it, too. */
static void test_packets_follow(void)
{
    for (int round = 0; round < 20; round++) {
        g_autoptr(LinkEnd) primary = NULL;
        g_autoptr(LinkEnd) secondary = NULL;
        link_end_pair(NULL, &primary, &secondary);
        send_packets(primary, 100);
        for (int turn = 0; turn < round; turn++)
            g_main_context_iteration(NULL, FALSE);
        link_let_packets_follow(secondary->link);
        link_send(secondary->link, LINK_MSG_TAKEN, "taken", 5);
        link_close(secondary->link);
        send_packets(primary, 100);
        link_close(primary->link);
        link_end_wait(secondary->packet_frames + secondary->late_frames == 200);
        g_assert_cmpuint(secondary->late_frames, >=, 100);
        g_assert_cmpuint(primary->downs + secondary->downs, ==, 0);
    }
}

/* Nobody has asked for them. */
static void test_packets_dont_follow(void)
{
    g_autoptr(LinkEnd) primary = NULL;
    g_autoptr(LinkEnd) secondary = NULL;
    link_end_pair(NULL, &primary, &secondary);
    link_let_packets_follow(secondary->link);
    link_close(primary->link);
    link_end_wait(secondary->downs == 1);
    link_end_accept(primary, "alpha");
    link_end_dial(secondary, "beta");
    link_end_wait(primary->ups == 2 && secondary->ups == 2);
    send_packets(primary, 1);
    link_close(secondary->link);
    link_end_wait(primary->downs == 1);
    g_assert_cmpuint(secondary->late_frames, ==, 0);
}

static void test_last_words_and_free(void)
{
    for (int i = 0; i < 20; i++) {
        g_autoptr(LinkEnd) primary = NULL;
        g_autoptr(LinkEnd) secondary = NULL;
        link_end_pair(NULL, &primary, &secondary);
        for (int j = 0; j < 50; j++)
            link_send(secondary->link, LINK_MSG_APPLIED, "unread", 6);
        link_send(primary->link, LINK_MSG_GOODBYE, "bye", 3);
        g_clear_pointer(&primary, link_end_free);
        link_end_wait(secondary->downs == 1);
        g_assert_cmpuint(secondary->messages->len, ==, 1);
    }
}

static void close_own(LinkEnd *side)
{
    link_close(side->link);
}

static void free_own(LinkEnd *side)
{
    g_clear_pointer(&side->link, link_free);
}

/* Every callback may end the link, or free it. */
static void test_end_in_callback(gconstpointer data)
{
    void (*end)(LinkEnd *) = GPOINTER_TO_INT(data) ? free_own : close_own;
    for (int which = 0; which < 5; which++) {
        g_autoptr(LinkEnd) primary = NULL;
        g_autoptr(LinkEnd) secondary = NULL;
        if (which == 0) {
            primary = link_end_new(NULL, 0);
            secondary = link_end_new(NULL, link_end_port(primary));
            primary->on_up = end;
            link_end_accept(primary, "alpha");
            link_end_dial(secondary, "beta");
            link_end_wait(primary->ups == 1);
            continue;
        }
        if (which == 4) {
            secondary = link_end_new(NULL, 1);
            secondary->on_failure = end;
            link_end_dial(secondary, "beta");
            link_end_wait(secondary->failures == 1);
            continue;
        }
        link_end_pair(NULL, &primary, &secondary);
        primary->on_message = primary->on_packet = primary->on_down = end;
        if (which == 1)
            for (int i = 0; i < 3; i++)
                link_send(secondary->link, LINK_MSG_BLANK, NULL, 0);
        else if (which == 2)
            for (int i = 0; i < 3; i++)
                link_send_packet(secondary->link, 0, 1, (const guint8 *)"frame", 5);
        else
            link_close(secondary->link);
        link_end_wait(primary->messages->len + primary->packet_frames + primary->downs > 0);
        g_assert_cmpuint(primary->messages->len + primary->packet_frames + primary->downs, ==, 1);
    }
}

/* down() may at once look for the next peer. */
static void accept_again(LinkEnd *side)
{
    link_end_accept(side, "alpha");
}

static void dial_again(LinkEnd *side)
{
    link_end_dial(side, "beta");
}

static void test_restart_in_down(void)
{
    g_autoptr(LinkEnd) primary = NULL;
    g_autoptr(LinkEnd) secondary = NULL;
    link_end_pair(NULL, &primary, &secondary);
    primary->on_down = accept_again;
    secondary->on_down = dial_again;
    for (unsigned i = 1; i <= 5; i++) {
        shutdown(link_checkpoint_fd(secondary->link), SHUT_RDWR);
        link_end_wait(primary->ups == i + 1 && secondary->ups == i + 1 &&
                      link_is_up(primary->link) && link_is_up(secondary->link));
    }
    g_assert_cmpuint(primary->downs, ==, 5);
    g_assert_cmpuint(secondary->downs, ==, 5);
}

static void break_own(LinkEnd *end)
{
    g_autoptr(GError) why = g_error_new_literal(LINK_ERROR, LINK_ERROR_PROTOCOL, "nonsense");
    link_break(end->link, why);
}

/* Says it, and returns when it is there: loopback keeps the order of one sender. */
static void send_and_wait(LinkEnd *from, LinkEnd *to)
{
    char byte;
    link_send(from->link, LINK_MSG_GOODBYE, "bye", 3);
    g_assert_true(colo_fd_write_all(link_checkpoint_fd(from->link), "x", 1, NULL));
    g_assert_true(colo_fd_read_all(link_checkpoint_fd(to->link), &byte, 1, NULL));
}

/* Found broken by the service: what the peer has said counts, then down(), from within. */
static void test_break(void)
{
    g_autoptr(LinkEnd) primary = NULL;
    g_autoptr(LinkEnd) secondary = NULL;
    link_end_pair(NULL, &primary, &secondary);
    send_and_wait(primary, secondary);
    break_own(secondary);
    g_assert_cmpuint(secondary->messages->len, ==, 1);
    g_assert_cmpuint(secondary->downs, ==, 1);
    g_assert_error(secondary->down, LINK_ERROR, LINK_ERROR_PROTOCOL);
    g_assert_false(link_is_up(secondary->link));
    link_end_wait(primary->downs == 1);
    /* Not up: nothing to break. */
    break_own(secondary);
    g_assert_cmpuint(secondary->downs, ==, 1);
}

/* From a message that makes no sense: the ones behind it aren't delivered any more. */
static void test_break_in_message(void)
{
    g_autoptr(LinkEnd) primary = NULL;
    g_autoptr(LinkEnd) secondary = NULL;
    link_end_pair(NULL, &primary, &secondary);
    secondary->on_message = break_own;
    for (int i = 0; i < 3; i++)
        link_send(primary->link, LINK_MSG_BLANK, NULL, 0);
    link_end_wait(secondary->downs && primary->downs);
    g_assert_cmpuint(secondary->messages->len, ==, 1);
    g_assert_cmpuint(secondary->downs, ==, 1);
}

/* The last words of a peer that answers them by ending the link: no down() after that. */
static void test_break_meets_close(void)
{
    g_autoptr(LinkEnd) primary = NULL;
    g_autoptr(LinkEnd) secondary = NULL;
    link_end_pair(NULL, &primary, &secondary);
    secondary->on_message = close_own;
    send_and_wait(primary, secondary);
    break_own(secondary);
    g_assert_cmpuint(secondary->messages->len, ==, 1);
    g_assert_cmpuint(secondary->downs, ==, 0);
    link_end_wait(primary->downs == 1);
}

/* A peer that is there and reads nothing. */
static void test_overrun(void)
{
    g_autofree char *payload = g_strnfill(LINK_MESSAGE_MAX, 'x');
    g_autoptr(LinkEnd) primary = NULL;
    g_autoptr(LinkEnd) secondary = NULL;
    link_end_pair(NULL, &primary, &secondary);
    for (int i = 0; i < 64; i++)
        link_send(primary->link, LINK_MSG_ADDRESSES, payload, LINK_MESSAGE_MAX);
    /* Never from within link_send(). */
    g_assert_cmpuint(primary->downs, ==, 0);
    link_end_wait(primary->downs == 1);
    g_assert_error(primary->down, LINK_ERROR, LINK_ERROR_OVERRUN);
    link_end_wait(secondary->downs == 1);
}

static void send_more(LinkEnd *side)
{
    guint *left = side->user_data;
    for (; *left > 0 && !link_has_unsent(side->link); (*left)--) {
        g_autofree char *payload = g_strnfill(LINK_MESSAGE_MAX, 'x');
        link_send(side->link, LINK_MSG_ADDRESSES, payload, LINK_MESSAGE_MAX);
    }
}

/* Who has more to say than may wait says it as the peer reads it. */
static void test_much_to_send(void)
{
    g_autoptr(LinkEnd) primary = NULL;
    g_autoptr(LinkEnd) secondary = NULL;
    guint left = 64;
    link_end_pair(NULL, &primary, &secondary);
    primary->user_data = &left;
    primary->on_sent = send_more;
    send_more(primary);
    g_assert_cmpuint(left, >, 0);
    link_end_wait(secondary->messages->len == 64 || primary->downs > 0);
    g_assert_cmpuint(primary->downs, ==, 0);
    g_assert_false(link_has_unsent(primary->link));
}

static void test_set_heartbeat(void)
{
    g_autoptr(LinkEnd) primary = NULL;
    g_autoptr(LinkEnd) secondary = NULL;
    link_end_pair(NULL, &primary, &secondary);
    /* The other beats every 20 ms; hundreds must have gone by. */
    link_set_heartbeat(secondary->link, 1, 10000);
    link_set_heartbeat(primary->link, 1, 10000);
    link_send(primary->link, LINK_MSG_BLANK, NULL, 0);
    link_end_wait(secondary->messages->len == 1);
    g_assert_cmpuint(primary->downs + secondary->downs, ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    link_end_add_test("/link/pair", test_pair);
    link_end_add_test("/link/not-up", test_not_up);
    link_end_add_test("/link/sessions-differ", test_sessions_differ);
    link_end_add_test("/link/again-after-down", test_again_after_down);
    link_end_add_test("/link/absent-at-start", test_absent_at_start);
    g_test_add_func("/link/ipv6", test_ipv6);
    g_test_add_func("/link/by-name", test_by_name);
    link_end_add_test("/link/messages", test_messages);
    link_end_add_test("/link/longest-message", test_longest_message);
    link_end_add_test("/link/message-from-up", test_message_from_up);
    link_end_add_test("/link/disks", test_disks);
    link_end_add_test("/link/no-disks", test_no_disks);
    link_end_add_test("/link/checkpoint-is-raw", test_checkpoint_is_raw);
    link_end_add_data_test("/link/checkpoint-end/primary", GINT_TO_POINTER(1), test_checkpoint_end);
    link_end_add_data_test("/link/checkpoint-end/secondary", GINT_TO_POINTER(0),
                           test_checkpoint_end);
    link_end_add_test("/link/close", test_close);
    link_end_add_test("/link/last-words", test_last_words);
    link_end_add_test("/link/packets-follow", test_packets_follow);
    link_end_add_test("/link/packets-dont-follow", test_packets_dont_follow);
    link_end_add_test("/link/last-words-and-free", test_last_words_and_free);
    link_end_add_data_test("/link/end-in-callback/close", GINT_TO_POINTER(0), test_end_in_callback);
    link_end_add_data_test("/link/end-in-callback/free", GINT_TO_POINTER(1), test_end_in_callback);
    link_end_add_test("/link/restart-in-down", test_restart_in_down);
    link_end_add_test("/link/break", test_break);
    link_end_add_test("/link/break-in-message", test_break_in_message);
    link_end_add_test("/link/break-meets-close", test_break_meets_close);
    link_end_add_test("/link/overrun", test_overrun);
    link_end_add_test("/link/much-to-send", test_much_to_send);
    link_end_add_test("/link/set-heartbeat", test_set_heartbeat);
    return g_test_run();
}
