//! Protobuf: from its JSON mapping to bytes and back.
//!
//! Before the bytes of a message stands which message of its schema it is: the places of the messages that enclose it,
//! and its own.

use super::bounded::Bounded;
use prost_reflect::prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use protox::file::{ChainFileResolver, File, FileResolver, GoogleFileResolver};
use protox::{Compiler, Error};
use std::collections::HashMap;

/// The name of the file that a schema is.
const FILE: &str = "schema.proto";
/// Places that lead to a message, at most.
const PLACES_MAX: usize = 32;

pub struct Schema {
    pool: DescriptorPool,
}

impl Schema {
    /// Parses a schema; `references` are names and texts of what it may import, beside what Protobuf itself has.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, references: &[(&str, &str)]) -> Result<Schema, String> {
        let named = references.iter();
        let named = named.map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
        let mut files: HashMap<String, String> = named.collect();
        files.insert(FILE.to_owned(), text.to_owned());
        let mut resolver = ChainFileResolver::new();
        resolver.add(Files(files));
        resolver.add(GoogleFileResolver::new());
        let mut compiler = Compiler::with_file_resolver(resolver);
        let opened = compiler.open_file(FILE);
        opened.map_err(|error| error.to_string())?;
        let schema = Schema {
            pool: compiler.descriptor_pool(),
        };
        schema.first()?;
        Ok(schema)
    }

    /// The name of its first message.
    pub fn name(&self) -> Option<String> {
        let first = self.first().ok()?;
        Some(first.full_name().to_owned())
    }

    /// Encodes its first message, which stands as JSON.
    ///
    /// # Errors
    /// Why it does not fit the schema.
    pub fn encode(&self, json: &str) -> Result<Vec<u8>, String> {
        let mut json = serde_json::Deserializer::from_str(json);
        let message = DynamicMessage::deserialize(self.first()?, &mut json);
        let message = message.map_err(|error| error.to_string())?;
        json.end().map_err(|error| error.to_string())?;
        // The first message of the file.
        let mut out = vec![0];
        message
            .encode(&mut out)
            .map_err(|error| error.to_string())?;
        Ok(out)
    }

    /// Decodes a message to JSON, with the fields that have their default value.
    ///
    /// # Errors
    /// Why it is none of the schema's.
    pub fn decode(&self, mut payload: &[u8]) -> Result<Vec<u8>, String> {
        let mut out = Bounded::of_payload(payload.len());
        let descriptor = self.at(&places(&mut payload)?)?;
        let message = DynamicMessage::decode(descriptor, payload);
        let message = message.map_err(|error| error.to_string())?;
        let options = SerializeOptions::new().skip_default_fields(false);
        let mut json = serde_json::Serializer::new(&mut out);
        let written = message.serialize_with_options(&mut json, &options);
        written.map_err(|error| error.to_string())?;
        Ok(out.into_inner())
    }

    fn first(&self) -> Result<MessageDescriptor, String> {
        self.at(&[0])
    }

    fn at(&self, places: &[usize]) -> Result<MessageDescriptor, String> {
        let none = || format!("the schema has no message at {places:?}");
        let file = self.pool.get_file_by_name(FILE).ok_or_else(none)?;
        let (first, inner) = places.split_first().ok_or_else(none)?;
        let mut found = file.messages().nth(*first).ok_or_else(none)?;
        for place in inner {
            let child = found.child_messages().nth(*place);
            found = child.ok_or_else(none)?;
        }
        Ok(found)
    }
}

/// Files that can be imported.
struct Files(HashMap<String, String>);

impl FileResolver for Files {
    fn open_file(&self, name: &str) -> Result<File, Error> {
        match self.0.get(name) {
            Some(text) => File::from_source(name, text),
            None => Err(Error::file_not_found(name)),
        }
    }
}

/// Takes off a payload which message it is: how many places, then each. A zero alone is the first message.
fn places(payload: &mut &[u8]) -> Result<Vec<usize>, String> {
    let count = place(payload)?;
    if count == 0 {
        return Ok(vec![0]);
    }
    if count > PLACES_MAX {
        return Err(format!("its message is in more than {PLACES_MAX} others"));
    }
    (0..count).map(|_| place(payload)).collect()
}

/// A number as a varint with its sign in the last bit.
fn place(payload: &mut &[u8]) -> Result<usize, String> {
    let number = prost_reflect::prost::encoding::decode_varint(payload);
    let number = number.map_err(|_| "it does not say which message it is".to_owned())?;
    let number = (number & 1 == 0).then_some(number >> 1);
    let number = number.and_then(|number| usize::try_from(number).ok());
    number.ok_or_else(|| "it names a message with a negative number".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = r#"syntax = "proto3"; package shop; import "item.proto"; import "google/protobuf/timestamp.proto";
        message Order { int64 id = 1; string first_name = 2; repeated Item items = 3; bytes raw = 4;
            google.protobuf.Timestamp at = 5; optional int32 maybe = 6; oneof one { int32 a = 7; string b = 8; }
            message Inner { message Innermost { bool yes = 1; } } }
        message Other { int32 n = 1; }"#;
    const ITEM: &str = r#"syntax = "proto3"; package shop; message Item { string name = 1; }"#;

    fn order() -> Schema {
        Schema::parse(ORDER, &[("item.proto", ITEM)]).unwrap()
    }

    fn json(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_message_goes_to_bytes_and_back() {
        let schema = order();
        assert_eq!(schema.name().as_deref(), Some("shop.Order"));
        let text = r#"{"id":"7","firstName":"Ann","items":[{"name":"tea"}],"raw":"eA==","at":"2026-01-31T10:00:00Z","b":"x"}"#;
        let bytes = schema.encode(text).unwrap();
        assert_eq!(bytes[0], 0);
        assert_eq!(json(schema.decode(&bytes).unwrap()), text);
        // As a proto's name and a number, as JSON mapping permits.
        let other = r#"{"id":7,"first_name":"Ann","items":[{"name":"tea"}],"raw":"eA==","at":"2026-01-31T10:00:00Z","b":"x"}"#;
        assert_eq!(schema.encode(other).unwrap(), bytes);
        for wrong in ["7", "[]", r#"{"none":1}"#, r#"{"id":"x"}"#, "{}{}"] {
            assert!(schema.encode(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn fields_without_a_value_are_told() {
        let schema = order();
        let told = json(schema.decode(&[0]).unwrap());
        assert_eq!(told, r#"{"id":"0","firstName":"","items":[],"raw":""}"#);
    }

    #[test]
    fn a_payload_says_which_message_it_is() {
        let schema = order();
        assert_eq!(json(schema.decode(&[2, 2, 8, 5]).unwrap()), r#"{"n":5}"#);
        let innermost = schema.decode(&[6, 0, 0, 0, 8, 1]).unwrap();
        assert_eq!(json(innermost), r#"{"yes":true}"#);
        for wrong in [
            &[][..],
            &[2],
            &[2, 4],
            &[1],
            &[4, 0, 9],
            &[0xff; 12],
            &[200, 1],
        ] {
            assert!(schema.decode(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        let deep = format!("syntax = \"proto3\"; {}", "message A { ".repeat(100_000));
        let options = format!(
            "syntax = \"proto3\"; option (a) = {}",
            "{ a: ".repeat(100_000)
        );
        let lists = format!(
            "syntax = \"proto3\"; option (a) = {{ a: {}",
            "[".repeat(100_000)
        );
        for wrong in [
            "message",
            "syntax = \"proto3\";",
            "syntax = \"proto3\"; import \"none.proto\"; message A {}",
            "syntax = \"proto3\"; import \"schema.proto\"; message A {}",
            "syntax = \"proto3\"; message A { B b = 1; }",
            &deep,
            &options,
            &lists,
        ] {
            assert!(Schema::parse(wrong, &[]).is_err(), "{wrong:.80}");
        }
    }

    #[test]
    fn a_deep_message_does_not_overflow_the_stack() {
        let text = r#"syntax = "proto3"; message L { L next = 1; }"#;
        let schema = Schema::parse(text, &[]).unwrap();
        assert!(schema.encode(&"{\"next\":".repeat(100_000)).is_err());
        let mut bytes = Vec::new();
        for _ in 0..1_000 {
            let mut outer = vec![10];
            prost_reflect::prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
            outer.extend(bytes);
            bytes = outer;
        }
        bytes.insert(0, 0);
        assert!(schema.decode(&bytes).is_err());
    }
}
