/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/devstate.h"

#include "common/endian.h"

#include <string.h>

#define MAGIC                 0x5145564du
#define VERSION               3u
#define SECTION_EOF           0x00
#define SECTION_FULL          0x04
#define SECTION_VMDESCRIPTION 0x06
#define SECTION_CONFIGURATION 0x07
#define HEADER_BYTES          8u
#define NAME_MAX_BYTES        64u
/* type, id, name's length, one letter, instance, version */
#define SECTION_MIN_BYTES 15u

/* An empty description of the state: QEMU skips it, and would complain if there were none. */
static const char vmdesc[] = "{\"page_size\":4096,\"devices\":[]}";
#define VMDESC_LEN (sizeof(vmdesc) - 1)

static gboolean bad(GError **error, const char *what)
{
    g_set_error(error, VM_ERROR, VM_ERROR_DEVICE_STATE, "device state: %s", what);
    return FALSE;
}

static gboolean check_header(const guint8 *at, gsize len, GError **error)
{
    if (len > DEVSTATE_MAX_BYTES)
        return bad(error, "it is larger than 64 MiB");
    if (len < HEADER_BYTES || colo_get_be32(at) != MAGIC)
        return bad(error, "it does not begin as QEMU's do");
    if (colo_get_be32(at + 4) != VERSION)
        return bad(error, "its version is not 3");
    return TRUE;
}

/* `at` must begin with a full section with a name, and end in the end mark. */
static gboolean check_sections(const guint8 *at, gsize len, GError **error)
{
    if (len < SECTION_MIN_BYTES + 1)
        return bad(error, "it ends before its first section does");
    if (at[0] != SECTION_FULL)
        return bad(error, "its first section is not a whole device");
    gsize name_len = at[5];
    if (name_len == 0 || len < SECTION_MIN_BYTES + name_len)
        return bad(error, "its first section has a broken name");
    for (gsize i = 0; i < name_len; i++)
        if (!g_ascii_isprint((char)at[6 + i]))
            return bad(error, "its first section has a broken name");
    if (at[len - 1] != SECTION_EOF)
        return bad(error, "it has no end mark: it is incomplete");
    return TRUE;
}

GBytes *devstate_from_saved(const guint8 *saved, gsize len, const char *machine_name,
                            GError **error)
{
    gsize name_len = strlen(machine_name);

    g_assert(name_len > 0 && name_len <= NAME_MAX_BYTES);
    if (!check_header(saved, len, error) ||
        !check_sections(saved + HEADER_BYTES, len - HEADER_BYTES, error))
        return NULL;

    gsize total = len + 5 + name_len + 5 + VMDESC_LEN;
    guint8 *out = g_malloc(total), *at = out;
    memcpy(at, saved, HEADER_BYTES);
    at += HEADER_BYTES;
    *at++ = SECTION_CONFIGURATION;
    colo_put_be32(at, (guint32)name_len);
    memcpy(at + 4, machine_name, name_len);
    at += 4 + name_len;
    memcpy(at, saved + HEADER_BYTES, len - HEADER_BYTES);
    at += len - HEADER_BYTES;
    *at++ = SECTION_VMDESCRIPTION;
    colo_put_be32(at, (guint32)VMDESC_LEN);
    memcpy(at + 4, vmdesc, VMDESC_LEN);
    at += 4 + VMDESC_LEN;
    g_assert(at == out + total);
    return g_bytes_new_take(out, total);
}

/* The configuration section at `at`: its whole length, 0 with an error. */
static gsize check_configuration(const guint8 *at, gsize len, const char *machine_name,
                                 GError **error)
{
    if (len < 5 || at[0] != SECTION_CONFIGURATION) {
        bad(error, "it does not name its machine");
        return 0;
    }
    guint32 name_len = colo_get_be32(at + 1);
    if (name_len == 0 || name_len > NAME_MAX_BYTES || name_len > len - 5) {
        bad(error, "the name of its machine is broken");
        return 0;
    }
    g_autofree char *name = g_strndup((const char *)at + 5, name_len);
    if (strlen(name) != name_len || strcmp(name, machine_name)) {
        g_autofree char *printable = g_strescape(name, NULL);
        g_set_error(error, VM_ERROR, VM_ERROR_DEVICE_STATE,
                    "device state: it is of a machine '%s', this is a %s", printable, machine_name);
        return 0;
    }
    return 5 + name_len;
}

gboolean devstate_check(const guint8 *state, gsize len, const char *machine_name, GError **error)
{
    guint8 tail[5 + VMDESC_LEN] = {SECTION_VMDESCRIPTION};

    colo_put_be32(tail + 1, (guint32)VMDESC_LEN);
    memcpy(tail + 5, vmdesc, VMDESC_LEN);
    if (!check_header(state, len, error))
        return FALSE;
    state += HEADER_BYTES;
    len -= HEADER_BYTES;
    gsize configuration = check_configuration(state, len, machine_name, error);
    if (configuration == 0)
        return FALSE;
    state += configuration;
    len -= configuration;
    if (len < sizeof(tail) || memcmp(state + len - sizeof(tail), tail, sizeof(tail)))
        return bad(error, "its end is missing");
    return check_sections(state, len - sizeof(tail), error);
}
