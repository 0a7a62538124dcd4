/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The arbiter's folder: that it is the one that both hosts see, and files in it.
 *
 * Two nodes that ask different folders would both get a yes. A folder that looks right may be
 * another one: the mount point before its storage is mounted, or after it went away. So the folder
 * has a name of its own, random, in FOLDER_ID. Invariants:
 * - Only an administrator's command makes the name (arbiter_init_folder()). A folder without one is
 *   no arbiter, whatever its path.
 * - Two nodes pair only if they know the same name (the handshake compares it). From then on each
 *   keeps it in its state folder (the pin): that node never asks another folder again.
 * - The folder is opened once for each question. All of the work goes through that descriptor, and
 *   the name is read by it before and after. So a mount or unmount meanwhile can't give an answer
 *   from elsewhere.
 *
 * All but the reading of the pin is done in threads: storage may hang.
 */
#include "colo/arbiter/arbiter_internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/fd.h"

#define FOLDER_ID "colo-arbiter-id"
#define PIN       "arbiter"
#define PIN_LINE  "colo arbiter 1\nid "

/* ---- What is mounted ---- */

/* The number of the mount that a descriptor is on, as in mountinfo; -1: unknown. */
static gint64 mount_of(int fd)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fdinfo/%d", fd);
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, NULL))
        return -1;
    const char *line = strstr(text, "mnt_id:");
    return line ? g_ascii_strtoll(line + strlen("mnt_id:"), NULL, 10) : -1;
}

/* "ext4, /dev/sda1, on /": of one line of mountinfo. */
static char *describe_mount(const char *line)
{
    g_auto(GStrv) halves = g_strsplit(line, " - ", 2);
    if (g_strv_length(halves) != 2)
        return NULL;
    g_auto(GStrv) left = g_strsplit(halves[0], " ", -1);
    g_auto(GStrv) right = g_strsplit(halves[1], " ", -1);
    if (g_strv_length(left) < 5 || g_strv_length(right) < 2)
        return NULL;
    /* Spaces and the like are octal there. */
    g_autofree char *point = g_strcompress(left[4]), *source = g_strcompress(right[1]);
    return g_strdup_printf("%s of %s, mounted on %s", right[0], source, point);
}

static char *describe_mount_of(int fd)
{
    g_autofree char *all = NULL;
    gint64 mount = mount_of(fd);
    if (mount >= 0 && g_file_get_contents("/proc/self/mountinfo", &all, NULL, NULL)) {
        g_autofree char *begin = g_strdup_printf("%" G_GINT64_FORMAT " ", mount);
        g_auto(GStrv) lines = g_strsplit(all, "\n", -1);
        for (char **line = lines; *line; line++) {
            char *text = g_str_has_prefix(*line, begin) ? describe_mount(*line) : NULL;
            if (text)
                return text;
        }
    }
    return g_strdup("a file system that is not mounted any more");
}

/* What is mounted at `path`, or at what there is of it. */
static char *describe_place(const char *path)
{
    g_autofree char *at = g_canonicalize_filename(path, NULL);
    for (;;) {
        COLO_AUTO_FD fd = open(at, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0)
            return describe_mount_of(fd);
        if (!strcmp(at, "/"))
            return g_strdup("nothing that can be looked at");
        char *above = g_path_get_dirname(at);
        g_free(at);
        at = above;
    }
}

gint64 arbiter_mount_at(const char *dir)
{
    g_autofree char *path = g_canonicalize_filename(dir, NULL), *all = NULL;
    gint64 found = -1;
    gsize longest = 0;
    if (!g_file_get_contents("/proc/self/mountinfo", &all, NULL, NULL))
        return -1;
    g_auto(GStrv) lines = g_strsplit(all, "\n", -1);
    for (char **line = lines; *line; line++) {
        g_auto(GStrv) words = g_strsplit(*line, " ", 6);
        if (g_strv_length(words) < 6)
            continue;
        g_autofree char *point = g_strcompress(words[4]);
        gsize len = strcmp(point, "/") ? strlen(point) : 0;
        /* Of those at one place the last one is on top. */
        if (len < longest || strncmp(path, point, len) != 0 || (path[len] && path[len] != '/'))
            continue;
        longest = len;
        found = g_ascii_strtoll(words[0], NULL, 10);
    }
    return found;
}

/* ---- Errors ---- */

G_GNUC_PRINTF(3, 4)
static gboolean refuse(GError **error, ArbiterError code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    g_set_error(error, ARBITER_ERROR, code, "arbiter: %s", text);
    return FALSE;
}

gboolean arbiter_fail(const Question *question, const char *what, const char *name, GError **error)
{
    int code = errno;
    return refuse(error, ARBITER_ERROR_ASK, "can't %s %s/%s: %s (%s)", what, question->dir, name,
                  g_strerror(code), ARBITER_WAY_OUT);
}

/* ---- Files ---- */

gboolean arbiter_sync_folder(const Question *question, GError **error)
{
    return fsync(question->fd) == 0 || arbiter_fail(question, "sync", "", error);
}

static gboolean write_text(int fd, const char *text)
{
    for (gsize done = 0, len = strlen(text); done < len;) {
        ssize_t put = write(fd, text + done, len - done);
        if (put < 0 && errno != EINTR)
            return FALSE;
        done += (gsize)MAX(put, 0);
    }
    return TRUE;
}

gboolean arbiter_write_new_file(const Question *question, const char *name, const char *text,
                                GError **error)
{
    COLO_AUTO_FD fd =
        openat(question->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return arbiter_fail(question, "make", name, error);
    if (!write_text(fd, text))
        return arbiter_fail(question, "write", name, error);
    if (fsync(fd) < 0)
        return arbiter_fail(question, "sync", name, error);
    /* On NFS, errors of delayed writing come here at the latest. */
    if (close(colo_fd_steal(&fd)) < 0)
        return arbiter_fail(question, "close", name, error);
    return TRUE;
}

gboolean arbiter_read_text(const Question *question, int fd, const char *name,
                           char text[ARBITER_TEXT_MAX_BYTES + 1], gsize *ret_len, GError **error)
{
    gsize len = 0;
    ssize_t got;
    struct stat st;
    if (fstat(fd, &st) < 0)
        return arbiter_fail(question, "look at", name, error);
    if (!S_ISREG(st.st_mode)) {
        errno = EINVAL;
        return arbiter_fail(question, "read what should be a file,", name, error);
    }
    do {
        got = read(fd, text + len, ARBITER_TEXT_MAX_BYTES - len);
        if (got < 0 && errno != EINTR)
            return arbiter_fail(question, "read", name, error);
        len += (gsize)MAX(got, 0);
    } while (got != 0 && len < ARBITER_TEXT_MAX_BYTES);
    text[len] = '\0';
    *ret_len = len;
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
char *arbiter_draft_name(const Question *question)
{
    static gint counter;
    return g_strdup_printf(".%s.%s.%s.%s.%d.draft", question->uuid, question->session,
                           question->who, instance(), g_atomic_int_add(&counter, 1));
}

static gboolean is_leftover(const char *name, const Question *question)
{
    g_auto(GStrv) parts = g_strsplit(name, ".", -1);
    return g_strv_length(parts) == 7 && !*parts[0] && !strcmp(parts[1], question->uuid) &&
           !strcmp(parts[3], question->who) && strcmp(parts[4], instance()) != 0 &&
           !strcmp(parts[6], "draft");
}

static struct dirent *next_entry(DIR *dir)
{
    errno = 0;
    return readdir(dir);
}

gboolean arbiter_remove_leftovers(const Question *question, GError **error)
{
    gboolean removed = TRUE;
    int fd = openat(question->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        arbiter_fail(question, "read", "", error);
        colo_fd_close(&fd);
        return FALSE;
    }
    struct dirent *entry;
    while (removed && (entry = next_entry(dir)))
        if (is_leftover(entry->d_name, question) && unlinkat(fd, entry->d_name, 0) < 0 &&
            errno != ENOENT)
            removed = arbiter_fail(question, "remove", entry->d_name, error);
    if (removed && errno)
        removed = arbiter_fail(question, "read", "", error);
    closedir(dir);
    return removed;
}

/* ---- The folder's name ---- */

static gboolean is_id(const char *text)
{
    return strlen(text) == ARBITER_ID_CHARS && strspn(text, "0123456789abcdef") == ARBITER_ID_CHARS;
}

/* FALSE with an error if it is unknown; FALSE without one if the folder has no name. */
static gboolean read_id(const Question *question, char **ret_id, GError **error)
{
    char text[ARBITER_TEXT_MAX_BYTES + 1];
    gsize len = 0;
    COLO_AUTO_FD fd =
        openat(question->fd, FOLDER_ID, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? FALSE : arbiter_fail(question, "open", FOLDER_ID, error);
    if (!arbiter_read_text(question, fd, FOLDER_ID, text, &len, error))
        return FALSE;
    g_strchomp(text);
    if (!is_id(text))
        return refuse(error, ARBITER_ERROR_FOLDER,
                      "%s/" FOLDER_ID " is not the name of a folder (if both hosts see this "
                      "folder, and nothing runs, remove it and run: colo arbiter init %s)",
                      question->dir, question->dir);
    *ret_id = g_strdup(text);
    return TRUE;
}

static gboolean is_the_folder(Question *question, GError **error)
{
    g_autoptr(GError) reading = NULL;
    g_autofree char *id = NULL;
    if (!read_id(question, &id, &reading)) {
        g_autofree char *mount = describe_mount_of(question->fd);
        if (reading) {
            g_propagate_error(error, g_steal_pointer(&reading));
            return FALSE;
        }
        if (question->expected)
            return refuse(error, ARBITER_ERROR_FOLDER,
                          "%s has no name (" FOLDER_ID
                          "), so it is not the folder %s of this pair. "
                          "What is there is %s: is the shared storage mounted?",
                          question->dir, question->expected, mount);
        return refuse(error, ARBITER_ERROR_FOLDER,
                      "%s has no name (" FOLDER_ID
                      "), so it is no arbiter. What is there is %s: is "
                      "the shared storage mounted? If so, make the name, once, on one host, on "
                      "storage that both hosts see: colo arbiter init %s",
                      question->dir, mount, question->dir);
    }
    if (question->expected && strcmp(id, question->expected) != 0) {
        g_autofree char *mount = describe_mount_of(question->fd);
        return refuse(error, ARBITER_ERROR_FOLDER,
                      "%s is the folder %s, and that of this pair is %s. What is there is %s: is "
                      "the right storage mounted? (To move a pair to another folder see colod(8), "
                      "THE ARBITER)",
                      question->dir, id, question->expected, mount);
    }
    g_free(question->found);
    question->found = g_steal_pointer(&id);
    return TRUE;
}

ArbiterAnswer arbiter_answer_in_folder(Question *question, GError **error)
{
    COLO_AUTO_FD fd = open(question->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        const char *why = g_strerror(errno);
        g_autofree char *mount = describe_place(question->dir);
        refuse(error, ARBITER_ERROR_ASK,
               "the folder %s can't be opened: %s. What is there is %s: %s", question->dir, why,
               mount, ARBITER_WAY_OUT);
        return ARBITER_UNKNOWN;
    }
    question->fd = fd;
    if (!is_the_folder(question, error))
        return ARBITER_UNKNOWN;
    g_autoptr(GError) why = NULL, gone = NULL;
    if (question->hook)
        question->hook(FALSE, question->hook_data);
    ArbiterAnswer answer = question->work(question, &why);
    if (question->hook)
        question->hook(TRUE, question->hook_data);
    if (!question->expected)
        question->expected = g_strdup(question->found);
    if (answer != ARBITER_UNKNOWN && !is_the_folder(question, &gone)) {
        g_propagate_error(error, g_steal_pointer(&gone));
        return ARBITER_UNKNOWN;
    }
    if (why)
        g_propagate_error(error, g_steal_pointer(&why));
    return answer;
}

/* ---- Looking, and making the name ---- */

/* Does there what a question will do: root is let in by access() where writing isn't possible. */
static gboolean try_folder(const Question *question, GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_autofree char *first = g_strdup_printf(".probe.%s.%08x", instance(), g_random_int());
    g_autofree char *second = g_strconcat(first, ".2", NULL);
    gboolean made = arbiter_write_new_file(question, first, "probe\n", &cause);
    int result = made ? linkat(question->fd, first, question->fd, second, 0) : 0;
    int code = errno;
    (void)unlinkat(question->fd, first, 0);
    (void)unlinkat(question->fd, second, 0);
    if (!made)
        return refuse(error, ARBITER_ERROR_FOLDER, "the directory %s can't be written to: %s",
                      question->dir, cause->message);
    if (result < 0)
        return refuse(error, ARBITER_ERROR_FOLDER,
                      "%s: its file system has no hard links (%s); use one that has: a local one "
                      "that is exported by NFS, a cluster file system",
                      question->dir, g_strerror(code));
    return TRUE;
}

/* Could a decision be written? Nothing is written for it. */
static gboolean has_room(const Question *question, GError **error)
{
    struct statvfs fs;
    if (fstatvfs(question->fd, &fs) < 0)
        return arbiter_fail(question, "look at", "", error);
    if (fs.f_flag & ST_RDONLY)
        return refuse(error, ARBITER_ERROR_ASK, "%s is on a read-only file system", question->dir);
    if ((fs.f_blocks > 0 && fs.f_bfree == 0) || (fs.f_files > 0 && fs.f_ffree == 0))
        return refuse(error, ARBITER_ERROR_ASK, "the file system of %s is full", question->dir);
    return TRUE;
}

ArbiterAnswer arbiter_look_around(const Question *question, GError **error)
{
    gboolean good = question->writes ? try_folder(question, error) : has_room(question, error);
    return good ? ARBITER_GRANTED : ARBITER_UNKNOWN;
}

static gboolean make_id(const Question *question, char **ret_id, GError **error)
{
    g_autofree char *draft = g_strdup_printf(".%s.%s", FOLDER_ID, instance());
    g_autofree char *id = g_strdup_printf("%08x%08x", g_random_int(), g_random_int());
    g_autofree char *text = g_strdup_printf("%s\n", id);
    gboolean made = arbiter_write_new_file(question, draft, text, error);
    /* Of two that make it at once one has made it. */
    if (made && linkat(question->fd, draft, question->fd, FOLDER_ID, 0) < 0)
        made = arbiter_fail(question, "make", FOLDER_ID, error);
    (void)unlinkat(question->fd, draft, 0);
    if (!made || !arbiter_sync_folder(question, error))
        return FALSE;
    *ret_id = g_steal_pointer(&id);
    return TRUE;
}

gboolean arbiter_init_folder(const char *dir, char **ret_id, char **ret_mount, GError **error)
{
    g_autofree char *there = NULL;
    COLO_AUTO_FD fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        const char *why = g_strerror(errno);
        g_autofree char *mount = describe_place(dir);
        return refuse(error, ARBITER_ERROR_FOLDER,
                      "%s: %s (it has to be a directory that both hosts see; what is there is %s)",
                      dir, why, mount);
    }
    Question question = {.dir = (char *)dir, .fd = fd};
    g_autoptr(GError) reading = NULL;
    g_autofree char *mount = describe_mount_of(fd);
    if (read_id(&question, &there, &reading))
        return refuse(
            error, ARBITER_ERROR_EXISTS,
            "%s is an arbiter's folder already, named %s (on %s): nothing was changed, and "
            "nothing has to be",
            dir, there, mount);
    if (reading) {
        g_propagate_error(error, g_steal_pointer(&reading));
        return FALSE;
    }
    if (!try_folder(&question, error) || !make_id(&question, ret_id, error))
        return FALSE;
    *ret_mount = g_steal_pointer(&mount);
    return TRUE;
}

/* ---- The pin ---- */

char *arbiter_read_pin(const char *state_dir, GError **error)
{
    g_autoptr(GError) reading = NULL;
    g_autofree char *path = g_build_filename(state_dir, PIN, NULL);
    g_autofree char *text = NULL;
    if (!g_file_get_contents(path, &text, NULL, &reading)) {
        if (!g_error_matches(reading, G_FILE_ERROR, G_FILE_ERROR_NOENT))
            refuse(error, ARBITER_ERROR_FOLDER, "%s", reading->message);
        return NULL;
    }
    g_strchomp(text);
    const char *id = g_str_has_prefix(text, PIN_LINE) ? text + strlen(PIN_LINE) : "";
    if (is_id(id))
        return g_strdup(id);
    refuse(error, ARBITER_ERROR_FOLDER,
           "%s does not name an arbiter's folder (see colod(8), THE ARBITER)", path);
    return NULL;
}

ArbiterAnswer arbiter_write_pin(const Question *question, GError **error)
{
    g_autofree char *text = g_strdup_printf(PIN_LINE "%s\n", question->expected);
    g_autofree char *path = g_build_filename(question->state_dir, PIN, NULL);
    g_autoptr(GError) cause = NULL;
    COLO_AUTO_FD dir = open(question->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (g_file_set_contents_full(path, text, -1,
                                 G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0600,
                                 &cause) &&
        dir >= 0 && fsync(dir) == 0)
        return ARBITER_GRANTED;
    refuse(error, ARBITER_ERROR_FOLDER, "%s can't be written: %s", path,
           cause ? cause->message : g_strerror(errno));
    return ARBITER_UNKNOWN;
}
