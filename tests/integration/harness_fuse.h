/* SPDX-License-Identifier: MIT */
#ifndef INTEGRATION_HARNESS_FUSE_H
#define INTEGRATION_HARNESS_FUSE_H

/*
 * A file system, fuse(4), whose answers do not come: what a process does with a file of it
 * hangs there, in close(2) and fstat(2) as well as in read(2).
 *
 * It is a child with a mount namespace of its own, so that no end of the test leaves a mount
 * behind: with the child the kernel lets go of all who wait. Needs root and /dev/fuse.
 *
 * It has one file of HUNG_FUSE_SIZE bytes, as those of pattern(). The test itself must not
 * touch what it has told to hang: closes its own descriptors before that, or keeps them.
 */

#include "integration/harness.h"

enum { HUNG_FUSE_SIZE = 600000 };

/* For ipcd: a descriptor that does not answer is given up soon. */
#define HUNG_SOON "--limit", "fd_deadline=300"

enum hung_call { HANG_READ, HANG_STAT, HANG_CLOSE, N_HANGS };

struct hung_fuse;

/* A line of a group's table: the teardown answers what still hangs, since an ipcd could not
 * end before that. */
#define it_hangs(test) \
	cmocka_unit_test_setup_teardown(test, harness_setup, hung_fuse_teardown)
int hung_fuse_teardown(void **state);

/* Skips the test where it cannot be. One in a test. */
struct hung_fuse *hung_fuse_start(void);

/* The same, of a device, as ntfs-3g(8) has one: fuseblk. */
struct hung_fuse *hung_fuse_start_on_device(void);

/* Opens the file; a kept descriptor. */
int hung_fuse_open(struct hung_fuse *f, int flags);

/* From now on such a call is not answered. */
void hung_fuse_hang(struct hung_fuse *f, enum hung_call call);

/* How many wait for their answer, and how many calls of this kind came at all. */
int hung_fuse_count(const struct hung_fuse *f);
int hung_fuse_calls(const struct hung_fuse *f, enum hung_call call);

/* Answers all that wait, and all that will come. */
void hung_fuse_answer(struct hung_fuse *f);

/* So many of the next reads and looks change the file's time of change. */
void hung_fuse_change(struct hung_fuse *f, int reads);

/* Ends it; who waits gets an error. */
void hung_fuse_end(struct hung_fuse *f);

#endif
