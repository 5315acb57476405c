//! A server that reads Produce requests, looks at nothing, and answers: what a client can do at most.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use super::frames::CLIENT_ID;

const READ_BYTES: usize = 1 << 20;
/// The head of a request, as `frames` makes it: enough to know its correlation id and acks.
const HEAD_BYTES: usize = 64;
const CORRELATION_AT: usize = 4;
/// Behind client_id and a null transactional_id.
const ACKS_AT: usize = 8 + 2 + CLIENT_ID.len() + 2;

/// A running sink; it ends with the process.
pub struct Sink {
    address: SocketAddr,
}

impl Sink {
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

/// Starts one on a free port of the loopback interface.
pub fn start() -> io::Result<Sink> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::Builder::new()
        .name("sink".to_owned())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                // A connection that fails has nobody to tell but its client, who sees it closed.
                let _ = thread::Builder::new()
                    .name("sink".to_owned())
                    .spawn(move || serve(stream));
            }
        })?;
    Ok(Sink { address })
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let mut size = [0; 4];
        stream.read_exact(&mut size)?;
        let size = i32::from_be_bytes(size).max(0) as usize;
        let head = size.min(HEAD_BYTES);
        stream.read_exact(&mut buffer[..head])?;
        let is_answered = buffer[ACKS_AT..ACKS_AT + 2] != [0, 0];
        let correlation_id: [u8; 4] = buffer[CORRELATION_AT..CORRELATION_AT + 4]
            .try_into()
            .expect("four");
        let mut left = size - head;
        while left > 0 {
            let most = left.min(READ_BYTES);
            left -= stream.read(&mut buffer[..most])?;
        }
        if is_answered {
            stream.write_all(&answer(correlation_id))?;
        }
    }
}

/// A Produce reply (version 7) of one partition without an error.
fn answer(correlation_id: [u8; 4]) -> Vec<u8> {
    let mut reply = Vec::with_capacity(64);
    reply.extend_from_slice(&correlation_id);
    reply.extend_from_slice(&1i32.to_be_bytes());
    reply.extend_from_slice(&0i16.to_be_bytes());
    reply.extend_from_slice(&1i32.to_be_bytes());
    reply.extend_from_slice(&[0; 4 + 2 + 8 + 8 + 8 + 4]);
    let mut frame = (reply.len() as i32).to_be_bytes().to_vec();
    frame.extend_from_slice(&reply);
    frame
}
