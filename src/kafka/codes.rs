//! The protocol's code for each error of the rooms below.

use super::error::{ApiError, ErrorCode};
use crate::config::ConfigError;
use crate::coordinator::groups::error::GroupError;
use crate::engine::EngineError;
use crate::engine::append::Refusal;
use crate::engine::catalog::changes::AdminError;
use crate::engine::fetch_sessions::SessionError;
use crate::log::batch::BatchError;
use crate::log::records::RecordsError;

impl From<&EngineError> for ErrorCode {
    fn from(error: &EngineError) -> Self {
        match error {
            EngineError::UnknownTopicOrPartition => ErrorCode::UnknownTopicOrPartition,
            EngineError::UnknownTopicId => ErrorCode::UnknownTopicId,
            EngineError::InconsistentTopicId => ErrorCode::InconsistentTopicId,
            // Both are retriable, so that producers wait for space or for an operator.
            EngineError::StorageFull | EngineError::StorageFailed => ErrorCode::KafkaStorageError,
            EngineError::BatchTooLarge => ErrorCode::RecordListTooLarge,
            EngineError::OutOfOrderSequence(_) => ErrorCode::OutOfOrderSequenceNumber,
            EngineError::StaleProducerEpoch(_) => ErrorCode::InvalidProducerEpoch,
            EngineError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            // A consumer reports this one to its program and keeps its position. It would silently retry a
            // storage error for ever.
            EngineError::Corrupt { .. } => ErrorCode::CorruptMessage,
            EngineError::FencedLeaderEpoch(_) => ErrorCode::FencedLeaderEpoch,
            EngineError::UnknownLeaderEpoch(_) => ErrorCode::UnknownLeaderEpoch,
            // Final for every client: to send it again would not help.
            EngineError::Changed(_) => ErrorCode::InvalidRecord,
            // Retriable: it is being made.
            EngineError::NoKeyIndex => ErrorCode::KafkaStorageError,
            EngineError::Reconfigured | EngineError::Stopping => ErrorCode::NotLeaderOrFollower,
        }
    }
}

impl From<&AdminError> for ErrorCode {
    fn from(error: &AdminError) -> Self {
        match error {
            AdminError::TopicExists(_) => ErrorCode::TopicAlreadyExists,
            AdminError::UnknownTopic => ErrorCode::UnknownTopicOrPartition,
            AdminError::BadName(_) | AdminError::NameCollision(..) => {
                ErrorCode::InvalidTopicException
            }
            AdminError::InternalTopic(_) => ErrorCode::InvalidTopicException,
            AdminError::NoPartitions | AdminError::NotMorePartitions { .. } => {
                ErrorCode::InvalidPartitions
            }
            AdminError::BadConfig(ConfigError::ReadOnly(_)) => ErrorCode::InvalidRequest,
            AdminError::BadConfig(_) | AdminError::MustCompact(_) => ErrorCode::InvalidConfig,
            AdminError::LimitReached { .. } => ErrorCode::PolicyViolation,
            AdminError::StillDeleting(_) | AdminError::NotWritten(_) => {
                ErrorCode::KafkaStorageError
            }
            AdminError::Engine(error) => error.into(),
        }
    }
}

impl From<&GroupError> for ErrorCode {
    fn from(error: &GroupError) -> Self {
        match error {
            GroupError::InvalidGroupId => ErrorCode::InvalidGroupId,
            GroupError::UnknownMemberId => ErrorCode::UnknownMemberId,
            GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
            GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
            GroupError::InconsistentGroupProtocol => ErrorCode::InconsistentGroupProtocol,
            GroupError::TooManyProtocols => ErrorCode::InvalidRequest,
            // As Kafka, when a group's record is larger than the topic takes.
            GroupError::RecordTooLarge => ErrorCode::UnknownServerError,
            GroupError::FencedInstanceId => ErrorCode::FencedInstanceId,
            GroupError::MemberIdRequired(_) => ErrorCode::MemberIdRequired,
            GroupError::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
            GroupError::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
            GroupError::NotCoordinator => ErrorCode::NotCoordinator,
            GroupError::CoordinatorNotAvailable => ErrorCode::CoordinatorNotAvailable,
            GroupError::NonEmptyGroup => ErrorCode::NonEmptyGroup,
            GroupError::GroupIdNotFound => ErrorCode::GroupIdNotFound,
            GroupError::GroupSubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
            GroupError::UnknownTopic => ErrorCode::UnknownTopicOrPartition,
            GroupError::TooManyOffsets => ErrorCode::InvalidRequest,
            GroupError::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
        }
    }
}

impl From<SessionError> for ErrorCode {
    fn from(error: SessionError) -> Self {
        match error {
            SessionError::Unknown | SessionError::NoRoom => ErrorCode::FetchSessionIdNotFound,
            SessionError::WrongEpoch => ErrorCode::InvalidFetchSessionEpoch,
            SessionError::OtherNaming => ErrorCode::FetchSessionTopicIdError,
        }
    }
}

impl From<&BatchError> for ErrorCode {
    fn from(error: &BatchError) -> Self {
        match error {
            BatchError::Truncated | BatchError::BadLength(_) | BatchError::BadCrc => {
                ErrorCode::CorruptMessage
            }
            BatchError::BadMagic(_) | BatchError::Invalid(_) => ErrorCode::InvalidRecord,
            BatchError::TooLarge(_) => ErrorCode::MessageTooLarge,
        }
    }
}

impl From<&Refusal> for ErrorCode {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::InternalTopic => ErrorCode::InvalidTopicException,
            Refusal::Batch(error) => error.into(),
            Refusal::Zstd => ErrorCode::UnsupportedCompressionType,
            Refusal::Transactional => ErrorCode::InvalidTxnState,
            Refusal::ClaimsAppendTime | Refusal::TimestampTooFar => ErrorCode::InvalidTimestamp,
            Refusal::Records(RecordsError::TooLarge(_)) => ErrorCode::MessageTooLarge,
            Refusal::Records(RecordsError::Compress(_)) => ErrorCode::UnknownServerError,
            Refusal::NoBatch
            | Refusal::Records(_)
            | Refusal::RecordOffset(_)
            | Refusal::Condition(_)
            | Refusal::WithoutKey(_) => ErrorCode::InvalidRecord,
            Refusal::Engine(error) => error.into(),
        }
    }
}

impl From<EngineError> for ErrorCode {
    fn from(error: EngineError) -> Self {
        Self::from(&error)
    }
}

impl From<GroupError> for ErrorCode {
    fn from(error: GroupError) -> Self {
        Self::from(&error)
    }
}

/// Administrators get the reason in words.
impl From<AdminError> for ApiError {
    fn from(error: AdminError) -> Self {
        ApiError::new(ErrorCode::from(&error), error.to_string())
    }
}
