//! From a frame to its answer: header, version check, and the one file that handles the API.

use super::answer::{Answer, CloseReason, Handled, REPLY_BYTES_FREE};
use super::api::{Api, ApiKey};
use super::context::Context;
use super::{admin, api_versions, auth, data, group, txn};
use crate::access::Caller;
use crate::coordinator::Coordinators;
use crate::engine::Engine;
use crate::net::budget::Charge;
use crate::wire::{Reader, SHORT_BYTES, Wire, WireError, decode_long, encode_long};
use bytes::Bytes;
use std::borrow::Cow;
use std::rc::Rc;

/// The file of each API, given to a macro: `$begin` where the reply may come later, `$walk` likewise where a batch is
/// on its way, `$large` where the reply may be far larger than its request, else `$answer`.
macro_rules! with_file_of {
    ($key:expr, $answer:ident, $large:ident, $begin:ident, $walk:ident) => {
        match $key {
            ApiKey::Produce => $walk!(data::produce),
            ApiKey::Fetch => $walk!(data::fetch),
            ApiKey::JoinGroup => $begin!(group::join_group),
            ApiKey::SyncGroup => $begin!(group::sync_group),
            ApiKey::Heartbeat => $answer!(group::heartbeat),
            ApiKey::LeaveGroup => $answer!(group::leave_group),
            ApiKey::OffsetCommit => $answer!(group::offset_commit),
            ApiKey::OffsetFetch => $large!(group::offset_fetch),
            ApiKey::OffsetDelete => $answer!(group::offset_delete),
            ApiKey::DescribeGroups => $large!(group::describe_groups),
            ApiKey::ListGroups => $large!(group::list_groups),
            ApiKey::DeleteGroups => $answer!(group::delete_groups),
            ApiKey::ListOffsets => $answer!(data::list_offsets),
            ApiKey::Metadata => $large!(data::metadata),
            ApiKey::FindCoordinator => $answer!(group::find_coordinator),
            ApiKey::ApiVersions => $answer!(api_versions),
            ApiKey::CreateTopics => $large!(admin::create_topics),
            ApiKey::DeleteTopics => $answer!(admin::delete_topics),
            ApiKey::DeleteRecords => $answer!(data::delete_records),
            ApiKey::InitProducerId => $answer!(txn::init_producer_id),
            ApiKey::DescribeConfigs => $large!(admin::describe_configs),
            ApiKey::CreatePartitions => $answer!(admin::create_partitions),
            ApiKey::DescribeCluster => $answer!(admin::describe_cluster),
            ApiKey::OffsetForLeaderEpoch => $answer!(data::offset_for_leader_epoch),
            ApiKey::AlterConfigs => $answer!(admin::alter_configs),
            ApiKey::AlterReplicaLogDirs => $answer!(admin::alter_replica_log_dirs),
            ApiKey::DescribeLogDirs => $large!(admin::describe_log_dirs),
            ApiKey::ElectLeaders => $answer!(admin::elect_leaders),
            ApiKey::IncrementalAlterConfigs => $answer!(admin::incremental_alter_configs),
            ApiKey::AlterPartitionReassignments => $answer!(admin::alter_partition_reassignments),
            ApiKey::ListPartitionReassignments => $answer!(admin::list_partition_reassignments),
            ApiKey::DescribeQuorum => $answer!(admin::describe_quorum,),
            ApiKey::UpdateFeatures => $answer!(admin::update_features),
            ApiKey::DescribeProducers => $answer!(txn::describe_producers),
            ApiKey::DescribeTransactions => $answer!(txn::describe_transactions),
            ApiKey::ListTransactions => $answer!(txn::list_transactions),
            ApiKey::SaslHandshake => $answer!(auth::sasl_handshake,),
            ApiKey::SaslAuthenticate => $answer!(auth::sasl_authenticate,),
            ApiKey::DescribeAcls => $answer!(auth::describe_acls),
            ApiKey::CreateAcls => $answer!(auth::create_acls),
            ApiKey::DeleteAcls => $answer!(auth::delete_acls),
            ApiKey::DescribeClientQuotas => $answer!(auth::describe_client_quotas),
            ApiKey::DescribeUserScramCredentials => $answer!(auth::describe_user_scram_credentials),
            ApiKey::ListConfigResources => $large!(admin::list_config_resources),
            ApiKey::DescribeTopicPartitions => $large!(data::describe_topic_partitions),
        }
    };
}

/// A request that was handled, with the API's name for metrics.
pub struct Dispatched {
    pub api: &'static str,
    pub handled: Handled,
}

/// Handles one frame (without its size prefix) of a client.
///
/// The connection's next frame is not looked at before this returns, so a later request sees the effects
/// of an earlier one. Most APIs are complete then: their handlers may wait for the disk or for another
/// shard. Four are not, for later requests need not see how they end: an append waits to be durable, a
/// fetch for records, a join and a sync (which their group has by then) for the other members. What is left
/// of them is a future in the queue of replies, which keeps the order of the requests.
///
/// `charge` is what the frame was charged. A request whose reply may be large waits here until it is charged
/// for that too, before anything is built.
///
/// # Errors
/// When there is no protocol answer: the caller closes this connection.
pub async fn dispatch(
    engine: &Rc<Engine>,
    coordinators: &Coordinators,
    caller: &Caller,
    frame: &Bytes,
    charge: &mut Charge,
) -> Result<Dispatched, CloseReason> {
    let (header, mut reader) = RequestHeader::decode(frame).map_err(CloseReason::BadHeader)?;
    let Some(api) = header.api() else {
        return Err(CloseReason::UnknownApi {
            key: header.api_key,
            client_id: header.client_id.unwrap_or_default().into_owned(),
        });
    };
    let version = header.api_version;
    if !api.serves(version) {
        if api.key == ApiKey::ApiVersions && version > api.max_version {
            // In version 0, which every client can read (KIP-511).
            let mut writer = api.reply(0, header.correlation_id);
            api_versions::Response::unsupported_version().encode(&mut writer, 0);
            return Ok(Dispatched {
                api: api.name,
                handled: Handled::Now(Answer::of(writer)),
            });
        }
        return Err(CloseReason::UnknownVersion {
            api: api.name,
            version,
        });
    }
    let malformed = |error| CloseReason::BadRequest {
        api: api.name,
        version,
        error,
    };
    let context = Context {
        engine,
        groups: &coordinators.groups,
        principal: &caller.principal,
        client_id: header.client_id.as_deref(),
        address: caller.address,
        listener: caller.listener,
        version,
        throttle_time_ms: 0,
        api,
        correlation_id: header.correlation_id,
    };
    let is_long = frame.len() > SHORT_BYTES;
    macro_rules! decoded {
        ($module:ident) => {{
            let decoded = if is_long {
                decode_long::<$module::Request>(&mut reader, version).await
            } else {
                $module::Request::decode(&mut reader, version)
            };
            decoded.map_err(malformed)?
        }};
    }
    // Handle, encode.
    macro_rules! handled {
        ($module:ident, $request:ident, $is_long:expr, $($throttle:ident)?) => {{
            let response = $module::handle(&context, &$request).await;
            $(let response = $module::Response { $throttle: context.throttle_time_ms, ..response };)?
            let mut writer = context.reply();
            if $is_long {
                encode_long(response, &mut writer, version).await;
            } else {
                response.encode(&mut writer, version);
            }
            Handled::Now(Answer::of(writer))
        }};
    }
    // Decode, handle, encode.
    macro_rules! answer {
        ($($module:ident)::+) => {
            answer!($($module)::+, throttle_time_ms)
        };
        // With the response's field that tells the client how long to wait, if it has one.
        ($($module:ident)::+, $($throttle:ident)?) => {{
            use $($module)::+ as module;
            let request = decoded!(module);
            handled!(module, request, is_long, $($throttle)?)
        }};
    }
    macro_rules! large {
        ($($module:ident)::+) => {{
            use $($module)::+ as module;
            let request = decoded!(module);
            let bytes = module::reply_bytes(&context, &request);
            if bytes > REPLY_BYTES_FREE {
                charge.add(bytes).await;
            }
            handled!(module, request, bytes > SHORT_BYTES, throttle_time_ms)
        }};
    }
    // Those whose reply may come later.
    macro_rules! begin {
        ($($module:ident)::+) => {{
            use $($module)::+ as module;
            let request = decoded!(module);
            module::handle(&context, request).await
        }};
    }
    // Likewise, and they decode by themselves, so that what long ones take is no burden to the others.
    macro_rules! walk {
        ($($module:ident)::+) => {
            $($module)::+::handle(&context, &mut reader).await.map_err(malformed)?
        };
    }
    let handled = with_file_of!(api.key, answer, large, begin, walk);
    Ok(Dispatched {
        api: api.name,
        handled,
    })
}

/// Decodes a request's body and drops it: for those who test the decoders.
pub fn decode_body(key: ApiKey, version: i16, reader: &mut Reader<'_>) -> Result<(), WireError> {
    macro_rules! decode {
        ($($module:ident)::+ $(,)?) => {
            $($module)::+::Request::decode(reader, version).map(drop)
        };
    }
    with_file_of!(key, decode, decode, decode, decode)
}

/// The header of one request (versions 1 and 2): what stands before the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// The raw key: it may name an API that is not served.
    pub api_key: i16,
    /// The raw version: it may lie outside what is served.
    pub api_version: i16,
    /// Returned as it came, so that the client can match replies to requests.
    pub correlation_id: i32,
    /// What is not UTF-8 in it is replaced: it is a name for logs and members, and nothing else is
    /// decided by it.
    pub client_id: Option<Cow<'a, str>>,
}

impl<'a> RequestHeader<'a> {
    /// Reads the header of `frame` (without its size prefix). The reader stands at the body and is
    /// set to the body's form.
    ///
    /// The header of an unknown API is read as version 1, as far as a header goes that is common
    /// to all.
    pub fn decode(frame: &'a Bytes) -> Result<(Self, Reader<'a>), WireError> {
        let mut reader = Reader::new(frame, false);
        let header = Self {
            api_key: reader.i16()?,
            api_version: reader.i16()?,
            correlation_id: reader.i32()?,
            // Not compact even in header version 2: a broker has to read it before it knows
            // whether it knows the version (KIP-482).
            client_id: reader.classic_nullable_lossy_string()?,
        };
        reader.set_flexible(header.is_flexible());
        reader.skip_tagged_fields()?;
        Ok((header, reader))
    }

    /// The API that is asked for; `None` if it is not served in any version.
    pub fn api(&self) -> Option<&'static Api> {
        Api::find(self.api_key)
    }

    fn is_flexible(&self) -> bool {
        self.api()
            .is_some_and(|api| api.is_flexible(self.api_version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_that_is_no_text_is_served() {
        let frame = Bytes::from_static(b"\0\x12\0\0\0\0\0\x05\0\x03\xff\xfeaBODY");
        let (header, _) = RequestHeader::decode(&frame).unwrap();
        assert_eq!(header.client_id.as_deref(), Some("\u{fffd}\u{fffd}a"));
    }

    #[test]
    fn the_client_id_is_never_compact() {
        // ApiVersions v3, correlation 5, client "me", one unknown tagged field, then the body.
        let frame = Bytes::from_static(b"\0\x12\0\x03\0\0\0\x05\0\x02me\x01\x09\x01xBODY");
        let (header, reader) = RequestHeader::decode(&frame).unwrap();
        assert_eq!(header.api().map(|api| api.name), Some("ApiVersions"));
        assert_eq!((header.api_version, header.correlation_id), (3, 5));
        assert_eq!(header.client_id.as_deref(), Some("me"));
        assert_eq!((reader.remaining(), reader.is_flexible()), (4, true));
    }

    #[test]
    fn a_short_header_is_an_error_at_every_length() {
        let frame = Bytes::from_static(b"\0\x12\0\x03\0\0\0\x05\0\x02me\x00");
        for length in 0..frame.len() {
            let short = frame.slice(..length);
            assert_eq!(
                RequestHeader::decode(&short).unwrap_err(),
                WireError::Truncated
            );
        }
        assert!(RequestHeader::decode(&frame).is_ok());
    }

    #[test]
    fn an_unknown_api_or_version_still_has_a_readable_header() {
        let unknown = Bytes::from_static(b"\x03\xe7\0\x01\0\0\0\x01\xff\xff");
        let (header, _) = RequestHeader::decode(&unknown).unwrap();
        assert_eq!((header.api(), header.client_id), (None, None));
        let too_new = Bytes::from_static(b"\0\x12\0\x63\0\0\0\x01\xff\xff\0");
        let (header, _) = RequestHeader::decode(&too_new).unwrap();
        assert_eq!(header.api_version, 99);
    }
}
