/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `file`: a directory that both hosts see. A decision is a file DIR/UUID.SESSION that holds the
 * winner's name; who makes it first has won. It is written whole under a name of its own, synced,
 * and then given its place with link(2), which fails if the place is taken: also on NFS, where
 * O_EXCL was not always reliable, a reader never sees half a decision. Decisions are never removed
 * here: the loser may come back late and ask.
 *
 * The storage may hang, so a question is asked in a thread; its answer comes from the main loop,
 * and is dropped if the arbiter is freed first.
 */
#include "colo/arbiter.h"

#include "common/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* A decision is a few lines. */
#define DECISION_MAX_BYTES 4096

G_DEFINE_QUARK(arbiter - error - quark, arbiter_error)

typedef void (*AnswerFunc)(ArbiterAnswer answer, const GError *error, gpointer user_data);

struct Arbiter {
    char *dir;            /* NULL: there is none */
    GPtrArray *questions; /* of Question* that are under way */
};

/* One question, on its way through a thread. */
typedef struct {
    Arbiter *arbiter; /* NULL: freed meanwhile; main thread only */
    char *dir, *file, *who;
    guint64 epoch;
    ArbiterAnswer result;
    GError *error;
    AnswerFunc answer;
    gpointer user_data;
} Question;

static void question_free(Question *question)
{
    g_free(question->dir);
    g_free(question->file);
    g_free(question->who);
    g_clear_error(&question->error);
    g_free(question);
}

static ArbiterAnswer cannot_ask(const char *what, const char *path, GError **error)
{
    g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_ASK,
                "can't %s %s: %s (is the storage of [arbiter] path there, on both hosts?)", what,
                path, g_strerror(errno));
    return ARBITER_UNKNOWN;
}

/* Who won, from a decision file that exists. */
static ArbiterAnswer read_decision(const char *path, const char *who, GError **error)
{
    COLO_AUTO_FD fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return cannot_ask("open", path, error);
    char text[DECISION_MAX_BYTES + 1];
    ssize_t len = read(fd, text, DECISION_MAX_BYTES);
    if (len < 0)
        return cannot_ask("read", path, error);
    text[len] = '\0';
    char *end = strchr(text, '\n');
    if (!g_str_has_prefix(text, "granted-to ") || !end) {
        g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_ASK,
                    "%s is no decision of an arbiter: look at it, and let an administrator decide",
                    path);
        return ARBITER_UNKNOWN;
    }
    *end = '\0';
    return strcmp(text + strlen("granted-to "), who) ? ARBITER_DENIED : ARBITER_GRANTED;
}

static gboolean write_decision(const char *path, const char *who, guint64 epoch)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *when = g_date_time_format_iso8601(now);
    g_autofree char *text =
        g_strdup_printf("granted-to %s\nepoch %" G_GUINT64_FORMAT "\nat %s\n", who, epoch, when);
    COLO_AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    return fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && fsync(fd) == 0;
}

static gboolean sync_dir(const char *dir)
{
    COLO_AUTO_FD fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 && fsync(fd) == 0;
}

static ArbiterAnswer decide(const Question *question, GError **error)
{
    g_autofree char *decision = g_build_filename(question->dir, question->file, NULL);
    if (access(decision, F_OK) == 0)
        return read_decision(decision, question->who, error);

    g_autofree char *name =
        g_strdup_printf(".%s.%s.%08x", question->file, question->who, g_random_int());
    g_autofree char *draft = g_build_filename(question->dir, name, NULL);
    ArbiterAnswer answer;
    if (!write_decision(draft, question->who, question->epoch))
        answer = cannot_ask("write", draft, error);
    else if (link(draft, decision) < 0 && errno != EEXIST)
        answer = cannot_ask("make", decision, error);
    else if (!sync_dir(question->dir))
        answer = cannot_ask("sync", question->dir, error);
    else
        /* Ours or another's: what is there now has won. */
        answer = read_decision(decision, question->who, error);
    unlink(draft);
    return answer;
}

static gboolean deliver(gpointer data)
{
    Question *question = data;
    if (question->arbiter) {
        g_ptr_array_remove_fast(question->arbiter->questions, question);
        question->answer(question->result, question->error, question->user_data);
    }
    question_free(question);
    return G_SOURCE_REMOVE;
}

static gpointer ask_thread(gpointer data)
{
    Question *question = data;
    question->result = decide(question, &question->error);
    g_idle_add_full(G_PRIORITY_HIGH, deliver, question, NULL);
    return NULL;
}

static gboolean answer_manual(gpointer data)
{
    Question *question = data;
    question->result = ARBITER_MANUAL;
    return deliver(question);
}

Arbiter *arbiter_new(const char *type, const char *path, GError **error)
{
    Arbiter *arbiter = g_new0(Arbiter, 1);
    arbiter->questions = g_ptr_array_new();
    if (!strcmp(type, "none"))
        return arbiter;
    if (strcmp(type, "file")) {
        g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_CONFIG,
                    "arbiter '%s' is unknown: use none or file", type);
    } else if (!path || !g_file_test(path, G_FILE_TEST_IS_DIR)) {
        g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_CONFIG,
                    "arbiter: %s is not a directory (it must be one that both hosts see)",
                    path ? path : "the path");
    } else if (access(path, R_OK | W_OK | X_OK) < 0) {
        g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_CONFIG,
                    "arbiter: the directory %s can't be written to: %s", path, g_strerror(errno));
    } else {
        arbiter->dir = g_strdup(path);
        return arbiter;
    }
    arbiter_free(arbiter);
    return NULL;
}

void arbiter_free(Arbiter *arbiter)
{
    if (!arbiter)
        return;
    for (guint i = 0; i < arbiter->questions->len; i++)
        ((Question *)g_ptr_array_index(arbiter->questions, i))->arbiter = NULL;
    g_ptr_array_unref(arbiter->questions);
    g_free(arbiter->dir);
    g_free(arbiter);
}

void arbiter_ask(Arbiter *arbiter, const char *uuid, const char *session, const char *who,
                 guint64 epoch, AnswerFunc answer, gpointer user_data)
{
    Question *question = g_new0(Question, 1);
    *question = (Question){.arbiter = arbiter,
                           .dir = g_strdup(arbiter->dir),
                           .file = g_strdup_printf("%s.%s", uuid, session),
                           .who = g_strdup(who),
                           .epoch = epoch,
                           .answer = answer,
                           .user_data = user_data};
    g_ptr_array_add(arbiter->questions, question);
    if (arbiter->dir)
        g_thread_unref(g_thread_new("arbiter", ask_thread, question));
    else
        g_idle_add_full(G_PRIORITY_HIGH, answer_manual, question, NULL);
}
