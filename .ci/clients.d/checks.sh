# What the checks in bash share: servers, and counting. To be sourced from the top of the repository.
work=$(mktemp -d)
passed=0
failed=0
servers=()
trap 'kill "${servers[@]}" 2> "$work/kill" || true; rm -rf "$work"' EXIT

ok() {
  passed=$((passed + 1))
  echo "ok: $1"
}

# fail NAME: what was seen is in $work/out.
fail() {
  failed=$((failed + 1))
  echo "FAILED: $1; seen:"
  cat "$work/out"
}

# expect NAME PATTERN COMMAND…: the output must match the extended regular expression.
expect() {
  local name=$1 pattern=$2
  shift 2
  "$@" > "$work/out" 2>&1 || true
  if tr '\n' ' ' < "$work/out" | grep -Eq -- "$pattern"; then
    ok "$name"
  else
    echo "does not match: $pattern" >> "$work/out"
    fail "$name"
  fi
}

# start NAME ARGUMENT…: a server on free ports. Sets $server, and as far as it listens there $address, $admin and $health.
start() {
  local log=$work/$1.log
  shift
  : > "$log"
  # Appended to, so that it may be emptied.
  target/release/depeche serve --listen 127.0.0.1:0 "$@" 2>> "$log" &
  server=$!
  servers+=("$server")
  wait_for "$log" " ready address="
  address=$(address_of "$log" ready)
  admin=$(address_of "$log" "admin listener")
  health=$(address_of "$log" "health listener")
}

address_of() { sed -n "s/.* $2 address=\([^ ]*\).*/\1/p" "$1"; }

# wait_for FILE TEXT: until the text is in the file, for ten seconds at most.
wait_for() {
  for _ in $(seq 100); do
    grep -q -- "$2" "$1" && return
    sleep 0.1
  done
  echo "FAILED: no \"$2\" in ten seconds; seen:"
  cat "$1"
  exit 1
}

# total: the last line, and whether all has passed.
total() {
  echo "$passed passed, $failed failed"
  [ "$failed" = 0 ]
}
