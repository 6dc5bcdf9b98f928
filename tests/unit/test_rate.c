/* SPDX-License-Identifier: MIT */

/* How often something happens, in the last minute. */

#include "unit/base.h"

#include "rate.h"

#define SECONDS(n) ((uint64_t)((n) * (double)NS_PER_S))

static void count(struct rate *rate, uint64_t now_ns, int n)
{
	while (n--)
		rate_count(rate, now_ns);
}

static void test_nothing(void **state)
{
	struct rate rate = { 0 };

	(void)state;
	assert_int_equal(rate_per_100s(&rate, 0), 0);
	assert_int_equal(rate_per_100s(&rate, SECONDS(1e6)), 0);
}

static void test_a_steady_rate(void **state)
{
	struct rate rate = { 0 };
	uint64_t start = SECONDS(12345);

	(void)state;
	for (int s = 0; s < 300; s++) {
		count(&rate, start + SECONDS(s), 50);
		if (s >= 70)
			assert_in_range(rate_per_100s(&rate, start + SECONDS(s + 0.9)),
					4900, 5100);
	}
}

/* After the minute it is forgotten, whether or not somebody looks meanwhile. */
static void test_a_burst_is_forgotten(void **state)
{
	struct rate rate = { 0 }, unseen = { 0 };
	uint64_t start = SECONDS(7);

	(void)state;
	count(&rate, start, 6000);
	count(&unseen, start, 6000);
	for (int s = 0; s <= 60; s++)
		assert_in_range(rate_per_100s(&rate, start + SECONDS(s)), 8500, 10000);
	assert_int_equal(rate_per_100s(&rate, start + SECONDS(71)), 0);
	assert_int_equal(rate_per_100s(&unseen, start + SECONDS(71)), 0);
	count(&unseen, start + SECONDS(1e5), 60);
	assert_int_equal(rate_per_100s(&unseen, start + SECONDS(1e5)), 100);
}

/* Each slot falls out after its minute. */
static void test_slots(void **state)
{
	struct rate rate = { 0 };

	(void)state;
	for (int slot = 0; slot < RATE_SLOTS; slot++)
		count(&rate, SECONDS(100 + 10 * slot), 100);
	assert_int_equal(rate_per_100s(&rate, SECONDS(160)), 1000);
	assert_int_equal(rate_per_100s(&rate, SECONDS(170)), 833);
	assert_int_equal(rate_per_100s(&rate, SECONDS(200)), 333);
	assert_int_equal(rate_per_100s(&rate, SECONDS(220)), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing),
		cmocka_unit_test(test_a_steady_rate),
		cmocka_unit_test(test_a_burst_is_forgotten),
		cmocka_unit_test(test_slots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
