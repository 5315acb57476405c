//! ListConfigResources (key 74): the resources that have a dynamic configuration.
//!
//! Versions: 0 was ListClientMetricsResources (KIP-1000) and asks for client metrics only, 1 for
//! resources of any type (KIP-1142).

use std::borrow::Cow;

use super::error::ErrorCode;
use super::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_RESOURCE_TYPE: i16 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// As in [`describe_configs`](super::describe_configs). Empty: all types. Version 0 means
    /// client metrics (16). From version 1.
    pub resource_types: Vec<i8>,
}

pub fn decode(r: &mut Reader<'_>, version: i16) -> Result<Request, WireError> {
    let request = Request {
        resource_types: if version >= FIRST_VERSION_WITH_RESOURCE_TYPE {
            r.array(Reader::i8)?
        } else {
            Vec::new()
        },
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub config_resources: Vec<ConfigResource<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigResource<'a> {
    pub resource_name: Cow<'a, str>,
    /// As in [`describe_configs`](super::describe_configs). From version 1.
    pub resource_type: i8,
}

impl Default for ConfigResource<'_> {
    fn default() -> Self {
        Self {
            resource_name: Cow::Borrowed(""),
            resource_type: 16,
        }
    }
}

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    w.i32(response.throttle_time_ms);
    w.error_code(response.error_code);
    w.array(&response.config_resources, |w, config_resource| {
        encode_config_resource(w, config_resource, version)
    });
    w.no_tagged_fields();
}

fn encode_config_resource(w: &mut Writer, config_resource: &ConfigResource<'_>, version: i16) {
    w.string(&config_resource.resource_name);
    if version >= FIRST_VERSION_WITH_RESOURCE_TYPE {
        w.i8(config_resource.resource_type);
    }
    w.no_tagged_fields();
}
