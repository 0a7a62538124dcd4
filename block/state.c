/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "block/state.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "common/endian.h"
#include "common/fd.h"

/* docs/DISKS.md, "The state file". */
enum { STATE_VERSION = 2, STATE_BYTES = 256, STATE_HASH = 248 };
enum { OLD_VERSION = 1, OLD_HASH = 88 };
enum { AT_CURRENT = 88, AT_BITMAP = 96, AT_DATA = 104, AT_EXPOSED = 106, AT_HISTORY = 112 };
enum { FLAG_CLEAN = 1, FLAG_LINEAGE = 2, FLAG_WRITER = 4, FLAG_UNSYNCED = 8 };
G_STATIC_ASSERT(AT_HISTORY + GENERATION_HISTORY * 8 <= STATE_HASH);
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

static gboolean is_whole(const guint8 *bytes, guint32 version, gsize hashed)
{
    return colo_get_be32(bytes + 8) == version &&
           colo_get_be64(bytes + hashed) == XXH3_64bits(bytes, hashed);
}

/* What is BROKEN is BLOCK_STATE_INCOMPLETE, and no other state says it. */
static gboolean is_data(guint16 data)
{
    return data == GENERATION_WRITER || data == GENERATION_IN_STEP || data == GENERATION_BEHIND;
}

static gboolean is_state(guint16 state)
{
    return state == BLOCK_STATE_OWNED || state == BLOCK_STATE_INCOMPLETE ||
           state == BLOCK_STATE_REPLICA;
}

static gboolean decode_generation(const guint8 *bytes, Generation *generation)
{
    guint16 data = colo_get_be16(bytes + AT_DATA);
    *generation = (Generation){.current = colo_get_be64(bytes + AT_CURRENT),
                               .bitmap = colo_get_be64(bytes + AT_BITMAP),
                               .data = (GenerationData)data,
                               .exposed = colo_get_be16(bytes + AT_EXPOSED) != 0};
    for (guint i = 0; i < GENERATION_HISTORY; i++)
        generation->history[i] = colo_get_be64(bytes + AT_HISTORY + i * 8);
    return is_data(data);
}

static void encode_generation(guint8 *bytes, const Generation *generation)
{
    colo_put_be64(bytes + AT_CURRENT, generation->current);
    colo_put_be64(bytes + AT_BITMAP, generation->bitmap);
    colo_put_be16(bytes + AT_DATA, (guint16)generation->data);
    colo_put_be16(bytes + AT_EXPOSED, generation->exposed ? 1 : 0);
    for (guint i = 0; i < GENERATION_HISTORY; i++)
        colo_put_be64(bytes + AT_HISTORY + i * 8, generation->history[i]);
}

static gboolean decode(const guint8 *bytes, StateRecord *record)
{
    gboolean old = is_whole(bytes, OLD_VERSION, OLD_HASH);
    if (memcmp(bytes, state_magic, sizeof(state_magic)) ||
        (!old && !is_whole(bytes, STATE_VERSION, STATE_HASH)))
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
    return (old || decode_generation(bytes, &record->generation)) && is_state(state);
}

static gboolean is_empty(const guint8 *bytes)
{
    for (guint i = 0; i < STATE_BYTES; i++)
        if (bytes[i])
            return FALSE;
    return TRUE;
}

/* What the file's bytes mean to a process of this boot. */
static gboolean judge(const guint8 *bytes, const char *path, const guint8 *boot_id,
                      guint64 set_hash, StateRecord *ret_record, gboolean *ret_found,
                      gboolean *ret_trusted, GError **error)
{
    StateRecord record = {0};
    *ret_found = !is_empty(bytes);
    if (*ret_found && (!decode(bytes, &record) || record.set_hash != set_hash)) {
        g_autofree char *dir = g_path_get_dirname(path);
        g_set_error(
            error, BLOCK_ERROR, BLOCK_ERROR_STATE,
            "%s %s (to make them a replica again, whatever they hold: remove the files in %s and "
            "start this node as secondary)",
            path, record.set_hash ? "belongs to disks of other names or sizes" : "is damaged", dir);
        return FALSE;
    }
    static const guint8 no_boot_id[16];
    gboolean same_boot =
        memcmp(bytes + 72, boot_id, 16) == 0 && memcmp(boot_id, no_boot_id, 16) != 0;
    guint16 flags = colo_get_be16(bytes + 14);
    gboolean unsynced = (flags & FLAG_UNSYNCED) != 0;
    *ret_trusted = *ret_found && !unsynced && ((flags & FLAG_CLEAN) != 0 || same_boot);
    /* After a boot nothing but the medium is read. */
    record.unsynced = unsynced && same_boot;
    *ret_record = record;
    return TRUE;
}

gboolean state_open(StateFile *state, const char *dir, guint64 set_hash,
                    const DiskSetOptions *options, StateRecord *ret_record, gboolean *ret_found,
                    gboolean *ret_trusted, GError **error)
{
    g_autofree char *path = g_build_filename(dir, "state", NULL);
    guint8 bytes[STATE_BYTES];
    *state = (StateFile){.file = BLOCK_FILE_NONE};
    g_mutex_init(&state->mutex);
    read_boot_id(state->boot_id);
    if (!block_file_open(&state->file, path, TRUE, FALSE, options, error))
        return FALSE;
    int r = block_file_read(&state->file, bytes, sizeof(bytes), 0);
    if (r < 0)
        block_file_fail(&state->file, "read it", r, error);
    if (r == 0 &&
        judge(bytes, path, state->boot_id, set_hash, ret_record, ret_found, ret_trusted, error))
        return TRUE;
    state_close(state);
    return FALSE;
}

gboolean state_examine(const char *dir, guint64 set_hash, StateRecord *ret_record,
                       gboolean *ret_found, gboolean *ret_trusted, GError **error)
{
    g_autofree char *path = g_build_filename(dir, "state", NULL);
    guint8 bytes[STATE_BYTES] = {0}, boot_id[16];
    read_boot_id(boot_id);
    COLO_AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
    int code = errno;
    if (fd < 0 && code != ENOENT) {
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IO, "%s: %s", path, g_strerror(code));
        return FALSE;
    }
    if (fd >= 0 && pread(fd, bytes, sizeof(bytes), 0) < 0) {
        code = errno;
        g_set_error(error, BLOCK_ERROR, BLOCK_ERROR_IO, "%s: %s", path, g_strerror(code));
        return FALSE;
    }
    return judge(bytes, path, boot_id, set_hash, ret_record, ret_found, ret_trusted, error);
}

Generation state_generation(const StateRecord *record)
{
    Generation generation = record->generation;
    if (record->state == BLOCK_STATE_INCOMPLETE)
        generation.data = GENERATION_BROKEN;
    return generation;
}

void state_close(StateFile *state)
{
    g_mutex_clear(&state->mutex);
    block_file_close(&state->file);
}

/* The mutex is held. */
static int write_record(const StateFile *state, const StateRecord *record, gboolean clean)
{
    guint8 bytes[STATE_BYTES] = {0};
    gboolean unsynced = record->unsynced || state->unsynced;
    guint16 flags = (guint16)((clean ? FLAG_CLEAN : 0) | (record->has_lineage ? FLAG_LINEAGE : 0) |
                              (record->writer ? FLAG_WRITER : 0) | (unsynced ? FLAG_UNSYNCED : 0));
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
    encode_generation(bytes, &record->generation);
    colo_put_be64(bytes + STATE_HASH, XXH3_64bits(bytes, STATE_HASH));
    return block_file_write(&state->file, bytes, sizeof(bytes), 0);
}

int state_write(StateFile *state, const StateRecord *record, gboolean clean, gboolean sync)
{
    g_mutex_lock(&state->mutex);
    int r = write_record(state, record, clean);
    if (r == 0) {
        state->written = *record;
        state->is_written = TRUE;
    }
    g_mutex_unlock(&state->mutex);
    return r == 0 && sync ? block_file_sync(&state->file) : r;
}

void state_unsynced(StateFile *state)
{
    g_mutex_lock(&state->mutex);
    gboolean first = !state->unsynced;
    state->unsynced = TRUE;
    /* If even that fails, the next record has it. */
    if (first && state->is_written)
        write_record(state, &state->written, FALSE);
    g_mutex_unlock(&state->mutex);
}
