//! Values of the command line that are checked while it is read. Pure.

use crate::duration::DurationText;

/// Yes or no from the environment. A word that is neither is an error: a typing mistake must not answer
/// questions.
pub(super) fn parse_yes(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" => Ok(true),
        "" | "0" | "false" | "no" => Ok(false),
        _ => Err("ABSSCTL_ASSUME_YES is 1, true or yes; or 0, false, no or empty".to_owned()),
    }
}

/// An age in seconds; `0s` is one, as it is no duration of a plan.
pub(super) fn parse_age(text: &str) -> Result<u64, String> {
    if text == "0s" { Ok(0) } else { parse_duration(text).map(|duration| duration.seconds()) }
}

/// A duration as plans have it.
pub(super) fn parse_duration(text: &str) -> Result<DurationText, String> {
    DurationText::try_from(text.to_owned()).map_err(|error| error.to_string())
}
