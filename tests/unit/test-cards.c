/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's cards, of a VM without QEMU, on uplinks without taps. */
#include "common/log.h"
#include "tests/support/two-cards.h"
#include "tests/support/wait.h"

#include <netinet/ether.h>
#include <string.h>

#define VNET NETCOMPARE_VNET_HDR_BYTES
/* More than QEMU ever sends as one frame. */
#define TOO_LONG_BYTES 80000

typedef TwoCards Fixture;

/* ---- What is reported ---- */

static void on_output(unsigned nic, const guint8 *data, gsize len, gpointer user_data)
{
    (void)data;
    g_assert_cmpuint(len, ==, VNET + 60);
    saw(user_data, "output:", nic);
}

static void on_port_failed(const GError *error, gpointer user_data)
{
    g_assert_error(error, NETCOMPARE_ERROR, NETCOMPARE_ERROR_FRAME);
    saw(user_data, "port-failed", 0);
}

static void on_uplink_failed(const GError *error, gpointer user_data)
{
    g_assert_error(error, NETCOMPARE_ERROR, NETCOMPARE_ERROR_TAP);
    saw(user_data, "uplink-failed", 0);
}

static const CardsHandler handler = {.output = on_output,
                                     .input = on_input,
                                     .elsewhere = on_elsewhere,
                                     .port_failed = on_port_failed,
                                     .uplink_failed = on_uplink_failed};

/* ---- Life ---- */

static void set_up(Fixture *f, gconstpointer data)
{
    (void)data;
    two_cards_init(f);
    f->cards = cards_new(&f->config, &handler, f, NULL);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    two_cards_clear(f);
}

static void mac_of(const Fixture *f, unsigned nic, guint8 mac[6])
{
    const VmNic *guest = g_ptr_array_index(f->config.vm->nics, nic);
    struct ether_addr parsed;
    g_assert_nonnull(ether_aton_r(guest->mac, &parsed));
    memcpy(mac, parsed.ether_addr_octet, sizeof(parsed.ether_addr_octet));
}

/* ---- Tests ---- */

static void on_done(Vm *vm, const GError *error, gpointer user_data)
{
    gboolean *is_done = user_data;
    (void)vm;
    g_assert_no_error(error);
    *is_done = TRUE;
}

static void run_vm(Fixture *f, gboolean runs)
{
    gboolean is_done = FALSE;
    if (runs)
        vm_resume(f->vm, on_done, &is_done);
    else
        vm_pause(f->vm, on_done, &is_done);
    WAIT_FOR(is_done);
}

static void test_ways(Fixture *f, gconstpointer data)
{
    const guint8 frame[VNET + 60] = {[VNET + 6] = 2, [VNET + 12] = 0x88, [VNET + 13] = 0xb5};
    GBytes *got = NULL;
    (void)data;
    g_assert_cmpuint(cards_count(f->cards), ==, CARDS);
    cards_attach(f->cards, f->vm);
    run_vm(f, TRUE);
    cards_set_open(f->cards, TRUE);
    /* Each card its own way, and one that there isn't none. */
    cards_send(f->cards, 1, frame, sizeof(frame));
    cards_send(f->cards, CARDS, frame, sizeof(frame));
    g_assert_cmpuint(cards_uplink(f->cards, 0)->sent->len, ==, 0);
    g_assert_cmpuint(cards_uplink(f->cards, 1)->sent->len, ==, 1);
    cards_give(f->cards, 1, frame, sizeof(frame));
    cards_give(f->cards, CARDS, frame, sizeof(frame));
    WAIT_FOR((got = fake_vm_receive_frame(f->vm, 1)));
    g_assert_cmpuint(g_bytes_get_size(got), ==, 60);
    g_bytes_unref(got);
    g_assert_null(fake_vm_receive_frame(f->vm, 0));
    fake_uplink_receive(cards_uplink(f->cards, 1), frame, sizeof(frame));
    expect_seen(f, "input:1");
    fake_vm_send_frame(f->vm, 1, frame + VNET, 60);
    fake_vm_send_frame(f->vm, 0, frame + VNET, 60);
    cards_drain(f->cards);
    expect_seen(f, "output:0 output:1");
}

/* Closed at first. */
static void test_closed(Fixture *f, gconstpointer data)
{
    (void)data;
    for (guint i = 0; i < CARDS; i++)
        g_assert_false(cards_uplink(f->cards, i)->open);
    cards_set_open(f->cards, TRUE);
    for (guint i = 0; i < CARDS; i++)
        g_assert_true(cards_uplink(f->cards, i)->open);
    cards_set_open(f->cards, FALSE);
    for (guint i = 0; i < CARDS; i++)
        g_assert_false(cards_uplink(f->cards, i)->open);
}

/* What QEMU is given while the VM stands it would keep, for whatever guest it runs next. */
static void test_stands(Fixture *f, gconstpointer data)
{
    const guint8 frame[VNET + 60] = {0};
    GBytes *got = NULL;
    (void)data;
    cards_attach(f->cards, f->vm);
    g_assert_false(cards_have_room(f->cards, 0, sizeof(frame)));
    cards_give(f->cards, 0, frame, sizeof(frame));
    g_assert_true(cards_are_read(f->cards));
    run_vm(f, TRUE);
    g_assert_true(cards_have_room(f->cards, 0, sizeof(frame)));
    cards_give(f->cards, 0, frame, sizeof(frame));
    WAIT_FOR((got = fake_vm_receive_frame(f->vm, 0)));
    g_bytes_unref(got);
    run_vm(f, FALSE);
    g_assert_false(cards_have_room(f->cards, 1, sizeof(frame)));
    cards_detach(f->cards);
    g_assert_true(cards_have_room(f->cards, 1, sizeof(frame)));
}

/* Without a VM there is nobody to give to, and nothing that could be unread. */
static void test_detached(Fixture *f, gconstpointer data)
{
    const guint8 frame[VNET + 60] = {0};
    (void)data;
    cards_give(f->cards, 0, frame, sizeof(frame));
    cards_drain(f->cards);
    g_assert_true(cards_are_read(f->cards));
    cards_attach(f->cards, f->vm);
    run_vm(f, TRUE);
    cards_give(f->cards, 1, frame, sizeof(frame));
    g_assert_false(cards_are_read(f->cards));
    GBytes *got = fake_vm_receive_frame(f->vm, 1);
    g_assert_nonnull(got);
    g_bytes_unref(got);
    g_assert_true(cards_are_read(f->cards));
    cards_give(f->cards, 1, frame, sizeof(frame));
    cards_detach(f->cards);
    g_assert_true(cards_are_read(f->cards));
    fake_vm_send_frame(f->vm, 0, frame, 60);
    cards_drain(f->cards);
    expect_seen(f, "");
}

/* A frame in the guest's name, told before it is given on. */
static void test_elsewhere(Fixture *f, gconstpointer data)
{
    guint8 frame[VNET + 60] = {[VNET + 12] = 0x88, [VNET + 13] = 0xb5};
    (void)data;
    cards_set_open(f->cards, TRUE);
    mac_of(f, 1, frame + VNET + 6);
    fake_uplink_receive(cards_uplink(f->cards, 1), frame, sizeof(frame));
    expect_seen(f, "elsewhere:1 input:1");
    /* The other card's is another host's to this one. */
    fake_uplink_receive(cards_uplink(f->cards, 0), frame, sizeof(frame));
    expect_seen(f, "input:0");
}

/* What one side has learnt, the other announces after a takeover: on the card that it is of. */
static void test_addresses(Fixture *f, gconstpointer data)
{
    static const guint8 arp[] = {0, 1, 8, 0, 6, 4, 0, 1};
    guint8 frame[VNET + 60] = {[VNET + 12] = 0x08, [VNET + 13] = 0x06};
    (void)data;
    cards_set_open(f->cards, TRUE);
    cards_announce(f->cards);
    guint bare = cards_uplink(f->cards, 1)->sent->len;
    g_assert_cmpuint(bare, >, 0);
    g_assert_cmpuint(cards_uplink(f->cards, 0)->sent->len, ==, bare);

    memset(frame + VNET, 0xff, 6);
    mac_of(f, 1, frame + VNET + 6);
    memcpy(frame + VNET + 14, arp, sizeof(arp));
    memcpy(frame + VNET + 22, frame + VNET + 6, 6);
    memcpy(frame + VNET + 28, (const guint8[]){10, 0, 0, 2}, 4);
    cards_learn(f->cards, 1, frame, sizeof(frame));
    g_autoptr(GBytes) bytes = cards_addresses(f->cards, 1);
    cards_free(f->cards);
    f->cards = cards_new(&f->config, &handler, f, NULL);
    cards_set_open(f->cards, TRUE);
    g_assert_true(cards_merge_addresses(f->cards, 1, bytes, NULL));
    cards_announce(f->cards);
    g_assert_cmpuint(cards_uplink(f->cards, 1)->sent->len, >, bare);
    g_assert_cmpuint(cards_uplink(f->cards, 0)->sent->len, ==, bare);

    g_autoptr(GBytes) bad = g_bytes_new_static("?", 1);
    g_autoptr(GError) error = NULL;
    g_assert_false(cards_merge_addresses(f->cards, 0, bad, &error));
    g_assert_nonnull(error);
}

static void test_failures(Fixture *f, gconstpointer data)
{
    const guint8 frame[60] = {0};
    g_autofree guint8 *too_long = g_malloc0(TOO_LONG_BYTES);
    g_autoptr(GError) tap = g_error_new(NETCOMPARE_ERROR, NETCOMPARE_ERROR_TAP, "gone");
    (void)data;
    const Uplink *uplink = cards_uplink(f->cards, 0);
    uplink->failed(tap, uplink->user_data);
    expect_seen(f, "uplink-failed0");
    cards_attach(f->cards, f->vm);
    fake_vm_send_frame(f->vm, 0, too_long, TOO_LONG_BYTES);
    fake_vm_send_frame(f->vm, 1, frame, 60);
    WAIT_FOR(strstr(f->seen->str, "port-failed0") && strstr(f->seen->str, "output:1"));
}

/* The error names the card; the taps that were made before are gone. */
static void test_no_tap(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    (void)data;
    g_clear_pointer(&f->cards, cards_free);
    fake_uplink_fails = 2;
    g_assert_null(cards_new(&f->config, &handler, f, &error));
    g_assert_error(error, NETCOMPARE_ERROR, NETCOMPARE_ERROR_TAP);
    g_assert_true(g_str_has_prefix(error->message, "nic lan1: "));
    g_assert_cmpuint(fake_uplinks, ==, 0);
}

/* The error names card, key and descriptor; this process has none. */
static void test_not_inherited(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    (void)data;
    g_clear_pointer(&f->cards, cards_free);
    f->nics[1].tap = (char *)g_intern_string("fd:lan");
    g_assert_null(cards_new(&f->config, &handler, f, &error));
    g_assert_cmpstr(error->message, ==,
                    "nic lan1: tap: this process was started with no descriptor 'lan' "
                    "(LISTEN_FDNAMES: none)");
    g_assert_cmpuint(fake_uplinks, ==, 0);
}

#define ADD(name, test) g_test_add("/cards/" name, Fixture, NULL, set_up, test, tear_down)

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    ADD("ways", test_ways);
    ADD("closed", test_closed);
    ADD("stands", test_stands);
    ADD("detached", test_detached);
    ADD("elsewhere", test_elsewhere);
    ADD("addresses", test_addresses);
    ADD("failures", test_failures);
    ADD("no-tap", test_no_tap);
    ADD("not-inherited", test_not_inherited);
    return g_test_run();
}
