/* SPDX-License-Identifier: MIT */

#include "write_behind.h"

#include <pthread.h>

#include "base/err.h"
#include "wire/digest.h"

enum {
	BUFFERS = 8,
	MANY = 4, /* who waits is woken for so many: one alone is not worth it */
	STACK_BYTES = 256 * 1024,
};

struct write_behind {
	struct filling *filling;
	char *data;	   /* all buffers */
	bool wants_thread; /* with the next buffer */
	bool has_thread;
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t full, empty; /* there is one, or ended; there is one, or failed */
	unsigned int n_put, n_written; /* of these, so many are under way */
	size_t sizes[BUFFERS];
	bool ended, failed;
};

static char *buffer_of(const struct write_behind *w, unsigned int i)
{
	return w->data + (size_t)(i % BUFFERS) * WRITE_BEHIND_BYTES;
}

/* ---- the thread ---- */

static void write_one(struct write_behind *w)
{
	unsigned int i = w->n_written;
	bool ok = !w->failed;

	pthread_mutex_unlock(&w->mutex);
	ok = ok && filling_write(w->filling, buffer_of(w, i), w->sizes[i % BUFFERS]);
	pthread_mutex_lock(&w->mutex);
	w->failed = !ok;
	w->n_written++;
	if (w->failed || w->n_put - w->n_written <= BUFFERS - MANY)
		pthread_cond_signal(&w->empty);
}

static void *thread_main(void *arg)
{
	struct write_behind *w = arg;

	pthread_mutex_lock(&w->mutex);
	while (!w->ended || w->n_written != w->n_put) {
		if (w->n_written == w->n_put)
			pthread_cond_wait(&w->full, &w->mutex);
		else
			write_one(w);
	}
	pthread_mutex_unlock(&w->mutex);
	digest_end_thread();
	return NULL;
}

/* With the signals blocked that the worker has blocked: all. */
static void start_thread(struct write_behind *w)
{
	pthread_attr_t attr;

	w->wants_thread = false;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	w->has_thread = pthread_create(&w->thread, &attr, thread_main, w) == 0;
	pthread_attr_destroy(&attr);
}

/* ---- the worker ---- */

int write_behind_new(struct write_behind **ret_writer, struct filling *f, bool wanted)
{
	struct write_behind *w = calloc(1, sizeof(*w));

	if (!w)
		return err_origin(-ENOMEM);
	w->data = malloc((wanted ? BUFFERS : 1) * (size_t)WRITE_BEHIND_BYTES);
	if (!w->data) {
		free(w);
		return err_origin(-ENOMEM);
	}
	w->filling = f;
	pthread_mutex_init(&w->mutex, NULL); /* these three cannot fail on Linux */
	pthread_cond_init(&w->full, NULL);
	pthread_cond_init(&w->empty, NULL);
	w->wants_thread = wanted;
	*ret_writer = w;
	return 0;
}

char *write_behind_get(struct write_behind *w)
{
	bool failed;

	if (!w->has_thread)
		return w->failed ? NULL : w->data;
	pthread_mutex_lock(&w->mutex);
	while (w->n_put - w->n_written == BUFFERS && !w->failed)
		pthread_cond_wait(&w->empty, &w->mutex);
	failed = w->failed;
	pthread_mutex_unlock(&w->mutex);
	return failed ? NULL : buffer_of(w, w->n_put);
}

bool write_behind_put(struct write_behind *w, size_t size)
{
	if (w->wants_thread && size >= WRITE_BEHIND_BYTES / 2) /* it comes fast */
		start_thread(w);
	if (!w->has_thread) {
		w->failed = !filling_write(w->filling, w->data, size);
		return !w->failed;
	}
	pthread_mutex_lock(&w->mutex);
	w->sizes[w->n_put++ % BUFFERS] = size;
	if (w->n_put - w->n_written >= MANY)
		pthread_cond_signal(&w->full);
	pthread_mutex_unlock(&w->mutex);
	return true;
}

void write_behind_flush(struct write_behind *w)
{
	if (w->has_thread)
		pthread_cond_signal(&w->full);
}

struct write_behind *write_behind_free(struct write_behind *w)
{
	if (w->has_thread) {
		pthread_mutex_lock(&w->mutex);
		w->ended = true;
		pthread_cond_signal(&w->full);
		pthread_mutex_unlock(&w->mutex);
		pthread_join(w->thread, NULL);
	}
	pthread_mutex_destroy(&w->mutex);
	pthread_cond_destroy(&w->full);
	pthread_cond_destroy(&w->empty);
	free(w->data);
	free(w);
	return NULL;
}
