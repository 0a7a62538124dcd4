/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/fault.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* How often a change that hangs looks whether it may go on. */
#define LOOK_US 1000

struct BlockFault {
    char *what; /* NULL: any */
    char *file, *flag_file;
    int refuse_with; /* a negative errno; 0: it hangs */
};

static const char *const kinds[] = {"write",  "punch",    "zero",  "sync",
                                    "settle", "truncate", "forget"};

static gboolean is_kind(const char *what)
{
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++)
        if (!strcmp(what, kinds[i]))
            return TRUE;
    return !strcmp(what, "any");
}

/* 0: "hang"; -1: neither. */
static int parse_errno(const char *text)
{
    static const struct {
        const char *name;
        int value;
    } names[] = {
        {"hang",   0     },
        {"EIO",    EIO   },
        {"ENOSPC", ENOSPC},
        {"EDQUOT", EDQUOT},
        {"EPERM",  EPERM },
    };
    guint64 number;
    for (gsize i = 0; i < G_N_ELEMENTS(names); i++)
        if (!strcmp(text, names[i].name))
            return names[i].value;
    return g_ascii_string_to_unsigned(text, 10, 1, 4095, &number, NULL) ? (int)number : -1;
}

BlockFault *block_fault_parse(const char *text, GError **error)
{
    g_auto(GStrv) parts = g_strsplit(text, ":", 4);
    if (g_strv_length(parts) != 4 || !is_kind(parts[0]) || !*parts[1] ||
        parse_errno(parts[2]) < 0 || !g_path_is_absolute(parts[3])) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_CONFIG,
                    "COLO_BLOCK_FAULT=%s: expected WHAT:FILE:ERRNO:/FLAGFILE or "
                    "WHAT:FILE:hang:/FLAGFILE",
                    text);
        return NULL;
    }
    BlockFault *fault = g_new0(BlockFault, 1);
    fault->what = strcmp(parts[0], "any") != 0 ? g_strdup(parts[0]) : NULL;
    fault->file = g_strdup(parts[1]);
    fault->refuse_with = -parse_errno(parts[2]);
    fault->flag_file = g_strdup(parts[3]);
    return fault;
}

void block_fault_free(BlockFault *fault)
{
    if (!fault)
        return;
    g_free(fault->what);
    g_free(fault->file);
    g_free(fault->flag_file);
    g_free(fault);
}

static gboolean applies(const BlockFault *fault)
{
    return access(fault->flag_file, F_OK) == 0;
}

int block_fault_hook(const char *what, const char *file, guint64 offset, gsize *len, gpointer data)
{
    const BlockFault *fault = data;
    (void)offset;
    if ((fault->what && strcmp(what, fault->what) != 0) || strcmp(file, fault->file) != 0 ||
        !applies(fault))
        return 0;
    if (fault->refuse_with) {
        *len = 0;
        return fault->refuse_with;
    }
    while (applies(fault))
        g_usleep(LOOK_US);
    return 0;
}
