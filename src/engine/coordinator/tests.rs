//! What groups promise of the disk, at moments that a client cannot choose.

use super::*;
use crate::engine::groups::messages::CommitRequest;
use crate::engine::groups::offsets::CommittedOffset;
use crate::engine::tests::{create, flush, key, start};
use std::path::Path;

const GROUP: &str = "g";

/// A broker of one shard whose commit loop runs.
fn broker(dir: &Path) -> Rc<Engine> {
    let engine = start(dir, 1).remove(0);
    let flushed = Rc::clone(&engine);
    tokio_uring::spawn(async move {
        loop {
            flush(&flushed);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    engine
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
    let found = engine.fetch_offsets(group_id.into(), None).await.unwrap();
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
        again.load_groups().unwrap();
        assert_eq!(committed(&again, GROUP).await, []);
    });
}
