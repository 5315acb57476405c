//! A consumer without a group: reads from anywhere to the end, and waits there.

use super::consumer::{Position, poll};
use super::session::Session;
use super::{Context, End};
use crate::model::lock;
use crate::requests::FETCH;
use crate::rng::Rng;
use crate::wire::Wire;
use std::sync::Arc;

const PARTITIONS_MAX: usize = 6;
const POLLS_MAX: usize = 20;

pub struct Reader;

impl Reader {
    pub fn run(context: &Context, rng: &mut Rng) -> Result<(), End> {
        let mut wire = Wire::connect(context.broker)?;
        while !context.model.is_resting() {
            let mut positions = draw(context, rng);
            let mut session = Session::draw(rng);
            for _ in 0..=rng.below(POLLS_MAX) {
                if positions.is_empty() {
                    break;
                }
                let max_wait_ms = rng.between(0..50) as i32;
                poll(
                    context,
                    &mut wire,
                    &mut session,
                    &mut positions,
                    max_wait_ms,
                )?;
            }
            if positions.is_empty() {
                return Ok(());
            }
            if let Some(end) = session.end().filter(|_| rng.one_in(2)) {
                wire.call(&end, FETCH)?;
            }
        }
        Ok(())
    }
}

/// Some partitions, each from an offset that is known to be there, or the end.
fn draw(context: &Context, rng: &mut Rng) -> Vec<Position> {
    let mut all = Vec::new();
    for topic in context.model.topics() {
        for (index, ledger) in (0..).zip(topic.ledgers()) {
            // What is known otherwise may not be durable yet, and then it is out of range.
            let end = lock(&ledger).seen_end();
            all.push((Arc::clone(&topic), index, end));
        }
    }
    let mut positions = Vec::new();
    while positions.len() < PARTITIONS_MAX && !all.is_empty() {
        let (topic, index, end) = all.swap_remove(rng.below(all.len()));
        positions.extend(Position::new(&topic, index, rng.between(0..end + 1)));
    }
    positions
}
