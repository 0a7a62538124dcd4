/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every wait of a node: it is told, it has a limit or a reason for none, and each way out of it ends it
 * (tests/world/waits.h). With --table it prints the table of docs/WAITS.md.
 */
#include "tests/world/waits.h"

int main(int argc, char **argv)
{
    return waits_walk(argc, argv);
}
