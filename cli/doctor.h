/* SPDX-License-Identifier: MIT */
#ifndef CLI_DOCTOR_H
#define CLI_DOCTOR_H

/* What the two files of `ipc doctor` share. */

#include "out.h"

enum level {
	LEVEL_OK,
	LEVEL_NOTE, /* a fact that may surprise */
	LEVEL_WARNING,
	LEVEL_PROBLEM, /* something does not work */
};

struct doctor {
	const struct cli *cli;
	struct ipc_client *client;
	enum level worst; /* so far */
	bool keeps;	  /* the daemon has a store */
};

struct subject {
	const char *check; /* one word */
	const char *name;  /* of a queue; or NULL */
};

/* One line. help: what the reader can do, or NULL. */
void doctor_tell(struct doctor *doctor, enum level level, struct subject about,
		 const char *help, const char *format, ...) PRINTF_LIKE(5, 6);

/* Of two things with their maxima: are they used up, or nearly? */
enum level doctor_judge(int64_t a, int64_t a_max, int64_t b, int64_t b_max);

/* Those that one may see. Returns a status. */
int doctor_check_queues(struct doctor *doctor);

#endif
