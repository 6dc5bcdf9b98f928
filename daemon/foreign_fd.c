/* SPDX-License-Identifier: MIT */

#include "foreign_fd.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "server.h"

static const char *kind_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR:
		return "a directory";
	case S_IFIFO:
		return "a pipe";
	case S_IFSOCK:
		return "a socket";
	case S_IFCHR:
		return "a character device or terminal";
	case S_IFBLK:
		return "a block device";
	case S_IFREG:
		return "a regular file";
	default:
		return "no file";
	}
}

/* Flags and type; a directory is never taken. */
static int look(int fd, int *ret_flags, struct statx *ret_stx, struct fault *fault)
{
	*ret_flags = fcntl(fd, F_GETFL);
	if (*ret_flags < 0 || *ret_flags & O_PATH)
		return fault_set(fault, FAULT_BAD_FD,
				 "the descriptor was opened with O_PATH: open the file "
				 "for reading");
	if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC,
		  STATX_TYPE | STATX_SIZE | STATX_BLOCKS, ret_stx) < 0)
		return fault_set(fault, FAULT_BAD_FD,
				 "the descriptor cannot be looked at: %s",
				 strerror(errno));
	if (S_ISDIR(ret_stx->stx_mode))
		return fault_set(fault, FAULT_BAD_FD,
				 "the descriptor is of a directory: send a tar of it");
	return 0;
}

static bool is_sealed(int fd)
{
	const int all = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & all) == all;
}

/* Pipes; memory; files that were only read, of the file system that we live on. Any other may
 * be fuse(4), with a device or without, or a network; a socket may linger, or hold other
 * descriptors. */
static bool closes_quickly(const struct server *server, int fd, int flags,
			   const struct statx *stx)
{
	bool only_read = (flags & O_ACCMODE) == O_RDONLY;
	dev_t device = makedev(stx->stx_dev_major, stx->stx_dev_minor);

	switch (stx->stx_mode & S_IFMT) {
	case S_IFIFO:
		return true;
	case S_IFREG:
		return (only_read && device == server->own_device) ||
		       fcntl(fd, F_GET_SEALS) >= 0;
	default:
		return false;
	}
}

static void describe(const struct statx *stx, struct foreign_fd *ret)
{
	bool regular = S_ISREG(stx->stx_mode);

	*ret = (struct foreign_fd){
		.size = regular ? stx->stx_size : UINT64_MAX,
		.disk = regular ? min_u64(stx->stx_size, stx->stx_blocks * 512) : 0,
	};
}

int foreign_fd_check_file(int fd, struct foreign_fd *ret, struct fault *fault)
{
	struct statx stx;
	int flags, r = look(fd, &flags, &stx, fault);

	if (r)
		return r;
	if (!S_ISREG(stx.stx_mode))
		return fault_set(fault, FAULT_BAD_FD,
				 "the descriptor is of %s, which cannot be copied: send "
				 "it with \"live\", or its bytes",
				 kind_of(stx.stx_mode));
	if ((flags & O_ACCMODE) == O_WRONLY)
		return fault_set(fault, FAULT_BAD_FD,
				 "the descriptor was opened for writing only: open the "
				 "file for reading");
	describe(&stx, ret);
	ret->sealed = is_sealed(fd);
	return 0;
}

static bool is_ours(const struct server *server, const struct sockaddr_un *address,
		    socklen_t size)
{
	for (size_t i = 0; i < server->n_listeners; i++) {
		struct sockaddr_un own;
		socklen_t own_size = sizeof(own);

		if (getsockname(server->listeners[i].source.fd, (struct sockaddr *)&own,
				&own_size) == 0 &&
		    own_size > offsetof(struct sockaddr_un, sun_path) &&
		    own_size == size && !memcmp(&own, address, size))
			return true;
	}
	return false;
}

/* One that is kept by us would never be closed. */
static bool leads_to_us(const struct server *server, int fd)
{
	struct sockaddr_un address;
	socklen_t size = sizeof(address);

	if (getpeername(fd, (struct sockaddr *)&address, &size) == 0 &&
	    is_ours(server, &address, size))
		return true;
	size = sizeof(address);
	return getsockname(fd, (struct sockaddr *)&address, &size) == 0 &&
	       is_ours(server, &address, size);
}

int foreign_fd_check_live(const struct server *server, int fd, struct foreign_fd *ret,
			  struct fault *fault)
{
	struct statx stx;
	int flags, r = look(fd, &flags, &stx, fault);

	if (r)
		return r;
	if (S_ISSOCK(stx.stx_mode) && leads_to_us(server, fd))
		return fault_set(fault, FAULT_BAD_FD,
				 "the descriptor is a connection to ipcd itself");
	describe(&stx, ret);
	ret->quick = closes_quickly(server, fd, flags, &stx);
	return 0;
}
