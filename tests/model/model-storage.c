/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is on the arbiter's storage: decisions, and the record of whose the VM is. */
#include "tests/model/model.h"

#include <string.h>

/* Says yes to one side of a session, ever. */
gboolean model_decide(Pair *pair, int i, guint8 session)
{
    if (!pair->granted[session])
        pair->granted[session] = (guint8)(1 + i);
    return pair->granted[session] == 1 + i;
}

static OwnerWho who(int i, guint8 side)
{
    return side == 0 ? OWNER_NOBODY : side == 1 + i ? OWNER_SELF : OWNER_OTHER;
}

OwnerFacts model_owner_facts(const Pair *pair, int i, const OnRecord *record)
{
    return (OwnerFacts){.rests = record->rests,
                        .has_session = record->session != 0,
                        .writer = who(i, record->writer),
                        .winner =
                            record->session ? who(i, pair->granted[record->session]) : OWNER_NOBODY,
                        .in_step = who(i, record->in_step)};
}

static gboolean is_named(const Pair *pair, guint8 session)
{
    if (pair->session == session || pair->record.session == session)
        return TRUE;
    for (int i = 0; i < 2; i++) {
        const Side *side = &pair->side[i];
        if (side->claim == session || side->flying == session || side->read.session == session ||
            side->record_session == session || memchr(side->writes, 1 + session, WRITES))
            return TRUE;
    }
    return FALSE;
}

/* A question whose answer changes nothing here counts only for what it does to storage. */
static void tidy_questions(Pair *pair, int i)
{
    Side *side = &pair->side[i];
    gboolean is_alone = fsm_is_primary(side->state) && !fsm_is_contested(side->state) &&
                        side->state != FSM_P_ASKING;
    gboolean is_empty = !fsm_is_primary(side->state) && side->copy == COPY_EMPTY;
    gboolean is_denied = side->claim && pair->granted[side->claim] == 2 - i;
    if (is_alone || side->state == FSM_S_DEVICE || (is_empty && is_denied)) {
        if (side->is_asked && !side->flying)
            side->flying = side->claim;
        side->is_asked = FALSE;
        if (side->flying && pair->granted[side->flying])
            side->flying = 0;
    }
    /* To give back what is the other's changes nothing. */
    side->may_have &= !is_denied;
    if (is_alone) {
        side->may_have = FALSE;
        side->claim = side->claim ? 1 : 0;
    }
    if (side->flying && side->flying != side->claim && pair->granted[side->flying])
        side->flying = 0;
    if (side->landing && (pair->granted[side->landing] == 2 - i || !is_named(pair, side->landing)))
        side->landing = 0;
}

void model_claim_tidy(Pair *pair)
{
    if (pair->has_arbiter)
        for (int i = 0; i < 2; i++)
            tidy_questions(pair, i);
    for (guint8 session = 1; session <= SESSIONS + RESTS; session++)
        if (pair->granted[session] && !is_named(pair, session))
            pair->granted[session] = 0;
}

/* Nobody runs the VM: it has a session that is not decided. */
void model_write_rest(Pair *pair, guint8 writer, guint8 in_step)
{
    guint8 session = SESSIONS + 1;
    while (is_named(pair, session))
        session++;
    EXPECT(pair, session <= SESSIONS + RESTS);
    pair->granted[session] = 0;
    pair->record =
        (OnRecord){.writer = writer, .session = session, .rests = TRUE, .in_step = in_step};
}

void model_give_back(Pair *pair, const OnRecord *record, const OwnerFacts *facts)
{
    model_write_rest(pair, record->writer, owner_keeps_in_step(facts) ? record->in_step : 0);
}
