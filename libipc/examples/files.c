/* SPDX-License-Identifier: MIT */

/*
 * files send QUEUE FILE...: each file is a message, with its name, mode and time.
 * files receive QUEUE DIRECTORY: saves all that are in the queue, without replacing any, and
 * prints their names.
 *
 * A message is acknowledged when its file is on the disk. One that cannot be saved goes back
 * into the queue, and one that is not as it was sent is set aside there, as dead.
 */

#include <ipc/ipc.h>

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int show_progress(uint64_t done, uint64_t total, void *userdata)
{
	if (total && total != UINT64_MAX)
		fprintf(stderr, "%s: %d%%\n", (const char *)userdata,
			(int)((double)done * 100 / (double)total));
	return 0;
}

/* ---- sending ---- */

static int send_fd(struct ipc_client *client, const char *queue, int fd, char *path)
{
	const char *slash = strrchr(path, '/');
	struct ipc_message *message;
	int r = ipc_message_new(&message);

	if (r < 0)
		return r;
	ipc_message_set_progress(message, show_progress, path);
	r = ipc_message_set_file(message, fd, slash ? slash + 1 : path, 0);
	if (r < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(-r));
	} else {
		r = ipc_send_message(client, queue, message, 0, 0, NULL);
		if (r < 0)
			fprintf(stderr, "%s: %s\n", path, ipc_client_get_error(client));
	}
	ipc_message_free(message);
	return r;
}

static int send_files(struct ipc_client *client, const char *queue, char *paths[])
{
	int failed = 0;

	for (; *paths; paths++) {
		int fd = open(*paths, O_RDONLY | O_CLOEXEC);

		if (fd < 0) {
			perror(*paths);
			failed = -1;
			continue;
		}
		if (send_fd(client, queue, fd, *paths) < 0)
			failed = -1;
		close(fd);
	}
	return failed;
}

/* ---- receiving ---- */

static int settle(struct ipc_client *client, const struct ipc_message *message, int saved)
{
	if (!saved)
		return ipc_ack(client, message);
	if (saved == -EBADMSG)
		return ipc_reject(client, message, "not as it was sent");
	return ipc_nack(client, message, -1, strerror(-saved));
}

/* Others have given it: no name may drive a terminal. */
static void print_name(const char *name)
{
	for (; *name; name++)
		putchar(iscntrl((unsigned char)*name) ? '?' : *name);
	putchar('\n');
}

/* 0, also if it could not be saved but that was told; or the client's error. */
static int save(struct ipc_client *client, struct ipc_message *message, int directory)
{
	const char *given = ipc_message_get_filename(message);
	char *name = NULL;
	int saved = ipc_message_save(message, directory, given ? given : "message",
				     IPC_SAVE_RENAME, &name);

	if (!saved)
		print_name(name);
	else
		fprintf(stderr, "message %llu is not saved: %s\n",
			(unsigned long long)ipc_message_get_number(message),
			strerror(-saved));
	free(name);
	return settle(client, message, saved);
}

static int save_all(struct ipc_client *client, struct ipc_receiver *receiver,
		    int directory)
{
	struct ipc_message *message;
	int r;

	while ((r = ipc_receiver_next(receiver, IPC_FOREVER, &message)) > 0) {
		r = save(client, message, directory);
		ipc_message_free(message);
		if (r < 0)
			break;
	}
	return r;
}

static int receive_files(struct ipc_client *client, const char *queue, const char *path)
{
	struct ipc_receiver *receiver = NULL;
	int directory = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

	if (directory < 0) {
		perror(path);
		return -1;
	}
	r = ipc_receiver_new(client, &receiver);
	if (!r)
		r = ipc_receiver_add_queue(receiver, queue);
	if (!r)
		r = ipc_receiver_set_wait(receiver, 0);
	if (!r)
		r = save_all(client, receiver, directory);
	if (r < 0)
		fprintf(stderr, "%s\n", ipc_client_get_error(client));
	ipc_receiver_free(receiver);
	close(directory);
	return r;
}

int main(int argc, char *argv[])
{
	bool sends = argc >= 4 && !strcmp(argv[1], "send");
	struct ipc_client *client;
	int r;

	if (!sends && (argc != 4 || strcmp(argv[1], "receive") != 0)) {
		fprintf(stderr, "usage: files send QUEUE FILE...\n"
				"       files receive QUEUE DIRECTORY\n");
		return 1;
	}
	r = ipc_client_open(NULL, 0, &client);
	if (r < 0)
		fprintf(stderr, "%s\n", ipc_client_get_error(client));
	else if (sends)
		r = send_files(client, argv[2], argv + 3);
	else
		r = receive_files(client, argv[2], argv[3]);
	ipc_client_close(client);
	return r < 0;
}
