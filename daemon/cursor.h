/* SPDX-License-Identifier: MIT */
#ifndef DAEMON_CURSOR_H
#define DAEMON_CURSOR_H

/*
 * A place among the messages of a queue that holds while they come and go: when the message
 * it stands at leaves, it stands at the next one. So who looks through a long queue, a few
 * messages at a time, never has to begin anew.
 */

#include "base/list.h"

struct message;
struct queue;

struct cursor {
	struct list link;    /* queue->cursors, or queue->cursors_at_end */
	struct queue *queue; /* NULL: closed, or the queue is gone */
	struct list *at; /* message->in_queue of the next one, or &queue->all: the end */
};

static inline void cursor_init(struct cursor *cursor)
{
	*cursor = (struct cursor){ .queue = NULL };
	list_init(&cursor->link);
}

/* At the first message, or behind the last. */
void cursor_open(struct cursor *cursor, struct queue *queue);
void cursor_open_at_end(struct cursor *cursor, struct queue *queue);

/* It is open: to message->in_queue, or &queue->all. */
void cursor_set(struct cursor *cursor, struct list *at);
void cursor_close(struct cursor *cursor);

/* The message it stands at, and goes on to the next; NULL at the end. */
struct message *cursor_next(struct cursor *cursor);

/* ---- for the queue ---- */

/* Takes a message out of the order it came in. */
void cursors_unlist(struct queue *queue, struct message *message);

/* The queue goes away. */
void cursors_close_all(struct queue *queue);

#endif
