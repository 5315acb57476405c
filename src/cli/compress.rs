//! The compression codecs as the command line names them; [`crate::log::compress`] does the work.

use crate::log::{batch, compress};
use std::io;

/// How the records of a batch are compressed; the numbers are those of a batch's attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Codec {
    /// Not at all.
    None = 0,
    /// Slow, and understood everywhere.
    Gzip = 1,
    /// Fast.
    Snappy = 2,
    /// Faster.
    Lz4 = 3,
    /// Small and fast.
    Zstd = 4,
}

impl Codec {
    /// Compresses `data`. Fails only if the codec itself does.
    pub fn compress(self, data: &[u8]) -> io::Result<Vec<u8>> {
        let codec = match self {
            Codec::None => batch::Codec::None,
            Codec::Gzip => batch::Codec::Gzip,
            Codec::Snappy => batch::Codec::Snappy,
            Codec::Lz4 => batch::Codec::Lz4,
            Codec::Zstd => batch::Codec::Zstd,
        };
        compress::compress(codec, data)
    }
}
