//! The rules of a group's membership, one test each.

use bytes::Bytes;
use millstream::coordinator::groups::classic::group::{
    Group, GroupState, commit_check_without_group,
};
use millstream::coordinator::groups::classic::messages::*;
use millstream::coordinator::groups::config::GroupConfig;
use millstream::coordinator::groups::error::GroupError;
use millstream::coordinator::groups::offsets::Retention;
use millstream::coordinator::parked::Token;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

const SESSION_MS: i64 = 10_000;
const REBALANCE_MS: i64 = 60_000;
const DELAY_MS: i64 = 3_000;

/// A group, its clock, and its actions.
struct Room {
    group: Group,
    config: Arc<GroupConfig>,
    now_ms: i64,
    next_token: u64,
    out: Vec<Action>,
    ids_given: usize,
}

impl Room {
    fn new() -> Room {
        Room::with(GroupConfig::default())
    }

    fn with(config: GroupConfig) -> Room {
        let config = Arc::new(config);
        Room {
            group: Group::new(Arc::clone(&config), 1_000),
            config,
            now_ms: 1_000,
            next_token: 0,
            out: Vec::new(),
            ids_given: 0,
        }
    }

    /// A stable group of dynamic members with these ids; the first one leads.
    fn stable(ids: &[&str]) -> Room {
        let mut room = Room::new();
        let tokens: Vec<Token> = ids.iter().map(|id| room.join(new(id))).collect();
        room.pass(DELAY_MS);
        room.pass(DELAY_MS);
        for token in tokens {
            room.joined(token);
        }
        room.sync_all();
        assert_eq!(room.group.state(), GroupState::Stable);
        room
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        Token(self.next_token)
    }

    fn join(&mut self, request: JoinRequest) -> Token {
        let token = self.token();
        self.group.join(request, token, self.now_ms, &mut self.out);
        token
    }

    fn sync(&mut self, member_id: &str, assignments: &[(&str, &str)]) -> Token {
        let owned =
            |(id, bytes): &(&str, &str)| ((*id).to_owned(), Bytes::from((*bytes).to_owned()));
        let request = SyncRequest {
            member_id: member_id.into(),
            generation: self.group.generation(),
            assignments: assignments.iter().map(owned).collect(),
            ..SyncRequest::default()
        };
        let token = self.token();
        self.group.sync(request, token, self.now_ms, &mut self.out);
        token
    }

    /// Every member syncs, each is assigned its own id, and that becomes durable.
    fn sync_all(&mut self) {
        let members = self.group.snapshot().members;
        let all: Vec<(&str, &str)> = members
            .iter()
            .map(|member| (member.member_id.as_str(), member.member_id.as_str()))
            .collect();
        let tokens: Vec<Token> = all.iter().map(|(id, _)| self.sync(id, &all)).collect();
        self.persisted(true);
        for (token, (id, _)) in tokens.into_iter().zip(all) {
            assert_eq!(self.synced(token).unwrap().assignment, id);
        }
    }

    fn heartbeat(&mut self, member_id: &str) -> Result<(), GroupError> {
        let generation = self.group.generation();
        self.group
            .heartbeat(member_id, None, generation, self.now_ms)
    }

    fn leave(&mut self, leaving: &[(&str, Option<&str>)]) -> Vec<Result<(), GroupError>> {
        let leaving = leaving.iter().map(|(id, instance)| LeavingMember {
            member_id: (*id).into(),
            instance_id: instance.map(str::to_owned),
        });
        let results = self
            .group
            .leave(leaving.collect(), self.now_ms, &mut self.out);
        results
            .unwrap()
            .into_iter()
            .map(|left| left.result)
            .collect()
    }

    /// Time passes; every timer fires when it is due.
    fn pass(&mut self, ms: i64) {
        let end_ms = self.now_ms + ms;
        while let Some(at_ms) = self.group.next_deadline().filter(|at_ms| *at_ms <= end_ms) {
            self.now_ms = at_ms.max(self.now_ms);
            self.group.tick(self.now_ms, &mut self.out);
        }
        self.now_ms = end_ms;
    }

    /// Time passes while these members send heartbeats.
    fn pass_with(&mut self, ms: i64, alive: &[&str]) {
        for _ in 0..ms / 1_000 {
            self.pass(1_000);
            for id in alive {
                let _ = self.heartbeat(id);
            }
        }
    }

    fn reply(&mut self, token: Token) -> Option<Reply> {
        let of_token =
            |action: &Action| matches!(action, Action::Reply(other, _) if *other == token);
        let index = self.out.iter().position(of_token)?;
        match self.out.remove(index) {
            Action::Reply(_, reply) => Some(reply),
            Action::Persist(..) => None,
        }
    }

    fn join_result(&mut self, token: Token) -> Result<JoinReply, GroupError> {
        match self.reply(token) {
            Some(Reply::Join(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    fn joined(&mut self, token: Token) -> JoinReply {
        self.join_result(token).unwrap()
    }

    fn synced(&mut self, token: Token) -> Result<SyncReply, GroupError> {
        match self.reply(token) {
            Some(Reply::Sync(result)) => result,
            other => panic!("{other:?}"),
        }
    }

    /// The oldest snapshot that is being written becomes durable, or fails.
    fn persisted(&mut self, ok: bool) -> GroupSnapshot {
        let is_persist = |action: &Action| matches!(action, Action::Persist(..));
        let index = self.out.iter().position(is_persist).expect("a snapshot");
        let Action::Persist(id, snapshot) = self.out.remove(index) else {
            unreachable!()
        };
        self.group.persist_done(id, ok, self.now_ms, &mut self.out);
        *snapshot
    }

    fn ids(&self) -> Vec<String> {
        let members = self.group.snapshot().members;
        members.into_iter().map(|member| member.member_id).collect()
    }

    /// A static member without an id.
    fn static_join(&mut self, instance_id: &str) -> JoinRequest {
        self.ids_given += 1;
        JoinRequest {
            instance_id: Some(instance_id.into()),
            ..new(&format!("{instance_id}-{}", self.ids_given))
        }
    }

    /// A stable group of static members; the first one leads. Returns their ids.
    fn stable_static(instances: &[&str]) -> (Room, Vec<String>) {
        let mut room = Room::new();
        for instance in instances {
            let request = room.static_join(instance);
            room.join(request);
        }
        room.pass(2 * DELAY_MS);
        room.out.clear();
        room.sync_all();
        let ids = room.ids();
        (room, ids)
    }
}

fn protocol(name: &str) -> Protocol {
    Protocol {
        name: name.into(),
        // A consumer's subscription to the topic "orders".
        metadata: Bytes::from_static(b"\0\0\0\0\0\x01\0\x06orders\0\0\0\0"),
    }
}

/// A dynamic member without an id, of a client that does not know `MemberIdRequired`.
fn new(new_member_id: &str) -> JoinRequest {
    JoinRequest {
        member_id: String::new(),
        new_member_id: new_member_id.into(),
        instance_id: None,
        client_id: "client".into(),
        client_host: "/10.0.0.1".into(),
        session_timeout_ms: SESSION_MS as i32,
        rebalance_timeout_ms: REBALANCE_MS as i32,
        protocol_type: "consumer".into(),
        protocols: vec![protocol("range"), protocol("sticky")],
        requires_known_member_id: false,
        supports_skip_assignment: true,
    }
}

/// A member that has an id.
fn known(member_id: &str) -> JoinRequest {
    JoinRequest {
        member_id: member_id.into(),
        ..new("")
    }
}

fn changed(mut request: JoinRequest) -> JoinRequest {
    request.protocols[0].metadata = Bytes::from_static(b"changed");
    request
}

// ---- the first rebalance ----

#[test]
fn the_first_rebalance_waits_three_seconds() {
    let mut room = Room::new();
    let token = room.join(new("a"));
    room.pass(DELAY_MS - 1);
    assert_eq!(room.reply(token), None);
    assert_eq!(room.group.state(), GroupState::PreparingRebalance);
    room.pass(1);
    let reply = room.joined(token);
    assert_eq!((reply.generation, reply.leader.as_str()), (1, "a"));
    assert_eq!(room.group.state(), GroupState::CompletingRebalance);
}

#[test]
fn each_new_member_extends_the_first_rebalance_up_to_the_rebalance_timeout() {
    let mut room = Room::new();
    let first = room.join(new("m0"));
    for index in 1..25 {
        room.pass(2_500);
        if index * 2_500 < REBALANCE_MS {
            assert_eq!(
                room.group.state(),
                GroupState::PreparingRebalance,
                "{index}"
            );
            room.join(new(&format!("m{index}")));
        }
    }
    assert_eq!(room.group.state(), GroupState::CompletingRebalance);
    assert_eq!(room.joined(first).members.len(), 24);
}

#[test]
fn without_a_delay_the_first_member_is_answered_at_once() {
    let mut room = Room::with(GroupConfig {
        initial_rebalance_delay_ms: 0,
        ..GroupConfig::default()
    });
    let token = room.join(new("a"));
    assert_eq!(room.joined(token).generation, 1);
}

#[test]
fn a_first_rebalance_that_everybody_left_ends_at_once() {
    let mut room = Room::new();
    let token = room.join(new("a"));
    assert_eq!(room.leave(&[("a", None)]), [Ok(())]);
    assert_eq!(room.join_result(token), Err(GroupError::UnknownMemberId));
    assert_eq!(room.group.state(), GroupState::Empty);
}

// ---- checks of a join ----

#[test]
fn session_timeouts_have_limits() {
    let mut room = Room::new();
    for timeout_ms in [5_999, 1_800_001, -1] {
        let token = room.join(JoinRequest {
            session_timeout_ms: timeout_ms,
            ..new("a")
        });
        let result = room.join_result(token);
        assert_eq!(result, Err(GroupError::InvalidSessionTimeout));
    }
    for (timeout_ms, id) in [(6_000, "a"), (1_800_000, "b")] {
        room.join(JoinRequest {
            session_timeout_ms: timeout_ms,
            ..new(id)
        });
    }
    assert_eq!(room.group.member_count(), 2);
}

#[test]
fn a_rebalance_timeout_is_cut_to_the_longest_one() {
    let mut room = Room::stable(&["a", "b"]);
    let longest_ms = GroupConfig::default().rebalance_timeout_max_ms;
    for asked_ms in [i32::MAX, -1] {
        let token = room.join(JoinRequest {
            rebalance_timeout_ms: asked_ms,
            ..known("a")
        });
        assert_eq!(room.reply(token), None);
        let members = room.group.snapshot().members;
        assert!((0..=longest_ms).contains(&members[0].rebalance_timeout_ms));
    }
    room.join(JoinRequest {
        rebalance_timeout_ms: i32::MAX,
        ..known("a")
    });
    room.out.clear();
    // It waits for the other for no longer than that.
    room.pass_with(longest_ms, &["b"]);
    assert_eq!(room.ids(), ["a"]);
}

#[test]
fn too_many_protocols_are_refused_and_one_that_is_named_twice_counts_once() {
    let mut room = Room::new();
    let of = |names: &[String]| JoinRequest {
        protocols: names.iter().map(|name| protocol(name)).collect(),
        ..new("a")
    };
    let names: Vec<String> = (0..65).map(|number| format!("p{number}")).collect();
    let token = room.join(of(&names));
    assert_eq!(room.join_result(token), Err(GroupError::TooManyProtocols));
    assert!(room.ids().is_empty());
    room.join(of(&["p".into(), "p".into(), "q".into()]));
    let token = room.join(JoinRequest {
        protocols: vec![protocol("q"), protocol("p"), protocol("q")],
        ..new("b")
    });
    room.pass(2 * DELAY_MS);
    assert_eq!(room.joined(token).protocol, "p");
    let members = room.group.snapshot().members;
    assert!(members.iter().all(|member| member.protocols.len() == 2));
}

#[test]
fn members_must_have_a_protocol_that_all_support() {
    let mut room = Room::stable(&["a"]);
    let other_type = JoinRequest {
        protocol_type: "connect".into(),
        ..new("b")
    };
    let other_protocol = JoinRequest {
        protocols: vec![protocol("roundrobin")],
        ..new("b")
    };
    let none = JoinRequest {
        protocols: Vec::new(),
        ..new("b")
    };
    for request in [other_type, other_protocol, none.clone()] {
        let token = room.join(request);
        let result = room.join_result(token);
        assert_eq!(result, Err(GroupError::InconsistentGroupProtocol));
    }
    let token = Room::new().join(none.clone());
    let mut empty = Room::new();
    assert_eq!(empty.join(none), token);
    let result = empty.join_result(token);
    assert_eq!(result, Err(GroupError::InconsistentGroupProtocol));
    assert_eq!(room.group.state(), GroupState::Stable);
}

#[test]
fn the_protocol_with_most_votes_among_the_common_ones_is_chosen() {
    let mut room = Room::new();
    let list = |names: &[&str]| names.iter().map(|name| protocol(name)).collect();
    for (id, names) in [
        ("a", ["range", "sticky", "own"]),
        ("b", ["sticky", "range", "odd"]),
        ("c", ["odd", "sticky", "range"]),
    ] {
        room.join(JoinRequest {
            protocols: list(&names),
            ..new(id)
        });
    }
    let last = room.join(JoinRequest {
        protocols: list(&["range", "sticky"]),
        ..new("d")
    });
    let also = room.join(JoinRequest {
        protocols: list(&["sticky", "range"]),
        ..new("e")
    });
    room.pass(2 * DELAY_MS);
    assert_eq!(room.joined(last).protocol, "sticky");
    assert!(room.joined(also).members.is_empty());
}

#[test]
fn a_dynamic_member_is_told_its_id_before_it_may_join() {
    let mut room = Room::new();
    let token = room.join(JoinRequest {
        requires_known_member_id: true,
        ..new("a")
    });
    let result = room.join_result(token);
    assert_eq!(result, Err(GroupError::MemberIdRequired("a".into())));
    assert_eq!(room.group.state(), GroupState::Empty);
    assert!(!room.group.is_idle());
    let token = room.join(known("a"));
    room.pass(DELAY_MS);
    assert_eq!(room.joined(token).member_id, "a");
}

#[test]
fn a_pending_member_holds_the_rebalance_up_until_its_session_timeout() {
    let mut room = Room::stable(&["a"]);
    room.join(JoinRequest {
        requires_known_member_id: true,
        ..new("b")
    });
    assert_eq!(room.group.state(), GroupState::Stable);
    let token = room.join(known("a"));
    room.pass(SESSION_MS - 1);
    assert_eq!(room.reply(token), None);
    room.pass(1);
    assert_eq!(room.joined(token).members.len(), 1);
    let late = room.join(known("b"));
    assert_eq!(room.join_result(late), Err(GroupError::UnknownMemberId));
}

#[test]
fn a_pending_member_that_leaves_holds_nobody_up() {
    let mut room = Room::stable(&["a"]);
    room.join(JoinRequest {
        requires_known_member_id: true,
        ..new("b")
    });
    let token = room.join(known("a"));
    assert_eq!(room.leave(&[("b", None)]), [Ok(())]);
    assert_eq!(room.joined(token).generation, 2);
}

#[test]
fn a_full_group_takes_nobody_but_lets_its_members_in_again() {
    let mut room = Room::with(GroupConfig {
        group_max_size: 2,
        ..GroupConfig::default()
    });
    let first = room.static_join("s");
    room.join(first);
    room.join(new("b"));
    let refused = room.join(new("c"));
    let error = GroupError::GroupMaxSizeReached;
    assert_eq!(room.join_result(refused), Err(error.clone()));
    room.pass(2 * DELAY_MS);
    room.out.clear();
    room.sync_all();
    let refused = room.join(new("c"));
    assert_eq!(room.join_result(refused), Err(error));
    let token = room.join(known("b"));
    assert_eq!(room.joined(token).generation, 1);
    let again = room.static_join("s");
    let token = room.join(again);
    room.persisted(true);
    assert_eq!(room.joined(token).generation, 1);
}

#[test]
fn a_pending_member_that_is_turned_away_holds_nobody_up() {
    let mut room = Room::with(GroupConfig {
        group_max_size: 1,
        initial_rebalance_delay_ms: 0,
        ..GroupConfig::default()
    });
    let token = room.join(new("a"));
    room.joined(token);
    room.sync_all();
    room.join(JoinRequest {
        requires_known_member_id: true,
        ..new("b")
    });
    room.out.clear();
    let token = room.join(known("b"));
    assert_eq!(
        room.join_result(token),
        Err(GroupError::GroupMaxSizeReached)
    );
    let token = room.join(known("a"));
    assert_eq!(room.joined(token).generation, 2);
}

#[test]
fn pending_members_have_a_limit_too() {
    let mut room = Room::with(GroupConfig {
        group_max_size: 2,
        ..GroupConfig::default()
    });
    let results: Vec<_> = ["a", "b", "c"]
        .map(|id| {
            let token = room.join(JoinRequest {
                requires_known_member_id: true,
                ..new(id)
            });
            room.join_result(token).unwrap_err()
        })
        .into();
    assert_eq!(results[1], GroupError::MemberIdRequired("b".into()));
    assert_eq!(results[2], GroupError::GroupMaxSizeReached);
}

/// Metadata of so many bytes, for one protocol.
fn says(request: JoinRequest, bytes: usize) -> JoinRequest {
    let metadata = Bytes::from(vec![0; bytes]);
    let name = "range".to_owned();
    JoinRequest {
        protocols: vec![Protocol { name, metadata }],
        ..request
    }
}

#[test]
fn a_member_for_whom_the_groups_record_has_no_room_is_refused_and_the_others_go_on() {
    let mut room = Room::with(GroupConfig {
        initial_rebalance_delay_ms: 0,
        group_record_bytes_max: 10_000,
        ..GroupConfig::default()
    });
    let token = room.join(says(new("a"), 5_000));
    room.joined(token);
    room.sync_all();
    let error = GroupError::GroupMaxSizeReached;
    let token = room.join(says(new("b"), 5_000));
    assert_eq!(room.join_result(token), Err(error.clone()));
    assert_eq!(room.heartbeat("a"), Ok(()));
    // What is under the limit as it is may come again.
    let token = room.join(says(known("a"), 5_000));
    room.joined(token);
    let token = room.sync("a", &[("a", &"x".repeat(4_000))]);
    room.persisted(true);
    room.synced(token).unwrap();
    // Its assignment counts too, and the limit is the group's whichever protocol is chosen.
    let token = room.join(says(new("c"), 1_000));
    assert_eq!(room.join_result(token), Err(error));
    let token = room.join(says(known("a"), 5_000));
    room.joined(token);
    room.sync_all();
}

#[test]
fn an_assignment_that_makes_the_record_too_large_is_refused_and_the_group_rebalances() {
    let mut room = Room::with(GroupConfig {
        initial_rebalance_delay_ms: 0,
        group_record_bytes_max: 10_000,
        ..GroupConfig::default()
    });
    let token = room.join(new("a"));
    room.joined(token);
    let token = room.sync("a", &[("a", &"x".repeat(10_000))]);
    assert_eq!(room.synced(token), Err(GroupError::RecordTooLarge));
    assert_eq!(room.out, [], "nothing is written");
    let token = room.join(known("a"));
    room.joined(token);
    // Those of strangers do not count.
    let token = room.sync("a", &[("a", "mine"), ("ghost", &"x".repeat(10_000))]);
    room.persisted(true);
    assert_eq!(room.synced(token).unwrap().assignment, "mine");
}

#[test]
fn static_members_that_come_back_while_one_is_written_are_written_together() {
    let names: Vec<String> = (0..20).map(|number| format!("s{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (mut room, _) = Room::stable_static(&names);
    let returning = names.iter().map(|name| {
        let request = room.static_join(name);
        room.join(request)
    });
    let tokens: Vec<Token> = returning.collect();
    assert_eq!(room.out.len(), 1, "one snapshot");
    room.persisted(true);
    assert_eq!(room.joined(tokens[0]).generation, 1);
    assert_eq!(room.out.len(), 1, "and one for all the others");
    let snapshot = room.persisted(true);
    assert_eq!(snapshot.members.len(), 20);
    for token in &tokens[1..] {
        assert_eq!(room.joined(*token).generation, 1);
    }
    assert_eq!(room.out, []);
}

#[test]
fn a_rebalance_between_two_writes_of_returning_static_members_answers_all() {
    let (mut room, _) = Room::stable_static(&["s1", "s2"]);
    let first = room.static_join("s1");
    let first = room.join(first);
    let second = room.static_join("s2");
    let second = room.join(second);
    let third = room.join(new("third"));
    for token in [first, second, third] {
        assert_eq!(room.joined(token).generation, 2);
    }
    room.persisted(true);
    assert_eq!(room.out, [], "no snapshot of the generation before");
    room.sync_all();
}

#[test]
fn a_group_counts_what_its_members_and_those_to_come_take() {
    let mut room = Room::new();
    assert_eq!(room.group.bytes(), 0);
    room.join(says(new("a"), 1_000));
    let one = room.group.bytes();
    assert!(one > 1_000);
    room.join(JoinRequest {
        requires_known_member_id: true,
        ..new(&"p".repeat(500))
    });
    assert!(room.group.bytes() > one + 500);
    room.leave(&[(&"p".repeat(500), None)]);
    assert_eq!(room.group.bytes(), one);
    room.pass(2 * DELAY_MS);
    let token = room.sync("a", &[("a", &"x".repeat(300))]);
    room.persisted(true);
    room.synced(token).unwrap();
    assert_eq!(room.group.bytes(), one + 300);
    room.join(says(known("a"), 0));
    assert_eq!(room.group.bytes(), one - 1_000);
    room.leave(&[("a", None)]);
    assert_eq!(room.group.bytes(), 0);
}

#[test]
fn ids_of_those_to_come_count_towards_the_groups_bytes() {
    let mut room = Room::with(GroupConfig {
        group_metadata_bytes_max: 10_000,
        ..GroupConfig::default()
    });
    let id = |number: usize| format!("{number}{}", "p".repeat(1_000));
    let given = (0..20).take_while(|number| {
        let token = room.join(JoinRequest {
            requires_known_member_id: true,
            ..says(new(&id(*number)), 0)
        });
        room.join_result(token) == Err(GroupError::MemberIdRequired(id(*number)))
    });
    assert!((5..9).contains(&given.count()));
}

#[test]
fn a_new_member_waits_five_minutes_at_most() {
    let mut room = Room::new();
    let patient = JoinRequest {
        rebalance_timeout_ms: 20 * 60 * 1_000,
        ..new("a")
    };
    let leader = room.join(patient);
    room.pass(DELAY_MS);
    room.joined(leader);
    room.sync_all();
    let token = room.join(new("b"));
    room.pass_with(5 * 60_000 - 1_000, &["a"]);
    assert_eq!(room.reply(token), None);
    room.pass_with(1_000, &["a"]);
    assert_eq!(room.join_result(token), Err(GroupError::UnknownMemberId));
}

#[test]
fn an_unknown_id_cannot_join() {
    let mut room = Room::new();
    let token = room.join(known("ghost"));
    assert_eq!(room.join_result(token), Err(GroupError::UnknownMemberId));
    let mut room = Room::stable(&["a"]);
    let token = room.join(known("ghost"));
    assert_eq!(room.join_result(token), Err(GroupError::UnknownMemberId));
}

// ---- rebalances ----

#[test]
fn a_new_member_makes_all_join_again_and_the_leader_stays() {
    let mut room = Room::stable(&["a", "b"]);
    let newcomer = room.join(new("0"));
    assert_eq!(room.heartbeat("a"), Err(GroupError::RebalanceInProgress));
    let b = room.join(known("b"));
    assert_eq!(room.reply(newcomer), None);
    let a = room.join(known("a"));
    let reply = room.joined(a);
    assert_eq!((reply.generation, reply.leader.as_str()), (2, "a"));
    assert_eq!(reply.members.len(), 3);
    assert!(room.joined(b).members.is_empty());
    assert_eq!(room.joined(newcomer).leader, "a");
}

#[test]
fn dynamic_members_that_do_not_join_again_are_out_after_the_rebalance_timeout() {
    let mut room = Room::stable(&["a", "b"]);
    let token = room.join(known("a"));
    room.pass_with(REBALANCE_MS - 1_000, &["b"]);
    assert_eq!(room.reply(token), None);
    room.pass_with(1_000, &["b"]);
    assert_eq!(room.joined(token).members.len(), 1);
    assert_eq!(room.heartbeat("b"), Err(GroupError::UnknownMemberId));
}

#[test]
fn if_the_leader_does_not_join_again_the_next_in_order_leads() {
    let mut room = Room::stable(&["z", "y", "x"]);
    room.join(changed(known("x")));
    let token = room.join(known("y"));
    room.pass_with(REBALANCE_MS, &["z"]);
    let reply = room.joined(token);
    assert_eq!(reply.leader, "y");
    assert_eq!(reply.members.len(), 2);
}

#[test]
fn absent_static_members_stay_through_a_rebalance() {
    let (mut room, ids) = Room::stable_static(&["s", "t"]);
    let (s, t) = (ids[0].as_str(), ids[1].as_str());
    let rejoin = JoinRequest {
        instance_id: Some("t".into()),
        ..changed(known(t))
    };
    let token = room.join(rejoin);
    room.pass_with(REBALANCE_MS, &[s]);
    let reply = room.joined(token);
    assert_eq!((reply.leader.as_str(), reply.members.len()), (t, 2));
}

#[test]
fn an_absent_static_leader_gives_way_to_whoever_has_been_here_longest() {
    let (mut room, ids) = Room::stable_static(&["s"]);
    let tokens = [room.join(new("y")), room.join(new("x"))];
    room.pass_with(REBALANCE_MS, &[&ids[0]]);
    for token in tokens {
        let reply = room.joined(token);
        assert_eq!((reply.generation, reply.leader.as_str()), (2, "y"));
    }
    assert_eq!(room.group.member_count(), 3);
}

#[test]
fn if_nobody_joins_again_static_members_are_waited_for_until_their_sessions_end() {
    let (mut room, ids) = Room::stable_static(&["s", "t"]);
    let alive: Vec<&str> = ids.iter().map(String::as_str).collect();
    let token = room.join(new("d"));
    room.group.remove_token(token, room.now_ms, &mut room.out);
    room.pass_with(3 * REBALANCE_MS, &alive);
    assert_eq!(room.group.state(), GroupState::PreparingRebalance);
    assert_eq!(room.ids(), ids);
    room.pass(SESSION_MS);
    assert_eq!(room.group.state(), GroupState::Empty);
}

#[test]
fn members_that_do_not_sync_within_the_rebalance_timeout_are_out() {
    let mut room = Room::stable(&["a", "b"]);
    let a = room.join(known("a"));
    let b = room.join(known("b"));
    room.joined(a);
    room.joined(b);
    let token = room.sync("a", &[("a", "all")]);
    room.persisted(true);
    assert_eq!(room.synced(token).unwrap().assignment, "all");
    room.pass_with(REBALANCE_MS, &["a", "b"]);
    assert_eq!(room.group.state(), GroupState::PreparingRebalance);
    assert_eq!(room.ids(), ["a"]);
}

#[test]
fn if_the_leader_does_not_sync_the_others_are_told_to_join_again() {
    let mut room = Room::stable(&["a", "b"]);
    let a = room.join(known("a"));
    let b = room.join(known("b"));
    room.joined(a);
    room.joined(b);
    let token = room.sync("b", &[]);
    room.pass_with(REBALANCE_MS, &["a"]);
    assert_eq!(room.synced(token), Err(GroupError::RebalanceInProgress));
    let token = room.join(known("b"));
    assert_eq!(room.joined(token).leader, "b");
}

#[test]
fn joining_a_stable_group_again_unchanged_returns_the_current_generation() {
    let mut room = Room::stable(&["a", "b"]);
    let token = room.join(known("b"));
    let reply = room.joined(token);
    assert_eq!((reply.generation, reply.leader.as_str()), (1, "a"));
    assert!(reply.members.is_empty());
    assert_eq!(room.group.state(), GroupState::Stable);
    let token = room.sync("b", &[]);
    assert_eq!(room.synced(token).unwrap().assignment, "b");
}

#[test]
fn the_leader_or_changed_metadata_rebalances_a_stable_group() {
    for request in [known("a"), changed(known("b"))] {
        let mut room = Room::stable(&["a", "b"]);
        room.join(request);
        assert_eq!(room.group.state(), GroupState::PreparingRebalance);
    }
}

#[test]
fn a_lost_join_answer_is_given_again_while_the_rebalance_completes() {
    let mut room = Room::stable(&["a", "b"]);
    let b = room.join(known("b"));
    assert_eq!(room.joined(b).generation, 1);
    let a = room.join(known("a"));
    let b = room.join(known("b"));
    let first = room.joined(a);
    assert_eq!(room.joined(b).generation, 2);
    let a = room.join(known("a"));
    assert_eq!(room.joined(a), first);
    room.join(changed(known("b")));
    assert_eq!(room.group.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_second_join_of_a_waiting_member_answers_the_first() {
    let mut room = Room::stable(&["a", "b"]);
    let first = room.join(known("a"));
    let second = room.join(known("a"));
    let result = room.join_result(first);
    assert_eq!(result, Err(GroupError::RebalanceInProgress));
    room.join(known("b"));
    assert_eq!(room.joined(second).generation, 2);
}

// ---- sync and the disk ----

#[test]
fn assignments_are_told_only_when_they_are_durable() {
    let mut room = Room::stable(&["a", "b"]);
    let tokens = [room.join(known("a")), room.join(known("b"))];
    for token in tokens {
        room.joined(token);
    }
    let b = room.sync("b", &[]);
    let a = room.sync("a", &[("a", "1"), ("ghost", "2")]);
    assert_eq!((room.reply(a), room.reply(b)), (None, None));
    let stored = room.persisted(true);
    assert_eq!(stored.generation, 2);
    assert_eq!(stored.members[0].assignment, "1");
    assert_eq!(room.synced(a).unwrap().assignment, "1");
    let b = room.synced(b).unwrap();
    assert_eq!((b.assignment.len(), b.protocol.as_str()), (0, "range"));
    assert_eq!(room.group.state(), GroupState::Stable);
}

#[test]
fn an_assignment_that_cannot_be_stored_is_made_again() {
    let mut room = Room::stable(&["a", "b"]);
    let tokens = [room.join(known("a")), room.join(known("b"))];
    for token in tokens {
        room.joined(token);
    }
    let tokens = [room.sync("b", &[]), room.sync("a", &[("a", "1")])];
    room.persisted(false);
    for token in tokens {
        assert_eq!(room.synced(token), Err(GroupError::NotCoordinator));
    }
    assert_eq!(room.group.state(), GroupState::PreparingRebalance);
    let tokens = [room.join(known("a")), room.join(known("b"))];
    for token in tokens {
        assert_eq!(room.joined(token).generation, 3);
    }
    room.sync_all();
}

#[test]
fn an_assignment_that_comes_after_a_change_of_members_is_not_told() {
    let mut room = Room::stable(&["a", "b"]);
    let tokens = [room.join(known("a")), room.join(known("b"))];
    for token in tokens {
        room.joined(token);
    }
    let waiting = room.sync("a", &[("a", "1")]);
    room.join(new("c"));
    assert_eq!(room.synced(waiting), Err(GroupError::RebalanceInProgress));
    room.persisted(true);
    assert_eq!(room.group.state(), GroupState::PreparingRebalance);
    assert!(room.out.is_empty());
}

#[test]
fn sync_is_checked_against_member_generation_protocol_and_state() {
    let mut room = Room::stable(&["a", "b"]);
    let request = SyncRequest {
        member_id: "b".into(),
        generation: 1,
        protocol_type: Some("consumer".into()),
        protocol: Some("range".into()),
        ..SyncRequest::default()
    };
    let cases = [
        (
            SyncRequest {
                member_id: "ghost".into(),
                ..request.clone()
            },
            GroupError::UnknownMemberId,
        ),
        (
            SyncRequest {
                generation: 0,
                ..request.clone()
            },
            GroupError::IllegalGeneration,
        ),
        (
            SyncRequest {
                protocol: Some("other".into()),
                ..request.clone()
            },
            GroupError::InconsistentGroupProtocol,
        ),
    ];
    for (request, error) in cases {
        let token = room.token();
        room.group.sync(request, token, room.now_ms, &mut room.out);
        assert_eq!(room.synced(token), Err(error));
    }
    room.join(new("c"));
    let token = room.token();
    room.group.sync(request, token, room.now_ms, &mut room.out);
    assert_eq!(room.synced(token), Err(GroupError::RebalanceInProgress));
}

// ---- sessions ----

#[test]
fn heartbeats_tell_the_state() {
    let mut room = Room::new();
    assert_eq!(room.heartbeat("a"), Err(GroupError::UnknownMemberId));
    let mut room = Room::stable(&["a", "b"]);
    assert_eq!(room.heartbeat("a"), Ok(()));
    assert_eq!(room.heartbeat("ghost"), Err(GroupError::UnknownMemberId));
    let stale = room.group.heartbeat("a", None, 0, room.now_ms);
    assert_eq!(stale, Err(GroupError::IllegalGeneration));
    room.join(known("a"));
    assert_eq!(room.heartbeat("b"), Err(GroupError::RebalanceInProgress));
    room.join(known("b"));
    assert_eq!(room.group.state(), GroupState::CompletingRebalance);
    assert_eq!(room.heartbeat("b"), Ok(()));
}

#[test]
fn a_silent_member_is_out_after_its_session_timeout_and_its_partitions_are_taken_over() {
    let mut room = Room::stable(&["a", "b"]);
    room.pass_with(SESSION_MS - 1_000, &["b"]);
    assert_eq!(room.group.state(), GroupState::Stable);
    room.pass_with(1_000, &["b"]);
    assert_eq!(room.heartbeat("b"), Err(GroupError::RebalanceInProgress));
    let token = room.join(known("b"));
    let reply = room.joined(token);
    assert_eq!((reply.leader.as_str(), reply.members.len()), ("b", 1));
}

#[test]
fn a_member_that_waits_is_not_timed_out() {
    let mut room = Room::stable(&["a", "b"]);
    let token = room.join(known("a"));
    room.pass_with(3 * SESSION_MS, &["b"]);
    room.join(known("b"));
    room.joined(token);
    let token = room.sync("a", &[]);
    room.pass_with(3 * SESSION_MS, &["b"]);
    room.persisted(true);
    assert!(room.synced(token).is_ok());
    room.pass_with(SESSION_MS - 1_000, &["b"]);
    assert_eq!(room.heartbeat("a"), Ok(()));
}

#[test]
fn a_waiting_member_whose_connection_broke_has_its_session_timeout_to_come_back() {
    let mut room = Room::stable(&["a", "b"]);
    let token = room.join(known("a"));
    room.group.remove_token(token, room.now_ms, &mut room.out);
    let b = room.join(known("b"));
    room.pass(SESSION_MS - 1);
    assert_eq!(room.reply(b), None);
    room.pass(1);
    assert_eq!(room.joined(b).members.len(), 1);
    assert_eq!(room.reply(token), None);
}

#[test]
fn a_new_member_that_cannot_know_its_id_is_out_when_its_connection_breaks() {
    let mut room = Room::stable(&["a"]);
    let lost = room.join(new("b"));
    let a = room.join(known("a"));
    assert_eq!(room.joined(a).members.len(), 2);
    room.sync("a", &[]);
    room.out
        .retain(|action| !matches!(action, Action::Reply(token, _) if *token == lost));
    let lost = room.join(new("c"));
    room.group.remove_token(lost, room.now_ms, &mut room.out);
    assert_eq!(room.ids(), ["a", "b"]);
}

// ---- leaving ----

#[test]
fn when_the_leader_leaves_the_others_rebalance_under_another() {
    let mut room = Room::stable(&["a", "b", "c"]);
    assert_eq!(room.leave(&[("a", None)]), [Ok(())]);
    assert_eq!(room.group.state(), GroupState::PreparingRebalance);
    let c = room.join(known("c"));
    let b = room.join(known("b"));
    assert_eq!(room.joined(b).members.len(), 2);
    assert_eq!(room.joined(c).leader, "b");
}

#[test]
fn a_leave_names_many_and_each_gets_its_result() {
    let (mut room, ids) = Room::stable_static(&["s", "t", "u"]);
    let results = room.leave(&[
        ("", Some("s")),
        ("", Some("nobody")),
        ("old", Some("t")),
        ("ghost", None),
        (&ids[2], Some("u")),
    ]);
    let unknown = Err(GroupError::UnknownMemberId);
    let fenced = Err(GroupError::FencedInstanceId);
    assert_eq!(results, [Ok(()), unknown.clone(), fenced, unknown, Ok(())]);
    assert_eq!(room.ids(), [ids[1].clone()]);
}

#[test]
fn when_the_last_member_leaves_the_group_is_empty_in_the_next_generation() {
    let mut room = Room::stable(&["a"]);
    room.leave(&[("a", None)]);
    assert_eq!(room.group.state(), GroupState::Empty);
    assert!(room.group.is_idle());
    let stored = room.persisted(true);
    assert_eq!((stored.generation, stored.members.len()), (2, 0));
    assert_eq!(stored.protocol_type.as_deref(), Some("consumer"));
    assert_eq!(stored.protocol, None);
}

#[test]
fn a_member_that_leaves_while_it_waits_is_answered() {
    let mut room = Room::stable(&["a", "b"]);
    let tokens = [room.join(known("a")), room.join(known("b"))];
    for token in tokens {
        room.joined(token);
    }
    let waiting = room.sync("b", &[]);
    room.leave(&[("b", None)]);
    assert_eq!(room.synced(waiting), Err(GroupError::UnknownMemberId));
}

// ---- static members ----

#[test]
fn a_static_member_comes_back_under_a_new_id_without_a_rebalance() {
    let (mut room, ids) = Room::stable_static(&["s", "t"]);
    let request = room.static_join("t");
    let token = room.join(request);
    assert_eq!(room.reply(token), None);
    let stored = room.persisted(true);
    let reply = room.joined(token);
    assert_ne!(reply.member_id, ids[1]);
    assert_eq!(stored.members[1].member_id, reply.member_id);
    assert_eq!(
        (reply.generation, reply.leader.as_str()),
        (1, ids[0].as_str())
    );
    assert!(!reply.skip_assignment);
    assert_eq!(room.group.state(), GroupState::Stable);
    let token = room.sync(&reply.member_id, &[]);
    assert_eq!(room.synced(token).unwrap().assignment, ids[1]);
}

#[test]
fn the_old_id_of_a_static_member_is_fenced() {
    let (mut room, ids) = Room::stable_static(&["s", "t"]);
    let request = room.static_join("t");
    room.join(request);
    room.persisted(true);
    let old = ids[1].as_str();
    let fenced = GroupError::FencedInstanceId;
    let now_ms = room.now_ms;
    let heartbeat = room.group.heartbeat(old, Some("t"), 1, now_ms);
    assert_eq!(heartbeat, Err(fenced.clone()));
    assert_eq!(room.heartbeat(old), Err(GroupError::UnknownMemberId));
    assert_eq!(room.leave(&[(old, Some("t"))]), [Err(fenced.clone())]);
    let commit = CommitRequest {
        member_id: old.into(),
        instance_id: Some("t".into()),
        generation: 1,
        transactional: false,
    };
    let commit = room.group.commit_check(&commit, now_ms);
    assert_eq!(commit, Err(fenced.clone()));
    let token = room.join(JoinRequest {
        instance_id: Some("t".into()),
        ..known(old)
    });
    assert_eq!(room.join_result(token), Err(fenced));
}

#[test]
fn a_static_leader_that_comes_back_is_told_to_skip_the_assignment() {
    let (mut room, _) = Room::stable_static(&["s", "t"]);
    let request = room.static_join("s");
    let token = room.join(request);
    room.persisted(true);
    let reply = room.joined(token);
    assert!(reply.skip_assignment);
    assert_eq!(reply.leader, reply.member_id);
    assert_eq!(reply.members.len(), 2);
}

#[test]
fn a_static_leader_with_an_old_client_does_not_learn_that_it_leads() {
    let (mut room, ids) = Room::stable_static(&["s", "t"]);
    let request = JoinRequest {
        supports_skip_assignment: false,
        ..room.static_join("s")
    };
    let token = room.join(request);
    room.persisted(true);
    let reply = room.joined(token);
    assert_eq!(reply.leader, ids[0]);
    assert_ne!(reply.member_id, ids[0]);
    assert!(!reply.skip_assignment && reply.members.is_empty());
}

#[test]
fn a_static_member_that_changes_the_chosen_protocol_rebalances() {
    let (mut room, _) = Room::stable_static(&["s", "t"]);
    let request = JoinRequest {
        protocols: vec![protocol("sticky")],
        ..room.static_join("t")
    };
    room.join(request);
    assert_eq!(room.group.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_static_member_whose_new_id_cannot_be_stored_keeps_the_old_one() {
    let (mut room, ids) = Room::stable_static(&["s", "t"]);
    let request = room.static_join("s");
    let token = room.join(request);
    let before = room.group.snapshot();
    room.persisted(false);
    assert_eq!(room.join_result(token), Err(GroupError::NotCoordinator));
    assert_eq!(room.ids(), ids);
    let after = room.group.snapshot();
    assert_eq!(after.leader, Some(ids[0].clone()));
    assert_ne!(after, before);
    assert_eq!(room.heartbeat(&ids[0]), Ok(()));
}

#[test]
fn a_static_member_that_comes_back_during_a_rebalance_fences_its_parked_request() {
    let (mut room, ids) = Room::stable_static(&["s", "t"]);
    let rejoin = JoinRequest {
        instance_id: Some("t".into()),
        ..changed(known(&ids[1]))
    };
    let parked = room.join(rejoin);
    let request = room.static_join("t");
    let again = room.join(request);
    let result = room.join_result(parked);
    assert_eq!(result, Err(GroupError::FencedInstanceId));
    let request = room.static_join("s");
    let s = room.join(request);
    assert_eq!(room.joined(s).members.len(), 2);
    let t = room.joined(again);
    assert_eq!(room.group.state(), GroupState::CompletingRebalance);
    let parked = room.sync(&t.member_id, &[]);
    let request = room.static_join("t");
    room.join(request);
    assert_eq!(room.synced(parked), Err(GroupError::FencedInstanceId));
    assert_eq!(room.group.state(), GroupState::PreparingRebalance);
}

#[test]
fn a_rebalance_that_overtakes_a_returning_static_member_answers_it() {
    let (mut room, ids) = Room::stable_static(&["s", "t"]);
    let request = room.static_join("t");
    let t = room.join(request);
    room.join(new("d"));
    room.persisted(false);
    assert_eq!(room.reply(t), None);
    let s = room.join(JoinRequest {
        instance_id: Some("s".into()),
        ..known(&ids[0])
    });
    assert_eq!(room.joined(s).members.len(), 3);
    assert_eq!(room.joined(t).generation, 2);
}

// ---- commits ----

#[test]
fn commits_are_checked_against_the_group() {
    let commit = |member_id: &str, generation| CommitRequest {
        member_id: member_id.into(),
        instance_id: None,
        generation,
        transactional: false,
    };
    assert_eq!(commit_check_without_group(-1), Ok(()));
    assert_eq!(
        commit_check_without_group(0),
        Err(GroupError::GroupIdNotFound)
    );
    let mut room = Room::new();
    let check = |room: &mut Room, request| room.group.commit_check(&request, room.now_ms);
    assert_eq!(check(&mut room, commit("", -1)), Ok(()));
    assert_eq!(
        check(&mut room, commit("a", 1)),
        Err(GroupError::UnknownMemberId)
    );
    let mut room = Room::stable(&["a"]);
    assert_eq!(check(&mut room, commit("a", 1)), Ok(()));
    assert_eq!(
        check(&mut room, commit("a", 0)),
        Err(GroupError::IllegalGeneration)
    );
    assert_eq!(
        check(&mut room, commit("", -1)),
        Err(GroupError::UnknownMemberId)
    );
    let transactional = CommitRequest {
        transactional: true,
        ..commit("", -1)
    };
    assert_eq!(check(&mut room, transactional), Ok(()));
    room.join(known("a"));
    assert_eq!(room.group.state(), GroupState::CompletingRebalance);
    assert_eq!(
        check(&mut room, commit("a", 2)),
        Err(GroupError::RebalanceInProgress)
    );
}

#[test]
fn a_commit_counts_as_a_heartbeat() {
    let mut room = Room::stable(&["a"]);
    let commit = CommitRequest {
        member_id: "a".into(),
        instance_id: None,
        generation: 1,
        transactional: false,
    };
    for _ in 0..3 {
        room.pass(SESSION_MS - 1);
        assert_eq!(room.group.commit_check(&commit, room.now_ms), Ok(()));
    }
}

// ---- restart, description, end ----

#[test]
fn after_a_restart_members_go_on_without_a_rebalance() {
    let mut room = Room::stable(&["a", "b"]);
    let stored = room.group.snapshot();
    room.now_ms += 1_000_000;
    room.group = Group::restore(Arc::clone(&room.config), stored.clone(), room.now_ms);
    assert_eq!(room.group.snapshot(), stored);
    room.pass(SESSION_MS - 1);
    assert_eq!(room.heartbeat("a"), Ok(()));
    assert_eq!(room.heartbeat("b"), Ok(()));
    let token = room.sync("b", &[]);
    assert_eq!(room.synced(token).unwrap().assignment, "b");
    assert!(room.out.is_empty());
}

#[test]
fn after_a_restart_no_generation_is_used_twice() {
    let mut room = Room::stable(&["a"]);
    let stored = room.group.snapshot();
    for _ in 0..10 {
        let token = room.join(changed(known("a")));
        room.joined(token);
        room.leave(&[("a", None)]);
        room.join(new("a"));
        room.pass(DELAY_MS);
    }
    let before = room.group.generation();
    room.out.clear();
    room.group = Group::restore(Arc::clone(&room.config), stored, room.now_ms);
    assert_eq!(room.group.generation(), 1);
    let token = room.join(known("a"));
    assert!(room.joined(token).generation > before);
}

#[test]
fn an_empty_group_is_restored_as_empty() {
    let mut room = Room::stable(&["a"]);
    room.leave(&[("a", None)]);
    let stored = room.persisted(true);
    let group = Group::restore(Arc::clone(&room.config), stored.clone(), 1 << 40);
    assert_eq!(group.state(), GroupState::Empty);
    assert_eq!(group.snapshot(), stored);
    assert_eq!(
        group.retention(),
        Retention::SinceEmpty(stored.state_since_ms)
    );
    assert_eq!(group.next_deadline(), None);
}

#[test]
fn metadata_and_assignments_are_shown_of_stable_groups_only() {
    let mut room = Room::stable(&["a"]);
    let shown = room.group.describe();
    assert_eq!((shown.state, shown.protocol.as_str()), ("Stable", "range"));
    assert_eq!(shown.members[0].assignment, "a");
    assert!(!shown.members[0].metadata.is_empty());
    room.join(new("b"));
    let shown = room.group.describe();
    assert_eq!(
        (shown.state, shown.protocol.as_str()),
        ("PreparingRebalance", "")
    );
    assert_eq!(shown.protocol_type, "consumer");
    assert!(shown.members[0].metadata.is_empty());
    assert!(shown.members[0].assignment.is_empty());
}

#[test]
fn offsets_of_subscribed_topics_are_kept() {
    let mut room = Room::new();
    assert_eq!(room.group.retention(), Retention::SinceCommit);
    let both = ["orders", "other"];
    assert_eq!(room.group.deletable(&both), Ok(HashSet::from(both)));
    let topics = BTreeSet::from(["orders".to_owned()]);
    room = Room::stable(&["a"]);
    assert_eq!(room.group.retention(), Retention::Unsubscribed(topics));
    assert_eq!(room.group.deletable(&both), Ok(HashSet::from(["other"])));
    room.join(changed(known("a")));
    assert_eq!(room.group.retention(), Retention::Keep);
    assert_eq!(room.group.deletable(&both), Ok(HashSet::new()));
}

#[test]
fn only_an_empty_group_can_be_deleted() {
    let mut room = Room::stable(&["a"]);
    assert_eq!(room.group.delete(), Err(GroupError::NonEmptyGroup));
    room.leave(&[("a", None)]);
    assert_eq!(room.group.delete(), Ok(()));
    assert_eq!(room.group.delete(), Err(GroupError::GroupIdNotFound));
    let token = room.join(new("a"));
    let gone = GroupError::CoordinatorNotAvailable;
    assert_eq!(room.join_result(token), Err(gone.clone()));
    assert_eq!(room.heartbeat("a"), Err(gone));
    assert_eq!(room.group.describe().state, "Dead");
}

#[test]
fn a_group_that_is_unloaded_answers_all_that_wait() {
    let mut room = Room::stable(&["a", "b"]);
    let token = room.join(known("a"));
    room.group.unload(&mut room.out);
    assert_eq!(room.join_result(token), Err(GroupError::NotCoordinator));
    assert_eq!(room.group.state(), GroupState::Dead);
    assert_eq!(room.group.next_deadline(), None);
}

// ---- cost ----

#[test]
fn a_rebalance_of_a_hundred_members_takes_one_write_and_two_answers_each() {
    let mut room = Room::new();
    let ids: Vec<String> = (0..100).map(|index| format!("m{index:02}")).collect();
    for id in &ids {
        room.join(new(id));
    }
    room.pass(2 * DELAY_MS);
    room.out.clear();
    room.sync_all();
    assert!(room.out.is_empty());
    room.leave(&[("m42", None)]);
    for id in ids.iter().filter(|id| *id != "m42") {
        room.join(known(id));
    }
    assert_eq!(room.group.state(), GroupState::CompletingRebalance);
    assert_eq!(room.out.len(), 99);
    let to_leader = |action: &&Action| matches!(action, Action::Reply(_, Reply::Join(Ok(reply))) if reply.members.len() == 99);
    assert_eq!(room.out.iter().filter(to_leader).count(), 1);
    room.out.clear();
    for id in ids.iter().filter(|id| *id != "m42") {
        room.sync(id, &[]);
    }
    assert_eq!(room.out.len(), 1);
    room.persisted(true);
    assert_eq!(room.out.len(), 99);
}

#[test]
fn a_thousand_groups_do_nothing_until_something_is_due() {
    let mut rooms: Vec<Room> = (0..1_000).map(|_| Room::stable(&["a", "b"])).collect();
    let mut ticks = 0;
    for room in &mut rooms {
        for _ in 0..10 {
            room.now_ms += 3_000;
            assert!(
                room.group
                    .next_deadline()
                    .is_some_and(|at_ms| at_ms > room.now_ms)
            );
            assert_eq!(room.heartbeat("a"), Ok(()));
            assert_eq!(room.heartbeat("b"), Ok(()));
        }
        while let Some(at_ms) = room.group.next_deadline() {
            room.group.tick(at_ms, &mut room.out);
            ticks += 1;
        }
        // No request was answered, and only the empty group was stored.
        assert_eq!(room.out.len(), 1);
    }
    assert_eq!(ticks, 1_000);
}
