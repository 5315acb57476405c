//! Producer ids, the producers that partitions remember, and transactions, of which there are none yet.

pub mod describe_producers;
pub mod describe_transactions;
pub mod init_producer_id;
pub mod list_transactions;
