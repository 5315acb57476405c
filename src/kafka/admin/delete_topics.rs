//! DeleteTopics (key 20).
//!
//! Versions: 4 is flexible, 5 adds the error message (KIP-599), 6 names topics by id or by name
//! (KIP-516). 2 and 3 change nothing on the wire.

use crate::engine::Engine;
use crate::engine::catalog::changes;
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;
use std::rc::Rc;
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
    for topic in request.topics() {
        topics.push(delete(context.engine, topic).await);
    }
    Response {
        throttle_time_ms: 0,
        topics,
    }
}

async fn delete<'a>(engine: &Rc<Engine>, request: TopicRequest<'a>) -> TopicResponse<'a> {
    let (found, unknown) = match request.name {
        Some(name) => (engine.topic(name), ErrorCode::UnknownTopicOrPartition),
        None => (
            engine.topic_by_id(request.topic_id),
            ErrorCode::UnknownTopicId,
        ),
    };
    let mut response = TopicResponse {
        name: request.name.map(Cow::Borrowed),
        topic_id: request.topic_id,
        error_code: unknown,
        error_message: None,
    };
    if let Some(topic) = found {
        response.name = Some(Cow::Owned(topic.name.clone()));
        response.topic_id = topic.id;
        match changes::delete_topic(engine, topic.id).await {
            Ok(()) => response.error_code = ErrorCode::None,
            Err(error) => {
                response.error_code = (&error).into();
                response.error_message = Some(Cow::Owned(error.to_string()));
            }
        }
    }
    response
}
