//! The compression codecs as the command line names them.

use crate::log::batch;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Codec {
    /// Not at all.
    None,
    /// Slow, and understood everywhere.
    Gzip,
    /// Fast.
    Snappy,
    /// Faster.
    Lz4,
    /// Small and fast.
    Zstd,
}

impl From<Codec> for batch::Codec {
    fn from(codec: Codec) -> batch::Codec {
        match codec {
            Codec::None => batch::Codec::None,
            Codec::Gzip => batch::Codec::Gzip,
            Codec::Snappy => batch::Codec::Snappy,
            Codec::Lz4 => batch::Codec::Lz4,
            Codec::Zstd => batch::Codec::Zstd,
        }
    }
}
