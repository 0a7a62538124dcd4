/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a node's status says of its disks, in a line that tests compare. */
#ifndef COLO_TESTS_DISKS_TEXT_H
#define COLO_TESTS_DISKS_TEXT_H

#include "colo/node/disks.h"

/* "flag: member=state ..."; to be freed. */
static inline char *disks_text(const Disks *of)
{
    GString *text = g_string_new(NULL);
    json_object *status = json_object_new_object();
    disks_add_status(of, status);
    json_object *disks = json_object_object_get(status, "disks");
    json_object *members = json_object_object_get(disks, "members");
    g_string_append_printf(text,
                           "%s:", json_object_get_string(json_object_object_get(disks, "flag")));
    for (gsize i = 0; i < json_object_array_length(members); i++) {
        json_object *member = json_object_array_get_idx(members, i);
        g_string_append_printf(text, " %s=%s",
                               json_object_get_string(json_object_object_get(member, "name")),
                               json_object_get_string(json_object_object_get(member, "state")));
    }
    json_object_put(status);
    return g_string_free(text, FALSE);
}

#endif
