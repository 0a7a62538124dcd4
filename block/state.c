/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/state.h"

#include <string.h>
#include <xxhash.h>

#include "common/endian.h"

/* docs/DISKS.md, "The state file". */
enum { STATE_VERSION = 1, STATE_BYTES = 96 };
enum { FLAG_CLEAN = 1, FLAG_LINEAGE = 2, FLAG_WRITER = 4 };
static const char state_magic[8] = "COLOSTAT";

/* The kernel's name for the time since this boot; zeroes if it has none: then only a clean end
 * counts. */
static void read_boot_id(guint8 *boot_id)
{
    g_autofree char *text = NULL;
    memset(boot_id, 0, 16);
    if (!g_file_get_contents("/proc/sys/kernel/random/boot_id", &text, NULL, NULL))
        return;
    guint digits = 0;
    for (const char *at = text; *at && digits < 32; at++) {
        int value = g_ascii_xdigit_value(*at);
        if (value < 0)
            continue;
        boot_id[digits / 2] |= (guint8)(digits % 2 ? value : value << 4);
        digits++;
    }
}

static gboolean decode(const guint8 *bytes, StateRecord *record)
{
    if (memcmp(bytes, state_magic, sizeof(state_magic)) ||
        colo_get_be64(bytes + 88) != XXH3_64bits(bytes, 88) ||
        colo_get_be32(bytes + 8) != STATE_VERSION)
        return FALSE;
    guint16 state = colo_get_be16(bytes + 12), flags = colo_get_be16(bytes + 14);
    *record = (StateRecord){.state = state,
                            .has_lineage = (flags & FLAG_LINEAGE) != 0,
                            .writer = (flags & FLAG_WRITER) != 0,
                            .images = colo_get_be64(bytes + 32),
                            .committed = colo_get_be64(bytes + 48),
                            .applied = colo_get_be64(bytes + 56),
                            .set_hash = colo_get_be64(bytes + 64)};
    memcpy(record->session, bytes + 16, BLOCK_SESSION_BYTES);
    return state >= BLOCK_STATE_OWNED && state <= BLOCK_STATE_REPLICA;
}

static gboolean is_empty(const guint8 *bytes)
{
    for (guint i = 0; i < STATE_BYTES; i++)
        if (bytes[i])
            return FALSE;
    return TRUE;
}

gboolean state_open(StateFile *state, const char *dir, guint64 set_hash,
                    const DiskSetOptions *options, StateRecord *ret_record, gboolean *ret_found,
                    gboolean *ret_trusted, GError **error)
{
    g_autofree char *path = g_build_filename(dir, "state", NULL);
    state->file = BLOCK_FILE_NONE;
    read_boot_id(state->boot_id);
    if (!block_file_open(&state->file, path, TRUE, FALSE, options, error))
        return FALSE;
    guint8 bytes[STATE_BYTES];
    int r = block_file_read(&state->file, bytes, sizeof(bytes), 0);
    if (r < 0) {
        block_file_fail(&state->file, "read it", r, error);
        state_close(state);
        return FALSE;
    }
    StateRecord record = {0};
    *ret_found = !is_empty(bytes);
    if (*ret_found && (!decode(bytes, &record) || record.set_hash != set_hash)) {
        g_set_error(
            error, BLOCK_ERROR, BLOCK_ERROR_STATE,
            "%s %s (if the images are known to be good, remove the files in %s; the next "
            "synchronisation will compare everything)",
            path, record.set_hash ? "belongs to disks of other names or sizes" : "is damaged", dir);
        state_close(state);
        return FALSE;
    }
    static const guint8 no_boot_id[16];
    gboolean same_boot =
        memcmp(bytes + 72, state->boot_id, 16) == 0 && memcmp(state->boot_id, no_boot_id, 16) != 0;
    *ret_trusted = *ret_found && ((colo_get_be16(bytes + 14) & FLAG_CLEAN) != 0 || same_boot);
    *ret_record = record;
    return TRUE;
}

void state_close(StateFile *state)
{
    block_file_close(&state->file);
}

int state_write(const StateFile *state, const StateRecord *record, gboolean clean, gboolean sync)
{
    guint8 bytes[STATE_BYTES] = {0};
    guint16 flags = (guint16)((clean ? FLAG_CLEAN : 0) | (record->has_lineage ? FLAG_LINEAGE : 0) |
                              (record->writer ? FLAG_WRITER : 0));
    memcpy(bytes, state_magic, sizeof(state_magic));
    colo_put_be32(bytes + 8, STATE_VERSION);
    colo_put_be16(bytes + 12, (guint16)record->state);
    colo_put_be16(bytes + 14, flags);
    memcpy(bytes + 16, record->session, BLOCK_SESSION_BYTES);
    colo_put_be64(bytes + 32, record->images);
    colo_put_be64(bytes + 48, record->committed);
    colo_put_be64(bytes + 56, record->applied);
    colo_put_be64(bytes + 64, record->set_hash);
    memcpy(bytes + 72, state->boot_id, sizeof(state->boot_id));
    colo_put_be64(bytes + 88, XXH3_64bits(bytes, 88));
    int r = block_file_write(&state->file, bytes, sizeof(bytes), 0);
    return r == 0 && sync ? block_file_sync(&state->file) : r;
}
