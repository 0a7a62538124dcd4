/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/fault.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* How often a change that hangs looks whether it may go on. */
#define LOOK_US 1000

typedef struct {
    char *what; /* NULL: any */
    char *file, *flag_file;
    int refuse_with; /* a negative errno; 0: it hangs */
    gboolean once;   /* and ends the fault by that */
} Fault;

struct BlockFault {
    GPtrArray *faults; /* of Fault*; the first that applies counts */
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

static void fault_free(gpointer data)
{
    Fault *fault = data;
    g_free(fault->what);
    g_free(fault->file);
    g_free(fault->flag_file);
    g_free(fault);
}

/* NULL: it is none. */
static Fault *parse_one(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, ":", 4);
    if (g_strv_length(parts) != 4)
        return NULL;
    gboolean once = g_str_has_suffix(parts[2], "-once");
    if (once)
        parts[2][strlen(parts[2]) - strlen("-once")] = 0;
    int refuse_with = parse_errno(parts[2]);
    if (!is_kind(parts[0]) || !*parts[1] || refuse_with < 0 || (once && refuse_with == 0) ||
        !g_path_is_absolute(parts[3]))
        return NULL;
    Fault *fault = g_new0(Fault, 1);
    fault->once = once;
    fault->what = strcmp(parts[0], "any") != 0 ? g_strdup(parts[0]) : NULL;
    fault->file = g_strdup(parts[1]);
    fault->refuse_with = -refuse_with;
    fault->flag_file = g_strdup(parts[3]);
    return fault;
}

BlockFault *block_fault_parse(const char *text, GError **error)
{
    g_auto(GStrv) texts = g_strsplit(text, ";", -1);
    BlockFault *fault = g_new0(BlockFault, 1);
    fault->faults = g_ptr_array_new_with_free_func(fault_free);
    gboolean is_right = texts[0] != NULL;
    for (gsize i = 0; texts[i] && is_right; i++) {
        Fault *one = parse_one(texts[i]);
        is_right = one != NULL;
        if (one)
            g_ptr_array_add(fault->faults, one);
    }
    if (is_right)
        return fault;
    g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_CONFIG,
                "COLO_BLOCK_FAULT=%s: expected WHAT:FILE:ERRNO:/FLAGFILE, "
                "WHAT:FILE:ERRNO-once:/FLAGFILE or WHAT:FILE:hang:/FLAGFILE, or several with ';' "
                "between them",
                text);
    block_fault_free(fault);
    return NULL;
}

void block_fault_free(BlockFault *fault)
{
    if (!fault)
        return;
    g_ptr_array_unref(fault->faults);
    g_free(fault);
}

static gboolean applies(const Fault *fault)
{
    return access(fault->flag_file, F_OK) == 0;
}

static gboolean is_of(const Fault *fault, const char *what, const char *file)
{
    return (!fault->what || !strcmp(what, fault->what)) && !strcmp(file, fault->file) &&
           applies(fault);
}

int block_fault_hook(const char *what, const char *file, guint64 offset, gsize *len, gpointer data)
{
    const BlockFault *faults = data;
    (void)offset;
    for (guint i = 0; i < faults->faults->len; i++) {
        const Fault *fault = g_ptr_array_index(faults->faults, i);
        if (!is_of(fault, what, file) || (fault->once && unlink(fault->flag_file) < 0))
            continue;
        if (fault->refuse_with) {
            *len = 0;
            return fault->refuse_with;
        }
        while (applies(fault))
            g_usleep(LOOK_US);
        return 0;
    }
    return 0;
}
