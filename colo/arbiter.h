/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The arbiter answers one question, asked once per lost peer: "may I go on alone?" For one session
 * (a pairing of two hosts) at most one side is ever told yes, however often and in whatever order
 * both ask. A side that has been told yes is told yes again.
 */
#ifndef COLO_COLO_ARBITER_H
#define COLO_COLO_ARBITER_H

#include <glib.h>

#define ARBITER_ERROR arbiter_error_quark()
GQuark arbiter_error_quark(void);

typedef enum {
    ARBITER_ERROR_CONFIG, /* unusable as configured: path missing, not writable, ... */
    ARBITER_ERROR_ASK,    /* the question could not be answered: nobody may go on because of it */
} ArbiterError;

typedef enum {
    ARBITER_GRANTED, /* go on alone */
    ARBITER_DENIED,  /* the other side goes on: stop */
    ARBITER_MANUAL,  /* there is no arbiter: an administrator must decide */
    ARBITER_UNKNOWN, /* could not be asked (error is set): hold everything, may be asked again */
} ArbiterAnswer;

typedef struct Arbiter Arbiter;

/* `type` is "none" or "file"; `path` (file) a directory that both hosts see. Checked here. */
Arbiter *arbiter_new(const char *type, const char *path, GError **error);
/* What both nodes must have in common: "none", or "file" and a name that the folder itself holds.
 */
const char *arbiter_identity(const Arbiter *arbiter);

void arbiter_free(Arbiter *arbiter);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Arbiter, arbiter_free)

/*
 * Asks for session `session` of VM `uuid` on behalf of `who` (a node's name, unique in the pair),
 * which goes on from `epoch`. The answer comes from the main loop (storage may hang: asked in a
 * thread). `error` is set for UNKNOWN only.
 */
void arbiter_ask(Arbiter *arbiter, const char *uuid, const char *session, const char *who,
                 guint64 epoch,
                 void (*answer)(ArbiterAnswer answer, const GError *error, gpointer user_data),
                 gpointer user_data);

#endif
