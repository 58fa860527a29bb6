//! The commands as a person runs them: the real program, its output, its exit code.

mod alerting;
mod archives;
mod breaking;
mod contents;
mod doctor;
mod explain;
mod figures;
pub(crate) mod home;
mod leftovers;
mod looking;
mod one_mail;
mod openings;
mod pipes;
mod readme;
mod recording;
mod refusals;
mod repairing;
mod serving;
mod shapes;
mod simulate;
mod standing;
mod stopping;
mod supervised;
mod verifying;
mod waiting;
mod watching;
