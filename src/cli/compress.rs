//! The compression codecs of Kafka's record batches.

use std::io::{self, Read, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

/// What the records of one batch may decompress to, in bytes, before it is taken for a bomb.
pub const DECOMPRESSED_BYTES_MAX: usize = 512 << 20;

/// The header of snappy data as Java writes it: blocks with a length each.
const XERIAL_MAGIC: &[u8; 8] = b"\x82SNAPPY\0";
const XERIAL_HEADER_BYTES: usize = 16;
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

/// Why data could not be decompressed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The batch's attributes name a codec that does not exist.
    #[error("compression codec {0} does not exist")]
    UnknownCodec(i16),
    /// More than [`DECOMPRESSED_BYTES_MAX`].
    #[error("more than {DECOMPRESSED_BYTES_MAX} bytes once decompressed")]
    TooLarge,
    /// Not what the codec writes.
    #[error("{0:?} data that cannot be read")]
    Corrupt(Codec, #[source] io::Error),
}

impl Codec {
    /// The codec of a batch with these attributes.
    pub fn from_attributes(attributes: i16) -> Result<Codec, Error> {
        match attributes & 0x07 {
            0 => Ok(Codec::None),
            1 => Ok(Codec::Gzip),
            2 => Ok(Codec::Snappy),
            3 => Ok(Codec::Lz4),
            4 => Ok(Codec::Zstd),
            other => Err(Error::UnknownCodec(other)),
        }
    }

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

    /// Decompresses `data`, to [`DECOMPRESSED_BYTES_MAX`] at most.
    pub fn decompress(self, data: &[u8]) -> Result<Vec<u8>, Error> {
        let corrupt = |error| Error::Corrupt(self, error);
        match self {
            Codec::None => Ok(data.to_vec()),
            Codec::Gzip => self.read_all(flate2::read::MultiGzDecoder::new(data)),
            Codec::Snappy => unsnappy(data),
            Codec::Lz4 => self.read_all(FrameDecoder::new(data)),
            Codec::Zstd => {
                self.read_all(zstd::stream::read::Decoder::with_buffer(data).map_err(corrupt)?)
            }
        }
    }

    fn read_all(self, reader: impl Read) -> Result<Vec<u8>, Error> {
        let mut data = Vec::new();
        let mut limited = reader.take(DECOMPRESSED_BYTES_MAX as u64 + 1);
        limited
            .read_to_end(&mut data)
            .map_err(|error| Error::Corrupt(self, error))?;
        if data.len() > DECOMPRESSED_BYTES_MAX {
            Err(Error::TooLarge)
        } else {
            Ok(data)
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

/// Snappy as Java writes it (blocks) or as librdkafka does (one bare block).
fn unsnappy(data: &[u8]) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    if !data.starts_with(XERIAL_MAGIC) {
        unsnappy_block(data, &mut out)?;
        return Ok(out);
    }
    let mut rest = data.get(XERIAL_HEADER_BYTES..).ok_or_else(snappy_torn)?;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk::<4>().ok_or_else(snappy_torn)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, after) = after.split_at_checked(length).ok_or_else(snappy_torn)?;
        unsnappy_block(block, &mut out)?;
        rest = after;
    }
    Ok(out)
}

fn unsnappy_block(block: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    let corrupt = |error| Error::Corrupt(Codec::Snappy, io::Error::other(error));
    let length = snap::raw::decompress_len(block).map_err(corrupt)?;
    let start = out.len();
    if start.saturating_add(length) > DECOMPRESSED_BYTES_MAX {
        return Err(Error::TooLarge);
    }
    out.resize(start + length, 0);
    snap::raw::Decoder::new()
        .decompress(block, &mut out[start..])
        .map_err(corrupt)?;
    Ok(())
}

fn snappy_torn() -> Error {
    Error::Corrupt(Codec::Snappy, io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use super::{Codec, Error};

    const CODECS: [Codec; 5] = [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ];

    #[test]
    fn every_codec_gives_back_what_it_was_given() {
        let long = b"0123456789abcdef".repeat(20_000);
        for codec in CODECS {
            for data in [&b""[..], b"x", &long] {
                let packed = codec.compress(data).expect("compresses");
                assert_eq!(
                    codec.decompress(&packed).expect("decompresses"),
                    data,
                    "{codec:?}"
                );
            }
            assert_eq!(
                Codec::from_attributes(codec as i16 | 0x10).expect("known"),
                codec
            );
        }
        assert!(matches!(
            Codec::from_attributes(5),
            Err(Error::UnknownCodec(5))
        ));
    }

    #[test]
    fn bare_snappy_is_read_as_well() {
        let bare = snap::raw::Encoder::new()
            .compress_vec(b"hello hello hello")
            .expect("packs");
        assert_eq!(
            Codec::Snappy.decompress(&bare).expect("reads"),
            b"hello hello hello"
        );
    }

    #[test]
    fn damage_is_an_error() {
        for codec in &CODECS[1..] {
            let mut packed = codec.compress(&b"hello ".repeat(100)).expect("compresses");
            packed.truncate(packed.len() / 2);
            assert!(codec.decompress(&packed).is_err(), "{codec:?}");
        }
        // A snappy block that claims 4 GB and holds 5 bytes.
        assert!(matches!(
            Codec::Snappy.decompress(&[0xff, 0xff, 0xff, 0xff, 0x0f]),
            Err(Error::TooLarge)
        ));
    }
}
