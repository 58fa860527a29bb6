//! Tells of answered requests, each as a part of the stage that it belongs to.

use super::Driver;
use crate::source::Source;
use crate::worker::jobs::Done;
use crate::worker::tracer::Asked;
use crate::worker::world::World;

impl<S: Source + 'static, W: World> Driver<S, W> {
    pub(super) fn trace(&self, done: &Done) {
        let listing = |name, failure| Asked { name, item: None, from: self.asked_at, failure };
        let asked = match done {
            Done::Looked(end) => listing("look", end.as_ref().err()),
            Done::Paged(end) => listing("page", end.as_ref().err()),
            Done::Proved(end) => listing("prove", end.as_ref().err()),
            Done::Fetched { errand, answer, .. } => Asked {
                name: "fetch",
                item: Some((errand.item_id.as_str(), errand.wanted.document.as_str())),
                from: errand.asked_at,
                failure: answer.as_ref().err(),
            },
            Done::KnownGood(_)
            | Done::Refilled(_)
            | Done::Committed { .. }
            | Done::Finished(_)
            | Done::ReconcileDue
            | Done::Renewed(_)
            | Done::Shut(_) => return,
        };
        self.tracer.answered(&self.machine, asked, self.world.now());
    }
}
