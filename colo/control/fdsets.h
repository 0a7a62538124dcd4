/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * File descriptors that clients have given to the service, in numbered sets, as QEMU's add-fd has
 * them. One stays until it is removed by name, or the service ends. Nothing else removes it: not
 * its client's leaving, nor what becomes of the VM. Users of a set get duplicates, so a removal
 * takes nothing from them.
 */
#ifndef COLO_COLO_CONTROL_FDSETS_H
#define COLO_COLO_CONTROL_FDSETS_H

#include <glib.h>
#include <json-c/json.h>

#define FDSETS_MAX        64u  /* descriptors in all sets */
#define FDSETS_OPAQUE_MAX 255u /* bytes */
#define FDSETS_ID_MAX     G_MAXINT32
#define FDSETS_ANY        G_MININT64

typedef struct FdSets FdSets;

FdSets *fdsets_new(void);
/* Closes all. */
void fdsets_free(FdSets *sets);

/*
 * Keeps `fd`, which the sets own from now on, also after an error. FDSETS_ANY: in a new set, with
 * the lowest free number. `opaque`: the client's word for it; may be NULL. Returns the set's number.
 * -1 and CONTROL_ERROR_ARGUMENT: a number or a word that can't be. CONTROL_ERROR_STATE: no room.
 */
gint64 fdsets_add(FdSets *sets, gint64 id, int fd, const char *opaque, GError **error);

/* Closes one of a set, or with FDSETS_ANY all. CONTROL_ERROR_ARGUMENT: there is no such. */
gboolean fdsets_remove(FdSets *sets, gint64 id, gint64 fd, GError **error);

/*
 * A duplicate, close-on-exec, of the latest of a set with that word. -1 and CONTROL_ERROR_ARGUMENT:
 * there is no such.
 */
int fdsets_get(const FdSets *sets, gint64 id, const char *opaque, GError **error);

/* [{"fdset-id", "fds": [{"fd", "opaque"}]}], by number; a new reference. */
json_object *fdsets_describe(const FdSets *sets);

#endif
