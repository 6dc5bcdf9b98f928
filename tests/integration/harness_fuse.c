/* SPDX-License-Identifier: MIT */

/* The file system that hangs, see harness_fuse.h: requests as in linux/fuse.h, read from and
 * written to /dev/fuse. */

#include "integration/harness_fuse.h"

#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/loop.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "integration/harness_file.h"

enum { BUFFER_SIZE = 1 << 17, PENDING_MAX = 1024, FILE_NODE = 2 };

/* Between the test and the child. */
struct shared {
	atomic_int hangs[N_HANGS], calls[N_HANGS];
	atomic_int n_pending;
	atomic_int n_changes; /* to be made */
	atomic_int version;   /* the file's time of change */
};

struct hung_fuse {
	struct shared *shared;
	pid_t pid;
	int control; /* a byte: answer; it comes back when that is done */
	char *path;
};

static struct hung_fuse *running; /* in this test */

/* A request without its answer. */
struct request {
	uint64_t unique, node, offset;
	uint32_t opcode, size;
};

struct child {
	int fuse, control;
	struct shared *shared;
	struct request pending[PENDING_MAX];
	int n_pending;
};

/* ---- in the child ---- */

static void reply(struct child *c, uint64_t unique, int error, const void *data,
		  size_t size)
{
	static char buffer[BUFFER_SIZE + sizeof(struct fuse_out_header)];
	struct fuse_out_header header = { .len = (uint32_t)(sizeof(header) + size),
					  .error = -error,
					  .unique = unique };

	memcpy(buffer, &header, sizeof(header));
	if (size)
		memcpy(buffer + sizeof(header), data, size);
	/* who has given up meanwhile is not there any more: ENOENT */
	if (write(c->fuse, buffer, header.len) < 0 && errno != ENOENT)
		_exit(1);
}

static struct fuse_attr attributes(const struct child *c, uint64_t node)
{
	struct fuse_attr a = {
		.ino = node, .mode = S_IFDIR | 0755, .nlink = 1, .blksize = 4096
	};

	if (node == FILE_NODE) {
		a.mode = S_IFREG | 0666;
		a.size = HUNG_FUSE_SIZE;
		a.blocks = HUNG_FUSE_SIZE / 512;
		a.mtime = a.ctime = 1000000000u + (uint64_t)c->shared->version;
	}
	return a;
}

static void reply_init(struct child *c, const struct request *r,
		       const struct fuse_init_in *in)
{
	struct fuse_init_out out = { .major = FUSE_KERNEL_VERSION,
				     .minor = FUSE_KERNEL_MINOR_VERSION,
				     .max_readahead = in->max_readahead,
				     .max_write = 65536 };

	if (in->minor < out.minor)
		out.minor = in->minor;
	reply(c, r->unique, 0, &out, sizeof(out));
}

static void change(struct child *c)
{
	if (c->shared->n_changes > 0) {
		c->shared->n_changes--;
		c->shared->version++;
	}
}

static void reply_read(struct child *c, const struct request *r)
{
	static char data[BUFFER_SIZE];
	size_t size = r->size < BUFFER_SIZE ? r->size : BUFFER_SIZE;

	if (r->offset >= HUNG_FUSE_SIZE)
		size = 0;
	else if (size > HUNG_FUSE_SIZE - r->offset)
		size = HUNG_FUSE_SIZE - r->offset;
	pattern_fill(data, size, r->offset);
	change(c);
	reply(c, r->unique, 0, data, size);
}

static void answer(struct child *c, const struct request *r)
{
	struct fuse_attr_out attr = { .attr = attributes(c, r->node) };
	struct fuse_entry_out entry = { .nodeid = FILE_NODE,
					.generation = 1,
					.entry_valid = 1000,
					.attr = attributes(c, FILE_NODE) };
	struct fuse_open_out opened = { .fh = r->node, .open_flags = FOPEN_DIRECT_IO };

	switch (r->opcode) {
	case FUSE_LOOKUP:
		reply(c, r->unique, 0, &entry, sizeof(entry));
		break;
	case FUSE_GETATTR: /* what is read once may come from the cache then */
		change(c);
		reply(c, r->unique, 0, &attr, sizeof(attr));
		break;
	case FUSE_OPEN:
	case FUSE_OPENDIR:
		reply(c, r->unique, 0, &opened, sizeof(opened));
		break;
	case FUSE_READ:
		reply_read(c, r);
		break;
	case FUSE_FLUSH:
	case FUSE_RELEASE:
	case FUSE_RELEASEDIR:
		reply(c, r->unique, 0, NULL, 0);
		break;
	default:
		reply(c, r->unique, ENOSYS, NULL, 0);
	}
}

static void hang(struct child *c, const struct request *r)
{
	if (c->n_pending == PENDING_MAX) {
		reply(c, r->unique, EIO, NULL, 0);
		return;
	}
	c->pending[c->n_pending++] = *r;
	c->shared->n_pending = c->n_pending;
}

static int hung_call(uint32_t opcode)
{
	return opcode == FUSE_READ	? HANG_READ
	       : opcode == FUSE_GETATTR ? HANG_STAT
	       : opcode == FUSE_FLUSH	? HANG_CLOSE
					: -1;
}

static void take_request(struct child *c)
{
	static char buffer[BUFFER_SIZE] __attribute__((aligned(8)));
	const struct fuse_in_header *header = (const void *)buffer;
	const struct fuse_read_in *in = (const void *)(header + 1);
	struct request r;
	int call;

	if (read(c->fuse, buffer, sizeof(buffer)) < 0) {
		if (errno == ENODEV)
			_exit(0); /* not mounted any more */
		return;
	}
	r = (struct request){ .unique = header->unique,
			      .node = header->nodeid,
			      .opcode = header->opcode };
	if (r.opcode == FUSE_FORGET || r.opcode == FUSE_BATCH_FORGET ||
	    r.opcode == FUSE_INTERRUPT || r.opcode == FUSE_DESTROY)
		return; /* has no answer; who is interrupted waits on */
	if (r.opcode == FUSE_INIT) {
		reply_init(c, &r, (const void *)(header + 1));
		return;
	}
	if (r.opcode == FUSE_READ) {
		r.offset = in->offset;
		r.size = in->size;
	}
	call = r.node == FILE_NODE ? hung_call(r.opcode) : -1;
	if (call >= 0)
		c->shared->calls[call]++;
	if (call >= 0 && c->shared->hangs[call])
		hang(c, &r);
	else
		answer(c, &r);
}

static void take_command(struct child *c)
{
	char byte;

	if (read(c->control, &byte, 1) != 1)
		_exit(0);
	for (int i = 0; i < c->n_pending; i++)
		answer(c, &c->pending[i]);
	c->shared->n_pending = c->n_pending = 0;
	if (write(c->control, &byte, 1) != 1)
		_exit(0);
}

/* A device, as of a disk, that goes with its last user. Kept open. */
static int make_device(char device[static 32])
{
	int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	struct loop_config config = { .info.lo_flags = LO_FLAGS_AUTOCLEAR };
	int n = control < 0 ? -1 : ioctl(control, LOOP_CTL_GET_FREE), fd;

	if (n < 0)
		return -1;
	close(control);
	snprintf(device, 32, "/dev/loop%d", n);
	config.fd = (uint32_t)memfd_create("disk", MFD_CLOEXEC);
	if (ftruncate((int)config.fd, 1 << 20) < 0)
		return -1;
	fd = open(device, O_RDWR | O_CLOEXEC);
	return fd < 0 || ioctl(fd, LOOP_CONFIGURE, &config) < 0 ? -1 : fd;
}

static int mount_fuse(const char *path, bool on_device)
{
	char options[128], device[32] = "ipcd-test";
	int fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);

	if (on_device && make_device(device) < 0)
		return -1;

	if (fd < 0 || unshare(CLONE_NEWNS) < 0 ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return -1;
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd);
	return mount(device, path, on_device ? "fuseblk" : "fuse", MS_NOSUID | MS_NODEV,
		     options) < 0
		       ? -1
		       : fd;
}

/* The descriptors of the test would keep its sockets open. */
static void child_main(int control, struct shared *shared, const char *path,
		       bool on_device) __attribute__((noreturn));

static void child_main(int control, struct shared *shared, const char *path,
		       bool on_device)
{
	static struct child c;
	struct pollfd fds[2];
	char error;

	if (dup2(control, 3) != 3 || close_range(4, ~0u, 0) < 0)
		_exit(127);
	c = (struct child){ .fuse = mount_fuse(path, on_device),
			    .control = 3,
			    .shared = shared };
	error = c.fuse < 0 ? (char)errno : 0;
	if (write(c.control, &error, 1) != 1 || error)
		_exit(1);
	fds[0] = (struct pollfd){ .fd = c.control, .events = POLLIN };
	fds[1] = (struct pollfd){ .fd = c.fuse, .events = POLLIN };
	while (poll(fds, 2, -1) > 0) {
		if (fds[0].revents)
			take_command(&c);
		if (fds[1].revents)
			take_request(&c);
	}
	_exit(1);
}

/* ---- in the test ---- */

static void skip_without_fuse(const char *why)
{
	print_message("skipped: no fuse file system: %s\n", why);
	skip();
}

static struct hung_fuse *start_kind(bool on_device)
{
	struct hung_fuse *f = keep(calloc(1, sizeof(*f)));
	const char *path = keep_printf("%s/fuse", server.dir);
	int ends[2];
	char error;

	if (geteuid() != 0)
		skip_without_fuse("needs root");
	assert_int_equal(mkdir(path, 0755), 0);
	f->shared = mmap(NULL, sizeof(*f->shared), PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(f->shared != MAP_FAILED);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
	f->control = keep_fd(ends[0]);
	f->pid = fork_child();
	if (!f->pid)
		child_main(ends[1], f->shared, path, on_device);
	close(ends[1]);
	if (read(f->control, &error, 1) != 1)
		fail_at(HERE, "the fuse server did not start");
	if (error)
		skip_without_fuse(strerror(error));
	running = f;
	f->path = keep_printf("/proc/%d/root%s/file", (int)f->pid, path);
	return f;
}

struct hung_fuse *hung_fuse_start(void)
{
	return start_kind(false);
}

struct hung_fuse *hung_fuse_start_on_device(void)
{
	return start_kind(true);
}

int hung_fuse_open(struct hung_fuse *f, int flags)
{
	return keep_fd(open(f->path, flags | O_CLOEXEC));
}

void hung_fuse_hang(struct hung_fuse *f, enum hung_call call)
{
	f->shared->hangs[call] = 1;
}

int hung_fuse_count(const struct hung_fuse *f)
{
	return f->shared->n_pending;
}

int hung_fuse_calls(const struct hung_fuse *f, enum hung_call call)
{
	return f->shared->calls[call];
}

void hung_fuse_change(struct hung_fuse *f, int reads)
{
	f->shared->n_changes = reads;
}

void hung_fuse_answer(struct hung_fuse *f)
{
	char byte = 0;

	for (int i = 0; i < N_HANGS; i++)
		f->shared->hangs[i] = 0;
	assert_int_equal(write(f->control, &byte, 1), 1);
	assert_int_equal(read(f->control, &byte, 1), 1);
}

void hung_fuse_end(struct hung_fuse *f)
{
	running = NULL;
	kill(f->pid, SIGKILL);
	assert_int_equal(wait_exit(f->pid), 256 + SIGKILL);
}

int hung_fuse_teardown(void **state)
{
	if (running)
		hung_fuse_answer(running);
	running = NULL;
	return harness_teardown(state);
}
