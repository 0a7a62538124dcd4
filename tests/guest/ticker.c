/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/guest/ticker.h"

#include <stdint.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static int64_t now_us(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return now.tv_sec * INT64_C(1000000) + now.tv_nsec / 1000;
}

void *ticker_thread(void *argument)
{
    unsigned every_ms = *(const unsigned *)argument;
    struct timespec pause = {.tv_sec = every_ms / 1000, .tv_nsec = every_ms % 1000 * 1000000L};
    int64_t last_mono = 0, last_real = 0;
    unsigned long ticks = 0, back = 0;

    for (;;) {
        int64_t mono = now_us(CLOCK_MONOTONIC), real = now_us(CLOCK_REALTIME);

        if (mono < last_mono || real < last_real)
            back++;
        last_mono = mono;
        last_real = real;
        printf("tick %lu mono %lld real %lld back %lu\n", ticks++, (long long)mono, (long long)real,
               back);
        fflush(stdout);
        nanosleep(&pause, NULL);
    }
}
