//! What groups promise of the disk, at moments that a client cannot choose.

use super::*;
use crate::engine::admin::NewTopic;
use crate::engine::groups::messages::{CommitRequest, MemberSnapshot, Protocol};
use crate::engine::groups::offsets::CommittedOffset;
use crate::engine::tests::{create, flush, key, start};
use crate::log::damage::{self, Damage, DamageList, Why};
use std::path::Path;

const GROUP: &str = "g";

/// A broker of one shard whose commit loop runs.
fn broker(dir: &Path) -> Rc<Engine> {
    broker_with_disk(dir).0
}

/// Likewise; once the cell is set, the disk fails.
fn broker_with_disk(dir: &Path) -> (Rc<Engine>, Rc<Cell<bool>>) {
    let engine = start(dir, 1).remove(0);
    let disk_fails = Rc::new(Cell::new(false));
    let (flushed, fails) = (Rc::clone(&engine), Rc::clone(&disk_fails));
    tokio_uring::spawn(async move {
        loop {
            match fails.get() {
                false => flush(&flushed),
                true => flush_in_vain(&flushed),
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    (engine, disk_fails)
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

/// Somebody who is no member commits.
async fn commit(
    engine: &Rc<Engine>,
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
        let offset = engine.new_committed_offset(5, -1, String::new(), clock::steady_ms());
        (*key, offset.unwrap())
    };
    let commits = keys.iter().map(offset).collect();
    engine.commit_offsets(group_id.into(), who, commits).await
}

async fn committed(engine: &Rc<Engine>, group_id: &str) -> Vec<PartitionKey> {
    let found = engine.fetch_offsets(group_id.into(), None, usize::MAX);
    let found = found.await.unwrap();
    let key = |(key, _): &(PartitionKey, CommittedOffset)| *key;
    found.iter().map(key).collect()
}

#[test]
fn an_offset_of_a_topic_that_the_groups_shard_does_not_know_yet_is_refused() {
    tokio_uring::start(async {
        let dir = tempfile::tempdir().unwrap();
        let engine = broker(dir.path());
        let known = key(&*create(&engine, "t", 1).await, 0);
        let unknown = PartitionKey {
            topic_id: uuid::Uuid::from_u128(7),
            index: 0,
        };
        let results = commit(&engine, GROUP, &[unknown, known]).await.unwrap();
        assert_eq!(results, [Err(GroupError::UnknownTopic), Ok(())]);
        assert_eq!(committed(&engine, GROUP).await, [known]);
    });
}

#[test]
fn an_offset_of_a_topic_that_was_just_deleted_is_refused_and_never_comes_back() {
    tokio_uring::start(async {
        let dir = tempfile::tempdir().unwrap();
        let engine = broker(dir.path());
        let old = create(&engine, "t", 1).await;
        assert!(commit(&engine, GROUP, &[key(&old, 0)]).await.is_ok());
        engine.delete_topic(old.id).await.unwrap();
        let results = commit(&engine, GROUP, &[key(&old, 0)]).await.unwrap();
        assert_eq!(results, [Err(GroupError::UnknownTopic)]);
        assert_eq!(committed(&engine, GROUP).await, []);
        create(&engine, "t", 1).await;
        let again = broker(dir.path());
        again.load_groups();
        assert_eq!(committed(&again, GROUP).await, []);
    });
}

#[test]
fn a_topic_whose_offsets_cannot_be_forgotten_leaves_its_name_to_no_other() {
    tokio_uring::start(async {
        let dir = tempfile::tempdir().unwrap();
        let (engine, disk_fails) = broker_with_disk(dir.path());
        let old = create(&engine, "t", 1).await;
        assert!(commit(&engine, GROUP, &[key(&old, 0)]).await.is_ok());
        disk_fails.set(true);
        assert!(engine.delete_topic(old.id).await.is_err());
        assert!(engine.topic("t").is_none());
        assert!(!is_free(&engine, "t").await);
    });
}

#[test]
fn a_topic_of_which_a_refused_offset_may_come_back_leaves_its_name_to_no_other() {
    tokio_uring::start(async {
        let dir = tempfile::tempdir().unwrap();
        let (engine, disk_fails) = broker_with_disk(dir.path());
        let (old, other) = (create(&engine, "t", 1).await, create(&engine, "u", 1).await);
        engine.ensure_offsets_topic().await.unwrap();
        disk_fails.set(true);
        let refused = commit(&engine, GROUP, &[key(&old, 0)]).await;
        assert_eq!(refused, Err(GroupError::NotCoordinator));
        assert_eq!(committed(&engine, GROUP).await, []);
        // Its record is in the file, and no end of it can be written.
        assert!(engine.delete_topic(old.id).await.is_err());
        assert_eq!(engine.delete_topic(other.id).await.ok(), Some(()));
        assert!(!is_free(&engine, "t").await);
        assert!(is_free(&engine, "u").await);
    });
}

#[test]
fn a_topic_whose_offsets_could_not_be_read_leaves_its_name_to_no_other() {
    tokio_uring::start(async {
        let dir = tempfile::tempdir().unwrap();
        let engine = broker(dir.path());
        let old = create(&engine, "t", 1).await;
        assert!(commit(&engine, GROUP, &[key(&old, 0)]).await.is_ok());
        let again = broker(dir.path());
        let home = again.home_of_group(GROUP).unwrap();
        // For this start the medium does not give what is in it.
        again.groups.unread.borrow_mut().insert(home);
        assert!(again.delete_topic(old.id).await.is_err());
        assert!(!is_free(&again, "t").await);
        // The next one knows that it is damaged.
        let found = dir.path().join(format!("{OFFSETS_TOPIC}-{}", home.index));
        let mut damage = DamageList::default();
        damage.add(vec![Damage {
            offsets: 0..1,
            segment_base: 0,
            bytes: 0..100,
            why: Why::BadCrc,
        }]);
        damage.write(&found).unwrap();
        assert!(!is_free(&broker(dir.path()), "t").await);
        std::fs::remove_file(found.join(damage::FILE_NAME)).unwrap();
        // The one after that can read it.
        let third = broker(dir.path());
        third.load_groups();
        assert!(is_free(&third, "t").await);
        assert_eq!(committed(&third, GROUP).await, []);
    });
}

/// Whether a topic of this name can be created.
async fn is_free(engine: &Rc<Engine>, name: &str) -> bool {
    let new = NewTopic {
        name: name.into(),
        partitions: 1,
        configs: Default::default(),
    };
    engine.create_topic(new, false).await.is_ok()
}

#[test]
fn offsets_that_a_stop_left_behind_their_topic_are_ended_at_the_next_start() {
    tokio_uring::start(async {
        let dir = tempfile::tempdir().unwrap();
        let engine = broker(dir.path());
        engine.ensure_offsets_topic().await.unwrap();
        let home = engine.home_of_group(GROUP).unwrap();
        let now_ms = clock::steady_ms();
        let offset = engine.new_committed_offset(5, -1, String::new(), now_ms);
        let left = offsets_topic::offset_record(GROUP, "t", 0, Some(&offset.unwrap())).unwrap();
        assert!(engine.write(home, Ok(vec![left]), now_ms).await.unwrap());
        let next = broker(dir.path());
        next.load_groups();
        assert_eq!(committed(&next, GROUP).await, []);
        create(&next, "t", 1).await;
        let last = broker(dir.path());
        last.load_groups();
        assert_eq!(committed(&last, GROUP).await, []);
    });
}

#[test]
fn a_group_whose_deletion_fails_is_there_as_before() {
    tokio_uring::start(async {
        let dir = tempfile::tempdir().unwrap();
        let (engine, disk_fails) = broker_with_disk(dir.path());
        let key = key(&*create(&engine, "t", 1).await, 0);
        assert!(commit(&engine, GROUP, &[key]).await.is_ok());
        disk_fails.set(true);
        let deleted = engine.delete_group(GROUP.into()).await;
        assert_eq!(deleted, Err(GroupError::NotCoordinator));
        let described = engine.describe_group(GROUP.into()).await.unwrap();
        assert_eq!(described.unwrap().state, "Empty");
        assert_eq!(committed(&engine, GROUP).await, [key]);
    });
}

#[test]
fn a_group_that_is_being_deleted_makes_no_room_for_another_of_its_name() {
    tokio_uring::start(async {
        let dir = tempfile::tempdir().unwrap();
        let engine = start(dir.path(), 1).remove(0);
        engine.ensure_offsets_topic().await.unwrap();
        let home = engine.home_of_group(GROUP).unwrap();
        let dying = |slot: &mut Slot| slot.group.delete();
        assert_eq!(
            engine.with_group(GROUP, home, |slot, _, _| dying(slot)),
            Ok(())
        );
        engine.with_known_group(GROUP, |_, _, _| ());
        let key = key(&*create(&engine, "t", 1).await, 0);
        let refused = commit(&engine, GROUP, &[key]).await;
        assert_eq!(refused, Err(GroupError::CoordinatorNotAvailable));
        assert_eq!(engine.end_deletion(GROUP, true), Ok(()));
        assert!(!engine.has_group(GROUP));
    });
}

#[test]
fn a_request_that_comes_during_a_stop_is_to_look_for_the_coordinator_again() {
    tokio_uring::start(async {
        let dir = tempfile::tempdir().unwrap();
        let engine = broker(dir.path());
        let key = key(&*create(&engine, "t", 1).await, 0);
        assert!(commit(&engine, GROUP, &[key]).await.is_ok());
        engine.stop.set();
        engine.unload_groups();
        let elsewhere = GroupError::NotCoordinator;
        for group_id in [GROUP, "another"] {
            let beat = engine.heartbeat(group_id.into(), "m".into(), None, 1).await;
            assert_eq!(beat, Err(elsewhere.clone()));
            let joined = engine.join_group(group_id.into(), join_request()).await;
            assert_eq!(joined, Err(elsewhere.clone()));
            let refused = commit(&engine, group_id, &[key]).await;
            assert_eq!(refused, Err(elsewhere.clone()));
        }
    });
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
    tokio_uring::start(async {
        let dir = tempfile::tempdir().unwrap();
        let engine = start(dir.path(), 1).remove(0);
        engine.ensure_offsets_topic().await.unwrap();
        let home = engine.home_of_group(GROUP).unwrap();
        let state = offsets_topic::LoadedGroup {
            snapshot: Some(a_member_alone()),
            offsets: BTreeMap::new(),
        };
        let groups = HashMap::from([(GROUP.to_owned(), state)]);
        engine.adopt_groups(home, offsets_topic::Loaded { groups });
        // Another shard is slow.
        let began_ms = clock::steady_ms();
        while clock::steady_ms() < began_ms + 5 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let serves_ms = clock::steady_ms();
        engine.serve_groups();
        let groups = engine.groups.groups.borrow();
        let ends_ms = groups[GROUP].group.next_deadline().unwrap();
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
    tokio_uring::start(async {
        let dir = tempfile::tempdir().unwrap();
        let engine = broker(dir.path());
        let topic = create(&engine, "t", 1).await;
        // More than are looked through at once: the last ones are deleted in between.
        let names: Vec<String> = (0..300).map(|number| format!("g{number:03}")).collect();
        for name in &names {
            assert!(commit(&engine, name, &[key(&topic, 0)]).await.is_ok());
        }
        let deleting = engine.delete_topic(topic.id);
        let groups_too = async {
            while engine.topic("t").is_some() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            engine.delete_group("g299".into()).await.unwrap();
        };
        let (deleted, ()) = futures_util::future::join(deleting, groups_too).await;
        deleted.unwrap();
        create(&engine, "t", 1).await;
        let again = broker(dir.path());
        again.load_groups();
        for name in &names {
            assert_eq!(committed(&again, name).await, [], "{name}");
        }
    });
}
