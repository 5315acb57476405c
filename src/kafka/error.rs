//! Kafka's error codes.

use std::borrow::Cow;

/// Declares [`ErrorCode`] from one table: code, Kafka's name, retriable or last, message.
macro_rules! error_codes {
    ($($(#[$attribute:meta])? $code:literal $variant:ident $name:literal $retry:ident $message:literal,)*) => {
        /// An error code of the protocol. The numbers are part of the protocol and never change.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

            /// A sentence for people.
            pub const fn message(self) -> &'static str {
                match self {
                    $(Self::$variant => $message,)*
                }
            }

            /// Whether clients try the same request again by themselves, as Kafka's
            /// `RetriableException` says.
            pub const fn is_retriable(self) -> bool {
                match self {
                    $(Self::$variant => error_codes!(@ $retry),)*
                }
            }
        }
    };
    (@ retriable) => { true };
    (@ last) => { false };
}

#[rustfmt::skip]
error_codes! {
     -1 UnknownServerError "UNKNOWN_SERVER_ERROR" last "The broker met an unexpected error.",
      #[default]
      0 None "NONE" last "No error.",
      1 OffsetOutOfRange "OFFSET_OUT_OF_RANGE" last "The offset lies outside what the partition holds.",
      2 CorruptMessage "CORRUPT_MESSAGE" retriable "The batch fails its CRC or has an impossible size.",
      3 UnknownTopicOrPartition "UNKNOWN_TOPIC_OR_PARTITION" retriable "There is no such topic or partition here.",
      4 InvalidFetchSize "INVALID_FETCH_SIZE" last "The requested fetch size is invalid.",
      5 LeaderNotAvailable "LEADER_NOT_AVAILABLE" retriable "The partition has no leader at the moment.",
      6 NotLeaderOrFollower "NOT_LEADER_OR_FOLLOWER" retriable "This broker does not serve the partition.",
      7 RequestTimedOut "REQUEST_TIMED_OUT" retriable "The request timed out.",
      8 BrokerNotAvailable "BROKER_NOT_AVAILABLE" last "The broker is not available.",
      9 ReplicaNotAvailable "REPLICA_NOT_AVAILABLE" retriable "The replica is not available.",
     10 MessageTooLarge "MESSAGE_TOO_LARGE" last "The batch is larger than the topic accepts (max.message.bytes).",
     11 StaleControllerEpoch "STALE_CONTROLLER_EPOCH" last "The controller has moved to another broker.",
     12 OffsetMetadataTooLarge "OFFSET_METADATA_TOO_LARGE" last "The metadata of the committed offset is too large.",
     13 NetworkException "NETWORK_EXCEPTION" retriable "The connection broke before a reply came.",
     14 CoordinatorLoadInProgress "COORDINATOR_LOAD_IN_PROGRESS" retriable "The coordinator is still loading.",
     15 CoordinatorNotAvailable "COORDINATOR_NOT_AVAILABLE" retriable "The coordinator is not available.",
     16 NotCoordinator "NOT_COORDINATOR" retriable "This broker is not the coordinator asked for.",
     17 InvalidTopicException "INVALID_TOPIC_EXCEPTION" last "The topic's name is invalid, or the topic does not allow this.",
     18 RecordListTooLarge "RECORD_LIST_TOO_LARGE" last "The batch is larger than a segment may be (segment.bytes).",
     19 NotEnoughReplicas "NOT_ENOUGH_REPLICAS" retriable "Fewer replicas are in sync than the topic requires.",
     20 NotEnoughReplicasAfterAppend "NOT_ENOUGH_REPLICAS_AFTER_APPEND" retriable "The batch was written, but to fewer replicas than required.",
     21 InvalidRequiredAcks "INVALID_REQUIRED_ACKS" last "acks must be -1, 0 or 1.",
     22 IllegalGeneration "ILLEGAL_GENERATION" last "The group has another generation.",
     23 InconsistentGroupProtocol "INCONSISTENT_GROUP_PROTOCOL" last "The member's protocols do not match those of the group.",
     24 InvalidGroupId "INVALID_GROUP_ID" last "The group id is invalid.",
     25 UnknownMemberId "UNKNOWN_MEMBER_ID" last "The group has no such member.",
     26 InvalidSessionTimeout "INVALID_SESSION_TIMEOUT" last "The session timeout is outside what the broker allows.",
     27 RebalanceInProgress "REBALANCE_IN_PROGRESS" last "The group is rebalancing, so the member must join again.",
     28 InvalidCommitOffsetSize "INVALID_COMMIT_OFFSET_SIZE" last "The commit is too large.",
     29 TopicAuthorizationFailed "TOPIC_AUTHORIZATION_FAILED" last "Not authorized for the topic.",
     30 GroupAuthorizationFailed "GROUP_AUTHORIZATION_FAILED" last "Not authorized for the group.",
     31 ClusterAuthorizationFailed "CLUSTER_AUTHORIZATION_FAILED" last "Not authorized for the cluster.",
     32 InvalidTimestamp "INVALID_TIMESTAMP" last "A timestamp is outside what the topic accepts.",
     33 UnsupportedSaslMechanism "UNSUPPORTED_SASL_MECHANISM" last "The SASL mechanism is not supported.",
     34 IllegalSaslState "ILLEGAL_SASL_STATE" last "The request does not fit the state of the SASL exchange.",
     35 UnsupportedVersion "UNSUPPORTED_VERSION" last "This version of the API is not supported.",
     36 TopicAlreadyExists "TOPIC_ALREADY_EXISTS" last "A topic of this name exists already.",
     37 InvalidPartitions "INVALID_PARTITIONS" last "The number of partitions is invalid.",
     38 InvalidReplicationFactor "INVALID_REPLICATION_FACTOR" last "The replication factor is below 1 or above the number of brokers.",
     39 InvalidReplicaAssignment "INVALID_REPLICA_ASSIGNMENT" last "The replica assignment is invalid.",
     40 InvalidConfig "INVALID_CONFIG" last "The configuration is invalid.",
     41 NotController "NOT_CONTROLLER" retriable "This broker is not the controller.",
     42 InvalidRequest "INVALID_REQUEST" last "The request contradicts itself or the protocol.",
     43 UnsupportedForMessageFormat "UNSUPPORTED_FOR_MESSAGE_FORMAT" last "The stored message format does not support this request.",
     44 PolicyViolation "POLICY_VIOLATION" last "The request violates the configured policy.",
     45 OutOfOrderSequenceNumber "OUT_OF_ORDER_SEQUENCE_NUMBER" last "The batch's sequence number does not follow the last one.",
     46 DuplicateSequenceNumber "DUPLICATE_SEQUENCE_NUMBER" last "The batch's sequence number was seen before.",
     47 InvalidProducerEpoch "INVALID_PRODUCER_EPOCH" last "The producer's epoch is old.",
     48 InvalidTxnState "INVALID_TXN_STATE" last "The transaction is not in a state that allows this.",
     49 InvalidProducerIdMapping "INVALID_PRODUCER_ID_MAPPING" last "The producer id does not belong to this transactional id.",
     50 InvalidTransactionTimeout "INVALID_TRANSACTION_TIMEOUT" last "The transaction timeout is longer than the broker allows.",
     51 ConcurrentTransactions "CONCURRENT_TRANSACTIONS" retriable "Another operation on the same transaction is under way.",
     52 TransactionCoordinatorFenced "TRANSACTION_COORDINATOR_FENCED" last "The transaction coordinator has been replaced.",
     53 TransactionalIdAuthorizationFailed "TRANSACTIONAL_ID_AUTHORIZATION_FAILED" last "Not authorized for the transactional id.",
     54 SecurityDisabled "SECURITY_DISABLED" last "Security features are disabled.",
     55 OperationNotAttempted "OPERATION_NOT_ATTEMPTED" last "Not attempted, because another part of the request failed.",
     56 KafkaStorageError "KAFKA_STORAGE_ERROR" retriable "The log on disk could not be accessed.",
     57 LogDirNotFound "LOG_DIR_NOT_FOUND" last "There is no such log directory.",
     58 SaslAuthenticationFailed "SASL_AUTHENTICATION_FAILED" last "SASL authentication failed.",
     59 UnknownProducerId "UNKNOWN_PRODUCER_ID" last "Nothing is known of this producer id.",
     60 ReassignmentInProgress "REASSIGNMENT_IN_PROGRESS" last "The partition is being reassigned.",
     61 DelegationTokenAuthDisabled "DELEGATION_TOKEN_AUTH_DISABLED" last "Delegation tokens are disabled.",
     62 DelegationTokenNotFound "DELEGATION_TOKEN_NOT_FOUND" last "There is no such delegation token.",
     63 DelegationTokenOwnerMismatch "DELEGATION_TOKEN_OWNER_MISMATCH" last "The principal neither owns nor renews the token.",
     64 DelegationTokenRequestNotAllowed "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED" last "Token requests are not allowed on this connection.",
     65 DelegationTokenAuthorizationFailed "DELEGATION_TOKEN_AUTHORIZATION_FAILED" last "Not authorized for the delegation token.",
     66 DelegationTokenExpired "DELEGATION_TOKEN_EXPIRED" last "The delegation token has expired.",
     67 InvalidPrincipalType "INVALID_PRINCIPAL_TYPE" last "The principal type is not supported.",
     68 NonEmptyGroup "NON_EMPTY_GROUP" last "The group has members.",
     69 GroupIdNotFound "GROUP_ID_NOT_FOUND" last "There is no such group.",
     70 FetchSessionIdNotFound "FETCH_SESSION_ID_NOT_FOUND" retriable "There is no such fetch session.",
     71 InvalidFetchSessionEpoch "INVALID_FETCH_SESSION_EPOCH" retriable "The fetch session is at another epoch.",
     72 ListenerNotFound "LISTENER_NOT_FOUND" retriable "The leader has no listener of the kind that was asked.",
     73 TopicDeletionDisabled "TOPIC_DELETION_DISABLED" last "Topics cannot be deleted here.",
     74 FencedLeaderEpoch "FENCED_LEADER_EPOCH" retriable "The request's leader epoch is older than the broker's.",
     75 UnknownLeaderEpoch "UNKNOWN_LEADER_EPOCH" retriable "The request's leader epoch is newer than the broker's.",
     76 UnsupportedCompressionType "UNSUPPORTED_COMPRESSION_TYPE" last "This version of the request does not allow the compression type.",
     77 StaleBrokerEpoch "STALE_BROKER_EPOCH" last "The broker's epoch has changed.",
     78 OffsetNotAvailable "OFFSET_NOT_AVAILABLE" retriable "The new leader's high watermark has not caught up yet.",
     79 MemberIdRequired "MEMBER_ID_REQUIRED" last "Join again with the member id that was given.",
     80 PreferredLeaderNotAvailable "PREFERRED_LEADER_NOT_AVAILABLE" retriable "The preferred leader is not available.",
     81 GroupMaxSizeReached "GROUP_MAX_SIZE_REACHED" last "The group is full.",
     82 FencedInstanceId "FENCED_INSTANCE_ID" last "Another member has taken over this group instance id.",
     83 EligibleLeadersNotAvailable "ELIGIBLE_LEADERS_NOT_AVAILABLE" retriable "No eligible leader is available.",
     84 ElectionNotNeeded "ELECTION_NOT_NEEDED" retriable "The partition needs no election.",
     85 NoReassignmentInProgress "NO_REASSIGNMENT_IN_PROGRESS" last "No reassignment is under way.",
     86 GroupSubscribedToTopic "GROUP_SUBSCRIBED_TO_TOPIC" last "The group is subscribed to the topic.",
     87 InvalidRecord "INVALID_RECORD" last "The batch or one of its records is invalid.",
     88 UnstableOffsetCommit "UNSTABLE_OFFSET_COMMIT" retriable "Offsets of an open transaction are pending.",
     89 ThrottlingQuotaExceeded "THROTTLING_QUOTA_EXCEEDED" retriable "The quota is used up.",
     90 ProducerFenced "PRODUCER_FENCED" last "A newer producer uses the same transactional id.",
     91 ResourceNotFound "RESOURCE_NOT_FOUND" last "There is no such resource.",
     92 DuplicateResource "DUPLICATE_RESOURCE" last "The request names the same resource twice.",
     93 UnacceptableCredential "UNACCEPTABLE_CREDENTIAL" last "The credential is not acceptable.",
     94 InconsistentVoterSet "INCONSISTENT_VOTER_SET" last "The sets of voters do not agree.",
     95 InvalidUpdateVersion "INVALID_UPDATE_VERSION" last "The update's version is invalid.",
     96 FeatureUpdateFailed "FEATURE_UPDATE_FAILED" last "The features could not be updated.",
     97 PrincipalDeserializationFailure "PRINCIPAL_DESERIALIZATION_FAILURE" last "The forwarded principal could not be read.",
     98 SnapshotNotFound "SNAPSHOT_NOT_FOUND" last "There is no such snapshot.",
     99 PositionOutOfRange "POSITION_OUT_OF_RANGE" last "The position lies outside the snapshot.",
    100 UnknownTopicId "UNKNOWN_TOPIC_ID" retriable "There is no topic with this id here.",
    101 DuplicateBrokerRegistration "DUPLICATE_BROKER_REGISTRATION" last "The broker id is in use.",
    102 BrokerIdNotRegistered "BROKER_ID_NOT_REGISTERED" last "The broker id is not registered.",
    103 InconsistentTopicId "INCONSISTENT_TOPIC_ID" retriable "The topic id is not that of the log.",
    104 InconsistentClusterId "INCONSISTENT_CLUSTER_ID" last "The cluster id is not ours.",
    105 TransactionalIdNotFound "TRANSACTIONAL_ID_NOT_FOUND" last "There is no such transactional id.",
    106 FetchSessionTopicIdError "FETCH_SESSION_TOPIC_ID_ERROR" retriable "The fetch session mixes topic names and topic ids.",
    107 IneligibleReplica "INELIGIBLE_REPLICA" last "A replica is not eligible to be in sync.",
    108 NewLeaderElected "NEW_LEADER_ELECTED" last "The partition changed, and has a new leader.",
    109 OffsetMovedToTieredStorage "OFFSET_MOVED_TO_TIERED_STORAGE" last "The offset has moved to tiered storage.",
    110 FencedMemberEpoch "FENCED_MEMBER_EPOCH" last "The member has been fenced: give up all partitions and join again.",
    111 UnreleasedInstanceId "UNRELEASED_INSTANCE_ID" last "Another member still uses this instance id.",
    112 UnsupportedAssignor "UNSUPPORTED_ASSIGNOR" last "The group does not support the assignor.",
    113 StaleMemberEpoch "STALE_MEMBER_EPOCH" last "The member's epoch is old: retry with the one of the last heartbeat.",
    114 MismatchedEndpointType "MISMATCHED_ENDPOINT_TYPE" last "The request came to the wrong kind of endpoint.",
    115 UnsupportedEndpointType "UNSUPPORTED_ENDPOINT_TYPE" last "This kind of endpoint is not supported.",
    116 UnknownControllerId "UNKNOWN_CONTROLLER_ID" last "There is no such controller.",
    117 UnknownSubscriptionId "UNKNOWN_SUBSCRIPTION_ID" last "The telemetry subscription is unknown or outdated.",
    118 TelemetryTooLarge "TELEMETRY_TOO_LARGE" last "The telemetry is larger than the broker accepts.",
    119 InvalidRegistration "INVALID_REGISTRATION" last "The broker's registration is invalid.",
    120 TransactionAbortable "TRANSACTION_ABORTABLE" last "The transaction failed: abort it to go on.",
    121 InvalidRecordState "INVALID_RECORD_STATE" last "The record is not in a state that allows this acknowledgement.",
    122 ShareSessionNotFound "SHARE_SESSION_NOT_FOUND" retriable "There is no such share session.",
    123 InvalidShareSessionEpoch "INVALID_SHARE_SESSION_EPOCH" retriable "The share session is at another epoch.",
    124 FencedStateEpoch "FENCED_STATE_EPOCH" last "The share group's state has another epoch.",
    125 InvalidVoterKey "INVALID_VOTER_KEY" last "The voter's key is not that of the replica.",
    126 DuplicateVoter "DUPLICATE_VOTER" last "The voter is in the set already.",
    127 VoterNotFound "VOTER_NOT_FOUND" last "The voter is not in the set.",
    128 InvalidRegularExpression "INVALID_REGULAR_EXPRESSION" last "The regular expression is invalid.",
    129 RebootstrapRequired "REBOOTSTRAP_REQUIRED" last "The client's metadata is stale: bootstrap again.",
    130 StreamsInvalidTopology "STREAMS_INVALID_TOPOLOGY" last "The topology is invalid.",
    131 StreamsInvalidTopologyEpoch "STREAMS_INVALID_TOPOLOGY_EPOCH" last "The topology's epoch is invalid.",
    132 StreamsTopologyFenced "STREAMS_TOPOLOGY_FENCED" last "The topology's epoch is outdated.",
    133 ShareSessionLimitReached "SHARE_SESSION_LIMIT_REACHED" retriable "There are as many share sessions as the broker allows.",
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

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let words = self.message.as_deref().unwrap_or(self.code.message());
        write!(f, "{words} ({})", self.code.name())
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
    fn names_and_retriability_are_kafkas() {
        for error in ErrorCode::ALL.iter().filter(|error| error.is_error()) {
            let theirs = ResponseError::try_from_code(error.code()).unwrap();
            assert_eq!(format!("{error:?}"), theirs.to_string());
            // The Rust crate lags behind Kafka here: its exception extends RetriableException.
            if *error != ErrorCode::ConcurrentTransactions {
                assert_eq!(error.is_retriable(), theirs.is_retriable(), "{error}");
            }
        }
        assert!(ErrorCode::ConcurrentTransactions.is_retriable());
        assert_eq!(
            ErrorCode::UnknownTopicOrPartition.name(),
            "UNKNOWN_TOPIC_OR_PARTITION"
        );
    }
}
