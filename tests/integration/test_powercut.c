/* SPDX-License-Identifier: MIT */

/*
 * The disk that loses its unsynced writes, see powercut_disk.c: this program runs itself
 * with the shim before it, lets the power go, and looks at what is left.
 */

#include "integration/harness_powercut.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define BLOCK 4096L
enum { N_BLOCKS = 16, SECTOR_SIZE = 512, ROUNDS = 40, WHOLE = N_BLOCKS * BLOCK };

/* ---- what runs with the shim; its directory is the disk ---- */

#define must(condition)                                                       \
	do {                                                                  \
		if (!(condition)) {                                           \
			fprintf(stderr, "child, line %d: %s: %m\n", __LINE__, \
				#condition);                                  \
			_exit(1);                                             \
		}                                                             \
	} while (0)

static int open_new(const char *name)
{
	int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	must(fd >= 0);
	return fd;
}

static void fill(int fd, int block, char c)
{
	char data[BLOCK];

	memset(data, c, sizeof(data));
	must(pwrite(fd, data, sizeof(data), (off_t)block * BLOCK) == BLOCK);
}

static void fill_all(int fd, char c)
{
	for (int i = 0; i < N_BLOCKS; i++)
		fill(fd, i, c);
}

static void sync_directory(void)
{
	int fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	must(fd >= 0 && fsync(fd) == 0 && close(fd) == 0);
}

/* A file of As that is safe, with its name. */
static int open_safe(const char *name)
{
	int fd = open_new(name);

	fill_all(fd, 'A');
	must(fsync(fd) == 0);
	sync_directory();
	return fd;
}

/* The test sees that we are where it wants us, by a file that is none of the disk's. */
static void end_by_cut(void)
{
	int fd = open("../here", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	must(fd >= 0);
	for (;;)
		pause();
}

static void child_overwrite(void)
{
	fill_all(open_safe("file"), 'B');
}

static void child_overwrite_and_exit(void)
{
	fill_all(open_safe("file"), 'B');
	exit(0);
}

static void child_nothing(void)
{
}

static void child_other_ways(void)
{
	char b[BLOCK], c[BLOCK];
	struct iovec iov[] = { { b, sizeof(b) }, { c, sizeof(c) } };
	int fd = open_safe("file"), append;

	memset(b, 'B', sizeof(b));
	memset(c, 'C', sizeof(c));
	must(write(fd, b, sizeof(b)) == BLOCK);
	must(writev(fd, iov, 2) == 2 * BLOCK);
	must(lseek(fd, 0, SEEK_CUR) == 3 * BLOCK);
	must(pwritev(fd, iov, 2, 8 * BLOCK) == 2 * BLOCK);
	must(pwrite64(fd, c, 100, 12 * BLOCK + 7) == 100);
	append = open("file", O_WRONLY | O_APPEND | O_CLOEXEC);
	must(write(append, c, 700) == 700);
	must(posix_fallocate(fd, 0, (off_t)20 * BLOCK) == 0);
	must(sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE) == 0);
}

static void child_truncate(void)
{
	int fd = open_safe("file");

	must(ftruncate(fd, 1000) == 0);
	must(close(fd) == 0);
	fd = open("file", O_WRONLY | O_TRUNC | O_CLOEXEC);
	must(fd >= 0 && write(fd, "new", 3) == 3);
}

static void child_new_names(void)
{
	int fd = open_new("unsafe");

	must(write(fd, "x", 1) == 1 && fsync(fd) == 0);
	must(mkdir("directory", 0700) == 0);
	fd = open_new("directory/file");
	must(write(fd, "x", 1) == 1 && fsync(fd) == 0);
}

static void child_safe_names(void)
{
	child_new_names();
	sync_directory();
}

static void child_removed(void)
{
	int fd = open_safe("file");

	must(unlink("file") == 0);
	fill(fd, 0, 'B');
}

static void child_replaced(void)
{
	int fd;

	open_safe("file");
	fd = open_new("file.new");
	fill_all(fd, 'B');
	must(fsync(fd) == 0 && rename("file.new", "file") == 0);
}

static void child_failed_sync(void)
{
	int fd = open_safe("file");
	struct stat st;

	fill_all(fd, 'B');
	must(fsync(fd) < 0 && errno == EIO);
	must(fsync(fd) == 0);
	fill(fd, 3, 'C');
	fill(fd, N_BLOCKS, 'C');
	must(fdatasync(fd) == 0);
	must(fstat(fd, &st) == 0 && st.st_size == (N_BLOCKS + 1) * BLOCK);
}

static void child_full(void)
{
	char data[BLOCK];
	int fd = open_safe("file"), other = open_new("other");

	memset(data, 'x', sizeof(data));
	must(pwrite(other, data, sizeof(data), 0) == 1000);
	must(pwrite(other, data, sizeof(data), 1000) < 0 && errno == ENOSPC);
	must(ftruncate(other, 1001) < 0 && errno == ENOSPC);
	must(posix_fallocate(other, 0, BLOCK) == ENOSPC);
	fill_all(fd, 'B');
	must(ftruncate(fd, (N_BLOCKS - 1) * BLOCK) == 0);
	must(pwrite(other, data, sizeof(data), 0) == BLOCK);
	must(pwrite(other, data, 1001, BLOCK) == 1000);
	must(unlink("file") == 0);
	must(pwrite(other, data, sizeof(data), BLOCK) == BLOCK);
}

static void *write_and_tell(void *argument)
{
	int me = *(int *)argument;
	char name[16], text[16];
	int fd, told;

	snprintf(name, sizeof(name), "thread%d", me);
	fd = open_new(name);
	sync_directory();
	snprintf(name, sizeof(name), "../told%d", me);
	told = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	for (int i = 1;; i++) {
		snprintf(text, sizeof(text), "%9d\n", i);
		must(pwrite(fd, text, 10, 0) == 10 && fsync(fd) == 0);
		must(pwrite(told, text, 10, 0) == 10);
	}
	return NULL;
}

static void child_threads(void)
{
	static int numbers[4];
	pthread_t thread;

	for (int i = 0; i < 4; i++) {
		numbers[i] = i;
		must(!pthread_create(&thread, NULL, write_and_tell, &numbers[i]));
	}
}

static void child_sync_again(void)
{
	int fd = open_safe("file");

	fill_all(fd, 'B');
	fsync(fd);
}

static const struct {
	const char *name;
	void (*run)(void);
} children[] = {
	{ "overwrite", child_overwrite },
	{ "overwrite-and-exit", child_overwrite_and_exit },
	{ "nothing", child_nothing },
	{ "other-ways", child_other_ways },
	{ "truncate", child_truncate },
	{ "new-names", child_new_names },
	{ "safe-names", child_safe_names },
	{ "removed", child_removed },
	{ "replaced", child_replaced },
	{ "failed-sync", child_failed_sync },
	{ "full", child_full },
	{ "threads", child_threads },
	{ "sync-again", child_sync_again },
};

static int child_main(const char *name, const char *directory)
{
	must(chdir(directory) == 0);
	for (size_t i = 0; i < ARRAY_SIZE(children); i++)
		if (!strcmp(children[i].name, name)) {
			children[i].run();
			end_by_cut();
		}
	return 1;
}

/* ---- the test's side ---- */

static char *path_of(const char *name)
{
	return keep_printf("%s/%s", server.state, name);
}

static bool exists(const char *name)
{
	struct stat st;

	return lstat(path_of(name), &st) == 0;
}

static bool is_here(void)
{
	return unlink(keep_printf("%s/here", server.dir)) == 0;
}

static void spawn(pid_t *ret_pid, const char *name)
{
	powercut_preload(true);
	*ret_pid = fork_child();
	if (!*ret_pid) {
		execl("/proc/self/exe", "test_powercut", "child", name, server.state,
		      NULL);
		_exit(127);
	}
	powercut_preload(false);
}

static void expect_cut(pid_t pid)
{
	assert_int_equal(wait_exit(pid), 256 + SIGKILL);
	powercut_finish();
}

/* Runs it to its end, then cuts. */
static void run_and_cut(const char *name, enum powercut_loss loss)
{
	pid_t pid;

	powercut->loss = loss;
	spawn(&pid, name);
	wait_for(is_here() || powercut->broken[0]);
	powercut_now();
	expect_cut(pid);
}

static void new_disk(void)
{
	char *old = keep_printf("%s/old.%ld", server.dir, random());

	if (mkdir(server.state, 0700) == 0)
		return;
	assert_int_equal(rename(server.state, old), 0);
	assert_int_equal(mkdir(server.state, 0700), 0);
}

static void start_over(uint64_t seed)
{
	new_disk();
	powercut->seed = seed;
}

/* What the file is made of: "AB" if it has As and Bs. */
static const char *letters_of(const char *data, size_t size)
{
	static char found[8];
	size_t n = 0;

	for (size_t i = 0; i < size && n < sizeof(found) - 1; i++) {
		found[n] = '\0';
		if (!strchr(found, data[i]))
			found[n++] = data[i];
	}
	found[n] = '\0';
	return found;
}

static char data[32 * BLOCK];

static size_t load(const char *name)
{
	int fd = open(path_of(name), O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, data, sizeof(data));

	if (n < 0)
		fail_msg("%s: %s", name, strerror(errno));
	close(fd);
	return (size_t)n;
}

static void assert_letters(const char *name, size_t size, const char *letters)
{
	assert_int_equal(load(name), size);
	assert_string_equal(letters_of(data, size), letters);
}

static void test_synced_stays_unsynced_goes(void **state)
{
	powercut_setup();
	start_over(1);
	run_and_cut("overwrite", LOSS_ALL);
	assert_letters("file", WHOLE, "A");
	assert_int_equal(powercut->lost_sectors, WHOLE / SECTOR_SIZE);
	start_over(1);
	run_and_cut("overwrite", LOSS_NONE);
	assert_letters("file", WHOLE, "B");
}

/* Each unit is all As or all Bs, and in most rounds there are both. */
static void check_units(size_t unit, enum powercut_loss loss)
{
	int n_mixed = 0;

	powercut_setup();
	for (int round = 0; round < ROUNDS; round++) {
		start_over((uint64_t)round);
		run_and_cut("overwrite", loss);
		assert_int_equal(load("file"), WHOLE);
		for (size_t i = 0; i < WHOLE; i += unit)
			assert_int_equal(strlen(letters_of(data + i, unit)), 1);
		n_mixed += strlen(letters_of(data, WHOLE)) == 2;
	}
	assert_in_range(n_mixed, ROUNDS / 2, ROUNDS);
}

static void test_any_of_the_writes(void **state)
{
	check_units(BLOCK, LOSS_WRITES);
}

static void test_any_of_the_sectors(void **state)
{
	check_units(SECTOR_SIZE, LOSS_SECTORS);
}

/* Bs, perhaps one block of both, As. */
static void test_writes_up_to_a_moment(void **state)
{
	int n_torn = 0;

	powercut_setup();
	for (int round = 0; round < ROUNDS; round++) {
		int block = 0;

		start_over((uint64_t)round);
		run_and_cut("overwrite", LOSS_ORDERED);
		assert_int_equal(load("file"), WHOLE);
		while (block < N_BLOCKS &&
		       !strcmp(letters_of(data + block * BLOCK, BLOCK), "B"))
			block++;
		if (block < N_BLOCKS &&
		    strlen(letters_of(data + block * BLOCK, BLOCK)) == 2) {
			n_torn++;
			block++;
		}
		for (; block < N_BLOCKS; block++)
			assert_string_equal(letters_of(data + block * BLOCK, BLOCK), "A");
	}
	assert_in_range(n_torn, ROUNDS / 2, ROUNDS);
}

static void test_every_way_to_write(void **state)
{
	powercut_setup();
	start_over(1);
	run_and_cut("other-ways", LOSS_NONE);
	assert_int_equal(load("file"), 20 * BLOCK);
	assert_string_equal(letters_of(data, 3 * BLOCK), "BC");
	assert_string_equal(letters_of(data + 8 * BLOCK, 2 * BLOCK), "BC");
	assert_string_equal(letters_of(data + 12 * BLOCK, BLOCK), "AC");
	assert_memory_equal(data + WHOLE, "CCC", 3);
	start_over(1);
	run_and_cut("other-ways", LOSS_ALL);
	assert_letters("file", WHOLE, "A");
}

static void test_sizes(void **state)
{
	bool seen[3] = { false };

	powercut_setup();
	start_over(1);
	run_and_cut("truncate", LOSS_NONE);
	assert_letters("file", 3, "new");
	start_over(1);
	run_and_cut("truncate", LOSS_ALL);
	assert_letters("file", WHOLE, "A");
	for (int round = 0; round < ROUNDS; round++) {
		size_t size;

		start_over((uint64_t)round);
		run_and_cut("truncate", LOSS_SECTORS);
		size = load("file");
		assert_true(size == WHOLE || size == 1000 || size == 0 || size == 3);
		seen[size == WHOLE ? 0 : size == 1000 ? 1 : 2] = true;
	}
	assert_true(seen[0] && seen[1] && seen[2]);
}

static void test_names(void **state)
{
	powercut_setup();
	start_over(1);
	run_and_cut("new-names", LOSS_ALL);
	assert_false(exists("unsafe") || exists("directory"));
	start_over(1);
	run_and_cut("new-names", LOSS_NONE);
	assert_true(exists("unsafe") && exists("directory/file"));
	start_over(1);
	run_and_cut("safe-names", LOSS_ALL);
	assert_true(exists("unsafe") && exists("directory"));
	assert_false(exists("directory/file"));
}

static void test_names_removed_and_replaced(void **state)
{
	powercut_setup();
	start_over(1);
	run_and_cut("removed", LOSS_ALL);
	assert_letters("file", WHOLE, "A");
	start_over(1);
	run_and_cut("removed", LOSS_NONE);
	assert_false(exists("file"));
	start_over(1);
	run_and_cut("replaced", LOSS_NONE);
	assert_letters("file", WHOLE, "B");
	assert_false(exists("file.new"));
	start_over(1);
	run_and_cut("replaced", LOSS_ALL);
	assert_letters("file", WHOLE, "A");
	assert_false(exists("file.new"));
	for (int round = 0; round < ROUNDS; round++) {
		start_over((uint64_t)round);
		run_and_cut("replaced", LOSS_DRAWN);
		assert_int_equal(load("file"), WHOLE);
		assert_int_equal(strlen(letters_of(data, WHOLE)), 1);
		assert_true(data[0] == 'A' || !exists("file.new"));
	}
}

static void test_a_failed_sync_drops(void **state)
{
	powercut_setup();
	start_over(1);
	powercut->syncs_to_error = 3;
	run_and_cut("failed-sync", LOSS_NONE);
	assert_int_equal(powercut->errors, 1);
	assert_int_equal(load("file"), WHOLE + BLOCK);
	for (int i = 0; i <= N_BLOCKS; i++)
		assert_string_equal(letters_of(data + i * BLOCK, BLOCK),
				    i == 3 || i == N_BLOCKS ? "C" : "A");
}

static void test_room(void **state)
{
	powercut_setup();
	start_over(1);
	powercut->is_limited = 1;
	powercut->room = WHOLE + 1000;
	run_and_cut("full", LOSS_NONE);
	assert_int_equal(load("other"), 2 * BLOCK);
}

static void test_a_killed_process_loses_nothing(void **state)
{
	powercut_setup();
	start_over(1);
	powercut->process_only = 1;
	run_and_cut("overwrite", LOSS_ALL);
	assert_letters("file", WHOLE, "B");
	run_and_cut("nothing", LOSS_ALL);
	assert_letters("file", WHOLE, "B");
	/* but nothing is safer by that */
	powercut->process_only = 0;
	run_and_cut("nothing", LOSS_ALL);
	assert_letters("file", WHOLE, "A");
}

static void test_nor_does_one_that_ends(void **state)
{
	pid_t pid;

	powercut_setup();
	start_over(1);
	spawn(&pid, "overwrite-and-exit");
	assert_int_equal(wait_exit(pid), 0);
	assert_letters("file", WHOLE, "B");
	run_and_cut("nothing", LOSS_ALL);
	assert_letters("file", WHOLE, "A");
}

/* Four threads write and sync numbers in files of their own; what they told is there. */
static void test_threads(void **state)
{
	int last = 0;

	powercut_setup();
	powercut->sync_us = 200;
	for (int round = 0; round < ROUNDS / 2; round++) {
		pid_t pid;

		start_over((uint64_t)round);
		powercut->changes_to_cut = 20 + round * 7;
		spawn(&pid, "threads");
		expect_cut(pid);
		for (int i = 0; i < 4; i++) {
			char *told = keep_printf("%s/told%d", server.dir, i);
			int n = atoi(read_file(told));

			unlink(told);
			if (!n)
				continue;
			load(keep_printf("thread%d", i));
			data[10] = '\0';
			assert_in_range(atoi(data), n, n + 1);
			last = n;
		}
	}
	assert_true(last > 0);
}

/* Countdowns of changes and syncs; a sync under way may have been or not. */
static void test_countdowns(void **state)
{
	bool before = false, after = false;
	pid_t pid;

	powercut_setup();
	for (int round = 0; round < ROUNDS; round++) {
		start_over((uint64_t)round);
		powercut->loss = LOSS_ALL;
		powercut->syncs_to_cut = 3;
		spawn(&pid, "sync-again");
		expect_cut(pid);
		load("file");
		before |= data[0] == 'A';
		after |= data[0] == 'B';
	}
	assert_true(before && after);
	/* the name, its blocks, some of the second round */
	start_over(1);
	powercut->loss = LOSS_NONE;
	powercut->changes_to_cut = 1 + N_BLOCKS + 5;
	spawn(&pid, "sync-again");
	expect_cut(pid);
	assert_letters("file", WHOLE, "BA");
	assert_true(data[5 * BLOCK - 1] == 'B' && data[5 * BLOCK] == 'A');
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		it(test_synced_stays_unsynced_goes),
		it(test_any_of_the_writes),
		it(test_any_of_the_sectors),
		it(test_writes_up_to_a_moment),
		it(test_every_way_to_write),
		it(test_sizes),
		it(test_names),
		it(test_names_removed_and_replaced),
		it(test_a_failed_sync_drops),
		it(test_room),
		it(test_a_killed_process_loses_nothing),
		it(test_nor_does_one_that_ends),
		it(test_threads),
		it(test_countdowns),
	};

	if (argc == 4 && !strcmp(argv[1], "child"))
		return child_main(argv[2], argv[3]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
