# Sourced by the scripts of this project: messages, and a child process that
# gets the signals its parent gets.

die() {
  echo "${0##*/}: $*" >&2
  exit 1
}

# The caller's own PGHOST, PGSERVICE or PGOPTIONS must not lead elsewhere.
forget_servers() {
  for name in $(env | sed -n 's/^\(PG[A-Z]*\)=.*/\1/p'); do
    unset "$name"
  done
}

# Prints the command that makes its arguments run as root, empty for root.
as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    return
  fi
  command -v sudo >/dev/null ||
    die "root is needed to $1, and there is no sudo: run this as root"
  # Without a terminal nobody can type a password: fail instead of waiting.
  if [ -t 0 ]; then echo sudo; else echo sudo -n; fi
}

# Runs a command to its end and sets $status. A shell that waits for a command
# in the foreground handles no signal before it ends, so away from a terminal
# the command runs in the background and is told to stop. At a terminal it
# hears Ctrl-C itself, and may want to go on (psql cancels a query).
run_forwarding() {
  if [ -t 0 ]; then
    trap : INT
    "$@" && status=0 || status=$?
    return
  fi
  exec 3<&0
  "$@" <&3 3<&- &
  child=$!
  trap 'kill -TERM "$child" 2>/dev/null' INT TERM HUP
  wait "$child" && status=0 || status=$?
  # A trapped signal ends the wait, not the child.
  while kill -0 "$child" 2>/dev/null; do
    wait "$child" && status=0 || status=$?
  done
  exec 3<&-
}
