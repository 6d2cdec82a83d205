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
# the command runs in the background, in a process group of its own, and is told
# to stop together with its children. At a terminal it hears Ctrl-C itself, and
# may want to go on (psql cancels a query).
run_forwarding() {
  if [ -t 0 ]; then
    trap : INT
    "$@" && status=0 || status=$?
    return
  fi
  child='' stopped=''
  trap 'stopped=yes; stop_child' INT TERM HUP
  exec 3<&0
  setsid "$@" <&3 3<&- &
  child=$!
  [ -z "$stopped" ] || stop_child
  wait "$child" && status=0 || status=$?
  # A trapped signal ends the wait, not the child.
  while kill -0 "$child" 2>/dev/null; do
    wait "$child" && status=0 || status=$?
  done
  trap 'exit 143' INT TERM HUP
  exec 3<&-
  [ -z "$stopped" ] || leave_when_all_stopped
}

# Before its first instructions the child has no process group of its own.
stop_child() {
  [ -z "$child" ] || kill -s TERM -- "-$child" 2>/dev/null ||
    kill -s TERM "$child" 2>/dev/null || :
}

# What the child started may still write to directories that are about to go.
leave_when_all_stopped() {
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    kill -s 0 -- "-$child" 2>/dev/null || break
    sleep 0.2
  done
  exit 143
}
