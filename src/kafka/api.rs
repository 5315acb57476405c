//! Which APIs there are and in which versions: the one table that the header decoder, the
//! dispatcher and the ApiVersions reply read.

use super::wire::Writer;

/// The number that names an API in a request header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
pub enum ApiKey {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    JoinGroup = 11,
    Heartbeat = 12,
    LeaveGroup = 13,
    SyncGroup = 14,
    DescribeGroups = 15,
    ListGroups = 16,
    ApiVersions = 18,
    CreateTopics = 19,
    DeleteTopics = 20,
    DeleteRecords = 21,
    InitProducerId = 22,
    OffsetForLeaderEpoch = 23,
    DescribeConfigs = 32,
    AlterConfigs = 33,
    AlterReplicaLogDirs = 34,
    DescribeLogDirs = 35,
    CreatePartitions = 37,
    DeleteGroups = 42,
    ElectLeaders = 43,
    IncrementalAlterConfigs = 44,
    AlterPartitionReassignments = 45,
    ListPartitionReassignments = 46,
    OffsetDelete = 47,
    DescribeQuorum = 55,
    UpdateFeatures = 57,
    DescribeCluster = 60,
    DescribeProducers = 61,
    ListConfigResources = 74,
    DescribeTopicPartitions = 75,
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

/// Every API that is served, in the order of their keys.
#[rustfmt::skip]
pub const APIS: &[Api] = &[
    //  key                                  name                           min max  first flexible
    api(ApiKey::Produce,                     "Produce",                      0, 13,  9).served_from(3),
    api(ApiKey::Fetch,                       "Fetch",                        4, 18, 12),
    api(ApiKey::ListOffsets,                 "ListOffsets",                  1, 10,  6),
    api(ApiKey::Metadata,                    "Metadata",                     0, 13,  9),
    api(ApiKey::OffsetCommit,                "OffsetCommit",                 2,  9,  8),
    api(ApiKey::OffsetFetch,                 "OffsetFetch",                  1,  9,  6),
    api(ApiKey::FindCoordinator,             "FindCoordinator",              0,  6,  3),
    api(ApiKey::JoinGroup,                   "JoinGroup",                    0,  9,  6),
    api(ApiKey::Heartbeat,                   "Heartbeat",                    0,  4,  4),
    api(ApiKey::LeaveGroup,                  "LeaveGroup",                   0,  5,  4),
    api(ApiKey::SyncGroup,                   "SyncGroup",                    0,  5,  4),
    api(ApiKey::DescribeGroups,              "DescribeGroups",               0,  6,  5),
    api(ApiKey::ListGroups,                  "ListGroups",                   0,  5,  3),
    api(ApiKey::ApiVersions,                 "ApiVersions",                  0,  4,  3),
    api(ApiKey::CreateTopics,                "CreateTopics",                 2,  7,  5),
    api(ApiKey::DeleteTopics,                "DeleteTopics",                 1,  6,  4),
    api(ApiKey::DeleteRecords,               "DeleteRecords",                0,  2,  2),
    api(ApiKey::InitProducerId,              "InitProducerId",               0,  5,  2),
    api(ApiKey::OffsetForLeaderEpoch,        "OffsetForLeaderEpoch",         2,  4,  4),
    api(ApiKey::DescribeConfigs,             "DescribeConfigs",              1,  4,  4),
    api(ApiKey::AlterConfigs,                "AlterConfigs",                 0,  2,  2),
    api(ApiKey::AlterReplicaLogDirs,         "AlterReplicaLogDirs",          1,  2,  2),
    api(ApiKey::DescribeLogDirs,             "DescribeLogDirs",              1,  4,  2),
    api(ApiKey::CreatePartitions,            "CreatePartitions",             0,  3,  2),
    api(ApiKey::DeleteGroups,                "DeleteGroups",                 0,  2,  2),
    api(ApiKey::ElectLeaders,                "ElectLeaders",                 0,  2,  2),
    api(ApiKey::IncrementalAlterConfigs,     "IncrementalAlterConfigs",      0,  1,  1),
    api(ApiKey::AlterPartitionReassignments, "AlterPartitionReassignments",  0,  1,  0),
    api(ApiKey::ListPartitionReassignments,  "ListPartitionReassignments",   0,  0,  0),
    api(ApiKey::OffsetDelete,                "OffsetDelete",                 0,  0, NEVER_FLEXIBLE),
    api(ApiKey::DescribeQuorum,              "DescribeQuorum",               0,  2,  0),
    api(ApiKey::UpdateFeatures,              "UpdateFeatures",               0,  2,  0),
    api(ApiKey::DescribeCluster,             "DescribeCluster",              0,  2,  0),
    api(ApiKey::DescribeProducers,           "DescribeProducers",            0,  0,  0),
    api(ApiKey::ListConfigResources,         "ListConfigResources",          0,  1,  0),
    api(ApiKey::DescribeTopicPartitions,     "DescribeTopicPartitions",      0,  0,  0),
];

/// First flexible version of an API that has none.
const NEVER_FLEXIBLE: i16 = i16::MAX;

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
        let flexible_header = self.response_header_is_flexible(version);
        Writer::new(correlation_id, flexible_header, self.is_flexible(version))
    }

    const fn served_from(mut self, version: i16) -> Self {
        self.min_served_version = version;
        self
    }
}

const fn api(
    key: ApiKey,
    name: &'static str,
    min_version: i16,
    max_version: i16,
    first_flexible_version: i16,
) -> Api {
    Api {
        key,
        name,
        min_version,
        min_served_version: min_version,
        max_version,
        first_flexible_version,
    }
}

/// The table as `docs/protocol.md` shows it.
pub fn markdown_table() -> String {
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
}
