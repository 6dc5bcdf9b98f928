# SPDX-License-Identifier: MIT
#
# The command sees only the public header and is linked with the library, as any other
# program would be. It is linked twice: $B/ipc finds the library beside itself, the one to
# install has no such path in it.

IPC := $B/ipc

$B/cli/%.o: INCLUDES = -Ilibipc/include

$(IPC): RPATH = -Wl,-rpath,'$$ORIGIN'
$(IPC) $B/install/ipc: $(call objects,$(wildcard cli/*.c)) $(LIBIPC)
	@mkdir -p $(@D)
	@$(if $V,,echo '  LINK    $@')
	$(Q)$(LINK_EXE) -o $@ $(filter %.o,$^) -L$B -lipc $(RPATH) $(LDLIBS)

$(call install_files,755,$(BINDIR),$B/install/ipc)
$(call install_pages,$(wildcard cli/*.[1-8]))
$(call install_files,644,$(PREFIX)/share/bash-completion/completions,cli/completion/ipc)
