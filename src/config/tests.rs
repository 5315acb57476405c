use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Write as _;

use clap::Command;
use tempfile::NamedTempFile;

use super::*;

/// Loads with these flags, variables and file, as `serve` would.
fn load(flags: &[&str], env: &[(&str, &str)], file: Option<&str>) -> Result<Config, ConfigError> {
    let file = file.map(|text| {
        let mut file = NamedTempFile::new().expect("a temporary file");
        file.write_all(text.as_bytes()).expect("write it");
        file
    });
    let mut args: Vec<OsString> = vec!["serve".into()];
    args.extend(flags.iter().map(OsString::from));
    if let Some(file) = &file {
        args.extend(["--config".into(), file.path().into()]);
    }
    let matches = Config::flags(Command::new("serve"))
        .try_get_matches_from(args)
        .expect("known flags");
    Config::load_with(
        &matches,
        env.iter().map(|(name, value)| (name.into(), value.into())),
    )
}

fn refusal(flags: &[&str], env: &[(&str, &str)], file: Option<&str>) -> String {
    load(flags, env, file).expect_err("a refusal").to_string()
}

#[test]
fn nothing_set_gives_the_defaults() {
    assert_eq!(
        load(&[], &[("HOME", "/root")], None).unwrap(),
        Config::default()
    );
    assert_eq!(Config::default().frame_bytes_max, 104_857_600);
    assert_eq!(Config::default().fetch_bytes_max, 57_671_680);
    assert_eq!(Config::default().advertised().to_string(), "127.0.0.1:9092");
}

#[test]
fn flag_wins_over_environment_over_file() {
    let file = Some("connections_max = 1\nmailbox_depth = 100\nnode_id = 1");
    let env = [
        ("MILLSTREAM_CONNECTIONS_MAX", "2"),
        ("MILLSTREAM_MAILBOX_DEPTH", "200"),
    ];
    let config = load(&["--connections-max", "3"], &env, file).unwrap();
    assert_eq!(
        (config.connections_max, config.mailbox_depth, config.node_id),
        (3, 200, 1)
    );
    assert_eq!(
        config.given,
        BTreeSet::from(["connections_max", "mailbox_depth", "node_id"])
    );
}

#[test]
fn the_file_can_be_named_in_the_environment() {
    let mut file = NamedTempFile::new().unwrap();
    writeln!(file, "http = 'off'\nauto_create_topics = false").unwrap();
    let config = load(
        &[],
        &[("MILLSTREAM_CONFIG", file.path().to_str().unwrap())],
        None,
    )
    .unwrap();
    assert_eq!(
        (config.http, config.auto_create_topics),
        (HttpListen::Off, false)
    );
}

#[test]
fn a_missing_or_broken_file_is_named() {
    assert!(refusal(&["--config", "/no/such.toml"], &[], None).contains("/no/such.toml"));
    assert!(refusal(&[], &[], Some("cores = = 1")).contains("not valid TOML"));
}

#[test]
fn an_unknown_key_is_named_with_its_nearest() {
    let message = refusal(&[], &[], Some("conections_max = 5"));
    assert!(
        message.contains("`conections_max`") && message.contains("did you mean `connections_max`?"),
        "{message}"
    );
    let message = refusal(&[], &[("MILLSTREAM_LISTENS", "x")], None);
    assert!(
        message.contains("`MILLSTREAM_LISTENS`") && message.contains("`MILLSTREAM_LISTEN`"),
        "{message}"
    );
    assert!(refusal(&[], &[], Some("[limits]")).contains("`limits`"));
    let message = refusal(&[], &[], Some("zzzzzzzz = 5"));
    assert!(!message.contains("did you mean"), "{message}");
}

#[test]
fn kafkas_names_lead_to_ours() {
    for (line, ours) in [
        ("log.dirs = '/x'", "`data_dir`"),
        ("log.retention.ms = 1", "`log_retention_ms`"),
        ("'message.max.bytes' = 1", "`message_max_bytes`"),
    ] {
        let message = refusal(&[], &[], Some(line));
        assert!(message.contains(ours), "{message}");
    }
}

#[test]
fn variables_of_a_kubernetes_service_are_ignored() {
    let links = [
        ("MILLSTREAM_SERVICE_HOST", "10.0.0.1"),
        ("MILLSTREAM_SERVICE_PORT_KAFKA", "9092"),
        ("MILLSTREAM_PORT", "tcp://10.0.0.1:9092"),
        ("MILLSTREAM_PORT_9092_TCP_ADDR", "10.0.0.1"),
        ("MILLSTREAM_NAME", "/app/millstream"),
        ("MILLSTREAM_1_NAME", "/app/millstream"),
        ("MILLSTREAM_ENV_PATH", "/usr/bin"),
    ];
    assert_eq!(load(&[], &links, None).unwrap(), Config::default());
    for (name, value) in [("MILLSTREAM_PORT", "9092"), ("MILLSTREAM_NAME", "mine")] {
        assert!(refusal(&[], &[(name, value)], None).contains(name));
    }
}

#[test]
fn a_bad_value_is_named_with_its_origin_and_range() {
    let said = |message: String, parts: &[&str]| {
        parts
            .iter()
            .for_each(|part| assert!(message.contains(part), "no {part:?} in {message:?}"));
    };
    said(
        refusal(&["--cores", "0"], &[], None),
        &["--cores", "`0`", "the command line", "1 to 256"],
    );
    let env = [("MILLSTREAM_DURABILITY", "maybe")];
    said(
        refusal(&[], &env, None),
        &[
            "MILLSTREAM_DURABILITY",
            "`maybe`",
            "the environment",
            "fsync or os",
        ],
    );
    said(
        refusal(&[], &[], Some("listen = '9092'")),
        &["`listen`", "`9092`", "host:port"],
    );
    said(
        refusal(&[], &[], Some("connections_max = true")),
        &["`connections_max`", "`true`", "1 to 1000000"],
    );
    said(
        refusal(&["--log-level", "=,="], &[], None),
        &["--log-level", "debug"],
    );
    said(refusal(&["--data-dir", ""], &[], None), &["--data-dir"]);
    said(
        refusal(&["--compression-type", "zip"], &[], None),
        &["--compression-type", "producer or uncompressed or gzip"],
    );
}

#[test]
fn both_ends_of_a_range_are_permitted_and_nothing_beyond() {
    for knob in knobs() {
        let Kind::Integer { min, max, .. } = knob.kind else {
            continue;
        };
        let set = |value: i64| match knob.scope {
            Scope::Broker => Config::default().set(knob, &value.to_string()),
            Scope::Topic => TopicConfig::default().set(knob, &value.to_string()),
        };
        assert!(
            set(min).is_some() && set(max).is_some(),
            "{}: the field cannot hold its range",
            knob.field
        );
        assert!(set(min - 1).is_none(), "{}", knob.field);
        assert!(max == i64::MAX || set(max + 1).is_none(), "{}", knob.field);
    }
}

#[test]
fn suffixes_are_understood_in_flag_environment_and_file() {
    let config = load(
        &["--frame-bytes-max=1MiB", "--log-retention-ms=-1"],
        &[("MILLSTREAM_CONNECTION_IDLE_MS", "90s")],
        Some("log_roll_ms = '7d'\nlog_segment_bytes = '64MiB'\nshutdown_timeout_ms = '250ms'"),
    )
    .unwrap();
    assert_eq!(
        (config.frame_bytes_max, config.connection_idle_ms),
        (1 << 20, 90_000)
    );
    assert_eq!(config.shutdown_timeout_ms, 250);
    let topics = config.topic_defaults.config;
    assert_eq!(
        (topics.retention_ms, topics.segment_ms, topics.segment_bytes),
        (-1, 604_800_000, 64 << 20)
    );
}

#[test]
fn sloppy_suffixes_are_refused() {
    for text in [
        "1 MiB",
        "1MB",
        "1mib",
        "1.5MiB",
        "MiB",
        "1MiBMiB",
        "7d",
        "9999999999GiB",
        "0x10",
        "",
    ] {
        assert!(
            load(&["--frame-bytes-max", text], &[], None).is_err(),
            "{text:?}"
        );
    }
    assert!(load(&["--cores", "1s"], &[], None).is_err());
}

#[test]
fn a_boolean_flag_may_stand_alone() {
    let config = load(
        &["--clamp-replication-factor", "--auto-create-topics=false"],
        &[],
        None,
    )
    .unwrap();
    assert!(config.clamp_replication_factor && !config.auto_create_topics);
}

#[test]
fn addresses() {
    for text in [
        "localhost:9092",
        "10.0.0.1:0",
        "[::1]:9092",
        "kafka-0.kafka.svc:65535",
    ] {
        assert_eq!(text.parse::<HostPort>().expect(text).to_string(), text);
    }
    for text in [
        "",
        "localhost",
        ":9092",
        "::1:9092",
        "[::1]",
        "[x]:1",
        "host:65536",
        "PLAINTEXT://a:1",
        "a b:1",
    ] {
        assert!(text.parse::<HostPort>().is_err(), "{text:?}");
    }
}

#[test]
fn an_address_nobody_can_reach_is_not_advertised() {
    assert!(refusal(&["--listen", "0.0.0.0:9092"], &[], None).contains("set advertise"));
    assert!(refusal(&["--listen", "[::]:9092"], &[], None).contains("set advertise"));
    assert!(refusal(&["--advertise", "broker:0"], &[], None).contains("port"));
    let config = load(
        &["--listen", "0.0.0.0:9092", "--advertise", "broker:9092"],
        &[],
        None,
    )
    .unwrap();
    assert_eq!(config.advertised(), &HostPort::new("broker", 9092));
}

#[test]
fn the_budget_holds_the_largest_frame() {
    assert!(refusal(&["--inflight-bytes-max", "64MiB"], &[], None).contains("frame_bytes_max"));
    load(
        &["--inflight-bytes-max=64MiB", "--frame-bytes-max=64MiB"],
        &[],
        None,
    )
    .unwrap();
}

#[test]
fn a_variable_that_is_not_text_is_refused() {
    use std::os::unix::ffi::OsStringExt as _;
    let matches = Config::flags(Command::new("serve")).get_matches_from(["serve"]);
    let env = [(
        "MILLSTREAM_DATA_DIR".into(),
        OsString::from_vec(vec![b'/', 0xff]),
    )];
    let message = Config::load_with(&matches, env)
        .expect_err("a refusal")
        .to_string();
    assert!(message.contains("MILLSTREAM_DATA_DIR"), "{message}");
}

fn overrides(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect()
}

#[test]
fn a_topic_has_its_overrides_over_the_brokers_defaults() {
    let config = load(
        &["--log-retention-ms", "1d", "--message-max-bytes", "1000"],
        &[],
        None,
    )
    .unwrap();
    let own = overrides(&[
        ("retention.ms", "5"),
        ("message.timestamp.type", "LogAppendTime"),
    ]);
    let topic = TopicConfig::resolve(&config.topic_defaults, &own).unwrap();
    assert_eq!(
        (
            topic.retention_ms,
            topic.max_message_bytes,
            topic.segment_bytes
        ),
        (5, 1000, 1 << 30)
    );
    assert_eq!(topic.message_timestamp_type, TimestampType::LogAppendTime);
}

#[test]
fn a_topic_override_is_checked_and_the_error_says_why() {
    for (name, value) in [
        ("retention.ms", "-1"),
        ("cleanup.policy", "compact,delete"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("min.cleanable.dirty.ratio", "0.0"),
        ("min.cleanable.dirty.ratio", "1.0"),
        ("min.insync.replicas", "1"),
        ("min.insync.replicas", "2"),
        ("compression.type", "zstd"),
        ("flush.ms", "1"),
    ] {
        assert_eq!(TopicConfig::normal(name, value).unwrap(), value);
    }
    for (name, value, why) in [
        ("retention.ms", "-2", "-1 (no limit)"),
        ("retention.ms", "7d", "a whole number of milliseconds"),
        ("segment.bytes", "1000", "1MiB to"),
        ("cleanup.policy", "compress", "a list of delete and compact"),
        ("cleanup.policy", "delete,", "a list of delete and compact"),
        ("min.cleanable.dirty.ratio", "1.5", "0 to 1"),
        ("min.cleanable.dirty.ratio", "half", "0 to 1"),
        ("compression.type", "zip", "snappy or lz4"),
        ("compression.gzip.level", "0", "0 would not compress"),
        ("min.insync.replicas", "0", "1 to"),
        ("retention.msec", "1", "did you mean `retention.ms`?"),
        (
            "message.max.bytes",
            "1",
            "did you mean `max.message.bytes`?",
        ),
        ("flush.ms", "-1", "0 or more"),
        ("flush.m", "1", "did you mean `flush.ms`?"),
    ] {
        let message = TopicConfig::normal(name, value)
            .expect_err(name)
            .to_string();
        assert!(message.contains(name) && message.contains(why), "{message}");
    }
}

#[test]
fn describing_a_topic_says_where_each_value_comes_from() {
    let config = load(&["--log-retention-ms", "1d"], &[], None).unwrap();
    let own = overrides(&[("retention.ms", "5")]);
    let entries = TopicConfig::describe(&config.topic_defaults, &own);
    let find = |name: &str| entries.iter().find(|entry| entry.name == name).expect(name);

    let retention = find("retention.ms");
    assert_eq!(
        (
            retention.value.as_str(),
            retention.source,
            retention.type_code
        ),
        ("5", Source::DynamicTopic, 5)
    );
    assert!(!retention.is_default && !retention.read_only && !retention.is_sensitive);
    let synonyms: Vec<_> = retention
        .synonyms
        .iter()
        .map(|s| (s.name.as_str(), s.value.as_str(), s.source))
        .collect();
    assert_eq!(
        synonyms,
        [
            ("retention.ms", "5", Source::DynamicTopic),
            ("log.retention.ms", "86400000", Source::StaticBroker),
            ("log.retention.ms", "604800000", Source::Default),
        ]
    );
    let segment = find("segment.bytes");
    assert_eq!(
        (segment.value.as_str(), segment.source, segment.type_code),
        ("1073741824", Source::Default, 3)
    );
    assert!(segment.is_default);
    assert_eq!(find("cleanup.policy").type_code, 7);
    let ratio = find("min.cleanable.dirty.ratio");
    assert_eq!((ratio.value.as_str(), ratio.type_code), ("0.5", 6));
    let flush = find("flush.ms");
    assert_eq!(flush.synonyms[0].name, "log.flush.interval.ms");
    assert!(flush.documentation.contains(WITHOUT_EFFECT));
    assert!(!retention.documentation.contains(WITHOUT_EFFECT));
    // Kafka shows this one where it is set.
    assert_eq!(entries.len() + 1, TopicConfig::all_knobs().count());
}

#[test]
fn what_is_stored_is_trimmed_and_has_each_word_once() {
    for (name, given, stored) in [
        ("cleanup.policy", "", ""),
        ("cleanup.policy", " compact, delete ", "compact,delete"),
        ("cleanup.policy", "delete,delete", "delete"),
        ("retention.ms", " 5 ", "5"),
        ("preallocate", "TRUE", "true"),
        ("leader.replication.throttled.replicas", "*", "*"),
        (
            "leader.replication.throttled.replicas",
            "0:1, 1:1,0:1",
            "0:1,1:1",
        ),
        ("follower.replication.throttled.replicas", "", ""),
    ] {
        assert_eq!(
            TopicConfig::normal(name, given).unwrap(),
            stored,
            "{name}={given}"
        );
    }
    for (name, bad) in [
        ("leader.replication.throttled.replicas", "0"),
        ("leader.replication.throttled.replicas", "0:1,"),
        ("leader.replication.throttled.replicas", "*,0:1"),
        ("preallocate", "yes"),
        ("local.retention.ms", "-3"),
        ("compression.lz4.level", "18"),
    ] {
        assert!(TopicConfig::normal(name, bad).is_err(), "{name}={bad}");
    }
}

#[test]
fn every_topic_config_of_kafka_4_is_known() {
    const KAFKAS: &[&str] = &[
        "cleanup.policy",
        "compression.gzip.level",
        "compression.lz4.level",
        "compression.type",
        "compression.zstd.level",
        "delete.retention.ms",
        "file.delete.delay.ms",
        "flush.messages",
        "flush.ms",
        "follower.replication.throttled.replicas",
        "index.interval.bytes",
        "internal.segment.bytes",
        "leader.replication.throttled.replicas",
        "local.retention.bytes",
        "local.retention.ms",
        "max.compaction.lag.ms",
        "max.message.bytes",
        "message.timestamp.after.max.ms",
        "message.timestamp.before.max.ms",
        "message.timestamp.type",
        "min.cleanable.dirty.ratio",
        "min.compaction.lag.ms",
        "min.insync.replicas",
        "preallocate",
        "remote.copy.lag.bytes",
        "remote.copy.lag.ms",
        "remote.log.copy.disable",
        "remote.log.delete.on.disable",
        "remote.storage.enable",
        "retention.bytes",
        "retention.ms",
        "segment.bytes",
        "segment.index.bytes",
        "segment.jitter.ms",
        "segment.ms",
        "unclean.leader.election.enable",
    ];
    for name in KAFKAS {
        let knob = TopicConfig::knob(name).expect(name);
        let default = (knob.default)();
        let is_unset = *name == "internal.segment.bytes";
        assert!(
            is_unset || TopicConfig::normal(name, &default).is_ok(),
            "{name}={default}"
        );
    }
}

#[test]
fn a_topic_with_a_contradiction_is_refused() {
    let own = overrides(&[
        ("min.compaction.lag.ms", "9"),
        ("max.compaction.lag.ms", "8"),
    ]);
    let topic = TopicConfig::resolve(&TopicDefaults::default(), &own).unwrap();
    assert!(topic.check().is_err());
}

#[test]
fn describing_the_broker_uses_kafkas_names() {
    let config = load(
        &["--num-partitions", "1", "--listen", "127.0.0.1:19092"],
        &[],
        None,
    )
    .unwrap();
    let entries = config.describe(&config.topic_defaults);
    let find = |name: &str| entries.iter().find(|entry| entry.name == name).expect(name);
    assert_eq!(find("num.partitions").source, Source::StaticBroker);
    assert_eq!(
        find("advertised.listeners").value,
        "PLAINTEXT://127.0.0.1:19092"
    );
    assert_eq!(find("advertised.listeners").source, Source::Default);
    assert_eq!(find("log.dirs").value, "./data");
    assert_eq!(find("message.max.bytes").value, "1048588");
    assert_eq!(find("mailbox_depth").value, "1024");
    assert_eq!(find("auto.create.topics.enable").type_code, 1);
    // The defaults of topics can change while the broker runs.
    let dynamic = |name: &str| TopicConfig::knob_of_broker(name).is_some();
    assert!(
        entries
            .iter()
            .all(|entry| entry.read_only != dynamic(&entry.name))
    );
    for (name, value) in [
        ("broker.id", "1"),
        ("node.id", "1"),
        ("default.replication.factor", "1"),
        ("delete.topic.enable", "true"),
        ("offsets.topic.replication.factor", "1"),
        ("log.retention.hours", "168"),
        ("log.retention.minutes", "10080"),
        ("log.retention.ms", "604800000"),
        ("offsets.retention.minutes", "10080"),
        ("log.dir", "./data"),
        ("min.insync.replicas", "1"),
        ("log.flush.interval.messages", "9223372036854775807"),
        ("listeners", "PLAINTEXT://127.0.0.1:19092"),
    ] {
        assert_eq!(find(name).value, value, "{name}");
    }
    let mut names: Vec<_> = entries.iter().map(|entry| &entry.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), entries.len(), "a name twice");
}

#[test]
fn what_was_set_while_running_wins_and_is_named_with_its_source() {
    let config = load(&["--log-retention-ms", "1d"], &[], None).unwrap();
    let mut defaults = config.topic_defaults.clone();
    let hour = overrides(&[("log.retention.ms", "3600000"), ("log.roll.ms", "7")]);
    defaults.dynamic.set(BrokerScope::Cluster, hour);
    let resolved = |defaults: &TopicDefaults, own: &[(&str, &str)]| {
        TopicConfig::resolve(defaults, &overrides(own)).unwrap()
    };
    assert_eq!(resolved(&defaults, &[]).retention_ms, 3_600_000);
    let node = overrides(&[("log.retention.ms", "7200000")]);
    defaults.dynamic.set(BrokerScope::Node, node);
    assert_eq!(resolved(&defaults, &[]).retention_ms, 7_200_000);
    assert_eq!(resolved(&defaults, &[]).segment_ms, 7);
    assert_eq!(
        resolved(&defaults, &[("retention.ms", "5")]).retention_ms,
        5
    );

    let entries = config.describe(&defaults);
    let find = |name: &str| entries.iter().find(|entry| entry.name == name).expect(name);
    let sources = |entry: &Entry| -> Vec<_> {
        let synonyms = entry.synonyms.iter();
        synonyms
            .map(|one| (one.value.clone(), one.source))
            .collect()
    };
    assert_eq!(
        sources(find("log.retention.ms")),
        [
            ("7200000".to_owned(), Source::DynamicBroker),
            ("3600000".to_owned(), Source::DynamicDefaultBroker),
            ("86400000".to_owned(), Source::StaticBroker),
            ("604800000".to_owned(), Source::Default),
        ]
    );
    assert_eq!(find("log.retention.hours").value, "2");
    let cluster = defaults.describe_cluster();
    assert_eq!(cluster.len(), 2);
    assert_eq!(cluster[0].value, "3600000");
    assert_eq!(cluster[0].source, Source::DynamicDefaultBroker);
}

#[test]
fn only_the_defaults_of_topics_change_while_the_broker_runs() {
    assert_eq!(
        Config::normal_dynamic("log.retention.ms", " 5 ").unwrap(),
        "5"
    );
    for (name, value, why) in [
        ("log.retention.ms", "-2", "-1 (no limit)"),
        ("num.partitions", "2", "while the broker runs"),
        ("log.retention.hours", "2", "while the broker runs"),
        ("retention.ms", "2", "did you mean `log.retention.ms`?"),
    ] {
        let message = Config::normal_dynamic(name, value).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains(why), "{message}");
    }
}

#[test]
fn every_knob_has_one_name_and_a_sentence() {
    let mut names = BTreeSet::new();
    for knob in knobs() {
        assert!(
            knob.help().ends_with('.') && knob.help().len() > 30,
            "{} has no help",
            knob.field
        );
        assert!(names.insert(knob.key()), "{} twice", knob.key());
        assert!(
            knob.broker_name() == knob.key() || names.insert(knob.broker_name().to_owned()),
            "{}",
            knob.key()
        );
    }
    assert!(TopicConfig::KNOBS.iter().all(|knob| knob.kafka.is_some()));
    for knob in TopicConfig::all_knobs() {
        assert!(knob.help().ends_with('.'), "{} has no help", knob.field);
    }
}

#[test]
fn every_default_is_a_permitted_value() {
    let has_none = ["advertise", "schema_registry_url"];
    for knob in knobs().filter(|knob| !has_none.contains(&knob.field)) {
        let default = (knob.default)();
        let set = match knob.scope {
            Scope::Broker => Config::default().set(knob, &default),
            Scope::Topic => TopicConfig::default().set(knob, &default),
        };
        assert!(set.is_some(), "{} = {default}", knob.key());
    }
}

#[test]
fn the_command_line_is_well_formed_and_complete() {
    let command = Config::flags(Command::new("serve"));
    command.clone().debug_assert();
    for knob in knobs() {
        assert!(
            command
                .get_arguments()
                .any(|arg| arg.get_long() == Some(&knob.flag())),
            "--{}",
            knob.flag()
        );
    }
}

#[test]
fn the_page_on_disk_is_the_one_made_from_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, docs_markdown()).expect("write docs/config.md");
    }
    let on_disk = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        on_disk == docs_markdown(),
        "docs/config.md is stale: UPDATE_DOCS=1 cargo test --lib config"
    );
}

#[test]
fn the_password_of_a_registry_is_shown_nowhere() {
    let flag = ["--schema-registry-url", "http://ann:s3cret@registry:8081"];
    let config = load(&flag, &[], None).unwrap();
    let entries = config.describe(&config.topic_defaults);
    let shown = format!("{entries:?} {config:?}");
    assert!(shown.contains("http://registry:8081") && !shown.contains("s3cret"));
    let message = refusal(&["--schema-registry-url", "ann:s3cret@registry"], &[], None);
    assert!(
        message.contains("http://host:port") && !message.contains("s3cret"),
        "{message}"
    );
}
