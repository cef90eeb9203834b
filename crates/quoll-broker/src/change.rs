//! What must survive a restart, as small facts.

/// One fact.
#[derive(Clone, Debug)]
pub enum Change {}
