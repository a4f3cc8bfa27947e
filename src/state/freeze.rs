//! Times at which nothing may be restored: once, from one time to another, or every week on some days.
//! Each is written in local time with the name of its zone. Pure.
//!
//! `from` is included, `until` is not. A local time that a change of the clocks skips means the moment
//! of the change; one that comes twice means the first for `from` and the second for `until`, so that a
//! freeze never ends early.

use std::fmt;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone};
use serde::{Deserialize, Serialize};

use super::rules::{AnyOf, given};
use crate::host::clock;

/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Day {
    fn of(date: Date) -> Self {
        use jiff::civil::Weekday;
        match date.weekday() {
            Weekday::Monday => Day::Mon,
            Weekday::Tuesday => Day::Tue,
            Weekday::Wednesday => Day::Wed,
            Weekday::Thursday => Day::Thu,
            Weekday::Friday => Day::Fri,
            Weekday::Saturday => Day::Sat,
            Weekday::Sunday => Day::Sun,
        }
    }
}

/// When.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Window {
    /// From one time to another.
    Once { from: DateTime, until: DateTime },
    /// On each of these days from one minute of the day to another; into the next day where that is not
    /// later.
    Weekly { days: Option<AnyOf<Day>>, from: u16, until: u16 },
}

/// A time at which nothing may be restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Freeze {
    window: Window,
    zone: TimeZone,
    written: Written,
}

/// A freeze as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Written {
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    days: Option<AnyOf<Day>>,
    from: String,
    until: String,
    zone: String,
    #[serde(default, deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

impl From<Freeze> for Written {
    fn from(freeze: Freeze) -> Self {
        freeze.written
    }
}

impl Written {
    fn window(&self) -> Result<Window, String> {
        let Self { days, from, until, .. } = self;
        let (shown_from, shown_until) = (from.escape_debug(), until.escape_debug());
        let no_time = format!("until: '{shown_until}' is no time like 2027-01-02T06:00, as 'from' is");
        let no_minute = format!("until: '{shown_until}' is no time of day like 18:00 or 24:00, as 'from' is");
        match (time(from), minute(from).filter(|from| *from < DAY)) {
            (Some(_), _) if days.is_some() => {
                Err("from: days have a time of day here, as 08:00, and no date".to_owned())
            }
            (Some(from), _) => {
                let until = time(until).ok_or(no_time)?;
                if until <= from { Err(NOT_AFTER.to_owned()) } else { Ok(Window::Once { from, until }) }
            }
            (None, Some(from)) => {
                let until = minute(until).ok_or(no_minute)?;
                let days = days.clone();
                if until == from { Err(SAME.to_owned()) } else { Ok(Window::Weekly { days, from, until }) }
            }
            (None, None) => Err(format!("from: '{shown_from}' is no time like 2026-12-20T00:00 or 08:00")),
        }
    }
}

const NOT_AFTER: &str = "until: it is not after 'from'";
const SAME: &str = "until: it is 'from' itself; a whole day is from 00:00 until 24:00";

impl TryFrom<Written> for Freeze {
    type Error = String;
    fn try_from(written: Written) -> Result<Self, String> {
        let zone = clock::zone(&written.zone).ok_or_else(|| {
            let shown = written.zone.escape_debug();
            format!("zone: '{shown}' is no time zone; write its name, as Europe/Berlin or UTC")
        })?;
        if written.why.as_ref().is_some_and(|why| why.chars().any(char::is_control) || why.len() > 200) {
            return Err("why: it has control characters, or more than 200 bytes".to_owned());
        }
        let freeze = Self { window: written.window()?, zone, written };
        match freeze.window {
            // No freeze that can be written is one that never holds.
            Window::Once { from, until } if freeze.first(from).is_none() || freeze.last(until).is_none() => {
                Err("until: no such time can be told in UTC; years end at 9999".to_owned())
            }
            Window::Once { .. } | Window::Weekly { .. } => Ok(freeze),
        }
    }
}

/// Whether a text has the shape of a pattern in which `0` stands for a digit.
fn like(text: &str, pattern: &str) -> bool {
    text.len() == pattern.len()
        && text.bytes().zip(pattern.bytes()).all(|(found, wanted)| match wanted {
            b'0' => found.is_ascii_digit(),
            other => found == other,
        })
}

/// `2026-12-20T00:00`.
fn time(text: &str) -> Option<DateTime> {
    like(text, "0000-00-00T00:00").then(|| text.parse().ok()).flatten()
}

/// `08:00`, to `24:00`, as minutes.
fn minute(text: &str) -> Option<u16> {
    if !like(text, "00:00") {
        return None;
    }
    let (hours, minutes) = (text[..2].parse::<u16>().ok()?, text[3..].parse::<u16>().ok()?);
    let all = hours * 60 + minutes;
    (minutes < 60 && all <= DAY).then_some(all)
}

impl Freeze {
    /// When it ends, where it holds now.
    pub fn ends(&self, now: Timestamp) -> Option<Timestamp> {
        let holds = |(from, until): (Timestamp, Timestamp)| (from <= now && now < until).then_some(until);
        match &self.window {
            Window::Once { from, until } => holds((self.first(*from)?, self.last(*until)?)),
            Window::Weekly { days, from, until } => {
                let today = self.zone.to_datetime(now).date();
                // One that began yesterday may still hold; one more where the clocks skip a day.
                let began = std::iter::successors(Some(today), |day| day.yesterday().ok()).take(3);
                began
                    .filter(|day| days.as_ref().is_none_or(|days| days.has(&Day::of(*day))))
                    .filter_map(|day| self.of_day(day, *from, *until))
                    .filter_map(holds)
                    .max()
            }
        }
    }

    /// The window that begins on this day.
    fn of_day(&self, day: Date, from: u16, until: u16) -> Option<(Timestamp, Timestamp)> {
        let last = if until > from { day } else { day.tomorrow().ok()? };
        Some((self.first(at(day, from)?)?, self.last(at(last, until)?)?))
    }

    fn first(&self, time: DateTime) -> Option<Timestamp> {
        let found = self.zone.to_ambiguous_timestamp(time);
        match found.offset() {
            AmbiguousOffset::Gap { .. } => self.change(time),
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => found.earlier().ok(),
        }
    }

    fn last(&self, time: DateTime) -> Option<Timestamp> {
        let found = self.zone.to_ambiguous_timestamp(time);
        match found.offset() {
            AmbiguousOffset::Gap { .. } => self.change(time),
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => found.later().ok(),
        }
    }

    /// The moment at which the clocks skip this time.
    fn change(&self, skipped: DateTime) -> Option<Timestamp> {
        let before = self.zone.to_ambiguous_timestamp(skipped).earlier().ok()?;
        self.zone.following(before).next().map(|change| change.timestamp())
    }

    /// A time as the freeze's own zone has it: `2027-01-02T06:00 Europe/Berlin`.
    pub fn local(&self, time: Timestamp) -> String {
        let local = self.zone.to_datetime(time);
        format!("{} {}", local.strftime("%Y-%m-%dT%H:%M"), self.written.zone)
    }

    /// Why, in the words of the file.
    pub fn why(&self) -> Option<&str> {
        self.written.why.as_deref()
    }
}

/// A minute of a day.
fn at(day: Date, minute: u16) -> Option<DateTime> {
    if minute == DAY {
        return Some(day.tomorrow().ok()?.at(0, 0, 0, 0));
    }
    let (hour, minute) = (i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?);
    Some(day.at(hour, minute, 0, 0))
}

impl fmt::Display for Freeze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Written { days, from, until, zone, why } = &self.written;
        if let Some(days) = days {
            let days: Vec<String> = days.all().iter().map(|day| format!("{day:?}").to_lowercase()).collect();
            write!(f, "{} ", days.join(","))?;
        } else if matches!(self.window, Window::Weekly { .. }) {
            f.write_str("every day ")?;
        }
        write!(f, "{from} to {until} {zone}")?;
        why.as_ref().map_or(Ok(()), |why| write!(f, " ({why})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::yaml;

    fn freeze(text: &str) -> Freeze {
        yaml::from_str(text).unwrap()
    }

    /// When it ends, for each time.
    fn table(text: &str, rows: &[(&str, Option<&str>)]) {
        let freeze = freeze(text);
        for (now, ends) in rows {
            let ends = ends.map(|ends| ends.parse::<Timestamp>().unwrap());
            assert_eq!(freeze.ends(now.parse().unwrap()), ends, "{text} at {now}");
        }
    }

    #[test]
    fn once_from_is_included_and_until_is_not() {
        let end = Some("2027-01-02T05:00:00Z");
        table(
            "{from: 2026-12-20T00:00, until: 2027-01-02T06:00, zone: Europe/Berlin, why: year end}",
            &[
                ("2026-12-19T22:59:59Z", None),
                ("2026-12-19T23:00:00Z", end),
                ("2027-01-02T04:59:59Z", end),
                ("2027-01-02T05:00:00Z", None),
            ],
        );
    }

    #[test]
    fn weekly_on_its_days_alone() {
        let end = Some("2026-11-24T17:00:00Z");
        table(
            "{days: [mon, tue, wed, thu, fri], from: '08:00', until: '18:00', zone: Europe/Berlin}",
            &[
                ("2026-11-24T06:59:59Z", None),
                ("2026-11-24T07:00:00Z", end),
                ("2026-11-24T16:59:59Z", end),
                ("2026-11-24T17:00:00Z", None),
                ("2026-11-28T12:00:00Z", None), // a Saturday
                ("2026-07-24T06:00:00Z", Some("2026-07-24T16:00:00Z")), // in summer
            ],
        );
    }

    #[test]
    fn over_midnight_it_belongs_to_the_day_on_which_it_begins() {
        let end = Some("2026-11-28T05:00:00Z");
        table(
            "{days: [fri], from: '22:00', until: '06:00', zone: Europe/Berlin}",
            &[
                ("2026-11-27T04:00:00Z", None), // Friday morning belongs to Thursday
                ("2026-11-27T20:59:59Z", None),
                ("2026-11-27T21:00:00Z", end),
                ("2026-11-27T23:30:00Z", end),
                ("2026-11-28T04:59:59Z", end),
                ("2026-11-28T05:00:00Z", None),
                ("2026-11-28T22:00:00Z", None),
            ],
        );
        // The days are those of the zone, not of UTC: there it is still Thursday.
        table(
            "{days: [fri], from: '08:00', until: '10:00', zone: Pacific/Auckland}",
            &[("2026-11-26T19:30:00Z", Some("2026-11-26T21:00:00Z")), ("2026-11-27T19:30:00Z", None)],
        );
    }

    #[test]
    fn every_day_and_whole_days() {
        table(
            "{from: '00:00', until: '24:00', zone: UTC, days: [sun]}",
            &[
                ("2026-11-28T23:59:59Z", None),
                ("2026-11-29T00:00:00Z", Some("2026-11-30T00:00:00Z")),
                ("2026-11-30T00:00:00Z", None),
            ],
        );
        table(
            "{from: '23:00', until: '01:00', zone: UTC}",
            &[
                ("2026-11-29T00:30:00Z", Some("2026-11-29T01:00:00Z")),
                ("2026-11-29T23:00:00Z", Some("2026-11-30T01:00:00Z")),
                ("2026-11-29T12:00:00Z", None),
            ],
        );
        // Until 00:00 is until the end of the day.
        table(
            "{from: '20:00', until: '00:00', zone: UTC}",
            &[("2026-11-29T23:59:59Z", Some("2026-11-30T00:00:00Z"))],
        );
    }

    #[test]
    fn a_time_that_the_clocks_skip_is_the_moment_of_the_change() {
        // 2027-03-28 in Berlin: 02:00 becomes 03:00 at 01:00 UTC.
        table(
            "{from: '02:30', until: '04:00', zone: Europe/Berlin}",
            &[
                ("2027-03-28T00:59:59Z", None),
                ("2027-03-28T01:00:00Z", Some("2027-03-28T02:00:00Z")),
                ("2027-03-28T02:00:00Z", None),
            ],
        );
        table(
            "{from: 2027-03-27T12:00, until: 2027-03-28T02:30, zone: Europe/Berlin}",
            &[("2027-03-28T00:59:59Z", Some("2027-03-28T01:00:00Z")), ("2027-03-28T01:00:00Z", None)],
        );
        // Wholly in the skipped hour: not that day, but on others.
        table(
            "{from: '02:10', until: '02:50', zone: Europe/Berlin}",
            &[
                ("2027-03-28T00:30:00Z", None),
                ("2027-03-28T01:00:00Z", None),
                ("2027-03-28T01:30:00Z", None),
                ("2027-03-27T01:30:00Z", Some("2027-03-27T01:50:00Z")),
            ],
        );
    }

    #[test]
    fn a_time_that_comes_twice_makes_the_freeze_longer() {
        // 2026-10-25 in Berlin: 03:00 becomes 02:00 at 01:00 UTC; 02:30 is 00:30 and 01:30 UTC.
        let end = Some("2026-10-25T03:00:00Z");
        table(
            "{from: '02:30', until: '04:00', zone: Europe/Berlin}",
            &[
                ("2026-10-25T00:29:59Z", None),
                ("2026-10-25T00:30:00Z", end),
                ("2026-10-25T01:10:00Z", end), // the second 02:10
                ("2026-10-25T02:59:59Z", end),
                ("2026-10-25T03:00:00Z", None),
            ],
        );
        let end = Some("2026-10-25T01:30:00Z");
        table(
            "{from: '01:00', until: '02:30', zone: Europe/Berlin}",
            &[
                ("2026-10-25T00:45:00Z", end), // the first 02:45 lies before the second 02:30
                ("2026-10-25T01:29:59Z", end),
                ("2026-10-25T01:30:00Z", None),
            ],
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_its_key() {
        for (text, what) in [
            ("{from: '08:00', until: '18:00', zone: Europe/Berlim}", "zone: 'Europe/Berlim'"),
            ("{from: '08:00', until: '18:00', zone: ''}", "zone: ''"),
            ("{from: '08:00', until: '18:00'}", "missing field `zone`"),
            ("{from: '8:00', until: '18:00', zone: UTC}", "from: '8:00'"),
            ("{from: '24:00', until: '18:00', zone: UTC}", "from: '24:00'"),
            ("{from: '08:00', until: '24:01', zone: UTC}", "until: '24:01'"),
            ("{from: '08:00', until: '18:60', zone: UTC}", "until: '18:60'"),
            ("{from: '08:00', until: '08:00', zone: UTC}", "until: it is 'from'"),
            ("{from: '08:00', until: 2026-12-20T00:00, zone: UTC}", "until: '2026-12-20T00:00'"),
            ("{from: 2026-12-20T00:00, until: '18:00', zone: UTC}", "until: '18:00'"),
            ("{from: 2026-12-20T00:00, until: 2026-12-20T00:00, zone: UTC}", "until: it is not after"),
            ("{from: 2026-02-30T00:00, until: 2026-12-20T00:00, zone: UTC}", "from: '2026-02-30T00:00'"),
            ("{from: 2026-12-20T00:00Z, until: 2026-12-21T00:00, zone: UTC}", "from: '2026-12-20T00:00Z'"),
            ("{from: 2026-12-20T00:00, until: 9999-12-31T23:59, zone: UTC}", "until: no such time"),
            ("{days: [mon], from: 2026-12-20T00:00, until: 2026-12-21T00:00, zone: UTC}", "from: days"),
            ("{days: [], from: '08:00', until: '18:00', zone: UTC}", "empty"),
            ("{days: , from: '08:00', until: '18:00', zone: UTC}", "days"),
            ("{days: [mon, mon], from: '08:00', until: '18:00', zone: UTC}", "twice"),
            ("{days: [monday], from: '08:00', until: '18:00', zone: UTC}", "monday"),
            ("{from: '08:00', until: '18:00', zone: UTC, why: \"a\\nb\"}", "why"),
            ("{from: '08:00', until: '18:00', zone: UTC, reason: x}", "unknown field `reason`"),
        ] {
            let error = yaml::from_str::<Freeze>(text).unwrap_err().to_string();
            assert!(error.contains(what), "{text}: {error}");
        }
    }

    #[test]
    fn it_is_shown_as_it_was_written() {
        let once = freeze("{from: 2026-12-20T00:00, until: 2027-01-02T06:00, zone: Europe/Berlin, why: x y}");
        assert_eq!(once.to_string(), "2026-12-20T00:00 to 2027-01-02T06:00 Europe/Berlin (x y)");
        assert_eq!(once.local("2027-01-02T05:00:00Z".parse().unwrap()), "2027-01-02T06:00 Europe/Berlin");
        let weekly = freeze("{days: [mon, fri], from: 08:00, until: 18:00, zone: UTC}");
        assert_eq!(weekly.to_string(), "mon,fri 08:00 to 18:00 UTC");
        assert_eq!(
            freeze("{from: 08:00, until: 18:00, zone: UTC}").to_string(),
            "every day 08:00 to 18:00 UTC"
        );
        let text = yaml::to_pyyaml(&serde_json::to_value(&weekly).unwrap());
        assert_eq!(yaml::from_str::<Freeze>(&text).unwrap(), weekly);
    }
}
