/* SPDX-License-Identifier: MIT */
#ifndef BASE_ERR_H
#define BASE_ERR_H

/*
 * Results are 0 (or a documented positive value) on success and -errno on failure.
 * err_origin() marks where a failure was born, err_trace() each place it passes: both
 * return their argument, cost nothing on success, and note file and line on failure in a
 * short per-thread trail. err_trail() is what a log line of the last failure prints.
 */

#include "base/util.h"

int err_note(int r, const char *file, int line, bool origin);

#define err_origin(r)                                                             \
	({                                                                        \
		int err_r_ = (r);                                                 \
		err_r_ < 0 ? err_note(err_r_, __FILE__, __LINE__, true) : err_r_; \
	})
#define err_trace(r)                                                               \
	({                                                                         \
		int err_r_ = (r);                                                  \
		err_r_ < 0 ? err_note(err_r_, __FILE__, __LINE__, false) : err_r_; \
	})

/* "stream.c:88 < peer.c:120"; valid until the thread's next failure; never NULL. */
const char *err_trail(void);

#endif
