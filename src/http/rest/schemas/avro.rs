//! Avro: from its JSON encoding to its binary one, and back.
//!
//! A union names its branch, as in `{"string":"x"}`; bytes are a text of the characters 0 to 255. Neither way builds a
//! tree of values: what a payload takes in memory is what it becomes, and both go only so deep. A schema that is nothing
//! but bytes has its payload without their length, as the serializers of registries' clients have it.

mod schema;

use super::bounded::Bounded;
use schema::{Field, List, Shape, Type};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::io::Write;

pub use schema::Schema;

/// How deep values may stand in one another. The parser of JSON has its own limit of 128.
const DEPTH_MAX: usize = 96;

// ---- JSON to binary ----

/// Encodes a value that stands as JSON.
///
/// # Errors
/// Why it does not fit the schema.
pub fn encode(schema: &Schema, json: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let mut json = serde_json::Deserializer::from_str(json);
    let encoding = Encoding {
        schema,
        of: &schema.root,
        out: &mut out,
        depth: 0,
    };
    let encoded = encoding.deserialize(&mut json).and_then(|()| json.end());
    encoded.map_err(|error| error.to_string())?;
    if let Type::Bytes = schema.root {
        let length = out.iter().take_while(|byte| **byte > 0x7f).count() + 1;
        out.drain(..length);
    }
    Ok(out)
}

/// A value of this type, which is read as JSON and written to `out`.
struct Encoding<'a> {
    schema: &'a Schema,
    of: &'a Type,
    out: &'a mut Vec<u8>,
    depth: usize,
}

impl<'a> Encoding<'a> {
    /// The same for a value that stands in this one.
    fn inner<'b>(&self, of: &'b Type, out: &'b mut Vec<u8>) -> Encoding<'b>
    where
        'a: 'b,
    {
        Encoding {
            schema: self.schema,
            of,
            out,
            depth: self.depth + 1,
        }
    }

    fn shape(&self) -> Option<&'a Shape> {
        match self.of {
            Type::Named(at) => Some(&self.schema.named[*at].shape),
            _ => None,
        }
    }

    /// The branch of a union that has this name, and its place.
    fn branch(&self, name: &str) -> Option<(usize, &'a Type)> {
        let Type::Union(branches) = self.of else {
            return None;
        };
        let mut branches = branches.iter().enumerate();
        branches.find(|(_, branch)| self.schema.branch_name(branch) == name)
    }

    fn integer<E: Error>(self, value: i64) -> Result<(), E> {
        match self.of {
            Type::Int if i32::try_from(value).is_ok() => write_long(self.out, value),
            Type::Int => return Err(E::custom(format!("{value} does not fit an int"))),
            Type::Long => write_long(self.out, value),
            Type::Float => self.out.extend((value as f32).to_le_bytes()),
            Type::Double => self.out.extend((value as f64).to_le_bytes()),
            _ => return Err(E::invalid_type(serde::de::Unexpected::Signed(value), &self)),
        }
        Ok(())
    }

    fn bytes<E: Error>(self, text: &str, size: Option<usize>) -> Result<(), E> {
        let bytes: Result<Vec<u8>, _> = text.chars().map(u8::try_from).collect();
        let bytes =
            bytes.map_err(|_| E::custom("bytes are a text of the characters up to \\u00ff"))?;
        match size {
            Some(size) if bytes.len() != size => {
                let count = bytes.len();
                return Err(E::custom(format!("{count} bytes are not the {size} of it")));
            }
            Some(_) => {}
            None => write_long(self.out, bytes.len() as i64),
        }
        self.out.extend(bytes);
        Ok(())
    }

    /// Fields in any order, written in the schema's.
    fn record<'de, A: MapAccess<'de>>(
        self,
        fields: &'a List<Field>,
        mut map: A,
    ) -> Result<(), A::Error> {
        let mut written: Vec<Option<Vec<u8>>> = vec![None; fields.parts.len()];
        while let Some(name) = map.next_key::<String>()? {
            let at = fields.place(&name).filter(|at| written[*at].is_none());
            let at = at.ok_or_else(|| A::Error::custom(format!("unknown field {name:?}")))?;
            let mut out = Vec::new();
            map.next_value_seed(self.inner(&fields.parts[at].of, &mut out))?;
            written[at] = Some(out);
        }
        for (field, written) in fields.parts.iter().zip(written) {
            let missing = || A::Error::custom(format!("the field {:?} is missing", field.name));
            self.out.extend(written.ok_or_else(missing)?);
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Encoding<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth > DEPTH_MAX {
            let why = format!("it is deeper than {DEPTH_MAX} values in one another");
            return Err(D::Error::custom(why));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Encoding<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.of, self.shape()) {
            (Type::Union(branches), _) => {
                let names = branches.iter();
                let names = names.map(|branch| self.schema.branch_name(branch));
                let names: Vec<&str> = names.collect();
                write!(
                    f,
                    "a union of {}, as in {{\"type\": value}} or null",
                    names.join(", ")
                )
            }
            (_, Some(Shape::Enum(_))) => write!(f, "a symbol of the enum "),
            (of, _) => write!(f, "{}", self.schema.branch_name(of)),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        match (self.of, self.branch("null")) {
            (Type::Null, _) => Ok(()),
            (_, Some((at, _))) => {
                write_long(self.out, at as i64);
                Ok(())
            }
            _ => Err(E::invalid_type(serde::de::Unexpected::Unit, &self)),
        }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.of {
            Type::Boolean => self.out.push(value.into()),
            _ => return Err(E::invalid_type(serde::de::Unexpected::Bool(value), &self)),
        }
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.integer(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.integer(value),
            Err(_) => self.visit_f64(value as f64),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match self.of {
            Type::Float => self.out.extend((value as f32).to_le_bytes()),
            Type::Double => self.out.extend(value.to_le_bytes()),
            // As in 1.0.
            Type::Int | Type::Long if value.fract() == 0.0 && value.abs() < 9e15 => {
                return self.integer(value as i64);
            }
            _ => return Err(E::invalid_type(serde::de::Unexpected::Float(value), &self)),
        }
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        match (self.of, self.shape()) {
            (Type::String, _) => {
                write_long(self.out, value.len() as i64);
                self.out.extend_from_slice(value.as_bytes());
                Ok(())
            }
            (Type::Bytes, _) => self.bytes(value, None),
            (_, Some(Shape::Fixed(size))) => self.bytes(value, Some(*size)),
            (_, Some(Shape::Enum(symbols))) => {
                let at = symbols.place(value);
                let unknown = || E::custom(format!("{value:?} is no symbol of the enum"));
                write_long(self.out, at.ok_or_else(unknown)? as i64);
                Ok(())
            }
            (Type::Float | Type::Double, _) => match named_number(value) {
                Some(number) => self.visit_f64(number),
                None => Err(E::invalid_type(serde::de::Unexpected::Str(value), &self)),
            },
            _ => Err(E::invalid_type(serde::de::Unexpected::Str(value), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Type::Array(items) = self.of else {
            return Err(A::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        };
        let (mut out, mut count) = (Vec::new(), 0);
        while seq
            .next_element_seed(self.inner(items, &mut out))?
            .is_some()
        {
            count += 1;
        }
        write_block(self.out, count, &out);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        match (self.of, self.shape()) {
            (_, Some(Shape::Record(fields))) => self.record(fields, map),
            (Type::Map(values), _) => {
                let (mut out, mut count) = (Vec::new(), 0);
                while let Some(key) = map.next_key::<String>()? {
                    write_long(&mut out, key.len() as i64);
                    out.extend_from_slice(key.as_bytes());
                    map.next_value_seed(self.inner(values, &mut out))?;
                    count += 1;
                }
                write_block(self.out, count, &out);
                Ok(())
            }
            (Type::Union(_), _) => {
                let name = map.next_key::<String>()?;
                let branch = name.as_deref().and_then(|name| self.branch(name));
                let Some((at, branch)) = branch else {
                    let name = name.unwrap_or_default();
                    return Err(A::Error::custom(format!("the union has no {name:?}")));
                };
                let mut out = Vec::new();
                write_long(&mut out, at as i64);
                map.next_value_seed(self.inner(branch, &mut out))?;
                if map.next_key::<String>()?.is_some() {
                    return Err(A::Error::custom("a union has one branch at a time"));
                }
                self.out.extend(out);
                Ok(())
            }
            _ => Err(A::Error::invalid_type(serde::de::Unexpected::Map, &self)),
        }
    }
}

fn write_long(out: &mut Vec<u8>, value: i64) {
    let mut left = ((value << 1) ^ (value >> 63)) as u64;
    while left > 0x7f {
        out.push(left as u8 | 0x80);
        left >>= 7;
    }
    out.push(left as u8);
}

/// The elements of an array or a map, in one block.
fn write_block(out: &mut Vec<u8>, count: i64, elements: &[u8]) {
    if count > 0 {
        write_long(out, count);
        out.extend_from_slice(elements);
    }
    out.push(0);
}

/// Numbers that JSON has not.
fn named_number(name: &str) -> Option<f64> {
    match name {
        "NaN" => Some(f64::NAN),
        "Infinity" | "INF" => Some(f64::INFINITY),
        "-Infinity" | "-INF" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

// ---- binary to JSON ----

/// Decodes a payload to JSON. What it has behind its value is ignored, as by Avro's own decoders.
///
/// # Errors
/// Why it is none of the schema's.
pub fn decode(schema: &Schema, payload: &[u8]) -> Result<Vec<u8>, String> {
    let mut decoding = Decoding {
        schema,
        left: payload,
        out: Bounded::of_payload(payload.len()),
    };
    match schema.root {
        Type::Bytes => decoding.write_bytes(payload)?,
        _ => decoding.value(&schema.root, 0)?,
    }
    Ok(decoding.out.into_inner())
}

struct Decoding<'a> {
    schema: &'a Schema,
    left: &'a [u8],
    out: Bounded,
}

impl<'a> Decoding<'a> {
    fn value(&mut self, of: &Type, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("it is deeper than {DEPTH_MAX} values"));
        }
        match of {
            Type::Null => self.write(b"null"),
            Type::Boolean => match self.take(1)? {
                [0] => self.write(b"false"),
                [1] => self.write(b"true"),
                _ => Err("a boolean is neither 0 nor 1".to_owned()),
            },
            Type::Int => {
                let value = self.long()?;
                let value = i32::try_from(value).map_err(|_| "an int is too large".to_owned())?;
                self.write_json(&value)
            }
            Type::Long => {
                let value = self.long()?;
                self.write_json(&value)
            }
            Type::Float => {
                let bytes = self.array()?;
                let value = f32::from_le_bytes(bytes);
                self.number(value.into(), &value)
            }
            Type::Double => {
                let value = f64::from_le_bytes(self.array()?);
                self.number(value, &value)
            }
            Type::Bytes => {
                let bytes = self.counted()?;
                self.write_bytes(bytes)
            }
            Type::String => {
                let text = self.text()?;
                self.write_json(text)
            }
            Type::Array(items) => {
                self.write(b"[")?;
                self.blocks(|decoding, is_first| {
                    if !is_first {
                        decoding.write(b",")?;
                    }
                    decoding.value(items, depth + 1)
                })?;
                self.write(b"]")
            }
            Type::Map(values) => {
                self.write(b"{")?;
                self.blocks(|decoding, is_first| {
                    let key = decoding.text()?;
                    decoding.name(key, is_first)?;
                    decoding.value(values, depth + 1)
                })?;
                self.write(b"}")
            }
            Type::Union(branches) => {
                let at = self.long()?;
                let branch = usize::try_from(at).ok().and_then(|at| branches.get(at));
                let branch = branch.ok_or_else(|| format!("the union has no branch {at}"))?;
                if matches!(branch, Type::Null) {
                    return self.write(b"null");
                }
                self.write(b"{")?;
                self.name(self.schema.branch_name(branch), true)?;
                self.value(branch, depth + 1)?;
                self.write(b"}")
            }
            Type::Named(at) => self.named(*at, depth),
        }
    }

    fn named(&mut self, at: usize, depth: usize) -> Result<(), String> {
        let schema = self.schema;
        match &schema.named[at].shape {
            Shape::Record(fields) => {
                self.write(b"{")?;
                for (place, field) in fields.parts.iter().enumerate() {
                    self.name(&field.name, place == 0)?;
                    self.value(&field.of, depth + 1)?;
                }
                self.write(b"}")
            }
            Shape::Enum(symbols) => {
                let at = self.long()?;
                let symbol = usize::try_from(at)
                    .ok()
                    .and_then(|at| symbols.parts.get(at));
                let symbol = symbol.ok_or_else(|| format!("the enum has no symbol {at}"))?;
                self.write_json(symbol)
            }
            Shape::Fixed(size) => {
                let bytes = self.take(*size)?;
                self.write_bytes(bytes)
            }
            Shape::Pending => Err("the schema is not complete".to_owned()),
        }
    }

    /// Elements in blocks, each with its count; a negative one is followed by the block's bytes.
    fn blocks(
        &mut self,
        mut element: impl FnMut(&mut Self, bool) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut is_first = true;
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                self.long()?;
            }
            // Each writes something, so this ends with the room for the JSON.
            for _ in 0..count.unsigned_abs() {
                element(self, is_first)?;
                is_first = false;
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let taken = self.left.split_at_checked(count);
        let (taken, left) = taken.ok_or_else(|| "it ends in the middle of a value".to_owned())?;
        self.left = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| "it ends too early".to_owned())
    }

    fn long(&mut self) -> Result<i64, String> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err("a number has more than ten bytes".to_owned())
    }

    fn counted(&mut self) -> Result<&'a [u8], String> {
        let count = self.long()?;
        let count = usize::try_from(count).map_err(|_| "a length is wrong".to_owned())?;
        self.take(count)
    }

    fn text(&mut self) -> Result<&'a str, String> {
        let bytes = self.counted()?;
        std::str::from_utf8(bytes).map_err(|_| "a string is not in UTF-8".to_owned())
    }

    fn number(&mut self, value: f64, json: &impl serde::Serialize) -> Result<(), String> {
        if value.is_finite() {
            return self.write_json(json);
        }
        self.write(match value {
            f64::INFINITY => b"\"Infinity\"",
            f64::NEG_INFINITY => b"\"-Infinity\"",
            _ => b"\"NaN\"",
        })
    }

    fn name(&mut self, name: &str, is_first: bool) -> Result<(), String> {
        if !is_first {
            self.write(b",")?;
        }
        self.write_json(name)?;
        self.write(b":")
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> Result<(), String> {
        let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        self.write_json(&text)
    }

    fn write_json(&mut self, value: &(impl serde::Serialize + ?Sized)) -> Result<(), String> {
        let written = serde_json::to_writer(&mut self.out, value);
        written.map_err(|error| error.to_string())
    }

    fn write(&mut self, json: &[u8]) -> Result<(), String> {
        let written = self.out.write_all(json);
        written.map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests;
