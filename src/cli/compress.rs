//! The compression codecs of Kafka's record batches: the writing side ([`crate::log::records`] reads).

use std::io::{self, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

/// The header of snappy data as Java writes it: blocks with a length each.
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
const ZSTD_LEVEL: i32 = 3;

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
        match self {
            Codec::None => Ok(data.to_vec()),
            Codec::Gzip => gzip(data),
            Codec::Snappy => snappy(data),
            Codec::Lz4 => lz4(data),
            Codec::Zstd => zstd::bulk::compress(data, ZSTD_LEVEL),
        }
    }
}

fn gzip(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(data)?;
    encoder.finish()
}

/// An LZ4 frame of independent blocks of 64 KiB: the only kind that Java's reader takes.
fn lz4(data: &[u8]) -> io::Result<Vec<u8>> {
    let frame = FrameInfo::new()
        .block_mode(BlockMode::Independent)
        .block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(frame, Vec::new());
    encoder.write_all(data)?;
    encoder.finish().map_err(io::Error::other)
}

fn snappy(data: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = XERIAL_MAGIC.to_vec();
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    for chunk in data.chunks(XERIAL_BLOCK_BYTES) {
        let block = snap::raw::Encoder::new()
            .compress_vec(chunk)
            .map_err(io::Error::other)?;
        out.extend_from_slice(&(block.len() as u32).to_be_bytes());
        out.extend_from_slice(&block);
    }
    Ok(out)
}
