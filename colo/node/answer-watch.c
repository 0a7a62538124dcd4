/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/node/answer-watch.h"

static gboolean is_owed(const AnswerFacts *facts, Answer answer)
{
    switch (answer) {
    case ANSWER_BLANK:
        return facts->joins;
    case ANSWER_BASE:
        return facts->tells;
    case ANSWER_DIRTY:
        return facts->prepares;
    case ANSWER_RECEIVED:
        return facts->completes;
    case ANSWER_READY:
        return facts->loads;
    case ANSWER_STREAM:
        return facts->stream_under_way;
    case ANSWER_DISKS:
        return facts->disks_under_way;
    case ANSWERS:
        break;
    }
    g_assert_not_reached();
}

static guint64 progress_of(const AnswerFacts *facts, Answer answer)
{
    guint64 bytes = answer == ANSWER_BASE       ? facts->base_bytes
                    : answer == ANSWER_RECEIVED ? facts->checkpoint_bytes + facts->disks_bytes
                    : answer == ANSWER_STREAM   ? facts->stream_bytes
                    : answer == ANSWER_DISKS    ? facts->disks_bytes
                                                : 0;
    return facts->messages + bytes;
}

static gboolean is_waited_for(const AnswerFacts *facts, Answer answer)
{
    return facts->is_protected || (answer == ANSWER_DISKS && facts->writes_wait);
}

gboolean answer_step(AnswerWatch *watch, const AnswerFacts *facts, gint64 passed_us, gint64 soon_us,
                     gint64 limit_us, const char **ret_what)
{
    static const char *const what[ANSWERS] = {
        [ANSWER_BLANK] = "it does not make itself ready",
        [ANSWER_BASE] = "it does not tell what is in its memory",
        [ANSWER_DIRTY] = "its VM has not stopped for a checkpoint",
        [ANSWER_RECEIVED] = "a checkpoint is not complete there",
        [ANSWER_READY] = "the state of the VM's devices is not loaded there",
        [ANSWER_STREAM] = "it does not take a checkpoint",
        [ANSWER_DISKS] = "it does not take what the guest writes to its disks",
    };
    gboolean over = FALSE;
    for (Answer answer = 0; answer < ANSWERS; answer++) {
        guint64 progress = progress_of(facts, answer);
        gint64 *quiet_us = &watch->owed[answer].quiet_us;
        if (!is_owed(facts, answer) || progress != watch->owed[answer].progress)
            *quiet_us = 0;
        else
            *quiet_us += passed_us;
        watch->owed[answer].progress = progress;
        if (!over && *quiet_us >= (is_waited_for(facts, answer) ? soon_us : limit_us)) {
            over = TRUE;
            *ret_what = what[answer];
        }
    }
    return over;
}
