//! ApiVersions (key 18): which APIs are served, in which versions, and which features there are.
//!
//! Versions: 1 adds the throttle time, 3 is flexible and adds the client's name and version
//! (KIP-511) and features (KIP-584), 4 allows features that start at version 0. The response
//! header is version 0 whatever the version of the request.

use super::context::Context;
use std::borrow::Cow;

use super::api::{APIS, Api};
use super::error::ErrorCode;
use super::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_THROTTLE: i16 = 1;
const FIRST_VERSION_WITH_CLIENT_SOFTWARE: i16 = 3;
const FIRST_VERSION_WITH_FEATURES_FROM_ZERO: i16 = 4;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// Empty before version 3.
    pub client_software_name: &'a str,
    /// Empty before version 3.
    pub client_software_version: &'a str,
}

pub fn decode<'a>(r: &mut Reader<'a>, version: i16) -> Result<Request<'a>, WireError> {
    let says_software = version >= FIRST_VERSION_WITH_CLIENT_SOFTWARE;
    let request = Request {
        client_software_name: if says_software { r.string()? } else { "" },
        client_software_version: if says_software { r.string()? } else { "" },
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response<'a> {
    pub error_code: ErrorCode,
    pub api_keys: Vec<ApiVersion>,
    /// From version 1.
    pub throttle_time_ms: i32,
    /// From version 3, tagged.
    pub supported_features: Vec<SupportedFeature<'a>>,
    /// -1 if unknown. From version 3, tagged.
    pub finalized_features_epoch: i64,
    /// Empty unless the epoch is known. From version 3, tagged.
    pub finalized_features: Vec<FinalizedFeature<'a>>,
    /// From version 3, tagged; a broker that never used ZooKeeper leaves it false.
    pub zk_migration_ready: bool,
}

impl Default for Response<'_> {
    fn default() -> Self {
        Self {
            error_code: ErrorCode::None,
            api_keys: Vec::new(),
            throttle_time_ms: 0,
            supported_features: Vec::new(),
            finalized_features_epoch: -1,
            finalized_features: Vec::new(),
            zk_migration_ready: false,
        }
    }
}

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
        let own = APIS
            .iter()
            .filter(|api| api.key == super::api::ApiKey::ApiVersions);
        Self {
            error_code: ErrorCode::UnsupportedVersion,
            api_keys: own.map(ApiVersion::from).collect(),
            ..Self::default()
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiVersion {
    pub api_key: i16,
    pub min_version: i16,
    pub max_version: i16,
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupportedFeature<'a> {
    pub name: Cow<'a, str>,
    pub min_version: i16,
    pub max_version: i16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalizedFeature<'a> {
    pub name: Cow<'a, str>,
    pub max_version_level: i16,
    pub min_version_level: i16,
}

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    w.error_code(response.error_code);
    w.array(&response.api_keys, encode_api_version);
    if version >= FIRST_VERSION_WITH_THROTTLE {
        w.i32(response.throttle_time_ms);
    }
    encode_features(response, version, w);
}

fn encode_api_version(w: &mut Writer, api: &ApiVersion) {
    w.i16(api.api_key);
    w.i16(api.min_version);
    w.i16(api.max_version);
    w.no_tagged_fields();
}

fn encode_features(response: &Response<'_>, version: i16, w: &mut Writer) {
    w.tagged_fields(|fields| {
        let supported = sayable_features(&response.supported_features, version);
        if !supported.is_empty() {
            fields.field(0, |w| w.array(&supported, encode_supported_feature));
        }
        if response.finalized_features_epoch != -1 {
            fields.field(1, |w| w.i64(response.finalized_features_epoch));
        }
        let finalized = &response.finalized_features;
        if !finalized.is_empty() {
            fields.field(2, |w| w.array(finalized, encode_finalized_feature));
        }
        if response.zk_migration_ready {
            fields.field(3, |w| w.bool(true));
        }
    });
}

/// Clients that speak version 3 fail on a feature whose minimum is 0, so they do not hear of it
/// (KAFKA-17492).
fn sayable_features<'r, 'a>(
    features: &'r [SupportedFeature<'a>],
    version: i16,
) -> Vec<&'r SupportedFeature<'a>> {
    let any_minimum = version >= FIRST_VERSION_WITH_FEATURES_FROM_ZERO;
    features
        .iter()
        .filter(|feature| any_minimum || feature.min_version > 0)
        .collect()
}

fn encode_supported_feature(w: &mut Writer, feature: &&SupportedFeature<'_>) {
    w.string(&feature.name);
    w.i16(feature.min_version);
    w.i16(feature.max_version);
    w.no_tagged_fields();
}

fn encode_finalized_feature(w: &mut Writer, feature: &FinalizedFeature<'_>) {
    w.string(&feature.name);
    w.i16(feature.max_version_level);
    w.i16(feature.min_version_level);
    w.no_tagged_fields();
}

/// Says what is served. It takes no authentication, and a client that names itself in a way that
/// KIP-511 does not allow is told so.
pub async fn handle(context: &Context<'_>, request: &Request<'_>) -> Response<'static> {
    let named = context.version < FIRST_VERSION_WITH_CLIENT_SOFTWARE
        || (is_software_name(request.client_software_name)
            && is_software_name(request.client_software_version));
    match named {
        true => Response::all(),
        false => Response {
            error_code: ErrorCode::InvalidRequest,
            ..Response::all()
        },
    }
}

/// The answer to a version that is too high, in version 0; the request's body is not read (KIP-511).
pub fn unsupported_version(correlation_id: i32) -> Writer {
    let mut writer = Writer::new(correlation_id, false, false);
    encode(&Response::unsupported_version(), 0, &mut writer);
    writer
}

/// `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`
fn is_software_name(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let inside = |byte: &u8| byte.is_ascii_alphanumeric() || b"-.".contains(byte);
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inside)
}
