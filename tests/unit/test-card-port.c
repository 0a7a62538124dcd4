/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One interface to both kinds of cards: what is given arrives, what is sent is reported. */
#include "colo/node/card-port.h"

#include "tests/support/fake-front.h"
#include "tests/support/fake-vm.h"
#include "tests/support/vm-wait.h"
#include "vm/vm_internal.h"

#include <string.h>
#include <unistd.h>

#define FRAME_BYTES (VRING_HEADER_BYTES + 60u)

typedef struct {
    FakeFront front;
    Vm *vm;
    CardPort *port;
    guint outputs, rooms, failures;
} Fixture;

static void on_output(const guint8 *data, gsize len, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_cmpuint(len, ==, FRAME_BYTES);
    g_assert_cmpuint(data[len - 1], ==, 'o');
    f->outputs++;
}

static void on_room(gpointer user_data)
{
    Fixture *f = user_data;
    f->rooms++;
}

static void on_failed(const GError *error, gpointer user_data)
{
    Fixture *f = user_data;
    g_assert_nonnull(error);
    f->failures++;
}

static void attach(Fixture *f)
{
    static const VhostHandler handler = {
        .output = on_output, .room = on_room, .broken = on_failed, .failed = on_failed};
    f->port = card_port_new(f->vm, 0, &handler, f);
}

static void set_up(Fixture *f, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(VmDescription) description = fake_vm_description(1 << 20, 1);
    fake_front_init(&f->front);
    f->vm = fake_vm_new(description, 1, NULL);
    vm_wait_start(f->vm, &error);
    g_assert_no_error(error);
    if (data) { /* by vhost-user: the VM owns the card */
        g_ptr_array_add(f->vm->cards, g_steal_pointer(&f->front.card));
        fake_front_greet(&f->front);
        fake_front_start(&f->front, 0, 0);
        fake_front_settle();
    }
    attach(f);
}

static void tear_down(Fixture *f, gconstpointer data)
{
    (void)data;
    card_port_free(f->port);
    vm_free(f->vm);
    fake_front_clear(&f->front);
}

static void test_vhost_user(Fixture *f, gconstpointer data)
{
    guint8 frame[FRAME_BYTES] = {0};
    (void)data;
    fake_front_guest_sends(&f->front, 0, FRAME_BYTES, 'o');
    card_port_drain(f->port);
    g_assert_cmpuint(f->outputs, ==, 1);
    g_assert_false(card_port_has_room(f->port, sizeof(frame)));
    card_port_give(f->port, frame, sizeof(frame));
    g_assert_true(card_port_is_read(f->port)); /* it waits here, and a pause doesn't lose it */
    fake_front_guest_offers(&f->front, 0);
    fake_front_settle();
    g_assert_cmpuint(f->rooms, ==, 1);
    g_assert_true(card_port_is_read(f->port));
    g_autoptr(GBytes) got = fake_front_guest_got(&f->front);
    g_assert_cmpuint(g_bytes_get_size(got), ==, FRAME_BYTES);
    card_port_give(f->port, frame, sizeof(frame));
    card_port_forget(f->port);
    fake_front_guest_offers(&f->front, 1);
    fake_front_settle();
    g_assert_null(fake_front_guest_got(&f->front));
    g_assert_cmpuint(card_port_dropped(f->port), ==, 0);
    card_port_give(f->port, frame, 8); /* no frame */
    g_assert_cmpuint(card_port_dropped(f->port), ==, 1);
    /* Without a port what the guest sends stays in its ring, for the next one. */
    g_clear_pointer(&f->port, card_port_free);
    fake_front_guest_sends(&f->front, 1, FRAME_BYTES, 'o');
    fake_front_settle();
    g_assert_cmpuint(f->outputs, ==, 1);
    attach(f);
    fake_front_settle();
    g_assert_cmpuint(f->outputs, ==, 2);
    close(f->front.fd);
    f->front.fd = -1;
    fake_front_settle();
    g_assert_cmpuint(f->failures, ==, 1);
}

static void test_redirector(Fixture *f, gconstpointer data)
{
    guint8 frame[FRAME_BYTES] = {0};
    (void)data;
    g_assert_true(card_port_has_room(f->port, FRAME_BYTES));
    card_port_give(f->port, frame, FRAME_BYTES);
    g_assert_false(card_port_is_read(f->port));
    card_port_forget(f->port); /* it is QEMU's already */
    g_autoptr(GBytes) got = fake_vm_receive_frame(f->vm, 0);
    g_assert_nonnull(got);
    g_assert_true(card_port_is_read(f->port));
    frame[59] = 'o';
    fake_vm_send_frame(f->vm, 0, frame, 60);
    card_port_drain(f->port);
    g_assert_cmpuint(f->outputs, ==, 1);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/card-port/redirector", Fixture, NULL, set_up, test_redirector, tear_down);
    g_test_add("/card-port/vhost-user", Fixture, "vhost-user", set_up, test_vhost_user, tear_down);
    return g_test_run();
}
