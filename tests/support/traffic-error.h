/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What clients of the test guest say of answers; that a connection broke is a G_FILE_ERROR. */
#ifndef COLO_TESTS_SUPPORT_TRAFFIC_ERROR_H
#define COLO_TESTS_SUPPORT_TRAFFIC_ERROR_H

#include <glib.h>

/* g_quark_from_static_string() takes the same text for the same quark anywhere. */
#define TRAFFIC_ERROR g_quark_from_static_string("colo-traffic-error")

typedef enum {
    TRAFFIC_ERROR_WRONG /* an answer that is not what it should be */
} TrafficError;

#endif
