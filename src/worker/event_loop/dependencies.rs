//! Dependencies of the event loop.

use std::rc::Rc;

use crate::worker::breakers::SourceBreakers;
use crate::worker::heartbeat::Heartbeat;
use crate::worker::tasks::StoreHandle;

/// Source, environment, store, breakers and heartbeat that the event loop uses.
#[derive(Debug)]
pub struct Dependencies<S, E> {
    pub source: Rc<S>,
    pub env: Rc<E>,
    pub store: StoreHandle<E>,
    pub breakers: SourceBreakers,
    pub heartbeat: Heartbeat,
}
