/* SPDX-License-Identifier: MIT */

/* ipcd: options, then the server. */

#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/utf8.h"
#include "config.h"
#include "log.h"
#include "server.h"
#include "state.h"

#define SYSTEM_SOCKET "/run/ipcd/socket"
#define SYSTEM_STATE "/var/lib/ipcd"

enum { EXIT_USAGE = 1, ANSWERED = 2 };

static const char help[] =
	"Usage: ipcd [OPTION]...\n"
	"Hand messages from process to process through queues, on a Unix socket.\n"
	"Stays in the foreground and logs to standard error.\n"
	"\n"
	"  --socket PATH       where to listen; default: the system's " SYSTEM_SOCKET "\n"
	"                      for root, else $XDG_RUNTIME_DIR/ipcd/socket\n"
	"  --system            names belong to their creators (default for root)\n"
	"  --user              everything belongs to the user of the daemon\n"
	"  --state DIR         what outlives the daemon lies here; default: the system's\n"
	"                      " SYSTEM_STATE ", else ~/.local/state/ipcd\n"
	"  --volatile          keep nothing: messages end with the daemon\n"
	"  --config FILE       read this configuration; default: /etc/ipcd/ipcd.conf, with\n"
	"                      --user ~/.config/ipcd/ipcd.conf, if it is there\n"
	"  --check-config      say whether the configuration is right, and exit\n"
	"  --dump-config       show the whole configuration with its meaning, and exit\n"
	"  --limit KEY=VALUE   change a limit; may be repeated; goes before the file's\n"
	"  --limits            show all limits with their meaning, and exit\n"
	"  --log-level LEVEL   error, warning, notice, info (default) or debug;\n"
	"                      SIGUSR1 and SIGUSR2 raise and lower it while ipcd runs\n"
	"  --ready-fd N        write READY to descriptor N when the socket listens\n"
	"  --version           show the version, and exit\n"
	"  --help              show this, and exit\n"
	"\n"
	"SIGHUP reads the configuration anew. SIGTERM and SIGINT stop ipcd in order.\n"
	"See ipcd(8), ipcd.conf(5), ipc(1), ipc-protocol(7).\n";

static const char version[] = "ipcd " IPCD_VERSION "\n";

enum action { SERVE, CHECK_CONFIG, DUMP_CONFIG };

struct options {
	struct server_config config;
	struct config file;
	char *socket, *state, *config_file; /* malloc'ed defaults */
	bool mode_said, is_volatile;
	enum action action;
};

/* One line, which cannot drive the terminal whatever the arguments and files say; in the
 * journal it is an error as what the log says is. Returns EXIT_USAGE. */
static int complain(const char *format, ...) PRINTF_LIKE(1, 2);
static int complain(const char *format, ...)
{
	_cleanup_buf_ struct buf line = BUF_INIT;
	_cleanup_free_ char *text = NULL;
	va_list args;
	int n;

	va_start(args, format);
	n = vasprintf(&text, format, args);
	va_end(args);
	if (n < 0)
		text = NULL;
	if (!text || utf8_append_escaped(&line, text, (size_t)n) < 0)
		fputs("ipcd: no memory\n", stderr);
	else
		fprintf(stderr, "%sipcd: %.*s\n", getenv("JOURNAL_STREAM") ? "<3>" : "",
			(int)line.size, line.data);
	return EXIT_USAGE;
}

static int no_memory(void)
{
	return complain("no memory");
}

/* All that ipcd is asked for it prints at once, so that no error goes unseen. */
static int answer(const char *data, size_t size)
{
	if (fwrite(data, 1, size, stdout) == size && fflush(stdout) == 0)
		return ANSWERED;
	return complain("cannot write: %s", strerror(errno));
}

static int print_limits(const struct limits *limits)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	int r = 0;

	for (size_t i = 0; r == 0 && i < limits_table_size; i++) {
		const struct limit_info *info = &limits_table[i];
		uint64_t value = info->value;
		bool fixed = info->offset == SIZE_MAX;

		if (!fixed)
			memcpy(&value, (const char *)limits + info->offset,
			       sizeof(value));
		r = buf_printf(&out, "%-26s %16llu %-12s %s%s\n", info->key,
			       (unsigned long long)value, info->unit, info->what,
			       fixed ? " (fixed)" : "");
	}
	return r < 0 ? no_memory() : answer(out.data, out.size);
}

/* Checked now, applied when the file has been read. */
static int set_limit(struct options *o, char *assignment)
{
	const struct limit_info *info = NULL;
	struct limits scratch = limits_default;
	int r = limits_set(&scratch, assignment, &info);
	char **grown = realloc(o->config.limit_arguments,
			       (o->config.n_limit_arguments + 1) * sizeof(*grown));

	if (!grown)
		return no_memory();
	o->config.limit_arguments = grown;
	grown[o->config.n_limit_arguments++] = assignment;

	if (r == 0)
		return 0;
	if (r == -ERANGE)
		return complain("--limit %s: must be from %llu to %llu %s", assignment,
				(unsigned long long)info->min,
				(unsigned long long)info->max, info->unit);
	if (r == -ENOENT)
		return complain("--limit %s: no such limit can be set; see ipcd --limits",
				assignment);
	return complain("--limit %s: expected KEY=NUMBER", assignment);
}

static int set_ready_fd(struct options *o, const char *text)
{
	uint64_t fd;

	if (!parse_u64(text, INT_MAX, &fd))
		return complain("--ready-fd %s: expected a descriptor's number", text);
	if (fd == STDERR_FILENO)
		return complain("--ready-fd %s: the log goes there", text);
	if (fcntl((int)fd, F_GETFD) < 0)
		return complain("--ready-fd %s: %s", text, strerror(errno));
	o->config.ready_fd = (int)fd;
	return 0;
}

static int set_level(const char *text)
{
	enum log_level level;

	if (!log_level_parse(text, &level))
		return complain(
			"--log-level %s: expected error, warning, notice, info or debug",
			text);
	log_set_level(level);
	return 0;
}

static int set_mode(struct options *o, bool system)
{
	if (o->mode_said && o->config.system_mode != system)
		return complain("--system and --user do not go together");
	o->config.system_mode = system;
	o->mode_said = true;
	return 0;
}

static int set_option(struct options *o, int option, char *value)
{
	switch (option) {
	case 's':
		o->config.socket = value;
		return 0;
	case 'S':
	case 'u':
		return set_mode(o, option == 'S');
	case 'd':
		o->config.state = value;
		return 0;
	case 'x':
		o->is_volatile = true;
		return 0;
	case 'l':
		return set_limit(o, value);
	case 'c':
		o->config.config_file = value;
		o->config.config_must_exist = true;
		return 0;
	case 'C':
	case 'D':
		o->action = option == 'C' ? CHECK_CONFIG : DUMP_CONFIG;
		return 0;
	case 'L':
		return print_limits(&limits_default);
	case 'v':
		o->config.level_said = true;
		return set_level(value);
	case 'r':
		return set_ready_fd(o, value);
	case 'V':
		return answer(version, strlen(version));
	case 'h':
		return answer(help, strlen(help));
	default:
		return EXIT_USAGE;
	}
}

static int option_error(int c, const char *text)
{
	int length = (int)strcspn(text, "=");

	if (c == ':')
		return complain("option '%s' needs a value; see ipcd --help", text);
	if (optopt && text[1] == '-')
		return complain("option '%.*s' takes no value; see ipcd --help", length,
				text);
	return complain("unknown or ambiguous option '%.*s'; see ipcd --help", length,
			text);
}

static int parse_options(struct options *o, int argc, char **argv)
{
	static const struct option table[] = {
		{ "socket", required_argument, NULL, 's' },
		{ "system", no_argument, NULL, 'S' },
		{ "user", no_argument, NULL, 'u' },
		{ "state", required_argument, NULL, 'd' },
		{ "volatile", no_argument, NULL, 'x' },
		{ "config", required_argument, NULL, 'c' },
		{ "check-config", no_argument, NULL, 'C' },
		{ "dump-config", no_argument, NULL, 'D' },
		{ "limit", required_argument, NULL, 'l' },
		{ "limits", no_argument, NULL, 'L' },
		{ "log-level", required_argument, NULL, 'v' },
		{ "ready-fd", required_argument, NULL, 'r' },
		{ "version", no_argument, NULL, 'V' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	int option, index = 0, r = 0;

	opterr = 0; /* it would print arguments as they are */
	while (r == 0 && optind < argc) {
		const char *text = argv[optind];

		option = getopt_long(argc, argv, "+:", table, &index);
		if (option == -1)
			break;
		if (option != '?' && optarg && !*optarg)
			return complain("--%s must not be empty", table[index].name);
		r = option == '?' || option == ':' ? option_error(option, text)
						   : set_option(o, option, optarg);
	}
	if (r == 0 && optind < argc)
		return complain("unexpected argument \"%s\"; see ipcd --help",
				argv[optind]);
	return r;
}

/* ---- the configuration ---- */

static int find_config_file(struct options *o)
{
	const char *home = getenv("XDG_CONFIG_HOME");
	bool user = o->mode_said ? !o->config.system_mode : geteuid() != 0;
	int r;

	if (o->config.config_file)
		return 0;
	if (!user)
		r = asprintf(&o->config_file, "/etc/ipcd/ipcd.conf");
	else if (home && home[0] == '/')
		r = asprintf(&o->config_file, "%s/ipcd/ipcd.conf", home);
	else
		r = asprintf(&o->config_file, "%s/.config/ipcd/ipcd.conf",
			     getenv("HOME") ? getenv("HOME") : "/nonexistent");
	if (r < 0) {
		o->config_file = NULL;
		return no_memory();
	}
	o->config.config_file = o->config_file;
	return 0;
}

/* The command line goes before the file, the file before the defaults. */
static void merge(struct options *o)
{
	const struct limit_info *info;

	for (size_t i = 0; i < o->config.n_limit_arguments; i++)
		(void)!limits_set(&o->file.limits, o->config.limit_arguments[i], &info);
	o->config.limits = o->file.limits;
	o->config.socket_said = o->config.socket != NULL;
	o->config.state_said = o->config.state || o->is_volatile;
	if (!o->config.socket)
		o->config.socket = o->file.socket;
	if (!o->config.state_said)
		o->config.state = o->file.state;
	if (!o->mode_said)
		o->config.system_mode = o->file.has_mode ? o->file.system_mode
							 : geteuid() == 0;
	if (!o->config.level_said && o->file.has_level)
		log_set_level(o->file.level);
}

static int read_config(struct options *o)
{
	_cleanup_buf_ struct buf errors = BUF_INIT;
	int r = find_config_file(o);

	if (r)
		return r;
	r = config_load(&o->file, o->config.config_file, o->config.config_must_exist,
			&errors);
	if (r < 0 && errors.size) /* but for the newline at its end */
		return complain("%.*s", (int)errors.size - 1, errors.data);
	if (r < 0)
		return complain("%s", strerror(-r));
	merge(o);
	return 0;
}

static int dump_config(const struct options *o)
{
	_cleanup_buf_ struct buf out = BUF_INIT;

	if (config_dump(&o->file, &out) < 0)
		return no_memory();
	return answer(out.data, out.size);
}

static int say_checked(const struct options *o)
{
	_cleanup_buf_ struct buf out = BUF_INIT;
	const char *file = o->config.config_file;
	int r = utf8_append_escaped(&out, file, strlen(file));

	if (r == 0 && o->file.n_files)
		r = buf_printf(&out, ": %zu rules, no mistake found\n", o->file.rules.n);
	else if (r == 0)
		r = buf_append_string(&out, " is not there: the defaults hold\n");
	if (r < 0)
		return no_memory();
	return answer(out.data, out.size);
}

static int act(struct options *o)
{
	int r = read_config(o);

	if (r || o->action == SERVE)
		return r;
	if (o->action == DUMP_CONFIG)
		return dump_config(o);
	return say_checked(o);
}

/* The directory of the user's socket, made if it is not there. */
static int default_socket(struct options *o)
{
	const char *runtime = getenv("XDG_RUNTIME_DIR");
	mode_t before;
	char *slash;
	int r;

	if (o->config.system_mode) {
		o->socket = strdup(SYSTEM_SOCKET);
	} else if (!runtime || runtime[0] != '/') {
		return complain(
			"$XDG_RUNTIME_DIR is not set: say where to listen with --socket");
	} else if (asprintf(&o->socket, "%s/ipcd/socket", runtime) < 0) {
		o->socket = NULL;
	}
	if (!o->socket)
		return no_memory();
	slash = strrchr(o->socket, '/');
	*slash = '\0';
	before = umask(0);
	r = mkdir(o->socket, o->config.system_mode ? 0755 : 0700);
	umask(before);
	if (r < 0 && errno != EEXIST)
		return complain("cannot make %s: %s", o->socket, strerror(errno));
	*slash = '/';
	o->config.socket = o->socket;
	return 0;
}

/* The service manager's sockets, else the one configured, else the default. */
static int choose_socket(struct options *o)
{
	struct activation *passed = &o->config.activation;

	if (activation_take(passed) < 0)
		return EXIT_USAGE;
	if (passed->n)
		o->config.socket = activation_choose(passed, o->config.socket);
	else if (!o->config.socket)
		return default_socket(o);
	return 0;
}

/* The directory of the user's state, made if it is not there. */
static int default_state(struct options *o)
{
	const char *home = getenv("HOME"), *base = getenv("XDG_STATE_HOME");
	int r;

	if (o->config.system_mode) {
		o->state = strdup(SYSTEM_STATE);
	} else if (base && base[0] == '/') {
		r = asprintf(&o->state, "%s/ipcd", base);
		o->state = r < 0 ? NULL : o->state;
	} else if (!home || home[0] != '/') {
		return complain("$HOME is not set: say where to keep messages with "
				"--state, or --volatile to keep none");
	} else {
		r = asprintf(&o->state, "%s/.local/state/ipcd", home);
		o->state = r < 0 ? NULL : o->state;
	}
	if (!o->state)
		return no_memory();
	for (char *slash = strchr(o->state + 1, '/'); slash;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)!mkdir(o->state, 0700); /* what fails here fails below */
		*slash = '/';
	}
	o->config.state = o->state;
	return 0;
}

static int choose_state(struct options *o)
{
	if (o->is_volatile && o->config.state)
		return complain("--volatile keeps nothing, so it does not go with a "
				"state directory");
	return o->is_volatile || o->config.state ? 0 : default_state(o);
}

/* Each connection is one descriptor. */
static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static int serve(struct server_config *config)
{
	_cleanup_fd_ int state_fd = -1;
	struct server *server = NULL;
	int r = 0;

	if (config->state)
		r = state_lock(config->state, config->socket, &state_fd);
	config->state_lock_fd = state_fd;
	if (r == 0)
		r = server_new(&server, config);
	if (r < 0) {
		log_error("cannot start: %s (%s)", strerror(-r), err_trail());
		return EXIT_FAILURE;
	}
	r = server_run(server);
	if (r < 0)
		log_error("the loop failed: %s (%s)", strerror(-r), err_trail());
	server_free(server);
	log_notice("stopped");
	return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/* So that no socket and no file takes the place of a standard stream that was closed, to have
 * the log written into it. What is opened here instead cannot be written to. */
static void fill_standard_streams(void)
{
	int fd;

	do
		fd = open("/dev/null", O_RDONLY);
	while (fd >= 0 && fd <= STDERR_FILENO);
	fd_close(fd);
}

int main(int argc, char **argv)
{
	struct options o = { .config = { .ready_fd = -1 } };
	int r;

	fill_standard_streams();
	umask(077); /* whatever it was, the next start can open what this one makes */
	config_init(&o.file);
	r = parse_options(&o, argc, argv);
	if (r == 0)
		r = act(&o);
	if (r == 0)
		r = choose_socket(&o);
	if (r == 0)
		r = choose_state(&o);
	if (r == 0) {
		raise_descriptor_limit();
		o.config.rules = o.file.rules;
		o.file.rules = (struct rules){ NULL, 0 };
		r = serve(&o.config);
		rules_deinit(&o.config.rules); /* if it did not come to that */
	} else {
		r = r == ANSWERED ? EXIT_SUCCESS : EXIT_FAILURE;
	}
	activation_deinit(&o.config.activation);
	config_deinit(&o.file);
	free(o.config.limit_arguments);
	free(o.config_file);
	free(o.state);
	free(o.socket);
	return r;
}
