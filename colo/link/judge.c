/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * May these two be a pair? Pure: two hellos in, a reason for each side out. Every text is written
 * from its reader's place ("here" and "there").
 */
#include <string.h>

#include "colo/link/link_internal.h"
#include "vm/vm.h"

#define WORD_MAX 255u

static gboolean refuse(char **ret_for_us, char **ret_for_them, char *for_us, char *for_them)
{
    *ret_for_us = for_us;
    *ret_for_them = for_them;
    return FALSE;
}

/* The hello itself is wrong: the same words for both. */
static gboolean refuse_hello(char **ret_for_us, char **ret_for_them, const char *text)
{
    return refuse(ret_for_us, ret_for_them, g_strdup(text), g_strdup(text));
}

static gboolean refuse_words(char **ret_for_us, char **ret_for_them, const char *what,
                             const char *ours, const char *theirs, const char *way_out)
{
    return refuse(ret_for_us, ret_for_them,
                  g_strdup_printf("%s: %s here, %s there%s", what, ours, theirs, way_out),
                  g_strdup_printf("%s: %s here, %s there%s", what, theirs, ours, way_out));
}

static json_object *identity_of(json_object *hello)
{
    json_object *identity = NULL;
    if (!json_object_object_get_ex(hello, "identity", &identity) ||
        !json_object_is_type(identity, json_type_object))
        return NULL;
    return identity;
}

static gboolean judge_identity(json_object *ours, json_object *theirs, char **ret_for_us,
                               char **ret_for_them)
{
    json_object *mine = identity_of(ours), *other = identity_of(theirs);
    g_assert(mine);
    if (!other)
        return refuse_hello(ret_for_us, ret_for_them, "a hello without the identity of a VM");
    const char *my_uuid = link_hello_string(mine, "uuid", WORD_MAX);
    const char *other_uuid = link_hello_string(other, "uuid", WORD_MAX);
    g_assert(my_uuid);
    if (!other_uuid)
        return refuse_hello(ret_for_us, ret_for_them, "a hello without the uuid of a VM");
    if (g_ascii_strcasecmp(my_uuid, other_uuid))
        return refuse_words(ret_for_us, ret_for_them, "another VM, uuid", my_uuid, other_uuid, "");
    char *for_us = vm_identity_difference(mine, other);
    if (!for_us)
        return TRUE;
    return refuse(ret_for_us, ret_for_them, for_us, vm_identity_difference(other, mine));
}

/* What one of them demands and the other, `lacks`, has not. */
static gboolean refuse_lacking(char **ret_for_it, char **ret_for_other, const char *name,
                               const char *lacks, const char *demands)
{
    static const char way_out[] = "install that version on both hosts, the secondary's first";
    return refuse(ret_for_it, ret_for_other,
                  g_strdup_printf("feature %s: colo %s here lacks it, and colo %s there needs it "
                                  "(%s)",
                                  name, lacks, demands, way_out),
                  g_strdup_printf("feature %s: colo %s there lacks it, and colo %s here needs it "
                                  "(%s)",
                                  name, lacks, demands, way_out));
}

static gboolean judge_features(json_object *ours, json_object *theirs, char **ret_for_us,
                               char **ret_for_them)
{
    const char *our_colo = link_hello_string(ours, "colo", WORD_MAX);
    const char *colo = link_hello_string(theirs, "colo", WORD_MAX);
    if (!link_features_are_valid(theirs))
        return refuse_hello(ret_for_us, ret_for_them,
                            "a hello whose features are no lists of names");
    const char *name = link_features_lacking(ours, theirs);
    if (name)
        return refuse_lacking(ret_for_us, ret_for_them, name, our_colo, colo);
    name = link_features_lacking(theirs, ours);
    return !name || refuse_lacking(ret_for_them, ret_for_us, name, colo, our_colo);
}

gboolean link_judge(json_object *ours, json_object *theirs, char **ret_for_us, char **ret_for_them)
{
    const char *colo = link_hello_string(theirs, "colo", WORD_MAX);
    const char *role = link_hello_string(theirs, "role", WORD_MAX);
    const char *name = link_hello_string(theirs, "name", WORD_MAX);
    const char *our_colo = link_hello_string(ours, "colo", WORD_MAX);
    const char *our_role = link_hello_string(ours, "role", WORD_MAX);
    const char *our_name = link_hello_string(ours, "name", WORD_MAX);
    g_assert(our_colo && our_role && our_name);
    if (!colo || !role || !name)
        return refuse_hello(ret_for_us, ret_for_them, "a hello without version, role and name");
    if (!judge_features(ours, theirs, ret_for_us, ret_for_them))
        return FALSE;
    if (strcmp(role, !strcmp(our_role, "primary") ? "secondary" : "primary"))
        return refuse_words(ret_for_us, ret_for_them, "role", our_role, role,
                            " (a pair has one of each)");
    if (!strcmp(name, our_name)) {
        g_autofree char *text = g_strdup_printf(
            "both nodes are named '%s' (give each its own name; or does a node's peer address "
            "lead back to itself?)",
            name);
        return refuse_hello(ret_for_us, ret_for_them, text);
    }
    return judge_identity(ours, theirs, ret_for_us, ret_for_them);
}
