//! Whatever lies in a partition's directory, opening it never panics, keeps the sound batches at the
//! start of the log, and leaves a log that can be read from end to end, appended to and opened again.
//!
//! Two modes. *Bytes*: the input is cut into the files as it is. *Pieces*: segments are made of sound
//! batches, wrong ones, zeros and noise, so that what lies behind the checksums is reached; here we
//! also know how much must be found again.

#![no_main]

mod disk;
mod drive;

use disk::{Disk, Files};
use libfuzzer_sys::arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Input {
    Bytes {
        log: Vec<u8>,
        second_log: Option<(u16, Vec<u8>)>,
        index: Vec<u8>,
        checkpoint: Option<Vec<u8>>,
    },
    Pieces(Disk),
}

fuzz_target!(|input: Input| {
    let files = match input {
        Input::Bytes {
            log,
            second_log,
            index,
            checkpoint,
        } => Files::from_bytes(log, second_log, index, checkpoint),
        Input::Pieces(disk) => disk.lay_out(),
    };
    drive::recover_read_append_reopen(&files);
});
