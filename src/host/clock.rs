//! The time, in the forms that files here use.

use jiff::Timestamp;

/// Now, in whole seconds: what plans and the peer's index carry.
pub fn now() -> Timestamp {
    truncate(Timestamp::now())
}

/// Cuts a time to whole seconds.
pub fn truncate(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// `2026-11-24T02:26:32Z`: the peer's form in `backups.json` and ours in plans.
pub fn rfc3339(time: Timestamp) -> String {
    truncate(time).to_string()
}

/// `2026-11-24T02:26:31.816Z`: the peer's form in `operations.jsonl`.
pub fn rfc3339_millis(time: Timestamp) -> String {
    format!("{time:.3}")
}
