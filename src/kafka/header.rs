//! Headers: what stands before the body of a request, and of a reply.

use bytes::Bytes;

use super::api::Api;
use crate::wire::{Reader, WireError, Writer};

/// The header of one request (versions 1 and 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// The raw key: it may name an API that is not served.
    pub api_key: i16,
    /// The raw version: it may lie outside what is served.
    pub api_version: i16,
    /// Returned as it came, so that the client can match replies to requests.
    pub correlation_id: i32,
    pub client_id: Option<&'a str>,
}

impl<'a> RequestHeader<'a> {
    /// Reads the header of `frame` (without its size prefix). The reader stands at the body and is
    /// set to the body's form.
    ///
    /// The header of an unknown API is read as version 1, as far as a header goes that is common
    /// to all.
    pub fn decode(frame: &'a Bytes) -> Result<(Self, Reader<'a>), WireError> {
        let mut reader = Reader::new(frame, false);
        let header = Self {
            api_key: reader.i16()?,
            api_version: reader.i16()?,
            correlation_id: reader.i32()?,
            // Not compact even in header version 2: a broker has to read it before it knows
            // whether it knows the version (KIP-482).
            client_id: reader.classic_nullable_string()?,
        };
        reader.set_flexible(header.is_flexible());
        reader.skip_tagged_fields()?;
        Ok((header, reader))
    }

    /// The API that is asked for; `None` if it is not served in any version.
    pub fn api(&self) -> Option<&'static Api> {
        Api::find(self.api_key)
    }

    /// Starts the reply to this request, in the form that its version asks for.
    pub fn reply(&self) -> Writer {
        let flexible_header = self
            .api()
            .is_some_and(|api| api.response_header_is_flexible(self.api_version));
        self.start_reply(flexible_header, self.is_flexible())
    }

    /// Starts a reply in version 0 form: the answer to an ApiVersions request of a version that is
    /// too high (KIP-511).
    pub fn reply_v0(&self) -> Writer {
        self.start_reply(false, false)
    }

    /// Header version 1 ends with tagged fields, version 0 does not.
    fn start_reply(&self, flexible_header: bool, flexible: bool) -> Writer {
        let mut writer = Writer::frame(flexible_header);
        writer.i32(self.correlation_id);
        writer.no_tagged_fields();
        writer.set_flexible(flexible);
        writer
    }

    fn is_flexible(&self) -> bool {
        self.api()
            .is_some_and(|api| api.is_flexible(self.api_version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::api::ApiKey;

    #[test]
    fn the_client_id_is_never_compact() {
        // ApiVersions v3, correlation 5, client "me", one unknown tagged field, then the body.
        let frame = Bytes::from_static(b"\0\x12\0\x03\0\0\0\x05\0\x02me\x01\x09\x01xBODY");
        let (header, reader) = RequestHeader::decode(&frame).unwrap();
        assert_eq!(header.api().map(|api| api.name), Some("ApiVersions"));
        assert_eq!((header.api_version, header.correlation_id), (3, 5));
        assert_eq!(header.client_id, Some("me"));
        assert_eq!((reader.remaining(), reader.is_flexible()), (4, true));
    }

    #[test]
    fn a_reply_starts_with_its_size_and_the_correlation_id() {
        let reply = |api_key, api_version| {
            let header = RequestHeader {
                api_key,
                api_version,
                correlation_id: 7,
                client_id: None,
            };
            let mut writer = header.reply();
            writer.i16(-2);
            writer.string("");
            writer.finish().unwrap().to_vec()
        };
        let metadata = ApiKey::Metadata.code();
        assert_eq!(reply(metadata, 8), b"\0\0\0\x08\0\0\0\x07\xff\xfe\0\0");
        assert_eq!(reply(metadata, 9), b"\0\0\0\x08\0\0\0\x07\0\xff\xfe\x01");
        let versions = ApiKey::ApiVersions.code();
        assert_eq!(reply(versions, 3), b"\0\0\0\x07\0\0\0\x07\xff\xfe\x01");
    }

    #[test]
    fn a_short_header_is_an_error_at_every_length() {
        let frame = Bytes::from_static(b"\0\x12\0\x03\0\0\0\x05\0\x02me\x00");
        for length in 0..frame.len() {
            let short = frame.slice(..length);
            assert_eq!(
                RequestHeader::decode(&short).unwrap_err(),
                WireError::Truncated
            );
        }
        assert!(RequestHeader::decode(&frame).is_ok());
    }

    #[test]
    fn an_unknown_api_or_version_still_has_a_readable_header() {
        let unknown = Bytes::from_static(b"\x03\xe7\0\x01\0\0\0\x01\xff\xff");
        let (header, _) = RequestHeader::decode(&unknown).unwrap();
        assert_eq!((header.api(), header.client_id), (None, None));
        let too_new = Bytes::from_static(b"\0\x12\0\x63\0\0\0\x01\xff\xff\0");
        let (header, _) = RequestHeader::decode(&too_new).unwrap();
        assert_eq!(header.api_version, 99);
        assert_eq!(
            header.reply_v0().finish().unwrap().to_vec(),
            b"\0\0\0\x04\0\0\0\x01"
        );
    }
}
