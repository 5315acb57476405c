//! The requests that this client sends. Their messages are those that the broker declares (`kafka/`), read
//! and written in the other direction.

use crate::kafka::admin::{
    create_partitions, create_topics, delete_topics, describe_configs, describe_log_dirs,
    incremental_alter_configs,
};
use crate::kafka::api::{Api, ApiKey};
use crate::kafka::api_versions;
use crate::kafka::data::{fetch, list_offsets, metadata, produce};
use crate::kafka::group::{
    delete_groups, describe_groups, find_coordinator, list_groups, offset_commit, offset_delete,
    offset_fetch,
};
use crate::kafka::txn::init_producer_id;
use crate::wire::{Wire, Writer};

/// A request, and the response that answers it.
pub trait Call {
    const KEY: ApiKey;
    /// Strings of a response borrow from its frame.
    type Response<'r>: Wire<'r>;

    fn encode(&self, w: &mut Writer, version: i16);

    /// The API's row in the broker's table: its name and the versions that are declared.
    fn api() -> &'static Api {
        Api::find(Self::KEY.code()).expect("every key has a row in the table")
    }
}

macro_rules! calls {
    ($($key:ident: $request:ty => $response:ty,)*) => {$(
        impl Call for $request {
            const KEY: ApiKey = ApiKey::$key;
            type Response<'r> = $response;

            fn encode(&self, w: &mut Writer, version: i16) {
                Wire::encode(self, w, version);
            }
        }
    )*};
}

calls! {
    ApiVersions: api_versions::Request<'_> => api_versions::Response<'r>,
    CreatePartitions: create_partitions::Request<'_> => create_partitions::Response<'r>,
    CreateTopics: create_topics::Request<'_> => create_topics::Response<'r>,
    DeleteGroups: delete_groups::Request<'_> => delete_groups::Response<'r>,
    DeleteTopics: delete_topics::Request<'_> => delete_topics::Response<'r>,
    DescribeConfigs: describe_configs::Request<'_> => describe_configs::Response<'r>,
    DescribeGroups: describe_groups::Request<'_> => describe_groups::Response<'r>,
    DescribeLogDirs: describe_log_dirs::Request<'_> => describe_log_dirs::Response<'r>,
    Fetch: fetch::Request<'_> => fetch::Response<'r>,
    FindCoordinator: find_coordinator::Request<'_> => find_coordinator::Response<'r>,
    IncrementalAlterConfigs:
        incremental_alter_configs::Request<'_> => incremental_alter_configs::Response<'r>,
    InitProducerId: init_producer_id::Request<'_> => init_producer_id::Response,
    ListGroups: list_groups::Request<'_> => list_groups::Response<'r>,
    ListOffsets: list_offsets::Request<'_> => list_offsets::Response<'r>,
    Metadata: metadata::Request<'_> => metadata::Response<'r>,
    OffsetCommit: offset_commit::Request<'_> => offset_commit::Response<'r>,
    OffsetDelete: offset_delete::Request<'_> => offset_delete::Response<'r>,
    OffsetFetch: offset_fetch::Request<'_> => offset_fetch::Response<'r>,
    Produce: produce::Request<'_> => produce::Response<'r>,
}
