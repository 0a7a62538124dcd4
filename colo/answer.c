/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/answer.h"

AnswerOwed answer_owed(const AnswerFacts *facts)
{
    gboolean owed = facts->prepares || facts->completes || facts->loads ||
                    facts->stream_under_way || facts->disks_under_way;
    if (!owed)
        return ANSWER_NOT_OWED;
    return facts->is_protected || (facts->disks_under_way && facts->writes_wait) ? ANSWER_OWED_SOON
                                                                                 : ANSWER_OWED;
}

const char *answer_what(const AnswerFacts *facts)
{
    return facts->prepares           ? "its VM has not stopped for a checkpoint"
           : facts->completes        ? "a checkpoint is not complete there"
           : facts->loads            ? "the VM's device state is not loaded there"
           : facts->stream_under_way ? "it does not take a checkpoint"
           : facts->disks_under_way  ? "it does not take what the guest writes to its disks"
                                     : "nothing is owed";
}

gboolean answer_step(AnswerWatch *watch, const AnswerFacts *facts, gint64 passed_us, gint64 soon_us,
                     gint64 limit_us)
{
    AnswerOwed owed = answer_owed(facts);
    gboolean progress =
        facts->messages != watch->messages || (facts->bytes != watch->bytes && !facts->prepares);
    if (owed == ANSWER_NOT_OWED || progress)
        watch->quiet_us = 0;
    else
        watch->quiet_us += passed_us;
    watch->messages = facts->messages;
    watch->bytes = facts->bytes;
    return watch->quiet_us >= (owed == ANSWER_OWED_SOON ? soon_us : limit_us);
}
