use super::*;
use crate::violation::Kind;

fn book(window_ms: Option<i64>, for_ever: bool) -> Book {
    Book::new(Rules {
        window_ms,
        for_ever,
        compacts: false,
    })
}

fn content(condition: Condition, count: u64) -> Content {
    Content {
        key: Some("k".to_owned()),
        value: Some("v".to_owned()),
        condition,
        count,
    }
}

fn told(offset: i64, duplicate: bool) -> Told {
    Told {
        offset,
        duplicate: Some(duplicate),
        durable: true,
    }
}

/// Sends a record at a moment, and takes its answer a millisecond later.
fn send(book: &mut Book, number: u64, told: Told, at_ms: i64) -> Result<(), Kind> {
    let one = book.begin(number, at_ms);
    let answered = book.answered(number, one, told, at_ms + 1, 0);
    answered.map_err(|violation| violation.kind)
}

fn found(book: &Book, records: &[(i64, u64)]) -> Vec<Found> {
    let has_ids = book.rules.window_ms.is_some();
    let found = records.iter().map(|(offset, number)| {
        let content = book.content(*number).unwrap();
        Found {
            offset: *offset,
            number: *number,
            key: content.key.clone(),
            value: content.value.clone(),
            id: has_ids.then(|| id_of(*number)),
        }
    });
    found.collect()
}

fn check(book: &mut Book, records: &[(i64, u64)], cut: Option<u64>) -> Result<(), Kind> {
    let found = found(book, records);
    let checked = book.check(&found, cut, 10_000, cut.unwrap_or(0));
    checked.map_err(|violation| violation.kind)
}

#[test]
fn an_id_is_stored_once_and_its_offset_stays() {
    let mut book = book(Some(1 << 40), true);
    book.add(1, content(Condition::None, 0));
    assert_eq!(send(&mut book, 1, told(5, false), 0), Ok(()));
    assert_eq!(send(&mut book, 1, told(5, true), 10), Ok(()));
    assert_eq!(send(&mut book, 1, told(5, false), 20), Err(Kind::Doubled));
    assert_eq!(send(&mut book, 1, told(6, false), 30), Err(Kind::Doubled));
    assert_eq!(check(&mut book, &[(5, 1)], None), Ok(()));
    assert_eq!(
        check(&mut book, &[(5, 1), (6, 1)], None),
        Err(Kind::Doubled)
    );
    assert_eq!(check(&mut book, &[(6, 1)], None), Err(Kind::Lost));
}

#[test]
fn what_is_said_to_be_there_before_was_sent_before() {
    let mut book = book(Some(1 << 40), true);
    book.add(1, content(Condition::None, 0));
    assert_eq!(send(&mut book, 1, told(5, true), 0), Err(Kind::Stranger));
    book.add(2, content(Condition::None, 0));
    let lost = book.begin(2, 10);
    book.unanswered(2, lost, 11);
    assert_eq!(send(&mut book, 2, told(6, true), 20), Ok(()));
    book.add(3, content(Condition::None, 0));
    let one = book.begin(3, 30);
    book.had_no_effect(3, one);
    assert_eq!(
        check(&mut book, &[(6, 2), (7, 3)], None),
        Err(Kind::Stranger)
    );
}

#[test]
fn a_cut_takes_what_was_answered_after_it_and_no_more() {
    let mut book = book(Some(1 << 40), true);
    for number in [1, 2] {
        book.add(number, content(Condition::None, 0));
    }
    let early = Told {
        durable: false,
        ..told(0, false)
    };
    assert_eq!(send(&mut book, 1, early, 0), Ok(()));
    let mut other = Book::new(book.rules);
    other.add(1, content(Condition::None, 0));
    assert_eq!(send(&mut other, 1, told(0, false), 0), Ok(()));
    assert_eq!(check(&mut other, &[], Some(1)), Err(Kind::Lost));
    assert_eq!(check(&mut book, &[], Some(1)), Ok(()));
    // It may go elsewhere then.
    assert_eq!(send(&mut book, 1, told(3, false), 20), Ok(()));
    assert_eq!(check(&mut book, &[], None), Err(Kind::Lost));
}

#[test]
fn an_id_is_stored_again_after_its_window_and_only_then() {
    let mut book = book(Some(100), false);
    book.add(1, content(Condition::None, 0));
    assert_eq!(send(&mut book, 1, told(0, false), 1_000), Ok(()));
    assert_eq!(
        send(&mut book, 1, told(1, false), 1_090),
        Err(Kind::Doubled)
    );
    let much_later = 1_100 + CLOCKS_MS + 10;
    assert_eq!(
        send(&mut book, 1, told(0, true), much_later),
        Err(Kind::Changed)
    );
    book.entries.get_mut(&1).unwrap().tries.clear();
    assert_eq!(send(&mut book, 1, told(1, false), much_later), Ok(()));
    assert_eq!(check(&mut book, &[(0, 1), (1, 1)], None), Ok(()));
    // Of an earlier life it counts from the load.
    assert_eq!(send(&mut book, 1, told(1, true), 5_000), Ok(()));
    assert_eq!(send(&mut book, 1, told(1, true), 5_050), Ok(()));
    assert_eq!(send(&mut book, 1, told(1, true), 5_400), Err(Kind::Changed));
}

#[test]
fn a_copy_that_a_lost_request_left_is_held_to_the_window_too() {
    for (sent_ms, expected) in [(1_050, Err(Kind::Doubled)), (1_200, Ok(()))] {
        let mut book = book(Some(100), false);
        book.add(1, content(Condition::None, 0));
        assert_eq!(send(&mut book, 1, told(0, false), 1_000), Ok(()));
        let lost = book.begin(1, sent_ms);
        book.unanswered(1, lost, sent_ms + 10);
        assert_eq!(check(&mut book, &[(0, 1), (4, 1)], None), expected);
    }
}

#[test]
fn no_two_records_replace_the_same_one_and_counters_leave_none_out() {
    let chain = |records: &[(i64, Condition, u64)]| {
        let mut book = book(Some(1 << 40), true);
        let mut stored = Vec::new();
        for (number, (offset, condition, count)) in (0..).zip(records) {
            book.add(number, content(*condition, *count));
            book.begin(number, 0);
            stored.push((*offset, number));
        }
        check(&mut book, &stored, None)
    };
    let newest = Condition::Newest;
    assert_eq!(chain(&[(0, newest(-1), 1), (1, newest(0), 2)]), Ok(()));
    let both = [(0, newest(-1), 1), (1, newest(0), 2), (2, newest(0), 2)];
    assert_eq!(chain(&both), Err(Kind::Condition));
    assert_eq!(
        chain(&[(0, newest(-1), 1), (1, newest(-1), 1)]),
        Err(Kind::Condition)
    );
    assert_eq!(
        chain(&[(0, newest(-1), 1), (1, newest(0), 3)]),
        Err(Kind::Condition)
    );
    assert_eq!(chain(&[(3, Condition::Next(3), 0)]), Ok(()));
    assert_eq!(chain(&[(3, Condition::Next(2), 0)]), Err(Kind::Condition));
}

#[test]
fn a_conditional_append_has_the_offset_that_it_expected() {
    let mut book = book(Some(1 << 40), true);
    book.add(1, content(Condition::Next(7), 0));
    assert_eq!(send(&mut book, 1, told(8, false), 0), Err(Kind::Condition));
    book.add(2, content(Condition::Next(7), 0));
    let one = book.begin(2, 0);
    book.refused(2, one);
    assert_eq!(check(&mut book, &[(7, 2)], None), Err(Kind::Stranger));
}
