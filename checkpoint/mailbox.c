/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Carries an engine's reports from its thread to its owner's main loop. A GSource that is made
 * ready by a post, so the loop wakes at once; high priority, as the VM may be paused until it is
 * handled.
 *
 * Invariant: after mailbox_close() returns, nothing is delivered, also if a delivery called it. For
 * that the source holds a reference, and each delivery is followed by a look at `closed`.
 */
#include "checkpoint/checkpoint_internal.h"

struct Mailbox {
    GSource source; /* first: GLib makes and frees the whole struct */
    GMutex lock;
    GQueue messages; /* under lock */
    gboolean closed; /* owner's thread */
    MailboxFunc func;
    gpointer user_data;
};

static gboolean mailbox_dispatch(GSource *source, GSourceFunc callback, gpointer data)
{
    (void)callback;
    (void)data;
    Mailbox *mailbox = (Mailbox *)source;
    /* Ready is taken back first: a post after this makes the source ready again. */
    g_source_set_ready_time(source, -1);
    while (!mailbox->closed) {
        g_mutex_lock(&mailbox->lock);
        gpointer message = g_queue_pop_head(&mailbox->messages);
        g_mutex_unlock(&mailbox->lock);
        if (!message)
            return G_SOURCE_CONTINUE;
        mailbox->func(message, TRUE, mailbox->user_data);
    }
    return G_SOURCE_REMOVE;
}

static void mailbox_finalize(GSource *source)
{
    Mailbox *mailbox = (Mailbox *)source;
    gpointer message;
    while ((message = g_queue_pop_head(&mailbox->messages)))
        mailbox->func(message, FALSE, NULL);
    g_mutex_clear(&mailbox->lock);
}

static GSourceFuncs mailbox_funcs = {
    .dispatch = mailbox_dispatch,
    .finalize = mailbox_finalize,
};

Mailbox *mailbox_new(MailboxFunc func, gpointer user_data)
{
    Mailbox *mailbox = (Mailbox *)g_source_new(&mailbox_funcs, sizeof(Mailbox));
    g_mutex_init(&mailbox->lock);
    g_queue_init(&mailbox->messages);
    mailbox->func = func;
    mailbox->user_data = user_data;
    g_source_set_priority(&mailbox->source, G_PRIORITY_HIGH);
    g_source_attach(&mailbox->source, g_main_context_get_thread_default());
    return mailbox;
}

void mailbox_post(Mailbox *mailbox, gpointer message)
{
    g_mutex_lock(&mailbox->lock);
    g_queue_push_tail(&mailbox->messages, message);
    g_mutex_unlock(&mailbox->lock);
    g_source_set_ready_time(&mailbox->source, 0);
}

void mailbox_close(Mailbox *mailbox)
{
    mailbox->closed = TRUE;
    g_source_destroy(&mailbox->source);
    g_source_unref(&mailbox->source);
}
