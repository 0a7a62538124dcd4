/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a node can do beyond what its protocol's version promises, and what it demands of the other
 * one. So two versions of colo are a pair, as long as neither needs what the other lacks. A change
 * that both sides must know adds a name here; one that a side can't live without is mandatory. Pure.
 */
#include <string.h>

#include "colo/link/link_internal.h"

#define NAMES_MAX  64u
#define LENGTH_MAX 64u

/* clang-format off */
static const struct {
    const char *name;
    gboolean mandatory;
} features[] = {
    {"give-back",  FALSE}, /* REFUSED 2: a VM that can't be taken over */
    {"pause-time", FALSE}, /* HANDED says since when the VM is paused */
    {LINK_FEATURE_PACKED, FALSE}, /* it reads PACKED records (STREAM.md) */
};
/* clang-format on */

json_object *link_features(void)
{
    json_object *out = json_object_new_object();
    json_object *has = json_object_new_array(), *needs = json_object_new_array();
    for (gsize i = 0; i < G_N_ELEMENTS(features); i++) {
        json_object_array_add(has, json_object_new_string(features[i].name));
        if (features[i].mandatory)
            json_object_array_add(needs, json_object_new_string(features[i].name));
    }
    json_object_object_add(out, "has", has);
    json_object_object_add(out, "needs", needs);
    return out;
}

/* The list of that name; NULL: there is none, so it is empty. */
static json_object *list_of(json_object *hello, const char *which)
{
    json_object *all = NULL, *list = NULL;
    if (json_object_object_get_ex(hello, "features", &all))
        json_object_object_get_ex(all, which, &list);
    return list;
}

static gboolean is_list(json_object *list)
{
    if (!list)
        return TRUE;
    if (!json_object_is_type(list, json_type_array) || json_object_array_length(list) > NAMES_MAX)
        return FALSE;
    for (gsize i = 0; i < json_object_array_length(list); i++) {
        json_object *name = json_object_array_get_idx(list, i);
        const char *text = json_object_get_string(name);
        if (!json_object_is_type(name, json_type_string) ||
            strlen(text) != (gsize)json_object_get_string_len(name) || !*text ||
            strlen(text) > LENGTH_MAX ||
            strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789-") != strlen(text))
            return FALSE;
    }
    return TRUE;
}

gboolean link_features_are_valid(json_object *hello)
{
    json_object *all = NULL;
    return !json_object_object_get_ex(hello, "features", &all) ||
           (json_object_is_type(all, json_type_object) && is_list(list_of(hello, "has")) &&
            is_list(list_of(hello, "needs")));
}

gboolean link_features_has(json_object *hello, const char *name)
{
    json_object *there = list_of(hello, "has");
    for (gsize i = 0; there && i < json_object_array_length(there); i++)
        if (!strcmp(json_object_get_string(json_object_array_get_idx(there, i)), name))
            return TRUE;
    return FALSE;
}

const char *link_features_lacking(json_object *has, json_object *needs)
{
    json_object *wanted = list_of(needs, "needs"), *there = list_of(has, "has");
    for (gsize i = 0; wanted && i < json_object_array_length(wanted); i++) {
        json_object *name = json_object_array_get_idx(wanted, i);
        gboolean found = FALSE;
        for (gsize k = 0; there && !found && k < json_object_array_length(there); k++)
            found = json_object_equal(name, json_object_array_get_idx(there, k));
        if (!found)
            return json_object_get_string(name);
    }
    return NULL;
}
