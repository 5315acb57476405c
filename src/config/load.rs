//! Reading a configuration: flags over environment over file over defaults.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command};

use super::broker::Config;
use super::error::{ConfigError, Origin};
use super::knob::{Knob, Scope};
use super::knobs;
use super::nearest::nearest;
use super::value::Kind;

const ENV_PREFIX: &str = "MILLSTREAM_";
pub(super) const ENV_CONFIG: &str = "MILLSTREAM_CONFIG";
/// Names the broker for the client commands; set in a shell, it must not keep `serve` from starting.
const ENV_BOOTSTRAP: &str = "MILLSTREAM_BOOTSTRAP";
/// Read by `io::sabotage`.
const ENV_SABOTAGE: &str = "MILLSTREAM_SABOTAGE";
/// Read by `io::fault`.
const ENV_FAULT: &str = "MILLSTREAM_FAULT";
/// Read by `io::clock`.
const ENV_CLOCK_OFFSET: &str = "MILLSTREAM_CLOCK_OFFSET";

impl Config {
    /// Adds `--config` and a flag for every knob, in their sections, to the command `serve`.
    /// Beside clap's derive: `Cli::command().mut_subcommand("serve", Config::flags)`.
    pub fn flags(command: Command) -> Command {
        let file = Arg::new("config").long("config").value_name("FILE").help(format!(
            "TOML file with these settings, in snake_case. Flags and MILLSTREAM_* variables win over it [env: {ENV_CONFIG}]"
        ));
        command.arg(file).args(knobs().map(flag))
    }

    /// The configuration that `serve`'s own matches, the environment and the file give together.
    /// The command must have been through [`Config::flags`].
    pub fn load(matches: &ArgMatches) -> Result<Config, ConfigError> {
        Self::load_with(matches, std::env::vars_os())
    }

    /// [`Config::load`] with an environment of the caller's.
    pub fn load_with(
        matches: &ArgMatches,
        env: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Config, ConfigError> {
        let env = read_env(env)?;
        let path = matches
            .get_one::<String>("config")
            .or_else(|| env.get(ENV_CONFIG));
        let (path, file) = match path {
            Some(path) => (PathBuf::from(path), read_file(Path::new(path))?),
            None => Default::default(),
        };
        let mut config = Config::default();
        for knob in knobs() {
            if let Some(text) = matches.get_one::<String>(&knob.key()) {
                config.assign(knob, text, Origin::Flag)?;
            } else if let Some(text) = env.get(&knob.env()) {
                config.assign(knob, text, Origin::Env)?;
            } else if let Some(value) = file.get(&knob.key()) {
                config.assign(
                    knob,
                    &text_of(value, knob, &path)?,
                    Origin::File(path.clone()),
                )?;
            }
        }
        config.check()?;
        Ok(config)
    }

    fn assign(
        &mut self,
        knob: &'static Knob,
        text: &str,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        let plain = knob.kind.expand(text);
        let (done, given) = match knob.scope {
            Scope::Broker => (self.set(knob, &plain), &mut self.given),
            Scope::Topic => (
                self.topic_defaults.config.set(knob, &plain),
                &mut self.topic_defaults.given,
            ),
        };
        done.ok_or_else(|| bad_value(knob, text, origin))?;
        given.insert(knob.field);
        Ok(())
    }
}

fn flag(knob: &'static Knob) -> Arg {
    let help = format!(
        "{} [default: {}] [env: {}]",
        knob.help(),
        knob.default_shown(),
        knob.env()
    );
    let arg = Arg::new(knob.key())
        .long(knob.flag())
        .value_name(knob.kind.placeholder())
        .help(help)
        .help_heading(knob.section)
        .allow_negative_numbers(true);
    match knob.kind {
        Kind::Bool => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true"),
        _ => arg,
    }
}

/// The `MILLSTREAM_*` variables; one that is no knob is an error.
fn read_env(
    env: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let known: Vec<String> = knobs()
        .map(Knob::env)
        .chain([ENV_CONFIG.to_owned()])
        .collect();
    // A name of a feature that is not compiled in is as unknown as any other.
    let sabotages = cfg!(feature = "sabotage");
    let jumps = cfg!(any(feature = "sabotage", feature = "faults"));
    let of_others = |name: &str| match name {
        ENV_BOOTSTRAP => true,
        ENV_SABOTAGE | ENV_FAULT => sabotages,
        ENV_CLOCK_OFFSET => jumps,
        _ => false,
    };
    let mut ours = BTreeMap::new();
    for (name, value) in env {
        let name = name.to_string_lossy().into_owned();
        if known.contains(&name) {
            let value = value
                .into_string()
                .map_err(|value| not_utf8(&name, &value))?;
            ours.insert(name, value);
        } else if name.starts_with(ENV_PREFIX)
            && !of_others(&name)
            && !is_service_link(&name, &value.to_string_lossy())
        {
            let nearest = nearest(&name, knobs(), known);
            return Err(ConfigError::Unknown {
                name,
                origin: Origin::Env,
                nearest,
            });
        }
    }
    Ok(ours)
}

fn not_utf8(name: &str, value: &OsStr) -> ConfigError {
    let (name, value) = (name.to_owned(), value.to_string_lossy().into_owned());
    ConfigError::BadValue {
        name,
        value,
        origin: Origin::Env,
        permitted: "text in UTF-8".to_owned(),
    }
}

/// Kubernetes and Docker put variables of this form into the environment of every container next
/// to a service or container named `millstream`: `MILLSTREAM_SERVICE_HOST`, `MILLSTREAM_PORT=tcp://…`,
/// `MILLSTREAM_PORT_9092_TCP`, `MILLSTREAM_NAME=/app/millstream`, `MILLSTREAM_ENV_…`. They are not
/// settings.
fn is_service_link(name: &str, value: &str) -> bool {
    let link = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT_", "_ENV_"]
        .iter()
        .any(|part| name.contains(part));
    link || (name.ends_with("_PORT") && value.contains("://"))
        || (name.ends_with("_NAME") && value.starts_with('/'))
}

/// The file's settings by key; one that is no knob is an error.
fn read_file(path: &Path) -> Result<BTreeMap<String, toml::Value>, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })?;
    let table: toml::Table = text.parse().map_err(|source| ConfigError::Parse {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let mut settings = BTreeMap::new();
    flatten("", table, &mut settings);
    match settings
        .keys()
        .find(|name| !knobs().any(|knob| knob.key() == **name))
    {
        Some(name) => Err(ConfigError::Unknown {
            name: name.clone(),
            origin: Origin::File(path.to_owned()),
            nearest: nearest(name, knobs(), knobs().map(Knob::key).collect()),
        }),
        None => Ok(settings),
    }
}

/// Names what is inside tables with dots, so that Kafka's `log.retention.ms = 1` can be recognized.
fn flatten(prefix: &str, table: toml::Table, settings: &mut BTreeMap<String, toml::Value>) {
    for (name, value) in table {
        match value {
            toml::Value::Table(inner) if !inner.is_empty() => {
                flatten(&format!("{prefix}{name}."), inner, settings)
            }
            value => {
                settings.insert(format!("{prefix}{name}"), value);
            }
        }
    }
}

/// A TOML value as text, if it is of a type that suits the knob: strings suit every knob.
fn text_of(value: &toml::Value, knob: &Knob, path: &Path) -> Result<String, ConfigError> {
    match (value, knob.kind) {
        (toml::Value::String(text), _) => Ok(text.clone()),
        (toml::Value::Integer(number), Kind::Integer { .. }) => Ok(number.to_string()),
        (toml::Value::Boolean(yes), Kind::Bool) => Ok(yes.to_string()),
        _ => Err(bad_value(
            knob,
            &value.to_string(),
            Origin::File(path.to_owned()),
        )),
    }
}

fn bad_value(knob: &Knob, text: &str, origin: Origin) -> ConfigError {
    let name = match origin {
        Origin::Flag => format!("--{}", knob.flag()),
        Origin::Env => knob.env(),
        Origin::File(_) | Origin::Topic | Origin::Broker => knob.key(),
    };
    let value = match knob.kind {
        Kind::Url => "what is given",
        _ => text,
    };
    ConfigError::BadValue {
        name,
        value: value.to_owned(),
        origin,
        permitted: knob.permitted(),
    }
}
