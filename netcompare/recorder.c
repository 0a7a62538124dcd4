/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The caller's thread puts a file together as a list of references to frames (a Job). Another
 * thread encodes it and writes it, first under a name of its own (.part), then renamed, so a
 * visible file is whole. There is one such thread at a time. It looks up the next number in the
 * folder each time, so nothing goes wrong when somebody tidies up there.
 */
#include "netcompare/recorder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/fd.h"
#include "netcompare/netcompare.h"
#include "netcompare/packet.h"
#include "netcompare/pcapng.h"

#define SUFFIX       ".pcapng"
#define MAX_DIVERGED 4u /* of one epoch that get a file */
#define MAX_JOBS     4u /* that wait for the writing thread */

G_DEFINE_QUARK(recorder_error, recorder_error)

typedef struct {
    unsigned nic;
    gboolean secondary;
    guint64 epoch;
    ColoTime when;
    GBytes *frame;
} Entry;

/* One file on its way. The thread has a reference, so has the recorder. */
typedef struct {
    gint refs;
    Recorder *recorder; /* NULL: freed meanwhile. Only touched by the recorder's thread */
    GMainContext *context;
    char *folder, *stem; /* of names: STEM-NUMBER.pcapng */
    guint last;
    CompareDivergence divergence;
    gint64 wall_offset_us; /* from monotonic to wall clock */
    GPtrArray *entries;    /* of Entry*, in their order */
    char *path;            /* what was written */
    GError *error;
} Job;

struct Recorder {
    char *file, *folder, *stem;
    guint last;
    RecorderFunc written;
    gpointer user_data;
    GQueue *entries; /* of Entry* */
    gsize bytes;
    CompareDivergence diverged[MAX_DIVERGED];
    guint n_diverged;
    GQueue *jobs; /* of Job*; the first has a thread */
    gboolean failed;
    RecorderStats stats;
};

static void entry_free(gpointer data)
{
    Entry *entry = data;
    g_bytes_unref(entry->frame);
    g_free(entry);
}

static void job_unref(gpointer data)
{
    Job *job = data;
    if (!g_atomic_int_dec_and_test(&job->refs))
        return;
    g_main_context_unref(job->context);
    g_ptr_array_unref(job->entries);
    g_free(job->folder);
    g_free(job->stem);
    g_free(job->path);
    g_clear_error(&job->error);
    g_free(job);
}

/* ---- Encoding ---- */

/*
 * The Ethernet frame behind the virtio-net header (virtio 1.2, 5.1.6), with its checksum finished,
 * in a copy. NULL: shorter than its header.
 */
static guint8 *plain_frame(GBytes *frame, gsize *ret_len)
{
    gsize len;
    const guint8 *data = g_bytes_get_data(frame, &len);
    if (len <= NETCOMPARE_VNET_HDR_BYTES)
        return NULL;
    gboolean partial = data[0] & 1;
    gsize start = data[6] | data[7] << 8, at = start + (data[8] | data[9] << 8);
    len -= NETCOMPARE_VNET_HDR_BYTES;
    guint8 *plain = g_memdup2(data + NETCOMPARE_VNET_HDR_BYTES, len);
    if (partial && at >= start && at + 2 <= len) {
        guint64 sum = 0;
        for (gsize i = start; i < len; i++)
            sum += (i - start) % 2 ? plain[i] : (guint)plain[i] << 8;
        while (sum >> 16)
            sum = (sum & 0xffff) + (sum >> 16);
        guint16 checksum = (guint16)~sum;
        if (checksum == 0)
            checksum = 0xffff;
        plain[at] = (guint8)(checksum >> 8);
        plain[at + 1] = (guint8)checksum;
    }
    *ret_len = len;
    return plain;
}

static void describe_bytes(GString *text, const char *side, const guint8 *bytes, guint len)
{
    g_string_append_printf(text, "\n%s:", side);
    for (guint i = 0; i < len; i++)
        g_string_append_printf(text, " %02x", bytes[i]);
    if (len == 0)
        g_string_append(text, " nothing");
}

static char *describe(const CompareDivergence *d)
{
    GString *text = g_string_new(NULL);
    g_autofree char *flow = compare_key_to_string(&d->key);
    g_string_append_printf(text,
                           "The VMs differ (%s): %s\nflow: %s\nepoch: %" G_GUINT64_FORMAT
                           "\noffset: %" G_GUINT64_FORMAT " bytes were equal before",
                           compare_reason_name(d->reason), d->detail ? d->detail : "-", flow,
                           d->epoch, d->offset);
    describe_bytes(text, "primary", d->primary, d->primary_len);
    describe_bytes(text, "secondary", d->secondary, d->secondary_len);
    return g_string_free(text, FALSE);
}

/* Interface 2 * n is the PVM's card n, the next one the SVM's. */
static guint32 interface_of(const Entry *entry)
{
    return 2 * entry->nic + (entry->secondary ? 1 : 0);
}

static void add_interfaces(GByteArray *out, const Job *job)
{
    unsigned cards = 1;
    for (guint i = 0; i < job->entries->len; i++)
        cards = MAX(cards, ((Entry *)g_ptr_array_index(job->entries, i))->nic + 1);
    for (unsigned nic = 0; nic < cards; nic++) {
        g_autofree char *primary = g_strdup_printf("PVM nic %u", nic);
        g_autofree char *secondary = g_strdup_printf("SVM nic %u", nic);
        pcapng_interface(out, primary);
        pcapng_interface(out, secondary);
    }
}

/* The comment goes to the last frame that was there when the difference was found. */
static guint marked_entry(const Job *job)
{
    guint marked = 0;
    for (guint i = 0; i < job->entries->len; i++)
        if (((Entry *)g_ptr_array_index(job->entries, i))->when.us <= job->divergence.when.us)
            marked = i;
    return marked;
}

static GByteArray *encode(const Job *job)
{
    GByteArray *out = g_byte_array_new();
    g_autofree char *comment = describe(&job->divergence);
    guint marked = marked_entry(job);
    pcapng_section(out, comment);
    add_interfaces(out, job);
    for (guint i = 0; i < job->entries->len; i++) {
        const Entry *entry = g_ptr_array_index(job->entries, i);
        gsize len = 0;
        g_autofree guint8 *frame = plain_frame(entry->frame, &len);
        if (frame)
            pcapng_packet(out, interface_of(entry), entry->when.us + job->wall_offset_us, frame,
                          len, i == marked ? comment : NULL);
    }
    return out;
}

/* ---- Files ---- */

static gboolean fail(Job *job, const char *what, const char *path)
{
    int code = errno;
    g_set_error(&job->error, RECORDER_ERROR, RECORDER_ERROR_WRITE,
                "capture: can't %s %s: %s (no more is captured: make room, and turn it on again)",
                what, path, g_strerror(code));
    return FALSE;
}

/* The number in the name of one of our files; 0: it is none. */
static guint64 number_of(const char *name, const char *stem)
{
    gsize len = strlen(stem);
    if (strncmp(name, stem, len) != 0 || name[len] != '-')
        return 0;
    const char *digits = name + len + 1;
    gsize count = strspn(digits, "0123456789");
    if (count < 6 || count > 15 || strcmp(digits + count, SUFFIX) != 0)
        return 0;
    return g_ascii_strtoull(digits, NULL, 10);
}

/* Calls `visit` for each of our files. */
static gboolean for_each_file(Job *job,
                              void (*visit)(int folder, const char *name, guint64 number,
                                            guint64 *state),
                              guint64 *state)
{
    DIR *dir = opendir(job->folder);
    if (!dir)
        return fail(job, "read", job->folder);
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        guint64 number = number_of(entry->d_name, job->stem);
        if (number > 0)
            visit(dirfd(dir), entry->d_name, number, state);
    }
    closedir(dir);
    return TRUE;
}

static void find_highest(int folder, const char *name, guint64 number, guint64 *highest)
{
    (void)folder;
    (void)name;
    *highest = MAX(*highest, number);
}

static void remove_old(int folder, const char *name, guint64 number, guint64 *oldest)
{
    if (number < *oldest)
        (void)unlinkat(folder, name, 0);
}

static gboolean put_file(Job *job, const char *part, const GByteArray *bytes)
{
    (void)unlink(part); /* of a predecessor that was killed */
    COLO_AUTO_FD fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(job, "make", part);
    for (gsize done = 0; done < bytes->len;) {
        ssize_t put = write(fd, bytes->data + done, bytes->len - done);
        if (put < 0 && errno != EINTR)
            return fail(job, "write", part);
        done += (gsize)MAX(put, 0);
    }
    if (close(colo_fd_steal(&fd)) < 0)
        return fail(job, "write", part);
    return TRUE;
}

/* One at a time: a recorder that was freed may still be writing what a new one continues. */
static gboolean write_file(Job *job)
{
    static GMutex writing;
    g_autoptr(GMutexLocker) locker = g_mutex_locker_new(&writing);
    guint64 highest = 0;
    g_autoptr(GByteArray) bytes = encode(job);
    g_autofree char *part = g_strdup_printf("%s/.%s.part", job->folder, job->stem);
    if (!for_each_file(job, find_highest, &highest))
        return FALSE;
    g_autofree char *path =
        g_strdup_printf("%s/%s-%06" G_GUINT64_FORMAT SUFFIX, job->folder, job->stem, highest + 1);
    if (!put_file(job, part, bytes) || (rename(part, path) < 0 && !fail(job, "make", path))) {
        (void)unlink(part);
        return FALSE;
    }
    guint64 oldest = highest + 2 > job->last ? highest + 2 - job->last : 0;
    for_each_file(job, remove_old, &oldest);
    job->path = g_steal_pointer(&path);
    return TRUE;
}

/* ---- Jobs ---- */

static void start_next(Recorder *recorder);

static gboolean deliver(gpointer data)
{
    Job *job = data;
    Recorder *recorder = job->recorder;
    if (!recorder)
        return G_SOURCE_REMOVE;
    job->recorder = NULL;
    g_queue_pop_head(recorder->jobs);
    if (job->error)
        recorder->failed = TRUE;
    else
        recorder->stats.written++;
    start_next(recorder);
    recorder->written(job->path, job->error, recorder->user_data);
    job_unref(job); /* the recorder's */
    return G_SOURCE_REMOVE;
}

static gpointer write_thread(gpointer data)
{
    Job *job = data;
    write_file(job);
    g_autoptr(GMainContext) context = g_main_context_ref(job->context);
    g_autoptr(GSource) source = g_idle_source_new();
    g_source_set_callback(source, deliver, job, job_unref);
    g_source_attach(source, context);
    return NULL;
}

/* The first job gets its thread; if there can't be one now, the divergence goes without a file. */
static void start_next(Recorder *recorder)
{
    while (!g_queue_is_empty(recorder->jobs)) {
        Job *job = g_queue_peek_head(recorder->jobs);
        g_autoptr(GThread) thread = NULL;
        if (!recorder->failed) {
            g_atomic_int_inc(&job->refs);
            thread = g_thread_try_new("capture", write_thread, job, NULL);
            if (thread)
                return;
            job_unref(job);
        }
        recorder->stats.left_out++;
        job_unref(g_queue_pop_head(recorder->jobs));
    }
}

/* ---- Recording ---- */

static void drop_oldest(Recorder *recorder)
{
    Entry *entry = g_queue_pop_head(recorder->entries);
    recorder->bytes -= g_bytes_get_size(entry->frame);
    entry_free(entry);
}

static void record(Recorder *recorder, unsigned nic, gboolean secondary, guint64 epoch,
                   GBytes *frame, ColoTime now)
{
    if (recorder->failed)
        return;
    Entry *entry = g_new(Entry, 1);
    *entry = (Entry){nic, secondary, epoch, now, g_bytes_ref(frame)};
    g_queue_push_tail(recorder->entries, entry);
    recorder->bytes += g_bytes_get_size(frame);
    while (recorder->bytes > RECORDER_KEPT_BYTES ||
           g_queue_get_length(recorder->entries) > RECORDER_KEPT_FRAMES)
        drop_oldest(recorder);
}

void recorder_primary(Recorder *recorder, unsigned nic, guint64 epoch, GBytes *frame, ColoTime now)
{
    record(recorder, nic, FALSE, epoch, frame, now);
}

void recorder_secondary(Recorder *recorder, unsigned nic, guint64 epoch, GBytes *frame,
                        ColoTime now)
{
    record(recorder, nic, TRUE, epoch, frame, now);
}

void recorder_diverged(Recorder *recorder, const CompareDivergence *divergence)
{
    if (recorder->n_diverged < MAX_DIVERGED && !recorder->failed)
        recorder->diverged[recorder->n_diverged++] = *divergence;
    else
        recorder->stats.left_out++;
}

static gboolean belongs(const Entry *entry, const CompareDivergence *divergence)
{
    gsize len;
    const guint8 *data = g_bytes_get_data(entry->frame, &len);
    Packet packet;
    if (entry->epoch != divergence->epoch)
        return FALSE;
    /* A full table is nobody's flow. */
    if (divergence->reason == COMPARE_TABLE_FULL)
        return TRUE;
    packet_parse(data, len, TRUE, entry->nic, &packet);
    return !memcmp(&packet.key, &divergence->key, sizeof(packet.key));
}

/* The newest that have room in a file. */
static GPtrArray *choose(const Recorder *recorder, const CompareDivergence *divergence)
{
    GPtrArray *chosen = g_ptr_array_new_with_free_func(entry_free);
    gsize bytes = 0;
    for (GList *at = recorder->entries->tail; at; at = at->prev) {
        const Entry *entry = at->data;
        if (!belongs(entry, divergence))
            continue;
        bytes += g_bytes_get_size(entry->frame);
        if (bytes > RECORDER_FILE_BYTES)
            break;
        Entry *copy = g_memdup2(entry, sizeof(*entry));
        g_bytes_ref(copy->frame);
        g_ptr_array_add(chosen, copy);
    }
    for (guint i = 0; i < chosen->len / 2; i++) {
        gpointer *a = &chosen->pdata[i], *b = &chosen->pdata[chosen->len - 1 - i], swap = *a;
        *a = *b;
        *b = swap;
    }
    return chosen;
}

static void add_job(Recorder *recorder, const CompareDivergence *divergence)
{
    if (recorder->failed || g_queue_get_length(recorder->jobs) >= MAX_JOBS) {
        recorder->stats.left_out++;
        return;
    }
    Job *job = g_new(Job, 1);
    *job = (Job){.refs = 1,
                 .recorder = recorder,
                 .context = g_main_context_ref_thread_default(),
                 .folder = g_strdup(recorder->folder),
                 .stem = g_strdup(recorder->stem),
                 .last = recorder->last,
                 .divergence = *divergence,
                 .wall_offset_us = g_get_real_time() - g_get_monotonic_time(),
                 .entries = choose(recorder, divergence)};
    g_queue_push_tail(recorder->jobs, job);
    if (g_queue_get_length(recorder->jobs) == 1)
        start_next(recorder);
}

void recorder_flush(Recorder *recorder)
{
    for (guint i = 0; i < recorder->n_diverged; i++)
        add_job(recorder, &recorder->diverged[i]);
    recorder->n_diverged = 0;
}

/* ---- Life ---- */

static gboolean check_place(const char *file, const char *folder, const char *name, GError **error)
{
    struct stat st;
    if (!g_path_is_absolute(file) || !*name || g_str_has_suffix(file, "/") ||
        !g_utf8_validate(file, -1, NULL)) {
        g_set_error(error, RECORDER_ERROR, RECORDER_ERROR_PATH,
                    "capture: '%s' is not the absolute path of a file, like /var/tmp/web.pcapng",
                    file);
        return FALSE;
    }
    int failed = stat(folder, &st) < 0 ? errno : !S_ISDIR(st.st_mode) ? ENOTDIR : 0;
    if (!failed && access(folder, W_OK | X_OK) < 0)
        failed = errno;
    if (!failed)
        return TRUE;
    g_set_error(error, RECORDER_ERROR, RECORDER_ERROR_PATH,
                "capture: files can't be made in %s: %s (name a folder that colod may write to)",
                folder, g_strerror(failed));
    return FALSE;
}

Recorder *recorder_new(const char *file, guint last, RecorderFunc written, gpointer user_data,
                       GError **error)
{
    g_assert(last >= 1);
    g_autofree char *folder = g_path_get_dirname(file);
    g_autofree char *stem = g_path_get_basename(file);
    if (g_str_has_suffix(stem, SUFFIX))
        stem[strlen(stem) - strlen(SUFFIX)] = '\0';
    if (!check_place(file, folder, stem, error))
        return NULL;
    Recorder *recorder = g_new0(Recorder, 1);
    recorder->file = g_strconcat(folder, "/", stem, SUFFIX, NULL);
    recorder->folder = g_steal_pointer(&folder);
    recorder->stem = g_steal_pointer(&stem);
    recorder->last = last;
    recorder->written = written;
    recorder->user_data = user_data;
    recorder->entries = g_queue_new();
    recorder->jobs = g_queue_new();
    return recorder;
}

void recorder_free(Recorder *recorder)
{
    if (!recorder)
        return;
    recorder_flush(recorder);
    for (GList *at = recorder->jobs->head; at; at = at->next)
        ((Job *)at->data)->recorder = NULL;
    g_queue_free_full(recorder->jobs, job_unref);
    g_queue_free_full(recorder->entries, entry_free);
    g_free(recorder->file);
    g_free(recorder->folder);
    g_free(recorder->stem);
    g_free(recorder);
}

const char *recorder_file(const Recorder *recorder)
{
    return recorder->file;
}

guint recorder_last(const Recorder *recorder)
{
    return recorder->last;
}

const RecorderStats *recorder_stats(const Recorder *recorder)
{
    return &recorder->stats;
}
