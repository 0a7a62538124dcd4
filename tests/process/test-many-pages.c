/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A pair with a large guest, nearly all of whose memory is a hole, and much to say of its pages. */
#include "checkpoint/checkpoint_internal.h"
#include "common/log.h"
#include "tests/support/host-pair.h"

/* Every other page of this much: more runs than a control connection may have waiting. */
#define LARGE_GUEST_BYTES (G_GUINT64_CONSTANT(10) << 30)

/* DIRTY of a large guest that has written here and there: it comes in parts, as the link takes it.
 */
static void test_every_other_page(void)
{
    Fixture f;
    set_up(&f, "file");
    for (int i = 0; i < 2; i++) {
        Config *config = f.host[i].config;
        config->vm->memory_bytes = LARGE_GUEST_BYTES;
        /* Nearly all of it is a hole: to protect that takes longer than to look at it. */
        config->dirty_method = CONFIG_DIRTY_COMPARE;
    }
    for (int i = 0; i < 2; i++) {
        start(&f.host[i], i ? "secondary" : "primary");
        WAIT_FOR(f.host[i].vm);
        fake_vm_autorun(f.host[i].vm, 0, 0);
    }
    protect(&f, 0);
    quieten(&f);
    Node *a = f.host[0].node, *b = f.host[1].node;
    guint64 before = a->epoch;
    for (guint64 page = 0; page < LARGE_GUEST_BYTES / VM_PAGE_SIZE; page += 2)
        load_guard_mark(copy_guard(b->copy), page, 1);
    ask_for_checkpoint(&f);
    WAIT_FOR(trouble_last(a->trouble) || trouble_last(b->trouble) ||
             (a->epoch > before && pair_is_settled(&f)));
    g_assert_no_error(trouble_last(a->trouble));
    g_assert_no_error(trouble_last(b->trouble));
    tear_down(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_init("test", LOG_LEVEL_ERROR);
    add_pair_test_in("colo", "/many-pages/every-other-page", test_every_other_page);
    return g_test_run();
}
