/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Does a copy go on from each state that it is loaded with? Two real QEMUs, a guest that prints what time it
 * is (tests/guest/ticker.h). Again and again the one that runs is saved, and its RAM and its state are
 * loaded into the other, which has run since its last load. That has to print the next lines: none is left
 * out, and no clock goes back. A guest that prints nothing has lost an interrupt, or its clock stands.
 *
 * From the environment: LOADS sets how many loads there are, and STUCK_SECONDS how long a guest may print
 * nothing until QEMU's monitor is asked what it does, and the test fails.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/vm-side.h"
#include "tests/support/wait.h"

#define LOADS   10
#define TICK_MS 20
/* Lines that the primary prints between two saves, and the copy after a load. */
#define LINES 5u

typedef struct {
    unsigned long number, back;
    long long mono_us, real_us;
} Tick;

typedef struct {
    const char *path, *machine;
    unsigned cpus;
} Case;

/*
 * The ticks in `text`, whole lines only: how many, and the first and the last of them. A line that a load
 * has cut off at either end is none. The test ends if one is left out.
 */
static guint read_ticks(const char *text, Tick *first, Tick *last)
{
    guint n = 0;
    for (const char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        Tick t;
        if (sscanf(line, "tick %lu mono %lld real %lld back %lu", &t.number, &t.mono_us, &t.real_us,
                   &t.back) != 4)
            continue;
        g_assert_true(n == 0 || t.number == last->number + 1);
        if (n++ == 0)
            *first = t;
        *last = t;
    }
    return n;
}

static guint ticks_of(const VmSide *side, gsize from, Tick *first, Tick *last)
{
    g_autofree char *text = vm_side_console(side);
    return strlen(text) < from ? 0 : read_ticks(text + from, first, last);
}

static gsize printed(const VmSide *side)
{
    g_autofree char *text = vm_side_console(side);
    return strlen(text);
}

/* Until it has printed LINES lines more than `from` bytes; what it is in if it doesn't. */
static void wait_for_lines(const VmSide *side, gsize from, Tick *first, Tick *last)
{
    const char *stuck = g_getenv("STUCK_SECONDS");
    ColoTime end =
        colo_time_add_us(colo_time_now(), stuck ? atoi(stuck) * G_USEC_PER_SEC : wait_us());
    gboolean late = FALSE;
    WAIT_FOR(ticks_of(side, from, first, last) >= LINES ||
             (late = colo_time_diff_us(colo_time_now(), end) > 0));
    if (!late)
        return;
    vm_side_diagnose(side);
    g_error("the guest prints nothing any more");
}

/* One load of the primary's state into the copy, and a look how that goes on. */
static void load_once(VmSide *primary, VmSide *copy)
{
    Tick first, saved, last;
    gsize from = printed(primary);
    wait_for_lines(primary, from, &first, &saved);
    vm_side_pause(primary);
    g_autoptr(GBytes) state = vm_side_save(primary);
    g_assert_cmpuint(ticks_of(primary, from, &first, &saved), >=, LINES);
    const VmRam *ram = vm_ram(primary->vm);
    memcpy(vm_ram(copy->vm)->base, ram->base, ram->size_bytes);
    vm_side_resume(primary);

    from = printed(copy);
    vm_side_load(copy, state);
    vm_side_resume(copy);
    wait_for_lines(copy, from, &first, &last);
    vm_side_pause(copy);
    /* The guest may have printed more than has left QEMU's card: at most a line's length. */
    g_assert_cmpuint(first.number, >, saved.number);
    g_assert_cmpuint(first.number, <=, saved.number + 2);
    g_assert_cmpint(first.mono_us, >, saved.mono_us);
    g_assert_cmpint(first.real_us, >, saved.real_us);
    g_assert_cmpuint(last.back, ==, 0);
}

static void test_loads(gconstpointer data)
{
    const Case *which = data;
    const char *count = g_getenv("LOADS");
    int loads = count ? atoi(count) : LOADS;
    VmSide primary = {0}, copy = {0};
    static const char append[] = "dirty_mb=8 tick_ms=" G_STRINGIFY(TICK_MS);
    vm_side_start(&primary, "primary", which->machine, which->cpus, append);
    vm_side_start(&copy, "copy", which->machine, which->cpus, append);
    vm_side_resume(&primary);
    WAIT_FOR(vm_side_is_ready(&primary));
    for (int i = 0; i < loads; i++)
        load_once(&primary, &copy);
    vm_side_stop(&primary);
    vm_side_stop(&copy);
}

int main(int argc, char **argv)
{
    static const Case cases[] = {
        {"/loads/pc/1cpu",   "pc",                       1},
        {"/loads/pc/2cpu",   "pc",                       2},
        {"/loads/q35/1cpu",  "q35",                      1},
        {"/loads/q35/2cpu",  "q35",                      2},
        {"/loads/pc/split",  "pc,kernel-irqchip=split",  2},
        {"/loads/q35/split", "q35,kernel-irqchip=split", 1},
    };
    g_test_init(&argc, &argv, NULL);
    const char *missing = vm_side_missing();
    if (missing) {
        g_print("1..0 # SKIP %s\n", missing);
        return 0;
    }
    gboolean kvm = !g_strcmp0(g_getenv("COLO_ACCEL"), "kvm");
    for (guint i = 0; i < G_N_ELEMENTS(cases); i++)
        if (kvm || !strstr(cases[i].machine, "irqchip"))
            g_test_add_data_func(cases[i].path, &cases[i], test_loads);
    return g_test_run();
}
