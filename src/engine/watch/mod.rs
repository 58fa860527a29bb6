//! Judges a worker from outside: by what it publishes, and by what systemd says of its unit.

mod unit;

pub use self::unit::{Activity, Load, StartLimit, UnitStatus};
