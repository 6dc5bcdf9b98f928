# SPDX-License-Identifier: MIT
#
# One non-recursive Makefile: each folder's module.mk adds its sources and install
# lines, objects go to build/VARIANT/. `make help` lists what it can do.
#
# check, demo, fuzz and lint call this same file a second time. The first run installs
# missing packages; only the second one asks pkg-config, and so finds what was installed.

VERSION   := 0.1.0
SOVERSION := 0

## PREFIX=/usr/local   installation prefix; also BINDIR LIBDIR INCLUDEDIR MANDIR
##                     UNITDIR USERUNITDIR SYSUSERSDIR TMPFILESDIR
## DESTDIR=            staging directory, put before every installed path
DESTDIR     ?=
PREFIX      ?= /usr/local
BINDIR      ?= $(PREFIX)/bin
LIBDIR      ?= $(PREFIX)/lib
INCLUDEDIR  ?= $(PREFIX)/include
MANDIR      ?= $(PREFIX)/share/man
UNITDIR     ?= $(PREFIX)/lib/systemd/system
USERUNITDIR ?= $(PREFIX)/lib/systemd/user
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
DIRVARS     := PREFIX BINDIR LIBDIR INCLUDEDIR MANDIR UNITDIR USERUNITDIR SYSUSERSDIR \
	       TMPFILESDIR

## BUILD=release       variant: release (-O2 -g), debug, asan, tsan or cov
## CC CPPFLAGS CFLAGS LDFLAGS LDLIBS   the last four are appended to ours
## WERROR=1            warnings are errors
## V=1                 show the commands
BUILD      ?= release
PKG_CONFIG ?= pkg-config
B          := build/$(BUILD)
Q          := $(if $(V),,@)

MAKEFLAGS += -r --no-print-directory
.DELETE_ON_ERROR:
.SECONDARY:

# As many jobs as processors, unless -j says otherwise. Several goals (`make clean all`)
# are made one after the other.
ifeq ($(MAKELEVEL),0)
ifeq ($(word 2,$(MAKECMDGOALS)),)
MAKEFLAGS += -j$(shell nproc)
else
.NOTPARALLEL:
endif
endif

all: ## Build the daemon, the library, the command and the files to install (default)

# ---- Flags ----------------------------------------------------------------------------

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	    -Wold-style-definition -Wvla -Wpointer-arith -Wundef -Wwrite-strings \
	    -Wunused-result -Wformat=2 -Wcast-qual -Wno-unused-parameter \
	    $(if $(filter 1,$(WERROR)),-Werror)

# glibc warns about _FORTIFY_SOURCE without optimisation, the compiler about a second
# value: a packager's choice wins.
FORTIFY := $(if $(filter -O0,$(CFLAGS))$(findstring _FORTIFY,$(CPPFLAGS) $(CFLAGS)),,\
	     -D_FORTIFY_SOURCE=2)
HARDEN  := -fstack-protector-strong

SAN_asan := -fsanitize=address,undefined -fno-sanitize-recover=all
SAN_tsan := -fsanitize=thread
SAN_fuzz := $(SAN_asan) -fsanitize=fuzzer-no-link
SAN      := $(SAN_$(BUILD))

VARIANT_release := -O2 -g $(HARDEN) $(FORTIFY)
VARIANT_debug   := -Og -g3 $(HARDEN)
VARIANT_asan    := -O1 -g -fno-omit-frame-pointer $(SAN)
VARIANT_tsan    := -O1 -g -fno-omit-frame-pointer $(SAN)
VARIANT_fuzz    := -O1 -g -fno-omit-frame-pointer $(SAN)
VARIANT_cov     := -O0 -g --coverage
ifndef VARIANT_$(BUILD)
$(error BUILD=$(BUILD): expected release, debug, asan, tsan or cov)
endif

pkg_cflags = $(shell $(PKG_CONFIG) --cflags $1 2>/dev/null)
pkg_libs   = $(shell $(PKG_CONFIG) --libs $1 2>/dev/null)

PKGS       := yajl libxxhash libcrypto
PKG_CFLAGS := $(call pkg_cflags,$(PKGS))
PKG_LIBS   := $(or $(call pkg_libs,$(PKGS)),-lyajl -lxxhash -lcrypto)
# The daemon's alone: the library does not need them.
IPCD_PKGS  := sqlite3
IPCD_LIBS  := $(or $(call pkg_libs,$(IPCD_PKGS)),-lsqlite3) $(PKG_LIBS)
# The command's alone: directories as archives. It is loaded when one comes.
CLI_PKGS   := libarchive

# INCLUDES is set per folder, in its module.mk: the include path of a folder is its rule.
COMPILE = $(CC) -std=gnu11 -D_GNU_SOURCE -DIPCD_VERSION='"$(VERSION)"' \
	  -DBINDIR='"$(BINDIR)"' $(WARNINGS) \
	  $(VARIANT_$(BUILD)) -fPIC $(CPPFLAGS) $(CFLAGS)
LINK    = $(CC) $(VARIANT_$(BUILD)) $(CFLAGS) -Wl,-z,relro,-z,now $(LDFLAGS)
LINK_EXE = $(LINK) -pie

# ---- Rules for every folder -----------------------------------------------------------

# $(call install_files,MODE,DIRECTORY,FILES) notes files for install and uninstall.
install_files = $(eval INSTALL += $(foreach f,$3,$f|$2/$(notdir $f)|$1))
# $(call install_pages,FILES): manual pages go to the directory of their section.
install_pages = $(foreach p,$1,$(call \
		install_files,644,$(MANDIR)/man$(subst .,,$(suffix $p)),$p))
objects       = $(patsubst %.c,$B/%.o,$1)
define newline


endef
# A file that remembers a text; it is newer only when the text has changed.
remember = $(Q)mkdir -p $(@D); printf '%s\n' '$(subst ','\'',$1)' | cmp -s - $@ || \
	   printf '%s\n' '$(subst ','\'',$1)' >$@

.PHONY: all FORCE
FORCE:

$B/flags: FORCE
	$(call remember,$(COMPILE) $(LINK) $(IPCD_LIBS) $(LDLIBS))

$B/dirs: FORCE
	$(call remember,$(VERSION) $(foreach v,$(DIRVARS),$v=$($v)))

$B/%.o: %.c $B/flags
	@mkdir -p $(@D)
	@$(if $V,,echo '  CC      $<')
	$(Q)$(COMPILE) $(INCLUDES) -MMD -MP -MF $@.d -c -o $@ $<

$B/%: %.in $B/dirs
	@mkdir -p $(@D)
	@$(if $V,,echo '  GEN     $@')
	$(Q)sed -e 's|@VERSION@|$(VERSION)|g' \
		$(foreach v,$(DIRVARS),-e 's|@$v@|$($v)|g') $< >$@

include libipc/module.mk daemon/module.mk cli/module.mk tests/module.mk systemd/module.mk

-include $(wildcard $B/*/*.o.d $B/*/*/*.o.d)

# ---- Targets --------------------------------------------------------------------------

.PHONY: demo check check-crash bench fuzz lint install uninstall clean help

all: $(IPCD) $(IPC) $(LIBIPC) $(foreach i,$(INSTALL),$(firstword $(subst |, ,$i)))

demo: ## Show what ipcd does, on a daemon of its own
	@$(call setup,demo)
	@$(MAKE) all
	@$(TEST_ENV) bash tests/demo.sh

check: ## Run the tests, or TESTS='test_json lint ...'; see also BUILD
	@$(call setup,check)
	$(call run_tests,$(CHECK_TESTS))

# CRASH_TIME is what two processors need for the three of them.
CRASH_TESTS := integration/test_crash integration/test_crash_damage \
	       integration/test_crash_faults
check-crash: ## Kill the daemon, cut its power, spoil its files for CRASH_TIME seconds
	@$(call setup,check)
	$(call run_tests,$(CRASH_TESTS),CRASH_SECONDS=$$(( $(CRASH_TIME) / 4 )) \
		TEST_TIMEOUT=$$(( $(CRASH_TIME) + 300 )))

lint: ## Run every lint, also those that need clang's tools
	@$(call setup,lint)
	$(call run_tests,$(LINT_TESTS))

fuzz: ## Fuzz each target for FUZZ_TIME=60 seconds with clang
	@$(call setup,fuzz)
	@$(MAKE) -k BUILD=fuzz CC=clang run-fuzz

bench: all $(BENCH_PROGRAMS) ## Measure
	@$(TEST_ENV) bash tests/bench/run

install: all ## Install, below DESTDIR if that is given
	$(foreach i,$(INSTALL),$(call install_one,$(subst |, ,$i))$(newline))
	$(Q)ln -sf $(notdir $(LIBIPC)) '$(DESTDIR)$(LIBDIR)/libipc.so.$(SOVERSION)'
	$(Q)ln -sf libipc.so.$(SOVERSION) '$(DESTDIR)$(LIBDIR)/libipc.so'
# The linker's cache must learn of the library. Only root can; packages do it themselves.
	$(Q)if [ -z '$(DESTDIR)' ] && [ "$$(id -u)" = 0 ]; then ldconfig; fi

install_one = $(Q)install -D -m $(word 3,$1) $(word 1,$1) '$(DESTDIR)$(word 2,$1)'

uninstall: ## Remove what install has put there
	$(foreach i,$(INSTALL),$(Q)rm -f '$(DESTDIR)$(word 2,$(subst |, ,$i))'$(newline))
	$(Q)rm -f '$(DESTDIR)$(LIBDIR)/libipc.so.$(SOVERSION)'
	$(Q)rm -f '$(DESTDIR)$(LIBDIR)/libipc.so'

clean: ## Remove build/
	$(Q)rm -rf build

help: ## Show this
	@echo 'Targets:'
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/\1|\2/p' Makefile | \
		while IFS='|' read -r t d; do printf '  %-11s %s\n' "$$t" "$$d"; done
	@echo 'Variables:'
	@sed -n 's/^## /  /p' Makefile tests/module.mk
