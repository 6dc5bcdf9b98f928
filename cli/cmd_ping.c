/* SPDX-License-Identifier: MIT */

/* ipc ping: does the daemon answer, and how fast? */

#include <stdio.h>
#include <time.h>

#include "out.h"
#include "parse.h"

static const struct option options[] = {
	{ "count", required_argument, NULL, 'c' },
	CLI_OPTIONS,
};

/* 0, GETOPT_ERROR or GETOPT_HELP. */
static int parse(struct cli *cli, int argc, char **argv, uint64_t *ret_count)
{
	int c;

	while ((c = cli_getopt(cli, argc, argv, ":c:" CLI_LETTERS, options)) >= 0)
		if (!parse_number(optarg, UINT32_MAX, ret_count) || *ret_count == 0)
			return cli_usage(cli, "-c needs a number from 1 to %u, not '%s'",
					 UINT32_MAX, optarg);
	return c == GETOPT_END ? cli_check_count(cli, argc - optind, argv + optind, 0, 0)
			       : c;
}

static double now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static int ping(const struct cli *cli, struct ipc_client *client, double *ret_us)
{
	double start = now_us();
	int r = ipc_ping(client, NULL, 0);

	if (r < 0)
		return cli_fail_ipc(cli, NULL, client, r);
	*ret_us = now_us() - start;
	return STATUS_OK;
}

static int ping_all(const struct cli *cli, struct ipc_client *client, uint64_t count)
{
	double us = 0, least = 0, most = 0, sum = 0;

	for (uint64_t i = 1; i <= count; i++) {
		int status = ping(cli, client, &us);

		if (status != STATUS_OK)
			return status;
		least = i == 1 || us < least ? us : least;
		most = us > most ? us : most;
		sum += us;
		if (cli->json)
			out_print("{\"ping\":%llu,\"time_us\":%.0f}\n",
				  (unsigned long long)i, us);
		else if (!cli->quiet)
			out_print("%s at %s: %.3f ms\n", ipc_client_get_server(client),
				  ipc_client_get_socket(client), us / 1e3);
	}
	if (count > 1 && !cli->json)
		out_print("%llu times: least %.3f ms, mean %.3f ms, most %.3f ms\n",
			  (unsigned long long)count, least / 1e3,
			  sum / (double)count / 1e3, most / 1e3);
	return STATUS_OK;
}

static int run(struct cli *cli, int argc, char **argv)
{
	_cleanup_client_ struct ipc_client *client = NULL;
	uint64_t count = 1;
	int r = parse(cli, argc, argv, &count);

	if (r < 0)
		return cli_getopt_status(r);
	r = cli_connect(cli, &client);
	return r == STATUS_OK ? ping_all(cli, client, count) : r;
}

const struct command cmd_ping = {
	.name = "ping",
	.arguments = "[-c N]",
	.summary = "does the daemon answer?",
	.help = "Asks the daemon for an echo and tells how long it took. Starts no daemon.\n"
		"\n"
		"  -c, --count N  N times, one after the other\n",
	.run = run,
};
