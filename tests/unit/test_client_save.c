/* SPDX-License-Identifier: MIT */

/* A message becomes a file: whole or not at all, under the name that was asked for, with its
 * digests looked at, its holes, mode and time kept. */

#include "unit/client_fake.h"

#include <dirent.h>

enum { BIG = 1000000 };

#define LEASE "\"message\":1,\"lease\":\"l\""
#define MD5_ABC "\"md5\":\"900150983cd24fb0d6963f7d28e17f72\""
#define MD5_OTHER "\"md5\":\"00000000000000000000000000000000\""

/* ---- what can fail ---- */

static bool no_tmpfile, no_noreplace, no_copy_range;
static int fsync_error, write_error, link_error;
static unsigned int fsyncs_until_error, n_copies, n_clones;
static size_t write_most; /* at once; 0: all */

int __real_openat(int dir, const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...);
int __wrap_openat(int dir, const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	if (no_tmpfile && (flags & O_TMPFILE) == O_TMPFILE) {
		errno = EOPNOTSUPP;
		return -1;
	}
	va_start(args, flags);
	mode = va_arg(args, mode_t);
	va_end(args);
	return __real_openat(dir, path, flags, mode);
}

int __real_renameat2(int from, const char *a, int to, const char *b, unsigned int flags);
int __wrap_renameat2(int from, const char *a, int to, const char *b, unsigned int flags);
int __wrap_renameat2(int from, const char *a, int to, const char *b, unsigned int flags)
{
	if (no_noreplace) {
		errno = EINVAL;
		return -1;
	}
	return __real_renameat2(from, a, to, b, flags);
}

int __real_linkat(int from, const char *a, int to, const char *b, int flags);
int __wrap_linkat(int from, const char *a, int to, const char *b, int flags);
int __wrap_linkat(int from, const char *a, int to, const char *b, int flags)
{
	if (link_error) {
		errno = link_error;
		return -1;
	}
	return __real_linkat(from, a, to, b, flags);
}

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
	if (fsync_error && !fsyncs_until_error--) {
		errno = fsync_error;
		return -1;
	}
	return __real_fsync(fd);
}

ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size)
{
	static bool interrupted;

	interrupted = write_most && !interrupted;
	if (write_error || interrupted) {
		errno = interrupted ? EINTR : write_error;
		return -1;
	}
	return __real_write(fd, data,
			    write_most && size > write_most ? write_most : size);
}

ssize_t __real_copy_file_range(int in, off_t *at, int out, off_t *to, size_t size,
			       unsigned int flags);
ssize_t __wrap_copy_file_range(int in, off_t *at, int out, off_t *to, size_t size,
			       unsigned int flags);
ssize_t __wrap_copy_file_range(int in, off_t *at, int out, off_t *to, size_t size,
			       unsigned int flags)
{
	if (no_copy_range) {
		errno = EXDEV;
		return -1;
	}
	n_copies++;
	return __real_copy_file_range(in, at, out, to, size, flags);
}

int __real_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...);
int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	long argument;

	va_start(args, request);
	argument = va_arg(args, long);
	va_end(args);
	n_clones++;
	return __real_ioctl(fd, request, argument);
}

/* ---- the directory ---- */

struct world {
	struct fake f;
	char path[64];
	int dir;
};

static int set_up(void **state)
{
	struct world *w = *state = calloc(1, sizeof(*w));

	fake_open(&w->f);
	snprintf(w->path, sizeof(w->path), "/tmp/ipc-save-XXXXXX");
	assert_non_null(mkdtemp(w->path));
	w->dir = open(w->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	umask(022);
	return 0;
}

static unsigned int count_files(const struct world *w)
{
	DIR *d = opendir(w->path);
	unsigned int n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

static int tear_down(void **state)
{
	struct world *w = *state;
	DIR *d = opendir(w->path);
	struct dirent *entry;

	no_tmpfile = no_noreplace = no_copy_range = false;
	fsync_error = write_error = link_error = 0;
	write_most = fsyncs_until_error = n_copies = n_clones = 0;
	while ((entry = readdir(d)))
		unlinkat(w->dir, entry->d_name, 0);
	closedir(d);
	rmdir(w->path);
	close(w->dir);
	fake_close(&w->f);
	free(w);
	return 0;
}

#define save_test(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

static void make(const struct world *w, const char *name, const char *data)
{
	int fd = __real_openat(w->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
			       0600);

	assert_true(fd >= 0);
	assert_int_equal(__real_write(fd, data, strlen(data)), strlen(data));
	close(fd);
}

static void expect_file(const struct world *w, const char *name, const char *data)
{
	char got[256] = "";
	int fd = __real_openat(w->dir, name, O_RDONLY | O_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(read(fd, got, sizeof(got) - 1), strlen(data));
	assert_string_equal(got, data);
	close(fd);
}

/* The first request of a client. */
static struct ipc_message *receive(struct world *w, const char *keys, int fd,
				   const char *body)
{
	struct ipc_message *m;
	char header[1024];

	snprintf(header, sizeof(header), "{\"re\":2," LEASE "%s%s", *keys ? "," : "",
		 keys);
	if (fd >= 0) {
		strcat(header, ",\"fds\":1}");
		fake_say_fd(&w->f, header, fd);
	} else {
		sprintf(header + strlen(header), ",\"size\":%zu}", strlen(body));
		fake_say_body(&w->f, header, body, strlen(body));
	}
	assert_int_equal(ipc_receive(w->f.client, "q", 0, &m), 0);
	return m;
}

/* A further message needs a further client. */
static struct ipc_message *receive_anew(struct world *w, const char *keys, int fd)
{
	fake_close(&w->f);
	fake_open(&w->f);
	return receive(w, keys, fd, NULL);
}

static struct ipc_message *receive_abc(struct world *w)
{
	return receive(w, "\"filename\":\"x.txt\",\"file_size\":3," MD5_ABC, -1, "abc");
}

/* A file of the disk, without a name. */
static int new_file(const struct world *w, const char *data, size_t size)
{
	int fd = __real_openat(w->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(__real_write(fd, data, size), size);
	return fd;
}

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

static void expect_failure(struct world *w, struct ipc_message *m, unsigned int flags,
			   int error)
{
	for (int way = 0; way < 2; way++) {
		no_tmpfile = way;
		make(w, "old", "old");
		assert_int_equal(ipc_message_save(m, w->dir, "old", flags, NULL),
				 flags ? error : -EEXIST);
		expect_file(w, "old", "old");
		assert_int_equal(ipc_message_save(m, w->dir, "new", flags, NULL), error);
		assert_int_equal(count_files(w), 1);
		assert_int_equal(unlinkat(w->dir, "old", 0), 0);
	}
}

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
		save_test(test_its_name),
		save_test(test_current_directory),
		save_test(test_names_refused),
		save_test(test_taken),
		save_test(test_renamed),
		save_test(test_long_names_renamed),
		save_test(test_other_ways),
		save_test(test_taken_meanwhile),
		save_test(test_disk_full),
		save_test(test_fsync_fails),
		save_test(test_link_fails),
		save_test(test_no_such_directory),
		save_test(test_short_writes),
		save_test(test_given_up),
		save_test(test_verify_given_up),
		save_test(test_digest_differs),
		save_test(test_all_digests),
		save_test(test_size_differs),
		save_test(test_mode_and_time),
		save_test(test_default_mode),
		save_test(test_holes),
		save_test(test_hole_with_digest),
		save_test(test_kernel_copies),
		save_test(test_live_pipe),
		save_test(test_live_pipe_given_up),
		save_test(test_live_file),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
