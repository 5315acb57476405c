//! Why a group did not do what it was asked.

use crate::coordinator::runtime::CoordinatorError;
use thiserror::Error;

/// The names are Kafka's; the codes are in `kafka`.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum GroupError {
    #[error("a group's name is not empty")]
    InvalidGroupId,
    #[error("the group does not know this member")]
    UnknownMemberId,
    #[error("the group is in another generation")]
    IllegalGeneration,
    #[error("the group is rebalancing")]
    RebalanceInProgress,
    #[error("the member's protocols do not go with those of the group")]
    InconsistentGroupProtocol,
    #[error("the member supports more protocols than one may")]
    TooManyProtocols,
    #[error("another member has taken over this instance id")]
    FencedInstanceId,
    /// The member is to join again with this id (KIP-394).
    #[error("join again as {0}")]
    MemberIdRequired(String),
    #[error("the session timeout is not within the broker's limits")]
    InvalidSessionTimeout,
    #[error("the group has as many members as it may have")]
    GroupMaxSizeReached,
    #[error("the group's record would be larger than it may be")]
    RecordTooLarge,
    #[error("the group's state could not be stored")]
    NotCoordinator,
    #[error("the group is being removed")]
    CoordinatorNotAvailable,
    #[error("the group has members")]
    NonEmptyGroup,
    #[error("there is no such group")]
    GroupIdNotFound,
    #[error("the group is subscribed to the topic")]
    GroupSubscribedToTopic,
    #[error("there is no such topic")]
    UnknownTopic,
    #[error("there are more offsets than were asked for at most")]
    TooManyOffsets,
    #[error("the offset's metadata is too long")]
    OffsetMetadataTooLarge,
}

impl From<CoordinatorError> for GroupError {
    fn from(error: CoordinatorError) -> GroupError {
        match error {
            CoordinatorError::NotCoordinator => GroupError::NotCoordinator,
            CoordinatorError::NotAvailable => GroupError::CoordinatorNotAvailable,
        }
    }
}
