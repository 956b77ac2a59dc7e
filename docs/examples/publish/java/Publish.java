import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.File;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Future;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.generic.GenericRecordBuilder;
import org.apache.avro.message.BinaryMessageEncoder;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * Publishes notification events to Bongsu in Avro, with the Kafka client and Apache Avro.
 *
 * <pre>
 * mvn dependency:copy-dependencies -DoutputDirectory=libs
 * java -cp 'libs/*' Publish.java --bootstrap localhost:9092 --sender shop-1 --url http://127.0.0.1:7401/hook/1
 * </pre>
 *
 * The default partitioner of this client is the one Bongsu expects.
 */
public class Publish {
    static final String CLIENT = "java";

    public static void main(String[] args) throws Exception {
        Map<String, String> given = new HashMap<>();
        for (int i = 0; i + 1 < args.length; i += 2) {
            given.put(args[i], args[i + 1]);
        }
        String sender = given.getOrDefault("--sender", "example");
        String topic = given.getOrDefault("--topic-prefix", "bongsu.") + "events";
        int count = Integer.parseInt(given.getOrDefault("--count", "1"));
        int start = Integer.parseInt(given.getOrDefault("--start-seq", "1"));
        Schema schema = new Schema.Parser().parse(new File(
                given.getOrDefault("--schema", "../../../../schemas/avsc/notification_event.avsc")));
        // Writes C3 01, the schema's fingerprint and the body: Avro single-object encoding.
        var encoder = new BinaryMessageEncoder<GenericRecord>(GenericData.get(), schema);

        Map<String, Object> settings = Map.of("bootstrap.servers", given.get("--bootstrap"), "acks", "all");
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new ByteArraySerializer())) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int seq = start; seq < start + count; seq++) {
                ByteBuffer value = encoder.encode(event(schema, sender, seq, given.get("--url")));
                byte[] bytes = new byte[value.remaining()];
                value.get(bytes);
                var record = new ProducerRecord<>(topic, sender, bytes);
                record.headers().add("bongsu-client-id", CLIENT.getBytes(UTF_8));
                sent.add(producer.send(record));
            }
            for (var one : sent) {
                one.get();
            }
        }
    }

    /** What is left out takes the default of the schema. */
    static GenericRecord event(Schema schema, String sender, int seq, String url) {
        Schema target = schema.getField("target").schema();
        Schema recipient = target.getField("recipients").schema().getElementType();
        Schema address = recipient.getField("addresses").schema().getElementType();
        var reach = new GenericRecordBuilder(address).set("channel", "webhook").set("address", url).build();
        var user = new GenericRecordBuilder(recipient).set("id", "user-1").set("addresses", List.of(reach)).build();
        return new GenericRecordBuilder(schema)
                .set("id", CLIENT + "-" + seq)
                .set("sender", sender)
                .set("target", new GenericRecordBuilder(target).set("recipients", List.of(user)).build())
                .set("plan", new GenericRecordBuilder(schema.getField("plan").schema())
                        .set("channels", List.of("webhook")).build())
                .set("content", new GenericRecordBuilder(schema.getField("content").schema())
                        .set("title", "Hello").set("data", Map.of("seq", Integer.toString(seq))).build())
                .build();
    }
}
