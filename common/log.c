/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One writer for our own lines and for GLib's, so that every line of a colod has the same form. A
 * message may quote QEMU or a peer: its control characters are escaped, so it stays one line. A
 * line is one write() to stderr; if that fails, the line is lost, and nothing else happens.
 */
#include "common/log.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *name;
    GLogLevelFlags flag;
    char priority; /* syslog's */
} levels[] = {
    [LOG_LEVEL_ERROR] = {"error",   G_LOG_LEVEL_CRITICAL, '3'},
    [LOG_LEVEL_WARNING] = {"warning", G_LOG_LEVEL_WARNING,  '4'},
    [LOG_LEVEL_INFO] = {"info",    G_LOG_LEVEL_INFO,     '6'},
    [LOG_LEVEL_DEBUG] = {"debug",   G_LOG_LEVEL_DEBUG,    '7'},
};

/* The level may be changed and read by any thread; `vm` is set once, before there are threads. */
static gint current_level = LOG_LEVEL_INFO;
static guint64 current_epoch;
static const char *current_vm;

void log_set_level(LogLevel level)
{
    g_atomic_int_set(&current_level, (gint)level);
}

void log_set_epoch(guint64 epoch)
{
    __atomic_store_n(&current_epoch, epoch, __ATOMIC_RELAXED);
}

/* GLib's levels in ours; errors (fatal) and criticals are both errors, messages are info. */
static gsize level_index(GLogLevelFlags flags)
{
    if (flags & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL))
        return LOG_LEVEL_ERROR;
    if (flags & G_LOG_LEVEL_WARNING)
        return LOG_LEVEL_WARNING;
    return flags & G_LOG_LEVEL_DEBUG ? LOG_LEVEL_DEBUG : LOG_LEVEL_INFO;
}

static void append_one_line(GString *line, const char *text, gssize len)
{
    const char *end = len < 0 ? text + strlen(text) : text + len;
    for (; text < end; text++) {
        guchar c = (guchar)*text;
        if (c == '\n')
            g_string_append(line, "\\n");
        else if (c < 0x20 || c == 0x7f)
            g_string_append_printf(line, "\\x%02x", c);
        else
            g_string_append_c(line, (gchar)c);
    }
}

static void append_header(GString *line, gsize level)
{
    if (!isatty(STDERR_FILENO)) {
        g_string_append_printf(line, "<%c>", levels[level].priority);
        return;
    }
    g_autoptr(GDateTime) now = g_date_time_new_now_local();
    g_autofree char *time = g_date_time_format(now, "%H:%M:%S");
    g_string_append_printf(line, "%s.%03d %-7s ", time, g_date_time_get_microsecond(now) / 1000,
                           levels[level].name);
}

static GLogWriterOutput write_line(GLogLevelFlags flags, const GLogField *fields, gsize n_fields,
                                   gpointer user_data)
{
    (void)user_data;
    gsize level = level_index(flags);
    if (level > (gsize)g_atomic_int_get(&current_level))
        return G_LOG_WRITER_HANDLED;
    g_autoptr(GString) line = g_string_new(NULL);
    append_header(line, level);
    if (current_vm)
        g_string_append_printf(line, "vm=%s epoch=%" G_GUINT64_FORMAT " ", current_vm,
                               __atomic_load_n(&current_epoch, __ATOMIC_RELAXED));
    for (gsize i = 0; i < n_fields; i++)
        if (!strcmp(fields[i].key, "MESSAGE"))
            append_one_line(line, fields[i].value, fields[i].length);
    g_string_append_c(line, '\n');
    ssize_t put;
    do {
        put = write(STDERR_FILENO, line->str, line->len);
    } while (put < 0 && errno == EINTR);
    return G_LOG_WRITER_HANDLED;
}

void log_init(const char *vm, LogLevel level)
{
    static gboolean installed;
    current_vm = g_intern_string(vm);
    log_set_level(level);
    if (!installed)
        g_log_set_writer_func(write_line, NULL, NULL);
    installed = TRUE;
}

static void log_valist(gsize level, const char *format, va_list args)
{
    if (level > (gsize)g_atomic_int_get(&current_level))
        return;
    g_autofree char *text = g_strdup_vprintf(format, args);
    const GLogField field = {.key = "MESSAGE", .value = text, .length = -1};
    g_log_structured_array(levels[level].flag, &field, 1);
}

#define DEFINE_LOG(name, level)                                                                    \
    void name(const char *format, ...)                                                             \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, format);                                                                    \
        log_valist(level, format, args);                                                           \
        va_end(args);                                                                              \
    }

DEFINE_LOG(log_error, LOG_LEVEL_ERROR)
DEFINE_LOG(log_warning, LOG_LEVEL_WARNING)
DEFINE_LOG(log_info, LOG_LEVEL_INFO)
DEFINE_LOG(log_debug, LOG_LEVEL_DEBUG)
