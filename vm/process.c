/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vm/process.h"

#include "common/fd.h"
#include "common/patience.h"
#include "vm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1u << 2)
#endif

/* How much of stderr is kept, and how much of that is shown. */
#define KEPT_BYTES 4096u

struct Process {
    pid_t pid;
    int pidfd, output;
    guint pidfd_source, output_source;
    GString *kept;
    ProcessEnded ended;
    gpointer user_data;
};

static void read_output(Process *process)
{
    char buf[1024];
    ssize_t got;

    while ((got = read(process->output, buf, sizeof(buf))) > 0 || (got < 0 && errno == EINTR)) {
        if (got < 0)
            continue;
        g_string_append_len(process->kept, buf, got);
        if (process->kept->len > KEPT_BYTES)
            g_string_erase(process->kept, 0, (gssize)(process->kept->len - KEPT_BYTES));
    }
}

static gboolean on_output(gint fd, GIOCondition condition, gpointer user_data)
{
    Process *process = user_data;
    (void)fd;

    read_output(process);
    if (condition & G_IO_IN)
        return G_SOURCE_CONTINUE;
    process->output_source = 0; /* it has closed its end */
    return G_SOURCE_REMOVE;
}

const char *process_last_words(Process *process)
{
    read_output(process);
    for (gsize i = 0; i < process->kept->len; i++)
        if (!g_ascii_isprint(process->kept->str[i]) && process->kept->str[i] != '\n')
            process->kept->str[i] = '?';
    g_strstrip(process->kept->str);
    g_string_set_size(process->kept, strlen(process->kept->str));
    return process->kept->str;
}

pid_t process_pid(const Process *process)
{
    return process->pid;
}

static char *describe_end(Process *process, int status)
{
    const char *words = process_last_words(process);
    g_autofree char *how = WIFSIGNALED(status)
                               ? g_strdup_printf("was killed by signal %d (%s)", WTERMSIG(status),
                                                 g_strsignal(WTERMSIG(status)))
                               : g_strdup_printf("exited with status %d", WEXITSTATUS(status));
    return g_strconcat(how, *words ? "; its last output: " : "", words, NULL);
}

static gboolean on_ended(gint fd, GIOCondition condition, gpointer user_data)
{
    Process *process = user_data;
    int status = 0;
    (void)fd;
    (void)condition;

    if (waitpid(process->pid, &status, WNOHANG) == 0)
        return G_SOURCE_CONTINUE;
    process->pid = 0;
    process->pidfd_source = 0;
    g_autofree char *how = describe_end(process, status);
    process->ended(how, process->user_data);
    return G_SOURCE_REMOVE;
}

gboolean process_wait(const Process *process, guint timeout_ms)
{
    struct pollfd end = {.fd = process->pidfd, .events = POLLIN};
    Patience patience;

    if (process->pid == 0)
        return TRUE;
    patience_start(&patience, timeout_ms * COLO_US_PER_MS, colo_time_now());
    do {
        gint64 step_us = colo_time_diff_us(patience.planned, colo_time_now());
        if (poll(&end, 1, (int)(MAX(step_us, 0) / COLO_US_PER_MS + 1)) > 0)
            return TRUE;
    } while (!patience_step(&patience, colo_time_now()));
    return FALSE;
}

void process_free(Process *process)
{
    if (!process)
        return;
    if (process->pidfd_source)
        g_source_remove(process->pidfd_source);
    if (process->output_source)
        g_source_remove(process->output_source);
    if (process->pid > 0) {
        kill(process->pid, SIGKILL);
        while (waitpid(process->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    colo_fd_close(&process->pidfd);
    colo_fd_close(&process->output);
    g_string_free(process->kept, TRUE);
    g_free(process);
}

/* Everything the child does between fork and exec: only what is safe in a signal handler. */
static void run_child(const char *path, char **argv, char **envp, const GArray *fds, int null,
                      int output, int report, pid_t parent, gboolean realtime)
{
    const struct sched_param lowest = {.sched_priority = 1};
    sigset_t none;

    if (realtime) /* if it is refused, then not */
        sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &lowest);

    sigemptyset(&none);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127); /* the parent ended before it could be watched */
    for (int signal_number = 1; signal_number < NSIG; signal_number++)
        signal(signal_number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    setpgid(0, 0); /* Ctrl-C on our terminal is for us: we decide when the VM ends */
    if (dup2(null, 0) < 0 || dup2(output, 1) < 0 || dup2(output, 2) < 0)
        goto fail;
    syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC);
    for (guint i = 0; i < fds->len; i++)
        if (fcntl(g_array_index(fds, int, i), F_SETFD, 0) < 0)
            goto fail;
    execve(path, argv, envp);
fail:
    (void)!write(report, &errno, sizeof(errno));
    _exit(127);
}

/* Waits until the child has become the program (the pipe closes): the errno if it could not. */
static int read_report(int report)
{
    int reason = 0;
    ssize_t got;

    do {
        got = read(report, &reason, sizeof(reason));
    } while (got < 0 && errno == EINTR);
    return got == (ssize_t)sizeof(reason) ? reason : 0;
}

static Process *fail_system(const char *what, GError **error)
{
    g_set_error(error, VM_ERROR, VM_ERROR_START, "starting a process: %s: %s", what,
                g_strerror(errno));
    return NULL;
}

static Process *watch(pid_t pid, int pidfd, int output, ProcessEnded ended, gpointer user_data)
{
    Process *process = g_new0(Process, 1);

    process->pid = pid;
    process->pidfd = pidfd;
    process->output = output;
    process->ended = ended;
    process->user_data = user_data;
    process->kept = g_string_new(NULL);
    process->pidfd_source = g_unix_fd_add(pidfd, G_IO_IN, on_ended, process);
    process->output_source = g_unix_fd_add(output, G_IO_IN | G_IO_HUP, on_output, process);
    return process;
}

Process *process_start(char **argv, const char *way_out, char **envp, const GArray *fds,
                       ProcessEnded ended, gpointer user_data, GError **error)
{
    g_autofree char *path = g_find_program_in_path(argv[0]);
    int output[2], report[2];

    if (!path) {
        gboolean exists = g_file_test(argv[0], G_FILE_TEST_EXISTS);
        g_set_error(error, VM_ERROR, VM_ERROR_NO_QEMU, "can't run '%s': %s (%s)", argv[0],
                    exists ? "it is not executable" : "there is no such program", way_out);
        return NULL;
    }
    COLO_AUTO_FD null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null < 0)
        return fail_system("/dev/null", error);
    if (pipe2(output, O_CLOEXEC | O_NONBLOCK) < 0)
        return fail_system("pipe", error);
    COLO_AUTO_FD output_ours = output[0];
    COLO_AUTO_FD output_theirs = output[1];
    colo_fd_set_nonblocking(output_theirs, FALSE, NULL);
    if (pipe2(report, O_CLOEXEC) < 0)
        return fail_system("pipe", error);
    COLO_AUTO_FD report_ours = report[0];
    COLO_AUTO_FD report_theirs = report[1];

    pid_t parent = getpid();
    gboolean realtime = (sched_getscheduler(0) & ~SCHED_RESET_ON_FORK) == SCHED_RR;
    pid_t pid = fork();
    if (pid < 0)
        return fail_system("fork", error);
    if (pid == 0)
        run_child(path, argv, envp, fds, null, output_theirs, report_theirs, parent, realtime);
    colo_fd_close(&report_theirs);
    int reason = read_report(report_ours);
    COLO_AUTO_FD pidfd = reason ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
    if (pidfd < 0) {
        int saved = reason ? reason : errno;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        g_set_error(error, VM_ERROR, VM_ERROR_NO_QEMU, "can't run '%s': %s", path,
                    g_strerror(saved));
        return NULL;
    }
    return watch(pid, colo_fd_steal(&pidfd), colo_fd_steal(&output_ours), ended, user_data);
}
