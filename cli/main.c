/* SPDX-License-Identifier: MIT */

/*
 * ipc: the command of ipcd(8). main() reads the options before the verb, finds the verb in
 * the table, and lets it read the rest. A verb lives in cmd_<verb>.c, which ends in its
 * table entry.
 */

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "out.h"

extern const struct command cmd_send, cmd_receive, cmd_ack, cmd_nack, cmd_reject,
	cmd_touch, cmd_name_ls, cmd_name_create, cmd_name_set, cmd_name_delete,
	cmd_name_purge, cmd_name_move, cmd_name_explain, cmd_status, cmd_peers,
	cmd_disconnect, cmd_ping, cmd_doctor;

static const struct command *const commands[] = {
	&cmd_send,	 &cmd_receive,	   &cmd_ack,	      &cmd_nack,
	&cmd_reject,	 &cmd_touch,	   &cmd_ping,	      &cmd_status,
	&cmd_name_ls,	 &cmd_name_create, &cmd_name_set,     &cmd_name_delete,
	&cmd_name_purge, &cmd_name_move,   &cmd_name_explain, &cmd_peers,
	&cmd_disconnect, &cmd_doctor,
};

/* Is it the first of the two words of the command's name? The empty word is that of all. */
static bool is_first_word(const char *word, const struct command *command)
{
	size_t size = strlen(word);

	return size == 0 ||
	       (strncmp(command->name, word, size) == 0 && command->name[size] == ' ');
}

static bool is_group(const char *word)
{
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (*word && is_first_word(word, commands[i]))
			return true;
	return false;
}

/* ---- help ---- */

static void show_commands(const char *first)
{
	out_print("Commands:\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (is_first_word(first, commands[i]))
			out_print("  %-12s %s\n", commands[i]->name,
				  commands[i]->summary);
}

static int show_group(const char *first)
{
	out_print("usage: ipc [OPTION...] %s COMMAND [ARGUMENT...]\n\n", first);
	show_commands(first);
	out_print("\nSee ipc(1), and 'ipc %s COMMAND --help' for each command.\n", first);
	return STATUS_OK;
}

static int show_help(void)
{
	out_print(
		"usage: ipc [OPTION...] COMMAND [ARGUMENT...]\n\n"
		"Hands messages from process to process, through the queues of ipcd(8).\n\n");
	show_commands("");
	out_print("\nOptions, before or after the command:\n"
		  "  --socket PATH  the daemon that listens there (or $IPC_SOCKET)\n"
		  "  --user         this user's daemon\n"
		  "  --system       the system's daemon\n"
		  "  --json         output for programs: one JSON object a line\n"
		  "  -q, --quiet    no notes on standard error, errors only\n"
		  "  -h, --help     this help, or that of a command\n"
		  "  -V, --version  the version\n\n"
		  "See ipc(1), and 'ipc COMMAND --help' for each command.\n");
	return STATUS_OK;
}

/* ---- finding the verb ---- */

static size_t minimum(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* How many letters must be changed, added, left out or swapped with their neighbour. */
static size_t distance(const char *a, const char *b)
{
	enum { MAX = 24 };
	size_t d[MAX + 1][MAX + 1], n = strlen(a), m = strlen(b);

	if (n > MAX || m > MAX)
		return SIZE_MAX;
	for (size_t i = 0; i <= n; i++) {
		for (size_t j = 0; j <= m; j++) {
			if (i == 0 || j == 0) {
				d[i][j] = i + j;
				continue;
			}
			d[i][j] = minimum(d[i - 1][j], d[i][j - 1]) + 1;
			d[i][j] = minimum(d[i][j],
					  d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
			    a[i - 2] == b[j - 1])
				d[i][j] = minimum(d[i][j], d[i - 2][j - 2] + 1);
		}
	}
	return d[n][m];
}

static int unknown_command(const struct cli *cli, const char *name)
{
	const struct command *best = NULL;
	size_t best_distance = 3;

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		size_t d = distance(name, commands[i]->name);

		if (*name && strncmp(commands[i]->name, name, strlen(name)) == 0)
			d = 1;
		if (d < best_distance) {
			best_distance = d;
			best = commands[i];
		}
	}
	if (best)
		cli_usage(cli, "there is no command '%s' (did you mean '%s'?)", name,
			  best->name);
	else
		cli_usage(cli, "there is no command '%s'", name);
	return STATUS_LOCAL;
}

/* The name may be two words; *ret_words says how many were looked at. */
static const struct command *find_command(int argc, char **argv, int *ret_words)
{
	*ret_words = 1;
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		const char *name = commands[i]->name;
		size_t first = strcspn(name, " ");

		if (strncmp(argv[0], name, first) != 0 || argv[0][first])
			continue;
		if (!name[first])
			return commands[i];
		if (argc > 1 && *argv[1] != '-')
			*ret_words = 2;
		if (argc > 1 && strcmp(argv[1], name + first + 1) == 0)
			return commands[i];
	}
	return NULL;
}

/* words: see find_command(). */
static int no_command(const struct cli *cli, char **argv, int words)
{
	_cleanup_free_ char *both = NULL;

	if (words == 2 && asprintf(&both, "%s %s", argv[0], argv[1]) > 0)
		return unknown_command(cli, both);
	if (!is_group(argv[0]))
		return unknown_command(cli, argv[0]);
	cli_usage(cli, "a command is missing after '%s'", argv[0]);
	return STATUS_LOCAL;
}

static bool is_help(const char *option)
{
	return strcmp(option, "--help") == 0 || strcmp(option, "-h") == 0;
}

static int run_command(struct cli *cli, int argc, char **argv)
{
	int words;

	cli->command = find_command(argc, argv, &words);
	if (!cli->command && argc > 1 && is_group(argv[0]) && is_help(argv[1]))
		return show_group(argv[0]);
	if (!cli->command)
		return no_command(cli, argv, words);
	optind = 0; /* getopt_long(3): scan another vector */
	return cli->command->run(cli, argc - words + 1, argv + words - 1);
}

/* "ipc help" and "ipc help COMMAND", which people try. */
static int run_help(struct cli *cli, int argc, char **argv)
{
	const struct command *command;
	int words;

	if (argc == 0)
		return show_help();
	command = find_command(argc, argv, &words);
	if (!command && argc == 1 && is_group(argv[0]))
		return show_group(argv[0]);
	if (!command)
		return no_command(cli, argv, words);
	cli_help(command);
	return STATUS_OK;
}

static int run(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { "version", no_argument, NULL, 'V' },
						 CLI_OPTIONS };
	int c = cli_getopt(cli, argc, argv, "+:V" CLI_LETTERS, options);

	if (c == 'V') {
		out_print("ipc " IPCD_VERSION "\n");
		return STATUS_OK;
	}
	if (c == 'h')
		return show_help();
	if (c != GETOPT_END)
		return cli_getopt_status(c);
	if (optind == argc)
		return cli_getopt_status(cli_usage(cli, "a command is missing"));
	if (strcmp(argv[optind], "help") == 0)
		return run_help(cli, argc - optind - 1, argv + optind + 1);
	return run_command(cli, argc - optind, argv + optind);
}

/* So that no socket takes the place of a standard stream that was closed. What is opened
 * here instead can be neither read nor written to: input and output fail, as they should. */
static void fill_standard_streams(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0) /* open(2) takes the lowest that is free */
			(void)!open("/dev/null",
				    fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

int main(int argc, char **argv)
{
	struct cli cli = { 0 };

	fill_standard_streams();
	return out_finish(&cli, run(&cli, argc, argv));
}
