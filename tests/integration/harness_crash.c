/* SPDX-License-Identifier: MIT */

/* See harness_crash.h. */

#include "integration/harness_crash.h"

#include <dirent.h>
#include <signal.h>

#include "integration/harness_powercut.h"

void crash_spawn(bool on_model, int *ret_ready)
{
	const char *const arguments[] = { "--socket",	 server.socket,
					  "--state",	 server.state,
					  "--log-level", "notice",
					  "--limit",	 "lost_delay=0",
					  "--limit",	 "max_attempts=1000000",
					  NULL };

	if (on_model)
		powercut_preload(true);
	server.pid = server_spawn(arguments, server.log, ret_ready);
	if (on_model)
		powercut_preload(false);
}

bool crash_wait_ready(int ready)
{
	if (!server_wait_ready(ready))
		return false;
	server.n_fds = server_count_fds();
	return true;
}

void crash_start_at(struct place at, bool on_model)
{
	int ready;

	crash_spawn(on_model, &ready);
	if (!crash_wait_ready(ready))
		fail_at(at, "ipcd did not get ready");
}

void crash_expect_at(struct place at, int status)
{
	int r = wait_exit_at(at, server.pid);

	server.pid = 0;
	if (powercut)
		powercut_finish_at(at);
	if (r != status)
		fail_at(at, "ipcd ended with status %d instead of %d", r, status);
}

void crash_lose_all_at(struct place at)
{
	powercut->loss = LOSS_ALL;
	powercut->process_only = 0;
	powercut_now();
	crash_expect_at(at, KILLED);
	powercut->loss = LOSS_DRAWN;
}

int crash_count_bad_files(void)
{
	DIR *dir = opendir(server.state);
	struct dirent *entry;
	int n = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)))
		n += strstr(entry->d_name, ".bad") != NULL;
	closedir(dir);
	return n;
}
