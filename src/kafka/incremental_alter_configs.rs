//! IncrementalAlterConfigs (key 44): change some configs of resources and leave the others
//! (KIP-339).
//!
//! Versions: 1 is flexible.

use std::borrow::Cow;

use super::error::ErrorCode;
use super::wire::{Reader, WireError, Writer};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub resources: Vec<ResourceRequest<'a>>,
    /// Check only, change nothing.
    pub validate_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceRequest<'a> {
    /// As in [`describe_configs`](super::describe_configs).
    pub resource_type: i8,
    pub resource_name: &'a str,
    pub configs: Vec<ConfigRequest<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigRequest<'a> {
    pub name: &'a str,
    /// 0 set, 1 delete, 2 append to a list, 3 subtract from a list.
    pub operation: i8,
    /// Null for a delete.
    pub value: Option<&'a str>,
}

pub fn decode<'a>(r: &mut Reader<'a>, _version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        resources: r.array(decode_resource)?,
        validate_only: r.bool()?,
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

fn decode_resource<'a>(r: &mut Reader<'a>) -> Result<ResourceRequest<'a>, WireError> {
    let resource = ResourceRequest {
        resource_type: r.i8()?,
        resource_name: r.string()?,
        configs: r.array(decode_config)?,
    };
    r.skip_tagged_fields()?;
    Ok(resource)
}

fn decode_config<'a>(r: &mut Reader<'a>) -> Result<ConfigRequest<'a>, WireError> {
    let config = ConfigRequest {
        name: r.string()?,
        operation: r.i8()?,
        value: r.nullable_string()?,
    };
    r.skip_tagged_fields()?;
    Ok(config)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    pub throttle_time_ms: i32,
    pub responses: Vec<ResourceResponse<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceResponse<'a> {
    pub error_code: ErrorCode,
    pub error_message: Option<Cow<'a, str>>,
    /// As in [`describe_configs`](super::describe_configs).
    pub resource_type: i8,
    pub resource_name: Cow<'a, str>,
}

pub fn encode(response: &Response<'_>, _version: i16, w: &mut Writer) {
    w.i32(response.throttle_time_ms);
    w.array(&response.responses, encode_resource);
    w.no_tagged_fields();
}

fn encode_resource(w: &mut Writer, resource: &ResourceResponse<'_>) {
    w.error_code(resource.error_code);
    w.nullable_string(resource.error_message.as_deref());
    w.i8(resource.resource_type);
    w.string(&resource.resource_name);
    w.no_tagged_fields();
}
