//! Consumer instances.

use super::read::Asking;
use super::topics::shown;
use crate::http::answer::{self, Answer};
use crate::http::guard;
use crate::http::problem::Problem;
use crate::http::query::encoded;
use crate::http::request::Asked;
use crate::http::rest::embedded::{Format, Shown};
use crate::http::rest::error::{constraint, kind_accepted, refusal};
use crate::http::rest::instances::instance::Instance;
use crate::http::rest::instances::settings::{Reset, Settings};
use crate::http::rest::instances::state::Wanted;
use crate::http::rest::json;
use crate::http::rest::schemas;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

/// How long a read waits unless the instance or the read says so, in milliseconds.
const TIMEOUT_MS_DEFAULT: u64 = 1_000;
const FORMATS: &str = "binary, json, text, avro, jsonschema or protobuf";
/// Topics that an instance subscribes to, at most.
const TOPICS_MAX: usize = 1_000;

/// How an instance is to be. Numbers and booleans may be texts.
#[derive(Default, Deserialize)]
struct New {
    id: Option<String>,
    name: Option<String>,
    format: Option<String>,
    #[serde(rename = "auto.offset.reset")]
    reset: Option<String>,
    #[serde(rename = "auto.commit.enable", alias = "enable.auto.commit")]
    auto_commit: Option<Value>,
    #[serde(rename = "consumer.request.timeout.ms")]
    timeout_ms: Option<Value>,
    #[serde(rename = "fetch.min.bytes")]
    min_bytes: Option<Value>,
}

impl New {
    fn settings(&self) -> Result<Settings, Problem> {
        let bad = |name: &str, value: &str, form: &str| {
            let detail = format!("Invalid consumer configuration: {name} is {form}, not {value}");
            refusal("bad-consumer-config", &detail)
        };
        let text = |value: &Value| {
            let text = value.as_str().map(str::to_owned);
            text.unwrap_or_else(|| value.to_string())
        };
        let number = |name: &str, value: &Value| -> Result<i64, Problem> {
            let text = text(value);
            text.parse().map_err(|_| bad(name, &text, "a number"))
        };
        let format = self.format.as_deref().unwrap_or("binary");
        let known = Format::named(format);
        let reset = match self.reset.as_deref() {
            None => Reset::Latest,
            Some("earliest" | "smallest") => Reset::Earliest,
            Some("latest" | "largest") => Reset::Latest,
            Some("none") => Reset::None,
            Some(other) => return Err(bad("auto.offset.reset", other, "earliest, latest or none")),
        };
        let auto_commit = match self.auto_commit.as_ref().map(text).as_deref() {
            None | Some("true") => true,
            Some("false") => false,
            Some(other) => return Err(bad("auto.commit.enable", other, "true or false")),
        };
        let timeout_ms = self.timeout_ms.as_ref();
        let timeout_ms = timeout_ms.map(|ms| number("consumer.request.timeout.ms", ms));
        // A read returns as soon as there is a record, however few bytes it has.
        let min_bytes = self.min_bytes.as_ref();
        min_bytes
            .map(|bytes| number("fetch.min.bytes", bytes))
            .transpose()?;
        Ok(Settings {
            format: known.ok_or_else(|| bad("format", format, FORMATS))?,
            reset,
            auto_commit,
            timeout_ms: match timeout_ms.transpose()? {
                Some(ms) => u64::try_from(ms).unwrap_or(TIMEOUT_MS_DEFAULT),
                None => TIMEOUT_MS_DEFAULT,
            },
        })
    }
}

/// `POST /consumers/{group}`: creates an instance.
pub async fn create(asked: Asked) -> Result<Answer, Problem> {
    let read = json::read(asked, json::CONTROL_BYTES_MAX).await?;
    let new: New = json::parsed_or_default(&read.body)?;
    let settings = new.settings()?;
    schemas::needed(settings.format, read.services.schemas.as_ref())?;
    let group = read.params[0].clone();
    let name = new.id.or(new.name);
    let instances = &read.services.instances;
    let name = instances.create(group, name, settings).await?;
    let base = guard::base(&read.uri, &read.headers);
    let (group, instance) = (encoded(&read.params[0]), encoded(&name));
    let told = json!({
        "instance_id": name,
        "base_uri": format!("{base}/consumers/{group}/instances/{instance}"),
    });
    Ok(shown(&read.headers, &told))
}

/// `DELETE /consumers/{group}/instances/{instance}`.
pub async fn delete(asked: Asked) -> Result<Answer, Problem> {
    let (group, name) = named(&asked.params);
    asked.services.instances.delete(group, name).await?;
    Ok(done(&asked.headers))
}

/// Group and name of the instance that a path names.
pub fn named(params: &[String]) -> (String, String) {
    (params[0].clone(), params[1].clone())
}

/// 204.
pub fn done(headers: &HeaderMap) -> Answer {
    answer::of(StatusCode::NO_CONTENT, kind_accepted(headers), "")
}

// ---- topics and partitions ----

#[derive(Deserialize)]
struct Subscription {
    topics: Option<Vec<String>>,
    topic_pattern: Option<String>,
}

/// `POST …/subscription`: the instance is a member of its group from now on.
pub async fn subscribe(asked: Asked) -> Result<Answer, Problem> {
    let read = json::read(asked, json::CONTROL_BYTES_MAX).await?;
    let subscription: Subscription = json::parsed(&read.body)?;
    let wanted = match (subscription.topics, subscription.topic_pattern) {
        (Some(topics), None) if !topics.is_empty() => Wanted::Topics(checked(topics)?),
        (None, Some(pattern)) => Wanted::Pattern(pattern),
        (Some(_), Some(_)) => {
            let detail = "Illegal state: Subscription to topics, partitions and pattern are mutually exclusive";
            return Err(refusal("illegal-state", detail));
        }
        _ => {
            return Err(constraint(
                "topics may not be empty, unless there is a topic_pattern",
            ));
        }
    };
    let (group, name) = named(&read.params);
    let instances = &read.services.instances;
    instances.subscribe(group, name, wanted).await?;
    Ok(done(&read.headers))
}

/// Topics that can be subscribed to, each once.
fn checked(mut topics: Vec<String>) -> Result<Vec<String>, Problem> {
    topics.sort_unstable();
    topics.dedup();
    if topics.len() > TOPICS_MAX {
        let detail = format!("an instance subscribes to at most {TOPICS_MAX} topics");
        return Err(constraint(detail));
    }
    for topic in &topics {
        crate::engine::catalog::check_topic_name(topic)
            .map_err(|error| refusal("invalid-topic-name", &error.to_string()))?;
    }
    Ok(topics)
}

/// `GET …/subscription`.
pub async fn subscription(asked: Asked) -> Result<Answer, Problem> {
    let (group, name) = named(&asked.params);
    let ask = |instance: Rc<Instance>| async move { Ok(instance.topics()) };
    let topics = asked.services.instances.ask(group, name, ask).await?;
    Ok(shown(&asked.headers, &json!({ "topics": topics })))
}

/// `DELETE …/subscription`: the instance leaves its group, and what it was assigned.
pub async fn unsubscribe(asked: Asked) -> Result<Answer, Problem> {
    let (group, name) = named(&asked.params);
    asked.services.instances.unsubscribe(group, name).await?;
    Ok(done(&asked.headers))
}

/// A partition of a topic.
#[derive(Deserialize)]
pub struct Partition {
    pub topic: String,
    pub partition: i32,
}

/// Some partitions.
#[derive(Default, Deserialize)]
pub struct Partitions {
    #[serde(default, deserialize_with = "json::list")]
    pub partitions: Vec<Partition>,
}

/// `POST …/assignments`: the instance reads these partitions, whatever others of its group do.
pub async fn assign(asked: Asked) -> Result<Answer, Problem> {
    let read = json::read(asked, json::CONTROL_BYTES_MAX).await?;
    let wanted: Partitions = json::parsed(&read.body)?;
    let engine = &read.services.engine;
    let mut keys = BTreeSet::new();
    for Partition { topic, partition } in &wanted.partitions {
        let key = engine.key_of(topic, *partition);
        let detail = || format!("there is no partition {partition} of {topic:?}");
        keys.insert(key.ok_or_else(|| refusal("unknown-topic-or-partition", &detail()))?);
    }
    let (group, name) = named(&read.params);
    read.services.instances.assign(group, name, keys).await?;
    Ok(done(&read.headers))
}

/// `GET …/assignments`: what the instance reads now.
pub async fn assignments(asked: Asked) -> Result<Answer, Problem> {
    let (group, name) = named(&asked.params);
    let ask = |instance: Rc<Instance>| async move { Ok(instance.partitions()) };
    let partitions = asked.services.instances.ask(group, name, ask).await?;
    let partitions = partitions.into_iter();
    let partitions =
        partitions.map(|(topic, partition)| json!({ "topic": topic, "partition": partition }));
    let told = json!({ "partitions": partitions.collect::<Vec<_>>() });
    Ok(shown(&asked.headers, &told))
}

// ---- records ----

/// `GET …/records`: what comes next.
pub async fn records(mut asked: Asked) -> Result<Answer, Problem> {
    // What it returns is not returned again.
    guard::check_origin(&asked.uri, &asked.headers)?;
    let accepted = Format::accepted(&asked.headers)?;
    if let Some(format) = accepted {
        schemas::needed(format, asked.services.schemas.as_ref())?;
    }
    let asking = Asking::parse(&mut asked.query)?;
    let (group, name) = named(&asked.params);
    let include = asking.include;
    let schemas = asked.services.schemas.clone();
    let ask = move |instance: Rc<Instance>| async move {
        let format = instance.settings.format;
        if accepted.is_some_and(|accepted| accepted != format) {
            return Err(refusal(
                "format-mismatch",
                "the instance has another format",
            ));
        }
        let timeout = Duration::from_millis(instance.settings.timeout_ms);
        let needed = schemas::needed(format, schemas.as_ref())?;
        let found = instance.read(&asking.amount(timeout), needed).await?;
        Ok((format, found))
    };
    let (format, found) = asked.services.instances.ask(group, name, ask).await?;
    let mut memory = asked.services.engine.memory.share();
    let bytes: usize = found.iter().map(|(.., record)| record.bytes()).sum();
    memory.grow(bytes).await;
    let shown = found.iter().map(|(topic, partition, record)| Shown {
        topic: &topic.name,
        partition: *partition,
        record,
        format,
        include,
    });
    let body = json::array(shown).await;
    memory.grow(bytes + body.len()).await;
    let mut answer = answer::of(StatusCode::OK, format.kind(), body);
    answer.body_mut().hold(memory);
    Ok(answer)
}
