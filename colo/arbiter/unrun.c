/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a node has not run. A secondary notes in its state folder: "the VM of session s has not run
 * here so that anybody heard it". It removes that before a takeover lets the first frame out. So one that
 * has won s, died as it took over, and starts again knows that the VM is still its primary's, and
 * gives s back (owner.c). A VM with disks needs no note: its images tell the same.
 *
 * The note says what has not happened, and not what has. So all that may be wrong with a state folder
 * is on the safe side: a note that could not be written, is gone, or is an old one of another session
 * says nothing, and the winner counts. And to remove it needs no room on storage that is full. Only one
 * of that very session that comes back from a backup is wrong, until the record names this node alone.
 */
#include "colo/arbiter/arbiter_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"

#define NOTE      "unrun"
#define NOTE_LINE "colo unrun 1\nsession "

static gboolean fail(const char *path, const char *why, GError **error)
{
    g_set_error(error, ARBITER_ERROR, ARBITER_ERROR_STATE, "%s: %s", path, why);
    return FALSE;
}

static gboolean sync_folder(const char *dir, GError **error)
{
    COLO_AUTO_FD fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return (fd >= 0 && fsync(fd) == 0) || fail(dir, g_strerror(errno), error);
}

gboolean arbiter_read_unrun(const char *state_dir, char **ret_session, GError **error)
{
    g_autoptr(GError) reading = NULL;
    g_autofree char *text = NULL, *path = NULL;
    *ret_session = NULL;
    if (!state_dir)
        return TRUE;
    path = g_build_filename(state_dir, NOTE, NULL);
    if (!g_file_get_contents(path, &text, NULL, &reading))
        return g_error_matches(reading, G_FILE_ERROR, G_FILE_ERROR_NOENT) ||
               fail(path, reading->message, error);
    g_strchomp(text);
    if (g_str_has_prefix(text, NOTE_LINE))
        *ret_session = g_strdup(text + strlen(NOTE_LINE));
    return TRUE;
}

/* The work of arbiter_note_unrun(). `to`: the session. */
ArbiterAnswer arbiter_write_unrun(const Question *question, GError **error)
{
    g_autoptr(GError) cause = NULL;
    g_autofree char *path = g_build_filename(question->state_dir, NOTE, NULL);
    gboolean done = TRUE;
    if (question->to) {
        g_autofree char *text = g_strdup_printf(NOTE_LINE "%s\n", question->to);
        done = g_file_set_contents_full(
                   path, text, -1, G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE,
                   0600, &cause) ||
               fail(path, cause->message, error);
    } else if (g_access(path, F_OK) < 0 && errno == ENOENT) {
        return ARBITER_GRANTED; /* also on storage that takes no changes */
    } else if (g_unlink(path) < 0) {
        done = fail(path, g_strerror(errno), error);
    }
    return done && sync_folder(question->state_dir, error) ? ARBITER_GRANTED : ARBITER_UNKNOWN;
}

void arbiter_note_unrun(Arbiter *arbiter, const char *session, ArbiterFunc answer,
                        gpointer user_data)
{
    Question like = {.to = (char *)session,
                     .work = arbiter_write_unrun,
                     .answer = answer,
                     .user_data = user_data};
    arbiter_question(arbiter, &like);
}
