/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/fault.h"

#include <signal.h>
#include <string.h>

static const ColoFaultPoint points[] = {
    {"primary-sync-start",     "the secondary never held a checkpoint: it must not take over"            },
    {"primary-preparing",      "the secondary's VM continues where it was paused"                        },
    {"primary-paused",         "the secondary takes over from the checkpoint before"                     },
    {"primary-state-saved",    "the secondary takes over from the checkpoint before"                     },
    {"primary-disks-marked",   "the secondary drops the disks' checkpoint and takes over from the "
                             "checkpoint before"                             },
    {"primary-copied",         "the secondary takes over from the checkpoint before"                     },
    {"primary-resumed",        "the secondary takes over from this checkpoint or the one before"         },
    {"primary-sending",        "the secondary drops the incomplete checkpoint and takes over from the one "
                        "before"                                                  },
    {"primary-sent",           "the secondary takes over from this checkpoint or the one before"         },
    {"primary-acknowledged",   "the secondary takes over from this checkpoint and sends the output "
                             "that was held for it"                          },
    {"primary-released",       "the secondary takes over from this checkpoint; repeated output is "
                         "harmless"                                              },
    {"secondary-sync",         "the primary continues unprotected"                                       },
    {"secondary-staging",      "the primary continues unprotected and releases its output"               },
    {"secondary-disks-marked", "the primary continues unprotected and releases its output"               },
    {"secondary-verified",     "the primary continues unprotected and releases its output"               },
    {"secondary-received",     "the primary continues unprotected and releases its output"               },
    {"secondary-applying",     "the primary continues unprotected and releases its output"               },
    {"secondary-applied",      "the primary continues unprotected and releases its output"               },
    {"secondary-prepared",     "the primary continues unprotected and releases its output"               },
    {"secondary-loaded",       "the primary continues unprotected and releases its output"               },
    {"switchover-held",        "the secondary takes over from the checkpoint before"                     },
    {"switchover-saved",       "the secondary takes over from the checkpoint before"                     },
    {"switchover-released",    "the secondary takes over from the checkpoint before"                     },
    {"switchover-marked",      "the secondary takes over from the checkpoint before"                     },
    {"switchover-inactive",    "the secondary takes over from the checkpoint before"                     },
    {"handed-paused",          "the secondary takes over"                                                },
    {"handed-sent",            "the secondary takes over"                                                },
    {"handed-received",        "the primary continues"                                                   },
    {"handed-granted",         "nobody else continues: the arbiter has given this side its yes"          },
    {"handed-activated",       "nobody else continues: the arbiter has given this side its yes"          },
    {"handed-taken",           "nobody else continues: the arbiter has given this side its yes"          },
    {"takeover-granted",       "nobody else continues: the arbiter has given this side its yes"          },
    {"takeover-disks",         "nobody else continues; the disks here are incomplete, or this side's own"},
    {NULL,                     NULL                                                                      },
};

/* Set once by colo_fault_init() before any thread starts. */
static const char *armed_name;
static gint armed_countdown;
static int armed_signal = SIGKILL;

const ColoFaultPoint *colo_fault_points(void)
{
    return points;
}

static gboolean is_known(const char *name)
{
    for (const ColoFaultPoint *p = points; p->name; p++)
        if (!strcmp(p->name, name))
            return TRUE;
    return FALSE;
}

gboolean colo_fault_init(GError **error)
{
    const char *env = g_getenv("COLO_FAULT");
    if (!env || !*env)
        return TRUE;
    g_auto(GStrv) parts = g_strsplit(env, ":", 3);
    guint64 count = 1;
    gboolean stops = parts[1] && parts[2];
    if (!is_known(parts[0]) ||
        (parts[1] && !g_ascii_string_to_unsigned(parts[1], 10, 1, G_MAXINT, &count, NULL)) ||
        (stops && strcmp(parts[2], "stop") != 0)) {
        g_autoptr(GString) names = g_string_new(NULL);
        for (const ColoFaultPoint *p = points; p->name; p++)
            g_string_append_printf(names, " %s", p->name);
        g_set_error(error, G_OPTION_ERROR, G_OPTION_ERROR_BAD_VALUE,
                    "COLO_FAULT=%s: expected NAME, NAME:COUNT or NAME:COUNT:stop, NAME one of:%s",
                    env, names->str);
        return FALSE;
    }
    armed_name = g_intern_string(parts[0]);
    armed_countdown = (gint)count;
    armed_signal = stops ? SIGSTOP : SIGKILL;
    return TRUE;
}

void colo_fault_point(const char *name)
{
    if (G_LIKELY(!armed_name))
        return;
    g_assert(is_known(name));
    if (!strcmp(armed_name, name) && g_atomic_int_dec_and_test(&armed_countdown))
        raise(armed_signal);
}
