/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The room of the configuration. One table of options (options.h) makes the file's parser,
 * --check-config, `colo get/set`, the man page's list and the test that compares them.
 *
 * Owns: the options and their limits, a configuration's text and its values. Doesn't: look at the
 * host, or act on a value. Always holds: a Config obeys every rule of the table and the rules
 * across options, also after a refused `set`. An error names the file's line or the option.
 */
#ifndef COLO_COLO_CONFIG_CONFIG_H
#define COLO_COLO_CONFIG_CONFIG_H

#include <glib.h>
#include <json-c/json.h>

#include "colo/config/options.h"
#include "common/log.h"
#include "vm/vm.h"

#define CONFIG_ERROR config_error_quark()
GQuark config_error_quark(void);

typedef enum {
    CONFIG_ERROR_FILE,    /* missing, unreadable, no key file: FILE or FILE:LINE */
    CONFIG_ERROR_UNKNOWN, /* unknown section or key, with the nearest known one */
    CONFIG_ERROR_VALUE,   /* wrong type, unit or range; tells what would be right */
    CONFIG_ERROR_MISSING, /* a required key */
    CONFIG_ERROR_FIXED,   /* `set` of an option that can't change while running */
} ConfigError;

typedef enum {
    CONFIG_ROLE_UNKNOWN, /* neither in the file nor with --role: config_load() refuses that */
    CONFIG_ROLE_PRIMARY,
    CONFIG_ROLE_SECONDARY,
    CONFIG_ROLE_AUTO,
} ConfigRole;

typedef enum { CONFIG_SIGTERM_HAND_OVER, CONFIG_SIGTERM_END } ConfigSigterm;
typedef enum { CONFIG_CACHE_WRITEBACK, CONFIG_CACHE_DIRECT } ConfigCache;
typedef enum { MODE_COLO, MODE_BUFFERED, MODE_AUTO } Mode;
typedef enum {
    CONFIG_DIRTY_AUTO,
    CONFIG_DIRTY_UFFD,
    CONFIG_DIRTY_SOFT_DIRTY,
    CONFIG_DIRTY_COMPARE,
} ConfigDirtyMethod;
typedef enum {
    CONFIG_COMPRESS_AUTO,
    CONFIG_COMPRESS_OFF,
    CONFIG_COMPRESS_LZ4,
    CONFIG_COMPRESS_ZSTD,
} ConfigCompress;
typedef enum { CONFIG_ARBITER_NONE, CONFIG_ARBITER_FILE } ConfigArbiter;

typedef struct {
    char *name;   /* of the section [nic NAME] */
    char *ifname; /* tap name, default colo%d */
    char *bridge; /* bridge to attach the tap to; NULL: none */
    char *uplink; /* the interface whose carrier counts; NULL: the bridge's ports */
    char *tap;    /* "fd:NAME", inherited, instead of one of our own; NULL: none. No bridge then */
} ConfigNic;      /* this host's half of a VmNic, same index */

typedef struct {
    /* [node] */
    char *name; /* this node's name, unique in the pair */
    ConfigRole role;
    char *listen, *peer;
    char *control_socket;
    gboolean realtime;
    guint64 announce_rounds, announce_initial_ms, announce_step_ms, announce_max_ms;
    ConfigSigterm on_sigterm; /* live */
    /* [vm], [nic NAME] */
    VmDescription *vm;
    guint64 qemu_timeout_ms;
    guint64 resume_patience_ms; /* live: protected, and the VM can't be resumed; 0: for ever */
    guint64 qemu_growth_limit_bytes;
    guint64 time_step_ms; /* live: the guest's clock may be so far behind; 0: it is never set */
    GPtrArray *nics;      /* of ConfigNic* */
    /* [disks]; [disk NAME] is in vm->disks */
    char *state_dir; /* for what must outlive colod, disks or not; default /var/lib/colo/NAME */
    char *nbdkit;
    ConfigCache disk_cache;
    guint64 sync_rate_bytes;       /* live: a second, while synchronising; 0: no limit */
    guint64 stage_memory_bytes;    /* of each disk on the secondary, before it is a file */
    guint64 disk_timeout_ms;       /* an order to the disks */
    guint64 switchover_timeout_ms; /* live: until the VM stands; 0: none */
    guint64 downtime_limit_ms;     /* live: when the VM is stopped for a switchover; 0: at once */
    gboolean pause_before_switchover, abort_on_error; /* live */
    guint64 io_retry_ms; /* live: until a guest that an I/O error stopped is resumed; 0: never */
    /* [checkpoint] */
    Mode mode;                    /* live */
    guint64 compare_timeout_ms;   /* live: of output; see netcompare/compare.h */
    guint64 checkpoint_period_ms; /* live: at least this often */
    guint64 answer_timeout_ms;    /* live: the secondary owes something and shows no progress */
    guint64 min_gap_ms;           /* live: never more often, counted from resume to pause */
    guint64 dirty_limit_pages;    /* live: this many dirty pages ask for a checkpoint; 0: none */
    guint64 ram_sync_bytes_per_s; /* live: of the first synchronisation; 0: as fast as it can */
    ConfigDirtyMethod dirty_method;
    guint64 output_limit_bytes; /* held output at most */
    /* [link] */
    guint64 heartbeat_interval_ms, heartbeat_timeout_ms; /* live */
    guint64 recover_timeout_ms; /* live: of a handshake, and of `recover` */
    ConfigCompress compress;    /* live: pages, while this node is the primary */
    /* [arbiter] */
    ConfigArbiter arbiter;
    char *arbiter_path;         /* of FILE: a folder */
    guint64 arbiter_timeout_ms; /* a question to it */
    guint64 arbiter_check_ms;   /* how often it is looked for */
    gboolean overrule; /* of the command line: this node owns the VM, whatever the arbiter has */
    gboolean discard;  /* of it too: the first peer may overwrite what the disks hold */
    /* [log] */
    LogLevel log_level; /* live */
} Config;

/*
 * Reads and checks a file. `role`, if not NULL, counts instead of the file's. Errors name
 * FILE:LINE, the key and what would be right.
 */
Config *config_load(const char *path, const char *role, GError **error);
/* The same for `len` bytes of text; `path` is for messages. */
Config *config_load_data(const char *path, const char *data, gsize len, const char *role,
                         GError **error);
void config_free(Config *config);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Config, config_free)

/*
 * Options by name, values as text in the file's own syntax. A live option goes by its key
 * ("min-gap"), any option by section and key ("vm.memory", "nic lan.mac"). Setting changes nothing
 * if it fails. Error: CONFIG_ERROR_UNKNOWN, _VALUE or _FIXED.
 */
gboolean config_set(Config *config, const char *name, const char *value, GError **error);
/* The key of a live option, by any name that config_set() takes; NULL: there is none. */
const char *config_live_key(const Config *config, const char *name);
/* Whether both nodes of a pair share the value of a live option, by its key. */
gboolean config_is_of_pair(const char *key);
/* All of those, as lines NAME=VALUE with their ends. Free with g_free(). */
char *config_pair_text(const Config *config);
/*
 * Sets those that `text` names, all or none. *ret_changed (new reference) has those that were
 * different: {NAME: {"value", "before"}}. Error: CONFIG_ERROR_UNKNOWN for what is no line of an
 * option of the pair, _VALUE for what breaks a rule.
 */
gboolean config_set_pair(Config *config, const char *text, json_object **ret_changed,
                         GError **error);

/* Free with g_free(); "" if the option has no value. */
char *config_get(const Config *config, const char *name, GError **error);
/*
 * All options as {"NAME": {"value", "default" (null: none), "type", "live", "scope", "help"}}, in
 * the order of the table; new reference. Live ones are under their key, others under SECTION.KEY.
 * "scope" is "pair" or "node", of live ones only.
 */
json_object *config_list(const Config *config);

#endif
