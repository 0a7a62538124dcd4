/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Device state from a peer or from QEMU: both readers, on any bytes. What the one makes of a saved
 * state, the other must accept.
 */
#include "vm/devstate.h"

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size);

int LLVMFuzzerTestOneInput(const guint8 *data, gsize size)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GBytes) state = devstate_from_saved(data, size, "pc-i440fx-7.2", &error);

    g_assert(!state == !!error);
    g_clear_error(&error);
    if (state) {
        gsize len;
        const guint8 *bytes = g_bytes_get_data(state, &len);
        g_assert(devstate_check(bytes, len, "pc-i440fx-7.2", NULL));
        g_assert(!devstate_check(bytes, len, "pc-q35-7.2", NULL));
    }
    gboolean good = devstate_check(data, size, "pc-i440fx-7.2", &error);
    g_assert(good == !error);
    return 0;
}
