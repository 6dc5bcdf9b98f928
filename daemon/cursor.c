/* SPDX-License-Identifier: MIT */

#include "cursor.h"

#include "queue.h"

/* No message that leaves has to look for those at the end. */
void cursor_set(struct cursor *cursor, struct list *at)
{
	struct queue *queue = cursor->queue;

	list_remove(&cursor->link);
	list_add_tail(at == &queue->all ? &queue->cursors_at_end : &queue->cursors,
		      &cursor->link);
	cursor->at = at;
}

void cursor_open(struct cursor *cursor, struct queue *queue)
{
	cursor->queue = queue;
	cursor_set(cursor, queue->all.next);
}

void cursor_open_at_end(struct cursor *cursor, struct queue *queue)
{
	cursor->queue = queue;
	cursor_set(cursor, &queue->all);
}

void cursor_close(struct cursor *cursor)
{
	list_remove(&cursor->link);
	cursor->queue = NULL;
	cursor->at = NULL;
}

struct message *cursor_next(struct cursor *cursor)
{
	struct list *at = cursor->at;

	if (!cursor->queue || at == &cursor->queue->all)
		return NULL;
	cursor->at = at->next;
	return LIST_ENTRY(at, struct message, in_queue);
}

/* What stands before the oldest one is dead, so the one before will be passed again. */
static void move_oldest(struct queue *queue, const struct list *gone)
{
	if (queue->oldest != gone)
		return;
	queue->oldest = gone->next != &queue->all ? gone->next : gone->prev;
	if (queue->oldest == &queue->all)
		queue->oldest = NULL;
}

void cursors_unlist(struct queue *queue, struct message *message)
{
	struct list *gone = &message->in_queue, *next = gone->next;

	LIST_FOREACH(link, &queue->cursors) {
		struct cursor *cursor = LIST_ENTRY(link, struct cursor, link);

		if (cursor->at == gone)
			cursor->at = next;
	}
	move_oldest(queue, gone);
	list_remove(gone);
}

void cursors_close_all(struct queue *queue)
{
	LIST_FOREACH_SAFE(link, &queue->cursors)
		cursor_close(LIST_ENTRY(link, struct cursor, link));
	LIST_FOREACH_SAFE(link, &queue->cursors_at_end)
		cursor_close(LIST_ENTRY(link, struct cursor, link));
}
