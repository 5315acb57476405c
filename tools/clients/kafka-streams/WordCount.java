import java.time.Duration;
import java.util.List;
import java.util.Properties;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Named;
import org.apache.kafka.streams.processor.StateRestoreListener;

/**
 * Counts words: `java WordCount APPLICATION STATE_DIR GUARANTEE`, from the topic APPLICATION-lines to
 * APPLICATION-results, by way of a repartition topic and a store with its changelog.
 *
 * What happens is told on standard output, an event a line: `state NAME`, `restored STORE RECORDS`,
 * `failed WHY`. SIGTERM closes it properly.
 */
public class WordCount {
    private static final Duration CLOSE = Duration.ofSeconds(60);

    public static void main(String[] words) throws InterruptedException {
        var application = words[0];
        var streams = new KafkaStreams(topology(application), config(application, words[1], words[2]));
        var ended = new CountDownLatch(1);
        streams.setStateListener((state, before) -> {
            tell("state " + state);
            if (state == KafkaStreams.State.ERROR) {
                ended.countDown();
            }
        });
        streams.setUncaughtExceptionHandler(error -> {
            tell("failed " + error);
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.setGlobalStateRestoreListener(new RestoreTeller());
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(CLOSE)));
        streams.start();
        ended.await();
    }

    private static Topology topology(String application) {
        var builder = new StreamsBuilder();
        builder.<String, String>stream(application + "-lines")
            .flatMapValues(line -> List.of(line.split(" ")))
            .groupBy((key, word) -> word, Grouped.as("words"))
            .count(Named.as("count"), Materialized.as("counts"))
            .toStream()
            .mapValues(count -> count.toString())
            .to(application + "-results");
        return builder.build();
    }

    private static Properties config(String application, String stateDir, String guarantee) {
        var config = new Properties();
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, System.getenv("BOOTSTRAP"));
        config.put(StreamsConfig.STATE_DIR_CONFIG, stateDir);
        config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, guarantee);
        config.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        config.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
        // Often, so that little time passes between what is done and what can be seen of it.
        config.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 200);
        config.put(StreamsConfig.REPARTITION_PURGE_INTERVAL_MS_CONFIG, 1000);
        // So that a member that was killed is not waited for long.
        config.put(StreamsConfig.consumerPrefix(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG), 6000);
        config.put(StreamsConfig.consumerPrefix(ConsumerConfig.HEARTBEAT_INTERVAL_MS_CONFIG), 1000);
        return config;
    }

    private static class RestoreTeller implements StateRestoreListener {
        @Override
        public void onRestoreStart(TopicPartition partition, String store, long start, long end) {}

        @Override
        public void onBatchRestored(TopicPartition partition, String store, long end, long count) {}

        @Override
        public void onRestoreEnd(TopicPartition partition, String store, long count) {
            tell("restored " + partition + " " + count);
        }
    }

    private static synchronized void tell(String event) {
        System.out.println(event);
        System.out.flush();
    }
}
