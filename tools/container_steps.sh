#!/usr/bin/env bash
# The steps of the Dockerfile, and a way to try them without an engine:
#   container_steps.sh dependencies PREFIX   a virtual environment with everything pinned by hash
#   container_steps.sh project PREFIX        the project's wheel into it
#   container_steps.sh check                 both in a scratch folder, in the Dockerfile's order and with only the files it copies,
#                                            then the result as user 10001 on a read-only file system (needs root on Linux)
set -euo pipefail

python=${PYTHON:-python3}
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

say() { printf '%s\n' "container-check: $*"; }
fail() { say "$*" >&2; exit 1; }

dependencies() {
  "$python" -m venv "$1"
  "$1/bin/python" -m pip install --quiet --only-binary :all: --require-hashes -r requirements/container.txt
}

project() {
  local builder="$1.builder"
  "$python" -m venv "$builder"
  "$builder/bin/python" -m pip install --quiet --require-hashes -r requirements/build.txt
  "$builder/bin/python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$builder/wheel" .
  "$1/bin/python" -m pip install --quiet --no-deps "$builder"/wheel/*.whl
  "$1/bin/python" -m pip check
  "$1/bin/python" -m pip uninstall --quiet --yes pip
  rm -rf "$builder"
}

as_user() { setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs -- "$@"; }

# Runs the builder stage of the Dockerfile: COPY becomes cp, RUN runs with the prefix in the scratch folder.
build_as_written() {
  local word rest stage=0 sources source target
  while read -r word rest; do
    case $word in
      FROM) stage=$((stage + 1)); [ "$stage" = 1 ] || break ;;
      COPY)
        read -r -a sources <<<"$rest"
        target=${sources[-1]}
        unset 'sources[-1]'
        mkdir -p "$1/src/$(dirname "$target/.")"
        for source in "${sources[@]}"; do
          grep -qxF -e "!$source" -e "!${source%%/*}" .dockerignore || fail "$source is copied but .dockerignore hides it"
          if [ -d "$source" ]; then cp -R "$source/." "$1/src/$target/"; else cp "$source" "$1/src/$target/"; fi
        done ;;
      RUN)
        say "$rest"
        read -r -a sources <<<"${rest//\/opt\/lockboard/$1/lockboard}"
        (cd "$1/src" && PYTHON=$python "${sources[@]}") ;;
    esac
  done <Dockerfile
}

check() {
  cd "$(dirname "$0")/.."
  [ "$(id -u)" = 0 ] || fail "becoming another user needs root"
  as_user "$python" -c '' 2>/dev/null || python=/usr/bin/python3
  as_user "$python" -c '' || fail "another user cannot run $python; say PYTHON=..."
  python=$(command -v "$python")

  scratch=$(mktemp -d /var/tmp/lockboard-container.XXXXXX)
  trap 'rm -rf "$scratch"' EXIT
  chmod 755 "$scratch"
  build_as_written "$scratch"
  install -d -o 10001 -g 10001 -m 0700 "$scratch/data"
  install -m 0644 tools/serve_smoke.py "$scratch/serve_smoke.py"

  say "as user 10001, read-only but for /tmp and the data folder"
  export scratch python
  export -f as_user
  unshare --mount --propagation private bash -euo pipefail -c '
    mount -t tmpfs -o mode=1777 tmpfs /tmp
    mount -t tmpfs -o mode=0700,uid=10001,gid=10001 tmpfs "$scratch/data"
    mount -o remount,bind,ro /
    cd "$scratch/data"
    clean=(env -i "PATH=$scratch/lockboard/bin:/usr/bin:/bin" PYTHONDONTWRITEBYTECODE=1 HOME=/nonexistent)
    if as_user touch "$scratch/lockboard/x" 2>/dev/null; then echo "the program folder can be written" >&2; exit 1; fi
    as_user "${clean[@]}" lockboard --version
    as_user "${clean[@]}" "$python" -I "$scratch/serve_smoke.py" "$scratch/lockboard/bin/lockboard" "$scratch/data"
  '
  say "ok"
}

case ${1:-} in
  dependencies | project) [ $# = 2 ] || fail "usage: $0 $1 PREFIX"; "$1" "$2" ;;
  check) check ;;
  *) fail "usage: $0 dependencies PREFIX | project PREFIX | check" ;;
esac
