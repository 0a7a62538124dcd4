/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What reading a configuration (config.c) and changing it (live.c) have in common. */
#ifndef COLO_COLO_CONFIG_CONFIG_INTERNAL_H
#define COLO_COLO_CONFIG_CONFIG_INTERNAL_H

#include "colo/config/config.h"

/* Sections of which there may be many. */
typedef enum { SECTION_ONCE, SECTION_NIC, SECTION_DISK, SECTION_KINDS } SectionKind;

typedef struct {
    const char *section, *prefix, *example;
} ConfigNamedSection;

extern const ConfigNamedSection config_named[SECTION_KINDS];

SectionKind config_kind_of(const Option *option);
/* What kind a section of the file is, by its name. */
SectionKind config_kind_of_section(const char *section);
/* The table's name of a section of the file: "nic" for "nic lan". */
const char *config_table_section(const char *section);
/* The first section that has the key, or NULL. */
const char *config_section_with(const char *key);

/* The struct that keeps an option's value; `index` counts for options of named sections only. */
void *config_owner_of(const Config *config, const Option *option, guint index);
/* How many sections of a kind there are, and their names. */
guint config_count_of(const Config *config, SectionKind kind);
const char *config_name_of(const Config *config, SectionKind kind, guint index);
/* The index of, for example, [nic NAME]; FALSE if there is none. */
gboolean config_find_named(const Config *config, SectionKind kind, const char *name,
                           guint *ret_index);

/* Rules across options, which also hold after a `set`. On failure *ret_option is to blame. */
gboolean config_check_rules(const Config *config, const Option **ret_option, GError **error);

#endif
