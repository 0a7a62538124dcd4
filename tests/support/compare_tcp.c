/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/compare_tcp.h"

void send_from(Rig *rig, int side, guint8 flags, gint32 at, guint32 acked, const char *text)
{
    FrameSpec spec =
        rig_tcp(flags, (side == P ? ISN_P : ISN_S) + 1 + (guint32)at, ISN_C + 1 + acked, text);
    if (side == P)
        g_assert_true(rig_primary(rig, &spec));
    else
        rig_secondary(rig, &spec);
}

Rig *opened(void)
{
    Rig *rig = rig_new(NULL);
    rig_open(rig, ISN_P, ISN_S, ISN_C);
    return rig;
}

void expect(Rig *rig, guint released)
{
    rig_agrees(rig);
    g_assert_cmpuint(rig_released(rig), ==, released);
}
