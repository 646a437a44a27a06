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
    # shellcheck disable=SC2086
    [ -z "$missing" ] || install_packages $missing
}

# install_packages [-t SUITE] PACKAGE...: installs them or a newer version of them, or says what to run.
install_packages() {
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "this is no Debian or Ubuntu: please install what corresponds to: $*" >&2
        return 0
    fi
    if [ "$(id -u)" = 0 ]; then
        root=""
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        root="sudo"
    else
        echo "please run once: sudo apt-get update && sudo apt-get install -y $*" >&2
        exit 2
    fi
    echo "installing $*" >&2
    $root apt-get update -qq >&2
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "$@" >&2
}

# need_vulkan: the Vulkan loader and Mesa's drivers, one of which (lavapipe) runs the GPU tests on the CPU where there is no card.
# On Debian 12 its own Mesa, 22.3, takes 5 to 19 times as long for them as that of its backports. Those are taken where apt has
# them among its sources, and added to the sources in CI only. A driver that is there already is replaced for root only.
need_vulkan() {
    if is_debian_12; then
        if [ -n "${CI:-}" ] && [ "$(id -u)" = 0 ] && ! has_backports; then
            echo "adding bookworm-backports to the sources of apt" >&2
            printf '%s\n' 'Types: deb' 'URIs: http://deb.debian.org/debian' 'Suites: bookworm-backports' 'Components: main' \
                'Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg' >/etc/apt/sources.list.d/bookworm-backports.sources
        fi
        mesa=$(dpkg-query -W -f '${Version}' mesa-vulkan-drivers 2>/dev/null || true)
        if has_backports && { [ -z "$mesa" ] || { is_old_mesa "$mesa" && [ "$(id -u)" = 0 ]; }; }; then
            install_packages -t bookworm-backports mesa-vulkan-drivers libdrm2 libdrm-amdgpu1
        fi
    fi
    need_packages libvulkan1 mesa-vulkan-drivers
    if is_debian_12 && is_old_mesa "$(dpkg-query -W -f '${Version}' mesa-vulkan-drivers)"; then
        echo "without a card the GPU tests are slow on Debian 12's Mesa: better take mesa-vulkan-drivers of bookworm-backports" >&2
    fi
}

is_debian_12() {
    [ -r /etc/os-release ] && [ "$(. /etc/os-release && echo "$ID ${VERSION_ID:-}")" = "debian 12" ]
}

# Whether apt has bookworm-backports among its sources; their lists may not be here yet.
has_backports() {
    [ "$(apt-get indextargets --no-release-info --format '$(RELEASE)' | grep -cx bookworm-backports)" -gt 0 ]
}

is_old_mesa() {
    case "$1" in 22.*) ;; *) return 1 ;; esac
}
