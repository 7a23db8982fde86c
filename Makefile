# pair_proxy: see README.md. `make help` lists the targets.

PREFIX  ?= /usr/local
DESTDIR ?=
UNITDIR ?= $(PREFIX)/lib/systemd/system
CC      ?= cc
FLAVOUR ?= release
OPTIMIZE ?= -O2 -g
WERROR  ?=
V       ?= 0
VERSION := 0.1.0

Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),@:,@printf '  %-7s %s\n' $(1) $(2))

# `make` alone leaves its programs in build/bin; other flavours keep to a folder of their own.
OUT := $(if $(filter release,$(FLAVOUR)),build,build/$(FLAVOUR))
OBJ := $(OUT)/obj
BIN := $(OUT)/bin
TST := $(OUT)/tests

pkg_cflags = $(shell pkg-config --cflags $(1) 2>/dev/null)
pkg_libs   = $(shell pkg-config --libs $(1) 2>/dev/null)

# Hardening of the OpenSSF compiler guide, each flag only where the compiler knows it. The user's own word on
# fortification counts.
probe = $(shell $(CC) -Werror $(1) -x c -c -o /dev/null /dev/null 2>/dev/null && echo $(1))
ifndef HARDEN
HARDEN := $(call probe,-fstack-protector-strong) $(call probe,-fstack-clash-protection) \
          $(call probe,-fcf-protection=full) $(call probe,-ftrivial-auto-var-init=zero) \
          $(if $(filter release,$(FLAVOUR)),$(if $(findstring _FORTIFY_SOURCE,$(CPPFLAGS) $(CFLAGS)),,-U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2))
endif
SANITIZE ?=

BASE_CFLAGS := -std=gnu11 $(OPTIMIZE) -fPIE -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
               -Wpointer-arith -Wvla -Wformat=2 -Wno-unused-parameter $(WERROR) $(HARDEN) $(SANITIZE) -DPAIR_VERSION='"$(VERSION)"'
BASE_LDFLAGS := -pie -Wl,-z,relro,-z,now,-z,noexecstack $(SANITIZE)
IO_CFLAGS := $(call pkg_cflags,libconfig libmnl libnetfilter_queue libssl)
IO_LIBS   := $(call pkg_libs,libconfig libssl libcrypto) -lev
CORE_LIBS := $(call pkg_libs,libisal)
CAPTURE_LIBS := $(call pkg_libs,libnetfilter_queue libmnl)
CRYPTO_LIBS  := $(call pkg_libs,libcrypto)

CORE_OBJ := $(patsubst %.c,$(OBJ)/%.o,$(wildcard common/core/*.c))
IO_OBJ   := $(patsubst %.c,$(OBJ)/%.o,$(wildcard common/io/*.c))
TX_OBJ   := $(patsubst %.c,$(OBJ)/%.o,$(wildcard tx_proxy/*.c))
RX_OBJ   := $(patsubst %.c,$(OBJ)/%.o,$(wildcard rx_proxy/*.c))
# tools/traffic_*.c is what stream and receive share; every other tools/*.c is one program, tools/link/*.c is link_emulator.
TRAFFIC_OBJ := $(patsubst %.c,$(OBJ)/%.o,$(wildcard tools/traffic_*.c))
LINK_OBJ    := $(patsubst %.c,$(OBJ)/%.o,$(wildcard tools/link/*.c))
LIBCORE := $(OBJ)/libcore.a
LIBIO   := $(OBJ)/libio.a

PROGRAMS := $(addprefix $(BIN)/,tx_proxy rx_proxy stream receive link_emulator)
UNIT_TESTS := $(patsubst tests/%.c,$(TST)/%,$(wildcard tests/unit/test_*.c tests/sim/test_*.c))
IO_TESTS   := $(patsubst tests/%.c,$(TST)/%,$(wildcard tests/io/test_*.c))
LAB_TESTS  := $(wildcard tests/lab/test_*.sh)
# Each target is built twice: to be fuzzed, and to replay its corpus as a test.
FUZZ_TARGETS := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_REPLAYS := $(addprefix $(TST)/fuzz/,$(FUZZ_TARGETS))

.DELETE_ON_ERROR:
.SUFFIXES:
.PHONY: all help tests check check-sanitized demo bench soak asan fuzz fuzz-run tidy format format-check install uninstall clean

all: $(PROGRAMS)

$(OBJ)/%.o: %.c
	$(call say,CC,$<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(BASE_CFLAGS) $(IO_CFLAGS) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

# The engine may see nothing but itself and libc: its tests link this archive alone.
$(LIBCORE): $(CORE_OBJ)
$(LIBIO): $(IO_OBJ)
$(LIBCORE) $(LIBIO):
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

define link
	$(call say,LINK,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(BASE_CFLAGS) $(BASE_LDFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(if $(filter $(LIBCORE),$^),$(CORE_LIBS)) $(1) $(LDLIBS)
endef

$(BIN)/tx_proxy: $(TX_OBJ) $(LIBIO) $(LIBCORE)
	$(call link,$(CAPTURE_LIBS) $(IO_LIBS))
$(BIN)/rx_proxy: $(RX_OBJ) $(LIBIO) $(LIBCORE)
	$(call link,$(IO_LIBS))
$(BIN)/stream: $(OBJ)/tools/stream.o $(TRAFFIC_OBJ) $(LIBIO) $(LIBCORE)
	$(call link,$(IO_LIBS) $(CRYPTO_LIBS))
$(BIN)/receive: $(OBJ)/tools/receive.o $(TRAFFIC_OBJ) $(LIBIO) $(LIBCORE)
	$(call link,$(IO_LIBS) $(CRYPTO_LIBS))
$(BIN)/link_emulator: $(LINK_OBJ)
	$(call link,-lm)

$(UNIT_TESTS): $(TST)/%: $(OBJ)/tests/%.o $(patsubst %.c,$(OBJ)/%.o,$(wildcard tests/sim/sim_*.c tests/unit/unit_*.c)) $(LIBCORE)
	$(call link,$(WRAP) -lm)
# There simple schedulers take the place of sched.c.
$(TST)/sim/test_scheduler: WRAP := -Wl,--wrap=sched_pick,--wrap=sched_later_us
$(IO_TESTS): $(TST)/%: $(OBJ)/tests/%.o $(patsubst %.c,$(OBJ)/%.o,$(wildcard tests/unit/unit_*.c)) $(LIBIO) $(LIBCORE)
	$(call link,$(IO_LIBS) -lm)

# Modules of stream and receive that use no libio, so they may stand behind it.
$(TST)/io/test_traffic: $(addprefix $(OBJ)/tools/traffic_,data.o header.o out.o pattern.o report.o)
$(TST)/io/test_traffic: LDLIBS += $(CRYPTO_LIBS)

# Tests of a daemon's own modules link those objects besides the libraries.
$(TST)/io/test_syn_parse: $(OBJ)/tx_proxy/syn_parse.o
$(TST)/io/test_conn: $(OBJ)/tx_proxy/conn.o
$(TST)/io/test_failures: $(OBJ)/tx_proxy/failures.o
$(TST)/io/test_access: $(OBJ)/rx_proxy/access.o
$(TST)/io/test_access: LDLIBS += $(LIBIO) $(IO_LIBS)
$(TST)/io/test_link_table $(TST)/io/test_link_watch: LDLIBS += $(call pkg_libs,libmnl)
PROBE_OBJ := $(addprefix $(OBJ)/,tests/lab/intercept_probe.o $(addprefix tx_proxy/,intercept.o rules.o rules_system.o syn_parse.o))
$(TST)/lab/intercept_probe: $(PROBE_OBJ) $(LIBIO) $(LIBCORE)
	$(call link,$(CAPTURE_LIBS) $(IO_LIBS))

$(TST)/lab/tcp_probe: $(OBJ)/tests/lab/tcp_probe.o
	$(call link)
# A stranger to the daemons: it shares nothing with them.
$(TST)/lab/hostile: $(addprefix $(OBJ)/tests/lab/,hostile.o hostile_wire.o)
	$(call link)
$(TST)/lab/crowd: $(OBJ)/tests/lab/crowd.o
	$(call link)

# Likewise, but for libc and libev.
$(TST)/soak_flows: $(patsubst %.c,$(OBJ)/%.o,$(wildcard tests/soak/*.c))
	$(call link,-lev $(CRYPTO_LIBS) -lm)

$(FUZZ_REPLAYS): $(TST)/%: $(OBJ)/tests/%.o $(OBJ)/tests/fuzz/replay_main.o $(LIBCORE)
	$(call link)
$(addprefix $(BIN)/,$(FUZZ_TARGETS)): $(BIN)/%: $(OBJ)/tests/fuzz/%.o $(LIBCORE)
	$(call link,-fsanitize=fuzzer)

tests: $(UNIT_TESTS) $(FUZZ_REPLAYS) $(IO_TESTS) $(addprefix $(TST)/lab/,intercept_probe tcp_probe hostile crowd) $(TST)/soak_flows

help:
	@echo 'make                 the programs, in $(BIN)'
	@echo 'make check           installs missing packages (as root), builds and runs every test; ONLY=part of a name'
	@echo 'make asan            unit, simulation and io tests under AddressSanitizer and UBSan'
	@echo 'make fuzz            fuzzes each target for FUZZ_SECONDS=$(FUZZ_SECONDS) (clang)'
	@echo 'make tidy            clang-tidy and cppcheck'
	@echo 'make format          clang-format over all sources; format-check: only looks'
	@echo 'make demo, bench     the pair against a direct connection over an emulated link'
	@echo 'make soak            half an hour of mixed flows and faults; SECONDS=1800 SEED=N'
	@echo 'make install         into DESTDIR=$(DESTDIR) PREFIX=$(PREFIX); uninstall'
	@echo 'make clean           removes build/'
	@echo 'Variables: CC CFLAGS LDFLAGS WERROR=-Werror V=1'

ONLY ?=
selected = $(if $(ONLY),$(foreach test,$(1),$(if $(findstring $(ONLY),$(test)),$(test))),$(1))

# Packages first: what this file knows of libraries is found out when it is read.
check:
	@tests/deps
	@$(MAKE) --no-print-directory all tests
	@tests/run --logs $(TST)/logs $(call selected,$(UNIT_TESTS) $(FUZZ_REPLAYS) $(IO_TESTS) $(LAB_TESTS))

# HARDEN is empty: initialised variables would hide that they were not.
SANITIZERS := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
asan:
	@$(MAKE) --no-print-directory FLAVOUR=asan HARDEN= OPTIMIZE='-O1 -g' SANITIZE='$(SANITIZERS)' check-sanitized
check-sanitized: $(UNIT_TESTS) $(FUZZ_REPLAYS) $(IO_TESTS)
	@tests/run --logs $(TST)/logs $(call selected,$(UNIT_TESTS) $(FUZZ_REPLAYS) $(IO_TESTS))

FUZZ_SECONDS ?= 60
fuzz:
	@$(MAKE) --no-print-directory FLAVOUR=fuzz CC=clang HARDEN= OPTIMIZE='-O1 -g' \
		SANITIZE='$(SANITIZERS) -fsanitize=fuzzer-no-link' fuzz-run
# What is found new stays in build; a crash is left there as well, and worth a place in the corpus.
fuzz-run: $(addprefix $(BIN)/,$(FUZZ_TARGETS))
	@for target in $(call selected,$(FUZZ_TARGETS)); do \
		mkdir -p $(OUT)/found/$$target && \
		$(BIN)/$$target -max_total_time=$(FUZZ_SECONDS) -timeout=10 -max_len=4096 -print_final_stats=1 \
			-artifact_prefix=$(OUT)/found/$$target- $(OUT)/found/$$target tests/fuzz/corpus/$$target || exit 1; \
	done

SOURCES = $(wildcard common/*/*.[ch] [rt]x_proxy/*.[ch] tools/*.[ch] tools/*/*.[ch] tests/*/*.[ch])
TIDY_SOURCES = $(filter %.c,$(wildcard common/*/*.c [rt]x_proxy/*.c tools/*.c tools/*/*.c))
tidy:
	clang-tidy --quiet $(TIDY_SOURCES) -- -std=gnu11 $(IO_CFLAGS) -DPAIR_VERSION='"$(VERSION)"'
	cppcheck --quiet --std=c11 --enable=warning,performance,portability --inline-suppr --error-exitcode=1 \
		--suppress=missingIncludeSystem $(TIDY_SOURCES)
format:
	clang-format -i $(SOURCES)
format-check:
	clang-format --dry-run --Werror $(SOURCES)

# Both install what is missing, build, and leave nothing behind; `tools/demo --help`, `tools/bench --help`.
demo:
	@FILE="$(FILE)" tools/demo
bench:
	@tools/bench $(ROWS)

# For SECONDS seconds, with the flows and faults of SEED; `tests/soak/run.sh --help`.
soak:
	@tests/deps
	@$(MAKE) --no-print-directory all tests
	@tests/soak/run.sh $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))

# The programs look for /etc/pair_proxy/network.conf whatever the prefix. A configuration that is there stays; uninstall
# removes it only if it is the example still.
SBIN_PROGRAMS := tx_proxy rx_proxy
BIN_PROGRAMS  := stream receive
UNITS     := $(SBIN_PROGRAMS:=.service)
SHARE     := $(PREFIX)/share
CONF_FILE := $(DESTDIR)/etc/pair_proxy/network.conf
DOC_DIR   := $(SHARE)/doc/pair_proxy
man_files = $(notdir $(wildcard doc/*.$(1)))
doc_files = README.md COPYING network.conf $(wildcard doc/*.md doc/figs/*.svg)

install: all
	install -d $(addprefix $(DESTDIR),$(PREFIX)/sbin $(PREFIX)/bin $(UNITDIR) /etc/pair_proxy)
	install -m 755 $(addprefix $(BIN)/,$(SBIN_PROGRAMS)) $(DESTDIR)$(PREFIX)/sbin
	install -m 755 $(addprefix $(BIN)/,$(BIN_PROGRAMS)) $(DESTDIR)$(PREFIX)/bin
	for n in 1 5 8; do install -d $(DESTDIR)$(SHARE)/man/man$$n && \
		install -m 644 doc/*.$$n $(DESTDIR)$(SHARE)/man/man$$n || exit 1; done
	for file in $(doc_files); do install -D -m 644 $$file $(DESTDIR)$(DOC_DIR)/$$file || exit 1; done
	for unit in $(UNITS); do sed 's|@sbindir@|$(PREFIX)/sbin|g' tools/systemd/$$unit.in \
		>$(DESTDIR)$(UNITDIR)/$$unit && chmod 644 $(DESTDIR)$(UNITDIR)/$$unit || exit 1; done
	test -e $(CONF_FILE) || install -m 644 network.conf $(CONF_FILE)

# Removes what install made, and the folders of its own.
uninstall:
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/sbin/,$(SBIN_PROGRAMS)) $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(BIN_PROGRAMS)) \
		$(addprefix $(DESTDIR)$(UNITDIR)/,$(UNITS)) \
		$(foreach n,1 5 8,$(addprefix $(DESTDIR)$(SHARE)/man/man$(n)/,$(call man_files,$(n))))
	rm -rf $(DESTDIR)$(DOC_DIR)
	if cmp -s network.conf $(CONF_FILE); then rm -f $(CONF_FILE); fi
	rmdir $(DESTDIR)/etc/pair_proxy 2>/dev/null || true

clean:
	rm -rf build

-include $(shell find build -name '*.d' 2>/dev/null)
