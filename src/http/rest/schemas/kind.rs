//! The kinds of schemas, and what others call them.

/// What a schema is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Avro,
    JsonSchema,
    Protobuf,
}

impl Kind {
    /// What a registry calls it.
    pub fn registry_name(self) -> &'static str {
        match self {
            Kind::Avro => "AVRO",
            Kind::JsonSchema => "JSON",
            Kind::Protobuf => "PROTOBUF",
        }
    }

    /// The kind that a registry calls so; without a name it is Avro.
    pub fn of_registry(name: Option<&str>) -> Option<Kind> {
        match name.unwrap_or("AVRO") {
            "AVRO" => Some(Kind::Avro),
            "JSON" => Some(Kind::JsonSchema),
            "PROTOBUF" => Some(Kind::Protobuf),
            _ => None,
        }
    }

    /// What version 3 of the REST Proxy calls it.
    pub fn type_name(self) -> &'static str {
        match self {
            Kind::Avro => "AVRO",
            Kind::JsonSchema => "JSONSCHEMA",
            Kind::Protobuf => "PROTOBUF",
        }
    }
}
