/* SPDX-License-Identifier: MIT */

/* How ipc(1) shows how far a transfer has come: text, progress_line, progress. */

#include "unit/cli_base.h"

#include <poll.h>
#include <pty.h>
#include <sys/wait.h>

#include "cli/progress.h"
#include "cli/progress_line.h"
#include "cli/text.h"

/* ---- text ---- */

static void test_names_are_escaped(void **state)
{
	static const struct {
		const char *name, *escaped;
	} samples[] = {
		{ "", "" },
		{ "a b'c\"d\\*?.txt", "a b'c\"d\\*?.txt" },
		{ "z\xc3\xbcrich \xe2\x82\xac", "z\xc3\xbcrich \xe2\x82\xac" },
		{ "a\nb\tc\rd", "a\\x0ab\\x09c\\x0dd" },
		{ "\x1b[2J\x7f", "\\x1b[2J\\x7f" },
		{ "\xc2\x9b"
		  "1m",
		  "\\xc2\\x9b"
		  "1m" },
		{ "\xff\xc3", "\\xff\\xc3" },
		{ "x\xe2\x80\xaegpj.exe", "x\\xe2\\x80\\xaegpj.exe" },
		{ "\xe2\x81\xa6", "\\xe2\\x81\\xa6" },
	};

	for (size_t i = 0; i < sizeof(samples) / sizeof(*samples); i++) {
		char *text = text_escape_name(samples[i].name);

		assert_string_equal(text, samples[i].escaped);
		free(text);
	}
}

static void test_columns(void **state)
{
	assert_int_equal(text_width(""), 0);
	assert_int_equal(text_width("abc"), 3);
	assert_int_equal(text_width("\xc3\xa4"), 1);
	assert_int_equal(text_width("\xe6\xbc\xa2\xe5\xad\x97"),
			 4); /* two Han characters */
	assert_int_equal(text_width("\xf0\x9f\x98\x80"), 2);
	assert_int_equal(text_fit("\xe6\xbc\xa2\xe5\xad\x97", 3), 3);
	assert_int_equal(text_fit("\xc3\xa4\xc3\xa4", 1), 2);
	assert_int_equal(text_fit("abc", 0), 0);
	assert_int_equal(text_fit("abc", 9), 3);
}

/* ---- the line ---- */

static const char *format(const struct progress_line *line, size_t width)
{
	static char text[PROGRESS_LINE_MAX];

	progress_format(line, width, text);
	return text;
}

static const struct progress_line usual = {
	.name = "photos.tar",
	.done = 1288490189,
	.total = 2791728743,
	.rate = 325058560,
	.index = 3,
	.count = 17,
};

static void test_line(void **state)
{
	struct progress_line line = usual;

	assert_string_equal(format(&line, 80),
			    "photos.tar   46%    1.2G of 2.6G  310.0M/s  0:05  3/17");
	line.count = 1;
	assert_string_equal(format(&line, 80),
			    "photos.tar   46%    1.2G of 2.6G  310.0M/s  0:05");
	line.total = UINT64_MAX;
	assert_string_equal(format(&line, 80), "photos.tar    1.2G  310.0M/s");
	line.rate = 0;
	assert_string_equal(format(&line, 80), "photos.tar    1.2G");
	line.stalled = true;
	assert_string_equal(format(&line, 80), "photos.tar    1.2G  stalled");
	line.done = line.total = 7;
	assert_string_equal(format(&line, 80), "photos.tar  100%       7 of 7  waiting");
	line.stalled = false; /* the rate of what is done is of no interest */
	assert_string_equal(format(&line, 80), "photos.tar  100%       7 of 7  waiting");
	line.done = line.total = 0;
	line.stalled = false;
	assert_string_equal(format(&line, 80), "photos.tar  100%       0 of 0  waiting");
}

static void test_line_numbers(void **state)
{
	struct progress_line line = { .name = "f", .rate = 1 };

	/* 100% is said when all is there, not before. */
	line.total = 1000000;
	line.done = 999999;
	assert_non_null(strstr(format(&line, 80), " 99%"));
	line.done = 1000000;
	assert_non_null(strstr(format(&line, 80), "100%"));
	/* It grew beyond what was said: no percentage, no forecast. */
	line.done = 1000001;
	assert_null(strchr(format(&line, 80), '%'));
	line.done = 0;
	line.total = 7325;
	assert_non_null(strstr(format(&line, 80), "2:02:05"));
	line.total = 360000;
	assert_null(strchr(format(&line, 80), ':'));
	line.done = UINT64_MAX - 2;
	line.total = UINT64_MAX - 1;
	line.rate = 1e300;
	assert_non_null(strstr(format(&line, 80), " 99%"));
}

/* The least important goes first; the name's beginning and how much it is stay longest. */
static void test_line_in_little_room(void **state)
{
	struct progress_line line = usual;

	line.name = "a rather long name of a file.tar";
	assert_string_equal(
		format(&line, 61),
		"a rather long...   46%    1.2G of 2.6G  310.0M/s  0:05  3/17");
	assert_null(strstr(format(&line, 50), " of "));
	assert_non_null(strstr(format(&line, 50), "0:05"));
	assert_null(strstr(format(&line, 35), "0:05"));
	assert_non_null(strstr(format(&line, 28), "3/17"));
	assert_string_equal(format(&line, 1), "");
	assert_string_equal(format(&line, 0), "");
}

static void assert_fits(const struct progress_line *line, size_t width)
{
	const char *text = format(line, width);

	assert_true(width == 0 || text_width(text) < width);
	assert_true(strlen(text) < PROGRESS_LINE_MAX);
	for (const char *c = text; *c; c++)
		assert_true((unsigned char)*c >= 0x20 && *c != 0x7f);
}

static void test_line_always_fits(void **state)
{
	char wide[256 * 4], *end = wide;
	const char *const names[] = { "", "x", "photos.tar", wide };
	struct progress_line line = usual;

	for (int i = 0; i < 255; i++)
		end = stpcpy(end, "\xe6\xbc\xa2");
	for (size_t i = 0; i < 4; i++) {
		line.name = names[i];
		for (size_t width = 0; width < 700; width++)
			assert_fits(&line, width);
		line.index = line.count = UINT64_MAX;
	}
}

/* ---- the rate ---- */

static void test_meter(void **state)
{
	struct meter m;

	meter_start(&m, 1000);
	meter_update(&m, 1100, 100000);
	assert_true(m.rate == 0); /* too early to say */
	for (uint64_t t = 1200; t <= 4000; t += 100)
		meter_update(&m, t, (t - 1000) * 1000);
	assert_true(m.rate > 900e3 && m.rate < 1100e3);
	/* Half as fast: after some seconds that is what it says. */
	for (uint64_t t = 4100; t <= 14000; t += 100)
		meter_update(&m, t, 3000000 + (t - 4000) * 500);
	assert_true(m.rate > 450e3 && m.rate < 600e3);
}

static void test_meter_stalls(void **state)
{
	struct meter m;

	meter_start(&m, 1000);
	assert_false(meter_is_stalled(&m, 5999));
	assert_true(meter_is_stalled(&m, 6000));
	meter_update(&m, 2000, 1000000);
	for (uint64_t t = 2100; t < 7000; t += 100) {
		meter_update(&m, t, 1000000);
		assert_false(meter_is_stalled(&m, t));
	}
	meter_update(&m, 60000, 1000000);
	assert_true(meter_is_stalled(&m, 60000));
	/* It goes on: the pause is no part of the rate. */
	meter_update(&m, 60100, 1100000);
	assert_false(meter_is_stalled(&m, 60100));
	for (uint64_t t = 60200; t <= 61000; t += 100)
		meter_update(&m, t, 1100000 + (t - 60100) * 1000);
	assert_true(m.rate > 900e3 && m.rate < 1100e3);
	/* It begins anew. */
	meter_update(&m, 61100, 5);
	assert_true(m.done == 5 && m.rate == 0);
}

/* ---- on a terminal ---- */

/* A transfer, up to when somebody writes to the pipe or closes it. */
static void transfer(int until_fd, bool quiet)
{
	struct cli cli = { .quiet = quiet };
	struct progress *progress = progress_new(&cli);
	struct pollfd fd = { .fd = until_fd, .events = POLLIN };
	uint64_t done = 0;

	progress_begin(progress, "a\nb", 1, 2);
	do
		progress_update(done += 1000, UINT64_MAX, progress);
	while (poll(&fd, 1, 10) == 0);
	progress_end(progress);
	progress_free(progress);
}

static pid_t start_on_terminal(int *ret_terminal, int *ret_until, bool background,
			       bool quiet)
{
	struct winsize size = { .ws_col = 40, .ws_row = 10 };
	int until[2];
	pid_t pid;

	assert_int_equal(pipe(until), 0);
	pid = forkpty(ret_terminal, NULL, NULL, &size);
	if (pid == 0) {
		close(until[1]);
		if (background && fork() == 0) {
			setpgid(0, 0);
			transfer(until[0], quiet);
			_exit(0);
		}
		if (background)
			wait(NULL);
		else
			transfer(until[0], quiet);
		_exit(0);
	}
	assert_true(pid > 0);
	close(until[0]);
	*ret_until = until[1];
	return pid;
}

/* All that comes, up to the text or for that long. */
static bool read_terminal(int fd, const char *text, int ms, char *got, size_t size)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t n = 0;

	got[0] = 0;
	while (n + 1 < size && poll(&p, 1, ms) > 0) {
		ssize_t more = read(fd, got + n, size - n - 1);

		if (more <= 0)
			break;
		n += (size_t)more;
		got[n] = 0;
		if (text && strstr(got, text))
			return true;
	}
	return !text;
}

static void test_terminal(void **state)
{
	char got[65536], blanks[64];
	int terminal, until, status;
	pid_t pid = start_on_terminal(&terminal, &until, false, false);
	size_t n;

	assert_true(read_terminal(terminal, "/s", 10000, got, sizeof(got)));
	assert_memory_equal(got, "\ra\\x0ab", 7);
	assert_non_null(strstr(got, "1/2"));
	assert_null(strchr(got, '\n'));
	assert_null(strchr(got, '\x1b'));
	close(until);
	/* It goes away at the end: blanks over it, and back to the line's start. */
	read_terminal(terminal, NULL, 10000, got, sizeof(got));
	n = strlen(got);
	assert_true(n > 20 && got[n - 1] == '\r');
	memset(blanks, ' ', sizeof(blanks));
	assert_memory_equal(got + n - 11, blanks, 10);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	close(terminal);
}

static void assert_silent(bool background, bool quiet)
{
	char got[1000];
	int terminal, until;
	pid_t pid = start_on_terminal(&terminal, &until, background, quiet);

	read_terminal(terminal, NULL, 700, got, sizeof(got));
	assert_string_equal(got, "");
	close(until);
	read_terminal(terminal, NULL, 10000, got, sizeof(got));
	assert_string_equal(got, "");
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	close(terminal);
}

static void test_background_and_quiet_are_silent(void **state)
{
	assert_silent(true, false);
	assert_silent(false, true);
}

/* What is over in no time is not shown, and NULL is as good as any. */
static void test_short(void **state)
{
	struct cli cli = { 0 };
	struct progress *progress = progress_new(&cli);

	for (uint64_t i = 1; i <= 1000; i++) {
		progress_begin(progress, "f", i, 1000);
		progress_update(1, 1, progress);
		progress_end(progress);
	}
	assert_null(progress_free(progress));
	progress_begin(NULL, "f", 1, 1);
	assert_int_equal(progress_update(1, 1, NULL), 0);
	progress_end(NULL);
	assert_null(progress_free(NULL));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_are_escaped),
		cmocka_unit_test(test_columns),
		cmocka_unit_test(test_line),
		cmocka_unit_test(test_line_numbers),
		cmocka_unit_test(test_line_in_little_room),
		cmocka_unit_test(test_line_always_fits),
		cmocka_unit_test(test_meter),
		cmocka_unit_test(test_meter_stalls),
		cmocka_unit_test(test_terminal),
		cmocka_unit_test(test_background_and_quiet_are_silent),
		cmocka_unit_test(test_short),
	};

	return cmocka_run_group_tests_name("cli_progress", tests, NULL, NULL);
}
