//! Heartbeat (key 12): a member is alive, and asks whether the group rebalances.

use crate::kafka::{Context, ErrorCode, message};

message! {
    Heartbeat 0..=4, flexible 4..;

    Request<'a> {
        group_id: &'a str,
        generation_id: i32,
        member_id: &'a str,
        /// What a static member calls itself across restarts (KIP-345).
        group_instance_id: Option<&'a str> [3..],
    }

    #[derive(Copy)]
    Response {
        throttle_time_ms: i32 [1..],
        error_code: ErrorCode,
    }
}

pub async fn handle(context: &Context<'_>, request: &Request<'_>) -> Response {
    let beat = context.groups.heartbeat(
        request.group_id.to_owned(),
        request.member_id.to_owned(),
        request.group_instance_id.map(str::to_owned),
        request.generation_id,
    );
    Response {
        error_code: ErrorCode::of(&beat.await),
        ..Response::default()
    }
}
