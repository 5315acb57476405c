//! What a group still knows after its broker was killed or stopped.

use super::{FLAGS, after_kill_9, broker, broker_with};
use crate::support::group::*;
use crate::support::wire::*;
use crate::support::{Broker, Random, eventually};
use kafka_protocol::messages::*;
use std::sync::atomic::{AtomicI64, Ordering};

const NOT_COORDINATOR: i16 = 16;
const GROUP_MAX_SIZE_REACHED: i16 = 81;

fn offset(partition: i32, offset: i64) -> Committed {
    Committed {
        topic: "t".to_owned(),
        partition,
        offset,
        metadata: String::new(),
    }
}

#[test]
fn a_group_and_its_offsets_outlive_kill_9() {
    let (dir, broker, _wire) = broker();
    let mut members = group_of(broker.kafka, "g", 3);
    assert_eq!(members[1].commit("t", &[(0, 10), (3, 13)]), NONE);
    let address = broker.kafka;
    broker.kill_9();
    let broker = Broker::at(address, dir.path(), &FLAGS);
    let mut wire = Wire::connect(broker.kafka);
    assert_eq!(describe(&mut wire, "g"), ("Stable".to_owned(), 3));
    // Its members go on as if nothing had happened.
    for member in &mut members {
        member.wire = Wire::connect(broker.kafka);
        assert_eq!(member.heartbeat(), NONE);
        assert_eq!(member.sync(&[]).assignment[..], 3_u32.to_be_bytes());
    }
    assert_eq!(members[2].commit("t", &[(3, 14)]), NONE);
    let expected = vec![offset(0, 10), offset(3, 14)];
    assert_eq!(fetch_offsets(&mut wire, "g", None, 9), (NONE, expected));
}

#[test]
fn a_thousand_groups_commit_and_all_is_there_after_kill_9() {
    const GROUPS: i64 = 1000;
    let (dir, broker, mut wire) = broker();
    for number in 0..GROUPS {
        let request = commit(&format!("g{number}"), "t", &[(0, number), (1, number + 1)]);
        wire.send(&request, OFFSET_COMMIT);
    }
    for _ in 0..GROUPS {
        let response = wire.receive::<OffsetCommitRequest>(OFFSET_COMMIT);
        assert_eq!(commit_error(&response), NONE);
    }
    let (_broker, mut wire) = after_kill_9(&dir, broker);
    for number in 0..GROUPS {
        let found = fetch_offsets(&mut wire, &format!("g{number}"), None, OFFSET_FETCH);
        let expected = vec![offset(0, number), offset(1, number + 1)];
        assert_eq!(found, (NONE, expected));
    }
    let listed = wire.call(&ListGroupsRequest::default(), 5);
    assert_eq!(listed.groups.len(), GROUPS as usize);
}

#[test]
fn a_thousand_groups_with_members_are_all_stable_before_and_after_kill_9() {
    const GROUPS: usize = 1000;
    /// The last that does not tell a member its id before it may join.
    const JOIN_AT_ONCE: i16 = 3;
    let (dir, broker, mut wire) = broker();
    let group = |number: usize| format!("g{number}");
    (0..GROUPS).for_each(|number| wire.send(&join(&group(number), ""), JOIN_AT_ONCE));
    let joined: Vec<JoinGroupResponse> = (0..GROUPS)
        .map(|_| wire.receive::<JoinGroupRequest>(JOIN_AT_ONCE))
        .collect();
    let id = |number: usize| joined[number].member_id.as_str();
    for (number, joined) in joined.iter().enumerate() {
        assert_eq!((joined.error_code, joined.generation_id), (NONE, 1));
        let request = sync(&group(number), id(number), 1, &[(id(number), b"mine")]);
        wire.send(&request, SYNC_GROUP);
    }
    for _ in 0..GROUPS {
        let synced = wire.receive::<SyncGroupRequest>(SYNC_GROUP);
        assert_eq!(
            (synced.error_code, &synced.assignment[..]),
            (NONE, &b"mine"[..])
        );
    }
    let all_are_stable = |wire: &mut Wire| {
        let request = ListGroupsRequest::default().with_states_filter(vec![text("Stable")]);
        assert_eq!(wire.call(&request, 5).groups.len(), GROUPS);
        (0..GROUPS).for_each(|number| {
            wire.send(&heartbeat(&group(number), id(number), 1), HEARTBEAT);
        });
        for _ in 0..GROUPS {
            let beat = wire.receive::<HeartbeatRequest>(HEARTBEAT);
            assert_eq!(beat.error_code, NONE);
        }
    };
    all_are_stable(&mut wire);
    let (_broker, mut wire) = after_kill_9(&dir, broker);
    all_are_stable(&mut wire);
}

#[test]
fn kill_9_in_the_middle_of_a_rebalance_leaves_a_group_that_forms_again() {
    let (dir, broker, mut wire) = broker();
    let mut members = group_of(broker.kafka, "g", 2);
    assert_eq!(members[0].commit("t", &[(0, 1)]), NONE);
    let mut third = Member::new(broker.kafka, "g");
    third.get_id();
    third.send_join();
    members[0].await_rebalance();
    assert_eq!(members[0].commit("t", &[(1, 2)]), NONE);
    assert_eq!(describe(&mut wire, "g").0, "PreparingRebalance");
    let generation = members[0].generation;

    let address = broker.kafka;
    broker.kill_9();
    let broker = Broker::at(address, dir.path(), &FLAGS);
    let mut wire = Wire::connect(broker.kafka);
    let expected = vec![offset(0, 1), offset(1, 2)];
    assert_eq!(fetch_offsets(&mut wire, "g", None, 9), (NONE, expected));
    // The newcomer was not yet a member, so it starts over; the others keep their places.
    members.push(Member::new(broker.kafka, "g"));
    for member in &mut members {
        member.wire = Wire::connect(broker.kafka);
    }
    std::thread::scope(|scope| {
        for member in &mut members {
            scope.spawn(|| {
                if !member.id.is_empty() {
                    member.await_rebalance();
                }
                member.settle(3);
            });
        }
    });
    assert!(members[0].generation > generation);
    eventually("it is stable", || {
        describe(&mut wire, "g") == ("Stable".to_owned(), 3)
    });
    assert_eq!(members[0].commit("t", &[(0, 3)]), NONE);
    assert_eq!(committed(&mut wire, "g", "t", 0), 3);
}

#[test]
fn every_commit_that_was_acknowledged_is_there_after_kill_9_at_any_moment() {
    const GROUPS: usize = 4;
    const ROUNDS: i64 = 5;
    let mut random = Random::new();
    let (dir, mut broker, _wire) = broker();
    let acknowledged: [AtomicI64; GROUPS] = [const { AtomicI64::new(-1) }; GROUPS];
    for round in 0..ROUNDS {
        let before: i64 = acknowledged.iter().map(|n| n.load(Ordering::SeqCst)).sum();
        let kill_after = before + 20 + random.below(400) as i64;
        std::thread::scope(|scope| {
            for (number, acknowledged) in acknowledged.iter().enumerate() {
                let mut wire = Wire::connect(broker.kafka);
                scope.spawn(move || commit_until_killed(&mut wire, number, acknowledged));
            }
            eventually("commits are acknowledged", || {
                let count: i64 = acknowledged.iter().map(|n| n.load(Ordering::SeqCst)).sum();
                count >= kill_after
            });
            broker.signal("KILL");
        });
        let wire;
        (broker, wire) = after_kill_9(&dir, broker);
        let mut wire = wire;
        for (number, acknowledged) in acknowledged.iter().enumerate() {
            let found = committed(&mut wire, &format!("g{number}"), "t", 0);
            let last = acknowledged.load(Ordering::SeqCst);
            // The one that was on its way may be there or not.
            assert!(
                found == last || found == last + 1,
                "round {round}: {found} instead of {last}"
            );
            acknowledged.store(found, Ordering::SeqCst);
        }
    }
}

/// Commits one offset after the other and notes the last one that was acknowledged.
fn commit_until_killed(wire: &mut Wire, number: usize, acknowledged: &AtomicI64) {
    use std::io::Write;
    loop {
        let next = acknowledged.load(Ordering::SeqCst) + 1;
        let request = commit(&format!("g{number}"), "t", &[(0, next)]);
        let frame = frame(&request, OFFSET_COMMIT, next as i32);
        if wire.stream().write_all(&frame).is_err() || wire.receive_frame().is_none() {
            return;
        }
        acknowledged.store(next, Ordering::SeqCst);
    }
}

#[test]
fn a_static_member_that_starts_anew_after_kill_9_keeps_its_place() {
    let (dir, broker, _wire) = broker();
    let mut members: Vec<Member> = (0..2).map(|_| Member::new(broker.kafka, "g")).collect();
    for (member, instance) in members.iter_mut().zip(["a", "b"]) {
        member.request.group_instance_id = Some(text(instance));
    }
    settle(&mut members);
    let generation = members[0].generation;
    let (broker, mut wire) = after_kill_9(&dir, broker);
    let mut back = Member::new(broker.kafka, "g");
    back.request.group_instance_id = Some(text("a"));
    back.send_join();
    let joined = back.receive_join();
    assert_eq!(
        (joined.error_code, joined.generation_id),
        (NONE, generation)
    );
    assert_ne!(back.id, members[0].id);
    assert_eq!(back.sync(&[]).assignment[..], 2_u32.to_be_bytes());
    assert_eq!(describe(&mut wire, "g"), ("Stable".to_owned(), 2));
    let (broker, mut wire) = after_kill_9(&dir, broker);
    // Its new id is the one that was stored.
    back.wire = Wire::connect(broker.kafka);
    assert_eq!(back.heartbeat(), NONE);
    assert_eq!(describe(&mut wire, "g"), ("Stable".to_owned(), 2));
}

#[test]
fn a_member_that_does_not_come_back_after_kill_9_is_dropped() {
    let (dir, broker, _wire) = broker();
    let mut members: Vec<Member> = (0..2).map(|_| Member::new(broker.kafka, "g")).collect();
    members[1].request.session_timeout_ms = 5000;
    settle(&mut members);
    let (broker, mut wire) = after_kill_9(&dir, broker);
    let mut left = members.remove(0);
    left.wire = Wire::connect(broker.kafka);
    left.await_rebalance();
    left.settle(1);
    assert_eq!(describe(&mut wire, "g"), ("Stable".to_owned(), 1));
}

#[test]
fn groups_move_when_the_number_of_cores_changes() {
    let (dir, mut broker, mut wire) = broker_with(&["--cores", "1"]);
    for number in 0..20 {
        let group = format!("g{number}");
        wire.call(&commit(&group, "t", &[(0, number)]), OFFSET_COMMIT);
    }
    for cores in ["2", "1"] {
        broker.stop();
        broker = Broker::with(dir.path(), &[&FLAGS[..], &["--cores", cores]].concat());
        let mut wire = Wire::connect(broker.kafka);
        for number in 0..20 {
            let found = committed(&mut wire, &format!("g{number}"), "t", 0);
            assert_eq!(found, number, "{cores} cores");
        }
    }
}

#[test]
fn a_stop_answers_who_waits_for_a_group_and_is_not_held_up() {
    for cores in ["1", "2"] {
        // Longer than any test waits.
        let flags = ["--shutdown-timeout-ms", "3600000", "--cores", cores];
        let (dir, broker, mut wire) = broker_with(&flags);
        let mut joining = group_of(broker.kafka, "joining", 1).remove(0);
        let mut waiting = Member::new(broker.kafka, "joining");
        waiting.get_id();
        waiting.send_join();
        joining.await_rebalance();
        // The second of two that do not lead waits for the leader's assignment.
        let mut syncing = group_of(broker.kafka, "syncing", 2);
        join_again(&mut syncing);
        let is_follower = |member: &&mut Member| member.id != member.leader;
        let follower = syncing.iter_mut().find(is_follower).unwrap();
        let request = sync("syncing", &follower.id, follower.generation, &[]);
        let held = || broker.metric("millstream_inflight_requests", "");
        let before = held();
        follower.wire.send(&request, SYNC_GROUP);
        eventually("the broker has it", || held() > before);
        assert_eq!(describe(&mut wire, "syncing").0, "CompletingRebalance");

        broker.stop();
        assert_eq!(waiting.receive_join().error_code, NOT_COORDINATOR);
        let synced = follower.wire.receive::<SyncGroupRequest>(SYNC_GROUP);
        assert_eq!(synced.error_code, NOT_COORDINATOR);
        assert!(waiting.wire.is_closed_by_broker());

        // Who was a member is one when the broker is back.
        let broker = Broker::with(dir.path(), &FLAGS);
        let mut wire = Wire::connect(broker.kafka);
        assert_eq!(describe(&mut wire, "joining"), ("Stable".to_owned(), 1));
        assert_eq!(describe(&mut wire, "syncing"), ("Stable".to_owned(), 2));
    }
}

/// All members of a settled group join the next generation, and do not sync.
fn join_again(members: &mut [Member]) {
    let leads = |member: &&mut Member| member.id == member.leader;
    members.iter_mut().find(leads).unwrap().send_join();
    let others = |member: &&mut Member| member.id != member.leader;
    for member in members.iter_mut().filter(others) {
        member.await_rebalance();
        member.send_join();
    }
    for member in members {
        assert_eq!(member.receive_join().error_code, NONE);
    }
}

#[test]
fn a_full_group_and_a_full_broker_turn_newcomers_away() {
    let flags = ["--group-max-size", "2", "--groups-max", "1", "--cores", "1"];
    let (_dir, broker, mut wire) = broker_with(&flags);
    let mut members = group_of(broker.kafka, "g", 2);
    for version in 0..=JOIN_GROUP {
        let third = wire.call(&join("g", ""), version);
        assert_eq!(
            third.error_code, GROUP_MAX_SIZE_REACHED,
            "version {version}"
        );
        let elsewhere = wire.call(&join("another", ""), version);
        assert_eq!(elsewhere.error_code, GROUP_MAX_SIZE_REACHED);
    }
    for member in &mut members {
        assert_eq!(member.heartbeat(), NONE);
    }
    for knob in ["group_max_size", "groups_max"] {
        let reached = broker.metric("millstream_limit_reached_total", knob);
        assert!(reached >= 1.0, "{knob}");
    }
}

#[test]
fn a_commit_and_a_deletion_at_the_same_time_end_alike_before_and_after_kill_9() {
    const GROUPS: i64 = 300;
    let (dir, broker, mut wire) = broker();
    let names: Vec<String> = (0..GROUPS).map(|number| format!("g{number}")).collect();
    for name in &names {
        wire.send(&commit(name, "t", &[(0, 1)]), OFFSET_COMMIT);
    }
    for _ in &names {
        wire.receive::<OffsetCommitRequest>(OFFSET_COMMIT);
    }
    let mut deleting = Wire::connect(broker.kafka);
    for name in &names {
        wire.send(&commit(name, "t", &[(1, 2)]), OFFSET_COMMIT);
        let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id(name)]);
        deleting.send(&request, 2);
    }
    for _ in &names {
        wire.receive::<OffsetCommitRequest>(OFFSET_COMMIT);
        let deleted = deleting.receive::<DeleteGroupsRequest>(2);
        assert_eq!(deleted.results[0].error_code, NONE);
    }
    let offsets = |wire: &mut Wire| -> Vec<_> {
        let fetch = |name: &String| fetch_offsets(wire, name, None, OFFSET_FETCH);
        names.iter().map(fetch).collect()
    };
    let before = offsets(&mut wire);
    let (_broker, mut wire) = after_kill_9(&dir, broker);
    assert_eq!(offsets(&mut wire), before);
}
