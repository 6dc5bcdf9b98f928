/* SPDX-License-Identifier: MIT */

/* Directories as archives, and back: walk, pack, unpack. */

#include "unit/cli_base.h"

#include <archive.h>
#include <archive_entry.h>
#include <limits.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "cli/pack.h"
#include "cli/unpack.h"
#include "cli/walk.h"

/* Each test stands in a directory of its own. */
static char start[PATH_MAX], place[] = "/tmp/test_cli_archive-XXXXXX";
static int fds_before;

static int set_up(void **state)
{
	assert_non_null(getcwd(start, sizeof(start)));
	strcpy(place + strlen(place) - 6, "XXXXXX");
	assert_non_null(mkdtemp(place));
	assert_int_equal(chdir(place), 0);
	umask(022);
	fds_before = count_fds();
	return 0;
}

static int tear_down(void **state)
{
	char here[PATH_MAX];
	int n_fds = count_fds();

	assert_non_null(getcwd(here, sizeof(here)));
	assert_int_equal(chdir(start), 0);
	assert_int_equal(walk_remove(AT_FDCWD, place), 0);
	assert_string_equal(here, place);
	assert_int_equal(n_fds, fds_before);
	return 0;
}

/* ---- helpers ---- */

static int open_dir(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY);

	assert_true(fd >= 0);
	return fd;
}

static void put_file(const char *path, const char *text)
{
	FILE *file = fopen(path, "w");

	assert_non_null(file);
	assert_true(fputs(text, file) >= 0);
	assert_int_equal(fclose(file), 0);
}

static void assert_file(const char *path, const char *text)
{
	char got[100] = { 0 };
	FILE *file = fopen(path, "r");

	assert_non_null(file);
	(void)!fread(got, 1, sizeof(got) - 1, file);
	fclose(file);
	assert_string_equal(got, text);
}

static struct stat stat_of(const char *path)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	return st;
}

static bool exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

static void assert_link(const char *path, const char *target)
{
	char got[100] = { 0 };

	assert_true(readlink(path, got, sizeof(got) - 1) >= 0);
	assert_string_equal(got, target);
}

struct bytes {
	char *data;
	size_t size;
};

static char noted[1000];

static void on_note(const char *path, const char *what, void *userdata)
{
	size_t n = strlen(noted);

	snprintf(noted + n, sizeof(noted) - n, "%s is %s\n", path, what);
}

/* All of it, in reads of so many bytes. 0 or what pack_read() says. */
static int pack_all(const char *path, size_t step, struct bytes *ret)
{
	int fd = open_dir(path);
	struct pack *pack;
	ssize_t n;

	*ret = (struct bytes){ 0 };
	noted[0] = 0;
	assert_int_equal(pack_new(fd, "name", on_note, NULL, &pack), 0);
	close(fd);
	do {
		ret->data = realloc(ret->data, ret->size + step);
		assert_non_null(ret->data);
		n = pack_read(ret->data + ret->size, step, pack);
		if (n > 0)
			ret->size += (size_t)n;
	} while (n > 0);
	assert_int_equal(pack_read(ret->data, 1, pack), n);
	pack_free(pack);
	return (int)n;
}

static int unpack_options(const struct bytes *bytes, const char *path,
			  const struct unpack *options, char **ret_error)
{
	struct unpack unpack = *options;
	int fd, r;

	unpack.fd = -1;
	unpack.data = bytes->data;
	unpack.size = bytes->size;
	unpack.note = on_note;
	noted[0] = 0;
	assert_int_equal(mkdir(path, 0700), 0);
	fd = open_dir(path);
	r = unpack_into(&unpack, fd);
	close(fd);
	assert_true(r == 0 || r == -ECANCELED || unpack.error);
	assert_true(r != 0 || !unpack.error);
	if (ret_error)
		*ret_error = unpack.error;
	else
		free(unpack.error);
	return r;
}

static int unpack_to(const struct bytes *bytes, const char *path)
{
	return unpack_options(bytes, path, &(struct unpack){ 0 }, NULL);
}

/* ---- there and back ---- */

static void make_tree(void)
{
	const struct timespec times[] = { { 1, 0 }, { 1000000000, 123456789 } };
	int fd;

	assert_int_equal(mkdir("d", 0755), 0);
	put_file("d/plain", "text");
	put_file("d/empty", "");
	put_file("d/z\xc3\xbcrich a\xcc\x88", "composed and decomposed");
	put_file("d/\xff\xfe'\"*$(x)\\", "no UTF-8");
	put_file("d/new\nline\x1b[2J", "escape");
	assert_int_equal(mkdir("d/nothing in it", 0700), 0);
	assert_int_equal(mkdir("d/deep", 0755), 0);
	assert_int_equal(mkdir("d/deep/er", 0755), 0);
	put_file("d/deep/er/file", "deep");
	assert_int_equal(symlink("/etc/passwd", "d/out"), 0);
	assert_int_equal(symlink("../../../etc", "d/deep/up"), 0);
	assert_int_equal(symlink("nowhere", "d/dangling"), 0);
	assert_int_equal(link("d/deep/er/file", "d/linked"), 0);
	fd = open("d/script", O_WRONLY | O_CREAT, 0600);
	assert_int_equal(fchmod(fd, 04751), 0);
	assert_int_equal(futimens(fd, times), 0);
	close(fd);
	assert_int_equal(chmod("d/deep/er", 0555), 0);
	assert_int_equal(utimensat(AT_FDCWD, "d/deep/er", times, 0), 0);
	assert_int_equal(utimensat(AT_FDCWD, "d/out", times, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(chmod("d", 0750), 0);
}

static void assert_tree(const char *root)
{
	assert_int_equal(chdir(root), 0);
	assert_file("plain", "text");
	assert_file("empty", "");
	assert_file("z\xc3\xbcrich a\xcc\x88", "composed and decomposed");
	assert_file("\xff\xfe'\"*$(x)\\", "no UTF-8");
	assert_file("new\nline\x1b[2J", "escape");
	assert_true(S_ISDIR(stat_of("nothing in it").st_mode));
	assert_file("deep/er/file", "deep");
	assert_link("out", "/etc/passwd");
	assert_link("deep/up", "../../../etc");
	assert_link("dangling", "nowhere");
	assert_int_equal(stat_of("linked").st_ino, stat_of("deep/er/file").st_ino);
	assert_int_equal(stat_of("script").st_mode, S_IFREG | 0751);
	assert_int_equal(stat_of("script").st_mtime, 1000000000);
	assert_int_equal(stat_of("deep/er").st_mode, S_IFDIR | 0555);
	assert_int_equal(stat_of("deep/er").st_mtime, 1000000000);
	assert_int_equal(stat_of("out").st_mtime, 1000000000);
	assert_int_equal(stat_of(".").st_mode, S_IFDIR | 0750);
	assert_int_equal(chdir(place), 0);
}

static void test_there_and_back(void **state)
{
	static const size_t steps[] = { 1, 511, 4096, 262144 };
	struct bytes first = { 0 }, bytes;
	char path[20];

	make_tree();
	for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
		assert_int_equal(pack_all("d", steps[i], &bytes), 0);
		assert_true(!first.data || (first.size == bytes.size &&
					    !memcmp(first.data, bytes.data, bytes.size)));
		snprintf(path, sizeof(path), "to%zu", i);
		assert_int_equal(unpack_to(&bytes, path), 0);
		assert_tree(path);
		assert_string_equal(noted, "");
		free(first.data);
		first = bytes;
	}
	free(first.data);
}

/* From a descriptor, whatever its offset; and the umask takes its part. */
static void test_from_a_descriptor(void **state)
{
	struct unpack unpack = { 0 };
	struct bytes bytes;
	int fd;

	make_tree();
	assert_int_equal(pack_all("d", 65536, &bytes), 0);
	unpack.fd = open("tar", O_RDWR | O_CREAT, 0600);
	assert_int_equal(write(unpack.fd, bytes.data, bytes.size), bytes.size);
	unpack.size = bytes.size;
	assert_int_equal(mkdir("to", 0700), 0);
	fd = open_dir("to");
	umask(027);
	assert_int_equal(unpack_into(&unpack, fd), 0);
	assert_int_equal(umask(022), 027);
	assert_int_equal(stat_of("to/script").st_mode & 07777, 0750);
	close(fd);
	close(unpack.fd);
	free(bytes.data);
}

static void test_names_of_any_length(void **state)
{
	char name[256], path[600], copy[600];
	struct bytes bytes;

	assert_int_equal(mkdir("d", 0755), 0);
	for (size_t n = 95; n <= 255; n += n < 105 ? 1 : 50) {
		memset(name, 'n', n);
		name[n] = 0;
		snprintf(path, sizeof(path), "d/%s", name);
		assert_int_equal(mkdir(path, 0755), 0);
		snprintf(path, sizeof(path), "d/%s/%s", name, name);
		put_file(path, "x");
		snprintf(path, sizeof(path), "d/%s/link", name);
		assert_int_equal(symlink(name, path), 0);
	}
	assert_int_equal(pack_all("d", 4096, &bytes), 0);
	assert_int_equal(unpack_to(&bytes, "to"), 0);
	for (size_t n = 95; n <= 255; n += n < 105 ? 1 : 50) {
		name[0] = 'n';
		memset(name, 'n', n);
		name[n] = 0;
		snprintf(copy, sizeof(copy), "to/%s/%s", name, name);
		assert_file(copy, "x");
		snprintf(copy, sizeof(copy), "to/%s/link", name);
		assert_true(readlink(copy, path, sizeof(path)) == (ssize_t)n);
	}
	free(bytes.data);
}

static void make_sparse(const char *path, off_t size, off_t data)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0644);

	assert_int_equal(ftruncate(fd, size), 0);
	if (data >= 0)
		assert_int_equal(pwrite(fd, "data", 4, data), 4);
	close(fd);
}

/* Also of a terabyte: neither the time nor the room of one. */
static void test_holes(void **state)
{
	const off_t tera = (off_t)1 << 40;
	struct bytes bytes;
	char got[4];
	int fd;

	assert_int_equal(mkdir("d", 0755), 0);
	make_sparse("d/at the end", tera, tera - 4);
	make_sparse("d/at the start", tera, 0);
	make_sparse("d/nothing", 100000000, -1);
	make_sparse("d/middle", 10000000, 5000000);
	assert_int_equal(pack_all("d", 65536, &bytes), 0);
	assert_true(bytes.size < 1000000);
	assert_int_equal(unpack_to(&bytes, "to"), 0);
	assert_int_equal(stat_of("to/at the end").st_size, tera);
	assert_int_equal(stat_of("to/at the start").st_size, tera);
	assert_int_equal(stat_of("to/nothing").st_size, 100000000);
	assert_true(stat_of("to/at the end").st_blocks < 10000);
	assert_true(stat_of("to/nothing").st_blocks < 1000);
	fd = open("to/at the end", O_RDONLY);
	assert_int_equal(pread(fd, got, 4, tera - 4), 4);
	assert_memory_equal(got, "data", 4);
	close(fd);
	fd = open("to/middle", O_RDONLY);
	assert_int_equal(pread(fd, got, 4, 5000000), 4);
	assert_memory_equal(got, "data", 4);
	close(fd);
	free(bytes.data);
}

static void test_what_is_left_out(void **state)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "d/socket" };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct bytes bytes;

	assert_int_equal(mkdir("d", 0755), 0);
	assert_int_equal(mkfifo("d/fifo", 0600), 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	put_file("d/file", "x");
	assert_int_equal(pack_all("d", 4096, &bytes), 0);
	assert_non_null(strstr(noted, "fifo is a pipe\n"));
	assert_non_null(strstr(noted, "socket is a socket\n"));
	assert_int_equal(unpack_to(&bytes, "to"), 0);
	assert_file("to/file", "x");
	assert_false(exists("to/fifo") || exists("to/socket"));
	free(bytes.data);
	close(fd);
}

/* ---- what changes while it is read ---- */

/* Reads up to where the first piece of the file "big" is there, calls change, reads on: that
 * must fail and name it. */
static void assert_change_is_seen(void (*change)(void), const char *wanted)
{
	static char buffer[100000];
	const char *path;
	struct pack *pack;
	ssize_t n;
	int fd;

	walk_remove(AT_FDCWD, "d");
	assert_int_equal(mkdir("d", 0755), 0);
	assert_int_equal(mkdir("d/sub", 0755), 0);
	fd = open("d/sub/big", O_WRONLY | O_CREAT, 0644);
	for (int i = 0; i < 20; i++)
		assert_int_equal(write(fd, memset(buffer, 'x', 100000), 100000), 100000);
	close(fd);
	fd = open_dir("d");
	assert_int_equal(pack_new(fd, "name", NULL, NULL, &pack), 0);
	close(fd);
	for (size_t got = 0; got < 300000; got += (size_t)n) {
		n = pack_read(buffer, sizeof(buffer), pack);
		assert_true(n > 0);
	}
	change();
	while ((n = pack_read(buffer, sizeof(buffer), pack)) > 0)
		;
	assert_int_equal(n, -ESTALE);
	assert_string_equal(pack_get_error(pack, &path), "changed while it was read");
	assert_string_equal(path, wanted);
	assert_int_equal(pack_read(buffer, 1, pack), -ESTALE);
	pack_free(pack);
}

static void shrink(void)
{
	assert_int_equal(truncate("d/sub/big", 500000), 0);
}

static void grow(void)
{
	assert_int_equal(truncate("d/sub/big", 3000000), 0);
}

static void write_to_it(void)
{
	int fd = open("d/sub/big", O_WRONLY);

	assert_int_equal(pwrite(fd, "y", 1, 1999999), 1);
	close(fd);
}

static void add_another(void)
{
	put_file("d/sub/another", "");
}

static void add_above(void)
{
	put_file("d/another", "");
}

static void test_changes_are_seen(void **state)
{
	assert_change_is_seen(shrink, "sub/big");
	assert_change_is_seen(grow, "sub/big");
	assert_change_is_seen(write_to_it, "sub/big");
	assert_change_is_seen(add_another, "sub");
	assert_change_is_seen(add_above, "");
}

/* What was a directory when it was listed is a link now: it is not followed. */
static void test_walk_follows_nothing(void **state)
{
	int fd, r;
	struct walk *walk;
	struct walk_entry entry;

	assert_int_equal(mkdir("secret", 0755), 0);
	put_file("secret/file", "secret");
	assert_int_equal(mkdir("d", 0755), 0);
	assert_int_equal(mkdir("d/a", 0755), 0);
	fd = open_dir("d");
	assert_int_equal(walk_new(fd, &walk), 0);
	close(fd);
	assert_int_equal(walk_next(walk, &entry), 1);
	assert_string_equal(entry.path, ".");
	assert_int_equal(rmdir("d/a"), 0);
	assert_int_equal(symlink("../secret", "d/a"), 0);
	while ((r = walk_next(walk, &entry)) == 1)
		assert_true(S_ISLNK(entry.st.st_mode));
	assert_int_equal(r, WALK_CHANGED);
	walk_free(walk);
}

static void test_unreadable(void **state)
{
	const uid_t uid = geteuid();
	struct bytes bytes;

	assert_int_equal(chmod(".", 0755), 0);
	assert_int_equal(mkdir("d", 0755), 0);
	put_file("d/mine", "x");
	assert_int_equal(chmod("d/mine", 0), 0);
	assert_int_equal(seteuid(uid ? uid : 65534), 0);
	assert_int_equal(pack_all("d", 4096, &bytes), -EACCES);
	assert_int_equal(seteuid(uid), 0);
	free(bytes.data);
}

static void test_many_levels(void **state)
{
	struct bytes bytes;
	char path[PATH_MAX] = "to";

	assert_int_equal(mkdir("d", 0755), 0);
	assert_int_equal(chdir("d"), 0);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(mkdir("l", 0755), 0);
		assert_int_equal(chdir("l"), 0);
		strcat(path, "/l");
	}
	assert_int_equal(chdir(place), 0);
	assert_int_equal(pack_all("d", 4096, &bytes), 0);
	assert_int_equal(unpack_to(&bytes, "to"), 0);
	assert_true(exists(path));
	free(bytes.data);
}

/* However few descriptors there are: what was given up is not to stay. */
static void test_many_levels_are_removed(void **state)
{
	struct rlimit before, few;

	assert_int_equal(mkdir("d", 0755), 0);
	assert_int_equal(chdir("d"), 0);
	for (int i = 0; i < 500; i++) {
		assert_int_equal(mkdir("l", i % 100 ? 0755 : 0555), 0);
		put_file("f", "text");
		assert_int_equal(chdir("l"), 0);
	}
	assert_int_equal(chdir(place), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	few = (struct rlimit){ 100, before.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(walk_remove(AT_FDCWD, "d"), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_false(exists("d"));
}

/* ---- archives of somebody who means no good ---- */

struct bad_entry {
	const char *path;
	mode_t type; /* 0: a hard link */
	const char *target, *data;
};

static struct bytes make_archive(const struct bad_entry *entries)
{
	struct archive *archive = archive_write_new();
	struct bytes bytes = { .data = calloc(1, 1 << 20) };

	archive_write_set_format_pax_restricted(archive);
	assert_int_equal(
		archive_write_open_memory(archive, bytes.data, 1 << 20, &bytes.size), 0);
	for (; entries->path; entries++) {
		struct archive_entry *entry = archive_entry_new();
		const char *data = entries->data ? entries->data : "";

		archive_entry_set_pathname(entry, entries->path);
		archive_entry_set_filetype(entry,
					   entries->type ? entries->type : AE_IFREG);
		archive_entry_set_perm(entry, 06755);
		archive_entry_set_size(entry, (la_int64_t)strlen(data));
		if (entries->type == AE_IFLNK)
			archive_entry_set_symlink(entry, entries->target);
		else if (!entries->type)
			archive_entry_set_hardlink(entry, entries->target);
		assert_true(archive_write_header(archive, entry) >= ARCHIVE_WARN);
		if (*data)
			archive_write_data(archive, data, strlen(data));
		archive_entry_free(entry);
	}
	archive_write_close(archive);
	archive_write_free(archive);
	return bytes;
}

static void assert_nothing_outside(void)
{
	assert_file("outside/secret", "secret");
	assert_int_equal(stat_of("outside/secret").st_nlink, 1);
	assert_int_equal(stat_of("outside/secret").st_mode, S_IFREG | 0644);
	assert_int_equal(stat_of("outside").st_mode, S_IFDIR | 0755);
	assert_int_equal(stat_of("outside").st_mtime, 1000);
	assert_false(exists("x") || exists("/tmp/test_cli_archive_x"));
}

static void make_outside(void)
{
	const struct timespec times[] = { { 1000, 0 }, { 1000, 0 } };

	assert_int_equal(mkdir("outside", 0755), 0);
	put_file("outside/secret", "secret");
	assert_int_equal(utimensat(AT_FDCWD, "outside", times, 0), 0);
}

static void test_names_that_lead_out(void **state)
{
	static const struct bad_entry archives[][4] = {
		{ { "../x", AE_IFREG, NULL, "bad" } },
		{ { "d/../x", AE_IFREG, NULL, "bad" } },
		{ { "d//../x", AE_IFREG, NULL, "bad" } },
		{ { "/tmp/test_cli_archive_x", AE_IFREG, NULL, "bad" } },
		{ { "d/a/../../x", AE_IFREG, NULL, "bad" } },
		{ { "d/a/..", AE_IFDIR, NULL, NULL } },
		{ { "d/..", AE_IFDIR, NULL, NULL } },
		{ { "d/../outside/new", AE_IFLNK, "x", NULL } },
		{ { "d/l", AE_IFLNK, "../outside", NULL },
		  { "d/l/new", AE_IFREG, NULL, "bad" } },
		{ { "d/l", AE_IFLNK, "../outside", NULL },
		  { "d/l/secret", AE_IFREG, NULL, "bad" } },
		{ { "d/l", AE_IFLNK, "../outside", NULL },
		  { "d/l/new", AE_IFDIR, NULL, NULL } },
		{ { "d/l", AE_IFLNK, "..", NULL },
		  { "d/l/outside/secret", AE_IFLNK, "bad", NULL } },
		{ { "d/l", AE_IFLNK, "../outside", NULL },
		  { "d/l2", AE_IFLNK, "l", NULL },
		  { "d/l2/new", AE_IFREG, NULL, "bad" } },
		{ { "d/h", 0, "../outside/secret", NULL } },
		{ { "d/h", 0, "d/../outside/secret", NULL } },
		{ { "d/h", 0, "/etc/passwd", NULL } },
		{ { "d/l", AE_IFLNK, "../outside", NULL },
		  { "d/h", 0, "d/l/secret", NULL },
		  { "d/h", AE_IFREG, NULL, "bad" } },
		{ { "d/h", 0, "d/not there", NULL } },
		/* what is in no directory, or in another one */
		{ { "x", AE_IFREG, NULL, "bad" } },
		{ { "d", AE_IFLNK, "../outside", NULL },
		  { "d/new", AE_IFREG, NULL, "bad" } },
		{ { "d", AE_IFDIR, NULL, NULL }, { "d", AE_IFLNK, "../outside", NULL } },
		{ { "d", AE_IFDIR, NULL, NULL }, { "d/", AE_IFREG, NULL, "bad" } },
		{ { "d/f", AE_IFREG, NULL, "" }, { "x", AE_IFREG, NULL, "bad" } },
		{ { "d/f", AE_IFREG, NULL, "" }, { "d2/x", AE_IFREG, NULL, "bad" } },
		{ { "d/f", AE_IFREG, NULL, "" }, { "./x", AE_IFREG, NULL, "bad" } },
		{ { "./f", AE_IFREG, NULL, "" }, { "x", AE_IFREG, NULL, "bad" } },
		{ { "d/f", AE_IFREG, NULL, "" }, { "d/h", 0, "f", NULL } },
		{ { "d/f", AE_IFREG, NULL, "" }, { "d/h", 0, "e/f", NULL } },
		{ { "d", AE_IFDIR, NULL, NULL }, { "d/h", 0, "d", NULL } },
	};
	char path[20], *error;

	make_outside();
	for (size_t i = 0; i < sizeof(archives) / sizeof(*archives); i++) {
		struct bytes bytes = make_archive(archives[i]);

		snprintf(path, sizeof(path), "to%zu", i);
		if (unpack_options(&bytes, path, &(struct unpack){ 0 }, &error) !=
		    -EBADMSG)
			fail_msg("archive %zu was taken", i);
		free(error);
		free(bytes.data);
		assert_nothing_outside();
	}
}

/* Nothing of these is written through a link either, though they are taken. */
static void test_links_in_the_way(void **state)
{
	static const struct bad_entry archives[][4] = {
		{ { "d/f", AE_IFLNK, "../outside/secret", NULL },
		  { "d/f", AE_IFREG, NULL, "mine" } },
		{ { "d/f", AE_IFLNK, "../outside", NULL },
		  { "d/f", AE_IFDIR, NULL, NULL } },
		{ { "d/l", AE_IFLNK, "../outside/secret", NULL },
		  { "d/f", 0, "d/l", NULL },
		  { "d/f", AE_IFREG, NULL, "mine" } },
		{ { "d/l", AE_IFLNK, "../outside/secret", NULL },
		  { "d/f", 0, "d/l", "its bytes" } },
		{ { "d/f", AE_IFREG, NULL, "theirs" },
		  { "d/f", AE_IFREG, NULL, "mine" } },
	};
	char path[20];

	make_outside();
	for (size_t i = 0; i < sizeof(archives) / sizeof(*archives); i++) {
		struct bytes bytes = make_archive(archives[i]);

		snprintf(path, sizeof(path), "to%zu", i);
		assert_int_equal(unpack_to(&bytes, path), 0);
		free(bytes.data);
		assert_nothing_outside();
	}
	assert_file("to0/f", "mine");
	assert_true(S_ISDIR(stat_of("to1/f").st_mode));
	assert_file("to2/f", "mine");
	assert_file("to4/f", "mine");
}

static void test_what_is_not_taken(void **state)
{
	static const struct bad_entry entries[] = {
		{ "./device", AE_IFCHR, NULL, NULL },
		{ "./fifo", AE_IFIFO, NULL, NULL },
		{ "./file", AE_IFREG, NULL, "x" },
		{ ".//dir/", AE_IFDIR, NULL, NULL },
		{ NULL, 0, NULL, NULL },
	};
	struct bytes bytes = make_archive(entries);

	assert_int_equal(unpack_to(&bytes, "to"), 0);
	assert_string_equal(noted, "device is a device\nfifo is a pipe\n");
	assert_false(exists("to/device") || exists("to/fifo"));
	assert_int_equal(stat_of("to/file").st_mode, S_IFREG | 0755);
	assert_int_equal(stat_of("to/dir").st_mode, S_IFDIR | 0755);
	/* It has no entry of its own, and so it is as mkdir(1) makes them. */
	assert_int_equal(stat_of("to").st_mode, S_IFDIR | 0755);
	free(bytes.data);
}

/* Nowhere can that be: it would only come again. */
static void test_hard_link_to_a_directory(void **state)
{
	static const struct bad_entry entries[] = {
		{ "d/dir", AE_IFDIR, NULL, NULL },
		{ "d/link", 0, "d/dir", NULL },
		{ NULL, 0, NULL, NULL },
	};
	struct bytes bytes = make_archive(entries);
	char *error;

	assert_int_equal(unpack_options(&bytes, "to", &(struct unpack){ 0 }, &error),
			 -EBADMSG);
	assert_string_equal(error, "link: is a link to a directory");
	free(error);
	free(bytes.data);
}

/* As others make them; that of the directory may come late, or twice. */
static void test_directory_itself(void **state)
{
	static const struct bad_entry archives[][4] = {
		{ { "./", AE_IFDIR, NULL, NULL }, { "./f", AE_IFREG, NULL, "f" } },
		{ { "d/f", AE_IFREG, NULL, "f" }, { "d/", AE_IFDIR, NULL, NULL } },
		{ { "d", AE_IFDIR, NULL, NULL },
		  { "d/.", AE_IFDIR, NULL, NULL },
		  { "d/./f", AE_IFREG, NULL, "f" } },
	};
	char path[20];

	for (size_t i = 0; i < sizeof(archives) / sizeof(*archives); i++) {
		struct bytes bytes = make_archive(archives[i]);

		snprintf(path, sizeof(path), "to%zu", i);
		assert_int_equal(unpack_to(&bytes, path), 0);
		free(bytes.data);
		strcat(path, "/f");
		assert_file(path, "f");
	}
}

/* With tar(1) too it becomes the directory, and nothing beside it. */
static void test_name(void **state)
{
	struct bytes bytes;
	FILE *tar;

	make_tree();
	assert_int_equal(pack_all("d", 4096, &bytes), 0);
	assert_int_equal(mkdir("to", 0700), 0);
	tar = popen("tar -xf - -C to --warning=none", "w");
	assert_non_null(tar);
	assert_int_equal(fwrite(bytes.data, 1, bytes.size, tar), bytes.size);
	assert_int_equal(pclose(tar), 0);
	assert_tree("to/name");
	assert_int_equal(stat_of("to").st_nlink, 3);
	assert_int_equal(walk_remove(AT_FDCWD, "to/name"), 0);
	assert_int_equal(rmdir("to"), 0);
	free(bytes.data);
}

static void test_too_many(void **state)
{
	static const struct bad_entry entries[] = {
		{ "d/a", AE_IFREG, NULL, NULL },
		{ "d/b", AE_IFREG, NULL, NULL },
		{ "d/c", AE_IFREG, NULL, NULL },
		{ NULL, 0, NULL, NULL },
	};
	struct bytes bytes = make_archive(entries);
	char *error;

	assert_int_equal(unpack_options(&bytes, "to3",
					&(struct unpack){ .entries_max = 3 }, NULL),
			 0);
	assert_int_equal(unpack_options(&bytes, "to2",
					&(struct unpack){ .entries_max = 2 }, &error),
			 -EBADMSG);
	assert_string_equal(error, "d/c: is an entry too many");
	free(error);
	free(bytes.data);
}

/* Few bytes make many directories where one path has all of them. */
static void test_too_many_above(void **state)
{
	static const struct bad_entry entries[] = {
		{ "d/a/b/c", AE_IFREG, NULL, NULL },
		{ "d/a/b/d/", AE_IFDIR, NULL, NULL },
		{ "d/a/b/e", AE_IFREG, NULL, NULL },
		{ NULL, 0, NULL, NULL },
	};
	struct bytes bytes = make_archive(entries);
	char *error;

	assert_int_equal(unpack_options(&bytes, "to5",
					&(struct unpack){ .entries_max = 5 }, NULL),
			 0);
	assert_int_equal(unpack_options(&bytes, "to4",
					&(struct unpack){ .entries_max = 4 }, &error),
			 -EBADMSG);
	assert_string_equal(error, "d/a/b/e: is an entry too many");
	free(error);
	free(bytes.data);
}

static int stop(uint64_t done, uint64_t total, void *userdata)
{
	return done > 0;
}

static void test_given_up(void **state)
{
	const struct unpack options = { .progress = stop };
	struct bytes bytes;
	int fd;

	assert_int_equal(mkdir("d", 0755), 0);
	fd = open("d/large", O_WRONLY | O_CREAT, 0644);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(write(fd, place, 10), 10);
	assert_int_equal(posix_fallocate(fd, 0, 2000000), 0);
	close(fd);
	assert_int_equal(pack_all("d", 4096, &bytes), 0);
	assert_int_equal(unpack_options(&bytes, "to", &options, NULL), -ECANCELED);
	free(bytes.data);
}

/* Whatever it is: it is taken or refused, and nothing else is touched. */
static void test_damage(void **state)
{
	struct bytes bytes, cut;
	uint32_t random = 1;

	make_outside();
	make_tree();
	assert_int_equal(pack_all("d", 4096, &bytes), 0);
	cut = bytes;
	for (cut.size = 0; cut.size < bytes.size; cut.size += 300) {
		int r = unpack_to(&cut, "to");

		assert_true(r == 0 || r == -EBADMSG);
		assert_int_equal(walk_remove(AT_FDCWD, "to"), 0);
	}
	for (int i = 0; i < 1000; i++) {
		size_t at = (size_t)((uint64_t)random * bytes.size >> 32);
		char before = bytes.data[at];

		random = random * 1664525 + 1013904223;
		bytes.data[at] = (char)(random >> 24);
		unpack_to(&bytes, "to");
		bytes.data[at] = before;
		assert_int_equal(walk_remove(AT_FDCWD, "to"), 0);
	}
	assert_nothing_outside();
	free(bytes.data);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_there_and_back),
		TEST(test_from_a_descriptor),
		TEST(test_names_of_any_length),
		TEST(test_holes),
		TEST(test_what_is_left_out),
		TEST(test_changes_are_seen),
		TEST(test_walk_follows_nothing),
		TEST(test_unreadable),
		TEST(test_many_levels),
		TEST(test_many_levels_are_removed),
		TEST(test_names_that_lead_out),
		TEST(test_links_in_the_way),
		TEST(test_what_is_not_taken),
		TEST(test_hard_link_to_a_directory),
		TEST(test_directory_itself),
		TEST(test_name),
		TEST(test_too_many),
		TEST(test_too_many_above),
		TEST(test_given_up),
		TEST(test_damage),
	};

	return cmocka_run_group_tests_name("cli_archive", tests, NULL, NULL);
}
