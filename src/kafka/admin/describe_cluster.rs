//! DescribeCluster (key 60): the cluster's id, controller and brokers (KIP-700).
//!
//! Versions: 1 adds the endpoint type (KIP-919), 2 fenced brokers (KIP-1073).

use crate::kafka::data::metadata::{CLUSTER_OPERATIONS, OPERATIONS_NOT_REQUESTED, operations};
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;

/// The endpoint type of brokers, as against controllers (2).
pub const ENDPOINT_BROKERS: i8 = 1;

message! {
    DescribeCluster 0..=2, flexible 0..;

    #[derive(Copy)]
    Request {
        include_cluster_authorized_operations: bool,
        endpoint_type: i8 [1..] = ENDPOINT_BROKERS,
        include_fenced_brokers: bool [2..],
    }

    Response<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>>,
        endpoint_type: i8 [1..] = ENDPOINT_BROKERS,
        cluster_id: Cow<'a, str>,
        /// -1 if unknown.
        controller_id: i32 = -1,
        brokers: Vec<Broker<'a>>,
        cluster_authorized_operations: i32 = OPERATIONS_NOT_REQUESTED,
    }

    Broker<'a> {
        broker_id: i32,
        host: Cow<'a, str>,
        port: i32,
        rack: Option<Cow<'a, str>>,
        is_fenced: bool [2..],
    }
}

/// The cluster is this one broker.
pub async fn handle(context: &Context<'_>, request: &Request) -> Response<'static> {
    if request.endpoint_type != ENDPOINT_BROKERS {
        return Response {
            error_code: ErrorCode::MismatchedEndpointType,
            error_message: Some("this endpoint serves brokers, not controllers".into()),
            ..Response::default()
        };
    }
    let engine = context.engine;
    let advertised = engine.config.advertised();
    Response {
        cluster_id: Cow::Owned(engine.cluster_id.to_string()),
        controller_id: engine.config.node_id,
        brokers: vec![Broker {
            broker_id: engine.config.node_id,
            host: Cow::Owned(advertised.host.clone()),
            port: i32::from(advertised.port),
            rack: None,
            is_fenced: false,
        }],
        cluster_authorized_operations: operations(
            request.include_cluster_authorized_operations,
            CLUSTER_OPERATIONS,
        ),
        ..Response::default()
    }
}
