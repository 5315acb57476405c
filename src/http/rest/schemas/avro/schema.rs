//! Avro schemas: parsed as far as JSON and bytes depend on them. Logical types, defaults, aliases and the order of
//! fields do not matter for that.

use serde_json::{Map, Value};
use std::collections::{HashMap, HashSet};

/// The most symbols of an enum and fields of a record, which are found by their names, and branches of a union.
const PARTS_MAX: usize = 10_000;
const BRANCHES_MAX: usize = 256;
/// The most bytes of a fixed.
const FIXED_BYTES_MAX: usize = 16 << 20;

/// A type. Those with names are in the schema's list.
#[derive(Debug)]
pub enum Type {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Array(Box<Type>),
    Map(Box<Type>),
    Union(Vec<Type>),
    /// At this place of [`Schema::named`].
    Named(usize),
}

/// A type with a name.
#[derive(Debug)]
pub struct Named {
    /// With its namespace.
    pub name: String,
    pub shape: Shape,
}

#[derive(Debug)]
pub enum Shape {
    /// Its name is there, and what it is follows.
    Pending,
    Record(List<Field>),
    Enum(List<String>),
    /// Of so many bytes.
    Fixed(usize),
}

#[derive(Debug)]
pub struct Field {
    pub name: String,
    pub of: Type,
}

/// Parts in their order, which are also found by their names.
#[derive(Debug)]
pub struct List<T> {
    pub parts: Vec<T>,
    places: HashMap<String, usize>,
}

impl<T> List<T> {
    fn new() -> List<T> {
        List {
            parts: Vec::new(),
            places: HashMap::new(),
        }
    }

    /// Adds a part; false where there is one of its name.
    fn add(&mut self, name: &str, part: T) -> bool {
        let place = self.parts.len();
        self.parts.push(part);
        self.places.insert(name.to_owned(), place).is_none()
    }

    /// The place of the part that has this name.
    pub fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }
}

/// A schema with all that it refers to.
#[derive(Debug)]
pub struct Schema {
    pub root: Type,
    pub named: Vec<Named>,
}

impl Schema {
    /// Parses a schema; `references` are those whose names it may use, each behind those that it uses itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, references: &[&str]) -> Result<Schema, String> {
        let mut parser = Parser::default();
        for reference in references {
            parser.root(reference)?;
        }
        let root = parser.root(text)?;
        Ok(Schema {
            root,
            named: parser.named,
        })
    }

    /// The name of the record, enum or fixed that it is; `None` where it is something else.
    pub fn name(&self) -> Option<&str> {
        match self.root {
            Type::Named(at) => Some(&self.named[at].name),
            _ => None,
        }
    }

    /// How a union names a branch.
    pub fn branch_name(&self, branch: &Type) -> &str {
        match branch {
            Type::Null => "null",
            Type::Boolean => "boolean",
            Type::Int => "int",
            Type::Long => "long",
            Type::Float => "float",
            Type::Double => "double",
            Type::Bytes => "bytes",
            Type::String => "string",
            Type::Array(_) => "array",
            Type::Map(_) => "map",
            Type::Union(_) => "union",
            Type::Named(at) => &self.named[*at].name,
        }
    }
}

#[derive(Default)]
struct Parser {
    named: Vec<Named>,
    places: HashMap<String, usize>,
}

impl Parser {
    fn root(&mut self, text: &str) -> Result<Type, String> {
        // Its depth is bounded: the parser of JSON goes no deeper than 128.
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            // Some registries have the name of a type alone without its quotes.
            Err(_) if is_name(text.trim()) => text.trim().into(),
            Err(error) => return Err(format!("it is no JSON: {error}")),
        };
        self.parse(&value, "")
    }

    fn parse(&mut self, value: &Value, namespace: &str) -> Result<Type, String> {
        match value {
            Value::String(name) => self.of_name(name, namespace),
            Value::Array(branches) => self.union(branches, namespace),
            Value::Object(object) => self.complex(object, namespace),
            other => Err(format!("{other} is no type")),
        }
    }

    fn of_name(&self, name: &str, namespace: &str) -> Result<Type, String> {
        Ok(match name {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "int" => Type::Int,
            "long" => Type::Long,
            "float" => Type::Float,
            "double" => Type::Double,
            "bytes" => Type::Bytes,
            "string" => Type::String,
            _ => {
                let place = self.places.get(&full_name(name, namespace));
                let place = place.or_else(|| self.places.get(name));
                Type::Named(*place.ok_or_else(|| format!("there is no type {name:?}"))?)
            }
        })
    }

    fn union(&mut self, branches: &[Value], namespace: &str) -> Result<Type, String> {
        if branches.len() > BRANCHES_MAX {
            return Err(format!("a union has more than {BRANCHES_MAX} branches"));
        }
        let mut names = HashSet::new();
        let mut types = Vec::new();
        for branch in branches {
            let branch = self.parse(branch, namespace)?;
            let name = match &branch {
                Type::Union(_) => return Err("a union has a union as a branch".to_owned()),
                Type::Named(at) => format!("{at}"),
                plain => format!("{:?}", std::mem::discriminant(plain)),
            };
            if !names.insert(name) {
                return Err("a union has two branches of one type".to_owned());
            }
            types.push(branch);
        }
        Ok(Type::Union(types))
    }

    fn complex(&mut self, object: &Map<String, Value>, namespace: &str) -> Result<Type, String> {
        let inner = |name: &str| {
            let inner = object.get(name);
            inner.ok_or_else(|| format!("a type has no {name:?}"))
        };
        match inner("type")? {
            Value::String(kind) => match kind.as_str() {
                "array" => {
                    let items = self.parse(inner("items")?, namespace)?;
                    Ok(Type::Array(Box::new(items)))
                }
                "map" => {
                    let values = self.parse(inner("values")?, namespace)?;
                    Ok(Type::Map(Box::new(values)))
                }
                "record" | "error" | "enum" | "fixed" => self.named(kind, object, namespace),
                name => self.of_name(name, namespace),
            },
            nested => self.parse(nested, namespace),
        }
    }

    fn named(
        &mut self,
        kind: &str,
        object: &Map<String, Value>,
        namespace: &str,
    ) -> Result<Type, String> {
        let text = |name: &str| object.get(name).and_then(Value::as_str);
        let name = text("name").ok_or_else(|| format!("a {kind} has no name"))?;
        let name = full_name(name, text("namespace").unwrap_or(namespace));
        if !name.split('.').all(is_simple_name) {
            return Err(format!("{name:?} is no name of a type"));
        }
        let namespace = match name.rsplit_once('.') {
            Some((namespace, _)) => namespace.to_owned(),
            None => String::new(),
        };
        let at = self.named.len();
        if self.places.insert(name.clone(), at).is_some() {
            return Err(format!("there are two types {name:?}"));
        }
        self.named.push(Named {
            name: name.clone(),
            shape: Shape::Pending,
        });
        let shape = match kind {
            "enum" => Shape::Enum(symbols(object, &name)?),
            "fixed" => Shape::Fixed(size(object, &name)?),
            _ => Shape::Record(self.fields(object, &name, &namespace)?),
        };
        self.named[at].shape = shape;
        Ok(Type::Named(at))
    }

    fn fields(
        &mut self,
        object: &Map<String, Value>,
        name: &str,
        namespace: &str,
    ) -> Result<List<Field>, String> {
        let fields = object.get("fields").and_then(Value::as_array);
        let fields = fields.ok_or_else(|| format!("the record {name:?} has no fields"))?;
        check_count(fields.len(), "fields of a record")?;
        let mut parsed = List::new();
        for field in fields {
            let field_name = field.get("name").and_then(Value::as_str);
            let of = field.get("type");
            let (Some(field_name), Some(of)) = (field_name, of) else {
                return Err(format!("a field of {name:?} has no name or no type"));
            };
            let field = Field {
                name: field_name.to_owned(),
                of: self.parse(of, namespace)?,
            };
            if !is_simple_name(field_name) || !parsed.add(field_name, field) {
                return Err(format!("{field_name:?} is no name of a field of {name:?}"));
            }
        }
        Ok(parsed)
    }
}

fn symbols(object: &Map<String, Value>, name: &str) -> Result<List<String>, String> {
    let symbols = object.get("symbols").and_then(Value::as_array);
    let symbols = symbols.ok_or_else(|| format!("the enum {name:?} has no symbols"))?;
    check_count(symbols.len(), "symbols of an enum")?;
    let mut parsed = List::new();
    for symbol in symbols {
        let text = symbol.as_str().unwrap_or_default();
        if !is_simple_name(text) || !parsed.add(text, text.to_owned()) {
            return Err(format!("{symbol} is no symbol of the enum {name:?}"));
        }
    }
    Ok(parsed)
}

fn size(object: &Map<String, Value>, name: &str) -> Result<usize, String> {
    let size = object.get("size").and_then(Value::as_u64);
    let size = size.and_then(|size| usize::try_from(size).ok());
    let size = size.filter(|size| *size <= FIXED_BYTES_MAX);
    size.ok_or_else(|| format!("the fixed {name:?} has no size up to {FIXED_BYTES_MAX}"))
}

fn check_count(count: usize, what: &str) -> Result<(), String> {
    if count <= PARTS_MAX {
        return Ok(());
    }
    Err(format!("there are more than {PARTS_MAX} {what}"))
}

fn full_name(name: &str, namespace: &str) -> String {
    match name.strip_prefix('.') {
        Some(name) => name.to_owned(),
        None if namespace.is_empty() || name.contains('.') => name.to_owned(),
        None => format!("{namespace}.{name}"),
    }
}

fn is_name(text: &str) -> bool {
    text.split('.').all(is_simple_name)
}

fn is_simple_name(name: &str) -> bool {
    let mut chars = name.chars();
    let begins = chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    begins && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_namespace_that_encloses_them() {
        let text = r#"{"type":"record","name":"a.b.R","fields":[
            {"name":"e","type":{"type":"enum","name":"E","symbols":["X"]}},
            {"name":"f","type":{"type":"fixed","name":"F","namespace":"c","size":2}},
            {"name":"again","type":["null","E","c.F","R"]}]}"#;
        let schema = Schema::parse(text, &[]).unwrap();
        let names: Vec<&str> = schema
            .named
            .iter()
            .map(|named| named.name.as_str())
            .collect();
        assert_eq!(names, ["a.b.R", "a.b.E", "c.F"]);
        assert_eq!(schema.name(), Some("a.b.R"));
    }

    #[test]
    fn a_schema_may_use_the_names_of_its_references() {
        let ann = r#"{"type":"record","name":"x.Ann","fields":[]}"#;
        let text = r#"{"type":"array","items":"x.Ann"}"#;
        assert!(Schema::parse(text, &[ann]).is_ok());
        assert!(Schema::parse(text, &[]).is_err());
        assert!(matches!(
            Schema::parse("string", &[]).map(|schema| schema.root),
            Ok(Type::String)
        ));
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for wrong in [
            "",
            "7",
            "{}",
            "\"none\"",
            r#"{"type":"record","name":"R"}"#,
            r#"{"type":"record","name":"R","fields":[{"name":"a"}]}"#,
            r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#,
            r#"{"type":"enum","name":"E","symbols":["A","A"]}"#,
            r#"{"type":"fixed","name":"F","size":-1}"#,
            r#"{"type":"fixed","name":"F","size":99999999999}"#,
            r#"{"type":"array"}"#,
            r#"["int","int"]"#,
            r#"["int",["null"]]"#,
            r#"[{"type":"enum","name":"E","symbols":[]},{"type":"enum","name":"E","symbols":[]}]"#,
            &deep,
        ] {
            assert!(Schema::parse(wrong, &[]).is_err(), "{wrong:.80}");
        }
    }
}
