/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/guest/diskio.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define THREADS_MAX 16

typedef struct {
    int fd;
    bool is_write, is_random, is_sync;
    uint64_t blocks, bytes;
    unsigned long sync_every;
    uint64_t end_us, limit; /* 0: none */
    uint64_t salt;          /* another one for each job */
    atomic_uint_fast64_t started, done, seed;
    _Atomic(const char *) failed;
    atomic_int reason;
} Job;

static uint64_t now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000u + (uint64_t)now.tv_nsec / 1000u;
}

/* splitmix64 */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static void fail(Job *job, const char *what)
{
    atomic_store(&job->reason, errno);
    atomic_store(&job->failed, what);
}

/* Request number `n` of the job; `mine`: of this thread. */
static bool request(Job *job, uint64_t n, uint64_t mine, uint64_t *buffer)
{
    uint64_t block = job->is_random ? mix(atomic_fetch_add(&job->seed, 1)) : n;
    off_t offset = (off_t)(block % job->blocks * job->bytes);

    if (job->is_sync) {
        if (fsync(job->fd) == 0)
            return true;
        fail(job, "fsync");
        return false;
    }
    if (!job->is_write) {
        if (pread(job->fd, buffer, job->bytes, offset) == (ssize_t)job->bytes)
            return true;
        fail(job, "read");
        return false;
    }
    buffer[0] = mix(n) ^ job->salt;
    if (pwrite(job->fd, buffer, job->bytes, offset) != (ssize_t)job->bytes) {
        fail(job, "write");
        return false;
    }
    if (job->sync_every != 0 && mine % job->sync_every == 0 && fsync(job->fd) < 0) {
        fail(job, "fsync");
        return false;
    }
    return true;
}

static void *work(void *data)
{
    Job *job = data;
    void *buffer;

    if (posix_memalign(&buffer, 4096, job->bytes) != 0)
        return NULL;
    memset(buffer, 0x5a, job->bytes);
    for (uint64_t mine = 1; atomic_load(&job->failed) == NULL; mine++) {
        uint64_t n = atomic_fetch_add(&job->started, 1);
        if ((job->limit != 0 && n >= job->limit) || (job->end_us != 0 && now_us() >= job->end_us) ||
            !request(job, n, mine, buffer))
            break;
        atomic_fetch_add(&job->done, 1);
    }
    free(buffer);
    return NULL;
}

static void run(Job *job, unsigned n_threads)
{
    pthread_t threads[THREADS_MAX];
    unsigned started = 0;

    while (started < n_threads && pthread_create(&threads[started], NULL, work, job) == 0)
        started++;
    if (started == 0)
        fail(job, "start a thread");
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
}

void diskio_run(const char *order, char *answer, size_t answer_bytes)
{
    static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
    char device[32], kind[16], path[64];
    unsigned long bytes, threads, sync_every, milliseconds, operations;

    if (sscanf(order, "%31s %15s %lu %lu %lu %lu %lu", device, kind, &bytes, &threads, &sync_every,
               &milliseconds, &operations) != 7 ||
        bytes == 0 || bytes % 512 != 0 || threads == 0 || threads > THREADS_MAX) {
        snprintf(answer, answer_bytes, "failed: not an order");
        return;
    }
    snprintf(path, sizeof(path), "/dev/%s", device);
    pthread_mutex_lock(&one);
    int fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
    off_t size = fd < 0 ? -1 : lseek(fd, 0, SEEK_END);
    uint64_t began = now_us();
    Job job = {.fd = fd,
               .is_write = strstr(kind, "write") != NULL,
               .is_sync = strcmp(kind, "sync") == 0,
               .is_random = strncmp(kind, "rand", 4) == 0,
               .blocks = size < 0 ? 0 : (uint64_t)size / bytes,
               .bytes = bytes,
               .sync_every = sync_every,
               .end_us = milliseconds == 0 ? 0 : began + milliseconds * 1000u,
               .limit = operations,
               .salt = mix(began),
               .seed = began};
    if (size < 0 || job.blocks == 0)
        fail(&job, "open the disk");
    else
        run(&job, (unsigned)threads);
    if (job.failed != NULL)
        snprintf(answer, answer_bytes, "failed %s: %s", job.failed, strerror(job.reason));
    else
        snprintf(answer, answer_bytes, "ok ops=%llu bytes=%llu us=%llu",
                 (unsigned long long)job.done, (unsigned long long)(job.done * bytes),
                 (unsigned long long)(now_us() - began));
    if (fd >= 0)
        close(fd);
    pthread_mutex_unlock(&one);
}
