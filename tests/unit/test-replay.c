/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a takeover needs besides the checkpoint: which frames wait, and when each leaves. */
#include "colo/node/replay.h"

#include "checkpoint/checkpoint.h"
#include "colo/node/node.h"

#include <string.h>

#define EPOCH 7u

/* A frame is one letter. What it has led to is in `events`, in order, each with a blank after it. */
typedef struct {
    Replay *replay;
    ReplayWorld world;
    gboolean link_is_full;
    GString *events;
} Fixture;

static ReplayWorld on_look(gpointer user_data)
{
    const Fixture *f = user_data;
    return f->world;
}

static char letter_of(GBytes *frame)
{
    return *(const char *)g_bytes_get_data(frame, NULL);
}

static void on_deliver(unsigned nic, const guint8 *data, gsize len, gpointer user_data)
{
    const Fixture *f = user_data;
    g_assert_cmpuint(nic, ==, 3);
    g_assert_cmpuint(len, ==, 1);
    g_string_append_printf(f->events, "gets-%c ", *data);
}

static void on_note(const CompareNote *note, gpointer user_data)
{
    const Fixture *f = user_data;
    g_string_append_printf(f->events, "note-%u ", note->key.sport);
}

static gboolean on_send(unsigned nic, GBytes *frame, gpointer user_data)
{
    const Fixture *f = user_data;
    g_assert_cmpuint(nic, ==, 3);
    g_string_append_printf(f->events, "%s-%c ", f->link_is_full ? "no-room" : "sent",
                           letter_of(frame));
    return !f->link_is_full;
}

static void on_release(unsigned nic, GBytes *frame, gpointer user_data)
{
    const Fixture *f = user_data;
    g_assert_cmpuint(nic, ==, 3);
    g_string_append_printf(f->events, "held-%c ", letter_of(frame));
}

static void on_begin_mapping(gpointer user_data)
{
    const Fixture *f = user_data;
    g_string_append(f->events, "maps ");
}

static void on_map_and_release(unsigned nic, GBytes *frame, gpointer user_data)
{
    const Fixture *f = user_data;
    g_assert_cmpuint(nic, ==, 3);
    g_string_append_printf(f->events, "mapped-%c ", letter_of(frame));
}

/* The copy runs in EPOCH. */
static void set_up(Fixture *f, gconstpointer data)
{
    static const ReplayHandler handler = {.look = on_look,
                                          .deliver = on_deliver,
                                          .note = on_note,
                                          .send = on_send,
                                          .release = on_release,
                                          .begin_mapping = on_begin_mapping,
                                          .map_and_release = on_map_and_release};
    (void)data;
    f->replay = replay_new(&handler, f);
    f->events = g_string_new(NULL);
    f->world =
        (ReplayWorld){.epoch = epoch_some(EPOCH), .is_in = TRUE, .runs = TRUE, .counts = TRUE};
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    replay_free(f->replay);
    g_string_free(f->events, TRUE);
}

/* Since the last call. */
static void expect(Fixture *f, const char *events)
{
    g_assert_cmpstr(f->events->str, ==, events);
    g_string_truncate(f->events, 0);
}

static void mirror(Fixture *f, guint64 epoch, char letter)
{
    g_assert_true(replay_mirrored(f->replay, 3, epoch, (const guint8 *)&letter, 1, NULL));
}

static void mirror_note(Fixture *f, guint64 epoch, guint16 port)
{
    CompareNote note = {.epoch = epoch, .key = {.sport = port}};
    guint8 bytes[COMPARE_NOTE_BYTES];
    compare_note_pack(&note, bytes);
    g_assert_true(replay_mirrored(f->replay, LINK_NIC_NOTE, epoch, bytes, sizeof(bytes), NULL));
}

/* Each letter is a frame. */
static void send(Fixture *f, const char *letters)
{
    for (; *letters; letters++)
        replay_output(f->replay, 3, (const guint8 *)letters, 1);
}

static void settle(Fixture *f, guint64 epoch, guint64 count, const guint64 *numbers, gsize n)
{
    MessageSettled settled = {.epoch = epoch, .count = count, .numbers = numbers, .n_numbers = n};
    replay_settled(f->replay, &settled);
}

static void receive(Fixture *f, guint64 epoch)
{
    f->world = (ReplayWorld){.epoch = epoch_some(epoch)};
    replay_received(f->replay, epoch);
}

static void enter(Fixture *f)
{
    replay_enter(f->replay);
    f->world.is_in = f->world.runs = f->world.counts = TRUE;
}

static guint64 waiting(const Fixture *f)
{
    return backlog_stats(replay_input_backlog(f->replay))->frames;
}

static guint64 unconfirmed(const Fixture *f)
{
    return backlog_stats(replay_output_backlog(f->replay))->frames;
}

/* ---- Input ---- */

static void test_at_once(Fixture *f, gconstpointer data)
{
    (void)data;
    mirror(f, EPOCH, 'a');
    mirror_note(f, EPOCH, 1);
    mirror(f, EPOCH, 'b');
    expect(f, "gets-a note-1 gets-b ");
    g_assert_cmpuint(waiting(f), ==, 0);
}

/* It is part of the checkpoint; and without one there is no copy that could need it. */
static void test_old(Fixture *f, gconstpointer data)
{
    (void)data;
    mirror(f, EPOCH - 1, 'a');
    f->world = (ReplayWorld){.epoch = EPOCH_NONE};
    mirror(f, EPOCH, 'b');
    replay_input(f->replay, 3, (const guint8 *)"c", 1);
    expect(f, "");
    g_assert_cmpuint(waiting(f), ==, 0);
}

/* A copy that is paused, or not loaded yet, gets it later, and what comes then waits behind it. */
static void test_waits(Fixture *f, gconstpointer is_paused)
{
    if (is_paused)
        f->world.runs = FALSE;
    else
        f->world.is_in = FALSE;
    mirror(f, EPOCH, 'a');
    mirror_note(f, EPOCH, 1);
    mirror(f, EPOCH, 'b');
    expect(f, "");
    f->world.runs = f->world.is_in = TRUE;
    mirror(f, EPOCH, 'c');
    expect(f, "");
    replay_give(f->replay, EPOCH);
    expect(f, "gets-a note-1 gets-b gets-c ");
    mirror(f, EPOCH, 'd');
    expect(f, "gets-d ");
}

static void test_epoch_zero(Fixture *f, gconstpointer data)
{
    (void)data;
    f->world.epoch = epoch_some(0);
    mirror(f, 0, 'a');
    expect(f, "gets-a ");
    f->world.epoch = EPOCH_NONE;
    mirror(f, 0, 'b');
    expect(f, "");
    g_assert_cmpuint(waiting(f), ==, 0);
}

static void test_next_epoch(Fixture *f, gconstpointer data)
{
    (void)data;
    mirror(f, EPOCH + 1, 'b');
    mirror_note(f, EPOCH + 1, 2);
    mirror(f, EPOCH + 2, 'c');
    replay_give(f->replay, EPOCH);
    expect(f, "");
    receive(f, EPOCH + 1);
    enter(f);
    replay_give(f->replay, EPOCH + 1);
    expect(f, "gets-b note-2 ");
    g_assert_cmpuint(waiting(f), ==, 1);
}

/* A checkpoint brings the input of the epochs before it. */
static void test_checkpoint(Fixture *f, gconstpointer data)
{
    (void)data;
    f->world.runs = FALSE;
    mirror(f, EPOCH, 'a');
    mirror_note(f, EPOCH, 1);
    mirror(f, EPOCH + 1, 'b');
    mirror(f, EPOCH + 2, 'c');
    receive(f, EPOCH + 2);
    g_assert_cmpuint(waiting(f), ==, 1);
    enter(f);
    replay_give(f->replay, EPOCH + 2);
    expect(f, "gets-c ");
}

/* Also one that would have to wait: the session ends before a takeover could need it. */
static void test_no_note(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    guint8 bytes[COMPARE_NOTE_BYTES + 1] = {0};
    gsize len = GPOINTER_TO_SIZE(data);
    g_assert_false(replay_mirrored(f->replay, LINK_NIC_NOTE, EPOCH + 1, bytes, len, &error));
    g_assert_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL);
    g_assert_cmpuint(waiting(f), ==, 0);
    g_clear_error(&error);
    g_assert_false(replay_mirrored(f->replay, LINK_NIC_NOTE, EPOCH, bytes, len, &error));
    g_assert_error(error, NODE_ERROR, NODE_ERROR_PROTOCOL);
    expect(f, "");
}

/* The newest are kept, as many as cost less than the limit, which counts more than their bytes. */
static void test_input_limit(Fixture *f, gconstpointer data)
{
    guint64 most = REPLAY_LIMIT_BYTES / (BACKLOG_FRAME_BYTES + 1);
    (void)data;
    f->world.runs = FALSE;
    mirror(f, EPOCH, 'a');
    for (guint64 i = 0; i < most - 1; i++)
        mirror(f, EPOCH, 'b');
    g_assert_cmpuint(waiting(f), ==, most);
    mirror(f, EPOCH, 'c');
    g_assert_cmpuint(waiting(f), ==, most);
    g_assert_cmpuint(backlog_stats(replay_input_backlog(f->replay))->dropped, ==, 1);
    replay_give(f->replay, EPOCH);
    g_assert_true(g_str_has_prefix(f->events->str, "gets-b "));
    g_assert_true(g_str_has_suffix(f->events->str, " gets-c "));
}

/* ---- Output ---- */

static void test_output(Fixture *f, gconstpointer data)
{
    (void)data;
    send(f, "ab");
    expect(f, "sent-a sent-b ");
    g_assert_cmpuint(unconfirmed(f), ==, 2);
    f->world.counts = FALSE;
    send(f, "c");
    expect(f, "");
    g_assert_cmpuint(unconfirmed(f), ==, 2);
}

static void test_settled_by_count(Fixture *f, gconstpointer data)
{
    (void)data;
    send(f, "abcd");
    settle(f, EPOCH, 2, NULL, 0);
    g_assert_cmpuint(unconfirmed(f), ==, 2);
    settle(f, EPOCH, 2, NULL, 0);
    g_assert_cmpuint(unconfirmed(f), ==, 2);
    expect(f, "sent-a sent-b sent-c sent-d ");
    replay_release_output(f->replay);
    expect(f, "maps mapped-c mapped-d ");
}

/* Numbers that were never sent, or are settled already, change nothing. */
static void test_settled_by_number(Fixture *f, gconstpointer data)
{
    const guint64 numbers[] = {1, 3, 5, 99};
    (void)data;
    send(f, "abcdef");
    expect(f, "sent-a sent-b sent-c sent-d sent-e sent-f ");
    settle(f, EPOCH, 1, numbers, G_N_ELEMENTS(numbers));
    replay_release_output(f->replay);
    expect(f, "maps mapped-b mapped-d mapped-f ");
}

/* The primary has not seen it: it settles with the next one that the primary has. */
static void test_no_room(Fixture *f, gconstpointer data)
{
    (void)data;
    send(f, "a");
    f->link_is_full = TRUE;
    send(f, "bc");
    f->link_is_full = FALSE;
    send(f, "d");
    expect(f, "sent-a no-room-b no-room-c sent-d ");
    settle(f, EPOCH, 1, NULL, 0);
    g_assert_cmpuint(unconfirmed(f), ==, 3);
    settle(f, EPOCH, 2, NULL, 0);
    g_assert_cmpuint(unconfirmed(f), ==, 0);
}

/* Each epoch numbers its output from one, and SETTLED of another epoch says nothing about it. */
static void test_settled_epoch(Fixture *f, gconstpointer data)
{
    (void)data;
    send(f, "ab");
    settle(f, EPOCH + 1, 2, NULL, 0);
    g_assert_cmpuint(unconfirmed(f), ==, 2);
    receive(f, EPOCH + 1);
    /* Until the copy enters the next one, it may have to continue where it is. */
    g_assert_cmpuint(unconfirmed(f), ==, 2);
    settle(f, EPOCH + 1, 2, NULL, 0);
    g_assert_cmpuint(unconfirmed(f), ==, 2);
    enter(f);
    g_assert_cmpuint(unconfirmed(f), ==, 0);
    send(f, "cd");
    settle(f, EPOCH, 2, NULL, 0);
    g_assert_cmpuint(unconfirmed(f), ==, 2);
    settle(f, EPOCH + 1, 1, NULL, 0);
    expect(f, "sent-a sent-b sent-c sent-d ");
    replay_release_output(f->replay);
    expect(f, "maps mapped-d ");
}

static void test_output_limit(Fixture *f, gconstpointer data)
{
    guint64 most = REPLAY_LIMIT_BYTES / (BACKLOG_FRAME_BYTES + 1);
    (void)data;
    send(f, "a");
    for (guint64 i = 0; i < most; i++)
        send(f, "b");
    g_assert_cmpuint(unconfirmed(f), ==, most);
    g_string_truncate(f->events, 0);
    replay_release_output(f->replay);
    g_assert_true(g_str_has_prefix(f->events->str, "maps mapped-b "));
}

/* ---- Takeover ---- */

static GPtrArray *held_frames(const char *letters)
{
    GPtrArray *frames = checkpoint_frames_new();
    for (; *letters; letters++)
        checkpoint_frames_add(frames, 3, g_bytes_new(letters, 1));
    return frames;
}

static void take_held(Fixture *f, const char *letters)
{
    g_autoptr(GPtrArray) frames = held_frames(letters);
    replay_release_held(f->replay, frames);
}

/* From what the checkpoint brought to what comes for the VM: a client sees one order. */
static void test_order(Fixture *f, gconstpointer data)
{
    (void)data;
    send(f, "cd");
    expect(f, "sent-c sent-d ");
    f->world.runs = f->world.counts = FALSE;
    mirror(f, EPOCH, 'p');
    mirror_note(f, EPOCH, 1);
    mirror(f, EPOCH + 1, 'q');
    mirror_note(f, EPOCH + 1, 2);
    take_held(f, "ab");
    expect(f, "held-a held-b ");
    replay_input(f->replay, 3, (const guint8 *)"x", 1);
    replay_release_output(f->replay);
    expect(f, "note-1 note-2 maps mapped-c mapped-d ");
    f->world.leaves = TRUE;
    replay_input(f->replay, 3, (const guint8 *)"y", 1);
    f->world.runs = TRUE;
    /* It runs, but has not got what came before. */
    replay_input(f->replay, 3, (const guint8 *)"z", 1);
    expect(f, "");
    replay_give_all(f->replay);
    expect(f, "gets-p gets-q gets-x gets-y gets-z ");
    replay_input(f->replay, 3, (const guint8 *)"0", 1);
    expect(f, "gets-0 ");
}

/* A VM gets what comes here when it runs, and when its output leaves from here. */
static void test_input_before(Fixture *f, gconstpointer leaves)
{
    f->world.leaves = leaves != NULL;
    f->world.runs = leaves == NULL;
    replay_input(f->replay, 3, (const guint8 *)"x", 1);
    expect(f, "");
    replay_give(f->replay, EPOCH);
    expect(f, "");
    replay_give_all(f->replay);
    expect(f, "gets-x ");
}

/* The primary has sent what the checkpoint brought: known before the copy enters that epoch, too. */
static void test_left_early(Fixture *f, gconstpointer is_told)
{
    send(f, "a");
    expect(f, "sent-a ");
    settle(f, EPOCH, 0, NULL, 0);
    receive(f, EPOCH + 1);
    settle(f, is_told ? EPOCH + 1 : EPOCH, 0, NULL, 0);
    g_assert_cmpint(replay_held_left(f->replay), ==, is_told != NULL);
    take_held(f, "b");
    expect(f, is_told ? "" : "held-b ");
    g_assert_cmpuint(unconfirmed(f), ==, 1);
}

/* Clients would get it twice, out of order. */
static void test_once(Fixture *f, gconstpointer data)
{
    (void)data;
    send(f, "b");
    expect(f, "sent-b ");
    take_held(f, "a");
    replay_release_output(f->replay);
    expect(f, "held-a maps mapped-b ");
    take_held(f, "a");
    replay_release_output(f->replay);
    expect(f, "maps ");
}

/* SETTLED means that the primary has released what it held before that epoch. */
static void test_held_left(Fixture *f, gconstpointer data)
{
    (void)data;
    settle(f, EPOCH, 0, NULL, 0);
    take_held(f, "a");
    expect(f, "");
    /* The next checkpoint's frames are others. */
    receive(f, EPOCH + 1);
    take_held(f, "b");
    expect(f, "held-b ");
}

static void test_forget(Fixture *f, gconstpointer data)
{
    (void)data;
    send(f, "ab");
    mirror(f, EPOCH + 1, 'c');
    settle(f, EPOCH, 1, NULL, 0);
    replay_forget(f->replay);
    g_assert_cmpuint(waiting(f), ==, 0);
    g_assert_cmpuint(unconfirmed(f), ==, 0);
    expect(f, "sent-a sent-b ");
    /* The next session's are numbered anew, and its checkpoint's frames have not left. */
    send(f, "cd");
    settle(f, EPOCH + 1, 1, NULL, 0);
    expect(f, "sent-c sent-d ");
    take_held(f, "e");
    replay_give_all(f->replay);
    expect(f, "held-e ");
    settle(f, EPOCH, 1, NULL, 0);
    replay_release_output(f->replay);
    expect(f, "maps mapped-d ");
}

int main(int argc, char **argv)
{
    static const struct {
        const char *path;
        gsize data;
        void (*test)(Fixture *, gconstpointer);
    } tests[] = {
        {"/replay/at-once",           0,                      test_at_once          },
        {"/replay/old",               0,                      test_old              },
        {"/replay/waits/paused",      1,                      test_waits            },
        {"/replay/waits/not-loaded",  0,                      test_waits            },
        {"/replay/epoch-zero",        0,                      test_epoch_zero       },
        {"/replay/next-epoch",        0,                      test_next_epoch       },
        {"/replay/checkpoint",        0,                      test_checkpoint       },
        {"/replay/no-note/short",     COMPARE_NOTE_BYTES - 1, test_no_note          },
        {"/replay/no-note/long",      COMPARE_NOTE_BYTES + 1, test_no_note          },
        {"/replay/no-note/empty",     0,                      test_no_note          },
        {"/replay/input-limit",       0,                      test_input_limit      },
        {"/replay/output",            0,                      test_output           },
        {"/replay/settled-by-count",  0,                      test_settled_by_count },
        {"/replay/settled-by-number", 0,                      test_settled_by_number},
        {"/replay/no-room",           0,                      test_no_room          },
        {"/replay/settled-epoch",     0,                      test_settled_epoch    },
        {"/replay/output-limit",      0,                      test_output_limit     },
        {"/replay/order",             0,                      test_order            },
        {"/replay/input/leaves",      1,                      test_input_before     },
        {"/replay/input/runs",        0,                      test_input_before     },
        {"/replay/once",              0,                      test_once             },
        {"/replay/held-left",         0,                      test_held_left        },
        {"/replay/left-early",        1,                      test_left_early       },
        {"/replay/left-before",       0,                      test_left_early       },
        {"/replay/forget",            0,                      test_forget           },
    };
    g_test_init(&argc, &argv, NULL);
    for (guint i = 0; i < G_N_ELEMENTS(tests); i++)
        g_test_add(tests[i].path, Fixture, GSIZE_TO_POINTER(tests[i].data), set_up, tests[i].test,
                   tear_down);
    return g_test_run();
}
