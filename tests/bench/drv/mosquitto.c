/* SPDX-License-Identifier: MIT */

/* mosquitto over its Unix socket, as far as connections go: MQTT 3.1.1 CONNECT without
 * keep-alive, with the client id "PID.NUMBER", and its CONNACK. */

#include "bench.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int hello(void)
{
	static unsigned int number;
	static const unsigned char begin[14] = { 0x10, 0, 0, 4, 'M', 'Q', 'T', 'T', 4, 2 };
	unsigned char packet[64], answer[4];
	char *id = (char *)packet + sizeof(begin);
	int size, fd = dial(opt.address);

	memcpy(packet, begin, sizeof(begin));
	size = snprintf(id, sizeof(packet) - sizeof(begin), "%d.%u", getpid(), number++);
	packet[1] = (unsigned char)((int)sizeof(begin) - 2 + size);
	packet[13] = (unsigned char)size;
	if (fd >= 0 && write_all(fd, packet, sizeof(begin) + (size_t)size) &&
	    read_all(fd, answer, sizeof(answer)) && answer[0] == 0x20 && !answer[3])
		return fd;
	if (fd >= 0)
		close(fd);
	return -1;
}

int main(int argc, char **argv)
{
	static const struct driver driver = { .hello = hello };

	return bench_main(argc, argv, &driver, NULL);
}
