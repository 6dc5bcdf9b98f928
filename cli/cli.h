/* SPDX-License-Identifier: MIT */
#ifndef CLI_CLI_H
#define CLI_CLI_H

/*
 * What all verbs of ipc(1) share: the table entry of a verb, the options that go with every
 * verb, the connection, and how failures are told.
 *
 * A verb is a function that gets its own arguments and returns the exit status. Whoever
 * finds a failure reports it, as one line on standard error, and returns the status to end
 * with; callers hand it on and add nothing.
 */

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <ipc/ipc.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))
#define CLEANUP(fn) __attribute__((cleanup(fn)))

enum status {
	STATUS_OK = 0,
	STATUS_LOCAL = 1,   /* wrong usage, or something of this machine failed */
	STATUS_REFUSED = 2, /* an error of the daemon or of a peer */
	STATUS_TIMEOUT = 3, /* also: there was nothing to receive */
	STATUS_DENIED = 4,
	STATUS_NO_DAEMON = 5, /* none there, or it went away */
};

struct cli {
	const struct command *command;
	const char *socket;	 /* --socket, or NULL */
	unsigned int open_flags; /* IPC_OPEN_USER, IPC_OPEN_SYSTEM */
	bool json;
	bool quiet;
};

struct command {
	const char *name;      /* one word, or two as in "name ls" */
	const char *arguments; /* for the line of usage */
	const char *summary;   /* for the list of verbs */
	const char *help;      /* what the verb does and its options */
	bool autostart;	       /* start the user's daemon if none runs */
	int (*run)(struct cli *cli, int argc, char **argv); /* argv[0] is the verb */
};

/* ---- options: each verb's table ends with CLI_OPTIONS, its letters with CLI_LETTERS ---- */

enum {
	OPTION_SOCKET = 0x100,
	OPTION_USER,
	OPTION_SYSTEM,
	OPTION_JSON,
	OPTION_OF_VERB, /* long options without a letter count from here */
};

#define CLI_LETTERS "qh"
/* clang-format off */
#define CLI_OPTIONS                                           \
	{ "socket", required_argument, NULL, OPTION_SOCKET }, \
	{ "user", no_argument, NULL, OPTION_USER },           \
	{ "system", no_argument, NULL, OPTION_SYSTEM },       \
	{ "json", no_argument, NULL, OPTION_JSON },           \
	{ "quiet", no_argument, NULL, 'q' },                  \
	{ "help", no_argument, NULL, 'h' },                   \
	{ NULL, 0, NULL, 0 }
/* clang-format on */

/* What cli_getopt() returns besides the verb's own options. */
enum {
	GETOPT_END = -1,   /* optind is at the first argument */
	GETOPT_ERROR = -2, /* a usage error was reported */
	GETOPT_HELP = -3,  /* the help was shown */
};

/* As getopt_long(3); letters must begin with ':'. Takes the options of all verbs itself. */
int cli_getopt(struct cli *cli, int argc, char **argv, const char *letters,
	       const struct option *options);

/* Are there between min and max arguments (max -1: any number)? 0 or GETOPT_ERROR. */
int cli_check_count(const struct cli *cli, int argc, char **argv, int min, int max);

/* Both, for verbs without options of their own. 0, GETOPT_ERROR or GETOPT_HELP. */
int cli_parse_plain(struct cli *cli, int argc, char **argv, int min, int max);

/* The status to end with after GETOPT_ERROR (STATUS_LOCAL) or GETOPT_HELP (STATUS_OK). */
int cli_getopt_status(int c);

/* A time given with an option. 0 or GETOPT_ERROR. */
int cli_parse_time(const struct cli *cli, const char *option, const char *text,
		   int64_t *ret_ms);

/* ---- failures ------------------------------------------------------------------------- */

/* "ipc: VERB: …; see 'ipc VERB --help'". Returns GETOPT_ERROR. */
int cli_usage(const struct cli *cli, const char *format, ...) PRINTF_LIKE(2, 3);

/* "ipc: VERB NAME: …"; name may be NULL. Control characters are escaped. */
void cli_say(const struct cli *cli, const char *name, const char *format, ...)
	PRINTF_LIKE(3, 4);

/* The same, with STATUS_LOCAL as result. */
int cli_fail(const struct cli *cli, const char *name, const char *format, ...)
	PRINTF_LIKE(3, 4);

/* What libipc returned: tells the client's last error, and the socket where that helps. */
int cli_fail_ipc(const struct cli *cli, const char *name, const struct ipc_client *client,
		 int error);

/* The status for a result of libipc; remote: it is the daemon's word. */
int cli_status(int error, bool remote);

/* ---- the rest ------------------------------------------------------------------------- */

/* Connects as the options say. STATUS_OK and a client, or the status to end with. */
int cli_connect(const struct cli *cli, struct ipc_client **ret_client);

/* Prints what `ipc VERB --help` shows. */
void cli_help(const struct command *command);

static inline void client_closep(struct ipc_client **client)
{
	ipc_client_close(*client);
}
static inline void message_freep(struct ipc_message **message)
{
	ipc_message_free(*message);
}
static inline void receiver_freep(struct ipc_receiver **receiver)
{
	ipc_receiver_free(*receiver);
}
static inline void list_freep(struct ipc_list **list)
{
	ipc_list_free(*list);
}
static inline void freep(void *ptr)
{
	free(*(void **)ptr);
}
#define _cleanup_client_ CLEANUP(client_closep)
#define _cleanup_message_ CLEANUP(message_freep)
#define _cleanup_receiver_ CLEANUP(receiver_freep)
#define _cleanup_list_ CLEANUP(list_freep)
#define _cleanup_free_ CLEANUP(freep)

#endif
