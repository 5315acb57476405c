//! Which bytes of a device a file lies on (FIEMAP).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::path::Path;

/// `_IOWR('f', 11, struct fiemap)`; libc does not name it.
const FS_IOC_FIEMAP: libc::c_ulong = 0xc020_660b;
const LAST: u32 = 0x1;
/// UNKNOWN, DELALLOC, NOT_ALIGNED: there is no place on the device (yet), or one that is shared.
const ELSEWHERE: u32 = 0x2 | 0x4 | 0x100;
const EXTENTS_AT_ONCE: usize = 64;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Extent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

#[repr(C)]
struct Request {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [Extent; EXTENTS_AT_ONCE],
}

/// Where a file lies, space that is only reserved included.
pub fn of(path: &Path) -> io::Result<Vec<Range<u64>>> {
    let file = File::open(path)?;
    let mut found = Vec::new();
    let mut start = 0;
    loop {
        let extents = from(&file, start)?;
        let here = extents
            .iter()
            .filter(|extent| extent.flags & ELSEWHERE == 0);
        found.extend(here.map(|extent| extent.physical..extent.physical + extent.length));
        match extents.last() {
            Some(last) if last.flags & LAST == 0 => start = last.logical + last.length,
            _ => return Ok(found),
        }
    }
}

fn from(file: &File, start: u64) -> io::Result<Vec<Extent>> {
    let mut request = Request {
        start,
        length: u64::MAX - start,
        flags: 0,
        mapped: 0,
        count: EXTENTS_AT_ONCE as u32,
        reserved: 0,
        extents: [Extent::default(); EXTENTS_AT_ONCE],
    };
    // SAFETY: the descriptor is open for as long as `file` lives. `request` is what FS_IOC_FIEMAP asks
    // for, with room for as many extents as `count` says, and outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP, &mut request) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(request.extents[..request.mapped as usize].to_vec())
}
