//! DeleteTopics (key 20).
//!
//! Versions: 4 is flexible, 5 adds the error message (KIP-599), 6 names topics by id or by name
//! (KIP-516). 2 and 3 change nothing on the wire.

use crate::engine::Engine;
use std::borrow::Cow;
use std::rc::Rc;

use uuid::Uuid;

use super::context::Context;
use super::error::ErrorCode;
use crate::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_ERROR_MESSAGE: i16 = 5;
const FIRST_VERSION_WITH_TOPIC_ID: i16 = 6;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub topics: Vec<TopicRequest<'a>>,
    pub timeout_ms: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicRequest<'a> {
    /// Null only from version 6 on, where the topic is named by its id.
    pub name: Option<&'a str>,
    /// Nil where the topic is named by its name.
    pub topic_id: Uuid,
}

pub fn decode<'a>(r: &mut Reader<'a>, version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        topics: if version >= FIRST_VERSION_WITH_TOPIC_ID {
            r.array(decode_topic)?
        } else {
            r.array(decode_topic_name)?
        },
        timeout_ms: r.i32()?,
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

fn decode_topic<'a>(r: &mut Reader<'a>) -> Result<TopicRequest<'a>, WireError> {
    let topic = TopicRequest {
        name: r.nullable_string()?,
        topic_id: r.uuid()?,
    };
    r.skip_tagged_fields()?;
    Ok(topic)
}

/// Before version 6 the array holds plain strings.
fn decode_topic_name<'a>(r: &mut Reader<'a>) -> Result<TopicRequest<'a>, WireError> {
    Ok(TopicRequest {
        name: Some(r.string()?),
        topic_id: Uuid::nil(),
    })
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    pub throttle_time_ms: i32,
    pub topics: Vec<TopicResponse<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicResponse<'a> {
    /// `None` where an unknown id was asked for; before version 6, which cannot say null, it is
    /// written as the empty string.
    pub name: Option<Cow<'a, str>>,
    /// From version 6.
    pub topic_id: Uuid,
    pub error_code: ErrorCode,
    /// From version 5.
    pub error_message: Option<Cow<'a, str>>,
}

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    w.i32(response.throttle_time_ms);
    w.array(&response.topics, |w, topic| encode_topic(w, topic, version));
    w.no_tagged_fields();
}

fn encode_topic(w: &mut Writer, topic: &TopicResponse<'_>, version: i16) {
    let name = topic.name.as_deref();
    if version >= FIRST_VERSION_WITH_TOPIC_ID {
        w.nullable_string(name);
        w.uuid(topic.topic_id);
    } else {
        w.string(name.unwrap_or_default());
    }
    w.i16(topic.error_code.code());
    if version >= FIRST_VERSION_WITH_ERROR_MESSAGE {
        w.nullable_string(topic.error_message.as_deref());
    }
    w.no_tagged_fields();
}

/// Deletes topics, one after the other; each is gone durably before it is answered.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        topics.push(delete(context.engine, topic).await);
    }
    Response {
        throttle_time_ms: 0,
        topics,
    }
}

async fn delete<'a>(engine: &Rc<Engine>, request: &TopicRequest<'a>) -> TopicResponse<'a> {
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
        match engine.delete_topic(topic.id).await {
            Ok(()) => response.error_code = ErrorCode::None,
            Err(error) => {
                response.error_code = (&error).into();
                response.error_message = Some(Cow::Owned(error.to_string()));
            }
        }
    }
    response
}
