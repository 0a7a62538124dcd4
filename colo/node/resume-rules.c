/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/resume-rules.h"

#define TO(phase)                                                                                  \
    {                                                                                              \
        TRUE, RESUME_##phase                                                                       \
    }
/* What may come at any time, and means nothing to a try. */
#define STAYS(phase)                                                                               \
    [RESUME_EVENT_COPY_REFUSED] = TO(phase), [RESUME_EVENT_SESSION_OVER] = TO(phase)
#define FORGET  [RESUME_EVENT_FORGET] = TO(NOTHING)
#define NO_RUNS [RESUME_EVENT_REFUSED] = TO(WAITING), [RESUME_EVENT_FAILED] = TO(NOTHING)

/* clang-format off */
static const ResumeStep table[RESUME_PHASES][RESUME_EVENTS] = {
    /* The disks of a VM that was forgotten may still ask. */
    [RESUME_NOTHING] = {
        FORGET,
        [RESUME_EVENT_BEGIN]        = TO(TRYING),
        [RESUME_EVENT_RUN]          = TO(NOTHING),
        [RESUME_EVENT_KEEP]         = TO(NOTHING),
        [RESUME_EVENT_COPY_REFUSED] = TO(COPY_WAITS),
        [RESUME_EVENT_SESSION_OVER] = TO(NOTHING),
    },
    [RESUME_TRYING] = {
        STAYS(TRYING), NO_RUNS, FORGET,
        [RESUME_EVENT_RUN]          = TO(RUNNING),
        [RESUME_EVENT_KEEP]         = TO(TRYING),
        [RESUME_EVENT_DONE]         = TO(UNHEARD_STOPPED),
    },
    [RESUME_RUNNING] = {
        STAYS(RUNNING), NO_RUNS, FORGET,
        [RESUME_EVENT_DONE]         = TO(UNHEARD),
    },
    [RESUME_UNHEARD] = {
        STAYS(UNHEARD), FORGET,
        [RESUME_EVENT_HEARD]        = TO(NOTHING),
    },
    [RESUME_UNHEARD_STOPPED] = {
        STAYS(UNHEARD_STOPPED), FORGET,
        [RESUME_EVENT_HEARD]        = TO(NOTHING),
    },
    [RESUME_WAITING] = {
        STAYS(WAITING), FORGET,
        [RESUME_EVENT_AGAIN]        = TO(TRYING),
        [RESUME_EVENT_NEED_NOT]     = TO(NOTHING),
        [RESUME_EVENT_GIVE_UP]      = TO(NOTHING),
    },
    /* A try takes its place: that waits on its own if it is refused. */
    [RESUME_COPY_WAITS] = {
        FORGET,
        [RESUME_EVENT_BEGIN]        = TO(TRYING),
        [RESUME_EVENT_RUN]          = TO(COPY_WAITS),
        [RESUME_EVENT_KEEP]         = TO(COPY_WAITS),
        [RESUME_EVENT_COPY_REFUSED] = TO(COPY_WAITS),
        [RESUME_EVENT_AGAIN]        = TO(NOTHING),
        [RESUME_EVENT_SESSION_OVER] = TO(NOTHING),
    },
};
/* clang-format on */

ResumeStep resume_step(ResumePhase phase, ResumeEvent event)
{
    g_assert((guint)phase < RESUME_PHASES && (guint)event < RESUME_EVENTS);
    return table[phase][event];
}

gboolean resume_has_try(ResumePhase phase)
{
    return phase != RESUME_NOTHING && phase != RESUME_COPY_WAITS;
}

gboolean resume_is_trying(ResumePhase phase)
{
    return phase == RESUME_TRYING || phase == RESUME_RUNNING;
}

gboolean resume_is_unheard(ResumePhase phase)
{
    return phase == RESUME_UNHEARD || phase == RESUME_UNHEARD_STOPPED;
}

gboolean resume_waits(ResumePhase phase)
{
    return phase == RESUME_WAITING || phase == RESUME_COPY_WAITS;
}

gboolean resume_runs(ResumePhase phase)
{
    return phase == RESUME_RUNNING || phase == RESUME_UNHEARD;
}

const char *resume_phase_name(ResumePhase phase)
{
    static const char *const names[RESUME_PHASES] = {
        [RESUME_NOTHING] = "nothing",
        [RESUME_TRYING] = "trying",
        [RESUME_RUNNING] = "running",
        [RESUME_UNHEARD] = "unheard",
        [RESUME_UNHEARD_STOPPED] = "unheard-stopped",
        [RESUME_WAITING] = "waiting",
        [RESUME_COPY_WAITS] = "copy-waits",
    };
    return names[phase];
}

const char *resume_event_name(ResumeEvent event)
{
    static const char *const names[RESUME_EVENTS] = {
        [RESUME_EVENT_BEGIN] = "begin",     [RESUME_EVENT_RUN] = "run",
        [RESUME_EVENT_KEEP] = "keep",       [RESUME_EVENT_DONE] = "done",
        [RESUME_EVENT_REFUSED] = "refused", [RESUME_EVENT_FAILED] = "failed",
        [RESUME_EVENT_HEARD] = "heard",     [RESUME_EVENT_COPY_REFUSED] = "copy-refused",
        [RESUME_EVENT_AGAIN] = "again",     [RESUME_EVENT_NEED_NOT] = "need-not",
        [RESUME_EVENT_GIVE_UP] = "give-up", [RESUME_EVENT_SESSION_OVER] = "session-over",
        [RESUME_EVENT_FORGET] = "forget",
    };
    return names[event];
}
