//! Typed getters of a configuration table: one per type of setting, with its range check.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use chrono::NaiveDate;
use cynosure_engine::rate_limit::Rate;
use cynosure_engine::user_input::{
    Location, closest_match, duration_literal, parse_duration, parse_size, size_literal,
};

use super::file::{Node, Value, expected, plain_text};
use super::folder::base_folder;
use super::merge::EnvValueForm;
use super::reader::Section;
use super::show::{quote, quote_list};

/// Bytes of the unit `MB`.
const MEGABYTE: u64 = 1_000_000;

/// Description of a valid rate, for error messages.
const RATE: &str = "a rate such as \"600/min\", \"10/s\", \"5000/h\" or \"100/d\"";

impl Section<'_, '_> {
    /// Reads an optional value. `want` says what to write instead of a value that `read` rejects.
    pub(crate) fn value<T>(
        &mut self,
        key: &'static str,
        form: EnvValueForm,
        want: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<(T, Location)> {
        self.given(key, form, |node| read(&node.value).ok_or_else(|| expected(&node.value, want)))
    }

    /// Reads a value that has no default. Its absence is an error at `location`; `want` says what
    /// to write.
    pub(crate) fn required_value<T>(
        &mut self,
        key: &'static str,
        location: &Location,
        want: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Option<T> {
        let remedy = format!("write {want}");
        let given = self.required(key, EnvValueForm::Toml, location, &remedy, |node| {
            read(&node.value).ok_or_else(|| expected(&node.value, want))
        });
        given.map(|(value, _)| value)
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        let given = self.value(key, EnvValueForm::Toml, "true or false", Value::flag);
        self.given_or_default(key, given, default, bool::to_string)
    }

    pub(crate) fn count(
        &mut self,
        key: &'static str,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> u32 {
        let given = self
            .value(key, EnvValueForm::Toml, &count_text(&range), |value| read_count(value, &range));
        self.given_or_default(key, given, default, u32::to_string)
    }

    pub(crate) fn required_count(
        &mut self,
        key: &'static str,
        location: &Location,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        self.required_value(key, location, &count_text(&range), |value| read_count(value, &range))
    }

    /// Reads a number from 0 to 1.
    pub(super) fn share(&mut self, key: &'static str, default: f64) -> f64 {
        self.number(key, default, 0.0..=1.0)
    }

    /// Reads an integer or a float.
    pub(super) fn number(
        &mut self,
        key: &'static str,
        default: f64,
        range: RangeInclusive<f64>,
    ) -> f64 {
        let want = format!("a number from {:?} to {:?}", range.start(), range.end());
        let given = self.value(key, EnvValueForm::Toml, &want, |value| {
            value.number().filter(|number| range.contains(number))
        });
        self.given_or_default(key, given, default, |number| format!("{number:?}"))
    }

    pub(crate) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let given = self.given_duration(key, range);
        self.given_or_default(key, given, default, |duration| quote(&duration_literal(*duration)))
    }

    /// Reads an optional duration.
    pub(super) fn duration_if_given(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let (duration, location) = self.given_duration(key, range).unzip();
        self.record(key, duration.map(|duration| quote(&duration_literal(duration))), location);
        duration
    }

    pub(crate) fn required_duration(
        &mut self,
        key: &'static str,
        location: &Location,
        range: RangeInclusive<Duration>,
    ) -> Option<Duration> {
        self.required_value(key, location, &duration_text(&range), |value| {
            read_duration(value, &range)
        })
    }

    fn given_duration(
        &mut self,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<(Duration, Location)> {
        self.value(key, EnvValueForm::Toml, &duration_text(&range), |value| {
            read_duration(value, &range)
        })
    }

    /// Reads a size in bytes.
    pub(super) fn size(
        &mut self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
    ) -> u64 {
        let given = self.given_size(key, range);
        self.given_or_default(key, given, default, |size| quote(&size_text(*size)))
    }

    /// Reads a size in bytes that may be left out and then is `default`.
    pub(super) fn optional_size(
        &mut self,
        key: &'static str,
        default: Option<u64>,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        let (size, location) = self.given_size(key, range).unzip();
        let size = size.or(default);
        self.record(key, size.map(|size| quote(&size_text(size))), location);
        size
    }

    fn given_size(
        &mut self,
        key: &'static str,
        range: RangeInclusive<u64>,
    ) -> Option<(u64, Location)> {
        let [least, most] = [range.start(), range.end()].map(|limit| size_text(*limit));
        let want = format!("\"64MiB\", \"10MB\" or whole bytes, from {least} to {most}");
        self.value(key, EnvValueForm::Toml, &want, |value| {
            let whole = value.integer().and_then(|bytes| u64::try_from(bytes).ok());
            let size = value.text().and_then(parse_size).or(whole);
            size.filter(|size| range.contains(size))
        })
    }

    /// Reads a text. An error of `check` states the problem and the remedy.
    pub(super) fn text(
        &mut self,
        key: &'static str,
        default: &str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> String {
        let given = self.given(key, EnvValueForm::Text, |node| {
            let text = plain_text(&node.value)?;
            check(text).map(|()| text.to_owned())
        });
        self.given_or_default(key, given, default.to_owned(), |text| quote(text))
    }

    /// Reads a text that has no default, as a value that `parse` returns. Its absence is an error at
    /// `location`; `remedy` says what to write.
    pub(super) fn required_text<T>(
        &mut self,
        key: &'static str,
        location: &Location,
        remedy: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
        write: impl FnOnce(&T) -> String,
    ) -> Option<(T, Location)> {
        let given = self.required(key, EnvValueForm::Text, location, remedy, |node| {
            plain_text(&node.value).and_then(parse)
        })?;
        self.record(key, Some(write(&given.0)), Some(given.1.clone()));
        Some(given)
    }

    /// Reads one of the names in `choices`.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        default: &'static str,
        choices: &'static [(&'static str, T)],
    ) -> T {
        let names = || choices.iter().map(|(name, _)| *name);
        let chosen_name = self.text(key, default, |text| {
            if names().any(|name| name == text) {
                return Ok(());
            }
            let all: Vec<String> = names().map(quote).collect();
            let suggestion =
                closest_match(text, names()).map(|name| format!("; did you mean \"{name}\"?"));
            Err(format!(
                "is {}; write one of {}{}",
                quote(text),
                all.join(", "),
                suggestion.unwrap_or_default()
            ))
        });
        let chosen = choices.iter().find(|(name, _)| *name == chosen_name);
        chosen.or_else(|| choices.first()).map(|(_, value)| *value).expect("there are choices")
    }

    /// Reads a rate, in units per period, that may be left out and then is `default`.
    pub(super) fn rate(&mut self, key: &'static str, default: Option<Rate>) -> Option<Rate> {
        let given = self.value(key, EnvValueForm::Text, RATE, |value| {
            plain_text(value).ok().and_then(|text| text.parse::<Rate>().ok())
        });
        let (rate, location) = given.unzip();
        let rate = rate.or(default);
        self.record(key, rate.map(|rate| quote(&rate.to_string())), location);
        rate
    }

    /// Reads a list of texts, empty by default.
    pub(super) fn texts(
        &mut self,
        key: &'static str,
        check: impl Fn(&str) -> Result<(), String>,
    ) -> Vec<String> {
        let given = self.given(key, EnvValueForm::Toml, |node| {
            let Value::List(items) = &node.value else {
                return Err(expected(&node.value, "a list such as [\"Inbox\", \"Archive\"]"));
            };
            let read = |item: &Node| {
                let text = plain_text(&item.value)?;
                check(text).map(|()| text.to_owned())
            };
            items.iter().map(read).collect()
        });
        self.given_or_default(key, given, Vec::new(), |texts| quote_list(texts))
    }

    /// Reads a path. A relative one is resolved against the folder of the file it is written in,
    /// or against `reader.folder` for an environment variable and the default.
    pub(super) fn path(&mut self, key: &'static str, default: &str) -> PathBuf {
        let folder = self.reader.folder.clone();
        let default = folder.join(default);
        let given = self.given(key, EnvValueForm::Text, |node| {
            plain_text(&node.value)
                .map(|path| base_folder(&node.location).unwrap_or(folder).join(path))
        });
        self.given_or_default(key, given, default, |path| quote(&path.to_string_lossy()))
    }

    /// Reads an optional date.
    pub(super) fn date(&mut self, key: &'static str) -> Option<NaiveDate> {
        let given = self.value(key, EnvValueForm::Toml, "a date such as 2020-01-31", |value| {
            let written = value.date().or_else(|| value.text());
            written.and_then(|text| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok())
        });
        let (date, location) = given.unzip();
        self.record(key, date.map(|date| date.to_string()), location);
        date
    }
}

fn count_text(range: &RangeInclusive<u32>) -> String {
    format!("a whole number from {} to {}", range.start(), range.end())
}

fn read_count(value: &Value, range: &RangeInclusive<u32>) -> Option<u32> {
    let count = value.integer().and_then(|number| u32::try_from(number).ok());
    count.filter(|count| range.contains(count))
}

/// Writes a size in megabytes if it is a whole number of them, else in the largest binary unit.
fn size_text(bytes: u64) -> String {
    if bytes != 0 && bytes.is_multiple_of(MEGABYTE) && !bytes.is_multiple_of(1 << 20) {
        return format!("{}MB", bytes / MEGABYTE);
    }
    size_literal(bytes)
}

fn duration_text(range: &RangeInclusive<Duration>) -> String {
    let [shortest, longest] = [range.start(), range.end()].map(|limit| duration_literal(*limit));
    format!("\"90s\", \"5m\", \"1h\" or whole seconds, from {shortest} to {longest}")
}

fn read_duration(value: &Value, range: &RangeInclusive<Duration>) -> Option<Duration> {
    let whole = value.integer().and_then(|seconds| u64::try_from(seconds).ok());
    let duration = value.text().and_then(parse_duration).or_else(|| whole.map(Duration::from_secs));
    duration.filter(|duration| range.contains(duration))
}
