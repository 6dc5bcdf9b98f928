# SPDX-License-Identifier: MIT
#
# A test's name is its path here without the ending: unit/test_json, integration/restart,
# fuzz/fuzz_frame, lint/layers. To add one, add the file. run-test.sh runs it, keeps its
# output in $B/log/NAME.log and its counts in NAME.result; summary.sh adds them up.
#
# A test that replaces functions has a line in "Link flags" below.

test_names = $(basename $(patsubst tests/%,%,$(wildcard $1)))

UNIT_TESTS  := $(call test_names,tests/unit/test_*.c)
INT_TESTS   := $(call test_names,tests/integration/test_*.c)
FUZZ_TESTS  := $(call test_names,tests/fuzz/fuzz_*.c)
LINT_TESTS  := $(call test_names,tests/lint/*.sh)
FAST_LINTS  := $(addprefix lint/,layers symbols headers docs man)
# harness* and lib* are what the scripts share.
SCRIPTS     := $(filter-out tests/integration/harness% tests/integration/lib%,\
		 $(wildcard tests/integration/*.sh tests/integration/*.py))
ALL_TESTS   := $(UNIT_TESTS) $(INT_TESTS) $(call test_names,$(SCRIPTS)) $(FUZZ_TESTS) \
	       $(FAST_LINTS)

## TESTS=              what `make check` runs: names of tests, or of folders
TESTS       ?= $(ALL_TESTS)
CHECK_TESTS := $(sort $(foreach t,$(TESTS),\
	         $(or $(filter $t $t/% %/$t,$(ALL_TESTS) $(LINT_TESTS)),$t)))
## TEST_TIMEOUT=120    seconds after which a test has failed
TEST_TIMEOUT ?= 120
## FUZZ_TIME=60        seconds for each fuzz target
FUZZ_TIME    ?= 60
## CRASH_TIME=600      seconds for check-crash
CRASH_TIME   ?= 600
## SETUP=no            do not look for missing packages before check, demo, fuzz, lint
SETUP        ?= yes

# A test takes another program than the one built here from IPC_TEST_DAEMON and _CLI.
IPC_TEST_DAEMON ?= $(abspath $(IPCD))
IPC_TEST_CLI    ?= $(abspath $(IPC))
TEST_ENV = IPC_TEST_DAEMON='$(IPC_TEST_DAEMON)' IPC_TEST_CLI='$(IPC_TEST_CLI)' \
	   BUILD_DIR='$(abspath $B)' CC='$(CC)'
RUN_TEST = @$(TEST_ENV) TEST_TIMEOUT=$(TEST_TIMEOUT) tests/run-test.sh

setup     = $(if $(filter yes,$(SETUP)),CC='$(CC)' bash tests/setup.sh $1,:)
# $(call run_tests,NAMES,ENVIRONMENT). Every test is run, and counted, even if one does not
# build.
define run_tests
	@rm -f $(1:%=$B/log/%.result)
	+@$2 $(MAKE) -k -Otarget $(1:%=$B/log/%.result) || :
	@tests/summary.sh $B/log $1
endef

$B/tests/%.o: INCLUDES = -I. -Ilibipc -Ilibipc/include -Idaemon -Itests $(PKG_CFLAGS)

# Link flags of single tests, such as: test_stream_LDFLAGS := -Wl,--wrap=sendmsg
WRAP_MEMORY := -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc
test_tables_LDFLAGS := $(WRAP_MEMORY)
test_memory_LDFLAGS := $(WRAP_MEMORY)
test_stream_fds_LDFLAGS := -Wl,--wrap=recvmsg
test_stream_out_LDFLAGS := -Wl,--wrap=sendmsg,--wrap=send,--wrap=ioctl
test_client_calls_LDFLAGS := -Wl,--wrap=sendmsg,--wrap=send,--wrap=recvmsg,--wrap=poll,--wrap=setsockopt
test_model_LDFLAGS := -Wl,--wrap=clock_gettime,--wrap=epoll_wait,--wrap=timerfd_settime
test_client_memory_LDFLAGS := $(WRAP_MEMORY)
test_client_receive_LDFLAGS := -Wl,--wrap=json_parse
test_cli_archive_LDFLAGS := -larchive
test_stream_lend_LDFLAGS := $(WRAP_MEMORY)
test_digest_LDFLAGS := $(WRAP_MEMORY)
test_client_send_file_LDFLAGS := -Wl,--wrap=memfd_create,--wrap=fcntl,--wrap=pread
test_client_file_memory_LDFLAGS := $(WRAP_MEMORY)
test_client_send_stream_LDFLAGS := -Wl,--wrap=memfd_create
SAVE_WRAPS := -Wl,--wrap=openat,--wrap=renameat2,--wrap=linkat,--wrap=fsync,--wrap=write,--wrap=copy_file_range,--wrap=ioctl
test_client_save_LDFLAGS := $(SAVE_WRAPS)
test_client_save_body_LDFLAGS := $(SAVE_WRAPS)
test_cli_save_LDFLAGS := -larchive -Wl,--wrap=ipc_message_verify,--wrap=syncfs,--wrap=fsync,--wrap=renameat2
test_client_filter_LDFLAGS := $(WRAP_MEMORY)
FILLING_WRAPS := -Wl,--wrap=write,--wrap=pread,--wrap=fdatasync,--wrap=fstat
test_snapshot_LDFLAGS := $(FILLING_WRAPS) -Wl,--wrap=ioctl,--wrap=copy_file_range,--wrap=sendfile,--wrap=fd_reopen,--wrap=statx
test_upload_LDFLAGS := $(FILLING_WRAPS) -Wl,--wrap=recvmsg,--wrap=pthread_create
test_filling_LDFLAGS := $(FILLING_WRAPS)
test_history_LDFLAGS := $(WRAP_MEMORY)
test_store_parts_LDFLAGS := $(WRAP_MEMORY)
WORKER_WRAPS := -Wl,--wrap=clock_gettime,--wrap=close,--wrap=pthread_create
test_user_LDFLAGS := -Wl,--wrap=getpwuid_r,--wrap=getpwnam_r
test_worker_LDFLAGS := $(WORKER_WRAPS)
test_worker_end_LDFLAGS := $(WORKER_WRAPS)
test_store_LDFLAGS := $(WRAP_MEMORY)
test_store_receipts_LDFLAGS := $(WRAP_MEMORY)
test_store_broker_LDFLAGS := $(WRAP_MEMORY)

# Everything but main(), so that a test can reach into each module and only what it uses
# is linked. `q` and --thin, since two folders may have files of the same name.
TEST_LIB := $B/tests/all.a
$(TEST_LIB): $(filter-out $B/daemon/main.o,$(call objects,$(LIBIPC_SRC) $(IPCD_SRC)))
	$(Q)rm -f $@ && ar qcs --thin $@ $^

# The command's modules, likewise, for unit/test_cli_*.
CLI_TEST_LIB := $B/tests/cli.a
$(CLI_TEST_LIB): $(filter-out $B/cli/main.o,$(CLI_OBJ))
	$(Q)rm -f $@ && ar qcs --thin $@ $^
CLI_UNIT_TESTS := $(filter unit/test_cli_%,$(UNIT_TESTS))
$(CLI_UNIT_TESTS:%=$B/tests/%): $(CLI_TEST_LIB)

link_test = $(Q)$(LINK_EXE) -pthread -o $@ $(filter %.o,$^) \
	    -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $($(*F)_LDFLAGS)

$(UNIT_TESTS:%=$B/tests/%): $B/tests/%: $B/tests/%.o $(TEST_LIB)
	@$(if $V,,echo '  LINK    $@')
	$(link_test) -lcmocka $(IPCD_LIBS) $(LDLIBS)

# As a program of a user would be linked; the lower layers are there for forged frames.
BENCH_PROGRAMS := $(patsubst %.c,$B/%,$(wildcard tests/bench/*.c))
HARNESS := $(call objects,$(wildcard tests/integration/harness*.c))
$(INT_TESTS:%=$B/tests/%): $(HARNESS)
USER_PROGRAMS := $(INT_TESTS:%=$B/tests/%) $(BENCH_PROGRAMS)
$(USER_PROGRAMS): $B/tests/%: $B/tests/%.o $(CORE_OBJ) $(LIBIPC)
	@$(if $V,,echo '  LINK    $@')
	$(link_test) -L$B -lipc -Wl,-rpath,'$$ORIGIN/../..' \
		$(if $(filter integration/%,$*),-lcmocka) $(PKG_LIBS) $(LDLIBS)

# Under `make fuzz` clang's fuzzer drives a target, otherwise replay.c does.
FUZZ_PROGRAMS := $(FUZZ_TESTS:%=$B/tests/%)
$(FUZZ_PROGRAMS): $(if $(filter fuzz,$(BUILD)),,$B/tests/fuzz/replay.o)
$(FUZZ_PROGRAMS): $B/tests/%: $B/tests/%.o $(TEST_LIB)
	@$(if $V,,echo '  LINK    $@')
	$(link_test) $(if $(filter fuzz,$(BUILD)),-fsanitize=fuzzer) $(IPCD_LIBS) $(LDLIBS)

.PHONY: run-fuzz $(FUZZ_TESTS:%=run-%)
run-fuzz: $(FUZZ_TESTS:%=run-%)
# New inputs stay in build/; what is worth keeping is copied to the corpus by hand.
$(FUZZ_TESTS:%=run-%): run-fuzz/fuzz_%: $B/tests/fuzz/fuzz_%
	@mkdir -p $B/corpus/$* tests/fuzz/corpus/$*
	$(Q)$< -max_total_time=$(FUZZ_TIME) -print_final_stats=1 \
		-artifact_prefix=$B/crash-$*- $B/corpus/$* tests/fuzz/corpus/$*

$B/log/unit/%.result: $B/tests/unit/%
	$(RUN_TEST) $B/log/unit/$* cmocka $<

$B/log/integration/%.result: $B/tests/integration/% $(IPCD) $(IPC)
	$(RUN_TEST) $B/log/integration/$* cmocka $<

$B/log/integration/%.result: tests/integration/%.sh $(IPCD) $(IPC)
	$(RUN_TEST) $B/log/integration/$* script bash $<

$B/log/integration/%.result: tests/integration/%.py $(IPCD) $(IPC)
	$(RUN_TEST) $B/log/integration/$* script python3 $<

$B/log/fuzz/fuzz_%.result: $B/tests/fuzz/fuzz_%
	$(RUN_TEST) $B/log/fuzz/fuzz_$* script $< tests/fuzz/corpus/$*

$B/log/lint/symbols.result: $(LIBIPC)
$B/log/lint/tidy.result: TEST_TIMEOUT = 1200
$B/log/lint/tidy.result: export WARNINGS := $(WARNINGS)
$B/log/lint/%.result: tests/lint/%.sh
	$(RUN_TEST) $B/log/lint/$* script bash $<

# Preloaded by integration/test_oom and by POWERCUT_TESTS, which look for them beside
# themselves.
OOM_SHIM := $B/tests/integration/oom_shim.so
$(OOM_SHIM): %.so: %.o
$B/log/integration/test_oom.result: $(OOM_SHIM)

POWERCUT_SHIM := $B/tests/integration/powercut_shim.so
test_powercut_sqlite_LDFLAGS := $(or $(call pkg_libs,sqlite3),-lsqlite3)
test_crash_damage_LDFLAGS := $(test_powercut_sqlite_LDFLAGS)
POWERCUT_TESTS := $(call test_names,$(patsubst %,tests/integration/test_%*.c,powercut crash))
$(POWERCUT_SHIM): $(call objects,$(wildcard tests/integration/powercut_*.c))
$(POWERCUT_TESTS:%=$B/log/%.result): $(POWERCUT_SHIM)

$(OOM_SHIM) $(POWERCUT_SHIM):
	@$(if $V,,echo '  LINK    $@')
	$(Q)$(LINK) -shared -pthread -o $@ $^
