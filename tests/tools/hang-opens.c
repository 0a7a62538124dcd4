/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * hang-opens PATH...: makes these files and folders ones on storage that hangs. Whoever opens one
 * waits until this process ends (fanotify). Prints "hangs" when it is so; exits with 77 where the
 * kernel or its user may not do it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/fanotify.h>
#include <sys/types.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int fd = fanotify_init(FAN_CLASS_CONTENT | FAN_CLOEXEC, O_RDONLY);
    for (int i = 1; fd >= 0 && i < argc; i++)
        if (fanotify_mark(fd, FAN_MARK_ADD, FAN_OPEN_PERM | FAN_ONDIR, AT_FDCWD, argv[i]) < 0)
            fd = -1;
    if (fd < 0) {
        perror("fanotify");
        return 77;
    }
    puts("hangs");
    fflush(stdout);
    for (;;)
        pause();
}
