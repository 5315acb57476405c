//! What values a knob takes: kinds and ranges, the suffixes people may write, the typed values.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

pub(super) const KIB: i64 = 1 << 10;
pub(super) const MIB: i64 = 1 << 20;
pub(super) const GIB: i64 = 1 << 30;
pub(super) const INT_MAX: i64 = i32::MAX as i64;
pub(super) const LONG_MAX: i64 = i64::MAX;

/// The longest name of a record's header that a config takes.
pub(super) const HEADER_BYTES_MAX: usize = 63;

/// The unit of a number. Plain integers are always in this unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    None,
    Bytes,
    Millis,
}

impl Unit {
    /// The suffixes understood in flags, environment and file: a whole number, then one of these,
    /// case as written, nothing between. From the largest to the smallest.
    fn suffixes(self) -> &'static [(&'static str, i64)] {
        match self {
            Unit::None => &[],
            Unit::Bytes => &[("TiB", 1 << 40), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)],
            Unit::Millis => &[
                ("d", 86_400_000),
                ("h", 3_600_000),
                ("m", 60_000),
                ("s", 1_000),
                ("ms", 1),
            ],
        }
    }
}

/// A length of time such as `90s` or `7d`, with the suffixes of knobs, in milliseconds.
pub fn duration_ms(text: &str) -> Option<i64> {
    let is_number = text.starts_with(|c: char| c.is_ascii_digit());
    let has_unit = text.ends_with(|c: char| c.is_ascii_alphabetic());
    let expanded = millis(0, LONG_MAX).expand(text);
    expanded.parse().ok().filter(|_| is_number && has_unit)
}

/// What a knob's value is, and the range it must lie in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    /// Both ends of the range are permitted.
    Integer {
        unit: Unit,
        min: i64,
        max: i64,
    },
    /// `host:port`.
    Address,
    /// `host:port`, or `off`.
    AddressOrOff,
    Path,
    /// A `tracing` filter such as `info` or `warn,millstream::log=debug`.
    LogFilter,
    /// A number from 0 to 1, with at most six digits behind the point.
    Ratio,
    OneOf(&'static [&'static str]),
    /// Words with commas between them, each at most once in what is stored; none is a list too.
    List(&'static [&'static str]),
    /// Names of hosts with commas between them; none is a list too.
    Hosts,
    /// The name of a record's header.
    Header,
    /// `*`, or replicas with commas between them, each as `partition:broker`.
    Replicas,
    /// `http://` or `https://`. It may have a password: what is refused is not shown.
    Url,
}

pub(super) const fn count(min: i64, max: i64) -> Kind {
    Kind::Integer {
        unit: Unit::None,
        min,
        max,
    }
}

pub(super) const fn bytes(min: i64, max: i64) -> Kind {
    Kind::Integer {
        unit: Unit::Bytes,
        min,
        max,
    }
}

pub(super) const fn millis(min: i64, max: i64) -> Kind {
    Kind::Integer {
        unit: Unit::Millis,
        min,
        max,
    }
}

impl Kind {
    /// `64MiB` to `67108864`, `7d` to `604800000`; text without a known suffix stays as it is.
    pub(super) fn expand(&self, text: &str) -> String {
        let Kind::Integer { unit, .. } = self else {
            return text.to_owned();
        };
        let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let suffix = &text[number.len()..];
        let factor = unit
            .suffixes()
            .iter()
            .find(|(name, _)| *name == suffix)
            .map(|(_, factor)| *factor);
        match (factor, number.parse::<i64>()) {
            (Some(factor), Ok(number)) => number
                .checked_mul(factor)
                .map_or(text.to_owned(), |n| n.to_string()),
            _ => text.to_owned(),
        }
    }

    /// Kafka's code for the type of a config value.
    pub fn type_code(&self) -> i8 {
        match self {
            Kind::Bool => 1,
            Kind::Integer { max, .. } if *max <= INT_MAX => 3,
            Kind::Integer { .. } => 5,
            Kind::Ratio => 6,
            Kind::List(_) | Kind::Replicas | Kind::Hosts => 7,
            Kind::Address
            | Kind::AddressOrOff
            | Kind::Path
            | Kind::LogFilter
            | Kind::OneOf(_)
            | Kind::Url
            | Kind::Header => 2,
        }
    }

    /// The type and unit in a word or two, for the docs.
    pub fn type_name(&self) -> &'static str {
        match self {
            Kind::Bool => "boolean",
            Kind::Integer {
                unit: Unit::None, ..
            } => "number",
            Kind::Integer {
                unit: Unit::Bytes, ..
            } => "bytes",
            Kind::Integer {
                unit: Unit::Millis, ..
            } => "milliseconds",
            Kind::Address | Kind::AddressOrOff => "address",
            Kind::Path => "path",
            Kind::LogFilter => "log filter",
            Kind::Ratio => "ratio",
            Kind::OneOf(_) => "word",
            Kind::Header => "name",
            Kind::Url => "URL",
            Kind::List(_) | Kind::Replicas | Kind::Hosts => "list",
        }
    }

    /// What stands for the value in `--help`.
    pub(super) fn placeholder(&self) -> &'static str {
        match self {
            Kind::Bool => "BOOL",
            Kind::Integer {
                unit: Unit::None, ..
            } => "N",
            Kind::Integer {
                unit: Unit::Bytes, ..
            } => "BYTES",
            Kind::Integer {
                unit: Unit::Millis, ..
            } => "MS",
            Kind::Address | Kind::AddressOrOff => "HOST:PORT",
            Kind::Path => "DIR",
            Kind::Ratio => "RATIO",
            Kind::LogFilter => "FILTER",
            Kind::OneOf(_) => "WORD",
            Kind::Header => "NAME",
            Kind::Url => "URL",
            Kind::List(_) | Kind::Replicas | Kind::Hosts => "LIST",
        }
    }

    /// The range alone: `1 to 256`, `1KiB to 1GiB`, `fsync or os`.
    pub fn range(&self) -> String {
        match self {
            Kind::Bool => "true or false".to_owned(),
            Kind::Integer { unit, min, max } => integer_range(*unit, *min, *max),
            Kind::Address => "host:port".to_owned(),
            Kind::AddressOrOff => "host:port, or off".to_owned(),
            Kind::Path => "any path".to_owned(),
            Kind::Ratio => "0 to 1".to_owned(),
            Kind::LogFilter => {
                "error, warn, info, debug or trace, also per module: info,millstream::log=debug"
                    .to_owned()
            }
            Kind::OneOf(names) => names.join(" or "),
            Kind::Header => format!("1 to {} printable characters", HEADER_BYTES_MAX),
            Kind::List(names) => format!("a list of {}, or nothing", names.join(" and ")),
            Kind::Hosts => "a list of host names, or nothing".to_owned(),
            Kind::Replicas => "`*`, or a list of partition:broker".to_owned(),
            Kind::Url => "http://host:port or https://host:port".to_owned(),
        }
    }

    /// A text that the kind permits as it is stored: without spaces around it, each word of a list once.
    pub(super) fn normal(&self, text: &str) -> Option<String> {
        let text = text.trim();
        match self {
            Kind::Bool => bool::parse(text, self).map(|value| value.show()),
            Kind::Integer { .. } => self.integer(text).map(|value| value.to_string()),
            Kind::List(names) => {
                let words = list_words(text)?;
                let known = words.iter().all(|word| names.contains(word));
                known.then(|| words.join(","))
            }
            Kind::Replicas => {
                let words = list_words(text)?;
                let known = words == ["*"] || words.iter().all(|word| is_replica(word));
                known.then(|| words.join(","))
            }
            Kind::Hosts => {
                let words = list_words(text)?;
                let known = words.iter().all(|word| is_host(word));
                known.then(|| words.join(","))
            }
            Kind::OneOf(names) => names.contains(&text).then(|| text.to_owned()),
            Kind::Ratio => Ratio::parse(text, self).map(|value| value.show()),
            Kind::Header => is_header(text).then(|| text.to_owned()),
            Kind::Address | Kind::AddressOrOff | Kind::Path | Kind::LogFilter | Kind::Url => {
                Some(text.to_owned())
            }
        }
    }

    /// The range as the end of the sentence "it takes …".
    pub(super) fn permitted(&self) -> String {
        let range = self.range();
        match self {
            Kind::Integer {
                unit: Unit::None, ..
            } => format!("a whole number: {range}"),
            Kind::Integer {
                unit: Unit::Bytes, ..
            } => format!("a whole number of bytes: {range}"),
            Kind::Integer {
                unit: Unit::Millis, ..
            } => format!("a whole number of milliseconds: {range}"),
            Kind::OneOf([_]) => format!("only {range}"),
            _ => range,
        }
    }

    fn integer(&self, text: &str) -> Option<i64> {
        let Kind::Integer { min, max, .. } = self else {
            return None;
        };
        let value = text.trim().parse().ok()?;
        (*min..=*max).contains(&value).then_some(value)
    }
}

/// The words of a list, trimmed, each once. `None` where one of several is empty.
fn list_words(text: &str) -> Option<Vec<&str>> {
    let mut words = Vec::new();
    for word in text.split(',').map(str::trim) {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    match words[..] {
        [""] => Some(Vec::new()),
        _ => (!words.contains(&"")).then_some(words),
    }
}

fn is_host(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    !word.is_empty() && word.chars().all(plain)
}

fn is_header(name: &str) -> bool {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain && (1..=HEADER_BYTES_MAX).contains(&name.len())
}

fn is_replica(word: &str) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    word.split_once(':')
        .is_some_and(|(partition, broker)| is_number(partition) && is_number(broker))
}

/// `value` with the largest suffix that leaves a whole number.
pub(super) fn human(unit: Unit, value: i64) -> Option<String> {
    let fits = |factor: i64| factor > 1 && value >= factor && value % factor == 0;
    unit.suffixes()
        .iter()
        .find(|(_, factor)| fits(*factor))
        .map(|(name, factor)| format!("{}{name}", value / factor))
}

fn integer_range(unit: Unit, min: i64, max: i64) -> String {
    let shown = |value| human(unit, value).unwrap_or_else(|| value.to_string());
    match (min, max) {
        _ if min == max => format!("only {}", shown(min)),
        (-1, LONG_MAX) => "-1 (no limit), or 0 and more".to_owned(),
        (_, LONG_MAX) => format!("{} or more", shown(min)),
        _ => format!("{} to {}", shown(min), shown(max)),
    }
}

/// A type a knob's field can have.
pub(super) trait Field: Sized {
    /// Plain text (suffixes already expanded) to a value in the permitted range.
    fn parse(text: &str, kind: &Kind) -> Option<Self>;
    /// Plain text that [`Field::parse`] reads back.
    fn show(&self) -> String;
}

macro_rules! integer_fields {
    ($($Type:ty)+) => {
        $(impl Field for $Type {
            fn parse(text: &str, kind: &Kind) -> Option<Self> {
                kind.integer(text)?.try_into().ok()
            }
            fn show(&self) -> String {
                self.to_string()
            }
        })+
    };
}

integer_fields!(i32 i64 u32 u64 usize);

/// A number from 0 to 1, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio(u32);

impl Ratio {
    pub(super) const HALF: Ratio = Ratio(500_000);

    pub fn value(self) -> f64 {
        f64::from(self.0) / 1e6
    }
}

impl Field for Ratio {
    fn parse(text: &str, _: &Kind) -> Option<Self> {
        let value: f64 = text.trim().parse().ok()?;
        let permitted = (0.0..=1.0).contains(&value);
        permitted.then(|| Ratio((value * 1e6).round() as u32))
    }
    /// With a decimal, as Java writes a double: clients compare what they set with what they read.
    fn show(&self) -> String {
        format!("{:?}", self.value())
    }
}

impl Field for bool {
    fn parse(text: &str, _: &Kind) -> Option<Self> {
        text.trim().to_ascii_lowercase().parse().ok()
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Field for PathBuf {
    fn parse(text: &str, _: &Kind) -> Option<Self> {
        (!text.is_empty()).then(|| text.into())
    }
    fn show(&self) -> String {
        self.display().to_string()
    }
}

/// The only free text is a log filter.
impl Field for String {
    fn parse(text: &str, _: &Kind) -> Option<Self> {
        let filter = tracing_subscriber::EnvFilter::builder().parse(text).ok();
        filter
            .filter(|_| !text.trim().is_empty())
            .map(|_| text.to_owned())
    }
    fn show(&self) -> String {
        self.clone()
    }
}

/// Names of hosts.
impl Field for Vec<String> {
    fn parse(text: &str, kind: &Kind) -> Option<Self> {
        kind.normal(text)?;
        Some(list_words(text)?.into_iter().map(str::to_owned).collect())
    }
    fn show(&self) -> String {
        self.join(",")
    }
}

/// Not set is `None` and shows as nothing.
impl<T: Field> Field for Option<T> {
    fn parse(text: &str, kind: &Kind) -> Option<Self> {
        T::parse(text, kind).map(Some)
    }
    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }
}

/// A host name or IP address, and a port. Written `host:port`; an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Without brackets.
    pub host: String,
    /// 0: let the kernel choose one (for listening only).
    pub port: u16,
}

impl HostPort {
    pub fn new(host: &str, port: u16) -> Self {
        Self {
            host: host.to_owned(),
            port,
        }
    }

    /// `0.0.0.0` and `::` can be listened on, but clients on other hosts cannot connect to them.
    pub(super) fn is_wildcard(&self) -> bool {
        self.host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_unspecified())
    }
}

/// The text is no `host:port`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not host:port (an IPv6 address goes in brackets)")]
pub struct NotHostPort;

impl FromStr for HostPort {
    type Err = NotHostPort;

    fn from_str(text: &str) -> Result<Self, NotHostPort> {
        let (host, port) = text.rsplit_once(':').ok_or(NotHostPort)?;
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let host = match bracketed {
            Some(inner) => inner
                .parse::<std::net::Ipv6Addr>()
                .map(|_| inner)
                .map_err(|_| NotHostPort)?,
            None => host,
        };
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
        if host.is_empty() || (bracketed.is_none() && !host.chars().all(plain)) {
            return Err(NotHostPort);
        }
        Ok(Self::new(host, port.parse().map_err(|_| NotHostPort)?))
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl Field for HostPort {
    fn parse(text: &str, _: &Kind) -> Option<Self> {
        text.parse().ok()
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

/// Where HTTP is served, if at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpListen {
    Off,
    At(HostPort),
}

impl HttpListen {
    pub fn address(&self) -> Option<&HostPort> {
        match self {
            HttpListen::Off => None,
            HttpListen::At(address) => Some(address),
        }
    }
}

impl Field for HttpListen {
    fn parse(text: &str, kind: &Kind) -> Option<Self> {
        match text {
            "off" => Some(HttpListen::Off),
            _ => HostPort::parse(text, kind).map(HttpListen::At),
        }
    }
    fn show(&self) -> String {
        self.address().map_or("off".to_owned(), HostPort::to_string)
    }
}

/// What becomes of old records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanupPolicy {
    /// Nothing: all records stay.
    Keep,
    /// Whole segments go, by age and size.
    Delete,
    /// Records go when a later one has their key.
    Compact,
    /// Both.
    CompactDelete,
    /// Both, as Kafka's tools also write it.
    DeleteCompact,
}

impl CleanupPolicy {
    /// The words of the list.
    pub const NAMES: &'static [&'static str] = &["delete", "compact"];

    /// Whether old segments go by age and size.
    pub fn deletes(self) -> bool {
        !matches!(self, CleanupPolicy::Keep | CleanupPolicy::Compact)
    }

    /// Whether records go when a later one has their key.
    pub fn compacts(self) -> bool {
        !matches!(self, CleanupPolicy::Keep | CleanupPolicy::Delete)
    }
}

impl Field for CleanupPolicy {
    fn parse(text: &str, kind: &Kind) -> Option<Self> {
        match kind.normal(text)?.as_str() {
            "" => Some(CleanupPolicy::Keep),
            "delete" => Some(CleanupPolicy::Delete),
            "compact" => Some(CleanupPolicy::Compact),
            "compact,delete" => Some(CleanupPolicy::CompactDelete),
            "delete,compact" => Some(CleanupPolicy::DeleteCompact),
            _ => None,
        }
    }
    fn show(&self) -> String {
        let text = match self {
            CleanupPolicy::Keep => "",
            CleanupPolicy::Delete => "delete",
            CleanupPolicy::Compact => "compact",
            CleanupPolicy::CompactDelete => "compact,delete",
            CleanupPolicy::DeleteCompact => "delete,compact",
        };
        text.to_owned()
    }
}

/// A level of gzip: 1 to 9, or the codec's own default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GzipLevel(pub Option<u32>);

impl Field for GzipLevel {
    fn parse(text: &str, kind: &Kind) -> Option<Self> {
        match kind.integer(text)? {
            -1 => Some(GzipLevel(None)),
            0 => None,
            level => u32::try_from(level)
                .ok()
                .map(|level| GzipLevel(Some(level))),
        }
    }
    fn show(&self) -> String {
        self.0.map_or("-1".to_owned(), |level| level.to_string())
    }
}

/// Makes an enum of the words a knob takes; `NAMES` is the one list of them.
macro_rules! words {
    ($($(#[$meta:meta])* pub enum $Name:ident { $($(#[$word_meta:meta])* $Word:ident = $text:literal,)+ })+) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum $Name {
                $($(#[$word_meta])* $Word,)+
            }

            impl $Name {
                /// The words as they are written.
                pub const NAMES: &'static [&'static str] = &[$($text),+];

                pub fn name(self) -> &'static str {
                    match self {
                        $($Name::$Word => $text,)+
                    }
                }
            }

            impl Field for $Name {
                fn parse(text: &str, _: &Kind) -> Option<Self> {
                    match text.trim() {
                        $($text => Some($Name::$Word),)+
                        _ => None,
                    }
                }
                fn show(&self) -> String {
                    self.name().to_owned()
                }
            }
        )+
    };
}

words! {
    /// What "acknowledged" means.
    pub enum Durability {
        /// On stable storage: survives a power cut.
        Fsync = "fsync",
        /// In the operating system's memory: survives the process, not a power cut.
        Os = "os",
    }

    /// What sockets and files go through.
    pub enum ReactorChoice {
        /// io_uring, and epoll where it is forbidden.
        Auto = "auto",
        /// io_uring, or no start.
        Uring = "uring",
        /// epoll, with threads for the disk.
        Epoll = "epoll",
    }

    /// What is checked of the batches that producers send.
    pub enum MessageValidation {
        /// The header and the checksum.
        Header = "header",
        /// Every record too.
        Records = "records",
    }

    /// How the broker's own log lines look.
    pub enum LogFormat {
        Text = "text",
        Json = "json",
    }

    /// How batches are compressed on disk.
    pub enum CompressionType {
        /// As the producer sent them.
        Producer = "producer",
        /// Not at all.
        Uncompressed = "uncompressed",
        Gzip = "gzip",
        Snappy = "snappy",
        Lz4 = "lz4",
        Zstd = "zstd",
    }

    /// Which clock sets a record's timestamp.
    pub enum TimestampType {
        CreateTime = "CreateTime",
        LogAppendTime = "LogAppendTime",
    }
}
