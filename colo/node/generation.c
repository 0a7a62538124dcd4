/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose data counts (block/generation.h), as a node takes part in it:
 *
 *   - before it asks for the VM it looks at its disks: what can't be used is reported before
 *     anything is on record, and the arbiter is shown what they hold. In a thread: storage may hang;
 *   - before its VM runs, and whenever it goes on without a peer, it writes alone: the disks draw a
 *     new generation if others may have theirs, and that goes on record.
 *
 * A VM without disks needs none of it.
 */
#include "colo/node/node_internal.h"
#include "common/log.h"

/* A generation that can't be written is tried again: the VM runs, its output open, meanwhile. */
#define AGAIN_MS 1000

/* ---- Looking ---- */

/* The thread has a reference, so has the node. */
struct Examination {
    gint refs;
    GMainContext *context;
    Node *node; /* NULL: freed meanwhile. Only touched by the node's thread */
    GArray *disks;
    char *state_dir;
    Generation generation;
    GError *error;
};

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
    Node *node = examination->node;
    if (!node)
        return G_SOURCE_REMOVE;
    node->examination = NULL;
    examination->node = NULL;
    examination_unref(examination); /* the node's; the source has one */
    if (node->state != FSM_P_ASKING)
        return G_SOURCE_REMOVE;
    if (examination->error) {
        node_vm_lost(node, "the VM's disks can't be used here", examination->error);
        return G_SOURCE_REMOVE;
    }
    g_autofree char *what = generation_describe(&examination->generation);
    log_info("disks: generation %s", what);
    claim_start(node->claim, &examination->generation);
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

static void examine(Node *node)
{
    Examination *examination = g_new0(Examination, 1);
    examination->refs = 2;
    examination->context = g_main_context_ref_thread_default();
    examination->node = node;
    examination->state_dir = g_strdup(node->config->state_dir);
    examination->disks = g_array_new(FALSE, FALSE, sizeof(DiskConfig));
    g_array_set_clear_func(examination->disks, clear_disk);
    for (guint i = 0; i < node->config->vm->disks->len; i++) {
        DiskConfig disk = disks_config(node->config, i);
        disk.name = g_strdup(disk.name);
        disk.path = g_strdup(disk.path);
        disk.format = g_strdup(disk.format);
        g_array_append_val(examination->disks, disk);
    }
    node->examination = examination;
    g_thread_unref(g_thread_new("examine", examine_thread, examination));
}

void generation_begin_claim(Node *node)
{
    if (node->config->vm->disks->len > 0)
        examine(node);
    else
        claim_start(node->claim, NULL);
}

/* ---- Writing alone ---- */

static void write_alone(Node *node, DisksAnswer done)
{
    disks_order(node, "write-alone", NULL, done);
}

void generation_note(Node *node, json_object *result)
{
    Generation generation;
    if (!disk_server_generation(json_object_object_get(result, "generation"), &generation))
        return;
    gboolean changed = generation.current != node->generation;
    node->generation = generation.current;
    node->has_run = TRUE;
    if (!changed)
        return;
    g_autofree char *what = generation_describe(&generation);
    log_info("disks: generation %s from now on", what);
    claim_set_generation(node->claim, node->generation);
}

static void on_started_writing(Node *node, json_object *result, const GError *error)
{
    if (error) {
        node_vm_lost(node, "the disks can't be taken into use", error);
        return;
    }
    generation_note(node, result);
    primary_resume_started(node);
}

void generation_begin_run(Node *node)
{
    if (node->disks) {
        write_alone(node, on_started_writing);
        return;
    }
    node->has_run = TRUE;
    primary_resume_started(node);
}

static gboolean on_write_again(gpointer user_data)
{
    Node *node = user_data;
    node->generation_timer = 0;
    if (node->state == FSM_P_NONE)
        generation_go_on(node);
    return G_SOURCE_REMOVE;
}

static void on_writing_alone(Node *node, json_object *result, const GError *error)
{
    if (!error) {
        generation_note(node, result);
        return;
    }
    node_report(node, "it can't be noted that these disks are the newest now", error);
    if (!node->generation_timer)
        node->generation_timer = g_timeout_add(AGAIN_MS, on_write_again, node);
}

void generation_go_on(Node *node)
{
    if (node->disks)
        write_alone(node, on_writing_alone);
}

void generation_forget(Node *node)
{
    if (node->generation_timer)
        g_source_remove(node->generation_timer);
    node->generation_timer = 0;
}

void generation_finalise(Node *node)
{
    generation_forget(node);
    if (!node->examination)
        return;
    node->examination->node = NULL;
    examination_unref(g_steal_pointer(&node->examination));
}
