/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose data counts (block/generation.h), as a node takes part in it:
 *
 *   - Before it asks for the VM it looks at its disks. What can't be used is reported before
 *     anything is on record, and the arbiter is told what they hold. This is in a thread, because
 *     storage may hang.
 *   - Before its VM runs, and whenever it continues without a peer, it writes alone. The disks draw
 *     a new generation if others may have theirs, and that goes on record.
 *
 * A VM without disks needs none of it.
 */
#include "colo/node/holdings.h"

#include "block/server.h"
#include "common/log.h"

/* A new generation that can't be written is tried again. Meanwhile the VM runs, its output open. */
#define AGAIN_MS 1000

/* ---- Looking ---- */

/* The thread has a reference, so has the part. */
typedef struct {
    gint refs;
    GMainContext *context;
    Holdings *holdings; /* NULL: freed meanwhile. Only touched by the main thread */
    GArray *disks;
    char *state_dir;
    Generation generation;
    GError *error;
} Examination;

struct Holdings {
    const Config *config; /* borrowed */
    HoldingsHandler handler;
    gpointer user_data;
    Examination *examination; /* under way */
    guint64 generation;       /* of the disks that the VM runs on; 0: none */
    gboolean has_run;
    guint timer; /* the disks could not draw a new one yet */
};

DiskConfig holdings_disk(const Config *config, guint index)
{
    const VmDisk *disk = g_ptr_array_index(config->vm->disks, index);
    return (DiskConfig){.name = disk->name,
                        .path = disk->path,
                        .format = vm_disk_format_name(disk->format),
                        .direct = config->disk_cache == CONFIG_CACHE_DIRECT};
}

static void clear_disk(gpointer data)
{
    DiskConfig *disk = data;
    g_free((char *)disk->name);
    g_free((char *)disk->path);
    g_free((char *)disk->format);
}

static void examination_unref(gpointer data)
{
    Examination *examination = data;
    if (!g_atomic_int_dec_and_test(&examination->refs))
        return;
    g_main_context_unref(examination->context);
    g_array_unref(examination->disks);
    g_free(examination->state_dir);
    g_clear_error(&examination->error);
    g_free(examination);
}

static gboolean deliver(gpointer data)
{
    Examination *examination = data;
    Holdings *holdings = examination->holdings;
    if (!holdings)
        return G_SOURCE_REMOVE;
    holdings->examination = NULL;
    examination->holdings = NULL;
    examination_unref(examination); /* the part's; the source has one */
    FsmState state = holdings->handler.state(holdings->user_data);
    if (state != FSM_P_ASKING && state != FSM_S_STARTING)
        return G_SOURCE_REMOVE;
    if (examination->error && state == FSM_S_STARTING) {
        /* The disks' server reports it, if it is still so. */
        log_info("what the disks hold can't be told: %s", examination->error->message);
        holdings->handler.claim(NULL, holdings->user_data);
        return G_SOURCE_REMOVE;
    }
    if (examination->error) {
        holdings->handler.lost("the VM's disks can't be used here", examination->error,
                               holdings->user_data);
        return G_SOURCE_REMOVE;
    }
    g_autofree char *what = generation_describe(&examination->generation);
    log_info("disks: generation %s", what);
    holdings->handler.claim(&examination->generation, holdings->user_data);
    return G_SOURCE_REMOVE;
}

static gpointer examine_thread(gpointer data)
{
    Examination *examination = data;
    g_autoptr(GMainContext) context = g_main_context_ref(examination->context);
    g_autoptr(GSource) source = g_idle_source_new();
    disk_set_examine((const DiskConfig *)(gpointer)examination->disks->data,
                     examination->disks->len, examination->state_dir, &examination->generation,
                     &examination->error);
    g_source_set_priority(source, G_PRIORITY_HIGH);
    g_source_set_callback(source, deliver, examination, examination_unref);
    g_source_attach(source, context);
    return NULL;
}

static void examine(Holdings *holdings)
{
    Examination *examination = g_new0(Examination, 1);
    examination->refs = 2;
    examination->context = g_main_context_ref_thread_default();
    examination->holdings = holdings;
    examination->state_dir = g_strdup(holdings->config->state_dir);
    examination->disks = g_array_new(FALSE, FALSE, sizeof(DiskConfig));
    g_array_set_clear_func(examination->disks, clear_disk);
    for (guint i = 0; i < holdings->config->vm->disks->len; i++) {
        DiskConfig disk = holdings_disk(holdings->config, i);
        disk.name = g_strdup(disk.name);
        disk.path = g_strdup(disk.path);
        disk.format = g_strdup(disk.format);
        g_array_append_val(examination->disks, disk);
    }
    holdings->examination = examination;
    g_thread_unref(g_thread_new("examine", examine_thread, examination));
}

void holdings_look(Holdings *holdings)
{
    if (holdings->config->vm->disks->len > 0)
        examine(holdings);
    else
        holdings->handler.claim(NULL, holdings->user_data);
}

/* ---- Writing alone ---- */

void holdings_note(Holdings *holdings, json_object *result)
{
    Generation generation;
    if (!disk_server_generation(json_object_object_get(result, "generation"), &generation))
        return;
    gboolean changed = generation.current != holdings->generation;
    holdings->generation = generation.current;
    holdings->has_run = TRUE;
    if (!changed)
        return;
    g_autofree char *what = generation_describe(&generation);
    log_info("disks: generation %s from now on", what);
    holdings->handler.changed(generation.current, holdings->user_data);
}

void holdings_begin(Holdings *holdings)
{
    holdings->has_run = FALSE;
}

void holdings_started(Holdings *holdings, json_object *result, const GError *error)
{
    if (error) {
        holdings->handler.lost("the disks can't be taken into use", error, holdings->user_data);
        return;
    }
    holdings_note(holdings, result);
    holdings->handler.runs(holdings->user_data);
}

void holdings_begin_run(Holdings *holdings)
{
    if (holdings->handler.has_disks(holdings->user_data)) {
        holdings->handler.write_alone(TRUE, holdings->user_data);
        return;
    }
    holdings->has_run = TRUE;
    holdings->handler.runs(holdings->user_data);
}

void holdings_taken_over(Holdings *holdings)
{
    holdings->has_run = TRUE;
}

static gboolean on_write_again(gpointer user_data)
{
    Holdings *holdings = user_data;
    holdings->timer = 0;
    if (holdings->handler.state(holdings->user_data) == FSM_P_NONE)
        holdings_continue_alone(holdings);
    return G_SOURCE_REMOVE;
}

void holdings_written(Holdings *holdings, json_object *result, const GError *error)
{
    if (!error) {
        holdings_note(holdings, result);
        return;
    }
    holdings->handler.trouble("it can't be noted that these disks are the newest now", error,
                              holdings->user_data);
    if (!holdings->timer)
        holdings->timer = g_timeout_add(AGAIN_MS, on_write_again, holdings);
}

void holdings_continue_alone(Holdings *holdings)
{
    if (holdings->handler.has_disks(holdings->user_data))
        holdings->handler.write_alone(FALSE, holdings->user_data);
}

void holdings_forget(Holdings *holdings)
{
    g_clear_handle_id(&holdings->timer, g_source_remove);
}

/* ---- Life ---- */

guint64 holdings_generation(const Holdings *holdings)
{
    return holdings->generation;
}

gboolean holdings_have_run(const Holdings *holdings)
{
    return holdings->has_run;
}

Holdings *holdings_new(const Config *config, const HoldingsHandler *handler, gpointer user_data)
{
    Holdings *holdings = g_new0(Holdings, 1);
    holdings->config = config;
    holdings->handler = *handler;
    holdings->user_data = user_data;
    return holdings;
}

void holdings_free(Holdings *holdings)
{
    if (!holdings)
        return;
    holdings_forget(holdings);
    if (holdings->examination) {
        holdings->examination->holdings = NULL;
        examination_unref(holdings->examination);
    }
    g_free(holdings);
}
