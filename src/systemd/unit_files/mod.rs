//! Unit files and the polkit rule of one installation, generated from those in the folder
//! `systemd`, so that each setting and its reason are written once.

mod directives;
mod generate;
mod options;

#[cfg(test)]
mod tests;

pub use self::generate::{
    GeneratedFile, WorkerUnitPaths, generate_polkit_rule, generate_unit_files, is_generated_text,
    monitor_unit_file, polkit_rule_file, worker_unit_file,
};
pub use self::options::{ManagerScope, UnitFileOptions};
