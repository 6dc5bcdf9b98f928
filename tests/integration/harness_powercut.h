/* SPDX-License-Identifier: MIT */
#ifndef INTEGRATION_HARNESS_POWERCUT_H
#define INTEGRATION_HARNESS_POWERCUT_H

/* Programs on the disk of powercut_shim.so, which is server.state. */

#include "integration/harness.h"
#include "integration/powercut.h"

/* Of this test; NULL before powercut_setup(). */
extern struct powercut_control *powercut;

bool powercut_is_possible(void);

/* A new control, or the test is skipped, with a word why. */
void powercut_setup(void);

/* Programs started from now on have the shim, or not. */
void powercut_preload(bool on);

/* Cuts, whatever the program does. */
void powercut_now(void);

/* The program has ended: has the cut, if there was one, been carried out as modelled? */
#define powercut_finish() powercut_finish_at(HERE)
void powercut_finish_at(struct place at);

/* The test itself has replaced the files: what a killed program had not synced is void. */
void powercut_forget(void);

/* IPC_TEST_SEED, or one of this run; it is printed. */
uint64_t random_seed(void);
uint64_t random_next(uint64_t *state);
uint64_t random_below(uint64_t *state, uint64_t n);

#endif
