# Sourced by the other scripts: installs what a fresh Debian or Ubuntu machine lacks, or says exactly what to install.

need_cargo() {
    if ! command -v cargo >/dev/null 2>&1 && [ -x "$HOME/.cargo/bin/cargo" ]; then
        PATH="$HOME/.cargo/bin:$PATH"
    fi
    if ! command -v cargo >/dev/null 2>&1; then
        echo "Rust is missing: install it from https://rustup.rs (1.89 or newer)" >&2
        exit 2
    fi
}

# need_packages PACKAGE...: installs those that are missing, where there is the right to.
need_packages() {
    missing=""
    for package in "$@"; do
        dpkg -s "$package" >/dev/null 2>&1 || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "this is no Debian or Ubuntu: please install what corresponds to:$missing" >&2
        return 0
    fi
    if [ "$(id -u)" = 0 ]; then
        root=""
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        root="sudo"
    else
        echo "please run once: sudo apt-get update && sudo apt-get install -y$missing" >&2
        exit 2
    fi
    echo "installing$missing" >&2
    $root apt-get update -qq >&2
    # shellcheck disable=SC2086
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $missing >&2
}
