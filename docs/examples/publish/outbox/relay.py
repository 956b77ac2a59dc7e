#!/usr/bin/env python3
"""Moves rows of the outbox (outbox.sql) to Bongsu, in order, as JSON.

    python relay.py --database postgres://localhost/shop --bootstrap localhost:9092 [--once]

One relay works at a time (an advisory lock; others wait as stand-by): several with SKIP LOCKED would
overtake each other. A row is deleted only after Kafka has its event. A crash in between publishes it
again under the same id, which Bongsu drops as a duplicate for an hour.

Rows go out by number. Two transactions of one sender that run at the same time have no order of
their own; where it matters, let them lock the sender's row first.
"""
import argparse
import json
import time

import psycopg
from confluent_kafka import Producer

CLIENT = "outbox"
LOCK = 0x626F6E67
BATCH = 500


def relay_batch(connection, producer, topic):
    """Publishes the oldest rows and deletes them; says how many there were."""
    with connection.transaction():
        rows = connection.execute(
            "SELECT id, sender, event FROM notification_outbox ORDER BY id LIMIT %s", (BATCH,)).fetchall()
        failures = []
        for number, sender, event in rows:
            event = {**event, "id": f"{CLIENT}-{number}", "sender": sender}
            producer.produce(
                topic, key=sender.encode(), value=json.dumps(event).encode(),
                headers={"bongsu-client-id": CLIENT},
                on_delivery=lambda error, _record: error and failures.append(error))
        producer.flush()
        if failures:
            raise RuntimeError(f"{len(failures)} events failed: {failures[0]}")
        connection.execute("DELETE FROM notification_outbox WHERE id = ANY(%s)", ([row[0] for row in rows],))
    return len(rows)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", required=True)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic-prefix", default="bongsu.")
    parser.add_argument("--once", action="store_true", help="end when the outbox is empty")
    args = parser.parse_args()

    producer = Producer({
        "bootstrap.servers": args.bootstrap,
        "partitioner": "murmur2_random",  # as Java's default: part of the contract
        "enable.idempotence": True,       # keeps the order through retries
        "message.timeout.ms": 0,          # no event is given up, so none overtakes it
        "linger.ms": 5,
    })
    with psycopg.connect(args.database, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
        while True:
            if relay_batch(connection, producer, args.topic_prefix + "events") == 0:
                if args.once:
                    return
                time.sleep(0.2)


if __name__ == "__main__":
    main()
