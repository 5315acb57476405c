//! Writes `docs/config.md` from the table.

use super::broker::Config;
use super::knob::Knob;
use super::stored::REMOVED;
use super::topic::TopicConfig;
use super::value::Kind;

const HEAD: &str = "\
# Configuration

<!-- Written by the tests from src/config/. Change it there, then: UPDATE_DOCS=1 cargo test --lib config -->

Every setting of `millstream serve` can be given in three ways. A flag wins over an environment
variable, a variable over the file, the file over the default.

- A flag: `--connections-max 500`. A boolean may stand alone (`--clamp-replication-factor`) or have
  its value after an equals sign (`--auto-create-topics=false`).
- An environment variable: `MILLSTREAM_CONNECTIONS_MAX=500`.
- A line in the TOML file that `--config FILE` or `MILLSTREAM_CONFIG` names: `connections_max = 500`.
  The file is flat: it has no tables.

An unknown key in the file or an unknown `MILLSTREAM_…` variable is an error, as is a value out of
range: the broker says which and does not start. (Variables that Kubernetes or Docker add for a
service named `millstream`, such as `MILLSTREAM_SERVICE_HOST`, are ignored.)

Sizes are whole numbers of bytes, or of `KiB`, `MiB`, `GiB`, `TiB`; durations are whole numbers of
milliseconds, or of `ms`, `s`, `m`, `h`, `d`: `64MiB`, `7d`. The suffix follows the number at once,
spelled as here, and in TOML such a value is a string: `log_retention_ms = \"3d\"`.
";

const TOPIC_HEAD: &str = "
## Topic configs

Set for one topic when it is created or later (`kafka-configs --alter --entity-type topics`), under
Kafka's names and as plain numbers, without suffixes. A topic that does not set one follows the
broker's, whose flag is in the last column; its file key and its variable follow from the flag as
above, and DescribeConfigs shows it under Kafka's name for it. Under that name it can also be set while the broker
runs (`kafka-configs --alter --entity-type brokers`), for the node or for all brokers; what is set so is kept, and
wins over flag, variable and file.

| Name | Type | Default | Range | What it does | Broker-wide default |
|---|---|---|---|---|---|
";

const STORED_HEAD: &str = "
## Topic configs without effect

Accepted, stored and shown as Kafka does, so that tools which set them work. `millstream topic describe` says
which of a topic's configs are among them. Three that Kafka 4.0 removed (";

const STORED_HEAD_END: &str = ") are ignored with a warning.

| Name | Type | Default | Range | What it does in Kafka | Why it has no effect here |
|---|---|---|---|---|---|
";

/// The whole page.
pub fn docs_markdown() -> String {
    let mut page = HEAD.to_owned();
    let mut section = "";
    for knob in Config::KNOBS {
        if knob.section != section {
            section = knob.section;
            page.push_str(&section_head(section));
        }
        page.push_str(&broker_row(knob));
    }
    page.push_str(TOPIC_HEAD);
    page.extend(TopicConfig::KNOBS.iter().map(topic_row));
    page.push_str(STORED_HEAD);
    let removed: Vec<_> = REMOVED.iter().map(|name| format!("`{name}`")).collect();
    page.push_str(&removed.join(", "));
    page.push_str(STORED_HEAD_END);
    page.extend(TopicConfig::all_knobs().filter_map(stored_row));
    page
}

fn section_head(section: &str) -> String {
    format!(
        "\n## {section}\n\n| Flag | Key in the file | Variable | Type | Default | Range | What it does |\n|---|---|---|---|---|---|---|\n"
    )
}

fn broker_row(knob: &Knob) -> String {
    let kafka = knob
        .kafka
        .map(|name| format!(" Kafka: `{name}`."))
        .unwrap_or_default();
    format!(
        "| `--{}` | `{}` | `{}` | {} | {} | {} | {}{kafka} |\n",
        knob.flag(),
        knob.key(),
        knob.env(),
        knob.kind.type_name(),
        default_cell(knob),
        knob.kind.range(),
        knob.help(),
    )
}

fn topic_row(knob: &Knob) -> String {
    format!(
        "| `{}` | {} | {} | {} | {} | `--{}`, Kafka: `{}` |\n",
        knob.topic_name(),
        knob.kind.type_name(),
        default_cell(knob),
        knob.kind.range(),
        knob.help(),
        knob.flag(),
        knob.broker_name(),
    )
}

fn stored_row(knob: &Knob) -> Option<String> {
    let why = knob.without_effect?;
    Some(format!(
        "| `{}` | {} | {} | {} | {} | {why} |\n",
        knob.topic_name(),
        knob.kind.type_name(),
        default_cell(knob),
        knob.kind.range(),
        knob.help(),
    ))
}

/// The plain value, and beside it the shorter way to write it: `604800000` (7d).
fn default_cell(knob: &Knob) -> String {
    let shown = knob.default_shown();
    let plain = (knob.default)();
    match knob.kind {
        Kind::Integer { .. } if shown.contains(' ') => shown,
        _ if plain.is_empty() => shown,
        _ if plain == shown => format!("`{plain}`"),
        _ => format!("`{plain}` ({shown})"),
    }
}
