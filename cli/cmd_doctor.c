/* SPDX-License-Identifier: MIT */

/*
 * ipc doctor: what durability is really in force, what is wrong or soon will be, and what
 * helps. All facts are the daemon's, from stats and names; here they are judged. One line for
 * each finding, in the order of what depends on what.
 */

#include "doctor.h"

#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>

#include "list.h"

enum {
	MIB = 1 << 20,
	FREE_LITTLE = 16 * MIB, /* some commits more */
	FREE_SCANTY = 256 * MIB,
	COMMIT_SLOW_US = 1000000,
};

/* ---- findings ---- */

static const char *level_name(enum level level)
{
	static const char *const names[] = { "ok", "note", "warning", "problem" };

	return names[level];
}

static void print_json(enum level level, const struct subject *about, const char *text,
		       const char *help)
{
	out_print("{\"level\":\"%s\",\"check\":\"%s\"", level_name(level), about->check);
	if (about->name) {
		out_print(",\"name\":");
		out_json_string(about->name);
	}
	out_print(",\"text\":");
	out_json_string(text);
	if (help) {
		out_print(",\"help\":");
		out_json_string(help);
	}
	out_print("}\n");
}

static void print_line(enum level level, const struct subject *about, const char *text,
		       const char *help)
{
	out_print("%-8s %s%s%s: %s%s%s\n", level_name(level), about->check,
		  about->name ? " " : "", about->name ? about->name : "", text,
		  help ? "; " : "", help ? help : "");
}

void doctor_tell(struct doctor *doctor, enum level level, struct subject about,
		 const char *help, const char *format, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list arguments;

	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0)
		text = NULL;
	va_end(arguments);
	if (level > doctor->worst)
		doctor->worst = level;
	if (doctor->cli->json)
		print_json(level, &about, text ? text : "no memory", help);
	else
		print_line(level, &about, text ? text : "no memory", help);
}

#define ABOUT(word) ((struct subject){ .check = (word) })

/* ---- the daemon ---- */

static void check_version(struct doctor *doctor)
{
	const char *server = ipc_client_get_server(doctor->client);

	if (strcmp(server, "ipcd " IPCD_VERSION) != 0)
		doctor_tell(doctor, LEVEL_NOTE, ABOUT("version"),
			    "restart the daemon after an upgrade",
			    "the daemon is %s, this is ipc %s", server, IPCD_VERSION);
}

static void check_daemon(struct doctor *doctor, const struct ipc_record *stats)
{
	int64_t uid = ipc_record_get_integer(stats, "uid");
	const struct passwd *user = uid >= 0 ? getpwuid((uid_t)uid) : NULL;
	const char *mode = list_text(stats, "mode");
	char up[LIST_TEXT];

	list_format_time(up, ipc_record_get_integer(stats, "uptime_ms"));
	doctor_tell(doctor, LEVEL_OK, ABOUT("daemon"), NULL,
		    "%s answers at %s: a %s daemon, process %lld of %s, up for %s",
		    ipc_client_get_server(doctor->client),
		    ipc_client_get_socket(doctor->client),
		    strcmp(mode, "system") == 0 ? "system" : "user's",
		    (long long)ipc_record_get_integer(stats, "pid"),
		    user ? user->pw_name : "an unknown user", up);
	check_version(doctor);
}

/* ---- the store ---- */

static void check_file_system(struct doctor *doctor, const struct ipc_record *stats)
{
	const char *directory = list_text(stats, "state");
	const char *kind = list_text(stats, "store.file_system");

	if (!ipc_record_get_bool(stats, "store.durable"))
		doctor_tell(doctor, LEVEL_WARNING, ABOUT("durability"),
			    "give ipcd a state directory on a local disk (--state)",
			    "%s is on %s (%s): messages that were answered for may "
			    "still be lost",
			    directory, kind, list_text(stats, "store.warning"));
	else if (strcmp(kind, "unknown") == 0)
		doctor_tell(doctor, LEVEL_NOTE, ABOUT("durability"),
			    "ext4, xfs, btrfs, f2fs and zfs are known to keep it",
			    "%s is on a file system that ipcd does not know, and whether "
			    "that keeps what was written is not known",
			    directory);
	else
		doctor_tell(doctor, LEVEL_OK, ABOUT("durability"), NULL,
			    "durable queues are kept in %s, on %s: a send is answered "
			    "when the message is on the disk",
			    directory, kind);
}

static void check_options(struct doctor *doctor, const struct ipc_record *stats)
{
	const char *options = ipc_record_get_string(stats, "store.options");

	if (!options)
		return;
	if (strstr(options, "journal_mode=wal") && strstr(options, "synchronous=full"))
		doctor_tell(doctor, LEVEL_OK, ABOUT("options"), NULL,
			    "SQLite says it writes with %s", options);
	else
		doctor_tell(doctor, LEVEL_PROBLEM, ABOUT("options"),
			    "move the state directory to a file system that can do both",
			    "SQLite says it writes with %s, not with journal_mode=wal "
			    "and synchronous=full",
			    options);
}

static void check_state(struct doctor *doctor, const struct ipc_record *stats)
{
	const char *state = list_text(stats, "store.state");
	const char *error = list_text(stats, "store.error");
	int64_t commits = ipc_record_get_integer(stats, "store.commits");
	double last = ipc_record_get_number(stats, "store.last_commit_us");
	double longest = ipc_record_get_number(stats, "store.longest_commit_us");

	if (strcmp(state, "full") == 0)
		doctor_tell(doctor, LEVEL_PROBLEM, ABOUT("store"),
			    "make room on that disk: ipcd goes on by itself",
			    "it can take no more messages (%s); those that are there "
			    "can be received",
			    error);
	else if (strcmp(state, "works") != 0)
		doctor_tell(doctor, LEVEL_PROBLEM, ABOUT("store"),
			    "see the disk and the kernel's log; ipcd tries again each "
			    "second",
			    "it cannot be written and is %s (%s): no messages are taken",
			    state, error);
	else
		doctor_tell(doctor, longest < COMMIT_SLOW_US ? LEVEL_OK : LEVEL_NOTE,
			    ABOUT("store"),
			    longest < COMMIT_SLOW_US ? NULL
						     : "see who else writes to that disk",
			    "it works: %lld commits, the last in %.1f ms, the longest in "
			    "%.1f ms",
			    (long long)commits, last / 1e3, longest / 1e3);
}

static void check_damage(struct doctor *doctor, const struct ipc_record *stats)
{
	const char *damage = ipc_record_get_string(stats, "store.damage");
	const char *aside = ipc_record_get_string(stats, "store.set_aside");

	if (damage)
		doctor_tell(doctor, LEVEL_WARNING, ABOUT("damage"),
			    "look for a failing disk; the next start of ipcd forgets "
			    "this",
			    "the store was damaged when ipcd started: %s%s%s", damage,
			    aside ? "; the damaged file is kept as " : "",
			    aside ? aside : "");
	else if (aside)
		doctor_tell(doctor, LEVEL_NOTE, ABOUT("damage"),
			    "remove it when nothing is to be looked for in it",
			    "a damaged file of an earlier start is kept as %s", aside);
}

static void check_space(struct doctor *doctor, const struct ipc_record *stats)
{
	int64_t left = ipc_record_get_integer(stats, "store.disk_free_bytes");
	int64_t held = ipc_record_get_integer(stats, "store.file_bytes") +
		       ipc_record_get_integer(stats, "store.log_bytes");
	char left_text[LIST_TEXT], held_text[LIST_TEXT];
	enum level level = LEVEL_OK;

	if (left < 0) {
		doctor_tell(doctor, LEVEL_PROBLEM, ABOUT("disk"),
			    "if it was moved put it back before ipcd starts anew, if it "
			    "was deleted make it again",
			    "the state directory %s is not where it was",
			    list_text(stats, "state"));
		return;
	}
	if (left < FREE_LITTLE)
		level = LEVEL_PROBLEM;
	else if (left < FREE_SCANTY || left < held)
		level = LEVEL_WARNING;
	doctor_tell(doctor, level, ABOUT("disk"),
		    level == LEVEL_OK
			    ? NULL
			    : "make room: without it sends fail with no-space, and a "
			      "damaged store cannot be written anew",
		    "%s are free on the disk of %s, where the store takes up %s",
		    list_format_size(left_text, left), list_text(stats, "state"),
		    list_format_size(held_text, held));
}

static void check_store(struct doctor *doctor, const struct ipc_record *stats)
{
	if (!ipc_record_get_string(stats, "store.state")) {
		doctor_tell(doctor, LEVEL_NOTE, ABOUT("durability"),
			    "if messages are to outlive it start ipcd without "
			    "--volatile",
			    "this daemon keeps all queues in memory, and what is in "
			    "them ends with it");
		return;
	}
	check_file_system(doctor, stats);
	check_options(doctor, stats);
	check_state(doctor, stats);
	check_damage(doctor, stats);
	check_space(doctor, stats);
}

/* ---- limits ---- */

static void check_usage(struct doctor *doctor, const struct ipc_record *stats)
{
	int64_t messages = ipc_record_get_integer(stats, "usage.messages");
	int64_t max = ipc_record_get_integer(stats, "limits.user_messages");
	int64_t bytes = ipc_record_get_integer(stats, "usage.bytes");
	int64_t max_bytes = ipc_record_get_integer(stats, "limits.user_bytes");
	char text[LIST_TEXT], max_text[LIST_TEXT];
	enum level level = doctor_judge(messages, max, bytes, max_bytes);

	if (messages < 0 || max < 0)
		return;
	doctor_tell(doctor, level, ABOUT("usage"),
		    level == LEVEL_OK ? NULL
				      : "have them received, or raise user_messages and "
					"user_bytes in ipcd.conf",
		    "%s has %lld of %lld messages and %s of %s in queues",
		    list_text(stats, "usage.user"), (long long)messages, (long long)max,
		    list_format_size(text, bytes), list_format_size(max_text, max_bytes));
}

static void check_file_usage(struct doctor *doctor, const struct ipc_record *stats)
{
	int64_t bytes = ipc_record_get_integer(stats, "usage.file_bytes");
	int64_t max = ipc_record_get_integer(stats, "limits.user_file_bytes");
	enum level level = max > 0 ? doctor_judge(0, 1, bytes, max) : LEVEL_OK;
	char text[LIST_TEXT], max_text[LIST_TEXT];

	if (level != LEVEL_OK)
		doctor_tell(doctor, level, ABOUT("usage"),
			    "have them received, or raise user_file_bytes in ipcd.conf",
			    "%s has files of %s in queues, of %s at most",
			    list_text(stats, "usage.user"), list_format_size(text, bytes),
			    list_format_size(max_text, max));
}

static void show_limits(struct doctor *doctor, const struct ipc_record *stats)
{
	char message[LIST_TEXT], bytes[LIST_TEXT], window[LIST_TEXT];

	if (ipc_record_get_integer(stats, "limits.file_max") < 0)
		return;
	list_format_size(message, ipc_record_get_integer(stats, "limits.file_max"));
	list_format_size(bytes, ipc_record_get_integer(stats, "limits.queue_bytes"));
	list_format_time(window, ipc_record_get_integer(stats, "limits.dedup_window"));
	doctor_tell(doctor, LEVEL_OK, ABOUT("limits"), NULL,
		    "a message has at most %s, a queue without settings of its own "
		    "%lld messages and %s; a dedup id is known for %s",
		    message,
		    (long long)ipc_record_get_integer(stats, "limits.queue_messages"),
		    bytes, window);
}

/* ---- the verb ---- */

static int check_all(struct doctor *doctor)
{
	_cleanup_list_ struct ipc_list *list = NULL;
	const struct ipc_record *stats;
	int r = ipc_list_open(doctor->client, IPC_LIST_STATS, NULL, &list);

	if (r < 0)
		return cli_fail_ipc(doctor->cli, NULL, doctor->client, r);
	stats = ipc_list_next(list);
	if (!stats)
		return cli_fail(doctor->cli, NULL, "the daemon says nothing of itself");
	check_daemon(doctor, stats);
	check_store(doctor, stats);
	check_usage(doctor, stats);
	check_file_usage(doctor, stats);
	doctor->keeps = ipc_record_get_string(stats, "store.state") != NULL;
	r = doctor_check_queues(doctor);
	if (r != STATUS_OK)
		return r;
	show_limits(doctor, stats);
	return doctor->worst > LEVEL_NOTE ? STATUS_REFUSED : STATUS_OK;
}

static int run(struct cli *cli, int argc, char **argv)
{
	_cleanup_client_ struct ipc_client *client = NULL;
	struct doctor doctor = { .cli = cli };
	int r = cli_parse_plain(cli, argc, argv, 0, 0);

	if (r < 0)
		return cli_getopt_status(r);
	r = cli_connect(cli, &client);
	if (r != STATUS_OK) {
		doctor_tell(&doctor, LEVEL_PROBLEM, ABOUT("daemon"),
			    "the error says why; where none runs start ipcd, or say "
			    "which one with --socket, --user or --system",
			    "none could be asked");
		return r;
	}
	doctor.client = client;
	return check_all(&doctor);
}

const struct command cmd_doctor = {
	.name = "doctor",
	.arguments = "",
	.summary = "what is wrong, or soon will be, and what helps",
	.help = "Examines the daemon: whether what is sent really is on the disk, whether\n"
		"there is room, and which queues are nearly full, have dead messages or\n"
		"nobody to receive. Each line is ok, a note, a warning or a problem.\n"
		"Exits with 0 if nothing is worse than a note, else with 2. Starts no daemon.\n",
	.run = run,
};
