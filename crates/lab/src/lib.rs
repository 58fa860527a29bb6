//! Trials of Cynosure: an embedded mailbox service, and a simulator of rate limits with plots.
//!
//! It depends on the engine, and on nothing else of the program.

// Embedded mailbox service for demonstrations and tests. Uses none of the modules below.
pub mod demo;

// Simulates a rate-limiting policy against a server model in virtual time.
pub mod simulate;

// Plots of the results of the simulator, as SVG and for terminals.
pub mod plot;
