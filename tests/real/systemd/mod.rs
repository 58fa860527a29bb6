//! The units on a real systemd.

mod installed;
mod machine;
mod units;
