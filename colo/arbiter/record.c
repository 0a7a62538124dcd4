/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/arbiter/record.h"

#include <string.h>

#include "colo/arbiter/arbiter.h"

#define FIRST_LINE     "colo owner 2"
#define OLD_FIRST_LINE "colo owner 1"
#define NONE           "-"

enum { LINES = 8, OLD_LINES = 4 };

void arbiter_record_clear(ArbiterRecord *record)
{
    g_free(record->writer);
    g_free(record->session);
    g_free(record->in_step);
    *record = (ArbiterRecord){0};
}

/* ---- Text ---- */

/* What is after the key, or NULL. */
static const char *value_of(const char *line, const char *key)
{
    gsize len = strlen(key);
    return !strncmp(line, key, len) && line[len] == ' ' && line[len + 1] ? line + len + 1 : NULL;
}

static char *optional(const char *value)
{
    return strcmp(value, NONE) != 0 ? g_strdup(value) : NULL;
}

/* It becomes part of a file's name. */
static gboolean is_session(const char *value)
{
    return value && !strpbrk(value, "./");
}

static gboolean parse_old(char **lines, ArbiterRecord *record)
{
    const char *owner = value_of(lines[1], "owner"), *session = value_of(lines[2], "session");
    if (!owner || !is_session(session) || !g_str_has_prefix(lines[3], "at "))
        return FALSE;
    record->writer = g_strdup(owner);
    record->session = optional(session);
    return TRUE;
}

/* Only digits. (GLib's own parser may fail when two threads use it first at the same moment.) */
static gboolean parse_number(const char *text, guint64 *ret_value)
{
    if (!text || strlen(text) > 18 || text[strspn(text, "0123456789")])
        return FALSE;
    for (*ret_value = 0; *text; text++)
        *ret_value = *ret_value * 10 + (guint64)(*text - '0');
    return TRUE;
}

static gboolean parse_new(char **lines, ArbiterRecord *record)
{
    const char *owner = value_of(lines[1], "owner"), *session = value_of(lines[2], "session");
    const char *writer = value_of(lines[3], "writer"), *in_step = value_of(lines[6], "in-step");
    const char *generation = value_of(lines[4], "generation");
    if (!owner || !is_session(session) || !writer || !in_step || !generation ||
        !parse_number(value_of(lines[5], "epoch"), &record->epoch) ||
        !g_str_has_prefix(lines[7], "at ") ||
        (strcmp(generation, NONE) != 0 && !generation_parse(generation, &record->generation)))
        return FALSE;
    record->rests = !strcmp(owner, NONE);
    record->writer = g_strdup(writer);
    record->session = optional(session);
    record->in_step = optional(in_step);
    /* Whoever starts a VM that rests decides its session; who runs it wrote to it last. */
    return record->rests ? record->session != NULL : !strcmp(owner, writer);
}

gboolean arbiter_record_parse(const char *text, gsize len, ArbiterRecord *ret_record)
{
    g_auto(ArbiterRecord) record = {0};
    if (memchr(text, '\0', len) || len == 0 || text[len - 1] != '\n')
        return FALSE;
    g_autofree char *whole = g_strndup(text, len);
    g_auto(GStrv) lines = g_strsplit(whole, "\n", -1);
    /* The lines, and what is after the last newline. */
    guint count = g_strv_length(lines);
    gboolean ok =
        !*lines[count - 1] &&
        ((count == OLD_LINES + 1 && !strcmp(lines[0], OLD_FIRST_LINE) &&
          parse_old(lines, &record)) ||
         (count == LINES + 1 && !strcmp(lines[0], FIRST_LINE) && parse_new(lines, &record)));
    if (!ok)
        return FALSE;
    *ret_record = record;
    record = (ArbiterRecord){0};
    return TRUE;
}

char *arbiter_record_text(const ArbiterRecord *record, const char *when)
{
    char generation[GENERATION_TEXT_BYTES] = NONE;
    if (record->generation != 0)
        generation_text(record->generation, generation);
    return g_strdup_printf("%s\nowner %s\nsession %s\nwriter %s\ngeneration %s\nepoch "
                           "%" G_GUINT64_FORMAT "\nin-step %s\nat %s\n",
                           FIRST_LINE, record->rests ? NONE : record->writer,
                           record->session ? record->session : NONE, record->writer, generation,
                           record->epoch, record->in_step ? record->in_step : NONE, when);
}

/* ---- Decisions ---- */

/* These disks hold everything that anybody was told to be on the VM's. */
static gboolean holds_all(const ArbiterStake *stake, const ArbiterRecord *record, const char *who,
                          gboolean owns)
{
    const Generation *ours = &stake->generation;
    if (ours->data == GENERATION_BEHIND || ours->data == GENERATION_BROKEN)
        return FALSE;
    /* Without a generation on record there is nothing to compare with but an administrator's word,
     * or that nobody else has run it. */
    if (!record || record->generation == 0)
        return stake->chosen || (owns && ours->current != 0);
    if (owns || !strcmp(record->writer, who))
        return generation_holds(ours, record->generation);
    return record->in_step && !strcmp(record->in_step, who) && ours->data == GENERATION_IN_STEP &&
           ours->current == record->generation;
}

static char *describe_record(const ArbiterRecord *record)
{
    char generation[GENERATION_TEXT_BYTES];
    generation_text(record->generation, generation);
    return g_strdup_printf("node %s%s%s (generation %.8s)", record->writer,
                           record->in_step ? " and node " : "",
                           record->in_step ? record->in_step : "", generation);
}

gboolean arbiter_stake_is_good(const ArbiterStake *stake, const ArbiterRecord *record,
                               const char *who, gboolean owns, GError **error)
{
    if (!stake->has_disks || holds_all(stake, record, who, owns))
        return TRUE;
    const Generation *ours = &stake->generation;
    gboolean broken = ours->data == GENERATION_BROKEN;
    g_autofree char *have = generation_describe(ours);
    if (record && record->generation != 0) {
        g_autofree char *good = describe_record(record);
        g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_DISKS,
                    "the disks here (generation %s) %s: the VM's data is on those of %s. Start the "
                    "VM there, and this node as its secondary (role secondary, or auto)%s",
                    have, broken ? "are an incomplete replica" : "are not the newest", good,
                    broken ? ""
                           : "; only if those disks are lost for good, and what they had more "
                             "shall be too: colod --overrule-arbiter here");
    } else if (broken || ours->data == GENERATION_BEHIND) {
        g_set_error(
            error, ARBITER_ERROR, ARBITER_ERROR_DISKS,
            "the disks here are %s replica: the VM's data is on those of %s%s. Start the VM "
            "there, and this node as its secondary%s",
            broken ? "an incomplete" : "a", record ? "node " : "the other node",
            record ? record->writer : "",
            broken ? ""
                   : "; only if those disks are lost for good: colod --overrule-arbiter "
                     "here");
    } else {
        g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_DISKS,
                    "it isn't known yet whose disks count (generation %s here): start colod with "
                    "--role primary once, on the node that has the right disk images",
                    have);
    }
    return FALSE;
}
