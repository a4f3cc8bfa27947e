#!/usr/bin/env bash
# Takes one sync call after the other out of the program and shows the test that notices: what each of
# them guards is not a belief. The program is built once, so that each call can be left out when it runs.
#
#   tests/power/mutations.sh            all of them, some 10 minutes; prints the table of docs/durability.md
#   tests/power/mutations.sh SITE...    some of them, named as below
#   tests/power/mutations.sh --check    only proves that the list below has every sync call of src/
#
# It works on a copy below target/mutations and changes nothing else; run again after an interruption it
# begins anew. Exit 1: a call whose absence nothing noticed, or a list that is not complete.
set -euo pipefail
cd "$(dirname -- "${BASH_SOURCE[0]}")/../.."

work=$PWD/target/mutations
copy=$work/copy

# file, function, which of its sync calls; then what it guards
sites() {
    cat <<'LIST'
src/host/fs.rs append 1              the new lines of the operations log
src/host/fs.rs append 2              the name of a log that was just begun
src/host/fs.rs begin 1               the unpacked tree before `prepare` counts as done
src/host/fs.rs create_dir 1          the name of a new directory: `runs/`, the run's own, `staging`, `displaced`
src/host/fs.rs exchange 1            the staging side of the swap, and of its undo
src/host/fs.rs exchange 2            the live side of the swap
src/host/fs.rs make_link 1           the name by which nginx reads a vhost
src/host/fs.rs remove_file 1         that name, a unit or a vhost that was taken back stays away
src/host/fs.rs remove_dir_if_empty 1 empty private folders stay away
src/host/fs.rs remove_tree 1         what was removed stays away: staging, displaced trees, marks of a backup
src/host/fs.rs rename_noreplace 1    the new name: of an archive, of the displaced tree
src/host/fs.rs rename_noreplace 2    the old name is gone: the displaced tree is not in staging too
src/host/fs.rs replace_as 1          the name of the new index, registry, sidecar
src/host/fs.rs sync_dir 1            every name there is
src/host/fs.rs sync_dir 2            the same where the handle is one for look-ups alone
src/host/fs.rs sync_filesystem 1     every tree that is put in place
src/host/fs.rs write_new 1           the bytes of index, registry, sidecar before they have their names
src/run/journal.rs append 1          each record before the act that it announces
src/run/journal.rs create 1          the names of journal and plan before the first act
src/run/journal.rs cut 1             a record that was taken back stays away before the next one is written
src/run/journal.rs keep 1            the plan's bytes and the signatures that came with it
src/run/journal.rs resume 1          a torn record stays away before the next one is written
src/steps/entries.rs like 1          mode and owner of a mount point, which is not replaced itself
src/steps/overlay.rs build 1         the copied tree before `overlay` counts as done
src/steps/prepare.rs change 1        the changes to the unpacked tree before `prepare` counts as done
src/store/local.rs remove 1          an archive that was pruned stays away once the command is done
src/store/local.rs publish 1         the archive's bytes before it has its name
LIST
}

# Lists the sync calls of src/, or makes each of them one that can be left out: see the two ends of it.
calls() {
    python3 - "$@" <<'PYTHON'
import pathlib, re, sys

CALL = re.compile(r"[\w.:]*\b(sync_all|sync_data|fsync|fdatasync|syncfs|sync_dir|sync_filesystem)\(")
FUNCTION = re.compile(r"\bfn (\w+)")

def found(path):
    """Every sync call of a file: function, which one in it, where it begins and ends."""
    text = path.read_text()
    end = text.find("#[cfg(test)]\nmod tests {")
    numbers, function, at = {}, "", 0
    for line in text[: end if end >= 0 else None].splitlines(keepends=True):
        code = line.split("//")[0]
        if named := FUNCTION.search(code):
            function = named[1]
        for call in CALL.finditer(code):
            if code[: call.start()].endswith("fn "):
                continue
            depth, stop = 1, at + call.end()
            while depth:
                depth += {"(": 1, ")": -1}.get(text[stop], 0)
                stop += 1
            numbers[function] = numbers.get(function, 0) + 1
            yield function, numbers[function], at + call.start(), stop
        at += len(line)

top = pathlib.Path(sys.argv[1])
if len(sys.argv) == 2:
    for path in sorted(top.glob("src/**/*.rs")):
        if path.name not in ("tests.rs", "testing.rs") and "tests" not in path.parts:
            for function, number, *_ in found(path):
                print(path.relative_to(top), function, number)
else:
    # Each call happens unless the file names it: one build for all of them.
    asked = sys.argv[2]
    for path in sorted(top.glob("src/**/*.rs")):
        if path.name in ("tests.rs", "testing.rs") or "tests" in path.parts:
            continue
        text = path.read_text()
        for function, number, start, stop in reversed(list(found(path))):
            call = text[start:stop]
            kind = "rustix::io" if call.startswith("rustix") else "std::io"
            site = f"{path.relative_to(top)}:{function}:{number}"
            left_out = f'if crate::left_out("{site}") {{ {kind}::Result::<()>::Ok(()) }} else {{ {call} }}'
            text = text[:start] + f"({left_out})" + text[stop:]
        path.write_text(text)
    with (top / "src/lib.rs").open("a") as lib:
        lib.write(f"""
/// Whether this sync call is left out now.
pub fn left_out(site: &str) -> bool {{
    std::fs::read_to_string("{asked}").is_ok_and(|asked| asked.trim() == site)
}}
""")
PYTHON
}

check() {
    if ! diff <(sites | awk '{ print $1, $2, $3 }' | sort) <(calls . | sort) >&2; then
        echo "tests/power/mutations.sh: '<' is listed here and not in src/, '>' is in src/ and not listed here:" \
            "add it to sites() with what it guards" >&2
        return 1
    fi
}

# Says which tests of a stage are red with the mutated program.
red() {
    ABSSCTL_TEST_BINARY=$work/build/debug/abssctl "$@" "$work/tests" --quiet strict::a 2>&1 |
        sed -n 's/^    strict::\(.*\)$/\1/p' | sort -u | paste -sd ' '
}

# Builds a program in which each call can be left out; with a small test, so that its dependencies are
# those that the tests were built with.
build() {
    rm -rf "$copy/src" && mkdir -p "$copy" && cp -a Cargo.toml Cargo.lock src schemas tests "$copy/"
    calls "$copy" "$work/left-out"
    (cd "$copy" && CARGO_TARGET_DIR=$work/build cargo test --quiet --test words --no-run 2>"$work/build.log") ||
        { cat "$work/build.log" >&2; return 2; }
}

mutate() {
    local file=$1 function=$2 number=$3 guards=$4 noticed
    echo "$file:$function:$number" >"$work/left-out"
    noticed=$(red env ABSSCTL_TEST_CRASH=rules)
    [ -n "$noticed" ] || noticed=$(red env)
    # The first one named is enough for the table.
    local count
    count=$(wc -w <<<"$noticed")
    printf '| `%s` `%s` %s | %s | %s |\n' "$file" "$function" "$number" "$guards" \
        "${noticed:+\`${noticed%% *}\`$([ "$count" -le 1 ] || echo " and $((count - 1)) more")}${noticed:-**nothing**}" |
        sed 's/\(`[a-z_]*`\( and [0-9]* more\)\{0,1\}\)[a-z_ ]* |$/\1 |/'
    [ -n "$noticed" ]
}

check
[ "${1:-}" != --check ] || exit 0
mkdir -p "$work"
cp "$(cargo test --test power --no-run --message-format=json 2>/dev/null |
    sed -n 's/.*"executable":"\([^"]*power-[^"]*\)".*/\1/p')" "$work/tests"
build
# With all of them in, nothing is red: else it would prove nothing.
echo none >"$work/left-out"
[ -z "$(red env ABSSCTL_TEST_CRASH=rules)" ]
echo '| sync call | what it guards | test that goes red without it |'
echo '| --- | --- | --- |'
status=0
while read -r file function number guards; do
    [ $# -eq 0 ] || [[ " $* " == *" $file:$function:$number "* ]] || continue
    mutate "$file" "$function" "$number" "$guards" </dev/null || status=1
done < <(sites)
exit $status
