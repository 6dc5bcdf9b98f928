/* SPDX-License-Identifier: MIT */
#ifndef CLIENT_FILE_H
#define CLIENT_FILE_H

/*
 * What a message has besides when its body is, or was, a file. Most have nothing of this, so
 * it is a block of its own.
 *
 *	file.c          what the program sets and asks
 *	file_decode.c   what a delivery says
 *	payload.c       in which way a body goes: bytes, a descriptor, pieces
 *	send_stream.c   the pieces
 *	copy.c  save.c  from a message into a file
 */

#include <sys/stat.h>

#include "client/client_internal.h"
#include "wire/digest.h"

enum {
	FILE_NAME_MAX = 255,   /* bytes of a filename */
	FILE_MODE_MASK = 0777, /* what is kept of a file's mode */
	FILE_READ_MAX = 65536, /* files up to this go as bytes */
	FILE_BUFFER = 262144,  /* bytes read at once */
	FILE_COPY_MAX =
		16777216, /* bytes copied at once: between two looks at progress */
};

#define FILE_SIZE_UNKNOWN UINT64_MAX

enum file_source {
	FILE_IN_MEMORY, /* body and body_size of the message */
	FILE_IN_FD,
	FILE_IN_READER,
};

struct message_file {
	enum file_source source;
	int fd;		  /* -1: stolen, or never came */
	bool fd_is_owned; /* it was received */
	bool live, archive, has_mtime;
	unsigned int flags; /* IPC_FILE_*, of one to be sent */
	ipc_read_fn reader;
	void *userdata;

	/* of one that was received; of one to be sent the file itself is asked */
	uint64_t size; /* or FILE_SIZE_UNKNOWN */
	int mode;      /* or -1 */
	struct timespec mtime;
	char digests[DIGEST_N][DIGEST_HEX_MAX + 1]; /* lower case; empty: none */

	void *map;		      /* of fd, by ipc_message_get_body(); NULL: none */
	char name[FILE_NAME_MAX + 1]; /* empty: none */
};

struct message_file *message_file_new(void);
struct message_file *message_file_free(struct message_file *file);
DEFINE_CLEANUP(struct message_file *, message_file_free);
#define _cleanup_message_file_ CLEANUP(message_file_freep)

/* 1 to 255 bytes of UTF-8, no '/' or NUL, neither "." nor "..". */
bool filename_is_valid(const char *name, size_t size);

/* What a delivery says of a file. 0 with *ret_file NULL where it says nothing; -ENOMEM; -EINVAL
 * with *fault saying why. The descriptor is the caller's business. */
int message_file_decode(const struct frame *frame, struct message_file **ret_file,
			struct fault *fault) MUST_CHECK;

/* The body was received and is a descriptor, or was. */
static inline bool message_has_fd(const struct ipc_message *message)
{
	return message->file && message->file->source == FILE_IN_FD;
}

static inline bool message_is_live(const struct ipc_message *message)
{
	return message->file && message->file->live;
}

/* ---- sending (payload.c) ---- */

/* How a body goes. */
struct payload {
	const struct ipc_message *message;
	bool may_block;
	enum {
		PAYLOAD_BYTES,
		PAYLOAD_FD,
		PAYLOAD_STREAM,
	} kind;
	const char *data; /* PAYLOAD_BYTES */
	size_t size;
	char *own_data;
	struct fdset *fds; /* PAYLOAD_FD */
	bool once;	   /* PAYLOAD_STREAM: it cannot be read again */

	/* PAYLOAD_STREAM */
	ipc_read_fn read;
	void *userdata;
	int fd;		 /* to be watched for input, or -1 */
	uint64_t offset; /* of what is read by pread(2), or in memory */

	/* what is known of the file */
	uint64_t file_size;
	int mode;
	bool has_mtime;
	struct timespec mtime;
};

/* may_block: the caller can send pieces and waits for the answer. 0, or -errno with the
 * client's error set. */
int payload_prepare(struct ipc_client *client, const struct ipc_message *message,
		    bool may_block, struct payload *ret_payload) MUST_CHECK;
void payload_deinit(struct payload *payload);
#define _cleanup_payload_ CLEANUP(payload_deinit)

/* The keys of a send that tell of it. */
void payload_put_keys(const struct payload *payload, struct json_writer *w);

/* ---- pieces (send_stream.c) ---- */

struct send {
	struct ipc_request *request;
	struct payload *payload;
	/* Begins the request, for a body of which more pieces come. */
	int (*begin)(struct send *send, bool more);
	bool started; /* something was read */
};

/* Reads the payload and puts it piece by piece, the request with the first. 0: all is written
 * or in the output, or the request was answered before that; -ECANCELED the progress function
 * gave up, or what reading failed with, with the client's error set: then the request, if it
 * was begun, was given up too; or what ended the client. */
int send_stream(struct send *send) MUST_CHECK;

/* Tells the message's progress function. 0, or -ECANCELED with the client's error set. */
int send_tell_progress(struct ipc_client *client, const struct ipc_message *message,
		       uint64_t done, uint64_t total) MUST_CHECK;

/* ---- copying (copy.c) ---- */

/* It was received, and its body is there to be had. */
static inline bool message_can_be_copied(const struct ipc_message *message)
{
	return message->number &&
	       !(message->file && message->file->source == FILE_IN_READER);
}

/* From a body in memory or its descriptor into the file out_fd, which is empty; -1: into none,
 * only to verify. 0; -EBADMSG; -ECANCELED; -ENOMEM; -errno. */
int message_copy(const struct ipc_message *message, int out_fd) MUST_CHECK;

int file_write_all(int fd, const char *data, size_t size) MUST_CHECK;

#endif
