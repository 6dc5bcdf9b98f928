/* SPDX-License-Identifier: MIT */

#include "interrupt.h"

#include <signal.h>
#include <stddef.h>

static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
enum { N_SIGNALS = sizeof(signals) / sizeof(*signals) };

static volatile sig_atomic_t pending; /* the signal, or 0 */
static struct sigaction before[N_SIGNALS];

static void on_signal(int signal)
{
	pending = signal;
}

void interrupt_hold(void)
{
	const struct sigaction action = { .sa_handler = on_signal,
					  .sa_flags = SA_RESTART };

	for (size_t i = 0; i < N_SIGNALS; i++)
		if (sigaction(signals[i], NULL, &before[i]) == 0 &&
		    before[i].sa_handler != SIG_IGN)
			sigaction(signals[i], &action, NULL);
}

bool interrupt_is_pending(void)
{
	return pending != 0;
}

void interrupt_release(void)
{
	for (size_t i = 0; i < N_SIGNALS; i++)
		sigaction(signals[i], &before[i], NULL);
	if (pending)
		raise(pending);
	pending = 0;
}
