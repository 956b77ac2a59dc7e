// Publishes notification events to Bongsu in Avro, with KafkaJS and avsc.
//
//     npm install
//     node publish.js --bootstrap localhost:9092 --sender shop-1 --url http://127.0.0.1:7401/hook/1
const fs = require('node:fs');
const path = require('node:path');
const { parseArgs } = require('node:util');
const avro = require('avsc');
const { Kafka, Partitioners, logLevel } = require('kafkajs');

const CLIENT = 'node';

const { values: args } = parseArgs({
  options: {
    bootstrap: { type: 'string' },
    'topic-prefix': { type: 'string', default: 'bongsu.' },
    sender: { type: 'string', default: 'example' },
    count: { type: 'string', default: '1' },
    'start-seq': { type: 'string', default: '1' },
    url: { type: 'string' },
    schema: {
      type: 'string',
      default: path.join(__dirname, '../../../../schemas/avsc/notification_event.avsc'),
    },
  },
});

// CRC-64-AVRO of the schema's canonical form, as Avro's specification defines it.
function fingerprint(text) {
  const EMPTY = 0xc15d213aa4d7a795n;
  const step = (fp) => (fp >> 1n) ^ (fp & 1n ? EMPTY : 0n);
  const table = Array.from({ length: 256 }, (_, i) => {
    let fp = BigInt(i);
    for (let bit = 0; bit < 8; bit++) fp = step(fp);
    return fp;
  });
  let fp = EMPTY;
  for (const byte of Buffer.from(text)) fp = (fp >> 8n) ^ table[Number((fp ^ BigInt(byte)) & 0xffn)];
  return fp;
}

// C3 01 and the fingerprint, little-endian: Avro single-object encoding.
function singleObjectHeader(type) {
  const head = Buffer.from([0xc3, 0x01, 0, 0, 0, 0, 0, 0, 0, 0]);
  head.writeBigUInt64LE(fingerprint(JSON.stringify(type.schema())), 2);
  return head;
}

// What is left out takes the default of the schema.
function event(seq) {
  return {
    id: `${CLIENT}-${seq}`,
    sender: args.sender,
    target: { recipients: [{ id: 'user-1', addresses: [{ channel: 'webhook', address: args.url }] }] },
    plan: { channels: ['webhook'] },
    content: { title: 'Hello', data: { seq: String(seq) } },
  };
}

async function main() {
  const type = avro.Type.forSchema(JSON.parse(fs.readFileSync(args.schema, 'utf8')));
  const head = singleObjectHeader(type);
  const kafka = new Kafka({ clientId: CLIENT, brokers: args.bootstrap.split(','), logLevel: logLevel.ERROR });
  const producer = kafka.producer({
    createPartitioner: Partitioners.JavaCompatiblePartitioner, // part of the contract
    idempotent: true, // keeps the order through retries
    maxInFlightRequests: 1,
  });
  await producer.connect();
  const first = Number(args['start-seq']);
  const messages = Array.from({ length: Number(args.count) }, (_, i) => ({
    key: args.sender,
    value: Buffer.concat([head, type.toBuffer(event(first + i))]),
    headers: { 'bongsu-client-id': CLIENT },
  }));
  // An array is sent in its order, and the promise is kept when Kafka has all of it.
  await producer.send({ topic: `${args['topic-prefix']}events`, acks: -1, messages });
  await producer.disconnect();
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
