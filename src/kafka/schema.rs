//! The declaration of an API's messages, and the form of an error code on the wire.

use super::error::ErrorCode;
use crate::wire::{Reader, Wire, WireError, Writer};

/// Declares the messages of an API, once: structures as in [`crate::wire::schema`], below the API's name
/// and versions as in Kafka's message definitions. It does not compile where the table of APIs says
/// other versions.
///
/// ```text
/// message! {
///     Heartbeat 0..=4, flexible 4..;
///
///     Request<'a> {
///         group_id: &'a str,
///         group_instance_id: Option<&'a str> [3..],
///     }
///
///     Response {
///         throttle_time_ms: i32 [1..],
///         error_code: ErrorCode,
///     }
/// }
/// ```
macro_rules! message {
    (
        $api:ident $min:literal ..= $max:literal $(, flexible $flexible:literal ..)?;
        $($structures:tt)*
    ) => {
        const _: () = $crate::kafka::api::check_declaration(
            $crate::kafka::api::ApiKey::$api,
            $min,
            $max,
            $crate::kafka::api::first_of(&[$($flexible,)? $crate::kafka::api::NEVER_FLEXIBLE]),
        );

        $crate::wire::schema::structures! {
            versions $min..=$max $(, flexible $flexible..)?;
            $($structures)*
        }
    };
}

pub(crate) use message;

/// An unknown code is read as UNKNOWN_SERVER_ERROR.
impl<'a> Wire<'a> for ErrorCode {
    #[inline]
    fn decode(r: &mut Reader<'a>, _version: i16) -> Result<Self, WireError> {
        Ok(ErrorCode::from_code(r.i16()?).unwrap_or(ErrorCode::UnknownServerError))
    }

    #[inline]
    fn encode(&self, w: &mut Writer, _version: i16) {
        w.i16(self.code());
    }
}

#[cfg(test)]
impl crate::wire::round_trip::Sample for ErrorCode {
    fn sample(&self, seed: &mut u8, version: i16) -> Self {
        let code = 0i8.sample(seed, version);
        ErrorCode::from_code(i16::from(code)).expect("a code above 0")
    }
}
