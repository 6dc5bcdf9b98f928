/* SPDX-License-Identifier: MIT */

/* A directory that is received: in which order it gets to the disk and to its name, and what
 * becomes of what has that name meanwhile. */

#include "unit/cli_base.h"

#include <archive.h>
#include <archive_entry.h>
#include <limits.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "cli/save.h"
#include "cli/walk.h"

#define NAME "message-0" /* of a message without a filename that was never sent */

static char place[PATH_MAX], steps[200];
static int verify_error, sync_error, fsync_error, rename_error;
static void (*on_sync)(void);

static void note(const char *step)
{
	strcat(strcat(steps, step), " ");
}

/* ---- instead of the library and the kernel ---- */

int __wrap_ipc_message_verify(const struct ipc_message *message);
int __wrap_ipc_message_verify(const struct ipc_message *message)
{
	note("verify");
	return verify_error;
}

static int fail_with(int error)
{
	errno = error;
	return error ? -1 : 0;
}

int __wrap_syncfs(int fd);
int __wrap_syncfs(int fd)
{
	assert_int_equal(faccessat(fd, "file", F_OK, 0), 0);
	note("sync");
	if (on_sync)
		on_sync();
	return fail_with(sync_error);
}

int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	note("fsync");
	return fail_with(fsync_error);
}

int __real_renameat2(int from_fd, const char *from, int to_fd, const char *to,
		     unsigned int flags);
int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to,
		     unsigned int flags);
int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to,
		     unsigned int flags)
{
	note("rename");
	if (rename_error)
		return fail_with(rename_error);
	return __real_renameat2(from_fd, from, to_fd, to, flags);
}

/* ---- helpers ---- */

static int set_up(void **state)
{
	strcpy(place, "/tmp/test_cli_save-XXXXXX");
	assert_non_null(mkdtemp(place));
	verify_error = sync_error = fsync_error = rename_error = 0;
	on_sync = NULL;
	return 0;
}

static int tear_down(void **state)
{
	return walk_remove(AT_FDCWD, place);
}

static size_t make_tar(char *tar, size_t size)
{
	struct archive *archive = archive_write_new();
	struct archive_entry *entry = archive_entry_new();
	size_t used = 0;

	archive_write_set_format_pax_restricted(archive);
	archive_write_open_memory(archive, tar, size, &used);
	archive_entry_copy_pathname(entry, "top/file");
	archive_entry_set_filetype(entry, AE_IFREG);
	archive_entry_set_perm(entry, 0644);
	archive_entry_set_size(entry, 4);
	assert_int_equal(archive_write_header(archive, entry), ARCHIVE_OK);
	assert_int_equal(archive_write_data(archive, "text", 4), 4);
	archive_entry_free(entry);
	assert_int_equal(archive_write_free(archive), ARCHIVE_OK);
	return used;
}

/* Returns what save_message() does. wanted: the name it gets if that is 0. */
static int save(unsigned int flags, const char *wanted)
{
	char tar[20480], *name = NULL, *why = NULL;
	struct save save = { .flags = flags, .unpack = true };
	struct ipc_message *message;
	int fds = count_fds(), r;

	*steps = 0;
	assert_int_equal(ipc_message_new(&message), 0);
	ipc_message_set_body(message, tar, make_tar(tar, sizeof(tar)));
	assert_int_equal(ipc_message_set_archive(message, "tar"), 0);
	save.dirfd = open(place, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = save_message(&save, message, &name, &why);
	close(save.dirfd);
	if (r == 0)
		assert_string_equal(name, wanted);
	free(name);
	free(why);
	ipc_message_free(message);
	assert_int_equal(count_fds(), fds);
	return r;
}

static char *path_of(const char *name)
{
	static char path[PATH_MAX + NAME_MAX];

	snprintf(path, sizeof(path), "%s/%s", place, name);
	return path;
}

static bool is_there(const char *name)
{
	return access(path_of(name), F_OK) == 0;
}

static int count_names(void)
{
	DIR *dir = opendir(place);
	int n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

static void take_name(void)
{
	assert_int_equal(mkdir(path_of(NAME), 0700), 0);
}

/* ---- the tests ---- */

/* It may be acknowledged when save_message() returns: all that before. */
static void test_order(void **state)
{
	assert_int_equal(save(0, NAME), 0);
	assert_string_equal(steps, "verify sync rename fsync ");
	assert_true(is_there(NAME "/file"));
	assert_int_equal(count_names(), 1);
}

static void test_not_as_sent(void **state)
{
	verify_error = -EBADMSG;
	assert_int_equal(save(0, NULL), -EBADMSG);
	assert_string_equal(steps, "verify ");
	assert_int_equal(count_names(), 0);
}

static void test_not_on_the_disk(void **state)
{
	sync_error = EIO;
	assert_int_equal(save(0, NULL), -EIO);
	assert_int_equal(count_names(), 0);
}

/* It is there, but nobody may rely on that. */
static void test_name_not_on_the_disk(void **state)
{
	fsync_error = EIO;
	assert_int_equal(save(0, NULL), -EIO);
	assert_true(is_there(NAME "/file"));
	assert_int_equal(count_names(), 1);
}

/* Where there is no such thing as writing a directory it cannot be asked for. */
static void test_no_fsync_of_directories(void **state)
{
	fsync_error = EINVAL;
	assert_int_equal(save(0, NAME), 0);
	assert_true(is_there(NAME "/file"));
}

/* Also an empty directory is somebody's, and rename(2) would replace it. */
static void test_name_taken_meanwhile(void **state)
{
	static const int errors[] = { 0, EINVAL, ENOSYS };

	on_sync = take_name;
	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		rename_error = errors[i];
		assert_int_equal(save(0, NULL), -EEXIST);
		assert_int_equal(count_names(), 1);
		assert_int_equal(rmdir(path_of(NAME)), 0);
		assert_int_equal(save(IPC_SAVE_RENAME, NAME " (1)"), 0);
		assert_true(is_there(NAME " (1)/file"));
		assert_int_equal(rmdir(path_of(NAME)), 0);
		assert_int_equal(save(IPC_SAVE_REPLACE, NAME), 0);
		assert_true(is_there(NAME "/file"));
		tear_down(NULL);
		assert_int_equal(mkdir(place, 0700), 0);
	}
}

/* A file system that knows no RENAME_NOREPLACE. */
static void test_old_rename(void **state)
{
	rename_error = EINVAL;
	assert_int_equal(save(0, NAME), 0);
	assert_string_equal(steps, "verify sync rename fsync ");
	assert_true(is_there(NAME "/file"));
	assert_int_equal(save(0, NULL), -EEXIST);
	assert_int_equal(count_names(), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_order),
		TEST(test_not_as_sent),
		TEST(test_not_on_the_disk),
		TEST(test_name_not_on_the_disk),
		TEST(test_no_fsync_of_directories),
		TEST(test_name_taken_meanwhile),
		TEST(test_old_rename),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
