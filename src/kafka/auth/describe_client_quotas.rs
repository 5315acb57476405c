//! DescribeClientQuotas (key 48): the quotas of users, client ids and addresses that match a filter (KIP-546).

use crate::kafka::{ApiError, Context, ErrorCode, message};
use std::borrow::Cow;
use std::collections::HashSet;

message! {
    DescribeClientQuotas 0..=1, flexible 1..;

    Request<'a> {
        components: Vec<Component<'a>>,
        /// Leave out entities with more parts than the filter names.
        strict: bool,
    }

    #[derive(Copy)]
    Component<'a> {
        /// `user`, `client-id` or `ip`.
        entity_type: &'a str,
        /// 0 this name, 1 the default entity, 2 any name.
        match_type: i8,
        /// The name; null unless one is asked for.
        name: Option<&'a str>,
    }

    Response<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>>,
        /// Null on error.
        entries: Option<Vec<Entry<'a>>>,
    }

    Entry<'a> {
        entity: Vec<Entity<'a>>,
        values: Vec<Value<'a>>,
    }

    Entity<'a> {
        entity_type: Cow<'a, str>,
        /// Null: the default.
        entity_name: Option<Cow<'a, str>>,
    }

    Value<'a> {
        key: Cow<'a, str>,
        /// The bits of an `f64`.
        value_bits: i64,
    }
}

const IP: &str = "ip";
const ENTITY_TYPES: [&str; 3] = ["user", "client-id", IP];

const MATCH_NAME: i8 = 0;
const MATCH_DEFAULT: i8 = 1;
const MATCH_ANY: i8 = 2;

/// There are no quotas: every filter that makes sense finds none.
pub async fn handle(_context: &Context<'_>, request: &Request<'_>) -> Response<'static> {
    let checked = check(&request.components);
    let entries = checked.is_ok().then(Vec::new);
    let (error_code, error_message) = ApiError::fields(checked);
    Response {
        error_code,
        error_message,
        entries,
        ..Response::default()
    }
}

fn check(components: &[Component<'_>]) -> Result<(), ApiError> {
    let invalid = |why: String| Err(ApiError::new(ErrorCode::InvalidRequest, why));
    let mut seen = HashSet::new();
    for Component {
        entity_type,
        match_type,
        name,
    } in components
    {
        if !seen.insert(*entity_type) {
            return invalid(format!("the entity type `{entity_type}` is named twice"));
        }
        if entity_type.is_empty() {
            return invalid("an entity type is empty".to_owned());
        }
        if !ENTITY_TYPES.contains(entity_type) {
            let why = format!("there is no entity type `{entity_type}`");
            return Err(ApiError::new(ErrorCode::UnsupportedVersion, why));
        }
        match (*match_type, name) {
            (MATCH_NAME, Some(_)) | (MATCH_DEFAULT | MATCH_ANY, None) => {}
            (MATCH_NAME, None) => return invalid(format!("no {entity_type} is named")),
            (MATCH_DEFAULT | MATCH_ANY, Some(_)) => {
                let why = "has a name, and its match type takes none";
                return invalid(format!("the entity type `{entity_type}` {why}"));
            }
            (other, _) => return invalid(format!("there is no match type {other}")),
        }
    }
    if seen.contains(IP) && seen.len() > 1 {
        return invalid("`ip` cannot be combined with other entity types".to_owned());
    }
    Ok(())
}
