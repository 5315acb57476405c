//! Holds a broker that has come back against everything that was promised.

use crate::ledger::Found;
use crate::model::{Model, Topic, TopicState, add, lock};
use crate::record;
use crate::requests::{self, NONE, OFFSET_OUT_OF_RANGE};
use crate::violation::{Violation, violated};
use crate::wire::Wire;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;

/// Checks everything, after the cut of the power of this number or, without one, after anything
/// else. From then on what was found is what is known.
pub fn check(model: &Model, broker: SocketAddr, cut: Option<u64>) -> Result<(), Violation> {
    let wire = &mut Wire::connect(broker).map_err(failed)?;
    check_catalog(model, wire, cut)?;
    check_topics(model, wire, cut)?;
    model.clock.forget_latest();
    check_commits(model, wire, cut)
}

fn check_topics(model: &Model, wire: &mut Wire, cut: Option<u64>) -> Result<(), Violation> {
    for topic in model.topics() {
        for index in 0..topic.ledgers().len() as i32 {
            let at = format!("{}-{index} ({:?})", topic.name, topic.upkeep);
            let checked = check_partition(model, wire, &topic, index, cut);
            checked.map_err(|violation| violation.at(at))?;
        }
    }
    Ok(())
}

/// Reads a whole partition and holds it against what is known.
pub fn check_partition(
    model: &Model,
    wire: &mut Wire,
    topic: &Topic,
    index: i32,
    cut: Option<u64>,
) -> Result<(), Violation> {
    let Some(ledger) = topic.ledger(index) else {
        return Ok(());
    };
    let mut found = read(wire, topic, index)?;
    found.now_ms = model.clock.latest_ms();
    model.clock.check(&found.batches)?;
    lock(&ledger).check(&found, cut)?;
    let records = found.batches.iter().map(|batch| batch.records.len() as u64);
    add(&model.tally.checked, records.sum());
    Ok(())
}

/// The topics that may be there are, and no others. Forgets those that are gone.
pub fn check_catalog(model: &Model, wire: &mut Wire, cut: Option<u64>) -> Result<(), Violation> {
    let found = found_topics(wire).map_err(failed)?;
    let mut catalog = lock(&model.catalog);
    if let Some(name) = found.keys().find(|name| !catalog.contains_key(*name)) {
        violated!(Catalog, "there is a topic `{name}` that nobody created");
    }
    for (name, history) in catalog.iter_mut() {
        let state = found.get(name);
        if !history
            .allowed(cut)
            .any(|allowed| allowed.as_ref() == state)
        {
            let allowed: Vec<_> = history.allowed(cut).collect();
            violated!(
                Catalog,
                "topic `{name}` is {state:?}; it may be {allowed:?}"
            );
        }
        history.settle(state.cloned());
        match state {
            None => model.forget(name),
            Some(state) => settle_topic(model, name, state),
        }
    }
    catalog.retain(|_, history| history.newest().is_some());
    Ok(())
}

fn settle_topic(model: &Model, name: &str, state: &TopicState) {
    if let Some(topic) = lock(&model.topics).get(name) {
        topic.grow(state.partitions);
        topic.shrink(state.partitions);
        topic
            .doomed
            .store(false, std::sync::atomic::Ordering::SeqCst);
    }
}

fn found_topics(wire: &mut Wire) -> io::Result<BTreeMap<String, TopicState>> {
    let partitions = requests::topics(wire)?;
    let names: Vec<&String> = partitions.keys().collect();
    let mut configs = requests::configs(wire, &names)?;
    let state = |(name, partitions)| {
        let configs = configs.remove(&name).unwrap_or_default();
        let state = TopicState {
            partitions,
            configs,
        };
        (name, state)
    };
    Ok(partitions.into_iter().map(state).collect())
}

/// Reads a whole partition. Retention may move its start meanwhile: then once more.
fn read(wire: &mut Wire, topic: &Topic, index: i32) -> Result<Found, Violation> {
    for _ in 0..1000 {
        let start = offset(wire, topic, index, false)?;
        if let Some(found) = read_from(wire, topic, index, start)?
            && offset(wire, topic, index, false)? == start
        {
            return Ok(found);
        }
    }
    violated!(Start, "the log start offset does not come to rest");
}

/// `None` if the log starts later meanwhile.
fn read_from(
    wire: &mut Wire,
    topic: &Topic,
    index: i32,
    start: i64,
) -> Result<Option<Found>, Violation> {
    let end = offset(wire, topic, index, true)?;
    let mut found = Found {
        start,
        end,
        batches: Vec::new(),
        now_ms: 0,
    };
    let mut next = start;
    while next < end {
        let request = requests::fetch(&[(&topic.name, index, next)], 0);
        let response = wire.call(&request, requests::FETCH).map_err(failed)?;
        let data = &response.responses[0].partitions[0];
        match data.error_code {
            NONE => {}
            OFFSET_OUT_OF_RANGE if topic.upkeep.moves_start() => return Ok(None),
            error => violated!(
                Broker,
                "a fetch from offset {next} (of {start} to {end}) is answered with error {error}"
            ),
        }
        let records = data.records.clone().unwrap_or_default();
        let batches = record::decode((&topic.name, index), records)
            .or_else(|what| violated!(Changed, "{what}"))?;
        let Some(last) = batches.last() else {
            violated!(
                Gap,
                "a fetch from offset {next} brings nothing; the log ends at {end}"
            );
        };
        if last.last < next {
            let last = last.last;
            violated!(
                Gap,
                "a fetch from offset {next} brings batches up to offset {last}"
            );
        }
        next = last.last + 1;
        found.batches.extend(batches);
    }
    Ok(Some(found))
}

/// The log start offset or, with `end`, the high watermark.
pub fn offset(wire: &mut Wire, topic: &Topic, index: i32, end: bool) -> Result<i64, Violation> {
    match requests::list_offset(wire, &topic.name, index, end).map_err(failed)? {
        Ok(offset) => Ok(offset),
        Err(error) => violated!(Broker, "ListOffsets is answered with error {error}"),
    }
}

/// Every committed offset is the last that was acknowledged, or one that was sent after it.
pub fn check_commits(model: &Model, wire: &mut Wire, cut: Option<u64>) -> Result<(), Violation> {
    let mut commits = lock(&model.commits);
    let groups: BTreeSet<String> = commits.keys().map(|(group, _, _)| group.clone()).collect();
    for group in groups {
        let found = requests::committed(wire, &group).map_err(failed)?;
        let mut found = found.or_else(|error| {
            violated!(
                Broker,
                "OffsetFetch of `{group}` is answered with error {error}"
            )
        })?;
        let own = commits.iter_mut().filter(|((of, _, _), _)| *of == group);
        for ((_, topic, partition), history) in own {
            let place = (topic.clone(), *partition);
            let (offset, metadata) = found.remove(&place).unwrap_or((-1, String::new()));
            if !history.allowed(cut).any(|allowed| *allowed == offset) {
                let allowed: Vec<&i64> = history.allowed(cut).collect();
                violated!(
                    Commit,
                    "group `{group}` has committed {offset} of {topic}-{partition}; \
                     it may be {allowed:?}"
                );
            }
            if offset >= 0 && metadata != requests::note(offset) {
                violated!(
                    Commit,
                    "offset {offset} of `{group}` has the note `{metadata}`"
                );
            }
            history.settle(offset);
        }
        if let Some(((topic, partition), (offset, _))) = found.pop_first() {
            violated!(
                Commit,
                "group `{group}` has offset {offset} of {topic}-{partition}, which nobody committed"
            );
        }
    }
    Ok(())
}

fn failed(error: io::Error) -> Violation {
    let kind = crate::violation::Kind::Broker;
    Violation::new(kind, format!("no answer to a check: {error}"))
}
