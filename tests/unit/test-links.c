/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The inline list functions do what GLib's do, in any order, on queues that are whole GQueues. */
#include "netcompare/links.h"

#define LINKS 16
#define STEPS 20000

/* Both queues hold the same links' numbers, read from either end. */
static void assert_same(GQueue *ours, GQueue *theirs)
{
    g_assert_cmpuint(ours->length, ==, theirs->length);
    g_assert_cmpuint(ours->length, ==, g_list_length(ours->head));
    GList *a = ours->head, *b = theirs->head;
    for (; a && b; a = a->next, b = b->next)
        g_assert_true(a->data == b->data);
    g_assert_true(!a && !b);
    for (a = ours->tail, b = theirs->tail; a && b; a = a->prev, b = b->prev)
        g_assert_true(a->data == b->data);
    g_assert_true(!a && !b);
}

static void test_like_glib(void)
{
    GList ours[LINKS], theirs[LINKS];
    gboolean in[LINKS] = {FALSE};
    GQueue a = G_QUEUE_INIT, b = G_QUEUE_INIT;
    for (guint i = 0; i < LINKS; i++)
        ours[i] = theirs[i] = (GList){.data = GUINT_TO_POINTER(i)};
    for (guint step = 0; step < STEPS; step++) {
        gint32 i = g_test_rand_int_range(0, LINKS), after = g_test_rand_int_range(0, LINKS);
        if (in[i]) {
            links_remove(&a, &ours[i]);
            g_queue_unlink(&b, &theirs[i]);
            g_assert_true(!ours[i].next && !ours[i].prev);
        } else if (step % 2) {
            links_push(&a, &ours[i]);
            g_queue_push_tail_link(&b, &theirs[i]);
        } else {
            links_insert_after(&a, in[after] ? &ours[after] : NULL, &ours[i]);
            g_queue_insert_after_link(&b, in[after] ? &theirs[after] : NULL, &theirs[i]);
        }
        in[i] = !in[i];
        assert_same(&a, &b);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/links/like-glib", test_like_glib);
    return g_test_run();
}
