//! Changes topics while the load runs: small ones that come and go, and those that records are
//! sent to.

use super::{Context, End};
use crate::checker;
use crate::history::History;
use crate::ledger::Upkeep;
use crate::model::{Model, Topic, TopicState, add, lock};
use crate::requests::{self, Configs, NONE};
use crate::rng::Rng;
use crate::wire::Wire;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const NAMES: usize = 6;
const PARTITIONS_MAX: i32 = 6;
const PAUSE: Duration = Duration::from_millis(30);
/// One change in so many deletes a topic that records are being sent to.
const DELETE_IN: usize = 150;

#[derive(Default)]
pub struct Admin {
    /// Deleted while the disk was full: the broker may give their names free only when it starts.
    not_free: HashSet<String>,
}

impl Admin {
    pub fn run(&mut self, context: &Context, rng: &mut Rng) -> Result<(), End> {
        let mut wire = Wire::connect(context.broker)?;
        let model = &context.model;
        if model.medium_has_failed() {
            // What was refused may be in force from the next start on.
            return Ok(());
        }
        match model.may_refuse() {
            // What was refused may have been done.
            true => checker::check_catalog(model, &mut wire, None)?,
            false => self.not_free.clear(),
        }
        while !model.is_resting() {
            std::thread::sleep(rng.time(PAUSE));
            match rng.below(4) {
                0 => trim(model, &mut wire, rng)?,
                1 => alter_load(model, &mut wire, rng)?,
                _ => self.change_small(model, &mut wire, rng)?,
            }
            if rng.one_in(DELETE_IN) {
                delete_load(model, &mut wire, rng)?;
            }
        }
        Ok(())
    }

    /// Creates, changes or deletes one of the small topics.
    fn change_small(&mut self, model: &Model, wire: &mut Wire, rng: &mut Rng) -> Result<(), End> {
        let name = format!("small-{}", rng.below(NAMES));
        let before = newest(model, &name);
        let Some(mut state) = before else {
            if self.not_free.contains(&name) {
                return Ok(());
            }
            let partitions = 1 + rng.below(3) as i32;
            let retention_ms = rng.between(1_000_000..2_000_000).to_string();
            let configs: Configs = BTreeMap::from([("retention.ms".to_owned(), retention_ms)]);
            let state = TopicState {
                partitions,
                configs: configs.clone(),
            };
            return change(model, &name, Some(state), "CreateTopics", || {
                requests::create_topic(wire, &name, partitions, &configs)
            });
        };
        match rng.below(3) {
            0 => {
                let deleted = change(model, &name, None, "DeleteTopics", || {
                    requests::delete_topic(wire, &name)
                });
                if model.may_refuse() {
                    self.not_free.insert(name);
                }
                deleted
            }
            1 if state.partitions < PARTITIONS_MAX => {
                state.partitions += 1;
                let count = state.partitions;
                change(model, &name, Some(state), "CreatePartitions", || {
                    requests::set_partitions(wire, &name, count)
                })
            }
            _ => set_config(model, wire, &name, state, "retention.ms", millions(rng)),
        }
    }
}

/// Adds a partition to a topic under load, or changes a config of it that changes nothing of what
/// must be there.
fn alter_load(model: &Model, wire: &mut Wire, rng: &mut Rng) -> Result<(), End> {
    let Some((topic, state)) = pick(model, rng, |_| true) else {
        return Ok(());
    };
    if rng.one_in(4) && state.partitions < PARTITIONS_MAX {
        return grow_load(model, wire, &topic, state);
    }
    let (name, value) = draw_config(topic.upkeep, rng);
    set_config(model, wire, &topic.name, state, name, value)
}

fn grow_load(
    model: &Model,
    wire: &mut Wire,
    topic: &Topic,
    mut state: TopicState,
) -> Result<(), End> {
    state.partitions += 1;
    let count = state.partitions;
    change(model, &topic.name, Some(state), "CreatePartitions", || {
        requests::set_partitions(wire, &topic.name, count)
    })?;
    // From now on it is produced to and read.
    topic.grow(count);
    Ok(())
}

fn draw_config(upkeep: Upkeep, rng: &mut Rng) -> (&'static str, String) {
    let mut configs = vec![
        ("max.message.bytes", millions(rng)),
        ("segment.ms", rng.pick(&[40, 150, 600, 10_000]).to_string()),
        (
            "index.interval.bytes",
            rng.pick(&[0, 512, 4096]).to_string(),
        ),
    ];
    let by = rng.pick(&["CreateTime", "LogAppendTime"]).to_string();
    configs.push(("message.timestamp.type", by));
    if let Some(ms) = upkeep.expires_ms() {
        let longer = rng.pick(&[ms, 2 * ms, -1]).to_string();
        configs.push(("retention.ms", longer));
    }
    if let Upkeep::Compact { expires_ms, .. } = upkeep {
        let dirty = rng.pick(&["0.0", "0.1", "0.5"]).to_string();
        configs.push(("min.cleanable.dirty.ratio", dirty));
        let policies: &[&str] = match expires_ms {
            Some(_) => &["compact", "compact,delete", "delete"],
            None => &["compact", "delete"],
        };
        configs.push(("cleanup.policy", rng.pick(policies).to_string()));
    }
    let at = rng.below(configs.len());
    configs.swap_remove(at)
}

fn millions(rng: &mut Rng) -> String {
    rng.between(1_000_000..2_000_000).to_string()
}

fn set_config(
    model: &Model,
    wire: &mut Wire,
    topic: &str,
    mut state: TopicState,
    name: &str,
    value: String,
) -> Result<(), End> {
    state.configs.insert(name.to_owned(), value.clone());
    change(model, topic, Some(state), "IncrementalAlterConfigs", || {
        requests::set_config(wire, topic, name, &value)
    })
}

fn delete_load(model: &Model, wire: &mut Wire, rng: &mut Rng) -> Result<(), End> {
    let Some((topic, _)) = pick(model, rng, |_| true) else {
        return Ok(());
    };
    topic.doomed.store(true, Ordering::SeqCst);
    change(model, &topic.name, None, "DeleteTopics", || {
        requests::delete_topic(wire, &topic.name)
    })
}

/// Deletes records below an offset that somebody has read.
fn trim(model: &Model, wire: &mut Wire, rng: &mut Rng) -> Result<(), End> {
    let Some((topic, _)) = pick(model, rng, |topic| topic.upkeep == Upkeep::Trim) else {
        return Ok(());
    };
    let ledgers = topic.ledgers();
    let index = rng.below(ledgers.len());
    let ledger = &ledgers[index];
    let offset = {
        let mut ledger = lock(ledger);
        let (start, end) = (*ledger.starts.newest(), ledger.seen_end());
        if end <= start {
            return Ok(());
        }
        let offset = start + 1 + rng.below((end - start) as usize) as i64;
        ledger.starts.asked(offset);
        offset
    };
    let error = requests::delete_records(wire, &topic.name, index as i32, offset)?;
    if error != NONE {
        return Err(refused("DeleteRecords", &topic.name, error));
    }
    lock(ledger).starts.answered(&offset, model.cuts());
    Ok(())
}

/// A topic under load that is there.
fn pick(
    model: &Model,
    rng: &mut Rng,
    wanted: impl Fn(&Topic) -> bool,
) -> Option<(Arc<Topic>, TopicState)> {
    let mut topics = model.topics();
    topics.retain(|topic| wanted(topic) && !topic.apart && !topic.doomed.load(Ordering::SeqCst));
    if topics.is_empty() {
        return None;
    }
    let topic = topics.swap_remove(rng.below(topics.len()));
    let state = newest(model, &topic.name)?;
    Some((topic, state))
}

fn newest(model: &Model, name: &str) -> Option<TopicState> {
    let catalog = lock(&model.catalog);
    catalog
        .get(name)
        .and_then(|history| history.newest().clone())
}

/// Asks for a change of the catalog, and takes note of the answer.
pub fn change(
    model: &Model,
    name: &str,
    to: Option<TopicState>,
    api: &str,
    ask: impl FnOnce() -> std::io::Result<i16>,
) -> Result<(), End> {
    {
        let mut catalog = lock(&model.catalog);
        let history = catalog
            .entry(name.to_owned())
            .or_insert_with(|| History::new(None));
        history.asked(to.clone());
    }
    let error = ask()?;
    if error != NONE {
        return Err(refused(api, name, error));
    }
    add(&model.tally.catalog_changes, 1);
    let cuts = model.cuts();
    if let Some(history) = lock(&model.catalog).get_mut(name) {
        history.answered(&to, cuts);
    }
    Ok(())
}

fn refused(api: &str, topic: &str, error: i16) -> End {
    End::Refused(error, format!("{api} of `{topic}`"))
}
