/* SPDX-License-Identifier: MIT */

/* A disk that fills up while files come in, on a small file system of the test's own. */

#include "integration/harness_file.h"

#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "integration/durable.h"

enum { MIB = 1 << 20, DISK = 48 * MIB, FILE_SIZE = 5 * MIB };

static char mounted[256];

/* The mount is seen by this process and its children only, and gone with them. */
static void mount_disk(void)
{
	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		print_message("skipped: cannot mount\n");
		skip();
	}
	assert_int_equal(mkdir(server.state, 0700), 0);
	if (mount("ipcd-test", server.state, "tmpfs", MS_NOSUID | MS_NODEV,
		  keep_printf("size=%d,mode=0700", DISK)) < 0) {
		print_message("skipped: cannot mount a tmpfs\n");
		skip();
	}
	snprintf(mounted, sizeof(mounted), "%s", server.state);
}

static int teardown(void **state)
{
	int r = harness_teardown(state);

	if (*mounted) {
		umount2(mounted, MNT_DETACH);
		rmdir(mounted);
		*strrchr(mounted, '/') = '\0';
		rmdir(mounted);
		*mounted = '\0';
	}
	return r;
}

static size_t free_bytes(void)
{
	struct statvfs fs;

	assert_int_equal(statvfs(server.state, &fs), 0);
	return fs.f_bavail * fs.f_bsize;
}

static bool is_taken(struct client *c, enum way way)
{
	struct frame *f;

	say_file(c, 1, way, FILE_SIZE, "'queue':'q'");
	f = hear(c);
	if (!json_has(f->header, "error"))
		return true;
	assert_string_equal(json_string(f->header, "error"), "no-space");
	return false;
}

/* Files until one is refused; how many were taken. */
static int fill(struct client *c, enum way way)
{
	for (int n = 0; n < DISK / FILE_SIZE; n++)
		if (!is_taken(c, way))
			return n;
	fail_at(HERE, "the disk is not full");
}

static void check_full(enum way way)
{
	struct client *c, *other;
	size_t before;
	int n;

	mount_disk();
	start_durable(AT_ONCE);
	c = client_connect();
	other = client_connect();
	create_volatile(other, "m");
	n = fill(c, way);
	assert_in_range(n, 2, DISK / FILE_SIZE);
	wait_for(spool_count() == n); /* nothing of the one that was refused */
	before = free_bytes();
	for (int i = 0; i < 3; i++)
		send_file_fails(c, way, FILE_SIZE, "'queue':'q'", "no-space");
	assert_int_equal(log_count("no space for its body"), 1); /* once a minute */
	wait_for(spool_count() == n);
	wait_for(free_bytes() + 65536 >=
		 before); /* a file that is gone may still be open */

	/* others, and this connection, go on with what needs no room on the disk */
	hear_nothing(c);
	send_text(other, "m", "text");
	settle(other, "ack", take(other, "m", "text"), "");

	/* what is there can be taken, and gives its room back */
	settle(other, "ack", take_file(other, "q", FILE_SIZE), "");
	wait_for(spool_count() == n - 1);
	wait_for(is_taken(c, way));
	for (int i = 0; i < n; i++)
		settle(other, "ack", take_file(other, "q", FILE_SIZE), "");
	wait_for(spool_count() == 0);
	send_file(c, way, FILE_SIZE, "'queue':'q'");
	restart(CRASH, AT_ONCE);
	c = client_connect();
	settle(c, "ack", take_file(c, "q", FILE_SIZE), "");
}

static void test_descriptors(void **state)
{
	check_full(BY_FD);
}

static void test_frames(void **state)
{
	check_full(BY_FRAME);
}

static void test_pieces(void **state)
{
	check_full(BY_PIECES);
}

/* One who fills the disk without ever ending his body: the others' sends fail by name, and
 * his end gives all back. */
static void test_an_unfinished_body(void **state)
{
	const char *data;
	struct client *c, *other;

	mount_disk();
	start_durable(AT_ONCE);
	c = client_connect();
	other = client_connect();
	data = pattern(MIB);
	say_body(c, data, MIB, "{'op':'send','id':1,'queue':'q','more':true}");
	for (int i = 0; i < DISK / MIB; i++)
		say_body(c, data, MIB, "{'id':1,'more':true}");
	hear_error(c, 1, "no-space");
	client_close(c);
	wait_for(spool_count() == 0);
	wait_for(is_taken(other, BY_PIECES));
	settle(other, "ack", take_file(other, "q", FILE_SIZE), "");
}

/* What gives room back needs none: a queue of files is purged, or deleted. */
static void test_purged_and_deleted(void **state)
{
	static const char *const ops[] = { "purge", "delete" };
	struct client *c, *other;

	mount_disk();
	start_durable(AT_ONCE);
	c = client_connect();
	other = client_connect();
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		fill(c, BY_FD);
		say(other, "{'op':'%s','id':1,'name':'q'}", ops[i]);
		hear_reply(other, 1);
		wait_for(spool_count() == 0);
		send_file(c, BY_FD, FILE_SIZE, "'queue':'q'");
		settle(other, "ack", take_file(other, "q", FILE_SIZE), "");
	}
}

/* The daemon starts on a full disk, with all that is there. Its own files may be shorter than
 * before. */
static void test_start(void **state)
{
	int n;

	mount_disk();
	start_durable(AT_ONCE);
	n = fill(client_connect(), BY_FRAME);
	for (enum ending how = 0; how < N_ENDINGS; how++) {
		struct client *c;

		restart(how, AT_ONCE);
		c = client_connect();
		assert_int_equal(queue_count("q", "ready"), n);
		assert_int_equal(spool_count(), n);
		n += fill(c, BY_FRAME);
		wait_for(spool_count() == n);
		settle(c, "ack", take_file(c, "q", FILE_SIZE), "");
		wait_for(spool_count() == n - 1);
		wait_for(is_taken(c, BY_FRAME));
	}
}

#define on_disk(test) cmocka_unit_test_setup_teardown(test, harness_setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		on_disk(test_descriptors),
		on_disk(test_frames),
		on_disk(test_pieces),
		on_disk(test_an_unfinished_body),
		on_disk(test_purged_and_deleted),
		on_disk(test_start),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
