//! How times, names and rates are written in the state file.

/// RFC 3339 in UTC, with milliseconds.
pub(super) mod moment {
    use chrono::{DateTime, SecondsFormat};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::engine::Moment;

    /// The years that RFC 3339 can write, in milliseconds since the epoch.
    pub(crate) const MIN: i64 = -62_167_219_200_000;
    pub(crate) const MAX: i64 = 253_402_300_799_999;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub(crate) fn serialize<S: Serializer>(value: &Moment, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&text(*value))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Moment, D::Error> {
        parse(&String::deserialize(from)?)
    }

    /// A moment beyond what can be written is written as the last that can.
    pub(super) fn text(value: Moment) -> String {
        let time = DateTime::from_timestamp_millis(value.0.clamp(MIN, MAX)).unwrap_or_default();
        time.to_rfc3339_opts(SecondsFormat::Millis, true)
    }

    pub(super) fn parse<E: Error>(text: &str) -> Result<Moment, E> {
        let time = DateTime::parse_from_rfc3339(text).map_err(E::custom)?;
        Ok(Moment(time.timestamp_millis()))
    }
}

/// The same, or null.
pub(super) mod optional_moment {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::moment;
    use crate::engine::Moment;

    #[expect(clippy::ref_option, reason = "serde passes references")]
    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Moment>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(moment::text).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Moment>, D::Error> {
        Option::<String>::deserialize(from)?.as_deref().map(moment::parse).transpose()
    }
}

/// The name of a session, or null.
pub(super) mod optional_session {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::engine::SessionId;

    #[expect(clippy::ref_option, reason = "serde passes references")]
    pub(crate) fn serialize<S: Serializer>(
        value: &Option<SessionId>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(SessionId::as_str).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<SessionId>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.map(SessionId::new))
    }
}
