//! DeleteTopics (key 20).
//!
//! Versions: 5 adds the error message (KIP-599), 6 names topics by id or by name (KIP-516).

use crate::engine::catalog::changes;
use crate::io::reactor::Slice;
use crate::kafka::{ApiError, Context, ErrorCode, message};
use std::borrow::Cow;
use uuid::Uuid;

message! {
    DeleteTopics 1..=6, flexible 4..;

    Request<'a> {
        topics: Vec<TopicRequest<'a>> [6..],
        topic_names: Vec<&'a str> [1..=5],
        timeout_ms: i32,
    }

    #[derive(Copy)]
    TopicRequest<'a> {
        /// Null where the topic is named by its id.
        name: Option<&'a str>,
        /// Nil where the topic is named by its name.
        topic_id: Uuid,
    }

    Response<'a> {
        throttle_time_ms: i32,
        topics: Vec<TopicResponse<'a>>,
    }

    TopicResponse<'a> {
        /// `None` where an unknown id was asked for.
        name: Option<Cow<'a, str>> [1.., nullable 6..],
        topic_id: Uuid [6..],
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>> [5..],
    }
}

impl<'a> Request<'a> {
    /// The topics that are to be deleted, in any version.
    pub fn topics(&self) -> impl Iterator<Item = TopicRequest<'a>> {
        let by_name = |name: &&'a str| TopicRequest {
            name: Some(*name),
            topic_id: Uuid::nil(),
        };
        let topics = self.topics.iter().copied();
        topics.chain(self.topic_names.iter().map(by_name))
    }
}

/// Deletes topics, one after the other; each is gone durably before it is answered.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut topics = Vec::new();
    let mut slice = Slice::new();
    for topic in request.topics() {
        slice.rest().await;
        topics.push(delete(context, topic).await);
    }
    Response {
        topics,
        ..Response::default()
    }
}

async fn delete<'a>(context: &Context<'_>, request: TopicRequest<'a>) -> TopicResponse<'a> {
    let found = match request.name {
        Some(name) => context.topic(name),
        None => {
            let found = context.engine.topic_by_id(request.topic_id);
            found.ok_or(ErrorCode::UnknownTopicId)
        }
    };
    let mut response = TopicResponse {
        name: request.name.map(Cow::Borrowed),
        topic_id: request.topic_id,
        ..TopicResponse::default()
    };
    let deleted = match found {
        Ok(topic) => {
            response.name = Some(Cow::Owned(topic.name.clone()));
            response.topic_id = topic.id;
            let deleted = changes::delete_topic(context.engine, topic.id).await;
            deleted.map_err(ApiError::from)
        }
        Err(unknown) => Err(unknown.into()),
    };
    (response.error_code, response.error_message) = ApiError::fields(deleted);
    response
}
