//! Topics and partitions, in memory but for the batches' bytes.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use crate::segment::{Copy, Segment};

/// How many of the last batches of a partition can be read.
const READABLE_MAX: usize = 4096;

/// All there is.
#[derive(Debug, Default)]
pub struct Topics(Vec<Topic>);

/// A name and its partitions.
#[derive(Debug)]
pub struct Topic {
    pub name: String,
    pub partitions: Vec<Rc<RefCell<Partition>>>,
}

impl Topics {
    pub fn find(&self, name: &str) -> Option<&Topic> {
        self.0.iter().find(|topic| topic.name == name)
    }

    pub fn partition(&self, topic: &str, index: i32) -> Option<&Rc<RefCell<Partition>>> {
        self.find(topic)?
            .partitions
            .get(usize::try_from(index).ok()?)
    }

    pub fn all(&self) -> &[Topic] {
        &self.0
    }

    pub fn add(&mut self, name: &str, partitions: Vec<Partition>) {
        let partitions = partitions
            .into_iter()
            .map(|p| Rc::new(RefCell::new(p)))
            .collect();
        self.0.push(Topic {
            name: name.to_owned(),
            partitions,
        });
    }

    /// Whether there was one of this name.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|topic| topic.name != name);
        self.0.len() < before
    }
}

/// One partition.
#[derive(Debug)]
pub struct Partition {
    /// The offset after the last batch.
    pub end: i64,
    /// The offset up to which consumers read.
    pub high_watermark: i64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Ring(Ring),
    Fixed(Rc<Fixed>),
}

/// Segments that are written over and over.
#[derive(Debug)]
struct Ring {
    segments: Vec<Arc<Segment>>,
    current: usize,
    position: u64,
    readable: VecDeque<Stored>,
}

/// A batch that can be read.
#[derive(Clone, Copy, Debug)]
struct Stored {
    base_offset: i64,
    next_offset: i64,
    place: Place,
}

/// Where bytes lie.
#[derive(Clone, Copy, Debug)]
struct Place {
    segment: usize,
    position: u64,
    bytes: usize,
}

/// A file of batches that are all alike, so that an offset's position is arithmetic.
#[derive(Debug)]
pub struct Fixed {
    pub segment: Arc<Segment>,
    pub batch_bytes: usize,
    pub batch_records: i64,
    pub batches: i64,
}

/// A part of a segment.
#[derive(Clone, Debug)]
pub struct Slice {
    pub segment: Arc<Segment>,
    pub position: u64,
    pub bytes: usize,
}

/// Room for a batch in a partition's file.
#[derive(Debug)]
pub struct Room {
    pub segment: Arc<Segment>,
    pub position: u64,
    number: usize,
}

/// How much of the disk a partition may use.
#[derive(Clone, Debug)]
pub struct Space {
    pub dir: PathBuf,
    pub segment_bytes: u64,
    pub partition_bytes: u64,
    pub copy: Copy,
}

impl Partition {
    /// An empty one, with all the files that it will ever have. `id` names them.
    pub fn new(id: u64, space: &Space) -> anyhow::Result<Partition> {
        let each = space.segment_bytes.min(space.partition_bytes);
        let segments = (0..(space.partition_bytes / each).max(1)).map(|number| {
            let path = space
                .dir
                .join(format!("millstream-floor-{id}-{number}.log"));
            Segment::create(path, each, space.copy).map(Arc::new)
        });
        let ring = Ring {
            segments: segments.collect::<anyhow::Result<_>>()?,
            current: 0,
            position: 0,
            readable: VecDeque::with_capacity(READABLE_MAX),
        };
        Ok(Partition {
            end: 0,
            high_watermark: 0,
            content: Content::Ring(ring),
        })
    }

    /// One that has the batches of a file, which others may have too.
    pub fn of(fixed: &Rc<Fixed>) -> Partition {
        let end = fixed.batches * fixed.batch_records;
        Partition {
            end,
            high_watermark: end,
            content: Content::Fixed(Rc::clone(fixed)),
        }
    }

    /// The first offset that can be read.
    pub fn start(&self) -> i64 {
        match &self.content {
            Content::Ring(ring) => ring
                .readable
                .front()
                .map_or(self.end, |batch| batch.base_offset),
            Content::Fixed(_) => 0,
        }
    }

    /// Room for a batch; none if it can never fit, or if nothing can be written here.
    pub fn room(&mut self, bytes: usize) -> Option<Room> {
        match &mut self.content {
            Content::Ring(ring) => ring.room(bytes as u64),
            Content::Fixed(_) => None,
        }
    }

    /// The batch in `room` is whole: it ends at the partition's end now.
    pub fn append(&mut self, room: &Room, bytes: usize, records: i64) {
        let Content::Ring(ring) = &mut self.content else {
            return;
        };
        if ring.readable.len() == READABLE_MAX {
            ring.readable.pop_front();
        }
        let place = Place {
            segment: room.number,
            position: room.position,
            bytes,
        };
        let (base_offset, next_offset) = (self.end, self.end + records);
        ring.readable.push_back(Stored {
            base_offset,
            next_offset,
            place,
        });
        self.end = next_offset;
    }

    /// Whole batches from the one with `offset` on: at least one, if there is any, and no more than
    /// `bytes_max` bytes otherwise. None if the offset is out of range.
    pub fn read(&self, offset: i64, bytes_max: usize) -> Option<Vec<Slice>> {
        if offset == self.high_watermark {
            return Some(Vec::new());
        }
        if offset < self.start() || offset > self.high_watermark {
            return None;
        }
        Some(match &self.content {
            Content::Ring(ring) => ring.read(offset, self.high_watermark, bytes_max),
            Content::Fixed(fixed) => vec![fixed.read(offset, bytes_max)],
        })
    }
}

impl Ring {
    fn room(&mut self, bytes: u64) -> Option<Room> {
        if bytes > self.segments[0].bytes {
            return None;
        }
        if self.position + bytes > self.segments[self.current].bytes {
            // What the last lap has left beyond the position will never be reached.
            self.forget(u64::MAX);
            self.current = (self.current + 1) % self.segments.len();
            self.position = 0;
        }
        self.forget(self.position + bytes);
        let segment = Arc::clone(&self.segments[self.current]);
        let room = Room {
            segment,
            position: self.position,
            number: self.current,
        };
        self.position += bytes;
        Some(room)
    }

    /// Batches of the last lap, from the position up to `end`, are written over now.
    fn forget(&mut self, end: u64) {
        let old = self.position..end;
        let is_gone = |batch: &Stored| {
            batch.place.segment == self.current && old.contains(&batch.place.position)
        };
        while self.readable.front().is_some_and(is_gone) {
            self.readable.pop_front();
        }
    }

    fn read(&self, offset: i64, end: i64, bytes_max: usize) -> Vec<Slice> {
        let first = self
            .readable
            .partition_point(|batch| batch.next_offset <= offset);
        let batches = self.readable.range(first..);
        let mut places: Vec<Place> = Vec::new();
        let mut bytes = 0;
        for batch in batches.take_while(|batch| batch.next_offset <= end) {
            bytes += batch.place.bytes;
            if !places.is_empty() && bytes > bytes_max {
                break;
            }
            match places
                .last_mut()
                .filter(|last| last.is_before(&batch.place))
            {
                Some(last) => last.bytes += batch.place.bytes,
                None => places.push(batch.place),
            }
        }
        let slice = |place: Place| Slice {
            segment: Arc::clone(&self.segments[place.segment]),
            position: place.position,
            bytes: place.bytes,
        };
        places.into_iter().map(slice).collect()
    }
}

impl Place {
    fn is_before(&self, next: &Place) -> bool {
        self.segment == next.segment && self.position + self.bytes as u64 == next.position
    }
}

impl Fixed {
    fn read(&self, offset: i64, bytes_max: usize) -> Slice {
        let first = offset / self.batch_records;
        let fit = (bytes_max / self.batch_bytes).max(1) as i64;
        let batches = fit.min(self.batches - first);
        Slice {
            segment: Arc::clone(&self.segment),
            position: first as u64 * self.batch_bytes as u64,
            bytes: batches as usize * self.batch_bytes,
        }
    }
}
