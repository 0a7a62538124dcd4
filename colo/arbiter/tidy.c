/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Old decisions are removed, so that a folder does not fill over the years.
 *
 * Which of them can still be asked for? The two nodes that were protected in a session ask for its
 * decision while they are in doubt. So does a node that starts, if the session is the one on
 * record. The primary has a new session on record before it is protected in that; its secondary was
 * in no doubt when it sent BLANK for it. So from then on no node asks for an earlier one. One case
 * is left: a second process of a node's name that nobody knows of, on a host that was replaced
 * while it was stopped. It would get a yes for a decision that is gone. So the decisions of the
 * last KEPT lost peers stay. A host may be stopped for longer than that: then who replaces it has
 * to make sure that it is dead.
 */
#include "colo/arbiter/arbiter_internal.h"

#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"

#define SESSION_CHARS 32u

typedef struct {
    char *name;
    struct timespec made; /* all by the storage's clock */
} Decision;

static void decision_clear(gpointer data)
{
    g_free(((Decision *)data)->name);
}

/* UUID.SESSION, of this VM and of another session. */
static gboolean is_other_decision(const Question *question, const char *name)
{
    gsize uuid = strlen(question->uuid);
    const char *session = name + uuid + 1;
    return !strncmp(name, question->uuid, uuid) && name[uuid] == '.' &&
           strlen(session) == SESSION_CHARS &&
           strspn(session, "0123456789abcdef") == SESSION_CHARS &&
           strcmp(session, question->session) != 0;
}

static gint newest_first(gconstpointer a, gconstpointer b)
{
    const struct timespec *one = &((const Decision *)a)->made,
                          *other = &((const Decision *)b)->made;
    if (one->tv_sec != other->tv_sec)
        return one->tv_sec > other->tv_sec ? -1 : 1;
    return one->tv_nsec > other->tv_nsec ? -1 : one->tv_nsec < other->tv_nsec;
}

static ArbiterAnswer tidy(const Question *question, GError **error)
{
    int fd = openat(question->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
    if (!dir) {
        arbiter_fail(question, "read", ".", error);
        colo_fd_close(&fd);
        return ARBITER_UNKNOWN;
    }
    g_autoptr(GArray) decisions = g_array_new(FALSE, FALSE, sizeof(Decision));
    g_array_set_clear_func(decisions, decision_clear);
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        struct stat status;
        if (!is_other_decision(question, entry->d_name) ||
            fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        Decision decision = {.name = g_strdup(entry->d_name), .made = status.st_mtim};
        g_array_append_val(decisions, decision);
    }
    g_array_sort(decisions, newest_first);
    for (guint i = ARBITER_DECISIONS_KEPT; i < decisions->len; i++)
        (void)unlinkat(fd, g_array_index(decisions, Decision, i).name, 0);
    closedir(dir);
    return ARBITER_GRANTED;
}

void arbiter_tidy(Arbiter *arbiter, const char *uuid, const char *session, ArbiterFunc answer,
                  gpointer user_data)
{
    Question like = {.uuid = (char *)uuid,
                     .session = (char *)session,
                     .work = tidy,
                     .in_turn = TRUE,
                     .answer = answer,
                     .user_data = user_data};
    arbiter_question(arbiter, &like);
}
