//! The compression codecs of Kafka's record batches: the writing side ([`super::records`] reads).

use super::batch::Codec;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use std::io::{self, Write};

/// The header of snappy data as Java writes it: blocks with a length each.
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_BLOCK_BYTES: usize = 32 * 1024;
const ZSTD_LEVEL: i32 = 3;

/// Compresses a batch's records so that every client reads them. Fails only if the codec itself
/// does.
pub fn compress(codec: Codec, data: &[u8]) -> io::Result<Vec<u8>> {
    compress_at(codec, None, data)
}

/// The same at a level of gzip (0 to 9) or zstd (up to 22); `None` is the codec's own default. The other codecs
/// have no levels.
pub fn compress_at(codec: Codec, level: Option<i32>, data: &[u8]) -> io::Result<Vec<u8>> {
    match codec {
        Codec::None => Ok(data.to_vec()),
        Codec::Gzip => gzip(level, data),
        Codec::Snappy => snappy(data),
        Codec::Lz4 => lz4(data),
        Codec::Zstd => zstd::bulk::compress(data, level.unwrap_or(ZSTD_LEVEL)),
    }
}

fn gzip(level: Option<i32>, data: &[u8]) -> io::Result<Vec<u8>> {
    let level = level.and_then(|level| u32::try_from(level).ok());
    let level = level.map_or_else(flate2::Compression::default, flate2::Compression::new);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
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
