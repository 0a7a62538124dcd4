/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/copy-next.h"

#define TO(condition) (1u << (condition))

static const guint may_become[COPY_CONDITIONS] = {
    [COPY_EMPTY] = TO(COPY_APPLYING),
    [COPY_APPLYING] = TO(COPY_STANDBY) | TO(COPY_TO_LOAD),
    [COPY_STANDBY] = TO(COPY_APPLYING) | TO(COPY_TO_LOAD),
    [COPY_TO_LOAD] = TO(COPY_LOADING),
    [COPY_LOADING] = TO(COPY_STANDBY) | TO(COPY_PAUSED) | TO(COPY_INVALID),
    [COPY_PAUSED] = TO(COPY_RUNNING) | TO(COPY_APPLYING) | TO(COPY_INVALID),
    [COPY_RUNNING] = TO(COPY_PAUSED) | TO(COPY_STALLED) | TO(COPY_STANDBY) | TO(COPY_INVALID),
    [COPY_STALLED] = TO(COPY_APPLYING) | TO(COPY_INVALID),
    [COPY_INVALID] = TO(COPY_APPLYING),
};

gboolean copy_may_become(CopyCondition from, CopyCondition to)
{
    g_assert((guint)from < COPY_CONDITIONS && (guint)to < COPY_CONDITIONS);
    return to == COPY_EMPTY || to == from || (may_become[from] & TO(to)) != 0;
}

gboolean copy_job_may(CopyJob from, CopyJob to)
{
    static const guint may[COPY_JOBS] = {
        [COPY_NOTHING] = TO(COPY_CHECK) | TO(COPY_PAUSE) | TO(COPY_BEGIN) | TO(COPY_LOOK) |
                         TO(COPY_KEEP) | TO(COPY_RESUME) | TO(COPY_INACTIVATE) | TO(COPY_TELL_FIT) |
                         TO(COPY_GIVE_UP),
        [COPY_KEEP] = TO(COPY_LOAD),
        [COPY_LOAD] = TO(COPY_REPAIR),
    };
    g_assert((guint)from < COPY_JOBS && (guint)to < COPY_JOBS);
    return to == COPY_NOTHING || (may[from] & TO(to)) != 0;
}

gboolean copy_session_may(CopySession from, CopySession to)
{
    static const CopySession next[COPY_SESSIONS] = {
        [COPY_NO_SESSION] = COPY_SESSION_DUE, [COPY_SESSION_DUE] = COPY_SESSION};
    return to == COPY_NO_SESSION || to == next[from];
}

gboolean copy_prepare_may(CopyPrepare from, CopyPrepare to)
{
    static const CopyPrepare next[COPY_PREPARES] = {
        [COPY_NOT_ASKED] = COPY_PREPARE_DUE, [COPY_PREPARE_DUE] = COPY_TELLING};
    return to == COPY_NOT_ASKED || to == next[from];
}

gboolean copy_fit_may(CopyFit from, CopyFit to)
{
    return to != COPY_FIT_CHECKED || from == COPY_FIT_DUE;
}

gboolean copy_is_loaded(CopyCondition condition)
{
    return condition == COPY_PAUSED || condition == COPY_RUNNING || condition == COPY_STALLED;
}

gboolean copy_may_load(CopyDuty duty)
{
    return duty != COPY_HOLD && duty != COPY_FREEZE;
}

gboolean copy_is_to_load(CopyDuty duty, gboolean to_run)
{
    return duty == COPY_JOIN || (to_run && (duty == COPY_PROTECT || duty == COPY_HAND_OVER));
}

CopyLoaded copy_loaded(CopyDuty duty, gboolean wrong)
{
    if (duty == COPY_JOIN)
        return COPY_LOADED_PROVEN;
    /* What the load of a takeover writes to is restored, if it is seen. Else there is no remedy. */
    if (wrong && duty != COPY_TAKE_OVER)
        return COPY_LOADED_INVALID;
    return duty == COPY_PROTECT ? COPY_LOADED_RUN : COPY_LOADED_PAUSED;
}

gboolean copy_is_fit(CopyCondition condition, gboolean to_run)
{
    return copy_is_loaded(condition) || (condition == COPY_STANDBY && !to_run);
}

gboolean copy_is_to_keep(CopyDuty duty)
{
    return duty == COPY_HOLD || duty == COPY_FREEZE || duty == COPY_TAKE_OVER;
}

static CopyJob next_of_takeover(const CopyFacts *facts)
{
    /* Settled, it is applied; and a load that is under way ends. */
    if (!facts->settled || facts->condition == COPY_APPLYING || facts->condition == COPY_LOADING)
        return COPY_NOTHING;
    if (facts->condition == COPY_INVALID || facts->condition == COPY_EMPTY)
        return COPY_GIVE_UP;
    gboolean here = copy_is_loaded(facts->condition);
    if (facts->running && (!here || facts->disks != COPY_DISKS_THERE))
        return COPY_PAUSE;
    if (facts->disks != COPY_DISKS_THERE)
        return facts->disks == COPY_DISKS_DUE ? COPY_INACTIVATE : COPY_NOTHING;
    return here ? COPY_RESUME : COPY_KEEP;
}

static gboolean is_fit_asked(const CopyFacts *facts)
{
    return facts->duty == COPY_HAND_OVER && facts->fit != COPY_FIT_UNASKED;
}

static gboolean is_to_pause(const CopyFacts *facts)
{
    return facts->session != COPY_SESSION || facts->condition != COPY_RUNNING ||
           facts->prepare != COPY_NOT_ASKED || is_fit_asked(facts) || facts->duty == COPY_FREEZE;
}

CopyJob copy_next(const CopyFacts *facts)
{
    if (facts->job != COPY_NOTHING || facts->duty == COPY_UNUSED)
        return COPY_NOTHING;
    if (facts->refused)
        /* Its output doesn't leave: it must not give its clients up meanwhile. */
        return facts->running ? COPY_PAUSE : COPY_NOTHING;
    if (facts->duty == COPY_TAKE_OVER)
        return next_of_takeover(facts);
    if (facts->running)
        return is_to_pause(facts) ? COPY_PAUSE : COPY_NOTHING;
    if (facts->session == COPY_SESSION_DUE)
        return facts->check_due ? COPY_CHECK : COPY_BEGIN;
    if (facts->disks == COPY_DISKS_DUE)
        return COPY_INACTIVATE;
    if (facts->condition == COPY_TO_LOAD && copy_may_load(facts->duty))
        return facts->disks == COPY_DISKS_THERE ? COPY_KEEP : COPY_NOTHING;
    if (facts->check_due)
        return COPY_CHECK;
    if (facts->prepare == COPY_PREPARE_DUE && facts->condition != COPY_APPLYING)
        return COPY_LOOK;
    if (!is_fit_asked(facts) || facts->condition == COPY_APPLYING ||
        facts->disks != COPY_DISKS_THERE)
        return COPY_NOTHING;
    return facts->fit == COPY_FIT_DUE ? COPY_CHECK : COPY_TELL_FIT;
}

const char *copy_condition_name(CopyCondition condition)
{
    static const char *const names[COPY_CONDITIONS] = {
        [COPY_EMPTY] = "empty",     [COPY_APPLYING] = "applying", [COPY_STANDBY] = "standby",
        [COPY_TO_LOAD] = "to-load", [COPY_LOADING] = "loading",   [COPY_PAUSED] = "paused",
        [COPY_RUNNING] = "running", [COPY_STALLED] = "stalled",   [COPY_INVALID] = "invalid",
    };
    return names[condition];
}

const char *copy_job_name(CopyJob job)
{
    static const char *const names[COPY_JOBS] = {
        [COPY_NOTHING] = "nothing",   [COPY_CHECK] = "check",
        [COPY_PAUSE] = "pause",       [COPY_BEGIN] = "begin",
        [COPY_LOOK] = "look",         [COPY_KEEP] = "keep",
        [COPY_LOAD] = "load",         [COPY_REPAIR] = "repair",
        [COPY_RESUME] = "resume",     [COPY_INACTIVATE] = "inactivate",
        [COPY_TELL_FIT] = "tell-fit", [COPY_GIVE_UP] = "give-up",
    };
    return names[job];
}

const char *copy_session_name(CopySession session)
{
    static const char *const names[COPY_SESSIONS] = {
        [COPY_NO_SESSION] = "none", [COPY_SESSION_DUE] = "due", [COPY_SESSION] = "begun"};
    return names[session];
}

const char *copy_prepare_name(CopyPrepare prepare)
{
    static const char *const names[COPY_PREPARES] = {
        [COPY_NOT_ASKED] = "not-asked", [COPY_PREPARE_DUE] = "due", [COPY_TELLING] = "telling"};
    return names[prepare];
}

const char *copy_fit_name(CopyFit fit)
{
    static const char *const names[COPY_FITS] = {
        [COPY_FIT_UNASKED] = "unasked", [COPY_FIT_DUE] = "due", [COPY_FIT_CHECKED] = "checked"};
    return names[fit];
}
