//! A schema registry in this process: the four endpoints that are asked, and ways to fail.

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// How it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// Takes requests and answers none.
    Hangs,
    /// Answers with this status.
    Says(u16),
    /// Answers with more than anybody wants.
    Talks,
}

pub struct Registry {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    mood: Mood,
    /// What the header `Authorization` has to say.
    authorization: Option<String>,
    /// What was asked for, in order.
    asked: Vec<String>,
    /// The first one has the id 1.
    schemas: Vec<Value>,
    /// Subject and id, in the order of versions.
    versions: Vec<(String, usize)>,
}

impl Registry {
    pub fn start() -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            mood: Mood::Well,
            authorization: None,
            asked: Vec::new(),
            schemas: Vec::new(),
            versions: Vec::new(),
        }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &state));
            }
        });
        Registry { address, state }
    }

    /// The flag that leads a broker here.
    pub fn flag(&self) -> String {
        format!("--schema-registry-url=http://{}", self.address)
    }

    pub fn be(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    pub fn ask_for(&self, authorization: &str) {
        self.state.lock().unwrap().authorization = Some(authorization.to_owned());
    }

    /// Methods and paths of the requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.clone()
    }

    /// Registers a schema as others do: with `schema`, and if need be `schemaType` and `references`.
    pub fn register(&self, subject: &str, schema: &Value) -> i64 {
        self.state.lock().unwrap().register(subject, schema) as i64
    }
}

impl State {
    fn register(&mut self, subject: &str, schema: &Value) -> usize {
        let id = match self.id_of(schema) {
            Some(id) => id,
            None => {
                self.schemas.push(schema.clone());
                self.schemas.len()
            }
        };
        let version = (subject.to_owned(), id);
        if !self.versions.contains(&version) {
            self.versions.push(version);
        }
        id
    }

    fn id_of(&self, schema: &Value) -> Option<usize> {
        let place = self.schemas.iter().position(|known| known == schema);
        place.map(|place| place + 1)
    }

    fn versions_of(&self, subject: &str) -> Vec<usize> {
        let versions = self.versions.iter();
        let versions = versions.filter(|(known, _)| known == subject);
        versions.map(|(_, id)| *id).collect()
    }

    fn told(&self, subject: &str, version: usize) -> Value {
        let id = self.versions_of(subject)[version - 1];
        let mut told = self.schemas[id - 1].clone();
        told["subject"] = subject.into();
        told["id"] = id.into();
        told["version"] = version.into();
        told
    }

    fn answer(&mut self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let none = |what: &str| {
            (
                404,
                json!({ "error_code": 40403, "message": format!("{what} not found") }),
            )
        };
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        match (method, &parts[..]) {
            ("GET", ["schemas", "ids", id]) => {
                let id: usize = id.parse().unwrap();
                match self.schemas.get(id.wrapping_sub(1)) {
                    Some(schema) => (200, schema.clone()),
                    None => none("Schema"),
                }
            }
            ("POST", ["subjects", subject, "versions"]) => {
                (200, json!({ "id": self.register(subject, body) }))
            }
            ("POST", ["subjects", subject]) => {
                let id = self.id_of(body);
                let versions = self.versions_of(subject);
                match versions.iter().position(|known| Some(*known) == id) {
                    Some(place) => (200, self.told(subject, place + 1)),
                    None => none("Schema"),
                }
            }
            ("GET", ["subjects", subject, "versions", version]) => {
                let count = self.versions_of(subject).len();
                let version = match *version {
                    "latest" => count,
                    version => version.parse().unwrap(),
                };
                match (1..=count).contains(&version) {
                    true => (200, self.told(subject, version)),
                    false => none("Version"),
                }
            }
            _ => none("Path"),
        }
    }
}

/// Answers the requests of a connection.
fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut input = BufReader::new(stream.try_clone().unwrap());
    let mut output = stream;
    while let Some((method, path, authorization, body)) = request(&mut input) {
        let (status, answer) = {
            let mut state = state.lock().unwrap();
            state.asked.push(format!("{method} {path}"));
            match state.mood {
                Mood::Hangs => {
                    drop(state);
                    // Until the client has had enough.
                    let _ = input.read_to_end(&mut Vec::new());
                    return;
                }
                Mood::Says(status) => (status, json!({ "message": "not today" }).to_string()),
                Mood::Talks => (200, json!({ "schema": "x".repeat(2 << 20) }).to_string()),
                Mood::Well
                    if state
                        .authorization
                        .as_ref()
                        .is_some_and(|asked| *asked != authorization) =>
                {
                    (401, "{}".to_owned())
                }
                Mood::Well => {
                    let body = serde_json::from_slice(&body).unwrap_or_default();
                    let (status, answer) = state.answer(&method, &path, &body);
                    (status, answer.to_string())
                }
            }
        };
        let head = format!(
            "HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        );
        let written = output.write_all(head.as_bytes());
        if written
            .and_then(|()| output.write_all(answer.as_bytes()))
            .is_err()
        {
            return;
        }
    }
}

type Request = (String, String, String, Vec<u8>);

fn request(input: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    input.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut authorization) = (0, String::new());
    loop {
        let mut line = String::new();
        input.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().unwrap(),
            "authorization" => authorization = value.to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body).ok()?;
    Some((method, path, authorization, body))
}
