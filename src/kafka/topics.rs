//! Requests and replies that go topic by topic and, in each, partition by partition.

use super::error::{ApiError, ErrorCode};
use crate::io::reactor::Slice;
use crate::wire::schema::structures;
use std::borrow::Cow;

structures! {
    versions 0..=1, flexible 1..;

    /// A topic in a request, and what the request says of each of its partitions.
    TopicRequest<'a, P> {
        name: &'a str,
        partitions: Vec<P>,
    }

    TopicResponse<'a, P> {
        name: Cow<'a, str>,
        partitions: Vec<P>,
    }

    /// A partition in a reply that reports errors only.
    #[derive(Copy)]
    PartitionCode {
        index: i32,
        error_code: ErrorCode,
    }

    /// The same with a message.
    PartitionError<'a> {
        index: i32,
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>>,
    }
}

impl PartitionError<'_> {
    pub fn of(index: i32, result: Result<(), ApiError>) -> Self {
        let (error_code, error_message) = ApiError::fields(result);
        Self {
            index,
            error_code,
            error_message,
        }
    }
}

/// Answers for every partition that a request names, in the order of the request.
pub async fn for_each<'a, P, R>(
    topics: &[TopicRequest<'a, P>],
    mut answer: impl FnMut(&'a str, &P) -> R,
) -> Vec<TopicResponse<'a, R>> {
    await_each(topics, async |topic, partition| answer(topic, partition)).await
}

/// As [`for_each`], one partition after the other, where an answer has to be waited for.
pub async fn await_each<'a, P, R>(
    topics: &[TopicRequest<'a, P>],
    mut answer: impl AsyncFnMut(&'a str, &P) -> R,
) -> Vec<TopicResponse<'a, R>> {
    let mut answers = Vec::with_capacity(topics.len());
    let mut slice = Slice::new();
    for topic in topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            partitions.push(answer(topic.name, partition).await);
            slice.rest().await;
        }
        answers.push(TopicResponse {
            name: Cow::Borrowed(topic.name),
            partitions,
        });
    }
    answers
}
