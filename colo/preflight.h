/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * colod --check-config: what would make a start fail, or a takeover, that the file alone doesn't
 * tell: this host is looked at. Nothing is changed on it, and a colod that runs isn't disturbed.
 */
#ifndef COLO_COLO_PREFLIGHT_H
#define COLO_COLO_PREFLIGHT_H

#include "colo/config/config.h"

/*
 * Runs all checks, or (`offline`) those that need no look at this host. Each problem is printed on
 * stderr, what is only worth knowing on stdout. FALSE if there is a problem.
 */
gboolean preflight(const Config *config, gboolean offline);

#endif
