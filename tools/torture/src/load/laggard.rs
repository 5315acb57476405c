//! A consumer that takes its time with a large reply, while what it reads is deleted and written over.

use super::consumer::{Position, poll};
use super::session::Session;
use super::{Context, End};
use crate::ledger::Upkeep;
use crate::model::Topic;
use crate::requests;
use crate::rng::Rng;
use crate::wire::Wire;
use std::sync::Arc;
use std::time::Duration;

/// How long it lets a reply wait.
const LAG_MAX: Duration = Duration::from_millis(300);

pub struct Laggard;

impl Laggard {
    /// Reads one partition from its start, again and again: the segment that retention takes next.
    pub fn run(context: &Context, rng: &mut Rng) -> Result<(), End> {
        let mut asking = Wire::connect(context.broker)?;
        while !context.model.is_resting() {
            let Some(position) = draw(context, &mut asking, rng)? else {
                return Ok(());
            };
            // Of one that has taken much the kernel keeps more and more.
            let mut wire = Wire::connect_slowly(context.broker, rng.time(LAG_MAX))?;
            poll(
                context,
                &mut wire,
                &mut Session::none(),
                &mut vec![position],
                0,
            )?;
        }
        Ok(())
    }
}

/// The start of a partition whose old segments go; of the one with the largest records, if there are
/// several: there segments fill up.
fn draw(context: &Context, asking: &mut Wire, rng: &mut Rng) -> Result<Option<Position>, End> {
    let mut topics = context.model.topics();
    topics.retain(|topic| matches!(topic.upkeep, Upkeep::Retain { .. }));
    let Some(topic) = topics
        .iter()
        .max_by_key(|topic| topic.shape.value_bytes_max)
    else {
        return Ok(None);
    };
    let index = rng.below(topic.ledgers().len()) as i32;
    let start = start_of(asking, topic, index)?;
    Ok(start.and_then(|start| Position::new(topic, index, start)))
}

/// `None` where it is not told: other workers complain about that.
fn start_of(asking: &mut Wire, topic: &Arc<Topic>, index: i32) -> Result<Option<i64>, End> {
    let found = requests::list_offset(asking, &topic.name, index, false)?;
    Ok(found.ok())
}
