# make demo     shows it all on a throw-away PostgreSQL cluster
# make check    runs every test but those of clients
# make check-clients    tries drivers, ORMs and a pooler
# make shell    psql on such a cluster, with the demonstration's patients
# make all install    the usual build, with PG_CONFIG=… for another version

EXTENSION = pg_phi
EXTVERSION := $(shell sed -n "s/^default_version = '\(.*\)'/\1/p" $(EXTENSION).control)
MODULE_big = $(EXTENSION)
SOURCES := $(filter-out src/client/%,$(sort $(wildcard src/*.c src/*/*.c)))
OBJS = $(SOURCES:.c=.o)

# The install script is these parts, in this order. A part that ends in .sql.in
# is repeated for every row of its table in tools/expand-types.
SQL_PARTS = \
	src/head.sql \
	src/keys/keys.sql \
	src/keys/seal.sql \
	src/keys/approval.sql \
	src/keys/master.sql \
	src/session/session.sql \
	src/session/isolation.sql \
	src/value/types.sql.in \
	src/value/operators.sql.in \
	src/value/casts_to.sql.in \
	src/value/casts_from.sql.in \
	src/value/casts_json.sql.in \
	src/value/extra.sql \
	src/keys/search_key.sql \
	src/rekey/rekey.sql \
	src/rekey/control.sql \
	src/rekey/certificate.sql \
	src/rekey/destroy.sql \
	src/rekey/shred.sql \
	src/rekey/compromise.sql \
	src/rekey/report.sql \
	src/protect/plan_columns.sql \
	src/protect/plan_indexes.sql \
	src/protect/plan_constraints.sql \
	src/protect/plan_dependants.sql \
	src/protect/plan_views.sql \
	src/protect/plan.sql \
	src/protect/job.sql \
	src/protect/steps.sql \
	src/protect/protect.sql \
	src/protect/control.sql \
	src/audit/log.sql \
	src/audit/verify.sql \
	src/audit/history.sql \
	src/audit/rows.sql \
	src/audit/keys.sql \
	src/audit/proof.sql \
	src/audit/worker.sql \
	src/audit/partitions.sql \
	src/audit/retire.sql \
	src/audit/events.sql \
	src/audit/capacity.sql \
	src/tail.sql

DATA_built = $(EXTENSION)--$(EXTVERSION).sql

# The custodians' program and the auditors', installed beside psql.
CLIENTS = phi-unseal phi-verify
SCRIPTS_built = $(CLIENTS)

# As system headers, so that our warnings are about our code.
PG_CPPFLAGS = -I$(srcdir)/src -isystem $(shell $(PG_CONFIG) --includedir-server)
SHLIB_LINK = -lcrypto -lsodium -lgfshare -llz4

# No bitcode: the functions are too large for the JIT compiler to inline, and
# the packages would need clang.
override with_llvm = no

# A bare machine has no PostgreSQL yet: `make demo` and `make check` install it
# and then call make again, which finds it.
PG_CONFIG ?= $(firstword $(wildcard /usr/lib/postgresql/15/bin/pg_config) \
	$(shell command -v pg_config))
ifneq ($(PG_CONFIG),)
export PG_CONFIG
endif

# These goals start from nothing: packages, build, install, then the work. They
# build by calling make again and do without PGXS, which may not be there yet
# and has a `check` of its own.
PHI_GOALS = prepare demo shell check check-% check-clients bench bench-values bench-rekey bench-search bench-audit fuzz
ifneq ($(filter $(PHI_GOALS),$(MAKECMDGOALS)),)

.PHONY: $(PHI_GOALS) all install clean
prepare:
	@tools/install-packages
	@$(MAKE) --no-print-directory all
	@tools/install-extension
demo: prepare
	@demo/demo
shell: prepare
	@demo/shell
check: prepare
	@test/run
check-%: prepare
	@test/run $*
check-clients: prepare
	@tools/install-packages clients
	@test/clients/run
bench: prepare
	@bench/run
bench-values: prepare
	@bench/run values
bench-rekey: prepare
	@bench/run rekey
bench-search: prepare
	@bench/run search
bench-audit: prepare
	@bench/run audit
fuzz: prepare
	@test/fuzz/run

all install clean:
	@$(MAKE) --no-print-directory $@

else ifneq ($(PG_CONFIG),)

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

phi-unseal: src/client/phi-unseal.c
	$(CC) -std=gnu11 $(CFLAGS) -isystem $(includedir) -o $@ $< -L$(libdir) $(LDFLAGS) -lpq -lsodium

# Needs nothing of PostgreSQL: who doubts a server runs it elsewhere.
VERIFY = $(addprefix src/,client/phi-verify.c client/verify_files.c client/verify_records.c \
	client/verify_tree.c audit/merkle.c audit/note.c crypto/hash.c crypto/sign_check.c crypto/text.c)
phi-verify: $(VERIFY) $(wildcard src/client/*.h src/audit/*.h src/crypto/*.h)
	$(CC) -std=gnu11 $(CFLAGS) -Isrc -o $@ $(VERIFY) $(LDFLAGS) -lcrypto -lsodium

# Not one header is private enough to be worth tracking one by one.
$(OBJS): $(wildcard src/*.h src/*/*.h)

$(DATA_built): $(SQL_PARTS) tools/expand-types Makefile
	@echo "joining $@"
	@{ printf '%s\n' '\echo Use "CREATE EXTENSION $(EXTENSION)" to load this file. \quit'; \
	for part in $(SQL_PARTS); do \
	  echo; \
	  case $$part in \
	    *.sql.in) tools/expand-types $$part ;; \
	    *) cat $$part ;; \
	  esac || exit 1; \
	done; } > $@.tmp
	@mv $@.tmp $@

else

all install clean:
	@echo "PostgreSQL's development files are missing: run tools/install-packages" >&2
	@exit 1

endif
