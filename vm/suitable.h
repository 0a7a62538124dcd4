/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Can this QEMU, with these devices, be checkpointed? Pure judgements over what it answered at
 * start (internal to vm/). All refuse with VM_ERROR_UNSUPPORTED and name what to change. Where a
 * list names what is good, everything else is refused.
 */
#ifndef COLO_VM_SUITABLE_H
#define COLO_VM_SUITABLE_H

#include "vm/vm.h"

/*
 * The greeting's version object: "7.2.22" to be freed, or NULL with VM_ERROR_TOO_OLD or, if it is
 * no version, VM_ERROR_QMP.
 */
char *suitable_version(json_object *version, GError **error);

/*
 * query-machines: the versioned name of `machine` (without options), to be freed. NULL with
 * VM_ERROR_DESCRIPTION if there is no such machine, VM_ERROR_UNSUPPORTED if its RAM has another
 * name than `ram_id`.
 */
char *suitable_machine(json_object *machines, const char *machine, const char *ram_id,
                       GError **error);

/* query-migrate: blocked-reasons. */
gboolean suitable_blockers(json_object *migrate, GError **error);

/* qom-list of a container of devices: types known to break. */
gboolean suitable_devices(json_object *properties, GError **error);

/* "info ramblock": guest RAM of `ram_id` must be the only memory that a guest can write to. */
gboolean suitable_ram_blocks(const char *info, const char *ram_id, GError **error);

#endif
