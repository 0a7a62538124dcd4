/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/control/fdsets.h"

#include "colo/control/control.h"
#include "common/fd.h"
#include "common/json.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

typedef struct {
    gint64 id; /* of its set */
    int fd;
    char *opaque; /* NULL: none */
} Entry;

/* A set is what has the same number: so an empty one can't be. */
struct FdSets {
    GArray *entries; /* of Entry, by number, those of one set by age */
};

static void entry_clear(gpointer data)
{
    Entry *entry = data;
    colo_fd_close(&entry->fd);
    g_free(entry->opaque);
}

FdSets *fdsets_new(void)
{
    FdSets *sets = g_new0(FdSets, 1);
    sets->entries = g_array_new(FALSE, FALSE, sizeof(Entry));
    g_array_set_clear_func(sets->entries, entry_clear);
    return sets;
}

void fdsets_free(FdSets *sets)
{
    if (!sets)
        return;
    g_array_unref(sets->entries);
    g_free(sets);
}

static const Entry *entry_at(const FdSets *sets, guint index)
{
    return &g_array_index(sets->entries, Entry, index);
}

static gint64 free_id(const FdSets *sets)
{
    gint64 id = 0;
    for (guint i = 0; i < sets->entries->len; i++)
        if (entry_at(sets, i)->id == id)
            id++;
    return id;
}

/* After all of its set. */
static guint place_of(const FdSets *sets, gint64 id)
{
    guint at = 0;
    while (at < sets->entries->len && entry_at(sets, at)->id <= id)
        at++;
    return at;
}

static gboolean check_new(const FdSets *sets, gint64 id, const char *opaque, GError **error)
{
    if (id != FDSETS_ANY && (id < 0 || id > FDSETS_ID_MAX))
        g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_ARGUMENT,
                    "add-fd: argument 'fdset-id' must be 0 to %d", FDSETS_ID_MAX);
    else if (opaque && strlen(opaque) > FDSETS_OPAQUE_MAX)
        g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_ARGUMENT,
                    "add-fd: argument 'opaque' must have at most %u bytes", FDSETS_OPAQUE_MAX);
    else if (sets->entries->len >= FDSETS_MAX)
        g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_STATE,
                    "add-fd: there are %u descriptors already: remove-fd removes what is not "
                    "needed any more (query-fdsets lists them)",
                    FDSETS_MAX);
    else
        return TRUE;
    return FALSE;
}

gint64 fdsets_add(FdSets *sets, gint64 id, int fd, const char *opaque, GError **error)
{
    Entry entry = {.fd = fd};
    if (!check_new(sets, id, opaque, error)) {
        entry_clear(&entry);
        return -1;
    }
    entry.id = id == FDSETS_ANY ? free_id(sets) : id;
    entry.opaque = g_strdup(opaque);
    g_array_insert_val(sets->entries, place_of(sets, entry.id), entry);
    return entry.id;
}

static void no_such_set(const char *who, gint64 id, GError **error)
{
    g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_ARGUMENT,
                "%sthere is no set %" G_GINT64_FORMAT " (query-fdsets lists them)", who, id);
}

gboolean fdsets_remove(FdSets *sets, gint64 id, gint64 fd, GError **error)
{
    guint before = sets->entries->len;
    for (guint i = before; i-- > 0;) {
        const Entry *entry = entry_at(sets, i);
        if (entry->id == id && (fd == FDSETS_ANY || entry->fd == fd))
            g_array_remove_index(sets->entries, i);
    }
    if (sets->entries->len < before)
        return TRUE;
    if (fd == FDSETS_ANY)
        no_such_set("remove-fd: ", id, error);
    else
        g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_ARGUMENT,
                    "remove-fd: there is no descriptor %" G_GINT64_FORMAT
                    " in a set %" G_GINT64_FORMAT " (query-fdsets lists them)",
                    fd, id);
    return FALSE;
}

int fdsets_get(const FdSets *sets, gint64 id, const char *opaque, GError **error)
{
    gboolean is_set = FALSE;
    for (guint i = sets->entries->len; i > 0; i--) {
        const Entry *entry = entry_at(sets, i - 1);
        if (entry->id != id)
            continue;
        is_set = TRUE;
        if (g_strcmp0(entry->opaque, opaque))
            continue;
        int fd = fcntl(entry->fd, F_DUPFD_CLOEXEC, 0);
        if (fd < 0)
            g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_STATE,
                        "descriptor %d can't be used: %s", entry->fd, g_strerror(errno));
        return fd;
    }
    if (is_set)
        g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_ARGUMENT,
                    "set %" G_GINT64_FORMAT " has no descriptor '%s' (the opaque of its add-fd)",
                    id, opaque);
    else
        no_such_set("", id, error);
    return -1;
}

json_object *fdsets_describe(const FdSets *sets)
{
    json_object *list = json_object_new_array(), *fds = NULL;
    for (guint i = 0; i < sets->entries->len; i++) {
        const Entry *entry = entry_at(sets, i);
        if (i == 0 || entry->id != entry_at(sets, i - 1)->id) {
            json_object *set = json_object_new_object();
            fds = json_object_new_array();
            colo_json_add_int(set, "fdset-id", entry->id);
            json_object_object_add(set, "fds", fds);
            json_object_array_add(list, set);
        }
        json_object *one = json_object_new_object();
        colo_json_add_int(one, "fd", entry->fd);
        colo_json_add_string(one, "opaque", entry->opaque);
        json_object_array_add(fds, one);
    }
    return list;
}
