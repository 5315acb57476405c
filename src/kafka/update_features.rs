//! UpdateFeatures (key 57): change the cluster's finalized feature levels (KIP-584).
//!
//! Versions: 1 adds the upgrade type in place of `allow_downgrade`, and `validate_only` (KIP-778),
//! 2 answers for all features at once (KIP-1022).

use std::borrow::Cow;
use std::collections::HashSet;

use super::context::Context;
use super::error::ErrorCode;
use crate::wire::{Reader, WireError, Writer};

const LAST_VERSION_WITH_ALLOW_DOWNGRADE: i16 = 0;
const FIRST_VERSION_WITH_UPGRADE_TYPE: i16 = 1;
const FIRST_VERSION_WITH_VALIDATE_ONLY: i16 = 1;
const LAST_VERSION_WITH_RESULTS: i16 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub timeout_ms: i32,
    pub feature_updates: Vec<FeatureRequest<'a>>,
    /// Check only, change nothing. From version 1.
    pub validate_only: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeatureRequest<'a> {
    pub feature: &'a str,
    /// The level to go to; below 1 deletes the feature.
    pub max_version_level: i16,
    /// Only in version 0.
    pub allow_downgrade: bool,
    /// 1 upgrade only, 2 a downgrade that loses nothing, 3 any downgrade. From version 1.
    pub upgrade_type: i8,
}

pub fn decode<'a>(r: &mut Reader<'a>, version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        timeout_ms: r.i32()?,
        feature_updates: r.array(|r| decode_feature(r, version))?,
        validate_only: version >= FIRST_VERSION_WITH_VALIDATE_ONLY && r.bool()?,
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

fn decode_feature<'a>(r: &mut Reader<'a>, version: i16) -> Result<FeatureRequest<'a>, WireError> {
    let feature = FeatureRequest {
        feature: r.string()?,
        max_version_level: r.i16()?,
        allow_downgrade: version <= LAST_VERSION_WITH_ALLOW_DOWNGRADE && r.bool()?,
        upgrade_type: if version >= FIRST_VERSION_WITH_UPGRADE_TYPE {
            r.i8()?
        } else {
            1
        },
    };
    r.skip_tagged_fields()?;
    Ok(feature)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    pub throttle_time_ms: i32,
    /// Of the whole; from version 2 the only one.
    pub error_code: ErrorCode,
    pub error_message: Option<Cow<'a, str>>,
    /// Up to version 1.
    pub results: Vec<FeatureResponse<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeatureResponse<'a> {
    pub feature: Cow<'a, str>,
    pub error_code: ErrorCode,
    pub error_message: Option<Cow<'a, str>>,
}

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    w.i32(response.throttle_time_ms);
    w.i16(response.error_code.code());
    w.nullable_string(response.error_message.as_deref());
    if version <= LAST_VERSION_WITH_RESULTS {
        w.array(&response.results, encode_feature);
    }
    w.no_tagged_fields();
}

fn encode_feature(w: &mut Writer, feature: &FeatureResponse<'_>) {
    w.string(&feature.feature);
    w.i16(feature.error_code.code());
    w.nullable_string(feature.error_message.as_deref());
    w.no_tagged_fields();
}

const UNSUPPORTED: &str = "this broker has no features with levels; any is at level 0";

/// There are no features: each is at level 0 and stays there.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut seen = HashSet::new();
    let updates = request.feature_updates.iter();
    let results: Vec<_> = updates
        .filter(|update| seen.insert(update.feature))
        .map(update)
        .collect();
    let refused = results.iter().find(|result| result.error_code.is_error());
    match refused {
        // All or nothing, so there is one answer.
        Some(refused) if context.version > LAST_VERSION_WITH_RESULTS => Response {
            error_code: refused.error_code,
            error_message: Some(Cow::Owned(format!(
                "feature {:?}: {UNSUPPORTED}",
                refused.feature
            ))),
            ..Response::default()
        },
        _ => Response {
            results,
            ..Response::default()
        },
    }
}

fn update<'a>(update: &FeatureRequest<'a>) -> FeatureResponse<'a> {
    let is_refused = update.max_version_level != 0;
    FeatureResponse {
        feature: Cow::Borrowed(update.feature),
        error_code: match is_refused {
            true => ErrorCode::InvalidUpdateVersion,
            false => ErrorCode::None,
        },
        error_message: is_refused.then_some(Cow::Borrowed(UNSUPPORTED)),
    }
}
