/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The disks of a host without nbdkit: the real engine (block/block.h) behind the real control
 * connection, in this process, on small images in a folder of the host. A test writes to a disk as
 * the guest would, through fake_disks_find(), and lets storage fail. What is in the folder outlives
 * the server, as it does a host.
 */
#ifndef COLO_TESTS_FAKE_DISKS_H
#define COLO_TESTS_FAKE_DISKS_H

#include "block/server.h"
#include "colo/config/config.h"

typedef struct FakeDisks FakeDisks;

/* `n` images of `bytes` zeroes, named vda, vdb, ..., in the new folder `dir`. */
FakeDisks *fake_disks_new(const char *dir, guint n, guint64 bytes);

/* Ends the server, if one runs, and removes the folder. NULL is fine. */
void fake_disks_free(FakeDisks *disks);

/* Describes them: [disk] and [disks]; `format` is what the fake VM is told of them. */
void fake_disks_configure(const FakeDisks *disks, Config *config, VmDiskFormat format);

/* NodeMakeDisks, but for the last argument. The server before has to be gone, or is killed. */
DiskServer *fake_disks_serve(FakeDisks *disks, const DiskServerOptions *options,
                             const DiskConfig *configs, guint n_disks,
                             const DiskServerCallbacks *callbacks, gpointer user_data,
                             GError **error);

/* The host dies: from now on nothing reaches the files, until the next server. */
void fake_disks_crash(FakeDisks *disks);

/* Waits for the server's end, which closing its connection has begun; all is in the files then. */
void fake_disks_await_end(FakeDisks *disks);

/* A disk of the server that runs, for disk_read() and disk_write(); its image's path. */
Disk *fake_disks_find(const FakeDisks *disks, const char *name);
char *fake_disks_image(const FakeDisks *disks, const char *name);

/*
 * Every change of kind `what` ("write", "sync", ...; NULL: any) to a file whose name contains
 * `file` fails with `negative_errno` from now on; 0 ends it. `file` may be "" for all.
 */
void fake_disks_refuse(FakeDisks *disks, const char *what, const char *file, int negative_errno);

/* Likewise they hang until told otherwise, or the server is to end. */
void fake_disks_hang(FakeDisks *disks, const char *file, gboolean hang);
/* Whether one does. */
gboolean fake_disks_is_hanging(FakeDisks *disks);

/*
 * From the next server on: so much may a guest write within an epoch. What is more waits for the
 * next one or until it is let through, and for nothing else.
 */
void fake_disks_limit(FakeDisks *disks, guint64 bytes);
DiskSetStatus fake_disks_status(const FakeDisks *disks);

/* Each such change takes so long. */
void fake_disks_delay(FakeDisks *disks, const char *file, guint us);

#endif
