# Steps that tell what they are doing, and that say which failed, on which machine, and what to do. Sourced.
set -eu
export DEBIAN_FRONTEND=noninteractive

# step NAME REMEDY COMMAND...: run it; its output is shown only when it fails.
step() {
  name=$1 remedy=$2
  shift 2
  started=$(date +%s)
  log=$(mktemp)
  # In the background, because a command that is a condition goes on after its first failure.
  ("$@") >"$log" 2>&1 </dev/null &
  if wait $!; then
    printf '✓ %s: %s (%s s)\n' "$PODWIRE_MACHINE" "$name" "$(($(date +%s) - started))"
    rm -f "$log"
    return
  else
    status=$?
  fi
  printf '✗ %s: step "%s" failed with status %s; the end of what it said:\n' "$PODWIRE_MACHINE" "$name" "$status" >&2
  tail -n 20 "$log" | sed 's/^/    /' >&2
  printf '  What to do: %s Then: vagrant provision %s\n' "$remedy" "$PODWIRE_MACHINE" >&2
  rm -f "$log"
  exit 1
}

# write FILE: make its content what stands on standard input; succeed when that changed it.
write() {
  draft=$(mktemp)
  cat >"$draft"
  if cmp -s "$draft" "$1"; then rm -f "$draft"; return 1; fi
  install -D -m 644 "$draft" "$1"
  rm -f "$draft"
}

# Ten minutes are for emulated machines; elsewhere these take seconds.
await_answer() {
  for _ in $(seq 300); do
    if curl --silent --insecure --fail --max-time 30 --output /dev/null "$1"; then return; fi
    sleep 2
  done
  echo "no answer from $1"
  return 1
}

await_ready_node() {
  kubectl wait --for=create "node/$PODWIRE_MACHINE" --timeout=600s
  kubectl wait --for=condition=Ready "node/$PODWIRE_MACHINE" --timeout=600s
}
