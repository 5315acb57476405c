//! Range: Kafka's first assignor, which every consumer knows. Each topic's partitions, in their order, go to those who
//! want the topic in equal parts, the first ones having one more.

use crate::coordinator::groups::classic::messages::JoinedMember;
use crate::coordinator::groups::consumer_protocol::{
    Assignment, TopicPartitions, decode_subscription, encode_assignment,
};
use crate::engine::Engine;
use crate::io::reactor::Slice;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Its name in the protocol.
pub const NAME: &str = "range";

/// What each member gets, by its id.
pub async fn assign(engine: &Engine, members: &[JoinedMember]) -> Vec<(String, Bytes)> {
    let mut slice = Slice::new();
    // By topic, in the order of what members are called.
    let mut wanting: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_by_key(|place| {
        let member = &members[*place];
        member.instance_id.as_deref().unwrap_or(&member.member_id)
    });
    for place in order {
        let Ok(subscription) = decode_subscription(&members[place].metadata) else {
            continue;
        };
        for topic in subscription.topics {
            let wanting = wanting.entry(topic).or_default();
            if wanting.last() != Some(&place) {
                wanting.push(place);
            }
            slice.rest().await;
        }
    }
    let mut parts: Vec<Vec<TopicPartitions<'_>>> = vec![Vec::new(); members.len()];
    for (name, wanting) in wanting {
        let Some(topic) = engine.topic(name) else {
            continue;
        };
        for (place, share) in wanting.iter().zip(shares(topic.partitions, wanting.len())) {
            if !share.is_empty() {
                parts[*place].push(TopicPartitions {
                    topic: name,
                    partitions: share.map(|index| index as i32).collect(),
                });
            }
            slice.rest().await;
        }
    }
    let mut assigned = Vec::with_capacity(members.len());
    for (member, parts) in members.iter().zip(parts) {
        let assignment = Assignment {
            assigned_partitions: parts,
            user_data: None,
        };
        // Its names are those of topics, none of which is too long.
        let assignment = encode_assignment(&assignment).unwrap_or_default();
        assigned.push((member.member_id.clone(), assignment));
        slice.rest().await;
    }
    assigned
}

/// The parts of so many partitions for so many members.
fn shares(partitions: u32, members: usize) -> impl Iterator<Item = std::ops::Range<u32>> {
    let members = members as u32;
    let (each, more) = (partitions / members.max(1), partitions % members.max(1));
    let mut next = 0;
    (0..members).map(move |place| {
        let begin = next;
        next += each + u32::from(place < more);
        begin..next
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_go_in_equal_parts() {
        let parts = |partitions, members| shares(partitions, members).collect::<Vec<_>>();
        assert_eq!(parts(7, 3), [0..3, 3..5, 5..7]);
        assert_eq!(parts(1, 2), [0..1, 1..1]);
        assert!(parts(3, 0).is_empty());
    }
}
