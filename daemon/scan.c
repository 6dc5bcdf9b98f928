/* SPDX-License-Identifier: MIT */

#include "scan.h"

#include "base/err.h"

enum { SCAN_AT_ONCE = 2000 };

void scan_init(struct scan *scan, uint16_t states, struct filter *filter, uint64_t last)
{
	*scan = (struct scan){
		.states = states,
		.filter = filter,
		.last = last,
		.left = SCAN_AT_ONCE,
	};
	cursor_init(&scan->cursor);
}

void scan_deinit(struct scan *scan)
{
	cursor_close(&scan->cursor);
	scan->filter = filter_free(scan->filter);
}

void scan_open(struct scan *scan, struct queue *queue)
{
	cursor_open(&scan->cursor, queue);
}

void scan_close(struct scan *scan)
{
	cursor_close(&scan->cursor);
}

void scan_begin_turn(struct scan *scan)
{
	scan->left = SCAN_AT_ONCE;
}

void scan_put_back(struct scan *scan, struct message *message)
{
	cursor_set(&scan->cursor, &message->in_queue);
}

int scan_next(struct scan *scan, struct message **ret_message)
{
	while (scan->left) {
		struct message *m = cursor_next(&scan->cursor);
		unsigned int cost;
		int r;

		if (!m || m->number > scan->last)
			return SCAN_END;
		scan->left--;
		if (!(scan->states >> m->state & 1))
			continue;
		cost = filter_cost(scan->filter, m);
		scan->left -= cost < scan->left ? cost : scan->left;
		r = filter_matches(scan->filter, m);
		if (r < 0)
			return err_trace(r);
		*ret_message = m;
		if (r > 0)
			return SCAN_FOUND;
	}
	return SCAN_PAUSE;
}
