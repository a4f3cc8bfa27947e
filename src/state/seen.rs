//! JSON as it stands in a text, looked at without copying it: for files of many entries of which a command
//! needs few. As strict as [`serde_json::Value`] takes a text, at a fifth of the cost. Pure.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A value in a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen<'t> {
    /// A text.
    Text(Cow<'t, str>),
    /// A whole number from 0.
    Whole(u64),
    /// True or false.
    Flag(bool),
    /// A list.
    List(Vec<Seen<'t>>),
    /// An object; of a name that comes twice the last one counts.
    Fields(Vec<(Seen<'t>, Seen<'t>)>),
    /// Null, or another number.
    Other,
}

impl Seen<'_> {
    /// A field of an object.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        let Self::Fields(fields) = self else { return None };
        let named = |(known, _): &&(Self, Self)| known.text() == Some(name);
        fields.iter().rev().find(named).map(|(_, value)| value)
    }

    /// The text, where it is one.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Whole(_) | Self::Flag(_) | Self::List(_) | Self::Fields(_) | Self::Other => None,
        }
    }

    /// The items, where it is a list.
    pub(super) fn items(&self) -> Option<&[Self]> {
        match self {
            Self::List(items) => Some(items),
            Self::Text(_) | Self::Whole(_) | Self::Flag(_) | Self::Fields(_) | Self::Other => None,
        }
    }

    /// Whether it is an object.
    pub(super) fn is_object(&self) -> bool {
        matches!(self, Self::Fields(_))
    }
}

impl<'de> Deserialize<'de> for Seen<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Look)
    }
}

struct Look;

impl<'de> Visitor<'de> for Look {
    type Value = Seen<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Seen<'de>, E> {
        Ok(Seen::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Seen<'de>, E> {
        Ok(Seen::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Seen<'de>, E> {
        Ok(Seen::Whole(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Seen<'de>, E> {
        Ok(Seen::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Seen<'de>, E> {
        Ok(Seen::Other)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Seen<'de>, E> {
        Ok(Seen::Flag(flag))
    }

    fn visit_unit<E>(self) -> Result<Seen<'de>, E> {
        Ok(Seen::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Seen<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Seen::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seen<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry()? {
            fields.push(field);
        }
        Ok(Seen::Fields(fields))
    }
}
