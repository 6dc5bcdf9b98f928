/* SPDX-License-Identifier: MIT */

#include "exec_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "walk.h"

const char *exec_file_place(void)
{
	const char *tmp = getenv("TMPDIR");

	return tmp && *tmp == '/' ? tmp : "/tmp";
}

static int make_directory(char **ret_path)
{
	char *path;

	if (asprintf(&path, "%s/ipc-XXXXXX", exec_file_place()) < 0)
		return -ENOMEM;
	if (!mkdtemp(path)) {
		int error = errno;

		free(path);
		return -error;
	}
	*ret_path = path;
	return 0;
}

static int save(struct ipc_message *message, const char *directory)
{
	int fd = open(directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r;

	if (fd < 0)
		return -errno;
	r = ipc_message_save(message, fd, NULL, 0, NULL);
	close(fd);
	return r;
}

int exec_file_make(struct exec_file *file, struct ipc_message *message)
{
	const char *filename = ipc_message_get_filename(message);
	int r;

	*file = (struct exec_file){ 0 };
	if (!filename || ipc_message_is_live(message))
		return 0;
	r = make_directory(&file->directory);
	if (r < 0)
		return r;
	r = save(message, file->directory);
	if (r == 0 && asprintf(&file->path, "%s/%s", file->directory, filename) < 0) {
		file->path = NULL;
		r = -ENOMEM;
	}
	if (r < 0)
		exec_file_remove(file);
	return r;
}

void exec_file_remove(struct exec_file *file)
{
	if (file->directory)
		walk_remove(AT_FDCWD, file->directory);
	free(file->directory);
	free(file->path);
	*file = (struct exec_file){ 0 };
}
