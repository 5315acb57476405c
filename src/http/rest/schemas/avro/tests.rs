//! Beside tests of our own, the crate `apache-avro` as the oracle.

use super::*;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;

const ALL: &str = r#"{"type":"record","name":"a.All","fields":[
    {"name":"n","type":"null"},
    {"name":"b","type":"boolean"},
    {"name":"i","type":{"type":"int","logicalType":"date"}},
    {"name":"l","type":"long"},
    {"name":"f","type":"float"},
    {"name":"d","type":"double"},
    {"name":"bytes","type":{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}},
    {"name":"s","type":"string"},
    {"name":"e","type":{"type":"enum","name":"E","symbols":["X","Y"]}},
    {"name":"x","type":{"type":"fixed","name":"F","size":2}},
    {"name":"array","type":{"type":"array","items":"int"}},
    {"name":"map","type":{"type":"map","values":["null","long"]}},
    {"name":"u","type":["null","string","E","a.All"]}]}"#;

fn schema(text: &str) -> Schema {
    Schema::parse(text, &[]).unwrap()
}

fn json(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn every_type_goes_to_bytes_and_back() {
    let schema = schema(ALL);
    let inner = r#"{"n":null,"b":false,"i":-1,"l":0,"f":-0.5,"d":1e+300,"bytes":"","s":"","e":"X","x":"\u0000a","array":[],"map":{},"u":null}"#;
    let outer = format!(
        r#"{{"n":null,"b":true,"i":2147483647,"l":-9223372036854775808,"f":1.5,"d":0.1,"bytes":"ÿa","s":"täa\n","e":"Y","x":"ab","array":[1,2,3],"map":{{"k":{{"long":7}}}},"u":{{"a.All":{inner}}}}}"#
    );
    let bytes = encode(&schema, &outer).unwrap();
    assert_eq!(json(decode(&schema, &bytes).unwrap()), outer);
    let enumerated = inner.replace(r#""u":null"#, r#""u":{"a.E":"Y"}"#);
    let bytes = encode(&schema, &enumerated).unwrap();
    assert_eq!(json(decode(&schema, &bytes).unwrap()), enumerated);
}

#[test]
fn the_fields_of_a_record_come_in_any_order_and_all_of_them() {
    let schema = schema(
        r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"b","type":"int"}]}"#,
    );
    assert_eq!(encode(&schema, r#"{"b":2,"a":1}"#).unwrap(), [2, 4]);
    for wrong in [
        "{}",
        r#"{"a":1}"#,
        r#"{"a":1,"b":2,"c":3}"#,
        r#"{"a":1,"a":2,"b":3}"#,
        r#"{"a":1,"b":"x"}"#,
        r#"{"a":1,"b":2147483648}"#,
        r#"{"a":1,"b":1.5}"#,
        "null",
        "[]",
        r#"{"a":1,"b":2}7"#,
    ] {
        assert!(encode(&schema, wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_union_says_which_of_its_branches_it_is() {
    let schema = schema(r#"["null","string",{"type":"record","name":"R","fields":[]}]"#);
    assert_eq!(encode(&schema, "null").unwrap(), [0]);
    assert_eq!(encode(&schema, r#"{"string":"x"}"#).unwrap(), [2, 2, b'x']);
    assert_eq!(encode(&schema, r#"{"R":{}}"#).unwrap(), [4]);
    for wrong in [
        r#""x""#,
        "{}",
        r#"{"int":1}"#,
        r#"{"string":"x","R":{}}"#,
        r#"{"null":null,"string":"x"}"#,
    ] {
        assert!(encode(&schema, wrong).is_err(), "{wrong}");
    }
}

#[test]
fn numbers_that_json_has_not_have_names() {
    let schema = schema(r#""double""#);
    for name in ["\"NaN\"", "\"Infinity\"", "\"-Infinity\""] {
        let bytes = encode(&schema, name).unwrap();
        assert_eq!(json(decode(&schema, &bytes).unwrap()), name);
    }
    assert!(encode(&schema, "\"seven\"").is_err());
}

#[test]
fn a_schema_that_is_bytes_has_them_as_they_are() {
    let schema = schema(r#""bytes""#);
    for count in [0, 1, 200] {
        let text = format!("\"{}\"", "ÿ".repeat(count));
        let bytes = encode(&schema, &text).unwrap();
        assert_eq!(bytes, vec![0xff; count]);
        assert_eq!(json(decode(&schema, &bytes).unwrap()), text);
    }
}

#[test]
fn a_payload_that_is_cut_anywhere_is_refused() {
    let schema = schema(
        r#"{"type":"record","name":"R","fields":[{"name":"s","type":"string"},{"name":"a","type":{"type":"array","items":"double"}},{"name":"b","type":"boolean"}]}"#,
    );
    let bytes = encode(&schema, r#"{"s":"abc","a":[1,2],"b":true}"#).unwrap();
    assert!(decode(&schema, &bytes).is_ok());
    for end in 0..bytes.len() {
        assert!(decode(&schema, &bytes[..end]).is_err(), "{end}");
    }
}

#[test]
fn few_bytes_take_neither_much_memory_nor_the_stack() {
    let nulls = schema(r#"{"type":"array","items":"null"}"#);
    let mut bytes = Vec::new();
    write_long(&mut bytes, i64::MAX);
    assert!(decode(&nulls, &bytes).is_err());
    bytes.clear();
    write_long(&mut bytes, i64::MIN);
    bytes.push(0);
    assert!(decode(&nulls, &bytes).is_err());

    let list =
        schema(r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#);
    assert!(decode(&list, &[2; 1 << 20]).is_err());
    let deep = "{\"next\":{\"L\":".repeat(100_000);
    assert!(encode(&list, &deep).is_err());
    let endless = schema(r#"{"type":"record","name":"R","fields":[{"name":"r","type":"R"}]}"#);
    assert!(decode(&endless, &[]).is_err());

    let string = schema(r#""string""#);
    assert!(decode(&string, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]).is_err());

    // Nothing doubled thirty times.
    let mut fields = r#"{"type":"record","name":"R0","fields":[]}"#.to_owned();
    for level in 1..30 {
        let before = level - 1;
        fields = format!(
            r#"{{"type":"record","name":"R{level}","fields":[{{"name":"a","type":{fields}}},{{"name":"b","type":"R{before}"}}]}}"#
        );
    }
    assert!(decode(&schema(&fields), &[]).is_err());
}

/// A value of the schema [`ALL`] without its last field, as the oracle has it.
fn oracle_value() -> impl Strategy<Value = Vec<(String, Value)>> {
    let numbers = (any::<bool>(), any::<i32>(), any::<i64>());
    let floats = (proptest::num::f32::NORMAL, proptest::num::f64::NORMAL);
    let bytes = prop::collection::vec(any::<u8>(), 0..9);
    let texts = (bytes, ".*", any::<[u8; 2]>());
    let lists = (
        prop::collection::vec(any::<i32>(), 0..9),
        prop::collection::hash_map(".*", prop::option::of(any::<i64>()), 0..3),
    );
    (numbers, floats, texts, lists).prop_map(|((b, i, l), (f, d), (bytes, s, x), (array, map))| {
        let map = map.into_iter().map(|(key, value)| {
            let value = match value {
                None => Value::Union(0, Box::new(Value::Null)),
                Some(value) => Value::Union(1, Box::new(Value::Long(value))),
            };
            (key, value)
        });
        let fields = [
            ("b", Value::Boolean(b)),
            ("i", Value::Int(i)),
            ("l", Value::Long(l)),
            ("f", Value::Float(f)),
            ("d", Value::Double(d)),
            ("bytes", Value::Bytes(bytes)),
            ("s", Value::String(s)),
            ("x", Value::Fixed(2, x.to_vec())),
            (
                "array",
                Value::Array(array.into_iter().map(Value::Int).collect()),
            ),
            ("map", Value::Map(map.collect())),
        ];
        fields.map(|(name, value)| (name.to_owned(), value)).into()
    })
}

const ORACLES: &str = r#"{"type":"record","name":"R","fields":[
    {"name":"b","type":"boolean"},{"name":"i","type":"int"},{"name":"l","type":"long"},
    {"name":"f","type":"float"},{"name":"d","type":"double"},{"name":"bytes","type":"bytes"},
    {"name":"s","type":"string"},{"name":"x","type":{"type":"fixed","name":"F","size":2}},
    {"name":"array","type":{"type":"array","items":"int"}},
    {"name":"map","type":{"type":"map","values":["null","long"]}}]}"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_the_oracle_writes_is_read_and_what_is_written_the_oracle_reads(fields in oracle_value()) {
        let oracle = apache_avro::Schema::parse_str(ORACLES).unwrap();
        let value = Value::Record(fields);
        let writer = GenericDatumWriter::builder(&oracle).build().unwrap();
        let bytes = writer.write_value_to_vec(value.clone()).unwrap();
        let schema = schema(ORACLES);
        let told = json(decode(&schema, &bytes).unwrap());
        let again = encode(&schema, &told).unwrap();
        let reader = GenericDatumReader::builder(&oracle).build().unwrap();
        let read = reader.read_value(&mut &again[..]).unwrap();
        prop_assert_eq!(read, value);
    }

    #[test]
    fn no_payload_breaks_anything(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let schema = schema(ALL);
        if let Ok(told) = decode(&schema, &bytes) {
            prop_assert!(encode(&schema, &json(told)).is_ok());
        }
    }
}
