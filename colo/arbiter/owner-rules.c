/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "colo/arbiter/owner-rules.h"

ArbiterAnswer owner_judge(const OwnerFacts *facts)
{
    if (!facts->has_session)
        return facts->writer == OWNER_SELF ? ARBITER_GRANTED : ARBITER_DENIED;
    if (facts->winner != OWNER_NOBODY)
        return facts->winner == OWNER_SELF ? ARBITER_GRANTED : ARBITER_DENIED;
    return facts->writer == OWNER_SELF || facts->rests ? ARBITER_OPEN : ARBITER_DENIED;
}

gboolean owner_is_asker(const OwnerFacts *facts)
{
    return owner_judge(facts) == ARBITER_GRANTED || !facts->rests;
}

/* One that waits may have what was given back; what was ended on purpose by others stays ended. */
static gboolean may_decide(const OwnerFacts *facts, ArbiterClaim claim)
{
    return claim != ARBITER_INHERIT || facts->writer == OWNER_SELF || facts->in_step == OWNER_SELF;
}

/* It died before it ran the VM: the writer may be there, and look at the decision. */
static gboolean is_returned(const OwnerFacts *facts)
{
    return owner_judge(facts) == ARBITER_GRANTED && facts->is_unrun && !facts->rests &&
           facts->writer == OWNER_OTHER;
}

static OwnerVerdict judge_unrecorded(ArbiterClaim claim, gboolean disks_are_good)
{
    if (claim == ARBITER_INHERIT || claim == ARBITER_RETURN)
        return OWNER_DENIES_UNRUN;
    return disks_are_good ? OWNER_WRITES : OWNER_DENIES_DISKS;
}

OwnerVerdict owner_judge_claim(const OwnerFacts *facts, ArbiterClaim claim, gboolean disks_are_good)
{
    if (!facts)
        return judge_unrecorded(claim, disks_are_good);
    if (claim == ARBITER_RETURN)
        return is_returned(facts) ? OWNER_RETURNS : OWNER_DENIES;
    switch (owner_judge(facts)) {
    case ARBITER_GRANTED:
        if (is_returned(facts))
            return OWNER_RETURNS;
        if (!disks_are_good)
            return OWNER_GIVES_BACK;
        /* If it can't run the VM now, that must not go back to the writer, whose disks are older. */
        return facts->writer == OWNER_OTHER && facts->is_newer ? OWNER_RECORDS : OWNER_GRANTS;
    case ARBITER_OPEN:
        if (!may_decide(facts, claim))
            return OWNER_DENIES_ENDED;
        if (!disks_are_good)
            return OWNER_DENIES_DISKS;
        return facts->rests || claim == ARBITER_CLAIM ? OWNER_DECIDES : OWNER_WAITS;
    default:
        return OWNER_DENIES;
    }
}

OwnerVerdict owner_judge_end(const OwnerFacts *facts, gboolean has_run)
{
    switch (owner_judge(facts)) {
    case ARBITER_GRANTED:
        if (has_run)
            return OWNER_RESTS;
        /* Of what it has won it has run nothing: the writer may hold the VM. */
        return !facts->rests && facts->writer == OWNER_OTHER ? OWNER_RETURNS : OWNER_GIVES_BACK;
    case ARBITER_OPEN:
        /* One that rests is nobody's already. */
        return facts->rests ? OWNER_GRANTS : OWNER_DECIDES;
    default:
        return OWNER_DENIES;
    }
}

gboolean owner_keeps_in_step(const OwnerFacts *facts)
{
    return facts->rests;
}
