/* SPDX-License-Identifier: MIT */
#ifndef INTEGRATION_POWERCUT_H
#define INTEGRATION_POWERCUT_H

/*
 * What a test and powercut_shim.so inside the program under test share: a mapped file,
 * named by the first variable. The second names the directory whose disk is modelled.
 * See powercut_disk.c for the model.
 */

#include <stdint.h>

#define POWERCUT_FILE_VARIABLE "IPC_TEST_POWERCUT_FILE"
#define POWERCUT_ROOT_VARIABLE "IPC_TEST_POWERCUT_ROOT"

/* What a cut takes away of that which was not synced. */
enum powercut_loss {
	LOSS_DRAWN,   /* one of those below, drawn anew for each file */
	LOSS_ALL,     /* everything */
	LOSS_NONE,    /* nothing: as if only the process had died */
	LOSS_WRITES,  /* any of the writes, each as a whole */
	LOSS_SECTORS, /* any of the sectors: writes are torn */
	LOSS_ORDERED, /* what came after some moment; the write of that moment is torn */
};

struct powercut_control {
	/* From the test. Countdowns: 1 means the next one, 0 never. */
	_Atomic uint32_t now;	  /* 1: cut, wherever it is; set by powercut_now() */
	_Atomic int process_only; /* a cut is only kill -9: all stays unsynced, for the
				   * next process with the same control */
	_Atomic int loss;	  /* enum powercut_loss */
	_Atomic uint64_t seed;
	_Atomic int sync_us;	     /* how long a sync takes */
	_Atomic long changes_to_cut; /* after this change (write, resize, name) */
	_Atomic long syncs_to_cut;   /* somewhere in this sync */
	_Atomic long syncs_to_error; /* this sync fails with EIO, and drops its writes */
	_Atomic long errors_left;    /* so many in all from it on; 0 is one */
	_Atomic int is_limited;	     /* the disk has only so much room left: */
	_Atomic long room;

	/* From the shim. */
	_Atomic long changes, syncs, errors, refusals; /* how often, in all processes */
	_Atomic int cutter; /* pid of who carries out the cut */
	_Atomic long lost_sectors, kept_sectors, lost_names, kept_names; /* by cuts */
	char broken[256]; /* the model does not hold, and why; "" if it does */
};

#endif
