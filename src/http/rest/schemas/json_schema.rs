//! JSON Schema: a value is stored as the JSON that it is, if its schema permits it.

use jsonschema::{PatternOptions, Retrieve, Uri, Validator};
use serde_json::Value;
use std::collections::HashMap;
use std::error::Error;

/// Parts of a schema with all that it refers to, each as often as it is used: what one value is compared with.
const PARTS_MAX: usize = 50_000;
/// How deep a schema goes, references included.
const DEPTH_MAX: usize = 200;
/// Steps back that a pattern may take on one text, and the bytes of what it is compiled to.
const BACKTRACK_MAX: usize = 100_000;
const PATTERN_BYTES_MAX: usize = 1 << 20;
/// The URL that names of references are relative to.
const BASE: &str = "registry:///schema.json";
/// The longest part of a refusal that is told.
const WHY_CHARS_MAX: usize = 500;

pub struct Schema {
    validator: Validator,
    title: Option<String>,
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
        Parts::check(&root, &named)?;
        let patterns = PatternOptions::fancy_regex()
            .backtrack_limit(BACKTRACK_MAX)
            .size_limit(PATTERN_BYTES_MAX)
            .dfa_size_limit(PATTERN_BYTES_MAX);
        let validator = jsonschema::options()
            .with_base_uri(BASE)
            .with_retriever(References(named))
            .with_pattern_options(patterns)
            .build(&root);
        let validator = validator.map_err(|error| shortened(&error.to_string()))?;
        let title = root.get("title").and_then(Value::as_str);
        Ok(Schema {
            validator,
            title: title.map(str::to_owned),
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
        let value: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let checked = self.validator.validate(&value);
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

/// Counts the parts of a schema as they are used. What is referred to from within itself counts once: validators
/// remember what they have compared there.
struct Parts<'a> {
    references: &'a HashMap<String, Value>,
    count: usize,
    /// What is being counted: document and pointer.
    within: Vec<(*const Value, String)>,
}

impl<'a> Parts<'a> {
    /// # Errors
    /// For too many, and for references of kinds whose parts cannot be counted.
    fn check(root: &'a Value, references: &'a HashMap<String, Value>) -> Result<(), String> {
        let mut parts = Parts {
            references,
            count: 0,
            within: Vec::new(),
        };
        parts.add(root, root, 0)
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
    fn what_grows_with_each_level_holds_up_nobody() {
        let began = Instant::now();
        let each = r##"{"properties":{"a":{"$ref":"#"}}}"##;
        let twice = format!(r#"{{"allOf":[{each},{each}],"anyOf":[{each},{each}]}}"#);
        if let Ok(schema) = Schema::parse(&twice, &[]) {
            let deep = format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100));
            let _ = schema.check(&deep);
        }
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
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}
