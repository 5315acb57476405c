//! JSON that a payload becomes, within bounds: a payload of few bytes may stand for very much.

use std::io::{self, Write};

/// What is allowed whatever the payload has, and for each of its bytes: names of fields come from the schema.
const JSON_BYTES_BASE: usize = 1 << 20;
const JSON_BYTES_FACTOR: usize = 64;

/// Memory to write to, up to a limit.
pub struct Bounded {
    out: Vec<u8>,
    limit: usize,
}

impl Bounded {
    /// For the JSON of a payload of so many bytes.
    pub fn of_payload(bytes: usize) -> Bounded {
        Bounded {
            out: Vec::new(),
            limit: JSON_BYTES_BASE.saturating_add(bytes.saturating_mul(JSON_BYTES_FACTOR)),
        }
    }

    pub fn into_inner(self) -> Vec<u8> {
        self.out
    }
}

impl Write for Bounded {
    /// # Errors
    /// For more than the limit.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.out.len() + bytes.len() > self.limit {
            let why = format!("its JSON would have more than {} bytes", self.limit);
            return Err(io::Error::other(why));
        }
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
