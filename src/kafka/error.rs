//! Kafka's error codes.

use std::borrow::Cow;

/// Declares [`ErrorCode`] from one table: code, Kafka's name, what it means.
macro_rules! error_codes {
    ($($(#[$attribute:meta])? $code:literal $variant:ident $name:literal $message:literal,)*) => {
        /// An error code of the protocol. The numbers are part of the protocol and never change.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
        #[repr(i16)]
        pub enum ErrorCode {
            $(
                #[doc = $message]
                $(#[$attribute])?
                $variant = $code,
            )*
        }

        impl ErrorCode {
            /// Every code, in ascending order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Kafka's name, as in `UNKNOWN_TOPIC_OR_PARTITION`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

#[rustfmt::skip]
error_codes! {
     -1 UnknownServerError "UNKNOWN_SERVER_ERROR" "The broker met an unexpected error.",
      #[default]
      0 None "NONE" "No error.",
      1 OffsetOutOfRange "OFFSET_OUT_OF_RANGE" "The offset lies outside what the partition holds.",
      2 CorruptMessage "CORRUPT_MESSAGE" "The batch fails its CRC or has an impossible size.",
      3 UnknownTopicOrPartition "UNKNOWN_TOPIC_OR_PARTITION" "There is no such topic or partition here.",
      4 InvalidFetchSize "INVALID_FETCH_SIZE" "The requested fetch size is invalid.",
      5 LeaderNotAvailable "LEADER_NOT_AVAILABLE" "The partition has no leader at the moment.",
      6 NotLeaderOrFollower "NOT_LEADER_OR_FOLLOWER" "This broker does not serve the partition.",
      7 RequestTimedOut "REQUEST_TIMED_OUT" "The request timed out.",
      8 BrokerNotAvailable "BROKER_NOT_AVAILABLE" "The broker is not available.",
      9 ReplicaNotAvailable "REPLICA_NOT_AVAILABLE" "The replica is not available.",
     10 MessageTooLarge "MESSAGE_TOO_LARGE" "The batch is larger than the topic accepts (max.message.bytes).",
     11 StaleControllerEpoch "STALE_CONTROLLER_EPOCH" "The controller has moved to another broker.",
     12 OffsetMetadataTooLarge "OFFSET_METADATA_TOO_LARGE" "The metadata of the committed offset is too large.",
     13 NetworkException "NETWORK_EXCEPTION" "The connection broke before a reply came.",
     14 CoordinatorLoadInProgress "COORDINATOR_LOAD_IN_PROGRESS" "The coordinator is still loading.",
     15 CoordinatorNotAvailable "COORDINATOR_NOT_AVAILABLE" "The coordinator is not available.",
     16 NotCoordinator "NOT_COORDINATOR" "This broker is not the coordinator asked for.",
     17 InvalidTopicException "INVALID_TOPIC_EXCEPTION" "The topic's name is invalid, or the topic does not allow this.",
     18 RecordListTooLarge "RECORD_LIST_TOO_LARGE" "The batch is larger than a segment may be (segment.bytes).",
     19 NotEnoughReplicas "NOT_ENOUGH_REPLICAS" "Fewer replicas are in sync than the topic requires.",
     20 NotEnoughReplicasAfterAppend "NOT_ENOUGH_REPLICAS_AFTER_APPEND" "The batch was written, but to fewer replicas than required.",
     21 InvalidRequiredAcks "INVALID_REQUIRED_ACKS" "acks must be -1, 0 or 1.",
     22 IllegalGeneration "ILLEGAL_GENERATION" "The group has another generation.",
     23 InconsistentGroupProtocol "INCONSISTENT_GROUP_PROTOCOL" "The member's protocols do not match those of the group.",
     24 InvalidGroupId "INVALID_GROUP_ID" "The group id is invalid.",
     25 UnknownMemberId "UNKNOWN_MEMBER_ID" "The group has no such member.",
     26 InvalidSessionTimeout "INVALID_SESSION_TIMEOUT" "The session timeout is outside what the broker allows.",
     27 RebalanceInProgress "REBALANCE_IN_PROGRESS" "The group is rebalancing, so the member must join again.",
     28 InvalidCommitOffsetSize "INVALID_COMMIT_OFFSET_SIZE" "The commit is too large.",
     29 TopicAuthorizationFailed "TOPIC_AUTHORIZATION_FAILED" "Not authorized for the topic.",
     30 GroupAuthorizationFailed "GROUP_AUTHORIZATION_FAILED" "Not authorized for the group.",
     31 ClusterAuthorizationFailed "CLUSTER_AUTHORIZATION_FAILED" "Not authorized for the cluster.",
     32 InvalidTimestamp "INVALID_TIMESTAMP" "A timestamp is outside what the topic accepts.",
     33 UnsupportedSaslMechanism "UNSUPPORTED_SASL_MECHANISM" "The SASL mechanism is not supported.",
     34 IllegalSaslState "ILLEGAL_SASL_STATE" "The request does not fit the state of the SASL exchange.",
     35 UnsupportedVersion "UNSUPPORTED_VERSION" "This version of the API is not supported.",
     36 TopicAlreadyExists "TOPIC_ALREADY_EXISTS" "A topic of this name exists already.",
     37 InvalidPartitions "INVALID_PARTITIONS" "The number of partitions is invalid.",
     38 InvalidReplicationFactor "INVALID_REPLICATION_FACTOR" "The replication factor is below 1 or above the number of brokers.",
     39 InvalidReplicaAssignment "INVALID_REPLICA_ASSIGNMENT" "The replica assignment is invalid.",
     40 InvalidConfig "INVALID_CONFIG" "The configuration is invalid.",
     41 NotController "NOT_CONTROLLER" "This broker is not the controller.",
     42 InvalidRequest "INVALID_REQUEST" "The request contradicts itself or the protocol.",
     43 UnsupportedForMessageFormat "UNSUPPORTED_FOR_MESSAGE_FORMAT" "The stored message format does not support this request.",
     44 PolicyViolation "POLICY_VIOLATION" "The request violates the configured policy.",
     45 OutOfOrderSequenceNumber "OUT_OF_ORDER_SEQUENCE_NUMBER" "The batch's sequence number does not follow the last one.",
     46 DuplicateSequenceNumber "DUPLICATE_SEQUENCE_NUMBER" "The batch's sequence number was seen before.",
     47 InvalidProducerEpoch "INVALID_PRODUCER_EPOCH" "The producer's epoch is old.",
     48 InvalidTxnState "INVALID_TXN_STATE" "The transaction is not in a state that allows this.",
     49 InvalidProducerIdMapping "INVALID_PRODUCER_ID_MAPPING" "The producer id does not belong to this transactional id.",
     50 InvalidTransactionTimeout "INVALID_TRANSACTION_TIMEOUT" "The transaction timeout is longer than the broker allows.",
     51 ConcurrentTransactions "CONCURRENT_TRANSACTIONS" "Another operation on the same transaction is under way.",
     52 TransactionCoordinatorFenced "TRANSACTION_COORDINATOR_FENCED" "The transaction coordinator has been replaced.",
     53 TransactionalIdAuthorizationFailed "TRANSACTIONAL_ID_AUTHORIZATION_FAILED" "Not authorized for the transactional id.",
     54 SecurityDisabled "SECURITY_DISABLED" "Security features are disabled.",
     55 OperationNotAttempted "OPERATION_NOT_ATTEMPTED" "Not attempted, because another part of the request failed.",
     56 KafkaStorageError "KAFKA_STORAGE_ERROR" "The log on disk could not be accessed.",
     57 LogDirNotFound "LOG_DIR_NOT_FOUND" "There is no such log directory.",
     58 SaslAuthenticationFailed "SASL_AUTHENTICATION_FAILED" "SASL authentication failed.",
     59 UnknownProducerId "UNKNOWN_PRODUCER_ID" "Nothing is known of this producer id.",
     60 ReassignmentInProgress "REASSIGNMENT_IN_PROGRESS" "The partition is being reassigned.",
     61 DelegationTokenAuthDisabled "DELEGATION_TOKEN_AUTH_DISABLED" "Delegation tokens are disabled.",
     62 DelegationTokenNotFound "DELEGATION_TOKEN_NOT_FOUND" "There is no such delegation token.",
     63 DelegationTokenOwnerMismatch "DELEGATION_TOKEN_OWNER_MISMATCH" "The principal neither owns nor renews the token.",
     64 DelegationTokenRequestNotAllowed "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED" "Token requests are not allowed on this connection.",
     65 DelegationTokenAuthorizationFailed "DELEGATION_TOKEN_AUTHORIZATION_FAILED" "Not authorized for the delegation token.",
     66 DelegationTokenExpired "DELEGATION_TOKEN_EXPIRED" "The delegation token has expired.",
     67 InvalidPrincipalType "INVALID_PRINCIPAL_TYPE" "The principal type is not supported.",
     68 NonEmptyGroup "NON_EMPTY_GROUP" "The group has members.",
     69 GroupIdNotFound "GROUP_ID_NOT_FOUND" "There is no such group.",
     70 FetchSessionIdNotFound "FETCH_SESSION_ID_NOT_FOUND" "There is no such fetch session.",
     71 InvalidFetchSessionEpoch "INVALID_FETCH_SESSION_EPOCH" "The fetch session is at another epoch.",
     72 ListenerNotFound "LISTENER_NOT_FOUND" "The leader has no listener of the kind that was asked.",
     73 TopicDeletionDisabled "TOPIC_DELETION_DISABLED" "Topics cannot be deleted here.",
     74 FencedLeaderEpoch "FENCED_LEADER_EPOCH" "The request's leader epoch is older than the broker's.",
     75 UnknownLeaderEpoch "UNKNOWN_LEADER_EPOCH" "The request's leader epoch is newer than the broker's.",
     76 UnsupportedCompressionType "UNSUPPORTED_COMPRESSION_TYPE" "This version of the request does not allow the compression type.",
     77 StaleBrokerEpoch "STALE_BROKER_EPOCH" "The broker's epoch has changed.",
     78 OffsetNotAvailable "OFFSET_NOT_AVAILABLE" "The new leader's high watermark has not caught up yet.",
     79 MemberIdRequired "MEMBER_ID_REQUIRED" "Join again with the member id that was given.",
     80 PreferredLeaderNotAvailable "PREFERRED_LEADER_NOT_AVAILABLE" "The preferred leader is not available.",
     81 GroupMaxSizeReached "GROUP_MAX_SIZE_REACHED" "The group is full.",
     82 FencedInstanceId "FENCED_INSTANCE_ID" "Another member has taken over this group instance id.",
     83 EligibleLeadersNotAvailable "ELIGIBLE_LEADERS_NOT_AVAILABLE" "No eligible leader is available.",
     84 ElectionNotNeeded "ELECTION_NOT_NEEDED" "The partition needs no election.",
     85 NoReassignmentInProgress "NO_REASSIGNMENT_IN_PROGRESS" "No reassignment is under way.",
     86 GroupSubscribedToTopic "GROUP_SUBSCRIBED_TO_TOPIC" "The group is subscribed to the topic.",
     87 InvalidRecord "INVALID_RECORD" "The batch or one of its records is invalid.",
     88 UnstableOffsetCommit "UNSTABLE_OFFSET_COMMIT" "Offsets of an open transaction are pending.",
     89 ThrottlingQuotaExceeded "THROTTLING_QUOTA_EXCEEDED" "The quota is used up.",
     90 ProducerFenced "PRODUCER_FENCED" "A newer producer uses the same transactional id.",
     91 ResourceNotFound "RESOURCE_NOT_FOUND" "There is no such resource.",
     92 DuplicateResource "DUPLICATE_RESOURCE" "The request names the same resource twice.",
     93 UnacceptableCredential "UNACCEPTABLE_CREDENTIAL" "The credential is not acceptable.",
     94 InconsistentVoterSet "INCONSISTENT_VOTER_SET" "The sets of voters do not agree.",
     95 InvalidUpdateVersion "INVALID_UPDATE_VERSION" "The update's version is invalid.",
     96 FeatureUpdateFailed "FEATURE_UPDATE_FAILED" "The features could not be updated.",
     97 PrincipalDeserializationFailure "PRINCIPAL_DESERIALIZATION_FAILURE" "The forwarded principal could not be read.",
     98 SnapshotNotFound "SNAPSHOT_NOT_FOUND" "There is no such snapshot.",
     99 PositionOutOfRange "POSITION_OUT_OF_RANGE" "The position lies outside the snapshot.",
    100 UnknownTopicId "UNKNOWN_TOPIC_ID" "There is no topic with this id here.",
    101 DuplicateBrokerRegistration "DUPLICATE_BROKER_REGISTRATION" "The broker id is in use.",
    102 BrokerIdNotRegistered "BROKER_ID_NOT_REGISTERED" "The broker id is not registered.",
    103 InconsistentTopicId "INCONSISTENT_TOPIC_ID" "The topic id is not that of the log.",
    104 InconsistentClusterId "INCONSISTENT_CLUSTER_ID" "The cluster id is not ours.",
    105 TransactionalIdNotFound "TRANSACTIONAL_ID_NOT_FOUND" "There is no such transactional id.",
    106 FetchSessionTopicIdError "FETCH_SESSION_TOPIC_ID_ERROR" "The fetch session mixes topic names and topic ids.",
    107 IneligibleReplica "INELIGIBLE_REPLICA" "A replica is not eligible to be in sync.",
    108 NewLeaderElected "NEW_LEADER_ELECTED" "The partition changed, and has a new leader.",
    109 OffsetMovedToTieredStorage "OFFSET_MOVED_TO_TIERED_STORAGE" "The offset has moved to tiered storage.",
    110 FencedMemberEpoch "FENCED_MEMBER_EPOCH" "The member has been fenced: give up all partitions and join again.",
    111 UnreleasedInstanceId "UNRELEASED_INSTANCE_ID" "Another member still uses this instance id.",
    112 UnsupportedAssignor "UNSUPPORTED_ASSIGNOR" "The group does not support the assignor.",
    113 StaleMemberEpoch "STALE_MEMBER_EPOCH" "The member's epoch is old: retry with the one of the last heartbeat.",
    114 MismatchedEndpointType "MISMATCHED_ENDPOINT_TYPE" "The request came to the wrong kind of endpoint.",
    115 UnsupportedEndpointType "UNSUPPORTED_ENDPOINT_TYPE" "This kind of endpoint is not supported.",
    116 UnknownControllerId "UNKNOWN_CONTROLLER_ID" "There is no such controller.",
    117 UnknownSubscriptionId "UNKNOWN_SUBSCRIPTION_ID" "The telemetry subscription is unknown or outdated.",
    118 TelemetryTooLarge "TELEMETRY_TOO_LARGE" "The telemetry is larger than the broker accepts.",
    119 InvalidRegistration "INVALID_REGISTRATION" "The broker's registration is invalid.",
    120 TransactionAbortable "TRANSACTION_ABORTABLE" "The transaction failed: abort it to go on.",
    121 InvalidRecordState "INVALID_RECORD_STATE" "The record is not in a state that allows this acknowledgement.",
    122 ShareSessionNotFound "SHARE_SESSION_NOT_FOUND" "There is no such share session.",
    123 InvalidShareSessionEpoch "INVALID_SHARE_SESSION_EPOCH" "The share session is at another epoch.",
    124 FencedStateEpoch "FENCED_STATE_EPOCH" "The share group's state has another epoch.",
    125 InvalidVoterKey "INVALID_VOTER_KEY" "The voter's key is not that of the replica.",
    126 DuplicateVoter "DUPLICATE_VOTER" "The voter is in the set already.",
    127 VoterNotFound "VOTER_NOT_FOUND" "The voter is not in the set.",
    128 InvalidRegularExpression "INVALID_REGULAR_EXPRESSION" "The regular expression is invalid.",
    129 RebootstrapRequired "REBOOTSTRAP_REQUIRED" "The client's metadata is stale: bootstrap again.",
    130 StreamsInvalidTopology "STREAMS_INVALID_TOPOLOGY" "The topology is invalid.",
    131 StreamsInvalidTopologyEpoch "STREAMS_INVALID_TOPOLOGY_EPOCH" "The topology's epoch is invalid.",
    132 StreamsTopologyFenced "STREAMS_TOPOLOGY_FENCED" "The topology's epoch is outdated.",
    133 ShareSessionLimitReached "SHARE_SESSION_LIMIT_REACHED" "There are as many share sessions as the broker allows.",
}

impl ErrorCode {
    /// The code of a result, which is [`ErrorCode::None`] where all is well.
    pub fn of<T, E>(result: &Result<T, E>) -> Self
    where
        for<'e> Self: From<&'e E>,
    {
        result.as_ref().err().map(Self::from).unwrap_or_default()
    }

    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The error with this code; `None` if the protocol has none that we know.
    pub fn from_code(code: i16) -> Option<Self> {
        let index = usize::try_from(i32::from(code) - i32::from(Self::ALL[0].code())).ok()?;
        Self::ALL.get(index).copied()
    }

    pub const fn is_error(self) -> bool {
        !matches!(self, Self::None)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name(), self.code())
    }
}

/// What went wrong, for replies that have a field for words beside the one for the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    pub code: ErrorCode,
    pub message: Option<Cow<'static, str>>,
}

impl ApiError {
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: Some(message.into()),
        }
    }

    /// The two fields of a reply that has nothing but errors to tell.
    pub fn fields(result: Result<(), Self>) -> (ErrorCode, Option<Cow<'static, str>>) {
        match result {
            Ok(()) => (ErrorCode::None, None),
            Err(error) => (error.code, error.message),
        }
    }
}

/// An error that has a code and no words.
impl<E> From<E> for ApiError
where
    ErrorCode: From<E>,
{
    fn from(error: E) -> Self {
        Self {
            code: error.into(),
            message: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::error::ResponseError;

    use super::*;

    #[test]
    fn codes_have_no_gaps_and_read_back() {
        for (code, error) in (-1..).zip(ErrorCode::ALL) {
            assert_eq!(error.code(), code);
            assert_eq!(ErrorCode::from_code(code), Some(*error));
        }
        assert_eq!(ErrorCode::from_code(-2), None);
        assert_eq!(ErrorCode::from_code(i16::MIN), None);
        assert_eq!(ErrorCode::from_code(i16::MAX), None);
    }

    #[test]
    fn names_are_kafkas() {
        for error in ErrorCode::ALL.iter().filter(|error| error.is_error()) {
            let theirs = ResponseError::try_from_code(error.code()).unwrap();
            assert_eq!(format!("{error:?}"), theirs.to_string());
        }
        assert_eq!(
            ErrorCode::UnknownTopicOrPartition.name(),
            "UNKNOWN_TOPIC_OR_PARTITION"
        );
    }
}
