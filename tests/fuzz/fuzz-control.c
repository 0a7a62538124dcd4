/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A client that sends any bytes, cut in pieces of a length that the first byte gives. With a piece
 * that begins with an odd byte it sends a descriptor. Only lines of JSON come back, the server still
 * works, and in the end no descriptor is left open.
 */
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "colo/control/control_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void do_echo(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)user_data;
    control_reply(request, json_object_get(arguments));
}

static void do_fail(ControlRequest *request, json_object *arguments, gpointer user_data)
{
    (void)arguments, (void)user_data;
    g_autoptr(GError) error = g_error_new(CONTROL_ERROR, CONTROL_ERROR_STATE, "not now");
    control_fail(request, error);
}

static const ControlCommand commands[] = {
    {"e",  do_echo, "s:string? i:int? n:number? b:bool? a:array? o:object?", "Echoes.", FALSE},
    {"f",  do_fail, "s:string",                                              "Fails.",  TRUE },
    {NULL, NULL,    NULL,                                                    NULL,      FALSE},
};

static Control *new_server(void)
{
    g_autofree char *folder = g_dir_make_tmp("colo-fuzz-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(folder, "control", NULL);
    Control *control = control_new(path, commands, NULL, NULL);
    g_assert(control);
    /* Clients come by socketpair(): nothing has to stay on disk. */
    g_unlink(path);
    g_rmdir(folder);
    return control;
}

static void check_lines(GString *output)
{
    for (char *end; (end = strstr(output->str, "\r\n"));
         g_string_erase(output, 0, end + 2 - output->str)) {
        *end = '\0';
        g_assert(g_utf8_validate(output->str, -1, NULL));
        json_object *line = json_tokener_parse(output->str);
        g_assert(json_object_is_type(line, json_type_object));
        json_object_put(line);
    }
}

static void run_and_read(int fd, GString *output)
{
    char buf[16384];
    ssize_t got;
    do {
        while (g_main_context_iteration(NULL, FALSE))
            ;
        got = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
        if (got > 0)
            g_string_append_len(output, buf, got);
    } while (got > 0);
    check_lines(output);
}

static void send_piece(int sock, const uint8_t *data, gsize len)
{
    struct iovec iov = {.iov_base = (uint8_t *)data, .iov_len = len};
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (data[0] & 1) {
        msg.msg_control = control.space;
        msg.msg_controllen = sizeof(control.space);
        control.align.cmsg_level = SOL_SOCKET;
        control.align.cmsg_type = SCM_RIGHTS;
        control.align.cmsg_len = CMSG_LEN(sizeof(int));
        int fd = STDERR_FILENO;
        memcpy(CMSG_DATA(&control.align), &fd, sizeof(int));
    }
    g_assert(sendmsg(sock, &msg, MSG_NOSIGNAL) > 0);
}

/* The lowest descriptor that is free: a number only. */
static int lowest_free(void)
{
    int lowest = 3;
    while (fcntl(lowest, F_GETFD) >= 0)
        lowest++;
    return lowest;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    gsize piece = data[0] ? data[0] : 4096;
    int fds[2];
    g_main_context_default(); /* has a descriptor of its own */
    int before = lowest_free();
    Control *control = new_server();
    g_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
    control_add_client(control, fds[0]);
    g_autoptr(GString) output = g_string_new(NULL);
    for (gsize at = 1; at < size; at += piece) {
        send_piece(fds[1], data + at, MIN(piece, size - at));
        run_and_read(fds[1], output);
    }
    control_event(control, "E", json_object_new_string_len((const char *)data, (int)MIN(size, 99)));
    shutdown(fds[1], SHUT_WR);
    run_and_read(fds[1], output);
    g_assert(output->len == 0);
    close(fds[1]);
    while (g_main_context_iteration(NULL, FALSE))
        ;
    control_free(control);
    g_assert(lowest_free() == before);
    return 0;
}
