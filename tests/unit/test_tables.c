/* SPDX-License-Identifier: MIT */

/* The containers of libipc/base against simple models of themselves: map, heap, buf. */

#include "unit/alloc.h"

#include "base/buf.h"
#include "base/heap.h"
#include "base/map.h"

/* ---- map ---- */

enum { N_KEYS = 5000 };

struct entry {
	struct map_node node;
	uint32_t key;
	bool in;
};

static struct entry entries[N_KEYS];

static size_t count_by_walk(const struct map *m)
{
	size_t n = 0;

	for (struct map_node *node = map_first(m); node; node = map_after(m, node))
		n++;
	return n;
}

static void toggle(struct map *m, struct entry *e)
{
	if (e->in) {
		map_remove(m, &e->node);
	} else {
		assert_int_equal(map_reserve(m), 0);
		map_add(m, &e->node, map_u64(e->key));
	}
	e->in = !e->in;
}

static void check_map(const struct map *m)
{
	size_t n = 0;

	for (uint32_t i = 0; i < N_KEYS; i++) {
		struct map_node *found = map_find(m, map_u64(i));

		n += entries[i].in;
		assert_ptr_equal(found, entries[i].in ? &entries[i].node : NULL);
	}
	assert_int_equal(m->n, n);
	assert_int_equal(count_by_walk(m), n);
}

static void test_map_like_a_set(void **state)
{
	uint32_t seed = 1;
	struct map m;

	map_init(&m);
	assert_null(map_find(&m, 1));
	assert_null(map_first(&m));
	for (uint32_t i = 0; i < N_KEYS; i++)
		entries[i] = (struct entry){ .key = i };
	for (int round = 0; round < 6; round++) {
		for (int i = 0; i < 2000; i++)
			toggle(&m, &entries[next_random(&seed) % N_KEYS]);
		check_map(&m);
	}
	for (uint32_t i = 0; i < N_KEYS; i++)
		if (!entries[i].in)
			toggle(&m, &entries[i]);
	check_map(&m);
	assert_true(m.n_buckets >= N_KEYS);
	for (uint32_t i = 0; i < N_KEYS; i++)
		toggle(&m, &entries[i]);
	check_map(&m);
	assert_true(m.n_buckets <= 16); /* memory goes back */
	map_deinit(&m);
}

/* It shrinks meanwhile, several times. */
static void test_map_is_emptied(void **state)
{
	enum { N = 3000 };
	static struct map_node nodes[N];
	struct map_place place = { 0 };
	struct map_node *node;
	size_t n = 0;
	struct map m;

	map_init(&m);
	assert_null(map_first_from(&m, &place));
	for (size_t i = 0; i < N; i++) {
		assert_int_equal(map_reserve(&m), 0);
		map_add(&m, &nodes[i], map_u64(i));
	}
	for (; (node = map_first_from(&m, &place)); n++)
		map_remove(&m, node);
	assert_int_equal(n, N);
	assert_int_equal(m.n, 0);
	map_deinit(&m);
}

static void test_map_equal_hashes(void **state)
{
	struct map_node a, b, c, other;
	struct map_node *node;
	unsigned int seen = 0;
	struct map m;

	map_init(&m);
	assert_int_equal(map_reserve(&m), 0);
	map_add(&m, &a, 5);
	map_add(&m, &b, 5);
	map_add(&m, &other, 5 + 16); /* the same bucket, another hash */
	map_add(&m, &c, 5);
	for (node = map_find(&m, 5); node; node = map_next(node))
		seen += node == &a ? 1 : node == &b ? 10 : node == &c ? 100 : 1000;
	assert_int_equal(seen, 111);
	map_remove(&m, &b);
	assert_ptr_equal(map_find(&m, 5 + 16), &other);
	assert_null(map_next(&other));
	map_deinit(&m);
}

static void test_map_without_memory(void **state)
{
	struct map_node nodes[40];
	struct map m;

	map_init(&m);
	fail_allocation(1);
	assert_int_equal(map_reserve(&m), -ENOMEM);
	assert_int_equal(map_reserve(&m), 0);
	for (size_t i = 0; i < 16; i++) {
		assert_int_equal(map_reserve(&m), 0);
		map_add(&m, &nodes[i], map_u64(i));
	}
	fail_allocation(1);
	assert_int_equal(map_reserve(&m), -ENOMEM);
	assert_ptr_equal(map_find(&m, map_u64(7)), &nodes[7]);
	for (size_t i = 16; i < ARRAY_SIZE(nodes); i++) {
		assert_int_equal(map_reserve(&m), 0);
		map_add(&m, &nodes[i], map_u64(i));
	}
	for (size_t i = 1; i < ARRAY_SIZE(nodes); i++) {
		fail_allocation(1); /* it does not shrink, and that is all */
		map_remove(&m, &nodes[i]);
		assert_ptr_equal(map_find(&m, map_u64(0)), &nodes[0]);
	}
	allocation_failed();
	assert_int_equal(m.n, 1);
	map_deinit(&m);
}

static void test_map_hashes_are_injective(void **state)
{
	/* odd multiplication and shift-xor have inverses: undo them */
	uint64_t inverse = 1, x = 0x123456789abcdef0u;

	for (int i = 0; i < 6; i++)
		inverse *= 2 - 0xd6e8feb86659fd93u * inverse;
	for (int i = 0; i < 100; i++) {
		uint64_t block, y = map_u64(x);

		y ^= y >> 32;
		y *= inverse;
		y ^= y >> 32;
		assert_int_equal(y, x);
		y = map_sequential(x);
		block = y >> 3;
		block ^= block >> 32;
		block = block * inverse & UINT64_MAX >> 3;
		assert_int_equal(block << 3 | (y & 7), x);
		x = map_u64(x + 1);
	}
}

/* ---- heap ---- */

static void check_heap(const struct heap *h)
{
	for (uint32_t i = 0; i < h->n; i++) {
		assert_int_equal(h->nodes[i]->place, i + 1);
		if (i)
			assert_true(h->nodes[(i - 1) / 2]->key <= h->nodes[i]->key);
	}
}

static void test_heap_sorts(void **state)
{
	enum { N = 3000 };
	static struct heap_node nodes[N];
	uint64_t last = 0;
	uint32_t seed = 2;
	struct heap h;

	heap_init(&h);
	assert_null(heap_first(&h));
	for (int i = 0; i < N; i++)
		assert_int_equal(heap_add(&h, &nodes[i], next_random(&seed) % 1000), 0);
	check_heap(&h);
	for (int i = 0; i < N; i += 3) { /* some leave from the middle */
		heap_remove(&h, &nodes[i]);
		assert_false(heap_has(&nodes[i]));
		if (i % 100 == 0)
			check_heap(&h);
	}
	while (heap_first(&h)) {
		struct heap_node *first = heap_first(&h);

		assert_true(first->key >= last);
		last = first->key;
		heap_remove(&h, first);
	}
	assert_true(h.capacity <= 128); /* memory goes back */
	heap_deinit(&h);
}

static void test_heap_without_memory(void **state)
{
	struct heap_node nodes[17] = { 0 };
	struct heap h;

	heap_init(&h);
	for (size_t i = 0; i < ARRAY_SIZE(nodes); i++) {
		fail_allocation(1);
		if (heap_add(&h, &nodes[i], 100 - i) == -ENOMEM) {
			assert_true(i == 0 || i == 16);
			assert_false(heap_has(&nodes[i]));
			assert_int_equal(heap_add(&h, &nodes[i], 100 - i), 0);
		}
		allocation_failed();
		check_heap(&h);
	}
	assert_ptr_equal(heap_first(&h), &nodes[16]);
	heap_deinit(&h);
}

/* ---- buf ---- */

static void test_buf(void **state)
{
	struct buf b = BUF_INIT;
	char *text;

	assert_int_equal(buf_append(&b, NULL, 0), 0);
	assert_int_equal(buf_append_string(&b, "one"), 0);
	assert_int_equal(buf_printf(&b, " %d %s", 2, "three"), 0);
	assert_int_equal(buf_terminate(&b), 0);
	assert_string_equal(b.data, "one 2 three");
	assert_int_equal(b.size, 11);
	buf_consume(&b, 4);
	assert_int_equal(b.size, 7);
	assert_memory_equal(b.data, "2 three", 7);
	buf_consume(&b, 7);
	assert_int_equal(b.size, 0);
	assert_int_equal(buf_append(&b, "x", 2), 0);
	text = buf_steal(&b);
	assert_string_equal(text, "x");
	assert_null(b.data);
	assert_int_equal(b.size + b.capacity, 0);
	free(text);
	buf_deinit(&b);
	buf_deinit(&b);
}

static void test_buf_grows(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT;
	char expected[16];

	for (int i = 0; i < 20000; i++)
		assert_int_equal(buf_printf(&b, "%07d", i), 0);
	assert_int_equal(b.size, 20000 * 7);
	assert_true(b.capacity < 2 * b.size + 64);
	for (int i = 0; i < 20000; i++) {
		snprintf(expected, sizeof(expected), "%07d", i);
		assert_memory_equal(b.data + (size_t)i * 7, expected, 7);
	}
}

static void test_buf_beyond_memory(void **state)
{
	_cleanup_buf_ struct buf b = BUF_INIT;

	assert_int_equal(buf_append_string(&b, "keep"), 0);
	assert_int_equal(buf_reserve(&b, SIZE_MAX), -ENOMEM);
	assert_int_equal(buf_reserve(&b, SIZE_MAX - 4), -ENOMEM);
	assert_int_equal(buf_reserve(&b, SIZE_MAX / 2), -ENOMEM);
	fail_allocation(1);
	assert_int_equal(buf_printf(&b, "%1000d", 1), -ENOMEM);
	fail_allocation(1);
	assert_int_equal(buf_append(&b,
				    "0123456789012345678901234567890123456789"
				    "0123456789012345678901234567890123456789",
				    80),
			 -ENOMEM);
	allocation_failed();
	assert_int_equal(b.size, 4);
	assert_memory_equal(b.data, "keep", 4);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_map_like_a_set),
		cmocka_unit_test(test_map_is_emptied),
		cmocka_unit_test(test_map_equal_hashes),
		cmocka_unit_test(test_map_without_memory),
		cmocka_unit_test(test_map_hashes_are_injective),
		cmocka_unit_test(test_heap_sorts),
		cmocka_unit_test(test_heap_without_memory),
		cmocka_unit_test(test_buf),
		cmocka_unit_test(test_buf_grows),
		cmocka_unit_test(test_buf_beyond_memory),
	};

	return cmocka_run_group_tests_name("tables", tests, NULL, NULL);
}
