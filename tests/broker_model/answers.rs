//! What may be answered, held against what was certain when it was asked.

use super::client::{Reply, code_is_known, decode};
use super::driver::{Asked, Driver, Place};
use super::model::{Certain, Partition};
use super::requests::*;
use crate::support::batch;
use crate::support::wire::{self, FETCH, LIST_OFFSETS, PRODUCE};
use kafka_protocol::messages::*;

const OUT_OF_RANGE: i16 = 1;
const NOT_COORDINATOR: i16 = 16;
const TOO_LARGE: i16 = 18;
const OUT_OF_ORDER: i16 = 45;
const STORAGE_ERROR: i16 = 56;

impl Driver<'_> {
    /// The partition, if it is still the one that was asked.
    pub fn partition(&mut self, at: Place) -> &mut Partition {
        self.partitions
            .get_mut(&at)
            .expect("it is not deleted before it has answered")
    }

    pub fn take(&mut self, asked: Asked, reply: Reply) {
        match asked {
            Asked::Produce {
                at,
                number,
                acks,
                by_producer,
                is_gap,
                is_large,
            } => {
                let response = wire::partition_of(decode::<ProduceRequest>(reply, PRODUCE));
                let code = response.error_code;
                if by_producer && !is_gap {
                    self.producers.get_mut(&at).expect("it is there").is_waiting = false;
                }
                match code {
                    0 => {
                        assert!(!is_gap, "a sequence too far was accepted");
                        self.partition(at)
                            .acknowledge(number, response.base_offset, acks == -1);
                    }
                    // Only of the last five batches it is known where they are.
                    OUT_OF_ORDER => {
                        let is_old = self.partition(at).was_acknowledged(number);
                        assert!(is_gap || is_old, "what follows is out of order");
                    }
                    TOO_LARGE => assert!(is_large),
                    STORAGE_ERROR => assert!(self.is_faulty, "{response:?}"),
                    _ => panic!("{response:?}"),
                }
            }
            Asked::Fetch {
                at,
                offset,
                certain,
            } => self.fetched(at, offset, certain, reply),
            Asked::Offset {
                at,
                timestamp,
                certain,
            } => {
                let mut response = decode::<ListOffsetsRequest>(reply, LIST_OFFSETS);
                let found = response.topics.remove(0).partitions.remove(0);
                assert!(found.error_code == 0 || self.is_faulty, "{found:?}");
                let partition = self.partition(at);
                match (found.error_code, timestamp) {
                    (0, -1) => assert!(found.offset >= certain.durable, "{found:?}"),
                    (0, _) => {
                        assert!(found.offset >= certain.start, "{found:?}");
                        assert!(found.offset <= partition.start_max, "{found:?}");
                    }
                    _ => {}
                }
            }
            Asked::DeleteRecords { at } => {
                let mut response = decode::<DeleteRecordsRequest>(reply, DELETE_RECORDS);
                let deleted = response.topics.remove(0).partitions.remove(0);
                match deleted.error_code {
                    0 => {
                        let partition = self.partition(at);
                        assert!(deleted.low_watermark <= partition.start_max);
                        partition.start = partition.start.max(deleted.low_watermark);
                    }
                    OUT_OF_RANGE => {}
                    code => assert!(self.is_faulty, "{code}"),
                }
            }
            Asked::Commit {
                group,
                offset,
                is_early,
            } => {
                let response = decode::<OffsetCommitRequest>(reply, OFFSET_COMMIT);
                let code = response.topics[0].partitions[0].error_code;
                // A shard can know the groups' topic before the one that a group lives on: while the first commit
                // creates it, others are told to ask again.
                let asks_again = is_early && code == NOT_COORDINATOR;
                assert!(code == 0 || asks_again || self.is_faulty, "{response:?}");
                if code == 0 {
                    self.has_groups = true;
                    self.groups[group].acknowledged = offset;
                }
            }
            Asked::Committed { group, least } => {
                let response = decode::<OffsetFetchRequest>(reply, OFFSET_FETCH);
                let found = &response.groups[0];
                assert!(found.error_code == 0 || self.is_faulty, "{response:?}");
                if found.error_code == 0 {
                    let offset = found.topics[0].partitions[0].committed_offset;
                    assert!(
                        offset >= least || (least == 0 && offset == -1),
                        "{offset} < {least}"
                    );
                    assert!(offset <= self.groups[group].sent);
                }
            }
            Asked::ProducerId => {
                let response = decode::<InitProducerIdRequest>(reply, INIT_PRODUCER_ID);
                assert!(response.error_code == 0 || self.is_faulty, "{response:?}");
                let is_new =
                    response.error_code != 0 || self.producer_ids.insert(response.producer_id.0);
                assert!(is_new, "a producer id was given twice");
            }
            Asked::Fleeting(code_of) => {
                let code = code_of(reply);
                assert!(code_is_known(code), "{code}");
            }
        }
    }

    fn fetched(&mut self, at: Place, offset: i64, certain: Certain, reply: Reply) {
        let data = wire::fetched_partition(decode::<FetchRequest>(reply, FETCH));
        let is_faulty = self.is_faulty;
        let partition = self.partition(at);
        match data.error_code {
            0 => {
                assert!(data.high_watermark >= certain.durable, "{data:?}");
                assert!(data.log_start_offset >= certain.start);
                assert!(data.log_start_offset <= partition.start_max);
                let records = batch::split(&data.records.clone().unwrap_or_default());
                assert!(
                    !records.is_empty() || offset >= data.high_watermark,
                    "nothing below the end"
                );
                partition.fetched(offset, data.high_watermark, &records);
            }
            OUT_OF_RANGE => {
                let is_certain = partition.start_max <= offset && offset <= certain.durable;
                assert!(!is_certain, "{offset} is in range: {certain:?}");
            }
            code => assert!(is_faulty, "fetch: {code}"),
        }
    }
}
