/* SPDX-License-Identifier: MIT */

/* Each allocation fails in turn while files are sent, received and saved: nothing is lost,
 * freed twice or left open, and no half of a file has a name. */

#include "unit/client_memory.h"

#include <dirent.h>
#include <sys/mman.h>

enum { PIECE = 262144, LARGE = 2 * PIECE + 1 };

static char data[LARGE];

static int new_file(size_t size)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	assert_int_equal(write(fd, data, size), size);
	return fd;
}

/* sweep() with files, and with nothing left open. */
static void sweep_files(int (*scenario)(struct fake *f), void (*say)(struct fake *f))
{
	int before = count_fds();

	fake_takes_files = true;
	sweep(scenario, say);
	fake_takes_files = false;
	assert_int_equal(count_fds(), before);
}

/* ---- sending ---- */

static void say_sent(struct fake *f)
{
	fake_say(f, "{\"re\":2,\"message\":1}");
}

static void say_nothing(struct fake *f)
{
	(void)f;
}

static void ignore(struct ipc_client *client, const struct ipc_reply *reply,
		   void *userdata)
{
	(void)client;
	(void)reply;
	(void)userdata;
}

static int send_file(struct fake *f, size_t size, bool async)
{
	struct ipc_message *m = NULL;
	int fd = new_file(size), r;

	r = ipc_message_new(&m);
	if (!r)
		r = ipc_message_set_archive(m, "tar");
	if (!r)
		r = ipc_message_set_file(m, fd, "x.tar", IPC_FILE_MD5);
	if (!r && async)
		r = ipc_send_async(f->client, "q", m, 0, 0, ignore, NULL, NULL);
	else if (!r)
		r = ipc_send_message(f->client, "q", m, 0, 0, NULL);
	if (!r && async)
		r = ipc_client_flush(f->client);
	ipc_message_free(m);
	close(fd);
	return r;
}

static int send_small_file(struct fake *f)
{
	return send_file(f, 1000, false);
}

static int send_large_file(struct fake *f)
{
	return send_file(f, LARGE, false);
}

static int send_large_async(struct fake *f)
{
	return send_file(f, LARGE, true);
}

/* Without memory for a descriptor it goes in pieces, for which there is nobody here. */
static int send_large_body(struct fake *f)
{
	int r;

	assert_int_equal(ipc_client_set_timeout(f->client, 50), 0);
	r = ipc_send(f->client, "q", data, LARGE, NULL);
	return r == -ETIMEDOUT ? -ENOMEM : r;
}

static void test_sending(void **state)
{
	(void)state;
	sweep_files(send_small_file, say_sent);
	sweep_files(send_large_file, say_sent);
	sweep_files(send_large_async, say_nothing);
	sweep_files(send_large_body, say_sent);
}

/* ---- in pieces ---- */

static ssize_t read_source(void *buffer, size_t size, void *userdata)
{
	size_t *left = userdata, n = *left < size ? *left : size;

	memset(buffer, 0, n);
	*left -= n;
	return (ssize_t)n;
}

/* Takes all pieces, and answers what ends. */
static void *take_pieces(void *userdata)
{
	struct fake *f = userdata;

	while (fake_hear(f)) {
		if (strstr(f->header, "\"abort\""))
			fake_say(f, "{\"re\":2,\"error\":\"bad-request\"}");
		else if (!strstr(f->header, "\"more\""))
			fake_say(f, "{\"re\":2,\"message\":1}");
	}
	return NULL;
}

static int send_pieces(struct fake *f)
{
	struct ipc_message *m = NULL;
	size_t left = LARGE;
	pthread_t thread;
	int r;

	pthread_create(&thread, NULL, take_pieces, f);
	r = ipc_message_new(&m);
	if (!r)
		r = ipc_message_set_reader(m, read_source, &left, "x", 0);
	if (!r)
		r = ipc_send_message(f->client, "q", m, 0, 0, NULL);
	ipc_message_free(m);
	shutdown(f->fd, SHUT_RDWR);
	pthread_join(thread, NULL);
	return r;
}

static void test_pieces(void **state)
{
	(void)state;
	sweep_files(send_pieces, say_nothing);
}

/* ---- receiving and saving ---- */

static void say_file(struct fake *f)
{
	int fd = new_file(1000);

	fake_say_fd(
		f,
		"{\"re\":2,\"message\":1,\"lease\":\"l\",\"filename\":\"x\","
		"\"file_size\":1000,\"md5\":\"ede3d3b685b4e137ba4cb2521329a75e\",\"fds\":1}",
		fd);
	close(fd);
}

static unsigned int count_files(const char *path)
{
	DIR *d = opendir(path);
	unsigned int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static int look_and_save(struct ipc_message *m, int dir)
{
	char *json = NULL, *name = NULL;
	int r = ipc_message_verify(m);

	if (!r)
		r = ipc_message_to_json(m, true, &json);
	if (!r)
		r = ipc_message_save(m, dir, NULL, IPC_SAVE_RENAME, &name);
	free(json);
	free(name);
	return r;
}

static int receive_and_save(struct fake *f)
{
	struct ipc_message *m = NULL;
	char path[] = "/tmp/ipc-save-XXXXXX";
	int dir, r;

	assert_non_null(mkdtemp(path)); /* which allocates nothing */
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = ipc_receive(f->client, "q", 0, &m);
	if (!r)
		r = look_and_save(m, dir);
	if (r < 0)
		assert_int_equal(count_files(path), 0);
	ipc_message_free(m);
	unlinkat(dir, "x", 0);
	close(dir);
	rmdir(path);
	return r;
}

static void test_receiving(void **state)
{
	(void)state;
	sweep_files(receive_and_save, say_file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sending),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_receiving),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
