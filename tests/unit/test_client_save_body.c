/* SPDX-License-Identifier: MIT */

/* What is saved of a message: its digests and size looked at, its holes, mode and time kept,
 * or what a live descriptor gives. */

#include "unit/client_save.h"

/* ---- digests and sizes ---- */

static void test_digest_differs(void **state)
{
	struct world *w = *state;
	struct ipc_message *m = receive(w, MD5_OTHER, -1, "abc");

	expect_failure(w, m, 0, -EBADMSG);
	expect_failure(w, m, IPC_SAVE_REPLACE, -EBADMSG);
	assert_int_equal(ipc_message_verify(m), -EBADMSG);
	ipc_message_free(m);
}

/* All that are there must be right. */
static void test_all_digests(void **state)
{
	static const char *const sets[] = {
		"\"xxh3\":\"06b05ab6733a618578af5f94892f3950\",\"sha256\":"
		"\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"," MD5_ABC,
		"\"xxh3\":\"06b05ab6733a618578af5f94892f3951\"," MD5_ABC,
		MD5_ABC
		",\"sha256\":"
		"\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ae\"",
	};
	struct world *w = *state;

	for (size_t i = 0; i < 3; i++) {
		int fd = new_file(w, "abc", 3), expected = i ? -EBADMSG : 0;
		struct ipc_message *m;
		char keys[512];

		snprintf(keys, sizeof(keys), "\"file_size\":3,%s", sets[i]);
		m = receive_anew(w, keys, fd);
		assert_int_equal(lseek(ipc_message_get_fd(m), 2, SEEK_SET), 2);
		assert_int_equal(ipc_message_verify(m), expected);
		assert_int_equal(lseek(ipc_message_get_fd(m), 0, SEEK_CUR), 2);
		assert_int_equal(ipc_message_save(m, w->dir, "x", 0, NULL), expected);
		assert_int_equal(count_files(w), i == 0);
		assert_int_equal(n_copies + n_clones, 0); /* the bytes must be seen */
		unlinkat(w->dir, "x", 0);
		ipc_message_free(m);
		close(fd);
	}
}

static void test_size_differs(void **state)
{
	struct world *w = *state;

	for (unsigned int size = 2; size <= 4; size += 2) {
		int fd = new_file(w, "abc", 3);
		struct ipc_message *m;
		char keys[64];

		snprintf(keys, sizeof(keys), "\"file_size\":%u", size);
		m = receive_anew(w, keys, fd);
		assert_int_equal(ipc_message_save(m, w->dir, "x", 0, NULL), -EBADMSG);
		assert_int_equal(ipc_message_verify(m), -EBADMSG);
		assert_int_equal(count_files(w), 0);
		ipc_message_free(m);
		close(fd);
	}
}

/* ---- what is kept ---- */

static void test_mode_and_time(void **state)
{
	struct world *w = *state;
	struct ipc_message *m = receive(
		w, "\"mode\":511,\"mtime\":-1000,\"mtime_ns\":123456789", -1, "abc");
	struct stat st;

	umask(027);
	for (int way = 0; way < 2; way++) {
		no_tmpfile = way;
		assert_int_equal(ipc_message_save(m, w->dir, "x", IPC_SAVE_REPLACE, NULL),
				 0);
		assert_int_equal(fstatat(w->dir, "x", &st, 0), 0);
		assert_int_equal(st.st_mode, S_IFREG | 0750);
		assert_int_equal(st.st_mtim.tv_sec, -1000);
		assert_int_equal(st.st_mtim.tv_nsec, 123456789);
		assert_int_equal(st.st_nlink, 1);
	}
	ipc_message_free(m);
}

static void test_default_mode(void **state)
{
	struct world *w = *state;
	struct ipc_message *m = receive(w, "", -1, "abc");
	struct stat st;

	assert_int_equal(ipc_message_save(m, w->dir, "x", 0, NULL), 0);
	assert_int_equal(fstatat(w->dir, "x", &st, 0), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0644);
	assert_true(st.st_mtim.tv_sec > 1000000000);
	ipc_message_free(m);
}

/* A hole, data, a hole; by the kernel and by hand. */
static void test_holes(void **state)
{
	struct world *w = *state;
	char byte;

	for (int by_hand = 0; by_hand < 2; by_hand++) {
		int fd = new_file(w, "", 0);
		struct ipc_message *m;
		struct stat st;

		assert_int_equal(pwrite(fd, "abc", 3, 10000000), 3);
		assert_int_equal(ftruncate(fd, 20000000), 0);
		m = receive_anew(w, "\"file_size\":20000000", fd);
		no_copy_range = by_hand;
		assert_int_equal(ipc_message_save(m, w->dir, "x", IPC_SAVE_REPLACE, NULL),
				 0);
		assert_int_equal(fstatat(w->dir, "x", &st, 0), 0);
		assert_int_equal(st.st_size, 20000000);
		assert_in_range(st.st_blocks, 1, 100);
		ipc_message_free(m);
		close(fd);
		fd = __real_openat(w->dir, "x", O_RDONLY | O_CLOEXEC, 0);
		assert_int_equal(pread(fd, &byte, 1, 10000002), 1);
		assert_int_equal(byte, 'c');
		close(fd);
	}
}

/* To a digest it is 300,000 zeros. */
static void test_hole_with_digest(void **state)
{
	struct world *w = *state;
	int fd = new_file(w, "", 0);
	struct ipc_message *m;
	struct stat st;

	assert_int_equal(ftruncate(fd, 300000), 0);
	m = receive(w,
		    "\"file_size\":300000,\"md5\":\"4a21de7a58fb8ecb9a1b1f08a3068269\"",
		    fd, NULL);
	assert_int_equal(ipc_message_save(m, w->dir, "x", 0, NULL), 0);
	assert_int_equal(fstatat(w->dir, "x", &st, 0), 0);
	assert_int_equal(st.st_size, 300000);
	assert_int_equal(st.st_blocks, 0);
	ipc_message_free(m);
	close(fd);
}

static void test_kernel_copies(void **state)
{
	struct world *w = *state;
	static char data[BIG];
	struct ipc_message *m;
	int fd;

	memset(data, 'x', BIG);
	fd = new_file(w, data, BIG);
	m = receive(w, "\"file_size\":1000000", fd, NULL);
	assert_int_equal(ipc_message_save(m, w->dir, "x", 0, NULL), 0);
	assert_true(n_copies + n_clones > 0);
	ipc_message_free(m);
	close(fd);
}

/* ---- live ---- */

static void test_live_pipe(void **state)
{
	struct world *w = *state;
	struct ipc_message *m;
	int pipefd[2];

	assert_int_equal(pipe2(pipefd, O_CLOEXEC | O_NONBLOCK), 0);
	m = receive(w, "\"live\":true", pipefd[0], NULL);
	assert_int_equal(__real_write(pipefd[1], "abc", 3), 3);
	close(pipefd[1]);
	assert_int_equal(ipc_message_save(m, w->dir, "x", 0, NULL), 0);
	expect_file(w, "x", "abc");
	ipc_message_free(m);
	close(pipefd[0]);
}

/* There never is anything to be read. */
static void test_live_pipe_to_write(void **state)
{
	struct world *w = *state;
	struct ipc_message *m;
	int pipefd[2];

	assert_int_equal(pipe2(pipefd, O_CLOEXEC), 0);
	m = receive(w, "\"live\":true", pipefd[1], NULL);
	assert_int_equal(ipc_message_save(m, w->dir, "x", 0, NULL), -EBADF);
	assert_int_equal(count_files(w), 0);
	ipc_message_free(m);
	close(pipefd[0]);
	close(pipefd[1]);
}

static int give_up_waiting(uint64_t done, uint64_t total, void *userdata)
{
	assert_int_equal(done, 3);
	assert_true(total == UINT64_MAX);
	return --*(int *)userdata == 0;
}

/* It is held open, and nothing comes: only whoever is told of that can give up. */
static void test_live_pipe_given_up(void **state)
{
	struct world *w = *state;
	struct ipc_message *m;
	int pipefd[2], n = 3;

	assert_int_equal(pipe2(pipefd, O_CLOEXEC), 0);
	m = receive(w, "\"live\":true", pipefd[0], NULL);
	ipc_message_set_progress(m, give_up_waiting, &n);
	assert_int_equal(__real_write(pipefd[1], "abc", 3), 3);
	assert_int_equal(ipc_message_save(m, w->dir, "x", 0, NULL), -ECANCELED);
	assert_int_equal(count_files(w), 0);
	ipc_message_free(m);
	close(pipefd[0]);
	close(pipefd[1]);
}

/* As large as it is; its giver's offset stays where it is. */
static void test_live_file(void **state)
{
	struct world *w = *state;
	int fd = new_file(w, "abcdef", 6);
	struct ipc_message *m =
		receive(w, "\"live\":true,\"file_size\":3,\"filename\":\"x\"", fd, NULL);

	assert_int_equal(lseek(fd, 2, SEEK_SET), 2);
	assert_int_equal(ipc_message_save(m, w->dir, NULL, 0, NULL), 0);
	expect_file(w, "x", "abcdef");
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 2);
	ipc_message_free(m);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		save_test(test_digest_differs),	  save_test(test_all_digests),
		save_test(test_size_differs),	  save_test(test_mode_and_time),
		save_test(test_default_mode),	  save_test(test_holes),
		save_test(test_hole_with_digest), save_test(test_kernel_copies),
		save_test(test_live_pipe),	  save_test(test_live_pipe_given_up),
		save_test(test_live_file),	  save_test(test_live_pipe_to_write),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
