//! The client of a schema registry, with a cache. It blocks: it is used on a thread of its own.

use super::cache::Cache;
use super::kind::Kind;
use super::schema::Schema;
use crate::config::RegistryUrl;
use crate::http::query::encoded;
use crate::io::rate_limited::RateLimited;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use ureq::Agent;
use ureq::http::{Response, StatusCode};
use ureq::tls::{RootCerts, TlsConfig};

/// The longest text of a schema, and the longest name of a subject.
const SCHEMA_BYTES_MAX: usize = 256 << 10;
const SUBJECT_BYTES_MAX: usize = 1 << 10;
/// The longest answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// Schemas that one refers to, with all that these refer to: how many, how deep, and how long together.
const REFERENCES_MAX: usize = 64;
const REFERENCES_DEPTH_MAX: usize = 16;
const REFERENCES_BYTES_MAX: usize = 1 << 20;
/// Bounds of the cache.
const CACHE_ENTRIES_MAX: usize = 1_000;
const CACHE_BYTES_MAX: usize = 64 << 20;
/// What a schema takes in memory for each byte of its text, and beside that.
const MEMORY_FACTOR: usize = 16;
const ENTRY_BYTES: usize = 1_024;
/// A failure is told again for this long, without asking again.
const FAILURE_KEPT: Duration = Duration::from_secs(1);
/// For how long the latest version of a subject is taken to be that.
const LATEST_KEPT: Duration = Duration::from_secs(5);
/// What the media type of a registry is called.
const KIND: &str = "application/vnd.schemaregistry.v1+json";
/// The longest part of a registry's message that is told.
const WHY_CHARS_MAX: usize = 500;

static FAILED: RateLimited = RateLimited::new(Duration::from_secs(10));

/// What is asked of the registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Wanted {
    /// The schema that has this id.
    Id(i32),
    /// The same, and which version of the subject it is.
    IdIn(i32, Subject),
    /// A schema by its text, which is registered if it is not yet.
    Text(Kind, Arc<str>, Subject),
    /// A version of a subject.
    Version(String, i32),
    /// The latest version of a subject.
    Latest(String),
}

/// The subject that a schema belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    Named(String),
    /// Called like the record that the schema describes.
    RecordName,
    /// The same behind the name of this topic.
    TopicRecordName(String),
}

impl Wanted {
    /// # Errors
    /// Where it is longer than anything that a registry has.
    pub fn check(&self) -> Result<(), Failure> {
        let (text, subject) = match self {
            Wanted::Id(_) => return Ok(()),
            Wanted::IdIn(_, subject) => (0, subject.bytes()),
            Wanted::Text(_, text, subject) => (text.len(), subject.bytes()),
            Wanted::Version(subject, _) | Wanted::Latest(subject) => (0, subject.len()),
        };
        check_length(text, SCHEMA_BYTES_MAX)?;
        if subject <= SUBJECT_BYTES_MAX {
            return Ok(());
        }
        let why = format!("its subject has more than {SUBJECT_BYTES_MAX} bytes");
        Err(Failure::Invalid(why))
    }
}

impl Subject {
    fn bytes(&self) -> usize {
        match self {
            Subject::Named(name) | Subject::TopicRecordName(name) => name.len(),
            Subject::RecordName => 0,
        }
    }

    fn of(&self, schema: &Schema) -> Result<String, Failure> {
        let name = || {
            let name = schema.name();
            name.ok_or_else(|| {
                Failure::Invalid("a subject is named by its record, and it has no name".to_owned())
            })
        };
        Ok(match self {
            Subject::Named(subject) => subject.clone(),
            Subject::RecordName => name()?,
            Subject::TopicRecordName(topic) => format!("{topic}-{}", name()?),
        })
    }
}

/// A schema that the registry knows.
#[derive(Clone)]
pub struct Found {
    pub id: i32,
    /// The subject and its version, unless only the id was asked for.
    pub place: Option<(String, i32)>,
    pub schema: Arc<Schema>,
    text: Arc<Text>,
}

/// A schema as the registry has it.
struct Text {
    kind: Kind,
    schema: String,
    references: Vec<Reference>,
}

/// Another schema under the name that one refers to it by.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Reference {
    name: String,
    subject: String,
    version: i32,
}

/// Why a schema is not found.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The registry does not answer, or not now.
    Unavailable(String),
    /// It has no such schema, or does not take it.
    Refused(String),
    /// The schema is none.
    Invalid(String),
}

/// What the registry tells of a schema. Which of it depends on what is asked.
#[derive(Deserialize)]
struct Told {
    id: Option<i32>,
    subject: Option<String>,
    version: Option<i32>,
    schema: Option<String>,
    #[serde(rename = "schemaType")]
    kind: Option<String>,
    references: Option<Vec<Reference>>,
}

pub struct Registry {
    url: RegistryUrl,
    timeout: Duration,
    agent: Agent,
    state: Mutex<State>,
}

struct State {
    known: Cache<Wanted, Result<Found, Failure>>,
    /// Until when the registry is not asked, for it has just failed, and how.
    down: Option<(Instant, String)>,
}

impl Registry {
    pub fn new(url: RegistryUrl, timeout: Duration) -> Registry {
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::PlatformVerifier)
            .build();
        // Nothing but what is configured says where requests go.
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .tls_config(tls)
            .user_agent("millstream")
            .build();
        let state = State {
            known: Cache::new(CACHE_ENTRIES_MAX, CACHE_BYTES_MAX),
            down: None,
        };
        Registry {
            url,
            timeout,
            agent: config.into(),
            state: Mutex::new(state),
        }
    }

    /// What is known without asking, be it that it fails.
    pub fn known(&self, wanted: &Wanted) -> Option<Result<Found, Failure>> {
        let now = Instant::now();
        let mut state = self.state();
        if let Some(known) = state.known.get(wanted, now) {
            return Some(known);
        }
        let (_, why) = state.down.as_ref().filter(|(until, _)| now < *until)?;
        Some(Err(Failure::Unavailable(why.clone())))
    }

    /// Finds a schema, and asks the registry if need be, until then at most.
    pub fn find(&self, wanted: &Wanted, until: Instant) -> Result<Found, Failure> {
        if let Some(known) = self.known(wanted) {
            return known;
        }
        let found = self.ask(wanted, until);
        self.note(wanted, &found);
        found
    }

    /// What the timeout says, for whoever waited for so long.
    pub fn too_late(&self) -> String {
        let (url, ms) = (&self.url, self.timeout.as_millis());
        format!(
            "the schema registry at {url} did not answer within {ms} ms (schema_registry_timeout_ms): see that it runs, and that schema_registry_url is right"
        )
    }

    fn note(&self, wanted: &Wanted, found: &Result<Found, Failure>) {
        let now = Instant::now();
        let (bytes, kept) = match found {
            Ok(found) => {
                let is_latest = matches!(wanted, Wanted::Latest(_));
                let bytes = found.text.schema.len() * MEMORY_FACTOR;
                (bytes, is_latest.then_some(LATEST_KEPT))
            }
            Err(Failure::Unavailable(why)) => {
                self.state().down = Some((now + FAILURE_KEPT, why.clone()));
                if let Some(kept_back) = FAILED.admit() {
                    tracing::warn!(registry = %self.url, kept_back, "the schema registry fails: {why}");
                }
                return;
            }
            Err(Failure::Refused(_) | Failure::Invalid(_)) => (0, Some(FAILURE_KEPT)),
        };
        let of_key = match wanted {
            Wanted::Text(_, text, _) => text.len(),
            _ => 0,
        };
        let bytes = bytes + of_key + ENTRY_BYTES;
        let mut state = self.state();
        state
            .known
            .put(wanted.clone(), found.clone(), bytes, kept, now);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.state.lock();
        state.unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn ask(&self, wanted: &Wanted, until: Instant) -> Result<Found, Failure> {
        match wanted {
            Wanted::Id(id) => {
                let told: Told = self.get(&format!("/schemas/ids/{id}"), until)?;
                self.found(told, *id, None, until)
            }
            Wanted::IdIn(id, subject) => {
                let found = self.find(&Wanted::Id(*id), until)?;
                let subject = subject.of(&found.schema)?;
                let told = self.look_up(&subject, &found.text, until)?;
                let version = told.version.ok_or_else(|| self.strange("no version"))?;
                let place = Some((subject, version));
                Ok(Found { place, ..found })
            }
            Wanted::Text(kind, text, subject) => self.by_text(*kind, text, subject, until),
            Wanted::Version(subject, version) => {
                self.by_version(subject, &version.to_string(), until)
            }
            Wanted::Latest(subject) => self.by_version(subject, "latest", until),
        }
    }

    fn by_version(&self, subject: &str, version: &str, until: Instant) -> Result<Found, Failure> {
        let told = self.version(subject, version, until)?;
        let id = told.id.ok_or_else(|| self.strange("no id"))?;
        let version = told.version.ok_or_else(|| self.strange("no version"))?;
        let subject = told.subject.clone().unwrap_or_else(|| subject.to_owned());
        self.found(told, id, Some((subject, version)), until)
    }

    fn by_text(
        &self,
        kind: Kind,
        text: &str,
        subject: &Subject,
        until: Instant,
    ) -> Result<Found, Failure> {
        let schema = Schema::parse(kind, text, &[]).map_err(Failure::Invalid)?;
        let subject = subject.of(&schema)?;
        let text = Text {
            kind,
            schema: text.to_owned(),
            references: Vec::new(),
        };
        let told = match self.look_up(&subject, &text, until) {
            Err(Failure::Refused(_)) => {
                let path = format!("/subjects/{}/versions", encoded(&subject));
                let _: Value = self.post(&path, &body(&text), until)?;
                // What was not there may be there now, and another version may be the latest.
                let is_old = |wanted: &Wanted, found: &Result<Found, Failure>| {
                    found.is_err() || matches!(wanted, Wanted::Latest(of) if *of == subject)
                };
                self.state().known.forget(is_old);
                self.look_up(&subject, &text, until)?
            }
            told => told?,
        };
        let id = told.id.ok_or_else(|| self.strange("no id"))?;
        let version = told.version.ok_or_else(|| self.strange("no version"))?;
        Ok(Found {
            id,
            place: Some((subject, version)),
            schema: Arc::new(schema),
            text: Arc::new(text),
        })
    }

    /// Which version of a subject a schema is.
    fn look_up(&self, subject: &str, text: &Text, until: Instant) -> Result<Told, Failure> {
        let path = format!("/subjects/{}", encoded(subject));
        self.post(&path, &body(text), until)
    }

    fn version(&self, subject: &str, version: &str, until: Instant) -> Result<Told, Failure> {
        let path = format!("/subjects/{}/versions/{version}", encoded(subject));
        self.get(&path, until)
    }

    fn found(
        &self,
        told: Told,
        id: i32,
        place: Option<(String, i32)>,
        until: Instant,
    ) -> Result<Found, Failure> {
        let text = self.text(told)?;
        let mut references = Vec::new();
        self.add_references(&text.references, &mut references, 0, until)?;
        let named = references.iter();
        let named: Vec<(&str, &str)> = named
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        let schema = Schema::parse(text.kind, &text.schema, &named);
        Ok(Found {
            id,
            place,
            schema: Arc::new(schema.map_err(Failure::Invalid)?),
            text: Arc::new(text),
        })
    }

    fn text(&self, told: Told) -> Result<Text, Failure> {
        let schema = told.schema.ok_or_else(|| self.strange("no schema"))?;
        check_length(schema.len(), SCHEMA_BYTES_MAX)?;
        let kind = Kind::of_registry(told.kind.as_deref());
        Ok(Text {
            kind: kind.ok_or_else(|| self.strange("a kind of schema that is not known here"))?,
            schema,
            references: told.references.unwrap_or_default(),
        })
    }

    /// Adds the texts of references to those that are there, each behind those that it refers to.
    fn add_references(
        &self,
        references: &[Reference],
        added: &mut Vec<(String, String)>,
        depth: usize,
        until: Instant,
    ) -> Result<(), Failure> {
        for reference in references {
            if added.iter().any(|(name, _)| *name == reference.name) {
                continue;
            }
            if added.len() >= REFERENCES_MAX || depth > REFERENCES_DEPTH_MAX {
                let why = format!(
                    "it refers to more than {REFERENCES_MAX} others, or they to one another"
                );
                return Err(Failure::Invalid(why));
            }
            let version = reference.version.to_string();
            let text = self.text(self.version(&reference.subject, &version, until)?)?;
            self.add_references(&text.references, added, depth + 1, until)?;
            let bytes: usize = added.iter().map(|(_, text)| text.len()).sum();
            check_length(bytes + text.schema.len(), REFERENCES_BYTES_MAX)?;
            added.push((reference.name.clone(), text.schema));
        }
        Ok(())
    }

    // ---- over HTTP ----

    fn get<T: DeserializeOwned>(&self, path: &str, until: Instant) -> Result<T, Failure> {
        let mut request = self
            .agent
            .get(self.url.with_path(path))
            .header("Accept", KIND);
        if let Some(authorization) = self.url.authorization() {
            request = request.header("Authorization", authorization);
        }
        let request = request.config().timeout_global(left(until)).build();
        self.answer(path, request.call())
    }

    fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &Value,
        until: Instant,
    ) -> Result<T, Failure> {
        let request = self.agent.post(self.url.with_path(path));
        let mut request = request.header("Accept", KIND).header("Content-Type", KIND);
        if let Some(authorization) = self.url.authorization() {
            request = request.header("Authorization", authorization);
        }
        let request = request.config().timeout_global(left(until)).build();
        self.answer(path, request.send(body.to_string()))
    }

    fn answer<T: DeserializeOwned>(
        &self,
        path: &str,
        answer: Result<Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, Failure> {
        let mut answer = answer.map_err(|error| self.broken(error))?;
        let status = answer.status();
        let body = answer.body_mut().with_config();
        let body = body.limit(ANSWER_BYTES_MAX as u64).read_to_vec();
        let body = body.map_err(|error| self.broken(error))?;
        if status.is_success() {
            let told = serde_json::from_slice(&body);
            return told.map_err(|error| self.strange(&format!("what cannot be read: {error}")));
        }
        let (url, why) = (&self.url, message(&body));
        let told = format!(
            "the schema registry at {url} says {} to {path}: {why}",
            status.as_u16()
        );
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Failure::Refused(format!(
                "{told}; see to the user and password in schema_registry_url"
            )),
            StatusCode::TOO_MANY_REQUESTS => Failure::Unavailable(told),
            _ if status.is_server_error() => Failure::Unavailable(told),
            _ => Failure::Refused(told),
        })
    }

    fn broken(&self, error: ureq::Error) -> Failure {
        match error {
            ureq::Error::Timeout(_) => Failure::Unavailable(self.too_late()),
            ureq::Error::BodyExceedsLimit(_) => {
                self.strange(&format!("more than {ANSWER_BYTES_MAX} bytes"))
            }
            error => {
                let url = &self.url;
                Failure::Unavailable(format!(
                    "the schema registry at {url} cannot be asked: {error}; see that it runs, and that schema_registry_url is right"
                ))
            }
        }
    }

    /// An answer that none should be.
    fn strange(&self, what: &str) -> Failure {
        let url = &self.url;
        Failure::Refused(format!("the schema registry at {url} answers with {what}"))
    }
}

/// Not none: that would be no limit.
fn left(until: Instant) -> Option<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    Some(left.max(Duration::from_millis(1)))
}

/// What asks for a schema, or registers it.
fn body(text: &Text) -> Value {
    let mut body = json!({ "schema": text.schema });
    if text.kind != Kind::Avro {
        body["schemaType"] = text.kind.registry_name().into();
    }
    if !text.references.is_empty() {
        body["references"] = json!(text.references);
    }
    body
}

/// What a registry says went wrong, shortened.
fn message(body: &[u8]) -> String {
    let told: Result<Value, _> = serde_json::from_slice(body);
    let told = told.ok();
    let told = told.as_ref().and_then(|told| told["message"].as_str());
    let told = told.unwrap_or("it does not say why");
    told.chars().take(WHY_CHARS_MAX).collect()
}

fn check_length(bytes: usize, bytes_max: usize) -> Result<(), Failure> {
    if bytes <= bytes_max {
        return Ok(());
    }
    let why = format!("its text has more than {bytes_max} bytes");
    Err(Failure::Invalid(why))
}
