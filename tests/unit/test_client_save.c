/* SPDX-License-Identifier: MIT */

/* A message becomes a file: whole or not at all, under the name that was asked for. What is
 * in it is in test_client_save_body. */

#include "unit/client_save.h"

/* ---- names ---- */

static void test_its_name(void **state)
{
	struct world *w = *state;
	struct ipc_message *m = receive_abc(w);
	char *name;

	assert_int_equal(ipc_message_save(m, w->dir, NULL, 0, &name), 0);
	assert_string_equal(name, "x.txt");
	free(name);
	expect_file(w, "x.txt", "abc");
	assert_int_equal(ipc_message_save(m, w->dir, "y", 0, NULL), 0);
	expect_file(w, "y", "abc");
	assert_int_equal(count_files(w), 2);
	ipc_message_free(m);
}

static void test_current_directory(void **state)
{
	struct world *w = *state;
	struct ipc_message *m = receive_abc(w);
	int before = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int path = open(w->path, O_PATH | O_CLOEXEC);

	assert_int_equal(fchdir(w->dir), 0);
	assert_int_equal(ipc_message_save(m, AT_FDCWD, "a", 0, NULL), 0);
	assert_int_equal(fchdir(before), 0);
	assert_int_equal(ipc_message_save(m, path, "b", 0, NULL), 0);
	assert_int_equal(count_files(w), 2);
	close(before);
	close(path);
	ipc_message_free(m);
}

static void test_names_refused(void **state)
{
	static const char *const bad[] = { "",	  ".",	  "..",	    "/",
					   "a/b", "../x", "/tmp/x", "a/" };
	struct world *w = *state;
	struct ipc_message *m = receive(w, "", -1, "abc"), *other;
	char name[257];

	assert_int_equal(ipc_message_save(m, w->dir, NULL, 0, NULL), -EINVAL);
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		assert_int_equal(ipc_message_save(m, w->dir, bad[i], 0, NULL), -EINVAL);
	memset(name, 'x', 256);
	name[256] = '\0';
	assert_int_equal(ipc_message_save(m, w->dir, name, 0, NULL), -ENAMETOOLONG);
	assert_int_equal(ipc_message_save(m, w->dir, "x", 4, NULL), -EINVAL);
	assert_int_equal(ipc_message_save(m, w->dir, "x",
					  IPC_SAVE_REPLACE | IPC_SAVE_RENAME, NULL),
			 -EINVAL);
	assert_int_equal(ipc_message_new(&other), 0);
	assert_int_equal(ipc_message_save(other, w->dir, "x", 0, NULL), -EINVAL);
	assert_int_equal(ipc_message_verify(other), -EINVAL);
	assert_int_equal(count_files(w), 0);
	ipc_message_free(other);
	ipc_message_free(m);
}

static void test_taken(void **state)
{
	struct world *w = *state;
	struct ipc_message *m = receive_abc(w);
	char *name = NULL;

	make(w, "x.txt", "old");
	assert_int_equal(ipc_message_save(m, w->dir, NULL, 0, &name), -EEXIST);
	assert_null(name);
	expect_file(w, "x.txt", "old");
	assert_int_equal(symlinkat("nowhere", w->dir, "link"), 0);
	assert_int_equal(ipc_message_save(m, w->dir, "link", 0, NULL), -EEXIST);
	assert_int_equal(count_files(w), 2);
	assert_int_equal(ipc_message_save(m, w->dir, NULL, IPC_SAVE_REPLACE, &name), 0);
	assert_string_equal(name, "x.txt");
	free(name);
	expect_file(w, "x.txt", "abc");
	/* the link is replaced, not what it leads to */
	assert_int_equal(ipc_message_save(m, w->dir, "link", IPC_SAVE_REPLACE, NULL), 0);
	expect_file(w, "link", "abc");
	assert_int_equal(ipc_message_save(m, w->dir, "new", IPC_SAVE_REPLACE, NULL), 0);
	assert_int_equal(mkdirat(w->dir, "sub", 0700), 0);
	assert_int_equal(ipc_message_save(m, w->dir, "sub", IPC_SAVE_REPLACE, NULL),
			 -EISDIR);
	assert_int_equal(unlinkat(w->dir, "sub", AT_REMOVEDIR), 0);
	assert_int_equal(count_files(w), 3);
	ipc_message_free(m);
}

static void expect_renamed(struct world *w, struct ipc_message *m, const char *wanted,
			   const char *got)
{
	char *name;

	assert_int_equal(ipc_message_save(m, w->dir, wanted, IPC_SAVE_RENAME, &name), 0);
	assert_string_equal(name, got);
	free(name);
	expect_file(w, got, "abc");
}

static void test_renamed(void **state)
{
	struct world *w = *state;
	struct ipc_message *m = receive_abc(w);

	expect_renamed(w, m, NULL, "x.txt");
	expect_renamed(w, m, NULL, "x (1).txt");
	expect_renamed(w, m, NULL, "x (2).txt");
	expect_renamed(w, m, "a", "a");
	expect_renamed(w, m, "a", "a (1)");
	expect_renamed(w, m, ".profile", ".profile");
	expect_renamed(w, m, ".profile", ".profile (1)");
	expect_renamed(w, m, "d.tar.gz", "d.tar.gz");
	expect_renamed(w, m, "d.tar.gz", "d (1).tar.gz");
	expect_renamed(w, m, ".tar.gz", ".tar.gz");
	expect_renamed(w, m, ".tar.gz", ".tar (1).gz");
	ipc_message_free(m);
}

static void test_long_names_renamed(void **state)
{
	struct world *w = *state;
	struct ipc_message *m = receive_abc(w);
	char longest[256], expected[256];

	for (size_t i = 0; i < 250; i += 2)
		memcpy(longest + i, "\xc3\xa4", 2);
	strcpy(longest + 250, "x.txt");
	expect_renamed(w, m, longest, longest);
	memcpy(expected, longest, 246); /* 247 would be half a character */
	strcpy(expected + 246, " (1).txt");
	expect_renamed(w, m, longest, expected);
	memcpy(longest, "x.", 2); /* an extension of 254 bytes is none */
	longest[251] = 'x';
	expect_renamed(w, m, longest, longest);
	expect_renamed(w, m, longest, "x (1)");
	ipc_message_free(m);
}

/* ---- the ways into place ---- */

/* Without O_TMPFILE, without RENAME_NOREPLACE: the result is the same, and nothing else is
 * left. */
static void test_other_ways(void **state)
{
	struct world *w = *state;
	struct ipc_message *m = receive_abc(w);
	unsigned int n = 0;

	for (int ways = 0; ways < 4; ways++) {
		char name[16], *got;

		no_tmpfile = ways & 1;
		no_noreplace = ways & 2;
		snprintf(name, sizeof(name), "x%d", ways);
		assert_int_equal(ipc_message_save(m, w->dir, name, 0, NULL), 0);
		assert_int_equal(ipc_message_save(m, w->dir, name, 0, NULL), -EEXIST);
		assert_int_equal(ipc_message_save(m, w->dir, name, IPC_SAVE_RENAME, &got),
				 0);
		n += 2;
		assert_int_equal(count_files(w), n);
		expect_file(w, got, "abc");
		free(got);
		assert_int_equal(unlinkat(w->dir, name, 0), 0);
		make(w, name, "old");
		assert_int_equal(
			ipc_message_save(m, w->dir, name, IPC_SAVE_REPLACE, NULL), 0);
		expect_file(w, name, "abc");
		assert_int_equal(count_files(w), n);
	}
	ipc_message_free(m);
}

/* The name is taken while the file is written. */
static int take_name(uint64_t done, uint64_t total, void *userdata)
{
	(void)done;
	(void)total;
	make(userdata, "x.txt", "old");
	return 0;
}

static void test_taken_meanwhile(void **state)
{
	struct world *w = *state;
	struct ipc_message *m = receive_abc(w);

	ipc_message_set_progress(m, take_name, w);
	for (int way = 0; way < 4; way++) {
		no_tmpfile = way & 1;
		no_noreplace = way & 2;
		assert_int_equal(ipc_message_save(m, w->dir, NULL, 0, NULL), -EEXIST);
		expect_file(w, "x.txt", "old");
		assert_int_equal(count_files(w), 1);
		assert_int_equal(unlinkat(w->dir, "x.txt", 0), 0);
	}
	ipc_message_free(m);
}

/* ---- failures ---- */

static void test_disk_full(void **state)
{
	struct world *w = *state;
	struct ipc_message *m = receive_abc(w);

	write_error = ENOSPC;
	expect_failure(w, m, 0, -ENOSPC);
	expect_failure(w, m, IPC_SAVE_REPLACE, -ENOSPC);
	ipc_message_free(m);
}

static void test_fsync_fails(void **state)
{
	struct world *w = *state;
	struct ipc_message *m = receive_abc(w);

	for (int way = 0; way < 2; way++) {
		no_tmpfile = way;
		fsync_error = EIO;
		fsyncs_until_error = 0;
		make(w, "old", "old");
		assert_int_equal(
			ipc_message_save(m, w->dir, "old", IPC_SAVE_REPLACE, NULL), -EIO);
		expect_file(w, "old", "old");
		assert_int_equal(count_files(w), 1);
		/* of the directory, when the file is there */
		fsyncs_until_error = 1;
		assert_int_equal(ipc_message_save(m, w->dir, "x", 0, NULL), -EIO);
		expect_file(w, "x", "abc");
		fsync_error = 0;
		assert_int_equal(unlinkat(w->dir, "x", 0), 0);
		assert_int_equal(unlinkat(w->dir, "old", 0), 0);
	}
	ipc_message_free(m);
}

static void test_link_fails(void **state)
{
	struct world *w = *state;
	struct ipc_message *m = receive_abc(w);

	link_error = EMLINK;
	assert_int_equal(ipc_message_save(m, w->dir, "x", 0, NULL), -EMLINK);
	assert_int_equal(count_files(w), 0);
	ipc_message_free(m);
}

static void test_no_such_directory(void **state)
{
	struct world *w = *state;
	struct ipc_message *m = receive_abc(w);
	int file = new_file(w, "", 0);

	assert_int_equal(ipc_message_save(m, -1, "x", 0, NULL), -EBADF);
	assert_int_equal(ipc_message_save(m, file, "x", 0, NULL), -ENOTDIR);
	close(file);
	ipc_message_free(m);
}

static void test_short_writes(void **state)
{
	struct world *w = *state;
	struct ipc_message *m = receive_abc(w);

	write_most = 1;
	assert_int_equal(ipc_message_save(m, w->dir, NULL, 0, NULL), 0);
	expect_file(w, "x.txt", "abc");
	ipc_message_free(m);
}

static int give_up(uint64_t done, uint64_t total, void *userdata)
{
	assert_true(done <= total);
	return --*(int *)userdata == 0;
}

static void test_given_up(void **state)
{
	struct world *w = *state;
	static char data[BIG];
	int fd = new_file(w, data, BIG), n;
	struct ipc_message *m = receive(w, "\"file_size\":1000000", fd, NULL);

	no_copy_range = true;
	ipc_message_set_progress(m, give_up, &n);
	for (int way = 0; way < 2; way++) {
		no_tmpfile = way;
		n = 2;
		assert_int_equal(ipc_message_save(m, w->dir, "x", 0, NULL), -ECANCELED);
		assert_int_equal(count_files(w), 0);
	}
	n = 1000;
	assert_int_equal(ipc_message_save(m, w->dir, "x", 0, NULL), 0);
	assert_in_range(n, 990, 998);
	n = 1;
	assert_int_equal(ipc_message_verify(m), 0); /* there is no digest to be made */
	ipc_message_free(m);
	close(fd);
}

static void test_verify_given_up(void **state)
{
	struct world *w = *state;
	static char data[BIG];
	int fd = new_file(w, data, BIG), n;
	struct ipc_message *m = receive(w, "\"file_size\":1000000," MD5_OTHER, fd, NULL);

	ipc_message_set_progress(m, give_up, &n);
	n = 2;
	assert_int_equal(ipc_message_verify(m), -ECANCELED);
	n = 1000;
	assert_int_equal(ipc_message_verify(m), -EBADMSG);
	ipc_message_free(m);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		save_test(test_its_name),	 save_test(test_current_directory),
		save_test(test_names_refused),	 save_test(test_taken),
		save_test(test_renamed),	 save_test(test_long_names_renamed),
		save_test(test_other_ways),	 save_test(test_taken_meanwhile),
		save_test(test_disk_full),	 save_test(test_fsync_fails),
		save_test(test_link_fails),	 save_test(test_no_such_directory),
		save_test(test_short_writes),	 save_test(test_given_up),
		save_test(test_verify_given_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
