/* SPDX-License-Identifier: MIT */

#include "cursor.h"

#include "queue.h"

void cursor_open(struct cursor *cursor, struct queue *queue)
{
	cursor_close(cursor);
	cursor->queue = queue;
	cursor->at = queue->all.next;
	list_add_tail(&queue->cursors, &cursor->link);
}

/* No message that leaves has to look for it. */
void cursor_open_at_end(struct cursor *cursor, struct queue *queue)
{
	cursor_close(cursor);
	cursor->queue = queue;
	cursor->at = &queue->all;
	list_add_tail(&queue->cursors_at_end, &cursor->link);
}

void cursor_set(struct cursor *cursor, struct message *message)
{
	list_remove(&cursor->link);
	list_add_tail(&cursor->queue->cursors, &cursor->link);
	cursor->at = &message->in_queue;
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
