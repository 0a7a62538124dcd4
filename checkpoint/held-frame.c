/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checkpoint/checkpoint.h"

static void held_frame_free(gpointer data)
{
    HeldFrame *frame = data;
    g_bytes_unref(frame->data);
    g_free(frame);
}

GPtrArray *checkpoint_frames_new(void)
{
    return g_ptr_array_new_with_free_func(held_frame_free);
}

void checkpoint_frames_add(GPtrArray *frames, unsigned nic, GBytes *data)
{
    HeldFrame *frame = g_new(HeldFrame, 1);
    *frame = (HeldFrame){.nic = nic, .data = data};
    g_ptr_array_add(frames, frame);
}
