#!/usr/bin/env bash
# A restore as a team makes it: the plan lies in git, two people sign it in branches of their own, and the
# server applies what was merged and nothing else.
#
#   examples/review-workflow.sh [--keep] [--program FILE]
#
# Needs cargo (Rust 1.89), a C compiler, git, ssh-keygen, tar and sha256sum; no root, no network beyond what
# cargo fetches. It builds the program as examples/quickstart.sh does, into the same folder, then works in
# a scratch folder alone: its own home, keys and git settings; nothing outside that and target/ is touched.
# It fails where anything that must be refused is not.
# --keep leaves the scratch folder for you to look around in; otherwise it is removed at the end.
# --program FILE uses an abssctl that is built already.
set -euo pipefail

name=review-workflow needs="git ssh-keygen"
# shellcheck source=examples/scratch.bash
. "$(dirname -- "${BASH_SOURCE[0]}")/scratch.bash"
mkdir -p "$scratch/home" "$scratch/repo/plans"
export HOME=$scratch/home GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
cd "$scratch/repo"

# The exit code that a command must end with, and words that it must say; anything else ends the script.
refused() {
    local expected=$1 words=$2 code=0 output
    shift 2
    announce "$@"
    shift
    output=$("$@" 2>&1) || code=$?
    printf '%s\n(exit code %s)\n' "$output" "$code"
    [ "$code" -eq "$expected" ] || fail "NOT REFUSED: exit code $code where $expected was expected"
    [[ $(tr -s '[:space:]│' ' ' <<<"$output") == *"$words"* ]] || fail "NOT REFUSED FOR THIS: '$words' is not said"
}
# What git's author and the plan's author are from here on.
become() {
    export USER=$1
    git config user.name "$1"
    git config user.email "$1@example.org"
    printf '\n——— %s ———\n' "$1"
}

cat <<TEXT

The scratch folder holds a server (an instance 'budget', four backups) and an empty git repository.
Three people: carol plans, alice and bob review. 'abssctl' below stands for
  $program --root $root
TEXT

for person in alice bob carol; do
    ssh-keygen -q -t ed25519 -N '' -C '' -f "$HOME/$person"
    printf '%s@example.org %s\n' "$person" "$(cat "$HOME/$person.pub")" >>"$scratch/signers"
done

printf '\n——— on the server, once ———\n'
# Only root may write there: whoever can, decides who may approve.
mkdir -p "$root/etc/abssctl"
cp "$scratch/signers" "$root/etc/abssctl/allowed_signers"
printf 'requireApprovals: 2\nauthorMayApprove: false\n' >"$root/etc/abssctl/restore.yml"
step "The policy: two people must approve, and the author is none of them." cat "$root/etc/abssctl/restore.yml"
step "Who may approve with which key: the file that git knows, too." cat "$root/etc/abssctl/allowed_signers"

git init -q -b main
become carol
cp "$scratch/signers" allowed_signers
git add allowed_signers
git commit -q -m "List who may approve plans"
plan=plans/bad-import.yaml
step "A branch for the plan." git switch -q -c restore-budget
step "Plan: this reads and changes nothing." \
    abssctl plan restore --instance budget --at 2026-11-24T02:26:33Z --reason "bad import" -o "$plan"
step "A pipeline validates every plan of a branch; it needs no server for that." abssctl plan validate "$plan"
git add plans
step "The plan goes into git." git commit -q -m "Plan a restore of budget"
announce "What a pipeline posts as a comment: the plan for people." abssctl plan show "$plan" --format markdown
abssctl plan show "$plan" --format markdown >"$scratch/comment.md"
head -n 12 "$scratch/comment.md"
echo "… ($(wc -l <"$scratch/comment.md") lines)"

approve() {
    become "$1"
    step "A branch of $1's own, from the plan." git switch -q -c "approve-$1" restore-budget
    step "$1 has read the plan and signs it, beside the file." \
        abssctl plan approve "$plan" --key "$HOME/$1" --detached --yes
    git add plans
    step "The signature goes into git." git commit -q -m "Approve the restore of budget"
}
approve carol
approve alice
approve bob

become carol
git switch -q main
step "The approvals of carol and alice are merged into main." \
    git merge -q --no-ff -m "Merge two approvals" approve-carol approve-alice
refused 6 "2 approvals are needed and only alice@example.org has approved" \
    "Applied too early: one approval is too few, and carol made the plan herself." \
    abssctl apply "$plan" --yes
step "Bob's approval is merged: both signed in branches of their own, and nothing conflicts." \
    git merge -q --no-ff -m "Merge bob's approval" approve-bob
step "What is on main now." git log --oneline --graph

tampered=$scratch/tampered.yaml
sed 's/bad import/good import/' "$plan" >"$tampered"
cmp -s "$plan" "$tampered" && fail "the plan was not tampered with"
for signature in "$plan".*.sig; do
    cp "$signature" "$tampered.${signature#"$plan".}"
done
refused 6 "approved by nobody" \
    "Somebody changes the plan after the approvals, by one word: no signature is valid any more." \
    abssctl plan verify "$tampered"
[ "$(abssctl plan verify "$tampered" --json | grep -c '"valid": false')" -ge 4 ] ||
    fail "NOT REFUSED: a signature is valid for a plan that was changed"
refused 6 "2 approvals are needed and nobody has approved" "And it is not applied." \
    abssctl apply "$tampered" --yes
prove "Nothing of all that has changed the server." "$fixtures/gen-b.sha256"

printf '\n——— on the server, from main ———\n'
step "Who signed, and is it valid? By the list of the server." abssctl plan verify "$plan"
step "Would it apply here and now? (no change)" abssctl plan check "$plan"
receipt=plans/bad-import.receipt.json
step "Apply: exactly what was signed. The receipt says what was done, on whose approval." \
    abssctl apply "$plan" --yes --require-approvals 2 --receipt "$receipt"
prove "The proof: every file is the one of the good days." "$fixtures/gen-a.sha256"
step "The receipt belongs to this plan and to the journal of its run." \
    abssctl plan verify "$plan" --receipt "$receipt"
git add "$receipt"
step "It is kept beside the plan." git commit -q -m "Record the restore of budget"

copy=$scratch/copy.yaml
cp "$plan" "$copy"
for signature in "$plan".*.sig; do
    cp "$signature" "$copy.${signature#"$plan".}"
done
refused 0 "already applied by run" "Somebody applies a copy of the plan again: its approvals hold for one restore." \
    abssctl apply "$copy" --yes
refused 5 "the plan was applied before" "A check says so, too." abssctl plan check "$copy"
prove "Still as the plan left it." "$fixtures/gen-a.sha256"
[ -z "$(git status --porcelain)" ] || fail "the repository has changes that nobody committed: $(git status --short)"

printf '\nAll expectations hold. Next: docs/ci.md\n'
