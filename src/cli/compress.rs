//! The compression codecs as the command line names them.

use crate::log::batch::Codec;
use clap::ValueEnum;
use clap::builder::PossibleValue;

impl ValueEnum for Codec {
    fn value_variants<'a>() -> &'a [Codec] {
        &[
            Codec::None,
            Codec::Gzip,
            Codec::Snappy,
            Codec::Lz4,
            Codec::Zstd,
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let help = match self {
            Codec::None => "Not at all",
            Codec::Gzip => "Slow, and understood everywhere",
            Codec::Snappy => "Fast",
            Codec::Lz4 => "Faster",
            Codec::Zstd => "Small and fast",
        };
        Some(PossibleValue::new(self.name()).help(help))
    }
}
