//! Mistakes on purpose, so that the harness in `tools/torture` can show that it finds each of them.
//!
//! Only with the feature `sabotage`, which no release build can have; which one, the variable
//! `MILLSTREAM_SABOTAGE` says. Without the feature [`is_done`] is a constant `false`.

#[cfg(all(feature = "sabotage", not(debug_assertions)))]
compile_error!("the feature `sabotage` breaks promises on purpose: never in a release build");

/// The mistakes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// `skip-fsync`: a flush answers without an fdatasync.
    SkipFsync,
    /// `answer-early`: acks=all is answered when the batch is appended.
    AnswerEarly,
    /// `forget-producer`: opening a partition forgets the last batch of each producer.
    ForgetProducer,
    /// `skip-crc`: recovery takes a batch by its header alone.
    SkipCrc,
    /// `wall-timers`: the steady clock is the wall clock.
    WallTimers,
    /// `recycle-by-lease`: a segment's file is used again wherever the kernel grants a lease.
    RecycleByLease,
    /// `trust-catalog`: a start neither rewrites nor syncs a catalog that is in its shortest form.
    TrustCatalog,
    /// `checkpoint-first`: a partition is not flushed again while its checkpoint is written or failed.
    CheckpointFirst,
    /// `trust-cache`: recovery syncs what it read without writing it again.
    TrustCache,
    /// `forget-flush-files`: a write-back leaves out the files that a running flush took.
    ForgetFlushFiles,
    /// `overlap-syncs`: flush and write-back sync an open file side by side, and a poisoned log's flush counts.
    OverlapSyncs,
    /// `compact-only`: a start fails where the catalog cannot be replaced.
    CompactOnly,
    /// `unbounded-ahead`: any number of bytes may be appended and not durable.
    UnboundedAhead,
    /// `forget-ids`: after a start nothing is known of the message ids in the log.
    ForgetIds,
    /// `known-early`: a record that was there before is told of although it is not durable yet.
    KnownEarly,
    /// `ignore-conditions`: at one offset in so many an append is not held to what it expects.
    IgnoreConditions,
    /// `ready-at-once`: the index of keys answers before the log was read for it.
    ReadyAtOnce,
}

/// Whether this mistake is to be made.
#[inline]
pub fn is_done(sabotage: Sabotage) -> bool {
    #[cfg(feature = "sabotage")]
    return chosen() == Some(sabotage);
    #[cfg(not(feature = "sabotage"))]
    {
        let _ = sabotage;
        false
    }
}

/// What the variable says, read once.
///
/// # Panics
/// On a name that is none of the mistakes: a run that sabotages nothing would prove nothing.
#[cfg(feature = "sabotage")]
fn chosen() -> Option<Sabotage> {
    static CHOSEN: std::sync::OnceLock<Option<Sabotage>> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("MILLSTREAM_SABOTAGE").unwrap_or_default();
        match name.as_str() {
            "" => None,
            "skip-fsync" => Some(Sabotage::SkipFsync),
            "answer-early" => Some(Sabotage::AnswerEarly),
            "forget-producer" => Some(Sabotage::ForgetProducer),
            "skip-crc" => Some(Sabotage::SkipCrc),
            "wall-timers" => Some(Sabotage::WallTimers),
            "recycle-by-lease" => Some(Sabotage::RecycleByLease),
            "trust-catalog" => Some(Sabotage::TrustCatalog),
            "checkpoint-first" => Some(Sabotage::CheckpointFirst),
            "trust-cache" => Some(Sabotage::TrustCache),
            "forget-flush-files" => Some(Sabotage::ForgetFlushFiles),
            "overlap-syncs" => Some(Sabotage::OverlapSyncs),
            "compact-only" => Some(Sabotage::CompactOnly),
            "unbounded-ahead" => Some(Sabotage::UnboundedAhead),
            "forget-ids" => Some(Sabotage::ForgetIds),
            "known-early" => Some(Sabotage::KnownEarly),
            "ignore-conditions" => Some(Sabotage::IgnoreConditions),
            "ready-at-once" => Some(Sabotage::ReadyAtOnce),
            _ => panic!("MILLSTREAM_SABOTAGE={name} is no sabotage"),
        }
    })
}
