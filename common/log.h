/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Logging, on GLib's structured log: one line per transition and per checkpoint, each with vm= and
 * epoch=. On a terminal: local time, level, message. Otherwise journald-friendly: "<N>message" with
 * no time. Only colo/ logs; the engines return errors.
 */
#ifndef COLO_COMMON_LOG_H
#define COLO_COMMON_LOG_H

#include <glib.h>

/* Installs the writer. `vm` (copied) appears in each line; level is a name of colo/config/config.h. */
void log_init(const char *vm, const char *level);
gboolean log_set_level(const char *level);
/* The epoch shown in the lines that follow. */
void log_set_epoch(guint64 epoch);

void log_error(const char *format, ...) G_GNUC_PRINTF(1, 2);
void log_warning(const char *format, ...) G_GNUC_PRINTF(1, 2);
void log_info(const char *format, ...) G_GNUC_PRINTF(1, 2);
void log_debug(const char *format, ...) G_GNUC_PRINTF(1, 2);

#endif
