//! OffsetDelete (key 47): forget how far a group has read in some partitions (KIP-496).
//!
//! Version 0 only, which is not flexible.

use std::borrow::Cow;

use super::error::ErrorCode;
use super::wire::{Reader, WireError, Writer};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub group_id: &'a str,
    pub topics: Vec<TopicRequest<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRequest<'a> {
    pub name: &'a str,
    pub partitions: Vec<PartitionRequest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionRequest {
    pub index: i32,
}

pub fn decode<'a>(r: &mut Reader<'a>, _version: i16) -> Result<Request<'a>, WireError> {
    Ok(Request {
        group_id: r.string()?,
        topics: r.array(decode_topic)?,
    })
}

fn decode_topic<'a>(r: &mut Reader<'a>) -> Result<TopicRequest<'a>, WireError> {
    Ok(TopicRequest {
        name: r.string()?,
        partitions: r.array(decode_partition)?,
    })
}

fn decode_partition(r: &mut Reader<'_>) -> Result<PartitionRequest, WireError> {
    Ok(PartitionRequest { index: r.i32()? })
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    /// An error of the group, which answers for all its partitions.
    pub error_code: ErrorCode,
    pub throttle_time_ms: i32,
    pub topics: Vec<TopicResponse<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicResponse<'a> {
    pub name: Cow<'a, str>,
    pub partitions: Vec<PartitionResponse>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionResponse {
    pub index: i32,
    pub error_code: ErrorCode,
}

pub fn encode(response: &Response<'_>, _version: i16, w: &mut Writer) {
    w.error_code(response.error_code);
    w.i32(response.throttle_time_ms);
    w.array(&response.topics, encode_topic);
}

fn encode_topic(w: &mut Writer, topic: &TopicResponse<'_>) {
    w.string(&topic.name);
    w.array(&topic.partitions, encode_partition);
}

fn encode_partition(w: &mut Writer, partition: &PartitionResponse) {
    w.i32(partition.index);
    w.error_code(partition.error_code);
}
