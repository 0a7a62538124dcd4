#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The same as test-cut-points.sh with a secondary VM that waits.
export MODE=buffered
exec "$COLO_TESTS/vm/test-cut-points.sh"
