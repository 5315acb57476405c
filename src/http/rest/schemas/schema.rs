//! A schema of one of the kinds, and values in it.

use super::kind::Kind;
use super::{avro, json_schema, protobuf};
use crate::http::rest::embedded::compact;

/// A schema, ready to be used.
pub enum Schema {
    Avro(avro::Schema),
    Json(json_schema::Schema),
    Protobuf(protobuf::Schema),
}

impl Schema {
    /// Parses a schema; `references` are names and texts of what it refers to, each behind those that it refers to
    /// itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(kind: Kind, text: &str, references: &[(&str, &str)]) -> Result<Schema, String> {
        match kind {
            Kind::Avro => {
                let texts: Vec<&str> = references.iter().map(|(_, text)| *text).collect();
                avro::Schema::parse(text, &texts).map(Schema::Avro)
            }
            Kind::JsonSchema => json_schema::Schema::parse(text, references).map(Schema::Json),
            Kind::Protobuf => protobuf::Schema::parse(text, references).map(Schema::Protobuf),
        }
    }

    pub fn kind(&self) -> Kind {
        match self {
            Schema::Avro(_) => Kind::Avro,
            Schema::Json(_) => Kind::JsonSchema,
            Schema::Protobuf(_) => Kind::Protobuf,
        }
    }

    /// The name of the record that it describes, if it has one.
    pub fn name(&self) -> Option<String> {
        match self {
            Schema::Avro(schema) => schema.name().map(str::to_owned),
            Schema::Json(schema) => schema.name().map(str::to_owned),
            Schema::Protobuf(schema) => schema.name(),
        }
    }

    /// What a value that stands as JSON is in its payload.
    ///
    /// # Errors
    /// Why it does not fit.
    pub fn encode(&self, json: &str) -> Result<Vec<u8>, String> {
        match self {
            Schema::Avro(schema) => avro::encode(schema, json),
            Schema::Json(schema) => {
                schema.check(json)?;
                Ok(compact(json.as_bytes()).into())
            }
            Schema::Protobuf(schema) => schema.encode(json),
        }
    }

    /// The JSON of a payload.
    ///
    /// # Errors
    /// Why it is none of this schema's.
    pub fn decode(&self, payload: &[u8]) -> Result<Vec<u8>, String> {
        match self {
            Schema::Avro(schema) => avro::decode(schema, payload),
            Schema::Json(_) => {
                let json: Result<&serde_json::value::RawValue, _> = serde_json::from_slice(payload);
                let json = json.map_err(|error| format!("it is no JSON: {error}"))?;
                Ok(json.get().as_bytes().to_vec())
            }
            Schema::Protobuf(schema) => schema.decode(payload),
        }
    }
}
