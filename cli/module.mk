# SPDX-License-Identifier: MIT
#
# The command sees only the public header, and libarchive's, and is linked with the library,
# as any other program would be; libarchive.h says why not with libarchive. It is linked
# twice: $B/ipc finds the library beside itself, the one to install has no such path in it.

IPC := $B/ipc

$B/cli/%.o: INCLUDES = -Ilibipc/include $(call pkg_cflags,$(CLI_PKGS))

$(IPC): RPATH = -Wl,-rpath,'$$ORIGIN'
CLI_OBJ := $(call objects,$(wildcard cli/*.c))
$(IPC) $B/install/ipc: $(CLI_OBJ) $(LIBIPC)
	@mkdir -p $(@D)
	@$(if $V,,echo '  LINK    $@')
	$(Q)$(LINK_EXE) -pthread -o $@ $(filter %.o,$^) -L$B -lipc $(RPATH) $(LDLIBS)

$(call install_files,755,$(BINDIR),$B/install/ipc)
$(call install_pages,$(wildcard cli/*.[1-8]))
$(call install_files,644,$(PREFIX)/share/bash-completion/completions,cli/completion/ipc)
