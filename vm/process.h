/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A child process that dies with us (internal to vm/). It is started with chosen descriptors, its
 * last output on stderr is kept, and a pidfd reports its end. PR_SET_PDEATHSIG kills it when the
 * thread that started it ends, so that has to be a thread that lives as long as the service.
 */
#ifndef COLO_VM_PROCESS_H
#define COLO_VM_PROCESS_H

#include <glib.h>
#include <sys/types.h>

typedef struct Process Process;

/* `how` is "exited with status 1" or "was killed by signal 9 (Killed)"; with last words if any. */
typedef void (*ProcessEnded)(const char *how, gpointer user_data);

/*
 * Starts argv[0] (a path, or a name looked up in PATH) with the environment `envp`. It inherits
 * stdin from /dev/null, stdout and stderr as one pipe of ours, and `fds` (of int) under their own
 * numbers; nothing else. If we run with real-time priority (SCHED_RR) so does its first thread,
 * which moves the guest's frames and blocks, but no other. `ended` is called from the main loop.
 * Error: VM_ERROR_NO_QEMU if it can't be run, with `way_out` (its package, its option) for people;
 * VM_ERROR_START if the system lacks something.
 */
Process *process_start(char **argv, const char *way_out, char **envp, const GArray *fds,
                       ProcessEnded ended, gpointer user_data, GError **error);

pid_t process_pid(const Process *process);

/* The last few KiB that it wrote to stderr, trimmed; valid until the next call. */
const char *process_last_words(Process *process);

/* Waits until it has ended, at most that long; what it writes meanwhile isn't read. */
gboolean process_wait(const Process *process, guint timeout_ms);

/* Kills it if it lives, reaps it, calls nothing back any more. NULL is fine. */
void process_free(Process *process);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Process, process_free)

#endif
