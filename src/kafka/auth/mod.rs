//! Security: SASL, ACLs, SCRAM users, quotas. There is none yet, so each API answers as a Kafka broker without
//! security does. Requests that would change something (AlterClientQuotas, AlterUserScramCredentials)
//! are not advertised before they have an effect.

pub mod create_acls;
pub mod delete_acls;
pub mod describe_acls;
pub mod describe_client_quotas;
pub mod describe_user_scram_credentials;
pub mod sasl_authenticate;
pub mod sasl_handshake;

use super::error::{ApiError, ErrorCode};

/// How every ACL API is answered while no authorizer decides who may do what.
fn no_authorizer() -> ApiError {
    let message = "this broker has no authorizer: everybody may do everything";
    ApiError::new(ErrorCode::SecurityDisabled, message)
}
