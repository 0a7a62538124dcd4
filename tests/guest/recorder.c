/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/guest/recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/guest/record.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Writes all, makes it durable and closes; false with errno. */
static bool write_durably(int fd, const void *data, size_t len)
{
    bool ok = fd >= 0 && write(fd, data, len) == (ssize_t)len && fsync(fd) == 0;
    int saved = errno;

    if (fd >= 0)
        close(fd);
    errno = saved;
    return ok;
}

static const char *commit(uint64_t number)
{
    static uint64_t contents[RECORD_FILE_MAX / 8];
    char line[RECORD_LINE_BYTES], name[64];
    size_t len = record_file(number, contents);

    snprintf(name, sizeof(name), "/data/file-%u", (unsigned)(number % RECORD_FILES));
    if (!write_durably(open("/data/new", O_WRONLY | O_CREAT | O_TRUNC, 0644), contents, len))
        return "write the file";
    if (rename("/data/new", name) < 0)
        return "rename the file";
    int folder = open("/data", O_RDONLY | O_DIRECTORY);
    if (folder < 0 || fsync(folder) < 0)
        return "sync the folder";
    close(folder);
    record_line(number, line);
    if (!write_durably(open("/data/log", O_WRONLY | O_CREAT | O_APPEND, 0644), line, sizeof(line)))
        return "write the log";
    return NULL;
}

void recorder_serve(int fd)
{
    char line[64], answer[128];
    unsigned long long number;
    size_t len = 0;

    pthread_mutex_lock(&lock);
    while (len < sizeof(line) - 1 && recv(fd, line + len, 1, 0) == 1) {
        if (line[len++] != '\n')
            continue;
        line[len] = '\0';
        len = 0;
        if (sscanf(line, "commit %llu", &number) != 1)
            break;
        const char *failed = commit(number);
        if (failed == NULL)
            snprintf(answer, sizeof(answer), "ok %llu\n", number);
        else
            snprintf(answer, sizeof(answer), "failed %s: %s\n", failed, strerror(errno));
        if (send(fd, answer, strlen(answer), MSG_NOSIGNAL) < 0)
            break;
    }
    pthread_mutex_unlock(&lock);
}

const char *recorder_unmount(void)
{
    pthread_mutex_lock(&lock);
    bool done = umount("/data") == 0;
    if (!done && errno == EINVAL)
        done = mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL) == 0;
    const char *failed = done ? NULL : strerror(errno);
    pthread_mutex_unlock(&lock);
    return failed;
}
