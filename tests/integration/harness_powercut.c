/* SPDX-License-Identifier: MIT */

/* See harness_powercut.h. */

#include "integration/harness_powercut.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

struct powercut_control *powercut;

/* ---- the shim ---- */

static char *shim_path(void)
{
	char exe[4096];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);

	assert_true(n > 0);
	exe[n] = '\0';
	*strrchr(exe, '/') = '\0';
	return keep_printf("%s/powercut_shim.so", exe);
}

bool powercut_is_possible(void)
{
	return !server_is_sanitized() && access(shim_path(), R_OK) == 0;
}

static char *control_path(void)
{
	return keep_printf("%s/powercut", server.dir);
}

void powercut_setup(void)
{
	int fd;

	if (!powercut_is_possible()) {
		print_message("skipped: %s\n",
			      server_is_sanitized()
				      ? "nothing can be preloaded before a sanitizer"
				      : "powercut_shim.so is not there");
		skip();
	}
	if (powercut)
		munmap(powercut, sizeof(*powercut));
	fd = open(control_path(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_int_equal(ftruncate(fd, sizeof(*powercut)), 0);
	powercut =
		mmap(NULL, sizeof(*powercut), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	assert_true(powercut != MAP_FAILED);
	/* so that the process which carries out a cut becomes our child, to be reaped */
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
}

void powercut_preload(bool on)
{
	if (on) {
		setenv(POWERCUT_FILE_VARIABLE, control_path(), 1);
		setenv(POWERCUT_ROOT_VARIABLE, server.state, 1);
		setenv("LD_PRELOAD", shim_path(), 1);
	} else {
		unsetenv("LD_PRELOAD");
		unsetenv(POWERCUT_ROOT_VARIABLE);
		unsetenv(POWERCUT_FILE_VARIABLE);
	}
}

void powercut_now(void)
{
	powercut->now = 1;
	syscall(SYS_futex, &powercut->now, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void powercut_finish_at(struct place at)
{
	pid_t cutter = powercut->cutter;

	if (cutter && waitpid(cutter, NULL, 0) != cutter)
		fail_at(at, "waitpid %d: %s", (int)cutter, strerror(errno));
	powercut->cutter = 0;
	powercut->now = 0;
	if (powercut->broken[0])
		fail_at(at, "the model of the disk is broken: %s", powercut->broken);
}

void powercut_forget(void)
{
	unlink(keep_printf("%s.graves/log", control_path()));
}

/* ---- random numbers ---- */

uint64_t random_seed(void)
{
	const char *text = getenv("IPC_TEST_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 10)
			     : clock_ns(CLOCK_REALTIME) % 1000000000;

	print_message("IPC_TEST_SEED=%" PRIu64 "\n", seed);
	return seed;
}

uint64_t random_next(uint64_t *state)
{
	uint64_t x = *state += 0x9e3779b97f4a7c15u;

	x = (x ^ x >> 31) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 29) * 0x94d049bb133111ebu;
	return x ^ x >> 32;
}

uint64_t random_below(uint64_t *state, uint64_t n)
{
	return random_next(state) % n;
}
