//! What a request costs in a large group, in members that it looks at.

use super::group::{Group, GroupState};
use super::messages::*;
use crate::coordinator::groups::config::GroupConfig;
use crate::coordinator::parked::Token;
use bytes::Bytes;
use std::sync::Arc;

const MEMBERS: usize = 2_000;

struct Crowd {
    group: Group,
    now_ms: i64,
    next_token: u64,
    out: Vec<Action>,
}

fn join_request(id: &str, metadata: &Bytes) -> JoinRequest {
    JoinRequest {
        member_id: id.into(),
        new_member_id: String::new(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol {
            name: "range".into(),
            metadata: metadata.clone(),
        }],
        requires_known_member_id: false,
        supports_skip_assignment: false,
    }
}

fn id(number: usize) -> String {
    format!("m{number:05}")
}

impl Crowd {
    /// An empty group.
    fn none() -> Crowd {
        Crowd {
            group: Group::new(Arc::new(GroupConfig::default()), 0),
            now_ms: 0,
            next_token: 0,
            out: Vec::new(),
        }
    }

    /// A group that settles.
    fn stable() -> Crowd {
        let mut crowd = Crowd::none();
        for number in 0..MEMBERS {
            crowd.join(JoinRequest {
                new_member_id: id(number),
                ..join_request("", &Bytes::new())
            });
        }
        while crowd.group.state() == GroupState::PreparingRebalance {
            crowd.now_ms = crowd.group.next_deadline().unwrap();
            crowd.group.tick(crowd.now_ms, &mut crowd.out);
        }
        crowd.sync_all();
        assert_eq!(crowd.group.state(), GroupState::Stable);
        crowd
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

    fn sync_all(&mut self) {
        for number in 0..MEMBERS {
            let request = SyncRequest {
                member_id: id(number),
                generation: self.group.generation(),
                ..SyncRequest::default()
            };
            let token = self.token();
            self.group.sync(request, token, self.now_ms, &mut self.out);
        }
        let persist = self.out.iter().find_map(|action| match action {
            Action::Persist(id, _) => Some(*id),
            Action::Reply(..) => None,
        });
        let persist = persist.expect("the leader's assignment");
        self.group
            .persist_done(persist, true, self.now_ms, &mut self.out);
        self.out.clear();
    }

    /// Members that were looked at while `act` ran.
    fn looks(&mut self, act: impl FnOnce(&mut Crowd)) -> usize {
        let before = self.group.looked_at();
        act(self);
        self.group.looked_at() - before
    }
}

#[test]
fn a_heartbeat_and_the_next_deadline_look_at_no_other_member() {
    let mut crowd = Crowd::stable();
    let looks = crowd.looks(|crowd| {
        for number in 0..MEMBERS {
            crowd.now_ms += 1;
            let generation = crowd.group.generation();
            let beat = crowd
                .group
                .heartbeat(&id(number), None, generation, crowd.now_ms);
            assert_eq!(beat, Ok(()));
            let deadline_ms = crowd.group.next_deadline().unwrap();
            assert!(deadline_ms > crowd.now_ms);
        }
    });
    assert_eq!(looks, 0);
}

#[test]
fn all_members_that_rejoin_and_sync_at_once_look_at_each_a_few_times() {
    let mut crowd = Crowd::stable();
    let looks = crowd.looks(|crowd| {
        for number in 0..MEMBERS {
            crowd.join(join_request(&id(number), &Bytes::from_static(b"changed")));
        }
        assert_eq!(crowd.group.state(), GroupState::CompletingRebalance);
        crowd.sync_all();
        assert_eq!(crowd.group.state(), GroupState::Stable);
    });
    assert!(looks <= 20 * MEMBERS, "{looks}");
}

#[test]
fn members_that_leave_or_vanish_one_by_one_are_not_looked_for_among_all() {
    let mut crowd = Crowd::stable();
    let looks = crowd.looks(|crowd| {
        let leaving = (0..MEMBERS).map(|number| LeavingMember {
            member_id: id(number),
            instance_id: None,
        });
        let leaving = leaving.collect();
        let left = crowd.group.leave(leaving, crowd.now_ms, &mut crowd.out);
        assert!(left.unwrap().iter().all(|left| left.result.is_ok()));
    });
    assert_eq!(crowd.group.member_count(), 0);
    assert!(looks <= 10 * MEMBERS, "{looks}");

    let mut crowd = Crowd::none();
    let tokens: Vec<Token> = (0..MEMBERS)
        .map(|number| {
            crowd.join(JoinRequest {
                new_member_id: id(number),
                ..join_request("", &Bytes::new())
            })
        })
        .collect();
    let looks = crowd.looks(|crowd| {
        for token in tokens {
            crowd
                .group
                .remove_token(token, crowd.now_ms, &mut crowd.out);
        }
    });
    assert_eq!(crowd.group.member_count(), 0);
    assert!(looks <= 10 * MEMBERS, "{looks}");
}

#[test]
fn ten_thousand_members_that_join_at_once_with_100_kb_each_take_no_more_than_the_groups_limit() {
    let mut crowd = Crowd::none();
    let metadata = Bytes::from(vec![0; 100_000]);
    let looks = crowd.looks(|crowd| {
        for number in 0..10_000 {
            crowd.join(JoinRequest {
                new_member_id: id(number),
                ..join_request("", &metadata)
            });
        }
    });
    let config = GroupConfig::default();
    let members = crowd.group.member_count();
    assert_eq!(members, config.group_record_bytes_max / 100_000);
    assert!(crowd.group.bytes() <= config.group_metadata_bytes_max);
    assert_eq!(crowd.out.len(), 10_000 - members, "the others are refused");
    assert!(looks <= 10 * members, "{looks}");
}

#[test]
fn topics_to_delete_are_looked_up_in_one_pass_through_the_subscriptions() {
    let mut crowd = Crowd::stable();
    let topics: Vec<String> = (0..100).map(|number| format!("t{number}")).collect();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let looks = crowd.looks(|crowd| {
        crowd.group.deletable(&topics).unwrap();
    });
    assert!(looks <= MEMBERS, "{looks}");
}
