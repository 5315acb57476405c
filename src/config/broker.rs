//! The broker's knobs.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::error::ConfigError;
use super::knob::table;
use super::registry_url::RegistryUrl;
use super::topic::TopicDefaults;
use super::value::{
    Durability, GIB, HostPort, HttpListen, INT_MAX, KIB, Kind, LONG_MAX, LogFormat, MIB,
    ReactorChoice, bytes, count, millis,
};

/// The most producers that a partition may remember: a checkpoint has no room for more, and one that is
/// larger could not be read.
pub const PARTITION_PRODUCERS_LIMIT: i64 = 700_000;

table! {
    /// The broker's configuration. `Config::default()` has every default.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Config of Broker
    and {
        /// The defaults of topics' configurations.
        pub topic_defaults: TopicDefaults,
        /// The fields an operator has set, even if to the default.
        pub given: BTreeSet<&'static str>,
    }

    "Place and addresses" {
        /// Directory that holds everything the broker stores. It is created if it is missing.
        data_dir: PathBuf = "./data".into(), Kind::Path, kafka "log.dirs";
        /// Address on which Kafka clients are served. Port 0 lets the kernel choose one.
        listen: HostPort = HostPort::new("127.0.0.1", 9092), Kind::Address, kafka "listeners";
        /// Address that clients are told to connect to. Set it when they reach this host by another
        /// name or port than `listen`: behind NAT, in a container, or when listening on 0.0.0.0.
        advertise: Option<HostPort> = None, Kind::Address, kafka "advertised.listeners", shown "same as listen";
        /// Address on which health, metrics and the web page are served, or `off`.
        http: HttpListen = HttpListen::At(HostPort::new("127.0.0.1", 8082)), Kind::AddressOrOff;
        /// Names, with commas between them, by which browsers may ask for this broker over HTTP. IP addresses,
        /// `localhost` and the name in `advertise` always may; a request under any other name is refused,
        /// for a page of another site can make its own name lead here.
        http_allowed_hosts: Vec<String> = Vec::new(), Kind::Hosts, shown "none";
        /// The schema registry in which the Avro, Protobuf and JSON Schema formats of REST clients look up their
        /// schemas: `http://` or `https://`, with `user:password@` where it asks for them, which are never shown.
        /// Without one requests in these formats are refused.
        schema_registry_url: Option<RegistryUrl> = None, Kind::Url, shown "none";
        /// How long a request waits for the schema registry, whatever it asks there. After that it is refused
        /// with 503.
        schema_registry_timeout_ms: u64 = 5_000, millis(1, 600_000);
        /// The id under which this broker presents itself to clients.
        node_id: i32 = 1, count(0, INT_MAX), kafka "node.id";
        /// Shards to run: one thread pinned to each of as many cores. It may change between runs.
        cores: usize = available_cores(), count(1, CORES_MAX), shown "every core the process may use";
        /// What sockets and files go through: `uring` is io_uring, `epoll` works where that is forbidden and
        /// is slower, `auto` takes io_uring if it may.
        reactor: ReactorChoice = ReactorChoice::Auto, Kind::OneOf(ReactorChoice::NAMES);
    }

    "Durability and storage" {
        /// What an acknowledgement promises. With `fsync`, acks=all is answered when the batch is on
        /// stable storage and survives a power cut; with `os`, when the operating system has it, and
        /// a power cut loses what was not yet written back.
        durability: Durability = Durability::Fsync, Kind::OneOf(Durability::NAMES);
        /// Bytes appended to a partition between two checkpoints: after a crash, about this much of
        /// each partition is checked again. A partition that receives this many bytes within 100 ms
        /// checkpoints after what it received in 100 ms instead, at most 32 times this value.
        checkpoint_bytes: u64 = 4 * MIB as u64, bytes(4 * KIB, GIB);
        /// The largest step by which disk space is reserved for a segment. The first step is small and each
        /// further one twice as large, up to this, so that small partitions stay small.
        segment_grow_bytes_max: u64 = 64 * MIB as u64, bytes(64 * KIB, GIB);
        /// The largest size of each shard's journal, which makes small appends durable with one write; 0 for
        /// none. It is made with 4 MiB when it is first needed, and grows under load. After a crash all of it is
        /// written back to the partitions at the next start.
        journal_bytes: u64 = 128 * MIB as u64, bytes(0, 16 * GIB);
        /// Memory for the message ids that topics with `dedup.window.ms` remember, all together. Where it does not
        /// suffice the oldest ids are forgotten before their time (`millstream_dedup_forgotten_total`).
        dedup_bytes_max: usize = 256 * MIB as usize, bytes(MIB, LONG_MAX);
        /// Memory for the keys of topics with `key.index` or `conditional.append`, all together. A partition whose
        /// keys it does not suffice for has no index, and says so to who asks.
        key_index_bytes_max: usize = 256 * MIB as usize, bytes(MIB, LONG_MAX);
        /// Free space that records may not use: an append that would leave less on the file system is refused
        /// for now, as on a full disk. The catalog, committed offsets and checkpoints may use it, so
        /// that topics can still be deleted.
        free_bytes_min: u64 = 16 * MIB as u64, bytes(0, LONG_MAX);
        /// The most segments that are mapped at once; a read or an append that needs one more is refused
        /// for now. Keep it below the kernel's limit (`vm.max_map_count`), which counts all mappings of the
        /// process: when that is reached, any part of the broker may fail.
        maps_max: usize = INT_MAX as usize, count(16, INT_MAX), shown "15 in 16 of `vm.max_map_count`";
        /// How often retention looks at each partition for segments to delete.
        retention_check_interval_ms: u64 = 300_000, millis(1, LONG_MAX), kafka "log.retention.check.interval.ms";
        /// How long an idempotent producer may be silent before its sequence numbers are forgotten.
        producer_id_expiration_ms: u64 = 86_400_000, millis(1, INT_MAX), kafka "producer.id.expiration.ms";
        /// Bytes of closed segments that are read from the disk each second to find damage before a
        /// consumer does. Each segment is read at most once a day; 0 turns it off.
        scrub_bytes_per_second: u64 = 0, bytes(0, LONG_MAX);
    }

    "Compaction" {
        /// Memory for the keys that compaction has read. When the keys of a partition do not fit, its
        /// compaction takes several runs.
        log_cleaner_dedupe_buffer_bytes: usize = 128 * MIB as usize, bytes(MIB, 64 * GIB),
            kafka "log.cleaner.dedupe.buffer.size";
        /// The most bytes that compaction reads and writes in a second.
        log_cleaner_io_bytes_per_second_max: u64 = i64::MAX as u64, bytes(64 * KIB, LONG_MAX),
            kafka "log.cleaner.io.max.bytes.per.second", shown "no limit";
        /// How long compaction rests when there is nothing to do, and after a failure; after each
        /// further failure of the same partition twice as long, up to an hour.
        log_cleaner_backoff_ms: u64 = 15_000, millis(1, LONG_MAX), kafka "log.cleaner.backoff.ms";
    }

    "Topics" {
        /// Create a topic when a client asks for one that does not exist and allows its creation.
        auto_create_topics: bool = true, Kind::Bool, kafka "auto.create.topics.enable";
        /// Partitions of a new topic when the request does not say how many.
        num_partitions: u32 = 1, count(1, 100_000), kafka "num.partitions";
        /// Create a topic even if more replicas are asked for than the one there is. When false such
        /// a request fails with INVALID_REPLICATION_FACTOR, as with a one-node Kafka.
        clamp_replication_factor: bool = false, Kind::Bool;
        /// The most topics; creating one more is refused.
        topics_max: usize = 20_000, count(1, 1_000_000);
        /// The most partitions of all topics together; creating more is refused.
        partitions_max: usize = 100_000, count(1, 1_000_000);
    }

    "Groups" {
        /// How long the first rebalance of an empty group waits for more members.
        group_initial_rebalance_delay_ms: u64 = 3_000, millis(0, INT_MAX), kafka "group.initial.rebalance.delay.ms";
        /// The shortest session timeout that a member may ask for.
        group_min_session_timeout_ms: u64 = 6_000, millis(0, INT_MAX), kafka "group.min.session.timeout.ms";
        /// The longest session timeout that a member may ask for.
        group_max_session_timeout_ms: u64 = 1_800_000, millis(1, INT_MAX), kafka "group.max.session.timeout.ms";
        /// The longest that a group waits in a rebalance for a member; one that asks for more gets this.
        group_max_rebalance_timeout_ms: u64 = 3_600_000, millis(1, INT_MAX);
        /// The most members that one group may have; one more is refused.
        group_max_size: usize = 10_000, count(1, 1_000_000), kafka "group.max.size";
        /// The most protocols that one member may support; one that names more is refused.
        group_protocols_max: usize = 64, count(1, 1_000);
        /// The most bytes of memory that the members of one group may take together: their ids, their
        /// protocols with metadata, their assignments, and the ids of those that are about to join. A member
        /// that would exceed it is refused.
        group_metadata_bytes_max: usize = 16 * MIB as usize, bytes(KIB, INT_MAX);
        /// The most bytes of a group's record in `__consumer_offsets`: what each member says of itself (the
        /// largest metadata of its protocols counts) and its assignment. A member that would exceed it is
        /// refused; so is an assignment. In Kafka the topic's `max.message.bytes` is the limit.
        group_record_bytes_max: usize = MIB as usize, bytes(KIB, 64 * MIB);
        /// The most bytes of memory that all groups may take together: names, members and committed offsets.
        /// What would make them grow further is refused.
        groups_bytes_max: usize = 512 * MIB as usize, bytes(MIB, LONG_MAX);
        /// The most groups; one more is refused.
        groups_max: usize = 100_000, count(1, 10_000_000);
        /// The most characters, as UTF-16 counts them, of the note that a client may commit with an offset.
        offset_metadata_bytes_max: usize = 4_096, bytes(0, INT_MAX), kafka "offset.metadata.max.bytes";
        /// How long committed offsets are kept after their group was last in use.
        offsets_retention_ms: u64 = 604_800_000, millis(1, LONG_MAX);
        /// How often expired offsets are looked for.
        offsets_retention_check_interval_ms: u64 = 600_000, millis(1, LONG_MAX), kafka "offsets.retention.check.interval.ms";
        /// Partitions of `__consumer_offsets`. In force when the topic is created, with the first group.
        offsets_topic_num_partitions: u32 = 50, count(1, 10_000), kafka "offsets.topic.num.partitions";
    }

    "Limits" {
        /// The largest request a client may send. A connection that announces more is closed.
        frame_bytes_max: usize = 100 * MIB as usize, bytes(KIB, INT_MAX), kafka "socket.request.max.bytes";
        /// The most connections; one more is closed as soon as it is accepted.
        connections_max: usize = 10_000, count(1, 1_000_000), kafka "max.connections";
        /// The most connections from one address; one more is closed as soon as it is accepted. There
        /// is no limit unless one is set: behind a proxy or NAT all clients have one address.
        connections_per_address_max: usize = INT_MAX as usize, count(1, INT_MAX), kafka "max.connections.per.ip",
            shown "no limit";
        /// The most connections that one address may open in a second; one more is closed as soon as it
        /// is accepted. A malformed request ends its connection, so this limits malformed requests too. There
        /// is no limit unless one is set, for the same reason.
        connection_rate_per_address_max: usize = INT_MAX as usize, count(1, INT_MAX), shown "no limit";
        /// The most requests a second from one address, over all of its connections. One second's worth may
        /// come at once; reading further requests is delayed. There is no limit unless one is set, for the
        /// same reason.
        request_rate_per_address_max: usize = INT_MAX as usize, count(1, INT_MAX), shown "no limit";
        /// The time over which the rate of a request that is arriving is measured. A connection that brings
        /// less than `frame_bytes_per_second_min` over this time is closed.
        frame_timeout_ms: u64 = 30_000, millis(1, LONG_MAX);
        /// The slowest rate at which a request may arrive, in bytes a second averaged over
        /// `frame_timeout_ms`: a slow request holds memory that others wait for. Time in which the
        /// broker does not read is not counted. With 0 one byte in that time is enough.
        frame_bytes_per_second_min: usize = 1024, bytes(0, INT_MAX);
        /// Bytes of requests one connection may have in memory before no more is read
        /// from it. A single request that is larger than this is still admitted, but alone.
        connection_inflight_bytes_max: usize = 64 * MIB as usize, bytes(64 * KIB, LONG_MAX);
        /// Requests one connection may have waiting for their replies before no more is read from it.
        connection_inflight_requests_max: usize = 64, count(1, 65_536);
        /// Bytes of requests in memory on all connections together before no more is
        /// read. It must hold at least one request of `frame_bytes_max`.
        inflight_bytes_max: usize = GIB as usize, bytes(MIB, LONG_MAX), kafka "queued.max.request.bytes";
        /// HTTP connections, divided evenly among the shards. One more closes the one whose last request is the
        /// longest ago.
        http_connections_max: usize = 2_048, count(1, 1_000_000);
        /// How long a connection may be silent before it is closed.
        connection_idle_ms: u64 = 600_000, millis(1, LONG_MAX), kafka "connections.max.idle.ms";
        /// The most bytes of records in one fetch reply, whatever the client asks for. The first batch is
        /// sent even if it alone is larger.
        fetch_bytes_max: usize = 55 * MIB as usize, bytes(KIB, INT_MAX), kafka "fetch.max.bytes";
        /// Idempotent producers whose sequence numbers one partition remembers. When there are more, those
        /// that were silent for longest are forgotten. Each costs some 300 bytes of memory and up to 179 of each
        /// checkpoint.
        partition_producers_max: usize = 50_000, count(16, PARTITION_PRODUCERS_LIMIT);
        /// Fetches that may wait for records on one shard; one more is answered at once.
        parked_fetches_max: usize = 20_000, count(1, 1_000_000);
        /// Fetch sessions that may be open, divided evenly among the shards; 0 for none. A client without a
        /// session is served too, but each of its fetches and each answer names all of its partitions.
        fetch_sessions_max: usize = 1_000, count(0, 1_000_000), kafka "max.incremental.fetch.session.cache.slots";
        /// Partitions that all fetch sessions together may hold, divided evenly among the shards. It
        /// bounds their memory: about 100 bytes each, at most 500 (topics with the longest names), and 200
        /// more while a fetch waits for records.
        fetch_session_partitions_max: usize = 1_000_000, count(0, INT_MAX);
        /// How long a fetch session must have been unused before it gives way to a new one, when there
        /// is no room.
        fetch_session_eviction_ms: u64 = 120_000, millis(0, INT_MAX), kafka "min.incremental.fetch.session.eviction.ms";
        /// Messages one shard may have waiting for another before the sender has to wait.
        mailbox_depth: usize = 1024, count(16, 65_536);
    }

    "Logs, metrics, stopping" {
        /// Which log lines the broker writes: a level, or levels by module.
        log_level: String = "info".to_owned(), Kind::LogFilter;
        /// How log lines are written: `text` for people, `json` for machines.
        log_format: LogFormat = LogFormat::Text, Kind::OneOf(LogFormat::NAMES);
        /// Topics with metrics of their own; the others are counted together.
        metrics_topics_max: usize = 100, count(0, 100_000);
        /// How often the lag of groups is measured for the metrics; 0 turns it off.
        lag_interval_ms: u64 = 10_000, millis(0, LONG_MAX);
        /// Partitions of groups that have metrics of their lag, in the order of the groups' names; the others
        /// have none.
        lag_series_max: usize = 10_000, count(0, 1_000_000);
        /// How long a broker that stops waits for replies in flight before it closes their connections.
        /// Acknowledged records are safe whatever it is set to.
        shutdown_timeout_ms: u64 = 1_500, millis(0, 3_600_000);
    }
}

const CORES_MAX: i64 = 256;
/// A smaller journal would be written back all the time.
const JOURNAL_BYTES_MIN: u64 = 4 << 20;

/// Cores this process may use: those in its affinity mask, within its cgroup's quota.
fn available_cores() -> usize {
    std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(CORES_MAX as usize)
}

impl Config {
    /// The address clients are told. A server that listens on port 0 first stores the port it got
    /// in `listen`.
    pub fn advertised(&self) -> &HostPort {
        self.advertise.as_ref().unwrap_or(&self.listen)
    }

    /// The fewest bytes that a request which has begun may bring in `frame_timeout_ms`.
    pub fn frame_bytes_min(&self) -> usize {
        let per_second = self.frame_bytes_per_second_min as u64;
        (per_second.saturating_mul(self.frame_timeout_ms) / 1000) as usize
    }

    /// What no single knob's range can say. [`Config::load`] has called it.
    pub fn check(&self) -> Result<(), ConfigError> {
        let conflict = |what: String| Err(ConfigError::Conflict(what));
        if self.advertised().is_wildcard() {
            let address = self.advertised();
            return conflict(format!(
                "clients cannot connect to {address}: set advertise to the host:port by which they reach this host"
            ));
        }
        if self
            .advertise
            .as_ref()
            .is_some_and(|address| address.port == 0)
        {
            return conflict(
                "advertise needs a port other than 0: clients are told to connect to it".to_owned(),
            );
        }
        if self.inflight_bytes_max < self.frame_bytes_max {
            return conflict(format!(
                "inflight_bytes_max ({}) is less than frame_bytes_max ({}): raise the first or lower the second",
                self.inflight_bytes_max, self.frame_bytes_max
            ));
        }
        if (1..JOURNAL_BYTES_MIN).contains(&self.journal_bytes) {
            return conflict(format!(
                "journal_bytes is {}: 0 turns the journal off, any other size is at least {JOURNAL_BYTES_MIN}",
                self.journal_bytes
            ));
        }
        Ok(())
    }
}
