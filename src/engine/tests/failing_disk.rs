//! A partition whose disk is full, or fails.

use super::*;

#[test]
fn a_full_disk_refuses_what_waits_and_takes_what_comes_after() {
    on_one_partition(async |engine, key| {
        let plain = BatchBuilder::default();
        fail(&engine.workers.worker, Op::Reserve, libc::ENOSPC, true).await;
        for ack in [AckWhen::Appended, AckWhen::Durable] {
            let refused = append(engine, key, ack, &plain, &["a"]).await;
            assert_eq!(refused.await.unwrap(), Err(EngineError::StorageFull));
        }
        heal(&engine.workers.worker).await;
        assert_eq!(append_one(engine, key, "b").await, 0);
    });
}

#[test]
fn when_there_is_room_again_an_idempotent_producer_is_taken_from_its_first_batch_on() {
    on_one_partition(async |engine, key| {
        let send = async |base_sequence| {
            let batch = BatchBuilder {
                producer_id: 7,
                producer_epoch: 0,
                base_sequence,
                ..BatchBuilder::default()
            };
            let answer = append(engine, key, AckWhen::Appended, &batch, &["a", "b"]).await;
            answer.await.unwrap().map(|appended| appended.base_offset)
        };
        fail(&engine.workers.worker, Op::Reserve, libc::ENOSPC, true).await;
        assert_eq!(send(0).await, Err(EngineError::StorageFull));
        heal(&engine.workers.worker).await;
        let behind = send(2).await;
        assert!(matches!(behind, Err(EngineError::OutOfOrderSequence(_))));
        assert_eq!(send(0).await, Ok(0));
        assert_eq!(send(2).await, Ok(2));
    });
}

async fn send(
    engine: &Rc<Engine>,
    key: PartitionKey,
    base_sequence: i32,
) -> Receiver<Result<Appended, EngineError>> {
    let batch = BatchBuilder {
        producer_id: 7,
        producer_epoch: 0,
        base_sequence,
        ..BatchBuilder::default()
    };
    append(engine, key, AckWhen::Durable, &batch, &["a", "b"]).await
}

/// A producer that sends its first two batches again and again is told the same each time: with error 45 in
/// place of the first one's it would give up.
#[test]
fn a_producer_whose_first_batch_met_a_failing_disk_is_told_so_when_it_comes_again() {
    let fail_while_waiting = |engine: &Rc<Engine>, key| {
        let failed = Err(std::io::Error::from_raw_os_error(libc::EIO));
        let partition = engine.partition(key).unwrap();
        partition.borrow_mut().seal_done(&failed);
    };
    let failed = Err(EngineError::StorageFailed);
    // The first batch waits for room, or is being written, when the disk fails.
    for is_written in [false, true] {
        on_one_partition(async |engine, key| {
            if is_written {
                append_one(engine, key, "room").await;
                fault::inject(Op::Write, 0, libc::EIO, false);
            }
            let first = send(engine, key, 0).await;
            if is_written {
                assert!(fault::clear());
            } else {
                fail_while_waiting(engine, key);
            }
            assert_eq!(first.await.unwrap(), failed);
            let behind = send(engine, key, 2).await.await.unwrap();
            assert!(matches!(behind, Err(EngineError::OutOfOrderSequence(_))));
            for _ in 0..2 {
                let again = send(engine, key, 0).await;
                assert_eq!(again.await.unwrap(), failed);
            }
        });
    }
}

#[test]
fn a_failed_flush_refuses_writes_and_deletions_and_reads_go_on() {
    on_one_partition(async |engine, key| {
        let plain = BatchBuilder::default();
        append_one(engine, key, "a").await;
        flush(engine);
        let waiting = append(engine, key, AckWhen::Durable, &plain, &["b"]).await;
        fault::inject(Op::Sync, 0, libc::EIO, false);
        flush(engine);
        let failed = Err(EngineError::StorageFailed);
        assert_eq!(waiting.await.unwrap(), failed);
        let later = append(engine, key, AckWhen::Appended, &plain, &["c"]).await;
        assert_eq!(later.await.unwrap(), failed);
        let deleted = timeout(SOON, offsets::delete_records(engine, key, 1))
            .await
            .unwrap();
        assert_eq!(deleted, Err(EngineError::StorageFailed));
        assert!(has_records(&read(engine, key, 0, None).await));
    });
}

#[test]
fn a_failed_write_refuses_it_and_all_after_it_and_nobody_waits() {
    on_one_partition(async |engine, key| {
        let plain = BatchBuilder::default();
        append_one(engine, key, "a").await;
        flush(engine);
        let waiting = append(engine, key, AckWhen::Durable, &plain, &["b"]).await;
        fault::inject(Op::Write, 0, libc::EIO, false);
        let refused = append(engine, key, AckWhen::Appended, &plain, &["c"]).await;
        assert!(fault::clear());
        let failed = Err(EngineError::StorageFailed);
        assert_eq!(refused.await.unwrap(), failed);
        assert_eq!(waiting.await.unwrap(), failed);
        let later = append(engine, key, AckWhen::Appended, &plain, &["d"]).await;
        assert_eq!(later.await.unwrap(), failed);
        assert!(has_records(&read(engine, key, 0, None).await));
    });
}

#[test]
fn nobody_waits_for_the_flush_of_a_segment_that_could_not_be_completed() {
    on_one_partition(async |engine, key| {
        let plain = BatchBuilder::default();
        let waiting = append(engine, key, AckWhen::Durable, &plain, &["a"]).await;
        append_one(engine, key, "b").await;
        let partition = engine.partition(key).unwrap();
        let failed = Err(std::io::Error::from_raw_os_error(libc::EIO));
        partition.borrow_mut().seal_done(&failed);
        assert_eq!(waiting.await.unwrap(), Err(EngineError::StorageFailed));
    });
}

async fn with_one_record(engine: &Rc<Engine>, key: PartitionKey) -> SharedPartition {
    append_one(engine, key, "a").await;
    flush(engine);
    engine.partition(key).unwrap()
}

#[test]
fn nothing_is_appended_to_a_log_that_is_being_closed() {
    on_one_partition(async |engine, key| {
        let plain = BatchBuilder::default();
        let partition = with_one_record(engine, key).await;
        let path = partition
            .borrow()
            .log
            .dir()
            .join("00000000000000000000.log");
        closing::close_logs(engine).await;
        let closed = path.metadata().unwrap().len();
        let refused = append(engine, key, AckWhen::Appended, &plain, &["b"]).await;
        assert_eq!(refused.await.unwrap(), Err(EngineError::Stopping));
        assert!(!partition.borrow().log.is_making_room());
        assert_eq!(path.metadata().unwrap().len(), closed);
    });
}

#[test]
fn an_append_that_waits_for_room_when_the_logs_are_closed_is_refused() {
    on_one_partition(async |engine, key| {
        let plain = BatchBuilder::default();
        let partition = with_one_record(engine, key).await;
        let seal = partition.borrow_mut().log.close_active(0).unwrap().unwrap();
        partition.borrow_mut().seal_done(&seal.run());
        let waiting = append(engine, key, AckWhen::Appended, &plain, &["b"]).await;
        assert!(partition.borrow().log.is_making_room());
        closing::close_logs(engine).await;
        assert_eq!(waiting.await.unwrap(), Err(EngineError::Stopping));
        // What the job brings comes too late to be cut to its size: the next start reads it.
        while partition.borrow().log.is_making_room() {
            reactor::yield_now().await;
        }
        assert_eq!(partition.borrow().offsets().end, 1);
    });
}
