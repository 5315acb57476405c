import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.io.IOException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ListTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** Apache Kafka's own client for Java, for the client matrix: `java Client SUBCOMMAND key=value ...` */
public class Client {
    private static final Duration POLL = Duration.ofMillis(500);
    private static final Duration MEMBER_MAX = Duration.ofSeconds(300);
    private static final Gson JSON = new GsonBuilder().serializeNulls().disableHtmlEscaping().create();

    private final Map<String, String> args;

    public static void main(String[] words) throws Exception {
        var client = new Client(Arrays.stream(words).skip(1).map(word -> word.split("=", 2))
            .collect(Collectors.toMap(pair -> pair[0], pair -> pair[1])));
        switch (words[0]) {
            case "version" -> print(Map.of("client", version()));
            case "create" -> client.create();
            case "list" -> client.list();
            case "describe" -> client.describe();
            case "alter" -> client.alter();
            case "delete" -> client.delete();
            case "produce" -> client.produce();
            case "consume" -> client.consume();
            case "member" -> client.member();
            case "commit" -> client.commit();
            case "committed" -> client.committed();
            case "seek" -> client.seek();
            case "lag" -> client.lag();
            default -> throw new IllegalArgumentException("no subcommand " + words[0]);
        }
    }

    private Client(Map<String, String> args) {
        this.args = args;
    }

    // Topics.

    private void create() throws Exception {
        var topic = new NewTopic(args.get("topic"), Optional.of(partitionCount()), Optional.empty());
        var config = args.get("config").split(":", 2);
        try (var admin = admin()) {
            admin.createTopics(List.of(topic.configs(Map.of(config[0], config[1])))).all().get();
        }
    }

    private void list() throws Exception {
        try (var admin = admin()) {
            var options = new ListTopicsOptions().listInternal(true);
            print(Map.of("topics", admin.listTopics(options).names().get()));
        }
    }

    private void describe() throws Exception {
        var topic = args.get("topic");
        try (var admin = admin()) {
            var description = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
            Config config = admin.describeConfigs(List.of(resource(topic))).all().get().get(resource(topic));
            var configs = new TreeMap<String, String>();
            config.entries().forEach(entry -> configs.put(entry.name(), entry.value()));
            print(Map.of("partitions", description.partitions().size(), "configs", configs));
        }
    }

    private void alter() throws Exception {
        var topic = args.get("topic");
        var config = args.get("config").split(":", 2);
        var set = new AlterConfigOp(new ConfigEntry(config[0], config[1]), AlterConfigOp.OpType.SET);
        try (var admin = admin()) {
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(partitionCount()))).all().get();
            admin.incrementalAlterConfigs(Map.of(resource(topic), List.of(set))).all().get();
        }
    }

    private void delete() throws Exception {
        try (var admin = admin()) {
            admin.deleteTopics(List.of(args.get("topic"))).all().get();
        }
    }

    // Records.

    private void produce() throws Exception {
        var config = new Properties();
        config.put(ProducerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap());
        config.put(ProducerConfig.ACKS_CONFIG, "all");
        config.put(ProducerConfig.COMPRESSION_TYPE_CONFIG, args.get("codec"));
        config.put(ProducerConfig.ENABLE_IDEMPOTENCE_CONFIG, args.get("idempotent").equals("1"));
        var strings = new StringSerializer();
        try (var producer = new KafkaProducer<>(config, strings, strings)) {
            long start = number("start");
            long end = start + number("count");
            var sent = new ArrayList<Future<RecordMetadata>>();
            for (long i = start; i < end; i++) {
                sent.add(producer.send(record(i)));
            }
            for (var acknowledgement : sent) {
                acknowledgement.get();
            }
            print(Map.of("acked", sent.size()));
        }
    }

    private ProducerRecord<String, String> record(long i) {
        var value = "value-" + i + "-" + "x".repeat((int) (i % 200));
        var partition = (int) (i % partitionCount());
        var record = new ProducerRecord<>(
            args.get("topic"), partition, number("base") + 1000 * i, "key-" + i, value);
        record.headers().add("n", Long.toString(i).getBytes());
        record.headers().add("by", System.getProperty("client.name").getBytes());
        return record;
    }

    private void consume() {
        try (var consumer = consumer(Map.of())) {
            var partitions = partitions();
            var ends = consumer.endOffsets(partitions);
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            while (partitions.stream().anyMatch(partition -> consumer.position(partition) < ends.get(partition))) {
                for (var record : consumer.poll(POLL)) {
                    if (record.offset() < ends.get(partitionOf(record))) {
                        print(shown(record));
                    }
                }
            }
        }
    }

    private static Map<String, Object> shown(ConsumerRecord<String, String> record) {
        var headers = new LinkedHashMap<String, String>();
        for (Header header : record.headers()) {
            headers.put(header.key(), new String(header.value()));
        }
        var shown = new LinkedHashMap<String, Object>();
        shown.put("partition", record.partition());
        shown.put("offset", record.offset());
        shown.put("key", record.key());
        shown.put("value", record.value());
        shown.put("timestamp", record.timestamp());
        shown.put("headers", headers);
        return shown;
    }

    private void seek() {
        var partition = new TopicPartition(args.get("topic"), 0);
        try (var consumer = consumer(Map.of())) {
            var found = consumer.offsetsForTimes(Map.of(partition, number("timestamp"))).get(partition);
            var shown = new LinkedHashMap<String, Object>();
            shown.put("offset", found == null ? null : found.offset());
            if (found != null) {
                consumer.assign(List.of(partition));
                consumer.seek(partition, found.offset());
                var record = next(consumer);
                shown.put("offset", record.offset());
                shown.put("timestamp", record.timestamp());
                shown.put("key", record.key());
            }
            print(shown);
        }
    }

    private static ConsumerRecord<String, String> next(KafkaConsumer<String, String> consumer) {
        while (true) {
            for (var record : consumer.poll(POLL)) {
                return record;
            }
        }
    }

    // Groups.

    private void member() {
        var consumer = consumer(Map.of(
            ConsumerConfig.GROUP_ID_CONFIG, args.get("group"),
            ConsumerConfig.PARTITION_ASSIGNMENT_STRATEGY_CONFIG, System.getProperty("client.assignor"),
            ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG, 6000,
            ConsumerConfig.HEARTBEAT_INTERVAL_MS_CONFIG, 1000));
        var ended = new CountDownLatch(1);
        stopOnSignal(consumer, ended);
        try (consumer) {
            new Member(consumer).run(args.get("topic"), Long.parseLong(args.getOrDefault("max", "-1")));
        } finally {
            ended.countDown();
        }
    }

    /** A JVM that SIGTERM ends has status 143; `halt` makes it 0 when the member has left properly. */
    private static void stopOnSignal(KafkaConsumer<?, ?> consumer, CountDownLatch ended) {
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            if (ended.getCount() == 0) {
                return;
            }
            consumer.wakeup();
            try {
                ended.await();
                Runtime.getRuntime().halt(0);
            } catch (InterruptedException ignored) {
                Thread.currentThread().interrupt();
            }
        }));
    }

    /** A member of a group: processes what it is given, and commits that. */
    private static class Member implements ConsumerRebalanceListener {
        private final KafkaConsumer<String, String> consumer;
        /** Where to go on: what was processed and is not committed yet. */
        private final Map<TopicPartition, OffsetAndMetadata> processed = new HashMap<>();

        Member(KafkaConsumer<String, String> consumer) {
            this.consumer = consumer;
        }

        /** Runs until `max` records are processed (-1: no end), or it is woken up. */
        void run(String topic, long max) {
            var deadline = System.nanoTime() + MEMBER_MAX.toNanos();
            consumer.subscribe(List.of(topic), this);
            try {
                for (long left = max; left != 0; ) {
                    if (System.nanoTime() > deadline) {
                        throw new IllegalStateException("neither stopped nor done after " + MEMBER_MAX);
                    }
                    left -= process(consumer.poll(POLL), left);
                    commit(processed);
                }
            } catch (WakeupException woken) {
                // The signal. It may have come in the middle of a commit.
            }
            commit(processed);
        }

        private long process(Iterable<ConsumerRecord<String, String>> records, long max) {
            long count = 0;
            for (var record : records) {
                if (count == max) {
                    break;
                }
                print(Map.of("processed", List.of(record.partition(), record.offset())));
                processed.put(partitionOf(record), new OffsetAndMetadata(record.offset() + 1));
                count++;
            }
            return count;
        }

        private void commit(Map<TopicPartition, OffsetAndMetadata> offsets) {
            if (offsets.isEmpty()) {
                return;
            }
            try {
                consumer.commitSync(offsets);
                print(Map.of("committed", offsets.entrySet().stream()
                    .map(entry -> List.of(entry.getKey().partition(), entry.getValue().offset())).toList()));
                processed.keySet().removeAll(List.copyOf(offsets.keySet()));
            } catch (RebalanceInProgressException later) {
                // What stays ours is committed with the next batch, the rest when it is revoked.
            } catch (CommitFailedException tooLate) {
                // No member any more: whoever has the partitions now processes these again.
                processed.clear();
            }
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            var revoked = new HashMap<>(processed);
            revoked.keySet().retainAll(partitions);
            commit(revoked);
            processed.keySet().removeAll(partitions);
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            processed.keySet().removeAll(partitions);
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {}
    }

    private void commit() throws Exception {
        var partition = new TopicPartition(args.get("topic"), (int) number("partition"));
        var offset = new OffsetAndMetadata(number("offset"), args.get("metadata"));
        try (var admin = admin()) {
            admin.alterConsumerGroupOffsets(args.get("group"), Map.of(partition, offset)).all().get();
        }
    }

    private void committed() throws Exception {
        try (var admin = admin()) {
            var shown = new TreeMap<Integer, Object>();
            committed(admin).forEach((partition, offset) -> shown.put(
                partition.partition(), Map.of("offset", offset.offset(), "metadata", offset.metadata())));
            print(shown);
        }
    }

    private void lag() throws Exception {
        try (var admin = admin()) {
            var committed = committed(admin);
            var latest = partitions().stream().collect(Collectors.toMap(p -> p, p -> OffsetSpec.latest()));
            var ends = admin.listOffsets(latest).all().get();
            var shown = new TreeMap<Integer, Object>();
            committed.forEach((partition, offset) -> {
                long end = ends.get(partition).offset();
                shown.put(partition.partition(),
                    Map.of("committed", offset.offset(), "end", end, "lag", end - offset.offset()));
            });
            print(shown);
        }
    }

    /** What the group has committed for the topic, without partitions that have nothing. */
    private Map<TopicPartition, OffsetAndMetadata> committed(Admin admin) throws ExecutionException, InterruptedException {
        var committed = admin.listConsumerGroupOffsets(args.get("group")).partitionsToOffsetAndMetadata().get();
        return partitions().stream().filter(partition -> committed.get(partition) != null)
            .collect(Collectors.toMap(partition -> partition, committed::get));
    }

    // What the subcommands share.

    /** As the library's jar names it. */
    private static String version() throws IOException {
        var properties = new Properties();
        try (var file = KafkaConsumer.class.getResourceAsStream("/kafka/kafka-version.properties")) {
            properties.load(file);
        }
        return properties.getProperty("version");
    }

    private static Admin admin() {
        return Admin.create(Map.of("bootstrap.servers", bootstrap()));
    }

    private static KafkaConsumer<String, String> consumer(Map<String, Object> more) {
        var config = new HashMap<String, Object>(more);
        config.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap());
        config.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false);
        config.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        var strings = new StringDeserializer();
        return new KafkaConsumer<>(config, strings, strings);
    }

    private static String bootstrap() {
        return System.getenv("BOOTSTRAP");
    }

    private List<TopicPartition> partitions() {
        return IntStream.range(0, partitionCount())
            .mapToObj(partition -> new TopicPartition(args.get("topic"), partition)).toList();
    }

    private int partitionCount() {
        return (int) number("partitions");
    }

    private long number(String name) {
        return Long.parseLong(args.get(name));
    }

    private static TopicPartition partitionOf(ConsumerRecord<?, ?> record) {
        return new TopicPartition(record.topic(), record.partition());
    }

    private static ConfigResource resource(String topic) {
        return new ConfigResource(ConfigResource.Type.TOPIC, topic);
    }

    private static void print(Object line) {
        System.out.println(JSON.toJson(line));
        System.out.flush();
    }
}
