#!/usr/bin/env bash
# A restore from plan to proof, and the way back, on a small real instance.
#
#   examples/quickstart.sh [--keep] [--program FILE]
#
# Needs cargo (Rust 1.89), a C compiler, tar and sha256sum; no root. It builds the program without any
# optimisation into target/quickstart, which takes a third of the time of an ordinary build (about two
# minutes on two cores; seconds the next time), then works in a scratch folder alone: nothing outside
# that and target/ is touched.
# --keep leaves the scratch folder for you to look around in; otherwise it is removed at the end.
# --program FILE uses an abssctl that is built already.
set -euo pipefail

name=quickstart needs=
# shellcheck source=examples/scratch.bash
. "$(dirname -- "${BASH_SOURCE[0]}")/scratch.bash"

cat <<TEXT

The scratch folder holds a server's tree as the older Python tool left it: an instance 'budget',
four backups. 'abssctl' below stands for
  $program --root $root
TEXT

step "What is here?" abssctl instance show budget
step "Which backups are there?" abssctl backup list
step "One more before we break things: the state of today." abssctl backup create budget --message "today"
today=$(abssctl backup list --instance budget --json | sed -n 's/^ *"id": "\(.*\)",$/\1/p' | head -n 1)
[ -n "$today" ] || fail "the new backup is not in the list"

# A bad import into the budget 'Household': rows that nobody wanted. Without Python, a stray file.
import='import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.executemany("INSERT INTO messages_binary VALUES (?, 0, ?)",
    [("2026-11-24T03:00:%02d.000Z-0000-8000000000000000" % n, b"junk") for n in range(30)])
db.commit()'
group=$root/srv/budget/data/user-files/group-9c8a10f0-de93-44b8-a957-beea9bec4983.sqlite
if python3 -c 'import sqlite3' 2>/dev/null; then
    printf '\n# The mishap: a bad import, 30 changes that nobody wanted.\n'
    python3 -c "$import" "$group"
else
    printf '\n# The mishap: a stray file in the data directory.\n'
    echo junk >"$root/srv/budget/data/stray.txt"
fi
(cd "$root/srv/budget" && find . -type f -exec sha256sum {} +) >"$scratch/before.sha256"

step "Plan: back to the last good backup, by its time. This reads and changes nothing." \
    abssctl plan restore --instance budget --at 2026-11-24T02:26:33Z --reason "bad import" -o restore.yml
step "Review: what would be lost, what comes back, what runs." abssctl plan show restore.yml
step "Is the document whole, are its rules kept? (no look at the machine)" abssctl plan validate restore.yml
step "Would it apply here and now? (no change)" abssctl plan check restore.yml
step "Apply: exactly this plan." abssctl apply restore.yml --yes
prove "The proof: every file is the one of the good days." "$fixtures/gen-a.sha256"
step "Again? A plan that was applied is not applied twice." abssctl apply restore.yml
step "The backup remembers its restores." abssctl backup show 20261124-022632-budget-fc166c
step "The run, and where the displaced tree is kept." abssctl run list

run=$(abssctl run list --json | sed -n 's/^ *"run": "\(.*\)",$/\1/p' | head -n 1)
[ -n "$run" ] || fail "the run is not in the list"
step "The way back: old and new directory change places once more." abssctl run rollback "$run" --yes
prove "The proof: byte for byte as it was before the restore, the mishap included." "$scratch/before.sha256"
step "And the backup of today, from before the mishap." abssctl backup restore "$today" --yes
prove "The proof." "$fixtures/gen-b.sha256"

printf '\nAll proofs hold. Next: docs/README.md\n'
