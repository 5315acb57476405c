//! A server that reads Produce requests, looks at nothing, and answers: what a client can do at most.

use super::frames::{CLIENT_ID, answer};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

const READ_BYTES: usize = 1 << 20;
/// The head of a request, as `frames` makes it: enough to know its correlation id and acks.
const HEAD_BYTES: usize = 64;
const CORRELATION_AT: usize = 4;
/// Behind client_id and a null transactional_id.
const ACKS_AT: usize = 8 + 2 + CLIENT_ID.len() + 2;

/// Starts one on a free port of the loopback interface, which ends with the process. Returns its address.
pub fn start() -> io::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    thread::Builder::new()
        .name("sink".to_owned())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                // Where one fails, its client sees that it is closed.
                let _ = thread::Builder::new()
                    .name("sink".to_owned())
                    .spawn(move || serve(stream));
            }
        })?;
    Ok(address)
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
