//! One row of the table, and the macro that makes a struct with typed fields of such rows.

use std::borrow::Cow;

use super::value::{Kind, human};

/// What the documentation of a config without effect says, before it says why.
pub const WITHOUT_EFFECT: &str = "Stored and shown, without effect:";

/// What a knob governs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The broker as a whole.
    Broker,
    /// Each topic; what the operator sets is the default for topics that do not say otherwise.
    Topic,
}

/// All there is to know about one knob, apart from its value.
#[derive(Debug)]
pub struct Knob {
    /// The field of [`Config`](super::Config) or [`TopicConfig`](super::TopicConfig).
    pub field: &'static str,
    pub scope: Scope,
    /// The heading it stands under in help and docs.
    pub section: &'static str,
    pub kind: Kind,
    /// What a Kafka broker calls it. Every topic config has one: its broker-wide default.
    pub kafka: Option<&'static str>,
    /// The default, as plain text.
    pub default: fn() -> String,
    pub(super) help: &'static str,
    pub(super) shown: Option<&'static str>,
    pub(super) why: Option<&'static str>,
    /// Why it is stored and shown only. `None`: it has an effect.
    pub without_effect: Option<&'static str>,
}

impl Knob {
    pub fn help(&self) -> &'static str {
        self.help.trim()
    }

    /// What it does, and where it does nothing, why.
    pub fn documentation(&self) -> Cow<'static, str> {
        match self.without_effect {
            Some(why) => Cow::Owned(format!("{} {WITHOUT_EFFECT} {why}.", self.help())),
            None => Cow::Borrowed(self.help()),
        }
    }

    /// Its name in the TOML file: `frame_bytes_max`, `log_retention_ms`.
    pub fn key(&self) -> String {
        match (self.scope, self.kafka) {
            (Scope::Topic, Some(kafka)) => kafka.replace('.', "_"),
            _ => self.field.to_owned(),
        }
    }

    /// Its flag, without the dashes in front: `frame-bytes-max`.
    pub fn flag(&self) -> String {
        self.key().replace('_', "-")
    }

    /// Its environment variable: `MILLSTREAM_FRAME_BYTES_MAX`.
    pub fn env(&self) -> String {
        format!("MILLSTREAM_{}", self.key().to_uppercase())
    }

    /// The broker's name for it in DescribeConfigs: Kafka's where there is one, else ours.
    pub fn broker_name(&self) -> &'static str {
        self.kafka.unwrap_or(self.field)
    }

    /// Whether only tests of Kafka's own use it; it is shown where it is set.
    pub(super) fn is_internal(&self) -> bool {
        self.field.starts_with("internal_")
    }

    /// A topic config's own name: `retention.ms`.
    pub fn topic_name(&self) -> String {
        self.field.replace('_', ".")
    }

    /// What values it takes, and why no others, for an error message.
    pub fn permitted(&self) -> String {
        match self.why {
            Some(why) => format!("{}, because {why}", self.kind.permitted()),
            None => self.kind.permitted(),
        }
    }

    /// The default as a person would write it: `100MiB`, `7d`, `every core …`.
    pub fn default_shown(&self) -> String {
        if let Some(shown) = self.shown {
            return shown.to_owned();
        }
        let text = (self.default)();
        match (self.kind, text.parse()) {
            (Kind::Integer { unit, .. }, Ok(value)) => human(unit, value).unwrap_or(text),
            _ => text,
        }
    }
}

/// Makes, of a table of rows, a struct with one typed field a row, its `Default`, and `KNOBS`.
/// How a row is written: see the head of `config/mod.rs`.
macro_rules! table {
    (
        $(#[$struct_meta:meta])*
        pub struct $Struct:ident of $scope:ident
        $(and { $($(#[$extra_meta:meta])* pub $extra:ident: $Extra:ty,)* })?
        $($section:literal {
            $(
                $(#[doc = $help:literal])+
                $field:ident: $Type:ty = $default:expr, $kind:expr
                    $(, kafka $kafka:literal)? $(, shown $shown:literal)? $(, why $why:literal)?
                    $(, without_effect $without_effect:literal)?;
            )+
        })+
    ) => {
        $(#[$struct_meta])*
        pub struct $Struct {
            $($($(#[doc = $help])+ pub $field: $Type,)+)+
            $($($(#[$extra_meta])* pub $extra: $Extra,)*)?
        }

        impl Default for $Struct {
            fn default() -> Self {
                Self {
                    $($($field: $default,)+)+
                    $($($extra: Default::default(),)*)?
                }
            }
        }

        impl $Struct {
            /// The table this struct is made from, in the order of the docs.
            pub const KNOBS: &'static [$crate::config::Knob] = &[
                $($($crate::config::Knob {
                    field: stringify!($field),
                    scope: $crate::config::Scope::$scope,
                    section: $section,
                    kind: $kind,
                    kafka: table!(@option $($kafka)?),
                    default: || {
                        let value: $Type = $default;
                        $crate::config::value::Field::show(&value)
                    },
                    help: concat!($($help),+),
                    shown: table!(@option $($shown)?),
                    why: table!(@option $($why)?),
                    without_effect: table!(@option $($without_effect)?),
                },)+)+
            ];

            /// Sets one field from plain text; `None` (and no change) where the knob refuses it.
            pub(in crate::config) fn set(&mut self, knob: &$crate::config::Knob, text: &str) -> Option<()> {
                match knob.field {
                    $($(stringify!($field) => {
                        self.$field = $crate::config::value::Field::parse(text, &knob.kind)?;
                    })+)+
                    _ => return None,
                }
                Some(())
            }

            /// One field as plain text.
            pub(in crate::config) fn show(&self, knob: &$crate::config::Knob) -> String {
                match knob.field {
                    $($(stringify!($field) => $crate::config::value::Field::show(&self.$field),)+)+
                    _ => String::new(),
                }
            }
        }
    };
    (@option) => { None };
    (@option $text:literal) => { Some($text) };
}

pub(super) use table;
