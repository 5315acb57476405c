//! One connection to one broker: frames, version negotiation, and what can go wrong.
//!
//! One request at a time, or several sent before their replies are read in the same order. The
//! broker is trusted with its own data but not with this process's memory: a reply's claimed size
//! is bounded.

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Message, Request, StrBytes};

use super::error::{Error, Result, check, io_words};

const CLIENT_ID: &str = "millstream-cli";
const SOFTWARE_NAME: &str = CLIENT_ID;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a reply may take.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest reply taken: far above any limit of a fetch, far below a size that hurts.
const REPLY_BYTES_MAX: usize = 256 << 20;
/// What is reserved on a reply's word alone; the rest grows as bytes arrive.
const REPLY_BYTES_RESERVED_MAX: usize = 16 << 20;
/// Why a connection was lost that ended within a frame.
const CUT: &str = "the broker closed it in the middle of a reply";
const UNSUPPORTED_VERSION: i16 = 35;

/// One connection to one broker, with the versions that it advertised.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    address: String,
    client_id: String,
    versions: HashMap<i16, (i16, i16)>,
    last_correlation_id: i32,
    unanswered: VecDeque<i32>,
    broken: bool,
}

impl Connection {
    /// Connects to `address` (`host:port`) and asks which versions are served there.
    pub fn open(address: &str) -> Result<Connection> {
        let mut connection = Connection::connect(address, CLIENT_ID, REPLY_TIMEOUT)?;
        connection.negotiate()?;
        Ok(connection)
    }

    /// Connects to `address` (`host:port`) and asks nothing: the caller knows which versions are served.
    /// Requests have this client id; one that cannot be sent, or whose reply does not come, within
    /// `timeout` fails.
    pub fn connect(address: &str, client_id: &str, timeout: Duration) -> Result<Connection> {
        let stream = connect(address, timeout).map_err(|error| Error::Unreachable {
            address: address.to_owned(),
            why: io_words(&error),
        })?;
        Ok(Connection {
            stream,
            address: address.to_owned(),
            client_id: client_id.to_owned(),
            versions: HashMap::new(),
            last_correlation_id: 0,
            unanswered: VecDeque::new(),
            broken: false,
        })
    }

    /// The socket, for bytes that are no request.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Whether it still works and leads to `address`.
    pub fn leads_to(&self, address: &str) -> bool {
        !self.broken && self.address == address
    }

    /// Whether it has failed: open another one.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Whether the broker advertises this API at all.
    pub fn serves<R: Request>(&self) -> bool {
        self.versions.contains_key(&R::KEY)
    }

    /// The highest version of `R` that both sides know, and that is not above `at_most`.
    pub fn version<R: Request>(&self, at_most: i16) -> Result<i16> {
        let api = api_name::<R>();
        let address = || self.address.clone();
        let &(min, max) = self.versions.get(&R::KEY).ok_or_else(|| Error::NoApi {
            address: address(),
            api,
        })?;
        let ours_max = R::VERSIONS.max.min(R::Response::VERSIONS.max).min(at_most);
        let ours_min = R::VERSIONS.min.max(R::Response::VERSIONS.min);
        let version = max.min(ours_max);
        if version < min || version < ours_min {
            let theirs = format!("{min} to {max}");
            let ours = format!("{ours_min} to {ours_max}");
            return Err(Error::NoVersion {
                address: address(),
                api,
                theirs,
                ours,
            });
        }
        Ok(version)
    }

    /// Sends a request in the highest common version and waits for its reply.
    pub fn call<R: Request>(&mut self, request: &R) -> Result<R::Response> {
        let version = self.version::<R>(i16::MAX)?;
        self.call_at(request, version)
    }

    /// Sends a request in `version` and waits for its reply.
    pub fn call_at<R: Request>(&mut self, request: &R, version: i16) -> Result<R::Response> {
        self.send(request, version)?;
        self.receive::<R>(version)
    }

    /// Sends a request whose reply is to be [`receive`](Connection::receive)d later, in the order
    /// of the requests.
    pub fn send<R: Request>(&mut self, request: &R, version: i16) -> Result<()> {
        self.send_unanswered(request, version)?;
        self.unanswered.push_back(self.last_correlation_id);
        Ok(())
    }

    /// Sends a request that has no reply: a Produce with `acks` 0.
    pub fn send_unanswered<R: Request>(&mut self, request: &R, version: i16) -> Result<()> {
        self.last_correlation_id = self.last_correlation_id.wrapping_add(1);
        let frame = encode_frame(request, version, self.last_correlation_id, &self.client_id)?;
        let written = self.stream.write_all(&frame);
        written.map_err(|error| self.lost(api_name::<R>(), error))
    }

    /// Waits for the reply to the oldest request without one; `R` and `version` must be those with
    /// which it was sent.
    pub fn receive<R: Request>(&mut self, version: i16) -> Result<R::Response> {
        let api = api_name::<R>();
        let mut body = self.receive_reply(api)?;
        let reply = ResponseHeader::decode(&mut body, R::Response::header_version(version))
            .and_then(|_| R::Response::decode(&mut body, version));
        match reply {
            Ok(reply) if body.is_empty() => Ok(reply),
            Ok(_) => Err(self.bad_reply(api, format!("{} bytes are left over", body.len()))),
            Err(error) => Err(self.bad_reply(api, format!("{error:#}"))),
        }
    }

    /// Asks something small. The answer shows that the broker has read all that was sent before.
    pub fn round_trip(&mut self) -> Result<()> {
        self.negotiate()
    }

    fn negotiate(&mut self) -> Result<()> {
        let newest = ApiVersionsRequest::VERSIONS.max;
        let reply = match self.api_versions(newest)? {
            reply if reply.error_code == UNSUPPORTED_VERSION => {
                let listed = reply
                    .api_keys
                    .iter()
                    .find(|api| api.api_key == ApiVersionsRequest::KEY);
                let version = listed.map_or(0, |api| api.max_version.clamp(0, newest - 1));
                self.api_versions(version)?
            }
            reply => reply,
        };
        check(reply.error_code, "ApiVersions")?;
        let ranges = reply.api_keys.iter();
        self.versions = ranges
            .map(|api| (api.api_key, (api.min_version, api.max_version)))
            .collect();
        Ok(())
    }

    fn api_versions(&mut self, version: i16) -> Result<ApiVersionsResponse> {
        let api = "ApiVersions";
        let request = match version {
            0..3 => ApiVersionsRequest::default(),
            _ => ApiVersionsRequest::default()
                .with_client_software_name(StrBytes::from_static_str(SOFTWARE_NAME))
                .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION"))),
        };
        self.send(&request, version)?;
        let mut body = self.receive_reply(api)?;
        body.advance(size_of::<i32>());
        // A broker that does not know the version says so in a reply of version 0.
        let refused = body.starts_with(&UNSUPPORTED_VERSION.to_be_bytes());
        let version = if refused { 0 } else { version };
        let reply = ApiVersionsResponse::decode(&mut body, version);
        reply.map_err(|error| self.bad_reply(api, format!("{error:#}")))
    }

    /// The reply to the oldest request without one, from its correlation id on.
    fn receive_reply(&mut self, api: &'static str) -> Result<Bytes> {
        let frame = self.receive_frame_of(api)?;
        self.check_correlation(api, (&frame[..]).get_i32())?;
        Ok(frame)
    }

    /// The next frame without its size, whatever it answers: for a caller that writes its own frames.
    pub fn receive_frame(&mut self) -> Result<Bytes> {
        self.receive_frame_of("a request")
    }

    fn receive_frame_of(&mut self, api: &'static str) -> Result<Bytes> {
        let mut size = [0; 4];
        let read = self.stream.read_exact(&mut size);
        read.map_err(|error| self.lost(api, error))?;
        let bytes = usize::try_from(i32::from_be_bytes(size)).unwrap_or(usize::MAX);
        if !(size_of::<i32>()..=REPLY_BYTES_MAX).contains(&bytes) {
            return Err(self.absurd_size(api, size));
        }
        let mut frame = Vec::with_capacity(bytes.min(REPLY_BYTES_RESERVED_MAX));
        let read = (&self.stream).take(bytes as u64).read_to_end(&mut frame);
        match read {
            Ok(read) if read == bytes => Ok(frame.into()),
            Ok(_) => Err(self.lost(api, io::Error::new(ErrorKind::UnexpectedEof, CUT))),
            Err(error) => Err(self.lost(api, error)),
        }
    }

    fn check_correlation(&mut self, api: &'static str, id: i32) -> Result<()> {
        match self.unanswered.pop_front() {
            Some(awaited) if awaited == id => Ok(()),
            _ => Err(self.bad_reply(
                api,
                format!("it answers request {id}, which is not its turn"),
            )),
        }
    }

    fn absurd_size(&mut self, api: &'static str, size: [u8; 4]) -> Error {
        self.broken = true;
        let address = self.address.clone();
        let text = size.escape_ascii();
        if self.versions.is_empty() {
            return Error::NotKafka {
                address,
                why: format!("its answer begins with \"{text}\""),
            };
        }
        let why = format!(
            "it claims {} bytes; at most {REPLY_BYTES_MAX} are taken",
            i32::from_be_bytes(size)
        );
        Error::BadReply { address, api, why }
    }

    fn bad_reply(&mut self, api: &'static str, why: String) -> Error {
        self.broken = true;
        Error::BadReply {
            address: self.address.clone(),
            api,
            why,
        }
    }

    fn lost(&mut self, api: &'static str, why: io::Error) -> Error {
        self.broken = true;
        Error::Lost {
            address: self.address.clone(),
            api,
            why,
        }
    }
}

/// A whole request frame, its size included.
pub fn encode_frame<R: Request>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: &str,
) -> Result<BytesMut> {
    let api = api_name::<R>();
    let bad = |why: String| Error::BadRequest { api, version, why };
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(super::text(client_id)));
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    header
        .encode(&mut frame, R::header_version(version))
        .map_err(|error| bad(format!("{error:#}")))?;
    let encoded = request.encode(&mut frame, version);
    encoded.map_err(|error| bad(format!("{error:#}")))?;
    let bytes = i32::try_from(frame.len() - 4);
    let bytes = bytes.map_err(|_| bad(format!("it has {} bytes", frame.len())))?;
    frame[..4].copy_from_slice(&bytes.to_be_bytes());
    Ok(frame)
}

fn api_name<R: Request>() -> &'static str {
    match ApiKey::try_from(R::KEY) {
        Ok(ApiKey::ApiVersions) => "ApiVersions",
        Ok(ApiKey::Metadata) => "Metadata",
        Ok(ApiKey::Produce) => "Produce",
        Ok(ApiKey::Fetch) => "Fetch",
        Ok(ApiKey::ListOffsets) => "ListOffsets",
        Ok(ApiKey::CreateTopics) => "CreateTopics",
        Ok(ApiKey::DeleteTopics) => "DeleteTopics",
        Ok(ApiKey::CreatePartitions) => "CreatePartitions",
        Ok(ApiKey::DescribeConfigs) => "DescribeConfigs",
        Ok(ApiKey::IncrementalAlterConfigs) => "IncrementalAlterConfigs",
        Ok(ApiKey::InitProducerId) => "InitProducerId",
        _ => "a request",
    }
}

fn connect(address: &str, timeout: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for socket_address in address.to_socket_addrs()? {
        match connect_to(&socket_address, timeout) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn connect_to(address: &SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(address, CONNECT_TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    Ok(stream)
}
