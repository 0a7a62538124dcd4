/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's disks: the activation flag and the epoch-replicated disk. */
#ifndef COLO_BLOCK_BLOCK_H
#define COLO_BLOCK_BLOCK_H

#include <glib.h>

#endif
