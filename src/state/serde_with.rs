//! Serde formats of times, session ids and statuses in the state file.

/// RFC 3339 in UTC, with milliseconds.
pub(crate) mod timestamp {
    use chrono::DateTime;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use cynosure_engine::Timestamp;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub(crate) fn serialize<S: Serializer>(
        value: &Timestamp,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Timestamp, D::Error> {
        parse(&String::deserialize(deserializer)?)
    }

    pub(super) fn parse<E: Error>(text: &str) -> Result<Timestamp, E> {
        let time = DateTime::parse_from_rfc3339(text).map_err(E::custom)?;
        Ok(Timestamp(time.timestamp_millis()))
    }
}

/// RFC 3339 in UTC, with milliseconds, or null.
pub(crate) mod optional_timestamp {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::timestamp;
    use cynosure_engine::Timestamp;

    #[expect(clippy::ref_option, reason = "serde passes references")]
    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Timestamp>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(|timestamp| timestamp.to_string()).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Option::<String>::deserialize(deserializer)?.as_deref().map(timestamp::parse).transpose()
    }
}

/// Session id, or null.
pub(super) mod optional_session_id {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use cynosure_engine::SessionId;

    #[expect(clippy::ref_option, reason = "serde passes references")]
    pub(crate) fn serialize<S: Serializer>(
        value: &Option<SessionId>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.as_ref().map(SessionId::as_str).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<SessionId>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(SessionId::new))
    }
}

/// Name of a status.
pub(super) mod status {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use cynosure_engine::Status;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub(crate) fn serialize<S: Serializer>(
        value: &Status,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(value.name())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Status, D::Error> {
        parse(&String::deserialize(deserializer)?)
    }

    pub(super) fn parse<E: Error>(name: &str) -> Result<Status, E> {
        Status::from_name(name).ok_or_else(|| E::custom(format_args!("unknown status {name:?}")))
    }
}

/// Name of a status, or null.
pub(super) mod optional_status {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::status;
    use cynosure_engine::Status;

    #[expect(clippy::ref_option, reason = "serde passes references")]
    pub(crate) fn serialize<S: Serializer>(
        value: &Option<Status>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(Status::name).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Status>, D::Error> {
        Option::<String>::deserialize(deserializer)?.as_deref().map(status::parse).transpose()
    }
}
