//! Publishes `execution_state.json`, atomically.
