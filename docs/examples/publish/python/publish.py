#!/usr/bin/env python3
"""Publishes notification events to Bongsu in Avro, with confluent-kafka and fastavro.

    pip install -r requirements.txt
    python publish.py --bootstrap localhost:9092 --sender shop-1 --url http://127.0.0.1:7401/hook/1
"""
import argparse
import io
import json
import sys
from pathlib import Path

import fastavro
from confluent_kafka import Producer
from fastavro.schema import fingerprint, to_parsing_canonical_form

CLIENT = "python"
SCHEMA_FILE = Path(__file__).resolve().parents[4] / "schemas/avsc/notification_event.avsc"


def single_object_header(schema):
    """C3 01 and the CRC-64-AVRO fingerprint of the schema, which fastavro gives little-endian."""
    return b"\xc3\x01" + bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def event(sender, seq, url):
    """What is left out takes the default of the schema."""
    return {
        "id": f"{CLIENT}-{seq}",
        "sender": sender,
        "target": {"recipients": [{"id": "user-1", "addresses": [{"channel": "webhook", "address": url}]}]},
        "plan": {"channels": ["webhook"]},
        "content": {"title": "Hello", "data": {"seq": str(seq)}},
    }


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic-prefix", default="bongsu.")
    parser.add_argument("--sender", default="example")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--start-seq", type=int, default=1)
    parser.add_argument("--url", required=True, help="address of the webhook to be called")
    args = parser.parse_args()

    raw = json.loads(SCHEMA_FILE.read_text())
    schema, head = fastavro.parse_schema(raw), single_object_header(raw)
    failures = []
    producer = Producer({
        "bootstrap.servers": args.bootstrap,
        "partitioner": "murmur2_random",  # as Java's default: part of the contract
        "enable.idempotence": True,       # keeps the order through retries
    })
    for seq in range(args.start_seq, args.start_seq + args.count):
        body = io.BytesIO()
        fastavro.schemaless_writer(body, schema, event(args.sender, seq, args.url))
        producer.produce(
            args.topic_prefix + "events",
            key=args.sender.encode(),
            value=head + body.getvalue(),
            headers={"bongsu-client-id": CLIENT},
            on_delivery=lambda error, _record: error and failures.append(error),
        )
        producer.poll(0)
    left = producer.flush(30)
    if failures or left:
        sys.exit(f"{left} not sent, {len(failures)} failed: {failures[:1]}")


if __name__ == "__main__":
    main()
