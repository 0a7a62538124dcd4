/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Questions on their way: each is answered in a thread of its own, whose end nobody waits for, for
 * storage may hang. What is asked is a function (arbiter-folder.c, arbiter-file.c,
 * arbiter-owner.c). All that is not clearly yes or no is ARBITER_UNKNOWN: nobody goes on because of
 * it.
 */
#include "colo/arbiter_internal.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

G_DEFINE_QUARK(arbiter_error, arbiter_error)

struct Arbiter {
    char *dir; /* NULL: there is none */
    char *state_dir;
    char *id;       /* the name of the folder; NULL: not known yet */
    char *identity; /* the same with the type; NULL likewise */
    gboolean pinned;
    GPtrArray *questions; /* of Question*, under way */
    GQueue *turns;        /* of Question*, in turn; the first has a thread */
    ArbiterHook hook;
    gpointer hook_data;
};

static void question_unref(gpointer data)
{
    Question *question = data;
    if (!g_atomic_int_dec_and_test(&question->refs))
        return;
    g_main_context_unref(question->context);
    g_free(question->dir);
    g_free(question->uuid);
    g_free(question->session);
    g_free(question->who);
    g_free(question->state_dir);
    g_free(question->expected);
    g_free(question->found);
    g_clear_error(&question->error);
    g_free(question);
}

/* A name as part of a file name: no dot, no slash, nothing odd. */
static char *escape(const char *name)
{
    GString *out = g_string_new(NULL);
    for (const char *c = name; *c; c++)
        if (g_ascii_isalnum(*c) || *c == '-' || *c == '_')
            g_string_append_c(out, *c);
        else
            g_string_append_printf(out, "%%%02x", (guint8)*c);
    return g_string_free(out, FALSE);
}

/* ---- Questions ---- */

static void start(Question *question);

/* The next one in turn, now that the first is answered. */
static void next_turn(Arbiter *arbiter)
{
    g_queue_pop_head(arbiter->turns);
    Question *next = g_queue_peek_head(arbiter->turns);
    if (next)
        start(next);
}

static void set_id(Arbiter *arbiter, const char *id)
{
    arbiter->id = g_strdup(id);
    arbiter->identity = g_strconcat("file ", id, NULL);
}

/* The first answer says which folder it is; of others asked at the same time none counts. */
static void learn_id(Arbiter *arbiter, Question *question)
{
    if (!question->found || question->result == ARBITER_UNKNOWN)
        return;
    if (!arbiter->id) {
        set_id(arbiter, question->found);
    } else if (strcmp(arbiter->id, question->found) != 0) {
        question->result = ARBITER_UNKNOWN;
        g_clear_error(&question->error);
        g_set_error(&question->error, ARBITER_ERROR, ARBITER_ERROR_FOLDER,
                    "arbiter: %s was the folder %s a moment ago, and now is %s", question->dir,
                    arbiter->id, question->found);
    }
}

static gboolean deliver(gpointer data)
{
    Question *question = data;
    if (!question->arbiter)
        return G_SOURCE_REMOVE;
    learn_id(question->arbiter, question);
    question->arbiter->pinned |=
        question->work == arbiter_write_pin && question->result == ARBITER_GRANTED;
    if (question->in_turn)
        next_turn(question->arbiter);
    g_ptr_array_remove_fast(question->arbiter->questions, question);
    question->answer(question->result, question->error, question->user_data);
    return G_SOURCE_REMOVE;
}

/* Has the answer given by the asker's main loop; takes a reference of the question. */
static void post(Question *question)
{
    /* Once attached, the question and its context may be gone before this returns. */
    g_autoptr(GMainContext) context = g_main_context_ref(question->context);
    g_autoptr(GSource) source = g_idle_source_new();
    g_source_set_priority(source, G_PRIORITY_HIGH);
    g_source_set_callback(source, deliver, question, question_unref);
    g_source_attach(source, context);
}

static gpointer ask_thread(gpointer data)
{
    Question *question = data;
    question->result = question->work == arbiter_write_pin
                           ? question->work(question, &question->error)
                           : arbiter_answer_in_folder(question, &question->error);
    post(question);
    return NULL;
}

static void start(Question *question)
{
    if (!question->dir) {
        question->result = ARBITER_MANUAL;
        post(question);
        return;
    }
    GThread *thread = g_thread_try_new("arbiter", ask_thread, question, &question->error);
    if (thread) {
        g_thread_unref(thread);
        return;
    }
    question->result = ARBITER_UNKNOWN;
    post(question);
}

void arbiter_question(Arbiter *arbiter, const Question *like)
{
    Question *question = g_memdup2(like, sizeof(*like));
    question->refs = 2; /* the arbiter's and the thread's */
    question->context = g_main_context_ref_thread_default();
    question->arbiter = arbiter;
    question->fd = -1;
    question->hook = arbiter->hook;
    question->hook_data = arbiter->hook_data;
    question->dir = g_strdup(arbiter->dir);
    question->state_dir = g_strdup(arbiter->state_dir);
    question->expected = g_strdup(arbiter->id);
    question->uuid = escape(like->uuid ? like->uuid : "");
    question->session = escape(like->session ? like->session : "");
    question->who = escape(like->who ? like->who : "");
    g_ptr_array_add(arbiter->questions, question);
    if (question->in_turn)
        g_queue_push_tail(arbiter->turns, question);
    if (!question->in_turn || g_queue_get_length(arbiter->turns) == 1)
        start(question);
}

void arbiter_set_hook(Arbiter *arbiter, ArbiterHook hook, gpointer hook_data)
{
    arbiter->hook = hook;
    arbiter->hook_data = hook_data;
}

void arbiter_ask(Arbiter *arbiter, const char *uuid, const char *session, const char *who,
                 guint64 epoch, ArbiterFunc answer, gpointer user_data)
{
    Question like = {.uuid = (char *)uuid,
                     .session = (char *)session,
                     .who = (char *)who,
                     .epoch = epoch,
                     .work = arbiter_decide,
                     .answer = answer,
                     .user_data = user_data};
    arbiter_question(arbiter, &like);
}

void arbiter_look(Arbiter *arbiter, gboolean writes, ArbiterFunc answer, gpointer user_data)
{
    Question like = {
        .writes = writes, .work = arbiter_look_around, .answer = answer, .user_data = user_data};
    arbiter_question(arbiter, &like);
}

void arbiter_pin(Arbiter *arbiter, ArbiterFunc answer, gpointer user_data)
{
    Question like = {
        .work = arbiter_write_pin, .in_turn = TRUE, .answer = answer, .user_data = user_data};
    g_assert(!arbiter->dir || (arbiter->id && arbiter->state_dir));
    arbiter_question(arbiter, &like);
}

/* ---- Life ---- */

static gboolean refuse(GError **error, const char *format, ...) G_GNUC_PRINTF(2, 3);

static gboolean refuse(GError **error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_CONFIG, "arbiter: %s", text);
    return FALSE;
}

/* Makes the state folder, if there is to be one, and learns what is pinned there. */
static gboolean read_state(Arbiter *arbiter, GError **error)
{
    g_autoptr(GError) reading = NULL;
    if (!arbiter->state_dir)
        return TRUE;
    if (g_mkdir_with_parents(arbiter->state_dir, 0700) < 0)
        return refuse(error, "state-dir %s: %s", arbiter->state_dir, g_strerror(errno));
    g_autofree char *id = arbiter_read_pin(arbiter->state_dir, &reading);
    if (reading) {
        g_propagate_error(error, g_steal_pointer(&reading));
        return FALSE;
    }
    if (id)
        set_id(arbiter, id);
    arbiter->pinned = id != NULL;
    return TRUE;
}

Arbiter *arbiter_new(const char *type, const char *path, const char *state_dir, GError **error)
{
    g_autoptr(Arbiter) arbiter = g_new0(Arbiter, 1);
    gboolean file = !strcmp(type, "file");
    arbiter->questions = g_ptr_array_new_with_free_func(question_unref);
    arbiter->turns = g_queue_new();
    if (!file && strcmp(type, "none") != 0) {
        refuse(error, "unknown type '%s': none and file are known", type);
        return NULL;
    }
    if (!file) {
        arbiter->identity = g_strdup("none");
        return g_steal_pointer(&arbiter);
    }
    if (!path || !*path) {
        refuse(error, "type file needs a path: a directory that both hosts see");
        return NULL;
    }
    arbiter->dir = g_strdup(path);
    arbiter->state_dir = g_strdup(state_dir);
    return read_state(arbiter, error) ? g_steal_pointer(&arbiter) : NULL;
}

const char *arbiter_identity(const Arbiter *arbiter)
{
    return arbiter->identity;
}

gboolean arbiter_is_pinned(const Arbiter *arbiter)
{
    return arbiter->pinned || !arbiter->dir;
}

void arbiter_free(Arbiter *arbiter)
{
    if (!arbiter)
        return;
    for (guint i = 0; i < arbiter->questions->len; i++)
        ((Question *)g_ptr_array_index(arbiter->questions, i))->arbiter = NULL;
    /* Those that wait for their turn have no thread: it won't come. */
    for (GList *at = arbiter->turns->head ? arbiter->turns->head->next : NULL; at; at = at->next)
        question_unref(at->data);
    g_queue_free(arbiter->turns);
    g_ptr_array_unref(arbiter->questions);
    g_free(arbiter->dir);
    g_free(arbiter->state_dir);
    g_free(arbiter->id);
    g_free(arbiter->identity);
    g_free(arbiter);
}
