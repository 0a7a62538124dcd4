/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/support/folder.h"

#include <glib/gstdio.h>

void folder_remove(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *name; dir && (name = g_dir_read_name(dir));) {
        g_autofree char *file = g_build_filename(path, name, NULL);
        g_remove(file);
    }
    g_rmdir(path);
}
