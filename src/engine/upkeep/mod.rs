//! The upkeep of a shard's partitions: opening, retention, compaction, scrubbing, closing. It uses the engine's
//! partitions and threads; the engine knows only that retention follows a roll.

pub mod closing;
pub mod compaction;
pub mod opening;
pub mod retention;
pub mod scrub;
