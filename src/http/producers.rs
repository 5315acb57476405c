//! Producer ids, with which records are stored once and in order however often they are sent.

use super::answer::{self, Answer};
use super::problem::Problem;
use super::request::Asked;
use crate::engine::catalog::changes;
use crate::log::batch::ProducerMark;
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName};
use serde_json::json;
use std::str::FromStr;

const PRODUCER_ID: HeaderName = HeaderName::from_static("producer-id");
const PRODUCER_EPOCH: HeaderName = HeaderName::from_static("producer-epoch");
const SEQUENCE: HeaderName = HeaderName::from_static("sequence");

/// `POST /api/producers`: an id that was never given before.
pub async fn post(asked: Asked) -> Result<Answer, Problem> {
    let id = changes::new_producer_id(&asked.services.engine).await?;
    let body = json!({ "producer_id": id, "epoch": 0 });
    Ok(answer::of(
        StatusCode::CREATED,
        answer::JSON,
        format!("{body}\n"),
    ))
}

/// Which producer a request is of, and the sequence of its record; `None` where it does not say.
///
/// # Errors
/// 400 where it says some of it only, or what is no number in its range.
pub fn of(headers: &HeaderMap) -> Result<Option<ProducerMark>, Problem> {
    let id = number::<i64>(headers, &PRODUCER_ID)?;
    let epoch = number::<i16>(headers, &PRODUCER_EPOCH)?;
    let sequence = number::<i32>(headers, &SEQUENCE)?;
    match (id, epoch, sequence) {
        (None, None, None) => Ok(None),
        (Some(producer_id), Some(epoch), Some(base_sequence))
            if producer_id >= 0 && epoch >= 0 && base_sequence >= 0 =>
        {
            Ok(Some(ProducerMark {
                producer_id,
                epoch,
                base_sequence,
            }))
        }
        _ => {
            let detail =
                "Producer-Id, Producer-Epoch and Sequence belong together, and are 0 or more";
            Err(Problem::bad_request(detail))
        }
    }
}

fn number<T: FromStr>(headers: &HeaderMap, name: &HeaderName) -> Result<Option<T>, Problem> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    let number = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let wrong = || Problem::bad_request(format!("{name} is a number in its range"));
    number.map(Some).ok_or_else(wrong)
}
