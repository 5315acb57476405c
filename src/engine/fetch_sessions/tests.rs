use super::*;
use tokio::sync::oneshot::error::TryRecvError;

const LIMITS: Limits = Limits {
    sessions: 3,
    partitions: 20,
    eviction_ms: 120_000,
};

/// Ids in the order in which they are drawn.
fn counter() -> impl FnMut() -> u64 {
    let mut next = 0;
    move || {
        next += 1;
        next
    }
}

fn topic(name: &str) -> TopicRef {
    TopicRef::Name(name.into())
}

fn wanted(index: i32, offset: i64) -> Wanted {
    Wanted::new(topic("t"), index, -1, offset, 1000)
}

fn wanted_by_id(id: u128) -> Wanted {
    Wanted::new(TopicRef::Id(Uuid::from_u128(id)), 0, -1, 0, 1000)
}

fn news(high_watermark: i64, log_start_offset: i64) -> News {
    News {
        high_watermark,
        log_start_offset,
        has_records: false,
        is_error: false,
    }
}

fn sessions() -> FetchSessions {
    FetchSessions::new(LIMITS)
}

/// With a session of partitions 0 to 2 and its id.
fn with_session() -> (FetchSessions, i32) {
    let mut sessions = sessions();
    let partitions = (0..3).map(|index| wanted(index, 0)).collect();
    let id = sessions.open(partitions, 0, counter()).unwrap();
    (sessions, id)
}

/// Continues a session without a change.
fn go_on(sessions: &mut FetchSessions, id: i32, epoch: i32, now_ms: i64) -> SessionStep {
    let step = sessions.advance((id, epoch), false, &[], &HashSet::new(), now_ms);
    step.unwrap().unwrap()
}

/// Indexes and offsets, in order.
fn held(sessions: &mut FetchSessions, step: &SessionStep) -> Vec<(i32, i64)> {
    let partitions = sessions.partitions(step).unwrap().iter();
    partitions.map(|p| (p.index, p.fetch_offset)).collect()
}

#[test]
fn ids_are_positive_and_never_given_to_two_sessions() {
    let mut sessions = sessions();
    let mut draws = [1 << 31, 7, 7, (1 << 31) + 7, u64::MAX].into_iter();
    let mut open = || sessions.open(vec![wanted(0, 0)], 0, || draws.next().unwrap());
    assert_eq!(open(), Some(7), "zero means no session");
    assert_eq!(open(), Some(i32::MAX), "7 is taken");
}

#[test]
fn a_session_of_no_partitions_is_none() {
    assert_eq!(sessions().open(Vec::new(), 0, counter()), None);
}

#[test]
fn epochs_follow_one_another_and_begin_again_with_1() {
    let (mut sessions, id) = with_session();
    let refused = |sessions: &mut FetchSessions, epoch| {
        sessions
            .advance((id, epoch), false, &[], &HashSet::new(), 0)
            .unwrap_err()
    };
    for epoch in [-2, 2, i32::MAX] {
        assert_eq!(refused(&mut sessions, epoch), SessionError::WrongEpoch);
    }
    go_on(&mut sessions, id, 1, 0);
    assert_eq!(refused(&mut sessions, 1), SessionError::WrongEpoch);
    go_on(&mut sessions, id, 2, 0);
    sessions.sessions.get_mut(&id).unwrap().epoch = i32::MAX;
    go_on(&mut sessions, id, i32::MAX, 0);
    go_on(&mut sessions, id, 1, 0);
}

#[test]
fn a_session_that_was_closed_or_never_was_is_unknown() {
    let (mut sessions, id) = with_session();
    sessions.close(id + 1);
    go_on(&mut sessions, id, 1, 0);
    sessions.close(id);
    let unknown = sessions
        .advance((id, 2), false, &[], &HashSet::new(), 0)
        .unwrap_err();
    assert_eq!(unknown, SessionError::Unknown);
    assert_eq!((sessions.count(), sessions.partition_count()), (0, 0));
}

#[test]
fn names_and_ids_do_not_mix_in_a_session() {
    let (mut sessions, by_name) = with_session();
    let by_id = sessions
        .open(vec![wanted_by_id(1)], 0, counter_from(50))
        .unwrap();
    let mut advance = |id, naming| {
        sessions
            .advance((id, 1), naming, &[], &HashSet::new(), 0)
            .map(drop)
    };
    assert_eq!(advance(by_name, true), Err(SessionError::OtherNaming));
    assert_eq!(advance(by_id, false), Err(SessionError::OtherNaming));
    assert_eq!(advance(by_name, false), Ok(()), "the epoch was not used up");
    assert_eq!(advance(by_id, true), Ok(()));
}

fn counter_from(first: u64) -> impl FnMut() -> u64 {
    let mut draw = counter();
    move || first + draw()
}

#[test]
fn partitions_are_updated_added_and_forgotten() {
    let (mut sessions, id) = with_session();
    let changes = [wanted(9, 90), wanted(1, 10), wanted(9, 91)];
    let forgotten = HashSet::from([(topic("t"), 0), (topic("t"), 5), (topic("u"), 2)]);
    let step = sessions.advance((id, 1), false, &changes, &forgotten, 0);
    let step = step.unwrap().unwrap();
    assert_eq!(held(&mut sessions, &step), [(1, 10), (2, 0), (9, 91)]);
    assert_eq!(sessions.partition_count(), 3);
}

#[test]
fn forgetting_all_partitions_closes_the_session() {
    let (mut sessions, id) = with_session();
    let all: HashSet<_> = (0..3).map(|index| (topic("t"), index)).collect();
    let step = sessions.advance((id, 1), false, &[], &all, 0).unwrap();
    assert!(step.is_none());
    assert_eq!((sessions.count(), sessions.partition_count()), (0, 0));
}

#[test]
fn a_partition_is_told_of_when_something_is_new() {
    let mut partition = wanted(0, 0);
    assert!(partition.tell(news(5, 0)), "never told before");
    assert!(!partition.tell(news(5, 0)));
    assert!(partition.tell(news(6, 0)), "the high watermark");
    assert!(partition.tell(news(6, 2)), "the log's start");
    assert!(!partition.tell(news(6, 2)));
    let records = News {
        has_records: true,
        ..news(6, 2)
    };
    assert!(partition.tell(records) && partition.tell(records));
    assert!(!partition.tell(news(6, 2)));
    let error = News {
        is_error: true,
        ..news(-1, -1)
    };
    assert!(partition.tell(error) && partition.tell(error));
    assert!(partition.tell(news(6, 2)), "the error is gone");
    // What the client knows does not change with what it wants.
    partition.update(&wanted(0, 6));
    assert!(!partition.tell(news(6, 2)));
}

#[test]
fn partitions_that_brought_records_are_read_last_the_next_time() {
    let (mut sessions, id) = with_session();
    let mut answer = |epoch, with_records: &[i32]| {
        let step = go_on(&mut sessions, id, epoch, 0);
        for partition in sessions.partitions(&step).unwrap() {
            let has_records = with_records.contains(&partition.index);
            partition.tell(News {
                has_records,
                ..news(5, 0)
            });
        }
        sessions.rotate(&step);
        let order = held(&mut sessions, &step);
        order
            .into_iter()
            .map(|(index, _)| index)
            .collect::<Vec<_>>()
    };
    assert_eq!(answer(1, &[0]), [1, 2, 0]);
    assert_eq!(answer(2, &[1, 0]), [2, 1, 0]);
    assert_eq!(answer(3, &[]), [2, 1, 0]);
    assert_eq!(answer(4, &[2]), [1, 0, 2]);
}

#[test]
fn a_fetch_that_another_has_overtaken_gets_nothing_of_the_session() {
    let (mut sessions, id) = with_session();
    let mut first = go_on(&mut sessions, id, 1, 0);
    assert_eq!(first.is_over.try_recv(), Err(TryRecvError::Empty));
    let mut second = go_on(&mut sessions, id, 2, 0);
    assert_eq!(first.is_over.try_recv(), Err(TryRecvError::Closed));
    let error = sessions.partitions(&first).unwrap_err();
    assert_eq!(error, SessionError::WrongEpoch);
    assert_eq!(held(&mut sessions, &second).len(), 3);
    sessions.close(id);
    assert_eq!(second.is_over.try_recv(), Err(TryRecvError::Closed));
    let error = sessions.partitions(&second).unwrap_err();
    assert_eq!(error, SessionError::Unknown);
}

#[test]
fn only_a_session_that_was_long_unused_gives_way_to_a_new_one() {
    let mut sessions = sessions();
    let mut random = counter();
    let mut open = |sessions: &mut FetchSessions, now_ms| {
        sessions.open(vec![wanted(0, 0)], now_ms, &mut random)
    };
    for now_ms in 0..3 {
        assert_eq!(open(&mut sessions, now_ms), Some(1 + now_ms as i32));
    }
    go_on(&mut sessions, 1, 1, 10);
    assert_eq!(open(&mut sessions, 120_001), None, "2 is not old enough");
    assert_eq!((sessions.count(), sessions.evictions()), (3, 0));
    assert_eq!(open(&mut sessions, 120_002), Some(4));
    assert_eq!((sessions.count(), sessions.evictions()), (3, 1));
    let gone = sessions.advance((2, 1), false, &[], &HashSet::new(), 120_002);
    assert_eq!(gone.unwrap_err(), SessionError::Unknown);
    go_on(&mut sessions, 1, 2, 120_002);
}

#[test]
fn the_partitions_of_all_sessions_together_are_bounded() {
    let many = |count| (0..count).map(|index| wanted(index, 0)).collect::<Vec<_>>();
    let mut sessions = sessions();
    let mut random = counter();
    assert_eq!(sessions.open(many(12), 0, &mut random), Some(1));
    assert_eq!(sessions.open(many(9), 0, &mut random), None);
    assert_eq!(sessions.open(many(8), 1, &mut random), Some(2));
    // A session that grows beyond the bound ends; its client opens a new one.
    let grown = sessions.advance((2, 1), false, &many(9), &HashSet::new(), 1);
    assert_eq!(grown.unwrap_err(), SessionError::NoRoom);
    assert_eq!((sessions.count(), sessions.partition_count()), (1, 12));
    assert_eq!(sessions.open(many(9), 200_000, &mut random), Some(3));
    assert_eq!((sessions.count(), sessions.partition_count()), (1, 9));
    assert_eq!(sessions.evictions(), 2);
    assert_eq!(sessions.open(many(21), 999_999, &mut random), None);
    assert_eq!(sessions.count(), 1, "nothing gives way to what cannot fit");
}

#[test]
fn names_that_no_topic_can_have_are_not_remembered() {
    let long = Wanted::new(topic(&"x".repeat(250)), 0, -1, 0, 1000);
    assert_eq!(sessions().open(vec![long.clone()], 0, counter()), None);
    let (mut sessions, id) = with_session();
    let error = sessions.advance((id, 1), false, &[long], &HashSet::new(), 0);
    assert_eq!(error.unwrap_err(), SessionError::NoRoom);
    assert_eq!(sessions.count(), 0);
}

#[test]
fn a_session_that_shrinks_gives_its_memory_back() {
    let mut sessions = FetchSessions::new(Limits {
        partitions: 10_000,
        ..LIMITS
    });
    let many = (0..10_000).map(|index| wanted(index, 0)).collect();
    let id = sessions.open(many, 0, counter()).unwrap();
    let most: HashSet<_> = (1..10_000).map(|index| (topic("t"), index)).collect();
    let step = sessions.advance((id, 1), false, &[], &most, 0);
    assert!(step.unwrap().is_some());
    assert_eq!(sessions.partition_count(), 1);
    assert!(sessions.sessions[&id].partitions.capacity() <= 2);
}

#[test]
fn names_of_topics_last_as_long_as_partitions_of_theirs() {
    let mut sessions = sessions();
    let ids = [1, 2].map(Uuid::from_u128);
    let partitions = vec![wanted_by_id(1), wanted_by_id(2)];
    let id = sessions.open(partitions, 0, counter()).unwrap();
    let names = |ids: &[Uuid]| -> TopicNames {
        let names = ids.iter().map(|id| (*id, id.to_string().into()));
        names.collect()
    };
    // One of a topic that is not in the session.
    let other = Uuid::from_u128(3);
    sessions.remember_names(id, names(&[ids[0], ids[1], other]));
    let forgotten = HashSet::from([(TopicRef::Id(ids[0]), 0)]);
    let step = sessions
        .advance((id, 1), true, &[], &HashSet::new(), 0)
        .unwrap();
    let (_, held) = sessions.named_partitions(&step.unwrap()).unwrap();
    assert_eq!(*held, names(&ids));
    let step = sessions.advance((id, 2), true, &[], &forgotten, 0).unwrap();
    let (_, held) = sessions.named_partitions(&step.unwrap()).unwrap();
    assert_eq!(*held, names(&ids[1..]));
}
