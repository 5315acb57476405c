import java.util.Map;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.springframework.context.annotation.AnnotationConfigApplicationContext;
import org.springframework.context.annotation.Bean;
import org.springframework.context.annotation.Configuration;
import org.springframework.kafka.annotation.BackOff;
import org.springframework.kafka.annotation.DltHandler;
import org.springframework.kafka.annotation.EnableKafkaRetryTopic;
import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.kafka.annotation.RetryableTopic;
import org.springframework.kafka.config.ConcurrentKafkaListenerContainerFactory;
import org.springframework.kafka.config.TopicBuilder;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.core.KafkaAdmin;
import org.springframework.kafka.core.KafkaTemplate;
import org.springframework.kafka.support.KafkaHeaders;
import org.springframework.messaging.handler.annotation.Header;
import org.springframework.scheduling.TaskScheduler;
import org.springframework.scheduling.concurrent.ThreadPoolTaskScheduler;

/**
 * Reads orders, with retry topics: `java Orders BOOTSTRAP`. An order whose value ends in 0 fails always, one that
 * ends in 5 fails the first time.
 *
 * What happens is told on standard output, an event a line: `tried TOPIC VALUE`, `done VALUE`, `dead VALUE`.
 * SIGTERM closes it properly.
 */
@Configuration
@EnableKafkaRetryTopic
public class Orders {
    private static String bootstrap;

    public static void main(String[] words) {
        bootstrap = words[0];
        new AnnotationConfigApplicationContext(Orders.class).registerShutdownHook();
    }

    @RetryableTopic(attempts = "3", backOff = @BackOff(delay = 200, multiplier = 2), numPartitions = "2")
    @KafkaListener(id = "orders", topics = "orders")
    void take(String order, @Header(KafkaHeaders.RECEIVED_TOPIC) String topic) {
        tell("tried " + topic + " " + order);
        if (order.endsWith("0") || order.endsWith("5") && topic.equals("orders")) {
            throw new IllegalStateException("an order that fails");
        }
        tell("done " + order);
    }

    @DltHandler
    void bury(String order) {
        tell("dead " + order);
    }

    private static void tell(String event) {
        synchronized (System.out) {
            System.out.println(event);
            System.out.flush();
        }
    }

    @Bean
    KafkaAdmin admin() {
        return new KafkaAdmin(Map.of("bootstrap.servers", bootstrap));
    }

    @Bean
    NewTopic topic() {
        return TopicBuilder.name("orders").partitions(2).build();
    }

    @Bean
    KafkaTemplate<String, String> template() {
        var strings = StringSerializer.class;
        return new KafkaTemplate<>(new DefaultKafkaProducerFactory<>(
            Map.of("bootstrap.servers", bootstrap, "key.serializer", strings, "value.serializer", strings)));
    }

    @Bean
    ConcurrentKafkaListenerContainerFactory<String, String> kafkaListenerContainerFactory() {
        var strings = StringDeserializer.class;
        var factory = new ConcurrentKafkaListenerContainerFactory<String, String>();
        factory.setConsumerFactory(new DefaultKafkaConsumerFactory<>(Map.of(
            "bootstrap.servers", bootstrap, "auto.offset.reset", "earliest",
            "key.deserializer", strings, "value.deserializer", strings)));
        return factory;
    }

    @Bean
    TaskScheduler scheduler() {
        return new ThreadPoolTaskScheduler();
    }
}
