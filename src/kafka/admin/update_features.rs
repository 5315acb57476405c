//! UpdateFeatures (key 57): change the cluster's finalized feature levels (KIP-584).
//!
//! Versions: 1 adds the upgrade type in place of `allow_downgrade`, and `validate_only` (KIP-778),
//! 2 answers for all features at once (KIP-1022).

use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;
use std::collections::HashSet;

message! {
    UpdateFeatures 0..=2, flexible 0..;

    Request<'a> {
        timeout_ms: i32,
        feature_updates: Vec<FeatureRequest<'a>>,
        /// Check only, change nothing.
        validate_only: bool [1..],
    }

    #[derive(Copy)]
    FeatureRequest<'a> {
        feature: &'a str,
        /// The level to go to; below 1 deletes the feature.
        max_version_level: i16,
        allow_downgrade: bool [0],
        /// 1 upgrade only, 2 a downgrade that loses nothing, 3 any downgrade.
        upgrade_type: i8 [1..] = 1,
    }

    Response<'a> {
        throttle_time_ms: i32,
        /// Of the whole; from version 2 the only one.
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>>,
        results: Vec<FeatureResponse<'a>> [0..=1],
    }

    FeatureResponse<'a> {
        feature: Cow<'a, str>,
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>>,
    }
}

const LAST_VERSION_WITH_RESULTS: i16 = 1;

const UNSUPPORTED: &str = "this broker has no features with levels; any is at level 0";

/// There are no features: each is at level 0 and stays there.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut seen = HashSet::new();
    let updates = request.feature_updates.iter();
    let updates = updates.filter(|update| seen.insert(update.feature));
    let results: Vec<_> = updates.map(update).collect();
    if context.version <= LAST_VERSION_WITH_RESULTS {
        return Response {
            results,
            ..Response::default()
        };
    }
    // All or nothing, so there is one answer.
    let mut refused = results.iter().filter(|result| result.error_code.is_error());
    match refused.next() {
        Some(refused) => Response {
            error_code: refused.error_code,
            error_message: Some(format!("feature {:?}: {UNSUPPORTED}", refused.feature).into()),
            ..Response::default()
        },
        None => Response::default(),
    }
}

fn update<'a>(update: &FeatureRequest<'a>) -> FeatureResponse<'a> {
    let mut response = FeatureResponse {
        feature: Cow::Borrowed(update.feature),
        ..FeatureResponse::default()
    };
    if update.max_version_level != 0 {
        response.error_code = ErrorCode::InvalidUpdateVersion;
        response.error_message = Some(Cow::Borrowed(UNSUPPORTED));
    }
    response
}
