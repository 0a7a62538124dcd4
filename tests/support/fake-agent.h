/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest agent without a guest: answers on a socket as qemu-ga does, from the main loop, or
 * answers badly. It knows guest-sync-delimited and guest-set-time.
 */
#ifndef COLO_TESTS_FAKE_AGENT_H
#define COLO_TESTS_FAKE_AGENT_H

#include <glib.h>

typedef enum {
    FAKE_AGENT_WELL,
    FAKE_AGENT_NO_ANSWER, /* reads, and says nothing */
    FAKE_AGENT_SLOW,      /* set-time: the same */
    FAKE_AGENT_REFUSES,   /* set-time: an error, of several lines and with control characters */
    FAKE_AGENT_GARBAGE,   /* set-time: no JSON */
    FAKE_AGENT_ENDLESS,   /* set-time: a line longer than is accepted */
} FakeAgentMood;

typedef struct {
    int fd;
    FakeAgentMood mood;
    guint syncs, set_times, others; /* requests that have come; others: that make no sense */
    gint64 time_ns, sync_id;        /* as told last */
    gboolean ended;                 /* end of file, or an error */
    GString *line;
    guint source;
} FakeAgent;

/* Borrows `fd`. */
FakeAgent *fake_agent_new(int fd);
void fake_agent_free(FakeAgent *agent);

/* Sends any bytes. */
void fake_agent_send(FakeAgent *agent, const char *bytes, gsize len);

#endif
