//! What the matrix's programs in Rust share: their arguments, the records that they send, the lines
//! that they print.

use std::collections::HashMap;
use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow};
use serde_json::Value;

/// A subcommand and its `key=value` arguments.
pub struct Arguments {
    pub subcommand: String,
    values: HashMap<String, String>,
}

impl Arguments {
    pub fn of_process() -> Result<Self> {
        let mut words = env::args().skip(1);
        let subcommand = words.next().context("no subcommand")?;
        let values = words.map(|word| split(&word, '=')).collect::<Result<_>>()?;
        Ok(Self { subcommand, values })
    }

    pub fn text(&self, key: &str) -> Result<&str> {
        let value = self.values.get(key).map(String::as_str);
        value.with_context(|| format!("{key}= is missing"))
    }

    pub fn number<T: FromStr<Err: Display>>(&self, key: &str) -> Result<T> {
        let text = self.text(key)?;
        text.parse()
            .map_err(|error| anyhow!("{key}={text}: {error}"))
    }

    pub fn number_or<T: FromStr<Err: Display>>(&self, key: &str, default: T) -> Result<T> {
        match self.values.contains_key(key) {
            true => self.number(key),
            false => Ok(default),
        }
    }

    /// `config=name:value`.
    pub fn config(&self) -> Result<(String, String)> {
        split(self.text("config")?, ':')
    }
}

/// Where the broker is.
pub fn bootstrap() -> Result<String> {
    env::var("BOOTSTRAP").context("BOOTSTRAP is not set")
}

/// One of the records that the matrix asks for.
pub struct Record {
    pub partition: i32,
    pub key: String,
    pub value: String,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    pub headers: [(&'static str, String); 2],
}

/// The records `start..start + count` that the arguments of `produce` ask for, from the client `name`.
pub fn records(arguments: &Arguments, name: &str) -> Result<impl Iterator<Item = Record>> {
    let start: i64 = arguments.number("start")?;
    let count: i64 = arguments.number("count")?;
    let base: i64 = arguments.number("base")?;
    let partitions: i64 = arguments.number("partitions")?;
    Ok((start..start + count).map(move |number| Record {
        partition: (number % partitions) as i32,
        key: format!("key-{number}"),
        value: format!("value-{number}-{}", "x".repeat((number % 200) as usize)),
        timestamp: base + 1000 * number,
        headers: [("n", number.to_string()), ("by", name.to_owned())],
    }))
}

/// Prints one object on a line of its own, at once.
pub fn print(object: Value) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{object}")?;
    Ok(out.flush()?)
}

/// Which version of a package a Cargo.lock names.
pub fn locked_version<'a>(lock: &'a str, package: &str) -> Result<&'a str> {
    let entry = format!("name = \"{package}\"\nversion = \"");
    let (_, rest) = lock.split_once(&entry).context("not in Cargo.lock")?;
    Ok(rest
        .split('"')
        .next()
        .expect("there is always a first part"))
}

fn split(text: &str, at: char) -> Result<(String, String)> {
    let parts = text.split_once(at);
    let (left, right) = parts.with_context(|| format!("{text:?} is without `{at}`"))?;
    Ok((left.to_owned(), right.to_owned()))
}
