//! One connection to one broker: frames, version negotiation, and what can go wrong.
//!
//! One request at a time, or several sent before their replies are read in the same order. The
//! broker is trusted with its own data but not with this process's memory: a reply's claimed size
//! is bounded.

use super::call::Call;
use super::error::{Error, Result, check};
use crate::kafka::api::ApiKey;
use crate::kafka::api_versions::{self, ApiVersion};
use crate::kafka::error::ErrorCode;
use crate::wire::{self, Reader, Wire, Writer};
use bytes::{Buf, Bytes};
use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

const CLIENT_ID: &str = "millstream-cli";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a reply may take.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest reply taken: far above any limit of a fetch, far below a size that hurts.
const REPLY_BYTES_MAX: usize = 256 << 20;
/// What is reserved on a reply's word alone; the rest grows as bytes arrive.
const REPLY_BYTES_RESERVED_MAX: usize = 16 << 20;
/// Why a connection was lost that ended within a frame.
const CUT: &str = "the broker closed it in the middle of a reply";

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
    /// The last reply, from its correlation id on.
    reply: Bytes,
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
        let stream = connect(address, timeout).map_err(|why| Error::Unreachable {
            address: address.to_owned(),
            why,
        })?;
        Ok(Connection {
            stream,
            address: address.to_owned(),
            client_id: client_id.to_owned(),
            versions: HashMap::new(),
            last_correlation_id: 0,
            unanswered: VecDeque::new(),
            broken: false,
            reply: Bytes::new(),
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
    pub fn serves<C: Call>(&self) -> bool {
        self.versions.contains_key(&C::KEY.code())
    }

    /// The highest version of `C` that both sides know, and that is not above `at_most`.
    pub fn version<C: Call>(&self, at_most: i16) -> Result<i16> {
        let api = C::api();
        let (ours_min, ours_max) = (api.min_served_version, api.max_version.min(at_most));
        let Some(&(min, max)) = self.versions.get(&api.key.code()) else {
            return Err(Error::NoApi {
                address: self.address.clone(),
                api: api.name,
            });
        };
        let version = max.min(ours_max);
        if version < min.max(ours_min) {
            return Err(Error::NoVersion {
                address: self.address.clone(),
                api: api.name,
                theirs: format!("{min} to {max}"),
                ours: format!("{ours_min} to {ours_max}"),
            });
        }
        Ok(version)
    }

    /// Sends a request in the highest common version and waits for its reply.
    pub fn call<C: Call>(&mut self, request: &C) -> Result<C::Response<'_>> {
        let version = self.version::<C>(i16::MAX)?;
        self.call_at(request, version)
    }

    /// Sends a request in `version` and waits for its reply.
    pub fn call_at<C: Call>(&mut self, request: &C, version: i16) -> Result<C::Response<'_>> {
        self.send(request, version)?;
        self.receive::<C>(version)
    }

    /// Sends a request whose reply is to be [`receive`](Connection::receive)d later, in the order
    /// of the requests.
    pub fn send<C: Call>(&mut self, request: &C, version: i16) -> Result<()> {
        self.send_unanswered(request, version)?;
        self.unanswered.push_back(self.last_correlation_id);
        Ok(())
    }

    /// Sends a request that has no reply: a Produce with `acks` 0.
    pub fn send_unanswered<C: Call>(&mut self, request: &C, version: i16) -> Result<()> {
        self.last_correlation_id = self.last_correlation_id.wrapping_add(1);
        let frame = encode_frame(request, version, self.last_correlation_id, &self.client_id)?;
        let mut parts = frame.parts.iter();
        let written = parts.try_for_each(|part| self.stream.write_all(part));
        written.map_err(|error| self.lost(C::api().name, error))
    }

    /// Waits for the reply to the oldest request without one; `C` and `version` must be those with
    /// which it was sent.
    pub fn receive<C: Call>(&mut self, version: i16) -> Result<C::Response<'_>> {
        let api = C::api().name;
        self.reply = self.receive_reply(api)?;
        decode::<C>(&self.reply, version).map_err(|why| {
            self.broken = true;
            let address = self.address.clone();
            Error::BadReply { address, api, why }
        })
    }

    /// Asks something small. The answer shows that the broker has read all that was sent before.
    pub fn round_trip(&mut self) -> Result<()> {
        self.negotiate()
    }

    fn negotiate(&mut self) -> Result<()> {
        let newest = api_versions::Request::api().max_version;
        let (mut code, mut served) = self.api_versions(newest)?;
        if code == ErrorCode::UnsupportedVersion {
            let key = ApiKey::ApiVersions.code();
            let listed = served.iter().find(|api| api.api_key == key);
            let version = listed.map_or(0, |api| api.max_version.clamp(0, newest - 1));
            (code, served) = self.api_versions(version)?;
        }
        check(code, "ApiVersions")?;
        self.versions = served
            .iter()
            .map(|api| (api.api_key, (api.min_version, api.max_version)))
            .collect();
        Ok(())
    }

    fn api_versions(&mut self, version: i16) -> Result<(ErrorCode, Vec<ApiVersion>)> {
        let request = api_versions::Request {
            client_software_name: CLIENT_ID,
            client_software_version: env!("CARGO_PKG_VERSION"),
        };
        self.send(&request, version)?;
        let reply = self.receive_reply("ApiVersions")?;
        // A broker that does not know the version says so in a reply of version 0.
        let refused = ErrorCode::UnsupportedVersion.code().to_be_bytes();
        let is_refused = reply[size_of::<i32>()..].starts_with(&refused);
        let version = if is_refused { 0 } else { version };
        match decode::<api_versions::Request>(&reply, version) {
            Ok(response) => Ok((response.error_code, response.api_keys)),
            Err(why) => Err(self.bad_reply("ApiVersions", why)),
        }
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
            _ => Err(self.bad_reply(api, format!("it answers request {id} out of order"))),
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
pub fn encode_frame<C: Call>(
    request: &C,
    version: i16,
    correlation_id: i32,
    client_id: &str,
) -> Result<wire::Reply> {
    let api = C::api();
    // The client id is never compact.
    let mut writer = Writer::frame(false);
    writer.i16(api.key.code());
    writer.i16(version);
    writer.i32(correlation_id);
    writer.string(client_id);
    writer.set_flexible(api.is_flexible(version));
    writer.no_tagged_fields();
    request.encode(&mut writer, version);
    writer.finish_uncut().map_err(|error| Error::BadRequest {
        api: api.name,
        version,
        why: error.to_string(),
    })
}

/// The response in `reply`, a frame without its size; else why it cannot be used.
pub fn decode<C: Call>(
    reply: &Bytes,
    version: i16,
) -> std::result::Result<C::Response<'_>, String> {
    let api = C::api();
    let read = || {
        let mut reader = Reader::of_reply(reply, api.response_header_is_flexible(version));
        reader.i32()?;
        reader.skip_tagged_fields()?;
        reader.set_flexible(api.is_flexible(version));
        Ok((
            C::Response::decode(&mut reader, version)?,
            reader.remaining(),
        ))
    };
    match read() {
        Ok((response, 0)) => Ok(response),
        Ok((_, left)) => Err(format!("{left} bytes are left over")),
        Err::<_, wire::WireError>(error) => Err(error.to_string()),
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
