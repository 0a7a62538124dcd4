/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "netcompare/pcapfile.h"

#include <errno.h>
#include <fcntl.h>
#include <pcap/pcap.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "netcompare/pcapng.h"

#define SPOOL_PREFIX "/proc/self/fd/"

G_DEFINE_QUARK(pcapfile_error, pcapfile_error)

struct PcapFile {
    char *name;
    pcap_t *pcap; /* of one side: only for the filter */
    guint64 n_frames;
    gboolean cut_short;
    const char *program; /* that decompresses; NULL: none */
    GPid child;          /* 0: none, or it has been waited for */
    gboolean filtered;
    struct bpf_program filter; /* if filtered */

    /* of one side */
    PcapngReader *reader; /* NULL: of all */
    const char *prefix;   /* of its interfaces' names */
};

/* ---- Streams ---- */

/* The first bytes, which stay to be read. Less than asked for: that is all there is, or can be
 * seen. */
static gsize peek(int fd, guint8 *bytes, gsize len)
{
    int pipe_fds[2];
    off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t got;

    if (at >= 0) {
        got = pread(fd, bytes, len, at);
        return got > 0 ? (gsize)got : 0;
    }
    if (pipe2(pipe_fds, O_CLOEXEC) != 0)
        return 0;
    got = tee(fd, pipe_fds[1], len, 0);
    if (got > 0)
        got = read(pipe_fds[0], bytes, (gsize)got);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
    return got > 0 ? (gsize)got : 0;
}

/* What decompresses it; NULL: it isn't compressed. */
static const char *decompressor(int fd)
{
    static const struct {
        guint8 magic[2];
        const char *program;
    } known[] = {
        {{0x1f, 0x8b}, "gzip"},
        {{0x28, 0xb5}, "zstd"},
    };
    guint8 bytes[2];

    if (peek(fd, bytes, sizeof(bytes)) < sizeof(bytes))
        return NULL;
    for (guint i = 0; i < G_N_ELEMENTS(known); i++)
        if (memcmp(bytes, known[i].magic, sizeof(bytes)) == 0)
            return known[i].program;
    return NULL;
}

/* Replaces *fd by what `program` makes of it. */
static gboolean decompress(PcapFile *capture, int *fd, GError **error)
{
    const char *argv[] = {capture->program, "-dc", NULL};
    g_autoptr(GError) cause = NULL;
    int pipe_fds[2];

    if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
        g_set_error(error, PCAPFILE_ERROR, PCAPFILE_ERROR_OPEN, "capture %s: no pipe: %s",
                    capture->name, g_strerror(errno));
        return FALSE;
    }
    gboolean good = g_spawn_async_with_fds(NULL, (char **)argv, NULL,
                                           G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, NULL,
                                           NULL, &capture->child, *fd, pipe_fds[1], -1, &cause);
    close(pipe_fds[1]);
    close(*fd);
    *fd = pipe_fds[0];
    if (!good)
        g_set_error(
            error, PCAPFILE_ERROR, PCAPFILE_ERROR_OPEN,
            "capture %s is compressed, and %s can't be run to read it: %s (is it installed?)",
            capture->name, capture->program, cause->message);
    return good;
}

static FILE *open_stream(PcapFile *capture, const char *path, GError **error)
{
    gboolean standard = strcmp(path, "-") == 0;
    int fd = standard ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0) {
        g_set_error(error, PCAPFILE_ERROR, PCAPFILE_ERROR_OPEN, "capture %s can't be opened: %s",
                    capture->name, g_strerror(errno));
        return NULL;
    }
    capture->program = decompressor(fd);
    if (capture->program != NULL && !decompress(capture, &fd, error)) {
        close(fd);
        return NULL;
    }
    return fdopen(fd, "rb");
}

/* How the program that decompresses has ended, now that it must have. */
static gboolean decompressed_well(PcapFile *capture)
{
    int status = 0;

    if (capture->child == 0)
        return TRUE;
    gboolean waited = waitpid(capture->child, &status, 0) == capture->child;
    capture->child = 0;
    return waited && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

char *pcapfile_spool(GError **error)
{
    int fd = open(g_get_tmp_dir(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    char buffer[65536];
    ssize_t got = 0;

    while (fd >= 0 && (got = read(STDIN_FILENO, buffer, sizeof(buffer))) > 0) {
        for (ssize_t done = 0, n; done < got; done += n) {
            n = write(fd, buffer + done, (size_t)(got - done));
            if (n <= 0) {
                got = -1;
                break;
            }
        }
        if (got < 0)
            break;
    }
    if (fd < 0 || got < 0) {
        g_set_error(error, PCAPFILE_ERROR, PCAPFILE_ERROR_OPEN,
                    "standard input can't be kept in %s, to be read twice: %s", g_get_tmp_dir(),
                    g_strerror(errno));
        if (fd >= 0)
            close(fd);
        return NULL;
    }
    return g_strdup_printf(SPOOL_PREFIX "%d", fd);
}

/* ---- Opening ---- */

static gboolean set_filter(PcapFile *capture, const char *filter, GError **error)
{
    if (filter == NULL)
        return TRUE;
    if (pcap_compile(capture->pcap, &capture->filter, filter, 1, PCAP_NETMASK_UNKNOWN) != 0) {
        g_set_error(error, PCAPFILE_ERROR, PCAPFILE_ERROR_FILTER,
                    "filter '%s': %s (the language is described in pcap-filter(7))", filter,
                    pcap_geterr(capture->pcap));
        return FALSE;
    }
    capture->filtered = TRUE;
    return TRUE;
}

static PcapFile *capture_new(const char *path)
{
    PcapFile *capture = g_new0(PcapFile, 1);
    gboolean standard = strcmp(path, "-") == 0 || g_str_has_prefix(path, SPOOL_PREFIX);

    capture->name = g_strdup(standard ? "standard input" : path);
    return capture;
}

PcapFile *pcapfile_open(const char *path, const char *filter, GError **error)
{
    char why[PCAP_ERRBUF_SIZE];
    g_autoptr(PcapFile) capture = capture_new(path);
    FILE *file = open_stream(capture, path, error);

    if (file == NULL)
        return NULL;
    capture->pcap = pcap_fopen_offline(file, why);
    if (capture->pcap == NULL) {
        fclose(file);
        g_set_error(error, PCAPFILE_ERROR, PCAPFILE_ERROR_OPEN,
                    "capture %s can't be opened: %s (a pcap or pcapng file is expected)",
                    capture->name, why);
        return NULL;
    }
    int link = pcap_datalink(capture->pcap);
    if (link != DLT_EN10MB) {
        const char *name = pcap_datalink_val_to_name(link);
        g_set_error(error, PCAPFILE_ERROR, PCAPFILE_ERROR_OPEN,
                    "capture %s has link type %s, not Ethernet: capture on the VM's tap",
                    capture->name, name != NULL ? name : "unknown");
        return NULL;
    }
    return set_filter(capture, filter, error) ? g_steal_pointer(&capture) : NULL;
}

PcapFile *pcapfile_open_side(const char *path, const char *filter, gboolean secondary,
                             GError **error)
{
    g_autoptr(PcapFile) capture = capture_new(path);
    FILE *file = open_stream(capture, path, error);

    if (file == NULL)
        return NULL;
    capture->reader = pcapng_reader_new(file, capture->name);
    capture->prefix = secondary ? "SVM nic " : "PVM nic ";
    capture->pcap = pcap_open_dead(DLT_EN10MB, PCAPNG_SNAPLEN);
    return set_filter(capture, filter, error) ? g_steal_pointer(&capture) : NULL;
}

void pcapfile_free(PcapFile *capture)
{
    if (capture == NULL)
        return;
    pcapng_reader_free(capture->reader);
    if (capture->filtered)
        pcap_freecode(&capture->filter);
    if (capture->pcap != NULL)
        pcap_close(capture->pcap);
    decompressed_well(capture); /* it has nobody to write to any more */
    g_free(capture->name);
    g_free(capture);
}

/* ---- Reading ---- */

static gboolean passes(const PcapFile *capture, const PcapFrame *frame)
{
    struct pcap_pkthdr header = {.caplen = (bpf_u_int32)frame->len,
                                 .len = (bpf_u_int32)frame->wire_len};
    return !capture->filtered || pcap_offline_filter(&capture->filter, &header, frame->data) != 0;
}

/* Is the packet of this side, and of which card? */
static gboolean is_sides(const PcapFile *capture, const PcapngPacket *packet, unsigned *ret_nic)
{
    if (!g_str_has_prefix(packet->interface, capture->prefix))
        return FALSE;
    *ret_nic = (unsigned)g_ascii_strtoull(packet->interface + strlen(capture->prefix), NULL, 10);
    return TRUE;
}

/* The next frame of the file, if it is of the side that is read; else *ret_mine is FALSE. */
static gboolean next_of_side(PcapFile *capture, PcapFrame *ret_frame, gboolean *ret_mine,
                             GError **error)
{
    PcapngPacket packet;
    unsigned nic = 0;
    g_autoptr(GError) cause = NULL;

    if (!pcapng_reader_next(capture->reader, &packet, &cause)) {
        if (g_error_matches(cause, PCAPNG_ERROR, PCAPNG_ERROR_CUT_SHORT)) {
            capture->cut_short = TRUE;
            *ret_frame = (PcapFrame){0};
            return TRUE;
        }
        g_set_error_literal(error, PCAPFILE_ERROR, PCAPFILE_ERROR_READ, cause->message);
        return FALSE;
    }
    if (packet.data != NULL)
        capture->n_frames = packet.number;
    *ret_mine = packet.data == NULL || is_sides(capture, &packet, &nic);
    *ret_frame = (PcapFrame){.data = packet.data,
                             .len = packet.len,
                             .wire_len = packet.wire_len,
                             .time_us = packet.time_us,
                             .number = packet.number,
                             .nic = nic};
    return TRUE;
}

static gboolean next_of_all(PcapFile *capture, PcapFrame *ret_frame, GError **error)
{
    struct pcap_pkthdr *header;
    const guint8 *data;

    *ret_frame = (PcapFrame){0};
    switch (pcap_next_ex(capture->pcap, &header, &data)) {
    case 1:
        *ret_frame = (PcapFrame){
            .data = data,
            .len = header->caplen,
            .wire_len = header->len,
            .time_us = (gint64)header->ts.tv_sec * G_USEC_PER_SEC + header->ts.tv_usec,
            .number = ++capture->n_frames,
        };
        return TRUE;
    case PCAP_ERROR_BREAK:
        return TRUE;
    default:
        if (feof(pcap_file(capture->pcap))) {
            capture->cut_short = TRUE;
            return TRUE;
        }
        g_set_error(error, PCAPFILE_ERROR, PCAPFILE_ERROR_READ,
                    "capture %s is damaged after frame %" G_GUINT64_FORMAT ": %s", capture->name,
                    capture->n_frames, pcap_geterr(capture->pcap));
        return FALSE;
    }
}

gboolean pcapfile_next(PcapFile *capture, PcapFrame *ret_frame, GError **error)
{
    gboolean mine;

    do {
        mine = TRUE;
        if (!(capture->reader != NULL ? next_of_side(capture, ret_frame, &mine, error)
                                      : next_of_all(capture, ret_frame, error)))
            return FALSE;
    } while (ret_frame->data != NULL && (!mine || !passes(capture, ret_frame)));
    if (ret_frame->data == NULL && !decompressed_well(capture)) {
        if (capture->n_frames == 0) {
            g_set_error(error, PCAPFILE_ERROR, PCAPFILE_ERROR_READ,
                        "capture %s: %s has failed to decompress it", capture->name,
                        capture->program);
            return FALSE;
        }
        capture->cut_short = TRUE;
    }
    return TRUE;
}

guint64 pcapfile_frames(const PcapFile *capture)
{
    return capture->n_frames;
}

gboolean pcapfile_is_cut_short(const PcapFile *capture)
{
    return capture->cut_short;
}

const char *pcapfile_name(const PcapFile *capture)
{
    return capture->name;
}
