/* SPDX-License-Identifier: MIT */
#ifndef INTEGRATION_OOM_SHIM_H
#define INTEGRATION_OOM_SHIM_H

/* What test_oom.c and the shim inside ipcd share: a mapped file, named by this variable. */

#define OOM_FILE_VARIABLE "IPC_TEST_OOM_FILE"

struct oom_control {
	_Atomic long countdown; /* 1: the next allocation fails; 0: not armed */
	_Atomic long failed;	/* how many have failed since */
	_Atomic int all_after;	/* not only this one, but all from it on */
	_Atomic long seen;	/* allocations at all: the shim is at work */
};

#endif
