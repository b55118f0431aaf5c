# Sourced by the scripts beside it: packages, the build and what is installed. They set $root (the source tree), $program (their name, for messages)
# and $install (yes, or no: never install anything).
# shellcheck shell=bash disable=SC2154

say() { printf '%s: %s\n' "$program" "$*" >&2; }
die() {
  say "$*"
  exit 1
}

# packages_for NEED...: the names in deploy/packages.txt with one of these needs.
packages_for() {
  awk -v needs=" $* " '!/^#/ && NF && index(needs, " " $2 " ") { print $1 }' "$root/deploy/packages.txt"
}

missing_packages() {
  local package
  for package in $(packages_for "$@"); do
    case "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" in
      installed) ;;
      *) printf '%s\n' "$package" ;;
    esac
  done
}

# install_packages NEED...: installs by apt what is missing. Asks for a password only when someone can type it, and says so first.
install_packages() {
  command -v dpkg-query >/dev/null || {
    say "this is no Debian: nothing is installed; if the build fails, deploy/packages.txt says what is needed"
    return 0
  }
  local missing
  mapfile -t missing < <(missing_packages "$@")
  [ ${#missing[@]} -eq 0 ] && return 0
  local command="apt-get install -y --no-install-recommends ${missing[*]}"
  [ "${install:-yes}" = yes ] || die "these packages are missing: ${missing[*]}. Install them: $command"
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "packages are missing and there is no sudo; as root, run: $command"
    if sudo -n true 2>/dev/null; then
      as_root=(sudo -n)
    elif [ -t 0 ] && [ -t 2 ]; then
      say "these packages are missing: ${missing[*]}. sudo may ask for your password, for apt-get alone."
      as_root=(sudo)
    else
      die "packages are missing and sudo would need a password; run: sudo $command"
    fi
  fi
  say "installing ${missing[*]}"
  # A fresh image has no lists, and old ones name packages that the mirrors have dropped.
  "${as_root[@]}" apt-get update -qq >&2 || say "apt-get update failed; trying with the lists that are there"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 \
    install -y -qq --no-install-recommends "${missing[@]}" >&2 </dev/null ||
    die "apt-get could not install: ${missing[*]} (its message stands above); is this Debian 12, with network?"
}

# Compilers at once: one for each processor, as far as memory goes (a file takes up to 1 GiB).
jobs() {
  local processors memory
  processors=$(nproc)
  memory=$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo)
  [ "$memory" -lt 1 ] && memory=1
  [ "$processors" -lt "$memory" ] && echo "$processors" || echo "$memory"
}

# The build folder exists and is ours to write, with what an earlier build left there.
check_build_folder() {
  local folder
  mkdir -p "$root/build" 2>/dev/null || true
  for folder in "$root/build" "$root"/build/{release,debug,asan,tsan,fuzz}; do
    [ ! -e "$folder" ] || [ -w "$folder" ] || die "$folder belongs to $(stat -c %U "$folder"): run this as that user, or remove the folder"
  done
  [ -d "$root/build" ] || die "$root/build cannot be made: run this in a tree of your own"
}

# configure PRESET [ARGUMENT...]: only when there is something to do. Quiet unless it fails.
configure() {
  local preset=$1 folder="$root/build/$1" output wanted
  shift
  # The folder's path too: a tree that was moved or copied must be configured anew.
  wanted="$root $*"
  if [ -f "$folder/build.ninja" ] && [ "$folder/build.ninja" -nt "$root/CMakePresets.json" ] &&
    [ "$(cat "$folder/configured" 2>/dev/null)" = "$wanted" ]; then
    return 0
  fi
  local fresh=()
  [ -f "$folder/CMakeCache.txt" ] && ! grep -q "^CMAKE_HOME_DIRECTORY:INTERNAL=$root\$" "$folder/CMakeCache.txt" && fresh=(--fresh)
  output=$(cd "$root" && cmake --preset "$preset" "${fresh[@]}" "$@" 2>&1) || {
    printf '%s\n' "$output" >&2
    return 1
  }
  printf '%s\n' "$wanted" >"$folder/configured"
}

programs=(bulkhead bulkhead-controller bulkhead-keyholder bulkhead-acceptor bulkhead-maintainer bulkhead-conn)

# build_programs: into build/release/bin.
build_programs() {
  # Tests that deploy/test has configured stay configured; they are not built here.
  local tests=OFF log="$root/build/release/run.log"
  grep -qs '^BULKHEAD_TESTS:BOOL=ON' "$root/build/release/CMakeCache.txt" && tests=ON
  configure release "-DBULKHEAD_TESTS=$tests" || die "the build could not be configured; the reason stands above"
  [ -x "$root/build/release/bin/bulkhead" ] || say "building into build/release (the first time takes a few minutes)"
  cmake --build "$root/build/release" -j "$(jobs)" --target "${programs[@]}" >"$log" 2>&1 && return 0
  grep -E -A 12 'error|FAILED' "$log" | awk 'NR <= 60' >&2 || tail -30 "$log" >&2
  die "the build failed; all of it stands in $log"
}

# stage_programs FOLDER: what `cmake --install` puts under /usr/local, stripped, into FOLDER, which is made anew.
stage_programs() {
  rm -rf "$1"
  DESTDIR=$1 cmake --install "$root/build/release" --prefix /usr/local --strip >"$root/build/release/install.log" 2>&1 ||
    die "the programs could not be installed into $1: $root/build/release/install.log"
}

# Of the scripts that test: one line for each check, "ok NAME" or "not ok NAME" with what it printed below. Exit status 77 of
# such a script means that nothing was tested, for the reason on its last line.
checks_failed=0
# try NAME COMMAND...
try() {
  local name=$1 output begin=$SECONDS
  shift
  if output=$("$@" 2>&1 </dev/null); then
    printf 'ok %s (%d s)\n' "$name" $((SECONDS - begin))
    return 0
  fi
  printf 'not ok %s (%d s)\n%s\n' "$name" $((SECONDS - begin)) "$(tail -n 40 <<<"$output" | sed 's/^/    /')"
  checks_failed=$((checks_failed + 1))
  return 1
}
cannot() {
  printf 'skipped: %s\n' "$*"
  exit 77
}
# until_true SECONDS COMMAND...: asks until the command succeeds; false when the time is over.
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.2
  done
}
# json EXPRESSION COMMAND...: true when the expression of Python, of the JSON `it` that the command prints, is.
json() {
  local expression=$1 answer
  shift
  answer=$("$@") || return 1
  python3 -c 'import json, sys
it = json.loads(sys.argv[1])
sys.exit(0 if eval("(" + sys.argv[2] + ")") else (print(json.dumps(it, indent=1)) or 1))' "$answer" "$expression"
}
# remove_control_groups PATH...: of processes that have ended, with those below; waits for the last of them.
remove_control_groups() {
  local turn
  for turn in {1..25}; do
    find "$@" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    find "$@" -maxdepth 0 2>/dev/null | grep -q . || return 0
    sleep 0.2
  done
}
