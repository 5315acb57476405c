//! Records of one partition, without a consumer (Redpanda's).

use super::topics::key_of;
use crate::engine::EngineError;
use crate::engine::offsets::OffsetSpec;
use crate::http::answer::{self, Answer};
use crate::http::gather::{Amount, read_on};
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::http::reading::{self, Cursor, Filter, Reader};
use crate::http::records::Record;
use crate::http::request::Asked;
use crate::http::rest::embedded::{Format, Include, Shown};
use crate::http::rest::json;
use crate::http::rest::schemas::{self, Decoded};
use hyper::StatusCode;
use std::rc::Rc;
use std::time::Duration;

/// How long a read waits for the first record unless it says so, and at most.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(1);
const TIMEOUT_MAX: Duration = Duration::from_secs(60);
/// The most bytes of records in an answer.
const BYTES_MAX: usize = 8 << 20;
/// The most records in an answer.
const RECORDS_MAX: usize = 10_000;

/// How much a read asks for, and how long it waits for that.
pub struct Asking {
    pub timeout: Option<Duration>,
    pub max_bytes: usize,
    pub include: Include,
}

impl Asking {
    /// What the parameters `timeout` (ms), `max_bytes` and `include` say.
    ///
    /// # Errors
    /// 400.
    pub fn parse(query: &mut Query) -> Result<Asking, Problem> {
        // Some clients say -1 for "as you like".
        let number = |text: &str| text.parse::<i64>().ok();
        let form = "a number of milliseconds";
        let timeout = query.take("timeout", form, number)?;
        let max_bytes = query.take("max_bytes", "a number of bytes", number)?;
        let form = "headers, timestamp or both with a comma";
        let include = query.take("include", form, Include::parse)?;
        let timeout = timeout.and_then(|ms| u64::try_from(ms).ok());
        let max_bytes = max_bytes.and_then(|bytes| usize::try_from(bytes).ok());
        Ok(Asking {
            timeout: timeout.map(|ms| Duration::from_millis(ms).min(TIMEOUT_MAX)),
            max_bytes: max_bytes.unwrap_or(BYTES_MAX).min(BYTES_MAX),
            include: include.unwrap_or_default(),
        })
    }

    /// The amount that is read; `timeout` where the request says none.
    pub fn amount(&self, timeout: Duration) -> Amount {
        Amount {
            records: RECORDS_MAX,
            bytes: self.max_bytes,
            wait: Some(self.timeout.unwrap_or(timeout)),
        }
    }
}

/// `GET /topics/{topic}/partitions/{partition}/records`: records from an offset on, the first one unless said.
pub async fn partition(mut asked: Asked) -> Result<Answer, Problem> {
    let engine = Rc::clone(&asked.services.engine);
    let format = Format::accepted(&asked.headers)?.unwrap_or(Format::Binary);
    let needed = schemas::needed(format, asked.services.schemas.as_ref())?;
    let asking = Asking::parse(&mut asked.query)?;
    let offset: Option<i64> = asked.query.number("offset")?;
    let topic = reading::topic(&engine, &asked.params[0])?;
    let key = key_of(&topic, &asked.params[1])?;
    let start = reading::at(&engine, key, OffsetSpec::Earliest).await?;
    let end = reading::at(&engine, key, OffsetSpec::Latest).await?;
    let next = offset.unwrap_or(start);
    if !(start..=end).contains(&next) {
        let asked = next;
        return Err(EngineError::OffsetOutOfRange { asked, start, end }.into());
    }
    let mut cursors = [Cursor {
        index: key.index as i32,
        key,
        next,
        end,
    }];
    let mut memory = engine.memory.share();
    let mut reader = Reader::new(&engine, Filter::default());
    let amount = asking.amount(TIMEOUT_DEFAULT);
    let found = read_on(&mut reader, &mut cursors, &amount, &mut memory).await?;
    let mut found: Vec<Record> = found.into_iter().map(|(_, record)| record).collect();
    if let Some((kind, schemas)) = needed {
        let next = found.first().map_or(next, |first| first.offset);
        let Decoded { records, failure } = schemas.decode(kind, found).await;
        found = records;
        if let Some(failure) = failure.filter(|_| found.is_empty()) {
            return Err(failure.problem(&topic.name, key.index as i32, next));
        }
    }
    let shown = found.iter().map(|record| Shown {
        topic: &topic.name,
        partition: key.index as i32,
        record,
        format,
        include: asking.include,
    });
    let body = json::array(shown).await;
    let bytes: usize = found.iter().map(Record::bytes).sum();
    memory.grow(bytes + body.len()).await;
    let mut answer = answer::of(StatusCode::OK, format.kind(), body);
    answer.body_mut().hold(memory);
    Ok(answer)
}
