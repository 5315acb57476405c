//! DescribeCluster (key 60): the cluster's id, controller and brokers (KIP-700).
//!
//! Flexible from version 0. Versions: 1 adds the endpoint type (KIP-919), 2 fenced brokers
//! (KIP-1073).

use super::context::Context;
use super::metadata;
use std::borrow::Cow;

use super::error::ErrorCode;
use super::metadata::OPERATIONS_NOT_REQUESTED;
use crate::wire::{Reader, WireError, Writer};

/// The endpoint type of brokers, as against controllers (2).
pub const ENDPOINT_BROKERS: i8 = 1;

const FIRST_VERSION_WITH_ENDPOINT_TYPE: i16 = 1;
const FIRST_VERSION_WITH_FENCED_BROKERS: i16 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    pub include_cluster_authorized_operations: bool,
    /// [`ENDPOINT_BROKERS`] before version 1.
    pub endpoint_type: i8,
    /// From version 2.
    pub include_fenced_brokers: bool,
}

pub fn decode(r: &mut Reader<'_>, version: i16) -> Result<Request, WireError> {
    let request = Request {
        include_cluster_authorized_operations: r.bool()?,
        endpoint_type: if version >= FIRST_VERSION_WITH_ENDPOINT_TYPE {
            r.i8()?
        } else {
            ENDPOINT_BROKERS
        },
        include_fenced_brokers: version >= FIRST_VERSION_WITH_FENCED_BROKERS && r.bool()?,
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response<'a> {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub error_message: Option<Cow<'a, str>>,
    /// From version 1.
    pub endpoint_type: i8,
    pub cluster_id: Cow<'a, str>,
    /// -1 if unknown.
    pub controller_id: i32,
    pub brokers: Vec<Broker<'a>>,
    pub cluster_authorized_operations: i32,
}

impl Default for Response<'_> {
    fn default() -> Self {
        Self {
            throttle_time_ms: 0,
            error_code: ErrorCode::None,
            error_message: None,
            endpoint_type: ENDPOINT_BROKERS,
            cluster_id: Cow::Borrowed(""),
            controller_id: -1,
            brokers: Vec::new(),
            cluster_authorized_operations: OPERATIONS_NOT_REQUESTED,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Broker<'a> {
    pub broker_id: i32,
    pub host: Cow<'a, str>,
    pub port: i32,
    pub rack: Option<Cow<'a, str>>,
    /// From version 2.
    pub is_fenced: bool,
}

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    w.i32(response.throttle_time_ms);
    w.i16(response.error_code.code());
    w.nullable_string(response.error_message.as_deref());
    if version >= FIRST_VERSION_WITH_ENDPOINT_TYPE {
        w.i8(response.endpoint_type);
    }
    w.string(&response.cluster_id);
    w.i32(response.controller_id);
    w.array(&response.brokers, |w, broker| {
        encode_broker(w, broker, version);
    });
    w.i32(response.cluster_authorized_operations);
    w.no_tagged_fields();
}

fn encode_broker(w: &mut Writer, broker: &Broker<'_>, version: i16) {
    w.i32(broker.broker_id);
    w.string(&broker.host);
    w.i32(broker.port);
    w.nullable_string(broker.rack.as_deref());
    if version >= FIRST_VERSION_WITH_FENCED_BROKERS {
        w.bool(broker.is_fenced);
    }
    w.no_tagged_fields();
}

/// The cluster is this one broker.
pub async fn handle(context: &Context<'_>, request: &Request) -> Response<'static> {
    let advertised = context.engine.config.advertised();
    if request.endpoint_type != ENDPOINT_BROKERS {
        return Response {
            error_code: ErrorCode::MismatchedEndpointType,
            error_message: Some(Cow::Borrowed(
                "this endpoint serves brokers, not controllers",
            )),
            endpoint_type: ENDPOINT_BROKERS,
            ..Response::default()
        };
    }
    Response {
        endpoint_type: ENDPOINT_BROKERS,
        cluster_id: Cow::Owned(context.engine.cluster_id.to_string()),
        controller_id: context.engine.config.node_id,
        brokers: vec![Broker {
            broker_id: context.engine.config.node_id,
            host: Cow::Owned(advertised.host.clone()),
            port: i32::from(advertised.port),
            rack: None,
            is_fenced: false,
        }],
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => metadata::CLUSTER_OPERATIONS,
            false => metadata::OPERATIONS_NOT_REQUESTED,
        },
        ..Response::default()
    }
}
