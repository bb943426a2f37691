#!/bin/sh
# Run a TypeScript file of this project with the Bun that package.json pins, installing node_modules first if need be.
#   sh scripts/with-bun.sh scripts/build.ts [ARGUMENT...]
# Needs npm (or any bun) and nothing else. Silent unless something fails.
set -eu

cd "$(dirname "$0")/.."
bun=node_modules/.bin/bun
stamp=node_modules/.package-lock.json # npm writes it last

# node_modules is complete, and not older than the lock file.
installed() {
  [ -x "$bun" ] && [ -f "$stamp" ] && [ -z "$(find package-lock.json -newer "$stamp" 2>/dev/null)" ]
}

install() {
  if command -v npm >/dev/null; then
    # Not `npm ci`: it refuses a lock file made where the registry lacks optional packages of some other platform.
    # The versions and checksums of the lock file hold here too, and it stays as it is.
    npm install --no-save --include=dev --include=optional
  elif command -v bun >/dev/null; then
    bun install --no-save && touch "$stamp"
  else
    echo "npm is not installed: apt-get install npm" && return 127
  fi
}

ensure_installed() {
  if installed; then return; fi
  if [ -L node_modules ]; then # shared with another checkout: never installed through
    if [ -x "$bun" ]; then return; fi
    echo "hutch: node_modules is a symbolic link without $bun" >&2
    return 1
  fi
  log=$(mktemp)
  if install >"$log" 2>&1 </dev/null; then
    touch "$stamp"
  else
    status=$?
    echo "hutch: could not install node_modules:" >&2
    cat "$log" >&2
    rm -f "$log"
    return "$status"
  fi
  rm -f "$log"
}

# Two at once: the second waits. The lock is held on package.json itself, so that none is left behind.
if ! installed; then
  (
    if command -v flock >/dev/null; then flock 9; fi
    ensure_installed 9<&-
  ) 9<package.json
fi

PATH="$PWD/node_modules/.bin:$PATH"
export PATH
exec "$bun" --no-env-file "$@"
