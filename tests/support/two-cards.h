/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VM without QEMU that has two cards, on uplinks without taps, and what its Cards report, in a line.
 * Include it in the one source file of a test program, as fake-uplink.h.
 */
#ifndef COLO_TESTS_TWO_CARDS_H
#define COLO_TESTS_TWO_CARDS_H

#include "colo/node/cards.h"

#include "tests/support/fake-uplink.h"
#include "tests/support/fake-vm.h"
#include "tests/support/vm-wait.h"

#define CARDS 2

/* The first member of what handlers are given. */
typedef struct {
    Config config;
    ConfigNic nics[CARDS];
    Vm *vm;
    Cards *cards;  /* the test's to make */
    GString *seen; /* "output:0 input:1": an event, and which card's */
} TwoCards;

static void saw(TwoCards *two, const char *what, unsigned nic)
{
    g_string_append_printf(two->seen, "%s%s%u", two->seen->len ? " " : "", what, nic);
}

/* What has been seen since the last time. */
static void expect_seen(TwoCards *two, const char *seen)
{
    g_assert_cmpstr(two->seen->str, ==, seen);
    g_string_truncate(two->seen, 0);
}

static void on_input(unsigned nic, const guint8 *data, gsize len, gpointer user_data)
{
    (void)data;
    (void)len;
    saw(user_data, "input:", nic);
}

static void on_elsewhere(unsigned nic, gpointer user_data)
{
    saw(user_data, "elsewhere:", nic);
}

/* The VM is started. */
static void two_cards_init(TwoCards *two)
{
    g_autoptr(GError) error = NULL;
    two->config.vm = fake_vm_description(1 << 20, CARDS);
    two->config.nics = g_ptr_array_new();
    two->nics[0] = (ConfigNic){.name = "lan0"};
    two->nics[1] = (ConfigNic){.name = "lan1"};
    for (guint i = 0; i < CARDS; i++)
        g_ptr_array_add(two->config.nics, &two->nics[i]);
    two->seen = g_string_new(NULL);
    two->vm = fake_vm_new(two->config.vm, 1, NULL);
    vm_wait_start(two->vm, &error);
    g_assert_no_error(error);
    fake_uplink_fails = 0;
}

static void two_cards_clear(TwoCards *two)
{
    cards_free(two->cards);
    g_assert_cmpuint(fake_uplinks, ==, 0);
    vm_free(two->vm);
    vm_description_free(two->config.vm);
    g_ptr_array_unref(two->config.nics);
    g_string_free(two->seen, TRUE);
}

#endif
