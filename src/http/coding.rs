//! Bodies that come packed (`Content-Encoding`), unpacked in small steps: what a byte unpacks to is up to
//! its sender.

use super::problem::Problem;
use bytes::{Buf, Bytes};
use flate2::write::MultiGzDecoder;
use hyper::StatusCode;
use hyper::header::{CONTENT_ENCODING, HeaderMap};
use std::io::{self, Write};
use std::mem;
use zstd::stream::raw::{self, DParameter, Operation};

/// The most that one step of zstd unpacks to.
const STEP_BYTES: usize = 64 << 10;
/// What one step of gzip takes: 1,032 times as much is the most that comes of it.
const GZIP_STEP_BYTES: usize = 128;
/// The largest window that a zstd frame may ask for, as a power of two: 8 MiB, as RFC 8878 recommends.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

/// Unpacks a body.
pub enum Unpacker {
    Plain,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
    Zstd {
        decoder: raw::Decoder<'static>,
        /// A frame has begun and not ended.
        is_inside: bool,
    },
}

impl Unpacker {
    /// The one for a request's body.
    ///
    /// # Errors
    /// 415 for a coding that is not known.
    pub fn of(headers: &HeaderMap) -> Result<Unpacker, Problem> {
        let coding = headers.get(CONTENT_ENCODING).map(|value| value.as_bytes());
        let coding = String::from_utf8_lossy(coding.unwrap_or_default());
        Ok(match coding.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Unpacker::Plain,
            "gzip" | "x-gzip" => Unpacker::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
            "zstd" => Unpacker::Zstd {
                decoder: zstd_decoder().map_err(|error| Problem::bad_request(error.to_string()))?,
                is_inside: false,
            },
            other => {
                let detail =
                    format!("a body comes as it is, or packed with gzip or zstd, not {other}");
                let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
                return Err(Problem::new(status, "unsupported-media-type", detail));
            }
        })
    }

    /// Bytes of memory that unpacking takes, whatever the body is.
    pub fn bytes(&self) -> usize {
        match self {
            Unpacker::Plain => 0,
            Unpacker::Gzip(_) => 256 << 10,
            Unpacker::Zstd { .. } => (1 << ZSTD_WINDOW_LOG_MAX) + STEP_BYTES,
        }
    }

    /// Unpacks some of `packed`, which moves on, and returns what it is. To be called until nothing of it is left.
    /// What comes as it is, is not copied.
    ///
    /// # Errors
    /// 400 where it is not what it says.
    pub fn step(&mut self, packed: &mut Bytes) -> Result<Bytes, Problem> {
        let unpacked = match self {
            Unpacker::Plain => Ok(mem::take(packed)),
            Unpacker::Gzip(decoder) => {
                let now = packed.split_to(packed.len().min(GZIP_STEP_BYTES));
                let written = decoder.write_all(&now);
                written.map(|()| mem::take(decoder.get_mut()).into())
            }
            Unpacker::Zstd { decoder, is_inside } => {
                let mut out = vec![0; STEP_BYTES];
                decoder.run_on_buffers(packed, &mut out).map(|done| {
                    packed.advance(done.bytes_read);
                    *is_inside = done.remaining > 0;
                    out.truncate(done.bytes_written);
                    // Records are slices of it, and may be few.
                    out.shrink_to_fit();
                    out.into()
                })
            }
        };
        unpacked.map_err(|error| broken(&error))
    }

    /// What is left when all has come.
    ///
    /// # Errors
    /// 400 where more should have come.
    pub fn end(&mut self) -> Result<Bytes, Problem> {
        match self {
            Unpacker::Plain => Ok(Bytes::new()),
            Unpacker::Gzip(decoder) => {
                decoder.try_finish().map_err(|error| broken(&error))?;
                Ok(mem::take(decoder.get_mut()).into())
            }
            Unpacker::Zstd {
                is_inside: false, ..
            } => Ok(Bytes::new()),
            Unpacker::Zstd { .. } => Err(broken(&io::ErrorKind::UnexpectedEof.into())),
        }
    }
}

fn zstd_decoder() -> io::Result<raw::Decoder<'static>> {
    let mut decoder = raw::Decoder::new()?;
    decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX))?;
    Ok(decoder)
}

fn broken(error: &io::Error) -> Problem {
    Problem::bad_request(format!("the body cannot be unpacked: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    /// All that a body unpacks to, which comes in pieces of `piece` bytes; and the most of one step.
    fn unpack(
        coding: &'static str,
        body: &[u8],
        piece: usize,
    ) -> Result<(Vec<u8>, usize), Problem> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
        let mut unpacker = Unpacker::of(&headers)?;
        let (mut all, mut most) = (Vec::new(), 0);
        for piece in body.chunks(piece) {
            let mut piece = Bytes::copy_from_slice(piece);
            while !piece.is_empty() {
                let step = unpacker.step(&mut piece)?;
                most = most.max(step.len());
                all.extend(step);
            }
        }
        all.extend(unpacker.end()?);
        Ok((all, most))
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_packed_body_is_what_was_packed_and_comes_in_small_steps() {
        let text: Vec<u8> = (0..300_000u32)
            .flat_map(|n| (n / 7).to_be_bytes())
            .collect();
        let zeros = vec![0; 30 << 20];
        for (coding, packed) in [
            ("gzip", [gzip(&text), gzip(&zeros)]),
            (
                "zstd",
                [&text, &zeros].map(|text| zstd::encode_all(&text[..], 3).unwrap()),
            ),
        ] {
            for piece in [1, 1_000, usize::MAX >> 1] {
                assert!(
                    unpack(coding, &packed[0], piece).unwrap().0 == text,
                    "{coding} {piece}"
                );
            }
            let (all, most) = unpack(coding, &packed[1], 4_096).unwrap();
            assert!(all == zeros, "{coding}");
            assert!(most <= 256 << 10, "{coding}: {most} at once");
            let two = [&packed[0][..], &packed[0]].concat();
            assert!(unpack(coding, &two, 512).unwrap().0.len() == 2 * text.len());
            for cut in [1, packed[0].len() / 2, packed[0].len() - 1] {
                assert!(
                    unpack(coding, &packed[0][..cut], 512).is_err(),
                    "{coding} cut at {cut}"
                );
            }
            assert!(unpack(coding, b"neither", 512).is_err());
        }
        assert_eq!(unpack("identity", b"plain", 2).unwrap().0, b"plain");
        assert_eq!(unpack("br", b"", 2).unwrap_err().status, 415);
    }

    #[test]
    fn a_frame_that_asks_for_a_huge_window_is_refused() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        encoder.write_all(&vec![7; 1 << 20]).unwrap();
        let packed = encoder.finish().unwrap();
        assert!(unpack("zstd", &packed, 4_096).is_err());
    }
}
