//! Producer ids, and the producers that partitions remember.

pub mod describe_producers;
pub mod init_producer_id;
