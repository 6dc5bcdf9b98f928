/* SPDX-License-Identifier: MIT */

/* Bodies that are read while they are sent, in pieces; what ends them early. */

#include "unit/client_send.h"

#include <sys/resource.h>

/* ---- a daemon that reads while the client sends ---- */

struct reading {
	struct fake *f;
	pthread_t thread;
	const char *answer; /* said after so many frames; or hang up */
	unsigned int answer_at;
	unsigned int n;
	char first[512], last[512];
	size_t body_size, first_size, last_size;
	bool as_expected; /* the bytes are those of large, over and over */
};

static bool is_last(const char *header)
{
	return !strstr(header, "\"more\":true");
}

static void note_frame(struct reading *r)
{
	struct fake *f = r->f;

	snprintf(r->n++ ? r->last : r->first, sizeof(r->first), "%.500s", f->header);
	if (r->n == 1)
		r->first_size = f->body_size;
	r->last_size = f->body_size;
	for (size_t i = 0; i < f->body_size; i++)
		r->as_expected &= f->body[i] == (char)((r->body_size + i) % 251);
	r->body_size += f->body_size;
}

static void *read_pieces(void *userdata)
{
	struct reading *r = userdata;
	bool ended = false;

	while (!ended && fake_hear(r->f)) {
		if (strstr(r->f->header, "\"other\"")) {
			fake_say(r->f, "{\"re\":3,\"message\":9}");
			continue;
		}
		note_frame(r);
		ended = is_last(r->f->header);
		if (r->n == r->answer_at || (ended && !r->answer_at)) {
			if (!r->answer) {
				shutdown(r->f->fd, SHUT_RDWR);
				break;
			}
			fake_say(r->f, "%s", r->answer);
		}
	}
	return NULL;
}

static void start_reading(struct reading *r, struct fake *f, const char *answer,
			  unsigned int answer_at)
{
	*r = (struct reading){
		.f = f, .answer = answer, .answer_at = answer_at, .as_expected = true
	};
	assert_int_equal(pthread_create(&r->thread, NULL, read_pieces, r), 0);
}

static void end_reading(struct reading *r)
{
	pthread_join(r->thread, NULL);
}

struct source {
	size_t size, done, most; /* most: given at once */
	int error;		 /* at the end */
	unsigned int n;
	struct ipc_client *client; /* which is used meanwhile */
};

static ssize_t read_source(void *buffer, size_t size, void *userdata)
{
	struct source *s = userdata;
	size_t n = s->size - s->done < size ? s->size - s->done : size;

	s->n++;
	if (!n && s->error)
		return s->error;
	if (n > s->most)
		n = s->most;
	for (size_t i = 0; i < n; i++)
		((char *)buffer)[i] = (char)((s->done + i) % 251);
	s->done += n;
	return (ssize_t)n;
}

static struct ipc_message *new_reader_message(struct source *s)
{
	struct ipc_message *m = new_message();

	assert_int_equal(ipc_message_set_reader(m, read_source, s, "x", IPC_FILE_MD5), 0);
	return m;
}

static void test_reader_of_little(void **state)
{
	struct fake *f = *state;
	struct source s = { .size = 300, .most = 7 };
	struct ipc_message *m = new_reader_message(&s);

	fake_say(f, SENT(7));
	assert_int_equal(send_it(f, m), 0);
	fake_expect(f, "{\"op\":\"send\",\"id\":2,\"queue\":\"q\",\"filename\":\"x\","
		       "\"file_size\":300,\"md5\":true,\"size\":300}");
	ipc_message_free(m);
}

static void test_reader(void **state)
{
	struct fake *f = *state;
	struct source s = { .size = (size_t)10 * PIECE + 5, .most = 100000 };
	struct ipc_message *m = new_reader_message(&s);
	struct progress p = { 0 };
	struct reading r;
	uint64_t number;

	ipc_message_set_progress(m, note_progress, &p);
	start_reading(&r, f, SENT(7), 0);
	assert_int_equal(ipc_send_message(f->client, "q", m, 0, 0, &number), 0);
	end_reading(&r);
	assert_int_equal(number, 7);
	assert_int_equal(r.n, 11);
	assert_true(r.as_expected);
	assert_int_equal(r.body_size, (size_t)10 * PIECE + 5);
	assert_string_equal(r.first, "{\"op\":\"send\",\"id\":2,\"queue\":\"q\","
				     "\"filename\":\"x\",\"md5\":true,\"progress\":true,"
				     "\"more\":true,\"size\":262144}");
	assert_string_equal(r.last, "{\"id\":2,\"size\":5}");
	assert_true(p.n >= 10); /* on a slow machine also within pieces */
	assert_true(p.done >= (size_t)10 * PIECE);
	assert_true(p.total == UINT64_MAX);
	ipc_message_free(m);
}

/* The end comes exactly behind a piece: the last one is empty. */
static void test_whole_pieces(void **state)
{
	struct fake *f = *state;
	struct source s = { .size = (size_t)2 * PIECE, .most = PIECE };
	struct ipc_message *m = new_reader_message(&s);
	struct reading r;

	start_reading(&r, f, SENT(7), 0);
	assert_int_equal(send_it(f, m), 0);
	end_reading(&r);
	assert_int_equal(r.n, 3);
	assert_string_equal(r.last, "{\"id\":2}");
	assert_true(r.as_expected);
	ipc_message_free(m);
}

static void *write_pipe(void *userdata)
{
	int fd = *(int *)userdata;

	for (size_t done = 0; done < (size_t)2 * PIECE;) {
		ssize_t n = write(fd, large + done, (size_t)2 * PIECE - done);

		if (n < 0)
			break;
		done += (size_t)n;
	}
	close(fd);
	return NULL;
}

static void test_pipe(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m;
	struct reading r;
	pthread_t writer;
	int pipefd[2];

	close(new_file(0));
	assert_int_equal(pipe2(pipefd, O_CLOEXEC), 0);
	assert_int_equal(fcntl(pipefd[0], F_SETFL, O_NONBLOCK), 0);
	m = new_file_message(pipefd[0], "x", 0);
	assert_int_equal(pthread_create(&writer, NULL, write_pipe, &pipefd[1]), 0);
	start_reading(&r, f, SENT(7), 0);
	assert_int_equal(send_it(f, m), 0);
	end_reading(&r);
	pthread_join(writer, NULL);
	assert_int_equal(r.body_size, (size_t)2 * PIECE);
	assert_true(r.as_expected);
	ipc_message_free(m);
	close(pipefd[0]);
}

static void test_body_without_memfd(void **state)
{
	struct fake *f = *state;
	struct reading r;

	close(new_file(0));
	no_memfd = true;
	start_reading(&r, f, SENT(7), 0);
	assert_int_equal(ipc_send(f->client, "q", large, (size_t)2 * PIECE + 9, NULL), 0);
	end_reading(&r);
	no_memfd = false;
	assert_int_equal(r.body_size, (size_t)2 * PIECE + 9);
	assert_int_equal(r.first_size, PIECE);
	assert_true(r.as_expected);
}

/* A memfd counts as a file: what it must not have would be the end of the process. */
static void test_body_over_the_file_limit(void **state)
{
	struct fake *f = *state;
	struct rlimit before, limit;
	struct reading r;

	close(new_file(0));
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	limit = before;
	limit.rlim_cur = (rlim_t)2 * PIECE;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	start_reading(&r, f, SENT(7), 0);
	assert_int_equal(ipc_send(f->client, "q", large, (size_t)2 * PIECE + 1, NULL), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	end_reading(&r);
	assert_int_equal(r.body_size, (size_t)2 * PIECE + 1);
	assert_true(r.as_expected);
}

/* ---- it ends early ---- */

static void test_early_refusal(void **state)
{
	struct fake *f = *state;
	struct source s = { .size = (size_t)1 << 40, .most = PIECE };
	struct ipc_message *m = new_reader_message(&s);
	struct reading r;

	start_reading(&r, f, "{\"re\":2,\"error\":\"quota\",\"message\":\"too much\"}",
		      3);
	assert_int_equal(send_it(f, m), -EDQUOT);
	assert_string_equal(ipc_client_get_error(f->client), "too much");
	assert_int_equal(ipc_client_flush(f->client), 0);
	end_reading(&r);
	assert_string_equal(r.last, "{\"id\":2,\"abort\":\"refused\"}");
	fake_say(f, "{\"re\":3,\"message\":8}");
	assert_int_equal(ipc_send(f->client, "q", "x", 1, NULL), 0); /* it is alive */
	ipc_message_free(m);
}

/* Of which no write of these tests has to wait for its reader. */
static void open_large_pipe(int pipefd[2])
{
	assert_int_equal(pipe2(pipefd, O_CLOEXEC), 0);
	assert_true(fcntl(pipefd[0], F_SETPIPE_SZ, 2 * PIECE) >= 2 * PIECE);
}

/* Also while the pipe has nothing to be read. */
static void test_early_refusal_of_a_pipe(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m;
	struct reading r;
	int pipefd[2];

	close(new_file(0));
	open_large_pipe(pipefd);
	assert_int_equal(write(pipefd[1], large, PIECE + 100), PIECE + 100);
	m = new_file_message(pipefd[0], "x", 0);
	start_reading(&r, f, "{\"re\":2,\"error\":\"quota\",\"message\":\"no\"}", 1);
	assert_int_equal(send_it(f, m), -EDQUOT);
	assert_int_equal(ipc_client_flush(f->client), 0);
	end_reading(&r);
	assert_string_equal(r.last, "{\"id\":2,\"abort\":\"refused\"}");
	ipc_message_free(m);
	close(pipefd[0]);
	close(pipefd[1]);
}

static void test_reader_gives_up(void **state)
{
	struct fake *f = *state;
	struct source s = { .size = (size_t)3 * PIECE, .most = PIECE, .error = -EIO };
	struct ipc_message *m = new_reader_message(&s);
	struct reading r;

	start_reading(&r, f,
		      "{\"re\":2,\"error\":\"bad-request\",\"message\":\"given up\"}", 0);
	assert_int_equal(send_it(f, m), -EIO);
	end_reading(&r);
	assert_non_null(strstr(ipc_client_get_error(f->client), "cannot be read"));
	assert_string_equal(r.last, "{\"id\":2,\"abort\":\"the sender has given up\"}");
	s = (struct source){ .most = PIECE, .error = -EPERM };
	assert_int_equal(send_it(f, m), -EPERM); /* before the first piece */
	fake_expect_silence(f);
	ipc_message_free(m);
}

static ssize_t lying_reader(void *buffer, size_t size, void *userdata)
{
	(void)buffer;
	(void)userdata;
	return (ssize_t)size + 1;
}

static void test_reader_lies(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m = new_message();

	assert_int_equal(ipc_message_set_reader(m, lying_reader, NULL, NULL, 0), 0);
	assert_int_equal(send_it(f, m), -EOVERFLOW);
	fake_expect_silence(f);
	ipc_message_free(m);
}

static void test_progress_ends_pieces(void **state)
{
	struct fake *f = *state;
	struct source s = { .size = (size_t)1 << 40, .most = PIECE };
	struct ipc_message *m = new_reader_message(&s);
	struct progress p = { .stop_at = 3 };
	struct reading r;

	ipc_message_set_progress(m, note_progress, &p);
	start_reading(&r, f,
		      "{\"re\":2,\"error\":\"bad-request\",\"message\":\"given up\"}", 0);
	assert_int_equal(send_it(f, m), -ECANCELED);
	end_reading(&r);
	assert_int_equal(r.n, 4);
	assert_string_equal(r.last, "{\"id\":2,\"abort\":\"the sender has given up\"}");
	ipc_message_free(m);
}

/* Nothing comes any more: that is told, too, and so it can be given up. */
static void test_progress_while_waiting(void **state)
{
	struct fake *f = *state;
	struct progress p = { .stop_at = 2 };
	struct ipc_message *m;
	struct reading r;
	int pipefd[2];

	close(new_file(0));
	open_large_pipe(pipefd);
	m = new_file_message(pipefd[0], "x", 0);
	ipc_message_set_progress(m, note_progress, &p);
	assert_int_equal(write(pipefd[1], large, 100), 100);
	assert_int_equal(send_it(f, m), -ECANCELED);
	assert_int_equal(p.n, 2);
	assert_int_equal(p.done, 100);
	fake_expect_silence(f);

	p = (struct progress){ .stop_at = 3 };
	assert_int_equal(write(pipefd[1], large, PIECE + 100), PIECE + 100);
	start_reading(&r, f,
		      "{\"re\":2,\"error\":\"bad-request\",\"message\":\"given up\"}", 0);
	assert_int_equal(send_it(f, m), -ECANCELED);
	end_reading(&r);
	assert_int_equal(p.done, PIECE + 100);
	assert_string_equal(r.last, "{\"id\":2,\"abort\":\"the sender has given up\"}");
	ipc_message_free(m);
	close(pipefd[0]);
	close(pipefd[1]);
}

static void test_lost_on_the_way(void **state)
{
	struct fake *f = *state;
	struct source s = { .size = (size_t)1 << 40, .most = PIECE };
	struct ipc_message *m = new_reader_message(&s);
	struct reading r;

	start_reading(&r, f, NULL, 3);
	assert_int_equal(send_it(f, m), -ECONNRESET);
	end_reading(&r);
	ipc_message_free(m);
}

/* Before anything was read: there is no request yet that could be lost. */
static void test_lost_before_the_first_piece(void **state)
{
	struct fake *f = *state;
	struct ipc_message *m;
	int pipefd[2];

	assert_int_equal(pipe2(pipefd, O_CLOEXEC), 0);
	m = new_file_message(pipefd[0], "x", 0);
	fake_hang_up(f);
	assert_int_equal(send_it(f, m), -ECONNRESET);
	assert_non_null(strstr(ipc_client_get_error(f->client), "closed the connection"));
	ipc_message_free(m);
	close(pipefd[0]);
	close(pipefd[1]);
}

static ssize_t busy_reader(void *buffer, size_t size, void *userdata)
{
	struct source *s = userdata;
	uint64_t number = 0;

	if (s->n == 2) {
		assert_int_equal(ipc_send(s->client, "other", "y", 1, &number), 0);
		assert_int_equal(number, 9);
	}
	return read_source(buffer, size, userdata);
}

/* Who gives the bytes may use the client: other frames stand between the pieces. */
static void test_reader_uses_the_client(void **state)
{
	struct fake *f = *state;
	struct source s = { .size = (size_t)3 * PIECE + 1,
			    .most = PIECE,
			    .client = f->client };
	struct ipc_message *m = new_message();
	struct reading r;

	assert_int_equal(ipc_message_set_reader(m, busy_reader, &s, NULL, 0), 0);
	start_reading(&r, f, SENT(7), 0);
	assert_int_equal(send_it(f, m), 0);
	end_reading(&r);
	assert_int_equal(r.body_size, (size_t)3 * PIECE + 1);
	assert_true(r.as_expected);
	ipc_message_free(m);
}

static void told(struct ipc_client *client, bool restarted, uint64_t n_held,
		 void *userdata)
{
	(void)client;
	(void)restarted;
	(void)n_held;
	(void)userdata;
}

static void *hang_up_and_greet(void *userdata)
{
	struct fake *f = userdata;

	fake_hear(f);
	fake_hang_up(f);
	f->fd = accept(f->listener, NULL, NULL);
	while (fake_hear(f))
		if (strstr(f->header, "hello"))
			fake_say(f, "{\"re\":3,\"server\":\"fake\",\"peer\":2}");
	return NULL;
}

/* What was read cannot be read again, with a dedup id or not. */
static void test_not_sent_again(void **state)
{
	struct fake *f = *state;
	struct source s = { .size = (size_t)3 * PIECE, .most = PIECE };
	struct ipc_message *m = new_reader_message(&s);
	pthread_t thread;

	assert_int_equal(ipc_message_set_dedup_id(m, "a"), 0);
	assert_int_equal(ipc_client_set_reconnect(f->client, told, NULL), 0);
	pthread_create(&thread, NULL, hang_up_and_greet, f);
	assert_int_equal(send_it(f, m), -ECONNRESET);
	while (ipc_client_get_fd(f->client) < 0)
		assert_true(ipc_client_process(f->client) >= 0);
	f->client = ipc_client_close(f->client);
	pthread_join(thread, NULL);
	assert_non_null(strstr(f->header, "hello")); /* and nothing after it */
	ipc_message_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		fake_files_test(test_reader_of_little),
		fake_files_test(test_reader),
		fake_files_test(test_whole_pieces),
		fake_files_test(test_pipe),
		fake_files_test(test_body_without_memfd),
		fake_files_test(test_body_over_the_file_limit),
		fake_files_test(test_early_refusal),
		fake_files_test(test_early_refusal_of_a_pipe),
		fake_files_test(test_reader_gives_up),
		fake_files_test(test_reader_lies),
		fake_files_test(test_progress_ends_pieces),
		fake_files_test(test_progress_while_waiting),
		fake_files_test(test_lost_on_the_way),
		fake_files_test(test_lost_before_the_first_piece),
		fake_files_test(test_reader_uses_the_client),
		fake_files_test(test_not_sent_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
