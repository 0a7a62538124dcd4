/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One TCP connection between a client and both VMs, for the tests of the comparator's rules. */
#ifndef COLO_TESTS_SUPPORT_COMPARE_TCP_H
#define COLO_TESTS_SUPPORT_COMPARE_TCP_H

#include "tests/support/compare_rig.h"

/* Initial sequence numbers: of the PVM, the SVM and the client. */
#define ISN_P 1000u
#define ISN_S 0x80000000u /* half the sequence space away */
#define ISN_C 5000u

enum { P, S }; /* whose frame it is */

/* `at`: the offset in the stream after the SYN; `acked`: bytes acknowledged. */
void send_from(Rig *rig, int side, guint8 flags, gint32 at, guint32 acked, const char *text);

/* A rig with the connection open on both sides. */
Rig *opened(void);

/* No divergence so far, and so many frames were released since the last time. */
void expect(Rig *rig, guint released);

#endif
