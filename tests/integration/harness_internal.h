/* SPDX-License-Identifier: MIT */
#ifndef INTEGRATION_HARNESS_INTERNAL_H
#define INTEGRATION_HARNESS_INTERNAL_H

/* Between the harness's own files. */

#include "integration/harness.h"

/* Milliseconds to a deadline, for poll(2). */
int wait_left_ms(uint64_t deadline_ns);

/* Closes every client of this test, and the observer of queue_count(). */
void clients_close_all(void);

/* An id that no test uses. */
uint64_t client_next_id(struct client *c);

#endif
