/* SPDX-License-Identifier: MIT */

/*
 * A script of commits, and one new file among them, on a disk whose n-th call fails, for
 * each n; that is full for a while; or where the process stops, for each n. Afterwards what
 * was told is true for what is in the file, and nothing is called damaged.
 */

#include "unit/disk.h"

#include "log.h"
#include "storage.h"
#include "worker.h"

enum { N = 8, TEXT_MAX = 300, ACCEPTED_MAX = 3 };

/* ---- what the file must have ---- */

struct model {
	int message[N]; /* attempts; -1: not there */
	bool dedup[N], name;
};

/* What may be found now, the certain one first; shared with a child that stops. */
static struct {
	char text[ACCEPTED_MAX][TEXT_MAX];
	unsigned int n;
} * accepted;

static bool in_child;

#define require(condition)                                                      \
	do {                                                                    \
		if (!(condition) && in_child) {                                 \
			fprintf(stderr, "line %d: %s\n", __LINE__, #condition); \
			_exit(2);                                               \
		}                                                               \
		assert_true(condition);                                         \
	} while (0)

static void describe(const struct model *m, char text[static TEXT_MAX])
{
	char *end = text + sprintf(text, "%s", m->name ? "name" : "");

	for (int i = 0; i < N; i++) {
		if (m->message[i] >= 0)
			end += sprintf(end, " %d:%d", i, m->message[i]);
		if (m->dedup[i])
			end += sprintf(end, " id%d", i);
	}
}

static void accept_none(void)
{
	accepted->n = 0;
}

static void accept_also(const struct model *m)
{
	describe(m, accepted->text[accepted->n]);
	accepted->n++;
}

static void accept_only(const struct model *m)
{
	accept_none();
	accept_also(m);
}

/* ---- blobs ---- */

static struct blobs blobs;
static struct blob *blob[N]; /* of the messages in memory */

/* What workers do is done at once. */
void workers_submit(struct workers *workers, struct job *job)
{
	(void)workers;
	job->run(job);
	job->done(job);
}

void workers_close_fd(uid_t uid, int fd)
{
	(void)uid;
	close(fd);
}

static bool has_blob(uint64_t number)
{
	return number == 4 || number == 6;
}

static const char *blob_path(uint64_t number)
{
	static char name[40];

	snprintf(name, sizeof(name), "spool/%d", 100 + (int)number);
	return name;
}

/* ---- what it has ---- */

static size_t size_of(uint64_t number)
{
	static const size_t sizes[N] = { 0, 10, 5000, 10, 300000, 10, 262145, 4097 };

	return sizes[number];
}

static struct slice body_of(uint64_t number)
{
	static char bodies[300000 + N];

	for (size_t i = 0; !bodies[1] && i < sizeof(bodies); i++)
		bodies[i] = (char)(1 + i % 127);
	return (struct slice){ bodies + number, size_of(number) };
}

static int found_name(void *arg, const struct name_record *n)
{
	((struct model *)arg)->name = n->id == 1;
	return 0;
}

static int found_message(void *arg, const struct message_record *m)
{
	struct model *found = arg;

	require(m->number < N && m->body_size == size_of(m->number));
	if (m->blob)
		disk_check(blob_path(m->number), body_of(m->number).data, m->body_size);
	else
		require(!memcmp(m->body.data, body_of(m->number).data, m->body_size));
	found->message[m->number] = (int)m->attempts;
	return 0;
}

static int found_dedup(void *arg, const struct dedup_record *d)
{
	((struct model *)arg)->dedup[d->number] = true;
	return 0;
}

static const struct model nothing = { { -1, -1, -1, -1, -1, -1, -1, -1 },
				      { false },
				      false };

static bool keep(void *arg, uint64_t id)
{
	require(id >= 100 && id < 100 + N);
	return ((struct model *)arg)->message[id - 100] >= 0;
}

/* On a disk that works. */
static void check_file(unsigned long n, const char *format, ...) PRINTF_LIKE(2, 3);
static void check_file(unsigned long n, const char *format, ...)
{
	struct model found = nothing;
	struct storage s;
	char text[TEXT_MAX], what[100];
	unsigned int i = 0;
	va_list args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	disk_works();
	assert_int_equal(storage_open(&s, disk_directory), 0);
	assert_int_equal(storage_load(&s, found_name, found_message, found_dedup, &found),
			 0);
	if (storage_judge(&s) || s.damage)
		fail_msg("%s at call %lu: %s", what, n, s.damage);
	describe(&found, text);
	while (i < accepted->n && strcmp(accepted->text[i], text) != 0)
		i++;
	if (i == accepted->n)
		fail_msg("%s at call %lu: there is \"%s\" and not \"%s\"", what, n, text,
			 accepted->text[0]);
	storage_sweep(&s, keep, &found);
	for (uint64_t k = 0; k < N; k++)
		assert_int_equal(disk_has(blob_path(k)),
				 found.message[k] >= 0 && has_blob(k));
	storage_close(&s);
}

/* ---- one step: a batch ---- */

static struct storage storage;
static struct model memory, on_disk; /* on_disk: what is certain to be there */
static struct list carried, lost;    /* lost: batches whose rows may be in the old file */

static struct batch_entry *entry(struct batch *b, enum batch_kind kind)
{
	struct batch_entry *e = batch_new_entry(b, kind);

	require(e);
	batch_put(b, e);
	return e;
}

static struct message_record record(uint64_t number, int attempts)
{
	struct message_record m = { .number = number,
				    .attempts = (uint64_t)attempts,
				    .body_size = size_of(number),
				    .blob_fd = -1 };

	if (!has_blob(number)) {
		m.body = body_of(number);
	} else if (blob[number]) {
		m.blob = blob[number]->id;
		m.blob_fd = blob[number]->fd;
	}
	return m;
}

/* Somebody has written it to a file, or sealed it in a memfd. */
static void make_blob(uint64_t number)
{
	size_t size = size_of(number);
	int fd;

	if (number == 4) {
		disk_put(blob_path(4), body_of(4).data, size);
		blob[4] = blob_new_stored(&blobs, 104, size, size);
	} else if (number == 6) {
		fd = memfd_create("body", MFD_CLOEXEC);
		require(syscall(SYS_pwrite64, fd, body_of(6).data, size, 0) ==
			(long)size);
		blobs.next_id = 106;
		blob[6] = blob_new_fd(&blobs, 0, fd, size, size, false, true);
		blob_name(blob[6]);
	}
}

static void end_blob(uint64_t number)
{
	blob[number] = blob_unref(blob[number]);
}

static void put(struct batch *b, uint64_t number, int attempts, bool again)
{
	struct batch_entry *e = entry(b, BATCH_PUT_MESSAGE);

	e->message = record(number, attempts);
	e->again = again;
	if (blob[number])
		e->blob = blob_ref(blob[number]);
}

static void put_id(struct batch *b, uint64_t number, bool again)
{
	struct batch_entry *e = entry(b, BATCH_PUT_DEDUP);

	e->dedup = (struct dedup_record){ .number = number, .id = { "id", 2 } };
	e->again = again;
}

static void put_name(struct batch *b)
{
	entry(b, BATCH_PUT_NAME)->name =
		(struct name_record){ .id = 1, .name = { "q", 1 } };
}

static void drop(struct batch *b, uint64_t number)
{
	struct batch_entry *e = entry(b, BATCH_DROP_MESSAGE);

	e->drop.number = number;
	e->drop.body_size = has_blob(number) ? 0 : size_of(number);
	if (blob[number])
		e->blob = blob_ref(blob[number]);
	end_blob(number);
}

/* Message by message: 's' sent, 'x' dropped, or a number of attempts. */
static void change(struct batch *b, const char *changes, struct model *full,
		   struct model *rest)
{
	for (const char *p = changes; *p; p += 2) {
		uint64_t number = (uint64_t)(p[0] - '0');

		if (p[1] == 's') {
			make_blob(number);
			put(b, number, 0, false);
			put_id(b, number, false);
			full->message[number] = 0;
			full->dedup[number] = true;
		} else if (full->message[number] >= 0 && p[1] == 'x') {
			drop(b, number);
			full->message[number] = rest->message[number] = -1;
		} else if (full->message[number] >= 0) {
			entry(b, BATCH_SET_MESSAGE)->message = record(number, p[1] - '0');
			full->message[number] = rest->message[number] = p[1] - '0';
		}
	}
}

static void free_batches(struct list *batches)
{
	struct batch *b;

	while ((b = LIST_FIRST(batches, struct batch, link))) {
		list_remove(&b->link);
		batch_deinit(b);
		free(b);
	}
}

static struct batch *new_batch(void)
{
	struct batch *b = malloc(sizeof(*b));

	require(b);
	batch_init(b);
	return b;
}

/* ---- a new file ---- */

static enum storage_outcome write_one(struct batch *b)
{
	struct list batches = LIST_INIT(batches);
	enum storage_outcome outcome;

	list_add_tail(&batches, &b->link);
	storage.head.next_number = N;
	outcome = storage_write(&storage, &batches);
	storage_after_write(&storage);
	free_batches(&batches);
	return outcome;
}

static bool dump(void)
{
	struct batch *names = new_batch(), *messages = new_batch();

	put_name(names);
	for (uint64_t i = 0; i < N; i++) {
		if (memory.dedup[i])
			put_id(names, i, true);
		if (memory.message[i] >= 0)
			put(messages, i, memory.message[i], true);
	}
	if (write_one(names) != STORAGE_WRITTEN) {
		batch_deinit(messages);
		free(messages);
		return false;
	}
	return write_one(messages) == STORAGE_WRITTEN;
}

static void renew(void)
{
	list_splice_tail(&lost, &carried);
	for (int i = 0; i < 100; i++) {
		if (storage_begin_anew(&storage) == 0 && dump() &&
		    storage_finish_anew(&storage) == 0) {
			on_disk = memory;
			accept_only(&on_disk);
			free_batches(&lost);
			return;
		}
	}
	require(!"a new file is complete in the end");
}

static void step(const char *changes)
{
	struct list batches = LIST_INIT(batches);
	struct batch *b = new_batch();
	struct model full = memory, rest = memory;
	enum storage_outcome outcome;

	if (!memory.name)
		put_name(b);
	full.name = rest.name = true;
	change(b, changes, &full, &rest);
	accept_only(&on_disk);
	accept_also(&full);
	accept_also(&rest);
	list_splice_tail(&batches, &carried);
	list_add_tail(&batches, &b->link);
	storage.head.next_number = N;
	outcome = storage_write(&storage, &batches);
	storage_after_write(&storage);
	memory = outcome == STORAGE_WRITTEN ? full : rest;
	for (uint64_t i = 0; i < N; i++)
		if (memory.message[i] < 0)
			end_blob(i);
	if (outcome == STORAGE_FULL) {
		batch_give_up_sends(b);
		list_splice_tail(&carried, &batches);
		accept_only(&on_disk);
		return;
	}
	if (outcome == STORAGE_LOST) {
		list_splice_tail(&lost, &batches);
		renew();
		return;
	}
	free_batches(&batches);
	storage_reserve(&storage);
	on_disk = memory;
	accept_only(&on_disk);
}

/* ---- the script ---- */

static void open_it(void)
{
	struct model found;
	int r = -EIO;

	for (int i = 0; i < 200 && r < 0; i++) {
		r = storage_open(&storage, disk_directory);
		if (r < 0)
			storage_close(&storage);
	}
	require(r == 0);
	found = nothing;
	require(storage_load(&storage, found_name, found_message, found_dedup, &found) ==
		0);
	require(!storage_judge(&storage));
	fd_close(blobs.directory);
	blobs.directory = open(disk_path("spool"), O_RDONLY | O_CLOEXEC);
	storage.head.generation++;
	storage_reserve(&storage);
}

static void run_script(void)
{
	list_init(&carried);
	list_init(&lost);
	blobs_init(&blobs, NULL);
	memory = on_disk = nothing;
	accept_only(&nothing);
	open_it();
	step("1s2s3s");
	step("112x4s");
	step("3x5s");
	step("4152");
	renew();
	step("6s1x");
	step("7s61");
	storage_close(&storage);
	open_it();
	step("4x");
	step("5x7163");
	for (int i = 0; !list_is_empty(&carried); i++) {
		require(i < 1000);
		step("");
	}
	storage_close(&storage);
	blobs.keep = true; /* as when the daemon ends */
	for (uint64_t i = 0; i < N; i++)
		end_blob(i);
	blobs_deinit(&blobs);
}

/* ---- the disk ---- */

static void fail_in_turn(unsigned long many, int error, const char *what)
{
	for (unsigned long n = 1;; n += many) {
		bool failed;

		disk_make();
		disk_fail(n, n + many - 1, error);
		run_script();
		failed = disk.failed;
		check_file(n, "%s", what);
		if (!failed)
			return;
	}
}

static void test_no_failure(void **state)
{
	disk_make();
	disk_fail(0, 0, 0);
	run_script();
	print_message("%lu calls, then there is \"%s\"\n", disk.calls, accepted->text[0]);
	check_file(0, "none");
}

static void test_each_call_fails_once(void **state)
{
	fail_in_turn(1, EIO, "EIO");
}

static void test_a_full_disk(void **state)
{
	fail_in_turn(1, ENOSPC, "ENOSPC");
	fail_in_turn(4, ENOSPC, "four times ENOSPC");
	fail_in_turn(30, ENOSPC, "thirty times ENOSPC");
}

static void test_a_quota(void **state)
{
	fail_in_turn(2, EDQUOT, "EDQUOT");
}

/* True: it came to the end. */
static bool stop_at(unsigned long n)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (!pid) {
		in_child = true;
		disk.stop_at = n;
		run_script();
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) > 1)
		fail_msg("stop at call %lu: the child failed", n);
	return WEXITSTATUS(status) == 1;
}

static void test_a_stop_at_each_call(void **state)
{
	for (unsigned long n = 1;; n++) {
		bool ended;

		disk_make();
		disk_fail(0, 0, 0);
		ended = stop_at(n);
		check_file(n, "stop");
		if (ended)
			return;
	}
}

/* One failure, then a stop while a new file is written, or behind that. */
static void test_a_failure_and_a_stop(void **state)
{
	uint32_t random = (uint32_t)getpid();
	bool ended = false;

	for (unsigned long n = 1; !ended; n++) {
		unsigned long m = n + 1 + next_random(&random) % 60;

		disk_make();
		disk_fail(n, n, EIO);
		ended = stop_at(m) && m < n + 10;
		check_file(m, "EIO at call %lu, stop", n);
	}
}

static int group_setup(void **state)
{
	(void)state;
	log_set_level(LEVEL_ERROR);
	accepted = mmap(NULL, sizeof(*accepted), PROT_READ | PROT_WRITE,
			MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return accepted == MAP_FAILED;
}

#define on_disk(test) cmocka_unit_test_teardown(test, disk_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		on_disk(test_no_failure),	   on_disk(test_each_call_fails_once),
		on_disk(test_a_full_disk),	   on_disk(test_a_quota),
		on_disk(test_a_stop_at_each_call), on_disk(test_a_failure_and_a_stop),
	};

	return cmocka_run_group_tests_name("store_faults", tests, group_setup, NULL);
}
