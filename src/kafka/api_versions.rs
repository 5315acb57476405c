//! ApiVersions (key 18): which APIs are served, in which versions, and which features there are.
//!
//! Versions: 3 adds the client's name and version (KIP-511) and features (KIP-584), 4 allows features that
//! start at version 0. The response header is version 0 whatever the version of the request.

use crate::kafka::api::{APIS, Api, ApiKey};
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;

message! {
    ApiVersions 0..=4, flexible 3..;

    Request<'a> {
        client_software_name: &'a str [3..],
        client_software_version: &'a str [3..],
    }

    Response<'a> {
        error_code: ErrorCode,
        api_keys: Vec<ApiVersion>,
        throttle_time_ms: i32 [1..],
        /// See [`Response::sayable`].
        supported_features: Vec<SupportedFeature<'a>> [3.., tag 0],
        /// -1 if unknown.
        finalized_features_epoch: i64 [3.., tag 1] = -1,
        /// Empty unless the epoch is known.
        finalized_features: Vec<FinalizedFeature<'a>> [3.., tag 2],
        /// A broker that never used ZooKeeper leaves it false.
        zk_migration_ready: bool [3.., tag 3],
    }

    #[derive(Copy)]
    ApiVersion {
        api_key: i16,
        min_version: i16,
        max_version: i16,
    }

    SupportedFeature<'a> {
        name: Cow<'a, str>,
        min_version: i16,
        max_version: i16,
    }

    FinalizedFeature<'a> {
        name: Cow<'a, str>,
        max_version_level: i16,
        min_version_level: i16,
    }
}

const FIRST_VERSION_WITH_CLIENT_SOFTWARE: i16 = 3;
const FIRST_VERSION_WITH_FEATURES_FROM_ZERO: i16 = 4;

impl Response<'_> {
    /// Everything in the table of APIs, and no features.
    pub fn all() -> Self {
        Self {
            api_keys: APIS.iter().map(ApiVersion::from).collect(),
            ..Self::default()
        }
    }

    /// The answer to a version above ours, to be encoded as version 0: it holds only the range of
    /// ApiVersions itself, which tells the client what to ask for next (KIP-511).
    pub fn unsupported_version() -> Self {
        let own = APIS.iter().filter(|api| api.key == ApiKey::ApiVersions);
        Self {
            error_code: ErrorCode::UnsupportedVersion,
            api_keys: own.map(ApiVersion::from).collect(),
            ..Self::default()
        }
    }

    /// Without what clients of this version cannot read: those that speak version 3 fail on a feature
    /// whose minimum is 0 (KAFKA-17492).
    pub fn sayable(mut self, version: i16) -> Self {
        if version < FIRST_VERSION_WITH_FEATURES_FROM_ZERO {
            self.supported_features
                .retain(|feature| feature.min_version > 0);
        }
        self
    }
}

impl From<&Api> for ApiVersion {
    fn from(api: &Api) -> Self {
        Self {
            api_key: api.key.code(),
            min_version: api.min_version,
            max_version: api.max_version,
        }
    }
}

/// Lists what is served. It takes no authentication. A client whose name KIP-511 does not allow gets an
/// error.
pub async fn handle(context: &Context<'_>, request: &Request<'_>) -> Response<'static> {
    let named = context.version < FIRST_VERSION_WITH_CLIENT_SOFTWARE
        || (is_software_name(request.client_software_name)
            && is_software_name(request.client_software_version));
    let mut response = Response::all().sayable(context.version);
    if !named {
        response.error_code = ErrorCode::InvalidRequest;
    }
    response
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`
fn is_software_name(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || b"-.".contains(byte);
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inside)
}
