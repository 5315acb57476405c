//! Exit statuses: what a script can rely on. docs/operating.md has the same table.

use std::io;
use std::process::ExitCode;

use crate::client::{self, http};
use crate::kafka::error::ErrorCode;

/// What `--help` says of the exit statuses.
pub const HELP: &str = "\
Exit status: 0 done; 1 failed; 2 the command line makes no sense; 3 a topic, partition, group \
or committed offset that was named does not exist; 4 denied; 5 no answer in time.";

/// Why a command did not succeed. The numbers never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything that has no status of its own.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// What was named does not exist on the broker.
    NotFound = 3,
    /// The broker does not let this client do it.
    Denied = 4,
    /// No answer in time, or given up after trying for long enough.
    TimedOut = 5,
}

impl Exit {
    /// The exit status that the cause of `error` asks for.
    pub fn of(error: &anyhow::Error) -> Exit {
        let of_cause = |cause: &(dyn std::error::Error + 'static)| {
            if let Some(failure) = cause.downcast_ref::<Failure>() {
                return Some(failure.exit);
            }
            if let Some(error) = cause.downcast_ref() {
                return Some(Exit::of_http(error));
            }
            cause.downcast_ref().map(Exit::of_client)
        };
        error.chain().find_map(of_cause).unwrap_or(Exit::Failed)
    }

    /// The exit status that an error code of the protocol asks for.
    pub fn of_code(code: ErrorCode) -> Exit {
        use ErrorCode::*;
        match code {
            UnknownTopicOrPartition
            | UnknownTopicId
            | GroupIdNotFound
            | ResourceNotFound
            | TransactionalIdNotFound => Exit::NotFound,
            TopicAuthorizationFailed
            | GroupAuthorizationFailed
            | ClusterAuthorizationFailed
            | TransactionalIdAuthorizationFailed
            | DelegationTokenAuthorizationFailed
            | SaslAuthenticationFailed => Exit::Denied,
            RequestTimedOut => Exit::TimedOut,
            _ => Exit::Failed,
        }
    }

    fn of_http(error: &http::Error) -> Exit {
        match error {
            http::Error::Unreachable { why, .. } if why.kind() == io::ErrorKind::TimedOut => {
                Exit::TimedOut
            }
            http::Error::Refused { status, .. } if matches!(status.as_u16(), 401 | 403) => {
                Exit::Denied
            }
            _ => Exit::Failed,
        }
    }

    fn of_client(error: &client::Error) -> Exit {
        if error.is_timeout() {
            return Exit::TimedOut;
        }
        error.code().map_or(Exit::Failed, Exit::of_code)
    }
}

/// Whether the connection failed, so that another one may do better.
pub fn is_connection(error: &anyhow::Error) -> bool {
    let of_client = |cause: &(dyn std::error::Error + 'static)| {
        let error = cause.downcast_ref::<client::Error>();
        error.is_some_and(client::Error::is_connection)
            || matches!(cause.downcast_ref(), Some(http::Error::Unreachable { .. }))
    };
    error.chain().any(of_client)
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// A failure in words, with the exit status that goes with it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    /// A failure with this exit status.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        let message = message.into();
        Failure { exit, message }
    }

    /// What was named is not there.
    pub fn not_found(message: impl Into<String>) -> Failure {
        Failure::new(Exit::NotFound, message)
    }

    /// Values on the command line that do not go together.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// What a broker refused with `code`.
    pub fn refused(code: ErrorCode, message: impl Into<String>) -> Failure {
        Failure::new(Exit::of_code(code), message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn the_status_is_that_of_the_cause_whatever_is_said_around_it() {
        let no_topic = || client::Error::NoTopic {
            name: "t".into(),
            address: "a".into(),
        };
        let plain = anyhow::Error::from(no_topic());
        assert_eq!(Exit::of(&plain), Exit::NotFound);
        let wrapped = Err::<(), _>(no_topic()).context("stopped after 3 records");
        assert_eq!(Exit::of(&wrapped.unwrap_err()), Exit::NotFound);
        let said = anyhow::Error::from(Failure::usage("no")).context("again");
        assert_eq!(Exit::of(&said), Exit::Usage);
        assert_eq!(Exit::of(&anyhow::anyhow!("whatever")), Exit::Failed);
    }

    #[test]
    fn silence_is_told_from_refusal() {
        let lost = |kind| client::Error::Lost {
            address: "a".into(),
            api: "Fetch",
            why: io::Error::from(kind),
        };
        let exit = |kind| Exit::of(&lost(kind).into());
        assert_eq!(exit(io::ErrorKind::WouldBlock), Exit::TimedOut);
        assert_eq!(exit(io::ErrorKind::ConnectionReset), Exit::Failed);
        let given_up = client::Error::GivenUp {
            tried_ms: 1,
            trouble: String::new(),
        };
        assert_eq!(Exit::of(&given_up.into()), Exit::TimedOut);
    }

    #[test]
    fn codes_of_the_protocol_have_a_status() {
        let exit = Exit::of_code;
        assert_eq!(exit(ErrorCode::GroupIdNotFound), Exit::NotFound);
        assert_eq!(exit(ErrorCode::TopicAuthorizationFailed), Exit::Denied);
        assert_eq!(exit(ErrorCode::RequestTimedOut), Exit::TimedOut);
        assert_eq!(exit(ErrorCode::InvalidConfig), Exit::Failed);
    }
}
