/* SPDX-License-Identifier: MIT */

#include "scan.h"

#include "base/err.h"

enum { SCAN_AT_ONCE = 2000 };

void scan_init(struct scan *scan, uint16_t states, uint64_t last)
{
	*scan = (struct scan){ .states = states, .last = last, .left = SCAN_AT_ONCE };
	cursor_init(&scan->cursor);
}

void scan_deinit(struct scan *scan)
{
	cursor_close(&scan->cursor);
}

void scan_open(struct scan *scan, struct queue *queue)
{
	cursor_open(&scan->cursor, queue);
}

void scan_begin_turn(struct scan *scan)
{
	scan->left = SCAN_AT_ONCE;
}

int scan_set_timer(struct loop *loop, struct timer *again)
{
	/* what is due now would still be run in this pass */
	return err_trace(timer_set(loop, again, loop->now_ns + 1));
}

int scan_next(struct scan *scan, struct message **ret_message)
{
	struct message *m;

	while (scan->left) {
		m = cursor_next(&scan->cursor);
		if (!m || m->number > scan->last)
			return SCAN_END;
		scan->left--;
		if (!(scan->states >> m->state & 1))
			continue;
		*ret_message = m;
		return SCAN_FOUND;
	}
	return SCAN_PAUSE;
}
