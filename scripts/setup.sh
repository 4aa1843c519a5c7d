# What ./demo and ./test share: saying what happens, and installing what is missing.
# Sourced, not run.

say() { printf '\n\033[1m==> %s\033[0m\n' "$*"; }
die() { printf '\nerror: %s\n' "$*" >&2; exit 1; }

# Runs a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "needs root to run: $*
       Run that command as root, then start this script again."
    fi
}

# Installs the named Debian packages that are not there yet.
need_packages() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ "${#missing[@]}" -eq 0 ] && return
    command -v apt-get >/dev/null || die "these packages are missing and there is no apt-get to install them: ${missing[*]}
       Install what your system calls them, then start this script again."
    say "Installing Debian packages: ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# Finds cargo, or installs Debian's current one (the packages that end in -web follow upstream).
need_cargo() {
    command -v cargo >/dev/null || [ ! -f "$HOME/.cargo/env" ] || . "$HOME/.cargo/env"
    command -v cargo >/dev/null || need_packages cargo-web rustc-web rustfmt-web rust-web-clippy
    command -v cargo >/dev/null || die "cargo is installed but not on the path.
       Put the directory it is in on the path, then start this script again."
}

# Puts Patroni into an environment of its own and says in TAPFER_PATRONI where. PostgreSQL refuses to run as root, so what root
# installs must be where user postgres can read it, whoever owns this folder.
need_patroni() {
    local requirements=deploy/high-availability/requirements.txt
    TAPFER_PATRONI=$PWD/.patroni
    [ "$(id -u)" -ne 0 ] || TAPFER_PATRONI=/var/cache/tapfer/patroni
    export TAPFER_PATRONI
    cmp -s "$requirements" "$TAPFER_PATRONI/requirements.installed" && return
    say "Installing Patroni"
    rm -rf "$TAPFER_PATRONI"
    (umask 022 && /usr/bin/python3 -m venv "$TAPFER_PATRONI" \
        && "$TAPFER_PATRONI/bin/pip" install --quiet --quiet --require-virtualenv --require-hashes -r "$requirements" \
        && cp "$requirements" "$TAPFER_PATRONI/requirements.installed")
}
