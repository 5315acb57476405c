//! Bodies of requests that are read whole, within limits.

use super::activity::Activity;
use super::coding::Unpacker;
use super::problem::Problem;
use crate::io::reactor::Slice;
use crate::net::budget::Share;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use hyper::header::HeaderMap;
use std::time::Duration;
use tokio::time::timeout;

/// Of a body that is not wanted any more.
const DISCARDED_BYTES_MAX: usize = 64 << 20;
const DISCARD_TIME: Duration = Duration::from_secs(10);

/// How a body is read.
pub struct Whole<'a> {
    /// The most bytes that it may unpack to.
    pub limit: usize,
    /// What that limit is called.
    pub limit_name: &'static str,
    /// A connection shows that it lives with so many bytes.
    pub frame_bytes_min: usize,
    pub activity: &'a Activity,
}

impl Whole<'_> {
    /// Reads a body, unpacked, and takes memory for it as it comes: for twice its bytes, since what is made of it takes
    /// as much again.
    ///
    /// # Errors
    /// 413 for more than `limit` bytes; 400 when the client breaks off; 415 for a coding that is not known.
    pub async fn read(
        &self,
        headers: &HeaderMap,
        mut body: Incoming,
        memory: &mut Share,
    ) -> Result<Bytes, Problem> {
        let mut unpacker = Unpacker::of(headers)?;
        let limit = self.limit;
        let mut whole = BytesMut::new();
        let mut slice = Slice::new();
        let mut since_touched = 0;
        let mut is_too_large = body.size_hint().lower() > limit as u64;
        while !is_too_large && let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Problem::broken_off(0))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            since_touched += data.len();
            if since_touched >= self.frame_bytes_min {
                since_touched = 0;
                self.activity.touch();
            }
            // Twice: once here, once in the batch.
            let held = unpacker.bytes() + 2 * (whole.len() + data.len());
            memory.grow(held).await;
            let is_plain = matches!(unpacker, Unpacker::Plain);
            if is_plain && whole.is_empty() && body.is_end_stream() && data.len() <= limit {
                return Ok(data);
            }
            let mut packed = data;
            while !packed.is_empty() && !is_too_large {
                let step = unpacker.step(&mut packed)?;
                is_too_large = whole.len() + step.len() > limit;
                whole.extend_from_slice(&step);
                memory.grow(unpacker.bytes() + 2 * whole.len()).await;
                slice.rest().await;
            }
        }
        if !is_too_large {
            whole.extend_from_slice(&unpacker.end()?);
        }
        if is_too_large || whole.len() > limit {
            discard(body).await;
            let name = self.limit_name;
            let detail = format!("the body has more than the {limit} bytes of {name}");
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            return Err(Problem::new(status, "too-large", detail));
        }
        Ok(whole.freeze())
    }
}

/// Reads what is left of a body that is not wanted, within bounds: many clients read no answer before they
/// have sent everything.
pub async fn discard(mut body: Incoming) {
    let mut left = DISCARDED_BYTES_MAX;
    let rest = async {
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            left = left.saturating_sub(bytes);
            if left == 0 {
                return;
            }
        }
    };
    let _ = timeout(DISCARD_TIME, rest).await;
}
