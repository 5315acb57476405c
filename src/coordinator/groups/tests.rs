//! Groups and the disk, at moments that a client cannot choose; and what groups keep in memory.

use super::classic::messages::{
    CommitRequest, JoinRequest, LeavingMember, MemberSnapshot, Protocol,
};
use super::offsets::CommittedOffset;
use super::records::StoredGroup;
use super::*;
use crate::coordinator::{self, Coordinators};
use crate::engine::catalog::changes::{self, NewTopic};
use crate::engine::tests::{create, flush, key, start};
use crate::io::reactor;
use crate::log::check::damage::{self, Damage, DamageList, Why};
use std::cell::Cell;
use std::collections::HashMap;
use std::path::Path;
use tokio::sync::oneshot;

const GROUP: &str = "g";

/// A broker of one shard.
struct Broker {
    engine: Rc<Engine>,
    coordinators: Coordinators,
}

/// Starts one without a commit loop. It has not loaded its groups.
fn broker_without_commits(dir: &Path) -> Broker {
    let engine = start(dir, 1).remove(0);
    let parts = coordinator::parts(1, 16).remove(0);
    Broker {
        coordinators: Coordinators::new(&engine, parts),
        engine,
    }
}

/// Starts one whose commit loop runs. It has not loaded its groups.
fn broker(dir: &Path) -> Broker {
    broker_with_disk(dir).0
}

/// Likewise; the disk fails when the cell is set.
fn broker_with_disk(dir: &Path) -> (Broker, Rc<Cell<bool>>) {
    let broker = broker_without_commits(dir);
    let disk_fails = Rc::new(Cell::new(false));
    let (flushed, fails) = (Rc::clone(&broker.engine), Rc::clone(&disk_fails));
    reactor::spawn(async move {
        loop {
            if fails.get() {
                flush_in_vain(&flushed)
            } else {
                flush(&flushed)
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    (broker, disk_fails)
}

impl Broker {
    fn groups(&self) -> &Rc<Groups> {
        &self.coordinators.groups
    }

    /// Creates the topic that groups are stored in, and returns the home of a group.
    async fn home(&self) -> PartitionKey {
        let groups = self.groups();
        groups.runtime.ensure_topic().await.unwrap();
        groups.runtime.home_of(GROUP).unwrap()
    }
}

fn flush_in_vain(engine: &Rc<Engine>) {
    for partition in engine.partitions() {
        let flush = partition.borrow_mut().flush_begin();
        if let Some(flush) = flush {
            let failed = Err(std::io::Error::other("no disk"));
            partition.borrow_mut().flush_end(flush, &failed);
        }
    }
}

/// A client that is not a member commits.
async fn commit(
    broker: &Broker,
    group_id: &str,
    keys: &[PartitionKey],
) -> Result<Vec<Result<(), GroupError>>, GroupError> {
    let who = CommitRequest {
        member_id: String::new(),
        instance_id: None,
        generation: -1,
        transactional: false,
    };
    let offset = |key: &PartitionKey| {
        let groups = broker.groups();
        let offset = groups.new_committed_offset(5, -1, "".into(), clock::steady_ms());
        (*key, offset.unwrap())
    };
    let commits = keys.iter().map(offset).collect();
    let groups = broker.groups();
    groups.commit_offsets(group_id.into(), who, commits).await
}

async fn committed(broker: &Broker, group_id: &str) -> Vec<PartitionKey> {
    let found = broker
        .groups()
        .fetch_offsets(group_id.into(), None, usize::MAX);
    let found = found.await.unwrap();
    let key = |(key, _): &(PartitionKey, CommittedOffset)| *key;
    found.iter().map(key).collect()
}

#[test]
fn an_offset_of_a_topic_that_the_groups_shard_does_not_know_yet_is_refused() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let broker = broker(dir.path());
        let known = key(&*create(&broker.engine, "t", 1).await, 0);
        let unknown = PartitionKey {
            topic_id: uuid::Uuid::from_u128(7),
            index: 0,
        };
        let results = commit(&broker, GROUP, &[unknown, known]).await.unwrap();
        assert_eq!(results, [Err(GroupError::UnknownTopic), Ok(())]);
        assert_eq!(committed(&broker, GROUP).await, [known]);
    });
}

#[test]
fn many_offsets_are_committed_in_pieces_and_each_has_its_own_result() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let broker = broker(dir.path());
        let topic = create(&broker.engine, "t", 600).await;
        let unknown = PartitionKey {
            topic_id: uuid::Uuid::from_u128(7),
            index: 0,
        };
        let mut keys: Vec<_> = (0..600).map(|index| key(&topic, index)).collect();
        keys[500] = unknown;
        let results = commit(&broker, GROUP, &keys).await.unwrap();
        for (place, result) in results.iter().enumerate() {
            let is_known = place != 500;
            let expected = is_known.then_some(()).ok_or(GroupError::UnknownTopic);
            assert_eq!(*result, expected, "{place}");
        }
        keys.remove(500);
        assert_eq!(committed(&broker, GROUP).await, keys);
    });
}

#[test]
fn an_offset_of_a_topic_that_was_just_deleted_is_refused_and_never_comes_back() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let broker = broker(dir.path());
        let old = create(&broker.engine, "t", 1).await;
        assert!(commit(&broker, GROUP, &[key(&old, 0)]).await.is_ok());
        changes::delete_topic(&broker.engine, old.id).await.unwrap();
        let results = commit(&broker, GROUP, &[key(&old, 0)]).await.unwrap();
        assert_eq!(results, [Err(GroupError::UnknownTopic)]);
        assert_eq!(committed(&broker, GROUP).await, []);
        create(&broker.engine, "t", 1).await;
        let again = self::broker(dir.path());
        again.coordinators.load();
        assert_eq!(committed(&again, GROUP).await, []);
    });
}

#[test]
fn a_topic_whose_offsets_cannot_be_forgotten_leaves_its_name_to_no_other() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let (broker, disk_fails) = broker_with_disk(dir.path());
        let old = create(&broker.engine, "t", 1).await;
        assert!(commit(&broker, GROUP, &[key(&old, 0)]).await.is_ok());
        disk_fails.set(true);
        assert!(changes::delete_topic(&broker.engine, old.id).await.is_err());
        assert!(broker.engine.topic("t").is_none());
        assert!(!is_free(&broker, "t").await);
    });
}

#[test]
fn a_topic_of_which_a_refused_offset_may_come_back_leaves_its_name_to_no_other() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let (broker, disk_fails) = broker_with_disk(dir.path());
        let (old, other) = (
            create(&broker.engine, "t", 1).await,
            create(&broker.engine, "u", 1).await,
        );
        broker.home().await;
        disk_fails.set(true);
        let refused = commit(&broker, GROUP, &[key(&old, 0)]).await;
        assert_eq!(refused, Err(GroupError::NotCoordinator));
        assert_eq!(committed(&broker, GROUP).await, []);
        // Its record is in the file, and its deletion cannot be written.
        assert!(changes::delete_topic(&broker.engine, old.id).await.is_err());
        assert_eq!(
            changes::delete_topic(&broker.engine, other.id).await.ok(),
            Some(())
        );
        assert!(!is_free(&broker, "t").await);
        assert!(is_free(&broker, "u").await);
    });
}

#[test]
fn a_topic_whose_offsets_could_not_be_read_leaves_its_name_to_no_other() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let broker = broker(dir.path());
        let old = create(&broker.engine, "t", 1).await;
        assert!(commit(&broker, GROUP, &[key(&old, 0)]).await.is_ok());
        let again = self::broker(dir.path());
        let home = again.groups().runtime.home_of(GROUP).unwrap();
        // This start cannot read the partition.
        let runtime = &again.groups().runtime;
        runtime.unread.borrow_mut().insert(home);
        assert!(changes::delete_topic(&again.engine, old.id).await.is_err());
        assert!(!is_free(&again, "t").await);
        // The next start knows that the partition is damaged.
        let found = dir.path().join(format!("{OFFSETS_TOPIC}-{}", home.index));
        let mut damage = DamageList::default();
        damage.add(vec![Damage {
            offsets: 0..1,
            segment_base: 0,
            bytes: 0..100,
            why: Why::BadCrc,
        }]);
        damage.write(&found).unwrap();
        assert!(!is_free(&self::broker(dir.path()), "t").await);
        std::fs::remove_file(found.join(damage::FILE_NAME)).unwrap();
        // The start after that can read it.
        let third = self::broker(dir.path());
        third.coordinators.load();
        wait_until_free(&third, "t").await;
        assert_eq!(committed(&third, GROUP).await, []);
    });
}

/// Creates a topic of this name once that can be done.
async fn wait_until_free(broker: &Broker, name: &str) {
    while !is_free(broker, name).await {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Whether a topic of this name can be created.
async fn is_free(broker: &Broker, name: &str) -> bool {
    let new = NewTopic {
        name: name.into(),
        partitions: 1,
        configs: Default::default(),
    };
    changes::create_topic(&broker.engine, new, false)
        .await
        .is_ok()
}

#[test]
fn offsets_that_a_stop_left_behind_their_topic_are_ended_at_the_next_start() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let broker = broker(dir.path());
        let home = broker.home().await;
        let now_ms = clock::steady_ms();
        let groups = broker.groups();
        let offset = groups.new_committed_offset(5, -1, "".into(), now_ms);
        let left = records::offset_record(GROUP, "t", 0, Some(&offset.unwrap())).unwrap();
        let left: Result<_, GroupError> = Ok(vec![left]);
        assert!(groups.runtime.write(home, left).await);
        let (next, disk_fails) = broker_with_disk(dir.path());
        disk_fails.set(true);
        next.coordinators.load();
        assert_eq!(committed(&next, GROUP).await, []);
        // A topic of that name would find them at the next start.
        assert!(!is_free(&next, "t").await);
        let next = self::broker(dir.path());
        next.coordinators.load();
        wait_until_free(&next, "t").await;
        let last = self::broker(dir.path());
        last.coordinators.load();
        assert_eq!(committed(&last, GROUP).await, []);
    });
}

#[test]
fn a_group_whose_deletion_fails_is_there_as_before() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let (broker, disk_fails) = broker_with_disk(dir.path());
        let key = key(&*create(&broker.engine, "t", 1).await, 0);
        assert!(commit(&broker, GROUP, &[key]).await.is_ok());
        disk_fails.set(true);
        let deleted = broker.groups().delete_group(GROUP.into()).await;
        assert_eq!(deleted, Err(GroupError::NotCoordinator));
        let described = broker.groups().describe_group(GROUP.into()).await.unwrap();
        assert_eq!(described.unwrap().state, "Empty");
        assert_eq!(committed(&broker, GROUP).await, [key]);
    });
}

#[test]
fn a_group_that_is_being_deleted_makes_no_room_for_another_of_its_name() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let broker = broker_without_commits(dir.path());
        let home = broker.home().await;
        let dying = |hosted: &mut HostedGroup| hosted.group.delete();
        let groups = broker.groups();
        assert_eq!(
            groups.with_group(GROUP, home, |hosted, _, _| dying(hosted)),
            Ok(())
        );
        groups.with_known_group(GROUP, |_, _, _| ());
        let key = key(&*create(&broker.engine, "t", 1).await, 0);
        let refused = commit(&broker, GROUP, &[key]).await;
        assert_eq!(refused, Err(GroupError::CoordinatorNotAvailable));
        assert_eq!(groups.end_deletion(GROUP, true), Ok(()));
        assert!(!groups.has_group(GROUP));
    });
}

#[test]
fn a_request_that_comes_during_a_stop_is_to_look_for_the_coordinator_again() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let broker = broker(dir.path());
        let key = key(&*create(&broker.engine, "t", 1).await, 0);
        assert!(commit(&broker, GROUP, &[key]).await.is_ok());
        broker.engine.stop.set();
        broker.coordinators.unload();
        let elsewhere = GroupError::NotCoordinator;
        for group_id in [GROUP, "another"] {
            let beat = broker
                .groups()
                .heartbeat(group_id.into(), "m".into(), None, 1)
                .await;
            assert_eq!(beat, Err(elsewhere.clone()));
            let joined = broker
                .groups()
                .join_group(group_id.into(), join_request(), unheard())
                .await;
            assert_eq!(joined, Err(elsewhere.clone()));
            let refused = commit(&broker, group_id, &[key]).await;
            assert_eq!(refused, Err(elsewhere.clone()));
        }
    });
}

/// For a request of which nobody wants to know when it is stored.
fn unheard() -> oneshot::Sender<()> {
    oneshot::channel().0
}

fn join_request() -> JoinRequest {
    JoinRequest {
        member_id: String::new(),
        new_member_id: "m".into(),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol {
            name: "range".into(),
            metadata: bytes::Bytes::new(),
        }],
        requires_known_member_id: false,
        supports_skip_assignment: false,
    }
}

#[test]
fn sessions_of_restored_members_begin_when_the_broker_serves() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let broker = broker_without_commits(dir.path());
        let home = broker.home().await;
        let stored = StoredGroup {
            snapshot: Some(a_member_alone()),
            offsets: BTreeMap::new(),
        };
        let groups = HashMap::from([(GROUP.to_owned(), stored)]);
        broker.groups().adopt(home, StoredGroups { groups });
        // Another shard is slow.
        let began_ms = clock::steady_ms();
        while clock::steady_ms() < began_ms + 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let serves_ms = clock::steady_ms();
        broker.coordinators.serve();
        let hosted = broker.groups().hosted.borrow();
        let ends_ms = hosted[GROUP].group.next_deadline().unwrap();
        assert!(ends_ms >= serves_ms + SESSION_MS, "{ends_ms} {serves_ms}");
    });
}

const SESSION_MS: i64 = 10_000;

fn a_member_alone() -> GroupSnapshot {
    let request = join_request();
    GroupSnapshot {
        protocol_type: Some(request.protocol_type),
        generation: 1,
        protocol: Some("range".into()),
        leader: Some("m".into()),
        state_since_ms: 0,
        members: vec![MemberSnapshot {
            member_id: "m".into(),
            instance_id: None,
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: SESSION_MS,
            protocols: request.protocols,
            assignment: bytes::Bytes::new(),
        }],
    }
}

#[test]
fn a_group_that_is_deleted_while_its_topic_is_leaves_nothing_to_a_new_topic_of_that_name() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let broker = broker(dir.path());
        let topic = create(&broker.engine, "t", 1).await;
        // More than are looked through at once: the last ones are deleted in between.
        let names: Vec<String> = (0..300).map(|number| format!("g{number:03}")).collect();
        for name in &names {
            assert!(commit(&broker, name, &[key(&topic, 0)]).await.is_ok());
        }
        let deleting = changes::delete_topic(&broker.engine, topic.id);
        let groups_too = async {
            while broker.engine.topic("t").is_some() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            broker.groups().delete_group("g299".into()).await.unwrap();
        };
        let (deleted, ()) = futures_util::future::join(deleting, groups_too).await;
        deleted.unwrap();
        create(&broker.engine, "t", 1).await;
        let again = self::broker(dir.path());
        again.coordinators.load();
        for name in &names {
            assert_eq!(committed(&again, name).await, [], "{name}");
        }
    });
}

#[test]
fn members_that_come_and_go_leave_no_group_and_no_deadline() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let broker = broker(dir.path());
        let groups = broker.groups();
        let name = "x".repeat(30_000);
        for round in 0..50 {
            let id = format!("m{round}");
            let request = JoinRequest {
                new_member_id: id.clone(),
                requires_known_member_id: true,
                ..join_request()
            };
            let joined = groups.join_group(name.clone(), request, unheard()).await;
            assert_eq!(joined, Err(GroupError::MemberIdRequired(id.clone())));
            assert_eq!(groups.timers.count(), 1);
            let leaving = LeavingMember {
                member_id: id,
                instance_id: None,
            };
            let left = groups.leave_group(name.clone(), vec![leaving]).await;
            assert_eq!(left.unwrap()[0].result, Ok(()));
        }
        assert!(!groups.has_group(&name));
        assert_eq!(groups.timers.count(), 0);
    });
}

#[test]
fn a_join_whose_client_is_gone_leaves_the_group() {
    reactor::start(async {
        let dir = tempfile::tempdir().unwrap();
        let broker = broker(dir.path());
        let home = broker.home().await;
        let groups = broker.groups();
        let mut join = Box::pin(groups.join_group(GROUP.into(), join_request(), unheard()));
        assert!(futures_util::poll!(join.as_mut()).is_pending());
        let members = || groups.with_group(GROUP, home, |hosted, _, _| hosted.group.member_count());
        assert_eq!(members(), 1);
        drop(join);
        assert_eq!(members(), 0);
    });
}

#[test]
fn clients_can_neither_create_nor_delete_the_topic_of_groups() {
    assert!(crate::engine::catalog::INTERNAL_TOPICS.contains(&OFFSETS_TOPIC));
}
