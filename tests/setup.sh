# What `demo` and `tests/run` share: packages that are missing are installed, a daemon that is missing is started, and
# stopped again at the end. To be sourced by a bash script with `set -euo pipefail`.

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# at_exit FUNCTION: calls it when the script ends, however it ends; the last one given comes first.
at_exit() {
    exit_functions="$1 ${exit_functions:-}"
    trap run_exit_functions EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
}

run_exit_functions() {
    local status=$? function
    trap '' INT TERM HUP
    for function in $exit_functions; do $function || true; done
    exit $status
}

# begin_phases: the seconds of each `phase NAME COMMAND...` from here on are told when the script ends, with the slowest
# tests; where another script has begun them, by that one.
begin_phases() {
    [ -z "${SLIM_PHASES:-}" ] || return 0
    SLIM_PHASES=$(mktemp -t slim-phases.XXXXXX) SLIM_TEST_TIMES=$(mktemp -t slim-times.XXXXXX)
    export SLIM_PHASES SLIM_TEST_TIMES
    at_exit tell_phases
}

phase() {
    local name=$1 begun=$SECONDS
    shift
    "$@"
    printf '%5d s  %s\n' $((SECONDS - begun)) "$name" >>"$SLIM_PHASES"
}

tell_phases() {
    say
    say "the ten slowest tests:"
    sort -rn "$SLIM_TEST_TIMES" | head -n 10 | sed 's/ / s  /; s/^/  /' >&2
    say "phases:"
    cat "$SLIM_PHASES" >&2
    printf '%5d s  %s\n' $SECONDS 'all of it' >&2
    awk '$1 > 60 { print "over 60 s: " $2 }' "$SLIM_TEST_TIMES" >&2
    [ $SECONDS -le 900 ] || say "over 15 minutes: the whole run"
    rm -f "$SLIM_PHASES" "$SLIM_TEST_TIMES"
}

is_root() { [ "$(id -u)" = 0 ]; }

# need WHAT=PACKAGE...: installs the packages of which WHAT, a program or an absolute path, isn't there.
need() {
    local pair what packages=()
    for pair; do
        what=${pair%%=*}
        case $what in
        /*) [ -e "$what" ] ;;
        *) command -v "$what" >/dev/null ;;
        esac || packages+=("${pair#*=}")
    done
    [ ${#packages[@]} -eq 0 ] || install_packages "${packages[@]}"
    hash -r
}

install_packages() {
    command -v apt-get >/dev/null || die "missing on this machine, which has no apt-get: $*"
    is_root || die "missing: $*; install it, or run this as root"
    say "installing $*"
    local install=(apt-get install -y -q --no-install-recommends "$@")
    export DEBIAN_FRONTEND=noninteractive
    # Package lists may be missing, or older than what the mirror still has.
    "${install[@]}" >&2 || { apt-get update -q >&2 && "${install[@]}" >&2; } || die "apt-get cannot install $*"
}

need_rust() {
    command -v cargo >/dev/null || die "cargo is missing: install Rust 1.95 or newer, see https://rustup.rs"
    need cc=gcc /usr/include/stdlib.h=libc6-dev
}

# What the daemons of the tests need; they come with their own programs.
need_for_engines() {
    need mmdebstrap=mmdebstrap /usr/share/keyrings/debian-archive-keyring.gpg=debian-archive-keyring unshare=util-linux \
        setpriv=util-linux nsenter=util-linux ip=iproute2 curl=curl docker-registry=docker-registry skopeo=skopeo \
        /bin/busybox=busybox-static
}

# Where no Docker daemon answers: starts one of the newest that Debian has, as a new installation has it (its images in
# containerd), unpacked and not installed. It is stopped when the script ends, however it ends.
need_docker() {
    if docker version >/dev/null 2>&1; then return; fi
    local host=${DOCKER_HOST:-unix:///var/run/docker.sock}
    [ "$host" = unix:///var/run/docker.sock ] ||
        die "no Docker daemon answers at DOCKER_HOST=$host: start it, or unset DOCKER_HOST"
    is_root || die "no Docker daemon answers at $host: start it, or run this as root"
    need_for_engines
    tests/engines/unpack forky
    # The client that belongs to it: an older one may not speak to it.
    PATH=$PWD/tests/engines/bin:$PATH
    daemon_folder=$(mktemp -d -t slim-dockerd.XXXXXX)
    say "starting a Docker daemon at $host, its log is $daemon_folder/log"
    # In a session of its own, so that Ctrl-C ends the daemon last, after what uses it.
    SLIM_TEST_MACHINE=1 setsid tests/engines/start "$daemon_folder" forky docker-containerd </dev/null >"$daemon_folder/log" 2>&1 &
    daemon_pid=$!
    at_exit stop_daemon
    local deadline=$((SECONDS + 60))
    until docker version >/dev/null 2>&1; do
        if ! kill -0 "$daemon_pid" 2>/dev/null || [ $SECONDS -gt $deadline ]; then
            tail -n 20 "$daemon_folder/log" >&2
            die "the Docker daemon does not start: its log, $daemon_folder/log, ends as above"
        fi
        sleep 0.2
    done
}

stop_daemon() {
    say "stopping the Docker daemon that was started"
    kill "$daemon_pid" 2>/dev/null || true
    wait "$daemon_pid" || true
    rm -rf "$daemon_folder/data"
    [ "$status" -ne 0 ] || rm -rf "$daemon_folder"
}
