/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What colo-compare prints: for each flow, for each difference, and at the end; as text or JSON. */
#ifndef COLO_COLO_CLI_COMPARE_REPORT_H
#define COLO_COLO_CLI_COMPARE_REPORT_H

#include "netcompare/compare.h"

typedef enum {
    REPORT_EQUAL,
    REPORT_DIFFERENT,
    REPORT_CUT_OFF, /* equal as far as can be seen: frames were cut when captured */
    REPORT_UNKNOWN, /* not compared to the end, for want of room */
} ReportVerdict;

/* "equal", "different", "cut-off", "unknown". */
const char *report_verdict_name(ReportVerdict verdict);

typedef struct {
    gboolean json, explain;
} ReportStyle;

/* `divergence` NULL: none. */
void report_flow(const ReportStyle *style, const CompareFlowInfo *info, ReportVerdict verdict,
                 const CompareDivergence *divergence);

typedef struct {
    ReportVerdict verdict;
    guint64 flows, by_verdict[REPORT_UNKNOWN + 1];
    guint64 verified_bytes, unseen_bytes, skipped_bytes;
    guint64 uncompared_frames;
    guint64 frames[2], cut_frames[2], unparsed_frames[2]; /* of the primary, of the secondary */
    gboolean cut_short[2];
} ReportSummary;

void report_summary(const ReportStyle *style, const ReportSummary *summary);

#endif
