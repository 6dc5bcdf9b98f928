// SPDX-License-Identifier: MIT
/*
 * The main() of a fuzz target in `make check`: calls it once with no bytes, then with
 * each file of the directories given as arguments. The sanitizer, or the target's own
 * abort, says what is wrong. Exits 77, skipped, when there was no file.
 */
#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static _Noreturn void die(const char *path)
{
	fprintf(stderr, "%s: %s\n", path, strerror(errno));
	exit(1);
}

/* The bytes are copied to a block of their exact size, so that a read past it is seen. */
static void replay_file(const char *path)
{
	static uint8_t bytes[16 << 20];
	uint8_t *exact;
	size_t size;
	FILE *f;

	f = fopen(path, "rb");
	if (!f)
		die(path);
	size = fread(bytes, 1, sizeof(bytes), f);
	if (ferror(f))
		die(path);
	fclose(f);

	exact = malloc(size ? size : 1);
	if (!exact)
		die(path);
	memcpy(exact, bytes, size);

	printf("%s: %zu bytes\n", path, size);
	fflush(stdout);
	LLVMFuzzerTestOneInput(exact, size);
	free(exact);
}

static int replay_directory(const char *directory)
{
	struct dirent *entry;
	char path[4096];
	int n_files = 0;
	DIR *d;

	d = opendir(directory);
	if (!d && errno == ENOENT)
		return 0;
	if (!d)
		die(directory);
	while ((entry = readdir(d))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", directory, entry->d_name);
		replay_file(path);
		n_files++;
	}
	closedir(d);
	return n_files;
}

int main(int argc, char **argv)
{
	int n_files = 0;

	LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
	for (int i = 1; i < argc; i++)
		n_files += replay_directory(argv[i]);
	if (!n_files) {
		printf("skipped: the corpus is empty\n");
		return 77;
	}
	printf("%d inputs replayed\n", n_files);
	return 0;
}
