# What the examples share: their options, the program, a scratch folder with a server's tree, and telling
# what they do. Sourced, with `name` and `needs` (programs) set; works below the scratch folder and target/
# alone. Afterwards: $root, $scratch, $fixtures, $program, and the functions below.

keep='' program=''
while [ $# -gt 0 ]; do
    case $1 in
        --keep) keep=yes ;;
        --program) program=$(realpath -- "${2:?--program needs a file}"); shift ;;
        *) echo "usage: examples/$name.sh [--keep] [--program FILE]" >&2; exit 2 ;;
    esac
    shift
done

fail() { printf '\n%s: %s\n' "$name" "$1" >&2; exit 1; }

for needed in tar sha256sum $needs; do
    command -v "$needed" >/dev/null || fail "$needed is missing"
done
# Settings of this machine and of a pipeline have no place here: they name keys, folders and people.
for variable in "${!ABSSCTL_@}" "${!GIT_@}" "${!GITHUB_@}" "${!SSH_@}" CI SUDO_USER LOGNAME; do
    unset "$variable"
done

repository=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
fixtures=$repository/tests/fixtures
if [ -z "$program" ]; then
    command -v cargo >/dev/null || fail "cargo is missing; install Rust 1.89 or newer: https://rustup.rs"
    target=${CARGO_TARGET_DIR:-$repository/target}/quickstart
    echo "Building abssctl (about two minutes the first time) ..."
    (cd "$repository" && cargo build --quiet --locked --bin abssctl --target-dir "$target" \
        --config 'profile.dev.debug=false' --config 'profile.dev.package."*".opt-level=0') ||
        fail "the program could not be built"
    program=$(realpath -- "$target/debug/abssctl")
fi
[ -x "$program" ] || fail "the program is not at $program"

scratch=$(mktemp -d "${TMPDIR:-/tmp}/abssctl-$name.XXXXXX")
root=$scratch/root
clean() {
    if [ -n "$keep" ]; then
        printf '\nKept: %s\n  go on with: %s --root %s …\n' "$scratch" "$program" "$root"
    else
        rm -rf -- "$scratch"
    fi
}
trap clean EXIT
mkdir -p "$root"
tar -xpf "$fixtures/budget-root.tar.gz" -C "$root"
cd "$scratch"

abssctl() { "$program" --root "$root" "$@"; }
# One line of explanation and the command as one would type it.
announce() {
    printf '\n# %s\n$' "$1"
    shift
    local word
    for word; do
        case $word in
            *[' *']*) printf ' "%s"' "$word" ;;
            *) printf ' %s' "$word" ;;
        esac
    done
    printf '\n'
}
# The same, and what the command says.
step() {
    announce "$@"
    shift
    "$@" 2>&1
}
# The instance's files against a list of digests: those files, and no others.
prove() {
    printf '\n# %s\n$ cd /srv/budget && sha256sum -c %s\n' "$1" "${2##*/}"
    (cd "$root/srv/budget" && sha256sum -c "$2") || fail "PROOF FAILED: the files are not those of ${2##*/}"
    local files listed
    files=$(find "$root/srv/budget" -type f | wc -l)
    listed=$(wc -l <"$2")
    [ "$files" -eq "$listed" ] || fail "PROOF FAILED: $files files are there, ${2##*/} lists $listed"
}
