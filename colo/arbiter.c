/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * `file`: a directory that both hosts see. A decision is the file UUID.SESSION in it, and says who
 * may go on; who makes it first has won. It is written whole under a name of its own (a draft),
 * synced, and then given its place with link(2), which fails if the place is taken. So there never
 * is half a decision, whatever dies when, and it is right on NFS, where O_EXCL was not always.
 *
 * Invariants:
 * - What counts is what stands in the decision file, read after the attempt to make it: the result
 *   of link(2) isn't asked (an NFS client may repeat a request whose answer was lost).
 * - Yes is said only after the file and its folder are synced: a crash of the storage can't take
 *   back what somebody already acts on. No needs no such care: who is told no stops.
 * - All that is not clearly yes or no is ARBITER_UNKNOWN: nobody goes on because of it.
 * - Decisions are never changed or removed here: the loser may come back late and ask. (A file per
 *   lost peer, some hundred bytes: an administrator may remove old ones.)
 *
 * Two nodes that ask different folders would both be told yes. So the folder has a name of its own,
 * random, in FOLDER_ID, made by who needs it first; the handshake compares it.
 *
 * A draft left by a crash decides nothing. It is removed when its maker asks again for the same VM;
 * should it be somebody's that is still at it, its link(2) fails and its answer is unknown.
 *
 * Whose a VM is stands in UUID.owner: arbiter-owner.c.
 *
 * Storage may hang for ever: each question has a thread of its own, whose end nobody waits for.
 */
#include "colo/arbiter_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"

#define FIRST_LINE "colo decision 1"
#define FOLDER_ID  "colo-arbiter-id"
#define WAY_OUT    "is the storage there, on both hosts?"

G_DEFINE_QUARK(arbiter_error, arbiter_error)

struct Arbiter {
    char *dir; /* NULL: there is none */
    char *identity;
    GPtrArray *questions; /* of Question*, under way */
    GQueue *turns;        /* of Question*, in turn; the first has a thread */
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
    g_clear_error(&question->error);
    g_free(question);
}

gboolean arbiter_fail(const char *what, const char *path, GError **error)
{
    int code = errno;
    g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_ASK, "arbiter: can't %s %s: %s (%s)", what,
                path, g_strerror(code), WAY_OUT);
    return FALSE;
}

/* ---- Files ---- */

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

gboolean arbiter_sync_folder(const char *dir, GError **error)
{
    COLO_AUTO_FD fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) < 0)
        return arbiter_fail("sync", dir, error);
    return TRUE;
}

gboolean arbiter_write_new_file(const char *path, const char *text, GError **error)
{
    COLO_AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return arbiter_fail("make", path, error);
    for (gsize done = 0, len = strlen(text); done < len;) {
        ssize_t put = write(fd, text + done, len - done);
        if (put < 0 && errno != EINTR)
            return arbiter_fail("write", path, error);
        done += (gsize)MAX(put, 0);
    }
    if (fsync(fd) < 0)
        return arbiter_fail("sync", path, error);
    /* On NFS, errors of delayed writing come here at the latest. */
    if (close(colo_fd_steal(&fd)) < 0)
        return arbiter_fail("close", path, error);
    return TRUE;
}

/* Names this process among all that ever write there: process ids come again. */
static const char *instance(void)
{
    static gsize once;
    static char text[17];
    if (g_once_init_enter(&once)) {
        g_snprintf(text, sizeof(text), "%08x%08x", g_random_int(), g_random_int());
        g_once_init_leave(&once, 1);
    }
    return text;
}

/* Drafts are named .UUID.SESSION.WHO.INSTANCE.NUMBER.draft */
char *arbiter_draft_path(const Question *question)
{
    static gint counter;
    return g_strdup_printf("%s/.%s.%s.%s.%s.%d.draft", question->dir, question->uuid,
                           question->session, question->who, instance(),
                           g_atomic_int_add(&counter, 1));
}

static gboolean is_leftover(const char *name, const Question *question)
{
    g_auto(GStrv) parts = g_strsplit(name, ".", -1);
    return g_strv_length(parts) == 7 && !*parts[0] && !strcmp(parts[1], question->uuid) &&
           !strcmp(parts[3], question->who) && strcmp(parts[4], instance()) != 0 &&
           !strcmp(parts[6], "draft");
}

/* Removes drafts of a predecessor that crashed. That it fails changes no answer. */
static void remove_leftovers(const Question *question)
{
    DIR *dir = opendir(question->dir);
    if (!dir)
        return;
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir))
        if (is_leftover(entry->d_name, question))
            (void)unlinkat(dirfd(dir), entry->d_name, 0);
    closedir(dir);
}

/* ---- Decisions ---- */

static char *write_text(const char *who, guint64 epoch)
{
    g_autoptr(GDateTime) now = g_date_time_new_now_utc();
    g_autofree char *when = g_date_time_format(now, "%Y-%m-%dT%H:%M:%SZ");
    return g_strdup_printf("%s\ngranted-to %s\nepoch %" G_GUINT64_FORMAT "\nat %s\n", FIRST_LINE,
                           who, epoch, when);
}

/* Only digits. (GLib's own parser may fail when two threads use it first at the same moment.) */
static gboolean is_number(const char *text)
{
    return *text && text[strspn(text, "0123456789")] == '\0';
}

/* The winner's escaped name, or NULL if this is not a whole decision. */
static char *parse_text(const char *text, gsize len)
{
    if (memchr(text, '\0', len) || len == 0 || text[len - 1] != '\n')
        return NULL;
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    /* Four lines and what is after the last newline. */
    if (g_strv_length(lines) != 5 || strcmp(lines[0], FIRST_LINE) != 0 ||
        !g_str_has_prefix(lines[1], "granted-to ") || !g_str_has_prefix(lines[2], "epoch ") ||
        !g_str_has_prefix(lines[3], "at ") || *lines[4] || !is_number(lines[2] + strlen("epoch ")))
        return NULL;
    const char *who = lines[1] + strlen("granted-to ");
    return *who ? g_strdup(who) : NULL;
}

gboolean arbiter_read_text(int fd, const char *path, char text[ARBITER_TEXT_MAX_BYTES + 1],
                           gsize *ret_len, GError **error)
{
    gsize len = 0;
    ssize_t got;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return arbiter_fail("look at", path, error);
    if (!S_ISREG(st.st_mode)) {
        errno = EINVAL;
        return arbiter_fail("read what should be a file,", path, error);
    }
    do {
        got = read(fd, text + len, ARBITER_TEXT_MAX_BYTES - len);
        if (got < 0 && errno != EINTR)
            return arbiter_fail("read", path, error);
        len += (gsize)MAX(got, 0);
    } while (got != 0 && len < ARBITER_TEXT_MAX_BYTES);
    text[len] = '\0';
    *ret_len = len;
    return TRUE;
}

static char *decision_path(const Question *question)
{
    return g_strdup_printf("%s/%s.%s", question->dir, question->uuid, question->session);
}

gboolean arbiter_read_winner(const Question *question, char **ret_winner, GError **error)
{
    char text[ARBITER_TEXT_MAX_BYTES + 1];
    gsize len = 0;
    g_autofree char *path = decision_path(question);
    COLO_AUTO_FD fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? FALSE : arbiter_fail("open", path, error);
    if (!arbiter_read_text(fd, path, text, &len, error))
        return FALSE;
    g_autofree char *winner = parse_text(text, len);
    if (!winner) {
        g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_ASK,
                    "arbiter: %s is not a decision (an administrator must see which side runs, and "
                    "may then remove it)",
                    path);
        return FALSE;
    }
    if (!strcmp(winner, question->who)) {
        if (fsync(fd) < 0)
            return arbiter_fail("sync", path, error);
        if (!arbiter_sync_folder(question->dir, error))
            return FALSE;
    }
    *ret_winner = g_steal_pointer(&winner);
    return TRUE;
}

/* The answer of a decision that has been made; FALSE as arbiter_read_winner(). */
static gboolean read_decision(const Question *question, ArbiterAnswer *ret_answer, GError **error)
{
    g_autofree char *winner = NULL;
    if (!arbiter_read_winner(question, &winner, error))
        return FALSE;
    *ret_answer = strcmp(winner, question->who) != 0 ? ARBITER_DENIED : ARBITER_GRANTED;
    return TRUE;
}

/* Tries to be the first. TRUE: somebody was, and the decision can be read. */
static gboolean make_decision(const Question *question, const char *path, GError **error)
{
    g_autofree char *text = write_text(question->who, question->epoch);
    g_autofree char *draft = arbiter_draft_path(question);
    gboolean made = arbiter_write_new_file(draft, text, error);
    if (made && link(draft, path) < 0 && errno != EEXIST)
        made = arbiter_fail("make", path, error);
    (void)unlink(draft);
    return made;
}

ArbiterAnswer arbiter_decide(const Question *question, GError **error)
{
    g_autoptr(GError) reading = NULL;
    g_autofree char *path = decision_path(question);
    ArbiterAnswer answer = ARBITER_UNKNOWN;
    remove_leftovers(question);
    if (read_decision(question, &answer, &reading))
        return answer;
    if (reading) {
        g_propagate_error(error, g_steal_pointer(&reading));
        return ARBITER_UNKNOWN;
    }
    if (!make_decision(question, path, error))
        return ARBITER_UNKNOWN;
    if (read_decision(question, &answer, &reading))
        return answer;
    if (reading)
        g_propagate_error(error, g_steal_pointer(&reading));
    else
        g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_ASK,
                    "arbiter: %s was made and is gone again (who removes files there?)", path);
    return ARBITER_UNKNOWN;
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

static gboolean deliver(gpointer data)
{
    Question *question = data;
    if (!question->arbiter)
        return G_SOURCE_REMOVE;
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
    question->result = question->work(question, &question->error);
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
    question->dir = g_strdup(arbiter->dir);
    question->uuid = escape(like->uuid);
    question->session = escape(like->session);
    question->who = escape(like->who);
    g_ptr_array_add(arbiter->questions, question);
    if (question->in_turn)
        g_queue_push_tail(arbiter->turns, question);
    if (!question->in_turn || g_queue_get_length(arbiter->turns) == 1)
        start(question);
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

/* Does there what a question will do: root is let in by access() where writing isn't possible. */
static gboolean try_folder(const char *dir, GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_autofree char *first = g_strdup_printf("%s/.probe.%s.%08x", dir, instance(), g_random_int());
    g_autofree char *second = g_strconcat(first, ".2", NULL);
    if (!arbiter_write_new_file(first, "probe\n", &cause))
        return refuse(error, "the directory %s can't be written to: %s", dir, cause->message);
    int result = link(first, second);
    int code = errno;
    (void)unlink(first);
    (void)unlink(second);
    if (result < 0)
        return refuse(error,
                      "%s: its file system has no hard links (%s); use one that has: a local one, "
                      "NFS, a cluster file system",
                      dir, g_strerror(code));
    return TRUE;
}

static gboolean check_folder(const char *path, GError **error)
{
    struct stat st;
    if (!path || !*path)
        return refuse(error, "type file needs a path: a directory that both hosts see");
    if (stat(path, &st) < 0)
        return refuse(error, "%s: %s (it has to be a directory that both hosts see)", path,
                      g_strerror(errno));
    if (!S_ISDIR(st.st_mode))
        return refuse(error, "%s is not a directory (it has to be one that both hosts see)", path);
    return try_folder(path, error);
}

/* The folder's name for itself, "file NAME"; NULL with ARBITER_ERROR_CONFIG. */
static char *identify_folder(const char *dir, GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_autofree char *path = g_build_filename(dir, FOLDER_ID, NULL);
    g_autofree char *draft = g_strdup_printf("%s.%s.%08x", path, instance(), g_random_int());
    g_autofree char *ours = g_strdup_printf("%s\n", instance());
    g_autofree char *text = NULL;
    if (!g_file_test(path, G_FILE_TEST_EXISTS)) {
        /* Of two that make it at once, one has made it; both read it then. */
        if (arbiter_write_new_file(draft, ours, &cause))
            (void)!link(draft, path);
        (void)unlink(draft);
    }
    if (!cause)
        g_file_get_contents(path, &text, NULL, &cause);
    if (cause) {
        refuse(error, "%s can't be made or read: %s", path, cause->message);
        return NULL;
    }
    g_strchomp(text);
    if (strlen(text) != 16 || strspn(text, "0123456789abcdef") != 16) {
        refuse(error, "%s is not the name of a folder (if both hosts see this folder, remove it)",
               path);
        return NULL;
    }
    return g_strconcat("file ", text, NULL);
}

Arbiter *arbiter_new(const char *type, const char *path, GError **error)
{
    gboolean file = !strcmp(type, "file");
    if (!file && strcmp(type, "none") != 0) {
        refuse(error, "unknown type '%s': none and file are known", type);
        return NULL;
    }
    if (file && !check_folder(path, error))
        return NULL;
    g_autofree char *identity = file ? identify_folder(path, error) : g_strdup("none");
    if (!identity)
        return NULL;
    Arbiter *arbiter = g_new0(Arbiter, 1);
    arbiter->dir = file ? g_strdup(path) : NULL;
    arbiter->identity = g_steal_pointer(&identity);
    arbiter->questions = g_ptr_array_new_with_free_func(question_unref);
    arbiter->turns = g_queue_new();
    return arbiter;
}

const char *arbiter_identity(const Arbiter *arbiter)
{
    return arbiter->identity;
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
    g_free(arbiter->identity);
    g_free(arbiter);
}
