//! Cynosure lists every thread of a mailbox, stores each one durably, and keeps going for weeks without a person.

pub mod engine;

pub mod disk;

pub mod archive;
pub mod config;
pub mod ledger;
pub mod source;
pub mod state;

pub mod worker;

pub mod cli;
pub mod demo;
