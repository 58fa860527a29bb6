//! Reads `config.toml`, in three stages: as written, merged, validated.
