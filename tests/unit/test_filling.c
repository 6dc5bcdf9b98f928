/* SPDX-License-Identifier: MIT */

/* Blobs, what is charged for one that is filled, and what headers say of digests. */

#include "unit/filling_world.h"

static struct fault fault;

static int open_blob(const struct blob *b)
{
	int fd = blob_open(b);

	assert_true(fd >= 0);
	assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	return fd;
}

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

static void unref(struct blob *b)
{
	assert_null(blob_unref(b));
}

/* ---- blobs ---- */

static struct blob *make_blob(void)
{
	struct blob *b = blob_new(&f.blobs);
	int fd = blob_create(b);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, "0123456789", 10, 0), 10);
	blob_adopt_take(b, fd, 10, 10);
	assert_int_equal(is_open(fd), b->id == 0);
	return b;
}

/* Each delivery has an offset of its own, and cannot write. */
static void check_deliveries(const struct blob *b)
{
	int one = open_blob(b), two = open_blob(b);
	char c;

	for (int expected = '0'; expected <= '9'; expected++) {
		assert_int_equal(read(one, &c, 1), 1);
		assert_int_equal(c, expected);
	}
	assert_int_equal(read(two, &c, 1), 1);
	assert_int_equal(c, '0');
	assert_int_equal(pwrite(one, "x", 1, 0), -1);
	close(one);
	close(two);
}

static void test_blob_in_the_spool(void **state)
{
	struct blob *b = make_blob();

	(void)state;
	assert_int_equal(n_spooled(), 1);
	assert_false(blob_is_in_memory(b));
	check_deliveries(b);
	blob_ref(b);
	unref(b);
	turn();
	assert_int_equal(n_spooled(), 1); /* somebody needs it */
	unref(b);
	wait_for(n_spooled() == 0);
	unref(NULL);
}

static void test_blob_in_memory(void **state)
{
	struct blob *b;
	int fd, seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

	(void)state;
	without_spool();
	b = make_blob();
	assert_int_equal(b->id, 0);
	assert_true(blob_is_in_memory(b));
	check_deliveries(b);
	assert_int_equal(fcntl(b->fd, F_GET_SEALS) & seals, seals);
	fd = b->fd;
	unref(b);
	assert_false(is_open(fd));
}

/* At the end of the daemon the files stay for the next one. */
static void test_kept(void **state)
{
	struct blob *b = make_blob(), *again;
	uint64_t id = b->id;

	(void)state;
	f.blobs.keep = true;
	unref(b);
	for (int i = 0; i < 20; i++)
		turn();
	assert_int_equal(n_spooled(), 1);
	f.blobs.keep = false;
	again = blob_new_stored(&f.blobs, id, 10, 10);
	assert_non_null(again);
	assert_true(again->synced);
	check_deliveries(again);
	unref(again);
	wait_for(n_spooled() == 0);
}

static void test_ids(void **state)
{
	struct blob *a = make_blob(), *b = make_blob(), *same;

	(void)state;
	assert_int_not_equal(a->id, b->id);
	/* another one's file is neither overwritten nor unlinked */
	f.blobs.next_id = a->id;
	same = blob_new(&f.blobs);
	assert_int_equal(blob_create(same), -EEXIST);
	unref(same);
	for (int i = 0; i < 20; i++)
		turn();
	assert_int_equal(n_spooled(), 2);
	check_deliveries(a);
	blobs_begin(&f.blobs, 7);
	same = blob_new(&f.blobs);
	assert_true(same->id > 7ull << 32);
	unref(same); /* never made */
	unref(a);
	unref(b);
	wait_for(n_spooled() == 0);
}

static void test_handed_over(void **state)
{
	(void)state;
	for (int live = 0; live < 2; live++)
		for (int quick = 0; quick < 2; quick++) {
			int fd = memfd_create("given", MFD_CLOEXEC), one = -1;
			struct blob *b =
				blob_new_fd(&f.blobs, UID, fd, 3, 3, live, quick);

			assert_non_null(b);
			assert_int_equal(write(fd, "abc", 3), 3);
			if (!live) { /* that one is lent as it is */
				one = open_blob(b);
				assert_int_equal(lseek(one, 0, SEEK_CUR), 0);
				assert_int_equal(pwrite(one, "x", 1, 0), -1);
				close(one);
			}
			unref(b);
			if (!live || quick)
				assert_false(is_open(fd));
			wait_for(!is_open(fd));
		}
}

/* A memfd that is to be stored: the store makes the file of that name. */
static void test_named(void **state)
{
	int fd = memfd_create("given", MFD_CLOEXEC);
	struct blob *b = blob_new_fd(&f.blobs, UID, fd, 0, 0, false, true);
	uint64_t id;
	char path[250];

	(void)state;
	blob_name(b);
	id = b->id;
	assert_true(id > 0);
	blob_name(b);
	assert_int_equal(b->id, id);
	snprintf(path, sizeof(path), "%s/spool/%llu", f.directory,
		 (unsigned long long)id);
	close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	assert_int_equal(n_spooled(), 1);
	unref(b);
	wait_for(n_spooled() == 0);
	without_spool();
	b = blob_new_fd(&f.blobs, UID, memfd_create("given", MFD_CLOEXEC), 0, 0, false,
			true);
	blob_name(b);
	assert_int_equal(b->id, 0);
	unref(b);
}

/* ---- charges ---- */

static void check_charges(uint64_t *max, uint64_t *used, const char *key)
{
	struct filling a, b;

	*max = 1000;
	*used = 100; /* of others */
	filling_init(&a, &f.blobs, f.user, &f.limits);
	filling_init(&b, &f.blobs, f.user, &f.limits);
	assert_int_equal(f.user->usage.bodies, 2);
	assert_int_equal(filling_charge(&a, 500, &fault), 0);
	assert_int_equal(*used, 600);
	assert_int_equal(filling_charge(&a, 400, &fault), 0); /* never less */
	assert_int_equal(*used, 600);
	assert_int_equal(filling_charge(&b, 401, &fault), FAULT);
	assert_int_equal(fault.word, FAULT_QUOTA);
	assert_non_null(strstr(fault.text, "600 of 1000 bytes"));
	assert_non_null(strstr(fault.text, key));
	assert_int_equal(*used, 600);
	assert_int_equal(filling_charge(&b, 400, &fault), 0);
	assert_int_equal(*used, 1000);
	assert_int_equal(filling_charge(&a, 501, &fault), FAULT);
	filling_uncharge(&b);
	assert_int_equal(*used, 600);
	assert_int_equal(filling_charge(&a, 900, &fault), 0); /* its own counts once */
	assert_int_equal(*used, 1000);
	assert_int_equal(filling_charge(&b, UINT64_MAX, &fault), FAULT);
	filling_deinit(&b);
	assert_int_equal(f.user->usage.bodies, 1);
	assert_int_equal(*used, 1000);
	filling_deinit(&a);
	assert_int_equal(f.user->usage.bodies, 0);
	assert_int_equal(*used, 100);
	*used = 0;
}

static void test_charges(void **state)
{
	(void)state;
	check_charges(&f.limits.user_file_bytes, &f.user->usage.file_bytes,
		      "(user_file_bytes)");
	assert_int_equal(f.user->usage.bytes, 0);
	without_spool();
	check_charges(&f.limits.user_bytes, &f.user->usage.bytes, "(user_bytes)");
	assert_int_equal(f.user->usage.file_bytes, 0);
}

/* Only the first failure is told. */
static void test_failures(void **state)
{
	struct filling filling;

	(void)state;
	filling_init(&filling, &f.blobs, f.user, &f.limits);
	assert_false(filling_fail(&filling, FAULT_BAD_FD, "number %d", 1));
	assert_false(filling_fail_errno(&filling, ENOSPC, "it"));
	check_failed(&filling, FAULT_BAD_FD, "number 1");
	filling_deinit(&filling);
	filling_init(&filling, &f.blobs, f.user, &f.limits);
	assert_false(filling_fail_errno(&filling, EMFILE, "it fails"));
	check_failed(&filling, FAULT_FULL,
		     "it fails: the daemon has no free descriptors (RLIMIT_NOFILE)");
	assert_non_null(strstr(filling.fault.text, "later"));
	filling_deinit(&filling);
	filling_init(&filling, &f.blobs, f.user, &f.limits);
	assert_false(filling_fail_errno(&filling, ENOMEM, "it fails"));
	check_failed(&filling, FAULT_INTERNAL, "it fails: Cannot allocate memory");
	filling_deinit(&filling);
}

/* ---- digests ---- */

static int get_digests(const char *text, struct digests *d)
{
	struct header header;
	struct json *json;
	int r;

	assert_int_equal(json_new(&json, LIMIT_HEADER_MAX, false), 0);
	assert_int_equal(header_parse(&header, json, text, strlen(text)), 0);
	r = digests_get(&header, d, &fault);
	json_free(json);
	return r;
}

#define MD5 "0123456789abcdef0123456789ABCDEF"

static void test_claims(void **state)
{
	struct digests d = { 0 }, more = { 0 };

	(void)state;
	assert_int_equal(get_digests("{}", &d), 0);
	assert_int_equal(d.wanted, 0);
	assert_int_equal(get_digests("{\"md5\":true,\"sha256\":true}", &d), 0);
	assert_int_equal(d.wanted, 1u << DIGEST_MD5 | 1u << DIGEST_SHA256);
	assert_int_equal(digests_check(&d, DIGEST_MD5, "what it is", &fault), 0);
	assert_int_equal(get_digests("{\"md5\":\"" MD5 "\",\"xxh3\":true}", &more), 0);
	digests_add(&d, &more);
	assert_int_equal(d.wanted, (1u << DIGEST_N) - 1);
	assert_int_equal(digests_check(&d, DIGEST_MD5, MD5, &fault), 0);
	assert_int_equal(digests_check(&d, DIGEST_MD5, "0123456789ABCDEF0123456789abcdef",
				       &fault),
			 0);
	assert_int_equal(digests_check(&d, DIGEST_MD5, "1123456789abcdef0123456789abcdef",
				       &fault),
			 FAULT);
	assert_int_equal(fault.word, FAULT_INTEGRITY);
	assert_non_null(strstr(fault.text, "md5 1123456789abcdef0123456789abcdef"));
	assert_non_null(strstr(fault.text, "not " MD5));
	assert_int_equal(get_digests("{\"md5\":true}", &more), 0); /* no claim any more */
	digests_add(&d, &more);
	assert_int_equal(digests_check(&d, DIGEST_MD5, "what it is", &fault), 0);
}

static void test_bad_claims(void **state)
{
	static const char *const bad[] = {
		"{\"md5\":false}",
		"{\"md5\":1}",
		"{\"md5\":null}",
		"{\"md5\":\"\"}",
		"{\"md5\":\"" MD5 "0\"}",
		"{\"sha256\":\"" MD5 "\"}",
		"{\"md5\":\"0123456789abcdef0123456789abcdeg\"}",
		"{\"xxh3\":\"0123456789abcdef0123456789abcde \"}",
	};
	struct digests d;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		memset(&d, 0, sizeof(d));
		assert_int_equal(get_digests(bad[i], &d), FAULT);
		assert_int_equal(fault.word, FAULT_BAD_REQUEST);
		assert_non_null(strstr(fault.text, "hexadecimal digits"));
	}
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, filling_setup, filling_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_blob_in_the_spool),
		TEST(test_blob_in_memory),
		TEST(test_kept),
		TEST(test_ids),
		TEST(test_handed_over),
		TEST(test_named),
		TEST(test_charges),
		TEST(test_failures),
		TEST(test_claims),
		TEST(test_bad_claims),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
