//! Who is in a group, in which generation, and what everybody else is told.

use super::{broker, broker_with};
use crate::support::eventually;
use crate::support::group::*;
use crate::support::wire::*;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::*;

const INCONSISTENT_GROUP_PROTOCOL: i16 = 23;
const INVALID_SESSION_TIMEOUT: i16 = 26;
const FENCED_INSTANCE_ID: i16 = 82;

#[test]
fn a_member_joins_syncs_beats_and_leaves_in_every_version() {
    let (_dir, _broker, mut wire) = broker();
    for version in 0..=JOIN_GROUP {
        let group = format!("g{version}");
        let mut joined = wire.call(&join(&group, ""), version);
        if version >= 4 {
            assert_eq!(joined.error_code, MEMBER_ID_REQUIRED, "version {version}");
            assert!(joined.member_id.starts_with("test-"), "{joined:?}");
            joined = wire.call(&join(&group, &joined.member_id), version);
        }
        assert_eq!(joined.error_code, NONE, "version {version}");
        assert_eq!(joined.generation_id, 1);
        assert_eq!(joined.protocol_name, Some(text("range")));
        let kind = (version >= 7).then(|| text("consumer"));
        assert_eq!(joined.protocol_type, kind);
        assert_eq!(joined.leader, joined.member_id);
        assert!(!joined.skip_assignment);
        assert_eq!(joined.members.len(), 1, "the leader is told the members");
        assert_eq!(joined.members[0].member_id, joined.member_id);
        assert_eq!(joined.members[0].metadata, subscription(&["t"]));

        let id = joined.member_id.as_str();
        let synced = wire.call(
            &sync(&group, id, 1, &[(id, b"mine")]),
            version.min(SYNC_GROUP),
        );
        assert_eq!(synced.error_code, NONE, "version {version}");
        assert_eq!(synced.assignment[..], *b"mine");
        if version >= 5 {
            assert_eq!(synced.protocol_type, Some(text("consumer")));
            assert_eq!(synced.protocol_name, Some(text("range")));
        }
        let beat = wire.call(&heartbeat(&group, id, 1), version.min(HEARTBEAT));
        assert_eq!(beat.error_code, NONE, "version {version}");

        let version = version.min(LEAVE_GROUP);
        let left = wire.call(&leave(&group, id, version), version);
        assert_eq!(left.error_code, NONE);
        assert!(left.members.iter().all(|member| member.error_code == NONE));
        assert_eq!(describe(&mut wire, &group), ("Empty".to_owned(), 0));
        let again = wire.call(&leave(&group, id, version), version);
        let error = again.members.first().map(|member| member.error_code);
        assert_eq!(error.unwrap_or(again.error_code), UNKNOWN_MEMBER_ID);
    }
}

#[test]
fn wrong_members_generations_timeouts_and_protocols_are_told_apart() {
    let (_dir, broker, mut wire) = broker();
    let mut member = group_of(broker.kafka, "g", 1).remove(0);
    let (id, generation) = (member.id.clone(), member.generation);

    for version in 0..=HEARTBEAT {
        let mut beat = |group: &str, id: &str, generation| {
            let request = heartbeat(group, id, generation);
            wire.call(&request, version).error_code
        };
        assert_eq!(beat("g", &id, generation), NONE);
        assert_eq!(beat("g", "nobody", generation), UNKNOWN_MEMBER_ID);
        assert_eq!(beat("g", &id, generation + 1), ILLEGAL_GENERATION);
        assert_eq!(beat("g", &id, generation - 1), ILLEGAL_GENERATION);
        assert_eq!(beat("no group", &id, generation), UNKNOWN_MEMBER_ID);
        assert_eq!(beat("", &id, generation), INVALID_GROUP_ID);
    }
    for version in 0..=SYNC_GROUP {
        let mut sync = |group: &str, id: &str, generation| {
            let request = sync(group, id, generation, &[]);
            wire.call(&request, version).error_code
        };
        assert_eq!(sync("g", &id, generation), NONE);
        assert_eq!(sync("g", "nobody", generation), UNKNOWN_MEMBER_ID);
        assert_eq!(sync("g", &id, generation + 1), ILLEGAL_GENERATION);
        assert_eq!(sync("no group", &id, generation), UNKNOWN_MEMBER_ID);
        assert_eq!(sync("", &id, generation), INVALID_GROUP_ID);
    }
    for version in 0..=LEAVE_GROUP {
        let response = wire.call(&leave("", &id, version), version);
        assert_eq!(response.error_code, INVALID_GROUP_ID);
    }
    let other_protocol = sync("g", &id, generation, &[]).with_protocol_name(Some(text("sticky")));
    let response = wire.call(&other_protocol, SYNC_GROUP);
    assert_eq!(response.error_code, INCONSISTENT_GROUP_PROTOCOL);

    for version in 0..=JOIN_GROUP {
        let mut join = |request: JoinGroupRequest| {
            let response = wire.call(&request, version);
            if response.error_code != NONE {
                assert_eq!(response.generation_id, -1);
                assert!(response.members.is_empty());
            }
            response.error_code
        };
        let request = super::membership::join("g", "");
        for timeout in [0, 99, 1_800_001, -1] {
            let request = request.clone().with_session_timeout_ms(timeout);
            assert_eq!(join(request), INVALID_SESSION_TIMEOUT, "{timeout} ms");
        }
        let nobody = super::membership::join("g", "nobody");
        assert_eq!(join(nobody), UNKNOWN_MEMBER_ID);
        let nowhere = super::membership::join("no group", "nobody");
        assert_eq!(join(nowhere), UNKNOWN_MEMBER_ID);
        assert_eq!(join(super::membership::join("", "")), INVALID_GROUP_ID);
        let other_type = request.clone().with_protocol_type(text("connect"));
        assert_eq!(join(other_type), INCONSISTENT_GROUP_PROTOCOL);
        let other_protocols = vec![protocol("sticky", subscription(&["t"]))];
        let other_protocols = request.clone().with_protocols(other_protocols);
        assert_eq!(join(other_protocols), INCONSISTENT_GROUP_PROTOCOL);
        let no_protocols = request.clone().with_protocols(Vec::new());
        assert_eq!(join(no_protocols), INCONSISTENT_GROUP_PROTOCOL);
    }
    assert_eq!(member.heartbeat(), NONE, "nothing of all that disturbed it");
    assert_eq!(describe(&mut wire, "g"), ("Stable".to_owned(), 1));
}

#[test]
fn members_are_told_to_join_again_while_the_group_rebalances() {
    let (_dir, broker, mut wire) = broker();
    let mut first = group_of(broker.kafka, "g", 1).remove(0);
    let mut second = Member::new(broker.kafka, "g");
    second.get_id();
    assert_eq!(
        first.heartbeat(),
        NONE,
        "whoever only asked for an id disturbs nobody"
    );
    second.send_join();
    first.await_rebalance();
    assert_eq!(describe(&mut wire, "g").0, "PreparingRebalance");
    assert_eq!(first.sync(&[]).error_code, REBALANCE_IN_PROGRESS);
    assert_eq!(
        first.commit("t", &[(0, 1)]),
        NONE,
        "what it has done so far counts"
    );
    first.send_join();
    assert_eq!(first.receive_join().error_code, NONE);
    assert_eq!(second.receive_join().error_code, NONE);
    assert_eq!((first.generation, second.generation), (2, 2));
    assert_eq!(first.leader, first.id, "the leader keeps its office");
    assert_eq!(second.leader, first.id);
    assert_eq!(describe(&mut wire, "g").0, "CompletingRebalance");
    assert_eq!(first.commit("t", &[(0, 2)]), REBALANCE_IN_PROGRESS);
    assert_eq!(first.heartbeat(), NONE);

    // The follower's SyncGroup waits for the leader's.
    let request = sync("g", &second.id, 2, &[]);
    second.wire.send(&request, SYNC_GROUP);
    let (a, b) = (first.id.clone(), second.id.clone());
    let synced = first.sync(&[(&a, b"left"), (&b, b"right")]);
    assert_eq!(
        (synced.error_code, &synced.assignment[..]),
        (NONE, &b"left"[..])
    );
    let synced = second.wire.receive::<SyncGroupRequest>(SYNC_GROUP);
    assert_eq!(
        (synced.error_code, &synced.assignment[..]),
        (NONE, &b"right"[..])
    );
    assert_eq!(committed(&mut wire, "g", "t", 0), 1);

    // One leaves: the other takes over.
    assert_eq!(second.leave(), NONE);
    first.await_rebalance();
    first.settle(1);
    assert_eq!(first.generation, 3);
}

#[test]
fn a_member_whose_socket_is_gone_is_dropped_when_its_session_ends() {
    let (_dir, broker, mut wire) = broker();
    let mut members: Vec<Member> = (0..3).map(|_| Member::new(broker.kafka, "g")).collect();
    members[1].request.session_timeout_ms = 30_000;
    settle(&mut members);
    // It joins once more with a short session, and dies.
    let mut mortal = Member::new(broker.kafka, "g");
    mortal.request.session_timeout_ms = 100;
    mortal.get_id();
    mortal.send_join();
    for member in &mut members {
        member.await_rebalance();
        member.send_join();
    }
    for member in &mut members {
        assert_eq!(member.receive_join().error_code, NONE);
    }
    assert_eq!(mortal.receive_join().error_code, NONE);
    drop(mortal);
    eventually("the dead member is dropped", || {
        describe(&mut wire, "g") == ("PreparingRebalance".to_owned(), 3)
    });
    settle(&mut members);
    assert_eq!(describe(&mut wire, "g"), ("Stable".to_owned(), 3));
}

#[test]
fn a_client_that_is_gone_before_it_is_answered_is_no_member() {
    let (_dir, broker, mut wire) = broker();
    let mut member = group_of(broker.kafka, "g", 1).remove(0);
    let mut gone = Wire::connect(broker.kafka);
    // In this version it becomes a member before it knows its id.
    gone.send(&join("g", ""), 3);
    member.await_rebalance();
    assert_eq!(describe(&mut wire, "g").1, 2);
    drop(gone);
    eventually("it is forgotten", || describe(&mut wire, "g").1 == 1);
    member.settle(1);
}

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_its_old_id_is_fenced() {
    for version in 5..=JOIN_GROUP {
        let (_dir, broker, mut wire) = broker();
        let mut members: Vec<Member> = (0..2).map(|_| Member::new(broker.kafka, "g")).collect();
        for (member, instance) in members.iter_mut().zip(["a", "b"]) {
            member.request.group_instance_id = Some(text(instance));
        }
        settle(&mut members);
        let generation = members[0].generation;
        assert_eq!(generation, members[1].generation);
        let leader = members[0].leader.clone();
        for (member, instance) in members.iter_mut().zip(["a", "b"]) {
            let led = member.id == leader;
            let request = join("g", "").with_group_instance_id(Some(text(instance)));
            let back = wire.call(&request, version);
            assert_eq!(back.error_code, NONE, "version {version}");
            assert_eq!(back.generation_id, generation, "no rebalance");
            assert_ne!(back.member_id, text(&member.id));
            assert_eq!(back.skip_assignment, led && version >= 9);
            let old =
                |request: HeartbeatRequest| request.with_group_instance_id(Some(text(instance)));
            let beat = old(heartbeat("g", &member.id, generation));
            assert_eq!(wire.call(&beat, HEARTBEAT).error_code, FENCED_INSTANCE_ID);
            let rejoin = join("g", &member.id).with_group_instance_id(Some(text(instance)));
            assert_eq!(wire.call(&rejoin, version).error_code, FENCED_INSTANCE_ID);
            let late =
                sync("g", &member.id, generation, &[]).with_group_instance_id(Some(text(instance)));
            assert_eq!(wire.call(&late, SYNC_GROUP).error_code, FENCED_INSTANCE_ID);
            let late = commit("g", "t", &[(0, 9)])
                .with_member_id(text(&member.id))
                .with_group_instance_id(Some(text(instance)))
                .with_generation_id_or_member_epoch(generation);
            let late = wire.call(&late, OFFSET_COMMIT);
            assert_eq!(commit_error(&late), FENCED_INSTANCE_ID);
            // What it was assigned is still its own.
            let synced = wire.call(&sync("g", &back.member_id, generation, &[]), SYNC_GROUP);
            assert_eq!(synced.error_code, NONE);
            assert_eq!(synced.assignment[..], 2_u32.to_be_bytes());
        }
        assert_eq!(describe(&mut wire, "g"), ("Stable".to_owned(), 2));
        // An operator removes one by its name.
        let identity = MemberIdentity::default().with_group_instance_id(Some(text("a")));
        let unknown = MemberIdentity::default().with_group_instance_id(Some(text("z")));
        let request = LeaveGroupRequest::default()
            .with_group_id(group_id("g"))
            .with_members(vec![identity, unknown]);
        let left = wire.call(&request, 3);
        let errors: Vec<i16> = left
            .members
            .iter()
            .map(|member| member.error_code)
            .collect();
        assert_eq!(errors, [NONE, UNKNOWN_MEMBER_ID]);
        assert_eq!(describe(&mut wire, "g").1, 1);
    }
}

#[test]
fn a_hundred_members_become_one_group_rebalance_and_leave_it() {
    let (_dir, broker, mut wire) = broker();
    let mut members = group_of(broker.kafka, "g", 100);
    let generation = members[0].generation;
    let leader = members[0].leader.clone();
    assert!(members.iter().any(|member| member.id == leader));
    for member in &members {
        assert_eq!((member.generation, &member.leader), (generation, &leader));
    }
    assert_eq!(describe(&mut wire, "g"), ("Stable".to_owned(), 100));
    let mut leaver = members.pop().unwrap();
    assert_eq!(leaver.leave(), NONE);
    for member in &mut members {
        assert_eq!(member.heartbeat(), REBALANCE_IN_PROGRESS);
    }
    settle(&mut members);
    assert_eq!(describe(&mut wire, "g"), ("Stable".to_owned(), 99));
    for member in &mut members {
        assert_eq!(member.generation, generation + 1, "one rebalance for all");
        assert_eq!(member.leave(), NONE);
    }
    assert_eq!(describe(&mut wire, "g"), ("Empty".to_owned(), 0));
}

#[test]
fn any_number_of_cores_gives_the_same_answers() {
    let transcript = |cores: &str| {
        let (_dir, broker, mut wire) = broker_with(&["--cores", cores]);
        let mut answers = Vec::new();
        for number in 0..20 {
            let group = format!("group-{number}");
            let mut members = group_of(broker.kafka, &group, 1);
            let member = &mut members[0];
            answers.push(format!("joined in generation {}", member.generation));
            let errors = [
                member.commit("t", &[(0, number), (3, number)]),
                member.commit("nowhere", &[(0, number)]),
                member.heartbeat(),
                member.leave(),
                member.heartbeat(),
                commit_error(&wire.call(&commit(&group, "t", &[(1, 7)]), OFFSET_COMMIT)),
            ];
            answers.push(format!("{errors:?}"));
            answers.push(format!("{:?}", fetch_offsets(&mut wire, &group, None, 9)));
            answers.push(format!("{:?}", describe(&mut wire, &group)));
        }
        let listed = wire.call(&ListGroupsRequest::default(), 5);
        answers.push(format!("{:?}", listed.groups));
        answers
    };
    assert_eq!(transcript("1"), transcript("2"));
}
