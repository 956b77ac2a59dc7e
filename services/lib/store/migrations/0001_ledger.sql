-- Valid on SQLite and on PostgreSQL. Times are milliseconds since the epoch, flags 0 or 1.

-- The ledger's own positions, moved in the transaction that writes what was read.
CREATE TABLE ledger_offsets (
    topic            TEXT   NOT NULL,
    partition_number BIGINT NOT NULL,
    next_offset      BIGINT NOT NULL,
    PRIMARY KEY (topic, partition_number)
);

-- One row per delivery. `settled_*` is the standing outcome receipt, `reported_*` the standing
-- report; what a reader sees is made of both. `revision` is the guard of optimistic writes.
CREATE TABLE deliveries (
    delivery_id        TEXT     NOT NULL PRIMARY KEY,
    revision           BIGINT   NOT NULL,
    sender             TEXT     NOT NULL,
    event_id           TEXT     NOT NULL,
    class              TEXT     NOT NULL,
    purpose            TEXT     NOT NULL,
    category           TEXT,
    channel            TEXT,
    account            TEXT,
    recipient          TEXT,
    address_id         TEXT,
    platform           TEXT,
    app                TEXT,
    step               BIGINT   NOT NULL,
    origin             TEXT     NOT NULL,
    campaign_id        TEXT,
    schedule_id        TEXT,
    replay_id          TEXT,
    content_hash       TEXT     NOT NULL,
    accepted_at        BIGINT,
    expires_at         BIGINT,
    source_topic       TEXT,
    source_partition   BIGINT,
    source_offset      BIGINT,
    listed_at          BIGINT   NOT NULL,
    settled            TEXT,
    settled_reason     TEXT,
    settled_detail     TEXT,
    settled_at         BIGINT,
    reported           TEXT,
    reported_reason    TEXT,
    reported_detail    TEXT,
    reported_at        BIGINT,
    attempts           BIGINT   NOT NULL,
    possible_duplicate SMALLINT NOT NULL,
    provider_reference TEXT,
    worker_id          TEXT,
    counted_minute     BIGINT
);

CREATE INDEX deliveries_by_event ON deliveries (event_id, sender, delivery_id);
CREATE INDEX deliveries_by_recipient ON deliveries (recipient, listed_at, delivery_id);

-- Attempts and reports. The outcome's entry is in the delivery's own row, so that the common
-- delivery (one outcome, nothing else) costs one row.
CREATE TABLE timeline (
    receipt_id         TEXT   NOT NULL PRIMARY KEY,
    delivery_id        TEXT   NOT NULL,
    kind               TEXT   NOT NULL,
    word               TEXT   NOT NULL,
    reason             TEXT   NOT NULL,
    detail             TEXT,
    attempts           BIGINT NOT NULL,
    at                 BIGINT NOT NULL,
    provider_reference TEXT,
    worker_id          TEXT
);

CREATE INDEX timeline_by_delivery ON timeline (delivery_id, at, receipt_id);

-- Refusals of whole events, or of one recipient of an event.
CREATE TABLE event_receipts (
    receipt_id       TEXT   NOT NULL PRIMARY KEY,
    sender           TEXT   NOT NULL,
    event_id         TEXT   NOT NULL,
    class            TEXT   NOT NULL,
    recipient        TEXT,
    outcome          TEXT   NOT NULL,
    reason           TEXT   NOT NULL,
    detail           TEXT,
    at               BIGINT NOT NULL,
    campaign_id      TEXT,
    source_topic     TEXT,
    source_partition BIGINT,
    source_offset    BIGINT
);

CREATE INDEX event_receipts_by_event ON event_receipts (event_id, sender, receipt_id);

-- Deliveries per minute in which they were first settled. The sum over everything is the number of
-- deliveries that have an outcome, always. What is not known is the empty text.
CREATE TABLE delivery_counts (
    minute     BIGINT NOT NULL,
    channel    TEXT   NOT NULL,
    class      TEXT   NOT NULL,
    platform   TEXT   NOT NULL,
    app        TEXT   NOT NULL,
    outcome    TEXT   NOT NULL,
    deliveries BIGINT NOT NULL,
    PRIMARY KEY (minute, channel, class, platform, app, outcome)
);
