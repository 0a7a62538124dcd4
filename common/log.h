/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Logging, on GLib's structured log: one line per transition and per checkpoint, each with vm= and
 * epoch=. On a terminal: local time, level, message. Otherwise journald-friendly: "<N>message" with
 * no time. Only colo/ logs; the engines return errors.
 */
#ifndef COLO_COMMON_LOG_H
#define COLO_COMMON_LOG_H

#include <glib.h>

typedef enum { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG } LogLevel;

/* Installs the writer. `vm` (copied) appears in each line; lines below `level` are left out. */
void log_init(const char *vm, LogLevel level);
void log_set_level(LogLevel level);
/* The epoch shown in the lines that follow. */
void log_set_epoch(guint64 epoch);

void log_error(const char *format, ...) G_GNUC_PRINTF(1, 2);
void log_warning(const char *format, ...) G_GNUC_PRINTF(1, 2);
void log_info(const char *format, ...) G_GNUC_PRINTF(1, 2);
void log_debug(const char *format, ...) G_GNUC_PRINTF(1, 2);

#endif
