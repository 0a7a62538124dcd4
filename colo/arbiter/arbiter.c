/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Questions on their way. Each is answered in a thread of its own, and nobody waits for its end,
 * for storage may hang. A question is a function (folder.c, file.c, owner.c). All that is not
 * clearly yes or no is ARBITER_UNKNOWN: nobody continues because of it.
 *
 * A question that hangs is late: its asker gets UNKNOWN, and it stays open. It holds up no other:
 * storage may be back under the same path while a thread still waits for the old mount. But each
 * try costs a thread: the more are late, the longer until the next one is made (may_try()). Only
 * what is in turn waits for what was asked before, however long. Of two writes under way at once
 * the older one could land last.
 */
#include "colo/arbiter/arbiter_internal.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

#include "common/patience.h"

/* Tries of a kind are counted by themselves: looking again and again must not delay a question. */
typedef enum {
    KIND_LOOK,
    KIND_LOOK_ONCE,
    KIND_LOOK_BACK,
    KIND_RETURN,
    KIND_NOTE,
    KIND_OTHER,
    KINDS
} Kind;

typedef struct {
    guint late;       /* how many are */
    ColoTime started; /* the last one */
    gint64 mount;     /* likewise: where the folder was by then */
} Tries;

G_DEFINE_QUARK(arbiter_error, arbiter_error)

struct Arbiter {
    char *dir; /* NULL: there is none */
    char *state_dir;
    char *id;       /* the name of the folder; NULL: not known yet */
    char *identity; /* the same with the type; NULL too */
    gboolean pinned;
    GPtrArray *questions; /* of Question*, under way */
    GQueue *turns;        /* of Question*, in turn; the first has a thread */
    guint limit_ms;
    Tries tries[KINDS]; /* of questions that aren't in turn */
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
    g_free(question->in_step);
    g_free(question->to);
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

/* The first answer names the folder; of others asked at the same time none counts. */
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

static Kind kind_of(const Question *question)
{
    return question->once                          ? KIND_LOOK_ONCE
           : question->work == arbiter_look_around ? KIND_LOOK
           : question->work == arbiter_read_again  ? KIND_LOOK_BACK
           : question->work == arbiter_write_unrun ? KIND_NOTE
           : question->claim == ARBITER_RETURN     ? KIND_RETURN
           : question->work == arbiter_hand_on     ? KIND_RETURN
                                                   : KIND_OTHER;
}

/* It is of this host's own storage. */
static gboolean is_local(const Question *question)
{
    return question->work == arbiter_write_pin || question->work == arbiter_write_unrun;
}

static Tries *tries_of(const Question *question)
{
    return &question->arbiter->tries[kind_of(question)];
}

static void end_limit(Question *question)
{
    if (!question->limit)
        return;
    g_source_destroy(question->limit);
    g_clear_pointer(&question->limit, g_source_unref);
}

static gboolean on_limit(gpointer data)
{
    Question *question = data;
    end_limit(question);
    question->late = TRUE;
    question->counts = !question->in_turn;
    tries_of(question)->late += question->counts;
    if (question->forgotten)
        return G_SOURCE_REMOVE;
    g_autoptr(GError) error = g_error_new(
        ARBITER_ERROR, ARBITER_ERROR_LATE, "arbiter: %s doesn't answer for %.1f s: %s%s",
        is_local(question) ? question->state_dir : question->dir, question->limit_ms / 1000.0,
        is_local(question) ? "is its storage well" : ARBITER_WAY_OUT,
        question->once ? "" : " (it counts when it does)");
    question->forgotten = question->once;
    question->answer(ARBITER_UNKNOWN, error, question->user_data);
    return G_SOURCE_REMOVE;
}

static void begin_limit(Question *question)
{
    if (question->limit_ms == 0)
        return;
    question->limit = patience_source_new(question->limit_ms);
    g_source_set_callback(question->limit, on_limit, question, NULL);
    g_source_attach(question->limit, question->context);
}

static void call_gone(Question *question)
{
    if (!question->late || question->result != ARBITER_UNKNOWN)
        return;
    question->error->domain = ARBITER_ERROR;
    question->error->code = ARBITER_ERROR_GONE;
}

/* Storage that answers in time is there: those that still wait for what was there before don't count. */
static void count_answer(Question *question)
{
    Tries *tries = tries_of(question);
    if (question->late) {
        tries->late -= question->counts;
        return;
    }
    if (!question->tried)
        return;
    GPtrArray *all = question->arbiter->questions;
    for (guint i = 0; i < all->len; i++) {
        Question *other = g_ptr_array_index(all, i);
        if (kind_of(other) == kind_of(question))
            other->counts = FALSE;
    }
    tries->late = 0;
}

static gboolean deliver(gpointer data)
{
    Question *question = data;
    if (!question->arbiter)
        return G_SOURCE_REMOVE;
    end_limit(question);
    count_answer(question);
    learn_id(question->arbiter, question);
    call_gone(question);
    question->arbiter->pinned |=
        question->work == arbiter_write_pin && question->result == ARBITER_GRANTED;
    if (question->in_turn)
        next_turn(question->arbiter);
    g_ptr_array_remove_fast(question->arbiter->questions, question);
    if (!question->forgotten)
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
    question->result = is_local(question) ? question->work(question, &question->error)
                                          : arbiter_answer_in_folder(question, &question->error);
    post(question);
    return NULL;
}

/* How long after the last try, beside `late` that hang. */
static gint64 wait_us(guint late, gint64 limit_us)
{
    guint linear = MIN(late, ARBITER_LATE_MANY);
    return (linear * limit_us) << MIN(late - linear, 20);
}

/*
 * Beside n that hang another try is made n limits after the last one. From ARBITER_LATE_MANY on, after 11
 * minutes with a limit of 5 s, the wait doubles with each: so there are about thirty threads after a month.
 * Those that hang answer when what they wait for is there again. Something else under the same path is
 * mounted there: that is looked for, and tried without such a wait. Nothing ends the tries.
 */
static gboolean may_try(const Question *question)
{
    Tries *tries = tries_of(question);
    ColoTime now = colo_time_now();
    gint64 since_us = colo_time_diff_us(now, tries->started);
    gint64 limit_us = (gint64)question->limit_ms * COLO_US_PER_MS;
    gboolean are_many = tries->late >= ARBITER_LATE_MANY;
    if (tries->late > 0 && since_us < wait_us(MIN(tries->late, ARBITER_LATE_MANY), limit_us))
        return FALSE;
    gint64 mount = are_many ? arbiter_mount_at(question->dir) : -1;
    if (are_many && mount == tries->mount && since_us < wait_us(tries->late, limit_us))
        return FALSE;
    tries->started = now;
    tries->mount = tries->late + 1 >= ARBITER_LATE_MANY ? arbiter_mount_at(question->dir) : -1;
    return TRUE;
}

static void start(Question *question)
{
    if (!question->dir) {
        question->result = ARBITER_MANUAL;
        post(question);
        return;
    }
    if (!question->in_turn && !may_try(question)) {
        g_set_error(&question->error, ARBITER_ERROR, ARBITER_ERROR_ASK,
                    "arbiter: %s doesn't answer, %u questions to it are open: %s", question->dir,
                    tries_of(question)->late, ARBITER_WAY_OUT);
        question->result = ARBITER_UNKNOWN;
        post(question);
        return;
    }
    GThread *thread = g_thread_try_new(kind_of(question) == KIND_NOTE ? "note" : "arbiter",
                                       ask_thread, question, &question->error);
    question->tried = thread && !question->in_turn;
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
    if (question->limit_ms == 0)
        question->limit_ms = arbiter->limit_ms;
    question->hook = arbiter->hook;
    question->hook_data = arbiter->hook_data;
    question->dir = g_strdup(arbiter->dir);
    question->state_dir = g_strdup(arbiter->state_dir);
    question->expected = g_strdup(arbiter->id);
    question->uuid = escape(like->uuid ? like->uuid : "");
    question->session = escape(like->session ? like->session : "");
    question->who = escape(like->who ? like->who : "");
    question->in_step = like->in_step ? escape(like->in_step) : NULL;
    question->to = like->to ? escape(like->to) : NULL;
    g_ptr_array_add(arbiter->questions, question);
    begin_limit(question);
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

static void give_session(Arbiter *arbiter, const char *uuid, const char *session, const char *who,
                         const char *to, ArbiterAnswer (*work)(const Question *, GError **),
                         ArbiterFunc answer, gpointer user_data)
{
    Question like = {.uuid = (char *)uuid,
                     .session = (char *)session,
                     .who = (char *)who,
                     .to = (char *)to,
                     .work = work,
                     .answer = answer,
                     .user_data = user_data};
    arbiter_question(arbiter, &like);
}

void arbiter_return(Arbiter *arbiter, const char *uuid, const char *session, const char *who,
                    const char *to, ArbiterFunc answer, gpointer user_data)
{
    give_session(arbiter, uuid, session, who, to, arbiter_hand_back, answer, user_data);
}

void arbiter_concede(Arbiter *arbiter, const char *uuid, const char *session, const char *who,
                     const char *to, ArbiterFunc answer, gpointer user_data)
{
    give_session(arbiter, uuid, session, who, to, arbiter_hand_on, answer, user_data);
}

void arbiter_look_back(Arbiter *arbiter, const char *uuid, const char *session, const char *who,
                       ArbiterFunc answer, gpointer user_data)
{
    Question like = {.uuid = (char *)uuid,
                     .session = (char *)session,
                     .who = (char *)who,
                     .work = arbiter_read_again,
                     .answer = answer,
                     .user_data = user_data};
    arbiter_question(arbiter, &like);
}

gboolean arbiter_is_asked(const Arbiter *arbiter)
{
    for (guint i = 0; i < arbiter->questions->len; i++) {
        const Question *question = g_ptr_array_index(arbiter->questions, i);
        if (question->work == arbiter_decide && !question->late && !question->forgotten)
            return TRUE;
    }
    return FALSE;
}

void arbiter_forget(Arbiter *arbiter)
{
    for (guint i = 0; i < arbiter->questions->len; i++) {
        Question *question = g_ptr_array_index(arbiter->questions, i);
        question->forgotten |=
            question->work == arbiter_decide || question->work == arbiter_hand_back ||
            question->work == arbiter_hand_on || question->work == arbiter_read_again;
    }
}

void arbiter_end_returns(Arbiter *arbiter)
{
    for (guint i = 0; i < arbiter->questions->len; i++) {
        Question *question = g_ptr_array_index(arbiter->questions, i);
        if (question->claim == ARBITER_RETURN)
            g_atomic_int_set(&question->ended, TRUE);
    }
}

void arbiter_look(Arbiter *arbiter, gboolean writes, ArbiterFunc answer, gpointer user_data)
{
    Question like = {
        .writes = writes, .work = arbiter_look_around, .answer = answer, .user_data = user_data};
    arbiter_question(arbiter, &like);
}

void arbiter_look_within(Arbiter *arbiter, guint limit_ms, ArbiterFunc answer, gpointer user_data)
{
    Question like = {.once = TRUE,
                     .limit_ms = limit_ms,
                     .work = arbiter_look_around,
                     .answer = answer,
                     .user_data = user_data};
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

Arbiter *arbiter_new(const char *path, const char *state_dir, GError **error)
{
    g_autoptr(Arbiter) arbiter = g_new0(Arbiter, 1);
    arbiter->questions = g_ptr_array_new_with_free_func(question_unref);
    arbiter->turns = g_queue_new();
    if (!path) {
        arbiter->identity = g_strdup("none");
        return g_steal_pointer(&arbiter);
    }
    arbiter->dir = g_strdup(path);
    arbiter->state_dir = g_strdup(state_dir);
    return read_state(arbiter, error) ? g_steal_pointer(&arbiter) : NULL;
}

void arbiter_set_limit_ms(Arbiter *arbiter, guint limit_ms)
{
    arbiter->limit_ms = limit_ms;
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
    for (guint i = 0; i < arbiter->questions->len; i++) {
        Question *question = g_ptr_array_index(arbiter->questions, i);
        end_limit(question);
        question->arbiter = NULL;
    }
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
