//! The time, in the forms that files here use, and time zones by name.

use std::sync::OnceLock;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use super::fs::Root;
use crate::ids::AbsPath;

/// How far the clocks of two machines may be apart.
pub const APART: SignedDuration = SignedDuration::from_mins(5);

/// Where a system keeps its time zones.
const ZONES: &str = "/usr/share/zoneinfo";
/// No zone takes more.
const MAX_ZONE: u64 = 1 << 20;

/// Now, in whole seconds: what plans and the peer's index carry.
pub fn now() -> Timestamp {
    truncate(Timestamp::now())
}

/// Now, as exact as the clock tells: for what is measured, and what is told apart by it.
pub fn exact() -> Timestamp {
    Timestamp::now()
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

/// A time zone by its IANA name (`Europe/Berlin`); `None` where there is none of that name.
///
/// Which names there are is part of this program, so that a file means the same on every machine; what
/// they mean comes from the system, which learns of new rules sooner, and from this program where the
/// system has none. `TZ` and `TZDIR` do not count: whoever starts the program does not choose what a
/// zone means.
pub fn zone(name: &str) -> Option<TimeZone> {
    static SYSTEM: OnceLock<Option<TimeZoneDatabase>> = OnceLock::new();
    let known = TimeZoneDatabase::bundled().get(name).ok().filter(|zone| !zone.is_unknown())?;
    let system = SYSTEM.get_or_init(|| TimeZoneDatabase::from_dir(ZONES).ok());
    Some(system.as_ref().and_then(|zones| zones.get(name).ok()).unwrap_or(known))
}

/// The zone of a machine, `/etc/localtime`; UTC where it names none. `TZ` does not count.
pub fn local_zone(root: &Root) -> TimeZone {
    let path = "/etc/localtime".parse::<AbsPath>().ok();
    let bytes = path.and_then(|path| root.read(&path, MAX_ZONE).ok().flatten());
    bytes.and_then(|bytes| TimeZone::tzif("local", &bytes).ok()).unwrap_or(TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_known_by_name_with_or_without_the_systems_own() {
        let winter: Timestamp = "2026-12-20T00:00:00Z".parse().unwrap();
        for (name, hours) in [("Europe/Berlin", 1), ("America/New_York", -5), ("UTC", 0), ("Etc/UTC", 0)] {
            let offset = jiff::tz::offset(hours);
            assert_eq!(zone(name).unwrap().to_offset(winter), offset, "{name}");
            assert_eq!(TimeZoneDatabase::bundled().get(name).unwrap().to_offset(winter), offset, "{name}");
        }
        for name in [
            "",
            "Europe/Berlim",
            "CET-1",
            "+01:00",
            "local",
            "localtime",
            "Etc/Unknown",
            "../UTC",
            "/etc/localtime",
        ] {
            assert!(zone(name).is_none(), "{name}");
        }
    }
}
