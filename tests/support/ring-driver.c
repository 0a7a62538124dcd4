/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/ring-driver.h"

#include <string.h>

static guint16 *word(const RingDriver *driver, guint64 offset)
{
    return (guint16 *)(gpointer)(driver->ram + offset);
}

static guint16 load(const RingDriver *driver, guint64 offset)
{
    return __atomic_load_n(word(driver, offset), __ATOMIC_ACQUIRE);
}

static void store(const RingDriver *driver, guint64 offset, guint16 value)
{
    __atomic_store_n(word(driver, offset), value, __ATOMIC_RELEASE);
}

static guint64 align(guint64 offset)
{
    return (offset + 4095) & ~G_GUINT64_CONSTANT(4095);
}

guint64 ring_driver_init(RingDriver *driver, guint8 *ram, guint64 guest, guint64 offset, guint size,
                         gboolean event_index)
{
    *driver = (RingDriver){.ram = ram, .guest = guest, .size = size, .event_index = event_index};
    driver->desc = offset;
    driver->avail = align(offset + 16 * (guint64)size);
    driver->used = align(driver->avail + 6 + 2 * (guint64)size);
    guint64 end = align(driver->used + 6 + 8 * (guint64)size);
    memset(ram + offset, 0, end - offset);
    return end;
}

void ring_driver_describe(const RingDriver *driver, guint64 table, guint i, guint64 offset,
                          guint32 len, guint16 flags, guint16 next)
{
    guint8 *at = driver->ram + table + 16 * (guint64)i;
    guint64 address = driver->guest + offset;
    memcpy(at, &address, 8);
    memcpy(at + 8, &len, 4);
    memcpy(at + 12, &flags, 2);
    memcpy(at + 14, &next, 2);
}

void ring_driver_offer(RingDriver *driver, guint16 head)
{
    store(driver, driver->avail + 4 + 2 * (guint64)(driver->available & (driver->size - 1)), head);
    driver->available++;
    store(driver, driver->avail + 2, driver->available);
}

void ring_driver_offer_buffer(RingDriver *driver, guint16 head, guint64 offset, guint32 len,
                              gboolean write)
{
    ring_driver_describe(driver, driver->desc, head, offset, len, write ? RING_WRITE : 0, 0);
    ring_driver_offer(driver, head);
}

gboolean ring_driver_used(RingDriver *driver, guint32 *ret_head, guint32 *ret_len)
{
    if (load(driver, driver->used + 2) == driver->seen)
        return FALSE;
    const guint8 *at =
        driver->ram + driver->used + 4 + 8 * (guint64)(driver->seen & (driver->size - 1));
    memcpy(ret_head, at, 4);
    memcpy(ret_len, at + 4, 4);
    driver->seen++;
    return TRUE;
}

gboolean ring_driver_must_kick(const RingDriver *driver, guint16 old)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (!driver->event_index)
        return !(load(driver, driver->used) & 1);
    guint16 event = load(driver, driver->used + 4 + 8 * (guint64)driver->size);
    return (guint16)(driver->available - event - 1) < (guint16)(driver->available - old);
}

gboolean ring_driver_ask(RingDriver *driver)
{
    store(driver, driver->avail + 4 + 2 * (guint64)driver->size, driver->seen);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    return load(driver, driver->used + 2) != driver->seen;
}
