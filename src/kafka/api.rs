//! Which APIs there are and in which versions: the one table that the header decoder, the
//! dispatcher and the ApiVersions reply read.

use crate::wire::Writer;

/// Declares [`ApiKey`] and [`APIS`] from one table: key, name as Kafka spells it, versions, first
/// flexible version, and the first version that is served where that is not the first advertised.
macro_rules! apis {
    ($($key:literal $name:ident $min:literal ..= $max:literal
        $(flexible $flexible:literal ..)? $(served $served:literal ..)?,)*) => {
        /// The number that names an API in a request header.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i16)]
        pub enum ApiKey {
            $($name = $key,)*
        }

        /// Every API that is served, in the order of their keys.
        pub const APIS: &[Api] = &[$(Api {
            key: ApiKey::$name,
            name: stringify!($name),
            min_version: $min,
            min_served_version: first_of(&[$($served,)? $min]),
            max_version: $max,
            first_flexible_version: first_of(&[$($flexible,)? NEVER_FLEXIBLE]),
        },)*];
    };
}

#[rustfmt::skip]
apis! {
     0 Produce                      0..=13 flexible 9.. served 3..,
     1 Fetch                        4..=18 flexible 12..,
     2 ListOffsets                  1..=10 flexible 6..,
     3 Metadata                     0..=13 flexible 9..,
     8 OffsetCommit                 2..=9  flexible 8..,
     9 OffsetFetch                  1..=9  flexible 6..,
    10 FindCoordinator              0..=6  flexible 3..,
    11 JoinGroup                    0..=9  flexible 6..,
    12 Heartbeat                    0..=4  flexible 4..,
    13 LeaveGroup                   0..=5  flexible 4..,
    14 SyncGroup                    0..=5  flexible 4..,
    15 DescribeGroups               0..=6  flexible 5..,
    16 ListGroups                   0..=5  flexible 3..,
    17 SaslHandshake                0..=1,
    18 ApiVersions                  0..=4  flexible 3..,
    19 CreateTopics                 2..=7  flexible 5..,
    20 DeleteTopics                 1..=6  flexible 4..,
    21 DeleteRecords                0..=2  flexible 2..,
    22 InitProducerId               0..=5  flexible 2..,
    23 OffsetForLeaderEpoch         2..=4  flexible 4..,
    29 DescribeAcls                 1..=3  flexible 2..,
    30 CreateAcls                   1..=3  flexible 2..,
    31 DeleteAcls                   1..=3  flexible 2..,
    32 DescribeConfigs              1..=4  flexible 4..,
    33 AlterConfigs                 0..=2  flexible 2..,
    34 AlterReplicaLogDirs          1..=2  flexible 2..,
    35 DescribeLogDirs              1..=4  flexible 2..,
    36 SaslAuthenticate             0..=2  flexible 2..,
    37 CreatePartitions             0..=3  flexible 2..,
    42 DeleteGroups                 0..=2  flexible 2..,
    43 ElectLeaders                 0..=2  flexible 2..,
    44 IncrementalAlterConfigs      0..=1  flexible 1..,
    45 AlterPartitionReassignments  0..=1  flexible 0..,
    46 ListPartitionReassignments   0..=0  flexible 0..,
    47 OffsetDelete                 0..=0,
    48 DescribeClientQuotas         0..=1  flexible 1..,
    50 DescribeUserScramCredentials 0..=0  flexible 0..,
    55 DescribeQuorum               0..=2  flexible 0..,
    57 UpdateFeatures               0..=2  flexible 0..,
    60 DescribeCluster              0..=2  flexible 0..,
    61 DescribeProducers            0..=0  flexible 0..,
    65 DescribeTransactions         0..=0  flexible 0..,
    66 ListTransactions             0..=2  flexible 0..,
    74 ListConfigResources          0..=1  flexible 0..,
    75 DescribeTopicPartitions      0..=0  flexible 0..,
}

impl ApiKey {
    pub fn from_code(code: i16) -> Option<Self> {
        Api::find(code).map(|api| api.key)
    }

    pub const fn code(self) -> i16 {
        self as i16
    }
}

/// One API: its name and its versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Api {
    pub key: ApiKey,
    /// As Kafka spells it.
    pub name: &'static str,
    /// Lowest version that ApiVersions advertises.
    pub min_version: i16,
    /// Lowest version that is really served. Above `min_version` for Produce only: librdkafka up
    /// to 2.11 stops compressing when the advertised minimum is above 0 (KAFKA-18659).
    pub min_served_version: i16,
    /// Highest version, both advertised and served.
    pub max_version: i16,
    /// First version in the flexible form (KIP-482).
    pub first_flexible_version: i16,
}

/// First flexible version of an API that has none.
pub(super) const NEVER_FLEXIBLE: i16 = i16::MAX;

impl Api {
    /// The API with this key, if it is served in any version.
    pub fn find(code: i16) -> Option<&'static Self> {
        APIS.iter().find(|api| api.key.code() == code)
    }

    /// Whether requests of this version are decoded and answered.
    pub fn serves(&self, version: i16) -> bool {
        (self.min_served_version..=self.max_version).contains(&version)
    }

    /// Whether this version's request (header and body) and response body are flexible. Versions
    /// above the highest are too: their header must be readable to say that they are unsupported.
    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.first_flexible_version
    }

    /// Whether the response header is version 1. ApiVersions always answers with version 0, so
    /// that a client that does not know the broker's versions yet can read it (KIP-511).
    pub fn response_header_is_flexible(&self, version: i16) -> bool {
        self.key != ApiKey::ApiVersions && self.is_flexible(version)
    }

    /// Starts the reply to a request of this version, in the form that the version asks for.
    pub fn reply(&self, version: i16, correlation_id: i32) -> Writer {
        // Header version 1 ends with tagged fields, version 0 does not.
        let mut writer = Writer::frame(self.response_header_is_flexible(version));
        writer.i32(correlation_id);
        writer.no_tagged_fields();
        writer.set_flexible(self.is_flexible(version));
        writer
    }
}

/// Fails to compile where an API's messages are declared for other versions than the table says.
pub(super) const fn check_declaration(key: ApiKey, min: i16, max: i16, first_flexible: i16) {
    let mut row = 0;
    while APIS[row].key as i16 != key as i16 {
        row += 1;
    }
    let api = &APIS[row];
    assert!(
        api.min_served_version == min
            && api.max_version == max
            && api.first_flexible_version == first_flexible,
        "the table of APIs has other versions"
    );
}

pub(super) const fn first_of(versions: &[i16]) -> i16 {
    versions[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/protocol.md");
    const BEGIN: &str = "<!-- api table: begin -->\n";
    const END: &str = "<!-- api table: end -->\n";

    #[test]
    fn the_page_on_disk_has_this_table() {
        let page = std::fs::read_to_string(DOCS).expect("docs/protocol.md");
        let (before, rest) = page.split_once(BEGIN).expect("the table's beginning");
        let (_, after) = rest.split_once(END).expect("the table's end");
        let expected = format!("{before}{BEGIN}\n{}\n{END}{after}", markdown_table());
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(DOCS, expected).expect("write docs/protocol.md");
        } else {
            let stale = "docs/protocol.md is stale: UPDATE_DOCS=1 cargo test --lib kafka::api";
            assert!(page == expected, "{stale}");
        }
    }

    /// The table as `docs/protocol.md` shows it.
    fn markdown_table() -> String {
        let mut table = "| Key | API | Versions | Flexible from |\n|---|---|---|---|\n".to_owned();
        for api in APIS {
            table.push_str(&markdown_row(api));
        }
        table
    }

    fn markdown_row(api: &Api) -> String {
        let (min, max) = (api.min_version, api.max_version);
        let served = match api.min_served_version {
            served if served == min => String::new(),
            served => format!(" (served from {served})"),
        };
        let flexible = match api.first_flexible_version {
            NEVER_FLEXIBLE => "never".to_owned(),
            first => first.to_string(),
        };
        let (key, name) = (api.key.code(), api.name);
        format!("| {key} | {name} | {min} to {max}{served} | {flexible} |\n")
    }

    #[test]
    fn the_table_is_in_key_order_and_every_range_is_sane() {
        assert!(APIS.is_sorted_by(|a, b| a.key.code() < b.key.code()));
        for api in APIS {
            assert!(api.min_version <= api.min_served_version);
            assert!(api.min_served_version <= api.max_version);
            assert_eq!(ApiKey::from_code(api.key.code()), Some(api.key));
        }
    }

    #[test]
    fn produce_is_advertised_from_0_and_served_from_3() {
        let produce = Api::find(0).unwrap();
        assert_eq!(produce.min_version, 0);
        assert!(!produce.serves(2) && produce.serves(3) && produce.serves(13));
        assert!(!produce.serves(14));
    }

    #[test]
    fn only_api_versions_keeps_the_old_response_header() {
        let api_versions = Api::find(18).unwrap();
        assert!(api_versions.is_flexible(3) && !api_versions.response_header_is_flexible(3));
        let fetch = Api::find(1).unwrap();
        assert!(fetch.response_header_is_flexible(12) && !fetch.response_header_is_flexible(11));
    }

    #[test]
    fn a_reply_starts_with_its_size_and_the_correlation_id() {
        let reply = |key: ApiKey, version| {
            let mut writer = Api::find(key.code()).unwrap().reply(version, 7);
            writer.i16(-2);
            writer.string("");
            writer.finish().unwrap().to_vec()
        };
        let (metadata, versions) = (ApiKey::Metadata, ApiKey::ApiVersions);
        assert_eq!(reply(metadata, 8), b"\0\0\0\x08\0\0\0\x07\xff\xfe\0\0");
        assert_eq!(reply(metadata, 9), b"\0\0\0\x08\0\0\0\x07\0\xff\xfe\x01");
        assert_eq!(reply(versions, 3), b"\0\0\0\x07\0\0\0\x07\xff\xfe\x01");
    }
}
