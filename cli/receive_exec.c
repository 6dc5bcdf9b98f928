/* SPDX-License-Identifier: MIT */

/*
 * ipc receive --exec: a command for each message, several at the same time with -j.
 *
 * One loop waits for the daemon and for signals (signalfd(2)). The first SIGINT, SIGTERM or
 * SIGHUP ends the taking of messages, and what runs may finish; the second ends the commands
 * with SIGTERM, each further one with SIGKILL, and their messages go back uncounted. Where
 * more than one message is taken each command has a process group of its own: so Ctrl-C
 * comes here and not to the commands, and what they have started ends with them. A single
 * command stays in our group, where it may use the terminal.
 */

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include "exec_file.h"
#include "out.h"
#include "receive.h"
#include "spawn.h"

struct job {
	pid_t pid; /* 0: this place is free */
	struct ipc_message *message;
	struct exec_file file;
};

struct executor {
	struct receive *rx;
	struct spawn spawn;
	struct job *jobs; /* rx->window of them */
	unsigned int n_running;
	int signal_fd;
	unsigned int n_stops; /* signals that asked us to end */
	bool taking;	      /* messages are still wanted */
	bool lost;	      /* nothing more is heard from the daemon */
	int status;	      /* of the first failure */
};

static void fail(struct executor *x, int status)
{
	if (x->status == STATUS_OK)
		x->status = status;
	x->taking = false;
}

/* ---- the end of a command ---- */

/* Why it failed, as "exit status 1", or "signal KILL". */
static void describe(char *text, size_t size, int wait_status)
{
	const char *name;

	if (WIFEXITED(wait_status)) {
		snprintf(text, size, "exit status %d", WEXITSTATUS(wait_status));
		return;
	}
	name = sigabbrev_np(WTERMSIG(wait_status));
	if (name)
		snprintf(text, size, "signal %s", name);
	else
		snprintf(text, size, "signal %d", WTERMSIG(wait_status));
}

/* Our standard output is that of the commands, and who read it is gone: as `| head` will. */
static bool nobody_reads(void)
{
	struct pollfd p = { .fd = STDOUT_FILENO };

	return poll(&p, 1, 0) == 1 && p.revents & (POLLERR | POLLHUP);
}

static void settle_failed(struct executor *x, const struct ipc_message *message,
			  int wait_status)
{
	struct receive *rx = x->rx;
	unsigned long long number = ipc_message_get_number(message);
	char why[40];

	if (x->status == STATUS_OK)
		x->status = STATUS_LOCAL;
	if (x->n_stops > 1) {
		receive_give_back(rx, message, 0, "the receiver was stopped");
		return;
	}
	if (nobody_reads()) {
		x->taking = false;
		receive_give_back(rx, message, 0, "nobody reads the command's output");
		return;
	}
	describe(why, sizeof(why), wait_status);
	cli_say(rx->cli, rx->subject, "message %llu: %s of %s", number, why, rx->exec[0]);
	if (ipc_nack(rx->client, message, -1, why) < 0)
		cli_say(rx->cli, rx->subject, "message %llu: %s", number,
			ipc_client_get_error(rx->client));
}

static void settle(struct executor *x, const struct ipc_message *message, int wait_status)
{
	const struct receive *rx = x->rx;
	int r;

	if (wait_status != 0) {
		settle_failed(x, message, wait_status);
		return;
	}
	r = ipc_settle(rx->client, IPC_VERDICT_ACK, ipc_message_get_number(message),
		       ipc_message_get_lease(message), -1, false, NULL);
	if (r == 0)
		return;
	cli_say(rx->cli, rx->subject, "message %llu is done, but not acknowledged: %s",
		(unsigned long long)ipc_message_get_number(message),
		ipc_client_get_error(rx->client));
	if (x->status == STATUS_OK)
		x->status = cli_status(r, true);
}

static void reap(struct executor *x)
{
	for (unsigned int i = 0; i < x->rx->window; i++) {
		struct job *job = &x->jobs[i];
		int wait_status;

		if (!job->pid || waitpid(job->pid, &wait_status, WNOHANG) <= 0)
			continue;
		settle(x, job->message, wait_status);
		job->message = ipc_message_free(job->message);
		exec_file_remove(&job->file);
		job->pid = 0;
		x->n_running--;
	}
}

/* ---- the start of a command ---- */

/* The message's file is written before the command runs, and meanwhile nothing else is done:
 * it is a copy on this machine, mostly without moving a byte. */
static int make_ready(struct job *job)
{
	if (ipc_message_is_live(job->message))
		return 0;
	return ipc_message_get_filename(job->message)
		       ? exec_file_make(&job->file, job->message)
		       : ipc_message_verify(job->message);
}

static void give_back(struct executor *x, const struct ipc_message *message)
{
	fail(x, STATUS_LOCAL);
	receive_give_back(x->rx, message, 0, "the receiver could not run its command");
}

static void not_ready(struct executor *x, const struct ipc_message *message, int error)
{
	struct receive *rx = x->rx;
	unsigned long long number = ipc_message_get_number(message);

	if (error == -EBADMSG) { /* nobody else can use it, either */
		cli_say(rx->cli, rx->subject, "message %llu: " RECEIVE_DIFFERS, number);
		if (receive_reject(rx, message, RECEIVE_DIFFERS) == STATUS_OK)
			return;
	} else if (ipc_message_get_filename(message)) {
		cli_say(rx->cli, rx->subject, "message %llu cannot be saved in %s: %s",
			number, exec_file_place(), strerror(-error));
	} else {
		cli_say(rx->cli, rx->subject, "message %llu cannot be read: %s", number,
			strerror(-error));
	}
	give_back(x, message);
}

static int run_command(struct executor *x, struct job *job)
{
	int r = spawn_command(&x->spawn, job->message, job->file.path, &job->pid);

	if (r == 0)
		return 0;
	cli_say(x->rx->cli, x->rx->subject, "cannot run %s: %s", x->rx->exec[0],
		strerror(-r));
	give_back(x, job->message);
	return r;
}

static void start(struct executor *x, struct ipc_message *message)
{
	struct job *job = x->jobs;
	int r;

	while (job->pid)
		job++;
	*job = (struct job){ .message = message };
	r = make_ready(job);
	if (r < 0)
		not_ready(x, message, r);
	else
		r = run_command(x, job);
	if (r == 0) {
		x->n_running++;
		return;
	}
	exec_file_remove(&job->file);
	ipc_message_free(message);
	*job = (struct job){ 0 };
}

static void take(struct executor *x)
{
	while (x->taking && x->n_running < x->rx->window) {
		struct ipc_message *message;
		bool ended;
		int status = receive_next(x->rx, &message, &ended);

		if (status != STATUS_OK) {
			x->lost = true;
			fail(x, status);
		} else if (message) {
			start(x, message);
		} else if (ended) {
			x->taking = false;
		} else {
			break;
		}
	}
}

/* ---- signals ---- */

static void kill_all(const struct executor *x, int signal)
{
	for (unsigned int i = 0; i < x->rx->window; i++)
		if (x->jobs[i].pid)
			kill(x->spawn.own_group ? -x->jobs[i].pid : x->jobs[i].pid,
			     signal);
}

static void stop(struct executor *x)
{
	struct receive *rx = x->rx;

	if (++x->n_stops > 1) {
		kill_all(x, x->n_stops > 2 ? SIGKILL : SIGTERM);
		return;
	}
	x->taking = false;
	if (x->n_running > 0 && !rx->cli->quiet)
		cli_say(rx->cli, rx->subject, "stopping when %u running command%s ended",
			x->n_running, x->n_running == 1 ? " has" : "s have");
	/* What came and was not started goes back at once. */
	rx->receiver = ipc_receiver_free(rx->receiver);
}

static void read_signals(struct executor *x)
{
	struct signalfd_siginfo info;

	while (read(x->signal_fd, &info, sizeof(info)) == sizeof(info))
		if (info.ssi_signo != SIGCHLD)
			stop(x);
	reap(x);
}

/* Signals that our starter had us ignore (nohup, a shell's &) stay ignored. */
static int watch_signals(struct executor *x)
{
	static const int stops[] = { SIGINT, SIGTERM, SIGHUP };
	struct sigaction action;
	sigset_t watched;

	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&watched);
	sigaddset(&watched, SIGCHLD);
	for (size_t i = 0; i < ARRAY_SIZE(stops); i++)
		if (sigaction(stops[i], NULL, &action) == 0 &&
		    action.sa_handler != SIG_IGN)
			sigaddset(&watched, stops[i]);
	sigprocmask(SIG_BLOCK, &watched, &x->spawn.mask);
	x->signal_fd = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
	return x->signal_fd < 0 ? -errno : 0;
}

/* ---- the loop ---- */

static void process_client(struct executor *x)
{
	const struct receive *rx = x->rx;
	int r = ipc_client_process(rx->client);

	if (r >= 0)
		return;
	x->lost = true;
	fail(x, cli_fail_ipc(rx->cli, rx->subject, rx->client, r));
}

static void wait_for_more(struct executor *x)
{
	const struct receive *rx = x->rx;
	struct pollfd fds[] = {
		{ .fd = x->signal_fd, .events = POLLIN },
		{ .fd = x->lost ? -1 : ipc_client_get_fd(rx->client),
		  .events = (short)ipc_client_get_events(rx->client) },
	};

	if (poll(fds, 2, x->lost ? -1 : ipc_client_get_timeout(rx->client)) < 0)
		return; /* interrupted: look again */
	if (fds[0].revents)
		read_signals(x);
	if (!x->lost)
		process_client(x);
}

static void execute_all(struct executor *x)
{
	for (;;) {
		take(x);
		if (!x->taking && x->n_running == 0)
			break;
		wait_for_more(x);
	}
}

int receive_exec(struct receive *rx)
{
	struct executor x = {
		.rx = rx,
		.spawn = { .command = rx->exec,
			   .socket = ipc_client_get_socket(rx->client),
			   .own_group = rx->count != 1 },
		.taking = true,
	};

	x.jobs = calloc(rx->window, sizeof(struct job));
	if (!x.jobs)
		return cli_fail(rx->cli, rx->subject, "no memory");
	if (watch_signals(&x) < 0)
		x.status = cli_fail(rx->cli, rx->subject, "no signalfd: %s",
				    strerror(errno));
	else
		execute_all(&x);
	if (x.signal_fd >= 0)
		close(x.signal_fd);
	free(x.jobs);
	if (x.status == STATUS_OK && x.n_stops > 0 && rx->taken < rx->count)
		return cli_fail(rx->cli, rx->subject,
				"stopped by a signal when %llu of %llu messages had come",
				(unsigned long long)rx->taken,
				(unsigned long long)rx->count);
	return x.status == STATUS_OK ? receive_status(rx) : x.status;
}
