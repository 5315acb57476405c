//! What keeps a shard's partitions in order over time. Rooms beside the engine: they use its partitions
//! and threads, and it knows no more of them than that retention follows a roll.

pub mod closing;
pub mod compaction;
pub mod opening;
pub mod retention;
pub mod scrub;
