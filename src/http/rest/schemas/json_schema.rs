//! JSON Schema: a value is stored as the JSON that it is, if its schema permits it.

use jsonschema::{Keyword, PatternOptions, Retrieve, Uri, ValidationError, Validator};
use serde_json::{Map, Value, json};
use std::cell::Cell;
use std::collections::HashMap;
use std::error::Error;

/// Parts of a schema with all that it refers to, each as often as it is used: what one value is compared with.
const PARTS_MAX: usize = 50_000;
/// How deep a schema goes, references included.
const DEPTH_MAX: usize = 200;
/// Steps back that a pattern may take on one text, and the bytes of what it is compiled to.
const BACKTRACK_MAX: usize = 10_000;
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// Parts of a schema times parts of a value, at most: about what comparing them takes.
const COMPARISONS_MAX: usize = 200_000_000;
/// A keyword of our own beside each reference: it counts how often they are followed.
const FOLLOWED: &str = "x-millstream-followed";
/// Keywords that count beside a reference in drafts in which it replaces all others.
const BESIDE_REFERENCES: &[&str] = &["$defs", "$id", "$schema", "definitions", "id", "title"];
/// Those drafts, as `$schema` names them.
const OLD_DRAFTS: &[&str] = &["draft-03", "draft-04", "draft-06", "draft-07"];
/// The URL that names of references are relative to.
const BASE: &str = "registry:///schema.json";
/// The longest part of a refusal that is told.
const WHY_CHARS_MAX: usize = 500;

pub struct Schema {
    validator: Validator,
    title: Option<String>,
    parts: usize,
}

impl Schema {
    /// Parses a schema; `references` are names and texts of those that it may refer to.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, references: &[(&str, &str)]) -> Result<Schema, String> {
        let parse = |text: &str| -> Result<Value, String> {
            serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))
        };
        let root = parse(text)?;
        let named = references.iter();
        let named = named.map(|(name, text)| Ok(((*name).to_owned(), parse(text)?)));
        let named: HashMap<String, Value> = named.collect::<Result<_, String>>()?;
        let parts = Parts::count(&root, &named)?;
        let root = guarded(root);
        let named = named.into_iter();
        let named = named.map(|(name, value)| (name, guarded(value))).collect();
        let patterns = PatternOptions::fancy_regex()
            .backtrack_limit(BACKTRACK_MAX)
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX);
        let validator = jsonschema::options()
            .with_base_uri(BASE)
            .with_retriever(References(named))
            .with_pattern_options(patterns)
            .with_keyword(FOLLOWED, |_, _, _| Ok(Box::new(Followed)))
            .build(&root);
        let validator = validator.map_err(|error| shortened(&error.to_string()))?;
        Ok(Schema {
            validator,
            title: root.get("title").and_then(Value::as_str).map(str::to_owned),
            parts,
        })
    }

    /// What it calls itself.
    pub fn name(&self) -> Option<&str> {
        self.title.as_deref()
    }

    /// Whether it permits a value.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, json: &str) -> Result<(), String> {
        let begins = |byte: &u8| matches!(byte, b',' | b'[' | b'{');
        let parts = 1 + json.bytes().filter(begins).count();
        if parts.saturating_mul(self.parts) > COMPARISONS_MAX {
            let own = self.parts;
            return Err(format!(
                "{parts} parts are too many for a schema with {own} of them"
            ));
        }
        let value: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        LEFT.set(COMPARISONS_MAX / self.parts);
        let checked = self.validator.validate(&value);
        if LEFT.get() == 0 {
            return Err("comparing it with its schema takes too long".to_owned());
        }
        checked.map_err(|error| {
            let place = error.instance_path().to_string();
            let why = shortened(&error.to_string());
            if place.is_empty() {
                why
            } else {
                format!("at {place}: {why}")
            }
        })
    }
}

thread_local! {
    /// How many references the value that is compared now may still follow.
    static LEFT: Cell<usize> = const { Cell::new(0) };
}

/// Permits every value, until too many references were followed: then none, so that comparing ends soon.
struct Followed;

impl<'i> Keyword<'i> for Followed {
    fn validate(&self, instance: &'i Value) -> Result<(), ValidationError<'i>> {
        if self.is_valid(instance) {
            return Ok(());
        }
        Err(ValidationError::custom("too many references"))
    }

    fn is_valid(&self, _: &'i Value) -> bool {
        let left = LEFT.get().saturating_sub(1);
        LEFT.set(left);
        left > 0
    }
}

/// The same schema, which counts its references as they are followed. A value can have one compared with the same part
/// again and again, twice as often on each level that it is deep. A `$ref` in a constant is taken for a reference: what
/// is a schema cannot be told from where it stands, for pointers lead anywhere.
fn guarded(schema: Value) -> Value {
    let draft = schema.get("$schema").and_then(Value::as_str);
    let draft = draft.unwrap_or_default();
    let is_old = OLD_DRAFTS.iter().any(|old| draft.contains(old));
    guard(schema, is_old)
}

fn guard(part: Value, is_old: bool) -> Value {
    match part {
        Value::Array(parts) => {
            let parts = parts.into_iter().map(|part| guard(part, is_old));
            parts.collect()
        }
        Value::Object(object) => {
            let parts = object.into_iter();
            let parts = parts.map(|(keyword, part)| (keyword, guard(part, is_old)));
            guard_reference(parts.collect(), is_old).into()
        }
        other => other,
    }
}

/// Puts the reference of an object behind what counts it; all else stays where it is, for pointers lead there.
fn guard_reference(mut object: Map<String, Value>, is_old: bool) -> Map<String, Value> {
    if !object.get("$ref").is_some_and(Value::is_string) {
        return object;
    }
    if is_old {
        let counts = |keyword: &str| keyword == "$ref" || BESIDE_REFERENCES.contains(&keyword);
        object.retain(|keyword, _| counts(keyword));
    }
    let target = object.shift_remove("$ref");
    let counted = json!({ "allOf": [{ FOLLOWED: true }, { "$ref": target }] });
    match object.get_mut("allOf").and_then(Value::as_array_mut) {
        Some(all) => all.push(counted),
        None => object.extend([("allOf".to_owned(), json!([counted]))]),
    }
    object
}

/// A refusal may quote the whole value.
fn shortened(why: &str) -> String {
    let mut short: String = why.chars().take(WHY_CHARS_MAX).collect();
    if short.len() < why.len() {
        short.push('…');
    }
    short
}

/// The schemas that one refers to: all that can be got, for nothing is fetched.
struct References(HashMap<String, Value>);

impl Retrieve for References {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let found = named(&self.0, uri.as_str());
        let found = found.ok_or_else(|| format!("{uri} is not among its references"))?;
        Ok(found.clone())
    }
}

/// The reference whose name is this URL, or its end.
fn named<'a>(references: &'a HashMap<String, Value>, url: &str) -> Option<&'a Value> {
    let is_it = |name: &str| {
        let rest = url.strip_suffix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
    };
    let mut found = references.iter().filter(|(name, _)| is_it(name));
    found.next().map(|(_, value)| value)
}

/// Counts the parts of a schema as they are used. What is referred to from within itself counts once.
struct Parts<'a> {
    references: &'a HashMap<String, Value>,
    count: usize,
    /// What is being counted: document and pointer.
    within: Vec<(*const Value, String)>,
}

impl<'a> Parts<'a> {
    /// # Errors
    /// For too many, and for references of kinds whose parts cannot be counted.
    fn count(root: &'a Value, references: &'a HashMap<String, Value>) -> Result<usize, String> {
        let mut parts = Parts {
            references,
            count: 0,
            within: Vec::new(),
        };
        parts.add(root, root, 0)?;
        Ok(parts.count)
    }

    fn add(&mut self, document: &'a Value, part: &'a Value, depth: usize) -> Result<(), String> {
        self.count += 1;
        if self.count > PARTS_MAX || depth > DEPTH_MAX {
            return Err(format!(
                "with what it refers to, it has more than {PARTS_MAX} parts, or {DEPTH_MAX} in one another"
            ));
        }
        match part {
            Value::Array(parts) => {
                for part in parts {
                    self.add(document, part, depth + 1)?;
                }
            }
            Value::Object(object) => {
                for (keyword, part) in object {
                    match (keyword.as_str(), part.as_str()) {
                        ("$ref", Some(target)) => self.refer(document, target, depth)?,
                        ("$dynamicRef" | "$recursiveRef", Some(_)) => {
                            return Err(format!("{keyword} is not supported"));
                        }
                        _ => self.add(document, part, depth + 1)?,
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn refer(&mut self, document: &'a Value, target: &str, depth: usize) -> Result<(), String> {
        let (url, pointer) = target.split_once('#').unwrap_or((target, ""));
        let own = document.get("$id").or_else(|| document.get("id"));
        let is_own = url.is_empty() || own.and_then(Value::as_str) == Some(url);
        let document = if is_own {
            document
        } else {
            let found = named(self.references, url);
            found.ok_or_else(|| format!("{url:?} is not among its references"))?
        };
        let pointer = percent_encoding::percent_decode_str(pointer);
        let pointer = pointer.decode_utf8_lossy().into_owned();
        let part = document.pointer(&pointer);
        let part = part.ok_or_else(|| format!("there is nothing at {target:?}"))?;
        let place = (std::ptr::from_ref(document), pointer);
        if self.within.contains(&place) {
            return Ok(());
        }
        self.within.push(place);
        self.add(document, part, depth + 1)?;
        self.within.pop();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_value_is_as_its_schema_says() {
        let text = r#"{"title":"Order","type":"object","properties":{"a":{"type":"integer","minimum":1}},"required":["a"]}"#;
        let schema = Schema::parse(text, &[]).unwrap();
        assert_eq!(schema.name(), Some("Order"));
        assert_eq!(schema.check(r#"{"a":1,"b":[]}"#), Ok(()));
        for wrong in ["{}", r#"{"a":0}"#, r#"{"a":"x"}"#, "7", "{"] {
            assert!(schema.check(wrong).is_err(), "{wrong}");
        }
        let why = schema.check(&format!("\"{}\"", "x".repeat(10_000)));
        assert!(why.unwrap_err().len() < 1_000);
    }

    #[test]
    fn a_schema_may_refer_to_others_by_their_names_and_to_nothing_else() {
        let item = r#"{"definitions":{"n":{"type":"integer"}}}"#;
        let by = |url: &str| format!(r#"{{"properties":{{"a":{{"$ref":"{url}"}}}}}}"#);
        let near = by("item.json#/definitions/n");
        let schema = Schema::parse(&near, &[("item.json", item)]).unwrap();
        assert_eq!(schema.check(r#"{"a":1}"#), Ok(()));
        assert!(schema.check(r#"{"a":"x"}"#).is_err());
        let far = by("http://a.test/item.json#/definitions/n");
        assert!(Schema::parse(&far, &[("http://a.test/item.json", item)]).is_ok());
        for wrong in [near, far, by("file:///etc/passwd"), by("#/none"), by("#x")] {
            assert!(Schema::parse(&wrong, &[]).is_err(), "{wrong}");
        }
        for wrong in ["", "[]", "7", r#"{"type":"none"}"#, r#"{"pattern":"("}"#] {
            assert!(Schema::parse(wrong, &[]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_schema_that_refers_to_itself_ends() {
        let list = r##"{"type":"object","properties":{"next":{"$ref":"#"}},"additionalProperties":false}"##;
        let schema = Schema::parse(list, &[]).unwrap();
        let deep = format!("{}{{}}{}", "{\"next\":".repeat(100), "}".repeat(100));
        assert_eq!(schema.check(&deep), Ok(()));
        assert!(schema.check(&deep.replace("{}", "{\"a\":1}")).is_err());
        assert!(schema.check(&"{\"next\":".repeat(100_000)).is_err());
        for endless in [
            r##"{"$ref":"#"}"##,
            r##"{"allOf":[{"$ref":"#"}]}"##,
            r##"{"not":{"$ref":"#"}}"##,
            r##"{"$ref":"#/$defs/a","$defs":{"a":{"$ref":"#/$defs/b"},"b":{"$ref":"#/$defs/a"}}}"##,
        ] {
            if let Ok(schema) = Schema::parse(endless, &[]) {
                let _ = schema.check("{}");
            }
        }
    }

    #[test]
    fn what_stands_beside_a_reference_counts_as_its_draft_says() {
        let of = |draft: &str| {
            let text = format!(
                r##"{{"$schema":"{draft}","$ref":"#/definitions/a","required":["a"],"definitions":{{"a":{{"type":"object"}}}}}}"##
            );
            Schema::parse(&text, &[]).unwrap()
        };
        let old = of("http://json-schema.org/draft-07/schema#");
        assert_eq!(old.check("{}"), Ok(()));
        assert!(old.check("7").is_err());
        let new = of("https://json-schema.org/draft/2020-12/schema");
        assert!(new.check("{}").is_err());
        assert_eq!(new.check(r#"{"a":1}"#), Ok(()));
        assert!(new.check("7").is_err());
        let more = r##"{"allOf":[{"type":"object"}],"$ref":"#/$defs/a","$defs":{"a":{"required":["a"]}}}"##;
        let more = Schema::parse(more, &[]).unwrap();
        assert_eq!(more.check(r#"{"a":1}"#), Ok(()));
        assert!(more.check("{}").is_err() && more.check("7").is_err());
        // A property may be called as a keyword is.
        let named =
            r##"{"properties":{"default":{"$ref":"#/properties/enum"},"enum":{"type":"null"}}}"##;
        let named = Schema::parse(named, &[]).unwrap();
        assert_eq!(named.check(r#"{"default":null}"#), Ok(()));
        assert!(named.check(r#"{"default":1}"#).is_err());
    }

    #[test]
    fn what_grows_with_each_level_holds_up_nobody() {
        let began = Instant::now();
        let each = r##"{"properties":{"a":{"$ref":"#"}}}"##;
        let twice = format!(r#"{{"allOf":[{each},{each}],"anyOf":[{each},{each}]}}"#);
        let twice = Schema::parse(&twice, &[]).unwrap();
        let deep = format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100));
        assert!(twice.check(&deep).unwrap_err().contains("too long"));
        assert_eq!(twice.check(r#"{"a":{"a":1}}"#), Ok(()));
        let mut definitions = r#""d0":{"type":"integer"}"#.to_owned();
        for level in 1..60 {
            let of = level - 1;
            definitions += &format!(
                r##","d{level}":{{"allOf":[{{"$ref":"#/$defs/d{of}"}},{{"$ref":"#/$defs/d{of}"}}]}}"##
            );
        }
        let doubled = format!(r##"{{"$ref":"#/$defs/d59","$defs":{{{definitions}}}}}"##);
        assert!(Schema::parse(&doubled, &[]).is_err());
        let pattern = Schema::parse(r#"{"pattern":"^(a+)+(?!b)$"}"#, &[]).unwrap();
        let _ = pattern.check(&format!("\"{}!\"", "a".repeat(5_000)));
        let huge = r#"{"pattern":"((a{1,1000}){1,1000}){1,1000}"}"#;
        assert!(Schema::parse(huge, &[]).is_err());
        let many = vec![r#"{"minimum":0}"#; 10_000].join(",");
        let many = Schema::parse(&format!(r#"{{"items":{{"allOf":[{many}]}}}}"#), &[]).unwrap();
        let long = format!("[{}]", vec!["1"; 100_000].join(","));
        assert!(many.check(&long).is_err());
        assert_eq!(many.check("[1,2]"), Ok(()));
        assert!(began.elapsed() < Duration::from_secs(60));
    }
}
