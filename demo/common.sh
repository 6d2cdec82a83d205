# Sourced by the demonstration's scripts, which run inside tools/cluster.

work=$(mktemp -d "${TMPDIR:-/tmp}/pg_phi_demo.XXXXXX")
finished=yes
trap 'rm -rf "$work"; [ "$finished" = yes ] || echo "demo: FAILED in step $step_number"' EXIT
trap 'exit 1' INT TERM HUP
patients=$work/patients.csv
unexpected=0

if [ -t 1 ]; then
  bold=$(printf '\033[1m') red=$(printf '\033[31m') plain=$(printf '\033[0m')
else
  bold='' red='' plain=''
fi

step_number=0
step() {
  step_number=$((step_number + 1))
  printf '\n%s%d. %s%s\n' "$bold" "$step_number" "$1" "$plain"
}

say() {
  printf '   %s\n' "$@"
}

unexpected() {
  unexpected=$((unexpected + 1))
  printf '   %sUNEXPECTED: %s%s\n' "$red" "$*" "$plain"
}

# quietly user [psql option]...: no output but errors, which end everything.
quietly() {
  user=$1
  shift
  psql -qX -v ON_ERROR_STOP=1 -U "$user" -o /dev/null "$@"
}

# value sql: one value, read by the DBA.
value() {
  psql -qAtX -v ON_ERROR_STOP=1 -c "$1"
}

# show user sql...: prints the statements as that user types them and what comes
# back; leaves the output in $work/out and the errors in $work/err.
show() {
  user=$1
  shift
  for sql; do
    printf '%s\n' "$sql;" | sed "1s/^/   $user=> /; 1!s/^/   $(printf '%*s' ${#user} '')=> /; 1!s/=> /-> /"
    set -- "$@" -c "$sql"
    shift
  done
  psql -qX --csv -P null='(null)' -v VERBOSITY=verbose -U "$user" "$@" \
    >"$work/out" 2>"$work/err" </dev/null || :
  perl demo/table.pl "${cell_width:-26}" "${most_rows:-12}" <"$work/out"
  # LOCATION is for the extension's programmers.
  grep -v '^LOCATION:' "$work/err" | cut -c 1-160 | sed 's/^/    /' || :
}

# What the last shown statements must have led to.
expect_rows() {
  [ "$(wc -l <"$work/out")" -gt 1 ] || unexpected "no rows came back"
}
expect_readable() {
  expect_rows
  ! grep -q 'phi1:' "$work/out" || unexpected "ciphertext where plaintext was due"
}
expect_ciphertext() {
  expect_rows
  grep -q 'phi1:' "$work/out" || unexpected "no ciphertext to be seen"
}
expect_error() {
  grep -q "ERROR:  $1" "$work/err" || unexpected "this should have failed with $1"
}
expect_output() {
  grep -q -- "$1" "$work/out" || unexpected "the output lacks \"$1\""
}
expect_no_error() {
  [ ! -s "$work/err" ] || unexpected "this should have gone without an error"
}

clinics='app_a:hakodate app_b:boston app_c:sapporo app_d:worcester'

# load_as_each_clinic table: every clinic's application writes its own patients.
load_as_each_clinic() {
  for pair in $clinics; do
    quietly "${pair%:*}" -1 -v table="$1" \
      -c "SET phi.clinic = '${pair#*:}'" -f "$work/${pair#*:}.sql"
  done
}

set_up() {
  perl demo/prepare.pl "$work"
  quietly postgres -1 -c 'CREATE EXTENSION pg_phi'
  quietly postgres -1 -f demo/roles.sql -f demo/clinics.sql -f demo/schema.sql
}

load() {
  load_as_each_clinic patient
  quietly postgres -c 'ANALYZE patient'
}

lines_to_try() {
  sed 's/^/   /' <<'END'
SET phi.clinic = 'hakodate';
SELECT id, family, given, birth_date, diagnosis FROM patient ORDER BY id LIMIT 3;
SELECT family, count(*) FROM patient GROUP BY family ORDER BY 2 DESC LIMIT 5;
SET phi.clinic = 'boston';       -- refused: app_a was never granted it
\c - nurse_a                     -- sees names, not diagnoses
SET phi.clinic = 'hakodate';
SET phi.hidden_value = 'null';
\c - app_b                       -- the other clinic: SET phi.clinic = 'boston';
\c - postgres                    -- the DBA: ciphertext
\c - custodian                   -- SELECT phi.rotate_key('hakodate', 'identity');
\c - auditor                     -- SELECT at, login, operation, relation FROM phi.audit_log;
END
}
